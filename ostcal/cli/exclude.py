"""`ostcal exclude`: frames of a series that masters leave out, by a person's decision."""

from __future__ import annotations

import getpass
import logging
import socket
import sys
from contextlib import nullcontext
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import (
    debug_option,
    errors_to_exit_codes,
    objects_option,
    open_console,
    reach_objects,
    start_logging,
)
from ostcal.config import load_config

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
    "--frame", "frames", multiple=True, type=click.IntRange(min=0), metavar="N", help="Index of a frame; may repeat."
)
@click.option("--why", metavar="TEXT", help="The reason; kept with your name and the time.")
@click.option("--undo", "--include", "include", is_flag=True, help="Take the frames in again.")
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
    """Leave frames of the zarr series SERIES out of masters, or take them in again.

    The frames and their records stay as they are: who decided what, when and why is kept beside them. Capture counts
    an excluded frame as taken; to have another one in its place, ask for one frame more. Export writes it.
    """
    why = " ".join((why or "").split())
    if show and (frames or why or include):
        raise click.UsageError("--list goes alone")
    if not show and not frames:
        raise click.UsageError("say which frames: --frame N, several times if need be, or --list")
    if not (show or include or why):
        raise click.UsageError('say why, for whoever looks at the series later: --why "clouds"')
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        reach_objects(load_config(config_path) if config_path else None)
        if show:
            _show(series)
        else:
            _decide(series, frames, why, include=include)
    sys.exit(0)


def _decide(location: str, frames: tuple[int, ...], why: str, *, include: bool) -> None:
    from ostcal.places.locking import series_locked
    from ostcal.places.paths import exists, place
    from ostcal.series.record import Decision
    from ostcal.series.writer import decide_frames

    decision = Decision(excluded=not include, why=why, who=_who(), when=datetime.now(UTC).replace(microsecond=0))
    with series_locked(place(location)) if exists(location) else nullcontext():
        decide_frames(location, frames, decision)
    for index in sorted(set(frames)):
        if include:
            logger.info("%s: frame %d is used again", location, index)
        else:
            logger.info("%s: frame %d is excluded: %s", location, index, why)


def _show(location: str) -> None:
    from ostcal.series.reader import open_series

    series = open_series(location)
    for line in series.problems:
        logger.warning("%s", line)
    if not series.excluded:
        logger.info("%s: no frame is excluded", location)
        return
    table = Table(title=f"{len(series.excluded)} of {len(series.records)} frames excluded", title_justify="left")
    table.add_column("frame", justify="right")
    for name in ("why", "who", "when"):
        table.add_column(name, overflow="fold")
    for index, decision in series.excluded.items():
        when = f"{decision.when:%Y-%m-%d %H:%M:%SZ}"
        table.add_row(*(Text(text) for text in (str(index), decision.why, decision.who, when)))
    open_console().print(table)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's number without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
