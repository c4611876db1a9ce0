"""Verdicts on a master against the previous one of its kind, from the pixels of some rows of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.estimators import chi_square_bound, chi_square_quantile, half_spread
from ostcal.measure.findings import Finding, finding_above
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.scan import FINE
from ostcal.measure.masters.scan_result import PlaneReader

_COMPARED_BLOCKS = 32
_COMPARED_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class ComparedMaster:
    """A master that is compared: how to read it, and what made it."""

    read_rows: PlaneReader
    n_frames: int
    name: str
    adu_per_unit: float = 1.0


def compare_masters(
    new: ComparedMaster,
    old: ComparedMaster,
    shape: tuple[int, int],
    kind: FrameType,
    limits: MasterLimits | None = None,
) -> list[Finding]:
    """Judge a master against the previous one of the same key, on 32 blocks of 16 rows of each, spread evenly.

    Both are of `shape`, (height, width); flats are normalised, so that their levels are equal.
    """
    limits = limits or MasterLimits()
    height, width = shape
    n_blocks = max(1, min(_COMPARED_BLOCKS, height // _COMPARED_ROWS))
    rows = min(_COMPARED_ROWS, height)
    starts = [i * (height - rows) // max(1, n_blocks - 1) for i in range(n_blocks)]
    parts = [_Block.of(new, old, (start, start + rows), width) for start in starts]
    expected = math.sqrt(float(np.mean([part.variance for part in parts])))
    spread = float(np.median([part.spread for part in parts]))
    factor = spread / expected if expected > 0 else 1.0
    text = (
        f"pixels differ from those of the previous master, {old.name}, by {spread * new.adu_per_unit:.3g} ADU, "
        f"{factor:.2f} times the noise of both (limit {limits.changed_noise_factor:.3g})"
    )
    against = finding_above("pixels against previous", factor, limits.changed_noise_factor, text)
    shifts = np.concatenate([part.shifts for part in parts])
    if kind is FrameType.FLAT:
        least = max(0.01, 5 * expected / FINE)
        share = float(np.mean(np.abs(shifts - np.median(shifts)) > least))
        text = (
            f"{100 * share:.3g} % of its area changed by more than {100 * least:.2g} % "
            f"since {old.name} (limit {100 * limits.changed_share:.3g} %): dust "
            "that moved, or another light"
        )
        return [finding_above("shape against previous", share, limits.changed_share, text), against]
    shift = float(np.median(shifts))
    limit = max(limits.level_shift_adu, math.sqrt(float(np.mean([part.sample_variance for part in parts]))))
    text = f"its level is {shift:+.3g} ADU from that of the previous master, {old.name} (limit {limit:.3g} ADU)"
    level = finding_above("level against previous", abs(shift), limit, text, unit="ADU")
    share = sum(part.new_hot for part in parts) / sum(part.n_pixels for part in parts)
    text = f"{100 * share:.3g} % of the pixels became hot since {old.name} (limit {100 * limits.new_hot_share:.3g} %)"
    return [level, finding_above("new hot pixels", share, limits.new_hot_share, text), against]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What some rows of two masters say; differences are new minus old."""

    shifts: NDArray[np.float64]
    """(n,): medians of pieces of 16 x 16 pixels."""
    spread: float
    variance: float
    """Of a difference, from the samples."""
    sample_variance: float
    new_hot: int
    n_pixels: int

    @classmethod
    def of(cls, new: ComparedMaster, old: ComparedMaster, rows: tuple[int, int], width: int) -> _Block:
        """Compare rows ``(start, stop)`` of two masters."""
        difference = new.read_rows("master", *rows).astype(np.float64) - old.read_rows("master", *rows)
        side = min(FINE, width)
        whole = difference[:, : width - width % side].reshape(len(difference), -1, side)
        shifts = np.nan_to_num(np.nanmedian(whole, axis=(0, 2)))
        rest = whole - shifts[None, :, None]
        rest = rest[np.isfinite(rest)]
        spread = half_spread(rest) if rest.size else 0.0
        sample_variance = _sample_variance(new, rows)
        variance = sample_variance / new.n_frames + _sample_variance(old, rows) / old.n_frames
        far = 10 * max(spread, math.sqrt(variance))
        return cls(
            shifts=shifts,
            spread=spread,
            variance=variance,
            sample_variance=sample_variance,
            new_hot=int(np.count_nonzero(rest > far)) if far > 0 else 0,
            n_pixels=max(1, rest.size),
        )


def _sample_variance(master: ComparedMaster, rows: tuple[int, int]) -> float:
    """Return the variance of a sample: the mean square of the deviations, the largest cut as in `scan_master`."""
    degrees = max(1, master.n_frames - 1)
    squares = np.square(master.read_rows("std", *rows).astype(np.float64))
    squares = squares[np.isfinite(squares)]
    if squares.size == 0:
        return 0.0
    typical = float(np.median(squares)) / chi_square_quantile(0.0, degrees)
    floor = 1 / (12 * master.adu_per_unit**2)
    return max(float(np.mean(np.minimum(squares, max(typical, floor) * chi_square_bound(degrees, 3.3)))), floor)
