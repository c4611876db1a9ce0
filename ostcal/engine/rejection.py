"""The rejection methods as values: which samples of a pixel are kept, and how the kept ones are combined.

To add a method: a frozen dataclass here with a ``code`` and ``parameters``, the function of its code in
``kernels.py``, its literal reference in ``tests/naive.py``, a row in ``tests/test_combine.py`` and a word in
``config/values.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple, Self

from ostcal.errors import PlanError
from ostcal.vocabulary import ClipCenter, ClipSpread

AUTO_MEAN_STD_FRAMES = 21
"""From this many frames on `auto` is mean and standard deviation; mean/std at 3 sigma can reject nothing of ten
frames and one of 11 to 20: m outliers of n pass it unless (n - m) / m > 9."""

MICRO = 1_000_000
"""Spreads of integer data are whole numbers of 1e-6 ADU, so that comparisons with them are exact."""

MAX_THRESHOLD = 1000
MAX_DECIMALS = 4


METHOD_NONE = 0
METHOD_SIGMA_CLIP = 1
METHOD_WINSORIZED = 2
METHOD_MINMAX = 3
METHOD_MEDIAN = 4


class Rule(NamedTuple):
    """What the kernels need of a method, numbers only; written with keywords, for many are of the same type."""

    method: int
    """One of ``METHOD_*``."""
    max_passes: int
    """Passes at most; -1 is to convergence, 0 for methods that reject nothing."""
    min_keep: int = 1
    """A pass that would keep fewer samples is not applied."""
    center_is_median: bool = False
    """Whether sigma clipping measures from the median, not from the mean."""
    spread_is_mad: bool = False
    spread_is_modelled: bool = False
    """Whether the spread of a pixel is ``sqrt(variance + max(0, median - signal_zero) * variance_per_adu)``."""
    low_numerator: int = 0
    low_denominator: int = 1
    high_numerator: int = 0
    high_denominator: int = 1
    n_low: int = 0
    n_high: int = 0
    floor_micro_adu: int = 0
    step_micro_adu: int = MICRO
    variance_adu2: float = 0.0
    signal_zero_adu: float = 0.0
    variance_per_adu: float = 0.0

    @property
    def is_average(self) -> bool:
        """Whether sums and extremes decide for most pixels that nothing is rejected: mean/std, or no rejection."""
        is_by_std = not (self.center_is_median or self.spread_is_mad or self.spread_is_modelled)
        return self.method == METHOD_NONE or (self.method == METHOD_SIGMA_CLIP and is_by_std)


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """The noise that a camera adds to a sample: variance = read noise^2 + signal / gain."""

    read_noise_adu: float
    gain_e_per_adu: float
    bias_level_adu: float = 0.0
    """Level without signal; 0 for flats, whose dark is subtracted before rejection."""


@dataclass(frozen=True, kw_only=True)
class SeriesNoise:
    """The noise of a series, measured once on the series itself."""

    noise_adu: float = 0.0
    """Standard deviation of one sample about its pixel's mean."""
    step_adu: float = 1.0
    """Step of quantisation: 1 for whole numbers, 0 for continuous samples."""

    @property
    def floor_micro_adu(self) -> int:
        """``sqrt(noise^2 + step^2 / 12)`` as a whole number of 1e-6 ADU: what a spread never falls below."""
        return round(math.sqrt(self.noise_adu**2 + self.step_adu**2 / 12) * MICRO)


def exact_threshold(value: Fraction | float | int | str) -> Fraction:
    """Give a threshold as the decimal that was written: 2.7 is 27/10.

    Raises
    ------
    PlanError
        If it is not positive, above 1000 or has more than four decimals (products would leave 64-bit integers).
    """
    exact = value if isinstance(value, Fraction) else Fraction(str(value))
    in_range = 0 < exact <= MAX_THRESHOLD and exact * exact.denominator**2 <= 3_000_000_000
    if not in_range or 10**MAX_DECIMALS % exact.denominator:
        raise PlanError(
            f"sigma threshold {value}: must be above 0, at most {MAX_THRESHOLD}, with at most {MAX_DECIMALS} decimals"
        )
    return exact


class _Method:
    """What most methods share: nothing depends on the number of frames, and no noise is needed."""

    needs_noise = False

    def resolved(self, n_frames: int) -> Self:
        """Give itself: nothing depends on the number of frames."""
        return self


def _clipping(low: Fraction, high: Fraction, min_keep: int, noise: SeriesNoise, **others: Any) -> Rule:
    """Give the numbers that the clipping methods share, and `others`."""
    low, high = exact_threshold(low), exact_threshold(high)
    return Rule(
        low_numerator=low.numerator,
        low_denominator=low.denominator,
        high_numerator=high.numerator,
        high_denominator=high.denominator,
        min_keep=max(1, min_keep),
        floor_micro_adu=noise.floor_micro_adu,
        step_micro_adu=round(noise.step_adu * MICRO),
        **others,
    )


@dataclass(frozen=True, kw_only=True)
class SigmaClip:
    """Keep samples within k spreads of the centre, pass after pass (mean/std, median/MAD or mixed).

    A pass that would leave fewer than `min_keep` samples is not applied and ends the passes, so that mean/std
    with one pass gives the plain mean where none would be kept.
    """

    low: Fraction = Fraction(3)
    high: Fraction = Fraction(3)
    center: ClipCenter = "auto"
    spread: ClipSpread = "auto"
    iterations: int | None = 1
    """Passes at the most; ``None`` is to convergence."""
    min_keep: int = 1
    model: NoiseModel | None = None
    """Of the camera, for the spread ``noise``; without it that spread is ``auto``."""

    name = "sigma_clip"

    def resolved(self, n_frames: int) -> SigmaClip:
        """Replace ``auto`` by what it means for `n_frames`."""
        many = n_frames >= AUTO_MEAN_STD_FRAMES
        center: ClipCenter = ("mean" if many else "median") if self.center == "auto" else self.center
        is_open = self.spread == "auto" or (self.spread == "noise" and self.model is None)
        spread: ClipSpread = ("std" if many else "mad") if is_open else self.spread
        return replace(self, center=center, spread=spread)

    @property
    def needs_noise(self) -> bool:
        """Whether the series' noise is used (call on a resolved method)."""
        return self.spread != "std"

    @property
    def label(self) -> str:
        """The words for a header card."""
        return f"sigma_clip {self.center}/{self.spread}"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return _clipping(
            self.low,
            self.high,
            self.min_keep,
            noise,
            method=METHOD_SIGMA_CLIP,
            center_is_median=self.center == "median",
            spread_is_mad=self.spread == "mad",
            max_passes=-1 if self.iterations is None else self.iterations,
            **self._modelled(noise),
        )

    def _modelled(self, noise: SeriesNoise) -> dict[str, Any]:
        """Give the numbers of the noise model where the spread comes from it."""
        if self.spread != "noise" or self.model is None:
            return {}
        return {
            "spread_is_modelled": True,
            "variance_adu2": self.model.read_noise_adu**2 + noise.step_adu**2 / 12,
            "signal_zero_adu": self.model.bias_level_adu,
            "variance_per_adu": 1.0 / self.model.gain_e_per_adu,
        }


@dataclass(frozen=True, kw_only=True)
class WinsorizedSigmaClip(_Method):
    """Sigma clip about the median with a spread of winsorized samples, to convergence.

    Source: the winsorization of Huber's estimator as PixInsight's ImageIntegration documents it (clamp at 1.5 sigma,
    factor 1.134, until sigma changes by less than 0.05 %).
    """

    low: Fraction = Fraction(3)
    high: Fraction = Fraction(3)
    min_keep: int = 1

    name = "winsorized_sigma_clip"
    needs_noise = True
    label = "winsorized_sigma_clip"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return _clipping(self.low, self.high, self.min_keep, noise, method=METHOD_WINSORIZED, max_passes=-1)


@dataclass(frozen=True, kw_only=True)
class MinMax(_Method):
    """Drop the lowest and the highest samples; plain mean for two samples or where nothing would be left."""

    n_low: int = 1
    n_high: int = 1

    name = "minmax"
    label = "minmax"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_MINMAX, max_passes=1, n_low=self.n_low, n_high=self.n_high)


@dataclass(frozen=True, kw_only=True)
class Median(_Method):
    """The median of all samples."""

    name = "median"
    label = "median"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_MEDIAN, max_passes=0)


@dataclass(frozen=True, kw_only=True)
class NoRejection(_Method):
    """The plain mean of all samples."""

    name = "none"
    label = "none"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_NONE, max_passes=0)


RejectionMethod = SigmaClip | WinsorizedSigmaClip | MinMax | Median | NoRejection
