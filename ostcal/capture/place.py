"""Choose the directory of a series: one already begun with the same settings, or a new one beside it."""

from __future__ import annotations

import itertools
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostcal.capture.series_plan import SeriesPlan, SeriesSink
from ostcal.errors import StorageError
from ostcal.series.format import STORE_ENDING, shared_settings
from ostcal.series.reader import Series, open_series

logger = logging.getLogger(__name__)

_SAME_EXPOSURE = 1e-6
_SAME_ANGLE_DEG = 1.0
_SETTING_WORDS = {
    "camera": "camera",
    "gain": "gain",
    "offset": "offset",
    "binning": "binning",
    "readout_mode": "readout mode",
    "filter_name": "filter",
}


@dataclass(frozen=True, kw_only=True)
class SeriesPlace:
    """Location of a series, and its frames so far."""

    location: str
    series: Series | None
    """The existing series, if any."""
    notices: tuple[str, ...] = ()
    """One line for each series of this name with other settings."""

    @property
    def present(self) -> int:
        """Number of frames on disk."""
        return len(self.series.records) if self.series is not None else 0


def find_place(plan: SeriesPlan, sink: SeriesSink, shape: tuple[int, int], set_point_c: float | None) -> SeriesPlace:
    """Choose the directory of a series: ``NAME.zarr``, or ``NAME_2.zarr`` if the first has other settings.

    Where a series with these settings is there that was taken in another night, the name carries the night:
    ``NAME_20261122.zarr``. The shape is (height, width); the set point is that of the cooler, if it is on.
    """
    place = _place_named(plan.name, plan, sink, shape, set_point_c)
    if place is None and sink.night is not None:
        place = _place_named(f"{plan.name}_{sink.night.night:%Y%m%d}", plan, sink, shape, set_point_c, is_dated=True)
    assert place is not None
    return place


def _place_named(
    name: str,
    plan: SeriesPlan,
    sink: SeriesSink,
    shape: tuple[int, int],
    set_point_c: float | None,
    *,
    is_dated: bool = False,
) -> SeriesPlace | None:
    """Return the first place of a name that can take the frames.

    ``None`` where a series with these settings was taken in another night, and the name does not carry the night.
    """
    notices: list[str] = []
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"_{number}"
        path = Path(sink.directory) / f"{name}{suffix}{STORE_ENDING}"
        if not os.path.lexists(path):
            return SeriesPlace(location=str(path), series=None, notices=_ending(notices, path))
        try:
            series = open_series(path)
        except StorageError as error:
            notices.append(f"{error}; it is left as it is")
            continue
        changes = differences(series, plan, shape, set_point_c)
        if not changes and (sink.night is None or sink.night.has(series)):
            return SeriesPlace(location=str(path), series=series, notices=_ending(notices, path))
        if not changes and not is_dated:
            return None
        changes = changes or ["another night"]
        notices.append(f"{path} was taken with other settings ({'; '.join(changes)}) and is left as it is")
    raise AssertionError("there is always a next number")


def differences(series: Series, plan: SeriesPlan, shape: tuple[int, int], set_point_c: float | None) -> list[str]:
    """List why the frames of a plan do not fit a series, such as ``gain 100, now 200``; empty if they fit."""
    there = series.settings
    now = series_settings(plan, set_point_c)
    changes = []
    if series.frame_type is not plan.frame_type:
        changes.append(f"{series.frame_type} frames, now {plan.frame_type}")
    if (series.height, series.width) != shape:
        changes.append(f"{series.width} x {series.height} pixels, now {shape[1]} x {shape[0]}")
    for key, word in _SETTING_WORDS.items():
        if there.get(key) != now[key]:
            changes.append(f"{word} {_shown(there.get(key))}, now {_shown(now[key])}")
    if not _close(there.get("exposure_time_s"), plan.exposure_time_s, _SAME_EXPOSURE * (plan.exposure_time_s or 0.0)):
        was_s, is_s = there.get("exposure_time_s"), plan.exposure_time_s
        changes.append(f"exposure {_shown(was_s, ' s')}, now {_shown(is_s, ' s')}")
    angles = {angle for record in series.records if (angle := record.metadata.optics.rotator_deg) is not None}
    if plan.rotation_deg is not None and angles and not any(_same_angle(a, plan.rotation_deg) for a in angles):
        changes.append(f"turned by {_shown(min(angles))} degrees, now {_shown(plan.rotation_deg)} degrees")
    if not _close(there.get("set_temperature_c"), set_point_c, plan.set_point_tolerance_c):
        changes.append(f"set point {_shown(there.get('set_temperature_c'), ' C')}, now {_shown(set_point_c, ' C')}")
    return changes


def series_settings(plan: SeriesPlan, set_point_c: float | None) -> dict[str, Any]:
    """Return the settings shared by all frames, as stored in the attributes of the series."""
    return shared_settings(
        plan.settings,
        exposure_time_s=plan.exposure_time_s,
        filter_name=plan.filter_name,
        set_temperature_c=set_point_c,
    )


def _ending(notices: list[str], path: Path) -> tuple[str, ...]:
    return tuple(f"{notice}; frames go to {path}" for notice in notices)


def _close(a: object, b: float | None, tolerance: float) -> bool:
    """Compare two numbers; `a` comes from a file."""
    if not isinstance(a, (int, float)) or b is None:
        return a is None and b is None
    return math.isfinite(a) and abs(a - b) <= tolerance + 1e-9


def _same_angle(a: float, b: float) -> bool:
    return abs((a - b + 180) % 360 - 180) <= _SAME_ANGLE_DEG


def _shown(value: object, unit: str = "") -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    if value is None:
        return "not set"
    return f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"
