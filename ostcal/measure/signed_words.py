"""Samples of 16 bits that a driver gives with a sign: from 32768 ADU on they are negative.

A hot pixel of 33103 ADU then reads -32433, and a bright flat is negative all over. What was meant shows in the frame:
taken one way its samples are near each other, taken the other way they are far apart.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError

_WORDS: Final = 1 << 16
_SIGNED: Final = np.iinfo(np.int16)
_SAMPLES: Final = 1 << 16
"""Samples that are looked at for the range of most of them."""
_MOST: Final = (5, 50, 95)
"""Per cent: the range of most samples, and their middle. Of normal noise they are 3.3 standard deviations apart."""
_NOISE_RANGES: Final = 3.0
"""Noise does not reach further from the middle than so many of these ranges: 10 standard deviations."""
_LEAST_RANGE_ADU: Final = 4.0


def without_sign(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return a frame with 65536 added to the samples that a sign made negative, as uint16.

    A frame without negative samples, or with more than 16 bits, or whose negative samples are noise about a level near
    0 (a driver that subtracts a dark), is returned as it is.

    Raises
    ------
    FrameError
        If negative samples may be either.
    """
    if pixels.dtype.kind == "u" or not pixels.size:
        return pixels
    lowest, highest = int(pixels.min()), int(pixels.max())
    if lowest >= 0:
        return pixels.astype(np.uint16) if pixels.dtype == np.int16 else pixels
    if lowest < _SIGNED.min or highest > _SIGNED.max:
        return pixels
    # an odd distance meets all colours of a Bayer sensor
    few = pixels.reshape(-1)[:: max(1, pixels.size // _SAMPLES) | 1].astype(np.int64)
    low, level, high = np.percentile(few, _MOST, method="nearest")
    signed_range = int(high - low)
    low_word, _, high_word = np.percentile(few % _WORDS, _MOST, method="nearest")
    word_range = int(high_word - low_word)
    reach = _NOISE_RANGES * max(signed_range, _LEAST_RANGE_ADU)
    if word_range == signed_range:  # most samples have one sign: those of the other one are few
        is_signed = level >= 0 and lowest >= level - reach
        is_wrapped = level < 0 or level - reach > 0
    else:
        is_signed = signed_range < word_range and lowest >= level - reach
        is_wrapped = word_range < signed_range
    if is_wrapped and not is_signed:
        return pixels.astype(np.int64).astype(np.uint16)
    if is_signed:
        return pixels
    raise FrameError(
        f"samples run from {lowest} to {highest} ADU about a level of {level:.0f} ADU: the driver gives 16 bits with a "
        "sign, or subtracts something from the frames, and which cannot be told; switch off what it subtracts, or "
        "raise the offset of the camera"
    )
