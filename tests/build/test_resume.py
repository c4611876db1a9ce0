"""An interrupted build is gone on with: finished strips are taken, and the data are as if made at once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.build.from_config import request_of
from ostcal.build.request import Watcher
from ostcal.build.run import BuildReport, build_masters
from ostcal.config import load_config
from ostcal.engine.graph import Progress
from ostcal.engine.rejection import Median, SigmaClip
from ostcal.inputs.grouping import GroupRules
from ostcal.library.store import MasterStore
from support import night as n
from support.amounts import amount
from support.fits_samples import read_with_astropy
from support.forking import ForkServer, forking
from support.night import Night

KILLS = amount(20, "OSTCAL_KILLS")
ROWS = 80
SHAPE = (ROWS, 40)

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL (POSIX)")

# Starting Python and importing takes 2 s, forty times: so one process imports, and each run is a fork of it.
RUNNER = """
    import os, sys, threading
    import dask.threaded, numba, zarr
    import ostcal.cli.masters, ostcal.build.api
    from ostcal.cli import main

    print("ready", threading.active_count(), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            main(["masters", "--config", line.strip(), "--no-confirm"])
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runner:
    """Starts `ostcal masters` over and over."""

    def __init__(self, server: ForkServer, log: Path) -> None:
        self._server = server
        self._log = log

    def start(self, config: Path) -> int:
        return self._server.ask(str(config))

    def line(self) -> str:
        return self._server.line()

    def taken(self) -> dict[str, tuple[int, int]]:
        """Return for each kind of master how many strips were there, and how many it has."""
        pattern = r"^master_(\w+?)_[\w.]+: (\d+) of (\d+) strips were combined before and are taken over$"
        return {kind: (int(there), int(of)) for kind, there, of in re.findall(pattern, self.text, re.MULTILINE)}

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8")


@contextmanager
def running(log: Path) -> Iterator[Runner]:
    with forking(RUNNER, str(log)) as server:
        yield Runner(server, log)


def big_night(root: Path) -> Night:
    """Darks and flats of 300 rows, which are 300 strips each."""
    night = Night(root)
    n.write_frames(night.darks, n.samples(12, 1000, seed=1, shape=SHAPE), "Dark Frame", 2.0)
    levels = np.linspace(9000, 11000, 8)
    flats = np.concatenate(
        [n.samples(1, 1000 + level, noise=40, seed=i, shape=SHAPE) for i, level in enumerate(levels)]
    )
    n.write_frames(night.flats, flats, "Flat Frame", 2.0)
    return night


def config_of(night: Night, **keys: Any) -> Path:
    """Write a configuration with strips of one row."""
    path = night.root / "c.yaml"
    path.write_text(json.dumps({**night.config(**keys), "storage": {"strip_rows": 1}}), encoding="utf-8")
    return path


def planes_of(masters: Path) -> dict[str, list[NDArray[Any]]]:
    """Return the planes of each kind of master, and the image of its FITS file."""
    store = MasterStore(masters / "masters.zarr")
    found = {}
    for name in store.names():
        opened = store.open(name)
        planes = [opened.array(plane) for plane in ("master", "n_used", "std", "dq") if opened.has(plane)]
        found[name.split("_")[1]] = [*planes, read_with_astropy(masters / f"{name}.fits")[0]]
    return found


def same(a: dict[str, list[NDArray[Any]]], b: dict[str, list[NDArray[Any]]]) -> bool:
    return a.keys() == b.keys() and all(
        x.tobytes() == y.tobytes() for kind in a for x, y in zip(a[kind], b[kind], strict=True)
    )


def strays(masters: Path) -> list[str]:
    store = masters / "masters.zarr"
    groups = [path for path in store.iterdir() if path.is_dir()]
    unfinished = [path.name for path in groups if not (path / "zarr.json").exists() or (path / "strips").exists()]
    return unfinished + [path.name for path in masters.rglob("*") if "partial" in path.name or path.name[0] == "."]


def wait_for_strips(masters: Path, place: str, count: int) -> None:
    """Wait until so many strips of a master are finished."""
    deadline = time.monotonic() + 30
    while len(list(masters.glob(f"masters.zarr/{place}/strips/*.json"))) < count:
        assert time.monotonic() < deadline
        assert list(masters.glob("master_flat*.fits")) == []
        time.sleep(0.002)


@posix
@pytest.mark.slow
def test_a_build_killed_at_20_moments_gives_the_data_of_one_that_never_was(tmp_path: Path) -> None:
    night = big_night(tmp_path)
    moments = random.Random(5)
    taken, awaited = Counter[str](), Counter[str]()
    with running(tmp_path / "screen.txt") as runner:
        runner.start(config_of(night, quality_control=False))
        assert runner.line() == "0", runner.text
        assert runner.taken() == {}
        expected = planes_of(night.masters)
        assert expected.keys() == {"dark", "flat"}
        for number in range(KILLS):
            again = replace(night, root=tmp_path / f"again{number}")
            again.root.mkdir()
            for name in ("darks", "flats"):
                (again.root / name).symlink_to(tmp_path / name)
            config = config_of(again, quality_control=False)
            pid = runner.start(config)
            kind, place = (("dark", "master_dark*"), ("flat", "master_flat*.combined"))[number % 2]
            strips = moments.randrange(1, ROWS // 2)
            awaited[kind] += strips
            wait_for_strips(again.masters, place, strips)
            os.kill(pid, signal.SIGKILL)
            assert runner.line() == "-9"
            runner.start(config)
            assert runner.line() == "0", runner.text
            for kind, (there, of) in runner.taken().items():
                assert (0 < there <= of, of) == (True, ROWS)
                taken[kind] += there
            assert same(planes_of(again.masters), expected)
            assert strays(again.masters) == []
    # A master may end before the kill comes, and then nothing is taken; most do not.
    assert taken["dark"] > awaited["dark"] / 2
    assert taken["flat"] > awaited["flat"] / 2


# ---- what is the same work ----


class Stop(KeyboardInterrupt):
    """As Ctrl-C while strips are combined."""


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return big_night(tmp_path)


def build(night: Night, *, stop: str = "", **changes: Any) -> BuildReport:
    """Make the masters in this process; it is interrupted when the first strips of `stop` are done."""

    def progressed(done: Progress) -> None:
        if stop and done.stage == "combine" and done.job.startswith(stop):
            raise Stop

    places = {name: changes.pop(name) for name in ("output_dir",) if name in changes}
    config = load_config(config_of(night, quality_control=False, **places))
    request = request_of(config, bias=False, darks=True, flats=True)
    return build_masters(replace(request, **changes), Watcher(progressed=progressed))


def interrupted(night: Night, stop: str = "master_dark") -> Path:
    """Interrupt a build; gives the place of the master that was begun."""
    with pytest.raises(Stop):
        build(night, stop=stop)
    (begun,) = night.masters.glob(f"masters.zarr/{stop}*/strips")
    assert len(list(begun.glob("*.json"))) > 0
    return begun.parent


def gone_on(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the kinds of masters that were gone on with."""
    return re.findall(r"master_(\w+?)_[^\n]* were combined before and are taken over", caplog.text)


def test_an_interrupt_leaves_strips_to_the_next_run(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ostcal")
    fresh = planes_of_new(night)
    interrupted(night)
    assert list(night.masters.glob("*.fits")) == []
    build(night)
    assert gone_on(caplog) == ["dark"]
    assert same(planes_of(night.masters), fresh)
    assert strays(night.masters) == []


def planes_of_new(night: Night) -> dict[str, list[NDArray[Any]]]:
    """Return the planes of masters made at once, of the frames as they are now."""
    elsewhere = night.root / f"fresh{len(list(night.root.glob('fresh*')))}"
    build(night, output_dir=str(elsewhere))
    return planes_of(elsewhere)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": SigmaClip(low=Fraction(2))},
        {"method": Median()},
        {"strip_rows": 2},
        {"rules": GroupRules(min_frames=8)},
    ],
    ids=["threshold", "method", "strips", "nothing"],
)
def test_other_work_begins_anew(night: Night, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]) -> None:
    caplog.set_level("INFO", "ostcal")
    interrupted(night)
    build(night, **changes, make_flats=False)
    assert gone_on(caplog) == (["dark"] if "rules" in changes else [])
    assert strays(night.masters) == []


def change_a_pixel(path: Path) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[ROWS // 2 + 1, 1] += 9


def test_frames_that_changed_begin_anew(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ostcal")
    interrupted(night)
    change_a_pixel(night.darks / "dark_003.fits")
    build(night)
    assert gone_on(caplog) == []
    assert same(planes_of(night.masters), planes_of_new(night))


def test_strips_of_flats_are_made_again_where_their_dark_changed(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    """The frames of the flats and all that is planned of them are the same; only rows of the dark are not."""
    caplog.set_level("INFO", "ostcal")
    interrupted(night, "master_flat")
    for path in sorted(night.darks.iterdir())[:8]:
        change_a_pixel(path)
    build(night, make_darks=True)
    assert gone_on(caplog) == ["flat"]
    assert same(planes_of(newest_only(night)), planes_of_new(night))


def newest_only(night: Night) -> Path:
    """Delete the dark that the interrupted run had finished."""
    store = MasterStore(night.masters / "masters.zarr")
    darks = [name for name in store.names() if "dark" in name]
    if len(darks) > 1:
        store.discard(darks[0])
    return night.masters


@pytest.mark.parametrize("damage", [b"", b"x" * 40])
@pytest.mark.parametrize("place", ["master/c.*", "n_used/c.*", "std/c.*", "strips/*.json"])
def test_strips_that_a_power_failure_damaged_are_made_again(night: Night, place: str, damage: bytes) -> None:
    begun = interrupted(night)
    damaged = list(begun.glob(place))
    assert damaged
    for path in damaged:
        path.write_bytes(damage)
    build(night)
    assert same(planes_of(night.masters), planes_of_new(night))
