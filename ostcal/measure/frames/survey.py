"""What is measured of every frame of a series, on which of its rows, and in which cells of the sensor.

Sampled rows of all frames are read once before they are combined (`sampled_blocks`). A block of rows is measured by
`ostcal.measure.frames.survey_block`, in bands of rows of their own; `ostcal.measure.frames.merge_survey` sums the bands
in the order of rows, so that the result is the same to the last bit however rows are shared out.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    varying_bits: int
    """Bits that are not the same in all counted samples, of the samples as whole numbers; 0 for floats."""
    histogram: NDArray[np.int64]
    """Counts in equal bins from `histogram_start_adu` on, of the samples of evenly spaced columns."""
    histogram_start_adu: float
    histogram_step_adu: float
    pedestal_adu: float = 0.0
    """The level without light that was assumed where frames were brought to one level."""

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
    counts: NDArray[np.int64]
    """(b, n, 3): saturated, at or below 0, missing."""
    levels_adu: Float
    """(b, n, GRID)"""
    residual_squares_adu2: Float
    """(b, n): of the clipped residuals, from their mean in each unit."""
    outlying: NDArray[np.int64]
    """(b, n)"""
    pair_squares_adu2: Float
    """(b, p, GRID): of the differences of pairs, from their mean."""
    pair_freedom: NDArray[np.int64]
    """(b, p, GRID): differences kept, less 1."""
    is_integer: bool
    bins: NDArray[np.int64]
    """Histogram: the occupied bins, in steps of `bin_adu`, and how many samples each holds."""
    bin_counts: NDArray[np.int64]
    bin_adu: float
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
