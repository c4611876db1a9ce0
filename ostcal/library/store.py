"""Masters in zarr: three planes per master, written strip by strip by any number of tasks, complete or absent.

A fourth plane, of defect bits, may be added before the master is committed.

``master_frames/masters.zarr`` is a zarr v3 group with one subgroup per master, named like its FITS file. A chunk is
one task's strip, so that tasks in threads, processes and on other machines never share one. The attributes of the
subgroup are written last; a subgroup without them does not exist. docs/formats.md has the details.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ostcal.codec import parse_json
from ostcal.errors import StorageError
from ostcal.frames import MAX_SIDE
from ostcal.places.durable import (
    full_disk_advice,
    is_disk_full,
    os_reason,
    read_bounded,
    sweep_partial_files,
    sweep_partials,
    sync_file,
    write_atomically,
)
from ostcal.places.locking import PROCESS_MARK, is_running
from ostcal.places.paths import (
    Location as Location,
)
from ostcal.places.paths import (
    Place,
    directories_in,
    in_parallel,
    is_file,
    joined,
    make_directory,
    make_new_directory,
    move_tree,
    names_in,
    newest_s,
    place,
    read_whole,
    remove_tree,
    retried,
    stamp_of,
    sync_directory,
)
from ostcal.series.shard_reader import blosc_only, decode_chunk

Plane = Literal["master", "n_used", "std", "dq"]

PLANES: Final[Mapping[Plane, str]] = {"master": "float32", "n_used": "uint16", "std": "float32"}
"""The planes that every master has."""
DTYPES: Final[Mapping[Plane, str]] = {**PLANES, "dq": "uint8"}
FORMAT = "ostcal-master"
FORMAT_VERSION = 1

_METADATA_FILE = "zarr.json"
_WRITING_FILE = "writing.json"
_STRIPS = "strips"
"""Directory of what finished strips counted, while the master is not committed."""
_SURVEY_FILE = "survey.json"
"""What the frames of a master that is not committed say, where they were surveyed ahead."""
_MAX_ATTRIBUTES_BYTES = 1 << 26
_MAX_METADATA_BYTES = 1 << 20
_MAX_AGE_S = 86_400.0
_UNMARKED_AGE_S = 60.0
"""Age from which a directory without any mark counts as left behind: its maker marks it within milliseconds."""
_SYNC_THREADS = 8
_NAME = re.compile(r"[^.\s/\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]{0,199}")
# Mean of 40 frames with 3.3 ADU of noise, 9576 columns in strips of 64 rows, all three planes of 61 MP (607 MB), one
# thread. Writing and reading: plain 0.9 + 0.03 s, lz4 with bitshuffle 0.9 + 0.15 s for 312 MB, zstd-1 with byte
# shuffle 1.5 + 0.4 s for 278 MB. lz4 costs nothing, as half the bytes go to the disk, and a chunk that a power cut
# emptied is seen to be damaged. zarr-python needs 1 ms for every chunk it writes, `MasterWriter` 0.4 ms.
_LEVEL: Final = 5


class MasterStore:
    """The masters in one store.

    Parameters
    ----------
    location : path
        Such as ``master_frames/masters.zarr``; made when the first master is created.
    """

    def __init__(self, location: Location) -> None:
        self.location = os.fspath(location)
        self._path = place(location)

    def create(self, name: str, shape: tuple[int, int], chunk_rows: int, *, work: str = "") -> MasterWriter:
        """Make the arrays of a new master, or go on with those that an interrupted run left of the same work.

        Parameters
        ----------
        name : str
            Such as ``master_dark_5.000s_20261121_084200``.
        shape : (height, width)
        chunk_rows : int
            Rows of the strips that will be written.
        work : str
            Digest of all that decides what the strips hold; "" where nothing is to be gone on with.

        Raises
        ------
        StorageError
            If a master of this name is there or being written, or the store cannot be written.
        """
        path = self._subgroup(name)
        height, width = shape
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and chunk_rows > 0):
            raise StorageError(f"{path}: no master of {width} x {height} pixels in strips of {chunk_rows} rows")
        grid = _Grid(height=height, width=width, chunk_rows=min(chunk_rows, height))
        try:
            self._prepare()
            if work and self._adopt(path, grid, work):
                return MasterWriter(location=str(path), grid=grid)
            if _is_left_behind(path):
                remove_tree(path)
            make_new_directory(path)
        except FileExistsError as error:
            raise StorageError(f"{path}: this master is there or being written; choose another name") from error
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be created: {os_reason(error)}") from error
        try:
            write_atomically(path / _WRITING_FILE, _as_json(_writer_mark(work)), durable=False)
            make_directory(path / _STRIPS)
            for plane, dtype in PLANES.items():
                _create_plane(path / plane, grid, dtype)
        except OSError as error:
            remove_tree(path, ignore_errors=True)
            raise StorageError(f"{path}: the master cannot be created: {os_reason(error)}") from error
        return MasterWriter(location=str(path), grid=grid)

    def _adopt(self, path: Place, grid: _Grid, work: str) -> bool:
        """Take over what an interrupted run left of the same work; only for who holds the directory's lock."""
        for left in self._subgroups():
            if not _is_left_behind(left) or _mark_of(left).get("work") != work or not (left / _STRIPS).is_dir():
                continue
            try:
                if _grid(left) != grid:
                    continue
            except StorageError:  # killed while its arrays were made
                continue
            if left != path:  # the same name, where a run follows within a second
                if _is_left_behind(path):
                    remove_tree(path)
                move_tree(left, path)
            write_atomically(path / _WRITING_FILE, _as_json(_writer_mark(work)), durable=False)
            sweep_partials(path)
            remove_tree(path / "dq", ignore_errors=True)
            return True
        return False

    def abandon(self, name: str) -> None:
        """Leave a master that is not committed to the run that goes on with it, or else sweeps it."""
        path = self._subgroup(name)
        mark = {**_mark_of(path), "time": 0}
        try:
            if path.exists():
                write_atomically(path / _WRITING_FILE, _as_json(mark), durable=False)
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be left for later: {os_reason(error)}") from error

    def writer(self, name: str) -> MasterWriter:
        """Give the writer of a master that was created and is not committed, in this process or another one."""
        path = self._subgroup(name)
        return MasterWriter(location=str(path), grid=_grid(path))

    def commit(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Make a master visible; when this returns, all of it is on the disk.

        Parameters
        ----------
        attributes : mapping
            All that is known of the master, as JSON. ``format`` and ``format_version`` are added.

        Raises
        ------
        StorageError
            If strips are missing, or it cannot be written. Then the master stays absent.
        """
        path = self._subgroup(name)
        grid = _grid(path)
        planes = [plane for plane in DTYPES if plane in PLANES or (path / plane).exists()]
        files = [path / plane / grid.chunk_name(chunk) for plane in planes for chunk in range(grid.n_chunks)]
        try:
            there = {str(path / plane / name) for plane in planes for name in names_in(path / plane)}
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be listed: {os_reason(error)}; build it again") from error
        missing = next((file for file in files if str(file) not in there), None)
        if missing is not None:
            raise StorageError(f"{path}: the master is not complete, {missing} was not written; build it again")
        header = {**attributes, "format": FORMAT, "format_version": FORMAT_VERSION}
        group = {"zarr_format": 3, "node_type": "group", "attributes": header}
        try:
            sweep_partials(path)
            if (path / _STRIPS).exists():
                remove_tree(path / _STRIPS)
            (path / _SURVEY_FILE).unlink(missing_ok=True)
            # arrays of an interrupted run are synced here too, or a power cut would leave a master without them
            files += [path / plane / _METADATA_FILE for plane in planes]
            with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # the disk orders what waits; one after the other is slower
                list(pool.map(sync_file, files))
            for directory in (*(path / plane for plane in planes), path, self._path):
                sync_directory(directory)
            write_atomically(path / _METADATA_FILE, _as_json(group), durable=True)
            (path / _WRITING_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be committed: {os_reason(error)}") from error

    def discard(self, name: str) -> None:
        """Delete a master, complete or not; nothing happens where there is none."""
        path = self._subgroup(name)
        try:
            (path / _METADATA_FILE).unlink(missing_ok=True)  # first, so that no half of it ever counts
            if path.exists():
                remove_tree(path)
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be deleted: {os_reason(error)}") from error

    def exists(self, name: str) -> bool:
        """Whether the name is taken, by a complete master or by one that is being written."""
        return self._subgroup(name).exists()

    def is_store(self) -> bool:
        """Whether there is a store of masters."""
        try:
            metadata = parse_json(read_bounded(self._path / _METADATA_FILE, _MAX_METADATA_BYTES))
        except (OSError, ValueError):
            return False
        match metadata:
            case {"attributes": {"format": "ostcal-masters"}}:
                return True
        return False

    def names(self) -> list[str]:
        """Give the names of the complete masters, sorted."""
        below = self._subgroups()
        complete = in_parallel(self._path, lambda path: (path / _METADATA_FILE).is_file(), below)
        return [path.name for path, is_complete in zip(below, complete, strict=True) if is_complete]

    def attributes(self, name: str) -> dict[str, Any]:
        """Give what was committed with a master.

        Raises
        ------
        StorageError
            If there is no such master, or its attributes are damaged.
        """
        path = self._subgroup(name)
        metadata = _read_json(path / _METADATA_FILE, path, _MAX_ATTRIBUTES_BYTES)
        match metadata:
            case {"attributes": {"format": "ostcal-master", "format_version": int(version)}}:
                if version <= FORMAT_VERSION:
                    attributes: dict[str, Any] = metadata["attributes"]
                    return attributes
                raise StorageError(f"{path}: version {version} of the format needs a newer ostcal than this one")
        raise StorageError(f"{path}: this is no master of this program; delete it, or make it again")

    def open(self, name: str) -> StoredMaster:
        """Open a complete master for reading.

        Raises
        ------
        StorageError
            If there is none of this name; the message says which there are.
        """
        path = self._subgroup(name)
        if not (path / _METADATA_FILE).is_file():
            there = ", ".join(self.names()[-10:]) or "none"
            raise StorageError(f"{self.location}: there is no master {name}; there are: {there}")
        return StoredMaster(location=str(path), grid=_grid(path))

    def left_behind(self) -> list[str]:
        """Give the names of what killed runs began and did not finish."""
        return [path.name for path in self._subgroups() if _is_left_behind(path)]

    def kept_surveys(self) -> list[dict[str, Any]]:
        """Give what `MasterWriter.keep_survey` stored with masters that nobody is writing any more."""
        kept = []
        for path in self._subgroups():
            if not _is_left_behind(path):
                continue
            with contextlib.suppress(OSError, ValueError):  # absent, or cut by a power failure
                document = parse_json(read_bounded(path / _SURVEY_FILE, _MAX_ATTRIBUTES_BYTES))
                if isinstance(document, dict):
                    kept.append(document)
        return kept

    def sweep(self, *, keep_begun: bool = False, alone: bool = False) -> list[str]:
        """Delete what killed runs left behind, but nothing that a live process is still writing; give the names.

        With `keep_begun` what may be gone on with is kept. With `alone` nobody else makes masters here, so that a
        directory without its maker's mark is left behind, however new it is.
        """
        swept = []
        try:
            if alone:
                sweep_partial_files(self._path)
            for path in self._subgroups():
                if (path / _METADATA_FILE).is_file():
                    (path / _WRITING_FILE).unlink(missing_ok=True)
                elif _is_left_behind(path, alone=alone) and not (keep_begun and _mark_of(path).get("work")):
                    remove_tree(path)
                    swept.append(path.name)
        except OSError as error:
            raise StorageError(
                f"{self.location}: what an earlier run left cannot be deleted: {os_reason(error)}"
            ) from error
        return swept

    def _prepare(self) -> None:
        make_directory(self._path)
        if not (self._path / _METADATA_FILE).is_file():
            attributes = {"format": "ostcal-masters", "format_version": FORMAT_VERSION}
            group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            write_atomically(self._path / _METADATA_FILE, _as_json(group), durable=True)

    def _subgroup(self, name: str) -> Place:
        if not _NAME.fullmatch(name):
            raise StorageError(f"{self.location}: {name!r} is no name for a master")
        return self._path / name

    def _subgroups(self) -> list[Place]:
        try:
            return directories_in(self._path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{self.location}: the masters cannot be listed: {os_reason(error)}") from error


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Size of the planes and height of their chunks."""

    height: int
    width: int
    chunk_rows: int

    @property
    def n_chunks(self) -> int:
        return -(-self.height // self.chunk_rows)

    def chunk_name(self, chunk: int) -> str:
        return f"c.{chunk}.0"


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """The planes of one master, by rows; small and picklable."""

    location: str
    grid: _Grid

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.grid.height, self.grid.width

    @property
    def chunk_rows(self) -> int:
        """Rows of a strip; the last one may have fewer."""
        return self.grid.chunk_rows

    def has(self, plane: Plane) -> bool:
        """Whether there is such a plane."""
        return is_file(joined(self.location, plane, _METADATA_FILE))

    def read_rows(self, plane: Plane, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a plane.

        Returns
        -------
        (stop - start, width) array of the plane's dtype

        Raises
        ------
        StorageError
            If the rows were not written, or are damaged.
        """
        out = np.empty((stop - start, self.grid.width), DTYPES[plane])
        self._read_into(plane, start, out)
        return out

    def _read_into(self, plane: Plane, start: int, out: NDArray[Any]) -> None:
        grid, stop = self.grid, start + len(out)
        if not 0 <= start <= stop <= grid.height:
            raise ValueError(f"no rows {start} to {stop} in a master of {grid.height} rows")
        for chunk in range(start // grid.chunk_rows, -(-stop // grid.chunk_rows)):
            first = chunk * grid.chunk_rows
            if start <= first and first + grid.chunk_rows <= stop:
                self._read_chunk(plane, chunk, out[first - start : first - start + grid.chunk_rows])
                continue
            rows = np.empty((grid.chunk_rows, grid.width), out.dtype)
            self._read_chunk(plane, chunk, rows)
            top, bottom = max(first, start), min(first + grid.chunk_rows, stop)
            out[top - start : bottom - start] = rows[top - first : bottom - first]

    def _read_chunk(self, plane: Plane, chunk: int, out: NDArray[Any]) -> None:
        path = joined(self.location, plane, self.grid.chunk_name(chunk))
        try:
            decode_chunk(retried(lambda: read_whole(path)), out, compressed=True)
        except OSError as error:
            raise StorageError(f"{path}: rows of a master cannot be read: {os_reason(error)}") from error
        except ValueError as error:
            raise StorageError(f"{path}: rows of a master are damaged: {error}; make the master again") from error


@dataclass(frozen=True, kw_only=True)
class MasterWriter(_Planes):
    """Writes the planes of one master; tasks may write different strips at the same time, everywhere."""

    def write_rows(
        self,
        start: int,
        *,
        master: NDArray[np.float32],
        n_used: NDArray[np.uint16],
        std: NDArray[np.float32],
        read_again: Container[Plane] = ("master", "std"),
    ) -> tuple[int, ...]:
        """Write one strip of all planes.

        Parameters
        ----------
        start : int
            First row, a multiple of `chunk_rows`.
        master, n_used, std : (n_rows, width) arrays of float32, uint16, float32
            `chunk_rows` rows; fewer in the last strip.
        read_again : container of str
            Images that are read again soon; others do not go through the page cache: 0.2 s less for 61 MP.

        Returns
        -------
        tuple of int
            CRC-32C of what was written, a plane each.

        Raises
        ------
        StorageError
            If they cannot be written; the strip may be written again.
        """
        planes: tuple[tuple[Plane, NDArray[Any]], ...] = (("master", master), ("n_used", n_used), ("std", std))
        return tuple(
            self.write_plane(plane, start, rows, past_cache=plane != "n_used" and plane not in read_again)
            for plane, rows in planes
        )

    def keep_result(self, start: int, result: Mapping[str, Any], checksums: Sequence[int]) -> None:
        """Store what a strip that was written counted, with the checksums that `write_rows` gave.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = self._result(start)
        try:
            write_atomically(path, _as_json({**result, "checksums": list(checksums)}), durable=False)
        except OSError as error:
            raise StorageError(f"{path}: the counts of a strip cannot be written: {os_reason(error)}") from error

    def kept_result(self, start: int) -> dict[str, Any] | None:
        """Give what `keep_result` stored, if the strip is still as it was; else ``None``."""
        try:
            result = parse_json(read_bounded(self._result(start), _MAX_METADATA_BYTES))
            if isinstance(result, dict) and result.get("checksums") == self._checksums(start):
                return result
        except (OSError, ValueError):  # absent, or cut by a power failure: the strip is made again
            return None
        return None

    def keep_survey(self, survey: Mapping[str, Any]) -> None:
        """Store what the frames say, for the run that goes on with this master.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = place(joined(self.location, _SURVEY_FILE))
        try:
            write_atomically(path, _as_json(survey), durable=False)
        except OSError as error:
            raise StorageError(f"{path}: the survey of the frames cannot be written: {os_reason(error)}") from error

    def n_kept(self) -> int:
        """Count the strips that `keep_result` stored."""
        try:
            return sum(name.endswith(".json") for name in names_in(joined(self.location, _STRIPS)))
        except FileNotFoundError:
            return 0

    def _result(self, start: int) -> Place:
        return place(joined(self.location, _STRIPS, f"{start // self.grid.chunk_rows}.json"))

    def _checksums(self, start: int) -> list[int]:
        chunk = self.grid.chunk_name(start // self.grid.chunk_rows)
        return [int(google_crc32c.value(read_whole(joined(self.location, plane, chunk)))) for plane in PLANES]

    def write_defects(self, read_rows: Callable[[int, int], NDArray[np.uint8]]) -> None:
        """Add the plane of defect bits.

        Parameters
        ----------
        read_rows : callable (start, stop) -> (stop - start, width) uint8

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = place(joined(self.location, "dq"))
        if not self.has("dq"):  # a cluster may run a task again
            try:
                _create_plane(path, self.grid, DTYPES["dq"])
            except OSError as error:
                raise StorageError(f"{path}: the plane of defects cannot be created: {os_reason(error)}") from error
        for start in range(0, self.grid.height, self.grid.chunk_rows):
            self.write_plane("dq", start, read_rows(start, min(start + self.grid.chunk_rows, self.grid.height)))

    def write_plane(self, plane: Plane, start: int, rows: NDArray[Any], *, past_cache: bool = False) -> int:
        """Write one strip of one plane; otherwise as `write_rows`."""
        grid = self.grid
        n_rows = min(grid.chunk_rows, grid.height - start)
        if start < 0 or start % grid.chunk_rows or rows.shape != (n_rows, grid.width) or rows.dtype != DTYPES[plane]:
            raise ValueError(f"{plane}: {rows.dtype} {rows.shape} at row {start} is no strip of {grid}")
        if n_rows < grid.chunk_rows:  # zarr's chunks have one size; the last one is filled up
            rows = np.concatenate([rows, np.zeros((grid.chunk_rows - n_rows, grid.width), rows.dtype)])
        data = blosc.compress(np.ascontiguousarray(rows), b"lz4", _LEVEL, blosc.BITSHUFFLE)
        self._put(self._chunk(plane, start), data, past_cache=past_cache)
        return int(google_crc32c.value(data))

    def copy_plane(self, plane: Plane, start: int, source: MasterWriter) -> None:
        """Write one strip of one plane as another master of the same strips has it.

        Raises
        ------
        StorageError
            If it cannot be read or written.
        """
        if source.grid != self.grid:
            raise ValueError(f"{plane}: strips of {source.grid} are none of {self.grid}")
        path = source._chunk(plane, start)
        try:
            data = retried(lambda: read_whole(path))
        except OSError as error:
            raise StorageError(f"{path}: rows of a master cannot be read: {os_reason(error)}") from error
        self._put(self._chunk(plane, start), data)

    def _chunk(self, plane: Plane, start: int) -> str:
        return joined(self.location, plane, self.grid.chunk_name(start // self.grid.chunk_rows))

    def _put(self, path: str, data: bytes, *, past_cache: bool = False) -> None:
        try:
            write_atomically(place(path), data, durable=False, past_cache=past_cache)
        except OSError as error:
            reason = f"rows of a master cannot be written: {os_reason(error)}"
            raise StorageError(f"{path}: {full_disk_advice(error) if is_disk_full(error) else reason}") from error


@dataclass(frozen=True, kw_only=True)
class StoredMaster(_Planes):
    """A complete master, opened for reading."""

    @property
    def name(self) -> str:
        """The master's name in its store."""
        return os.path.basename(self.location)

    def array(self, plane: Plane = "master") -> NDArray[Any]:
        """Read a whole plane: (height, width) float32, uint16 for ``n_used``, uint8 for ``dq``."""
        return self.read_rows(plane, 0, self.grid.height)


# ---- planes ----


def _create_plane(path: Place, grid: _Grid, dtype: str) -> None:
    """Write the metadata of a plane; chunks come later."""
    make_directory(path)
    write_atomically(path / _METADATA_FILE, _plane_metadata(grid, dtype), durable=False)


@lru_cache(maxsize=64)
def _plane_metadata(grid: _Grid, dtype: str) -> bytes:
    """Give the ``zarr.json`` of a plane, as zarr-python writes it: importing that takes 0.1 s."""
    itemsize = np.dtype(dtype).itemsize
    blosc_settings = {"typesize": itemsize, "cname": "lz4", "clevel": _LEVEL, "shuffle": "bitshuffle", "blocksize": 0}
    to_bytes = {"name": "bytes"} | ({"configuration": {"endian": "little"}} if itemsize > 1 else {})
    metadata = {
        "shape": [grid.height, grid.width],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [grid.chunk_rows, grid.width]}},
        # no directory for each chunk
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if dtype == "float32" else 0,
        "codecs": [to_bytes, {"name": "blosc", "configuration": blosc_settings}],
        "attributes": {},
        "dimension_names": ["row", "column"],
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    return _as_json(metadata)


def _grid(path: Place) -> _Grid:
    """Read size and chunks of a master; once per process and master."""
    try:
        stamp = stamp_of(path / "master" / _METADATA_FILE)
    except OSError as error:
        raise StorageError(f"{path}: there is no such master: {os_reason(error)}") from error
    return _read_grid(str(path), stamp)


@lru_cache(maxsize=256)
def _read_grid(location: str, stamp: tuple[int, int | str]) -> _Grid:
    path = place(location)
    grids = set()
    for plane, dtype in PLANES.items():
        metadata = _read_json(path / plane / _METADATA_FILE, path, _MAX_METADATA_BYTES)
        match metadata:
            case {
                "shape": [int(height), int(width)],
                "data_type": str(stored_dtype),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [int(rows), int(chunk_width)]}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
                "codecs": list(codecs),
            } if (
                0 < rows <= height <= MAX_SIDE
                and 0 < chunk_width == width <= MAX_SIDE
                and stored_dtype == dtype
                and blosc_only(codecs)
            ):
                grids.add(_Grid(height=height, width=width, chunk_rows=rows))
            case _:
                raise StorageError(f"{path}: its array {plane} is not as this program makes it; make the master again")
    if len(grids) != 1:
        raise StorageError(f"{path}: its arrays differ in size; make the master again")
    return grids.pop()


# ---- who is writing ----


def _writer_mark(work: str) -> dict[str, Any]:
    mark = {"pid": os.getpid(), "host": socket.gethostname(), "process": PROCESS_MARK, "time": time.time()}
    return {**mark, "work": work}


def _mark_of(path: Place) -> dict[str, Any]:
    """Give who is writing a master; nothing where that cannot be read."""
    try:
        mark = parse_json(read_bounded(path / _WRITING_FILE, _MAX_METADATA_BYTES))
    except (ValueError, OSError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_left_behind(path: Place, *, alone: bool = False) -> bool:
    """Whether a directory is of a master that was never completed and nobody is writing any more."""
    if not path.is_dir() or (path / _METADATA_FILE).is_file():
        return False
    match _mark_of(path):
        case {
            "pid": int(pid), "host": str(host), "process": str(process), "time": int(since) | float(since)
        } if pid > 0:  # fmt: skip
            if time.time() - since > _MAX_AGE_S:
                return True
            return host == socket.gethostname() and not is_running(pid, process)
    return alone or _age_s(path) > _UNMARKED_AGE_S


def _age_s(path: Place) -> float:
    try:
        return time.time() - newest_s(path)
    except FileNotFoundError:  # another process has just swept it
        return 0.0


# ---- small parts ----


def _read_json(path: Place, location: Place, limit_bytes: int) -> dict[str, Any]:
    try:
        value = parse_json(read_bounded(path, limit_bytes))
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
    except OSError as error:
        raise StorageError(f"{location}: {path} cannot be read: {os_reason(error)}") from error
    except ValueError as error:
        raise StorageError(f"{location}: {path} is damaged: {error}; make the master again") from error
    return value


def _as_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode("ascii")
