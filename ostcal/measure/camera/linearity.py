"""How far flats of a steady lamp are from levels in proportion with their exposure, and where they end to grow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ostcal.measure.camera.measured import FloatArray, Measured
from ostcal.measure.camera.photon_transfer import SAME_EXPOSURE, TURNOVER_SHARE, TransferCurve
from ostcal.measure.estimators import MAD_TO_STD

LADDER_RANGE = 0.05
"""Single flats of a ladder show linearity from this share of the brightest one on, as EMVA 1288, 6.7, has it."""
LEAST_LADDER = 5
MAX_LAMP_SCATTER = 0.005
"""Relative scatter of frames of one exposure up to which a lamp counts as stable."""


def level_end_adu(curve: TransferCurve) -> float | None:
    """Return the level, ADU, at which flats of a steady lamp no longer grow with their exposure; ``None`` if they do.

    The reference is the light per second of the flats up to half of the brightest one, three at least that agree
    within `MAX_LAMP_SCATTER`; all that are longer than the first that falls behind by `TURNOVER_SHARE` must, too.
    """
    ends: list[float] = []
    frames: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for flat in curve.flats:
        for exposure_s, cells in zip(flat.exposures_s, flat.survey.cells_adu, strict=True):
            frames[flat.filter_name or ""].append((exposure_s, _mean_level(cells), flat.survey.overscan_adu))
    for of_filter in frames.values():
        exposures, levels, overscan = np.array(sorted(of_filter)).T
        signal = levels - np.array([_mean_level(curve.darks.at(float(t))[0]) for t in exposures])
        known = (exposures > 0) & (signal > LADDER_RANGE / 2 * signal.max())
        if not np.any(known):
            continue
        rates = signal[known] / exposures[known]
        faint = rates[signal[known] <= signal.max() / 2]
        if faint.size < 3 or MAD_TO_STD * float(np.median(np.abs(faint / np.median(faint) - 1))) > MAX_LAMP_SCATTER:
            continue
        behind = rates < (1 - TURNOVER_SHARE) * float(np.median(faint))
        first = len(behind) - int(np.argmin(behind[::-1])) if not behind.all() else 0
        if behind.any() and first < len(behind):
            ends.append(float((levels + overscan)[known][first]))
    return min(ends, default=None)


def measure_linearity(curve: TransferCurve) -> Measured | str:
    """Return the largest deviation, in per cent, of the level from a straight line in exposure, of all filters' worst.

    As EMVA 1288, 6.7: the line has the smallest sum of squared relative deviations. Its intercept is the shutter's
    dead time. Returns the reason if no filter has what it needs.
    """
    measured: list[Measured] = []
    why = "it needs flats of three exposures of one filter and lamp, two frames each, the longest twice the shortest"
    end = float(np.max(curve.signal_adu, where=curve.used, initial=0.0)) * (1 + 1e-3)
    frames: defaultdict[str, list[tuple[float, FloatArray]]] = defaultdict(list)
    for flat in curve.flats:
        frames[flat.filter_name or ""] += zip(flat.exposures_s, flat.survey.cells_adu, strict=True)
    for _, of_filter in sorted(frames.items()):
        levels: defaultdict[float, list[float]] = defaultdict(list)  # within the linear range, ADU above the dark
        latest_s = -math.inf
        for exposure_s, cells in sorted(of_filter, key=lambda frame: frame[0]):
            signal = (cells - curve.darks.at(exposure_s)[0]).ravel()
            signal = signal[np.isfinite(signal)]
            if exposure_s - latest_s > SAME_EXPOSURE * exposure_s:
                latest_s = exposure_s
            if signal.size and 0 < float(np.max(signal)) <= end:
                levels[latest_s].append(float(np.mean(signal)))
        repeated = {t: values for t, values in levels.items() if len(values) >= 2}
        brightest = max((np.mean(values) for values in levels.values()), default=0.0)
        ladder = {t: values for t, values in levels.items() if np.mean(values) >= LADDER_RANGE * brightest}
        if len(repeated) >= 3 and max(repeated) >= 2 * min(repeated):
            result = _deviation_percent(repeated)
        elif len(ladder) >= LEAST_LADDER and max(ladder) >= 2 * min(ladder):
            result = _ladder_deviation_percent(ladder)
        else:
            continue
        if isinstance(result, str):
            why = result
        else:
            measured.append(result)
    return max(measured, key=lambda one: one.value) if measured else why


def _ladder_deviation_percent(levels: Mapping[float, Sequence[float]]) -> Measured | str:
    """Return the largest relative deviation of single flats from their line, or why it means nothing.

    How steady the lamp was shows in nothing but the scatter about the line, which is the uncertainty.
    """
    exposures = np.array(sorted(levels))
    means = np.array([np.mean(levels[t]) for t in exposures])
    line = np.polynomial.Polynomial.fit(exposures, means, 1, w=1 / means)
    deviations = np.abs(means / line(exposures) - 1)
    scatter = MAD_TO_STD * float(np.median(deviations))
    if scatter > MAX_LAMP_SCATTER:
        return (
            f"the levels of the ladder scatter by {100 * scatter:.1f} % about a line, limit "
            f"{100 * MAX_LAMP_SCATTER:g} %: the lamp is not stable, or the response bends all the way"
        )
    return Measured(value=100 * float(deviations.max()), uncertainty=100 * scatter)


def _deviation_percent(levels: Mapping[float, Sequence[float]]) -> Measured | str:
    """Return the largest relative deviation of the mean levels from their line, or why it means nothing."""
    exposures = np.array(sorted(levels))
    means = np.array([np.mean(levels[t]) for t in exposures])
    counts = np.array([len(levels[t]) for t in exposures])
    scatter = math.sqrt(
        sum(float(np.sum((np.array(levels[t]) / m - 1) ** 2)) for t, m in zip(exposures, means, strict=True))
        / float(np.sum(counts - 1))
    )
    if scatter > MAX_LAMP_SCATTER:
        return (
            f"the lamp is not stable: flats of one exposure differ by {100 * scatter:.1f} %, "
            f"limit {100 * MAX_LAMP_SCATTER:g} %"
        )
    line = np.polynomial.Polynomial.fit(exposures, means, 1, w=1 / means)
    deviations = np.abs(means / line(exposures) - 1)
    worst = int(np.argmax(deviations))
    return Measured(value=100 * float(deviations[worst]), uncertainty=100 * scatter / math.sqrt(counts[worst]))


def _mean_level(cells: FloatArray) -> float:
    """Return the mean of the cells that hold numbers; NaN without any."""
    known = cells[np.isfinite(cells)]
    return float(known.mean()) if known.size else math.nan
