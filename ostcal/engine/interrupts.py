"""Ctrl-C and SIGTERM may be sent to every process of a run: the parent alone ends the run and reports it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C while children are started, which inherit that."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def leave_termination_to_the_parent() -> None:
    """Ignore SIGTERM, which service managers send to all processes of a group; for children that end with their parent.

    Not for those of a `ProcessPoolExecutor`: when one of them dies, it sends SIGTERM to the others and waits for them.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
