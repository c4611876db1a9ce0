"""The compiled loops of a survey, against what they say in numpy with float64."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.measure.frames.survey_kernels import centre_frames, compare_frames, compare_pairs

sizes = st.tuples(st.integers(1, 6), st.integers(1, 700), st.integers(0, 2**32))


def frames(rng: np.random.Generator, n: int, pixels: int) -> NDArray[np.float32]:
    """Make small whole numbers: sums of them and of their squares are exact in any order."""
    return rng.integers(-40, 40, (n, pixels)).astype(np.float32)


@given(sizes)
def test_centred_frames_and_their_sums(size: tuple[int, int, int]) -> None:
    n, pixels, seed = size
    values = frames(np.random.default_rng(seed), n, pixels)
    expected = values.astype(np.float64) - 7
    sums, squares = np.empty((2, n))
    centre_frames(values, np.float32(7), sums, squares)
    assert np.array_equal(values, expected)
    assert np.array_equal(sums, expected.sum(axis=1))
    assert np.array_equal(squares, (expected**2).sum(axis=1))


@given(sizes)
def test_frames_less_the_typical_one(size: tuple[int, int, int]) -> None:
    n, pixels, seed = size
    rng = np.random.default_rng(seed)
    values, typical = frames(rng, n, pixels), frames(rng, 1, pixels)[0]
    scale = rng.choice([0.5, 1, 2], n).astype(np.float32)
    shift, limit = rng.integers(-5, 5, n).astype(np.float32), rng.integers(1, 60, n).astype(np.float32)
    expected = values.astype(np.float64) - typical * scale[:, None].astype(np.float64) - shift[:, None]
    sums, squares = np.empty((2, n))
    outlying = np.empty(n, np.int64)
    compare_frames(values, typical, scale, shift, limit, sums, squares, outlying)
    assert np.array_equal(values, expected)
    clipped = np.clip(expected, -limit[:, None], limit[:, None])
    assert np.array_equal(sums, clipped.sum(axis=1))
    assert np.array_equal(squares, (clipped**2).sum(axis=1))
    assert np.array_equal(outlying, (np.abs(expected) > limit[:, None]).sum(axis=1))


@given(sizes)
def test_differences_of_pairs(size: tuple[int, int, int]) -> None:
    n, pixels, seed = size
    rng = np.random.default_rng(seed)
    values = frames(rng, n + 1, pixels)
    first = np.arange(n)[:: rng.integers(1, 3)]
    weight = rng.choice([0.5, 1, 2], len(first)).astype(np.float32)
    limit = rng.integers(1, 90, len(first)).astype(np.float32)
    sums, squares = np.empty((2, len(first)))
    kept = np.empty(len(first), np.int64)
    compare_pairs(values, first, weight, limit, sums, squares, kept)
    for pair, i in enumerate(first):
        difference = values[i + 1].astype(np.float64) * weight[pair] - values[i].astype(np.float64) / weight[pair]
        within = np.abs(difference) <= limit[pair]
        assert kept[pair] == within.sum()
        assert sums[pair] == difference[within].sum()
        assert squares[pair] == (difference[within] ** 2).sum()
