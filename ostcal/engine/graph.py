"""One Dask graph for all masters of a run, and how it is executed.

Of every job: sampled rows give the noise, frames give their levels (flats), strips are combined, flats are normalised,
and `finish` makes the result visible. A flat waits for the darks it names. A task that fails on purpose becomes a
`Failure`, which passes through everything that depends on it, so that one bad master does not stop the others.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ostcal.engine import levels as frame_levels
from ostcal.engine import tasks
from ostcal.engine.batches import Batch, Sharing, batches, combine_batch, normalise_batch, row_bytes
from ostcal.engine.execution import Execution as Execution
from ostcal.engine.interrupts import interrupts_ignored
from ostcal.engine.noise import merge_cells, sampled_rows
from ostcal.engine.normalization import lit_level, measure_levels
from ostcal.engine.rejection import SeriesNoise
from ostcal.engine.tasks import JobResult, MasterJob, PixelRange, Prepared, StripResult
from ostcal.engine.tiling import StripPlan
from ostcal.errors import FrameError, OstcalError, StorageError

if TYPE_CHECKING:
    from ostcal.engine.cluster import Connection

Finish = Callable[[MasterJob, JobResult], Any]
Graph = dict[Hashable, Any]

NOISE_TASKS = 16
"""Tasks at most that share the 64 sampled rows of a series: enough for many cores, few enough not to be overhead."""

STORED_BYTES_PER_PIXEL = 5
"""Of the three planes of a master: 312 MB for 61 MP, measured with darks of 3.3 ADU of noise."""

WINDOW_TASKS = 4000
"""Tasks on a cluster at a time: four for each of 1000 workers, 20 MB in the scheduler; a run may have any number."""

ITEMS_AT_ONCE = 500
"""Independent calls that are submitted, gathered and released together."""

RESUBMISSIONS = 3
"""How often work is submitted again that Dask gave up because workers died with it: 4 deaths each by default."""

WORKERS_DIED = "workers died again and again while it was made; give them more memory, or see their logs"


@runtime_checkable
class FinishByJob(Protocol):
    """A `Finish` that knows all jobs and gives what one of them needs, which is smaller to send."""

    def __call__(self, job: MasterJob, result: JobResult) -> Any:
        """Finish a job."""

    def of(self, name: str) -> Callable[[MasterJob, JobResult], Any]:
        """Give what finishes the job of this name alone."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a task gives instead of a result when it failed on purpose."""

    job: str
    message: str
    traceback: str = ""
    bad_frame: str = ""
    """Place of the frame that could not be read, if that was the reason."""


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


def build_graph(
    jobs: Sequence[MasterJob], plans: Sequence[StripPlan], finish: Finish, parallel: int = 1
) -> tuple[Graph, list[Hashable]]:
    """Build the graph of all jobs; gives it and the key of each job's end, in the order of `jobs`.

    Parameters
    ----------
    jobs, plans : sequences of the same length
    finish : callable (job, result) -> Any
    parallel : int
        Strips that may be in work at a time, which decides how many strips share a task.
    """
    graph: Graph = {}
    sharing = Sharing.among(parallel, len(jobs), on_cluster=False)
    for job, plan in zip(jobs, plans, strict=True):
        _JobGraph(job=job, plan=plan, sharing=sharing, graph=graph).add_all(finish)
    return graph, [("finish", job.name) for job in jobs]


@dataclass(frozen=True, kw_only=True)
class _JobGraph:
    """Adds the tasks of one job to a graph.

    Its job is a node of its own: a task that held it would carry the names of all frames, 20 KB for 100 of them.
    """

    job: MasterJob
    plan: StripPlan
    sharing: Sharing
    graph: Graph
    token: str = ""
    """Tells the keys of this graph from those of others on the same cluster."""
    ended: Mapping[str, Any] = field(default_factory=dict)
    """Results of jobs that are no part of the graph."""

    def add_all(self, finish: Finish) -> Hashable:
        """Add everything; gives the key of the job's end."""
        job = self.job
        self.graph[self._key("job")] = (_same, job)
        level_key = self._add_levels() if job.flat is not None else None
        prepared = self._add("prepare", _prepare, self._add_noise(level_key), level_key)
        strips: list[Hashable] = []
        for batch in batches(job, self.plan, self.sharing):
            strips.append(self._add_batch("combine", batch, combine_batch, prepared))
        levels: Hashable | None = None
        ranges: list[Hashable] = []
        if job.flat is not None:
            levels = self._add("normalization", _normalization_levels, strips)
            for batch in batches(job, self.plan, self.sharing):
                ranges.append(self._add_batch("normalise", batch, normalise_batch, levels))
        last = finish.of(job.name) if isinstance(finish, FinishByJob) else finish
        return self._add("finish", partial(_merge_and_finish, last), prepared, strips, levels, ranges)

    def _stage(self, stage: str) -> str:
        return f"{stage}-{self.token}" if self.token else stage

    def _key(self, stage: str, *index: int) -> Hashable:
        return (self._stage(stage), self.job.name, *index)

    def _add(self, stage: str, function: Callable[..., Any], *arguments: Any) -> Hashable:
        key = self._key(stage)
        self.graph[key] = (_guarded, self.job.name, function, self._key("job"), *arguments)
        return key

    def _add_batch(self, stage: str, batch: Batch, function: Callable[..., Any], argument: Hashable) -> Hashable:
        key = self._key(stage, batch.start)
        self.graph[key] = (_guarded, self.job.name, function, self._key("job"), batch, argument)
        return key

    def _add_levels(self) -> Hashable:
        flat = self.job.flat
        darks = self._darks()
        if flat is None or flat.scaling == "none":
            return self._add("levels", _no_levels, darks)
        means = self._add("darkmeans", _dark_means, darks)
        keys: list[Hashable] = []
        for index in range(self.job.n_frames):
            keys.append(self._key("level", index))
            self.graph[keys[-1]] = (
                _guarded, self.job.name, tasks.level_of_frame, self._key("job"), index, means,
            )  # fmt: skip
        return self._add("levels", _common_scales, keys)

    def _darks(self) -> list[Any]:
        """Give what the darks of a flat came to: keys of this graph, or a failure that is known already."""
        names = self.job.flat.dark_jobs if self.job.flat is not None else ()
        stage = self._stage("finish")
        return [self.ended.get(name, (stage, name)) for name in names]

    def _add_noise(self, level_key: Hashable | None) -> list[Hashable]:
        job = self.job
        if job.flat is None and not job.method.resolved(job.n_frames).needs_noise:
            return []
        rows = sampled_rows(job.height)
        keys: list[Hashable] = []
        n_parts = min(NOISE_TASKS, self.sharing.least_tasks, len(rows))
        for part in range(n_parts):
            keys.append(self._key("noise", part))
            self.graph[keys[-1]] = (
                _guarded, job.name, tasks.noise_of_rows, self._key("job"), rows[part::n_parts], level_key,
            )  # fmt: skip
        return keys


# ---- steps between strips ----


def _same(value: Any) -> Any:
    return value


def _common_scales(job: MasterJob, frame_levels_adu: list[float]) -> frame_levels.FrameLevels:
    return frame_levels.common_scales(frame_levels_adu, job.flat.scaling if job.flat is not None else "none")


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


def _normalization_levels(job: MasterJob, strips: list[StripResult]) -> dict[str, float]:
    flat = job.flat
    if flat is None:
        return {}
    combined, method = job.combined, flat.normalization
    if flat.bayer_pattern is None and method == "mean":  # what the strips have summed already
        return {"": lit_level(tasks.mean_of([strip.pixels for strip in strips]), method)}
    return measure_levels(combined.read_rows, job.height, method, flat.bayer_pattern, combined.row_step)


def _merge_and_finish(
    finish: Callable[[MasterJob, JobResult], Any],
    job: MasterJob,
    prepared: Prepared,
    strips: list[StripResult],
    levels: dict[str, float] | None,
    ranges: list[PixelRange],
) -> Any:
    return finish(job, tasks.merge_strips(job, prepared, strips, levels or {}, ranges))


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
        Called once per master when all its strips are written; must be picklable. Where it is a `FinishByJob`, only
        its part for one job travels with that job's task.
    execution : Execution
    on_progress : callable, optional
        Called for every finished task that reads or writes pixels.

    Raises
    ------
    StorageError
        If the disk of `execution.output_dir` has not enough room.
    OstcalError
        If there is no cluster, its workers cannot be used, or it is lost on the way.
    """
    check_free_space(jobs, execution.output_dir)
    for job in {(job.stack.encoding, job.flat is None): job for job in jobs}.values():
        tasks.warm_up(job)
    if execution.scheduler == "distributed":
        from ostcal.engine.cluster import connection  # distributed takes 0.4 s to import

        with connection(execution) as ready:
            sharing = Sharing.among(ready.threads, len(jobs), on_cluster=True)
            parts = [_job_part(job, plan, finish, sharing) for job, plan in zip(jobs, plans, strict=True)]
            results = _run_distributed(ready, parts, _reporter(jobs, plans, sharing, on_progress))
            return [result for part in results for result in part]
    sharing = Sharing.among(execution.workers, len(jobs), on_cluster=False)
    finished = _reporter(jobs, plans, sharing, on_progress)
    graph, keys = build_graph(jobs, plans, finish, execution.workers)
    return _run_local(graph, keys, execution, finished)


def _reporter(
    jobs: Sequence[MasterJob],
    plans: Sequence[StripPlan],
    sharing: Sharing,
    on_progress: Callable[[Progress], None] | None,
) -> Callable[[Hashable], None]:
    """Give what is called with the key of every finished task."""
    if on_progress is None:
        return lambda key: None
    sizes = _task_bytes(jobs, plans, sharing)
    tell = on_progress

    def finished(key: Hashable) -> None:
        if isinstance(key, tuple):
            stage = str(key[0]).partition("-")[0]
            n_bytes = sizes.get((stage, *key[1:]))
            if n_bytes is not None:
                tell(Progress(job=str(key[1]), stage=stage, n_bytes=n_bytes))

    return finished


def check_free_space(jobs: Sequence[MasterJob], output_dir: str | None) -> None:
    """Refuse to begin what cannot end.

    Parameters
    ----------
    jobs : sequence of MasterJob
    output_dir : str or None
        ``None`` is not checked.

    Raises
    ------
    StorageError
        If the planes of the masters do not fit on its disk.
    """
    if output_dir is None:
        return
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


@contextmanager
def connected(execution: Execution) -> Iterator[Execution]:
    """Keep one cluster for all graphs of a run; gives the execution with the workers that there are.

    Threads and processes need none of it and are given back as they are.

    Raises
    ------
    OstcalError
        As `run_graph`.
    """
    if execution.scheduler != "distributed":
        yield execution
        return
    from ostcal.engine.cluster import connection

    with connection(execution) as ready:
        yield replace(execution, workers=ready.workers, threads_per_worker=ready.threads_per_worker)


def _task_bytes(jobs: Sequence[MasterJob], plans: Sequence[StripPlan], sharing: Sharing) -> dict[Hashable, int]:
    """Give for every task that touches pixels the bytes of frames it reads."""
    sizes: dict[Hashable, int] = {}
    for job, plan in zip(jobs, plans, strict=True):
        for batch in batches(job, plan, sharing):
            sizes["combine", job.name, batch.start] = row_bytes(job) * (batch.stop - batch.start)
            if job.flat is not None:
                sizes["normalise", job.name, batch.start] = 0
        if job.flat is not None and job.flat.scaling != "none":
            for index in range(job.n_frames):
                sizes["level", job.name, index] = row_bytes(job) * job.height // job.n_frames
        sizes["finish", job.name] = 0
    return sizes


def total_bytes(jobs: Sequence[MasterJob], plans: Sequence[StripPlan]) -> int:
    """Give the bytes of frames that a run reads, for a progress bar."""
    return sum(_task_bytes(jobs, plans, Sharing.among(1, len(jobs), on_cluster=False)).values())


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

    def finished(key: Hashable) -> None:
        if on_done is not None and isinstance(key, tuple):
            on_done(key[-1])

    if execution.scheduler != "distributed":
        part = _item_part(function, items, 0, len(items))
        graph, keys = part.build("", {})
        return _run_local(graph, keys, execution, finished)
    from ostcal.engine.cluster import connection

    parts = [
        _item_part(function, items, start, min(start + ITEMS_AT_ONCE, len(items)))
        for start in range(0, len(items), ITEMS_AT_ONCE)
    ]
    with connection(execution) as ready:
        results = [result for part in _run_distributed(ready, parts, finished) for result in part]
        lost = [i for i, result in enumerate(results) if isinstance(result, Failure) and result.message == WORKERS_DIED]
        if len(items) > 1 and lost:  # each alone, so that one that kills workers does not take the others with it
            parts = [_item_part(function, items, index, index + 1) for index in lost]
            for index, (again,) in zip(lost, _run_distributed(ready, parts, _ignored), strict=True):
                results[index] = again
        return results


def _ignored(key: Hashable) -> None:
    """Tell nobody: these tasks were told of before."""


def _begin_process(prepare: Callable[[], None] | None) -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the parent, and end when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="ostcal-parent", daemon=True).start()
    if prepare is not None:
        with suppress(OstcalError):  # the first task meets the same and can say so
            prepare()


def _end_with_the_parent() -> None:
    """End this process with its parent: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _process_pool(workers: int, prepare: Callable[[], None] | None) -> Iterator[ProcessPoolExecutor]:
    """Start processes that ignore Ctrl-C from their first moment: importing takes a second, in which it may come."""
    context = multiprocessing.get_context("spawn")
    with interrupts_ignored():
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_process, initargs=(prepare,))
        for _ in range(workers):  # each starts a process, which inherits what is ignored
            pool.submit(int)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


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
            with _process_pool(execution.workers, execution.prepare) as processes:
                return list(dask.multiprocessing.get(graph, keys, pool=processes, optimize_graph=False, chunksize=1))
        with ThreadPoolExecutor(execution.workers, thread_name_prefix="ostcal") as pool:
            return list(dask.threaded.get(graph, keys, pool=pool))


def keep_dask_lean(*, on_cluster: bool) -> None:
    """Have Dask not import what a process of our own does without, 0.02 s each, unless it is there already.

    These are jinja2, which shows graphs as web pages, and psutil, by which it counts the cores to use where nobody says
    how many; clusters ask for that.
    """
    unneeded = ("jinja2",) if on_cluster else ("jinja2", "psutil")
    hidden = [name for name in unneeded if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import that finds None fails
    try:
        import dask.system
        import dask.widgets  # noqa: F401  # both can do without
    finally:
        for name in hidden:
            del sys.modules[name]


# ---- on a cluster ----


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Work that is submitted at once, when all that it needs has ended."""

    name: str
    needs: tuple[str, ...] = ()
    build: Callable[[str, Mapping[str, Any]], tuple[Graph, list[Hashable]]]
    """Called with a token for the keys and the results of what ended; gives a graph and the keys of its results."""


def _job_part(job: MasterJob, plan: StripPlan, finish: Finish, sharing: Sharing) -> _Part:
    def build(token: str, ended: Mapping[str, Any]) -> tuple[Graph, list[Hashable]]:
        graph: Graph = {}
        end = _JobGraph(job=job, plan=plan, sharing=sharing, graph=graph, token=token, ended=ended).add_all(finish)
        return graph, [end]

    return _Part(name=job.name, needs=job.flat.dark_jobs if job.flat is not None else (), build=build)


def _item_part(function: Callable[[Any], Any], items: Sequence[Any], start: int, stop: int) -> _Part:
    def build(token: str, ended: Mapping[str, Any]) -> tuple[Graph, list[Hashable]]:
        stage = f"item-{token}" if token else "item"
        graph: Graph = {
            (stage, index): (_guarded, str(index), partial(function, items[index])) for index in range(start, stop)
        }
        return graph, list(graph)

    return _Part(name=f"{start}", build=build)


def _run_distributed(
    ready: Connection, parts: Sequence[_Part], finished: Callable[[Hashable], None]
) -> list[list[Any]]:
    """Run parts on a cluster, as many at a time as `WINDOW_TASKS` allows; gives the results of each."""
    from ostcal.engine.cluster import workers_watched

    run = _ClusterRun(ready.client, parts, finished)
    with workers_watched(ready, run.give_up):
        run.work()
    return [run.results[part.name] for part in parts]


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """A part that is on the cluster."""

    part: _Part
    futures: dict[Hashable, Any]
    ends: list[Hashable]
    missing: set[Hashable]
    """Ends that have not come yet."""
    lost: set[Hashable] = field(default_factory=set)
    """Ends that Dask gave up."""


class _ClusterRun:
    """Submits parts, gathers what ends, and lets go of it, so that neither side grows with the length of a run."""

    def __init__(self, client: Any, parts: Sequence[_Part], finished: Callable[[Hashable], None]) -> None:
        from distributed import as_completed

        self.results: dict[str, list[Any]] = {}
        self._client = client
        self._finished = finished
        self._names = {part.name for part in parts}
        self._waiting = list(parts)
        self._submitted: dict[str, _Submitted] = {}
        """By the token in their keys."""
        self._completed = as_completed()
        self._times_given_up: Counter[str] = Counter()
        self._told: defaultdict[str, set[Hashable]] = defaultdict(set)
        """Keys without their token that were told of, by part: work that is submitted again is told of once."""
        self._given_up_for: str | None = None

    def give_up(self, reason: str) -> None:
        """Let `work` end with `reason`, from another thread."""
        self._given_up_for = reason
        self._client.cancel([future for part in list(self._submitted.values()) for future in part.futures.values()])

    def work(self) -> None:
        """Work until all parts have results."""
        self._submit()
        while self._submitted:
            self._take(next(self._completed))

    def _submit(self) -> None:
        """Submit what may begin, in one graph: each submission takes a message there and back."""
        graph: Graph = {}
        begun: list[tuple[str, _Part, list[Hashable], list[Hashable]]] = []
        n_tasks = sum(len(submitted.futures) for submitted in self._submitted.values())
        for part in list(self._waiting):
            if n_tasks + len(graph) >= WINDOW_TASKS:
                break
            if any(name in self._names and name not in self.results for name in part.needs):
                continue
            token = uuid.uuid4().hex
            own, ends = part.build(token, self._ended(part))
            graph |= own
            begun.append((token, part, list(own), ends))
            self._waiting.remove(part)
        if not graph:
            return
        futures = dict(zip(graph, self._client.get(graph, list(graph), sync=False), strict=True))
        for token, part, keys, ends in begun:
            own_futures = {key: futures[key] for key in keys}
            self._submitted[token] = _Submitted(part=part, futures=own_futures, ends=ends, missing=set(ends))
        self._completed.update(futures.values())

    def _ended(self, part: _Part) -> dict[str, Failure | None]:
        """Give the failures among what a part needs; of the others it is enough that they ended."""
        results = {name: self.results[name][0] if name in self.results else None for name in part.needs}
        return {name: result if isinstance(result, Failure) else None for name, result in results.items()}

    def _take(self, future: Any) -> None:
        """Take note of a task that ended."""
        from distributed import KilledWorker

        token = str(future.key[0]).rpartition("-")[2]
        submitted = self._submitted.get(token)
        if submitted is None:  # of a part that was given up
            return
        if future.cancelled():
            raise OstcalError(
                self._given_up_for
                or "the connection to the Dask scheduler was lost; what it had in work is lost with it: "
                "see that it runs and has workers, and start the same command again"
            )
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker):
                raise error
            if len(submitted.ends) == 1:
                self._give_up(token, submitted)
                return
            submitted.lost.add(future.key)  # the others of a part with several ends do not depend on it
        told = self._told[submitted.part.name]
        name = (str(future.key[0]).partition("-")[0], *future.key[1:])
        if name not in told:
            told.add(name)
            self._finished(future.key)
        submitted.missing.discard(future.key)
        if not submitted.missing:
            self._gather(token, submitted)

    def _gather(self, token: str, submitted: _Submitted) -> None:
        """Fetch what a part came to."""
        kept = [key for key in submitted.ends if key not in submitted.lost]
        results = dict(zip(kept, self._client.gather([submitted.futures[key] for key in kept]), strict=True))
        failure = Failure(job=submitted.part.name, message=WORKERS_DIED)
        self._end(token, submitted, [results.get(key, failure) for key in submitted.ends])

    def _give_up(self, token: str, submitted: _Submitted) -> None:
        """Submit a part again after workers died with it, or let it fail."""
        part = submitted.part
        self._times_given_up[part.name] += 1
        if self._times_given_up[part.name] <= RESUBMISSIONS:
            del self._submitted[token]
            self._waiting.insert(0, part)
            self._submit()
            return
        self._end(token, submitted, [Failure(job=part.name, message=WORKERS_DIED)])

    def _end(self, token: str, submitted: _Submitted, results: list[Any]) -> None:
        self.results[submitted.part.name] = results
        self._told.pop(submitted.part.name, None)
        del self._submitted[token]
        self._submit()
