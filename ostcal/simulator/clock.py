"""The time of the simulation: seconds that pass faster than real ones, by a factor."""

from __future__ import annotations

import time

from ostcal.errors import ConfigError


class SimulationClock:
    """Seconds since the simulation began, `time_scale` of them in each real second."""

    def __init__(self, time_scale: float) -> None:
        if not 0 < time_scale < float("inf"):
            raise ConfigError(f"time scale {time_scale} cannot be used; it must be above 0 (1 is real time)")
        self._time_scale = time_scale
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Give the simulated seconds since the beginning."""
        return (time.monotonic() - self._began_s) * self._time_scale

    def real_s(self, simulated_s: float) -> float:
        """Give how long a simulated time takes in real seconds."""
        return simulated_s / self._time_scale
