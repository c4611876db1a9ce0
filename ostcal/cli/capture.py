"""`ostcal darks`, `ostcal flats`, `ostcal workflow`, `ostcal cameras`: what takes frames."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from ostcal.cli.console import (
    EXIT_FAILED,
    debug_option,
    errors_to_exit_codes,
    open_console,
    start_log_file,
    start_logging,
)
from ostcal.config import Config, dump, load_config

if TYPE_CHECKING:
    from ostcal.capture.darks import DarkPlan
    from ostcal.capture.plan import CaptureWatcher, FrameDone, SeriesOutcome

logger = logging.getLogger("ostcal")
F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_EXAMPLES = """\b
Examples:
  ostcal workflow --config night.yaml
  ostcal workflow --config night.yaml --step darks --wait-for-cooling
  ostcal workflow --config night.yaml --no-confirm     (nobody is asked: cover and light must be ready)
"""


def _capture_options(function: F) -> F:
    """Add the options that all capturing commands share."""
    options = (
        click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file."),
        click.option("--no-confirm", is_flag=True, help="Ask nobody to do anything by hand."),
        click.option("--wait-for-cooling", is_flag=True, help="Wait for the temperature, whatever the file says."),
        debug_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("workflow", epilog=WORKFLOW_EXAMPLES)
@click.option(
    "--step",
    type=click.Choice(["darks", "flats", "masters", "all"]),
    default="all",
    show_default=True,
    help="One step, or all in their order.",
)
@_capture_options
def workflow_command(step: str, **options: Any) -> None:
    """Take darks, flats and the darks the flats still miss, and make masters of them.

    Started again it goes on where it stopped: only missing frames are taken.
    """
    _run(step, **options)


@click.command("darks")
@_capture_options
def darks_command(**options: Any) -> None:
    """Take the bias frames and darks that are missing."""
    _run("darks", **options)


@click.command("flats")
@_capture_options
def flats_command(**options: Any) -> None:
    """Take the flats that are missing, at the exposure that gives the wanted level."""
    _run("flats", **options)


def _run(step: Any, *, config_path: str, no_confirm: bool, wait_for_cooling: bool, debug: bool, log_level: str) -> None:
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        log_path = start_log_file(config.master_frames.output_dir, "calibration", debug)
        logger.debug("configuration as loaded from %s:\n%s", config_path, dump(config))
        ask = None if no_confirm or not sys.stdin.isatty() else _ask
        code = _capture(config, console, step, ask, wait=True if wait_for_cooling else None)
        logger.info("log: %s", log_path)
    sys.exit(code)


def _ask(question: str) -> bool:
    return click.confirm(question, default=True, err=True)


def _capture(config: Config, console: Console, step: Any, ask: Callable[[str], bool] | None, wait: bool | None) -> int:
    from ostcal.workflow import CalibrationWorkflow

    watcher, outcomes = _watcher(console)

    def planned(plan: DarkPlan) -> bool:
        console.print(_dark_table(plan))
        return ask is None or not plan.n_bytes or ask("Take these darks?")

    workflow = CalibrationWorkflow(config, logger, watcher, ask, planned=planned)
    statuses = workflow.run(step, wait_for_cooling=wait)
    if outcomes:
        open_console().print(_series_table(outcomes))
    for name, status in statuses.items():
        if name == "masters":
            continue
        for line in status.details.get("errors", []):
            logger.error("%s: %s", name, line)
    for path in [path for files in workflow.creator.get_status()["data"].values() for path in files]:
        click.echo(path)
    return EXIT_FAILED if any(status.is_error for status in statuses.values()) else 0


def _watcher(console: Console) -> tuple[CaptureWatcher, list[SeriesOutcome]]:
    """Give a watcher that says what is odd about a frame, and the list it fills with what became of the series.

    What happens between series is logged where it happens.
    """
    from ostcal.capture.plan import CaptureWatcher

    outcomes: list[SeriesOutcome] = []

    def done(frame: FrameDone) -> None:
        marks = [verdict.text for verdict in frame.verdicts if not verdict.passed]
        line = f"{frame.plan.name}: frame {frame.present} of {frame.plan.n_frames}"
        if frame.record.pixels.statistics.mean is not None:
            line += f", mean {frame.record.pixels.statistics.mean:.1f} ADU"
        logger.log(logging.WARNING if marks else logging.DEBUG, "%s", "; ".join([line, *marks]))

    watcher = CaptureWatcher(frame_done=done, series_ended=outcomes.append)
    return watcher, outcomes


def _dark_table(plan: DarkPlan) -> Table:
    title = f"Darks: {plan.time_s / 60:.1f} minutes, {plan.n_bytes / 1e9:.2f} GB"
    table = Table(title=title, title_justify="left")
    for name in ("exposure", "frames", "missing", "time", "space"):
        table.add_column(name, justify="right")
    for series, cost in zip(plan.series, plan.costs, strict=True):
        table.add_row(
            f"{series.exposure_time_s:g} s",
            str(series.n_frames),
            str(cost.missing),
            f"{cost.time_s / 60:.1f} min",
            f"{cost.n_bytes / 1e6:.0f} MB",
        )
    return table


def _series_table(outcomes: list[SeriesOutcome]) -> Table:
    table = Table(title="Series", title_justify="left")
    table.add_column("series", overflow="fold")
    for name in ("frames", "taken now", "level"):
        table.add_column(name, justify="right")
    table.add_column("end")
    taken = Counter[str]()
    for outcome in outcomes:
        taken[outcome.location] += outcome.taken
    for outcome in {outcome.location: outcome for outcome in outcomes}.values():
        level = "" if outcome.level_adu is None else f"{outcome.level_adu:.1f}"
        table.add_row(outcome.location, str(outcome.present), str(taken[outcome.location]), level, str(outcome.end))
    return table


@click.command("cameras")
@click.option("--timeout", "timeout_s", default=3.0, show_default=True, help="Seconds to wait for answers.")
@debug_option
def cameras_command(timeout_s: float, debug: bool, log_level: str) -> None:
    """Find Alpaca servers in this network and list their devices."""
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        from ostcal.devices.discovery import discover

        table = Table(title="Devices", title_justify="left")
        for name in ("host", "port", "type", "number", "name"):
            table.add_column(name)
        for server in discover(timeout_s):
            for device in server.devices:
                table.add_row(server.host, str(server.port), device.device_type, str(device.device_id), device.name)
        if table.row_count:
            open_console().print(table)
        else:
            logger.warning("no Alpaca server answered within %g s; is it running, and in this network?", timeout_s)
    sys.exit(0 if table.row_count else EXIT_FAILED)
