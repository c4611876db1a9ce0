"""The compiled loops over a master, against what they say in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.measure.masters.scan_kernels import CELL, clipped_sums, excess_of, find_unusual

FloatMap = NDArray[np.float32]


def mirrored_columns(width: int, padded: int) -> NDArray[np.int64]:
    period = max(1, 2 * (width - 1))
    columns = [x % period if x % period < width else period - x % period for x in range(padded)]
    return np.array(columns if width > 1 else [0] * padded)


def with_gaps(rng: np.random.Generator, shape: tuple[int, int]) -> FloatMap:
    """Make whole numbers, some of which are none: sums of them are exact in any order."""
    rows = rng.integers(-50, 50, shape).astype(np.float32)
    rows[rng.random(shape) < 0.05] = np.nan
    rows[rng.random(shape) < 0.02] = np.inf
    return rows


def by_parity(rng: np.random.Generator, low: int, high: int, padded: int) -> FloatMap:
    return rng.integers(low, high, (2, padded)).astype(np.float32)


sizes = st.tuples(st.integers(1, 20), st.integers(1, 3 * CELL), st.integers(0, 2**32))


@given(sizes)
def test_clipped_sums_are_those_of_clipped_rows(size: tuple[int, int, int]) -> None:
    height, width, seed = size
    rng = np.random.default_rng(seed)
    n_cells = -(-width // CELL)
    padded = n_cells * CELL
    rows, mirrored = with_gaps(rng, (height, width)), mirrored_columns(width, padded)
    low, high, level = by_parity(rng, -40, -10, padded), by_parity(rng, 10, 40, padded), by_parity(rng, -9, 9, padded)
    cuts = np.sort(rng.integers(0, height + 1, 5))
    means, sums = np.full((height, n_cells), -1, np.float32), np.full((4, padded), -1, np.float32)
    clipped_sums(rows, mirrored, low, high, level, cuts, means, sums)

    expected = np.zeros((height, padded))
    for y in range(height):
        for x in range(width):
            value = float(rows[y, x]) if math.isfinite(rows[y, x]) else float(level[y % 2, x])
            expected[y, x] = min(max(value, float(low[y % 2, x])), float(high[y % 2, x]))
        expected[y, width:] = expected[y, mirrored[width:]]
    np.testing.assert_array_equal(means, expected.reshape(height, n_cells, CELL).mean(axis=2).astype(np.float32))
    for piece in range(4):
        np.testing.assert_array_equal(sums[piece], expected[cuts[piece] : cuts[piece + 1]].sum(axis=0))


def test_a_cell_without_a_level_has_no_mean() -> None:
    rows = np.ones((3, CELL), np.float32)
    nothing = np.full((2, CELL), np.nan, np.float32)
    means, sums = np.zeros((3, 1), np.float32), np.zeros((4, CELL), np.float32)
    clipped_sums(rows, np.arange(CELL), nothing, nothing, nothing, np.array([0, 1, 2, 2, 3]), means, sums)
    assert np.isnan(means).all()


@given(sizes)
def test_unusual_pixels_are_those_beyond_any_limit(size: tuple[int, int, int]) -> None:
    height, width, seed = size
    rng = np.random.default_rng(seed)
    n_cells = -(-width // CELL)
    padded = n_cells * CELL
    master, std = with_gaps(rng, (height, width)), with_gaps(rng, (height, width))
    n_used = rng.integers(0, 40, (height, width)).astype(np.uint16)
    segments = rng.integers(-3, 3, (height, n_cells)).astype(np.float32)
    low, high = by_parity(rng, -55, -40, padded), by_parity(rng, 40, 55, padded)
    quietest, loudest = by_parity(rng, -55, -40, padded), by_parity(rng, 40, 55, padded)
    fewest = rng.integers(0, 3, padded).astype(np.uint16)
    ceiling = np.float32(rng.choice([45, np.inf]))
    places = np.full(height * width, -1, np.int64)
    found = find_unusual(master, std, n_used, segments, low, high, quietest, loudest, fewest, ceiling, places)

    def is_usual(y: int, x: int) -> bool:
        odd = y % 2
        return bool(
            low[odd, x] <= master[y, x] - segments[y, x // CELL] <= high[odd, x]
            and master[y, x] < ceiling
            and quietest[odd, x] <= std[y, x] <= loudest[odd, x]
            and n_used[y, x] >= fewest[x]
        )

    expected = [y * width + x for y in range(height) for x in range(width) if not is_usual(y, x)]
    assert list(places[:found]) == expected


@pytest.mark.parametrize("distance", [1, 2])
@given(size=sizes)
def test_excess_is_above_the_median_of_eight_neighbours(distance: int, size: tuple[int, int, int]) -> None:
    height, width, seed = size
    rng = np.random.default_rng(seed)
    n_cells = -(-width // CELL)
    rows = with_gaps(rng, (height, width))
    segments = rng.integers(-3, 3, (height, n_cells)).astype(np.float32)
    columns = rng.integers(-3, 3, n_cells * CELL).astype(np.float32)
    level = by_parity(rng, -9, 9, n_cells * CELL)
    y, x = (positions.ravel() for positions in np.indices((height, width)))
    excess = np.full(height * width, np.nan, np.float32)
    excess_of(rows, segments, columns, level, distance, y, x, excess)

    def even(y: int, x: int) -> float:
        value = rows[y, x] if math.isfinite(rows[y, x]) else level[y % 2, x]
        return float(value - segments[y, x // CELL] - columns[x])

    def mirror(index: int, n: int) -> int:
        index = abs(index)
        return min(max(2 * (n - 1) - index if index >= n else index, 0), n - 1)

    steps: list[Any] = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
    for i in range(0, len(y), 7):
        beside = [
            even(mirror(y[i] + distance * down, height), mirror(x[i] + distance * right, width))
            for down, right in steps
        ]
        assert excess[i] == even(y[i], x[i]) - np.median(beside)
