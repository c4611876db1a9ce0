"""Tile-compressed images, unpacked by a process of its own: damaged tiles can crash it, or keep it busy without end."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ostcal.decoding import DecoderProcess
from ostcal.errors import FrameError
from ostcal.fits import tile_process as tile_decoder
from ostcal.fits.read import FitsFrame


class TileReader:
    """Unpacks one image after the other; a context manager.

    The process is started with the first image (0.4 s) and again after a crash.
    """

    def __init__(self) -> None:
        self._decoder = DecoderProcess(
            tile_decoder.__file__,
            verb=("unpack", "unpacked"),
            damaged="its tiles are damaged",
            doing="unpacking them",
        )

    def __enter__(self) -> TileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._decoder.end()

    def strips(self, frame: FitsFrame) -> Iterator[NDArray[np.uint8]]:
        """Yield the stored samples of a frame in order, as bytes (uint8).

        Raise FrameError where the tiles are damaged, StorageError where no process can be started.
        """
        request = {
            "path": frame.path,
            "hdu_index": frame.hdu_index,
            "height": frame.height,
            "width": frame.width,
            "plane": frame.plane,
            "dtype": frame.stored_dtype.str.replace("|", ">"),
        }
        missing = frame.data_length
        for piece in self._decoder.answer(frame.path, request, limit=missing):
            yield piece
            missing -= len(piece)
        if missing:
            raise FrameError(
                f"{frame.path}: cannot be unpacked: its tiles end {missing} bytes too early; copy it again or leave it"
                " out"
            )
