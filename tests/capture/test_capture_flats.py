"""Flats: the level is found with noise, colours and a panel; the sky is followed; series are continued."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostcal.capture.auto_exposure import Accept, ExposureRules, GiveUp, LightProblem
from ostcal.capture.exposer import Exposer
from ostcal.capture.flats import FlatReport, FlatRules, capture_flats, find_exposure, plan_flats
from ostcal.capture.series_plan import CaptureWatcher, Equipment, RetryRules, SeriesEnd, SeriesSink
from ostcal.capture.twilight import SkyRate, exposure_for, log_slope
from ostcal.devices.protocols import CoverState
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings
from ostcal.naming import NOON_UTC_S, noon_at
from ostcal.series.reader import Series, open_series
from support.amounts import amount
from support.direct_camera import DirectCamera, DirectPanel, DirectWheel, FakeClock, Faults, Scene, small_sensor

SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
RULES = FlatRules(exposure=ExposureRules(), n_frames=4)
FULL = 65535


class Room:
    """A telescope with what stands before it."""

    def __init__(
        self, folder: Path, light: Callable[[float], float] | float = 30_000.0, *, faults: Faults | None = None,
        bayer: bool = False, **camera: Any,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.clock = FakeClock()
        self.scene = Scene(light=light if callable(light) else lambda now_s: light)
        self.camera = DirectCamera(small_sensor(bayer=bayer), self.clock, self.scene, faults=faults, **camera)
        self.notices: list[str] = []
        self.wheel: DirectWheel | None = None
        self.panel: DirectPanel | None = None

    def take(self, rules: FlatRules = RULES) -> FlatReport:
        equipment = Equipment(
            camera=self.camera, clock=self.clock, watcher=CaptureWatcher(notice=self.notices.append),
            wheel=self.wheel, cover=self.panel,
        )  # fmt: skip
        return capture_flats(equipment, SETTINGS, rules, SeriesSink(directory=self.folder))

    def series(self) -> dict[str, Series]:
        return {path.stem: open_series(path) for path in sorted(self.folder.glob("*.zarr"))}

    def levels(self) -> list[float]:
        """Return the mean of each frame as a share of full scale."""
        return [
            (record.pixels.statistics.mean or 0.0) / FULL
            for series in self.series().values()
            for record in series.records
        ]


def find(sensor: Any, rate: float, rules: FlatRules, start_s: float) -> tuple[Accept | GiveUp, DirectCamera]:
    """Search the exposure for a light."""
    clock = FakeClock()
    camera = DirectCamera(sensor, clock, Scene(light=lambda now_s: rate))
    equipment = Equipment(camera=camera, clock=clock)
    return find_exposure(Exposer(camera, clock, RetryRules()), rules, equipment, start_s), camera


# ---- steady light ----


@settings(max_examples=amount(60))
@given(
    right_exponent=st.floats(-2.9, 0.9),
    start_exponent=st.floats(-3, 1),
    bias_adu=st.floats(0, 5000),
    bayer=st.booleans(),
    full_well_e=st.sampled_from([80_000.0, 58_000.0]),
)
def test_the_level_is_found_for_many_lights_sensors_and_starts(
    right_exponent: float, start_exponent: float, bias_adu: float, bayer: bool, full_well_e: float
) -> None:
    sensor = small_sensor(width=24, height=20, bayer=bayer, bias_level_adu=bias_adu, full_well_e=full_well_e)
    response = sensor.response()
    brightest = response[sensor.colour_mask("G")].mean() if bayer else response.mean()
    rate = (0.5 * FULL - bias_adu) / 10**right_exponent / float(brightest)
    choice, camera = find(sensor, rate, RULES, 10**start_exponent)
    assert isinstance(choice, Accept), choice
    level = bias_adu + rate * choice.exposure_s * float(brightest)
    assert 0.395 <= level / FULL <= 0.605
    assert camera.calls["start_exposure"] <= 1 + RULES.exposure.max_attempts


def test_the_brightest_colour_decides(tmp_path: Path) -> None:
    room = Room(tmp_path, bayer=True)
    room.take()
    (series,) = room.series().values()
    frame = series.read_frame(0)
    green = frame[room.camera.sensor.colour_mask("G")].mean() / FULL
    assert green == pytest.approx(0.5, abs=0.1)
    assert frame[room.camera.sensor.colour_mask("R")].mean() / FULL < 0.35
    assert frame.max() < FULL


def test_flats_have_the_level_that_is_wanted(tmp_path: Path) -> None:
    room = Room(tmp_path, 4000.0)
    report = room.take()
    assert report.failures == ()
    assert report.outcomes[0].is_complete
    assert room.levels() == pytest.approx([0.5] * 4, abs=0.01)
    ((name, series),) = room.series().items()
    assert name.startswith("exp_")
    assert series.settings["exposure_time_s"] == float(name.removeprefix("exp_").removesuffix("s"))
    assert all(room.camera.lights)
    assert any(notice.startswith("trial 1 of 10: 1 s gives") for notice in room.notices)


def test_an_exposure_at_once_right_is_named_as_it_is(tmp_path: Path) -> None:
    room = Room(tmp_path, 33_000.0)
    room.take()
    assert list(room.series()) == ["exp_1.000s"]


@pytest.mark.parametrize(("light", "word"), [(1e9, "too bright"), (100.0, "too faint")])
def test_a_light_without_an_exposure_is_said(tmp_path: Path, light: float, word: str) -> None:
    room = Room(tmp_path, light)
    report = room.take()
    assert report.outcomes == ()
    assert f"the light is {word}" in report.failures[0].reason
    assert list(tmp_path.iterdir()) == []


def test_the_limits_of_the_camera_hold(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0, exposure_limits_s=(0.5, 2.0))
    assert "too faint: the longest exposure, 2 s" in room.take().failures[0].reason
    room = Room(tmp_path, exposure_limits_s=(20.0, 30.0))
    with pytest.raises(DeviceError, match=r"it exposes 20 s to 30 s, and 0.001 s to 10 s are wanted"):
        room.take()


def test_a_camera_that_fails_in_a_trial_is_tried_again(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0, faults=Faults().drop("download", 2))
    assert room.take().outcomes[0].is_complete


# ---- continuing ----


def test_a_series_that_was_begun_is_continued_with_its_exposure(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0)
    room.take(replace(RULES, n_frames=2))
    exposures = len(room.camera.exposures_s)
    room.camera.scene.light = lambda now_s: 3100.0  # another light, for which it is still right
    outcome = room.take().outcomes[0]
    assert (outcome.present, outcome.taken) == (4, 2)
    assert len(room.series()) == 1
    # a frame of the shortest exposure, one trial, and two flats
    assert len(room.camera.exposures_s) == exposures + 4


def test_a_complete_series_is_not_taken_again(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0)
    room.take()
    exposures = len(room.camera.exposures_s)
    report = room.take()
    assert (report.outcomes[0].end, report.outcomes[0].taken) == (SeriesEnd.COMPLETE, 0)
    assert len(room.camera.exposures_s) == exposures


def test_the_plan_knows_what_is_there(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0)
    room.wheel = DirectWheel(room.scene)
    room.take(replace(RULES, n_frames=3, filters=("L",)))
    equipment = Equipment(camera=room.camera, clock=room.clock, wheel=room.wheel)
    sink = SeriesSink(directory=tmp_path)
    costs = plan_flats(equipment, SETTINGS, replace(RULES, filters=("L", "R")), sink)
    assert [(cost.frames, cost.missing) for cost in costs] == [(4, 1), (4, 4)]
    (cost,) = plan_flats(equipment, SETTINGS, replace(RULES, twilight=True, filters=("L",)), sink)
    assert (cost.missing, cost.exposure_time_s) == (4, None)
    assert cost.location.endswith("L_twilight_20261121.zarr")


def test_twilight_flats_have_the_night_of_the_noon_of_the_observatory(tmp_path: Path) -> None:
    for day, noon_utc_s in (("20261120", NOON_UTC_S), ("20261121", noon_at(151.2))):
        clock = FakeClock(datetime(2026, 11, 21, 9, 15, tzinfo=UTC))
        equipment = Equipment(camera=DirectCamera(small_sensor(), clock), clock=clock)
        rules = replace(RULES, twilight=True, noon_utc_s=noon_utc_s)
        (cost,) = plan_flats(equipment, SETTINGS, rules, SeriesSink(directory=tmp_path))
        assert cost.location.endswith(f"twilight_{day}.zarr")


def test_an_interrupt_in_a_trial_ends_the_exposure_and_the_light(tmp_path: Path) -> None:
    room = Room(tmp_path, 0.0)
    room.panel = DirectPanel(room.scene, e_per_s_per_step=10.0)

    def press() -> None:
        raise KeyboardInterrupt

    room.clock.alarms.append((0.5, press))
    with pytest.raises(KeyboardInterrupt):
        room.take()
    assert room.camera.events[-1].startswith("abort")
    assert room.scene.panel_e_per_s == 0


def test_a_begun_series_that_does_not_fit_the_light_is_left_alone(tmp_path: Path) -> None:
    room = Room(tmp_path, 3000.0)
    room.take(replace(RULES, n_frames=2))
    room.camera.scene.light = lambda now_s: 9000.0
    outcome = room.take().outcomes[0]
    assert (outcome.present, outcome.taken) == (4, 4)
    assert len(room.series()) == 2


# ---- filters, panel, cover ----


def test_each_filter_has_a_series_and_an_exposure_of_its_own(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.wheel = DirectWheel(room.scene)
    report = room.take(replace(RULES, filters=("L", "R", "r", "L")))
    assert [outcome.plan.filter_name for outcome in report.outcomes] == ["L", "R", "r"]
    assert room.wheel.turns == ["L", "R", "r"]
    assert room.levels() == pytest.approx([0.5] * 12, abs=0.1)
    exposures = {
        series.settings["filter_name"]: series.settings["exposure_time_s"] for series in room.series().values()
    }
    assert exposures["R"] / exposures["L"] == pytest.approx(1 / 0.3, rel=0.3)
    assert all(name.startswith(("L_exp_", "R_exp_", "r_exp_")) for name in room.series())


def test_a_filter_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    room = Room(tmp_path, 4500.0)
    room.wheel = DirectWheel(room.scene)
    report = room.take(replace(RULES, filters=("R", "L")))
    assert [failure.filter_name for failure in report.failures] == ["R"]
    assert [outcome.plan.filter_name for outcome in report.outcomes] == ["L"]


def test_filters_that_are_not_there_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    room = Room(tmp_path)
    with pytest.raises(DeviceError, match="there is no filter wheel"):
        room.take(replace(RULES, filters=("L",)))
    room.wheel = DirectWheel(room.scene)
    with pytest.raises(DeviceError, match="names Ha, but the wheel has L, R, r"):
        room.take(replace(RULES, filters=("L", "Ha")))
    assert room.camera.calls["start_exposure"] == 0


def test_the_filter_in_the_light_is_recorded_where_none_is_named(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.wheel = DirectWheel(room.scene)
    room.take()
    assert [series.settings["filter_name"] for series in room.series().values()] == ["L"]


@pytest.mark.parametrize("per_step", [0.5, 30.0, 5e3, 2e5])
def test_the_panel_is_made_brighter_or_darker_where_no_exposure_will_do(tmp_path: Path, per_step: float) -> None:
    room = Room(tmp_path, 0.0)
    room.panel = DirectPanel(room.scene, e_per_s_per_step=per_step, steps=4096)
    rules = replace(RULES, exposure=ExposureRules(min_exposure_s=0.05, max_exposure_s=20.0))
    report = room.take(rules)
    assert report.failures == ()
    assert all(0.4 <= level <= 0.6 for level in room.levels())
    assert room.scene.cover is CoverState.CLOSED
    assert room.panel.brightnesses[0] == 2048
    assert room.panel.brightnesses[-1] == 0
    assert room.scene.panel_e_per_s == 0


def test_an_interrupted_series_under_a_panel_comes_back_to_its_exposure(tmp_path: Path) -> None:
    room = Room(tmp_path, 0.0)
    room.panel = DirectPanel(room.scene, e_per_s_per_step=2e4, steps=4096)
    rules = replace(RULES, exposure=ExposureRules(min_exposure_s=0.05))
    room.take(replace(rules, n_frames=2))
    room.take(rules)
    assert [len(series.records) for series in room.series().values()] == [4]


def test_a_panel_that_is_never_right_is_said_and_switched_off(tmp_path: Path) -> None:
    room = Room(tmp_path, 0.0)
    room.panel = DirectPanel(room.scene, e_per_s_per_step=1e7, steps=4096)
    report = room.take(replace(RULES, exposure=ExposureRules(min_exposure_s=0.05)))
    assert "too bright" in report.failures[0].reason
    assert room.panel.brightnesses[-2:] == [1, 0]


def test_a_cover_without_a_light_opens(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.panel = DirectPanel(room.scene, steps=0)
    room.scene.cover = CoverState.CLOSED
    assert room.take().outcomes[0].is_complete
    assert room.scene.cover is CoverState.OPEN


# ---- twilight ----


def sky(rate: float, doubling_s: float) -> Callable[[float], float]:
    return lambda now_s: rate * 2.0 ** (now_s / doubling_s)


TWILIGHT = replace(RULES, twilight=True, n_frames=30, bias_level_adu=500.0)


@pytest.mark.parametrize("doubling_s", [-60.0, -150.0, 150.0, 60.0])
def test_the_exposure_follows_the_sky(tmp_path: Path, doubling_s: float) -> None:
    room = Room(tmp_path, sky(60_000.0 if doubling_s < 0 else 6000.0, doubling_s), readout_s=2.0)
    report = room.take(TWILIGHT)
    assert list(room.series()) == ["twilight_20261121"]
    (outcome,) = report.outcomes
    (series,) = room.series().values()
    asked = [record.requested_exposure_time_s for record in series.records]
    assert len(asked) >= 12
    # within 3 % of the target from the third frame on: it knows then how fast the sky changes
    assert room.levels()[3:] == pytest.approx([0.5] * (len(asked) - 3), abs=0.03)
    rising = [b > a for a, b in pairwise(asked[2:]) if a and b]
    assert all(rising) if doubling_s < 0 else not any(rising)
    assert outcome.end in (SeriesEnd.COMPLETE, SeriesEnd.STOPPED)


def test_the_evening_ends_when_the_sky_is_too_faint(tmp_path: Path) -> None:
    room = Room(tmp_path, sky(30_000.0, -60.0), readout_s=2.0)
    (outcome,) = room.take(replace(TWILIGHT, n_frames=500)).outcomes
    assert outcome.end is SeriesEnd.STOPPED
    assert "the sky is too faint for the longest exposure, 10 s" in outcome.message
    assert outcome.present > 10
    assert room.clock.now_s() < 60 * math.log2(30_000 / 1500)


def test_the_morning_ends_when_the_sky_is_too_bright(tmp_path: Path) -> None:
    room = Room(tmp_path, sky(30_000.0, 60.0), readout_s=2.0)
    rules = replace(TWILIGHT, n_frames=500, exposure=ExposureRules(min_exposure_s=0.1))
    (outcome,) = room.take(rules).outcomes
    assert outcome.end is SeriesEnd.STOPPED
    assert "the sky is too bright for the shortest exposure, 0.1 s" in outcome.message
    assert outcome.present > 10


@pytest.mark.parametrize(("rate", "doubling_s"), [(3e8, -60.0), (20.0, 60.0)])
def test_it_waits_for_a_sky_that_comes_nearer(tmp_path: Path, rate: float, doubling_s: float) -> None:
    room = Room(tmp_path, sky(rate, doubling_s), readout_s=2.0)
    rules = replace(TWILIGHT, n_frames=5, exposure=ExposureRules(min_exposure_s=0.1))
    (outcome,) = room.take(rules).outcomes
    assert (outcome.end, outcome.present) == (SeriesEnd.COMPLETE, 5)
    assert outcome.refused > 2
    assert all(0.4 <= level <= 0.6 for level in room.levels())
    assert "waiting" in room.notices[0]
    assert len(room.notices) < 6


@pytest.mark.parametrize("rate", [1e12, 0.0])
def test_a_sky_that_never_comes_is_not_waited_for_for_ever(tmp_path: Path, rate: float) -> None:
    room = Room(tmp_path, rate)
    (outcome,) = room.take(TWILIGHT).outcomes
    assert (outcome.end, outcome.present) == (SeriesEnd.STOPPED, 0)
    assert 3600 <= room.clock.now_s() <= 4500
    assert list(tmp_path.iterdir()) == []


def test_twilight_with_filters_and_a_closed_cover(tmp_path: Path) -> None:
    room = Room(tmp_path, sky(30_000.0, -150.0), readout_s=2.0)
    room.wheel = DirectWheel(room.scene)
    room.panel = DirectPanel(room.scene)
    room.scene.cover = CoverState.CLOSED
    report = room.take(replace(TWILIGHT, n_frames=3, filters=("R", "L")))
    assert list(room.series()) == ["L_twilight_20261121", "R_twilight_20261121"]
    assert all(outcome.is_complete for outcome in report.outcomes)
    assert room.scene.cover is CoverState.OPEN
    room.take(replace(TWILIGHT, n_frames=5, filters=("R", "L")))
    assert [len(series.records) for series in room.series().values()] == [5, 5]


def test_twilight_without_a_known_bias_level(tmp_path: Path) -> None:
    room = Room(tmp_path, sky(30_000.0, -150.0))
    (outcome,) = room.take(replace(TWILIGHT, n_frames=5, bias_level_adu=None)).outcomes
    assert outcome.is_complete
    assert room.camera.lights[0] is False


@pytest.mark.parametrize(
    ("steps", "has_cover", "twilight", "asked"),
    [
        (None, False, False, "the telescope must be uncovered and the flat light must be on"),
        (None, False, True, "the telescope must be uncovered and it must point at the twilight sky"),
        (0, True, False, "the flat light must be on"),
        (0, True, True, None),
        (255, True, False, None),
        (255, True, True, None),
        (255, False, False, "the telescope must be uncovered"),
        (255, False, True, "the telescope must be uncovered and it must point at the twilight sky"),
    ],
)
def test_a_person_is_asked_for_what_no_device_does(
    tmp_path: Path, steps: int | None, has_cover: bool, twilight: bool, asked: str | None
) -> None:
    room = Room(tmp_path, sky(30_000.0, -150.0) if twilight else 30_000.0)
    if steps is not None:
        room.panel = DirectPanel(room.scene, steps=steps, has_cover=has_cover)
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    rules = replace(TWILIGHT if twilight else RULES, n_frames=2)
    equipment = Equipment(camera=room.camera, clock=room.clock, cover=room.panel, ask=no)
    if asked is None:
        capture_flats(equipment, SETTINGS, rules, SeriesSink(directory=tmp_path))
        assert questions == []
        return
    with pytest.raises(DeviceError, match=f"flats were not taken: {asked}"):
        capture_flats(equipment, SETTINGS, rules, SeriesSink(directory=tmp_path))
    assert questions == [f"For flats {asked}. Is it ready?"]
    assert room.camera.calls["start_exposure"] == 0


def test_nobody_is_asked_for_the_light_of_flats_that_are_there(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.take()
    equipment = Equipment(camera=room.camera, clock=room.clock, ask=lambda question: False)
    report = capture_flats(equipment, SETTINGS, RULES, SeriesSink(directory=tmp_path))
    assert report.outcomes[0].is_complete


@given(
    rate=st.floats(100, 1e6), slope=st.floats(-0.01, 0.01), signal=st.floats(1e3, 5e4), ahead_s=st.floats(0, 60),
    spacing_s=st.floats(5, 60),
)  # fmt: skip
def test_the_predicted_exposure_collects_the_signal(
    rate: float, slope: float, signal: float, ahead_s: float, spacing_s: float
) -> None:
    rates = [SkyRate(at_s=at_s, adu_per_s=rate * math.exp(slope * at_s)) for at_s in (0.0, spacing_s)]
    assert log_slope(rates) == pytest.approx(slope, abs=1e-9)
    start_s = spacing_s + ahead_s
    exposure_s = exposure_for(rates, signal, start_s)
    if math.isinf(exposure_s):
        assert slope < 0
        assert rate * math.exp(slope * start_s) / -slope <= signal * 1.001
        return
    moments = np.linspace(start_s, start_s + exposure_s, 2001)
    collected = np.trapezoid(rate * np.exp(slope * moments), moments)
    assert collected == pytest.approx(signal, rel=1e-3)


def test_a_light_of_the_search_is_said() -> None:
    choice, _ = find(small_sensor(), 1e9, RULES, 1.0)
    assert isinstance(choice, GiveUp)
    assert choice.light is LightProblem.TOO_BRIGHT


@pytest.mark.parametrize(("end", "gain"), [(4095, 15.0), (16383, 4.0)])
@pytest.mark.parametrize("start_s", [0.05, 8.0])
def test_a_camera_that_reports_a_wrong_end_of_its_range_has_flats_at_the_level_of_the_true_one(
    end: int, gain: float, start_s: float
) -> None:
    sensor = small_sensor(max_adu=end, gain_e_per_adu=gain, bias_level_adu=100.0, full_well_e=1e6)
    clock = FakeClock()
    camera = DirectCamera(sensor, clock, Scene(light=lambda now_s: 0.4 * end * gain), max_adu=FULL)
    notices: list[str] = []
    equipment = Equipment(camera=camera, clock=clock, watcher=CaptureWatcher(notice=notices.append))
    choice = find_exposure(Exposer(camera, clock, RetryRules()), RULES, equipment, start_s)
    assert isinstance(choice, Accept), choice
    assert 0.35 <= 0.4 * choice.exposure_s * float(sensor.response().mean()) <= 0.65
    assert any(f"pile up at {end} ADU: full scale is {end} ADU" in notice for notice in notices)


def test_the_stated_full_scale_counts_for_the_exposure(tmp_path: Path) -> None:
    room = Room(tmp_path, 4000.0)
    room.take(replace(RULES, full_scale_adu=20_000))
    assert room.levels() == pytest.approx([0.5 * 20_000 / FULL] * 4, abs=0.01)
