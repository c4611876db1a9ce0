"""Dark current of every pixel over temperature: how fast it grows, and the dark of a temperature between.

At one exposure a pixel is ``zero + current * growth(T)``, with a growth of ``2^((T - T0) / d)`` or after Arrhenius,
``exp(-E / k (1 / T - 1 / T0))`` (Widenhorn et al. 2002, Proc. SPIE 4669, 193). Both are ``exp(slope * x(T))`` with
another scale of temperature x. Given the slope the pixel is a line over growth, fitted as a line over exposures is
(`ostcal.measure.camera.dark_ladder`). Pixels that warm enough have a slope of their own, drawn towards that of
their class as far as they are noisy; the others have that of their class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.camera.dark_current import BIAS_DRIFT_ADU
from ostcal.measure.camera.dark_ladder import LEAST_HOT_PIXELS, LadderFit, fit_ladder
from ostcal.measure.estimators import half_spread

FloatPlane = NDArray[np.float32]
FloatArray = NDArray[np.float64]

LawName = Literal["doubling", "Arrhenius"]

ZERO_C = -273.15

OWN_SLOPE_NOISES = 20.0
"""A pixel whose level rises by this many times its noise has a slope of its own: with less, its own is less well known
than that of its class."""

USUAL_DOUBLING_C = 6.3
USUAL_SPREAD = 0.35
"""Of the slope, relative: what is assumed before anything is measured. The band gap of silicon (1.12 eV) alone would
double dark current in 4.6 degrees at 20 C; the maker's figures of one CMOS camera give 9.4 degrees."""

DOUBLING_LIMITS_C = (3.5, 12.0)
"""Wider than that: a class that doubles faster or slower has masters of wrong temperatures."""

LEAST_SPREAD = 0.03
"""Of the slopes of a class, relative."""
UNKNOWN_SPREAD = 0.1
"""Of the slopes of a class whose pixels are too quiet to show it, relative."""

LEAST_MASTERS = 3
"""Fewer say nothing of one that is left out."""

_SAMPLES_AT_ONCE = 2**18
"""Of all masters that are fitted at a time: 2 MB of float64, a dozen times."""

_STEPS = 5
"""Of Gauss and Newton towards the slope of a pixel."""


@dataclass(frozen=True, kw_only=True)
class WarmingLaw:
    """How dark current depends on temperature, with the slope left open."""

    name: LawName
    reference_c: float
    """Where the growth is 1."""

    def scale(self, temperature_c: float) -> float:
        """Return degrees from the reference on the scale on which the logarithm of the growth is straight."""
        apart = temperature_c - self.reference_c
        if self.name == "doubling":
            return apart
        return apart * (self.reference_c - ZERO_C) / (temperature_c - ZERO_C)


@dataclass(frozen=True, kw_only=True)
class SlopeClass:
    """Slopes of the pixels of a class, 1/C."""

    slope: float
    spread: float
    is_measured: bool = True
    """Whether the pixels show it, or it is what sensors are known for."""

    @property
    def doubling_c(self) -> float:
        """Degrees in which dark current doubles, at the reference temperature."""
        return math.log(2) / self.slope


@dataclass(frozen=True, kw_only=True)
class Warming:
    """What the masters of a camera show of the growth of its dark current."""

    law: WarmingLaw
    temperatures_c: tuple[float, ...]
    """Of the masters, ascending; a bias, which comes before them, has none."""
    has_zero: bool
    """Whether the first master is a bias: level without dark current."""
    quiet: SlopeClass
    """Pixels that are too quiet for a slope of their own."""
    warm: SlopeClass
    """Pixels with slopes of their own."""

    @property
    def scales(self) -> list[float]:
        """Of all masters; that of a bias is minus infinity."""
        scales = [self.law.scale(temperature_c) for temperature_c in self.temperatures_c]
        return [-math.inf, *scales] if self.has_zero else scales


@dataclass(frozen=True, kw_only=True)
class PixelFits:
    """Fits with slopes, of n pixels."""

    zero_adu: FloatArray
    current_adu: FloatArray
    """Dark current at the reference temperature, in the exposure of the masters."""
    slope: FloatArray
    slope_variance: FloatArray
    pivot: FloatArray
    """Weighted mean growth."""
    pivot_variance: FloatArray
    current_variance: FloatArray
    bend: FloatArray
    """How much the level at the pivot follows the slope."""
    tilt: FloatArray
    """How much the current follows it."""
    chi_square: FloatArray
    """Per degree of freedom: masters less 2. The deviation from the slope of the class counts as one more."""

    def dark_at(self, scale: float, share: float) -> tuple[FloatArray, FloatArray]:
        """Return level and variance at a temperature, with a share of the dark current."""
        growth = share * np.exp(self.slope * scale)
        level = self.zero_adu + self.current_adu * growth
        lever = growth - self.pivot
        along = self.current_adu * scale * growth - self.bend - self.tilt * lever
        variance = self.pivot_variance + lever**2 * self.current_variance + along**2 * self.slope_variance
        return level, variance


def fit_pixels(
    levels: FloatArray, variances: FloatArray, scales: Sequence[float], slope: FloatArray, spread: FloatArray
) -> PixelFits:
    """Fit (K, n) levels of n pixels over K temperatures, with the slope of the class and its spread for each pixel.

    Samples of infinite variance are left out. Given the slope, zero and current are least squares, so that steps are
    made in the slope alone.
    """
    x = np.asarray(scales, np.float64)[:, None]
    is_dark = np.isfinite(x)
    x = np.where(is_dark, x, 0.0)
    weights = 1 / variances
    usable = weights > 0
    levels = np.where(usable, levels, 0.0)
    prior = 1 / spread**2
    fitted = slope.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        for step in range(_STEPS + 1):
            growth = np.where(is_dark, np.exp(x * fitted), 0.0)
            total = weights.sum(axis=0)
            pivot = (weights * growth).sum(axis=0) / total
            lever = growth - pivot
            span = (weights * lever**2).sum(axis=0)
            middle = (weights * levels).sum(axis=0) / total
            current = (weights * lever * (levels - middle)).sum(axis=0) / span
            left = levels - middle - current * lever
            along = current * x * growth
            bend = (weights * along).sum(axis=0) / total
            tilt = (weights * lever * along).sum(axis=0) / span
            along = along - bend - tilt * lever
            known = (weights * along**2).sum(axis=0) + prior
            if step == _STEPS:
                break
            change = ((weights * left * along).sum(axis=0) + (slope - fitted) * prior) / known
            fitted = np.clip(np.nan_to_num(fitted + change, nan=0.0), slope / 3, 3 * slope)
        freedom = usable.sum(axis=0) - 2
        squares = (weights * left**2).sum(axis=0) + (fitted - slope) ** 2 * prior
        chi_square = np.where(freedom > 0, squares / freedom, np.nan)
        middle[usable.sum(axis=0) < 2] = np.nan
        return PixelFits(
            zero_adu=middle - current * pivot,
            current_adu=current,
            slope=fitted,
            slope_variance=1 / known,
            pivot=pivot,
            pivot_variance=1 / total,
            current_variance=1 / span,
            bend=bend,
            tilt=tilt,
            chi_square=chi_square,
        )


# ---- planes ----


@dataclass(frozen=True, kw_only=True)
class WarmingFit:
    """The fit of rows: that of the quiet class for all pixels, and in its place for some a fit of their own."""

    warming: Warming
    ladder: LadderFit
    """Over the growth of the quiet class; chi-square and current of all pixels."""
    own: NDArray[np.intp]
    """Flat numbers of the pixels with a fit of their own."""
    fits: PixelFits
    without_zero: NDArray[np.intp]
    """Flat numbers of those that do not begin at the bias: glow of the amplifier, which does not grow."""
    fits_without_zero: PixelFits

    def dark_at(
        self, temperature_c: float, share: float, zero: tuple[FloatPlane, FloatPlane] | None
    ) -> tuple[FloatPlane, FloatPlane]:
        """Return level and standard deviation at a temperature, ADU, with a share of the dark current.

        `zero` are level and variance of the bias, from which a share other than 1 counts where the fit does not begin
        at it.
        """
        scale = self.warming.law.scale(temperature_c)
        growth = share * math.exp(self.warming.quiet.slope * scale)
        level = self.ladder.level_at(growth)
        variance = self.ladder.uncertainty_at(growth) ** 2
        along = self.ladder.rate_adu_per_s * np.float32(_bend_of_class(self.warming, scale, share))
        variance += (along * np.float32(self.warming.quiet.spread)) ** 2
        level.flat[self.own], variance.flat[self.own] = self._at(self.fits, scale, share)
        if self.without_zero.size:
            own_level, own_variance = self._at(self.fits_without_zero, scale, 1.0)
            if zero is not None and share != 1.0:
                bias, bias_variance = (plane.ravel()[self.without_zero] for plane in zero)
                own_level = bias + share * (own_level - bias)
                own_variance = share**2 * own_variance + (1 - share) ** 2 * bias_variance
            level.flat[self.without_zero], variance.flat[self.without_zero] = own_level, own_variance
        return level, np.sqrt(variance, out=variance)

    def _at(self, fits: PixelFits, scale: float, share: float) -> tuple[FloatArray, FloatArray]:
        level, variance = fits.dark_at(scale, share)
        bad = fits.chi_square > self.ladder.bad_chi_square  # false for NaN
        return level, np.where(bad, variance * fits.chi_square, variance)


def fit_warming(
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    warming: Warming,
    *,
    saturation_adu: float,
    may_leave_zero: bool = True,
) -> WarmingFit:
    """Fit (rows, width) planes of masters; levels from `saturation_adu` on are left out.

    With `may_leave_zero` pixels whose chi-square is bad are fitted again without the bias.
    """
    scales = warming.scales
    growths = [math.exp(warming.quiet.slope * scale) for scale in scales]
    ladder = fit_ladder(levels, growths, variances, saturation_adu=saturation_adu)
    own = np.flatnonzero(_has_own_slope(levels, variances, warming.has_zero))
    fits = _fits_of(own, levels, variances, warming, saturation_adu, of=warming.warm)
    current_variance = fits.current_variance
    ladder.rate_adu_per_s.flat[own], ladder.rate_variance.flat[own] = fits.current_adu, current_variance
    ladder.chi_square.flat[own], ladder.pivot_variance_adu2.flat[own] = fits.chi_square, fits.pivot_variance
    left = np.zeros(0, np.intp)
    if may_leave_zero and warming.has_zero:
        left = np.flatnonzero(ladder.chi_square > ladder.bad_chi_square)
    is_own = np.isin(left, own)
    slope_of = np.where(is_own, warming.warm.slope, warming.quiet.slope)
    spread_of = np.where(is_own, warming.warm.spread, warming.quiet.spread)
    first = 1 if warming.has_zero else 0
    of_darks = levels[first:], variances[first:], scales[first:]
    return WarmingFit(
        warming=warming,
        ladder=ladder,
        own=own,
        fits=fits,
        without_zero=left,
        fits_without_zero=_fits_in_turn(left, *of_darks, saturation_adu, slope_of, spread_of),
    )


def _has_own_slope(levels: Sequence[FloatPlane], variances: Sequence[FloatPlane], has_zero: bool) -> NDArray[np.bool_]:
    """Return which pixels rise enough from the coldest to the warmest master."""
    first = 1 if has_zero else 0
    with np.errstate(invalid="ignore"):
        rise = levels[-1] - levels[first]
        is_warm: NDArray[np.bool_] = rise > OWN_SLOPE_NOISES * np.sqrt(variances[-1] + variances[first])
    return is_warm


def _samples(
    where: NDArray[np.intp], levels: Sequence[FloatPlane], variances: Sequence[FloatPlane], saturation_adu: float
) -> tuple[FloatArray, FloatArray]:
    """Return levels and variances of some pixels, (K, n); the variance of what cannot be used is infinite."""
    some = np.array([plane.ravel()[where] for plane in levels], np.float64)
    variance = np.array([plane.ravel()[where] for plane in variances], np.float64)
    variance[~(some < saturation_adu) | ~(variance > 0)] = np.inf
    return some, variance


def _fits_of(
    where: NDArray[np.intp],
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    warming: Warming,
    saturation_adu: float,
    of: SlopeClass,
) -> PixelFits:
    slope, spread = np.full(where.size, of.slope), np.full(where.size, of.spread)
    return _fits_in_turn(where, levels, variances, warming.scales, saturation_adu, slope, spread)


def _fits_in_turn(
    where: NDArray[np.intp],
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    scales: Sequence[float],
    saturation_adu: float,
    slope: FloatArray,
    spread: FloatArray,
) -> PixelFits:
    """Fit some pixels of planes, so many at a time that their samples of all masters stay small."""
    step = max(1, _SAMPLES_AT_ONCE // len(levels))
    parts = []
    for first in range(0, max(1, where.size), step):
        some = slice(first, first + step)
        samples = _samples(where[some], levels, variances, saturation_adu)
        parts.append(fit_pixels(*samples, scales, slope[some], spread[some]))
    return PixelFits(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(PixelFits)})


def _bend_of_class(warming: Warming, scale: float, share: float) -> float:
    """Return how much a dark current of 1 follows the slope of the quiet class, if all masters weigh the same."""
    x = np.array(warming.scales)
    is_dark = np.isfinite(x)
    growth = np.where(is_dark, np.exp(warming.quiet.slope * x), 0.0)
    along = np.where(is_dark, x, 0.0) * growth
    tilt, level = np.polyfit(growth, along, 1)
    at = share * math.exp(warming.quiet.slope * scale)
    return float(scale * at - level - tilt * at)


# ---- classes ----


def measure_warming(
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    temperatures_c: Sequence[float],
    *,
    has_zero: bool,
    law: LawName,
    saturation_adu: float,
) -> Warming:
    """Measure the slopes of the quiet pixels, pooled, and of those that have slopes of their own."""
    middle_c = (temperatures_c[0] + temperatures_c[-1]) / 2
    usual = math.log(2) / USUAL_DOUBLING_C
    unknown = SlopeClass(slope=usual, spread=USUAL_SPREAD * usual, is_measured=False)
    start = Warming(
        law=WarmingLaw(name=law, reference_c=middle_c),
        temperatures_c=tuple(temperatures_c),
        has_zero=has_zero,
        quiet=unknown,
        warm=unknown,
    )
    is_own = _has_own_slope(levels, variances, has_zero)
    warm = _warm_class(np.flatnonzero(is_own), levels, variances, start, saturation_adu)
    quiet = _quiet_class(~is_own, levels, start, saturation_adu)
    if not quiet.is_measured and warm.is_measured:
        quiet = SlopeClass(slope=warm.slope, spread=max(warm.spread, UNKNOWN_SPREAD * warm.slope), is_measured=False)
    elif quiet.is_measured:
        shown = warm.spread / warm.slope if warm.is_measured else UNKNOWN_SPREAD
        quiet = SlopeClass(slope=quiet.slope, spread=math.hypot(quiet.spread, shown * quiet.slope))
        warm = warm if warm.is_measured else quiet
    return Warming(law=start.law, temperatures_c=start.temperatures_c, has_zero=has_zero, quiet=quiet, warm=warm)


def _warm_class(
    own: NDArray[np.intp],
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    start: Warming,
    saturation_adu: float,
) -> SlopeClass:
    """Return the median slope of pixels that show theirs, and how much they differ beyond noise."""
    if own.size < LEAST_HOT_PIXELS:
        return start.warm
    for level, variance in zip(levels, variances, strict=True):
        some = variance.ravel()[own]
        own = own[(level.ravel()[own] < saturation_adu) & (some > 0) & np.isfinite(some)]
    fits = _fits_of(own, levels, variances, start, saturation_adu, of=start.warm)
    prior = 1 / start.warm.spread**2
    shown = 1 / fits.slope_variance - prior
    is_shown = shown > 4 * prior
    if np.count_nonzero(is_shown) < LEAST_HOT_PIXELS:
        return start.warm
    shown, slopes = shown[is_shown], fits.slope[is_shown]
    slopes = slopes + (slopes - start.warm.slope) * prior / shown  # without what draws them to the usual one
    middle = float(np.median(slopes))
    beyond = half_spread(slopes) ** 2 - float(np.median(1 / shown))
    return SlopeClass(slope=middle, spread=max(LEAST_SPREAD * middle, math.sqrt(max(0.0, beyond))))


def _quiet_class(
    is_quiet: NDArray[np.bool_], levels: Sequence[FloatPlane], start: Warming, saturation_adu: float
) -> SlopeClass:
    """Return the slope of the median quiet pixel, whose error is what the bias level drifts from series to series."""
    for level in levels:
        is_quiet = is_quiet & (level < saturation_adu)  # false for NaN
    if np.count_nonzero(is_quiet) < LEAST_HOT_PIXELS:
        return start.quiet
    first = levels[1 if start.has_zero else 0][is_quiet]
    curve = np.array([[float(np.median(level[is_quiet] - first))] for level in levels])
    drift = np.full_like(curve, BIAS_DRIFT_ADU**2)
    fits = fit_pixels(curve, drift, start.scales, np.array([start.quiet.slope]), np.array([start.quiet.spread]))
    spread = math.sqrt(float(fits.slope_variance[0]))
    is_measured = spread < start.quiet.spread / 2
    return SlopeClass(slope=float(fits.slope[0]), spread=spread) if is_measured else start.quiet


def left_out_error_c(
    levels: Sequence[FloatPlane],
    variances: Sequence[FloatPlane],
    warming: Warming,
    place: int,
    *,
    saturation_adu: float,
) -> float | None:
    """Return by how many degrees a master is warmer than the others say of it; ``None`` where they do not say it.

    `place` is that of its temperature. The median of pixels that tell a degree from their noise
    and from a drift of the bias.
    """
    number = place + (1 if warming.has_zero else 0)
    rest, rest_variances = [*levels[:number], *levels[number + 1 :]], [*variances[:number], *variances[number + 1 :]]
    if len(rest) < LEAST_MASTERS:
        return None
    temperatures_c = [*warming.temperatures_c[:place], *warming.temperatures_c[place + 1 :]]
    has_zero, law = warming.has_zero, warming.law.name
    others = measure_warming(
        rest, rest_variances, temperatures_c, has_zero=has_zero, law=law, saturation_adu=saturation_adu
    )
    own = np.flatnonzero(_has_own_slope(rest, rest_variances, has_zero))
    fits = _fits_of(own, rest, rest_variances, others, saturation_adu, of=others.warm)
    scale = others.law.scale(warming.temperatures_c[place])
    level, variance = fits.dark_at(scale, 1.0)
    adu_per_c = fits.current_adu * fits.slope * np.exp(fits.slope * scale)
    found = levels[number].ravel()[own]
    with np.errstate(invalid="ignore"):
        noise_adu = np.sqrt(variance + variances[number].ravel()[own] + (2 * BIAS_DRIFT_ADU) ** 2)
        tells = (found < saturation_adu) & (adu_per_c > noise_adu)
    if np.count_nonzero(tells) < LEAST_HOT_PIXELS:
        return None
    return float(np.median((found - level)[tells] / adu_per_c[tells]))


def why_implausible(warming: Warming) -> str:
    """Return why no sensor has such a growth; "" if one may."""
    low_c, high_c = DOUBLING_LIMITS_C
    for pixels in (warming.warm, warming.quiet):
        if pixels.is_measured and not low_c <= pixels.doubling_c <= high_c:
            return (
                f"dark current would double in {pixels.doubling_c:.1f} C, and that of sensors does in {low_c:g} to "
                f"{high_c:g} C; one has a wrong temperature or exposure"
            )
    return ""
