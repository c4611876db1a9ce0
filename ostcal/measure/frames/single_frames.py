"""Checks of single frames: samples that are all alike, missing, clipped at 0 or saturated; level; temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.frames.series_facts import FEW_PIXELS, SeriesFacts, alarm, in_percent, summarize
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.limits import FrameLimits

_NOT_LINEAR_SHARE_FAIL = 0.25
"""Of the cells: one that is clipped in part counts whole."""

_ROUNDING_C = 1e-6
"""-10.5 and -9.5 are within 1 degree, in spite of rounding."""


def check_range(survey: SeriesSurvey, limits: FrameLimits) -> list[Finding]:
    """Judge frames whose samples are all equal, no numbers, or clipped at 0.

    Where any frame has values below 0, frames are not clipped there.
    """
    bad = []
    low = float(np.nanmin(survey.minimum_adu)) if np.isfinite(survey.minimum_adu).any() else math.nan
    high = float(np.nanmax(survey.maximum_adu)) if np.isfinite(survey.maximum_adu).any() else math.nan
    missing, zero = survey.missing / max(1, survey.n_pixels), survey.zeros / max(1, survey.n_pixels)
    for i in range(survey.n_frames):
        if missing[i] > limits.missing_share:  # no failure: they are in no master
            text = f"{in_percent(missing[i])} of its pixels are no numbers (limit {in_percent(limits.missing_share)})"
            bad.append(alarm("range", float(missing[i]), limits.missing_share, text, i))
        elif survey.minimum_adu[i] == survey.maximum_adu[i]:
            text = f"all of its pixels are {survey.minimum_adu[i]:g} ADU"
            bad.append(alarm("range", 0.0, 0.0, text, i, "ADU", outcome=Outcome.FAIL))
        elif low >= 0 and survey.zeros[i] > FEW_PIXELS:
            outcome, limit = outcome_above(float(zero[i]), limits.zero_share, limits.zero_share_fail)
            text = f"{in_percent(zero[i])} of its pixels are 0 (limit {in_percent(limit)})"
            if outcome is not Outcome.PASS:
                bad.append(alarm("range", float(zero[i]), limit, text, i, outcome=outcome))
    text = f"samples are between {low:g} and {high:g} ADU"
    most = float(zero.max(initial=0.0))
    return summarize("range", bad, text, n_frames=survey.n_frames, value=most, limit=limits.zero_share)


def check_saturation(survey: SeriesSurvey, limits: FrameLimits, full_scale_note: str = "") -> list[Finding]:
    """Judge the share of saturated pixels of each frame; the note says what shows full scale."""
    bad = []
    share = survey.saturated / max(1, survey.n_pixels)
    for i in np.flatnonzero(survey.saturated > FEW_PIXELS):
        outcome, limit = outcome_above(float(share[i]), limits.saturated_share, limits.saturated_share_fail)
        text = f"{in_percent(share[i])} of its pixels are saturated (limit {in_percent(limit)})"
        text += f"; {full_scale_note}" if full_scale_note else ""
        if outcome is not Outcome.PASS:
            bad.append(alarm("saturation", float(share[i]), limit, text, int(i), outcome=outcome))
    most, limit = float(share.max(initial=0.0)), limits.saturated_share
    text = f"no frame has more than {in_percent(most)} of its pixels saturated (limit {in_percent(limit)})"
    return summarize("saturation", bad, text, n_frames=survey.n_frames, value=most, limit=limit)


def check_level(series: SeriesFacts, full_scale_note: str = "") -> list[Finding]:
    """Judge whether flats are within their range and biases and darks far below full scale.

    The level of a flat is the 90 % quantile of its cells, so that spectrographs, dark at the edges, have one.
    """
    limits = series.limits
    mean, std = series.survey.mean_adu[series.index], series.survey.std_adu[series.index]
    text = f"means are {mean.min():.6g} to {mean.max():.6g} ADU, "
    text += f"standard deviations {std.min():.4g} to {std.max():.4g} ADU"
    check, low, high, level = "level", -math.inf, limits.dark_level_share, series.level_adu
    if series.is_flat:
        check, low, high = "flat level", limits.flat_low_share, limits.flat_high_share
        level = np.percentile(series.cells_adu, 90, axis=1)
    if not math.isfinite(series.max_adu):
        return summarize(check, [], text, n_frames=series.survey.n_frames)
    share = level / series.max_adu
    bad = []
    for i in np.flatnonzero((share < low) | (share > high)):
        limit, side = (low, "below") if share[i] < low else (high, "above")
        line = f"its level, {level[i]:.6g} ADU, is {side} {in_percent(limit)} of full scale ({in_percent(share[i])})"
        line += f"; {full_scale_note}" if full_scale_note else ""
        bad.append(alarm(check, float(share[i]), limit, line, series.frame(i)))
    return summarize(check, bad, text, n_frames=series.survey.n_frames, value=float(np.median(share)), limit=high)


def check_response(series: SeriesFacts, linear_end_adu: float | None) -> list[Finding]:
    """Judge whether flats are below the level from which on the camera is not linear.

    A flat of which a quarter is beyond it is a failure: what is divided by it is wrong there.
    """
    check, limit, n = "linearity", series.limits.saturated_share, series.survey.n_frames
    if linear_end_adu is None:
        return summarize(check, [], "no flat shows an end of the linear range", n_frames=n, limit=limit)
    share = np.mean(series.cells_adu > linear_end_adu, axis=1)
    saturated = series.survey.saturated[series.index] / max(1, series.survey.n_pixels)
    bad = []
    named = saturated > limit  # by the check of saturation
    for i in np.flatnonzero((share > limit) & ~named):
        outcome, bound = outcome_above(float(share[i]), limit, _NOT_LINEAR_SHARE_FAIL)
        text = (
            f"{in_percent(share[i])} of it is above {linear_end_adu:.5g} ADU, from where on the camera is not linear, "
            f"as the noise of the flats shows (limit {in_percent(bound)}); take dimmer flats"
        )
        bad.append(alarm(check, float(share[i]), bound, text, series.frame(i), outcome=outcome))
    text = f"flats are below {linear_end_adu:.5g} ADU, from where on the camera is not linear"
    return summarize(check, bad, text, n_frames=n, value=float(share.max()), limit=limit)


def check_temperature(temperatures_c: Sequence[float | None], limits: FrameLimits) -> list[Finding]:
    """Judge the distance of each frame from the median temperature of the series."""
    check, limit, n = "temperature", limits.temperature_c, len(temperatures_c)
    known = {i: value for i, value in enumerate(temperatures_c) if value is not None and math.isfinite(value)}
    if not known:
        return summarize(check, [], "no frame has a temperature", n_frames=n, limit=limit, unit="C")
    typical = float(np.median(list(known.values())))
    bad = []
    for i, value in known.items():
        distance = value - typical
        text = f"its temperature, {value:.1f} C, is {distance:+.1f} C from the median of its series"
        if abs(distance) > limit + _ROUNDING_C:
            bad.append(alarm(check, abs(distance), limit, f"{text} (limit {limit:.1f} C)", i, "C"))
    low, high = min(known.values()), max(known.values())
    text = f"temperatures are {low:.1f} to {high:.1f} C, within {limit:.1f} C of their median, {typical:.1f} C"
    return summarize(check, bad, text, n_frames=n, value=high - low, limit=limit, unit="C")


def _away_from_set_point(
    temperatures_c: Sequence[float | None],
    set_points_c: Sequence[float | None],
    distances: Mapping[int, float],
    limit: float,
) -> str:
    """Say that all frames are as far from the set point: none of them is worse than the others."""
    middle = float(np.median([temperature for i in distances if (temperature := temperatures_c[i]) is not None]))
    wanted = float(np.median([target for i in distances if (target := set_points_c[i]) is not None]))
    return (
        f"the sensor was at {middle:.1f} C in all {len(distances)} frames, {middle - wanted:+.1f} C from its set point,"
        f" {wanted:.1f} C (limit {limit:.1f} C): it was not reached, or the driver of the camera always writes"
        " this one; the temperature of the sensor counts"
    )


def check_set_point(
    temperatures_c: Sequence[float | None],
    set_points_c: Sequence[float | None],
    limits: FrameLimits,
    *,
    is_flat: bool = False,
) -> list[Finding]:
    """Judge the distance of the sensor from its set point.

    Flats are often taken by day with the cooler off, and their light is far above any dark current: no warning.
    """
    check, limit, n = "set point", limits.set_point_c, len(temperatures_c)
    distances = {
        i: ccd - target
        for i, (ccd, target) in enumerate(zip(temperatures_c, set_points_c, strict=True))
        if ccd is not None and target is not None and math.isfinite(ccd - target)
    }
    if not distances:
        text = "no frame has both a temperature and a set point"
        return summarize(check, [], text, n_frames=n, limit=limit, unit="C")
    bad = []
    for i, distance in distances.items():
        text = f"the sensor was {distance:+.1f} C from its set point, {set_points_c[i]:.1f} C (limit {limit:.1f} C)"
        if abs(distance) > limit + _ROUNDING_C and not is_flat:
            bad.append(alarm(check, abs(distance), limit, text, i, "C"))
    most = max(map(abs, distances.values()))
    if len(bad) == len(distances) > 1 and max(distances.values()) - min(distances.values()) <= 2 * limit:
        bad = [
            alarm(check, most, limit, _away_from_set_point(temperatures_c, set_points_c, distances, limit), None, "C")
        ]
    text = f"the sensor was within {most:.1f} C of its set point "
    text += "(flats are not judged by it)" if is_flat else f"(limit {limit:.1f} C)"
    return summarize(check, bad, text, n_frames=n, value=most, limit=limit, unit="C")
