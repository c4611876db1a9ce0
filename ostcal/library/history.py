"""A file that only grows: one JSON object a line, for numbers that are followed over years."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostcal.errors import StorageError
from ostcal.places.durable import os_reason, parse_json
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import open_binary, place

MAX_BYTES = 64 << 20
"""Of the file's end that is read: 50,000 masters."""
_TRIES = 10
"""Times that an object is written anew because another run added to it at the same moment."""


def append_history(path: str | os.PathLike[str], entries: Sequence[dict[str, Any]]) -> None:
    """Add entries, all with one write, and wait until they are on the disk.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    lines = "".join(json.dumps(entry, allow_nan=False, separators=(",", ":")) + "\n" for entry in entries)
    target = place(path)
    if isinstance(target, ObjectPath):
        _append_to_object(target, lines.encode())
        return
    try:
        with open(path, "ab") as file:
            if file.tell() and not _ends_with_line(Path(path)):
                file.write(b"\n")  # a run that was killed left half a line
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{os.fspath(path)}: the history cannot be written: {os_reason(error)}") from error


def _append_to_object(path: ObjectPath, lines: bytes) -> None:
    """Write the whole object anew, if nobody else did meanwhile; else from what is there then."""
    for _ in range(_TRIES):
        try:
            state = path.state()
        except FileNotFoundError:
            if path.create(lines):
                return
            continue
        before = path.read_range(0, state.size)
        if path.replace_if(before + (b"" if before.endswith(b"\n") else b"\n") + lines, state.e_tag):
            return
    raise StorageError(f"{path}: the history cannot be written: it was changed {_TRIES} times meanwhile")


def read_history(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Give the entries, oldest first; a line that is no JSON object is passed over, no file is no entries.

    Raises
    ------
    StorageError
        If the file cannot be read.
    """
    try:
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            lines = file.read(MAX_BYTES).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{os.fspath(path)}: the history cannot be read: {os_reason(error)}") from error
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(line)
    except ValueError:  # half a line of a killed run
        return None
    return value if isinstance(value, dict) else None


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
