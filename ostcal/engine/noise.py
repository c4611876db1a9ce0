"""The noise of a series, measured once on the series itself, exactly and independent of strips and frame order.

Sampled rows are cut into cells of 8 neighbouring pixels. A cell's variance is the mean of its pixels' variances over
the frames; the series' variance is the median over all cells. 8 pixels smooth the few values that a quantised variance
of five frames can take (bias at most 1 % from five frames on, 4 % for two), and half of the cells may hold a star, a
cosmic ray or a hot pixel: with cells of 64, hits on 0.3 % of the pixels of each of 14 frames gave 14 ADU, not 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.rejection import SeriesNoise

SAMPLED_ROWS = 64
CELL_PIXELS = 8
_COLUMNS_AT_ONCE = 256 * CELL_PIXELS
"""Columns measured at once: 400 frames of 2048 columns in int64 are 6.5 MB."""


@dataclass(frozen=True, kw_only=True)
class NoiseCells:
    """Summed ``n * Sxx - Sx^2`` of the pixels of each cell of one row, and whether the samples are whole numbers."""

    sums: NDArray[Any]
    """(n_cells,) int64 for integer samples, float64 for floats."""
    cell_pixels: int
    whole_numbers: bool


def noise_rows(height: int) -> list[int]:
    """Return the rows that are measured: all of a small sensor, else 64 spread evenly."""
    if height <= SAMPLED_ROWS:
        return list(range(height))
    return [(2 * i + 1) * height // (2 * SAMPLED_ROWS) for i in range(SAMPLED_ROWS)]


def row_cells(samples: NDArray[Any]) -> NoiseCells:
    """Measure one row of all frames, (n_frames, width) int32 or float, in ADU.

    Cells with a sample that is not finite are left out.
    """
    width = samples.shape[1]
    cell = min(CELL_PIXELS, width)
    usable = width - width % cell
    parts = [
        _cell_sums(samples[:, first : min(first + _COLUMNS_AT_ONCE, usable)], cell)
        for first in range(0, usable, _COLUMNS_AT_ONCE)
    ]
    whole = np.issubdtype(samples.dtype, np.integer) or bool(
        np.all(np.trunc(samples) == samples, where=np.isfinite(samples))
    )
    return NoiseCells(sums=np.concatenate(parts), cell_pixels=cell, whole_numbers=whole)


def _cell_sums(samples: NDArray[Any], cell: int) -> NDArray[Any]:
    n = samples.shape[0]
    if np.issubdtype(samples.dtype, np.integer):
        d = samples.astype(np.int64) - samples[0]
        s1, s2 = d.sum(axis=0), (d * d).sum(axis=0)
        return (n * s2 - s1 * s1).reshape(-1, cell).sum(axis=1)  # type: ignore[no-any-return]
    ordered = np.sort(samples.astype(np.float64), axis=0)
    finite = np.isfinite(ordered).all(axis=0).reshape(-1, cell).all(axis=1)
    ordered[~np.isfinite(ordered)] = 0.0
    d = ordered - ordered[n // 2]
    f1, f2 = np.zeros(d.shape[1]), np.zeros(d.shape[1])
    for row in d:  # one after another in ascending order: the order of frames must not change a bit
        f1 += row
        f2 += row * row
    spread = (n * f2 - f1 * f1).reshape(-1, cell)
    sums = np.zeros(spread.shape[0])
    for column in spread.T:
        sums += column
    return sums[finite]


def merge_cells(cells: Iterable[NoiseCells], n_frames: int) -> SeriesNoise:
    """Return the noise of a series from all its measured rows."""
    rows = list(cells)
    values = np.sort(np.concatenate([row.sums for row in rows]))
    step = 1.0 if all(row.whole_numbers for row in rows) else 0.0
    if n_frames < 2 or values.size == 0:
        return SeriesNoise(noise_adu=0.0, step_adu=step)
    median = values[(values.size - 1) // 2]
    variance = max(0.0, float(median)) / (n_frames * (n_frames - 1) * rows[0].cell_pixels)
    return SeriesNoise(noise_adu=math.sqrt(variance), step_adu=step)
