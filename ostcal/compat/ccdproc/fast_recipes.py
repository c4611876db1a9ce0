"""Which calls the compiled loops answer with the bits of numpy and astropy: a recipe for these, nothing for others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from astropy.stats import mad_std

from ostcal.engine.in_order import Clip

_Policy = Literal["skip", "keep others", "drop all"]

_PAIRS: Final[tuple[tuple[Any, Any, Literal["mean", "median"], bool, _Policy], ...]] = (
    ("mean", "std", "mean", True, "skip"),
    ("median", "mad_std", "median", True, "skip"),
    (np.ma.mean, np.ma.std, "mean", False, "drop all"),
    (np.mean, np.std, "mean", False, "keep others"),
    (np.ma.median, mad_std, "median", False, "keep others"),
    (np.median, mad_std, "median", False, "keep others"),
)
"""Functions of centre and spread; the centre; whether limits are in double precision; what invalid samples do.

``"median"`` with ``"std"`` and ``"mean"`` with ``"mad_std"`` are missing: there astropy sums in an order of its own.
"""


def is_fast_dtype(dtype: Any) -> bool:
    """Return whether samples of a dtype can be combined by the compiled loops."""
    kind = np.dtype(dtype)
    return kind in (np.dtype(np.float32), np.dtype(np.float64)) and kind.isnative


def fast_clip(low: Any, high: Any, center: Any, spread: Any, dtype: Any) -> Clip | None:
    """Return how the compiled loops clip; ``None`` where only astropy itself gives its own bits."""
    if not is_fast_dtype(dtype) or not all(value is None or _is_number(value) for value in (low, high)):
        return None
    for function, of_spread, about, in_float64, invalid in _PAIRS:
        if _is_same(center, function) and _is_same(spread, of_spread):
            # a number of numpy may widen limits that are computed in the precision of the samples
            if not in_float64 and any(value is not None and type(value) not in (int, float) for value in (low, high)):
                return None
            # astropy takes a threshold of None or 0 as its default of 3
            low_sigma, high_sigma = float(low or 3.0), float(high or 3.0)
            return Clip(
                about=about,
                low_sigma=low_sigma,
                high_sigma=high_sigma,
                in_float64=in_float64,
                # arrays of numpy.ma turn a number into one of double precision
                wide_limits=in_float64 or spread is np.ma.std,
                invalid=invalid,
            )
    return None


def fast_limit(limit: Any, dtype: Any) -> bool:
    """Return whether samples are compared with a limit in their own precision."""
    if limit is None:
        return True
    is_plain = type(limit) in (int, float) or (np.dtype(dtype) == np.float64 and isinstance(limit, np.floating))
    return is_plain and math.isfinite(limit)


def is_default(function: Callable[..., Any] | None, *defaults: Callable[..., Any]) -> bool:
    """Return whether a function is one that the compiled loops replace."""
    return function is None or any(function is default for default in defaults)


def _is_same(value: Any, wanted: Any) -> bool:
    return value == wanted if isinstance(wanted, str) and isinstance(value, str) else value is wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, complex, np.complexfloating))
