"""`ostcal schedule`: calibration frames of every night, without a person."""

from __future__ import annotations

import logging
import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    EXIT_QUALITY,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    import_numba,
    open_config,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record, with_hooks
from ostcal.cli.masters import show_masters
from ostcal.cli.tables import Table
from ostcal.errors import ConfigError

if TYPE_CHECKING:
    from ostcal.capture.series_plan import SeriesOutcome
    from ostcal.cli.document import VisitEntry
    from ostcal.workflow.due import DueSeries
    from ostcal.workflow.plans import ComingVisit
    from ostcal.workflow.schedule import Schedule
    from ostcal.workflow.visit import VisitOutcome, VisitWatchers

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal schedule --config night.yaml                  (until it is ended, as a service)
  ostcal schedule --config night.yaml --dry-run        (the coming week)
  ostcal schedule --config night.yaml --once           (what is due now, for cron)
"""


@click.command("schedule", cls=JsonCommand, epilog=EXAMPLES)
@config_option
@click.option("--once", is_flag=True, help="Take what is due now, make the masters and end.")
@click.option("--dry-run", is_flag=True, help="List the visits of the coming week and what will be due; take nothing.")
@debug_option
def schedule_command(config_options: ConfigOptions, once: bool, dry_run: bool, debug: bool, log_level: str) -> None:
    """Take the calibration frames that are due, every night, and make the masters.

    At the times of schedule.when it takes the bias frames, darks and flats that are older than
    schedule.cadence_days, combines and judges them, and sleeps until the next time. It asks nothing. When it is
    killed and started again, it continues where it was: nothing is taken twice.
    """
    if once and dry_run:
        raise click.UsageError("--once and --dry-run exclude each other")
    with command_console(log_level, debug):
        import_numba()
        from ostcal.workflow.schedule import Schedule

        config = open_config(config_options)
        if dry_run:
            _show_coming(Schedule(config))
            return
        log_path = start_log_file(config, "schedule", debug)
        schedule = Schedule(config, watchers=_watchers(ends_night=not once))
        if not once:
            schedule.run()
        outcome = schedule.run_once()
        logger.info("log: %s", log_path)
    if not outcome.is_complete:
        sys.exit(EXIT_FAILED)
    sys.exit(EXIT_QUALITY if outcome.failed_quality else 0)


def _watchers(*, ends_night: bool) -> VisitWatchers:
    """Return what shows the masters, and tells the document and the hooks of series, masters and nights."""
    from ostcal.build.request import Watcher
    from ostcal.capture.series_plan import CaptureWatcher
    from ostcal.cli.entries import captured_entries
    from ostcal.workflow.visit import VisitWatchers

    series: list[SeriesOutcome] = []

    def series_ended(outcome: SeriesOutcome) -> None:
        series.append(outcome)
        if record := json_record():
            record.series_ended(outcome)

    def ended(outcome: VisitOutcome) -> None:
        if record := json_record():
            record.put(series=captured_entries(series))
            for line in outcome.lines if not ends_night else ():
                record.put_error(line)
            if not ends_night:
                record.is_of_a_night()
            else:
                record.finish_night(0 if outcome.is_complete else EXIT_FAILED)
        series.clear()

    return VisitWatchers(
        capture=CaptureWatcher(series_ended=series_ended),
        masters=with_hooks(Watcher()),
        masters_made=show_masters,
        ended=ended,
    )


def _show_coming(schedule: Schedule) -> None:
    from ostcal.workflow.open_mount import pointing_line
    from ostcal.workflow.schedule import local_text

    visits, lines = schedule.coming()
    if record := json_record():
        record.put(visits=tuple(map(_visit_entry, visits)))
    for line in lines:
        logger.warning("%s", line)
    if not visits:
        first = schedule.next_visit()
        if first is None:
            raise ConfigError(f"schedule.when: none of {', '.join(schedule.config.schedule.when)} ever comes")
        logger.warning("there is no visit in the coming week; the next is %s", local_text(schedule.config, first))
        return
    if (pointing := pointing_line(schedule.config, _first_flats(visits))) is not None:
        logger.info("%s", pointing)
    table = Table("The coming week", "=visit", "due", ">frames", ">time")
    for visit in visits:
        due = _due_text(visit.due) or "nothing"
        frames, time = (str(visit.frames), _time_text(visit.time_s)) if visit.due else ("", "")
        table.add_row(local_text(schedule.config, visit.at), due, frames, time)
    table.print_to(open_console())


def _first_flats(visits: list[ComingVisit]) -> datetime:
    """Return the time of the first visit that takes flats, else of the first."""
    from ostcal.frames import FrameType

    with_flats = (visit.at for visit in visits if any(one.wanted.kind is FrameType.FLAT for one in visit.due))
    return next(with_flats, visits[0].at).astimezone(UTC)


def _time_text(seconds: float) -> str:
    """Write a time in hours, below an hour in minutes."""
    minutes = math.ceil(seconds / 60)
    return f"{seconds / 3600:.1f} h" if minutes >= 60 else f"{minutes} min"


def _due_text(due: tuple[DueSeries, ...]) -> str:
    """Write what is due in few words: ``bias, darks of 0.5 s, 5 s, flats L, R``."""
    words: list[str] = []
    before = ""
    of_matrix = sum(one.wanted.is_of_matrix for one in due)
    for one in due:
        if one.wanted.is_of_matrix:
            continue
        kind, _, rest = one.wanted.label.partition(" of " if " of " in one.wanted.label else " ")
        words.append(rest if kind == before and rest else one.wanted.label)
        before = kind
    if of_matrix:
        words.append(f"{of_matrix} series of the matrix")
    return ", ".join(words)


def _visit_entry(visit: ComingVisit) -> VisitEntry:
    from ostcal.cli.document import DueEntry, VisitEntry

    due = tuple(
        DueEntry(
            kind=str(one.wanted.kind),
            exposure_time_s=one.wanted.exposure_time_s,
            filter=one.wanted.filter_name,
            frames=one.frames + one.present,
            present=one.present,
            reason=one.reason,
            settings=one.wanted.settings_text,
        )
        for one in visit.due
    )
    return VisitEntry(at=visit.at, night=visit.night.isoformat(), frames=visit.frames, time_s=visit.time_s, due=due)
