"""The references against values worked out by hand: what everything else is compared with must itself be right."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import naive

QUIET = naive.Noise(noise_adu=0.0, step_adu=1.0)
THREE = Fraction(3)


def clip(samples: list[naive.Sample], center: str, spread: str, k: str = "3", **options: object) -> naive.PixelResult:
    """Clip one pixel with the same threshold on both sides."""
    arguments: dict[str, object] = {"iterations": 1, "noise": QUIET} | options
    return naive.sigma_clip(samples, center=center, spread=spread, low=Fraction(k), high=Fraction(k), **arguments)


@pytest.mark.parametrize("convert", [int, float])
def test_nine_equal_and_one_other_stay_at_three_sigma(convert: type) -> None:
    samples = [convert(x) for x in [498] * 9 + [508]]
    assert clip(samples, "mean", "std").n_used == 10
    assert clip(samples, "mean", "std").mean == 499
    assert clip(samples, "mean", "std", k="2.7").n_used == 9


def test_the_issue_of_rounded_sigma_does_not_exist() -> None:
    """Variance 4/9, three sigma exactly 2: |500 - 498| is kept wherever the 500 stands."""
    result = clip([500, 499, *[498] * 7], "mean", "std")
    assert result.n_used == 9
    assert result.mean == np.float32(498 + 1 / 3)


def test_mean_and_std_by_hand() -> None:
    result = naive.no_rejection([2, 4, 4, 4, 5, 5, 7, 9])
    assert result.mean == 5
    assert result.std == np.float32(math.sqrt(32 / 7))
    assert (result.low, result.high, result.n_used) == (2, 9, 8)


def test_one_pass_that_keeps_none_gives_the_plain_mean() -> None:
    result = clip([10, 10, 20, 20], "mean", "std", k="0.5")
    assert (result.mean, result.n_used) == (15, 4)


def test_passes_repeat_until_nothing_is_removed() -> None:
    samples = [0] * 30 + [10, 1000]
    assert clip(samples, "mean", "std", iterations=1).high == 10
    assert clip(samples, "mean", "std", iterations=None).high == 0


def test_floor_of_the_spread_protects_a_quiet_pixel() -> None:
    """MAD is 0; the floor sqrt(1/12) = 0.288675 gives the limit 3 * 0.288675 + 0.5 = 1.366 ADU."""
    assert QUIET.floor == Fraction(288675, 10**6)
    assert clip([100] * 5 + [101], "median", "mad").n_used == 6
    assert clip([100] * 5 + [102], "median", "mad").n_used == 5


def test_mad_by_hand() -> None:
    """Median 3, deviations 2 1 0 1 97, MAD 1: the limit is 3 * 1.4826 + 0.5 = 4.9478 ADU."""
    assert clip([1, 2, 3, 4, 100], "median", "mad").high == 4
    assert clip([1, 2, 3, 4, 7], "median", "mad").high == 7
    assert clip([1, 2, 3, 4, 8], "median", "mad").high == 4


def test_an_even_number_has_the_mean_of_its_two_middles() -> None:
    assert naive.median([1, 2, 4, 9]).mean == 3
    assert naive.median([1.5, 2.0, 4.0, 9.0]).mean == 3
    assert naive.median([9, 1, 2]).mean == 2
    assert naive.median([1, 2, 4, 9]).n_used == 4


def test_min_keep_refuses_a_pass() -> None:
    samples = [100, 101, 102, 500, 900]
    assert clip(samples, "median", "mad", k="1").n_used == 3
    assert clip(samples, "median", "mad", k="1", min_keep=4).n_used == 5


def test_minmax_drops_from_both_ends_unless_nothing_would_be_left() -> None:
    assert naive.minmax([9, 1, 5]).mean == 5
    assert naive.minmax([9, 1]).mean == 5
    assert naive.minmax([9, 1, 5], n_low=1, n_high=2).n_used == 3
    assert naive.minmax([9, 1, 5, 6], n_low=0, n_high=2).mean == 3


def test_percentile_drops_fractions_rounded_down() -> None:
    ten = [50, 3, 4, 5, 6, 7, 8, 9, 10, 1]
    assert naive.percentile(ten).mean == 6.5
    assert naive.percentile(ten[:9]).n_used == 9  # a tenth of nine is none
    assert naive.percentile(ten, n_low=Fraction("0.25"), n_high=Fraction(0)).n_used == 8
    assert naive.percentile([7], n_low=Fraction("0.4999"), n_high=Fraction("0.4999")).mean == 7


def test_winsorized_clip_drops_an_outlier_among_ten() -> None:
    result = naive.winsorized_sigma_clip([10, 11, 9, 10, 12, 8, 10, 11, 9, 60], low=THREE, high=THREE, noise=QUIET)
    assert result.n_used == 9
    assert result.mean == 10


def test_winsorized_spread_of_normal_samples_is_their_sigma() -> None:
    """Huber's factor 1.134 makes up for clamping at 1.5 sigma: within 3 / sqrt(2 n) of 1 for n = 20000."""
    samples = np.sort(np.random.default_rng(1).normal(0.0, 1.0, 20_000)).tolist()
    assert naive.winsorized_spread(samples, naive.middle(samples), 0.0) == pytest.approx(1.0, abs=3 / math.sqrt(40_000))


def test_what_is_not_finite_is_dropped_and_counted_in_its_frame() -> None:
    stack = np.array([[[1.0, np.nan]], [[3.0, np.inf]], [[np.nan, -np.inf]]], np.float32)
    result = naive.combine_stack(stack, naive.no_rejection)
    assert result.mean[0, 0] == 2
    assert np.isnan([result.mean[0, 1], result.std[0, 1], result.low[0, 1], result.high[0, 1]]).all()
    assert result.n_used.tolist() == [[2, 0]]
    assert result.rejected_per_frame.tolist() == [1, 1, 2]
    assert result.invalid == 4


def test_integers_and_the_same_whole_floats_agree() -> None:
    stack = np.random.default_rng(3).integers(498, 503, (12, 2, 5))
    for center, spread in (("mean", "std"), ("median", "mad"), ("median", "std"), ("mean", "mad")):
        whole = naive.combine_stack(stack, lambda s, c=center, p=spread: clip(s, c, p, k="1.4", iterations=None))
        floats = naive.combine_stack(
            stack.astype(np.float64), lambda s, c=center, p=spread: clip(s, c, p, k="1.4", iterations=None)
        )
        np.testing.assert_array_equal(whole.n_used, floats.n_used)
        np.testing.assert_array_equal(whole.mean, floats.mean)


def test_noise_of_a_series_by_hand() -> None:
    """24 cells of 8 pixels; two frames differ by a level, and by 0, 2 and 8 ADU up and down in 8 cells each.

    In the middle cell the squares of the differences sum to 8 * 2^2; the level counts nothing. The median of 8 cells
    takes 2/3 of a degree of freedom from 64 pixels: 8 - 1/12 are left to a cell. The median of variances with that many
    lies below their mean by (1 - 2 / 9 of it)^3 (Wilson and Hilferty); a sample has half the variance of a difference.
    """
    stack = np.zeros((2, 1, 8 * 24 + 5), np.int32)
    up_and_down = np.tile([1, -1], 32)
    stack[1, 0, 64:128] = 2 * up_and_down
    stack[1, 0, 128:192] = 8 * up_and_down
    stack[1] += 300
    freedom = 8 - 1 / 12
    variance = 8 * 2**2 / freedom / 2 / (1 - 2 / (9 * freedom)) ** 3
    assert naive.series_noise(stack).noise_adu == pytest.approx(math.sqrt(variance))
    assert naive.series_noise(stack[:1]).noise_adu == 0


def test_rows_of_a_tall_image_are_the_middles_of_64_bands() -> None:
    assert naive.sampled_rows(64) == list(range(64))
    assert naive.sampled_rows(640)[:3] == [5, 15, 25]
    assert len(set(naive.sampled_rows(65))) == 64


def test_flats_are_brought_to_one_level() -> None:
    frames = np.array([[[10.0, 20.0]], [[20.0, 40.0]]])
    scales = naive.flat_scales(frames, "mean")
    assert [naive.level(frame * scale, "mean") for frame, scale in zip(frames, scales, strict=True)] == [22.5, 22.5]


def test_each_colour_is_divided_by_its_own_level() -> None:
    image = np.array([[2, 4], [4, 8], [2, 4]], np.float32)
    assert naive.normalized(image, "mean", "RGGB").tolist() == [[1, 1], [1, 1], [1, 1]]
    assert naive.normalized(image, "max").tolist() == [[0.25, 0.5], [0.5, 1], [0.25, 0.5]]
    assert naive.normalized(image, "median")[0].tolist() == [0.5, 1]


def test_a_flat_sample_loses_its_dark_and_is_scaled_and_rounded_once() -> None:
    value = naive.corrected_sample(
        1000, scale=1.25, dark_offset=np.float32(300), dark_rate=np.float32(0.5), exposure_time_s=80.0
    )
    assert value == (1000 - 300 - 40) * 1.25
