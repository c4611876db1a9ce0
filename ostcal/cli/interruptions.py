"""Ctrl-C and SIGTERM end the work of a command, wherever they come."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

_AGAIN_S = 0.1


@dataclass
class Termination:
    """Record of whether SIGTERM came, or anything interrupted; not frozen, as a signal handler sets it."""

    came: bool = False
    is_interrupted: bool = False


class _Interruption(KeyboardInterrupt):
    """What a signal raises.

    Not `KeyboardInterrupt` itself: where that passes through a text that is run as code (`exec`, with which dataclasses
    and numba make functions), CPython ends with SIGINT in the end, whatever the exit code.
    """


@contextlib.contextmanager
def signals_interrupt() -> Iterator[Termination]:
    """Let SIGTERM, which service managers and schedulers send, interrupt the work as Ctrl-C does.

    Both also end the wait for object stores. An interruption that comes while a callback runs whose errors Python
    ignores (of the garbage collector, of a compiler in C) comes again. What compilers and clusters had half made ends
    silently.
    """
    from ostcal.places.object_requests import give_up

    termination = Termination()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield termination
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        give_up()
        termination.is_interrupted = True
        termination.came = termination.came or number == signal.SIGTERM
        raise _Interruption

    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, _Interruption):
            again = threading.Timer(_AGAIN_S, _send, [signal.SIGTERM if termination.came else signal.SIGINT])
            again.daemon = True
            again.start()
        elif not (termination.is_interrupted and _had_begun(unraisable.object)):
            hook(unraisable)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is meant to be ignored
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, ignored
    try:
        yield termination
    finally:
        if not termination.is_interrupted:  # else what is half made is deleted after this
            sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _had_begun(ignored: object) -> bool:
    """Return whether what raised is of numba or Dask: what they had half made cannot be deleted or closed well."""
    return str(getattr(ignored, "__module__", "")).partition(".")[0] in ("numba", "llvmlite", "distributed")


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread, from another one."""
    if sys.platform == "win32":  # os.kill would end the process there
        _thread.interrupt_main(number)
    else:
        os.kill(os.getpid(), number)
