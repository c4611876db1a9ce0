"""Which bias frames belong together: their level hardly depends on the temperature, and set points may jitter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_ROUNDING_C = 1e-6
_LEAST_RUNS = 4
"""Two sets that follow each other in time are 2 runs, also where each was taken in two nights: 4."""


def bias_clusters(temperatures_c: Sequence[float], *, near_c: float, widest_c: float) -> list[list[int]]:
    """Split bias frames, in the order of time, into groups by their temperatures; return their indices.

    Temperatures that follow each other within `near_c` are one group, as those of a sensor that warms up are, and so
    are temperatures that alternate in time, as those of a set point that jitters do. No group is wider than
    `widest_c`. Two sets that were taken apart on purpose, at -10 and at -20 C, stay apart.
    """
    order = sorted(range(len(temperatures_c)), key=lambda index: (temperatures_c[index], index))
    clusters: list[list[int]] = []
    for index in order:
        value = temperatures_c[index]
        last = clusters[-1] if clusters else []
        is_near = bool(last) and value - temperatures_c[last[-1]] <= near_c + _ROUNDING_C
        if is_near and value - temperatures_c[last[0]] <= max(near_c, widest_c) + _ROUNDING_C:
            last.append(index)
        else:
            clusters.append([index])
    merged: list[list[int]] = []
    for cluster in clusters:
        if merged:
            width_c = temperatures_c[cluster[-1]] - temperatures_c[merged[-1][0]]
            if width_c <= widest_c + _ROUNDING_C and _alternate(merged[-1], cluster):
                merged[-1] += cluster
                continue
        merged.append(cluster)
    return merged


def _alternate(a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether frames of two groups were taken by turns, not one set after the other."""
    first = set(a)
    runs = 1 + sum((x in first) != (y in first) for x, y in pairwise(sorted((*a, *b))))
    return runs >= max(_LEAST_RUNS, (len(a) + len(b)) / 3)
