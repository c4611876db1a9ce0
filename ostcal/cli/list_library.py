"""`ostcal library`: list the masters on disk."""

from __future__ import annotations

import dataclasses
import logging
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ostcal.cli.console import (
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    masters_flags,
    masters_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.tables import WIDTH
from ostcal.errors import InputError
from ostcal.printable import printable

if TYPE_CHECKING:
    from ostcal.config import Config
    from ostcal.library.find import LibraryMaster

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal library --masters masters
  ostcal library --config night.yaml
  ostcal library --config night.yaml --html library.html   (nights and their reports, calendar, ages, trends)
  ostcal library --config night.yaml --json | jq '.masters[] | select(.verdict == "fail") | .name'
"""

_INDENT = "    "


@click.command("library", cls=JsonCommand, epilog=EXAMPLES)
@config_option
@masters_option
@click.option(
    "--html", "html_path", type=click.Path(), metavar="F", help="Write a page: nights, calendar, ages, trends."
)
@debug_option
def library_command(
    config_options: ConfigOptions, masters_dir: str | None, html_path: str | None, debug: bool, log_level: str
) -> None:
    """List the masters in master_frames.output_dir: settings, temperature, frames, age, verdict.

    The age is that of its frames, whenever the master was built; with --json it is taken_age_days, and age_days is the
    time since the master was built.

    The list contains the masters in the store and FITS masters of any program; damaged ones are reported as warnings.
    The verdict is that of the quality control: pass, warn or fail. Failed masters are not chosen automatically.
    """
    with command_console(log_level, debug):
        from ostcal.cli.entries import library_entry
        from ostcal.library.find import find_masters
        from ostcal.places.night_folders import has_folder

        def order(master: LibraryMaster) -> tuple[Any, ...]:
            key = master.key
            taken = master.record.observed.middle.timestamp() if master.record.observed else 0.0
            return (str(key.frame_type), key.filter_name or "", key.exposure_time_s, -taken, master.record.name)

        config = open_config(config_options, masters_flags(masters_dir))
        directory = config.master_frames.output_dir
        if not has_folder(directory):
            raise InputError(f"{directory}: there is no such directory of masters; set master_frames.output_dir")
        now = datetime.now(UTC)
        found = sorted(find_masters(directory), key=order)
        if html_path is not None:
            _write_page(html_path, config, found, now)
        entries = [library_entry(master, now) for master in found]
        if record := json_record():
            record.put(directory=directory, masters=tuple(entries), files=(html_path,) if html_path else ())
            return
        if html_path is not None:
            return
        masters = [dataclasses.asdict(entry) for entry in entries]
        if not masters:
            logger.warning("%s: there are no masters; make some with ostcal masters", directory)
        else:
            of_files: dict[str, list[dict[str, Any]]] = {}
            for master in masters:
                shared = f"{master['kind']} {master['file']}" if master["extension"] is not None else master["name"]
                of_files.setdefault(shared, []).append(master)
            _show(f"Masters in {directory}", [_as_one(same) for same in of_files.values()])


def _show(title: str, masters: Sequence[dict[str, Any]]) -> None:
    """Print masters in lines of 80 columns, names on their own."""
    console = open_console()
    lines = [title, *(line for master in masters for line in _lines(master))]
    console.print("\n".join(map(printable, lines)), markup=False, highlight=False, soft_wrap=True)


def _lines(master: dict[str, Any]) -> list[str]:
    """Return the lines of a master: what it is, when it was taken and built, its name."""
    (
        kind,
        exposure,
        filter_name,
        gain,
        offset,
        binning,
        temperature,
        size,
        frames,
        taken,
        age,
        built,
        verdict,
        name,
    ) = _row(master)
    settings = [
        " ".join(word for word in (kind, exposure, filter_name) if word),
        f"{size} {binning}".strip(),
        f"gain {gain}" if gain else "",
        f"offset {offset}" if offset else "",
        temperature,
        f"{frames} frame{'' if frames == '1' else 's'}" if frames else "",
        verdict,
    ]
    times = [f"taken {taken} ({age})" if taken else "taken at an unknown time", f"built {built} ago" if built else ""]
    words = ", ".join(word for word in settings if word)
    return [
        *textwrap.wrap(words, WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False),
        _INDENT + ", ".join(time for time in times if time),
        _INDENT + name,
    ]


def _write_page(path: str, config: Config, masters: Sequence[LibraryMaster], now: datetime) -> None:
    from ostcal.frames import FrameType
    from ostcal.library.history import history_of
    from ostcal.places.night_folders import folders_of
    from ostcal.places.paths import is_dir, names_in
    from ostcal.report.library_page import render_library, write_page
    from ostcal.report.nights import night_rows

    ages = config.matching.max_age_days
    limits = {FrameType.BIAS: ages.bias, FrameType.DARK: ages.dark, FrameType.FLAT: ages.flat}
    directory = config.master_frames.output_dir
    history = [entry for folder in folders_of(directory) for entry in history_of(folder)]
    names = {folder: names_in(folder) for folder in folders_of(directory) if is_dir(folder)}
    nights = night_rows(masters, names, path)
    write_page(path, render_library(directory, masters, history, limits, now.replace(microsecond=0), nights))
    logger.info("page: %s", path)


def _as_one(masters: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the masters of the images of one file as one: of what differs the worst, or nothing."""
    if len(masters) == 1:
        return masters[0]
    shared = {name: value for name, value in masters[0].items() if all(m[name] == value for m in masters)}
    verdicts = [master["verdict"] for master in masters]
    return {
        **dict.fromkeys(masters[0]),
        **shared,
        "binning": masters[0]["binning"],
        "frames": min((m["frames"] for m in masters if m["frames"] is not None), default=None),
        "verdict": next((word for word in ("fail", "warn", "pass") if word in verdicts), None),
        "name": f"{masters[0]['file']} ({len(masters)} images)",
    }


def _row(values: dict[str, Any]) -> list[str]:
    def number(name: str, unit: str = "", decimals: str = "g") -> str:
        value = values[name]
        return "" if value is None else f"{value:{decimals}}{unit}"

    return [
        values["kind"],
        number("exposure_time_s", " s"),
        values["filter"] or "",
        number("gain"),
        number("offset"),
        "{}x{}".format(*values["binning"]),
        number("temperature_c", " C"),
        f"{values['width']}x{values['height']}" if values["width"] and values["height"] else "",
        number("frames"),
        (values["taken_at"] or "")[:10],
        number("taken_age_days", " d", ".0f"),
        number("age_days", " d", ".0f"),
        values["verdict"] or "",
        values["name"],
    ]
