"""Read noise: half the variance of the difference of two dark frames (EMVA 1288, release 4.0, 6.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.camera.measured import FloatArray, Measured, SurveyedSeries
from ostcal.measure.frames.survey import SeriesSurvey

OUTLIER_SIGMAS = 4.0
MAX_PAIR_RATIO = 2.0
"""A pair of more than twice the variance of another holds a frame with a fault rather than more noise."""
LEAST_CELL_PIXELS = 16
LEAST_NOISE_IN_STEPS = 0.1
"""Read noise (as variance) below this share of the quantisation's own is not measurable."""
OVERSCAN_ERROR = 0.01
"""Relative error of the noise of an overscan, of which 64 lines of some frames are read."""
DARKS_FOR_READ_NOISE_S = 10.0
"""Without bias frames, darks up to this exposure serve for the read noise."""


def relative_error(survey: SeriesSurvey) -> FloatArray:
    """Return the relative standard deviation of each cell's variance from one pair, (GRID, GRID): sqrt(2 / pixels)."""
    return np.sqrt(2 / np.maximum(1.0, survey.cell_pixels))


def pair_inflation(survey: SeriesSurvey) -> float:
    """Return how much larger the variance of a mean over pairs is than were the pairs independent.

    Pairs (i, i + 1) and (i + 1, i + 2) share a frame: their differences have a correlation of -1/2, the squares of 1/4.
    """
    neighbours = np.count_nonzero(np.diff(survey.pair_first) == 1)
    return 1 + 0.5 * neighbours / max(1, len(survey.pair_first))


def pair_mean(survey: SeriesSurvey) -> tuple[FloatArray, FloatArray]:
    """Return the variance of a sample in each cell, mean over the pairs that are no outliers, and its uncertainty.

    A pair is no outlier within `OUTLIER_SIGMAS` of the median. An even number of pairs can have none there: the median
    is then between two groups, such as 25 and 27 ADU^2 of bias frames with a noise of 5, 5 and 5.4 ADU. Pairs like
    either of the two middle ones count then, or only like the smaller one where the other is more than
    `MAX_PAIR_RATIO` times as large: what goes wrong in a frame adds to the variance of its pairs.

    Both are (GRID, GRID) float64, ADU^2, and NaN where a cell has fewer than `LEAST_CELL_PIXELS`.
    """
    pairs = survey.pair_variance_adu2
    relative = relative_error(survey)

    def near(centre: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(np.abs(pairs - centre) <= OUTLIER_SIGMAS * relative * centre)

    median = np.median(pairs, axis=0)
    kept = near(median)
    low, high = np.sort(pairs, axis=0)[[(len(pairs) - 1) // 2, len(pairs) // 2]]
    kept |= ~kept.any(axis=0) & (near(low) | (near(high) & (high <= MAX_PAIR_RATIO * low)))
    n_kept = np.maximum(1, np.sum(kept, axis=0))  # 0 only where the median is NaN
    variance = np.sum(pairs, axis=0, where=kept) / n_kept
    variance[np.isnan(median) | (survey.cell_pixels < LEAST_CELL_PIXELS)] = np.nan
    return variance, variance * relative * np.sqrt(pair_inflation(survey) / n_kept)


def read_noise(
    bias: Sequence[SurveyedSeries],
    darks: Sequence[SurveyedSeries],
    flats: Sequence[SurveyedSeries],
    step_adu: float | None,
    reasons: dict[str, str],
    notes: list[str],
) -> tuple[Measured | None, float | None]:
    """Return the read noise from pairs, and from the spread of the pixels, both in ADU.

    The variance of the quantisation in steps of `step_adu` is subtracted, and what the noise of the overscan's levels
    adds. Without bias frames the shortest darks serve, and without those the overscan of whatever frames there are.
    If there is none, `reasons` gets the reason; `notes` get what to know of it.
    """
    quantisation = step_adu**2 / 12 if step_adu is not None else 0.0
    of_overscan = _of_overscan([*bias, *darks, *flats], quantisation)
    series = [one for one in bias if one.survey.n_frames >= 2 and not one.subtracted]
    if not series:
        usable = [one for one in darks if one.survey.n_frames >= 2 and not one.subtracted]
        shortest = min(usable, key=lambda one: one.exposure_s, default=None)
        if shortest is not None and shortest.exposure_s < DARKS_FOR_READ_NOISE_S:
            series = [shortest]
            notes.append(
                f"read noise: from darks of {shortest.exposure_s:g} s, the noise of their dark current included"
            )
    if not series and of_overscan is not None:
        notes.append("read noise: from the overscan, as there are no bias frames")
        return of_overscan, None
    if not series:
        reasons["read_noise_adu"] = f"it needs two bias frames; darks serve up to {DARKS_FOR_READ_NOISE_S:g} s"
        return None, None
    if step_adu is None:
        reasons["read_noise_adu"] = reasons["step_adu"]
        return None, None
    measured = _mean_variance(series)
    if measured is None:
        reasons["read_noise_adu"] = f"no cell has {LEAST_CELL_PIXELS} pixels in two frames"
        return None, None
    added = float(np.mean([one.survey.overscan_added_adu2 for one in series]))
    variance = measured.value - quantisation - added
    if not variance > LEAST_NOISE_IN_STEPS * quantisation:
        reasons["read_noise_adu"] = f"it is lost in the converter's step of {step_adu:g} ADU"
        return None, None
    noise = math.sqrt(variance)
    spread = _noise_of_spread(series, quantisation + added)
    if spread is not None and abs(spread / noise - 1) > 0.1:
        notes.append(
            f"read noise: {noise:.3g} ADU from pairs, {spread:.3g} ADU from the spread of the pixels about the mean; "
            "the bias changes during the series, or pixels flicker"
        )
    if of_overscan is not None and abs(of_overscan.value / noise - 1) > 0.1:
        notes.append(
            f"read noise: {noise:.3g} ADU from pairs of frames, {of_overscan.value:.3g} ADU within the rows of the "
            "overscan; the level changes from row to row, or the overscan is not the amplifier's alone"
        )
    return Measured(value=noise, uncertainty=measured.uncertainty / (2 * noise)), spread


def _noise_of_spread(series: Sequence[SurveyedSeries], not_noise_adu2: float) -> float | None:
    """Return the noise from the spread of the pixels about the typical frame, less a known variance."""
    # The typical frame of a series is the mean of two, or the median of the means of three thirds: its variance is then
    # 0.4487 x 3/n, its covariance with a frame 1/n. Frames differ from it by less than their noise.
    spreads = []
    for survey in (one.survey for one in series):
        share = 0.5 if survey.n_frames == 2 else 1 - (2 - 3 * 0.4487) / survey.n_frames
        spreads.append(float(np.nanmedian(survey.residual_std_adu)) ** 2 / share)
    variance = float(np.mean(spreads)) - not_noise_adu2
    return math.sqrt(variance) if variance > 0 else None


def _of_overscan(series: Sequence[SurveyedSeries], quantisation_adu2: float) -> Measured | None:
    """Return the noise of the overscan's samples, ADU; ``None`` where it is not known or lost in the rounding."""
    variances = [
        one.survey.overscan_variance_adu2 for one in series if math.isfinite(one.survey.overscan_variance_adu2)
    ]
    if not variances:
        return None
    variance = float(np.median(variances)) - quantisation_adu2
    if not variance > LEAST_NOISE_IN_STEPS * quantisation_adu2:
        return None
    noise = math.sqrt(variance)
    scatter = float(np.std(np.sqrt(variances), ddof=1)) if len(variances) > 1 else OVERSCAN_ERROR * noise
    return Measured(value=noise, uncertainty=max(scatter, OVERSCAN_ERROR * noise))


def _mean_variance(series: Sequence[SurveyedSeries]) -> Measured | None:
    """Return the variance of a sample, mean of several series; ``None`` if no cell has pixels enough.

    Cells that are twice as noisy as the median cell are left out. If series differ by more than their noise, their
    scatter is the uncertainty.
    """
    values, errors = [], []
    for one in series:
        variance, error = pair_mean(one.survey)
        known = np.isfinite(variance)
        if np.any(known):
            kept = known & (variance <= 2 * np.median(variance[known]))
            values.append(float(np.mean(variance[kept])))
            errors.append(float(np.sqrt(np.sum(error[kept] ** 2))) / int(np.count_nonzero(kept)))
    n = len(values)
    if n == 0:
        return None
    mean = sum(values) / n
    uncertainty = math.sqrt(sum(error**2 for error in errors)) / n
    if n > 1:
        uncertainty = max(uncertainty, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n))
    return Measured(value=mean, uncertainty=uncertainty)
