"""The samples of a FITS file's first image, written before its header is known."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import StorageError
from ostcal.fits.cards import padded_length
from ostcal.fits.checksum import OnesSum
from ostcal.places.direct_output import BUFFERS, DirectOutput
from ostcal.places.durable import PARTIAL_ENDING, full_disk_advice, is_disk_full, is_too_large, os_reason

STRIP_BYTES: Final = 2 * 2**20
"""A strip that stays in the cache while it is byte-swapped and summed: 0.03 s for 245 MB, 0.24 s in strips of 10 MB."""
_NOTE = struct.Struct("<II")
"""Of a strip that was written: its rows, and the sum of their samples."""


@dataclass(frozen=True, kw_only=True)
class UnfinishedImage:
    """The float32 samples of a file's first image, written strip by strip while a master is combined.

    Reading a master of 61 MP once more to write its file takes 0.25 to 0.9 s at the end of a run; while it is combined,
    disk and cores have the time. Strips may be written from any thread or process, in any order and twice. The sum of
    each is noted behind the samples until the file is finished.
    """

    path: str
    """Of the file; samples go to ``path.partial``."""
    header_length: int
    """Bytes before the samples, from `ostcal.fits.write.header_length`."""
    height: int
    width: int

    @property
    def _end(self) -> int:
        return self.header_length + padded_length(4 * self.height * self.width)

    def begin(self) -> None:
        """Create the file, without samples; StorageError where that fails."""
        try:
            with self._opened("wb") as file:
                file.truncate(self._end + _NOTE.size * self.height)
        except StorageError:
            self.discard()
            raise

    def write_rows(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write rows, ``(n_rows, width)``, from row `start` on; StorageError where that fails."""
        step = max(1, STRIP_BYTES // (4 * self.width))
        total = OnesSum()
        with self._opened("r+b") as file, contextlib.closing(DirectOutput(file, file.name)) as output:
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                offset = self.header_length + 4 * (start + first) * self.width
                buffer = BUFFERS.at(offset, part.nbytes)
                np.copyto(buffer.view(">f4").reshape(part.shape), part)
                total.add(buffer)
                output.write(offset, buffer)
            file.seek(self._end + _NOTE.size * start)
            file.write(_NOTE.pack(len(rows), total.value))

    def data_sum(self) -> int | None:
        """Return the sum of all samples for DATASUM; ``None`` where rows have not been written."""
        total, start = OnesSum(), 0
        try:
            with open(self.path + PARTIAL_ENDING, "rb") as file:
                file.seek(self._end)
                notes = file.read()
        except OSError:
            return None
        while start < self.height and len(notes) == _NOTE.size * self.height:
            n_rows, value = _NOTE.unpack_from(notes, _NOTE.size * start)
            if n_rows == 0:
                return None
            total.add_number(value)
            start += n_rows
        return total.value if start == self.height else None

    def finish(self, file: BinaryIO, header: bytes) -> None:
        """Write the header before the samples, and remove the notes behind them."""
        file.write(header)
        file.truncate(self._end)
        file.seek(0, os.SEEK_END)

    def discard(self) -> None:
        """Remove what was written, if it did not become a file."""
        with contextlib.suppress(OSError):
            os.remove(self.path + PARTIAL_ENDING)

    @contextlib.contextmanager
    def _opened(self, mode: Literal["wb", "r+b"]) -> Iterator[BinaryIO]:
        try:
            with open(self.path + PARTIAL_ENDING, mode) as file:
                yield file
        except OSError as error:
            raise StorageError(write_failure(self.path, error)) from error


def write_failure(path: str, error: OSError) -> str:
    """Return why a file cannot be written, and what to do."""
    if is_disk_full(error):
        return f"{path}: {full_disk_advice(error)}"
    if is_too_large(error):
        return f"{path}: cannot be written: {os_reason(error)}"
    return f"{path}: cannot be written: {os_reason(error)}; check the directory and its permissions"
