"""How many frames are enough: the noise of a master against that of a light frame.

A light frame has the noise s_l in a pixel, a frame of a series s_f, and the master of N of them s_f / sqrt(N). After it
was subtracted the light has sqrt(s_l^2 + s_f^2 / N), which is at most (1 + share) s_l from

    N = s_f^2 / (s_l^2 ((1 + share)^2 - 1))

frames on. The light has the noise of the readout, of its dark current and of the sky; s_f is measured on differences of
successive frames. A flat divides: its noise counts as far as the sky of the light does, s_f = S s_flat / F for a sky of
S ADU and flats of F ADU.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.capture.place import SeriesPlace
from ostcal.capture.series_plan import CaptureWatcher, EnoughRules, ExposureControl, NoiseTarget, SeriesPlan
from ostcal.devices.protocols import ExposureResult
from ostcal.errors import FrameError
from ostcal.frames import FrameType
from ostcal.series.reader import Series

logger = logging.getLogger(__name__)

REACHED = 1.05
"""A series that is there is enough within this factor of the share: another measurement asks for no frame more."""
_MOST_SAMPLES = 1 << 20
_CLIP_SIGMAS = 4.0
_CLIPS = 4
_MOST_PAIRS_READ = 8
"""Pairs of a series on disk that are read to measure its noise."""


@dataclass(frozen=True, kw_only=True)
class CameraNoise:
    """Noise of a camera with some settings, as measured."""

    read_variance_adu2: float
    """Variance of a sample of a bias frame, the step of the converter included."""
    dark_adu_per_s: float = 0.0
    gain_e_per_adu: float | None = None

    def light_variance_adu2(self, exposure_s: float, sky_e_per_s: float) -> float:
        """Return the variance of a sample of a light frame."""
        gain = self.gain_e_per_adu or 1.0
        signal_adu = max(0.0, self.dark_adu_per_s) * exposure_s + sky_e_per_s * exposure_s / gain
        return self.read_variance_adu2 + signal_adu / gain


def frames_needed(share: float, light_variance: float, frame_variance: float) -> int:
    """Return the frames from which on a master adds no more than a share to the noise of a light."""
    return max(1, math.ceil(frame_variance / (light_variance * ((1 + share) ** 2 - 1)) - 1e-9))


def share_added(n_frames: int, light_variance: float, frame_variance: float) -> float:
    """Return the share that a master of so many frames adds to the noise of a light."""
    return math.sqrt(1 + frame_variance / (n_frames * light_variance)) - 1


def pair_variance_adu2(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the variance of a sample from the difference of two frames of a series; outlying pixels are left out."""
    step = max(1, math.isqrt(max(1, one.size // _MOST_SAMPLES)))
    difference = one[::step, ::step].astype(np.float64) - other[::step, ::step]
    return clipped(difference)[1] / 2


def clipped(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and variance without values beyond `_CLIP_SIGMAS`: hot pixels and cosmic rays are no typical ones."""
    kept = values.ravel()
    for _ in range(_CLIPS):
        mean, sigma = float(kept.mean()), float(kept.std())
        inside = np.abs(kept - mean) <= _CLIP_SIGMAS * sigma
        if inside.all():
            break
        kept = kept[inside]
    return float(kept.mean()), float(kept.var())


def series_variance_adu2(series: Series) -> float | None:
    """Return the variance of a sample of a series from pairs of its frames; ``None`` with fewer than two."""
    usable = [record.index for record in series.records if record.index not in series.excluded]
    pairs = list(itertools.pairwise(usable))
    step = max(1, len(pairs) // _MOST_PAIRS_READ)
    variances = []
    for one, other in pairs[::step][:_MOST_PAIRS_READ]:
        try:
            variances.append(pair_variance_adu2(series.read_frame(one), series.read_frame(other)))
        except FrameError as error:
            logger.debug("%s", error)
    return float(np.mean(variances)) if variances else None


def enough_rules(
    target: NoiseTarget, noise: CameraNoise, kind: FrameType, exposure_s: float, flat_adu: float = 0.0
) -> EnoughRules:
    """Return what a series of an exposure must reach; `flat_adu` is the level of flats above bias.

    The light of bias frames and of flats has the exposure of the target; that of darks theirs, unless it is given.
    """
    is_dark = kind is FrameType.DARK
    light_s = target.light_exposure_s if target.light_exposure_s is not None else exposure_s
    if not is_dark:
        light_s = target.light_exposure_s or target.science_exposure_s
    gain = noise.gain_e_per_adu or 1.0
    variance, sky_adu = noise.light_variance_adu2(exposure_s if is_dark else 0.0, 0.0), None
    if kind is FrameType.FLAT:
        sky_adu = target.sky_e_per_s * light_s / gain
        variance = (noise.read_variance_adu2 + flat_adu / gain) * (sky_adu / max(flat_adu, 1.0)) ** 2
    return EnoughRules(
        target=target,
        light_variance_adu2=noise.light_variance_adu2(light_s, target.sky_e_per_s),
        frame_variance_adu2=variance,
        sky_adu=sky_adu,
    )


def expected_frames(rules: EnoughRules, *, factor: float = 1.0) -> int:
    """Return the frames that a series is expected to take, within the limits of the target."""
    target = rules.target
    needed = frames_needed(target.noise_share * factor, rules.light_variance_adu2, rules.frame_variance_adu2)
    return min(max(needed, target.min_frames), target.max_frames)


class EnoughControl:
    """Control of a series that ends when its frames are enough; exposures are those of another control."""

    def __init__(
        self, inner: ExposureControl, rules: EnoughRules, plan: SeriesPlan, place: SeriesPlace, watcher: CaptureWatcher
    ) -> None:
        self._inner = inner
        self._rules = rules
        self._plan = plan
        self._watcher = watcher
        self._count = place.present
        self._last: NDArray[Any] | None = None
        self._variances: list[float] = []
        self._level_adu: float | None = None
        if place.series is not None and (known := series_variance_adu2(place.series)) is not None:
            self._variances = [known] * max(1, self._count - 1)
        self._said = 0

    @property
    def is_enough(self) -> bool:
        """Return whether no further frame is needed."""
        target = self._rules.target
        if self._count >= target.max_frames:
            return True
        if self._count < max(2, target.min_frames):
            return False
        added = self._added()
        return added is not None and added <= target.noise_share

    @property
    def reason(self) -> str:
        """Reason for the end of the series."""
        return self._inner.reason

    def next_exposure_s(self) -> float | None:
        """Return the next exposure; ``None`` if the frames are enough, or the other control ends the series."""
        if self.is_enough:
            return None
        return self._inner.next_exposure_s()

    def judge(self, result: ExposureResult, started_s: float) -> bool:
        """Measure the noise of a frame against the one before it."""
        if not self._inner.judge(result, started_s):
            return False
        if self._last is not None and self._last.shape == result.pixels.shape:
            self._variances.append(pair_variance_adu2(result.pixels, self._last))
        self._last = result.pixels
        self._count += 1
        if self._rules.sky_adu is not None:
            self._level_adu = float(np.median(result.pixels))
        if self.is_enough:
            self._say(is_last=True)
        elif self._count & (self._count - 1) == 0:
            self._say()
        return True

    def _added(self) -> float | None:
        """Return the share that the master of the frames so far adds; ``None`` before it can be known."""
        if not self._variances:
            return None
        variance = float(np.mean(self._variances))
        if self._rules.sky_adu is not None:
            if self._level_adu is None:
                return None
            level_adu = self._level_adu - (self._plan.bias_level_adu or 0.0)
            variance *= (self._rules.sky_adu / max(level_adu, 1.0)) ** 2
        return share_added(self._count, self._rules.light_variance_adu2, variance)

    def _say(self, *, is_last: bool = False) -> None:
        added, target = self._added(), self._rules.target
        if added is None or self._said == self._count:
            return
        self._said = self._count
        line = f"{self._plan.name}: the master of {self._count} frames adds {100 * added:.1f} % to the noise of a light"
        if not is_last:
            self._watcher.notify(f"{line}, {100 * target.noise_share:g} % is wanted")
        elif added <= target.noise_share:
            self._watcher.notify(f"{line}: enough")
        else:
            logger.warning(
                "%s, and %g %% is wanted: max_frames (%d) of the target ends it",
                line,
                100 * target.noise_share,
                target.max_frames,
            )


def with_measured(rules: EnoughRules, series: Series | None, bias_adu: float = 0.0) -> EnoughRules:
    """Return the rules with the noise of a series that is there; `bias_adu` is the bias level, for flats."""
    known = series_variance_adu2(series) if series is not None else None
    if series is None or known is None:
        return rules
    if rules.sky_adu is not None:
        levels = [record.pixels.statistics.median for record in series.records]
        level_adu = float(np.median([level for level in levels if level is not None] or [0.0])) - bias_adu
        known *= (rules.sky_adu / max(level_adu, 1.0)) ** 2
    return replace(rules, frame_variance_adu2=known)


def with_number(plan: SeriesPlan, rules: EnoughRules, place: SeriesPlace, bias_adu: float = 0.0) -> SeriesPlan:
    """Return a plan that ends when its frames are enough, with the number that is expected.

    What is there counts as enough within `REACHED` of the share.
    """
    measured = with_measured(rules, place.series, bias_adu)
    is_there = place.present >= expected_frames(measured, factor=REACHED)
    return replace(plan, enough=measured, n_frames=place.present if is_there else expected_frames(measured))
