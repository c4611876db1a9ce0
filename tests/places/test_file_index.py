"""The index of headers: each file is read once, a changed one again, and damage of the index costs time only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ostcal.places.file_index import FileIndex


@dataclass(frozen=True, kw_only=True)
class Note:
    text: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class OtherNote:
    text: str
    value: float | None = None
    added: int = 0


class Reader:
    """Reads the text of files and counts how often."""

    def __init__(self, index: Path, *, rules: str = "1") -> None:
        self.index = FileIndex(str(index), Note, rules)

    def read(self, path: Path, *, keep: bool = True) -> str:
        return self.index.get(str(path), lambda: (Note(text=path.read_text()), keep)).text

    @property
    def count(self) -> int:
        return self.index.n_read


def aged(path: Path, text: str, age_s: float = 100.0) -> Path:
    path.write_text(text)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as settled at once: the time of a change of a file cannot be set back."""
    monkeypatch.setattr("ostcal.places.file_index.SETTLED_NS", 0)


@pytest.fixture
def place(tmp_path: Path, settled: None) -> Path:
    """A directory with three files and their index."""
    reader = Reader(tmp_path / "index")
    for name in "abc":
        reader.read(aged(tmp_path / name, f"text of {name}"))
    reader.index.save()
    return tmp_path


def test_each_file_is_read_once(place: Path) -> None:
    reader = Reader(place / "index")
    assert [reader.read(place / name) for name in "abc"] == ["text of a", "text of b", "text of c"]
    assert reader.count == 0


@pytest.mark.parametrize("age_s", [100.0, 50.0, -1000.0])
def test_a_changed_file_is_read_again_whatever_its_time(place: Path, age_s: float) -> None:
    """The new text is as long as the old one; with 100 s even the time of the change of its contents is set back."""
    before = (place / "b").stat()
    aged(place / "b", "TEXT OF B", age_s)
    if age_s == 100.0:
        os.utime(place / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    reader = Reader(place / "index")
    assert [reader.read(place / name) for name in "abc"] == ["text of a", "TEXT OF B", "text of c"]
    assert reader.count == 1


def test_a_file_that_changed_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    for _ in range(2):
        reader = Reader(tmp_path / "index")
        (tmp_path / "new").write_text("half a file")
        assert reader.read(tmp_path / "new") == "half a file"
        assert reader.count == 1
        reader.index.save()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"text of b", b"text of x"),
        lambda data: data[:-30] + b"\x00" * 30,
        lambda data: b"\xff" * 1000,
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"format":"ostcal-index-2"', b'"format":"another"'),
        lambda data: _first_format(data),
        lambda data: _with_sum(data[: data.rindex(b"\n")]),
        lambda data: _with_sum(data.replace(b'"sizes":[', b'"sizes":[1,')),
    ],
    ids=[
        "empty",
        "half",
        "another word",
        "zeros",
        "noise",
        "nested",
        "another format",
        "first format",
        "short",
        "long",
    ],
)
def test_a_damaged_index_is_written_again(place: Path, damage: object) -> None:
    index = place / "index"
    whole = index.read_bytes()
    index.write_bytes(damage(whole))  # type: ignore[operator]
    reader = Reader(index)
    assert [reader.read(place / name) for name in "abc"] == ["text of a", "text of b", "text of c"]
    assert reader.count == 3
    reader.index.save()
    assert index.read_bytes() == whole


def _with_sum(data: bytes) -> bytes:
    """Return an index whose check sum is right, whatever else is wrong."""
    head, _, body = data.partition(b"\n")
    return json.dumps(json.loads(head) | {"crc32": zlib.crc32(body)}).encode() + b"\n" + body


def _first_format(data: bytes) -> bytes:
    """Return what earlier versions wrote: a line for each file, its state and what was read."""
    head, files, *lines = data.split(b"\n")
    known = json.loads(files)
    states = zip(known["names"], known["sizes"], known["changed_ns"], known["moved_ns"], strict=True)
    body = b"".join(
        json.dumps(state).encode() + b"\t" + line + b"\n" for state, line in zip(states, lines, strict=True)
    )
    first = json.loads(head) | {"format": "ostcal-index", "crc32": zlib.crc32(body)}
    return json.dumps(first).encode() + b"\n" + body


def test_a_name_that_is_no_text_is_remembered(place: Path) -> None:
    """Linux allows any bytes in names of files."""
    strange = Path(os.fsdecode(os.fsencode(place) + b"/m31_\xff.fits"))
    aged(strange, "text of it")
    for count in (1, 0):
        reader = Reader(place / "index")
        assert [reader.read(strange), reader.read(place / "a")] == ["text of it", "text of a"]
        assert reader.count == count
        reader.index.save()


def test_other_rules_and_another_form_do_not_count(place: Path) -> None:
    reader = Reader(place / "index", rules="2")
    assert reader.read(place / "a") == "text of a"
    assert reader.count == 1
    other = FileIndex(str(place / "index"), OtherNote, "1")
    assert other.get(str(place / "a"), lambda: (OtherNote(text="other"), True)).text == "other"


def test_what_may_not_be_remembered_is_not(place: Path) -> None:
    aged(place / "d", "beside a file of settings")
    reader = Reader(place / "index")
    reader.read(place / "d", keep=False)
    reader.index.save()
    again = Reader(place / "index")
    again.read(place / "d")
    assert again.count == 1


def test_numbers_that_are_not_finite_and_errors_are_not_remembered(place: Path) -> None:
    index = FileIndex(str(place / "index"), Note, "1")
    for name in "de":
        aged(place / name, name)
    assert index.get(str(place / "d"), lambda: (Note(text="d", value=float("nan")), True)).text == "d"

    def unreadable() -> tuple[Note, bool]:
        raise ValueError("cannot be read")

    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be read"):
            index.get(str(place / "e"), unreadable)
    index.save()
    assert Reader(place / "index").read(place / "a") == "text of a"


def test_entries_of_other_runs_stay(place: Path) -> None:
    aged(place / "d", "text of d")
    reader = Reader(place / "index")
    reader.read(place / "d")
    reader.index.save()
    again = Reader(place / "index")
    assert [again.read(place / name) for name in "abcd"] == [f"text of {name}" for name in "abcd"]
    assert again.count == 0


def test_a_place_that_cannot_be_written_has_no_index(place: Path) -> None:
    reader = Reader(place / "missing" / "index")
    assert reader.read(place / "a") == "text of a"
    reader.index.save()
    assert not (place / "missing").exists()


def test_many_at_once_leave_a_whole_index(place: Path) -> None:
    for number in range(40):
        aged(place / f"f{number}", f"text {number}")

    def run(first: int) -> list[str]:
        reader = Reader(place / "index")
        texts = [reader.read(place / f"f{number}") for number in range(first, 40)]
        reader.index.save()
        return texts

    with ThreadPoolExecutor(8) as pool:
        for first, texts in enumerate(pool.map(run, range(16))):
            assert texts == [f"text {number}" for number in range(first, 40)]
    reader = Reader(place / "index")
    assert reader.read(place / "f39") == "text 39"
    assert reader.count == 0
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("index")) == ["index"]


_PROCESS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import ostcal.places.file_index as file_index
from test_file_index import Note, Reader
file_index.SETTLED_NS = 0
place, first = Path(sys.argv[1]), int(sys.argv[2])
while not (place / "go").exists():
    time.sleep(0.002)
for _ in range(10):
    reader = Reader(place / "index")
    for number in range(first, first + 12):
        assert reader.read(place / f"f{number}") == f"text {number}"
    reader.index.save()
print("done")
"""


def test_processes_at_once_leave_a_whole_index(place: Path) -> None:
    for number in range(20):
        aged(place / f"f{number}", f"text {number}")
    command = [sys.executable, "-c", _PROCESS, str(place)]
    running = [
        subprocess.Popen([*command, str(first), "", str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
        for first in (0, 4, 8)
    ]
    (place / "go").touch()
    assert [process.communicate(timeout=100)[0].strip() for process in running] == ["done"] * 3
    reader = Reader(place / "index")
    assert [reader.read(place / f"f{number}") for number in range(20)] == [f"text {number}" for number in range(20)]
    assert reader.count <= 8  # of the slower processes what was written last
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("index")) == ["index"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of the size of files are those of Unix")
def test_a_disk_that_is_full_keeps_the_index_that_was_there(place: Path) -> None:
    """A process that may not write more than a kilobyte into a file stands for it."""
    for number in range(100):
        aged(place / f"f{number}", f"text {number}" * 10)
    before = (place / "index").read_bytes()
    script = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import ostcal.places.file_index as file_index
from test_file_index import Reader
file_index.SETTLED_NS = 0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
reader = Reader(Path(sys.argv[1]) / "index")
assert all(reader.read(Path(sys.argv[1]) / f"f{number}") == f"text {number}" * 10 for number in range(100))
reader.index.save()
print("done")
"""
    command = [sys.executable, "-c", script, str(place), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.strip(), done.returncode) == ("done", 0), done.stderr
    assert (place / "index").read_bytes() == before
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("index")) == ["index"]
