"""The compiled loops over every pixel of a master, for `ostcal.measure.masters.scan`, which says what they are for.

The rows of a band are read twice: once for what pieces of rows and columns have in common, once for the pixels that
stand out from it. numpy needs a dozen passes for that, with rows of temporaries, and Python's lock between them: 0.52 s
of one core for 61 MP, 0.33 s with these, and two threads seldom wait for each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ostcal.compiling import door, kernel

CELL = 64
"""Columns of a cell, and about as many rows."""
_LANES = 8
"""Sums of a piece of a row kept side by side: a vector register of floats."""


@kernel
def _clip_row(row: Any, mirrored: Any, low: Any, high: Any, level: Any, out: Any) -> None:
    """Clip a row; what is no number becomes the level of the cell, so that it does not spread."""
    width = np.uint64(row.shape[0])
    for x in range(width):
        value = row[x] if abs(row[x]) < np.inf else level[x]
        value = value if value >= low[x] else low[x]
        out[x] = value if value <= high[x] else high[x]
    for x in range(width, np.uint64(out.shape[0])):
        out[x] = out[mirrored[x]]


@kernel
def _piece_means(row: Any, lanes: Any, out: Any) -> None:
    """Average the pieces of a row of `CELL` columns."""
    for cell in range(out.shape[0]):
        piece = row[cell * CELL : (cell + 1) * CELL]
        lanes[:] = np.float32(0)
        for first in range(0, CELL, _LANES):
            part = piece[first : first + _LANES]
            for k in range(_LANES):
                lanes[k] += part[k]
        total = np.float32(0)
        for k in range(_LANES):
            total += lanes[k]
        out[cell] = total / np.float32(CELL)


@door
def clipped_sums(rows: Any, mirrored: Any, low: Any, high: Any, level: Any, cuts: Any, means: Any, sums: Any) -> None:
    """Average pieces of rows and sum pieces of columns, pixels clipped.

    Parameters
    ----------
    rows : (rows, width) float32
        The first of them an even row of the frame.
    mirrored : (padded,) int64
        The column of which each has the value; those from `width` on are mirrored.
    low, high, level : (2, padded) float32
        Limits of even and of odd rows, and what a pixel that is no number counts as.
    cuts : (n + 1,) int64
        First row of each piece of the columns, and where the last ends.
    means : (rows, padded / CELL) float32
        Out.
    sums : (n, padded) float32
        Out.
    """
    clipped = np.empty(mirrored.shape[0], np.float32)
    lanes = np.empty(_LANES, np.float32)
    sums[:] = np.float32(0)
    piece = -1
    for y in range(rows.shape[0]):
        odd = y & 1
        _clip_row(rows[y], mirrored, low[odd], high[odd], level[odd], clipped)
        _piece_means(clipped, lanes, means[y])
        while piece + 1 < cuts.shape[0] and y >= cuts[piece + 1]:
            piece += 1
        if 0 <= piece < sums.shape[0]:
            total = sums[piece]
            for x in range(np.uint64(total.shape[0])):
                total[x] += clipped[x]


@door
def find_unusual(
    master: Any, std: Any, n_used: Any, segments: Any,
    low: Any, high: Any, quietest: Any, loudest: Any, fewest: Any, ceiling: Any, places: Any,
) -> int:  # fmt: skip
    """List the pixels that are beyond any limit, or no number.

    Parameters
    ----------
    master, std : (rows, width) float32
        The first row an even one of the frame.
    n_used : (rows, width) uint16
    segments : (rows, padded / CELL) float32
        Subtracted from the pieces of the rows before they are compared with `low` and `high`.
    low, high, quietest, loudest : (2, padded) float32
        Limits of even and of odd rows, of the master and of its deviations.
    fewest : (padded,) uint16
        Samples that a pixel must have.
    ceiling : float32
        Pixels must be below it.
    places : (rows * width,) int64
        Out: where they are, ``row * width + column``, in this order.

    Returns
    -------
    int
        How many there are.
    """
    height, width = master.shape
    found = 0
    for y in range(height):
        odd = y & 1
        for cell in range(segments.shape[1]):
            first, last = cell * CELL, min((cell + 1) * CELL, width)
            segment = segments[y, cell]
            value, scatter, kept = master[y, first:last], std[y, first:last], n_used[y, first:last]
            lowest, highest = low[odd, first:last], high[odd, first:last]
            quiet, loud, few = quietest[odd, first:last], loudest[odd, first:last], fewest[first:last]
            usual = np.uint32(0)
            for x in range(np.uint64(last - first)):
                even = value[x] - segment
                is_usual = (even >= lowest[x]) & (even <= highest[x]) & (value[x] < ceiling)
                is_usual &= (scatter[x] >= quiet[x]) & (scatter[x] <= loud[x]) & (kept[x] >= few[x])
                usual += np.uint32(is_usual)
            if usual == last - first:
                continue
            for x in range(last - first):
                even = value[x] - segment
                is_usual = (even >= lowest[x]) & (even <= highest[x]) & (value[x] < ceiling)
                is_usual &= (scatter[x] >= quiet[x]) & (scatter[x] <= loud[x]) & (kept[x] >= few[x])
                if not is_usual:
                    places[found] = y * width + first + x
                    found += 1
    return found


@kernel
def _mirror(index: int, n: int) -> int:
    index = abs(index)
    if index >= n:
        index = 2 * (n - 1) - index
    return min(max(index, 0), n - 1)


@kernel
def _even(rows: Any, segments: Any, columns: Any, level: Any, y: int, x: int) -> Any:
    """Return a pixel less the patterns of its row and column; the level counts for what is no number."""
    value = rows[y, x] if abs(rows[y, x]) < np.inf else level[y & 1, x]
    return value - segments[y, x // CELL] - columns[x]


@kernel
def _insert(ordered: Any, n: int, value: Any) -> None:
    """Insert a value into `n` sorted ones; NaN comes last."""
    at = n
    while at > 0 and (ordered[at - 1] > value or ordered[at - 1] != ordered[at - 1]):
        ordered[at] = ordered[at - 1]
        at -= 1
    ordered[at] = value


@door
def excess_of(
    rows: Any, segments: Any, columns: Any, level: Any, distance: int, at_row: Any, at_column: Any, excess: Any
) -> None:
    """Compare pixels with the median of their eight neighbours; those beyond an edge are mirrored.

    Parameters
    ----------
    rows : (rows, width) float32
        The first of them an even row of the frame.
    segments : (rows, padded / CELL) float32
    columns : (padded,) float32
        What pieces of rows and of columns are above their cell.
    level : (2, padded) float32
        What a pixel that is no number counts as, in even and in odd rows.
    distance : int
        To a neighbour, in pixels: 2 where colours alternate.
    at_row, at_column : (n,) int64
    excess : (n,) float32
        Out.
    """
    height, width = rows.shape
    ordered = np.empty(8, np.float32)
    for i in range(at_row.shape[0]):
        y, x = at_row[i], at_column[i]
        n = 0
        for down in range(-distance, distance + 1, distance):
            for right in range(-distance, distance + 1, distance):
                if down != 0 or right != 0:
                    beside = _mirror(y + down, height), _mirror(x + right, width)
                    _insert(ordered, n, _even(rows, segments, columns, level, beside[0], beside[1]))
                    n += 1
        middle = (ordered[3] + ordered[4]) / np.float32(2)
        excess[i] = _even(rows, segments, columns, level, y, x) - middle
