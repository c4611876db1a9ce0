"""`ostcal darks`, `ostcal flats`, `ostcal workflow`, `ostcal cameras`: what takes frames."""

from __future__ import annotations

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostcal.cli.capture_progress import CaptureProgress
from ostcal.cli.console import (
    EXIT_FAILED,
    RunProgress,
    debug_option,
    errors_to_exit_codes,
    open_console,
    start_log_file,
    start_logging,
)
from ostcal.cli.masters import exit_code_of, show_masters
from ostcal.config import Config, dump, load_config, without_endpoint
from ostcal.vocabulary import Step

if TYPE_CHECKING:
    from ostcal.build.request import Watcher
    from ostcal.capture.budget import StepPlan
    from ostcal.capture.plan import SeriesOutcome
    from ostcal.engine.graph import Progress
    from ostcal.inputs.grouping import Group
    from ostcal.status import Status
    from ostcal.workflow import CalibrationWorkflow

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
        click.option("--no-confirm", is_flag=True, help="Ask nothing: cover, light and temperature are as they are."),
        click.option("--wait-for-cooling", is_flag=True, help="Wait for the temperature, whatever the file says."),
        debug_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("workflow", epilog=WORKFLOW_EXAMPLES)
@click.option(
    "--step",
    type=click.Choice(get_args(Step)),
    default="all",
    show_default=True,
    help="One step, or all in their order.",
)
@_capture_options
def workflow_command(step: str, **options: Any) -> None:
    """Take darks, flats and the darks the flats still miss, and make masters of them.

    Started again it goes on where it stopped: only missing frames are taken. Before a step that needs hands it asks
    whether cover or light is ready, on a terminal only: elsewhere, and with --no-confirm, it goes on with a warning
    that names what must be ready.
    """
    _run(step, **options)


@click.command("darks")
@_capture_options
def darks_command(**options: Any) -> None:
    """Take the bias frames and darks that are missing.

    Where neither a cover nor a shutter makes it dark it asks whether the telescope is covered, on a terminal only:
    elsewhere, and with --no-confirm, it goes on with a warning; light in a test frame is an error.
    """
    _run("darks", **options)


@click.command("flats")
@_capture_options
def flats_command(**options: Any) -> None:
    """Take the flats that are missing, at the exposure that gives the wanted level.

    Where no device opens the telescope and makes the light it asks whether they are ready, on a terminal only:
    elsewhere, and with --no-confirm, it goes on with a warning that names what must be ready.
    """
    _run("flats", **options)


def _run(step: Any, *, config_path: str, no_confirm: bool, wait_for_cooling: bool, debug: bool, log_level: str) -> None:
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug, go_on=_command_again()):
        config = load_config(config_path)
        log_path = start_log_file(config.master_frames.output_dir, "calibration", debug)
        logger.debug("configuration as loaded from %s:\n%s", config_path, dump(without_endpoint(config)))
        asks = not no_confirm and sys.stdin.isatty()
        code = _capture(config, console, step, asks=asks, wait=True if wait_for_cooling else None)
        logger.info("log: %s", log_path)
    sys.exit(code)


def _command_again() -> str:
    """Give the command as it was given, for a person who is to give it again."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE:
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(words)


def _capture(config: Config, console: Console, step: Any, *, asks: bool, wait: bool | None) -> int:
    from ostcal.workflow import CalibrationWorkflow

    simulated = config.video.camera_type == "simulator"
    masters_progress = RunProgress(console, "masters")
    progress = CaptureProgress(console, config.video.simulator.time_scale if simulated else 1.0)
    outcomes: list[SeriesOutcome] = []

    def ask(question: str) -> bool:
        progress.stop()
        return click.confirm(question, default=True, err=True)

    def planned(plan: StepPlan) -> bool:
        progress.stop()
        if plan.costs:
            console.print(_plan_table(plan))
        progress.begin(plan)
        return True

    workflow = CalibrationWorkflow(
        config,
        logger,
        progress.watcher(outcomes.append),
        ask if asks else None,
        masters_watcher=_masters_watcher(masters_progress, progress) if step in ("masters", "all") else None,
        planned=planned,
    )
    try:
        statuses = workflow.run(step, wait_for_cooling=wait)
    finally:
        progress.stop()
        masters_progress.stop()
    return _finish(workflow, statuses, outcomes)


def _finish(workflow: CalibrationWorkflow, statuses: Mapping[str, Status], outcomes: list[SeriesOutcome]) -> int:
    """Say what was taken and made, and give the exit code."""
    if outcomes:
        open_console().print(_series_table(outcomes))
    _say_what_failed(statuses)
    if "masters" in statuses:
        show_masters(workflow.creator)
    if any(status.is_error for status in statuses.values()):
        return EXIT_FAILED
    return exit_code_of(statuses["masters"]) if "masters" in statuses else 0


def _say_what_failed(statuses: Mapping[str, Status]) -> None:
    """Say at the end which series are not complete; what ended a step, and the masters, was said when it happened."""
    for status in statuses.values():
        for line in status.details["errors"] if "frames" in status.details else ():
            logger.error("%s", line)


def _masters_watcher(progress: RunProgress, capture: CaptureProgress) -> Watcher:
    from ostcal.build.request import Watcher

    def planned(groups: Sequence[Group], total_bytes: int) -> bool:
        capture.stop()
        progress.start(total_bytes)
        return True

    def progressed(done: Progress) -> None:
        progress.advance(done.n_bytes, done.job if done.stage == "combine" else f"{done.job} ({done.stage})")

    return Watcher(planned=planned, progressed=progressed)


def _plan_table(plan: StepPlan) -> Table:
    """Show the series of a step, what is missing, and what that costs."""
    about = "about " if plan.is_estimate else ""
    cost = f"{about}{_time(plan.time_s)}, {plan.n_bytes / 1e9:.2f} GB" if plan.missing else "nothing is missing"
    table = Table(title=f"{plan.step.capitalize()}: {cost}", title_justify="left")
    with_filter = plan.is_estimate
    table.add_column("filter" if with_filter else "exposure", justify="left" if with_filter else "right")
    for name in ("frames", "missing", "time", "space"):
        table.add_column(name, justify="right")
    for series in plan.costs:
        exposure = "" if series.exposure_time_s is None else f"{series.exposure_time_s:g} s"
        table.add_row(
            Text((series.filter_name or "none") if with_filter else exposure),
            str(series.frames),
            str(series.missing),
            f"{about}{_time(series.time_s)}",
            f"{series.n_bytes / 1e6:.0f} MB",
        )
    return table


def _time(seconds: float) -> str:
    """Write a time as an observer thinks of it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


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
