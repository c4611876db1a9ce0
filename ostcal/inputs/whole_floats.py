"""Raw frames that a program stored as floats or 32-bit integers: numbers of 16 bits, or these divided by 65535.

They are read as the integers they are, so that decisions are exact and noise, gain and saturation can be measured. All
samples are looked at before: one that is no whole number makes the frame one of floats.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, OstcalError
from ostcal.fits.read import FitsFrame, FitsStack
from ostcal.frames import FULL_SCALE_ADU, FrameStack, FrameType
from ostcal.inputs.gather import Source
from ostcal.places.fingerprint import fingerprint_rows
from ostcal.series.format import ENCODINGS
from ostcal.series.stack import stored_frames

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 256
_ROUNDING = 0.01
"""What float32 may be off whole numbers after it was divided by 65535: 0.004."""


def with_whole_floats_as_words(sources: dict[str, Source], left_out: list[str], workers: int) -> dict[str, Source]:
    """Return the frames, those of whole floats marked to be read as 16-bit integers.

    Floats between 0 and 1 that are no divided integers cannot be combined with frames in ADU: they are named in
    `left_out`.
    """
    floats = [source for source in sources.values() if _is_candidate(source)]
    if not floats:
        return sources
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        scales = dict(zip([s.frame.label for s in floats], pool.map(_word_scale, floats), strict=True))
    divided = [label for label, scale in scales.items() if scale == FULL_SCALE_ADU]
    if divided:
        logger.info(
            "%d frames hold 16 bits divided by 65535, and are read as 16 bits, such as %s", len(divided), divided[0]
        )
    between = [label for label, scale in scales.items() if scale is None]
    n_frames = sum(_is_calibration_frame(one) for one in sources.values())
    if between and len(between) == n_frames:
        left_out.append(
            f"all frames are floats between 0 and 1, such as {between[0]}: masters are on that scale, and so must be "
            "what they calibrate; gain and read noise cannot be measured"
        )
    result = {}
    for label, source in sources.items():
        scale = scales.get(label, 0.0)
        if scale is None and len(between) < n_frames:
            left_out.append(
                f"{label}: left out: its samples are floats between 0 and 1, those of other frames are ADU; "
                "multiply it by what it was divided by"
            )
        elif scale and source.fits is not None and source.fits.is_plain_float:  # as fast as floats
            result[label] = replace(source, fits=replace(source.fits, word_scale=scale))
        elif scale:
            result[label] = replace(source, word_scale=scale)
        else:
            result[label] = source
    return result


def _is_calibration_frame(source: Source) -> bool:
    return not source.frame.metadata.is_master and source.frame.metadata.frame_type not in (None, FrameType.LIGHT)


def _is_candidate(source: Source) -> bool:
    if not _is_calibration_frame(source):
        return False
    try:
        if source.fits is None:  # a stack would look for the record of each frame
            return not ENCODINGS[stored_frames(source.series).dtype].is_integer
        return not _as_stored(source).encoding.is_integer
    except OstcalError:  # what is wrong is said when it is combined
        return False


def _as_stored(source: Source) -> FrameStack:
    return replace(source, readout=None).stack()


def _word_scale(source: Source) -> float | None:
    try:
        return word_scale_of(_as_stored(source))
    except FrameError:  # combining names it
        return 0.0


def science_words(fits: FitsFrame) -> FitsFrame:
    """Return a science frame, one of whole floats marked to be read as 16-bit integers.

    Raises
    ------
    FrameError
        If its samples are floats between 0 and 1 of which nothing else is known, or it cannot be read.
    """
    if not fits.is_plain_float:
        return fits
    scale = word_scale_of(FitsStack((fits,)))
    if scale is None:
        raise FrameError(
            f"{fits.label}: its samples are floats between 0 and 1, and its masters are in ADU; multiply it by what it "
            "was divided by"
        )
    return replace(fits, word_scale=scale)


def word_scale_of(stack: FrameStack) -> float | None:
    """Return what samples of a frame are multiplied by for 16-bit integers: 1 or 65535; 0 if they are floats.

    ``None`` for floats between 0 and 1 of which nothing is known. Raise `FrameError` if it cannot be read.
    """
    height = stack.shape[1]
    few = np.concatenate([_rows(stack, row, row + 1) for row in fingerprint_rows(height)])
    scale = 1.0 if _are_words(few, 1.0) else float(FULL_SCALE_ADU)
    if not _are_words(few, scale):
        return None if few.size and few.min() >= 0 and 0 < few.max() <= 1 else 0.0
    for start in range(0, height, _ROWS_AT_ONCE):
        if not _are_words(_rows(stack, start, min(start + _ROWS_AT_ONCE, height)), scale):
            return 0.0
    return scale


def _rows(stack: FrameStack, start: int, stop: int) -> NDArray[np.floating]:
    block = np.empty((1, stop - start, stack.shape[2]), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    rows: NDArray[np.floating] = block[0]
    return rows


def _are_words(samples: NDArray[np.floating], scale: float) -> bool:
    """Return whether all samples are whole numbers of 16 bits, times a scale; false where one is not finite."""
    if not np.isfinite(samples).all():
        return False
    values = samples if scale == 1.0 else samples * samples.dtype.type(scale)
    rounded = np.rint(values)
    tolerance = 0.0 if scale == 1.0 else _ROUNDING
    is_whole = bool(np.all(np.abs(values - rounded) <= tolerance))
    return is_whole and float(rounded.min()) >= 0 and float(rounded.max()) <= FULL_SCALE_ADU
