"""When the frames of a master were taken: their first, their last, and the time between that matching compares."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ostcal.frames import FrameMetadata
from ostcal.naming import DAY_S


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Times of the frames of a master, UTC; frames without a time do not count."""

    first: datetime
    """Start of the first frame."""
    last: datetime
    """End of the last frame."""
    middle: datetime
    """Median of the middles of the exposures: a clock that was wrong for a few frames does not move it."""

    @classmethod
    def of(cls, frames: Iterable[FrameMetadata]) -> Observed | None:
        """Return the times of frames; ``None`` where no frame says when it was taken."""
        taken = [(f.date_obs, f.exposure_time_s or 0.0) for f in frames if f.date_obs is not None]
        if not taken:
            return None
        first = min(start for start, _ in taken)
        # seconds from the first: an average of times is no time
        middle_s = statistics.median((start - first).total_seconds() + time_s / 2 for start, time_s in taken)
        return cls(
            first=first,
            last=max(start + timedelta(seconds=time_s) for start, time_s in taken),
            middle=first + timedelta(seconds=middle_s),
        )

    def overlaps(self, other: Observed) -> bool:
        """Return whether the times of two masters have a moment in common."""
        return self.first <= other.last and other.first <= self.last

    def age_days(self, taken_at: datetime) -> float:
        """Return how many days before a moment the frames were taken; negative where they were taken later."""
        return (taken_at - self.middle).total_seconds() / DAY_S
