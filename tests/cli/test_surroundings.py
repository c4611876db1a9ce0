"""Commands where the system refuses something: standard streams, memory, threads, open files, the clock."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ostcal.cli.surroundings import refusal
from support import night as n
from support.night import Night

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and the limits of Linux")

FULL = "standard output cannot be written (No space left on device)"


def shell(folder: Path, line: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``ostcal`` stands for the command."""
    words = shlex.join(n.command_line(*command))
    done = subprocess.run(
        ["bash", "-c", line.replace("ostcal", words)],
        cwd=folder, env=n.command_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.fixture
def darks(tmp_path: Path) -> Night:
    n.write_frames(tmp_path / "darks", n.dark_frames(5.0, 3), "Dark", 5.0)
    return Night(tmp_path)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("ostcal >/dev/full", 1),
        ("ostcal >&-", 0),
        ("ostcal 2>&-", 0),
        ("ostcal 2>/dev/full", 0),
        ("ostcal <&- >&- 2>&-", 0),
        ("ostcal >/dev/full 2>&1", 1),
        ("set -o pipefail; ostcal | true", 0),
        ("set -o pipefail; ostcal 2>&1 | true", 0),
    ],
)
@pytest.mark.parametrize("command", ["--help", "config show"])
def test_a_stream_that_fails_ends_in_an_exit_code(tmp_path: Path, line: str, code: int, command: str) -> None:
    done = shell(tmp_path, line, *command.split())
    assert done.returncode == code
    assert done.stderr.count("\n") == (FULL in done.stderr) == (line == "ostcal >/dev/full")


@pytest.mark.parametrize(("line", "code"), [("ostcal >/dev/full", 1), ("ostcal <&- >&- 2>&-", 0)])
def test_masters_are_made_though_nothing_can_be_shown(darks: Night, line: str, code: int) -> None:
    done = shell(darks.root, line, "masters", "darks", "--json")
    assert done.returncode == code
    (master,) = (darks.root / "master_frames").glob("*.fits")
    assert master.read_bytes().startswith(b"SIMPLE  =")
    assert (FULL in done.stderr) == bool(code)


def test_a_file_is_never_opened_in_the_place_of_a_closed_stream(darks: Night) -> None:
    """It would be filled with what is meant for the screen."""
    shell(darks.root, "ostcal >&- 2>&-", "masters", "darks", "--log-level", "debug")
    for path in (darks.root / "master_frames").glob("*.log"):
        assert all(line[:2] == "20" for line in path.read_text().splitlines() if not line.startswith(" "))


def test_names_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "nächte").mkdir()
    done = shell(tmp_path, "PYTHONIOENCODING=ascii ostcal", "masters", "nächte")
    assert done.returncode == 1
    assert r"n\xe4chte" in done.stderr


def test_too_little_address_space_is_one_line(tmp_path: Path) -> None:
    done = shell(tmp_path, "ulimit -v 200000; ostcal", "library", "--masters", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("allow more than 205 MB of address space (ulimit -v 3000000)")


def test_what_the_system_refuses_is_told_from_faults() -> None:
    assert refusal(RuntimeError("a fault")) is None
    assert refusal(ImportError("a fault")) is None
    assert refusal(OSError("a fault")) is None
    assert "ulimit -u" in str(refusal(RuntimeError("can't start new thread")))
    assert refusal(OSError(24, "Too many open files", "a")) == (
        "a: Too many open files; raise the limit of open files (ulimit -n 1024)"
    )
    assert refusal(PermissionError(13, "Permission denied", b"a")) == "a: Permission denied"
    assert str(refusal(MemoryError())).startswith("memory ran out (MemoryError); set compute.memory_limit lower")


def test_a_clock_that_python_cannot_read_is_one_line(tmp_path: Path) -> None:
    """As with a counter of seconds that lies beyond 2262; the clock of a test is set through `time`."""
    code = (
        "import time, sys\n"
        "def broken(): raise OverflowError('timestamp too large to convert to C _PyTime_t')\n"
        "import ostcal.cli\n"
        "time.time = broken\n"
        "sys.argv = ['ostcal', 'library']\n"
        "ostcal.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=n.command_environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the clock of this computer is not set: it shows a year after 2262")
    assert done.stderr.count("\n") == 1


def test_a_document_is_whole_where_lines_cannot_be_shown(darks: Night) -> None:
    done = shell(darks.root, "ostcal 2>/dev/full", "library", "--json", "--masters", "nowhere")
    assert json.loads(done.stdout)["exit_code"] == done.returncode != 0
