"""Workers that are killed, stopped, or full: the work goes on, or one line says why not."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.core import Status

from ostcal.build.stored_strips import StoreMemory, StoreSink
from ostcal.engine.cluster import connect
from ostcal.engine.cluster.answers import UnansweredError, answer_within
from ostcal.engine.cluster.executor import cluster_executor
from ostcal.engine.cluster.worker_watch import WorkerWatch, silent_workers_end
from ostcal.engine.driver import Part, connected, guarded, run_parts, run_tasks
from ostcal.engine.execution import Execution, Graph, Key
from ostcal.engine.graph import run_graph
from ostcal.engine.interrupts import interrupts_ignored
from ostcal.engine.rejection import Median
from ostcal.engine.run_local import LocalExecutor
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import StripPlan
from ostcal.errors import OstcalError
from ostcal.library.store import MasterStore
from support.memory_stack import MemoryStack

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL (POSIX)")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says that a process is stopped")

FREE_PORT = "127.0.0.1:0"


def is_first(mark: Path) -> bool:
    """Return whether this is the first call with that mark, in whatever process."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# ---- processes ----


def die_once(mark: Path, value: int) -> int:
    if is_first(mark):
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def stop_once(mark: Path) -> str:
    if is_first(mark):
        os.kill(os.getpid(), signal.SIGSTOP)
    return "done"


def plus_one(value: int) -> int:
    return value + 1


def test_what_needs_another_part_waits_for_it_also_when_both_were_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The flat was submitted before its dark, and read rows of a dark that were not there yet."""

    def dark(suffix: str, needed: list[Any]) -> tuple[Graph, Key]:
        key = (f"dark{suffix}", "dark")
        return {key: (guarded, "dark", die_once, tmp_path / "mark", 41)}, key

    def flat(suffix: str, needed: list[Any]) -> tuple[Graph, Key]:
        key = (f"flat{suffix}", "flat")
        return {key: (guarded, "flat", plus_one, *needed)}, key

    executor = LocalExecutor(Execution(scheduler="processes", workers=1))
    parts = [Part(name="dark", build=dark), Part(name="flat", build=flat, needs=("dark",))]
    assert run_parts(executor, parts, lambda key: None) == [41, 42]
    assert "a worker process was killed (by the system, if memory is short); its work is done again" in caplog.messages


@pytest.mark.slow
@linux_only
def test_a_process_that_is_stopped_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    processes = Execution(scheduler="processes", workers=1)
    assert run_tasks(stop_once, [tmp_path / "mark"], processes) == ["done"]
    assert "was stopped (SIGSTOP) and does not go on; it is ended, its work done again" in caplog.text


def takes_no_interrupt(_: int) -> bool:
    is_blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return is_blocked or signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_interrupt_while_workers_are_started_is_not_lost_and_not_theirs() -> None:
    """It was ignored until they were there."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with interrupts_ignored():
            os.kill(os.getpid(), signal.SIGINT)
            assert came == []
        assert came == [signal.SIGINT]
        assert run_tasks(takes_no_interrupt, [1], Execution(scheduler="processes", workers=1)) == [True]
    finally:
        signal.signal(signal.SIGINT, before)


# ---- clusters ----


@dataclass(frozen=True)
class DieAfterCommit:
    """Commit a master, and die with the worker the first time: it takes with it what the strips counted."""

    store: MasterStore
    mark: Path

    def __call__(self, job: MasterJob, result: JobResult) -> tuple[int, ...]:
        self.store.commit(job.name, {"kind": "dark"})
        return die_once(self.mark, 0) or result.rejected_per_frame


def test_a_worker_that_dies_when_its_master_is_committed_costs_nothing(tmp_path: Path) -> None:
    """Strips were combined again, and their counts could not be stored beside a master that was there."""
    store = MasterStore(tmp_path / "masters.zarr")
    store.create("one", (4, 5), 2, work="work")
    sink, memory = StoreSink(store=store, name="one"), StoreMemory(store=store, name="one")
    stack = MemoryStack(np.full((3, 4, 5), 7, np.uint16))
    job = MasterJob(name="one", stack=stack, method=Median(), sink=sink, memory=memory)
    finish = DieAfterCommit(store, tmp_path / "mark")
    execution = Execution(scheduler="distributed", workers=1)
    assert run_graph([job], [StripPlan(height=4, strip_rows=2)], finish, execution) == [(0, 0, 0)]
    assert (store.open("one").array() == 7).all()
    assert sorted(path.name for path in Path(store.location, "one").iterdir()) == [
        "master",
        "n_used",
        "std",
        "zarr.json",
    ]


@contextmanager
def first_worker_killed() -> Iterator[list[int]]:
    """Kill the first process that is started to work for this one, as soon as it is there."""
    killed: list[int] = []
    ended = threading.Event()
    own = psutil.Process()
    before = {child.pid for child in own.children()}

    def kill() -> None:
        while not killed and not ended.wait(0.002):
            for child in own.children():
                if child.pid not in before and "--multiprocessing-fork" in child.cmdline():
                    child.kill()
                    killed.append(child.pid)
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        ended.set()
        killer.join()


def test_a_worker_that_dies_while_it_is_started_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    with first_worker_killed() as killed, connected(Execution(scheduler="distributed", workers=1)) as execution:
        assert run_tasks(plus_one, [1, 2], execution) == [2, 3]
    assert len(killed) == 1
    assert "a worker process died while it was started" in caplog.text


def test_workers_whose_memory_is_full_are_not_waited_for_without_end(caplog: pytest.LogCaptureFixture) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, memory_limit=0, dashboard_address=FREE_PORT) as cluster,
        cluster_executor(Execution(scheduler="distributed", address=cluster.scheduler_address)) as ready,
    ):
        (worker,) = cluster.workers.values()
        worker.status = Status.paused
        watch, deadline = WorkerWatch(ready.client, 0.5), time.monotonic() + 20
        while not (said := watch.look()) and time.monotonic() < deadline:
            time.sleep(0.2)
        worker.status = Status.running
        assert said.startswith(f"{cluster.scheduler_address}: no worker of the Dask cluster has taken work for 0.5 s, ")
        assert "set compute.memory_limit lower, or give them more (dask worker --memory-limit)" in said
    assert "takes work, their memory is full; waiting up to 0.5 s for one" in caplog.text


@pytest.mark.slow
def test_a_worker_that_gives_no_sign_of_life_is_told_of_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ostcal")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=FREE_PORT) as cluster,
        cluster_executor(Execution(scheduler="distributed", address=cluster.scheduler_address)) as ready,
    ):
        (pid,) = ready.client.run(os.getpid).values()
        watch = WorkerWatch(ready.client, 60.0, silent_s=2.0, given_up_s=3.0)
        watch.look()
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while psutil.pid_exists(pid) and time.monotonic() < deadline:
            assert watch.look() == ""
            time.sleep(0.2)
        assert not psutil.pid_exists(pid)
        assert ready.client.submit(plus_one, 1).result(timeout=60) == 2
    assert "has not been heard of for 2 s; after 3 s others do its work" in caplog.text


@contextmanager
def worker_without_nanny(address: str, folder: Path) -> Iterator[int]:
    """Start a worker in a process of its own, which nothing starts again; gives its process id."""
    words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    with subprocess.Popen([*words, "--local-directory", str(folder)], stderr=subprocess.DEVNULL) as worker:
        try:
            yield worker.pid
        finally:
            worker.kill()


@pytest.mark.slow
def test_a_question_to_all_workers_does_not_wait_for_one_that_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster,
        Client(cluster) as client,
        worker_without_nanny(cluster.scheduler_address, tmp_path) as pid,
    ):
        client.wait_for_workers(1, timeout=60)
        os.kill(pid, signal.SIGSTOP)
        with silent_workers_end(client, silent_s=1.0, given_up_s=2.0, watch_s=0.2):
            (answer,) = client.run(os.getpid, on_error="return").values()
        assert isinstance(answer, OSError)
    assert "it is ended" in caplog.text


def test_what_takes_connections_and_never_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "ANSWER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        line = rf"^compute\.address {address}: what takes connections there did not answer .* within 0\.5 s; check the"
        with pytest.raises(OstcalError, match=line):
            run_tasks(plus_one, [1], Execution(scheduler="distributed", address=address))


def test_a_question_is_answered_fails_or_ends_in_time() -> None:
    frozen = threading.Event()
    assert answer_within(10.0, lambda: 3) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        answer_within(10.0, lambda: int("three"))
    with pytest.raises(UnansweredError, match=r"no answer within 0\.1 s"):
        answer_within(0.1, frozen.wait)
    frozen.set()
