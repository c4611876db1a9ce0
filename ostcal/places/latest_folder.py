"""The folder ``latest`` beside masters: it holds other names of files that are there already, and none of its own."""

from __future__ import annotations

import os
from typing import Final

from ostcal.places.paths import AnyPath, Location, joined, path_of, read_start

LATEST: Final = "latest"
LATEST_INDEX: Final = "index.json"
INDEX_FORMAT: Final = "ostcal-latest"
_MARK: Final = f'"format": "{INDEX_FORMAT}"'.encode()
_START_BYTES = 256


def is_latest(directory: Location | AnyPath) -> bool:
    """Return whether a directory is such a folder: it has the name, and an index of this program."""
    if os.path.basename(str(directory).rstrip("/\\")) != LATEST:
        return False
    try:
        return _MARK in read_start(path_of(joined(str(directory), LATEST_INDEX)), _START_BYTES)
    except OSError:
        return False
