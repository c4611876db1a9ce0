"""Combine in the order of the frames, with the operations of numpy and astropy one by one, so that bits are theirs.

`ostcal.compat.ccdproc` needs them: sums that are not sorted, in the precision of the samples, and limits of clipping
that are rounded as astropy rounds them. A sample is left out by being made NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import door, kernel
from ostcal.engine.kernels.in_order_medians import combine_medians, find_limits_by_mad, sort_words
from ostcal.engine.kernels.in_order_work import (
    AVERAGE,
    CLIP_BY_MAD,
    CLIP_BY_STD,
    CLIP_NOTHING,
    MEDIAN,
    SUM,
    OrderPlanes,
    OrderRule,
    OrderWork,
    load_floats,
    load_gone,
    load_samples,
    new_order_work,
    new_room,
    write_errors,
    write_limits,
)
from ostcal.engine.kernels.network import TILE
from ostcal.engine.kernels.samples import Coding, copy, copy_last, load_words

_LOW = np.uint8(2)
_HIGH = np.uint8(4)
"""What marks a sample that is left out as one of the lowest, or of the highest."""


# --- rejection ---


@kernel
def _drop_extremes(work: OrderWork, rule: OrderRule) -> None:
    """Leave out the lowest and the highest samples, masked ones too; of equal ones the first, or the last.

    NaN are above all numbers.
    """
    samples, gone, found, best = work.samples, work.gone, work.found, work.low
    n = samples.shape[0]
    for _ in range(rule.n_low):
        for x in range(TILE):
            found[x] = -1
        for i in range(n):
            row, marks = samples[i], gone[i]
            for x in range(TILE):
                is_lower = (row[x] < best[x]) | ((best[x] != best[x]) & (row[x] == row[x])) | (found[x] < 0)
                if is_lower and (marks[x] & _LOW) == 0:
                    found[x] = i
                    best[x] = row[x]
        for x in range(TILE):
            gone[found[x], x] |= _LOW
    for _ in range(rule.n_high):
        for x in range(TILE):
            found[x] = -1
        for i in range(n):
            row, marks = samples[i], gone[i]
            for x in range(TILE):
                is_higher = (row[x] >= best[x]) | (row[x] != row[x]) | (found[x] < 0)
                if is_higher and (marks[x] & _HIGH) == 0:
                    found[x] = i
                    best[x] = row[x]
        for x in range(TILE):
            gone[found[x], x] |= _HIGH


@kernel
def find_limits_by_std(work: OrderWork, rule: OrderRule) -> None:
    """Write the limits about the mean."""
    samples, total, squares = work.samples, work.clip_total, work.clip_squares
    count = work.n_valid
    n = samples.shape[0]
    nothing = total.dtype.type(0)
    for x in range(TILE):
        total[x] = nothing
        squares[x] = nothing
        count[x] = 0
    for i in range(n):
        row = samples[i]
        for x in range(TILE):
            is_valid = abs(row[x]) < np.inf
            total[x] += row[x] if is_valid else nothing
            count[x] += is_valid
    for x in range(TILE):
        total[x] = total[x] / np.float64(count[x])
    for i in range(n):
        row = samples[i]
        for x in range(TILE):
            d = row[x] - total[x]
            squares[x] += d * d if abs(row[x]) < np.inf else nothing
    for x in range(TILE):
        squares[x] = squares[x] / np.float64(count[x])
        squares[x] = np.sqrt(squares[x])
    write_limits(work, rule)


@kernel
def reject_beyond_limits(work: OrderWork) -> None:
    """Mark in `gone` what is beyond the limits, or not finite."""
    samples, gone, low, high = work.samples, work.gone, work.low, work.high
    for i in range(samples.shape[0]):
        row, marks = samples[i], gone[i]
        for x in range(TILE):
            value = np.float64(row[x])
            is_kept = (abs(value) < np.inf) & ~(value < low[x]) & ~(value > high[x])
            marks[x] |= np.uint8(not is_kept)


@kernel
def _reject(work: OrderWork, rule: OrderRule, network: NDArray[np.int32], is_sorted: bool) -> None:
    """Mark in `gone` what is rejected, beside what a mask leaves out; `is_sorted` as of `find_limits_by_mad`."""
    samples, gone = work.samples, work.gone
    n = samples.shape[0]
    if rule.n_low > 0 or rule.n_high > 0:
        _drop_extremes(work, rule)
    if rule.minimum == rule.minimum or rule.maximum == rule.maximum:
        for i in range(n):
            row, marks = samples[i], gone[i]
            for x in range(TILE):
                marks[x] |= np.uint8((row[x] < rule.minimum) | (row[x] > rule.maximum))
    if rule.clip == CLIP_NOTHING:
        return
    if rule.clip == CLIP_BY_STD:
        find_limits_by_std(work, rule)
    else:
        find_limits_by_mad(work, rule, network, is_sorted)
    reject_beyond_limits(work)


@kernel
def scale_and_leave_out(work: OrderWork, scale: NDArray[np.float64]) -> None:
    """Multiply samples by the factor of their frame, and make NaN of what is left out."""
    for i in range(work.samples.shape[0]):
        row, marks = work.samples[i], work.gone[i]
        if scale.size > 0:
            for x in range(TILE):
                row[x] = row[x] * scale[i]
        for x in range(TILE):
            row[x] = np.nan if marks[x] != 0 else row[x]


# --- combining ---


@kernel
def combine_sums(work: OrderWork, rule: OrderRule, weights: NDArray[np.float64], data: NDArray[Any]) -> None:
    """Write average or sum, and leave the standard deviation in `squares`."""
    samples, total, squares, weighted, count = work.samples, work.total, work.squares, work.weighted, work.n_valid
    n = samples.shape[0]
    nothing = total.dtype.type(0)
    for x in range(TILE):
        total[x] = nothing
        squares[x] = nothing
        weighted[x] = 0.0
        count[x] = 0
    for i in range(n):
        row = samples[i]
        for x in range(TILE):
            is_valid = row[x] == row[x]
            total[x] += row[x] if is_valid else nothing
            count[x] += is_valid
    if weights.size > 0:
        for i in range(n):
            row = samples[i]
            for x in range(TILE):
                weighted[x] += np.float64(row[x]) * weights[i] if row[x] == row[x] else 0.0
    for x in range(TILE):
        if weights.size > 0:
            data[x] = weighted[x] / rule.sum_of_weights if rule.statistic == AVERAGE else weighted[x]
        elif rule.statistic == SUM:
            data[x] = total[x]
        total[x] = total[x] / np.float64(count[x])
        if weights.size == 0 and rule.statistic == AVERAGE:
            data[x] = total[x]
    for i in range(n):
        row = samples[i]
        for x in range(TILE):
            d = row[x] - total[x]
            squares[x] += d * d if row[x] == row[x] else nothing
    for x in range(TILE):
        squares[x] = squares[x] / np.float64(count[x])
        squares[x] = np.sqrt(squares[x])


@kernel
def _finish(
    first: int, width: int, work: OrderWork, rule: OrderRule, network: NDArray[np.int32],
    scale: NDArray[np.float64], weights: NDArray[np.float64], planes: OrderPlanes, room: OrderPlanes,
    limits_sorted: bool, samples_sorted: bool,
) -> None:  # fmt: skip
    """Reject, combine and store the first `width` pixels of the tile; results pass through `room`, of TILE pixels.

    What is sorted already: `work.wide`, for limits, and `work.ordered`, for medians of all samples.
    """
    _reject(work, rule, network, limits_sorted)
    scale_and_leave_out(work, scale)
    if rule.statistic == MEDIAN:
        combine_medians(work, rule, network, room.data, room.odd, samples_sorted)
    else:
        combine_sums(work, rule, weights, room.data)
    write_errors(work, rule, room.error)
    copy(room.data, planes.data[first : first + width])
    copy(room.error, planes.error[first : first + width])
    copy(room.odd, planes.odd[first : first + width])
    count, used = work.n_valid, planes.n_used[first : first + width]
    for x in range(width):
        used[x] = count[x]


@door
def combine_floats_in_order(
    block: NDArray[Any], mask: NDArray[np.uint8], sample: NDArray[Any], limit: NDArray[Any], rule: OrderRule,
    network: NDArray[np.int32], scale: NDArray[np.float64], weights: NDArray[np.float64], planes: OrderPlanes,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Combine pixels `start` to `stop` of a block (n_frames, n_pixels) of floats into planes.

    Parameters
    ----------
    block : (n_frames, n_pixels) float32 or float64
        In C order.
    mask : (n_frames, n_pixels) uint8, or empty
        1 where a sample is left out of the result; it counts where limits are found.
    sample, limit : arrays of any size
        Their dtypes are those of all sums, and of the limits of clipping.
    rule : OrderRule
    network : (n_comparators, 2) int32
        Of `sorting_network`.
    scale, weights : (n_frames,) float64, or empty
        Samples are scaled when limits have been found.
    planes : OrderPlanes
        Of all pixels of the block.
    start, stop : int
    """
    work, room = new_order_work(block.shape[0], sample, limit), new_room(planes)
    for first in range(start, stop, TILE):
        width = min(TILE, stop - first)
        load_floats(block, first, width, work)
        load_gone(mask, first, width, work)
        _finish(first, width, work, rule, network, scale, weights, planes, room, False, False)


@door
def combine_words_in_order(
    block: NDArray[np.uint16], coding: Coding, mask: NDArray[np.uint8], sample: NDArray[Any], limit: NDArray[Any],
    rule: OrderRule, network: NDArray[np.int32], scale: NDArray[np.float64], weights: NDArray[np.float64],
    planes: OrderPlanes, start: int, stop: int,
) -> None:  # fmt: skip
    """Do `combine_floats_in_order` for raw 16-bit words."""
    n = block.shape[0]
    work, room = new_order_work(n, sample, limit), new_room(planes)
    words, last = np.zeros((n, TILE), np.uint16), np.zeros((n, TILE), np.uint16)
    limits_sorted = rule.clip == CLIP_BY_MAD
    has_limits = rule.minimum == rule.minimum or rule.maximum == rule.maximum or rule.clip != CLIP_NOTHING
    is_whole = mask.size == 0 and scale.size == 0 and not has_limits and rule.n_low == 0 and rule.n_high == 0
    samples_sorted = is_whole and rule.statistic == MEDIAN
    for first in range(start, stop, TILE):
        width = min(TILE, stop - first)
        load_samples(block, first, width, coding, work)
        load_gone(mask, first, width, work)
        if limits_sorted or samples_sorted:
            if first + TILE > block.shape[1]:
                copy_last(block, first, last)
                load_words(last, 0, coding, words)
            else:
                load_words(block, first, coding, words)
            if limits_sorted:
                sort_words(words, coding.zero, network, work.wide)
            else:
                sort_words(words, coding.zero, network, work.ordered)
        _finish(
            first, width, work, rule, network, scale, weights, planes, room, limits_sorted, samples_sorted
        )  # fmt: skip


@door
def reject_in_order(
    block: NDArray[Any], limit: NDArray[Any], rule: OrderRule, network: NDArray[np.int32], mask: NDArray[np.uint8],
    start: int, stop: int,
) -> None:  # fmt: skip
    """Mark in a mask (n_frames, n_pixels) what a rule rejects of pixels of a block; nothing is taken back."""
    work = new_order_work(block.shape[0], block, limit)
    for first in range(start, stop, TILE):
        width = min(TILE, stop - first)
        load_floats(block, first, width, work)
        load_gone(mask, first, width, work)
        _reject(work, rule, network, False)
        for i in range(block.shape[0]):
            marks, out = work.gone[i], mask[i, first : first + width]
            for x in range(width):
                out[x] = marks[x] != 0
