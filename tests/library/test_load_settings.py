"""`load_master_*`: a setting that masters differ in is asked for; masters as `CCDData`; flats of other programs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from ostcal import Defect, load_master_bias, load_master_dark, load_master_flat
from ostcal.errors import InputError
from support import night as n
from support.night import Night

SETTINGS: dict[str, Any] = {
    "INSTRUME": "Demo", "GAIN": 100.0, "OFFSET": 30, "XBINNING": 1, "YBINNING": 1, "CCD-TEMP": -10.0,
    "READOUTM": "Fast", "EXPTIME": 60.0, "NCOMBINE": 20,
}  # fmt: skip


def write_master(folder: Path, name: str, level: float, kind: str = "Dark", width: int = 8, **cards: Any) -> None:
    folder.mkdir(exist_ok=True)
    header = fits.Header({"IMAGETYP": f"Master {kind}", **SETTINGS, **cards})
    if kind == "Flat":
        header["NORMTYPE"] = cards.get("NORMTYPE", "mean")
    fits.PrimaryHDU(np.full((6, width), level, np.float32), header).writeto(folder / f"{name}.fits")


def configuration(folder: Path) -> dict[str, Any]:
    return {"master_frames": {"output_dir": str(folder)}}


@pytest.mark.parametrize(
    ("cards", "keyword", "value"),
    [
        ({"GAIN": 200.0}, "gain", 200),
        ({"OFFSET": 50}, "offset", 50),
        ({"CCD-TEMP": 5.0}, "temperature_c", 5.0),
        ({"XBINNING": 2, "YBINNING": 2}, "binning", 2),
        ({"READOUTM": "Low Noise"}, "readout_mode", "Low Noise"),
        ({"INSTRUME": "Other"}, "camera", "Other"),
        ({"CAMERAID": "B-2"}, "camera_id", "B-2"),
        ({"width": 9}, "width", 9),
    ],
)
def test_a_setting_that_masters_differ_in_is_asked_for(
    tmp_path: Path, cards: dict[str, Any], keyword: str, value: Any
) -> None:
    first = {"CAMERAID": "A-1"} if "CAMERAID" in cards else {}
    write_master(tmp_path, "one", 500.0, **first)
    write_master(tmp_path, "two", 700.0, **cards)
    with pytest.raises(InputError, match=f"fit; say which: {keyword}="):
        load_master_dark(60.0, configuration(tmp_path))
    assert load_master_dark(60.0, configuration(tmp_path), **{keyword: value}).mean() == 700.0


def test_a_bias_of_much_another_temperature_is_asked_for(tmp_path: Path) -> None:
    """Its level hardly depends on the temperature: `bias_temperature_tolerance`, 20 C, decides."""
    write_master(tmp_path, "one", 500.0, "Bias", EXPTIME=0.0)
    write_master(tmp_path, "near", 500.0, "Bias", EXPTIME=0.0, **{"CCD-TEMP": 0.0})
    assert load_master_bias(configuration(tmp_path)).mean() == 500.0
    write_master(tmp_path, "far", 700.0, "Bias", EXPTIME=0.0, **{"CCD-TEMP": 20.0})
    with pytest.raises(InputError, match=r"temperatures -10, 0, 20 fit; say which: temperature_c="):
        load_master_bias(configuration(tmp_path))
    assert load_master_bias(configuration(tmp_path), temperature_c=20).mean() == 700.0


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"ROWORDER": "BOTTOM-UP"}, "masters of the row order BOTTOM-UP, TOP-DOWN fit; open the one that is meant"),
        ({"ROWORDER": "TOP-DOWN", "CALSTAT": "B"}, "masters with and without their bias fit; open the one"),
    ],
)
def test_what_no_keyword_names_is_said_too(tmp_path: Path, cards: dict[str, Any], words: str) -> None:
    write_master(tmp_path, "one", 500.0, ROWORDER="TOP-DOWN")
    write_master(tmp_path, "two", 700.0, **cards)
    with pytest.raises(InputError, match=words):
        load_master_dark(60.0, configuration(tmp_path))


def test_a_filter_is_known_by_its_spellings(tmp_path: Path) -> None:
    write_master(tmp_path, "one", 1.0, "Flat", FILTER="H-alpha")
    write_master(tmp_path, "two", 1.0, "Flat", FILTER="OIII")
    with pytest.raises(InputError, match=r"filters H-alpha, OIII fit; say which: filter="):
        load_master_flat(None, configuration(tmp_path))
    assert load_master_flat("Ha", configuration(tmp_path)).mean() == 1.0


@pytest.mark.parametrize("as_", ["array", "ccddata"])
def test_a_flat_of_another_program_is_normalised(tmp_path: Path, as_: Any, caplog: pytest.LogCaptureFixture) -> None:
    header = fits.Header({"IMAGETYP": "Master Flat", **SETTINGS, "FILTER": "R"})
    image = np.full((6, 8), 20000, np.float32)
    image[0, 0] = 22000
    fits.PrimaryHDU(image, header).writeto(tmp_path / "flat.fits")
    with caplog.at_level(logging.WARNING):
        flat = load_master_flat("R", configuration(tmp_path), as_=as_)
    assert "was made by another program and is divided by its mean" in caplog.text
    values = flat.data if as_ == "ccddata" else flat
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(1)
    assert values[0, 0] / values[1, 1] == pytest.approx(1.1)
    assert as_ == "array" or flat.unit == u.dimensionless_unscaled


def test_masters_are_loaded_as_ccddata(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    night.run()
    config = night.config()
    dark = load_master_dark(5.0, config, as_="ccddata", gain=100)
    assert isinstance(dark, CCDData)
    np.testing.assert_array_equal(dark.data, load_master_dark(5.0, config))
    assert (dark.unit, dark.meta["EXPTIME"]) == (u.adu, 5.0)
    assert np.median(dark.uncertainty.array) == pytest.approx(6 / np.sqrt(7), rel=0.2)
    np.testing.assert_array_equal(dark.mask, dark.flags & int(Defect(0xFF)) != 0)
    assert dark.n_used.max() == 7
    bias, flat = load_master_bias(config, as_="ccddata"), load_master_flat(config=config, as_="ccddata")
    assert (bias.unit, flat.unit) == (u.adu, u.dimensionless_unscaled)
    assert np.median(flat.uncertainty.array) < 0.01


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (lambda c: load_master_flat("R", c), "of filter R; filters that fit otherwise: V"),
        (lambda c: load_master_flat(None, c, gain=7), "has gain=7"),
        (lambda c: load_master_dark(60, c, gain=100), "no master dark of 60 s"),
    ],
)
def test_masters_that_failed_are_counted_where_no_other_fits(tmp_path: Path, load: Any, words: str) -> None:
    """Else an observer would take again what is there."""
    write_master(tmp_path, "v", 1.0, "Flat", FILTER="V")
    write_master(tmp_path, "r", 1.0, "Flat", FILTER="R", QCVERD="FAIL")
    write_master(tmp_path, "b", 1.0, "Flat", FILTER="B", QCVERD="FAIL", GAIN=7)
    write_master(tmp_path, "dark", 500.0, QCVERD="FAIL")
    write_master(tmp_path, "other_dark", 500.0, EXPTIME=300.0)
    with pytest.raises(InputError, match=words) as caught:
        load(configuration(tmp_path))
    assert str(caught.value).endswith(
        "; 1 that would fit failed quality control, left out (quality.use_failed takes them)"
    )
    load({**configuration(tmp_path), "quality": {"use_failed": True}})


def test_another_word_for_the_kind_is_refused(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for load in (lambda: load_master_dark(5.0, night.config(), as_="hdu"),  # type: ignore[call-overload]
                 lambda: load_master_bias(night.config(), as_="hdu"),  # type: ignore[call-overload]
                 lambda: load_master_flat("R", night.config(), as_="hdu")):  # type: ignore[call-overload]  # fmt: skip
        with pytest.raises(InputError, match="as_='hdu' is not allowed; write 'array' or 'ccddata'"):
            load()
