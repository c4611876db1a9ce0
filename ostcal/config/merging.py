"""Values from several places merged by key: later ones win, and each keeps the place it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from ostcal.config.given import GivenValues, KeyPath, Notice, Place
from ostcal.config.problems import join_words
from ostcal.config.sections import ALIASES, SECTIONS, section_of
from ostcal.config.values import Section


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Merged values, and what was given more than once."""

    given: GivenValues
    replaced: Mapping[KeyPath, Place] = field(default_factory=dict)
    """Keys that a later layer gave again, with the place of the value that no longer counts."""


def merged(layers: Sequence[GivenValues], label: str) -> Merged:
    """Merge values of our sections by key; other sections, and groups that are not ours, are replaced as a whole.

    Groups that may be written as a word are spelled out, so that a later key changes one part of them.
    """
    into = _Merging()
    for layer in layers:
        into.add(layer)
    given = GivenValues(
        values=into.values,
        label=label,
        places=into.places,
        problems=tuple(into.problems),
        order={layer.label: number for number, layer in reversed(list(enumerate(layers)))},
    )
    return Merged(given=given, replaced=into.replaced)


class _Merging:
    """What has been merged so far."""

    def __init__(self) -> None:
        self.values: dict[object, object] = {}
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[Notice] = []
        self.replaced: dict[KeyPath, Place] = {}
        self._written: dict[str, str] = {}
        """Sections by the name that they were written under first: video or camera."""

    def add(self, layer: GivenValues) -> None:
        """Merge the values of a layer into those before it."""
        self.problems += layer.problems
        seen: dict[str, str] = {}
        for name, value in layer.values.items():
            section = ALIASES.get(name, name) if isinstance(name, str) else ""
            if section not in SECTIONS:
                self.values[name] = value
                self._place(layer, (str(name),), (str(name),))
                continue
            if section in seen:
                both = join_words(sorted((name, seen[section]), key=lambda word: word in ALIASES))
                alias = next(word for word in (name, seen[section]) if word in ALIASES)
                self.problems.append(layer.notice((alias,), f"given as {both}, two names of one section; keep one"))
                continue
            seen[section] = name
            written = self._written.setdefault(section, name)
            self._place(layer, (name,), (written,))
            self._add_group(layer, SECTIONS[section], value, (name,), (written,), self.values)

    def _add_group(
        self,
        layer: GivenValues,
        model: type[Section],
        value: object,
        path: KeyPath,
        into: KeyPath,
        parent: dict[object, object],
    ) -> None:
        """Merge a group that the layer has at `path` into the one at `into`, below `parent`."""
        name = into[-1]
        before = parent.get(name)
        if value is None and isinstance(before, dict):
            return
        if not isinstance(value, Mapping):
            parent[name] = value
            return
        group: dict[object, object] = dict(before) if isinstance(before, dict) else {}
        parent[name] = group
        for key, item in value.items():
            entry = model.model_fields.get(key) if isinstance(key, str) else None
            sub = section_of(entry) if entry is not None else None
            here, there = (*path, str(key)), (*into, str(key))
            if entry is not None and sub is not None:
                self._place(layer, here, there)
                self._add_group(layer, sub, _spelled_out(entry, item), here, there, group)
                continue
            if there in self.places and key in group:
                self.replaced[there] = self.places[there]
            group[key] = item
            self._place(layer, here, there)

    def _place(self, layer: GivenValues, path: KeyPath, into: KeyPath) -> None:
        """Remember where a key was given."""
        self.places[into] = layer.place_of(path)


def _spelled_out(entry: FieldInfo, value: object) -> object:
    """Return a group that was written as a word, such as ``overscan: none``, as the keys that the word sets."""
    if value is None or isinstance(value, Mapping):
        return value
    for item in entry.metadata:
        if isinstance(item, BeforeValidator):
            value = item.func(value)  # type: ignore[call-arg]
    return value
