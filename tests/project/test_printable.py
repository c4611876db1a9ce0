"""Nothing that others write commands a terminal: escape sequences, C1, line ends and bidi marks are shown escaped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.printable import printable
from support.night import Night, ostcal, write_bias, write_darks

HOSTILE = "x\x1b[2J\x9b31m\n\r\u202e\u2028\x07y"
ESCAPED = r"x\x1b[2J\x9b31m\n\r\u202e\u2028\x07y"
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
"""What no line that is shown may hold."""


def test_a_hostile_text_is_shown_escaped() -> None:
    assert printable(HOSTILE) == ESCAPED


@given(st.text())
def test_what_is_shown_is_printable_and_what_is_printable_is_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not COMMANDS.search(shown)
    assert (shown == text) == text.isprintable()


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of frames with hostile names and headers."""
    monkeypatch.chdir(tmp_path)
    frames = Night(tmp_path / "frames")
    write_bias(frames)
    write_darks(frames, 8.0)
    for path in list(frames.darks.rglob("dark_*.fits")):
        data = path.read_bytes()
        assert b"'Synthetic'" in data
        path.write_bytes(data.replace(b"'Synthetic'", b"'Sy\x1b[2J\x9bt'"))
    bias = min(frames.root.rglob("bias_*.fits"))
    bias.rename(bias.with_name(f"{HOSTILE}.fits"))
    (frames.root / f"foreign{HOSTILE}.fits").write_bytes(b"no FITS file")
    return tmp_path


def test_names_and_headers_reach_terminal_log_and_report_escaped(night: Path) -> None:
    outcomes = [
        ostcal("frames"),
        ostcal("masters", "frames", "--out", "masters", "--debug"),  # with tracebacks
        ostcal("verify", "frames", "masters"),
    ]
    (log,) = (night / "masters").glob("*.log")
    (report,) = (night / "masters").glob("report_*.html")
    shown = [text for outcome in outcomes for text in (outcome.stdout, outcome.stderr)]
    shown += [path.read_bytes().decode("utf-8") for path in (log, report)]
    for text in shown:
        assert COMMANDS.search(text) is None, text[COMMANDS.search(text).start() - 40 :][:80]
    assert f"foreign{ESCAPED}.fits" in outcomes[1].stderr
    assert f"foreign{ESCAPED}.fits" in log.read_text("utf-8")


def test_json_has_the_exact_text(night: Path) -> None:
    outcome = ostcal("masters", "frames", "--out", "masters", "--json")
    assert not COMMANDS.search(outcome.stdout)
    document = json.loads(outcome.stdout)
    assert any(f"foreign{HOSTILE}.fits" in warning for warning in document["warnings"])
    inputs = [path for master in document["masters"] for path in master.get("inputs", ())]
    assert not inputs or any(HOSTILE in path for path in inputs)
