"""Where the defects of a master are: bits of pixels by band of rows, and bad columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.estimators import half_spread
from ostcal.measure.limits import DefectLimits
from ostcal.measure.masters.defects import Defect

_FEW = 0.1
"""Share of flagged pixels from which on a plane takes no more memory than their places: 9 bytes each."""

_LEAST_ROWS = 8
"""Flagged pixels that make a part of a column, however few rows a band has."""


@dataclass(frozen=True, kw_only=True)
class BadColumn:
    """A column, or a part of one, that differs from the columns beside it."""

    column: int
    start: int
    stop: int
    """Rows from `start` to before `stop`."""
    offset: float
    """From the columns beside it, in the master's unit; the median over its bands of rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlaggedPixels:
    """Pixels of a band of rows that have bits, by place if they are few: a plane of 61 MP takes 0.1 s to clear."""

    places: NDArray[np.int64]
    """``row * width + column`` from the first row of the band on; empty if `plane` is used."""
    bits: NDArray[np.uint8]
    plane: NDArray[np.uint8] | None = None
    """(rows, width): of a band with more than `_FEW` of its pixels flagged."""

    @classmethod
    def of(cls, places: NDArray[np.int64], bits: NDArray[np.uint8], shape: tuple[int, int]) -> FlaggedPixels:
        """Keep those of the pixels that have bits; `shape` is that of the band."""
        flagged = bits != 0
        found = cls(places=places[flagged], bits=bits[flagged])
        if len(found.bits) <= _FEW * math.prod(shape):
            return found
        plane = np.zeros(shape, np.uint8)
        found.put_into(plane, 0)
        return cls(places=np.empty(0, np.int64), bits=np.empty(0, np.uint8), plane=plane)

    def put_into(self, rows: NDArray[np.uint8], first: int) -> None:
        """Put the bits into rows that begin with row `first` of the band, before it where that is negative."""
        height, width = rows.shape
        if self.plane is not None:
            inside = self.plane[max(0, first) : max(0, first + height)]
            rows[max(0, -first) :][: len(inside)] = inside
            return
        begin, end = np.searchsorted(self.places, (first * width, (first + height) * width))
        rows.reshape(-1)[self.places[begin:end] - first * width] = self.bits[begin:end]

    def occurrences(self) -> NDArray[np.int64]:
        """Count how often each value occurs: (256,), the pixels without bits left out."""
        bits = self.bits if self.plane is None else self.plane[self.plane != 0]
        return np.bincount(bits, minlength=256)


@dataclass(frozen=True, kw_only=True, eq=False)
class DefectMap:
    """The bits of `Defect` of every pixel of a master."""

    shape: tuple[int, int]
    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each band, and the height."""
    bands: Sequence[FlaggedPixels]
    columns: Sequence[BadColumn]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows of the DQ plane: (stop - start, width) uint8."""
        rows = np.zeros((stop - start, self.shape[1]), np.uint8)
        for first, last, flagged in zip(self.edges, self.edges[1:], self.bands, strict=False):
            if first < stop and start < last:
                flagged.put_into(rows, start - int(first))
        for bad in self.columns:
            rows[max(0, bad.start - start) : max(0, bad.stop - start), bad.column] |= np.uint8(Defect.BAD_COLUMN)
        return rows

    def counts(self) -> dict[Defect, int]:
        """Count the pixels with each bit."""
        occurs = np.sum([flagged.occurrences() for flagged in self.bands], axis=0)
        values = np.arange(256)
        counts = {bit: int(occurs[values & int(bit) != 0].sum()) for bit in Defect}
        counts[Defect.BAD_COLUMN] = sum(bad.stop - bad.start for bad in self.columns)
        return counts


# ---- columns ----


@dataclass(frozen=True, kw_only=True)
class ColumnBands:
    """What each column says in each band of rows; arrays are (n_bands, width)."""

    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each band, and the height."""
    offsets: NDArray[np.float32]
    """Clipped mean of the column in the band, above the level of its cell."""
    flagged: NDArray[np.integer]
    """Pixels of the column in the band that are hot, cold or dead."""
    least: NDArray[np.float32]
    """The offset from which a column is seen."""


def bad_columns(bands: ColumnBands, distance: int, limits: DefectLimits) -> list[BadColumn]:
    """Find bad columns and bad parts of columns.

    A part is bad if it is far from its neighbours in two bands of rows on end (or in the only one), or more than half
    of its pixels are flagged in one; a column that is only a little off everywhere is found in its mean over all bands.
    `distance` is that to the next column of the same colours: 1, or 2 for Bayer sensors.
    """
    if bands.offsets.shape[1] < 8 * distance:
        return []
    against = _against_neighbours(bands.offsets, distance)
    heights = np.diff(bands.edges)
    far = np.abs(against) > np.maximum(limits.column_spreads * half_spread(against), bands.least)
    full = bands.flagged > np.maximum(limits.column_share * heights, _LEAST_ROWS)[:, None]
    whole = _against_neighbours(mean_over_bands(bands.offsets, heights)[None], distance)[0]
    weak = np.abs(whole) > np.maximum(limits.column_spreads * half_spread(whole), bands.least.mean(axis=0))
    found = []
    for column in np.flatnonzero(far.any(axis=0) | full.any(axis=0) | weak):
        is_full = full[:, column]
        hit = np.concatenate([[False], far[:, column] | is_full, [False]])
        starts, stops = np.flatnonzero(hit[1:] & ~hit[:-1]), np.flatnonzero(~hit[1:] & hit[:-1])
        parts = [
            (int(start), int(stop))
            for start, stop in zip(starts, stops, strict=True)
            if stop - start >= 2 or is_full[start:stop].any() or len(heights) == 1
        ]
        if weak[column] and sum(stop - start for start, stop in parts) < 0.2 * len(heights):
            parts = [(0, len(heights))]
        for start, stop in parts:
            first, last = int(bands.edges[start]), int(bands.edges[stop])
            offset = float(np.median(against[start:stop, column]))
            found.append(BadColumn(column=int(column), start=first, stop=last, offset=offset))
    return found


def mean_over_bands(values: NDArray[np.float32], heights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average (n_bands, width) values over bands of these heights; one at a time, without a copy of all as float64."""
    total = np.zeros(values.shape[1], np.float64)
    for band, height in zip(values, heights, strict=True):
        total += band * float(height)
    return np.asarray(total / heights.sum())


def _against_neighbours(offsets: NDArray[np.floating], distance: int) -> NDArray[np.floating]:
    """Subtract from each column those beside it: the smaller of its distances from the left and from the right.

    Each side is the mean of two columns. Where one distance is up and the other down it is a slope, and counts as none.
    """
    width, reach = offsets.shape[1], 2 * distance
    against = np.empty_like(offsets)
    for band, out in zip(offsets, against, strict=True):  # one at a time, or temporaries of all cost 0.1 s to clear
        wide = np.pad(band, reach, mode="reflect")
        left = band - (wide[distance:][:width] + wide[:width]) / 2
        right = band - (wide[3 * distance :][:width] + wide[2 * reach :]) / 2
        smaller = np.where(np.abs(left) < np.abs(right), left, right)
        out[:] = np.where(left * right > 0, smaller, 0)
    return against
