"""The graph of tasks that makes a master, and the run that makes all masters of a folder.

Of every job: sampled rows give the noise, frames give their levels (flats), strips are combined, flats are normalised,
and `finish` makes the result visible. A flat waits for the darks it names. A task that fails on purpose becomes a
`Failure`, which passes through everything that depends on it, so that one bad master does not stop the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ostcal.engine import tasks
from ostcal.engine.driver import Part, guarded, opened, run_parts
from ostcal.engine.execution import Execution, Executor, Graph, Key
from ostcal.engine.noise import noise_rows
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import Batch, StripPlan, batches, least_tasks
from ostcal.errors import StorageError

Finish = Callable[[MasterJob, JobResult], Any]

NOISE_TASKS = 16
"""Tasks at most that share the 64 sampled rows of a series: enough for many cores, few enough not to be overhead."""

STORED_BYTES_PER_PIXEL = 5
"""Of the three planes of a master: 312 MB for 61 MP, measured with darks of 3.3 ADU of noise."""


@runtime_checkable
class FinishByJob(Protocol):
    """A `Finish` that knows all jobs, and returns what one of them needs, which is smaller to send."""

    def of(self, name: str) -> Finish:
        """Return what finishes the job of this name alone."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A finished task, for a progress bar."""

    job: str
    stage: str
    """``level``, ``combine``, ``normalise`` or ``finish``."""
    n_bytes: int
    """Bytes of frames that the task read, as they are in memory."""


def run_graph(
    jobs: Sequence[MasterJob],
    plans: Sequence[StripPlan],
    finish: Finish | FinishByJob,
    execution: Execution,
    on_progress: Callable[[Progress], None] | None = None,
    on_result: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Make all masters; return for each job what `finish` returned, or the `Failure`.

    `finish` is called with a job and its result when all strips of the master are written; it must be picklable. Of a
    `FinishByJob`, only the part for one job travels with that job's task. `on_progress` is called for every finished
    task that reads or writes pixels, `on_result` with what is returned of a job as soon as it is there. Raise
    `StorageError` if the disk of `execution.output_dir` has not enough room, and `OstcalError` if there is no cluster,
    its workers cannot be used, or it is lost on the way.
    """
    if execution.output_dir is not None:
        _check_free_space(jobs, execution.output_dir)
    for job in {(job.stack.encoding, job.flat is None): job for job in jobs}.values():
        tasks.warm_up(job)
    finish_of = finish.of if isinstance(finish, FinishByJob) else lambda name: finish
    with opened(execution) as executor:
        graphs = {
            job.name: _JobGraph.of(job, plan, finish_of(job.name), executor, len(jobs))
            for job, plan in zip(jobs, plans, strict=True)
        }

        def finished(key: Key) -> None:
            stage, name, *numbers = key
            n_bytes = graphs[name].task_bytes(stage, *numbers)
            if on_progress is not None and n_bytes is not None:
                on_progress(Progress(job=name, stage=stage, n_bytes=n_bytes))

        parts = [
            Part(name=job.name, needs=job.flat.dark_jobs if job.flat is not None else (), build=graphs[job.name].build)
            for job in jobs
        ]
        return run_parts(executor, parts, finished, on_result)


def _check_free_space(jobs: Sequence[MasterJob], output_dir: str) -> None:
    """Raise `StorageError` if the planes of the masters do not fit on the disk of a directory."""
    try:
        free = shutil.disk_usage(output_dir).free
    except OSError as error:
        raise StorageError(f"{output_dir}: its free space cannot be asked for: {error.strerror or error}") from error
    pixels = sum(job.height * job.stack.shape[2] * (1 if job.staging is None else 2) for job in jobs)
    needed = pixels * STORED_BYTES_PER_PIXEL
    if free < needed:
        raise StorageError(
            f"{output_dir}: {free / 1e9:.1f} GB are free, but the masters of this run take at least "
            f"{needed / 1e9:.1f} GB; free some, or set master_frames.output_dir to another disk"
        )


# ---- the graph of one job ----


@dataclass(frozen=True, kw_only=True)
class _JobGraph:
    """Builds the graph of one job."""

    job: MasterJob
    finish: Finish
    batches: list[Batch]
    noise_tasks: int

    @classmethod
    def of(cls, job: MasterJob, plan: StripPlan, finish: Finish, executor: Executor, n_jobs: int) -> _JobGraph:
        """Share the work on a job out so that an executor has enough to do with `n_jobs` of them."""
        least = least_tasks(executor.workers * executor.threads_per_worker, n_jobs)
        return cls(
            job=job,
            finish=finish,
            batches=batches(plan, job.row_bytes, least_tasks=least, most_bytes=executor.task_bytes),
            noise_tasks=min(NOISE_TASKS, least),
        )

    def build(self, suffix: str, darks: list[Any]) -> tuple[Graph, Key]:
        """Build the graph; `darks` are the keys of the jobs that make the dark, or their failures."""
        job, flat = self.job, self.job.flat
        # The job is a node of its own: a task that held it would carry the names of all frames, 20 KB for 100 of them.
        job_key = (f"job{suffix}", job.name)
        graph: Graph = {job_key: (_same, job)}

        def add(stage: str, function: Callable[..., Any], *arguments: Any, number: int | None = None) -> Key:
            key = (f"{stage}{suffix}", job.name) if number is None else (f"{stage}{suffix}", job.name, number)
            graph[key] = (guarded, job.name, function, job_key, *arguments)
            return key

        levels: Key | None = None
        if flat is not None and flat.scaling == "none":
            levels = add("levels", tasks.levels_without_scaling, darks)
        elif flat is not None:
            means = add("darkmeans", tasks.means_of_dark, darks)
            each = [add("level", tasks.level_of_frame, i, means, number=i) for i in range(job.n_frames)]
            levels = add("levels", tasks.frame_levels, each)
        noise: list[Key] = []
        if flat is not None or job.method.resolved(job.n_frames).needs_noise:
            rows = noise_rows(job.height)
            n = min(self.noise_tasks, len(rows))
            noise = [add("noise", tasks.noise_of_rows, rows[i::n], levels, number=i) for i in range(n)]
        prepared = add("prepare", tasks.prepare_strips, noise, levels)
        strips = [add("combine", tasks.combine_batch, b, prepared, number=b.start) for b in self.batches]
        level: Key | None = None
        ranges: list[Key] = []
        if flat is not None:
            level = add("normalization", tasks.normalization_levels, strips)
            ranges = [add("normalise", tasks.normalise_batch, b, level, number=b.start) for b in self.batches]
        return graph, add("finish", partial(tasks.merge_and_finish, self.finish), prepared, strips, level, ranges)

    def task_bytes(self, stage: str, number: int = 0) -> int | None:
        """Return the bytes of frames that a task reads; ``None`` for one that does not touch pixels."""
        match stage:
            case "combine":
                rows = self.batches[0].stop
                return self.job.row_bytes * (min(number + rows, self.job.height) - number)
            case "level":
                return self.job.row_bytes * self.job.height // self.job.n_frames
            case "normalise" | "finish":
                return 0
        return None


def _same(value: Any) -> Any:
    return value
