"""The flats that science frames need: what their headers say of filter, settings and rotation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import date

from ostcal.capture.points import Point
from ostcal.capture.series_plan import SeriesOutcome
from ostcal.config import Config
from ostcal.devices.protocols import CameraRequest
from ostcal.errors import InputError
from ostcal.fits.read import find_fits, inspect_images
from ostcal.frames import FrameMetadata, FrameType
from ostcal.naming import filter_identity, night_of, same_filter
from ostcal.places.night_folders import folders_of
from ostcal.places.paths import is_dir

logger = logging.getLogger("ostcal")


def light_points(config: Config, wheel: Sequence[str], noon_utc_s: float) -> list[Point]:
    """Return the flats that the lights of the newest night in ``flat_capture.for_lights`` need.

    One point for each filter, gain, offset, binning, readout mode and rotation (to a degree) of the lights.

    Raises
    ------
    InputError
        If there is no light, or none of whose filters is in the wheel.
    """
    pattern = config.flat_capture.for_lights or ""
    lights, _ = newest_lights(config, noon_utc_s)
    if not lights:
        raise InputError(f"{pattern}: no science frames are there; set flat_capture.for_lights to their directory")
    points = points_of(config, lights, wheel)
    if not points:
        raise InputError(f"{pattern}: no filter of the science frames is in the wheel, which has {', '.join(wheel)}")
    return points


def points_of(config: Config, lights: Iterable[FrameMetadata], wheel: Sequence[str] | None) -> list[Point]:
    """Return the flats that lights need, as `light_points`; with ``None`` for the wheel all their filters are in it."""
    pattern = config.flat_capture.for_lights
    points: dict[Point, None] = {}
    absent: set[str] = set()
    for light in lights:
        name = light.filter_name if wheel is None else _in_wheel(light.filter_name, wheel)
        if light.filter_name and wheel and name is None:
            if light.filter_name not in absent:
                logger.warning(
                    "no flats for filter %s of %s: the wheel has %s", light.filter_name, pattern, ", ".join(wheel)
                )
            absent.add(light.filter_name)
            continue
        turned = light.optics.rotator_deg
        points[
            Point(
                kind=FrameType.FLAT,
                count=config.flat_capture.frames,
                request=_request(light),
                filter_name=name,
                rotation_deg=None if turned is None else round(turned) % 360,
                name="flat_capture.for_lights",
            )
        ] = None
    return list(points)


def newest_lights(
    config: Config, noon_utc_s: float, until: date | None = None
) -> tuple[list[FrameMetadata], date | None]:
    """Return the lights of the newest night in ``flat_capture.for_lights``, up to a night, and their night."""
    lights = _lights(folders_of(config.flat_capture.for_lights or ""))
    nights = [night_of(light.date_obs, noon_utc_s) for light in lights]
    newest = max((night for night in nights if night is not None and (until is None or night <= until)), default=None)
    return [light for light, night in zip(lights, nights, strict=True) if night == newest], newest


def no_lights_line(config: Config) -> str | None:
    """Return a line where flats are for lights and no light is there, else ``None``."""
    pattern = config.flat_capture.for_lights
    if pattern is None or _lights(folders_of(pattern)):
        return None
    return f"{pattern}: no science frames are there, so no flats for them are due"


def flat_dark_point(config: Config, exposure_s: float, request: CameraRequest) -> Point:
    """Return the darks with the exposure and the settings of flats."""
    return Point(
        kind=FrameType.DARK,
        count=config.dark_capture.frames,
        is_auto=config.dark_capture.num_darks == "auto",
        exposure_s=exposure_s,
        request=request,
        name="flat_capture.for_lights",
    )


def flat_dark_points(config: Config, outcomes: Iterable[SeriesOutcome]) -> list[Point]:
    """Return the darks with the exposures and settings of flats."""
    points = {
        flat_dark_point(
            config,
            one.plan.exposure_time_s,
            CameraRequest(
                gain=one.plan.settings.gain,
                offset=one.plan.settings.offset,
                binning=one.plan.settings.binning,
                readout_mode=one.plan.settings.readout_mode,
            ),
        ): None
        for one in outcomes
        if one.plan.frame_type is FrameType.FLAT and one.plan.exposure_time_s is not None
    }
    return list(points)


def _lights(directories: Iterable[str]) -> list[FrameMetadata]:
    found = []
    for path in find_fits([place for place in directories if is_dir(place)]):
        try:
            metadata = inspect_images(path)[0].metadata
        except InputError as error:
            logger.debug("%s", error)
            continue
        if metadata.frame_type is FrameType.LIGHT and not metadata.is_master:
            found.append(metadata)
    return found


def _in_wheel(filter_name: str | None, wheel: Sequence[str]) -> str | None:
    """Return the wheel's name of a filter: the same letters, else another spelling."""
    if filter_name is None or not wheel:
        return None
    exact = [name for name in wheel if name == filter_name or filter_identity(name) == filter_identity(filter_name)]
    return next(iter(exact or [name for name in wheel if same_filter(name, filter_name)]), None)


def _request(light: FrameMetadata) -> CameraRequest:
    s = light.settings
    return CameraRequest(gain=s.gain, offset=s.offset, binning=s.binning, readout_mode=s.readout_mode)
