"""Shards of our own zarr arrays, made chunk by chunk: zarr-python's bytes, for half its work.

Only chunks of ``auto`` that are ordered by bits (`_shuffle`) have others, which it reads as well.

zarr-python gathers a whole shard in memory, copies it, and goes through its event loop: 0.25 s of processor time for a
dark of 61 MP, 0.30 s for a flat. A chunk that is compressed and written while it is in the cache needs 0.12 s of it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ostcal.series.shard_reader import CHECKSUM_BYTES, ChunkCodec, ShardLayout

_HIGH_BYTE = 1 if sys.byteorder == "little" else 0
_EVERY = 61
"""Samples between those that are looked at: 3800 of a chunk of 24 rows of 9576, whatever colours alternate."""
_SHARED = 0.98
"""Hot pixels are fewer."""


def shard_parts(frame: NDArray[Any], layout: ShardLayout) -> Iterator[bytes]:
    """Yield the bytes of a frame's shard in their order: its chunks, then their index.

    `frame` is (height, width) of the layout's dtype, in C order; the layout is one that `ShardLayout.is_writable`.
    """
    codec, rows = layout.codec, layout.chunk_rows
    index = []
    end = 0
    for start in range(0, layout.height, rows):
        samples = frame[start : start + rows]
        if len(samples) < rows:  # the last chunk is filled up with the array's fill value
            samples = np.concatenate([samples, np.zeros((rows - len(samples), layout.width), samples.dtype)])
        if codec is None:
            stored = samples.tobytes()
        else:
            shuffle = _shuffle(samples, codec)
            stored = blosc.compress(samples, codec.name.encode("ascii"), codec.level, shuffle, codec.block_bytes)
        yield stored
        size = len(stored)
        if layout.checksums:
            yield _checksum(stored)
            size += CHECKSUM_BYTES
        index.append((end, size))
        end += size
    entries = np.array(index, "<u8").tobytes()
    yield entries + _checksum(entries)


def _shuffle(samples: NDArray[Any], codec: ChunkCodec) -> int:
    """Choose how the bytes of a chunk are ordered before lz4: blosc's header says which.

    Samples that share their high byte, as those of most darks do, are unpacked from ordered bytes at 8 to 12 GB/s and
    from ordered bits at 3.4, and are 1.9 in place of 2.2 to 2.7 times smaller. Where noise crosses a multiple of 256,
    and in flats, ordered bits are smaller (2.4 in place of 1.3 times, 1.5 in place of 1.3) and no slower.
    """
    if codec.name != "lz4" or codec.shuffle != blosc.SHUFFLE or samples.itemsize != 2:
        return codec.shuffle
    high = samples.ravel().view(np.uint8)[_HIGH_BYTE :: 2 * _EVERY]
    usual = np.bincount(high).max()
    return int(blosc.SHUFFLE if usual >= _SHARED * len(high) else blosc.BITSHUFFLE)


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(data))
