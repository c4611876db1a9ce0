"""Small files that are complete or absent, whatever kills the process, and how they are read again."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from ostcal.places.direct_output import write_past_cache
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import Place, read_start, sync_directory

PARTIAL_ENDING = ".partial"
"""Ending of everything that is being written; zarr-python's own temporary files have it too."""

_RENAMES_ON_WINDOWS = 20
_RENAME_PAUSE_S = 0.01


def os_reason(error: Exception) -> str:
    """Return in one line what went wrong, without the path, which the message names already."""
    text = error.strerror if isinstance(error, OSError) else None
    return " ".join((text or str(error) or type(error).__name__).split())


def is_disk_full(error: OSError) -> bool:
    """Whether there was no room for what was written."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def full_disk_advice(error: OSError) -> str:
    """Say that the disk is full, and what to do."""
    return f"the disk is full ({error.strerror}); free space or choose another output directory"


def read_bounded(path: Place, limit_bytes: int) -> bytes:
    """Read a small file; ValueError where it is larger than it may be."""
    data = read_start(path, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return data


def write_atomically(path: Place, data: bytes | memoryview, *, durable: bool, past_cache: bool = False) -> None:
    """Write a file under a temporary name and rename it; an object is complete or absent by itself.

    Parameters
    ----------
    durable : bool
        Also wait until file and name are on the disk, so that not even a power cut loses them.
    past_cache : bool
        Leave the page cache to files that are read again soon.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
    else:
        write_parts_atomically(path, (data,), durable=durable, past_cache=past_cache)


def write_parts_atomically(
    path: Path, parts: Iterable[bytes | memoryview], *, durable: bool, past_cache: bool = False
) -> None:
    """Write a file as `write_atomically` does, from parts that are made one after the other."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_ENDING}")
    try:
        with partial.open("wb") as file:
            if past_cache:
                write_past_cache(file, partial, parts)
            else:
                for part in parts:
                    file.write(part)
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


def sync_file(path: Place) -> None:
    """Wait until the contents of a file that somebody else wrote are on the disk."""
    if isinstance(path, ObjectPath):
        return
    with path.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sweep_partials(directory: Place) -> list[Path]:
    """Delete what a killed process left half-written below a directory; give what was deleted."""
    if isinstance(directory, ObjectPath):  # nothing is ever half-written there
        return []
    stray = sorted(directory.rglob(f"*{PARTIAL_ENDING}"))
    for path in stray:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return stray


def sweep_partial_files(directory: Place) -> None:
    """Delete what killed processes left half written in a directory, not below it; only where nobody else writes."""
    if isinstance(directory, ObjectPath):
        return
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            if path.name.endswith(PARTIAL_ENDING) and path.is_file():
                path.unlink(missing_ok=True)
