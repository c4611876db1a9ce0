"""Ctrl-C and SIGTERM may be sent to every process of a run: the parent alone ends the run and reports it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Have children that are started inside ignore Ctrl-C; one that comes meanwhile interrupts this process at the end.

    They inherit that the thread that starts them takes no Ctrl-C; another thread may take it for this process.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield  # only the main thread may set handlers
        return
    came: list[int] = []
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        resource_tracker.ensure_running()  # it would have this thread take Ctrl-C again
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what has waited comes to the handler from above
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)


def leave_termination_to_the_parent() -> None:
    """Ignore SIGTERM, which service managers send to all processes of a group; for children that end with their parent.

    Not for those of a `ProcessPoolExecutor`: when one of them dies, it sends SIGTERM to the others and waits for them.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
