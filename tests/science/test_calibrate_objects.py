"""`ostcal.calibrate` with `CCDData` and quantities: units, uncertainties, masks, and headers that do not fit."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty
from astropy.time import Time
from astropy.wcs import WCS

from ostcal import calibrate, load_master_dark
from ostcal.errors import InputError
from ostcal.fits.astropy_objects import header_of_meta
from support import night as n
from support.night import Night

RNG = np.random.default_rng(1)
SCIENCE = RNG.integers(1000, 60000, (11, 13), dtype=np.uint16)
DARK = RNG.normal(500, 3, (11, 13)).astype(np.float32)
FLAT = RNG.uniform(0.8, 1.2, (11, 13)).astype(np.float32)
EXPECTED = calibrate(SCIENCE, DARK, FLAT)


def light(**meta: Any) -> CCDData:
    return CCDData(SCIENCE, unit="adu", meta={"IMAGETYP": "Light Frame", "EXPTIME": 60.0, "GAIN": 100, **meta})


def master(data: Any, kind: str = "Master Dark", unit: str = "adu", **meta: Any) -> CCDData:
    return CCDData(data, unit=unit, meta={"IMAGETYP": kind, "EXPTIME": 60.0, "GAIN": 100, **meta})


def flat(**meta: Any) -> CCDData:
    return master(FLAT, "Master Flat", **{"unit": "", "EXPTIME": 2.0, **meta})


def test_ccddata_come_back_as_ccddata() -> None:
    wcs = WCS(naxis=2)
    science = light(OBJECT="M31")
    science.wcs = wcs
    result = calibrate(science, master(DARK), flat())
    assert isinstance(result, CCDData)
    assert (result.unit, result.meta["OBJECT"], result.meta["CALSTAT"]) == (u.adu, "M31", "BDF")
    assert result.wcs is wcs
    assert result.uncertainty is None
    np.testing.assert_array_equal(result.data, EXPECTED)
    assert "CALSTAT" not in science.meta


def test_a_bare_array_stays_one_whatever_its_masters_are() -> None:
    result = calibrate(SCIENCE, master(DARK), flat())
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, EXPECTED)


def test_quantities_come_back_as_quantities() -> None:
    result = calibrate(SCIENCE * u.adu, DARK * u.adu, FLAT, saturation_adu=60000 * u.adu)
    assert result.unit == u.adu
    np.testing.assert_array_equal(result.value, calibrate(SCIENCE, DARK, FLAT, saturation_adu=60000))


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_uncertainties_are_propagated(kind: Any) -> None:
    sigmas = {"science": 12.0, "dark": 3.0, "flat": 0.01}
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    science, dark, divisor = light(), master(DARK), flat()
    for image, sigma in zip((science, dark, divisor), sigmas.values(), strict=True):
        image.uncertainty = kind(np.full((11, 13), sigma**power))
    result = calibrate(science, dark, divisor)
    expected = np.sqrt((12.0**2 + 3.0**2) / FLAT**2 + (EXPECTED * 0.01 / FLAT) ** 2)
    assert isinstance(result.uncertainty, StdDevUncertainty)
    np.testing.assert_allclose(result.uncertainty.array, expected, rtol=1e-5)
    # a Monte Carlo of one pixel says the same
    draws = np.random.default_rng(5).normal(size=(3, 200_000))
    values = (SCIENCE[0, 0] + 12 * draws[0] - DARK[0, 0] - 3 * draws[1]) / (FLAT[0, 0] + 0.01 * draws[2])
    assert result.uncertainty.array[0, 0] == pytest.approx(values.std(), rel=0.01)


def test_masks_are_joined_and_pixels_without_a_value_masked() -> None:
    science, dark, divisor = light(), master(DARK), flat()
    science.mask, dark.mask = np.zeros((11, 13), bool), np.zeros((11, 13), bool)
    science.mask[0, 0] = dark.mask[1, 1] = True
    divisor.data = FLAT.copy()
    divisor.data[2, 2] = 0.0
    result = calibrate(science, dark, divisor)
    assert np.argwhere(result.mask).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert np.isnan(result.data[result.mask]).all()
    masked = calibrate(np.ma.MaskedArray(SCIENCE, science.mask), DARK, FLAT)
    assert np.argwhere(np.isnan(masked)).tolist() == [[0, 0]]


def test_a_header_of_fits_is_kept_with_its_comments() -> None:
    header = fits.Header([("FILTER", "R", "the filter"), ("CALSTAT", "OT", "trimmed")])
    result = calibrate(CCDData(SCIENCE, unit="adu", meta=header), DARK)
    assert (result.meta.comments["FILTER"], result.meta["CALSTAT"]) == ("the filter", "OTBD")


def test_a_bias_in_place_of_a_dark_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = calibrate(light(), master(DARK, "Master Bias", EXPTIME=0.0))
    assert "the dark current of the science frame stays in it" in caplog.text
    assert result.meta["CALSTAT"] == "B"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another unit": ({"dark": master(DARK, unit="electron")}, "dark: its unit is electron, that of science is adu"),
    "another exposure": ({"dark": master(DARK, EXPTIME=120.0)}, "dark: exposure 120 s against 60 s of science"),
    "another gain": ({"dark": master(DARK, GAIN=200)}, r"dark: gain 200\.0 against 100\.0 of science"),
    "another gain of the flat": ({"flat": flat(GAIN=0)}, r"flat: gain 0\.0 against 100\.0 of science"),
    "another temperature": (
        {"science": light(**{"CCD-TEMP": -10.0}), "dark": master(DARK, **{"CCD-TEMP": 5.0})},
        "dark: temperature 5 C against -10 C of science",
    ),
    "another filter": ({"science": light(FILTER="R"), "flat": flat(FILTER="V")}, "flat: filter V against R of science"),
    "another binning": ({"dark": master(DARK, XBINNING=2, YBINNING=2)}, "dark: binning 2x2 against 1x1 of science"),
    "another offset": (
        {"science": light(OFFSET=30), "dark": master(DARK, OFFSET=50)}, r"dark: offset 50\.0 against 30\.0 of science",
    ),
    "another readout mode": (
        {"science": light(READOUTM="Fast"), "dark": master(DARK, READOUTM="Low Noise")},
        "dark: readout mode Low Noise against Fast of science",
    ),
    "another camera": (
        {"science": light(INSTRUME="A"), "dark": master(DARK, INSTRUME="B")}, "dark: camera B against A of science",
    ),
    "another set point": (
        {"science": light(**{"SET-TEMP": -10.0}), "dark": master(DARK, **{"SET-TEMP": 0.0})},
        "dark: temperature 0 C against -10 C of science",
    ),
    "a camera that was turned": (
        {"science": light(ROTATANG=10.0), "flat": flat(ROTATANG=100.0)}, "flat: rotator angle 100 deg against 10 deg",
    ),
    "another telescope": (
        {"science": light(TELESCOP="RC 8"), "flat": flat(TELESCOP="Esprit 100")}, "flat: telescope Esprit 100 against",
    ),
    "a dark without its bias": ({"dark": master(DARK, CALSTAT="B")}, "dark: its bias was subtracted, that of"),
    "a flat as dark": ({"dark": master(FLAT, "Master Flat")}, "dark: is a flat by its header; give the master dark"),
    "a light as dark": ({"dark": light()}, r"dark: is a light by its header; .* or dark\.data to take it all the same"),
    "a dark as flat": ({"flat": master(FLAT, unit="")}, "flat: is a dark by its header; give the master flat"),
    "a bias as flat": ({"flat": master(FLAT, "Bias Frame")}, "flat: is a bias by its header"),
    "an exposure with its unit": (
        {"science": light(EXPTIME=60 * u.s), "dark": master(DARK, EXPTIME=0.5 * u.min)},
        "dark: exposure 30 s against 60 s of science",
    ),
    "a temperature with its unit": (
        {"science": light(**{"CCD-TEMP": -10.0}), "dark": master(DARK, **{"CCD-TEMP": 278.15 * u.K})},
        "dark: temperature 5 C against -10 C of science",
    ),
    "a gain with its unit": (
        {"science": light(GAIN=1.5 * u.electron / u.adu), "dark": master(DARK, GAIN=2 * u.electron / u.adu)},
        r"dark: gain 2\.0 against 1\.5 of science",
    ),
    "a dark once more": ({"science": light(CALSTAT="BD"), "dark": DARK}, "its header says that a dark was applied"),
    "a flat once more": ({"science": light(CALSTAT="BDF"), "flat": FLAT}, "its header says that a flat was applied"),
    "a flat in ADU": (
        {"flat": CCDData(FLAT * 20000, unit="adu")}, r"flat: its level is \d+(\.\d+)? adu, not 1",
    ),
    "another size": ({"dark": master(DARK[:5])}, r"dark is \(5, 13\), science is \(11, 13\)"),
    "saturation in seconds": ({"saturation_adu": 3 * u.s}, "saturation_adu is in s"),
    "an uncertainty of no kind": (
        {"science": CCDData(SCIENCE, unit="adu", uncertainty=UnknownUncertainty(np.ones((11, 13))))},
        "science: its uncertainty is a UnknownUncertainty",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case: str) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        calibrate(**({"science": light()} | arguments))
    assert "\n" not in str(caught.value)


def test_settings_that_a_master_does_not_record_are_said(caplog: pytest.LogCaptureFixture) -> None:
    science = light(OFFSET=30, FILTER="R", **{"CCD-TEMP": -10.0})
    with caplog.at_level(logging.WARNING):
        calibrate(science, master(DARK), flat(FILTER="r", OFFSET=30))
    assert [record.message for record in caplog.records] == [
        "dark: its header does not say offset, temperature: taken as that of science"
    ]


def test_a_dark_of_nearly_the_exposure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        calibrate(light(), master(DARK, EXPTIME=65.0))
    assert "dark: of 65 s for 60 s as it is: the dark current of -5 s stays in" in caplog.text


def test_flats_of_the_sky_are_taken() -> None:
    """Programs record them as lights."""
    result = calibrate(light(), master(DARK), flat(IMAGETYP="Light Frame"))
    np.testing.assert_array_equal(result.data, EXPECTED)


@pytest.mark.parametrize(
    "taken", [Time("2026-11-21T18:00:00"), datetime(2026, 11, 21, 19, tzinfo=timezone(timedelta(hours=1)))]
)
def test_times_of_a_meta_are_read(taken: Any) -> None:
    header = header_of_meta({"DATE-OBS": taken, "TIMES": [taken], "FOCALLEN": 0.5 * u.m, "EXPTIMES": [1, 2] * u.s})
    assert [str(header.value(keyword)) for keyword in header.keywords] in (
        ["2026-11-21T18:00:00"], ["2026-11-21T18:00:00.000"],
    )  # fmt: skip


def test_the_data_of_a_master_are_taken_all_the_same() -> None:
    np.testing.assert_array_equal(calibrate(light(), master(DARK, GAIN=200).data, FLAT).data, EXPECTED)


# --- exposures as quantities ---


def test_exposures_may_be_quantities(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 2.0)
    night.run_darks()
    plain = load_master_dark(2.0, night.config())
    np.testing.assert_array_equal(load_master_dark(2 * u.s, night.config()), plain)
    np.testing.assert_array_equal(load_master_dark(2000 * u.ms, night.config()), plain)
    for wrong in (2 * u.m, "long", None, [1, 2] * u.s):
        with pytest.raises(InputError, match=r"exposure_time=.* is no time"):
            load_master_dark(wrong, night.config())
