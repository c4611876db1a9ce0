"""Dark current of the median pixel from the levels of bias and dark frames, single ones too, against their exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ostcal.measure.camera.measured import DarkLadder, FloatArray, Measured, SurveyedSeries
from ostcal.measure.camera.photon_transfer import SAME_EXPOSURE

BIAS_DRIFT_ADU = 1.0
"""What the bias level of real cameras moves by between two series. Levels do not show it: a bias that rises from one
series to the next, the longer exposures last, looks like dark current, and three or four levels are near a line by
chance."""
LEAST_SINGLES = 4
"""So many single frames of different exposures, taken one after the other, show by their scatter how the bias moves."""
SIGNIFICANT_SIGMAS = 2.0
"""A dark current that falls with the exposure by more than this is a drift of the bias."""
_LEVEL_NOISE = 1.25
"""Standard deviation of a median over that of a mean of normal values."""
_STUDENT = (1.837, 1.321, 1.197, 1.142, 1.111, 1.091, 1.077, 1.067)
"""Student's t that 68.3 % of values are within, for 1, 2, 3... degrees of freedom: the scatter of three levels about
their line is often small by chance."""


def student_factor(freedom: int) -> float:
    """Return by how much a standard deviation measured with so many degrees of freedom is to be widened."""
    return _STUDENT[min(freedom, len(_STUDENT)) - 1]


def bias_drift_error(exposures_s: Sequence[float] | FloatArray) -> float:
    """Return the error of a dark current, ADU/s, by a bias level that moves between series of these exposures.

    It moves by `BIAS_DRIFT_ADU`, up or down, from each series to the next.
    """
    return BIAS_DRIFT_ADU * math.sqrt(len(exposures_s) - 1) / float(max(exposures_s) - min(exposures_s))


def why_no_dark_current(rate: Measured) -> str:
    """Say why a rate, ADU/s, is no dark current; "" if it is one."""
    if rate.value > 0:
        return ""
    found = f"{rate.value:.3g} +- {rate.uncertainty:.2g} ADU/s"
    if rate.value < -SIGNIFICANT_SIGMAS * rate.uncertainty:
        return f"the level falls as exposures get longer ({found}): the bias level drifts, or temperatures differ"
    return f"none is seen ({found}): take longer darks"


def measure_dark_current(
    bias: Sequence[SurveyedSeries], darks: Sequence[SurveyedSeries]
) -> tuple[Measured | str, DarkLadder | None]:
    """Return the dark current, ADU/s, or why there is none, and the levels it comes from.

    The error of a level is the noise of the frames it comes from, and their scatter where there are three. That of the
    rate has the drift of the bias between series, too, unless a ladder of single frames shows how large it is.
    """
    raw = [one for one in (*bias, *darks) if not one.subtracted]
    steps = _steps(raw)
    if len(steps) < 2:
        return "it needs bias or darks of two exposures", None
    exposures, levels, errors = (np.array(column) for column in zip(*steps, strict=True))
    weight = 1 / errors**2
    middle = float(np.sum(weight * exposures) / np.sum(weight))
    lever = exposures - middle
    spread = float(np.sum(weight * lever**2))
    rate = float(np.sum(weight * lever * levels)) / spread
    level = float(np.sum(weight * levels) / np.sum(weight))
    residuals = levels - level - rate * lever
    freedom = len(steps) - 2
    chi_square = float(np.sum(weight * residuals**2)) / freedom if freedom else None
    uncertainty = 1 / math.sqrt(spread)
    if chi_square is not None:
        uncertainty *= student_factor(freedom) * math.sqrt(max(1.0, chi_square))
    singles = max((len(set(one.exposures_s)) for one in raw if one.is_ladder), default=0)
    if singles < LEAST_SINGLES:
        uncertainty = math.hypot(uncertainty, bias_drift_error(exposures))
    ladder = DarkLadder(
        exposures_s=tuple(map(float, exposures)),
        levels_adu=tuple(map(float, levels)),
        errors_adu=tuple(map(float, errors)),
        offset_adu=level - rate * middle,
        rate_adu_per_s=rate,
        reduced_chi_square=chi_square,
    )
    measured = Measured(value=rate, uncertainty=uncertainty)
    return why_no_dark_current(measured) or measured, ladder


def _steps(series: Sequence[SurveyedSeries]) -> list[tuple[float, float, float]]:
    """Return exposure, level and error of the level of each exposure, ascending."""
    frames: list[tuple[float, float, float]] = []
    noises = [noise for one in series if (noise := _noise_adu(one)) is not None]
    usual_adu = min(noises, default=None)
    for one in series:
        noise_adu = _noise_adu(one) or usual_adu
        if noise_adu is None:
            continue
        error = _LEVEL_NOISE * noise_adu / math.sqrt(max(1.0, float(np.sum(one.survey.cell_pixels))))
        for exposure_s, cells in zip(one.exposures_s, one.survey.cells_adu, strict=True):
            level = _median(cells)
            if math.isfinite(level):
                frames.append((exposure_s, level, error))
    steps: list[list[tuple[float, float, float]]] = []
    for frame in sorted(frames):
        if steps and frame[0] - steps[-1][0][0] <= SAME_EXPOSURE * frame[0]:
            steps[-1].append(frame)
        else:
            steps.append([frame])
    return [_joined(step) for step in steps]


def _joined(frames: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Return the mean of the frames of one exposure, with its error."""
    n = len(frames)
    levels = np.array([level for _, level, _ in frames])
    error = math.sqrt(sum(error**2 for _, _, error in frames)) / n
    if n >= 3:
        error = max(error, float(np.std(levels, ddof=1)) / math.sqrt(n))
    return float(np.mean([exposure_s for exposure_s, _, _ in frames])), float(levels.mean()), error


def _noise_adu(one: SurveyedSeries) -> float | None:
    variances = one.survey.pair_variance_adu2
    known = variances[np.isfinite(variances)]
    return math.sqrt(max(float(np.median(known)), 1 / 12)) if known.size else None


def _median(cells: FloatArray) -> float:
    known = cells[np.isfinite(cells)]
    return float(np.median(known)) if known.size else math.nan
