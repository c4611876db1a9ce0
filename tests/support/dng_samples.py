"""DNG files written by hand as TIFF 6.0 and DNG 1.4 describe them: an uncompressed mosaic with a masked border."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL = 1, 2, 3, 4, 5, 7, 10
_LENGTHS = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, SRATIONAL: 8}
_COLOURS = {"R": 0, "G": 1, "B": 2}

Tag = tuple[int, int, Any]


def write_dng(
    path: Path,
    values: NDArray[np.uint16],
    *,
    active: tuple[int, int, int, int] | None = None,
    pattern: str = "RGGB",
    exposure_s: tuple[int, int] = (30, 1),
    iso: int = 800,
    make: str = "Canon",
    model: str = "Canon EOS 6D",
    when: str = "2026:11:21 20:15:30",
    offset: str | None = None,
) -> Path:
    """Write a mosaic; `active` is (top, left, bottom, right) of the part that sees light, where a border is masked.

    `pattern` is that of the first pixels of the active part.
    """
    height, width = values.shape
    strip = values.astype("<u2").tobytes()
    exif: list[Tag] = [
        (0x829A, RATIONAL, [exposure_s]),
        (0x8827, SHORT, [iso]),
        (0x9003, ASCII, when),
        *([(0x9011, ASCII, offset)] if offset else []),
    ]
    tags: list[Tag] = [
        (0x00FE, LONG, [0]),
        (0x0100, LONG, [width]),
        (0x0101, LONG, [height]),
        (0x0102, SHORT, [16]),
        (0x0103, SHORT, [1]),
        (0x0106, SHORT, [32803]),
        (0x010F, ASCII, make),
        (0x0110, ASCII, model),
        (0x0111, LONG, [0]),  # where the strip is, below
        (0x0112, SHORT, [1]),
        (0x0115, SHORT, [1]),
        (0x0116, LONG, [height]),
        (0x0117, LONG, [len(strip)]),
        (0x011C, SHORT, [1]),
        (0x828D, SHORT, [2, 2]),
        (0x828E, BYTE, [_COLOURS[letter] for letter in pattern]),
        (0x8769, LONG, [0]),  # where the EXIF is, below
        (0xC612, BYTE, [1, 4, 0, 0]),
        (0xC614, ASCII, model),
        (0xC61A, SHORT, [512]),
        (0xC61D, LONG, [65535]),
        (0xC621, SRATIONAL, [(1, 1), (0, 1), (0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1)]),
        (0xC628, RATIONAL, [(1, 1), (1, 1), (1, 1)]),
        *([(0xC68D, LONG, list(active))] if active else []),
    ]
    start = 8
    exif_at = start + _length(tags)
    strip_at = exif_at + _length(exif)
    placed = {0x0111: [strip_at], 0x8769: [exif_at]}
    tags = [(tag, kind, placed.get(tag, value)) for tag, kind, value in tags]
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + _directory(tags, start) + _directory(exif, exif_at) + strip)
    return path


def tiff(tags: Sequence[Tag]) -> bytes:
    """Return a TIFF file of one directory."""
    return b"II*\0" + struct.pack("<I", 8) + _directory(tags, 8)


def _packed(kind: int, value: Any) -> bytes:
    if kind == ASCII:
        return str(value).encode("ascii") + b"\0"
    match kind:
        case 3:
            return struct.pack(f"<{len(value)}H", *value)
        case 4:
            return struct.pack(f"<{len(value)}I", *value)
        case 5:
            return b"".join(struct.pack("<II", *pair) for pair in value)
        case 10:
            return b"".join(struct.pack("<ii", *pair) for pair in value)
    return bytes(value)


def _length(tags: Sequence[Tag]) -> int:
    return 6 + 12 * len(tags) + sum(n + n % 2 for _, kind, value in tags if (n := len(_packed(kind, value))) > 4)


def _directory(tags: Sequence[Tag], start: int) -> bytes:
    """Return an image file directory that begins at a byte, with what does not fit into its entries behind it."""
    entries, beside = b"", b""
    at = start + 6 + 12 * len(tags)
    for tag, kind, value in sorted(tags):
        data = _packed(kind, value)
        count = len(data) // _LENGTHS[kind]
        if len(data) > 4:
            entries += struct.pack("<HHII", tag, kind, count, at + len(beside))
            beside += data + bytes(len(data) % 2)
        else:
            entries += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack("<H", len(tags)) + entries + bytes(4) + beside
