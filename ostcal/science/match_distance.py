"""How far a master is from a light in each setting."""

from __future__ import annotations

from dataclasses import dataclass

from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey


@dataclass(frozen=True, kw_only=True)
class KeyDistance:
    """A setting of a light and of a master."""

    key: str
    light: str | None
    """As text; null if it is not recorded."""
    master: str | None
    difference: float | None
    """Of numbers, that of the master less that of the light; null if one is not recorded or no number."""


def distances_of(light: GroupKey, master: GroupKey) -> tuple[KeyDistance, ...]:
    """Return how far a master is from a light in the settings that count for its kind."""
    a, b = light.settings, master.settings
    found = [_of_words("camera", a.camera_label, b.camera_label)]
    if master.frame_type is FrameType.DARK:
        found.append(_of_numbers("exposure_time_s", light.exposure_time_s, master.exposure_time_s))
    if master.frame_type is not FrameType.FLAT:
        found.append(_of_numbers("temperature_c", light.temperature_c, master.temperature_c))
    else:
        found.append(_of_words("filter", light.filter_name, master.filter_name))
        found.append(_of_words("bayer_pattern", light.bayer_pattern, master.bayer_pattern))
    found.append(_of_numbers("gain", a.gain, b.gain))
    found.append(_of_numbers("offset", a.offset, b.offset))
    found.append(_of_words("binning", "{}x{}".format(*a.binning), "{}x{}".format(*b.binning)))
    found.append(_of_words("readout_mode", a.readout_mode, b.readout_mode))
    return tuple(one for one in found if one.light is not None or one.master is not None)


def _of_numbers(key: str, light: float | None, master: float | None) -> KeyDistance:
    difference = master - light if light is not None and master is not None else None
    return KeyDistance(key=key, light=_text(light), master=_text(master), difference=difference)


def _of_words(key: str, light: str | None, master: str | None) -> KeyDistance:
    return KeyDistance(key=key, light=light, master=master, difference=None)


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"
