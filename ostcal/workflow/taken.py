"""What was taken: the series on disk, and the nights of their frames."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from ostcal.config import Config
from ostcal.errors import StorageError
from ostcal.frames import CameraSettings
from ostcal.naming import night_of
from ostcal.places.night_folders import folders_of
from ostcal.series.format import shared_settings
from ostcal.series.reader import Series, find_series, open_series
from ostcal.workflow.due import TakenSeries
from ostcal.workflow.open_devices import camera_values

logger = logging.getLogger(__name__)

_COMPARED = ("camera", "gain", "offset", "binning", "readout_mode", "set_temperature_c")
_SET_POINT_C = 0.2
"""Set points that differ more are others; cameras read -10 back as -9.98."""


Setup = Mapping[str, Any]
"""Settings that frames must share to stand for one another, by their names in series; what is not named may differ."""


def directories_of(config: Config) -> list[str]:
    """Return the directories of captured frames, of all nights and cameras."""
    return folders_of(config.dark_capture.output_dir) + folders_of(config.flat_capture.output_dir)


def setup_of_camera(settings: CameraSettings, set_point_c: float | None) -> Setup:
    """Return the settings as a camera reports them."""
    shared = shared_settings(settings, exposure_time_s=None, filter_name=None, set_temperature_c=set_point_c)
    return {name: shared[name] for name in _COMPARED}


def setup_of_config(config: Config) -> Setup:
    """Return what a configuration says of the settings, where no camera is asked."""
    values, cooling = camera_values(config), config.video.cooling
    said: dict[str, Any] = {"binning": list(values.binning)}
    said |= {name: getattr(values, name) for name in ("gain", "offset") if isinstance(getattr(values, name), int)}
    if cooling.enable_cooling:
        said["set_temperature_c"] = cooling.target_temperature
    return said


def taken_series(directories: Iterable[str], noon_utc_s: float, setup: Setup) -> tuple[list[TakenSeries], list[str]]:
    """Return the series in directories and below them, and a line for each that cannot be read.

    Only those that were taken with these settings; frames without a time are of no night, and do not count.
    """
    taken, problems = [], []
    for location in find_series(dict.fromkeys(directories)):
        try:
            series = open_series(location)
        except StorageError as error:
            problems.append(str(error))
            continue
        if not _is_of(series, setup):
            continue
        moments = [record.metadata.date_obs for record in series.records if record.metadata.date_obs is not None]
        newest = max(moments, default=None)
        night = night_of(newest, noon_utc_s)
        if newest is None or night is None:
            continue
        exposure_s = series.settings.get("exposure_time_s")
        filter_name = series.settings.get("filter_name")
        taken.append(
            TakenSeries(
                kind=series.frame_type,
                n_frames=len(series.records),
                observed_at=newest,
                night=night,
                exposure_time_s=exposure_s if isinstance(exposure_s, int | float) else None,
                filter_name=filter_name if isinstance(filter_name, str) else None,
            )
        )
    return taken, problems


def _is_of(series: Series, setup: Setup) -> bool:
    there = series.settings
    if any(there.get(name) != value for name, value in setup.items() if name != "set_temperature_c"):
        return False
    was_c, is_c = there.get("set_temperature_c"), setup.get("set_temperature_c")
    if "set_temperature_c" not in setup or was_c == is_c:
        return True
    return isinstance(was_c, int | float) and is_c is not None and abs(was_c - is_c) <= _SET_POINT_C
