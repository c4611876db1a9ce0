"""A full scale that was guessed from dim frames never cuts a light whose samples are above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier, Status
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

SHAPE = (64, 64)
HOT = (slice(10, 14), slice(20, 24))
"""Pixels whose dark current brings a light above 4095 ADU."""
DARK_ADU = 2700.0


def frames(n_frames: int, image: float | NDArray[Any], seed: int) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    values = rng.normal(np.broadcast_to(image, SHAPE), 2.0, (n_frames, *SHAPE))
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def dark_image(dark_adu: float = DARK_ADU) -> NDArray[Any]:
    image = np.full(SHAPE, 520.0)
    image[HOT] += dark_adu
    return image


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """Bias, darks and flats, none of them above 4095."""
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", frames(6, 500.0, 1), "Bias Frame", 0.0)
    n.write_frames(night.darks / "dark", frames(6, dark_image(), 2), "Dark Frame", 60.0)
    flats = [frames(1, 500.0 + level, seed) for seed, level in enumerate((2000, 2200, 2100, 2300), start=10)]
    rng = np.random.default_rng(5)
    noisy = [np.clip(one + np.rint(rng.normal(0, 25, SHAPE)), 0, 4000).astype(np.uint16) for one in flats]
    n.write_frames(night.flats, np.concatenate(noisy), "Flat Frame", 1.0)
    assert not night.run().is_error
    _, header = read_with_astropy(next(night.masters.glob("master_dark_60*.fits")))
    assert header["SATURATE"] == 4095  # 12 bits, by what is in use
    return night


def calibrated(night: Night, image: NDArray[Any]) -> tuple[Status, NDArray[Any], Any]:
    path = night.root / "light.fits"
    cards = {"IMAGETYP": "Light", "EXPTIME": 60.0, "DATE_OBS": "2026-11-21T22:00:00", **n.CAMERA}
    write_frame(path, frames(1, image, 77)[0], **cards)
    status = CalibrationApplier(night.config()).calibrate_file(path, night.root / "cal", flat="none", dq=True)
    assert not status.is_error, status.message
    target = next((night.root / "cal").glob("*.fits"))
    values, header = read_with_astropy(target)
    return status, values, (header, read_with_astropy(target, 1)[0])


def test_a_light_above_the_guess_is_not_cut_and_it_is_said(night: Night) -> None:
    status, values, (header, dq) = calibrated(night, dark_image() + 1000)
    assert np.median(values[HOT]) == pytest.approx(1000, abs=4)
    assert not (dq[HOT] & 64).any()
    assert header["SATURATE"] == 65520
    (line,) = [line for line in status.details["warnings"] if "above the full scale of 4095 ADU" in line]
    assert "quality.full_scale_adu" in line
    assert str(night.root / "light.fits") in line


def test_a_light_within_the_guess_is_judged_by_it(night: Night) -> None:
    image = dark_image() + 100
    image[40:42, 40:42] = 5000
    status, values, (header, dq) = calibrated(night, np.minimum(image, 4093))
    assert not [line for line in status.details["warnings"] if "full scale" in line]
    assert header["SATURATE"] == pytest.approx(0.999 * 4095)
    assert (dq[40:42, 40:42] & 64).any()
    assert np.median(values[HOT]) == pytest.approx(100, abs=4)
