"""Raw files of cameras, decoded by a process of its own (`ostcal.raw.decoder_process`)."""

from __future__ import annotations

import atexit
import json
import threading
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.decoding import DecoderProcess
from ostcal.errors import FrameError
from ostcal.raw import decoder_process

RAW_ENDINGS: Final = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".rw2", ".srw",
)  # fmt: skip
"""Endings of raw files of cameras."""

_MAX_DESCRIPTION_BYTES = 2**16
_MAX_SAMPLE_BYTES = 2**32


@lru_cache(maxsize=1)
def can_read_raw() -> bool:
    """Return whether the extra ``raw`` is installed."""
    return find_spec("rawpy") is not None and find_spec("exifread") is not None


class RawReader:
    """Decodes one file after the other; its process is started with the first (0.4 s), and again after a crash."""

    def __init__(self) -> None:
        self._decoder = DecoderProcess(
            decoder_process.__file__, verb=("decode", "decoded"), damaged="it is damaged", doing="decoding"
        )
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
            yield from self._decoder.answer(path, {"path": path, "samples": samples}, limit)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._decoder.end()


@lru_cache(maxsize=1)
def raw_reader() -> RawReader:
    """Return the reader of this process; what it started ends with it."""
    reader = RawReader()
    atexit.register(reader.close)
    return reader
