"""What is measured of a camera, with uncertainties, and the surveyed series that it is measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.codec import to_values_with_nulls
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.live import SATURATED_FROM
from ostcal.response import LinearityCurve

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number and its standard deviation."""

    value: float
    uncertainty: float

    def __mul__(self, other: Measured) -> Measured:
        """Multiply two independent numbers."""
        return Measured(
            value=self.value * other.value,
            uncertainty=math.hypot(self.uncertainty * other.value, self.value * other.uncertainty),
        )


@dataclass(frozen=True, kw_only=True)
class SurveyedSeries:
    """A series of bias, dark or flat frames of one camera and setting, as far as it was surveyed."""

    survey: SeriesSurvey
    exposures_s: tuple[float, ...]
    """Of each frame, in the order of the survey."""
    filter_name: str | None = None
    subtracted: bool = False
    """Whether a dark or bias was already subtracted, as headers say or levels show."""

    is_ladder: bool = False
    """Whether these are single frames of different exposures, in ascending order, of which no master is made."""

    @property
    def exposure_s(self) -> float:
        """Median exposure."""
        return float(np.median(self.exposures_s))


@dataclass(frozen=True, kw_only=True)
class FullScale:
    """The level at which samples end."""

    adu: float
    why: str
    """What shows it, such as ``samples of flats pile up there``."""
    is_whole_word: bool = False
    """Whether nothing but the size of a sample says it."""
    notes: tuple[str, ...] = ()
    """Cards that the samples contradict."""

    @property
    def saturated_from_adu(self) -> float:
        """Samples from here on are saturated."""
        return SATURATED_FROM * self.adu

    @property
    def in_words(self) -> str:
        """Say the level and what shows it."""
        return f"full scale is {self.adu:g} ADU: {self.why}"


@dataclass(frozen=True, kw_only=True)
class PhotonTransfer:
    """Points of the photon-transfer curve: one for each cell of each series of flats, mean over its pairs."""

    signal_adu: FloatArray
    """Above the dark."""
    variance_adu2: FloatArray
    """Above the dark's."""
    used: NDArray[np.bool_]
    """Whether it was used for the gain."""

    def as_dict(self) -> dict[str, list[float] | list[bool]]:
        """Return it as JSON values, rounded to 7 digits."""
        return {
            "signal_adu": [float(f"{x:.7g}") for x in self.signal_adu],
            "variance_adu2": [float(f"{x:.7g}") for x in self.variance_adu2],
            "used": [bool(x) for x in self.used],
        }


@dataclass(frozen=True, kw_only=True)
class DarkLadder:
    """Levels of bias and dark frames against their exposure, and the line through them."""

    exposures_s: tuple[float, ...]
    levels_adu: tuple[float, ...]
    errors_adu: tuple[float, ...]
    """Noise of each level, that of one frame where there is one."""
    offset_adu: float
    rate_adu_per_s: float
    reduced_chi_square: float | None
    """``None`` for two exposures, which any line fits."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values: dict[str, Any] = to_values_with_nulls(self)
        return values


@dataclass(frozen=True, kw_only=True)
class CameraProperties:
    """What was measured of a camera at one setting; ``None`` is not measured, and `reasons` says why."""

    gain_e_per_adu: Measured | None = None
    read_noise_adu: Measured | None = None
    read_noise_spread_adu: float | None = None
    """The same from the spread of the pixels about the mean of the other frames: a cross-check."""
    read_noise_e: Measured | None = None
    dark_current_adu_per_s: Measured | None = None
    """Of the median pixel."""
    dark_current_e_per_s: Measured | None = None
    full_well_e: Measured | None = None
    full_well_adu: float | None = None
    linearity_percent: Measured | None = None
    """Largest deviation of a level from the straight line in exposure."""
    bits_used: int | None = None
    step_adu: float | None = None
    """Step of the converter as the samples show it: 4 for 14 bits shifted to 16."""
    full_scale: FullScale | None = None
    """Level at which samples end; ``None`` for floats."""
    linear_end_adu: float | None = None
    """Level from which on flats are not linear, as their noise shows."""
    linearity_curve: LinearityCurve | None = None
    """The response to light, where a ladder of flats shows it."""
    photon_transfer: PhotonTransfer | None = None
    dark_ladder: DarkLadder | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a property was not measured, by its name."""
    notes: tuple[str, ...] = ()
    """What to know of those that were."""

    def as_dict(self) -> dict[str, Any]:
        """Return the properties as JSON values: ``NAME`` and, of those that have one, ``NAME_uncertainty``."""
        values: dict[str, Any] = {}
        for name in (
            "gain_e_per_adu", "read_noise_adu", "read_noise_e", "dark_current_adu_per_s", "dark_current_e_per_s",
            "full_well_e", "linearity_percent",
        ):  # fmt: skip
            measured: Measured | None = getattr(self, name)
            values[name] = None if measured is None else measured.value
            values[f"{name}_uncertainty"] = None if measured is None else measured.uncertainty
        for name in ("read_noise_spread_adu", "full_well_adu", "bits_used", "step_adu", "linear_end_adu"):
            values[name] = getattr(self, name)
        values["full_scale_adu"] = None if self.full_scale is None else self.full_scale.adu
        values["full_scale_source"] = None if self.full_scale is None else self.full_scale.why
        curve = self.linearity_curve
        values["linearity_curve"] = None if curve is None else to_values_with_nulls(curve)
        values["dark_ladder"] = None if self.dark_ladder is None else self.dark_ladder.as_dict()
        values["photon_transfer"] = None if self.photon_transfer is None else self.photon_transfer.as_dict()
        values["reasons"] = dict(self.reasons)
        values["notes"] = list(self.notes)
        return values
