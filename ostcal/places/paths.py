"""Files and directories of this computer and of object stores, read and changed in one way.

A *location* is a string: a path, or ``s3://bucket/prefix``. The rooms above hold locations and do not distinguish the
two kinds. A *path* is what a location becomes when it is used (`path_of`): a `pathlib.Path`, or an `ObjectPath` with
the same methods. The functions of `os` and `shutil` are here for both. An object store has no directories: one exists
as long as something is below it, and making one does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import posixpath
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from ostcal.errors import StorageError
from ostcal.opening import open_regular
from ostcal.places.objects import ObjectPath, ObjectState, etag_of_file, is_object_location

AnyPath = Path | ObjectPath
Location = str | os.PathLike[str]

REQUESTS_AT_ONCE: Final = 16
"""Requests to an object store that one step makes at a time: each takes 10 to 100 ms, most of it in the network."""
_KNOWN_FOR_S = 10.0
"""How long the version of an object is believed that only grows and is asked for with every strip."""
_BUFFER_BYTES = 1 << 16
_COMPARED_BYTES = 8 << 20
_TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
"""Errors of network file systems while their server restarts or a cached handle is out of date."""
_PAUSES_S = (0.1, 0.5, 2.0)

_T = TypeVar("_T")
_R = TypeVar("_R")


# ---- names ----


def is_remote(location: Location | ObjectPath) -> bool:
    """Return whether a location is in an object store."""
    return isinstance(location, ObjectPath) or (not isinstance(location, Path) and is_object_location(str(location)))


def path_of(location: Location) -> AnyPath:
    """Return the path of a location; StorageError where it has an unknown scheme, or holds credentials."""
    return ObjectPath.of(str(location)) if is_remote(location) else Path(location)


def joined(location: Location, *names: str) -> str:
    """Return the location of a name below another location."""
    return posixpath.join(str(location), *names) if is_remote(location) else os.path.join(location, *names)


def normalized(location: Location) -> str:
    """Return a location without needless parts, so that one file has one text."""
    return str(ObjectPath.of(str(location))) if is_remote(location) else os.path.normpath(location)


def absolute(location: Location) -> str:
    """Return a location that does not depend on the current directory."""
    return normalized(location) if is_remote(location) else os.path.abspath(location)


def parent_of(location: Location) -> str:
    """Return the directory of a location; "" for a bare name."""
    return posixpath.dirname(str(location)) if is_remote(location) else os.path.dirname(location)


def is_below(location: Location, directory: Location) -> bool:
    """Return whether a location is a directory or lies below it, links followed."""
    if is_remote(location) or is_remote(directory):
        if not (is_remote(location) and is_remote(directory)):
            return False
        return f"{normalized(location)}/".startswith(f"{normalized(directory)}/")
    # not Path.resolve: it raises RuntimeError at a link to itself
    return Path(os.path.realpath(location)).is_relative_to(os.path.realpath(directory))


# ---- looking ----


def exists(location: Location) -> bool:
    """Return whether there is a file, a directory or an object."""
    return path_of(location).exists()


def is_dir(location: Location) -> bool:
    """Return whether there is a directory, or an object below a prefix."""
    return path_of(location).is_dir()


def is_taken(location: Location) -> bool:
    """Return whether a name is taken, also by a broken link."""
    return is_file(location) if is_remote(location) else os.path.lexists(location)


def is_file(location: Location) -> bool:
    """Return whether there is a file or an object."""
    return path_of(location).is_file()


def names_in(directory: Location | AnyPath) -> list[str]:
    """Return the names in a directory; FileNotFoundError where a local one is missing."""
    if isinstance(directory, Path) or not is_remote(directory):
        return os.listdir(directory)  # type: ignore[arg-type]
    below, files = _objects(directory).entries()
    return [*below, *files]


def directories_in(directory: Location | AnyPath) -> list[AnyPath]:
    """Return the directories in a directory, sorted; FileNotFoundError where a local one is missing."""
    if is_remote(directory):
        there = _objects(directory)
        return [there / name for name in there.entries()[0]]
    with os.scandir(str(directory)) as entries:
        # not DirEntry.is_dir: it raises OSError at a link to itself
        return sorted(Path(entry.path) for entry in entries if os.path.isdir(entry.path))


def walk(
    directory: Location, onerror: Callable[[OSError], None] | None = None, *, followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield directories with the names of the directories and files in them, top down, as `os.walk` does."""
    if not is_remote(directory):
        yield from _walk_here(str(directory), onerror, followlinks=followlinks)
        return
    below, files = _objects(directory).entries()
    yield str(directory), below, files
    for name in below:
        yield from walk(joined(directory, name))


def _walk_here(
    directory: str, onerror: Callable[[OSError], None] | None = None, *, followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield as `os.walk` does, at any depth: that of Python 3.11 calls itself for each level."""
    waiting = [directory]
    while waiting:
        parent = waiting.pop()
        below: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    (below if _is_folder(entry) else names).append(entry.name)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        yield parent, below, names
        paths = [os.path.join(parent, name) for name in reversed(below)]
        waiting += [path for path in paths if followlinks or not os.path.islink(path)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


class VisitedFolders:
    """The folders of a walk, top down: one that is reached twice, by a link, counts once.

    Following the links of each path from its beginning would take minutes in a tree of 2,000 levels.
    """

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._visited: set[str] = set()

    def is_new(self, folder: str) -> bool:
        """Note a folder; return whether it was not visited before."""
        above = self._real.get(parent_of(folder))
        name = os.path.basename(folder)
        is_plain = name not in ("", ".", "..") and not is_remote(folder) and not os.path.islink(folder)
        own = joined(above, name) if above is not None and is_plain else real(folder)
        self._real[folder] = own
        if own in self._visited:
            return False
        self._visited.add(own)
        return True


def real(location: Location) -> str:
    """Return a location with its links followed."""
    return normalized(location) if is_remote(location) else os.path.realpath(location)


def files_below(directory: Location) -> dict[str, int]:
    """Return the sizes in bytes of all files below a directory, by their relative names with ``/``, sorted."""
    if is_remote(directory):
        root = _objects(directory)
        start = len(root.key) + 1 if root.key else 0
        return {state.key[start:]: state.size for state in root.objects_below()}
    found: dict[str, int] = {}
    for parent, below, names in _walk_here(str(directory)):
        below.sort()
        for name in names:
            path = os.path.join(parent, name)
            try:
                found[Path(path).relative_to(directory).as_posix()] = os.stat(path).st_size
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):  # deleted meanwhile, or a link to nothing
                    raise
    return dict(sorted(found.items()))


def size_of(location: Location | AnyPath) -> int:
    """Return the bytes of a file; raise OSError if there is none."""
    return _objects(location).state().size if is_remote(location) else os.stat(str(location)).st_size


def version_of(location: Location | AnyPath) -> tuple[int, int | str]:
    """Return size and time or ETag of a file, which change when its contents do; raise OSError if there is none."""
    if is_remote(location):
        state = _objects(location).state()
        return state.size, state.e_tag or str(state.modified_s)
    status = os.stat(str(location))
    return status.st_size, status.st_mtime_ns


class _RecentVersions:
    """Versions of objects, each believed for ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, tuple[float, tuple[int, int | str]]] = {}

    def of(self, location: str, *, fresh: bool) -> tuple[int, int | str]:
        with self._lock:
            until_s, version = self._versions.get(location, (0.0, None))
        if fresh or version is None or until_s < time.monotonic():
            until_s, version = time.monotonic() + _KNOWN_FOR_S, version_of(location)
            with self._lock:
                self._versions[location] = until_s, version
        return version


_recent_versions: Final = _RecentVersions()


def recent_version_of(location: str, *, fresh: bool = False) -> tuple[int, int | str]:
    """Return `version_of` a file that is asked for with every strip; of an object it may be ten seconds old."""
    return _recent_versions.of(location, fresh=fresh) if is_remote(location) else version_of(location)


def newest_s(directory: AnyPath) -> float:
    """Return when a directory was changed last, seconds since 1970; FileNotFoundError where it is missing."""
    if isinstance(directory, Path):
        return directory.stat().st_mtime
    times = [state.modified_s for state in directory.objects_below()]
    if not times:
        raise FileNotFoundError(errno.ENOENT, "there is no such prefix", str(directory))
    return max(times)


# ---- reading ----


def read_start(file: AnyPath, length: int) -> bytes:
    """Read the first bytes of a file, all of it where it is shorter."""
    if isinstance(file, Path):
        with open(file, "rb", opener=open_regular) as stream:
            return stream.read(length)
    try:
        return file.read_range(0, length)
    except FileNotFoundError:
        file.state()
        return b""  # it exists and is empty: no range begins in it


def read_whole(location: str) -> bytes:
    """Read a file in one go."""
    if is_remote(location):
        return _objects(location).read_bytes()
    with open(location, "rb", buffering=0, opener=open_regular) as file:
        return file.readall()


def read_range(location: str, start: int, stop: int) -> bytes:
    """Read bytes of an object; fewer where it ends before `stop`."""
    return _objects(location).read_range(start, stop)


def open_binary(location: Location) -> BinaryIO:
    """Open a file for reading, with ``seek``; objects are read by ranges, as far as they are asked for."""
    if not is_remote(location):
        return open(location, "rb", opener=open_regular)
    return io.BufferedReader(_ObjectReader(_objects(location)), _BUFFER_BYTES)


class _ObjectReader(io.RawIOBase):
    """An object as a file: every read is a range."""

    def __init__(self, path: ObjectPath) -> None:
        self._path = path
        self._size = path.state().size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        stop = min(self._at + len(view), self._size)
        data = self._path.read_range(self._at, stop) if self._at < stop else b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def in_parallel(location: Location | AnyPath, function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Call a function for each item: several at a time where each is a request to an object store."""
    if not is_remote(location):
        return [function(item) for item in items]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="ostcal-objects") as pool:
        return list(pool.map(function, items))


def retried(function: Callable[[], _T], pauses_s: Iterable[float] = _PAUSES_S) -> _T:
    """Call a function that reads local files, again where a network file system failed for a moment."""
    for pause_s in pauses_s:
        try:
            return function()
        except OSError as error:
            if error.errno not in _TRANSIENT:
                raise
            time.sleep(pause_s)
    return function()


# ---- writing ----


def make_directory(location: Location | AnyPath) -> None:
    """Make a directory with those above it; their names are on the disk when this returns; OSError where that fails."""
    if is_remote(location):
        return
    directory = Path(str(location)).absolute()
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(path: AnyPath) -> None:
    """Wait until the names in a directory are on the disk; does nothing where the system cannot (Windows)."""
    if os.name == "nt" or isinstance(path, ObjectPath):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # of a directory that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def make_new_directory(path: AnyPath) -> None:
    """Make a directory; FileExistsError where there is one, or anything below a prefix."""
    if isinstance(path, Path):
        path.mkdir()
    elif path.exists():
        raise FileExistsError(errno.EEXIST, "it is there already", str(path))


def check_writable(directory: Location) -> None:
    """Make a directory and check that files can be written there; OSError where they cannot."""
    make_directory(directory)
    probe = path_of(joined(directory, f".ostcal-{uuid.uuid4().hex}"))
    probe.write_bytes(b"")
    probe.unlink(missing_ok=True)


def remove_tree(directory: AnyPath, *, ignore_errors: bool = False) -> None:
    """Delete a directory and everything below it, also while another process is still writing there."""
    if isinstance(directory, Path):
        for pause_s in _PAUSES_S if not ignore_errors else ():
            try:
                shutil.rmtree(directory)
                return
            except FileNotFoundError:  # what another process has just removed or renamed
                if not directory.exists():
                    return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            time.sleep(pause_s)
        shutil.rmtree(directory, ignore_errors=ignore_errors)
        return
    try:
        directory.remove_tree()
    except StorageError:
        if not ignore_errors:
            raise


def move_tree(source: AnyPath, target: AnyPath) -> None:
    """Rename a directory; in an object store every object is copied, then deleted."""
    if isinstance(source, Path) and isinstance(target, Path):
        source.rename(target)
        return
    if isinstance(source, ObjectPath) and isinstance(target, ObjectPath):
        names = list(files_below(str(source)))
        in_parallel(source, lambda name: (source / name).copy_to(target / name), names)
        source.remove_tree()
        return
    raise ValueError(f"{source} and {target} are of two kinds")


@contextlib.contextmanager
def local_copy_for(location: str) -> Iterator[Path]:
    """Yield the path of a local file to be written; when the context ends well, it is sent to the remote location.

    What the server has then is compared with it; a difference is a StorageError.
    """
    with tempfile.TemporaryDirectory(prefix="ostcal-") as scratch:
        path = Path(scratch, "file")
        yield path
        target = _objects(location)
        target.write_file(path)
        if not same_contents(path, target, target.state()):
            raise StorageError(f"{location}: the server has other bytes than were sent; run the same command again")


def same_contents(path: Path, target: ObjectPath, state: ObjectState) -> bool:
    """Return whether an object holds the bytes of a file, by size and ETag, else by all bytes."""
    if state.size != path.stat().st_size:
        return False
    if state.e_tag == etag_of_file(path):
        return True
    try:
        with open(path, "rb", opener=open_regular) as file:
            for start in range(0, state.size, _COMPARED_BYTES):
                data = file.read(_COMPARED_BYTES)
                if target.read_range(start, start + len(data)) != data:
                    return False
    except FileNotFoundError:  # replaced by a shorter one meanwhile
        return False
    return True


# ---- what locks need ----


def create_exclusively(path: AnyPath, data: bytes) -> bool:
    """Write a small file if there is none; returns false where there is one.

    It is on the disk when this returns: an empty lock after a power cut says neither whose it is nor that it is gone.
    """
    if isinstance(path, ObjectPath):
        return path.create(data)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    except PermissionError:
        if os.name == "nt" and path.exists():  # being deleted by somebody who had it open
            return False
        raise
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # Ctrl-C too: a lock that is half written would hold others up for two minutes
        path.unlink(missing_ok=True)
        raise
    return True


def modified_s(path: AnyPath) -> float:
    """Return when a file was written or touched (clock of its server); raise FileNotFoundError if there is none."""
    if isinstance(path, ObjectPath):
        return path.state().modified_s
    with open(path, "rb", opener=open_regular) as file:  # opening makes NFS ask its server
        return os.fstat(file.fileno()).st_mtime


def touch(path: AnyPath) -> None:
    """Set the time of a file to now, by the clock of its server; an object that is still the same is written again."""
    if isinstance(path, ObjectPath):
        state = path.state()
        path.replace_if(path.read_bytes(), state.e_tag)
    else:
        os.utime(path)


def clock_s(directory: AnyPath) -> float:
    """Return the time of the server of a directory, which may differ from that of this computer."""
    if isinstance(directory, ObjectPath):
        probe = directory / f".ostcal-clock-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        try:
            return probe.state().modified_s
        finally:
            probe.unlink()
    with tempfile.TemporaryFile(dir=directory) as file:  # without a name, where the system can do that
        return os.fstat(file.fileno()).st_mtime


def _objects(location: Location | AnyPath) -> ObjectPath:
    return location if isinstance(location, ObjectPath) else ObjectPath.of(str(location))
