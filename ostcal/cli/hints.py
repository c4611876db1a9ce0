"""Advice for mistyped commands and options: the nearest that there is, and where an option belongs."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping

import click

CALLED: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("build", "combine", "create", "make", "process", "stack"), "masters"),
        **dict.fromkeys(("apply", "correct", "reduce"), "calibrate"),
        **dict.fromkeys(("list", "ls"), "library"),
        **dict.fromkeys(("bias", "biases"), "darks"),
        **dict.fromkeys(("devices", "discover", "find"), "cameras"),
        **dict.fromkeys(("run", "night"), "workflow"),
        **dict.fromkeys(("init", "show", "schema", "check", "validate", "settings"), "config"),
        **dict.fromkeys(("missing", "gaps", "lack"), "coverage"),
        **dict.fromkeys(("delete", "clean", "remove"), "prune"),
        "help": "--help",
        "version": "--version",
    }
)
"""What commands are called elsewhere."""
_CUTOFF = 0.5
_NEAR_OPTION = 0.8
"""An option that is nearer goes before a key of the configuration."""
_LONGEST_WORD = 40


def no_such_command(word: str, commands: Iterable[str], ctx: click.Context) -> click.UsageError:
    """Return the error for a word that is neither a command nor a file, with the command that is nearest."""
    plain = word.strip().lower()
    if any(mark in word for mark in ("/", "\\", "~")) or word.endswith((".", ".fits", ".zarr")):
        return click.UsageError(f"{word!r}: there is no such file or folder.", ctx=ctx)
    near = difflib.get_close_matches(plain[:_LONGEST_WORD], list(commands), n=1, cutoff=_CUTOFF)
    meant = CALLED.get(plain) or next(iter(near), None)
    hint = f" Did you mean {meant}?" if meant else " 'ostcal --help' lists the commands."
    return click.UsageError(f"No such command {word!r}, and no file or folder is called so.{hint}", ctx=ctx)


def with_hint(error: click.NoSuchOption, parameters: Iterable[click.Parameter]) -> click.UsageError:
    """Return the error of an unknown option with the option, or the key of the configuration, that is meant."""
    shown = [p for p in parameters if not (isinstance(p, click.Option) and p.hidden)]
    options = [option for parameter in shown for option in parameter.opts if option.startswith("--")]
    word = error.option_name.lstrip("-")
    near = difflib.get_close_matches(f"--{word}", options, n=1, cutoff=_NEAR_OPTION)
    keys = [] if near else _keys_called(word.replace("-", "_"))
    if keys:
        hint = f"It is a key of the configuration: {' or '.join(f'--set {key}=VALUE' for key in keys)}"
    else:
        near = near or difflib.get_close_matches(f"--{word}", options, n=1, cutoff=_CUTOFF)
        hint = f"Did you mean {near[0]}?" if near else ""
    return click.UsageError(f"{error.message} {hint}".strip(), ctx=error.ctx)


def _keys_called(name: str) -> list[str]:
    """Return the keys of the configuration with this name; those of groups only if no section has one."""
    from ostcal.config import describe_sections

    found = [(*section.path, key.name) for section in describe_sections() for key in section.keys if key.name == name]
    least = min(map(len, found), default=0)
    return [".".join(path) for path in found if len(path) == least]
