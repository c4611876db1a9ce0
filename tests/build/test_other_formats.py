"""Whole nights in other formats than FITS give the masters that FITS files of the same samples give."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from support import night as n
from support.fits_samples import read_with_astropy
from support.mosaics import Image, write_mosaics
from support.night import Night
from support.xisf_samples import XisfSample, write_xisf

HOWS = (
    {"codec": "zlib", "shuffled": True},
    {},
    {"codec": "lz4", "checksum": "sha-256"},
    {"codec": "zstd", "shuffled": True, "subblock": 333},
    {"checksum": "sha-1"},
    {"codec": "lz4hc"},
)
"""How the frames of a night are written, one after the other."""


def said_by(header: fits.Header) -> dict[str, str]:
    """Return the cards of a header as keywords of XISF."""
    return {
        key: f"'{value}'" if isinstance(value, str) else str(value)
        for key, value in header.items()
        if key not in ("SIMPLE", "EXTEND") and not key.startswith("NAXIS")
    }


def as_xisf(path: Path, number: int) -> Path:
    """Replace a FITS file by an XISF file of the same samples and keywords."""
    values, header = read_with_astropy(path)
    xisf = write_xisf(path.with_suffix(".xisf"), values, keywords=said_by(header), **HOWS[number % len(HOWS)])
    path.unlink()
    return xisf


@pytest.fixture
def two_nights(tmp_path: Path) -> tuple[Night, Night]:
    """Return a night of FITS files and the same night of XISF files."""
    fits = n.whole_night(tmp_path / "fits")
    xisf = Night(tmp_path / "xisf")
    shutil.copytree(fits.root, xisf.root)
    for number, path in enumerate(sorted(xisf.root.rglob("*.fits"))):
        as_xisf(path, number)
    return fits, xisf


def images(night: Night) -> dict[str, NDArray[np.float32]]:
    """Return the masters by name, without the time of the run."""
    return {path.name.rsplit("_", 2)[0]: read_with_astropy(path)[0] for path in night.masters.glob("*.fits")}


def test_a_night_of_xisf_gives_the_masters_of_fits(two_nights: tuple[Night, Night]) -> None:
    ours = []
    for night in two_nights:
        status = night.run()
        assert not status.is_error, status.message
        ours.append(images(night))
    assert ours[0].keys() == ours[1].keys()
    assert len(ours[0]) >= 4
    for name, image in ours[0].items():
        assert np.array_equal(image, ours[1][name]), name
    assert not list(two_nights[1].masters.glob(".unpacked*"))


def test_images_of_one_file_are_combined_each_as_those_of_fits(tmp_path: Path) -> None:
    images = [Image("im1", 1000), Image("im2", 1100)]
    results = []
    for name in ("fits", "xisf"):
        night = Night(tmp_path / name)
        write_mosaics(night.darks, "Dark", 5.0, images)
        if name == "xisf":
            for path in night.darks.glob("*.fits"):
                samples = [
                    XisfSample(
                        values=read_with_astropy(path, place)[0],
                        keywords=said_by(read_with_astropy(path, 0)[1]),
                        attributes={"id": image.name},
                        codec=("", "zstd")[place % 2],
                    )
                    for place, image in enumerate(images, 1)
                ]
                write_xisf(path.with_suffix(".xisf"), samples)
                path.unlink()
        assert not night.run_darks().is_error
        (master,) = night.masters.glob("*.fits")
        results.append([read_with_astropy(master, extension.name) for extension in images])
    for (ours, header), (theirs, other) in zip(*results, strict=True):
        assert np.array_equal(ours, theirs)
        assert header["NCOMBINE"] == other["NCOMBINE"]


def test_a_colour_filter_array_counts_as_a_bayer_pattern(tmp_path: Path) -> None:
    results = []
    for name in ("fits", "xisf"):
        night = Night(tmp_path / name)
        n.write_darks(night, 2.0)
        n.write_flats(night, 2.0, BAYERPAT="GRBG")
        for path in sorted(night.flats.glob("*.fits")) if name == "xisf" else ():
            values, header = read_with_astropy(path)
            del header["BAYERPAT"]
            array = '<ColorFilterArray pattern="GRBG" width="2" height="2"/>'
            write_xisf(path.with_suffix(".xisf"), values, keywords=said_by(header), inside=array, codec="lz4")
            path.unlink()
        status = night.run()
        assert not status.is_error, status.message
        results.append(read_with_astropy(n.one_file(status, "flat")))
    assert results[1][1]["BAYERPAT"] == "GRBG"
    assert np.array_equal(results[0][0], results[1][0])


def test_a_damaged_xisf_is_left_out_by_name_and_the_others_are_used(tmp_path: Path) -> None:
    night = Night(tmp_path)
    stack = n.write_bias(night)
    for number, path in enumerate(sorted(night.darks.rglob("*.fits"))):
        as_xisf(path, number)
    bad = night.darks / "bias" / "bias_002.xisf"
    bad.write_bytes(bad.read_bytes()[:-30])
    status = night.run_darks()
    assert status.is_warning
    assert any("bias_002.xisf: is cut short" in line for line in status.details["warnings"])
    kept = np.delete(stack, 2, axis=0)
    assert np.array_equal(n.image_of(status, "bias"), n.combined(kept).mean)


def test_a_light_in_xisf_is_calibrated_as_in_fits(two_nights: tuple[Night, Night]) -> None:
    results = []
    for night in two_nights:
        assert not night.run().is_error
        (light,) = n.write_frames(night.root, n.samples(1, 3000, seed=9), "Light Frame", 5.0, stem="m31")
        light = light if night is two_nights[0] else as_xisf(light, 2)
        options = ("--config", n.write_config(night), "--no-confirm", "--output-dir", night.root / "out")
        outcome = n.ostcal("calibrate", light, *options)
        assert outcome.exit_code == 0, outcome.text
        results.append(read_with_astropy(night.root / "out" / "m31_000_cal.fits")[0])
    assert np.array_equal(*results)


@pytest.mark.parametrize("of_lights", [False, True])
def test_integers_and_floats_from_0_to_1_have_one_scale(tmp_path: Path, of_lights: bool) -> None:
    night = Night(tmp_path)
    darks, (light,) = n.dark_frames(5.0), n.samples(1, 3000, seed=9)
    paths = n.write_frames(night.darks, darks, "Dark Frame", 5.0)
    science = n.write_frames(tmp_path / "lights", light[None], "Light Frame", 5.0, stem="m31")
    for path in science if of_lights else paths:
        values, header = read_with_astropy(path)
        said = {"bounds": "0:1"}
        small = values.astype(np.float32) / np.float32(65535)
        write_xisf(path.with_suffix(".xisf"), small, keywords=said_by(header), attributes=said, codec="zstd")
        path.unlink()
    assert not night.run_darks().is_error
    options = ("--config", n.write_config(night), "--no-confirm", "--flat", "none", "--output-dir", tmp_path / "out")
    outcome = n.ostcal("calibrate", tmp_path / "lights", *options)
    assert outcome.exit_code == 0, outcome.text
    image = read_with_astropy(tmp_path / "out" / "m31_000_cal.fits")[0]
    difference = np.abs(image - (light - n.combined(darks).mean))
    assert np.median(difference) < 0.01


def test_xisf_frames_are_imported_into_the_series_that_fits_frames_give(two_nights: tuple[Night, Night]) -> None:
    ours = []
    for night in two_nights:
        raw = night.root / "raw"
        raw.mkdir()
        night.darks.rename(raw / "darks")
        outcome = n.ostcal("import", raw, "--config", n.write_config(night))
        assert outcome.exit_code == 0, outcome.text
        shutil.rmtree(raw)
        ours.append({path.name: n.image_of(night.run_darks(), "bias") for path in night.darks.glob("*.zarr")})
    assert ours[0].keys() == ours[1].keys()
    for name, image in ours[0].items():
        assert np.array_equal(image, ours[1][name])


def test_a_folder_of_files_that_are_not_read_says_which(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.darks.mkdir()
    for name in ("a.jpg", "b.jpg", "c.ser", "d.TIF"):
        (night.darks / name).write_bytes(b"x")
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert "2 .jpg, 1 .ser, 1 .tif: files of kinds that are not read" in " ".join(outcome.text.split())
    (night.darks / "e.xisf").write_bytes(b"XISF0100")
    assert n.run_command(night).exit_code == 1
