"""How inner loops are compiled: with numba, serial, without Python's lock; Dask and the callers own the threads."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event as numba_event
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.runtime import rtsys

from ostcal.compiled import clock

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_SOURCES = ("compiling.py", "engine/rejection.py", "engine/kernels/*.py", "measure/**/*_kernels.py")
"""Every file that decides what compiled code does."""
_DIGEST_BYTES = hashlib.sha256().digest_size


def kernel(function: F) -> F:
    """Compile lazily what other kernels call: it is part of their compiled code and needs no file of its own.

    It makes no arrays, also none in passing (as assigning a slice to a slice does), and returns none, so that numba
    counts no references: counting took up to 75 % of the time of the loops over pixels. The caller's references keep
    all arrays alive. Looking for the files of forty functions takes 0.08 s at every start.
    """
    return numba.njit(_nrt=False, **_OPTIONS)(function)  # type: ignore[no-any-return]


def inlined(function: F) -> F:
    """Do `kernel` for what is called for every pixel: it is always inlined."""
    return numba.njit(forceinline=True, _nrt=False, **_OPTIONS)(function)  # type: ignore[no-any-return]


def allocating(function: F) -> F:
    """Do `kernel` for what makes and returns arrays."""
    return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def door(function: F) -> F:
    """Compile lazily what Python calls, with the disk cache where one can be written."""
    return _cached(function, _OPTIONS)


def summing_door(function: F) -> F:
    """Do `door` for sums whose last bits do not matter: terms are added in any order, as SIMD code must."""
    return _cached(function, {**_OPTIONS, "fastmath": {"reassoc"}})


def _cached(function: F, options: dict[str, Any]) -> F:
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = _Unkept()
    with suppress(RuntimeError):  # numba raises where it cannot write
        dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return]


@cache
def _digest_of_sources() -> bytes:
    """Digest all kernel sources (0.5 ms)."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(path for pattern in _SOURCES for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.digest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache, with three differences.

    Compiled code is as fresh as all kernel sources: numba looks only at the file of the function itself, and would run
    the machine code of a callee that has changed in another file.

    It is loaded without what only compiling needs: that takes 0.15 s, and 0.17 s more where SciPy is installed. If
    there is nothing to load, numba loads the rest then.

    A disk that is full or cannot be written or read costs the compiled code, not the run.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = file = _CheckedFile(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )
        # Part of the version, since unpickling what other sources left fails where a module of kernels has gone.
        file._version = f"{file._version} {_digest_of_sources().hex()}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature; ``None`` if there is none."""
        return super().load_overload(sig, _Unprepared(target_context))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save the code for a signature; where the disk refuses it, say so."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            clock.not_kept(self._cache_path, error.strerror or str(error))


class _CheckedFile(IndexDataCacheFile):  # type: ignore[misc]
    """Files of a kernel that begin with the digest of their version and contents; those that do not are absent.

    A power cut leaves files empty, and disks damage them: numba would end in an error of pickle in every run, or run
    the machine code as it is.
    """

    def _load_index(self) -> dict[Any, str]:
        try:
            stamp, overloads = self._load_data(self._index_name)
        except OSError:
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._save_data(self._index_name, (self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if self._digest(data) != digest:
            raise OSError(f"{name}: it is damaged, or of another version")
        return pickle.loads(data)  # noqa: S301 -- as trusted as the sources beside it, and what numba does

    def _save_data(self, name: str, data: Any) -> None:
        dumped = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(self._digest(dumped) + dumped)

    def _digest(self, dumped: bytes) -> bytes:
        return hashlib.sha256(self._version.encode() + dumped).digest()


class _Unprepared:
    """A target of numba's compiler that does not prepare itself for compiling when it is asked to."""

    def __init__(self, target_context: Any) -> None:
        self._target_context = target_context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target_context, name)

    def refresh(self) -> None:
        """Prepare for running what was compiled: the memory of arrays that kernels make."""
        rtsys.initialize(self._target_context)


class _Unkept(NullCache):  # type: ignore[misc]
    """Of a function whose compiled code can be written nowhere."""


class _Clocked(numba_event.Listener):  # type: ignore[misc]
    """Tells the clock when what Python calls is compiled; what it calls itself is part of that.

    numba compiles one function after another, and ends the event where it fails, too.
    """

    def on_start(self, event: Any) -> None:
        """Start the clock."""
        cache = event.data["dispatcher"]._cache
        if isinstance(cache, (_Cache, _Unkept)):
            clock.begin(is_kept=isinstance(cache, _Cache))

    def on_end(self, event: Any) -> None:
        """Stop the clock."""
        if isinstance(event.data["dispatcher"]._cache, (_Cache, _Unkept)):
            clock.end()


numba_event.register("numba:compile", _Clocked())
