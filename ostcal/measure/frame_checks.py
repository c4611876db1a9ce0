"""Checks of the frames of a series against each other and against limits, from the survey of the series.

Every check gives at least one finding, so that a report can list what was looked at: a passing one for the series, or
those that are no pass, each about one frame or, where many frames are concerned, one about the worst that counts them.
What drifts or grows is about the first frame beyond the limit. Levels are
medians of the cells of a frame; the noise is that of a sample, from the differences of neighbouring frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome, outcome_above
from ostcal.measure.frames import outlying_frames, rejected_limit
from ostcal.measure.survey import GRID, SeriesSurvey

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrameLimits:
    """Where frames begin to be worth a warning, or spoil a master; shares of full scale are of the highest ADU."""

    saturated_share: float = 0.01
    """Of the pixels, warning. Hot pixels of a long dark reach 0.2 %."""
    saturated_share_fail: float = 0.1
    """Failure: a tenth of the frame says nothing."""
    zero_share: float = 0.001
    """Of the pixels, warning: with an offset 3.1 noises above 0 it is 0.1 %, and the mean of the pixels is wrong."""
    zero_share_fail: float = 0.05
    """Failure: rows that were never read out, or an offset of less than 1.6 noises."""
    missing_share: float = 0.01
    """Of the pixels that are no numbers, warning: more than a mask of bad pixels and columns."""
    dark_level_share: float = 0.25
    """Of full scale, for bias and dark: offsets are below 10 %, and a dark this bright is mostly shot noise."""
    temperature_c: float = 1.0
    """From the median of the series, degrees Celsius: dark current then changes by 12 % at a doubling in 6 degrees."""
    set_point_c: float = 1.0
    """From the set point, degrees Celsius: the same as while capturing."""
    drift_noises: float = 0.5
    """Bias and dark: level change over the series, in noises of a sample; adds 2 % to the variance of a pixel."""
    jump_noises: float = 1.0
    """Bias and dark: one frame or a step, in noises of a sample; with it rejection at 3 sigma begins to see it."""
    least_adu: float = 1.0
    """No change of level below it counts: quiet sensors round to 1 ADU."""
    leak_share: float = 0.001
    """Of full scale, for the light in a whole series of darks: 66 ADU at 16 bits, as while capturing."""
    leak_share_per_s: float = 1e-4
    """And for each second of exposure, 6.6 ADU: dark current of a warm sensor."""
    gradient_share: float = 5e-4
    """Of full scale, across a series of darks: 33 ADU; slopes that amplifiers leave in bias frames are below 20."""
    gradient_share_per_s: float = 2e-5
    """And for each second, 1.3 ADU: glow reaches into the frame; most of it is in cells that medians leave out."""
    rise_share: float = 5e-4
    """Of full scale, brighter than the other darks: 33 ADU is light rather than a change of the offset."""
    flat_low_share: float = 0.2
    """Of full scale; below it the photon noise of a flat is more than twice that of a full one."""
    flat_high_share: float = 0.8
    """Of full scale; above it sensors leave linearity, and the brightest pixels may be full."""
    lamp_drift_share: float = 0.02
    """Of the level, over the series, for flats of one exposure; lamps that are warm stay within 1 %."""
    lamp_jump_share: float = 0.02
    """Of the level, one frame or a step; normal lamps scatter by 0.3 %, of which it is 7 sigma."""
    lamp_scatter_share: float = 0.01
    """Of the level, standard deviation about the trend: three times that of a normal lamp."""
    twilight_share: float = 0.25
    """A smooth change of the level by more is the sky's, not a lamp's; lamps warm up by 10 to 20 %."""
    flat_shape_share: float = 0.01
    """Any cell of a flat against the median of the series, slopes aside: an error of 1 % in what is divided by it."""
    flat_gradient_share: float = 0.05
    """Slope from edge to edge against that of the median: twilight turns by 1 to 3 % in a series."""
    dark_shape_noises: float = 0.5
    """Range of the cells of a dark against the median of the series, in noises of a sample."""
    residual_factor: float = 1.3
    """Noise of a frame over that of the median frame. Clean ones differ by 2 %, up to 15 % among 4 or 5 frames (see
    `ostcal.measure.survey`); a frame with 1.3 has a weight of 0.6."""
    outlying_share: float = 0.001
    """Pixels further than 5 noises from the others, warning: a cosmic ray takes 4, a dark of 300 s has 0.05 %."""
    outlying_factor: float = 4.0
    """And this many times those of the median frame: a long dark has as many in every frame."""
    flat_outlying_share_fail: float = 0.25
    """Failure of a flat: a quarter of the pixels shows something else. Another kind of frame, or half of one."""
    dark_outlying_share_fail: float = 0.02
    """Failure of a bias or dark: a picture of the sky, or rows that are missing; a picture of Jupiter has 4 %."""


_SHAPE_PIXELS = 64
"""Pixels of a cell from which on shapes are compared: a cosmic ray takes 4 and counts 5 noises, 0.3 of them here."""


@dataclass(frozen=True, kw_only=True)
class _Series:
    """What all checks look at. Frames without numbers are left out of it; `index` says which are in."""

    kind: FrameType
    survey: SeriesSurvey
    limits: FrameLimits
    max_adu: float
    """Infinity where it is not known."""
    exposure_s: float
    is_same_exposure: bool
    noise_adu: float
    noise_is_known: bool
    index: NDArray[np.int64]
    cells: Float
    """(frames, cells), those that have pixels."""
    has_shape: bool
    """Whether cells have pixels enough for a cosmic ray not to move them."""
    cell_sigma: float
    """Noise of the level of a cell, ADU."""
    level_sigma: float
    """Noise of the level of a frame, ADU."""
    where: Float
    """(cells, 2): places of the cells, -0.5 to 0.5, down and across."""
    level: Float
    """(frames,)"""

    @property
    def is_flat(self) -> bool:
        return self.kind is FrameType.FLAT


def check_frames(
    kind: FrameType,
    survey: SeriesSurvey,
    *,
    exposures_s: Sequence[float | None],
    temperatures_c: Sequence[float | None],
    set_points_c: Sequence[float | None],
    max_adu: float | None,
    read_noise_adu: float | None = None,
    gain_e_per_adu: float | None = None,
    limits: FrameLimits | None = None,
) -> list[Finding]:
    """Judge the frames of a series.

    Parameters
    ----------
    kind : FrameType
        Bias, dark or flat.
    survey : SeriesSurvey
        Of n frames; of flats at a common level.
    exposures_s, temperatures_c, set_points_c : sequence of n float or None
        In the order of the frames; ``None`` where a header does not say.
    max_adu : float or None
        Full scale; ``None`` where it is not known (floats), and then what depends on it is not judged.
    read_noise_adu, gain_e_per_adu : float or None
        With both, light in a whole series of darks is seen by its shot noise.
    limits : FrameLimits, optional

    Returns
    -------
    list of Finding
        At least one of each check; at most one of each check and frame.

    Raises
    ------
    ValueError
        If a sequence does not have n values.
    """
    for name, values in (("exposures", exposures_s), ("temperatures", temperatures_c), ("set points", set_points_c)):
        if len(values) != survey.n_frames:
            raise ValueError(f"{len(values)} {name} for a survey of {survey.n_frames} frames")
    limits = limits or FrameLimits()
    full_adu = math.inf if max_adu is None else float(max_adu)
    findings = _range(survey, limits) + _saturation(survey, limits)
    findings += _temperature(temperatures_c, limits) + _set_point(temperatures_c, set_points_c, limits)
    series = _series(kind, survey, limits, full_adu, exposures_s, read_noise_adu)
    if len(series.index) == 0:
        return findings
    findings += _level(series)
    findings += _lamp(series) if series.is_flat else _drift_and_jumps(series)
    findings += _flat_shape(series) if series.is_flat else _light(series, read_noise_adu, gain_e_per_adu)
    return findings + _bad_frame(series)


def check_rejected(rejected_per_frame: Sequence[int], n_pixels: int) -> list[Finding]:
    """Judge how many samples each frame lost to rejection; the frames are those that were combined.

    Parameters
    ----------
    rejected_per_frame : sequence of int
        Samples of each frame that were not kept.
    n_pixels : int
        Pixels of a frame.
    """
    shares = [count / max(1, n_pixels) for count in rejected_per_frame]
    limit = rejected_limit(rejected_per_frame, n_pixels) / max(1, n_pixels)
    bad = [
        Finding(
            check="rejected samples",
            outcome=Outcome.WARN,
            value=shares[i],
            limit=limit,
            text=f"{_percent(shares[i])} of its pixels were rejected (limit {_percent(limit)})",
            frame=i,
        )
        for i in outlying_frames(rejected_per_frame, n_pixels)
    ]
    most = max(shares, default=0.0)
    text = f"no frame lost more than {_percent(most)} of its pixels to rejection (limit {_percent(limit)})"
    return _judged("rejected samples", bad, len(shares), most, limit, "", text)


# ---- what findings are made of ----


def _judged(
    check: str, bad: Sequence[Finding], n_frames: int, value: float | None, limit: float | None, unit: str, text: str
) -> list[Finding]:
    """Give the findings that are no pass, one for all where they are many, or a passing one with `text`."""
    if not bad:
        return [Finding(check=check, outcome=Outcome.PASS, value=value, limit=limit, unit=unit, text=text)]
    by_frame: dict[int | None, Finding] = {}
    for finding in bad:
        by_frame.setdefault(finding.frame, finding)
    whole = by_frame.pop(None, None)
    single = list(by_frame.values())
    if len(single) > max(_MANY, n_frames // 4):
        counted = _counted(single, n_frames)
        single = []
        whole = counted if whole is None else replace(counted, text=f"{whole.text}; {counted.text}")
    return single if whole is None else [whole, *single]


_MANY = 3
"""Frames that are named one by one; of long series a quarter."""


def _counted(findings: Sequence[Finding], n_frames: int) -> Finding:
    """Give one finding for many frames, about the worst of them, and how many there are."""
    worst = max(findings, key=lambda finding: (finding.outcome is Outcome.FAIL, abs(finding.value or 0.0)))
    return replace(worst, text=f"{worst.text}; it is the worst of {len(findings)} of {n_frames} frames")


def _warning(check: str, value: float, limit: float, unit: str, text: str, frame: int | None) -> Finding:
    return Finding(check=check, outcome=Outcome.WARN, value=value, limit=limit, unit=unit, text=text, frame=frame)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _mad_std(values: Float) -> float:
    """Give the standard deviation that the median of the distances from the median says."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _series(
    kind: FrameType,
    survey: SeriesSurvey,
    limits: FrameLimits,
    max_adu: float,
    exposures_s: Sequence[float | None],
    read_noise_adu: float | None,
) -> _Series:
    filled = survey.cell_pixels.reshape(-1) > 0
    cells = survey.cells_adu.reshape(survey.n_frames, -1)[:, filled]
    index = np.flatnonzero(np.isfinite(cells).all(axis=1) & filled.any())
    variances = survey.pair_variance_adu2[np.isfinite(survey.pair_variance_adu2)]
    known = [value for value in exposures_s if value is not None]
    exposure_s = float(np.median(known)) if known else 0.0
    pixels = float(np.median(survey.cell_pixels.reshape(-1)[filled])) if filled.any() else 1.0
    noise_adu = read_noise_adu or 1.0
    if len(variances):
        noise_adu = math.sqrt(float(np.median(variances)))
    elif len(index) > 1:  # cells of one pixel have no variance, but they differ from frame to frame
        change = np.diff(cells[index] - np.median(cells[index], axis=1, keepdims=True), axis=0)
        noise_adu = max(noise_adu, float(np.std(change)) / math.sqrt(2) * math.sqrt(pixels))
    places = (np.indices((GRID, GRID)).reshape(2, -1).T / (GRID - 1) - 0.5)[filled]
    return _Series(
        kind=kind,
        survey=survey,
        limits=limits,
        max_adu=max_adu,
        exposure_s=exposure_s,
        is_same_exposure=all(abs(value - exposure_s) <= 0.01 * exposure_s for value in known),
        noise_adu=noise_adu,
        noise_is_known=len(variances) > 0,
        index=index,
        cells=cells[index],
        has_shape=pixels >= _SHAPE_PIXELS and len(index) >= 3,
        cell_sigma=noise_adu / math.sqrt(pixels),
        level_sigma=1.25 * noise_adu / math.sqrt(max(1, survey.n_pixels)),
        where=places,
        level=np.median(cells[index], axis=1) if len(index) else np.zeros(0),
    )


# ---- one frame by itself ----


_FEW = 10
"""Pixels that say nothing by themselves: frames of 8 x 8 pixels have hot ones too."""


def _range(survey: SeriesSurvey, limits: FrameLimits) -> list[Finding]:
    """All samples equal, no numbers, or clipped at 0; where a frame has values below 0, it is not clipped there."""
    bad = []
    low = float(np.nanmin(survey.minimum_adu)) if np.isfinite(survey.minimum_adu).any() else math.nan
    high = float(np.nanmax(survey.maximum_adu)) if np.isfinite(survey.maximum_adu).any() else math.nan
    share = survey.zeros / max(1, survey.n_pixels)
    for i in range(survey.n_frames):
        finding = _missing(survey, i, limits) or _constant(survey, i)
        if finding is None and low >= 0 and survey.zeros[i] > _FEW:
            outcome, limit = outcome_above(float(share[i]), limits.zero_share, limits.zero_share_fail)
            text = f"{_percent(share[i])} of its pixels are 0 (limit {_percent(limit)})"
            finding = Finding(
                check="range", outcome=outcome, value=float(share[i]), limit=limit, unit="", text=text, frame=i
            )
        if finding is not None and finding.outcome is not Outcome.PASS:
            bad.append(finding)
    text = f"samples are between {low:g} and {high:g} ADU"
    return _judged("range", bad, survey.n_frames, float(share.max(initial=0.0)), limits.zero_share, "", text)


def _missing(survey: SeriesSurvey, i: int, limits: FrameLimits) -> Finding | None:
    share = float(survey.missing[i] / max(1, survey.n_pixels))
    outcome, limit = outcome_above(share, limits.missing_share)  # no failure: they are in no master
    if outcome is Outcome.PASS:
        return None
    text = f"{_percent(share)} of its pixels are no numbers (limit {_percent(limit)})"
    return Finding(check="range", outcome=outcome, value=share, limit=limit, unit="", text=text, frame=i)


def _constant(survey: SeriesSurvey, i: int) -> Finding | None:
    if survey.minimum_adu[i] != survey.maximum_adu[i]:
        return None
    text = f"all of its pixels are {survey.minimum_adu[i]:g} ADU"
    return Finding(check="range", outcome=Outcome.FAIL, value=0.0, limit=0.0, unit="ADU", text=text, frame=i)


def _saturation(survey: SeriesSurvey, limits: FrameLimits) -> list[Finding]:
    bad = []
    share = survey.saturated / max(1, survey.n_pixels)
    for i in np.flatnonzero(survey.saturated > _FEW):
        outcome, limit = outcome_above(float(share[i]), limits.saturated_share, limits.saturated_share_fail)
        text = f"{_percent(share[i])} of its pixels are saturated (limit {_percent(limit)})"
        if outcome is not Outcome.PASS:
            finding = Finding(check="saturation", outcome=outcome, value=float(share[i]), limit=limit, text=text)
            bad.append(replace(finding, frame=int(i)))
    most, limit = float(share.max(initial=0.0)), limits.saturated_share
    text = f"no frame has more than {_percent(most)} of its pixels saturated (limit {_percent(limit)})"
    return _judged("saturation", bad, survey.n_frames, most, limit, "", text)


def _level(series: _Series) -> list[Finding]:
    """Mean and standard deviation of the frames; flats within their target, darks far below full scale."""
    survey, limits = series.survey, series.limits
    check = "flat level" if series.is_flat else "level"
    mean, std = survey.mean_adu[series.index], survey.std_adu[series.index]
    text = (
        f"means are {mean.min():.6g} to {mean.max():.6g} ADU, standard deviations {std.min():.4g} to {std.max():.4g} "
        "ADU"
    )
    low = limits.flat_low_share if series.is_flat else -math.inf
    high = limits.flat_high_share if series.is_flat else limits.dark_level_share
    # of flats the bright cells, so that spectrographs, dark at the edges, have a level
    level = np.percentile(series.cells, 90, axis=1) if series.is_flat else series.level
    share = level / series.max_adu
    bad = []
    for i in np.flatnonzero((share < low) | (share > high)) if math.isfinite(series.max_adu) else []:
        limit = low if share[i] < low else high
        side = "below" if share[i] < low else "above"
        line = f"its level, {level[i]:.6g} ADU, is {side} {_percent(limit)} of full scale ({_percent(share[i])})"
        bad.append(_warning(check, float(share[i]), limit, "", line, int(series.index[i])))
    known = math.isfinite(series.max_adu)
    value = float(np.median(share)) if known else None
    return _judged(check, bad, survey.n_frames, value, high if known else None, "", text)


# ---- temperature ----


def _temperature(temperatures_c: Sequence[float | None], limits: FrameLimits) -> list[Finding]:
    known = {i: value for i, value in enumerate(temperatures_c) if value is not None and math.isfinite(value)}
    limit = limits.temperature_c
    if not known:
        return _judged("temperature", [], len(temperatures_c), None, limit, "C", "no frame has a temperature")
    typical = float(np.median(list(known.values())))
    bad = [
        _warning(
            "temperature",
            abs(value - typical),
            limit,
            "C",
            f"its temperature, {value:.1f} C, is {value - typical:+.1f} C from the median of its series "
            f"(limit {limit:.1f} C)",
            i,
        )
        for i, value in known.items()
        if abs(value - typical) > limit + 1e-6
    ]
    low, high = min(known.values()), max(known.values())
    text = f"temperatures are {low:.1f} to {high:.1f} C, within {limit:.1f} C of their median, {typical:.1f} C"
    return _judged("temperature", bad, len(temperatures_c), high - low, limit, "C", text)


def _set_point(
    temperatures_c: Sequence[float | None], set_points_c: Sequence[float | None], limits: FrameLimits
) -> list[Finding]:
    limit, n = limits.set_point_c, len(temperatures_c)
    distances = {
        i: ccd - target
        for i, (ccd, target) in enumerate(zip(temperatures_c, set_points_c, strict=True))
        if ccd is not None and target is not None and math.isfinite(ccd - target)
    }
    bad = [
        _warning(
            "set point",
            abs(distance),
            limit,
            "C",
            f"the sensor was {distance:+.1f} C from its set point, {set_points_c[i]:.1f} C (limit {limit:.1f} C)",
            i,
        )
        for i, distance in distances.items()
        if abs(distance) > limit + 1e-6
    ]
    if not distances:
        return _judged("set point", [], n, None, limit, "C", "no frame has both a temperature and a set point")
    most = max(map(abs, distances.values()))
    text = f"the sensor was within {most:.1f} C of its set point (limit {limit:.1f} C)"
    return _judged("set point", bad, n, most, limit, "C", text)


# ---- levels over the series ----


_TREND_FRAMES = 5
"""A trend needs as many frames; of three, one in three pure noise goes up or down all the way."""

_TREND_SIGMAS = 5.0


@dataclass(frozen=True, kw_only=True)
class _Course:
    """How a number goes over the frames of a series: single frames that are off, a step, a trend, and the rest."""

    jumps: dict[int, float]
    """By place in the series: how far that frame is from its neighbours."""
    step_at: int | None
    """First frame after the step."""
    step: float
    trend: float
    """Change from the first to the last frame, jumps and step aside."""
    trend_error: float
    scatter: float
    """Standard deviation about the trend."""


def _course(values: Float, jump_limit: float) -> _Course:
    """Take a sequence apart; limits of jumps and steps also stay above 6 times the usual scatter."""
    n = len(values)
    if n < 3:
        apart = float(values[-1] - values[0])
        step_at = 1 if abs(apart) > jump_limit else None
        return _Course(jumps={}, step_at=step_at, step=apart, trend=0.0, trend_error=0.0, scatter=abs(apart))
    step_at, step = _step(values, jump_limit)
    level = values.copy()
    if step_at is not None:
        level[step_at:] -= step
    even = level - _slope(level) * np.arange(n)
    limit = max(jump_limit, 6 * _mad_std(even - _neighbours(even))) if n >= _TREND_FRAMES else jump_limit
    jumps: dict[int, float] = {}
    for _ in range(n // 3):  # the worst first: it may be what makes its neighbours look odd
        apart_from_others = even - _neighbours(even)
        worst = int(np.argmax(np.abs(apart_from_others)))
        if abs(apart_from_others[worst]) <= limit:
            break
        jumps[worst] = float(apart_from_others[worst])
        even[worst] -= jumps[worst]
        level[worst] -= jumps[worst]
    trend, error, scatter = _trend(level)
    return _Course(jumps=jumps, step_at=step_at, step=step, trend=trend, trend_error=error, scatter=scatter)


def _neighbours(values: Float) -> Float:
    """Give the median of the four nearest others of each value, of all others where there are fewer."""
    n = len(values)
    width = min(5, n)
    places = np.arange(n)[:, np.newaxis]
    near = np.clip(places - 2, 0, n - width) + np.arange(width)
    return np.asarray(np.median(values[near[near != places]].reshape(n, width - 1), axis=1))


def _step(values: Float, limit: float) -> tuple[int | None, float]:
    """Find the frame from which on all are higher or lower: sums of distances, which single frames do not decide."""
    n = len(values)
    if n < 4:
        return None, 0.0
    costs = [_distances(values[:k]) + _distances(values[k:]) for k in range(2, n - 1)]
    at = 2 + int(np.argmin(costs))
    step = float(np.median(values[at:]) - np.median(values[:at]))
    here = float(np.median(values[at : at + 3]) - np.median(values[max(0, at - 3) : at]))
    # of a pure line a step leaves half of the distances
    line = _distances(values - _slope(values) * np.arange(n))
    if min(costs) >= 0.5 * line or abs(step) <= limit or abs(here) <= max(limit, abs(step)) / 2:
        return None, 0.0
    return at, step


def _distances(values: Float) -> float:
    return float(np.abs(values - np.median(values)).sum())


def _slope(values: Float) -> float:
    """Give the change from frame to frame: the median of the changes over half the series."""
    n = len(values)
    half = max(1, n // 2)
    change = values[half:] - values[:-half]
    if n < _TREND_FRAMES and np.abs(change).max() > 1.5 * abs(float(change.mean())):
        return 0.0  # one frame makes it, not all
    return float(np.median(change)) / half


def _trend(values: Float) -> tuple[float, float, float]:
    """Give the change over the series, its error, and the scatter about it, from differences over half the series."""
    n = len(values)
    slope = _slope(values)
    rest = values - slope * np.arange(n)
    # 1.25: the error of a median; 3.5: that of a line over its length, in errors of a mean
    scatter = max(_mad_std(rest), float(np.std(rest)) / 2)
    return slope * (n - 1), 3.5 * 1.25 * scatter / math.sqrt(n), scatter


def _jump_findings(series: _Series, course: _Course, limit: float, unit: str) -> list[Finding]:
    """Name frames that jump, and the first after a step."""

    def shown(value: float) -> str:
        return f"{_percent(value)}" if unit == "" else f"{value:+.3g} ADU"

    bad = [
        _warning(
            "level jump",
            abs(jump),
            limit,
            unit,
            f"its level, {series.level[i]:.6g} ADU, is {shown(jump)} from that of its neighbours "
            f"(limit {shown(limit).lstrip('+')})",
            int(series.index[i]),
        )
        for i, jump in sorted(course.jumps.items())
    ]
    if course.step_at is not None:
        text = f"from here on the level is {shown(course.step)} from what it was (limit {shown(limit).lstrip('+')})"
        frame = int(series.index[course.step_at])
        bad = [finding for finding in bad if finding.frame != frame]
        bad.append(_warning("level jump", abs(course.step), limit, unit, text, frame))
    return bad


def _drift_and_jumps(series: _Series) -> list[Finding]:
    """Judge the levels of bias or dark frames: jumps, and a trend that is significant and large."""
    limits, n = series.limits, series.survey.n_frames
    jump_limit = _jump_limit_adu(series)
    course = _course(series.level, jump_limit)
    bad = _jump_findings(series, course, jump_limit, "ADU")
    text = f"no frame is more than {jump_limit:.3g} ADU from its neighbours"
    findings = _judged("level jump", bad, n, 0.0, jump_limit, "ADU", text)
    limit = max(limits.least_adu, limits.drift_noises * series.noise_adu, 6 * series.level_sigma)
    change, drifts = course.trend, _is_drift(course, limit, len(series.index))
    text = f"the level changes by {change:+.3g} ADU over the series (limit {limit:.3g} ADU)"
    text += _why_no_trend(course, limit, drifts, len(series.index))
    bad = [_warning("drift", abs(change), limit, "ADU", text, _end_of_good(series, course, limit))] if drifts else []
    return findings + _judged("drift", bad, n, abs(change), limit, "ADU", text)


def _jump_limit_adu(series: _Series) -> float:
    limits = series.limits
    return max(limits.least_adu, limits.jump_noises * series.noise_adu, 6 * series.level_sigma)


def _is_drift(course: _Course, limit: float, n_frames: int) -> bool:
    return (
        n_frames >= _TREND_FRAMES
        and abs(course.trend) > limit
        and abs(course.trend) > _TREND_SIGMAS * course.trend_error
    )


def _end_of_good(series: _Series, course: _Course, limit: float) -> int:
    """Give the first frame that a trend has carried beyond the limit."""
    last = len(series.index) - 1
    return int(series.index[min(last, 1 + math.floor(limit / abs(course.trend) * last))])


def _why_no_trend(course: _Course, limit: float, is_drift: bool, n_frames: int) -> str:
    """Say why a change beyond the limit is no trend."""
    if is_drift or abs(course.trend) <= limit:
        return ""
    return ", but they are too few to tell" if n_frames < _TREND_FRAMES else ", no more than they scatter"


def _lamp(series: _Series) -> list[Finding]:
    """Judge the levels of flats: those of one exposure say how steady the lamp is, those of twilight say nothing."""
    limits, n = series.limits, series.survey.n_frames
    typical = float(np.median(series.level))
    if not series.is_same_exposure or typical <= 0 or _is_twilight(series):
        text = "levels are not compared: exposures differ, or the light changes as the sky does"
        return [
            Finding(check=check, outcome=Outcome.PASS, value=None, limit=None, text=text)
            for check in ("level jump", "lamp drift", "lamp scatter")
        ]
    sigma = series.level_sigma / typical
    limit = max(limits.lamp_jump_share, 6 * sigma)
    course = _course(series.level / typical, limit)
    bad = _jump_findings(series, course, limit, "")
    text = f"no frame is more than {_percent(limit)} from its neighbours"
    findings = _judged("level jump", bad, n, 0.0, limit, "", text)
    limit = limits.lamp_drift_share
    drifts = _is_drift(course, limit, len(series.index))
    text = f"the light changes by {100 * course.trend:+.2f} % over the series (limit {_percent(limit)})"
    text += _why_no_trend(course, limit, drifts, len(series.index))
    first = _end_of_good(series, course, limit) if drifts else None
    bad = [_warning("lamp drift", abs(course.trend), limit, "", text, first)] if drifts else []
    findings += _judged("lamp drift", bad, n, abs(course.trend), limit, "", text)
    limit, scatter = max(limits.lamp_scatter_share, 3 * sigma), course.scatter
    text = f"the light scatters by {100 * scatter:.2f} % from frame to frame (limit {_percent(limit)})"
    scatters = scatter > limit and len(series.index) >= _TREND_FRAMES
    bad = [_warning("lamp scatter", scatter, limit, "", text, None)] if scatters else []
    return findings + _judged("lamp scatter", bad, n, scatter, limit, "", text)


def _is_twilight(series: _Series) -> bool:
    """Tell whether the level changes far and smoothly: by more than a lamp does, and in one direction."""
    level = series.level
    if len(level) < 3 or level.min() <= 0:
        return False
    change = np.diff(np.log(level))
    return abs(float(change.sum())) > series.limits.twilight_share and bool(np.all(change > 0) or np.all(change < 0))


# ---- shapes ----


def _light(series: _Series, read_noise_adu: float | None, gain_e_per_adu: float | None) -> list[Finding]:
    """Judge whether light reached bias or dark frames: in the whole series, while it went on, or in single frames."""
    whole = _light_by_noise(series, read_noise_adu, gain_e_per_adu) or _light_across(series)
    growing = _light_growing(series)
    bad = [whole] if whole is not None else []
    bad += [growing] if growing is not None else _light_in_frames(series)
    limit = _dark_shape_limit(series)
    most = float(_ranges(series).max(initial=0.0))
    text = f"frames differ by up to {most:.3g} ADU in shape (limit {limit:.3g} ADU), and by no light"
    return _judged("light leak", bad, series.survey.n_frames, most, limit, "ADU", text)


def _light_by_noise(series: _Series, read_noise_adu: float | None, gain_e_per_adu: float | None) -> Finding | None:
    """Estimate signal from its shot noise: variance = read noise^2 + signal / gain (photon transfer)."""
    if not (read_noise_adu and gain_e_per_adu and series.noise_is_known and math.isfinite(series.max_adu)):
        return None
    signal = (series.noise_adu**2 - read_noise_adu**2) * gain_e_per_adu
    limits = series.limits
    limit = (limits.leak_share + limits.leak_share_per_s * series.exposure_s) * series.max_adu
    text = (
        f"its noise, {series.noise_adu:.3g} ADU, is that of {signal:.4g} ADU of light or dark current "
        f"(limit {limit:.4g} ADU): light may reach the sensor"
    )
    return _warning("light leak", signal, limit, "ADU", text, None) if signal > limit else None


def _light_across(series: _Series) -> Finding | None:
    """Judge the slope of the whole series, from medians of halves: glow in the corners is in neither."""
    if not math.isfinite(series.max_adu):
        return None
    typical = np.median(series.cells, axis=0)
    slopes = [
        2 * float(np.median(typical[place > 0]) - np.median(typical[place < 0]))
        for place in series.where.T
        if (place > 0).any() and (place < 0).any()
    ]
    slope = max(map(abs, slopes), default=0.0)
    limits = series.limits
    limit = (limits.gradient_share + limits.gradient_share_per_s * series.exposure_s) * series.max_adu
    text = f"levels differ by {slope:.4g} ADU across the frames (limit {limit:.4g} ADU): light may reach the sensor"
    return _warning("light leak", slope, limit, "ADU", text, None) if slope > limit else None


def _light_growing(series: _Series) -> Finding | None:
    limit = max(series.limits.least_adu, series.limits.rise_share * series.max_adu)
    course = _course(series.level, _jump_limit_adu(series))
    if not (course.trend > 0 and _is_drift(course, limit, len(series.index))):
        return None
    frame = int(series.index[_first_beyond(series.level - series.level[0], limit)])
    text = (
        f"the level grows by {course.trend:.4g} ADU over the series (limit {limit:.4g} ADU): light may reach the sensor"
    )
    return _warning("light leak", course.trend, limit, "ADU", text, frame)


def _first_beyond(values: Float, limit: float) -> int:
    """Give the first place whose value is beyond the limit; the last where none is."""
    beyond = np.flatnonzero(np.abs(values) > limit)
    return int(beyond[0]) if len(beyond) else len(values) - 1


def _shape(series: _Series) -> Float:
    """Give the cells of each dark less its level, less the median of the series: (frames, cells), ADU."""
    shape = series.cells - series.level[:, np.newaxis]
    return np.asarray(shape - np.median(shape, axis=0))


def _ranges(series: _Series) -> Float:
    shape = _shape(series)
    return np.asarray(shape.max(axis=1) - shape.min(axis=1))


def _dark_shape_limit(series: _Series) -> float:
    limits = series.limits
    # the range of 64 cells of pure noise is 4.8 sigma; differences from the median of 3 are as large as those of 40
    usual = 4 * float(np.median(_ranges(series))) if len(series.index) >= 3 else 0.0
    return max(limits.least_adu, limits.dark_shape_noises * series.noise_adu, 9 * series.cell_sigma, usual)


def _light_in_frames(series: _Series) -> list[Finding]:
    if len(series.index) < 3:
        return []
    limit, shape = _dark_shape_limit(series), _shape(series)
    ranges = _ranges(series) if series.has_shape else np.zeros(len(shape))
    rise_limit = max(series.limits.least_adu, series.limits.rise_share * series.max_adu)
    # light only adds: the darker frames are the good ones, even where half of them saw light
    rise = series.level - np.percentile(series.level, 25)
    least = max(series.limits.least_adu, series.limits.dark_shape_noises * series.noise_adu)
    grown = _grown(shape, least, series.cell_sigma) if series.has_shape else None
    if grown is not None:
        text = f"from here on the shape changes, by {grown.change:.4g} ADU in the end (limit {least:.3g} ADU)"
        return [_warning("light leak", grown.change, least, "ADU", text, int(series.index[grown.first]))]
    bad = []
    for i in np.flatnonzero((ranges > limit) | (rise > rise_limit)):
        brighter = rise[i] > rise_limit
        value, bound = (float(rise[i]), rise_limit) if brighter else (float(ranges[i]), limit)
        what = "brighter than the others by" if brighter else "different in parts from the others by"
        text = f"it is {what} {value:.4g} ADU (limit {bound:.3g} ADU): light may reach the sensor"
        bad.append(_warning("light leak", value, bound, "ADU", text, int(series.index[i])))
    return bad


@dataclass(frozen=True, kw_only=True)
class _Growth:
    first: int
    """Place of the first frame beyond the limit."""
    change: float
    """Range of the cells between the last and the first frames."""


def _grown(shape: Float, limit: float, sigma: float) -> _Growth | None:
    """Find a shape that grows along the series: the end differs from the start, and the middle is in between."""
    n = len(shape)
    if n < _TREND_FRAMES:
        return None
    few = max(2, n // 5)
    start, end = np.median(shape[:few], axis=0), np.median(shape[-few:], axis=0)
    pattern = end - start
    pattern = pattern - np.median(pattern)
    change = float(pattern.max() - pattern.min())
    between = np.diff(shape, axis=0)
    usual = float(np.median(between.max(axis=1) - between.min(axis=1)))
    # what grows differs little from frame to frame; noise, as much as from end to end
    if change <= max(limit, 9 * sigma, 2.5 * usual):
        return None
    amplitude = (shape - start) @ pattern / float(pattern @ pattern)
    course = _course(amplitude, 0.5)
    if course.step_at is not None or course.trend < 0.5 or course.trend < _TREND_SIGMAS * course.trend_error:
        return None
    return _Growth(first=_first_beyond(np.maximum(amplitude, 0) * change, limit), change=change)


def _flat_shape(series: _Series) -> list[Finding]:
    """Judge whether flats differ in more than level and slope: condensation, clouds, something before the lens."""
    limits, n = series.limits, series.survey.n_frames
    check, limit = "flat shape", limits.flat_shape_share
    if not series.has_shape or series.level.min() <= 0:
        return _judged(check, [], n, None, limit, "", "too few frames or pixels to compare their shapes")
    slopes, rest = _flat_parts(series)
    sigma = series.cell_sigma / float(np.median(series.level))
    limit = max(limit, 6 * sigma)
    most = np.abs(rest).max(axis=1)
    bad = []
    grown = _grown(rest, 1.5 * limit, sigma)
    if grown is not None:
        text = f"from here on the shape changes, by {_percent(grown.change)} in the end (limit {_percent(limit)})"
        bad = [_warning(check, grown.change, limit, "", text, int(series.index[grown.first]))]
    else:
        for i in np.flatnonzero((most > limit) | (slopes > limits.flat_gradient_share)):
            spot = most[i] > limit
            value, bound = (most[i], limit) if spot else (slopes[i], limits.flat_gradient_share)
            what = "a part of it" if spot else "its slope"
            text = f"{what} differs by {_percent(value)} from the other flats (limit {_percent(bound)})"
            bad.append(_warning(check, float(value), bound, "", text, int(series.index[i])))
    highest = float(most.max())
    text = f"shapes differ by up to {_percent(highest)} (limit {_percent(limit)}), slopes by {_percent(slopes.max())}"
    return _judged(check, bad, n, highest, limit, "", text)


def _flat_parts(series: _Series) -> tuple[Float, Float]:
    """Give the slope of each flat from edge to edge, and what is left of each cell: shares of the level.

    Where levels differ, the offset, which is not light, changes the contrast of vignetting by its share of the level:
    then differences in contrast are taken out as well.
    """
    ratio = series.cells / series.level[:, np.newaxis]
    typical = np.median(ratio, axis=0)
    typical = np.where(typical > 0, typical, 1.0)
    difference = ratio / typical - 1
    columns = [np.ones(len(typical)), *series.where.T]
    if series.level.max() > 1.1 * series.level.min():
        columns.append(1 / typical - np.mean(1 / typical))
    basis = np.stack(columns, axis=1)
    fitted = np.linalg.lstsq(basis, difference.T, rcond=None)[0]
    slopes = np.hypot(fitted[1], fitted[2])
    return np.asarray(slopes), np.asarray(difference - (basis @ fitted).T)


# ---- every frame against the others ----


def _bad_frame(series: _Series) -> list[Finding]:
    """Judge noise and outlying pixels of each frame against those of the typical frame of the series."""
    survey, limits, n = series.survey, series.limits, series.survey.n_frames
    check = "unlike others"
    if len(series.index) < 3:
        text = "too few frames to tell which is unlike the others"
        return _judged(check, [], n, None, limits.residual_factor, "", text)
    residual = survey.residual_std_adu[series.index]
    # shot noise grows with the root of the level
    scale = np.ones(len(residual))
    if series.is_flat and series.level.min() > 0:
        scale = np.sqrt(series.level / np.median(series.level))
    relative = residual / scale
    factor = relative / max(float(np.median(relative)), 1e-3)
    outlying = survey.residual_outlying[series.index]
    least = (limits.outlying_factor * float(np.median(outlying)) * survey.n_pixels + 2 * _FEW) / survey.n_pixels
    limit = max(limits.outlying_share, least)
    bad = []
    for i in range(len(series.index)):
        finding = _unlike(float(factor[i]), float(outlying[i]), limit, series)
        if finding is not None:
            bad.append(replace(finding, frame=int(series.index[i])))
    most = float(factor.max())
    text = (
        f"no frame has more than {most:.2f} times the noise of the median frame (limit {limits.residual_factor:g}) or "
        f"{_percent(float(outlying.max()))} of its pixels beyond 5 noises (limit {_percent(limit)})"
    )
    return _judged(check, bad, n, most, limits.residual_factor, "", text)


def _unlike(factor: float, outlying: float, outlying_limit: float, series: _Series) -> Finding | None:
    limits = series.limits
    fail_above = limits.flat_outlying_share_fail if series.is_flat else limits.dark_outlying_share_fail
    if outlying > outlying_limit:
        outcome, limit = outcome_above(outlying, outlying_limit, max(outlying_limit, fail_above))
        other = outcome is Outcome.FAIL
        which = "another kind of frame, or a part of one" if other else "look at it: a satellite, clouds, or a fault"
        text = (
            f"{_percent(outlying)} of its pixels are beyond 5 noises from the others (limit {_percent(limit)}): {which}"
        )
        return Finding(check="unlike others", outcome=outcome, value=outlying, limit=limit, text=text)
    if factor > limits.residual_factor:
        text = f"its noise is {factor:.2f} times that of the median frame (limit {limits.residual_factor:g})"
        return Finding(
            check="unlike others", outcome=Outcome.WARN, value=factor, limit=limits.residual_factor, text=text
        )
    return None
