"""The kernels against the literal reference: equal to the last bit on every method, encoding and odd input."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import naive
from ostcal.engine.combine import BlockResult, Correction, combine_block
from ostcal.engine.noise import merge_cells, noise_rows, row_cells
from ostcal.engine.rejection import (
    Median,
    MinMax,
    NoRejection,
    RejectionMethod,
    SeriesNoise,
    SigmaClip,
    WinsorizedSigmaClip,
)
from ostcal.frames import SampleEncoding
from ostcal.vocabulary import ClipCenter, ClipSpread
from support import strategies
from support.amounts import amount

NOISE = SeriesNoise(noise_adu=1.25, step_adu=1.0)
FLOAT_NOISE = SeriesNoise(noise_adu=1.25, step_adu=0.0)
NATIVE = strategies.INTEGER_ENCODINGS["native uint16"]
FLOAT32 = strategies.FLOAT_ENCODINGS["float32"]
MEAN_STD = SigmaClip(center="mean", spread="std", iterations=1)
CONVERGED = SigmaClip(center="mean", spread="std", iterations=None)
MEDIAN_MAD = SigmaClip(center="median", spread="mad", iterations=1)


def pixel_stack(*samples: float, dtype: str = "uint16") -> NDArray[np.generic]:
    """Return the stack of one pixel."""
    return np.array(samples, dtype).reshape(-1, 1, 1)


def assert_equals_reference(
    adu: NDArray[np.generic], encoding: SampleEncoding, method: RejectionMethod, noise: SeriesNoise
) -> BlockResult:
    """Combine ADU both ways, compare bit by bit and give the result."""
    raw = strategies.encode(adu, encoding) if encoding.is_integer else adu
    actual = combine_block(raw, encoding, method, noise=noise)
    pixel = strategies.reference_of(method, adu.shape[0], noise)
    strategies.assert_same_bits(actual, naive.combine_stack(adu, pixel))
    return actual


def quiet_frames_with_hits(shape: tuple[int, int, int], seed: int) -> NDArray[np.int32]:
    """Return whole ADU with a read noise of 1.2 and a cosmic ray in every fiftieth sample."""
    generator = np.random.default_rng(seed)
    adu = np.rint(generator.normal(1000.3, 1.2, shape))
    hits = generator.random(shape) < 0.02
    adu[hits] += np.rint(generator.exponential(300.0, int(hits.sum())))
    return adu.astype(np.int32)


# --- every method on every encoding ---


@pytest.mark.parametrize("encoding_name", strategies.ENCODINGS)
@pytest.mark.parametrize("method_name", strategies.METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 21])
def test_every_method_on_every_encoding_equals_the_reference(method_name: str, encoding_name: str, n: int) -> None:
    encoding = strategies.ENCODINGS[encoding_name]
    adu = quiet_frames_with_hits((n, 3, 7), seed=n)
    if encoding.is_integer:
        assert_equals_reference(adu + encoding.zero_adu, encoding, strategies.METHODS[method_name], NOISE)
    else:
        samples = (adu * 1.0037).astype(encoding.dtype)
        samples[0, 1, 2:5] = [np.nan, np.inf, -np.inf]
        assert_equals_reference(samples, encoding, strategies.METHODS[method_name], FLOAT_NOISE)


@pytest.mark.parametrize("shape", [(1, 1), (1, 255), (1, 256), (5, 257), (2, 300)])
@pytest.mark.parametrize("method_name", ["auto", "mean/std to convergence", "winsorized", "minmax", "median"])
def test_any_shape_of_block_equals_the_reference(shape: tuple[int, int], method_name: str) -> None:
    adu = quiet_frames_with_hits((7, *shape), seed=3)
    assert_equals_reference(adu, strategies.ENCODINGS["FITS uint16"], strategies.METHODS[method_name], NOISE)
    samples = (adu / 3).astype(np.float32)
    assert_equals_reference(samples, FLOAT32, strategies.METHODS[method_name], FLOAT_NOISE)


@given(data=st.data(), method=strategies.methods, noise=strategies.noises)
@settings(max_examples=amount(300))
@pytest.mark.parametrize("encoding_name", strategies.INTEGER_ENCODINGS)
def test_any_integers_equal_the_reference(
    encoding_name: str, data: st.DataObject, method: RejectionMethod, noise: SeriesNoise
) -> None:
    encoding = strategies.INTEGER_ENCODINGS[encoding_name]
    adu = data.draw(strategies.integer_stacks(zero_adu=encoding.zero_adu))
    assert_equals_reference(adu, encoding, method, noise)


@given(data=st.data(), method=strategies.methods, noise=strategies.float_noises)
@settings(max_examples=amount(300))
@pytest.mark.parametrize("encoding_name", strategies.FLOAT_ENCODINGS)
def test_any_floats_equal_the_reference(
    encoding_name: str, data: st.DataObject, method: RejectionMethod, noise: SeriesNoise
) -> None:
    encoding = strategies.FLOAT_ENCODINGS[encoding_name]
    assert_equals_reference(data.draw(strategies.float_stacks(encoding.dtype)), encoding, method, noise)


# --- exact ties ---


@pytest.mark.parametrize("odd", [497, 499, 65535, 0])
@pytest.mark.parametrize("encoding_name", ["native uint16", "FITS uint16", "float32", "float64"])
def test_nine_equal_values_and_one_other_are_exactly_three_sigma_and_stay(odd: int, encoding_name: str) -> None:
    adu = pixel_stack(*[498] * 9, odd, dtype="int32")
    encoding = strategies.ENCODINGS[encoding_name]
    samples = adu if encoding.is_integer else adu.astype(encoding.dtype)
    assert assert_equals_reference(samples, encoding, MEAN_STD, NOISE).n_used[0, 0] == 10


@pytest.mark.parametrize("odd", [497, 499, 65535, 0])
def test_nine_equal_values_lose_the_other_at_2_7_sigma(odd: int) -> None:
    method = SigmaClip(center="mean", spread="std", iterations=1, low=Fraction("2.7"), high=Fraction("2.7"))
    result = assert_equals_reference(pixel_stack(*[498] * 9, odd, dtype="int32"), NATIVE, method, NOISE)
    assert result.n_used[0, 0] == 9
    assert result.master[0, 0] == 498


@pytest.mark.parametrize(
    ("n_equal", "n_other", "k"),
    [
        (1, 1, "1"),
        (9, 4, "1.5"),
        (4, 1, "2"),
        (25, 4, "2.5"),
        (729, 100, "2.7"),
        (9, 1, "3"),
        (400, 1, "20"),
        (1024, 1, "32"),
    ],
)
@pytest.mark.parametrize("other", [1, 65535])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_sample_exactly_k_sigma_away_stays_and_goes_at_any_smaller_k(
    n_equal: int, n_other: int, k: str, other: int, mirrored: bool
) -> None:
    """Of n samples with two values, the m others are sqrt((n - m) / m) sigma away from the mean."""
    samples = np.array([0] * n_equal + [other] * n_other, np.int32)
    adu = (other - samples if mirrored else samples).reshape(-1, 1, 1)
    tie = SigmaClip(center="mean", spread="std", iterations=1, low=Fraction(k), high=Fraction(k))
    assert assert_equals_reference(adu, NATIVE, tie, NOISE).n_used[0, 0] == n_equal + n_other
    below = Fraction(k) - Fraction("0.001")
    less = SigmaClip(center="mean", spread="std", iterations=1, low=below, high=below)
    kept = assert_equals_reference(adu, NATIVE, less, NOISE).n_used[0, 0]
    assert kept == (n_equal if n_equal > n_other else n_equal + n_other)


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 1.0037, 1e-6, 1e6])
@pytest.mark.parametrize("encoding_name", ["float64", "float32"])
def test_exact_ties_of_scaled_floats_stay(scale: float, encoding_name: str) -> None:
    encoding = strategies.FLOAT_ENCODINGS[encoding_name]
    samples = (np.array([7] * 9 + [8]) * scale).astype(encoding.dtype).reshape(-1, 1, 1)
    assert assert_equals_reference(samples, encoding, MEAN_STD, FLOAT_NOISE).n_used[0, 0] == 10


def test_a_sample_exactly_on_the_mad_limit_stays() -> None:
    """Noise 0.5: the floor sqrt(0.25 + 1/12) is 0.57735 ADU, so that k = 2.5981 gives 2.0000 ADU just not."""
    noise = SeriesNoise(noise_adu=0.5, step_adu=1.0)
    adu = pixel_stack(*[100] * 9, 102, dtype="int32")
    for k, kept in (("2.5981", 10), ("2.598", 9)):
        limit = Fraction(k) * Fraction("0.57735") + Fraction(1, 2)
        method = SigmaClip(center="median", spread="mad", iterations=1, low=Fraction(k), high=Fraction(k))
        assert (limit >= 2) == (kept == 10)
        assert assert_equals_reference(adu, NATIVE, method, noise).n_used[0, 0] == kept


@pytest.mark.parametrize(
    ("mad", "k", "distance", "kept"),
    [(1000, "2.5", 3707, 5), (1000, "2.5", 3708, 4), (10652, "1.1001", 17373, 5), (10652, "1.1001", 17374, 4)],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_limits_of_a_large_mad_are_exact(mad: int, k: str, distance: int, kept: int, sign: int) -> None:
    """2.5 * 1482.6 + 0.5 is 3707 ADU exactly, and 1.1001 * 1.4826 * 10652 + 0.5 is 17374 - 0.000014 ADU."""
    adu = 32000 + pixel_stack(0, -sign * 10, sign * mad, -sign * mad, sign * distance, dtype="int32")
    method = SigmaClip(center="median", spread="mad", iterations=1, low=Fraction(k), high=Fraction(k))
    assert assert_equals_reference(adu, NATIVE, method, SeriesNoise()).n_used[0, 0] == kept


# --- what clipping promises ---


@pytest.mark.parametrize("encoding_name", ["native uint16", "float32"])
def test_a_pass_that_would_keep_nothing_gives_the_plain_mean(encoding_name: str) -> None:
    encoding = strategies.ENCODINGS[encoding_name]
    method = SigmaClip(center="mean", spread="std", iterations=1, low=Fraction("0.5"), high=Fraction("0.5"))
    samples = pixel_stack(10, 10, 20, 20, dtype="int32" if encoding.is_integer else "float32")
    result = assert_equals_reference(samples, encoding, method, NOISE)
    assert result.master[0, 0] == 15
    assert result.n_used[0, 0] == 4
    assert result.rejected_per_frame.sum() == 0


@pytest.mark.parametrize("min_keep", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("method_name", ["std", "mad", "winsorized"])
def test_never_fewer_than_min_keep_samples_are_left(min_keep: int, method_name: str) -> None:
    low = high = Fraction(1)
    adu = pixel_stack(100, 101, 102, 130, 160, 200, dtype="int32")
    if method_name == "winsorized":
        result = assert_equals_reference(
            adu, NATIVE, WinsorizedSigmaClip(low=low, high=high, min_keep=min_keep), SeriesNoise()
        )
    else:
        center = "mean" if method_name == "std" else "median"
        method = SigmaClip(center=center, spread=method_name, iterations=None, low=low, high=high, min_keep=min_keep)
        result = assert_equals_reference(adu, NATIVE, method, SeriesNoise())
    assert result.n_used[0, 0] >= min(min_keep, 6)


def test_low_and_high_thresholds_are_told_apart() -> None:
    adu = pixel_stack(80, 99, 100, 100, 101, 120, dtype="int32")
    strict_low = SigmaClip(center="median", spread="mad", iterations=1, low=Fraction(2), high=Fraction(100))
    strict_high = SigmaClip(center="median", spread="mad", iterations=1, low=Fraction(100), high=Fraction(2))
    below = assert_equals_reference(adu, NATIVE, strict_low, SeriesNoise())
    above = assert_equals_reference(adu, NATIVE, strict_high, SeriesNoise())
    assert (below.low[0, 0], below.high[0, 0]) == (99, 120)
    assert (above.low[0, 0], above.high[0, 0]) == (80, 101)


@pytest.mark.parametrize("iterations", [1, 2, 5, None])
def test_passes_end_where_they_are_told(iterations: int | None) -> None:
    """Each of the powers of two is an outlier among the smaller ones, so that every pass drops the largest."""
    adu = (2 ** np.arange(16, dtype=np.int32)).reshape(-1, 1, 1)
    method = SigmaClip(center="mean", spread="std", iterations=iterations, low=Fraction(2), high=Fraction(2))
    expected = {1: 15, 2: 14, 5: 11, None: 6}[iterations]
    assert assert_equals_reference(adu, NATIVE, method, NOISE).n_used[0, 0] == expected


def test_five_frames_lose_their_cosmic_rays_and_the_frames_that_had_them_are_told() -> None:
    adu = np.full((5, 2, 4), 1000, np.int32)
    adu[:, 0, 1] += [0, 1, 0, -1, 0]
    adu[1, 0, 0], adu[1, 1, 3], adu[4, 0, 1] = 1020, 65535, 2000
    result = assert_equals_reference(adu, NATIVE, SigmaClip(), NOISE)
    assert result.rejected_per_frame.tolist() == [0, 2, 0, 0, 1]
    assert np.all(np.abs(result.master - 1000) <= 0.25)


def test_the_smallest_and_largest_saturated_samples_are_kept_whole() -> None:
    adu = pixel_stack(*[65535] * 20, dtype="int32")
    result = assert_equals_reference(adu, NATIVE, SigmaClip(), NOISE)
    assert result.master[0, 0] == 65535
    assert result.std[0, 0] == 0


# --- NaN ---


@pytest.mark.parametrize("method_name", strategies.METHODS)
@pytest.mark.parametrize("encoding_name", strategies.FLOAT_ENCODINGS)
def test_a_pixel_without_a_finite_sample_is_nan_and_counted(method_name: str, encoding_name: str) -> None:
    encoding = strategies.FLOAT_ENCODINGS[encoding_name]
    samples = np.full((6, 1, 3), 5.0, encoding.dtype)
    samples[:, 0, 1] = [np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan]
    samples[2, 0, 2] = np.nan
    result = assert_equals_reference(samples, encoding, strategies.METHODS[method_name], FLOAT_NOISE)
    assert np.isnan(result.master[0]).tolist() == [False, True, False]
    assert result.n_used[0, 1] == 0
    assert result.invalid == 7


# --- order of the frames ---


@given(data=st.data(), method=strategies.methods)
@settings(max_examples=amount(150))
def test_any_order_of_integer_frames_gives_the_same_bits(data: st.DataObject, method: RejectionMethod) -> None:
    adu = data.draw(strategies.integer_stacks())
    assert_order_does_not_matter(data, strategies.encode(adu, NATIVE), NATIVE, method, NOISE)


@given(data=st.data(), method=strategies.methods, encoding_name=st.sampled_from(list(strategies.FLOAT_ENCODINGS)))
@settings(max_examples=amount(150))
def test_any_order_of_float_frames_gives_the_same_bits(
    data: st.DataObject, method: RejectionMethod, encoding_name: str
) -> None:
    encoding = strategies.FLOAT_ENCODINGS[encoding_name]
    samples = data.draw(strategies.float_stacks(encoding.dtype))
    assert_order_does_not_matter(data, samples, encoding, method, FLOAT_NOISE)


def assert_order_does_not_matter(
    data: st.DataObject,
    samples: NDArray[np.generic],
    encoding: SampleEncoding,
    method: RejectionMethod,
    noise: SeriesNoise,
) -> None:
    """Combine the frames in two orders and compare; counts follow their frames."""
    order = data.draw(st.permutations(range(samples.shape[0])))
    one = combine_block(samples, encoding, method, noise=noise)
    other = combine_block(samples[order], encoding, method, noise=noise)
    np.testing.assert_array_equal(other.rejected_per_frame, one.rejected_per_frame[order])
    other.rejected_per_frame[list(order)] = other.rejected_per_frame.copy()
    strategies.assert_same_bits(other, one)


# --- wide ranges: products of 64 bits must not overflow ---


@pytest.mark.parametrize("n", [400, 1000])
@pytest.mark.parametrize("method_name", strategies.METHODS)
def test_hundreds_of_frames_of_the_full_range_equal_the_reference(n: int, method_name: str) -> None:
    generator = np.random.default_rng(n)
    adu = generator.integers(0, 65536, (n, 1, 6)).astype(np.int32)
    adu[:, 0, 1] = np.where(np.arange(n) % 2, 65535, 0)
    adu[:, 0, 2] = np.where(np.arange(n) % 7, 65535, 1)
    adu[:, 0, 3] = np.where(np.arange(n) == 17, 65535, 0)
    adu[:, 0, 4] = np.where(np.arange(n) < 3, 0, 65534 + np.arange(n) % 2)
    assert_equals_reference(adu, NATIVE, strategies.METHODS[method_name], NOISE)


@pytest.mark.parametrize("k", ["0.0001", "0.9999", "1", "1.0001", "2.9999", "17.3205", "29.9999", "1000"])
@pytest.mark.parametrize("center", ["mean", "median"])
@pytest.mark.parametrize("spread", ["std", "mad"])
def test_every_threshold_on_the_full_range_equals_the_reference(k: str, center: ClipCenter, spread: ClipSpread) -> None:
    method = SigmaClip(center=center, spread=spread, iterations=None, low=Fraction(k), high=Fraction(k))
    generator = np.random.default_rng(7)
    adu = generator.integers(0, 65536, (400, 1, 4)).astype(np.int32)
    adu[:, 0, 1] = np.where(np.arange(400) % 2, 65535, 0)
    adu[:, 0, 2] = np.where(np.arange(400) == 17, 65535, 0)
    assert_equals_reference(adu, NATIVE, method, NOISE)


@pytest.mark.parametrize("k", range(100, 1001, 100))
@pytest.mark.parametrize("center", ["mean", "median"])
def test_a_huge_threshold_keeps_the_full_range_on_its_side(k: int, center: ClipCenter) -> None:
    """Its square times V leaves 64 bits for 400 frames of the full range."""
    adu = np.random.default_rng(k).integers(0, 65536, (400, 1, 5)).astype(np.int32)
    for low, high in ((Fraction(k), Fraction(1)), (Fraction(1), Fraction(k))):
        method = SigmaClip(center=center, spread="std", iterations=1, low=low, high=high)
        result = assert_equals_reference(adu, NATIVE, method, NOISE)
        lowest, highest = adu.min(axis=0), adu.max(axis=0)
        assert np.array_equal(result.low, lowest) == (low == k)
        assert np.array_equal(result.high, highest) == (high == k)


def test_a_limit_beyond_the_range_of_16_bits_keeps_the_full_range() -> None:
    method = SigmaClip(center="median", spread="mad", iterations=1, low=Fraction(1000), high=Fraction(1000))
    adu = pixel_stack(*[0] * 399, 65535, dtype="int32")
    loud = SeriesNoise(noise_adu=500.0, step_adu=1.0)
    assert assert_equals_reference(adu, NATIVE, method, loud).n_used[0, 0] == 400


def test_two_frames_and_less_are_never_trimmed_by_minmax() -> None:
    assert assert_equals_reference(pixel_stack(3, 9, dtype="int32"), NATIVE, MinMax(), NOISE).master[0, 0] == 6
    assert assert_equals_reference(pixel_stack(3, 9, 12, dtype="int32"), NATIVE, MinMax(), NOISE).master[0, 0] == 9


# --- flats: dark subtraction and scaling before rejection ---


@pytest.mark.parametrize("encoding_name", strategies.ENCODINGS)
@pytest.mark.parametrize("parts", ["scale", "offset", "rate", "offset and rate"])
@pytest.mark.parametrize("method", [MEDIAN_MAD, MEAN_STD, Median(), NoRejection()], ids=lambda m: m.label)
def test_corrected_samples_equal_the_reference(encoding_name: str, parts: str, method: RejectionMethod) -> None:
    encoding = strategies.ENCODINGS[encoding_name]
    generator = np.random.default_rng(5)
    adu = quiet_frames_with_hits((6, 3, 7), seed=11) + encoding.zero_adu
    scale = generator.uniform(0.7, 1.4, 6)
    exposure_time_s = generator.uniform(0.5, 80.0, 6)
    dark_offset = generator.normal(310.0, 2.0, (3, 7)).astype(np.float32) if "offset" in parts else None
    dark_rate = generator.exponential(0.1, (3, 7)).astype(np.float32) if "rate" in parts else None
    correction = Correction(scale=scale, exposure_time_s=exposure_time_s, dark_offset=dark_offset, dark_rate=dark_rate)
    samples = adu if encoding.is_integer else adu.astype(encoding.dtype)
    if not encoding.is_integer:
        samples[2, 1, 1] = np.nan
    actual = combine_block(
        strategies.encode(adu, encoding) if encoding.is_integer else samples,
        encoding,
        method,
        noise=NOISE,
        correction=correction,
    )
    corrected = naive.corrected_stack(
        samples, scale=scale, dark_offset=dark_offset, dark_rate=dark_rate, exposure_time_s=exposure_time_s
    )
    pixel = strategies.reference_of(method, 6, NOISE)
    strategies.assert_same_bits(actual, naive.combine_stack(corrected, pixel))


@st.composite
def flat_frames(draw: st.DrawFn) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return frames of a flat with anything from no noise to samples that are not close, and their scales."""
    n = draw(st.integers(2, 45))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    level = draw(st.sampled_from([3, 40, 900, 20000, 60000]))
    noise = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5]))
    adu = np.clip(np.rint(generator.normal(level, noise * level, (n, 2, 300))), 0, 65535)
    hits = generator.random(adu.shape) < draw(st.sampled_from([0.0, 0.001, 0.2]))
    adu[hits] = generator.integers(0, 65536, int(hits.sum()))
    scale = generator.uniform(0.8, 1.3, n)
    if draw(st.booleans()):
        scale[draw(st.integers(0, n - 1))] = np.nan
    return adu.astype(np.int32), scale


@given(frames=flat_frames(), method=st.sampled_from([MEAN_STD, CONVERGED, NoRejection()]), data=st.data())
@settings(max_examples=amount(60))
def test_any_flat_equals_the_reference_in_any_order(
    frames: tuple[NDArray[np.int32], NDArray[np.float64]], method: RejectionMethod, data: st.DataObject
) -> None:
    adu, scale = frames
    n = len(adu)
    order = np.array(data.draw(st.permutations(range(n))))
    dark = np.random.default_rng(n).normal(10.0, 2.0, adu.shape[1:]).astype(np.float32)
    exposure_time_s = np.full(n, 2.0)

    def combined(order: NDArray[np.int_]) -> BlockResult:
        correction = Correction(scale=scale[order], exposure_time_s=exposure_time_s, dark_offset=dark)
        raw = strategies.encode(adu[order], strategies.ENCODINGS["FITS uint16"])
        encoding = strategies.ENCODINGS["FITS uint16"]
        return combine_block(raw, encoding, method, noise=NOISE, correction=correction)

    corrected = naive.corrected_stack(
        adu, scale=scale, dark_offset=dark, dark_rate=None, exposure_time_s=exposure_time_s
    )
    actual = combined(np.arange(n))
    strategies.assert_same_bits(actual, naive.combine_stack(corrected, strategies.reference_of(method, n, NOISE)))
    again = combined(order)
    assert np.array_equal(again.master.view(np.uint32), actual.master.view(np.uint32))
    assert np.array_equal(again.std.view(np.uint32), actual.std.view(np.uint32))
    assert np.array_equal(again.rejected_per_frame, actual.rejected_per_frame[order])


# --- the noise of a series ---


def measured_noise(stack: NDArray[np.generic]) -> SeriesNoise:
    """Measure the rows of a stack one after the other."""
    rows = [row_cells(stack[:, y, :]) for y in noise_rows(stack.shape[1])]
    return merge_cells(rows)


@pytest.mark.parametrize(
    "shape", [(1, 3, 70), (2, 1, 1), (3, 5, 63), (5, 2, 64), (4, 3, 65), (6, 70, 130), (3, 200, 64)]
)
@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_noise_of_a_series_equals_the_reference(shape: tuple[int, int, int], dtype: str) -> None:
    adu = quiet_frames_with_hits(shape, seed=9)
    stack = adu if dtype == "int32" else (adu * 1.0037).astype(dtype)
    expected = naive.series_noise(stack)
    measured = measured_noise(stack)
    assert measured.noise_adu == expected.noise_adu
    assert measured.step_adu == expected.step_adu


@given(data=st.data(), dtype=st.sampled_from(["int32", "float32", "float64"]))
@settings(max_examples=amount(150))
def test_noise_of_any_stack_equals_the_reference_in_any_order(data: st.DataObject, dtype: str) -> None:
    stack = data.draw(strategies.integer_stacks() if dtype == "int32" else strategies.float_stacks(dtype))
    expected = naive.series_noise(stack)
    for frames in (stack, stack[data.draw(st.permutations(range(stack.shape[0])))]):
        measured = measured_noise(frames)
        assert (measured.noise_adu, measured.step_adu) == (expected.noise_adu, expected.step_adu)


def test_whole_numbers_stored_as_floats_have_a_step_of_one_adu() -> None:
    stack = quiet_frames_with_hits((5, 8, 130), seed=4).astype(np.float32)
    stack[1, 2, 3] = np.nan
    assert measured_noise(stack).step_adu == 1.0
    assert measured_noise(stack + np.float32(0.25)).step_adu == 0.0
