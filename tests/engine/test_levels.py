"""Levels of flat frames after their dark, the factors to a common level, and the dark of any exposure."""

from __future__ import annotations

import math
import re
import shutil
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import naive
from ostcal.engine.levels import (
    DARK_FRAME_SHARE,
    DarkMeans,
    DarkModel,
    common_scales,
    dark_means,
    frame_level,
)
from ostcal.engine.tiling import WHOLE_ROWS
from ostcal.errors import CombineError, FrameError
from ostcal.fits.read import FitsStack, inspect_fits
from ostcal.frames import FrameType
from ostcal.series.concatenated import ConcatenatedStack
from ostcal.series.stack import ZarrStack
from support import strategies
from support.amounts import amount
from support.fits_samples import write_frame
from support.memory_stack import ArrayPlane, MemoryStack
from support.series_samples import new_series, samples

NO_DARK = DarkMeans()
shapes = st.tuples(st.sampled_from([1, 3, WHOLE_ROWS, 2 * WHOLE_ROWS + 5]), st.integers(1, 9))


def one_frame(adu: NDArray[np.generic], encoding_name: str = "native uint16") -> MemoryStack:
    """Return the stack of one frame of ADU (height, width)."""
    encoding = strategies.ENCODINGS[encoding_name]
    return MemoryStack(strategies.encode(adu[None].astype(np.int32), encoding), encoding)


def plane(level: float, shape: tuple[int, int] = (4, 5)) -> ArrayPlane:
    return ArrayPlane(np.full(shape, level, np.float32))


@given(shapes.flatmap(lambda s: npst.arrays(np.int32, s, elements=st.integers(0, 65535))), st.data())
@settings(max_examples=amount(50))
def test_the_mean_of_16_bit_samples_is_exact_in_every_encoding(words: NDArray[np.int32], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(strategies.INTEGER_ENCODINGS)))
    zero_adu = strategies.INTEGER_ENCODINGS[name].zero_adu
    level = frame_level(one_frame(words + np.int32(zero_adu), name), 1.0, None, NO_DARK, "mean")
    # One rounding of the quotient, and one more where the zero is added.
    exact = Fraction(int(words.sum()), words.size) + zero_adu
    assert abs(Fraction(level) - exact) <= Fraction(1, 2**37)
    if zero_adu == 0:
        assert level == float(exact)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_a_level_that_the_capture_noted_is_the_one_that_would_be_read(tmp_path: Path, dtype: str) -> None:
    frames = samples((3, 33, 71), dtype)
    folder = Path(new_series(tmp_path / "flats.zarr", frames, frame_type=FrameType.FLAT).location)
    stack = ZarrStack(str(folder), (0, 1, 2))
    files = FitsStack((inspect_fits(write_frame(tmp_path / "flat.fits", frames[0])),))
    together = ConcatenatedStack((files, stack.select([1, 2])))
    noted = [frame_level(stack.select([i]), 1.0, None, NO_DARK, "mean") for i in range(3)]
    assert files.recorded_mean_adu(0) is None
    assert together.recorded_mean_adu(0) is None
    assert together.recorded_mean_adu(2) == noted[2] == pytest.approx(frames[2].mean(dtype=np.float64), rel=1e-12)
    for record in (folder / "ledger").glob("*.json"):
        record.write_text(re.sub(r'"mean": [^,]+', '"mean": null', record.read_text()))
    assert stack.recorded_mean_adu(0) is None
    assert [frame_level(stack.select([i]), 1.0, None, NO_DARK, "mean") for i in range(3)] == noted
    for record in (folder / "ledger").glob("*.json"):
        record.write_text("{")
    assert [frame_level(stack.select([i]), 1.0, None, NO_DARK, "mean") for i in range(3)] == noted


def test_a_level_that_the_capture_noted_is_not_read_again(tmp_path: Path) -> None:
    frames = samples((1, 20, 30))
    stack = ZarrStack(new_series(tmp_path / "flats.zarr", frames).location, (0,))
    shutil.rmtree(tmp_path / "flats.zarr" / "frames" / "c")
    assert frame_level(stack, 1.0, None, DarkMeans(offset_adu=7.0), "mean") == frames.mean(dtype=np.float64) - 7.0
    with pytest.raises(FrameError, match="shard is missing"):
        frame_level(stack, 1.0, None, NO_DARK, "median")


def test_means_of_floats_are_read_whatever_the_capture_noted(tmp_path: Path) -> None:
    stack = ZarrStack(new_series(tmp_path / "flats.zarr", samples((1, 20, 30), "float32")).location, (0,))
    assert stack.recorded_mean_adu(0) is None


def test_the_sum_of_saturated_frames_does_not_overflow() -> None:
    frame = one_frame(np.full((300, 4000), 65535, np.int32), "FITS uint16")
    assert frame_level(frame, 1.0, None, NO_DARK, "mean") == 65535.0


@pytest.mark.parametrize("encoding_name", sorted(strategies.ENCODINGS))
@pytest.mark.parametrize("scaling", ["mean", "median"])
def test_a_level_is_that_of_the_frame_less_its_dark(encoding_name: str, scaling: str) -> None:
    generator = np.random.default_rng(8)
    shape = (2 * WHOLE_ROWS + 3, 11)
    adu = generator.integers(20000, 30000, shape, dtype=np.int32)
    offset = generator.uniform(-30.0, 30.0, shape).astype(np.float32)
    rate = generator.uniform(0.0, 2.0, shape).astype(np.float32)
    bias, dark = ArrayPlane(offset), ArrayPlane((offset + rate.astype(np.float64) * 10).astype(np.float32))
    model = DarkModel(first=bias, first_exposure_s=0.0, second=dark, second_exposure_s=10.0)
    means = dark_means(model, shape[0])
    got = frame_level(one_frame(adu, encoding_name), 3.0, model, means, "median" if scaling == "median" else "mean")
    difference = adu - (offset + rate.astype(np.float64) * 3.0)
    expected = np.median(difference) if scaling == "median" else difference.mean()
    assert got == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("scaling", ["mean", "median"])
def test_floats_and_integers_of_the_same_values_have_the_same_level(scaling: str) -> None:
    adu = np.random.default_rng(1).integers(0, 65535, (150, 7), dtype=np.int32)
    word = "median" if scaling == "median" else "mean"
    levels = {
        name: frame_level(one_frame(adu, name), 1.0, None, NO_DARK, word)
        for name in ("native uint16", "FITS uint16", "float32", "float64")
    }
    assert len(set(levels.values())) == 1, levels


@pytest.mark.parametrize("encoding_name", ["native uint16", "float32"])
def test_a_frame_darker_than_its_dark_has_no_light(encoding_name: str) -> None:
    model = DarkModel(first=plane(500.0), first_exposure_s=1.0)
    frame = one_frame(np.full((4, 5), 400), encoding_name)
    level = frame_level(frame, 1.0, model, dark_means(model, 4), "mean")
    assert level <= 0.0
    assert common_scales([level, 900.0, 1000.0], "mean").left_out == [0]


@given(st.lists(st.floats(2000.0, 60000.0), min_size=1, max_size=50), st.sampled_from(["mean", "median"]))
def test_factors_bring_every_frame_to_the_mean_of_all_levels(levels: list[float], scaling: str) -> None:
    word = "median" if scaling == "median" else "mean"
    made = common_scales(levels, word)
    common = float(sum(Fraction(x) for x in levels) / len(levels))
    assert made.levels_adu == tuple(levels)
    assert made.left_out == []
    for level, scale in zip(levels, made.scales, strict=True):
        assert scale * level == pytest.approx(common, rel=1e-14)


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=9))
def test_factors_equal_the_reference(levels: list[int]) -> None:
    frames = np.array(levels, np.int32).reshape(-1, 1, 1) * np.ones((1, 2, 3), np.int32)
    lit = [level for level in levels if level >= DARK_FRAME_SHARE * sorted(levels)[len(levels) // 2]]
    if len(lit) == len(levels):
        assert common_scales([float(x) for x in levels], "mean").scales == pytest.approx(
            naive.flat_scales(frames, "mean"), rel=1e-15
        )


@given(st.lists(st.floats(-100.0, 60000.0), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_change_a_bit(levels: list[float], random: Random) -> None:
    order = list(range(len(levels)))
    random.shuffle(order)
    if max(levels) <= 0:
        with pytest.raises(CombineError):
            common_scales(levels, "mean")
        return
    try:
        straight = common_scales(levels, "mean").scales
    except CombineError:
        with pytest.raises(CombineError):
            common_scales([levels[i] for i in order], "mean")
        return
    shuffled = common_scales([levels[i] for i in order], "mean").scales
    np.testing.assert_array_equal(shuffled, [straight[i] for i in order])


def test_frames_without_light_are_left_out_and_change_no_other() -> None:
    lit = common_scales([20000.0, 22000.0, 18000.0], "mean")
    with_dark = common_scales([20000.0, 3.0, 22000.0, -1.0, 18000.0], "mean")
    assert with_dark.left_out == [1, 3]
    assert [with_dark.scales[i] for i in (0, 2, 4)] == list(lit.scales)
    assert with_dark.levels_adu == (20000.0, 3.0, 22000.0, -1.0, 18000.0)


def test_a_frame_at_the_share_of_the_median_is_kept() -> None:
    assert common_scales([1000.0, 1000.0, 1000.0 * DARK_FRAME_SHARE], "mean").left_out == []
    assert common_scales([1000.0, 1000.0, 999.9 * DARK_FRAME_SHARE], "mean").left_out == [2]


def test_flats_that_all_hold_no_light_are_an_error_with_their_level() -> None:
    with pytest.raises(CombineError, match=r"no flat frame holds light: the highest level after the dark is -2\.5 ADU"):
        common_scales([-3.0, -2.5, -7.0], "mean")


def test_no_scaling_is_a_factor_of_one_for_all() -> None:
    made = common_scales([0.0, 3.0, -1.0], "none")
    assert made.scales == (1.0, 1.0, 1.0)
    assert made.left_out == []


def test_one_dark_serves_as_it_is() -> None:
    image = np.random.default_rng(3).uniform(90, 110, (6, 5)).astype(np.float32)
    offset, rate = DarkModel(first=ArrayPlane(image), first_exposure_s=5.0).read(2, 5)
    assert np.array_equal(offset, image[2:5])
    assert rate is None


@given(
    st.floats(0.0, 10.0),
    st.floats(0.1, 1000.0),
    st.floats(-1000.0, 1000.0, width=32),
    st.floats(-2.0, 50.0, width=32),
    st.floats(0.0, 2000.0),
)
def test_the_line_through_two_darks_gives_the_dark_of_any_exposure(
    first_s: float, span_s: float, level: float, rate: float, exposure_s: float
) -> None:
    second_s = first_s + span_s
    model = DarkModel(
        first=plane(level + rate * first_s),
        first_exposure_s=first_s,
        second=plane(level + rate * second_s),
        second_exposure_s=second_s,
    )
    offset, slope = model.read(0, 4)
    assert slope is not None
    dark = offset + slope.astype(np.float64) * exposure_s
    # float32 planes: their rounding is stretched by the distance from the two exposures
    largest = max(abs(level), abs(level + rate * first_s), abs(level + rate * second_s), abs(rate) * exposure_s, 1.0)
    tolerance = 1e-6 * largest * (1 + (exposure_s + second_s) / span_s)
    np.testing.assert_allclose(dark, level + rate * exposure_s, rtol=0, atol=tolerance)


def test_the_order_of_the_two_darks_does_not_matter() -> None:
    short, long = plane(103.0), plane(120.0)
    one = DarkModel(first=short, first_exposure_s=3.0, second=long, second_exposure_s=20.0)
    other = DarkModel(first=long, first_exposure_s=20.0, second=short, second_exposure_s=3.0)
    for model in (one, other):
        means = dark_means(model, 4)
        assert means.offset_adu == pytest.approx(100.0, rel=1e-6)
        assert means.rate_adu_per_s == pytest.approx(1.0, rel=1e-6)


def test_the_mean_of_a_dark_is_that_of_numpy() -> None:
    image = np.random.default_rng(4).normal(1000.0, 300.0, (2 * WHOLE_ROWS + 7, 13)).astype(np.float32)
    means = dark_means(DarkModel(first=ArrayPlane(image), first_exposure_s=5.0), image.shape[0])
    assert means.offset_adu == pytest.approx(float(image.astype(np.float64).mean()), rel=1e-13)
    assert means.rate_adu_per_s == 0.0
    assert dark_means(None, 10) == DarkMeans(offset_adu=0.0, rate_adu_per_s=0.0)


def test_a_dark_with_pixels_without_value_still_has_a_mean() -> None:
    image = np.full((4, 5), 100.0, np.float32)
    image[1, 2] = np.nan
    model = DarkModel(first=ArrayPlane(image), first_exposure_s=0.0, second=plane(120.0), second_exposure_s=10.0)
    means = dark_means(model, 4)
    assert means.offset_adu == pytest.approx(100.0)
    assert means.rate_adu_per_s == pytest.approx(2.0)
    level = frame_level(one_frame(np.full((4, 5), 5100)), 1.0, model, means, "mean")
    assert level == pytest.approx(4998.0)
    assert math.isfinite(common_scales([level, 5000.0], "mean").scales[0])
