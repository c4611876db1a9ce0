"""Packed files that would fill memory or disk, or never end: each is one line, known before it is unpacked."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

from ostcal.errors import FrameError
from ostcal.fits.read import inspect_fits, inspect_images
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from ostcal.series.reader import open_series
from support import night as n
from support.bombs import CODERS, FRAME, MIB, gzip_bombs, one_tile, with_card, zeros
from support.fits_samples import (
    BLOCK,
    frame_values,
    gzipped,
    header_block,
    read_with_astropy,
    tile_compressed,
    write_frame,
)
from support.fuzzing import in_time, little_memory, little_used_memory, status_bytes
from support.night import Night

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)")


# ---- gzip ----


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[bytes, str]]:
    return gzip_bombs()


KINDS = (
    "12 GB before the image",
    "an image of 17 GB",
    "a header without end",
    "a name without end",
    "empty members",
    "padding",
    "zeros behind the image",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_refused_in_one_line(tmp_path: Path, bombs: dict[str, tuple[bytes, str]], kind: str) -> None:
    data, says = bombs[kind]
    assert len(data) < 32 * MIB
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(data)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with little_memory(), in_time(), pytest.raises(FrameError, match=says) as error:
        unpack(inspect_fits(path), scratch)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert list(scratch.iterdir()) == []


def test_all_kinds_of_bombs_are_tried(bombs: dict[str, tuple[bytes, str]]) -> None:
    assert sorted(bombs) == sorted(KINDS)


@pytest.mark.parametrize("size", [1, 7, 2880, 100_000])
def test_a_file_in_several_members_and_with_padding_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.fits.gz"
    parts = [gzip.compress(FRAME[at : at + size]) for at in range(0, 900 * size, size)]
    path.write_bytes(b"\0\0".join([*parts, gzip.compress(FRAME[900 * size :]), b"\0" * 3000]))
    assert Path(unpack(inspect_fits(path), tmp_path).path).read_bytes() == FRAME


def test_frames_that_pack_well_are_no_bombs(tmp_path: Path) -> None:
    values = np.full((3000, 3000), 7, np.float64)  # 72 MB in 70 kB
    path = gzipped(write_frame(tmp_path / "a.fits", values))
    assert path.stat().st_size * 500 < values.nbytes
    unpacked = unpack(inspect_fits(path), tmp_path)
    assert Path(unpacked.path).read_bytes() == (tmp_path / "a.fits").read_bytes()


def packed_with_table(path: Path) -> bytearray:
    """Return a packed file that does not end with its image."""
    table = fits.BinTableHDU(np.zeros(900, [("x", "i4"), ("y", "f8")]))
    fits.HDUList([fits.PrimaryHDU(frame_values()), table]).writeto(path)
    return bytearray(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize("damage", ["checksum", "length", "cut in its end", "cut behind its image", "bytes behind"])
def test_damage_is_named_wherever_it_is(tmp_path: Path, damage: str) -> None:
    data = packed_with_table(tmp_path / "a.fits")
    match damage:
        case "checksum":
            data[-8] ^= 1
        case "length":
            data[-1] ^= 1
        case "cut in its end":
            del data[-4:]
        case "cut behind its image":
            del data[-20:]
        case _:
            data += b"something else"
    path = tmp_path / "b.fits.gz"
    path.write_bytes(data)
    with pytest.raises(FrameError, match=r"b\.fits\.gz: cannot be (unpacked|read): .* or leave it out"):
        unpack(inspect_fits(path), tmp_path)
    outcome = n.ostcal("verify", path)
    assert outcome.exit_code == 1
    assert "b.fits.gz: cannot be " in outcome.text


def test_verify_reads_packed_files_that_are_whole(tmp_path: Path) -> None:
    (tmp_path / "b.fits.gz").write_bytes(packed_with_table(tmp_path / "a.fits"))
    tile_compressed(tmp_path / "c.fits.fz", frame_values())
    outcome = n.ostcal("verify", tmp_path)
    assert outcome.exit_code == 0, outcome.text


def test_masters_name_a_damaged_file_and_are_made_of_the_others(tmp_path: Path) -> None:
    night = Night(tmp_path)
    stack = n.write_darks(night, 5.0)
    for path in sorted(night.darks.rglob("*.fits")):
        gzipped(path).rename(path.with_name(f"{path.name}.gz"))
        path.unlink()
    first = min(night.darks.rglob("*.gz"))
    data = bytearray(first.read_bytes())
    data[-8] ^= 1
    first.write_bytes(data)
    outcome = n.run_command(night, "--darks-only")
    assert f"{first.name}: cannot be read: Error -3 while decompressing data: incorrect data check" in outcome.text
    (master,) = night.masters.glob("master_dark*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack[1:]).mean)


# ---- tiles ----


SAMPLES = [
    *((coder, dtype, True) for coder in CODERS for dtype in ("uint8", "int16", "uint16", "int32")),
    *((coder, dtype, True) for coder in ("RICE_1", "GZIP_2", "HCOMPRESS_1") for dtype in ("float32", "float64")),
    *(("GZIP_1", dtype, False) for dtype in ("float32", "float64")),
]


@pytest.fixture(scope="module")
def tiles() -> Iterator[TileReader]:
    with TileReader() as reader:
        yield reader


@pytest.mark.parametrize(("coder", "dtype", "quantized"), SAMPLES)
def test_an_image_in_one_tile_unpacks(
    tmp_path: Path, tiles: TileReader, coder: str, dtype: str, quantized: bool
) -> None:
    if (coder, dtype) == ("PLIO_1", "uint16"):
        pytest.skip("PLIO stores no negative samples, which BZERO makes of these")
    values = np.random.default_rng(0).normal(100, 5, (40, 60)).astype(dtype)
    path = one_tile(tmp_path / "a.fits.fz", values, coder, quantized=quantized)
    frame = inspect_fits(path)
    assert frame.tiling is not None
    assert frame.tiling.is_one_tile
    with fits.open(path) as hdus:
        expected = hdus[1].data
    assert np.array_equal(read_with_astropy(unpack(frame, tmp_path, tiles).path)[0], expected)


@pytest.mark.parametrize(
    ("coder", "dtype"),
    [
        ("RICE_1", "uint16"),
        ("HCOMPRESS_1", "uint16"),
        ("PLIO_1", "int16"),
        ("GZIP_2", "int32"),
        ("RICE_1", "float32"),
        ("GZIP_2", "float64"),
    ],
)
def test_decoding_takes_no_more_memory_than_the_header_says(tmp_path: Path, coder: str, dtype: str) -> None:
    values = np.random.default_rng(0).normal(1000, 9, (900, 2000)).astype(dtype)
    frame = inspect_fits(one_tile(tmp_path / "a.fits.fz", values, coder))
    assert frame.tiling is not None
    before = psutil.Process().children()
    with TileReader(frame.tiling.memory_bytes) as tiles:
        unpack(frame, tmp_path, tiles)
        (process,) = [one for one in psutil.Process().children() if one not in before]
        peak = status_bytes("VmHWM", process.pid)
    assert peak <= frame.tiling.memory_bytes


def test_too_large_a_tile_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    frame = inspect_fits(one_tile(tmp_path / "a.fits.fz", frame_values((600, 700)), "RICE_1"))
    assert frame.tiling is not None
    children = psutil.Process().children()
    with TileReader(frame.tiling.memory_bytes - 1) as tiles, pytest.raises(FrameError) as error:
        unpack(frame, tmp_path, tiles)
    assert psutil.Process().children() == children
    text = str(error.value)
    assert f"which takes {frame.tiling.memory_bytes // MIB} MiB" in text
    assert "set compute.memory_limit" in text
    assert "fpack without -w" in text


@pytest.mark.parametrize(
    ("cards", "says"),
    [
        ({"ZTILE1": 2**40}, "ZTILE1"),
        ({"ZTILE1": 2**20, "ZTILE2": 999}, ""),
        ({"ZTILE1": -3}, "ZTILE1 is -3"),
        ({"ZTILE2": 1}, "its table has 1 rows, its image 40 tiles of 60 x 1"),
        ({"ZNAXIS1": 2**40}, "more than 2^31"),
        ({"ZNAXIS1": 46_000, "ZNAXIS2": 46_000}, "its table has 1 rows"),
        ({"ZNAXIS": 2**40}, "ZNAXIS is"),
        ({"ZNAXIS": 990}, "ZNAXIS"),
        ({"PCOUNT": 2**40}, "is cut short"),
        ({"NAXIS2": 2**40}, "its table has 1099511627776 rows"),
        ({"ZCMPTYPE": "'MAGIC   '"}, "ZCMPTYPE is 'MAGIC'"),
        ({"ZBITPIX": 12}, "BITPIX is 12"),
    ],
)
def test_headers_that_lie_are_one_line(tmp_path: Path, tiles: TileReader, cards: dict[str, object], says: str) -> None:
    path = with_card(one_tile(tmp_path / "a.fits.fz", frame_values((40, 60)), "RICE_1"), **cards)
    with little_memory(), in_time():
        if not says:
            assert np.array_equal(
                read_with_astropy(unpack(inspect_fits(path), tmp_path, tiles).path)[0], frame_values((40, 60))
            )
            return
        with pytest.raises(FrameError) as error:
            unpack(inspect_fits(path), tmp_path, tiles)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("where", ["beyond", "far beyond", "in the table", "empty"])
def test_descriptors_that_point_elsewhere_are_one_line(tmp_path: Path, tiles: TileReader, where: str) -> None:
    path = one_tile(tmp_path / "a.fits.fz", frame_values((40, 60)), "GZIP_1")
    with fits.open(path, disable_image_compression=True) as hdus:
        at, length = hdus[1]._data_offset, hdus[1].data.dtype.itemsize
    assert length == 8
    count, offset = {
        "beyond": (5000, 2000),
        "far beyond": (2**31 - 1, 2**31 - 1),
        "in the table": (100, -8),
        "empty": (0, 0),
    }[where]
    data = bytearray(path.read_bytes())
    data[at : at + 8] = count.to_bytes(4, "big") + offset.to_bytes(4, "big", signed=offset < 0)
    path.write_bytes(data)
    with in_time(), pytest.raises(FrameError, match=r"a\.fits\.fz: cannot be unpacked: [^\n]*$"):
        unpack(inspect_fits(path), tmp_path, tiles)


@pytest.mark.parametrize("n_bytes", [10, 1200 * MIB])
def test_a_tile_of_another_size_than_its_header_says_is_one_line(tmp_path: Path, n_bytes: int) -> None:
    path = one_tile(tmp_path / "a.fits.fz", frame_values((40, 60)), "GZIP_1")
    packed = zeros(n_bytes // MIB) if n_bytes > MIB else gzip.compress(bytes(n_bytes))
    with fits.open(path, disable_image_compression=True) as hdus:
        at = hdus[1]._data_offset
    with_card(path, PCOUNT=len(packed))
    data = path.read_bytes()[:at] + len(packed).to_bytes(4, "big") + bytes(4) + packed
    path.write_bytes(data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0"))
    before = psutil.Process().children()
    with TileReader(300 * MIB) as tiles:
        with in_time(), pytest.raises(FrameError, match=r"a\.fits\.fz: cannot be unpacked: [^\n]*$"):
            unpack(inspect_fits(path), tmp_path, tiles)
        for process in psutil.Process().children():
            assert process in before or status_bytes("VmHWM", process.pid) < 364 * MIB


def test_only_frames_of_masters_that_are_made_are_unpacked(tmp_path: Path) -> None:
    """Tiles that cannot be decoded are not named where no master needs them."""
    night = Night(tmp_path)
    stack = n.write_darks(night, 5.0)
    odd = night.darks / "odd"
    odd.mkdir()
    for name, kind, exposure in (("a", "Dark Frame", 300.0), ("b", "Dark Frame", 300.0), ("c", "Light Frame", 5.0)):
        cards = {"IMAGETYP": kind, "EXPTIME": exposure, "DATE_OBS": f"2026-11-21T1{len(name)}:00:00", **n.CAMERA}
        path = one_tile(odd / f"{name}.fits.fz", frame_values(n.SHAPE), "RICE_1", **cards)
        path.write_bytes(path.read_bytes()[:-BLOCK] + b"\xff" * BLOCK)
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0, outcome.text
    assert "cannot be unpacked" not in outcome.text
    assert "300" in outcome.text
    (master,) = night.masters.glob("master_dark*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack).mean)


def test_tiles_beyond_the_memory_limit_cost_their_frame(tmp_path: Path) -> None:
    night = Night(tmp_path)
    stack = n.dark_frames(5.0)
    for index, path in enumerate(n.write_frames(night.darks, stack, "Dark Frame", 5.0)):
        if index < 2:
            cards = {key.replace("-", "_"): value for key, value in read_with_astropy(path)[1].items()}
            kept = {key: cards[key] for key in ("IMAGETYP", "EXPTIME", "DATE_OBS", "INSTRUME", "GAIN", "OFFSET")}
            kept |= {key: cards[key] for key in ("SET_TEMP", "CCD_TEMP")}
            packed = one_tile(path.with_name(f"{path.name}.fz"), stack[index], "RICE_1", **kept)
            path.unlink()
            if not index:  # as large as an image of 60 MP
                frame = inspect_images(packed)[0]
                assert frame.tiling is not None
                with_card(packed, PCOUNT=10**8)
                with packed.open("ab") as file:
                    file.truncate(10**8 + 2**17)
    outcome = n.run_command(night, "--darks-only", compute={"memory_limit": "400MB"})
    assert "dark_000.fits.fz: cannot be unpacked" in outcome.text
    assert "compute.memory_limit" in outcome.text
    (master,) = night.masters.glob("master_dark*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack[1:]).mean)


# ---- disks ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a disk of 40 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "ostcal-test", str(place)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this system mounts no disk of a given size for this user")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_file_that_does_not_fit_on_the_disk_costs_itself(small_disk: Path, tmp_path: Path) -> None:
    """One frame too large for the disk, and a group of frames that are together, leave the others their masters."""
    night = Night(small_disk)
    stack = n.write_darks(night, 5.0)
    zero = np.zeros((2000, 3000), np.uint16)
    large = n.write_frames(tmp_path / "large", np.broadcast_to(zero, (7, *zero.shape)), "Dark Frame", 60.0)
    for path in large:
        shutil.move(gzipped(path), night.darks / f"large_{path.name}.gz")
    outcome = n.run_command(night, "--darks-only")
    assert "Traceback" not in outcome.text
    assert outcome.exit_code != 0
    assert "not made: unpacking 7 frames" in outcome.text
    (master,) = night.masters.glob("master_dark*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack).mean)
    assert [path for path in night.masters.iterdir() if path.name.startswith(".unpacked")] == []


def test_one_image_larger_than_the_disk_is_refused_before_it_is_written(small_disk: Path, tmp_path: Path) -> None:
    packed = inspect_fits(gzipped(write_frame(tmp_path / "a.fits", frame_values())))
    with pytest.raises(FrameError, match=r"takes \d+ bytes, .* has \d+ free"):
        unpack(replace(packed, height=30_000, width=3_000), small_disk)
    assert list(small_disk.iterdir()) == []


# ---- other commands ----


def too_large_a_tile(path: Path, kind: str) -> Path:
    """Write a small image whose one tile takes more memory than 400 MB, as its header says."""
    one_tile(
        path, frame_values(n.SHAPE), "RICE_1", IMAGETYP=kind, EXPTIME=5.0, DATE_OBS="2026-11-22T01:00:00", **n.CAMERA
    )
    with with_card(path, PCOUNT=10**8).open("ab") as file:
        file.truncate(10**8 + 2**17)
    return path


def test_imports_leave_out_what_does_not_fit_into_memory(tmp_path: Path) -> None:
    night, folder = Night(tmp_path), tmp_path / "frames"
    n.write_frames(folder, n.dark_frames(5.0, 3), "Dark Frame", 5.0)
    too_large_a_tile(folder / "tile.fits.fz", "Dark Frame")
    cards = {"IMAGETYP": "Dark Frame", "EXPTIME": 5.0, "DATE-OBS": "2026-11-22T02:00:00"}
    with (folder / "large.fits").open("wb") as file:
        file.write(header_block(16, (16_000, 16_000), **cards))
        file.truncate(BLOCK * 2 + 2 * 16_000**2)
    config = n.write_config(night, compute={"memory_limit": "400MB"})
    with little_used_memory(), in_time():
        outcome = n.ostcal("import", folder, "--config", config)
    assert "Traceback" not in outcome.text
    assert "large.fits: cannot be imported: 16000 x 16000 pixels take" in outcome.text
    assert "tile.fits.fz: cannot be unpacked" in outcome.text
    assert 3 in [len(open_series(path).records) for path in night.darks.rglob("*.zarr")]


def test_calibrate_refuses_a_tile_that_does_not_fit_into_memory(tmp_path: Path) -> None:
    night, lights = Night(tmp_path), tmp_path / "lights"
    n.write_darks(night, 5.0)
    assert n.run_command(night, "--darks-only").exit_code == 0
    n.write_frames(lights, n.dark_frames(5.0, 1), "Light Frame", 5.0, stem="good")
    too_large_a_tile(lights / "tile.fits.fz", "Light Frame")
    config = n.write_config(night, compute={"memory_limit": "400MB"})
    outcome = n.ostcal("calibrate", lights, "--config", config, "--output-dir", tmp_path / "out", "--flat", "none")
    assert outcome.exit_code == 1
    assert "tile.fits.fz: cannot be unpacked: 20 rows of 28 pixels (RICE_1) are decoded at once" in outcome.text
    assert [path.name for path in (tmp_path / "out").glob("*.fits")] == ["good_000_cal.fits"]
