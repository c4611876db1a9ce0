"""Checks of a frame while a series is captured: each gives a number, the limit it is compared with, and a verdict.

Levels are medians in ADU: hot pixels and cosmic rays do not move them. Limits that concern light grow with the
exposure, because dark current and amplifier glow do: what they cannot tell from a leak is not called one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_FRAMES = 3
"""Frames at the start of a series that the later ones are compared with; the median of three survives one bad frame."""

SATURATED_FROM = 0.999
"""Share of full scale from which a pixel is saturated: converters of 12 and 14 bits end at 65520 and 65532 of 65535."""

_CELLS = 4
"""Cells along each side for the gradient: 16 cells of 3.8 MP on 61 MP, of 67,000 pixels on 1 MP (0.05 ADU of noise)."""

_CELL_PIXELS = 1 << 16
"""Pixels of a cell that are looked at, or nearly so many: the median of all of 61 MP would take a second."""


_PILE_VALUES = 16
_PILE_FACTOR = 5.0
_PILE_SHARE = 0.01
_PILE_PIXELS = 30
_LEAST_BITS = 8
"""Samples pile up at the brightest value if it has this share of the pixels, this many at least, and this many times
those of any of so many values below it."""


class LiveCheck(StrEnum):
    """What is checked; the word that records and messages use."""

    SATURATION = "saturation"
    TEMPERATURE = "temperature"
    LEVEL = "level"
    ABOVE_BIAS = "light above bias"
    SINCE_START = "light since start"
    GRADIENT = "light gradient"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one check of one frame."""

    check: LiveCheck
    value: float
    limit: float
    passed: bool
    text: str
    """One line for readers, with number and limit."""


@dataclass(frozen=True, kw_only=True)
class LiveLimits:
    """Where frames begin to be worth a warning; shares are of full scale unless said otherwise."""

    saturated_share: float = 0.01
    """Of the pixels. Hot pixels of a long dark reach 0.2 %; a flat should stay far below."""
    temperature_c: float = 1.0
    """Distance from the set point, degrees Celsius."""
    jump_share: float = 0.05
    """Of the level above bias: how far a frame may be from the median of its series."""
    jump_adu: float = 8.0
    """And at least this much: two steps of a 14-bit converter whose values are shifted to 16 bits."""
    leak_share: float = 0.001
    """Light in a dark: 66 ADU at 16 bits, more than any bias structure."""
    leak_share_per_s: float = 1e-4
    """And for each second of exposure, 6.6 ADU: dark current of a warm sensor."""
    rise_share: float = 5e-4
    """Light that came during a series: 33 ADU at 16 bits above its first frames."""


@dataclass(frozen=True, kw_only=True)
class ColourLevel:
    """How bright a frame is, for choosing an exposure."""

    mean_adu: float
    """Mean of the brightest colour; of all pixels without colours."""
    saturated_share: float
    """Of the pixels of the colour that has most of them."""


def saturation(saturated: int, n_pixels: int, limit_share: float) -> Verdict:
    """Judge the share of saturated pixels."""
    share = saturated / n_pixels
    text = f"{100 * share:.3g} % of the pixels are saturated (limit {100 * limit_share:.3g} %)"
    return _at_most(LiveCheck.SATURATION, share, limit_share, text)


def temperature(ccd_c: float, target_c: float, tolerance_c: float) -> Verdict:
    """Judge the distance of the sensor from its set point; -10.5 and -9.5 are within 1, in spite of rounding."""
    distance_c = abs(ccd_c - target_c)
    text = f"the sensor is at {ccd_c:.1f} C, {distance_c:.1f} C from {target_c:.1f} C (limit {tolerance_c:.1f} C)"
    passed = distance_c <= tolerance_c + 1e-6
    return Verdict(check=LiveCheck.TEMPERATURE, value=distance_c, limit=tolerance_c, passed=passed, text=text)


def level_jump(level_adu: float, earlier_adu: Sequence[float], limits: LiveLimits, bias_adu: float) -> Verdict | None:
    """Judge how far a frame is from the median of the frames before it; ``None`` without any."""
    if not earlier_adu:
        return None
    typical = statistics.median(earlier_adu)
    limit = max(limits.jump_adu, limits.jump_share * abs(typical - bias_adu))
    jump = level_adu - typical
    text = f"its level, {level_adu:.1f} ADU, is {jump:+.1f} ADU from that of its series (limit {limit:.1f} ADU)"
    return Verdict(check=LiveCheck.LEVEL, value=jump, limit=limit, passed=abs(jump) <= limit, text=text)


def light_above_bias(
    level_adu: float, bias_adu: float | None, exposure_time_s: float, limits: LiveLimits, max_adu: int
) -> Verdict | None:
    """Judge the level of a dark against that of bias frames; ``None`` if it is not known."""
    if bias_adu is None:
        return None
    above = level_adu - bias_adu
    limit = leak_limit_adu(exposure_time_s, limits, max_adu)
    text = f"it is {above:.1f} ADU above the bias level (limit {limit:.1f} ADU): light may reach the sensor"
    return _at_most(LiveCheck.ABOVE_BIAS, above, limit, text)


def light_since_start(level_adu: float, first_adu: Sequence[float], limits: LiveLimits, max_adu: int) -> Verdict | None:
    """Judge the level of a dark against the first frames of its series; ``None`` for the first frame."""
    if not first_adu:
        return None
    rise = level_adu - statistics.median(first_adu[:FIRST_FRAMES])
    limit = max(limits.rise_share * max_adu, 1.0)
    text = f"it is {rise:.1f} ADU above the first frames of its series (limit {limit:.1f} ADU)"
    return _at_most(LiveCheck.SINCE_START, rise, limit, f"{text}: light may reach the sensor")


def light_gradient(gradient: float, exposure_time_s: float, limits: LiveLimits, max_adu: int) -> Verdict:
    """Judge the unevenness of a dark (see `gradient_adu`): a leak comes from one side."""
    limit = leak_limit_adu(exposure_time_s, limits, max_adu)
    text = f"its level differs by {gradient:.1f} ADU across the sensor (limit {limit:.1f} ADU): light may reach it"
    return _at_most(LiveCheck.GRADIENT, gradient, limit, text)


def _at_most(check: LiveCheck, value: float, limit: float, text: str) -> Verdict:
    return Verdict(check=check, value=value, limit=limit, passed=value <= limit, text=text)


def leak_limit_adu(exposure_time_s: float, limits: LiveLimits, max_adu: int) -> float:
    """Return the level above bias from which a dark is taken to have seen light."""
    return max((limits.leak_share + limits.leak_share_per_s * exposure_time_s) * max_adu, 1.0)


def gradient_adu(pixels: NDArray[Any]) -> float:
    """Return the range, ADU, of the medians of a 4 x 4 grid of cells; 0 for frames too small to have cells."""
    height, width = pixels.shape
    if height < _CELLS or width < _CELLS:
        return 0.0
    # an odd step meets all colours of a Bayer pattern alike
    step = math.isqrt(max(1, height * width // (_CELLS**2 * _CELL_PIXELS))) // 2 * 2 + 1
    medians = [
        float(np.median(cell))
        for rows in _cells(height)
        for columns in _cells(width)
        if (cell := pixels[rows, columns][::step, ::step]).size
    ]
    return max(medians) - min(medians)


def median_adu(pixels: NDArray[Any]) -> float:
    """Return the median of a frame; of a large one, of one in some of its pixels."""
    step = math.isqrt(max(1, pixels.size // (_CELLS**2 * _CELL_PIXELS))) // 2 * 2 + 1
    return float(np.median(pixels[::step, ::step]))


def colour_level(pixels: NDArray[Any], *, is_bayer: bool, saturation_adu: float) -> ColourLevel:
    """Measure the brightest of the colours of a frame, (height, width) in ADU.

    Of a Bayer sensor the four pixels of each 2 x 2 cell are under different colours; which, does not matter. Pixels at
    or above `saturation_adu` are saturated.
    """
    planes = [pixels[row::2, column::2] for row in (0, 1) for column in (0, 1)] if is_bayer else [pixels]
    planes = [plane for plane in planes if plane.size]
    return ColourLevel(
        mean_adu=max(float(plane.mean(dtype=np.float64)) for plane in planes),
        saturated_share=max(np.count_nonzero(plane >= saturation_adu) / plane.size for plane in planes),
    )


def clipped_at_adu(pixels: NDArray[Any], max_adu: float) -> int | None:
    """Return the brightest value of a frame if samples pile up at it below full scale; ``None`` if they do not.

    Such a camera ends earlier than it says: a converter of 12 bits of which the driver reports 16.
    """
    highest = int(pixels.max())
    if highest >= SATURATED_FROM * max_adu or highest <= _PILE_VALUES:
        return None
    top = pixels[pixels >= highest - _PILE_VALUES].astype(np.int64)
    counts = np.bincount(top - (highest - _PILE_VALUES), minlength=_PILE_VALUES + 1)
    is_pile = counts[-1] >= max(_PILE_SHARE * pixels.size, _PILE_FACTOR * counts[:-1].max(), _PILE_PIXELS)
    if int(pixels.min()) >= highest - _PILE_VALUES:  # all of it: an end of a converter, such as 4095 or 65520
        is_pile = (highest + (highest & -highest)).bit_count() == 1 and highest.bit_count() >= _LEAST_BITS
    return highest if is_pile else None


def shown_full_scale_adu(pixels: NDArray[Any], max_adu: int) -> tuple[int, str] | None:
    """Return the full scale that a frame shows where it is not `max_adu`, and what shows it.

    Samples above `max_adu` are of a converter of more bits than the driver says, and samples in steps of some bits are
    shifted: their end is that of 16 bits. Samples that pile up below end there.
    """
    stride = math.isqrt(max(1, pixels.size // _CELL_PIXELS)) | 1
    few = pixels[::stride, ::stride]
    varying = int(np.bitwise_or.reduce(np.bitwise_xor(few, few.flat[0]), axis=None)) if few.size else 0
    step = varying & -varying or 1
    highest = int(pixels.max(initial=0))
    end_adu = (1 << max(16, highest.bit_length())) - step
    if highest > max_adu:
        return end_adu, f"samples reach {highest} ADU"
    is_shifted = step > 1 and (max_adu + 1) * step == 1 << 16
    if is_shifted:
        return end_adu, f"samples come in steps of {step} ADU"
    clipped = clipped_at_adu(pixels, max_adu)
    return None if clipped is None else (clipped, f"samples pile up at {clipped} ADU")


def _cells(length: int) -> list[slice]:
    return [slice(length * cell // _CELLS, length * (cell + 1) // _CELLS) for cell in range(_CELLS)]
