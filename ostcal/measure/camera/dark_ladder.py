"""Dark current of every pixel: least squares of dark masters against their exposure.

A pixel of a dark is ``offset + rate * exposure`` as long as its temperature is the same and it does not saturate
(Janesick, "Scientific Charge-Coupled Devices", 2001, 7.1; EMVA 1288 release 4.0, 7.1). Chi-square says whether it is:
a dark of a wrong exposure or temperature does not lie on the line of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import InputError
from ostcal.measure.camera.dark_current import bias_drift_error, student_factor
from ostcal.measure.camera.measured import Measured
from ostcal.measure.estimators import P16, P84, chi_square_quantile

FloatPlane = NDArray[np.float32]

BLOCK_PIXELS = 16_384
"""Pixels fitted at once. Four masters with variance planes, 9576 columns, one thread: 16 ns a pixel in blocks of 16k
(64 KiB a plane), 52 ns in blocks of 64k."""

BAD_Z = 3.09
"""A pixel's chi-square is bad where chance exceeds it once in a thousand."""

HOT_SIGMAS = 30.0
"""A pixel is hot here if its dark current is this many times its uncertainty: 3 % of misfit are then as large as noise.
Hot pixels show errors of exposure and temperature that are lost in the noise of the others."""

LEAST_HOT_PIXELS = 20
"""With fewer hot pixels their median misfit says nothing."""

TILE = 16
"""Side of the tiles whose middle levels give the dark current of the median pixel."""


@dataclass(frozen=True, kw_only=True)
class LadderFit:
    """The line of every pixel: (rows, width) float32 planes, NaN where fewer masters than needed were usable."""

    offset_adu: FloatPlane
    rate_adu_per_s: FloatPlane
    chi_square: FloatPlane
    """Chi-square per degree of freedom; NaN where fewer than three masters were usable."""
    pivot_s: FloatPlane
    """Weighted mean exposure: there the errors of level and rate are independent."""
    pivot_variance_adu2: FloatPlane
    """Variance of the line at the pivot."""
    rate_variance: FloatPlane
    """Variance of the rate, (ADU/s)^2."""
    freedom: int
    """Degrees of freedom where all masters are usable: masters less 2."""

    def of_rows(self, rows: slice) -> LadderFit:
        """Return the lines of some of its rows."""
        return LadderFit(
            offset_adu=self.offset_adu[rows],
            rate_adu_per_s=self.rate_adu_per_s[rows],
            chi_square=self.chi_square[rows],
            pivot_s=self.pivot_s[rows],
            pivot_variance_adu2=self.pivot_variance_adu2[rows],
            rate_variance=self.rate_variance[rows],
            freedom=self.freedom,
        )

    @property
    def bad_chi_square(self) -> float:
        """Chi-square per degree of freedom from which on it is bad."""
        return chi_square_quantile(BAD_Z, max(1, self.freedom))

    def level_at(self, exposure_s: float) -> FloatPlane:
        """Return the dark of an exposure, ADU."""
        return self.offset_adu + self.rate_adu_per_s * np.float32(exposure_s)

    def uncertainty_at(self, exposure_s: float) -> FloatPlane:
        """Return the standard deviation of the dark of an exposure, ADU, with the covariance of offset and rate.

        If chi-square is bad (see `BAD_Z`) it is larger by its root: a pixel that flickers or is clipped at full well is
        as uncertain as its masters disagree.
        """
        lever = np.float32(exposure_s) - self.pivot_s
        variance = self.pivot_variance_adu2 + lever * lever * self.rate_variance
        bad = self.chi_square > self.bad_chi_square  # false for NaN
        np.multiply(variance, self.chi_square, out=variance, where=bad)
        return np.sqrt(variance, out=variance)


def joined_fits(parts: Sequence[LadderFit]) -> LadderFit:
    """Return the lines of parts with the same masters as those of all their rows, one part below the other."""
    arrays = ("offset_adu", "rate_adu_per_s", "chi_square", "pivot_s", "pivot_variance_adu2", "rate_variance")
    return LadderFit(
        freedom=parts[0].freedom, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    )


def fit_ladder(
    masters: Sequence[FloatPlane] | FloatPlane,
    exposures_s: Sequence[float],
    variances_adu2: Sequence[float | FloatPlane],
    *,
    saturation_adu: float = math.inf,
) -> LadderFit:
    """Fit a line through the masters of each pixel, weighted by their variances.

    16 ns a pixel for four masters with variance planes, 14 ns with scalars (one thread); the memory is that of the six
    planes of the fit and of twenty blocks of `BLOCK_PIXELS`.

    Parameters
    ----------
    masters : K planes of (rows, width) float32
        Rows of the dark masters (a bias has the exposure 0), ADU. NaN is no data.
    exposures_s : K floats
    variances_adu2 : K floats or (rows, width) float32 planes
        Variance of each master: ``std^2 / n_used``.
    saturation_adu : float
        Samples at or above it are left out.

    Raises
    ------
    InputError
        If there are fewer than two masters or two of one exposure.
    """
    _check_exposures(exposures_s)
    height, width = masters[0].shape
    out = np.empty((6, height, width), np.float32)
    rows_at_once = max(1, BLOCK_PIXELS // max(1, width))
    for top in range(0, height, rows_at_once):
        rows = slice(top, top + rows_at_once)
        levels = [np.asarray(plane[rows], np.float32) for plane in masters]
        variances = [v if isinstance(v, float | int) else v[rows] for v in variances_adu2]
        _fit_block(levels, exposures_s, variances, saturation_adu, out[:, rows])
    return _fit_of(out, exposures_s)


def fit_ladder_in_turn(
    read: Callable[[int], tuple[FloatPlane, FloatPlane]],
    exposures_s: Sequence[float],
    *,
    saturation_adu: float = math.inf,
) -> LadderFit:
    """Fit as `fit_ladder` does, to the bit, with one master in memory at a time.

    Parameters
    ----------
    read : callable (number) -> (level, variance)
        Reads rows of a master, (rows, width) float32 each; called three times for each.
    exposures_s : K floats
    saturation_adu : float

    Raises
    ------
    InputError
        If there are fewer than two masters or two of one exposure.
    """
    _check_exposures(exposures_s)

    def masters() -> Iterator[tuple[np.float32, FloatPlane, FloatPlane, NDArray[np.bool_]]]:
        """Yield exposure, level, weight (0 where a sample is not usable) and which samples are."""
        for number, exposure_s in enumerate(exposures_s):
            level, variance = read(number)
            with np.errstate(divide="ignore"):
                weight = np.asarray(1 / variance, np.float32)
            good = (level < np.float32(saturation_adu)) & np.isfinite(weight)  # false for NaN too
            weight[~good] = 0
            yield np.float32(exposure_s), level, weight, good

    zero: FloatPlane | None = None
    for t, level, weight, good in masters():
        if zero is None:
            zero = np.where(good, level, np.float32(0))
            sum_w, pivot, n_usable = weight, weight * t, good.astype(np.float32)
        else:
            sum_w += weight
            pivot += weight * t
            n_usable += good
    assert zero is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        pivot /= sum_w
        middle, slope, spread = np.zeros_like(zero), np.zeros_like(zero), np.zeros_like(zero)
        for t, level, weight, good in masters():
            level -= zero
            level[~good] = 0
            lever = t - pivot
            level *= weight
            middle += level
            level *= lever
            slope += level
            spread += weight * lever * lever
        middle /= sum_w
        slope /= spread
        chi_square = np.zeros_like(zero)
        for t, level, weight, good in masters():
            level -= zero
            level[~good] = 0
            level -= middle
            level -= slope * (t - pivot)
            level *= level
            level *= weight
            chi_square += level
        out = np.empty((6, *zero.shape), np.float32)
        out[0] = zero + (middle - slope * pivot)
        out[1] = slope
        freedom = n_usable - np.float32(2)
        out[2] = np.where(freedom > 0, chi_square / freedom, np.float32(np.nan))
        out[3], out[4], out[5] = pivot, 1 / sum_w, 1 / spread
    out[:, n_usable < 2] = np.nan
    return _fit_of(out, exposures_s)


def _check_exposures(exposures_s: Sequence[float]) -> None:
    if len(exposures_s) < 2 or len(set(exposures_s)) < len(exposures_s):
        listed = ", ".join(f"{t:g}" for t in exposures_s) or "none"
        raise InputError(f"dark current needs masters of at least two different exposures; there are: {listed} s")


def _fit_of(planes: FloatPlane, exposures_s: Sequence[float]) -> LadderFit:
    return LadderFit(
        offset_adu=planes[0],
        rate_adu_per_s=planes[1],
        chi_square=planes[2],
        pivot_s=planes[3],
        pivot_variance_adu2=planes[4],
        rate_variance=planes[5],
        freedom=len(exposures_s) - 2,
    )


def _fit_block(
    levels: list[FloatPlane],
    exposures_s: Sequence[float],
    variances: Sequence[float | FloatPlane],
    saturation_adu: float,
    out: FloatPlane,
) -> None:
    """Fit one block into `out` (6, rows, width).

    Scalar variances stay scalars, which saves half of the time. Levels are taken relative to the first master: float32
    then holds differences of 1000 ADU to 1e-4 ADU.
    """
    weights: list[FloatPlane] = []  # 0 where a sample is not usable
    usable: list[NDArray[np.bool_] | None] = []  # which samples are usable, None for all
    n_usable = np.asarray(0, np.float32)
    for level, variance in zip(levels, variances, strict=True):
        weight = np.asarray(1 / np.asarray(variance, np.float32), np.float32)
        good = (level < np.float32(saturation_adu)) & np.isfinite(weight)  # false for NaN too
        if good.all():
            usable.append(None)
            n_usable = n_usable + np.float32(1)
        else:
            usable.append(good)
            weight = np.where(good, weight, np.float32(0))
            n_usable = n_usable + good.astype(np.float32)
        weights.append(weight)
    zero = np.where(usable[0], levels[0], np.float32(0)) if usable[0] is not None else levels[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        sum_w = sum(weights[1:], weights[0])
        pivot = sum(w * np.float32(t) for w, t in zip(weights, exposures_s, strict=True)) / sum_w
        level, slope, spread = np.zeros_like(zero), np.zeros_like(zero), np.asarray(0, np.float32)
        differences = []
        for y, ok, w, t in zip(levels, usable, weights, exposures_s, strict=True):
            difference = y - zero
            if ok is not None:
                difference[~ok] = 0
            differences.append(difference)
            lever = np.float32(t) - pivot
            weighted = w * difference
            level += weighted
            weighted *= lever
            slope += weighted
            spread = spread + np.asarray(w * lever * lever, np.float32)
        level /= sum_w
        slope /= spread
        for difference, w, t in zip(differences, weights, exposures_s, strict=True):  # to squares in noises
            difference -= level
            difference -= slope * (np.float32(t) - pivot)
            difference *= difference
            difference *= w
        chi_square = sum(differences[1:], differences[0])
        freedom = n_usable - np.float32(2)
        out[0] = zero + (level - slope * pivot)
        out[1] = slope
        out[2] = np.where(freedom > 0, chi_square / freedom, np.float32(np.nan))
        out[3], out[4], out[5] = pivot, 1 / sum_w, 1 / spread
    out[:, np.broadcast_to(n_usable < 2, zero.shape)] = np.nan


# ---- judging ----


@dataclass(frozen=True, kw_only=True)
class LadderQuality:
    """How well lines fit, over sampled pixels."""

    median_ratio: float
    """Median of chi-square against its expectation: 1 where noise alone moves the masters off their lines."""
    misfit_adu: float
    """What of it is not noise: how far the masters of the median pixel are off its line."""
    n_hot: int
    hot_misfit: float
    """How far the masters of the median hot pixel are off its line beyond noise, relative to what the line rises over
    the spread of exposures; 0 with too few hot pixels."""


@dataclass(frozen=True, kw_only=True)
class LadderLimits:
    """Up to which chi-square a dark may be made from the fit."""

    median_ratio: float = 4.0
    """The lines miss the masters by at most twice their noise."""
    misfit_adu: float = 0.5
    """Or by at most this: of 100 frames the noise is so small that drifts of the bias of 0.3 ADU are several of it."""
    hot_misfit: float = 0.025
    """Simulated ladders (three sensors, 5 and 20 frames, exposures up to 120 s) have 0 to 0.7 %, real ones of two
    cooled CCD cameras 1.0 and 1.1 %. One exposure that is 10 % wrong makes 2.7 to 3.0 %, 20 % 5.3 % and more, a dark
    that is 2 C warmer 3 to 7 %; the error of a dark from the fit is about that share of its dark current."""


def ladder_quality(fit: LadderFit) -> LadderQuality | None:
    """Summarize chi-square over the pixels of a fit, of sampled rows; ``None`` if no pixel has one."""
    known = np.isfinite(fit.chi_square)
    if not known.any():
        return None
    chi_square = fit.chi_square[known]
    expected = chi_square_quantile(0.0, fit.freedom)
    ratio = float(np.median(chi_square)) / expected
    noise_adu = math.sqrt(float(np.median(fit.pivot_variance_adu2[known])) * (fit.freedom + 2))
    significance = fit.rate_adu_per_s[known] / np.sqrt(fit.rate_variance[known])
    hot = significance > HOT_SIGMAS
    # The hottest quarter: glow of the amplifier is above 30 sigma too, and does not tell a wrong temperature.
    if np.count_nonzero(hot) >= 4 * LEAST_HOT_PIXELS:
        hot = significance >= np.quantile(significance[hot], 0.75)
    n_hot = int(np.count_nonzero(hot))
    misfit = 0.0
    if n_hot >= LEAST_HOT_PIXELS:
        # Residuals are sqrt(chi-square) noises, the rise over the spread of exposures is `significance` noises.
        misfit = math.sqrt(max(0.0, float(np.median((chi_square[hot] / expected - 1) / significance[hot] ** 2))))
    return LadderQuality(
        median_ratio=ratio,
        misfit_adu=math.sqrt(max(0.0, ratio - 1)) * noise_adu,
        n_hot=n_hot,
        hot_misfit=misfit,
    )


def why_not_linear(quality: LadderQuality, limits: LadderLimits) -> str:
    """Return why no dark should be made from a fit; "" if it may."""
    if quality.median_ratio > limits.median_ratio and quality.misfit_adu > limits.misfit_adu:
        return (
            f"the masters are not on a line: median chi-square {quality.median_ratio:.1f} times what noise gives "
            f"({quality.misfit_adu:.2g} ADU), limit {limits.median_ratio:g} ({limits.misfit_adu:g} ADU)"
        )
    if quality.hot_misfit > limits.hot_misfit:
        return (
            f"the masters are not on a line: {quality.n_hot} hot pixels miss it by {100 * quality.hot_misfit:.1f} %, "
            f"limit {100 * limits.hot_misfit:g} %; one has a wrong exposure or temperature"
        )
    return ""


# ---- the median pixel ----


def median_dark_current(fit: LadderFit, medians_adu: Sequence[float], exposures_s: Sequence[float]) -> Measured:
    """Return the dark current of the median pixel, ADU/s.

    The uncertainty has two parts: that of a median of so many tiles of `TILE` pixels squared (sqrt(pi / 2) times that
    of a mean of normal values), and that of the bias level, which drifts between series, for all pixels alike: what is
    assumed of it (`bias_drift_error`), or the scatter of the medians of the masters about their own line if larger.
    `medians_adu` are those of the masters, of the rows of `fit`; an InputError is raised if no pixel was fitted.
    """
    # A tile counts with the mean of its middle half: in a tile glow is even. If glow makes the distribution of pixels
    # skew, the median of noisy ones is above it: by 7 % for 0.02 e-/s with a read noise of 1.6 e- and five frames.
    rates = fit.rate_adu_per_s
    levels = []
    for top in range(0, rates.shape[0], TILE):
        for left in range(0, rates.shape[1], TILE):
            tile = rates[top : top + TILE, left : left + TILE]
            known = np.sort(tile[np.isfinite(tile)])
            if known.size:
                quarter = known.size // 4
                levels.append(float(np.mean(known[quarter : known.size - quarter], dtype=np.float64)))
    if not levels:
        raise InputError("dark current: no pixel has two masters below saturation; take darks of shorter exposures")
    low, median, high = np.quantile(levels, (P16, 0.5, P84))
    sampling = math.sqrt(math.pi / 2) * float(high - low) / 2 / math.sqrt(len(levels))
    drift = bias_drift_error(exposures_s)
    if len(exposures_s) >= 3:
        t = np.asarray(exposures_s, np.float64)
        t -= t.mean()
        medians = np.array(medians_adu, np.float64)
        medians -= medians.mean()
        spread = float(np.sum(t * t))
        residuals = medians - t * (np.sum(t * medians) / spread)
        scatter = student_factor(len(t) - 2) * math.sqrt(float(np.sum(residuals**2)) / (len(t) - 2) / spread)
        drift = max(drift, scatter)
    return Measured(value=float(median), uncertainty=math.hypot(sampling, drift))
