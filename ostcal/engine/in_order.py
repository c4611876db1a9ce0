"""Blocks combined in the order of their frames, as numpy and astropy do it: the door to `kernels.in_order`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import coding_of
from ostcal.engine.kernels import in_order, in_order_averages, sorting_network
from ostcal.engine.kernels.in_order_averages import EXACT_FRAMES
from ostcal.engine.kernels.in_order_work import (
    AVERAGE,
    CLIP_BY_MAD,
    CLIP_BY_STD,
    CLIP_NOTHING,
    MEDIAN,
    SUM,
    OrderPlanes,
    OrderRule,
)
from ostcal.frames import SampleEncoding

_NO_MASK = np.empty((0, 0), np.uint8)
_NO_FACTORS = np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One pass of clipping.

    Attributes
    ----------
    about : {"mean", "median"}
        The centre; the spread is the standard deviation, or 1.4826 MAD.
    low_sigma, high_sigma : float
    in_float64 : bool
        Whether centre and spread are computed in double precision, whatever the samples are.
    wide_limits : bool
        Whether limits are computed in double precision from them.
    invalid : {"skip", "keep others", "drop all"}
        Samples that are not finite are left out; centre and spread are those of the others, or the others are kept, or
        left out too.
    """

    about: Literal["mean", "median"]
    low_sigma: float
    high_sigma: float
    in_float64: bool
    wide_limits: bool
    invalid: Literal["skip", "keep others", "drop all"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """What is done to the samples of a pixel, in this order."""

    dtype: np.dtype[Any]
    """Of the samples: float32 or float64. What is scaled becomes float64."""
    n_low: int = 0
    n_high: int = 0
    """Lowest and highest samples that are left out."""
    minimum: float | None = None
    maximum: float | None = None
    clip: Clip | None = None
    scale: NDArray[np.float64] | None = None
    """(n_frames,)."""
    weights: NDArray[np.float64] | None = None
    sum_of_weights: float = 0.0
    statistic: Literal["average", "median", "sum"] = "average"

    @property
    def sums_dtype(self) -> np.dtype[Any]:
        """The dtype of sums and medians, and so of the errors."""
        return np.dtype(np.float64) if self.scale is not None else self.dtype


def empty_planes(n_pixels: int, recipe: Recipe) -> OrderPlanes:
    """Make room for results."""
    return OrderPlanes(
        data=np.empty(n_pixels, recipe.dtype),
        error=np.empty(n_pixels, recipe.sums_dtype),
        n_used=np.empty(n_pixels, np.uint32),
        odd=np.empty(n_pixels, np.uint8),
    )


def combine_in_order(
    block: NDArray[Any],
    encoding: SampleEncoding,
    mask: NDArray[np.bool_] | None,
    recipe: Recipe,
    planes: OrderPlanes,
    pixels: tuple[int, int],
) -> None:
    """Combine pixels of a block (n_frames, n_pixels) in C order, words or floats, into planes of all its pixels.

    `mask`, of the same shape, is true where a sample is left out; limits of clipping are found with it all the same.
    """
    n = block.shape[0]
    sample = np.empty(0, recipe.sums_dtype)
    limit = np.empty(0, np.float64 if recipe.clip is None or recipe.clip.in_float64 else recipe.sums_dtype)
    rule = _rule(recipe)
    is_plain = mask is None and recipe.scale is None and recipe.weights is None and rule.statistic != MEDIAN
    is_plain = is_plain and rule.clip != CLIP_BY_MAD and not (rule.n_low or rule.n_high)
    is_quick = is_plain and n >= 2 and recipe.minimum is None and recipe.maximum is None
    marks = _NO_MASK if mask is None else mask.view(np.uint8)
    scale = _NO_FACTORS if recipe.scale is None else recipe.scale
    weights = _NO_FACTORS if recipe.weights is None else recipe.weights
    network = sorting_network(n)
    if encoding.is_integer and is_quick and n <= EXACT_FRAMES:
        in_order_averages.average_words_in_order(block, coding_of(encoding), sample, limit, rule, planes, *pixels)
    elif encoding.is_integer:
        in_order.combine_words_in_order(
            block, coding_of(encoding), marks, sample, limit, rule, network, scale, weights, planes, *pixels
        )
    elif is_quick:
        in_order_averages.average_floats_in_order(_rounded(block, recipe), sample, limit, rule, planes, *pixels)
    else:
        rounded = _rounded(block, recipe)
        in_order.combine_floats_in_order(rounded, marks, sample, limit, rule, network, scale, weights, planes, *pixels)


def clip_in_order(block: NDArray[Any], clip: Clip, mask: NDArray[np.bool_], pixels: tuple[int, int]) -> None:
    """Mark in a mask what clipping rejects of pixels of a block (n_frames, n_pixels) of floats, both in C order."""
    rule = _rule(Recipe(dtype=block.dtype, clip=clip))
    limit = np.empty(0, np.float64 if clip.in_float64 else block.dtype)
    in_order.reject_in_order(block, limit, rule, sorting_network(block.shape[0]), mask.view(np.uint8), *pixels)


def without_clip(recipe: Recipe) -> Recipe:
    """Return what is left to do when samples have been rejected."""
    return replace(recipe, n_low=0, n_high=0, minimum=None, maximum=None, clip=None)


def _rounded(block: NDArray[Any], recipe: Recipe) -> NDArray[Any]:
    """Return floats in the precision that was asked for."""
    return block.astype(np.float32) if recipe.dtype == np.float32 and block.dtype != np.float32 else block


def _rule(recipe: Recipe) -> OrderRule:
    """Return the numbers for the kernels, rounded to the dtype that numpy would use them in."""
    statistic = {"average": AVERAGE, "median": MEDIAN, "sum": SUM}[recipe.statistic]
    rule = OrderRule(
        statistic=statistic,
        n_low=recipe.n_low,
        n_high=recipe.n_high,
        minimum=np.nan if recipe.minimum is None else float(recipe.dtype.type(recipe.minimum)),
        maximum=np.nan if recipe.maximum is None else float(recipe.dtype.type(recipe.maximum)),
        sum_of_weights=float(recipe.sum_of_weights),
    )
    rule = rule._replace(sigmas_per_mad=float(recipe.sums_dtype.type(rule.sigmas_per_mad)))
    clip = recipe.clip
    if clip is None:
        return rule._replace(clip=CLIP_NOTHING)
    kind = np.dtype(np.float64) if clip.in_float64 else recipe.sums_dtype
    of_limits = np.dtype(np.float64) if clip.wide_limits else kind
    return rule._replace(
        clip_is_wide=clip.wide_limits,
        clip=CLIP_BY_STD if clip.about == "mean" else CLIP_BY_MAD,
        clip_keeps_valid=clip.invalid == "skip",
        clip_drops_all=clip.invalid == "drop all",
        low_sigma=float(of_limits.type(clip.low_sigma)),
        high_sigma=float(of_limits.type(clip.high_sigma)),
        clip_sigmas_per_mad=float(kind.type(rule.clip_sigmas_per_mad)),
    )
