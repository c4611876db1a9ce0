"""Rows without a finite overscan sample are not used, and named with their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

HEIGHT, WIDTH, COLUMNS = 64, 80, 12
CARDS = {"BIASSEC": "[81:92,1:64]", "TRIMSEC": "[1:80,1:64]"}
ALL_ROWS = range(HEIGHT)


def floats(signal_adu: float, n_frames: int, seed: int) -> NDArray[np.float32]:
    """Return frames of floats that are no whole numbers, at levels of their own."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(0, 3, (n_frames, HEIGHT, WIDTH + COLUMNS)) + 1000 + 30 * np.arange(n_frames)[:, None, None]
    frames[:, :, :WIDTH] += signal_adu
    return frames.astype(np.float32)


def bias_night(root: Path, rows: Any, of_frames: Any = slice(None)) -> Night:
    night = Night(root)
    frames = floats(50, 6, seed=1)
    frames[of_frames, rows, WIDTH:] = np.nan
    n.write_frames(night.darks, frames, "Bias Frame", 0.0, **CARDS)
    return night


def said(lines: Any) -> list[str]:
    return [line for line in lines if "without a finite sample in the overscan" in line]


def test_a_row_of_one_frame_does_not_count_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    status = bias_night(tmp_path, [9], of_frames=2).run()
    master = n.image_of(status, "bias")
    assert np.abs(master - 50).max() < 10
    (line,) = said(caplog.messages)
    assert "1 row without a finite sample in the overscan" in line
    assert "the pixels become NaN" in line
    assert ".fits" in line


def test_rows_that_no_frame_has_are_nan_in_the_master(tmp_path: Path) -> None:
    rows = [5, 6, 7, 8]
    master = n.image_of(bias_night(tmp_path, rows).run(), "bias")
    assert np.isnan(master[rows]).all()
    assert np.abs(np.delete(master, rows, axis=0) - 50).max() < 10


@pytest.mark.parametrize("fit", ["mean", "median", "polynomial", "spline"])
def test_a_fit_goes_through_the_known_rows(tmp_path: Path, fit: str, caplog: pytest.LogCaptureFixture) -> None:
    night = bias_night(tmp_path, [0, 5, 6, 63])
    overscan = {"section": CARDS["BIASSEC"], "trim": CARDS["TRIMSEC"], "fit": fit}
    status = night.run(overscan=overscan)
    assert np.abs(n.image_of(status, "bias") - 50).max() < 10
    (line,) = said(caplog.messages)
    assert "and 5 more: 4 rows without" in line
    assert "of the fit" in line


@pytest.mark.parametrize("fit", ["none", "spline"])
def test_a_frame_without_any_finite_overscan_is_left_out(
    tmp_path: Path, fit: str, caplog: pytest.LogCaptureFixture
) -> None:
    overscan = {"section": CARDS["BIASSEC"], "trim": CARDS["TRIMSEC"], "fit": fit}
    status = bias_night(tmp_path, ALL_ROWS, of_frames=0).run(overscan=overscan)
    _, header = read_with_astropy(n.one_file(status, "bias"))
    assert header["NCOMBINE"] == 5
    (line,) = (line for line in caplog.messages if "overscan has no finite sample" in line)
    assert "bias_000.fits: its overscan" in line


def test_frames_without_any_finite_overscan_end_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert bias_night(tmp_path, ALL_ROWS).run().is_error
    (line,) = (line for line in caplog.messages if "overscan has no finite sample" in line)
    assert "bias_000.fits, and 5 more: its overscan" in line


def test_a_light_has_nan_in_the_row_and_the_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    night = bias_night(tmp_path, [])
    n.write_frames(night.darks, floats(51, 6, seed=2), "Dark Frame", 10.0, **CARDS)
    assert not night.run().is_error
    light = floats(300, 1, seed=3)
    light[0, 7, WIDTH:] = np.nan
    (path,) = n.write_frames(tmp_path / "lights", light, "Light Frame", 10.0, **CARDS)
    done = CalibrationApplier(night.config()).calibrate_files([path], tmp_path / "done", flat="none")
    assert not done.is_error, done
    (image,) = (read_with_astropy(file)[0] for file in (tmp_path / "done").rglob("*.fits"))
    assert np.isnan(image[7]).all()
    assert np.abs(np.delete(image, 7, axis=0) - 249).max() < 25
    (line,) = said(caplog.messages)
    assert "1 row without" in line
