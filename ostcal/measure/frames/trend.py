"""How a number goes over the frames of a series: single frames that are off, a step, a trend, and scatter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.estimators import mad_std

Float = NDArray[np.float64]

TREND_FRAMES = 5
"""A trend needs as many frames; of three, one in three pure noise goes up or down all the way."""
TREND_SIGMAS = 5.0


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A sequence of n values taken apart."""

    n: int
    jumps: dict[int, float]
    """By place in the series: how far that frame is from its neighbours."""
    step_at: int | None
    """First frame after the step."""
    step: float
    change: float
    """From the first to the last frame, jumps and step aside."""
    change_error: float
    scatter: float
    """Standard deviation about the trend."""

    def is_beyond(self, limit: float) -> bool:
        """Return whether the change is beyond the limit, and no chance."""
        return (
            self.n >= TREND_FRAMES and abs(self.change) > limit and abs(self.change) > TREND_SIGMAS * self.change_error
        )

    def first_beyond(self, limit: float) -> int:
        """Return the place of the first frame that the trend has carried beyond the limit."""
        return min(self.n - 1, 1 + math.floor(limit / abs(self.change) * (self.n - 1)))

    def why_no_trend(self, limit: float) -> str:
        """Return why a change beyond the limit is no trend; "" if it is one or within the limit."""
        if self.is_beyond(limit) or abs(self.change) <= limit:
            return ""
        return ", but they are too few to tell" if self.n < TREND_FRAMES else ", no more than they scatter"


def find_trend(values: Float, jump_limit: float) -> Trend:
    """Take a sequence of (n,) values apart.

    Jumps and steps count beyond `jump_limit`; jumps from 5 frames on also beyond 6 times the usual scatter. The change
    is that of the median slope over half the series (as of Theil and Sen, with n/2 differences). Its error is 3.5
    errors of a mean, as of a line over its length, times 1.25 for a median.
    """
    n = len(values)
    if n < 3:
        apart = float(values[-1] - values[0])
        step_at = 1 if abs(apart) > jump_limit else None
        return Trend(n=n, jumps={}, step_at=step_at, step=apart, change=0.0, change_error=0.0, scatter=abs(apart))
    step_at, step = _find_step(values, jump_limit)
    level = values.copy()
    if step_at is not None:
        level[step_at:] -= step
    even = level - _slope(level) * np.arange(n)
    limit = max(jump_limit, 6 * mad_std(even - _neighbours(even))) if n >= TREND_FRAMES else jump_limit
    jumps: dict[int, float] = {}
    for _ in range(n // 3):  # the worst first: it may be what makes its neighbours look odd
        apart_from_others = even - _neighbours(even)
        worst = int(np.argmax(np.abs(apart_from_others)))
        if abs(apart_from_others[worst]) <= limit:
            break
        jumps[worst] = float(apart_from_others[worst])
        even[worst] -= jumps[worst]
        level[worst] -= jumps[worst]
    slope = _slope(level)
    rest = level - slope * np.arange(n)
    scatter = max(mad_std(rest), float(np.std(rest)) / 2)
    error = 3.5 * 1.25 * scatter / math.sqrt(n)
    change = slope * (n - 1)
    return Trend(n=n, jumps=jumps, step_at=step_at, step=step, change=change, change_error=error, scatter=scatter)


def _neighbours(values: Float) -> Float:
    """Return the median of the four nearest other values of each, or of all others of a short series: (n,)."""
    n = len(values)
    width = min(5, n)
    places = np.arange(n)[:, np.newaxis]
    near = np.clip(places - 2, 0, n - width) + np.arange(width)
    return np.asarray(np.median(values[near[near != places]].reshape(n, width - 1), axis=1))


def _find_step(values: Float, limit: float) -> tuple[int | None, float]:
    """Find the frame from which on all are higher or lower.

    It has the smallest sum of distances from the medians on both sides, which single frames do not decide. Of a pure
    line a step leaves half of the distances: then it is none.
    """
    n = len(values)
    if n < 4:
        return None, 0.0
    costs = [_distances(values[:k]) + _distances(values[k:]) for k in range(2, n - 1)]
    at = 2 + int(np.argmin(costs))
    step = float(np.median(values[at:]) - np.median(values[:at]))
    here = float(np.median(values[at : at + 3]) - np.median(values[max(0, at - 3) : at]))
    line = _distances(values - _slope(values) * np.arange(n))
    if min(costs) >= 0.5 * line or abs(step) <= limit or abs(here) <= max(limit, abs(step)) / 2:
        return None, 0.0
    return at, step


def _distances(values: Float) -> float:
    return float(np.abs(values - np.median(values)).sum())


def _slope(values: Float) -> float:
    """Return the change from frame to frame: the median of the changes over half the series."""
    n = len(values)
    half = max(1, n // 2)
    change = values[half:] - values[:-half]
    if n < TREND_FRAMES and np.abs(change).max() > 1.5 * abs(float(change.mean())):
        return 0.0  # one frame makes it, not all
    return float(np.median(change)) / half


def find_growing_shape(shape: Float, limit: float, cell_noise: float) -> tuple[int, float] | None:
    """Find a shape, (frames, cells), that grows: the end differs from the start, and the middle is in between.

    Return the place of the first frame beyond the limit, and the range of the cells between the last and the first
    frames; ``None`` if it does not grow.
    """
    n = len(shape)
    if n < TREND_FRAMES:
        return None
    few = max(2, n // 5)
    start, end = np.median(shape[:few], axis=0), np.median(shape[-few:], axis=0)
    pattern = end - start
    pattern = pattern - np.median(pattern)
    change = float(pattern.max() - pattern.min())
    between = np.diff(shape, axis=0)
    usual = float(np.median(between.max(axis=1) - between.min(axis=1)))
    # what grows differs little from frame to frame; noise, as much as from end to end
    if change <= max(limit, 9 * cell_noise, 2.5 * usual):
        return None
    amplitude = (shape - start) @ pattern / float(pattern @ pattern)
    trend = find_trend(amplitude, 0.5)
    if trend.step_at is not None or trend.change < 0.5 or trend.change < TREND_SIGMAS * trend.change_error:
        return None
    return first_above(np.maximum(amplitude, 0) * change, limit), change


def first_above(values: Float, limit: float) -> int:
    """Return the first place whose absolute value is above the limit; the last if none is."""
    above = np.flatnonzero(np.abs(values) > limit)
    return int(above[0]) if len(above) else len(values) - 1
