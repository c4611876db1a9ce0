"""The survey of a series from the surveys of its blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.frames.survey import GRID, BlockSurvey, SeriesSurvey, cell_edges, pairs_of

Float = NDArray[np.float64]

_HISTOGRAM_BINS = 512

_BAND_FIELDS = (
    "first_rows", "n_rows", "pixels", "mean_adu", "squares_adu2", "minimum_adu", "maximum_adu", "counts", "levels_adu",
    "residual_squares_adu2", "outlying", "pair_squares_adu2", "pair_freedom",
)  # fmt: skip


def merge_blocks(blocks: Sequence[BlockSurvey]) -> SeriesSurvey:
    """Merge the blocks of a series, in whatever order they come.

    Raises
    ------
    ValueError
        If there is no block, or they are of frames of different shape.
    """
    if not blocks:
        raise ValueError("a survey needs at least one block of rows")
    if len({(block.shape, block.mean_adu.shape[1]) for block in blocks}) > 1:
        raise ValueError(f"blocks of different series: shapes {sorted({block.shape for block in blocks})}")
    ordered = sorted(blocks, key=lambda block: int(block.first_rows[0]))
    band = {name: np.concatenate([getattr(block, name) for block in ordered]) for name in _BAND_FIELDS}
    pixels = band["pixels"]
    band_pixels = pixels.sum(axis=1).astype(np.float64)[:, np.newaxis]
    n_pixels = max(1.0, float(band_pixels.sum()))
    # every sum over bands goes over all of them in their order: blocks do not show
    mean = (band["mean_adu"] * band_pixels).sum(axis=0) / n_pixels
    squares = (band["squares_adu2"] + band_pixels * (band["mean_adu"] - mean) ** 2).sum(axis=0)
    counts = band["counts"].sum(axis=0)
    degrees = max(1.0, n_pixels - np.count_nonzero(pixels))
    is_empty = counts[:, 2] >= n_pixels  # frames without a single number
    histogram, start, step, bits = _merge_histograms(ordered)
    cells, cell_pixels, variance = _merge_cells(ordered[0].shape, band)
    for values in (mean, squares, cells):
        values[is_empty] = np.nan
    return SeriesSurvey(
        n_pixels=int((band["n_rows"] * ordered[0].shape[1]).sum()),
        mean_adu=mean,
        std_adu=np.sqrt(squares / n_pixels),
        minimum_adu=np.where(is_empty, np.nan, band["minimum_adu"].min(axis=0)),
        maximum_adu=np.where(is_empty, np.nan, band["maximum_adu"].max(axis=0)),
        saturated=counts[:, 0],
        zeros=counts[:, 1],
        missing=counts[:, 2],
        cells_adu=cells,
        cell_pixels=cell_pixels,
        pair_first=pairs_of(len(mean)),
        pair_variance_adu2=variance,
        residual_std_adu=np.sqrt(band["residual_squares_adu2"].sum(axis=0) / degrees),
        residual_outlying=band["outlying"].sum(axis=0) / n_pixels,
        varying_bits=bits,
        histogram=histogram,
        histogram_start_adu=start,
        histogram_step_adu=step,
        pedestal_adu=ordered[0].pedestal_adu,
    )


def _merge_cells(shape: tuple[int, int], band: dict[str, NDArray[Any]]) -> tuple[Float, NDArray[np.int64], Float]:
    """Return level, pixels and variance of each cell from those of bands, each in the cell that its middle is in."""
    n_frames, n_pairs = band["levels_adu"].shape[1], band["pair_squares_adu2"].shape[1]
    middle = band["first_rows"] + band["n_rows"] // 2
    cell_row = np.searchsorted(cell_edges(shape[0])[1:], middle, side="right")
    cells, variance = np.full((n_frames, GRID, GRID), np.nan), np.full((n_pairs, GRID, GRID), np.nan)
    cell_pixels = np.zeros((GRID, GRID), np.int64)
    for row in np.unique(cell_row):
        mine = cell_row == row
        pixels = band["pixels"][mine]
        cell_pixels[row] = pixels.sum(axis=0)
        total = (band["levels_adu"][mine] * pixels[:, np.newaxis]).sum(axis=0)
        np.divide(total, cell_pixels[row], out=cells[:, row], where=cell_pixels[row] > 0)
        freedom = band["pair_freedom"][mine].sum(axis=0)
        squares = band["pair_squares_adu2"][mine].sum(axis=0)
        np.divide(squares, 2 * freedom, out=variance[:, row], where=freedom > 0)
    return cells, cell_pixels, variance


def _merge_histograms(blocks: Sequence[BlockSurvey]) -> tuple[NDArray[np.int64], float, float, int]:
    """Return counts in at most `_HISTOGRAM_BINS` bins, their start and step in ADU, and the bits that vary."""
    bins = np.concatenate([block.bins for block in blocks])
    counts = np.concatenate([block.bin_counts for block in blocks])
    unit = blocks[0].bin_adu
    if not len(bins):
        return np.zeros(1, np.int64), 0.0, unit, 0
    low, high = int(bins.min()), int(bins.max())
    step = 1
    while (high - low) // step >= _HISTOGRAM_BINS:
        step *= 2
    low -= low % step
    merged = np.bincount((bins - low) // step, weights=counts).astype(np.int64)
    is_integer = all(block.is_integer for block in blocks)
    bits = int(np.bitwise_or.reduce(bins) & ~np.bitwise_and.reduce(bins)) if is_integer else 0
    return merged, low * unit, step * unit, bits
