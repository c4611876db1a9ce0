"""The planes of a master: arrays of its height and width, written strip by strip and read by rows.

A chunk is one task's strip, so that tasks in threads, processes and on other machines never share one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ostcal.codec import parse_json, to_json
from ostcal.errors import StorageError
from ostcal.frames import MAX_SIDE
from ostcal.places.durable import (
    full_disk_advice,
    is_disk_full,
    os_reason,
    read_bounded,
    storage_errors,
    write_atomically,
)
from ostcal.places.paths import (
    AnyPath,
    is_file,
    joined,
    make_directory,
    names_in,
    open_binary,
    path_of,
    read_whole,
    retried,
    version_of,
)
from ostcal.series.format import METADATA_FILE
from ostcal.series.shard_reader import (
    CHECKSUM_BYTES,
    blosc_only,
    decode_chunk,
    ends_with_checksum,
    fill_from_chunks,
)

Plane = Literal["master", "n_used", "std", "dq"]

PLANES: Final[Mapping[Plane, str]] = {"master": "float32", "n_used": "uint16", "std": "float32"}
"""The planes that every master has."""
DTYPES: Final[Mapping[Plane, str]] = {**PLANES, "dq": "uint8"}
STRIPS: Final = "strips"
"""Directory of what finished strips counted, while the master is not committed."""
SURVEY_FILE: Final = "survey.json"
"""What the frames of a master that is not committed say, where they were surveyed before."""
MAX_METADATA_BYTES: Final = 1 << 20

# Mean of 40 frames with 3.3 ADU of noise, 9576 columns in strips of 64 rows, all three planes of 61 MP (607 MB), one
# thread. Writing and reading: plain 0.9 + 0.03 s, lz4 with bitshuffle 0.9 + 0.15 s for 312 MB, zstd-1 with byte
# shuffle 1.5 + 0.4 s for 278 MB. lz4 costs nothing, as half the bytes go to the disk, and a chunk that a power cut
# emptied is seen to be damaged. zarr-python needs 1 ms for every chunk it writes, `MasterWriter` 0.4 ms.
_LEVEL: Final = 5


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Size of the planes, and how their chunks are stored."""

    height: int
    width: int
    chunk_rows: int
    has_checksums: bool = True
    """Whether every chunk ends with its CRC-32C; those of masters of version 1 of the format do not."""

    @property
    def n_chunks(self) -> int:
        """Chunks of a plane."""
        return -(-self.height // self.chunk_rows)

    def chunk_name(self, chunk: int) -> str:
        """Return the name of the file of a chunk."""
        return f"c.{chunk}.0"

    def without_checksum(self, data: bytes) -> memoryview:
        """Return the packed rows of a chunk; ValueError where they are not those that were written."""
        if not self.has_checksums:
            return memoryview(data)
        if not ends_with_checksum(data):
            raise ValueError("they are not those that were written (checksum)")
        return memoryview(data)[:-CHECKSUM_BYTES]


@dataclass(frozen=True, kw_only=True)
class _Planes:
    """The planes of one master, by rows; small and picklable."""

    location: str
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.grid.height, self.grid.width

    @property
    def chunk_rows(self) -> int:
        """Rows of a strip; the last one may have fewer."""
        return self.grid.chunk_rows

    def has(self, plane: Plane) -> bool:
        """Return whether there is such a plane."""
        return is_file(joined(self.location, plane, METADATA_FILE))

    def read_rows(self, plane: Plane, start: int, stop: int) -> NDArray[Any]:
        """Read rows of a plane, (stop - start, width) of its dtype; StorageError where they are absent or damaged."""
        grid = self.grid
        if not 0 <= start <= stop <= grid.height:
            raise ValueError(f"no rows {start} to {stop} in a master of {grid.height} rows")

        expected = self._checksums_of(plane)

        def read_chunk(chunk: int, rows: NDArray[Any]) -> None:
            path = joined(self.location, plane, grid.chunk_name(chunk))
            try:
                data = retried(lambda: read_whole(path))
                packed = grid.without_checksum(data)
                if expected and data[-CHECKSUM_BYTES:] != expected[chunk]:
                    raise ValueError("they are those of another master or plane (checksum)")
                decode_chunk(packed, rows, compressed=True)
            except OSError as error:
                raise StorageError(f"{path}: rows of a master cannot be read: {os_reason(error)}") from error
            except ValueError as error:
                raise StorageError(
                    f"{path}: rows of a master are damaged: {error}; make the master again: delete {self.location} and"
                    " run ostcal masters"
                ) from error

        out = np.empty((stop - start, grid.width), DTYPES[plane])
        fill_from_chunks(read_chunk, grid.chunk_rows, start, out)
        return out

    def _checksums_of(self, plane: Plane) -> Sequence[bytes]:
        """Return the checksum of each chunk of a plane, as it stands at its end; nothing where they are not known."""
        return ()


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
        """Write one strip of all planes, `chunk_rows` rows from `start` on; return the CRC-32C of each as packed.

        Images that are not in `read_again` bypass the page cache: 0.2 s less for 61 MP. After a StorageError the strip
        may be written again.
        """
        planes: tuple[tuple[Plane, NDArray[Any]], ...] = (("master", master), ("n_used", n_used), ("std", std))
        return tuple(
            self.write_plane(plane, start, rows, past_cache=plane != "n_used" and plane not in read_again)
            for plane, rows in planes
        )

    def keep_result(self, start: int, result: Mapping[str, Any], checksums: Sequence[int]) -> None:
        """Store what a strip that was written counted, with the checksums that `write_rows` returned.

        Nothing is stored where their directory is gone, as committing removes it: a worker of a cluster that dies while
        it commits, or later, takes the counts with it, and its strips are combined once more.
        """
        path = self._result(start)
        with storage_errors(f"{path}: the counts of a strip cannot be written"):
            try:
                write_atomically(path, to_json({**result, "checksums": list(checksums)}, indent=2), durable=False)
            except FileNotFoundError:
                if path_of(joined(self.location, STRIPS)).is_dir():
                    raise

    def kept_result(self, start: int) -> dict[str, Any] | None:
        """Return what `keep_result` stored, if the strip is still as it was; else ``None``."""
        try:
            result = parse_json(read_bounded(self._result(start), MAX_METADATA_BYTES))
            stored = [self.grid.without_checksum(read_whole(self._chunk(plane, start))) for plane in PLANES]
        except (OSError, ValueError):  # absent, or cut by a power failure: the strip is made again
            return None
        checksums = [int(google_crc32c.value(bytes(data))) for data in stored]
        return result if isinstance(result, dict) and result.get("checksums") == checksums else None

    def keep_survey(self, survey: Mapping[str, Any]) -> None:
        """Store what the frames say, for the run that continues this master."""
        path = path_of(joined(self.location, SURVEY_FILE))
        with storage_errors(f"{path}: the survey of the frames cannot be written"):
            write_atomically(path, to_json(survey, indent=2), durable=False)

    def n_kept(self) -> int:
        """Count the strips that `keep_result` stored."""
        try:
            return sum(name.endswith(".json") for name in names_in(joined(self.location, STRIPS)))
        except FileNotFoundError:
            return 0

    def _result(self, start: int) -> AnyPath:
        return path_of(joined(self.location, STRIPS, f"{start // self.grid.chunk_rows}.json"))

    def write_defects(self, read_rows: Callable[[int, int], NDArray[np.uint8]]) -> None:
        """Add the plane of defect bits; ``read_rows(start, stop)`` returns (stop - start, width) uint8."""
        path = path_of(joined(self.location, "dq"))
        if not self.has("dq"):  # a cluster may run a task again
            with storage_errors(f"{path}: the plane of defects cannot be created"):
                create_plane(path, self.grid, DTYPES["dq"])
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
        checksum = int(google_crc32c.value(data))
        if grid.has_checksums:
            data += struct.pack("<I", checksum)
        self._put(self._chunk(plane, start), data, past_cache=past_cache)
        return checksum

    def copy_plane(self, plane: Plane, start: int, source: MasterWriter) -> None:
        """Write one strip of one plane as another master of the same strips has it."""
        if source.grid != self.grid:
            raise ValueError(f"{plane}: strips of {source.grid} are none of {self.grid}")
        path = source._chunk(plane, start)
        with storage_errors(f"{path}: rows of a master cannot be read"):
            data = retried(lambda: read_whole(path))
        self._put(self._chunk(plane, start), data)

    def _chunk(self, plane: Plane, start: int) -> str:
        return joined(self.location, plane, self.grid.chunk_name(start // self.grid.chunk_rows))

    def _put(self, path: str, data: bytes, *, past_cache: bool = False) -> None:
        try:
            write_atomically(path_of(path), data, durable=False, past_cache=past_cache)
        except OSError as error:
            reason = f"rows of a master cannot be written: {os_reason(error)}"
            raise StorageError(f"{path}: {full_disk_advice(error) if is_disk_full(error) else reason}") from error


@dataclass(frozen=True, kw_only=True)
class StoredMaster(_Planes):
    """A complete master, opened for reading."""

    checksums: Mapping[str, Sequence[bytes]] = field(default_factory=dict, hash=False)
    """Of each chunk, by plane, as its attributes have them; empty for masters of older versions and in object stores.

    A chunk of another master has a right checksum of its own.
    """

    @property
    def name(self) -> str:
        """The master's name in its store."""
        return os.path.basename(self.location)

    def array(self, plane: Plane = "master") -> NDArray[Any]:
        """Read a whole plane: (height, width) float32, uint16 for ``n_used``, uint8 for ``dq``."""
        return self.read_rows(plane, 0, self.grid.height)

    def _checksums_of(self, plane: Plane) -> Sequence[bytes]:
        return self.checksums.get(plane, ()) if self.grid.has_checksums else ()


def chunk_checksums(location: AnyPath, planes: Iterable[Plane], grid: Grid) -> dict[str, str]:
    """Return the checksums at the ends of the chunks of planes, in hexadecimal, one after the other."""

    def checksum(file: str) -> str:
        with open_binary(file) as stored:
            stored.seek(-CHECKSUM_BYTES, os.SEEK_END)
            return stored.read(CHECKSUM_BYTES).hex()

    names = [grid.chunk_name(chunk) for chunk in range(grid.n_chunks)]
    return {plane: "".join(checksum(str(location / plane / name)) for name in names) for plane in planes}


def plane_bytes(sizes: Mapping[str, int], planes: Iterable[Plane], grid: Grid) -> dict[str, int]:
    """Return the bytes of all chunks of each plane, from the sizes of the files of a master by their names."""
    names = [grid.chunk_name(chunk) for chunk in range(grid.n_chunks)]
    return {plane: sum(sizes.get(f"{plane}/{name}", 0) for name in names) for plane in planes}


def parsed_checksums(stored: object, grid: Grid) -> dict[str, tuple[bytes, ...]]:
    """Return what `chunk_checksums` returned, as bytes; ValueError where there is another number of them."""
    if not isinstance(stored, Mapping):
        return {}
    found = {}
    for plane, text in stored.items():
        data = bytes.fromhex(text) if isinstance(text, str) else b""
        if len(data) != CHECKSUM_BYTES * grid.n_chunks:
            raise ValueError(f"checksums: {plane}: there are not {grid.n_chunks}")
        found[plane] = tuple(data[at : at + CHECKSUM_BYTES] for at in range(0, len(data), CHECKSUM_BYTES))
    return found


def create_plane(path: AnyPath, grid: Grid, dtype: str) -> None:
    """Write the metadata of a plane, as zarr-python writes them (importing it takes 0.1 s); chunks come later."""
    itemsize = np.dtype(dtype).itemsize
    blosc_settings = {"typesize": itemsize, "cname": "lz4", "clevel": _LEVEL, "shuffle": "bitshuffle", "blocksize": 0}
    checksum = [{"name": "crc32c"}] if grid.has_checksums else []
    to_bytes = {"name": "bytes"} | ({"configuration": {"endian": "little"}} if itemsize > 1 else {})
    metadata = {
        "shape": [grid.height, grid.width],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [grid.chunk_rows, grid.width]}},
        # no directory for each chunk
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if dtype == "float32" else 0,
        "codecs": [to_bytes, {"name": "blosc", "configuration": blosc_settings}, *checksum],
        "attributes": {},
        "dimension_names": ["row", "column"],
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    make_directory(path)
    write_atomically(path / METADATA_FILE, to_json(metadata, indent=2), durable=False)


def grid_of(path: AnyPath) -> Grid:
    """Read size and chunks of a master; once per process and master."""
    with storage_errors(f"{path}: there is no such master"):
        stamp = version_of(path / "master" / METADATA_FILE)
    return _known_grid(str(path), stamp)


@lru_cache(maxsize=256)
def _known_grid(location: str, stamp: tuple[int, int | str]) -> Grid:
    return read_grid(path_of(location))


def read_grid(path: AnyPath) -> Grid:
    """Read size and chunks of a master; StorageError where the metadata of its planes are damaged or differ."""
    grids = set()
    for plane, dtype in DTYPES.items():
        if plane not in PLANES and not (path / plane / METADATA_FILE).is_file():
            continue
        metadata = read_object(path / plane / METADATA_FILE, path, MAX_METADATA_BYTES)
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
                and blosc_only(codecs[:-1] if (checksums := codecs[-1:] == [{"name": "crc32c"}]) else codecs)
            ):
                grids.add(Grid(height=height, width=width, chunk_rows=rows, has_checksums=checksums))
            case _:
                raise StorageError(f"{path}: its array {plane} is not as this program makes it; make the master again")
    if len(grids) != 1:
        raise StorageError(f"{path}: its arrays differ in size or codecs; make the master again")
    return grids.pop()


def read_object(path: AnyPath, location: AnyPath, limit_bytes: int) -> dict[str, Any]:
    """Read the JSON object in a file of the master at `location`."""
    try:
        with storage_errors(f"{location}: {path} cannot be read"):
            value = parse_json(read_bounded(path, limit_bytes))
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        raise StorageError(f"{location}: {path} is damaged: {error}; make the master again") from error
    return value
