"""`ostcal upload` and `ostcal download`: series and master stores to an object store and back."""

from __future__ import annotations

import logging
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
from ostcal.cli.tables import Table

logger = logging.getLogger("ostcal")

UPLOAD_EXAMPLES = """\b
Examples:
  ostcal upload darks s3://observatory/2026-11-21/darks --config night.yaml
  ostcal upload darks/exp_60.000s.zarr s3://observatory/2026-11-21/darks
  ostcal upload master_frames/masters.zarr s3://observatory/masters

\b
Credentials are read from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...), the address of the server
from storage.endpoint of the configuration.
"""

DOWNLOAD_EXAMPLES = """\b
Examples:
  ostcal download s3://observatory/2026-11-21/darks darks --config night.yaml
  ostcal download s3://observatory/2026-11-21/darks/exp_60.000s.zarr darks
"""


@click.command("upload", cls=JsonCommand, epilog=UPLOAD_EXAMPLES)
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("target", metavar="s3://BUCKET/PREFIX", type=click.Path())
@config_option
@debug_option
def upload_command(source: str, target: str, config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Copy a series or master store SRC, or all of them in the directory SRC, to an object store.

    Frames are compared with the checksums of their records before they are sent, and each copy with its original.
    Objects that already exist are kept, so an interrupted copy continues when the same command is run again. A series
    can be read only after it is complete. Damaged frames are skipped with a warning, and the exit code is then 1.
    """
    if "://" not in target or "://" in source:
        raise click.UsageError("ostcal upload SRC s3://BUCKET/PREFIX: one local path, one object store")
    _copy("upload", source, target, config_options, debug, log_level)


@click.command("download", cls=JsonCommand, epilog=DOWNLOAD_EXAMPLES)
@click.argument("source", metavar="s3://BUCKET/PREFIX", type=click.Path())
@click.argument("target", metavar="DEST", type=click.Path())
@config_option
@debug_option
def download_command(source: str, target: str, config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Copy a series or master store, or all of them below s3://BUCKET/PREFIX, into the directory DEST.

    Each frame is compared with the checksum of its record. Files that already exist are kept, so an interrupted copy
    continues when the same command is run again. A series gets its name when it is complete.
    """
    if "://" not in source or "://" in target:
        raise click.UsageError("ostcal download s3://BUCKET/PREFIX DEST: one local path, one object store")
    _copy("download", source, target, config_options, debug, log_level)


def _copy(command: str, source: str, target: str, config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    with command_console(log_level, debug) as console, RunProgress(console, command) as progress:
        from ostcal.library.copy_stores import copy_store, plan_copies

        open_config(config_options)
        plans = plan_copies(source, target)
        progress.start(sum(plan.n_bytes for plan in plans))
        reports = [copy_store(plan, lambda name, n_bytes: progress.advance(n_bytes, name)) for plan in plans]
    table = Table("Copied", "/where", ">files copied", ">MB", ">already there", ">left out")
    for report in reports:
        numbers = (report.copied, f"{report.n_bytes / 1e6:.1f}", report.kept, len(report.problems))
        table.add_row(report.target, *map(str, numbers))
    table.print_to(open_console())
    if record := json_record():
        from ostcal.cli.document import CopyEntry

        record.put(
            copies=tuple(
                CopyEntry(
                    source=report.source,
                    target=report.target,
                    files_copied=report.copied,
                    files_kept=report.kept,
                    n_bytes=report.n_bytes,
                    problems=report.problems,
                )
                for report in reports
            )
        )
    problems = [line for report in reports for line in report.problems]
    for line in problems:
        logger.error("%s", line)
    sys.exit(EXIT_FAILED if problems else 0)
