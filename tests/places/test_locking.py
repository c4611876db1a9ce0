"""One run at a time: who gets a lock, who is told what, and what dead owners leave behind. With real processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostcal.build.from_config import request_of
from ostcal.build.request import BuildRequest
from ostcal.build.run import build_masters
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import CaptureWatcher, SeriesEnd, SeriesOutcome, SeriesPlan, SeriesSink
from ostcal.config import load_config
from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.places.locking import PROCESS_MARK, LockRules, locked
from ostcal.series.reader import open_series
from support import night as n
from support.amounts import amount
from support.direct_camera import DirectCamera, FakeClock, small_sensor
from support.night import Night

RACES = amount(50)
posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and process numbers of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when a process was started")

# Takes the lock that a line of its input names, at a given time, and holds it until the next line.
OWNER = """
    import sys, time
    from pathlib import Path
    from ostcal.errors import StorageError
    from ostcal.places.locking import LockRules, locked

    rules = LockRules(heartbeat_s=float(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        path, at_s = line.split()
        while time.time() < float(at_s):
            pass
        try:
            with locked(Path(path), rules, what="here"):
                print("won", flush=True)
                sys.stdin.readline()
            print("released", flush=True)
        except StorageError as error:
            print(error, flush=True)
"""


class Owner:
    """A process that takes locks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, path: Path, at_s: float = 0.0) -> None:
        self._write(f"{path} {at_s}")

    def take(self, path: Path) -> None:
        self.ask(path)
        assert self.line() == "won"

    def release(self) -> None:
        self._write("release")
        assert self.line() == "released"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextmanager
def owner(heartbeat_s: float = 10.0) -> Iterator[Owner]:
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(heartbeat_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=n.command_environment()
    ) as process:
        starter = Owner(process)
        try:
            assert starter.line() == "ready"
            yield starter
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / ".ostcal.lock"


@pytest.fixture(autouse=True)
def place(path: Path) -> None:
    path.parent.mkdir()


def take(path: Path, **rules: float) -> None:
    with locked(path, LockRules(**rules), what=str(path.parent)):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


def lock_of(path: Path, *, age_s: float = 0.0, **changes: Any) -> str:
    """Write a lock as this process has them, with changes; gives its text."""
    with locked(path, what="here"):
        text = json.dumps({**json.loads(path.read_text()), **changes})
    path.write_text(text)
    os.utime(path, (time.time() - age_s,) * 2)
    return text


# ---- who gets it ----


def test_a_lock_is_there_while_it_is_held_and_says_who_holds_it(path: Path) -> None:
    with locked(path, what="here"):
        values = json.loads(path.read_text())
        assert list(path.parent.iterdir()) == [path]
    assert list(path.parent.iterdir()) == []
    assert (values["pid"], values["process"]) == (os.getpid(), PROCESS_MARK)
    program = Path(sys.argv[0])  # of `python -m pytest` it is the package's __main__.py
    assert (program.parent.name if program.name == "__main__.py" else program.name) in values["command"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", values["since"])


def test_a_lock_is_released_when_the_work_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(path, what="here"):
        raise ZeroDivisionError
    take(path)


def test_the_second_is_told_who_the_first_is_and_what_to_do(path: Path) -> None:
    with owner() as first:
        first.take(path)
        with pytest.raises(StorageError) as caught, locked(path, what="masters", advice="choose another one"):
            raise AssertionError("two have it")
        first.release()
    assert re.fullmatch(
        rf"masters: another run is writing there: `-c 10.0` \(process {first.process.pid} on \S+, since \d.* UTC\), "
        rf"last sign of life \d+ s ago; wait until it has ended, or choose another one; "
        rf"if it is gone, delete {re.escape(str(path))}",
        str(caught.value),
    )
    take(path)


def test_two_threads_of_one_program_exclude_each_other_too(path: Path) -> None:
    with locked(path, what="here"), pytest.raises(StorageError, match=f"process {os.getpid()} on"):
        take(path)


def race(path: Path, starters: list[Owner]) -> None:
    """Let all begin within microseconds; exactly one wins, and the others name it."""
    at_s = time.time() + 0.01
    for starter in starters:
        starter.ask(path, at_s)
    answers = [starter.line() for starter in starters]
    assert answers.count("won") == 1, answers
    winner = starters[answers.index("won")]
    for answer in answers:
        assert answer == "won" or "another run is writing there" in answer
    assert json.loads(path.read_text())["pid"] == winner.process.pid
    winner.release()
    assert list(path.parent.iterdir()) == []


def test_of_two_that_start_at_once_exactly_one_wins(path: Path) -> None:
    with owner() as one, owner() as two:
        for _ in range(RACES):
            race(path, [one, two])


@posix
@pytest.mark.parametrize("guarded", [False, True])
def test_of_three_that_find_a_lock_left_behind_exactly_one_wins(path: Path, *, guarded: bool) -> None:
    """Also where a run was killed while it removed that lock."""
    with owner() as dead:
        dead.take(path)
        left = json.loads(path.read_text())
        dead.kill()
    with ExitStack() as stack:
        starters = [stack.enter_context(owner()) for _ in range(3)]
        for number in range(RACES):
            path.write_text(json.dumps({**left, "token": f"{number:032x}"}))
            if guarded:
                path.with_name(f"{path.name}.{number:032x}").write_text(json.dumps({**left, "token": "f" * 32}))
            race(path, starters)


def test_waiting_gets_it_when_the_first_ends(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with owner() as first:
        first.take(path)
        with pytest.raises(StorageError, match="another run is writing there"):
            take(path, wait_s=0.2, poll_s=0.05)
        assert "waiting up to 0 s for it" in caplog.text
        first.ask(path)  # any line ends its turn
        take(path, wait_s=20, poll_s=0.05)


# ---- what dead owners leave ----


@posix
def test_the_lock_of_a_killed_owner_is_taken_over_at_once(path: Path) -> None:
    with owner() as first:
        first.take(path)
        first.kill()
        assert path.exists()
        take(path)


@linux
def test_the_lock_of_a_killed_owner_whose_parent_has_not_noticed_is_taken_over(path: Path) -> None:
    with owner() as first:
        first.take(path)
        first.process.kill()
        os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
        take(path)


@linux
def test_a_process_that_has_the_number_of_a_dead_owner_is_not_taken_for_it(path: Path) -> None:
    lock_of(path, pid=os.getppid(), process="0" * 32, started="1")
    take(path)


def test_an_earlier_process_with_our_own_number_is_dead(path: Path) -> None:
    lock_of(path, process="0" * 32)  # as in containers, where every run is process 1
    take(path)


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"machine": "another start, or another container"}])
def test_a_lock_of_another_machine_counts_by_its_age(path: Path, changes: dict[str, str]) -> None:
    text = lock_of(path, age_s=15, pid=4_000_000, **changes)
    with pytest.raises(StorageError, match=r"last sign of life 1[56] s ago") as caught:
        take(path)
    if "host" in changes:
        assert "(after 120 s without a sign of life it counts as gone)" in str(caught.value)
    assert path.read_text() == text
    lock_of(path.with_name("other"), age_s=0)
    path.with_name("other").unlink()
    os.utime(path, (time.time() - 121,) * 2)
    take(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 100_000])
def test_a_lock_without_an_owner_counts_by_its_age(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageError, match="a run that did not leave its name"):
        take(path)
    os.utime(path, (time.time() - 121,) * 2)
    take(path)


@linux
@pytest.mark.parametrize("content", [None, ""], ids=["an earlier start", "nobody"])
def test_a_lock_that_was_not_touched_since_the_computer_started_is_of_before(path: Path, content: str | None) -> None:
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    lock_of(path, machine=f"{'0' * 36} pid:[1]", pid=os.getppid())
    if content is not None:
        path.write_text(content)
    for since_start_s in (20, -20):
        touched_s = time.time() - up_s + since_start_s
        os.utime(path, (touched_s, touched_s))
        if since_start_s > 0:
            with pytest.raises(StorageError, match="another run is writing there"):
                take(path, abandoned_after_s=1e9)
    take(path, abandoned_after_s=1e9)


@linux
@pytest.mark.parametrize("changes", [{"host": "elsewhere", "machine": "x"}, {"machine": "{start} pid:[1]"}])
def test_the_start_of_this_computer_says_nothing_of_others_and_of_containers(
    path: Path, changes: dict[str, str]
) -> None:
    start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    lock_of(path, age_s=up_s + 1000, pid=os.getppid(), **{k: v.format(start=start) for k, v in changes.items()})
    with pytest.raises(StorageError, match="another run is writing there"):
        take(path, abandoned_after_s=1e9)


def test_a_lock_from_a_stranger_cannot_lead_elsewhere(path: Path) -> None:
    lock_of(path, token="/../../stolen", age_s=121, host="x", command="\x1b[2J\n")
    take(path)
    lock_of(path, host="x", command="rm\x1b[2J\n")
    with pytest.raises(StorageError, match=r"`rm\?\[2J\?`"):
        take(path)


def test_an_owner_shows_that_it_lives(path: Path) -> None:
    with locked(path, LockRules(heartbeat_s=0.05), what="here"):
        os.utime(path, (time.time() - 1000,) * 2)
        deadline = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 100:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_an_owner_that_lost_its_lock_says_so_and_leaves_the_other_s_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(path, LockRules(heartbeat_s=0.05), what="here"):
        path.unlink()
        other = lock_of(path, host="elsewhere", command="another")
        deadline = time.monotonic() + 10
        while "two runs may write here now" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "taken over by `another` (process" in caplog.text
    assert path.read_text() == other


def test_a_directory_that_cannot_be_written_is_named(path: Path) -> None:
    with pytest.raises(StorageError, match="the lock that keeps other runs away cannot be written"):
        take(path.parent / "absent" / "lock")


# ---- masters ----

# Makes masters, and stops for a line of its input when the work is planned.
MASTERS = """
    import sys
    from ostcal import MasterFrameCreator
    from ostcal.build.request import Watcher

    def planned(groups, n_bytes):
        print("planned", flush=True)
        return bool(sys.stdin.readline())

    status = MasterFrameCreator(sys.argv[1], watcher=Watcher(planned=planned)).create_all_master_frames()
    print(len(status.data["dark"]), flush=True)
"""


@contextmanager
def making(night: Night) -> Iterator[Owner]:
    command = [sys.executable, "-c", textwrap.dedent(MASTERS), str(n.write_config(night))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=n.command_environment(),
    ) as process:  # fmt: skip
        maker = Owner(process)
        try:
            assert maker.line() == "planned"
            yield maker
        finally:
            process.kill()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    return night


def request(night: Night, **changes: Any) -> BuildRequest:
    return replace(request_of(load_config(night.config()), bias=False, darks=True, flats=False), **changes)


def test_a_second_run_of_masters_stops_and_leaves_what_the_first_writes(night: Night) -> None:
    """It swept the FITS file that the first was writing."""
    with making(night) as first:
        half = night.masters / "master_dark_5.000s_20260101_000000.fits.partial"
        half.write_bytes(b"half")
        outcome = n.run_command(night)
        assert half.exists()
        half.unlink()
        first.ask(Path("go"))
        assert first.line() == "1"
        assert first.process.wait(timeout=20) == 0
    assert outcome.exit_code == 1
    assert "Traceback" not in outcome.text
    (line,) = [line for line in outcome.stderr.splitlines() if "another run is writing there" in line]
    assert line.startswith(f"error: {night.masters}: another run is writing there: `-c {night.root}/c.yaml` (process ")
    assert f"(process {first.process.pid} on " in line
    assert "or choose another master_frames.output_dir; if it is gone, delete" in line
    assert len(list(night.masters.glob("*.fits"))) == 1
    assert n.run_command(night).exit_code == 0
    assert not (night.masters / ".ostcal.lock").exists()


def test_a_second_run_of_masters_may_wait(night: Night) -> None:
    with making(night) as first:
        first.ask(Path("go"))
        report = build_masters(request(night, lock_wait_s=60.0, only_changed=False))
        assert first.line() == "1"
    assert len(report.made) == 1
    assert len(list(night.masters.glob("*.fits"))) == 2


@posix
def test_a_run_of_masters_that_was_killed_keeps_nobody_away(night: Night) -> None:
    with making(night) as first:
        first.kill()
    assert (night.masters / ".ostcal.lock").exists()
    assert n.run_command(night).exit_code == 0
    assert not (night.masters / ".ostcal.lock").exists()


def test_what_only_reads_needs_no_lock(night: Night) -> None:
    assert n.run_command(night).exit_code == 0
    n.write_darks(night, 7.0)
    with making(night):
        listed = n.ostcal("library", "--config", n.write_config(night))
        assert listed.exit_code == 0
        assert "dark" in listed.stdout


# ---- series ----

DARK = SeriesPlan(
    name="exp_5.000s",
    frame_type=FrameType.DARK,
    exposure_time_s=5.0,
    n_frames=3,
    settings=CameraSettings(camera="direct"),
    light=False,
)


def captured(folder: Path) -> SeriesOutcome:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock)
    return capture_series(camera, DARK, SeriesSink(directory=folder), clock, CaptureWatcher())


def test_a_second_run_does_not_write_into_a_series(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with owner() as first:
        first.take(folder / ".exp_5.000s.lock")
        outcome = captured(folder)
        assert outcome.end is SeriesEnd.STORAGE_FAILED
        assert f"{folder / 'exp_5.000s'}: another run is writing there: `-c 10.0` (process" in outcome.message
        assert [entry.name for entry in folder.iterdir()] == [".exp_5.000s.lock"]
        first.release()
    assert captured(folder).is_complete
    assert [entry.name for entry in folder.iterdir()] == ["exp_5.000s.zarr"]


@posix
def test_a_series_of_a_killed_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with owner() as first:
        first.take(folder / ".exp_5.000s.lock")
        first.kill()
    assert captured(folder).is_complete
    assert len(open_series(folder / "exp_5.000s.zarr").records) == 3
    assert [entry.name for entry in folder.iterdir()] == ["exp_5.000s.zarr"]


def test_series_of_other_names_can_be_taken_at_the_same_time(tmp_path: Path) -> None:
    folder = tmp_path / "place"
    with owner() as first:
        first.take(folder / ".exp_10.000s.lock")
        assert captured(folder).is_complete
