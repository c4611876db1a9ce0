"""Descriptions of all keys, from which the commented YAML file and ``docs/configuration.md`` are written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ostcal.config.given import KeyPath
from ostcal.config.problems import allowed_words, literal_words
from ostcal.config.sections import SECTIONS, section_of, walk_keys
from ostcal.config.values import Section


@dataclass(frozen=True, kw_only=True)
class KeyReference:
    """Description of one key."""

    name: str
    allowed: str
    choices: tuple[str, ...]
    """Words that it takes literally."""
    default: str
    """As written in YAML."""
    unit: str
    """Empty for a key without a unit."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class SectionReference:
    """Description of one section; ``path`` is ``("video", "alpaca")`` for a group within one."""

    path: tuple[str, ...]
    meaning: str
    keys: tuple[KeyReference, ...]


def describe_sections() -> tuple[SectionReference, ...]:
    """Describe every section and key, in the order of the file."""
    found: dict[KeyPath, tuple[type[Section], list[KeyReference]]] = {}
    for name, model in SECTIONS.items():
        found[(name,)] = (model, [])
        for group, entry in model.model_fields.items():
            if (sub := section_of(entry)) is not None:
                found[(name, group)] = (sub, [])
    for path, entry in walk_keys():
        model, keys = found[path[:-1]]
        default = model().model_dump()[path[-1]]
        is_word = isinstance(default, str) and re.fullmatch("[a-z][a-z_0-9]*", default)
        extra = entry.json_schema_extra
        keys.append(
            KeyReference(
                name=path[-1],
                allowed=allowed_words(entry.annotation, entry.metadata),
                choices=tuple(literal_words(entry.annotation)),
                default=default if is_word else json.dumps(default),
                unit=str(extra["unit"]) if isinstance(extra, dict) else "",
                meaning=entry.description or "",
            )
        )
    return tuple(
        SectionReference(path=path, meaning=(model.__doc__ or "").splitlines()[0], keys=tuple(keys))
        for path, (model, keys) in found.items()
    )
