"""Opening files that somebody else may have made: regular ones only.

A pipe makes whoever opens it wait for a writer, and a device such as /dev/zero has no end.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""A pipe is opened at once; reading and writing regular files does not change."""


def open_regular(path: str, flags: int) -> int:
    """Open a file, links followed, and return its descriptor; an ``opener`` of `open`.

    Raises
    ------
    OSError
        If it cannot be opened, or is a pipe, a socket, a device or a directory.
    """
    descriptor = os.open(path, flags | _FLAGS, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", path)
