"""Which flats were dark-subtracted by the camera program although their headers do not say so.

Camera programs write "Auto-Dark Subtraction" into the first frame of a series and leave it out of the others.
Subtracting a dark once more gives a flat with a wrong zero, which inverts vignetting. Two facts show it: the darkest
pixels of a flat cannot be darker than a dark, and frames of one series have the same darkest pixels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import Frame, settings_differ

BELOW_DARK_SHARE = 0.9
"""A flat whose darkest pixels are below this share of a dark's is none from which nothing was subtracted."""

SAME_LEVEL_SHARE = 0.25
"""Frames of a series agree in their darkest pixels within this; a pedestal left in is several times the level."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Flats that are taken as dark-subtracted, and why."""

    labels: tuple[str, ...]
    reason: str


def needs_levels(frames: Sequence[Frame]) -> list[Frame]:
    """Give the frames whose darkest level must be known: flats, and the darks and bias frames to compare them with."""
    kinds = {frame.metadata.frame_type for frame in frames}
    if FrameType.FLAT not in kinds:
        return []
    return [f for f in frames if f.metadata.frame_type in (FrameType.FLAT, FrameType.DARK, FrameType.BIAS)]


def infer_dark_subtracted(frames: Sequence[Frame], low_adu: Mapping[str, float]) -> list[Inference]:
    """Find flats that must have been dark-subtracted.

    Parameters
    ----------
    frames : sequence of Frame
    low_adu : mapping of label to float
        First percentile of some rows of each frame.
    """
    flats = [f for f in frames if f.metadata.frame_type is FrameType.FLAT]
    darks = [
        f
        for f in frames
        if f.metadata.frame_type in (FrameType.DARK, FrameType.BIAS) and not f.metadata.dark_subtracted
    ]
    by_mate: dict[str, list[str]] = defaultdict(list)
    below: list[str] = []
    for flat in flats:
        if flat.metadata.dark_subtracted:
            continue
        mate = next((m for m in flats if _is_declared_mate(m, flat) and _same_level(m, flat, low_adu)), None)
        if mate is not None:
            by_mate[mate.label].append(flat.label)
        elif _is_below_darks(flat, darks, low_adu):
            below.append(flat.label)
    found = [
        Inference(labels=tuple(labels), reason=f"{mate} of the same series says so and has the same darkest pixels")
        for mate, labels in by_mate.items()
    ]
    if below:
        found.append(Inference(labels=tuple(below), reason="their darkest pixels are darker than the darks"))
    return found


def _is_declared_mate(mate: Frame, flat: Frame) -> bool:
    a, b = mate.metadata, flat.metadata
    return (
        a.dark_subtracted
        and _comparable(a, b)
        and (a.exposure_time_s, a.filter_name)
        == (
            b.exposure_time_s,
            b.filter_name,
        )
    )


def _comparable(a: FrameMetadata, b: FrameMetadata) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)


def _same_level(a: Frame, b: Frame, low_adu: Mapping[str, float]) -> bool:
    x, y = low_adu[a.label], low_adu[b.label]
    return abs(x - y) <= SAME_LEVEL_SHARE * max(abs(x), abs(y))


def _is_below_darks(flat: Frame, darks: Sequence[Frame], low_adu: Mapping[str, float]) -> bool:
    levels = [low_adu[dark.label] for dark in darks if _comparable(dark.metadata, flat.metadata)]
    levels = [level for level in levels if not math.isnan(level)]
    return bool(levels) and low_adu[flat.label] < BELOW_DARK_SHARE * min(levels)
