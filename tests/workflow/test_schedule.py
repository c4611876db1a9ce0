"""A schedule over simulated nights: nothing twice, nothing due left out, nothing continued over another night."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from ostcal.capture.series_plan import CaptureWatcher, FrameDone
from ostcal.frames import FrameType
from ostcal.library.store import MasterStore
from ostcal.naming import night_of
from ostcal.places.locking import locked
from ostcal.series.reader import Series, find_series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.safety import ShutterStatus
from ostcal.simulator.server import SimulatedObservatory
from ostcal.sun import Site, sun_altitude
from ostcal.workflow.schedule import Schedule
from ostcal.workflow.visit import VisitWatchers
from support.amounts import IS_THOROUGH
from support.hook_server import hook_server
from support.jumping_clock import JumpingClock
from support.night import command_environment, command_line, ostcal, write_night
from support.simulator_client import SMALL

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOON_UTC_S = 43200.0


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=5000.0)) as running:
        yield running


def configuration(folder: Path, observatory: SimulatedObservatory, **sections: dict[str, Any]) -> Path:
    """Write a configuration of a site at Greenwich whose flats are of every evening; gives its path."""
    config: dict[str, dict[str, Any]] = {
        "video": {
            "camera_type": "alpaca",
            "alpaca": {"port": observatory.port, "filter_wheel_id": 0, "cover_calibrator_id": 0},
        },
        "dark_capture": {
            "num_darks": 3, "science_exposure_time": 4.0, "exposure_factors": [1.0], "output_dir": str(folder / "darks")
        },
        "flat_capture": {"num_flats": 3, "filters": ["L", "R"], "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters"), "quality_control": False},
        "compute": {"workers": 1},
        "site": {"latitude": 51.5, "longitude": 0.0},
        "schedule": {"when": "dusk -3", "cadence_days": {"bias": 3, "dark": 5, "flat": 1}},
    }  # fmt: skip
    return write_night(folder, config, sections)


def series_of(folder: Path) -> list[Series]:
    return [open_series(location) for location in find_series([str(folder / "darks"), str(folder / "flats")])]


def nights_of(series: Series) -> set[date]:
    return {night for record in series.records if (night := night_of(record.metadata.date_obs, NOON_UTC_S))}


def check_invariants(folder: Path, n_nights: int, cadence: dict[FrameType, int], missed: frozenset[date]) -> None:
    """Check from the records alone that nothing was taken twice, left out, or continued over another night."""
    taken: dict[tuple[FrameType, str], dict[date, int]] = defaultdict(dict)
    for series in series_of(folder):
        (night,) = nights_of(series)  # nothing continued over another night
        filter_name = str(series.settings.get("filter_name") or "")
        exposure = "" if series.frame_type is FrameType.FLAT else f"{series.settings['exposure_time_s']:.1f}"
        key = (series.frame_type, filter_name + exposure)
        assert night not in taken[key], f"{key} twice in {night}"
        taken[key][night] = len(series.records)
    nights = [date(2026, 11, 1) + timedelta(days=n) for n in range(n_nights)]
    wanted = [(FrameType.BIAS, "0.0"), (FrameType.DARK, "4.0"), (FrameType.FLAT, "L"), (FrameType.FLAT, "R")]
    for key in wanted:
        newest: date | None = None
        for night in nights:
            is_due = newest is None or (night - newest).days >= cadence[key[0]]
            if is_due and night not in missed:
                assert taken[key].get(night) == 3, f"{key} in {night}: {taken[key]}"
            elif not is_due:
                assert night not in taken[key], f"{key} in {night}, taken in {newest}"
            newest = night if taken[key].get(night) == 3 else newest
    assert sum(len(each) for each in taken.values()) == len(series_of(folder))


CADENCE = {FrameType.BIAS: 3, FrameType.DARK: 5, FrameType.FLAT: 1}


def test_nights_pass_and_each_takes_what_is_due_and_makes_masters(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(tmp_path, observatory)
    run_until(path, JumpingClock(START, START + timedelta(days=4)))
    check_invariants(tmp_path, 4, CADENCE, frozenset())
    journal = json.loads((tmp_path / "masters" / "schedule.json").read_text())
    assert [visit["night"] for visit in journal["visits"]] == [f"2026-11-0{n}" for n in range(1, 5)]
    assert all(visit["is_complete"] for visit in journal["visits"]), journal
    names = MasterStore(str(tmp_path / "masters" / "masters.zarr")).names()
    assert any("flat" in name for name in names)
    assert any("bias" in name for name in names)


def run_until(path: Path, clock: JumpingClock, watchers: VisitWatchers | None = None) -> None:
    with pytest.raises(KeyboardInterrupt):
        Schedule(path, clock, watchers).run()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def moments_of(folder: Path) -> list[datetime]:
    return sorted(record.metadata.date_obs for series in series_of(folder) for record in series.records)  # type: ignore[type-var]


def test_a_set_whose_series_were_removed_counts_by_its_master(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(tmp_path, observatory)
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    shutil.rmtree(tmp_path / "darks")
    shutil.rmtree(tmp_path / "flats")
    run_until(path, JumpingClock(START + timedelta(days=1), START + timedelta(days=2)))
    # bias and darks of the first night have their cadence still; flats are of every night
    assert {series.frame_type for series in series_of(tmp_path)} == {FrameType.FLAT}
    assert len(series_of(tmp_path)) == 2


def _only_fits(folder: Path, **cards: Any) -> int:
    """Leave the FITS copies of the frames alone, as another program would have written them; return their number."""
    for location in find_series([str(folder / "darks"), str(folder / "flats")]):
        shutil.rmtree(location)
    shutil.rmtree(folder / "masters")
    files = [*folder.rglob("*.fits")]
    for file in files:
        with fits.open(file, mode="update") as opened:
            opened[0].header.update(cards)
    return len(files)


@pytest.mark.parametrize(("cards", "counts"), [
    ({}, True),
    ({"SWCREATE": "N.I.N.A."}, True),
    ({"GAIN": 77}, False),
    ({"INSTRUME": "another camera"}, False),
    ({"DATE-OBS": "2026-10-20T19:00:00"}, False),  # too long ago
    ({"EXPTIME": 9.0, "EXPOSURE": 9.0}, None),  # bias and flats as they were, but no dark of 4 s
])  # fmt: skip
def test_frames_of_other_programs_count_as_taken_if_their_headers_are_those_of_the_frames_wanted(
    observatory: SimulatedObservatory, tmp_path: Path, cards: dict[str, Any], counts: bool | None
) -> None:
    path = configuration(tmp_path, observatory, storage={"export_frames": True})
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    assert _only_fits(tmp_path, **cards) >= 12
    Schedule(path, JumpingClock(START + timedelta(hours=8), START + timedelta(days=1))).run_once()
    taken = {series.frame_type for series in series_of(tmp_path)}
    every = {FrameType.BIAS, FrameType.DARK, FrameType.FLAT}
    assert taken == (set() if counts else {FrameType.DARK} if counts is None else every)


def test_an_ignored_monitor_stops_nothing_and_is_said(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as weather:
        port = weather.port
    path = configuration(tmp_path, observatory, safety={"port": port, "device_id": 0, "on_lost": "ignore"})
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    check_invariants(tmp_path, 1, CADENCE, frozenset())
    assert any(
        "the safety monitor does not answer" in line and line.endswith("going on (safety.on_lost is ignore)")
        for line in warnings_of(caplog)
    )
    assert "nothing is exposed" not in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_schedule_without_end_tells_the_hooks_of_each_visit(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    with hook_server() as server:
        hooks = {"url": server.url, "on": ["night_finished"]}
        path = configuration(tmp_path, observatory, hooks=hooks, schedule={"when": "* * * * *"})
        child = subprocess.Popen(
            command_line("schedule", "--config", path), stderr=subprocess.DEVNULL, env=command_environment()
        )
        try:
            deadline = time.monotonic() + 120
            while len(server.requests) < 2:
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            child.terminate()
            assert child.wait(20) == 143
        finally:
            child.kill()
    first, second = server.requests[:2]
    assert (first["event"], first["exit_code"]) == (second["event"], second["exit_code"]) == ("night_finished", 0)
    assert {master["kind"] for master in first["masters"]} == {"bias", "dark", "flat"}
    assert second["masters"] == []  # a minute later nothing is due


def test_directories_of_each_night_are_one_library_for_the_schedule(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(
        tmp_path, observatory, dark_capture={"output_dir": str(tmp_path / "darks" / "{night}")},
        master_frames={"output_dir": str(tmp_path / "masters" / "{night}")},
    )  # fmt: skip
    run_until(path, JumpingClock(START, START + timedelta(days=2)))
    check_invariants(tmp_path, 2, CADENCE, frozenset())
    assert (tmp_path / "masters" / "schedule.json").exists()
    for day in ("2026-11-01", "2026-11-02"):
        assert list((tmp_path / "masters" / day).glob("*.fits"))
    shutil.rmtree(tmp_path / "darks")
    run_until(path, JumpingClock(START + timedelta(days=2), START + timedelta(days=3)))
    assert {series.frame_type for series in series_of(tmp_path)} == {FrameType.FLAT}  # the masters count for the others


def test_hooks_are_told_of_each_night(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    with hook_server() as server:
        path = configuration(
            tmp_path, observatory, hooks={"url": server.url, "on": ["series_finished", "night_finished"]}
        )
        shown = ostcal("schedule", "--config", path, "--once")
    assert shown.exit_code == 0, shown.text
    events = [request["event"] for request in server.requests]
    assert events == ["series_finished"] * len(series_of(tmp_path)) + ["night_finished"]
    assert server.requests[-1]["exit_code"] == 0
    assert {master["kind"] for master in server.requests[-1]["masters"]} == {"bias", "dark", "flat"}


def test_in_a_polar_summer_a_schedule_says_so_once_and_waits(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ostcal")
    path = configuration(tmp_path, observatory, site={"latitude": 78.2, "longitude": 15.6})
    june = datetime(2026, 6, 20, 12, tzinfo=UTC)
    run_until(path, JumpingClock(june, june + timedelta(days=3)))
    assert [line for line in caplog.messages if "the next time is" in line] == [caplog.messages[0]]
    assert caplog.messages[0].startswith(
        "2026-06-20: the sun stays above -3 deg from noon to noon (from 11.6 to 35.2 deg)"
    )
    assert "the next time is 2026-08" in caplog.messages[0]
    assert series_of(tmp_path) == []


def test_an_error_of_one_night_is_a_line_and_the_next_night_goes_on(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(tmp_path, observatory, schedule={"max_hours": 1.0})
    port = observatory.port
    clock = JumpingClock(START, START + timedelta(days=3))
    observatory.stop()
    observatory.options = replace(observatory.options, port=port)
    clock.alarms.append((START + timedelta(days=1), observatory.start))
    run_until(path, clock)
    check_invariants(tmp_path, 3, CADENCE, frozenset({date(2026, 11, 1)}))
    errors = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert sum("no Alpaca server answers" in line for line in errors) == 1
    journal = json.loads((tmp_path / "masters" / "schedule.json").read_text())
    assert [visit["is_complete"] for visit in journal["visits"]] == [False, True, True]


def test_what_does_not_fit_into_the_hours_is_named_and_taken_the_next_time(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(
        tmp_path, observatory, schedule={"max_hours": 0.05, "cadence_days": {"bias": 3, "dark": 5, "flat": None}},
        dark_capture={"exposure_factors": [1.0, 12.0, 15.0]},  # 3 x 48 s fit into 180 s, and 3 x 60 s never do
    )  # fmt: skip
    run_until(path, JumpingClock(START, START + timedelta(days=2)))
    exposures = Counter(round(series.settings["exposure_time_s"]) for series in series_of(tmp_path))
    assert exposures == {0: 1, 4: 1, 48: 1}
    line = "there is no time for all darks (schedule.max_hours); left for the next time: darks of 60 s"
    assert warnings_of(caplog).count(line) == 2


def test_no_frame_begins_while_it_is_not_safe_and_all_go_on_when_it_is_safe_again(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ostcal")
    path = configuration(tmp_path, observatory, safety={"port": observatory.port, "device_id": 0, "roof_id": 0})
    monitor = observatory.safety_monitor
    monitor.safe = False
    clock = JumpingClock(START, START + timedelta(days=1))
    evening = START + timedelta(hours=7)
    clouds: list[datetime] = []

    def become(safe: bool) -> None:
        monitor.safe = safe

    def frame_done(done: FrameDone) -> None:
        if not clouds:
            clouds.append(clock.utc())
            become(False)
            clock.alarms.append((clock.utc() + timedelta(minutes=20), lambda: become(True)))

    clock.alarms.append((evening, lambda: become(True)))
    run_until(path, clock, VisitWatchers(capture=CaptureWatcher(frame_done=frame_done)))
    check_invariants(tmp_path, 1, CADENCE, frozenset())
    moments = moments_of(tmp_path)
    assert moments[0] >= evening
    # The exposure that ran when the clouds came ends; the next begins once they have gone.
    assert not [moment for moment in moments if clouds[0] < moment < clouds[0] + timedelta(minutes=20)]
    waits = [line for line in caplog.messages if line.startswith("nothing is exposed: the safety monitor says")]
    assert len(waits) == 2
    assert caplog.messages.count("it is safe again") == 2


def test_a_monitor_that_does_not_answer_counts_as_unsafe_until_it_is_back(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weather = SimulatedObservatory(SimulatorOptions(sensor=SMALL))
    weather.start()
    weather.options = replace(weather.options, port=weather.port)
    path = configuration(tmp_path, observatory, safety={"port": weather.port, "device_id": 0})
    weather.stop()
    clock = JumpingClock(START, START + timedelta(days=1))
    evening = START + timedelta(hours=8)
    clock.alarms.append((evening, weather.start))
    try:
        run_until(path, clock)
    finally:
        weather.stop()
    check_invariants(tmp_path, 1, CADENCE, frozenset())
    assert min(moments_of(tmp_path)) >= evening
    assert caplog.text.count("nothing is exposed: the safety monitor does not answer") == 1


def test_under_a_closed_roof_darks_are_taken_and_flats_of_the_sky_are_left(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(
        tmp_path, observatory, safety={"port": observatory.port, "roof_id": 0}, flat_capture={"twilight": True}
    )
    observatory.roof.move(ShutterStatus.CLOSED)
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    assert {series.frame_type for series in series_of(tmp_path)} == {FrameType.BIAS, FrameType.DARK}
    assert caplog.text.count("nothing is exposed: the roof is closed") == 1
    assert "the hours of this visit are over; left for the next time: flats L, flats R" in caplog.text


def test_a_night_that_is_never_safe_takes_nothing_and_says_what_is_left(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = configuration(tmp_path, observatory, safety={"port": observatory.port, "device_id": 0})
    observatory.safety_monitor.safe = False
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    assert series_of(tmp_path) == []
    assert caplog.text.count("nothing is exposed: the safety monitor says that it is not safe") == 1
    assert "left for the next time: bias, darks of 4 s, flats L, flats R" in caplog.text


def sun_of(series: Series) -> list[float]:
    site = Site(latitude_deg=51.5, longitude_deg=0.0)
    return [sun_altitude(site, record.metadata.date_obs) for record in series.records if record.metadata.date_obs]


def test_flats_of_the_sky_begin_and_end_by_the_altitude_of_the_sun(
    observatory: SimulatedObservatory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ostcal")
    path = configuration(
        tmp_path, observatory, flat_capture={"twilight": True, "filters": ["L"], "num_flats": 30},
        schedule={
            "when": "15:00", "time_zone": "utc", "sky_flats": {"sun_highest": -1.0, "sun_lowest": -1.25},
            "cadence_days": {"bias": 3, "dark": None, "flat": 1},
        },
    )  # fmt: skip
    clock = JumpingClock(START, START + timedelta(days=2))
    run_until(path, clock, VisitWatchers(capture=CaptureWatcher(frame_done=lambda done: clock.sleep(5.0))))
    flats = [series for series in series_of(tmp_path) if series.frame_type is FrameType.FLAT]
    assert len(flats) == 2  # one of each night
    for series in flats:
        heights = sun_of(series)
        assert 10 < len(heights) < 30
        assert min(heights) > -1.26
        assert -1.05 < max(heights) <= -1.0
    assert (
        len([line for line in caplog.messages if line.startswith("flats of the sky wait for the sun until 16:")]) == 2
    )
    assert sum(line.endswith("left for the next time: flats L") for line in warnings_of(caplog)) == 2


def test_a_visit_at_night_takes_no_flats_of_the_sky(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(
        tmp_path, observatory, flat_capture={"twilight": True}, schedule={"when": "dusk -13", "max_hours": 2.0}
    )
    run_until(path, JumpingClock(START, START + timedelta(days=1)))
    assert {series.frame_type for series in series_of(tmp_path)} == {FrameType.BIAS, FrameType.DARK}


# ---- the command ----


def test_the_coming_week_is_a_table_of_80_columns_and_a_document(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(
        tmp_path, observatory, schedule={"when": "18:30", "time_zone": "Europe/Madrid"},
        flat_capture={"filters": list("LRGBSHO")},
    )  # fmt: skip
    shown = ostcal("schedule", "--config", path, "--dry-run")
    assert shown.exit_code == 0, shown.text
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert len(re.findall(r"\d\d\d\d-\d\d-\d\d 18:30 CES?T", shown.stdout)) == 7
    assert not (tmp_path / "masters").exists()
    document = json.loads(ostcal("schedule", "--config", path, "--dry-run", "--json").stdout)
    visits = document["visits"]
    assert len(visits) == 7
    first, second = ([one["kind"] for one in visit["due"]] for visit in visits[:2])
    assert Counter(first) == {"bias": 1, "dark": 1 + 7, "flat": 7}  # darks of the flats too
    assert Counter(second) == {"flat": 7}
    assert [any(one["kind"] == "bias" for one in visit["due"]) for visit in visits] == [True, False, False] * 2 + [True]
    assert visits[0]["frames"] == 16 * 3
    assert all(60 < visit["time_s"] < 3600 for visit in visits)
    minutes = re.findall(r" (\d+) min$", shown.stdout, flags=re.MULTILINE)
    assert [int(text) for text in minutes] == [math.ceil(visit["time_s"] / 60) for visit in visits]


def test_darks_that_no_visit_has_time_for_are_named_and_not_counted(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    dark_capture = {"num_darks": 200, "science_exposure_time": 50.0, "exposure_factors": [1.0]}
    path = configuration(tmp_path, observatory, schedule={"when": "18:30", "max_hours": 0.5}, dark_capture=dark_capture)
    shown = ostcal("schedule", "--config", path, "--dry-run", "--json")
    line = (
        "darks of 50 s: 200 frames take about 2.9 hours, and a visit has 0.5 (schedule.max_hours): they are never taken"
    )
    assert " ".join(shown.stderr.split()).count(line) == 1
    due = [one["kind"] for visit in json.loads(shown.stdout)["visits"] for one in visit["due"]]
    assert "bias" in due
    assert "flat" in due
    assert all(visit["time_s"] < 1800 for visit in json.loads(shown.stdout)["visits"])


def test_times_of_the_coming_week_from_an_hour_on_are_hours(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    dark_capture = {"science_exposure_time": 1800.0, "max_exposure": 3600.0}
    path = configuration(tmp_path, observatory, schedule={"when": "18:30"}, dark_capture=dark_capture)
    shown = ostcal("schedule", "--config", path, "--dry-run")
    assert re.search(r" 1\.5 h\n", shown.stdout), shown.text


def test_a_site_without_twilight_is_one_line_and_names_the_next_evening(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text("site: {latitude: 90, longitude: 0}\nschedule: {when: dusk -40}\n", encoding="utf-8")
    shown = ostcal("schedule", "--config", path, "--dry-run")
    assert shown.exit_code == 2
    assert "schedule.when: none of dusk -40 ever comes" in shown.text


def test_once_takes_what_is_due_now_and_nothing_the_second_time(
    observatory: SimulatedObservatory, tmp_path: Path
) -> None:
    path = configuration(tmp_path, observatory, schedule={"when": "18:30"})
    first = ostcal("schedule", "--config", path, "--once", "--json")
    assert first.exit_code == 0, first.text
    document = json.loads(first.stdout)
    there = series_of(tmp_path)
    assert sum(one["added"] for one in document["series"]) == sum(len(series.records) for series in there) >= 12
    assert {master["state"] for master in document["masters"]} == {"made"}
    assert {master["kind"] for master in document["masters"]} == {"bias", "dark", "flat"}
    second = json.loads(ostcal("schedule", "--config", path, "--once", "--json").stdout)
    assert second["series"] == []
    assert {master["state"] for master in second["masters"]} == {"unchanged"}


def test_two_schedules_of_one_directory_are_refused(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory)
    (tmp_path / "masters").mkdir()
    with locked(tmp_path / "masters" / ".schedule.lock", what="the schedule"):
        refused = ostcal("schedule", "--config", path, "--once")
    assert refused.exit_code == 1
    assert "the schedule" in refused.text


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_sigterm_ends_a_schedule_that_sleeps(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    path = configuration(tmp_path, observatory, schedule={"when": "0 0 29 2 *"})
    screen = tmp_path / "screen.txt"
    with screen.open("wb") as output:
        child = subprocess.Popen(
            command_line("schedule", "--config", path), stdout=output, stderr=subprocess.STDOUT,
            env=command_environment(),
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while b"the next time is 20" not in screen.read_bytes():
            assert child.poll() is None, screen.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.terminate()
        assert child.wait(10) == 143
    finally:
        child.kill()
    assert "Traceback" not in screen.read_text()
    assert not (tmp_path / "masters" / ".schedule.lock").exists()


CHILD = """
import logging, sys
from datetime import datetime
from pathlib import Path
from ostcal.sun import Site, sun_altitude
from ostcal.workflow.schedule import Schedule
from ostcal.workflow.visit import VisitWatchers
from support.hook_server import hook_server
from support.jumping_clock import JumpingClock

logging.basicConfig(level=logging.WARNING)
start, end = map(datetime.fromisoformat, sys.argv[2:4])
try:
    Schedule(sys.argv[1], JumpingClock(start, end, Path(sys.argv[4]))).run()
except KeyboardInterrupt:
    print("the fortnight is over")
"""


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("seed", range(1, 5 if IS_THOROUGH else 3))
def test_a_fortnight_killed_ten_times_is_as_whole_as_one_that_was_not(
    observatory: SimulatedObservatory, tmp_path: Path, seed: int
) -> None:
    path = configuration(tmp_path, observatory)
    clock_file, chance = tmp_path / "clock", random.Random(seed)
    arguments = [sys.executable, "-c", CHILD, str(path), START.isoformat(), (START + timedelta(days=14)).isoformat()]
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([environment.get("PYTHONPATH", ""), str(Path(__file__).parents[1])])
    kills = 0
    for _ in range(40):
        log = tmp_path / f"screen_{kills}.txt"
        with log.open("wb") as screen:
            child = subprocess.Popen(
                [*arguments, str(clock_file)], stdout=screen, stderr=subprocess.STDOUT, env=environment
            )
            try:
                # Kills come while it works: in most of its time it imports and sleeps.
                watched = tmp_path / ("darks" if kills % 3 == 0 else "flats" if kills % 3 == 1 else "masters")
                before = _files_below(watched)
                deadline = time.monotonic() + 60
                while kills < 10 and child.poll() is None and time.monotonic() < deadline:
                    if _files_below(watched) > before + chance.randrange(6):
                        time.sleep(chance.random() * 0.2)
                        child.send_signal(signal.SIGKILL)
                        kills += child.wait(30) == -signal.SIGKILL
                    time.sleep(0.002)
                child.wait(200)
            finally:
                with suppress(ProcessLookupError):
                    child.kill()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, log.read_text()
    assert kills == 10
    assert "the fortnight is over" in log.read_text()
    check_invariants(tmp_path, 14, CADENCE, frozenset())
    for series in series_of(tmp_path):
        assert not series.problems
        assert len({record.index for record in series.records}) == 3
    journal = json.loads((tmp_path / "masters" / "schedule.json").read_text())
    ended = Counter(visit["night"] for visit in journal["visits"])
    assert ended == {f"2026-11-{n:02d}": 1 for n in range(1, 15)}


def _files_below(directory: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(directory))
