"""Two evenings and more with one configuration: what each takes, where it goes, and what is never continued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal import DarkCapture, FlatCapture, load_config
from ostcal.build.from_config import request_of
from ostcal.capture.darks import DarkRules, capture_darks, flat_exposures, plan_darks
from ostcal.capture.nights import EarlierSeries, capture_night
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import CaptureNight, CaptureWatcher, Equipment, SeriesPlan, SeriesSink
from ostcal.clock import FastClock
from ostcal.devices.alpaca import AlpacaCamera, AlpacaCoverCalibrator, AlpacaFilterWheel
from ostcal.errors import ConfigError
from ostcal.frames import CameraSettings, FrameType
from ostcal.naming import night_of, noon_at
from ostcal.places.night_folders import folders_of
from ostcal.series.reader import open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.status import Status
from support.direct_camera import START, DirectCamera, FakeClock, small_sensor
from support.simulator_client import SMALL

FIRST = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
SECOND = FIRST + timedelta(days=1)
SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
SCALE = 200.0


class EveningClock(FastClock):
    """A clock that says the date of a simulated evening."""

    def __init__(self, start: datetime) -> None:
        super().__init__(SCALE)
        self._start = start

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self.now_s())


class Observer:
    """An observer with one configuration and a simulated observatory, which is reached over HTTP."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._port = port

    def config(self, **sections: dict[str, Any]) -> dict[str, Any]:
        base = {
            "dark_capture": {
                "num_darks": 3, "science_exposure_time": 2.0, "exposure_factors": [1.0], "flat_exposure_time": 1.0,
                "output_dir": str(self.folder / "darks"),
            },
            "flat_capture": {"num_flats": 3, "output_dir": str(self.folder / "flats")},
            "master_frames": {"output_dir": str(self.folder / "masters")},
        }  # fmt: skip
        return {name: {**values, **sections.get(name, {})} for name, values in base.items()}

    def evening(self, start: datetime, **sections: dict[str, Any]) -> tuple[Status, Status]:
        """Take darks, then flats."""
        config = self.config(**sections)
        with (
            AlpacaCamera("127.0.0.1", self._port) as camera,
            AlpacaFilterWheel("127.0.0.1", self._port, 0) as wheel,
            AlpacaCoverCalibrator("127.0.0.1", self._port, 0) as cover,
        ):
            equipment = Equipment(camera=camera, clock=EveningClock(start), wheel=wheel, cover=cover)
            darks, flats = DarkCapture(config), FlatCapture(config)
            darks.initialize(equipment)
            flats.initialize(equipment)
            return darks.capture_darks(), flats.capture_flats()

    def nights(self, kind: str) -> dict[str, set[date | None]]:
        """Return the nights of the frames of each series, by its path below the folder."""
        return {
            str(path.relative_to(self.folder)): {
                night_of(record.metadata.date_obs) for record in open_series(path).records
            }
            for path in sorted((self.folder / kind).rglob("*.zarr"))
        }


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[Observer]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=SCALE, seed=3)) as observatory:
        yield Observer(tmp_path, observatory.port)


def test_the_second_evening_takes_its_flats_and_no_darks_that_are_there(observer: Observer) -> None:
    darks, flats = observer.evening(FIRST)
    assert (darks.details["taken"], flats.details["taken"]) == (9, 3)
    before = observer.nights("darks"), observer.nights("flats")
    darks, flats = observer.evening(SECOND)
    assert (darks.details["taken"], flats.details["taken"]) == (0, 3)
    assert observer.nights("darks") == before[0]
    later = observer.nights("flats")
    assert {name: nights for name, nights in later.items() if name in before[1]} == before[1]
    (new,) = set(later) - set(before[1])
    assert later[new] == {date(2026, 11, 22)}


def test_every_night_has_a_directory_of_its_own_and_masters_read_all(observer: Observer) -> None:
    sections = {
        "dark_capture": {"output_dir": str(observer.folder / "darks" / "{night}"), "strategy": "all"},
        "flat_capture": {"output_dir": str(observer.folder / "flats" / "{camera}" / "{date}")},
    }
    for start in (FIRST, SECOND):
        darks, flats = observer.evening(start, **sections)
        assert (darks.details["taken"], flats.details["taken"]) == (9, 3)
    nights = observer.nights("darks")
    assert set(nights) == {
        f"darks/2026-11-{day}/exp_{exposure}s.zarr" for day in (21, 22) for exposure in ("0.001", "1.000", "2.000")
    }
    assert all(len(of) == 1 and str(*of) in name for name, of in nights.items())
    request = request_of(load_config(observer.config(**sections)), bias=True, darks=True, flats=True)
    assert [str(Path(place).relative_to(observer.folder).parts[-1]) for place in request.input_dirs] == [
        "2026-11-21", "2026-11-22", "2026-11-21", "2026-11-22",
    ]  # fmt: skip


def test_a_key_continues_series_of_any_night(observer: Observer) -> None:
    always = {"dark_capture": {"continue_series": "always"}, "flat_capture": {"continue_series": "always"}}
    observer.evening(FIRST, **always)
    darks, flats = observer.evening(SECOND, **always)
    assert (darks.details["taken"], flats.details["taken"]) == (0, 0)
    more = {"dark_capture": {"continue_series": "always", "num_darks": 4}, "flat_capture": always["flat_capture"]}
    darks, _ = observer.evening(SECOND, **more)
    assert darks.details["taken"] == 3
    assert observer.nights("darks")["darks/exp_2.000s.zarr"] == {date(2026, 11, 21), date(2026, 11, 22)}


# ---- without a network ----


def take(folder: Path, start: datetime, *, n_frames: int = 3, most: int | None = None, **rules: Any) -> list[str]:
    """Take darks at a time, at most so many frames; return the names of the series and how many frames they have."""
    clock = FakeClock(start)
    camera = DirectCamera(small_sensor(), clock)
    if most is not None:
        camera.faults.fail("start_exposure", *range(most + 1, most + 200))
    equipment = Equipment(camera=camera, clock=clock)
    earlier = EarlierSeries(directories=(str(folder),), **rules)
    wanted = DarkRules(n_frames=n_frames, science_exposure_s=4.0, factors=(1.0,), flat_exposures_s=(), earlier=earlier)
    sink = SeriesSink(directory=folder, night=CaptureNight(night=start.date(), noon_utc_s=43200.0))
    capture_darks(equipment, plan_darks(equipment, SETTINGS, wanted, sink), sink)
    return [f"{path.stem} {len(open_series(path).records)}" for path in sorted(folder.glob("*.zarr"))]


def test_an_unfinished_series_is_continued_in_its_night_alone(tmp_path: Path) -> None:
    assert take(tmp_path, FIRST, most=5) == ["exp_0.001s 3", "exp_4.000s 2"]
    assert take(tmp_path, SECOND, most=1) == ["exp_0.001s 3", "exp_4.000s 2", "exp_4.000s_20261122 1"]
    later = SECOND + timedelta(hours=3)
    assert take(tmp_path, later) == ["exp_0.001s 3", "exp_4.000s 2", "exp_4.000s_20261122 3"]


def test_a_series_with_other_settings_and_one_of_another_night_are_both_left_alone(tmp_path: Path) -> None:
    clock = FakeClock(FIRST)
    camera = DirectCamera(small_sensor(), clock)
    plan = SeriesPlan(
        name="exp_4.000s", frame_type=FrameType.DARK, exposure_time_s=4.0, n_frames=1, settings=SETTINGS, light=False
    )
    low = replace(plan, settings=replace(SETTINGS, gain=0.0))
    for moment, wanted in ((FIRST, plan), (FIRST, low), (SECOND, low), (SECOND, plan), (SECOND, low)):
        night = CaptureNight(night=moment.date(), noon_utc_s=43200.0)
        clock = FakeClock(moment)
        camera = DirectCamera(small_sensor(), clock)
        outcome = capture_series(camera, wanted, SeriesSink(directory=tmp_path, night=night), clock, CaptureWatcher())
        assert outcome.is_complete
    found = {path.stem: open_series(path).settings["gain"] for path in sorted(tmp_path.glob("*.zarr"))}
    assert found == {
        "exp_4.000s": 100.0, "exp_4.000s_2": 0.0, "exp_4.000s_20261122": 0.0, "exp_4.000s_20261122_2": 100.0,
    }  # fmt: skip


@pytest.mark.parametrize(("strategy", "days", "is_new"), [
    ("missing", 400, False), ("aged", 29, False), ("aged", 31, True), ("all", 1, True),
])  # fmt: skip
def test_the_strategy_says_which_darks_are_taken_anew(tmp_path: Path, strategy: str, days: int, is_new: bool) -> None:
    assert take(tmp_path, FIRST, strategy=strategy) == ["exp_0.001s 3", "exp_4.000s 3"]
    later = FIRST + timedelta(days=days)
    night = f"{later:%Y%m%d}"
    expected = ["exp_0.001s 3", "exp_4.000s 3"]
    if is_new:
        expected = ["exp_0.001s 3", f"exp_0.001s_{night} 3", "exp_4.000s 3", f"exp_4.000s_{night} 3"]
    assert take(tmp_path, later, strategy=strategy, max_age_days=30.0) == expected
    assert take(tmp_path, later + timedelta(hours=1), strategy=strategy, max_age_days=30.0) == expected


def test_more_frames_than_an_earlier_night_has_are_a_series_of_this_night(tmp_path: Path) -> None:
    take(tmp_path, FIRST)
    assert "exp_4.000s_20261122 5" in take(tmp_path, SECOND, n_frames=5)


# ---- nights and directories ----


@pytest.mark.parametrize(("when", "longitude_deg", "night"), [
    (datetime(2026, 11, 21, 18, tzinfo=UTC), 0.0, date(2026, 11, 21)),
    (datetime(2026, 11, 22, 11, 59, tzinfo=UTC), 0.0, date(2026, 11, 21)),
    (datetime(2026, 11, 22, 12, 1, tzinfo=UTC), 0.0, date(2026, 11, 22)),
    (datetime(2026, 11, 22, 12, 1, tzinfo=UTC), 151.0, date(2026, 11, 22)),
    (datetime(2026, 11, 22, 1, 0, tzinfo=UTC), 151.0, date(2026, 11, 21)),
    (datetime(2026, 11, 22, 3, 0, tzinfo=UTC), 151.0, date(2026, 11, 22)),
    (datetime(2026, 11, 22, 19, 0, tzinfo=UTC), -155.0, date(2026, 11, 22)),
])  # fmt: skip
def test_a_night_goes_from_local_noon_to_noon(when: datetime, longitude_deg: float, night: date) -> None:
    found = capture_night(FakeClock(when), longitude_deg)
    assert found.night == night
    assert found.noon_utc_s == noon_at(longitude_deg)


def test_without_words_a_directory_is_itself(tmp_path: Path) -> None:
    assert folders_of(str(tmp_path / "absent")) == [str(tmp_path / "absent")]


def test_directories_of_all_nights_and_cameras_are_found_and_no_others(tmp_path: Path) -> None:
    for name in ("QHY600/2026-11-21", "QHY600/2026-11-22", "ASI/2026-11-21", "ASI/old", "ASI/2026-11-21b"):
        (tmp_path / name / "darks").mkdir(parents=True)
    pattern = str(tmp_path / "{camera}" / "{night}" / "darks")
    found = [str(Path(place).relative_to(tmp_path)) for place in folders_of(pattern)]
    assert found == ["ASI/2026-11-21/darks", "QHY600/2026-11-21/darks", "QHY600/2026-11-22/darks"]
    none = str(tmp_path / "x_{night}")
    assert folders_of(none) == [none]


def test_relative_directories_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2026-11-21" / "darks").mkdir(parents=True)
    assert folders_of("{night}/darks") == [str(Path("2026-11-21") / "darks")]


def test_a_word_that_is_not_filled_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dark_capture.output_dir: .*\{nigth\}.*\{night\}, \{date\} and \{camera\}"):
        load_config({"dark_capture": {"output_dir": "darks/{nigth}"}})


def test_masters_may_have_a_directory_of_each_night() -> None:
    assert load_config({"master_frames": {"output_dir": "m/{night}"}}).master_frames.output_dir == "m/{night}"
    with pytest.raises(ConfigError, match=r"master_frames.output_dir: .*\{nigth\}"):
        load_config({"master_frames": {"output_dir": "masters/{nigth}"}})


def test_exposures_of_flats_are_those_of_the_newest_night(tmp_path: Path) -> None:
    for days, exposure_s in ((0, 1.0), (1, 2.0), (2, 3.0)):
        clock = FakeClock(START + timedelta(days=days))
        camera = DirectCamera(small_sensor(), clock)
        plan = SeriesPlan(
            name=f"flat_{days}", frame_type=FrameType.FLAT, exposure_time_s=exposure_s, n_frames=2, settings=SETTINGS,
            light=True,
        )  # fmt: skip
        capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher())
    assert flat_exposures(None, [tmp_path]) == (3.0,)
