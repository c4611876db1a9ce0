"""`ostcal exclude`: frames of series and FITS files that the observer excludes from masters."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostcal.series.record import Decision

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal exclude darks/exp_60.000s.zarr --frame 12 --why "light from the door"
  ostcal exclude darks/exp_60.000s.zarr --frame 12 --frame 13 --include
  ostcal exclude darks/exp_60.000s.zarr --list
  ostcal exclude flats/flat_016.fits --config night.yaml --why "clouds"
  ostcal exclude --list --config night.yaml
"""


@click.command("exclude", cls=JsonCommand, epilog=EXAMPLES)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path())
@click.option(
    "--frame",
    "frames",
    multiple=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Index of a frame of a series, from 0; may be repeated.",
)
@click.option("--why", metavar="TEXT", help="The reason; it is stored with your user name and the time.")
@click.option("--undo", "--include", "include", is_flag=True, help="Include the frames again.")
@click.option("--list", "show", is_flag=True, help="List the excluded frames of the series, or the excluded files.")
@config_option
@debug_option
def exclude_command(
    paths: tuple[str, ...],
    frames: tuple[int, ...],
    why: str | None,
    include: bool,
    show: bool,
    config_options: ConfigOptions,
    debug: bool,
    log_level: str,
) -> None:
    """Exclude FITS files, or frames of a zarr series, from masters, or include them again.

    Frames and records are not changed: the decision, its reason, the user and the time are stored beside them, and of
    FITS files beside the masters of the configuration (excluded_frames.json). Capture counts an excluded frame as
    taken; to replace it, increase the number of frames by one. Export writes excluded frames too.
    """
    why = " ".join((why or "").split())
    series = [path for path in paths if path.rstrip("/\\").lower().endswith(".zarr") or os.path.isdir(path)]
    files = [path for path in paths if path not in series]
    if show and (frames or why or include):
        raise click.UsageError("--list cannot be combined with other options")
    if not show and not paths:
        raise click.UsageError("name FITS files, or a series with --frame N")
    if frames and (files or len(series) != 1):
        raise click.UsageError("--frame N is for one series; name FITS files without it")
    if not show and series and not frames:
        raise click.UsageError("name the frames: --frame N, repeated if need be, or --list")
    if not (show or include or why):
        raise click.UsageError('give the reason, for whoever looks at the series later: --why "clouds"')
    with command_console(log_level, debug):
        from ostcal.places.night_folders import root_of

        masters_dir = root_of(open_config(config_options).master_frames.output_dir)
        if show:
            for location in series:
                _show_excluded(location)
            if files or not series:
                _show_excluded_files(masters_dir, files)
        elif series:
            _decide(series[0], frames, why, include=include)
        else:
            _decide_files(masters_dir, files, why, include=include)


def _decision(why: str, *, include: bool) -> Decision:
    """Return a decision of the user of this computer, made now."""
    from ostcal.series.record import Decision

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user number without a name
        user = "unknown"
    return Decision(
        excluded=not include,
        why=why,
        who=f"{user}@{socket.gethostname()}",
        when=datetime.now(UTC).replace(microsecond=0),
    )


def _decide(location: str, frames: tuple[int, ...], why: str, *, include: bool) -> None:
    from ostcal.places.locking import series_locked
    from ostcal.places.paths import exists, path_of
    from ostcal.series.series_writer import decide_frames

    decision = _decision(why, include=include)
    with series_locked(path_of(location)) if exists(location) else nullcontext():
        decide_frames(location, frames, decision)
    _put_in_document([(location, index, decision) for index in sorted(set(frames))])
    for index in sorted(set(frames)):
        if include:
            logger.info("%s: frame %d is used again", location, index)
        else:
            logger.info("%s: frame %d is excluded: %s", location, index, why)


def _decide_files(masters_dir: str, files: Sequence[str], why: str, *, include: bool) -> None:
    from ostcal.inputs.excluded_files import decide_files

    decision = _decision(why, include=include)
    decide_files(masters_dir, files, decision)
    _put_in_document([(path, None, decision) for path in files])
    for path in files:
        if include:
            logger.info("%s: is used again", path)
        else:
            logger.info("%s: is excluded: %s", path, why)


def _show_excluded(location: str) -> None:
    from ostcal.series.reader import open_series

    series = open_series(location)
    for line in series.problems:
        logger.warning("%s", line)
    if not series.excluded:
        logger.info("%s: no frame is excluded", location)
        return
    _put_in_document([(location, index, decision) for index, decision in series.excluded.items()])
    title = f"{len(series.excluded)} of {len(series.records)} frames excluded"
    _show(title, "frame", [(str(index), decision) for index, decision in series.excluded.items()])


def _show_excluded_files(masters_dir: str, files: Sequence[str]) -> None:
    from ostcal.inputs.excluded_files import read_excluded_files
    from ostcal.places.paths import absolute

    asked = set(map(absolute, files))
    known = read_excluded_files(masters_dir).files
    found = [file for file in known if file.decision.excluded and (not asked or file.path in asked)]
    if not found:
        logger.info("%s: no FITS file is excluded", masters_dir)
        return
    _put_in_document([(file.path, None, file.decision) for file in found])
    title = f"{len(found)} FITS file{'' if len(found) == 1 else 's'} excluded"
    _show(title, "file", [(file.path, file.decision) for file in found])


def _put_in_document(decisions: Sequence[tuple[str, int | None, Decision]]) -> None:
    """Add the excluded frames to the document of ``--json``."""
    if record := json_record():
        from ostcal.cli.document import ExcludedEntry

        record.add(
            excluded=tuple(
                ExcludedEntry(
                    place=place,
                    frame=frame,
                    excluded=decision.excluded,
                    why=decision.why,
                    who=decision.who,
                    when=decision.when,
                )
                for place, frame, decision in decisions
            )
        )


def _show(title: str, what: str, decisions: Sequence[tuple[str, Decision]]) -> None:
    table = Table(title, f">{what}" if what == "frame" else f"/{what}", "why", "who", "=when")
    for name, decision in decisions:
        when = f"{decision.when:%Y-%m-%d %H:%M:%SZ}"
        table.add_row(name, decision.why, decision.who, when)
    table.print_to(open_console())
