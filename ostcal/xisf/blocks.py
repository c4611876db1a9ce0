"""Data blocks of XISF files: compared with their checksums, unpacked within bounds, brought back into order.

numcodecs, which zarr brings, unpacks LZ4 and Zstandard into memory that is given to it; it is given a file of the
length that the header promises, mapped, so that unpacking a frame needs memory for its packed bytes alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.places.durable import full_disk_advice, is_disk_full, os_reason
from ostcal.places.paths import open_binary

RATIOS: Final = {"zlib": 1032, "lz4": 255, "lz4hc": 255, "zstd": 2**17}
"""Codecs, and how many bytes one packed byte can become at most."""

_STRIP_BYTES = 4 * 2**20
_WHOLE_SAMPLES = 16
"""Items of any length, as many as are whole samples of any length."""
_LZ4_MAX_BYTES = 0x7E000000
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_LONGEST_HEADER = 5
_ADVICE = "copy it again or leave it out"


@dataclass(frozen=True, kw_only=True)
class DataBlock:
    """Where the samples of an image are, and how they are packed; its lengths fit the file and the image."""

    position: int
    """Byte in the file where it begins."""
    length: int
    """Bytes in the file."""
    embedded: bytes | None
    """The block itself, where it stands in the header."""
    codec: str
    """A key of `RATIOS`; "" for samples as they are."""
    item_bytes: int
    """Bytes of an item whose bytes were shuffled before they were packed; 1 where they were not."""
    pieces: tuple[tuple[int, int], ...]
    """Packed and unpacked bytes of each piece, one behind the other."""
    checksum: tuple[str, str] | None
    """Algorithm, as hashlib names it, and digest of the packed bytes in hexadecimal digits."""
    is_big_endian: bool

    @property
    def unpacked_length(self) -> int:
        """Bytes of its samples."""
        return sum(unpacked for _, unpacked in self.pieces)

    @property
    def is_plain(self) -> bool:
        """Whether its samples can be read where they are."""
        return self.embedded is None and not self.codec


def check_block(path: str, block: DataBlock) -> None:
    """Compare a block with its checksum; FrameError where they differ, or the file cannot be read."""
    if block.checksum is None:
        return
    algorithm, stated = block.checksum
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with _opened(path, block) as source:
        for piece in _read_in_strips(source, block.length, path):
            digest.update(piece)
    if digest.hexdigest() != stated:
        raise FrameError(f"{path}: its samples do not fit their checksum ({algorithm}): damaged; {_ADVICE}")


def unpacked_strips(path: str, block: DataBlock, directory: str | os.PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of the samples of a block, in strips of 4 MiB.

    What is packed is unpacked into a nameless file in `directory`.

    Raises
    ------
    FrameError
        If the packed bytes are damaged, or become another number of bytes than the header says.
    StorageError
        If there is no room in `directory`.
    """
    if not block.codec:
        with _opened(path, block) as source:
            for piece in _read_in_strips(source, block.length, path):
                yield np.frombuffer(piece, np.uint8)
        return
    with tempfile.TemporaryFile(dir=directory) as plain:
        _reserve(plain, block.unpacked_length, path)
        mapped = np.memmap(plain, np.uint8, "r+", shape=(block.unpacked_length,))
        with _opened(path, block) as source:
            start = 0
            for packed, unpacked in block.pieces:
                _unpack_piece(source, block.codec, packed, mapped[start : start + unpacked], path)
                start += unpacked
        yield from _in_order(mapped, block.item_bytes)


@contextlib.contextmanager
def _opened(path: str, block: DataBlock) -> Iterator[BinaryIO]:
    """Open the file where the block begins."""
    if block.embedded is not None:
        yield io.BytesIO(block.embedded)
        return
    try:
        file = open_binary(path)
        file.seek(block.position)
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        yield file


def _read(source: BinaryIO, length: int, path: str) -> bytes:
    try:
        data = source.read(length)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) < length:
        raise FrameError(f"{path}: ends {length - len(data)} bytes too early; copy it again", place=path)
    return data


def _unreadable(path: str, error: OSError) -> FrameError:
    return FrameError(f"{path}: cannot be read: {os_reason(error)}; {_ADVICE}", place=path)


def _read_in_strips(source: BinaryIO, length: int, path: str) -> Iterator[bytes]:
    for start in range(0, length, _STRIP_BYTES):
        yield _read(source, min(_STRIP_BYTES, length - start), path)


def _reserve(file: IO[bytes], length: int, path: str) -> None:
    """Give a file its length and its room on the disk: a mapped file that has none ends the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, length)
        else:
            for start in range(0, length, _STRIP_BYTES):
                file.write(bytes(min(_STRIP_BYTES, length - start)))
        file.flush()
    except OSError as error:
        why = full_disk_advice(error) if is_disk_full(error) else os_reason(error)
        raise StorageError(f"{path}: cannot be unpacked: {why}") from error


# ---- packed pieces ----


def _unpack_piece(source: BinaryIO, codec: str, packed: int, out: NDArray[np.uint8], path: str) -> None:
    """Fill `out` from the next packed bytes."""
    if packed == len(out):  # what does not become smaller is kept as it is
        start = 0
        for piece in _read_in_strips(source, packed, path):
            out[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
            start += len(piece)
    elif codec == "zlib":
        _inflate(source, packed, out, path)
    else:
        data = _read(source, packed, path)
        try:
            if codec == "zstd":
                _unpack_zstd(data, out)
            else:
                _unpack_lz4(data, out)
        except (RuntimeError, ValueError) as error:
            raise _damaged(path, str(error)) from error


def _inflate(source: BinaryIO, packed: int, out: NDArray[np.uint8], path: str) -> None:
    stream, done = zlib.decompressobj(), 0
    try:
        for piece in _read_in_strips(source, packed, path):
            while piece and not stream.eof:
                plain = stream.decompress(piece, _STRIP_BYTES)
                piece = stream.unconsumed_tail
                if done + len(plain) > len(out):
                    raise _damaged(path, f"more than {len(out)} bytes")
                out[done : done + len(plain)] = np.frombuffer(plain, np.uint8)
                done += len(plain)
    except zlib.error as error:
        raise _damaged(path, str(error)) from error
    if not stream.eof or done != len(out):
        raise _damaged(path, f"{done} of {len(out)} bytes")


def _unpack_lz4(data: bytes, out: NDArray[np.uint8]) -> None:
    if len(out) > _LZ4_MAX_BYTES:
        raise ValueError(f"{len(out)} bytes in one piece of LZ4")
    from numcodecs import lz4

    # numcodecs has the unpacked length before the block
    lz4.decompress(len(out).to_bytes(4, "little") + data, out)


def _unpack_zstd(data: bytes, out: NDArray[np.uint8]) -> None:
    from numcodecs import zstd

    stated = _zstd_length(data)
    if stated is not None and stated != len(out):
        raise ValueError(f"{stated} of {len(out)} bytes")
    zstd.decompress(data, out)


def _zstd_length(data: bytes) -> int | None:
    """Return the unpacked length that a Zstandard frame states, if any."""
    if data[:4] != _ZSTD_MAGIC or len(data) < _ZSTD_LONGEST_HEADER:
        raise ValueError("no frame of Zstandard")
    descriptor = data[4]
    is_single = bool(descriptor & 0x20)
    n_bytes = (int(is_single), 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3]
    length = int.from_bytes(data[start : start + n_bytes], "little")
    if n_bytes == 0:
        return None
    return length + 256 if n_bytes == 2 else length


def _damaged(path: str, what: str) -> FrameError:
    return FrameError(f"{path}: cannot be unpacked: {' '.join(what.split())}; {_ADVICE}")


def _in_order(plain: NDArray[np.uint8], item_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """Yield strips of unpacked bytes; of shuffled items all first bytes come first, then all second ones."""
    n_items = len(plain) // item_bytes
    columns = plain[: n_items * item_bytes].reshape(item_bytes, n_items)
    at_once = _STRIP_BYTES // item_bytes // _WHOLE_SAMPLES * _WHOLE_SAMPLES
    for start in range(0, n_items, at_once):
        strip = np.ascontiguousarray(columns[:, start : start + at_once].T).reshape(-1)
        is_last = start + at_once >= n_items
        yield np.concatenate([strip, plain[n_items * item_bytes :]]) if is_last else strip
