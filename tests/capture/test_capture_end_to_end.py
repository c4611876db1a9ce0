"""`ostcal darks`, `flats` and `cameras` against a simulated observatory: where the frames are and what they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from ostcal.cli import main
from ostcal.frames import FrameType
from ostcal.series.reader import Series, open_series
from ostcal.simulator.options import Light, SimulatorOptions, Twilight
from ostcal.simulator.server import SimulatedObservatory
from support.fits_samples import read_with_astropy
from support.simulator_client import SMALL, Client

N_FRAMES = 3
CLOSED, OPEN, PANEL_OFF = 1, 3, 1
"""ASCOM's numbers for cover and panel."""


@dataclass(frozen=True, kw_only=True)
class Evening:
    """A simulated observatory, and the folder of an observer who uses it."""

    observatory: SimulatedObservatory
    folder: Path

    def ostcal(self, command: str, **sections: dict[str, Any]) -> Result:
        """Run a command that takes frames, with camera, wheel and cover; sections are added to the configuration."""
        alpaca = {
            "host": "127.0.0.1",
            "port": self.observatory.port,
            "filter_wheel_id": 0,
            "cover_calibrator_id": 0,
            **sections.get("alpaca", {}),
        }
        config = {
            "dark_capture": {
                "num_darks": N_FRAMES,
                "science_exposure_time": 5.0,
                "exposure_factors": [1.0],
                "flat_exposure_time": 5.0,
                "output_dir": str(self.folder / "darks"),
            },
            "flat_capture": {
                "num_flats": N_FRAMES,
                "output_dir": str(self.folder / "flats"),
                **sections.get("flat_capture", {}),
            },
            "master_frames": {"output_dir": str(self.folder / "masters")},
            "storage": sections.get("storage", {}),
            "video": {"camera_type": "alpaca", "alpaca": alpaca},
        }
        path = self.folder / "night.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return CliRunner().invoke(main, [command, "--config", str(path), "--no-confirm"])

    def device(self, name: str) -> Client:
        return Client(self.observatory.url, name).connect()

    def checked_series(self, place: str) -> Series:
        """Open a series, and see that every frame in it is one that the camera gave."""
        series = open_series(self.folder / place)
        assert series.problems == ()
        served = {frame.crc32 for frame in self.observatory.delivered_frames.values()}
        for record in series.records:
            assert zlib.crc32(np.ascontiguousarray(series.read_frame(record.index), dtype="<u2").data) in served
        return series


@contextmanager
def evening_with(folder: Path, **options: Any) -> Iterator[Evening]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, **options)) as observatory:
        yield Evening(observatory=observatory, folder=folder)


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Evening]:
    with evening_with(tmp_path, time_scale=500.0) as evening:
        yield evening


def check_exported(series: Series, folder: Path, kind: str) -> None:
    """See that there is a FITS file of every frame and nothing else, each equal to its frame."""
    assert len(series.records) == N_FRAMES
    files = sorted(folder.iterdir(), key=lambda path: path.stem[-3:])
    for record, file in zip(series.records, files, strict=True):
        assert record.metadata.date_obs is not None
        assert file.name == f"{kind}_{record.metadata.date_obs:%Y%m%d_%H%M%S}_{record.index:03d}.fits"
        pixels, header = read_with_astropy(file)
        np.testing.assert_array_equal(pixels, series.read_frame(record.index))
        assert header["EXPTIME"] == record.metadata.exposure_time_s
        assert header.get("FILTER") == record.metadata.filter_name
        assert header["GAIN"] == record.metadata.settings.gain
    verify(files)


def verify(files: list[Path]) -> None:
    """Ask Debian's fitsverify, where it is installed."""
    program = shutil.which("fitsverify")
    if program is not None:
        said = subprocess.run([program, "-q", *map(str, files)], capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout
        assert said.stdout.count("verification OK") == len(files), said.stdout


def test_darks_are_exported_beside_their_series(evening: Evening) -> None:
    ended = evening.ostcal("darks", storage={"export_frames": True})
    assert ended.exit_code == 0, ended.output
    darks = evening.folder / "darks"
    assert {path.name for path in darks.iterdir()} == {
        "exp_0.001s", "exp_0.001s.zarr", "exp_5.000s", "exp_5.000s.zarr",
    }  # fmt: skip
    check_exported(evening.checked_series("darks/exp_0.001s.zarr"), darks / "exp_0.001s", "bias")
    check_exported(evening.checked_series("darks/exp_5.000s.zarr"), darks / "exp_5.000s", "dark")
    with evening.device("covercalibrator") as cover:
        assert cover.get("coverstate") == CLOSED  # it was open; the camera has a shutter, too


def test_other_settings_go_to_a_new_series_and_that_is_said(evening: Evening) -> None:
    first = evening.ostcal("darks", alpaca={"gain": 100}, storage={"export_frames": True})
    assert first.exit_code == 0, first.output
    before = [record.pixels.checksum for record in evening.checked_series("darks/exp_5.000s.zarr").records]
    second = evening.ostcal("darks", alpaca={"gain": 150}, storage={"export_frames": True})
    assert second.exit_code == 0, second.output
    for name in ("exp_0.001s", "exp_5.000s"):
        said = rf"{name}\.zarr was taken with other settings \(gain 100, now 150\) and is left as it is.*{name}_2\.zarr"
        assert re.search(said, second.output)
    after = [record.pixels.checksum for record in evening.checked_series("darks/exp_5.000s.zarr").records]
    assert after == before
    again = evening.checked_series("darks/exp_5.000s_2.zarr")
    assert {record.metadata.settings.gain for record in again.records} == {150.0}
    check_exported(again, evening.folder / "darks" / "exp_5.000s_2", "dark")


def test_flats_under_the_panel_have_a_series_for_each_filter(evening: Evening) -> None:
    ended = evening.ostcal("flats", flat_capture={"filters": ["R", "L"]}, storage={"export_frames": True})
    assert ended.exit_code == 0, ended.output
    flats = evening.folder / "flats"
    names = sorted(path.name for path in flats.glob("*.zarr"))
    assert [re.sub(r"\d+\.\d{3}s", "#", name) for name in names] == ["L_exp_#.zarr", "R_exp_#.zarr"]
    for name in names:
        series = evening.checked_series(f"flats/{name}")
        assert series.frame_type is FrameType.FLAT
        assert {record.metadata.filter_name for record in series.records} == {name[0]}
        exposures_s = {record.metadata.exposure_time_s for record in series.records}
        assert exposures_s == {float(name.removesuffix("s.zarr").rpartition("_")[2])}
        levels = [series.read_frame(record.index).mean() / 65535 for record in series.records]
        assert all(0.4 <= level <= 0.6 for level in levels)
        check_exported(series, flats / name.removesuffix(".zarr"), "flat")
    with evening.device("covercalibrator") as cover:
        assert (cover.get("coverstate"), cover.get("calibratorstate")) == (CLOSED, PANEL_OFF)
    with evening.device("filterwheel") as wheel:
        assert wheel.get("position") == 0  # L was the last


def test_twilight_flats_follow_the_sky_of_their_night(tmp_path: Path) -> None:
    # 20 simulated seconds pass in a real one, in which the control measures: for it the sky falls e-fold in 45 s
    light = Light(twilight=Twilight.DUSK, twilight_fold_s=900.0)
    with evening_with(tmp_path, time_scale=20.0, light=light) as evening:
        with evening.device("covercalibrator") as cover:
            cover.put("closecover")
            cover.wait("coverstate", CLOSED)
        sky = {"twilight": True, "filters": ["L", "B"], "num_flats": 8}
        began = datetime.now(UTC)
        ended = evening.ostcal("flats", flat_capture=sky)
        assert ended.exit_code == 0, ended.output
        nights = {f"{when - timedelta(hours=12):%Y%m%d}" for when in (began, datetime.now(UTC))}
        names = {path.name for path in (tmp_path / "flats").iterdir()}
        assert names in [{f"L_twilight_{night}.zarr", f"B_twilight_{night}.zarr"} for night in nights]
        for name in names:
            series = evening.checked_series(f"flats/{name}")
            assert {record.metadata.filter_name for record in series.records} == {name[0]}
            exposures_s = [record.metadata.exposure_time_s or 0.0 for record in series.records]
            assert len(exposures_s) == 8
            assert exposures_s[1:] == sorted(set(exposures_s[1:]))  # it gets darker; the first is a guess
            levels = [series.read_frame(record.index).mean() / 65535 for record in series.records]
            assert all(0.4 <= level <= 0.6 for level in levels)
        with evening.device("covercalibrator") as cover:
            assert cover.get("coverstate") == OPEN


def test_filters_that_are_not_in_the_wheel_end_before_the_first_frame(evening: Evening) -> None:
    ended = evening.ostcal("flats", flat_capture={"filters": ["L", "Ha"]})
    assert ended.exit_code == 1
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert errors == ["error: flat_capture.filters names Ha, but the wheel has L, R, G, B"]
    assert not evening.observatory.delivered_frames


def test_cameras_finds_the_simulator_by_discovery_and_lists_its_devices() -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, discovery=True)) as observatory:
        port = str(observatory.port)
        ended = CliRunner().invoke(main, ["cameras", "--timeout", "1"])
    assert ended.exit_code == 0, ended.output
    rows = [re.split(r"  +", line) for line in ended.stdout.splitlines()]
    assert [row for row in rows if row[1:2] == [port]] == [
        ["127.0.0.1", port, "Camera", "0", "Simulated camera (small)"],
        ["127.0.0.1", port, "FilterWheel", "0", "Simulated filter wheel (small)"],
        ["127.0.0.1", port, "CoverCalibrator", "0", "Simulated cover calibrator (small)"],
        ["127.0.0.1", port, "SafetyMonitor", "0", "Simulated safety monitor (small)"],
        ["127.0.0.1", port, "Dome", "0", "Simulated roof (small)"],
        ["127.0.0.1", port, "Telescope", "0", "Simulated mount (small)"],
    ]
