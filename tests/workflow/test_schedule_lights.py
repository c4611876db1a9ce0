"""A schedule whose flats are those that the lights need: what is due is judged for each of their settings."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ostcal.frames import FrameType
from ostcal.series.reader import Series, find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.fits_samples import write_frame
from support.night import command_environment, command_line, ostcal, write_night
from support.simulator_client import SMALL


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=200.0)) as running:
        yield running


def light(folder: Path, number: int, **cards: Any) -> None:
    tonight = datetime.now(UTC) - timedelta(minutes=5 + number)
    values = {"IMAGETYP": "Light Frame", "EXPTIME": 60.0, "DATE-OBS": f"{tonight:%Y-%m-%dT%H:%M:%S}", "XBINNING": 1,
              "YBINNING": 1, "GAIN": 100, "OFFSET": 30} | cards  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_frame(folder / f"light_{number}.fits", np.full((40, 60), 1000 + number, np.uint16), **values)


def configuration(folder: Path, observatory: SimulatedObservatory, **sections: dict[str, Any]) -> Path:
    config: dict[str, dict[str, Any]] = {
        "video": {
            "camera_type": "alpaca",
            "alpaca": {"port": observatory.port, "filter_wheel_id": 0, "cover_calibrator_id": 0, "gain": 100,
                       "offset": 30},  # else they are what a killed run left
        },
        "dark_capture": {
            "num_darks": 2, "science_exposure_time": 4.0, "exposure_factors": [1.0], "output_dir": str(folder / "darks")
        },
        "flat_capture": {
            "num_flats": 2, "max_exposure": 60.0, "output_dir": str(folder / "flats"),
            "for_lights": str(folder / "lights"),
        },
        "master_frames": {"output_dir": str(folder / "masters"), "quality_control": False, "min_frames": 2},
        "compute": {"workers": 1},
    }  # fmt: skip
    return write_night(folder, config, sections)


def flats_in(folder: Path) -> list[Series]:
    return [open_series(location) for location in find_series([str(folder / "flats")])]


def facts(series: Series) -> tuple[Any, ...]:
    angle = series.records[0].metadata.optics.rotator_deg
    return series.settings["filter_name"], series.settings["gain"], angle, len(series.records)


NEEDED = [("L", 100.0, 10.0, 2), ("R", 100.0, 10.0, 2), ("R", 100.0, 100.0, 2), ("R", 120.0, 10.0, 2)]


def lights_of_four_flats(folder: Path) -> None:
    light(folder / "lights", 1, FILTER="R", ROTATANG=10.0)
    light(folder / "lights", 2, FILTER="R", ROTATANG=100.0)
    light(folder / "lights", 3, FILTER="R", ROTATANG=10.3, GAIN=120)
    light(folder / "lights", 4, FILTER="L", ROTATANG=10.0)


def test_killed_after_the_first_flats_the_restart_takes_the_others_and_their_darks(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    lights_of_four_flats(tmp_path)
    path = configuration(tmp_path, observatory)
    command = [*command_line(), "schedule", "--config", str(path), "--once"]
    process = subprocess.Popen(command, env=command_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(len(series.records) == 2 for series in flats_in(tmp_path)):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(flats_in(tmp_path)) < len(NEEDED)
    shown = ostcal("schedule", "--config", path, "--once")
    assert shown.exit_code == 0, shown.text
    assert sorted(map(facts, flats_in(tmp_path))) == NEEDED
    wanted = {(round(one.settings["exposure_time_s"], 4), one.settings["gain"]) for one in flats_in(tmp_path)}
    darks = [open_series(location) for location in find_series([str(tmp_path / "darks")])]
    there = Counter((round(one.settings["exposure_time_s"], 4), one.settings["gain"]) for one in darks)
    assert wanted <= set(there)
    assert max(there.values()) == 1  # none twice
    again = ostcal("schedule", "--config", path, "--once")
    assert again.exit_code == 0
    assert sum(len(one.records) for one in flats_in(tmp_path)) == 8
    assert "0 frames taken" in again.text


def test_the_week_names_each_of_the_flats_and_their_darks(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    lights_of_four_flats(tmp_path)
    path = configuration(tmp_path, observatory)
    shown = ostcal("schedule", "--config", path, "--dry-run", "--json")
    due = yaml.safe_load(shown.stdout)["visits"][0]["due"]
    assert Counter((one["kind"], one["filter"]) for one in due if one["kind"] == "flat") == {
        ("flat", "R"): 3, ("flat", "L"): 1
    }  # fmt: skip
    assert sum(one["frames"] for one in due) == 2 + 2 + 4 * 2 + 4 * 2  # bias, darks, flats, darks of the flats
    assert all(not any(one["kind"] == "flat" for one in visit["due"]) for visit in
               yaml.safe_load(shown.stdout)["visits"][1:])  # fmt: skip


def test_a_night_without_lights_is_a_line_and_no_error(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory, flat_capture={"for_lights": str(tmp_path / "lights" / "{night}")})
    shown = ostcal("schedule", "--config", path, "--once")
    assert shown.exit_code == 0, shown.text
    assert shown.text.count("no science frames are there, so no flats for them are due") == 1
    assert flats_in(tmp_path) == []
    darks = [open_series(location) for location in find_series([str(tmp_path / "darks")])]
    assert {series.frame_type for series in darks} == {FrameType.BIAS, FrameType.DARK}
    workflow = ostcal("workflow", "--config", path, "--no-confirm")
    assert workflow.exit_code == 0, workflow.text
    assert workflow.text.count("no science frames are there, so no flats for them are due") == 1


def test_a_workflow_takes_no_darks_of_flats_with_another_gain(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    light(tmp_path / "lights", 1, FILTER="R", ROTATANG=10.0, GAIN=120)
    path = configuration(tmp_path, observatory)
    assert ostcal("flats", "--config", path, "--no-confirm").exit_code == 0
    shown = ostcal("workflow", "--config", path, "--no-confirm")
    assert shown.exit_code == 0, shown.text
    darks = [open_series(location) for location in find_series([str(tmp_path / "darks")])]
    (flats,) = flats_in(tmp_path)
    of_flats = flats.settings["exposure_time_s"]
    there = Counter((one.settings["exposure_time_s"], one.settings["gain"]) for one in darks)
    assert there == {(0.001, 100.0): 1, (4.0, 100.0): 1, (of_flats, 120.0): 1}
