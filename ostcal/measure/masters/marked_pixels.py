"""The pixels that the DQ plane of a master marks, by how far they are from those beside them.

The plane is read once, strip by strip; the values come when the master itself goes by in strips for its picture, so
that neither is read again. Rows and columns count from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.masters.defects import Defect

Rows = NDArray[Any]

MOST_LISTED = 50_000
"""Pixels of a list: the worst of a master. Text of 50,000 lines takes 50 ms."""
MOST_HELD = 1_000_000
"""Marked pixels of which the worst are found, 25 MB; of more, the master is no good, and no list is made."""
TILE = 64
"""Pixels along a side of the squares in which marked pixels are counted."""

_BESIDE = np.array([-10, -8, -6, -4, 4, 6, 8, 10])
"""Columns beside a pixel whose median it is compared with: even, so that a colour is compared with itself."""


@dataclass(frozen=True, kw_only=True)
class ColumnPart:
    """A bad column, or a part of one: rows from `start` to before `stop`."""

    column: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkedPixels:
    """What a DQ plane marks."""

    shape: tuple[int, int]
    rows: NDArray[np.int32]
    """(n,), ascending: pixels that are marked as more than a part of a bad column; empty above `MOST_HELD`."""
    columns: NDArray[np.int32]
    bits: NDArray[np.uint8]
    n_marked: int
    """All of them, also above `MOST_HELD`."""
    parts: tuple[ColumnPart, ...]
    map: NDArray[np.uint8]
    """Bits of square blocks of pixels, combined (bitwise or)."""
    tiles: NDArray[np.int64]
    """Marked pixels of each square of `TILE` pixels."""

    def worst_square(self, side: int) -> tuple[int, int] | None:
        """Return the first row and column of the `side` pixels squared with most marked pixels, to within a tile."""
        if not self.tiles.any():
            return None
        n = max(1, side // TILE)
        sums = np.pad(self.tiles, ((1, max(0, n - 1)), (1, max(0, n - 1)))).cumsum(axis=0).cumsum(axis=1)
        inside = sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]
        down, across = np.unravel_index(int(inside.argmax()), inside.shape)
        height, width = self.shape
        return max(0, min(int(down) * TILE, height - side)), max(0, min(int(across) * TILE, width - side))


def find_marked(strips: Iterable[tuple[int, Rows]], shape: tuple[int, int], block: int) -> MarkedPixels:
    """Find the marked pixels of a DQ plane.

    Parameters
    ----------
    strips : iterable of (start, (n_rows, width) uint8)
        All rows, in their order.
    shape : (height, width)
    block : int
        Side of the blocks of the map, in pixels.
    """
    height, width = shape
    blocks = np.zeros((-(-height // block), -(-width // block)), np.uint8)
    tiles = np.zeros((-(-height // TILE), -(-width // TILE)), np.int64)
    held: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]] = []
    parts = _Parts()
    n_marked = 0
    for start, strip in strips:
        places = nonzero_places(strip)
        row, column = (places // width + start).astype(np.int32), (places % width).astype(np.int32)
        bits = strip.reshape(-1)[places]
        np.bitwise_or.at(blocks, (row // block, column // block), bits)
        parts.add(row[bits & Defect.BAD_COLUMN != 0], column[bits & Defect.BAD_COLUMN != 0])
        more = bits & ~np.uint8(Defect.BAD_COLUMN) != 0
        row, column = row[more], column[more]
        tiles += np.bincount(row // TILE * tiles.shape[1] + column // TILE, minlength=tiles.size).reshape(tiles.shape)
        n_marked += len(row)
        if n_marked <= MOST_HELD:
            held.append((row, column, bits[more]))
        else:
            held.clear()
    rows, columns, bits = (
        (np.concatenate([one[i] for one in held]) for i in range(3))
        if held
        else (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8))
    )
    return MarkedPixels(
        shape=shape,
        rows=rows,
        columns=columns,
        bits=bits,
        n_marked=n_marked,
        parts=parts.found,
        map=blocks,
        tiles=tiles,
    )


def nonzero_places(strip: Rows) -> NDArray[np.int64]:
    """Return where bytes are not 0, in their order; of eight zeros at a time, as most are."""
    flat = np.ascontiguousarray(strip).reshape(-1)
    whole = len(flat) // 8 * 8
    words = np.flatnonzero(flat[:whole].view(np.uint64) != 0)  # of booleans it is twice as fast
    word, byte = np.nonzero(flat[:whole].reshape(-1, 8)[words])
    return np.concatenate([words[word] * 8 + byte, whole + np.flatnonzero(flat[whole:])])


class _Parts:
    """Parts of bad columns, continued from strip to strip."""

    def __init__(self) -> None:
        self._parts: list[list[int]] = []
        self._open: dict[tuple[int, int], list[int]] = {}
        """By column and the row at which it would go on."""

    def add(self, row: NDArray[np.int32], column: NDArray[np.int32]) -> None:
        """Add the pixels of bad columns of a strip."""
        order = np.lexsort((row, column))
        row, column = row[order], column[order]
        breaks = np.flatnonzero((np.diff(column) != 0) | (np.diff(row) != 1)) + 1
        firsts = np.concatenate([[0], breaks]) if len(row) else breaks
        lasts = np.concatenate([breaks, [len(row)]]) - 1 if len(row) else breaks
        ends: dict[tuple[int, int], list[int]] = {}
        for at, first, last in zip(column[firsts].tolist(), row[firsts].tolist(), row[lasts].tolist(), strict=True):
            part = self._open.get((at, first))
            if part is None:
                part = [at, first, last + 1]
                self._parts.append(part)
            part[2] = last + 1
            ends[at, last + 1] = part
        self._open = ends

    @property
    def found(self) -> tuple[ColumnPart, ...]:
        """The parts, by column."""
        return tuple(ColumnPart(column=at, start=first, stop=stop) for at, first, stop in sorted(self._parts))


@dataclass(frozen=True, kw_only=True, eq=False)
class WorstPixels:
    """The worst of the marked pixels, worst first; arrays are (n,), at most `MOST_LISTED`."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    bits: NDArray[np.uint8]
    values: NDArray[np.float32]
    """In the unit of the master; NaN where it has no data."""
    differences: NDArray[np.float32]
    """From the median of eight pixels in its row, 4 to 10 columns away."""


class MarkedValues:
    """Takes the values of marked pixels while the rows of their master go by, each once and in order."""

    def __init__(self, marked: MarkedPixels) -> None:
        self._marked = marked
        self._values = np.full(len(marked.rows), np.nan, np.float32)
        self._differences = np.full(len(marked.rows), np.nan, np.float32)

    def see(self, start: int, rows: Rows) -> None:
        """Take what is in rows of the master, (n_rows, width)."""
        marked, width = self._marked, self._marked.shape[1]
        some = slice(*np.searchsorted(marked.rows, (start, start + len(rows))))
        row, column = marked.rows[some] - start, marked.columns[some]
        values = rows[row, column]
        beside = np.abs(column[:, None] + _BESIDE)
        beside = np.where(beside >= width, np.maximum(2 * (width - 1) - beside, 0), beside)
        around = np.sort(rows[row[:, None], np.minimum(beside, width - 1)], axis=1)  # NaN comes last
        self._values[some] = values
        self._differences[some] = values - (around[:, 3] + around[:, 4]) / 2

    def worst(self) -> WorstPixels:
        """Return the pixels that are furthest from those beside them, those without data first."""
        distance = np.abs(np.where(np.isfinite(self._differences), self._differences, 0))
        distance = np.where(np.isfinite(self._values), distance, np.inf)
        order = np.argsort(-distance, kind="stable")[:MOST_LISTED]
        marked = self._marked
        return WorstPixels(
            rows=marked.rows[order],
            columns=marked.columns[order],
            bits=marked.bits[order],
            values=self._values[order],
            differences=self._differences[order],
        )


class Crops:
    """Cuts rectangles out of a master while its rows go by.

    Parameters
    ----------
    places : sequence of (row, column)
        Their first pixels; all of a rectangle is within the master.
    side : sequence of int
        The side of each.
    """

    def __init__(self, places: Sequence[tuple[int, int]], sides: Sequence[tuple[int, int]]) -> None:
        self._places = places
        self.images: list[NDArray[np.float32]] = [np.full(side, np.nan, np.float32) for side in sides]

    def see(self, start: int, rows: Rows) -> None:
        """Take what is in rows of the master, (n_rows, width)."""
        stop = start + len(rows)
        for (top, left), image in zip(self._places, self.images, strict=True):
            first, last = max(top, start), min(top + len(image), stop)
            if first < last:
                image[first - top : last - top] = rows[first - start : last - start, left : left + image.shape[1]]
