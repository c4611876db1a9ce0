"""Frames until they are enough: the number is the analytic one of a sensor whose noise is known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal import DarkCapture, FlatCapture, load_config
from ostcal.capture.auto_exposure import ExposureRules
from ostcal.capture.camera_noise import find_noise_series, noise_on_disk
from ostcal.capture.darks import DarkRules, capture_darks, plan_darks
from ostcal.capture.enough import clipped, frames_needed, share_added
from ostcal.capture.flats import FlatRules, capture_flats
from ostcal.capture.series_plan import CaptureNight, CaptureWatcher, Equipment, NoiseTarget, SeriesOutcome, SeriesSink
from ostcal.clock import FastClock
from ostcal.devices.alpaca import AlpacaCamera, AlpacaCoverCalibrator, AlpacaFilterWheel
from ostcal.errors import ConfigError
from ostcal.frames import CameraSettings, FrameType
from ostcal.series.reader import open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.sensor import SENSORS, CosmicRays, DarkCurrent
from ostcal.simulator.server import SimulatedObservatory
from support.direct_camera import AMBIENT_C, START, DirectCamera, FakeClock, Scene, small_sensor
from support.folders import ROOT

SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
READ_E, DARK_E_PER_S = 3.0, 2.0
SENSOR = small_sensor(
    width=256, height=192, dark=DarkCurrent(rate_e_per_s=DARK_E_PER_S, reference_temperature_c=AMBIENT_C)
)
STEP_VARIANCE = 1 / 12
"""Of whole ADU; the gain is 1 e-/ADU."""


def variance(exposure_s: float, sky_e_per_s: float = 0.0) -> float:
    """Return the true variance of a sample in ADU^2."""
    return READ_E**2 + (DARK_E_PER_S + sky_e_per_s) * exposure_s + STEP_VARIANCE


def analytic(share: float, light: float, frame: float) -> float:
    return frame / (light * ((1 + share) ** 2 - 1))


# ---- the formula ----


@given(st.floats(0.005, 0.5), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_the_number_is_the_smallest_that_reaches_the_share(share: float, light: float, frame: float) -> None:
    number = frames_needed(share, light, frame)
    assert share_added(number, light, frame) <= share * (1 + 1e-9)
    if number > 1:
        assert share_added(number - 1, light, frame) > share


def test_hot_pixels_do_not_count_as_noise() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, 100_000)
    values[::500] += 1000.0
    mean, found = clipped(values)
    assert mean == pytest.approx(10.0, abs=0.05)
    assert found == pytest.approx(4.0, rel=0.02)


# ---- series ----


class Rig:
    """A camera, and the notices of its captures."""

    def __init__(self, folder: Path, seed: int = 1, **camera: Any) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.camera = DirectCamera(SENSOR, self.clock, Scene(light=lambda now_s: 3000.0), seed=seed, **camera)
        self.notices: list[str] = []
        self.planned: list[int] = []

    def darks(self, target: NoiseTarget, exposure_s: float = 10.0, **rules: Any) -> dict[str, SeriesOutcome]:
        equipment = self.equipment
        wanted = DarkRules(
            n_frames=target.max_frames, science_exposure_s=exposure_s, factors=(1.0,), flat_exposures_s=(),
            target=target, measured_in=(str(self.folder),), **rules,
        )  # fmt: skip
        sink = SeriesSink(directory=self.folder, night=CaptureNight(night=START.date(), noon_utc_s=43200.0))
        plan = plan_darks(equipment, SETTINGS, wanted, sink)
        self.planned = [cost.frames for cost in plan.costs]
        return {str(one.plan.frame_type): one for one in capture_darks(equipment, plan, sink)}

    @property
    def equipment(self) -> Equipment:
        watcher = CaptureWatcher(notice=self.notices.append)
        return Equipment(camera=self.camera, clock=self.clock, watcher=watcher)


@pytest.mark.parametrize(("share", "sky"), [(0.1, 0.0), (0.02, 0.0), (0.01, 0.0), (0.005, 1.0), (0.01, 5.0)])
def test_darks_end_within_one_frame_of_the_analytic_number(tmp_path: Path, share: float, sky: float) -> None:
    rig = Rig(tmp_path)
    target = NoiseTarget(noise_share=share, science_exposure_s=10.0, sky_e_per_s=sky, min_frames=2, max_frames=300)
    outcomes = rig.darks(target)
    light = variance(10.0, sky)
    for kind, frame in (("bias", variance(0.001)), ("dark", variance(10.0))):
        taken, number = outcomes[kind].present, analytic(share, light, frame)
        assert outcomes[kind].is_complete
        assert abs(taken - max(number, 2)) <= 1 + 0.5 * (number > 2)
        if taken > 8:  # few frames reach more than is asked
            reached = math.sqrt(1 + frame / (taken * light)) - 1
            assert reached == pytest.approx(share, rel=0.05)
    assert rig.planned == pytest.approx([outcomes["bias"].present, outcomes["dark"].present], abs=3)


def test_darks_for_a_light_of_another_exposure(tmp_path: Path) -> None:
    target = NoiseTarget(noise_share=0.02, light_exposure_s=40.0, science_exposure_s=10.0, min_frames=2)
    outcomes = Rig(tmp_path).darks(target)
    number = analytic(0.02, variance(40.0), variance(10.0))
    assert abs(outcomes["dark"].present - number) <= 1.5


def test_what_is_enough_is_not_taken_again_and_more_is_taken_for_a_smaller_share(tmp_path: Path) -> None:
    target = NoiseTarget(noise_share=0.02, science_exposure_s=10.0, min_frames=2)
    first = Rig(tmp_path).darks(target)
    rig = Rig(tmp_path, seed=2)
    assert {kind: one.taken for kind, one in rig.darks(target).items()} == {"bias": 0, "dark": 0}
    assert rig.camera.exposures_s == []  # the series on disk say the noise
    smaller = replace(target, noise_share=0.015)
    more = Rig(tmp_path, seed=3).darks(smaller)["dark"]
    assert more.taken == more.present - first["dark"].present
    assert abs(more.present - analytic(0.015, variance(10.0), variance(10.0))) <= 1.5


def test_limits_end_it_and_a_share_that_is_not_reached_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = NoiseTarget(noise_share=0.001, science_exposure_s=10.0, min_frames=2, max_frames=9)
    outcomes = Rig(tmp_path / "most").darks(target)
    assert {one.present for one in outcomes.values()} == {9}
    assert "max_frames (9) of the target ends it" in caplog.text
    target = NoiseTarget(noise_share=0.9, science_exposure_s=10.0, min_frames=7)
    assert {one.present for one in Rig(tmp_path / "least").darks(target).values()} == {7}


def test_the_way_of_the_noise_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.darks(NoiseTarget(noise_share=0.02, science_exposure_s=10.0, min_frames=2))
    lines = [line for line in rig.notices if line.startswith("exp_10.000s: the master of")]
    shares = [float(line.partition("adds ")[2].partition(" %")[0]) for line in lines]
    assert len(lines) >= 5
    assert shares == sorted(shares, reverse=True)
    assert lines[-1].endswith("enough")
    assert any(line.startswith("read noise 3.0") for line in rig.notices)


def test_flats_end_within_one_frame_of_the_analytic_number(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.darks(NoiseTarget(noise_share=0.1, science_exposure_s=10.0))
    there = find_noise_series([str(tmp_path)], SETTINGS, rig.camera.frame_shape(), None)
    noise = noise_on_disk(there, 1.0)
    assert noise is not None
    assert noise.read_variance_adu2 == pytest.approx(READ_E**2 + STEP_VARIANCE, rel=0.01)
    assert noise.dark_adu_per_s == pytest.approx(DARK_E_PER_S, rel=0.02)
    target = NoiseTarget(noise_share=0.02, light_exposure_s=100.0, sky_e_per_s=200.0, min_frames=2)
    rules = FlatRules(exposure=ExposureRules(), bias_level_adu=500.0, target=target, noise=noise, n_frames=200)
    (outcome,) = capture_flats(rig.equipment, SETTINGS, rules, SeriesSink(directory=tmp_path / "flats")).outcomes
    level = (outcome.level_adu or 0.0) - 500.0
    sky = 200.0 * 100.0
    number = analytic(0.02, variance(100.0, 200.0), (level + variance(0.0)) * (sky / level) ** 2)
    assert number > 10
    assert abs(outcome.present - number) <= 1.5
    (again,) = capture_flats(rig.equipment, SETTINGS, rules, SeriesSink(directory=tmp_path / "flats")).outcomes
    assert again.taken == 0
    lit = find_noise_series([str(tmp_path)], SETTINGS, rig.camera.frame_shape(), None)
    measured = noise_on_disk(lit, None)
    assert measured is not None
    assert measured.gain_e_per_adu == pytest.approx(1.0, rel=0.02)


# ---- over HTTP ----


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    sensor = replace(SENSORS["demo"], name="medium", width=300, height=200, cosmic_rays=CosmicRays(rate_per_cm2_s=0.1))
    with SimulatedObservatory(SimulatorOptions(sensor=sensor, time_scale=200.0, seed=4, readout_s=0.1)) as simulated:
        yield simulated


def test_auto_takes_what_the_simulated_camera_needs(tmp_path: Path, observatory: SimulatedObservatory) -> None:
    target = {"noise_share": 0.02, "sky": 0.5}
    config = {
        "dark_capture": {
            "num_darks": "auto", "target": target, "science_exposure_time": 4.0, "exposure_factors": [1.0],
            "flat_exposure_time": 4.0, "output_dir": str(tmp_path / "darks"),
        },
        "flat_capture": {
            "num_flats": "auto", "target": {"noise_share": 0.01, "sky": 100.0, "light_exposure": 100.0},
            "output_dir": str(tmp_path / "flats"),
        },
    }  # fmt: skip
    port = observatory.port
    with (
        AlpacaCamera("127.0.0.1", port) as camera,
        AlpacaFilterWheel("127.0.0.1", port, 0) as wheel,
        AlpacaCoverCalibrator("127.0.0.1", port, 0) as cover,
    ):
        equipment = Equipment(camera=camera, clock=FastClock(200.0), wheel=wheel, cover=cover)
        plans: list[int] = []

        def planned(plan: Any) -> bool:
            plans.extend(cost.frames for cost in plan.costs)
            return True

        darks, flats = DarkCapture(config, planned=planned), FlatCapture(config)
        darks.initialize(equipment)
        status = darks.capture_darks()
        flats.initialize(equipment)
        lit = flats.capture_flats()
        gain = camera.info.electrons_per_adu
    assert not status.is_error, status.message
    assert not lit.is_error, lit.message
    taken = {open_series(path).frame_type: len(open_series(path).records) for path in status.data["series"]}
    sensor = SENSORS["demo"]
    assert gain is not None
    dark_e = sensor.dark.rate_e_per_s * 2 ** ((18.0 - sensor.dark.reference_temperature_c) / sensor.dark.doubling_c)
    read, dark, sky = (sensor.read_noise_e / gain) ** 2 + 1 / 12, dark_e * 4.0 / gain**2, 0.5 * 4.0 / gain**2
    for kind, frame in ((FrameType.BIAS, read), (FrameType.DARK, read + dark)):
        number = analytic(0.02, read + dark + sky, frame)
        assert abs(taken[kind] - max(5, number)) <= 1.5, (kind, number)
    assert plans == pytest.approx([taken[FrameType.BIAS], taken[FrameType.DARK]], abs=2)


def test_each_point_of_a_matrix_has_its_own_number(tmp_path: Path, observatory: SimulatedObservatory) -> None:
    share, sky = 0.02, 0.5
    config = {
        "dark_capture": {
            "num_darks": "auto", "target": {"noise_share": share, "sky": sky, "light_exposure": 20.0, "min_frames": 2},
            "science_exposure_time": 4.0, "output_dir": str(tmp_path / "darks"),
            "matrix": {"exposures": [4.0, 20.0], "binnings": [1, 2], "temperatures": [18.0]},
        },
        "flat_capture": {"output_dir": str(tmp_path / "flats")},
        "video": {"cooling": {"steady_time": 1.0}},
    }  # fmt: skip
    planned: list[int] = []

    def show(plan: Any) -> bool:
        planned.append(sum(cost.missing for cost in plan.costs))
        return True

    with (
        AlpacaCamera("127.0.0.1", observatory.port) as camera,
        AlpacaCoverCalibrator("127.0.0.1", observatory.port, 0) as cover,
    ):
        darks = DarkCapture(config, planned=show)
        equipment = Equipment(camera=camera, clock=FastClock(200.0), cover=cover)
        darks.initialize(equipment)
        status = darks.capture_darks()
        gain = camera.info.electrons_per_adu
        again = darks.capture_darks()
    assert not status.is_error, status.message
    assert again.details["taken"] == 0
    assert planned[1] == 0
    assert gain is not None
    sensor = SENSORS["demo"]
    dark_e = sensor.dark.rate_e_per_s * 2 ** ((18.0 - sensor.dark.reference_temperature_c) / sensor.dark.doubling_c)
    found = {}
    for path in status.data["series"]:
        series = open_series(path)
        bin_x = series.settings["binning"][0]
        found[bin_x, series.settings["exposure_time_s"]] = len(series.records)
    read, dark = (sensor.read_noise_e / gain) ** 2 + 1 / 12, dark_e / gain**2
    light = read + 20.0 * dark + 20.0 * sky / gain**2
    for exposure_s in (4.0, 20.0):
        number = analytic(share, light, read + exposure_s * dark)
        assert abs(found[1, exposure_s] - number) <= 1.5, (exposure_s, number, found)
    assert len(found) == 6
    assert len({found[1, exposure_s] for exposure_s in (4.0, 20.0)}) == 2


# ---- the configuration ----


def test_auto_and_its_target_are_read() -> None:
    config = load_config({"dark_capture": {"num_darks": "auto", "target": {"noise_share": 0.05, "max_frames": 60}}})
    assert (config.dark_capture.num_darks, config.dark_capture.frames) == ("auto", 60)
    assert load_config().dark_capture.frames == 40


@pytest.mark.parametrize(("keys", "line"), [
    ({"num_darks": "many"}, r"num_darks: many is not allowed; write auto or a whole number of at least 1"),
    ({"target": {"noise_share": 0}}, r"target.noise_share: 0 is not allowed"),
    ({"target": {"min_frames": 9, "max_frames": 5}}, r"target.max_frames: 5 is not allowed; it must not be below"),
])  # fmt: skip
def test_a_wrong_target_is_one_line(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load_config({"dark_capture": keys})


def test_the_table_of_the_page_is_that_of_the_formula() -> None:
    page = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d+) \| (\d+) \| (\d+) \|$", page, flags=re.MULTILINE)
    assert len(rows) == 4
    for share, equal, twice in rows:
        assert frames_needed(float(share), 1.0, 1.0) == int(equal)
        assert frames_needed(float(share), 4.0, 1.0) == int(twice)
