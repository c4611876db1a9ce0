"""A whole stack combined into planes in memory, by threads: to the last bit what the tasks of a run write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import BlockPlanes, Correction
from ostcal.engine.levels import DarkMeans, FrameLevels, common_scales, frame_level
from ostcal.engine.noise import noise_rows
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.engine.stack_rows import combine_rows, row_noise, series_noise, warm_up
from ostcal.engine.tiling import (
    MAX_FRAMES,
    OVERSCAN_BYTES,
    PROCESS_BYTES,
    JobSize,
    StripPlan,
    least_strip_bytes,
    plan_work,
)
from ostcal.errors import PlanError
from ostcal.frames import FrameStack, LevelledStack
from ostcal.vocabulary import FlatScaling

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class StackPlanes:
    """The planes of a combined stack, and what was counted."""

    planes: BlockPlanes
    rejected_per_frame: NDArray[np.int64]
    """(n_frames,)."""
    invalid: int
    """Samples that were not finite."""
    noise: SeriesNoise
    """As measured, where the method or scales ask for it."""


def stack_levels(stack: FrameStack, scaling: FlatScaling, workers: int) -> FrameLevels:
    """Measure the level of every frame, and the factor that brings it to the mean of all; NaN for one without light.

    Raises
    ------
    CombineError
        If no frame holds light.
    """

    def level(index: int) -> float:
        return frame_level(stack.select([index]), 0.0, None, DarkMeans(), scaling)

    return common_scales(_in_threads(level, range(stack.shape[0]), workers), scaling)


def combine_stack(
    stack: FrameStack,
    method: RejectionMethod,
    *,
    scales: Sequence[float] | None = None,
    memory_limit_bytes: int,
    workers: int,
    on_rows: Callable[[int], None] = lambda n_rows: None,
) -> StackPlanes:
    """Combine all frames of a stack, each multiplied by its factor in `scales` before rejection.

    `memory_limit_bytes` is for the strips that are in work at a time; the planes come on top of it. `on_rows` is called
    with the rows of each strip that is done, one strip after the other.

    Raises
    ------
    FrameError
        If a frame cannot be read.
    PlanError
        If not even the smallest strip fits the memory, or there are too many frames.
    """
    n, height, width = stack.shape
    size = JobSize(
        n_frames=n,
        height=height,
        width=width,
        sample_bytes=np.dtype(stack.encoding.dtype).itemsize,
        row_step=stack.row_step,
        float_path=scales is not None or not stack.encoding.is_integer,
        has_overscan=isinstance(stack, LevelledStack),
    )
    workers, plan = _strips(size, memory_limit_bytes, workers)
    correction = None if scales is None else Correction(scale=np.array(scales), exposure_time_s=np.zeros(n))
    warm_up(stack, method, is_corrected=correction is not None)
    noise, is_spread = SeriesNoise(), method.resolved(n).needs_noise
    if correction is not None or is_spread:
        cells = _in_threads(lambda row: row_noise(stack, row, correction), noise_rows(height), workers)
        noise = series_noise(cells, stack, is_corrected=correction is not None, is_spread=is_spread)
    planes = BlockPlanes.empty((height, width))
    rejected_per_frame, invalid = np.zeros(n, np.int64), 0

    def combine(strip: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
        start, stop = strip
        counts = combine_rows(stack, method, start, noise=noise, correction=correction, planes=planes.rows(start, stop))
        return counts.rejected_per_frame, counts.invalid

    counted = _in_threads(combine, plan.strips, workers, lambda strip: on_rows(strip[1] - strip[0]))
    for rejected, dropped in counted:
        rejected_per_frame += rejected
        invalid += dropped
    return StackPlanes(planes=planes, rejected_per_frame=rejected_per_frame, invalid=invalid, noise=noise)


def _strips(size: JobSize, memory_limit_bytes: int, workers: int) -> tuple[int, StripPlan]:
    """Return the threads that the memory allows, and the strips."""
    least = least_strip_bytes(size)
    if least > memory_limit_bytes and size.n_frames <= MAX_FRAMES:
        raise PlanError(
            f"mem_limit of {memory_limit_bytes} bytes is too small: {size.n_frames} frames of {size.width} x "
            f"{size.height} need at least {least}; set mem_limit to {least} or more"
        )
    limit_bytes = memory_limit_bytes + PROCESS_BYTES + (OVERSCAN_BYTES if size.has_overscan else 0)
    work = plan_work([size], memory_limit_bytes=limit_bytes, workers=workers, processes=False)
    return work.workers, work.strips[0]


def _in_threads(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    workers: int,
    on_done: Callable[[_Item], None] = lambda item: None,
) -> list[_Result]:
    """Call a function for each item; the first error is raised, and what has not begun then does not begin.

    `on_done` is called in this thread with each item whose result is there, in their order.
    """
    every, results = list(items), []
    if workers == 1 or len(every) < 2:
        for item in every:
            results.append(function(item))
            on_done(item)
        return results
    with ThreadPoolExecutor(workers, thread_name_prefix="ostcal") as pool:
        futures = [pool.submit(function, item) for item in every]
        try:
            for item, future in zip(every, futures, strict=True):
                results.append(future.result())
                on_done(item)
            return results
        except BaseException:  # Ctrl-C too: strips that have not begun would keep the caller for seconds
            pool.shutdown(wait=False, cancel_futures=True)
            raise
