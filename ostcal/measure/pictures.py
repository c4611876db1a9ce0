"""Small grey pictures of planes of any size for reports: limits of brightness, fewer pixels, 8 bits.

Planes are read in strips of rows; nothing larger than a strip and the picture is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RowReader = Callable[[int, int], NDArray[Any]]
"""``(start, stop) -> (stop - start, width)``."""

Bins = Literal["mean", "max"]

FloatMap = NDArray[np.float32]

_STRIP_ROWS = 128


def zscale_limits(values: NDArray[Any], contrast: float = 0.25, samples: int = 10_000) -> tuple[float, float]:
    """Return the levels that show as black and white, by the zscale algorithm.

    A line is fitted to the sorted values, those further than 2.5 sigma from it are left out with their neighbours, five
    times at most; the limits follow its slope, divided by the contrast, from the median. They are the minimum and the
    maximum if more than half of the values are left out, 0 and 1 without finite values, and never equal. Of an array of
    any shape `samples` values are looked at, spread evenly. IRAF takes 1000; the limits are then uncertain by some
    percent.

    IRAF's ``numdisplay``/``display`` task, documented in its help page; Valdes and Tody (1984), NOAO.
    """
    flat = np.asarray(values).ravel()
    flat = flat[:: max(1, flat.size // samples)]
    ordered = np.sort(flat[np.isfinite(flat)].astype(np.float64))
    n = len(ordered)
    if n == 0:
        return 0.0, 1.0
    low, high = float(ordered[0]), float(ordered[-1])
    middle, at = float(np.median(ordered)), (n - 1) // 2
    x = np.arange(n, dtype=np.float64)
    good = np.ones(n, dtype=np.bool_)
    least = max(5, n // 2)
    for _ in range(5):
        before = np.count_nonzero(good)
        if before < least:
            break
        slope, intercept = np.polyfit(x[good], ordered[good], 1)
        residual = ordered - (slope * x + intercept)
        far = np.abs(residual) > 2.5 * np.std(residual[good])
        good &= ~(np.convolve(far, np.ones(max(1, int(n * 0.01))), mode="same") > 0)
        if np.count_nonzero(good) == before:
            break
    if np.count_nonzero(good) >= least:
        step = float(slope) / contrast
        low, high = max(low, middle - at * step), min(high, middle + (n - 1 - at) * step)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def downsample(
    read_rows: RowReader,
    shape: tuple[int, int],
    max_width: int,
    *,
    bayer: bool = False,
    bins: Bins = "mean",
    strip_rows: int = _STRIP_ROWS,
) -> FloatMap:
    """Make a plane of `shape` smaller, by square blocks of pixels: (rows, columns up to `max_width`) float32.

    Numbers that are not finite do not count; a block without any is NaN. Blocks at the right and at the bottom may have
    fewer pixels. Of Bayer sensors blocks are even, 2 at least, so that all colours count alike. Means show levels, but
    one hot pixel in a block vanishes: ``max`` is for maps of defects. About `strip_rows` rows are read at once.
    """
    height, width = shape
    block = block_side(width, max_width, bayer=bayer)
    picture = np.empty((-(-height // block), -(-width // block)), dtype=np.float32)
    at_once = block * max(1, strip_rows // block)
    for start in range(0, height, at_once):
        rows = np.asarray(read_rows(start, min(start + at_once, height)), dtype=np.float32)
        first = start // block
        binned = _binned(rows, block, bins)
        picture[first : first + len(binned)] = binned
    return picture


def block_side(width: int, max_width: int, *, bayer: bool = False) -> int:
    """Return the side of the blocks that `downsample` makes one pixel of."""
    block = max(1, -(-width // max(1, max_width)))
    return block + block % 2 if bayer else block


def _binned(rows: FloatMap, block: int, bins: Bins) -> FloatMap:
    if block == 1:
        return np.where(np.isfinite(rows), rows, np.float32(np.nan))
    down, across = np.arange(0, rows.shape[0], block), np.arange(0, rows.shape[1], block)
    finite = np.isfinite(rows)
    if bins == "max":
        filled = rows if finite.all() else np.where(finite, rows, np.float32(-np.inf))
        highest = np.maximum.reduceat(np.maximum.reduceat(filled, down, axis=0), across, axis=1)
        return np.asarray(np.where(np.isfinite(highest), highest, np.float32(np.nan)))
    filled = rows if finite.all() else np.where(finite, rows, np.float32(0))
    sums = np.add.reduceat(np.add.reduceat(filled, down, axis=0, dtype=np.float64), across, axis=1)
    if finite.all():
        counts = np.outer(np.diff(np.append(down, rows.shape[0])), np.diff(np.append(across, rows.shape[1])))
    else:
        counts = np.add.reduceat(np.add.reduceat(finite, down, axis=0, dtype=np.int64), across, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts, dtype=np.float32)


def grey_image(values: NDArray[Any], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return 8-bit grey values of a picture: 0 at the lower limit, by default that of zscale, and 255 at the upper one.

    NaN is black.
    """
    low, high = zscale_limits(values) if limits is None else limits
    scaled = (np.asarray(values, dtype=np.float64) - low) * (255 / max(high - low, 1e-300))
    scaled = np.where(np.isnan(scaled), 0, np.clip(scaled, 0, 255))
    return np.rint(scaled).astype(np.uint8)
