"""The compiled loops over the samples of a survey, for `ostcal.measure.frames.survey_block`.

numpy goes through a unit of 40 frames, 1.5 MB, fifteen times; these go through it three times. Sums are float32 in many
lanes: of the 10,000 samples of a frame in a unit, less a level near theirs, they keep six digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ostcal.compiling import summing_door


@summing_door
def centre_frames(values: Any, centre: Any, sums: Any, squares: Any) -> None:
    """Subtract a level from all samples, in place, and sum what is left and its squares.

    Parameters
    ----------
    values : (n, pixels) float32
    centre : float32
    sums, squares : (n,) float64
        Out, for each frame.
    """
    for i in range(values.shape[0]):
        row = values[i]
        total, square = np.float32(0), np.float32(0)
        for x in range(np.uint64(row.shape[0])):
            value = row[x] - centre
            row[x] = value
            total += value
            square += value * value
        sums[i], squares[i] = total, square


@summing_door
def compare_frames(
    values: Any, typical: Any, scale: Any, shift: Any, limit: Any, sums: Any, squares: Any, outlying: Any
) -> None:
    """Subtract the typical frame from all frames, in place, and sum what is left, clipped at a limit, and its squares.

    Parameters
    ----------
    values : (n, pixels) float32
    typical : (pixels,) float32
    scale, shift, limit : (n,) float32
        ``scale * typical + shift`` is subtracted from a frame.
    sums, squares : (n,) float64
        Out, for each frame.
    outlying : (n,) int64
        Out: samples beyond the limit.
    """
    for i in range(values.shape[0]):
        row = values[i]
        times, plus, most = scale[i], shift[i], limit[i]
        total, square, beyond = np.float32(0), np.float32(0), np.uint32(0)
        for x in range(np.uint64(row.shape[0])):
            value = row[x] - typical[x] * times - plus
            row[x] = value
            beyond += np.uint32(abs(value) > most)
            value = value if value >= -most else -most
            value = value if value <= most else most
            total += value
            square += value * value
        sums[i], squares[i], outlying[i] = total, square, beyond


@summing_door
def compare_pairs(values: Any, first: Any, weight: Any, limit: Any, sums: Any, squares: Any, kept: Any) -> None:
    """Sum the differences of pairs of frames that are within a limit, and their squares.

    Parameters
    ----------
    values : (n, pixels) float32
    first : (pairs,) int64
        Frames i of pairs (i, i + 1).
    weight, limit : (pairs,) float32
        A difference is ``weight * second - first / weight``.
    sums, squares : (pairs,) float64
        Out.
    kept : (pairs,) int64
        Out: differences within the limit.
    """
    for pair in range(first.shape[0]):
        one, other = values[first[pair]], values[first[pair] + 1]
        times, most = weight[pair], limit[pair]
        inverse = np.float32(1) / times
        total, square, count = np.float32(0), np.float32(0), np.uint32(0)
        for x in range(np.uint64(one.shape[0])):
            value = other[x] * times - one[x] * inverse
            within = abs(value) <= most
            value = value if within else np.float32(0)
            count += np.uint32(within)
            total += value
            square += value * value
        sums[pair], squares[pair], kept[pair] = total, square, count
