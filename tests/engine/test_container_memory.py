"""Memory limits of containers: files as both versions of control groups write them, and a control group of Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostcal.engine.container_memory import RESERVED_BYTES, memory_ceiling, within_container
from support import night as n

MIB = 2**20
V1_UNLIMITED = 9223372036854771712


def process(folder: Path, group: str, mount: str, *, root: str = "/", version: int = 2) -> Path:
    """Write what the kernel says of a process."""
    folder.mkdir(exist_ok=True)
    line = f"0::{group}" if version == 2 else f"7:pids:/elsewhere\n4:memory:{group}\n0::/"
    folder.joinpath("cgroup").write_text(f"{line}\n")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
    mounts = f"24 1 0:22 / /proc rw - proc proc rw\n30 24 0:26 {root} {mount} rw,relatime shared:9 - {kind}\n"
    folder.joinpath("mountinfo").write_text(mounts)
    return folder


def limit(folder: Path, name: str, value: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(name).write_text(f"{value}\n")


@pytest.mark.parametrize(("version", "name"), [(2, "memory.max"), (1, "memory.limit_in_bytes")])
def test_the_smallest_limit_on_the_way_to_the_root_counts(tmp_path: Path, version: int, name: str) -> None:
    tree = tmp_path / "groups"
    limit(tree / "pod" / "app", name, "max" if version == 2 else V1_UNLIMITED)
    limit(tree / "pod", name, 512 * MIB)
    limit(tree, name, 4096 * MIB)
    ceiling = memory_ceiling(process(tmp_path / "proc", "/pod/app", str(tree), version=version))
    assert ceiling is not None
    assert ceiling.limit_bytes == 512 * MIB
    assert ceiling.usable_bytes == 512 * MIB - RESERVED_BYTES
    assert ceiling.file == str(tree / "pod" / name)


@pytest.mark.parametrize("root", ["/docker/0123", "/docker/0123/app", "/../.."])
def test_a_container_that_sees_its_own_part_of_the_tree(tmp_path: Path, root: str) -> None:
    tree = tmp_path / "own groups"  # mountinfo writes the blank as an octal number
    limit(tree, "memory.max", 256 * MIB)
    proc = process(tmp_path / "proc", "/docker/0123", str(tree).replace(" ", r"\040"), root=root)
    ceiling = memory_ceiling(proc)
    assert ceiling is not None
    assert ceiling.limit_bytes == 256 * MIB


def test_without_a_limit_and_on_other_systems_nothing_changes(tmp_path: Path) -> None:
    assert memory_ceiling(tmp_path / "absent") is None
    tree = tmp_path / "groups"
    limit(tree, "memory.max", "max")
    assert memory_ceiling(process(tmp_path / "proc", "/", str(tree))) is None
    limit(tree, "memory.max", "of another kind")
    assert memory_ceiling(process(tmp_path / "proc", "/", str(tree))) is None
    assert within_container(64 * MIB) <= 64 * MIB


# ---- a group of this computer ----


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a control group below the one of this process, where that is allowed."""
    places = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = next((path for _, controllers, path in lines if controllers == "memory"), "/")
    place = next((p for p in places if p.joinpath("memory.limit_in_bytes").exists()), None)
    if place is None or sys.platform != "linux":
        pytest.skip("the memory controller of control groups (version 1) is not mounted here")
    parent = place / own.lstrip("/") if (place / own.lstrip("/")).is_dir() else place
    made = parent / f"ostcal-test-{uuid.uuid4().hex}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield made
    finally:
        made.rmdir()


def run_in(group: Path, limit_mib: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    group.joinpath("memory.limit_in_bytes").write_text(str(limit_mib * MIB))
    return subprocess.run(
        n.command_line(*arguments),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: group.joinpath("cgroup.procs").write_text(str(os.getpid())) and None,
        env=n.command_environment(),
        check=False,
    )


def test_workers_of_a_cluster_here_share_the_container(group: Path, tmp_path: Path) -> None:
    night = n.Night(tmp_path)
    n.write_darks(night, 5.0)
    on_cluster = ("--set", "compute.scheduler=distributed", "--set", "compute.workers=2")
    done = run_in(group, 700, "masters", night.darks, "--darks-only", *on_cluster, "--no-confirm")
    assert done.returncode == 1
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "the memory of this container" in line]
    assert "in each worker" in line
    gives = int(line.rpartition("give it ")[2].split()[0])
    assert gives > 3 * 260


def test_default_settings_make_masters_in_a_container_of_512_mib(group: Path, tmp_path: Path) -> None:
    night = n.Night(tmp_path)
    n.write_darks(night, 5.0)
    done = run_in(group, 512, "masters", night.darks, "--darks-only", "--out", tmp_path / "masters", "--no-confirm",
                  "--set", "master_frames.create_master_bias=false")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "masters").glob("master_dark_*.fits"))
    assert list((tmp_path / "masters").glob("report_*.html"))
    assert int(group.joinpath("memory.max_usage_in_bytes").read_text()) <= 512 * MIB


def test_a_container_that_is_too_small_is_named_with_what_would_do(group: Path, tmp_path: Path) -> None:
    night = n.Night(tmp_path)
    n.write_darks(night, 5.0)
    done = run_in(group, 300, "masters", night.darks, "--darks-only", "--out", tmp_path / "masters", "--no-confirm")
    assert done.returncode == 1
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "the memory of this container" in line]
    assert "too small: 300 MiB" in line
    assert f"{group}/memory.limit_in_bytes" in line
    assert "give it " in line
    assert not list(tmp_path.rglob("master_dark_*.fits"))
