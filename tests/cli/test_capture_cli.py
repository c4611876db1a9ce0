"""The capturing commands as a person has them: questions, progress, interrupts, logs, and trouble said in one line."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from ostcal.capture.budget import SeriesCost, StepPlan
from ostcal.capture.darks import DarkRules, capture_darks, plan_darks
from ostcal.capture.series_plan import Equipment, FrameDone, SeriesPlan, SeriesSink
from ostcal.cli.capture_progress import CaptureProgress, Forecast
from ostcal.frames import CameraSettings, FrameType
from ostcal.series.reader import open_series
from ostcal.simulator.options import CoverKind, Light, SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.direct_camera import DirectCamera, FakeClock, Scene, small_sensor
from support.folders import ROOT
from support.night import Outcome, command_environment, command_line, ostcal, write_night

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and pseudo-terminals of POSIX")


def night(folder: Path, *, scale: float = 400.0, **sections: dict[str, Any]) -> Path:
    """Write a configuration of a short night against the simulated camera; gives its path."""
    config: dict[str, dict[str, Any]] = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": scale}},
        "dark_capture": {"num_darks": 3, "science_exposure_time": 4.0, "exposure_factors": [1.0]},
        "flat_capture": {"num_flats": 3},
        "master_frames": {},
        "compute": {"workers": 1},
        "workflow": {"masters_while_exposing": False},
    }
    for section, output in (("dark_capture", "darks"), ("flat_capture", "flats"), ("master_frames", "masters")):
        config[section]["output_dir"] = str(folder / output)
    return write_night(folder, config, sections)


def log_of(folder: Path) -> str:
    (path,) = (folder / "masters").glob("calibration_*.log")
    assert re.fullmatch(r"calibration_\d{8}\.log", path.name)
    return path.read_text(encoding="utf-8")


@contextmanager
def bare_telescope(folder: Path, **light: Any) -> Iterator[Path]:
    """Serve a camera without a shutter before which nothing moves by itself; gives the configuration."""
    options = SimulatorOptions(cover=CoverKind.NONE, shutter=False, time_scale=400.0, light=Light(**light))
    observatory = SimulatedObservatory(options)
    observatory.start()
    try:
        yield night(folder, video={"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": observatory.port}})
    finally:
        observatory.stop()


# ---- progress ----


def cost(exposure_s: float | None, missing: int, *, frames: int = 10, filter_name: str | None = None) -> SeriesCost:
    time_s = missing * ((exposure_s or 0.0) + 0.5)
    return SeriesCost(
        location="somewhere", exposure_time_s=exposure_s, filter_name=filter_name, frames=frames, missing=missing,
        time_s=time_s, n_bytes=0,
    )  # fmt: skip


def series(exposure_s: float | None, filter_name: str | None = None) -> SeriesPlan:
    kind = FrameType.FLAT if filter_name else FrameType.DARK
    return SeriesPlan(
        name="exp", frame_type=kind, exposure_time_s=exposure_s, n_frames=10, settings=CameraSettings(), light=False,
        filter_name=filter_name,
    )  # fmt: skip


def test_the_time_left_is_that_of_the_plan_and_then_follows_what_is_measured() -> None:
    clock = FakeClock()
    forecast = Forecast(StepPlan(step="darks", costs=(cost(1.0, 4), cost(60.0, 10))), 1.0, clock.now_s)
    assert (forecast.done, forecast.total) == (6, 20)
    assert forecast.left_s() == pytest.approx(4 * 1.5 + 10 * 60.5)
    assert forecast.rate_per_min is None
    forecast.series_started(series(1.0), 4)
    for _ in range(4):
        clock.sleep(3.0)  # the camera needs 2 s beyond each exposure, not half a second
        forecast.frame_done(1.0)
    overhead_s = (2 * 0.5 + 4 * 2.0) / 6
    assert forecast.left_s() == pytest.approx(10 * (60 + overhead_s))
    assert forecast.rate_per_min == pytest.approx(20.0)
    forecast.series_ended()
    forecast.series_started(series(60.0), 10)
    assert forecast.left_s(exposed_s=20.0) == pytest.approx(10 * (60 + overhead_s) - 20)
    assert (forecast.done, forecast.total) == (10, 20)


def test_flats_take_the_exposure_that_was_found_and_a_filter_that_failed_takes_no_time() -> None:
    clock = FakeClock()
    costs = (cost(1.0, 10, filter_name="L"), cost(1.0, 10, filter_name="R"))
    forecast = Forecast(StepPlan(step="flats", costs=costs, is_estimate=True), 50.0, clock.now_s)
    forecast.series_started(series(5.0, "R"), 10)
    assert forecast.left_s() == pytest.approx(10 * (5.0 / 50 + 0.5))
    forecast.series_ended()
    assert forecast.left_s() == 0


@dataclass
class Screens:
    """What a progress shows while bias frames and darks of 4 s are taken."""

    console: Console
    exposing: list[str] = field(default_factory=list)
    after_frames: list[str] = field(default_factory=list)


def captured(folder: Path, console: Console, scene: Scene | None = None) -> Screens:
    """Take 4 bias frames and 4 darks, without a shutter, under a progress."""
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock, scene, has_shutter=False)
    progress = CaptureProgress(console, now=clock.now_s)
    watcher, screens = progress.watcher(lambda outcome: None), Screens(console)

    def screen() -> str:
        page = Console(file=io.StringIO(), force_terminal=True, width=console.width, color_system=None)
        page.print(progress.render())
        assert isinstance(page.file, io.StringIO)
        return page.file.getvalue()

    def exposing(exposure_s: float, elapsed_s: float) -> None:
        watcher.exposing(exposure_s, elapsed_s)
        screens.exposing.append(screen())

    def frame_done(done: FrameDone) -> None:
        watcher.frame_done(done)
        screens.after_frames.append(screen())

    listening = replace(watcher, exposing=exposing, frame_done=frame_done)
    equipment = Equipment(camera=camera, clock=clock, watcher=listening)
    rules = DarkRules(n_frames=4, science_exposure_s=4.0, factors=(1.0,), flat_exposures_s=())
    sink = SeriesSink(directory=folder)
    plan = plan_darks(equipment, CameraSettings(camera="direct"), rules, sink)
    progress.begin(StepPlan(step="darks", costs=plan.costs))
    capture_darks(equipment, plan, sink)
    progress.stop()
    return screens


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_frames_exposure_rate_time_and_checks(tmp_path: Path, width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    screens = captured(tmp_path, console)
    bar, details = screens.after_frames[5].splitlines()
    assert re.fullmatch(r"darks ━.* 6/8  \d+\.\d/min  0:00:\d\d left *", bar)
    assert re.fullmatch(r"exp_4\.000s 2 of 4  (\d\.\d of 4\.0 s  )?last: 5\d\d ADU, 15\.0 C, ok *", details)
    running = [screen for screen in screens.exposing if re.search(r"exp_4\.000s \d of 4  [12]\.\d of 4\.0 s", screen)]
    assert running
    assert all(len(line) <= width for screen in screens.exposing for line in screen.splitlines())


def test_a_check_that_fails_is_named_beside_the_bar(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    # the frame that is looked at for light ends after a second, the second dark begins after five
    screens = captured(tmp_path, console, Scene(light=lambda now_s: 400.0 if now_s > 4 else 0.0))
    assert screens.after_frames[0].rstrip().endswith("C, ok")
    assert "light above bias" in screens.after_frames[-1]
    assert "ok" not in screens.after_frames[-1]


def test_without_a_terminal_there_is_a_line_every_five_seconds_and_at_the_end_of_a_series(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    captured(tmp_path, console)
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("darks: ")]
    assert re.fullmatch(
        r"darks: 8 of 8 frames, exp_4\.000s 4 of 4, .*/min, 0:00:00 left; last frame 5.*, ok", lines[-1]
    )
    assert any(line.startswith("darks: 4 of 8 frames, exp_0.001s 4 of 4, ") for line in lines)
    assert len(lines) in range(4, 3 + 18 // 5 + 1)  # 17 s at a line every 5 s, and two ends


# ---- what is said before and after ----


def test_flats_have_a_table_and_the_darks_of_flats_list_what_is_missing_only(tmp_path: Path) -> None:
    path = night(tmp_path, flat_capture={"filters": ["L", "R"]})
    outcome = ostcal("workflow", "--config", path)
    assert outcome.exit_code == 0, outcome.text
    flats = outcome.stderr[outcome.stderr.index("Flats: about") : outcome.stderr.index("trial 1")]
    assert re.search(r"filter.*frames.*missing.*time.*space", flats)
    assert re.search(r"L +3 +3 +about \d+ s +\d+ MB\n", flats)
    assert re.search(r"R +3 +3 +about", flats)
    darks_of_flats = outcome.stderr[outcome.stderr.index("Flat darks: ") :]
    assert " 0.001 s" not in darks_of_flats
    assert "0 to take" not in outcome.stderr
    assert outcome.stderr.index("Darks: ") < outcome.stderr.index("exp_0.001s.zarr: 0 of 3 frames are there, 3 to take")
    assert outcome.stderr.index("Darks: ") < outcome.stderr.index("Flats: ") < outcome.stderr.index("Flat darks: ")
    assert "masters made" in darks_of_flats
    again = ostcal("workflow", "--config", path)
    assert again.exit_code == 0, again.text
    assert "Darks: nothing is missing" in again.stderr
    assert "Flat darks:" not in again.stderr
    assert "flat darks: no darks of the flats are missing" in again.stderr
    assert "flats: no flats are missing" in again.stderr


def test_trials_start_at_the_exposure_of_the_camera_section(tmp_path: Path) -> None:
    outcome = ostcal("flats", "--config", night(tmp_path, video={"alpaca": {"exposure_time": 0.3}}))
    assert outcome.exit_code == 0, outcome.text
    assert "trial 1 of 10: 0.3 s gives" in outcome.stderr


@pytest.mark.parametrize(
    ("script", "command"),
    [("calibration_workflow", "workflow"), ("dark_capture_runner", "darks"), ("flat_capture_runner", "flats")],
)
def test_the_scripts_have_the_options_of_the_commands(tmp_path: Path, script: str, command: str) -> None:
    path = ROOT / "scripts" / f"{script}.py"
    words = [sys.executable, str(path), "--help"]
    shown = subprocess.run(words, env=command_environment(), capture_output=True, text=True, check=True).stdout
    said = subprocess.run(
        command_line(command, "--help"), env=command_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert shown.splitlines()[1:] == said.splitlines()[1:]
    options = {"--config", "--no-confirm", "--wait-for-cooling", "--debug", "--log-level"}
    assert options | ({"--step"} if command == "workflow" else set()) <= set(re.findall(r"--[a-z-]+", shown))


def test_one_step_does_nothing_else(tmp_path: Path) -> None:
    path = night(tmp_path)
    assert ostcal("workflow", "--config", path, "--step", "flats").exit_code == 0
    assert [place.parent.name for place in committed(tmp_path)] == ["flats"]
    assert list((tmp_path / "masters").glob("*.fits")) == []


def test_all_steps_take_the_flat_exposure_that_is_guessed_with_a_warning(tmp_path: Path) -> None:
    outcome = ostcal("workflow", "--config", night(tmp_path))
    assert "darks for them are taken with 1 s" in outcome.stderr
    names = {path.stem for path in (tmp_path / "darks").glob("*.zarr")}
    (flat,) = (tmp_path / "flats").glob("*.zarr")
    assert {"exp_0.001s", "exp_1.000s", "exp_4.000s", flat.stem.removeprefix("L_")} == names


def test_darks_of_flats_that_an_interrupt_left_out_are_taken_by_the_next_run(tmp_path: Path) -> None:
    """The configured exposure differs from that of the flats, which are complete: their darks still miss."""
    path = night(tmp_path, dark_capture={"flat_exposure_time": 0.7})
    assert ostcal("flats", "--config", path).exit_code == 0
    (flat,) = (tmp_path / "flats").glob("*.zarr")
    assert ostcal("workflow", "--config", path).exit_code == 0
    dark = tmp_path / "darks" / f"{flat.stem.removeprefix('L_')}.zarr"
    assert len(open_series(dark).records) == 3
    assert (tmp_path / "darks" / "exp_0.700s.zarr").exists()


def test_the_log_of_debug_tells_initialisation_and_every_exposure(tmp_path: Path) -> None:
    path = night(tmp_path, video={"alpaca": {"gain": 120, "offset": 60, "readout_mode": "Low noise"},
                                  "cooling": {"enable_cooling": True, "wait_for_cooling": False}})  # fmt: skip
    outcome = ostcal("darks", "--config", path, "--debug")
    assert outcome.exit_code == 0, outcome.text
    log = log_of(tmp_path)
    for said in (
        "connecting", "connected, interface version 4", "Name is Simulated camera (demo)", "DriverInfo is",
        "DriverVersion is", "SensorType is", "CameraXSize is", "CameraYSize is", "BinX is 1", "gain is set by value",
        "Gain is 100", "GainMax is 300", "Offset is 50", "ReadoutMode is 0", "ReadoutModes is",
        "exposures 0.0001 s to 3600 s", "CanSetCCDTemperature is True", "CanGetCoolerPower is True",
        "Gain is set to 120", "Gain reads back 120", "Offset is set to 60", "Offset reads back 60",
        "ReadoutMode is set to 1", "ReadoutMode reads back 1", "BinX is set to 1", "BinX reads back 1",
        "NumX reads back", "SetCCDTemperature is set to -10.0", "SetCCDTemperature reads back -10.0",
        "exposure of 4 s starts, shutter closed",
    ):  # fmt: skip
        assert said in log, said
    done = re.findall(
        r"exposure of 4 s: made 4 s, ready after [\d.]+ s, (\d+) bytes downloaded in [\d.]+ s, level", log
    )
    assert len(done) == 3
    assert len(set(done)) == 1


def test_the_log_without_debug_has_the_lines_of_information(tmp_path: Path) -> None:
    outcome = ostcal("darks", "--config", night(tmp_path), "--log-level", "error")
    assert outcome.exit_code == 0, outcome.text
    log = log_of(tmp_path)
    assert " INFO " in log
    assert "exp_4.000s.zarr: 3 of 3 frames" in log
    assert " DEBUG " not in log
    assert "exp_4.000s.zarr: 3 of 3 frames" not in outcome.stderr


# ---- hands ----


def test_without_a_terminal_the_run_goes_on_and_names_what_must_be_ready(tmp_path: Path) -> None:
    with bare_telescope(tmp_path, sky_e_per_s=0.0) as path:
        outcome = ostcal("darks", "--config", path)
    assert outcome.exit_code == 0, outcome.text
    assert "warning: nobody is asked: the telescope or the camera must be covered now" in outcome.stderr
    assert "?" not in outcome.stderr
    with bare_telescope(tmp_path) as path:
        outcome = ostcal("flats", "--config", path, "--no-confirm")
    assert outcome.exit_code == 0, outcome.text
    assert "nobody is asked: the telescope must be uncovered and the flat light must be on now" in outcome.stderr


def test_a_cover_with_a_panel_needs_no_hands(tmp_path: Path) -> None:
    outcome = ostcal("workflow", "--config", night(tmp_path, flat_capture={"num_flats": 2}))
    assert outcome.exit_code == 0, outcome.text
    assert "nobody is asked" not in outcome.stderr


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        import pty

        self._parent, child = pty.openpty()
        environment = command_environment(TERM="xterm", COLUMNS="100", LINES="40")
        self.process = subprocess.Popen(
            command_line(*arguments), stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
        )
        os.close(child)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._parent, 65536)
            except OSError:  # Linux ends a pseudo-terminal with an error
                return
            if not piece:
                return
            self.text += piece.decode("utf-8", errors="replace")

    def wait_for(self, word: str) -> None:
        wait_until(lambda: word in self.text or self.process.poll() is not None)
        assert word in self.text, self.text

    def answer(self, word: str) -> None:
        os.write(self._parent, f"{word}\n".encode())

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        os.close(self._parent)
        return code


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


@posix
def test_on_a_terminal_it_asks_and_no_ends_the_step(tmp_path: Path) -> None:
    with bare_telescope(tmp_path) as path:
        terminal = Terminal("workflow", "--config", path)
        terminal.wait_for("Is it covered? [Y/n]")
        terminal.answer("n")
        terminal.wait_for("Is it ready? [Y/n]")  # the next step goes on
        assert "error: darks were not taken: the camera is not covered" in terminal.text
        terminal.answer("n")
        assert terminal.end() == 1
    assert terminal.text.count("error: darks were not taken: the camera is not covered") == 1
    assert terminal.text.count("error: flats were not taken: the telescope must be uncovered and the flat light") == 1
    assert "Traceback" not in terminal.text
    assert not (tmp_path / "darks").exists()


@posix
def test_on_a_terminal_yes_goes_on_under_a_bar(tmp_path: Path) -> None:
    with bare_telescope(tmp_path) as path:
        terminal = Terminal("flats", "--config", path)
        terminal.wait_for("For flats the telescope must be uncovered and the flat light must be on. Is it ready? [Y/n]")
        terminal.answer("y")
        assert terminal.end() == 0
    assert "━" in terminal.text
    assert "/min" in terminal.text
    assert "left" in terminal.text


@posix
def test_no_confirm_asks_nothing_on_a_terminal(tmp_path: Path) -> None:
    with bare_telescope(tmp_path) as path:
        terminal = Terminal("flats", "--config", path, "--no-confirm")
        assert terminal.end() == 0
    assert "[Y/n]" not in terminal.text


@posix
def test_an_interrupt_at_a_question_ends_with_130(tmp_path: Path) -> None:
    with bare_telescope(tmp_path) as path:
        terminal = Terminal("darks", "--config", path)
        terminal.wait_for("[Y/n]")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130


@posix
def test_a_target_that_was_missed_is_asked_about_on_a_terminal(tmp_path: Path) -> None:
    path = night(tmp_path, video={"simulator": {"time_scale": 400.0, "faults": ["cooler-miss"]},
                                  "cooling": {"enable_cooling": True, "wait_for_cooling": False}})  # fmt: skip
    terminal = Terminal("darks", "--config", path, "--wait-for-cooling")
    terminal.wait_for("The target temperature was not reached. Continue at -")
    terminal.answer("n")
    assert terminal.end() == 1
    assert re.search(
        r"error: no frames were taken: the sensor is at -[67]\.\d C, [23]\.\d C from -10\.0 C", terminal.text
    )
    assert not (tmp_path / "darks").exists()


def test_a_target_that_was_missed_does_not_cost_the_night_where_nobody_can_be_asked(tmp_path: Path) -> None:
    path = night(tmp_path, video={"simulator": {"time_scale": 400.0, "faults": ["cooler-miss"]},
                                  "cooling": {"enable_cooling": True}})  # fmt: skip
    outcome = ostcal("darks", "--config", path)
    assert outcome.exit_code == 0, outcome.text
    assert "the cooler at full power gets no further" in outcome.stderr
    assert re.search(r"warning: continuing at -[67]\.\d C", outcome.stderr)
    records = open_series(tmp_path / "darks" / "exp_4.000s.zarr").records
    assert [record.metadata.ccd_temperature_c for record in records] == pytest.approx([-7.0] * 3, abs=0.3)
    assert ostcal("workflow", "--step", "masters", "--config", path).exit_code == 0


def test_cooling_that_is_not_waited_for_is_no_warning(tmp_path: Path) -> None:
    path = night(tmp_path, video={"cooling": {"enable_cooling": True, "wait_for_cooling": False}},
                 dark_capture={"num_darks": 1})  # fmt: skip
    outcome = ostcal("darks", "--config", path)
    assert "not waited for" not in outcome.stderr
    assert "Go on" not in outcome.stderr


# ---- interrupts ----


class Running:
    """A command in a process of its own, without a terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            command_line(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=command_environment(), text=True,
        )  # fmt: skip
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.text += line

    def wait_for(self, condition: Callable[[], object]) -> None:
        wait_until(lambda: condition() or self.process.poll() is not None)
        assert condition(), self.text

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code


def slow_night(folder: Path, **cooling: Any) -> Path:
    """A night of which each long exposure, dark or flat, takes about a second."""
    return night(
        folder,
        scale=60.0,
        video={"cooling": {"enable_cooling": bool(cooling), "wait_for_cooling": False, **cooling}},
        dark_capture={"num_darks": 4, "science_exposure_time": 60.0, "flat_exposure_time": 1.0},
        flat_capture={"num_flats": 4, "panel_brightness": 4, "max_exposure": 120.0},
        workflow={"masters_while_exposing": True},
    )


def committed(folder: Path) -> dict[Path, dict[int, str]]:
    """Return the checksum of each frame of each series, verified."""
    found: dict[Path, dict[int, str]] = {}
    for path in folder.rglob("*.zarr"):
        if path.parent.name in ("darks", "flats"):
            series = open_series(path)
            assert series.problems == ()
            for record in series.records:
                series.read_frame(record.index)
            found[path] = {record.index: record.pixels.checksum for record in series.records}
    return found


def wait_for_a_long_exposure(running: Running, folder: Path, prefix: str) -> None:
    """Wait until a frame of a long exposure is on disk and the next runs."""

    def begun() -> bool:
        return any((path / "ledger" / "000000.json").exists() for path in folder.glob(prefix))

    running.wait_for(begun)
    time.sleep(0.4)


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    ("command", "series"),
    [("darks", "darks/exp_60*.zarr"), ("flats", "flats/*.zarr"), ("workflow", "darks/exp_60*.zarr")],
)
def test_an_interrupt_ends_within_seconds_and_the_same_command_goes_on(
    tmp_path: Path, command: str, series: str
) -> None:
    path = slow_night(tmp_path)
    running = Running(command, "--config", path, "--no-confirm")
    wait_for_a_long_exposure(running, tmp_path, series)
    running.interrupt()
    assert running.end() == 130, running.text
    assert "Traceback" not in running.text
    (again,) = re.findall(r"to continue: (.*)", running.text)
    assert again == f"python -m ostcal {command} --config {path} --no-confirm"
    before = committed(tmp_path)
    n_before = sum(map(len, before.values()))
    assert f"interrupted; {len(before[next(tmp_path.glob(series))])} of 4 frames are kept" in running.text
    outcome = ostcal(*again.split()[3:])
    assert outcome.exit_code == 0, outcome.text
    after = committed(tmp_path)
    for place, frames in before.items():
        assert frames.items() <= after[place].items()
        assert len(after[place]) == 4
    taken = sum(map(int, re.findall(r"^ +4 +(\d+) ", outcome.stdout, flags=re.MULTILINE)))
    assert taken == sum(map(len, after.values())) - n_before
    assert no_stray_files(tmp_path)


def no_stray_files(folder: Path) -> bool:
    shards = {path: len(list((path / "frames" / "c").iterdir())) for path in committed(folder)}
    return not list(folder.rglob("*.partial")) and set(shards.values()) == {4}


@pytest.mark.slow
@posix
def test_an_interrupt_warms_up_where_that_is_configured(tmp_path: Path) -> None:
    running = Running("workflow", "--config", slow_night(tmp_path, warmup_at_end=True), "--no-confirm")
    wait_for_a_long_exposure(running, tmp_path, "darks/exp_60*.zarr")
    running.interrupt()
    running.wait_for(lambda: "interrupted; the sensor warms up first, another Ctrl-C skips that" in running.text)
    assert running.end() == 130, running.text
    assert running.text.index("warming up to") < running.text.index("the cooler is off")
    assert running.text.index("the cooler is off") < running.text.index("to continue: ")


@pytest.mark.slow
@posix
def test_a_second_interrupt_skips_the_warm_up_and_leaves_the_cooler(tmp_path: Path) -> None:
    running = Running("darks", "--config", slow_night(tmp_path, warmup_at_end=True), "--no-confirm")
    wait_for_a_long_exposure(running, tmp_path, "darks/exp_60*.zarr")
    running.interrupt()
    running.wait_for(lambda: "warming up to" in running.text)
    running.interrupt()
    assert running.end() == 130, running.text
    assert "the warm-up was ended; the cooler is left as it is" in running.text
    assert "the cooler is off" not in running.text
    assert "to continue: " in running.text


@posix
@pytest.mark.slow
def test_an_interrupt_while_it_cools_switches_the_cooler_off_where_that_is_configured(tmp_path: Path) -> None:
    path = night(tmp_path, scale=20.0, video={"cooling": {"enable_cooling": True, "warmup_at_end": True}})
    running = Running("darks", "--config", path)
    running.wait_for(lambda: "cooling: " in running.text)
    running.interrupt()
    assert running.end() == 130, running.text
    assert "the cooler is off" in running.text
    assert not (tmp_path / "darks").exists()


# ---- strangers ----


def one_line(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.exit_code == code, outcome.text
    assert "Traceback" not in outcome.text
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, outcome.text
    assert all(word in errors[0] for word in words), errors[0]


@pytest.mark.parametrize("command", ["workflow", "darks", "flats"])
def test_a_configuration_that_is_not_there_is_named(tmp_path: Path, command: str) -> None:
    one_line(ostcal(command, "--config", tmp_path / "absent.yaml"), 2, "absent.yaml")


def test_filters_without_a_wheel_are_refused_before_the_first_dark(tmp_path: Path) -> None:
    with bare_telescope(tmp_path) as path:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["flat_capture"]["filters"] = ["L", "R"]
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        one_line(ostcal("workflow", "--config", path), 1, "flat_capture.filters names L, R", "no wheel")
    assert not (tmp_path / "darks").exists()


def test_a_gain_that_is_refused_is_said_once(tmp_path: Path) -> None:
    path = night(tmp_path, video={"alpaca": {"gain": 900}})
    one_line(ostcal("workflow", "--step", "flats", "--config", path), 1, "gain 900 is outside 0 to 300")
    outcome = ostcal("workflow", "--config", path)
    assert outcome.text.count("gain 900 is outside 0 to 300") == 1


def test_series_that_are_not_complete_are_said_at_the_end_with_what_they_have(tmp_path: Path) -> None:
    path = night(tmp_path, video={"simulator": {"time_scale": 400.0, "faults": ["ascom-error"]}})
    outcome = ostcal("darks", "--config", path)
    assert outcome.exit_code == 1
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for line, name in zip(errors, ("exp_0.001s", "exp_1.000s", "exp_4.000s"), strict=True):
        assert f"{name}.zarr: 0 of 3 frames; an exposure of" in line
        assert "ASCOM error 0x500" in line
        assert line.endswith("starting again takes the others")


@posix
@pytest.mark.parametrize("command", ["darks", "flats"])
def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / command).write_text("no folder")
    one_line(ostcal(command, "--config", night(tmp_path), "--no-confirm"), 1, command, "directory")


def test_the_same_command_twice_takes_nothing_the_second_time(tmp_path: Path) -> None:
    path = night(tmp_path)
    for command in ("darks", "flats"):
        first = ostcal(command, "--config", path)
        assert first.exit_code == 0, first.text
        before = committed(tmp_path)
        second = ostcal(command, "--config", path)
        assert second.exit_code == 0, second.text
        assert committed(tmp_path) == before
