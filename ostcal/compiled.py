"""Compiled kernels, without importing the compiler: where they are kept, and how long compiling took."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("ostcal")

_PAUSE_S = 5.0
"""After this time without compiling, it is said again that kernels are compiled."""
_ONCE = "compiling the kernels, once for each type of samples: 10 to 40 s on an idle computer"
_EVERY_TIME = (
    "compiling the kernels, in every run 10 to 40 s, as compiled code cannot be kept; set NUMBA_CACHE_DIR to a"
    " directory that you may write"
)
_MORE = "compiling more kernels"
_NOT_KEPT = (
    "%s: compiled kernels cannot be written there (%s), and are compiled again in every run, 10 to 40 s; free space, or"
    " set NUMBA_CACHE_DIR to a directory that you may write"
)


class CompileClock:
    """Says when kernels are compiled, and how long that has taken in this process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._depth = 0
        self._began = 0.0
        self._ended: float | None = None
        self._finished_s = 0.0
        self._is_loss_said = False
        self.listener: Callable[[str], None] = lambda line: None
        """Called with what is logged; who uses Python does not see the log by default."""

    @property
    def is_running(self) -> bool:
        """Return whether kernels are compiled at the moment."""
        return self._depth > 0

    def seconds(self) -> float:
        """Return the time that was spent on compiling, up to now."""
        return self._finished_s + (self._now() - self._began if self.is_running else 0.0)

    def begin(self, *, is_kept: bool) -> None:
        """Start, and say so unless it was just said; `is_kept` tells whether the compiled code can be kept."""
        self._depth += 1
        if self._depth > 1:
            return
        self._began = self._now()
        if self._ended is None:
            self._say(_ONCE if is_kept else _EVERY_TIME)
        elif self._began - self._ended > _PAUSE_S:
            self._say(_MORE)

    def _say(self, line: str) -> None:
        logger.info(line)
        self.listener(line)

    def not_kept(self, directory: str, reason: str) -> None:
        """Say, once in a process, that compiled code could not be written."""
        if not self._is_loss_said:
            self._is_loss_said = True
            logger.warning(_NOT_KEPT, directory, reason)

    def end(self) -> None:
        """Stop."""
        self._depth -= 1
        if not self.is_running:
            self._ended = self._now()
            self._finished_s += self._ended - self._began


clock = CompileClock()
"""Of this process."""


@dataclass(frozen=True, kw_only=True)
class KernelCache:
    """Where compiled kernels are kept."""

    directory: str
    is_writable: bool

    @classmethod
    def among(cls, places: Sequence[Path]) -> KernelCache:
        """Return the first place where files can be made, else the first."""
        directory = next((place for place in places if _may_write(place)), places[0])
        return cls(directory=str(directory), is_writable=_may_write(directory))

    def __str__(self) -> str:
        state = "" if self.is_writable else " (not writable: they are compiled in every run; set NUMBA_CACHE_DIR)"
        return f"{self.directory}{state}"


def kernel_cache() -> KernelCache:
    """Return where numba keeps the compiled kernels: as it decides itself, which takes importing it, 0.3 s."""
    beside = Path(__file__).parent / "engine" / "kernels" / "__pycache__"
    given = os.environ.get("NUMBA_CACHE_DIR")
    return KernelCache.among([*([Path(given)] if given else []), beside, _of_user()])


def _of_user() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "numba" / "numba" / "Cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/numba").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "numba"


def _may_write(directory: Path) -> bool:
    """Return whether files can be made there; it is made itself when it is needed."""
    there = next((place for place in (directory, *directory.parents) if place.exists()), directory)
    return there.is_dir() and os.access(there, os.W_OK)
