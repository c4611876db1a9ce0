"""Decoders in a process of their own: a damaged file that crashes one, or keeps it busy, costs one frame, not the run.

The programs (`ostcal.fits.tile_process`, `ostcal.raw.decoder_process`) import nothing of this package, and have the
words of the protocol themselves.
"""

from __future__ import annotations

import contextlib
import json
import logging
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
from ostcal.frozen import stopped_children_end

logger = logging.getLogger(__name__)

END: Final = -1
FAILED: Final = -2
LENGTH: Final = struct.Struct("<q")
PIECE_BYTES: Final = 4 * 2**20

_UNPACKED_FREE_BYTES = 512 * 2**20
"""What any packed file may become: a frame of 61 MP of one value in 64 bits."""
_MOST_EXPANSION = 32
"""Bytes that a byte may become beyond that: frames of cameras have noise and become 1.2 to 10; zeros 1030."""
_MAX_REASON_BYTES = 4096
_ENDING_S = 10.0
_TRIES = 3
"""Of an image whose process was killed by somebody else."""
_OF_OTHERS = () if sys.platform == "win32" else (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that no damaged file sends: the system sends the first when memory is short."""


def most_unpacked_bytes(packed_bytes: int) -> int:
    """Return how many bytes those of a packed file may become; more is a bomb, not a frame."""
    return _UNPACKED_FREE_BYTES + _MOST_EXPANSION * packed_bytes


class _KilledError(Exception):
    """The process was killed, and not by what it decodes."""


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
        self._watch = contextlib.ExitStack()

    def answer(self, path: str, request: Mapping[str, Any], limit: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the pieces of an answer about a file, `limit` bytes at most.

        A process that somebody else killed is started again, and asked again; what was yielded before is not repeated.
        Raise FrameError where the file is damaged, StorageError where no process can be started.
        """
        given = 0
        for left in reversed(range(_TRIES)):
            to_skip = given
            try:
                for piece in self._answer_once(path, request, limit):
                    new, to_skip = piece[to_skip:], max(0, to_skip - len(piece))
                    given += len(new)
                    if len(new):
                        yield new
                return
            except _KilledError as error:
                if not left:
                    raise FrameError(
                        f"{path}: cannot be {self._participle}: the process that does it was killed {_TRIES} times "
                        f"({error}); see that there is memory enough, and start the same command again"
                    ) from error
                logger.debug("%s: the process that decodes it was killed (%s); it is started again", path, error)

    def _answer_once(self, path: str, request: Mapping[str, Any], limit: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the pieces of an answer; raise `_KilledError` where the process was killed, else as `answer`."""
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
                if sys.platform != "win32" and -code in _OF_OTHERS:
                    raise _KilledError(signal.Signals(-code).name) from None
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
        self._watch.close()
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
            pid = self._process.pid
            self._watch.enter_context(stopped_children_end(lambda: [pid]))
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
