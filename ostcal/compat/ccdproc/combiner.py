"""`Combiner`: images in memory, rejected step by step and combined."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from numpy.typing import NDArray

from ostcal.compat.ccdproc.fast_recipes import fast_clip, is_default, is_fast_dtype
from ostcal.compat.ccdproc.numpy_definitions import (
    Function,
    Statistic,
    clip_mask,
    combined,
    extremes_mask,
    is_sigma_func,
    sigma_func,
)
from ostcal.engine.execution import usable_cores
from ostcal.engine.in_order import Recipe, clip_in_order, combine_in_order, empty_planes
from ostcal.frames import SampleEncoding

_PIXELS_AT_ONCE = 1 << 16


class Combiner:
    """Combine `CCDData` objects in memory, as `ccdproc.Combiner` does.

    Parameters
    ----------
    ccd_iter : iterable of CCDData
        Of one shape and unit.
    dtype : dtype, optional
        Of the samples and of the result; ``None`` is float64.

    Raises
    ------
    TypeError
        If an object is no `CCDData`, or its shape or unit is another than that of the first.
    """

    def __init__(self, ccd_iter: Iterable[CCDData] | None, dtype: Any = None) -> None:
        if ccd_iter is None:
            raise TypeError("ccd_iter is None; give a list or a generator of CCDData objects")
        ccds = list(ccd_iter)
        for index, ccd in enumerate(ccds):
            check_like_first(ccd, ccds[0], f"ccd_iter[{index}]")
        if not ccds:
            raise TypeError("ccd_iter is empty; give CCDData objects")
        self.ccd_list = ccds
        self.unit = ccds[0].unit
        self._dtype = np.float64 if dtype is None else dtype
        self._weights: NDArray[Any] | None = None
        self._scaling: NDArray[Any] | None = None
        shape = (len(ccds), *ccds[0].shape)
        samples, masks = np.empty(shape, self._dtype), np.zeros(shape, bool)
        for rows, mask, ccd in zip(samples, masks, ccds, strict=True):
            rows[...] = ccd.data
            if ccd.mask is not None:
                mask[...] = ccd.mask
        self.data_arr: Any = np.ma.MaskedArray(samples, masks)

    @property
    def dtype(self) -> Any:
        """The dtype of the samples and of the result."""
        return self._dtype

    @property
    def weights(self) -> NDArray[Any] | None:
        """Weights of averages and sums: one for each image, or of the shape of all samples."""
        return self._weights

    @weights.setter
    def weights(self, value: NDArray[Any] | None) -> None:
        if value is not None:
            check_weights(value, self.data_arr.shape)
        self._weights = value

    @property
    def scaling(self) -> NDArray[Any] | None:
        """Factors of the images: numbers, or a function that returns the number of an image."""
        return self._scaling

    @scaling.setter
    def scaling(self, value: Any) -> None:
        if value is None:
            self._scaling = None
            return
        n, *axes = self.data_arr.shape
        factors = [value(image) for image in self.data_arr] if callable(value) else value
        try:
            count = len(factors)
        except TypeError as error:
            raise TypeError("scaling must be a function, or one number for each image") from error
        if count != n:
            raise ValueError(f"scaling has {count} numbers for {n} images; give one for each")
        self._scaling = np.array(factors).reshape(n, *(1 for _ in axes))

    # ---- rejection ----

    def clip_extrema(self, nlow: int | None = 0, nhigh: int | None = 0) -> None:
        """Mask the lowest and the highest samples of every pixel, masked ones counted too.

        Parameters
        ----------
        nlow, nhigh : int, optional
            How many.
        """
        self.data_arr.mask |= extremes_mask(self.data_arr.data, nlow or 0, nhigh or 0)

    def minmax_clipping(self, min_clip: float | None = None, max_clip: float | None = None) -> None:
        """Mask samples below or above a limit.

        Parameters
        ----------
        min_clip, max_clip : float, optional
        """
        if min_clip is not None:
            self.data_arr.mask |= self.data_arr.data < min_clip
        if max_clip is not None:
            self.data_arr.mask |= self.data_arr.data > max_clip

    def sigma_clipping(
        self,
        low_thresh: float | None = 3,
        high_thresh: float | None = 3,
        func: str | Function = "mean",
        dev_func: str | Function = "std",
        **kwd: Any,
    ) -> None:
        """Mask samples that are far from the others, in one pass; masked samples count where limits are found.

        Parameters
        ----------
        low_thresh, high_thresh : float, optional
            Spreads from the centre; ``None`` and 0 are 3, as in astropy.
        func : {"mean", "median"} or callable
            The centre.
        dev_func : {"std", "mad_std"} or callable
            The spread.
        **kwd
            Of `astropy.stats.sigma_clip`.
        """
        kwd.pop("use_astropy", None)
        clip = None if kwd else fast_clip(low_thresh, high_thresh, func, dev_func, self.data_arr.dtype)
        if clip is None or not self._is_flat_in_memory():
            mask = clip_mask(self.data_arr.data, low_thresh, high_thresh, func, dev_func, kwd)
            self.data_arr.mask |= mask
            return
        block, mask = self._flat(), self.data_arr.mask.reshape(len(self.data_arr), -1)
        in_threads(lambda pixels: clip_in_order(block, clip, mask, pixels), block.shape[1])

    # ---- combining ----

    def average_combine(
        self,
        scale_func: Function | None = None,
        scale_to: float | None = None,
        uncertainty_func: Function = np.nanstd,
        sum_func: Function = np.nansum,
    ) -> CCDData:
        """Average the samples that are not masked.

        Parameters
        ----------
        scale_func : callable, optional
            In place of the mean; it gets a masked array.
        scale_to : float, optional
            Factor of all samples, in place of `scaling`.
        uncertainty_func : callable, optional
            Of the samples; the result is divided by the root of their number.
        sum_func : callable, optional
            Sums weighted samples and weights.

        Returns
        -------
        CCDData
            With uncertainty and mask; ``NCOMBINE`` is in its meta.
        """
        is_fast = is_default(scale_func) and is_default(uncertainty_func, np.nanstd) and is_default(sum_func, np.nansum)
        return self._combined("average", scale_func, scale_to, uncertainty_func, sum_func, is_fast=is_fast)

    def median_combine(
        self,
        median_func: Function | None = None,
        scale_to: float | None = None,
        uncertainty_func: Function = sigma_func,
    ) -> CCDData:
        """Take the median of the samples that are not masked.

        Parameters
        ----------
        median_func : callable, optional
            In place of the median; it gets a masked array.
        scale_to : float, optional
            As of `average_combine`.
        uncertainty_func : callable, optional
            As of `average_combine`.

        Returns
        -------
        CCDData
            As of `average_combine`.
        """
        is_fast = is_default(median_func) and is_sigma_func(uncertainty_func)
        return self._combined("median", median_func, scale_to, uncertainty_func, np.nansum, is_fast=is_fast)

    def sum_combine(
        self,
        sum_func: Function | None = None,
        scale_to: float | None = None,
        uncertainty_func: Function = np.nanstd,
    ) -> CCDData:
        """Sum the samples that are not masked.

        Parameters
        ----------
        sum_func : callable, optional
            In place of the sum; it gets a masked array.
        scale_to : float, optional
            As of `average_combine`.
        uncertainty_func : callable, optional
            Of the samples; the result is multiplied by the root of their number.

        Returns
        -------
        CCDData
            As of `average_combine`.
        """
        is_fast = is_default(sum_func) and is_default(uncertainty_func, np.nanstd)
        return self._combined("sum", sum_func, scale_to, uncertainty_func, np.nansum, is_fast=is_fast)

    def _combined(
        self,
        statistic: Statistic,
        function: Function | None,
        scale_to: float | None,
        error_function: Function,
        sum_function: Function,
        *,
        is_fast: bool,
    ) -> CCDData:
        """Combine by the compiled loops where they give the bits of numpy, else by numpy."""
        recipe = self._recipe(statistic, scale_to) if is_fast else None
        if recipe is not None and self._is_flat_in_memory():
            data, mask, error = self._by_loops(recipe)
        else:
            data, mask, error = combined(
                self.data_arr,
                factor=scale_to if scale_to is not None else self._scaling,
                weights=self._weights,
                statistic=statistic,
                function=function,
                sum_function=sum_function,
                error_function=error_function,
            )
        result = CCDData(
            np.asarray(data, dtype=self._dtype), mask=mask, unit=self.unit, uncertainty=StdDevUncertainty(error)
        )
        result.meta["NCOMBINE"] = len(self.data_arr)
        return result

    def _recipe(self, statistic: Statistic, scale_to: float | None) -> Recipe | None:
        if scale_to is not None:
            return None
        return recipe_of(
            self.data_arr.dtype, statistic, scale=self._scaling, weights=self._weights, shape=self.data_arr.shape
        )

    def _by_loops(self, recipe: Recipe) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
        shape, block = self.data_arr.shape[1:], self._flat()
        mask = self.data_arr.mask.reshape(block.shape)
        marks = mask if mask.any() else None
        planes = empty_planes(block.shape[1], recipe)
        encoding = SampleEncoding(dtype=block.dtype.name)
        in_threads(lambda pixels: combine_in_order(block, encoding, marks, recipe, planes, pixels), block.shape[1])
        odd = np.flatnonzero(planes.odd) if recipe.statistic == "median" else ()
        if len(odd):
            few = np.ma.MaskedArray(block[:, odd], mask[:, odd])
            data, _, error = combined(
                few, factor=None if recipe.scale is None else recipe.scale[:, None], weights=None, statistic="median",
                function=None, sum_function=np.nansum, error_function=sigma_func,
            )  # fmt: skip
            planes.data[odd], planes.error[odd] = data, error
        return planes.data.reshape(shape), (planes.n_used == 0).reshape(shape), planes.error.reshape(shape)

    def _flat(self) -> NDArray[Any]:
        """Return all samples as (n_images, n_pixels)."""
        samples: NDArray[Any] = self.data_arr.data.reshape(len(self.data_arr), -1)
        return samples

    def _is_flat_in_memory(self) -> bool:
        """Return whether the compiled loops may run over samples and mask as they lie.

        Along the frames of a single pixel numpy sums in another order than along those of several.
        """
        data, mask = self.data_arr.data, np.ma.getmask(self.data_arr)
        n_pixels = data[0].size
        in_order = data.flags.c_contiguous and mask is not np.ma.nomask and mask.flags.c_contiguous
        return is_fast_dtype(data.dtype) and in_order and n_pixels > 1


def check_like_first(ccd: Any, first: Any, label: str) -> None:
    """Raise `TypeError` for what is no `CCDData`, or of another shape or unit than the first."""
    if not isinstance(ccd, CCDData):
        raise TypeError(f"{label}: is of type {type(ccd).__name__}; only CCDData objects can be combined")
    if ccd.shape != first.shape:
        raise TypeError(f"{label}: CCDData objects are not the same size: {ccd.shape} and {first.shape}")
    if ccd.unit != first.unit:
        raise TypeError(f"{label}: CCDData objects don't have the same unit: {ccd.unit} and {first.unit}")


def check_weights(weights: Any, shape: tuple[int, ...]) -> None:
    """Raise an error for weights that are no array, or do not fit the samples."""
    if not isinstance(weights, np.ndarray):
        raise TypeError(f"weights are of type {type(weights).__name__}; give a numpy.ndarray")
    if weights.shape == shape:
        return
    if weights.ndim != 1:
        raise ValueError(f"weights have the shape {weights.shape}; give one for each image, or the shape {shape}")
    if weights.shape[0] != shape[0]:
        raise ValueError(f"{weights.shape[0]} weights for {shape[0]} images; give one for each")


def recipe_of(
    dtype: Any,
    statistic: Statistic,
    *,
    scale: NDArray[Any] | None,
    weights: NDArray[Any] | None,
    shape: tuple[int, ...],
) -> Recipe | None:
    """Return how the compiled loops combine samples of a dtype; ``None`` where they do not."""
    if not is_fast_dtype(dtype):
        return None
    if scale is not None and scale.dtype.kind not in "iu" and scale.dtype != np.float64:
        return None  # in another precision
    if weights is not None and (weights.ndim != 1 or weights.dtype.kind not in "uif" or len(shape) != 3):
        return None
    if weights is not None and statistic == "median":
        weights = None
    of_frames = None if weights is None else weights.astype(np.float64)
    return Recipe(
        dtype=np.dtype(dtype),
        statistic=statistic,
        scale=None if scale is None else scale.reshape(-1).astype(np.float64),
        weights=of_frames,
        # along an axis of its own, as numpy sums it there
        sum_of_weights=0.0 if of_frames is None else float(np.nansum(of_frames.reshape(-1, 1, 1), axis=0)[0, 0]),
    )


def in_threads(function: Any, n_pixels: int) -> None:
    """Call a function for ranges of pixels."""
    ranges = [(start, min(start + _PIXELS_AT_ONCE, n_pixels)) for start in range(0, n_pixels, _PIXELS_AT_ONCE)]
    if len(ranges) < 2:
        for pixels in ranges:
            function(pixels)
        return
    with ThreadPoolExecutor(usable_cores(), thread_name_prefix="ostcal") as pool:
        for _ in pool.map(function, ranges):
            pass
