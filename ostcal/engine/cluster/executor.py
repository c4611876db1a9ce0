"""A Dask cluster as an executor: workers are checked before work, and watched while it lasts."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from distributed import CancelledError, KilledWorker, WorkerPlugin, as_completed

from ostcal.engine.cluster import worker_checks
from ostcal.engine.cluster.answers import UnansweredError, answer_within
from ostcal.engine.cluster.connect import cluster_client
from ostcal.engine.cluster.worker_checks import WorkerReport
from ostcal.engine.cluster.worker_watch import GIVEN_UP_S, WATCH_S, WorkerWatch, silent_workers_end
from ostcal.engine.execution import Execution, Graph, Key, Lost
from ostcal.engine.interrupts import leave_termination_to_the_parent
from ostcal.engine.tiling import CLUSTER_TASK_BYTES
from ostcal.errors import OstcalError, StorageError

logger = logging.getLogger(__name__)

WINDOW_TASKS = 4000
"""Tasks on a cluster at a time: four for each of 1000 workers, 20 MB in the scheduler; a run may have any number."""

_ATTEMPTS = 5
_FETCH_S = 0.1
"""Time for which results are collected before they are fetched: one message there and back for all of them."""
_LEAVE_S = 10.0
"""Time in which a cluster that lives on takes back the settings of a run; a frozen one does not."""
_LOG_TOPIC = "ostcal-log"
_PACKAGE = "ostcal"


@contextmanager
def cluster_executor(execution: Execution) -> Iterator[ClusterExecutor]:
    """Connect to a cluster or start one, and check its workers.

    Raise what `cluster_client` does, `StorageError` if a worker does not see the directories, and `OstcalError` if no
    worker comes or the workers' versions differ.
    """
    with cluster_client(execution) as client:
        with silent_workers_end(client):
            reports = _prepare_workers(client, execution)
        executor = ClusterExecutor(client, reports, execution.worker_wait_s)
        try:
            yield executor
        finally:
            executor.close()
            with suppress(OSError, ValueError, TimeoutError):  # the cluster may have died meanwhile
                if client.status == "running":  # a cluster that lives on needs no settings of this run
                    answer_within(_LEAVE_S, lambda: client.unregister_worker_plugin(_PACKAGE))


class ClusterExecutor:
    """A cluster that is ready for work, with the reports of its workers; an `ostcal.engine.execution.Executor`.

    It waits `worker_wait_s` for a worker when none is left.
    """

    window: int | None = WINDOW_TASKS
    task_bytes = CLUSTER_TASK_BYTES

    def __init__(self, client: Any, reports: Sequence[WorkerReport], worker_wait_s: float) -> None:
        self.client = client
        self.workers = max(1, len(reports))
        self.threads_per_worker = max((report.threads for report in reports), default=1)
        self._worker_wait_s = worker_wait_s
        self._futures: dict[Key, Any] = {}
        self._ends: set[Key] = set()
        self._completed = as_completed(loop=client.loop)
        self._given_up_for = ""
        self._closed = threading.Event()
        threading.Thread(target=self._watch_workers, name="ostcal-workers", daemon=True).start()

    def submit(self, graph: Graph, ends: Sequence[Key]) -> None:
        """Send a graph to the scheduler."""
        futures = self.client.get(graph, list(graph), sync=False)
        self._futures.update(zip(graph, futures, strict=True))
        self._ends.update(ends)
        self._completed.update(futures)

    def work(self, ended: Callable[[Key, Any], None]) -> None:
        """Wait until tasks have ended; a task is lost when Dask gave it up because workers died with it."""
        batch = self._completed.next_batch()
        if any(future.key in self._ends for future in batch):  # results are better fetched together
            deadline = time.monotonic() + _FETCH_S
            while time.monotonic() < deadline and not self._completed.is_empty():
                time.sleep(_FETCH_S / 10)
                batch += self._completed.next_batch(block=False)
        batch = [future for future in batch if future.key in self._futures]
        if any(future.cancelled() for future in batch):
            raise OstcalError(
                self._given_up_for
                or "the connection to the Dask scheduler was lost; what it had in work is lost with it: "
                "see that it runs and has workers, and start the same command again"
            )
        # A worker may die with a result that the scheduler has announced; Dask then computes it again.
        lost = [future for future in batch if future.status not in ("finished", "error")]
        batch = [future for future in batch if future not in lost]
        whole = [future for future in batch if future.key in self._ends and future.status != "error"]
        try:
            values = self.client.gather(whole) if whole else []
            results = {future.key: value for future, value in zip(whole, values, strict=True)}
        except (KilledWorker, CancelledError):  # so did one while it was fetched, for the last time; its future says so
            lost, batch = [*lost, *batch], []
        self._completed.update(lost)
        for future in batch:
            if future.status != "error":
                ended(future.key, results.get(future.key))
                continue
            error = future.exception()
            if not isinstance(error, KilledWorker):
                raise error
            ended(future.key, Lost())

    def release(self, keys: Iterable[Key]) -> None:
        """Let go of futures, so that the scheduler forgets their tasks."""
        for key in keys:
            del self._futures[key]
            self._ends.discard(key)

    def close(self) -> None:
        """End the watch on the workers."""
        self._closed.set()

    def _watch_workers(self) -> None:
        """Look at the workers while there is work, as long as the scheduler can be asked."""
        workers = WorkerWatch(self.client, self._worker_wait_s)
        while not self._closed.wait(min(WATCH_S, self._worker_wait_s / 4)):
            try:
                self._given_up_for = answer_within(GIVEN_UP_S, workers.look) if self._futures else ""
            except UnansweredError:
                self._given_up_for = (
                    f"{self.client.scheduler.address}: the Dask scheduler has not answered for {GIVEN_UP_S:g} s; see "
                    "that it runs, and start the same command again"
                )
            except (OSError, ValueError, TimeoutError):  # the scheduler is lost or the client closed: `work` meets it
                return
            if self._given_up_for:
                self.client.cancel(list(self._futures.values()))
                return


# ---- before work ----


def _prepare_workers(client: Any, execution: Execution) -> list[WorkerReport]:
    """Wait for the first worker, check scheduler and workers, and send workers their settings; return their reports.

    A cluster of a queue may take its time. A worker that dies meanwhile reports nothing and is not counted; one that
    comes later checks itself.
    """
    address, wait_s = client.scheduler.address, execution.worker_wait_s
    deadline = time.monotonic() + wait_s
    if not client.nthreads():
        logger.info("waiting up to %g s for a worker of %s", wait_s, address)
    while not client.nthreads():
        if time.monotonic() > deadline:
            raise OstcalError(
                f"{address}: the Dask cluster has no worker after {wait_s:g} s; "
                "start workers (dask worker ADDRESS) and the same command again, or wait longer with "
                "compute.worker_wait"
            )
        time.sleep(0.1)
    # The scheduler reads the graph too.
    if client.run_on_scheduler(importlib.util.find_spec, _PACKAGE) is None:
        raise OstcalError(
            f"scheduler {address} cannot run ostcal: it is not installed there; install the same packages there as here"
        )
    own = worker_checks.own_versions()
    severe, _ = worker_checks.version_differences(own, client.run_on_scheduler(worker_checks.own_versions))
    if severe:
        raise OstcalError(f"scheduler {address} has other versions: {', '.join(severe)}; install the same there")
    reports = _ask_workers(client, execution)
    client.subscribe_topic(_LOG_TOPIC, worker_checks.LogReceiver())
    settings = WorkerSettings(own, logging.getLogger(_PACKAGE).getEffectiveLevel(), execution.prepare)
    for attempt in range(_ATTEMPTS):
        try:
            client.register_plugin(settings, name=_PACKAGE)
            break
        except OSError:  # a worker died on the way
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(1.0)
    return reports


def _ask_workers(client: Any, execution: Execution) -> list[WorkerReport]:
    """Exchange tokens with all workers and check what they report."""
    directory = execution.output_dir
    token = f"{worker_checks.TOKEN_PREFIX}{uuid.uuid4().hex}"
    try:
        if directory is not None:
            try:
                worker_checks.write_token(directory, token)
            except OSError as error:
                raise StorageError(f"{directory}: files cannot be written there ({error.strerror or error})") from error
        arguments = (directory, token, execution.input_dirs, execution.prepare)
        answers = client.run(worker_checks.report_of_worker, *arguments, on_error="return")
        reports: dict[str, WorkerReport] = {}
        for address, answer in answers.items():
            if isinstance(answer, WorkerReport):
                reports[address] = answer
            elif not isinstance(answer, OSError):  # which is what the connection to a dead worker ends with
                raise OstcalError(
                    f"worker {address} cannot run ostcal: {answer}; install the same packages there as here"
                )
        _check_reports(reports, directory)
    finally:
        if directory is not None:
            with suppress(OSError):
                worker_checks.remove_tokens(directory, token)
    limit = execution.memory_limit_bytes
    for address, report in reports.items():
        if limit is not None and 0 < report.memory_limit_bytes < limit:
            logger.warning(
                "worker %s on %s has %d MiB, beyond which Dask ends it: set compute.memory_limit, now %d MiB, lower",
                address,
                report.host,
                report.memory_limit_bytes // 2**20,
                limit // 2**20,
            )
            break
    return list(reports.values())


def _check_reports(reports: Mapping[str, WorkerReport], directory: str | None) -> None:
    """Refuse workers that have other versions or do not see the directories."""
    own = worker_checks.own_versions()
    for address, report in reports.items():
        severe, slight = worker_checks.version_differences(own, report.versions)
        if severe:
            raise OstcalError(
                f"worker {address} on {report.host} has other versions: {', '.join(severe)}; "
                "install the same there, or masters might differ from worker to worker"
            )
        if slight:
            logger.info("worker %s on %s: %s", address, report.host, ", ".join(slight))
        if report.unseen:
            raise StorageError(
                f"worker {address} on {report.host} does not see the data: {report.unseen}; "
                "all workers need the same paths on a shared disk"
            )
        if directory is not None and not worker_checks.sees_token(directory, report.token):
            raise StorageError(
                f"what worker {address} on {report.host} writes into {directory} is not seen here; "
                "all workers need the same paths on a shared disk"
            )


class WorkerSettings(WorkerPlugin):  # type: ignore[misc]
    """What every worker does when it joins a run, and when it leaves it.

    A worker that joins later with other versions than those of the coordinator leaves again. `prepare` is called on the
    worker before its first task.
    """

    def __init__(self, versions: dict[str, str], log_level: int, prepare: Callable[[], None] | None = None) -> None:
        self._versions = versions
        self._log_level = log_level
        self._prepare = prepare
        self._coordinator = (socket.gethostname(), os.getpid())
        self._sender: logging.Handler | None = None

    def setup(self, worker: Any) -> None:
        """Set zarr and numba, and send log lines; called on the worker."""
        for name, value in worker_checks.WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self._coordinator == (socket.gethostname(), os.getppid()):  # of the cluster that this run has started
            leave_termination_to_the_parent()
        package = logging.getLogger(_PACKAGE)
        if self._coordinator != (socket.gethostname(), os.getpid()):  # not a worker in the coordinator's own process
            self._sender = worker_checks.LogSender(worker, _LOG_TOPIC)
            package.addHandler(self._sender)
            package.setLevel(self._log_level)
        severe, _ = worker_checks.version_differences(self._versions, worker_checks.own_versions())
        if severe:
            package.warning("worker %s leaves, it has other versions: %s", worker.address, ", ".join(severe))
            worker.loop.add_callback(worker.close, reason="other versions")
        try:
            if self._prepare is not None:
                self._prepare()
        except OstcalError as error:
            package.warning("worker %s leaves: %s", worker.address, error)
            worker.loop.add_callback(worker.close, reason="it cannot be used")

    def teardown(self, worker: Any) -> None:
        """Send no more log lines."""
        if self._sender is not None:
            logging.getLogger(_PACKAGE).removeHandler(self._sender)
            self._sender = None
