"""Groups that are not what one expects: wide in temperature, of several nights, without dates; each is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from ostcal.frames import FrameType
from ostcal.inputs.grouping import REPORTED_SPREAD, Frame, Group, GroupKey, GroupRules, describe, same_temperature
from ostcal.inputs.image_sets import one_of_each_file
from ostcal.naming import night_of


def wide_temperatures(group: Group, rules: GroupRules) -> str:
    """Say how far temperatures of bias frames are apart, beyond the rule for other frames; "" where they are not."""
    known_c = [f.metadata.ccd_temperature_c for f in group.frames if f.metadata.ccd_temperature_c is not None]
    known_c = known_c or [
        f.metadata.set_temperature_c for f in group.frames if f.metadata.set_temperature_c is not None
    ]
    if group.key.frame_type is not FrameType.BIAS or not known_c:
        return ""
    low_c, high_c = min(known_c), max(known_c)
    if same_temperature(low_c, high_c, rules.temperature_tolerance_c):
        return ""
    return (
        f"{describe(group)}: taken at {low_c:.4g} to {high_c:.4g} C and combined all the same, as a bias hardly depends"
        " on the temperature (master_frames.bias_temperature_tolerance)"
    )


def several_nights(group: Group, rules: GroupRules) -> str:
    """Say that flats of several nights are one group although nights are apart; "" where they are not."""
    is_session = group.key.session_start is not None
    if group.key.frame_type is not FrameType.FLAT or is_session or rules.session == "none":
        return ""
    nights = _nights(group)
    if len(nights) < 2:
        return ""
    return (
        f"{describe(group)}: of {len(nights)} nights, {min(nights)} to {max(nights)}, each with fewer than min_frames"
        f" {rules.min_frames}; they are combined all the same"
    )


def beyond_max_frames(group: Group) -> str:
    """Say how many older frames are not in the group; "" where all are."""
    if not group.n_older:
        return ""
    n_found = len(group.frames) + group.n_older
    return f"{describe(group)}: the newest of {n_found}, the others are not used (master_frames.max_frames)"


def undated(groups: Sequence[Group]) -> list[str]:
    """Return a line for each group with frames without a date, where others of it or beside it have one."""
    groups = one_of_each_file(groups)
    lines = []
    for group in groups:
        n_undated = sum(_is_undated(frame) for frame in group.frames)
        if not n_undated:
            continue
        alike = (other for other in groups if _differ_in_time(group.key, other.key))
        if n_undated < len(group.frames):
            nights = len(_nights(group))
            others = f"those of {nights} nights" if nights > 1 else f"the {len(group.frames) - n_undated} that have one"
            what = f"{n_undated} of them without a date (DATE-OBS), combined with {others}"
        elif all(_is_undated(frame) for other in alike for frame in other.frames):
            continue
        else:
            what = "without a date (DATE-OBS), apart from those that have one; write DATE-OBS into the headers"
        lines.append(f"{describe(group)}: {what} (such as {next(f.label for f in group.frames if _is_undated(f))})")
    return lines


def apart_in_time(group: Group, rules: GroupRules) -> str:
    """Say that bias or darks are of another window or level than others; "" where there is one window."""
    key = group.key
    if key.frame_type is FrameType.FLAT or key.night is None or rules.per_session:
        return ""
    if any(one.is_of(key.settings, key.exposure_time_s) for one in rules.level_breaks):
        return f" (last on {key.night}, apart from the others in level or time)"
    return f" (last on {group.key.night}, more than {rules.window_days:g} days from the others)"


def _differ_in_time(a: GroupKey, b: GroupKey) -> bool:
    """Return whether groups differ in nothing but their time; exposures within 1 % are one."""
    one, other = (replace(key, exposure_time_s=0.0, night=None, session_start=None) for key in (a, b))
    longer_s = max(a.exposure_time_s, b.exposure_time_s)
    return one == other and abs(a.exposure_time_s - b.exposure_time_s) <= REPORTED_SPREAD * longer_s


def _nights(group: Group) -> set[date]:
    dates = (frame.metadata.date_obs for frame in group.frames)
    return {night for when in dates if (night := night_of(when, group.key.noon_utc_s)) is not None}


def _is_undated(frame: Frame) -> bool:
    return frame.metadata.date_obs is None
