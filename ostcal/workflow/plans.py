"""From a configuration to what a schedule wants: series, cadence, times, and the coming visits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ostcal.config import Config
from ostcal.frames import FrameType
from ostcal.naming import night_of
from ostcal.visit_times import Calendar, no_twilight_line, read_rule
from ostcal.workflow.due import Cadence, DueSeries, TakenSeries, WantedSeries, due_series, taken_then, wanted_darks
from ostcal.workflow.matrix import TakenOfMatrix, matrix_due
from ostcal.workflow.open_devices import camera_values
from ostcal.workflow.site import site_of

_OVERHEAD_S = 2.0
"""For the download of a frame, where no camera is asked."""


def zone_of(config: Config) -> tzinfo | None:
    """Return the time zone of the times; ``None`` is that of this computer."""
    name = config.schedule.time_zone
    return None if name == "local" else UTC if name == "utc" else ZoneInfo(name)


def calendar_of(config: Config) -> Calendar:
    """Return the times of a configuration."""
    rules = tuple(read_rule(text) for text in config.schedule.when)
    return Calendar(rules=rules, zone=zone_of(config), site=site_of(config))


def night_at(moment: datetime, noon_utc_s: float) -> date:
    """Return the night of a moment."""
    return night_of(moment, noon_utc_s) or moment.date()


def cadence_of(config: Config) -> Cadence:
    """Return the nights from one series of a kind to the next."""
    c = config.schedule.cadence_days
    return {FrameType.BIAS: c.bias, FrameType.DARK: c.dark, FrameType.FLAT: c.flat}


def max_age_of(config: Config) -> dict[FrameType, float]:
    """Return the age from which a line says that frames are old."""
    m = config.schedule.max_age_days
    return {FrameType.BIAS: m.bias, FrameType.DARK: m.dark, FrameType.FLAT: m.flat}


def wanted_series(config: Config, flat_exposures_s: Iterable[float] = ()) -> list[WantedSeries]:
    """Return the series that a configuration wants, with darks of flats of these exposures.

    With a matrix, bias frames and darks are those of the matrix, but for those of the flats.
    """
    d, f = config.dark_capture, config.flat_capture
    exposures_s = [] if d.matrix.is_asked else [d.science_exposure_time * factor for factor in d.exposure_factors]
    of_flats_s = [d.flat_exposure_time] if d.flat_exposure_time is not None else list(flat_exposures_s)
    darks = wanted_darks(d.least_frames, sorted(exposures_s), of_flats_s, (d.min_exposure, d.max_exposure))
    if d.matrix.is_asked and not of_flats_s:
        darks = []
    flats = [
        WantedSeries(kind=FrameType.FLAT, n_frames=f.least_frames, filter_name=name)
        for name in dict.fromkeys(f.filters or (None,))
    ]
    return [*darks, *flats]


def flat_exposures_of_night(taken: Iterable[TakenSeries], night: date) -> list[float]:
    """Return the exposures of the flats of a night; those of the sky have no common one."""
    exposures_s = {
        series.exposure_time_s
        for series in taken
        if series.kind is FrameType.FLAT and series.night == night and series.exposure_time_s is not None
    }
    return sorted(exposures_s)


@dataclass(frozen=True, kw_only=True)
class ComingVisit:
    """A visit to come, and what will be due if all visits before it take everything."""

    at: datetime
    night: date
    due: tuple[DueSeries, ...]
    time_s: float
    """For the frames, about."""

    @property
    def frames(self) -> int:
        """Frames to take."""
        return sum(one.wanted.n_frames - one.present for one in self.due)


def coming_visits(
    config: Config,
    taken: Sequence[TakenSeries],
    now: datetime,
    noon_utc_s: float,
    days: int = 7,
    of_matrix: TakenOfMatrix | None = None,
) -> tuple[list[ComingVisit], list[str]]:
    """Return the visits of the coming days, and a line for each day whose twilight does not happen.

    `of_matrix` is what was taken of the matrix of darks.
    """
    calendar = calendar_of(config)
    visits, there = [], list(taken)
    of_points = {settings: list(series) for settings, series in (of_matrix or {}).items()}
    for at in calendar.between(now, now + timedelta(days=days)):
        night = night_at(at, noon_utc_s)
        due = due_series(wanted_series(config), there, night, cadence_of(config))
        due_of_matrix = matrix_due(config, of_points, night)
        everything = (*due, *due_of_matrix)
        time_s = sum(_time_s(config, one) for one in everything)
        visits.append(ComingVisit(at=at, night=night, due=everything, time_s=time_s))
        there += taken_then(due, at, night)
        for one in due_of_matrix:
            of_points[one.wanted.settings] += taken_then([one], at, night)
    lines = []
    for day in (now.date() + timedelta(days=n) for n in range(days)):
        if missing := calendar.without_twilight(day):
            lines.append(no_twilight_line(day, missing))
    return visits, lines


def _time_s(config: Config, one: DueSeries) -> float:
    if one.wanted.kind is FrameType.FLAT:
        exposure_s = camera_values(config).exposure_time
    else:
        exposure_s = one.wanted.exposure_time_s or config.dark_capture.min_exposure
    return (one.wanted.n_frames - one.present) * (exposure_s + _OVERHEAD_S)
