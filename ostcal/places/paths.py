"""Locations: directories of this computer or prefixes of an object store, asked and changed in one way.

Above this module a location is a string and nobody asks which kind it is. A `Place` is either a `pathlib.Path` or an
`ObjectPath` with the same methods; what `os` and `shutil` have as functions is here. An object store has no
directories: one is there as long as something is below it, and making one does nothing.
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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from ostcal.errors import StorageError
from ostcal.places.objects import ObjectPath, ObjectState, etag_of_file, is_object_location

Place = Path | ObjectPath
Location = str | os.PathLike[str]

REQUESTS_AT_ONCE: Final = 16
"""Requests to an object store that one step has on the way: each waits 10 to 100 ms, most of it for the network."""
_KNOWN_FOR_S = 10.0
"""How long the state of an object is believed that only grows and is asked for with every strip."""
_BUFFER_BYTES = 1 << 16
_COMPARED_BYTES = 8 << 20
_TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
"""What network file systems give for a moment while their server restarts or a cached handle is out of date."""
_PAUSES_S = (0.1, 0.5, 2.0)

_T = TypeVar("_T")
_R = TypeVar("_R")


# ---- names ----


def is_remote(location: Location | ObjectPath) -> bool:
    """Whether a location is in an object store."""
    return isinstance(location, ObjectPath) or (not isinstance(location, Path) and is_object_location(str(location)))


def place(location: Location) -> Place:
    """Give a location as a path of its kind.

    Raises
    ------
    StorageError
        If it begins with a scheme that is none of an object store, or holds credentials.
    """
    return ObjectPath.of(str(location)) if is_remote(location) else Path(location)


def joined(location: Location, *names: str) -> str:
    """Give the location of something below another one."""
    return posixpath.join(str(location), *names) if is_remote(location) else os.path.join(location, *names)


def normalized(location: Location) -> str:
    """Give a location without needless parts, so that the same one is the same text."""
    return str(ObjectPath.of(str(location))) if is_remote(location) else os.path.normpath(location)


def absolute(location: Location) -> str:
    """Give a location that means the same in every directory."""
    return normalized(location) if is_remote(location) else os.path.abspath(location)


def parent_of(location: Location) -> str:
    """Give what a location lies in; "" for a bare name."""
    return posixpath.dirname(str(location)) if is_remote(location) else os.path.dirname(location)


def is_below(location: Location, directory: Location) -> bool:
    """Whether a location is a directory or lies below it, links followed."""
    if is_remote(location) or is_remote(directory):
        if not (is_remote(location) and is_remote(directory)):
            return False
        return f"{normalized(location)}/".startswith(f"{normalized(directory)}/")
    try:
        return Path(location).resolve().is_relative_to(Path(directory).resolve())
    except OSError:
        return False


# ---- looking ----


def exists(location: Location) -> bool:
    """Whether there is something."""
    return place(location).exists()


def is_dir(location: Location) -> bool:
    """Whether there is a directory, or something below a prefix."""
    return place(location).is_dir()


def is_taken(location: Location) -> bool:
    """Whether a name is taken, by a link that leads nowhere too."""
    return is_file(location) if is_remote(location) else os.path.lexists(location)


def is_file(location: Location) -> bool:
    """Whether there is a file or an object."""
    return place(location).is_file()


def names_in(directory: Location | Place) -> list[str]:
    """Give the names of all that lies in a directory; FileNotFoundError where a local one is missing."""
    if isinstance(directory, Path) or not is_remote(directory):
        return os.listdir(directory)  # type: ignore[arg-type]
    below, files = _objects(directory).entries()
    return [*below, *files]


def directories_in(directory: Location | Place) -> list[Place]:
    """Give the directories in a directory, sorted; FileNotFoundError where a local one is missing."""
    if is_remote(directory):
        there = _objects(directory)
        return [there / name for name in there.entries()[0]]
    with os.scandir(str(directory)) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def walk(
    directory: Location, onerror: Callable[[OSError], None] | None = None, *, followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Give directories with the names of the directories and files in them, as `os.walk` does, top down."""
    if not is_remote(directory):
        yield from os.walk(directory, onerror=onerror, followlinks=followlinks)
        return
    below, files = _objects(directory).entries()
    yield str(directory), below, files
    for name in below:
        yield from walk(joined(directory, name))


def real(location: Location) -> str:
    """Give the one name of what a location leads to, links followed."""
    return normalized(location) if is_remote(location) else os.path.realpath(location)


def files_below(directory: Location) -> dict[str, int]:
    """Give the size of all files below a directory, by their names from there with ``/``, sorted."""
    if is_remote(directory):
        root = _objects(directory)
        start = len(root.key) + 1 if root.key else 0
        return {state.key[start:]: state.size for state in root.objects_below()}
    found: dict[str, int] = {}
    for parent, below, names in os.walk(directory):
        below.sort()
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                found[Path(path).relative_to(directory).as_posix()] = os.stat(path).st_size
    return dict(sorted(found.items()))


def size_of(location: Location | Place) -> int:
    """Give the bytes of a file; OSError where there is none."""
    return _objects(location).state().size if is_remote(location) else os.stat(str(location)).st_size


def stamp_of(location: Location | Place) -> tuple[int, int | str]:
    """Give size and state of a file, which change when its contents do; OSError where there is none."""
    if is_remote(location):
        state = _objects(location).state()
        return state.size, state.e_tag or str(state.modified_s)
    status = os.stat(str(location))
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class _Known:
    stamp: tuple[int, int | str]
    until_s: float


_known: dict[str, _Known] = {}
_known_lock = threading.Lock()


def recent_stamp_of(location: str, *, fresh: bool = False) -> tuple[int, int | str]:
    """Give `stamp_of` a file that is asked for with every strip; of an object it may be ten seconds old."""
    if not is_remote(location):
        return stamp_of(location)
    now = time.monotonic()
    with _known_lock:
        known = _known.get(location)
    if fresh or known is None or known.until_s < now:
        known = _Known(stamp=stamp_of(location), until_s=now + _KNOWN_FOR_S)
        with _known_lock:
            _known[location] = known
    return known.stamp


def newest_s(directory: Place) -> float:
    """Give when something in a directory changed last, seconds since 1970; FileNotFoundError where it is missing."""
    if isinstance(directory, Path):
        return directory.stat().st_mtime
    times = [state.modified_s for state in directory.objects_below()]
    if not times:
        raise FileNotFoundError(errno.ENOENT, "there is no such prefix", str(directory))
    return max(times)


# ---- reading ----


def read_start(file: Place, length: int) -> bytes:
    """Read the first bytes of a file, all of it where it is shorter."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return stream.read(length)
    try:
        return file.read_range(0, length)
    except FileNotFoundError:
        file.state()
        return b""  # it is there and empty: no range begins in it


def read_whole(location: str) -> bytes:
    """Read a file in one go."""
    if is_remote(location):
        return _objects(location).read_bytes()
    with open(location, "rb", buffering=0) as file:
        return file.readall()


def read_range(location: str, start: int, stop: int) -> bytes:
    """Read bytes of an object; fewer where it ends before `stop`."""
    return _objects(location).read_range(start, stop)


def open_binary(location: Location) -> BinaryIO:
    """Open a file for reading, with ``seek``; objects are read by ranges, as far as they are asked for."""
    if not is_remote(location):
        return open(location, "rb")
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


def in_parallel(location: Location | Place, function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
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


def make_directory(location: Location | Place) -> None:
    """Make a directory with those above it; their names are on the disk when this returns; OSError where that fails."""
    if is_remote(location):
        return
    directory = Path(str(location)).absolute()
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(path: Place) -> None:
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


def make_new_directory(path: Place) -> None:
    """Make a directory; FileExistsError where there is one, or where anything is below a prefix."""
    if isinstance(path, Path):
        path.mkdir()
    elif path.exists():
        raise FileExistsError(errno.EEXIST, "it is there already", str(path))


def check_writable(directory: Location) -> None:
    """Make a directory and see that files can be written there; OSError where they cannot."""
    make_directory(directory)
    probe = place(joined(directory, f".ostcal-{uuid.uuid4().hex}"))
    probe.write_bytes(b"")
    probe.unlink(missing_ok=True)


def remove_tree(directory: Place, *, ignore_errors: bool = False) -> None:
    """Delete a directory and all below it, also where another process is still writing there."""
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


def move_tree(source: Place, target: Place) -> None:
    """Give a directory another name; in an object store every object is copied, then deleted."""
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
    """Give the path of a local file to be written; when the context ends well, it is at the remote location.

    Its contents are compared with what the server has.

    Raises
    ------
    StorageError
        If the server has something else than was sent.
    """
    with tempfile.TemporaryDirectory(prefix="ostcal-") as scratch:
        path = Path(scratch, "file")
        yield path
        target = _objects(location)
        target.write_file(path)
        if not same_contents(path, target, target.state()):
            raise StorageError(f"{location}: the server has other bytes than were sent; run the same command again")


def same_contents(path: Path, target: ObjectPath, state: ObjectState) -> bool:
    """Whether an object in a known state holds the bytes of a file: by size and ETag, else by all bytes."""
    if state.size != path.stat().st_size:
        return False
    if state.e_tag == etag_of_file(path):
        return True
    try:
        with path.open("rb") as file:
            for start in range(0, state.size, _COMPARED_BYTES):
                data = file.read(_COMPARED_BYTES)
                if target.read_range(start, start + len(data)) != data:
                    return False
    except FileNotFoundError:  # replaced by a shorter one meanwhile
        return False
    return True


# ---- what locks need ----


def create_exclusively(path: Place, data: bytes) -> bool:
    """Write a small file only if there is none; false where there is one."""
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
    except BaseException:  # Ctrl-C too: a lock that is half written would hold others up for two minutes
        path.unlink(missing_ok=True)
        raise
    return True


def modified_s(path: Place) -> float:
    """Give when a file was written or touched, by the clock of its server; FileNotFoundError where there is none."""
    if isinstance(path, ObjectPath):
        return path.state().modified_s
    with path.open("rb") as file:  # opening makes NFS ask its server
        return os.fstat(file.fileno()).st_mtime


def touch(path: Place) -> None:
    """Make a file look new, by the clock of its server; an object is written again, if it is still the same."""
    if isinstance(path, ObjectPath):
        state = path.state()
        path.replace_if(path.read_bytes(), state.e_tag)
    else:
        os.utime(path)


def clock_s(directory: Place) -> float:
    """Give the time as the server of a directory has it, which may differ from ours."""
    if isinstance(directory, ObjectPath):
        probe = directory / f".ostcal-clock-{uuid.uuid4().hex}"
        probe.write_bytes(b"")
        try:
            return probe.state().modified_s
        finally:
            probe.unlink()
    with tempfile.TemporaryFile(dir=directory) as file:  # without a name, where the system can do that
        return os.fstat(file.fileno()).st_mtime


def _objects(location: Location | Place) -> ObjectPath:
    return location if isinstance(location, ObjectPath) else ObjectPath.of(str(location))
