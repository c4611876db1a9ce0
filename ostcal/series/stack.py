"""Frames of one series as a stack: rows of all of them, read from their shards or through zarr-python."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.frames import RowReader, SampleEncoding
from ostcal.places.durable import os_reason, storage_errors
from ostcal.places.open_files import STRIPS_AHEAD, kept_open, read_ahead
from ostcal.places.paths import (
    directories_in,
    in_parallel,
    is_file,
    is_remote,
    joined,
    path_of,
    recent_version_of,
    retried,
    walk,
)
from ostcal.series.format import (
    ENCODINGS,
    FRAMES,
    LEDGER,
    MAX_CHUNK_BYTES,
    METADATA_FILE,
    ZARR_ERRORS,
    check_shape,
    read_metadata,
    shard_path,
    short,
    unusable,
)
from ostcal.series.object_shards import read_object_rows
from ostcal.series.record import find_record, record_path
from ostcal.series.shard_reader import ShardLayout, open_index, read_chunks, read_shard_rows, shard_layout

_SAME_MEAN = 1e-12
"""Means of integers are exact but for the last bits of a division."""
Stamp = tuple[int, int | str]


@dataclass(frozen=True)
class ZarrStack:
    """Committed frames of one series; implements `ostcal.frames.FrameStack`.

    Small and picklable: it holds the location and the indices, and every process opens the array once. A frame without
    a record is a FrameError when the stack is made: one that was not committed would read as zeros.
    """

    location: str
    indices: tuple[int, ...]
    verify: bool = True
    """Whether the checksums of chunks are compared while they are read."""

    def __post_init__(self) -> None:
        """Refuse frames that are not committed."""
        ledger = path_of(self.location) / LEDGER
        there = in_parallel(ledger, lambda index: record_path(ledger, index).is_file(), self.indices)
        for index, is_committed in zip(self.indices, there, strict=True):
            if not is_committed:
                raise FrameError(f"{self.location}: frame {index} is not committed; it has no record in {LEDGER}/")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return (len(self.indices), *stored_frames(self.location).shape[1:])

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        return ENCODINGS[stored_frames(self.location).dtype]

    @property
    def row_step(self) -> int:
        """Rows of a chunk: they are read for the price of one."""
        return stored_frames(self.location).chunk_rows

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out`, (n_frames, stop - start, width) of the encoding's dtype, with raw samples.

        Raise FrameError where a frame's shard is missing or damaged.
        """
        frames = stored_frames(self.location)
        if out.shape != (len(self.indices), stop - start, frames.shape[2]) or out.dtype != self.encoding.dtype:
            raise ValueError(f"rows {start} to {stop} of {self.shape} do not fit a block of {out.dtype} {out.shape}")

        def read(position: int) -> None:
            index, rows = self.indices[position], out[position]
            if frames.dtype == "int16" and rows.flags.c_contiguous:
                frames.read(index, start, rows.view(np.int16), verify=self.verify)
            elif rows.dtype == frames.dtype and rows.flags.c_contiguous:
                frames.read(index, start, rows, verify=self.verify)
            else:
                samples = np.empty(rows.shape, frames.dtype)
                frames.read(index, start, samples, verify=self.verify)
                rows[...] = samples.view(np.uint16) if frames.dtype == "int16" else samples

        in_parallel(self.location, read, range(len(self.indices)))

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep the shards open while block after block is read, where that is possible."""
        frames = stored_frames(self.location)
        layout, step = frames.layout, frames.chunk_rows
        if layout is None or self.encoding.dtype != "uint16":
            yield self
            return
        paths = [shard_path(self.location, index) for index in self.indices]
        with kept_open(paths) as descriptors:
            try:
                shards = tuple(
                    (shard, open_index(path, shard, layout))
                    for path, shard in zip(paths, descriptors or (), strict=True)
                )
            except (OSError, ValueError):  # too many for one process, or damaged: `ZarrStack.read_rows` says what
                shards = ()
            if len(shards) < len(paths):
                yield self
                return
            last_row = min(start + (1 + STRIPS_AHEAD) * (stop - start), layout.height)
            first, last = start // step, -(-last_row // step) - 1
            for descriptor, index in shards:  # the chunks of a shard lie one after the other
                begin = int(index[first, 0])
                read_ahead(descriptor, begin, int(index[last].sum()) - begin)
            yield _OpenShards(self, layout, shards)

    def select(self, indices: Sequence[int]) -> ZarrStack:
        """Return the stack of the frames at these positions alone."""
        return ZarrStack(self.location, tuple(self.indices[position] for position in indices), self.verify)

    def recorded_mean_adu(self, position: int) -> float | None:
        """Return the mean of a frame's samples from its record, which is exact for integers of 8 and 16 bits."""
        record = find_record(path_of(self.location) / LEDGER, self.indices[position])
        if record is None or not record.checksum or not self.encoding.is_integer:
            return None  # without a checksum of the record its mean may be wrong: `check_mean_adu`
        return record.pixels.statistics.mean

    def check_mean_adu(self, position: int, mean_adu: float) -> None:
        """Compare the exact mean of a frame's samples with its record; FrameError where they differ."""
        index = self.indices[position]
        record = find_record(path_of(self.location) / LEDGER, index)
        stated = record.pixels.statistics.mean if record is not None else None
        if stated is not None and abs(stated - mean_adu) > _SAME_MEAN * abs(mean_adu):
            raise unusable(
                self.location, index, f"its record says a mean of {stated:.6f} ADU, its samples have {mean_adu:.6f}"
            )


@dataclass(frozen=True)
class _OpenShards:
    """Frames of 16 bits whose shards are open: descriptor and index of each."""

    stack: ZarrStack
    layout: ShardLayout
    shards: tuple[tuple[int, NDArray[np.uint64]], ...]

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read as `ZarrStack.read_rows`, which also says what is wrong where this fails."""
        samples = out.view(self.layout.dtype)
        try:
            for (descriptor, index), rows in zip(self.shards, samples, strict=True):
                stored = partial(_stored_chunk, descriptor, index)
                read_chunks(stored, self.layout, start, rows, verify=self.stack.verify)
        except (OSError, ValueError):
            self.stack.read_rows(start, stop, out)


def _stored_chunk(descriptor: int, index: NDArray[np.uint64], chunk: int) -> bytes:
    return os.pread(descriptor, int(index[chunk, 1]), int(index[chunk, 0]))


@dataclass(frozen=True, kw_only=True)
class StoredFrames:
    """The array ``frames`` of one series, as its metadata describe it."""

    location: str
    shape: tuple[int, int, int]
    dtype: str
    chunk_rows: int
    layout: ShardLayout | None
    """``None`` where the array is of another layout than the one we write: it is read through zarr-python."""
    stamp: Stamp

    def held(self, indices: Sequence[int]) -> set[int]:
        """Return those of the frames whose samples are there, all of them or some."""
        if is_remote(self.location):
            below = {path.name for path in directories_in(path_of(self.location) / FRAMES / "c")}
            return {index for index in indices if str(index) in below}
        if self.layout is not None:
            return {index for index in indices if os.path.exists(shard_path(self.location, index))}
        return {index for index in indices if self._has_chunks(index, 0, self.shape[1])}

    def read(self, index: int, start: int, out: NDArray[Any], *, verify: bool = True) -> None:
        """Fill `out`, (n_rows, width) of this dtype in C order, with a frame's rows from `start` on.

        Raise FrameError where its shard is missing or damaged.
        """
        if not 0 <= start <= start + len(out) <= self.shape[1]:
            raise ValueError(f"no {len(out)} rows from row {start} on in frames of {self.shape[1]} rows")
        try:
            if self.layout is not None:
                read = read_object_rows if is_remote(self.location) else read_shard_rows
                shard, layout = shard_path(self.location, index), self.layout
                retried(lambda: read(shard, layout, start, out, verify=verify))
                return
            if not self._has_chunks(index, start, start + len(out)):
                raise ValueError("a chunk is missing")  # zarr-python would return zeros
            out[...] = _zarr_array(self.location, self.stamp)[index, start : start + len(out)]
        except FileNotFoundError as error:
            raise unusable(self.location, index, "its shard is missing") from error
        except OSError as error:
            raise unusable(self.location, index, f"its shard cannot be read: {os_reason(error)}") from error
        except (*ZARR_ERRORS, MemoryError) as error:  # a damaged index may promise terabytes to zarr-python
            raise unusable(self.location, index, f"its shard is damaged: {short(error)}") from error

    def _has_chunks(self, index: int, start: int, stop: int) -> bool:
        """Return whether all chunk files of these rows exist, in a layout that only zarr-python reads."""
        array = _zarr_array(self.location, self.stamp)
        depth, height, width = array.shards or array.chunks
        return all(
            os.path.exists(os.path.join(self.location, FRAMES, array.metadata.encode_chunk_key(key)))
            for key in itertools.product(
                [index // depth], range(start // height, -(-stop // height)), range(-(-self.shape[2] // width))
            )
        )


def stored_frames(location: str, *, fresh: bool = False) -> StoredFrames:
    """Describe the array of a series; opened once per process and again when its metadata change."""
    with storage_errors(f"{location}: it has no array {FRAMES!r}"):
        stamp = recent_version_of(joined(location, FRAMES, METADATA_FILE), fresh=fresh)
    return _described_frames(location, stamp)


@lru_cache(maxsize=256)
def _described_frames(location: str, stamp: Stamp) -> StoredFrames:
    metadata = read_metadata(path_of(location) / FRAMES / METADATA_FILE, location)
    match metadata:
        case {"node_type": "array", "shape": [int(n_frames), int(height), int(width)], "data_type": str(dtype)}:
            check_shape(location, (n_frames, height, width), dtype)
        case _:
            raise StorageError(
                f"{location}: its {FRAMES!r} is no array of three axes (frame, row, column):"
                f" shape {short(metadata.get('shape'))}, type {short(metadata.get('data_type'))};"
                " it was made by another program"
            )
    layout = shard_layout(metadata)
    if layout is None and is_remote(location):
        raise StorageError(
            f"{location}: its chunks are not laid out as this program does it; such series are read from disks only:"
            " fetch it with ostcal download"
        )
    rows = layout.chunk_rows if layout is not None else _zarr_array(location, stamp).chunks[1]
    return StoredFrames(
        location=location, shape=(n_frames, height, width), dtype=dtype, chunk_rows=rows, layout=layout, stamp=stamp
    )


@lru_cache(maxsize=64)
def _zarr_array(location: str, stamp: Stamp) -> Any:
    """Open the array through zarr-python, once per process and state of its metadata (`stamp`)."""
    for parent, _, names in walk(joined(location, FRAMES)):
        odd = next((joined(parent, name) for name in names if not is_file(joined(parent, name))), None)
        if odd is not None:  # zarr-python waits for a pipe
            raise StorageError(f"{odd}: is not a file; download or take this series again")
    array = _open_array(location, "r")
    chunk_bytes = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    if not 0 < chunk_bytes <= MAX_CHUNK_BYTES:
        raise StorageError(f"{location}: its chunks have {chunk_bytes} bytes; 1 to {MAX_CHUNK_BYTES} are possible")
    return array


def open_to_write(location: str) -> Any:
    """Open the array of a series through zarr-python to write frames.

    Chunks of zeros are stored too, or a black frame would have no shard; zarr does not keep that with the array.
    """
    return _open_array(location, "r+").with_config({"write_empty_chunks": True})


def _open_array(location: str, mode: Literal["r", "r+"]) -> Any:
    import zarr

    try:
        # From 3.4 on zarr warns and guesses at metadata that are wrong: no guesses here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return zarr.open_array(Path(location) / FRAMES, mode=mode)
    except (*ZARR_ERRORS, UserWarning) as error:
        raise StorageError(f"{location}: the array {FRAMES!r} cannot be opened: {short(error)}") from error
