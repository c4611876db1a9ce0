"""`ostcal exclude`: frames of a series that the observer excludes from masters."""

from __future__ import annotations

import getpass
import logging
import socket
from contextlib import nullcontext
from datetime import UTC, datetime

import click
from rich.text import Text

from ostcal.cli.console import command_console, debug_option, new_table, objects_option, open_config, open_console

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal exclude darks/exp_60.000s.zarr --frame 12 --why "light from the door"
  ostcal exclude darks/exp_60.000s.zarr --frame 12 --frame 13 --include
  ostcal exclude darks/exp_60.000s.zarr --list
"""


@click.command("exclude", epilog=EXAMPLES)
@click.argument("series", metavar="SERIES", type=click.Path())
@click.option(
    "--frame",
    "frames",
    multiple=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Index of a frame, from 0; may be repeated.",
)
@click.option("--why", metavar="TEXT", help="The reason; it is stored with your user name and the time.")
@click.option("--undo", "--include", "include", is_flag=True, help="Include the frames again.")
@click.option("--list", "show", is_flag=True, help="List the excluded frames of the series.")
@objects_option
@debug_option
def exclude_command(
    series: str,
    frames: tuple[int, ...],
    why: str | None,
    include: bool,
    show: bool,
    config_path: str | None,
    debug: bool,
    log_level: str,
) -> None:
    """Exclude frames of the zarr series SERIES from masters, or include them again.

    Frames and records are not changed: the decision, its reason, the user and the time are stored beside them.
    Capture counts an excluded frame as taken; to replace it, increase the number of frames by one. Export writes
    excluded frames too.
    """
    why = " ".join((why or "").split())
    if show and (frames or why or include):
        raise click.UsageError("--list cannot be combined with other options")
    if not show and not frames:
        raise click.UsageError("name the frames: --frame N, repeated if need be, or --list")
    if not (show or include or why):
        raise click.UsageError('give the reason, for whoever looks at the series later: --why "clouds"')
    with command_console(log_level, debug):
        open_config(config_path)
        if show:
            _show_excluded(series)
        else:
            _decide(series, frames, why, include=include)


def _decide(location: str, frames: tuple[int, ...], why: str, *, include: bool) -> None:
    from ostcal.places.locking import series_locked
    from ostcal.places.paths import exists, path_of
    from ostcal.series.record import Decision
    from ostcal.series.series_writer import decide_frames

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user number without a name
        user = "unknown"
    decision = Decision(
        excluded=not include,
        why=why,
        who=f"{user}@{socket.gethostname()}",
        when=datetime.now(UTC).replace(microsecond=0),
    )
    with series_locked(path_of(location)) if exists(location) else nullcontext():
        decide_frames(location, frames, decision)
    for index in sorted(set(frames)):
        if include:
            logger.info("%s: frame %d is used again", location, index)
        else:
            logger.info("%s: frame %d is excluded: %s", location, index, why)


def _show_excluded(location: str) -> None:
    from ostcal.series.reader import open_series

    series = open_series(location)
    for line in series.problems:
        logger.warning("%s", line)
    if not series.excluded:
        logger.info("%s: no frame is excluded", location)
        return
    title = f"{len(series.excluded)} of {len(series.records)} frames excluded"
    table = new_table(title, ">frame", "why", "who", "when")
    for index, decision in series.excluded.items():
        when = f"{decision.when:%Y-%m-%d %H:%M:%SZ}"
        table.add_row(*(Text(text) for text in (str(index), decision.why, decision.who, when)))
    open_console().print(table)
