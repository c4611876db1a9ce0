"""Numbers of every frame of a series, from sampled rows of all its frames read once before they are combined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 8
"""Cells along each side of a frame."""


@dataclass(frozen=True, kw_only=True)
class SeriesSurvey:
    """What the sampled rows of a series say; arrays have a row for each of the n frames, in their order."""

    n_pixels: int
    """Sampled pixels of a frame."""
    mean_adu: NDArray[np.float64]
    std_adu: NDArray[np.float64]
    minimum_adu: NDArray[np.float64]
    maximum_adu: NDArray[np.float64]
    saturated: NDArray[np.int64]
    """Sampled pixels at or above saturation."""
    cells_adu: NDArray[np.float64]
    """(n, GRID, GRID): level of each cell; a few hot pixels or cosmic rays do not move it."""
    pair_variance_adu2: NDArray[np.float64]
    """(n - 1, GRID, GRID): variance of one sample, from the differences of frames i and i + 1 in each cell, levels of
    the cells made equal; samples far from the others (cosmic rays, telegraph noise) are clipped and the clipping is
    corrected for."""
    residual_std_adu: NDArray[np.float64]
    """(n,): standard deviation of a frame minus the mean of the others, both at the same level."""
    residual_outlying: NDArray[np.float64]
    """(n,): share of its pixels that are further than 5 such deviations (of the median frame) from the others."""
    varying_bits: int
    """Bits that are not the same in all samples, of the samples as whole numbers; 0 for floats."""
    histogram: NDArray[np.int64]
    """Counts of all samples in equal bins from `histogram_start_adu` on."""
    histogram_start_adu: float
    histogram_step_adu: float

    @property
    def n_frames(self) -> int:
        """Frames of the series."""
        return len(self.mean_adu)
