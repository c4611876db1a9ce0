"""Our masters in other programs, and real frames of other people: the same calibrated pixels."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier, MasterFrameCreator, Status
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

SHAPE = (96, 128)
SATURATION_ADU = 65520


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night with masters of 10 s darks and flats, and one science frame ``light_000.fits`` with a star."""
    night = Night(tmp_path_factory.mktemp("peers"))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    shade = 1 - 0.3 * ((y / SHAPE[0] - 0.5) ** 2 + (x / SHAPE[1] - 0.5) ** 2)
    dark = 700 + 3 * np.sin(x)
    n.write_bias(night, n.samples(5, np.full(SHAPE, 600.0), seed=20, shape=SHAPE))
    n.write_darks(night, 10.0, n.samples(5, dark, seed=21, shape=SHAPE))
    n.write_flats(night, 10.0, n.samples(5, dark + 22000 * shade, noise=90, seed=22, shape=SHAPE), FILTER="L")
    star = 30000 * np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 8)
    light = n.samples(2, dark + (900 + star) * shade, noise=25, seed=23, shape=SHAPE)
    n.write_frames(night.root / "lights", light, "Light Frame", 10.0, FILTER="L")
    status = night.run()
    assert not status.is_error, status.details
    return night


def master(night: Night, start: str) -> Path:
    (path,) = night.masters.glob(f"{start}*.fits")
    return path


def ours(night: Night, output: Path) -> NDArray[np.float32]:
    status = CalibrationApplier(night.config()).calibrate_file(night.root / "lights" / "light_000.fits", output)
    assert status.is_success, status.details
    return read_with_astropy(status.data["calibrated"][0])[0]


def test_ccdproc_gives_our_pixels_with_our_masters(sky: Night, tmp_path: Path) -> None:
    ccdproc = pytest.importorskip("ccdproc", reason="ccdproc is not installed (pip install ccdproc)")
    units = pytest.importorskip("astropy.units")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of astropy and ccdproc on headers are theirs
        light = ccdproc.CCDData.read(sky.root / "lights" / "light_000.fits", unit="adu")
        dark = ccdproc.CCDData.read(master(sky, "master_dark_10.000s"))
        flat = ccdproc.CCDData.read(master(sky, "master_flat"))
        assert dark.unit == units.adu
        subtracted = ccdproc.subtract_dark(light, dark, exposure_time="EXPTIME", exposure_unit=units.s, scale=False)
        theirs = ccdproc.flat_correct(subtracted, flat, norm_value=1.0)
    np.testing.assert_allclose(ours(sky, tmp_path), theirs.data, rtol=1e-5, atol=1e-3)


def test_siril_gives_our_pixels_with_our_masters(sky: Night, tmp_path: Path) -> None:
    """Siril divides the flat by its own mean, and 16-bit numbers by 65535: one factor for all pixels.

    Siril 1.0 replaces pixels that are 3 sigma above the others of the dark, asked or not: a few are left out here.
    """
    theirs, _ = read_with_astropy(siril_calibrated(sky, tmp_path))
    theirs = theirs.reshape(SHAPE).astype(np.float64)
    values = ours(sky, tmp_path / "ours").astype(np.float64)
    factor = np.median(values / theirs)
    replaced = ~np.isclose(theirs * factor, values, rtol=1e-5, atol=65535 * 1e-7)
    dark, _ = read_with_astropy(master(sky, "master_dark_10.000s"))
    assert np.mean(replaced) < 0.002
    assert dark[replaced].min() > np.quantile(dark, 0.99)
    assert factor == pytest.approx(65535, rel=0.05), "the level of the flat is within a few percent of 1"


def siril_calibrated(night: Night, folder: Path) -> Path:
    program = shutil.which("siril-cli")
    if program is None:
        pytest.skip("siril-cli is not installed (Debian: apt install siril)")
    work = folder / "work"
    work.mkdir()
    shutil.copy(master(night, "master_dark_10.000s"), work / "dark.fits")
    shutil.copy(master(night, "master_flat"), work / "flat.fits")
    (folder / "calibrate.ssf").write_text(
        "requires 1.0.0\n"
        "setext fits\n"
        "set32bits\n"
        f'cd "{night.root / "lights"}"\n'
        f'link light_ "-out={work}"\n'
        f'cd "{work}"\n'
        "preprocess light_ -dark=dark -flat=flat\n"
    )
    home = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")}
    run = subprocess.run(
        [program, "-s", str(folder / "calibrate.ssf")],
        env={**os.environ, **home},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    results = sorted(work.glob("pp_light_*.fits"))
    assert results, run.stdout[-2000:] + run.stderr[-2000:]
    return results[0]


# --- real frames ---


def real(folder: Path, masters: Path, **keys: Any) -> tuple[CalibrationApplier, Status]:
    """Make masters of a folder of real frames."""
    config = {
        "dark_capture": {"output_dir": str(folder)},
        "flat_capture": {"output_dir": str(folder)},
        "master_frames": {"output_dir": str(masters), **keys},
    }
    return CalibrationApplier(config), MasterFrameCreator(config).create_all_master_frames()


@pytest.mark.parametrize(
    ("name", "method"), [("sci-neon-1200", "median"), ("sci-hg-240", "none")], ids=["median", "mean"]
)
def test_real_science_minus_dark_is_what_other_people_got(
    shared_data: Path, tmp_path: Path, name: str, method: str
) -> None:
    """Their float64 images are ours to the rounding of float32; they took the median, or the mean, of five darks."""
    applier, _ = real(shared_data / "st402" / "raw", tmp_path / "masters", rejection_method=method)
    frame = shared_data / "st402" / "raw" / f"L2-{name}.00000000.FIT"
    status = applier.calibrate_file(frame, tmp_path / "out", flat="none")
    assert status.data["calibrated"], status.details["errors"]
    values, header = read_with_astropy(status.data["calibrated"][0])
    theirs, _ = read_with_astropy(shared_data / "st402" / "others_masters" / f"d-L2-{name}.00000000.fits")
    assert header["CALSTAT"] == "BD"
    kept = values < header["SATURATE"]
    np.testing.assert_allclose(values[kept], theirs[kept], rtol=1e-6, atol=5e-3)
    assert np.mean(kept) > 0.99


def test_the_noise_of_a_real_background_is_what_its_uncertainty_says(shared_data: Path, tmp_path: Path) -> None:
    """Dark frame against the masters of the others: read noise, dark current and the noise of the master dark."""
    raw = shared_data / "arcsat"
    darks = tmp_path / "darks"
    darks.mkdir()
    paths = sorted((raw / "dark_60s").iterdir())
    for path in [*paths[1:], *(raw / "bias").iterdir()]:
        shutil.copy(path, darks)
    applier, made = real(darks, tmp_path / "masters", rejection_method="none")
    assert made.data["dark"], made.details
    frame = tmp_path / "frame.fits"
    image, header = read_with_astropy(paths[0])
    write_frame(frame, image, EGAIN=1.35, **{key: header[key] for key in ("EXPTIME", "INSTRUME")})
    status = applier.calibrate_file(frame, tmp_path / "out", flat="none", uncertainty=True)
    assert status.data["calibrated"], status.details["errors"]
    path = status.data["calibrated"][0]
    values, sigma = (read_with_astropy(path, hdu)[0].astype(np.float64) for hdu in (0, 1))
    # cosmic rays and the scatter of hot pixels are no noise: the width of the middle of the distribution
    ratio = (values - np.median(values)) / sigma
    width = 1.4826 * np.median(np.abs(ratio))
    assert width == pytest.approx(1, rel=0.05)


def test_the_noise_of_a_real_lit_frame_is_what_its_uncertainty_says(shared_data: Path, tmp_path: Path) -> None:
    """A flat as the science frame, calibrated with masters of the others: nearly all its noise is that of photons.

    Neighbouring pixels are compared, so that the slope of the twilight sky does not count. The master flat of four
    frames has a quarter of the variance of one, so that leaving it out would be seen (11 %).
    """
    raw, frames = shared_data / "arcsat", tmp_path / "frames"
    frames.mkdir()
    flats = sorted((raw / "flat_z").iterdir())
    for path in [*flats[1:], *(raw / "bias").iterdir(), *(raw / "dark_60s").iterdir()]:
        shutil.copy(path, frames)
    applier, made = real(frames, tmp_path / "masters", rejection_method="none")
    assert made.data["flat"], made.details
    image, header = read_with_astropy(flats[0])
    keys = ("EXPTIME", "INSTRUME", "FILTER", "CCD-TEMP")
    cards = {key.replace("-", "_"): header[key] for key in keys if key in header}
    frame = write_frame(tmp_path / "sky.fits", image, EGAIN=1.35, **cards)  # 1.35: README of the frames
    status = applier.calibrate_file(frame, tmp_path / "out", uncertainty=True, allow_failed=True)
    assert status.data["calibrated"], status.details["errors"]
    path = status.data["calibrated"][0]
    values, sigma = (read_with_astropy(path, hdu)[0].astype(np.float64) for hdu in (0, 1))
    middle = (slice(200, 824), slice(200, 824))
    pair = (values[:, 1:] - values[:, :-1])[middle] / np.hypot(sigma[:, 1:], sigma[:, :-1])[middle]
    width = 1.4826 * np.nanmedian(np.abs(pair - np.nanmedian(pair)))
    assert width == pytest.approx(1, rel=0.05)
