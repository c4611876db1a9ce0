"""`ostcal masters` and `ostcal calibrate` killed at random moments: no wrong master, and the next run leaves no stray.

``OSTCAL_KILLS`` sets how many rounds of one to three kills are tried (100 by hand).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.library.history import history_of
from ostcal.library.index import MASTERS_INDEX
from ostcal.library.master_names import DEFECT_FOLDER
from ostcal.library.store import MasterStore
from ostcal.places.latest_folder import LATEST
from support import night as n
from support.fits_samples import read_with_astropy
from support.forking import ForkServer, forking
from support.night import Night

KILLS = int(os.environ.get("OSTCAL_KILLS") or 5)
ENDS_WITHIN_S = 10.0
"""Workers, after their parent was killed; on two busy cores."""
COMPLETE = {"masters.zarr", ".ostcal.lock", LATEST, DEFECT_FOLDER, MASTERS_INDEX}

# Starting Python and importing takes 1 to 2 s: so one process imports, and each run is a fork of it, in a group of its
# own, so that no worker outlives it.
RUNNER = """
    import json, os, sys, threading
    import numpy as np
    import ostcal.cli.masters, ostcal.cli.calibrate, ostcal.build.run, ostcal.build.api, ostcal.science.api
    from ostcal.cli import main
    from ostcal.engine.combine import combine_block
    from ostcal.engine.rejection import SeriesNoise, SigmaClip
    from ostcal.frames import SampleEncoding

    stack = np.arange(7 * 4 * 28, dtype=np.uint16).reshape(7, 4, 28)
    combine_block(stack, SampleEncoding(dtype="uint16"), SigmaClip().resolved(7), noise=SeriesNoise(noise_adu=1.0))
    print("ready", threading.active_count(), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            main(json.loads(line))
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL (POSIX)"),
    pytest.mark.timeout(900),
]

Images = dict[str, NDArray[np.float32]]


class Runner:
    """Runs `ostcal` over and over."""

    def __init__(self, server: ForkServer, log: Path) -> None:
        self._server = server
        self._log = log

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self, *arguments: str | Path) -> int:
        """Start a run; gives its process id."""
        return self._server.ask(json.dumps([str(argument) for argument in arguments]))

    def whole(self, *arguments: str | Path) -> float:
        """Run to the end; gives the seconds it took."""
        began = time.monotonic()
        self.start(*arguments)
        code = self.ended()
        assert code == 0, self.text
        assert "Traceback" not in self.text
        return time.monotonic() - began

    def killed(self, after_s: float, *arguments: str | Path) -> bool:
        """Kill a run after a while, workers and all; gives whether it was still running."""
        pid = self.start(*arguments)
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)  # it may have ended, but nobody has waited for it: it is no other process
        code = self.ended()
        assert "Traceback" not in self.text
        deadline = time.monotonic() + ENDS_WITHIN_S
        while (left := living(pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []
        return code == -signal.SIGKILL

    def ended(self) -> int:
        """Wait for the end of the run; gives its exit status."""
        return self._server.ask("wait")


def living(group: int) -> list[int]:
    """Return the processes of a group that still run (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().rpartition(b")")[2].split()
            if int(words[2]) == group and words[0] not in (b"Z", b"X"):
                found.append(int(path.parent.name))
    return found


@contextmanager
def running(log: Path) -> Iterator[Runner]:
    with forking(RUNNER, str(log)) as server:
        yield Runner(server, log)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("runner") / "screen.txt") as runner:
        yield runner


def images_of(masters: Path) -> Images:
    """Return the images of the FITS masters by their names without the time."""
    return {path.name.rsplit("_", 2)[0]: read_with_astropy(path)[0] for path in sorted(masters.glob("*.fits"))}


def stored_images(masters: Path) -> Images:
    store = MasterStore(masters / "masters.zarr")
    return {name.rsplit("_", 2)[0]: store.open(name).array() for name in store.names()}


def same(images: Images, truth: Images) -> bool:
    return all(np.array_equal(image, truth[name], equal_nan=True) for name, image in images.items())


def strays(masters: Path) -> list[str]:
    """Return what is no master, report, log or store."""
    names = {path.name for path in masters.iterdir()} - COMPLETE
    ends = (".fits", ".log", ".html", ".json", ".jsonl")
    odd = [name for name in names if not name.endswith(ends) or "partial" in name or name.startswith(".")]
    odd += [str(path) for path in masters.rglob("*.partial")] + [str(path) for path in masters.rglob("writing.json")]
    groups = [path for path in (masters / "masters.zarr").iterdir() if path.is_dir()]
    return odd + [str(path) for path in groups if not (path / "zarr.json").exists()]


def whole_night(root: Path) -> Night:
    """Write bias, darks, flats, and darks in packed files."""
    night = n.whole_night(root)
    stack = n.dark_frames(9.0, seed=9)
    for path in n.write_frames(night.darks / "packed", stack, "Dark Frame", 9.0, stem="packed"):
        n_bytes = path.read_bytes()

        path.with_name(path.name + ".gz").write_bytes(gzip.compress(n_bytes))
        path.unlink()
    return night


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_masters_are_right_after_any_kill_and_nothing_is_left(runner: Runner, tmp_path: Path, scheduler: str) -> None:
    night, moments = whole_night(tmp_path), random.Random(f"kill {scheduler}")
    config = n.write_config(night, compute={"scheduler": scheduler})
    arguments = ("masters", "--config", config, "--no-confirm")
    runner.whole(*arguments)
    truth = images_of(night.masters)
    assert len(truth) == 6
    shutil.rmtree(night.masters)
    takes_s = runner.whole(*arguments)
    shutil.rmtree(night.masters)
    hits = 0
    for kill in range(KILLS):
        for _ in range(moments.choice((1, 1, 2, 3))):
            hits += runner.killed(moments.uniform(0, takes_s), *arguments)
            assert same(images_of(night.masters), truth), kill
            assert same(stored_images(night.masters), truth), kill
        runner.whole(*arguments)
        images, stored = images_of(night.masters), stored_images(night.masters)
        assert images.keys() == truth.keys(), kill
        assert stored.keys() == truth.keys() - {"master_dark_0.001s"}, kill  # the bias, as a dark for others
        assert same(images, truth), kill
        assert same(stored, truth), kill
        assert len(list(night.masters.glob("*.fits"))) == len(truth)
        assert strays(night.masters) == [], kill
        followed = [entry.name for entry in history_of(str(night.masters))]
        assert sorted(followed) == MasterStore(night.masters / "masters.zarr").names(), kill
        reports = [path.read_text("utf-8") for path in night.masters.glob("report_*.html")]
        assert any(all(name in page.replace("<wbr>", "") for name in followed) for page in reports), kill
        assert n.ostcal("verify", night.masters).exit_code == 0, kill
        shutil.rmtree(night.masters)
    assert hits >= KILLS / 2


@pytest.mark.slow
def test_calibrated_frames_are_complete_after_any_kill_and_nothing_is_left(runner: Runner, tmp_path: Path) -> None:
    night, moments = Night(tmp_path), random.Random("kill calibrate")
    n.write_darks(night, 5.0)
    assert n.run_command(night, "--darks-only").exit_code == 0
    frames = n.write_frames(night.root / "lights", n.dark_frames(5.0, 12, seed=5), "Light Frame", 5.0, stem="light")

    for path in frames[:4]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    target = night.root / "calibrated"
    arguments = ("calibrate", night.root / "lights", "--config", night.root / "c.yaml", "--output-dir", target,
                 "--flat", "none", "--overwrite")  # fmt: skip
    runner.whole(*arguments)
    truth = {path.name: read_with_astropy(path)[0] for path in target.glob("*.fits")}
    assert len(truth) == 12
    shutil.rmtree(target)
    takes_s = runner.whole(*arguments)
    shutil.rmtree(target)
    hits = 0
    for kill in range(KILLS):
        hits += runner.killed(moments.uniform(0, takes_s), *arguments)
        done = {path.name: read_with_astropy(path)[0] for path in target.glob("*.fits")}
        assert same(done, truth), kill
        runner.whole(*arguments)
        done = {path.name: read_with_astropy(path)[0] for path in target.glob("*.fits")}
        assert done.keys() == truth.keys()
        assert same(done, truth), kill
        assert {path.name for path in target.iterdir()} == truth.keys(), kill
        shutil.rmtree(target)
    assert hits >= KILLS / 2
