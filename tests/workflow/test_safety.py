"""Commands that expose while it is not safe: they wait, go on, or end with a line; never an exposure in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostcal.capture.series_plan import CaptureWatcher, FrameDone
from ostcal.config import load_config
from ostcal.series.reader import Series, find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.safety import ShutterStatus
from ostcal.simulator.server import SimulatedObservatory
from ostcal.status import Status
from ostcal.workflow import CalibrationWorkflow
from ostcal.workflow.plan_run import run_plan
from support.jumping_clock import JumpingClock
from support.night import command_environment, ostcal, write_night
from support.simulator_client import SMALL

START = datetime(2026, 11, 1, 18, tzinfo=UTC)
UNSAFE = "the safety monitor says that it is not safe"


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=5000.0)) as running:
        yield running


def configuration(folder: Path, observatory: SimulatedObservatory, **sections: dict[str, Any]) -> Path:
    """Write a configuration whose camera, monitor and roof are those of the observatory; give its path."""
    config: dict[str, dict[str, Any]] = {
        "video": {
            "camera_type": "alpaca",
            "alpaca": {"port": observatory.port, "filter_wheel_id": 0, "cover_calibrator_id": 0},
        },
        "dark_capture": {
            "num_darks": 3, "science_exposure_time": 4.0, "exposure_factors": [1.0], "flat_exposure_time": 4.0,
            "output_dir": str(folder / "darks"),
        },
        "flat_capture": {"num_flats": 3, "filters": ["L"], "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters"), "quality_control": False},
        "compute": {"workers": 1},
        "workflow": {"masters_while_exposing": False},
        "safety": {"port": observatory.port, "device_id": 0, "roof_id": 0},
    }  # fmt: skip
    return write_night(folder, config, sections)


def series_of(folder: Path) -> list[Series]:
    return [open_series(location) for location in find_series([str(folder / "darks"), str(folder / "flats")])]


def frames_of(folder: Path) -> Counter[str]:
    return Counter(str(series.frame_type) for series in series_of(folder) for _ in series.records)


def moments_of(folder: Path) -> list[datetime]:
    found = [record.metadata.date_obs for series in series_of(folder) for record in series.records]
    return sorted(moment for moment in found if moment is not None)


class Clouds:
    """The monitor says no after a number of frames, and yes again after some minutes; again and again."""

    def __init__(self, observatory: SimulatedObservatory, clock: JumpingClock, every: int, minutes: float) -> None:
        self._monitor = observatory.safety_monitor
        self._clock = clock
        self._every = every
        self._minutes = minutes
        self._done = 0
        self.times: list[tuple[datetime, datetime]] = []

    def frame_done(self, done: FrameDone) -> None:
        self._done += 1
        if self._done % self._every == 0:
            came = self._clock.utc()
            self._monitor.safe = False
            self.times.append((came, came + timedelta(minutes=self._minutes)))
            self._clock.alarms.append((self.times[-1][1], self.go))

    def go(self) -> None:
        self._monitor.safe = True


Work = Callable[[Path, CaptureWatcher, JumpingClock], list[Status]]


def take_evening(path: Path, watcher: CaptureWatcher, clock: JumpingClock) -> list[Status]:
    workflow = CalibrationWorkflow(path, watcher=watcher, clock=clock)
    statuses = [*workflow.run("darks").values()]
    return [*statuses, *workflow.run("flats").values()]


def take_plan(path: Path, watcher: CaptureWatcher, clock: JumpingClock) -> list[Status]:
    plan = path.parent / "plan.yaml"
    entries = [
        {"kind": "bias", "count": 3}, {"kind": "dark", "exposure": 4, "count": 3},
        {"kind": "flat", "count": 3, "filter": "L"},
    ]  # fmt: skip
    plan.write_text(yaml.safe_dump({"series": entries}), encoding="utf-8")
    return [run_plan(load_config(path), str(plan), watcher=watcher, clock=clock)]


@pytest.mark.parametrize("work", [take_evening, take_plan])
@pytest.mark.parametrize("every", [2, 3])
def test_no_exposure_begins_under_clouds_and_every_frame_is_taken_once(
    observatory: SimulatedObservatory, tmp_path: Path, work: Work, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ostcal")
    clock = JumpingClock(START, START + timedelta(days=1))
    clouds = Clouds(observatory, clock, every, minutes=20)
    path = configuration(tmp_path, observatory)
    statuses = work(path, CaptureWatcher(frame_done=clouds.frame_done), clock)
    assert [status.message for status in statuses if status.is_error] == []
    assert sum(status.details["taken"] for status in statuses) == 9
    assert frames_of(tmp_path) == {"bias": 3, "dark": 3, "flat": 3}
    assert len(series_of(tmp_path)) == 3
    begun_under_clouds = [
        moment for moment in moments_of(tmp_path) for came, went in clouds.times if came < moment < went
    ]
    assert begun_under_clouds == []
    waits = [line for line in caplog.messages if line.startswith(f"nothing is exposed: {UNSAFE}; waiting until ")]
    assert len(waits) == caplog.messages.count("it is safe again")
    assert len(waits) >= 2


@pytest.mark.parametrize("words", [("darks",), ("flats",), ("workflow", "--step", "darks")])
def test_a_command_that_is_never_safe_ends_with_one_line_and_exposes_nothing(
    observatory: SimulatedObservatory, tmp_path: Path, words: tuple[str, ...]
) -> None:
    observatory.safety_monitor.safe = False
    shown = ostcal(*words, "--config", configuration(tmp_path, observatory, schedule={"max_hours": 0.0003}))
    assert shown.exit_code == 1, shown.text
    assert f"{UNSAFE}, and 0.0003 hours are over: what is missing is not taken" in " ".join(shown.text.split())
    assert shown.text.count("nothing is exposed") == 1
    assert series_of(tmp_path) == []


def test_the_hours_of_a_plan_end_the_wait_and_a_dry_run_does_not_wait(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    observatory.safety_monitor.safe = False
    plan = tmp_path / "plan.yaml"
    plan.write_text("series:\n  - {kind: bias, count: 2}\n", encoding="utf-8")
    words = ["capture", "--plan", plan, "--config", configuration(tmp_path, observatory)]
    dry = ostcal(*words, "--dry-run")
    assert dry.exit_code == 0, dry.text
    assert "nothing is exposed" not in dry.text
    shown = ostcal(*words, "--max-hours", "0.0003", "--no-confirm")
    assert shown.exit_code == 1, shown.text
    assert f"{UNSAFE}, and 0.0003 hours are over: what is missing is not taken" in " ".join(shown.text.split())
    assert series_of(tmp_path) == []


def test_flats_of_the_sky_wait_for_an_open_roof_and_darks_do_not(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    observatory.roof.move(ShutterStatus.CLOSED)
    path = configuration(tmp_path, observatory, flat_capture={"twilight": True}, schedule={"max_hours": 1.0})
    workflow = CalibrationWorkflow(path, clock=JumpingClock(START, START + timedelta(days=1)))
    assert not workflow.run("darks")["darks"].is_error
    assert frames_of(tmp_path) == {"bias": 3, "dark": 3}
    flats = workflow.run("flats")["flats"]
    assert flats.is_error
    assert flats.message == "the roof is closed, and 1 hours are over: what is missing is not taken"
    assert caplog.text.count("nothing is exposed: the roof is closed") == 1
    assert frames_of(tmp_path) == {"bias": 3, "dark": 3}


@pytest.mark.parametrize("on_lost", ["refuse", "ignore"])
def test_a_monitor_that_does_not_answer_is_unsafe_unless_the_configuration_ignores_it(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture, on_lost: str
) -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as weather:
        port = weather.port
    safety = {"port": port, "roof_id": None, "on_lost": on_lost}
    path = configuration(tmp_path, observatory, safety=safety, schedule={"max_hours": 1.0})
    clock = JumpingClock(START, START + timedelta(days=1))
    status = CalibrationWorkflow(path, clock=clock).run("darks")["darks"]
    assert status.is_error is (on_lost == "refuse")
    assert frames_of(tmp_path) == ({} if on_lost == "refuse" else {"bias": 3, "dark": 3})
    line = "the safety monitor does not answer"
    ignored = [text for text in caplog.messages if line in text and "going on (safety.on_lost is ignore)" in text]
    refused = [text for text in caplog.messages if text.startswith(f"nothing is exposed: {line}")]
    assert (len(ignored) > 0, len(refused)) == ((False, 1) if on_lost == "refuse" else (True, 0))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT (POSIX)")
def test_ctrl_c_ends_a_wait(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    observatory.safety_monitor.safe = False
    path = configuration(tmp_path, observatory)
    command = [sys.executable, "-m", "ostcal", "darks", "--config", str(path), "--no-confirm"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=command_environment()) as process:
        assert process.stderr is not None
        seen = ""
        while "waiting until" not in " ".join(seen.split()) and (line := process.stderr.readline()):
            seen += line
        process.send_signal(signal.SIGINT)
        seen += process.stderr.read()
    assert process.returncode == 130, seen
    assert "Traceback" not in seen
    assert series_of(tmp_path) == []
