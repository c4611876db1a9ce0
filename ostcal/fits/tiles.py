"""Tile-compressed images, unpacked by a process of its own: damaged tiles can crash it, or keep it busy without end."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ostcal.decoding import DecoderProcess
from ostcal.errors import FrameError
from ostcal.fits import tile_process as tile_decoder
from ostcal.fits.frame import FitsFrame
from ostcal.fits.tiling import Tiling

UNLIMITED_BYTES: Final = 2**62
RUN_BYTES: Final = 160 * 2**20
"""Of a memory limit: what a run takes while the process decodes, of which it needs no strips yet."""


class TileReader:
    """Unpacks one image after the other; a context manager.

    The process is started with the first image (0.4 s) and again after a crash.

    Parameters
    ----------
    memory_bytes : int
        What the process may take.
    """

    def __init__(self, memory_bytes: int = UNLIMITED_BYTES) -> None:
        self._memory_bytes = memory_bytes
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

        Raise FrameError where the tiles are damaged or take more memory than there is, StorageError where no process
        can be started.
        """
        if frame.tiling is None:
            raise ValueError(f"{frame.path}: has no tiles")
        self._check_memory(frame, frame.tiling)
        request = {
            "path": frame.path,
            "hdu_index": frame.hdu_index,
            "height": frame.height,
            "width": frame.width,
            "plane": frame.plane,
            "rows": frame.tiling.rows,
            "needed_bytes": frame.tiling.memory_bytes,
            "memory_bytes": self._memory_bytes,
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

    def _check_memory(self, frame: FitsFrame, tiling: Tiling) -> None:
        if tiling.memory_bytes <= self._memory_bytes:
            return
        needed = -(-(tiling.memory_bytes + RUN_BYTES) // 2**20)
        advice = " or pack it again in smaller tiles (fpack without -w)" if tiling.is_one_tile else ""
        raise FrameError(
            f"{frame.path}: cannot be unpacked: {tiling.rows} rows of {frame.width} pixels ({tiling.coder}) are decoded"
            f" at once, which takes {tiling.memory_bytes // 2**20} MiB where {max(0, self._memory_bytes) // 2**20} MiB"
            f" may be taken; set compute.memory_limit (mem_limit in Python) to {needed}MiB or more{advice}"
        )
