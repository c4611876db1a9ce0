"""The response of a sensor to light: what a level would be if it grew in proportion with the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LinearityCurve:
    """``true = signal * (1 + c1 x + c2 x^2 + ...)`` with ``x = signal / high_adu``; faint light stays as it is."""

    coefficients: tuple[float, ...]
    """c1, c2, ..."""
    high_adu: float
    """The brightest signal that it was measured at, ADU above `zero_adu`."""
    zero_adu: float
    """The level without light."""
    uncertainty_percent: float
    """Standard deviation of the flats about the curve."""

    @property
    def highest_level_adu(self) -> float:
        """The level, ADU, up to which the response is known."""
        return self.zero_adu + self.high_adu

    @property
    def largest_correction_percent(self) -> float:
        """How far levels are off a straight line at most."""
        factors = self.true_signal(np.linspace(0.01, 1, 100) * self.high_adu) / np.linspace(0.01, 1, 100)
        return 100 * float(np.max(np.abs(factors / self.high_adu - 1)))

    @property
    def grows(self) -> bool:
        """Return whether more light always makes a brighter pixel, as far as it was measured."""
        return bool(np.all(self.slope(np.linspace(0, 1, 201) * self.high_adu) > 0))

    def true_signal(self, signal_adu: FloatArray) -> FloatArray:
        """Return signals in proportion with the light; above `high_adu` the slope stays, below 0 nothing is changed."""
        x = np.clip(signal_adu / self.high_adu, 0.0, 1.0)
        inside = x * self.high_adu
        value: FloatArray = inside * (1 + x * np.polynomial.polynomial.polyval(x, self.coefficients))
        value += (signal_adu - inside) * np.where(signal_adu > 0, self.slope(inside), 1.0)
        return value

    def slope(self, signal_adu: FloatArray) -> FloatArray:
        """Return by how much the true signal grows with the measured one."""
        x = np.clip(signal_adu / self.high_adu, 0.0, 1.0)
        powers = np.arange(2, len(self.coefficients) + 2)
        slope: FloatArray = 1 + x * np.polynomial.polynomial.polyval(x, powers * np.array(self.coefficients))
        return slope

    def true_level(self, level_adu: FloatArray) -> FloatArray:
        """Return levels, ADU with the level without light, in proportion with the light above it."""
        return self.zero_adu + self.true_signal(level_adu - self.zero_adu)
