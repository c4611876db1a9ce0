"""`ostcal upload` and `ostcal download`: series and master stores to an object store and back."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

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
from ostcal.config import load_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostcal.library.copying import CopyReport

logger = logging.getLogger("ostcal")

UPLOAD_EXAMPLES = """\b
Examples:
  ostcal upload darks s3://observatory/2026-11-21/darks --config night.yaml
  ostcal upload darks/exp_60.000s.zarr s3://observatory/2026-11-21/darks
  ostcal upload master_frames/masters.zarr s3://observatory/masters

\b
Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the like), the address of the
server from storage.endpoint of the configuration.
"""

DOWNLOAD_EXAMPLES = """\b
Examples:
  ostcal download s3://observatory/2026-11-21/darks darks --config night.yaml
  ostcal download s3://observatory/2026-11-21/darks/exp_60.000s.zarr darks
"""


@click.command("upload", epilog=UPLOAD_EXAMPLES)
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("target", metavar="s3://BUCKET/PREFIX", type=click.Path())
@objects_option
@debug_option
def upload_command(source: str, target: str, config_path: str | None, debug: bool, log_level: str) -> None:
    """Copy the series and master stores at or below SRC to an object store.

    Frames are compared with the checksums of their records before they are sent, and what arrived with what was sent.
    What is there already stays: a copy that was interrupted goes on when the same command runs again. A series can be
    read there when all of it has arrived. A damaged frame is named and left out; the exit code is 1 then.
    """
    _copy(source, target, config_path, debug, log_level, upload=True)


@click.command("download", epilog=DOWNLOAD_EXAMPLES)
@click.argument("source", metavar="s3://BUCKET/PREFIX", type=click.Path())
@click.argument("target", metavar="DEST", type=click.Path())
@objects_option
@debug_option
def download_command(source: str, target: str, config_path: str | None, debug: bool, log_level: str) -> None:
    """Copy the series and master stores at or below s3://BUCKET/PREFIX into the directory DEST.

    Frames are compared with the checksums of their records when they have arrived. What is there already stays, and
    a copy that was interrupted goes on when the same command runs again. A series gets its name when it is whole.
    """
    _copy(source, target, config_path, debug, log_level, upload=False)


def _copy(source: str, target: str, config_path: str | None, debug: bool, log_level: str, *, upload: bool) -> None:
    remote, local = (target, source) if upload else (source, target)
    if "://" not in remote or "://" in local:
        words = "SRC s3://BUCKET/PREFIX" if upload else "s3://BUCKET/PREFIX DEST"
        raise click.UsageError(f"ostcal {'upload' if upload else 'download'} {words}: one local path, one object store")
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        reach_objects(load_config(config_path) if config_path else None)
        reports = _copy_all(source, target, console, "upload" if upload else "download")
    open_console().print(_table(reports))
    problems = [line for report in reports for line in report.problems]
    for line in problems:
        logger.error("%s", line)
    sys.exit(EXIT_FAILED if problems else 0)


def _copy_all(source: str, target: str, console: Console, what: str) -> list[CopyReport]:
    from ostcal.library.copying import copy_store, plan_copies

    plans = plan_copies(source, target)
    progress = RunProgress(console, what)
    progress.start(sum(plan.n_bytes for plan in plans))
    try:
        return [copy_store(plan, lambda name, n_bytes: progress.advance(n_bytes, name)) for plan in plans]
    finally:
        progress.stop()


def _table(reports: Sequence[CopyReport]) -> Table:
    table = Table(title="Copied", title_justify="left")
    table.add_column("where", overflow="fold")
    for name in ("files copied", "MB", "there already", "left out"):
        table.add_column(name, justify="right")
    for report in reports:
        numbers = (report.copied, f"{report.n_bytes / 1e6:.1f}", report.kept, len(report.problems))
        table.add_row(Text(report.target), *map(str, numbers))
    return table
