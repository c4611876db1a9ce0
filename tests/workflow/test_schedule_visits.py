"""What a visit takes and says: darks of flats, failed sets, nothing to make, errors once, days without twilight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal.frames import FrameType
from ostcal.naming import night_of
from ostcal.series.reader import Series, find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.workflow.schedule import Schedule
from support.jumping_clock import JumpingClock
from support.night import ostcal, write_night
from support.simulator_client import SMALL

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=2000.0)) as running:
        yield running


def configuration(folder: Path, port: int, **sections: dict[str, Any]) -> Path:
    config: dict[str, dict[str, Any]] = {
        "video": {
            "camera_type": "alpaca", "alpaca": {"port": port, "filter_wheel_id": 0, "cover_calibrator_id": 0}
        },
        "dark_capture": {
            "num_darks": 2, "science_exposure_time": 4.0, "exposure_factors": [1.0], "output_dir": str(folder / "darks")
        },
        "flat_capture": {"num_flats": 2, "filters": ["L"], "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters"), "quality_control": False, "min_frames": 2},
        "compute": {"workers": 1},
        "site": {"latitude": 51.5, "longitude": 0.0},
        "schedule": {"when": "dusk -3", "cadence_days": {"bias": 7, "dark": 30, "flat": 1}},
    }  # fmt: skip
    return write_night(folder, config, sections)


def series_in(folder: Path) -> list[Series]:
    return [open_series(location) for location in find_series([str(folder)])]


def run_until(path: Path, nights: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        Schedule(path, JumpingClock(START, START + timedelta(days=nights))).run()


def test_a_guessed_exposure_leaves_out_no_darks_of_the_flats(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory.port, dark_capture={"flat_exposure_time": 1.0})
    run_until(path, 1)
    (flats,) = series_in(tmp_path / "flats")
    exposures_s = {one.settings["exposure_time_s"] for one in series_in(tmp_path / "darks")}
    assert exposures_s == {0.001, 1.0, 4.0, flats.settings["exposure_time_s"]}


def test_nothing_to_make_is_no_error_once_masters_are_there(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory.port)
    assert ostcal("schedule", "--config", path, "--once").exit_code == 0
    shutil.rmtree(tmp_path / "darks")
    shutil.rmtree(tmp_path / "flats")
    shown = ostcal("schedule", "--config", path, "--once")
    assert shown.exit_code == 0, shown.text
    assert "No input files" not in shown.text
    assert series_in(tmp_path) == []


def test_a_camera_that_does_not_answer_is_one_error_in_the_document(tmp_path: Path) -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as running:
        port = running.port
    path = configuration(tmp_path, port)
    shown = ostcal("schedule", "--config", path, "--once", "--json")
    assert shown.exit_code == 1
    (error,) = json.loads(shown.stdout)["errors"]
    assert "no Alpaca server answers" in error


def test_days_without_twilight_are_a_range(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory.port, site={"latitude": 78.2, "longitude": 15.6})
    june = datetime(2026, 6, 20, 12, tzinfo=UTC)
    _, lines = Schedule(path, JumpingClock(june, june + timedelta(days=1))).coming()
    assert [line.split(" the sun")[0] for line in lines] == ["2026-06-20 to 2026-06-26:"]


def test_flats_that_failed_are_taken_in_three_nights_and_then_a_person_is_asked(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(
        tmp_path, observatory.port,
        master_frames={"quality_control": True},
        quality={"masters": {"flat_level_high": 0.1, "flat_level_fail": 0.2}},  # the flats are at a half of full scale
        schedule={"cadence_days": {"bias": 7, "dark": 30, "flat": 5}},
    )  # fmt: skip
    run_until(path, 5)
    flats = [one for one in series_in(tmp_path / "flats") if one.frame_type is FrameType.FLAT]
    nights = sorted(str(night_of(one.records[0].metadata.date_obs, 43200.0)) for one in flats)
    assert nights == [str(date(2026, 11, day)) for day in (1, 2, 3)]
    assert "flats L: the sets of the last 3 nights failed their checks" in caplog.text
