"""The cooler: reached and steady, or an end to the wait; and up again."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from ostcal.capture.cooling import CoolingRules, WarmingRules, cool, warm_sensor
from ostcal.capture.series_plan import CaptureWatcher, Equipment
from ostcal.config import load_config
from ostcal.devices.protocols import CameraStatus
from ostcal.errors import DeviceError
from ostcal.workflow.capture_rules import cooling_rules
from support.direct_camera import AMBIENT_C, DirectCamera, FakeClock, Faults, small_sensor

RULES = CoolingRules(target_c=-10.0, tolerance_c=0.5, stable_s=20.0)


def room(faults: Faults | None = None) -> tuple[DirectCamera, FakeClock, Equipment, list[str]]:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock, faults=faults)
    notices: list[str] = []
    equipment = Equipment(camera=camera, clock=clock, watcher=CaptureWatcher(notice=notices.append))
    return camera, clock, equipment, notices


def test_the_wait_ends_when_the_temperature_is_steady() -> None:
    camera, clock, equipment, notices = room()
    outcome = cool(equipment, RULES)
    assert outcome.reached
    assert outcome.temperature_c == pytest.approx(-10.0, abs=0.5)
    # 24.5 degrees at half a degree a second, then 20 s steady
    assert 49 + 20 <= clock.now_s() <= 49 + 20 + 6
    assert "cooling: 15.0 C, target -10.0 C" in notices[0]
    assert len(notices) >= 2
    assert camera.status().cooler_on


@pytest.mark.parametrize("steady_s", [0.0, 5.0, 90.0])
def test_the_steady_time_of_the_configuration_is_waited_for(steady_s: float) -> None:
    _, clock, equipment, _ = room()
    config = load_config({"video": {"cooling": {"target_temperature": -10.0, "steady_time": steady_s}}})
    outcome = cool(equipment, cooling_rules(config))
    assert outcome.reached
    # 24 degrees at half a degree a second, to the edge of the tolerance of a degree
    assert 48 + steady_s <= clock.now_s() <= 48 + steady_s + 6


def test_a_target_that_cannot_be_reached_is_found_out_at_full_power() -> None:
    camera, clock, equipment, _ = room()
    camera.reaches_c = -5.0
    outcome = cool(equipment, RULES)
    assert not outcome.reached
    assert (
        "the sensor is at -5.0 C, 5.0 C from -10.0 C, and the cooler at full power gets no further" in outcome.message
    )
    assert 40 + 120 <= clock.now_s() < 200


def test_a_cooler_that_stays_off_is_noticed_within_a_minute() -> None:
    class NeverOn(DirectCamera):
        def status(self) -> CameraStatus:
            return replace(super().status(), cooler_on=False, ccd_temperature_c=15.0)

    clock = FakeClock()
    equipment = Equipment(camera=NeverOn(small_sensor(), clock), clock=clock)
    outcome = cool(equipment, CoolingRules(target_c=-10.0))
    assert not outcome.reached
    assert "25.0 C from -10.0 C, and the camera says after" in outcome.message
    assert "its cooler is off" in outcome.message
    assert 60 <= clock.now_s() < 70


def test_a_cooler_that_is_too_slow_runs_into_the_timeout() -> None:
    _, clock, equipment, _ = room()
    outcome = cool(equipment, CoolingRules(target_c=-10.0, timeout_s=30.0))
    assert not outcome.reached
    assert "(cooling.cooling_timeout)" in outcome.message
    assert clock.now_s() == pytest.approx(30, abs=3)


def test_nobody_waits_where_nobody_wants_to() -> None:
    camera, clock, equipment, _ = room()
    assert not cool(equipment, RULES, wait=False).reached
    assert clock.now_s() == 0
    assert camera.status().set_temperature_c == -10.0


def test_a_camera_that_does_not_answer_for_a_moment_is_asked_again() -> None:
    _, _, equipment, _ = room(Faults().drop("status", 5))
    assert cool(equipment, RULES).reached


def test_a_camera_that_falls_silent_is_an_error_in_bounded_time() -> None:
    _, clock, equipment, _ = room(Faults().fail("status", *range(5, 1000)))
    with pytest.raises(DeviceError, match="reading the temperature failed 5 times"):
        cool(equipment, RULES)
    assert clock.now_s() < 60


def test_a_camera_without_a_cooler_is_an_error() -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock, can_cool=False)
    with pytest.raises(DeviceError, match=r"set cooling\.enable_cooling to false"):
        cool(Equipment(camera=camera, clock=clock), RULES)


def test_the_sensor_warms_up_in_steps_and_the_cooler_ends_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    camera, clock, equipment, notices = room()
    cool(equipment, RULES)
    began_s = clock.now_s()
    warm_sensor(equipment, WarmingRules(step_c=5.0, step_s=60.0))
    assert not camera.status().cooler_on
    assert notices[-1] == "warming up to 10 C"
    assert "warming up from -10.0 C by 5 C every 60 s: 5 minutes" in caplog.text
    assert 4 * 60 <= clock.now_s() - began_s <= 6 * 60
    clock.sleep(600)
    assert camera.status().ccd_temperature_c == AMBIENT_C


def test_an_interrupt_of_the_warm_up_leaves_the_cooler_on(caplog: pytest.LogCaptureFixture) -> None:
    camera, clock, equipment, _ = room()
    cool(equipment, RULES)

    def press() -> None:
        raise KeyboardInterrupt

    clock.alarms.append((clock.now_s() + 70, press))
    with pytest.raises(KeyboardInterrupt):
        warm_sensor(equipment)
    assert camera.status().cooler_on
    assert camera.status().set_temperature_c == pytest.approx(0.0, abs=0.1)


def test_what_is_told_while_it_cools_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, _, equipment, notices = room()
    cool(equipment, RULES)
    warm_sensor(equipment)
    assert all(notice in caplog.text for notice in notices)


def test_a_cooler_that_is_off_stays_off_at_once() -> None:
    camera, clock, equipment, _ = room()
    warm_sensor(equipment)
    assert (clock.now_s(), camera.calls["cool"]) == (0, 0)
