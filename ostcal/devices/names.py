"""Devices by their names, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Id = TypeVar("_Id")


def with_name(wanted: str, names: Mapping[_Id, str]) -> list[_Id]:
    """Return the devices of this very name, else those whose name has it as a part; case and blanks do not matter."""
    plain = _plain(wanted)
    exact = [number for number, name in names.items() if _plain(name) == plain]
    return exact or [number for number, name in names.items() if plain in _plain(name)]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
