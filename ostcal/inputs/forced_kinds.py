"""Kinds of frames that the user states for folders and patterns of files whose headers do not say them."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from ostcal.fits.read import FitsFrame
from ostcal.frames import FrameMetadata, FrameType
from ostcal.places.paths import absolute

KindRules = Mapping[str, FrameType]
"""A kind for each folder or pattern, the first that fits counts: ``{"darks/2026": "dark", "*_f.fits": "flat"}``."""
NO_RULES: Final[KindRules] = MappingProxyType({})


def with_forced_kind(metadata: FrameMetadata, path: str, rules: KindRules) -> FrameMetadata:
    """Return metadata with the kind that the first fitting rule states; a remark says where the header says another."""
    kind = next((kind for pattern, kind in rules.items() if _fits(path, pattern)), None)
    if kind is None or kind is metadata.frame_type:
        return metadata
    if kind is FrameType.DARK and metadata.frame_type is FrameType.BIAS and metadata.exposure_time_s == 0.0:
        return metadata
    remarks = tuple(remark for remark in metadata.remarks if ": taken as a " not in remark)
    if metadata.frame_type is not None:
        remarks = (*remarks, f"header or name say {metadata.frame_type}: taken as {kind}, as input.kinds says")
    return replace(metadata, frame_type=kind, remarks=remarks)


def with_stated_kind(frame: FitsFrame, rules: KindRules) -> FitsFrame:
    """Return a frame with the kind that the first fitting rule states."""
    metadata = with_forced_kind(frame.metadata, frame.source, rules) if rules else frame.metadata
    return frame if metadata is frame.metadata else replace(frame, metadata=metadata)


def _fits(path: str, pattern: str) -> bool:
    """Return whether a file is below a folder of this name or path, or fits a pattern."""
    where = PurePath(absolute(path)).as_posix()
    wanted = PurePath(pattern).as_posix()
    absolute_pattern = PurePath(absolute(pattern)).as_posix()
    if where == absolute_pattern or where.startswith(f"{absolute_pattern}/"):
        return True
    return any(fnmatch.fnmatchcase(where, form) for form in (f"*/{wanted}", f"*/{wanted}/*", wanted))
