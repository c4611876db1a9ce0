"""What users should know of how frames were read: a line for each remark, however many frames it is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ostcal.frames import FrameMetadata


def remark_lines(frames: Iterable[tuple[str, FrameMetadata]]) -> list[str]:
    """Return a line for each remark: the first frame it is about, and how many more there are."""
    about: dict[str, list[str]] = defaultdict(list)
    for label, metadata in frames:
        for remark in metadata.remarks:
            about[remark].append(label)
    return [
        f"{labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''}: {remark}"
        for remark, labels in about.items()
    ]
