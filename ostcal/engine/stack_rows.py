"""Rows of a stack: read block by block and combined into planes, or measured; what tasks and calls in memory share."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import BlockPlanes, Correction, RowLevels, combine_block, corrected
from ostcal.engine.noise import NoiseCells, merge_cells, row_cells
from ostcal.engine.rejection import LARGEST_NOISE_ADU, SMALLEST_NOISE_ADU, RejectionMethod, SeriesNoise
from ostcal.engine.tiling import block_rows
from ostcal.errors import InputError
from ostcal.frames import FrameStack, LevelledReader, LevelledStack, RowReader

logger = logging.getLogger(__name__)


class Workspace(threading.local):
    """Arrays of a thread, reused from strip to strip: fresh pages cost 1 s of CPU for 40 frames of 61 MP."""

    def __init__(self) -> None:
        self._block = self._planes = np.empty(0, np.uint8)

    def block(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array for samples."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self._block.nbytes < n_bytes:
            self._block = np.empty(n_bytes, np.uint8)
        return self._block[:n_bytes].view(dtype).reshape(shape)

    def planes(self, shape: tuple[int, int]) -> BlockPlanes:
        """Return the planes of a strip: (rows, width); fresh ones for each strip cost 0.3 s of CPU for 61 MP."""
        size = math.prod(shape)
        if self._planes.nbytes < 10 * size:
            self._planes = np.empty(10 * size, np.uint8)
        buffer = self._planes[: 10 * size]
        return BlockPlanes(
            master=buffer[: 4 * size].view(np.float32).reshape(shape),
            std=buffer[4 * size : 8 * size].view(np.float32).reshape(shape),
            n_used=buffer[8 * size :].view(np.uint16).reshape(shape),
        )


workspace = Workspace()
"""Of each thread of the process: all that it runs shares it."""


def warm_up(stack: FrameStack, method: RejectionMethod, *, is_corrected: bool) -> None:
    """Compile what a stack needs, or load it from numba's cache, on a block of one pixel.

    Before processes start, so that they find the cache filled instead of all compiling for 8 s; and before threads do:
    loading takes 0.1 s alone, and three times that beside threads that ask for Python's lock at every chunk.
    """
    correction = Correction(scale=np.ones(1), exposure_time_s=np.ones(1)) if is_corrected else None
    method = method.resolved(stack.shape[0])  # of one frame, `auto` would be another kernel
    levelled = stack.levelled_encoding if isinstance(stack, LevelledStack) else None
    if levelled is None:
        encoding = stack.encoding
        combine_block(np.zeros((1, 1, 1), encoding.dtype), encoding, method, correction=correction)
        return
    levels = [RowLevels(quanta=np.zeros((1, 1), np.int64), left=0, width=3)]
    highest = np.array([[[0xFFFF, 0x7FFF, 0xFF7F]]], np.uint16)  # one of them is, so that it is combined as a float
    combine_block(highest, levelled, method, correction=correction, levels=levels)


# ---- noise ----


def row_noise(stack: FrameStack, row: int, correction: Correction | None) -> NoiseCells:
    """Measure the noise of one row of a series; `correction` is that of the row."""
    n, _, width = stack.shape
    block = np.empty((n, 1, width), stack.encoding.dtype)
    stack.read_rows(row, row + 1, block)
    samples = block.reshape(n, width)
    if correction is None:
        return row_cells(stack.encoding.decode(samples))
    lit = np.isfinite(correction.scale)
    return row_cells(corrected(samples, stack.encoding, correction)[lit])


def series_noise(cells: Iterable[NoiseCells], stack: FrameStack, *, is_corrected: bool, is_spread: bool) -> SeriesNoise:
    """Return the noise of a series from its measured rows; corrected integers keep the step of integers.

    With `is_spread` samples are going to be compared with it.

    Raises
    ------
    InputError
        If the noise is beyond the spreads that samples are compared with.
    """
    noise = merge_cells(cells)
    if is_spread and not noise.noise_adu < LARGEST_NOISE_ADU:
        raise InputError(
            f"the frames scatter by {noise.noise_adu:.3g}, this method knows spreads below {LARGEST_NOISE_ADU:g}; "
            "divide the samples by a number, or reject by 'minmax' or 'percentile'"
        )
    if is_spread and 0 < noise.noise_adu < SMALLEST_NOISE_ADU and not noise.step_adu:
        logger.warning(
            "the frames scatter by %.3g, spreads are whole numbers of 1e-6: good samples may be rejected; multiply the "
            "samples by a number, so that they are of the size of ADU",
            noise.noise_adu,
        )
    if is_corrected and stack.encoding.is_integer:
        return SeriesNoise(noise_adu=noise.noise_adu, step_adu=1.0)
    return noise


# ---- combining ----


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """What combining some rows counted, and the time that it took."""

    rejected_per_frame: NDArray[np.int64]
    invalid: int
    read_s: float
    combine_s: float


def combine_rows(
    stack: FrameStack,
    method: RejectionMethod,
    start: int,
    *,
    noise: SeriesNoise,
    correction: Correction | None,
    planes: BlockPlanes,
) -> RowCounts:
    """Read rows from `start` on block by block and combine them into `planes`, which has as many rows.

    `correction` is that of these rows.
    """
    encoding, (n, height, width) = stack.encoding, stack.shape
    stop = start + planes.master.shape[0]
    rejected_per_frame, invalid = np.zeros(n, np.int64), 0
    read_s = combine_s = 0.0
    last = time.perf_counter()
    with stack.opened(start, stop) as reader:
        if isinstance(reader, LevelledReader):
            encoding, width = reader.raw_encoding, reader.raw_width
        step = block_rows((n, height, width), np.dtype(encoding.dtype).itemsize, stack.row_step)
        for first in range(start, stop, step):
            block, levels = _read_block(reader, first, min(first + step, stop), stack)
            read = time.perf_counter()
            read_s += read - last
            # Samples that are floats on the disk are corrected as a copy: one row of it, which stays in the cache.
            at_once = block.shape[1] if encoding.is_integer else 1
            for y in range(0, block.shape[1], at_once):
                top = first - start + y
                bottom = min(top + at_once, first - start + block.shape[1])
                part = combine_block(
                    block[:, y : y + at_once],
                    encoding,
                    method,
                    noise=noise,
                    correction=None if correction is None else correction.rows(top, bottom),
                    levels=None if levels is None else [part.rows(slice(y, y + at_once)) for part in levels],
                    planes=planes.rows(top, bottom),
                )
                rejected_per_frame += part.rejected_per_frame
                invalid += part.invalid
            last = time.perf_counter()
            combine_s += last - read
    return RowCounts(rejected_per_frame=rejected_per_frame, invalid=invalid, read_s=read_s, combine_s=combine_s)


def _read_block(
    reader: RowReader, start: int, stop: int, stack: FrameStack
) -> tuple[NDArray[Any], list[RowLevels] | None]:
    """Read rows of all frames into the workspace of this thread, with their overscan levels if those are to be used."""
    n, _, width = stack.shape
    if not isinstance(reader, LevelledReader):
        block = workspace.block((n, stop - start, width), stack.encoding.dtype)
        reader.read_rows(start, stop, block)
        return block, None
    block = workspace.block((n, stop - start, reader.raw_width), reader.raw_encoding.dtype)
    levels = reader.read_levelled(start, stop, block)
    return block, [
        RowLevels(quanta=quanta, left=left, width=right - left)
        for quanta, (left, right) in zip(levels, reader.kept_columns, strict=True)
    ]
