"""The matrix of darks in a schedule: by its strategy, within its hours, resumed after kills, nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal.capture.series_plan import CaptureWatcher, FrameDone
from ostcal.config import load_config
from ostcal.frames import FrameType
from ostcal.naming import night_of
from ostcal.series.reader import Series, find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.workflow.matrix import matrix_due, matrix_taken, matrix_wanted
from ostcal.workflow.schedule import Schedule
from ostcal.workflow.visit import VisitWatchers
from support.jumping_clock import JumpingClock
from support.night import command_environment, write_night
from support.simulator_client import SMALL

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOON_UTC_S = 43200.0
MATRIX = {"exposures": [2.0, 4.0], "gains": [0, 100], "temperatures": [5.0, 0.0]}
POINTS = {(kind, gain, c) for kind in ("bias", "dark2", "dark4") for gain in (0, 100) for c in (5, 0)}


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=5000.0)) as running:
        yield running


def configuration(folder: Path, observatory: SimulatedObservatory, **sections: dict[str, Any]) -> Path:
    config: dict[str, dict[str, Any]] = {
        "video": {
            "camera_type": "alpaca",
            "alpaca": {"port": observatory.port, "cover_calibrator_id": 0, "gain": 100},
            "cooling": {"enable_cooling": True, "target_temperature": 5.0, "steady_time": 1.0},
        },
        "dark_capture": {"num_darks": 2, "matrix": MATRIX, "output_dir": str(folder / "darks")},
        "flat_capture": {"num_flats": 2, "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters"), "quality_control": False, "min_frames": 2},
        "compute": {"workers": 1},
        "site": {"latitude": 51.5, "longitude": 0.0},
        "schedule": {"when": "19:00", "time_zone": "utc", "cadence_days": {"bias": 3, "dark": 3, "flat": None}},
    }
    return write_night(folder, config, sections)


def series_of(folder: Path) -> list[Series]:
    return [open_series(location) for location in find_series([str(folder / "darks")])]


def point_of(series: Series) -> tuple[str, int, int]:
    exposure_s = series.settings["exposure_time_s"]
    kind = "bias" if series.frame_type is FrameType.BIAS else f"dark{exposure_s:g}"
    return kind, round(series.settings["gain"]), round(series.settings["set_temperature_c"])


def nights_of_points(folder: Path) -> dict[tuple[str, int, int], dict[date, int]]:
    """Return how many frames each point has in each night; no series may have frames of two nights."""
    found: defaultdict[tuple[str, int, int], dict[date, int]] = defaultdict(dict)
    for series in series_of(folder):
        (night,) = {night_of(record.metadata.date_obs, NOON_UTC_S) for record in series.records}
        assert night is not None
        assert night not in found[point_of(series)], f"{series.location}: twice in {night}"
        found[point_of(series)][night] = len(series.records)
    return dict(found)


def run_until(path: Path, days: float, watchers: VisitWatchers | None = None, start: datetime = START) -> None:
    with pytest.raises(KeyboardInterrupt):
        Schedule(path, JumpingClock(start, START + timedelta(days=days)), watchers).run()


def test_missing_takes_every_point_once_and_then_touches_no_device(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(tmp_path, observatory)
    run_until(path, 1)
    first = nights_of_points(tmp_path)
    assert first == {point: {date(2026, 11, 1): 2} for point in POINTS}
    served = len(observatory.delivered_frames)
    run_until(path, 5, start=START + timedelta(days=1))
    assert nights_of_points(tmp_path) == first
    assert len(observatory.delivered_frames) == served


def test_flats_and_their_darks_are_taken_beside_the_matrix(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(
        tmp_path, observatory, dark_capture={"matrix": {"exposures": [2.0], "gains": [0]}},
        schedule={"cadence_days": {"bias": 1, "dark": 1, "flat": 1}, "max_age_days": {"bias": 1.5, "dark": 30}},
    )  # fmt: skip
    run_until(path, 3)
    flats = [open_series(location) for location in find_series([str(tmp_path / "flats")])]
    found = nights_of_points(tmp_path)
    all_nights = {date(2026, 11, day): 2 for day in (1, 2, 3)}
    assert found.pop(("bias", 0, 5)) == found.pop(("dark2", 0, 5)) == {date(2026, 11, 1): 2}
    assert found.pop(("bias", 100, 5)) == all_nights  # of the flats
    assert len(flats) == sum(len(nights) for nights in found.values()) == 3
    assert {(f"dark{flat.settings['exposure_time_s']:g}", 100, 5) for flat in flats} == set(found)
    old = [line for line in caplog.messages if line.startswith("bias (gain 0, 5 C): the newest are 2 days old")]
    assert len(old) == 1


@pytest.mark.parametrize(("strategy", "nights"), [("all", (1, 2, 3, 4, 5, 6)), ("aged", (1, 4))])
def test_strategies_take_points_anew(
    observatory: SimulatedObservatory, tmp_path: Path, strategy: str, nights: tuple[int, ...]
) -> None:
    small = {"exposures": [2.0], "temperatures": [5.0]}
    path = configuration(
        tmp_path, observatory, dark_capture={"strategy": strategy, "max_age_days": 2.5, "matrix": small}
    )
    run_until(path, 6)
    expected = {date(2026, 11, day): 2 for day in nights}
    assert nights_of_points(tmp_path) == {("bias", 100, 5): expected, ("dark2", 100, 5): expected}


def test_what_does_not_fit_into_the_hours_is_taken_in_the_next_night(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    matrix = {"exposures": [30.0, 50.0, 60.0], "temperatures": [5.0]}
    hours = (2 * 30.0 + 2 * 50.0 + 60.0) / 3600  # no room for 2 x 60 s
    path = configuration(tmp_path, observatory, dark_capture={"matrix": matrix, "max_hours": hours})
    run_until(path, 1)
    assert {kind for kind, _, _ in nights_of_points(tmp_path)} == {"bias", "dark30", "dark50"}
    assert "dark of 60 s" in caplog.text
    assert "left out" in caplog.text
    run_until(path, 2, start=START + timedelta(days=1))
    found = nights_of_points(tmp_path)
    assert found["dark60", 100, 5] == {date(2026, 11, 2): 2}
    assert found["dark30", 100, 5] == {date(2026, 11, 1): 2}


def test_no_frame_of_the_matrix_begins_while_it_is_not_safe(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory, safety={"port": observatory.port, "device_id": 0})
    monitor, clouds = observatory.safety_monitor, list[tuple[datetime, datetime]]()
    clock = JumpingClock(START, START + timedelta(days=1))

    def clear() -> None:
        monitor.safe = True

    def frame_done(done: FrameDone) -> None:
        if len(clouds) < 3 and done.present == 1:
            monitor.safe = False
            clouds.append((clock.utc(), clock.utc() + timedelta(minutes=20)))
            clock.alarms.append((clouds[-1][1], clear))

    with pytest.raises(KeyboardInterrupt):
        Schedule(path, clock, VisitWatchers(capture=CaptureWatcher(frame_done=frame_done))).run()
    assert nights_of_points(tmp_path) == {point: {date(2026, 11, 1): 2} for point in POINTS}
    moments = [record.metadata.date_obs for series in series_of(tmp_path) for record in series.records]
    assert len(clouds) == 3
    assert not [at for at in moments for came, went in clouds if at is not None and came < at < went]


def test_the_coming_week_counts_the_matrix_and_its_time(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory)
    schedule = Schedule(path, JumpingClock(START, START + timedelta(days=1)))
    visits, _ = schedule.coming()
    assert [len(visit.due) for visit in visits] == [12, 0, 0, 0, 0, 0, 0]
    assert visits[0].frames == 24
    assert visits[0].time_s > 2 * 4 * (2 + 4)
    assert {one.wanted.settings_text for one in visits[0].due} == {
        f"gain {gain}, {c} C" for gain in (0, 100) for c in (0, 5)
    }


def test_points_that_only_a_camera_can_tell_apart_are_never_thought_complete(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(tmp_path, observatory, dark_capture={"matrix": {"exposures": [2.0], "gains": ["Low", "High"]}})
    config = load_config(path)
    assert len(matrix_wanted(config)) == 4
    assert len(matrix_due(config, matrix_taken(config, NOON_UTC_S), date(2026, 11, 1))) == 4


def test_a_kind_without_a_cadence_is_not_taken_of_the_matrix(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory, schedule={"cadence_days": {"bias": None, "dark": 3, "flat": None}})
    config = load_config(path)
    due = matrix_due(config, matrix_taken(config, NOON_UTC_S), date(2026, 11, 1))
    assert {one.wanted.kind for one in due} == {FrameType.DARK}
    assert len(due) == 8


_RUN = """
import sys
from datetime import datetime
from pathlib import Path
from support.jumping_clock import JumpingClock
from ostcal.workflow.schedule import Schedule
start, end = (datetime.fromisoformat(text) for text in sys.argv[2:4])
Schedule(sys.argv[1], JumpingClock(start, end, Path(sys.argv[1]).with_name("clock"))).run()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL (POSIX)")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_schedule_goes_on_with_the_matrix_and_takes_nothing_twice(
    observatory: SimulatedObservatory, tmp_path: Path, seed: int
) -> None:
    path = configuration(tmp_path, observatory)
    chance = random.Random(seed)
    words = [sys.executable, "-c", _RUN, str(path), START.isoformat(), (START + timedelta(days=2)).isoformat()]
    tests = str(Path(__file__).parent.parent)
    environment = command_environment()
    environment["PYTHONPATH"] += f":{tests}"
    for number in range(4):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number < 3:
            wanted = len(observatory.delivered_frames) + chance.randrange(2, 7)
            deadline_s = time.monotonic() + 60
            while len(observatory.delivered_frames) < wanted and process.poll() is None:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=120)
        assert process.poll() is not None
    assert nights_of_points(tmp_path) == {point: {date(2026, 11, 1): 2} for point in POINTS}
    kept = Counter(record.pixels.checksum for series in series_of(tmp_path) for record in series.records)
    assert set(kept.values()) == {1}
