"""A command that gets events on its standard input, without a shell, within a time and whatever it prints."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

from ostcal.events.failure import Failure
from ostcal.redaction import without_secrets

_KEPT_BYTES = 2_000
"""Of what a command prints as errors; the rest is read and dropped."""
_SHOWN_CHARACTERS = 200
_END_S = 1.0
"""Wait for the last words of a command that has ended, and for one that was killed."""


class CommandHook:
    """Runs a command for each event: program and arguments, the event as JSON on its standard input.

    It is not run again after a failure, as it may have done half of its work.
    """

    retries = 0

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self.name = os.path.basename(command[0])

    def deliver(self, document: bytes, timeout_s: float) -> Failure | None:
        """Run the command; one that does not end in time is killed, with what it started."""
        with tempfile.TemporaryFile() as stdin:  # not a pipe, which a command that reads nothing fills
            stdin.write(document + b"\n")
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                return Failure(reason=f"it cannot be started: {reason}; see hooks.command", may_pass=False)
        said = _Said(process.stderr)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Failure(
                reason=f"it did not end within {timeout_s:g} s and was killed (hooks.timeout)", may_pass=False
            )
        if code == 0:
            return None
        words = said.first_line()
        return Failure(reason=f"it ended with {code}{f': {words}' if words else ''}", may_pass=False)


class _Said:
    """The beginning of what a command prints as errors, read in a thread so that it never waits."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="hook stderr", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._stream is not None
        with self._stream:
            while piece := os.read(self._stream.fileno(), 1 << 16):
                self._kept += piece[: _KEPT_BYTES - len(self._kept)]

    def first_line(self) -> str:
        """Return the first line, on which a command usually says what is wrong."""
        self._thread.join(_END_S)  # what it started may keep the stream open
        lines = self._kept.decode("utf-8", errors="replace").strip().splitlines()
        return without_secrets("".join(filter(str.isprintable, lines[0]))[:_SHOWN_CHARACTERS]) if lines else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and what it started."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
