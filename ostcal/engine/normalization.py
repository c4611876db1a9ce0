"""The level of a combined flat, by which it is divided: mean, median or maximum, of the frame or of each colour.

A level is taken from whole rows only and rows are summed with `math.fsum`, so that it does not depend on strips.
To add a normalization: a class with ``add_rows`` and ``result`` and a word in `level_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.tiling import WHOLE_ROWS
from ostcal.errors import CombineError
from ostcal.row_window import RowWindow
from ostcal.vocabulary import NormalizationMethod

RowReader = Callable[[int, int], NDArray[np.float32]]


def colour_planes(bayer_pattern: str | None) -> dict[str, list[tuple[int, int]]]:
    """Give for each colour the (row, column) offsets of its pixels in the 2 x 2 cell; one colour without a pattern."""
    if bayer_pattern is None:
        return {"": []}
    planes: dict[str, list[tuple[int, int]]] = {}
    for index, colour in enumerate(bayer_pattern):
        planes.setdefault(colour, []).append((index // 2, index % 2))
    return planes


def finite_row_sums(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """Sum the finite pixels of each row, (rows,), and count those of all; no row's sum depends on other rows."""
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = np.add.reduce(rows, axis=1, dtype=np.float64)
    count = rows.size
    for row in np.flatnonzero(~np.isfinite(sums)):  # none, as a rule: leaving out takes three times as long
        finite = np.isfinite(rows[row])
        sums[row] = np.sum(rows[row], dtype=np.float64, where=finite)
        count += int(np.count_nonzero(finite)) - rows.shape[1]
    return sums, count


def measure_levels(
    read_rows: RowReader,
    height: int,
    method: NormalizationMethod,
    bayer_pattern: str | None,
    row_step: int = WHOLE_ROWS,
) -> dict[str, float]:
    """Measure the level of each colour of an image that is read strip by strip.

    Parameters
    ----------
    read_rows : callable (start, stop) -> (rows, width) float32
    height : int
    method : {"mean", "median", "max"}
    bayer_pattern : str or None
    row_step : int
        Rows that are stored, and so read, together; no result depends on it.

    Returns
    -------
    dict of colour to level in the image's unit; the colour of a monochrome image is "".

    Raises
    ------
    CombineError
        If a level is zero, negative or not a number: the image cannot be normalised.
    """
    levels = {}
    for colour, offsets in colour_planes(bayer_pattern).items():

        def strips(offsets: list[tuple[int, int]] = offsets) -> Iterator[NDArray[np.float32]]:
            window = RowWindow(read_rows, height, row_step)
            for start in range(0, height, WHOLE_ROWS):
                yield from _pixels_of(window.rows(start, min(start + WHOLE_ROWS, height)), offsets)

        levels[colour] = lit_level(_METHODS[method](strips), method, colour)
    return levels


def lit_level(level: float, method: NormalizationMethod, colour: str = "") -> float:
    """Give a level by which a flat can be divided.

    Raises
    ------
    CombineError
        If it is zero, negative or not a number.
    """
    if not level > 0 or math.isinf(level):
        raise CombineError(
            f"the combined flat has the {method} level {level:.6g} ADU{f' in {colour}' if colour else ''}: "
            "it must be above zero; check that the flats hold light and that the dark fits them"
        )
    return level


def divide_by_levels(
    rows: NDArray[np.float32], start: int, levels: dict[str, float], bayer_pattern: str | None
) -> NDArray[np.float32]:
    """Divide rows that begin at row `start` by the level of each pixel's colour; float64 quotient, float32 result."""
    divided = np.empty_like(rows)  # rounded by numpy piece by piece: whole planes of float64 take twice the time
    if bayer_pattern is None:
        np.divide(rows, levels[""], out=divided, dtype=np.float64, casting="same_kind")
        return divided
    cell = np.array([levels[colour] for colour in bayer_pattern]).reshape(2, 2)
    y = (np.arange(rows.shape[0]) + start) % 2
    x = np.arange(rows.shape[1]) % 2
    np.divide(rows, cell[y[:, None], x[None, :]], out=divided, dtype=np.float64, casting="same_kind")
    return divided


def _pixels_of(rows: NDArray[Any], offsets: list[tuple[int, int]]) -> Iterator[NDArray[Any]]:
    if not offsets:
        yield rows
    for row, column in offsets:
        yield rows[row::2, column::2]


Strips = Callable[[], Iterator[NDArray[np.float32]]]


def _mean(strips: Strips) -> float:
    sums: list[float] = []
    count = 0
    for strip in strips():
        row_sums, finite = finite_row_sums(strip)
        sums.extend(row_sums)
        count += finite
    return math.fsum(sums) / count if count else math.nan


def _maximum(strips: Strips) -> float:
    return max((float(np.max(s, initial=-np.inf, where=np.isfinite(s))) for s in strips()), default=math.nan)


def _median(strips: Strips) -> float:
    """Exact median by two passes of 65536-bin histograms over the values' order-preserving 32-bit keys."""
    count = sum(int(np.count_nonzero(np.isfinite(strip))) for strip in strips())
    if count == 0:
        return math.nan
    a = _value_of_rank(strips, (count - 1) // 2)
    b = a if count % 2 else _value_of_rank(strips, count // 2)
    return (a + b) / 2


def _value_of_rank(strips: Strips, rank: int) -> float:
    high_counts = np.zeros(65536, np.int64)
    for strip in strips():
        high_counts += np.bincount(_ordered_keys(strip) >> np.uint32(16), minlength=65536)
    cumulative = np.cumsum(high_counts)
    high = int(np.searchsorted(cumulative, rank, side="right"))
    rank -= int(cumulative[high] - high_counts[high])
    low_counts = np.zeros(65536, np.int64)
    for strip in strips():
        keys = _ordered_keys(strip)
        low_counts += np.bincount(keys[keys >> np.uint32(16) == high] & np.uint32(0xFFFF), minlength=65536)
    low = int(np.searchsorted(np.cumsum(low_counts), rank, side="right"))
    key = np.uint32(high << 16 | low)
    bits = key ^ np.uint32(0x80000000) if key & np.uint32(0x80000000) else ~key
    return float(np.array(bits, np.uint32).view(np.float32))


def _ordered_keys(strip: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Give the finite values' bits so that they order as the values do."""
    bits = np.ascontiguousarray(strip[np.isfinite(strip)]).view(np.uint32)
    negative = bits >> np.uint32(31) == 1
    return np.where(negative, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)


_METHODS: dict[NormalizationMethod, Callable[[Strips], float]] = {"mean": _mean, "median": _median, "max": _maximum}
