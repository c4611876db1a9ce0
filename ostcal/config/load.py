"""From a file, a mapping or options to a checked `Config`, and back to text.

`yaml_file` turns bytes into plain values and remembers the line of every key. The models in `sections` check the
values; what they refuse becomes one line for each key (`problems`), all of them at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ostcal.config.given import GivenValues, KeyPath, Notice, Place
from ostcal.config.lookalikes import misnamed_sections, misplaced_names
from ostcal.config.merging import merged
from ostcal.config.problems import (
    as_written,
    doubtful_values,
    explain,
    near_key,
    report_problems,
    unknown_camera_keys,
)
from ostcal.config.sections import ALIASES, SECTIONS, Config, walk_keys
from ostcal.config.sources import Sources
from ostcal.config.values import to_plain
from ostcal.config.yaml_file import read_yaml, write_yaml
from ostcal.errors import ConfigError

logger = logging.getLogger(__name__)

WORDED_PROBLEMS = 500
"""Problems of a section that get words: keys that exist come first, then unknown ones in the order of the file, so that
the lines shown are among them. To look for the nearest key takes 0.4 ms; 12,500 unknown keys fit into a file."""


def load_config(config: Config | Mapping[Any, object] | str | os.PathLike[str] | None = None) -> Config:
    """Load and check a configuration.

    Parameters
    ----------
    config : Config, mapping, str, path or None
        A loaded configuration (returned as it is), a mapping of sections, a YAML file, or ``None`` for the defaults.

    Returns
    -------
    Config
        All values, resolved; its ``warnings`` are logged too.

    Raises
    ------
    ConfigError
        One line for every problem, with file, line, key, value and what is allowed.

    Examples
    --------
    >>> from ostcal import load_config
    >>> load_config({"compute": {"memory_limit": "2GiB"}}).compute.memory_limit
    2147483648
    """
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return load_given(merged([GivenValues(values=config, label="configuration")], "configuration").given)
    if isinstance(config, (str, os.PathLike)):
        source = str(config)
        given = merged([read_yaml(source)], source).given
        return load_given(given, source=source, options=("--config", source))
    raise ConfigError(f"configuration: it must be a file, a dict or a loaded configuration, not {as_written(config)}")


def load_sources(sources: Sources) -> Config:
    """Check what a command was given, as `load_config` checks a file.

    Raises
    ------
    ConfigError
        One line for every problem, with the file and the line, the variable or the option that the value is from.
    """
    return load_given(sources.given, source=sources.name, options=sources.options)


def load_given(given: GivenValues, *, source: str | None = None, options: Sequence[str] = ()) -> Config:
    """Check merged values and log what is doubtful about them; `source` and `options` are kept in the configuration.

    Raises
    ------
    ConfigError
        One line for every problem.
    """
    loaded, _ = _checked(given, source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    return replace(loaded, options=tuple(options))


def with_overrides(config: Config, overrides: Mapping[str, object]) -> Config:
    """Replace single values, as options of the command line do.

    Parameters
    ----------
    config : Config
        What to start from; it is not changed.
    overrides : mapping of str to object
        Values by dotted key, such as ``{"master_frames.rejection_method": "median"}``. Numbers may be text. ``None``
        is the value null, not "leave it".

    Returns
    -------
    Config
        The changed configuration; new warnings are logged and added to its ``warnings``.

    Raises
    ------
    ConfigError
        One line for every wrong key or value, beginning with ``option:``.
    """
    values: dict[str, Any] = resolved_values(config)
    known = [path for path, _ in walk_keys()]
    problems: list[Notice] = []
    replaced: set[KeyPath] = set()
    for key, value in overrides.items():
        section, *rest = key.split(".")
        path = (ALIASES.get(section, section), *rest)
        if path not in known:
            text = f"unknown key; {near_key(path)}"
            problems.append(Notice(path=tuple(key.split(".")), text=text, place=Place(label="option")))
            continue
        replaced.add(path)
        group = values
        for name in path[:-1]:
            group = group[name]
        group[path[-1]] = value
    changed, notices = _checked(GivenValues(values=values, label="option", problems=problems), config.source)
    new = tuple(str(notice) for notice in notices if notice.path in replaced)
    for warning in new:
        logger.warning("%s", warning)
    return replace(changed, warnings=config.warnings + new, options=config.options)


def _checked(given: GivenValues, source: str | None) -> tuple[Config, list[Notice]]:
    """Validate all sections; raise one `ConfigError` that names every problem."""
    problems = [*given.problems, *misnamed_sections(given)]
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        names = (name, *(alias for alias, of in ALIASES.items() if of == name))
        written = next((word for word in names if word in given.values), None)
        if written is None:
            continue
        value = given.values[written]
        if value is None:
            sections[name] = model()
        elif not isinstance(value, Mapping):
            problems.append(given.notice((written,), f"{as_written(value)} is not allowed; write keys below it"))
        else:
            try:
                sections[name] = model.model_validate(value)
            except ValidationError as error:
                details = error.errors(include_url=False)
                problems += [explain(model, written, given, detail) for detail in details[:WORDED_PROBLEMS]]
                problems += [
                    given.notice((written, *map(str, detail["loc"])), "") for detail in details[WORDED_PROBLEMS:]
                ]
    if problems:
        raise ConfigError(report_problems(problems, given))
    notices = [*misplaced_names(given), *unknown_camera_keys(sections, given), *doubtful_values(sections, given)]
    notices = given.sorted(notices)
    config = Config(**sections, source=source, warnings=tuple(map(str, notices)))
    return config, notices


def without_endpoint(config: Config) -> Config:
    """Return a configuration as logs and reports may show it: without the server of the object store, and of hooks."""
    storage = config.storage.model_copy(update={"endpoint": None})
    return replace(config, storage=storage, hooks=config.hooks.without_secrets())


def resolved_values(config: Config) -> dict[str, dict[str, Any]]:
    """Return every value as it would be written in YAML, by section and key."""
    return {name: to_plain(getattr(config, name).model_dump()) for name in SECTIONS}


def dump(config: Config) -> str:
    """Write every resolved value as YAML, which `load_config` reads back to the same values."""
    return write_yaml(resolved_values(config))


def digest(config: Config) -> str:
    """Return the SHA-256 of the resolved values in hexadecimal; source and warnings are left out."""
    text = json.dumps(resolved_values(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
