"""Clusters: every way to one, the checks of workers before work, and what is left when something is killed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import neg
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
from distributed import Future, LocalCluster, Security, wait
from hypothesis import given
from hypothesis import strategies as st

import ostcal
from ostcal.engine.cluster import worker_checks
from ostcal.engine.cluster.connect import address_in_file, cluster_class
from ostcal.engine.cluster.executor import cluster_executor
from ostcal.engine.cluster.worker_checks import LogReceiver, sees_token, version_differences, write_token
from ostcal.engine.driver import RESUBMISSIONS, Failure, connected, run_tasks
from ostcal.engine.execution import ClusterClass, Execution, TlsFiles
from ostcal.engine.graph import run_graph
from ostcal.engine.rejection import Median
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import StripPlan, batches
from ostcal.errors import ConfigError, OstcalError, StorageError
from ostcal.frames import SampleEncoding
from ostcal.library.store import MasterStore
from support.fits_samples import read_with_astropy
from support.folders import TESTS
from support.memory_stack import NATIVE, MemoryStack, NpySink, keep_result
from support.night import Night, command_environment, command_line, write_bias, write_darks, write_flats

REPOSITORY = Path(ostcal.__file__).resolve().parents[1]
WITH_TESTS = os.pathsep.join([str(REPOSITORY), str(TESTS), str(Path(__file__).parent)])
FREE_PORT = "127.0.0.1:0"
QUIET = {"dashboard_address": FREE_PORT, "n_workers": 1, "threads_per_worker": 1}


def remote(**values: Any) -> Execution:
    return Execution(scheduler="distributed", **values)


def square(value: int) -> int:
    return value * value


def own_process(_: int) -> int:
    return os.getpid()


def assert_works(execution: Execution) -> None:
    assert run_tasks(square, [2, 3, 4], execution) == [4, 9, 16]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Return the address of a cluster that lives on: two processes of one thread each."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=FREE_PORT, memory_limit=0) as cluster:
        yield cluster.scheduler_address


# --- ways to a cluster ---


@pytest.mark.parametrize(
    "given",
    [
        {"address": "tcp://10.0.0.5:8786", "scheduler_file": "scheduler.json"},
        {"address": "tcp://10.0.0.5:8786", "cluster": ClusterClass(name="distributed.LocalCluster")},
        {"scheduler_file": "scheduler.json", "cluster": ClusterClass(name="distributed.LocalCluster")},
    ],
)
def test_two_ways_at_once_are_refused(given: dict[str, Any]) -> None:
    names = [f"compute.{name}" for name in given]
    with pytest.raises(ConfigError, match=f"{names[0]} and {names[1]} are both set; set exactly one of"):
        run_tasks(square, [1], remote(**given))


def test_an_address_of_a_running_scheduler(scheduler: str) -> None:
    assert_works(remote(address=scheduler))


def test_a_scheduler_file(scheduler: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"type": "Scheduler", "address": scheduler}))
    assert_works(remote(scheduler_file=str(path)))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"address": 5}', "[" * 100_000, "\0\xff"])
def test_a_file_without_an_address_is_one_clear_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(OstcalError, match=r"compute\.scheduler_file .*: there is no scheduler's address in it"):
        address_in_file(str(path))


def test_an_absent_scheduler_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OstcalError, match=r"nothing\.json: No such file or directory; start the scheduler with"):
        run_tasks(square, [1], remote(scheduler_file=str(tmp_path / "nothing.json")))


def test_a_local_cluster_by_the_name_of_its_class() -> None:
    assert_works(remote(cluster=ClusterClass(name="distributed.LocalCluster", kwargs={**QUIET, "processes": False})))


def test_a_cluster_of_a_specification_as_yaml_can_say_it() -> None:
    nanny = {"cls": "distributed.Nanny", "options": {"nthreads": 1, "dashboard": False}}
    head = {"cls": "distributed.Scheduler", "options": {"dashboard_address": FREE_PORT, "host": "127.0.0.1"}}
    spec = {"workers": {"one": nanny, "two": nanny}, "scheduler": head}
    with cluster_executor(remote(cluster=ClusterClass(name="distributed.SpecCluster", kwargs=spec))) as ready:
        ready.client.wait_for_workers(2)
        assert set(ready.client.run(os.getpid).values()) & {os.getpid()} == set()
        assert ready.client.submit(square, 7).result() == 49


def test_a_cluster_that_starts_empty_is_told_how_many_workers_to_have() -> None:
    kwargs = {**QUIET, "n_workers": 0, "processes": False}
    with cluster_executor(
        remote(workers=2, cluster=ClusterClass(name="distributed.LocalCluster", kwargs=kwargs))
    ) as ready:
        ready.client.wait_for_workers(2, timeout=20)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SLURMCluster", r"class SLURMCluster: write the module too, such as dask_jobqueue\.SLURMCluster"),
        ("dask_jobqueue.SLURMCluster", r"No module named 'dask_jobqueue'; install .*\(pip install dask-jobqueue\)"),
        ("distributed.SlurmCluster", "distributed has no SlurmCluster; check the spelling"),
        ("distributed.Client", "this is no class of Dask clusters"),
        ("os.path.join", "this is no class of Dask clusters"),
        ("distributed..LocalCluster", r"class distributed\.\.LocalCluster"),
        (".LocalCluster", "write the module too"),
    ],
)
def test_a_wrong_class_is_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        cluster_class(name)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_of_a_class_are_one_clear_line() -> None:
    wanted = ClusterClass(name="distributed.SpecCluster", kwargs={"queue": "long"})
    with pytest.raises(ConfigError, match=r"compute\.cluster distributed\.SpecCluster: it cannot be started \(TypeErr"):
        run_tasks(square, [1], remote(cluster=wanted))


def test_nothing_at_the_address_is_one_clear_line() -> None:
    with pytest.raises(OstcalError, match=r"compute\.address nonsense://x: .*unknown address scheme"):
        run_tasks(square, [1], remote(address="nonsense://x"))


def test_a_cluster_without_workers_is_one_clear_line() -> None:
    with LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as empty:
        wanted = remote(address=empty.scheduler_address, worker_wait_s=0.5)
        with pytest.raises(OstcalError, match=r"has no worker after 0\.5 s; start workers .*compute\.worker_wait"):
            run_tasks(square, [1], wanted)


def test_without_bokeh_the_local_cluster_says_how_to_get_a_dashboard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ostcal")
    assert_works(remote(workers=1))
    try:
        import bokeh  # noqa: F401
    except ImportError:
        expected = "1 workers on this computer; for Dask's dashboard install bokeh (pip install 'ostcal[dashboard]')"
    else:
        expected = "1 workers on this computer, dashboard: http://127.0.0.1:"
    assert expected in caplog.text


def test_graphs_of_a_run_share_one_cluster() -> None:
    with connected(remote(workers=1)) as execution:
        first = run_tasks(own_process, [0], execution)
        assert run_tasks(own_process, [0], execution) == first
        with connected(replace(execution, worker_wait_s=30.0)) as same_place:
            assert run_tasks(own_process, [0], same_place) == first


# --- certificates ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Make a certificate that signs itself, good for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return TlsFiles(ca=str(cert), cert=str(cert), key=str(key))


def test_a_scheduler_that_speaks_tls(certificates: TlsFiles) -> None:
    parts = {
        f"tls_{part}_{word}": getattr(certificates, word)
        for part in ("scheduler", "worker", "client")
        for word in ("cert", "key")
    }
    security = Security(tls_ca_file=certificates.ca, require_encryption=True, **parts)
    with LocalCluster(**QUIET, host="tls://127.0.0.1", security=security) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        assert_works(remote(address=address, tls=certificates))


def test_a_started_cluster_gets_the_certificates(certificates: TlsFiles) -> None:
    kwargs = {**QUIET, "host": "tls://127.0.0.1", "processes": False}
    wanted = remote(cluster=ClusterClass(name="distributed.LocalCluster", kwargs=kwargs), tls=certificates)
    with cluster_executor(wanted) as ready:
        assert ready.client.scheduler.address.startswith("tls://")


def test_certificates_that_are_missing_or_unused_are_one_clear_line(certificates: TlsFiles) -> None:
    with pytest.raises(ConfigError, match=r"compute\.address tls://x:1: certificates are needed; set compute\.tls"):
        run_tasks(square, [1], remote(address="tls://x:1"))
    path = Path(certificates.ca).with_name("scheduler.json")
    path.write_text('{"address": "tls://x:1"}')
    with pytest.raises(ConfigError, match=r"scheduler\.json: tls://x:1: certificates are needed"):
        run_tasks(square, [1], remote(scheduler_file=str(path)))
    with pytest.raises(ConfigError, match=r"with compute\.tls it must begin with tls://"):
        run_tasks(square, [1], remote(address="tcp://x:1", tls=certificates))
    with pytest.raises(ConfigError, match="uses no certificates"):
        run_tasks(square, [1], remote(tls=certificates))
    absent = TlsFiles(ca=certificates.ca, cert=certificates.cert, key="absent.pem")
    with pytest.raises(ConfigError, match=r"compute\.tls\.key absent\.pem: this file cannot be read"):
        run_tasks(square, [1], remote(address="tls://127.0.0.1:1", tls=absent))


# --- before work ---


def test_versions_that_differ_in_the_first_two_numbers_matter() -> None:
    own = {"ostcal": "1.2.0", "numpy": "2.4.6", "numba": "0.68.1", "zarr": "3.1.6"}
    assert version_differences(own, own) == ([], [])
    assert version_differences(own, {**own, "numpy": "2.4.1"}) == ([], ["numpy 2.4.1 (here 2.4.6)"])
    assert version_differences(own, {**own, "numpy": "2.3.6"}) == (["numpy 2.3.6 (here 2.4.6)"], [])
    assert version_differences(own, {**own, "ostcal": "1.2.1"}) == (["ostcal 1.2.1 (here 1.2.0)"], [])
    without = {name: version for name, version in own.items() if name != "zarr"}
    assert version_differences(own, without) == (["zarr absent (here 3.1.6)"], [])


def start_worker(address: str, python_path: Path | str | None, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a worker as a person would on another computer, with the packages of `python_path`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address]
    command += ["--no-dashboard", "--nworkers", "1", "--nthreads", "1", "--local-directory", str(folder), *more]
    with open(folder / "worker.log", "wb") as log:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)


def place_without_ostcal(folder: Path) -> Path:
    """Return a path for Python on which ostcal is not found, though it may be installed here for development."""
    place = folder / "bare"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.path[:] = [path for path in sys.path if not os.path.isdir(os.path.join(path or '.', 'ostcal'))]\n"
    )
    return place


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(kw_only=True)
class Observatory:
    """A scheduler and workers in processes of their own, as they run on a cluster."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=command_environment)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--no-dashboard", "--dashboard-address", FREE_PORT]
        with open(self.folder / "scheduler.log", "ab") as log:
            self.processes["scheduler"] = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env=self.environment
            )

    def start_worker(self, name: str) -> None:
        (self.folder / name).mkdir(exist_ok=True)
        self.processes[name] = start_worker(self.address, REPOSITORY, self.folder / name)

    def kill_a_worker(self, rng: random.Random) -> bool:
        """Kill the process that does the work, not the nanny that starts it again; false if none is there."""
        nannies = [psutil.Process(p.pid) for name, p in self.processes.items() if name != "scheduler"]
        workers = [
            child for nanny in nannies for child in nanny.children() if "spawn_main" in " ".join(child.cmdline())
        ]
        if not workers:
            return False
        rng.choice(workers).kill()
        return True

    def end(self) -> None:
        for process in reversed(self.processes.values()):  # workers without a scheduler take 10 s to end
            end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_worker_with_another_ostcal_is_refused_by_name(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "ostcal", tmp_path / "ostcal", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ostcal" / "_version.py").write_text('__version__ = "0.0.9"\n')
    with LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster:
        worker = start_worker(cluster.scheduler_address, tmp_path, tmp_path)
        try:
            with pytest.raises(OstcalError, match=r"worker tcp://\S+ on \S+ has other versions: ostcal 0\.0\.9 \(here"):
                run_tasks(square, [1], remote(address=cluster.scheduler_address))
        finally:
            end(worker)


def test_a_worker_without_ostcal_is_named(tmp_path: Path) -> None:
    with LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster:
        worker = start_worker(cluster.scheduler_address, place_without_ostcal(tmp_path), tmp_path)
        try:
            with pytest.raises(
                OstcalError, match=r"worker tcp://\S+ cannot run ostcal: .*No module named 'ostcal'.*; install"
            ):
                run_tasks(square, [1], remote(address=cluster.scheduler_address))
        finally:
            end(worker)


def test_a_worker_with_another_ostcal_that_comes_later_leaves_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(REPOSITORY / "ostcal", tmp_path / "ostcal", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ostcal" / "_version.py").write_text('__version__ = "0.0.9"\n')
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=FREE_PORT) as cluster,
        cluster_executor(remote(address=cluster.scheduler_address)) as ready,
    ):
        worker = start_worker(cluster.scheduler_address, tmp_path, tmp_path)
        try:
            deadline = time.monotonic() + 30
            while "leaves, it has other versions: ostcal 0.0.9" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.05)
            while len(ready.client.nthreads()) > 1 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert "leaves, it has other versions: ostcal 0.0.9" in caplog.text
            assert len(ready.client.nthreads()) == 1
        finally:
            end(worker)


def test_a_scheduler_without_ostcal_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(place_without_ostcal(tmp_path))}
    bare = Observatory(folder=tmp_path, port=free_port(), environment=environment)
    bare.start_scheduler()
    bare.start_worker("one")
    try:
        with pytest.raises(OstcalError, match=r"scheduler tcp://127\.0\.0\.1:\d+ cannot run ostcal: it is not inst"):
            run_tasks(square, [1], remote(address=bare.address))
    finally:
        bare.end()


def test_workers_read_and_write_tokens_which_do_not_stay(scheduler: str, tmp_path: Path) -> None:
    old = tmp_path / f"{worker_checks.TOKEN_PREFIX}old"
    young = tmp_path / f"{worker_checks.TOKEN_PREFIX}young"
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    assert_works(remote(address=scheduler, output_dir=str(tmp_path), input_dirs=(str(tmp_path),)))
    assert list(tmp_path.iterdir()) == [young]


def test_a_directory_that_workers_do_not_see_is_named(scheduler: str, tmp_path: Path) -> None:
    absent = tmp_path / "darks"
    with pytest.raises(StorageError, match=rf"worker tcp://\S+ on \S+ does not see the data: {absent} is not there"):
        run_tasks(square, [1], remote(address=scheduler, output_dir=str(tmp_path), input_dirs=(str(absent),)))
    assert list(tmp_path.iterdir()) == []


def test_an_output_directory_that_cannot_be_written_is_named(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent: files cannot be written there \(No such file or directory\)"):
        run_tasks(square, [1], remote(address=scheduler, output_dir=str(tmp_path / "absent")))


def test_another_directory_of_the_same_name_is_told_by_its_token(tmp_path: Path) -> None:
    assert not sees_token(str(tmp_path), "of-another-computer", wait_s=0.2)
    write_token(str(tmp_path), "token")
    assert sees_token(str(tmp_path), "token")


def settings_of_worker() -> tuple[int, int, int]:
    import zarr
    from numba import config

    return zarr.config.get("async.concurrency"), zarr.config.get("threading.max_workers"), config.NUMBA_NUM_THREADS


def test_workers_set_zarr_and_numba() -> None:
    with cluster_executor(remote(workers=1)) as ready:
        assert list(ready.client.run(settings_of_worker).values()) == [(4, 2, 1)]


def say_things() -> None:
    logger = logging.getLogger("ostcal.series.reader")
    logger.debug("a detail")
    logger.info("read %d frames", 5)
    logger.warning("frame 3 is damaged")
    logging.getLogger("someone.else").warning("not ours")
    logger.info("the last line")


def test_log_lines_of_workers_reach_this_process_and_warnings_once(
    scheduler: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ostcal")
    for _ in range(2):  # a second run on the same workers hears each line as often as the first
        caplog.clear()
        with cluster_executor(remote(address=scheduler)) as ready:
            ready.client.run(say_things)
            deadline = time.monotonic() + 10
            while caplog.text.count("the last line") < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
        lines = sorted(r.getMessage() for r in caplog.records if r.name == "ostcal.series.reader")
        assert lines == ["frame 3 is damaged", "read 5 frames", "read 5 frames", "the last line", "the last line"]
        assert "not ours" not in caplog.text


def test_lines_of_others_on_the_cluster_are_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    LogReceiver()((0.0, {"name": "root.of.all", "level": 50, "text": "obey"}))
    assert not caplog.records


def test_a_worker_with_less_memory_than_a_strip_may_take_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    # 80 % of it is more than a whole session of tests takes: beyond that a worker in this process begins nothing
    kwargs = {**QUIET, "processes": False, "memory_limit": 3 * 2**30}
    wanted = remote(cluster=ClusterClass(name="distributed.LocalCluster", kwargs=kwargs), memory_limit_bytes=4 * 2**30)
    assert_works(wanted)
    assert "has 3072 MiB, beyond which Dask ends it: set compute.memory_limit, now 4096 MiB, lower" in caplog.text


@dataclass(frozen=True)
class HugeStack:
    """Frames larger than any disk."""

    shape: tuple[int, int, int] = (2, 5_000_000, 20_000_000)
    encoding: SampleEncoding = NATIVE
    row_step: int = 1


@pytest.mark.parametrize("scheduler", ["threads", "distributed"])
def test_masters_that_do_not_fit_on_the_disk_are_not_begun(tmp_path: Path, scheduler: Any) -> None:
    job = MasterJob(name="huge", stack=HugeStack(), method=Median(), sink=NpySink.create(tmp_path / "a", (1, 1)))
    plan = StripPlan(height=5_000_000, strip_rows=100)
    with pytest.raises(StorageError, match=rf"{tmp_path}: .* GB are free, but the masters .* at least 500000\.0 GB"):
        run_graph([job], [plan], keep_result, Execution(scheduler=scheduler, output_dir=str(tmp_path)))


# --- the graph on a cluster ---


def test_two_runs_at_once_on_one_cluster_keep_their_results_apart(scheduler: str) -> None:
    def run(function: Any) -> list[int]:
        return run_tasks(function, list(range(40)), remote(address=scheduler))

    with ThreadPoolExecutor(2) as pool:
        squares, negatives = pool.map(run, [square, neg])
    assert squares == [value**2 for value in range(40)]
    assert negatives == [-value for value in range(40)]


@dataclass(frozen=True)
class OwnPart:
    """Finish masters with what is known of each; what is sent with one job holds nothing of the others."""

    known: dict[str, str]

    def __call__(self, job: MasterJob, result: JobResult) -> dict[str, str]:
        return self.known

    def of(self, name: str) -> OwnPart:
        return OwnPart({name: self.known[name]})


@pytest.mark.parametrize("execution", [Execution(workers=2), remote(workers=1)], ids=["threads", "distributed"])
def test_only_its_own_part_of_finishing_travels_with_a_job(tmp_path: Path, execution: Execution) -> None:
    names = ["one", "two"]
    jobs = [
        MasterJob(
            name=name,
            stack=MemoryStack(np.full((3, 4, 5), 7, np.uint16)),
            method=Median(),
            sink=NpySink.create(tmp_path / name, (4, 5)),
        )
        for name in names
    ]
    plans = [StripPlan(height=4, strip_rows=1)] * 2
    assert run_graph(jobs, plans, OwnPart({"one": "a", "two": "b"}), execution) == [{"one": "a"}, {"two": "b"}]


@given(
    n_frames=st.integers(1, 50),
    height=st.integers(1, 500),
    width=st.sampled_from([1, 100, 20_000]),
    strip_rows=st.integers(1, 600),
    least=st.integers(1, 40),
    most_mib=st.sampled_from([16, 128]),
)
def test_batches_hold_every_row_once_and_no_more_than_a_strip_should(
    n_frames: int, height: int, width: int, strip_rows: int, least: int, most_mib: int
) -> None:
    plan = StripPlan(height=height, strip_rows=strip_rows)
    made = batches(plan, 2 * n_frames * width, least_tasks=least, most_bytes=most_mib * 2**20)
    assert [strip for batch in made for strip in batch.strips] == plan.strips
    assert len(made) >= min(least, len(plan.strips))
    for batch in made:
        n_bytes = 2 * n_frames * width * (batch.stop - batch.start)
        assert len(batch.strips) == 1 or n_bytes <= most_mib * 2**20


def die_until(item: tuple[str, int]) -> str:
    """End the worker's process as the kernel does when memory is short, until that happened often enough."""
    folder, times = item
    deaths = len(os.listdir(folder))
    if deaths < times:
        Path(folder, f"death{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"after {deaths} deaths"


@contextmanager
def a_worker_that_is_started_again(address: str, folder: Path) -> Iterator[None]:
    """Have one worker, and another when it dies.

    Without Dask's nanny, which under load did not see the fifth death and waited for ever.
    """
    ended = threading.Event()
    running = [start_worker(address, WITH_TESTS, folder, "--no-nanny")]

    def keep() -> None:
        while not ended.wait(0.05):
            if running[-1].poll() is not None:
                running.append(start_worker(address, WITH_TESTS, folder, "--no-nanny"))

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        end(running[-1])


@pytest.mark.slow
def test_work_that_dask_gave_up_is_submitted_again_and_then_fails_alone(tmp_path: Path) -> None:
    for name in ("worker", "some", "many", *"abc"):
        (tmp_path / name).mkdir()
    told: list[int] = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster,
        a_worker_that_is_started_again(cluster.scheduler_address, tmp_path / "worker"),
    ):
        wanted = remote(address=cluster.scheduler_address)
        assert run_tasks(die_until, [(str(tmp_path / "some"), 2)], wanted, told.append) == ["after 2 deaths"]
        assert told == [0]
        told.clear()
        several = [(str(tmp_path / name), 1 if name == "b" else 0) for name in "abc"]
        results = run_tasks(die_until, several, wanted, told.append)
        assert [str(result)[:6] for result in results] == ["after "] * 3
        assert sorted(told) == [0, 1, 2]
        (failed,) = run_tasks(die_until, [(str(tmp_path / "many"), 99)], wanted)
    assert isinstance(failed, Failure)
    assert failed.message.startswith("workers died again and again while it was made")
    assert len(list((tmp_path / "many").iterdir())) == 1 + RESUBMISSIONS


@pytest.mark.slow
def test_a_result_that_dies_with_its_worker_before_it_is_fetched_is_computed_again(tmp_path: Path) -> None:
    key = ("item", 0)
    results: list[Any] = []
    with (
        LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster,
        a_worker_that_is_started_again(cluster.scheduler_address, tmp_path),
        cluster_executor(remote(address=cluster.scheduler_address)) as executor,
    ):
        executor.submit({key: (own_process, 0)}, [key])
        future = Future(key, executor.client)
        wait(future)
        os.kill(future.result(), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while future.status == "finished":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        while not results:
            executor.work(lambda _, result: results.append(result))  # without the second look it would be None
        executor.release([key])
    assert isinstance(results[0], int)


@pytest.mark.slow
def test_work_that_was_lost_with_a_process_is_run_again_and_then_fails_alone(tmp_path: Path) -> None:
    for name in ("once", "always"):
        (tmp_path / name).mkdir()
    told: list[int] = []
    processes = Execution(scheduler="processes", workers=2)
    items = [(str(tmp_path / "once"), 1), (str(tmp_path), 0)]
    results = run_tasks(die_until, items, processes, told.append)
    assert results[0] == "after 1 deaths"
    assert sorted(told) == [0, 1]
    (failed,) = run_tasks(die_until, [(str(tmp_path / "always"), 99)], processes)
    assert isinstance(failed, Failure)
    assert failed.message.startswith("workers died again and again while it was made")
    assert len(list((tmp_path / "always").iterdir())) == 1 + RESUBMISSIONS


def test_a_cluster_whose_last_worker_is_gone_is_not_waited_for_without_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("worker", "deaths"):
        (tmp_path / name).mkdir()
    with LocalCluster(n_workers=0, dashboard_address=FREE_PORT) as cluster:
        address = cluster.scheduler_address
        worker = start_worker(address, WITH_TESTS, tmp_path / "worker", "--no-nanny")
        try:
            cluster.wait_for_workers(1, timeout=60)
            with pytest.raises(
                OstcalError, match=r"^tcp://\S+: the Dask cluster has had no worker for 1 s; start .*again"
            ):
                run_tasks(die_until, [(str(tmp_path / "deaths"), 99)], remote(address=address, worker_wait_s=1.0))
        finally:
            end(worker)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert f"{address}: no worker of the Dask cluster is left; waiting up to 1 s for one" in caplog.messages


# --- what is killed ---


@pytest.fixture
def observatory(tmp_path: Path) -> Iterator[Observatory]:
    run = Observatory(folder=tmp_path, port=free_port())
    run.start_scheduler()
    for name in ("one", "two"):
        run.start_worker(name)
    yield run
    run.end()


@pytest.fixture(scope="module")
def kill_night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Night, dict[str, str]]:
    """Return frames that take some seconds, and the digests of what threads make of them."""
    night = Night(tmp_path_factory.mktemp("night"))
    rng = np.random.default_rng(5)
    shape = (800, 1200)

    def frames(n: int, level: float, noise: float) -> Any:
        return np.clip(rng.normal(level, noise, (n, *shape)), 0, 65535).astype(np.uint16)

    write_bias(night, frames(16, 1000, 6))
    write_darks(night, 2.0, frames(16, 1010, 6))
    write_flats(night, 2.0, frames(12, 21000, 70))
    masters = night.root / "reference"
    assert run_to_end(start_build(night, masters, {"scheduler": "threads"})) == 0
    return night, digests(masters)


def start_build(night: Night, masters: Path, compute: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start ``ostcal masters`` in a process of its own; its words go to a file beside the masters."""
    config = night.config(compute=compute) | {"storage": {"strip_rows": 16}}
    config["master_frames"]["output_dir"] = str(masters)
    path = masters.with_suffix(".yaml")
    path.write_text(json.dumps(config))
    words = command_line("masters", "--config", str(path), "--no-confirm", "--debug")
    with open(masters.with_suffix(".txt"), "ab") as log:
        return subprocess.Popen(words, env=command_environment(), cwd=masters.parent, stdout=log, stderr=log)


def run_to_end(build: subprocess.Popen[bytes]) -> int:
    return build.wait(timeout=120)


def digests(masters: Path) -> dict[str, str]:
    """Return a digest of the pixels of every master in the store and of every FITS file, by the kind in its name."""
    store = MasterStore(masters / "masters.zarr")
    pixels = [(f"{name} in the store", planes_of(store, name)) for name in store.names()]
    pixels += [(path.name, [read_with_astropy(path)[0].tobytes()]) for path in masters.glob("*.fits")]
    by_kind = {
        name.split("_20")[0] + name[-5:]: hashlib.sha256(b"".join(planes)).hexdigest() for name, planes in pixels
    }
    assert len(by_kind) == len(pixels), "two masters of one kind"
    return by_kind


def planes_of(store: MasterStore, name: str) -> list[bytes]:
    master = store.open(name)
    return [master.array(plane).tobytes() for plane in ("master", "n_used", "std", "dq")]


def strays(masters: Path) -> list[str]:
    """Return what is neither a master nor the record of a run."""
    store = MasterStore(masters / "masters.zarr")
    left = [path.name for path in Path(store.location).iterdir() if path.name not in {*store.names(), "zarr.json"}]
    return left + [str(path) for pattern in ("*.partial*", ".ostcal-token-*") for path in masters.rglob(pattern)]


def wait_for_chunks(masters: Path, n_chunks: int, build: subprocess.Popen[bytes]) -> None:
    """Wait until the arrays of masters are made and so many of their strips are on the disk."""
    while build.poll() is None and not (masters / "masters.zarr").exists():
        time.sleep(0.01)
    while build.poll() is None and sum(1 for _ in masters.glob("masters.zarr/*/master/c.*")) < n_chunks:
        time.sleep(0.01)


KILL_MOMENTS = int(os.environ.get("OSTCAL_KILL_MOMENTS", "3"))
"""Random moments at which a worker is killed, each in a run of its own."""
STRIPS = 200
"""That such a run writes: bias, dark and flat of 50 each, and the flat before it is normalised."""


@pytest.mark.slow
def test_killed_workers_change_nothing(
    kill_night: tuple[Night, dict[str, str]], observatory: Observatory, tmp_path: Path
) -> None:
    night, reference = kill_night
    rng = random.Random(20261121)
    compute = {"scheduler": "distributed", "address": observatory.address}
    killed = 0
    for index in range(KILL_MOMENTS):
        masters = tmp_path / f"killed{index}"
        n_chunks, wait_s = rng.randrange(STRIPS), rng.uniform(0.0, 0.3)
        build = start_build(night, masters, compute)
        wait_for_chunks(masters, n_chunks, build)
        time.sleep(wait_s)
        killed += observatory.kill_a_worker(rng) and build.poll() is None
        moment = f"killed {wait_s:.3f} s after {n_chunks} strips"
        assert run_to_end(build) == 0, f"{moment}: {masters.with_suffix('.txt').read_text()[-3000:]}"
        assert digests(masters) == reference, moment
        assert strays(masters) == [], moment
        shutil.rmtree(masters)
    assert killed >= KILL_MOMENTS // 2


@pytest.mark.slow
def test_after_the_scheduler_was_killed_the_same_command_ends_the_work(
    kill_night: tuple[Night, dict[str, str]], observatory: Observatory, tmp_path: Path
) -> None:
    night, reference = kill_night
    masters = tmp_path / "masters"
    compute = {"scheduler": "distributed", "address": observatory.address}
    build = start_build(night, masters, compute)
    wait_for_chunks(masters, 5, build)
    observatory.processes["scheduler"].kill()
    assert run_to_end(build) == 1
    said = masters.with_suffix(".txt").read_text()
    assert "the connection to the Dask scheduler was lost" in said
    observatory.end()  # workers end with their scheduler
    observatory.start_scheduler()
    observatory.start_worker("one")
    assert run_to_end(start_build(night, masters, compute)) == 0
    assert digests(masters) == reference
    assert strays(masters) == []


@pytest.mark.slow
@pytest.mark.parametrize("own_cluster", [False, True])
def test_after_the_coordinator_was_killed_the_same_command_ends_the_work(
    kill_night: tuple[Night, dict[str, str]], observatory: Observatory, tmp_path: Path, own_cluster: bool
) -> None:
    night, reference = kill_night
    masters = tmp_path / "masters"
    compute = {"scheduler": "distributed"} | ({} if own_cluster else {"address": observatory.address})
    build = start_build(night, masters, compute)
    wait_for_chunks(masters, 5, build)
    build.kill()
    build.wait()
    assert digests(masters) != reference
    assert run_to_end(start_build(night, masters, compute)) == 0, masters.with_suffix(".txt").read_text()[-3000:]
    assert digests(masters) == reference
    assert strays(masters) == []
