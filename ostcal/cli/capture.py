"""`ostcal darks`, `ostcal flats`, `ostcal workflow`, `ostcal cameras`: the commands that use a camera."""

from __future__ import annotations

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from rich.table import Table
from rich.text import Text

from ostcal.cli.capture_progress import CaptureProgress
from ostcal.cli.console import (
    EXIT_FAILED,
    RunProgress,
    command_console,
    config_option,
    debug_option,
    new_table,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.masters import exit_code_of, show_masters
from ostcal.config import load_config
from ostcal.vocabulary import Step

if TYPE_CHECKING:
    from ostcal.capture.budget import StepPlan
    from ostcal.capture.series_plan import SeriesOutcome
    from ostcal.inputs.grouping import Group

logger = logging.getLogger("ostcal")
F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_EXAMPLES = """\b
Examples:
  ostcal workflow --config night.yaml
  ostcal workflow --config night.yaml --step darks --wait-for-cooling
  ostcal workflow --config night.yaml --no-confirm     (no questions: cover and light must be ready)
"""


def _capture_options(function: F) -> F:
    """Add the options that the capturing commands share."""
    options = (
        config_option,
        click.option("--no-confirm", is_flag=True, help="Ask no questions: the cover and the light must be ready."),
        click.option(
            "--wait-for-cooling", is_flag=True, help="Wait for the temperature, even if wait_for_cooling is false."
        ),
        debug_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("workflow", cls=JsonCommand, epilog=WORKFLOW_EXAMPLES)
@click.option(
    "--step",
    type=click.Choice(get_args(Step)),
    default="all",
    show_default=True,
    help="Run one step, or all of them in order.",
)
@_capture_options
def workflow_command(step: str, **options: Any) -> None:
    """Take darks, flats and the darks that match the flats, and combine them into masters.

    Only missing frames are taken, so an interrupted run continues when the command is run again. Before a step that
    needs your help, such as covering the telescope or switching on a light, it asks whether that is done. Without a
    terminal, and with --no-confirm, it prints a warning instead and continues.
    """
    _run(step, **options)


@click.command("darks", cls=JsonCommand)
@_capture_options
def darks_command(**options: Any) -> None:
    """Take the bias frames and darks that are missing.

    If the camera has no shutter and no cover is configured, it asks whether the telescope is covered. Without a
    terminal, and with --no-confirm, it prints a warning instead and continues. Light in a test frame is an error.
    """
    _run("darks", **options)


@click.command("flats", cls=JsonCommand)
@_capture_options
def flats_command(**options: Any) -> None:
    """Take the flats that are missing; the exposure time is found automatically.

    If no device opens the telescope or switches on the light, it asks whether this is done. Without a terminal, and
    with --no-confirm, it prints a warning instead and continues.
    """
    _run("flats", **options)


def _run(step: Any, *, config_path: str, no_confirm: bool, wait_for_cooling: bool, debug: bool, log_level: str) -> None:
    outcomes: list[SeriesOutcome] = []
    with command_console(log_level, debug, resume_command=_command_again()) as console:
        from ostcal.build.request import Watcher
        from ostcal.workflow import CalibrationWorkflow

        config = load_config(config_path)
        log_path = start_log_file(config, "calibration", debug)
        is_simulated = config.video.camera_type == "simulator"
        progress = CaptureProgress(console, config.video.simulator.time_scale if is_simulated else 1.0)

        def ask(question: str) -> bool:
            progress.stop()
            return click.confirm(question, default=True, err=True)

        def series_ended(outcome: SeriesOutcome) -> None:
            outcomes.append(outcome)
            if record := json_record():
                record.series_ended(outcome)

        def capture_planned(plan: StepPlan) -> bool:
            progress.stop()
            if plan.costs:
                console.print(_plan_table(plan))
            progress.begin(plan)
            return True

        with progress, RunProgress(console, "masters") as masters_progress:

            def masters_planned(groups: Sequence[Group], total_bytes: int) -> bool:
                progress.stop()
                masters_progress.start(total_bytes)
                return True

            workflow = CalibrationWorkflow(
                config,
                logger,
                progress.watcher(series_ended),
                ask if not no_confirm and sys.stdin.isatty() else None,
                masters_watcher=Watcher(planned=masters_planned, progressed=masters_progress.advance_strip),
                planned=capture_planned,
            )
            statuses = workflow.run(step, wait_for_cooling=True if wait_for_cooling else None)
        if record := json_record():
            from ostcal.cli.entries import captured_entries

            record.put(series=captured_entries(outcomes))
        if outcomes:
            open_console().print(_series_table(outcomes))
        # Series that are not complete are named at the end; what ended a step, and the masters, when it happened.
        for line in (line for s in statuses.values() if "frames" in s.details for line in s.details["errors"]):
            logger.error("%s", line)
        if "masters" in statuses:
            show_masters(workflow.creator)
        logger.info("log: %s", log_path)
    if any(status.is_error for status in statuses.values()):
        sys.exit(EXIT_FAILED)
    sys.exit(exit_code_of(statuses["masters"]) if "masters" in statuses else 0)


def _command_again() -> str:
    """Return the command line of this run, for the message after an interrupt."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE:
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return shlex.join(words)


def _plan_table(plan: StepPlan) -> Table:
    """Return the series of a step: frames that are missing, and the time and space that they need."""
    about = "about " if plan.is_estimate else ""
    cost = f"{about}{_time(plan.time_s)}, {plan.n_bytes / 1e9:.2f} GB" if plan.missing else "nothing is missing"
    # Flats are listed by filter, because their exposure time is only found by trials.
    first = "filter" if plan.is_estimate else ">exposure"
    table = new_table(f"{plan.step.capitalize()}: {cost}", first, ">frames", ">missing", ">time", ">space")
    for series in plan.costs:
        exposure = "" if series.exposure_time_s is None else f"{series.exposure_time_s:g} s"
        table.add_row(
            Text((series.filter_name or "none") if plan.is_estimate else exposure),
            str(series.frames),
            str(series.missing),
            f"{about}{_time(series.time_s)}",
            f"{series.n_bytes / 1e6:.0f} MB",
        )
    return table


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _series_table(outcomes: list[SeriesOutcome]) -> Table:
    table = new_table("Series", "series", ">frames", ">taken now", ">level", "end")
    taken = Counter[str]()
    for outcome in outcomes:
        taken[outcome.location] += outcome.taken
    for outcome in {outcome.location: outcome for outcome in outcomes}.values():
        level = "" if outcome.level_adu is None else f"{outcome.level_adu:.1f}"
        table.add_row(outcome.location, str(outcome.present), str(taken[outcome.location]), level, str(outcome.end))
    return table


@click.command("cameras", cls=JsonCommand)
@click.option("--timeout", "timeout_s", default=3.0, show_default=True, help="Seconds to wait for replies.")
@debug_option
def cameras_command(timeout_s: float, debug: bool, log_level: str) -> None:
    """Find Alpaca servers in this network and list their devices."""
    with command_console(log_level, debug):
        from ostcal.devices.discovery import discover

        table = new_table("Devices", "host", "port", "type", "number", "name")
        found = [(server, device) for server in discover(timeout_s) for device in server.devices]
        for server, device in found:
            table.add_row(server.host, str(server.port), device.device_type, str(device.device_id), device.name)
        if record := json_record():
            from ostcal.cli.document import DeviceEntry

            record.put(
                devices=tuple(
                    DeviceEntry(
                        host=server.host,
                        port=server.port,
                        kind=device.device_type,
                        number=device.device_id,
                        name=device.name,
                    )
                    for server, device in found
                )
            )
        if table.row_count:
            open_console().print(table)
        else:
            logger.warning("no Alpaca server answered within %g s; is it running, and in this network?", timeout_s)
    sys.exit(0 if table.row_count else EXIT_FAILED)
