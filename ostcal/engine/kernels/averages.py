"""Combine by mean and deviation, and without rejection, without sorting most pixels.

Whether a first pass rejects anything follows from the sums and the two extremes of a pixel. Of 40 frames at 3 sigma 7 %
of all pixels need more; they wait until a tile is full of them, and are sorted there. 0.6 s of one core for 40 x 61 MP,
not 1.4 s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import allocating, door, kernel
from ostcal.engine.kernels import floats, words
from ostcal.engine.kernels.network import TILE, sort_columns
from ostcal.engine.kernels.overscan import load_half_adu
from ostcal.engine.kernels.runs import Planes, count_rejected, find_kept_range, store_pixels, store_tile
from ostcal.engine.kernels.samples import (
    Coding,
    Corrected,
    copy,
    copy_last,
    correct_tile,
    corrected_work,
    load_with_extremes,
    order_floats,
)
from ostcal.engine.rejection import METHOD_SIGMA_CLIP, Rule


@kernel
def list_marked(marks: NDArray[np.bool_], width: int, marked: NDArray[np.uint64]) -> Any:
    """List the marked ones, (TILE,) uint64, of the first `width` pixels of a tile; return how many there are."""
    count: Any = 0
    for x in range(width):
        marked[count] = np.uint64(x)
        count += np.int64(marks[x])
    return count


@kernel
def gather(tile: NDArray[Any], marked: NDArray[np.uint64], out: NDArray[Any]) -> None:
    """Copy the listed columns of a tile (n_frames, TILE) into `out` (n_frames, n_marked).

    The list is unsigned, so that numba asks for no negative index.
    """
    for i in range(tile.shape[0]):
        row = tile[i]
        target = out[i]
        for k in range(marked.size):
            target[k] = row[marked[k]]


# --- words ---


class Waiting(NamedTuple):
    """Pixels that must be sorted, until a tile is full of them."""

    work: words.WordWork
    """Their samples in its `plain`."""
    where: NDArray[np.int64]
    """Where they belong in the planes, (TILE,)."""
    marked: NDArray[np.uint64]
    """Room for the list of those of one tile, (TILE,)."""


@allocating
def _new_waiting(n: int) -> Waiting:
    """Make room for a tile of `n` frames."""
    return Waiting(work=words.new_word_work(n), where=np.zeros(TILE, np.int64), marked=np.zeros(TILE, np.uint64))


@door
def average_words(
    block: NDArray[np.uint16], coding: Coding, network: NDArray[np.int32], rule: Rule, planes: Planes
) -> None:
    """Do `combine_words` for the clip by mean and deviation, and for no rejection."""
    n, size = block.shape
    last = np.zeros((n, TILE), np.uint16)
    n_waiting: Any = 0
    quick = words.new_word_work(n)
    waiting = _new_waiting(n)
    planes.n_used[:] = n
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        source, at = block, first
        if width < TILE:
            copy_last(block, first, last)
            source, at = last, 0
        load_with_extremes(source, at, coding, quick.plain, quick.low, quick.high)
        n_waiting = _average_tile(first, width, coding.zero, network, rule, quick, waiting, n_waiting, planes)
    _combine_waiting_words(waiting.where, n_waiting, coding.zero, network, rule, waiting.work, planes)


@door
def average_half_adu(
    block: NDArray[np.uint16],
    columns: NDArray[np.int64],
    coding: Coding,
    levels: NDArray[np.int64],
    zero: int,
    network: NDArray[np.int32],
    rule: Rule,
    planes: Planes,
    beyond: NDArray[np.uint16],
) -> Any:
    """Do `half_adu_words` and `average_words` at once, of all amplifiers.

    Pixels with a sample that is no word of half ADU are marked in `beyond`, (rows, columns), and get the results of
    equal samples. Return how many there are.

    Parameters
    ----------
    block : (n_frames, rows, raw columns) uint16
        In C order.
    columns : (n_amplifiers, 3) int64
        First raw column of each, its first column of the planes, and how many.
    levels : (n_amplifiers, n_frames, rows) int64
        In half ADU.
    coding, zero, network, rule, planes, beyond
        As of `half_adu_words` and `average_words`.
    """
    n, n_columns = block.shape[0], beyond.shape[1]
    last = np.zeros((1, TILE), np.uint16)
    n_waiting: Any = 0
    n_beyond: Any = 0
    quick = words.new_word_work(n)
    waiting = _new_waiting(n)
    planes.n_used[:] = n
    marks = last[0]
    for y in range(block.shape[1]):
        for amplifier in range(columns.shape[0]):
            left, at, width = columns[amplifier, 0], columns[amplifier, 1], columns[amplifier, 2]
            for first in range(0, width, TILE):
                tile_width = min(TILE, width - first)
                marks[:] = 0
                load_half_adu(block, y, left + first, tile_width, coding, levels[amplifier], zero, quick, marks)
                copy(marks[:tile_width], beyond[y, at + first : at + first + tile_width])
                n_marked: Any = 0
                for x in range(tile_width):
                    n_marked += np.int64(marks[x] != 0)
                if n_marked > 0:
                    equal_samples(marks, quick)
                    n_beyond += n_marked
                pixel = y * n_columns + at + first
                n_waiting = _average_tile(pixel, tile_width, zero, network, rule, quick, waiting, n_waiting, planes)
    _combine_waiting_words(waiting.where, n_waiting, zero, network, rule, waiting.work, planes)
    return n_beyond


@kernel
def equal_samples(marks: NDArray[np.uint16], quick: words.WordWork) -> None:
    """Make all samples of the marked pixels of a tile 0: nothing of them is rejected."""
    for x in range(TILE):
        if marks[x] != 0:
            quick.low[x] = 0
            quick.high[x] = 0
            for i in range(quick.plain.shape[0]):
                quick.plain[i, x] = 0


@kernel
def _average_tile(
    first: int,
    width: int,
    zero: int,
    network: NDArray[np.int32],
    rule: Rule,
    quick: words.WordWork,
    waiting: Waiting,
    n_waiting: int,
    planes: Planes,
) -> Any:
    """Average the first `width` pixels of the tile in `quick`; return how many pixels wait to be sorted then."""
    n, marked = quick.plain.shape[0], waiting.marked
    words.narrow_sums(quick.plain, quick.low, quick.t1, quick.t2)
    _mark_words(n, rule, quick)
    if width == TILE and planes.low.size == 0:  # straight to where they belong: 0.1 s for 61 MP
        _finish_averages(n, zero, quick, planes.master[first : first + TILE], planes.std[first : first + TILE])
    else:
        _finish_averages(n, zero, quick, quick.mean, quick.std)
        store_tile(first, width, zero, quick, planes)
    n_marked = list_marked(quick.todo, width, marked)
    if n_waiting + n_marked > TILE:
        _combine_waiting_words(waiting.where, n_waiting, zero, network, rule, waiting.work, planes)
        n_waiting = 0
    gather(quick.plain, marked[:n_marked], waiting.work.plain[:, n_waiting : n_waiting + n_marked])
    for k in range(n_marked):
        waiting.where[n_waiting + k] = first + np.int64(marked[k])
    return n_waiting + n_marked


@kernel
def _mark_words(n: int, rule: Rule, quick: words.WordWork) -> None:
    """Mark the pixels of which the first pass of mean/std may reject something, and those too wide for 32-bit sums.

    In float64, which is exact for sums of 32 bits, with a margin of 1e-9 on the squares for what follows.
    """
    lowest, highest, s1, s2, todo = quick.low, quick.high, quick.t1, quick.t2, quick.todo
    # Below it, n * range^2 < 2^31 and differences fit 16 bits: 7300 ADU for 40 frames.
    widest: Any = min(32_767, np.int64(np.sqrt(2.0**31 / n)) - 1)
    count = np.float64(n)
    # Nothing is farther than infinitely many deviations: no rejection.
    low = rule.low_numerator / rule.low_denominator if rule.method == METHOD_SIGMA_CLIP else np.inf
    high = rule.high_numerator / rule.high_denominator if rule.method == METHOD_SIGMA_CLIP else np.inf
    for x in range(TILE):
        range_adu = np.int32(highest[x]) - np.int32(lowest[x])
        total = np.float64(s1[x])
        variance = (count * np.float64(s2[x]) - total * total) * (1.0 - 1e-9)
        above = count * np.float64(range_adu) - total
        is_beyond = (total * total > low * low * variance) | (above * above > high * high * variance)
        todo[x] = is_beyond | (range_adu > np.int32(widest))


@kernel
def _finish_averages(
    n: int, zero: int, quick: words.WordWork, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> None:
    """Write mean and sample standard deviation of all samples from sums relative to the lowest; as `finish_words`."""
    low, t1, t2 = quick.low, quick.t1, quick.t2
    count = np.float64(n)
    pairs = np.float64(max(n * (n - 1), 1))
    for x in range(TILE):
        s1 = np.float64(t1[x])
        total = s1 + count * np.float64(np.int32(low[x]) + np.int32(zero))
        mean[x] = np.float32(total / count)
        std[x] = np.float32(np.sqrt((count * np.float64(t2[x]) - s1 * s1) / pairs))


@kernel
def _combine_waiting_words(
    where: NDArray[np.int64],
    width: int,
    zero: int,
    network: NDArray[np.int32],
    rule: Rule,
    work: words.WordWork,
    planes: Planes,
) -> None:
    """Sort and combine the first `width` pixels of `work.plain`, and write them to the pixels `where`, (TILE,)."""
    for i in range(work.tile.shape[0]):
        copy(work.plain[i], work.tile[i])
    sort_columns(work.tile, network)
    words.sum_word_tile(work)
    work.lo[:] = 0
    work.hi[:] = work.tile.shape[0]
    if rule.method == METHOD_SIGMA_CLIP:
        words.clip_by_std(work, width, rule)
    kept = find_kept_range(work)
    words.finish_words(work, zero)
    store_pixels(where, width, zero, work, planes)
    if kept < work.tile.size:
        count_rejected(work.plain, width, work, planes.rejected)


# --- floats ---


@door
def average_corrected(
    block: NDArray[np.uint16], how: Corrected, network: NDArray[np.int32], rule: Rule, planes: Planes
) -> Any:
    """Do `combine_corrected` for the clip by mean and deviation, and for no rejection, as `average_words` does.

    Pixels whose sums would depend on the order of the frames, or with samples that are not finite, are sorted too.
    """
    n, size = block.shape
    quick = floats.new_float_work(n, how.offset)
    work = floats.new_float_work(n, how.offset)
    room = corrected_work(n)
    marked = np.zeros(TILE, np.uint64)
    where = np.zeros(TILE, np.int64)
    n_waiting: Any = 0
    dropped: Any = 0
    quick.hi[:] = n
    quick.valid[:] = n
    for first in range(0, size, TILE):
        width = min(TILE, size - first)
        correct_tile(block, first, width, how, room, quick.plain, quick.tile[:0])
        _sum_and_find_extremes(quick)
        _mark_floats(rule, quick)
        floats.finish_floats(quick)
        store_tile(first, width, 0, quick, planes)
        n_marked = list_marked(quick.todo, width, marked)
        if n_waiting + n_marked > TILE:
            dropped += _combine_waiting_floats(where, n_waiting, network, rule, work, planes)
            n_waiting = 0
        gather(quick.plain, marked[:n_marked], work.plain[:, n_waiting : n_waiting + n_marked])
        for k in range(n_marked):
            where[n_waiting + k] = first + np.int64(marked[k])
        n_waiting += n_marked
    return dropped + _combine_waiting_floats(where, n_waiting, network, rule, work, planes)


@kernel
def _sum_and_find_extremes(quick: floats.FloatWork) -> None:
    """Write lowest and highest sample of every pixel of the tile as it came, and the sums relative to the lowest."""
    plain, low, high, ref = quick.plain, quick.low, quick.high, quick.ref
    n = plain.shape[0]
    copy(plain[0], low)
    copy(plain[0], high)
    for i in range(1, n):
        row = plain[i]
        for x in range(TILE):
            low[x] = row[x] if row[x] < low[x] else low[x]
            high[x] = row[x] if row[x] > high[x] else high[x]
    for x in range(TILE):
        ref[x] = low[x]
    floats.sum_float_tile(plain, quick)


@kernel
def _mark_floats(rule: Rule, quick: floats.FloatWork) -> None:
    """Mark the pixels that have to be sorted: not close, not finite, or perhaps with a sample that is rejected."""
    low, high, s1, s2, todo = quick.low, quick.high, quick.s1, quick.s2, quick.todo
    n = quick.plain.shape[0]
    count = np.float64(n)
    # Nothing is farther than infinitely many deviations: no rejection.
    k_low = rule.low_numerator / rule.low_denominator if rule.method == METHOD_SIGMA_CLIP else np.inf
    k_high = rule.high_numerator / rule.high_denominator if rule.method == METHOD_SIGMA_CLIP else np.inf
    for x in range(TILE):
        lowest, highest = np.float64(low[x]), np.float64(high[x])
        variance = (count * s2[x] - s1[x] * s1[x]) * (1.0 - 1e-9)
        above = count * (highest - lowest) - s1[x]
        is_beyond = (s1[x] * s1[x] > k_low * k_low * variance) | (above * above > k_high * k_high * variance)
        # a sum with a sample that is not finite is not either
        todo[x] = is_beyond | (not floats.are_close(n, lowest, highest)) | (not s2[x] < np.inf)


@kernel
def _combine_waiting_floats(
    where: NDArray[np.int64], width: int, network: NDArray[np.int32], rule: Rule, work: floats.FloatWork, planes: Planes
) -> Any:
    """Sort and combine the first `width` pixels of `work.plain`, and write them to the pixels `where`, (TILE,).

    Return how many of their samples were dropped.
    """
    n_finite: Any = 0
    for i in range(work.plain.shape[0]):
        n_finite += order_floats(work.plain[i], work.tile[i])
    floats.sort_and_sum(work, n_finite, network)
    if rule.method == METHOD_SIGMA_CLIP:
        floats.clip_by_std(work, width, rule)
    if find_kept_range(work) < work.tile.size:
        count_rejected(work.plain, width, work, planes.rejected)
    floats.finish_floats(work)
    return store_pixels(where, width, 0, work, planes)
