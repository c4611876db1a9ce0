"""`Schedule`: take what is due at its times, make masters, sleep; for a year, without a person."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from ostcal.capture.nights import capture_night
from ostcal.clock import Clock
from ostcal.config import Config, ConfigSource, load_config
from ostcal.errors import ConfigError, OstcalError, StorageError
from ostcal.places.locking import locked
from ostcal.places.night_folders import root_of
from ostcal.places.paths import is_remote, joined, make_directory, path_of
from ostcal.visit_times import no_twilight_line, noon_after
from ostcal.workflow.auto_frames import ExpectedFrames
from ostcal.workflow.capture_rules import refuse_object_stores
from ostcal.workflow.due import TakenSeries, failing, too_old
from ostcal.workflow.journal import VisitRecord, add_visit, read_journal
from ostcal.workflow.lights_due import flats_of_lights
from ostcal.workflow.matrix import matrix_taken, matrix_wanted
from ostcal.workflow.open_devices import clock_of, require_packages
from ostcal.workflow.plans import (
    ComingVisit,
    cadence_of,
    calendar_of,
    coming_visits,
    max_age_of,
    night_at,
    wanted_series,
    zone_of,
)
from ostcal.workflow.taken import newest_bias, setup_of_config, taken_frames
from ostcal.workflow.visit import Visit, VisitOutcome, VisitWatchers, VisitWork

JOURNAL_FILE = "schedule.json"
LOCK_FILE = ".schedule.lock"
LONGEST_SLEEP_S = 60.0
"""The clock of the computer may be set, or the computer may sleep, so the time is looked at again."""


class Schedule:
    """Take what is due at the times of a configuration, make the masters, and wait for the next time.

    What is due follows from the frames on disk; a small journal says which visits have ended. So a schedule that was
    killed goes on where it was: the series of this night are continued, and those of another night never.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults.
    clock : Clock, optional
        Tells the time and waits; by default that of this computer.
    watchers : VisitWatchers, optional
        Callbacks for what a visit does.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal.workflow.schedule import Schedule
    >>> Schedule("night.yaml").run()  # doctest: +SKIP
    """

    def __init__(
        self, config: ConfigSource = None, clock: Clock | None = None, watchers: VisitWatchers | None = None
    ) -> None:
        self.config: Config = load_config(config)
        self._clock = clock or clock_of(self.config)
        self._watchers = watchers or VisitWatchers()
        self._logger = logging.getLogger("ostcal")
        self._calendar = calendar_of(self.config)
        self._noon_utc_s = capture_night(self._clock, self.config.site.longitude).noon_utc_s
        masters = root_of(self.config.master_frames.output_dir)
        self._directory = "." if is_remote(masters) else masters
        self._journal_file = joined(self._directory, JOURNAL_FILE)
        self._ended: set[datetime] = set()
        self._said: set[str] = set()

    def coming(self, days: int = 7) -> tuple[list[ComingVisit], list[str]]:
        """Return the visits of the coming days and what will be due; no device is touched.

        Parameters
        ----------
        days : int
            Days from now on.

        Returns
        -------
        visits : list of ComingVisit
            In order.
        lines : list of str
            One for each day without the twilight that is waited for.
        """
        taken, problems = self._taken()
        of_matrix = matrix_taken(self.config, self._noon_utc_s)
        setup, now = setup_of_config(self.config), self._clock.utc()
        night, cadence = night_at(now, self._noon_utc_s), cadence_of(self.config)
        of_lights, no_lights = flats_of_lights(self.config, night, self._noon_utc_s, setup, None, cadence)
        visits, lines = coming_visits(
            self.config,
            taken,
            now,
            self._noon_utc_s,
            days,
            of_matrix,
            [due for due, _ in of_lights],
            ExpectedFrames(config=self.config, bias=newest_bias(self.config, setup)),
        )
        return visits, [*lines, *([no_lights] if no_lights else []), *problems]

    def next_visit(self) -> datetime | None:
        """Return the next time, or ``None`` if there is none within four years."""
        return self._calendar.next_after(self._clock.utc())

    def run_once(self) -> VisitOutcome:
        """Take what is due now, whatever the times say, and make the masters.

        Returns
        -------
        VisitOutcome
            What was taken and made, and what went wrong.

        Raises
        ------
        OstcalError
            If a disk cannot be written, or another schedule runs.
        """
        refuse_object_stores(self.config)
        require_packages(self.config)
        make_directory(self._directory)
        with locked(path_of(joined(self._directory, LOCK_FILE)), what=f"the schedule of {self._directory}"):
            return self._attend(self._visit_at(self._clock.utc()))

    def run(self) -> None:
        """Work at every time, until it is interrupted; an error of one night is a line, and the next time goes on.

        Raises
        ------
        ConfigError
            If none of the times ever comes, or a package of the extra ``capture`` is missing.
        StorageError
            If another schedule runs, or the directory of the masters cannot be written.
        KeyboardInterrupt
            After the exposure was aborted and downloaded frames are committed.
        """
        refuse_object_stores(self.config)
        require_packages(self.config)
        make_directory(self._directory)
        with locked(path_of(joined(self._directory, LOCK_FILE)), what=f"the schedule of {self._directory}"):
            self._ended |= {visit.began_at for visit in read_journal(self._journal_file).visits}
            while True:
                visit = self._open_visit()
                if visit is None:
                    self._sleep()
                else:
                    self._attend(visit)

    def _taken(self) -> tuple[list[TakenSeries], list[str]]:
        return taken_frames(self.config, self._noon_utc_s, setup_of_config(self.config), any_camera=True)

    def _visit_at(self, at: datetime) -> Visit:
        end = min(at + timedelta(hours=self.config.schedule.max_hours), noon_after(at, self._noon_utc_s))
        return Visit(at=at, night=night_at(at, self._noon_utc_s), end=end)

    def _open_visit(self) -> Visit | None:
        """Return the visit whose time has come and whose hours are not over, unless it has ended."""
        now = self._clock.utc()
        at = self._calendar.last_before(now, self.config.schedule.max_hours)
        if at is None or at in self._ended:
            return None
        visit = self._visit_at(at)
        return visit if now < visit.end else None

    def _attend(self, visit: Visit) -> VisitOutcome:
        """Make a visit; what goes wrong is logged, and never raised."""
        self._logger.info("night %s: looking what is due, until %s UTC", visit.night, f"{visit.end:%Y-%m-%d %H:%M}")
        work = VisitWork(self.config, visit, self._noon_utc_s, self._clock, self._watchers)
        try:
            outcome = work.run()
        except OstcalError as error:
            self._logger.error("%s", error)
            self._logger.debug("traceback", exc_info=True)
            outcome = VisitOutcome(lines=(str(error),))
        self._record(visit, outcome)
        for line in self._old():
            self._logger.warning("%s", line)
        self._logger.info(
            "night %s: %d frames taken, %d masters made%s",
            visit.night,
            outcome.taken,
            len(outcome.masters),
            "" if outcome.is_complete else "; it is not complete, for the reasons above",
        )
        self._watchers.ended(outcome)
        return outcome

    def _record(self, visit: Visit, outcome: VisitOutcome) -> None:
        self._ended.add(visit.at)
        record = VisitRecord(
            began_at=visit.at,
            night=visit.night,
            ended_at=self._clock.utc(),
            taken=outcome.taken,
            made=len(outcome.masters),
            is_complete=outcome.is_complete,
            lines=outcome.lines,
        )
        try:
            add_visit(self._journal_file, read_journal(self._journal_file), record)
        except StorageError as error:
            self._logger.error("%s", error)

    def _old(self) -> tuple[str, ...]:
        try:
            taken, _ = self._taken()
            of_matrix = matrix_taken(self.config, self._noon_utc_s)
        except OstcalError as error:
            return (str(error),)
        now, limits = self._clock.utc(), max_age_of(self.config)
        wanted = wanted_series(self.config)
        lines = (*failing(wanted, taken), *too_old(wanted, taken, now, limits))
        for one in matrix_wanted(self.config):
            lines += too_old([one], of_matrix[one.settings], now, limits)
        return lines

    def _sleep(self) -> None:
        """Sleep towards the next time; say which it is, once."""
        now = self._clock.utc()
        following = self.next_visit()
        if following is None:
            raise ConfigError(f"schedule.when: none of {', '.join(self.config.schedule.when)} comes within four years")
        missing = self._calendar.without_twilight(now.date()) if following - now > timedelta(days=1) else ()
        why = f"{no_twilight_line(now.date(), missing)}; " if missing else ""
        self._say(f"{why}the next time is {local_text(self.config, following)}", key=following.isoformat())
        self._clock.sleep(min(LONGEST_SLEEP_S, (following - now).total_seconds()))

    def _say(self, line: str, key: str) -> None:
        if key not in self._said:
            self._said = {key}
            self._logger.info("%s", line)


def local_text(config: Config, when: datetime) -> str:
    """Write a moment in the time zone of the configuration: ``2026-11-30 18:30 CET``."""
    return f"{when.astimezone(zone_of(config)):%Y-%m-%d %H:%M %Z}".strip()
