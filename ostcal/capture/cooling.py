"""The cooler: down to the target and steady there, with an end to the wait; and slowly up again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from ostcal.capture.exposer import Exposer, finite
from ostcal.capture.series_plan import Equipment, RetryRules
from ostcal.devices.protocols import CameraStatus
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

_FULL_POWER_PERCENT = 98.0
_NOTICE_EVERY_S = 30.0


@dataclass(frozen=True, kw_only=True)
class CoolingRules:
    """What temperature is wanted, and how long to wait for it."""

    target_c: float
    tolerance_c: float = 1.0
    stable_s: float = 30.0
    """How long it must stay within the tolerance: a cooler swings past its target first."""
    timeout_s: float = 600.0
    stall_s: float = 120.0
    """Without progress for this long at full power it will not get colder."""
    stall_c: float = 0.5
    """Less than this is no progress."""
    poll_s: float = 2.0
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, kw_only=True)
class WarmingRules:
    """How the sensor warms up: steps of the set point, so that no glass cracks and nothing freezes on it."""

    step_c: float = 5.0
    step_s: float = 60.0
    until_c: float = 15.0
    """The cooler is switched off here, or earlier where it has nothing left to do."""
    idle_power_percent: float = 5.0
    timeout_s: float = 1200.0


@dataclass(frozen=True, kw_only=True)
class CoolingOutcome:
    """How it ended."""

    reached: bool
    temperature_c: float | None
    elapsed_s: float
    message: str


def cool(equipment: Equipment, rules: CoolingRules, *, wait: bool = True) -> CoolingOutcome:
    """Cool the camera and wait until it is steady at its target.

    Parameters
    ----------
    equipment : Equipment
        The camera, and who is told.
    rules : CoolingRules
        Target and patience.
    wait : bool
        Whether to wait at all.

    Returns
    -------
    CoolingOutcome
        Also where the target was not reached in time or cannot be: whether to go on is for others to decide.

    Raises
    ------
    DeviceError
        If the camera cannot be cooled, or does not answer.
    """
    camera = equipment.camera
    if not camera.info.can_set_temperature:
        raise DeviceError(
            f"{camera.info.name}: it cannot be cooled to a set point; set cooling.enable_cooling to false"
        )
    camera.cool(rules.target_c)
    if not wait:
        return CoolingOutcome(reached=False, temperature_c=None, elapsed_s=0.0, message="cooling, not waited for")
    outcome = _wait(equipment, rules)
    logger.log(logging.INFO if outcome.reached else logging.WARNING, "%s", outcome.message)
    return outcome


def warm_sensor(equipment: Equipment, rules: WarmingRules | None = None) -> None:
    """Let the sensor warm up in steps, then switch the cooler off; nothing where it does not cool.

    An interrupt leaves the cooler on at the set point that it has.

    Raises
    ------
    DeviceError
        If the camera does not answer.
    """
    rules = rules or WarmingRules()
    camera, clock = equipment.camera, equipment.clock
    status = camera.status()
    began_s = clock.now_s()
    temperature_c = finite(status.ccd_temperature_c)
    if status.cooler_on is False:
        return
    set_c = temperature_c
    if set_c is not None and camera.info.can_set_temperature:
        minutes = max(0.0, (rules.until_c - set_c) // rules.step_c * rules.step_s / 60)
        logger.info(
            "warming up from %.1f C by %g C every %g s: %.0f minutes", set_c, rules.step_c, rules.step_s, minutes
        )
    while (
        camera.info.can_set_temperature
        and set_c is not None
        and set_c + rules.step_c < rules.until_c
        and not _is_idle(status, rules)
        and clock.now_s() - began_s < rules.timeout_s
    ):
        set_c += rules.step_c
        _tell(equipment, f"warming up to {set_c:.0f} C")
        camera.cool(set_c)
        clock.sleep(rules.step_s)
        status = camera.status()
    camera.warm_up()
    logger.info("the cooler is off after %.0f s", clock.now_s() - began_s)


@dataclass
class _Progress:
    """What was seen while it cooled."""

    began_s: float
    steady_since_s: float | None = None
    best_c: float | None = None
    best_at_s: float = 0.0
    noticed_s: float = -_NOTICE_EVERY_S


def _wait(equipment: Equipment, rules: CoolingRules) -> CoolingOutcome:
    clock = equipment.clock
    exposer = Exposer(equipment.camera, clock, rules.retry)
    progress = _Progress(began_s=clock.now_s())
    while True:
        status = exposer.status()
        now_s = clock.now_s()
        temperature_c = finite(status.ccd_temperature_c)
        if temperature_c is None:
            raise DeviceError(
                f"{equipment.camera.info.name}: it does not say its temperature; set cooling.wait_for_cooling to false"
            )
        end = _end(status, temperature_c, now_s, progress, rules)
        if end is not None:
            return end
        if now_s - progress.noticed_s >= _NOTICE_EVERY_S:
            progress.noticed_s = now_s
            _tell(equipment, f"cooling: {temperature_c:.1f} C, target {rules.target_c:.1f} C{_power(status)}")
        clock.sleep(rules.poll_s)


def _end(
    status: CameraStatus, temperature_c: float, now_s: float, progress: _Progress, rules: CoolingRules
) -> CoolingOutcome | None:
    """Say whether the wait is over: steady, stalled or too long."""
    elapsed_s = now_s - progress.began_s
    distance_c = abs(temperature_c - rules.target_c)
    if distance_c > rules.tolerance_c + 1e-6:
        progress.steady_since_s = None
    elif progress.steady_since_s is None:
        progress.steady_since_s = now_s
    if progress.best_c is None or distance_c <= progress.best_c - rules.stall_c:
        progress.best_c, progress.best_at_s = distance_c, now_s
    where = f"the sensor is at {temperature_c:.1f} C, {distance_c:.1f} C from {rules.target_c:.1f} C"
    if progress.steady_since_s is not None and now_s - progress.steady_since_s >= rules.stable_s:
        return _outcome(True, temperature_c, elapsed_s, f"{where}, steady after {elapsed_s:.0f} s")
    if _is_stalled(status, now_s, progress, rules):
        text = f"{where}, and the cooler at full power gets no further; choose a warmer cooling.target_temperature"
        return _outcome(False, temperature_c, elapsed_s, text)
    if elapsed_s >= rules.timeout_s:
        text = f"{where} after {elapsed_s:.0f} s (cooling.cooling_timeout); raise it, or choose a warmer target"
        return _outcome(False, temperature_c, elapsed_s, text)
    return None


def _is_stalled(status: CameraStatus, now_s: float, progress: _Progress, rules: CoolingRules) -> bool:
    power = finite(status.cooler_power_percent)
    at_full_power = power is not None and power >= _FULL_POWER_PERCENT
    return at_full_power and progress.steady_since_s is None and now_s - progress.best_at_s >= rules.stall_s


def _outcome(reached: bool, temperature_c: float, elapsed_s: float, message: str) -> CoolingOutcome:
    return CoolingOutcome(reached=reached, temperature_c=temperature_c, elapsed_s=elapsed_s, message=message)


def _is_idle(status: CameraStatus, rules: WarmingRules) -> bool:
    power = finite(status.cooler_power_percent)
    return power is not None and power <= rules.idle_power_percent


def _tell(equipment: Equipment, line: str) -> None:
    logger.info("%s", line)
    equipment.watcher.notice(line)


def _power(status: CameraStatus) -> str:
    power = finite(status.cooler_power_percent)
    return f", {power:.0f} % power" if power is not None else ""
