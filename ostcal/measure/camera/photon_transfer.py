"""The photon-transfer curve of flats; gain, full well and linearity from it.

In a cell of the sensor with the signal S (ADU above the dark) the variance of a sample is

    V = read noise^2 + S / gain        [ADU^2], gain in e-/ADU,

so that the slope of V less the dark's variance against S is 1 / gain. No intercept is fitted: it is measured, by the
darks or the bias. Quantisation adds step^2 / 12 to both and cancels in the slope. (Janesick, "Scientific Charge-Coupled
Devices", 2001, chapter 2, and "Photon Transfer", 2007; EMVA standard 1288, release 4.0, 6.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.camera.measured import FloatArray, Measured, PhotonTransfer, SurveyedSeries
from ostcal.measure.camera.read_noise import (
    LEAST_CELL_PIXELS,
    OUTLIER_SIGMAS,
    pair_inflation,
    pair_mean,
    relative_error,
)
from ostcal.measure.estimators import MAD_TO_STD
from ostcal.measure.frames.survey import GRID, SeriesSurvey

SAME_EXPOSURE = 1e-3
"""Exposures within 0.1 % are one, as for groups."""
DARK_TOLERANCE = 0.1
"""A dark within 10 % of the flat's exposure is subtracted as it is; else the line between two is."""
MAX_STRETCH = 10.0
"""Dark current is not scaled up further than this, as for masters."""
SATURATED_SHARE = 0.002
"""Flats with more saturated pixels than this above those of their darks are not used: 0.2 % in one cell of 64 are
13 % of it, which its robust neighbours outvote."""
DARK_LEVEL_ERROR_ADU = 1.0
"""What the level of a dark may be off: real bias levels drift by this between series. It counts where points of low
signal are compared with others, so that they do not overrule these."""
CELL_CONTRAST = 0.3
"""Relative spread of the signal inside a cell: 0.27 for the colours of a Bayer sensor, 0.1 for vignetting. Without it,
spectrograph flats whose lamp changes by 8 % between two frames made a gain of 1.32, not 1.40 as the steady ones do."""
TURNED_SHARE = 0.8
"""The variance turns over where the brightest points have less than this share of the largest variance."""
TURNOVER_SHARE = 0.05
"""Points whose variance is this share below that of the fainter ones, beyond noise, are past the linear range. The
repulsion of charges in full pixels ("brighter-fatter", Antilogus 2014) stays within it up to half a full well."""
TURNOVER_MARGIN = 0.88
"""Points up to this share of the first that falls behind are used: those just below it are clipped a little too, which
put the gain of a simulated sensor 0.1 % off."""
COLLAPSED_SHARE = 0.25
"""Pixels are full where their variance is below this share of what their signal gives."""
MAX_GAIN_UNCERTAINTY = 0.2
MAX_GAIN_E_PER_ADU = 500.0
"""No camera has more: 80 are a full well of 20,000 e- in 8 bits. Flats with less noise than that show no light."""
LEAST_POINTS = 16


@dataclass(frozen=True, kw_only=True)
class DarkCells:
    """Level and variance of each cell, (GRID, GRID), of a dark of any exposure, from the series there are."""

    exposures_s: tuple[float, ...]
    """Ascending."""
    levels_adu: tuple[FloatArray, ...]
    variances_adu2: tuple[FloatArray, ...]
    errors_adu2: tuple[FloatArray, ...]

    @classmethod
    def of(cls, darks: Sequence[SurveyedSeries]) -> DarkCells | None:
        """Measure the series of two frames and more, one of each exposure; ``None`` without any.

        Of single frames of different exposures each has its level, and all have the variance of their pairs.
        """
        measured: list[tuple[float, FloatArray, FloatArray, FloatArray]] = []
        for one in darks:
            if one.survey.n_frames >= 2 and one.is_ladder:
                variances = pair_mean(one.survey)
                frames = zip(one.exposures_s, one.survey.cells_adu, strict=True)
                measured += [(exposure_s, level, *variances) for exposure_s, level in frames]
            elif one.survey.n_frames >= 2:
                measured.append((one.exposure_s, np.median(one.survey.cells_adu, axis=0), *pair_mean(one.survey)))
        cells: list[tuple[float, FloatArray, FloatArray, FloatArray]] = []
        for step in sorted(measured, key=lambda step: step[0]):
            if not cells or step[0] - cells[-1][0] > SAME_EXPOSURE * step[0]:
                cells.append(step)
        if not cells:
            return None
        exposures, levels, variances, errors = zip(*cells, strict=True)
        return cls(exposures_s=exposures, levels_adu=levels, variances_adu2=variances, errors_adu2=errors)

    def at(self, exposure_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return level, variance and the variance's uncertainty: of the nearest dark, or of the line between two."""
        exposures = np.array(self.exposures_s)
        nearest = int(np.argmin(np.abs(exposures - exposure_s)))
        if len(exposures) == 1 or abs(exposures[nearest] - exposure_s) <= DARK_TOLERANCE * exposure_s:
            return self.levels_adu[nearest], self.variances_adu2[nearest], self.errors_adu2[nearest]
        upper = min(max(int(np.searchsorted(exposures, exposure_s)), 1), len(exposures) - 1)
        low, high = upper - 1, upper
        share = (exposure_s - exposures[low]) / (exposures[high] - exposures[low])
        share = float(np.clip(share, 1 - MAX_STRETCH, MAX_STRETCH))
        level = (1 - share) * self.levels_adu[low] + share * self.levels_adu[high]
        variance = (1 - share) * self.variances_adu2[low] + share * self.variances_adu2[high]
        return level, variance, np.hypot((1 - share) * self.errors_adu2[low], share * self.errors_adu2[high])


@dataclass(frozen=True, kw_only=True)
class TransferCurve:
    """All points of the photon-transfer curve, one for each pair and cell; (points,) arrays."""

    signal_adu: FloatArray
    variance_adu2: FloatArray
    dark_variance_adu2: FloatArray
    dark_error_adu2: FloatArray
    relative_error: FloatArray
    """Of the variance of the flat's samples, for this pair alone."""
    drift_error_adu2: FloatArray
    """What a change of the lamp between the frames of the pair may have added."""
    inflation: FloatArray
    """How much larger the variance of a mean over the pairs of its series is than were they independent."""
    cell: NDArray[np.int64]
    series: NDArray[np.int64]
    saturated: NDArray[np.bool_]
    used: NDArray[np.bool_]
    darks: DarkCells
    flats: tuple[SurveyedSeries, ...]
    """The series that `series` counts."""
    dark_saturated: float
    """Share of saturated pixels in the darks: stuck and hot ones."""
    linear_end_adu: float
    """Signal from which on the variance falls behind; infinity where it does not."""

    @property
    def dark_level_adu(self) -> float:
        """Mean level of the dark of the flats."""
        return float(np.nanmean(self.darks.at(float(np.median([flat.exposure_s for flat in self.flats])))[0]))

    def errors(self, slope: float) -> FloatArray:
        """Return the standard deviation of each variance, as expected for a slope."""
        noise = self.relative_error * (np.maximum(0, self.signal_adu) * slope + self.dark_variance_adu2)
        return np.hypot(noise, self.drift_error_adu2)

    def slope(self, used: NDArray[np.bool_]) -> float:
        """Return the weighted slope through the origin of some points.

        Weights come from the variances that the slope predicts: measured ones would bias it.
        """
        signal, variance = self.signal_adu[used], self.variance_adu2[used]
        slope = float(np.median(variance / signal))
        for _ in range(3):
            if not slope > 0:
                return slope
            weight = 1 / self.errors(slope)[used] ** 2
            slope = float(np.sum(weight * signal * variance) / np.sum(weight * signal**2))
        return slope

    def slope_uncertainty(self, slope: float) -> float:
        """Return the standard deviation of the slope: noise of the flats' and darks' variances, and excess scatter."""
        used = self.used
        signal, errors = self.signal_adu[used], self.errors(slope)[used]
        weight = 1 / errors**2
        denominator = float(np.sum(weight * signal**2))
        flats = float(np.sum(weight * signal**2 * self.inflation[used])) / denominator**2
        lever = np.bincount(self.cell[used], weight * signal, GRID**2)
        dark_error = np.zeros(GRID**2)
        np.maximum.at(dark_error, self.cell[used], self.dark_error_adu2[used])
        darks = float(np.sum((lever * dark_error) ** 2)) / denominator**2
        residual = (self.variance_adu2[used] - slope * signal) / errors
        excess = max(1.0, float(np.sum(residual**2)) / max(1, residual.size - 1))
        return math.sqrt(excess * flats + darks)

    def end_of_linear_range(self, used: NDArray[np.bool_]) -> float:
        """Return the signal from which on the variance falls behind, going up from the faintest points.

        Near full well charge spills into neighbours, and a clipped pixel has no noise: the variance turns over
        (Janesick 2001, 2.2.3). If the variance of the brightest points is not below that of fainter ones, nothing turns
        over, and faint points that are too noisy do not make the bright ones look too quiet.
        """
        bins = np.floor(np.log2(self.signal_adu) * 6).astype(np.int64)  # 12 % of signal each
        members = [used & (bins == one) for one in np.unique(bins[used])]
        variances = [float(np.median(self.variance_adu2[m])) for m in members]
        if variances[-1] > TURNED_SHARE * max(variances):
            return self._start_of_falling_variance(used)
        total, weights = 0.0, 0.0
        for one, variance in zip(members, variances, strict=True):
            signal = float(np.median(self.signal_adu[one]))
            ratio = variance / signal
            reference = total / weights if weights else ratio
            dark = float(np.median(self.dark_variance_adu2[one]))
            noise = float(np.median(self.relative_error[one])) * (max(reference, ratio) + dark / signal)
            error = math.hypot(1.5 * noise / math.sqrt(np.count_nonzero(one)), ratio * DARK_LEVEL_ERROR_ADU / signal)
            limit = reference * (1 - TURNOVER_SHARE) - 4 * math.hypot(error, math.sqrt(1 / weights) if weights else 0.0)
            if ratio < limit:
                return float(np.min(self.signal_adu[one])) * TURNOVER_MARGIN
            if error > 0:
                total += ratio / error**2
                weights += 1 / error**2
        return math.inf

    def _start_of_falling_variance(self, used: NDArray[np.bool_]) -> float:
        """Return the signal from which on brighter points have less variance, infinity where they have not.

        Flats of one level, all of them in the bend, show it by the vignetting between their cells alone.
        """
        order = np.flatnonzero(used)[np.argsort(self.signal_adu[used])]
        groups = [group for group in np.array_split(order, 8) if len(group) >= LEAST_POINTS]
        if len(groups) < 3:
            return math.inf
        variances = np.array([np.median(self.variance_adu2[group]) for group in groups])
        highest, last = int(np.argmax(variances)), groups[-1]
        relative = max(float(np.median(self.relative_error[group])) / math.sqrt(len(group)) for group in groups)
        drop = variances[highest] * (TURNED_SHARE - 6 * relative)
        falls = np.all(np.diff(variances[highest:]) < 0) and variances[-1] < drop
        if not falls or np.median(self.signal_adu[last]) < 1.01 * np.median(self.signal_adu[groups[highest]]):
            return math.inf
        return float(np.min(self.signal_adu[groups[highest]])) * TURNOVER_MARGIN

    def full_level_adu(self) -> float | None:
        """Return the level, ADU, at which the brightest flats have no noise left; ``None`` if none are so bright.

        It is that of the converter, before overscan was subtracted, as in `level_end_adu`.
        """
        if not math.isfinite(self.linear_end_adu):
            without_noise = [flat.survey for index, flat in enumerate(self.flats) if self._has_no_noise(index)]
            return max(map(_highest_word_adu, without_noise), default=None)
        ratio = self.variance_adu2 / self.signal_adu
        linear = self.used if np.any(self.used) else self.signal_adu <= np.quantile(self.signal_adu, 0.1)
        collapsed = (self.signal_adu > self.linear_end_adu) & (
            ratio < COLLAPSED_SHARE * float(np.median(ratio[linear]))
        )
        counts = np.bincount(self.series[collapsed], minlength=len(self.flats))
        full = [flat.survey for flat, count in zip(self.flats, counts, strict=True) if count >= LEAST_POINTS]
        return max(map(_highest_word_adu, full), default=None)

    def _has_no_noise(self, series: int) -> bool:
        """Return whether flats have no more noise than darks, where light of any sensor has: all of it is full."""
        mine = self.series == series
        if np.count_nonzero(mine) < LEAST_POINTS:
            return False
        signal, n = float(np.median(self.signal_adu[mine])), np.count_nonzero(mine)
        error = 1.5 * float(np.median(self.relative_error[mine] * self.dark_variance_adu2[mine])) / math.sqrt(n)
        least = signal / MAX_GAIN_E_PER_ADU
        return least > 5 * error and float(np.median(self.variance_adu2[mine])) < least

    def linear_points(self) -> NDArray[np.bool_]:
        """Return which points are in the linear range: not saturated, below the turnover, near the line of the others.

        What goes wrong between two frames adds to their variance: the first slope is the 30 % quantile of all, and the
        scatter is judged by the points below the line.
        """
        used = self.used & (self.signal_adu <= self.linear_end_adu)
        if not np.any(used):
            return used
        slope = float(np.quantile(self.variance_adu2[used] / self.signal_adu[used], 0.3))
        for _ in range(10):
            if not slope > 0:
                return used
            residual = (self.variance_adu2 - slope * self.signal_adu) / self.errors(slope)
            below = residual[used & (residual <= 0)]
            width = max(1.0, MAD_TO_STD * float(np.median(-below))) if below.size else 1.0
            kept = used & (np.abs(residual) <= OUTLIER_SIGMAS * width)
            if np.array_equal(kept, used) or not np.any(kept):
                break
            used = kept
            slope = self.slope(used)
        return used

    def summary(self) -> PhotonTransfer:
        """Return the mean over the pairs of each cell and series; a point is used if most of its pairs are."""
        _, where = np.unique(self.series * GRID**2 + self.cell, return_inverse=True)
        counts = np.bincount(where)
        return PhotonTransfer(
            signal_adu=np.bincount(where, self.signal_adu) / counts,
            variance_adu2=np.bincount(where, self.variance_adu2) / counts,
            used=2 * np.bincount(where, self.used) > counts,
        )


def transfer_curve(
    flats: Sequence[SurveyedSeries], darks: Sequence[SurveyedSeries], notes: list[str]
) -> TransferCurve | str:
    """Return the points of all flats, those of the linear range marked as used, or why there are none."""
    if not flats:
        return "there are no flats"
    raw = [flat for flat in flats if not flat.subtracted and flat.survey.varying_bits]
    if not raw:
        return "the flats are dark-subtracted or scaled already, or saturated all over"
    pairs = [flat for flat in raw if flat.survey.n_frames >= 2]
    if not pairs:
        return "it needs two flats of a series"
    dark_cells = DarkCells.of(darks)
    if dark_cells is None:
        return "it needs two bias or dark frames of the same settings"
    longest_s, first_s = max(flat.exposure_s for flat in pairs), dark_cells.exposures_s[0]
    if len(dark_cells.exposures_s) == 1 and abs(first_s - longest_s) > DARK_TOLERANCE * longest_s:
        notes.append(
            f"gain: the dark current of flats up to {longest_s:g} s is not subtracted, only the level of {first_s:g} s"
        )
    dark_saturated = min(float(np.median(d.survey.saturated)) / d.survey.n_pixels for d in darks if d.survey.n_pixels)
    parts = [_series_points(flat, index, dark_cells, dark_saturated) for index, flat in enumerate(pairs)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    curve = TransferCurve(
        **joined,
        used=~joined["saturated"],
        darks=dark_cells,
        flats=tuple(pairs),
        dark_saturated=dark_saturated,
        linear_end_adu=math.inf,
    )
    if np.any(curve.used):
        curve = replace(curve, linear_end_adu=curve.end_of_linear_range(curve.used))
    return replace(curve, used=curve.linear_points())


def _series_points(
    flat: SurveyedSeries, index: int, dark_cells: DarkCells, dark_saturated: float
) -> dict[str, NDArray[Any]]:
    """Return the points of one series of flats: its pairs, each with all cells that have a variance."""
    survey = flat.survey
    first = survey.pair_first
    exposures = np.asarray(flat.exposures_s, np.float64)
    darks = [dark_cells.at(float(t)) for t in (exposures[first] + exposures[first + 1]) / 2]
    levels, dark_variances, dark_errors = (np.array(part) for part in zip(*darks, strict=True))
    cells = survey.cells_adu
    means = (cells[first] + cells[first + 1]) / 2
    # What is left of the pedestal when frames are brought to one level: of a change this share stays in a cell.
    light, left = means - survey.pedestal_adu, levels - survey.pedestal_adu
    left_adu = CELL_CONTRAST * (cells[first + 1] - cells[first]) * left / np.maximum(light, 1.0)
    full = survey.saturated / survey.n_pixels - dark_saturated > SATURATED_SHARE
    # frames of unlike levels are weighted by the root of their ratio, which raises what does not grow with the light
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((cells[first + 1] - levels) / (cells[first] - levels))
        dark_variances = dark_variances * np.where(np.isfinite(ratio) & (ratio > 0), (ratio**2 + ratio**-2) / 2, 1.0)
    shape = survey.pair_variance_adu2.shape
    points: dict[str, NDArray[Any]] = {
        "signal_adu": means - levels,
        "variance_adu2": survey.pair_variance_adu2 - dark_variances,
        "dark_variance_adu2": dark_variances,
        "dark_error_adu2": dark_errors,
        "relative_error": np.broadcast_to(relative_error(survey), shape),
        "drift_error_adu2": left_adu**2 / 2,
        "inflation": np.full(shape, pair_inflation(survey)),
        "cell": np.broadcast_to(np.arange(GRID**2).reshape(GRID, GRID), shape),
        "series": np.full(shape, index),
        "saturated": np.broadcast_to((full[first] | full[first + 1])[:, np.newaxis, np.newaxis], shape),
    }
    usable = np.isfinite(points["variance_adu2"]) & (points["signal_adu"] > 0)  # false for NaN
    usable &= survey.cell_pixels >= LEAST_CELL_PIXELS
    return {name: values[usable] for name, values in points.items()}


def measure_gain(curve: TransferCurve) -> Measured | str:
    """Return the gain from the points of the linear range, e-/ADU, or why there is none."""
    used = curve.used
    n = np.count_nonzero(used)
    if n < LEAST_POINTS and math.isfinite(curve.linear_end_adu):
        return "the flats are past the linear range: brighter parts have less noise; take dimmer flats"
    if n < LEAST_POINTS:
        return "the flats are saturated" if np.any(curve.saturated) else "the flats show no photon noise or are clipped"
    photons, dark = float(np.sum(curve.variance_adu2[used])), float(np.sum(curve.dark_variance_adu2[used]))
    if not photons > dark:
        return (
            f"photon noise is below the read noise: variance {max(0.0, photons) / n:.3g} ADU^2 against {dark / n:.3g}; "
            "take brighter flats, below saturation"
        )
    slope = curve.slope(used)
    uncertainty = curve.slope_uncertainty(slope)
    if uncertainty > MAX_GAIN_UNCERTAINTY * slope:
        return f"it is uncertain by {100 * uncertainty / slope:.0f} %, more than {100 * MAX_GAIN_UNCERTAINTY:g} %"
    return Measured(value=1 / slope, uncertainty=uncertainty / slope**2)


def measure_full_well(curve: TransferCurve, saturation_adu: float | None) -> Measured | None:
    """Return the level, ADU above the dark, at which pixels are full or the converter ends; ``None`` if none are.

    The brightest series that is clipped, which shows in its saturated samples or in cells without half of the noise
    they should have, holds it: between its brightest sample and the brightest `SATURATED_SHARE` of all, as clipped
    samples pile up there. The levels of cells would not do, being averages of colours and of vignetting.
    """
    slope = curve.slope(curve.used)
    last = float(np.max(curve.signal_adu[curve.used]))
    clipped = ~curve.used & (curve.signal_adu > last) & (curve.variance_adu2 < 0.5 * slope * curve.signal_adu)
    counts = np.bincount(curve.series[clipped], minlength=len(curve.flats))
    full = [
        flat
        for flat, count in zip(curve.flats, counts, strict=True)
        if count >= LEAST_POINTS
        or np.any(flat.survey.saturated / flat.survey.n_pixels - curve.dark_saturated > SATURATED_SHARE)
    ]
    if not full:
        return None
    brightest = max(full, key=lambda flat: float(np.nanmedian(flat.survey.mean_adu)))
    survey = brightest.survey
    highest = float(np.nanmax(survey.maximum_adu))
    if saturation_adu is not None:
        highest = min(highest, saturation_adu - survey.overscan_adu)
    low = min(highest, highest_level_adu(survey))
    dark = float(np.nanmean(curve.darks.at(brightest.exposure_s)[0]))
    return Measured(value=(low + highest) / 2 - dark, uncertainty=max(DARK_LEVEL_ERROR_ADU, (highest - low) / 2))


def highest_level_adu(survey: SeriesSurvey) -> float:
    """Return the level that `SATURATED_SHARE` of the samples reach: hot pixels and cosmic rays are above it."""
    above = np.cumsum(survey.histogram[::-1])[::-1]
    occupied = np.flatnonzero(above > SATURATED_SHARE * above[0])
    return survey.histogram_start_adu + int(occupied[-1]) * survey.histogram_step_adu if occupied.size else 0.0


def _highest_word_adu(survey: SeriesSurvey) -> float:
    """Return the end of the bin that `highest_level_adu` is the start of, before overscan was subtracted."""
    end_adu = highest_level_adu(survey) + survey.histogram_step_adu + survey.overscan_adu
    return min(end_adu, survey.highest_word_adu)
