"""Tile-compressed images, unpacked by a process of its own: damaged tiles can crash it, or keep it busy without end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.fits import tile_process as tile_decoder
from ostcal.fits.read import FitsFrame
from ostcal.fits.tile_process import END, FAILED, LENGTH, PIECE_BYTES

_MAX_REASON_BYTES = 4096
_ENDING_S = 10.0


class TileReader:
    """Unpacks one image after the other; a context manager.

    The process is started with the first image (0.4 s) and again after a crash.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> TileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def strips(self, frame: FitsFrame) -> Iterator[NDArray[np.uint8]]:
        """Yield the stored samples of a frame in order, as bytes (uint8).

        Raise FrameError where the tiles are damaged, StorageError where no process can be started.
        """
        process = self._started(frame.path)
        assert process.stdin is not None
        request = {
            "path": frame.path,
            "hdu_index": frame.hdu_index,
            "height": frame.height,
            "width": frame.width,
            "plane": frame.plane,
            "dtype": frame.stored_dtype.str.replace("|", ">"),
        }
        missing, reason, is_waiting = frame.data_length, "", False
        try:
            process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            process.stdin.flush()
            while (length := _number(process)) not in (END, FAILED):
                if not 0 < length <= min(PIECE_BYTES, missing):
                    raise EOFError
                yield np.frombuffer(_read(process, length), np.uint8)
                missing -= length
            if length == FAILED:
                text = _read(process, min(_number(process), _MAX_REASON_BYTES)).decode("utf-8", "replace")
                reason = text or "its tiles are damaged"
            elif missing:
                reason = f"its tiles end {missing} bytes too early"
            is_waiting = True
        except (EOFError, OSError):
            reason = "its tiles are damaged"
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(_ENDING_S)
                is_endless = sys.platform != "win32" and code == -signal.SIGXCPU
                ended = "comes to no end" if is_endless else f"crashes (exit status {code})"
                reason += f": unpacking them {ended}"
        finally:
            if not is_waiting:
                self._end()
        if reason:
            raise FrameError(f"{frame.path}: cannot be unpacked: {reason}; copy it again or leave it out")

    def _started(self, path: str) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Started by its path: importing the package would import what is not needed. Where this process finds
            # its modules, that one must too.
            command = [sys.executable, "-P", tile_decoder.__file__]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise StorageError(f"{path}: no process to unpack it can be started: {error.strerror}") from error
        return self._process

    def _end(self) -> None:
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


def _number(process: subprocess.Popen[bytes]) -> int:
    (number,) = LENGTH.unpack(_read(process, LENGTH.size))
    return int(number)


def _read(process: subprocess.Popen[bytes], length: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(max(0, length))
    if len(data) < length:
        raise EOFError
    return data
