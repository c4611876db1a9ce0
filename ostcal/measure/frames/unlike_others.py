"""The check of the noise and the outlying pixels of each frame against those of the typical frame of its series."""

from __future__ import annotations

import numpy as np

from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.frames.series_facts import FEW_PIXELS, SeriesFacts
from ostcal.measure.frames.summary import percent, summarize, warning

_CHECK = "unlike others"


def check_unlike(series: SeriesFacts) -> list[Finding]:
    """Judge the noise of each frame, and its pixels beyond 5 noises; shot noise grows with the root of the level."""
    survey, limits, n = series.survey, series.limits, series.survey.n_frames
    if len(series.index) < 3:
        text = "too few frames to tell which is unlike the others"
        return summarize(_CHECK, [], text, n_frames=n, limit=limits.residual_factor)
    residual = survey.residual_std_adu[series.index]
    scale = np.ones(len(residual))
    if series.is_flat and series.level_adu.min() > 0:
        scale = np.sqrt(series.level_adu / np.median(series.level_adu))
    relative = residual / scale
    factor = relative / max(float(np.median(relative)), 1e-3)
    outlying = survey.residual_outlying[series.index]
    least = (limits.outlying_factor * float(np.median(outlying)) * survey.n_pixels + 2 * FEW_PIXELS) / survey.n_pixels
    limit = max(limits.outlying_share, least)
    fail_above = limits.flat_outlying_share_fail if series.is_flat else limits.dark_outlying_share_fail
    bad = []
    for i, share in enumerate(map(float, outlying)):
        if share > limit:
            outcome, bound = outcome_above(share, limit, max(limit, fail_above))
            which = "look at it: a satellite, clouds, or a fault"
            if outcome is Outcome.FAIL:
                which = "another kind of frame, or a part of one"
            text = (
                f"{percent(share)} of its pixels are beyond 5 noises from the others (limit {percent(bound)}): {which}"
            )
            frame = series.frame(i)
            bad.append(Finding(check=_CHECK, outcome=outcome, value=share, limit=bound, text=text, frame=frame))
        elif factor[i] > limits.residual_factor:
            text = f"its noise is {factor[i]:.2f} times that of the median frame (limit {limits.residual_factor:g})"
            bad.append(warning(_CHECK, float(factor[i]), limits.residual_factor, text, series.frame(i)))
    most = float(factor.max())
    text = (
        f"no frame has more than {most:.2f} times the noise of the median frame (limit {limits.residual_factor:g}) or "
        f"{percent(float(outlying.max()))} of its pixels beyond 5 noises (limit {percent(limit)})"
    )
    return summarize(_CHECK, bad, text, n_frames=n, value=most, limit=limits.residual_factor)
