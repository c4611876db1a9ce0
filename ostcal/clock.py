"""Time as an argument: code that waits takes a clock, so that tests and simulations do not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from ostcal.errors import ConfigError


class Clock(Protocol):
    """A source of the time, which can also wait."""

    def now_s(self) -> float:
        """Return the seconds since an arbitrary start; they never decrease."""

    def utc(self) -> datetime:
        """Return the date and time in UTC, timezone-aware."""

    def sleep(self, seconds: float) -> None:
        """Wait; return at once if `seconds` is not positive."""


class SystemClock:
    """The time of this computer."""

    def now_s(self) -> float:
        """Return the seconds since an arbitrary start."""
        return time.monotonic()

    def utc(self) -> datetime:
        """Return the date and time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait; return at once if `seconds` is not positive."""
        time.sleep(max(0.0, seconds))


class FastClock(SystemClock):
    """A clock whose seconds pass faster than real ones, as those of a simulated observatory do.

    The date and time stay those of this computer.

    Parameters
    ----------
    scale : float
        Seconds of this clock in a real second, above 0; 1 is real time.

    Raises
    ------
    ConfigError
        If the scale is not above 0 and finite.
    """

    def __init__(self, scale: float) -> None:
        if not 0 < scale < float("inf"):
            raise ConfigError(f"time scale {scale} cannot be used; it must be above 0 (1 is real time)")
        self._scale = scale
        self._began_s = super().now_s()

    def now_s(self) -> float:
        """Return the seconds of this clock since it was made."""
        return (super().now_s() - self._began_s) * self._scale

    def sleep(self, seconds: float) -> None:
        """Wait until `seconds` of this clock have passed."""
        super().sleep(self.real_s(seconds))

    def real_s(self, seconds: float) -> float:
        """Return the real time that `seconds` of this clock take."""
        return seconds / self._scale
