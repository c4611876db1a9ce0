"""Checks of the level of each frame against full scale, and of its temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ostcal.measure.findings import Finding
from ostcal.measure.frames.series_facts import SeriesFacts
from ostcal.measure.frames.summary import percent, summarize, warning
from ostcal.measure.limits import FrameLimits

_ROUNDING_C = 1e-6
"""-10.5 and -9.5 are within 1 degree, whatever floats make of it."""


def check_level(series: SeriesFacts) -> list[Finding]:
    """Judge whether flats are within their range and biases and darks far below full scale.

    The level of a flat is the 90 % quantile of its cells, so that spectrographs, dark at the edges, have one.
    """
    limits = series.limits
    mean, std = series.survey.mean_adu[series.index], series.survey.std_adu[series.index]
    text = (
        f"means are {mean.min():.6g} to {mean.max():.6g} ADU, standard deviations {std.min():.4g} to {std.max():.4g} "
        "ADU"
    )
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
        line = f"its level, {level[i]:.6g} ADU, is {side} {percent(limit)} of full scale ({percent(share[i])})"
        bad.append(warning(check, float(share[i]), limit, line, series.frame(i)))
    return summarize(check, bad, text, n_frames=series.survey.n_frames, value=float(np.median(share)), limit=high)


def check_temperature(temperatures_c: Sequence[float | None], limits: FrameLimits) -> list[Finding]:
    """Judge the distance of each frame from the median temperature of the series."""
    check, limit, n = "temperature", limits.temperature_c, len(temperatures_c)
    known = {i: value for i, value in enumerate(temperatures_c) if value is not None and math.isfinite(value)}
    if not known:
        return summarize(check, [], "no frame has a temperature", n_frames=n, limit=limit, unit="C")
    typical = float(np.median(list(known.values())))
    bad = [
        warning(
            check,
            abs(value - typical),
            limit,
            f"its temperature, {value:.1f} C, is {value - typical:+.1f} C from the median of its series "
            f"(limit {limit:.1f} C)",
            i,
            "C",
        )
        for i, value in known.items()
        if abs(value - typical) > limit + _ROUNDING_C
    ]
    low, high = min(known.values()), max(known.values())
    text = f"temperatures are {low:.1f} to {high:.1f} C, within {limit:.1f} C of their median, {typical:.1f} C"
    return summarize(check, bad, text, n_frames=n, value=high - low, limit=limit, unit="C")


def check_set_point(
    temperatures_c: Sequence[float | None], set_points_c: Sequence[float | None], limits: FrameLimits
) -> list[Finding]:
    """Judge the distance of the sensor from its set point."""
    check, limit, n = "set point", limits.set_point_c, len(temperatures_c)
    distances = {
        i: ccd - target
        for i, (ccd, target) in enumerate(zip(temperatures_c, set_points_c, strict=True))
        if ccd is not None and target is not None and math.isfinite(ccd - target)
    }
    if not distances:
        text = "no frame has both a temperature and a set point"
        return summarize(check, [], text, n_frames=n, limit=limit, unit="C")
    bad = [
        warning(
            check,
            abs(distance),
            limit,
            f"the sensor was {distance:+.1f} C from its set point, {set_points_c[i]:.1f} C (limit {limit:.1f} C)",
            i,
            "C",
        )
        for i, distance in distances.items()
        if abs(distance) > limit + _ROUNDING_C
    ]
    most = max(map(abs, distances.values()))
    text = f"the sensor was within {most:.1f} C of its set point (limit {limit:.1f} C)"
    return summarize(check, bad, text, n_frames=n, value=most, limit=limit, unit="C")
