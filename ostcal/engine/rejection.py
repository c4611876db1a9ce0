"""The rejection methods as values: which samples of a pixel are kept, and how the kept ones are combined.

A method says everything of itself here: its name, its keys in the configuration, its cards in headers, and the numbers
that the kernels get. The configuration, its reference and the help are made from `METHODS`.

To add a method: a class here, its row in `METHODS`, how it trims in ``kernels/runs.py`` (`trim_with`), its literal
reference in ``tests/naive.py`` and a word in ``docs/methods.md``; then ``python scripts/make_config_reference.py``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple, Self, get_args

from ostcal.errors import PlanError
from ostcal.vocabulary import ClipCenter, ClipSpread

Card = tuple[str, str | int | float, str]
"""Keyword, value and comment of a FITS card."""

AUTO_MEAN_STD_FRAMES = 21
"""From this many frames on `auto` is mean and standard deviation; mean/std at 3 sigma can reject nothing of ten
frames and one of 11 to 20: m outliers of n pass it unless (n - m) / m > 9."""

MICRO = 1_000_000
"""Spreads of integer data are whole numbers of 1e-6 ADU, so that comparisons with them are exact."""
LARGEST_NOISE_ADU = 9e12
"""Below it the smallest spread is a whole number of 64 bits."""
SMALLEST_NOISE_ADU = 1e-5
"""Of samples without a step: below it the smallest spread is rounded by more than 5 %."""

MAX_THRESHOLD = 1000
MAX_DECIMALS = 4

METHOD_NONE = 0
METHOD_SIGMA_CLIP = 1
METHOD_WINSORIZED = 2
METHOD_MINMAX = 3
METHOD_MEDIAN = 4
METHOD_PERCENTILE = 5


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


# --- what a method says of itself ---


@dataclass(frozen=True, kw_only=True)
class MethodKey:
    """A key of the section ``master_frames`` that a method reads."""

    default: object
    kind: type[int] | type[float] | tuple[str, ...]
    """Type of a number, or the words that are allowed."""
    meaning: str
    """A sentence for the reference."""
    unit: str = ""
    accepts: Callable[[Any], bool] = lambda _: True
    """Returns whether a number is allowed."""
    allowed: str = ""
    """What `accepts` allows, in words."""
    or_null: bool = False


@dataclass(frozen=True, kw_only=True)
class RejectionMethod(ABC):
    """A rejection method; subclasses are complete but for `NoiseModel`, which is measured on the frames."""

    name: ClassVar[str]
    """In the configuration and on the command line."""
    keys: ClassVar[Mapping[str, MethodKey]] = {}
    combined_as: ClassVar[str] = "mean"
    """How the kept samples are combined, for the card ``COMBTYPE``."""
    judges_outliers: ClassVar[bool] = False
    """Whether it rejects what is far from the others, which needs three samples."""
    rejects_by_count: ClassVar[bool] = False
    """Whether it rejects so many samples of every pixel, so that their share says nothing of the frames."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the method with the values of its keys, which are its fields unless a method says otherwise."""
        return cls(**{name: settings[name] for name in cls.keys})

    @abstractmethod
    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""

    def cards(self) -> list[Card]:
        """Return the cards of its parameters (call on a resolved method)."""
        return []

    def resolved(self, n_frames: int) -> Self:
        """Replace what depends on the number of frames."""
        return self

    @property
    def label(self) -> str:
        """Words for the card ``REJTYPE``."""
        return self.name

    @property
    def needs_noise(self) -> bool:
        """Return whether the noise of the series is used (call on a resolved method)."""
        return False


def exact_threshold(value: Fraction | float | int | str) -> Fraction:
    """Return a threshold as the decimal that was written: 2.7 is 27/10.

    Raise `PlanError` if it is not positive, above 1000 or has more than four decimals (products would leave 64-bit
    integers).
    """
    exact = value if isinstance(value, Fraction) else Fraction(str(value))
    in_range = 0 < exact <= MAX_THRESHOLD and exact * exact.denominator**2 <= 3_000_000_000
    if not in_range or 10**MAX_DECIMALS % exact.denominator:
        raise PlanError(
            f"sigma threshold {value}: must be above 0, at most {MAX_THRESHOLD}, with at most {MAX_DECIMALS} decimals"
        )
    return exact


def _has_few_decimals(value: float) -> bool:
    """Return whether a number has at most four decimals, as written."""
    return bool(10**MAX_DECIMALS % Fraction(repr(value)).denominator == 0)


def _threshold_key(default: float | None, meaning: str) -> MethodKey:
    return MethodKey(
        default=default,
        kind=float,
        accepts=lambda value: 0 < value <= MAX_THRESHOLD and _has_few_decimals(value),
        allowed=f"a number above 0, at most {MAX_THRESHOLD}, with at most {MAX_DECIMALS} decimals",
        meaning=meaning,
        unit="sigma",
        or_null=default is None,
    )


def _count_key(default: int, at_least: int, meaning: str, unit: str, *, or_null: bool = False) -> MethodKey:
    return MethodKey(
        default=default,
        kind=int,
        accepts=lambda value: value >= at_least,
        allowed=f"a whole number of at least {at_least}",
        meaning=meaning,
        unit=unit,
        or_null=or_null,
    )


_THRESHOLDS = {
    "sigma_threshold": _threshold_key(
        3.0, "Distance from the centre at which a sample is left out; the decimal is taken exactly as written."
    ),
    "sigma_low": _threshold_key(None, "The same below the centre only; null is sigma_threshold."),
    "sigma_high": _threshold_key(None, "The same above the centre only; null is sigma_threshold."),
}
_MIN_KEEP = {"min_keep": _count_key(1, 1, "Least number of samples that clipping keeps of a pixel.", "samples")}


# --- methods ---


@dataclass(frozen=True, kw_only=True)
class _Clipping(RejectionMethod):
    """What the methods that clip at a number of spreads share."""

    low: Fraction = Fraction(3)
    high: Fraction = Fraction(3)
    min_keep: int = 1

    judges_outliers = True

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the method with the values of its keys."""
        low, high = (
            Fraction(repr(settings["sigma_threshold"] if settings[side] is None else settings[side]))
            for side in ("sigma_low", "sigma_high")
        )
        return cls(low=low, high=high, min_keep=settings["min_keep"])

    def cards(self) -> list[Card]:
        """Return the cards of its parameters (call on a resolved method)."""
        return [
            ("SIGLOW", float(self.low), "threshold below the centre"),
            ("SIGHIGH", float(self.high), "threshold above the centre"),
            ("MINKEEP", self.min_keep, "samples a pass must leave"),
        ]

    def _rule(self, method: int, max_passes: int, noise: SeriesNoise) -> Rule:
        low, high = exact_threshold(self.low), exact_threshold(self.high)
        return Rule(
            method=method,
            max_passes=max_passes,
            min_keep=max(1, self.min_keep),
            low_numerator=low.numerator,
            low_denominator=low.denominator,
            high_numerator=high.numerator,
            high_denominator=high.denominator,
            floor_micro_adu=noise.floor_micro_adu,
            step_micro_adu=round(noise.step_adu * MICRO),
        )


@dataclass(frozen=True, kw_only=True)
class SigmaClip(_Clipping):
    """Keep samples within k spreads of the centre, pass after pass (mean/std, median/MAD or mixed).

    A pass that would leave fewer than `min_keep` samples is not applied and ends the passes, so that mean/std
    with one pass gives the plain mean where none would be kept.
    """

    center: ClipCenter = "auto"
    spread: ClipSpread = "auto"
    iterations: int | None = 1
    """Passes at most; ``None`` is to convergence."""
    model: NoiseModel | None = None
    """Of the camera, for the spread ``noise``; without it that spread is ``auto``."""

    name = "sigma_clip"
    keys: ClassVar[Mapping[str, MethodKey]] = {
        **_THRESHOLDS,
        "clip_center": MethodKey(
            default="auto",
            kind=get_args(ClipCenter),
            meaning="Centre of the samples for sigma_clip; auto is the mean from 21 frames on and the median below.",
        ),
        "clip_spread": MethodKey(
            default="auto",
            kind=get_args(ClipSpread),
            meaning="Spread of the samples for sigma_clip; auto is the standard deviation from 21 frames on and the"
            " median absolute deviation below, because one outlier among few samples inflates the standard deviation;"
            " noise is the noise predicted from the signal of the pixel with the read noise and the gain measured from"
            " the same frames.",
        ),
        "clip_iterations": _count_key(
            1, 1, "Passes of sigma clipping; null repeats until nothing changes.", "passes", or_null=True
        ),
        **_MIN_KEEP,
    }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the method with the values of its keys."""
        return replace(
            super().from_settings(settings),
            center=settings["clip_center"],
            spread=settings["clip_spread"],
            iterations=settings["clip_iterations"],
        )

    def resolved(self, n_frames: int) -> Self:
        """Replace ``auto`` by what it means for `n_frames`."""
        many = n_frames >= AUTO_MEAN_STD_FRAMES
        center: ClipCenter = ("mean" if many else "median") if self.center == "auto" else self.center
        is_open = self.spread == "auto" or (self.spread == "noise" and self.model is None)
        spread: ClipSpread = ("std" if many else "mad") if is_open else self.spread
        return replace(self, center=center, spread=spread)

    @property
    def needs_noise(self) -> bool:
        """Return whether the noise of the series is used (call on a resolved method)."""
        return self.spread != "std"

    @property
    def label(self) -> str:
        """Words for the card ``REJTYPE``."""
        return f"sigma_clip {self.center}/{self.spread}"

    def cards(self) -> list[Card]:
        """Return the cards of its parameters (call on a resolved method)."""
        passes = -1 if self.iterations is None else self.iterations
        return [*super().cards(), ("CLIPITER", passes, "passes at the most, -1: to convergence")]

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        rule = self._rule(METHOD_SIGMA_CLIP, -1 if self.iterations is None else self.iterations, noise)
        rule = rule._replace(center_is_median=self.center == "median", spread_is_mad=self.spread == "mad")
        if self.spread != "noise" or self.model is None:
            return rule
        return rule._replace(
            spread_is_modelled=True,
            variance_adu2=self.model.read_noise_adu**2 + noise.step_adu**2 / 12,
            signal_zero_adu=self.model.bias_level_adu,
            variance_per_adu=1.0 / self.model.gain_e_per_adu,
        )


@dataclass(frozen=True, kw_only=True)
class MinMax(RejectionMethod):
    """Drop the lowest and the highest samples; plain mean for two samples or where nothing would be left."""

    n_low: int = 1
    n_high: int = 1

    name = "minmax"
    keys: ClassVar[Mapping[str, MethodKey]] = {
        "n_low": _count_key(1, 0, "Lowest samples of a pixel left out by minmax.", "samples"),
        "n_high": _count_key(1, 0, "Highest samples of a pixel left out by minmax.", "samples"),
    }
    rejects_by_count = True

    def cards(self) -> list[Card]:
        """Return the cards of its parameters."""
        return [
            ("NREJLO", self.n_low, "lowest samples dropped per pixel"),
            ("NREJHI", self.n_high, "highest samples dropped per pixel"),
        ]

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_MINMAX, max_passes=1, n_low=self.n_low, n_high=self.n_high)


def _fraction_key(meaning: str) -> MethodKey:
    return MethodKey(
        default=0.1,
        kind=float,
        accepts=lambda value: 0 <= value < 0.5 and _has_few_decimals(value),
        allowed=f"a number from 0 to below 0.5, with at most {MAX_DECIMALS} decimals",
        meaning=meaning,
    )


@dataclass(frozen=True, kw_only=True)
class Percentile(RejectionMethod):
    """Drop a fraction of the samples at each end, rounded down; at least one sample stays.

    Each fraction is below 1/2 and has at most four decimals. Source: the trimmed mean (Tukey 1962), by each end.
    """

    n_low: Fraction = Fraction(1, 10)
    n_high: Fraction = Fraction(1, 10)

    name = "percentile"
    keys: ClassVar[Mapping[str, MethodKey]] = {
        "percentile_low": _fraction_key("Fraction of a pixel's samples left out by percentile, the lowest ones."),
        "percentile_high": _fraction_key("Fraction of a pixel's samples left out by percentile, the highest ones."),
    }
    rejects_by_count = True

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the method with the values of its keys."""
        low, high = (Fraction(repr(settings[name])) for name in cls.keys)
        return cls(n_low=low, n_high=high)

    def cards(self) -> list[Card]:
        """Return the cards of its parameters."""
        return [
            ("NREJLO", float(self.n_low), "fraction of lowest samples dropped per pixel"),
            ("NREJHI", float(self.n_high), "fraction of highest samples dropped per pixel"),
        ]

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(
            method=METHOD_PERCENTILE,
            max_passes=1,
            low_numerator=self.n_low.numerator,
            low_denominator=self.n_low.denominator,
            high_numerator=self.n_high.numerator,
            high_denominator=self.n_high.denominator,
        )


@dataclass(frozen=True, kw_only=True)
class WinsorizedSigmaClip(_Clipping):
    """Sigma clip about the median with a spread of winsorized samples, to convergence.

    Source: the winsorization of Huber's estimator as PixInsight's ImageIntegration documents it (clamp at 1.5 sigma,
    factor 1.134, until sigma changes by less than 0.05 %).
    """

    name = "winsorized_sigma_clip"
    keys: ClassVar[Mapping[str, MethodKey]] = {**_THRESHOLDS, **_MIN_KEEP}

    @property
    def needs_noise(self) -> bool:
        """Return whether the noise of the series is used."""
        return True

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return self._rule(METHOD_WINSORIZED, -1, noise)


@dataclass(frozen=True, kw_only=True)
class Median(RejectionMethod):
    """The median of all samples."""

    name = "median"
    combined_as = "median"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_MEDIAN, max_passes=0)


@dataclass(frozen=True, kw_only=True)
class NoRejection(RejectionMethod):
    """The plain mean of all samples."""

    name = "none"

    def rule(self, noise: SeriesNoise) -> Rule:
        """Return the numbers for the kernels."""
        return Rule(method=METHOD_NONE, max_passes=0)


METHODS: dict[str, type[RejectionMethod]] = {
    method.name: method for method in (SigmaClip, MinMax, WinsorizedSigmaClip, Median, NoRejection, Percentile)
}
"""Every method by its name, in the order of the reference."""

METHOD_KEYS = {key: value for method in METHODS.values() for key, value in method.keys.items()}
"""The keys of all methods; some are of several."""
