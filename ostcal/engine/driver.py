"""One driver for all that runs: parts of the work go to an executor, as many at a time as it takes.

The executor runs graphs of tasks with a scheduler of Dask. What threads, processes and clusters have in common is done
here, once: progress, failures, and submitting again what was lost when a process died.
"""

from __future__ import annotations

import traceback
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ostcal.engine.execution import Execution, Executor, Graph, Key, Lost
from ostcal.engine.run_local import LocalExecutor
from ostcal.errors import FrameError, OstcalError, UnlikeFrameError

RESUBMISSIONS = 3
"""How often a part is submitted again that was lost because processes died; Dask itself allows a task 3 deaths."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The result of a task that failed on purpose."""

    job: str
    message: str
    traceback: str = ""
    bad_frame: str = ""
    """Place of the frame that could not be read, or is unlike the others, if that was the reason."""
    is_unlike: bool = False
    """Whether that frame is unlike the others."""


def guarded(job_name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a task; return a `Failure` for errors raised on purpose and of the operating system.

    A `Failure` among the arguments, or in a list among them, is returned instead.
    """
    for argument in arguments:
        for value in argument if isinstance(argument, list) else [argument]:
            if isinstance(value, Failure):
                return value
    try:
        return function(*arguments)
    except (OstcalError, OSError, MemoryError) as error:
        message = str(error) or type(error).__name__
        place = error.place if isinstance(error, FrameError) else ""
        return Failure(
            job=job_name,
            message=message,
            traceback=traceback.format_exc(),
            bad_frame=place,
            is_unlike=isinstance(error, UnlikeFrameError),
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Tasks that are submitted together and have one result."""

    name: Hashable
    """Second item of all keys of the part."""
    build: Callable[[str, list[Any]], tuple[Graph, Key]]
    """Called with a suffix for the first items of the keys, and for each name in `needs` the key of its result, its
    `Failure`, or None. Returns the graph and the key of the part's result."""
    needs: tuple[str, ...] = ()
    """Names of the parts that must end before."""


def run_parts(
    executor: Executor,
    parts: Sequence[Part],
    finished: Callable[[Key], None],
    ended: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Run parts; return the result of each, or its `Failure`.

    `finished` is called once for every task that ended, with its key as it is without the suffix, and `ended` with the
    result of each part as soon as it is there.
    """
    results = _Run(executor, parts, finished, ended).results()
    return [results[part.name] for part in parts]


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    part: Part
    keys: frozenset[Key]
    end: Key


class _Run:
    """Submits parts, collects results and releases what has ended, so that memory does not grow with the run."""

    def __init__(
        self,
        executor: Executor,
        parts: Sequence[Part],
        finished: Callable[[Key], None],
        part_ended: Callable[[Any], None] | None,
    ) -> None:
        self._executor = executor
        self._finished = finished
        self._part_ended = part_ended
        self._waiting = _needed_first(parts)
        self._submitted: dict[Hashable, _Submitted] = {}
        self._n_tasks = 0
        """Submitted tasks of parts that have not ended."""
        self._results: dict[Hashable, Any] = {}
        self._times_lost: Counter[Hashable] = Counter()
        self._reported: defaultdict[Hashable, set[Key]] = defaultdict(set)
        """Keys that `finished` has, by part: of tasks that run again it hears once."""

    def results(self) -> dict[Hashable, Any]:
        try:
            self._submit()
            while self._submitted:
                before = len(self._submitted)
                self._executor.work(self._ended)
                if len(self._submitted) < before:
                    self._submit()
        finally:  # a cluster that lives on has no use for the rest
            for submitted in self._submitted.values():
                self._executor.release(submitted.keys)
        return self._results

    def _submit(self) -> None:
        """Submit the parts that may start, in one graph: a submission to a cluster is a message there and back."""
        window = self._executor.window
        if window is not None and self._submitted and self._n_tasks > window - window // 8:
            return
        suffix = f"-{uuid.uuid4().hex}"  # Dask leaves it out of the names on its dashboard
        graph: Graph = {}
        ends: list[Key] = []
        for part in list(self._waiting.values()):
            if window is not None and self._n_tasks >= window:
                break
            # Without a window all parts are in one graph, and Dask waits. A cluster gets a part when what it needs has
            # ended, so that it is not blamed for workers that die with something else.
            if window is not None and any(name in self._waiting or name in self._submitted for name in part.needs):
                continue
            own, end = part.build(suffix, [self._needed(name) for name in part.needs])
            self._submitted[part.name] = _Submitted(part=part, keys=frozenset(own), end=end)
            self._n_tasks += len(own)
            graph |= own
            ends.append(end)
            del self._waiting[part.name]
        if graph:
            self._executor.submit(graph, ends)

    def _needed(self, name: str) -> Key | Failure | None:
        if name in self._submitted:
            return self._submitted[name].end
        result = self._results.get(name)
        return result if isinstance(result, Failure) else None

    def _ended(self, key: Key, result: Any) -> None:
        submitted = self._submitted.get(key[1])
        if submitted is None or key not in submitted.keys:  # of a part that was lost
            return
        part = submitted.part
        if isinstance(result, Lost):
            self._forget(submitted)
            self._times_lost[part.name] += 1
            if self._times_lost[part.name] <= RESUBMISSIONS:
                self._waiting = _needed_first([part, *self._waiting.values()])
            else:
                message = (
                    "workers died again and again while it was made; give them more memory, or see their logs, and "
                    "start the same command again"
                )
                self._results[part.name] = Failure(job=str(part.name), message=message)
            return
        plain = (key[0].partition("-")[0], *key[1:])
        if plain not in self._reported[part.name]:
            self._reported[part.name].add(plain)
            self._finished(plain)
        if key == submitted.end:
            self._results[part.name] = result
            del self._reported[part.name]
            self._forget(submitted)
            if self._part_ended is not None:
                self._part_ended(result)

    def _forget(self, submitted: _Submitted) -> None:
        del self._submitted[submitted.part.name]
        self._n_tasks -= len(submitted.keys)
        self._executor.release(submitted.keys)


def _needed_first(parts: Sequence[Part]) -> dict[Hashable, Part]:
    """Order parts so that those that others need come first: what is submitted together refers to them."""
    return {part.name: part for part in sorted(parts, key=lambda part: bool(part.needs))}


# ---- executors and independent calls ----


@contextmanager
def opened(execution: Execution) -> Iterator[Executor]:
    """Open the executor that an execution asks for, or use the one that `connected` has opened."""
    if execution.scheduler != "distributed":
        yield LocalExecutor(execution)
    elif execution.executor is not None:
        yield execution.executor
    else:
        from ostcal.engine.cluster.executor import cluster_executor  # distributed takes 0.4 s to import

        with cluster_executor(execution) as executor:
            yield executor


@contextmanager
def connected(execution: Execution) -> Iterator[Execution]:
    """Keep one cluster for all graphs of a run; yield the execution with it and the workers that it has.

    Threads and processes are yielded unchanged. Raise `OstcalError` if there is no cluster, or its workers cannot be
    used.
    """
    if execution.scheduler != "distributed":
        yield execution
        return
    with opened(execution) as executor:
        threads = executor.threads_per_worker
        yield replace(execution, workers=executor.workers, threads_per_worker=threads, executor=executor)


def run_tasks(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    execution: Execution,
    on_done: Callable[[int], None] | None = None,
) -> list[Any]:
    """Call a function for each item, independently; return the result of each, or its `Failure`.

    Function, items and results must be picklable. `on_done` is called with the index of every item that is done, in any
    order. Raise `OstcalError` if there is no cluster, its workers cannot be used, or it is lost on the way.
    """

    def part_of(index: int, item: Any) -> Part:
        def build(suffix: str, needed: list[Any]) -> tuple[Graph, Key]:
            key = (f"item{suffix}", index)
            return {key: (guarded, str(index), partial(function, item))}, key

        return Part(name=index, build=build)

    def finished(key: Key) -> None:
        if on_done is not None:
            on_done(key[1])

    with opened(execution) as executor:
        return run_parts(executor, [part_of(index, item) for index, item in enumerate(items)], finished)
