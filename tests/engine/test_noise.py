"""The noise of a series: equal to the reference, the same for every order, deaf to stars."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import naive
from ostcal.engine.noise import CELL_PIXELS, SAMPLED_ROWS, merge_cells, noise_rows, row_cells
from ostcal.engine.rejection import SeriesNoise
from support import strategies
from support.amounts import amount


def measured(stack: NDArray[np.generic]) -> SeriesNoise:
    """Measure a stack of ADU (n_frames, height, width)."""
    return merge_cells(row_cells(stack[:, y, :]) for y in noise_rows(stack.shape[1]))


def quiet_stack(n: int = 10, height: int = 40, width: int = 640, noise: float = 3.5) -> NDArray[np.int32]:
    """Return whole ADU of a known noise about a pattern."""
    generator = np.random.default_rng(11)
    pattern = generator.normal(1000.0, 20.0, (height, width))
    return np.rint(pattern + generator.normal(0.0, noise, (n, height, width))).astype(np.int32)


@st.composite
def wide_stacks(draw: st.DrawFn) -> NDArray[np.int32]:
    """Draw whole ADU in several cells of several rows: an image of few values or of any."""
    width = draw(st.integers(1, 3 * CELL_PIXELS + 5) | st.sampled_from([64, 77, 130, 171]))
    highest = draw(st.sampled_from([1, 4, 65535]))
    base = draw(st.sampled_from([0, -32768]))
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 3)), width)
    return draw(npst.arrays(np.int32, shape, elements=st.integers(0, highest), fill=st.nothing())) + np.int32(base)


@given(wide_stacks())
@settings(max_examples=amount(60))
def test_integers_equal_the_reference(stack: NDArray[np.int32]) -> None:
    expected = naive.series_noise(stack)
    assert measured(stack) == SeriesNoise(noise_adu=expected.noise_adu, step_adu=expected.step_adu)


@given(wide_stacks(), st.sampled_from(["float32", "float64"]), st.sampled_from([1.0, 1 / 3, 1.0037]), st.data())
@settings(max_examples=amount(60))
def test_floats_equal_the_reference(stack: NDArray[np.int32], dtype: str, scale: float, data: st.DataObject) -> None:
    floats = (stack * scale).astype(dtype)
    for _ in range(data.draw(st.integers(0, 2))):
        index = tuple(data.draw(st.integers(0, size - 1)) for size in floats.shape)
        floats[index] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    expected = naive.series_noise(floats)
    assert measured(floats) == SeriesNoise(noise_adu=expected.noise_adu, step_adu=expected.step_adu)


@given(wide_stacks(), st.sampled_from([1.0, 1 / 3]), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_change_a_bit(stack: NDArray[np.int32], scale: float, random: Random) -> None:
    order = list(range(len(stack)))
    random.shuffle(order)
    assert measured(stack[order]) == measured(stack)
    floats = (stack * scale).astype(np.float32)
    assert measured(floats[order]) == measured(floats)


@given(wide_stacks(), st.sampled_from(["float32", "float64"]))
def test_whole_numbers_give_the_same_as_floats_and_as_integers(stack: NDArray[np.int32], dtype: str) -> None:
    assert measured(stack.astype(dtype)) == measured(stack)


@given(wide_stacks(), st.sampled_from(sorted(strategies.INTEGER_ENCODINGS)))
def test_every_encoding_gives_the_same(stack: NDArray[np.int32], name: str) -> None:
    encoding = strategies.INTEGER_ENCODINGS[name]
    adu = stack - stack.min() + np.int32(encoding.zero_adu)
    assert measured(encoding.decode(strategies.encode(adu, encoding))) == measured(stack)


@given(wide_stacks(), st.integers(-1000, 1000))
def test_a_pattern_and_a_level_do_not_change_it(stack: NDArray[np.int32], level: int) -> None:
    pattern = np.arange(stack.shape[2], dtype=np.int32) * 7 + np.int32(level)
    assert measured(stack + pattern) == measured(stack)


@pytest.mark.parametrize("shared_over", [2, 4, 8])
def test_noise_that_neighbouring_pixels_share_is_noise(shared_over: int) -> None:
    generator = np.random.default_rng(23)
    shared = np.repeat(generator.normal(0.0, 8.0, (10, 40, 640 // shared_over)), shared_over, axis=2)
    stack = np.rint(1000 + shared + generator.normal(0.0, 6.0, shared.shape)).astype(np.int32)
    # the median over cells lies lower, as cells hold few independent samples; without levels of blocks it was 6
    assert 9.0 < measured(stack).noise_adu < 10.2


@pytest.mark.parametrize("noise", [0.5, 0.8, 1.2, 3.5, 11.5])
def test_measured_noise_is_the_true_one_with_its_quantisation(noise: float) -> None:
    stack = quiet_stack(n=20, noise=noise)
    # 2560 cells of 8 pixels and 20 frames: the median of their variances is known to 0.3 %
    # and lies 0.5 % below the mean (152 degrees of freedom).
    assert measured(stack).noise_adu == pytest.approx(math.sqrt(noise**2 + 1 / 12), rel=0.01)


def test_stars_in_a_tenth_of_the_cells_change_next_to_nothing() -> None:
    stack = quiet_stack()
    before = measured(stack).noise_adu
    generator = np.random.default_rng(3)
    cells = stack.shape[1] * (stack.shape[2] // CELL_PIXELS)
    for cell in generator.choice(cells, cells // 10, replace=False):
        y, x = divmod(int(cell), stack.shape[2] // CELL_PIXELS)
        stack[int(generator.integers(len(stack))), y, x * CELL_PIXELS + int(generator.integers(CELL_PIXELS))] = 60000
    assert measured(stack).noise_adu == pytest.approx(before, rel=0.03)


def test_hot_rows_and_dead_columns_change_next_to_nothing() -> None:
    stack = quiet_stack()
    before = measured(stack).noise_adu
    stack[:, :2] = np.random.default_rng(4).integers(0, 65535, stack[:, :2].shape)
    stack[:, :, :20] = 0
    assert measured(stack).noise_adu == pytest.approx(before, rel=0.03)


def test_cells_with_a_sample_that_is_not_finite_are_left_out() -> None:
    stack = quiet_stack().astype(np.float32)
    before = measured(stack)
    stack[3, 5, : 10 * CELL_PIXELS] = np.nan
    after = measured(stack)
    assert after.step_adu == before.step_adu == 1.0
    assert after.noise_adu == pytest.approx(before.noise_adu, rel=0.01)
    stack[0] = np.nan
    assert measured(stack) == SeriesNoise(noise_adu=0.0, step_adu=1.0)


def test_the_step_is_one_for_whole_numbers_and_zero_for_others() -> None:
    whole = quiet_stack(n=3)
    assert measured(whole).step_adu == 1.0
    assert measured(whole.astype(np.float32)).step_adu == 1.0
    assert measured(whole.astype(np.float64) - 40000.0).step_adu == 1.0
    broken = whole.astype(np.float32)
    broken[1, 7, 9] += 0.5  # one sample of one measured row says that the data are no whole numbers
    assert measured(broken).step_adu == 0.0


@pytest.mark.parametrize("n", [1, 2])
def test_frames_that_say_nothing_of_noise_give_zero(n: int) -> None:
    assert measured(np.full((n, 4, 70), 513, np.int32)) == SeriesNoise(noise_adu=0.0, step_adu=1.0)


def test_rows_wider_than_one_batch_of_columns_are_measured_whole() -> None:
    stack = quiet_stack(n=3, height=2, width=5000)
    cells = row_cells(stack[:, 0, :])
    assert len(cells.variances_adu2) == 5000 // CELL_PIXELS
    # of three frames all pairs are compared, so that the parts of a row, whole blocks, are measured as the row is
    parts = [row_cells(stack[:, 0, first : first + 1024]).variances_adu2 for first in range(0, 5000, 1024)]
    assert np.array_equal(np.sort(cells.variances_adu2), np.sort(np.concatenate(parts)))


def test_samples_over_the_whole_range_do_not_overflow() -> None:
    stack = np.random.default_rng(5).integers(0, 2, (1000, 64, 320), dtype=np.int32) * 65535
    assert measured(stack).noise_adu == pytest.approx(65535 / 2, rel=0.01)


# ---- frames unlike the others ----


def outliers(stack: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    """Give what one frame may be that is unlike the others."""
    generator = np.random.default_rng(17)
    _, height, width = stack.shape
    usual = stack[0]
    ramp = np.linspace(-3000, 3000, width)
    return {
        "another level": usual + 3000,
        "below the others": usual - 900,
        "a slope": np.rint(usual + ramp).astype(np.int32),
        "one half brighter, one darker": np.rint(usual + 3000 * np.sign(ramp)).astype(np.int32),
        "far noisier": np.rint(usual + generator.normal(0, 500, usual.shape)).astype(np.int32),
        "another row bright": usual + 2000 * (np.arange(height, dtype=np.int32)[:, np.newaxis] % 2),
        "saturated": np.full_like(usual, 65535),
    }


@pytest.mark.parametrize("n", [3, 4, 5, 7, 8, 9, 12, 30])
@pytest.mark.parametrize("name", list(outliers(quiet_stack(n=1))))
def test_a_frame_unlike_the_others_does_not_raise_the_noise(n: int, name: str) -> None:
    stack = quiet_stack(n=n)
    stack[n // 2] = outliers(stack)[name]
    # a saturated frame has no noise of its own: its pairs show half the variance
    low = 0.8 if name == "saturated" else 0.95
    assert low * 3.5 <= measured(stack).noise_adu <= 1.08 * 3.5


@pytest.mark.parametrize(("n", "n_other"), [(5, 2), (8, 3), (8, 4), (9, 4), (20, 10), (30, 14)])
def test_frames_of_another_level_do_not_raise_the_noise(n: int, n_other: int) -> None:
    stack = quiet_stack(n=n)
    stack[:: n // n_other][:n_other] += 3000
    assert measured(stack).noise_adu == pytest.approx(3.5, rel=0.03)


def test_levels_that_all_differ_do_not_raise_the_noise() -> None:
    stack = quiet_stack(n=8)
    stack += (np.arange(8, dtype=np.int32) ** 2 * 40)[:, np.newaxis, np.newaxis]
    assert measured(stack).noise_adu == pytest.approx(3.5, rel=0.03)


def test_copies_of_a_frame_do_not_lower_the_noise() -> None:
    stack = quiet_stack(n=5)
    stack[1] = stack[0]
    assert measured(stack).noise_adu == pytest.approx(3.5, rel=0.03)
    stack[:] = stack[0]
    assert measured(stack).noise_adu == 0.0


@given(st.integers(1, 20000))
def test_sampled_rows_are_distinct_rows_of_the_image_spread_evenly(height: int) -> None:
    rows = noise_rows(height)
    assert rows == naive.sampled_rows(height)
    assert len(rows) == min(height, SAMPLED_ROWS)
    assert rows[0] >= 0
    assert rows[-1] < height
    gaps = np.diff(rows)
    assert (gaps >= 1).all()
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
