"""Nights between which the level of a camera changes by more than its noise: bias and darks are not combined over them.

An offset that no header states, or another driver, moves the level from one night to the next. A few frames of each
night show it. What a bias or a short dark shows is true of longer darks too, whose own noise may hide it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.inputs.grouping import Frame, Group, GroupRules
from ostcal.inputs.groups import LevelBreak
from ostcal.inputs.image_sets import group_images
from ostcal.measure.limits import FrameLimits
from ostcal.naming import night_of

SamplesOf = Callable[[Frame], NDArray[np.float64] | None]
"""Gives a few rows of a frame, ADU; ``None`` where they cannot be read."""

_FRAMES_PER_NIGHT = 5
_SIGMA_OF_MEDIAN = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


@dataclass(frozen=True, kw_only=True)
class _NightLevel:
    """What a few frames of a night say."""

    night: date
    n_frames: int
    level_adu: float
    noise_adu: float
    """Of a pixel; NaN where there is one frame."""
    n_pixels: int


def level_breaks(
    frames: Iterable[Frame], rules: GroupRules, samples_of: SamplesOf, limits: FrameLimits
) -> tuple[LevelBreak, ...]:
    """Return where the level of bias or darks of one group differs from that of the nights of it before.

    It differs where `FrameLimits.mixture_noises` and its like would tell two levels apart. Nothing is read where each
    group is of one night. Where no part would have enough frames for a master, the group stays whole.
    """
    if rules.per_session or rules.window_days is None:
        return ()
    dark = [f for f in frames if f.metadata.frame_type in (FrameType.BIAS, FrameType.DARK) and not f.file]
    grouping = group_images(dark, replace(rules, max_frames=None))
    found: list[LevelBreak] = []
    for group in grouping.groups:
        nights = _nights(group)
        if len(nights) < 2:
            continue
        levels = [one for night in sorted(nights) if (one := _level_of(night, nights[night], samples_of))]
        of_group = _breaks_of(group, levels, limits)
        if any(n >= rules.min_frames for n in _parts(nights, of_group)):
            found += of_group
    return tuple(found)


def said_of_breaks(breaks: Sequence[LevelBreak], groups: Sequence[Group]) -> list[str]:
    """Return a line for each change of the level that parts groups, not one for each exposure."""
    said: dict[tuple[str, date, date], LevelBreak] = {}
    for one in sorted(breaks, key=lambda one: (one.exposure_time_s, one.after)):
        if any(one.is_of(group.key.settings, group.key.exposure_time_s) for group in groups):
            said.setdefault((one.settings.camera_label or "camera", one.after, one.before), one)
    return [
        f"{camera}: the level of {one.kind} is {one.step_adu:+.4g} ADU from the night {after} to {before} (limit"
        f" {one.limit_adu:.3g} ADU): bias and darks are not combined over this (master_frames.window_days)"
        for (camera, after, before), one in said.items()
    ]


def _nights(group: Group) -> dict[date, list[Frame]]:
    nights: defaultdict[date, list[Frame]] = defaultdict(list)
    for frame in group.frames:
        night = night_of(frame.metadata.date_obs, group.key.noon_utc_s)
        if night is not None:
            nights[night].append(frame)
    return dict(nights)


def _level_of(night: date, frames: Sequence[Frame], samples_of: SamplesOf) -> _NightLevel | None:
    """Look at a few frames of a night, evenly spread; ``None`` where none can be read."""
    places = np.unique(np.linspace(0, len(frames) - 1, _FRAMES_PER_NIGHT).round().astype(int))
    rows = [
        values for place in places if (values := samples_of(frames[place])) is not None and np.isfinite(values).any()
    ]
    if not rows:
        return None
    noises = [float(np.nanmedian(np.abs((b - a) - np.nanmedian(b - a)))) for a, b in pairwise(rows)]
    return _NightLevel(
        night=night,
        n_frames=len(frames),
        level_adu=median(float(np.nanmedian(values)) for values in rows),
        noise_adu=_SIGMA_OF_MEDIAN * median(noises) / math.sqrt(2) if noises else math.nan,
        n_pixels=rows[0].size,
    )


def _breaks_of(group: Group, levels: Sequence[_NightLevel], limits: FrameLimits) -> list[LevelBreak]:
    """Compare each night with the nights before it, from the last change on."""
    noises = [one.noise_adu for one in levels if math.isfinite(one.noise_adu)]
    if not noises:  # one frame a night: nothing tells a change from noise
        return []
    noise_adu = median(noises)
    breaks: list[LevelBreak] = []
    same: list[_NightLevel] = []
    for one in levels:
        if same:
            level_noise_adu = 1.25 * noise_adu / math.sqrt(one.n_pixels)
            limit_adu = max(5 * limits.least_adu, limits.mixture_noises * noise_adu, 6 * level_noise_adu)
            step_adu = one.level_adu - median(earlier.level_adu for earlier in same)
            if abs(step_adu) > limit_adu:
                breaks.append(
                    LevelBreak(
                        settings=group.key.settings,
                        kind=str(group.key.frame_type),
                        exposure_time_s=group.key.exposure_time_s,
                        after=same[-1].night,
                        before=one.night,
                        step_adu=step_adu,
                        limit_adu=limit_adu,
                    )
                )
                same = []
        same.append(one)
    return breaks


def _parts(nights: dict[date, list[Frame]], breaks: Sequence[LevelBreak]) -> list[int]:
    """Return the number of frames between changes."""
    counts = [0] * (len(breaks) + 1)
    for night, frames in nights.items():
        counts[sum(night >= one.before for one in breaks)] += len(frames)
    return counts
