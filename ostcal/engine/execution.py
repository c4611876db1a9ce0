"""Where work runs: `Execution` says it as values, an `Executor` does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ostcal.errors import ConfigError
from ostcal.vocabulary import Scheduler

Key = tuple[Any, ...]
"""Of a task: its stage, the name of the part of the work that it belongs to, its number where there are several."""
Graph = dict[Key, Any]
"""Of Dask: a tuple of function and arguments for each key; keys among the arguments stand for their results."""


@dataclass(frozen=True)
class Lost:
    """Takes the place of a task's result when the processes that ran it died."""


class Executor(Protocol):
    """Runs graphs of tasks with one of Dask's schedulers."""

    workers: int
    """Threads, processes, or workers of a cluster."""
    threads_per_worker: int
    """Tasks that each runs at a time; of the worker that runs most."""
    task_bytes: int
    """Bytes of frames that a task reads at most, if it is more than one strip."""
    window: int | None
    """Tasks that are submitted at a time; ``None`` if all work must be one graph."""

    def submit(self, graph: Graph, ends: Sequence[Key]) -> None:
        """Take a graph; the results of the keys in `ends` are wanted."""

    def work(self, ended: Callable[[Key, Any], None]) -> None:
        """Return when tasks have ended, after calling `ended` for each with its key and result.

        The result is None for keys that are not in `ends`, or anything; and `Lost` where processes died. Errors of
        tasks are raised.
        """

    def release(self, keys: Iterable[Key]) -> None:
        """Forget tasks that were submitted, ended or not."""


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(scheduler: Scheduler) -> int:
    """Return the number of threads or processes that keep this computer busy.

    One thread more than cores, as some wait for the disk, past the page cache: 0.2 s of 2.6 s for 40 frames of 61 MP.
    A process more would cost its 260 MiB.
    """
    return usable_cores() + (1 if scheduler == "threads" else 0)


@dataclass(frozen=True, kw_only=True)
class ClusterClass:
    """A class with Dask's cluster interface, which starts workers: ``dask_jobqueue.SLURMCluster``, for example."""

    name: str
    """``module.Class``."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """Paths of the PEM files for a scheduler that speaks TLS."""

    ca: str
    """Certificate of the authority that signed the others."""
    cert: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where work runs."""

    scheduler: Scheduler = "threads"
    workers: int = 1
    """Threads or processes of this computer, or workers that are asked of `cluster`."""
    address: str | None = None
    """``tcp://host:8786`` or ``tls://host:8786`` of a Dask scheduler."""
    scheduler_file: str | None = None
    """The file that ``dask scheduler --scheduler-file`` wrote."""
    cluster: ClusterClass | None = None
    """A cluster that is started for the run and closed with it."""
    tls: TlsFiles | None = None
    """For a ``tls://`` address, or the cluster to be started."""
    memory_limit_bytes: int | None = None
    """Of a single worker where `scheduler` is ``distributed``, else of all processes together."""
    worker_wait_s: float = 60.0
    """How long to wait for a worker of a cluster, which may be in a queue: for the first, and when none is left."""
    threads_per_worker: int = 1
    """Strips that one process has in work at a time: 1, or what `driver.connected` found on the cluster."""
    output_dir: str | None = None
    """Directory of the masters: every worker of a cluster must see it, and its disk must have room."""
    input_dirs: tuple[str, ...] = ()
    """Directories that every worker of a cluster must see."""
    prepare: Callable[[], None] | None = None
    """Called once in every process that works for this one, before its first task; picklable. On a cluster its errors
    say that a worker cannot be used."""
    executor: Executor | None = field(default=None, compare=False, repr=False)
    """The cluster that `driver.connected` has opened for several graphs."""

    @property
    def is_remote(self) -> bool:
        """Return whether there is a cluster beside this computer; a second's work is not worth starting processes."""
        return self.scheduler == "distributed" and bool(self.address or self.scheduler_file or self.cluster)

    def check(self) -> None:
        """Raise `ConfigError` if more than one way to a cluster is given, or certificates where none are used."""
        given = {"address": self.address, "scheduler_file": self.scheduler_file, "cluster": self.cluster}
        named = [f"compute.{name}" for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ConfigError(
                f"{' and '.join(named)} are both set; set exactly one of compute.address, compute.scheduler_file and "
                "compute.cluster, or none for this computer"
            )
        if self.tls is not None and not named:
            raise ConfigError("compute.tls: the cluster of this computer uses no certificates; leave it out")
        if self.tls is not None and self.address and not self.address.startswith("tls://"):
            raise ConfigError(f"compute.address {self.address}: with compute.tls it must begin with tls://")
