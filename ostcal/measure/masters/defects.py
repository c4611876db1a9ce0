"""Which pixels of a master are defective, and how: the bits of the DQ plane and the rules that set them.

The rules work on candidates alone: pixels that a cheap comparison with the level of their cell picked out
(`ostcal.measure.masters.scan`). What is known of a pixel is the mean, the standard deviation and the number of its kept
samples, no more. So telegraph noise shows in one of two ways: if one of the levels is rare its samples were rejected
(`Defect.TELEGRAPH`), if both are frequent the deviation is large (`Defect.NOISY`, as any other noise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.estimators import chi_square_bound
from ostcal.measure.limits import DefectLimits

FloatArray = NDArray[np.floating]

_POISSON_BOUNDS = {
    0.001: 2, 0.003: 3, 0.01: 3, 0.02: 4, 0.03: 4, 0.05: 4, 0.07: 4, 0.1: 5, 0.15: 5, 0.2: 6, 0.3: 6, 0.4: 7, 0.6: 8,
    0.8: 9, 1: 10, 1.5: 11, 2: 13, 3: 15, 5: 20, 8: 26, 12: 33, 20: 46, 40: 74, 80: 127, 200: 272, 1000: 1,
}  # fmt: skip
"""The smallest counts that means up to these reach with a chance below 1e-6."""

_QUIET_SHARE = 0.25
"""Share of the samples of a quiet sensor that must be rejected for telegraph noise."""


class Defect(IntFlag):
    """Bits of defective pixels: of the extension DQ and of `Master.mask`, uint8.

    Examples
    --------
    >>> from ostcal import Defect
    >>> Defect(65)
    <Defect.HOT|SATURATED: 65>
    >>> dark = ostcal.open_master("master_dark_60.000s.fits")  # doctest: +SKIP
    >>> is_hot = dark.mask & Defect.HOT != 0  # doctest: +SKIP
    """

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
class SampleModel:
    """What is known of the samples of a master: their number, noise and scale."""

    n_frames: int
    adu_per_unit: float = 1.0
    """ADU of one unit of the master: 1, and the level by which a flat was divided."""
    gain_e_per_adu: float | None = None
    """``None`` if unknown: then bright pixels are not called noisy, for their photons might be."""
    step_adu: float = 1.0
    """Step of the converter: 4 for 14 bits shifted to 16."""
    saturation_adu: float | None = None
    """Sample at the end of the scale; ``None`` if unknown."""
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
        """Return the variance that the photons or electrons of an excess add to a sample, in the master's unit.

        Without a gain it is 0.05 e-/ADU, ten times below that of common cameras: no bright pixel is noisier.
        """
        positive = np.maximum(excess, 0)
        gain = 0.05 if self.gain_e_per_adu is None else self.gain_e_per_adu
        return np.asarray(positive / (gain * self.adu_per_unit))


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pixels to be judged; (n,) arrays, values in the master's unit."""

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


def distance_needed(noise: FloatArray, spread: FloatArray, n_frames: int, limits: DefectLimits) -> FloatArray:
    """Return how far a pixel must be from its neighbours to be hot or cold.

    From three frames on the noise is that of the samples, below the spread of the pixels.
    """
    own = noise if n_frames >= 3 else spread
    return np.asarray(np.maximum(limits.hot_sigma * own, limits.neighbour_spreads * spread))


def stuck_is_certain(sample_variance: FloatArray, n_used: NDArray[np.integer] | int, step: float) -> NDArray[np.bool_]:
    """Return where equal samples cannot be chance: n samples of noise s agree with (0.4 step / s)^(n - 1) or less."""
    agree = 0.4 * step / np.sqrt(np.maximum(sample_variance, 1e-30))
    return np.asarray((n_used - 1) * np.log10(np.maximum(agree, 1e-30)) < -9)


def poisson_bound(mean: FloatArray) -> NDArray[np.int64]:
    """Return a count that a Poisson variable of each mean reaches with a chance below 1e-6."""
    means = np.array(list(_POISSON_BOUNDS))
    bounds = np.array(list(_POISSON_BOUNDS.values()))
    index = np.searchsorted(means, np.minimum(np.nan_to_num(mean), means[-1]))
    return np.asarray(bounds[index])


def telegraph_bound(lost: FloatArray, n_frames: int, limits: DefectLimits) -> FloatArray:
    """Return how many rejected samples make a pixel suspicious where those around lost `lost` on the average."""
    least = max(limits.telegraph_samples, math.ceil(limits.telegraph_share * n_frames))
    return np.asarray(np.maximum(poisson_bound(lost), least + np.floor(np.nan_to_num(lost) + 0.5)))


def classify(kind: FrameType, pixels: Candidates, model: SampleModel, limits: DefectLimits) -> NDArray[np.uint8]:
    """Return the bits of each candidate, (n,) uint8; 0 for an ordinary pixel."""
    far = distance_needed(pixels.noise, pixels.spread, model.n_frames, limits)
    chance = limits.own_sigma * pixels.std / np.sqrt(np.maximum(pixels.n_used, 1))
    is_real = np.abs(pixels.excess) >= chance  # false for NaN
    above, below = (pixels.excess > far) & is_real, (pixels.excess < -far) & is_real
    if kind is FrameType.FLAT:
        usual = pixels.value - pixels.excess
        nothing = pixels.value <= 0  # dead, whatever its neighbours do
        dead = below & ((pixels.value < limits.dead_response * usual) | nothing)
        above &= pixels.value > limits.high_response * usual
        below &= (pixels.value < limits.low_response * usual) | nothing
    else:
        is_equal = (pixels.std <= 1e-6 * np.sqrt(pixels.sample_variance)) & (pixels.value < model.saturation)
        dead = is_equal & stuck_is_certain(pixels.sample_variance, pixels.n_used, model.step)
    # Noise lifts a pixel by chance; only what is certainly more light than around it has photon noise.
    light = model.excess_variance(np.maximum(pixels.excess, pixels.above) - chance)
    expected = pixels.sample_variance + (0.0 if kind is FrameType.BIAS else light)
    factor = np.maximum(limits.noisy_factor**2, chi_square_bound(pixels.n_used - 1, limits.noisy_sigma))
    is_noisy = pixels.std.astype(np.float64) ** 2 > factor * expected
    # The spread of a hot pixel is that of its own few samples: rejection by MAD then takes some 5 % of good ones.
    n = model.n_frames
    lost = np.where(above, np.maximum(pixels.lost, 0.05 * n), pixels.lost)
    # Where the noise is below a step all samples of one value go together, 4 of 40 in 0.04 % of the pixels.
    quiet = np.where(pixels.sample_variance < model.step**2, _QUIET_SHARE * n, 0)
    found = {
        Defect.HOT: above,
        Defect.COLD: below,
        Defect.DEAD: dead,
        Defect.NOISY: is_noisy & (n >= 3),
        Defect.TELEGRAPH: n - pixels.n_used >= np.maximum(telegraph_bound(lost, n, limits), quiet),
        Defect.SATURATED: pixels.value >= model.saturation,
    }
    empty = ~np.isfinite(pixels.value) | (pixels.n_used == 0)
    bits = np.zeros(pixels.value.shape, dtype=np.uint8)
    for bit, where in found.items():
        bits[where & ~empty] |= np.uint8(bit)
    bits[empty] = np.uint8(Defect.NO_DATA)
    return bits
