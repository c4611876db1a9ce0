"""From a configuration to what a schedule wants: series, cadence, times, and the coming visits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from ostcal.config import Config
from ostcal.frames import FrameType
from ostcal.naming import night_of
from ostcal.visit_times import Calendar, no_twilight_line, read_rule
from ostcal.workflow.auto_frames import ExpectedFrames
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

    Flats for lights follow from the lights on disk and are not among them. With a matrix, bias frames and darks are
    those of the matrix, but for those of the flats.
    """
    d, f = config.dark_capture, config.flat_capture
    exposures_s = [] if d.matrix.is_asked else [d.science_exposure_time * factor for factor in d.exposure_factors]
    guessed_s = [d.flat_exposure_time] if d.flat_exposure_time is not None else []
    of_flats_s = [*guessed_s, *flat_exposures_s]
    darks = wanted_darks(d.least_frames, sorted(exposures_s), of_flats_s, (d.min_exposure, d.max_exposure))
    if d.matrix.is_asked and not of_flats_s:
        darks = []
    flats = [
        WantedSeries(kind=FrameType.FLAT, n_frames=f.least_frames, filter_name=name)
        for name in dict.fromkeys(f.filters or (None,))
        if f.for_lights is None
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
        return sum(one.frames for one in self.due)


def coming_visits(
    config: Config,
    taken: Sequence[TakenSeries],
    now: datetime,
    noon_utc_s: float,
    days: int = 7,
    of_matrix: TakenOfMatrix | None = None,
    of_lights: Sequence[DueSeries] = (),
    expected: ExpectedFrames | None = None,
) -> tuple[list[ComingVisit], list[str]]:
    """Return the visits of the coming days, and lines: days without the twilight, darks that are longer than a visit.

    `of_matrix` is what was taken of the matrix of darks, and `of_lights` what is due of the flats for lights: the first
    visit takes it. The exposures of flats to come are not known; one set of darks is reckoned for those of each filter.
    """
    calendar = calendar_of(config)
    visits, there, first = [], list(taken), list(of_lights)
    expected = expected or ExpectedFrames(config=config, bias=None)
    dark_nights: dict[WantedSeries, date] = {}
    never: dict[WantedSeries, str] = {}
    of_points = {settings: list(series) for settings, series in (of_matrix or {}).items()}
    for at in calendar.between(now, now + timedelta(days=days)):
        night = night_at(at, noon_utc_s)
        due = due_series(wanted_series(config), there, night, cadence_of(config))
        due_of_matrix = matrix_due(config, of_points, night)
        flats, first = [*(one for one in due if one.wanted.kind is FrameType.FLAT), *first], []
        darks = _darks_of_flats(config, flats, there, night, dark_nights)
        of_lights_now = [one for one in flats if one.wanted.is_for_lights]
        everything = [_with_number(one, expected) for one in (*due, *of_lights_now, *darks, *due_of_matrix)]
        never |= {one.wanted: _too_long_line(config, one) for one in everything if _is_too_long(config, one)}
        everything = [one for one in everything if one.wanted not in never]
        time_s = sum(_time_s(config, one) for one in everything)
        visits.append(ComingVisit(at=at, night=night, due=tuple(everything), time_s=time_s))
        known = [*due, *(one for one in darks if one.wanted.exposure_time_s is not None)]
        there += taken_then([one for one in known if one.wanted not in never], at, night)
        for one in due_of_matrix:
            of_points[one.wanted.settings] += taken_then([one], at, night)
    no_twilight = _without_twilight(calendar, [now.date() + timedelta(days=number) for number in range(days)])
    return visits, [*no_twilight, *never.values()]


def _is_too_long(config: Config, one: DueSeries) -> bool:
    """Return whether a set is never begun, as no visit has the time for all of it."""
    is_whole = one.wanted.kind is not FrameType.FLAT and not one.wanted.settings
    return is_whole and _time_s(config, one) > 3600 * config.schedule.max_hours


def _too_long_line(config: Config, one: DueSeries) -> str:
    return (
        f"{one.wanted.label}: {one.frames} frames take about {_time_s(config, one) / 3600:.1f} hours, and a visit has"
        f" {config.schedule.max_hours:g} (schedule.max_hours): they are never taken; raise it, or ask for fewer frames"
    )


def _without_twilight(calendar: Calendar, days: Sequence[date]) -> list[str]:
    """Return a line for each day without a twilight that is waited for; days in a row have one."""
    lines: list[str] = []
    began: date | None = None
    for day in days:
        missing = calendar.without_twilight(day)
        if not missing:
            began = None
        elif began is None:
            began = day
            lines.append(no_twilight_line(day, missing))
        else:
            _, _, rest = lines[-1].partition(": ")
            lines[-1] = f"{began} to {day}: {rest}"
    return lines


def _with_number(one: DueSeries, expected: ExpectedFrames) -> DueSeries:
    if one.wanted.settings:  # the noise is known with the settings of the configuration
        return one
    number = expected.of(one.wanted.kind, one.wanted.exposure_time_s)
    return replace(one, wanted=replace(one.wanted, expected=number))


def _darks_of_flats(
    config: Config,
    flats: Iterable[DueSeries],
    taken: Sequence[TakenSeries],
    night: date,
    nights: dict[WantedSeries, date],
) -> list[DueSeries]:
    """Return the darks that flats will need whose exposures are not known yet.

    The newest flats of a filter tell the exposure. `nights` says when darks of flats without earlier ones were last
    reckoned.
    """
    d, every = config.dark_capture, cadence_of(config)
    nights_between = every[FrameType.DARK]
    if nights_between is None or config.flat_capture.twilight or config.flat_capture.mode == "brightness":
        return []
    found: dict[WantedSeries, DueSeries] = {}
    for flat in flats:
        before = [one for one in taken if one.answers(flat.wanted) and one.exposure_time_s is not None]
        newest = max(before, key=lambda one: one.observed_at, default=None)
        exposure_s = newest.exposure_time_s if newest is not None else None
        wanted = WantedSeries(
            kind=FrameType.DARK,
            n_frames=d.least_frames,
            exposure_time_s=exposure_s,
            filter_name=flat.wanted.filter_name if exposure_s is None else None,
            is_of_flats=True,
            settings=flat.wanted.settings,
            settings_text=flat.wanted.settings_text,
            is_for_lights=flat.wanted.is_for_lights,
        )
        if exposure_s is not None:
            is_possible = d.min_exposure < exposure_s <= d.max_exposure
            found |= {one.wanted: one for one in due_series([wanted] if is_possible else [], taken, night, every)}
        elif wanted not in nights or (night - nights[wanted]).days >= nights_between:
            found[wanted] = DueSeries(wanted=wanted, reason="of flats that are due")
    nights |= dict.fromkeys(found, night)
    return list(found.values())


def _time_s(config: Config, one: DueSeries) -> float:
    if one.wanted.kind is FrameType.FLAT:
        exposure_s = camera_values(config).exposure_time
    else:
        exposure_s = one.wanted.exposure_time_s or config.dark_capture.min_exposure
    return one.frames * (exposure_s + _OVERHEAD_S)
