"""Raw files of cameras, decoded by a process of its own (`ostcal.raw.decoder_process`)."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.raw import decoder_process
from ostcal.raw.decoder_process import END, FAILED, LENGTH, PIECE_BYTES

RAW_ENDINGS: Final = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".rw2", ".srw",
)  # fmt: skip
"""Endings of raw files of cameras."""

_MAX_REASON_BYTES = 4096
_MAX_DESCRIPTION_BYTES = 2**16
_MAX_SAMPLE_BYTES = 2**32
_ENDING_S = 10.0


@lru_cache(maxsize=1)
def can_read_raw() -> bool:
    """Return whether the extra ``raw`` is installed."""
    return find_spec("rawpy") is not None and find_spec("exifread") is not None


class RawReader:
    """Decodes one file after the other; its process is started with the first (0.4 s), and again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def description(self, path: str) -> dict[str, Any]:
        """Return what a file says of its frame.

        Raise FrameError where it cannot be decoded, StorageError where no process can be started.
        """
        data = b"".join(bytes(piece) for piece in self._answer(path, samples=False, limit=_MAX_DESCRIPTION_BYTES))
        found: dict[str, Any] = json.loads(data)
        return found

    def strips(self, path: str, length: int) -> Iterator[NDArray[np.uint16]]:
        """Yield the samples of a file in order, `length` in all; raise as `description`."""
        missing = 2 * length
        for piece in self._answer(path, samples=True, limit=min(missing, _MAX_SAMPLE_BYTES)):
            missing -= len(piece)
            yield piece.view("<u2").astype(np.uint16, copy=False)
        if missing:
            raise FrameError(f"{path}: its samples end {missing} bytes too early; copy it again or leave it out")

    def _answer(self, path: str, *, samples: bool, limit: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the pieces of an answer, `limit` bytes at most."""
        with self._lock:
            reason, is_waiting = "", False
            process = self._started(path)
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"path": path, "samples": samples}).encode("ascii") + b"\n")
                process.stdin.flush()
                while (length := _number(process)) not in (END, FAILED):
                    if not 0 < length <= min(PIECE_BYTES, limit):
                        raise EOFError
                    yield np.frombuffer(_read(process, length), np.uint8)
                    limit -= length
                if length == FAILED:
                    reason = _read(process, min(_number(process), _MAX_REASON_BYTES)).decode("utf-8", "replace")
                is_waiting = True
            except (EOFError, OSError):
                reason = "it is damaged"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_ENDING_S)
                    is_endless = sys.platform != "win32" and code == -signal.SIGXCPU
                    reason += ": decoding " + ("comes to no end" if is_endless else f"crashes (exit status {code})")
            finally:
                if not is_waiting:
                    self._end()
        if reason:
            raise FrameError(f"{path}: cannot be decoded: {reason}; copy it again or leave it out")

    def _started(self, path: str) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Started by its path: importing the package would import what is not needed. Where this process finds
            # its modules, that one must too.
            command = [sys.executable, "-P", decoder_process.__file__]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise StorageError(f"{path}: no process to decode it can be started: {error.strerror}") from error
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait(_ENDING_S)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


@lru_cache(maxsize=1)
def raw_reader() -> RawReader:
    """Return the reader of this process; what it started ends with it."""
    reader = RawReader()
    atexit.register(reader.close)
    return reader


def _number(process: subprocess.Popen[bytes]) -> int:
    (number,) = LENGTH.unpack(_read(process, LENGTH.size))
    return int(number)


def _read(process: subprocess.Popen[bytes], length: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(max(0, length))
    if len(data) < length:
        raise EOFError
    return data
