"""Ways to a Dask cluster: a scheduler that runs, a cluster that a class starts, or processes of this computer."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import dask
from distributed import Client, LocalCluster, Security

from ostcal.engine.cluster.answers import UnansweredError, answer_within
from ostcal.engine.execution import ClusterClass, Execution, TlsFiles
from ostcal.engine.interrupts import interrupts_ignored
from ostcal.errors import ConfigError, OstcalError
from ostcal.frozen import processes_from_now_on, stopped_children_end
from ostcal.opening import open_regular

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 60
"""Time until a scheduler that takes connections answers; a busy one may take its time."""
_MAX_SCHEDULER_FILE_BYTES = 1 << 24
_DASHBOARD_PORT = 8787
_START_ATTEMPTS = 3
_LOUD = ("distributed.client", "tornado.application", "asyncio")
"""Loggers beside those below ``distributed`` that have a level of their own."""

ALLOWED_FAILURES = 30
"""Deaths of workers that a task may see before Dask blames it; 3 by default, which condemns bystanders too. It can be
set for clusters started here; elsewhere `driver.py` submits again what was condemned."""


@contextmanager
def cluster_client(execution: Execution) -> Iterator[Any]:
    """Connect to the cluster of an execution, or start it and close it at the end; yields a `distributed.Client`.

    Raise `ConfigError` if the cluster's class, its arguments or the certificates cannot be used, and `OstcalError` if
    nothing answers.
    """
    execution.check()
    address, label = execution.address, f"compute.address {execution.address}"
    if execution.scheduler_file is not None:
        address = address_in_file(execution.scheduler_file)
        label = f"compute.scheduler_file {execution.scheduler_file}: {address}"
    if address is not None:
        way = _running_cluster(address, label, execution.tls)
    elif execution.cluster is not None:
        way = _started_cluster(execution.cluster, execution)
    else:
        way = _local_cluster(execution.workers)
    with way as client:
        yield client


@contextmanager
def _running_cluster(address: str, label: str, tls: TlsFiles | None) -> Iterator[Any]:
    """Connect to a scheduler. If it is lost, Dask prints tracebacks of what has waited for it, beside our line."""
    if address.startswith("tls://") and tls is None:
        raise ConfigError(f"{label}: certificates are needed; set compute.tls with the files ca, cert and key")
    try:
        security = _security(tls, "client")
        connected = answer_within(
            ANSWER_TIMEOUT_S, lambda: Client(address, timeout=CONNECT_TIMEOUT_S, security=security)
        )
    except UnansweredError as error:
        raise OstcalError(
            f"{label}: what takes connections there did not answer as a Dask scheduler within {ANSWER_TIMEOUT_S:g} s; "
            "check the address and that the scheduler runs"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: an address of an unknown kind
        raise OstcalError(
            f"{label}: no Dask scheduler answered within {CONNECT_TIMEOUT_S} s ({error}); "
            "check the address and that the scheduler runs"
        ) from error
    with _quiet(), connected as client:
        yield client


def address_in_file(path: str) -> str:
    """Return the address in a file that ``dask scheduler --scheduler-file`` wrote; raise `OstcalError` without one."""
    try:
        with open(path, "rb", opener=open_regular) as file:
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


def _security(tls: TlsFiles | None, *parts: str) -> Any:
    """Return certificates in Dask's form, for the parts of a cluster that are named."""
    if tls is None:
        return None
    for name, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        if not os.access(path, os.R_OK):
            raise ConfigError(
                f"compute.tls.{name} {path}: this file cannot be read; check the path and its permissions"
            )
    files = {f"tls_{part}_{word}": path for part in parts for word, path in (("cert", tls.cert), ("key", tls.key))}
    return Security(tls_ca_file=tls.ca, require_encryption=True, **files)


@contextmanager
def _started_cluster(wanted: ClusterClass, execution: Execution) -> Iterator[Any]:
    kind = cluster_class(wanted.name)
    kwargs = dict(wanted.kwargs)
    if execution.tls is not None:
        kwargs["security"] = _security(execution.tls, "client", "scheduler", "worker")
    label = f"compute.cluster {wanted.name}"
    try:
        with interrupts_ignored():
            cluster = kind(**kwargs)
    except (TypeError, ValueError, KeyError, AttributeError, ImportError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{label}: it cannot be started ({type(error).__name__}: {error}); check compute.cluster.kwargs"
        ) from error
    try:
        started = getattr(cluster, "worker_spec", None)  # workers that it was asked to start; else those it has
        if started is None:
            started = getattr(cluster, "scheduler_info", {}).get("workers", {})
        if not started and hasattr(cluster, "scale"):
            cluster.scale(execution.workers)
        try:
            client = cluster.get_client()
        except (OSError, ValueError) as error:
            raise OstcalError(f"{label}: its scheduler does not answer ({error})") from error
        with client:
            yield client
    finally:
        cluster.close()


def cluster_class(name: str) -> Any:
    """Find the class of a cluster by its name, ``module.Class``; raise `ConfigError` if it is none of a cluster."""
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
def _quiet() -> Iterator[None]:
    """Silence Dask: of workers that die it prints tracebacks, also while it starts them and while it ends them.

    After an interrupt it stays silent: what it had begun it ends when Python ends.
    """
    loggers = [logging.getLogger(name) for name in ("distributed", *_LOUD)]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    is_interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        for one, level in zip(loggers, levels, strict=True):
            if not is_interrupted:
                one.setLevel(level)


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    """Start processes of one thread each on this computer, and log where the dashboard is."""
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _DASHBOARD_PORT))
            dashboard_port = _DASHBOARD_PORT
        except OSError:
            dashboard_port = 0  # any that is free
    # The memory is planned per strip; Dask's own limit would pause or kill workers by another count.
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        # Else workers print at their end that connections were closed, and that the scheduler does not know them.
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    }
    options = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,
        "host": "127.0.0.1",
        "dashboard_address": f"127.0.0.1:{dashboard_port}",
        "silence_logs": logging.CRITICAL,
    }
    with _quiet(), stopped_children_end(processes_from_now_on()):
        with interrupts_ignored(), dask.config.set(settings):
            cluster = _started_here(options)
        with cluster, Client(cluster) as client:
            if importlib.util.find_spec("bokeh") is not None:
                logger.info("%d workers on this computer, dashboard: %s", workers, cluster.dashboard_link)
            else:
                how = "for Dask's dashboard install bokeh (pip install 'ostcal[dashboard]')"
                logger.info("%d workers on this computer; %s", workers, how)
            yield client
            with suppress(OSError, TimeoutError):
                client.retire_workers()  # a worker whose scheduler ends before it prints a traceback of its heartbeat


def _started_here(options: Mapping[str, Any]) -> Any:
    """Start processes of this computer; once more where one died meanwhile, as Dask then ends them all."""
    for left in reversed(range(_START_ATTEMPTS)):
        try:
            return LocalCluster(**options)
        # AssertionError: of a nanny that did not start, where the cluster ends what it has begun
        except (RuntimeError, AssertionError, OSError) as error:
            if not left:
                raise OstcalError(
                    f"the worker processes of this computer do not start ({error.__cause__ or error}); see that there "
                    "is memory enough, and start the same command again, or set compute.scheduler to threads"
                ) from error
            logger.warning("a worker process died while it was started (%s); they are started again", error)
    raise AssertionError("unreachable")
