"""The level from which pixels of a science frame are saturated: header, masters, or range of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ostcal.engine.levels import PlaneReader
from ostcal.fits.cards import Header
from ostcal.fits.read import FitsFrame
from ostcal.frames import FULL_SCALE_ADU
from ostcal.library.master_header import SCALE_CARD
from ostcal.measure.live import SATURATED_FROM
from ostcal.science.choose_masters import FrameMasters

SATURATION_MARGIN_ADU = 15
"""Samples of 12 and 14 bits shifted to 16 end at 65520 and 65532."""

SATURATION_CARDS = ("SATURATE", "SATLEVEL")
"""Of a science frame."""

_BITS = range(8, 16)
_ROWS_AT_ONCE = 256
_OVERSCAN_SHARE = 0.002
"""Of the end of a converter: levels of the overscan of masters and frames differ by less."""


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """From which level on pixels are saturated."""

    adu: float
    warning: str = ""
    """That the frame disproves the full scale of its masters; "" where it does not."""


def saturation_of(fits: FitsFrame, header: Header) -> float:
    """Return the level in ADU from which a pixel is saturated: SATURATE of the header, else the end of 16 or 8 bits."""
    stated = header.number(*SATURATION_CARDS, low=1.0)
    if stated is not None:
        return stated
    if fits.word_scale:
        return FULL_SCALE_ADU - SATURATION_MARGIN_ADU
    if fits.bitpix == 16 and fits.is_whole:
        return fits.bzero + 32767 - SATURATION_MARGIN_ADU
    return 255.0 if fits.bitpix == 8 and fits.is_whole else math.inf


def measured_saturation(
    masters: FrameMasters, science: PlaneReader, height: int, *, saturation_adu: float, overscan_adu: float
) -> Saturation:
    """Return the full scale that was found when the darks were made, where it is below `saturation_adu`.

    One that is the end of a converter of fewer bits is often a guess: no frame of the library had a higher sample. It
    holds only if no sample of the frame is above it; `overscan_adu` is what was subtracted from these.
    """
    found_adu, name = math.inf, ""
    for master in masters.darks:
        stated = master.header.number("SATURATE", low=1.0)
        is_ours = (master.header.text("PROGRAM") or "").startswith("ostcal") and SCALE_CARD not in master.header
        if is_ours and stated is not None and stated < SATURATED_FROM * min(saturation_adu, found_adu):
            found_adu, name = stated, master.name
    if not math.isfinite(found_adu):
        return Saturation(adu=saturation_adu)
    end_adu = _end_of_bits(found_adu, overscan_adu)
    if end_adu is not None:
        highest_adu = _highest_above(science, height, end_adu)
        if highest_adu > end_adu:
            return Saturation(
                adu=saturation_adu,
                warning=(
                    f"samples reach {highest_adu:g} ADU and more, above the full scale of {found_adu:g} ADU that {name}"
                    " states: full scale counts as unknown; state it with quality.full_scale_adu"
                ),
            )
    return Saturation(adu=SATURATED_FROM * found_adu)


def _end_of_bits(found_adu: float, overscan_adu: float) -> float | None:
    """Return from where on samples cannot be of a converter of fewer bits whose end this full scale is."""
    for bits in _BITS:
        end_adu = 2.0**bits - 1
        slack_adu = _OVERSCAN_SHARE * end_adu if overscan_adu else 0.5
        if abs(found_adu + overscan_adu - end_adu) <= slack_adu:
            return end_adu - overscan_adu + slack_adu
    return None


def _highest_above(science: PlaneReader, height: int, limit_adu: float) -> float:
    """Return the highest sample of the first rows with one above a limit, else of all."""
    highest_adu = -math.inf
    for start in range(0, height, _ROWS_AT_ONCE):
        rows = science.read_rows(start, min(start + _ROWS_AT_ONCE, height))
        highest_adu = max(highest_adu, float(np.fmax.reduce(rows, axis=None)))  # NaN is no sample
        if highest_adu > limit_adu:
            break
    return highest_adu
