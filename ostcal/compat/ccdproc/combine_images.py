"""`combine`: images in memory or in FITS files, combined strip by strip."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.io.registry import IORegistryError
from astropy.nddata import CCDData, StdDevUncertainty
from numpy import ma
from numpy.typing import NDArray

from ostcal.compat.ccdproc.combiner import Combiner, check_weights, recipe_of
from ostcal.compat.ccdproc.fast_recipes import fast_clip, fast_limit, is_fast_dtype
from ostcal.compat.ccdproc.images import Image, images_of, stack_of_images
from ostcal.compat.ccdproc.numpy_definitions import Function, Statistic
from ostcal.engine.execution import default_workers
from ostcal.engine.in_order import Recipe, combine_in_order, empty_planes
from ostcal.engine.stack_rows import workspace
from ostcal.engine.tiling import block_rows
from ostcal.frames import FrameStack
from ostcal.progress import ProgressBar

_STRIPS_PER_WORKER = 16
_METHODS: dict[str, Statistic] = {"average": "average", "median": "median", "sum": "sum"}


def combine(
    img_list: Any,
    output_file: str | os.PathLike[str] | None = None,
    method: str = "average",
    weights: NDArray[Any] | None = None,
    scale: Any = None,
    mem_limit: float = 16e9,
    clip_extrema: bool = False,
    nlow: int | None = 1,
    nhigh: int | None = 1,
    minmax_clip: bool = False,
    minmax_clip_min: float | None = None,
    minmax_clip_max: float | None = None,
    sigma_clip: bool = False,
    sigma_clip_low_thresh: float | None = 3,
    sigma_clip_high_thresh: float | None = 3,
    sigma_clip_func: str | Function = ma.mean,
    sigma_clip_dev_func: str | Function = ma.std,
    dtype: Any = None,
    combine_uncertainty_function: Function | None = None,
    overwrite_output: bool = False,
    **ccdkwargs: Any,
) -> CCDData:
    """Combine images, as `ccdproc.combine` does, with the same results.

    Parameters
    ----------
    img_list : list of CCDData or of paths, array of paths, or paths as text with commas between them
        Images of one shape and unit.
    output_file : path, optional
        The FITS file that the result is written to.
    method : {"average", "median", "sum"}, optional
    weights : (n_images,) array, or of the shape of all samples, optional
        For averages and sums.
    scale : function, or sequence of float, optional
        Factors of the images, used when samples have been rejected; a function returns that of an array.
    mem_limit : float, optional
        Memory for the samples that are in work at a time, in bytes.
    clip_extrema : bool, optional
        Whether the `nlow` lowest and the `nhigh` highest samples are left out.
    nlow, nhigh : int, optional
    minmax_clip : bool, optional
        Whether samples below `minmax_clip_min` and above `minmax_clip_max` are left out.
    minmax_clip_min, minmax_clip_max : float, optional
    sigma_clip : bool, optional
        Whether samples are clipped, in one pass.
    sigma_clip_low_thresh, sigma_clip_high_thresh : float, optional
        Spreads from the centre; ``None`` and 0 are 3, as in astropy.
    sigma_clip_func : {"mean", "median"} or callable, optional
        The centre.
    sigma_clip_dev_func : {"std", "mad_std"} or callable, optional
        The spread.
    dtype : dtype, optional
        Of the samples and of the result; ``None`` is float64.
    combine_uncertainty_function : callable, optional
        In place of the standard deviation, or of the median absolute deviation of medians.
    overwrite_output : bool, optional
        Whether `output_file` is replaced.
    **ccdkwargs
        Of `CCDData.read`: ``unit``, ``hdu`` and others.

    Returns
    -------
    CCDData
        The first image with the combined samples, their uncertainty and mask.

    Raises
    ------
    TypeError
        If an image is of another shape or unit than the first.
    ValueError
        If there are no images, or the method is unknown.
    """
    every = _listed(img_list)
    if method not in _METHODS:
        raise ValueError(f"unrecognised combine method {method!r}; write 'average', 'median' or 'sum'")
    if not every:
        raise ValueError("unrecognised input for list of images: it is empty; give CCDData objects or paths")
    limits = {
        "minmax_clip_min": minmax_clip_min,
        "minmax_clip_max": minmax_clip_max,
        "sigma_clip_low_thresh": sigma_clip_low_thresh,
        "sigma_clip_high_thresh": sigma_clip_high_thresh,
        "mem_limit": mem_limit,
    }
    for name, value in limits.items():
        if isinstance(value, str):
            raise TypeError(f"{name}={value!r} is a text; give a number")
    images, first = images_of(every, ccdkwargs)
    result = _template(first, np.float64 if dtype is None else dtype, is_own=images[0].ccd is None)
    if result.data.ndim != 2:
        raise ValueError(f"images have {result.data.ndim} axes; combine takes images of two, Combiner takes others")
    shape = (len(images), *result.data.shape)
    if weights is not None:
        check_weights(weights, shape)
    factors = _factors(scale, images)
    clipping: dict[str, dict[str, Any]] = {}
    if clip_extrema:
        clipping["clip_extrema"] = {"nlow": nlow, "nhigh": nhigh}
    if minmax_clip:
        clipping["minmax_clipping"] = {"min_clip": minmax_clip_min, "max_clip": minmax_clip_max}
    if sigma_clip:
        clipping["sigma_clipping"] = {
            "low_thresh": sigma_clip_low_thresh,
            "high_thresh": sigma_clip_high_thresh,
            "func": sigma_clip_func,
            "dev_func": sigma_clip_dev_func,
        }
    work = _Work(
        images=images,
        result=result,
        method=method,
        weights=weights,
        factors=factors,
        clipping=clipping,
        error_function=combine_uncertainty_function,
        mem_limit=float(mem_limit),
    )
    recipe = work.recipe() if combine_uncertainty_function is None else None
    stack = None if recipe is None else stack_of_images(images, result.shape)
    if recipe is None or stack is None:
        work.by_combiner(0, shape[1])
    else:
        work.by_loops(stack, recipe)
    if output_file is not None:
        try:
            result.write(output_file, overwrite=overwrite_output)
        except IORegistryError as error:  # one line, where astropy's has a table of formats
            raise IORegistryError(f"output_file={output_file!r}: its ending names no format; write .fits") from error
    return result


def _listed(img_list: Any) -> list[Any]:
    """Return the images as a list."""
    if isinstance(img_list, np.ndarray):
        return list(img_list.tolist())
    if isinstance(img_list, str):
        if "," not in img_list:
            raise ValueError(f"unrecognised input for list of images: {img_list!r} is one path; give a list of them")
        return list(img_list.split(","))
    if isinstance(img_list, CCDData) or not isinstance(img_list, Iterable):
        raise ValueError(f"unrecognised input for list of images: an object of type {type(img_list).__name__}")
    return list(img_list)


def _template(first: CCDData, dtype: Any, *, is_own: bool) -> CCDData:
    """Return the first image with room for the result; one that is not our own is not touched."""
    result = first if is_own else CCDData(first)
    if not is_own:
        result.meta, result.uncertainty = deepcopy(first.meta), deepcopy(first.uncertainty)
    # every sample is written: memory that the threads touch first, not here
    result.data = np.empty(first.shape, dtype)
    if result.uncertainty is None:
        result.uncertainty = StdDevUncertainty(np.zeros(first.shape, dtype))
    result.mask = np.zeros(first.shape, bool if first.mask is None else np.asarray(first.mask).dtype)
    return result


def _factors(scale: Any, images: Sequence[Image]) -> NDArray[Any] | None:
    """Return the factor of each image; ``None`` where nothing is scaled."""
    if scale is None:
        return None
    if callable(scale):
        return np.array([scale(image.read().data) for image in images])
    try:
        count = len(scale)
    except TypeError as error:
        raise TypeError("scale must be a function, or one number for each image") from error
    if count != len(images):
        raise ValueError(f"scale has {count} numbers for {len(images)} images; give one for each")
    return np.array(scale)


class _Work:
    """What is to be done, and the image that it is done in."""

    def __init__(
        self, *, images: Sequence[Image], result: CCDData, method: str, weights: NDArray[Any] | None,
        factors: NDArray[Any] | None, clipping: dict[str, dict[str, Any]], error_function: Function | None,
        mem_limit: float,
    ) -> None:  # fmt: skip
        self._images, self._result, self._method = images, result, method
        self._weights, self._factors, self._clipping = weights, factors, clipping
        self._error_function, self._mem_limit = error_function, mem_limit

    def recipe(self) -> Recipe | None:
        """Return how the compiled loops do all of it; ``None`` where they do not."""
        dtype, n = self._result.data.dtype, len(self._images)
        shape = (n, *self._result.shape)
        recipe = recipe_of(dtype, _METHODS[self._method], scale=self._factors, weights=self._weights, shape=shape)
        if recipe is None or not is_fast_dtype(dtype) or self._result.data.size < 2:
            return None
        extremes = self._clipping.get("clip_extrema")
        if extremes is not None:
            n_low, n_high = extremes["nlow"] or 0, extremes["nhigh"] or 0
            are_counts = all(type(count) is int and 0 <= count <= n for count in (n_low, n_high))
            # of equal samples numpy chooses one; which it is shows where they are scaled, weighted or masked
            is_alike = recipe.scale is None and recipe.weights is None and not any(i.has_mask for i in self._images)
            if not (are_counts and is_alike):
                return None
            recipe = replace(recipe, n_low=n_low, n_high=n_high)
        limits = self._clipping.get("minmax_clipping")
        if limits is not None:
            low, high = limits["min_clip"], limits["max_clip"]
            if not (fast_limit(low, dtype) and fast_limit(high, dtype)):
                return None
            recipe = replace(recipe, minimum=low, maximum=high)
        sigmas = self._clipping.get("sigma_clipping")
        if sigmas is not None:
            clip = fast_clip(sigmas["low_thresh"], sigmas["high_thresh"], sigmas["func"], sigmas["dev_func"], dtype)
            if clip is None or (recipe.scale is not None and dtype != np.float64 and not clip.in_float64):
                return None
            recipe = replace(recipe, clip=clip)
        return recipe

    def by_loops(self, stack: FrameStack, recipe: Recipe) -> None:
        """Combine all rows by the compiled loops, in threads."""
        n, height, width = stack.shape
        row_bytes = n * width * np.dtype(stack.encoding.dtype).itemsize
        workers = int(max(1, min(default_workers("threads"), self._mem_limit // (2 * row_bytes))))
        rows = -(-height // (_STRIPS_PER_WORKER * workers))
        strips = [(start, min(start + rows, height)) for start in range(0, height, rows)]
        odd = []
        with ThreadPoolExecutor(workers, thread_name_prefix="ostcal") as pool, ProgressBar("combining") as bar:
            bar.start(height)
            found = pool.map(lambda strip: self._combine_strip(stack, recipe, *strip), strips)
            for (start, stop), is_odd in zip(strips, found, strict=True):
                bar.advance(stop - start)
                odd += [(start, stop)] if is_odd else []
        for start, stop in odd:
            self.by_combiner(start, stop)

    def _combine_strip(self, stack: FrameStack, recipe: Recipe, start: int, stop: int) -> bool:
        """Combine rows block by block; return whether they have pixels that only numpy decides."""
        (n, height, width), dtype = stack.shape, stack.encoding.dtype
        step = block_rows((n, height, width), np.dtype(dtype).itemsize, stack.row_step)
        is_odd = False
        with stack.opened(start, stop) as reader:
            for first in range(start, stop, step):
                last = min(first + step, stop)
                block = workspace.block((n, last - first, width), dtype)
                reader.read_rows(first, last, block)
                mask = self._mask_rows(first, last)
                planes = empty_planes((last - first) * width, recipe)
                flat = block.reshape(n, -1)
                combine_in_order(flat, stack.encoding, mask, recipe, planes, (0, flat.shape[1]))
                self._store(
                    slice(first, last),
                    planes.data.reshape(-1, width),
                    planes.n_used.reshape(-1, width) == 0,
                    planes.error.reshape(-1, width),
                )
                is_odd = is_odd or (recipe.statistic == "median" and bool(planes.odd.any()))
        return is_odd

    def _mask_rows(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        if not any(image.has_mask for image in self._images):
            return None
        mask = np.zeros((len(self._images), stop - start, self._result.shape[1]), bool)
        for rows, image in zip(mask, self._images, strict=True):
            if image.has_mask:
                rows[...] = image.mask_rows(start, stop)
        return mask.reshape(len(mask), -1)

    def by_combiner(self, start: int, stop: int) -> None:
        """Combine rows with `Combiner`, as many at a time as the memory allows."""
        width = self._result.shape[1]
        per_row = 8 * (1 + len(self._images)) * width * max(1, self._result.data.dtype.itemsize // 2)
        step = int(max(1, min(stop - start, self._mem_limit // per_row)))
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            combiner = Combiner([image.rows(rows) for image in self._images], dtype=self._result.data.dtype)
            is_of_pixels = self._weights is not None and self._weights.ndim > 1
            combiner.weights = self._weights[:, rows] if is_of_pixels and self._weights is not None else self._weights
            combiner.scaling = self._factors
            for name, arguments in self._clipping.items():
                getattr(combiner, name)(**arguments)
            keywords = {} if self._error_function is None else {"uncertainty_func": self._error_function}
            part = getattr(combiner, f"{self._method}_combine")(**keywords)
            self._store(rows, part.data, part.mask, part.uncertainty.array)

    def _store(self, rows: slice, data: NDArray[Any], mask: NDArray[np.bool_], error: NDArray[Any]) -> None:
        self._result.data[rows] = data
        self._result.mask[rows] = mask
        self._result.uncertainty.array[rows] = error
