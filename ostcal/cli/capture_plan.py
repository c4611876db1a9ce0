"""`ostcal capture`: take the series of a plan."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from ostcal.cli.capture import ask_while, capture_progress_of, command_again
from ostcal.cli.capture_tables import plan_table, series_table
from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    open_config,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.vocabulary import DarkStrategy

logger = logging.getLogger("ostcal")

if TYPE_CHECKING:
    from ostcal.capture.budget import StepPlan
    from ostcal.capture.series_plan import SeriesOutcome

EXAMPLES = """\b
Examples:
  ostcal coverage lights --config night.yaml --plan plan.yaml
  ostcal capture --plan plan.yaml --config night.yaml --dry-run
  ostcal capture --plan plan.yaml --config night.yaml --max-hours 6
"""


@click.command("capture", cls=JsonCommand, epilog=EXAMPLES)
@click.option("--plan", "plan_path", required=True, metavar="FILE", type=click.Path(), help="The capture plan (YAML).")
@config_option
@click.option(
    "--max-hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Leave out what takes longer."
)
@click.option(
    "--strategy",
    type=click.Choice(get_args(DarkStrategy)),
    default="all",
    show_default=True,
    help="Whether complete bias and darks of earlier nights serve, as dark_capture.strategy.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be taken, and take nothing.")
@click.option("--no-confirm", is_flag=True, help="Ask no questions: the cover and the light must be ready.")
@debug_option
def capture_command(
    plan_path: str,
    config_options: ConfigOptions,
    max_hours: float | None,
    strategy: DarkStrategy,
    dry_run: bool,
    no_confirm: bool,
    debug: bool,
    log_level: str,
) -> None:
    """Take the series of a plan: bias, darks and flats for many settings and temperatures.

    A table shows first what is missing, how long it takes and how much disk space it needs. Temperatures are taken
    from the one that is nearest to the sensor's own, then in one direction. Only missing frames are taken, so a run
    that was interrupted continues in the same night when the command is run again.
    """
    outcomes: list[SeriesOutcome] = []
    with command_console(log_level, debug, resume_command=command_again()) as console:
        from ostcal.workflow.plan_run import run_plan

        config = open_config(config_options)
        log_path = start_log_file(config, "calibration", debug)
        progress = capture_progress_of(config, console)

        def planned(plan: StepPlan) -> bool:
            progress.stop()
            plan_table(plan).print_to(console)
            progress.begin(plan)
            return True

        def series_ended(outcome: SeriesOutcome) -> None:
            outcomes.append(outcome)
            if record := json_record():
                record.series_ended(outcome)

        with progress:
            status = run_plan(
                config,
                plan_path,
                strategy=strategy,
                max_hours=max_hours,
                dry_run=dry_run,
                watcher=progress.watcher(series_ended),
                ask=ask_while(progress, no_confirm),
                planned=planned,
            )
        if record := json_record():
            from ostcal.cli.entries import captured_entries

            record.put(series=captured_entries(outcomes))
        if outcomes:
            series_table(outcomes).print_to(open_console())
        details: dict[str, Any] = status.details
        if "frames" in details:
            for line in details["errors"]:
                logger.error("%s", line)
        elif not status.is_error:  # an empty plan
            logger.info("%s", status.message)
        if dry_run and not status.is_error and "frames" in details:
            logger.info("%s", status.message)
        logger.info("log: %s", log_path)
    sys.exit(EXIT_FAILED if status.is_error else 0)
