"""Full scale of a camera: the level at which its samples end, and what shows it.

It is not 65535 because samples have 16 bits: converters of 12 and 14 bits end at 4095 and 16383, or at 65520 and 65532
where the program shifts them, and pixels may be full far below the end of the converter. In this order: what the user
says, the value at which samples of flats pile up, the level at which their noise collapses, what the headers say, the
bits that are really used, and the largest value that a sample can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ostcal.frames import FullScaleCard
from ostcal.measure.camera.linearity import level_end_adu
from ostcal.measure.camera.measured import FullScale, SurveyedSeries
from ostcal.measure.camera.photon_transfer import TransferCurve, highest_level_adu
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.live import SATURATED_FROM

UNUSED_BITS = (8, 10, 12, 14)
"""Converters whose samples are often stored in 16 bits as they are."""
LEAST_SHARE_OF_RANGE = 0.2
"""Flats tell how many bits are used where their level is this share of the range: they were meant to fill it."""
MAX_NOISE_STEPS = 4.0
"""Such converters are made for a read noise of at most some of their steps; with more, the samples are dim 16 bits."""


def find_full_scale(
    *,
    flats: Sequence[SurveyedSeries],
    darks: Sequence[SurveyedSeries],
    word_adu: float,
    cards: Sequence[FullScaleCard] = (),
    configured_adu: float | None = None,
    step_adu: float | None = None,
    read_noise_adu: float | None = None,
) -> FullScale | None:
    """Return full scale as far as samples, headers and the user show it; `with_bend` adds what flats show.

    It is ``None`` for samples of more than 16 bits of which neither pile-up nor cards show the end.

    Parameters
    ----------
    flats, darks : sequence of SurveyedSeries
        Of one camera at one setting.
    word_adu : float
        The largest value that a sample can hold; where samples are above it, others are wider and have no known end.
    cards : sequence of (card, value in ADU)
        Of frames whose headers state it.
    configured_adu : float or None
        What the user says.
    step_adu, read_noise_adu : float or None
        Of the converter, and of the camera.
    """
    if configured_adu is not None:
        return FullScale(adu=configured_adu, why="quality.full_scale_adu says so")
    notes: list[str] = []
    is_wider = any(one.survey.highest_word_adu > word_adu for one in (*flats, *darks))
    word_adu = math.inf if is_wider else word_adu
    piled = _pile_up(flats, darks)
    stated = _stated(cards, [one.survey for one in (*flats, *darks)], notes)
    if piled is not None:
        return replace(piled, notes=tuple(notes))
    if stated is not None and stated.adu < SATURATED_FROM * word_adu:
        return replace(stated, notes=tuple(notes))
    if is_wider:
        return None
    if step_adu is not None and step_adu > 1:
        bits = 16 - round(math.log2(step_adu))
        return FullScale(
            adu=word_adu - (step_adu - 1),
            why=f"samples have {bits} bits, in steps of {step_adu:g} ADU",
            notes=tuple(notes),
        )
    unshifted = _bits_in_use(flats, darks, read_noise_adu) if step_adu is not None else None
    if unshifted is not None:
        return replace(unshifted, notes=tuple(notes))
    return FullScale(adu=word_adu, why="a sample cannot hold more", is_whole_word=True, notes=tuple(notes))


def with_bend(full: FullScale | None, curve: TransferCurve | str, configured_adu: float | None) -> FullScale | None:
    """Return full scale, or the level at which pixels are full where the noise of flats shows a lower one."""
    if configured_adu is not None or isinstance(curve, str):
        return full
    shown = {
        "the noise of flats collapses there: pixels are full": curve.full_level_adu(),
        "flats no longer grow with their exposure there": level_end_adu(curve),
    }
    for why, level in shown.items():
        if level is not None and (full is None or level < SATURATED_FROM * full.adu):
            return FullScale(adu=float(round(level)), why=why, notes=full.notes if full is not None else ())
    return full


def _pile_up(flats: Sequence[SurveyedSeries], darks: Sequence[SurveyedSeries]) -> FullScale | None:
    """Return the highest value at which samples of flats pile up; what darks reach, too, is stuck."""
    reached = max((_highest_word_adu(one.survey) + one.survey.histogram_step_adu for one in darks), default=-math.inf)
    piles = [one.survey.pile_up_adu for one in flats if one.survey.pile_up_adu >= reached]
    if not piles:
        return None
    highest = max(piles)
    above = max(_highest_word_adu(one.survey) for one in flats)
    if above > highest:  # another series goes on beyond: what piles up here is its own light
        return None
    return FullScale(adu=highest, why="samples of flats pile up there")


def _highest_word_adu(survey: SeriesSurvey) -> float:
    """Return the level that some share of the samples reach, before overscan was subtracted."""
    return highest_level_adu(survey) + survey.overscan_adu


def _stated(cards: Sequence[FullScaleCard], surveys: Sequence[SeriesSurvey], notes: list[str]) -> FullScale | None:
    """Return what the headers say where they agree and no samples are above it."""
    values = {value for _, value in cards}
    if len(values) != 1:  # DATAMAX of most programs is the brightest sample of each frame
        return None
    (value,) = values
    name = cards[0][0]
    highest = max(map(_highest_word_adu, surveys), default=0.0)
    if highest > value:
        notes.append(
            f"{name} says that full scale is {value:g} ADU, but samples reach {highest:g} ADU: it is not taken"
        )
        return None
    brightest = max((survey.highest_word_adu for survey in surveys), default=0.0)
    if name.startswith("DATAMAX") and brightest == value and len(cards) < 2:
        return None
    return FullScale(adu=value, why=f"{name} of the headers says so")


def _bits_in_use(
    flats: Sequence[SurveyedSeries], darks: Sequence[SurveyedSeries], read_noise_adu: float | None
) -> FullScale | None:
    """Return the end of the smallest converter that holds all samples, if flats fill a good part of it."""
    if not flats or (read_noise_adu or 0.0) > MAX_NOISE_STEPS:
        return None
    highest = max(one.survey.highest_word_adu for one in (*flats, *darks))
    level = max(float(np.nanmedian(one.survey.cells_adu)) + one.survey.overscan_adu for one in flats)
    for bits in UNUSED_BITS:
        end = 2.0**bits - 1
        if highest <= end:
            if level < LEAST_SHARE_OF_RANGE * end:
                return None
            n_frames = sum(one.survey.n_frames for one in (*flats, *darks))
            return FullScale(adu=end, why=f"no sample of {n_frames} frames is above the end of {bits} bits")
    return None
