"""Runs of kept samples: the rejection loop, the methods that words and floats share, and what follows from a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import inlined, kernel
from ostcal.engine.kernels.network import TILE
from ostcal.engine.kernels.samples import copy
from ostcal.engine.rejection import METHOD_MINMAX, METHOD_PERCENTILE, METHOD_SIGMA_CLIP, METHOD_WINSORIZED, Rule

SLACK = 1.0 + 1e-9
"""Limits of floats are this much wider: ties of scaled data stay."""


class Planes(NamedTuple):
    """Where results go: planes of (n_pixels,), float32, `n_used` uint16; `low` and `high` may be empty."""

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rejected: NDArray[np.int64]
    """(n_frames,): the samples outside the kept range are added to what is there."""


class Pixel(NamedTuple):
    """What a pass needs to know of one pixel of a sorted tile."""

    ref: Any
    """What sums are relative to, int or float."""
    s1: Any
    """Sum of d of the kept run, d relative to `ref`."""
    s2: Any
    """Sum of d^2 of the kept run."""
    spread: Any
    """Spread of all samples, where it was computed for the whole tile."""
    valid: int
    """Finite samples."""


def clip_with(trim: Callable[..., Any], sum_kept: Callable[..., Any]) -> Callable[..., Any]:
    """Return the kernel ``clip(work, width, rule)`` that rejects samples of a sorted tile, pass after pass.

    It visits those of the first `width` pixels for which `work.todo` is true. A pass that would keep fewer than
    `rule.min_keep` samples is not applied and ends the passes. ``trim(tile, x, lo, hi, pixel, rule)`` returns the run
    [a, b) that a pass leaves of [lo, hi) in column `x`; ``sum_kept(tile, x, lo, hi, a, b, pixel)`` returns its sums.
    """

    @kernel
    def clip(work: Any, width: int, rule: Rule) -> None:
        tile, ref, s1, s2, spread = work.tile, work.ref, work.s1, work.s2, work.spread
        todo, valid, lo, hi = work.todo, work.valid, work.lo, work.hi
        for x in range(width):
            if not todo[x]:
                continue
            pixel = Pixel(ref[x], s1[x], s2[x], spread[x], valid[x])
            first, last = 0, pixel.valid
            passes = 0
            while passes != rule.max_passes and last > first:
                a, b = trim(tile, x, first, last, pixel, rule)
                if b - a < rule.min_keep or (a == first and b == last):
                    break
                sum_1, sum_2 = sum_kept(tile, x, first, last, a, b, pixel)
                pixel = Pixel(pixel.ref, sum_1, sum_2, pixel.spread, pixel.valid)
                first, last = a, b
                passes += 1
            lo[x], hi[x] = first, last
            s1[x], s2[x] = pixel.s1, pixel.s2

    return clip


def trim_with(trim_by_spread: Callable[..., Any], trim_by_std: Callable[..., Any]) -> Callable[..., Any]:
    """Return the trim of any method, for `clip_with`, from those of sigma clipping."""

    @inlined
    def trim(tile: NDArray[Any], x: int, lo: int, hi: int, pixel: Pixel, rule: Rule) -> tuple[int, int]:
        if rule.method == METHOD_SIGMA_CLIP:
            if rule.spread_is_mad or rule.spread_is_modelled:
                return trim_by_spread(tile, x, lo, hi, pixel, rule)  # type: ignore[no-any-return]
            return trim_by_std(tile, x, lo, hi, pixel, rule)  # type: ignore[no-any-return]
        if rule.method == METHOD_WINSORIZED:
            return _trim_winsorized(tile, x, lo, hi, np.float64(pixel.ref), rule)
        if rule.method == METHOD_MINMAX and hi - lo > 2:
            return lo + rule.n_low, hi - rule.n_high
        if rule.method == METHOD_PERCENTILE:
            n = hi - lo
            return (
                lo + n * rule.low_numerator // rule.low_denominator,
                hi - n * rule.high_numerator // rule.high_denominator,
            )
        return lo, hi

    return trim


@inlined
def float_sums(tile: NDArray[Any], x: int, lo: int, hi: int, ref: float) -> tuple[float, float]:
    """Sum d and d^2 of the run [lo, hi) of column `x` in ascending order, d relative to `ref`."""
    s1 = 0.0
    s2 = 0.0
    for i in range(lo, hi):
        d = np.float64(tile[i, x]) - ref
        s1 += d
        s2 += d * d
    return s1, s2


@inlined
def median_of(tile: NDArray[Any], x: int, lo: int, hi: int, ref: float) -> float:
    """Return the median of the run [lo, hi) of column `x`, relative to `ref`."""
    n = hi - lo
    a = np.float64(tile[lo + (n - 1) // 2, x]) - ref
    b = np.float64(tile[lo + n // 2, x]) - ref
    return (a + b) / 2.0


@kernel
def _trim_winsorized(tile: NDArray[Any], x: int, lo: int, hi: int, ref: float, rule: Rule) -> tuple[int, int]:
    """Return the run within k spreads of the median; the spread is that of samples winsorized about the median."""
    n = hi - lo
    m = median_of(tile, x, lo, hi, ref)
    floor, half_step = rule.floor_micro_adu / 1e6, rule.step_micro_adu / 2e6
    s1, s2 = float_sums(tile, x, lo, hi, ref)
    sigma = max(np.sqrt(max(0.0, n * s2 - s1 * s1)) / n, floor)
    for _ in range(50):
        low = m - 1.5 * sigma
        high = m + 1.5 * sigma
        s1 = 0.0
        s2 = 0.0
        for i in range(lo, hi):
            d = np.float64(tile[i, x]) - ref
            if d < low:
                d = low
            if d > high:
                d = high
            s1 += d
            s2 += d * d
        new = max(1.134 * (np.sqrt(max(0.0, n * s2 - s1 * s1)) / n), floor)
        change = abs(new - sigma)
        limit = 0.0005 * sigma
        sigma = new
        if change <= limit:
            break
    low = m - (rule.low_numerator / rule.low_denominator * sigma + half_step) * SLACK
    high = m + (rule.high_numerator / rule.high_denominator * sigma + half_step) * SLACK
    while lo < hi and np.float64(tile[lo, x]) - ref < low:
        lo += 1
    while lo < hi and np.float64(tile[hi - 1, x]) - ref > high:
        hi -= 1
    return lo, hi


@kernel
def find_kept_range(work: Any) -> Any:
    """Write lowest and highest kept sample of every pixel; return how many samples of the tile are kept.

    A pixel without a finite sample has no samples within its range.
    """
    tile, lo, hi, low, high = work.tile, work.lo, work.hi, work.low, work.high
    n = tile.shape[0]
    first = tile[0]
    last = tile[n - 1]
    kept: Any = 0
    for x in range(TILE):
        low[x] = first[x]
        high[x] = last[x]
        kept += hi[x] - lo[x]
    if kept < n * TILE:
        for x in range(TILE):
            if hi[x] - lo[x] < n:
                low[x] = tile[lo[x], x]
                high[x] = tile[max(hi[x] - 1, 0), x]
    return kept


@kernel
def count_rejected(plain: NDArray[Any], width: int, work: Any, rejected: NDArray[np.int64]) -> None:
    """Add to each frame's count, (n_frames,), the samples of `width` pixels that are outside the kept range.

    `plain` is the tile as it came, (n_frames, TILE); NaN compares false and so counts as outside.
    """
    low, high = work.low, work.high
    for i in range(plain.shape[0]):
        row = plain[i]
        inside = np.uint16(0)
        if width == TILE:
            for x in range(TILE):
                inside = np.uint16(inside + np.uint16((row[x] >= low[x]) & (row[x] <= high[x])))
        else:
            for x in range(width):
                inside = np.uint16(inside + np.uint16((row[x] >= low[x]) & (row[x] <= high[x])))
        rejected[i] += width - np.int64(inside)


@kernel
def store_tile(first: int, width: int, zero: int, work: Any, planes: Planes) -> Any:
    """Copy the results of the first `width` pixels of a tile to pixels `first` and on of the planes.

    Kept ranges are `zero` ADU higher there. Return how many samples were not finite.
    """
    copy(work.mean, planes.master[first : first + width])
    copy(work.std, planes.std[first : first + width])
    used, valid, lo, hi, n = planes.n_used[first : first + width], work.valid, work.lo, work.hi, work.plain.shape[0]
    dropped: Any = 0
    for x in range(width):
        used[x] = hi[x] - lo[x]
        dropped += n - valid[x]
    if planes.low.size > 0:
        for x in range(width):
            _store_range(first + x, x, zero, work, planes)
    return dropped


@kernel
def store_pixels(where: NDArray[np.int64], width: int, zero: int, work: Any, planes: Planes) -> Any:
    """Do `store_tile` for pixels of a tile that belong to the pixels `where`, (TILE,) int64."""
    dropped: Any = 0
    for k in range(width):
        x = where[k]
        planes.master[x] = work.mean[k]
        planes.std[x] = work.std[k]
        planes.n_used[x] = work.hi[k] - work.lo[k]
        dropped += work.plain.shape[0] - work.valid[k]
        if planes.low.size > 0:
            _store_range(x, k, zero, work, planes)
    return dropped


@kernel
def _store_range(at: int, x: int, zero: int, work: Any, planes: Planes) -> None:
    """Copy the kept range of pixel `x` of a tile to pixel `at`; NaN if nothing is kept."""
    is_empty = work.hi[x] == work.lo[x]
    planes.low[at] = np.float32(np.nan) if is_empty else np.float32(work.low[x] + zero)
    planes.high[at] = np.float32(np.nan) if is_empty else np.float32(work.high[x] + zero)
