"""`ostcal verify`: series and masters at rest, every sample of them."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click
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

    from rich.console import Console

    from ostcal.library.verify_masters import Checked

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal verify darks/exp_60.000s.zarr
  ostcal verify darks flats master_frames
  ostcal verify s3://observatory/2026-11-21/darks --config night.yaml
  ostcal verify master_frames/master_dark_60.000s_20261121_084200.fits
"""


@click.command("verify", epilog=EXAMPLES)
@click.argument("places", nargs=-1, required=True, metavar="SERIES|MASTERS...", type=click.Path())
@objects_option
@debug_option
def verify_command(places: tuple[str, ...], config_path: str | None, debug: bool, log_level: str) -> None:
    """Check zarr series, master stores and FITS files: everything is read, nothing is changed.

    Frames are compared with the checksums and statistics of their records, records with their series, planes of
    masters with their sizes, FITS files with their DATASUM and CHECKSUM, FITS masters with the store beside them; what
    belongs to nothing is named. Directories are searched. The exit code is 1 where something was found.
    """
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        reach_objects(load_config(config_path) if config_path else None)
        checked = _verify(places, console)
    for line in (line for place in checked for line in place.findings):
        click.echo(line)
    open_console().print(_table(checked))
    n_findings = sum(len(place.findings) for place in checked)
    if n_findings:
        logger.error("%d finding%s", n_findings, "" if n_findings == 1 else "s")
        sys.exit(EXIT_FAILED)
    logger.info("all is as it was written")
    sys.exit(0)


def _verify(places: Sequence[str], console: Console) -> list[Checked]:
    from ostcal.library.verify_masters import plan_verification, verify

    plan = plan_verification(places)
    progress = RunProgress(console, "verify")
    progress.start(plan.n_bytes)
    try:
        return verify(plan, os.cpu_count() or 1, lambda check: progress.advance(check.n_bytes, check.place))
    finally:
        progress.stop()


def _table(checked: Sequence[Checked]) -> Table:
    table = Table(title="Verified", title_justify="left")
    table.add_column("kind")
    table.add_column("where", overflow="fold")
    for name in ("frames or masters", "MB", "findings"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for place in checked:
        numbers = (str(place.n_items), f"{place.n_bytes / 1e6:.1f}", str(len(place.findings)))
        table.add_row(place.kind, Text(place.place), *numbers, place.note)
    return table
