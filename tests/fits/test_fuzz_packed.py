"""Packed files that lie: tiles, tables and gzip members changed at random; each is read, or refused in one line.

By hand, ten times as many: ``OSTCAL_FUZZ_MUTATIONS=1600 pytest --log-cli-level INFO --timeout 0
tests/fits/test_fuzz_packed.py`` shows the longest time and the most memory and scratch space that a file took.
"""

from __future__ import annotations

import gzip
import logging
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from astropy.io import fits

from ostcal.fits.read import inspect_fits
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from support.bombs import CODERS, FRAME, one_tile, with_card, zeros
from support.fits_samples import frame_values
from support.fuzzing import Refusals, change_bytes, little_memory, mutations, status_bytes

logger = logging.getLogger(__name__)

FILES = mutations(160)
MEMORY_BYTES = 300 * 2**20
SHAPE = (37, 53)
LENGTHS = (-1, 0, 1, 2, 36, 37, 52, 53, 54, 1961, 4000, 46_000, 2**20, 2**31 - 1, 2**31, 2**33, 2**40, 2**62)
CARDS = (
    "ZTILE1", "ZTILE2", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZBITPIX", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS",
    "BITPIX", "ZCMPTYPE",
)  # fmt: skip
TOKENS = (b"\x1f\x8b\x08\x08", b"\x1f\x8b\x08\x04\xff\xff", gzip.compress(b""), gzip.compress(b"END"), b"\0" * 900)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)")


@dataclass
class Worst:
    """The most that a file took."""

    seconds: float = 0.0
    memory_bytes: int = 0
    scratch_bytes: int = 0

    def see(self, began_s: float, before: set[int], scratch: Path) -> None:
        self.seconds = max(self.seconds, time.perf_counter() - began_s)
        for process in psutil.Process().children():
            if process.pid not in before and process.status() != psutil.STATUS_ZOMBIE:
                self.memory_bytes = max(self.memory_bytes, status_bytes("VmHWM", process.pid))
        for path in scratch.iterdir():
            self.scratch_bytes = max(self.scratch_bytes, path.stat().st_size)
            path.unlink()


def unpacked_files(path: Path, scratch: Path, files: list[tuple[str, bytes]]) -> tuple[Refusals, Worst]:
    """Unpack files one after the other; each ends in time, memory and room, and in one line."""
    scratch.mkdir()
    counts, worst, before = Refusals(), Worst(), {process.pid for process in psutil.Process().children()}
    with little_memory(), TileReader(MEMORY_BYTES) as tiles:
        for label, data in files:
            path.write_bytes(data)
            began_s = time.perf_counter()
            with counts.case(label, data):
                unpack(inspect_fits(path), scratch, tiles)
            worst.see(began_s, before, scratch)
    logger.info("%s: %d files, %d refused, %s", path.name, len(files), counts.refused, worst)
    assert worst.memory_bytes <= MEMORY_BYTES
    assert worst.scratch_bytes < 2**30
    return counts, worst


def of_tiles(folder: Path, rng: random.Random) -> bytes:
    """Return a tile-compressed image of which cards, descriptors or the packed tiles were changed."""
    coder = rng.choice(CODERS)
    values = frame_values(SHAPE) >> 4
    kind = rng.choice(("int16", "int32", "uint8", "float32"))
    path = one_tile(folder / "good.fits.fz", values.astype(kind), coder)
    with fits.open(path, disable_image_compression=True) as hdus:
        at, header = hdus[1]._data_offset, hdus[1].header
    if rng.random() < 0.6:
        for card in rng.sample([card for card in CARDS if card in header], rng.choice((1, 1, 2, 3))):
            coders = [f"'{name:8}'" for name in (*CODERS, "RICE_2")]
            with_card(path, **{card: rng.choice(coders if card == "ZCMPTYPE" else LENGTHS)})
    data = bytearray(path.read_bytes())
    if rng.random() < 0.6:
        numbers = (0, 1, 7, 8, 100, 2**16, 2**24, 2**31 - 1, 2**32 - 1)
        data[at : at + 8] = b"".join(rng.choice(numbers).to_bytes(4, "big") for _ in range(2))
    if rng.random() < 0.3:
        place = rng.randrange(at, len(data))
        data[place : place + 8] = rng.randbytes(8)
    return bytes(data)


def of_members(rng: random.Random, large: bytes) -> bytes:
    """Return a gzip file of members that were cut, repeated, changed, padded, or followed by many zeros."""
    parts = [gzip.compress(FRAME[at : at + 2880], 1) for at in range(0, len(FRAME), 2880)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts[at] = large * rng.choice((1, 8, 60))
            case 1:
                parts[at] = gzip.compress(b"") * rng.choice((1, 900, 60_000))
            case 2:
                parts[at] += bytes(rng.choice((1, 500, 2**20, 18 * 2**20)))
            case 3:
                parts[at] = b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * rng.choice((9, 2**20, 18 * 2**20))
            case 4:
                parts.insert(at, parts[rng.randrange(len(parts))])
            case _:
                changed = bytearray(parts[at])
                change_bytes(changed, rng, TOKENS)
                parts[at] = bytes(changed)
    return b"".join(parts)


def test_tiles_that_lie(tmp_path: Path) -> None:
    rng = random.Random("tiles that lie")
    files = [(f"tiles {number}", of_tiles(tmp_path, rng)) for number in range(FILES)]
    counts, _ = unpacked_files(tmp_path / "a.fits.fz", tmp_path / "scratch", files)
    assert counts.refused + counts.accepted == FILES
    assert counts.refused > FILES / 4
    assert counts.accepted > FILES / 100


def test_gzip_members_that_lie(tmp_path: Path) -> None:
    rng, large = random.Random("members that lie"), zeros(4)
    counts = Refusals()
    for part in range(-(-FILES // 40)):
        files = [(f"members {number}", of_members(rng, large)) for number in range(40)]
        some, _ = unpacked_files(tmp_path / "a.fits.gz", tmp_path / f"scratch{part}", files)
        counts.refused += some.refused
        counts.accepted += some.accepted
    assert counts.refused > FILES / 4
    assert counts.accepted > FILES / 20
