"""`ostcal verify`: check every sample of stored series and masters."""

from __future__ import annotations

import logging
import os
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
from ostcal.printable import printable

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal verify darks/exp_60.000s.zarr
  ostcal verify darks flats master_frames
  ostcal verify s3://observatory/2026-11-21/darks --config night.yaml
  ostcal verify master_frames/master_dark_60.000s_20261121_084200.fits
"""


@click.command("verify", cls=JsonCommand, epilog=EXAMPLES)
@click.argument("places", nargs=-1, required=True, metavar="SERIES|MASTERS...", type=click.Path())
@config_option
@debug_option
def verify_command(places: tuple[str, ...], config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Verify zarr series, master stores and FITS files: all of them are read, nothing is changed.

    Frames are compared with the checksums and statistics of their records, records with their series, planes of
    masters with their sizes, FITS files with their DATASUM and CHECKSUM, and FITS masters with the store beside them.
    Files that belong to nothing are listed. Directories are searched. The exit code is 1 if there is any finding.
    """
    with command_console(log_level, debug) as console, RunProgress(console, "verify") as progress:
        from ostcal.library.verification import plan_verification, verify

        open_config(config_options)
        plan = plan_verification(places)
        progress.start(plan.n_bytes)
        checked = verify(plan, os.cpu_count() or 1, lambda check: progress.advance(check.n_bytes, check.place))
    if record := json_record():
        from ostcal.cli.document import VerifiedEntry

        record.put(
            verified=tuple(
                VerifiedEntry(
                    kind=place.kind,
                    place=place.place,
                    n_items=place.n_items,
                    n_bytes=place.n_bytes,
                    findings=place.findings,
                    note=place.note,
                )
                for place in checked
            )
        )
    for line in (line for place in checked for line in place.findings):
        click.echo(printable(line))
    table = Table("Verified", "=kind", "/where", ">items", ">MB", ">findings", "note")
    for place in checked:
        numbers = (str(place.n_items), f"{place.n_bytes / 1e6:.1f}", str(len(place.findings)))
        table.add_row(place.kind, place.place, *numbers, place.note)
    table.print_to(open_console())
    n_findings = sum(len(place.findings) for place in checked)
    if n_findings:
        logger.error("%d finding%s", n_findings, "" if n_findings == 1 else "s")
        sys.exit(EXIT_FAILED)
    logger.info("no problems found")
