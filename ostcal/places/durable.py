"""Files that are complete or absent, whatever kills the process, and durable where that is asked for.

The order of system calls of every writer, so that a power cut at any point leaves the old state or the new one:

================  =====================================================================================================
one file          write ``NAME.partial``; fsync it; rename it to ``NAME``; fsync the directory (`replaced_file`).
                  Without `durable` the two fsyncs are left out: the file is complete or absent as long as the system
                  runs, and what refers to it must sync it first.
new series        write its skeleton below ``SERIES.partial``; fsync files; fsync directories; rename; fsync the parent.
frame of a        write the shard; fsync it; fsync the directories above it up to the series; only then write its record
series            into the ledger as one durable file. The record is the frame's existence: it is removed first.
master in the     write planes and strips without fsync; at commit fsync all chunks and metadata of planes, then the
store             directories; only then write ``zarr.json`` of the master as one durable file. It is the master's
                  existence: it is removed first, and the directory fsync'ed.
master as FITS    write samples, then the header, to ``NAME.fits.partial``; then as one file. Calibrated frames,
                  exported frames, reports, exclusions and the journal of a schedule are such files too.
history           append lines; fsync; fsync the directory where the file is new. Half a line is passed over.
``latest/``       write ``index.json`` as one durable file; rename links; fsync the directory.
lock              create it exclusively; write; fsync. Remove it; fsync the directory.
download          write all files; fsync their directories; rename the directory; fsync its parent.
================  =====================================================================================================

The index beside a library, logs and compiled kernels are not waited for: what is damaged there is found by its checksum
and made again, and a log may lack its last lines.

Objects of a store are complete or absent by themselves, and on the disk when the server has answered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ostcal.errors import StorageError
from ostcal.places.direct_output import write_past_cache
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import AnyPath, read_start, sync_directory

PARTIAL_ENDING = ".partial"
"""Ending of everything that is being written; zarr-python's own temporary files have it too."""

_RENAMES_ON_WINDOWS = 20
_RENAME_PAUSE_S = 0.01


_TOO_LARGE = "the limit of file sizes is reached; raise it (ulimit -f); vfat ends at 4 GiB: choose another disk"


def os_reason(error: Exception) -> str:
    """Return in one line what went wrong, without the path, which the message names already."""
    if is_too_large(error):
        return _TOO_LARGE
    text = error.strerror if isinstance(error, OSError) else None
    return " ".join((text or str(error) or type(error).__name__).split())


@contextlib.contextmanager
def storage_errors(failure: str) -> Iterator[None]:
    """Raise StorageError with `failure` and the reason where the system refuses what the context does."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{failure}: {os_reason(error)}") from error


def is_too_large(error: Exception) -> bool:
    """Return whether a file may not grow to what was written: a limit of the shell, or of the file system."""
    return isinstance(error, OSError) and error.errno == errno.EFBIG


def is_disk_full(error: OSError) -> bool:
    """Return whether there was no room for what was written."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def full_disk_advice(error: OSError) -> str:
    """Return that the disk is full, and what to do."""
    return f"the disk is full ({error.strerror}); free space or choose another output directory"


def read_bounded(path: AnyPath, limit_bytes: int) -> bytes:
    """Read a small file; ValueError where it is larger than `limit_bytes`."""
    data = read_start(path, limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return data


def write_atomically(path: AnyPath, data: bytes | memoryview, *, durable: bool, past_cache: bool = False) -> None:
    """Write a file under a temporary name and rename it; an object is complete or absent by itself.

    With `durable` also wait until file and name are on the disk, so that not even a power cut loses them. With
    `past_cache` leave the page cache to files that are read again soon.
    """
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
    else:
        write_parts_atomically(path, (data,), durable=durable, past_cache=past_cache)


def write_parts_atomically(
    path: AnyPath, parts: Iterable[bytes | memoryview], *, durable: bool, past_cache: bool = False
) -> None:
    """Write a file as `write_atomically` does, from parts that are made one after the other."""
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="ostcal-") as folder:
            local = Path(folder, path.name)
            with local.open("wb") as file:
                file.writelines(parts)
            path.write_file(local)
        return
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_ENDING}")
    with replaced_file(path, partial, durable=durable) as file:
        if past_cache:
            write_past_cache(file, partial, parts)
        else:
            file.writelines(parts)


@contextlib.contextmanager
def replaced_file(
    path: Path, partial: Path, *, durable: bool, begun: bool = False, overwrite: bool = True
) -> Iterator[BinaryIO]:
    """Open `partial` for writing; when the context ends well, it becomes `path` beside it, else it is deleted.

    With `durable` wait until file and name are on the disk. With `begun` continue a `partial` that exists already.
    Without `overwrite` an existing file of that name is a FileExistsError.
    """
    try:
        with partial.open("r+b" if begun else "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        _rename(partial, path)
    except BaseException:  # Ctrl-C too: nobody would ever sweep what is half-written in a directory of the user's
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


def sync_file(path: AnyPath) -> None:
    """Wait until the contents of a file that another library wrote are on the disk."""
    if isinstance(path, ObjectPath):
        return
    with path.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sweep_partials(directory: AnyPath) -> list[Path]:
    """Delete what a killed process left half-written below a directory; returns what was deleted."""
    if isinstance(directory, ObjectPath):  # nothing is ever half-written there
        return []
    stray = sorted(directory.rglob(f"*{PARTIAL_ENDING}"))
    for path in stray:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return stray


def sweep_partial_files(directory: AnyPath, endings: tuple[str, ...] = (PARTIAL_ENDING,)) -> None:
    """Delete what killed processes left half-written in a directory, not below it; only while nobody else writes.

    `endings` are in lower case and end with `PARTIAL_ENDING`; names may have capitals before it.
    """
    if isinstance(directory, ObjectPath):
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in directory.iterdir():
            is_partial = path.name.endswith(PARTIAL_ENDING) and path.name.lower().endswith(endings)
            if is_partial and path.is_file():
                path.unlink(missing_ok=True)
