"""Masters of files of several images: each image is an image of its own, and one FITS file has the masters of all."""

from __future__ import annotations

import gzip
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal import load_master_bias
from ostcal.errors import InputError
from support import night as n
from support.mosaics import Image, hdu_of, write_mosaic, write_mosaics
from support.night import START, Night

AMPLIFIERS = [Image(f"im{number}", 1000 + 50 * number) for number in range(1, 5)]
UNEVEN = [Image("red", 900, (17, 33)), Image("blue", 1200, (26, 12), dtype="float32"), Image("guide", 500, (9, 9))]
VERSIONS = [Image("SCI", 800, version=number) for number in (1, 2, 3)]
NAMELESS = [Image("", 700), Image("", 1100)]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def named(path: str | Path) -> list[tuple[str, int, NDArray[Any]]]:
    """Give names, versions and samples of the extensions of a file, as astropy reads them."""
    with fits.open(path, checksum=True) as hdus:
        assert hdus[0].data is None
        return [(hdu.header.get("EXTNAME", ""), hdu.ver, hdu.data.copy()) for hdu in hdus[1:]]


@pytest.mark.parametrize(
    "images", [AMPLIFIERS, UNEVEN, VERSIONS, NAMELESS], ids=["amps", "uneven", "versions", "no names"]
)
@pytest.mark.parametrize("packing", ["none", "gzip", "fz"])
def test_each_image_has_a_master_of_its_own(night: Night, images: list[Image], packing: str) -> None:
    if packing == "fz":
        images = [replace(image, dtype="uint16") for image in images]
    stacks = write_mosaics(night.darks, "Bias", 0.0, images, packed=packing == "fz")
    if packing == "gzip":
        for path in night.darks.glob("*.fits"):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    status = night.run_darks(quality_control=False)
    assert not status.is_error, status.message
    assert status.details["warnings"] == []
    path = n.one_file(status, "bias")
    found = named(path)
    assert [(name.upper(), version) for name, version, _ in found] == [(i.name.upper(), i.version or 1) for i in images]
    for (_, _, master), stack in zip(found, stacks, strict=True):
        assert np.array_equal(master, n.combined(stack).mean)
    header = fits.getheader(path)
    assert (header["OBSERVAT"], header["IMAGETYP"], header["NCOMBINE"]) == ("Somewhere", "Master Bias", 5)
    assert all(fits.getheader(path, place)["CALID"] for place in range(1, len(images) + 1))


def test_flats_take_the_dark_of_their_own_extension(night: Night) -> None:
    write_mosaics(night.darks, "Dark", 2.0, AMPLIFIERS, seed=1)
    light = [replace(image, level=image.level + 20000 + 1000 * place) for place, image in enumerate(AMPLIFIERS)]
    write_mosaics(night.flats, "Flat", 2.0, light, noise=70.0, seed=2)
    status = night.run(quality_control=False, extensions=True)
    assert not status.is_error, status.message
    (dark,), (flat,) = status.data["dark"], status.data["flat"]
    for number, image in enumerate(AMPLIFIERS, 1):
        assert np.median(fits.getdata(dark, number)) == pytest.approx(image.level, abs=3)
        header = fits.getheader(flat, number)
        assert header["NORMLV"] == pytest.approx(20000 + 1000 * (number - 1), rel=1e-3)
    names = [name for name, _, _ in named(flat)]
    assert names == [f"im{k}" for k in range(1, 5)] + [
        f"im{k}_{what}" for k in range(1, 5) for what in ("UNCERT", "NUSED")
    ]


def test_the_masters_of_a_file_are_one_line_and_one_entry(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS)
    write_mosaics(night.darks, "Dark", 10.0, AMPLIFIERS, seed=2)
    outcome = n.run_command(night)
    assert outcome.exit_code == 0, outcome.text
    rows = [line for line in outcome.stdout.splitlines() if "4 images" in line]
    assert len(rows) == len(list(night.masters.glob("*.fits"))) >= 2, outcome.stdout
    listed = n.ostcal("library", "--config", night.root / "c.yaml")
    assert len([line for line in listed.stdout.splitlines() if "images)" in line.replace(" ", "")]) == 2, listed.text
    every = json.loads(n.ostcal("library", "--config", night.root / "c.yaml", "--json").stdout)["masters"]
    assert [(m["kind"], m["extension"]) for m in every] == [
        (k, f"im{i}") for k in ("bias", "dark") for i in range(1, 5)
    ]
    assert n.ostcal("verify", night.masters).exit_code == 0


def test_the_report_has_a_section_for_each_image(night: Night) -> None:
    write_mosaics(night.darks, "Dark", 5.0, AMPLIFIERS)
    assert n.run_command(night).exit_code == 0
    (page,), (document,) = (list(night.masters.glob(f"report_*.{ending}")) for ending in ("html", "json"))
    titles = re.findall(r'<h2 id="m\d+-h">([^<]*)', page.read_text(encoding="utf-8"))
    assert [title.rpartition(" · ")[2] for title in titles] == [f"image im{k}" for k in range(1, 5)]
    masters = json.loads(document.read_text(encoding="utf-8"))["masters"]
    assert [(m["settings"]["extension"], round(m["statistics"]["median"])) for m in masters] == [
        (f"im{k}", 1000 + 50 * k) for k in range(1, 5)
    ]


def test_a_second_run_leaves_them_as_they_are_unless_one_is_missing(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS)
    first = night.run_darks(create_master_bias=True)
    again = night.run_darks(create_master_bias=True)
    assert again.data == first.data
    assert "unchanged" in again.message
    n.one_file(first, "bias").unlink()
    once_more = night.run_darks(create_master_bias=True)
    assert len(named(n.one_file(once_more, "bias"))) == 4


def test_a_frame_that_lacks_an_extension_is_left_out_by_name(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS)
    few, more = (
        [
            hdu_of(image, n.samples(1, image.level, seed=seed + place, shape=image.shape)[0])
            for place, image in enumerate(AMPLIFIERS)
        ]
        for seed in (700, 800)
    )
    bias = {"IMAGETYP": "Bias", "EXPTIME": 0.0, "DATE_OBS": START.strftime("%Y-%m-%dT%H:%M:%S")}
    write_mosaic(night.darks / "lacks.fits", [few[0], few[1], few[3]], **bias)
    extra = hdu_of(Image("im9", 100), n.samples(1, 100, seed=900)[0])
    write_mosaic(night.darks / "more.fits", [*more, extra], **bias)
    status = night.run_darks(quality_control=False)
    warnings = status.details["warnings"]
    assert any("lacks.fits: left out, it lacks the extension im3" in line for line in warnings), warnings
    assert any("more.fits[im9]: left out" in line for line in warnings), warnings
    assert len(warnings) == 2
    path = n.one_file(status, "bias")
    assert fits.getheader(path)["NCOMBINE"] == 6
    assert len(named(path)) == 4


def test_a_file_that_is_cut_short_in_a_later_image_is_left_out_whole(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS)
    path = sorted(night.darks.glob("*.fits"))[2]
    path.write_bytes(path.read_bytes()[:-2880])
    status = night.run_darks(quality_control=False)
    (line,) = status.details["warnings"]
    assert path.name in line
    assert "cut short" in line
    assert fits.getheader(n.one_file(status, "bias"))["NCOMBINE"] == 4


def test_images_about_an_image_are_no_images_and_are_named(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    stacks = write_mosaics(night.root / "spare", "Bias", 0.0, AMPLIFIERS[:2])
    for index in range(5):
        hdus = []
        for image, stack in zip(AMPLIFIERS, stacks, strict=False):
            mask = hdu_of(Image(f"{image.name}_BPM", 0), np.zeros(image.shape, np.uint8))
            hdus += [hdu_of(image, stack[index]), mask]
        write_mosaic(night.darks / f"b{index}.fits", hdus, IMAGETYP="Bias", EXPTIME=0.0)
    with caplog.at_level(logging.INFO, "ostcal"):
        status = night.run_darks(quality_control=False)
    assert [name for name, _, _ in named(n.one_file(status, "bias"))] == ["im1", "im2"]
    (line,) = [message for message in caplog.messages if "not used" in message]
    assert "b0.fits and 4 more: not used: im1_BPM, im2_BPM" in line


def test_amplifiers_of_several_gains_are_one_file(night: Night) -> None:
    images = [replace(image, cards={"GAIN": 1.0 + 0.1 * place}) for place, image in enumerate(AMPLIFIERS)]
    write_mosaics(night.darks, "Bias", 0.0, images)
    path = n.one_file(night.run_darks(quality_control=False), "bias")
    assert path.name.startswith("master_bias_2")
    assert [fits.getheader(path, place)["GAIN"] for place in range(1, 5)] == pytest.approx([1.0, 1.1, 1.2, 1.3])


def test_ordinary_frames_beside_them_are_masters_of_their_own(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS[:2])
    n.write_bias(night, INSTRUME="Mosaic", GAIN=None, OFFSET=None)
    status = night.run_darks(quality_control=False)
    assert len(status.data["bias"]) == 2
    sizes = []
    for path in status.data["bias"]:
        with fits.open(path) as hdus:
            sizes.append(len(hdus))
    assert sorted(sizes) == [1, 3]


def test_masters_are_loaded_by_extension(night: Night) -> None:
    write_mosaics(night.darks, "Bias", 0.0, AMPLIFIERS)
    night.run_darks(quality_control=False)
    config = night.config()
    assert np.median(load_master_bias(config, extension="im3")) == pytest.approx(1150, abs=3)
    with pytest.raises(InputError, match="im1, im2, im3, im4"):
        load_master_bias(config)


def test_the_first_image_may_be_in_the_primary_unit(night: Night) -> None:
    stack = n.bias_frames(4)
    for index, frame in enumerate(stack):
        second = hdu_of(Image("", 0), frame[:, :9] + np.uint16(100))
        write_mosaic(night.darks / f"b{index}.fits", [second], primary=frame, IMAGETYP="Bias", EXPTIME=0.0)
    path = n.one_file(night.run_darks(quality_control=False), "bias")
    with fits.open(path, checksum=True) as hdus:
        assert [hdu.data.shape for hdu in hdus] == [(20, 28), (20, 9)]
        assert hdus[0].header["OBSERVAT"] == "Somewhere"
        assert np.array_equal(hdus[0].data, n.combined(stack).mean)


def test_each_amplifier_has_an_overscan_of_its_own(night: Night) -> None:
    amplifiers = [("[1:20,1:18]", "[21:28,1:18]", slice(0, 20)), ("[9:28,1:18]", "[1:8,1:18]", slice(8, 28))]
    rng = np.random.default_rng(1)
    for index in range(5):
        hdus = []
        for place, (kept, overscan, columns) in enumerate(amplifiers):
            level = 1000 + 100 * place + 7 * index
            values = rng.normal(level, 3, (18, 28))
            values[:, columns] += 25 + place
            image = Image(f"im{place + 1}", 0, cards={"TRIMSEC": kept, "BIASSEC": overscan})
            hdus.append(hdu_of(image, np.rint(values).astype(np.uint16)))
        write_mosaic(night.darks / f"d{index}.fits", hdus, IMAGETYP="Dark", EXPTIME=5.0)
    status = night.run_darks(quality_control=False)
    assert not status.is_error, status.message
    with fits.open(n.one_file(status, "dark")) as hdus:
        assert [hdu.data.shape for hdu in hdus[1:]] == [(18, 20), (18, 20)]
        assert [float(np.median(hdu.data)) for hdu in hdus[1:]] == pytest.approx([25, 26], abs=1)
        assert not any("TRIMSEC" in hdu.header or "BIASSEC" in hdu.header for hdu in hdus)


# ---- files that lack all images but one ----

PAIR = [Image("A", 500), Image("B", 700)]


def write_some(night: Night, n_whole: int, n_lacking: int, images: list[Image] = PAIR, packed: bool = False) -> None:
    """Write whole files of two images, and files that have the first alone."""
    write_mosaics(night.darks, "Bias", 0.0, images, n=n_whole, seed=1, packed=packed)
    write_mosaics(night.darks, "Bias", 0.0, images[:1], n=n_lacking, seed=2, packed=packed)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "images", [PAIR, [replace(image, cards={"GAIN": 1.5 + k}) for k, image in enumerate(PAIR)], VERSIONS[:2]]
)
@pytest.mark.parametrize("n_lacking", [1, 5])
def test_a_file_of_one_image_lacks_those_that_others_have(
    night: Night, images: list[Image], n_lacking: int, packed: bool
) -> None:
    write_some(night, 6, n_lacking, images, packed)
    status = night.run_darks(quality_control=False)
    lines = status.details["warnings"]
    missing = "SCI,2" if images[0].name == "SCI" else "B"
    assert len(lines) == n_lacking
    assert all(f"left out, it lacks the extension {missing} that" in line and "bias_2_00" in line for line in lines)
    path = n.one_file(status, "bias")
    assert [fits.getheader(path, place)["NCOMBINE"] for place in (1, 2)] == [6, 6]


def test_an_image_that_most_files_lack_is_named(night: Night) -> None:
    write_some(night, 2, 4)
    status = night.run_darks()
    lines = [line for line in status.details["warnings"] if "left out" in line]
    assert len(lines) == 2
    assert all("[B]: left out" in line and "bias_1_00" in line for line in lines)
    path = n.one_file(status, "bias")
    assert [name for name, _, _ in named(path)] == ["A"]
    assert fits.getheader(path, 1)["NCOMBINE"] == 6
    assert n.ostcal("verify", night.masters).exit_code == 0


@pytest.mark.parametrize("cards", [{"INSTRUME": "Other"}, {}])
def test_the_usual_file_of_one_image_in_an_extension_is_an_ordinary_frame(night: Night, cards: dict[str, str]) -> None:
    other = Image("A", 900) if cards else Image("A", 900, (13, 17))
    write_mosaics(night.darks, "Bias", 0.0, PAIR, seed=1)
    write_mosaics(night.darks, "Bias", 0.0, [other], seed=2, **cards)
    status = night.run_darks(quality_control=False)
    assert status.details["warnings"] == []
    assert len(status.data["bias"]) == 2
    sizes = []
    for path in status.data["bias"]:
        with fits.open(path) as hdus:
            sizes.append([hdu.data is not None for hdu in hdus])
    assert sorted(sizes) == [[False, True, True], [True]]


def test_an_extension_without_data_is_named(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    stacks = write_mosaics(night.root / "spare", "Bias", 0.0, PAIR)
    for index in range(5):
        hdus = [hdu_of(image, stack[index]) for image, stack in zip(PAIR, stacks, strict=True)]
        empty = fits.ImageHDU(None, name="C")
        write_mosaic(night.darks / f"b{index}.fits", [hdus[0], empty, hdus[1]], IMAGETYP="Bias", EXPTIME=0.0)
    with caplog.at_level(logging.INFO, "ostcal"):
        status = night.run_darks(quality_control=False)
    assert [name for name, _, _ in named(n.one_file(status, "bias"))] == ["A", "B"]
    (line,) = [message for message in caplog.messages if "not used" in message]
    assert "b0.fits and 4 more: not used: C (no data)" in line


@pytest.mark.parametrize("version", [None, 1, 7])
def test_images_of_one_name_without_numbers_are_numbered(night: Night, version: int | None) -> None:
    write_mosaics(night.darks, "Bias", 0.0, [Image("A", 500, version=version), Image("A", 700, version=version)])
    path = n.one_file(night.run_darks(quality_control=False), "bias")
    assert [(name, ver, round(float(np.median(image)), -1)) for name, ver, image in named(path)] == [
        ("A", 1, 500), ("A", 2, 700),
    ]  # fmt: skip


# ---- stacks of frames in one image ----


def write_cube(path: Path, stack: NDArray[Any], **cards: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header({"IMAGETYP": "Bias", "EXPTIME": 0.0, "INSTRUME": "iXon", **cards})
    fits.PrimaryHDU(stack, header).writeto(path)


@pytest.mark.parametrize("packing", ["none", "gzip", "fz", "fz in tiles of several rows"])
def test_each_plane_of_a_stack_is_a_frame_where_that_is_asked(night: Night, packing: str) -> None:
    stacks = [n.bias_frames(4, seed=seed) for seed in (1, 2)]
    for place, stack in enumerate(stacks):
        path = night.darks / f"kinetic_{place}.fits"
        if packing.startswith("fz"):
            header = fits.Header({"IMAGETYP": "Bias", "EXPTIME": 0.0, "INSTRUME": "iXon"})
            tiles = (1, 7, stack.shape[2]) if "rows" in packing else None
            night.darks.mkdir(exist_ok=True)
            fits.CompImageHDU(stack, header, tile_shape=tiles).writeto(path.with_name(f"{path.name}.fz"))
            continue
        write_cube(path, stack)
        if packing == "gzip":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    refused = night.run_darks(quality_control=False)
    assert refused.is_error
    status = night.run_darks(quality_control=False, cubes="frames")
    assert not status.is_error, status.message
    image = n.image_of(status, "bias")
    assert np.array_equal(image, n.combined(np.concatenate(stacks)).mean)


def test_a_stack_is_refused_by_name_and_a_colour_picture_always(night: Night) -> None:
    n.write_bias(night)
    write_cube(night.darks / "cube.fits", n.bias_frames(4))
    write_cube(night.darks / "picture.fits", n.bias_frames(3), CTYPE3="RGB")
    refused = night.run_darks(quality_control=False)
    lines = refused.details["warnings"]
    assert len(lines) == 2
    assert any("cube.fits" in line and "3 axes" in line and "master_frames.cubes" in line for line in lines)
    (line,) = night.run_darks(quality_control=False, cubes="frames", min_frames=4).details["warnings"]
    assert "picture.fits" in line
