"""What one pass over a master says, and how its planes are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.masters.defect_map import BadColumn, DefectMap
from ostcal.measure.masters.defects import Defect, SampleModel
from ostcal.measure.masters.histogram import Histogram
from ostcal.measure.masters.scan_kernels import CELL

Plane = Literal["master", "std", "n_used"]
PlaneReader = Callable[[Plane, int, int], NDArray[Any]]
"""``(plane, start, stop) -> (stop - start, width)``: float32 for master and std, uint16 for n_used."""

FloatMap = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class HotPixel:
    """A pixel far above its neighbours."""

    row: int
    column: int
    value: float
    excess: float
    """Above the median of its neighbours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MasterScan:
    """What one pass over a master says; values are in its unit, ADU or, for a flat, its level."""

    kind: FrameType
    shape: tuple[int, int]
    model: SampleModel
    bayer: bool
    defects: DefectMap
    counts: Mapping[Defect, int]
    """Pixels with each bit."""
    columns: tuple[BadColumn, ...]
    strongest: tuple[HotPixel, ...]
    """The hot pixels furthest above their neighbours, the hottest first."""
    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each row of cells, and the height."""
    cells: FloatMap
    """(n_bands, n_cells): level, the median of sampled pixels; of a Bayer sensor the mean of its four colours."""
    std_cells: FloatMap
    """(n_bands, n_cells): standard deviation of a sample."""
    rejected_cells: FloatMap
    """(n_bands, n_cells): share of the samples that was rejected, from sampled rows."""
    fine_cells: FloatMap
    """(4 n_bands, about width / 16): clipped means of 16 x 16 pixels."""
    row_profile: FloatMap
    """(height,): clipped means of the rows."""
    column_profile: FloatMap
    """(width,): clipped means of the columns."""
    histogram: Histogram
    median: float
    pixel_noise: float
    """Spread from pixel to pixel, rows, columns and everything larger taken out: noise and fixed pattern of pixels."""
    sample_noise: float
    """Standard deviation of a sample, root of the mean square over the cells; 0 of a master of one frame."""
    mean_noise: float
    """Of a pixel of the master as its samples have it: `sample_noise` over the root of the samples kept."""
    n_nan: int
    n_not_positive: int
    """Pixels at or below zero."""

    @property
    def dq(self) -> NDArray[np.uint8]:
        """The whole plane of defects, (height, width): a byte for each pixel."""
        return self.defects.rows(0, self.shape[0])

    @property
    def n_pixels(self) -> int:
        """Pixels of the master."""
        return self.shape[0] * self.shape[1]

    def share(self, defect: Defect) -> float:
        """Return the share of the pixels that have a defect."""
        return self.counts[defect] / self.n_pixels

    def rectangle(self, band: int, cell: int) -> tuple[int, int, int, int]:
        """Return the rows and columns of a cell: ``(top, bottom, left, right)``."""
        left, right = cell * CELL, min((cell + 1) * CELL, self.shape[1])
        return int(self.edges[band]), int(self.edges[band + 1]), left, right
