"""Checks that a master is the clipped mean it should be: against the known sensor, and against another master.

Without it a program that skipped the work, or the rejection, would win the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dark_frames import FrameSet, Sensor

ROWS = 256
OUTLIER_SIGMA = 6.0
NOISE_RATIO_LIMIT = 1.08
SHIFT_LIMIT_SIGMA = 0.05
OUTLIER_SHARE_LIMIT = 1e-5  # cosmic rays left in would be some 5e-4 of all pixels
DIFFERENCE_LIMIT = 0.5  # two clipping rules differ in one or two of 40 samples of a few pixels; noise would give 1.4


@dataclass(frozen=True, kw_only=True)
class Master:
    """A master on disk and what turns its values into ADU."""

    path: Path
    adu_per_unit: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a master compares, in units of the noise that a plain mean of the same frames has in each pixel."""

    noise_ratio: float
    """Scatter about the true level; 1 for the mean of the good samples."""
    shift_sigma: float
    """Mean deviation from the true level."""
    outlier_share: float
    """Share of pixels further than six sigma from the truth."""
    difference: float
    """RMS difference from the first master of the comparison."""

    @property
    def holds(self) -> bool:
        """Whether the master passes for a clipped mean of these frames."""
        return (
            self.noise_ratio <= NOISE_RATIO_LIMIT
            and abs(self.shift_sigma) <= SHIFT_LIMIT_SIGMA
            and self.outlier_share <= OUTLIER_SHARE_LIMIT
            and self.difference <= DIFFERENCE_LIMIT
        )


def compare(master: Master, reference: Master, sensor: Sensor, frame_set: FrameSet) -> Agreement:
    """Compare a master with the sensor's true level and with another master, block by block."""
    kept, outliers, total, squares, difference = 0, 0, 0.0, 0.0, 0.0
    for start in range(0, frame_set.height, ROWS):
        rows = slice(start, min(start + ROWS, frame_set.height))
        scale = np.sqrt(np.float64(frame_set.frames)) / sensor.sigma[rows]
        values = _read(master, rows)
        deviation = (values - sensor.level[rows]) * scale
        good = np.abs(deviation) <= OUTLIER_SIGMA  # False for NaN
        outliers += good.size - int(np.count_nonzero(good))
        kept += int(np.count_nonzero(good))
        total += float(deviation[good].sum())
        squares += float(np.square(deviation[good]).sum())
        difference += float(np.square(((values - _read(reference, rows)) * scale)[good]).sum())
    count = max(kept, 1)
    return Agreement(
        noise_ratio=float(np.sqrt(squares / count)),
        shift_sigma=total / count,
        outlier_share=outliers / (kept + outliers),
        difference=float(np.sqrt(difference / count)),
    )


def check_size(master: Master, frame_set: FrameSet) -> None:
    """Make sure that a master has the size of its frames."""
    shape = fits.getheader(master.path)["NAXIS*"]
    size = (shape["NAXIS1"], shape["NAXIS2"])
    if size != (frame_set.width, frame_set.height):
        raise ValueError(f"{master.path}: {size} pixels, but the frames have {frame_set.width}x{frame_set.height}")


def _read(master: Master, rows: slice) -> NDArray[np.float64]:
    with fits.open(master.path) as hdus:
        return np.asarray(hdus[0].section[rows], np.float64) * master.adu_per_unit
