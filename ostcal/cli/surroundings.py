"""What the system may refuse any command, each as one line: memory, threads, open files, a clock that is set."""

from __future__ import annotations

import errno
import os
import sys
import time

_RECOMMENDED_MB = 3000
"""Of address space: with it all commands run on computers of up to 16 cores."""
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)


def refusal(error: BaseException) -> str | None:
    """Return what the system refused; ``None`` for other errors, which are faults of the program."""
    if isinstance(error, MemoryError):
        return f"memory ran out ({_in_one_line(error)}); {_more_memory()}"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return f"no further thread can be started; raise the limit of processes (ulimit -u), or {_more_memory()}"
    if isinstance(error, OSError) and error.errno in _TOO_MANY_OPEN:
        return f"{_in_one_line(error)}; raise the limit of open files (ulimit -n 1024)"
    if address_space_mb() is not None and _is_of_loading(error):
        return f"the program cannot be loaded ({_in_one_line(error)}); {_more_memory()}"
    if isinstance(error, OSError) and error.errno is not None:
        return _in_one_line(error)
    return None


def clock_problem() -> str | None:
    """Return what is wrong with a clock that Python cannot read: it counts nanoseconds up to the year 2262."""
    try:
        time.time()
    except OverflowError:
        return "the clock of this computer is not set: it shows a year after 2262; set it (timedatectl set-time)"
    return None


def address_space_mb() -> float | None:
    """Return the limit of the address space (``ulimit -v``); ``None`` where there is none."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit / 1e6


def _is_of_loading(error: BaseException) -> bool:
    return isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is None)


def _more_memory() -> str:
    space_mb = address_space_mb()
    if space_mb is not None and space_mb < _RECOMMENDED_MB:
        return f"allow more than {space_mb:.0f} MB of address space (ulimit -v {_RECOMMENDED_MB}000)"
    return "set compute.memory_limit lower, or allow more memory"


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        path = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) else ""
        return f"{path}{error.strerror}"
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
