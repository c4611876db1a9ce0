"""Pixel arithmetic of science frames by rows: ``(science - dark) / flat``, its uncertainty and its flags.

Nothing larger than some rows is in memory, and no row depends on how the frame was cut into strips.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.levels import PlaneReader
from ostcal.response import LinearityCurve

SATURATED: Final = 64
"""Bit of a pixel that is at or above saturation in the science frame (and of a master's saturated pixels)."""
NO_VALUE: Final = 128
"""Bit of a pixel without a value (NaN): one of the flat that is not above zero, or one without a sample."""
INTERPOLATED: Final = 256
"""Bit of a pixel whose value was taken from its neighbours."""

ROUNDING_VARIANCE_ADU2 = 1 / 12
"""Variance that the converter's rounding to whole ADU adds."""

BYTES_PER_PIXEL = 72
"""Peak memory of a strip: measured 43 bytes for a pixel, 69 with uncertainty, flags and interpolation."""


class FlagReader(Protocol):
    """The flags of a master, read by rows."""

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` as integers: (stop - start, width)."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A master that takes part in the arithmetic, and its weight."""

    plane: PlaneReader
    weight: float = 1.0
    error: PlaneReader | None = None
    """Standard error of the master's pixels, in its unit."""
    spread: PlaneReader | None = None
    """Standard deviation of single frames, in its unit."""


@dataclass(frozen=True, kw_only=True)
class FrameNoise:
    """The sources of the noise of a raw pixel."""

    gain_e_per_adu: float
    unlit_variance_adu2: float | None
    """Variance without light or dark current: read noise and rounding. ``None`` takes the `spread` of the dark's
    masters, which includes the noise of the dark current."""
    zero: tuple[Term, ...]
    """The level without electrons, above which there is photon noise: the bias, or the dark if no bias is known."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Which pixels are interpolated, and from how far."""

    bits: int
    """Flags of the pixels."""
    step: int = 1
    """Distance of the nearest pixels of the same colour: 2 for a Bayer sensor."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A frame and what calibrates it; small and picklable, it holds locations, not pixels.

    ``(science - sum of dark terms) / flat``, float32. A pixel of the flat that is not a number above zero gives NaN,
    never an infinity. A pixel at or above `saturation_adu` in the science frame gets at least that value, so that one
    comparison finds it whatever dark and flat did to it, and the bit `SATURATED`.
    """

    science: PlaneReader
    height: int
    width: int
    dark: tuple[Term, ...] = ()
    flat: Term | None = None
    flags: tuple[FlagReader, ...] = ()
    saturation_adu: float = math.inf
    noise: FrameNoise | None = None
    repair: Repair | None = None
    response: LinearityCurve | None = None
    """Brings levels of the science frame in proportion with the light; `saturation_adu` is one of these."""

    def values(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return calibrated rows: (stop - start, width) float32."""
        strip = self._strip(start, stop)
        values = _calibrated(strip.science, strip.dark, strip.flat, self.saturation_adu)
        if self.repair is not None:
            bad = self._bad(strip, values)
            values, _ = _from_neighbours(values, bad, strip.inner, self.repair.step)
        return values[strip.inner]

    def uncertainty(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the standard deviation of calibrated rows: (stop - start, width) float32; NaN where there is no value.

        Photon noise, read noise and the noise of the masters, added in variance. An interpolated pixel has the median
        of its neighbours.
        """
        if self.noise is None:
            raise ValueError("an uncertainty needs the noise of the frame")
        strip = self._strip(start, stop)
        values = _calibrated(strip.science, strip.dark, strip.flat, math.inf)
        variance: NDArray[np.float32] = strip.raw - _weighted_sum(self.noise.zero, strip.top, strip.bottom)
        variance = np.maximum(variance, np.float32(0))
        variance /= np.float32(self.noise.gain_e_per_adu)
        if self.noise.unlit_variance_adu2 is not None:
            variance += np.float32(self.noise.unlit_variance_adu2)
        else:  # read noise and dark current: variances follow the same line over exposure as levels
            unlit = np.zeros(variance.shape, np.float32)
            for term in self.dark:
                if term.spread is not None:
                    unlit += np.float32(term.weight) * np.square(term.spread.read_rows(strip.top, strip.bottom))
            variance += np.maximum(unlit, np.float32(0))
        if self.response is not None:
            slope = self.response.slope(strip.raw.astype(np.float64) - self.response.zero_adu)
            variance *= np.square(slope).astype(np.float32)
        masters = np.zeros((1, 1), np.float32)
        for term in self.dark:
            if term.error is not None:
                masters = masters + np.square(np.float32(term.weight) * term.error.read_rows(strip.top, strip.bottom))
        variance = variance + masters
        if self.flat is not None:
            variance /= strip.flat * strip.flat
            if self.flat.error is not None:
                relative = self.flat.error.read_rows(strip.top, strip.bottom) * np.float32(self.flat.weight)
                variance += np.square(values * (relative / strip.flat))
        sigma: NDArray[np.float32] = np.sqrt(variance, dtype=np.float32)
        sigma[~np.isfinite(values)] = np.nan
        if self.repair is not None:
            sigma, _ = _from_neighbours(sigma, self._bad(strip, values), strip.inner, self.repair.step)
        return sigma[strip.inner]

    def dq(self, start: int, stop: int) -> NDArray[np.int16]:
        """Return the flags of calibrated rows, including those of the masters: (stop - start, width) int16."""
        strip = self._strip(start, stop)
        values = _calibrated(strip.science, strip.dark, strip.flat, self.saturation_adu)
        flags = self._master_flags(strip)
        flags[strip.science >= self.saturation_adu] |= SATURATED
        if self.repair is not None:
            values, replaced = _from_neighbours(values, self._bad(strip, values), strip.inner, self.repair.step)
            flags[replaced] |= INTERPOLATED
        flags[np.isnan(values)] |= NO_VALUE
        return flags[strip.inner]

    def _strip(self, start: int, stop: int) -> _Strip:
        margin = self.repair.step if self.repair is not None else 0
        top, bottom = max(0, start - margin), min(self.height, stop + margin)
        raw = science = self.science.read_rows(top, bottom)
        if self.response is not None:
            science = self.response.true_level(raw.astype(np.float64)).astype(np.float32)
        flat = np.ones((1, 1), np.float32)
        if self.flat is not None:
            flat = usable_flat(self.flat.plane.read_rows(top, bottom), self.flat.weight)
        return _Strip(
            top=top,
            bottom=bottom,
            inner=slice(start - top, stop - top),
            raw=raw,
            science=science,
            dark=_weighted_sum(self.dark, top, bottom),
            flat=flat,
        )

    def _master_flags(self, strip: _Strip) -> NDArray[np.int16]:
        flags = np.zeros(strip.science.shape, np.int16)
        for reader in self.flags:
            flags |= reader.read_rows(strip.top, strip.bottom).astype(np.int16)
        return flags & ~np.int16(NO_VALUE)  # the calibrated frame itself shows whether there is one

    def _bad(self, strip: _Strip, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Find the pixels to interpolate: flagged or without value, but not saturated."""
        bits = self.repair.bits if self.repair is not None else 0
        bad: NDArray[np.bool_] = (self._master_flags(strip) & np.int16(bits)) != 0
        bad |= np.isnan(values)
        bad &= ~(strip.science >= self.saturation_adu)
        return bad


@dataclass(frozen=True, kw_only=True)
class _Strip:
    """Rows of a frame and of its masters, with a margin."""

    top: int
    bottom: int
    inner: slice
    """The rows without the margin."""
    raw: NDArray[np.float32]
    science: NDArray[np.float32]
    """In proportion with the light, where the response of the camera is known."""
    dark: NDArray[np.float32]
    flat: NDArray[np.float32]


def calibrate_array(
    science: NDArray[Any],
    dark: NDArray[Any] | None,
    flat: NDArray[Any] | None,
    saturation_adu: float = math.inf,
) -> NDArray[np.float32]:
    """Compute ``(science - dark) / flat`` of arrays of fitting shapes as float32, by the rules of `Calibration`."""
    zero, one = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    return _calibrated(
        np.asarray(science, np.float32),
        np.asarray(dark, np.float32) if dark is not None else zero,
        usable_flat(np.asarray(flat, np.float32), 1.0) if flat is not None else one,
        saturation_adu,
    )


def usable_flat(rows: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Multiply rows of a flat by its weight; NaN where they are not finite numbers above zero."""
    usable = np.isfinite(rows) & (rows > 0)
    return np.where(usable, rows * np.float32(weight), np.float32(np.nan))


def _calibrated(
    science: NDArray[np.float32], dark: NDArray[np.float32], flat: NDArray[np.float32], saturation_adu: float
) -> NDArray[np.float32]:
    values = np.subtract(science, dark, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values /= flat
    if math.isfinite(saturation_adu):
        np.maximum(values, np.float32(saturation_adu), out=values, where=science >= saturation_adu)  # NaN stays NaN
    values[np.isinf(values)] = np.nan
    return values


def _weighted_sum(terms: tuple[Term, ...], start: int, stop: int) -> NDArray[np.float32]:
    if not terms:
        return np.zeros((1, 1), np.float32)
    if len(terms) == 1 and terms[0].weight == 1.0:
        return terms[0].plane.read_rows(start, stop)
    # In float64: 30 times a dark minus 29 times a bias loses digits that float32 does not have.
    total = sum(np.float64(term.weight) * term.plane.read_rows(start, stop) for term in terms)
    return np.asarray(total, np.float32)


def _from_neighbours(
    values: NDArray[np.float32], bad: NDArray[np.bool_], inner: slice, step: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Replace bad pixels of the inner rows by the median of the eight nearest good ones of their colour.

    Returns the rows and which pixels were replaced; one without a good neighbour stays as it is.
    """
    wanted = np.zeros_like(bad)
    wanted[inner] = bad[inner]
    rows, columns = np.nonzero(wanted)
    if not len(rows):
        return values, wanted
    height, width = values.shape
    samples = np.full((8, len(rows)), np.nan, np.float32)
    offsets = [(y, x) for y in (-step, 0, step) for x in (-step, 0, step) if y or x]
    for sample, (y, x) in zip(samples, offsets, strict=True):
        inside = (rows + y >= 0) & (rows + y < height) & (columns + x >= 0) & (columns + x < width)
        near = rows[inside] + y, columns[inside] + x
        sample[inside] = np.where(bad[near], np.float32(np.nan), values[near])
    samples.sort(axis=0)  # NaN goes to the end
    count = np.count_nonzero(~np.isnan(samples), axis=0)
    pixel = np.arange(len(rows))
    median = (samples[np.maximum(count - 1, 0) // 2, pixel] + samples[count // 2 % 8, pixel]) / np.float32(2)
    repaired = values.copy()
    found = count > 0
    repaired[rows[found], columns[found]] = median[found]
    wanted[rows[~found], columns[~found]] = False
    return repaired, wanted
