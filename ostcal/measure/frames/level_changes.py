"""Checks of the levels of a series: jumps and drift of biases and darks, the steadiness of the lamp of flats."""

from __future__ import annotations

import numpy as np

from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.series_facts import SeriesFacts, alarm, in_percent, summarize
from ostcal.measure.frames.trend import TREND_FRAMES, Trend, find_trend


def jump_limit_adu(series: SeriesFacts) -> float:
    """Return the change of the level of one bias or dark frame that is a jump."""
    limits = series.limits
    return max(limits.least_adu, limits.jump_noises * series.noise_adu, 6 * series.level_noise_adu)


def check_drift(series: SeriesFacts) -> list[Finding]:
    """Judge the levels of bias or dark frames: jumps, and a trend that is significant and large."""
    limits, n = series.limits, series.survey.n_frames
    jump_limit = jump_limit_adu(series)
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
    """Return a warning for each frame that jumps, and for the first after a step."""

    def shown(value: float) -> str:
        return f"{value:+.3g} ADU" if unit else in_percent(value)

    bound = shown(limit).lstrip("+")
    bad = []
    for i, jump in sorted(trend.jumps.items()):
        text = f"its level, {series.level_adu[i]:.6g} ADU, is {shown(jump)} from that of its neighbours (limit {bound})"
        if i != trend.step_at:
            bad.append(alarm("level jump", abs(jump), limit, text, series.frame(i), unit))
    if trend.step_at is not None:
        text = f"from here on the level is {shown(trend.step)} from what it was (limit {bound})"
        bad.append(alarm("level jump", abs(trend.step), limit, text, series.frame(trend.step_at), unit))
    return bad
