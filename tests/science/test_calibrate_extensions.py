"""Science frames of several images: each is calibrated with the masters of its own extension."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from support import night as n
from support.mosaics import Image, hdu_of, write_mosaic, write_mosaics
from support.night import Night, Outcome

AMPLIFIERS = [Image(f"im{number}", 1000 + 50 * number, (20 + number, 28)) for number in range(1, 5)]
SKY_ADU = 490


@pytest.fixture
def night(tmp_path: Path) -> Night:
    night = Night(tmp_path)
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS, seed=1)
    write_mosaics(night.darks, "Dark", 10.0, raised(10), seed=2)
    write_mosaics(night.flats, "Flat", 2.0, raised(20000), noise=70.0, seed=3)
    night.run(quality_control=False)
    return night


def raised(adu: float) -> list[Image]:
    return [replace(image, level=image.level + adu) for image in AMPLIFIERS]


def write_lights(night: Night, images: list[Image] | None = None, *, packed: bool = False) -> None:
    own = [replace(image, cards={"CRVAL1": 10.0 * place}) for place, image in enumerate(images or raised(10 + SKY_ADU))]
    write_mosaics(night.root / "lights", "Light", 10.0, own, n=2, seed=4, packed=packed, OBJECT="M 31")


def calibrate(night: Night, *options: str) -> Outcome:
    config = n.write_config(night)
    return n.ostcal("calibrate", night.root / "lights", "--config", config, "--no-confirm", *options)


@pytest.mark.parametrize("packing", ["none", "gzip", "fz"])
def test_a_light_keeps_all_its_images(night: Night, packing: str) -> None:
    write_lights(night, packed=packing == "fz")
    if packing == "gzip":
        for path in (night.root / "lights").glob("*.fits"):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    outcome = calibrate(night)
    assert outcome.exit_code == 0, outcome.text
    paths = sorted((night.root / "calibrated").glob("*.fits"))
    assert [path.name for path in paths] == ["light_4_000_cal.fits", "light_4_001_cal.fits"]
    for path in paths:
        with fits.open(path, checksum=True) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "im1", "im2", "im3", "im4"]
            assert hdus[0].data is None
            assert hdus[0].header["OBJECT"] == "M 31"
            assert hdus[0].header["CALSTAT"] == "BDF"
            for place, image in enumerate(AMPLIFIERS):
                hdu = hdus[place + 1]
                assert hdu.data.shape == image.shape
                assert np.median(hdu.data) == pytest.approx(SKY_ADU, abs=4)
                assert hdu.header["CRVAL1"] == 10.0 * place
                assert f"_im{place + 1}_" in hdu.header["FLATNAME"].lower()


def test_each_image_has_its_uncertainty_and_flags(night: Night) -> None:
    write_lights(night)
    for path in (night.root / "lights").glob("*.fits"):
        fits.setval(path, "EGAIN", value=1.5)
    outcome = calibrate(night, "--uncertainty", "--dq")
    assert outcome.exit_code == 0, outcome.text
    with fits.open(night.root / "calibrated" / "light_4_000_cal.fits") as hdus:
        names = [hdu.name for hdu in hdus]
        assert names[1:5] == [f"im{k}" for k in range(1, 5)]
        assert names[5:] == [f"im{k}_{what}" for k in range(1, 5) for what in ("UNCERT", "DQ")]


def test_masters_of_fits_files_serve_without_their_store(night: Night) -> None:
    shutil.rmtree(night.masters / "masters.zarr")
    write_lights(night)
    outcome = calibrate(night)
    assert outcome.exit_code == 0, outcome.text
    with fits.open(night.root / "calibrated" / "light_4_000_cal.fits") as hdus:
        assert [float(np.median(hdu.data)) for hdu in hdus[1:]] == pytest.approx([SKY_ADU] * 4, abs=4)


def test_masters_may_be_named_by_file(night: Night) -> None:
    write_lights(night)
    (dark,) = night.masters.glob("master_dark_10*.fits")
    (flat,) = night.masters.glob("master_flat*.fits")
    outcome = calibrate(night, "--dark", str(dark), "--flat", flat.stem)
    assert outcome.exit_code == 0, outcome.text
    outcome = calibrate(night, "--dark", str(dark), "--flat", "none", "--overwrite")
    assert outcome.exit_code == 0, outcome.text


def test_a_light_with_an_image_that_no_master_fits_is_refused_whole(night: Night) -> None:
    write_lights(night, [*raised(500), Image("im5", 1000)])
    outcome = calibrate(night)
    assert outcome.exit_code == 1
    (line,) = {line for line in outcome.stderr.splitlines() if "light_4_000.fits[im5]" in line}
    assert "extension" in line
    assert not list((night.root / "calibrated").glob("*.fits"))


def write_light_of(night: Night, *images: Image) -> None:
    hdus = [hdu_of(image, np.full(image.shape, image.level + 10 + SKY_ADU, np.uint16)) for image in images]
    write_mosaic(night.root / "lights" / "a.fits", hdus, IMAGETYP="Light", EXPTIME=10.0)


@pytest.mark.parametrize(("places", "lacking"), [((1,), "im1, im3, im4"), ((0, 1, 3), "im3")])
@pytest.mark.parametrize("with_store", [True, False])
def test_a_light_that_lacks_extensions_is_calibrated_without_them_and_says_so(
    night: Night, places: tuple[int, ...], lacking: str, with_store: bool
) -> None:
    if not with_store:
        shutil.rmtree(night.masters / "masters.zarr")
    write_light_of(night, *(AMPLIFIERS[place] for place in places))
    outcome = calibrate(night)
    assert outcome.exit_code == 0, outcome.text
    (line,) = [line for line in outcome.stderr.splitlines() if "lacks the extension" in line]
    assert f" {lacking} that its masters have" in line
    with fits.open(night.root / "calibrated" / "a_cal.fits") as hdus:
        assert [hdu.name for hdu in hdus[1:]] == [AMPLIFIERS[place].name for place in places]
        assert [float(np.median(hdu.data)) for hdu in hdus[1:]] == pytest.approx([SKY_ADU] * len(places), abs=4)


@pytest.mark.parametrize("image", [Image("im1", 0), Image("other", 0, (21, 28)), Image("", 0, (21, 28))])
def test_a_light_of_one_image_that_is_no_amplifier_takes_no_master_of_one(night: Night, image: Image) -> None:
    write_light_of(night, image)
    outcome = calibrate(night)
    assert outcome.exit_code == 1
    assert "extension" in outcome.stderr or "x 20" in outcome.stderr


def test_the_table_names_each_master_file_once(night: Night) -> None:
    write_lights(night)
    outcome = calibrate(night)
    for kind in ("dark_10", "flat"):
        (file,) = night.masters.glob(f"master_{kind}*.fits")
        assert outcome.stdout.count(file.stem) == 1, outcome.stdout  # of two frames with the same masters
    assert "_im2_" not in outcome.stdout


def test_a_light_that_is_cut_short_in_its_last_image_is_refused(night: Night) -> None:
    write_lights(night)
    path = night.root / "lights" / "light_4_001.fits"
    path.write_bytes(path.read_bytes()[:-2880])
    outcome = calibrate(night)
    assert outcome.exit_code == 1
    assert any("light_4_001.fits" in line and "cut short" in line for line in outcome.stderr.splitlines())
    assert [path.name for path in (night.root / "calibrated").glob("*.fits")] == ["light_4_000_cal.fits"]
