"""Averages in the order of the frames, most of them without a look at single samples, as `averages` does it.

Whether a pass rejects anything follows from mean, deviation and the two extremes of a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import door, kernel
from ostcal.engine.kernels.in_order import (
    combine_sums,
    find_limits_by_std,
    reject_beyond_limits,
    scale_and_leave_out,
)
from ostcal.engine.kernels.in_order_work import (
    CLIP_NOTHING,
    SUM,
    OrderPlanes,
    OrderRule,
    OrderWork,
    load_floats,
    new_order_work,
    new_room,
    write_errors,
)
from ostcal.engine.kernels.network import TILE
from ostcal.engine.kernels.samples import Coding, copy, copy_last, load_words

EXACT_FRAMES = 256
"""Sums of so many 16-bit words are exact in float32, and so whatever their order."""


@kernel
def _sum_floats(work: OrderWork, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Sum a tile of floats and find the extremes of its pixels; then sum the squares about the means."""
    samples, total, squares = work.samples, work.total, work.squares
    n = samples.shape[0]
    copy(samples[0], total)
    copy(samples[0], work.ordered[0])
    copy(samples[0], work.ordered[1])
    lowest, highest = work.ordered[0], work.ordered[1]
    for i in range(1, n):
        row = samples[i]
        for x in range(TILE):
            total[x] += row[x]
            lowest[x] = row[x] if row[x] < lowest[x] else lowest[x]
            highest[x] = row[x] if row[x] > highest[x] else highest[x]
    for x in range(TILE):
        low[x] = lowest[x]
        high[x] = highest[x]
        work.weighted[x] = total[x]
        total[x] = total[x] / np.float64(n)
        squares[x] = total[x] - total[x]
    for i in range(n):
        row = samples[i]
        for x in range(TILE):
            d = row[x] - total[x]
            squares[x] += d * d


@kernel
def _sum_words(
    words: NDArray[np.uint16], zero: int, sums: NDArray[np.int32], work: OrderWork, low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:  # fmt: skip
    """Do `_sum_floats` for a tile of words, whose sums are exact in integers: of up to `EXACT_FRAMES` frames."""
    total, squares = work.total, work.squares
    n = words.shape[0]
    lowest, highest, as_sample = words[n - 2], words[n - 1], total.dtype.type
    for x in range(TILE):
        sums[x] = 0
        lowest[x] = words[0, x]
        highest[x] = words[0, x]
    for i in range(n - 2):
        row = words[i]
        for x in range(TILE):
            sums[x] += np.int32(row[x])
            lowest[x] = row[x] if row[x] < lowest[x] else lowest[x]
            highest[x] = row[x] if row[x] > highest[x] else highest[x]
    offset = np.int32(zero)
    for x in range(TILE):
        low[x] = np.int32(lowest[x]) + offset
        high[x] = np.int32(highest[x]) + offset
        work.weighted[x] = np.float64(sums[x]) + np.float64(n - 2) * np.float64(offset)
        total[x] = work.weighted[x] / np.float64(n - 2)
        squares[x] = total[x] - total[x]
    for i in range(n - 2):
        row = words[i]
        for x in range(TILE):
            d = as_sample(np.int32(row[x]) + offset) - total[x]
            squares[x] += d * d


@kernel
def _store_averages(work: OrderWork, rule: OrderRule, planes: OrderPlanes, first: int, width: int) -> None:
    """Store averages of tiles of which every sample counts, and mark in `found` the pixels of which one may not.

    Those have a sample that is not finite, or one that is near a limit or beyond it.
    """
    total, squares, low, high, found, count = work.total, work.squares, work.low, work.high, work.found, work.n_valid
    n = work.samples.shape[0]
    # What the dtype of the sums may be off the limits.
    of_spread = 1e-9 if total.itemsize == 8 else 1e-3
    of_level = 1e-12 if total.itemsize == 8 else 1e-5
    is_clipped = rule.clip != CLIP_NOTHING
    for x in range(TILE):
        count[x] = n
        squares[x] = squares[x] / np.float64(n)
        squares[x] = np.sqrt(squares[x])
        spread, level = np.float64(squares[x]), np.float64(total[x])
        slack = of_spread * spread + of_level * abs(level)
        below, above = level - low[x], high[x] - level
        is_near = (below + slack >= rule.low_sigma * spread) | (above + slack >= rule.high_sigma * spread)
        found[x] = (is_clipped & is_near) | (not spread < np.inf)
    data = planes.data[first : first + width]
    if rule.statistic == SUM:
        copy(work.weighted[:width], data)
    else:
        copy(total[:width], data)
    write_errors(work, rule, low)
    copy(low[:width], planes.error[first : first + width])
    used, odd = planes.n_used[first : first + width], planes.odd[first : first + width]
    for x in range(width):
        used[x] = n
        odd[x] = 0


@kernel
def _average_waiting(
    n_waiting: int, work: OrderWork, rule: OrderRule, planes: OrderPlanes, room: OrderPlanes, where: NDArray[np.int64],
    none: NDArray[np.float64],
) -> None:  # fmt: skip
    """Clip and average the first `n_waiting` pixels of the tile, and store them at the pixels `where`."""
    gone = work.gone
    for i in range(gone.shape[0]):
        for x in range(TILE):
            gone[i, x] = 0
    if rule.clip != CLIP_NOTHING:
        find_limits_by_std(work, rule)
        reject_beyond_limits(work)
    scale_and_leave_out(work, none)
    combine_sums(work, rule, none, room.data)
    write_errors(work, rule, room.error)
    for k in range(n_waiting):
        at = where[k]
        planes.data[at] = room.data[k]
        planes.error[at] = room.error[k]
        planes.n_used[at] = work.n_valid[k]


@kernel
def _count_found(work: OrderWork, width: int) -> Any:
    """Return how many of the first `width` pixels are marked."""
    n_marked: Any = 0
    for x in range(width):
        n_marked += work.found[x]
    return n_marked


@door
def average_floats_in_order(
    block: NDArray[Any], sample: NDArray[Any], limit: NDArray[Any], rule: OrderRule, planes: OrderPlanes,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Do `combine_floats_in_order` for averages and sums without mask, scale and weights, by `CLIP_BY_STD` at most.

    There are two frames at least.
    """
    n = block.shape[0]
    work, waiting, room = new_order_work(n, sample, limit), new_order_work(n, sample, limit), new_room(planes)
    where, none = np.zeros(TILE, np.int64), np.zeros(0, np.float64)
    n_waiting: Any = 0
    for first in range(start, stop, TILE):
        width = min(TILE, stop - first)
        load_floats(block, first, width, work)
        _sum_floats(work, work.low, work.high)
        _store_averages(work, rule, planes, first, width)
        if n_waiting + _count_found(work, width) > TILE:
            _average_waiting(n_waiting, waiting, rule, planes, room, where, none)
            n_waiting = 0
        for x in range(width):
            if work.found[x] != 0:
                where[n_waiting] = first + x
                for i in range(n):
                    waiting.samples[i, n_waiting] = work.samples[i, x]
                n_waiting += 1
    _average_waiting(n_waiting, waiting, rule, planes, room, where, none)


@door
def average_words_in_order(
    block: NDArray[np.uint16], coding: Coding, sample: NDArray[Any], limit: NDArray[Any], rule: OrderRule,
    planes: OrderPlanes, start: int, stop: int,
) -> None:  # fmt: skip
    """Do `average_floats_in_order` for raw 16-bit words of up to `EXACT_FRAMES` frames."""
    n = block.shape[0]
    work, waiting, room = new_order_work(n, sample, limit), new_order_work(n, sample, limit), new_room(planes)
    where, none = np.zeros(TILE, np.int64), np.zeros(0, np.float64)
    words, sums = np.zeros((n + 2, TILE), np.uint16), np.zeros(TILE, np.int32)
    last = np.zeros((n, TILE), np.uint16)
    n_waiting: Any = 0
    for first in range(start, stop, TILE):
        width = min(TILE, stop - first)
        if first + TILE > block.shape[1]:
            copy_last(block, first, last)
            load_words(last, 0, coding, words[:n])
        else:
            load_words(block, first, coding, words[:n])
        _sum_words(words, coding.zero, sums, work, work.low, work.high)
        _store_averages(work, rule, planes, first, width)
        if n_waiting + _count_found(work, width) > TILE:
            _average_waiting(n_waiting, waiting, rule, planes, room, where, none)
            n_waiting = 0
        for x in range(width):
            if work.found[x] != 0:
                where[n_waiting] = first + x
                for i in range(n):
                    waiting.samples[i, n_waiting] = np.int32(words[i, x]) + np.int32(coding.zero)
                n_waiting += 1
    _average_waiting(n_waiting, waiting, rule, planes, room, where, none)
