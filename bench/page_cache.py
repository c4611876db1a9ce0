"""The system's page cache: how much of a file is in it, and how to get a file out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PIECE_BYTES = 1 << 20


def files_below(path: Path) -> list[Path]:
    """Give a file itself, or all files below a directory."""
    return [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())


def can_be_cold() -> bool:
    """Whether this system lets a program take its own files out of the page cache and see that they are gone."""
    return hasattr(os, "posix_fadvise") and hasattr(os, "RWF_NOWAIT")


def evict(files: Iterable[Path]) -> None:
    """Take files out of the page cache; what is not on the disk yet is written first."""
    os.sync()
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(files: Iterable[Path]) -> float:
    """Give the share of sampled bytes (one in each MiB) that are in the page cache, without reading them into it."""
    there = asked = 0
    buffer = bytearray(1)
    for path in files:
        with path.open("rb", buffering=0) as file:
            for offset in range(0, max(1, path.stat().st_size), PIECE_BYTES):
                asked += 1
                try:
                    there += os.preadv(file.fileno(), [buffer], offset, os.RWF_NOWAIT)
                except BlockingIOError:
                    continue
    return there / asked if asked else 0.0


def read_into_nothing(files: Iterable[Path]) -> int:
    """Read files from their beginning to their end in pieces of 1 MiB; gives the bytes."""
    buffer = bytearray(PIECE_BYTES)
    total = 0
    for path in files:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total
