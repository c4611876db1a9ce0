"""Flats that the camera program has dark-subtracted although their headers do not say so.

Camera programs write "Auto-Dark Subtraction" into the first frame of a series and leave it out of the others.
Subtracting a dark once more gives a flat with a wrong zero, which inverts vignetting. Two facts show it: the darkest
pixels of a flat cannot be darker than a dark, and frames of one series have the same darkest pixels.
"""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostcal.errors import FrameError
from ostcal.fits.read import FitsStack
from ostcal.frames import FrameMetadata, FrameType, read_adu
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Frame, settings_differ
from ostcal.inputs.pedestals import pedestal_adu
from ostcal.places.fingerprint import fingerprint_rows

logger = logging.getLogger(__name__)

BELOW_DARK_SHARE = 0.9
"""Something was subtracted from a flat whose darkest pixels are below this share of a dark's."""

HALF = 0.5
NEAR_ZERO = 0.1
"""Shares of the level of the bias."""

SAME_LEVEL_SHARE = 0.25
"""Frames of a series agree in their darkest pixels within this; a pedestal left in is several times the level."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Flats that are taken as dark-subtracted, and why."""

    labels: tuple[str, ...]
    reason: str


def marked_dark_subtracted(sources: dict[str, Source], warnings: list[str]) -> dict[str, Source]:
    """Mark flats that must have been dark-subtracted although their headers do not say so, with a warning.

    Frames that turn out to be damaged are left out, with a warning too.
    """
    marked = dict(sources)
    low_adu: dict[str, float] = {}
    kinds = {label: source.frame.metadata.frame_type for label, source in sources.items()}
    if FrameType.FLAT not in kinds.values():
        return marked
    for label, kind in kinds.items():
        if kind not in (FrameType.FLAT, FrameType.DARK, FrameType.BIAS):
            continue
        try:
            low_adu[label] = low_level(sources[label])
        except FrameError as error:
            del marked[label]
            warnings.append(str(error))
            logger.debug("%s: traceback", label, exc_info=True)
    for inference in infer_dark_subtracted([source.frame for source in marked.values()], low_adu):
        for label in inference.labels:
            source = marked[label]
            metadata = replace(source.frame.metadata, dark_subtracted=True)
            marked[label] = replace(source, frame=replace(source.frame, metadata=metadata))
        n_more = len(inference.labels) - 1
        warnings.append(
            f"{inference.labels[0]}{f' and {n_more} more' if n_more else ''}: taken as dark-subtracted already: "
            f"{inference.reason}"
        )
    return _without_pedestals(marked, warnings)


def marked_bias_subtracted(sources: dict[str, Source], warnings: list[str]) -> dict[str, Source]:
    """Mark darks that must have been bias-subtracted although their headers do not say so, with a warning.

    Their level is below half of that of the bias, and they hold fractions, or pixels near 0: bias frames of another
    offset have neither.
    """
    darks = {
        label: source
        for label, source in sources.items()
        if source.frame.metadata.frame_type is FrameType.DARK
        and not (source.frame.metadata.bias_subtracted or source.frame.metadata.is_master)
    }
    biases = [source for source in sources.values() if source.frame.metadata.frame_type is FrameType.BIAS]
    if not darks or not biases:
        return sources
    marked, labels = dict(sources), []
    levels = [(bias.frame.metadata, levels) for bias in biases if (levels := _low_and_middle(bias)) is not None]
    for label, source in darks.items():
        metadata = source.frame.metadata
        comparable = [low_and_middle for other, low_and_middle in levels if _are_comparable(metadata, other)]
        own = _low_and_middle(source) if comparable else None
        if own is None:
            continue
        low, middle = (min(levels) for levels in zip(*comparable, strict=True))
        is_darker = own[1] < min(low, HALF * middle)
        if is_darker and (own[0] < NEAR_ZERO * middle or _has_fractions(source)):
            metadata = replace(metadata, bias_subtracted=True)
            marked[label] = replace(source, frame=replace(source.frame, metadata=metadata))
            labels.append(label)
    if labels:
        warnings.append(
            f"{labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''}: taken as bias-subtracted already:"
            " darker than the bias"
        )
    return marked


def _low_and_middle(source: Source) -> tuple[float, float] | None:
    """Return the first percentile and the median of three rows in ADU; ``None`` where there are none."""
    try:
        low_adu, middle_adu = _percentiles(source, (1, 50))
    except FrameError:  # combining will name it
        return None
    return None if math.isnan(low_adu) else (low_adu, middle_adu)


def changed_by_others(sources: Mapping[str, Source]) -> list[str]:
    """Say which flats hold fractions where raw frames of their camera hold whole numbers.

    Another program computed them, and its cards say nothing of a bias or a dark: that may be subtracted twice.
    """
    frames = [s for s in sources.values() if s.frame.metadata.frame_type in (FrameType.BIAS, FrameType.DARK)]
    raw = [source.frame.metadata for source in frames if not _has_fractions(source)]
    changed: dict[str, list[str]] = defaultdict(list)
    for label, source in sources.items():
        metadata = source.frame.metadata
        if metadata.frame_type is not FrameType.FLAT or metadata.is_master:
            continue
        if metadata.bias_subtracted or metadata.dark_subtracted or not _has_fractions(source):
            continue
        if any(_are_comparable(metadata, other) for other in raw):
            changed[os.path.dirname(label)].append(label)
    return [
        f"{labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''}: fractions of ADU, which no camera"
        f" writes: another program changed {'them' if len(labels) > 1 else 'it'}, and no card says how; if it"
        f" subtracted the bias, set master_frames.calibration: {{flat: none}}, else it is subtracted twice"
        for labels in changed.values()
    ]


def _has_fractions(source: Source) -> bool:
    """Return whether samples of a frame are no whole numbers."""
    if source.fits is None or source.fits.is_whole:
        return False
    row = source.frame.metadata.height // 2
    try:
        values = read_adu(FitsStack((source.fits,)), row, row + 1)
    except FrameError:  # combining will name it
        return False
    finite = values[np.isfinite(values)]
    return bool(np.any(finite != np.rint(finite)))


def _without_pedestals(sources: dict[str, Source], warnings: list[str]) -> dict[str, Source]:
    """Subtract the pedestals of frames that were calibrated."""
    result = dict(sources)
    about: dict[float, list[str]] = defaultdict(list)
    for label, source in sources.items():
        fits = source.fits
        if fits is None:
            continue
        pedestal = pedestal_adu(replace(fits, metadata=source.frame.metadata))
        if pedestal:
            result[label] = replace(source, fits=replace(fits, bzero=fits.bzero - pedestal))
            about[pedestal].append(label)
    for pedestal, labels in about.items():
        more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        warnings.append(f"{labels[0]}{more}: the pedestal of {pedestal:g} ADU is subtracted (PEDESTAL)")
    return result


def marked_uncalibrated(sources: dict[str, Source], kinds: Collection[FrameType]) -> dict[str, Source]:
    """Mark frames from which nothing is to be subtracted: darks have lost their bias, flats their dark.

    Bias frames that have lost their level fit frames without a bias only.
    """
    marked = dict(sources)
    for label, source in sources.items():
        metadata = source.frame.metadata
        if metadata.frame_type in kinds and metadata.frame_type in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT):
            is_flat = metadata.frame_type is FrameType.FLAT
            metadata = replace(metadata, bias_subtracted=True, dark_subtracted=is_flat or metadata.dark_subtracted)
            marked[label] = replace(source, frame=replace(source.frame, metadata=metadata))
    return marked


def low_level(source: Source) -> float:
    """Return the first percentile in ADU of three rows of a frame, NaN if they hold no finite sample."""
    (low_adu,) = _percentiles(source, (1,))
    return low_adu


def _percentiles(source: Source, percent: Sequence[float]) -> list[float]:
    stack = source.stack()
    samples = np.concatenate([read_adu(stack, row, row + 1)[0, 0] for row in fingerprint_rows(stack.shape[1])])
    finite = samples[np.isfinite(samples)]
    return [float(value) for value in np.percentile(finite, percent)] if finite.size else [math.nan] * len(percent)


def infer_dark_subtracted(frames: Sequence[Frame], low_adu: Mapping[str, float]) -> list[Inference]:
    """Find flats that must have been dark-subtracted; `low_adu` has the `low_level` of each frame by its label."""
    flats = [f for f in frames if f.metadata.frame_type is FrameType.FLAT]
    kinds = (FrameType.DARK, FrameType.BIAS)
    darks = [f for f in frames if f.metadata.frame_type in kinds and not f.metadata.dark_subtracted]
    declared = [flat for flat in flats if flat.metadata.dark_subtracted]
    by_mate: dict[str, list[str]] = defaultdict(list)
    below: list[str] = []
    for flat in flats:
        if flat.metadata.dark_subtracted:
            continue
        level_adu = low_adu[flat.label]
        mates = [
            mate.label
            for mate in declared
            if _are_comparable(mate.metadata, flat.metadata)
            and mate.metadata.exposure_time_s == flat.metadata.exposure_time_s
            and mate.metadata.filter_name == flat.metadata.filter_name
            and abs(low_adu[mate.label] - level_adu) <= SAME_LEVEL_SHARE * max(abs(low_adu[mate.label]), abs(level_adu))
        ]
        dark_levels_adu = [low_adu[dark.label] for dark in darks if _are_comparable(dark.metadata, flat.metadata)]
        dark_levels_adu = [level for level in dark_levels_adu if not math.isnan(level)]
        if mates:
            by_mate[mates[0]].append(flat.label)
        elif dark_levels_adu and level_adu < BELOW_DARK_SHARE * min(dark_levels_adu):
            below.append(flat.label)
    found = [
        Inference(labels=tuple(labels), reason=f"{mate} of the same series says so and has the same darkest pixels")
        for mate, labels in by_mate.items()
    ]
    if below:
        found.append(Inference(labels=tuple(below), reason="their darkest pixels are darker than the darks"))
    return found


def _are_comparable(a: FrameMetadata, b: FrameMetadata) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)
