"""Large strips written past the page cache, for files that are synced when they are whole and not read again soon.

Fresh pages cost 2.5 s of the system's time for each GB on a virtual machine, and syncing waits for the disk anyway:
245 MB took 0.13 s past the cache, 0.35 to 0.75 s through it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
"""What disks and memory are aligned to; all block sizes of disks divide it."""
_LEAST_BYTES = 2**20
"""Smaller pieces are written through the cache: they would need too many requests to the disk."""


class DirectOutput:
    """Writes at offsets of a file, from any number of threads; the file must be synced by its owner.

    Where the system or its file system cannot write past the cache, everything goes through it. The position of `file`,
    which is open for writing under the name `path`, is moved.
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
        """Release the file, which stays open for its owner."""
        if self._direct is not None:
            os.close(self._direct)

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes at an offset; past the cache where `data` came from `AlignedBuffers.at` the same offset."""
        first = -offset % PAGE
        last = (offset + len(data)) // PAGE * PAGE - offset
        aligned = data[first:last]
        if self._direct is None or len(aligned) < _LEAST_BYTES or aligned.ctypes.data % PAGE:
            self._write_through(offset, data)
            return
        # A page at either end may hold bytes of two strips: those go through the cache, which joins them.
        self._write_through(offset, data[:first])
        try:
            written = os.pwrite(self._direct, aligned.data, offset + first)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            written = 0  # this file system opens such files, and refuses to write them
        self._write_through(offset + first + written, data[first + written :])

    def _write_through(self, offset: int, data: NDArray[np.uint8]) -> None:
        if len(data) == 0:
            return
        with self._lock:
            self._file.seek(offset)
            self._file.write(data.data)
            self._file.flush()


class AlignedBuffers(threading.local):
    """One buffer for each thread, at the place within a page that `DirectOutput.write` needs.

    A fresh buffer for each strip costs 4 times the copy into it.
    """

    def __init__(self) -> None:
        self._pages = mmap.mmap(-1, PAGE)

    def at(self, offset: int, n_bytes: int) -> NDArray[np.uint8]:
        """Return room for bytes to be written at a file's offset, ``(n_bytes,)``; good until the thread's next call."""
        start = offset % PAGE
        if len(self._pages) < start + n_bytes:
            self._pages = mmap.mmap(-1, PAGE + n_bytes)
        return np.frombuffer(self._pages, np.uint8, n_bytes, start)


BUFFERS: Final = AlignedBuffers()
"""Of this process."""


def write_past_cache(file: BinaryIO, path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts one after the other to an empty file."""
    offset = 0
    with contextlib.closing(DirectOutput(file, str(path))) as output:
        for part in parts:
            buffer = BUFFERS.at(offset, len(part))
            buffer[:] = np.frombuffer(part, np.uint8)
            output.write(offset, buffer)
            offset += len(part)
