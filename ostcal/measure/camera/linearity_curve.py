"""The response curve of a camera from flats of many exposures of a steady lamp.

A cell of the sensor that gets k ADU/s of light has the signal L after t seconds, and

    L (1 + c1 L/H + c2 (L/H)^2 + ...) = k t + m,

where H is the brightest signal, m the shutter's dead time, and c are the same for all cells. It is linear in all
unknowns; k and m of each cell are eliminated first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ostcal.measure.camera.linearity import LADDER_RANGE, LEAST_LADDER, MAX_LAMP_SCATTER
from ostcal.measure.camera.measured import FloatArray
from ostcal.measure.camera.photon_transfer import TransferCurve
from ostcal.response import LinearityCurve

MOST_TERMS = 4
LEAST_FREEDOM = 2
"""Exposures beyond the unknowns of a curve."""
BETTER = 0.85
"""A further term must bring the scatter down to this share of it."""
COVERED_FROM = 0.25
"""The faintest flat of a ladder has at most this share of the brightest: below it the curve is drawn on to no light."""
LEAST_SPAN = 2.0
BELOW_FULL_SCALE = 0.98
"""Flats whose brightest cell is above this share of full scale are clipped in some pixels."""


@dataclass(frozen=True, kw_only=True)
class _Ladder:
    """Flats of one filter: exposures, (n,), and the signals of their cells, (n, cells) ADU."""

    exposures_s: FloatArray
    signals_adu: FloatArray

    def up_to(self, most_adu: float) -> _Ladder:
        """Return the flats whose brightest cell is at most this bright."""
        kept = self.signals_adu.max(axis=1) <= most_adu
        return _Ladder(exposures_s=self.exposures_s[kept], signals_adu=self.signals_adu[kept])


def fit_linearity_curve(curve: TransferCurve, full_scale_adu: float | None) -> LinearityCurve | str:
    """Return the response of a camera, or why it is not known.

    Flats of the filter with most exposures serve, those below `full_scale_adu`. Where no curve fits
    them, the brightest are left out until one does.
    """
    ladder = _ladder_of(curve, full_scale_adu)
    reason = (
        f"it needs flats of {LEAST_LADDER} exposures of a steady lamp, the faintest below {100 * COVERED_FROM:g} % of "
        "the brightest"
    )
    while ladder is not None and _is_long(ladder):
        fit = _fit(ladder)
        result = LinearityCurve(
            coefficients=tuple(map(float, fit.coefficients)) or (0.0,),
            high_adu=float(ladder.signals_adu.max()),
            zero_adu=float(np.nanmean(curve.darks.levels_adu[0])),
            uncertainty_percent=100 * math.hypot(fit.scatter, fit.error),
        )
        if fit.scatter <= MAX_LAMP_SCATTER and result.grows:
            return result
        reason = (
            f"flats scatter by {100 * fit.scatter:.1f} % about a curve, limit {100 * MAX_LAMP_SCATTER:g} %: the lamp "
            "is not steady, or the response has a kink"
        )
        brightest = ladder.signals_adu.max(axis=1)
        ladder = ladder.up_to(float(np.max(brightest[brightest < brightest.max()], initial=0.0)))
    return reason


def _ladder_of(curve: TransferCurve, full_scale_adu: float | None) -> _Ladder | None:
    frames: defaultdict[str, list[tuple[float, FloatArray]]] = defaultdict(list)
    for flat in curve.flats:
        for exposure_s, cells in zip(flat.exposures_s, flat.survey.cells_adu, strict=True):
            if not np.isfinite(cells).any():
                continue
            highest_adu = float(np.nanmax(cells)) + flat.survey.overscan_adu
            if full_scale_adu is not None and highest_adu >= BELOW_FULL_SCALE * full_scale_adu:
                continue
            frames[flat.filter_name or ""].append((exposure_s, (cells - curve.darks.at(exposure_s)[0]).ravel()))
    longest = max(frames.values(), key=lambda of_filter: len({time_s for time_s, _ in of_filter}), default=[])
    if not longest:
        return None
    longest.sort(key=lambda frame: frame[0])
    exposures, signals = np.array([t for t, _ in longest]), np.stack([cells for _, cells in longest])
    signals = signals[:, np.isfinite(signals).all(axis=0)]
    if not signals.size:
        return None
    levels = signals.mean(axis=1)
    lit = (exposures > 0) & (signals.min(axis=1) > 0) & (levels >= LADDER_RANGE * levels.max())
    return _Ladder(exposures_s=exposures[lit], signals_adu=signals[lit])


def _is_long(ladder: _Ladder) -> bool:
    """Return whether a ladder has exposures enough, and covers levels far enough apart."""
    times = np.unique(ladder.exposures_s)
    if len(times) < LEAST_LADDER or times[-1] < LEAST_SPAN * times[0]:
        return False
    levels = ladder.signals_adu.mean(axis=1)
    return bool(levels.min() <= COVERED_FROM * levels.max())


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Coefficients, the relative scatter of the flats about the curve, and its relative error at the worst level."""

    coefficients: FloatArray
    scatter: float
    error: float = 0.0


def _fit(ladder: _Ladder) -> _Fit:
    """Fit the shortest curve that no longer one is better than."""
    n_times = len(np.unique(ladder.exposures_s))
    best = _fit_terms(ladder, 0)
    for terms in range(1, min(MOST_TERMS, n_times - 2 - LEAST_FREEDOM) + 1):
        longer = _fit_terms(ladder, terms)
        if longer.scatter <= BETTER ** (terms - len(best.coefficients)) * best.scatter:
            best = longer
    return best


def _fit_terms(ladder: _Ladder, terms: int) -> _Fit:
    """Fit a curve of so many terms."""
    times, signals = ladder.exposures_s, ladder.signals_adu
    relative = signals / signals.max()
    # in units of the signal, so that all flats weigh alike: columns of 1, (L/H), (L/H)^2 ... without k t + m
    columns = np.stack([relative**power for power in range(terms + 1)])
    rest = np.empty_like(columns)
    for cell in range(signals.shape[1]):
        basis = np.stack([times, np.ones_like(times)], axis=1) / signals[:, cell : cell + 1]
        orthogonal, _ = np.linalg.qr(basis)
        values = columns[:, :, cell].T
        rest[:, :, cell] = (values - orthogonal @ (orthogonal.T @ values)).T
    flat = rest.reshape(terms + 1, -1)
    coefficients = np.linalg.lstsq(flat[1:].T, -flat[0], rcond=None)[0] if terms else np.zeros(0)
    # the lamp flickers for all cells alike: the mean of a flat counts
    of_flats = rest.mean(axis=2)
    residual = of_flats[0] + coefficients @ of_flats[1:]
    scatter = math.sqrt(float(np.sum(residual**2)) / max(1, len(times) - 2 - terms))
    covariance = scatter**2 * np.linalg.pinv(of_flats[1:] @ of_flats[1:].T)
    levels = np.linspace(0, 1, 51)[:, np.newaxis] ** np.arange(1, terms + 1)
    error = math.sqrt(max(0.0, float(np.max(np.einsum("li,ij,lj->l", levels, covariance, levels), initial=0.0))))
    return _Fit(coefficients=coefficients, scatter=scatter, error=error)
