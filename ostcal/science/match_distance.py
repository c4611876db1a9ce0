"""How far a master is from a light in each setting."""

from __future__ import annotations

from dataclasses import dataclass

from ostcal.frames import FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import angles_of_both
from ostcal.inputs.stated_settings import unstated_settings


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Settings of a master less those of lights; null where one is not recorded or it does not count for the kind.

    Other settings are equal, or one side does not record them.
    """

    exposure_time_s: float | None
    temperature_c: float | None
    rotation_deg: float | None
    """From -180 to 180."""
    gain: float | None
    offset: float | None
    unrecorded: tuple[str, ...] = ()
    """Settings that the lights record and the master does not."""


def distances_of(light: GroupKey, master: GroupKey) -> Distances:
    """Return how far a master is from a light in the settings that count for its kind."""
    is_flat = master.frame_type is FrameType.FLAT
    angles = angles_of_both(light.optics, master.optics) if is_flat else None
    turn = _difference(*angles) if angles is not None else None
    is_dark = master.frame_type is FrameType.DARK
    return Distances(
        exposure_time_s=_difference(light.exposure_time_s, master.exposure_time_s) if is_dark else None,
        temperature_c=None if is_flat else _difference(light.temperature_c, master.temperature_c),
        rotation_deg=None if turn is None else round((turn + 180) % 360 - 180, 3),
        gain=_difference(light.settings.gain, master.settings.gain),
        offset=_difference(light.settings.offset, master.settings.offset),
        unrecorded=unstated_settings(light, master),
    )


def rotation_of(optics: Optics) -> float | None:
    """Return how the camera was turned: the angle of the rotator, else that on the sky."""
    return optics.rotator_deg if optics.rotator_deg is not None else optics.sky_angle_deg


def _difference(light: float | None, master: float | None) -> float | None:
    return round(master - light, 6) if light is not None and master is not None else None
