"""Which frames of a series disagree with the others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

OUTLYING_SHARE = 0.05
"""A frame that lost this share of its pixels is worth a look; at 3 sigma a good one loses 0.3 to 2 %."""

OUTLYING_FACTOR = 4.0
"""And it must have lost this many times what the median frame lost."""


def outlying_frames(rejected_per_frame: Sequence[int], n_pixels: int) -> list[int]:
    """Give the frames that lost far more of their pixels to rejection than the others.

    Parameters
    ----------
    rejected_per_frame : sequence of int
        Samples of each frame that were not kept.
    n_pixels : int
        Pixels of a frame.
    """
    if len(rejected_per_frame) < 3 or n_pixels == 0:
        return []
    limit = rejected_limit(rejected_per_frame, n_pixels)
    return [index for index, count in enumerate(rejected_per_frame) if count > limit]


def rejected_limit(rejected_per_frame: Sequence[int], n_pixels: int) -> float:
    """Give the rejected samples of a frame up to which it is like the others; see `outlying_frames`."""
    typical = statistics.median(rejected_per_frame) if rejected_per_frame else 0.0
    return max(OUTLYING_SHARE * n_pixels, OUTLYING_FACTOR * typical)
