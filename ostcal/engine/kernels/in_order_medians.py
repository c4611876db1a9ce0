"""Medians and median absolute deviations in the order of the frames, each from one sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import kernel
from ostcal.engine.kernels.in_order_work import OrderRule, OrderWork, write_limits
from ostcal.engine.kernels.network import TILE, sort_columns
from ostcal.engine.kernels.samples import copy


@kernel
def medians_of_sorted(ordered: NDArray[Any], count: NDArray[np.int64], medians: NDArray[Any]) -> None:
    """Write the median of the first `count` samples of every pixel of a sorted tile; NaN where there is none."""
    for x in range(TILE):
        if count[x] > 0:
            medians[x] = ordered[(count[x] - 1) // 2, x] + ordered[count[x] // 2, x]
            medians[x] = medians[x] / 2.0
        else:
            medians[x] = np.nan


@kernel
def mads_of_sorted(
    ordered: NDArray[Any], count: NDArray[np.int64], center: NDArray[Any], best: NDArray[Any], mads: NDArray[Any]
) -> None:
    """Write the median distance from `center` of the first `count` samples of every pixel of a sorted tile.

    The k-th smallest distance is the smallest radius that holds k + 1 samples, which are neighbours when sorted; it is
    one of the distances, rounded as these are.
    """
    n = ordered.shape[0]
    n_whole = 0
    for x in range(TILE):
        n_whole += count[x] == n
        mads[x] = 0
    if n_whole == TILE:
        for k in ((n - 1) // 2, n // 2):
            for x in range(TILE):
                best[x] = np.inf
            for j in range(n - k):
                left, right = ordered[j], ordered[j + k]
                for x in range(TILE):
                    below = center[x] - left[x]
                    above = right[x] - center[x]
                    radius = below if below > above else above
                    best[x] = radius if radius < best[x] else best[x]
            for x in range(TILE):
                mads[x] += best[x]
    else:
        for x in range(TILE):
            for k in ((count[x] - 1) // 2, count[x] // 2):
                best[x] = np.inf if count[x] > 0 else np.nan
                for j in range(count[x] - k):
                    below = center[x] - ordered[j, x]
                    above = ordered[j + k, x] - center[x]
                    radius = below if below > above else above
                    best[x] = radius if radius < best[x] else best[x]
                mads[x] += best[x]
    for x in range(TILE):
        mads[x] = mads[x] / 2.0


@kernel
def sort_words(words: NDArray[np.uint16], zero: int, network: NDArray[np.int32], ordered: NDArray[Any]) -> None:
    """Sort a tile of words, which takes a quarter of the time of floats, and write their samples."""
    sort_columns(words, network)
    for i in range(words.shape[0]):
        row, out = words[i], ordered[i]
        for x in range(TILE):
            out[x] = np.int32(row[x]) + np.int32(zero)


@kernel
def find_limits_by_mad(work: OrderWork, rule: OrderRule, network: NDArray[np.int32], is_sorted: bool) -> None:
    """Write the limits about the median; `is_sorted` says that `work.wide` holds all samples, sorted and finite."""
    samples, ordered, center, spread, count = work.samples, work.wide, work.clip_total, work.clip_squares, work.n_valid
    n = samples.shape[0]
    for x in range(TILE):
        count[x] = n if is_sorted else 0
    if not is_sorted:
        for i in range(n):
            row, out = samples[i], ordered[i]
            for x in range(TILE):
                is_valid = abs(row[x]) < np.inf
                out[x] = row[x] if is_valid else np.inf
                count[x] += is_valid
        sort_columns(ordered, network)
    medians_of_sorted(ordered, count, center)
    mads_of_sorted(ordered, count, center, work.clip_best, spread)
    for x in range(TILE):
        spread[x] = spread[x] * rule.clip_sigmas_per_mad
    write_limits(work, rule)


@kernel
def combine_medians(
    work: OrderWork, rule: OrderRule, network: NDArray[np.int32], data: NDArray[Any], odd: NDArray[np.uint8],
    is_sorted: bool,
) -> None:  # fmt: skip
    """Write medians, mark those among infinite samples, and leave 1.4826 MAD in `squares`.

    `is_sorted` says that `work.ordered` holds all samples, sorted and finite.
    """
    samples, ordered, center, spread, count = work.samples, work.ordered, work.total, work.squares, work.n_valid
    n = samples.shape[0]
    for x in range(TILE):
        count[x] = n if is_sorted else 0
        odd[x] = 0
    if not is_sorted:
        for i in range(n):
            row, out = samples[i], ordered[i]
            for x in range(TILE):
                is_valid = row[x] == row[x]
                out[x] = row[x] if is_valid else np.inf
                count[x] += is_valid
                odd[x] |= np.uint8(abs(row[x]) == np.inf)
        sort_columns(ordered, network)
    medians_of_sorted(ordered, count, center)
    mads_of_sorted(ordered, count, center, work.best, spread)
    copy(center, data)
    for x in range(TILE):
        spread[x] = spread[x] * rule.sigmas_per_mad
