"""Which settings a master leaves open: an equal setting goes before one that is not recorded."""

from __future__ import annotations

from ostcal.frames import FrameType, Optics
from ostcal.inputs.grouping import GroupKey

SETTINGS = ("camera", "camera_id", "gain", "offset", "readout_mode", "iso", "subframe_origin", "row_order", "flip")


def unstated_settings(frame: GroupKey, master: GroupKey) -> tuple[str, ...]:
    """Name what a frame records and a master does not: of masters that fit, the one with the fewest is nearest.

    The temperature counts for bias and darks; filter, colours, telescope and the angle of the camera for flats.
    """
    pairs: list[tuple[str, object, object]] = []
    if frame.settings is not master.settings:
        pairs = [
            (name.replace("_", " "), getattr(frame.settings, name), getattr(master.settings, name)) for name in SETTINGS
        ]
    if master.frame_type is FrameType.FLAT:
        ours, its = frame.optics, master.optics
        pairs += [
            ("filter", frame.filter_name or None, master.filter_name or None),
            ("Bayer pattern", frame.bayer_pattern, master.bayer_pattern),
            ("telescope", ours.telescope, its.telescope),
            ("focal length", ours.focal_length_mm, its.focal_length_mm),
            ("angle of the camera", _angle_deg(ours), _angle_deg(its)),
        ]
    else:
        pairs += [("temperature", frame.temperature_c, master.temperature_c)]
    return tuple(name for name, of_frame, of_master in pairs if of_frame is not None and of_master is None)


def _angle_deg(optics: Optics) -> float | None:
    return optics.sky_angle_deg if optics.rotator_deg is None else optics.rotator_deg
