"""Packed files that unpack to far more than they are, or to no end, made without unpacking or packing so much."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from support.fits_samples import BLOCK, data_block, frame_values, header_block

MIB = 2**20
FRAME = header_block(16, (37, 53), IMAGETYP="Dark Frame", EXPTIME=5.0) + data_block(frame_values().astype(np.int16))
CODERS = ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1", "NOCOMPRESS")


def zeros(n_mib: int) -> bytes:
    """Return gzip members that unpack to zeros: 64 MiB are 65 kB."""
    member = gzip.compress(bytes(64 * MIB), 6)
    return member * (n_mib // 64) + (gzip.compress(bytes(n_mib % 64 * MIB), 1) if n_mib % 64 else b"")


def gzip_bombs() -> dict[str, tuple[bytes, str]]:
    """Return packed files by what is wrong, each with what must be said of it."""
    before = header_block(8, (12_000 * MIB,))
    endless = gzip.compress(b"SIMPLE  =                    T".ljust(80) + b"COMMENT ".ljust(80) * 40_000)
    huge = header_block(-64, (46_340, 46_340), IMAGETYP="Dark Frame", EXPTIME=5.0)
    long_name = b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * (20 * MIB)
    extension = b"XTENSION= 'IMAGE   '".ljust(80) + FRAME[80:BLOCK] + FRAME[BLOCK:]
    return {
        "12 GB before the image": (gzip.compress(before) + zeros(12_000) + gzip.compress(extension), "may unpack to"),
        "an image of 17 GB": (gzip.compress(huge) + zeros(640), "may unpack to"),
        "a header without end": (endless, "no END within 1 MiB"),
        "a name without end": (long_name, "unpack to nothing"),
        "empty members": (gzip.compress(b"") * 200_000 + gzip.compress(FRAME), "members"),
        "padding": (gzip.compress(FRAME[:BLOCK]) + bytes(20 * MIB) + gzip.compress(FRAME[BLOCK:]), "unpack to nothing"),
        "zeros behind the image": (gzip.compress(FRAME) + zeros(640), "may unpack to"),
    }


def one_tile(path: Path, values: NDArray[Any], coder: str, *, quantized: bool = True, **cards: object) -> Path:
    """Write values as a tile-compressed image of one tile, as ``fpack -w`` does."""
    level = {} if quantized else {"quantize_level": 0.0}
    hdu = fits.CompImageHDU(values, compression_type=coder, tile_shape=values.shape, **level)
    for keyword, value in cards.items():
        hdu.header[keyword.replace("_", "-")] = value
    hdu.writeto(path, overwrite=True)
    return path


def with_card(path: Path, **values: object) -> Path:
    """Change cards of the last header of a file that has them to other values, whatever they mean."""
    data = bytearray(path.read_bytes())
    for keyword, value in values.items():
        *_, last = re.finditer(rf"{keyword:8}= [^/]{{20}}".encode(), data)
        data[last.start() : last.end()] = f"{keyword:8}= {value!s:>20}".encode()
    path.write_bytes(data)
    return path
