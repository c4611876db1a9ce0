"""The level of an overscan: of each line of it, and fitted along them; in whole steps of 1/256 ADU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.kernels import QUANTA_PER_ADU
from ostcal.vocabulary import OverscanFit, OverscanLevel

SPLINE_PIECES: Final = 8
"""Cubic pieces of a spline along the lines."""
UNKNOWN_LEVEL: Final = int(np.iinfo(np.int64).min)
"""Level of a line without a finite overscan sample."""


@dataclass(frozen=True, kw_only=True)
class OverscanMethod:
    """How the level of an overscan is measured.

    Attributes
    ----------
    level : {"median", "mean"}
        Of the samples of one line across the overscan.
    fit : {"none", "mean", "median", "polynomial", "spline"}
        What takes the place of the levels of the lines; ``none`` leaves them as they are.
    degree : int
        Of the polynomial.
    """

    level: OverscanLevel = "median"
    fit: OverscanFit = "none"
    degree: int = 1


def line_levels(samples: NDArray[Any], method: OverscanMethod) -> NDArray[np.int64]:
    """Measure the level of every line of an overscan, without a fit, in 1/256 ADU.

    Parameters
    ----------
    samples : (..., n_lines, n_samples) int or float
        In ADU; samples that are not finite do not count.
    method : OverscanMethod

    Returns
    -------
    (..., n_lines) int64
        The nearest whole number of 1/256 ADU, halves to even; `UNKNOWN_LEVEL` for a line without finite samples.
    """
    quanta: NDArray[np.int64]
    n = samples.shape[-1]
    if samples.dtype.kind == "f":
        finite = np.where(np.isfinite(samples), samples, np.nan)
        known = np.isfinite(samples).any(axis=-1)
        centre = (np.nanmedian if method.level == "median" else np.nanmean)(finite[known], axis=-1)
        quanta = np.full(known.shape, UNKNOWN_LEVEL)
        quanta[known] = np.rint(centre * QUANTA_PER_ADU).astype(np.int64)
    elif method.level == "median":
        in_order = np.sort(samples, axis=-1)
        quanta = (in_order[..., (n - 1) // 2].astype(np.int64) + in_order[..., n // 2]) * (QUANTA_PER_ADU // 2)
    else:
        # A quotient of float64 is exact enough: sums over n are no nearer to a half than 1 / 2 n unless they are one.
        quanta = np.rint(samples.sum(axis=-1, dtype=np.int64) * QUANTA_PER_ADU / n).astype(np.int64)
    return quanta


def levels_in_adu(levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return levels in ADU; NaN where they are unknown."""
    return np.where(levels == UNKNOWN_LEVEL, np.nan, levels / QUANTA_PER_ADU)


def fitted_levels(levels: NDArray[np.int64], method: OverscanMethod) -> NDArray[np.int64]:
    """Fit the levels of all lines of one frame along the lines.

    Parameters
    ----------
    levels : (n_lines,) int64
        Of `line_levels`.
    method : OverscanMethod

    Returns
    -------
    (n_lines,) int64
        In 1/256 ADU. The fit goes through the known levels and gives those of the other lines too.

    Notes
    -----
    A polynomial is fitted by least squares in Legendre polynomials over the lines, as IRAF's ``colbias`` does; a spline
    is the cubic one of least squares with equal pieces (``spline3``). Neither rejects lines: use the median of each
    line against cosmic rays.
    """
    is_known = levels != UNKNOWN_LEVEL
    known = levels[is_known]
    n = known.size
    if not n:
        return levels
    match method.fit:
        case "none":
            return levels
        case "median":
            middle = np.sort(known)
            return np.full(levels.size, (middle[(n - 1) // 2] + middle[n // 2]) // 2)
        case "mean":
            return np.full(levels.size, np.rint(known.sum() / n), np.int64)
        case "polynomial":
            design = np.polynomial.legendre.legvander(_along(levels.size), min(method.degree, n - 1))
        case "spline":
            design = _spline_terms(_along(levels.size), min(SPLINE_PIECES, max(1, n // 4)))
    # Relative to the first known line, so that rounding does not depend on how high the level is.
    relative = (known - known[0]).astype(np.float64)
    coefficients = np.linalg.lstsq(design[is_known], relative, rcond=None)[0]
    fitted: NDArray[np.int64] = known[0] + np.rint(design @ coefficients).astype(np.int64)
    return fitted


def _along(n: int) -> NDArray[np.float64]:
    return np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)


def _spline_terms(x: NDArray[np.float64], pieces: int) -> NDArray[np.float64]:
    """Return the terms of a cubic spline with equal pieces from -1 to 1: (n_lines, 3 + pieces) float64."""
    knots = np.linspace(-1.0, 1.0, pieces + 1)[1:-1]
    terms = [x**power for power in range(4)] + [np.maximum(x - knot, 0.0) ** 3 for knot in knots]
    return np.stack(terms, axis=1)
