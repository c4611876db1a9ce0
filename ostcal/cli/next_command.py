"""The command that comes next, as the last line on the console."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from ostcal.cli.json_output import command_record

if TYPE_CHECKING:
    from ostcal.config import Config

logger = logging.getLogger("ostcal")

MOST_FOLDERS = 3
"""Folders of lights that a command names one by one."""


def say_next(command: str) -> None:
    """Suggest a command; programs that read ``--json`` know what they want."""
    record = command_record()
    if record is None or not record.as_json:
        logger.info("next: %s", command)


def files_of(config: Config) -> tuple[str, ...]:
    """Return the options that name the files of a configuration."""
    return tuple(takewhile(lambda word: word != "--set", config.options))


def masters_command(config: Config) -> str:
    """Return the command that makes masters of the frames that were taken or imported."""
    return shlex.join(["ostcal", "masters", *config.options])


def calibrate_command(config: Config, masters_dir: str, lights: Sequence[str]) -> str:
    """Return the command that calibrates lights with the masters of a configuration or of a directory."""
    files = files_of(config)
    where = ("--masters", masters_dir) if files != config.options or not files else ()
    return shlex.join(["ostcal", "calibrate", *lights, *files, *where])
