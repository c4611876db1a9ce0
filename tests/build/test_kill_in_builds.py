"""Processes that work for `ostcal masters` and `ostcal calibrate` killed or stopped at random moments: the same bits.

``OSTCAL_KILLS`` sets how many runs are tried of each command with each scheduler (50 by hand, with ``-s`` for the
figures); without it one is tried of one. Up to three processes of a run are killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

from support import night as n
from support.fits_samples import read_with_astropy
from support.killed_runs import ENDS_WITHIN_S, Images, Runner, images_of, living, running, same, stored_images, strays
from support.night import Night

RUNS = int(os.environ.get("OSTCAL_KILLS") or 1)
BY_HAND = [("masters", "threads"), ("masters", "distributed"), ("calibrate", "processes"), ("calibrate", "distributed")]
TRIED = [("masters", "processes"), *(BY_HAND if "OSTCAL_KILLS" in os.environ else [])]
"""Commands and schedulers; a run takes 5 to 10 s of CPU, most of it in starting workers."""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(0 if RUNS > 1 else 600),
]


@dataclass(kw_only=True)
class Command:
    """A command, what it made where nothing was killed, and how to look at what it made."""

    arguments: tuple[str | Path, ...]
    target: Path
    images: Callable[[Path], Images]
    strays: Callable[[Path], list[str]]
    truth: Images = field(default_factory=dict)
    takes_s: float = 0.0

    def learn(self, runner: Runner) -> None:
        self.takes_s = runner.whole(*self.arguments)
        self.truth = self.images(self.target)
        shutil.rmtree(self.target)

    def assert_right(self, *, complete: bool, what: str) -> None:
        images = self.images(self.target) if self.target.exists() else {}
        assert same(images, self.truth), what
        assert not complete or images.keys() == self.truth.keys(), what
        left = self.strays(self.target) if self.target.exists() else []
        assert left == [], f"{what}: {left}"


def workers_of(run: int) -> list[tuple[psutil.Process, str]]:
    """Return the processes that work for a run, and what they do."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(run).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = " ".join(child.cmdline())
                kind = "decoder" if "_process.py" in words else "worker" if "--multiprocessing-fork" in words else ""
                if kind and child.status() != psutil.STATUS_ZOMBIE:
                    found.append((child, kind))
    return found


def is_over(run: int) -> bool:
    try:
        return psutil.Process(run).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_some(run: int, moments: random.Random, takes_s: float) -> list[str]:
    """Kill or stop one to three of the processes that work for a run, at random moments; return what they did."""
    killed: list[str] = []
    for _ in range(moments.choice((1, 2, 3))):
        at, stops = time.monotonic() + moments.uniform(0, takes_s / 2), moments.random() < 0.1
        is_done = False
        while not is_done and not is_over(run):
            there = workers_of(run) if time.monotonic() > at else []
            if there:
                process, kind = moments.choice(there)
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGSTOP if stops else signal.SIGKILL)
                    killed.append(f"{kind} {'stopped' if stops else 'killed'}")
                    is_done = True
            else:
                time.sleep(0.003)
    return killed


def try_kills(runner: Runner, command: Command, moments: random.Random) -> Counter[str]:
    """Run a command again and again, and kill what works for it; return how often what happened."""
    command.learn(runner)
    figures: Counter[str] = Counter()
    for number in range(RUNS):
        run = runner.start(*command.arguments)
        killed = kill_some(run, moments, command.takes_s)
        code, text = runner.ended(), runner.text
        what = f"run {number}, {', '.join(killed)}, exit code {code}:\n{text}"
        assert "Traceback" not in text, what
        assert code in (0, 1), what
        assert code == 0 or "start the same command again" in text, what
        deadline = time.monotonic() + ENDS_WITHIN_S
        while (left := living(run)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == [], what
        command.assert_right(complete=code == 0, what=what)
        figures.update([*killed, "went on" if code == 0 else "said how to go on"])
        if code != 0:
            runner.whole(*command.arguments)
            command.assert_right(complete=True, what=f"after {what}")
        shutil.rmtree(command.target, ignore_errors=True)
    return figures


def night_of_kills(root: Path, scheduler: str) -> tuple[Night, Path]:
    """Write a night with packed darks, in strips of a few rows; return it and its configuration."""
    night = n.whole_night(root)
    for path in n.write_frames(night.darks / "packed", n.dark_frames(9.0, seed=9), "Dark Frame", 9.0, stem="packed"):
        with fits.open(path) as hdus:
            image = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
            fits.HDUList([fits.PrimaryHDU(), image]).writeto(path.with_name(path.name + ".fz"))
        path.unlink()
    config = n.write_night(root, night.config(compute={"scheduler": scheduler}), {"storage": {"strip_rows": 4}})
    return night, config


def masters_images(masters: Path) -> Images:
    stored = stored_images(masters) if (masters / "masters.zarr").exists() else {}
    return images_of(masters) | {f"{name} in the store": image for name, image in stored.items()}


def strays_of_masters(masters: Path) -> list[str]:
    """Return what is no master; a run that ended before work began leaves its log alone."""
    if not (masters / "masters.zarr").exists():
        return [path.name for path in masters.iterdir() if path.suffix != ".log"]
    return strays(masters)


def command_of(name: str, root: Path, scheduler: str, runner: Runner) -> Command:
    """Write what a command needs, and return it."""
    night, config = night_of_kills(root, scheduler)
    masters = ("masters", "--config", config, "--no-confirm")
    if name == "masters":
        return Command(arguments=masters, target=night.masters, images=masters_images, strays=strays_of_masters)
    runner.whole(*masters, "--darks-only")
    n.write_frames(root / "lights", n.dark_frames(5.0, 12, seed=5), "Light Frame", 5.0, stem="light")
    target = root / "calibrated"
    words = (root / "lights", "--config", config, "--output-dir", target, "--flat", "none", "--overwrite")
    return Command(
        arguments=("calibrate", *words),
        target=target,
        images=lambda folder: {path.name: read_with_astropy(path)[0] for path in folder.glob("*.fits")},
        strays=lambda folder: [path.name for path in folder.iterdir() if not path.name.endswith("_cal.fits")],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scheduler"), TRIED)
def test_what_is_made_does_not_depend_on_processes_that_are_killed(tmp_path: Path, name: str, scheduler: str) -> None:
    with running(tmp_path / "screen.txt") as runner:
        command = command_of(name, tmp_path, scheduler, runner)
        figures = try_kills(runner, command, random.Random(f"workers {name} {scheduler}"))
    sys.stdout.write(f"\n{name}, {scheduler}: {dict(figures)}\n")
    assert figures["went on"] + figures["said how to go on"] == RUNS
    assert sum(figures.values()) > RUNS
