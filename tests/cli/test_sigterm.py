"""SIGTERM, as service managers and schedulers send it: it ends every command as Ctrl-C does, with exit code 143."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import pytest
import yaml

from ostcal.cli.console import errors_to_exit_codes, open_console
from ostcal.library.store import MasterStore
from ostcal.series.reader import open_series
from support import night as n
from support.night import Night

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")

ENDS_WITHIN_S = 10.0
"""On two busy cores; alone it takes less than one second."""


class Command:
    """A command in a process of its own, and in a group of its own."""

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                n.command_line(*arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=n.command_environment(), start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)

    def terminate(self, *, group: bool = False) -> None:
        """Send SIGTERM, to its workers too where `group`, and see that it ends as it should."""
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGTERM)
        code = self.process.wait(timeout=ENDS_WITHIN_S)
        assert code == 143, self.text
        assert "Traceback" not in self.text
        assert len(re.findall("error: ended by SIGTERM; what is finished is kept; ", self.text)) == 1, self.text


@contextmanager
def started(folder: Path, *arguments: str | Path) -> Iterator[Command]:
    command = Command(folder / "screen.txt", *arguments)
    try:
        yield command
    finally:
        command.process.kill()


def locks(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.lock*"))


# ---- masters ----


@pytest.fixture
def many(tmp_path: Path) -> Night:
    """Frames that take a while: many of them, in strips of one row."""
    night = Night(tmp_path)
    n.write_frames(night.darks, n.samples(120, 1000, seed=1, shape=(500, 40)), "Dark Frame", 5.0)
    return night


def slow_config(night: Night, scheduler: str) -> Path:
    values = night.config(compute={"scheduler": scheduler}, rejection_method="winsorized_sigma_clip")
    path = night.root / "slow.yaml"
    path.write_text(json.dumps({**values, "storage": {"strip_rows": 1}}), encoding="utf-8")
    return path


def unfinished(masters: Path) -> list[str]:
    groups = [path for path in (masters / "masters.zarr").iterdir() if path.is_dir()]
    partial = [path.name for path in masters.rglob("*.partial")]
    return partial + [path.name for path in groups if not (path / "zarr.json").exists()]


@pytest.mark.parametrize(
    ("scheduler", "group"),
    [
        ("threads", False),
        ("processes", True),  # as service managers do
        pytest.param("processes", False, marks=pytest.mark.slow),
        pytest.param("distributed", False, marks=pytest.mark.slow),
        pytest.param("distributed", True, marks=pytest.mark.slow),
    ],
)
def test_masters_end_and_leave_nothing_half_done(many: Night, scheduler: str, *, group: bool) -> None:
    arguments = ("masters", "--config", slow_config(many, scheduler), "--no-confirm", "--darks-only")
    with started(many.root, *arguments) as command:
        command.wait_for(lambda: len(list(many.masters.glob("masters.zarr/master_dark*/master/c.*"))) >= 30)
        assert locks(many.root) == [many.masters / ".ostcal.lock"]
        command.terminate(group=group)
    assert locks(many.root) == []
    assert list(many.masters.glob("*.fits")) == []
    status = many.run(rejection_method="none")
    assert len(status.data["dark"]) == 1
    assert unfinished(many.masters) == []


def test_masters_that_are_finished_are_kept_in_both_places(many: Night) -> None:
    """Their FITS files were kept, their records in the store were not."""
    n.write_darks(many, 2.0)
    arguments = ("masters", "--config", slow_config(many, "threads"), "--no-confirm", "--darks-only")
    with started(many.root, *arguments) as command:
        command.wait_for(lambda: "master_dark_2.000s" in "".join(MasterStore(many.masters / "masters.zarr").names()))
        command.terminate()
    (made,) = many.masters.glob("*.fits")
    assert MasterStore(many.masters / "masters.zarr").names() == [made.stem]
    assert MasterStore(many.masters / "masters.zarr").open(made.stem).array().shape == n.SHAPE


# ---- calibrate ----


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_calibrated_frames_are_complete_or_absent(tmp_path: Path, scheduler: str) -> None:
    night = Night(tmp_path)
    shape, count = (400, 600), 120
    n.write_frames(night.darks, n.samples(5, 1000, seed=1, shape=shape), "Dark Frame", 5.0)
    assert not night.run_darks(quality_control=False).is_error
    n.write_frames(night.root / "lights", n.samples(count, 1500, seed=2, shape=shape), "Light Frame", 5.0)
    target = night.root / "calibrated"
    config = n.write_config(night, compute={"scheduler": scheduler})
    arguments = ("calibrate", night.root / "lights", "--config", config, "--output-dir", target, "--flat", "none")
    with started(night.root, *arguments) as command:
        command.wait_for(lambda: len(list(target.glob("*_cal.fits"))) >= 3)
        command.terminate()
    done = list(target.glob("*_cal.fits"))
    assert 3 <= len(done) < count
    assert list(target.glob("*.partial")) == []
    size = {path.stat().st_size for path in done}
    assert len(size) == 1  # none is cut


# ---- capture ----


def night_config(folder: Path) -> Path:
    """Write a night of which each long exposure, dark or flat, takes about a second."""
    values = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 60.0}, "cooling": {"enable_cooling": False}},
        "dark_capture": {"num_darks": 4, "science_exposure_time": 60.0, "exposure_factors": [1.0],
                         "flat_exposure_time": 1.0, "output_dir": str(folder / "darks")},
        "flat_capture": {"num_flats": 4, "panel_brightness": 4, "max_exposure": 120.0,
                         "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters")},
        "compute": {"workers": 1},
    }  # fmt: skip
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def frames_of(folder: Path) -> dict[str, int]:
    """Return the number of committed frames of each series, all verified."""
    counts = {}
    for path in sorted([*folder.glob("darks/*.zarr"), *folder.glob("flats/*.zarr")]):
        series = open_series(path)
        assert series.problems == ()
        for record in series.records:
            series.read_frame(record.index)
        counts[path.name] = len(series.records)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "series"),
    [("darks", "darks/exp_60*.zarr"), ("flats", "flats/*.zarr"), ("workflow", "darks/exp_60*.zarr")],
)
def test_a_capture_aborts_its_exposure_and_keeps_its_frames(tmp_path: Path, command: str, series: str) -> None:
    config = night_config(tmp_path)
    with started(tmp_path, command, "--config", config, "--no-confirm") as running:
        running.wait_for(lambda: any((p / "ledger" / "000000.json").exists() for p in tmp_path.glob(series)))
        time.sleep(0.4)  # into the next exposure
        of_series = [lock for lock in locks(tmp_path) if lock.parent.name != "masters"]  # a series is combined there
        assert len(of_series) == 1
        running.terminate()
    before = frames_of(tmp_path)
    assert f"{before[next(tmp_path.glob(series)).name]} of 4 frames are kept" in running.text
    assert f"to continue: python -m ostcal {command} --config {config} --no-confirm" in running.text
    # what combines beside the capture has the lowest priority: on a busy machine it is killed, and leaves its lock
    assert [lock for lock in locks(tmp_path) if lock.parent.name != "masters"] == []
    again = n.ostcal(command, "--config", config, "--no-confirm")
    assert again.exit_code == 0, again.text
    assert locks(tmp_path) == []
    after = frames_of(tmp_path)
    assert all(after[name] == 4 for name in before)
    assert list(tmp_path.rglob("*.partial")) == []


# ---- the end of a command ----


def ended(error: BaseException | None) -> None:
    """End a command by SIGTERM, or by an error that it raises itself."""
    with errors_to_exit_codes(open_console(stderr=True), debug=False):
        if error is not None:
            raise error
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def ended_at_a_question() -> None:
    with errors_to_exit_codes(open_console(stderr=True), debug=False):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            raise click.Abort from None  # as click does


def ended_where_errors_are_ignored() -> None:
    with errors_to_exit_codes(open_console(stderr=True), debug=False):

        def callback(*_: object) -> None:
            gc.callbacks.remove(callback)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(10)


def ended_while_others_make_another_error_of_it() -> None:
    with errors_to_exit_codes(open_console(stderr=True), debug=False):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException as error:
            raise ValueError("as pydantic does while it makes classes") from error


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (partial(ended, None), 143),
        (ended_while_others_make_another_error_of_it, 143),
        (ended_where_errors_are_ignored, 143),
        (ended_at_a_question, 143),
        (partial(ended, KeyboardInterrupt()), 130),
        (partial(ended, click.Abort()), 130),
    ],
)
def test_the_exit_code_tells_the_signal_and_its_handler_goes_with_the_command(
    command: Callable[[], None], code: int
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == code
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_exit_code_is_that_of_the_signal_where_it_comes_while_a_text_is_run_as_code(tmp_path: Path) -> None:
    """CPython ended with SIGINT instead, as it does after a `KeyboardInterrupt` in `exec`."""
    program = tmp_path / "program.py"
    program.write_text(
        "from ostcal.cli.console import errors_to_exit_codes, open_console\n"
        "with errors_to_exit_codes(open_console(stderr=True), debug=False):\n"
        "    exec('import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)')\n"
    )
    done = subprocess.run([sys.executable, str(program)], env=n.command_environment(), capture_output=True, check=False)
    assert done.returncode == 143


def test_what_a_compiler_had_half_made_is_silent(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, time\n"
        "from ostcal.cli.console import errors_to_exit_codes, open_console\n"
        "half_made = {'__name__': 'llvmlite.binding.ffi'}\n"
        "exec('class Ref:\\n def __del__(self): self.closed', half_made)\n"
        "def work():\n"
        "    ref = half_made['Ref']()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(10)\n"
        "with errors_to_exit_codes(open_console(stderr=True), debug=False):\n"
        "    work()\n"
    )
    done = subprocess.run([sys.executable, str(program)], env=n.command_environment(), capture_output=True, check=False)
    assert done.returncode == 143
    assert done.stderr.decode().startswith("ended by SIGTERM; what is finished is kept; ")
    assert done.stderr.count(b"\n") == 1
