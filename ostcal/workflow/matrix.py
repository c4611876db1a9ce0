"""The matrix of darks in a schedule: which of its series are due, from the configuration and the frames on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ostcal.capture.points import Point
from ostcal.config import Config
from ostcal.frames import FrameType
from ostcal.workflow.capture_rules import matrix_of
from ostcal.workflow.due import Cadence, DueSeries, TakenSeries, WantedSeries, due_series
from ostcal.workflow.taken import taken_with

Settings = tuple[tuple[str, Any], ...]
TakenOfMatrix = Mapping[Settings, Sequence[TakenSeries]]
"""What was taken with the settings of each point of the matrix."""

_NEVER = 10**6
"""Nights after which a complete series is taken anew by the strategy ``missing``."""


def wanted_point(config: Config, point: Point) -> WantedSeries:
    """Return a point of the matrix as a series that is wanted."""
    settings: dict[str, Any] = {"binning": tuple(point.request.binning), **_asked(config, point)}
    if point.temperature_c is not None:
        settings["set_temperature_c"] = point.temperature_c
    at = [f"{point.temperature_c:g} C"] if point.temperature_c is not None else []
    return WantedSeries(
        kind=point.kind,
        n_frames=config.dark_capture.least_frames,
        exposure_time_s=None if point.kind is FrameType.BIAS else point.exposure_s,
        settings=tuple(settings.items()),
        settings_text=", ".join([point.settings_text, *at] if point.settings_text else at),
    )


def _asked(config: Config, point: Point) -> dict[str, Any]:
    """Return gain, offset and readout mode as series record them.

    Names of gains and numbers of readout modes are known to the camera alone: where the matrix has several, no series
    on disk is taken for one of them.
    """
    m, asked = config.dark_capture.matrix, point.request
    known = (
        ("gain", asked.gain, isinstance(asked.gain, int | float), m.gains),
        ("offset", asked.offset, isinstance(asked.offset, int | float), m.offsets),
        ("readout_mode", asked.readout_mode, isinstance(asked.readout_mode, str), m.readout_modes),
    )
    return {
        name: value for name, value, is_told, several in known if value is not None and (is_told or len(several) > 1)
    }


def matrix_wanted(config: Config) -> list[WantedSeries]:
    """Return the series of the matrix; none without a matrix."""
    d = config.dark_capture
    if not d.matrix.is_asked:
        return []
    points, _ = matrix_of(config, d.min_exposure, d.max_exposure, "")
    return list(dict.fromkeys(wanted_point(config, point) for point in points))


def matrix_taken(config: Config, noon_utc_s: float) -> TakenOfMatrix:
    """Return what is on disk of the matrix."""
    found = list(dict.fromkeys(one.settings for one in matrix_wanted(config)))
    if not found:
        return {}
    setups = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in settings} for settings in found
    ]
    taken, _ = taken_with(config, noon_utc_s, setups)
    return dict(zip(found, taken, strict=True))


def matrix_due(config: Config, taken: TakenOfMatrix, night: date) -> tuple[DueSeries, ...]:
    """Return the series of the matrix that are due in a night, by ``dark_capture.strategy``."""
    cadence = _cadence(config)
    return tuple(
        due for one in matrix_wanted(config) for due in due_series([one], taken.get(one.settings, ()), night, cadence)
    )


def _cadence(config: Config) -> Cadence:
    """Return after how many nights a complete series is taken anew; a kind that the schedule leaves out is no kind."""
    d, every = config.dark_capture, config.schedule.cadence_days
    nights = {"missing": _NEVER, "aged": math.floor(d.max_age_days) + 1, "all": 1}[d.strategy]
    return {
        FrameType.BIAS: None if every.bias is None else nights,
        FrameType.DARK: None if every.dark is None else nights,
    }
