"""Calibrated frames: arithmetic, noise, flags and files, against the truth of a simulated sensor."""

from __future__ import annotations

import gzip
import math
import shutil
import subprocess
import tempfile
import tracemalloc
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal import CalibrationApplier, MasterFrameCreator, Status, calibrate
from ostcal.engine.calibrate_rows import Calibration, Repair, Term
from ostcal.errors import InputError
from ostcal.library.store import MasterStore
from ostcal.simulator.sensor import BayerMatrix, BiasPattern, CosmicRays, DarkCurrent, Dust, Exposure, SensorModel
from support import night as n
from support.fits_samples import read_with_astropy, tile_compressed, write_frame
from support.night import Night

GAIN_E_PER_ADU = 1.6
READ_NOISE_E = 5.0
SATURATED, NO_VALUE, INTERPOLATED = 64, 128, 256
NO_RAYS = CosmicRays(rate_per_cm2_s=0.0)
SENSOR = SensorModel(
    name="test",
    width=240,
    height=200,
    gain_e_per_adu=GAIN_E_PER_ADU,
    read_noise_e=READ_NOISE_E,
    bias_level_adu=600.0,
    full_well_e=200_000.0,
    dark=DarkCurrent(rate_e_per_s=2.0, hot_fraction=0.002, hot_median_e_per_s=200.0, hot_log_sigma=0.3),
    bias_pattern=BiasPattern(column_sigma_adu=2.0, row_sigma_adu=1.0, pixel_sigma_adu=1.0),
    prnu_sigma=0.01,
    dust=Dust(count=3),
    cosmic_rays=NO_RAYS,
)
LIGHT = Exposure(exposure_time_s=60.0, illumination_e_per_s=40.0)


# --- arrays ---


def test_the_arithmetic_is_science_minus_dark_over_flat() -> None:
    rng = np.random.default_rng(1)
    science = rng.integers(0, 65536, (11, 13), dtype=np.uint16)
    dark = rng.normal(500, 3, (11, 13)).astype(np.float32)
    flat = rng.uniform(0.5, 1.5, (11, 13)).astype(np.float32)
    result = calibrate(science, dark, flat)
    assert result.dtype == np.float32
    reference = (science.astype(np.float64) - dark) / flat
    np.testing.assert_allclose(result, reference, rtol=3e-7, atol=0.02)
    np.testing.assert_array_equal(calibrate(science), science.astype(np.float32))
    stack = calibrate(np.stack([science, science]), dark, flat)
    np.testing.assert_array_equal(stack[1], result)


def test_a_flat_without_light_gives_nan_and_never_an_infinity() -> None:
    flat = np.ones((20, 20), np.float32)
    flat[0, :3] = 0.0, np.nan, -1.0
    flat[1, 0] = 1e-38
    result = calibrate(np.full((20, 20), 60000.0), None, flat)
    assert np.isnan(result[0, :3]).all()
    assert np.isnan(result[1, 0]), "60000 / 1e-38 is beyond float32"
    assert np.isfinite(np.delete(result.ravel(), [0, 1, 2, 20])).all()


@given(
    science=st.floats(0, 65535), dark=st.floats(-100, 65535), flat=st.floats(0.01, 100), saturation=st.floats(1, 65535)
)
def test_a_saturated_sample_is_never_below_saturation(
    science: float, dark: float, flat: float, saturation: float
) -> None:
    (value,) = calibrate(
        np.array([[science]]), np.array([[dark]]), np.array([[flat]]), saturation_adu=saturation
    ).ravel()
    plain = calibrate(np.array([[science]]), np.array([[dark]]), np.array([[flat]])).item()
    if np.float32(science) >= saturation:
        assert value >= np.float32(saturation)
    else:
        assert value == plain


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (((4, 5), (5, 4), (4, 5)), r"dark is \(5, 4\), science is \(4, 5\)"),
        (((4, 5), (4, 5), (4, 6)), r"flat is \(4, 6\), science is \(4, 5\)"),
        (((4,), (4,), (4,)), "science has 1 axes"),
    ],
)
def test_arrays_of_wrong_sizes_are_refused(arrays: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibrate(*(np.ones(shape) for shape in arrays))


def test_a_flat_of_zeros_and_arrays_of_text_are_refused() -> None:
    with pytest.raises(InputError, match=r"100.0% of the flat is zero.*limit 1%"):
        calibrate(np.ones((4, 5)), None, np.zeros((4, 5)))
    with pytest.raises(InputError, match="science holds <U1, not real numbers"):
        calibrate(np.array([["a"]]))


# --- strips ---


@dataclass(frozen=True)
class Rows:
    """An array read by rows."""

    array: NDArray[Any]

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.array[start:stop].copy()


@pytest.mark.parametrize("step", [1, 2])
def test_strips_of_any_height_give_the_same_pixels(step: int) -> None:
    rng = np.random.default_rng(3)
    shape = (37, 23)
    flags = (rng.random(shape) < 0.2).astype(np.uint8)
    calibration = Calibration(
        science=Rows(rng.normal(5000, 50, shape).astype(np.float32)),
        height=shape[0],
        width=shape[1],
        dark=(Term(plane=Rows(rng.normal(500, 5, shape).astype(np.float32))),),
        flat=Term(plane=Rows(rng.uniform(0.0, 1.5, shape).astype(np.float32))),
        flags=(Rows(flags),),
        saturation_adu=5080.0,
        repair=Repair(bits=1, step=step),
    )
    whole = calibration.values(0, 37), calibration.dq(0, 37)
    for height in (1, 2, 5, 36):
        for read, reference in zip((calibration.values, calibration.dq), whole, strict=True):
            parts = [read(start, min(start + height, 37)) for start in range(0, 37, height)]
            np.testing.assert_array_equal(np.concatenate(parts), reference)


@pytest.mark.parametrize("step", [1, 2])
def test_a_hot_pixel_becomes_the_median_of_good_neighbours_of_its_colour(step: int) -> None:
    science = np.arange(81, dtype=np.float32).reshape(9, 9) ** 2
    flags = np.zeros((9, 9), np.uint8)
    flags[4, 4] = flags[4, 4 + step] = flags[0, 0] = flags[8, 2] = 1
    science[8, 2] = 60000  # saturated: what it shows is light, not heat
    values, dq = (
        read(0, 9)
        for calibration in [
            Calibration(
                science=Rows(science), height=9, width=9, flags=(Rows(flags),), saturation_adu=60000,
                repair=Repair(bits=1, step=step),
            )
        ]
        for read in (calibration.values, calibration.dq)
    )  # fmt: skip
    around = [
        science[4 + y, 4 + x] for y in (-step, 0, step) for x in (-step, 0, step) if (y, x) not in ((0, 0), (0, step))
    ]
    assert values[4, 4] == np.median(around)
    assert values[0, 0] == np.median([science[0, step], science[step, 0], science[step, step]])
    assert values[8, 2] == 60000
    assert dq[4, 4] == 1 | INTERPOLATED
    assert dq[8, 2] == 1 | SATURATED
    assert np.count_nonzero(values != science) == 3


# --- files: a night of a simulated sensor ---


@dataclass(frozen=True)
class Simulated:
    """A night of a simulated sensor: its frames and masters below a folder."""

    night: Night
    status: Status
    sensor: SensorModel

    def light(self, name: str = "light", exposure: Exposure = LIGHT, seed: int = 99, **cards: Any) -> Path:
        """Take a science frame."""
        frame = self.sensor.expose(exposure, np.random.default_rng(seed))
        own = {"EGAIN": GAIN_E_PER_ADU, "RDNOISE": READ_NOISE_E, "FILTER": "R", **cards}
        stack = frame[np.newaxis]
        folder = Path(tempfile.mkdtemp(dir=self.night.root, prefix="lights"))
        (path,) = n.write_frames(folder, stack, "Light Frame", exposure.exposure_time_s, stem=name, **own)
        return path

    def applier(self, **keys: Any) -> CalibrationApplier:
        return CalibrationApplier(self.night.config(**keys))


def simulated(root: Path, sensor: SensorModel, n_frames: int = 8, **keys: Any) -> Simulated:
    """Make the masters of a sensor: bias, darks of 60 s, flats."""
    rng = np.random.default_rng(5)
    night = Night(root)
    dark = Exposure(exposure_time_s=60.0)
    bayer = {"BAYERPAT": sensor.bayer.pattern} if sensor.bayer else {}
    n.write_bias(night, np.stack([sensor.expose(Exposure(exposure_time_s=0.0), rng) for _ in range(n_frames)]), **bayer)
    n.write_darks(night, 60.0, np.stack([sensor.expose(dark, rng) for _ in range(n_frames)]), **bayer)
    lit = Exposure(exposure_time_s=2.0, illumination_e_per_s=22_000.0)
    n.write_flats(night, 2.0, np.stack([sensor.expose(lit, rng) for _ in range(n_frames)]), FILTER="R", **bayer)
    status = MasterFrameCreator(
        night.config(rejection_method="none", extensions=True, **keys)
    ).create_all_master_frames()
    assert not status.is_error, status.details
    return Simulated(night=night, status=status, sensor=sensor)


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated(tmp_path_factory.mktemp("sky"), SENSOR)


def done(status: Status) -> Path:
    """Return the only calibrated file."""
    assert status.data["calibrated"], status.details["errors"]
    (path,) = status.data["calibrated"]
    return Path(path)


@pytest.mark.parametrize("sky_e_per_s", [1.0, 40.0])
def test_background_noise_is_what_photons_read_noise_and_masters_predict(
    sky: Simulated, tmp_path: Path, sky_e_per_s: float
) -> None:
    """Under a faint sky the 8-frame dark has 4 % of the noise, under a bright one photons have nearly all."""
    exposure = Exposure(exposure_time_s=60.0, illumination_e_per_s=sky_e_per_s)
    path = done(sky.applier().calibrate_file(sky.light("noise", exposure), tmp_path, uncertainty=True))
    values, sigma = read_with_astropy(path)[0], read_with_astropy(path, 1)[0]
    good = ~SENSOR.hot_pixels()
    level = float(np.mean(SENSOR.response(), dtype=np.float64))
    response = SENSOR.response() / level
    truth = sky_e_per_s * 60 * level / GAIN_E_PER_ADU
    residual = (values - truth)[good]
    # 47,910 pixels: a standard deviation is known to 0.3 %
    assert np.std(residual / sigma[good]) == pytest.approx(1, rel=0.015)
    # from the truth of the sensor alone
    dark_e = SENSOR.dark_current_e_per_s(-10.0) * 60
    unlit_e2 = dark_e + READ_NOISE_E**2 + GAIN_E_PER_ADU**2 / 12
    raw_e2 = sky_e_per_s * 60 * level * response + unlit_e2
    flat_relative2 = 1 / (8 * 44_000.0 * level * response)
    predicted2 = (raw_e2 + unlit_e2 / 8) / (response * GAIN_E_PER_ADU) ** 2 + truth**2 * flat_relative2
    assert np.std(residual) == pytest.approx(np.sqrt(np.mean(predicted2[good])), rel=0.015)
    assert np.median(sigma[good] ** 2 / predicted2[good]) == pytest.approx(1, rel=0.015)


def test_the_level_of_the_sky_is_the_truth(sky: Simulated, tmp_path: Path) -> None:
    values, header = read_with_astropy(done(sky.applier().calibrate_file(sky.light("level"), tmp_path)))
    level = float(np.mean(SENSOR.response(), dtype=np.float64))
    assert np.median(values) == pytest.approx(60 * 40 * level / GAIN_E_PER_ADU, rel=1e-3)
    assert values.dtype == np.dtype(">f4")
    assert (header["CALSTAT"], header["BUNIT"]) == ("BDF", "adu")


def silent_masters(sky: Simulated, tmp_path: Path) -> Path:
    """Copy the masters without what was measured of the camera."""
    folder = tmp_path / "silent"
    folder.mkdir()
    for path in {path for kind in ("dark", "flat", "bias") for path in sky.status.data[kind]}:
        with fits.open(path) as hdus:
            for card in ("EGAIN", "GAINMEAS", "RDNOISE", "RDNADU"):
                hdus[0].header.remove(card, ignore_missing=True)
            hdus.writeto(folder / Path(path).name)
    return folder


def test_read_noise_of_a_frame_without_any_header_comes_from_the_darks(sky: Simulated, tmp_path: Path) -> None:
    frame = sky.light("bare", RDNOISE=None)
    applier = CalibrationApplier({"master_frames": {"output_dir": str(silent_masters(sky, tmp_path))}})
    path = done(applier.calibrate_file(frame, tmp_path, uncertainty=True))
    with_header = done(sky.applier().calibrate_file(sky.light("full"), tmp_path, uncertainty=True))
    good = ~SENSOR.hot_pixels()
    measured, stated = (read_with_astropy(p, 1)[0][good].astype(np.float64) ** 2 for p in (path, with_header))
    assert np.mean(measured) == pytest.approx(np.mean(stated), rel=0.01)
    assert "scatter of the dark frames" in " ".join(map(str, read_with_astropy(path)[1]["HISTORY"]))


def test_an_uncertainty_without_a_gain_is_an_error_that_says_so(sky: Simulated, tmp_path: Path) -> None:
    applier = CalibrationApplier({"master_frames": {"output_dir": str(silent_masters(sky, tmp_path))}})
    status = applier.calibrate_file(sky.light("nogain", EGAIN=None), tmp_path / "o", uncertainty=True)
    assert status.is_error
    assert "EGAIN" in status.message
    assert not list((tmp_path / "o").iterdir()), "complete or absent"


def test_the_header_and_its_wcs_are_kept_card_by_card(sky: Simulated, tmp_path: Path) -> None:
    wcs = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.68471, "CRVAL2": 41.26875, "CRPIX1": 120.5,
        "CRPIX2": 100.5, "CD1_1": -2.1e-4, "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": 2.1e-4,
    }  # fmt: skip
    raw = sky.light("m31", OBJECT="M 31", HISTORY="taken through a gap")
    with fits.open(raw, mode="update") as hdus:
        hdus[0].header.update(wcs)
        hdus[0].header["HIERARCH ESO DET NAME"] = "long"
        hdus[0].header.add_comment("a comment")
    _, before = read_with_astropy(raw)
    values, after = read_with_astropy(done(sky.applier().calibrate_file(raw, tmp_path, dq=True, uncertainty=True)))
    made = {"BITPIX", "BZERO", "BSCALE", "EXTEND", "CHECKSUM", "DATASUM", "SIMPLE", "HISTORY", "COMMENT"}
    for card in before.cards:
        if card.keyword not in made:
            assert after[card.keyword] == card.value, card
    assert list(before["HISTORY"]) == list(after["HISTORY"])[: len(before["HISTORY"])]
    assert "a comment" in list(after["COMMENT"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # MJD-OBS is made of DATE-OBS
        sky_before, sky_after = (WCS(header).pixel_to_world(30, 40) for header in (before, after))
    assert sky_before.separation(sky_after).arcsec < 1e-9
    assert values.shape == (200, 240)


def test_names_and_digests_of_the_masters_are_in_the_header(sky: Simulated, tmp_path: Path) -> None:
    _, header = read_with_astropy(done(sky.applier().calibrate_file(sky.light("names"), tmp_path)))
    for prefix, kind in (("DARK", "dark"), ("FLAT", "flat")):
        names = {Path(path).stem: path for path in sky.status.data[kind]}
        _, master = read_with_astropy(names[header[f"{prefix}NAME"]])
        assert header[f"{prefix}ID"] == master["CALID"]
        assert header[f"{prefix}DIG"] == master["INPDIGST"]
    assert header["DARKNAME"].startswith("master_dark_60.000s")


def test_fits_masters_alone_give_the_same_pixels_as_the_store(sky: Simulated, tmp_path: Path) -> None:
    folder = tmp_path / "masters"
    folder.mkdir()
    for kind in ("dark", "flat", "bias"):
        for path in sky.status.data[kind]:
            shutil.copy(path, folder)
    frame = sky.light("both")
    config = {"master_frames": {"output_dir": str(folder)}}
    from_fits = done(CalibrationApplier(config).calibrate_file(frame, tmp_path / "a"))
    from_store = done(sky.applier().calibrate_file(frame, tmp_path / "b"))
    np.testing.assert_array_equal(read_with_astropy(from_fits)[0], read_with_astropy(from_store)[0])
    assert read_with_astropy(from_fits)[1]["DARKID"] == read_with_astropy(from_store)[1]["DARKID"]


@pytest.mark.parametrize("kind", ["dark", "flat"])
def test_a_flipped_bit_in_a_fits_master_is_named_and_an_edited_header_is_none(
    sky: Simulated, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "masters"
    folder.mkdir()
    for path in (path for each in ("dark", "flat", "bias") for path in sky.status.data[each]):
        shutil.copy(path, folder)
    changed = next(folder.glob("master_dark_60*" if kind == "dark" else "master_flat*"))
    frame = sky.light("flipped")
    applier = CalibrationApplier({"master_frames": {"output_dir": str(folder)}})
    fits.setval(changed, "OBSERVER", value="Anna")
    before = applier.calibrate_file(frame, tmp_path / "before")
    assert str(changed) not in " ".join(before.details["warnings"])
    with fits.open(changed) as hdus:
        start = hdus[0].fileinfo()["datLoc"]
    data = bytearray(changed.read_bytes())
    data[start + 5001] ^= 64
    changed.write_bytes(data)
    status = applier.calibrate_file(frame, tmp_path / "after")
    assert not np.array_equal(read_with_astropy(done(before))[0], read_with_astropy(done(status))[0], equal_nan=True)
    said = f"{changed}: primary image: its samples are not those that were written"
    assert [line for line in status.details["warnings"] if line.startswith(said)]
    for keyword in ("DATASUM", "CHECKSUM"):
        fits.delval(changed, keyword)
    after = applier.calibrate_file(frame, tmp_path / "again")
    assert str(changed) not in " ".join(after.details["warnings"])


def test_a_dark_of_another_exposure_is_scaled_and_said(sky: Simulated, tmp_path: Path) -> None:
    exposure = Exposure(exposure_time_s=30.0, illumination_e_per_s=40.0)
    status = sky.applier().calibrate_file(sky.light("short", exposure), tmp_path)
    assert status.is_warning
    assert "dark current is scaled" in " ".join(status.details["warnings"])
    values, header = read_with_astropy(done(status))
    level = float(np.mean(SENSOR.response(), dtype=np.float64))
    assert np.median(values) == pytest.approx(30 * 40 * level / GAIN_E_PER_ADU, rel=2e-3)
    assert (header["BIASSCAL"], header["DARKSCAL"]) == pytest.approx((0.5, 0.5), abs=1e-4)
    assert "dark current was scaled" in " ".join(map(str, header["HISTORY"]))
    assert header["CALSTAT"] == "BDF"


def test_saturated_stays_saturated(sky: Simulated, tmp_path: Path) -> None:
    """Whatever dark and flat do to it: in a bright corner of the flat, and under a hot pixel."""
    raw = sky.light("star")
    with fits.open(raw, mode="update") as hdus:
        frame = hdus[0].data
        frame[100:103, 100:103] = 65535
        frame[10, 10] = 65520
        frame[11, 11] = 65519
    path = done(sky.applier().calibrate_file(raw, tmp_path, dq=True, interpolate=True))
    values, header = read_with_astropy(path)
    dq, dq_header = read_with_astropy(path, 1)
    assert header["SATURATE"] == 65520
    assert (values[100:103, 100:103] >= 65520).all()
    assert values[10, 10] >= 65520
    assert (dq & SATURATED).sum() // SATURATED == 10
    assert dq_header["DQBIT6"] == SATURATED


def write_dq_master(source: Path, target: Path, dq: NDArray[np.uint8]) -> None:
    """Copy a FITS master and add a DQ extension."""
    with fits.open(source) as hdus:
        fits.HDUList([hdus[0].copy(), fits.ImageHDU(dq, name="DQ")]).writeto(target)


def test_flags_of_the_masters_are_carried_over_and_hot_pixels_replaced(sky: Simulated, tmp_path: Path) -> None:
    dark_path = next(path for path in sky.status.data["dark"] if "60.000s" in path)
    dq = (SENSOR.hot_pixels() * 1).astype(np.uint8)
    dq[5, 5], dq[6, 6] = 32, 2
    write_dq_master(Path(dark_path), tmp_path / "dark.fits", dq)
    options = {"dark": tmp_path / "dark.fits", "dq": True, "uncertainty": True}
    frame = sky.light("hot")
    plain = done(sky.applier().calibrate_file(frame, tmp_path / "plain", **options))
    mended = done(sky.applier().calibrate_file(frame, tmp_path / "mended", interpolate=True, **options))
    np.testing.assert_array_equal(read_with_astropy(plain, 2)[0], dq)
    flags = read_with_astropy(mended, 2)[0]
    hot = SENSOR.hot_pixels()
    assert (flags[hot] & INTERPOLATED).all()
    np.testing.assert_array_equal(flags & 0xFF, dq)
    before, after = read_with_astropy(plain)[0], read_with_astropy(mended)[0]
    np.testing.assert_array_equal(before[~hot], after[~hot])
    assert np.std(after[hot]) < 0.7 * np.std(before[hot])
    assert np.median(read_with_astropy(mended, 1)[0][hot]) < np.median(read_with_astropy(plain, 1)[0][hot])


def test_flags_of_stored_masters_are_those_of_their_dq_planes(sky: Simulated, tmp_path: Path) -> None:
    status = sky.applier().calibrate_file(sky.light("stored"), tmp_path, dq=True, interpolate=True)
    names = next(iter(status.details["frames"].values()))["masters"]
    store = MasterStore(sky.night.masters / "masters.zarr")
    expected = np.bitwise_or.reduce([store.open(name).array("dq") for name in names])
    flags, _ = read_with_astropy(done(status), 1)
    np.testing.assert_array_equal(flags & 0xFF, expected)
    found = SENSOR.hot_pixels() & ((expected & 1) != 0)
    assert np.count_nonzero(found) > 0.9 * np.count_nonzero(SENSOR.hot_pixels())
    assert (flags[found] & INTERPOLATED).all()


def test_bayer_data_stay_bayer(tmp_path: Path) -> None:
    """Each colour keeps its own level, and a hot pixel is replaced by its own colour."""
    sensor = SensorModel(
        name="colour", width=64, height=48, gain_e_per_adu=1.0, read_noise_e=3.0, bias_level_adu=400.0,
        full_well_e=60_000.0, dark=DarkCurrent(rate_e_per_s=0.1), bayer=BayerMatrix(pattern="RGGB"),
        cosmic_rays=NO_RAYS,
    )  # fmt: skip
    sky = simulated(tmp_path, sensor)
    frame = sky.light("colour", Exposure(exposure_time_s=60.0, illumination_e_per_s=200.0), BAYERPAT="RGGB")
    dark_path = next(path for path in sky.status.data["dark"] if "60.000s" in path)
    dq = np.zeros((48, 64), np.uint8)
    dq[20, 30] = 1  # red
    write_dq_master(Path(dark_path), tmp_path / "dark.fits", dq)
    path = done(sky.applier().calibrate_file(frame, dark=tmp_path / "dark.fits", interpolate=True, dq=True))
    values, header = read_with_astropy(path)
    assert header["BAYERPAT"] == "RGGB"
    # the flat is normalised for each colour, so that the light of each colour stays
    for colour, response in (("R", 0.5), ("G", 1.0), ("B", 0.65)):
        level = float(np.mean(sensor.response()[sensor.colour_mask(colour)], dtype=np.float64))
        assert level == pytest.approx(response * 0.933, rel=0.01)
        assert np.median(values[sensor.colour_mask(colour)]) == pytest.approx(60 * 200 * level, rel=0.01)
    assert values[20, 30] == pytest.approx(60 * 200 * 0.5 * 0.933, rel=0.03)
    assert read_with_astropy(path, 1)[0][20, 30] == 1 | INTERPOLATED


def test_a_few_dead_pixels_of_the_flat_become_nan_with_a_flag_and_a_warning(sky: Simulated, tmp_path: Path) -> None:
    (flat_path,) = sky.status.data["flat"]
    with fits.open(flat_path) as hdus:
        hdus[0].data[3, 4:7] = 0.0, np.nan, -0.5
        hdus[0].writeto(tmp_path / "flat.fits")
    frame = sky.light("dead")
    status = sky.applier().calibrate_file(frame, tmp_path / "a", flat=tmp_path / "flat.fits", dq=True)
    values, flags = (read_with_astropy(done(status), hdu)[0] for hdu in (0, 1))
    assert "flat.fits: 3 pixels are zero, negative or not finite and become NaN" in " ".join(status.details["warnings"])
    assert np.isnan(values[3, 4:7]).all()
    assert np.isnan(values).sum() == 3
    assert not np.isinf(values).any()
    assert (flags[3, 4:7] & NO_VALUE).all()
    assert np.count_nonzero(flags & NO_VALUE) == 3
    mended = sky.applier().calibrate_file(frame, tmp_path / "b", flat=tmp_path / "flat.fits", dq=True, interpolate=True)
    values, flags = (read_with_astropy(done(mended), hdu)[0] for hdu in (0, 1))
    assert np.isfinite(values).all()
    assert flags[3, 4] & INTERPOLATED
    assert not np.any(flags & NO_VALUE)


def test_a_flat_of_another_program_in_adu_is_brought_to_one(sky: Simulated, tmp_path: Path) -> None:
    (flat_path,) = sky.status.data["flat"]
    with fits.open(flat_path) as hdus:
        fits.PrimaryHDU((hdus[0].data * 23456.0).astype(np.float32)).writeto(tmp_path / "other.fits")
    frame = sky.light("other")
    ours = done(sky.applier().calibrate_file(frame, tmp_path / "a"))
    theirs = sky.applier().calibrate_file(frame, tmp_path / "b", flat=tmp_path / "other.fits")
    assert "divided by its mean 23456" in " ".join(theirs.details["warnings"])
    np.testing.assert_allclose(read_with_astropy(done(theirs))[0], read_with_astropy(ours)[0], rtol=1e-5)


def test_masters_on_a_scale_from_zero_to_one_are_refused(sky: Simulated, tmp_path: Path) -> None:
    fits.PrimaryHDU(np.full((200, 240), 0.01, np.float32)).writeto(tmp_path / "unit_dark.fits")
    status = sky.applier().calibrate_file(sky.light("unit"), tmp_path, dark=tmp_path / "unit_dark.fits", flat="none")
    assert "scale from 0 to 1" in status.message


@pytest.mark.parametrize("packing", ["gzip", "tiles"])
def test_compressed_frames_are_calibrated_too(sky: Simulated, tmp_path: Path, packing: str) -> None:
    raw = sky.light("packed")
    values, header = read_with_astropy(raw)
    if packing == "gzip":
        packed = tmp_path / "packed_000.fits.gz"
        packed.write_bytes(gzip.compress(raw.read_bytes()))
    else:
        cards = {
            k.replace("-", "_"): header[k] for k in ("EXPTIME", "GAIN", "OFFSET", "SET-TEMP", "FILTER", "IMAGETYP")
        }
        packed = tile_compressed(tmp_path / "packed_000.fits.fz", values, INSTRUME="Synthetic", **cards)
    result = done(sky.applier().calibrate_file(packed, tmp_path / "out"))
    assert result.name == "packed_000_cal.fits"
    plain = done(sky.applier().calibrate_file(raw, tmp_path / "plain"))
    np.testing.assert_array_equal(read_with_astropy(result)[0], read_with_astropy(plain)[0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [result.name]


def test_a_dark_without_bias_is_added_to_the_bias(sky: Simulated, tmp_path: Path) -> None:
    """Darks of other programs may have their bias subtracted (CALSTAT B)."""
    (bias_path,) = sky.status.data["bias"]
    dark_path = next(path for path in sky.status.data["dark"] if "60.000s" in path)
    bias, (dark, header) = read_with_astropy(bias_path)[0], read_with_astropy(dark_path)
    header["CALSTAT"] = "B"
    header.remove("CHECKSUM")
    fits.PrimaryHDU((dark - bias).astype(np.float32), header).writeto(tmp_path / "dark.fits")
    frame = sky.light("sub")
    ours = done(sky.applier().calibrate_file(frame, tmp_path / "a"))
    theirs = done(sky.applier().calibrate_file(frame, tmp_path / "b", dark=tmp_path / "dark.fits", bias=bias_path))
    np.testing.assert_allclose(read_with_astropy(theirs)[0], read_with_astropy(ours)[0], rtol=1e-5, atol=1e-3)


def test_uncertainty_says_which_masters_had_none(sky: Simulated, tmp_path: Path) -> None:
    dark_path = next(path for path in sky.status.data["dark"] if "60.000s" in path)
    image, header = read_with_astropy(dark_path)
    fits.PrimaryHDU(image, header).writeto(tmp_path / "bare_dark.fits")
    path = done(
        sky.applier().calibrate_file(sky.light("u"), tmp_path / "o", dark=tmp_path / "bare_dark.fits", uncertainty=True)
    )
    assert "bare_dark.fits has none of its own" in " ".join(map(str, read_with_astropy(path)[1]["HISTORY"]))
    assert math.isfinite(float(np.mean(read_with_astropy(path, 1)[0])))


def test_a_large_frame_is_calibrated_in_strips(tmp_path: Path) -> None:
    """16 MP: a plane of float32 is 64 MB, a strip with all its arrays 36 MB; all three planes are made."""
    shape = (3200, 5000)
    fits.PrimaryHDU(np.full(shape, 500, np.float32)).writeto(tmp_path / "dark.fits")
    fits.PrimaryHDU(np.full(shape, 1, np.float32)).writeto(tmp_path / "flat.fits")
    cards = {"EXPTIME": 1.0, "EGAIN": 1.0, "RDNOISE": 3.0}
    write_frame(tmp_path / "light.fits", np.full(shape, 2500, np.uint16), **cards)
    applier = CalibrationApplier({"master_frames": {"output_dir": str(tmp_path / "none")}, "compute": {"workers": 1}})
    options = {"dark": tmp_path / "dark.fits", "flat": tmp_path / "flat.fits", "uncertainty": True, "dq": True}
    tracemalloc.start()
    try:
        path = done(applier.calibrate_file(tmp_path / "light.fits", tmp_path / "out", **options))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 40e6
    assert read_with_astropy(path)[0][::400, ::500] == pytest.approx(2000)
    assert read_with_astropy(path, 1)[0][5, 5] == pytest.approx(math.sqrt(2000 + 9 + 1 / 12), rel=1e-6)


def test_fitsverify_finds_nothing_in_calibrated_frames(sky: Simulated, tmp_path: Path) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian: apt install fitsverify)")
    frame = sky.light("verified", HISTORY="a", OBJECT="M 31")
    path = done(sky.applier().calibrate_file(frame, tmp_path, uncertainty=True, dq=True, interpolate=True))
    run = subprocess.run([program, "-q", path], capture_output=True, text=True, check=False)
    assert "verification OK" in run.stdout, run.stdout


def test_equal_runs_write_equal_files(sky: Simulated, tmp_path: Path) -> None:
    frame = sky.light("equal")
    paths = [done(sky.applier().calibrate_file(frame, tmp_path / name, dq=True)) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


# --- the class ---


def test_many_frames_are_calibrated_alike_by_threads_and_processes(sky: Simulated, tmp_path: Path) -> None:
    frames = [sky.light(f"many{index}", seed=index) for index in range(3)]
    images = []
    for scheduler in ("threads", "processes"):
        applier = sky.applier(compute={"scheduler": scheduler, "workers": 2})
        status = applier.calibrate_files(frames, tmp_path / scheduler)
        assert status.is_success, status.details
        assert applier.get_status()["message"] == f"3 frames calibrated in {tmp_path / scheduler}"
        images.append([read_with_astropy(path)[0] for path in status.data["calibrated"]])
    np.testing.assert_array_equal(images[0], images[1])


def test_calibration_that_is_disabled_says_so(sky: Simulated, tmp_path: Path) -> None:
    status = sky.applier(enable_calibration=False).calibrate_file(sky.light("off"), tmp_path / "o")
    assert status.is_error
    assert "master_frames.enable_calibration is false" in status.message
    assert not (tmp_path / "o").exists()


def test_masters_can_be_found_without_calibrating(sky: Simulated) -> None:
    found = sky.applier().find_masters(sky.light("found"))
    assert found.dark is not None
    assert found.dark.description.startswith("master_dark_60.000s")
    assert found.flat is not None
    assert found.flat.key.filter_name == "R"
    assert found.bias is not None
    with pytest.raises(InputError, match="filter R against Ha"):
        sky.applier().find_masters(sky.light("lost", FILTER="Ha"))


def test_unknown_options_are_named(sky: Simulated) -> None:
    status = sky.applier().calibrate_file("x.fits", uncertainties=True)
    assert "uncertainties: no option of calibrating" in status.message
