"""Chunks of our own zarr arrays, checked and read straight into a block.

zarr-python reads every strip of every frame through its event loop: 0.5 GB/s here on one thread and on two. For
the layout that this package writes, one seek, one read and one decompression into place do the same: 1.7 GB/s
for zstd, 3.6 GB/s for lz4. An array of any other layout has no `ShardLayout` and is read through zarr-python.

Every chunk carries the CRC-32C of its stored bytes (zarr's codec ``crc32c``), which is compared before decoding:
blosc itself notices a changed bit only where it breaks its own structure. It costs 0.03 s for each GB (31 GB/s).
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ostcal.opening import open_regular

_ENTRY_BYTES = 16
CHECKSUM_BYTES = 4
_CHECKSUM_RESIDUE = 0x48674BC7
"""CRC-32C of any bytes that are followed by their own CRC-32C, little-endian."""
_BLOSC_HEADER_BYTES = 16
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


@dataclass(frozen=True, kw_only=True)
class ChunkCodec:
    """How blosc compresses chunks when they are written; readers find it in the header of the chunk."""

    name: str
    level: int
    shuffle: int
    block_bytes: int
    """0 where blosc chooses."""


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """How one frame's samples lie in its shard: full-width chunks of `chunk_rows` rows, blosc or plain."""

    height: int
    width: int
    chunk_rows: int
    dtype: str
    compressed: bool
    checksums: bool = False
    """Whether every chunk ends with its CRC-32C; those of version 1 of the format do not."""
    codec: ChunkCodec | None = None

    @property
    def is_writable(self) -> bool:
        """Whether shards of this layout can be written."""
        return self.codec is not None or not self.compressed


def shard_layout(metadata: Mapping[str, Any]) -> ShardLayout | None:
    """Return the layout of an array from its ``zarr.json``, or ``None`` where it is not exactly the one we write."""
    match metadata:
        case {
            "shape": [int(), int(height), int(width)],
            "data_type": str(dtype),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, int(padded), int(shard_width)]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [1, int(rows), int(chunk_width)],
                        "codecs": list(codecs),
                        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
        } if 0 < rows <= height and shard_width == chunk_width == width and padded == -(-height // rows) * rows:
            checksums = codecs[-1:] == [{"name": "crc32c"}]
            compressed = blosc_only(codecs[:-1] if checksums else codecs)
            if compressed is not None and not metadata.get("storage_transformers"):
                return ShardLayout(
                    height=height,
                    width=width,
                    chunk_rows=rows,
                    dtype=dtype,
                    compressed=compressed,
                    checksums=checksums,
                    codec=_chunk_codec(codecs[1]) if compressed else None,
                )
    return None


def _chunk_codec(described: Mapping[str, Any]) -> ChunkCodec | None:
    """Read the settings of blosc; ``None`` where they are not all there."""
    match described.get("configuration"):
        case {
            "cname": ("lz4" | "zstd") as name,
            "clevel": int(level),
            "shuffle": str(shuffle),
            "blocksize": int(block_bytes),
        } if 0 <= level <= 9 and shuffle in _SHUFFLES and 0 <= block_bytes < 1 << 31:
            return ChunkCodec(name=name, level=level, shuffle=_SHUFFLES[shuffle], block_bytes=block_bytes)
    return None


def blosc_only(codecs: list[Any]) -> bool | None:
    """Tell little-endian samples with blosc (True) from plain ones (False) and from anything else (None)."""
    match codecs:
        case [{"name": "bytes", **rest}, *compressors] if sys.byteorder == "little":
            if rest.get("configuration") not in (None, {}, {"endian": "little"}):
                return None
            match compressors:
                case []:
                    return False
                case [{"name": "blosc"}]:
                    return True
    return None


def read_shard_rows(path: str, layout: ShardLayout, start: int, out: NDArray[Any], *, verify: bool = True) -> None:
    """Fill `out`, an (n_rows, width) array of the layout's dtype in C order, with one frame's rows from `start` on.

    The checksums of chunks are compared where there are any and `verify` is true. Raise ValueError where the shard is
    damaged.
    """
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        index = open_index(path, file.fileno(), layout)

        def stored(chunk: int) -> bytes:
            file.seek(int(index[chunk, 0]))
            return file.read(int(index[chunk, 1]))

        read_chunks(stored, layout, start, out, verify=verify)


def open_index(path: str, descriptor: int, layout: ShardLayout) -> NDArray[np.uint64]:
    """Return where the chunks of an open shard lie: (offset, length) of each."""
    status = os.fstat(descriptor)
    return _shard_index(path, status.st_size, status.st_mtime_ns, -(-layout.height // layout.chunk_rows))


def read_chunks(
    stored: Callable[[int], bytes], layout: ShardLayout, start: int, out: NDArray[Any], *, verify: bool
) -> None:
    """Read as `read_shard_rows`; `stored` returns the bytes of a chunk."""

    def read_chunk(chunk: int, rows: NDArray[Any]) -> None:
        data: bytes | memoryview = stored(chunk)
        if layout.checksums:
            if verify and not ends_with_checksum(data):
                first = chunk * layout.chunk_rows
                last = min(first + layout.chunk_rows, layout.height) - 1
                raise ValueError(f"rows {first} to {last} are not those that were written (checksum)")
            data = memoryview(data)[:-CHECKSUM_BYTES]
        decode_chunk(data, rows, compressed=layout.compressed)

    fill_from_chunks(read_chunk, layout.chunk_rows, start, out)


def ends_with_checksum(data: bytes | memoryview) -> bool:
    """Return whether the last bytes of a chunk are the CRC-32C of all others."""
    return bool(google_crc32c.value(data) == _CHECKSUM_RESIDUE)


def fill_from_chunks(
    read_chunk: Callable[[int, NDArray[Any]], None], chunk_rows: int, start: int, out: NDArray[Any]
) -> None:
    """Fill `out`, (n_rows, width), with rows from `start` on; ``read_chunk(chunk, rows)`` fills all rows of a chunk."""
    stop = start + len(out)
    for chunk in range(start // chunk_rows, -(-stop // chunk_rows)):
        first = chunk * chunk_rows
        if start <= first and first + chunk_rows <= stop:
            read_chunk(chunk, out[first - start : first - start + chunk_rows])
            continue
        rows = np.empty((chunk_rows, out.shape[1]), out.dtype)
        read_chunk(chunk, rows)
        top, bottom = max(first, start), min(first + chunk_rows, stop)
        out[top - start : bottom - start] = rows[top - first : bottom - first]


@lru_cache(maxsize=4096)
def _shard_index(path: str, size: int, mtime_ns: int, n_chunks: int) -> NDArray[np.uint64]:
    """Read where the chunks lie: (offset, length) of each. Kept, as every strip of a frame needs it again (4 kB)."""
    length = index_length(n_chunks)
    if size < length:
        raise ValueError(f"it has {size} bytes, too few for its index of {length} bytes")
    with open(path, "rb", opener=open_regular) as file:
        file.seek(size - length)
        data = file.read(length)
    return parsed_index(data, size)


def index_length(n_chunks: int) -> int:
    """Return the bytes of the index at the end of a shard."""
    return n_chunks * _ENTRY_BYTES + CHECKSUM_BYTES


def parsed_index(data: bytes, size: int) -> NDArray[np.uint64]:
    """Return (offset, length) of each chunk from the index of a shard of `size` bytes; ValueError where it is wrong."""
    entries, stored = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if struct.pack("<I", google_crc32c.value(entries)) != stored:
        raise ValueError("the checksum of its index is wrong")
    index = np.frombuffer(entries, "<u8").reshape(-1, 2)
    if index.max() > size or index.sum(axis=1).max() > size:
        raise ValueError("its index names a chunk that is missing")
    return index


def decode_chunk(data: bytes | memoryview, out: NDArray[Any], *, compressed: bool) -> None:
    """Decode one chunk into `out` (C order), which it must fill exactly; ValueError where it does not."""
    if not compressed:
        if len(data) != out.nbytes:
            raise ValueError(f"a chunk has {len(data)} bytes instead of {out.nbytes}")
        out[...] = np.frombuffer(data, out.dtype).reshape(out.shape)
        return
    # blosc believes its header; one that promises less than the block holds would leave old samples in place
    if len(data) < _BLOSC_HEADER_BYTES or struct.unpack_from("<I4xI", data, 4) != (out.nbytes, len(data)):
        raise ValueError("the header of a compressed chunk is wrong")
    try:
        blosc.decompress(data, out)
    except RuntimeError as error:
        raise ValueError("a compressed chunk is damaged") from error
