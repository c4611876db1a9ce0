"""What ccdproc defines with numpy and astropy, computed with them: functions of users, other dtypes, odd pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from astropy import stats
from numpy.typing import NDArray

Function = Callable[..., Any]
Statistic = Literal["average", "median", "sum"]

_SIGMAS_PER_MAD = 1.482602218505602


def sigma_func(arr: Any, axis: Any = None, ignore_nan: bool = False) -> Any:
    """Estimate the standard deviation from the median absolute deviation.

    Parameters
    ----------
    arr : array
    axis : int or tuple of int, optional
        Axes that it is taken along; ``None`` is all.
    ignore_nan : bool, optional
        Whether NaN do not count.

    Returns
    -------
    float or array
        1.4826 times the median absolute deviation.
    """
    return stats.median_absolute_deviation(arr, axis=axis, ignore_nan=ignore_nan) * _SIGMAS_PER_MAD


def is_sigma_func(function: object) -> bool:
    """Return whether a function is `sigma_func`, ours or that of ccdproc."""
    is_theirs = getattr(function, "__name__", "") == "sigma_func" and (
        getattr(function, "__module__", "").split(".")[0] == "ccdproc"
    )
    return function is sigma_func or is_theirs


def clip_mask(data: NDArray[Any], low: Any, high: Any, center: Any, spread: Any, keywords: dict[str, Any]) -> Any:
    """Return what astropy clips along the frames in one pass, true where a sample is rejected."""
    return stats.sigma_clip(
        data,
        sigma_lower=low,
        sigma_upper=high,
        axis=keywords.get("axis", 0),
        copy=keywords.get("copy", False),
        maxiters=keywords.get("maxiters", 1),
        cenfunc=center,
        stdfunc=spread,
        masked=True,
        **keywords,
    ).mask


def extremes_mask(data: NDArray[Any], n_low: int, n_high: int) -> NDArray[np.bool_]:
    """Return the lowest and the highest samples along the frames, true where a sample is one."""
    if not 0 <= n_low <= len(data) or not 0 <= n_high <= len(data):
        raise ValueError(f"nlow={n_low}, nhigh={n_high}: there are {len(data)} images; leave out fewer")
    order = np.argsort(data, axis=0)
    mask = np.zeros(data.shape, bool)
    for rank in range(-n_high, n_low):
        np.put_along_axis(mask, order[rank][None], True, axis=0)
    return mask


def combined(
    data: np.ma.MaskedArray[Any, Any],
    *,
    factor: Any,
    weights: NDArray[Any] | None,
    statistic: Statistic,
    function: Function | None,
    sum_function: Function,
    error_function: Function,
) -> tuple[Any, NDArray[np.bool_], NDArray[Any]]:
    """Return the combined image, its mask and its error.

    Parameters
    ----------
    data : (n_frames, ...) masked array
    factor : array or number, optional
        What samples are multiplied by.
    weights : (n_frames,) or of the shape of `data`, optional
        For averages and sums.
    statistic : {"average", "median", "sum"}
    function : callable, optional
        In place of the statistic; it gets a masked array, and by default NaN are left out.
    sum_function : callable
        Sums weighted samples and weights.
    error_function : callable
        Of the samples, before it is divided by the root of their number.
    """
    n = len(data)
    samples: Any = data if factor is None else data * factor
    if function is None:
        samples = np.ma.filled(samples, np.nan) if data.mask.any() else samples.data
        n_masked = np.isnan(samples).sum(axis=0)
    else:
        n_masked = data.mask.sum(axis=0)
    if weights is not None and statistic != "median":
        of_frames = weights if weights.shape == samples.shape else np.reshape(weights, [n, 1, 1])
        of_frames = of_frames.astype("float64")
        add = sum_function if statistic == "average" else function or np.nansum
        result = add(samples * of_frames, axis=0)
        result = result / sum_function(of_frames, axis=0) if statistic == "average" else result
    else:
        own: Any = {"average": np.nanmean, "median": np.nanmedian, "sum": np.nansum}[statistic]
        result = (function or own)(samples, axis=0)
    skips_nan = {"ignore_nan": True} if statistic == "median" and is_sigma_func(error_function) else {}
    error = error_function(samples, axis=0, **skips_nan)
    error /= np.sqrt(n - n_masked)
    error = np.asarray(error)
    if statistic == "sum":
        error *= n - n_masked
    return result, n_masked == n, error
