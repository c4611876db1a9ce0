"""Which of the flats that science frames need are due, and which of their darks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from ostcal.capture.points import Point
from ostcal.config import Config
from ostcal.devices.protocols import CameraRequest
from ostcal.frames import FrameType
from ostcal.workflow.due import Cadence, DueSeries, TakenSeries, WantedSeries, due_series
from ostcal.workflow.lights import flat_dark_point, newest_lights, points_of
from ostcal.workflow.taken import Setup, taken_with

DuePoint = tuple[DueSeries, Point]
"""A series that is due, and how it is taken."""


def flats_of_lights(
    config: Config, night: date, noon_utc_s: float, setup: Setup, wheel: Sequence[str] | None, cadence: Cadence
) -> tuple[list[DuePoint], str]:
    """Return what is due of the flats that the lights of the newest night need, each with settings of its own.

    Flats of the night of the lights or of a later one serve, and earlier ones within the cadence. Of complete flats
    that serve, the darks that are missing are due too. The second value is a line where there are no lights.
    """
    if config.flat_capture.for_lights is None or cadence.get(FrameType.FLAT) is None:
        return [], ""
    lights, of_night = newest_lights(config, noon_utc_s, until=night)
    if not lights:
        return [], f"{config.flat_capture.for_lights}: no science frames are there, so no flats for them are due"
    points = points_of(config, lights, wheel)
    wanted = [_wanted(config, point) for point in points]
    of_flats = [_setup(setup, one, ("camera",)) for one in wanted]
    of_darks = [_setup(setup, one, ("camera", "set_temperature_c")) for one in wanted]
    taken, _ = taken_with(config, noon_utc_s, [*of_flats, *of_darks], any_camera="camera" not in setup)
    due: list[DuePoint] = []
    darks: list[DuePoint] = []
    for number, (point, one) in enumerate(zip(points, wanted, strict=True)):
        there = taken[number]
        open_flats = due_series([one], there, night, cadence, serves=of_night or night)
        due += [(series, point) for series in open_flats]
        if not open_flats:
            darks += _darks_of(config, one, point.request, there, taken[len(points) + number], night, cadence)
    return [*due, *dict(darks).items()], ""


def _darks_of(
    config: Config,
    flats: WantedSeries,
    request: CameraRequest,
    there: Sequence[TakenSeries],
    darks: Sequence[TakenSeries],
    night: date,
    cadence: Cadence,
) -> list[DuePoint]:
    """Return the darks that are due of the newest flats that are complete."""
    d = config.dark_capture
    complete = [one for one in there if one.night <= night and one.answers(flats) and one.is_complete_for(flats)]
    newest = max(complete, key=lambda one: one.observed_at, default=None)
    exposure_s = newest.exposure_time_s if newest is not None else None
    if exposure_s is None or not d.min_exposure < exposure_s <= d.max_exposure:
        return []
    wanted = WantedSeries(
        kind=FrameType.DARK,
        n_frames=d.least_frames,
        exposure_time_s=exposure_s,
        is_of_flats=True,
        settings=flats.settings,
        settings_text=flats.settings_text,
        is_for_lights=True,
    )
    return [(one, flat_dark_point(config, exposure_s, request)) for one in due_series([wanted], darks, night, cadence)]


def _wanted(config: Config, point: Point) -> WantedSeries:
    asked = point.request
    named = {"gain": asked.gain, "offset": asked.offset, "readout_mode": asked.readout_mode}
    settings: dict[str, Any] = {"binning": tuple(asked.binning)}
    settings |= {name: value for name, value in named.items() if value is not None}
    return WantedSeries(
        kind=FrameType.FLAT,
        n_frames=config.flat_capture.least_frames,
        filter_name=point.filter_name,
        settings=tuple(settings.items()),
        settings_text=point.settings_text,
        rotation_deg=point.rotation_deg,
        is_for_lights=True,
    )


def _setup(setup: Setup, wanted: WantedSeries, names: Sequence[str]) -> Setup:
    """Return the settings of a series that is wanted, with some of those of the camera."""
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.settings}
    return {name: setup[name] for name in names if name in setup} | own
