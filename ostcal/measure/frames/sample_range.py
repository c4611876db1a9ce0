"""Checks of single frames: samples that are all alike, missing, clipped at 0 or saturated."""

from __future__ import annotations

import math

import numpy as np

from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.frames.series_facts import FEW_PIXELS
from ostcal.measure.frames.summary import percent, summarize, warning
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.limits import FrameLimits


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
            text = f"{percent(missing[i])} of its pixels are no numbers (limit {percent(limits.missing_share)})"
            bad.append(warning("range", float(missing[i]), limits.missing_share, text, i))
        elif survey.minimum_adu[i] == survey.maximum_adu[i]:
            text = f"all of its pixels are {survey.minimum_adu[i]:g} ADU"
            bad.append(
                Finding(check="range", outcome=Outcome.FAIL, value=0.0, limit=0.0, unit="ADU", text=text, frame=i)
            )
        elif low >= 0 and survey.zeros[i] > FEW_PIXELS:
            outcome, limit = outcome_above(float(zero[i]), limits.zero_share, limits.zero_share_fail)
            text = f"{percent(zero[i])} of its pixels are 0 (limit {percent(limit)})"
            bad.append(Finding(check="range", outcome=outcome, value=float(zero[i]), limit=limit, text=text, frame=i))
    bad = [finding for finding in bad if finding.outcome is not Outcome.PASS]
    text = f"samples are between {low:g} and {high:g} ADU"
    most = float(zero.max(initial=0.0))
    return summarize("range", bad, text, n_frames=survey.n_frames, value=most, limit=limits.zero_share)


def check_saturation(survey: SeriesSurvey, limits: FrameLimits) -> list[Finding]:
    """Judge the share of saturated pixels of each frame."""
    bad = []
    share = survey.saturated / max(1, survey.n_pixels)
    for i in np.flatnonzero(survey.saturated > FEW_PIXELS):
        outcome, limit = outcome_above(float(share[i]), limits.saturated_share, limits.saturated_share_fail)
        text = f"{percent(share[i])} of its pixels are saturated (limit {percent(limit)})"
        if outcome is not Outcome.PASS:
            value, frame = float(share[i]), int(i)
            bad.append(Finding(check="saturation", outcome=outcome, value=value, limit=limit, text=text, frame=frame))
    most, limit = float(share.max(initial=0.0)), limits.saturated_share
    text = f"no frame has more than {percent(most)} of its pixels saturated (limit {percent(limit)})"
    return summarize("saturation", bad, text, n_frames=survey.n_frames, value=most, limit=limit)
