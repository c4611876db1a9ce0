"""Standard streams that fail: a full disk, a reader that has gone, descriptors that were closed before the start.

What a command makes does not need them. It goes on without them, and the exit code says that its output was lost.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Final, TextIO

_DESCRIPTORS: Final = (0, 1, 2)
_NO_READER: Final = (errno.EPIPE, errno.ECONNRESET)


class LastingOutput(io.RawIOBase):
    """The bytes of a stream; from the first that cannot be written on, all are dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.failure: OSError | None = None
        """Why bytes were dropped."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]  # what is given to it
        """Write bytes, or drop them."""
        left = memoryview(data)
        while left and self.failure is None:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever started us has made the pipe so
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.failure = error
        return len(data)

    @property
    def lost_for(self) -> str:
        """Return why somebody lacks what was dropped; empty where it was the reader of a pipe, who has gone."""
        if self.failure is None or self.failure.errno in _NO_READER:
            return ""
        return self.failure.strerror or str(self.failure)

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)


@contextlib.contextmanager
def lasting_streams(exit_code: int) -> Iterator[None]:
    """Let a command go on where its streams fail; if all but its output went well, it ends with `exit_code`.

    Streams that a program has put in the place of its own are left alone, as are the consoles of Windows.
    """
    if os.name != "posix":
        yield
        return
    _open_closed_descriptors()
    with _lasting("stderr", 2):
        ended: SystemExit | None = None
        with _lasting("stdout", 1) as output:
            try:
                yield
            except SystemExit as end:
                ended = end
        if output is not None and (reason := output.lost_for):
            sys.stderr.write(f"error: standard output cannot be written ({reason}); what it was to show is lost\n")
            if ended is None or not ended.code:
                ended = SystemExit(exit_code)
        if ended is not None:
            raise ended


@contextlib.contextmanager
def _lasting(name: str, descriptor: int) -> Iterator[LastingOutput | None]:
    """Put a stream that lasts in the place of a standard stream."""
    before = getattr(sys, name)
    if before is not getattr(sys, f"__{name}__") or not isinstance(before, io.TextIOWrapper):
        yield None
        return
    before.flush()
    output = LastingOutput(descriptor)
    # What a name of a file holds and the encoding of the terminal does not is shown escaped.
    errors = "backslashreplace" if before.errors == "strict" else before.errors
    stream = io.TextIOWrapper(
        io.BufferedWriter(output),  # type: ignore[type-var]  # typeshed asks for more than is called
        before.encoding,
        errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    setattr(sys, name, stream)
    try:
        yield output
    finally:
        setattr(sys, name, before)
        stream.detach().detach()  # both write what they hold


def _open_closed_descriptors() -> None:
    """Open what was closed before the start (``>&-``) on the null device.

    Else the next file that is opened has its number, and what is meant for the screen is written into it.
    """
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = _text_of(descriptor)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _text_of(descriptor: int) -> TextIO:
    return open(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False)
