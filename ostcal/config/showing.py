"""The values in force, each with the place it is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ostcal.config.given import KeyPath, Place
from ostcal.config.load import resolved_values
from ostcal.config.sections import SECTIONS, Config, section_of
from ostcal.config.sources import Sources
from ostcal.config.values import Section
from ostcal.config.yaml_file import write_flow

_DEFAULT = Place(label="default")
_COMMENT_AT = 48
"""Column where comments begin, if the value leaves room."""


@dataclass(frozen=True, kw_only=True)
class ShownValue:
    """A key of the configuration in force."""

    path: KeyPath
    value: Any
    """As it would be written in YAML; secrets are left out."""
    place: Place

    @property
    def is_default(self) -> bool:
        """Return whether nobody gave it."""
        return self.place is _DEFAULT


def shown_values(config: Config, sources: Sources) -> list[ShownValue]:
    """Return every key with its value and its place, in the order of the sections."""
    values = resolved_values(replace(config, hooks=config.hooks.without_secrets()))
    return [
        ShownValue(path=path, value=value, place=sources.place_of(path) or _DEFAULT)
        for name, model in SECTIONS.items()
        for path, value in _leaves(model, values[name], (name,))
    ]


def _leaves(model: type[Section], values: Mapping[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for name, value in values.items():
        entry = model.model_fields.get(name)
        sub = section_of(entry) if entry is not None else None
        if sub is None:
            yield (*path, name), value
        else:
            yield from _leaves(sub, value, (*path, name))


def as_yaml(values: Sequence[ShownValue]) -> str:
    """Return values as a configuration, with the place of each as a comment."""
    lines: list[str] = []
    before: KeyPath = ()
    for shown in values:
        *groups, name = shown.path
        for depth, group in enumerate(groups):
            if before[: depth + 1] != tuple(groups[: depth + 1]):
                lines.append(f"{'  ' * depth}{group}:")
        before = tuple(groups)
        text = f"{'  ' * len(groups)}{name}: {write_flow(shown.value)}"
        lines.append(f"{text:<{_COMMENT_AT}}  # {shown.place}")
    return "\n".join(lines)
