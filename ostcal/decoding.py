"""Decoders in a process of their own: a damaged file that crashes one, or keeps it busy, costs one frame, not the run.

The programs (`ostcal.fits.tile_process`, `ostcal.raw.decoder_process`) import nothing of this package, and have the
words of the protocol themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError

END: Final = -1
FAILED: Final = -2
LENGTH: Final = struct.Struct("<q")
PIECE_BYTES: Final = 4 * 2**20

_MAX_REASON_BYTES = 4096
_ENDING_S = 10.0


class DecoderProcess:
    """A program that answers requests; it is started with the first (0.4 s), and again after a crash.

    Parameters
    ----------
    program : str
        Path of the program.
    verb, damaged, doing : str
        Words of messages: ``cannot be unpacked``, ``its tiles are damaged``, ``unpacking them crashes``.
    """

    def __init__(self, program: str, *, verb: tuple[str, str], damaged: str, doing: str) -> None:
        self._program = program
        self._infinitive, self._participle = verb
        self._damaged, self._doing = damaged, doing
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, path: str, request: Mapping[str, Any], limit: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the pieces of an answer about a file, `limit` bytes at most.

        Raise FrameError where the file is damaged, StorageError where no process can be started.
        """
        process = self._started(path)
        assert process.stdin is not None
        reason, is_waiting = "", False
        try:
            process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            process.stdin.flush()
            while (length := _number(process)) not in (END, FAILED):
                if not 0 < length <= min(PIECE_BYTES, limit):
                    raise EOFError
                yield np.frombuffer(_read(process, length), np.uint8)
                limit -= length
            if length == FAILED:
                text = _read(process, min(_number(process), _MAX_REASON_BYTES)).decode("utf-8", "replace")
                reason = text or self._damaged
            is_waiting = True
        except (EOFError, OSError):
            reason = self._damaged
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_ENDING_S)
                is_endless = sys.platform != "win32" and code == -signal.SIGXCPU
                ended = "comes to no end" if is_endless else f"crashes (exit status {code})"
                reason += f": {self._doing} {ended}"
        finally:
            if not is_waiting:
                self.end()
        if reason:
            raise FrameError(f"{path}: cannot be {self._participle}: {reason}; copy it again or leave it out")

    def end(self) -> None:
        """End the process: it waits for requests, or what it does is not wanted any more."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait(_ENDING_S)

    def _started(self, path: str) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Started by its path: importing the package would import what is not needed. Where this process finds
            # its modules, that one must too.
            command = [sys.executable, "-P", self._program]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise StorageError(
                    f"{path}: no process to {self._infinitive} it can be started: {error.strerror}"
                ) from error
        return self._process


def _number(process: subprocess.Popen[bytes]) -> int:
    (number,) = LENGTH.unpack(_read(process, LENGTH.size))
    return int(number)


def _read(process: subprocess.Popen[bytes], length: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(max(0, length))
    if len(data) < length:
        raise EOFError
    return data
