"""`ostcal import` and `ostcal export`: FITS frames into zarr series and back."""

from __future__ import annotations

import logging
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import (
    EXIT_FAILED,
    RunProgress,
    debug_option,
    errors_to_exit_codes,
    objects_option,
    open_console,
    reach_objects,
    start_logging,
)
from ostcal.config import Config, load_config

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


@click.command("import", epilog=IMPORT_EXAMPLES)
@click.argument("directories", nargs=-1, required=True, metavar="DIR...", type=click.Path())
@click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file (YAML).")
@debug_option
def import_command(directories: tuple[str, ...], config_path: str, debug: bool, log_level: str) -> None:
    """Copy the FITS frames below DIR... into zarr series.

    Series lie in dark_capture.output_dir and flat_capture.output_dir of the configuration and are named by the
    exposure. Frames that a series already holds are passed over, so that an interrupted import goes on when it is
    started again. The FITS files stay as they are.
    """
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        reach_objects(config)
        failed = _import(directories, config, console)
    sys.exit(EXIT_FAILED if failed else 0)


def _import(directories: tuple[str, ...], config: Config, console: Console) -> bool:
    from ostcal.build.from_config import request_of
    from ostcal.inputs.import_fits import SeriesImport, import_all, plan_imports

    request = request_of(config, bias=True, darks=True, flats=True)
    plans, left_out = plan_imports(
        directories,
        rules=request.rules,
        dark_dir=config.dark_capture.output_dir,
        flat_dir=config.flat_capture.output_dir,
        masters_dir=request.output_dir,
    )
    progress = RunProgress(console, "import")
    progress.start(sum(plan.n_bytes for plan in plans))

    def done(plan: SeriesImport, n_bytes: int) -> None:
        progress.advance(n_bytes, plan.location)

    try:
        reports = import_all(plans, compressor=config.storage.compressor, rows=config.storage.rows, on_frame=done)
    finally:
        progress.stop()
    table = Table(title="Series", title_justify="left")
    table.add_column("series", overflow="fold")
    for name in ("frames copied", "already there", "left out"):
        table.add_column(name, justify="right")
    for report in reports:
        table.add_row(Text(report.location), str(report.imported), str(report.skipped), str(len(report.problems)))
    open_console().print(table)
    for line in (*left_out, *(problem for report in reports for problem in report.problems)):
        logger.warning("%s", line)
    return not any(report.imported or report.skipped for report in reports)


@click.command("export", epilog=EXPORT_EXAMPLES)
@click.argument("series", type=click.Path())
@click.option("--to", "directory", required=True, type=click.Path(), metavar="DIR", help="Where the FITS files go.")
@objects_option
@debug_option
def export_command(series: str, directory: str, config_path: str | None, debug: bool, log_level: str) -> None:
    """Write the frames of the zarr series SERIES as FITS files, bit for bit."""
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        from ostcal.inputs.copy_frames import export_series
        from ostcal.series.reader import open_series

        reach_objects(load_config(config_path) if config_path else None)
        files = export_series(series, directory)
        for index, decision in sorted(open_series(series).excluded.items()):
            logger.info("frame %d is among them, though it is excluded from masters: %s", index, decision.why)
        click.echo(f"{len(files)} frames of {series} written to {directory}")
    sys.exit(0)
