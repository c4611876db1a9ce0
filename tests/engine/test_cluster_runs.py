"""Whole commands on clusters, as their configuration says: the masters of threads, whatever makes them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ostcal import MasterFrameCreator
from ostcal.build.from_config import execution_of
from ostcal.config import load_config
from ostcal.engine.execution import ClusterClass, TlsFiles
from ostcal.errors import ConfigError
from ostcal.library.store import MasterStore
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night, command_environment, command_line, write_bias, write_darks, write_flats

SHAPE = (600, 400)
LOCAL = {"scheduler": "distributed"}
BASE = {"quality": {"frames": {"lamp_scatter_share": 0.2, "lamp_jump_share": 0.2, "lamp_drift_share": 0.2}}}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return bias, darks and flats of a small sensor."""
    night = Night(tmp_path_factory.mktemp("night"))
    rng = np.random.default_rng(11)

    def frames(n: int, level: float, noise: float) -> Any:
        return np.clip(rng.normal(level, noise, (n, *SHAPE)), 0, 65535).astype(np.uint16)

    write_bias(night, frames(8, 1000, 6))
    write_darks(night, 2.0, frames(8, 1010, 6))
    write_flats(night, 2.0, frames(8, 21000, 70))
    return night


@pytest.fixture(scope="module")
def reference(night: Night) -> dict[str, str]:
    """Return digests of what threads make, and their verdicts."""
    return made_by(night, "reference", {"scheduler": "threads"})


def made_by(night: Night, name: str, compute: dict[str, Any], **storage: Any) -> dict[str, str]:
    """Run ``ostcal masters`` with relative directories, and give digests of what it made."""
    run_masters(night, name, compute, **storage)
    return digests(night.root / name)


def run_masters(night: Night, name: str, compute: dict[str, Any], **storage: Any) -> str:
    config = {
        **BASE,
        "dark_capture": {"output_dir": "darks"},
        "flat_capture": {"output_dir": "flats"},
        "master_frames": {"output_dir": name},
        "compute": {"workers": 2, **compute},
        "storage": storage,
    }
    path = night.root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        command_line("masters", "--config", path.name, "--no-confirm"),
        env=command_environment(), cwd=night.root, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def digests(masters: Path) -> dict[str, str]:
    """Return a digest of the planes of every master and of its FITS file, and its verdict."""
    store = MasterStore(masters / "masters.zarr")
    found = {}
    for name in store.names():
        master, kind = store.open(name), name.split("_20")[0]
        planes = [master.array(plane).tobytes() for plane in ("master", "n_used", "std", "dq")]
        found[kind] = hashlib.sha256(b"".join(planes)).hexdigest()
        found[f"{kind} is"] = store.attributes(name)["verdict"]
        pixels = read_with_astropy(masters / f"{name}.fits")[0]
        found[f"{kind} as FITS"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert len(found) == 3 * len(store.names())
    return found


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a scheduler and a worker of two threads, in a working directory of their own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    path = folder / "scheduler.json"
    head = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    head += ["--no-dashboard", "--scheduler-file", str(path)]
    body = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(path), "--nthreads", "2"]
    body += ["--no-dashboard", "--no-nanny", "--local-directory", str(folder)]
    with open(folder / "log.txt", "wb") as log:
        started = [subprocess.Popen(head, env=command_environment(), cwd=folder, stdout=log, stderr=log)]
        while not path.exists():
            assert started[0].poll() is None
            time.sleep(0.05)
        started.append(subprocess.Popen(body, env=command_environment(), cwd=folder, stdout=log, stderr=log))
        yield path
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=30)


def test_a_scheduler_file_and_workers_in_another_working_directory(
    night: Night, reference: dict[str, str], scheduler_file: Path
) -> None:
    compute = {"scheduler": "distributed", "scheduler_file": str(scheduler_file)}
    assert made_by(night, "by_file", compute) == reference


@pytest.mark.slow
@pytest.mark.parametrize("rows", [16, 64, 512])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_and_strips_do_not_show(night: Night, reference: dict[str, str], workers: int, rows: int) -> None:
    compute = {**LOCAL, "workers": workers}
    assert made_by(night, f"by_{workers}_{rows}", compute, strip_rows=rows) == reference


@pytest.mark.slow
def test_a_cluster_by_its_class_with_arguments_as_the_configuration_writes_them(
    night: Night, reference: dict[str, str]
) -> None:
    start = {"class": "distributed.LocalCluster", "n_workers": 1, "threads_per_worker": 2, "processes": True}
    start |= {"kwargs": {"dashboard_address": "127.0.0.1:0", "memory_limit": 0, "host": "127.0.0.1"}}
    assert made_by(night, "by_class", {**LOCAL, "cluster": start}) == reference


@pytest.mark.slow
def test_a_local_cluster_prints_its_dashboard_or_how_to_get_it(night: Night) -> None:
    said = run_masters(night, "local", LOCAL)
    assert "2 workers on this computer" in said
    assert "dashboard" in said


def test_too_little_memory_for_each_worker_is_refused_with_what_would_do(night: Night) -> None:
    config = load_config({
        "dark_capture": {"output_dir": str(night.darks)}, "flat_capture": {"output_dir": str(night.flats)},
        "master_frames": {"output_dir": str(night.root / "none")},
        "compute": {**LOCAL, "memory_limit": "200MiB"},
    })  # fmt: skip
    status = MasterFrameCreator(config).create_all_master_frames()
    assert status.is_error
    assert "compute.memory_limit 200 MiB is too small" in status.message
    assert "at least 284 MiB in each worker; set memory_limit to 284 MiB or more" in status.message


def test_science_frames_are_calibrated_on_a_cluster_as_on_threads(
    night: Night, reference: dict[str, str], scheduler_file: Path
) -> None:
    rng = np.random.default_rng(12)
    (night.root / "lights").mkdir()
    for index in range(2):
        samples = np.clip(rng.normal(3000, 40, SHAPE), 0, 65535).astype(np.uint16)
        write_frame(
            night.root / "lights" / f"m31_{index}.fits", samples, IMAGETYP="Light Frame", EXPTIME=2.0,
            INSTRUME="Synthetic", GAIN=100, OFFSET=30, **{"SET-TEMP": -10.0, "CCD-TEMP": -10.0},
        )  # fmt: skip
    made = {}
    for name, compute in (("threads", {}), ("cluster", {**LOCAL, "scheduler_file": str(scheduler_file)})):
        config = {"master_frames": {"output_dir": "reference"}, "compute": {"workers": 2, **compute}}
        (night.root / f"calibrate_{name}.yaml").write_text(json.dumps(config))
        words = ("calibrate", "lights", "--config", f"calibrate_{name}.yaml", "--output-dir", f"cal_{name}")
        done = subprocess.run(
            command_line(*words), env=command_environment(), cwd=night.root, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted((night.root / f"cal_{name}").glob("*.fits"))
        made[name] = [read_with_astropy(path)[0].tobytes() for path in files]
    assert len(made["threads"]) == 2
    assert made["threads"] == made["cluster"]


# --- the configuration ---


def test_arguments_of_a_cluster_keep_the_types_that_yaml_gives_them(tmp_path: Path) -> None:
    text = """\
compute:
  scheduler: distributed
  worker_wait: 3600
  cluster:
    class: dask_jobqueue.SLURMCluster
    cores: 8
    memory: 16GB
    account: "0815"
    nanny: true
    walltime: "01:30:00"
    job_extra_directives: ["--qos=high", 5, null]
    kwargs: {processes: 2, job_script_prologue: [module load python]}
  tls: {ca: ca.pem, cert: cert.pem, key: key.pem}
"""
    (tmp_path / "config.yaml").write_text(text)
    execution = execution_of(load_config(tmp_path / "config.yaml"), "masters", ())
    assert execution.cluster == ClusterClass(
        name="dask_jobqueue.SLURMCluster",
        kwargs={
            "cores": 8,
            "memory": "16GB",
            "account": "0815",
            "nanny": True,
            "walltime": "01:30:00",
            "job_extra_directives": ["--qos=high", 5, None],
            "processes": 2,
            "job_script_prologue": ["module load python"],
        },
    )
    assert execution.tls == TlsFiles(ca="ca.pem", cert="cert.pem", key="key.pem")
    assert execution.worker_wait_s == 3600
    assert execution.memory_limit_bytes == 4 * 2**30


@pytest.mark.parametrize(
    ("compute", "line"),
    [
        ("cluster: SLURMCluster", r"line 2: compute\.cluster: SLURMCluster is not allowed; write class and its"),
        ("cluster: {cores: 8}", r"line 2: compute\.cluster: a group of keys is not allowed; write class and its"),
        ("cluster: {class: a.B, kwargs: 5}", r"compute\.cluster: a group of keys is not allowed"),
        ("tls: {ca: a.pem}", r"compute\.tls\.key: null \(the default\) is not allowed; ca, cert and key belong"),
        ("tls: {ca: a.pem, key: b.pem}", r"compute\.tls\.key: b\.pem is not allowed; ca, cert and key belong together"),
        ("worker_wait: 0", r"compute\.worker_wait: 0 is not allowed; write a number above 0"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_one_clear_line(tmp_path: Path, compute: str, line: str) -> None:
    (tmp_path / "config.yaml").write_text(f"compute:\n  {compute}\n")
    with pytest.raises(ConfigError, match=line):
        load_config(tmp_path / "config.yaml")


def test_two_ways_to_a_cluster_and_ways_that_are_not_used_are_named() -> None:
    compute = {"scheduler_file": "a.json", "cluster": {"class": "a.B"}}
    with pytest.raises(ConfigError, match=r"compute\.scheduler_file and compute\.cluster are both set"):
        execution_of(load_config({"compute": {**compute, "scheduler": "distributed"}}), "masters", ())
    warnings = load_config({"compute": compute}).warnings
    assert [line.split(":")[1].strip() for line in warnings] == ["compute.scheduler_file", "compute.cluster"]


def test_a_command_with_a_cluster_that_cannot_be_used_is_one_line_and_no_traceback(night: Night) -> None:
    shutil.rmtree(night.root / "broken", ignore_errors=True)
    config = {
        "dark_capture": {"output_dir": "darks"}, "master_frames": {"output_dir": "broken"},
        "compute": {**LOCAL, "cluster": {"class": "dask_jobqueue.NoSuchCluster"}},
    }  # fmt: skip
    (night.root / "broken.yaml").write_text(json.dumps(config))
    done = subprocess.run(
        command_line("masters", "--config", "broken.yaml", "--no-confirm"),
        env=command_environment(), cwd=night.root, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "compute.cluster.class dask_jobqueue.NoSuchCluster: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (night.root / "broken").exists()
