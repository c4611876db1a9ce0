"""Which pixels of a master are defective, and how: the bits of the DQ plane and the rules that set them.

The rules work on candidates alone: pixels that a cheap comparison with the level of their cell picked out
(`ostcal.measure.master_scan`). What is known of a pixel is the mean, the standard deviation and the number of its kept
samples, no more. So telegraph noise shows in one of two ways: where one of the levels is rare its samples were rejected
(`Defect.TELEGRAPH`), where both are frequent the deviation is large (`Defect.NOISY`, as any other noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType

FloatArray = NDArray[np.floating]

_POISSON_BOUNDS = {
    0.001: 2,
    0.003: 3,
    0.01: 3,
    0.02: 4,
    0.03: 4,
    0.05: 4,
    0.07: 4,
    0.1: 5,
    0.15: 5,
    0.2: 6,
    0.3: 6,
    0.4: 7,
    0.6: 8,
    0.8: 9,
    1: 10,
    1.5: 11,
    2: 13,
    3: 15,
    5: 20,
    8: 26,
    12: 33,
    20: 46,
    40: 74,
    80: 127,
    200: 272,
    1000: 1,
}
"""The smallest counts that means up to these reach with a chance below 1e-6."""

_QUIET_SHARE = 0.25
"""Share of the samples of a quiet sensor that must be rejected for telegraph noise."""

_FEW = 0.1
"""Share of flagged pixels from which on a plane takes no more memory than their places: 9 bytes each."""

_LEAST_ROWS = 8
"""Flagged pixels that make a part of a column, however few rows a band has."""


class Defect(IntFlag):
    """Bits of the DQ plane, uint8."""

    HOT = 1
    """Bias, dark: above its neighbours by 10 sigma. Flat: answers with more than 1.2 times its neighbours."""
    COLD = 2
    """Bias, dark: below its neighbours by 10 sigma. Flat: answers with less than 0.8 of its neighbours."""
    DEAD = 4
    """Bias, dark: every sample the same where noise excludes it. Flat: less than half of its neighbours, or nothing."""
    NOISY = 8
    """All kinds: its samples scatter far more than those around it."""
    TELEGRAPH = 16
    """All kinds: far more of its samples were rejected than around it, as if it had a second level."""
    BAD_COLUMN = 32
    """All kinds: in a column, or a part of one, that differs from the columns beside it."""
    SATURATED = 64
    """All kinds: at the end of the scale."""
    NO_DATA = 128
    """All kinds: no sample was kept; the master is NaN there."""


@dataclass(frozen=True, kw_only=True)
class DefectLimits:
    """From where on a pixel is a defect."""

    hot_sigma: float = 10.0
    """Distance from the neighbours in sigma of the master's own noise, that is of its samples over sqrt(n)."""
    neighbour_spreads: float = 6.0
    """And in spreads of the pixels around, the fixed pattern with them: beyond 6, chance gives 0.1 pixels of 61 MP."""
    own_sigma: float = 3.0
    """And in sigma of the pixel's own mean: a cosmic ray that was kept lifts the mean by 1 of these, whatever n."""
    low_response: float = 0.8
    """Flats: response below this share of the neighbours is cold; 20 sigma of a usual non-uniformity of 1 %."""
    dead_response: float = 0.5
    high_response: float = 1.2
    noisy_factor: float = 2.0
    """Standard deviation in units of what is expected; at few frames the width of chi-square asks for more."""
    noisy_sigma: float = 6.0
    """What chance may do to a deviation: 1e-9, 0.06 pixels of 61 MP."""
    telegraph_samples: int = 3
    """Samples rejected more than the pixels around lost; one or two are cosmic rays."""
    telegraph_share: float = 0.1
    column_spreads: float = 8.0
    """Offset of a column from its neighbours in spreads of such offsets."""
    column_noise: float = 1.0
    """And in spreads of the pixels, so that a column is only bad where it is seen."""
    column_response: float = 0.03
    """And in a flat by this share of the level: shadows of dust have edges of 1 % in a column."""
    column_share: float = 0.5
    """Or this share of its pixels, in one band of rows, differs from the neighbours."""


DEFAULT_LIMITS = DefectLimits()


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """What is known of the samples."""

    n_frames: int
    adu_per_unit: float = 1.0
    """ADU of one unit of the master: 1, and the level by which a flat was divided."""
    gain_e_per_adu: float | None = None
    """``None`` where unknown: then bright pixels are not called noisy, for their photons might be."""
    step_adu: float = 1.0
    """Step of the converter: 4 for 14 bits shifted to 16."""
    saturation_adu: float | None = None
    """Sample at the end of the scale; ``None`` where unknown."""
    pedestal_adu: float = 0.0
    """What was subtracted from the samples: bias and dark, in flats."""

    @property
    def step(self) -> float:
        """Step of the converter in the unit of the master."""
        return self.step_adu / self.adu_per_unit

    @property
    def saturation(self) -> float:
        """End of the scale in the unit of the master; 0.1 % below it, as converters end at 65520 of 65535."""
        if self.saturation_adu is None:
            return math.inf
        return (0.999 * self.saturation_adu - self.pedestal_adu) / self.adu_per_unit

    def excess_variance(self, excess: FloatArray) -> FloatArray:
        """Give the variance that the photons or electrons of an excess add to a sample, in the master's unit."""
        positive = np.maximum(excess, 0)
        if self.gain_e_per_adu is None:
            # Ten times below the gain of common cameras: no noise of a bright pixel is beyond it.
            return np.asarray(positive / (0.05 * self.adu_per_unit))
        return np.asarray(positive / (self.gain_e_per_adu * self.adu_per_unit))


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pixels to be judged; arrays of one length, values in the master's unit."""

    value: FloatArray
    excess: FloatArray
    """Above the median of the eight neighbours of the same colour, the patterns of rows and columns subtracted."""
    std: FloatArray
    """Standard deviation of the kept samples."""
    n_used: NDArray[np.int64]
    above: FloatArray
    """Above the level of its cell."""
    noise: FloatArray
    """Of a pixel of the master around it: standard deviation of the mean of its samples."""
    spread: FloatArray
    """Of the pixels of the master around it, fixed pattern included."""
    sample_variance: FloatArray
    """Of a sample of the pixels around it."""
    lost: FloatArray
    """Samples rejected of a pixel around it, on the average."""


def chi_square_bound(degrees: NDArray[np.int64] | int, sigma: float) -> FloatArray:
    """Give the factor of a variance that chance exceeds as rarely as a Gaussian does `sigma`.

    The approximation of Wilson and Hilferty (1931), PNAS 17, 684; at 6 sigma it is 16 % above the true value for two
    degrees of freedom, 25 % for one, and right to 3 % from five on.
    """
    width = 2 / (9 * np.maximum(np.asarray(degrees, dtype=np.float64), 1))
    return np.asarray((1 - width + sigma * np.sqrt(width)) ** 3)


def chi_square_median(degrees: int) -> float:
    """Give the median of a sample variance over its mean; within 3 %."""
    return float((1 - 2 / (9 * max(degrees, 1))) ** 3)


def poisson_bound(mean: FloatArray) -> NDArray[np.int64]:
    """Give a count that a Poisson variable of each mean reaches with a chance below 1e-6."""
    means = np.array(list(_POISSON_BOUNDS))
    bounds = np.array(list(_POISSON_BOUNDS.values()))
    index = np.searchsorted(means, np.minimum(np.nan_to_num(mean), means[-1]))
    return np.asarray(bounds[index])


def own_noise(noise: FloatArray, spread: FloatArray, n_frames: int) -> FloatArray:
    """Give the noise that distances are measured in: from three frames on that of the samples, else the spread."""
    return np.asarray(noise if n_frames >= 3 else spread)


def distance_needed(noise: FloatArray, spread: FloatArray, n_frames: int, limits: DefectLimits) -> FloatArray:
    """Give how far a pixel must be from its neighbours to be hot or cold."""
    own = own_noise(noise, spread, n_frames)
    return np.asarray(np.maximum(limits.hot_sigma * own, limits.neighbour_spreads * spread))


def classify(kind: FrameType, pixels: Candidates, model: NoiseModel, limits: DefectLimits) -> NDArray[np.uint8]:
    """Give the bits of each candidate.

    Parameters
    ----------
    kind : FrameType
        `BIAS`, `DARK` or `FLAT`.
    pixels : Candidates
        n of them.
    model : NoiseModel
    limits : DefectLimits

    Returns
    -------
    ndarray, (n,) uint8
        0 where a candidate is an ordinary pixel.
    """
    above, below, dead = _response(pixels, model, limits) if kind is FrameType.FLAT else _level(pixels, model, limits)
    found = {
        Defect.HOT: above,
        Defect.COLD: below,
        Defect.DEAD: dead,
        Defect.NOISY: _noisy(kind, pixels, model, limits),
        Defect.TELEGRAPH: _telegraph(pixels, above, model, limits),
        Defect.SATURATED: pixels.value >= model.saturation,
    }
    empty = ~np.isfinite(pixels.value) | (pixels.n_used == 0)
    bits = np.zeros(pixels.value.shape, dtype=np.uint8)
    for bit, where in found.items():
        bits[where & ~empty] |= np.uint8(bit)
    bits[empty] = np.uint8(Defect.NO_DATA)
    return bits


_Marks = NDArray[np.bool_]


def _level(pixels: Candidates, model: NoiseModel, limits: DefectLimits) -> tuple[_Marks, _Marks, _Marks]:
    """Say which pixels are hot, cold and dead."""
    far = distance_needed(pixels.noise, pixels.spread, model.n_frames, limits)
    # Where all samples are equal the pixel's mean has no noise; NaN compares as false.
    real = np.abs(pixels.excess) >= limits.own_sigma * pixels.std / np.sqrt(np.maximum(pixels.n_used, 1))
    return (pixels.excess > far) & real, (pixels.excess < -far) & real, _stuck(pixels, model)


def _response(pixels: Candidates, model: NoiseModel, limits: DefectLimits) -> tuple[_Marks, _Marks, _Marks]:
    """Say which pixels of a flat are bright, weak and dead; what gives nothing is dead whatever its neighbours do."""
    above, below, _ = _level(pixels, model, limits)
    usual = pixels.value - pixels.excess
    nothing = pixels.value <= 0
    bright = above & (pixels.value > limits.high_response * usual)
    weak = below & ((pixels.value < limits.low_response * usual) | nothing)
    return bright, weak, below & ((pixels.value < limits.dead_response * usual) | nothing)


def stuck_is_certain(sample_variance: FloatArray, n_used: NDArray[np.integer] | int, step: float) -> NDArray[np.bool_]:
    """Say where equal samples cannot be chance: n samples of noise s agree with (0.4 step / s)^(n - 1) or less."""
    agree = 0.4 * step / np.sqrt(np.maximum(sample_variance, 1e-30))
    return np.asarray((n_used - 1) * np.log10(np.maximum(agree, 1e-30)) < -9)


def _stuck(pixels: Candidates, model: NoiseModel) -> NDArray[np.bool_]:
    equal = (pixels.std <= 1e-6 * np.sqrt(pixels.sample_variance)) & (pixels.value < model.saturation)
    return equal & stuck_is_certain(pixels.sample_variance, pixels.n_used, model.step)


def _noisy(kind: FrameType, pixels: Candidates, model: NoiseModel, limits: DefectLimits) -> NDArray[np.bool_]:
    if model.n_frames < 3:
        return np.zeros(pixels.value.shape, dtype=np.bool_)
    # Noise lifts a pixel by chance; only what is certainly more light than around it has photon noise.
    chance = limits.own_sigma * pixels.std / np.sqrt(np.maximum(pixels.n_used, 1))
    excess = np.maximum(pixels.excess, pixels.above) - chance
    light = 0.0 if kind is FrameType.BIAS else model.excess_variance(excess)
    expected = pixels.sample_variance + light
    factor = np.maximum(limits.noisy_factor**2, chi_square_bound(pixels.n_used - 1, limits.noisy_sigma))
    return np.asarray(pixels.std.astype(np.float64) ** 2 > factor * expected)


def telegraph_bound(lost: FloatArray, n_frames: int, limits: DefectLimits) -> FloatArray:
    """Give how many rejected samples make a pixel suspicious where those around lost `lost` on the average."""
    least = max(limits.telegraph_samples, math.ceil(limits.telegraph_share * n_frames))
    return np.asarray(np.maximum(poisson_bound(lost), least + np.floor(np.nan_to_num(lost) + 0.5)))


def _telegraph(
    pixels: Candidates, hot: NDArray[np.bool_], model: NoiseModel, limits: DefectLimits
) -> NDArray[np.bool_]:
    # The spread of a hot pixel is taken from its own few samples: rejection by MAD then takes some 5 % of good ones.
    lost = np.where(hot, np.maximum(pixels.lost, 0.05 * model.n_frames), pixels.lost)
    rejected = model.n_frames - pixels.n_used
    # Where the noise is below a step all samples of one value go together, 4 of 40 in 0.04 % of the pixels.
    quiet = np.where(pixels.sample_variance < model.step**2, _QUIET_SHARE * model.n_frames, 0)
    return np.asarray(rejected >= np.maximum(telegraph_bound(lost, model.n_frames, limits), quiet))


# ---- columns ----


@dataclass(frozen=True, kw_only=True)
class BadColumn:
    """A column, or a part of one, that differs from the columns beside it."""

    column: int
    start: int
    stop: int
    """Rows from `start` to before `stop`."""
    offset: float
    """From the columns beside it, in the master's unit; the median over its bands of rows."""

    def as_dict(self) -> Mapping[str, float]:
        """Give it as JSON values."""
        return {"column": self.column, "start": self.start, "stop": self.stop, "offset": self.offset}


@dataclass(frozen=True, kw_only=True, eq=False)
class FlaggedPixels:
    """Pixels of a band of rows that have bits, by place where they are few: a plane of 61 MP takes 0.1 s to clear."""

    places: NDArray[np.int64]
    """``row * width + column`` from the first row of the band on; empty where `plane` is used."""
    bits: NDArray[np.uint8]
    plane: NDArray[np.uint8] | None = None
    """(rows, width): of a band with more than `_FEW` of its pixels flagged."""

    @classmethod
    def of(cls, places: NDArray[np.int64], bits: NDArray[np.uint8], shape: tuple[int, int]) -> FlaggedPixels:
        """Keep those of the pixels that have bits; `shape` is that of the band."""
        flagged = bits != 0
        found = cls(places=places[flagged], bits=bits[flagged])
        if len(found.bits) <= _FEW * math.prod(shape):
            return found
        plane = np.zeros(shape, np.uint8)
        found.put_into(plane, 0)
        return cls(places=np.empty(0, np.int64), bits=np.empty(0, np.uint8), plane=plane)

    def put_into(self, rows: NDArray[np.uint8], first: int) -> None:
        """Put the bits into rows that begin with row `first` of the band, before it where that is negative."""
        height, width = rows.shape
        if self.plane is not None:
            inside = self.plane[max(0, first) : max(0, first + height)]
            rows[max(0, -first) :][: len(inside)] = inside
            return
        begin, end = np.searchsorted(self.places, (first * width, (first + height) * width))
        rows.reshape(-1)[self.places[begin:end] - first * width] = self.bits[begin:end]

    def occurrences(self) -> NDArray[np.int64]:
        """Count how often each value occurs: (256,), the pixels without bits left out."""
        bits = self.bits if self.plane is None else self.plane[self.plane != 0]
        return np.bincount(bits, minlength=256)


@dataclass(frozen=True, kw_only=True, eq=False)
class DefectMap:
    """The bits of `Defect` of every pixel of a master."""

    shape: tuple[int, int]
    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each band, and the height."""
    bands: Sequence[FlaggedPixels]
    columns: Sequence[BadColumn]

    def rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Give rows of the DQ plane: (stop - start, width) uint8."""
        rows = np.zeros((stop - start, self.shape[1]), np.uint8)
        for first, last, flagged in zip(self.edges, self.edges[1:], self.bands, strict=False):
            if first < stop and start < last:
                flagged.put_into(rows, start - int(first))
        for bad in self.columns:
            rows[max(0, bad.start - start) : max(0, bad.stop - start), bad.column] |= np.uint8(Defect.BAD_COLUMN)
        return rows

    def counts(self) -> dict[Defect, int]:
        """Count the pixels with each bit."""
        occurs = np.sum([flagged.occurrences() for flagged in self.bands], axis=0)
        values = np.arange(256)
        counts = {bit: int(occurs[values & int(bit) != 0].sum()) for bit in Defect}
        counts[Defect.BAD_COLUMN] = sum(bad.stop - bad.start for bad in self.columns)
        return counts


@dataclass(frozen=True, kw_only=True)
class ColumnBands:
    """What each column says in each band of rows; arrays are (n_bands, width)."""

    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each band, and the height."""
    offsets: NDArray[np.float32]
    """Clipped mean of the column in the band, above the level of its cell."""
    flagged: NDArray[np.integer]
    """Pixels of the column in the band that are hot, cold or dead."""
    least: NDArray[np.float32]
    """The offset from which a column is seen."""


def bad_columns(bands: ColumnBands, distance: int, limits: DefectLimits) -> list[BadColumn]:
    """Find bad columns and bad parts of columns.

    A part is bad where it is far from its neighbours in two bands of rows on end, or more than half of its pixels are
    flagged in one; a column that is only a little off everywhere is found in its mean over all bands.

    Parameters
    ----------
    bands : ColumnBands
    distance : int
        To the next column of the same colours: 1, or 2 for Bayer sensors.
    limits : DefectLimits
    """
    if bands.offsets.shape[1] < 8 * distance:
        return []
    against = _against_neighbours(bands.offsets, distance)
    heights = np.diff(bands.edges)
    far = np.abs(against) > np.maximum(limits.column_spreads * _robust_spread(against), bands.least)
    full = bands.flagged > np.maximum(limits.column_share * heights, _LEAST_ROWS)[:, None]
    whole = _against_neighbours(mean_over_bands(bands.offsets, heights)[None], distance)[0]
    weak = np.abs(whole) > np.maximum(limits.column_spreads * _robust_spread(whole), bands.least.mean(axis=0))
    found = []
    for column in np.flatnonzero(far.any(axis=0) | full.any(axis=0) | weak):
        parts = _runs(far[:, column], full[:, column])
        if weak[column] and sum(stop - start for start, stop in parts) < 0.2 * len(heights):
            parts = [(0, len(heights))]
        for start, stop in parts:
            rows = int(bands.edges[start]), int(bands.edges[stop])
            offset = float(np.median(against[start:stop, column]))
            found.append(BadColumn(column=int(column), start=rows[0], stop=rows[1], offset=offset))
    return found


def mean_over_bands(values: NDArray[np.float32], heights: NDArray[np.int64]) -> FloatArray:
    """Average (n_bands, width) values over bands of these heights; one at a time, without a copy of all as float64."""
    total = np.zeros(values.shape[1], np.float64)
    for band, height in zip(values, heights, strict=True):
        total += band * float(height)
    return np.asarray(total / heights.sum())


def _against_neighbours(offsets: NDArray[np.floating], distance: int) -> NDArray[np.floating]:
    """Subtract from each column those beside it: the smaller of its distances from the left and from the right.

    Each side is the mean of two columns. Where one distance is up and the other down it is a slope, and counts as none.
    """
    width, reach = offsets.shape[1], 2 * distance
    against = np.empty_like(offsets)
    for band, out in zip(offsets, against, strict=True):  # one at a time, or temporaries of all cost 0.1 s to clear
        wide = np.pad(band, reach, mode="reflect")
        left = band - (wide[distance:][:width] + wide[:width]) / 2
        right = band - (wide[3 * distance :][:width] + wide[2 * reach :]) / 2
        smaller = np.where(np.abs(left) < np.abs(right), left, right)
        out[:] = np.where(left * right > 0, smaller, 0)
    return against


def _robust_spread(values: NDArray[np.floating]) -> float:
    low, high = np.quantile(values, (0.1587, 0.8413))
    return float(high - low) / 2


def _runs(far: NDArray[np.bool_], full: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Give the runs of bands that are far or full: two on end at least, or one that is full, or the only one."""
    hit = np.concatenate([[False], far | full, [False]])
    starts, stops = np.flatnonzero(hit[1:] & ~hit[:-1]), np.flatnonzero(~hit[1:] & hit[:-1])
    return [
        (int(start), int(stop))
        for start, stop in zip(starts, stops, strict=True)
        if stop - start >= 2 or full[start:stop].any() or len(far) == 1
    ]
