"""Copies of raw frames that another program has processed, recognised by their pixels.

A frame from which a bias was subtracted, that was divided by a flat or its exposure, trimmed, binned, mirrored, turned
or stored as floats, still has the noise of the raw frame, which no other frame has. Of a few samples of each frame the
differences of neighbouring pixels are compared, less what all frames share (the pixels' own response). Two frames of
one noise are correlated near 1, others near 0.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, read_adu
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import settings_differ
from ostcal.inputs.noise_samples import AS_IT_IS, TURNS, Noise, View, middle_of, noise_of, place_in, sampled_windows

logger = logging.getLogger(__name__)

SAME_NOISE = 0.7
"""Correlation from which on two frames have one noise: by chance 3000 samples reach 0.1."""
OTHER_NOISE = 0.5
"""The next frame must be below this: noise that several frames share is no proof."""
_UNSURE_NOISE = 0.995
"""The same where too few frames tell what is noise and what is the response of the pixels."""
_CERTAIN_NOISE = 0.9
"""From here on a program that wrote floats may have changed the start of exposure to the time of a zone."""
_DIFFERENT_SHARE = 0.5
"""Two frames that differ by more than this share of the variance of the noise are two exposures with one pattern."""
_FEW = 4
_MOST_SIZES = 16
_MOST_FRAMES = 2000
"""Of one kind and exposure; beyond, comparing them takes longer than combining."""
_MOST_TRIMMED = 256
"""Rows and columns that may have been cut off."""
_BINNINGS = (2, 3, 4)
_TRIED = 16
"""Frames in which the place of a copy is looked for."""
_TRIED_RAW = 4
"""The same of a frame that a camera may have written: of 40 such frames of 61 MP it takes 0.2 s."""
_MOST_PAIRS = 128
"""Sets of frames, of one folder and one kind of samples each, of which one may be copies of the other."""
_SAME_START_S = 2.0
_ZONES_S = 14 * 3600.0
"""Zones are up to 14 hours from UTC."""


def without_processed_copies(sources: dict[str, Source], left_out: list[str]) -> dict[str, Source]:
    """Leave out frames that are copies of other frames, changed by another program; name them in `left_out`."""
    alike: dict[tuple[object, ...], list[Source]] = defaultdict(list)
    for source in sources.values():
        metadata = source.frame.metadata
        if metadata.frame_type in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT) and not metadata.is_master:
            alike[metadata.frame_type, metadata.settings.extension].append(source)
    copies: dict[str, str] = {}
    for members in alike.values():
        if any(source.fits is not None for source in members):
            copies |= _copies_of_kind(members)
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


# ---- which frames are compared ----


def _copies_of_kind(members: Sequence[Source]) -> dict[str, str]:
    """Return the label of the original of each copy among frames of one kind.

    Those of one exposure are compared; and floats with raw frames of other exposures, as a program that divides by the
    exposure changes the card too.
    """
    by_exposure: dict[float | None, list[Source]] = defaultdict(list)
    for source in members:
        exposure_s = source.frame.metadata.exposure_time_s
        by_exposure[None if exposure_s is None else round(exposure_s, 3)].append(source)
    copies: dict[str, str] = {}
    for group in by_exposure.values():
        copies |= _copies_among(group)
    floats = [[s for s in group if _is_changed(s) and s.frame.label not in copies] for group in by_exposure.values()]
    raw = [[s for s in group if not _is_changed(s)] for group in by_exposure.values()]
    pairs = [(a, b) for i, a in enumerate(floats) for j, b in enumerate(raw) if i != j and a and b]
    for changed, originals in pairs[:_MOST_PAIRS]:
        copies |= _copies_among([*originals, *(source for source in changed if source.frame.label not in copies)])
    return copies


def _is_changed(source: Source) -> bool:
    """Return whether the samples of a frame are no whole numbers, so that no camera wrote them."""
    return source.fits is not None and not source.fits.is_whole


def _copies_among(members: Sequence[Source]) -> dict[str, str]:
    """Return the label of the original of each copy among frames of one exposure, or of two."""
    if not (1 < len(members) <= _MOST_FRAMES and _may_be_copies(members)):
        return {}
    by_size: dict[tuple[int, int], list[Source]] = defaultdict(list)
    for source in members:
        by_size[source.frame.metadata.height, source.frame.metadata.width].append(source)
    sizes = sorted(by_size, key=lambda size: (-size[0] * size[1], size))[:_MOST_SIZES]
    copies: dict[str, str] = {}
    for size in sizes:
        if len(by_size[size]) > 1:
            copies |= _matched([(source, AS_IT_IS) for source in by_size[size]])
    n_pairs = 0
    for place, size in enumerate(sizes):
        for small in _sets(by_size[size]):
            for larger in sizes[: place + 1]:
                for whole in _sets(by_size[larger]):
                    left = [source for source in small if source.frame.label not in copies]
                    if not left or _treatment(whole[0]) == _treatment(small[0]) or n_pairs == _MOST_PAIRS:
                        continue
                    n_pairs += 1
                    view = _view_between(left, whole)
                    if view is not None:
                        copies |= _matched([*((s, view) for s in whole), *((s, AS_IT_IS) for s in left)])
    return copies


def _may_be_copies(members: Sequence[Source]) -> bool:
    """Return whether any frame can be a copy: not where one program wrote all of them, each at another time."""
    if len({_treatment(source) for source in members}) > 1:
        return True
    dates = sorted(date for s in members if (date := s.frame.metadata.date_obs) is not None)
    is_dated = len(dates) == len(members)
    return not is_dated or any((b - a).total_seconds() <= _SAME_START_S for a, b in pairwise(dates))


def _sets(members: Sequence[Source]) -> Iterator[list[Source]]:
    """Yield the frames of each treatment."""
    sets: dict[str, list[Source]] = defaultdict(list)
    for source in members:
        sets[_treatment(source)].append(source)
    yield from sets.values()


def _treatment(source: Source) -> str:
    """Return what frames that one program wrote have in common: their folder and how samples are stored."""
    if source.fits is None:
        return source.series
    return f"{os.path.dirname(source.fits.source)}|{source.fits.bitpix}"


# ---- frames of one noise ----


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """The noise of frames less what they share."""

    unit: NDArray[np.float32]
    """Of each frame, of length 1."""
    variances: NDArray[np.float64]
    """Of each frame, in the square of its own unit."""
    is_sure: list[bool]
    """Of which frames the shared part is known."""


def _matched(views: Sequence[tuple[Source, View]]) -> dict[str, str]:
    """Compare all frames with each other, as they are viewed; return the original of each copy."""
    size = next(((m.height, m.width) for s, view in views if view is AS_IT_IS for m in (s.frame.metadata,)), (0, 0))
    windows = sampled_windows(*size, block=any(view.needs_block for _, view in views))
    kept: list[Source] = []
    noises: list[Noise] = []
    for source, view in views:
        try:
            noise = noise_of(source.stack(), windows, view)
        except FrameError as error:  # combining will name it
            logger.debug("%s is not compared with others: %s", source.frame.label, error)
            continue
        if noise is not None:
            kept.append(source)
            noises.append(noise)
    if len(kept) < 2:
        return {}
    treatments = [_treatment(source) for source in kept]
    rest = _without_shared(noises, treatments)
    is_turned = any(view is not AS_IT_IS for _, view in views)
    correlation = rest.unit @ rest.unit.T
    np.fill_diagonal(correlation, -1.0)
    if np.max(correlation) < SAME_NOISE:
        return {}
    ranks = [_rank(source) for source in kept]
    copies: dict[str, str] = {}
    for j in sorted(range(len(kept)), key=lambda index: ranks[index], reverse=True):
        originals = [
            int(i)
            for i in np.flatnonzero(correlation[j] >= SAME_NOISE)
            if ranks[i] < ranks[j]
            and kept[i].frame.label not in copies
            and _is_one_noise(rest, int(i), j, float(correlation[i, j]), treatments)
            and _can_be_one(
                kept[i].frame.metadata,
                kept[j].frame.metadata,
                is_turned=is_turned,
                apart_s=_ZONES_S
                if _is_changed(kept[j]) and rest.is_sure[i] and rest.is_sure[j] and correlation[i, j] >= _CERTAIN_NOISE
                else _SAME_START_S,
            )
        ]
        if not originals:
            continue
        i = min(originals, key=lambda index: ranks[index])
        others = [k for k in range(len(kept)) if k not in (i, j) and treatments[k] == treatments[i]]
        next_best = max((float(correlation[k, j]) for k in others), default=0.0)
        if next_best < OTHER_NOISE:
            copies[kept[j].frame.label] = kept[i].frame.label
            logger.debug("%s has the noise of %s: %.3f", kept[j].frame.label, kept[i].frame.label, correlation[i, j])
    return copies


def _is_one_noise(rest: _Rest, i: int, j: int, correlation: float, treatments: Sequence[str]) -> bool:
    """Return whether what two frames have in common is their noise, and no pattern that only these two show.

    Two exposures with a pattern differ by the noise of both; those of one exposure by what the other program rounded.
    """
    if correlation < (SAME_NOISE if rest.is_sure[i] and rest.is_sure[j] else _UNSURE_NOISE):
        return False
    others = [k for k in range(len(treatments)) if k not in (i, j)]
    others = [k for k in others if treatments[k] == treatments[i]] or others
    difference = (1 - correlation**2) * float(rest.variances[i])
    return not others or difference <= _DIFFERENT_SHARE * float(np.median(rest.variances[others]))


def _without_shared(samples: Sequence[Noise], treatments: Sequence[str]) -> _Rest:
    """Take out what frames of one treatment share; where they are few, what those of the largest share, or all."""
    noises = np.stack([sample.values for sample in samples]).astype(np.float32)
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
    lengths = np.linalg.norm(rest, axis=1)
    unit = rest / np.where(lengths > 0, lengths, 1.0)[:, np.newaxis]
    variances = np.array([(length * one.spread_adu) ** 2 for length, one in zip(lengths, samples, strict=True)])
    return _Rest(unit=unit, variances=variances, is_sure=sure)


def _rank(source: Source) -> tuple[bool, bool, int, float, str]:
    """Order frames that may be copies of each other: the raw one first."""
    metadata = source.frame.metadata
    is_marked = metadata.bias_subtracted or metadata.dark_subtracted or metadata.flat_divided
    level_adu = 0.0
    try:
        row = metadata.height // 2
        level_adu = float(np.nanmedian(read_adu(source.stack(), row, row + 1)))
    except FrameError:
        pass
    return _is_changed(source), is_marked, -metadata.width * metadata.height, -level_adu, source.frame.label


def _can_be_one(a: FrameMetadata, b: FrameMetadata, *, is_turned: bool = False, apart_s: float = _SAME_START_S) -> bool:
    """Return whether what two frames say of themselves allows that they are one exposure.

    A program that turns, trims or bins a frame may say so.
    """
    if settings_differ(*(_as_turned(m.settings) if is_turned else m.settings for m in (a, b))):
        return False
    if a.filter_name and b.filter_name and a.filter_name.casefold() != b.filter_name.casefold():
        return False
    for x, y in ((a.set_temperature_c, b.set_temperature_c), (a.ccd_temperature_c, b.ccd_temperature_c)):
        if x is not None and y is not None and abs(x - y) > 0.1:
            return False
    if a.date_obs is None or b.date_obs is None:
        return True
    return abs((a.date_obs - b.date_obs).total_seconds()) <= apart_s


def _as_turned(settings: CameraSettings) -> CameraSettings:
    return replace(settings, binning=(1, 1), subframe_origin=None, row_order=None)


# ---- trimmed, binned, mirrored and turned frames ----


def _view_between(small: Sequence[Source], whole: Sequence[Source]) -> View | None:
    """Find how frames lie in others of their size or larger; ``None`` if they are of other frames."""
    copy = small[0]
    height, width = copy.frame.metadata.height, copy.frame.metadata.width
    views = _possible_views((height, width), whole[0].frame.metadata)
    originals = sorted(whole, key=lambda source: _unlikeness(source, copy))
    tried, apart_s = (_TRIED, _ZONES_S) if _is_changed(copy) else (_TRIED_RAW, _SAME_START_S)
    originals = [
        source
        for source in originals
        if _can_be_one(source.frame.metadata, copy.frame.metadata, is_turned=True, apart_s=apart_s)
    ]
    if not views or not originals:
        return None
    window = middle_of(height, width)
    best, found = SAME_NOISE, None
    try:
        block = AS_IT_IS.read(copy.stack(), window)
    except FrameError as error:  # combining will name it
        logger.debug("%s is not compared with others: %s", copy.frame.label, error)
        return None
    for original in originals[:tried]:
        for view, cut in views:
            try:
                correlation, place = place_in(original.stack(), block, window, view, cut)
            except FrameError as error:
                logger.debug("%s is not compared with others: %s", original.frame.label, error)
                break
            if correlation >= best:
                best, found = correlation, place
    return found


def _possible_views(size: tuple[int, int], larger: FrameMetadata) -> list[tuple[View, tuple[int, int]]]:
    """Return how a frame of this size may lie in a larger one, each with the rows and columns that were cut off."""
    height, width = size
    views = []
    for turn in TURNS:
        rows, columns = (larger.width, larger.height) if turn.transposed else (larger.height, larger.width)
        down, right = rows - height, columns - width
        is_same = turn == AS_IT_IS and (down, right) == (0, 0)  # was compared
        if 0 <= down <= _MOST_TRIMMED and 0 <= right <= _MOST_TRIMMED and not is_same:
            views.append((turn, (down, right)))
        for binned in _BINNINGS:
            if (rows // binned, columns // binned) == size:
                views.append((replace(turn, binned=binned), (0, 0)))
    return views


def _unlikeness(source: Source, copy: Source) -> tuple[bool, int, str]:
    """Order frames by how likely a copy is theirs: the same start, then a name with the same beginning."""
    names = os.path.basename(source.frame.label), os.path.basename(copy.frame.label)
    n_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*names, strict=False)))
    date = copy.frame.metadata.date_obs
    is_same_start = date is not None and date == source.frame.metadata.date_obs
    return not is_same_start, -n_alike, source.frame.label
