"""Overscan from the headers to calibrated frames: levels of each frame go, images are trimmed, headers say it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

SHAPE = (60, 80)
SKY_ADU = 50
LEVELS = {"Bias Frame": 1040, "Dark Frame": 1041, "Flat Frame": 1060, "Light Frame": 805}
VIGNETTING = 1 - 0.3 * (np.hypot(*np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]) ** 2 / 2)
SIGNALS: dict[str, Any] = {"Bias Frame": 0, "Dark Frame": 1, "Flat Frame": 28000 * VIGNETTING}
SIGNALS["Light Frame"] = SKY_ADU * VIGNETTING + 1

Sections = dict[str, tuple[int, int, int, int]]
"""Image and overscan as left, right, bottom, top, from 0, without the ends."""

PLACES: dict[str, tuple[tuple[int, int], Sections, dict[str, Any]]] = {
    "columns at the end": (
        (60, 112),
        {"image": (0, 80, 0, 60), "overscan": (80, 112, 0, 60)},
        {"BIASSEC": "[81:112,1:60]", "TRIMSEC": "[1:80,1:60]", "DATASEC": "[1:80,1:60]"},
    ),
    "columns at the start": (
        (60, 93),
        {"image": (13, 93, 0, 60), "overscan": (0, 13, 0, 60)},
        {"BIASSEC": "[1:13,*]", "TRIMSEC": "[14:93,*]"},
    ),
    "rows above": (
        (69, 80),
        {"image": (0, 80, 0, 60), "overscan": (0, 80, 60, 69)},
        {"BIASSEC": "[1:80, 61:69]", "TRIMSEC": "[1:80, 1:60]"},
    ),
    "rows below": (
        (83, 80),
        {"image": (0, 80, 23, 83), "overscan": (0, 80, 0, 23)},
        {"BIASSEC": "[1:80, 1:23]", "TRIMSEC": "[1:80, 24:83]"},
    ),
    "Lick": ((60, 112), {"image": (0, 80, 0, 60), "overscan": (80, 112, 0, 60)}, {"COVER": 32, "ROVER": 0}),
}


def raw(kind: str, frame: int, shape: tuple[int, int], sections: Sections, rng: np.random.Generator) -> NDArray[Any]:
    """Return a raw frame whose bias level is its own, and changes along the overscan's axis."""
    left, right, bottom, top = sections["image"]
    image = np.zeros(shape)
    image[bottom:top, left:right] = SIGNALS[kind]
    drift = 20 * np.sin(np.arange(shape[0]) / 9)[:, None] if shape[1] > SHAPE[1] else np.zeros((1, 1))
    level = LEVELS[kind] + 7 * frame + drift
    sigma = np.sqrt(3.0**2 + image / 4)
    return np.clip(np.rint(rng.normal(image + level, sigma)), 0, 65535).astype(np.uint16)


def write_night(root: Path, place: str, **more: Any) -> Night:
    """Write 9 bias, dark and flat frames and 2 lights."""
    shape, sections, cards = PLACES[place]
    rng = np.random.default_rng(11)
    night = Night(root)
    folders = {"Bias Frame": night.darks, "Dark Frame": night.darks, "Flat Frame": night.flats}
    for kind, level in LEVELS.items():
        stack = np.stack([raw(kind, i, shape, sections, rng) for i in range(2 if kind == "Light Frame" else 9)])
        exposure_s = 0.0 if level == 1040 else 15.0
        n.write_frames(folders.get(kind, root / "lights"), stack, kind, exposure_s, FILTER="V", **{**cards, **more})
    return night


@pytest.mark.parametrize("place", sorted(PLACES))
def test_masters_and_calibrated_lights_are_those_of_the_trimmed_image(tmp_path: Path, place: str) -> None:
    night = write_night(tmp_path, place)
    status = night.run()
    assert not status.is_error, status
    assert n.image_of(status, "bias").shape == SHAPE
    assert abs(float(np.mean(n.image_of(status, "bias")))) < 0.1
    (dark,) = (path for path in status.data["dark"] if "15.000s" in path)
    assert float(np.mean(read_with_astropy(dark)[0])) == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(n.image_of(status, "flat"), VIGNETTING / VIGNETTING.mean(), rtol=0.02)
    done = CalibrationApplier(night.config()).calibrate_files([tmp_path / "lights"], tmp_path / "done")
    assert not done.is_error, done
    for path in sorted((tmp_path / "done").glob("*.fits")):
        light, header = read_with_astropy(path)
        assert light.shape == SHAPE
        # The flat has the mean 1, so that the sky of a whole frame stays what it was.
        expected = SKY_ADU * VIGNETTING.mean()
        assert light[:12, :12].mean() == pytest.approx(expected, abs=1)
        assert light[24:36, 30:50].mean() == pytest.approx(expected, abs=1)
        assert header["CALSTAT"].startswith("OT")
        assert not {"BIASSEC", "TRIMSEC", "DATASEC", "COVER"} & set(header)


def test_without_overscan_frames_stay_whole(tmp_path: Path) -> None:
    status = write_night(tmp_path, "columns at the end").run(overscan="none")
    assert n.image_of(status, "bias").shape == (60, 112)
    assert float(np.mean(n.image_of(status, "bias"))) == pytest.approx(1040 + 28, abs=1)


@pytest.mark.parametrize("fit", ["none", "mean", "median", "polynomial", "spline"])
def test_sections_of_the_configuration_serve_cameras_that_write_none(tmp_path: Path, fit: str) -> None:
    night = write_night(tmp_path, "columns at the end", BIASSEC=None, TRIMSEC=None, DATASEC=None)
    given = {"section": "[81:112,:]", "trim": "[1:80,:]", "fit": fit}
    image = n.image_of(night.run(overscan=given), "bias")
    assert image.shape == SHAPE
    drift = 20 * np.sin(np.arange(60) / 9)
    left_over = {"none": 0, "spline": 0, "mean": drift - drift.mean(), "median": drift - np.median(drift)}
    if fit in left_over:
        np.testing.assert_allclose(image.mean(axis=1), np.broadcast_to(left_over[fit], 60), atol=2)


def test_the_masters_say_what_was_subtracted_and_trimmed(tmp_path: Path) -> None:
    night = write_night(tmp_path, "columns at the start", CRPIX1=40.5, CRPIX2=30.0)
    status = night.run()
    _, header = read_with_astropy(n.one_file(status, "bias"))
    assert header["CALSTAT"] == "OT"
    assert header["OVERSCAN"] == "Overscan [1:13,1:60], median of each row, fit none"
    assert header["TRIM"] == "Trimmed to [14:93,1:60]"
    assert (header["LTV1"], header["LTV2"], header["LTM1_1"]) == (-13, 0, 1)
    CalibrationApplier(night.config()).calibrate_files([tmp_path / "lights"], tmp_path / "done")
    _, light = read_with_astropy(sorted((tmp_path / "done").glob("*.fits"))[0])
    assert (light["CRPIX1"], light["CRPIX2"], light["LTV1"]) == (27.5, 30.0, -13)


@pytest.mark.parametrize("place", ["columns at the start", "columns at the end", "rows below"])
def test_a_star_of_a_trimmed_light_is_where_it_was_on_the_sky(tmp_path: Path, place: str) -> None:
    sky = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.8, "CRVAL2": -5.4, "CRPIX1": 40.25, "CRPIX2": 31.5,
        "CD1_1": -2.7e-4, "CD1_2": 1.1e-5, "CD2_1": 1.2e-5, "CD2_2": 2.7e-4,
        "CTYPE1A": "RA---TAN", "CTYPE2A": "DEC--TAN", "CRVAL1A": 10.0, "CRVAL2A": 20.0, "CRPIX1A": 5.0, "CRPIX2A": 7.0,
        "CDELT1A": -1e-3, "CDELT2A": 1e-3, "LTV1": 4.0, "LTM1_1": 0.5,
    }  # fmt: skip
    night = write_night(tmp_path, place)
    shape, sections, _ = PLACES[place]
    (left, _, bottom, _) = sections["image"]
    x, y = 30, 20  # of the image
    raw_light = np.full(shape, 900, np.uint16)
    raw_light[bottom + y, left + x] = 30000
    own = {**PLACES[place][2], "FILTER": "V", "CCDSEC": "[1:80,1:60]", "AMPSEC": "[1:80,1:60]"}
    (path,) = n.write_frames(tmp_path / "lights", raw_light[None], "Light Frame", 15.0, stem="star", **own)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(sky)
    assert not night.run(quality_control=False).is_error
    CalibrationApplier(night.config()).calibrate_files([tmp_path / "lights"], tmp_path / "done")
    light, header = read_with_astropy(tmp_path / "done" / "star_000_cal.fits")
    assert np.unravel_index(np.argmax(light), light.shape) == (y, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of astropy on dates
        for key in " A":
            before, after = WCS(fits.getheader(path), key=key), WCS(header, key=key)
            expected = before.pixel_to_world(left + x, bottom + y)
            assert after.pixel_to_world(x, y).separation(expected).arcsec < 1e-6
    # IRAF: logical pixel = LTM x physical pixel + LTV, both from 1; the physical pixel of the star stays.
    physical = (left + x + 1 - 4.0) / 0.5
    assert header["LTM1_1"] * physical + header["LTV1"] == x + 1
    assert header["LTM2_2"] * (bottom + y + 1) + header["LTV2"] == y + 1
    assert header["CALSTAT"] == "OTBDF"
    assert header["CCDSEC"] == "[1:80,1:60]"
    assert not {"BIASSEC", "TRIMSEC", "DATASEC"} & set(header)


def test_a_frame_whose_sections_do_not_fit_is_left_out_by_name(tmp_path: Path) -> None:
    night = write_night(tmp_path, "columns at the end")
    stack = np.full((1, 60, 112), 1040, np.uint16)
    (bad,) = n.write_frames(night.darks, stack, "Bias Frame", 0.0, stem="bad", BIASSEC="[112:81,1:60]")
    status = night.run()
    assert n.image_of(status, "bias").shape == SHAPE
    (line,) = [line for line in status.details["warnings"] if str(bad) in line]
    assert "BIASSEC is '[112:81,1:60]', which runs backwards" in line


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"section": "[1:x,:]"}, "overscan.section"),
        ({"source": "given"}, "overscan.source"),
        ({"section": "[81:112,:]", "fit": "line"}, "overscan.fit"),
        ("automatic", "overscan"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, given: Any, key: str) -> None:
    outcome = n.run_command(Night(tmp_path), overscan=given)
    assert outcome.exit_code == 2
    assert f"master_frames.{key}" in outcome.stderr


def test_another_overscan_makes_the_masters_again(tmp_path: Path) -> None:
    night = write_night(tmp_path, "columns at the end")
    first = n.image_of(night.run(), "bias")
    again = n.image_of(night.run(overscan={"fit": "median"}), "bias")
    assert not np.array_equal(first, again)
