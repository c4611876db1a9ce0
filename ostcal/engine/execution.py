"""Where a graph runs, as values: threads, processes, or a Dask cluster and how to reach it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ostcal.errors import ConfigError
from ostcal.vocabulary import Scheduler

ONE_OF = "set exactly one of compute.address, compute.scheduler_file and compute.cluster, or none for this computer"


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(scheduler: Scheduler) -> int:
    """Give the threads or processes that keep this computer busy.

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
    """Where a graph runs.

    Attributes
    ----------
    scheduler : {"threads", "processes", "distributed"}
    workers : int
        Threads or processes of this computer, or workers that are asked of `cluster`.
    address : str or None
        ``tcp://host:8786`` or ``tls://host:8786`` of a Dask scheduler.
    scheduler_file : str or None
        The file that ``dask scheduler --scheduler-file`` wrote.
    cluster : ClusterClass or None
        A cluster that is started for the run and closed with it.
    tls : TlsFiles or None
        For a ``tls://`` address, or the cluster to be started.
    memory_limit_bytes : int or None
        Of a single worker where `scheduler` is ``distributed``, else of all processes together.
    worker_wait_s : float
        How long to wait for a worker of a cluster, which may be in a queue: for the first, and when none is left.
    threads_per_worker : int
        Strips that one process has in work at a time: 1, or what `ostcal.engine.graph.connected` found on the cluster.
    output_dir : str or None
        Directory of the masters: every worker of a cluster must see it, and its disk must have room.
    input_dirs : tuple of str
        Directories that every worker of a cluster must see.
    prepare : callable, optional
        Called once in every process that works for this one, before its first task; picklable. On a cluster its errors
        say that a worker cannot be used.
    """

    scheduler: Scheduler = "threads"
    workers: int = 1
    address: str | None = None
    scheduler_file: str | None = None
    cluster: ClusterClass | None = None
    tls: TlsFiles | None = None
    memory_limit_bytes: int | None = None
    worker_wait_s: float = 60.0
    threads_per_worker: int = 1
    output_dir: str | None = None
    input_dirs: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether there is a cluster beside this computer; starting processes for a second's work is not worth it."""
        return self.scheduler == "distributed" and bool(self.address or self.scheduler_file or self.cluster)

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises
        ------
        ConfigError
            If more than one way to a cluster is given, or certificates where none are used.
        """
        given = {"address": self.address, "scheduler_file": self.scheduler_file, "cluster": self.cluster}
        named = [f"compute.{name}" for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} are both set; {ONE_OF}")
        address = self.address or ""
        if self.tls is not None and not named:
            raise ConfigError("compute.tls: the cluster of this computer uses no certificates; leave it out")
        if self.tls is not None and address and not address.startswith("tls://"):
            raise ConfigError(f"compute.address {address}: with compute.tls it must begin with tls://")
