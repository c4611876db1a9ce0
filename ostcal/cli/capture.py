"""`ostcal darks`, `ostcal flats`, `ostcal workflow`, `ostcal cameras`: the commands that use a camera."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ostcal.cli.capture_progress import CaptureProgress
from ostcal.cli.capture_tables import plan_table, series_table
from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    RunProgress,
    command_console,
    config_option,
    debug_option,
    may_ask,
    open_config,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record, with_hooks
from ostcal.cli.masters import exit_code_of, say_next_of_masters, show_masters
from ostcal.cli.next_command import masters_command, say_next
from ostcal.cli.tables import Table
from ostcal.vocabulary import Step

if TYPE_CHECKING:
    from rich.console import Console

    from ostcal.capture.budget import StepPlan
    from ostcal.capture.series_plan import SeriesOutcome
    from ostcal.config import Config
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


def _run(
    step: Any, *, config_options: ConfigOptions, no_confirm: bool, wait_for_cooling: bool, debug: bool, log_level: str
) -> None:
    outcomes: list[SeriesOutcome] = []
    with command_console(log_level, debug, resume_command=command_again()) as console:
        from ostcal.build.request import Watcher
        from ostcal.workflow import CalibrationWorkflow

        config = open_config(config_options)
        log_path = start_log_file(config, "calibration", debug)
        progress = capture_progress_of(config, console)

        def series_ended(outcome: SeriesOutcome) -> None:
            outcomes.append(outcome)
            if record := json_record():
                record.series_ended(outcome)

        def capture_planned(plan: StepPlan) -> bool:
            progress.stop()
            if plan.costs:
                plan_table(plan).print_to(console)
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
                ask_while(progress, no_confirm),
                masters_watcher=with_hooks(Watcher(planned=masters_planned, progressed=masters_progress.advance_strip)),
                planned=capture_planned,
            )
            statuses = workflow.run(step, wait_for_cooling=True if wait_for_cooling else None)
        if record := json_record():
            from ostcal.cli.entries import captured_entries

            record.put(series=captured_entries(outcomes))
        if outcomes:
            series_table(outcomes).print_to(open_console())
        # Series that are not complete are named at the end; what ended a step, and the masters, when it happened.
        for line in (line for s in statuses.values() if "frames" in s.details for line in s.details["errors"]):
            logger.error("%s", line)
        if "masters" in statuses:
            show_masters(workflow.creator)
        logger.info("log: %s", log_path)
        exit_code = EXIT_FAILED if any(status.is_error for status in statuses.values()) else 0
        if "masters" in statuses:
            exit_code = exit_code or exit_code_of(statuses["masters"])
            say_next_of_masters(workflow.creator, exit_code)
        elif exit_code == 0:
            say_next(masters_command(config))
    sys.exit(exit_code)


def capture_progress_of(config: Config, console: Console) -> CaptureProgress:
    """Return the display of a capture with the camera of a configuration."""
    is_simulated = config.video.camera_type == "simulator"
    return CaptureProgress(console, config.video.simulator.time_scale if is_simulated else 1.0)


def ask_while(progress: CaptureProgress, no_confirm: bool) -> Callable[[str], bool] | None:
    """Return how the observer is asked while a capture is displayed; ``None`` where nobody is to be asked."""
    if no_confirm or not may_ask():
        return None

    def ask(question: str) -> bool:
        progress.stop()
        return click.confirm(question, default=True, err=True)

    return ask


def command_again() -> str:
    """Return the command line of this run, for the message after an interrupt."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE:
            for one in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    return shlex.join(words)


@click.command("cameras", cls=JsonCommand)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="Seconds to wait for replies.",
)
@debug_option
def cameras_command(timeout_s: float, debug: bool, log_level: str) -> None:
    """Find Alpaca servers in this network and list their devices."""
    with command_console(log_level, debug):
        from ostcal.devices.discovery import discover

        table = Table("Devices", "=host", ">port", "=type", ">number", "name")
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
            table.print_to(open_console())
            for server, device in [pair for pair in found if pair[1].device_type.lower() == "camera"][:1]:
                name = json.dumps(device.name, ensure_ascii=False)
                address = f"{{host: {json.dumps(server.host)}, port: {server.port}}}"
                logger.info("in the configuration: video: {camera_name: %s, alpaca: %s}", name, address)
        else:
            logger.warning("no Alpaca server answered within %g s; is it running, and in this network?", timeout_s)
    sys.exit(0 if table.row_count else EXIT_FAILED)
