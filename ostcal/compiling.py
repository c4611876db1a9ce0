"""How inner loops are compiled: with numba, serial, without Python's lock; Dask and the callers own the threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile lazily what other kernels call: it is part of their compiled code and needs no file of its own.

    Looking for the files of forty functions takes 0.08 s at every start.
    """
    return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def door(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile lazily what Python calls, with the disk cache where one can be written."""
    return _cached(function, _OPTIONS)


def summing_door(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do `door` for sums whose last bits do not matter: terms are added in any order, as SIMD code must."""
    return _cached(function, {**_OPTIONS, "fastmath": {"reassoc"}})


def _cached(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    dispatcher = numba.njit(**options)(function)
    with suppress(RuntimeError):  # numba raises where it cannot write
        dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return]


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache, which gives compiled code without loading first what only compiling needs.

    That takes 0.15 s, and 0.17 s more where SciPy is installed. Where there is nothing to load, numba does it then.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the code for a signature; ``None`` where there is none."""
        return super().load_overload(sig, _Unprepared(target_context))


class _Unprepared:
    """A target of numba's compiler that does not prepare itself for compiling when it is asked to."""

    def __init__(self, target_context: Any) -> None:
        self._target_context = target_context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target_context, name)

    def refresh(self) -> None:
        """Prepare for running what was compiled: the memory of arrays that kernels make."""
        rtsys.initialize(self._target_context)
