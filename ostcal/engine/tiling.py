"""The memory plan: how a job is cut into strips, and how much memory they take; integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ostcal.engine.container_memory import RESERVED_BYTES, memory_ceiling
from ostcal.errors import PlanError

BLOCK_TARGET_BYTES = 6 * 2**20
"""Samples of all frames that are read at once: what was read is still in the cache when it is combined. Reading and
combining 40 frames of 61 MP take 1.00 s of one core in blocks of 6 MB, 1.04 s in 3 MB, 1.09 s in 12 MB and 1.19 s in
1.5 MB (38 KB of each frame)."""

STRIP_PIXELS = 1_200_000
"""Pixels of a master that are written at once: 4.8 MB of float32. With thinner strips the files cost more than their
content: a master of 61 MP has 912 in strips of 21 rows; those of 62 rows take 0.1 s longer."""

STRIP_BYTES = 128 * 2**20
"""Samples of all frames that a strip has at most: a task of 0.2 s, so that many workers share a master."""

MAX_FRAMES = 10_000
"""Up to here the exact comparisons of the kernels stay within 64-bit integers, whatever the samples and thresholds."""

LEAST_STRIPS = 16
"""Strips of a small frame, so that all workers have work."""

WHOLE_ROWS = 64
"""Rows read at once where one frame or master is measured from top to bottom: 1.2 MB of 9576 uint16 samples; more rows
are not faster. Even, so that the colours of a Bayer pattern stay in step."""

PROCESS_BYTES = 260 * 2**20
"""Resident size of a Python process with numpy, numba, astropy, zarr and Dask loaded and its kernels compiled."""

OVERSCAN_BYTES = 16 * 2**20
"""More of a process that subtracts overscan: kernels for words and for floats, and words of half ADU."""

TASKS_PER_WORKER = 4
"""Tasks for each worker at least, so that the last ones end at about the same time."""

LOCAL_TASK_BYTES = 16 * 2**20
"""Frames that a task on this computer reads at most, if it is more than one strip."""

CLUSTER_TASK_BYTES = 128 * 2**20
"""Frames that a task on a cluster reads at most, strip by strip: 0.2 s of one core at 0.63 GB/s, for which a scheduler
needs 2.6 ms. With 16 MiB a scheduler could keep no more than ten cores at work."""


@dataclass(frozen=True, kw_only=True)
class JobSize:
    """The properties of a job that decide how much memory a strip takes."""

    n_frames: int
    height: int
    width: int
    sample_bytes: int
    row_step: int
    """Strips start at multiples of it: 1 for FITS, the chunk height for stored series."""
    float_path: bool
    """Whether samples become floats before rejection (flats, float frames)."""
    judged: bool = False
    """Whether the master is scanned for its defects."""
    has_overscan: bool = False
    """Whether overscan is subtracted from raw words while they are combined."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width


@dataclass(frozen=True, kw_only=True)
class StripPlan:
    """The strips of one job."""

    height: int
    strip_rows: int

    @property
    def strips(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of every strip, in order; each row is in one of them."""
        return [(start, min(start + self.strip_rows, self.height)) for start in range(0, self.height, self.strip_rows)]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Neighbouring strips that one task works on, one after the other."""

    start: int
    stop: int
    strip_rows: int

    @property
    def strips(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of each."""
        return [(at, min(at + self.strip_rows, self.stop)) for at in range(self.start, self.stop, self.strip_rows)]


def least_tasks(parallel: int, n_jobs: int) -> int:
    """Return the tasks that each of `n_jobs` must have at least, so that `parallel` workers have work until the end."""
    return max(1, -(-TASKS_PER_WORKER * parallel // max(1, n_jobs)))


def batches(plan: StripPlan, row_bytes: int, *, least_tasks: int, most_bytes: int) -> list[Batch]:
    """Share the strips of a job out to tasks, so that thin strips cost no more than thick ones.

    There are at least `least_tasks`, if there are as many strips. A task of more than one strip reads at most
    `most_bytes` of frames; one row of all of them has `row_bytes`.
    """
    n_strips = -(-plan.height // plan.strip_rows)
    together = max(1, min(most_bytes // max(1, row_bytes * plan.strip_rows), n_strips // least_tasks))
    step = together * plan.strip_rows
    return [
        Batch(start=start, stop=min(start + step, plan.height), strip_rows=plan.strip_rows)
        for start in range(0, plan.height, step)
    ]


@dataclass(frozen=True, kw_only=True)
class WorkPlan:
    """The number of workers that share the memory, and the strips of every job."""

    workers: int
    strips: tuple[StripPlan, ...]
    peak_memory_bytes: int


def strip_memory_bytes(size: JobSize, rows: int) -> int:
    """Return the memory in bytes that one task holds at its peak for a strip of `rows` rows."""
    row = size.n_frames * size.width
    samples = row * size.sample_bytes * rows
    samples = min(samples, max(BLOCK_TARGET_BYTES, row * size.sample_bytes * size.row_step))
    # Three result planes and two dark planes with what they are made of; later what the store encodes.
    planes = size.width * rows * 48
    n_pixels = size.height * size.width
    if size.judged:
        # Scanning the master along with its strips: a byte for each pixel where many are flagged; two bands of 68 rows
        # of 10 bytes that wait for the rest of their rows, 8 bytes a pixel of one for places, and sorted samples.
        planes += n_pixels + min(3000 * size.width, 100 * n_pixels)
    # The float path converts one row at a time: the row itself, float32 samples, a mask; 32 bytes a pixel of a frame.
    row_of_floats = row * (size.sample_bytes + 5) + size.width * 32 if size.float_path else 0
    tiles = 2 * size.n_frames * 256 * 8
    # Noise: one raw row with its copy as int32 or float32, and 2048 columns at a time in four arrays of 8 bytes.
    noise = row * (size.sample_bytes + 12) + size.n_frames * min(size.width, 2048) * 32
    # Levels: 50 bytes a pixel of one frame (float64 samples, a line through two darks, a median) and the histograms.
    levels = 50 * min(WHOLE_ROWS, size.height) * size.width + 2 * 2**20 if size.float_path else 0
    # Scanning it afterwards: a byte for each pixel where many are flagged, and bands of the master that two threads
    # hold: at most 60 MiB at 3000 columns, 71 MiB at 5000, 96 MiB at 9576 and 131 MiB at 14204, measured.
    judging = n_pixels + min(40 * 2**20 + 2**13 * size.width, 100 * n_pixels) if size.judged else 0
    return max(samples + max(planes + row_of_floats + tiles, noise, levels), judging)


def report_bytes(shape: tuple[int, int]) -> int:
    """Return the memory in bytes that a process takes to make the report of masters of `shape`, one at a time.

    That does not depend on how many there are. A million marked pixels take 60 bytes each; a stored strip of two planes
    of a master, and what it is unpacked from, 10 a pixel; a band of rows that becomes smaller, 16.
    """
    n_pixels = shape[0] * shape[1]
    planes = 10 * min(n_pixels, STRIP_PIXELS) + 16 * 2 * WHOLE_ROWS * shape[1]
    return PROCESS_BYTES + 60 * min(n_pixels, 10**6) + planes


def check_report_fits(shapes: Iterable[tuple[int, int]], memory_limit_bytes: int) -> None:
    """Raise `PlanError` if the report of masters of these shapes takes more memory than there is."""
    largest = max(shapes, key=report_bytes, default=None)
    if largest is not None and report_bytes(largest) > memory_limit_bytes:
        height, width = largest
        raise too_little(
            memory_limit_bytes, report_bytes(largest), f"the report of masters of {width} x {height} takes"
        )


def block_rows(shape: tuple[int, int, int], sample_bytes: int, row_step: int) -> int:
    """Return how many rows of a stack of ``(n_frames, height, width)`` are read at once: a multiple of `row_step`."""
    n_frames, height, width = shape
    steps = BLOCK_TARGET_BYTES // max(1, n_frames * width * sample_bytes * row_step)
    return min(max(1, steps), -(-height // row_step)) * row_step


def least_strip_bytes(size: JobSize) -> int:
    """Return the memory in bytes that one task holds for the smallest strip of a job."""
    return strip_memory_bytes(size, _least_rows(size, None))


def workers_for(task_bytes: int, memory_limit_bytes: int, workers: int) -> tuple[int, int]:
    """Return how many threads may hold `task_bytes` each, at least one, and the bytes that each may use."""
    free = max(0, memory_limit_bytes - PROCESS_BYTES)
    count = min(max(1, workers), max(1, free // max(1, task_bytes)))
    return count, free // count


def plan_work(
    sizes: list[JobSize], *, memory_limit_bytes: int, workers: int, processes: bool, strip_rows: int | None = None
) -> WorkPlan:
    """Choose strip heights for workers that share the memory, and fewer workers if it does not allow all of them.

    With `processes`, every worker is a process of its own. `strip_rows` is the height that was asked for; it is rounded
    up to the row step. Raise `PlanError` if not even one worker with the smallest strips fits.
    """
    for count in range(max(1, workers), 0, -1):
        processes_bytes = _process_bytes(sizes) * (count + 1 if processes else 1)
        plan = _plan_strips(sizes, memory_limit_bytes, processes_bytes, count, strip_rows)
        if plan is not None:
            return plan
    raise _too_little_memory(sizes, memory_limit_bytes, strip_rows, processes_bytes, 1, "even with one worker")


def plan_each_worker(
    sizes: list[JobSize],
    *,
    memory_limit_bytes: int,
    threads: int,
    strip_rows: int | None = None,
    workers_here: int = 0,
) -> WorkPlan:
    """Choose strip heights for workers of a cluster, each of which has the memory for itself.

    Each combines `threads` strips at a time. `workers_here` share what the container of this process has. Raise
    `PlanError` if the smallest strips do not fit.
    """
    plan = _plan_strips(sizes, memory_limit_bytes, _process_bytes(sizes), threads, strip_rows)
    if plan is None:
        about = "in each worker" + (f", which has {threads} threads" if threads > 1 else "")
        processes_bytes = _process_bytes(sizes)
        raise _too_little_memory(sizes, memory_limit_bytes, strip_rows, processes_bytes, threads, about, workers_here)
    return replace(plan, workers=1)


def _process_bytes(sizes: list[JobSize]) -> int:
    """Return the resident size of a process that works on these jobs, without their strips."""
    return PROCESS_BYTES + (OVERSCAN_BYTES if any(size.has_overscan for size in sizes) else 0)


def _plan_strips(
    sizes: list[JobSize], limit_bytes: int, processes_bytes: int, parallel: int, strip_rows: int | None
) -> WorkPlan | None:
    """Choose strip heights so that `parallel` strips fit beside processes; ``None`` if even the smallest do not."""
    most = max((size.n_frames for size in sizes), default=0)
    if most > MAX_FRAMES:
        raise PlanError(f"{most} frames in one group: at most {MAX_FRAMES} can be combined; split the folder")
    rows = [_strip_rows(size, (limit_bytes - processes_bytes) // parallel, strip_rows) for size in sizes]
    if not all(rows):
        return None
    strips = tuple(StripPlan(height=size.height, strip_rows=row) for size, row in zip(sizes, rows, strict=True))
    peak = max((strip_memory_bytes(size, row) for size, row in zip(sizes, rows, strict=True)), default=0)
    return WorkPlan(workers=parallel, strips=strips, peak_memory_bytes=processes_bytes + parallel * peak)


def _too_little_memory(
    sizes: list[JobSize],
    limit_bytes: int,
    strip_rows: int | None,
    processes_bytes: int,
    strips: int,
    about: str,
    workers_here: int = 0,
) -> PlanError:
    """Name the limit that would do: `processes_bytes`, and `strips` of the smallest strips of the largest job."""
    least = [strip_memory_bytes(size, _least_rows(size, strip_rows)) for size in sizes]
    worst = sizes[least.index(max(least))]
    what = f"{worst.n_frames} frames of {worst.width} x {worst.height} need at least"
    return too_little(limit_bytes, processes_bytes + strips * max(least), what, about, workers_here)


def too_little(limit_bytes: int, needed_bytes: int, what: str, about: str = "", workers_here: int = 0) -> PlanError:
    """Say that `what` needs more memory than the limit, and which limit would do: the configured or the container's.

    With `workers_here` so many processes need it, beside this one.
    """
    limit, needed = (f"{-(-n // 2**20)} MiB" for n in (limit_bytes, needed_bytes))
    need = f"{what} {needed}{about and f' {about}'}"
    ceiling = memory_ceiling()
    all_bytes = PROCESS_BYTES + workers_here * needed_bytes if workers_here else needed_bytes
    if ceiling is not None and ceiling.usable_bytes < all_bytes:
        has, gives = (f"{-(-n // 2**20)} MiB" for n in (ceiling.limit_bytes, all_bytes + RESERVED_BYTES))
        return PlanError(
            f"the memory of this container is too small: {has} ({ceiling.file}), of which {limit} are used; {need};"
            f" give it {gives} or more"
        )
    return PlanError(f"compute.memory_limit {limit} is too small: {need}; set memory_limit to {needed} or more")


def _least_rows(size: JobSize, asked: int | None) -> int:
    """Return the strip height asked for, or the smallest, in whole steps and at most the frame."""
    steps = 1 if asked is None else -(-asked // size.row_step)
    return min(steps, -(-size.height // size.row_step)) * size.row_step


def _strip_rows(size: JobSize, budget: int, asked: int | None) -> int:
    """Return the strip height that fits `budget` bytes, or 0."""
    least = _least_rows(size, asked)
    if strip_memory_bytes(size, least) > budget:
        return 0
    if asked is not None:
        return least
    per_row = max(1, size.n_frames * size.width * size.sample_bytes)
    target = min(STRIP_PIXELS // size.width, STRIP_BYTES // per_row)
    target = max(1, target // size.row_step) * size.row_step
    share = -(-size.height // (LEAST_STRIPS * size.row_step)) * size.row_step
    target = min(target, share)
    while target > size.row_step and strip_memory_bytes(size, target) > budget:
        target = max(size.row_step, target // 2 // size.row_step * size.row_step)
    return min(target, -(-size.height // size.row_step) * size.row_step)
