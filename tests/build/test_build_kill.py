"""`ostcal masters` and `ostcal calibrate` killed at random moments: no wrong master, and the next run leaves no stray.

``OSTCAL_KILLS`` sets how many rounds of one to three kills are tried (100 by hand).
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostcal.library.history import history_of
from ostcal.library.store import MasterStore
from support import night as n
from support.fits_samples import read_with_astropy
from support.killed_runs import Runner, images_of, running, same, stored_images, strays
from support.night import Night

KILLS = int(os.environ.get("OSTCAL_KILLS") or 5)

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL (POSIX)"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("runner") / "screen.txt") as runner:
        yield runner


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
