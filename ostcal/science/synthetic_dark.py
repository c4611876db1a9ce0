"""The dark of an exposure that was not taken, from masters of other exposures, and the dark current they show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ostcal.build.match_darks import MAX_STRETCH, why_unfit, within_clock
from ostcal.frames import FrameType
from ostcal.inputs.grouping import EXPOSURE_TOLERANCE, GroupKey
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.planes import Plane
from ostcal.library.store import MasterStore
from ostcal.measure.camera.dark_ladder import (
    LEAST_HOT_PIXELS,
    LadderFit,
    LadderLimits,
    LadderQuality,
    fit_ladder,
    fit_ladder_in_turn,
    joined_fits,
    ladder_quality,
    median_dark_current,
    why_not_linear,
)
from ostcal.measure.camera.measured import Measured
from ostcal.measure.estimators import chi_square_quantile
from ostcal.row_window import RowWindow

FloatPlane = NDArray[np.float32]

PRIOR_SAMPLES = 8
"""Samples that the typical variance of a master counts as when it is combined with a pixel's own. The variance of five
frames is off by 70 %: alone it made 2.5 % bad chi-squares, with 8 more samples 0.13 %, where chance makes 0.1 %."""

SAMPLED_PIXELS = 1_000_000
"""Of each master, in bands of rows spread over the frame, for what is typical of it and for chi-square."""
SAMPLED_ROWS = 32

SATURATED_SHARE = 0.95
"""Means above this share of saturation hold saturated samples, whose level does not show the dark current."""

HOT_NOISES = 10.0
"""Pixels that rise by this many times the noise of a sample show the shot noise of dark current."""


HELD_BYTES = 128 * 2**20
"""Rows of all masters of a ladder that are held at a time, where nothing else is said."""
STRIP_HELD_BYTES = 256 * 2**20
"""Such rows that a worker holds for a strip of a frame, where there is memory for it."""
LEAST_HELD_BYTES = 32 * 2**20
"""Such rows that it may hold where there is none."""
_MOST_PIECES = 5
"""Of a strip that is too large for the memory: five take as long as to read each master three times."""
_STORED_BYTES = 10
"""Of a pixel of the three planes that a fit reads."""
_ROW_BYTES = 24
"""Of a pixel of a master while a piece is fitted: level, variance, samples, variance of the mean, and their copies."""

_LADDER_PLANES: tuple[Plane, ...] = ("master", "n_used", "std")
_LadderRows = tuple[FloatPlane, FloatPlane, FloatPlane]
"""Level, variance of a sample and number of samples."""


@dataclass(frozen=True, kw_only=True)
class LadderMaster:
    """A master in the store as a step of a ladder, with what is typical of it."""

    name: str
    plane: StorePlane
    exposure_s: float
    level_adu: float
    """Median."""
    variance_adu2: float
    """Typical variance of a sample."""
    median_adu: float
    """Median of all sampled pixels, also of those that are near saturation; NaN where it has no data."""

    def read(self, start: int, stop: int) -> _LadderRows:
        """Read level, variance of a sample and number of samples of rows ``start`` to ``stop``, all float32."""
        stored = MasterStore(self.plane.store).open(self.plane.name)
        return _ladder_rows(*(stored.read_rows(plane, start, stop) for plane in _LADDER_PLANES))

    def variance_of_mean(self, variance: FloatPlane, n_used: FloatPlane, shot_adu2: FloatPlane) -> FloatPlane:
        """Return the variance of the master in ADU^2, inf where no sample was used.

        The variance of a sample is the pixel's own, of n samples, drawn towards the typical one, and what its dark
        current adds to that, as if that were of `PRIOR_SAMPLES` more.
        """
        own = np.maximum(n_used - 1, 0)
        mixed = variance * own
        mixed += np.float32(PRIOR_SAMPLES) * (shot_adu2 + np.float32(self.variance_adu2))
        mixed /= own + np.float32(PRIOR_SAMPLES)
        with np.errstate(divide="ignore"):
            mixed /= n_used
        return mixed


@dataclass(frozen=True, kw_only=True)
class MasterLadder:
    """Masters of one camera, setting and temperature, of different exposures; small and picklable."""

    masters: tuple[LadderMaster, ...]
    """Ascending in exposure."""
    saturation_adu: float
    shot_noise_adu: float = 0.0
    """Variance that an ADU of dark current adds, ADU: 1 / gain."""

    @property
    def exposures_s(self) -> tuple[float, ...]:
        """Of the masters."""
        return tuple(master.exposure_s for master in self.masters)

    def fit(self, start: int, stop: int) -> LadderFit:
        """Fit rows ``start`` to ``stop``."""
        return self._fitted([master.read(start, stop) for master in self.masters])

    def fits(self, pieces: Sequence[tuple[int, int]], held_bytes: int) -> Iterator[LadderFit]:
        """Fit pieces of rows, ``(start, stop)`` each, one after the other.

        The memory does not grow with the number of masters: they are read side by side while that takes at most
        `held_bytes`, else one after the other, three times each. The fits are the same.
        """
        most_rows = max((stop - start for start, stop in pieces), default=0)
        if self.row_bytes * most_rows <= held_bytes:
            for start, stop in pieces:
                yield self.fit(start, stop)
        else:
            for piece in pieces:
                yield from self._fits_in_turn([piece])

    def fit_within(self, start: int, stop: int, held_bytes: int) -> LadderFit:
        """Fit rows with at most `held_bytes` of all masters in memory; the lines are the same.

        A stored strip is unpacked once for each piece of rows, up to `_MOST_PIECES`, beyond which the masters are read
        one after the other.
        """
        rows = max(1, held_bytes // self.row_bytes)
        if rows * _MOST_PIECES < stop - start:
            (fit,) = self._fits_in_turn([(start, stop)])
            return fit
        fits = [self.fit(top, min(top + rows, stop)) for top in range(start, stop, rows)]
        return fits[0] if len(fits) == 1 else joined_fits(fits)

    def fits_forward(self, pieces: Sequence[tuple[int, int]], held_bytes: int) -> Iterator[LadderFit]:
        """Fit ascending pieces as `fits` does: a stored strip is read once for all thin pieces of it.

        If the strips of all masters are too large for that, it is read three times.
        """
        planes = [MasterStore(master.plane.store).open(master.plane.name) for master in self.masters]
        height, chunk_rows = planes[0].shape[0], planes[0].chunk_rows
        if sum(plane.chunk_rows for plane in planes) * planes[0].shape[1] * _STORED_BYTES <= held_bytes:
            readers = [_forward_reader(master.plane, height) for master in self.masters]
            for start, stop in pieces:
                yield self._fitted([read(start, stop) for read in readers])
            return
        for _, together in itertools.groupby(pieces, lambda piece: piece[0] // chunk_rows):
            yield from self._fits_in_turn(list(together))

    @property
    def row_bytes(self) -> int:
        """Memory of a row of all masters while it is fitted."""
        plane = self.masters[0].plane
        return len(self.masters) * MasterStore(plane.store).open(plane.name).shape[1] * _ROW_BYTES

    def _fits_in_turn(self, pieces: Sequence[tuple[int, int]]) -> Iterator[LadderFit]:
        """Fit pieces of rows that are near each other together, with the rows of one master in memory at a time."""
        first, last = pieces[0][0], pieces[-1][1]
        wanted = np.concatenate([np.arange(start, stop) for start, stop in pieces]) - first

        def read(master: LadderMaster) -> _LadderRows:
            level, variance, n_used = (plane[wanted] for plane in master.read(first, last))
            return level, variance, n_used

        shot_per_s = self._shot_per_s(read(self.masters[0])[0], read(self.masters[-1])[0])

        def read_weighed(number: int) -> tuple[FloatPlane, FloatPlane]:
            master = self.masters[number]
            level, variance, n_used = read(master)
            return level, master.variance_of_mean(variance, n_used, shot_per_s * np.float32(master.exposure_s))

        limit_adu = SATURATED_SHARE * self.saturation_adu
        fit = fit_ladder_in_turn(read_weighed, self.exposures_s, saturation_adu=limit_adu)
        top = 0
        for start, stop in pieces:
            yield fit.of_rows(slice(top, top + stop - start))
            top += stop - start

    def _fitted(self, read: Sequence[_LadderRows]) -> LadderFit:
        levels = [level for level, _, _ in read]
        shot_per_s = self._shot_per_s(levels[0], levels[-1])
        variances = [
            master.variance_of_mean(variance, n_used, shot_per_s * np.float32(master.exposure_s))
            for master, (_, variance, n_used) in zip(self.masters, read, strict=True)
        ]
        limit_adu = SATURATED_SHARE * self.saturation_adu
        return fit_ladder(levels, self.exposures_s, variances, saturation_adu=limit_adu)

    def _shot_per_s(self, first_adu: FloatPlane, last_adu: FloatPlane) -> FloatPlane:
        """Return the variance that a second of exposure adds to each pixel more than to the median one, ADU^2/s."""
        first, last = self.masters[0], self.masters[-1]
        shot_per_s = last_adu - first_adu
        shot_per_s -= np.float32(last.level_adu - first.level_adu)
        np.nan_to_num(shot_per_s, copy=False)
        np.maximum(shot_per_s, 0, out=shot_per_s)
        shot_per_s *= np.float32(self.shot_noise_adu / (last.exposure_s - first.exposure_s))
        return shot_per_s


def _forward_reader(plane: StorePlane, height: int) -> Callable[[int, int], _LadderRows]:
    stored = MasterStore(plane.store).open(plane.name)
    windows = [RowWindow(partial(stored.read_rows, name), height, stored.chunk_rows) for name in _LADDER_PLANES]
    return lambda start, stop: _ladder_rows(*(window.rows(start, stop) for window in windows))


def _ladder_rows(level: FloatPlane, n_used: NDArray[np.uint16], std: FloatPlane) -> _LadderRows:
    return level, np.nan_to_num(std * std, copy=False), n_used.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SyntheticDark:
    """The dark of an exposure that was not taken; implements `ostcal.engine.levels.PlaneReader`."""

    exposure_s: float
    ladder: MasterLadder
    quality: LadderQuality | None
    """How well the lines fit; ``None`` for two masters, which any line fits."""
    held_bytes: int = STRIP_HELD_BYTES
    """Rows of all masters that are held at a time."""

    @property
    def lacking(self) -> str:
        """What no dark has."""
        return "exposure"

    @property
    def basis(self) -> str:
        """What is said of it to the user."""
        return self.description

    @property
    def description(self) -> str:
        """What it is made of, for the log and the header."""
        names = ", ".join(f"{master.name} ({master.exposure_s:g} s)" for master in self.ladder.masters)
        check = (
            "two masters, no chi-square"
            if self.quality is None
            else f"median chi-square {self.quality.median_ratio:.2f} of what noise gives"
        )
        return f"dark of {self.exposure_s:g} s from the fit over {names}; {check}"

    def read_rows(self, start: int, stop: int) -> FloatPlane:
        """Return rows ``start`` to ``stop``, ADU, (stop - start, width) float32.

        NaN where fewer than two masters are below saturation; never above saturation.
        """
        return self.read_with_uncertainty(start, stop)[0]

    def read_with_uncertainty(self, start: int, stop: int) -> tuple[FloatPlane, FloatPlane]:
        """Return rows and their standard deviation, ADU, at the cost of one.

        That is 82 ns a pixel of four masters in strips of 64 rows of 9576 columns, and four times as much in strips of
        640 rows, which leave the cache.
        """
        fit = self.ladder.fit_within(start, stop, self.held_bytes)
        level = np.minimum(fit.level_at(self.exposure_s), np.float32(self.ladder.saturation_adu))
        return level, fit.uncertainty_at(self.exposure_s)


@dataclass(frozen=True, kw_only=True)
class NoSyntheticDark:
    """The reason why no dark can be made."""

    message: str


@dataclass(frozen=True, kw_only=True)
class SyntheticRules:
    """When a dark may be made of others."""

    temperature_tolerance_c: float = 2.0
    saturation_adu: float = 65535.0
    max_stretch: float = MAX_STRETCH
    """Times the span of the exposures that the dark current is scaled up to."""
    limits: LadderLimits = field(default_factory=LadderLimits)


def synthetic_dark(
    target: GroupKey, masters: Sequence[LibraryMaster], rules: SyntheticRules
) -> SyntheticDark | NoSyntheticDark:
    """Make the dark of a frame's exposure from masters of the same settings and temperature and of other exposures.

    All darks and the first bias are used; if these are not on a line and there are three darks, the darks alone: the
    bias of many CMOS sensors is not what their darks begin with. `masters` come in the order in which they are
    preferred, the nearest in time first; those whose standard deviation is not stored (FITS) are left out.

    Raises
    ------
    StorageError
        If a master cannot be read.
    """
    ladder = ladder_steps([m for m in masters if not why_unfit(target, m.key, rules.temperature_tolerance_c)])
    longest = next((step for step in reversed(ladder) if step.key.frame_type is FrameType.DARK), None)
    if longest is not None:  # a frame that records no gain fits masters of any gain, which do not fit each other
        ladder = [step for step in ladder if not why_unfit(longest.key, step.key, math.inf)]
    what = f"no dark of {target.exposure_time_s:g} s can be made from others"
    if len(ladder) < 2 or all(step.key.frame_type is FrameType.BIAS for step in ladder):
        there = ", ".join(f"{m.key.frame_type} {m.key.exposure_time_s:g} s" for m in ladder) or "none"
        return NoSyntheticDark(
            message=f"{what}: it needs masters of two exposures with these settings and temperature, there are: {there}"
        )
    darks = [step for step in ladder if step.key.frame_type is not FrameType.BIAS]
    made = _from_ladder(target, ladder, rules)
    if isinstance(made, NoSyntheticDark) and len(ladder) > len(darks) >= 3:
        without_bias = _from_ladder(target, darks, rules)
        made = made if isinstance(without_bias, NoSyntheticDark) else without_bias
    return NoSyntheticDark(message=f"{what}: {made.message}") if isinstance(made, NoSyntheticDark) else made


def _from_ladder(
    target: GroupKey, steps: Sequence[LibraryMaster], rules: SyntheticRules
) -> SyntheticDark | NoSyntheticDark:
    exposures = [step.key.exposure_time_s for step in steps]
    low_s, high_s = min(exposures), max(exposures)
    stretch = (target.exposure_time_s - low_s) / (high_s - low_s)
    if not 1 - MAX_STRETCH <= stretch <= within_clock(rules.max_stretch):
        return NoSyntheticDark(
            message=f"it is too far from the masters of {low_s:g} to {high_s:g} s: {abs(stretch):.0f} times their "
            f"span, limit {rules.max_stretch:g}; take darks nearer to it"
        )
    ladder = measured_ladder(steps, rules.saturation_adu)
    quality, _ = _linearity(ladder, sampled_bands(target.height, target.width), HELD_BYTES)
    why = why_not_linear(quality, rules.limits) if quality is not None else ""
    if why:
        return NoSyntheticDark(message=f"{why} (exposures {', '.join(f'{t:g}' for t in exposures)} s)")
    return SyntheticDark(exposure_s=target.exposure_time_s, ladder=ladder, quality=quality)


# ---- ladders ----


@dataclass(frozen=True, kw_only=True)
class LadderDarkCurrent:
    """The dark current that a ladder of masters shows."""

    key: GroupKey
    """Of the newest of its darks: settings, size and temperature of all masters."""
    median_adu_per_s: Measured
    """Of the median pixel."""
    quality: LadderQuality | None
    reason: str
    """Why darks of other exposures cannot be made from the ladder; "" if they can."""
    ladder: MasterLadder


def ladder_dark_currents(
    masters: Sequence[LibraryMaster], rules: SyntheticRules, held_bytes: int = HELD_BYTES
) -> list[LadderDarkCurrent]:
    """Measure the dark current of every ladder among masters, newest first; each belongs to the first that it fits.

    Of all masters together at most `held_bytes` are read at a time.

    Raises
    ------
    StorageError
        If a master cannot be read.
    """
    left = [m for m in masters if m.key.frame_type is FrameType.DARK and isinstance(m.plane, StorePlane)]
    found = []
    while left:
        first = left[0]
        fitting = [m for m in masters if not why_unfit(first.key, m.key, rules.temperature_tolerance_c)]
        left = [m for m in left if not any(m is used for used in fitting)]
        steps = ladder_steps(fitting)
        if len(steps) < 2:
            continue
        ladder = measured_ladder(steps, rules.saturation_adu)
        bands = sampled_bands(first.key.height, first.key.width)
        quality, median_adu_per_s = _linearity(ladder, bands, held_bytes)
        found.append(
            LadderDarkCurrent(
                key=first.key,
                median_adu_per_s=median_adu_per_s,
                quality=quality,
                reason=why_not_linear(quality, rules.limits) if quality is not None else "",
                ladder=ladder,
            )
        )
    return sorted(found, key=lambda one: (str(one.key.settings), one.key.temperature_c or 0.0, one.key.width))


def ladder_steps(masters: Sequence[LibraryMaster]) -> list[LibraryMaster]:
    """Return the first bias and the first dark of each exposure, ascending in exposure."""
    usable = [
        m for m in masters if m.key.frame_type in (FrameType.BIAS, FrameType.DARK) and isinstance(m.plane, StorePlane)
    ]
    steps: list[LibraryMaster] = []
    for master in usable:
        exposure_s = master.key.exposure_time_s
        if all(abs(exposure_s - s.key.exposure_time_s) > EXPOSURE_TOLERANCE * exposure_s for s in steps):
            steps.append(master)
    return sorted(steps, key=lambda step: step.key.exposure_time_s)


def sampled_bands(height: int, width: int) -> list[tuple[int, int]]:
    """Return bands of rows with about `SAMPLED_PIXELS` in all, spread over the frame."""
    n_bands = -(-height // SAMPLED_ROWS)
    wanted = max(1, min(n_bands, SAMPLED_PIXELS // (SAMPLED_ROWS * width)))
    chosen = [(2 * i + 1) * n_bands // (2 * wanted) for i in range(wanted)]
    return [(band * SAMPLED_ROWS, min(height, (band + 1) * SAMPLED_ROWS)) for band in chosen]


def measured_ladder(steps: Sequence[LibraryMaster], saturation_adu: float) -> MasterLadder:
    """Measure what is typical of each master, and the shot noise of dark current in the one that has most of it."""
    bands = sampled_bands(steps[0].key.height, steps[0].key.width)
    masters: list[LadderMaster] = []
    first_adu, slope = np.zeros(0, np.float32), 0.0
    for step in steps:
        if not isinstance(step.plane, StorePlane):  # FITS masters were left out before
            continue
        read = _forward_reader(step.plane, step.key.height)
        parts = [read(start, stop) for start, stop in bands]
        level, variance, n_used = (np.concatenate([part[i].ravel() for part in parts]) for i in range(3))
        good = (n_used >= 2) & (level < SATURATED_SHARE * saturation_adu)  # false for NaN
        # The median of a variance of few samples is below its mean; whole numbers have at least the noise of rounding.
        below_mean = chi_square_quantile(0.0, max(1, int(np.median(n_used)) - 1))
        typical = max(_median(variance[good]) / below_mean, 1 / 12)
        master = LadderMaster(
            name=step.record.name,
            plane=step.plane,
            exposure_s=step.key.exposure_time_s,
            level_adu=_median(level[good]),
            variance_adu2=typical,
            median_adu=_median(level[~np.isnan(level)], math.nan),
        )
        masters.append(master)
        if len(masters) == 1:
            first_adu = level
            continue
        rise = level - first_adu - (master.level_adu - masters[0].level_adu)
        hot = good & (rise > HOT_NOISES * math.sqrt(typical))
        if np.count_nonzero(hot) >= LEAST_HOT_PIXELS:
            slope = max(0.0, _median((variance[hot] - typical) / rise[hot]) / below_mean)
    return MasterLadder(masters=tuple(masters), saturation_adu=saturation_adu, shot_noise_adu=slope)


def _median(values: FloatPlane, of_none: float = 0.0) -> float:
    return float(np.median(values)) if values.size else of_none


def _linearity(
    ladder: MasterLadder, bands: Sequence[tuple[int, int]], held_bytes: int
) -> tuple[LadderQuality | None, Measured]:
    """Measure in bands of rows how well the lines fit, and the dark current of the median pixel."""
    fit = joined_fits(list(ladder.fits(bands, held_bytes)))
    medians_adu = [master.median_adu for master in ladder.masters]
    return ladder_quality(fit), median_dark_current(fit, medians_adu, ladder.exposures_s)
