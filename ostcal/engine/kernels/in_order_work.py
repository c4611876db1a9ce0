"""What combining in the order of the frames works with: rules, planes, a tile and what is known of its pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import allocating, kernel
from ostcal.engine.kernels.network import TILE
from ostcal.engine.kernels.samples import Coding, copy, decoded

CLIP_NOTHING = 0
CLIP_BY_STD = 1
"""About the mean."""
CLIP_BY_MAD = 2
"""About the median."""

AVERAGE = 0
MEDIAN = 1
SUM = 2


class OrderRule(NamedTuple):
    """What is rejected, and how the rest is combined; written with keywords, for many are of the same type."""

    clip: int = CLIP_NOTHING
    """One of ``CLIP_*``: one pass."""
    clip_keeps_valid: bool = True
    """Whether centre and spread are those of the finite samples; else a sample that is not finite leaves the others."""
    clip_drops_all: bool = False
    """Whether a sample that is not finite leaves nothing of its pixel."""
    clip_is_wide: bool = False
    """Whether limits are computed in double precision from a centre and a spread that may be less precise."""
    low_sigma: float = 0.0
    high_sigma: float = 0.0
    n_low: int = 0
    n_high: int = 0
    """Lowest and highest samples that are left out; NaN are the highest."""
    minimum: float = np.nan
    maximum: float = np.nan
    """Samples beyond them are left out; NaN is no limit."""
    statistic: int = AVERAGE
    """One of ``AVERAGE``, ``MEDIAN``, ``SUM``."""
    sum_of_weights: float = 0.0
    sigmas_per_mad: float = 1.482602218505602
    clip_sigmas_per_mad: float = 1.482602218505602
    """Rounded to the dtype of the sums, and of the limits."""


class OrderPlanes(NamedTuple):
    """Where results go, (n_pixels,) each; `data` and `error` are of any float dtype."""

    data: NDArray[Any]
    error: NDArray[Any]
    """Standard error of a mean, or of what the statistic is."""
    n_used: NDArray[np.uint32]
    """Samples that are no NaN."""
    odd: NDArray[np.uint8]
    """1 where an infinite sample is among those of a median, which nothing here decides."""


class OrderWork(NamedTuple):
    """A tile and what is known of its pixels, (TILE,) each."""

    samples: NDArray[Any]
    """(n_frames, TILE) in the dtype of all sums."""
    ordered: NDArray[Any]
    """The samples, or distances, sorted along axis 0; what is left out comes last."""
    wide: NDArray[Any]
    """The same in the dtype in which the limits of clipping are computed."""
    gone: NDArray[np.uint8]
    """(n_frames, TILE): 1 where a sample is left out."""
    total: NDArray[Any]
    squares: NDArray[Any]
    clip_total: NDArray[Any]
    clip_squares: NDArray[Any]
    best: NDArray[Any]
    clip_best: NDArray[Any]
    """The nearest distances that were found, in the dtypes of `ordered` and `wide`."""
    weighted: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    found: NDArray[np.int64]


@allocating
def new_order_work(n: int, sample: NDArray[Any], limit: NDArray[Any]) -> OrderWork:
    """Make room for a tile of `n` frames, in the dtypes of two arrays."""
    counts = np.zeros((2, TILE), np.int64)
    floats = np.zeros((3, TILE), np.float64)
    sums = np.zeros((3, TILE), sample.dtype)
    clip_sums = np.zeros((3, TILE), limit.dtype)
    return OrderWork(
        samples=np.zeros((n, TILE), sample.dtype),
        ordered=np.zeros((n, TILE), sample.dtype),
        wide=np.zeros((n, TILE), limit.dtype),
        gone=np.zeros((n, TILE), np.uint8),
        total=sums[0],
        squares=sums[1],
        clip_total=clip_sums[0],
        clip_squares=clip_sums[1],
        best=sums[2],
        clip_best=clip_sums[2],
        weighted=floats[0],
        low=floats[1],
        high=floats[2],
        n_valid=counts[0],
        found=counts[1],
    )


@allocating
def new_room(planes: OrderPlanes) -> OrderPlanes:
    """Make room for the results of a tile."""
    return OrderPlanes(
        data=np.zeros(TILE, planes.data.dtype),
        error=np.zeros(TILE, planes.error.dtype),
        n_used=np.zeros(TILE, np.uint32),
        odd=np.zeros(TILE, np.uint8),
    )


@kernel
def load_floats(block: NDArray[Any], first: int, width: int, work: OrderWork) -> None:
    """Copy `width` pixels of a block (n_frames, n_pixels), from column `first`, into the tile."""
    for i in range(block.shape[0]):
        row = block[i, first : first + width]
        out = work.samples[i]
        for x in range(width):
            out[x] = row[x]


@kernel
def load_samples(block: NDArray[np.uint16], first: int, width: int, coding: Coding, work: OrderWork) -> None:
    """Do `load_floats` for raw words."""
    for i in range(block.shape[0]):
        row = block[i, first : first + width]
        out = work.samples[i]
        for x in range(width):
            out[x] = np.int32(decoded(row[x], coding)) + np.int32(coding.zero)


@kernel
def load_gone(mask: NDArray[np.uint8], first: int, width: int, work: OrderWork) -> None:
    """Copy what a mask (n_frames, n_pixels) leaves out; an empty mask leaves out nothing."""
    for i in range(work.gone.shape[0]):
        out = work.gone[i]
        for x in range(TILE):
            out[x] = 0
        if mask.size > 0:
            copy(mask[i, first : first + width], out[:width])


@kernel
def write_limits(work: OrderWork, rule: OrderRule) -> None:
    """Write the limits from `clip_total`, the centre, and `clip_squares`, the spread, rounded as their dtype."""
    center, spread, count, low, high = work.clip_total, work.clip_squares, work.n_valid, work.low, work.high
    n = work.samples.shape[0]
    for x in range(TILE):
        is_whole = count[x] == n and abs(spread[x]) < np.inf
        middle, width = np.float64(center[x]), spread[x]
        center[x] = rule.low_sigma * width
        center[x] = middle - np.float64(center[x])
        low[x] = center[x]
        center[x] = rule.high_sigma * width
        center[x] = middle + np.float64(center[x])
        high[x] = center[x]
        if rule.clip_is_wide:
            low[x] = middle - rule.low_sigma * np.float64(width)
            high[x] = middle + rule.high_sigma * np.float64(width)
        if not (is_whole or rule.clip_keeps_valid):
            low[x] = np.inf if rule.clip_drops_all else -np.inf
            high[x] = -np.inf if rule.clip_drops_all else np.inf


@kernel
def write_errors(work: OrderWork, rule: OrderRule, error: NDArray[Any]) -> None:
    """Write the standard error from the spread in `squares`."""
    spread, count = work.squares, work.n_valid
    for x in range(TILE):
        spread[x] = spread[x] / np.sqrt(np.float64(count[x]))
        if rule.statistic == SUM:
            spread[x] = spread[x] * np.float64(count[x])
        error[x] = spread[x]
