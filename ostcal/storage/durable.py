"""Small files that are complete or absent, whatever kills the process, and how they are read again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

PARTIAL_ENDING = ".partial"
"""Ending of everything that is being written; zarr-python's own temporary files have it too."""

_RENAMES_ON_WINDOWS = 20
_RENAME_PAUSE_S = 0.01


def os_reason(error: OSError) -> str:
    """Give the system's word for what went wrong, without the path that the message names already."""
    return error.strerror or str(error)


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Read a small file; ValueError where it is larger than it may be."""
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return data


def write_atomically(path: Path, data: bytes | memoryview, *, durable: bool) -> None:
    """Write a file under a temporary name and rename it.

    Parameters
    ----------
    durable : bool
        Also wait until file and name are on the disk, so that not even a power cut loses them.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_ENDING}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _rename(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def _rename(source: Path, target: Path) -> None:
    """Rename over an existing file; Windows refuses that for a moment now and then (4 % of 4000 times)."""
    for _ in range(_RENAMES_ON_WINDOWS if os.name == "nt" else 0):
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(_RENAME_PAUSE_S)
    source.replace(target)


def sync_file(path: Path) -> None:
    """Wait until the contents of a file that somebody else wrote are on the disk."""
    with path.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk; nothing where a system cannot do it (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def sweep_partials(directory: Path) -> list[Path]:
    """Delete what a killed process left half-written below a directory; give what was deleted."""
    stray = sorted(directory.rglob(f"*{PARTIAL_ENDING}"))
    for path in stray:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return stray


def parse_json(data: bytes) -> Any:
    """Read JSON of unknown origin: ValueError for whatever is wrong with it, NaN and endless nesting included."""
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no JSON")
