"""Several cameras, or the detectors of a mosaic, in one run: told apart by header or by directory, never mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import load_master_dark
from ostcal.fits.headers import camera_id_from_names
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

LEVELS = {"det1": 1000, "det2": 1500, "det3": 2000}
"""In ADU, of the darks of three detectors of one camera."""


def write_mosaic(night: Night, *, import_first: bool = False) -> None:
    """Write darks and flats of three detectors; the third is named by its directory, the others by their headers."""
    for seed, (name, level) in enumerate(LEVELS.items()):
        inside = f"camera_id={name}" if name == "det3" else name
        cards: dict[str, Any] = {} if name == "det3" else {"CAMERAID": name}
        darks = n.samples(7, level, seed=10 + seed)
        flats = n.samples(7, level + 20000, noise=100.0, seed=20 + seed)
        n.write_frames(night.darks / inside, darks, "Dark Frame", 2.0, **cards)
        n.write_frames(night.flats / inside, flats, "Flat Field", 2.0, FILTER="R", **cards)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    night = Night(tmp_path)
    write_mosaic(night)
    return night


def levels_of(files: list[str]) -> dict[str, float]:
    """Return the median of every master by its detector, as its header says it, which is in its name too."""
    found = {}
    for path in files:
        pixels, header = read_with_astropy(path)
        assert header["CAMERAID"] in Path(path).name
        found[header["CAMERAID"]] = float(np.median(pixels))
    return found


def test_each_detector_has_its_own_masters_and_its_flats_their_own_dark(night: Night) -> None:
    status = night.run()
    assert not status.is_error, status.message
    assert levels_of(status.data["dark"]) == pytest.approx(LEVELS, abs=5)
    assert levels_of(status.data["flat"]) == pytest.approx(dict.fromkeys(LEVELS, 1.0), abs=0.01)
    for path in status.data["flat"]:
        _, header = read_with_astropy(path)
        dark = next(line for line in header["HISTORY"] if "master_dark" in line)
        assert f"master_dark_2.000s_{header['CAMERAID']}" in dark


def test_series_keep_the_detector(night: Night, tmp_path: Path) -> None:
    values = night.config() | {
        "dark_capture": {"output_dir": str(tmp_path / "series" / "darks")},
        "flat_capture": {"output_dir": str(tmp_path / "series" / "flats")},
    }
    config = tmp_path / "config.json"
    config.write_text(json.dumps(values))
    assert n.ostcal("import", night.darks, night.flats, "--config", config).exit_code == 0
    names = [path.name for path in (tmp_path / "series").rglob("*.zarr")]
    assert sorted(name for name in names if "exp_2.000s_det" in name and not name.startswith("R_")) == [
        f"exp_2.000s_{name}.zarr" for name in LEVELS
    ]
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 0
    assert levels_of([str(path) for path in night.masters.glob("master_dark*.fits")]) == pytest.approx(LEVELS, abs=5)


def test_science_frames_take_the_masters_of_their_own_detector(night: Night, tmp_path: Path) -> None:
    assert not night.run().is_error
    for name, level in LEVELS.items():
        write_frame(
            tmp_path / f"{name}.fits", n.samples(1, level + 500, seed=3)[0], IMAGETYP="Light Frame", EXPTIME=2.0,
            FILTER="R", CAMERAID=name, **n.CAMERA,
        )  # fmt: skip
    config = tmp_path / "config.json"
    config.write_text(json.dumps(night.config()))
    lights = [tmp_path / f"{name}.fits" for name in LEVELS]
    outcome = n.ostcal("calibrate", *lights, "--config", config, "--output-dir", tmp_path / "calibrated")
    assert outcome.exit_code == 0, outcome.text
    for name in LEVELS:
        pixels, _ = read_with_astropy(tmp_path / "calibrated" / f"{name}_cal.fits")
        assert float(np.median(pixels)) == pytest.approx(500, abs=10)


def test_a_program_asks_for_the_masters_of_a_detector(night: Night) -> None:
    assert not night.run().is_error
    for name, level in LEVELS.items():
        dark = load_master_dark(2.0, night.config(), camera_id=name)
        assert float(np.median(dark)) == pytest.approx(level, abs=5)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/camera_id=north/darks/a.fits", "north"),
        ("/data/camera_id_3/a.fits", "3"),
        ("/data/Camera_ID-ccd 07/a.fits", "ccd 07"),
        ("/data/camera_id=one/camera_id=two/a.fits", "two"),
        ("/data/camera/a.fits", None),
        ("/data/camera_id=/a.fits", None),
        ("a.fits", None),
    ],
)
def test_directories_name_detectors(path: str, name: str | None) -> None:
    assert camera_id_from_names(path) == name
