"""Time as an argument: code that waits takes a clock, so that tests do not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now_s(self) -> float:
        """Give seconds that never run backwards, from any beginning."""

    def utc(self) -> datetime:
        """Give the date and time in UTC, timezone-aware."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The time of this computer."""

    def now_s(self) -> float:
        """Give seconds since some beginning."""
        return time.monotonic()

    def utc(self) -> datetime:
        """Give the date and time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait; not at all for times that are over."""
        time.sleep(max(0.0, seconds))
