"""Which frames of a series lost far more of their pixels to rejection than the others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ostcal.measure.findings import Finding
from ostcal.measure.frames.summary import percent, summarize, warning

OUTLYING_SHARE = 0.05
"""A frame that lost this share of its pixels is worth a look; at 3 sigma a good one loses 0.3 to 2 %."""
OUTLYING_FACTOR = 4.0
"""And it must have lost this many times what the median frame lost."""


def outlying_frames(rejected_per_frame: Sequence[int], n_pixels: int) -> list[int]:
    """Return the frames that lost far more of their pixels to rejection than the others.

    Parameters
    ----------
    rejected_per_frame : sequence of int
        Samples of each frame that were not kept.
    n_pixels : int
        Pixels of a frame.
    """
    if len(rejected_per_frame) < 3 or n_pixels == 0:
        return []
    limit = _limit(rejected_per_frame, n_pixels)
    return [index for index, count in enumerate(rejected_per_frame) if count > limit]


def check_rejected(rejected_per_frame: Sequence[int], n_pixels: int) -> list[Finding]:
    """Judge how many samples each combined frame lost to rejection; parameters as of `outlying_frames`."""
    shares = [count / max(1, n_pixels) for count in rejected_per_frame]
    limit = _limit(rejected_per_frame, n_pixels) / max(1, n_pixels)
    bad = [
        warning(
            "rejected samples",
            shares[i],
            limit,
            f"{percent(shares[i])} of its pixels were rejected (limit {percent(limit)})",
            i,
        )
        for i in outlying_frames(rejected_per_frame, n_pixels)
    ]
    most = max(shares, default=0.0)
    text = f"no frame lost more than {percent(most)} of its pixels to rejection (limit {percent(limit)})"
    return summarize("rejected samples", bad, text, n_frames=len(shares), value=most, limit=limit)


def _limit(rejected_per_frame: Sequence[int], n_pixels: int) -> float:
    """Return the rejected samples of a frame up to which it is like the others."""
    typical = statistics.median(rejected_per_frame) if rejected_per_frame else 0.0
    return max(OUTLYING_SHARE * n_pixels, OUTLYING_FACTOR * typical)
