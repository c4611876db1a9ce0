"""A schedule with an automatic number of darks: an unfinished series is due by the rule that the capture has."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ostcal.series.reader import find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.night import command_environment, command_line, ostcal
from support.simulator_client import SMALL


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=100.0)) as running:
        config = {
            "video": {"camera_type": "alpaca", "alpaca": {"port": running.port}},
            "dark_capture": {
                "num_darks": "auto", "science_exposure_time": 40.0, "exposure_factors": [1.0],
                "target": {"noise_share": 0.05, "min_frames": 3}, "output_dir": str(tmp_path / "darks"),
            },
            "flat_capture": {"output_dir": str(tmp_path / "flats")},
            "master_frames": {"output_dir": str(tmp_path / "masters"), "quality_control": False, "min_frames": 2},
            "compute": {"workers": 1},
            "schedule": {"cadence_days": {"bias": 7, "dark": 30, "flat": None}},
        }  # fmt: skip
        path = tmp_path / "night.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        yield path


def darks(folder: Path) -> int:
    """Return the frames of 40 s."""
    found = [open_series(location) for location in find_series([str(folder / "darks")])]
    return sum(len(series.records) for series in found if series.settings["exposure_time_s"] == 40.0)


def test_darks_that_were_cut_short_are_completed_as_the_capture_would(tmp_path: Path, path: Path) -> None:
    command = [*command_line(), "schedule", "--config", str(path), "--once"]
    process = subprocess.Popen(command, env=command_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and darks(tmp_path) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert darks(tmp_path) < 9
    week = ostcal("schedule", "--config", path, "--dry-run", "--json")
    (due,) = [one for one in json.loads(week.stdout)["visits"][0]["due"] if one["kind"] == "dark"]
    shown = ostcal("schedule", "--config", path, "--once")
    assert shown.exit_code == 0, shown.text
    assert darks(tmp_path) == pytest.approx(10, abs=1)  # 1 / (1.05^2 - 1) where a dark has the noise of the light
    assert due["frames"] == pytest.approx(darks(tmp_path), abs=1)  # what was expected, not the fewest
    again = ostcal("schedule", "--config", path, "--once")
    assert "0 frames taken" in again.text
