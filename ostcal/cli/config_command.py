"""`ostcal config`: a configuration to begin with, the values in force, their schema, and a check."""

from __future__ import annotations

import difflib
import json
import logging
import os
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import click

from ostcal.cli.console import ConfigOptions, command_console, config_option, debug_option, open_config, open_sources
from ostcal.cli.json_output import JsonCommand, json_record, usage_document
from ostcal.errors import ConfigError, OstcalError
from ostcal.vocabulary import FOUND_FILE, Start

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal config init                                   (config_calibration_frames.yaml, for frames you have)
  ostcal config init --for camera night.yaml
  ostcal config show --config night.yaml --set master_frames.sigma_low=2.7
  ostcal config check night.yaml
  ostcal config schema ostcal.schema.json              (for editors)

\b
Of values that are given more than once the strongest counts, the weakest first:
  defaults, files in the order of --config, variables OSTCAL__SECTION__KEY, --set, other options of a command
"""


CALLED: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("create", "new", "start", "template", "edit"), "init"),
        **dict.fromkeys(("dump", "get", "list", "ls", "print"), "show"),
        **dict.fromkeys(("lint", "test", "validate", "verify"), "check"),
    }
)
"""What its commands are called elsewhere."""


class _ConfigGroup(click.Group):
    """Answers what is none of its commands with the one that is meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a word."""
        word = args[0]
        if word in self.commands or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(word.lower(), self.commands, n=1, cutoff=0.5)
        meant = CALLED.get(word.lower()) or next(iter(near), None)
        hint = f"Did you mean {meant}?" if meant else f"There are {', '.join(self.list_commands(ctx))}."
        if word.lower() == "set":
            hint = "Every command takes --set SECTION.KEY=VALUE; lasting values are written into the file."
        error = click.UsageError(f"No such command {word!r}. {hint}", ctx=ctx)
        if "--json" in args:
            click.echo(usage_document("config", error))
        raise error


@click.group("config", cls=_ConfigGroup, epilog=EXAMPLES)
def config_group() -> None:
    """Begin, show and check a configuration.

    Every command reads the files of --config, else config_calibration_frames.yaml in the working directory if it is
    there; without any the defaults hold.
    """


@config_group.command("init", cls=JsonCommand, short_help="Write a configuration to begin with.")
@click.argument("path", metavar="[FILE]", default=FOUND_FILE, type=click.Path())
@click.option(
    "--for",
    "purpose",
    type=click.Choice(get_args(Start)),
    default="frames",
    show_default=True,
    help="What for: frames you have, a camera, or a cluster.",
)
@debug_option
def init_command(path: str, purpose: Start, debug: bool, log_level: str) -> None:
    """Write a short commented configuration to FILE, by default config_calibration_frames.yaml.

    Its first line names the schema that is written beside it, with which editors complete keys and mark mistakes.
    Nothing is overwritten.
    """
    with command_console(log_level, debug):
        from ostcal.config import SCHEMA_FILE, STARTS

        schema_path = os.path.join(os.path.dirname(path), SCHEMA_FILE)
        _write_new(path, STARTS[purpose])
        written = [path]
        if not os.path.lexists(schema_path):
            _write_new(schema_path, _schema_text())
            written.append(schema_path)
        if record := json_record():
            record.put(files=tuple(written))
        for file in written:
            logger.info("written: %s", file)


@config_group.command("show", cls=JsonCommand, short_help="Print the values in force, and where each is from.")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@config_option
@click.option("--changed", is_flag=True, help="Only keys that are not left at their defaults.")
@debug_option
def show_command(
    files: tuple[str, ...], config_options: ConfigOptions, changed: bool, debug: bool, log_level: str
) -> None:
    """Print every key of the configuration in force, with the place its value is from.

    FILE is as --config FILE. The place is default, a file and its line, a variable of the environment, or --set.
    Secrets are not shown.
    """
    with command_console(log_level, debug):
        from ostcal.config import as_yaml, load_sources, shown_values

        sources = open_sources(_with_files(config_options, files))
        values = shown_values(load_sources(sources), sources)
        values = [value for value in values if not (changed and value.is_default)]
        if record := json_record():
            from ostcal.cli.entries import value_entries

            record.put(values=value_entries(values))
        if values:
            click.echo(as_yaml(values))
        else:
            logger.info("all keys are left at their defaults")


@config_group.command("check", cls=JsonCommand, short_help="List all problems of a configuration.")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@config_option
@debug_option
def check_command(files: tuple[str, ...], config_options: ConfigOptions, debug: bool, log_level: str) -> None:
    """Check a configuration: all problems are listed, and the exit code is 2 if there is one.

    FILE is as --config FILE. Variables OSTCAL__SECTION__KEY of the environment are checked too.
    """
    with command_console(log_level, debug):
        from ostcal.build.from_config import execution_of

        config = open_config(_with_files(config_options, files))
        execution_of(config, config.master_frames.output_dir, ())
        n_warnings = len(config.warnings)
        what = config.source or "the defaults"
        note = f", {n_warnings} warning{'' if n_warnings == 1 else 's'}" if n_warnings else ""
        logger.info("%s: no errors%s", what, note)


@config_group.command("schema", short_help="Print the JSON schema for editors.")
@click.argument("path", metavar="[FILE]", required=False, type=click.Path())
@debug_option
def schema_command(path: str | None, debug: bool, log_level: str) -> None:
    """Print the JSON schema of a configuration, or write it to FILE, which is replaced.

    Editors with the YAML language server use it if a configuration begins with the line
    "# yaml-language-server: $schema=ostcal.schema.json".
    """
    with command_console(log_level, debug):
        if path is None:
            click.echo(_schema_text(), nl=False)
            return
        _write(path, _schema_text(), mode="w")
        logger.info("written: %s", path)


def _with_files(options: ConfigOptions, files: tuple[str, ...]) -> ConfigOptions:
    return replace(options, files=(*options.files, *files))


def _schema_text() -> str:
    from ostcal.config import config_schema

    return json.dumps(config_schema(), indent=2) + "\n"


def _write_new(path: str, text: str) -> None:
    """Write a file that is not there yet."""
    try:
        _write(path, text, mode="x")
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already and is not overwritten; name another file") from error


def _write(path: str, text: str, mode: str) -> None:
    try:
        with open(path, mode, encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise
    except (OSError, ValueError) as error:
        raise OstcalError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
