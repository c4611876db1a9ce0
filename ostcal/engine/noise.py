"""The noise of a series, measured once on the series itself, exactly and independent of strips and frame order.

Pairs of frames are compared in sampled rows, which are cut into cells of 8 neighbouring pixels, and 8 cells are a
block. The variance of a cell is that of the differences of a pair about their level in the block, averaged over the
pairs; the variance of the series is the median over all cells. So neither the level of a frame nor a gentle slope
counts. Pairs that differ far more than most, because one of their frames is unlike the others, are left out: with the
variance over all frames, one frame of eight that was 3000 ADU too high raised the noise to 1000 ADU, and was itself
kept.

8 pixels smooth the few values that a quantised variance of five frames can take (bias at most 1 % from five frames on,
3 % for two, from half an ADU of noise on), and half of the cells may hold a star, a cosmic ray or a hot pixel: with
variances of 64 pixels, hits on 0.3 % of the pixels of each of 14 frames gave 14 ADU, not 0.9. The level is the median
of the cells of a block, because noise that neighbours share is noise too: about the means of single cells a CCD with
some (ARCSAT's) has 11.6 ADU, about the levels of blocks 12.0, and whole rows have 12.1.
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
BLOCK_CELLS = 8
MAX_PAIRS = 24
"""Pairs of frames that are compared: with 76,000 cells of each they give the noise of a large sensor within 0.1 %."""
_FARTHEST_RANK = 3
"""Frames of a pair are at most so far apart in the order of their levels: of up to 4 frames all pairs are compared."""
_LEVEL_SAMPLES = 128
"""Samples of a row, at most, whose sum puts its frames into order."""
_LARGEST_RATIO = 4.0
"""Pairs whose variance is above this many times that of the quietest quarter have a frame that is unlike the others."""
_COLUMNS_AT_ONCE = 256 * CELL_PIXELS
"""Columns measured at once: the differences of 24 pairs in 2048 columns are 0.4 MB."""

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NoiseCells:
    """Variances of a sample in each cell of one row, and whether the samples are whole numbers."""

    variances_adu2: Float
    """(n_cells,): so that their median over the cells, not their mean, is that of pure noise."""
    whole_numbers: bool


def noise_rows(height: int) -> list[int]:
    """Return the rows that are measured: all of a small sensor, else 64 spread evenly."""
    if height <= SAMPLED_ROWS:
        return list(range(height))
    return [(2 * i + 1) * height // (2 * SAMPLED_ROWS) for i in range(SAMPLED_ROWS)]


def row_cells(samples: NDArray[Any]) -> NoiseCells:
    """Measure one row of all frames, (n_frames, width) int32 or float, in ADU.

    Cells with a sample that is not finite are left out. Sums of whole numbers are exact in float64.
    """
    width = samples.shape[1]
    cell = min(CELL_PIXELS, width)
    values = samples[:, : width - width % cell].astype(np.float64)
    whole = True
    if not np.issubdtype(samples.dtype, np.integer):
        whole = bool(np.all(np.trunc(samples) == samples, where=np.isfinite(samples)))
        usable = np.isfinite(values).all(axis=0).reshape(-1, cell).all(axis=1)
        if not usable.all():
            values = values.reshape(len(values), -1, cell)[:, usable].reshape(len(values), -1)
    if len(values) < 2 or values.shape[1] == 0:
        return NoiseCells(variances_adu2=np.zeros(0), whole_numbers=whole)
    first, second = _pairs(values)
    spreads = np.concatenate(
        [
            _pair_spreads(values[:, start : start + _COLUMNS_AT_ONCE], first, second, cell)
            for start in range(0, values.shape[1], _COLUMNS_AT_ONCE)
        ],
        axis=1,
    )
    spreads = spreads[_like_others(spreads, least=cell * max(1, cell - 1) if whole else 0.0)]
    total = np.zeros(spreads.shape[1])
    for spread in spreads:  # one after another: the sums of floats are always the same
        total += spread
    freedom = _freedom(len(total), cell)
    mean = 2 * len(spreads) * cell * freedom
    below = 1 - 2 / (9 * freedom * (len(values) - 1))
    median = mean * (below * below * below)  # of chi-square (Wilson and Hilferty)
    return NoiseCells(variances_adu2=total / median, whole_numbers=whole)


def _freedom(cells: int, cell: int) -> Float:
    """Return the degrees of freedom of the spread of a pair in each cell, (cells,): pixels less what the level takes.

    The mean of all pixels of a block takes 1 for all its cells, the median of the means of three cells or more 2/3.
    """
    in_block = np.full(cells, BLOCK_CELLS)
    in_block[cells - cells % BLOCK_CELLS :] = cells % BLOCK_CELLS
    taken: Float = np.where(in_block < 3, 1.0, 2 / 3) / in_block
    return np.clip(cell - taken, 1.0, None)


def _pairs(values: Float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose pairs of frames of similar levels in a row, (n, width), that do not depend on the order of the frames.

    Frames are sorted by the exact sum of some of their samples, and those of equal sums by all their samples.
    """
    n, width = values.shape
    levels = [math.fsum(samples) for samples in values[:, :: -(-width // _LEVEL_SAMPLES)].tolist()]
    order = np.argsort(levels, kind="stable")
    if len(set(levels)) < n:
        # above the lowest frame, where bytes from the first on are in the order of the values
        above = (values - values.min(axis=0)).astype(">f8")
        order = np.array(sorted(range(n), key=lambda frame: (levels[frame], above[frame].tobytes())))
    ranks = [np.arange(n - apart) for apart in range(1, min(_FARTHEST_RANK, n - 1) + 1)]
    while len(ranks) > 1 and sum(map(len, ranks)) > MAX_PAIRS:
        ranks.pop()
    if n - 1 > MAX_PAIRS:
        ranks = [np.arange(MAX_PAIRS) * (n - 2) // (MAX_PAIRS - 1)]
    first = np.concatenate(ranks)
    second = first + np.repeat(np.arange(1, len(ranks) + 1), [len(some) for some in ranks])
    return order[first], order[second]


def _pair_spreads(values: Float, first: NDArray[np.int64], second: NDArray[np.int64], cell: int) -> Float:
    """Return the squares of the differences of each pair about the level of the block, `cell` times: (pairs, cells).

    A cell of a single pixel has no level of its own to be taken out, and the squares of the differences are returned.
    """
    columns = np.ascontiguousarray(values.reshape(len(values), -1, cell).transpose(0, 2, 1))
    difference = columns[first]
    difference -= columns[second]
    sums, squares = np.zeros((2, len(first), columns.shape[2]))
    for column in range(cell):
        sums += difference[:, column]
    np.square(difference, out=difference)
    for column in range(cell):
        squares += difference[:, column]
    if cell == 1:
        return squares
    levels = _block_levels(sums)
    # cell * sum((d - level / cell)^2), without an inexact division
    squares *= cell
    squares -= levels * (2 * sums - levels)
    return np.maximum(squares, 0.0, out=squares)


def _block_levels(sums: Float) -> Float:
    """Return for each cell the median of the sums, (pairs, cells), of its block of 8 cells; the last may be smaller."""
    levels = np.empty_like(sums)
    whole = sums.shape[1] - sums.shape[1] % BLOCK_CELLS
    for part in (slice(0, whole), slice(whole, None)):
        block = sums[:, part]
        if block.shape[1]:
            cells = BLOCK_CELLS if part.stop else block.shape[1]
            blocks = np.sort(block.reshape(len(block), -1, cells), axis=2)
            middles = (blocks[:, :, (cells - 1) // 2] + blocks[:, :, cells // 2]) / 2
            levels[:, part] = np.repeat(middles, cells, axis=1)
    return levels


def _like_others(spreads: Float, least: float) -> NDArray[np.bool_]:
    """Say which pairs, (pairs, cells), do not differ far more than the quietest quarter, or by more than `least`.

    Pairs of copies, which do not differ at all, say nothing of the noise where others do.
    """
    middle = (spreads.shape[1] - 1) // 2
    typical = np.partition(spreads, middle, axis=1)[:, middle]
    differs: NDArray[np.bool_] = np.any(spreads, axis=1)
    if not differs.any():
        return np.ones(len(spreads), dtype=np.bool_)
    quiet = np.sort(typical[differs])
    limit = _LARGEST_RATIO * quiet[(len(quiet) - 1) // 4] + least
    likes: NDArray[np.bool_] = differs & (typical <= limit)
    return likes


def merge_cells(cells: Iterable[NoiseCells]) -> SeriesNoise:
    """Return the noise of a series from all its measured rows."""
    rows = list(cells)
    variances = np.sort(np.concatenate([row.variances_adu2 for row in rows]))
    step = 1.0 if all(row.whole_numbers for row in rows) else 0.0
    if variances.size == 0:
        return SeriesNoise(noise_adu=0.0, step_adu=step)
    return SeriesNoise(noise_adu=math.sqrt(variances[(variances.size - 1) // 2]), step_adu=step)
