"""Writing a series: frames that are complete or absent, whatever kills the process.

The commit order of a frame (`SeriesWriter.write_frame`); each step is on the disk before the next one begins:

1. A shard of this index that has no record is deleted: zarr cannot write over a damaged one.
2. The shard gets its name, is fsync'ed, and so are the directories that lead to it.
3. Decisions about an earlier frame of this index are deleted.
4. The record is written under a temporary name, fsync'ed, renamed, and its directory fsync'ed: the frame is there.

A frame without a record does not exist, whatever its shard holds. `SeriesWriter.discard_frame` goes the other way:
first the record, then the shard. A series appears as a whole: `create_series` makes its groups, array and directories
under a temporary name, syncs them and renames. One process writes a series at a time; any number may read it.
"""

from __future__ import annotations

import dataclasses
import glob
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ostcal._version import __version__
from ostcal.codec import CHECKSUM_KEY, checksum_of, to_json, to_values
from ostcal.errors import FrameError, StorageError
from ostcal.frames import FrameType
from ostcal.places.durable import (
    PARTIAL_ENDING,
    os_reason,
    storage_errors,
    sweep_partials,
    sync_file,
    write_atomically,
    write_parts_atomically,
)
from ostcal.places.paths import Location, make_directory, path_of, sync_directory
from ostcal.series.format import (
    COMPRESSORS,
    FORMAT,
    FORMAT_VERSION,
    FRAMES,
    LEDGER,
    METADATA_FILE,
    ZARR_ERRORS,
    check_shape,
    chunk_rows,
    create_array,
    listed,
    read_metadata,
    series_header,
    shard_path,
    short,
)
from ostcal.series.reader import Series, open_series
from ostcal.series.record import (
    MAX_REASON_LENGTH,
    Decision,
    FrameRecord,
    checksum,
    exclusion_path,
    read_ledger,
    record_path,
    write_decision,
    write_record,
)
from ostcal.series.shard_writer import shard_parts
from ostcal.series.stack import open_to_write, stored_frames


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
    """Make an empty series, such as ``darks/exp_5.000s.zarr``, and open it for writing.

    Parameters
    ----------
    n_frames : int
        Frames that are planned: the array has its length from the start, as zarr's ``append`` would leave a frame
        of zeros when it is interrupted. `SeriesWriter.extend` makes it longer.
    dtype : dtype
        One of `FRAME_DTYPES`.
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
    check_shape(path, (n_frames, height, width), name)
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
        sealed = {**header, CHECKSUM_KEY: checksum_of(to_values(header))}
        group = {"zarr_format": 3, "node_type": "group", "attributes": sealed}
        write_atomically(partial / METADATA_FILE, to_json(group, indent=2), durable=True)
        stored_rows = chunk_rows(height, width, np.dtype(dtype).itemsize, rows)
        create_array(partial / FRAMES, (n_frames, height, width), name, stored_rows, compressor)
        sync_file(partial / FRAMES / METADATA_FILE)
        for directory in (partial / FRAMES, partial / LEDGER, partial):
            sync_directory(directory)
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StorageError(f"{path}: the series cannot be made: {os_reason(error)}") from error
    return open_series_for_writing(path)


def open_series_for_writing(location: Location) -> SeriesWriter:
    """Open a series to write or extend it; what a killed process left half-written is swept."""
    path = local_path(location)
    series = open_series(path)
    with storage_errors(f"{path}: what is half-written cannot be swept"):
        sweep_partials(path)
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL_ENDING}"):
            shutil.rmtree(leftover)  # a series that was being made: metadata only
    return SeriesWriter(series)


class SeriesWriter:
    """Writes frames into a series, each complete or absent; only one process may write a series at a time.

    Use `create_series` or `open_series_for_writing` to get one.
    """

    def __init__(self, series: Series) -> None:
        self._path = Path(series.location)
        self._frames = stored_frames(series.location)
        self._array = open_to_write(series.location)
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
        """Return the indices that may be written: those without a record, even a damaged one."""
        return [index for index in range(self.n_planned) if not record_path(self._path / LEDGER, index).exists()]

    def write_frame(self, index: int, frame: NDArray[Any], record: FrameRecord) -> None:
        """Write one frame and commit it; when this returns, it is on the disk.

        `index` is a free one below `n_planned`, `frame` is (height, width) of the series' dtype, and `record` has this
        index and the checksum of exactly these samples (see `describe_pixels`).

        The frame is absent after a StorageError: it does not fit the series or the record, the index is taken, or it
        cannot be written.
        """
        samples = self._checked(index, frame, record)
        ledger, shard = self._path / LEDGER, Path(shard_path(self.location, index))
        with storage_errors(f"{self._path}: frame {index} cannot be written"):
            # a damaged leftover would make zarr refuse to write: it reads the old shard of a padded grid first
            shard.unlink(missing_ok=True)
            self._write_shard(index, shard, samples)
            sync_file(shard)
            for directory in list(shard.parents)[:4]:  # up to the array itself
                sync_directory(directory)
            decisions = exclusion_path(ledger, index)
            if decisions.exists():  # about an earlier frame of this index, whose record somebody deleted
                decisions.unlink()
                sync_directory(ledger)
            write_record(ledger, record)
        self._records[index] = record

    def _write_shard(self, index: int, shard: Path, samples: NDArray[Any]) -> None:
        """Write the samples of a frame, through zarr-python where the array is not of our own layout."""
        layout = self._frames.layout
        if layout is not None and layout.is_writable:
            shard.parent.mkdir(parents=True, exist_ok=True)
            write_parts_atomically(shard, shard_parts(samples, layout), durable=False)
            return
        try:
            self._array[index] = samples
        except OSError:
            raise
        except ZARR_ERRORS as error:
            raise StorageError(
                f"{self._path}: frame {index} cannot be written, the metadata of the array are damaged:"
                f" {short(error)}; restore {FRAMES}/{METADATA_FILE} from a copy"
            ) from error

    def discard_frame(self, index: int) -> None:
        """Take a frame out of the series, its record first, so that its index can be written again."""
        with storage_errors(f"{self._path}: frame {index} cannot be removed"):
            record_path(self._path / LEDGER, index).unlink(missing_ok=True)
            exclusion_path(self._path / LEDGER, index).unlink(missing_ok=True)
            sync_directory(self._path / LEDGER)
            Path(shard_path(self.location, index)).unlink(missing_ok=True)
        self._records.pop(index, None)

    def extend(self, n_frames: int) -> None:
        """Make room for more frames: `n_frames` in all. Only the metadata changes, in one atomic step."""
        if n_frames < self.n_planned:
            raise StorageError(f"{self._path}: a series of {self.n_planned} frames cannot shrink to {n_frames}")
        shape = (n_frames, *self._frames.shape[1:])
        check_shape(self._path, shape, self.dtype)
        metadata_path = self._path / FRAMES / METADATA_FILE
        metadata = read_metadata(metadata_path, self.location)
        metadata["shape"] = list(shape)
        with storage_errors(f"{self._path}: the series cannot be extended"):
            write_atomically(metadata_path, to_json(metadata, indent=2), durable=True)
        self._frames = dataclasses.replace(self._frames, shape=shape)
        self._array = open_to_write(self.location)

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

    Raise FrameError, with nothing decided, where a frame is not committed. After a StorageError some of several frames
    may be decided.
    """
    path = path_of(location)
    series_header(path)
    chosen = sorted(set(indices))
    absent = [str(index) for index in chosen if not record_path(path / LEDGER, index).is_file()]
    if absent:
        raise FrameError(
            f"{path}: there is no frame {', '.join(absent)}; there are {listed(read_ledger(path / LEDGER)[0])}"
        )
    if len(decision.why) > MAX_REASON_LENGTH:
        raise StorageError(f"{path}: a reason of {len(decision.why)} characters; {MAX_REASON_LENGTH} are possible")
    for index in chosen:
        with storage_errors(f"{path}: frame {index} cannot be decided on"):
            write_decision(path / LEDGER, index, decision)


def local_path(location: Location) -> Path:
    """Return the path of a series that is to be written; StorageError where that is in an object store."""
    path = path_of(location)
    if not isinstance(path, Path):
        raise StorageError(
            f"{path}: frames are written to a local directory; set one, and copy its series there with ostcal upload"
        )
    return path
