"""What a dark that does not fit quite leaves in a frame, in ADU, from the dark current that the masters show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ostcal.build.match_darks import why_unfit
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.store import MasterStore
from ostcal.measure.estimators import half_spread
from ostcal.science.matched import DarkMix, MatchRules, usable_masters
from ostcal.science.synthetic_dark import sampled_bands

HOT_SPREADS = 10.0
"""Pixels above the median by this many times the spread of a master are hot."""


@dataclass(frozen=True, kw_only=True)
class DarkRates:
    """Dark current of a master, ADU/s; ``None`` where it does not show it."""

    median_adu_per_s: float | None
    hot_adu_per_s: float | None
    """Median of the hot pixels; above that of the median pixel if that is not known."""

    def left_in(self, seconds: float) -> str:
        """Say what so many seconds of it are."""
        parts = [
            f"{self.median_adu_per_s * seconds:+.3g} ADU in the median pixel"
            if self.median_adu_per_s is not None
            else "what is not known in the median pixel",
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


def unscaled_warning(key: GroupKey, dark: DarkMix) -> str:
    """Return the line about a dark of another exposure that is subtracted as it is."""
    master = dark.parts[0].master
    left = dark_rates(master, None).left_in(key.exposure_time_s - master.key.exposure_time_s)
    return (
        f"no dark of {key.exposure_time_s:g} s, {dark.description} is subtracted: {dark.unscaled}; that leaves {left}; "
        "take bias frames, or darks of this exposure"
    )


def other_temperatures(key: GroupKey, bias: LibraryMaster, library: Sequence[LibraryMaster], rules: MatchRules) -> str:
    """Say what the darks of another temperature show of a frame from which a bias alone is subtracted; "" without."""
    if key.temperature_c is None:
        return ""
    frame_c = key.temperature_c
    of_camera = replace(key, temperature_c=None)
    others = [
        (abs(dark_c - frame_c), dark_c, master)
        for master in usable_masters(library, rules)
        if master.key.frame_type is FrameType.DARK
        and master.key.exposure_time_s > 0
        and not why_unfit(of_camera, master.key, 0.0)
        and (dark_c := master.key.temperature_c) is not None
    ]
    if not others:
        return ""
    _, dark_c, master = min(others, key=lambda one: (one[0], -one[2].key.exposure_time_s, one[2].record.name))
    bound = "less than" if frame_c < dark_c else "more than"
    left = dark_rates(master, bias).left_in(key.exposure_time_s)
    return f"the nearest dark, {master.record.name}, is of {dark_c:.4g} C: {bound} {left} is left in at {frame_c:.4g} C"


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
