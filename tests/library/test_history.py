"""The history file: what was added comes back, whatever a killed run left in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import StorageError
from ostcal.library.history import append_history, read_history

values = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
entries = st.lists(st.dictionaries(st.text(), values | st.lists(values), max_size=4), max_size=5)


@given(runs=st.lists(entries, max_size=4))
def test_what_was_added_comes_back_in_its_order(runs: list[list[dict[str, object]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.jsonl"
        for run in runs:
            append_history(path, run)
        assert read_history(path) == [entry for run in runs for entry in run]


@given(cut=st.integers(1, 30))
def test_half_a_line_costs_only_itself(cut: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.jsonl"
        append_history(path, [{"run": 1, "value": 2.5}, {"run": 2, "value": 3.5}])
        path.write_bytes(path.read_bytes()[:-cut])
        append_history(path, [{"run": 3}])
        read = read_history(path)
        assert read[-1] == {"run": 3}
        assert [entry["run"] for entry in read][:-1] in ([1], [1, 2], [])


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "history.jsonl") == []


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"history\.jsonl: the history cannot be written"):
        append_history(tmp_path / "history.jsonl", [{}])
    with pytest.raises(StorageError, match=r"history\.jsonl: the history cannot be read"):
        read_history(tmp_path / "history.jsonl")
