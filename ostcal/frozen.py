"""Ends children that are stopped (SIGSTOP): one would be waited for without end, and one that died is replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOKS = 5
"""So many in a row: Ctrl-Z stops this process too, which then looks at nothing, and may wake up first."""


@contextmanager
def stopped_children_end(children: Callable[[], Collection[int]]) -> Iterator[None]:
    """Watch children of this process inside, given by their process ids at each look; end those that stay stopped.

    Only Linux says of a process that it is stopped; elsewhere nothing is watched.
    """
    if sys.platform != "linux":
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(children, ended), name="ostcal-stopped", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def processes_from_now_on() -> Callable[[], set[int]]:
    """Return what lists the processes that this one has started with `multiprocessing` since (Linux; empty elsewhere).

    `multiprocessing.active_children` would take the exit status of those that have ended from whoever waits for them.
    """
    before = _spawned()
    return lambda: _spawned() - before


def _spawned() -> set[int]:
    own, found = str(os.getpid()).encode("ascii"), set()
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                if _state_and_parent(int(entry.name))[1:] == [own]:
                    with open(f"{entry.path}/cmdline", "rb") as file:
                        if b"--multiprocessing-fork" in file.read().split(b"\0"):
                            found.add(int(entry.name))
    return found


def _watch(children: Callable[[], Collection[int]], ended: threading.Event) -> None:
    looks: Counter[int] = Counter()
    while not ended.wait(_LOOK_S):
        stopped = [child for child in children() if is_stopped(child)]
        looks = Counter({child: looks[child] + 1 for child in stopped})
        for child in (child for child, times in looks.items() if times >= _LOOKS):
            logger.warning(
                "process %d was stopped (SIGSTOP) and does not go on; it is ended, its work done again", child
            )
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def is_stopped(process: int) -> bool:
    """Return whether a process waits for SIGCONT (Linux)."""
    with contextlib.suppress(OSError):
        return _state_and_parent(process)[:1] == [b"T"]
    return False


def _state_and_parent(process: int) -> list[bytes]:
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[:2]
