"""Damaged FITS files, plain, as extensions, tables, gzip and tile-compressed: each is read, or refused in one line."""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

from ostcal.errors import FrameError
from ostcal.fits.read import FitsStack, fingerprint, inspect_extension, inspect_fits
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from support import night as n
from support.fits_samples import (
    frame_values,
    read_with_astropy,
    tile_compressed,
    write_extension,
    write_frame,
    write_stored,
)
from support.fuzzing import (
    LONGEST_LINE,
    Refusals,
    change_bytes,
    little_memory,
    little_used_memory,
    mutations,
)
from support.night import Night

MUTATIONS = mutations(1100)
SHAPE = (37, 53)
CARD = 80
KINDS = (
    "plain",
    "signed",
    "float",
    "scaled",
    "extension",
    "table",
    "gzip",
    "rice",
    "gzip tiles",
    "hcompress",
    "float tiles",
)
VALUES = (
    "0", "1", "-1", "2", "3", "8", "16", "24", "32", "64", "-32", "-64", "999", "1000", "65536", "2147483647",
    "2147483648", "4294967296", "9223372036854775807", "9" * 60, "-" + "9" * 60, "1E308", "-1E308", "1E-320", "1D400",
    "NaN", "INF", "T", "F", "''", "'x'", "'../../../../x'", "'/etc/passwd'", "'" + "/" * 60 + "'",
    "'9999-12-31T23:59:59'", "'0000-00-00'", "'RICE_1'", "'GZIP_2'", "'PLIO_1'", "'HCOMPRESS_1'", "'1PB(99)'",
    "'1QB(9999999999)'", "'A'", "", "'\x00'", "'\xff\xfe'", "'unclosed", "'&'", "(1, 2)", "/", "0x10", "1_000",
)  # fmt: skip
KEYWORDS = (
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT", "GROUPS", "EXTEND",
    "BZERO", "BSCALE", "BLANK", "ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2",
    "ZCMPTYPE", "ZNAME1", "ZVAL1", "ZVAL2", "ZQUANTIZ", "ZDITHER0", "ZBLANK", "THEAP", "TFIELDS", "TFORM1", "TFORM2",
    "TTYPE1", "TTYPE2", "TSCAL1", "IMAGETYP", "EXPTIME", "GAIN", "OFFSET", "DATE-OBS", "FILTER", "XBINNING", "INSTRUME",
    "CONTINUE", "END", "OBJECT", "CCD-TEMP", "SET-TEMP", "EXTNAME", "HIERARCH", "COMMENT", "",
)  # fmt: skip
TOKENS = (b"\x00" * 80, b"\xff" * 9, b"END" + b" " * 77, b" " * 80, b"\n", b"NAXIS1  = 99999", b"\x1f\x8b", b"'" * 30)

OVERFLOWS = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # of 1e300 ADU

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)")


def sample(kind: str, folder: Path, shape: tuple[int, int] = SHAPE) -> Path:
    """Write one good file of a kind."""
    values, cards = frame_values(shape), {"IMAGETYP": "Dark Frame", "EXPTIME": 5.0, "GAIN": 100, "OBJECT": "M 31"}
    path = folder / "frame.fits"
    match kind:
        case "plain" | "gzip":
            return write_frame(path, values, **cards)
        case "signed":
            return write_frame(path, values.astype(np.int32), **cards)
        case "float":
            return write_frame(path, values.astype(np.float32), **cards)
        case "scaled":
            stored = np.arange(shape[0] * shape[1], dtype=np.int16).reshape(shape)
            return write_stored(path, stored, BZERO=100, BSCALE=0.5, BLANK=7, **cards)
        case "extension":
            return write_extension(path, values, primary=cards, own={"FILTER": "R"})
        case "table":
            columns = fits.BinTableHDU(np.zeros(9, [("x", "i4"), ("y", "f8")]))
            fits.HDUList([fits.PrimaryHDU(), columns, fits.ImageHDU(values, name="RAW")]).writeto(path)
            return path
        case "rice":
            return tile_compressed(path, values, **cards)
        case "gzip tiles":
            return tile_compressed(path, values, "GZIP_1", **cards)
        case "hcompress":
            return tile_compressed(path, values, "HCOMPRESS_1", **cards)
        case _:
            return tile_compressed(path, values.astype(np.float32) / 7, **cards)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage a file: mostly cards of its headers, else bytes anywhere."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if rng.random() < 0.7:
            change_card(damaged, rng)
        else:
            change_bytes(damaged, rng, TOKENS)
    return bytes(damaged)


def change_card(data: bytearray, rng: random.Random) -> None:
    """Change, rename, double, move or remove a card, or add one."""
    found = [match.start() for match in re.finditer(rb"[A-Z][A-Z0-9-]{2,7} *=", data) if match.start() % CARD == 0]
    if not found:
        return
    at = rng.choice(found)
    card = bytes(data[at : at + CARD])
    value = rng.choice(VALUES).encode("latin-1")[: CARD - 10]
    match rng.randrange(8):
        case 0 | 1 | 2:
            data[at : at + CARD] = (card[:8] + b"= " + value).ljust(CARD)
        case 3:
            data[at : at + CARD] = (rng.choice(KEYWORDS).ljust(8).encode() + b"= " + value).ljust(CARD)
        case 4:
            data[at : at + 8] = rng.choice(KEYWORDS).ljust(8).encode()
        case 5:
            other = rng.choice(found)
            data[at : at + CARD], data[other : other + CARD] = data[other : other + CARD], card
        case 6:
            data[at : at + CARD] = b" " * CARD
        case _:
            number = str(rng.choice((-1, 0, 1, 2, 3, 52, 54, 36, 38, 1961, 2 ** rng.randrange(1, 64))))
            data[at : at + CARD] = (card[:8] + b"= " + number.encode()).ljust(CARD)


def use_frame(path: Path, scratch: Path, tiles: TileReader) -> None:
    """Do with a file what the masters do with it: inspect, unpack, fingerprint, read by strips."""
    frame = inspect_fits(path)
    assert frame.width * frame.height <= 2**31
    if frame.packed == "none":
        assert frame.data_offset + frame.data_length <= path.stat().st_size
        inspect_extension(path, "RAW")
    plain = unpack(frame, scratch, tiles)
    fingerprint(plain)
    stack = FitsStack((plain, plain))
    _, height, width = stack.shape
    for start in range(0, min(height, 64), 16):
        stop = min(height, start + 16)
        if width < 2**20:
            stack.read_rows(start, stop, np.empty((2, stop - start, width), stack.encoding.dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    good = sample(kind, tmp_path)
    whole, rng, counts = good.read_bytes(), random.Random(f"FITS {kind}"), Refusals()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with TileReader() as tiles:
        use_frame(good, scratch, tiles)
    number = -(-MUTATIONS // len(KINDS))
    with little_memory(), TileReader() as tiles:
        for case in range(number):
            data = mutated(whole, rng)
            if kind == "gzip":
                data = gzip.compress(data, 1)
                packed = bytearray(data)
                if rng.random() < 0.5:
                    change_bytes(packed, rng, TOKENS)
                data = bytes(packed)
            good.write_bytes(data)
            with counts.case(f"{kind}, mutation {case}", data):
                use_frame(good, scratch, tiles)
            for left in scratch.iterdir():
                assert left.stat().st_size < 1 << 30
                left.unlink()
    assert counts.refused + counts.accepted == number
    assert counts.refused > number / 20
    assert counts.accepted > number / 20


PER_RUN = 50


def damaged_folder(folder: Path, good: dict[str, bytes], rng: random.Random) -> None:
    """Fill a folder with damaged files of all kinds."""
    folder.mkdir(parents=True)
    for number in range(PER_RUN):
        kind = rng.choice(KINDS)
        data = mutated(good[kind], rng)
        packed = kind == "gzip"
        (folder / f"odd_{number:03d}.fits{'.gz' if packed else ''}").write_bytes(
            gzip.compress(data, 1) if packed else data
        )


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return one good file of each kind, of the size of the frames of a night."""
    folder = tmp_path_factory.mktemp("good")
    files = {}
    for kind in KINDS:
        path = sample(kind, folder, n.SHAPE)
        files[kind] = path.read_bytes()
        path.unlink()
    return files


@pytest.mark.slow
@OVERFLOWS
def test_masters_of_folders_full_of_damaged_files(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    """Every run ends by itself, makes the master of the good frames, and writes nowhere but where it should."""
    rng = random.Random("masters")
    for run in range(-(-MUTATIONS // (16 * PER_RUN))):
        night = Night(tmp_path / str(run))
        stack = n.write_darks(night, 5.0, INSTRUME="Good")
        damaged_folder(night.darks / "odd", good_files, rng)
        before = everything(night.root)
        with little_used_memory():
            outcome = n.run_command(night)
        assert outcome.exit_code in (0, 1, 3), outcome.text
        assert "Traceback" not in outcome.text
        assert max(map(len, outcome.text.split("\n"))) <= LONGEST_LINE
        made = [path for path in night.masters.glob("master_dark*.fits") if instrument(path) == "Good"]
        assert len(made) == 1
        np.testing.assert_array_equal(read_with_astropy(made[0])[0], n.combined(stack).mean)
        after = everything(night.root)
        assert before.items() <= after.items()
        added = [Path(name) for name in after.keys() - before.keys()]
        assert [path for path in added if night.masters not in path.parents and path != night.root / "c.yaml"] == []
        assert [path for path in added if "partial" in path.name or path.name.startswith(".")] == []
        shutil.rmtree(night.root)


def instrument(path: Path) -> object:
    return read_with_astropy(path)[1].get("INSTRUME")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@OVERFLOWS
def test_calibrating_damaged_files(tmp_path: Path, good_files: dict[str, bytes]) -> None:
    """Damaged science frames are named, the good ones calibrated, nothing is half written."""
    rng, night = random.Random("calibrate"), Night(tmp_path / "night")
    n.write_darks(night, 5.0)
    assert n.run_command(night, "--darks-only").exit_code == 0
    config = night.root / "c.yaml"
    lights = {kind: data.replace(b"'Dark Frame'", b"'Light'     ") for kind, data in good_files.items()}
    for run in range(-(-MUTATIONS // (32 * PER_RUN))):
        folder, target = tmp_path / f"lights {run}", tmp_path / f"calibrated {run}"
        damaged_folder(folder, lights, rng)
        n.write_frames(folder, n.dark_frames(5.0, 1), "Light Frame", 5.0, stem="good")
        before = everything(folder)
        with little_used_memory():
            outcome = n.ostcal("calibrate", folder, "--config", config, "--output-dir", target, "--flat", "none")
        assert outcome.exit_code in (0, 1), outcome.text
        assert "Traceback" not in outcome.text
        assert max(map(len, outcome.text.split("\n"))) <= LONGEST_LINE
        assert everything(folder) == before
        assert (target / "good_000_cal.fits").exists(), outcome.text
        assert [path for path in target.rglob("*") if "partial" in path.name or path.name.startswith(".")] == []


# ---- what was found ----


def test_a_table_of_a_billion_columns_is_refused_at_once(tmp_path: Path) -> None:
    path = sample("rice", tmp_path)
    data = re.sub(rb"TFIELDS =.{21}", b"TFIELDS =           2147483648", path.read_bytes())
    path.write_bytes(data)
    with pytest.raises(FrameError, match="TFIELDS is 2147483648"):
        inspect_fits(path)


def test_a_decoder_that_crashes_or_never_ends_costs_its_frame_and_not_the_next(tmp_path: Path) -> None:
    good, tiles = sample("rice", tmp_path), TileReader()
    frame = inspect_fits(good)
    with tiles:
        whole = b"".join(strip.tobytes() for strip in tiles.strips(frame))
        assert len(whole) == frame.data_length
        for number, says in ((signal.SIGSEGV, "crashes"), (signal.SIGXCPU, "comes to no end")):
            (process,) = [one for one in psutil.Process().children() if "tile_process" in " ".join(one.cmdline())]
            process.send_signal(number)
            while process.status() != psutil.STATUS_ZOMBIE:  # ended, and not yet waited for
                os.sched_yield()
            with pytest.raises(FrameError, match=f"cannot be unpacked: its tiles are damaged: unpacking them {says}"):
                list(tiles.strips(frame))
            assert b"".join(strip.tobytes() for strip in tiles.strips(frame)) == whole


def test_tiles_larger_than_their_file_can_hold_are_refused(tmp_path: Path) -> None:
    good = sample("rice", tmp_path)
    frame = inspect_fits(good)
    assert frame.tiling is not None
    huge = replace(frame, height=60_000, width=30_000, tiling=replace(frame.tiling, rows=60_000))
    data = good.read_bytes()
    for keyword, value in (("ZNAXIS1", 30_000), ("ZNAXIS2", 60_000), ("ZTILE1", 30_000), ("ZTILE2", 60_000)):
        data = re.sub(keyword.encode() + rb" *=.{21}", f"{keyword:8}= {value:>20}".encode(), data)
    good.write_bytes(data)
    with TileReader() as tiles, pytest.raises(FrameError, match="bytes in one row of tiles cannot be in a file of"):
        list(tiles.strips(huge))


@OVERFLOWS
@pytest.mark.parametrize("value", [1e300, -1e300, 1e19, -9.3e18])
def test_absurd_values_make_no_traceback(tmp_path: Path, value: float) -> None:
    night = Night(tmp_path)
    stack = n.dark_frames(5.0).astype(np.float64)
    stack[2, 3:9] = value
    stack[3, 4:9] = -value
    n.write_darks(night, 5.0, stack)
    outcome = n.run_command(night)
    assert outcome.exit_code in (0, 1, 3)
    assert "Traceback" not in outcome.text
