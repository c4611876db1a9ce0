"""Dask clusters: a scheduler that runs, a cluster that a class starts, or processes of this computer.

Whichever it is, workers are checked before they get work: versions, directories, settings, memory.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, LocalCluster, Security, WorkerPlugin

from ostcal.engine import worker_checks
from ostcal.engine.execution import ClusterClass, Execution, TlsFiles
from ostcal.engine.interrupts import interrupts_ignored, leave_termination_to_the_parent
from ostcal.errors import ConfigError, OstcalError, StorageError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20
_ATTEMPTS = 5
_WATCH_S = 2.0
"""Between two questions whether a cluster still has workers: one message there and back."""
_MAX_SCHEDULER_FILE_BYTES = 1 << 24
_LOG_TOPIC = "ostcal-log"
_PACKAGE = "ostcal"
_PLUGIN_NAME = "ostcal"
_DASHBOARD_PORT = 8787

ALLOWED_FAILURES = 30
"""Deaths of workers that a task may see before Dask blames it; 3 by default, which condemns bystanders too. It can be
set for clusters started here; elsewhere `graph.py` submits again what was condemned."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A cluster that is ready for work."""

    client: Any
    """A `distributed.Client`."""
    workers: int
    threads_per_worker: int
    """Of the worker that has most."""
    worker_wait_s: float
    """Longest wait for a worker when none is left."""

    @property
    def threads(self) -> int:
        """Strips that may be in work at a time."""
        return self.workers * self.threads_per_worker


_kept: ContextVar[tuple[tuple[Execution, Connection], ...]] = ContextVar("kept", default=())
"""Connections that are open in this thread."""


@contextmanager
def connection(execution: Execution) -> Iterator[Connection]:
    """Give a cluster that is ready for work, for as long as the context lives.

    Within the context, another call for the same cluster gives the same connection, so that a run of several graphs
    starts and checks its workers once.

    Parameters
    ----------
    execution : Execution

    Raises
    ------
    ConfigError
        If the cluster's class, its arguments or the certificates cannot be used.
    StorageError
        If a worker does not see the directories.
    OstcalError
        If nothing answers, no worker comes, or the workers' versions differ.
    """
    execution.check()
    for kept, open_connection in _kept.get():
        if _same_cluster(kept, execution):
            yield open_connection
            return
    with ExitStack() as stack:
        client = stack.enter_context(_client(execution))
        _wait_for_workers(client, execution)
        reports = _prepare_workers(client, execution)
        stack.callback(_leave_workers, client)
        ready = Connection(
            client=client,
            workers=max(1, len(reports)),
            threads_per_worker=max((report.threads for report in reports), default=1),
            worker_wait_s=execution.worker_wait_s,
        )
        before = _kept.set((*_kept.get(), (execution, ready)))
        try:
            yield ready
        finally:
            _kept.reset(before)


def _same_cluster(one: Execution, other: Execution) -> bool:
    def place(execution: Execution) -> tuple[Any, ...]:
        return (
            execution.address, execution.scheduler_file, execution.cluster, execution.tls, execution.output_dir,
            execution.input_dirs,
        )  # fmt: skip

    return place(one) == place(other)


# ---- ways to a cluster ----


@contextmanager
def _client(execution: Execution) -> Iterator[Any]:
    if execution.address is not None:
        with _connected(execution.address, f"compute.address {execution.address}", execution.tls) as client:
            yield client
    elif execution.scheduler_file is not None:
        address = address_in_file(execution.scheduler_file)
        label = f"compute.scheduler_file {execution.scheduler_file}: {address}"
        with _connected(address, label, execution.tls) as client:
            yield client
    elif execution.cluster is not None:
        with _started(execution.cluster, execution) as cluster, _client_of(cluster, execution.cluster.name) as client:
            yield client
    else:
        with _local_cluster(execution.workers) as cluster, Client(cluster) as client:
            yield client


@contextmanager
def _connected(address: str, label: str, tls: TlsFiles | None) -> Iterator[Any]:
    """Connect to a scheduler that runs."""
    if address.startswith("tls://") and tls is None:
        raise ConfigError(f"{label}: certificates are needed; set compute.tls with the files ca, cert and key")
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S, security=_security(tls))
    except (OSError, ValueError) as error:  # ValueError: an address of an unknown kind
        raise OstcalError(
            f"{label}: no Dask scheduler answered within {CONNECT_TIMEOUT_S} s ({error}); "
            "check the address and that the scheduler runs"
        ) from error
    with client:
        yield client


def address_in_file(path: str) -> str:
    """Give the address in a file that ``dask scheduler --scheduler-file`` wrote.

    Raises
    ------
    OstcalError
        If there is no such file, or it holds no address.
    """
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read(_MAX_SCHEDULER_FILE_BYTES))
    except OSError as error:
        raise OstcalError(
            f"compute.scheduler_file {path}: {error.strerror or error}; start the scheduler with --scheduler-file"
        ) from error
    except (ValueError, RecursionError):
        data = None
    match data:
        case {"address": str(address)}:
            return address
    raise OstcalError(f"compute.scheduler_file {path}: there is no scheduler's address in it; start the scheduler anew")


def _security(tls: TlsFiles | None, *, for_all: bool = False) -> Any:
    """Give Dask's form of the certificates, for a client or for all parts of a cluster."""
    if tls is None:
        return None
    for name, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if not os.access(path, os.R_OK):
            raise ConfigError(
                f"compute.tls.{name} {path}: this file cannot be read; check the path and its permissions"
            )
    parts = ("client", "scheduler", "worker") if for_all else ("client",)
    files = {f"tls_{part}_{word}": path for part in parts for word, path in (("cert", tls.cert), ("key", tls.key))}
    return Security(tls_ca_file=tls.ca, require_encryption=True, **files)


@contextmanager
def _started(wanted: ClusterClass, execution: Execution) -> Iterator[Any]:
    """Start the cluster of a class, and close it at the end."""
    kind = cluster_class(wanted.name)
    kwargs = dict(wanted.kwargs)
    if execution.tls is not None:
        kwargs["security"] = _security(execution.tls, for_all=True)
    label = f"compute.cluster {wanted.name}"
    try:
        with interrupts_ignored():
            cluster = kind(**kwargs)
    except (TypeError, ValueError, KeyError, AttributeError, ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{label}: it cannot be started ({type(error).__name__}: {error}); check compute.cluster.kwargs"
        ) from error
    try:
        if not _known_workers(cluster) and hasattr(cluster, "scale"):
            cluster.scale(execution.workers)
        yield cluster
    finally:
        cluster.close()


def _known_workers(cluster: Any) -> int:
    """Count the workers that a cluster has or was told to start."""
    started = getattr(cluster, "worker_spec", None)
    return len(started) if started is not None else len(getattr(cluster, "scheduler_info", {}).get("workers", {}))


def cluster_class(name: str) -> Any:
    """Find the class of a cluster by its name.

    Parameters
    ----------
    name : str
        ``module.Class``.

    Raises
    ------
    ConfigError
        If there is no such class, or it is none of a cluster.
    """
    label = f"compute.cluster.class {name}"
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        raise ConfigError(f"{label}: write the module too, such as dask_jobqueue.SLURMCluster")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = (error.name or module_name).partition(".")[0]
        raise ConfigError(
            f"{label}: {error}; install the package that has it (pip install {missing.replace('_', '-')})"
        ) from error
    except ValueError as error:  # an empty part between two dots
        raise ConfigError(f"{label}: this is no name of a class") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ConfigError(f"{label}: {module_name} has no {class_name}; check the spelling")
    if not (isinstance(found, type) and hasattr(found, "close") and hasattr(found, "get_client")):
        raise ConfigError(f"{label}: this is no class of Dask clusters, which have get_client and close")
    return found


@contextmanager
def _client_of(cluster: Any, name: str) -> Iterator[Any]:
    try:
        client = cluster.get_client()
    except (OSError, ValueError) as error:
        raise OstcalError(f"compute.cluster {name}: its scheduler does not answer ({error})") from error
    with client:
        yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    """Start processes of one thread each on this computer, and say where the dashboard is."""
    has_dashboard = importlib.util.find_spec("bokeh") is not None
    # The memory is planned per strip; Dask's own limit would pause or kill workers by another count.
    with interrupts_ignored(), dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            host="127.0.0.1",
            dashboard_address=_dashboard_address(),
        )
    with cluster:
        if has_dashboard:
            logger.info("%d workers on this computer, dashboard: %s", workers, cluster.dashboard_link)
        else:
            how = "for Dask's dashboard install bokeh (pip install 'ostcal[dashboard]')"
            logger.info("%d workers on this computer; %s", workers, how)
        yield cluster


def _dashboard_address() -> str:
    """Give Dask's usual port on loopback, or any where that is taken."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _DASHBOARD_PORT))
        except OSError:
            return "127.0.0.1:0"
    return f"127.0.0.1:{_DASHBOARD_PORT}"


# ---- before work ----


def _wait_for_workers(client: Any, execution: Execution) -> None:
    """Wait for the first worker; a cluster of a queue may take its time."""
    deadline = time.monotonic() + execution.worker_wait_s
    told = False
    while not client.nthreads():
        if not told:
            logger.info("waiting up to %g s for a worker of %s", execution.worker_wait_s, client.scheduler.address)
            told = True
        if time.monotonic() > deadline:
            raise OstcalError(
                f"{client.scheduler.address}: the Dask cluster has no worker after {execution.worker_wait_s:g} s; "
                "start workers (dask worker ADDRESS), or wait longer with compute.worker_wait"
            )
        time.sleep(0.1)


@contextmanager
def workers_watched(ready: Connection, give_up: Callable[[str], None]) -> Iterator[None]:
    """See to it that work does not wait for ever for workers that do not come back.

    Parameters
    ----------
    ready : Connection
    give_up : callable
        Called once with what to tell the user, in a thread of its own, when there was no worker for
        ``ready.worker_wait_s``.
    """
    ended = threading.Event()
    watch = threading.Thread(target=_watch_workers, args=(ready, give_up, ended), name="ostcal-workers", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()


def _watch_workers(ready: Connection, give_up: Callable[[str], None], ended: threading.Event) -> None:
    address, wait_s = ready.client.scheduler.address, ready.worker_wait_s
    alone_since: float | None = None
    while not ended.wait(min(_WATCH_S, wait_s / 4)):
        try:
            there = ready.client.nthreads()
        except (OSError, ValueError, TimeoutError):  # the scheduler is lost or the client closed: not seen to here
            return
        if there:
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
            logger.warning("%s: no worker of the Dask cluster is left; waiting up to %g s for one", address, wait_s)
        elif time.monotonic() - alone_since > wait_s:
            give_up(
                f"{address}: the Dask cluster has had no worker for {wait_s:g} s; start workers "
                "(dask worker ADDRESS) and the same command again, or wait longer with compute.worker_wait"
            )
            return


def _prepare_workers(client: Any, execution: Execution) -> list[worker_checks.WorkerReport]:
    """Check the workers and give them their settings; gives what they said.

    A worker that dies meanwhile says nothing and is none of the run's; one that comes later checks itself.
    """
    _check_scheduler(client)
    reports = _ask_workers(client, execution)
    client.subscribe_topic(_LOG_TOPIC, worker_checks.LogReceiver())
    settings = WorkerSettings(
        worker_checks.own_versions(), logging.getLogger(_PACKAGE).getEffectiveLevel(), execution.prepare
    )
    for attempt in range(_ATTEMPTS):
        try:
            client.register_plugin(settings, name=_PLUGIN_NAME)
            break
        except OSError:  # a worker died while it was told
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(1.0)
    return list(reports.values())


def _ask_workers(client: Any, execution: Execution) -> dict[str, worker_checks.WorkerReport]:
    """Exchange tokens with all workers and check what they say of themselves."""
    directory = execution.output_dir
    token = f"{worker_checks.TOKEN_PREFIX}{uuid.uuid4().hex}"
    try:
        if directory is not None:
            _write_token(directory, token)
        answers = client.run(
            worker_checks.report_of_worker,
            directory,
            token,
            execution.input_dirs,
            execution.prepare,
            on_error="return",
        )
        # A dead worker's answer is the error of its connection; what it sees itself it tells in words.
        reports = {at: _report(at, answer) for at, answer in answers.items() if not isinstance(answer, OSError)}
        _check_versions(reports)
        _check_directories(reports, directory)
        _check_memory(reports, execution)
    finally:
        if directory is not None:
            with suppress(OSError):
                worker_checks.remove_tokens(directory, token)
    return reports


def _write_token(directory: str, token: str) -> None:
    try:
        worker_checks.write_token(directory, token)
    except OSError as error:
        raise StorageError(f"{directory}: files cannot be written there ({error.strerror or error})") from error


def _leave_workers(client: Any) -> None:
    """Take back the settings of a cluster that lives on."""
    with suppress(OSError, ValueError, TimeoutError):  # the cluster may have died meanwhile
        if client.status == "running":
            client.unregister_worker_plugin(_PLUGIN_NAME)


def _report(address: str, answer: object) -> worker_checks.WorkerReport:
    if isinstance(answer, worker_checks.WorkerReport):
        return answer
    raise OstcalError(f"worker {address} cannot run ostcal: {answer}; install the same packages there as here")


def _check_scheduler(client: Any) -> None:
    """See that the scheduler, which reads the graph too, has the same packages."""
    address = client.scheduler.address
    if client.run_on_scheduler(importlib.util.find_spec, _PACKAGE) is None:
        raise OstcalError(
            f"scheduler {address} cannot run ostcal: it is not installed there; install the same packages there as here"
        )
    versions = client.run_on_scheduler(worker_checks.own_versions)
    severe, _ = worker_checks.version_differences(worker_checks.own_versions(), versions)
    if severe:
        raise OstcalError(f"scheduler {address} has other versions: {', '.join(severe)}; install the same there")


def _check_versions(reports: Mapping[str, worker_checks.WorkerReport]) -> None:
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


def _check_directories(reports: Mapping[str, worker_checks.WorkerReport], directory: str | None) -> None:
    for address, report in reports.items():
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


def _check_memory(reports: Mapping[str, worker_checks.WorkerReport], execution: Execution) -> None:
    for address, report in reports.items():
        if execution.memory_limit_bytes is not None and 0 < report.memory_limit_bytes < execution.memory_limit_bytes:
            logger.warning(
                "worker %s on %s has %d MiB, beyond which Dask ends it: set compute.memory_limit, now %d MiB, lower",
                address,
                report.host,
                report.memory_limit_bytes // 2**20,
                execution.memory_limit_bytes // 2**20,
            )
            return


class WorkerSettings(WorkerPlugin):  # type: ignore[misc]
    """What every worker does when it joins a run, and when it leaves it.

    Parameters
    ----------
    versions : dict
        Of the coordinator; a worker that joins later with others goes away again.
    log_level : int
    prepare : callable, optional
        Called on the worker before its first task.
    """

    def __init__(self, versions: dict[str, str], log_level: int, prepare: Callable[[], None] | None = None) -> None:
        self._versions = versions
        self._log_level = log_level
        self._prepare = prepare
        self._coordinator = (socket.gethostname(), os.getpid())
        self._sender: logging.Handler | None = None

    def setup(self, worker: Any) -> None:
        """Set zarr and numba, send log lines; called on the worker."""
        worker_checks.apply_environment()
        if self._coordinator == (socket.gethostname(), os.getppid()):  # of the cluster that this run has started
            leave_termination_to_the_parent()
        package = logging.getLogger(_PACKAGE)
        if self._coordinator != (socket.gethostname(), os.getpid()):  # a worker in the coordinator's own process
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
