"""Series of frames in zarr: one shard per frame, full-width chunks inside, one record per committed frame.

``darks/exp_5.000s.zarr`` is a zarr v3 group with the array ``frames`` (N, H, W) and the directory ``ledger``. The
shard of a frame is written first and fsync'ed, its record last; a frame without a record does not exist, whatever
its shard holds. One process writes a series at a time; any number may read it. docs/formats.md has the details.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ostcal._version import __version__
from ostcal.codec import parse_json
from ostcal.errors import FrameError, StorageError
from ostcal.frames import MAX_SIDE, FrameType, RowReader, SampleEncoding
from ostcal.places.durable import (
    PARTIAL_ENDING,
    os_reason,
    read_bounded,
    sweep_partials,
    sync_file,
    write_atomically,
    write_parts_atomically,
)
from ostcal.places.open_files import STRIPS_AHEAD, kept_open, read_ahead
from ostcal.places.paths import (
    Location as Location,
)
from ostcal.places.paths import (
    Place,
    directories_in,
    in_parallel,
    is_remote,
    joined,
    make_directory,
    normalized,
    place,
    real,
    recent_stamp_of,
    retried,
    sync_directory,
    walk,
)
from ostcal.series.object_shards import read_object_rows
from ostcal.series.record import (
    MAX_INDEX,
    MAX_REASON_LENGTH,
    Decision,
    FrameRecord,
    checksum,
    exclusion_path,
    find_record,
    read_exclusions,
    read_ledger,
    record_path,
    write_decision,
    write_record,
)
from ostcal.series.shard_reader import ShardLayout, open_index, read_chunks, read_shard_rows, shard_layout
from ostcal.series.shard_writer import shard_parts
from ostcal.vocabulary import Compressor

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

Stamp = tuple[int, int | str]

COMPRESSORS: Final = get_args(Compressor)
FRAMES = "frames"
LEDGER = "ledger"
STORE_ENDING = ".zarr"
FORMAT = "ostcal-series"
FORMAT_VERSION = 2
"""Version 2: every chunk ends with its CRC-32C. Series of version 1 are read, and extended as they are."""
MAX_PIXELS = 2**31 - 1
"""Largest frame: 46340 x 46340; the exact sums of frame_statistics hold up to there."""

# What zarr-python makes of metadata that are damaged, and of chunks of layouts that only it can read.
_ZARR_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, OSError)
_METADATA_FILE = "zarr.json"
_MAX_METADATA_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 19
_MAX_CHUNK_BYTES = 1 << 29
"""Largest chunk of somebody else's array: a whole frame of 150 MP fits; damaged metadata must not fill the memory."""
_CHUNK_ROWS = (16, 32)
_MAX_QUOTED = 200

_ENCODINGS: Mapping[str, SampleEncoding] = {
    "uint8": SampleEncoding(dtype="uint16"),
    "uint16": SampleEncoding(dtype="uint16"),
    # the sign bit flips while a kernel loads its tile, so that it sorts unsigned numbers whatever the file says
    "int16": SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32768),
    "int32": SampleEncoding(dtype="float64"),
    "float32": SampleEncoding(dtype="float32"),
    "float64": SampleEncoding(dtype="float64"),
}
FRAME_DTYPES = tuple(_ENCODINGS)


# ---- making and writing a series ----


def chunk_rows(height: int, width: int, itemsize: int, asked: int | None = None) -> int:
    """Give the rows of a chunk: 16 to 32, about 0.5 MB where the frame is wide (24 for 9576 columns of uint16).

    Those that are asked for, if they are and can be read again.

    400 frames of 61 MP then need 184 MB for the smallest strip that is read without waste. Multiples of eight keep
    strips on whole Bayer cells.
    """
    least, most = _CHUNK_ROWS
    if asked is not None:
        return min(asked, height, max(1, _MAX_CHUNK_BYTES // (width * itemsize)))
    rows = _CHUNK_BYTES // (width * itemsize) // 8 * 8
    return min(max(least, min(rows, most)), height)


def create_series(
    location: Location,
    *,
    n_frames: int,
    height: int,
    width: int,
    dtype: DTypeLike,
    frame_type: FrameType,
    compressor: str = "auto",
    rows: int | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> SeriesWriter:
    """Make an empty series and open it for writing.

    Parameters
    ----------
    location : path
        Where the series will be, such as ``darks/exp_5.000s.zarr``; nothing may be there.
    n_frames : int
        Frames that are planned: the array has its length from the start, as zarr's ``append`` would leave a frame
        of zeros when it is interrupted. `SeriesWriter.extend` makes it longer.
    dtype : dtype
        One of `FRAME_DTYPES`, the dtype of the frames.
    compressor : {"auto", "lz4", "zstd", "none"}
        ``auto`` is lz4 with the shuffle that suits a chunk (`ostcal.series.shard_writer`), ``lz4`` always with
        bitshuffle: that makes darks 10 to 30 % smaller and takes up to 2.6 times as long to decode. zstd makes darks
        another 15 % smaller (flats not at all) and takes four times as long to read.
    rows : int, optional
        Rows of a chunk; by default those of `chunk_rows`.
    attributes : mapping, optional
        Settings of the series, as JSON.

    Raises
    ------
    StorageError
        If something is there already, a value is out of bounds, or it cannot be written.
    """
    path = local_path(location)
    name = np.dtype(dtype).newbyteorder("=").name
    _check_shape(path, (n_frames, height, width), name)
    if compressor not in COMPRESSORS:
        raise StorageError(f"{path}: no compressor {compressor!r}; there are {', '.join(COMPRESSORS)}")
    if path.exists():
        raise StorageError(f"{path}: there is something already; open it for writing, or choose another name")
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "frame_type": str(frame_type),
        "software": f"ostcal {__version__}",
        "settings": dict(attributes or {}),
    }
    # the whole skeleton appears under its name at once: a killed process leaves no half-made series
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL_ENDING}")
    try:
        make_directory(path.parent)
        (partial / LEDGER).mkdir(parents=True)
        group = {"zarr_format": 3, "node_type": "group", "attributes": header}
        write_atomically(partial / _METADATA_FILE, _as_json(group), durable=True)
        _create_frames(
            partial / FRAMES,
            (n_frames, height, width),
            name,
            chunk_rows(height, width, np.dtype(dtype).itemsize, rows),
            _blosc(compressor, name),
        )
        sync_file(partial / FRAMES / _METADATA_FILE)
        for directory in (partial / FRAMES, partial / LEDGER, partial):
            sync_directory(directory)
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StorageError(f"{path}: the series cannot be made: {os_reason(error)}") from error
    return open_series_for_writing(path)


def open_series_for_writing(location: Location) -> SeriesWriter:
    """Open a series to write or extend it; what a killed process left half-written is swept.

    Raises
    ------
    StorageError
        If it is not a series of this package, is damaged, or cannot be written.
    """
    path = local_path(location)
    series = open_series(path)
    try:
        sweep_partials(path)
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL_ENDING}"):
            shutil.rmtree(leftover)  # a series that was being made: metadata only
    except OSError as error:
        raise StorageError(f"{path}: what is half-written cannot be swept: {os_reason(error)}") from error
    return SeriesWriter(series)


class SeriesWriter:
    """Writes frames into a series, each complete or absent; only one process may write a series at a time.

    Use `create_series` or `open_series_for_writing` to get one.
    """

    def __init__(self, series: Series) -> None:
        self._path = Path(series.location)
        self._frames = _stored_frames(series.location)
        self._array = _open_to_write(series.location)
        self._records = {record.index: record for record in series.records}
        self.frame_type = series.frame_type
        self.problems = series.problems

    @property
    def location(self) -> str:
        """Where the series is."""
        return str(self._path)

    @property
    def n_planned(self) -> int:
        """Frames that there is room for."""
        return self._frames.shape[0]

    @property
    def dtype(self) -> str:
        """The dtype of the frames."""
        return self._frames.dtype

    @property
    def frame_shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self._frames.shape[1:]

    @property
    def records(self) -> tuple[FrameRecord, ...]:
        """The records of the committed frames, by index."""
        return tuple(self._records[index] for index in sorted(self._records))

    def free_indices(self) -> list[int]:
        """Give the indices that may be written: those without a record, even a damaged one."""
        return [index for index in range(self.n_planned) if not record_path(self._path / LEDGER, index).exists()]

    def write_frame(self, index: int, frame: NDArray[Any], record: FrameRecord) -> None:
        """Write one frame and commit it; when this returns, it is on the disk.

        Parameters
        ----------
        index : int
            A free index below `n_planned`.
        frame : (height, width) array of the series' dtype
        record : FrameRecord
            With this index and the checksum of exactly these samples (see `describe_pixels`).

        Raises
        ------
        StorageError
            If the frame does not fit the series or the record, the index is taken, or it cannot be written. Then
            the frame is absent.
        """
        samples = self._checked(index, frame, record)
        shard = _shard_path(self.location, index)
        try:
            # a damaged leftover would make zarr refuse to write: it reads the old shard of a padded grid first
            Path(shard).unlink(missing_ok=True)
            self._store(index, samples)
            sync_file(Path(shard))
            for directory in list(Path(shard).parents)[:4]:
                sync_directory(directory)
            # a decision about an earlier frame of this index, whose record somebody deleted
            exclusion_path(self._path / LEDGER, index).unlink(missing_ok=True)
            write_record(self._path / LEDGER, record)
        except OSError as error:
            raise StorageError(f"{self._path}: frame {index} cannot be written: {os_reason(error)}") from error
        self._records[index] = record

    def _store(self, index: int, samples: NDArray[Any]) -> None:
        """Write the shard of a frame; OSError stays what it is."""
        layout = self._frames.layout
        if layout is not None and layout.is_writable:
            shard = Path(_shard_path(self.location, index))
            shard.parent.mkdir(parents=True, exist_ok=True)
            write_parts_atomically(shard, shard_parts(samples, layout), durable=False)
            return
        try:
            self._array[index] = samples
        except OSError:
            raise
        except _ZARR_ERRORS as error:
            raise StorageError(
                f"{self._path}: frame {index} cannot be written, the metadata of the array are damaged:"
                f" {_short(error)}; restore {FRAMES}/{_METADATA_FILE} from a copy"
            ) from error

    def discard_frame(self, index: int) -> None:
        """Take a frame out of the series, its record first, so that its index can be written again."""
        try:
            record_path(self._path / LEDGER, index).unlink(missing_ok=True)
            exclusion_path(self._path / LEDGER, index).unlink(missing_ok=True)
            sync_directory(self._path / LEDGER)
            Path(_shard_path(self.location, index)).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._path}: frame {index} cannot be removed: {os_reason(error)}") from error
        self._records.pop(index, None)

    def extend(self, n_frames: int) -> None:
        """Make room for more frames: `n_frames` in all. Only the metadata changes, in one atomic step.

        Raises
        ------
        StorageError
            If the series would become shorter, or it cannot be written.
        """
        if n_frames < self.n_planned:
            raise StorageError(f"{self._path}: a series of {self.n_planned} frames cannot shrink to {n_frames}")
        shape = (n_frames, *self._frames.shape[1:])
        _check_shape(self._path, shape, self.dtype)
        metadata_path = self._path / FRAMES / _METADATA_FILE
        metadata = _read_metadata(metadata_path, self.location)
        metadata["shape"] = list(shape)
        try:
            write_atomically(metadata_path, _as_json(metadata), durable=True)
        except OSError as error:
            raise StorageError(f"{self._path}: the series cannot be extended: {os_reason(error)}") from error
        self._frames = dataclasses.replace(self._frames, shape=shape)
        self._array = _open_to_write(self.location)

    def _checked(self, index: int, frame: NDArray[Any], record: FrameRecord) -> NDArray[Any]:
        where = f"{self._path}: frame {index}"
        if not 0 <= index < self.n_planned:
            raise StorageError(f"{where} does not fit a series of {self.n_planned} frames; extend it first")
        if record_path(self._path / LEDGER, index).exists():
            raise StorageError(f"{where} is there already; discard it first to write it again")
        if frame.shape != self._frames.shape[1:] or frame.dtype.newbyteorder("=").name != self.dtype:
            raise StorageError(
                f"{where} is {frame.dtype} of shape {frame.shape}, but the series holds"
                f" {self.dtype} of shape {self._frames.shape[1:]}"
            )
        # writing a transposed view takes twice as long as copying it first
        samples = np.ascontiguousarray(frame, dtype=self.dtype)
        size = (record.metadata.height, record.metadata.width)
        if record.index != index or size != frame.shape or record.pixels.checksum != checksum(samples):
            raise StorageError(f"{where} was given the record of another frame (index, size or checksum differ)")
        return samples


def decide_frames(location: Location, indices: Iterable[int], decision: Decision) -> None:
    """Record the decision to leave frames out of masters, or to take them in again; frames and records stay.

    Raises
    ------
    StorageError
        If it is no series, the reason is too long, or it cannot be written; of several frames some may be decided
        then.
    FrameError
        If a frame is not committed; nothing is decided then.
    """
    path = place(location)
    _series_header(path)
    chosen = sorted(set(indices))
    absent = [str(index) for index in chosen if not record_path(path / LEDGER, index).is_file()]
    if absent:
        raise FrameError(
            f"{path}: there is no frame {', '.join(absent)}; there are {_listed(read_ledger(path / LEDGER)[0])}"
        )
    if len(decision.why) > MAX_REASON_LENGTH:
        raise StorageError(f"{path}: a reason of {len(decision.why)} characters; {MAX_REASON_LENGTH} are possible")
    for index in chosen:
        try:
            write_decision(path / LEDGER, index, decision)
        except OSError as error:
            raise StorageError(f"{path}: frame {index} cannot be decided on: {os_reason(error)}") from error


# ---- reading a series ----


@dataclass(frozen=True, kw_only=True)
class Series:
    """What a series holds: its settings and its committed frames."""

    location: str
    frame_type: FrameType
    n_planned: int
    height: int
    width: int
    dtype: str
    settings: Mapping[str, Any]
    software: str
    records: tuple[FrameRecord, ...]
    """Records of the usable frames, by index; those that a person excluded are among them."""
    problems: tuple[str, ...]
    """One line for each frame that cannot be used."""
    has_chunk_checksums: bool = False
    """Whether every strip is checked when it is read; frames of other series are checked as a whole only."""
    excluded: Mapping[int, Decision] = field(default_factory=dict)
    """Frames that a person decided to leave out of masters, by index. For capture and export they are there."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)`` of the frames that are committed."""
        return len(self.records), self.height, self.width

    def stack(self, indices: Sequence[int] | None = None) -> ZarrStack:
        """Give committed frames as a stack, all of them by default."""
        chosen = [record.index for record in self.records] if indices is None else indices
        return ZarrStack(self.location, tuple(chosen))

    def read_frame(self, index: int) -> NDArray[Any]:
        """Read one whole frame in its own dtype and verify its checksum.

        Raises
        ------
        FrameError
            If the frame is not committed, is missing, or is not what was written.
        """
        record = next((record for record in self.records if record.index == index), None)
        if record is None:
            raise FrameError(f"{self.location}: there is no frame {index}; there are {_listed(self.records)}")
        return read_committed(self.location, record)


def open_series(location: Location) -> Series:
    """Open a series for reading.

    Raises
    ------
    StorageError
        If it is not a series of this package, or is damaged as a whole. Single damaged frames are named in
        `Series.problems` instead, and left out.
    """
    path = place(location)
    header = _series_header(path)
    frames = _stored_frames(str(path), fresh=True)
    n_planned, height, width = frames.shape
    records, problems = read_ledger(path / LEDGER)
    for record in records:
        size = (record.metadata.height, record.metadata.width)
        if size != (height, width) or record.index >= n_planned:
            raise StorageError(
                f"{path}: the record of frame {record.index} says {size[1]} x {size[0]} pixels, but the array has"
                f" {n_planned} frames of {width} x {height}; records and frames are of different series"
            )
    held = frames.held([record.index for record in records])
    absent = [record.index for record in records if record.index not in held]
    lost = [str(_unusable(str(path), index, "its shard is missing")) for index in absent]
    excluded, undecided = read_exclusions(path / LEDGER)
    usable = tuple(record for record in records if record.index not in absent and record.index not in undecided)
    committed = {record.index for record in records}
    unread = [line for index, line in undecided.items() if index in committed]
    return Series(
        location=str(path),
        frame_type=FrameType(header["frame_type"]),
        n_planned=n_planned,
        height=height,
        width=width,
        dtype=frames.dtype,
        settings=header.get("settings", {}),
        software=str(header.get("software", "")),
        records=usable,
        problems=(*problems, *lost, *unread),
        has_chunk_checksums=frames.layout is not None and frames.layout.checksums,
        excluded={record.index: excluded[record.index] for record in usable if record.index in excluded},
    )


def read_committed(location: str, record: FrameRecord) -> NDArray[Any]:
    """Read the whole frame of a record, in its own dtype, and verify its checksum.

    Raises
    ------
    FrameError
        If the frame is missing, or is not what was written.
    """
    frames = _stored_frames(location)
    frame = np.empty(frames.shape[1:], frames.dtype)
    frames.read(record.index, 0, frame)
    if checksum(frame) != record.pixels.checksum:
        raise _unusable(location, record.index, "its samples are not those that were written (checksum)")
    return frame


def find_series(directories: Iterable[Location]) -> list[str]:
    """Find series in directories and below them, sorted; series themselves may be among the directories.

    Everything named ``*.zarr`` is given, so that opening says what is wrong with it, but not stores that say
    themselves that they hold something else. Hidden directories are passed over.
    """
    found: set[str] = set()
    visited: set[str] = set()
    for directory in directories:
        root = normalized(directory)
        if _is_store_name(root):
            found.add(root)
            continue
        for parent, below, _ in walk(root, followlinks=True):
            if real(parent) in visited:
                below.clear()
                continue
            visited.add(real(parent))
            found.update(joined(parent, name) for name in below if _is_store_name(name))
            below[:] = [name for name in below if not name.startswith(".") and not _is_store_name(name)]
    return sorted(location for location in found if not _is_of_other_format(location))


def _is_store_name(name: str) -> bool:
    base = os.path.basename(name)
    return base.lower().endswith(STORE_ENDING) and not base.startswith(".")


def _is_of_other_format(location: str) -> bool:
    try:
        metadata = _read_metadata(place(location) / _METADATA_FILE, location)
    except StorageError:
        return False
    match metadata:
        case {"attributes": {"format": str(name)}}:
            return name != FORMAT
    return False


@dataclass(frozen=True)
class ZarrStack:
    """Committed frames of one series; implements `ostcal.frames.FrameStack`.

    Small and picklable: it holds the location and the indices, and every process opens the array once.

    Raises
    ------
    FrameError
        When made, if a frame has no record: a frame that was not committed would read as zeros.
    """

    location: str
    indices: tuple[int, ...]
    verify: bool = True
    """Whether the checksums of chunks are compared while they are read."""

    def __post_init__(self) -> None:
        """Refuse frames that are not committed."""
        ledger = place(self.location) / LEDGER
        there = in_parallel(ledger, lambda index: record_path(ledger, index).is_file(), self.indices)
        for index, is_committed in zip(self.indices, there, strict=True):
            if not is_committed:
                raise FrameError(f"{self.location}: frame {index} is not committed; it has no record in {LEDGER}/")

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return (len(self.indices), *_stored_frames(self.location).shape[1:])

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        return _ENCODINGS[_stored_frames(self.location).dtype]

    @property
    def row_step(self) -> int:
        """Rows of a chunk: they are read for the price of one."""
        return _stored_frames(self.location).chunk_rows

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out` of shape ``(n_frames, stop - start, width)`` and the encoding's dtype with raw samples.

        Raises
        ------
        FrameError
            If a frame's shard is missing or damaged.
        """
        frames = _stored_frames(self.location)
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
        frames = _stored_frames(self.location)
        if frames.layout is None or self.encoding.dtype != "uint16":
            yield self
            return
        paths = [_shard_path(self.location, index) for index in self.indices]
        with kept_open(paths) as descriptors:
            shards = None if descriptors is None else _open_shards(paths, descriptors, frames.layout)
            if shards is None:
                yield self
                return
            first, rows = start // frames.chunk_rows, (1 + STRIPS_AHEAD) * (stop - start)
            last = min(-(-(start + rows) // frames.chunk_rows), -(-frames.shape[1] // frames.chunk_rows)) - 1
            for descriptor, index in shards:  # the chunks of a shard lie one after the other
                begin = int(index[first, 0])
                read_ahead(descriptor, begin, int(index[last].sum()) - begin)
            yield _OpenSeries(self, frames.layout, shards)

    def select(self, indices: Sequence[int]) -> ZarrStack:
        """Give the stack of the frames at these positions alone."""
        return ZarrStack(self.location, tuple(self.indices[position] for position in indices), self.verify)

    def recorded_mean_adu(self, position: int) -> float | None:
        """Give the mean of a frame's samples from its record, which is exact for integers of 8 and 16 bits."""
        record = find_record(place(self.location) / LEDGER, self.indices[position])
        return record.pixels.statistics.mean if record is not None and self.encoding.is_integer else None


@dataclass(frozen=True)
class _OpenSeries:
    """Frames of 16 bits whose shards are open: descriptor and index of each."""

    stack: ZarrStack
    layout: ShardLayout
    shards: tuple[tuple[int, NDArray[np.uint64]], ...]

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Do `ZarrStack.read_rows`, which also tells what is wrong where reading fails."""
        samples = out.view(self.layout.dtype)
        try:
            for (descriptor, index), rows in zip(self.shards, samples, strict=True):
                stored = partial(_stored_chunk, descriptor, index)
                read_chunks(stored, self.layout, start, rows, verify=self.stack.verify)
        except (OSError, ValueError):
            self.stack.read_rows(start, stop, out)


def _stored_chunk(descriptor: int, index: NDArray[np.uint64], chunk: int) -> bytes:
    return os.pread(descriptor, int(index[chunk, 1]), int(index[chunk, 0]))


def _open_shards(
    paths: Sequence[str], descriptors: Sequence[int], layout: ShardLayout
) -> tuple[tuple[int, NDArray[np.uint64]], ...] | None:
    """Read the indices of open shards; ``None`` where one is damaged, which `ZarrStack.read_rows` can tell of."""
    try:
        return tuple((shard, open_index(path, shard, layout)) for path, shard in zip(paths, descriptors, strict=True))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class _StoredFrames:
    """The array ``frames`` of one series, as its metadata describe it."""

    location: str
    shape: tuple[int, int, int]
    dtype: str
    chunk_rows: int
    layout: ShardLayout | None
    """``None`` where the array is of another layout than the one we write: it is read through zarr-python."""
    stamp: Stamp

    def held(self, indices: Sequence[int]) -> set[int]:
        """Give those of the frames whose samples are there, all of them or some."""
        if is_remote(self.location):
            below = {path.name for path in directories_in(place(self.location) / FRAMES / "c")}
            return {index for index in indices if str(index) in below}
        return {index for index in indices if self._holds(index)}

    def _holds(self, index: int) -> bool:
        if self.layout is not None:
            return os.path.exists(_shard_path(self.location, index))
        return all(map(os.path.exists, self._chunk_files(index, 0, self.shape[1])))

    def read(self, index: int, start: int, out: NDArray[Any], *, verify: bool = True) -> None:
        """Fill `out` (n_rows, width), of this dtype and in C order, with a frame's rows from `start` on."""
        if not 0 <= start <= start + len(out) <= self.shape[1]:
            raise ValueError(f"no {len(out)} rows from row {start} on in frames of {self.shape[1]} rows")
        try:
            if self.layout is not None:
                read = read_object_rows if is_remote(self.location) else read_shard_rows
                shard, layout = _shard_path(self.location, index), self.layout
                retried(lambda: read(shard, layout, start, out, verify=verify))
                return
            if not all(map(os.path.exists, self._chunk_files(index, start, start + len(out)))):
                raise ValueError("a chunk is missing")  # zarr-python would give zeros
            out[...] = _zarr_array(self.location, self.stamp)[index, start : start + len(out)]
        except FileNotFoundError as error:
            raise _unusable(self.location, index, "its shard is missing") from error
        except OSError as error:
            raise _unusable(self.location, index, f"its shard cannot be read: {os_reason(error)}") from error
        except (*_ZARR_ERRORS, MemoryError) as error:  # a damaged index may promise terabytes to zarr-python
            raise _unusable(self.location, index, f"its shard is damaged: {_short(error)}") from error

    def _chunk_files(self, index: int, start: int, stop: int) -> list[str]:
        array = _zarr_array(self.location, self.stamp)
        depth, height, width = array.shards or array.chunks
        return [
            os.path.join(self.location, FRAMES, array.metadata.encode_chunk_key((index // depth, row, column)))
            for row in range(start // height, -(-stop // height))
            for column in range(-(-self.shape[2] // width))
        ]


def _stored_frames(location: str, *, fresh: bool = False) -> _StoredFrames:
    """Describe the array of a series; opened once per process and again when its metadata change."""
    try:
        stamp = recent_stamp_of(joined(location, FRAMES, _METADATA_FILE), fresh=fresh)
    except OSError as error:
        raise StorageError(f"{location}: it has no array {FRAMES!r}: {os_reason(error)}") from error
    return _open_frames(location, stamp)


@lru_cache(maxsize=256)
def _open_frames(location: str, stamp: Stamp) -> _StoredFrames:
    metadata = _read_metadata(place(location) / FRAMES / _METADATA_FILE, location)
    match metadata:
        case {"node_type": "array", "shape": [int(n_frames), int(height), int(width)], "data_type": str(dtype)}:
            _check_shape(location, (n_frames, height, width), dtype)
        case _:
            raise StorageError(
                f"{location}: its {FRAMES!r} is no array of three axes (frame, row, column):"
                f" shape {_short(metadata.get('shape'))}, type {_short(metadata.get('data_type'))};"
                " it was made by another program"
            )
    layout = shard_layout(metadata)
    if layout is None and is_remote(location):
        raise StorageError(
            f"{location}: its chunks are not laid out as this program does it; such series are read from disks only:"
            " fetch it with ostcal download"
        )
    rows = layout.chunk_rows if layout is not None else _zarr_array(location, stamp).chunks[1]
    return _StoredFrames(
        location=location, shape=(n_frames, height, width), dtype=dtype, chunk_rows=rows, layout=layout, stamp=stamp
    )


@lru_cache(maxsize=64)
def _zarr_array(location: str, stamp: Stamp) -> Any:
    """Open the array through zarr-python, once per process and state of its metadata (`stamp`)."""
    array = _open_array(location, "r")
    chunk_bytes = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    if not 0 < chunk_bytes <= _MAX_CHUNK_BYTES:
        raise StorageError(f"{location}: its chunks have {chunk_bytes} bytes; 1 to {_MAX_CHUNK_BYTES} are possible")
    return array


def _open_to_write(location: str) -> Any:
    # chunks of zeros must be stored too, else a black frame would have no shard; zarr does not keep that with the array
    return _open_array(location, "r+").with_config({"write_empty_chunks": True})


def _open_array(location: str, mode: Literal["r", "r+"]) -> Any:
    import zarr

    try:
        # zarr from 3.4 on reads metadata that make no sense as something else, with a warning: no guesses here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return zarr.open_array(Path(location) / FRAMES, mode=mode)
    except (*_ZARR_ERRORS, UserWarning) as error:
        raise StorageError(f"{location}: the array {FRAMES!r} cannot be opened: {_short(error)}") from error


# ---- small parts ----


def _check_shape(path: Location, shape: tuple[int, int, int], dtype: str) -> None:
    n_frames, height, width = shape
    if dtype not in FRAME_DTYPES:
        raise StorageError(
            f"{path}: frames of type {_short(dtype)} are not supported; there are {', '.join(FRAME_DTYPES)}"
        )
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise StorageError(f"{path}: frames of {width} x {height} pixels; 1 to {MAX_PIXELS} pixels are possible")
    if not 0 <= n_frames <= MAX_INDEX + 1:
        raise StorageError(f"{path}: a series of {n_frames} frames; up to {MAX_INDEX + 1} are possible")


def _create_frames(
    path: Path, shape: tuple[int, int, int], dtype: str, rows: int, compressor: BloscCodec | None
) -> None:
    import zarr  # 0.1 s, which masters from FITS files can do without
    from zarr.codecs import BytesCodec, Crc32cCodec

    _, height, width = shape
    zarr.create_array(
        path,
        shape=shape,
        shards=(1, -(-height // rows) * rows, width),
        chunks=(1, rows, width),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian=None if dtype == "uint8" else "little"),
        compressors=[*([] if compressor is None else [compressor]), Crc32cCodec()],
        dimension_names=("frame", "row", "column"),
    )


def _blosc(compressor: str, dtype: str) -> BloscCodec | None:
    """Choose the codec. zarr's own default, zstd without shuffle, takes four times as long to write."""
    from zarr.codecs import BloscCodec

    itemsize = np.dtype(dtype).itemsize
    if compressor == "zstd":
        return BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=itemsize)
    if compressor == "auto" and itemsize == 2:
        return BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=itemsize)  # or bits: `shard_writer` says
    if compressor in ("lz4", "auto"):
        return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=itemsize)
    return None


def _series_header(path: Place) -> dict[str, Any]:
    """Read the attributes of the group and check that it is a series of this package."""
    metadata = _read_metadata(path / _METADATA_FILE, str(path))
    match metadata:
        case {"node_type": "group", "attributes": {"format": str(name), "format_version": int(number)}}:
            header: dict[str, Any] = metadata["attributes"]
        case _:
            raise StorageError(f"{path}: it is no series of frames of this program (no group with a format)")
    if name != FORMAT:
        raise StorageError(f"{path}: its format is {_short(name)!r}, not {FORMAT!r}")
    if number > FORMAT_VERSION:
        raise StorageError(
            f"{path}: version {number} of the format was written by a newer program; this one reads up to"
            f" {FORMAT_VERSION}; install a newer ostcal"
        )
    if header.get("frame_type") not in list(FrameType) or not isinstance(header.get("settings", {}), dict):
        raise StorageError(f"{path}: its attributes are damaged: frame_type is {_short(header.get('frame_type'))}")
    return header


def _read_metadata(path: Place, location: str) -> dict[str, Any]:
    """Read a ``zarr.json`` of unknown origin."""
    try:
        metadata = parse_json(read_bounded(path, _MAX_METADATA_BYTES))
        if not isinstance(metadata, dict) or metadata.get("zarr_format") != 3:
            raise ValueError("it does not describe zarr version 3")
    except FileNotFoundError as error:
        raise StorageError(f"{location}: this is no zarr store: {path} does not exist") from error
    except OSError as error:
        raise StorageError(f"{location}: {path} cannot be read: {os_reason(error)}") from error
    except ValueError as error:
        raise StorageError(f"{location}: {path} is damaged: {error}; restore it from a copy") from error
    return metadata


def local_path(location: Location) -> Path:
    """Give the path of a series that is to be written; StorageError where that is in an object store."""
    path = place(location)
    if not isinstance(path, Path):
        raise StorageError(
            f"{path}: frames are written to a local directory; set one, and copy its series there with ostcal upload"
        )
    return path


def _unusable(location: str, index: int, reason: str) -> FrameError:
    return FrameError(
        f"{location}: frame {index} cannot be used: {reason}; restore the shard from a copy, or discard the frame"
        f" by deleting {record_path(place(location) / LEDGER, index)}",
        place=f"{location}#{index}",
    )


def _short(value: object) -> str:
    """Give what another program or a damaged file says in one line that can be read."""
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def _shard_path(location: str, index: int) -> str:
    return joined(location, FRAMES, "c", str(index), "0", "0")


def _as_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode("ascii")


def _listed(records: Sequence[FrameRecord]) -> str:
    if not records:
        return "none"
    return f"{len(records)}, from {records[0].index} to {records[-1].index}"
