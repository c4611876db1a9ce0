"""Rows of frames whose shards are objects: one request for the chunks of a strip, which lie one after the other.

A request to an object store waits 10 to 100 ms before the first byte, so that a strip of a frame is one range, never
one for each chunk; `ostcal.series.shard_reader` does the same for files with a read for each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.places.objects import ObjectPath
from ostcal.series.shard_reader import ShardLayout, index_length, parsed_index, read_chunks


def read_object_rows(location: str, layout: ShardLayout, start: int, out: NDArray[Any], *, verify: bool = True) -> None:
    """Read as `ostcal.series.shard_reader.read_shard_rows` does from a file.

    Raise also ValueError where the shard was replaced by another one while it was read, FileNotFoundError where it is
    missing, and UnreachableError where the server does not answer.
    """
    shard, step, stop = ObjectPath.of(location), layout.chunk_rows, start + len(out)
    chunks = range(start // step, -(-stop // step))
    for fresh in (False, True):
        index = (_read_index if fresh else _kept_index)(location, -(-layout.height // step))
        try:
            stored = dict(zip(chunks, _stored_chunks(shard, index, chunks), strict=True))
            read_chunks(stored.__getitem__, layout, start, out, verify=verify)
            return
        except (ValueError, FileNotFoundError):
            if fresh:  # else it may have been replaced since its index was read
                raise


def _stored_chunks(shard: ObjectPath, index: NDArray[np.uint64], chunks: range) -> list[bytes]:
    """Return the bytes of chunks: one request where they are neighbours, as this package writes them."""
    places = [(int(index[chunk, 0]), int(index[chunk, 1])) for chunk in chunks]
    if not places:
        return []
    first, last = min(at for at, _ in places), max(at + length for at, length in places)
    if last - first == sum(length for _, length in places):
        data = shard.read_range(first, last)
        return [data[at - first : at - first + length] for at, length in places]
    return [shard.read_range(at, at + length) for at, length in places]


def _read_index(location: str, n_chunks: int) -> NDArray[np.uint64]:
    """Read where the chunks of a shard lie: (offset, length) of each."""
    shard, length = ObjectPath.of(location), index_length(n_chunks)
    size = shard.state().size
    if size < length:
        raise ValueError(f"it has {size} bytes, too few for its index of {length} bytes")
    return parsed_index(shard.read_range(size - length, size), size)


_kept_index = lru_cache(maxsize=4096)(_read_index)
"""`_read_index`, kept: every strip needs it again (4 kB)."""
