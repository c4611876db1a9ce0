"""The check for light in bias and dark frames: in the whole series, growing, or in single frames."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.findings import Finding
from ostcal.measure.frames.level_changes import jump_limit_adu
from ostcal.measure.frames.series_facts import SeriesFacts, alarm, summarize
from ostcal.measure.frames.trend import find_growing_shape, find_trend, first_above

Float = NDArray[np.float64]

_CHECK = "light leak"
_MAY_REACH = "light may reach the sensor"


def check_light_leak(series: SeriesFacts, read_noise_adu: float | None, gain_e_per_adu: float | None) -> list[Finding]:
    """Judge whether light reached bias or dark frames.

    The shape of a frame is its cells less its level, less the median of that over the series. The range of 64 cells of
    pure noise is 4.8 sigma; differences from the median of 3 frames are as large as those of 40.
    """
    limits = series.limits
    shape = series.cells_adu - series.level_adu[:, np.newaxis]
    shape = np.asarray(shape - np.median(shape, axis=0))
    ranges = np.asarray(shape.max(axis=1) - shape.min(axis=1))
    usual = 4 * float(np.median(ranges)) if len(series.index) >= 3 else 0.0
    limit = max(limits.least_adu, limits.dark_shape_noises * series.noise_adu, 9 * series.cell_noise_adu, usual)
    bad = _in_series(series, read_noise_adu, gain_e_per_adu)
    rise_limit = max(limits.least_adu, limits.rise_share * series.max_adu)
    trend = find_trend(series.level_adu, jump_limit_adu(series))
    if trend.change > 0 and trend.is_beyond(rise_limit):
        text = f"the level grows by {trend.change:.4g} ADU over the series (limit {rise_limit:.4g} ADU)"
        frame = series.frame(first_above(series.level_adu - series.level_adu[0], rise_limit))
        bad.append(alarm(_CHECK, trend.change, rise_limit, f"{text}: {_MAY_REACH}", frame, "ADU"))
    elif len(series.index) >= 3:
        bad += _in_frames(series, shape, ranges, limit, rise_limit)
    most = float(ranges.max(initial=0.0))
    text = f"frames differ by up to {most:.3g} ADU in shape (limit {limit:.3g} ADU), and by no light"
    return summarize(_CHECK, bad, text, n_frames=series.survey.n_frames, value=most, limit=limit, unit="ADU")


def _in_series(series: SeriesFacts, read_noise_adu: float | None, gain_e_per_adu: float | None) -> list[Finding]:
    """Judge the whole series: a signal that its shot noise shows, else a slope across the frames.

    Photon transfer: variance = read noise^2 + signal / gain. The slope is that of medians of halves: glow in the
    corners is in neither.
    """
    if not math.isfinite(series.max_adu):
        return []
    limits = series.limits
    if read_noise_adu and gain_e_per_adu and series.noise_is_known:
        signal = (series.noise_adu**2 - read_noise_adu**2) * gain_e_per_adu
        limit = (limits.leak_share + limits.leak_share_per_s * series.exposure_s) * series.max_adu
        if signal > limit:
            text = f"its noise, {series.noise_adu:.3g} ADU, is that of {signal:.4g} ADU of light or dark current"
            return [alarm(_CHECK, signal, limit, f"{text} (limit {limit:.4g} ADU): {_MAY_REACH}", None, "ADU")]
    typical = np.median(series.cells_adu, axis=0)
    slopes = [
        2 * float(np.median(typical[place > 0]) - np.median(typical[place < 0]))
        for place in series.cell_places.T
        if (place > 0).any() and (place < 0).any()
    ]
    slope = max(map(abs, slopes), default=0.0)
    limit = (limits.gradient_share + limits.gradient_share_per_s * series.exposure_s) * series.max_adu
    text = f"levels differ by {slope:.4g} ADU across the frames (limit {limit:.4g} ADU): {_MAY_REACH}"
    return [alarm(_CHECK, slope, limit, text, None, "ADU")] if slope > limit else []


def _in_frames(series: SeriesFacts, shape: Float, ranges: Float, limit: float, rise_limit: float) -> list[Finding]:
    """Judge single frames: a shape that grows, or differs by more than `limit`; a level above that of the others.

    Light only adds: the darker frames are the good ones, even where half of them saw light.
    """
    limits = series.limits
    rise = series.level_adu - np.percentile(series.level_adu, 25)
    differs = np.zeros(len(shape), np.bool_)
    if series.has_shape:
        least = max(limits.least_adu, limits.dark_shape_noises * series.noise_adu)
        growth = find_growing_shape(shape, least, series.cell_noise_adu)
        if growth is not None:
            text = f"from here on the shape changes, by {growth.change:.4g} ADU in the end (limit {least:.3g} ADU)"
            return [alarm(_CHECK, growth.change, least, text, series.frame(growth.first), "ADU")]
        differs = ranges > limit
    bad = []
    for i in np.flatnonzero(differs | (rise > rise_limit)):
        what, value, bound = "different in parts from the others by", float(ranges[i]), limit
        if rise[i] > rise_limit:
            what, value, bound = "brighter than the others by", float(rise[i]), rise_limit
        text = f"it is {what} {value:.4g} ADU (limit {bound:.3g} ADU): {_MAY_REACH}"
        bad.append(alarm(_CHECK, value, bound, text, series.frame(i), "ADU"))
    return bad
