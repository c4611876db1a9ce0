"""What is open in the choice of a master that is loaded by hand, and what its exposure leaves in a frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostcal.frames import FrameType
from ostcal.inputs.grouping import settings_differ
from ostcal.inputs.optics import FOCAL_LENGTH_SHARE, degrees_apart, telescope_identity
from ostcal.library.find import LibraryMaster
from ostcal.measure.estimators import half_spread
from ostcal.naming import filter_identity

_HOT_SPREADS = 10.0
"""Pixels above the median by this many times the spread of a master are hot."""


def open_choice(
    masters: Sequence[LibraryMaster],
    asked: Sequence[str],
    *,
    temperature_tolerance_c: float,
    bias_temperature_tolerance_c: float,
    rotation_tolerance_deg: float,
) -> str:
    """Name the first setting in which masters differ and that nobody asked for, with its values; else ""."""
    kinds = {master.key.frame_type for master in masters}
    names = ["camera", "camera_id", "gain", "offset", "readout_mode", "binning"]
    for name in (name for name in names if name not in asked):
        values = {getattr(master.key.settings, name) for master in masters} - {None}
        if len(values) > 1:
            return _line(name, sorted(map(_text, values)), name)
    for name in (name for name in ("width", "height") if name not in asked):
        sides = sorted({getattr(master.key, name) for master in masters})
        if len(sides) > 1:
            return _line(name, [f"{side} pixels" for side in sides], name)
    if open_one := _open_without_a_keyword(masters):
        return open_one
    if FrameType.FLAT in kinds:
        return _open_in_flats(masters, asked, rotation_tolerance_deg)
    known_c = sorted(m.key.temperature_c for m in masters if m.key.temperature_c is not None)
    tolerance_c = temperature_tolerance_c if FrameType.DARK in kinds else bias_temperature_tolerance_c
    if "temperature_c" not in asked and known_c and known_c[-1] - known_c[0] > tolerance_c + 1e-6:
        return _line("temperature", [f"{value:g}" for value in dict.fromkeys(known_c)], "temperature_c")
    return ""


def _open_without_a_keyword(masters: Sequence[LibraryMaster]) -> str:
    """Name the first of the settings in which masters differ and that no keyword names; else ""."""
    for name in ("iso", "coadds", "subframe_origin", "row_order", "flip"):
        values = {getattr(master.key.settings, name) for master in masters} - {None}
        if len(values) > 1:
            shown = ", ".join(sorted(map(_text, values)))
            return (
                f"masters of the {name.replace('_', ' ')} {shown} fit; open the one that is meant: ostcal.open_master"
            )
    if len({master.key.bias_subtracted for master in masters}) > 1:
        return "masters with and without their bias fit; open the one that is meant: ostcal.open_master"
    return ""


def _open_in_flats(masters: Sequence[LibraryMaster], asked: Sequence[str], rotation_tolerance_deg: float) -> str:
    filters = {filter_identity(m.key.filter_name or ""): m.key.filter_name or "no filter" for m in masters}
    if "filter" not in asked and len(filters) > 1:
        return _line("filter", sorted(filters.values()), "filter")
    optics = [master.key.optics for master in masters]
    telescopes = {telescope_identity(one.telescope): one.telescope for one in optics if one.telescope}
    if "telescope" not in asked and len(telescopes) > 1:
        return _line("telescope", sorted(name for name in telescopes.values() if name), "telescope")
    lengths = sorted(one.focal_length_mm for one in optics if one.focal_length_mm is not None)
    if "focal_length_mm" not in asked and lengths and lengths[-1] - lengths[0] > FOCAL_LENGTH_SHARE * lengths[-1]:
        return _line("focal length", [f"{value:g}" for value in dict.fromkeys(lengths)], "focal_length_mm")
    of_rotator = sorted({one.rotator_deg for one in optics if one.rotator_deg is not None})
    angles = of_rotator or sorted({one.sky_angle_deg for one in optics if one.sky_angle_deg is not None})
    is_turned = any(degrees_apart(value, angles[0]) > rotation_tolerance_deg for value in angles)
    if "rotation_deg" not in asked and is_turned:
        return _line("angle", [f"{value:g}" for value in angles], "rotation_deg")
    return ""


def exposure_warning(master: LibraryMaster, exposure_s: float, library: Sequence[LibraryMaster]) -> str:
    """Say what a dark of another exposure leaves in a frame of an exposure, as far as the library shows it."""
    seconds = exposure_s - master.key.exposure_time_s
    zero = _zero_of(master, library)
    left = "dark current that nothing in the library shows"
    if zero is not None:
        plane, other = (one.plane.read_rows(0, one.key.height).astype(np.float64) for one in (master, zero))
        rate = (plane - other) / (master.key.exposure_time_s - zero.key.exposure_time_s)
        rate = rate[np.isfinite(rate)]
        middle = float(np.median(rate))
        hot = rate[rate > middle + _HOT_SPREADS * max(half_spread(rate - middle), 1e-9)]
        left = f"{middle * seconds:+.3g} ADU in the median pixel"
        left += f" and {float(np.median(hot)) * seconds:+.3g} ADU in hot pixels" if hot.size else ""
    return (
        f"no dark of {exposure_s:g} s, {master.record.name} of {master.key.exposure_time_s:g} s is loaded as it is:"
        f" that leaves {left}; take darks of this exposure, or let ostcal calibrate scale it"
    )


def _zero_of(dark: LibraryMaster, library: Sequence[LibraryMaster]) -> LibraryMaster | None:
    """Return a bias of the camera, else the shortest dark that is much shorter; the newest of equals."""
    alike = [
        one
        for one in library
        if one.key.frame_type in (FrameType.BIAS, FrameType.DARK)
        and (one.key.width, one.key.height) == (dark.key.width, dark.key.height)
        and not settings_differ(one.key.settings, dark.key.settings)
        and one.key.exposure_time_s < 0.5 * dark.key.exposure_time_s
        and one.record.verdict != "fail"
        and one.key.bias_subtracted == dark.key.bias_subtracted
    ]
    return min(alike, key=lambda one: (one.key.frame_type is not FrameType.BIAS, one.key.exposure_time_s), default=None)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _line(what: str, values: Sequence[str], name: str) -> str:
    plural = {"camera_id": "cameras", "focal length": "focal lengths"}.get(what, f"{what.replace('_', ' ')}s")
    return f"masters of the {plural} {', '.join(values)} fit; say which: {name}="
