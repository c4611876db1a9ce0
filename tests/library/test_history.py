"""The history of masters: what was added comes back, whatever a killed run left in it."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import StorageError
from ostcal.library.history import HISTORY_NAME, HistoryEntry, add_to_history, history_of
from ostcal.measure.findings import Outcome

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
entries = st.builds(
    HistoryEntry,
    made_at=st.datetimes(timezones=st.just(UTC)),
    name=st.text(),
    subject=st.text(),
    verdict=st.sampled_from(Outcome),
    metrics=st.dictionaries(st.text(), st.tuples(numbers, st.text()), max_size=4),
)


def entry(name: str) -> HistoryEntry:
    """Return the entry of a master."""
    return HistoryEntry(
        made_at=datetime(2026, 11, 21, 8, 42, tzinfo=UTC),
        name=name,
        subject="dark 5 s, gain 100, 64 x 48",
        verdict=Outcome.PASS,
        metrics={"median": (1000.5, "ADU"), "gain": (None, "e-/ADU")},
    )


@given(runs=st.lists(st.lists(entries, max_size=5), max_size=4))
def test_what_was_added_comes_back_in_its_order(runs: list[list[HistoryEntry]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for run in runs:
            add_to_history(directory, run)
        assert history_of(directory) == [entry for run in runs for entry in run]


def test_stored_lines_are_read_and_others_are_skipped(tmp_path: Path) -> None:
    stored = (
        b'{"made_at":"2026-11-21T08:42:00+00:00","name":"a","subject":"dark 5 s, gain 100, 64 x 48","verdict":"pass",'
        b'"metrics":{"median":[1000.5,"ADU"],"gain":[null,"e-/ADU"]}}\n'
    )
    others = b'{"made_at":"yesterday"}\n[]\nnull\n{"name":NaN}\n\n{"made_at"'
    (tmp_path / HISTORY_NAME).write_bytes(others + b"\n" + stored + others)
    assert history_of(str(tmp_path)) == [entry("a")]
    add_to_history(str(tmp_path), [entry("b")])
    assert history_of(str(tmp_path)) == [entry("a"), entry("b")]


@given(cut=st.integers(1, 30))
def test_half_a_line_costs_only_itself(cut: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        add_to_history(directory, [entry("a"), entry("b")])
        path = Path(directory, HISTORY_NAME)
        path.write_bytes(path.read_bytes()[:-cut])
        add_to_history(directory, [entry("c")])
        names = [found.name for found in history_of(directory)]
        assert names == (["a", "b", "c"] if cut == 1 else ["a", "c"])


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert history_of(str(tmp_path)) == []


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    (tmp_path / HISTORY_NAME).mkdir()
    with pytest.raises(StorageError, match=r"history\.jsonl: the history cannot be written"):
        add_to_history(str(tmp_path), [entry("a")])
    with pytest.raises(StorageError, match=r"history\.jsonl: the history cannot be read"):
        history_of(str(tmp_path))
