"""`ostcal FOLDER`: what would become of the frames in a folder, what is missing, and the commands that do it."""

from __future__ import annotations

import logging
import shlex
import sys
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.next_command import MOST_FOLDERS, calibrate_command, files_of, say_next
from ostcal.cli.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostcal.config import Config
    from ostcal.science.preview import FoundGroup, Preview

logger = logging.getLogger("ostcal")


@click.command("preview", cls=JsonCommand)
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path())
@config_option
@debug_option
def preview_command(folders: tuple[str, ...], config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Say what would become of the frames in FOLDER, what they lack, and which commands do it.

    Frames are known by their headers. Nothing is written.
    """
    if configs := [folder for folder in folders if folder.lower().endswith((".yaml", ".yml"))]:
        raise click.UsageError(f"{configs[0]} is a configuration: ostcal masters --config {shlex.quote(configs[0])}")
    with command_console(log_level, debug):
        from ostcal.build.from_config import request_of
        from ostcal.inputs.remarks import folded_lines
        from ostcal.science.api import match_rules_of
        from ostcal.science.preview import preview_of

        config = open_config(config_options, {"FOLDER": {"input.dirs": list(folders)}})
        request = request_of(config, bias=True, darks=True, flats=True)
        preview = preview_of(request, match_rules_of(config))
        for line in folded_lines(preview.unused):
            logger.warning("%s", line)
        if preview.groups:
            _show(preview.groups)
        for line in preview.lacking:
            logger.warning("missing: %s", line)
        commands = _commands(preview, folders, config)
        if record := json_record():
            from ostcal.cli.entries import found_entries

            record.put(groups=found_entries(preview.groups), lacking=preview.lacking, commands=commands)
        if not preview.groups:
            logger.error("nothing can be made of the frames in %s", ", ".join(folders))
        elif not commands:
            logger.info("masters are made of bias frames, darks and flats; name their folders too")
        for command in commands:
            say_next(command)
    sys.exit(0 if preview.groups else EXIT_FAILED)


def _show(groups: Sequence[FoundGroup]) -> None:
    table = Table("Frames", "=kind", ">frames", ">exposure", "filter", ">gain", ">temp", "=size", "becomes")
    for group in groups:
        key, settings = group.key, group.key.settings
        cells = (
            str(key.frame_type),
            str(group.frames),
            f"{key.exposure_time_s:g} s",
            key.filter_name or "",
            "" if settings.gain is None else f"{settings.gain:g}",
            "" if key.temperature_c is None else f"{key.temperature_c:g} C",
            f"{key.width} x {key.height}",
            group.becomes,
        )
        table.add_row(*cells)
    table.print_to(open_console())


def _commands(preview: Preview, folders: Sequence[str], config: Config) -> tuple[str, ...]:
    """Return the commands that make the masters and calibrate the lights."""
    masters_dir = config.master_frames.output_dir
    files = files_of(config)
    is_of_options = files != config.options
    commands = []
    if preview.makes_masters:
        out = ("--out", masters_dir) if is_of_options else ()
        commands.append(shlex.join(["ostcal", "masters", *folders, *files, *out]))
    if preview.light_folders and (preview.makes_masters or preview.masters_on_disk):
        lights = preview.light_folders if len(preview.light_folders) <= MOST_FOLDERS else folders
        commands.append(calibrate_command(config, masters_dir, lights))
    return tuple(commands)
