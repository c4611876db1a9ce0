"""Paths of objects in a store (S3 and others), with a few plain operations; errors as `object_requests` says."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ostcal.errors import StorageError
from ostcal.opening import open_regular
from ostcal.places.object_requests import CREDENTIALS, ObjectOptions, obstore, request, store_of, use_options

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "gs", "az", "memory")
"""Object stores that locations may name; ``memory://`` is a store of this process, for trying things out."""

PART_BYTES = 8 << 20
"""Larger objects are sent in parts of this size, each with a timeout of its own; their ETag follows from it."""
PARTS_AT_ONCE = 4
"""Of one object on the way to the server; 12 are usual and would take 100 MB."""
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<bucket>[^/]*)(?P<key>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """What a listing tells of an object."""

    key: str
    size: int
    modified_s: float
    """By the server's clock, seconds since 1970; whole seconds with most servers."""
    e_tag: str
    """Of its contents; empty where the server gives none."""


@dataclass(frozen=True, kw_only=True)
class ObjectAccess:
    """Called in a process that works for this one: reaches object stores in the same way, and sees that it can.

    Credentials do not travel: each computer has its own in its environment.
    """

    options: ObjectOptions
    read: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def __call__(self) -> None:
        """Take over the options and look at all places; UnreachableError where that is refused."""
        use_options(self.options)
        for location in (*self.read, *self.written):
            ObjectPath.of(location).is_dir()
        for location in self.written:
            probe = ObjectPath.of(location) / f".ostcal-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()


def is_object_location(location: str) -> bool:
    """Return whether a location names a scheme, not a path."""
    return "://" in location


def split_location(location: str) -> tuple[str, str]:
    """Return bucket and key of a location: ``("s3://bucket", "a/b")``.

    Raise StorageError for another scheme than `SCHEMES`, no bucket, credentials in it, or a key that leads upwards.
    """
    found = _URL.fullmatch(location)
    scheme = found["scheme"].lower() if found else ""
    if found is None or scheme not in SCHEMES:
        # what follows the scheme may hold a password or a signature
        raise StorageError(
            f"{scheme or location[:20]}://...: no scheme of a location; give a path, or"
            f" {', '.join(f'{name}://' for name in SCHEMES[:-1])} with a bucket"
        )
    bucket = found["bucket"]
    if "@" in bucket or ":" in bucket:
        raise StorageError(
            f"{scheme}://...: credentials do not belong into a location, which is shown and stored; set"
            f" {CREDENTIALS.get(scheme, 'them')} in the environment and give {scheme}://bucket/prefix"
        )
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"{location}: it names no bucket; give {scheme}://bucket/prefix")
    words = [word for word in found["key"].split("/") if word not in ("", ".")]
    if ".." in words:
        raise StorageError(f"{location}: '..' leads nowhere in an object store; give the place itself")
    return f"{scheme}://{bucket}", "/".join(words)


@functools.total_ordering
@dataclass(frozen=True)
class ObjectPath:
    """An object, or all below a prefix; has the methods of `pathlib.Path` that this package uses."""

    root: str
    """Scheme and bucket: ``s3://bucket``."""
    key: str

    @classmethod
    def of(cls, location: str) -> ObjectPath:
        """Return the path of a location; errors as `split_location`."""
        return cls(*split_location(location))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath.of(f"{self}/{name}")

    def __lt__(self, other: ObjectPath) -> bool:
        return (self.root, self.key) < (other.root, other.key)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        """What it lies in."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> ObjectPath:
        """Return a neighbour."""
        return self.parent / name

    # ---- looking ----

    def state(self) -> ObjectState:
        """Return size, time and ETag; FileNotFoundError where there is no object."""
        return _state(self._call(lambda: obstore().head(self._store, self.key)))

    def is_file(self) -> bool:
        """Return whether there is an object."""
        try:
            return bool(self.key) and self.state() is not None
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Return whether there is anything below."""
        return self._call(lambda: bool(next(iter(obstore().list(self._store, self.key or None)), None)), lists=True)

    def exists(self) -> bool:
        """Return whether there is an object or anything below."""
        return self.is_file() or self.is_dir()

    def entries(self) -> tuple[list[str], list[str]]:
        """Return the names of prefixes and of objects directly below, sorted, as those of directories and files."""
        found = self._call(lambda: obstore().list_with_delimiter(self._store, self.key or None), lists=True)
        below = sorted(str(prefix).rpartition("/")[2] for prefix in found["common_prefixes"])
        return below, sorted(str(item["path"]).rpartition("/")[2] for item in found["objects"])

    def objects_below(self) -> list[ObjectState]:
        """Return all objects below, at any depth, by key."""
        # whole within one call: a stream that was cut ends early when it is asked to go on
        pages = self._call(lambda: list(obstore().list(self._store, self.key or None, chunk_size=1000)), lists=True)
        return sorted((_state(item) for page in pages for item in page), key=lambda state: state.key)

    # ---- reading ----

    def read_bytes(self) -> bytes:
        """Read an object; raise FileNotFoundError if there is none."""
        return self._call(lambda: bytes(obstore().get(self._store, self.key).bytes()))

    def read_range(self, start: int, stop: int) -> bytes:
        """Read bytes of an object; fewer where it ends before `stop`."""
        if stop <= start:
            return b""
        data = self._call(lambda: bytes(obstore().get_range(self._store, self.key, start=start, end=stop)))
        return data[: stop - start]

    # ---- writing ----

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Write an object, complete or absent, over what is there."""
        self._call(lambda: obstore().put(self._store, self.key, bytes(data), chunk_size=PART_BYTES))

    def write_file(self, path: Path) -> None:
        """Write an object from a local file, in parts where it is large."""
        options = {"chunk_size": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
        self._call(lambda: obstore().put(self._store, self.key, path, **options))

    def create(self, data: bytes) -> bool:
        """Write an object only if there is none; false where there is one."""
        return self._put_if(data, "create", FileExistsError)

    def replace_if(self, data: bytes, e_tag: str) -> bool:
        """Write an object only over the state that `e_tag` names; false where it is another one by now."""
        return self._put_if(data, {"e_tag": e_tag}, FileExistsError, FileNotFoundError)

    def _put_if(self, data: bytes, mode: str | dict[str, str], *refusals: type[OSError]) -> bool:
        try:
            self._call(lambda: obstore().put(self._store, self.key, data, mode=mode, use_multipart=False))
        except refusals:
            # a request that was made again finds what its first try wrote
            with contextlib.suppress(FileNotFoundError):
                return self.read_bytes() == data
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object; none is no error, as servers do not say which."""
        self._call(lambda: obstore().delete(self._store, self.key))

    def remove_tree(self) -> None:
        """Delete everything below."""
        keys = [state.key for state in self.objects_below()]
        for start in range(0, len(keys), 1000):
            batch = keys[start : start + 1000]
            self._call(functools.partial(obstore().delete, self._store, batch))

    def copy_to(self, target: ObjectPath) -> None:
        """Copy an object within its bucket; the server does it."""
        self._call(lambda: obstore().copy(self._store, self.key, target.key))

    @property
    def _store(self) -> ObjectStore:
        return store_of(self.root)

    def _call(self, function: Callable[[], _T], *, lists: bool = False) -> _T:
        return request(str(self), function, lists=lists)


def etag_of_file(path: Path) -> str:
    """Return the ETag that S3 and most of its kind give to a file that `ObjectPath.write_file` sent.

    MD5 of the contents; of larger files that of the MD5s of their parts, and their number (which is custom, not
    promised: where ETags differ, contents are compared).
    """
    parts = []
    with open(path, "rb", opener=open_regular) as file:
        while data := file.read(PART_BYTES):
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    if len(parts) <= 1:
        return (parts[0] if parts else hashlib.md5(b"", usedforsecurity=False).digest()).hex()
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _state(item: Any) -> ObjectState:
    return ObjectState(
        key=str(item["path"]),
        size=int(item["size"]),
        modified_s=item["last_modified"].timestamp(),
        e_tag=str(item["e_tag"] or "").strip('"'),
    )
