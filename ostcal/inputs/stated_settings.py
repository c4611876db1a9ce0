"""Which settings a master leaves open: an equal setting goes before one that is not recorded."""

from __future__ import annotations

from collections.abc import Iterable

from ostcal.frames import FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.optics import angles_of_both, says_angle

ANGLE = "angle of the camera"
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
    is_flat = master.frame_type is FrameType.FLAT
    if is_flat:
        pairs += [
            ("filter", frame.filter_name or None, master.filter_name or None),
            ("Bayer pattern", frame.bayer_pattern, master.bayer_pattern),
        ]
    else:
        pairs += [("temperature", frame.temperature_c, master.temperature_c)]
    return _unstated(pairs) + (unstated_optics(frame.optics, master.optics) if is_flat else ())


def count_unstated(frame: GroupKey, master: GroupKey) -> int:
    """Count what a frame records and a master does not; with the binning, of which nothing is said: it is 1x1."""
    is_binning_open = frame.states_binning and not master.states_binning
    return len(unstated_settings(frame, master)) + is_binning_open


def unstated_optics(frame: Optics, flat: Optics) -> tuple[str, ...]:
    """Name what a frame records of its light path and a flat does not."""
    if frame is flat:
        return ()
    open_settings = _unstated(
        [
            ("telescope", frame.telescope, flat.telescope),
            ("focal length", frame.focal_length_mm, flat.focal_length_mm),
        ]
    )
    is_turned_unknown = says_angle(frame) and angles_of_both(frame, flat) is None
    return (*open_settings, *((ANGLE,) if is_turned_unknown else ()))


def _unstated(pairs: Iterable[tuple[str, object, object]]) -> tuple[str, ...]:
    return tuple(name for name, of_frame, of_master in pairs if of_frame is not None and of_master is None)
