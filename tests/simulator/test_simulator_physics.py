"""What the simulated devices do: temperature, light, time, and the same frames from the same seed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import ConfigError, DeviceError
from ostcal.simulator.cooler import DRIFT_C, MOST_BELOW_AMBIENT_C, RAMP_C_PER_S, Cooler
from ostcal.simulator.exposing import (
    AbandonedError,
    FrameMaker,
    FramePlan,
    NoiseStock,
    Window,
    frame_generator,
)
from ostcal.simulator.light import LightPath, Sky
from ostcal.simulator.options import CoverKind, ImageElement, Light, SimulatorOptions, Twilight
from ostcal.simulator.sensor import SENSORS, CosmicRays, Exposure
from ostcal.simulator.server import SimulatedObservatory
from support.simulator_client import SMALL, Client

SETTLED_S = 100_000.0


# Cooler


def test_the_temperature_takes_time_to_reach_the_set_point() -> None:
    cooler = Cooler(ambient_c=18.0, drift_phase=0.0)
    cooler.aim(0.0, -10.0)
    assert cooler.temperature_c(50.0) == pytest.approx(18, abs=DRIFT_C)
    cooler.switch(0.0, on=True)
    assert cooler.temperature_c(40.0) == pytest.approx(18 - 40 * RAMP_C_PER_S, abs=DRIFT_C)
    assert cooler.power_percent(40.0) == 100
    assert cooler.temperature_c(100.0) > -9
    assert cooler.temperature_c(300.0) == pytest.approx(-10, abs=DRIFT_C + 0.01)
    assert cooler.power_percent(300.0) == pytest.approx(100 * 28 / 40, abs=0.1)
    assert cooler.sensor_c(300.0) == -10.0
    cooler.switch(300.0, on=False)
    assert cooler.power_percent(310.0) == 0
    assert -10 < cooler.sensor_c(310.0) < 0
    assert cooler.sensor_c(1000.0) == 18.0


def test_the_temperature_drifts() -> None:
    cooler = Cooler(ambient_c=18.0, drift_phase=0.3)
    seen = [cooler.temperature_c(SETTLED_S + 10 * step) for step in range(30)]
    assert 0.1 < np.ptp(seen) <= 2 * DRIFT_C


def test_a_set_point_out_of_reach_is_not_reached() -> None:
    cooler = Cooler(ambient_c=18.0, drift_phase=0.0)
    cooler.aim(0.0, -40.0)
    cooler.switch(0.0, on=True)
    assert cooler.sensor_c(SETTLED_S) == 18 - MOST_BELOW_AMBIENT_C
    assert cooler.power_percent(SETTLED_S) == 100


@given(
    times=st.lists(st.floats(0, 400), min_size=1, max_size=6),
    goals=st.lists(st.floats(-45, 30), min_size=6, max_size=6),
)
def test_the_temperature_never_jumps(times: list[float], goals: list[float]) -> None:
    cooler = Cooler(ambient_c=18.0, drift_phase=0.0)
    cooler.switch(0.0, on=True)
    now_s = 0.0
    for step_s, goal_c in zip(times, goals, strict=False):
        before_c = cooler.temperature_c(now_s)
        cooler.aim(now_s, goal_c)
        assert cooler.temperature_c(now_s) == pytest.approx(before_c)
        away_c = abs(cooler.temperature_c(now_s + step_s) - before_c)
        assert away_c <= RAMP_C_PER_S * step_s + 2 * DRIFT_C + 1e-9
        now_s += step_s


def test_the_camera_cools() -> None:
    options = SimulatorOptions(sensor=SMALL, time_scale=1000)
    with SimulatedObservatory(options) as observatory, Client(observatory.url).connect() as client:
        warm = client.expose(5.0, light=False)
        client.put("setccdtemperature", SetCCDTemperature=-10)
        client.put("cooleron", CoolerOn=True)
        assert client.get("cooleron") is True
        client.wait_for_temperature(-10)
        assert 60 < client.get("coolerpower") < 80
        assert client.get("heatsinktemperature") > 20
        cold = client.expose(5.0, light=False)
        temperatures = [frame.exposure.temperature_c for frame in observatory.delivered_frames.values()]
        assert temperatures == [18.0, -10.0]
        assert warm.mean() > cold.mean() + 20


# Light


class Door:
    """A cover of which a test says what it lets through."""

    def __init__(self, *, opened: bool, panel: float) -> None:
        self._opened = opened
        self._panel = panel

    def lets_sky_in(self, now_s: float) -> bool:
        return self._opened

    def panel_share(self, now_s: float) -> float:
        return self._panel


@pytest.mark.parametrize(("opened", "panel", "expected"), [(True, 0.0, 20), (False, 0.0, 0), (False, 0.5, 50)])
def test_light_comes_from_the_sky_or_from_the_panel(opened: bool, panel: float, expected: float) -> None:
    path = LightPath(Light(sky_e_per_s=20, panel_e_per_s=100), Door(opened=opened, panel=panel), None)
    assert path.illumination_e_per_s(0, 1) == expected
    assert path.filter_name() is None


@pytest.mark.parametrize("twilight", list(Twilight))
def test_the_sky_changes_while_it_is_exposed(twilight: Twilight) -> None:
    """The mean over an exposure is the integral of an exponential, here against a sum of many short ones."""
    sky = Sky(Light(twilight=twilight, twilight_start_e_per_s=1000, twilight_fold_s=100))
    assert sky.mean_e_per_s(50, 50) == 1000, "twilight begins when it is first looked at"
    parts = [sky.mean_e_per_s(60 + step, 61 + step) for step in range(40)]
    assert sky.mean_e_per_s(60, 100) == pytest.approx(np.mean(parts), rel=1e-12)
    expected = np.exp((-0.1, 0.1)[twilight is Twilight.DAWN])
    assert sky.mean_e_per_s(60, 60) == pytest.approx(1000 * expected)
    assert np.isfinite(sky.mean_e_per_s(0, 1e6))


@contextmanager
def running(options: SimulatorOptions) -> Iterator[tuple[SimulatedObservatory, Client]]:
    with SimulatedObservatory(options) as observatory, Client(observatory.url).connect() as client:
        yield observatory, client


def test_frames_depend_on_panel_cover_and_filter() -> None:
    with (
        running(SimulatorOptions(sensor=SMALL, time_scale=2000)) as (observatory, camera),
        Client(observatory.url, "covercalibrator").connect() as cover,
        Client(observatory.url, "filterwheel").connect() as wheel,
    ):
        sky = camera.expose(1.0).mean()
        shut = camera.expose(1.0, light=False).mean()
        cover.put("closecover")
        cover.wait("covermoving", False)
        covered = camera.expose(1.0).mean()
        cover.put("calibratoron", Brightness=255)
        cover.wait("calibratorchanging", False)
        bright = camera.expose(1.0).mean()
        cover.put("calibratoron", Brightness=51)
        dim = camera.expose(1.0).mean()
        wheel.put("position", Position=1)
        wheel.wait("position", 1)
        red = camera.expose(1.0).mean()
        names = [frame.exposure.filter_name for frame in observatory.delivered_frames.values()]
    assert names == ["L"] * 5 + ["R"]
    assert covered == pytest.approx(shut, abs=1)
    assert (sky - shut) / (bright - shut) == pytest.approx(20 / 50, rel=0.01)
    assert (dim - shut) / (bright - shut) == pytest.approx(51 / 255, rel=0.01)
    assert (red - shut) / (dim - shut) == pytest.approx(0.3, rel=0.03)


def test_without_a_shutter_a_dark_needs_a_cover() -> None:
    with (
        running(SimulatorOptions(sensor=SMALL, time_scale=2000, shutter=False)) as (observatory, camera),
        Client(observatory.url, "covercalibrator").connect() as cover,
    ):
        assert camera.get("hasshutter") is False
        light = camera.expose(1.0, light=False).mean()
        cover.put("closecover")
        cover.wait("covermoving", False)
        assert camera.expose(1.0, light=False).mean() < light - 5000


def test_a_lit_panel_without_a_cover_hides_the_sky() -> None:
    options = SimulatorOptions(sensor=SMALL, time_scale=2000, cover=CoverKind.PANEL)
    with running(options) as (observatory, camera), Client(observatory.url, "covercalibrator").connect() as panel:
        camera.expose(1.0)
        panel.put("calibratoron", Brightness=255)
        panel.wait("calibratorchanging", False)
        camera.expose(1.0)
        lights = [frame.exposure.illumination_e_per_s for frame in observatory.delivered_frames.values()]
    assert lights == [20_000, 50_000]


def test_at_dusk_each_frame_is_darker() -> None:
    light = Light(twilight=Twilight.DUSK, twilight_start_e_per_s=50_000)
    with running(SimulatorOptions(sensor=SMALL, time_scale=1000, light=light)) as (observatory, camera):
        camera.expose(600.0, light=False)
        means = [camera.expose(0.5).mean() for _ in range(3)]
        first = observatory.delivered_frames[1].exposure.illumination_e_per_s
    assert means[0] > means[1] > means[2]
    assert first == pytest.approx(50_000, rel=0.002), "a dark does not use the twilight up"


# Time


def test_time_scale_divides_all_waiting() -> None:
    with running(SimulatorOptions(sensor=SMALL, time_scale=100)) as (_, camera):
        began_s = time.monotonic()
        camera.expose(20.0)
        assert 0.205 <= time.monotonic() - began_s < 20
        assert camera.get("lastexposureduration") == 20.0


@pytest.mark.parametrize("time_scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_scale_that_cannot_be_is_refused(time_scale: float) -> None:
    with pytest.raises(ConfigError, match="time scale"):
        SimulatedObservatory(SimulatorOptions(time_scale=time_scale))


# The same again


def frames_of(options: SimulatorOptions) -> list[int]:
    with running(options) as (observatory, camera):
        for exposure_time_s, light in ((0.0, False), (1.0, True), (2.0, False), (1.0, True)):
            camera.expose(exposure_time_s, light=light)
        return [record.crc32 for record in observatory.delivered_frames.values()]


@pytest.mark.parametrize("fast", [False, True])
def test_a_seed_gives_the_same_frames_again(fast: bool) -> None:
    options = SimulatorOptions(sensor=SMALL, time_scale=1000, seed=7, fast=fast)
    first = frames_of(options)
    assert len(set(first)) == 4
    assert frames_of(options) == first
    assert not set(frames_of(replace(options, seed=8))) & set(first)


def test_two_observatories_at_once_do_not_disturb_each_other() -> None:
    options = SimulatorOptions(sensor=SMALL, time_scale=1000)
    with running(options) as (first, first_camera), running(replace(options, seed=2)) as (second, second_camera):
        assert first.port != second.port
        first_camera.start(0.5)
        second_camera.start(0.5)
        for observatory, camera, seed in ((first, first_camera, 1), (second, second_camera, 2)):
            camera.wait("imageready", True)
            frame = camera.download()
            record = observatory.delivered_frames[0]
            np.testing.assert_array_equal(frame, SMALL.expose(record.exposure, frame_generator(seed, 0)))


def test_it_can_be_started_again_after_its_end() -> None:
    observatory = SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=1000))
    for number in range(2):
        with observatory, Client(observatory.url) as client:
            client.connect().expose(0.1)
            assert list(observatory.delivered_frames) == list(range(number + 1))
    observatory.stop()
    with pytest.raises(DeviceError, match="does not run"):
        _ = observatory.port


def test_a_port_that_is_taken_is_an_error() -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as running_one:
        second = SimulatedObservatory(SimulatorOptions(sensor=SMALL, port=running_one.port))
        with pytest.raises(DeviceError, match=rf"cannot listen on 127.0.0.1 port {running_one.port}: .*--port"):
            second.start()
        second.stop()


@pytest.mark.parametrize(
    ("change", "word"), [({"sensor": "none"}, "sensor"), ({"interface_version": 5}, "version"), ({"port": -1}, "port")]
)
def test_options_that_cannot_be_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        SimulatorOptions(**change)  # type: ignore[arg-type]


# Making frames


def plan_of(exposure: Exposure) -> FramePlan:
    window = Window(start_x=0, start_y=0, width=SMALL.width, height=SMALL.height)
    return FramePlan(index=0, sensor=SMALL, exposure=exposure, window=window, element=ImageElement.UINT16)


def test_a_frame_that_is_given_up_is_not_finished() -> None:
    with pytest.raises(AbandonedError):
        FrameMaker(1, fast=False).make(plan_of(Exposure(exposure_time_s=1)), lambda: True)


def test_noise_from_the_stock_has_the_mean_and_the_variance_of_the_physics() -> None:
    """100 frames of 2400 pixels; tolerances are five standard deviations of a mean and of a variance over them."""
    sensor = replace(SMALL, cosmic_rays=CosmicRays(rate_per_cm2_s=0))
    exposure = Exposure(exposure_time_s=2.0, illumination_e_per_s=5000.0)
    stock = NoiseStock(3)
    frames = np.empty((100, sensor.height, sensor.width), dtype=np.uint16)
    for index, frame in enumerate(frames):
        stock.expose(sensor, exposure, frame_generator(3, index), frame)
    standardized = (frames - sensor.expected_adu(exposure)) / sensor.noise_adu(exposure)
    assert abs(standardized.mean()) < 5 / np.sqrt(frames.size)
    assert abs(standardized.var() - 1) < 5 * np.sqrt(2 / frames.size)
    per_pixel = standardized.mean(axis=0) * 10
    assert abs(per_pixel.var() - 1) < 5 * np.sqrt(2 / per_pixel.size)


def test_the_stock_respects_the_converter() -> None:
    sensor = replace(SENSORS["bayer"], width=60, height=40)
    frame = np.empty((40, 60), dtype=np.uint16)
    NoiseStock(1).expose(sensor, Exposure(exposure_time_s=1, illumination_e_per_s=1e6), frame_generator(1, 0), frame)
    assert frame.max() <= 65532
    assert not (frame % 4).any()
