"""A thermoelectric cooler: it takes time to reach its set point, has a limit, and drifts."""

from __future__ import annotations

import math

MOST_BELOW_AMBIENT_C = 40.0
"""Two stages reach 35 to 45 degrees below the air."""
RAMP_C_PER_S = 0.25
APPROACH_S = 12.0
"""Near its goal the temperature closes in exponentially, with this time constant."""
DRIFT_C = 0.08
DRIFT_PERIOD_S = 240.0
SETTLED_C = 0.25
MISS_C = 3.0


class Cooler:
    """The temperature of a sensor by simulated time; at first the cooler is off and everything as warm as the air."""

    def __init__(self, ambient_c: float, drift_phase: float) -> None:
        self.ambient_c = ambient_c
        self.set_point_c = 0.0
        self.on = False
        self.misses_by_c = 0.0
        """How far above its goal it stays: a fault."""
        self._drift_phase = drift_phase
        self._from_c = ambient_c
        self._since_s = 0.0

    def switch(self, now_s: float, *, on: bool) -> None:
        """Switch the cooler on or off."""
        self._begin(now_s)
        self.on = on

    def aim(self, now_s: float, set_point_c: float) -> None:
        """Change the set point."""
        self._begin(now_s)
        self.set_point_c = set_point_c

    def _begin(self, now_s: float) -> None:
        self._from_c = self._ramp_c(now_s)
        self._since_s = now_s

    @property
    def goal_c(self) -> float:
        """Where the temperature ends up."""
        if not self.on:
            return self.ambient_c
        return max(min(self.set_point_c, self.ambient_c) + self.misses_by_c, self.ambient_c - MOST_BELOW_AMBIENT_C)

    def _ramp_c(self, now_s: float) -> float:
        """Temperature without drift: a steady ramp while far, then exponential; both have one slope where they meet."""
        away_c = self._from_c - self.goal_c
        elapsed_s = now_s - self._since_s
        knee_c = RAMP_C_PER_S * APPROACH_S
        ramp_s = max(0.0, (abs(away_c) - knee_c) / RAMP_C_PER_S)
        if elapsed_s < ramp_s:
            return self._from_c - math.copysign(RAMP_C_PER_S * elapsed_s, away_c)
        rest_c = math.copysign(min(abs(away_c), knee_c), away_c)
        return self.goal_c + rest_c * math.exp(-(elapsed_s - ramp_s) / APPROACH_S)

    def temperature_c(self, now_s: float) -> float:
        """Return what the sensor's thermometer shows."""
        drift = DRIFT_C * math.sin(2 * math.pi * now_s / DRIFT_PERIOD_S + self._drift_phase)
        return self._ramp_c(now_s) + drift

    def sensor_c(self, now_s: float) -> float:
        """Return the temperature that the pixels feel: the goal itself once it is settled.

        The drift of at most 0.08 degrees (0.9 % of the dark current) is left out and the last quarter of a degree too,
        so that a frame of a settled camera does not depend on the moment, and tests can ask for it again.
        """
        ramp_c = self._ramp_c(now_s)
        return self.goal_c if abs(ramp_c - self.goal_c) <= SETTLED_C else ramp_c

    def power_percent(self, now_s: float) -> float:
        """Return the power of the cooler: all of it on the way down and at its limit, else by how cold it is."""
        if not self.on:
            return 0.0
        temperature_c = self._ramp_c(now_s)
        if self.misses_by_c or temperature_c - self.goal_c > RAMP_C_PER_S * APPROACH_S:
            return 100.0
        return min(100.0, max(0.0, 100 * (self.ambient_c - temperature_c) / MOST_BELOW_AMBIENT_C))

    def heat_sink_c(self, now_s: float) -> float:
        """Return the temperature of the warm side."""
        return self.ambient_c + 0.08 * self.power_percent(now_s)
