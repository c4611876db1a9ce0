"""Which exposures are one exposure, as clocks of cameras and of programs tell it."""

from __future__ import annotations

from ostcal.inputs.grouping import EXPOSURE_TOLERANCE

SAME_EXPOSURE_S = 0.05
"""Exposures that differ by less are one, as those that differ by less than 0.1 %: clocks of cameras and of programs."""


def is_one_exposure(a_s: float, b_s: float) -> bool:
    """Return whether two exposures are one, as clocks tell it: within 0.05 s or 0.1 %."""
    return abs(a_s - b_s) <= max(SAME_EXPOSURE_S, EXPOSURE_TOLERANCE * b_s) + 1e-9
