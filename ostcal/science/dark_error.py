"""What a dark that does not fit quite leaves in a frame, in ADU, from the dark current that the masters show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.store import MasterStore
from ostcal.measure.camera.dark_warming import USUAL_DOUBLING_C
from ostcal.measure.estimators import half_spread
from ostcal.naming import degrees_text
from ostcal.science.matched import DarkMix, MatchRules, is_same_exposure
from ostcal.science.shelf import Fit, shelf_of
from ostcal.science.synthetic_dark import sampled_bands

TEMPERATURE_STEP_C = 0.5
"""Masters nearer to each other than this are of one temperature: the time decides."""
HOT_SPREADS = 10.0
"""Pixels above the median by this many times the spread of a master are hot."""


@dataclass(frozen=True, kw_only=True)
class DarkRates:
    """Dark current of a master, ADU/s; ``None`` where it does not show it."""

    median_adu_per_s: float | None
    hot_adu_per_s: float | None
    """Median of the hot pixels; above that of the median pixel if that is not known."""
    shown_by: str = ""
    """What shows that of the median pixel, or why nothing does; "" where it is the dark itself."""

    def left_in(self, seconds: float) -> str:
        """Say what so many seconds of it are."""
        by = f" ({self.shown_by})" if self.shown_by else ""
        parts = [
            f"{self.median_adu_per_s * seconds:+.3g} ADU in the median pixel{by}"
            if self.median_adu_per_s is not None
            else f"what is not known in the median pixel{by}",
            f"{self.hot_adu_per_s * seconds:+.3g} ADU in hot pixels" if self.hot_adu_per_s is not None else "",
        ]
        return " and ".join(part for part in parts if part)


def dark_rates(dark: LibraryMaster, zero: LibraryMaster | None) -> DarkRates:
    """Return the dark current of a dark, with a bias of its camera if there is one.

    Raises
    ------
    OstcalError
        If a master cannot be read.
    """
    bands = sampled_bands(dark.key.height, dark.key.width)
    level = np.concatenate([dark.plane.read_rows(start, stop).ravel() for start, stop in bands]).astype(np.float64)
    seconds = dark.key.exposure_time_s
    if zero is not None and not dark.key.bias_subtracted:
        level -= np.concatenate([zero.plane.read_rows(start, stop).ravel() for start, stop in bands])
        seconds -= zero.key.exposure_time_s
    level = level[np.isfinite(level)]
    if not level.size or seconds <= 0:
        return DarkRates(median_adu_per_s=None, hot_adu_per_s=None)
    middle = float(np.median(level))
    hot = level[level > middle + HOT_SPREADS * max(half_spread(level - middle), 1e-6)]
    has_zero = zero is not None or dark.key.bias_subtracted
    median = middle / seconds if has_zero else number_in(measured_with(dark), "dark_current_adu_per_s")
    above = float(np.median(hot)) - middle if hot.size else None
    return DarkRates(
        median_adu_per_s=median,
        hot_adu_per_s=above / seconds + (median or 0.0) if above is not None else None,
    )


def unscaled_warning(key: GroupKey, dark: DarkMix, library: Sequence[LibraryMaster], rules: MatchRules) -> str:
    """Return the line about a dark of another exposure that is subtracted as it is."""
    master = dark.parts[0].master
    rates = rates_in_library(master, library, rules)
    left = rates.left_in(key.exposure_time_s - master.key.exposure_time_s)
    return (
        f"no dark of {key.exposure_time_s:g} s, {dark.description} is subtracted: {dark.unscaled}; that leaves {left}; "
        "take bias frames, or darks of this exposure"
    )


def rates_in_library(dark: LibraryMaster, library: Sequence[LibraryMaster], rules: MatchRules) -> DarkRates:
    """Return the dark current of a dark, from whatever of its library shows it best.

    That is a bias of its night; else what was measured when it was made; else a bias of the camera, of any temperature;
    else what was measured with another dark of its temperature; else the difference to one of another exposure.

    Raises
    ------
    OstcalError
        If a master cannot be read.
    """
    shelf = shelf_of(library, rules)
    fits = shelf.fits(dark.key)

    def recording_all(kind: FrameType, some: Sequence[Fit]) -> list[LibraryMaster]:
        own = [fit for fit in some if fit.key.frame_type is kind and not unstated_settings(dark.key, fit.key)]
        return [master for master in shelf.masters_of(own) if master.record.name != dark.record.name]

    biases = recording_all(FrameType.BIAS, fits.of_camera)
    biases.sort(key=lambda m: (_steps(dark.key, m.key), _days(dark, m), m.record.name))
    if biases and _days(dark, biases[0]) <= 1 and not dark.key.bias_subtracted:
        return replace(dark_rates(dark, biases[0]), shown_by=f"above the bias {biases[0].record.name}")
    own = dark_rates(dark, None)
    if own.median_adu_per_s is not None:
        return own
    if biases:
        return replace(dark_rates(dark, biases[0]), shown_by=f"above the bias {biases[0].record.name}")
    darks = recording_all(FrameType.DARK, fits.plain)
    for other in darks:
        measured = number_in(measured_with(other), "dark_current_adu_per_s")
        if measured is not None:
            return _with_median(own, measured, f"as measured with {other.record.name}")
    apart = [m for m in darks if not is_same_exposure(dark.key, m.key)]
    if not apart:
        return replace(own, shown_by="no bias, no dark of another exposure and no measurement shows its dark current")
    other = max(apart, key=lambda m: (abs(m.key.exposure_time_s - dark.key.exposure_time_s), m.record.name))
    seconds = dark.key.exposure_time_s - other.key.exposure_time_s
    rate = (_median_level_adu(dark) - _median_level_adu(other)) / seconds
    return _with_median(own, rate, f"from the difference to {other.record.name} of {other.key.exposure_time_s:g} s")


def _with_median(rates: DarkRates, median_adu_per_s: float, shown_by: str) -> DarkRates:
    """Return rates with that of the median pixel, to which hot pixels add theirs."""
    hot = rates.hot_adu_per_s
    return DarkRates(
        median_adu_per_s=median_adu_per_s,
        hot_adu_per_s=hot + median_adu_per_s if hot is not None else None,
        shown_by=shown_by,
    )


def _median_level_adu(master: LibraryMaster) -> float:
    bands = sampled_bands(master.key.height, master.key.width)
    return float(np.nanmedian(np.concatenate([master.plane.read_rows(*band).ravel() for band in bands])))


def _steps(a: GroupKey, b: GroupKey) -> float:
    """Return the steps of temperature between two masters; of one that is not known more than of any that is."""
    if a.temperature_c is None or b.temperature_c is None:
        return math.inf
    return round(abs(a.temperature_c - b.temperature_c) / TEMPERATURE_STEP_C)


def _days(a: LibraryMaster, b: LibraryMaster) -> float:
    """Return the days between the frames of two masters; of one that is not known more than of any that is."""
    one, other = a.record.observed, b.record.observed
    return math.inf if one is None or other is None else round(abs(one.age_days(other.middle)))


def other_temperatures(key: GroupKey, bias: LibraryMaster, library: Sequence[LibraryMaster], rules: MatchRules) -> str:
    """Say what the darks of another temperature show of a frame from which a bias alone is subtracted; "" without."""
    if key.temperature_c is None:
        return ""
    frame_c, shelf = key.temperature_c, shelf_of(library, rules)
    darks = [fit for fit in shelf.of_camera(key) if fit.key.frame_type is FrameType.DARK]
    others = [
        (round(abs(dark_c - frame_c) / TEMPERATURE_STEP_C), _days(bias, master), dark_c, master)
        for master in shelf.masters_of(darks)
        if master.key.exposure_time_s > 0 and (dark_c := master.key.temperature_c) is not None
    ]
    if not others:
        return ""
    *_, dark_c, master = min(others, key=lambda one: (*one[:2], -one[3].key.exposure_time_s, one[3].record.name))
    bound = "less than" if frame_c < dark_c else "more than"
    left = replace(rates_in_library(master, shelf, rules), shown_by="").left_in(key.exposure_time_s)
    times = 2 ** ((frame_c - dark_c) / USUAL_DOUBLING_C)
    return (
        f"the nearest dark, {master.record.name}, is of {degrees_text(dark_c)}: {bound} {left} is left in at "
        f"{degrees_text(frame_c)}, about {times:.2g} times that if dark current doubles in {USUAL_DOUBLING_C:g} C"
    )


def measured_with(master: LibraryMaster) -> Mapping[str, Any]:
    """Return what was measured of the camera when a master was made; empty where it is not stored."""
    if not isinstance(master.plane, StorePlane):
        return {}
    stored = MasterStore(master.plane.store).attributes(master.record.name).get("camera_properties")
    return stored if isinstance(stored, Mapping) else {}


def number_in(values: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a mapping; ``None`` where it is none."""
    value = values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
