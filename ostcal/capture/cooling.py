"""Cool the sensor to its target and wait until it is stable; warm it up in steps."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

from ostcal.capture.exposer import Exposer, finite
from ostcal.capture.series_plan import Equipment, RetryRules
from ostcal.devices.protocols import CameraStatus
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

_FULL_POWER_PERCENT = 98.0
_NOTICE_EVERY_S = 30.0
_SHORTEST_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class CoolingRules:
    """Target temperature, and how long to wait for it."""

    target_c: float
    tolerance_c: float = 1.0
    stable_s: float = 30.0
    """How long the temperature must stay within the tolerance: a cooler overshoots first."""
    timeout_s: float = 600.0
    stall_s: float = 120.0
    """After this long without progress at full power, the wait ends."""
    off_s: float = 60.0
    """A cooler that says for so long that it is off ends the wait."""
    stall_c: float = 0.5
    """A smaller change is no progress."""
    poll_s: float = 2.0
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, kw_only=True)
class WarmingRules:
    """Steps of the set point while warming up, slow enough to avoid cracks and condensation."""

    step_c: float = 5.0
    step_s: float = 60.0
    until_c: float = 15.0
    """The cooler is switched off at this temperature, or earlier if it is idle."""
    idle_power_percent: float = 5.0
    timeout_s: float = 1200.0


@dataclass(frozen=True, kw_only=True)
class CoolingOutcome:
    """Result of the wait for the target temperature."""

    reached: bool
    temperature_c: float | None
    message: str


def cool(equipment: Equipment, rules: CoolingRules, *, wait: bool = True) -> CoolingOutcome:
    """Cool the camera and wait until it is steady at its target.

    The outcome is also returned if the target was not reached; the caller decides whether to continue.

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
        return CoolingOutcome(reached=False, temperature_c=None, message="cooling, not waited for")
    clock = equipment.clock
    exposer = Exposer(camera, clock, rules.retry)
    cooling = _CoolingWait(rules, clock.now_s())
    noticed_s = -math.inf
    while True:
        status = exposer.status()
        now_s = clock.now_s()
        temperature_c = finite(status.ccd_temperature_c)
        if temperature_c is None:
            raise DeviceError(
                f"{camera.info.name}: it does not say its temperature; set cooling.wait_for_cooling to false"
            )
        end = cooling.outcome(status, temperature_c, now_s)
        if end is not None:
            logger.log(logging.INFO if end.reached else logging.WARNING, "%s", end.message)
            return end
        if now_s - noticed_s >= _NOTICE_EVERY_S:
            noticed_s = now_s
            power = finite(status.cooler_power_percent)
            at_power = f", {power:.0f} % power" if power is not None else ""
            equipment.watcher.notify(f"cooling: {temperature_c:.1f} C, target {rules.target_c:.1f} C{at_power}")
        clock.sleep(min(rules.poll_s, max(rules.stable_s, _SHORTEST_POLL_S)))


def warm_sensor(equipment: Equipment, rules: WarmingRules | None = None) -> None:
    """Warm the sensor up in steps, then switch the cooler off; do nothing if it is off already.

    An interrupt leaves the cooler on at its current set point.

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
        and _power_percent(status, default=100.0) > rules.idle_power_percent
        and clock.now_s() - began_s < rules.timeout_s
    ):
        set_c += rules.step_c
        equipment.watcher.notify(f"warming up to {set_c:.0f} C")
        camera.cool(set_c)
        clock.sleep(rules.step_s)
        status = camera.status()
    camera.warm_up()
    logger.info("the cooler is off after %.0f s", clock.now_s() - began_s)


class _CoolingWait:
    """The wait for a stable temperature."""

    def __init__(self, rules: CoolingRules, began_s: float) -> None:
        self._rules = rules
        self._began_s = began_s
        self._steady_since_s: float | None = None
        self._best_c = math.inf
        """Smallest distance from the target so far."""
        self._best_at_s = began_s

    def outcome(self, status: CameraStatus, temperature_c: float, now_s: float) -> CoolingOutcome | None:
        """Return the outcome if the wait is over (stable, stalled or timed out), else ``None``."""
        rules = self._rules
        elapsed_s = now_s - self._began_s
        distance_c = abs(temperature_c - rules.target_c)
        if distance_c > rules.tolerance_c + 1e-6:
            self._steady_since_s = None
        elif self._steady_since_s is None:
            self._steady_since_s = now_s
        if distance_c <= self._best_c - rules.stall_c:
            self._best_c, self._best_at_s = distance_c, now_s
        is_stalled = (
            _power_percent(status, default=0.0) >= _FULL_POWER_PERCENT
            and self._steady_since_s is None
            and now_s - self._best_at_s >= rules.stall_s
        )
        where = f"the sensor is at {temperature_c:.1f} C, {distance_c:.1f} C from {rules.target_c:.1f} C"
        reached = self._steady_since_s is not None and now_s - self._steady_since_s >= rules.stable_s
        is_off = status.cooler_on is False and elapsed_s >= rules.off_s
        if reached:
            text = f"{where}, steady after {elapsed_s:.0f} s"
        elif is_off:
            text = (
                f"{where}, and the camera says after {elapsed_s:.0f} s that its cooler is off; check its power and its"
                " server, and that no other program switches it"
            )
        elif is_stalled:
            text = f"{where}, and the cooler at full power gets no further; choose a warmer cooling.target_temperature"
        elif elapsed_s >= rules.timeout_s:
            text = f"{where} after {elapsed_s:.0f} s (cooling.cooling_timeout); raise it, or choose a warmer target"
        else:
            return None
        return CoolingOutcome(reached=reached, temperature_c=temperature_c, message=text)


def _power_percent(status: CameraStatus, *, default: float) -> float:
    power = finite(status.cooler_power_percent)
    return default if power is None else power
