"""What is measured of every frame of a series, on which of its rows, and in which cells of the sensor.

Sampled rows of all frames are read once before they are combined (`sampled_blocks`). A block of rows is measured by
`ostcal.measure.frames.survey_block`, in bands of rows of their own; `merge_blocks` sums the bands in the order of rows,
so that the result is the same to the last bit however rows are shared out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 8
"""Cells along each side of a frame."""

SAMPLED_PIXELS = 2_000_000
"""Of a frame: 31,000 in a cell, which gives the variance of a cell within 0.8 % from a single pair of frames."""

MAX_PAIRS = 12
"""Pairs of frames whose differences are measured: 12 x 2 MP give a variance within 0.03 %, far below its 1 %."""

RESIDUAL_SIGMAS = 5.0
"""From here on a sample is outlying: of 2 million normal ones 1 is."""

_BLOCK_ROWS = 32

Float = NDArray[np.float64]

_HISTOGRAM_BINS = 512

BAD_COLUMN_BANDS = 0.25
"""A column is bad if it is stuck or hot in this share of the bands: columns are bad from some row on."""

_PILE_NEIGHBOURS = 16
_PILE_FACTOR = 3.0
"""Samples pile up at the brightest value if it has this many times the samples of any of the values just below: of
flats that are clipped at 1 % of their pixels it has 5 times and more."""
_PILE_SHARE = 5e-4
_PILE_SAMPLES = 30
"""And at least so many of all samples: hot pixels and cosmic rays are fewer."""

_BAND_FIELDS = (
    "first_rows", "n_rows", "pixels", "mean_adu", "squares_adu2", "minimum_adu", "maximum_adu", "counts", "levels_adu",
    "residual_squares_adu2", "outlying", "parity_adu", "pair_squares_adu2", "pair_freedom",
    "bad_columns", "highest_word_adu",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SeriesSurvey:
    """What the sampled rows of a series say; arrays have a row for each of the n frames, in their order."""

    n_pixels: int
    """Sampled pixels of a frame."""
    mean_adu: Float
    std_adu: Float
    minimum_adu: Float
    maximum_adu: Float
    saturated: NDArray[np.int64]
    """Sampled pixels at or above saturation."""
    zeros: NDArray[np.int64]
    """Sampled pixels at or below 0."""
    missing: NDArray[np.int64]
    """Sampled pixels that are not finite numbers; the other fields leave them out."""
    cells_adu: Float
    """(n, GRID, GRID): level of each cell; a few hot pixels or cosmic rays do not move it. NaN without pixels."""
    cell_pixels: NDArray[np.int64]
    """(GRID, GRID): sampled pixels of each cell."""
    pair_first: NDArray[np.int64]
    """(n_pairs,): index i of the first frame of each measured pair (i, i + 1); all n - 1 of them up to `MAX_PAIRS`."""
    pair_variance_adu2: Float
    """(n_pairs, GRID, GRID): variance of one sample, from the differences of frames i and i + 1 in each cell, levels of
    the cells made equal; samples far from the others (cosmic rays) are left out, too few normal ones to matter.
    Rounding is in it. NaN where a cell has fewer than 2 pixels."""
    residual_std_adu: Float
    """(n,): standard deviation of a frame from the typical frame, both at the same level in each cell, clipped at
    `RESIDUAL_SIGMAS`. The typical frame is made of the frame itself too: of normal noise 3 frames show 0.88, 6 frames
    0.94, 40 frames 0.99 of the noise of a sample."""
    residual_outlying: Float
    """(n,): share of its pixels that are further than `RESIDUAL_SIGMAS` noises from the typical frame."""
    parity_adu: Float
    """(n, 2): what even rows, and even columns, have more than odd ones, against the typical frame. NaN in frames of
    less than two rows or columns."""
    varying_bits: int
    """Bits that are not the same in all counted samples, of the samples as whole numbers; 0 for floats."""
    histogram: NDArray[np.int64]
    """Counts in equal bins from `histogram_start_adu` on, of the samples of evenly spaced columns."""
    histogram_start_adu: float
    histogram_step_adu: float
    bad_columns: NDArray[np.bool_]
    """(width,): columns that are stuck or hot, which all other fields leave out."""
    highest_word_adu: float
    """The highest value that the converter gave, before overscan was subtracted."""
    pile_up_adu: float = math.nan
    """The brightest value that the converter gave, if samples pile up at it (clipped whole numbers); else NaN."""
    pile_up_share: float = 0.0
    """Share of the counted samples that have this value."""
    pedestal_adu: float = 0.0
    """The level without light that was assumed where frames were brought to one level."""
    overscan_adu: float = 0.0
    """The level of the overscan that was subtracted: so much more the converter gave."""
    overscan_variance_adu2: float = math.nan
    """Variance of a sample of the overscan, rounding included; NaN where it is not known."""
    overscan_added_adu2: float = 0.0
    """What the noise of the overscan's levels adds to the variance of samples."""

    @property
    def n_frames(self) -> int:
        """Frames of the series."""
        return len(self.mean_adu)


@dataclass(frozen=True, kw_only=True)
class BlockSurvey:
    """What was measured in a block of rows, by band (b of them), frame (n), pair (p) and cell across (GRID)."""

    shape: tuple[int, int]
    """(height, width) of the whole frame."""
    first_rows: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    pixels: NDArray[np.int64]
    """(b, GRID): in each unit, without those that are missing in most frames."""
    mean_adu: Float
    """(b, n); 0 without pixels."""
    squares_adu2: Float
    """(b, n): summed squares of the differences from that mean."""
    minimum_adu: Float
    """(b, n)"""
    maximum_adu: Float
    """(b, n)"""
    highest_word_adu: Float
    """(b, n): before overscan was subtracted."""
    counts: NDArray[np.int64]
    """(b, n, 3): saturated, at or below 0, missing."""
    levels_adu: Float
    """(b, n, GRID)"""
    residual_squares_adu2: Float
    """(b, n): of the clipped residuals, from their mean in each unit."""
    outlying: NDArray[np.int64]
    """(b, n)"""
    parity_adu: Float
    """(b, n, GRID, 2): mean of even rows, and of even columns, of the whole frame less that of odd ones; NaN where a
    unit has one row or column, or pixels are missing."""
    pair_squares_adu2: Float
    """(b, p, GRID): of the differences of pairs, from their mean."""
    pair_freedom: NDArray[np.int64]
    """(b, p, GRID): differences kept, less 1."""
    is_integer: bool
    bins: NDArray[np.int64]
    """Histogram: the occupied bins, in steps of `bin_adu`, and how many samples each holds."""
    bin_counts: NDArray[np.int64]
    bin_adu: float
    bad_columns: NDArray[np.bool_]
    """(b, width): stuck and hot columns of each band, which are in no other field."""
    pedestal_adu: float = 0.0


def band_rows(height: int, width: int) -> int:
    """Return the rows of a band: even, if there are enough, so that all colours of a Bayer sensor are in each.

    40 frames of a unit are then up to 0.4 million samples, 1.5 MB of float32; fewer would be slowed by calls.
    """
    return max(1, min(8 if width > 4096 else 32, height // GRID // 2 * 2))


def cell_edges(length: int) -> list[int]:
    """Return the GRID + 1 edges of the cells along a side: even, if there are enough pixels, for Bayer sensors."""
    if length < 4 * GRID:
        return [length * i // GRID for i in range(GRID + 1)]
    return [length * i // (2 * GRID) * 2 for i in range(GRID)] + [length]


def sampled_blocks(height: int, width: int, chunk_rows: int) -> list[tuple[int, int]]:
    """Choose the blocks of rows, (start, stop) in their order, of a frame that a survey reads.

    They have about `SAMPLED_PIXELS` in all: every row of a small sensor, evenly spread ones of a large one, in each of
    the GRID rows of cells the same number, as far as chunks allow. Blocks are whole chunks of `chunk_rows` rows, which
    are stored, and so read, together.
    """
    rows = max(1, chunk_rows)
    rows *= max(1, _BLOCK_ROWS // rows)
    blocks = [(start, min(start + rows, height)) for start in range(0, height, rows)]
    per_cell_row = max(1, round(SAMPLED_PIXELS / (GRID * rows * max(1, width))))
    wanted = GRID * per_cell_row
    if 3 * wanted >= 2 * len(blocks):
        return blocks
    return [blocks[(2 * i + 1) * len(blocks) // (2 * wanted)] for i in range(wanted)]


def pairs_of(n_frames: int) -> NDArray[np.int64]:
    """Return the first frames of the pairs of neighbours that are measured: (n_pairs,), evenly spread."""
    n_pairs = min(MAX_PAIRS, n_frames - 1)
    if n_pairs < 1:
        return np.zeros(0, dtype=np.int64)
    return np.linspace(0, n_frames - 2, n_pairs).round().astype(np.int64)


def merge_blocks(blocks: Sequence[BlockSurvey]) -> SeriesSurvey:
    """Merge the blocks of a series, in whatever order they come; ValueError if there is none or shapes differ."""
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
    pile_up_adu, pile_up_share = _pile_up(ordered)
    cells, cell_pixels, variance = _merge_cells(ordered[0].shape, band)
    # the median of the units: a star is in one of them
    units = band["parity_adu"].swapaxes(0, 1).reshape(len(mean), -1, 2)
    is_measured = np.isfinite(units).all(axis=(0, 2))
    parity = np.median(units[:, is_measured], axis=1) if is_measured.any() else np.full((len(mean), 2), np.nan)
    for values in (mean, squares, cells, parity):
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
        parity_adu=parity,
        varying_bits=bits,
        histogram=histogram,
        histogram_start_adu=start,
        histogram_step_adu=step,
        bad_columns=band["bad_columns"].mean(axis=0) >= BAD_COLUMN_BANDS,
        highest_word_adu=float(band["highest_word_adu"].max()),
        pile_up_adu=pile_up_adu,
        pile_up_share=pile_up_share,
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


def _pile_up(blocks: Sequence[BlockSurvey]) -> tuple[float, float]:
    """Return the brightest value and its share of the samples if samples pile up there, else NaN and 0.

    Samples that are all equal pile up, those at 0 do not. Of floats nothing is said.
    """
    bins = np.concatenate([block.bins for block in blocks])
    if not len(bins) or not all(block.is_integer for block in blocks):
        return math.nan, 0.0
    values, where = np.unique(bins, return_inverse=True)
    counts = np.bincount(where, weights=np.concatenate([block.bin_counts for block in blocks]))
    if len(values) == 1:
        return (float(values[0]), 1.0) if values[0] > 0 else (math.nan, 0.0)
    total = counts.sum()
    place = int(np.flatnonzero(np.cumsum(counts[::-1])[::-1] >= _PILE_SHARE * total)[-1])  # above it are hot pixels
    count, below = counts[place], counts[max(0, place - _PILE_NEIGHBOURS) : place]
    if not below.size or count < max(_PILE_SAMPLES, _PILE_FACTOR * below.max(), _PILE_SHARE * total):
        return math.nan, 0.0
    return float(values[place]), float(count / total)
