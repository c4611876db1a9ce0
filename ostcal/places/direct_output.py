"""Large strips written past the page cache, for files that are synced when they are whole and not read again soon.

Fresh pages cost 2.5 s of the system's time for each GB on a virtual machine, and syncing waits for the disk all the
same: 245 MB took 0.13 s past the cache, 0.35 to 0.75 s through it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
"""What disks and memory are aligned to; all block sizes of disks divide it."""
_LEAST_BYTES = 2**20
"""Smaller pieces are written through the cache: the disk would be asked too often."""


_of_thread = threading.local()


class DirectOutput:
    """Writes at offsets of a file, from any number of threads; the file must be synced by its owner.

    Where the system or its file system cannot write past the cache, everything goes through it.

    Parameters
    ----------
    file : binary file
        Open for writing, whose own position is moved.
    path : str
        Its name.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._direct: int | None = None
        flag = getattr(os, "O_DIRECT", 0)
        if flag and hasattr(os, "pwrite"):
            try:
                self._direct = os.open(path, os.O_WRONLY | flag)
            except OSError:  # a file system without it, such as one in memory
                self._direct = None

    def close(self) -> None:
        """Let go of the file, which stays open for its owner."""
        if self._direct is not None:
            os.close(self._direct)

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes at an offset; past the cache where `data` came from `buffer_for` the same offset."""
        first = -offset % PAGE
        last = (offset + len(data)) // PAGE * PAGE - offset
        aligned = data[first:last]
        if self._direct is None or len(aligned) < _LEAST_BYTES or aligned.ctypes.data % PAGE:
            self._write_through(offset, data)
            return
        # A page at either end may hold bytes of two strips: those go through the cache, which joins them.
        self._write_through(offset, data[:first])
        self._write_past(self._direct, offset + first, aligned)
        self._write_through(offset + last, data[last:])

    def _write_past(self, descriptor: int, offset: int, data: NDArray[np.uint8]) -> None:
        try:
            written = os.pwrite(descriptor, data.data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            written = 0  # this file system opens such files, and refuses to write them
        if written < len(data):
            self._write_through(offset + written, data[written:])

    def _write_through(self, offset: int, data: NDArray[np.uint8]) -> None:
        if len(data) == 0:
            return
        with self._lock:
            self._file.seek(offset)
            self._file.write(data.data)
            self._file.flush()


def buffer_for(offset: int, n_bytes: int, room: mmap.mmap | None) -> tuple[NDArray[np.uint8], mmap.mmap]:
    """Give room for bytes that are to be written at an offset, at the same place within a page; `room` is used again.

    Returns
    -------
    (n_bytes,) uint8, and what it lies in
    """
    start = offset % PAGE
    if room is None or len(room) < start + n_bytes:
        room = mmap.mmap(-1, PAGE + n_bytes)
    return np.frombuffer(room, np.uint8, n_bytes, start), room


def write_past_cache(file: BinaryIO, path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts one after the other to an empty file, by way of one buffer that a thread keeps."""
    offset = 0
    with contextlib.closing(DirectOutput(file, str(path))) as output:
        for part in parts:
            room: mmap.mmap | None = getattr(_of_thread, "room", None)
            buffer, _of_thread.room = buffer_for(offset, len(part), room)
            buffer[:] = np.frombuffer(part, np.uint8)
            output.write(offset, buffer)
            offset += len(part)
