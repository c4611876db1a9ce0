"""Full well and linearity, from the points of the photon-transfer curve and the levels of flats."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ostcal.measure.camera.measured import FloatArray, Measured
from ostcal.measure.camera.photon_transfer import (
    DARK_LEVEL_ERROR_ADU,
    LEAST_POINTS,
    SAME_EXPOSURE,
    SATURATED_SHARE,
    TransferCurve,
)

MAX_LAMP_SCATTER = 0.005
"""Relative scatter of frames of one exposure up to which a lamp counts as stable."""


def measure_full_well(curve: TransferCurve, saturation_adu: float | None) -> Measured | None:
    """Return the level, ADU above the dark, at which pixels are full or the converter ends; ``None`` if none are.

    The brightest series that is clipped, which shows in its saturated samples or in cells without half of the noise
    they should have, holds it: between its brightest sample and the brightest `SATURATED_SHARE` of all, as clipped
    samples pile up there. The levels of cells would not do, being averages of colours and of vignetting.
    """
    slope = curve.slope(curve.used)
    last = float(np.max(curve.signal_adu[curve.used]))
    clipped = ~curve.used & (curve.signal_adu > last) & (curve.variance_adu2 < 0.5 * slope * curve.signal_adu)
    counts = np.bincount(curve.series[clipped], minlength=len(curve.flats))
    full = [
        flat
        for flat, count in zip(curve.flats, counts, strict=True)
        if count >= LEAST_POINTS or np.any(flat.survey.saturated > SATURATED_SHARE * flat.survey.n_pixels)
    ]
    if not full:
        return None
    brightest = max(full, key=lambda flat: float(np.nanmedian(flat.survey.mean_adu)))
    survey = brightest.survey
    highest = float(np.nanmax(survey.maximum_adu))
    if saturation_adu is not None:
        highest = min(highest, saturation_adu)
    above = np.cumsum(survey.histogram[::-1])[::-1]
    occupied = int(np.flatnonzero(above > SATURATED_SHARE * above[0])[-1])
    low = min(highest, survey.histogram_start_adu + occupied * survey.histogram_step_adu)
    dark = float(np.nanmean(curve.darks.at(brightest.exposure_s)[0]))
    return Measured(value=(low + highest) / 2 - dark, uncertainty=max(DARK_LEVEL_ERROR_ADU, (highest - low) / 2))


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
        if len(repeated) < 3 or max(repeated) < 2 * min(repeated):
            continue
        result = _deviation_percent(repeated)
        if isinstance(result, str):
            why = result
        else:
            measured.append(result)
    return max(measured, key=lambda one: one.value) if measured else why


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
