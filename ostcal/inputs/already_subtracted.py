"""Flats that the camera program has dark-subtracted although their headers do not say so.

Camera programs write "Auto-Dark Subtraction" into the first frame of a series and leave it out of the others.
Subtracting a dark once more gives a flat with a wrong zero, which inverts vignetting. Two facts show it: the darkest
pixels of a flat cannot be darker than a dark, and frames of one series have the same darkest pixels.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostcal.errors import FrameError
from ostcal.frames import FrameMetadata, FrameType, read_adu
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Frame, settings_differ
from ostcal.inputs.pedestals import pedestal_adu
from ostcal.places.fingerprint import fingerprint_rows

logger = logging.getLogger(__name__)

BELOW_DARK_SHARE = 0.9
"""Something was subtracted from a flat whose darkest pixels are below this share of a dark's."""

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
    """Mark frames from which nothing is to be subtracted: darks have lost their bias, flats their dark."""
    marked = dict(sources)
    for label, source in sources.items():
        metadata = source.frame.metadata
        if metadata.frame_type in kinds and metadata.frame_type in (FrameType.DARK, FrameType.FLAT):
            is_flat = metadata.frame_type is FrameType.FLAT
            metadata = replace(metadata, bias_subtracted=True, dark_subtracted=is_flat or metadata.dark_subtracted)
            marked[label] = replace(source, frame=replace(source.frame, metadata=metadata))
    return marked


def low_level(source: Source) -> float:
    """Return the first percentile in ADU of three rows of a frame, NaN if they hold no finite sample."""
    stack = source.stack()
    samples = np.concatenate([read_adu(stack, row, row + 1)[0, 0] for row in fingerprint_rows(stack.shape[1])])
    finite = samples[np.isfinite(samples)]
    return float(np.percentile(finite, 1)) if finite.size else math.nan


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
