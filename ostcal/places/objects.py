"""Object stores (S3 and others) behind a few plain operations; the only module that knows obstore.

What is absent is `FileNotFoundError`, what is there already `FileExistsError`, as with files. Everything else (no
answer, no bucket, no credentials, access refused) is an `UnreachableError`, after bounded retries with backoff: it says
nothing of the object, so that no frame counts as damaged and no master is made without it because a network was away.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID`` and the like), and texts of servers, which may repeat
them, are cut down to a status and a code.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ostcal.errors import StorageError, UnreachableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES: Final = ("s3", "gs", "az", "memory")
"""Object stores that locations may name; ``memory://`` is a store of this process, for trying things out."""

EXTRA = "pip install 'ostcal[s3]'"
PART_BYTES = 8 << 20
"""Larger objects are sent in parts of this size, each with a timeout of its own; their ETag follows from it."""
PARTS_AT_ONCE = 4
"""Of one object on the way to the server; 12 are usual and would take 100 MB."""
_LOOK_UP_S = 0.2
_LAST_WAIT_S = 2.0
"""Wait for a request, its retries included, after the run was ended: locks are given back, what is begun is left."""
_CONNECT_TIMEOUT_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_ENVIRONMENT: Mapping[str, str] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<bucket>[^/]*)(?P<key>.*)", re.DOTALL)
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z-]*)*)")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_RETRIED = re.compile(r"after \d+ retries")
_NO_CREDENTIALS = (
    "169.254.169.254",
    "/latest/api/token",
    "/latest/meta-data",
    "169.254.170.2",
    "MissingCredentials",
    "computeMetadata",
    "metadata.google",
)
"""In texts of failed requests for the credentials of a virtual machine, the last place where they are looked for."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """How object stores are reached; credentials are none of it."""

    endpoint: str | None = None
    """Of a server that speaks S3, such as ``http://nas:9000``; ``None`` is that of the environment, or Amazon."""
    region: str | None = None
    retries: int = 5
    """Times that a request is made again that failed for a reason of network or server."""
    timeout_s: float = 30.0
    """Of one request, its body included."""


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """What a listing tells of an object."""

    key: str
    size: int
    modified_s: float
    """By the server's clock, seconds since 1970; whole seconds with most servers."""
    e_tag: str
    """Of its contents; empty where the server gives none."""


class _Current:
    """The options of this process, and a connection to each bucket."""

    def __init__(self) -> None:
        self.options = ObjectOptions()
        self.times_given_up = 0
        """How often a person or a scheduler ended the run."""
        self._lock = threading.Lock()
        self._stores: dict[str, ObjectStore] = {}

    def use(self, options: ObjectOptions) -> None:
        with self._lock:
            self.times_given_up = 0
            if options != self.options:
                self.options = options
                self._stores = {root: store for root, store in self._stores.items() if root.startswith("memory:")}

    def store(self, root: str) -> ObjectStore:
        with self._lock:
            if root not in self._stores:
                self._stores[root] = _connect(root, self.options)
            return self._stores[root]


_current = _Current()


def use_options(options: ObjectOptions) -> None:
    """Reach object stores in this way from now on, in this process."""
    _current.use(options)


def current_options() -> ObjectOptions:
    """Give how object stores are reached in this process."""
    return _current.options


def give_up() -> None:
    """Let all requests that wait for an answer fail now, and later ones wait for seconds: the run is to end.

    Only sets a number, as it may be called by a signal handler.
    """
    _current.times_given_up += 1


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
    """Whether a location names a scheme, not a path."""
    return "://" in location


def split_location(location: str) -> tuple[str, str]:
    """Give bucket and key of a location: ``("s3://bucket", "a/b")``.

    Raises
    ------
    StorageError
        If the scheme is none of `SCHEMES`, there is no bucket, credentials are in it, or the key leads upwards.
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
            f" {_ENVIRONMENT.get(scheme, 'them')} in the environment and give {scheme}://bucket/prefix"
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
        """Give the path of a location; errors as `split_location`."""
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
        """Give a neighbour."""
        return self.parent / name

    # ---- looking ----

    def state(self) -> ObjectState:
        """Give size, time and ETag; FileNotFoundError where there is no object."""
        return _state(self._call(lambda: _obstore().head(self._store, self.key)))

    def is_file(self) -> bool:
        """Whether there is an object."""
        try:
            return bool(self.key) and self.state() is not None
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there is anything below."""
        return self._call(lambda: bool(next(iter(_obstore().list(self._store, self.key or None)), None)), lists=True)

    def exists(self) -> bool:
        """Whether there is an object or anything below."""
        return self.is_file() or self.is_dir()

    def entries(self) -> tuple[list[str], list[str]]:
        """Give the names of prefixes and of objects directly below, sorted, as those of directories and files."""
        found = self._call(lambda: _obstore().list_with_delimiter(self._store, self.key or None), lists=True)
        below = sorted(str(prefix).rpartition("/")[2] for prefix in found["common_prefixes"])
        return below, sorted(str(item["path"]).rpartition("/")[2] for item in found["objects"])

    def objects_below(self) -> list[ObjectState]:
        """Give all objects below, at any depth, by key."""
        # whole within one call: a stream that was cut ends early when it is asked to go on
        pages = self._call(lambda: list(_obstore().list(self._store, self.key or None, chunk_size=1000)), lists=True)
        return sorted((_state(item) for page in pages for item in page), key=lambda state: state.key)

    # ---- reading ----

    def read_bytes(self) -> bytes:
        """Read an object; FileNotFoundError where there is none."""
        return self._call(lambda: bytes(_obstore().get(self._store, self.key).bytes()))

    def read_range(self, start: int, stop: int) -> bytes:
        """Read bytes of an object; fewer where it ends before `stop`."""
        if stop <= start:
            return b""
        data = self._call(lambda: bytes(_obstore().get_range(self._store, self.key, start=start, end=stop)))
        return data[: stop - start]

    def read_end(self, length: int) -> bytes:
        """Read the last bytes of an object, all of it where it is shorter."""
        return self._call(
            lambda: bytes(_obstore().get(self._store, self.key, options={"range": {"suffix": length}}).bytes())
        )

    # ---- writing ----

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Write an object, complete or absent, over what is there."""
        self._call(lambda: _obstore().put(self._store, self.key, bytes(data), chunk_size=PART_BYTES))

    def write_file(self, path: Path) -> None:
        """Write an object from a local file, in parts where it is large."""
        options = {"chunk_size": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
        self._call(lambda: _obstore().put(self._store, self.key, path, **options))

    def create(self, data: bytes) -> bool:
        """Write an object only if there is none; false where there is one."""
        try:
            self._call(lambda: _obstore().put(self._store, self.key, data, mode="create", use_multipart=False))
        except FileExistsError:
            # A request that was made again finds what its first try wrote.
            with contextlib.suppress(FileNotFoundError):
                return self.read_bytes() == data
            return False
        return True

    def replace_if(self, data: bytes, e_tag: str) -> bool:
        """Write an object only over the state that `e_tag` names; false where it is another one by now."""
        try:
            self._call(lambda: _obstore().put(self._store, self.key, data, mode={"e_tag": e_tag}, use_multipart=False))
        except (FileExistsError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                return self.read_bytes() == data
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object; none is no error, as servers do not say which."""
        self._call(lambda: _obstore().delete(self._store, self.key))

    def remove_tree(self) -> None:
        """Delete everything below."""
        keys = [state.key for state in self.objects_below()]
        for start in range(0, len(keys), 1000):
            batch = keys[start : start + 1000]
            self._call(functools.partial(_obstore().delete, self._store, batch))

    def copy_to(self, target: ObjectPath) -> None:
        """Copy an object within its bucket; the server does it."""
        self._call(lambda: _obstore().copy(self._store, self.key, target.key))

    # ---- the store ----

    @property
    def _store(self) -> ObjectStore:
        return _current.store(self.root)

    def _call(self, function: Callable[[], _T], *, lists: bool = False) -> _T:
        """Call obstore, which makes requests again that failed for a reason of network or server.

        Some it leaves after the first time: where the body of a listing or of an error was cut, or nothing came back
        from a request that changes something. Those are made again here; all that is done here may be done twice. The
        bodies of objects it does fetch again, and says the same of them where that was in vain: hence `lists`.
        """
        _obstore()
        from obstore.exceptions import BaseError

        retries, times_given_up = _current.options.retries, _current.times_given_up
        for attempt in range(retries + 1):
            try:
                return self._answer(function, times_given_up)
            except (BaseError, OSError, ValueError) as error:
                failure = _translated(self, str(error), error)
                is_last = attempt == retries or _current.times_given_up > times_given_up
                if is_last or not _was_given_up_early(str(error), lists=lists):
                    raise failure from None  # its text repeats whole answers of the server
                time.sleep(min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _answer(self, function: Callable[[], _T], times_given_up: int) -> _T:
        """Wait for a request in such a way that Ctrl-C ends the wait: obstore itself looks up after its last retry."""
        from obstore.exceptions import BaseError

        answer: Future[_T] = Future()

        def ask() -> None:
            try:
                answer.set_result(function())
            except (BaseError, OSError, ValueError, StorageError) as error:
                answer.set_exception(error)
            finally:
                if not answer.done():
                    answer.set_exception(UnreachableError(f"{self}: the request ended without an answer"))

        # A daemon, as nobody must wait for it at the end.
        threading.Thread(target=ask, name="ostcal-request", daemon=True).start()
        until_s = time.monotonic() + (_LAST_WAIT_S if times_given_up else math.inf)
        while True:
            done, _ = wait([answer], _LOOK_UP_S)
            if done:
                return answer.result()
            if _current.times_given_up > times_given_up or time.monotonic() > until_s:
                raise UnreachableError(f"{self}: the server had not answered when the run was ended")


def etag_of_file(path: Path) -> str:
    """Give the ETag that S3 and most of its kind give to a file that `ObjectPath.write_file` sent.

    MD5 of the contents; of larger files that of the MD5s of their parts, and their number (which is custom, not
    promised: where ETags differ, contents are compared).
    """
    parts = []
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    if len(parts) <= 1:
        return (parts[0] if parts else hashlib.md5(b"", usedforsecurity=False).digest()).hex()
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


# ---- obstore ----


def _obstore() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise StorageError(f"object stores need a package that is not installed: {EXTRA}") from error
    return obstore


def _connect(root: str, options: ObjectOptions) -> ObjectStore:
    _obstore()
    from obstore.exceptions import BaseError
    from obstore.store import MemoryStore, S3Store, from_url

    scheme, _, bucket = root.partition("://")
    if scheme == "memory":
        return MemoryStore()
    client: ClientConfig = {
        "timeout": timedelta(seconds=options.timeout_s),
        "connect_timeout": timedelta(seconds=min(_CONNECT_TIMEOUT_S, options.timeout_s)),
    }
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise StorageError("storage.endpoint: give the address of a server, such as https://nas:9000, and nothing else")
    if (endpoint or "").startswith("http://"):
        client["allow_http"] = True
    retry: RetryConfig = {
        "max_retries": options.retries,
        "retry_timeout": timedelta(seconds=(options.retries + 1) * options.timeout_s),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_PAUSE_S),
            "max_backoff": timedelta(seconds=_LONGEST_PAUSE_S),
            "base": 2,
        },
    }
    given = {"endpoint": endpoint, "region": options.region}
    try:
        if scheme == "s3":
            chosen: Any = {name: value for name, value in given.items() if value}
            return S3Store(bucket, client_options=client, retry_config=retry, **chosen)
        return from_url(root, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        reason = " ".join(str(error).partition("\n")[0].split())[:200]
        raise UnreachableError(
            f"{root}: it cannot be reached: {reason}; see {_ENVIRONMENT.get(scheme, 'credentials')} in the environment"
        ) from error


def _state(item: Any) -> ObjectState:
    return ObjectState(
        key=str(item["path"]),
        size=int(item["size"]),
        modified_s=item["last_modified"].timestamp(),
        e_tag=str(item["e_tag"] or "").strip('"'),
    )


def _was_given_up_early(text: str, *, lists: bool) -> bool:
    """Whether a request failed without a status and before obstore had made it again as often as it may."""
    failed = "HTTP error" in text and (lists or "Error performing" in text)
    return failed and _STATUS.search(text) is None and _RETRIED.search(text) is None


def _translated(path: ObjectPath, text: str, error: Exception) -> Exception:
    """Turn an error of obstore into one of ours that repeats nothing of a server's answer but status and code."""
    from obstore import exceptions

    code, status = _CODE.search(text), _STATUS.search(text)
    word = code[1] if code else ""
    scheme, _, bucket = path.root.partition("://")
    if word == "NoSuchBucket":
        return UnreachableError(f"{path}: there is no bucket {bucket}; make it, or correct the location")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", str(path))
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return FileExistsError(errno.EEXIST, "it is there already, or was changed meanwhile", str(path))
    if status is not None and status[1].startswith("416"):  # a range beyond the end: the object is too short
        return FileNotFoundError(errno.ENOENT, "it ends before the bytes that were asked for", str(path))
    environment = _ENVIRONMENT.get(scheme, "the credentials")
    if any(mark in text for mark in _NO_CREDENTIALS):
        return UnreachableError(f"{path}: there are no credentials; set {environment} in the environment")
    answer = " ".join(part for part in (status[1] if status else "", word) if part)
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)) or answer[:3] in (
        "401",
        "403",
    ):
        return UnreachableError(f"{path}: access was refused ({answer}); see {environment} in the environment")
    if answer:
        return UnreachableError(f"{path}: the server answered {answer}, also when asked again; try again later")
    retries = _current.options.retries
    return UnreachableError(
        f"{path}: the server does not answer (asked {retries + 1} times, each within"
        f" {_current.options.timeout_s:g} s); see storage.endpoint, storage.timeout and the network"
    )
