"""The command that leaves a frame out of masters, as messages name it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ostcal.inputs.gather import Source

LEAVE_OUT = "; to leave it out: "


def exclusion_command(source: Source, config_options: Sequence[str] = ()) -> str:
    """Return the command for a frame: a file, with all images that it holds, or a frame of a series.

    What is decided of a file is kept beside the masters, which `config_options` lead to.
    """
    if source.fits is None:
        return f"ostcal exclude {shlex.quote(source.series)} --frame {source.index} --why TEXT"
    return f"ostcal exclude {shlex.join((source.fits.source, *config_options))} --why TEXT"


def with_exclusion_command(text: str, source: Source, config_options: Sequence[str] = ()) -> str:
    """Return what was found of a frame, with the command that leaves it out."""
    return f"{text}{LEAVE_OUT}{exclusion_command(source, config_options)}"
