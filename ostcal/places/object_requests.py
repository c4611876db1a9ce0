"""Requests to object stores: options, connections, retries, and what their errors mean.

What is absent is `FileNotFoundError`, what exists already `FileExistsError`, as with files. Everything else (no answer,
no bucket, no credentials, access refused) is an `UnreachableError`, after bounded retries with backoff: it says nothing
of the object, so that no frame counts as damaged and no master is made without it because a network was away.

Credentials come from the environment alone (``AWS_ACCESS_KEY_ID`` and the like), and texts of servers, which may repeat
them, are cut down to a status and a code.
"""

from __future__ import annotations

import errno
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ostcal.errors import StorageError, UnreachableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

EXTRA = "pip install 'ostcal[s3]'"
CREDENTIALS: Final[Mapping[str, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Variables of the environment, by scheme."""
_LOOK_UP_S = 0.2
_LAST_WAIT_S = 2.0
"""Wait for a request, its retries included, after the run was ended: locks are given back, the rest is left."""
_CONNECT_TIMEOUT_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z-]*)*)")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_RETRIED = re.compile(r"after \d+ retries")
_ODD_KEY = re.compile(r'[Pp]ath "(.*?)"(?::| contained)', re.DOTALL)
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


class _Connections:
    """The options of this process, and a connection to each bucket."""

    def __init__(self) -> None:
        self.options = ObjectOptions()
        self.times_given_up = 0
        """How often the run was ended, by Ctrl-C or a scheduler."""
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


_connections: Final = _Connections()


def use_options(options: ObjectOptions) -> None:
    """Reach object stores in this way from now on, in this process."""
    _connections.use(options)


def give_up() -> None:
    """Let all requests that wait for an answer fail now, and later ones wait for seconds: the run is to end.

    Only sets a number, as it may be called by a signal handler.
    """
    _connections.times_given_up += 1


def store_of(root: str) -> ObjectStore:
    """Return the connection to a bucket, ``s3://bucket``; errors as `request`."""
    return _connections.store(root)


def obstore() -> Any:
    """Return the package obstore; StorageError where it is not installed."""
    try:
        import obstore as package
    except ImportError as error:
        raise StorageError(f"object stores need a package that is not installed: {EXTRA}") from error
    return package


def request(location: str, function: Callable[[], _T], *, lists: bool = False) -> _T:
    """Call a function that calls obstore, which repeats requests that failed for a reason of network or server.

    Some it does not repeat: where the body of a listing or of an error was cut, or nothing came back from a request
    that changes something. Those are repeated here; every request may be made twice. The bodies of objects it does
    fetch again, and its error is the same where that failed too: hence `lists`.

    Raises
    ------
    FileNotFoundError, FileExistsError
        What the server says of the object.
    UnreachableError
        If there is no answer, or one that says nothing of the object.
    """
    obstore()
    from obstore.exceptions import BaseError

    retries, times_given_up = _connections.options.retries, _connections.times_given_up
    for attempt in range(retries + 1):
        try:
            return _answer(location, function, times_given_up)
        except (BaseError, OSError, ValueError) as error:
            text = str(error)
            failure = _translated(location, text, error)
            was_cut = "HTTP error" in text and (lists or "Error performing" in text)
            may_repeat = was_cut and _STATUS.search(text) is None and _RETRIED.search(text) is None
            if attempt == retries or _connections.times_given_up > times_given_up or not may_repeat:
                raise failure from None  # its text repeats whole answers of the server
            time.sleep(min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _answer(location: str, function: Callable[[], _T], times_given_up: int) -> _T:
    """Wait for a request such that Ctrl-C ends the wait: obstore itself sees a signal after its last retry only."""
    from obstore.exceptions import BaseError

    answer: Future[_T] = Future()

    def ask() -> None:
        try:
            answer.set_result(function())
        except (BaseError, OSError, ValueError, StorageError) as error:
            answer.set_exception(error)
        finally:
            if not answer.done():
                answer.set_exception(UnreachableError(f"{location}: the request ended without an answer"))

    # A daemon, as nobody must wait for it at the end.
    threading.Thread(target=ask, name="ostcal-request", daemon=True).start()
    until_s = time.monotonic() + (_LAST_WAIT_S if times_given_up else math.inf)
    while True:
        done, _ = wait([answer], _LOOK_UP_S)
        if done:
            return answer.result()
        if _connections.times_given_up > times_given_up or time.monotonic() > until_s:
            raise UnreachableError(f"{location}: the server had not answered when the run was ended")


def _connect(root: str, options: ObjectOptions) -> ObjectStore:
    obstore()
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
            f"{root}: it cannot be reached: {reason}; see {CREDENTIALS.get(scheme, 'credentials')} in the environment"
        ) from error


def _translated(location: str, text: str, error: Exception) -> Exception:
    """Turn an error of obstore into one of ours that repeats nothing of a server's answer but status and code."""
    from obstore import exceptions

    code, status = _CODE.search(text), _STATUS.search(text)
    word = code[1] if code else ""
    scheme, _, rest = location.partition("://")
    if word == "NoSuchBucket":
        return UnreachableError(
            f"{location}: there is no bucket {rest.partition('/')[0]}; make it, or correct the location"
        )
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", location)
    if isinstance(error, (exceptions.AlreadyExistsError, exceptions.PreconditionError)):
        return FileExistsError(errno.EEXIST, "it is there already, or was changed meanwhile", location)
    if status is not None and status[1].startswith("416"):  # a range beyond the end: the object is too short
        return FileNotFoundError(errno.ENOENT, "it ends before the bytes that were asked for", location)
    if isinstance(error, exceptions.InvalidPathError):  # one such object spoils the listing of all others
        odd = _ODD_KEY.search(text)
        return UnreachableError(
            f"{location}: it cannot be listed: {f'the key {odd[1]}' if odd else 'a key'} has a part that is empty, '.'"
            " or '..', or that holds control characters; rename or remove that object, or give a prefix without it"
        )
    environment = CREDENTIALS.get(scheme, "the credentials")
    if any(mark in text for mark in _NO_CREDENTIALS):
        return UnreachableError(f"{location}: there are no credentials; set {environment} in the environment")
    answer = " ".join(part for part in (status[1] if status else "", word) if part)
    is_refused = isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError))
    if is_refused or answer.startswith(("401", "403")):
        return UnreachableError(f"{location}: access was refused ({answer}); see {environment} in the environment")
    if answer:
        return UnreachableError(f"{location}: the server answered {answer}, also when asked again; try again later")
    options = _connections.options
    return UnreachableError(
        f"{location}: the server does not answer (asked {options.retries + 1} times, each within"
        f" {options.timeout_s:g} s); see storage.endpoint, storage.timeout and the network"
    )
