"""A dark of another temperature than the frame: what it leaves in, by the degrees in which dark current doubles."""

from __future__ import annotations

from dataclasses import dataclass

from ostcal.errors import OstcalError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.sensor_temperature import STEADY_C
from ostcal.library.find import LibraryMaster
from ostcal.measure.camera.dark_warming import USUAL_DOUBLING_C, USUAL_SPREAD
from ostcal.naming import degrees_text
from ostcal.science.dark_error import DarkRates, rates_in_library
from ostcal.science.matched import DarkMix
from ostcal.science.shelf import Shelf

LEAST_C = 0.05
"""Temperatures are not written more exactly."""
MOST_STEADY_C = STEADY_C + 1e-6
"""What a cooled sensor differs by, with what subtracting it from a temperature rounds away."""
LEAST_ADU = 1.0
"""What is left in matters from here on, in the median pixel or in hot ones."""


@dataclass(frozen=True, kw_only=True)
class OtherTemperature:
    """A dark that is subtracted from a frame of another temperature."""

    name: str
    dark_c: float
    frame_c: float
    exposure_s: float
    """Of the frame."""
    rates: DarkRates

    @property
    def is_steady(self) -> bool:
        """Return whether the temperatures differ by no more than that of a cooled sensor does."""
        return abs(self.frame_c - self.dark_c) <= MOST_STEADY_C

    @property
    def matters(self) -> bool:
        """Return whether what is left in is worth more than the dark as it is; where it is not known, it is.

        In a cooled camera nothing is, unless the median pixel shows it.
        """
        median, hot = self.rates.median_adu_per_s, self.rates.hot_adu_per_s
        if median is None:
            return not self.is_steady
        rate = abs(median) if self.is_steady else max(abs(median), abs(hot or 0.0))
        return rate * self.exposure_s * abs(self._growth(USUAL_DOUBLING_C)) > LEAST_ADU

    @property
    def line(self) -> str:
        """Say what is left in."""
        head = f"{self.name} is of {degrees_text(self.dark_c)}, the frame of {degrees_text(self.frame_c)}"
        if self.rates.median_adu_per_s is None and self.rates.hot_adu_per_s is None:
            why = self.rates.shown_by or "nothing shows its dark current"
            return f"{head}: what that leaves in is not known ({why})"
        left = self.rates.left_in(self.exposure_s * self._growth(USUAL_DOUBLING_C))
        fast_c, slow_c = USUAL_DOUBLING_C / (1 + USUAL_SPREAD), USUAL_DOUBLING_C / (1 - USUAL_SPREAD)
        usual = self._growth(USUAL_DOUBLING_C)
        shares = sorted(self._growth(doubling_c) / usual for doubling_c in (fast_c, slow_c))
        return (
            f"{head}: if dark current doubles in {USUAL_DOUBLING_C:g} C that leaves {left} "
            f"({shares[0]:.2g} to {shares[1]:.2g} times that if it doubles in {fast_c:.2g} to {slow_c:.2g} C)"
        )

    def _growth(self, doubling_c: float) -> float:
        """Return by which share of it the dark current of the frame is above that of the dark."""
        return float(2 ** ((self.frame_c - self.dark_c) / doubling_c) - 1)


def other_temperature(key: GroupKey, mix: DarkMix, shelf: Shelf, least_c: float = LEAST_C) -> OtherTemperature | None:
    """Return what a dark of another temperature leaves in a frame; ``None`` where none is by `least_c` off."""
    if key.temperature_c is None:
        return None
    frame_c = key.temperature_c
    apart = [
        (abs(dark_c - frame_c), part.master.key.exposure_time_s, part.master.record.name, dark_c, part.master)
        for part in mix.parts
        if part.master.key.frame_type is FrameType.DARK and (dark_c := part.master.key.temperature_c) is not None
    ]
    if not apart:
        return None
    degrees, _, name, dark_c, dark = max(apart, key=lambda one: one[:3])
    if degrees < least_c:
        return None
    rates = shelf.fits(dark.key).made("rates", [dark], lambda: rates_of(dark, shelf))
    return OtherTemperature(name=name, dark_c=dark_c, frame_c=frame_c, exposure_s=key.exposure_time_s, rates=rates)


def rates_of(dark: LibraryMaster, shelf: Shelf) -> DarkRates:
    """Return the dark current of a dark, as its library shows it best."""
    try:
        return rates_in_library(dark, shelf, shelf.rules)
    except OstcalError:  # of a master that cannot be read: that is said when it is opened
        return DarkRates(median_adu_per_s=None, hot_adu_per_s=None, shown_by="it cannot be read")
