"""Groups that hold more than their rule: a wide range of temperatures, or flats of several nights; each is said."""

from __future__ import annotations

from ostcal.frames import FrameType
from ostcal.inputs.grouping import Group, GroupRules, describe, same_temperature
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
    if group.key.frame_type is not FrameType.FLAT or group.key.night is not None or rules.session != "night":
        return ""
    dates = (frame.metadata.date_obs for frame in group.frames)
    nights = {night for when in dates if (night := night_of(when, group.key.noon_utc_s)) is not None}
    if len(nights) < 2:
        return ""
    return (
        f"{describe(group)}: of {len(nights)} nights, {min(nights)} to {max(nights)}, each with fewer than min_frames"
        f" {rules.min_frames}; they are combined all the same"
    )
