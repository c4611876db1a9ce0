"""Whether a master has a setting that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ostcal.frames import Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import optics_differ

OF_FLATS = ("rotation_deg", "telescope", "focal_length_mm")
"""Settings of the light path, which bias and darks do not have."""


def has_setting(
    key: GroupKey, name: str, value: Any, *, temperature_tolerance_c: float, rotation_tolerance_deg: float
) -> bool:
    """Return whether a master has a setting, by the name that callers give it."""
    if name == "binning":
        return key.settings.binning == ((value, value) if isinstance(value, int) else tuple(value))
    if name == "temperature_c":
        return key.temperature_c is not None and abs(key.temperature_c - value) <= temperature_tolerance_c
    if name in OF_FLATS:
        its = key.optics
        own = its.rotator_deg if its.rotator_deg is not None else its.sky_angle_deg
        asked = {
            "rotation_deg": Optics(rotator_deg=value),
            "telescope": Optics(telescope=value),
            "focal_length_mm": Optics(focal_length_mm=value),
        }[name]
        is_known = {"rotation_deg": own, "telescope": its.telescope, "focal_length_mm": its.focal_length_mm}[name]
        mine = replace(its, rotator_deg=own)
        return is_known is not None and not optics_differ(asked, mine, rotation_tolerance_deg)
    return bool(getattr(key if name in ("width", "height") else key.settings, name) == value)
