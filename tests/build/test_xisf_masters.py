"""Masters as XISF files, read by another program's reader and checked against XISF 1.0."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xisf import XISF

from ostcal.errors import StorageError
from ostcal.fits.read import FitsStack, inspect_fits, inspect_images
from ostcal.fits.write import ImagePlane
from ostcal.fits.write_xisf import write_xisf
from ostcal.frames import read_adu
from support import night as n
from support.fits_samples import read_with_astropy
from support.mosaics import Image, write_mosaics
from support.night import Night

STRUCTURE = ("SIMPLE", "BITPIX", "EXTEND", "HISTORY", "CHECKSUM", "DATASUM", "LONGSTRN")
NAMESPACE = "{http://www.pixinsight.com/xisf}"


def joined_words(lines: list[str]) -> str:
    return "".join("".join(lines).split())


def header_of(path: Path) -> ET.Element:
    data = path.read_bytes()
    assert data[:8] == b"XISF0100"
    assert data[12:16] == bytes(4)
    return ET.fromstring(data[16 : 16 + int.from_bytes(data[8:12], "little")])


def assert_valid(path: Path) -> list[ET.Element]:
    """Check a file against the rules of XISF 1.0 that do not depend on what it holds; gives its images."""
    data, root = path.read_bytes(), header_of(path)
    assert (root.tag, root.get("version")) == (f"{NAMESPACE}xisf", "1.0")
    described = {one.get("id"): one for one in root.iter(f"{NAMESPACE}Property")}
    assert {"XISF:CreationTime", "XISF:CreatorApplication"} <= described.keys()
    images = root.findall(f"{NAMESPACE}Image")
    ids = [image.attrib["id"] for image in images]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)
    end = 16 + int.from_bytes(data[8:12], "little")
    for image in images:
        kind, position, length = image.attrib["location"].split(":")
        start, stop = int(position), int(position) + int(length)
        assert kind == "attachment"
        assert start % 4096 == 0
        assert end <= start < stop <= len(data)
        end = stop
        width, height, channels = map(int, image.attrib["geometry"].split(":"))
        bits = int("".join(filter(str.isdigit, image.attrib["sampleFormat"])))
        assert width * height * channels * bits // 8 == stop - start
        assert image.attrib["checksum"] == f"sha-256:{hashlib.sha256(data[start:stop]).hexdigest()}"
        assert image.attrib["colorSpace"] == "Gray"
        if image.attrib["sampleFormat"].startswith("Float"):
            low, high = map(float, image.attrib["bounds"].split(":"))
            samples = np.frombuffer(data[start:stop], f"<f{bits // 8}")
            finite = samples[np.isfinite(samples)]
            assert low <= finite.min()
            assert finite.max() <= high
    assert end == len(data)
    return images


@pytest.mark.parametrize("flavour", ["adu", "pixinsight"])
@pytest.mark.parametrize("extensions", [False, True])
def test_both_formats_hold_the_same_samples_and_keywords(tmp_path: Path, flavour: str, extensions: bool) -> None:
    night = n.whole_night(tmp_path)
    status = night.run(format="both", flavour=flavour, extensions=extensions)
    assert not status.is_error, status.message
    fits_files = sorted(night.masters.glob("*.fits"))
    assert len(fits_files) == 5
    for path in fits_files:
        xisf = path.with_suffix(".xisf")
        images = assert_valid(xisf)
        reader = XISF(str(xisf))
        for place in range(len(images)):
            theirs = reader.read_image(place, data_format="channels_first")[0]
            assert np.array_equal(theirs, read_with_astropy(path, place)[0], equal_nan=True)
        header = read_with_astropy(path)[1]
        said = reader.get_images_metadata()[0]["FITSKeywords"]
        for keyword, value in header.items():
            if keyword in STRUCTURE or "NAXIS" in keyword:
                continue
            text = said[keyword][0]["value"]
            assert text == value if isinstance(value, str) else text in ("T", "F") or float(text) == value, keyword
        lines = [one["comment"] for one in said["HISTORY"]], [str(line) for line in header["HISTORY"]]
        assert joined_words(lines[0]) == joined_words(lines[1])  # FITS has them in cards of 72 characters
        ours = inspect_fits(xisf, first_of_several=True)
        assert ours.metadata == inspect_fits(path, first_of_several=True).metadata
        kind = {"Bias": "MasterBias", "Dark": "MasterDark", "Flat": "MasterFlat"}
        assert images[0].attrib["imageType"] == next(v for k, v in kind.items() if k in header["IMAGETYP"])
    outcome = n.ostcal("verify", night.masters)
    assert outcome.exit_code == 0, outcome.text
    again = night.run(format="both", flavour=flavour, extensions=extensions)
    assert again.details["unchanged"], again.message


def test_xisf_alone_serves_science_frames_without_the_store(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    (light,) = n.write_frames(tmp_path, n.samples(1, 3000, seed=9), "Light Frame", 5.0, stem="m31", EGAIN=0.5)
    results = []
    for file_format in ("fits", "xisf"):
        keys = {"output_dir": str(tmp_path / file_format), "format": file_format, "extensions": True}
        assert not night.run(**keys).is_error
        found = {path.suffix for path in (tmp_path / file_format).iterdir() if path.name.startswith("master_")}
        assert found == {f".{file_format}"}
        (tmp_path / file_format / "masters.zarr").rename(tmp_path / f"{file_format}_store")
        target = tmp_path / f"{file_format}_out"
        options = ("--config", n.write_config(night, **keys), "--no-confirm", "--output-dir", target)
        outcome = n.ostcal("calibrate", light, "--uncertainty", "--dq", *options)
        assert outcome.exit_code == 0, outcome.text
        results.append([read_with_astropy(target / "m31_000_cal.fits", place)[0] for place in range(3)])
    for ours, theirs in zip(*results, strict=True):
        assert np.array_equal(ours, theirs, equal_nan=True)


def test_masters_of_files_of_several_images(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_mosaics(night.darks, "Dark", 5.0, [Image("im1", 1000), Image("im2", 1100)])
    assert not night.run_darks(format="both", extensions=True).is_error
    (path,) = night.masters.glob("*.xisf")
    assert_valid(path)
    fits = path.with_suffix(".fits")
    ours, theirs = inspect_images(path), inspect_images(fits)
    assert [image.extension for image in ours] == [image.extension for image in theirs] == ["im1", "im2"]
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(*(read_adu(FitsStack((image,)), 0, one.height) for image in (one, other)))
    assert n.ostcal("verify", night.masters).exit_code == 0
    assert night.run_darks(format="both", extensions=True).details["unchanged"]


def test_a_changed_master_is_found_by_verify_and_made_again(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    assert not night.run_darks(format="xisf").is_error
    (path,) = night.masters.glob("*.xisf")
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    outcome = n.ostcal("verify", night.masters)
    assert outcome.exit_code == 1
    assert "do not fit their checksum" in " ".join(outcome.text.split())
    path.unlink()
    assert not night.run_darks(format="xisf").details["unchanged"]
    assert len(list(night.masters.glob("*.xisf"))) == 1


def plane(values: NDArray[Any], **how: Any) -> ImagePlane:
    height, width = values.shape
    return ImagePlane(dtype=values.dtype.name, height=height, width=width, read_rows=lambda a, b: values[a:b], **how)


@pytest.mark.parametrize("rows", [1, 7, 100, None])
def test_texts_strips_and_missing_values(tmp_path: Path, rows: int | None) -> None:
    values = np.random.default_rng(1).normal(0, 10, (23, 17)).astype(np.float32)
    values[3, 4] = np.nan
    values[0] = np.nan
    values[1, 2:4] = np.inf, -np.inf
    cards = [
        ("IMAGETYP", "Master Dark", 'a "kind" & <more>'), ("OBJECT", "M 31's \u00e9toile <&>\"", ""),
        ("EXPTIME", 5.0, "s"), ("LONG", "x" * 200, "long"), ("NONE", None, ""), ("YES", True, ""), ("BUNIT", "adu", ""),
    ]  # fmt: skip
    path = tmp_path / "a.xisf"
    write_xisf(path, [plane(values, cards=cards)], history=["one", "two & three"], rows_per_write=rows)
    (image,) = assert_valid(path)
    assert np.array_equal(XISF(str(path)).read_image(0)[..., 0], values, equal_nan=True)
    low, high = map(float, image.attrib["bounds"].split(":"))
    assert (low, high) == (values[np.isfinite(values)].min(), 65535.0)
    frame = inspect_fits(path)
    assert np.array_equal(read_adu(FitsStack((frame,)), 0, 23)[0], values, equal_nan=True)
    said = {one.attrib["name"]: one.attrib["value"] for one in image.findall(f"{NAMESPACE}FITSKeyword")}
    assert said["OBJECT"] == "'M 31''s etoile <&>\"'"
    assert (said["LONG"], said["YES"]) == (f"'{'x' * 200}'", "T")
    assert "NONE" not in said
    with pytest.raises(StorageError, match="exists already"):
        write_xisf(path, [plane(values, cards=cards)])


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    def broken(start: int, stop: int) -> NDArray[Any]:
        if start:
            raise StorageError("no more rows")
        return np.zeros((stop - start, 8), np.float32)

    one = ImagePlane(dtype="float32", height=9, width=8, read_rows=broken, cards=[("IMAGETYP", "Master Dark", "")])
    with pytest.raises(StorageError):
        write_xisf(tmp_path / "a.xisf", [one], rows_per_write=4)
    assert not list(tmp_path.iterdir())
