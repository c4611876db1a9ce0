"""Pictures for reports: limits of brightness, fewer pixels, grey values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.visualization import ZScaleInterval
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.measure.pictures import RowReader, block_side, downsample, grey_image, zscale_limits


def reader(plane: NDArray[Any]) -> RowReader:
    return lambda start, stop: plane[start:stop]


def sky(seed: int, stars: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    image = rng.normal(1000, 12, (200, 250)) + np.linspace(0, 20, 250)
    image.ravel()[rng.choice(image.size, stars, replace=False)] += rng.exponential(4000, stars)
    return image.astype(np.float32)


@pytest.mark.parametrize("stars", [0, 500, 3000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_limits_are_those_of_the_zscale_of_astropy(seed: int, stars: int) -> None:
    image = sky(seed, stars)
    ours = zscale_limits(image, samples=5000)
    theirs = ZScaleInterval(n_samples=5000, max_iterations=5).get_limits(image)
    assert ours == pytest.approx(theirs, abs=0.05 * float(theirs[1] - theirs[0]))


def test_limits_of_a_plane_of_one_value_are_not_equal() -> None:
    low, high = zscale_limits(np.full((10, 10), 7.0))
    assert low < 7.0 < high
    assert zscale_limits(np.full((3, 3), np.nan)) == (0.0, 1.0)
    assert zscale_limits(np.array([1.0, 2.0])) == (1.0, 2.0)


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    max_width=st.integers(1, 70),
    bayer=st.booleans(),
    strip_rows=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_blocks_are_means_and_maxima(
    shape: tuple[int, int], max_width: int, bayer: bool, strip_rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.normal(0, 1, shape).astype(np.float32)
    plane[rng.random(shape) < 0.05] = np.nan
    side = block_side(shape[1], max_width, bayer=bayer)
    for bins, of in (("mean", np.mean), ("max", np.max)):
        made = downsample(reader(plane), shape, max_width, bayer=bayer, bins=bins, strip_rows=strip_rows)  # type: ignore[arg-type]
        assert made.shape[1] <= max_width
        for row in range(made.shape[0]):
            for column in range(made.shape[1]):
                block = plane[row * side : (row + 1) * side, column * side : (column + 1) * side]
                values = block[np.isfinite(block)]
                expected = of(values.astype(np.float64)) if values.size else np.nan
                assert made[row, column] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_colours_do_not_show_in_a_small_picture() -> None:
    plane = np.tile(np.array([[0.5, 1.0], [1.0, 0.65]], dtype=np.float32), (45, 75))
    made = downsample(reader(plane), plane.shape, 50, bayer=True)
    np.testing.assert_allclose(made, 0.7875, rtol=1e-6)


def test_one_hot_pixel_is_seen_in_the_maxima() -> None:
    flags = np.zeros((1000, 1500), dtype=np.uint8)
    flags[777, 333] = 1
    made = downsample(reader(flags), flags.shape, 100, bins="max")
    assert np.argwhere(made).tolist() == [[777 // 15, 333 // 15]]


def test_only_strips_are_read() -> None:
    heights = []

    def read_rows(start: int, stop: int) -> NDArray[np.float32]:
        heights.append(stop - start)
        return np.ones((stop - start, 900), dtype=np.float32)

    assert downsample(read_rows, (5000, 900), 300).shape == (1667, 300)
    assert max(heights) <= 128
    assert sum(heights) == 5000


def test_grey_values_span_the_limits() -> None:
    values = np.array([[-5.0, 0.0, 5.0], [10.0, 20.0, np.nan]])
    assert grey_image(values, (0.0, 10.0)).tolist() == [[0, 0, 128], [255, 255, 0]]
    assert grey_image(np.array([[np.inf, -np.inf]]), (0.0, 1.0)).tolist() == [[255, 0]]
    assert grey_image(sky(1, 0)).dtype == np.uint8
