"""Load raw samples into tiles: 16-bit words as unsigned integers, words as dark-subtracted floats, and floats.

Loops have a constant number of `TILE` pixels and go over slices, or LLVM makes no SIMD code: `load_words` takes 0.10 s
for 40 x 61 MP instead of 0.34 s with a variable width, and 0.75 s with `row[first + x]`, where numba asks whether the
index is negative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import allocating, door, inlined, kernel
from ostcal.engine.kernels.network import TILE


class Coding(NamedTuple):
    """How raw 16-bit samples become ADU: ``(swapped(word) ^ flip) + zero``."""

    swapped: bool
    """Whether the bytes of a word are swapped."""
    flip: np.uint16
    """0x8000 for signed words, else 0: what turns them into unsigned integers in the order of their values."""
    zero: int
    """ADU of the unsigned integer 0."""


class Corrected(NamedTuple):
    """How raw words become the corrected floats ``(adu - level - offset - rate * exposure) * scale``."""

    coding: Coding
    offset: NDArray[np.float32]
    """Dark in ADU, (n_pixels,) float32."""
    rate: NDArray[np.float32]
    """Dark current in ADU/s, (n_pixels,) float32."""
    exposure: NDArray[np.float64]
    """Exposure in s, (n_frames,) float64."""
    scale: NDArray[np.float64]
    """(n_frames,) float64."""
    level: NDArray[np.float64]
    """Overscan of each frame in ADU, (n_frames,) float64."""


@kernel
def copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Fill `target` from the start of `source`, both 1-D; assigning slices costs seconds of compiling."""
    for x in range(target.size):
        target[x] = source[x]


@kernel
def copy_last(block: NDArray[Any], first: int, last: NDArray[Any]) -> None:
    """Copy the pixels of a block (n_frames, n_pixels) from column `first` on into a tile (n_frames, TILE)."""
    for i in range(block.shape[0]):
        rest = block[i, first:]
        copy(rest, last[i, : rest.size])


@inlined
def decoded(word: Any, coding: Coding) -> Any:
    """Return a raw word as an unsigned integer in the order of values, uint16."""
    if coding.swapped:
        word = np.uint16((word >> np.uint16(8)) | (word << np.uint16(8)))
    return np.uint16(word ^ coding.flip)


@kernel
def load_words(block: NDArray[np.uint16], first: int, coding: Coding, tile: NDArray[np.uint16]) -> None:
    """Decode `TILE` pixels, from column `first`, of a raw block (n_frames, n_pixels) into a tile (n_frames, TILE)."""
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = tile[i]
        for x in range(TILE):
            out[x] = decoded(row[x], coding)


@kernel
def load_with_extremes(
    block: NDArray[np.uint16],
    first: int,
    coding: Coding,
    tile: NDArray[np.uint16],
    lowest: NDArray[np.uint16],
    highest: NDArray[np.uint16],
) -> None:
    """Do `load_words`, and write the lowest and the highest sample of every pixel, (TILE,) uint16."""
    lowest[:] = 65535
    highest[:] = 0
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = tile[i]
        for x in range(TILE):
            word = decoded(row[x], coding)
            out[x] = word
            lowest[x] = word if word < lowest[x] else lowest[x]
            highest[x] = word if word > highest[x] else highest[x]


@door
def sum_words(block: NDArray[np.uint16], coding: Coding) -> Any:
    """Sum the unsigned integers of a raw block (n_pixels,), exactly, without `coding.zero`."""
    total: Any = 0
    for x in range(block.size):
        total += np.int64(decoded(block[x], coding))
    return total


@door
def correct_words(block: NDArray[np.uint16], how: Corrected, out: NDArray[np.float32]) -> None:
    """Correct a raw block (n_frames, n_pixels), computed in float64, into `out`, float32 of the same shape."""
    n, size = block.shape
    coding, offset, rate, exposure, scale = how.coding, how.offset, how.rate, how.exposure, how.scale
    for i in range(n):
        row = block[i]
        target = out[i]
        for x in range(size):
            value = np.float64(decoded(row[x], coding)) + (coding.zero - how.level[i])
            dark = np.float64(offset[x]) + np.float64(rate[x]) * exposure[i]
            target[x] = np.float32((value - dark) * scale[i])


@kernel
def load_floats(block: NDArray[Any], first: int, plain: NDArray[Any], tile: NDArray[Any]) -> Any:
    """Copy `TILE` pixels, from column `first`, of a float block (n_frames, n_pixels) into two tiles (n_frames, TILE).

    Do `order_floats` on the way. Return how many samples are finite.
    """
    n_finite: Any = 0
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = plain[i]
        for x in range(TILE):
            out[x] = row[x]
        n_finite += order_floats(out, tile[i])
    return n_finite


@kernel
def order_floats(plain: NDArray[Any], ordered: NDArray[Any]) -> Any:
    """Copy samples, (TILE,) float: what is not finite becomes NaN in `plain` and sorts last in `ordered`.

    Return how many are finite.
    """
    count = np.uint16(0)
    for x in range(TILE):
        # No -0.0: which of two zeros comes first would depend on the order of the frames.
        value = plain[x] if plain[x] != 0 else abs(plain[x])
        good = abs(value) < np.inf
        plain[x] = value if good else np.nan
        ordered[x] = value if good else np.inf
    for x in range(TILE):
        count = np.uint16(count + np.uint16(plain[x] == plain[x]))
    return np.int64(count)


class CorrectedWork(NamedTuple):
    """Work space of `correct_tile`."""

    last: NDArray[np.uint16]
    """Samples of the last tile, which may be narrower, (n_frames, TILE) uint16."""
    darks: NDArray[np.float32]
    """Offset and rate of the pixels of a tile, (2, TILE) float32."""
    dark: NDArray[np.float64]
    """Dark of the pixels at one exposure, (TILE,) float64."""


@allocating
def corrected_work(n: int) -> CorrectedWork:
    """Make room for `n` frames."""
    return CorrectedWork(
        last=np.zeros((n, TILE), np.uint16), darks=np.zeros((2, TILE), np.float32), dark=np.zeros(TILE, np.float64)
    )


@kernel
def correct_tile(
    block: NDArray[np.uint16],
    first: int,
    width: int,
    how: Corrected,
    work: CorrectedWork,
    plain: NDArray[np.float32],
    tile: NDArray[np.float32],
) -> Any:
    """Do `correct_words` for `width` pixels of a block from column `first`; write `plain`, (n_frames, TILE) float32.

    Do `order_floats` into `tile` as well, unless it has no rows. Return how many samples of `tile` are finite.
    """
    source, at = block, first
    if width < TILE:
        copy_last(block, first, work.last)
        source, at = work.last, 0
    copy(how.offset[first : first + width], work.darks[0, :width])
    copy(how.rate[first : first + width], work.darks[1, :width])
    offset, rate, exposure, dark, coding = work.darks[0], work.darks[1], how.exposure, work.dark, how.coding
    n_finite: Any = 0
    for i in range(block.shape[0]):
        if i == 0 or exposure[i] != exposure[i - 1]:
            for x in range(TILE):
                dark[x] = np.float64(offset[x]) + np.float64(rate[x]) * exposure[i]
        row, out, factor, zero = source[i, at : at + TILE], plain[i], how.scale[i], coding.zero - how.level[i]
        for x in range(TILE):  # 32 bits become floats quickly
            value = np.float64(np.int32(decoded(row[x], coding))) + zero
            out[x] = np.float32((value - dark[x]) * factor)
        if tile.size > 0:  # while the row is in the cache
            n_finite += order_floats(out, tile[i])
    return n_finite
