"""Copies of raw frames that another program has processed, recognised by their pixels.

A frame from which a bias was subtracted, that was divided by a flat, trimmed or stored as floats, still has the noise
of the raw frame, which no other frame has. Of a few rows of each frame the differences of neighbouring pixels are
compared, less what all frames share (the pixels' own response). Two frames of one noise are correlated near 1, others
near 0.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.frames import FrameMetadata, FrameType, read_adu
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import settings_differ

logger = logging.getLogger(__name__)

SAME_NOISE = 0.7
"""Correlation from which on two frames have one noise: by chance 3000 samples reach 0.1."""
OTHER_NOISE = 0.5
"""The next frame must be below this: noise that several frames share is no proof."""
_UNSURE_NOISE = 0.995
"""The same where too few frames tell what is noise and what is the response of the pixels."""
_FEW = 4
_LEAST_SAMPLES = 100
"""Of a frame: fewer are alike by chance."""
_MOST_SIZES = 16
_SAMPLED_ROWS = 4
_SAMPLED_COLUMNS = 1024
_CLIPPED_SIGMAS = 4.0
_MOST_FRAMES = 2000
"""Of one kind and exposure; beyond, comparing them takes longer than combining."""
_MOST_TRIMMED = 256
"""Rows and columns that may have been cut off."""
_TRIED = 4
"""Pairs of frames in which the place of a trimmed frame is looked for."""
_SAME_START_S = 2.0
_STEP = 2
"""Distance of the pixels that are compared: of one colour."""

Float = NDArray[np.float64]


def without_processed_copies(sources: dict[str, Source], left_out: list[str]) -> dict[str, Source]:
    """Leave out frames that are copies of other frames, changed by another program; name them in `left_out`."""
    alike: dict[tuple[object, ...], list[Source]] = defaultdict(list)
    for source in sources.values():
        metadata = source.frame.metadata
        if metadata.frame_type in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT) and not metadata.is_master:
            exposure_s = metadata.exposure_time_s
            exposure = None if exposure_s is None else round(exposure_s, 3)
            alike[metadata.frame_type, exposure, metadata.settings.extension].append(source)
    copies: dict[str, str] = {}
    for members in alike.values():
        if 1 < len(members) <= _MOST_FRAMES and any(source.fits is not None for source in members):
            copies |= _copies_among(members)
    by_folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for label, original in sorted(copies.items()):
        by_folders[os.path.dirname(label), os.path.dirname(original)].append(label)
    for labels in by_folders.values():
        names = ", ".join(os.path.basename(label) for label in labels[1:])
        left_out.append(
            f"{labels[0]}: left out, it has the noise of {copies[labels[0]]} and is a copy of it that another program"
            f" has changed{f'; the same of {names}' if names else ''}"
        )
    return {label: source for label, source in sources.items() if label not in copies}


# ---- frames of one kind and exposure ----


def _copies_among(members: Sequence[Source]) -> dict[str, str]:
    """Return the label of the original of each copy."""
    by_size: dict[tuple[int, int], list[Source]] = defaultdict(list)
    for source in members:
        by_size[source.frame.metadata.height, source.frame.metadata.width].append(source)
    sizes = sorted(by_size, key=lambda size: (-size[0] * size[1], size))[:_MOST_SIZES]
    copies: dict[str, str] = {}
    for place, (height, width) in enumerate(sizes):
        small = by_size[height, width]
        window = _Window.inside(height, width)
        if len(small) > 1:
            copies |= _matched(small, [(source, window) for source in small])
        for larger in sizes[:place]:
            whole = by_size[larger]
            shift = _trimmed_by(small, whole, window)
            if shift is not None:
                copies |= _matched(
                    [*whole, *small],
                    [*((source, window.moved(*shift)) for source in whole), *((s, window) for s in small)],
                )
    return copies


@dataclass(frozen=True, kw_only=True)
class _Window:
    """The samples of a frame that are compared."""

    rows: tuple[int, ...]
    left: int
    right: int

    @classmethod
    def inside(cls, height: int, width: int) -> _Window:
        """Return rows evenly spread over a frame, and the columns in its middle."""
        rows = tuple(sorted({height * (2 * i + 1) // (2 * _SAMPLED_ROWS) for i in range(_SAMPLED_ROWS)}))
        n_columns = min(width, _SAMPLED_COLUMNS)
        left = (width - n_columns) // 2
        return cls(rows=rows, left=left, right=left + n_columns)

    def moved(self, down: int, right: int) -> _Window:
        """Return the window in a frame of which so many rows and columns were cut off."""
        rows = tuple(row + down for row in self.rows)
        return _Window(rows=rows, left=self.left + right, right=self.right + right)


def _matched(members: Sequence[Source], windows: Sequence[tuple[Source, _Window]]) -> dict[str, str]:
    """Compare all frames with each other; return the original of each copy."""
    kept: list[Source] = []
    noises: list[Float] = []
    for source, window in windows:
        noise = _noise(source, window)
        if noise is not None:
            kept.append(source)
            noises.append(noise)
    if len(kept) < 2:
        return {}
    treatments = [_treatment(source) for source in kept]
    matrix = np.stack(noises).astype(np.float32)
    rest, is_sure = _without_shared(matrix, treatments)
    correlation = rest @ rest.T
    np.fill_diagonal(correlation, -1.0)
    ranks = [_rank(source) for source in kept]
    copies: dict[str, str] = {}
    for j in sorted(range(len(kept)), key=lambda index: ranks[index], reverse=True):
        near = [int(i) for i in np.flatnonzero(correlation[j] >= SAME_NOISE)]
        originals = [i for i in near if ranks[i] < ranks[j] and kept[i].frame.label not in copies]
        originals = [i for i in originals if _can_be_one(kept[i].frame.metadata, kept[j].frame.metadata)]
        if not originals:
            continue
        i = max(originals, key=lambda index: float(correlation[index, j]))
        others = [k for k in range(len(kept)) if k not in (i, j) and treatments[k] == treatments[i]]
        next_best = max((float(correlation[k, j]) for k in others), default=0.0)
        limit = SAME_NOISE if is_sure[i] and is_sure[j] else _UNSURE_NOISE
        if correlation[i, j] >= limit and next_best < OTHER_NOISE:
            copies[kept[j].frame.label] = kept[i].frame.label
            logger.debug("%s has the noise of %s: %.3f", kept[j].frame.label, kept[i].frame.label, correlation[i, j])
    return copies


def _noise(source: Source, window: _Window) -> Float | None:
    """Return the differences of neighbouring samples, in their own spread; ``None`` where there are none to compare."""
    stack = source.stack()
    parts = []
    try:
        for row in window.rows:
            values = read_adu(stack, row, row + 1)[0, 0, window.left : window.right].astype(np.float64)
            parts.append(values[_STEP:] - values[:-_STEP])
    except FrameError as error:  # combining will name it
        logger.debug("%s is not compared with others: %s", source.frame.label, error)
        return None
    return _normalized(np.concatenate(parts))


def _normalized(values: Float) -> Float | None:
    """Return values less their median, in their spread, with outlying ones clipped."""
    finite = np.isfinite(values)
    if values.size < _LEAST_SAMPLES or np.count_nonzero(finite) < values.size // 2:
        return None
    values = np.where(finite, values, np.median(values[finite]))
    values -= np.median(values)
    spread = 1.4826 * float(np.median(np.abs(values))) or float(np.std(values))
    if not spread > 0:
        return None
    return np.clip(values / spread, -_CLIPPED_SIGMAS, _CLIPPED_SIGMAS)


def _without_shared(noises: NDArray[np.float32], treatments: Sequence[str]) -> tuple[NDArray[np.float32], list[bool]]:
    """Take out what frames of one treatment share; where they are few, what those of the largest share, or all.

    Return the rest, each frame of length 1, and of which frames the shared part is known.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for index, treatment in enumerate(treatments):
        places[treatment].append(index)
    largest = max(places.values(), key=len)
    largest = largest if len(largest) >= _FEW else list(range(len(noises)))
    rest = noises - noises.mean(axis=1, keepdims=True)
    before = rest.copy()
    sure = [False] * len(noises)
    for members in places.values():
        known = members if len(members) >= _FEW else largest
        if len(known) < _FEW:
            continue
        shared = noises[known].mean(axis=0)
        shared -= shared.mean()
        for index in members:
            # the frame itself is in the mean of all
            others = shared if index not in known else (len(known) * shared - before[index]) / (len(known) - 1)
            norm = float(others @ others)
            sure[index] = True
            if norm > 0:
                rest[index] = rest[index] - float(rest[index] @ others) / norm * others
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    return rest / np.where(lengths > 0, lengths, 1.0), sure


def _treatment(source: Source) -> str:
    """Return what frames that one program wrote have in common: their folder and how samples are stored."""
    if source.fits is None:
        return source.series
    return f"{os.path.dirname(source.fits.source)}|{source.fits.bitpix}"


def _rank(source: Source) -> tuple[bool, bool, int, float, str]:
    """Order frames that may be copies of each other: the raw one first."""
    metadata = source.frame.metadata
    is_float = source.fits is not None and not source.fits.is_whole
    is_marked = metadata.bias_subtracted or metadata.dark_subtracted or metadata.flat_divided
    level_adu = 0.0
    try:
        row = metadata.height // 2
        level_adu = float(np.nanmedian(read_adu(source.stack(), row, row + 1)))
    except FrameError:
        pass
    return is_float, is_marked, -metadata.width * metadata.height, -level_adu, source.frame.label


def _can_be_one(a: FrameMetadata, b: FrameMetadata) -> bool:
    """Return whether what two frames say of themselves allows that they are one exposure."""
    if settings_differ(a.settings, b.settings):
        return False
    if a.filter_name and b.filter_name and a.filter_name.casefold() != b.filter_name.casefold():
        return False
    for x, y in ((a.set_temperature_c, b.set_temperature_c), (a.ccd_temperature_c, b.ccd_temperature_c)):
        if x is not None and y is not None and abs(x - y) > 0.1:
            return False
    if a.date_obs is None or b.date_obs is None:
        return True
    return abs((a.date_obs - b.date_obs).total_seconds()) <= _SAME_START_S


# ---- trimmed frames ----


def _trimmed_by(small: Sequence[Source], whole: Sequence[Source], window: _Window) -> tuple[int, int] | None:
    """Find the rows and columns that were cut off below and left of frames; ``None`` if they are of other frames."""
    height, width = small[0].frame.metadata.height, small[0].frame.metadata.width
    cut_rows, cut_columns = whole[0].frame.metadata.height - height, whole[0].frame.metadata.width - width
    if not (0 <= cut_rows <= _MOST_TRIMMED and 0 <= cut_columns <= _MOST_TRIMMED):
        return None
    copy = small[0]
    candidates = sorted(whole, key=lambda source: _unlikeness(source, copy))[:_TRIED]
    for original in candidates:
        if not _can_be_one(original.frame.metadata, copy.frame.metadata):
            continue
        shift = _shift_between(original, copy, window.rows[0], cut_rows, cut_columns)
        if shift is not None:
            return shift
    return None


def _unlikeness(source: Source, copy: Source) -> tuple[bool, int, str]:
    """Order frames by how likely a copy is theirs: the same start, then a name with the same beginning."""
    names = os.path.basename(source.frame.label), os.path.basename(copy.frame.label)
    n_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*names, strict=False)))
    date = copy.frame.metadata.date_obs
    is_same_start = date is not None and date == source.frame.metadata.date_obs
    return not is_same_start, -n_alike, source.frame.label


def _shift_between(original: Source, copy: Source, row: int, cut_rows: int, cut_columns: int) -> tuple[int, int] | None:
    """Find where a row of a trimmed frame lies in its original, by the correlation of their noise."""
    try:
        ours = read_adu(copy.stack(), row, row + 1)[0, 0].astype(np.float64)
        theirs = read_adu(original.stack(), row, row + cut_rows + 1)[0].astype(np.float64)
    except FrameError as error:  # combining will name it
        logger.debug("%s and %s are not compared: %s", original.frame.label, copy.frame.label, error)
        return None
    template = _normalized(ours[_STEP:] - ours[:-_STEP])
    if template is None:
        return None
    n = template.size
    best, place = 0.0, (0, 0)
    for down, line in enumerate(theirs):
        values = _normalized(line[_STEP:] - line[:-_STEP])
        if values is None:
            continue
        products = np.fft.irfft(
            np.fft.rfft(values, values.size) * np.conj(np.fft.rfft(template, values.size)), values.size
        )[: cut_columns + 1]
        squares = np.cumsum(np.concatenate([[0.0], values**2]))
        energy = squares[n : n + cut_columns + 1] - squares[: cut_columns + 1]
        correlation = products / np.sqrt(np.maximum(energy, 1e-9) * float(template @ template))
        right = int(np.argmax(correlation))
        if correlation[right] > best:
            best, place = float(correlation[right]), (down, right)
    return place if best >= SAME_NOISE else None
