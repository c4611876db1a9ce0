"""`ostcal import` and `ostcal export`: FITS frames into zarr series and back."""

from __future__ import annotations

import logging
import os
import shlex
import sys

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    RunProgress,
    command_console,
    config_option,
    debug_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.next_command import masters_command, say_next
from ostcal.cli.tables import Table
from ostcal.printable import printable

logger = logging.getLogger("ostcal")

IMPORT_EXAMPLES = """\b
Examples:
  ostcal import /data/2026-11-21 --config night.yaml
  ostcal import darks flats --config config_calibration_frames.yaml
"""

EXPORT_EXAMPLES = """\b
Examples:
  ostcal export darks/exp_5.000s.zarr --to exported
"""


@click.command("import", cls=JsonCommand, epilog=IMPORT_EXAMPLES)
@click.argument("directories", nargs=-1, required=True, metavar="DIR...", type=click.Path())
@config_option
@debug_option
def import_command(directories: tuple[str, ...], config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Copy the FITS frames in the directories DIR... into zarr series.

    The series are written to dark_capture.output_dir and flat_capture.output_dir of the configuration and named after
    the exposure time. Frames that a series already contains are skipped, so an interrupted import continues when it
    is run again. The FITS files are not changed.
    """
    with command_console(log_level, debug) as console:
        from ostcal.build.from_config import request_of
        from ostcal.inputs.import_fits import import_all, plan_imports
        from ostcal.places.night_folders import root_of

        config = open_config(config_options)
        request = request_of(config, bias=True, darks=True, flats=True)
        plans, left_out = plan_imports(
            directories,
            rules=request.rules,
            dark_dir=config.dark_capture.output_dir,
            flat_dir=config.flat_capture.output_dir,
            masters_dir=root_of(request.library),
            cubes=request.cubes,
            kinds=request.kinds_of_files,
        )
        with RunProgress(console, "import") as progress:
            progress.start(sum(plan.n_bytes for plan in plans))
            reports = import_all(
                plans,
                compressor=config.storage.compressor,
                rows=config.storage.rows,
                on_frame=lambda plan, n_bytes: progress.advance(n_bytes, plan.location),
                memory_limit_bytes=request.memory_limit_bytes,
            )
        if record := json_record():
            from ostcal.events.event import SeriesEntry

            record.put(
                series=tuple(
                    SeriesEntry(
                        location=report.location,
                        frames=report.imported + report.skipped,
                        added=report.imported,
                        kind=str(plan.frame_type),
                        problems=report.problems,
                    )
                    for plan, report in zip(plans, reports, strict=True)
                )
            )
        table = Table("Series", "/series", ">frames copied", ">already there", ">left out")
        for report in reports:
            table.add_row(report.location, str(report.imported), str(report.skipped), str(len(report.problems)))
        table.print_to(open_console())
        for line in (*left_out, *(problem for report in reports for problem in report.problems)):
            logger.warning("%s", line)
        is_done = any(report.imported or report.skipped for report in reports)
        if is_done:
            say_next(masters_command(config))
    sys.exit(0 if is_done else EXIT_FAILED)


@click.command("export", cls=JsonCommand, epilog=EXPORT_EXAMPLES)
@click.argument("series", type=click.Path())
@click.option(
    "--to", "directory", required=True, type=click.Path(), metavar="DIR", help="Directory for the FITS files."
)
@config_option
@debug_option
def export_command(series: str, directory: str, config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Write the frames of the zarr series SERIES as FITS files, bit for bit."""
    with command_console(log_level, debug):
        from ostcal.inputs.copy_frames import export_series
        from ostcal.series.reader import open_series

        open_config(config_options)
        files = export_series(series, directory)
        for index, decision in sorted(open_series(series).excluded.items()):
            logger.info("frame %d was exported, although it is excluded from masters: %s", index, decision.why)
        if record := json_record():
            record.put(files=tuple(map(str, files)), directory=directory)
        click.echo(printable(f"{len(files)} frames of {series} written to {directory}"))
        say_next(shlex.join(["ostcal", os.path.join(directory, "")]))  # no command ends with a slash
