"""A clock that leaps over long waits, so that a fortnight of nights takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from ostcal.clock import SystemClock


class JumpingClock(SystemClock):
    """Time that passes as it really does, plus all that was slept, which takes no time.

    With a file it continues where it was when its process was killed, and it stops with an interrupt at its end.
    """

    def __init__(self, start: datetime, end: datetime, file: Path | None = None) -> None:
        self._end = end
        self._file = file
        if file is not None and file.exists():
            start = datetime.fromisoformat(file.read_text())
        self._start = start
        self._began_s = super().now_s()
        self._leapt_s = 0.0
        self.alarms: list[tuple[datetime, Callable[[], object]]] = []
        """What happens when somebody has slept up to a time."""

    def now_s(self) -> float:
        return super().now_s() - self._began_s + self._leapt_s

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self.now_s())

    def sleep(self, seconds: float) -> None:
        self._leapt_s += max(0.0, seconds)
        if seconds < 30:
            super().sleep(min(seconds, 0.002))
        due = [alarm for alarm in self.alarms if alarm[0] <= self.utc()]
        self.alarms = [alarm for alarm in self.alarms if alarm not in due]
        for _, ring in due:
            ring()
        if self.utc() >= self._end:
            raise KeyboardInterrupt
        if self._file is not None and seconds >= 30:
            partial = self._file.with_suffix(".partial")
            partial.write_text(self.utc().isoformat())
            partial.replace(self._file)
