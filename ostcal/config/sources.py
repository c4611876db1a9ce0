"""Where a command takes its configuration from: files, standard input, the environment and options.

In the order of their strength, the weakest first: defaults, files in the order they are named, variables such as
``OSTCAL__MASTER_FRAMES__SIGMA_LOW``, ``--set section.key=value``, and the options of a command of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ostcal.config.given import GivenValues, KeyPath, Place, one_line
from ostcal.config.merging import Merged, merged
from ostcal.config.problems import join_words, near_key, nearest
from ostcal.config.sections import ALIASES, SECTIONS, section_of, walk_keys
from ostcal.config.values import OpenSection, Section
from ostcal.config.yaml_file import FILE_LIMIT_BYTES, parse_value, parse_yaml, read_yaml, write_flow
from ostcal.errors import ConfigError
from ostcal.vocabulary import FOUND_FILE

_STDIN_LABEL = "standard input"
STANDARD_INPUT = "-"
PREFIX = "OSTCAL__"
_MASTERS_DIR = ("master_frames", "output_dir")
_NAMED_CHANGES = 5
"""Keys that a line names which a later file changes."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An option of a command that sets keys, such as ``--rejection-method``."""

    option: str
    values: Mapping[str, object]
    """By dotted key."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """All values that were given to a command, merged, and where each is from."""

    given: GivenValues
    files: tuple[str, ...] = ()
    is_found: bool = False
    """Whether the file was not named but found in the working directory, as every command finds it."""
    said: tuple[str, ...] = ()
    """A line for each thing that the user should know of where values are from."""
    own_labels: tuple[str, ...] = ()
    """Labels of values that this command alone has: options, and standard input."""

    @property
    def name(self) -> str | None:
        """The files they were read from; ``None`` if there is none."""
        return ", ".join(self.files) or None

    @property
    def options(self) -> tuple[str, ...]:
        """The options with which another command finds the same masters."""
        files = () if self.is_found else self.files
        words = [word for path in files if path != STANDARD_INPUT for word in ("--config", path)]
        place = self.given.places.get(_MASTERS_DIR)
        is_given, value = self.given.value(_MASTERS_DIR)
        if is_given and isinstance(value, str) and place is not None and place.label in self.own_labels:
            words += ["--set", f"{'.'.join(_MASTERS_DIR)}={write_flow(str(value))}"]
        return tuple(words)

    def place_of(self, path: KeyPath) -> Place | None:
        """Return where the value of a key was given; ``None`` for a default."""
        names = (path[0], *(alias for alias, section in ALIASES.items() if section == path[0]))
        return next((place for name in names if (place := self.given.places.get((name, *path[1:])))), None)


def gather_sources(
    files: Sequence[str] = (),
    settings: Sequence[str] = (),
    flags: Sequence[Flag] = (),
    environment: Mapping[str, str] | None = None,
) -> Sources:
    """Read all that a command was given.

    Parameters
    ----------
    files : sequence of str
        Paths, and ``-`` for standard input; with none `FOUND_FILE` is read if it is in the working directory.
    settings : sequence of str
        ``section.key=value`` each.
    flags : sequence of Flag
        Options of the command that set keys.
    environment : mapping of str to str, optional
        In place of the environment of the process.

    Raises
    ------
    ConfigError
        If a file cannot be read, or an option or a variable names no key.
    """
    is_found = not files and os.path.isfile(FOUND_FILE)
    files = (FOUND_FILE,) if is_found else tuple(files)
    if files.count(STANDARD_INPUT) > 1:
        raise ConfigError("--config - is given twice; standard input can be read once")
    of_files = [_read(path) for path in files]
    environment = os.environ if environment is None else environment
    variables, problems = _variables(environment)
    options: list[GivenValues] = []
    for text in settings:
        _collect(options, problems, partial(_setting, text))
    if problems:
        raise ConfigError("\n".join(problems))
    twice = _set_twice(options)
    options += map(_flag, flags)
    result = merged([*of_files, *variables, *options], files[0] if len(files) == 1 else "configuration")
    said = [f"configuration: {FOUND_FILE}, found in the working directory"] if is_found else []
    return Sources(
        given=result.given,
        files=files,
        is_found=is_found,
        said=(*said, *_said(of_files, variables, result), *twice, *_missed_prefix(environment)),
        own_labels=(_STDIN_LABEL, *(layer.label for layer in options)),
    )


def _collect(found: list[GivenValues], problems: list[str], read: Callable[[], GivenValues]) -> None:
    """Add what can be read to the values found, and why it cannot to the problems."""
    try:
        found.append(read())
    except ConfigError as error:
        problems += str(error).splitlines()


def _said(files: Sequence[GivenValues], variables: Sequence[GivenValues], result: Merged) -> list[str]:
    """Say in which order several files count and what later ones replace, and what the environment sets."""
    lines = []
    if len(files) > 1:
        first, *later = (layer.label for layer in files)
        places = {path: result.given.place_of(path) for path in result.replaced}
        keys = [f"{'.'.join(path)} ({place})" for path, place in places.items() if place.label in later]
        more = f" and {len(keys) - _NAMED_CHANGES} more" if len(keys) > _NAMED_CHANGES else ""
        what = f", replacing {', '.join(keys[:_NAMED_CHANGES])}{more}" if keys else ""
        lines.append(f"configuration: {first}, then {', '.join(later)}{what}")
    if variables:
        lines.append(f"configuration: the environment sets {', '.join(layer.label for layer in variables)}")
    return lines


# ---- files ----


def _read(path: str) -> GivenValues:
    if path == STANDARD_INPUT:
        text = sys.stdin.buffer.read(FILE_LIMIT_BYTES + 1)
        if not text.strip():
            raise ConfigError(
                f"{_STDIN_LABEL}: --config - got nothing; see what went wrong before the pipe, or leave it out for the"
                " defaults"
            )
        return parse_yaml(text, _STDIN_LABEL)
    if os.path.isdir(path):
        raise ConfigError(
            f"{path}: is a folder, not a configuration; its frames are combined by: ostcal masters {path}"
        )
    return read_yaml(path)


# ---- the environment ----


def _variables(environment: Mapping[str, str]) -> tuple[list[GivenValues], list[str]]:
    """Return the values of all variables that begin with `PREFIX`, and a line for each that names no key."""
    known = {tuple(name.lower() for name in path): path for path in _settable()}
    found: list[GivenValues] = []
    problems: list[str] = []
    first: dict[KeyPath, str] = {}
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX):
            continue
        words = name[len(PREFIX) :].lower().split("__")
        path = known.get((ALIASES.get(words[0], words[0]), *words[1:]))
        if path is None:
            hint = _variable_hint(words, list(known))
            problems.append(f"{one_line(name)}: a variable of the environment that names no key; {hint}")
        elif path in first:
            problems.append(f"{name}: sets {'.'.join(path)}, as {first[path]} does; keep one")
        else:
            first[path] = name
            _collect(found, problems, partial(parse_value, environment[name], name, path))
    return found, problems


def _variable_hint(words: Sequence[str], known: Sequence[KeyPath]) -> str:
    """Return the advice for a variable that names no key."""
    below = [path for path in known if path[: len(words)] == tuple(words)]
    if below and words[0]:
        return f"it is a group of keys; set one of them, such as {variable_of(below[0])}"
    near = nearest(".".join(words), [".".join(path) for path in known])
    return f"did you mean {variable_of(tuple(near.split('.')))}?" if near else f"write {PREFIX}SECTION__KEY"


def _set_twice(options: Sequence[GivenValues]) -> list[str]:
    """Name the keys that several --set give different values."""
    values: dict[KeyPath, list[object]] = {}
    for layer in options:
        for path in layer.places:
            values.setdefault(path, []).append(layer.value(path)[1])
    return [
        f"configuration: --set gives {'.'.join(path)} {len(each)} times; the last counts"
        for path, each in values.items()
        if any(value != each[0] for value in each)
    ]


def _missed_prefix(environment: Mapping[str, str]) -> list[str]:
    """Name variables that would set a key if their underscores were doubled."""
    known = {"_".join(path).upper(): path for path in _settable()}
    near = PREFIX.rstrip("_") + "_"
    found = [(name, known.get(name.upper().removeprefix(near))) for name in sorted(environment)]
    return [
        f"configuration: {name} is ignored; it needs two underscores between its words: {variable_of(path)}"
        for name, path in found
        if path is not None and name.upper().startswith(near)
    ]


def variable_of(path: KeyPath) -> str:
    """Return the variable of the environment that sets a key."""
    return PREFIX + "__".join(path).upper()


# ---- options ----


def _setting(text: str) -> GivenValues:
    """Read ``section.key=value``."""
    name, equals, value = text.partition("=")
    name = name.strip()
    label = "--set"
    if not equals or not name:
        raise ConfigError(
            f"{label} {one_line(text)}: write {label} section.key=value, such as --set master_frames.sigma_low=2.7"
        )
    section, *rest = name.split(".")
    path = (ALIASES.get(section, section), *rest)
    group = _group_at(path)
    if group is not None and not _takes_words(path):
        keys = join_words([".".join((*path, key)) for key in group.model_fields][:4], "or")
        raise ConfigError(f"{label}: {one_line(name)}: is a group of keys; set one of them, such as {keys}")
    if group is None and path not in set(_settable()) and not _is_open(path[:-1]):
        raise ConfigError(f"{label}: {one_line(name)}: unknown key; {near_key(path)}")
    return parse_value(value, label, path)


def _flag(flag: Flag) -> GivenValues:
    """Return the values of an option."""
    values: dict[str, dict[str, object]] = {}
    for name, value in flag.values.items():
        section, _, key = name.partition(".")
        values.setdefault(section, {})[key] = value
    return GivenValues(values=values, label=flag.option)


def _settable() -> list[KeyPath]:
    """Return the keys, and the groups that may be written as a word."""
    groups = [
        (name, key) for name, model in SECTIONS.items() for key in model.model_fields if _takes_words((name, key))
    ]
    return [*(path for path, _ in walk_keys()), *groups]


def _group_at(path: KeyPath) -> type[Section] | None:
    """Return the section or the group at a path; ``None`` for a key, and where there is nothing."""
    model = SECTIONS.get(path[0])
    for name in path[1:]:
        entry = model.model_fields.get(name) if model is not None else None
        model = section_of(entry) if entry is not None else None
    return model


def _takes_words(path: KeyPath) -> bool:
    """Return whether a group may be written as a word, such as ``overscan: none``."""
    return path in (("master_frames", "overscan"), ("master_frames", "calibration"))


def _is_open(path: KeyPath) -> bool:
    """Return whether a group keeps keys that are not ours, for the driver of the camera."""
    group = _group_at(path) if path else None
    return group is not None and issubclass(group, OpenSection)
