"""Raw files of cameras: mosaics in DNG files written by hand, and what becomes of damaged ones."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import exifread
import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import decoding
from ostcal.errors import FrameError
from ostcal.fits.read import FitsStack, inspect_fits, search_fits
from ostcal.fits.unpack import unpack
from ostcal.frames import FrameType, read_adu
from ostcal.raw import decoder_process, reader
from support import night as n
from support.dng_samples import ASCII, SHORT, tiff, write_dng
from support.fits_samples import read_with_astropy
from support.fuzzing import mutations
from support.night import Night

ACTIVE = (12, 20, 110, 150)


def mosaic(seed: int = 1, shape: tuple[int, int] = (120, 160)) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(500, 3000, shape).astype(np.uint16)


def test_the_mosaic_comes_as_the_sensor_gave_it(tmp_path: Path) -> None:
    values = mosaic()
    path = write_dng(tmp_path / "dark_001.dng", values, active=ACTIVE)
    frame = inspect_fits(path)
    assert (frame.packed, frame.height, frame.width) == ("raw", 120, 160)
    plain = unpack(frame, tmp_path)
    assert np.array_equal(read_adu(FitsStack((plain,)), 0, 120)[0], values)
    image, header = read_with_astropy(plain.path)
    assert np.array_equal(image, values)
    assert header["TRIMSEC"] == "[21:150,13:110]"
    whole = inspect_fits(write_dng(tmp_path / "b.dng", values))
    assert not any(card.startswith("TRIMSEC") for card in whole.cards)


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_what_a_file_says(tmp_path: Path, pattern: str) -> None:
    path = write_dng(
        tmp_path / "bias_7.dng",
        mosaic(),
        pattern=pattern,
        exposure_s=(1, 4000),
        iso=1600,
        offset="+01:00",
        active=ACTIVE,
    )
    metadata = inspect_fits(path).metadata
    assert (metadata.frame_type, metadata.exposure_time_s) == (FrameType.BIAS, 0.00025)
    assert (metadata.settings.camera, metadata.settings.gain) == ("Canon EOS 6D", 1600.0)
    assert metadata.bayer_pattern == pattern
    assert metadata.date_obs is not None
    assert metadata.date_obs.isoformat() == "2026-11-21T19:15:30+00:00"
    nikon = inspect_fits(write_dng(tmp_path / "x.dng", mosaic(), make="NIKON CORPORATION", model="NIKON D850"))
    assert nikon.metadata.settings.camera == "NIKON D850"
    sony = inspect_fits(write_dng(tmp_path / "y.dng", mosaic(), make="SONY", model="ILCE-7M3"))
    assert sony.metadata.settings.camera == "Sony ILCE-7M3"


def test_boxes_of_cr3_give_camera_date_and_temperature(tmp_path: Path) -> None:
    notes = [0] * 12 + [128 + 23] + [0] * 10
    boxes = b"".join(
        (len(data) + 8).to_bytes(4, "big") + name + data
        for name, data in (
            (b"CMT1", tiff([(0x010F, ASCII, "Canon"), (0x0110, ASCII, "Canon EOS R6")])),
            (b"CMT2", tiff([(0x9003, ASCII, "2026:11:21 20:15:30")])),
            (b"CMT3", tiff([(0x0004, SHORT, notes)])),
        )
    )
    path = tmp_path / "a.cr3"
    for start in (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", b"\0\0\0\x10ftypcrx \0\0\0\1"):
        path.write_bytes(start + boxes)
        tags = decoder_process._tags(exifread, str(path))
        assert decoder_process._temperature(tags) == "23"
        names = ("Image Make", "Image Model", "EXIF DateTimeOriginal")
        assert [decoder_process._text(tags, name) for name in names] == ["Canon", "Canon EOS R6", "2026:11:21 20:15:30"]
        for length in range(0, len(boxes), 7):
            path.write_bytes((start + boxes)[:length])
            decoder_process._tags(exifread, str(path))


def test_files_cut_short_and_damaged_cost_their_frame(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic())
    good = path.read_bytes()
    for length in (len(good) - 1, len(good) - 20_000, 600, 100, 8, 4, 0):
        path.write_bytes(good[:length])
        with pytest.raises(FrameError, match=r"a\.dng: cannot be decoded: "):
            inspect_fits(path)
    rng = np.random.default_rng(2)
    for _ in range(mutations(60)):
        data = bytearray(good)
        for position in rng.integers(0, 600, 3):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        try:
            frame = inspect_fits(path)
            unpack(frame, tmp_path)
        except FrameError as error:
            message = str(error)
        else:
            message = f"{path} is read"
        assert str(path) in message
        assert "\n" not in message
    path.write_bytes(good)
    assert inspect_fits(path).width == 160, "the process was started again"


def test_promised_sizes_are_compared_with_the_file(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic())
    data = bytearray(path.read_bytes())
    for tag in (0x0100, 0x0101):
        at = data.index(struct.pack("<HH", tag, 4))
        data[at + 8 : at + 12] = struct.pack("<I", 60_000)
    path.write_bytes(data)
    with pytest.raises(FrameError, match=r"a\.dng: cannot be decoded: "):
        inspect_fits(path)


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the extra ``raw``."""
    reader.can_read_raw.cache_clear()
    monkeypatch.setattr(reader, "find_spec", lambda name: None)
    yield
    monkeypatch.undo()
    reader.can_read_raw.cache_clear()


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    for name in ("a.CR2", "b.cr2", "c.nef"):
        (tmp_path / name).write_bytes(b"x")
    found = search_fits([tmp_path])
    assert found.files == ()
    assert found.passed_over == (
        f"{tmp_path}: 2 .cr2, 1 .nef: raw files of cameras need an extra: pip install 'ostcal[raw]'",
    )
    with pytest.raises(FrameError, match=r"c\.nef: reading \.nef needs an extra: pip install 'ostcal\[raw\]'"):
        inspect_fits(tmp_path / "c.nef")
    night = Night(tmp_path / "night")
    night.darks.mkdir(parents=True)
    (night.darks / "a.cr3").write_bytes(b"x")
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert "1 .cr3: raw files of cameras need an extra" in " ".join(outcome.text.split())


def test_masters_and_science_frames_of_a_camera(tmp_path: Path) -> None:
    night = Night(tmp_path)
    top, left, bottom, right = ACTIVE
    stacks = {}
    for kind, level, exposure_s in (("bias", 600, (1, 4000)), ("dark", 650, (30, 1)), ("light", 1500, (30, 1))):
        rng = np.random.default_rng(level)
        count = 1 if kind == "light" else 5
        stacks[kind] = rng.normal(level, 5, (count, 120, 160)).round().astype(np.uint16)
        folder = tmp_path / "lights" if kind == "light" else night.darks / kind
        folder.mkdir(parents=True)
        for number, values in enumerate(stacks[kind]):
            path = folder / f"IMG_{number:04d}.dng"
            write_dng(path, values, active=ACTIVE, exposure_s=exposure_s, when=f"2026:11:21 20:15:{number:02d}")
    status = night.run_darks()
    assert not status.is_error, status.message
    image = n.image_of(status, "bias")
    visible = stacks["bias"][:, top:bottom, left:right]
    assert np.array_equal(image, n.combined(visible).mean)
    options = ("--config", n.write_config(night), "--no-confirm", "--output-dir", tmp_path / "out", "--flat", "none")
    outcome = n.ostcal("calibrate", tmp_path / "lights", *options)
    assert outcome.exit_code == 0, outcome.text
    light = read_with_astropy(tmp_path / "out" / "IMG_0000_cal.fits")[0]
    dark = n.combined(stacks["dark"][:, top:bottom, left:right]).mean
    assert np.array_equal(light, stacks["light"][0, top:bottom, left:right] - dark)


def test_the_process_answers_a_request_for_what_is_no_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [*n.command_line()[:1], reader.decoder_process.__file__],
        input=json.dumps({"path": str(tmp_path / "absent.cr2"), "samples": False}).encode() + b"\n",
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout[:8] == decoding.LENGTH.pack(decoding.FAILED)
