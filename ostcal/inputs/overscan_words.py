"""What the converter of a camera gave before overscan was subtracted: its words, their end, and the overscan's noise.

Trimmed samples are floats, of which neither the step nor the end of the converter can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameStack, read_adu
from ostcal.inputs.trimmed import TrimmedStack
from ostcal.series.concatenated import ConcatenatedStack

_LINES = 64
"""Lines of an overscan that are read for its noise, evenly spread."""
_FRAMES = 16
"""Frames of a series that are read for it."""
_OUTLIER_SIGMAS: Final = 5.0
_EVEN_SAMPLES: Final = 1.3
"""The variance of a median of an even number n of normal samples is that of their mean times pi / 2 x n / (n + 1.3)."""


@dataclass(frozen=True, kw_only=True)
class OverscanFacts:
    """What the overscan of a series says."""

    level_adu: float = 0.0
    """Median of the levels that are subtracted."""
    variance_adu2: float = math.nan
    """Variance of its samples within a line, rounding included; NaN where one frame or one sample says nothing."""
    added_variance_adu2: float = 0.0
    """What the noise of the levels adds to the variance of the samples they are subtracted from."""


def samples_and_words(stack: FrameStack, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Read rows as they are combined, and as the converter gave them; ``None`` where these are not known.

    Of samples without overscan both are the same array. Both are (n_frames, stop - start, width) in ADU.
    """
    if isinstance(stack, TrimmedStack):
        samples = read_adu(stack, start, stop)
        return samples, stack.read_words(start, stop) if stack.stack.encoding.is_integer else None
    if isinstance(stack, ConcatenatedStack) and any(isinstance(part, TrimmedStack) for part in stack.parts):
        parts = [samples_and_words(part, start, stop) for part in stack.parts]
        words = [words for _, words in parts if words is not None]
        joined = np.concatenate(words) if len(words) == len(parts) else None
        return np.concatenate([samples for samples, _ in parts]), joined
    samples = _in_place(stack, start, stop)
    return samples, samples if stack.encoding.is_integer else None


def words_end_adu(stack: FrameStack) -> float | None:
    """Return the highest value that a sample of the converter can hold; ``None`` for floats."""
    ends = {part.stack.encoding.full_scale_adu for part in _trimmed_parts(stack)}
    if ends:
        return ends.pop() if len(ends) == 1 else None
    return stack.encoding.full_scale_adu


def overscan_facts(stack: FrameStack) -> OverscanFacts:
    """Measure level and noise of the overscan of a series, in some lines of some frames."""
    parts = [part for part in _trimmed_parts(stack) if any(a.overscan is not None for a in part.readout.amplifiers)]
    found = [facts for part in parts if (facts := _facts_of(part)) is not None]
    if not found:
        return OverscanFacts()
    columns = [[one.level_adu, one.variance_adu2, one.added_variance_adu2] for one in found]
    level, variance, added = np.median(columns, axis=0)
    return OverscanFacts(level_adu=float(level), variance_adu2=float(variance), added_variance_adu2=float(added))


def _trimmed_parts(stack: FrameStack) -> list[TrimmedStack]:
    parts: Sequence[FrameStack] = stack.parts if isinstance(stack, ConcatenatedStack) else (stack,)
    return [part for part in parts if isinstance(part, TrimmedStack)]


def _in_place(stack: FrameStack, start: int, stop: int) -> NDArray[Any]:
    n, _, width = stack.shape
    block = np.empty((n, stop - start, width), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    samples, zero_adu = stack.encoding.plain(block, in_place=True)
    return samples.astype(np.int32) + np.int32(zero_adu) if zero_adu else samples


def _facts_of(stack: TrimmedStack) -> OverscanFacts | None:
    """Measure the overscans of a stack; of several amplifiers their median."""
    method, n = stack.readout.method, stack.shape[0]
    raw = stack.stack.select(sorted({i * n // min(n, _FRAMES) for i in range(min(n, _FRAMES))}))
    values = []
    for amplifier in stack.readout.amplifiers:
        overscan = amplifier.overscan
        if overscan is None:
            continue
        is_beside = amplifier.axis == "rows"
        chosen = _evenly(overscan.bottom, overscan.top) if is_beside else range(overscan.bottom, overscan.top)
        rows = np.concatenate([read_adu(raw, row, row + 1) for row in chosen], axis=1).astype(np.float64)
        lines = rows[:, :, overscan.left : overscan.right]
        if not is_beside:
            lines = lines.transpose(0, 2, 1)[:, _evenly(0, overscan.width)]
        finite = lines[np.isfinite(lines)]
        if not finite.size:
            continue
        variance, samples = _variance_within_lines(lines[:, np.isfinite(lines).all(axis=(0, 2))]), lines.shape[2]
        known = math.isfinite(variance) and method.fit == "none"
        added = (
            variance / samples * median_variance_factor(samples, is_median=method.level == "median") if known else 0.0
        )
        values.append((float(np.median(finite)), variance, added))
    if not values:
        return None
    level, variance, added = np.median(np.array(values), axis=0)
    return OverscanFacts(level_adu=float(level), variance_adu2=float(variance), added_variance_adu2=float(added))


def _evenly(first: int, last: int) -> list[int]:
    count = min(_LINES, last - first)
    return [first + i * (last - first) // count for i in range(count)]


def _variance_within_lines(lines: NDArray[np.float64]) -> float:
    """Return the variance of a sample from the differences of frames, (n, lines, samples), less the mean of each line.

    What every frame has, such as charge that trails behind the last column, cancels; what is far off is left out.
    """
    if len(lines) < 2 or not lines.shape[1] or lines.shape[2] < 2:
        return math.nan
    differences = np.diff(lines, axis=0)
    differences -= differences.mean(axis=2, keepdims=True)
    usual = float(np.median(np.abs(differences))) * 1.4826
    kept = np.abs(differences) <= _OUTLIER_SIGMAS * max(usual, 1.0)
    freedom = np.count_nonzero(kept) * (1 - 1 / lines.shape[2])
    return float(np.sum(np.square(differences), where=kept)) / (2 * freedom) if freedom else math.nan


def median_variance_factor(samples: int, *, is_median: bool) -> float:
    """Return the variance of a median of so many normal samples over that of their mean; 1 for a mean."""
    if not is_median or samples < 3:
        return 1.0
    return math.pi / 2 * samples / (samples + (math.pi / 2 - 1 if samples % 2 else _EVEN_SAMPLES))
