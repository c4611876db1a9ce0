"""Safety of exposures: ask the safety monitor and the roof before each one, and wait while one of them says no."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from ostcal.capture.series_plan import Equipment
from ostcal.clock import Clock
from ostcal.config import Config
from ostcal.devices.safety import AlpacaRoof, AlpacaSafetyMonitor, SafetyCheck, gated
from ostcal.status import Level, Status

SAFETY_PAUSE_S = 30.0
"""Time between two questions whether it is safe again."""


def safety_check(config: Config, clock: Clock) -> SafetyCheck:
    """Return what asks the safety monitor and the roof of a configuration."""
    s = config.safety

    def monitor() -> AlpacaSafetyMonitor:
        return AlpacaSafetyMonitor(s.host, s.port, s.device_id or 0, clock=clock)

    def roof() -> AlpacaRoof:
        return AlpacaRoof(s.host, s.port, s.roof_id or 0, clock=clock)

    return SafetyCheck(
        monitor if s.device_id is not None else None,
        roof if s.roof_id is not None else None,
        lost_is_unsafe=s.on_lost == "refuse",
    )


def wait_until_safe(
    check: SafetyCheck, clock: Clock, until: datetime, logger: logging.Logger, *, must_be_open: bool
) -> str | None:
    """Wait until it is safe; return the reason if it is not until a time."""
    reason = check.refusal(must_be_open=must_be_open)
    if reason is None or clock.utc() >= until:
        return reason
    logger.warning("nothing is exposed: %s; waiting until %s", reason, f"{until:%H:%M} UTC")
    while reason is not None:
        left_s = (until - clock.utc()).total_seconds()
        if left_s <= 0:
            return reason
        clock.sleep(min(SAFETY_PAUSE_S, left_s))
        reason = check.refusal(must_be_open=must_be_open)
    logger.info("it is safe again")
    return None


class SafeCaptures:
    """Captures of a command that begin no exposure while it is not safe; a context manager.

    A capture that is refused ends, and is begun again once it is safe: it takes the frames that are missing. The waits
    end ``schedule.max_hours`` after the command began.

    Parameters
    ----------
    config : Config
        Its section ``safety`` names the devices; without one everything is safe.
    clock : Clock
        Tells the time and waits.
    logger : logging.Logger
        Receives a line for each wait.
    """

    def __init__(self, config: Config, clock: Clock, logger: logging.Logger) -> None:
        self._check = safety_check(config, clock)
        self._clock = clock
        self._logger = logger
        self._wait_hours = config.schedule.max_hours
        self._is_sky = config.flat_capture.twilight
        self._began_at = clock.utc()
        self._refused: list[bool] = []
        """Whether each exposure that was refused needs an open roof."""

    def __enter__(self) -> SafeCaptures:
        return self

    def __exit__(self, *_: object) -> None:
        self._check.__exit__()

    def guarded(self, equipment: Equipment) -> Equipment:
        """Return the equipment with a camera that begins no exposure while it is not safe; a mount asks itself."""
        if equipment.mount is not None:
            equipment.mount.when_refused(lambda: self._refused.append(True))
        dark, light = (lambda: self._refusal(must_be_open=False)), (lambda: self._refusal(must_be_open=self._is_sky))
        return replace(equipment, camera=gated(equipment.camera, dark, for_light=light))

    def take(self, work: Callable[[float | None], Status], max_hours: float | None = None) -> Status:
        """Capture while it is safe, and wait in between; `work` takes what is missing within the hours it is given."""
        began_s, taken, must_be_open = self._clock.now_s(), 0, False
        hours = self._wait_hours if max_hours is None else min(max_hours, self._wait_hours)
        until = self._began_at + timedelta(hours=hours)
        left_hours = max_hours
        while True:
            reason = wait_until_safe(self._check, self._clock, until, self._logger, must_be_open=must_be_open)
            if reason is not None:
                return self._ended(f"{reason}, and {hours:g} hours are over: what is missing is not taken", taken)
            if max_hours is not None and taken:
                left_hours = max_hours - (self._clock.now_s() - began_s) / 3600
            self._refused.clear()
            status = work(left_hours)
            taken += status.details.get("taken", 0)
            if not self._refused:
                return replace(status, details={**status.details, "taken": taken}) if taken else status
            must_be_open = self._refused[-1]

    def _ended(self, line: str, taken: int) -> Status:
        self._logger.error("%s", line)
        return Status(level=Level.ERROR, message=line, details={"errors": [line], "warnings": [], "taken": taken})

    def _refusal(self, *, must_be_open: bool) -> str | None:
        reason = self._check.refusal(must_be_open=must_be_open)
        if reason is not None:
            self._refused.append(must_be_open)
        return reason
