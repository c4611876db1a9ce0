"""One Dask graph for all masters of a run, and how it is executed.

Of every job: sampled rows give the noise, frames give their levels (flats), strips are combined, flats are normalised,
and `finish` makes the result visible. A flat waits for the darks it names. A task that fails on purpose becomes a
`Failure`, which passes through everything that depends on it, so that one bad master does not stop the others.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ostcal.engine import levels as frame_levels
from ostcal.engine import tasks
from ostcal.engine.cluster import cluster_client
from ostcal.engine.noise import merge_cells, sampled_rows
from ostcal.engine.normalization import measure_levels
from ostcal.engine.rejection import SeriesNoise
from ostcal.engine.tasks import JobResult, MasterJob, Prepared
from ostcal.engine.tiling import StripPlan
from ostcal.errors import FrameError, OstcalError

Scheduler = Literal["threads", "processes", "distributed"]
Finish = Callable[[MasterJob, JobResult], Any]
Graph = dict[Hashable, Any]

NOISE_TASKS = 16
"""Tasks that share the 64 sampled rows of a series: enough for many cores, few enough not to be overhead."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a task gives instead of a result when it failed on purpose."""

    job: str
    message: str
    traceback: str = ""
    bad_frame: str = ""
    """Place of the frame that could not be read, if that was the reason."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where a graph runs."""

    scheduler: Scheduler = "threads"
    workers: int = 1
    address: str | None = None
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A finished task, for whoever shows progress."""

    job: str
    stage: str
    """``level``, ``combine``, ``normalise`` or ``finish``."""
    n_bytes: int
    """Bytes of frames that the task read, as they are in memory."""


def _guarded(job_name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a task; errors raised on purpose and of the operating system become a `Failure`."""
    for argument in arguments:
        if isinstance(argument, Failure):
            return argument
        if isinstance(argument, list):
            for item in argument:
                if isinstance(item, Failure):
                    return item
    try:
        return function(*arguments)
    except (OstcalError, OSError, MemoryError) as error:
        message = str(error) or type(error).__name__
        place = error.place if isinstance(error, FrameError) else ""
        return Failure(job=job_name, message=message, traceback=traceback.format_exc(), bad_frame=place)


def build_graph(jobs: Sequence[MasterJob], plans: Sequence[StripPlan], finish: Finish) -> tuple[Graph, list[Hashable]]:
    """Build the graph of all jobs; gives it and the key of each job's end, in the order of `jobs`."""
    graph: Graph = {}
    for job, plan in zip(jobs, plans, strict=True):
        _add_job(graph, job, plan, finish)
    return graph, [("finish", job.name) for job in jobs]


def _add_job(graph: Graph, job: MasterJob, plan: StripPlan, finish: Finish) -> None:
    name = job.name
    level_key = _add_levels(graph, job) if job.flat is not None else None
    noise_keys = _add_noise(graph, job, level_key)
    graph["prepare", name] = (_guarded, name, _prepare, job, noise_keys, level_key)
    strips: list[Hashable] = []
    for start, stop in plan.strips:
        strips.append(("combine", name, start))
        graph["combine", name, start] = (_guarded, name, tasks.combine_strip, job, start, stop, ("prepare", name))
    ranges: list[Hashable] = []
    graph["normalization", name] = (_guarded, name, _normalization_levels, job, strips)
    if job.flat is not None:
        for start, stop in plan.strips:
            ranges.append(("normalise", name, start))
            graph["normalise", name, start] = (
                _guarded, name, tasks.normalise_strip, job, start, stop, ("normalization", name),
            )  # fmt: skip
    graph["merge", name] = (
        _guarded, name, tasks.merge_strips, job, ("prepare", name), strips, ("normalization", name), ranges,
    )  # fmt: skip
    graph["finish", name] = (_guarded, name, finish, job, ("merge", name))


def _add_levels(graph: Graph, job: MasterJob) -> Hashable:
    flat = job.flat
    if flat is None or flat.scaling == "none":
        graph["levels", job.name] = (_guarded, job.name, _no_levels, job, _darks(job))
        return ("levels", job.name)
    graph["darkmeans", job.name] = (_guarded, job.name, _dark_means, job, _darks(job))
    keys: list[Hashable] = []
    for index in range(job.n_frames):
        keys.append(("level", job.name, index))
        graph["level", job.name, index] = (
            _guarded, job.name, tasks.level_of_frame, job, index, ("darkmeans", job.name),
        )  # fmt: skip
    graph["levels", job.name] = (_guarded, job.name, frame_levels.common_scales, keys, flat.scaling)
    return ("levels", job.name)


def _darks(job: MasterJob) -> list[Hashable]:
    return [("finish", name) for name in job.flat.dark_jobs] if job.flat is not None else []


def _add_noise(graph: Graph, job: MasterJob, level_key: Hashable | None) -> list[Hashable]:
    if job.flat is None and not job.method.resolved(job.n_frames).needs_noise:
        return []
    rows = sampled_rows(job.height)
    keys: list[Hashable] = []
    for part in range(min(NOISE_TASKS, len(rows))):
        keys.append(("noise", job.name, part))
        graph["noise", job.name, part] = (
            _guarded, job.name, tasks.noise_of_rows, job, rows[part::NOISE_TASKS], level_key,
        )  # fmt: skip
    return keys


def _no_levels(job: MasterJob, darks: list[Any]) -> frame_levels.FrameLevels:
    return frame_levels.common_scales([0.0] * job.n_frames, "none")


def _dark_means(job: MasterJob, darks: list[Any]) -> frame_levels.DarkMeans:
    return frame_levels.dark_means(job.flat.dark if job.flat is not None else None, job.height)


def _prepare(job: MasterJob, parts: list[Any], levels: frame_levels.FrameLevels | None) -> Prepared:
    lit = job.n_frames - (len(levels.left_out) if levels is not None else 0)
    noise = SeriesNoise() if not parts else merge_cells([cells for part in parts for cells in part], lit)
    if job.flat is not None and job.stack.encoding.is_integer:
        noise = SeriesNoise(noise_adu=noise.noise_adu, step_adu=1.0)
    if levels is not None:
        frame_levels.check_light(levels, noise)
    return Prepared(noise=noise, levels=levels)


def _normalization_levels(job: MasterJob, strips: list[Any]) -> dict[str, float]:
    if job.flat is None:
        return {}
    return measure_levels(job.combined.read_rows, job.height, job.flat.normalization, job.flat.bayer_pattern)


def run_graph(
    jobs: Sequence[MasterJob],
    plans: Sequence[StripPlan],
    finish: Finish,
    execution: Execution,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Any]:
    """Execute all jobs; gives for each what `finish` returned, or the `Failure`.

    Parameters
    ----------
    jobs, plans : sequences of the same length
    finish : callable (job, result) -> Any
        Called once per master when all its strips are written; must be picklable.
    execution : Execution
    on_progress : callable, optional
        Called for every finished task that reads or writes pixels.
    """
    graph, keys = build_graph(jobs, plans, finish)
    sizes = _task_bytes(jobs, plans)

    def finished(key: Hashable) -> None:
        if on_progress is not None and isinstance(key, tuple) and key in sizes:
            on_progress(Progress(job=str(key[1]), stage=str(key[0]), n_bytes=sizes[key]))

    if execution.scheduler != "threads":
        for job in {(job.stack.encoding, job.flat is None): job for job in jobs}.values():
            tasks.warm_up(job)
    return _execute(graph, keys, execution, finished)


def _execute(
    graph: Graph, keys: list[Hashable], execution: Execution, finished: Callable[[Hashable], None]
) -> list[Any]:
    """Run a graph where `execution` says."""
    if execution.scheduler == "distributed":
        with cluster_client(execution.address, execution.workers, execution.memory_limit_bytes) as client:
            return _run_distributed(client, graph, keys, finished)
    return _run_local(graph, keys, execution, finished)


def _task_bytes(jobs: Sequence[MasterJob], plans: Sequence[StripPlan]) -> dict[Hashable, int]:
    """Give for every task that touches pixels the bytes of frames it reads."""
    sizes: dict[Hashable, int] = {}
    for job, plan in zip(jobs, plans, strict=True):
        n, height, width = job.stack.shape
        row_bytes = n * width * {"uint16": 2, "float32": 4}.get(job.stack.encoding.dtype, 8)
        for start, stop in plan.strips:
            sizes["combine", job.name, start] = row_bytes * (stop - start)
            if job.flat is not None:
                sizes["normalise", job.name, start] = 0
        if job.flat is not None and job.flat.scaling != "none":
            for index in range(n):
                sizes["level", job.name, index] = row_bytes * height // n
        sizes["finish", job.name] = 0
    return sizes


def total_bytes(jobs: Sequence[MasterJob], plans: Sequence[StripPlan]) -> int:
    """Give the bytes of frames that a run reads, for a progress bar."""
    return sum(_task_bytes(jobs, plans).values())


def run_tasks(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    execution: Execution,
    on_done: Callable[[int], None] | None = None,
) -> list[Any]:
    """Call a function for each item, independently; gives for each its result, or the `Failure`.

    Parameters
    ----------
    function : callable (item) -> Any
        Must be picklable, as items and results must.
    items : sequence
    execution : Execution
    on_done : callable (index), optional
        Called for every item that is done, in any order.
    """
    keys: list[Hashable] = [("item", index) for index in range(len(items))]
    graph: Graph = {
        key: (_guarded, str(index), partial(function, item))
        for index, (key, item) in enumerate(zip(keys, items, strict=True))
    }

    def finished(key: Hashable) -> None:
        if on_done is not None and isinstance(key, tuple):
            on_done(key[1])

    return _execute(graph, keys, execution, finished)


def _leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C, which the terminal sends to all processes: only one of them ends the run and says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_local(
    graph: Graph, keys: list[Hashable], execution: Execution, finished: Callable[[Hashable], None]
) -> list[Any]:
    import dask.multiprocessing
    import dask.threaded
    from dask.callbacks import Callback

    lock = threading.Lock()

    class Report(Callback):  # type: ignore[misc]
        def _posttask(self, key: Hashable, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
            with lock:
                finished(key)

    with Report():
        if execution.scheduler == "processes":
            return list(
                dask.multiprocessing.get(
                    graph,
                    keys,
                    num_workers=execution.workers,
                    optimize_graph=False,
                    chunksize=1,
                    initializer=_leave_interrupts_to_the_parent,
                )
            )
        with ThreadPoolExecutor(execution.workers, thread_name_prefix="ostcal") as pool:
            return list(dask.threaded.get(graph, keys, pool=pool))


def _run_distributed(
    client: Any, graph: Graph, keys: list[Hashable], finished: Callable[[Hashable], None]
) -> list[Any]:
    from distributed import as_completed

    futures = client.get(graph, list(graph), sync=False)
    by_key = dict(zip(graph, futures, strict=True))
    for future in as_completed(futures):
        finished(future.key)
    return list(client.gather([by_key[key] for key in keys]))
