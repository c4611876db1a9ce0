"""What workers of a cluster report before work (versions, directories), their settings, and their log lines.

The functions run on workers and are sent by name, so this module imports nothing that reads settings when it is
imported (zarr, numba).
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ostcal._version import __version__
from ostcal.errors import OstcalError

EXACT = "ostcal"
"""Must be the same to the last digit: tasks are its own objects."""
PACKAGES = ("numpy", "numba", "zarr", "numcodecs", "distributed")
"""The first two numbers must be the same: rounding, compiled code, formats and messages change with them."""

TOKEN_PREFIX = ".ostcal-token-"
TOKEN_WAIT_S = 10.0
"""Network file systems show a new file to other computers after some seconds: NFS caches a missing name for 3 s."""
_TOKEN_PAUSE_S = 0.1
_HOUR_S = 3600.0

WORKER_ENVIRONMENT: Mapping[str, str] = {
    # Many threads of zarr beside those of Dask slow both; 4 at a time is what zarr's own guide advises with Dask.
    "ZARR_ASYNC__CONCURRENCY": "4",
    "ZARR_THREADING__MAX_WORKERS": "2",
    # Kernels are serial; Dask sets OMP and MKL threads to 1, but not numba's.
    "NUMBA_NUM_THREADS": "1",
}
"""Settings that zarr and numba read when they are imported; what the worker's own environment says is left."""


def own_versions() -> dict[str, str]:
    """Return the versions of this process: ``python``, ``ostcal`` and the packages that matter."""
    packages = {name: metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), EXACT: __version__, **packages}


def version_differences(own: Mapping[str, str], other: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Compare versions; return those that forbid working together, and those worth a log line.

    Each is a text such as ``numpy 2.3.1 (here 2.4.6)``.
    """
    severe: list[str] = []
    slight: list[str] = []
    for name, version in own.items():
        found = other.get(name, "absent")
        if found == version:
            continue
        text = f"{name} {found} (here {version})"
        same_line = name != EXACT and found.split(".")[:2] == version.split(".")[:2]
        (slight if same_line else severe).append(text)
    return severe, slight


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What one worker reports before work."""

    host: str
    versions: dict[str, str]
    threads: int = 1
    memory_limit_bytes: int = 0
    """0 if there is no limit."""
    unseen: str = ""
    """Why a directory cannot be used there; empty if all can."""
    token: str = ""
    """Name of the file that the worker wrote into the output directory; it holds its own name."""


def report_of_worker(
    output_dir: str | None,
    token: str,
    input_dirs: tuple[str, ...],
    prepare: Callable[[], None] | None = None,
    dask_worker: Any = None,
) -> WorkerReport:
    """Read the coordinator's token in `output_dir`, look at the input directories, write a token; runs on a worker.

    An error of `prepare`, which is called there, says what cannot be used. Dask passes `dask_worker` by its name.
    """
    own_token = f"{token}-{uuid.uuid4().hex}"
    unseen = [f"{path} is not there" for path in input_dirs if not os.path.isdir(path)]
    try:
        if prepare is not None:
            prepare()
    except OstcalError as error:
        unseen.append(str(error))
    if output_dir is not None and not unseen:
        try:
            if not sees_token(output_dir, token):
                unseen.append(f"{output_dir} is another directory there")
            else:
                write_token(output_dir, own_token)
        except OSError as error:
            unseen.append(f"{output_dir}: {error.strerror or error}")
    return WorkerReport(
        host=socket.gethostname(),
        versions=own_versions(),
        threads=dask_worker.state.nthreads if dask_worker is not None else 1,
        memory_limit_bytes=int(dask_worker.memory_manager.memory_limit or 0) if dask_worker is not None else 0,
        unseen="; ".join(unseen),
        token="" if unseen or output_dir is None else own_token,
    )


def states_of_workers(dask_scheduler: Any = None) -> dict[str, tuple[float, bool]]:
    """Return of each worker by its address when it was last heard of (s), and whether it takes work.

    Runs on the scheduler; Dask passes `dask_scheduler` by its name. A worker whose memory is full takes none.
    """
    workers = dask_scheduler.workers.values()
    return {worker.address: (worker.last_seen, worker.status.name != "paused") for worker in workers}


async def restart_worker(address: str, dask_scheduler: Any = None) -> None:
    """End a worker and start it again where it has a nanny, as Dask does after minutes; runs on the scheduler."""
    stimulus = f"ostcal-silent-{uuid.uuid4().hex}"
    await dask_scheduler.restart_workers([address], wait_for_workers=False, on_error="return", stimulus_id=stimulus)


def write_token(directory: str, name: str) -> None:
    """Write a file that holds its own name; raise `OSError` if that is not possible."""
    Path(directory, name).write_text(name, encoding="ascii")


def sees_token(directory: str, name: str, wait_s: float = TOKEN_WAIT_S) -> bool:
    """Return whether a token is there, which may take seconds on a network file system.

    Raise `OSError` if it is there and cannot be read.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            os.scandir(directory).close()  # asks the server again
            if Path(directory, name).read_text(encoding="ascii") == name:
                return True
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise
        if time.monotonic() > deadline:
            return False
        time.sleep(_TOKEN_PAUSE_S)


def remove_tokens(directory: str, token: str) -> None:
    """Delete a token and the answers to it, and those that a killed run left an hour ago or earlier."""
    for path in Path(directory).glob(f"{TOKEN_PREFIX}*"):
        with suppress(FileNotFoundError):  # another run may be faster
            if path.name.startswith(token) or time.time() - path.stat().st_mtime > _HOUR_S:
                path.unlink()


class LogSender(logging.Handler):
    """Sends the log lines of a `distributed.Worker`, from any thread, to all who subscribe to a topic."""

    def __init__(self, worker: Any, topic: str) -> None:
        super().__init__()
        self._worker = worker
        self._topic = topic

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; arguments are filled in here, as they may not be picklable."""
        text = record.getMessage()
        self._worker.log_event(self._topic, {"name": record.name, "level": record.levelno, "text": text})


class LogReceiver:
    """Passes log lines of workers to the loggers of this process; each warning once, however many workers send it."""

    def __init__(self) -> None:
        self._warned: set[tuple[str, int, str]] = set()

    def __call__(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take one event of `distributed.Client.subscribe_topic`."""
        _, line = event
        name, level, text = str(line["name"]), int(line["level"]), str(line["text"])
        if name.partition(".")[0] != "ostcal":  # anybody on the cluster may send
            return
        if level >= logging.WARNING:
            if (name, level, text) in self._warned:
                return
            self._warned.add((name, level, text))
        logger = logging.getLogger(name)
        if logger.isEnabledFor(level):
            logger.handle(logging.LogRecord(name, level, "", 0, text, None, None))
