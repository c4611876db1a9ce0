"""Series are combined while the camera takes the next: the masters are those of a run afterwards, whatever happens."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from ostcal import CalibrationWorkflow
from ostcal.build.from_config import request_of
from ostcal.build.request import BuildRequest
from ostcal.build.run import BuildReport, build_masters
from ostcal.build.while_exposing import (
    COMPILE_S,
    StripsProcess,
    can_combine_while_exposing,
    combine_series,
    spare_workers,
)
from ostcal.config import Config, load_config, resolved_values
from ostcal.engine.tiling import PROCESS_BYTES
from ostcal.errors import PlanError
from ostcal.frames import FrameType
from ostcal.library.store import MasterStore
from ostcal.places.locking import LOCK_FILE, locked
from ostcal.series.series_writer import create_series
from support.night import command_environment, command_line
from support.series_samples import FIRST_EXPOSURE, record_of

posix = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc (Linux)")
SHAPE = (96, 120)
N_FRAMES = 6
N_STRIPS = 3
"""Of one master: frames of this size are stored in chunks of 32 rows."""
DARKS_S = (0.001, 1.0, 5.0)
FLAT_S = 1.0


def write_series(
    place: Path, kind: FrameType, exposure_s: float, *, n: int = N_FRAMES, shape: tuple[int, int] = SHAPE
) -> Path:
    """Write a series of one sensor, as a capture leaves it."""
    rng = np.random.default_rng(round(1000 * exposure_s) + (kind is FrameType.FLAT))
    level = 500 + 10 * exposure_s * np.linspace(0, 1, shape[1]) + (20000 if kind is FrameType.FLAT else 0)
    writer = create_series(
        place, n_frames=n, height=shape[0], width=shape[1], dtype="uint16", frame_type=kind,
    )  # fmt: skip
    for index in range(n):
        frame = np.rint(rng.normal(level, 4 if kind is not FrameType.FLAT else 120, shape)).astype(np.uint16)
        record = record_of(
            index, frame, frame_type=kind, exposure_time_s=exposure_s, ccd_temperature_c=-10.0,
            filter_name="L" if kind is FrameType.FLAT else None,
            date_obs=FIRST_EXPOSURE + timedelta(seconds=index + 100 * exposure_s),
        )  # fmt: skip
        writer.write_frame(index, frame, record)
    return place


@pytest.fixture
def evening(tmp_path: Path) -> list[Path]:
    """Write bias, darks and flats; gives the series in the order in which they are taken."""
    series = []
    for exposure_s in DARKS_S:
        kind = FrameType.DARK if series else FrameType.BIAS
        series.append(write_series(tmp_path / "darks" / f"exp_{exposure_s:.3f}s.zarr", kind, exposure_s))
    return [*series, write_series(tmp_path / "flats" / "L_exp_1.000s.zarr", FrameType.FLAT, FLAT_S)]


def config_for(folder: Path, masters: str = "masters", rows: int | None = None, **keys: Any) -> Config:
    config = {
        "dark_capture": {"output_dir": str(folder / "darks")},
        "flat_capture": {"output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / masters), **keys},
        "compute": {"workers": 2},
        "storage": {"strip_rows": rows or "auto"},
    }
    return load_config(config)


def request_for(folder: Path, masters: str = "masters", rows: int | None = None, **keys: Any) -> BuildRequest:
    return request_of(config_for(folder, masters, rows, **keys), bias=True, darks=True, flats=True)


def planes(masters: Path) -> dict[str, list[NDArray[Any]]]:
    """Return all planes of each master, by its name without the time."""
    store = MasterStore(masters / "masters.zarr")
    found = {}
    for name in store.names():
        master = store.open(name)
        wanted = ("master", "n_used", "std", "dq")
        found[name.rpartition("_20")[0]] = [master.read_rows(plane, 0, master.shape[0]) for plane in wanted]
    return found


def judged(report: BuildReport) -> dict[str, Any]:
    """Return what a run says of its masters, without their names, which hold the time."""
    return {
        made.name.rpartition("_20")[0]: (
            made.verdict, [(f.check, f.value, f.limit, f.outcome) for f in made.findings], made.metrics,
            made.result.rejected_per_frame, made.result.mean, made.warnings,
        )
        for made in report.made
    }  # fmt: skip


def assert_same_masters(folder: Path, one: str, other: str) -> None:
    first, second = planes(folder / one), planes(folder / other)
    assert first.keys() == second.keys()
    for name, expected in second.items():
        for plane, other_plane in zip(first[name], expected, strict=True):
            assert np.array_equal(plane, other_plane, equal_nan=plane.dtype.kind == "f")


def strips_left(masters: Path) -> int:
    return len(list(masters.glob("masters.zarr/*/strips/*.json")))


def surveys_left(masters: Path) -> list[Path]:
    return sorted(masters.glob("masters.zarr/*/survey.json"))


# ---- what is left to the build at the end ----


def test_the_masters_are_those_of_a_run_afterwards(
    tmp_path: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    expected = build_masters(request_for(tmp_path, "afterwards"))
    request = request_for(tmp_path)
    for place in evening:
        assert combine_series(request, str(place), [str(dark) for dark in evening[:3]]) == ()
    assert MasterStore(tmp_path / "masters" / "masters.zarr").names() == []
    assert list((tmp_path / "masters").glob("*.fits")) == []
    assert strips_left(tmp_path / "masters") == 4 * N_STRIPS
    assert len(surveys_left(tmp_path / "masters")) == 4
    caplog.set_level(logging.DEBUG, "ostcal")
    caplog.clear()
    report = build_masters(request)
    assert caplog.text.count("3 of 3 strips were combined before and are taken over") == 4
    assert "4 of 4 surveys were made ahead" in caplog.text
    assert surveys_left(tmp_path / "masters") == []
    assert judged(report) == judged(expected)
    assert_same_masters(tmp_path, "masters", "afterwards")
    assert strips_left(tmp_path / "masters") == 0


def test_strips_of_the_same_work_and_name_are_taken_over_within_a_second(tmp_path: Path) -> None:
    store = MasterStore(tmp_path / "masters.zarr")
    rows = {
        "master": np.ones((4, 5), np.float32),
        "n_used": np.ones((4, 5), np.uint16),
        "std": np.ones((4, 5), np.float32),
    }
    for name, work in (("other", "work of other frames"), ("flat", "work")):
        writer = store.create(name, (8, 5), 4, work=work)
        writer.keep_result(0, {"key": "a"}, writer.write_rows(0, **rows))
        store.abandon(name)
    assert store.create("flat", (8, 5), 4, work="work").n_kept() == 1
    store.abandon("flat")
    assert store.create("other", (8, 5), 4, work="work").n_kept() == 1  # in the place of what is of other work
    assert not store.exists("flat")
    store.abandon("other")
    assert store.create("other", (8, 5), 4, work="work of other frames").n_kept() == 0


@pytest.mark.parametrize("spoiled", ["cut", "a number too few", "another series", "no number"])
def test_surveys_that_do_not_fit_are_made_again(
    tmp_path: Path, evening: list[Path], caplog: pytest.LogCaptureFixture, spoiled: str
) -> None:
    request = request_for(tmp_path)
    for place in evening[:3]:
        assert combine_series(request, str(place)) == ()
    damaged = surveys_left(tmp_path / "masters")[0]
    survey = json.loads(damaged.read_bytes())
    if spoiled == "a number too few":
        survey["mean_adu"]["data"] = survey["mean_adu"]["data"][:-12]
    elif spoiled == "no number":
        survey["n_pixels"] = {"dtype": "O", "shape": [], "data": ""}
    elif spoiled == "another series":
        survey["key"] = "0" * 64
    text = json.dumps(survey)
    damaged.write_text(text[: len(text) // 2] if spoiled == "cut" else text)
    caplog.set_level(logging.DEBUG, "ostcal")
    report = build_masters(request)
    assert "2 of 4 surveys were made ahead" in caplog.text
    assert judged(report) == judged(build_masters(request_for(tmp_path, "afterwards")))


def test_frames_that_changed_since_are_surveyed_again(
    tmp_path: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    request = request_for(tmp_path)
    assert combine_series(request, str(evening[1])) == ()
    shutil.rmtree(evening[1])
    write_series(evening[1], FrameType.DARK, DARKS_S[1], n=N_FRAMES + 1)
    caplog.set_level(logging.DEBUG, "ostcal")
    report = build_masters(request)
    assert "0 of 4 surveys were made ahead" in caplog.text
    assert judged(report) == judged(build_masters(request_for(tmp_path, "afterwards")))


def test_what_is_published_already_is_not_combined_again(tmp_path: Path, evening: list[Path]) -> None:
    request = request_for(tmp_path)
    build_masters(request)
    assert [combine_series(request, str(place), [str(dark) for dark in evening[:3]]) for place in evening] == [None] * 4
    assert strips_left(tmp_path / "masters") == 0


def test_flats_wait_for_the_dark_of_their_exposure(tmp_path: Path, evening: list[Path]) -> None:
    request = request_for(tmp_path)
    bias, short, long, flats = map(str, evening)
    assert combine_series(request, flats, [bias, long]) is None
    assert strips_left(tmp_path / "masters") == 0
    assert combine_series(request, flats, [bias, short, long]) == ()
    assert strips_left(tmp_path / "masters") == 2 * N_STRIPS  # the flats and their dark


def test_memory_that_the_capture_needs_is_left_to_it(tmp_path: Path) -> None:
    shape = (2000, 3000)
    place = write_series(tmp_path / "darks" / "exp_5.000s.zarr", FrameType.DARK, 5.0, n=3, shape=shape)
    request = request_for(tmp_path)
    capture_bytes = PROCESS_BYTES + 3 * 2 * shape[0] * shape[1]
    tight = replace(request, memory_limit_bytes=PROCESS_BYTES + capture_bytes)
    with pytest.raises(PlanError, match=r"no room beside the capture; \d+ MiB would"):
        combine_series(tight, str(place))
    assert len(build_masters(tight).made) == 1
    with pytest.raises(PlanError) as refused:
        combine_series(replace(tight, output_dir=str(tmp_path / "other")), str(place))
    needed = int(str(refused.value).split("capture; ")[1].split()[0])
    enough = replace(tight, memory_limit_bytes=needed << 20, output_dir=str(tmp_path / "other"))
    assert combine_series(enough, str(place)) == ()


@pytest.mark.parametrize("keys", [{"clip_spread": "noise"}, {}])
def test_nothing_is_combined_ahead_where_all_series_must_be_known(tmp_path: Path, keys: dict[str, Any]) -> None:
    request = request_for(tmp_path, **keys)
    assert can_combine_while_exposing(request) == (not keys and spare_workers(request) > 0)
    assert not can_combine_while_exposing(
        replace(request, execution=replace(request.execution, scheduler="distributed"))
    )
    assert not can_combine_while_exposing(replace(request, execution=replace(request.execution, workers=0)))
    assert not can_combine_while_exposing(replace(request, output_dir="s3://bucket/masters"))


# ---- in a process of its own ----


def wait_until(condition: Callable[[], object], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_in(folder: Path) -> list[int]:
    """Return the processes that combine strips and work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                is_there = (entry / "cwd").readlink() == folder and (entry / "stat").read_text().split()[2] != "Z"
            except OSError:
                continue
            if b"--strips-only" in command and is_there:
                found.append(int(entry.name))
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the folder of the test, by which its processes are found."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def slow(here: Path) -> tuple[Config, Path]:
    """Return a series that takes a while, as its strips have one row; not to be changed by the capture."""
    place = write_series(here / "darks" / "exp_5.000s.zarr", FrameType.DARK, 5.0, n=40, shape=(2400, 60))
    return config_for(here, rows=8, rejection_method="winsorized_sigma_clip"), place


@contextlib.contextmanager
def strips_process(config: Config) -> Iterator[StripsProcess]:
    with contextlib.closing(StripsProcess(resolved_values(config))) as process:
        yield process


@pytest.fixture
def started(here: Path, slow: tuple[Config, Path]) -> Iterator[StripsProcess]:
    """Start the process on the slow series, and wait until it has finished some strips."""
    config, place = slow
    with strips_process(config) as process:
        process.combine(str(place), FrameType.DARK)
        wait_until(lambda: strips_left(here / "masters") >= 3)
        yield process


@posix
def test_the_process_ends_within_seconds_and_leaves_its_strips(
    here: Path, slow: tuple[Config, Path], started: StripsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    (pid,) = processes_in(here)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    started.close()
    assert processes_in(here) == []
    assert list(here.rglob(f"{LOCK_FILE}*")) == []
    assert 3 <= strips_left(here / "masters") < 150
    assert_goes_on(here, slow[0], caplog)


@posix
def test_a_process_that_is_killed_costs_nothing_but_time(
    here: Path, slow: tuple[Config, Path], started: StripsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (pid,) = processes_in(here)
    os.kill(pid, signal.SIGKILL)
    said = "no masters are combined while the camera exposes, but at the end"
    wait_until(lambda: said in caplog.text)
    started.combine(str(slow[1]), FrameType.DARK)
    started.close()
    assert caplog.text.count(said) == 1
    assert_goes_on(here, slow[0], caplog)


@posix
@pytest.mark.slow
def test_kernels_that_are_being_compiled_are_waited_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = write_series(here / "darks" / "exp_5.000s.zarr", FrameType.DARK, 5.0, n=40)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(here / "cache"))
    caplog.set_level(logging.DEBUG, "ostcal")
    with strips_process(config_for(here)) as process:
        process.combine(str(place), FrameType.DARK)
        wait_until(lambda: list(here.rglob(LOCK_FILE)))
        process.close(10 * COMPILE_S)  # at the lowest priority, beside other tests
    assert "it is killed" not in caplog.text
    assert list(here.rglob(f"{LOCK_FILE}*")) == []
    assert list((here / "cache").rglob("*.nbc"))


def assert_goes_on(folder: Path, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the run at the end takes over the strips, and leaves nothing else."""
    caplog.set_level(logging.INFO)
    request = request_of(config, bias=True, darks=True, flats=True)
    report = build_masters(request)
    assert len(report.made) == 1
    assert "were combined before and are taken over" in caplog.text
    build_masters(replace(request, output_dir=str(folder / "afterwards")))
    assert_same_masters(folder, "masters", "afterwards")
    store = MasterStore(folder / "masters" / "masters.zarr")
    assert sorted(path.name for path in Path(store.location).iterdir() if path.is_dir()) == store.names()
    assert list((folder / "masters").rglob("*.partial")) == []


@posix
def test_what_fails_is_said_and_made_at_the_end(
    here: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (here / "masters").mkdir()
    with strips_process(config_for(here)) as process:
        with locked(here / "masters" / LOCK_FILE, what="masters"):
            process.combine(str(evening[0]), FrameType.BIAS)
            wait_until(lambda: "not combined while the camera exposes but at the end" in caplog.text)
        process.combine(str(evening[1]), FrameType.DARK)
        wait_until(lambda: "exp_1.000s.zarr: combined while the camera exposes" in caplog.text)
    assert "another run is writing there" in caplog.text
    assert len(build_masters(request_for(here)).made) == 4


@posix
def test_flats_are_combined_by_a_later_process_when_their_dark_is_closed(
    here: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bias, short, long, flats = map(str, evening)
    with strips_process(config_for(here)) as process:
        process.combine(long, FrameType.DARK)
        process.combine(flats, FrameType.FLAT)
        process.combine(bias, FrameType.BIAS)
        wait_until(lambda: f"{bias}: combined while the camera exposes" in caplog.text)
        assert strips_left(here / "masters") == 2 * N_STRIPS
        process.combine(short, FrameType.DARK)
        wait_until(lambda: f"{flats}: combined while the camera exposes" in caplog.text)
    assert strips_left(here / "masters") == 4 * N_STRIPS
    assert processes_in(here) == []


@posix
def test_a_process_that_has_not_begun_is_not_waited_for(
    here: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ostcal")  # which a command of another test may have set
    with strips_process(config_for(here)) as process:
        process.combine(str(evening[0]), FrameType.BIAS)
        wait_until(lambda: processes_in(here))
        for pid in processes_in(here):  # it imports for a second, and now for ever
            os.kill(pid, signal.SIGSTOP)
        process.close(COMPILE_S)
    assert "it is killed" in caplog.text
    assert processes_in(here) == []
    assert strips_left(here / "masters") == 0


@posix
def test_no_module_is_taken_from_the_working_directory(
    here: Path, evening: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("ostcal", "json", "numpy"):
        (here / f"{name}.py").write_text("raise SystemExit(7)", encoding="utf-8")
    with strips_process(config_for(here)) as process:
        process.combine(str(evening[0]), FrameType.BIAS)
        wait_until(lambda: "while the camera exposes" in caplog.text)
    assert "exp_0.001s.zarr: combined while the camera exposes" in caplog.text


# ---- the whole evening ----


def night_config(folder: Path, **keys: Any) -> dict[str, Any]:
    """Return a night whose longest darks take about half a second each."""
    return {
        "dark_capture": {
            "num_darks": 8, "science_exposure_time": 20.0, "exposure_factors": [0.5, 1.0],
            "flat_exposure_time": 1.0, "output_dir": str(folder / "darks"),
        },
        "flat_capture": {"num_flats": 4, "filters": ["L"], "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters")},
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 40.0}},
        "compute": {"workers": 2},
        **keys,
    }  # fmt: skip


@posix
def test_an_evening_gives_the_masters_of_a_run_afterwards(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    workflow = CalibrationWorkflow(night_config(here))
    statuses = workflow.run()
    assert [status.message for status in statuses.values() if status.is_error] == []
    assert "exp_0.001s.zarr: combined while the camera exposes" in caplog.text
    assert "were combined before and are taken over" in caplog.text
    assert processes_in(here) == []
    assert workflow.creator.report is not None
    expected = build_masters(replace(request_for(here, "afterwards"), memory_limit_bytes=4 << 30))
    assert judged(workflow.creator.report) == judged(expected)
    assert_same_masters(here, "masters", "afterwards")
    entries = (here / "masters" / "quality_history.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(entries) == len(expected.made)


@posix
def test_one_step_alone_and_a_night_without_it_start_no_process(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = night_config(here, workflow={"masters_while_exposing": False})
    config["dark_capture"] |= {"num_darks": 3, "science_exposure_time": 1.0}
    config["flat_capture"]["num_flats"] = 3
    assert not CalibrationWorkflow(config | {"workflow": {}}).run("darks")["darks"].is_error
    assert not CalibrationWorkflow(config).run()["masters"].is_error
    assert "while the camera exposes" not in caplog.text


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_evening_that_is_ended_leaves_no_process_and_goes_on(here: Path, number: int) -> None:
    config = night_config(here)
    config["dark_capture"]["num_darks"] = 20
    path = here / "night.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = command_line("workflow", "--config", path, "--no-confirm")
    screen = here / "screen.txt"
    with screen.open("wb") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=here,
            env=command_environment(), start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or "combined while the camera exposes" in screen.read_text())
        assert process.poll() is None, screen.read_text()
        (child,) = processes_in(here)
        os.killpg(process.pid, number)
        code = process.wait(timeout=30)
        wait_until(lambda: processes_in(here) == [], timeout_s=10)
    finally:
        process.kill()
    assert child > 0
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], screen.read_text()
    if number != signal.SIGKILL:
        assert list(here.rglob(".*.lock*")) == []
    assert "Traceback" not in screen.read_text()
    status = CalibrationWorkflow(config).run("masters")["masters"]
    assert not status.is_error
    assert strips_left(here / "masters") == 0
