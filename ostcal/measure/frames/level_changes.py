"""Checks of the levels of a series: jumps, drift and light of biases and darks, the steadiness of the lamp of flats."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.series_facts import MANY_FRAMES, SeriesFacts, alarm, in_percent, summarize
from ostcal.measure.frames.trend import TREND_FRAMES, Trend, find_growing_shape, find_trend, first_above

Float = NDArray[np.float64]

_MAY_REACH = "light may reach the sensor"

WARMER_C = 0.5
"""Frames that are so much warmer than the others are brighter, and glow more, without any light."""


def _jump_limit_adu(series: SeriesFacts) -> float:
    """Return the change of the level of one bias or dark frame that is a jump."""
    limits = series.limits
    return max(limits.least_adu, limits.jump_noises * series.noise_adu, 6 * series.level_noise_adu)


def check_drift(series: SeriesFacts) -> list[Finding]:
    """Judge the levels of bias or dark frames: jumps, and a trend that is significant and large."""
    limits, n = series.limits, series.survey.n_frames
    jump_limit = _jump_limit_adu(series)
    trend = find_trend(series.level_adu, jump_limit)
    bad = _jumps(series, trend, jump_limit, "ADU")
    text = f"no frame is more than {jump_limit:.3g} ADU from its neighbours"
    findings = summarize("level jump", bad, text, n_frames=n, value=0.0, limit=jump_limit, unit="ADU")
    limit = max(limits.least_adu, limits.drift_noises * series.noise_adu, 6 * series.level_noise_adu)
    change = abs(trend.change)
    text = f"the level changes by {trend.change:+.3g} ADU over the series (limit {limit:.3g} ADU)"
    text += trend.why_no_trend(limit)
    bad = []
    if trend.is_beyond(limit):
        bad = [alarm("drift", change, limit, text, series.frame(trend.first_beyond(limit)), "ADU")]
    return findings + summarize("drift", bad, text, n_frames=n, value=change, limit=limit, unit="ADU")


def check_mixture(series: SeriesFacts) -> list[Finding]:
    """Judge whether about half of bias frames or darks have another level: the master is then at neither of the two.

    The two groups are those on both sides of the largest gap between levels, if it is most of their whole range.
    """
    limits, n = series.limits, series.survey.n_frames
    limit = max(5 * limits.least_adu, limits.mixture_noises * series.noise_adu, 6 * series.level_noise_adu)
    order = np.argsort(series.level_adu, kind="stable")
    gaps = np.diff(series.level_adu[order])
    bad, gap = [], 0.0
    if len(gaps):
        first_high = int(np.argmax(gaps)) + 1
        groups = order[:first_high], order[first_high:]
        gap = float(gaps[first_high - 1])
        smaller = min(groups, key=len)
        if gap > limit and gap > gaps.sum() / 2 and len(smaller) >= limits.mixture_share * len(order):
            low, high = (float(np.median(series.level_adu[group])) for group in groups)
            named = ", ".join(str(series.frame(i) + 1) for i in sorted(smaller)[:8])
            named += ", ..." if len(smaller) > 8 else ""
            text = (
                f"{len(groups[0])} frames are at {low:.6g} ADU and {len(groups[1])} at {high:.6g} ADU (limit "
                f"{limit:.3g} ADU apart); one group is frames number {named}, and nothing tells which are right"
            )
            bad = [alarm("mixture", gap, limit, text, None, "ADU", outcome=Outcome.FAIL)]
    text = f"levels do not fall into two groups (largest gap {gap:.3g} ADU, limit {limit:.3g} ADU)"
    return summarize("mixture", bad, text, n_frames=n, value=gap, limit=limit, unit="ADU")


def check_lamp(series: SeriesFacts) -> list[Finding]:
    """Judge how steady the lamp is by the levels of flats of one exposure.

    Levels of twilight are not judged: they change smoothly, in one direction, and by more than those of a lamp.
    """
    limits, n = series.limits, series.survey.n_frames
    typical, is_twilight = float(np.median(series.level_adu)), False
    if len(series.level_adu) >= 3 and series.level_adu.min() > 0:
        steps = np.diff(np.log(series.level_adu))
        is_far = abs(float(steps.sum())) > limits.twilight_share
        is_twilight = is_far and bool(np.all(steps > 0) or np.all(steps < 0))
    if not series.is_same_exposure or typical <= 0 or is_twilight:
        text = "levels are not compared: exposures differ, or the light changes as the sky does"
        return [
            Finding(check=check, outcome=Outcome.PASS, value=None, limit=None, text=text)
            for check in ("level jump", "lamp drift", "lamp scatter")
        ]
    noise = series.level_noise_adu / typical
    limit = max(limits.lamp_jump_share, 6 * noise)
    trend = find_trend(series.level_adu / typical, limit)
    text = f"no frame is more than {in_percent(limit)} from its neighbours"
    bad = _jumps(series, trend, limit, "")
    findings = summarize("level jump", bad, text, n_frames=n, value=0.0, limit=limit)
    limit, change = limits.lamp_drift_share, abs(trend.change)
    text = f"the light changes by {100 * trend.change:+.2f} % over the series (limit {in_percent(limit)})"
    text += trend.why_no_trend(limit)
    bad = []
    if trend.is_beyond(limit):
        bad = [alarm("lamp drift", change, limit, text, series.frame(trend.first_beyond(limit)))]
    findings += summarize("lamp drift", bad, text, n_frames=n, value=change, limit=limit)
    limit = max(limits.lamp_scatter_share, 3 * noise)
    text = f"the light scatters by {100 * trend.scatter:.2f} % from frame to frame (limit {in_percent(limit)})"
    scatters = trend.scatter > limit and trend.n >= TREND_FRAMES
    bad = [alarm("lamp scatter", trend.scatter, limit, text, None)] if scatters else []
    return findings + summarize("lamp scatter", bad, text, n_frames=n, value=trend.scatter, limit=limit)


def _jumps(series: SeriesFacts, trend: Trend, limit: float, unit: str) -> list[Finding]:
    """Return a warning for each frame that jumps, for the few on one side of a step, or for the first after it."""

    def shown(value: float) -> str:
        return f"{value:+.3g} ADU" if unit else in_percent(value)

    bound = shown(limit).lstrip("+")
    bad = []
    for i, jump in sorted(trend.jumps.items()):
        text = f"its level, {series.level_adu[i]:.6g} ADU, is {shown(jump)} from that of its neighbours (limit {bound})"
        if i != trend.step_at:
            bad.append(alarm("level jump", abs(jump), limit, text, series.frame(i), unit))
    if trend.step_at is None:
        return bad
    sides = range(trend.step_at), range(trend.step_at, trend.n)
    fewer = min(sides, key=len)
    if len(sides[0]) != len(sides[1]) and len(fewer) <= MANY_FRAMES:
        for i in fewer:
            step = trend.step if i >= trend.step_at else -trend.step
            text = (
                f"its level, {series.level_adu[i]:.6g} ADU, is {shown(step)} from that of most frames (limit {bound})"
            )
            bad.append(alarm("level jump", abs(step), limit, text, series.frame(i), unit))
    else:
        text = f"from here on the level is {shown(trend.step)} from what it was (limit {bound})"
        bad.append(alarm("level jump", abs(trend.step), limit, text, series.frame(trend.step_at), unit))
    return bad


def check_light_leak(series: SeriesFacts, read_noise_adu: float | None, gain_e_per_adu: float | None) -> list[Finding]:
    """Judge whether light reached bias or dark frames.

    The shape of a frame is its cells less its level, less the median of that over the series. The range of 64 cells of
    pure noise is 4.8 sigma; differences from the median of 3 frames are as large as those of 40. What grows while the
    sensor becomes warmer is dark current.
    """
    limits = series.limits
    shape = series.cells_adu - series.level_adu[:, np.newaxis]
    shape = np.asarray(shape - np.median(shape, axis=0))
    ranges = np.asarray(shape.max(axis=1) - shape.min(axis=1))
    usual = 4 * float(np.median(ranges)) if len(series.index) >= 3 else 0.0
    limit = max(limits.least_adu, limits.dark_shape_noises * series.noise_adu, 9 * series.cell_noise_adu, usual)
    bad = _light_in_series(series, read_noise_adu, gain_e_per_adu)
    rise_limit = max(limits.least_adu, limits.rise_share * series.max_adu)
    trend = find_trend(series.level_adu, _jump_limit_adu(series))
    if trend.change > 0 and trend.is_beyond(rise_limit) and not _warms_up(series):
        text = f"the level grows by {trend.change:.4g} ADU over the series (limit {rise_limit:.4g} ADU)"
        frame = series.frame(first_above(series.level_adu - series.level_adu[0], rise_limit))
        bad.append(alarm("light leak", trend.change, rise_limit, f"{text}: {_MAY_REACH}", frame, "ADU"))
    elif len(series.index) >= 3:
        bad += _light_in_frames(series, shape, ranges, limit, rise_limit)
    most = float(ranges.max(initial=0.0))
    text = f"frames differ by up to {most:.3g} ADU in shape (limit {limit:.3g} ADU), and by no light"
    return summarize("light leak", bad, text, n_frames=series.survey.n_frames, value=most, limit=limit, unit="ADU")


def _warms_up(series: SeriesFacts) -> bool:
    """Return whether the last frames of a series are warmer or colder than the first: its cooler was off, or late."""
    few = max(2, len(series.index) // 5)
    return abs(float(np.median(series.warmer_c[-few:]) - np.median(series.warmer_c[:few]))) > WARMER_C


def _light_in_series(series: SeriesFacts, read_noise_adu: float | None, gain_e_per_adu: float | None) -> list[Finding]:
    """Judge the whole series: a signal that its shot noise shows, else a slope across the frames.

    Photon transfer: variance = read noise^2 + signal / gain. The slope is that of medians of halves: glow in the
    corners is in neither. A slope of the bias is the amplifier's own, in bias frames and in darks.
    """
    if not math.isfinite(series.max_adu):
        return []
    limits = series.limits
    if read_noise_adu and gain_e_per_adu and series.noise_is_known:
        signal = (series.noise_adu**2 - read_noise_adu**2) * gain_e_per_adu
        limit = (limits.leak_share + limits.leak_share_per_s * series.exposure_s) * series.max_adu
        if signal > limit:
            text = f"its noise, {series.noise_adu:.3g} ADU, is that of {signal:.4g} ADU of light or dark current"
            return [alarm("light leak", signal, limit, f"{text} (limit {limit:.4g} ADU): {_MAY_REACH}", None, "ADU")]
    if series.kind is FrameType.BIAS:
        return []
    typical = np.median(series.cells_adu, axis=0)
    if series.amplifier_adu is not None:
        typical = np.nan_to_num(typical - series.amplifier_adu)
    slopes = [
        2 * float(np.median(typical[place > 0]) - np.median(typical[place < 0]))
        for place in series.cell_places.T
        if (place > 0).any() and (place < 0).any()
    ]
    slope = max(map(abs, slopes), default=0.0)
    limit = (limits.gradient_share + limits.gradient_share_per_s * series.exposure_s) * series.max_adu
    own = "without bias frames, the amplifier's own slope is in it; else " if series.amplifier_adu is None else ""
    text = f"levels differ by {slope:.4g} ADU across the frames (limit {limit:.4g} ADU): {own}{_MAY_REACH}"
    return [alarm("light leak", slope, limit, text, None, "ADU")] if slope > limit else []


def _light_in_frames(
    series: SeriesFacts, shape: Float, ranges: Float, limit: float, rise_limit: float
) -> list[Finding]:
    """Judge single frames: a shape that grows, or differs by more than `limit`; a level above that of the others.

    Light only adds: the darker frames are the good ones, even where half of them saw light. Warmer frames, which have
    more dark current, are not judged.
    """
    limits = series.limits
    rise = series.level_adu - np.percentile(series.level_adu, 25)
    differs = np.zeros(len(shape), np.bool_)
    if series.has_shape:
        least = max(limits.least_adu, limits.dark_shape_noises * series.noise_adu)
        growth = find_growing_shape(shape, least, series.cell_noise_adu)
        if growth is not None and _warms_up(series):
            return []
        if growth is not None:
            first, change = growth
            text = f"from here on the shape changes, by {change:.4g} ADU in the end (limit {least:.3g} ADU)"
            return [alarm("light leak", change, least, text, series.frame(first), "ADU")]
        differs = ranges > limit
    bad = []
    for i in np.flatnonzero((differs | (rise > rise_limit)) & (series.warmer_c <= WARMER_C)):
        what, value, bound = "different in parts from the others by", float(ranges[i]), limit
        if rise[i] > rise_limit:
            what, value, bound = "brighter than the others by", float(rise[i]), rise_limit
        text = f"it is {what} {value:.4g} ADU (limit {bound:.3g} ADU): {_MAY_REACH}"
        bad.append(alarm("light leak", value, bound, text, series.frame(i), "ADU"))
    return bad
