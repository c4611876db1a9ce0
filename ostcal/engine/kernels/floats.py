"""Combine floats: sums in ascending order, relative to a sample, so that no result depends on the order of frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import allocating, door, inlined, kernel
from ostcal.engine.kernels.network import TILE, sort_columns
from ostcal.engine.kernels.runs import (
    SLACK,
    Pixel,
    Planes,
    clip_with,
    count_rejected,
    find_kept_range,
    float_sums,
    median_of,
    store_tile,
    trim_with,
)
from ostcal.engine.kernels.samples import Corrected, copy, copy_last, correct_tile, corrected_work, load_floats
from ostcal.engine.rejection import METHOD_MEDIAN, METHOD_SIGMA_CLIP, Rule


class FloatWork(NamedTuple):
    """A tile of floats and what is known of its pixels, (TILE,) each; sums are relative to `ref`."""

    plain: NDArray[Any]
    """The tile as it came, (n_frames, TILE) float32 or float64; what is not finite is NaN."""
    tile: NDArray[Any]
    """The tile sorted along axis 0; what is not finite comes last, as infinity."""
    ref: NDArray[np.float64]
    s1: NDArray[np.float64]
    s2: NDArray[np.float64]
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    best: NDArray[np.float64]
    todo: NDArray[np.bool_]
    valid: NDArray[np.int64]
    lo: NDArray[np.int64]
    hi: NDArray[np.int64]
    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


@allocating
def new_float_work(n: int, one: NDArray[Any]) -> FloatWork:
    """Make room for a tile of `n` frames of the dtype of `one`, any array."""
    samples = np.zeros((2 * n + 2, TILE), one.dtype)
    floats = np.zeros((6, TILE), np.float64)
    counts = np.zeros((3, TILE), np.int64)
    results = np.zeros((2, TILE), np.float32)
    return FloatWork(
        plain=samples[:n],
        tile=samples[n : 2 * n],
        low=samples[2 * n],
        high=samples[2 * n + 1],
        ref=floats[0],
        s1=floats[1],
        s2=floats[2],
        center=floats[3],
        spread=floats[4],
        best=floats[5],
        todo=np.ones(TILE, np.bool_),
        valid=counts[0],
        lo=counts[1],
        hi=counts[2],
        mean=results[0],
        std=results[1],
    )


# --- sums ---


@kernel
def _all_are(valid: NDArray[np.int64], n: int) -> Any:
    """Return whether all are `n`. `valid.min()` would load numba's linear algebra, and with it SciPy, for 0.2 s."""
    n_equal = 0
    for x in range(valid.size):
        n_equal += valid[x] == n
    return n_equal == valid.size


@kernel
def sum_float_tile(tile: NDArray[Any], work: FloatWork) -> None:
    """Do `float_sums` for the valid samples of all pixels of a tile (n_frames, TILE), in the order of its rows."""
    valid, ref, s1, s2 = work.valid, work.ref, work.s1, work.s2
    s1[:] = 0.0
    s2[:] = 0.0
    n = tile.shape[0]
    if _all_are(valid, n):
        for i in range(0, n - 3, 4):
            row_a, row_b, row_c, row_d = tile[i], tile[i + 1], tile[i + 2], tile[i + 3]
            for x in range(TILE):
                a, b = np.float64(row_a[x]) - ref[x], np.float64(row_b[x]) - ref[x]
                c, d = np.float64(row_c[x]) - ref[x], np.float64(row_d[x]) - ref[x]
                s1[x] = (((s1[x] + a) + b) + c) + d
                s2[x] = (((s2[x] + a * a) + b * b) + c * c) + d * d
        for i in range(n - n % 4, n):
            row = tile[i]
            for x in range(TILE):
                d = np.float64(row[x]) - ref[x]
                s1[x] += d
                s2[x] += d * d
        return
    for i in range(n):
        for x in range(TILE):
            if i < valid[x]:
                d = np.float64(tile[i, x]) - ref[x]
                s1[x] += d
                s2[x] += d * d


@inlined
def _sum_kept(tile: NDArray[Any], x: int, lo: int, hi: int, a: int, b: int, pixel: Pixel) -> tuple[float, float]:
    """Sum the run [a, b) anew: sums of floats depend on what else was in them."""
    return float_sums(tile, x, a, b, pixel.ref)


@inlined
def are_close(n: int, lowest: Any, highest: Any) -> Any:
    """Return whether sums of n float32 samples relative to the lowest, and of their squares, are exact in float64.

    All are multiples of the lowest one's last place, which is at least 2^-24 of it; the squares then sum to less than
    2^52 times the square of that place.
    """
    spread = highest - lowest
    return (lowest > 0.0) & (np.float64(n) * spread * spread < 16.0 * lowest * lowest)


@kernel
def _find_references(work: FloatWork) -> None:
    """Write what sums are relative to: the lowest of samples that are close, else the upper median; 0 for no sample."""
    tile, valid, ref = work.tile, work.valid, work.ref
    n = tile.shape[0]
    if _all_are(valid, n):
        first, middle, last = tile[0], tile[n // 2], tile[n - 1]
        for x in range(TILE):
            lowest = np.float64(first[x])
            ref[x] = lowest if are_close(n, lowest, np.float64(last[x])) else np.float64(middle[x])
        return
    for x in range(TILE):
        count = valid[x]
        ref[x] = 0.0
        if count > 0:
            lowest = np.float64(tile[0, x])
            is_close = are_close(count, lowest, np.float64(tile[count - 1, x]))
            ref[x] = lowest if is_close else np.float64(tile[count // 2, x])


# --- sigma clipping ---


@kernel
def _mad(tile: NDArray[Any], x: int, lo: int, hi: int, ref: float, center: float) -> float:
    """Return the median absolute deviation of the run from `center` (relative to `ref`); as `_find_radii`."""
    n = hi - lo
    total = 0.0
    for k in ((n - 1) // 2, n // 2):
        best = np.inf
        for j in range(lo, hi - k):
            below = center - (np.float64(tile[j, x]) - ref)
            above = (np.float64(tile[j + k, x]) - ref) - center
            radius = below if below > above else above
            if radius < best:
                best = radius
        total += best
    return total / 2.0


@kernel
def _find_radii(work: FloatWork, k: int) -> None:
    """Write the k-th smallest distance of the samples of every pixel from its centre into `work.best`.

    It is the smallest radius that holds k + 1 samples, which are neighbours when sorted.
    """
    tile, ref, center, best = work.tile, work.ref, work.center, work.best
    n = tile.shape[0]
    for x in range(TILE):
        best[x] = np.inf
    for j in range(n - k):
        left = tile[j]
        right = tile[j + k]
        for x in range(TILE):
            below = center[x] - (np.float64(left[x]) - ref[x])
            above = (np.float64(right[x]) - ref[x]) - center[x]
            radius = below if below > above else above
            best[x] = radius if radius < best[x] else best[x]


@kernel
def _mark_by_std(work: FloatWork, rule: Rule) -> None:
    """Mark the pixels whose first pass by `_trim_by_std` rejects something; the same operations, so the same answer."""
    tile, ref, sum_1, sum_2, todo = work.tile, work.ref, work.s1, work.s2, work.todo
    n = tile.shape[0]
    k_low, k_high = rule.low_numerator / rule.low_denominator, rule.high_numerator / rule.high_denominator
    lower, upper = tile[(n - 1) // 2], tile[n // 2]
    lowest, highest = tile[0], tile[n - 1]
    median = rule.center_is_median
    for x in range(TILE):
        center = ((np.float64(lower[x]) - ref[x]) + (np.float64(upper[x]) - ref[x])) / 2.0 if median else 0.0
        total = 0.0 if median else sum_1[x]
        v = max(0.0, n * sum_2[x] - sum_1[x] * sum_1[x])
        low = k_low * k_low * v * SLACK
        high = k_high * k_high * v * SLACK
        a = n * (np.float64(lowest[x]) - ref[x] - center) - total
        b = n * (np.float64(highest[x]) - ref[x] - center) - total
        todo[x] = ((a < 0.0) & (a * a > low)) | ((b > 0.0) & (b * b > high))


@kernel
def _mark_by_spread(work: FloatWork, rule: Rule) -> None:
    """Mark the pixels whose first pass by `_trim_by_spread` rejects something; the same operations."""
    tile, ref, s1, center, spread, todo = work.tile, work.ref, work.s1, work.center, work.spread, work.todo
    best = work.best
    n = tile.shape[0]
    k_low, k_high = rule.low_numerator / rule.low_denominator, rule.high_numerator / rule.high_denominator
    floor, half_step = rule.floor_micro_adu / 1e6, rule.step_micro_adu / 2e6
    lower, upper = tile[(n - 1) // 2], tile[n // 2]
    lowest, highest = tile[0], tile[n - 1]
    for x in range(TILE):
        center[x] = ((np.float64(lower[x]) - ref[x]) + (np.float64(upper[x]) - ref[x])) / 2.0
        spread[x] = 0.0
    if rule.spread_is_mad:
        for k in ((n - 1) // 2, n // 2):
            _find_radii(work, k)
            for x in range(TILE):
                spread[x] += best[x]
        for x in range(TILE):
            spread[x] = max(floor, 1.4826 * (spread[x] / 2.0))
    else:
        for x in range(TILE):
            signal = max(0.0, (ref[x] + center[x]) - rule.signal_zero_adu)
            spread[x] = np.sqrt(rule.variance_adu2 + signal * rule.variance_per_adu)
    for x in range(TILE):
        low = (k_low * spread[x] + half_step) * SLACK
        high = (k_high * spread[x] + half_step) * SLACK
        middle = center[x] if rule.center_is_median else s1[x] / n
        below = middle - (np.float64(lowest[x]) - ref[x])
        above = (np.float64(highest[x]) - ref[x]) - middle
        todo[x] = (below > low) | (above > high)


@inlined
def _trim_by_spread(tile: NDArray[Any], x: int, lo: int, hi: int, pixel: Pixel, rule: Rule) -> tuple[int, int]:
    """Return the run that one pass with the MAD or a modelled spread leaves."""
    ref = pixel.ref
    center = median_of(tile, x, lo, hi, ref)
    if rule.spread_is_mad:
        spread = max(rule.floor_micro_adu / 1e6, 1.4826 * _mad(tile, x, lo, hi, ref, center))
    else:
        signal = max(0.0, (ref + median_of(tile, x, 0, pixel.valid, ref)) - rule.signal_zero_adu)
        spread = np.sqrt(rule.variance_adu2 + signal * rule.variance_per_adu)
    half_step = rule.step_micro_adu / 2e6
    low = (rule.low_numerator / rule.low_denominator * spread + half_step) * SLACK
    high = (rule.high_numerator / rule.high_denominator * spread + half_step) * SLACK
    if not rule.center_is_median:
        center = pixel.s1 / (hi - lo)
    while lo < hi and center - (np.float64(tile[lo, x]) - ref) > low:
        lo += 1
    while lo < hi and (np.float64(tile[hi - 1, x]) - ref) - center > high:
        hi -= 1
    return lo, hi


@inlined
def _trim_by_std(tile: NDArray[Any], x: int, lo: int, hi: int, pixel: Pixel, rule: Rule) -> tuple[int, int]:
    """Return the run that one pass with the standard deviation leaves: (n (d - median) - s1)^2 is within a limit.

    One of median and s1 is zero.
    """
    ref, s1 = pixel.ref, pixel.s1
    n = hi - lo
    v = max(0.0, n * pixel.s2 - s1 * s1)
    k_low, k_high = rule.low_numerator / rule.low_denominator, rule.high_numerator / rule.high_denominator
    low = k_low * k_low * v * SLACK
    high = k_high * k_high * v * SLACK
    median = median_of(tile, x, lo, hi, ref) if rule.center_is_median else 0.0
    total = 0.0 if rule.center_is_median else s1
    while lo < hi:
        a = n * (np.float64(tile[lo, x]) - ref - median) - total
        if a >= 0.0 or a * a <= low:
            break
        lo += 1
    while lo < hi:
        a = n * (np.float64(tile[hi - 1, x]) - ref - median) - total
        if a <= 0.0 or a * a <= high:
            break
        hi -= 1
    return lo, hi


_clip = clip_with(trim_with(_trim_by_spread, _trim_by_std), _sum_kept)
clip_by_std = clip_with(_trim_by_std, _sum_kept)
"""Alone where nothing else is needed: it spares 5 s of compiling."""


# --- tiles ---


@kernel
def sort_and_sum(work: FloatWork, n_finite: int, network: NDArray[np.int32]) -> None:
    """Sort `work.tile`, of which `n_finite` samples are finite, and sum all of every pixel."""
    plain, valid = work.plain, work.valid
    n = plain.shape[0]
    valid[:] = n if n_finite == n * TILE else 0
    if n_finite < n * TILE:
        for i in range(n):
            for x in range(TILE):
                valid[x] += plain[i, x] == plain[i, x]
    sort_columns(work.tile, network)
    _find_references(work)
    sum_float_tile(work.tile, work)
    work.lo[:] = 0
    copy(work.valid, work.hi)


@kernel
def _combine_tile(
    work: FloatWork, n_finite: int, network: NDArray[np.int32], width: int, rule: Rule, rejected: NDArray[np.int64]
) -> None:
    """Sort and combine `work.tile`, of which `n_finite` samples are finite; leave the results in `work`."""
    tile, valid, ref = work.tile, work.valid, work.ref
    sort_and_sum(work, n_finite, network)
    if rule.method == METHOD_SIGMA_CLIP:
        if n_finite < tile.size:
            work.todo[:] = True
        elif rule.spread_is_mad or rule.spread_is_modelled:
            _mark_by_spread(work, rule)
        else:
            _mark_by_std(work, rule)
    if rule.max_passes != 0:
        _clip(work, TILE, rule)
    kept = find_kept_range(work)
    finish_floats(work)
    if rule.method == METHOD_MEDIAN:
        for x in range(TILE):
            if valid[x] > 0:
                work.mean[x] = np.float32(ref[x] + median_of(tile, x, 0, valid[x], ref[x]))
    if kept < tile.size:
        count_rejected(work.plain, width, work, rejected)


@kernel
def finish_floats(work: FloatWork) -> None:
    """Write mean and sample standard deviation of the kept runs from their sums; NaN if nothing is kept."""
    ref, s1, s2, lo, hi, mean, std = work.ref, work.s1, work.s2, work.lo, work.hi, work.mean, work.std
    for x in range(TILE):
        count = hi[x] - lo[x]
        v = max(0.0, count * s2[x] - s1[x] * s1[x])
        pairs = np.float64(max(count * (count - 1), 1))
        value = np.float32(ref[x] + s1[x] / np.float64(max(count, 1)))
        error = np.float32(np.sqrt(v / pairs)) if count > 1 else np.float32(0.0)
        mean[x] = value if count > 0 else np.float32(np.nan)
        std[x] = error if count > 0 else np.float32(np.nan)


@door
def combine_floats(block: NDArray[Any], network: NDArray[np.int32], rule: Rule, planes: Planes) -> Any:
    """Combine a float32 or float64 block (n_frames, n_pixels) into planes; return how many samples were not finite."""
    n, size = block.shape
    work = new_float_work(n, block)
    last = np.zeros((n, TILE), block.dtype)
    dropped: Any = 0
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        source, at = block, first
        if width < TILE:
            copy_last(block, first, last)
            source, at = last, 0
        n_finite = load_floats(source, at, work.plain, work.tile)
        _combine_tile(work, n_finite, network, width, rule, planes.rejected)
        dropped += store_tile(first, width, 0, work, planes)
    return dropped


@door
def combine_corrected(
    block: NDArray[np.uint16], how: Corrected, network: NDArray[np.int32], rule: Rule, planes: Planes
) -> Any:
    """Do `correct_words` and `combine_floats` of a raw block tile by tile, without the floats in between."""
    n, size = block.shape
    work = new_float_work(n, how.offset)
    room = corrected_work(n)
    dropped: Any = 0
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        n_finite = correct_tile(block, first, width, how, room, work.plain, work.tile)
        _combine_tile(work, n_finite, network, width, rule, planes.rejected)
        dropped += store_tile(first, width, 0, work, planes)
    return dropped
