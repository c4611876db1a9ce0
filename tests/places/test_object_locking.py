"""Locks, histories and interrupted builds in an object store: as on a disk, with conditional writes for renames."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostcal.errors import StorageError
from ostcal.library.copy_stores import copy_store, plan_copies
from ostcal.library.history import HistoryEntry, add_to_history, history_of
from ostcal.library.planes import PLANES
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Outcome
from ostcal.places.locking import LockRules, locked
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import files_below
from ostcal.series.reader import open_series
from support import night as n
from support.amounts import amount
from support.night import Night
from support.object_samples import fresh_bucket, write_series
from support.object_server import ENVIRONMENT, FaultyProxy, credentials, put_object

DEAD = {
    "host": "elsewhere",
    "machine": "",
    "pid": 4711,
    "process": "gone",
    "started": "",
    "command": "ostcal masters",
    "since": "2026-11-21 18:00:00 UTC",
    "token": "abc123",
}


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with credentials():
        yield fresh_bucket(s3_endpoint)
    use_options(ObjectOptions())


# ---- locks ----


def test_a_second_run_is_told_who_is_there(bucket: str) -> None:
    lock = ObjectPath.of(f"{bucket}/masters/.ostcal.lock")
    with locked(lock, what="masters"):
        with (
            pytest.raises(StorageError, match=f"process {os.getpid()} on"),
            locked(lock, LockRules(wait_s=0.2, poll_s=0.05), what="masters"),
        ):
            pass
        assert lock.is_file()
    assert not ObjectPath.of(f"{bucket}/masters").is_dir()


def test_one_of_many_gets_the_lock_at_a_time(bucket: str) -> None:
    lock = ObjectPath.of(f"{bucket}/.ostcal.lock")
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with locked(lock, LockRules(wait_s=60, poll_s=0.02), what="masters"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def test_a_lock_that_was_left_behind_is_removed_when_it_is_old(bucket: str) -> None:
    lock = ObjectPath.of(f"{bucket}/.ostcal.lock")
    lock.write_bytes(json.dumps(DEAD).encode())
    with (
        pytest.raises(StorageError, match="on elsewhere"),
        locked(lock, LockRules(abandoned_after_s=60), what="masters"),
    ):
        pass
    with locked(lock, LockRules(abandoned_after_s=-1), what="masters"):  # any age is too old
        assert b"elsewhere" not in lock.read_bytes()
    assert not files_below(bucket)


def test_a_lock_shows_that_its_owner_lives(bucket: str) -> None:
    lock = ObjectPath.of(f"{bucket}/.ostcal.lock")
    with locked(lock, LockRules(heartbeat_s=0.2), what="masters"):
        first = lock.state().modified_s
        deadline = time.monotonic() + 10
        while lock.state().modified_s == first and time.monotonic() < deadline:
            time.sleep(0.1)
        assert lock.state().modified_s > first


def test_an_answer_that_was_lost_does_not_lock_its_asker_out(bucket: str, s3_endpoint: str) -> None:
    with FaultyProxy(s3_endpoint, lambda method, path, number: "lost" if number == 1 else "") as proxy:
        use_options(ObjectOptions(endpoint=proxy.endpoint, retries=3, timeout_s=5))
        with locked(ObjectPath.of(f"{bucket}/.ostcal.lock"), what="masters"):
            assert proxy.counts["lost"] == 1


# ---- history ----


def test_runs_that_add_at_the_same_moment_lose_no_line(bucket: str) -> None:
    entries = [
        HistoryEntry(made_at=datetime.now(UTC), name=f"{number}", subject="dark", verdict=Outcome.PASS, metrics={})
        for number in range(8)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda entry: add_to_history(f"{bucket}/masters", [entry]), entries))
    assert sorted(entry.name for entry in history_of(f"{bucket}/masters")) == [entry.name for entry in entries]


def test_no_history_is_no_entries(bucket: str) -> None:
    assert history_of(f"{bucket}/masters") == []


# ---- interrupted builds ----


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL (POSIX)")
def test_a_killed_build_is_gone_on_with(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / "darks" / "exp_5.000s"
    n.write_frames(folder, n.samples(6, 1000.0, seed=5, shape=(96, 40)), "Dark Frame", 5.0)
    values = Night(tmp_path).config(quality_control=False, create_master_flats=False)
    here = tmp_path / "here.yaml"
    here.write_text(json.dumps({**values, "storage": {"strip_rows": 8}}))
    assert n.ostcal("masters", "--config", here, "--no-confirm").exit_code == 0
    use_options(ObjectOptions(endpoint=s3_endpoint))
    values["master_frames"]["output_dir"] = f"{bucket}/masters"
    values["storage"] = {"endpoint": s3_endpoint, "strip_rows": 8}
    there = tmp_path / "there.yaml"
    there.write_text(json.dumps(values))
    command = [sys.executable, "-m", "ostcal", "masters", "--config", str(there), "--no-confirm"]
    environment = n.command_environment(**ENVIRONMENT)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if sum("/strips/" in name for name in files_below(f"{bucket}/masters")) >= 3:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not MasterStore(f"{bucket}/masters/masters.zarr").names()
    outcome = n.ostcal("masters", "--config", there, "--no-confirm")
    assert outcome.exit_code == 0, outcome.text
    assert "were combined before and are taken over" in outcome.text
    left = [name for name in files_below(f"{bucket}/masters") if "/strips/" in name or name.endswith("writing.json")]
    assert not left
    ours, theirs = (MasterStore(f"{place}/masters.zarr") for place in (tmp_path / "masters", f"{bucket}/masters"))
    (our_name,), (their_name,) = ours.names(), theirs.names()
    for plane in PLANES:
        assert np.array_equal(ours.open(our_name).array(plane), theirs.open(their_name).array(plane), equal_nan=True)


# ---- copies, whatever is there ----


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("example") / "exp_5.000s.zarr"
    write_series(path, 3)
    return path


@settings(max_examples=amount(40))
@given(data=st.data())
def test_one_copy_makes_everything_right(example: Path, data: st.DataObject) -> None:
    """Whatever is missing, cut or changed at the target, with records or without: one run later all is as here."""
    target = f"memory://copies-{data.draw(st.integers(0, 2**60))}/exp_5.000s.zarr"
    (plan,) = plan_copies(example, target)
    copy_store(plan)
    root = ObjectPath.of(target)
    names = list(files_below(target))
    for name in data.draw(st.sets(st.sampled_from(names))):
        good = (root / name).read_bytes()
        wrong = data.draw(
            st.sampled_from(["missing", "cut", "changed"]).map(
                lambda what, good=good: {  # type: ignore[misc]
                    "missing": None, "cut": good[: len(good) // 2], "changed": good[:-1] + bytes([good[-1] ^ 1])
                }[what]
            )
        )  # fmt: skip
        if wrong is None:
            (root / name).unlink()
        else:
            (root / name).write_bytes(wrong)
    copy_store(plan_copies(example, target)[0])
    assert {name: (root / name).read_bytes() for name in files_below(target)} == {
        name: (example / name).read_bytes() for name in files_below(example)
    }
    assert len(open_series(target).records) == 3


# ---- keys of other programs ----


@pytest.mark.parametrize("key", ["a//b", "a/../b", "a/./b", "a/b//", "a/x%01y"])
def test_a_key_that_the_client_cannot_hold_is_named(bucket: str, s3_endpoint: str, key: str) -> None:
    """It was "the server does not answer", as the listing of all others fails with it."""
    name = bucket.removeprefix("s3://")
    for place in (key, "a/good", "other/good"):
        put_object(s3_endpoint, f"{name}/{place}")
    with pytest.raises(StorageError) as raised:
        ObjectPath.of(f"{bucket}/a").objects_below()
    line = str(raised.value)
    assert line.startswith(f"{bucket}/a: it cannot be listed: the key {urllib.parse.unquote(key)} has a part")
    assert "give a prefix without it" in line
    assert [state.key for state in ObjectPath.of(f"{bucket}/other").objects_below()] == ["other/good"]


def test_empty_parts_of_a_location_do_not_count(bucket: str) -> None:
    ObjectPath.of(f"{bucket}/a/b").write_bytes(b"x")
    assert ObjectPath.of(f"{bucket}//a///b/").read_bytes() == b"x"
