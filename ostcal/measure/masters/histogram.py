"""The histogram of a master, in bins of whole steps of its values.

The mean of N whole numbers is a multiple of 1/N, a median one of 1 or 1/2. Bins of another width hold now more of these
values and now fewer, which looks like a comb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]

HISTOGRAM_BINS = 256
"""Of a master whose values have no steps; with steps there are at most as many, and one."""

_SAMPLES = 1024
_OFF_STEP = 0.08
"""Of a step: how far from one a value may be that counts as on it. By chance 16 % of the values do."""
_LEAST_ON_STEPS = 0.4
"""Share of the values: pixels of which samples were rejected are means of fewer, on other steps."""
_AS_MANY = 0.95
"""Of the share that is on the finest steps: whole numbers are multiples of 1/2 too."""
_MOST_STEPS = 100
"""Steps of a bin from which on one more or less is not seen."""


@dataclass(frozen=True, kw_only=True)
class ValueSteps:
    """Where most values of a master are: at `origin` and at multiples of `step` from it."""

    origin: float
    step: float

    @classmethod
    def of(cls, ordered: FloatMap, *, sample_step: float, n_frames: int, bin_width: float) -> ValueSteps | None:
        """Find the steps of (n,) sorted values; ``None`` where they have none that bins of this width would show.

        The steps of the samples are divided by 1, 2, ... `n_frames`, and the coarsest of these steps counts on which
        nearly as many values are as on any.
        """
        most = min(n_frames, int(_MOST_STEPS * sample_step / bin_width))
        if most < 1:
            return None
        some = ordered[:: max(1, len(ordered) // _SAMPLES)].astype(np.float64)
        values, counts = np.unique(some, return_counts=True)
        origin = float(values[counts.argmax()])
        places = (some - origin)[:, None] * (np.arange(1, most + 1) / sample_step)
        share = np.mean(np.abs(places - np.rint(places)) <= _OFF_STEP, axis=0)
        if share.max() < _LEAST_ON_STEPS:
            return None
        divisor = 1 + int(np.flatnonzero(share >= _AS_MANY * share.max())[0])
        return cls(origin=origin, step=sample_step / divisor)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of sampled pixels in equal bins."""

    counts: NDArray[np.int64]
    start: float
    step: float
    below: int
    above: int
    """Sampled pixels outside of the bins."""

    @classmethod
    def of(cls, ordered: FloatMap, *, sample_step: float, n_frames: int) -> Histogram:
        """Count (n,) sorted values between robust limits: the middle 99.8 % and a tenth more on each side.

        Bins are of whole steps of the values, and end in the middle between two. `sample_step` is that of the samples
        in the unit of the values, of which each is made of `n_frames` or fewer.

        Edges become the lowest float32 that is not below them, so that the same values are below both. Searched for as
        float64 they would have a million samples copied, 0.07 s.
        """
        if len(ordered) == 0:
            return cls(counts=np.zeros(HISTOGRAM_BINS, np.int64), start=0.0, step=1.0, below=0, above=0)
        low, high = float(ordered[int(0.001 * len(ordered))]), float(ordered[int(0.999 * (len(ordered) - 1))])
        margin = 0.1 * (high - low) or max(1e-6 * abs(high), 1e-6)
        start, stop = low - margin, high + margin
        width, n_bins = (stop - start) / HISTOGRAM_BINS, HISTOGRAM_BINS
        steps = ValueSteps.of(ordered, sample_step=sample_step, n_frames=n_frames, bin_width=width)
        if steps is not None:
            width = steps.step * math.ceil(width / steps.step)
            start = steps.origin + steps.step * (math.floor((start - steps.origin) / steps.step - 0.5) + 0.5)
            n_bins = max(1, math.ceil((stop - start) / width))
        edges = start + width * np.arange(n_bins + 1)
        floats = edges.astype(np.float32)
        floats = np.where(floats < edges, np.nextafter(floats, np.float32(np.inf)), floats)
        at = np.searchsorted(ordered, floats)
        above = len(ordered) - int(at[-1])
        return cls(counts=np.diff(at), start=start, step=width, below=int(at[0]), above=above)
