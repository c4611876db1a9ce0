"""The keys described for people: what the commented YAML file and ``docs/configuration.md`` are made from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from ostcal.config.problems import allowed_words, literal_words
from ostcal.config.sections import SECTIONS, KeyPath, section_of, walk_keys
from ostcal.config.values import Section


@dataclass(frozen=True, kw_only=True)
class KeyReference:
    """What there is to know of one key."""

    name: str
    allowed: str
    choices: tuple[str, ...]
    """The words that it takes literally."""
    default: str
    """As written in YAML."""
    unit: str
    """Empty where there is none."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class SectionReference:
    """What there is to know of one section; ``path`` is ``("video", "alpaca")`` for a group within one."""

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
        found[path[:-1]][1].append(_key_reference(path[-1], entry, found[path[:-1]][0]))
    return tuple(
        SectionReference(path=path, meaning=(model.__doc__ or "").splitlines()[0], keys=tuple(keys))
        for path, (model, keys) in found.items()
    )


def _key_reference(name: str, entry: FieldInfo, model: type[Section]) -> KeyReference:
    extra = entry.json_schema_extra
    return KeyReference(
        name=name,
        allowed=allowed_words(entry.annotation, entry.metadata),
        choices=tuple(literal_words(entry.annotation)),
        default=_inline(model().model_dump()[name]),
        unit=str(extra["unit"]) if isinstance(extra, dict) else "",
        meaning=entry.description or "",
    )


def _inline(value: object) -> str:
    """Write a value on one line of YAML."""
    if isinstance(value, str):
        return value if re.fullmatch("[a-z][a-z_0-9]*", value) else json.dumps(value)
    return json.dumps(value)
