"""Checks of frames that are unlike the others: the shape of flats, noise and outlying pixels, rejected samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.frames.series_facts import FEW_PIXELS, SeriesFacts, alarm, in_percent, summarize
from ostcal.measure.frames.trend import find_growing_shape

OUTLYING_SHARE = 0.05
"""A frame that lost this share of its pixels is worth a look; at 3 sigma a good one loses 0.3 to 2 %."""
OUTLYING_FACTOR = 4.0
"""And it must have lost this many times what the median frame lost."""


def check_flat_shape(series: SeriesFacts) -> list[Finding]:
    """Judge whether flats differ in more than level and slope: condensation, clouds, something before the lens.

    Cells are compared as shares of the level with the median of the series, slopes across the frame taken out. Where
    levels differ, the offset, which is not light, changes the contrast of vignetting by its share of the level:
    differences in contrast are then taken out too.
    """
    limits, n = series.limits, series.survey.n_frames
    check, limit = "flat shape", limits.flat_shape_share
    if not series.has_shape or series.level_adu.min() <= 0:
        text = "too few frames or pixels to compare their shapes"
        return summarize(check, [], text, n_frames=n, limit=limit)
    ratio = series.cells_adu / series.level_adu[:, np.newaxis]
    typical = np.median(ratio, axis=0)
    typical = np.where(typical > 0, typical, 1.0)
    difference = ratio / typical - 1
    columns = [np.ones(len(typical)), *series.cell_places.T]
    if series.level_adu.max() > 1.1 * series.level_adu.min():
        columns.append(1 / typical - np.mean(1 / typical))
    basis = np.stack(columns, axis=1)
    fitted = np.linalg.lstsq(basis, difference.T, rcond=None)[0]
    slopes = np.hypot(fitted[1], fitted[2])  # from edge to edge
    rest = difference - (basis @ fitted).T
    noise = series.cell_noise_adu / float(np.median(series.level_adu))
    limit = max(limit, 6 * noise)
    most = np.abs(rest).max(axis=1)
    bad = []
    growth = find_growing_shape(rest, 1.5 * limit, noise)
    if growth is not None:
        first, change = growth
        text = f"from here on the shape changes, by {in_percent(change)} in the end (limit {in_percent(limit)})"
        bad = [alarm(check, change, limit, text, series.frame(first))]
    else:
        for i in np.flatnonzero((most > limit) | (slopes > limits.flat_gradient_share)):
            what, value, bound = "its slope", float(slopes[i]), limits.flat_gradient_share
            if most[i] > limit:
                what, value, bound = "a part of it", float(most[i]), limit
            text = f"{what} differs by {in_percent(value)} from the other flats (limit {in_percent(bound)})"
            bad.append(alarm(check, value, bound, text, series.frame(i)))
    highest = float(most.max())
    text = f"shapes differ by up to {in_percent(highest)} (limit {in_percent(limit)}), "
    text += f"slopes by {in_percent(slopes.max())}"
    return summarize(check, bad, text, n_frames=n, value=highest, limit=limit)


def check_parity(series: SeriesFacts) -> list[Finding]:
    """Judge whether even and odd rows, or columns, differ otherwise in some frames than in the others.

    Amplifiers that read every second row, and interlaced sensors, may do that; the levels of cells do not show it. The
    light of flats of another colour changes rows and columns of a Bayer sensor alike, which is no fault.
    """
    limits, n, check = series.limits, series.survey.n_frames, "row pattern"
    parity = series.survey.parity_adu[series.index]
    if len(parity) < 3 or not np.isfinite(parity).all() or (series.is_flat and series.level_adu.min() <= 0):
        return summarize(check, [], "too few frames or pixels to compare their rows", n_frames=n)
    noise = 2.5 * series.noise_adu / np.sqrt(max(1, series.survey.n_pixels))
    limit, unit = max(limits.least_adu, limits.dark_shape_noises * series.noise_adu, 6 * noise), "ADU"
    if series.is_flat:
        level = series.level_adu[:, np.newaxis]
        parity, limit, unit = parity / level, max(limits.flat_shape_share, 6 * noise / float(np.median(level))), ""

    def shown(value: float) -> str:
        return f"{value:.3g} {unit}" if unit else in_percent(value)

    differs = parity - np.median(parity, axis=0)
    alike = np.abs(differs).min(axis=1) if series.is_flat else np.zeros(len(differs))
    bad, most = [], 0.0
    for axis, lines in enumerate(("rows", "columns")):
        apart = float(np.ptp(differs[:, axis]))
        excess = np.abs(differs[:, axis]) - alike
        most = max(most, apart if excess.max() > limit / 2 else float(excess.max()))
        if apart <= limit:
            continue
        for i in np.flatnonzero(excess > limit / 2):
            word = "brighter" if differs[i, axis] > 0 else "darker"
            text = (
                f"even {lines} are {shown(abs(float(differs[i, axis])))} {word} against odd ones than in the median "
                f"frame; frames disagree in shape by {shown(apart)} (limit {shown(limit)})"
            )
            bad.append(alarm(check, apart, limit, text, series.frame(i), unit))
    text = f"even and odd rows, and columns, differ alike in all frames, within {shown(most)} (limit {shown(limit)})"
    return summarize(check, bad, text, n_frames=n, value=most, limit=limit, unit=unit)


def check_unlike(series: SeriesFacts) -> list[Finding]:
    """Judge the noise of each frame, and its pixels beyond 5 noises; shot noise grows with the root of the level."""
    survey, limits, n = series.survey, series.limits, series.survey.n_frames
    check = "unlike others"
    if len(series.index) < 3:
        text = "too few frames to tell which is unlike the others"
        return summarize(check, [], text, n_frames=n, limit=limits.residual_factor)
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
            text = (
                f"{in_percent(share)} of its pixels are beyond 5 noises from the others (limit {in_percent(bound)}): "
            )
            is_failure = outcome is Outcome.FAIL
            text += (
                "another kind of frame, or a part of one"
                if is_failure
                else "look at it: a satellite, clouds, or a fault"
            )
            bad.append(alarm(check, share, bound, text, series.frame(i), outcome=outcome))
        elif factor[i] > limits.residual_factor:
            text = f"its noise is {factor[i]:.2f} times that of the median frame (limit {limits.residual_factor:g})"
            bad.append(alarm(check, float(factor[i]), limits.residual_factor, text, series.frame(i)))
    most = float(factor.max())
    text = (
        f"no frame has more than {most:.2f} times the noise of the median frame (limit {limits.residual_factor:g}) or "
        f"{in_percent(float(outlying.max()))} of its pixels beyond 5 noises (limit {in_percent(limit)})"
    )
    return summarize(check, bad, text, n_frames=n, value=most, limit=limits.residual_factor)


def outlying_frames(rejected_per_frame: Sequence[int], n_pixels: int) -> list[int]:
    """Return the frames that lost far more of their pixels to rejection than the others.

    Of each frame `rejected_per_frame` samples were not kept, of `n_pixels`.
    """
    if len(rejected_per_frame) < 3 or n_pixels == 0:
        return []
    limit = _limit(rejected_per_frame, n_pixels)
    return [index for index, count in enumerate(rejected_per_frame) if count > limit]


def check_rejected(rejected_per_frame: Sequence[int], n_pixels: int) -> list[Finding]:
    """Judge how many samples each combined frame lost to rejection; parameters as of `outlying_frames`."""
    shares = [count / max(1, n_pixels) for count in rejected_per_frame]
    limit = _limit(rejected_per_frame, n_pixels) / max(1, n_pixels)
    bad = []
    for i in outlying_frames(rejected_per_frame, n_pixels):
        text = f"{in_percent(shares[i])} of its pixels were rejected (limit {in_percent(limit)})"
        bad.append(alarm("rejected samples", shares[i], limit, text, i))
    most = max(shares, default=0.0)
    text = f"no frame lost more than {in_percent(most)} of its pixels to rejection (limit {in_percent(limit)})"
    return summarize("rejected samples", bad, text, n_frames=len(shares), value=most, limit=limit)


def _limit(rejected_per_frame: Sequence[int], n_pixels: int) -> float:
    """Return the rejected samples of a frame up to which it is like the others."""
    typical = statistics.median(rejected_per_frame) if rejected_per_frame else 0.0
    return max(OUTLYING_SHARE * n_pixels, OUTLYING_FACTOR * typical)
