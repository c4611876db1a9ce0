"""Levels of an image: equal to numpy in float64, per colour, and the same however many rows are read at once."""

from __future__ import annotations

import itertools
import math
from random import Random
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import naive
from ostcal.engine.levels import colour_planes, divide_by_levels, measure_levels
from ostcal.engine.tiling import WHOLE_ROWS
from ostcal.errors import CombineError
from ostcal.vocabulary import NormalizationMethod
from support.fits_samples import row_reader

METHODS: tuple[NormalizationMethod, ...] = get_args(NormalizationMethod)
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


@st.composite
def images(draw: st.DrawFn, bound: float = 1e6) -> NDArray[np.float32]:
    """Draw an image of a few values (full of ties) or of any, some of them negative, some not finite."""
    shape = (draw(st.sampled_from([1, 2, 3, WHOLE_ROWS - 1, WHOLE_ROWS, WHOLE_ROWS + 3])), draw(st.integers(1, 5)))
    values = draw(st.sampled_from([st.sampled_from([-2.5, -0.0, 0.0, 7.0, 7.5]), st.floats(-bound, bound, width=32)]))
    image = draw(npst.arrays(np.float32, shape, elements=values))
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        image[y, x] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return image


def level_of(image: NDArray[np.float32], method: NormalizationMethod) -> float:
    """Measure a monochrome image; a level that cannot be divided by is NaN."""
    try:
        return measure_levels(row_reader(image), image.shape[0], method, None)[""]
    except CombineError:
        return math.nan


def usable(level: float) -> float:
    return level if level > 0 else math.nan


@given(images())
def test_the_median_is_exact(image: NDArray[np.float32]) -> None:
    finite = image[np.isfinite(image)].astype(np.float64)
    expected = usable(float(np.median(finite))) if finite.size else math.nan
    assert level_of(image, "median") == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@given(images())
def test_the_maximum_is_exact(image: NDArray[np.float32]) -> None:
    expected = usable(float(np.max(image, initial=-np.inf, where=np.isfinite(image))))
    assert level_of(image, "max") == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@given(images())
def test_the_mean_is_that_of_numpy(image: NDArray[np.float32]) -> None:
    finite = image[np.isfinite(image)].astype(np.float64)
    scale = float(np.abs(finite).max(initial=0.0))
    got = level_of(image, "mean")
    expected = float(finite.mean()) if finite.size else math.nan
    if math.isnan(got):
        assert not expected > scale * 1e-12
    else:
        assert got == pytest.approx(expected, rel=1e-12, abs=scale * 1e-12)


@given(images(bound=1000.0), st.sampled_from(METHODS), st.sampled_from((None, *PATTERNS)))
def test_levels_and_quotients_equal_the_reference(
    image: NDArray[np.float32], method: NormalizationMethod, pattern: str | None
) -> None:
    finite = np.where(np.isfinite(image), np.abs(image), np.float32(1.0)) + np.float32(0.5)
    padded = np.pad(finite, ((0, 1), (0, 1)), mode="edge")  # every colour has a pixel
    levels = measure_levels(row_reader(padded), padded.shape[0], method, pattern)
    expected = naive.normalized(padded, method, pattern)
    np.testing.assert_allclose(divide_by_levels(padded, 0, levels, pattern), expected, rtol=1.2e-7)
    if method != "mean":
        assert np.array_equal(divide_by_levels(padded, 0, levels, pattern), expected)


@given(st.sampled_from((None, *PATTERNS)), st.integers(1, 40), st.randoms(use_true_random=False))
def test_strips_divided_one_by_one_are_the_image_divided(pattern: str | None, height: int, random: Random) -> None:
    image = np.random.default_rng(height).uniform(1.0, 2.0, (height, 7)).astype(np.float32)
    levels = {"": 1.7, "R": 1.1, "G": 1.3, "B": 0.7}
    cuts = sorted({0, height, *(random.randrange(height) for _ in range(3))})
    strips = [divide_by_levels(image[start:stop], start, levels, pattern) for start, stop in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(strips), divide_by_levels(image, 0, levels, pattern))
    assert strips[0].dtype == np.float32


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (2 * WHOLE_ROWS + 5, 3)])
def test_each_colour_has_the_level_of_its_own_pixels(
    pattern: str, method: NormalizationMethod, shape: tuple[int, int]
) -> None:
    image = np.random.default_rng(5).uniform(100.0, 200.0, shape).astype(np.float32)
    levels = measure_levels(row_reader(image), shape[0], method, pattern)
    assert set(levels) == {"R", "G", "B"}
    cell = np.array(list(pattern)).reshape(2, 2)
    colours = cell[np.arange(shape[0])[:, None] % 2, np.arange(shape[1])[None, :] % 2]
    for colour, level in levels.items():
        own = image[colours == colour].astype(np.float64)
        expected = {"mean": np.mean, "median": np.median, "max": np.max}[method](own)
        assert level == pytest.approx(float(expected), rel=1e-14)


def test_both_greens_are_one_colour() -> None:
    assert colour_planes("RGGB") == {"R": [(0, 0)], "G": [(0, 1), (1, 0)], "B": [(1, 1)]}
    assert colour_planes(None) == {"": []}


def test_colours_become_one_level_after_division() -> None:
    image = np.ones((2 * WHOLE_ROWS + 2, 6), np.float32)
    image[0::2, 0::2], image[1::2, 1::2] = 3.0, 0.25
    levels = measure_levels(row_reader(image), image.shape[0], "median", "RGGB")
    assert np.array_equal(divide_by_levels(image, 0, levels, "RGGB"), np.ones_like(image))


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0, 4.0), (5.0,), (-3.0, 8.0), (2.0, 2.0, 2.0), (1.0, 1e30)])
def test_even_and_odd_counts_ties_and_far_values(values: tuple[float, ...]) -> None:
    image = np.array([values], np.float32)
    assert level_of(image, "median") == float(np.median(image.astype(np.float64)))


def test_neighbouring_floats_are_told_apart() -> None:
    base = np.float32(1000.0)
    values = [base]
    for _ in range(70000):  # more values than one histogram has bins
        values.append(np.nextafter(values[-1], np.float32(np.inf)))
    image = np.random.default_rng(2).permutation(np.array(values, np.float32)).reshape(1, -1)
    assert level_of(image, "median") == float(values[35000])


@pytest.mark.parametrize("method", METHODS)
def test_bad_pixels_do_not_count(method: NormalizationMethod) -> None:
    image = np.array([[1.0, np.nan, 3.0], [np.inf, -np.inf, 2.0]], np.float32)
    assert level_of(image, method) == {"mean": 2.0, "median": 2.0, "max": 3.0}[method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, -5.0, np.nan, -np.inf, np.inf])
def test_a_level_that_cannot_be_divided_by_is_an_error(method: NormalizationMethod, value: float) -> None:
    image = np.full((3, 4), value, np.float32)
    with pytest.raises(CombineError, match=f"the {method} level .* must be above zero"):
        measure_levels(row_reader(image), 3, method, None)


def test_the_error_names_the_colour_without_light() -> None:
    image = np.ones((4, 4), np.float32)
    image[1::2, 1::2] = 0.0
    with pytest.raises(CombineError, match=r"level 0 ADU in B:"):
        measure_levels(row_reader(image), 4, "mean", "RGGB")


def test_bad_pixels_stay_bad_after_division() -> None:
    rows = np.array([[np.nan, 2.0]], np.float32)
    divided = divide_by_levels(rows, 0, {"": 2.0}, None)
    assert np.isnan(divided[0, 0])
    assert divided[0, 1] == 1.0
