"""`open_master`: one master as an object, from the store, FITS and XISF, and what is refused."""

from __future__ import annotations

import base64
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty

import ostcal
from ostcal import Defect
from ostcal.errors import FrameError, InputError, StorageError
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import SHAPE, Night

HOT = (4, 7)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night with masters in the store, in FITS files with all extensions, and in XISF files."""
    night = Night(tmp_path_factory.mktemp("night"))
    darks = n.dark_frames(5.0)
    darks[:, HOT[0], HOT[1]] += 3000
    n.write_bias(night)
    n.write_darks(night, 5.0, darks)
    n.write_flats(night, 2.0)
    assert not night.run(extensions=True, format="both").is_error
    return night


def only(night: Night, pattern: str) -> Path:
    (path,) = night.masters.glob(pattern)
    return path


def test_a_stored_master_has_its_planes_and_its_settings(made: Night) -> None:
    image, header = read_with_astropy(only(made, "master_dark_5.000s*.fits"))
    dark = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    np.testing.assert_array_equal(dark.data, image)
    assert (dark.kind, dark.exposure, dark.n_frames) == ("dark", 5.0 * u.s, 7)
    given = {name: dark.settings[name] for name in ("camera", "gain", "offset", "temperature_c", "width")}
    assert given == {"camera": "Synthetic", "gain": 100, "offset": 30, "temperature_c": -10.0, "width": SHAPE[1]}
    assert dark.header["CALID"] == header["CALID"]
    assert dark.unit == u.adu
    assert dark.quality.verdict in ("pass", "warn", "fail")
    assert {one.check for one in dark.quality.findings} > {"mixture"}
    with fits.open(only(made, "master_dark_5.000s*.fits")) as hdus:
        np.testing.assert_array_equal(dark.uncertainty, hdus["UNCERT"].data)
        np.testing.assert_array_equal(dark.n_used, hdus["NUSED"].data)
        np.testing.assert_array_equal(dark.mask, hdus["DQ"].data)
    assert dark.mask is not None
    assert (dark.mask & Defect.HOT != 0)[HOT]


@pytest.mark.parametrize("ending", ["fits", "xisf"])
def test_a_file_has_what_the_store_has(made: Night, ending: str) -> None:
    stored = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    of_file = ostcal.open_master(str(only(made, f"master_dark_5.000s*.{ending}")))
    assert (of_file.kind, of_file.exposure, of_file.n_frames) == (stored.kind, stored.exposure, stored.n_frames)
    assert of_file.settings == stored.settings
    assert of_file.quality.verdict == stored.quality.verdict
    for name in ("data", "uncertainty", "mask", "n_used"):
        one, other = getattr(of_file, name), getattr(stored, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)


def test_a_file_without_extensions_has_no_other_planes(made: Night, tmp_path: Path) -> None:
    image, header = read_with_astropy(only(made, "master_bias*.fits"))
    fits.PrimaryHDU(image, header).writeto(tmp_path / "bias.fits")
    bias = ostcal.open_master(tmp_path / "bias.fits")
    assert (bias.uncertainty, bias.mask, bias.n_used) == (None, None, None)
    ccd = bias.to_ccddata()
    assert (ccd.uncertainty, ccd.flags) == (None, None)
    assert not ccd.mask.any()


def test_scaled_masters_are_in_adu(made: Night, tmp_path: Path) -> None:
    night = Night(tmp_path)
    for folder in ("darks", "flats"):
        shutil.copytree(made.root / folder, tmp_path / folder)
    night.run_darks(extensions=True, flavour="pixinsight")
    stored = ostcal.open_master(only(night, "masters.zarr/master_dark_5.000s*"))
    scaled = only(night, "MasterDark_5.000s*.fits")
    assert fits.getdata(scaled).max() < 1
    dark = ostcal.open_master(scaled)
    np.testing.assert_allclose(dark.data, stored.data, rtol=1e-6)
    np.testing.assert_allclose(dark.uncertainty, stored.uncertainty, rtol=1e-6)
    ccd = dark.to_ccddata()
    assert ccd.unit == u.adu
    ccd.write(tmp_path / "again.fits")
    np.testing.assert_allclose(ostcal.open_master(tmp_path / "again.fits").data, stored.data, rtol=1e-6)


def test_a_master_becomes_ccddata(made: Night) -> None:
    dark = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    ccd = dark.to_ccddata()
    assert isinstance(ccd, CCDData)
    assert ccd.unit == u.adu
    np.testing.assert_array_equal(ccd.data, dark.data)
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(ccd.uncertainty.array, dark.uncertainty)
    np.testing.assert_array_equal(ccd.flags, dark.mask)
    np.testing.assert_array_equal(ccd.n_used, dark.n_used)
    assert (ccd.meta["EXPTIME"], ccd.meta["GAIN"]) == (5.0, 100)
    assert ccd.mask[HOT]
    assert not dark.to_ccddata(mask_bits=Defect.NO_DATA).mask.any()
    ccd.data[...] = 0  # an array of its own
    assert dark.data.min() > 900
    flat = ostcal.open_master(only(made, "masters.zarr/master_flat*")).to_ccddata()
    assert flat.unit == u.dimensionless_unscaled
    assert np.median(flat.data) == pytest.approx(1, abs=0.1)


def test_ccddata_of_masters_calibrates_a_light(made: Night) -> None:
    dark, flat = (ostcal.open_master(only(made, f"masters.zarr/master_{k}*")).to_ccddata() for k in ("dark_5", "flat"))
    light = CCDData(dark.data + 500 * flat.data, unit="adu", meta={"EXPTIME": 5.0, "GAIN": 100, "OFFSET": 30})
    calibrated = ostcal.calibrate(light, dark, flat)
    assert np.nanmedian(calibrated.data) == pytest.approx(500, rel=1e-4)
    assert calibrated.mask[HOT]
    light.meta["GAIN"] = 200
    with pytest.raises(InputError, match="gain"):
        ostcal.calibrate(light, dark, flat)


def test_planes_are_read_when_they_are_asked_for(made: Night, tmp_path: Path) -> None:
    """The image is damaged, which opening and asking for other things does not notice."""
    source = only(made, "masters.zarr/master_dark_5.000s*")
    copy = tmp_path / "masters.zarr" / source.name
    shutil.copytree(only(made, "masters.zarr"), tmp_path / "masters.zarr")
    for chunk in (copy / "master").glob("c.*"):
        chunk.write_bytes(b"\0" * 100)
    dark = ostcal.open_master(copy)
    assert dark.settings["gain"] == 100
    assert dark.n_used is not None
    assert dark.n_used.max() == 7
    with pytest.raises(StorageError, match="rows of a master are damaged"):
        _ = dark.data


def test_arrays_of_a_master_cannot_be_changed_by_accident(made: Night) -> None:
    dark = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    for name in ("data", "uncertainty", "mask", "n_used"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(dark, name)[0, 0] = 1
    assert dark.data is dark.data


# ---- displays ----


def test_a_master_is_shown_in_one_line(made: Night) -> None:
    dark = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    assert repr(dark) == (f"<Master dark, 5 s, gain 100, -10 C, {SHAPE[1]} x {SHAPE[0]}, {dark.verdict}: {dark.name}>")
    assert repr(dark.quality).startswith(f"<Quality {dark.verdict}, ")


def test_a_notebook_shows_a_picture_and_the_settings(made: Night) -> None:
    dark = ostcal.open_master(only(made, "masters.zarr/master_dark_5.000s*"))
    page = dark._repr_html_()
    start = page.index("data:image/png;base64,") + len("data:image/png;base64,")
    png = base64.b64decode(page[start : page.index('"', start)])
    assert struct.unpack(">II", png[16:24]) == (SHAPE[1], SHAPE[0])
    for text in ("exposure", "5 s", "gain", "100", "-10 C", dark.name):
        assert text in page
    assert len(page) < 200_000


def test_texts_of_headers_are_escaped(made: Night, tmp_path: Path) -> None:
    image, header = read_with_astropy(only(made, "master_bias*.fits"))
    header["INSTRUME"] = "<script>alert(1)</script>"
    fits.PrimaryHDU(image, header).writeto(tmp_path / "bias.fits")
    page = ostcal.open_master(tmp_path / "bias.fits")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


# ---- what is refused ----


def test_what_names_no_master_is_one_line(made: Night, tmp_path: Path) -> None:
    (tmp_path / "empty.fits").write_bytes(b"")
    raw = next((made.darks / "exp_5.000s").glob("*.fits"))
    cases: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "absent.fits", InputError, r"absent\.fits: there is no such file"),
        (tmp_path / "empty.fits", FrameError, r"empty\.fits"),
        (raw, InputError, "is a dark frame, not a master"),
        (made.masters, InputError, r"is a store of masters, not one of them; open .*masters\.zarr/NAME"),
        (made.masters / "masters.zarr", InputError, "is a store of masters"),
        (made.masters / "masters.zarr" / "master_dark_7", InputError, "there is no such master; there are: master_"),
        (made.darks, InputError, "is a folder, not a master"),
        (5, InputError, "path=5 is no path"),
    ]
    for path, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            ostcal.open_master(path)
        assert "\n" not in str(caught.value)


def test_an_extension_that_is_not_there_is_named(made: Night) -> None:
    with pytest.raises(InputError, match="has no master in an extension im1"):
        ostcal.open_master(only(made, "master_bias*.fits"), extension="im1")
