"""`ostcal darks` killed at random moments: what is recorded is what the camera gave, and the last run completes it."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from ostcal.series.reader import open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.amounts import amount
from support.fits_samples import read_with_astropy
from support.forking import forking
from support.night import ostcal
from support.simulator_client import SMALL

KILLS = amount(50, "OSTCAL_KILLS")
N_FRAMES = KILLS * 7 // 5
SERIES = {"exp_0.001s": "bias", "exp_0.100s": "dark", "exp_0.200s": "dark", "exp_0.300s": "dark"}
DEADLINE_S = 30.0

# Starting Python and importing takes 1 to 2 s, fifty times: so one process imports, and each run is a fork of it.
RUNNER = """
    import os, sys, threading
    import ostcal.cli.capture, ostcal.workflow
    from ostcal.cli import main

    print("ready", threading.active_count(), flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            main(["darks", "--config", sys.argv[1], "--no-confirm"])
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL (POSIX)")


class Evening:
    """A simulated observatory, a configuration that uses it, and what was seen of the frames so far."""

    def __init__(self, folder: Path, observatory: SimulatedObservatory) -> None:
        self.folder = folder
        self.observatory = observatory
        self.config = folder / "night.yaml"
        self.log = folder / "screen.txt"
        self.seen: dict[tuple[str, int], int] = {}
        """Checksum of the pixels of every recorded frame, by series and index."""
        values = {
            "dark_capture": {
                "num_darks": N_FRAMES,
                "science_exposure_time": 0.2,
                "exposure_factors": [0.5, 1.0],
                "flat_exposure_time": 0.3,
                "output_dir": str(folder / "darks"),
            },
            "master_frames": {"output_dir": str(folder / "masters")},
            "storage": {"export_frames": True},
            "video": {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": observatory.port}},
        }
        self.config.write_text(yaml.safe_dump(values), encoding="utf-8")

    @property
    def given(self) -> int:
        """Frames that the camera has given so far."""
        return len(self.observatory.delivered_frames)

    def look(self) -> None:
        """See that all recorded frames are what the camera gave, and those of the last look are as they were."""
        served = {frame.crc32: frame for frame in self.observatory.delivered_frames.values()}
        found: dict[tuple[str, int], int] = {}
        for name in SERIES:
            if not (self.folder / "darks" / f"{name}.zarr").exists():
                continue
            series = open_series(self.folder / "darks" / f"{name}.zarr")
            assert series.problems == ()
            for record in series.records:
                pixels = series.read_frame(record.index)  # verified against the checksum of the ledger
                crc32 = zlib.crc32(np.ascontiguousarray(pixels, dtype="<u2").data)
                assert crc32 in served, (name, record.index)
                assert pixels.shape == served[crc32].shape
                assert record.metadata.exposure_time_s == served[crc32].exposure.exposure_time_s
                found[name, record.index] = crc32
        assert len(set(found.values())) == len(found)  # no frame is recorded twice
        assert self.seen.items() <= found.items()
        self.seen = found


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Evening]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=20.0, seed=7)) as observatory:
        yield Evening(tmp_path, observatory)


def wait_for_a_moment(evening: Evening, moments: random.Random, number: int) -> None:
    """Wait for some time from the start, as connecting takes 0.1 s, or until some frames came and a little longer."""
    if number % 4 == 0:
        time.sleep(moments.uniform(0.0, 0.3))
        return
    wanted = evening.given + moments.randint(2, 7)
    deadline_s = time.monotonic() + DEADLINE_S
    while evening.given < wanted:
        assert time.monotonic() < deadline_s, evening.log.read_text()
        time.sleep(0.001)
    time.sleep(moments.uniform(0.0, 0.06))  # a frame takes about so long


@pytest.mark.slow
def test_a_capture_killed_over_and_over_loses_nothing_and_completes(evening: Evening) -> None:
    moments = random.Random(3)
    counts = []
    with forking(RUNNER, str(evening.config), str(evening.log)) as runner:
        for number in range(KILLS):
            child = runner.ask("go")
            wait_for_a_moment(evening, moments, number)
            os.kill(child, signal.SIGKILL)
            assert runner.line() == str(-signal.SIGKILL), evening.log.read_text()
            evening.look()
            counts.append(len(evening.seen))
    assert counts == sorted(counts)
    assert len(set(counts)) > KILLS / 2  # most runs added frames
    assert len({name for name, _ in evening.seen}) > 1  # more than one series was killed

    command = [sys.executable, "-m", "ostcal", "darks", "--config", str(evening.config), "--no-confirm"]
    given = evening.given
    last = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert last.returncode == 0, last.stderr
    evening.look()
    assert len(evening.seen) == len(SERIES) * N_FRAMES
    assert evening.given - given == len(SERIES) * N_FRAMES - counts[-1]  # only what was missing
    darks = evening.folder / "darks"
    assert [path for path in darks.rglob("*") if "partial" in path.name or ".lock" in path.name] == []
    assert ostcal("verify", darks).exit_code == 0
    assert "Traceback" not in evening.log.read_text() + last.stderr
    check_files(evening.folder / "darks")


def check_files(darks: Path) -> None:
    """See that there is every file of the series and of its FITS frames, and no other."""
    expected = set()
    for name, kind in SERIES.items():
        expected |= {f"{name}.zarr/zarr.json", f"{name}.zarr/frames/zarr.json"}
        expected |= {f"{name}.zarr/frames/c/{index}/0/0" for index in range(N_FRAMES)}
        expected |= {f"{name}.zarr/ledger/{index:06d}.json" for index in range(N_FRAMES)}
        expected |= {f"{name}/{kind}_{index:03d}.fits" for index in range(N_FRAMES)}
        series = open_series(darks / f"{name}.zarr")
        for path in (darks / name).iterdir():
            pixels, _ = read_with_astropy(path)
            np.testing.assert_array_equal(pixels, series.read_frame(int(path.stem[-3:])))
    files = [path.relative_to(darks).as_posix() for path in darks.rglob("*") if not path.is_dir()]
    without_time = [re.sub(r"_\d{8}_\d{6}_(\d{3}\.fits)$", r"_\1", file) for file in files]
    assert sorted(without_time) == sorted(expected)
