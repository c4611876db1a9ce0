"""A light takes the flat of its telescope and of the angle of its camera, whichever was made last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

SHADOW = {45.0: 8, 225.0: 20, 135.0: 30}
"""Column of the shadow of dust by the angle of the rotator."""


def lit(column: int, level: float, count: int, seed: int) -> Any:
    """Give frames of 500 ADU bias whose light is half in one column."""
    rng = np.random.default_rng(seed)
    light = np.ones((24, 40)) * level
    light[:, column] /= 2
    frames = 500 + rng.poisson(light, (count, 24, 40)) + rng.normal(0, 3, (count, 24, 40))
    return np.rint(frames).astype(np.uint16)


def turned_night(root: Path, **cards: Any) -> Night:
    """Write bias, and flats of two angles half a circle apart, the later ones at 225 degrees."""
    night = Night(root)
    bias = np.rint(500 + np.random.default_rng(1).normal(0, 3, (5, 24, 40))).astype(np.uint16)
    n.write_frames(night.darks / "bias", bias, "Bias Frame", 0.0)
    for minute, angle_deg in enumerate((45.0, 225.0)):
        start = n.START.replace(minute=minute * 10)
        stack = lit(SHADOW[angle_deg], 25_000, 8, minute)
        n.write_frames(
            night.flats / f"{angle_deg:g}",
            stack,
            "Flat Frame",
            1.0,
            start=start,
            FILTER="L",
            ROTATANG=angle_deg,
            **cards,
        )
    assert not night.run().is_error
    return night


def light(night: Night, column: int, **cards: Any) -> Path:
    folder = night.root / "lights" / "_".join(map(str, cards.values()))
    (path,) = n.write_frames(folder, lit(column, 20_000, 1, 9), "Light Frame", 1.0, FILTER="L", **cards)
    return path


@pytest.mark.parametrize("where", ["store", "files"])
@pytest.mark.parametrize(("angle_deg", "said_deg"), [(45.0, 45.3), (225.0, -135.2)])
def test_a_light_takes_the_flat_of_its_angle(tmp_path: Path, where: str, angle_deg: float, said_deg: float) -> None:
    night = turned_night(tmp_path)
    if where == "files":
        shutil.rmtree(night.masters / "masters.zarr")
    column = SHADOW[angle_deg]
    path = light(night, column, ROTATANG=said_deg)
    assert not CalibrationApplier(night.config()).calibrate_file(path, tmp_path / "cal").is_error
    values, _ = read_with_astropy(tmp_path / "cal" / f"{path.stem}_cal.fits")
    ratio = np.median(values[:, column]) / np.median(values)
    assert ratio == pytest.approx(1.0, abs=0.01)


def test_a_light_of_an_angle_without_flats_is_refused_with_both_angles(tmp_path: Path) -> None:
    night = turned_night(tmp_path)
    with pytest.raises(
        InputError, match=r"rotator angle (45|225) deg against 135 deg.*make one, or name one with --flat"
    ):
        CalibrationApplier(night.config()).find_masters(light(night, 30, ROTATANG=135.0))


def test_a_light_of_another_telescope_is_refused(tmp_path: Path) -> None:
    night = turned_night(tmp_path, TELESCOP="Esprit 100ED", FOCALLEN=550)
    with pytest.raises(InputError, match="telescope Esprit 100ED against RC8"):
        CalibrationApplier(night.config()).find_masters(light(night, 8, ROTATANG=45.0, TELESCOP="RC8"))


def test_a_light_that_says_no_angle_is_refused_where_flats_differ_in_it(tmp_path: Path) -> None:
    night = turned_night(tmp_path)
    with pytest.raises(InputError, match=r"names no rotator angle \(ROTATANG\) and there are flats of 45, 225 deg"):
        CalibrationApplier(night.config()).find_masters(light(night, 8))


def test_masters_of_flats_keep_the_light_path(tmp_path: Path) -> None:
    night = turned_night(tmp_path, TELESCOP="Esprit 100ED", FOCALLEN=550, POSANGLE=12.0)
    headers = [read_with_astropy(path)[1] for path in sorted(night.masters.glob("master_flat*.fits"))]
    assert sorted(header["ROTATANG"] for header in headers) == [45.0, 225.0]
    assert {(header["TELESCOP"], header["FOCALLEN"]) for header in headers} == {("Esprit 100ED", 550.0)}
    assert {header["POSANGLE"] for header in headers} == {12.0}  # of use for lights that state it alone
    bias = read_with_astropy(next(night.masters.glob("master_bias*.fits")))[1]
    assert "TELESCOP" not in bias


def test_the_tolerance_of_the_angle_is_a_key(tmp_path: Path) -> None:
    night = turned_night(tmp_path)
    path = light(night, 8, ROTATANG=48.0)
    with pytest.raises(InputError, match=r"rotator angle (45|225) deg against 48 deg"):
        CalibrationApplier(night.config()).find_masters(path)
    flat = CalibrationApplier(night.config(rotation_tolerance=5.0)).find_masters(path).flat
    assert flat is not None
    assert flat.key.optics.rotator_deg == 45.0
