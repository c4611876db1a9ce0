"""Files packed with gzip, read forwards: bounded in what they unpack to, and in what it takes to find their end."""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from ostcal.decoding import most_unpacked_bytes
from ostcal.errors import FrameError
from ostcal.places.paths import open_binary

_INPUT_BYTES: Final = 64 * 2**10
_OUTPUT_BYTES: Final = 64 * 2**10
_MOST_SILENT_BYTES: Final = 16 * 2**20
"""Of input that unpacks to nothing: names and comments without an end, empty members, padding."""
_FREE_MEMBERS: Final = 1000
_MEMBER_BYTES: Final = 4096
"""Members may be as small on average beyond `_FREE_MEMBERS`; bgzip makes them 64 KiB long."""
_MAGIC: Final = b"\x1f\x8b"
_GZIP_BITS: Final = 31


@contextlib.contextmanager
def open_gzip(path: str) -> Iterator[UnpackedGzip]:
    """Open a gzip file to read what is in it."""
    with open_binary(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield UnpackedGzip(file, path, size)


class UnpackedGzip(io.RawIOBase):
    """The content of a gzip file of one member or several, as a stream that only goes forwards.

    Checksums and lengths of members are compared where they end. Reading raises EOFError where the file is cut,
    zlib.error where it is damaged, and FrameError where it unpacks to more than a frame of its size does
    (`most_unpacked_bytes` of its size).
    """

    def __init__(self, file: BinaryIO, path: str, size: int) -> None:
        self._file, self._path, self._size = file, path, size
        self.limit_bytes = most_unpacked_bytes(size)
        self._decoder = zlib.decompressobj(_GZIP_BITS)
        self._packed = b""
        self._ready = memoryview(b"")
        self._position = 0  # of what was handed out
        self._made = 0  # bytes that were unpacked
        self._silent = 0  # bytes of input since anything was unpacked
        self._members = 1
        self._has_ended = False

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that positions can be reached, those ahead."""
        return True

    def tell(self) -> int:
        """Return how many bytes were read or passed over."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass over what lies before a position; FrameError, and nothing is read, where that is beyond the limit."""
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("a gzip file is read forwards")
        self.check_length(offset)
        while self._position < offset and self._take(offset - self._position):
            pass
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer with the bytes that come next; return how many, 0 at the end."""
        taken = self._take(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes: as many as asked for, fewer only at the end."""
        pieces: list[memoryview] = []
        missing = size if size >= 0 else self.limit_bytes
        while missing > 0 and (piece := self._take(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Read to the end, within the limit, so that the checksums of all members are compared."""
        while self._take(_OUTPUT_BYTES):
            pass

    def check_length(self, length: int) -> None:
        """Raise FrameError where so many bytes are more than a file of this size unpacks to."""
        if length > self.limit_bytes:
            raise FrameError(
                f"{self._path}: a frame of {length} bytes or more would be in a file of {self._size} bytes, which may"
                f" unpack to {self.limit_bytes}: it is damaged or was made to fill the disk, leave it out; if it is"
                " right, unpack it with gunzip"
            )

    def _take(self, most: int) -> memoryview:
        """Return some of the next bytes, none at the end."""
        if not self._ready:
            self._ready = memoryview(self._unpacked())
        taken, self._ready = self._ready[:most], self._ready[most:]
        self._position += len(taken)
        return taken

    def _unpacked(self) -> bytes:
        while not self._has_ended:
            data = self._decoder.decompress(self._packed, _OUTPUT_BYTES)
            self._packed = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self._packed = self._decoder.unused_data
                self._begin_next_member()
            elif not data and not self._packed:
                self._packed = self._more()
                if not self._packed:
                    raise EOFError("it is cut short: its compressed data have no end")
            if data:
                self._made += len(data)
                self._silent = 0
                self.check_length(self._made)
                return data
        return b""

    def _begin_next_member(self) -> None:
        """Pass over padding (zeros); behind it the file ends, or another member begins."""
        self._packed = self._packed.lstrip(b"\0")
        while not self._packed and (more := self._more()):
            self._packed = more.lstrip(b"\0")
        if self._packed == _MAGIC[:1]:
            self._packed += self._more()
        if not self._packed:
            self._has_ended = True
            return
        if not self._packed.startswith(_MAGIC):
            raise zlib.error("bytes follow its compressed data that are none")
        self._members += 1
        if self._members > _FREE_MEMBERS + self._made // _MEMBER_BYTES:
            raise zlib.error(f"it has {self._members} members or more of {self._made // self._members} bytes each")
        self._decoder = zlib.decompressobj(_GZIP_BITS)

    def _more(self) -> bytes:
        data = self._file.read(_INPUT_BYTES)
        self._silent += len(data)
        if self._silent > _MOST_SILENT_BYTES:
            raise zlib.error(f"{self._silent} bytes of it unpack to nothing")
        return data
