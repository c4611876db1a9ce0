"""What a tile-compressed image takes to be decoded, known from the header of its table before anything is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ostcal.errors import FrameError
from ostcal.fits.cards import Header
from ostcal.fits.layout import whole_number

PIECE_BYTES: Final = 4 * 2**20
"""Rows of tiles are decoded together up to so many bytes of samples; one row of tiles is the least."""
_CODERS: Final = {
    "RICE_1": (2.0, 0.0),
    "RICE_ONE": (2.0, 0.0),
    "GZIP_1": (2.4, 0.0),
    "GZIP_2": (3.3, 0.0),
    "HCOMPRESS_1": (0.0, 13.0),
    "PLIO_1": (0.0, 8.0),
    "NOCOMPRESS": (2.0, 0.0),
}
"""Bytes that a pixel takes at the peak: so many times its samples, and so many beside; measured with astropy 8.0."""
_QUANTIZED: Final = (4.0, 12.0)
"""The same of floats that are stored as integers."""
_COMPRESSED_COPIES: Final = 3
_DECODER_BYTES: Final = 80 * 2**20
"""The decoding process itself, with numpy and astropy."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The tiles of an image."""

    coder: str
    """ZCMPTYPE."""
    rows: int
    """Rows of the image that are decoded together."""
    height: int
    memory_bytes: int
    """What the process that decodes takes at its peak."""

    @property
    def is_one_tile(self) -> bool:
        """Whether the image has to be decoded at once, because no tile ends before it does."""
        return self.rows >= self.height


def tiling_of(header: Header, path: str, *, width: int, height: int) -> Tiling:
    """Read the tiles of an image of one plane from the header of its table.

    Raises
    ------
    FrameError
        If the coder is not known, or the tiles, the rows of the table and the image do not fit each other.
    """
    coder = header.text("ZCMPTYPE") or ""
    if coder not in _CODERS:
        raise FrameError(f"{path}: ZCMPTYPE is {coder!r}, none of {', '.join(_CODERS)}: unpack it with funpack first")
    n_axes = whole_number(header, "ZNAXIS", path, low=2, high=999)
    axes = [whole_number(header, f"ZNAXIS{number}", path, low=1) for number in range(1, n_axes + 1)]
    tiles = [_tile_length(header, number, length, path) for number, length in enumerate(axes, 1)]
    n_tiles = math.prod(-(-length // tile) for length, tile in zip(axes, tiles, strict=True))
    n_rows = whole_number(header, "NAXIS2", path)
    if n_rows != n_tiles:
        size = " x ".join(map(str, tiles))
        raise FrameError(
            f"{path}: its table has {n_rows} rows, its image {n_tiles} tiles of {size}: the file is damaged, leave it"
            " out"
        )
    # rows of the image follow those axes whose lengths make its width
    axis = next((at for at in range(1, n_axes) if math.prod(axes[:at]) == width and axes[at] == height), 1)
    sample_bytes = abs(whole_number(header, "ZBITPIX", path, low=-64, high=64)) // 8
    tile_rows, row_bytes = tiles[axis], width * sample_bytes
    rows = min(-(-max(1, PIECE_BYTES // row_bytes) // tile_rows) * tile_rows, height)
    kinds = [_CODERS[coder]]
    if whole_number(header, "ZBITPIX", path, low=-64, high=64) < 0:
        kinds.append(_QUANTIZED)
    pixel_bytes = max(samples * sample_bytes + beside for samples, beside in kinds)
    packed_bytes = -(-whole_number(header, "PCOUNT", path) * rows // math.prod(axes[1:]))
    table_bytes = whole_number(header, "NAXIS1", path) * n_rows
    memory = rows * width * pixel_bytes + _COMPRESSED_COPIES * (packed_bytes + table_bytes)
    return Tiling(coder=coder, rows=rows, height=height, memory_bytes=_DECODER_BYTES + math.ceil(memory))


def _tile_length(header: Header, number: int, length: int, path: str) -> int:
    """Return the length of a tile along an axis, no more than that of the image; without it a row is a tile."""
    keyword = f"ZTILE{number}"
    if header.value(keyword) is None:
        return length if number == 1 else 1
    return min(whole_number(header, keyword, path, low=1), length)
