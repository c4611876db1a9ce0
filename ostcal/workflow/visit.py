"""A visit: what is due is taken while it is safe and within the hours, then masters are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from ostcal.build.api import MasterFrameCreator
from ostcal.build.request import Watcher
from ostcal.capture.darks import DarkPlan
from ostcal.capture.exposer import set_point_of
from ostcal.capture.points import Point
from ostcal.capture.series_plan import CaptureWatcher, Equipment, do_nothing
from ostcal.clock import Clock
from ostcal.config import Config, with_overrides
from ostcal.devices.safety import gated
from ostcal.errors import DeviceError
from ostcal.frames import FrameType
from ostcal.status import Level, Status
from ostcal.workflow.capture_rules import camera_request
from ostcal.workflow.captures import Capture, DarkCapture, FlatCapture, Planned
from ostcal.workflow.due import DueSeries, WantedSeries, due_series
from ostcal.workflow.lights_due import flats_of_lights
from ostcal.workflow.matrix import matrix_due, matrix_taken, wanted_point
from ostcal.workflow.open_devices import open_equipment
from ostcal.workflow.plans import cadence_of, flat_exposures_of_night, wanted_series
from ostcal.workflow.safety import SAFETY_PAUSE_S, safety_check, wait_until_safe
from ostcal.workflow.sky import sky_window
from ostcal.workflow.taken import has_frames, has_masters, setup_of_camera, setup_of_config, taken_frames
from ostcal.workflow.temperature import cool_sensor, warm_up, warms_up


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A time at which the schedule works."""

    at: datetime
    night: date
    end: datetime
    """No exposure begins after it."""


@dataclass(frozen=True, kw_only=True)
class VisitWatchers:
    """Callbacks for what a visit does."""

    capture: CaptureWatcher = field(default_factory=CaptureWatcher)
    planned: Planned | None = None
    masters: Watcher | None = None
    masters_made: Callable[[MasterFrameCreator], None] = do_nothing
    """Called after the masters were made."""
    ended: Callable[[VisitOutcome], None] = do_nothing
    """Called at the end of a visit."""


@dataclass(frozen=True, kw_only=True)
class VisitOutcome:
    """What a visit did."""

    taken: int = 0
    """Frames taken."""
    masters: tuple[str, ...] = ()
    """Files of the masters that were made."""
    failed_quality: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    """What went wrong or was left out, a line each."""

    @property
    def is_complete(self) -> bool:
        """Return whether all that was due was taken, and the masters made."""
        return not self.lines


class VisitWork:
    """The captures and the masters of one visit."""

    def __init__(self, config: Config, visit: Visit, noon_utc_s: float, clock: Clock, watchers: VisitWatchers) -> None:
        self._config = config
        self._visit = visit
        self._noon_utc_s = noon_utc_s
        self._clock = clock
        self._watchers = watchers
        self._logger = logging.getLogger("ostcal")
        self._safety = safety_check(config, clock)
        self._sky = sky_window(config)
        self._takes_sky = False
        self._refused = False
        self._setup = setup_of_config(config)
        self._taken = 0
        self._matrix_began_s: float | None = None
        self._wheel_names: tuple[str, ...] | None = None
        """Of the filters, once the devices are there."""
        self._points: dict[WantedSeries, Point] = {}
        """How the flats for lights that are due, and their darks, are taken."""
        self._said_no_lights = False
        self._lines: list[str] = []

    def run(self) -> VisitOutcome:
        """Take what is due, and make the masters.

        Raises
        ------
        OstcalError
            If a device does not answer or a disk cannot be read; what was taken before is kept.
        """
        self._lines = []
        try:
            if self._due():  # by any camera: where frames of ostcal suffice no device is touched
                with self._safety, self._devices() as equipment:
                    self._take_all(equipment)
        except DeviceError as error:
            self._lines.append(str(error))
            self._logger.error("%s", error)
        return self._make_masters()

    def _due(self) -> tuple[DueSeries, ...]:
        """Return what is due now."""
        taken, problems = taken_frames(self._config, self._noon_utc_s, self._setup)
        for line in problems:
            self._logger.debug("%s", line)
        night, cadence = self._visit.night, cadence_of(self._config)
        for_lights = self._config.flat_capture.for_lights is not None  # those have settings of their own
        exposures_s = flat_exposures_of_night(taken, night) if not for_lights else []
        due = due_series(wanted_series(self._config, exposures_s), taken, night, cadence)
        of_lights, line = flats_of_lights(
            self._config, night, self._noon_utc_s, self._setup, self._wheel_names, cadence
        )
        self._points = {one.wanted: point for one, point in of_lights}
        if line and not self._said_no_lights:
            self._said_no_lights = True
            self._logger.info("%s", line)
        of_matrix = matrix_due(self._config, matrix_taken(self._config, self._noon_utc_s), night)
        return (*due, *(one for one, _ in of_lights), *of_matrix)

    @contextmanager
    def _devices(self) -> Iterator[Equipment]:
        opening = open_equipment(
            self._config,
            self._watchers.capture,
            clock=self._clock,
            may_move=lambda: self._safety.refusal(must_be_open=True),
        )
        with opening as opened:
            if opened.mount is not None:
                opened.mount.when_refused(self._wait_for_mount)
            self._wheel_names = tuple(opened.wheel.names) if opened.wheel is not None else ()
            camera = gated(opened.camera, self._refusal)
            equipment = replace(opened, camera=camera)
            is_cooled = False
            try:
                settings = DarkCapture(self._config, self._logger).initialize(equipment)
                if settings.is_error:
                    raise DeviceError(settings.message)
                cooling = self._config.video.cooling
                set_c = cooling.target_temperature if cooling.enable_cooling else set_point_of(camera.status())
                self._setup = setup_of_camera(settings.details["settings"], set_c)
                if self._due():  # with these settings
                    is_cooled = True
                    cool_sensor(self._config, equipment, self._logger)
                    self._setup = setup_of_camera(settings.details["settings"], set_point_of(camera.status()))
                yield equipment
            except KeyboardInterrupt:
                if is_cooled and warms_up(self._config):
                    self._logger.warning("interrupted; the sensor warms up first, another Ctrl-C skips that")
                raise
            finally:
                if is_cooled and warms_up(self._config):
                    warm_up(equipment, self._logger)

    def _refusal(self) -> str | None:
        """Return why no exposure may begin now."""
        reason = self._safety.refusal(must_be_open=self._takes_sky) or self._sky_refusal()
        if self._clock.utc() >= self._visit.end:
            reason = "the hours of this visit are over (schedule.max_hours, and noon)"
        self._refused = reason is not None
        return reason

    def _wait_for_mount(self) -> None:
        """Take the flats that are missing once the mount may move."""
        self._refused = True

    def _take_all(self, equipment: Equipment) -> None:
        """Take what is due, kind by kind; what fails is left for the next visit."""
        failed: set[WantedSeries] = set()
        while todo := [one for one in self._due() if one.wanted not in failed]:
            if self._clock.utc() >= self._visit.end:
                self._leave(todo, "the hours of this visit are over")
                return
            batch = self._choose(todo)
            if self._takes_sky and not self._sun_is_right():
                failed |= {one.wanted for one in batch}
                self._leave(batch, self._sky_refusal() or "the sun was right for too short a time")
                continue
            if not self._is_safe():
                continue
            self._refused = False
            status = self._take(equipment, batch)
            self._taken += status.details.get("taken", 0)
            if not self._refused:  # else it goes on once it is safe, or the hours are over
                failed |= {one.wanted for one in batch}
                self._lines += status.details.get("errors", [])

    def _sky_refusal(self) -> str | None:
        """Return why the sun forbids what is taken now."""
        return self._sky.refusal(self._clock.utc()) if self._sky is not None and self._takes_sky else None

    def _sun_is_right(self) -> bool:
        """Wait for the sun; return false if its time does not come, or does not come again, in this visit."""
        if self._sky is None:
            return True
        opens_at = self._sky.opens_at(self._clock.utc(), self._visit.end)
        if opens_at is None:
            return False
        if opens_at > self._clock.utc():
            self._logger.info("flats of the sky wait for the sun until %s UTC", f"{opens_at:%H:%M}")
        while (left_s := (opens_at - self._clock.utc()).total_seconds()) > 0:
            self._clock.sleep(min(SAFETY_PAUSE_S, left_s))
        return True

    def _take(self, equipment: Equipment, batch: Sequence[DueSeries]) -> Status:
        if batch[0].wanted.is_of_matrix:
            return self._take_matrix(equipment, batch)
        if batch[0].wanted.is_for_lights:
            return self._take_for_lights(equipment, batch)
        take = self._take_flats if batch[0].wanted.kind is FrameType.FLAT else self._take_darks
        return take(equipment, batch)

    def _choose(self, todo: Sequence[DueSeries]) -> list[DueSeries]:
        """Return the flats, the darks or those of the matrix: flats of the sky first, unless the roof is closed."""
        sky = self._config.flat_capture.twilight
        matrix = [one for one in todo if one.wanted.is_of_matrix]
        if len(matrix) == len(todo):
            self._takes_sky = False
            return matrix
        todo = [one for one in todo if not one.wanted.is_of_matrix]
        flats = [one for one in todo if one.wanted.kind is FrameType.FLAT]
        darks = [one for one in todo if one.wanted.kind is not FrameType.FLAT]
        darks = [one for one in darks if not one.wanted.is_for_lights] or darks
        is_closed = sky and bool(darks) and self._safety.refusal(must_be_open=True) is not None
        batch = flats if flats and (not darks or (sky and not is_closed)) else darks
        self._takes_sky = sky and batch is flats
        return batch

    def _leave(self, due: Sequence[DueSeries], reason: str) -> None:
        line = f"{reason}; left for the next time: {', '.join(one.wanted.label for one in due)}"
        self._lines.append(line)
        self._logger.warning("%s", line)

    def _is_safe(self) -> bool:
        """Wait until it is safe; return false if the visit is over before."""
        must_be_open = self._takes_sky
        end = self._visit.end
        return wait_until_safe(self._safety, self._clock, end, self._logger, must_be_open=must_be_open) is None

    def _take_darks(self, equipment: Equipment, due: Sequence[DueSeries]) -> Status:
        # What is due is known: no series of another night stands for it, and none is continued.
        of_night = {"dark_capture.strategy": "all", "dark_capture.continue_series": "session"}
        config = with_overrides(self._config, of_night)
        left_s = (self._visit.end - self._clock.utc()).total_seconds()
        darks = _DueDarks(config, self._logger, planned=self._watchers.planned)
        darks.choose(due, left_s)
        darks.initialize(equipment)
        status = darks.capture_darks(darks.exposures_s)
        if darks.without_time:
            self._leave(darks.without_time, "there is no time for all darks (schedule.max_hours)")
        return status

    def _take_matrix(self, equipment: Equipment, due: Sequence[DueSeries]) -> Status:
        """Take what is due of the matrix, within the hours that are left to it."""
        config = with_overrides(self._config, {"dark_capture.continue_series": "session"})
        darks = _DueMatrix(config, self._logger, planned=self._watchers.planned)
        darks.choose(due)
        darks.initialize(equipment)
        now_s = self._clock.now_s()
        self._matrix_began_s = now_s if self._matrix_began_s is None else self._matrix_began_s
        left_h = (self._visit.end - self._clock.utc()).total_seconds() / 3600
        most_h = self._config.dark_capture.max_hours
        if most_h is not None:
            left_h = min(left_h, most_h - (now_s - self._matrix_began_s) / 3600)
        if left_h <= 0:
            return Status(level=Level.SUCCESS, message="the hours of the matrix are over")
        return darks.capture_darks(max_hours=left_h)

    def _take_for_lights(self, equipment: Equipment, due: Sequence[DueSeries]) -> Status:
        """Take what is due of the flats for lights, or of their darks, each with settings of its own."""
        of_night = {"dark_capture.continue_series": "session", "flat_capture.continue_series": "session"}
        capture = _DuePoints(with_overrides(self._config, of_night), self._logger, planned=self._watchers.planned)
        capture.initialize(equipment)
        left_h = (self._visit.end - self._clock.utc()).total_seconds() / 3600
        return capture.capture_points([self._points[one.wanted] for one in due], left_h)

    def _take_flats(self, equipment: Equipment, due: Sequence[DueSeries]) -> Status:
        filters = [one.wanted.filter_name for one in due if one.wanted.filter_name is not None]
        overrides = {"flat_capture.continue_series": "session", "flat_capture.filters": filters}
        flats = FlatCapture(with_overrides(self._config, overrides), self._logger, planned=self._watchers.planned)
        flats.initialize(equipment)
        return flats.capture_flats()

    def _make_masters(self) -> VisitOutcome:
        if not has_frames(self._config) and (self._lines or has_masters(self._config)):
            self._logger.info("no frames are on disk, and no master is made")
            return VisitOutcome(taken=self._taken, lines=tuple(self._lines))
        creator = MasterFrameCreator(self._config, self._logger, self._watchers.masters)
        status = creator.create_all_master_frames(with_captured=True)
        self._watchers.masters_made(creator)
        if status.is_error:
            self._lines += status.details["errors"]
        report = creator.report
        made = {path for one in report.made for _, path in one.files} if report is not None else set()
        return VisitOutcome(
            taken=self._taken,
            masters=tuple(sorted(made)),
            failed_quality=tuple(status.details.get("failed_quality", ())),
            lines=tuple(self._lines),
        )


class _DueDarks(DarkCapture):
    """Darks of which only those that are due are taken, as many as there is time for."""

    without_time: tuple[DueSeries, ...] = ()
    exposures_s: tuple[float, ...] = ()

    def _not_taken(self, lines: Sequence[str]) -> list[str]:
        """Return nothing: what is not possible is never due."""
        return []

    def choose(self, due: Sequence[DueSeries], left_s: float) -> None:
        """Take these, and no more than fit into some seconds."""
        self._due, self._left_s = tuple(due), left_s
        exposures_s = [one.wanted.exposure_time_s for one in due if one.wanted.exposure_time_s is not None]
        # With none given, darks of all flats on disk would be planned.
        self.exposures_s = tuple(exposures_s) or (self.config.dark_capture.science_exposure_time,)

    def capture_darks(self, flat_exposures_s: Sequence[float] = (), *, max_hours: float | None = None) -> Status:
        """Take what is due and fits; what is due of a matrix is taken by `_DueMatrix`."""
        return self._guarded(lambda: self._capture("darks", self.plan(flat_exposures_s)))

    def plan(self, flat_exposures_s: Sequence[float] = ()) -> DarkPlan:
        """Plan what is due and fits."""
        whole = super().plan(flat_exposures_s)
        chosen, without_time, left_s = [], [], self._left_s
        for series, cost in zip(whole.series, whole.costs, strict=True):
            wanted = replace(_NO_FRAMES, kind=series.frame_type, exposure_time_s=series.exposure_time_s)
            due = [one for one in self._due if wanted.as_taken(_ANY_TIME, _ANY_TIME.date()).answers(one.wanted)]
            if due and cost.time_s <= left_s:
                left_s -= cost.time_s
                chosen.append((series, cost))
            else:
                without_time += due
        self.without_time = tuple(without_time)
        return replace(whole, series=tuple(series for series, _ in chosen), costs=tuple(cost for _, cost in chosen))


class _DueMatrix(DarkCapture):
    """The matrix, of which only those series that are due are taken."""

    _due: frozenset[WantedSeries] = frozenset()

    def _not_taken(self, lines: Sequence[str]) -> list[str]:
        """Return nothing: what is not possible is never due."""
        return []

    def choose(self, due: Sequence[DueSeries]) -> None:
        """Take these."""
        self._due = frozenset(one.wanted for one in due)

    def _takes(self, point: Point) -> bool:
        return wanted_point(self.config, point) in self._due


class _DuePoints(Capture):
    """Series that are due, each with settings of its own."""

    def capture_points(self, points: Sequence[Point], max_hours: float) -> Status:
        """Take them; afterwards the camera has the settings of the configuration again."""
        equipment, _ = self._ready()
        step = "flats" if points[0].kind is FrameType.FLAT else "flat darks"
        try:
            return self._guarded(lambda: self._capture_points(step, points, strategy="all", max_hours=max_hours))
        finally:
            equipment.camera.apply(camera_request(self.config))


_NO_FRAMES = WantedSeries(kind=FrameType.DARK, n_frames=0)
_ANY_TIME = datetime.min
