"""Properties of a camera, measured on the frames its masters are made of: read noise, gain, full well, linearity, bits.

All of it rests on differences of two frames of one series, in which everything that is the same in both (pattern,
response, vignetting) is gone and noise is left: the photon-transfer method of Janesick, "Scientific Charge-Coupled
Devices" (SPIE 2001, chapter 2) and "Photon Transfer" (SPIE 2007), and of EMVA standard 1288, release 4.0, 6.

In a cell of the sensor with the signal S (ADU above the dark) the variance of a sample is

    V = read noise^2 + S / gain        [ADU^2], gain in e-/ADU,

so that the slope of V less the dark's variance against S is 1 / gain. No intercept is fitted: it is measured, by the
darks or the bias. Quantisation adds step^2 / 12 to both and cancels in the slope.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.survey import GRID, SeriesSurvey

FloatArray = NDArray[np.float64]

SAME_EXPOSURE = 1e-3
"""Exposures within 0.1 % are one, as for groups."""
DARK_TOLERANCE = 0.1
"""A dark within 10 % of the flat's exposure is subtracted as it is; else the line between two is."""
MAX_STRETCH = 10.0
"""Dark current is not scaled up further than this, as for masters."""
SATURATED_SHARE = 0.002
"""Flats with more saturated pixels than this above those of their darks are not used: 0.2 % in one cell of 64 are
13 % of it, which its robust neighbours outvote."""
OUTLIER_SIGMAS = 4.0
MAX_PAIR_RATIO = 2.0
"""A pair of more than twice the variance of another holds a frame with a fault rather than more noise."""
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
MAX_GAIN_UNCERTAINTY = 0.2
LEAST_POINTS = 16
LEAST_CELL_PIXELS = 16
MAX_LAMP_SCATTER = 0.005
"""Relative scatter of frames of one exposure up to which a lamp counts as stable."""
LEAST_NOISE_IN_STEPS = 0.1
"""Read noise (as variance) below this share of the quantisation's own is not measurable."""
DARKS_FOR_READ_NOISE_S = 10.0
"""Without bias frames, darks up to this exposure serve for the read noise."""


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

    @property
    def exposure_s(self) -> float:
        """Median exposure."""
        return float(np.median(self.exposures_s))


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
        """Give it as JSON values, rounded to 7 digits."""
        return {
            "signal_adu": [float(f"{x:.7g}") for x in self.signal_adu],
            "variance_adu2": [float(f"{x:.7g}") for x in self.variance_adu2],
            "used": [bool(x) for x in self.used],
        }


@dataclass(frozen=True, kw_only=True)
class CameraProperties:
    """What was measured of a camera at one setting; ``None`` is not measured, and `reasons` says why."""

    gain_e_per_adu: Measured | None = None
    read_noise_adu: Measured | None = None
    read_noise_spread_adu: float | None = None
    """The same from the spread of the pixels about the mean of the other frames: a cross-check."""
    read_noise_e: Measured | None = None
    dark_current_adu_per_s: Measured | None = None
    """Of the median pixel; see `with_dark_current`."""
    dark_current_e_per_s: Measured | None = None
    full_well_e: Measured | None = None
    full_well_adu: float | None = None
    linearity_percent: Measured | None = None
    """Largest deviation of a level from the straight line in exposure."""
    bits_used: int | None = None
    step_adu: float | None = None
    """Step of the converter as the samples show it: 4 for 14 bits shifted to 16."""
    photon_transfer: PhotonTransfer | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a property was not measured, by its name."""
    notes: tuple[str, ...] = ()
    """What to know of those that were."""

    def as_dict(self) -> dict[str, Any]:
        """Give the properties as JSON values: ``NAME`` and, where there is one, ``NAME_uncertainty``."""
        values: dict[str, Any] = {}
        for name in (
            "gain_e_per_adu",
            "read_noise_adu",
            "read_noise_e",
            "dark_current_adu_per_s",
            "dark_current_e_per_s",
            "full_well_e",
            "linearity_percent",
        ):
            measured: Measured | None = getattr(self, name)
            values[name] = None if measured is None else measured.value
            values[f"{name}_uncertainty"] = None if measured is None else measured.uncertainty
        values["read_noise_spread_adu"] = self.read_noise_spread_adu
        values["full_well_adu"] = self.full_well_adu
        values["bits_used"] = self.bits_used
        values["step_adu"] = self.step_adu
        values["photon_transfer"] = None if self.photon_transfer is None else self.photon_transfer.as_dict()
        values["reasons"] = dict(self.reasons)
        values["notes"] = list(self.notes)
        return values


def measure_camera(
    *,
    bias: Sequence[SurveyedSeries] = (),
    darks: Sequence[SurveyedSeries] = (),
    flats: Sequence[SurveyedSeries] = (),
    saturation_adu: float | None = None,
) -> CameraProperties:
    """Measure a camera at one setting (camera, gain, offset, binning, readout mode) and one temperature.

    Parameters
    ----------
    bias, darks, flats : sequences of SurveyedSeries
        All of the same setting and the same sampled rows.
    saturation_adu : float, optional
        Highest value of a sample, where it is known.

    Returns
    -------
    CameraProperties
        What the frames allow; the dark current comes from masters, see `with_dark_current`.
    """
    everything = [*bias, *darks, *flats]
    reasons: dict[str, str] = {}
    notes: list[str] = []
    step_adu = _step(everything, reasons)
    read_noise, spread = _read_noise(bias, darks, step_adu, reasons, notes)
    curve = _photon_transfer(flats, [s for s in (*bias, *darks) if not s.subtracted], notes)
    gain = _gain(curve, reasons)
    full_well_adu = None if isinstance(curve, str) or gain is None else _full_well(curve, saturation_adu)
    if full_well_adu is None:
        reasons["full_well_e"] = "no flats reach saturation" if gain is not None else "it needs the gain"
    if gain is None or read_noise is None:
        reasons["read_noise_e"] = "it needs read noise and gain, both in ADU"
    return CameraProperties(
        gain_e_per_adu=gain,
        read_noise_adu=read_noise,
        read_noise_spread_adu=spread,
        read_noise_e=read_noise * gain if read_noise is not None and gain is not None else None,
        full_well_adu=full_well_adu.value if full_well_adu is not None else None,
        full_well_e=full_well_adu * gain if full_well_adu is not None and gain is not None else None,
        linearity_percent=_linearity(curve, reasons),
        bits_used=_bits_used(everything, step_adu, reasons),
        step_adu=step_adu,
        photon_transfer=None if isinstance(curve, str) else curve.summary(),
        reasons=reasons | dict.fromkeys(_DARK_CURRENT, "no masters of different exposures were compared"),
        notes=tuple(notes),
    )


_DARK_CURRENT = ("dark_current_adu_per_s", "dark_current_e_per_s")


def with_dark_current(properties: CameraProperties, rate_adu_per_s: Measured) -> CameraProperties:
    """Add the dark current of the median pixel, which a ladder of masters gives."""
    gain = properties.gain_e_per_adu
    reasons = {name: why for name, why in properties.reasons.items() if name not in _DARK_CURRENT}
    if gain is None:
        reasons["dark_current_e_per_s"] = "it needs the gain"
    return replace(
        properties,
        dark_current_adu_per_s=rate_adu_per_s,
        dark_current_e_per_s=None if gain is None else rate_adu_per_s * gain,
        reasons=reasons,
    )


# ---- the converter ----


def _step(series: Sequence[SurveyedSeries], reasons: dict[str, str]) -> float | None:
    """Give the distance of neighbouring values: the lowest bit that varies, in any frame of the camera."""
    bits = 0
    for one in series:
        bits |= one.survey.varying_bits
    if bits == 0:
        reasons["step_adu"] = "samples are floats or do not vary" if series else "no frames"
        return None
    return float(bits & -bits)


def _bits_used(series: Sequence[SurveyedSeries], step_adu: float | None, reasons: dict[str, str]) -> int | None:
    """Give the bits of the converter: 16 less those that never vary below, or what the highest value shows.

    Whole numbers below 4096 may be of 12 bits or of 16: only frames that reach the end of the range tell.
    """
    if step_adu is None:
        reasons["bits_used"] = reasons["step_adu"]
        return None
    if step_adu > 1:
        return 16 - int(math.log2(step_adu))
    highest = int(max(float(np.max(one.survey.maximum_adu)) for one in series))
    bits = max(1, highest.bit_length())
    if bits >= 16 or highest == 2**bits - 1:
        return bits
    reasons["bits_used"] = f"no frame reaches the end of the range: the highest value is {highest} ADU"
    return None


# ---- noise ----


def _relative_error(survey: SeriesSurvey) -> FloatArray:
    """Give the relative standard deviation of each cell's variance from one pair: ``sqrt(2 / pixels)``."""
    return np.sqrt(2 / np.maximum(1.0, survey.cell_pixels))


def _pair_inflation(survey: SeriesSurvey) -> float:
    """Give how much larger the variance of a mean over pairs is than were the pairs independent.

    Pairs (i, i + 1) and (i + 1, i + 2) share a frame: their differences have a correlation of -1/2, the squares of 1/4.
    """
    neighbours = np.count_nonzero(np.diff(survey.pair_first) == 1)
    return 1 + 0.5 * neighbours / max(1, len(survey.pair_first))


def pair_mean(survey: SeriesSurvey) -> tuple[FloatArray, FloatArray]:
    """Return the variance of a sample in each cell, mean over the pairs that are no outliers, and its uncertainty.

    A pair is no outlier within `OUTLIER_SIGMAS` of the median. An even number of pairs can have none there: the median
    is then between two groups, such as 25 and 27 ADU^2 of bias frames with a noise of 5, 5 and 5.4 ADU. Pairs like
    either of the two middle ones count then, or only like the smaller one where the other is more than
    `MAX_PAIR_RATIO` times as large: what goes wrong in a frame adds to the variance of its pairs.

    Parameters
    ----------
    survey : SeriesSurvey
        Of at least two frames.

    Returns
    -------
    variance_adu2, uncertainty_adu2 : (GRID, GRID) float64
        NaN where a cell has fewer than `LEAST_CELL_PIXELS`.
    """
    pairs = survey.pair_variance_adu2
    relative = _relative_error(survey)

    def near(centre: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(np.abs(pairs - centre) <= OUTLIER_SIGMAS * relative * centre)

    median = np.median(pairs, axis=0)
    kept = near(median)
    low, high = np.sort(pairs, axis=0)[[(len(pairs) - 1) // 2, len(pairs) // 2]]
    kept |= ~kept.any(axis=0) & (near(low) | (near(high) & (high <= MAX_PAIR_RATIO * low)))
    n_kept = np.maximum(1, np.sum(kept, axis=0))  # 0 only where the median is NaN
    variance = np.sum(pairs, axis=0, where=kept) / n_kept
    variance[np.isnan(median) | (survey.cell_pixels < LEAST_CELL_PIXELS)] = np.nan
    return variance, variance * relative * np.sqrt(_pair_inflation(survey) / n_kept)


def _read_noise(
    bias: Sequence[SurveyedSeries],
    darks: Sequence[SurveyedSeries],
    step_adu: float | None,
    reasons: dict[str, str],
    notes: list[str],
) -> tuple[Measured | None, float | None]:
    """Give the read noise from pairs, and from the spread of the pixels.

    EMVA 1288, 6.4: half the variance of the difference of two dark frames, less that of the quantisation.
    """
    series = [one for one in bias if one.survey.n_frames >= 2 and not one.subtracted]
    if not series:
        series = _short_darks(darks, notes)
    if not series:
        longest = f"; darks serve up to {DARKS_FOR_READ_NOISE_S:g} s"
        reasons["read_noise_adu"] = f"it needs two bias frames{longest}"
        return None, None
    if step_adu is None:
        reasons["read_noise_adu"] = reasons["step_adu"]
        return None, None
    quantisation = step_adu**2 / 12
    variances = [found for one in series if (found := _variance_of(one.survey)) is not None]
    if not variances:
        reasons["read_noise_adu"] = f"no cell has {LEAST_CELL_PIXELS} pixels in two frames"
        return None, None
    measured = _mean(variances)
    variance = measured.value - quantisation
    if not variance > LEAST_NOISE_IN_STEPS * quantisation:
        reasons["read_noise_adu"] = f"it is lost in the converter's step of {step_adu:g} ADU"
        return None, None
    noise = math.sqrt(variance)
    spread = _spread_noise(series, quantisation)
    if spread is not None and abs(spread / noise - 1) > 0.1:
        notes.append(
            f"read noise: {noise:.3g} ADU from pairs, {spread:.3g} ADU from the spread of the pixels about the mean; "
            "the bias changes during the series, or pixels flicker"
        )
    return Measured(value=noise, uncertainty=measured.uncertainty / (2 * noise)), spread


def _short_darks(darks: Sequence[SurveyedSeries], notes: list[str]) -> list[SurveyedSeries]:
    """Give the shortest darks where they can stand for bias frames."""
    usable = [d for d in darks if d.survey.n_frames >= 2 and not d.subtracted and d.exposure_s < DARKS_FOR_READ_NOISE_S]
    if not usable:
        return []
    shortest = min(usable, key=lambda one: one.exposure_s)
    notes.append(f"read noise: from darks of {shortest.exposure_s:g} s, the noise of their dark current included")
    return [shortest]


def _variance_of(survey: SeriesSurvey) -> Measured | None:
    """Give the variance of a sample, mean over the cells less those twice as noisy as the median; None without any."""
    variance, error = pair_mean(survey)
    known = np.isfinite(variance)
    if not np.any(known):
        return None
    kept = known & (variance <= 2 * np.median(variance[known]))
    n = int(np.count_nonzero(kept))
    return Measured(value=float(np.mean(variance[kept])), uncertainty=float(np.sqrt(np.sum(error[kept] ** 2))) / n)


def _mean(values: Sequence[Measured]) -> Measured:
    """Give the mean of several series; where they differ by more than their noise, their scatter is the uncertainty."""
    mean = sum(v.value for v in values) / len(values)
    error = math.sqrt(sum(v.uncertainty**2 for v in values)) / len(values)
    if len(values) > 1:
        scatter = sum((v.value - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
        error = max(error, math.sqrt(scatter))
    return Measured(value=mean, uncertainty=error)


def _spread_noise(series: Sequence[SurveyedSeries], quantisation: float) -> float | None:
    """Give the read noise from what the frames differ from the typical frame of their series."""
    variances = [
        float(np.nanmedian(one.survey.residual_std_adu)) ** 2 / _residual_share(one.survey.n_frames) for one in series
    ]
    variance = float(np.mean(variances)) - quantisation
    return math.sqrt(variance) if variance > 0 else None


def _residual_share(n_frames: int) -> float:
    """Give the variance of a frame less the typical one, in that of a sample.

    The typical frame is the mean of two, or the median of the means of three thirds: its variance is then 0.4487 x 3/n,
    its covariance with a frame 1/n.
    """
    return 0.5 if n_frames == 2 else 1 - (2 - 3 * 0.4487) / n_frames


# ---- the photon-transfer curve ----


@dataclass(frozen=True, kw_only=True)
class _DarkCells:
    """Level and variance of each cell of a dark of any exposure, from the series there are."""

    exposures_s: tuple[float, ...]
    """Ascending."""
    levels_adu: tuple[FloatArray, ...]
    variances_adu2: tuple[FloatArray, ...]
    errors_adu2: tuple[FloatArray, ...]

    def at(self, exposure_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give level, variance and the variance's uncertainty: of the nearest dark, or of the line between two."""
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


def _dark_cells(darks: Sequence[SurveyedSeries]) -> _DarkCells | None:
    usable = sorted((d for d in darks if d.survey.n_frames >= 2), key=lambda d: d.exposure_s)
    if not usable:
        return None
    exposures: list[float] = []
    levels, variances, errors = [], [], []
    for one in usable:
        if exposures and one.exposure_s - exposures[-1] <= SAME_EXPOSURE * one.exposure_s:
            continue
        variance, error = pair_mean(one.survey)
        exposures.append(one.exposure_s)
        levels.append(np.median(one.survey.cells_adu, axis=0))
        variances.append(variance)
        errors.append(error)
    return _DarkCells(
        exposures_s=tuple(exposures),
        levels_adu=tuple(levels),
        variances_adu2=tuple(variances),
        errors_adu2=tuple(errors),
    )


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """All points, one for each pair and cell; arrays of one length."""

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
    darks: _DarkCells
    flats: tuple[SurveyedSeries, ...]
    """The series that `series` counts."""

    def errors(self, slope: float) -> FloatArray:
        """Give the standard deviation of each variance, as expected for a slope."""
        noise = self.relative_error * (np.maximum(0, self.signal_adu) * slope + self.dark_variance_adu2)
        return np.hypot(noise, self.drift_error_adu2)

    def summary(self) -> PhotonTransfer:
        """Give the mean over the pairs of each cell and series; a point is used where most of its pairs are."""
        _, where = np.unique(self.series * GRID**2 + self.cell, return_inverse=True)
        counts = np.bincount(where)
        return PhotonTransfer(
            signal_adu=np.bincount(where, self.signal_adu) / counts,
            variance_adu2=np.bincount(where, self.variance_adu2) / counts,
            used=2 * np.bincount(where, self.used) > counts,
        )


def _photon_transfer(
    flats: Sequence[SurveyedSeries], darks: Sequence[SurveyedSeries], notes: list[str]
) -> _Curve | str:
    """Give the points of all flats, or why there are none."""
    if not flats:
        return "there are no flats"
    raw = [flat for flat in flats if not flat.subtracted and flat.survey.varying_bits]
    if not raw:
        return "the flats are dark-subtracted or scaled already, or saturated all over"
    pairs = [flat for flat in raw if flat.survey.n_frames >= 2]
    if not pairs:
        return "it needs two flats of a series"
    model = _dark_cells(darks)
    if model is None:
        return "it needs two bias or dark frames of the same settings"
    longest_s = max(flat.exposure_s for flat in pairs)
    if len(model.exposures_s) == 1 and abs(model.exposures_s[0] - longest_s) > DARK_TOLERANCE * longest_s:
        notes.append(
            f"gain: the dark current of flats up to {longest_s:g} s is not subtracted, only the level of "
            f"{model.exposures_s[0]:g} s"
        )
    dark_saturated = min(float(np.median(d.survey.saturated)) / d.survey.n_pixels for d in darks if d.survey.n_pixels)
    parts = [_series_points(flat, index, model, dark_saturated) for index, flat in enumerate(pairs)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    curve = _Curve(**joined, used=np.zeros(joined["signal_adu"].size, np.bool_), darks=model, flats=tuple(pairs))
    return _with_used(curve)


def _series_points(
    flat: SurveyedSeries, index: int, model: _DarkCells, dark_saturated: float
) -> dict[str, NDArray[Any]]:
    """Give the points of one series of flats: its pairs, each with all cells that have a variance."""
    survey = flat.survey
    first = survey.pair_first
    exposures = np.asarray(flat.exposures_s, np.float64)
    darks = [model.at(float(t)) for t in (exposures[first] + exposures[first + 1]) / 2]
    levels, dark_variances, dark_errors = (np.array(part) for part in zip(*darks, strict=True))
    cells = survey.cells_adu
    means = (cells[first] + cells[first + 1]) / 2
    # What is left of the pedestal when frames are brought to one level: of a change this share stays in a cell.
    light, left = means - survey.pedestal_adu, levels - survey.pedestal_adu
    left_adu = CELL_CONTRAST * (cells[first + 1] - cells[first]) * left / np.maximum(light, 1.0)
    full = survey.saturated / survey.n_pixels - dark_saturated > SATURATED_SHARE
    shape = survey.pair_variance_adu2.shape
    points: dict[str, NDArray[Any]] = {
        "signal_adu": means - levels,
        "variance_adu2": survey.pair_variance_adu2 - dark_variances,
        "dark_variance_adu2": dark_variances,
        "dark_error_adu2": dark_errors,
        "relative_error": np.broadcast_to(_relative_error(survey), shape),
        "drift_error_adu2": left_adu**2 / 2,
        "inflation": np.full(shape, _pair_inflation(survey)),
        "cell": np.broadcast_to(np.arange(GRID**2).reshape(GRID, GRID), shape),
        "series": np.full(shape, index),
        "saturated": np.broadcast_to((full[first] | full[first + 1])[:, np.newaxis, np.newaxis], shape),
    }
    usable = np.isfinite(points["variance_adu2"]) & (points["signal_adu"] > 0)  # false for NaN
    usable &= survey.cell_pixels >= LEAST_CELL_PIXELS
    return {name: values[usable] for name, values in points.items()}


def _with_used(curve: _Curve) -> _Curve:
    """Choose the points of the linear range: not saturated, below the turnover, and near the line of the others."""
    used = ~curve.saturated
    if not np.any(used):
        return curve
    used &= curve.signal_adu <= _end_of_linear_range(curve, used)
    if not np.any(used):
        return curve
    # What goes wrong between two frames adds to their variance: begin, and judge the scatter, from below.
    slope = float(np.quantile(curve.variance_adu2[used] / curve.signal_adu[used], 0.3))
    for _ in range(10):
        if not slope > 0:
            return replace(curve, used=used)
        residual = (curve.variance_adu2 - slope * curve.signal_adu) / curve.errors(slope)
        below = residual[used & (residual <= 0)]
        width = max(1.0, 1.4826 * float(np.median(-below))) if below.size else 1.0
        kept = used & (np.abs(residual) <= OUTLIER_SIGMAS * width)
        if np.array_equal(kept, used) or not np.any(kept):
            break
        used = kept
        slope = _slope(curve, used)
    return replace(curve, used=used)


def _slope(curve: _Curve, used: NDArray[np.bool_]) -> float:
    """Give the weighted slope through the origin; weights come from expected variances, as measured ones bias it."""
    signal, variance = curve.signal_adu[used], curve.variance_adu2[used]
    slope = float(np.median(variance / signal))
    for _ in range(3):
        if not slope > 0:
            return slope
        weight = 1 / curve.errors(slope)[used] ** 2
        slope = float(np.sum(weight * signal * variance) / np.sum(weight * signal**2))
    return slope


def _end_of_linear_range(curve: _Curve, used: NDArray[np.bool_]) -> float:
    """Give the signal from which on the variance falls behind, going up from the faintest points.

    Near full well charge spills into neighbours, and a clipped pixel has no noise: the variance turns over (Janesick
    2001, 2.2.3). Where the variance of the brightest points is not below that of fainter ones, nothing turns over, and
    faint points that are too noisy do not make the bright ones look too quiet.
    """
    bins = np.floor(np.log2(curve.signal_adu) * 6).astype(np.int64)  # 12 % of signal each
    members = [used & (bins == one) for one in np.unique(bins[used])]
    variances = [float(np.median(curve.variance_adu2[m])) for m in members]
    if variances[-1] > TURNED_SHARE * max(variances):
        return math.inf
    total, weights = 0.0, 0.0
    for one, variance in zip(members, variances, strict=True):
        signal = float(np.median(curve.signal_adu[one]))
        ratio = variance / signal
        reference = total / weights if weights else ratio
        dark = float(np.median(curve.dark_variance_adu2[one]))
        noise = float(np.median(curve.relative_error[one])) * (max(reference, ratio) + dark / signal)
        error = math.hypot(1.5 * noise / math.sqrt(np.count_nonzero(one)), ratio * DARK_LEVEL_ERROR_ADU / signal)
        limit = reference * (1 - TURNOVER_SHARE) - 4 * math.hypot(error, math.sqrt(1 / weights) if weights else 0.0)
        if ratio < limit:
            return float(np.min(curve.signal_adu[one])) * TURNOVER_MARGIN
        if error > 0:
            total += ratio / error**2
            weights += 1 / error**2
    return math.inf


def _gain(curve: _Curve | str, reasons: dict[str, str]) -> Measured | None:
    """Give the gain from the points of the linear range."""
    measured = curve if isinstance(curve, str) else _gain_of(curve)
    if isinstance(measured, str):
        reasons["gain_e_per_adu"] = measured
        return None
    return measured


def _gain_of(curve: _Curve) -> Measured | str:
    used = curve.used
    if np.count_nonzero(used) < LEAST_POINTS:
        return "the flats are saturated" if np.any(curve.saturated) else "the flats show no photon noise or are clipped"
    photons, dark = float(np.sum(curve.variance_adu2[used])), float(np.sum(curve.dark_variance_adu2[used]))
    if not photons > dark:
        n = np.count_nonzero(used)
        return (
            f"photon noise is below the read noise: variance {max(0.0, photons) / n:.3g} ADU^2 against {dark / n:.3g}; "
            "take brighter flats, below saturation"
        )
    slope = _slope(curve, used)
    uncertainty = _slope_uncertainty(curve, slope)
    if uncertainty > MAX_GAIN_UNCERTAINTY * slope:
        return f"it is uncertain by {100 * uncertainty / slope:.0f} %, more than {100 * MAX_GAIN_UNCERTAINTY:g} %"
    return Measured(value=1 / slope, uncertainty=uncertainty / slope**2)


def _slope_uncertainty(curve: _Curve, slope: float) -> float:
    """Give the standard deviation of the slope: noise of the flats' variances, of the darks', and excess scatter."""
    used = curve.used
    signal, errors = curve.signal_adu[used], curve.errors(slope)[used]
    weight = 1 / errors**2
    denominator = float(np.sum(weight * signal**2))
    flats = float(np.sum(weight * signal**2 * curve.inflation[used])) / denominator**2
    lever = np.bincount(curve.cell[used], weight * signal, GRID**2)
    dark_error = np.zeros(GRID**2)
    np.maximum.at(dark_error, curve.cell[used], curve.dark_error_adu2[used])
    darks = float(np.sum((lever * dark_error) ** 2)) / denominator**2
    residual = (curve.variance_adu2[used] - slope * signal) / errors
    excess = max(1.0, float(np.sum(residual**2)) / max(1, residual.size - 1))
    return math.sqrt(excess * flats + darks)


# ---- full well, linearity ----


def _full_well(curve: _Curve, saturation_adu: float | None) -> Measured | None:
    """Give the level, ADU above the dark, at which pixels are full or the converter ends; `None` where none are.

    The brightest series that is clipped, which shows in its saturated samples or in cells without half of the noise
    they should have, holds it: between its brightest sample and the brightest `SATURATED_SHARE` of all, as clipped
    samples pile up there. The levels of cells would not do, being averages of colours and of vignetting.
    """
    slope = _slope(curve, curve.used)
    last = float(np.max(curve.signal_adu[curve.used]))
    clipped = ~curve.used & (curve.signal_adu > last) & (curve.variance_adu2 < 0.5 * slope * curve.signal_adu)
    counts = np.bincount(curve.series[clipped], minlength=len(curve.flats))
    full = [
        flat
        for flat, count in zip(curve.flats, counts, strict=True)
        if count >= LEAST_POINTS or np.any(flat.survey.saturated > SATURATED_SHARE * flat.survey.n_pixels)
    ]
    if not full:
        return None
    brightest = max(full, key=lambda flat: float(np.nanmedian(flat.survey.mean_adu)))
    survey = brightest.survey
    highest = float(np.nanmax(survey.maximum_adu))
    if saturation_adu is not None:
        highest = min(highest, saturation_adu)
    above = np.cumsum(survey.histogram[::-1])[::-1]
    occupied = int(np.flatnonzero(above > SATURATED_SHARE * above[0])[-1])
    low = min(highest, survey.histogram_start_adu + occupied * survey.histogram_step_adu)
    dark = float(np.nanmean(curve.darks.at(brightest.exposure_s)[0]))
    return Measured(value=(low + highest) / 2 - dark, uncertainty=max(DARK_LEVEL_ERROR_ADU, (highest - low) / 2))


def _linearity(curve: _Curve | str, reasons: dict[str, str]) -> Measured | None:
    """Give the largest deviation, in per cent, of the level from a straight line in exposure, of all filters' worst.

    As EMVA 1288, 6.7: the line has the smallest sum of squared relative deviations. Its intercept is the shutter's
    dead time.
    """
    measured: list[Measured] = []
    why = "it needs flats of three exposures of one filter and lamp, two frames each, the longest twice the shortest"
    if not isinstance(curve, str):
        for filter_name in sorted({flat.filter_name or "" for flat in curve.flats}):
            levels = _levels(filter_name, curve)
            repeated = {t: values for t, values in levels.items() if len(values) >= 2}
            if len(repeated) < 3 or max(repeated) < 2 * min(repeated):
                continue
            result = _deviation(repeated)
            if isinstance(result, str):
                why = result
            else:
                measured.append(result)
    if not measured:
        reasons["linearity_percent"] = curve if isinstance(curve, str) else why
        return None
    return max(measured, key=lambda one: one.value)


def _levels(filter_name: str, curve: _Curve) -> dict[float, list[float]]:
    """Give the levels of a filter's frames by exposure, ADU above the dark, as far as they are in the linear range."""
    end = float(np.max(curve.signal_adu, where=curve.used, initial=0.0)) * (1 + 1e-3)
    levels: defaultdict[float, list[float]] = defaultdict(list)
    frames = [
        (exposure_s, cells)
        for flat in curve.flats
        if (flat.filter_name or "") == filter_name
        for exposure_s, cells in zip(flat.exposures_s, flat.survey.cells_adu, strict=True)
    ]
    latest_s = -math.inf
    for exposure_s, cells in sorted(frames, key=lambda frame: frame[0]):
        signal = (cells - curve.darks.at(exposure_s)[0]).ravel()
        signal = signal[np.isfinite(signal)]
        if exposure_s - latest_s > SAME_EXPOSURE * exposure_s:
            latest_s = exposure_s
        if signal.size and 0 < float(np.max(signal)) <= end:
            levels[latest_s].append(float(np.mean(signal)))
    return dict(levels)


def _deviation(levels: Mapping[float, Sequence[float]]) -> Measured | str:
    """Give the largest relative deviation of the mean levels from their line in per cent, or why it means nothing."""
    exposures = np.array(sorted(levels))
    means = np.array([np.mean(levels[t]) for t in exposures])
    counts = np.array([len(levels[t]) for t in exposures])
    scatter = math.sqrt(
        sum(float(np.sum((np.array(levels[t]) / m - 1) ** 2)) for t, m in zip(exposures, means, strict=True))
        / float(np.sum(counts - 1))
    )
    if scatter > MAX_LAMP_SCATTER:
        return (
            f"the lamp is not stable: flats of one exposure differ by {100 * scatter:.1f} %, "
            f"limit {100 * MAX_LAMP_SCATTER:g} %"
        )
    line = np.polynomial.Polynomial.fit(exposures, means, 1, w=1 / means)
    deviations = np.abs(means / line(exposures) - 1)
    worst = int(np.argmax(deviations))
    return Measured(value=100 * float(deviations[worst]), uncertainty=100 * scatter / math.sqrt(counts[worst]))
