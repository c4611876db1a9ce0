"""Commands that a power cut ends: what they said was made is there afterwards, and they go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ostcal.library.history import history_of
from ostcal.library.integrity import check_fits, check_series, check_stored_master
from ostcal.library.store import MasterStore
from ostcal.series.reader import open_series
from support.disk_calls import recording
from support.fits_samples import read_with_astropy
from support.forking import ForkServer, forking
from support.power_cut import CutDisk

# one process imports and loads the kernels; each run is a fork of it
RUNNER = """
    import json, os, sys, threading
    from click.testing import CliRunner
    import ostcal.cli.capture, ostcal.cli.calibrate, ostcal.cli.import_export, ostcal.cli.masters, ostcal.cli.prune
    import ostcal.cli.report, ostcal.build.api, ostcal.inputs.copy_frames, ostcal.inputs.import_fits, ostcal.library
    import ostcal.library.latest, ostcal.library.prune, ostcal.report.making, ostcal.science.api, ostcal.workflow
    import ostcal.science.calibrate_frame, ostcal.library.verification
    from ostcal.cli import main

    if os.path.exists(sys.argv[1]):
        CliRunner().invoke(main, ["masters", "--config", sys.argv[1], "--no-confirm"])
    print("ready", threading.active_count(), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            screen = os.open(order["screen"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(screen, 1)
            os.dup2(screen, 2)
            os.environ["DISK_LAST_CALL"] = str(order["last_call"])
            main(order["words"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_TIME = re.compile(r"_\d{8}_\d{6}(?=[_.]|$)")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that ended or was killed."""

    code: int
    said: str


class Commands:
    """Runs commands, each of which changes the disk and may be killed at any change."""

    def __init__(self, server: ForkServer, journal: Path, screen: Path) -> None:
        self._server = server
        self._journal = journal
        self._screen = screen

    def run(self, words: Sequence[str], *, last_call: int = 0) -> Ran:
        """Run a command; it is killed at a call that changes the disk, if that has a number."""
        self._journal.unlink(missing_ok=True)
        order = {"words": list(words), "screen": str(self._screen), "last_call": last_call}
        return Ran(code=self._server.ask(json.dumps(order)), said=self._screen.read_text(errors="replace"))

    @property
    def n_calls(self) -> int:
        """How many calls of the last command changed the disk."""
        return self._journal.read_bytes().count(b"\n") if self._journal.exists() else 0


@contextmanager
def commands(disk: CutDisk, scratch: Path, warm_up: Path) -> Iterator[Commands]:
    """Start what runs commands on a disk; first it makes the masters of a configuration, so that kernels are loaded."""
    journal = scratch / "calls.txt"
    environment = recording(disk.root, journal, scratch)
    with forking(RUNNER, str(warm_up), environment=environment) as server:
        yield Commands(server, journal, scratch / "screen.txt")


# ---- what is on a disk ----


def problems_of(root: Path) -> list[str]:
    """Return what is visible below a folder and is not whole."""
    found: list[str] = []
    for path in sorted(root.rglob("*")):
        if path.suffix == ".fits" and path.is_file() and not path.is_symlink():
            found += check_fits(str(path)).findings
        elif path.name == "masters.zarr":
            for name in MasterStore(path).names():
                found += check_stored_master(str(path), name)
        elif path.suffix == ".zarr" and not path.name.startswith("."):
            found += _problems_of_series(path)
        elif path.suffix == ".json" and path.is_file() and ".zarr" not in str(path):
            found += [] if _is_json(path.read_bytes()) else [f"{path}: is no JSON"]
        elif path.suffix == ".html" and path.is_file() and not path.read_text().rstrip().endswith("</html>"):
            found.append(f"{path}: is cut short")
        elif path.is_symlink() and path.name != "defects" and not path.exists():
            found.append(f"{path}: leads nowhere")
    return found


def _problems_of_series(path: Path) -> list[str]:
    series, findings = check_series(str(path))
    if series is not None:
        for record in series.records:
            series.read_frame(record.index)  # compared with its checksum
    return [line for line in findings if "partial" not in line and "never committed" not in line]


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def contents_of(root: Path) -> dict[str, Any]:
    """Return the samples of everything visible below a folder, by its name without a time; ``None`` of other files."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = _TIME.sub("", str(path.relative_to(root)))
        if path.suffix == ".fits" and path.is_file():
            found[name] = read_with_astropy(path)[0]
        elif path.name == "masters.zarr":
            store = MasterStore(path)
            for master in store.names():
                found[f"{name}/{_TIME.sub('', master)}"] = store.open(master).array()
        elif path.suffix == ".zarr":
            series = open_series(path)
            found |= {f"{name}/{record.index}": series.read_frame(record.index) for record in series.records}
            found[f"{name}/excluded"] = np.array(sorted(series.excluded))
        elif path.is_file() and ".zarr" not in name and path.suffix in (".json", ".html", ".jsonl", ".csv"):
            found[name] = None
    return found


def differences(root: Path, reference: dict[str, Any]) -> list[str]:
    """Return what a folder has not, or has too much, or has with other samples."""
    there = contents_of(root)
    lines = [f"{name}: is missing" for name in sorted(reference.keys() - there.keys())]
    lines += [f"{name}: is too much" for name in sorted(there.keys() - reference.keys())]
    for name in sorted(reference.keys() & there.keys()):
        if not _is_same(there[name], reference[name]):
            lines.append(f"{name}: has other samples")
    return lines


def losses(root: Path, before: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Return what was there before, stays at the end and is not there now, and what has other samples than at the end.

    What is changed and what is not there yet are no matter.
    """
    there = contents_of(root)
    staying = {name for name in before.keys() & reference.keys() if _is_same(before[name], reference[name])}
    lines = [f"{name}: is lost" for name in sorted(staying - there.keys())]
    for name in sorted(there.keys() & reference.keys()):
        is_old = name in before and _is_same(there[name], before[name])
        is_begun = name.endswith("/excluded")  # frames are decided on one after the other
        if not is_old and not is_begun and not _is_same(there[name], reference[name]):
            lines.append(f"{name}: has other samples")
    return lines


def _is_same(a: Any, b: Any) -> bool:
    return a is None or b is None or np.array_equal(a, b, equal_nan=True)


def wrong_histories(root: Path) -> list[str]:
    """Return the newest masters that are not once in the history beside their store."""
    found = []
    for store in root.rglob("masters.zarr"):
        entries = history_of(str(store.parent))
        names = [entry.name for entry in entries if not entry.subject.startswith("removed")]
        newest = {_TIME.sub("", name): name for name in MasterStore(store).names()}
        found += [f"{name}: is {names.count(name)} times in the history" for name in newest.values()]
    return [line for line in found if " 1 times " not in line]


def locks_below(root: Path) -> list[str]:
    """Return the locks that are left."""
    return sorted(f"{path.relative_to(root)}: is left" for path in root.rglob("*") if ".lock" in path.name)


# ---- trials ----


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A command to be cut."""

    words: Sequence[str]
    again: Sequence[str]
    """The command that goes on."""
    made: Callable[[str], Iterable[str]] | None
    """Returns what is made by what the command said so far, as `contents_of` names it.

    ``None`` where it says that at its end alone.
    """
    has_samples: bool
    """Whether its samples are the same in each run; those of a camera are not."""


class Trial:
    """A command on a disk that is brought to one state before each run."""

    def __init__(self, disk: CutDisk, commands: Commands, cut: Cut, state: Path) -> None:
        self._disk = disk
        self._commands = commands
        self._cut = cut
        self._state = state
        shutil.copytree(disk.root, state, symlinks=True, ignore=shutil.ignore_patterns("lost+found"))
        self._before = contents_of(disk.root)
        ran = commands.run(cut.words)
        assert ran.code == 0, ran.said
        self.n_calls = commands.n_calls
        """How many calls that change the disk the command takes."""
        self._reference = self._contents()
        if cut.made is not None:
            assert set() < set(cut.made(ran.said)) <= self._reference.keys()

    def problems_of_cut(self, call: int, *, journal_is_written: bool) -> list[str]:
        """Cut the power at a call, or at the end where there are not so many; start again, and go on.

        Return what was said to be made and is not there, what is there and not whole, and what is not as it should be
        when the command has gone on.
        """
        root = self._disk.root
        self._restore()
        ran = self._commands.run(self._cut.words, last_call=call)
        self._disk.cut(journal_is_written=journal_is_written)
        if ran.code not in (0, -signal.SIGKILL):
            return [f"ended with {ran.code}: {ran.said}"]
        found = problems_of(root) + losses(root, self._before, self._reference)
        made = set(self._cut.made(ran.said)) if self._cut.made is not None else set()
        found += [f"{name}: was made, and is lost" for name in sorted(made - self._contents().keys())]
        found += differences(root, self._reference) if ran.code == 0 else []
        found = [f"after the cut: {line}" for line in found]
        _age_locks(root)
        again = self._commands.run(self._cut.again)
        if again.code != 0 or "Traceback" in again.said:
            found.append(f"again: {again.code}: {again.said}")
        at_end = problems_of(root) + differences(root, self._reference) + locks_below(root) + wrong_histories(root)
        return found + [f"at the end: {line}" for line in at_end]

    def _contents(self) -> dict[str, Any]:
        found = contents_of(self._disk.root)
        return found if self._cut.has_samples else dict.fromkeys(found)

    def _restore(self) -> None:
        """Bring the disk to the state; all of it is on the disk."""
        clear(self._disk.root)
        shutil.copytree(self._state, self._disk.root, symlinks=True, dirs_exist_ok=True)
        self._disk.sync()


def clear(root: Path) -> None:
    """Delete all that is on a disk."""
    for path in root.iterdir():
        if path.name != "lost+found":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _age_locks(root: Path) -> None:
    """Let two minutes pass for locks that were cut before they were written: nothing says whose they are."""
    for path in root.rglob("*.lock*"):
        if path.stat().st_size == 0:
            os.utime(path, (time.time() - 121,) * 2)
