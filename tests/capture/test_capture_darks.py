"""Bias frames and darks: which exposures, what they cost, and darkness before the first of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.capture.budget import StepPlan, check_room, free_bytes
from ostcal.capture.darks import (
    DarkRules,
    capture_darks,
    dark_exposures,
    find_bias_level,
    flat_exposures,
    plan_darks,
)
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import Equipment, RetryRules, SeriesEnd, SeriesOutcome, SeriesPlan, SeriesSink
from ostcal.devices.protocols import CoverState
from ostcal.errors import DeviceError, StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.naming import series_name
from ostcal.series.reader import open_series
from support.direct_camera import DirectCamera, DirectPanel, FakeClock, Faults, Scene, small_sensor
from support.fits_samples import write_frame

SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
RULES = DarkRules(n_frames=3, science_exposure_s=4.0, factors=(0.5, 1.0), flat_exposures_s=(1.0,))


def equipment_of(
    camera: DirectCamera,
    clock: FakeClock,
    *,
    cover: DirectPanel | None = None,
    ask: Callable[[str], bool] | None = None,
) -> Equipment:
    return Equipment(camera=camera, clock=clock, cover=cover, ask=ask)


def take(
    folder: Path, rules: DarkRules = RULES, *, scene: Scene | None = None, cover: DirectPanel | None = None,
    ask: Callable[[str], bool] | None = None, faults: Faults | None = None, **camera: Any,
) -> tuple[DirectCamera, tuple[SeriesOutcome, ...]]:  # fmt: skip
    """Take darks with a camera of its own."""
    clock = FakeClock()
    device = DirectCamera(small_sensor(), clock, scene, faults=faults, **camera)
    equipment = equipment_of(device, clock, cover=cover, ask=ask)
    sink = SeriesSink(directory=folder)
    plan = plan_darks(equipment, SETTINGS, rules, sink)
    return device, capture_darks(equipment, plan, sink)


# ---- exposures ----


def exposures(rules: DarkRules, low_s: float = 0.0, high_s: float = 3600.0) -> tuple[float, ...]:
    camera = DirectCamera(small_sensor(), FakeClock(), exposure_limits_s=(low_s, high_s))
    return dark_exposures(rules, camera.info).exposures_s


def test_exposures_are_bias_flats_and_science_times_each_factor() -> None:
    assert exposures(DarkRules()) == (0.001, 1.0, 2.5, 5.0, 10.0, 20.0)


def test_each_exposure_is_taken_once() -> None:
    assert exposures(DarkRules(flat_exposures_s=(2.5, 5.0001, 0.001))) == (0.001, 2.5, 5.0, 10.0, 20.0)


def test_exposures_outside_the_limits_are_left_out_and_named() -> None:
    camera = DirectCamera(small_sensor(), FakeClock(), exposure_limits_s=(0.01, 8.0))
    found = dark_exposures(DarkRules(flat_exposures_s=(0.005,)), camera.info)
    assert found.exposures_s == (0.01, 2.5, 5.0)
    assert len(found.left_out) == 3
    assert "0.005 s (flats) are left out: 0.01 s to 8 s are possible" in found.left_out[0]
    assert "10 s (science frames x 2)" in found.left_out[1]


@given(
    science_s=st.floats(1e-3, 600),
    factors=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    flats=st.lists(st.floats(1e-5, 100), max_size=4),
)
def test_exposures_rise_within_the_limits_and_differ(
    science_s: float, factors: list[float], flats: list[float]
) -> None:
    rules = DarkRules(science_exposure_s=science_s, factors=tuple(factors), flat_exposures_s=tuple(flats))
    found = exposures(rules)
    assert found[0] == rules.min_exposure_s
    assert all(later - earlier > 0.9e-3 * later for earlier, later in pairwise(found))
    assert found[-1] <= rules.max_exposure_s


# ---- the exposure of the flats ----


def test_the_configured_exposure_of_the_flats_comes_first(tmp_path: Path) -> None:
    assert flat_exposures(0.7, [tmp_path]) == (0.7,)


def test_the_exposures_of_flats_come_from_their_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock)
    for exposure_s, filter_name in ((0.8, "L"), (2.4, "R"), (2.4001, "G")):
        plan = SeriesPlan(
            name=series_name(exposure_s, filter_name), frame_type=FrameType.FLAT, exposure_time_s=exposure_s,
            n_frames=2, settings=SETTINGS, light=True, filter_name=filter_name,
        )  # fmt: skip
        capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, equipment_of(camera, clock).watcher)
    assert flat_exposures(None, [tmp_path]) == pytest.approx((0.8, 2.40005))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_exposures_of_flats_come_from_fits_headers(tmp_path: Path) -> None:
    for number in range(3):
        write_frame(
            tmp_path / f"flat_{number}.fits", np.full((8, 9), 30_000 + number, np.uint16),
            IMAGETYP="Flat Field", EXPTIME=1.25,
        )  # fmt: skip
    write_frame(tmp_path / "dark.fits", np.zeros((8, 9), np.uint16), IMAGETYP="Dark Frame", EXPTIME=60.0)
    assert flat_exposures(None, [tmp_path]) == (1.25,)


def test_twilight_flats_give_their_median_exposure(tmp_path: Path) -> None:
    for number in range(3):
        write_frame(
            tmp_path / f"flat_{number}.fits", np.full((8, 9), 30_000 + number, np.uint16),
            IMAGETYP="Flat Field", EXPTIME=1.0 + number,
        )  # fmt: skip
    assert flat_exposures(None, [tmp_path]) == (2.0,)


def test_without_flats_one_second_is_guessed_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert flat_exposures(None, [tmp_path / "absent"]) == (1.0,)
    assert "set dark_capture.flat_exposure_time" in caplog.text


# ---- the plan and the disk ----


def test_the_plan_says_frames_time_and_space(tmp_path: Path) -> None:
    clock = FakeClock()
    equipment = equipment_of(DirectCamera(small_sensor(), clock), clock)
    sink = SeriesSink(directory=tmp_path, compressor="none", export_frames=True)
    plan = plan_darks(equipment, SETTINGS, RULES, sink)
    assert [(cost.exposure_time_s, cost.frames, cost.missing) for cost in plan.costs] == [
        (0.001, 3, 3), (1.0, 3, 3), (2.0, 3, 3), (4.0, 3, 3),
    ]  # fmt: skip
    table = StepPlan(step="darks", costs=plan.costs)
    assert table.n_bytes == 4 * 3 * 2 * (48 * 40 * 2)
    assert table.time_s == pytest.approx(3 * 7.001 + 12 * 0.1, abs=0.01)
    capture_darks(equipment, plan, sink)
    assert not any(cost.n_bytes for cost in plan_darks(equipment, SETTINGS, RULES, sink).costs)


def test_too_little_disk_is_an_error_before_the_first_frame(tmp_path: Path) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock)
    equipment = equipment_of(camera, clock)
    sink = SeriesSink(directory=tmp_path / "night" / "darks")
    frames = free_bytes(tmp_path) // (48 * 40)
    plan = plan_darks(equipment, SETTINGS, replace(RULES, n_frames=frames), sink)
    with pytest.raises(StorageError, match=r"the frames need about [\d.]+ GB .* free space, take fewer frames"):
        capture_darks(equipment, plan, sink)
    assert camera.calls["start_exposure"] == 0


def test_a_plan_of_what_is_incomplete_knows_the_bias_level_of_the_series_on_disk(tmp_path: Path) -> None:
    clock = FakeClock()
    scene = Scene()
    equipment = equipment_of(DirectCamera(small_sensor(), clock, scene, has_shutter=False), clock)
    sink = SeriesSink(directory=tmp_path)
    capture_darks(equipment, plan_darks(equipment, SETTINGS, RULES, sink), sink)
    more = replace(RULES, flat_exposures_s=(1.0, 3.0), factors=())
    plan = plan_darks(equipment, SETTINGS, more, sink)
    assert [cost.missing for cost in plan.costs] == [0, 0, 3]
    missing = plan.incomplete()
    assert [series.exposure_time_s for series in missing.series] == [3.0]
    assert [cost.missing for cost in missing.costs] == [3]
    (outcome,) = capture_darks(equipment, missing, sink)
    assert outcome.is_complete
    checks = open_series(tmp_path / "exp_3.000s.zarr").records[0].checks
    assert "light above bias" in {check.name for check in checks}


def test_nothing_to_take_needs_no_room(tmp_path: Path) -> None:
    check_room(SeriesSink(directory=tmp_path), [])


# ---- the way through all series ----


def test_all_series_are_taken_shortest_first(tmp_path: Path) -> None:
    camera, outcomes = take(tmp_path)
    assert [outcome.end for outcome in outcomes] == [SeriesEnd.COMPLETE] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "exp_0.001s.zarr", "exp_1.000s.zarr", "exp_2.000s.zarr", "exp_4.000s.zarr",
    ]  # fmt: skip
    kinds = [open_series(path).frame_type for path in sorted(tmp_path.iterdir())]
    assert kinds == [FrameType.BIAS, FrameType.DARK, FrameType.DARK, FrameType.DARK]
    assert not any(camera.lights)
    assert camera.exposures_s == sorted(camera.exposures_s)
    assert find_bias_level([tmp_path], SETTINGS, (40, 48)) == pytest.approx(500, abs=1)
    assert find_bias_level([tmp_path], replace(SETTINGS, gain=7.0), (40, 48)) is None
    checks = open_series(tmp_path / "exp_4.000s.zarr").records[0].checks
    assert "light above bias" in {check.name for check in checks}


def test_a_series_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    faults = Faults().fail("start_exposure", 5, 6)
    rules = replace(RULES, retry=RetryRules(attempts=2, backoff_s=1.0))
    _, outcomes = take(tmp_path, rules, faults=faults)
    assert [outcome.end for outcome in outcomes] == [
        SeriesEnd.COMPLETE, SeriesEnd.CAMERA_FAILED, SeriesEnd.COMPLETE, SeriesEnd.COMPLETE,
    ]  # fmt: skip
    assert outcomes[1].present == 1
    _, again = take(tmp_path)
    assert [outcome.taken for outcome in again] == [0, 2, 0, 0]


# ---- darkness ----


def test_a_cover_closes_for_darks(tmp_path: Path) -> None:
    scene = Scene(light=lambda now_s: 1e5)
    panel = DirectPanel(scene)
    panel.light_on(100)
    _, outcomes = take(tmp_path, scene=scene, cover=panel, has_shutter=False)
    assert scene.cover is CoverState.CLOSED
    assert panel.brightnesses[-1] == 0
    assert all(outcome.warnings == () for outcome in outcomes)


def test_a_cover_that_does_not_close_is_an_error(tmp_path: Path) -> None:
    scene = Scene()
    panel = DirectPanel(scene)
    panel.is_stuck = True
    with pytest.raises(DeviceError, match="the cover did not close"):
        take(tmp_path, scene=scene, cover=panel)


def test_a_shutter_needs_no_question(tmp_path: Path) -> None:
    camera, _ = take(tmp_path, scene=Scene(light=lambda now_s: 1e5), ask=lambda text: False)
    assert camera.calls["start_exposure"] == 12


def test_without_shutter_and_cover_a_person_is_asked_and_the_frame_is_looked_at(tmp_path: Path) -> None:
    questions: list[str] = []

    def yes(text: str) -> bool:
        questions.append(text)
        return True

    camera, outcomes = take(tmp_path, ask=yes, has_shutter=False)
    assert len(questions) == 1
    assert "Is it covered?" in questions[0]
    assert camera.exposures_s[:2] == [0.001, 1.0]
    assert all(outcome.is_complete for outcome in outcomes)


@pytest.mark.parametrize("rate", [300.0, 3e4, 3e8])
def test_a_cover_that_was_forgotten_is_found_out_and_asked_for_again(tmp_path: Path, rate: float) -> None:
    scene = Scene(light=lambda now_s: rate)
    questions: list[str] = []

    def late(text: str) -> bool:
        questions.append(text)
        if len(questions) == 2:
            scene.light = lambda now_s: 0.0
        return True

    _, outcomes = take(tmp_path, scene=scene, ask=late, has_shutter=False)
    assert "There is light" in questions[1]
    assert all(outcome.is_complete for outcome in outcomes)


def test_with_nobody_to_ask_it_is_said_what_must_be_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, outcomes = take(tmp_path, has_shutter=False)
    assert all(outcome.is_complete for outcome in outcomes)
    assert "nobody is asked: the telescope or the camera must be covered now" in caplog.text


def test_light_with_nobody_to_ask_is_an_error_before_the_first_dark(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"darks were not taken: .* light may reach the sensor; cover the telescope"):
        take(tmp_path, scene=Scene(light=lambda now_s: 3000.0), has_shutter=False)
    assert list(tmp_path.iterdir()) == []


def test_a_person_who_says_no_or_never_covers_it_ends_it(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="the camera is not covered"):
        take(tmp_path, ask=lambda text: False, has_shutter=False)
    with pytest.raises(DeviceError, match="darks were not taken"):
        take(tmp_path, scene=Scene(light=lambda now_s: 3e4), ask=lambda text: True, has_shutter=False)


def test_nobody_is_asked_where_nothing_is_missing(tmp_path: Path) -> None:
    take(tmp_path, ask=lambda text: True, has_shutter=False)
    _, outcomes = take(tmp_path, ask=lambda text: False, has_shutter=False)
    assert all(outcome.taken == 0 for outcome in outcomes)
