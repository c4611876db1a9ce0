"""Pictures of a report, and PNG files of 8-bit arrays as data URIs."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

DEFECT_COLOURS = ("#d1242f", "#2f6fde", "#b35900", "#8250df", "#0a7d5a", "#c2339a", "#4f7a12", "#607080")
"""Of the eight bits of a DQ plane, lowest first; each stands out from white and from near black."""

_RAMP_COLOUR = "#d4571b"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An array to look at, already scaled to 8 bits and of the size it is shown at (640 pixels wide or less)."""

    pixels: Bytes
    """(height, width) uint8, first row on top."""
    black: float | None = None
    """What 0 stands for."""
    white: float | None = None
    """What 255 stands for."""
    unit: str = "ADU"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of a master, pixel for pixel."""

    picture: Picture
    row: int
    column: int
    """Its first pixel, or the pixel that it shows."""
    value: float | None = None
    """Of that pixel."""


@dataclass(frozen=True, kw_only=True)
class MasterPictures:
    """Pictures of one master; ``None`` for those it lacks."""

    picture: Picture | None = None
    """The master itself, in the scale of zscale."""
    rejection_map: Picture | None = None
    """Share of the samples rejected in each cell: `black` is 0, `white` the share of the fullest."""
    defect_map: Picture | None = None
    """The bits of the DQ plane, combined over each cell (bitwise or)."""
    worst_part: Crop | None = None
    """The square with most marked pixels."""
    brightest: tuple[Crop, ...] = ()
    """The hottest pixels."""
    thumbnails: Mapping[int, Picture] = field(default_factory=dict)
    """Frames to look at, by their position among the frames of the master."""


@dataclass(frozen=True, kw_only=True)
class CameraPictures:
    """Maps of a camera, from the least squares of its dark masters against exposure."""

    dark_current: Picture | None = None
    """Rate of each pixel, in the scale of zscale."""
    chi_square: Picture | None = None
    """Chi-square per degree of freedom of each pixel; from three exposures on."""


@dataclass(frozen=True, kw_only=True)
class ReportPictures:
    """Pictures by the name of the master, and those of the cameras in the order of the report."""

    masters: Mapping[str, MasterPictures] = field(default_factory=dict)
    cameras: Sequence[CameraPictures] = ()


def grey_uri(pixels: Bytes) -> str:
    """Return a (height, width) uint8 array as a data URI: 0 black, 255 white."""
    return _data_uri(pixels, colour_type=0)


def ramp_uri(pixels: Bytes) -> str:
    """Return a (height, width) uint8 array as a data URI: 0 transparent, 255 opaque, of one colour."""
    palette = _rgb(_RAMP_COLOUR) * 256
    # The square root keeps one rejected sample of ten visible.
    opacity = np.sqrt(np.arange(256) / 255) * 255
    return _data_uri(pixels, colour_type=3, palette=palette, opacity=opacity.astype(np.uint8).tobytes())


def defects_uri(pixels: Bytes) -> str:
    """Return a (height, width) uint8 array of DQ bits as a data URI: the lowest bit decides the colour, 0 is clear."""
    colours = ["#000000", *(defect_colour(bits & -bits) for bits in range(1, 256))]
    palette = b"".join(map(_rgb, colours))
    return _data_uri(pixels, colour_type=3, palette=palette, opacity=b"\0" + b"\xff" * 255)


def defect_colour(bit: int) -> str:
    """Return the colour of one bit of a DQ plane."""
    return DEFECT_COLOURS[(max(bit, 1).bit_length() - 1) % len(DEFECT_COLOURS)]


def _rgb(colour: str) -> bytes:
    return bytes.fromhex(colour[1:])


def _data_uri(pixels: Bytes, *, colour_type: int, palette: bytes = b"", opacity: bytes = b"") -> str:
    """Encode 8-bit pixels as PNG (W3C, third edition): one IDAT chunk, rows unfiltered, as noise gains nothing."""
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"a picture is a (height, width) uint8 array, not {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the byte before each row names its filter: none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", opacity)]
    chunks = [chunk for chunk in chunks if chunk[1]] + [(b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    file = _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")
