"""What was taken: the series and masters on disk, and the nights of their frames."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ostcal.build.from_config import input_places
from ostcal.capture.nights import last_taken
from ostcal.config import Config
from ostcal.errors import InputError, StorageError
from ostcal.fits.read import find_fits, inspect_images
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.library.index import known_masters
from ostcal.naming import night_of
from ostcal.places.night_folders import folders_of, has_folder
from ostcal.places.paths import exists
from ostcal.series.format import shared_settings
from ostcal.series.reader import Series, find_series, open_series
from ostcal.workflow.auto_frames import is_auto, needed_frames
from ostcal.workflow.due import TakenSeries
from ostcal.workflow.open_devices import camera_values

logger = logging.getLogger(__name__)

_COMPARED = ("camera", "gain", "offset", "binning", "readout_mode", "set_temperature_c")
_SET_POINT_C = 0.2
"""Set points that differ more are others; cameras read -10 back as -9.98."""

_MASTER_C = 2.0
"""The same of masters, which have the temperature that the sensor had."""

Setup = Mapping[str, Any]
"""Settings that frames must share to stand for one another, by their names in series; what is not named may differ."""


def taken_frames(
    config: Config, noon_utc_s: float, setup: Setup, *, any_camera: bool = False
) -> tuple[list[TakenSeries], list[str]]:
    """Return what was taken with some settings: the series and FITS frames on disk, and masters whose series are gone.

    A master counts only where no series of its night is there: of a series that was cut short a master may be made too.
    FITS frames count only if the settings name their camera, or with `any_camera`: folders of other programs may hold
    the frames of several. The second value is a line for each series that cannot be read.
    """
    (taken,), problems = taken_with(config, noon_utc_s, [setup], any_camera=any_camera)
    return taken, problems


def taken_with(
    config: Config, noon_utc_s: float, setups: Sequence[Setup], *, any_camera: bool = False
) -> tuple[list[list[TakenSeries]], list[str]]:
    """Return what was taken with each of some settings, as `taken_frames`; what is on disk is read once."""
    directories = folders_of(config.dark_capture.output_dir) + folders_of(config.flat_capture.output_dir)
    on_disk, problems = _series_in(directories, noon_utc_s, config)
    has_camera = any_camera or any("camera" in setup for setup in setups)
    files = _files_in(directories, noon_utc_s) if has_camera else []
    masters = _masters_in(config.master_frames.output_dir, noon_utc_s)
    failed = _masters_in(config.master_frames.output_dir, noon_utc_s, have_failed=True)
    found = []
    for setup in setups:
        series = [one for one, there in on_disk if _fits(there, setup)]
        made = [one for one, there in masters if _fits(there, setup, _MASTER_C)]
        if any_camera or "camera" in setup:
            series += [one for one, there in files if _fits(there, setup, _MASTER_C)]
        bad = [one for one, there in failed if _fits(there, setup, _MASTER_C)]
        series = [replace(one, has_failed=any(_is_like(master, one) for master in bad)) for one in series]
        found.append([*series, *(one for one in made if not any(_is_like(one, other) for other in series))])
    return found, problems


def _files_in(directories: Iterable[str], noon_utc_s: float) -> list[tuple[TakenSeries, Setup]]:
    """Return the FITS frames in directories, as other programs write them: those of a night with equal headers as one.

    Frames without a time or with another word for the camera do not count, nor do masters.
    """
    alike: defaultdict[tuple[Any, ...], list[FrameMetadata]] = defaultdict(list)
    for path in find_fits(list(dict.fromkeys(directories))):
        try:
            frames = [image.metadata for image in inspect_images(path)]
        except InputError as error:
            logger.debug("%s", error)
            continue
        for frame in frames:
            night = night_of(frame.date_obs, noon_utc_s)
            if (
                frame.frame_type is not None
                and frame.date_obs is not None
                and night is not None
                and not frame.is_master
            ):
                exposure = f"{frame.exposure_time_s or 0.0:.4g}" if frame.frame_type is FrameType.DARK else ""
                what = frame.frame_type, exposure, frame.filter_name, frame.settings, _celsius(frame), night
                alike[what].append(frame)
    found = []
    for (kind, _, filter_name, settings, celsius, night), frames in alike.items():
        exposures_s = {frame.exposure_time_s for frame in frames}
        taken = TakenSeries(
            kind=kind,
            n_frames=len(frames),
            observed_at=max(frame.date_obs for frame in frames if frame.date_obs is not None),
            night=night,
            exposure_time_s=frames[0].exposure_time_s if len(exposures_s) == 1 or kind is FrameType.DARK else None,
            filter_name=filter_name,
        )
        found.append((taken, setup_of_camera(settings, celsius)))
    return found


def _celsius(frame: FrameMetadata) -> float | None:
    """Return the set point of a frame, else its temperature to a degree."""
    if frame.set_temperature_c is not None or frame.ccd_temperature_c is None:
        return frame.set_temperature_c
    return float(round(frame.ccd_temperature_c))


def _is_like(master: TakenSeries, series: TakenSeries) -> bool:
    return series.night == master.night and series.answers(master.as_wanted())


def _masters_in(output_dir: str, noon_utc_s: float, *, have_failed: bool = False) -> list[tuple[TakenSeries, Setup]]:
    """Return the masters of a directory that did or did not fail, by their last frame, as if they were series."""
    found = []
    for master in known_masters(output_dir) if has_folder(output_dir) else ():
        record, key = master.record, master.key
        if record.observed is None or (record.verdict == "fail") != have_failed or record.n_frames is None:
            continue
        night = night_of(record.observed.last, noon_utc_s)
        if night is None:
            continue
        taken = TakenSeries(
            kind=key.frame_type,
            n_frames=record.n_frames,
            observed_at=record.observed.last,
            night=night,
            exposure_time_s=key.exposure_time_s,
            filter_name=key.filter_name,
        )
        found.append((taken, setup_of_camera(key.settings, key.temperature_c)))
    return found


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


def newest_bias(config: Config, setup: Setup) -> Series | None:
    """Return the newest bias series with some settings."""
    found = []
    for location in find_series(folders_of(config.dark_capture.output_dir)):
        try:
            series = open_series(location)
        except StorageError as error:
            logger.debug("%s", error)
            continue
        if series.frame_type is FrameType.BIAS and _fits(series.settings, setup):
            found.append(series)
    return max(found, key=lambda one: str(last_taken(one)), default=None)


def has_frames(config: Config) -> bool:
    """Return whether any frame is on disk of which a master could be made."""
    places = [place for pattern in input_places(config, with_captured=True) for place in folders_of(pattern)]
    folders = [place for place in places if exists(place)]
    return any(True for _ in find_series(folders)) or any(True for _ in find_fits(folders))


def has_masters(config: Config) -> bool:
    """Return whether a master is in the library."""
    output_dir = config.master_frames.output_dir
    return has_folder(output_dir) and any(True for _ in known_masters(output_dir))


def _needed(config: Config, series: Series) -> Callable[[], int | None] | None:
    """Return what gives the frames that a series of an automatic number needs; frames are read only when it is asked.

    Only what is longer than the fewest frames and shorter than the most depends on the noise.
    """
    section = config.flat_capture if series.frame_type is FrameType.FLAT else config.dark_capture
    if not is_auto(config, series.frame_type) or len(series.records) >= section.frames:
        return None
    return cache(lambda: needed_frames(config, series))


def _series_in(
    directories: Iterable[str], noon_utc_s: float, config: Config
) -> tuple[list[tuple[TakenSeries, Setup]], list[str]]:
    """Return the series in directories and below them with their settings, and a line for each that cannot be read.

    Frames without a time are of no night, and do not count.
    """
    taken, problems = [], []
    for location in find_series(dict.fromkeys(directories)):
        try:
            series = open_series(location)
        except StorageError as error:
            problems.append(str(error))
            continue
        moments = [record.metadata.date_obs for record in series.records if record.metadata.date_obs is not None]
        newest = max(moments, default=None)
        night = night_of(newest, noon_utc_s)
        if newest is None or night is None:
            continue
        exposure_s = series.settings.get("exposure_time_s")
        filter_name = series.settings.get("filter_name")
        one = TakenSeries(
            kind=series.frame_type,
            n_frames=len(series.records),
            observed_at=newest,
            night=night,
            exposure_time_s=exposure_s if isinstance(exposure_s, int | float) else None,
            filter_name=filter_name if isinstance(filter_name, str) else None,
            rotation_deg=series.records[0].metadata.optics.rotator_deg,
            needed=_needed(config, series),
        )
        taken.append((one, series.settings))
    return taken, problems


def _fits(there: Mapping[str, Any], setup: Setup, tolerance_c: float = _SET_POINT_C) -> bool:
    if any(there.get(name) != value for name, value in setup.items() if name != "set_temperature_c"):
        return False
    was_c, is_c = there.get("set_temperature_c"), setup.get("set_temperature_c")
    if setup.get("set_temperature_c") is None and tolerance_c == _MASTER_C:
        return True  # a master has the temperature of its sensor, also where nothing cools it
    if "set_temperature_c" not in setup or was_c == is_c:
        return True
    return isinstance(was_c, int | float) and is_c is not None and abs(was_c - is_c) <= tolerance_c
