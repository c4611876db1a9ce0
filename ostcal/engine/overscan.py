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
        The nearest whole number of 1/256 ADU, halves to even. A line without finite samples has the level 0.
    """
    quanta: NDArray[np.int64]
    n = samples.shape[-1]
    if samples.dtype.kind == "f":
        finite = np.where(np.isfinite(samples), samples, np.nan)
        centre = np.nanmedian(finite, axis=-1) if method.level == "median" else np.nanmean(finite, axis=-1)
        quanta = np.rint(np.nan_to_num(centre) * QUANTA_PER_ADU).astype(np.int64)
    elif method.level == "median":
        in_order = np.sort(samples, axis=-1)
        quanta = (in_order[..., (n - 1) // 2].astype(np.int64) + in_order[..., n // 2]) * (QUANTA_PER_ADU // 2)
    else:
        # A quotient of float64 is exact enough: sums over n are no nearer to a half than 1 / 2 n unless they are one.
        quanta = np.rint(samples.sum(axis=-1, dtype=np.int64) * QUANTA_PER_ADU / n).astype(np.int64)
    return quanta


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
        In 1/256 ADU.

    Notes
    -----
    A polynomial is fitted by least squares in Legendre polynomials over the lines, as IRAF's ``colbias`` does; a spline
    is the cubic one of least squares with equal pieces (``spline3``). Neither rejects lines: use the median of each
    line against cosmic rays.
    """
    match method.fit:
        case "none":
            return levels
        case "median":
            middle = np.sort(levels)
            n = levels.size
            return np.full(n, (middle[(n - 1) // 2] + middle[n // 2]) // 2)
        case "mean":
            return np.full(levels.size, np.rint(levels.sum() / levels.size), np.int64)
        case "polynomial":
            design = np.polynomial.legendre.legvander(_along(levels.size), min(method.degree, levels.size - 1))
        case "spline":
            design = _spline_terms(_along(levels.size), min(SPLINE_PIECES, max(1, levels.size // 4)))
    # Relative to the first line, so that rounding does not depend on how high the level is.
    relative = (levels - levels[0]).astype(np.float64)
    coefficients = np.linalg.lstsq(design, relative, rcond=None)[0]
    fitted: NDArray[np.int64] = levels[0] + np.rint(design @ coefficients).astype(np.int64)
    return fitted


def _along(n: int) -> NDArray[np.float64]:
    return np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1)


def _spline_terms(x: NDArray[np.float64], pieces: int) -> NDArray[np.float64]:
    """Return the terms of a cubic spline with equal pieces from -1 to 1: (n_lines, 3 + pieces) float64."""
    knots = np.linspace(-1.0, 1.0, pieces + 1)[1:-1]
    terms = [x**power for power in range(4)] + [np.maximum(x - knot, 0.0) ** 3 for knot in knots]
    return np.stack(terms, axis=1)
