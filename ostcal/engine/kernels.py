"""The compiled inner loops: numpy arrays in, ``out`` arrays written, no input or output, no options object.

A strip is worked off in tiles of `TILE` neighbouring pixels. A tile is loaded (byte order and sign bit on the way),
sorted along the frames with a network of compare-exchanges whose inner loop runs over the pixels (SIMD), and in sorted
order every rejection method keeps a contiguous run ``[lo, hi)``. All functions are serial and release the GIL: Dask
owns the threads. Exact definitions: ``docs/methods.md``; literal reference: ``tests/naive.py``.
"""

# The loops write out what numpy would say in one line, since that is what compiles to SIMD code.

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import door, kernel

TILE = 256
"""Pixels sorted at once: 40 uint16 samples of 256 pixels are 20 KB and stay in a 32 KB L1 cache."""

_INT_MAX_EXACT = 3_037_000_499
"""floor(sqrt(2^63)): products of two integers below this fit int64."""


@cache
def sorting_network(n: int) -> NDArray[np.int32]:
    """Give the compare-exchanges that sort `n` values, shape (n_comparators, 2).

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M): 305 for n = 40.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs.extend((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


@kernel
def _sort_columns(tile: Any, network: Any) -> None:
    """Sort a tile along axis 0; min and max by one comparison, so that floats without NaN are SIMD too."""
    for c in range(network.shape[0]):
        upper = tile[network[c, 0]]
        lower = tile[network[c, 1]]
        for x in range(TILE):
            a = upper[x]
            b = lower[x]
            upper[x] = a if a < b else b
            lower[x] = b if a < b else a


@kernel
def _load_words(block: Any, first: int, swapped: bool, flip: Any, tile: Any) -> None:
    """Copy `TILE` pixels of a raw 16-bit block into the tile as unsigned integers in the order of their values.

    A slice and a constant number of pixels, or LLVM makes no SIMD code: 0.10 s for 40 x 61 MP instead of 0.34 s with
    a variable width, and 0.75 s with `row[first + x]`, where numba asks whether the index is negative.
    """
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = tile[i]
        if swapped:
            for x in range(TILE):
                word = row[x]
                out[x] = ((word >> np.uint16(8)) | (word << np.uint16(8))) ^ flip
        else:
            for x in range(TILE):
                out[x] = row[x] ^ flip


@kernel
def _sums(tile: Any, ref: Any, s1: Any, s2: Any, t1: Any, t2: Any) -> None:
    """Sum d and d^2 of every pixel, d relative to its upper median `ref`; exact: |d| < 2^16, n < 2^15.

    In 32 bits (`t1`, `t2`) where the range of all pixels allows it (7000 ADU for 40 frames): 0.13 s, not 0.29 s.
    """
    n = tile.shape[0]
    middle = tile[n // 2]
    lowest = tile[0]
    highest = tile[n - 1]
    widest = np.uint16(0)
    for x in range(TILE):
        ref[x] = middle[x]
        widest = max(widest, np.uint16(highest[x] - lowest[x]))
    if widest < 2**15 and n * np.int64(widest) * np.int64(widest) < 2**31:
        _narrow_sums(tile, middle, t1, t2)
        for x in range(TILE):
            s1[x] = t1[x]
            s2[x] = t2[x]
        return
    for x in range(TILE):
        s1[x] = 0
        s2[x] = 0
    for i in range(n):
        row = tile[i]
        for x in range(TILE):
            d = np.int64(row[x]) - ref[x]
            s1[x] += d
            s2[x] += d * d


@kernel
def _narrow_sums(tile: Any, origin: Any, s1: Any, s2: Any) -> None:
    """Do `_sums` in 32 bits relative to `origin`, four frames at a time; every cast keeps numba from 64 bits."""
    n = tile.shape[0]
    for x in range(TILE):
        s1[x] = 0
        s2[x] = 0
    for i in range(0, n - 3, 4):
        row_a, row_b, row_c, row_d = tile[i], tile[i + 1], tile[i + 2], tile[i + 3]
        for x in range(TILE):
            m = origin[x]
            a, b = np.int16(row_a[x] - m), np.int16(row_b[x] - m)
            c, d = np.int16(row_c[x] - m), np.int16(row_d[x] - m)
            s1[x] = np.int32(s1[x] + np.int32(a + b) + np.int32(c + d))
            s2[x] = np.int32(
                s2[x] + np.int32(np.int32(a * a) + np.int32(b * b)) + np.int32(np.int32(c * c) + np.int32(d * d))
            )
    for i in range(n - n % 4, n):
        row = tile[i]
        for x in range(TILE):
            e = np.int16(row[x] - origin[x])
            s1[x] = np.int32(s1[x] + e)
            s2[x] = np.int32(s2[x] + np.int32(e * e))


@kernel
def _beyond(a: int, v: int, p: int, q: int, small: bool) -> bool:
    """Whether a/1 > (p/q) * sqrt(v), exactly; `small` promises that (a*q)^2 and p^2*v fit int64."""
    if a <= 0:
        return False
    if small:
        return (a * q) * (a * q) > p * p * v
    whole = v // (q * q)
    if whole > 4_000_000_000_000_000_000 // (p * p):
        return False
    return a * a > p * p * whole + (p * p * (v - whole * q * q)) // (q * q)


@kernel
def _doubled_mad(tile: Any, x: int, lo: int, hi: int, m2: int) -> Any:
    """Give four times the MAD of the run: the sum of the two middle values of |2 x - m2|.

    The k-th smallest distance is the smallest radius that holds k + 1 samples, which are neighbours when sorted.
    """
    n = hi - lo
    total: Any = 0
    for k in ((n - 1) // 2, n // 2):
        best = np.int64(1) << 62
        for j in range(lo, hi - k):
            below = m2 - 2 * np.int64(tile[j, x])
            above = 2 * np.int64(tile[j + k, x]) - m2
            radius = below if below > above else above
            if radius < best:
                best = radius
        total += best
    return total


@kernel
def _doubled_mads(tile: Any, m2: Any, best: Any, mad4: Any) -> None:
    """Do `_doubled_mad` for all samples of all pixels of a tile at once (SIMD over the pixels)."""
    n = tile.shape[0]
    lower = tile[(n - 1) // 2]
    upper = tile[n // 2]
    for x in range(TILE):
        m2[x] = np.int32(lower[x]) + np.int32(upper[x])
        mad4[x] = 0
    for k in ((n - 1) // 2, n // 2):
        for x in range(TILE):
            best[x] = np.int32(1) << 30
        for j in range(n - k):
            left = tile[j]
            right = tile[j + k]
            for x in range(TILE):
                below = m2[x] - 2 * np.int32(left[x])
                above = 2 * np.int32(right[x]) - m2[x]
                radius = below if below > above else above
                best[x] = radius if radius < best[x] else best[x]
        for x in range(TILE):
            mad4[x] += best[x]


@kernel
def _trim_std(
    tile: Any, x: int, lo: int, hi: int, ref: Any, s1: Any, s2: Any,
    median: bool, p_low: int, q_low: int, p_high: int, q_high: int, small: bool,
) -> tuple[int, int]:  # fmt: skip
    """Give the run that one pass with the standard deviation leaves, exactly."""
    n = hi - lo
    v = n * s2 - s1 * s1
    if median:
        scale = 2 * n
        center: Any = n * (np.int64(tile[lo + (n - 1) // 2, x]) + np.int64(tile[lo + n // 2, x]) - 2 * ref)
        v *= 4
    else:
        scale = n
        center = s1
    while lo < hi and _beyond(center - scale * (np.int64(tile[lo, x]) - ref), v, p_low, q_low, small):
        lo += 1
    while lo < hi and _beyond(scale * (np.int64(tile[hi - 1, x]) - ref) - center, v, p_high, q_high, small):
        hi -= 1
    return lo, hi


@kernel
def _trim_mad(
    tile: Any, x: int, lo: int, hi: int, ref: Any, s1: Any, mad4: Any,
    median: bool, p_low: int, q_low: int, p_high: int, q_high: int, floor_micro: int, step_micro: int,
) -> tuple[int, int]:  # fmt: skip
    """Give the run that one pass with the MAD leaves, exactly, in units of 1e-6 ADU (1.4826 MAD = 370650 mad4)."""
    n = hi - lo
    spread = max(floor_micro, 370_650 * mad4)
    # No difference of samples is above 65535 ADU: limits are cut there, so that n times a limit fits int64.
    limit_low = min(p_low * spread + q_low * (step_micro // 2), 65_536_000_000 * q_low)
    limit_high = min(p_high * spread + q_high * (step_micro // 2), 65_536_000_000 * q_high)
    if median:
        scale = 2
        center: Any = np.int64(tile[lo + (n - 1) // 2, x]) + np.int64(tile[lo + n // 2, x]) - 2 * ref
        unit_low, unit_high = 500_000 * q_low, 500_000 * q_high
    else:
        scale = n
        center = s1
        unit_low, unit_high = 1_000_000 * q_low, 1_000_000 * q_high
        limit_low *= n
        limit_high *= n
    while lo < hi and (center - scale * (np.int64(tile[lo, x]) - ref)) * unit_low > limit_low:
        lo += 1
    while lo < hi and (scale * (np.int64(tile[hi - 1, x]) - ref) - center) * unit_high > limit_high:
        hi -= 1
    return lo, hi


@kernel
def _mark_mad(
    tile: Any, m2: Any, mad4: Any,
    p_low: int, q_low: int, p_high: int, q_high: int, floors: Any, step_micro: int, todo: Any,
) -> None:  # fmt: skip
    """Mark the pixels whose first pass of median/MAD rejects something; exact, as `_trim_mad`."""
    n = tile.shape[0]
    lowest = tile[0]
    highest = tile[n - 1]
    for x in range(TILE):
        spread: Any = max(floors[x], 370_650 * np.int64(mad4[x]))
        limit_low = min(p_low * spread + q_low * (step_micro // 2), 65_536_000_000 * q_low)
        limit_high = min(p_high * spread + q_high * (step_micro // 2), 65_536_000_000 * q_high)
        below = (np.int64(m2[x]) - 2 * np.int64(lowest[x])) * (500_000 * q_low)
        above = (2 * np.int64(highest[x]) - np.int64(m2[x])) * (500_000 * q_high)
        todo[x] = (below > limit_low) | (above > limit_high)


@kernel
def _model_floors(
    tile: Any, zero: int, variance: float, signal_zero: float, variance_per_adu: float, m2: Any, floors: Any
) -> None:
    """Give the spread that the noise model says of each pixel, in 1e-6 ADU, and twice the medians in `m2`.

    The signal is the median of all samples, which no outlier moves.
    """
    n = tile.shape[0]
    lower = tile[(n - 1) // 2]
    upper = tile[n // 2]
    for x in range(TILE):
        m2[x] = np.int32(lower[x]) + np.int32(upper[x])
        signal = max(0.0, (m2[x] + 2 * zero) / 2.0 - signal_zero)
        floors[x] = np.int64(np.rint(np.sqrt(variance + signal * variance_per_adu) * 1e6))


@kernel
def _clip_words(
    tile: Any, todo: Any, ref: Any, s1: Any, s2: Any, lo: Any, hi: Any, mad4: Any,
    median: bool, mad: bool, modelled: bool, iterations: int,
    p_low: int, q_low: int, p_high: int, q_high: int, min_keep: int, floors: Any, step_micro: int,
) -> None:  # fmt: skip
    """Sigma-clip the marked pixels of a sorted tile of integers; leaves the kept runs and their sums."""
    n = tile.shape[0]
    factor = 2 * n * max(max(p_low, q_low), max(p_high, q_high))
    for x in range(TILE):
        if not todo[x]:
            continue
        first, last = 0, n
        origin, sum_1, sum_2 = ref[x], s1[x], s2[x]
        small = (np.int64(tile[n - 1, x]) - np.int64(tile[0, x])) * factor < _INT_MAX_EXACT
        passes = 0
        while passes != iterations:
            if mad or modelled:
                fourfold = np.int64(mad4[x])
                if passes > 0 and mad:
                    count = last - first
                    middle = np.int64(tile[first + (count - 1) // 2, x]) + np.int64(tile[first + count // 2, x])
                    fourfold = _doubled_mad(tile, x, first, last, middle)
                a, b = _trim_mad(
                    tile, x, first, last, origin, sum_1, fourfold,
                    median, p_low, q_low, p_high, q_high, floors[x], step_micro,
                )  # fmt: skip
            else:
                a, b = _trim_std(
                    tile, x, first, last, origin, sum_1, sum_2, median, p_low, q_low, p_high, q_high, small
                )
            if b - a < min_keep or (a == first and b == last):
                break
            sum_1, sum_2 = _sums_without(tile, x, first, last, a, b, origin, sum_1, sum_2)
            first, last = a, b
            passes += 1
        lo[x] = first
        hi[x] = last
        s1[x] = sum_1
        s2[x] = sum_2


@kernel
def _sums_without(tile: Any, x: int, lo: int, hi: int, a: int, b: int, ref: Any, s1: Any, s2: Any) -> tuple[Any, Any]:
    """Take the samples of [lo, hi) outside [a, b) out of the sums; exact, for they are integers."""
    for i in range(lo, a):
        d = np.int64(tile[i, x]) - ref
        s1 -= d
        s2 -= d * d
    for i in range(b, hi):
        d = np.int64(tile[i, x]) - ref
        s1 -= d
        s2 -= d * d
    return s1, s2


@kernel
def _float_sums(tile: Any, x: int, lo: int, hi: int, ref: float) -> tuple[float, float]:
    """Sum d and d^2 of the run in ascending order, d relative to `ref`."""
    s1 = 0.0
    s2 = 0.0
    for i in range(lo, hi):
        d = np.float64(tile[i, x]) - ref
        s1 += d
        s2 += d * d
    return s1, s2


@kernel
def _float_median(tile: Any, x: int, lo: int, hi: int, ref: float) -> float:
    """Give the median of the run relative to `ref`."""
    n = hi - lo
    a = np.float64(tile[lo + (n - 1) // 2, x]) - ref
    b = np.float64(tile[lo + n // 2, x]) - ref
    return (a + b) / 2.0


@kernel
def _float_mad(tile: Any, x: int, lo: int, hi: int, ref: float, center: float) -> float:
    """Give the median absolute deviation of the run from `center` (relative to `ref`)."""
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
def _mark_floats_std(
    tile: Any, ref: Any, s1: Any, s2: Any, median: bool, k_low: float, k_high: float, todo: Any
) -> None:
    """Mark the pixels whose first pass of `_clip_floats` trims; the same operations on floats, so the same answer."""
    n = tile.shape[0]
    slack = 1.0 + 1e-9
    lower, upper = tile[(n - 1) // 2], tile[n // 2]
    lowest, highest = tile[0], tile[n - 1]
    for x in range(TILE):
        center = ((np.float64(lower[x]) - ref[x]) + (np.float64(upper[x]) - ref[x])) / 2.0 if median else 0.0
        total = 0.0 if median else s1[x]
        v = max(0.0, n * s2[x] - s1[x] * s1[x])
        low = k_low * k_low * v * slack
        high = k_high * k_high * v * slack
        a = n * (np.float64(lowest[x]) - ref[x] - center) - total
        b = n * (np.float64(highest[x]) - ref[x] - center) - total
        todo[x] = ((a < 0.0) & (a * a > low)) | ((b > 0.0) & (b * b > high))


@kernel
def _mark_floats(
    tile: Any, ref: Any, s1: Any, median: bool, mad: bool, k_low: float, k_high: float,
    floor: float, half_step: float, variance: float, signal_zero: float, variance_per_adu: float,
    center: Any, spread: Any, best: Any, todo: Any,
) -> None:  # fmt: skip
    """Do `_mark_floats_std` for spreads by the MAD or a noise model; `center`, `spread` and `best` are work space."""
    n = tile.shape[0]
    slack = 1.0 + 1e-9
    lower, upper = tile[(n - 1) // 2], tile[n // 2]
    lowest, highest = tile[0], tile[n - 1]
    for x in range(TILE):
        center[x] = ((np.float64(lower[x]) - ref[x]) + (np.float64(upper[x]) - ref[x])) / 2.0
        spread[x] = 0.0
    if mad:
        for k in ((n - 1) // 2, n // 2):
            _float_radii(tile, k, ref, center, best)
            for x in range(TILE):
                spread[x] += best[x]
        for x in range(TILE):
            spread[x] = max(floor, 1.4826 * (spread[x] / 2.0))
    else:
        for x in range(TILE):
            signal = max(0.0, (ref[x] + center[x]) - signal_zero)
            spread[x] = np.sqrt(variance + signal * variance_per_adu)
    for x in range(TILE):
        low = (k_low * spread[x] + half_step) * slack
        high = (k_high * spread[x] + half_step) * slack
        middle = center[x] if median else s1[x] / n
        below = middle - (np.float64(lowest[x]) - ref[x])
        above = (np.float64(highest[x]) - ref[x]) - middle
        todo[x] = (below > low) | (above > high)


@kernel
def _float_radii(tile: Any, k: int, ref: Any, center: Any, best: Any) -> None:
    """Give the k-th smallest distance of all samples of every pixel from its centre (see `_doubled_mad`)."""
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
def _clip_floats(
    tile: Any, todo: Any, valid: Any, ref: Any, s1: Any, s2: Any, lo: Any, hi: Any,
    median: bool, mad: bool, modelled: bool, iterations: int, k_low: float, k_high: float, min_keep: int,
    floor: float, half_step: float, variance: float, signal_zero: float, variance_per_adu: float,
) -> None:  # fmt: skip
    """Sigma-clip the marked pixels of a sorted tile of floats; limits are widened by 1e-9: ties of scaled data stay."""
    slack = 1.0 + 1e-9
    for x in range(TILE):
        if not todo[x]:
            continue
        first, last = 0, valid[x]
        passes = 0
        spread = 0.0
        while passes != iterations and last > first:
            n = last - first
            center = _float_median(tile, x, first, last, ref[x])
            if mad or modelled:
                if mad:
                    spread = max(floor, 1.4826 * _float_mad(tile, x, first, last, ref[x], center))
                elif passes == 0:
                    signal = max(0.0, (ref[x] + center) - signal_zero)
                    spread = np.sqrt(variance + signal * variance_per_adu)
                low = (k_low * spread + half_step) * slack
                high = (k_high * spread + half_step) * slack
                if not median:
                    center = s1[x] / n
                a, b = first, last
                while a < b and center - (np.float64(tile[a, x]) - ref[x]) > low:
                    a += 1
                while a < b and (np.float64(tile[b - 1, x]) - ref[x]) - center > high:
                    b -= 1
            else:
                v = max(0.0, n * s2[x] - s1[x] * s1[x])
                a, b = _trim_float_std(
                    tile, x, first, last, ref[x], center if median else 0.0, 0.0 if median else s1[x],
                    k_low * k_low * v * slack, k_high * k_high * v * slack,
                )  # fmt: skip
            if b - a < min_keep or (a == first and b == last):
                break
            first, last = a, b
            s1[x], s2[x] = _float_sums(tile, x, first, last, ref[x])
            passes += 1
        lo[x] = first
        hi[x] = last


@kernel
def _trim_float_std(
    tile: Any, x: int, lo: int, hi: int, ref: float, median: float, s1: float, low: float, high: float
) -> tuple[int, int]:
    """Trim where (n (d - median) - s1)^2 is above the squared limit of its side; one of median and s1 is zero."""
    n = hi - lo
    while lo < hi:
        a = n * (np.float64(tile[lo, x]) - ref - median) - s1
        if a >= 0.0 or a * a <= low:
            break
        lo += 1
    while lo < hi:
        a = n * (np.float64(tile[hi - 1, x]) - ref - median) - s1
        if a <= 0.0 or a * a <= high:
            break
        hi -= 1
    return lo, hi


@kernel
def _winsorized_sigma(tile: Any, x: int, lo: int, hi: int, ref: float, m: float, floor: float) -> Any:
    """Give the spread of the run by winsorization about its median `m` (relative to `ref`)."""
    n = hi - lo
    s1, s2 = _float_sums(tile, x, lo, hi, ref)
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
    return sigma


@kernel
def _winsorize(
    tile: Any, width: int, valid: Any, ref: Any, lo: Any, hi: Any,
    k_low: float, k_high: float, min_keep: int, floor: float, half_step: float,
) -> None:  # fmt: skip
    """Clip a sorted tile about the median with winsorized spreads, to convergence."""
    slack = 1.0 + 1e-9
    for x in range(width):
        first, last = 0, valid[x]
        while last > first:
            origin = np.float64(ref[x])
            m = _float_median(tile, x, first, last, origin)
            sigma = _winsorized_sigma(tile, x, first, last, origin, m, floor)
            low = m - (k_low * sigma + half_step) * slack
            high = m + (k_high * sigma + half_step) * slack
            a, b = first, last
            while a < b and np.float64(tile[a, x]) - origin < low:
                a += 1
            while a < b and np.float64(tile[b - 1, x]) - origin > high:
                b -= 1
            if b - a < min_keep or (a == first and b == last):
                break
            first, last = a, b
        lo[x] = first
        hi[x] = last


@kernel
def _drop_extremes(width: int, valid: Any, n_low: int, n_high: int, lo: Any, hi: Any) -> None:
    """Drop counted extremes; plain mean for two samples or fewer and where nothing would be left."""
    for x in range(width):
        lo[x] = 0
        hi[x] = valid[x]
        if valid[x] > 2 and valid[x] - n_low - n_high >= 1:
            lo[x] = n_low
            hi[x] = valid[x] - n_high


@kernel
def _count_rejected(plain: Any, width: int, low: Any, high: Any, rejected: Any) -> None:
    """Add to each frame's count the samples outside the kept range; NaN compares false and so counts as outside."""
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
def _count_rejected_words(
    block: Any, first: int, width: int, swapped: bool, flip: Any, low: Any, high: Any, rejected: Any
) -> None:
    """Do `_count_rejected` on the raw block, which spares a second copy of every tile; 16-bit counts stay SIMD."""
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        outside = np.uint16(0)
        if swapped and width == TILE:
            for x in range(TILE):
                word = row[x]
                word = np.uint16(((word >> np.uint16(8)) | (word << np.uint16(8))) ^ flip)
                outside = np.uint16(outside + np.uint16((word < low[x]) | (word > high[x])))
        elif width == TILE:
            for x in range(TILE):
                word = np.uint16(row[x] ^ flip)
                outside = np.uint16(outside + np.uint16((word < low[x]) | (word > high[x])))
        else:
            for x in range(width):
                word = row[x]
                if swapped:
                    word = np.uint16((word >> np.uint16(8)) | (word << np.uint16(8)))
                word = np.uint16(word ^ flip)
                outside = np.uint16(outside + np.uint16((word < low[x]) | (word > high[x])))
        rejected[i] += outside


@kernel
def _kept_range(tile: Any, lo: Any, hi: Any, low: Any, high: Any) -> Any:
    """Give lowest and highest kept sample of every pixel, and how many samples of the tile are kept."""
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
                high[x] = tile[hi[x] - 1, x]
    return kept


class WordRule(NamedTuple):
    """The numbers of a method for 16-bit words; see `ostcal.engine.rejection.KernelParameters`."""

    code: int
    median: bool
    mad: bool
    iterations: int
    p_low: int
    q_low: int
    p_high: int
    q_high: int
    min_keep: int
    n_low: int
    n_high: int
    floor_micro: int
    step_micro: int
    modelled: bool
    variance: float
    signal_zero: float
    variance_per_adu: float


class Planes(NamedTuple):
    """Where results go, each of shape (n_pixels,): float32, `n_used` uint16; `low` and `high` may be empty."""

    master: Any
    n_used: Any
    std: Any
    low: Any
    high: Any


class _WordWork(NamedTuple):
    """What is known of the `TILE` pixels of a tile; sums are relative to `ref`."""

    ref: Any
    s1: Any
    s2: Any
    t1: Any
    t2: Any
    m2: Any
    best: Any
    mad4: Any
    floors: Any
    todo: Any
    lo: Any
    hi: Any
    valid: Any
    low: Any
    high: Any
    mean: Any
    spread: Any


@kernel
def _word_work(n: int, floor_micro: int) -> Any:
    return _WordWork(
        ref=np.zeros(TILE, np.int64),
        s1=np.zeros(TILE, np.int64),
        s2=np.zeros(TILE, np.int64),
        t1=np.zeros(TILE, np.int32),
        t2=np.zeros(TILE, np.int32),
        m2=np.zeros(TILE, np.int32),
        best=np.zeros(TILE, np.int32),
        mad4=np.zeros(TILE, np.int32),
        floors=np.full(TILE, floor_micro, np.int64),
        todo=np.ones(TILE, np.bool_),
        lo=np.zeros(TILE, np.int64),
        hi=np.zeros(TILE, np.int64),
        valid=np.full(TILE, n, np.int64),
        low=np.zeros(TILE, np.uint16),
        high=np.zeros(TILE, np.uint16),
        mean=np.zeros(TILE, np.float32),
        spread=np.zeros(TILE, np.float32),
    )


@kernel
def _combine_word_tile(tile: Any, network: Any, zero: int, rule: Any, work: Any) -> Any:
    """Sort and combine a tile, leave its results in `work`, and give how many samples are kept."""
    n = tile.shape[0]
    ref, s1, s2, lo, hi = work.ref, work.s1, work.s2, work.lo, work.hi
    _sort_columns(tile, network)
    _sums(tile, ref, s1, s2, work.t1, work.t2)
    lo[:] = 0
    hi[:] = n
    if rule.code == 1:
        _sigma_clip_words(tile, zero, rule, work)
    elif rule.code == 2:
        _winsorize(
            tile, TILE, work.valid, ref, lo, hi, rule.p_low / rule.q_low, rule.p_high / rule.q_high, rule.min_keep,
            rule.floor_micro / 1e6, rule.step_micro / 2e6,
        )  # fmt: skip
    elif rule.code == 3:
        _drop_extremes(TILE, work.valid, rule.n_low, rule.n_high, lo, hi)
    if rule.code == 2 or rule.code == 3:
        for x in range(TILE):
            s1[x], s2[x] = _sums_without(tile, x, 0, n, lo[x], hi[x], ref[x], s1[x], s2[x])
    kept = _kept_range(tile, lo, hi, work.low, work.high)
    _finish_words(ref, s1, s2, lo, hi, zero, work.mean, work.spread)
    if rule.code == 4:
        for x in range(TILE):
            middles = np.int64(tile[(n - 1) // 2, x]) + np.int64(tile[n // 2, x])
            work.mean[x] = np.float32((middles + 2 * zero) / 2.0)
    return kept


@kernel
def _sigma_clip_words(tile: Any, zero: int, rule: Any, work: Any) -> None:
    """Sigma-clip a sorted tile whose sums are known: mark what the first pass trims, and visit only that."""
    mad, modelled = rule.mad, rule.modelled
    if mad:
        _doubled_mads(tile, work.m2, work.best, work.mad4)
    if modelled:
        _model_floors(
            tile, zero, rule.variance, rule.signal_zero, rule.variance_per_adu, work.m2, work.floors
        )  # fmt: skip
    if rule.median and (mad or modelled):
        _mark_mad(
            tile, work.m2, work.mad4, rule.p_low, rule.q_low, rule.p_high, rule.q_high, work.floors,
            rule.step_micro, work.todo,
        )  # fmt: skip
    _clip_words(
        tile, work.todo, work.ref, work.s1, work.s2, work.lo, work.hi, work.mad4, rule.median, mad, modelled,
        rule.iterations, rule.p_low, rule.q_low, rule.p_high, rule.q_high, rule.min_keep, work.floors, rule.step_micro,
    )  # fmt: skip


@door
def combine_words(
    block: Any, swapped: bool, flip: Any, zero: int, network: Any, rule: Any, planes: Any, rejected: Any
) -> None:
    """Combine a raw 16-bit block of shape (n_frames, n_pixels), with every pixel sorted.

    Writes the planes, and adds to `rejected` (int64, one per frame).
    """
    n, size = block.shape
    tile = np.zeros((n, TILE), np.uint16)
    last = np.zeros((n, TILE), np.uint16)
    work = _word_work(n, rule.floor_micro)
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        source, at = block, first
        if width < TILE:
            last[:, :width] = block[:, first:]
            source, at = last, 0
        _load_words(source, at, swapped, flip, tile)
        kept = _combine_word_tile(tile, network, zero, rule, work)
        _store_words(first, width, zero, work, planes)
        if kept < n * TILE:
            _count_rejected_words(source, at, width, swapped, flip, work.low, work.high, rejected)


@kernel
def _store_words(first: int, width: int, zero: int, work: Any, planes: Any) -> None:
    """Copy what a tile came to into the planes."""
    planes.master[first : first + width] = work.mean[:width]
    planes.std[first : first + width] = work.spread[:width]
    used = planes.n_used[first : first + width]
    for x in range(width):
        used[x] = work.hi[x] - work.lo[x]
    if planes.low.size > 0:
        for x in range(width):
            planes.low[first + x] = np.float32(np.int64(work.low[x]) + zero)
            planes.high[first + x] = np.float32(np.int64(work.high[x]) + zero)


@door
def average_words(
    block: Any, swapped: bool, flip: Any, zero: int, network: Any, rule: Any, planes: Any, rejected: Any
) -> None:
    """Do `combine_words` for the clip by mean and deviation, and for no rejection, without sorting most pixels.

    Whether a first pass rejects anything follows from the sums and the two extremes. Of 40 frames at 3 sigma 7 % of
    all pixels need more; they are put together in tiles and sorted there. 0.6 s of one core for 40 x 61 MP, not 1.4 s.
    """
    n, size = block.shape
    tile = np.zeros((n, TILE), np.uint16)
    last = np.zeros((n, TILE), np.uint16)
    waiting = np.zeros((n, TILE), np.uint16)
    spare = np.zeros((n, TILE), np.uint16)
    marked = np.zeros(TILE, np.uint64)
    where = np.zeros(TILE, np.int64)
    n_waiting = 0
    quick = _word_work(n, rule.floor_micro)
    work = _word_work(n, rule.floor_micro)
    quick.hi[:] = n
    planes.n_used[:] = n
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        source, at = block, first
        if width < TILE:
            last[:, :width] = block[:, first:]
            source, at = last, 0
        _load_with_extremes(source, at, swapped, flip, tile, quick.low, quick.high)
        _narrow_sums(tile, quick.low, quick.t1, quick.t2)
        _mark_by_extremes(n, rule, quick)
        if width == TILE and planes.low.size == 0:  # straight to where they belong: 0.1 s for 61 MP
            _finish_averages(n, zero, quick, planes.master[first : first + TILE], planes.std[first : first + TILE])
        else:
            _finish_averages(n, zero, quick, quick.mean, quick.spread)
            _store_words(first, width, zero, quick, planes)
        n_marked = _list_marked(quick.todo, width, marked)
        if n_waiting + n_marked > TILE:
            _combine_waiting(waiting, where, n_waiting, network, zero, rule, work, spare, planes, rejected)
            n_waiting = 0
        _gather(tile, marked[:n_marked], waiting[:, n_waiting : n_waiting + n_marked])
        for k in range(n_marked):
            where[n_waiting + k] = first + np.int64(marked[k])
        n_waiting += n_marked
    _combine_waiting(waiting, where, n_waiting, network, zero, rule, work, spare, planes, rejected)


@kernel
def _list_marked(todo: Any, width: int, marked: Any) -> Any:
    """List the marked pixels of a tile, of which only `width` belong to the image; give how many there are."""
    count: Any = 0
    for x in range(width):
        marked[count] = np.uint64(x)
        count += np.int64(todo[x])
    return count


@kernel
def _gather(tile: Any, marked: Any, out: Any) -> None:
    """Copy the listed columns of a tile; the list is unsigned, so that numba asks for no negative index."""
    for i in range(tile.shape[0]):
        row = tile[i]
        target = out[i]
        for k in range(marked.size):
            target[k] = row[marked[k]]


@kernel
def _load_with_extremes(block: Any, first: int, swapped: bool, flip: Any, tile: Any, lowest: Any, highest: Any) -> None:
    """Do `_load_words`, and give the lowest and the highest sample of every pixel."""
    lowest[:] = 65535
    highest[:] = 0
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = tile[i]
        if swapped:
            for x in range(TILE):
                word = row[x]
                word = np.uint16(((word >> np.uint16(8)) | (word << np.uint16(8))) ^ flip)
                out[x] = word
                lowest[x] = word if word < lowest[x] else lowest[x]
                highest[x] = word if word > highest[x] else highest[x]
        else:
            for x in range(TILE):
                word = np.uint16(row[x] ^ flip)
                out[x] = word
                lowest[x] = word if word < lowest[x] else lowest[x]
                highest[x] = word if word > highest[x] else highest[x]


@kernel
def _mark_by_extremes(n: int, rule: Any, quick: Any) -> None:
    """Mark the pixels of which the first pass of mean/std may reject something, and those too wide for 32-bit sums.

    In float64, which is exact for sums of 32 bits, with a margin of 1e-9 on the squares for what follows.
    """
    lowest, highest, s1, s2, todo = quick.low, quick.high, quick.t1, quick.t2, quick.todo
    # Below it, n * range^2 < 2^31 and differences fit 16 bits: 7300 ADU for 40 frames.
    widest: Any = min(32_767, np.int64(np.sqrt(2.0**31 / n)) - 1)
    count = np.float64(n)
    # Nothing is farther than infinitely many deviations: no rejection.
    low = rule.p_low / rule.q_low if rule.code == 1 else np.inf
    high = rule.p_high / rule.q_high if rule.code == 1 else np.inf
    for x in range(TILE):
        range_adu = np.int32(highest[x]) - np.int32(lowest[x])
        total = np.float64(s1[x])
        variance = (count * np.float64(s2[x]) - total * total) * (1.0 - 1e-9)
        above = count * np.float64(range_adu) - total
        is_beyond = (total * total > low * low * variance) | (above * above > high * high * variance)
        todo[x] = is_beyond | (range_adu > np.int32(widest))


@kernel
def _finish_averages(n: int, zero: int, quick: Any, mean: Any, spread: Any) -> None:
    """Give mean and sample standard deviation of all samples from sums relative to the lowest; as `_finish_words`."""
    count = np.float64(n)
    pairs = np.float64(max(n * (n - 1), 1))
    for x in range(TILE):
        s1 = np.float64(quick.t1[x])
        total = s1 + count * np.float64(np.int32(quick.low[x]) + np.int32(zero))
        mean[x] = np.float32(total / count)
        spread[x] = np.float32(np.sqrt((count * np.float64(quick.t2[x]) - s1 * s1) / pairs))


@kernel
def _clip_averages(tile: Any, width: int, rule: Any, work: Any) -> None:
    """Sigma-clip pixels of a sorted tile about the mean; as `_clip_words`, which it spares 5 s of compiling."""
    n = tile.shape[0]
    factor = 2 * n * max(max(rule.p_low, rule.q_low), max(rule.p_high, rule.q_high))
    for x in range(width):
        first, last = 0, n
        ref, s1, s2 = work.ref[x], work.s1[x], work.s2[x]
        small = (np.int64(tile[n - 1, x]) - np.int64(tile[0, x])) * factor < _INT_MAX_EXACT
        passes = 0
        while passes != rule.iterations:
            a, b = _trim_std(
                tile, x, first, last, ref, s1, s2, False, rule.p_low, rule.q_low, rule.p_high, rule.q_high, small
            )
            if b - a < rule.min_keep or (a == first and b == last):
                break
            s1, s2 = _sums_without(tile, x, first, last, a, b, ref, s1, s2)
            first, last = a, b
            passes += 1
        work.lo[x], work.hi[x] = first, last
        work.s1[x], work.s2[x] = s1, s2


@kernel
def _combine_waiting(
    waiting: Any, where: Any, width: int, network: Any, zero: int, rule: Any, work: Any, spare: Any, planes: Any,
    rejected: Any,
) -> None:  # fmt: skip
    """Sort and combine the pixels that wait, and write them to where they belong; `spare` is work space."""
    spare[:] = waiting
    _sort_columns(spare, network)
    _sums(spare, work.ref, work.s1, work.s2, work.t1, work.t2)
    work.lo[:] = 0
    work.hi[:] = spare.shape[0]
    if rule.code == 1:
        _clip_averages(spare, width, rule, work)
    kept = _kept_range(spare, work.lo, work.hi, work.low, work.high)
    _finish_words(work.ref, work.s1, work.s2, work.lo, work.hi, zero, work.mean, work.spread)
    for k in range(width):
        x = where[k]
        planes.master[x] = work.mean[k]
        planes.std[x] = work.spread[k]
        planes.n_used[x] = work.hi[k] - work.lo[k]
        if planes.low.size > 0:
            planes.low[x] = np.float32(np.int64(work.low[k]) + zero)
            planes.high[x] = np.float32(np.int64(work.high[k]) + zero)
    if kept < spare.size:
        _count_rejected(waiting, width, work.low, work.high, rejected)


@kernel
def _finish_words(ref: Any, s1: Any, s2: Any, lo: Any, hi: Any, zero: int, mean: Any, spread: Any) -> None:
    """Give mean and sample standard deviation of the kept runs from their exact sums."""
    for x in range(TILE):
        count = hi[x] - lo[x]
        total = s1[x] + count * (ref[x] + zero)
        mean[x] = np.float32(np.float64(total) / np.float64(count))
        v = np.float64(count * s2[x] - s1[x] * s1[x])
        # One sample has no spread; its v is 0 and 0 / 1 is 0.
        pairs = np.float64(max(count * (count - 1), 1))
        spread[x] = np.float32(np.sqrt(v / pairs))


@door
def sum_words(block: Any, swapped: bool, flip: Any) -> Any:
    """Sum the unsigned words of a raw 16-bit block of shape (n_pixels,), exactly."""
    total: Any = 0
    for x in range(block.size):
        word = block[x]
        if swapped:
            word = np.uint16((word >> np.uint16(8)) | (word << np.uint16(8)))
        total += np.int64(word ^ flip)
    return total


@door
def correct_words(
    block: Any, swapped: bool, flip: Any, zero: int,
    offset: Any, rate: Any, exposure: Any, scale: Any, out: Any,
) -> None:  # fmt: skip
    """Write ``(x - offset - rate * exposure_i) * scale_i`` of a raw 16-bit block as float32, computed in float64."""
    n, size = block.shape
    for i in range(n):
        row = block[i]
        target = out[i]
        for x in range(size):
            word = row[x]
            if swapped:
                word = np.uint16((word >> np.uint16(8)) | (word << np.uint16(8)))
            value = np.float64(np.int64(word ^ flip) + zero)
            dark = np.float64(offset[x]) + np.float64(rate[x]) * exposure[i]
            target[x] = np.float32((value - dark) * scale[i])


@kernel
def _load_floats(block: Any, first: int, plain: Any, tile: Any) -> Any:
    """Copy `TILE` pixels of a float block; what is not finite is NaN in `plain` and sorts last in `tile`.

    Gives how many are finite.
    """
    n_finite: Any = 0
    for i in range(block.shape[0]):
        row = block[i, first : first + TILE]
        out = plain[i]
        for x in range(TILE):
            out[x] = row[x]
        n_finite += _order_floats(out, tile[i])
    return n_finite


@kernel
def _correct_tile(
    block: Any, first: int, width: int, how: Any, darks: Any, last: Any, dark: Any, plain: Any, tile: Any
) -> Any:  # fmt: skip
    """Do `correct_words` for a tile, and `_order_floats` where `tile` has room; `darks`, `last`, `dark` are work space.

    Gives how many samples are finite, of those in `tile`.
    """
    source, at = block, first
    if width < TILE:
        last[:, :width] = block[:, first:]
        source, at = last, 0
    darks[0, :width] = how.offset[first : first + width]
    darks[1, :width] = how.rate[first : first + width]
    offset, rate, exposure = darks[0], darks[1], how.exposure
    n_finite: Any = 0
    for i in range(block.shape[0]):
        if i == 0 or exposure[i] != exposure[i - 1]:
            for x in range(TILE):
                dark[x] = np.float64(offset[x]) + np.float64(rate[x]) * exposure[i]
        _correct_row(source[i, at : at + TILE], how.swapped, how.flip, how.zero, dark, how.scale[i], plain[i])
        if tile.size > 0:  # while the row is in the cache
            n_finite += _order_floats(plain[i], tile[i])
    return n_finite


@kernel
def _correct_row(row: Any, swapped: bool, flip: Any, zero: int, dark: Any, factor: float, out: Any) -> None:
    """Write ``(x - dark) * factor`` for one frame of a tile; 32 bits hold the value, and become floats quickly."""
    if swapped:
        for x in range(TILE):
            word = row[x]
            word = np.uint16(((word >> np.uint16(8)) | (word << np.uint16(8))) ^ flip)
            out[x] = np.float32((np.float64(np.int32(np.int32(word) + zero)) - dark[x]) * factor)
    else:
        for x in range(TILE):
            word = np.uint16(row[x] ^ flip)
            out[x] = np.float32((np.float64(np.int32(np.int32(word) + zero)) - dark[x]) * factor)


@kernel
def _order_tile(plain: Any, tile: Any) -> Any:
    """Do `_order_floats` for all frames of a tile."""
    n_finite: Any = 0
    for i in range(plain.shape[0]):
        n_finite += _order_floats(plain[i], tile[i])
    return n_finite


@kernel
def _order_floats(plain: Any, ordered: Any) -> Any:
    """Copy `TILE` samples: what is not finite becomes NaN in `plain` and sorts last in `ordered`; count the others."""
    count = np.uint16(0)
    for x in range(TILE):
        # No -0.0: which of two zeros comes first would depend on the order of the frames.
        value = plain[x] if plain[x] != 0 else abs(plain[x])
        good = abs(value) < np.inf
        plain[x] = value if good else np.nan
        ordered[x] = value if good else np.inf
    for x in range(TILE):
        count = np.uint16(count + np.uint16(plain[x] == plain[x]))
    return np.int64(count)


@kernel
def _all_are(valid: Any, n: int) -> Any:
    """Tell whether all are `n`. `valid.min()` would load numba's linear algebra, and with it SciPy, for 0.2 s."""
    n_equal = 0
    for x in range(valid.size):
        n_equal += valid[x] == n
    return n_equal == valid.size


@kernel
def _all_float_sums(tile: Any, valid: Any, ref: Any, s1: Any, s2: Any) -> None:
    """Do `_float_sums` for the valid samples of all pixels of a tile, in the order of its rows."""
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


@kernel
def _count_valid(plain: Any, n_finite: int, valid: Any) -> None:
    """Count the samples of every pixel that are not NaN."""
    n = plain.shape[0]
    if n_finite == n * TILE:
        valid[:] = n
        return
    valid[:] = 0
    for i in range(n):
        for x in range(TILE):
            valid[x] += plain[i, x] == plain[i, x]


@kernel
def _are_close(n: int, lowest: Any, highest: Any) -> Any:
    """Whether sums of n float32 samples relative to the lowest, and of their squares, are exact in float64.

    All are multiples of the lowest one's last place, which is at least 2^-24 of it; the squares then sum to less than
    2^52 times the square of that place.
    """
    spread = highest - lowest
    return (lowest > 0.0) & (np.float64(n) * spread * spread < 16.0 * lowest * lowest)


@kernel
def _references(tile: Any, valid: Any, ref: Any) -> None:
    """Give what sums are relative to: the lowest of samples that are close, else the upper median; 0 for no sample."""
    n = tile.shape[0]
    if _all_are(valid, n):
        first, middle, last = tile[0], tile[n // 2], tile[n - 1]
        for x in range(TILE):
            lowest = np.float64(first[x])
            ref[x] = lowest if _are_close(n, lowest, np.float64(last[x])) else np.float64(middle[x])
        return
    for x in range(TILE):
        count = valid[x]
        ref[x] = 0.0
        if count > 0:
            lowest = np.float64(tile[0, x])
            is_close = _are_close(count, lowest, np.float64(tile[count - 1, x]))
            ref[x] = lowest if is_close else np.float64(tile[count // 2, x])


@kernel
def _kept_floats(tile: Any, lo: Any, hi: Any, low: Any, high: Any) -> Any:
    """Do `_kept_range` for floats, of which a pixel may have none."""
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
            if hi[x] == lo[x]:
                low[x] = np.inf
                high[x] = -np.inf
            elif hi[x] - lo[x] < n:
                low[x] = tile[lo[x], x]
                high[x] = tile[hi[x] - 1, x]
    return kept


@kernel
def _finish_floats(ref: Any, s1: Any, s2: Any, lo: Any, hi: Any, mean: Any, spread: Any) -> None:
    """Give mean and sample standard deviation of the kept runs from their sums; NaN where nothing is kept."""
    for x in range(TILE):
        count = hi[x] - lo[x]
        v = max(0.0, count * s2[x] - s1[x] * s1[x])
        pairs = np.float64(max(count * (count - 1), 1))
        value = np.float32(ref[x] + s1[x] / np.float64(max(count, 1)))
        error = np.float32(np.sqrt(v / pairs)) if count > 1 else np.float32(0.0)
        mean[x] = value if count > 0 else np.float32(np.nan)
        spread[x] = error if count > 0 else np.float32(np.nan)


class FloatRule(NamedTuple):
    """The numbers of a method for floats; see `ostcal.engine.rejection.KernelParameters`. Limits are in ADU."""

    code: int
    median: bool
    mad: bool
    iterations: int
    k_low: float
    k_high: float
    min_keep: int
    n_low: int
    n_high: int
    floor: float
    half_step: float
    modelled: bool
    variance: float
    signal_zero: float
    variance_per_adu: float


class Corrected(NamedTuple):
    """How words become corrected floats: their encoding, dark of every pixel, exposure and scale of every frame."""

    swapped: bool
    flip: Any
    zero: int
    offset: Any
    rate: Any
    exposure: Any
    scale: Any


class _FloatWork(NamedTuple):
    """A tile of floats, as it came and sorted, and what is known of its pixels."""

    plain: Any
    tile: Any
    ref: Any
    s1: Any
    s2: Any
    center: Any
    spread: Any
    best: Any
    valid: Any
    lo: Any
    hi: Any
    todo: Any
    low: Any
    high: Any
    mean: Any
    std: Any


@kernel
def _float_work(n: int, one: Any) -> Any:
    """Make room for tiles of the dtype of `one`, an array of a single sample."""
    samples = np.zeros((2 * n + 2, TILE), one.dtype)
    floats = np.zeros((6, TILE), np.float64)
    counts = np.zeros((3, TILE), np.int64)
    results = np.zeros((2, TILE), np.float32)
    return _FloatWork(
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
        valid=counts[0],
        lo=counts[1],
        hi=counts[2],
        todo=np.ones(TILE, np.bool_),
        mean=results[0],
        std=results[1],
    )


@kernel
def _combine_tile(work: Any, n_finite: int, network: Any, width: int, rule: Any, rejected: Any) -> None:
    """Sort and combine a tile of floats; leaves its results in `work`."""
    tile, valid, ref, s1, s2 = work.tile, work.valid, work.ref, work.s1, work.s2
    n = tile.shape[0]
    _count_valid(work.plain, n_finite, valid)
    _sort_columns(tile, network)
    _references(tile, valid, ref)
    _all_float_sums(tile, valid, ref, s1, s2)
    work.lo[:] = 0
    work.hi[:] = valid
    if rule.code == 1:
        _sigma_clip_floats(work, n_finite, rule)
    elif rule.code == 2:
        _winsorize(
            tile, TILE, valid, ref, work.lo, work.hi, rule.k_low, rule.k_high, rule.min_keep, rule.floor, rule.half_step
        )  # fmt: skip
    elif rule.code == 3:
        _drop_extremes(TILE, valid, rule.n_low, rule.n_high, work.lo, work.hi)
    if rule.code == 2 or rule.code == 3:
        for x in range(TILE):
            if 0 < work.hi[x] - work.lo[x] < valid[x]:
                s1[x], s2[x] = _float_sums(tile, x, work.lo[x], work.hi[x], ref[x])
    kept = _kept_floats(tile, work.lo, work.hi, work.low, work.high)
    _finish_floats(ref, s1, s2, work.lo, work.hi, work.mean, work.std)
    if rule.code == 4:
        for x in range(TILE):
            if valid[x] > 0:
                work.mean[x] = np.float32(ref[x] + _float_median(tile, x, 0, valid[x], ref[x]))
    if kept < n * TILE:
        _count_rejected(work.plain, width, work.low, work.high, rejected)


@kernel
def _sigma_clip_floats(work: Any, n_finite: int, rule: Any) -> None:
    """Sigma-clip a sorted tile whose sums are known: mark what the first pass trims, and visit only that."""
    tile, ref, s1, s2, todo = work.tile, work.ref, work.s1, work.s2, work.todo
    if n_finite < tile.size:
        todo[:] = True
    elif rule.mad or rule.modelled:
        _mark_floats(
            tile, ref, s1, rule.median, rule.mad, rule.k_low, rule.k_high, rule.floor, rule.half_step, rule.variance,
            rule.signal_zero, rule.variance_per_adu, work.center, work.spread, work.best, todo,
        )  # fmt: skip
    else:
        _mark_floats_std(tile, ref, s1, s2, rule.median, rule.k_low, rule.k_high, todo)
    _clip_floats(
        tile, todo, work.valid, ref, s1, s2, work.lo, work.hi, rule.median, rule.mad, rule.modelled, rule.iterations,
        rule.k_low, rule.k_high, rule.min_keep, rule.floor, rule.half_step, rule.variance, rule.signal_zero,
        rule.variance_per_adu,
    )  # fmt: skip


@kernel
def _store_tile(first: int, width: int, work: Any, planes: Any) -> Any:
    """Copy what a tile of floats came to into the planes; give how many of its samples were not finite."""
    planes.master[first : first + width] = work.mean[:width]
    planes.std[first : first + width] = work.std[:width]
    used = planes.n_used[first : first + width]
    dropped: Any = 0
    for x in range(width):
        used[x] = work.hi[x] - work.lo[x]
        dropped += work.plain.shape[0] - work.valid[x]
    if planes.low.size > 0:
        for x in range(width):
            _store_range(first + x, x, work, planes)
    return dropped


@kernel
def _store_range(at: int, x: int, work: Any, planes: Any) -> None:
    """Copy the kept range of pixel `x` of a tile to pixel `at`."""
    is_empty = work.hi[x] == work.lo[x]
    planes.low[at] = np.float32(np.nan) if is_empty else np.float32(work.low[x])
    planes.high[at] = np.float32(np.nan) if is_empty else np.float32(work.high[x])


@door
def combine_floats(block: Any, network: Any, rule: Any, planes: Any, rejected: Any) -> Any:
    """Combine a float32 or float64 block of shape (n_frames, n_pixels); NaN and infinite samples are dropped.

    Writes the planes, and adds to `rejected` (int64, one per frame). Gives how many samples were dropped.
    """
    n, size = block.shape
    work = _float_work(n, block[:1, :1])
    last = np.zeros((n, TILE), block.dtype)
    dropped: Any = 0
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        source, at = block, first
        if width < TILE:
            last[:, :width] = block[:, first:]
            source, at = last, 0
        n_finite = _load_floats(source, at, work.plain, work.tile)
        _combine_tile(work, n_finite, network, width, rule, rejected)
        dropped += _store_tile(first, width, work, planes)
    return dropped


@door
def combine_corrected(block: Any, how: Any, network: Any, rule: Any, planes: Any, rejected: Any) -> Any:
    """Do `correct_words` and `combine_floats` of a raw 16-bit block tile by tile, without the floats in between."""
    n, size = block.shape
    work = _float_work(n, how.offset)
    last = np.zeros((n, TILE), np.uint16)
    darks = np.zeros((2, TILE), np.float32)
    dropped: Any = 0
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        n_finite = _correct_tile(block, first, width, how, darks, last, work.center, work.plain, work.tile)
        _combine_tile(work, n_finite, network, width, rule, rejected)
        dropped += _store_tile(first, width, work, planes)
    return dropped


@door
def average_corrected(block: Any, how: Any, network: Any, rule: Any, planes: Any, rejected: Any) -> Any:
    """Do `combine_corrected` for the clip by mean and deviation, and for no rejection, as `average_words` does.

    Pixels whose sums would depend on the order of the frames, or with samples that are not finite, are sorted too.
    """
    n, size = block.shape
    quick = _float_work(n, how.offset)
    work = _float_work(n, how.offset)
    last = np.zeros((n, TILE), np.uint16)
    darks = np.zeros((2, TILE), np.float32)
    marked = np.zeros(TILE, np.uint64)
    where = np.zeros(TILE, np.int64)
    n_waiting: Any = 0
    dropped: Any = 0
    quick.hi[:] = n
    quick.valid[:] = n
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        _correct_tile(block, first, width, how, darks, last, quick.center, quick.plain, quick.tile[:0])
        _sums_and_extremes(quick)
        _mark_floats_by_extremes(rule, quick)
        _finish_floats(quick.ref, quick.s1, quick.s2, quick.lo, quick.hi, quick.mean, quick.std)
        _store_tile(first, width, quick, planes)
        n_marked = _list_marked(quick.todo, width, marked)
        if n_waiting + n_marked > TILE:
            dropped += _combine_waiting_floats(where, n_waiting, network, rule, work, planes, rejected)
            n_waiting = 0
        _gather(quick.plain, marked[:n_marked], work.plain[:, n_waiting : n_waiting + n_marked])
        for k in range(n_marked):
            where[n_waiting + k] = first + np.int64(marked[k])
        n_waiting += n_marked
    return dropped + _combine_waiting_floats(where, n_waiting, network, rule, work, planes, rejected)


@kernel
def _sums_and_extremes(quick: Any) -> None:
    """Give lowest and highest sample of every pixel of a tile as it came, and the sums relative to the lowest."""
    plain, low, high, ref = quick.plain, quick.low, quick.high, quick.ref
    n = plain.shape[0]
    low[:] = plain[0]
    high[:] = plain[0]
    for i in range(1, n):
        row = plain[i]
        for x in range(TILE):
            low[x] = row[x] if row[x] < low[x] else low[x]
            high[x] = row[x] if row[x] > high[x] else high[x]
    for x in range(TILE):
        ref[x] = low[x]
    _all_float_sums(plain, quick.valid, ref, quick.s1, quick.s2)


@kernel
def _mark_floats_by_extremes(rule: Any, quick: Any) -> None:
    """Mark the pixels that have to be sorted: not close, not finite, or perhaps with a sample that is rejected."""
    low, high, s1, s2, todo = quick.low, quick.high, quick.s1, quick.s2, quick.todo
    n = quick.plain.shape[0]
    count = np.float64(n)
    # Nothing is farther than infinitely many deviations: no rejection.
    k_low = rule.k_low if rule.code == 1 else np.inf
    k_high = rule.k_high if rule.code == 1 else np.inf
    for x in range(TILE):
        lowest, highest = np.float64(low[x]), np.float64(high[x])
        variance = (count * s2[x] - s1[x] * s1[x]) * (1.0 - 1e-9)
        above = count * (highest - lowest) - s1[x]
        is_beyond = (s1[x] * s1[x] > k_low * k_low * variance) | (above * above > k_high * k_high * variance)
        # a sum with a sample that is not finite is not either
        todo[x] = is_beyond | (not _are_close(n, lowest, highest)) | (not s2[x] < np.inf)


@kernel
def _clip_float_averages(work: Any, width: int, rule: Any) -> None:
    """Sigma-clip pixels of a sorted tile of floats about the mean; as `_clip_floats`, without 40 MB of compiling."""
    tile, ref, s1, s2 = work.tile, work.ref, work.s1, work.s2
    slack = 1.0 + 1e-9
    for x in range(width):
        first, last = 0, work.valid[x]
        passes = 0
        while passes != rule.iterations and last > first:
            n = last - first
            v = max(0.0, n * s2[x] - s1[x] * s1[x])
            a, b = _trim_float_std(
                tile, x, first, last, ref[x], 0.0, s1[x],
                rule.k_low * rule.k_low * v * slack, rule.k_high * rule.k_high * v * slack,
            )  # fmt: skip
            if b - a < rule.min_keep or (a == first and b == last):
                break
            first, last = a, b
            s1[x], s2[x] = _float_sums(tile, x, first, last, ref[x])
            passes += 1
        work.lo[x], work.hi[x] = first, last


@kernel
def _combine_waiting_floats(
    where: Any, width: int, network: Any, rule: Any, work: Any, planes: Any, rejected: Any
) -> Any:
    """Sort and combine the pixels that wait, write them to where they belong, and give how many samples they lost."""
    n_finite = _order_tile(work.plain, work.tile)
    _count_valid(work.plain, n_finite, work.valid)
    _sort_columns(work.tile, network)
    _references(work.tile, work.valid, work.ref)
    _all_float_sums(work.tile, work.valid, work.ref, work.s1, work.s2)
    work.lo[:] = 0
    work.hi[:] = work.valid
    if rule.code == 1:
        _clip_float_averages(work, width, rule)
    if _kept_floats(work.tile, work.lo, work.hi, work.low, work.high) < work.tile.size:
        _count_rejected(work.plain, width, work.low, work.high, rejected)
    _finish_floats(work.ref, work.s1, work.s2, work.lo, work.hi, work.mean, work.std)
    dropped: Any = 0
    for k in range(width):
        x = where[k]
        planes.master[x] = work.mean[k]
        planes.std[x] = work.std[k]
        planes.n_used[x] = work.hi[k] - work.lo[k]
        dropped += work.plain.shape[0] - work.valid[k]
        if planes.low.size > 0:
            _store_range(x, k, work, planes)
    return dropped
