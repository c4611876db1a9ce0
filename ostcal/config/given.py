"""Values as they were given, where each of them was given, and notices about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KeyPath = tuple[str, ...]
"""Section, groups and name of a key: ``("video", "alpaca", "port")``."""

_SHOWN_CHARACTERS = 60


def one_line(text: str) -> str:
    """Show text on one line, whatever it holds."""
    shown = " ".join(text.split()) if text.strip() else repr(text)
    shown = shown if shown.isprintable() else ascii(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value was given: a line of a file, a variable of the environment, an option."""

    label: str
    """The file, the variable or the option."""
    line: int | None = None

    def __str__(self) -> str:
        return self.label if self.line is None else f"{self.label}, line {self.line}"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something wrong or noteworthy at one key."""

    path: KeyPath
    text: str
    place: Place

    def __str__(self) -> str:
        """Return the line that is shown: ``night.yaml, line 3: master_frames.sigma_low: text``."""
        parts = (str(self.place), ".".join(one_line(name) for name in self.path), self.text)
        return ": ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class GivenValues:
    """Values as given, with what is needed to name them."""

    values: Mapping[Any, object]
    label: str
    """What they are from, for notices about keys that nobody wrote."""
    places: Mapping[KeyPath, Place] = field(default_factory=dict)
    problems: Sequence[Notice] = ()
    order: Mapping[str, int] = field(default_factory=dict)
    """Of values from several files and options: by label, which was read first."""

    def place_of(self, path: KeyPath, *, other: str | None = None) -> Place:
        """Return where a key was given, else ``other`` beside it, else the group it would be in."""
        paths = [path, *([(*path[:-1], other)] if other else []), *(path[:end] for end in range(len(path) - 1, 0, -1))]
        return next((self.places[path] for path in paths if path in self.places), Place(label=self.label))

    def notice(self, path: KeyPath, text: str, *, other: str | None = None) -> Notice:
        """Put a notice at a key, or as near to it as something was given."""
        return Notice(path=path, text=text, place=self.place_of(path, other=other))

    def value(self, path: KeyPath) -> tuple[bool, object]:
        """Return whether a value is given at a path, and the value."""
        value: object = self.values
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                return False, None
            value = value[name]
        return True, value

    def sorted(self, notices: Sequence[Notice]) -> list[Notice]:
        """Return notices in the order of the files and their lines."""
        return sorted(notices, key=lambda n: (self.order.get(n.place.label, 0), n.place.line or 0))
