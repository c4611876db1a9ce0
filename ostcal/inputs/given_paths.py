"""Paths and settings as programs give them, checked before they are used."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ostcal.errors import InputError

_NUMBERS = ("gain", "offset", "temperature_c", "width", "height", "rotation_deg", "focal_length_mm")
_WORDS = ("camera", "camera_id", "readout_mode", "telescope", "filter")


def paths_given(paths: Any, name: str) -> list[str]:
    """Return one path or several as a list.

    Raises
    ------
    InputError
        If it is something else: a text is one path, not its characters.
    """
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    if not isinstance(paths, Iterable) or isinstance(paths, (bytes, Mapping)):
        raise InputError(f"{name}: {_named(paths)} is no path; give a path, or a list of paths")
    return [_path(path, f"{name}[{index}]") for index, path in enumerate(paths)]


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting of a master that is of the wrong type; ``None`` is any."""
    for name, value in settings.items():
        if value is None:
            continue
        if name in _NUMBERS and not _is_number(value):
            raise InputError(f"{name}={value!r} is no number; write it as in the headers of the masters, such as 100")
        if name in _WORDS and not isinstance(value, str):
            raise InputError(f"{name}={value!r} is no text; write it as in the headers of the masters")
        if name == "binning" and not _is_binning(value):
            raise InputError(f"binning={value!r} is not understood; write 2, or (2, 1) for 2 columns and 1 row")


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_binning(value: Any) -> bool:
    pair = (value, value) if isinstance(value, (int, np.integer)) else value
    return isinstance(pair, (tuple, list)) and len(pair) == 2 and all(_is_number(one) for one in pair)


def _path(path: Any, label: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"{label}: {_named(path)} is no path; give texts or Path objects")
    return os.fspath(path)


def _named(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
