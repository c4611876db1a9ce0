"""Cameras whose frames have overscan: series keep it with its cards, and masters of series are those of FITS files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from ostcal.cli import main
from ostcal.fits.cards import Header
from ostcal.series.reader import open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.sensor import SENSORS, CosmicRays, Exposure, SensorModel
from ostcal.simulator.server import SimulatedObservatory
from support.fits_samples import read_with_astropy
from support.simulator_client import Client

WITH_OVERSCAN: SensorModel = replace(
    SENSORS["overscan"],
    width=5 + 80 + 12,
    height=48,
    prescan_columns=5,
    overscan_columns=12,
    cosmic_rays=CosmicRays(rate_per_cm2_s=0),
)


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=WITH_OVERSCAN, time_scale=500.0)) as observatory:
        yield observatory


def ostcal(command: str, folder: Path, port: int, **sections: dict[str, Any]) -> None:
    """Run a command whose configuration is that of a folder."""
    alpaca = {"host": "127.0.0.1", "port": port, "filter_wheel_id": 0, "cover_calibrator_id": 0}
    config = {
        "dark_capture": {
            "num_darks": 5,
            "science_exposure_time": 20.0,
            "exposure_factors": [1.0],
            "flat_exposure_time": 20.0,
            "output_dir": str(folder / "darks"),
        },
        "flat_capture": {"num_flats": 5, "filters": ["L"], "output_dir": str(folder / "flats")},
        "master_frames": {
            "output_dir": str(folder / "masters"),
            "quality_control": False,
            **sections.pop("master_frames", {}),
        },
        "storage": {"export_frames": True},
        "video": {"camera_type": "alpaca", "alpaca": {**alpaca, **sections.pop("alpaca", {})}},
    }
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    ended = CliRunner().invoke(main, [command, "--config", str(path), "--no-confirm"])
    assert ended.exit_code == 0, ended.output


def masters_of(folder: Path) -> dict[str, tuple[Any, Any]]:
    found = {}
    for path in sorted((folder / "masters").glob("*.fits")):
        kind = path.name.split("_")[1]
        found[kind if kind != "dark" else path.name[:17]] = read_with_astropy(path)
    return found


def test_masters_of_captured_series_are_trimmed_like_those_of_the_exported_files(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    for command in ("darks", "flats"):
        ostcal(command, tmp_path, observatory.port)
    (series,) = (tmp_path / "darks").glob("exp_20*.zarr")
    assert series.name == "exp_20.000s.zarr"
    opened = open_series(series)
    assert (opened.height, opened.width) == (48, 97)
    header = Header(opened.records[0].header)
    assert (header.text("BIASSEC"), header.text("TRIMSEC")) == ("[86:97,1:48]", "[6:85,1:48]")
    (exported, *_) = sorted((tmp_path / "darks" / "exp_20.000s").glob("*.fits"))
    raw, cards = read_with_astropy(exported)
    assert raw.shape == (48, 97)
    assert (cards["BIASSEC"], cards["TRIMSEC"], cards["EXPTIME"]) == ("[86:97,1:48]", "[6:85,1:48]", 20.0)

    of_files = tmp_path / "files"
    for kind in ("darks", "flats"):
        for folder in (tmp_path / kind).rglob("*"):
            if folder.is_dir() and list(folder.glob("*.fits")):
                shutil.copytree(folder, of_files / kind / folder.name)
                shutil.rmtree(folder)
    ostcal("masters", tmp_path, observatory.port)
    ostcal("masters", of_files, observatory.port)
    from_series, from_files = masters_of(tmp_path), masters_of(of_files)
    assert set(from_series) == set(from_files)
    assert set(from_series) >= {"bias", "master_dark_20.00", "flat"}
    for kind, (image, header) in from_series.items():
        assert image.shape == (48, 80)
        np.testing.assert_array_equal(image, from_files[kind][0])
        assert header["TRIM"] == from_files[kind][1]["TRIM"] == "Trimmed to [6:85,1:48]"
        assert header["CALSTAT"].startswith("OT")
    bias = from_series["bias"][0]
    assert abs(float(bias.mean())) < 1.5
    lit = WITH_OVERSCAN.flat_field("L")[:, WITH_OVERSCAN.lit_columns]
    np.testing.assert_allclose(from_series["flat"][0], lit, rtol=0.05)


def test_sections_of_the_configuration_are_written_for_drivers_that_say_none(tmp_path: Path) -> None:
    silent = replace(WITH_OVERSCAN, prescan_columns=0, overscan_columns=0)
    overscan = {"section": "[86:97,:]", "trim": "[6:85,:]"}
    with SimulatedObservatory(SimulatorOptions(sensor=silent, time_scale=500.0)) as observatory:
        ostcal("darks", tmp_path, observatory.port, master_frames={"overscan": overscan})
        ostcal("masters", tmp_path, observatory.port, master_frames={"overscan": overscan})
    (exported, *_) = sorted((tmp_path / "darks" / "exp_20.000s").glob("*.fits"))
    assert (read_with_astropy(exported)[1]["BIASSEC"], masters_of(tmp_path)["bias"][0].shape) == ("[86:97,:]", (48, 80))


@pytest.mark.parametrize(
    ("binning", "sections"),
    [
        (1, ("[86:97,1:48]", "[6:85,1:48]")),
        (2, ("[44:48,1:24]", "[4:42,1:24]")),
        (3, ("[30:32,1:16]", "[3:28,1:16]")),
    ],
)
def test_the_driver_says_where_the_overscan_of_a_binned_frame_is(
    observatory: SimulatedObservatory, binning: int, sections: tuple[str, str]
) -> None:
    with Client(observatory.url).connect() as camera:
        assert camera.get("supportedactions") == ["BIASSEC", "TRIMSEC"]
        for axis, length in (("X", 97), ("Y", 48)):
            camera.put(f"bin{axis.lower()}", **{f"Bin{axis}": binning})
            camera.put(f"num{axis.lower()}", **{f"Num{axis}": length // binning})
        said = [camera.put("action", Action=name, Parameters="") for name in ("BIASSEC", "TRIMSEC")]
        assert tuple(said) == sections
        frame = camera.expose(10.0)
        assert frame.shape == (48 // binning, 97 // binning)


def test_no_light_reaches_the_overscan_and_the_level_drifts() -> None:
    bright = Exposure(exposure_time_s=10.0, illumination_e_per_s=2000.0)
    rng = np.random.default_rng(4)
    frames = [WITH_OVERSCAN.expose(bright, rng) for _ in range(8)]
    levels = [float(np.median(frame[:, -12:])) for frame in frames]
    assert 4 < np.std(levels) < 30
    for frame, level in zip(frames, levels, strict=True):
        assert float(np.median(frame[:, :5])) == pytest.approx(level, abs=3)
        assert float(np.median(frame[:, 5:85])) > level + 5000
