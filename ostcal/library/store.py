"""Masters in zarr, complete or absent: ``master_frames/masters.zarr``, a group with one subgroup per master.

The life of a master; tasks anywhere may write its strips (`ostcal.library.planes`), one process does the rest:

1. `MasterStore.create` makes the directory with the mark of its writer, and the metadata of the planes.
2. Tasks write strips, each under a temporary name, renamed; what a strip counted is kept for an interrupted run.
3. `MasterStore.commit` sees that no strip is missing, and deletes what is only for an interrupted run.
4. Every chunk and the metadata of each plane are fsync'ed, then the directories of the planes, of the master and of
   the store: nothing was waited for before.
5. The attributes of the subgroup are written under a temporary name, fsync'ed, renamed, and the directory fsync'ed:
   the master is there. The mark of the writer goes.

A subgroup without attributes does not exist; `MasterStore.discard` deletes them first. What a killed run left is taken
over by a run of the same work (`create`), or swept. docs/formats.md has the details.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from ostcal.codec import CHECKSUM_KEY, check_document, checksum_of, parse_json, to_json, to_values
from ostcal.errors import StorageError
from ostcal.frames import MAX_SIDE
from ostcal.library.planes import (
    DTYPES,
    MAX_METADATA_BYTES,
    PLANES,
    STRIPS,
    SURVEY_FILE,
    Grid,
    MasterWriter,
    StoredMaster,
    chunk_checksums,
    create_plane,
    grid_of,
    parsed_checksums,
    plane_bytes,
    read_object,
)
from ostcal.places.durable import (
    os_reason,
    read_bounded,
    storage_errors,
    sweep_partial_files,
    sweep_partials,
    sync_file,
    write_atomically,
)
from ostcal.places.locking import PROCESS_MARK, is_running
from ostcal.places.paths import (
    AnyPath,
    Location,
    directories_in,
    files_below,
    in_parallel,
    is_remote,
    joined,
    make_directory,
    make_new_directory,
    move_tree,
    names_in,
    newest_s,
    path_of,
    recent_version_of,
    remove_tree,
    sync_directory,
)
from ostcal.series.format import METADATA_FILE

FORMAT = "ostcal-master"
FORMAT_VERSION = 2
"""Of masters; the chunks of version 1 have no checksums."""
_STORE_VERSION = 1

BYTES_KEY = "plane_bytes"
_CHUNKS_KEY = "chunk_checksums"
_WRITING_FILE = "writing.json"
_MAX_ATTRIBUTES_BYTES = 1 << 26
_MAX_AGE_S = 86_400.0
_UNMARKED_AGE_S = 60.0
"""Age from which a directory without any mark counts as left behind: its maker marks it within milliseconds."""
_SYNC_THREADS = 8
_NAME = re.compile(r"[^.\s/\\:*?\"<>|\x00-\x1f][^/\\:*?\"<>|\x00-\x1f]{0,199}")


class MasterStore:
    """The masters in one store.

    Parameters
    ----------
    location : path
        Such as ``master_frames/masters.zarr``; made when the first master is created.
    """

    def __init__(self, location: Location) -> None:
        self.location = os.fspath(location)
        self._path = path_of(location)

    def create(self, name: str, shape: tuple[int, int], chunk_rows: int, *, work: str = "") -> MasterWriter:
        """Make the arrays of a new master, or take over those that an interrupted run of the same work left.

        `shape` is (height, width), `chunk_rows` the rows of the strips that will be written. `work` is a digest of all
        that decides what the strips hold; "" if nothing may be taken over.

        Raises
        ------
        StorageError
            If a master of this name is there or being written, or the store cannot be written.
        """
        path = self._subgroup(name)
        height, width = shape
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and chunk_rows > 0):
            raise StorageError(f"{path}: no master of {width} x {height} pixels in strips of {chunk_rows} rows")
        grid = Grid(height=height, width=width, chunk_rows=min(chunk_rows, height))
        try:
            make_directory(self._path)
            if not (self._path / METADATA_FILE).is_file():
                attributes = {"format": "ostcal-masters", "format_version": _STORE_VERSION}
                store = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
                write_atomically(self._path / METADATA_FILE, to_json(store, indent=2), durable=True)
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
            write_atomically(path / _WRITING_FILE, to_json(_writer_mark(work), indent=2), durable=False)
            make_directory(path / STRIPS)
            for plane, dtype in PLANES.items():
                create_plane(path / plane, grid, dtype)
        except OSError as error:
            remove_tree(path, ignore_errors=True)
            raise StorageError(f"{path}: the master cannot be created: {os_reason(error)}") from error
        return MasterWriter(location=str(path), grid=grid)

    def _adopt(self, path: AnyPath, grid: Grid, work: str) -> bool:
        """Take over what an interrupted run of the same work left; the caller holds the lock of the directory."""
        for left in self._subgroups():
            if not _is_left_behind(left) or _mark_of(left).get("work") != work or not (left / STRIPS).is_dir():
                continue
            try:
                if grid_of(left) != grid:
                    continue
            except StorageError:  # killed while its arrays were made
                continue
            if left != path:  # the same name, where a run follows within a second
                if _is_left_behind(path):
                    remove_tree(path)
                move_tree(left, path)
            write_atomically(path / _WRITING_FILE, to_json(_writer_mark(work), indent=2), durable=False)
            sweep_partials(path)
            remove_tree(path / "dq", ignore_errors=True)
            return True
        return False

    def abandon(self, name: str) -> None:
        """Mark a master that is not committed as left behind: a later run takes it over, or sweeps it."""
        path = self._subgroup(name)
        mark = {**_mark_of(path), "time": 0}
        with storage_errors(f"{path}: the master cannot be left for later"):
            if path.exists():
                write_atomically(path / _WRITING_FILE, to_json(mark, indent=2), durable=False)

    def writer(self, name: str) -> MasterWriter:
        """Return the writer of a master that was created and is not committed, in this process or another one."""
        path = self._subgroup(name)
        return MasterWriter(location=str(path), grid=grid_of(path))

    def commit(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Make a master with these attributes visible; when this returns, all of it is on the disk.

        Raises
        ------
        StorageError
            If strips are missing, or it cannot be written. Then the master stays absent.
        """
        path = self._subgroup(name)
        grid = grid_of(path)
        planes = [plane for plane in DTYPES if plane in PLANES or (path / plane).exists()]
        files = [path / plane / grid.chunk_name(chunk) for plane in planes for chunk in range(grid.n_chunks)]
        try:
            there = {str(path / plane / name) for plane in planes for name in names_in(path / plane)}
        except OSError as error:
            raise StorageError(f"{path}: the master cannot be listed: {os_reason(error)}; build it again") from error
        missing = next((file for file in files if str(file) not in there), None)
        if missing is not None:
            raise StorageError(f"{path}: the master is not complete, {missing} was not written; build it again")
        header = {**attributes, "format": FORMAT, "format_version": FORMAT_VERSION if grid.has_checksums else 1}
        with storage_errors(f"{path}: the master cannot be committed"):
            sweep_partials(path)
            if (path / STRIPS).exists():
                remove_tree(path / STRIPS)
            (path / SURVEY_FILE).unlink(missing_ok=True)
            # arrays of an interrupted run are synced here too, or a power cut would leave a master without them
            files += [path / plane / METADATA_FILE for plane in planes]
            with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # the disk orders what waits; one after the other is slower
                list(pool.map(sync_file, files))
            if grid.has_checksums and not is_remote(self._path):  # there each would be a request
                header[_CHUNKS_KEY] = chunk_checksums(path, planes, grid)
                header[BYTES_KEY] = plane_bytes(files_below(str(path)), planes, grid)
            header = to_values(header)
            header[CHECKSUM_KEY] = checksum_of(header)
            group = {"zarr_format": 3, "node_type": "group", "attributes": header}
            for directory in (*(path / plane for plane in planes), path, self._path):
                sync_directory(directory)
            write_atomically(path / METADATA_FILE, to_json(group, indent=2), durable=True)
            (path / _WRITING_FILE).unlink(missing_ok=True)

    def discard(self, name: str) -> None:
        """Delete a master, complete or not; a missing one is no error."""
        path = self._subgroup(name)
        with storage_errors(f"{path}: the master cannot be deleted"):
            if path.exists():
                (path / METADATA_FILE).unlink(missing_ok=True)  # first, so that no half of it ever counts
                sync_directory(path)
                remove_tree(path)

    def exists(self, name: str) -> bool:
        """Return whether the name is taken, by a complete master or by one that is being written."""
        return self._subgroup(name).exists()

    def is_store(self) -> bool:
        """Return whether there is a store of masters."""
        with contextlib.suppress(OSError, ValueError):
            match parse_json(read_bounded(self._path / METADATA_FILE, MAX_METADATA_BYTES)):
                case {"attributes": {"format": "ostcal-masters"}}:
                    return True
        return False

    def names(self) -> list[str]:
        """Return the names of the complete masters, sorted."""
        below = self._subgroups()
        complete = in_parallel(self._path, lambda path: (path / METADATA_FILE).is_file(), below)
        return [path.name for path, is_complete in zip(below, complete, strict=True) if is_complete]

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of a master; raise StorageError if there is none or its attributes are damaged."""
        path = self._subgroup(name)
        metadata = read_object(path / METADATA_FILE, path, _MAX_ATTRIBUTES_BYTES)
        match metadata:
            case {"attributes": {"format": "ostcal-master", "format_version": int(version)}}:
                if version <= FORMAT_VERSION:
                    attributes: dict[str, Any] = metadata["attributes"]
                    try:
                        check_document(attributes)
                    except ValueError as error:
                        raise StorageError(
                            f"{path / METADATA_FILE}: {error}; make the master again: delete {path} and run ostcal"
                            " masters"
                        ) from error
                    return attributes
                raise StorageError(f"{path}: version {version} of the format needs a newer ostcal than this one")
        raise StorageError(f"{path}: this is no master of this program; delete it, or make it again")

    def attributes_file(self, name: str) -> str:
        """Return the file that holds the attributes of a master; it is replaced as a whole, never changed."""
        return str(self._subgroup(name) / METADATA_FILE)

    def open(self, name: str) -> StoredMaster:
        """Open a complete master; raise StorageError, which lists the newest, if none has this name."""
        path = self._subgroup(name)
        if not (path / METADATA_FILE).is_file():
            there = ", ".join(self.names()[-10:]) or "none"
            raise StorageError(f"{self.location}: there is no master {name}; there are: {there}")
        with storage_errors(f"{path}: there is no such master"):
            stamp = recent_version_of(str(path / METADATA_FILE))
        checksums = _known_checksums(self.location, name, stamp)
        master = StoredMaster(location=str(path), grid=grid_of(path), checksums=checksums)
        lost = next((plane for plane in DTYPES if plane in checksums and not master.has(plane)), None)
        if lost is not None:
            raise StorageError(
                f"{path / lost / METADATA_FILE}: is missing; make the master again: delete {path} and run ostcal"
                " masters"
            )
        return master

    def left_behind(self) -> list[str]:
        """Return the names of what killed runs began and did not finish."""
        return [path.name for path in self._subgroups() if _is_left_behind(path)]

    def kept_surveys(self) -> list[dict[str, Any]]:
        """Return what `MasterWriter.keep_survey` stored with masters that nobody is writing any more."""
        kept = []
        for path in self._subgroups():
            if not _is_left_behind(path):
                continue
            with contextlib.suppress(OSError, ValueError):  # absent, or cut by a power failure
                document = parse_json(read_bounded(path / SURVEY_FILE, _MAX_ATTRIBUTES_BYTES))
                if isinstance(document, dict):
                    kept.append(document)
        return kept

    def sweep(self, *, keep_begun: bool = False, alone: bool = False) -> list[str]:
        """Delete what killed runs left behind, but nothing that a live process is still writing; return the names.

        With `keep_begun` what a later run may take over is kept. With `alone` nobody else makes masters here, so that a
        directory without its maker's mark is left behind, however new it is.
        """
        swept = []
        with storage_errors(f"{self.location}: what an earlier run left cannot be deleted"):
            if alone:
                sweep_partial_files(self._path)
            for path in self._subgroups():
                if (path / METADATA_FILE).is_file():
                    (path / _WRITING_FILE).unlink(missing_ok=True)
                elif _is_left_behind(path, alone=alone) and not (keep_begun and _mark_of(path).get("work")):
                    remove_tree(path)
                    swept.append(path.name)
        return swept

    def _subgroup(self, name: str) -> AnyPath:
        if not _NAME.fullmatch(name):
            raise StorageError(f"{self.location}: {name!r} is no name for a master")
        return self._path / name

    def _subgroups(self) -> list[AnyPath]:
        with storage_errors(f"{self.location}: the masters cannot be listed"), contextlib.suppress(FileNotFoundError):
            return directories_in(self._path)
        return []


@lru_cache(maxsize=256)
def _known_checksums(location: str, name: str, stamp: tuple[int, int | str]) -> Mapping[str, Sequence[bytes]]:
    """Read the checksums of the chunks of a master from its attributes; once per process and state of them."""
    store = MasterStore(location)
    path = joined(location, name)
    try:
        return parsed_checksums(store.attributes(name).get(_CHUNKS_KEY), grid_of(path_of(path)))
    except ValueError as error:
        raise StorageError(f"{path}: its attributes are damaged: {error}; make the master again") from error


# ---- who is writing ----


def _writer_mark(work: str) -> dict[str, Any]:
    mark = {"pid": os.getpid(), "host": socket.gethostname(), "process": PROCESS_MARK, "time": time.time()}
    return {**mark, "work": work}


def _mark_of(path: AnyPath) -> dict[str, Any]:
    """Return the mark of the writer of a master; empty if it cannot be read."""
    try:
        mark = parse_json(read_bounded(path / _WRITING_FILE, MAX_METADATA_BYTES))
    except (ValueError, OSError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_left_behind(path: AnyPath, *, alone: bool = False) -> bool:
    """Return whether a directory is of a master that was never completed and nobody is writing any more."""
    if not path.is_dir() or (path / METADATA_FILE).is_file():
        return False
    match _mark_of(path):
        case {
            "pid": int(pid), "host": str(host), "process": str(process), "time": int(since) | float(since)
        } if pid > 0:  # fmt: skip
            if time.time() - since > _MAX_AGE_S:
                return True
            return host == socket.gethostname() and not is_running(pid, process)
    try:
        return alone or time.time() - newest_s(path) > _UNMARKED_AGE_S
    except FileNotFoundError:  # another process has just swept it
        return alone
