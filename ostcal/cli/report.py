"""`ostcal report`: write the report of the masters on disk again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    masters_flags,
    masters_option,
    open_config,
)
from ostcal.cli.json_output import JsonCommand, json_record

if TYPE_CHECKING:
    from ostcal.config import Config

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal report --config night.yaml
  ostcal report --config night.yaml --all      (also masters that have a newer version)
"""


@click.command("report", cls=JsonCommand, epilog=EXAMPLES)
@config_option
@masters_option
@click.option(
    "--all", "everything", is_flag=True, help="Include all masters, not only the newest of each kind and setting."
)
@debug_option
def report_command(
    config_options: ConfigOptions, masters_dir: str | None, everything: bool, debug: bool, log_level: str
) -> None:
    """Write the report of the masters in master_frames.output_dir again, as HTML and JSON.

    It shows the measurements made when the masters were combined; nothing is combined again.
    """
    with command_console(log_level, debug):
        from ostcal.library.find import find_masters

        config = open_config(config_options, masters_flags(masters_dir))
        masters = find_masters(config.master_frames.output_dir) if everything else ()
        write_report_of(config, [master.record.name for master in masters] if everything else None)


def write_report_of(
    config: Config, only: Collection[str] | None = None, left_out: Sequence[str] = (), directory: str | None = None
) -> None:
    """Write the report of the masters named (by default of the newest of each kind) and print where it is.

    It is written into `directory`, by default the newest for which ``master_frames.output_dir`` stands.
    """
    from ostcal.config import resolved_values, without_endpoint
    from ostcal.engine.container_memory import within_container
    from ostcal.errors import StorageError
    from ostcal.library.latest import refresh_latest
    from ostcal.places.night_folders import folders_of
    from ostcal.report.making import make_report

    html, json_path = make_report(
        directory or folders_of(config.master_frames.output_dir)[-1],
        only=only,
        temperature_tolerance_c=config.master_frames.temperature_tolerance,
        config_file=config.source,
        settings=resolved_values(without_endpoint(config)),
        left_out=left_out,
        memory_limit_bytes=within_container(config.compute.memory_limit),
    )
    try:
        refresh_latest(config.master_frames.output_dir)
    except StorageError as error:  # the report is no worse without another name
        logger.log(logging.DEBUG if directory else logging.WARNING, "%s", error)  # a run has said it already
    logger.info("report: %s and %s", html, json_path.name)
    if record := json_record():
        from ostcal.cli.document import ReportFiles

        record.put(report=ReportFiles(html=str(html), json=str(json_path)))
