"""How inner loops are compiled: with numba, serial, without Python's lock; Dask and the callers own the threads."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def import_without(left_out: str, module: str) -> None:
    """Import `module` as if `left_out`, which it can do without, were not installed.

    For a process of our own, to start sooner. Elsewhere in the process `left_out` can be imported as before.

    Parameters
    ----------
    left_out, module : str
        Full names. Nothing is done where `left_out` is imported already.
    """
    if left_out in sys.modules:
        return
    sys.modules[left_out] = None  # type: ignore[assignment]  # an import that finds None fails
    try:
        importlib.import_module(module)
    finally:
        del sys.modules[left_out]


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
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba raises where it cannot write
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
