"""The survey of a series: against literal numpy, against the truth of simulated sensors, and however rows are split."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.measure.frames.survey import (
    GRID,
    MAX_PAIRS,
    SAMPLED_PIXELS,
    BlockSurvey,
    SeriesSurvey,
    band_rows,
    merge_blocks,
    sampled_blocks,
)
from ostcal.measure.frames.survey_block import survey_block
from ostcal.simulator.sensor import SENSORS, Exposure, SensorModel
from support.amounts import amount

FULL_ADU = 65535.0
DEMO = replace(SENSORS["demo"], width=640, height=512)


def blocks_of(
    stack: NDArray[Any], edges: list[int], *, scale: bool = False, saturation_adu: float | None = FULL_ADU
) -> list[BlockSurvey]:
    return [
        survey_block(stack[:, start:stop], start, stack.shape[1:], saturation_adu=saturation_adu, scale_to_common=scale)
        for start, stop in itertools.pairwise(edges)
    ]


def survey_of(stack: NDArray[Any], **keys: Any) -> SeriesSurvey:
    return merge_blocks(blocks_of(stack, [0, stack.shape[1]], **keys))


def normal(shape: tuple[int, ...], level: float, sigma: float, seed: int = 1) -> NDArray[np.uint16]:
    """Return frames with a pattern of their own and noise."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(level, 3 * sigma, shape[1:])
    return np.clip(np.rint(pattern + rng.normal(0, sigma, shape)), 0, FULL_ADU).astype(np.uint16)


def exposed(sensor: SensorModel, n: int, exposure: Exposure) -> NDArray[np.uint16]:
    rng = np.random.default_rng(7)
    return np.stack([sensor.expose(exposure, rng) for _ in range(n)])


def assert_same(a: SeriesSurvey, b: SeriesSurvey) -> None:
    for field in fields(SeriesSurvey):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)


# ---- rows ----


@settings(max_examples=amount(200))
@given(st.integers(1, 12_000), st.integers(1, 15_000), st.integers(1, 300))
def test_sampled_blocks_are_whole_chunks_in_order(height: int, width: int, chunk_rows: int) -> None:
    blocks = sampled_blocks(height, width, chunk_rows)
    assert all(start % chunk_rows == 0 and (stop % chunk_rows == 0 or stop == height) for start, stop in blocks)
    assert all(0 <= start < stop <= height for start, stop in blocks)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(blocks))
    if height * width <= SAMPLED_PIXELS:
        assert sum(stop - start for start, stop in blocks) == height
    if height >= 2 * GRID * max(32, chunk_rows):
        rows_of_cells = {(start + stop) // 2 * GRID // height for start, stop in blocks}
        assert rows_of_cells == set(range(GRID)), "each row of cells is looked at"


@pytest.mark.parametrize("chunk_rows", [1, 16, 32])
def test_two_megapixels_of_a_large_sensor_are_sampled(chunk_rows: int) -> None:
    blocks = sampled_blocks(6388, 9576, chunk_rows)
    assert len(blocks) == 8
    assert sum(stop - start for start, stop in blocks) * 9576 == pytest.approx(SAMPLED_PIXELS, rel=0.25)


# ---- against literal numpy ----


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 40, 50), (5, 300, 90), (3, 9, 700)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_numbers_of_frames_are_those_of_numpy(shape: tuple[int, int, int], dtype: Any) -> None:
    stack = normal(shape, 400, 150).astype(dtype)
    stack[0, 2:4, 3:8] = FULL_ADU
    survey = survey_of(stack)
    assert survey.n_pixels == shape[1] * shape[2]
    flat = stack.reshape(len(stack), -1).astype(np.float64)
    np.testing.assert_allclose(survey.mean_adu, flat.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(survey.std_adu, flat.std(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(survey.minimum_adu, flat.min(axis=1))
    np.testing.assert_array_equal(survey.maximum_adu, flat.max(axis=1))
    np.testing.assert_array_equal(survey.saturated, (flat >= FULL_ADU).sum(axis=1))
    np.testing.assert_array_equal(survey.zeros, (flat <= 0).sum(axis=1))
    assert survey.cell_pixels.sum() == shape[1] * shape[2]
    assert survey.missing.sum() == 0


def test_the_histogram_counts_evenly_spaced_columns() -> None:
    stack = normal((4, 64, 100), 30_000, 300)
    survey = survey_of(stack)
    edges = survey.histogram_start_adu + survey.histogram_step_adu * np.arange(len(survey.histogram) + 1)
    np.testing.assert_array_equal(survey.histogram, np.histogram(stack, edges - 0.5)[0])
    large = survey_of(normal((2, 8, 9000), 500, 5))
    assert 0.8 * 256 <= large.histogram.sum() / (2 * 8) <= 1.2 * 256


def test_bits_that_never_vary_are_seen() -> None:
    stack = normal((4, 64, 100), 3000, 300)
    assert survey_of(stack & np.uint16(0xFFF0)).varying_bits & 0xF == 0
    assert survey_of(stack | np.uint16(0x8000)).varying_bits & 0x8001 == 1
    assert survey_of(stack.astype(np.float32)).varying_bits == survey_of(stack).varying_bits
    assert survey_of(30.0 * stack.astype(np.float64)).varying_bits > 0xFFFF
    assert survey_of(stack.astype(np.float32) / 3).varying_bits == 0


def test_histograms_of_normalised_floats_have_more_than_one_bin() -> None:
    stack = (normal((4, 64, 100), 3000, 300) / 65535).astype(np.float32)
    survey = survey_of(stack, saturation_adu=1.0)
    assert np.count_nonzero(survey.histogram) > 50
    assert survey.histogram_start_adu == pytest.approx(stack.min(), abs=1e-4)


# ---- however rows are split ----


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("scale", [False, True])
def test_blocks_do_not_show_in_the_result(dtype: Any, scale: bool) -> None:
    stack = (normal((6, 320, 70), 900, 20) * np.linspace(1, 1.3, 6)[:, np.newaxis, np.newaxis]).astype(dtype)
    band = band_rows(320, 70)
    whole = survey_of(stack, scale=scale)
    assert_same(merge_blocks(blocks_of(stack, [0, band, 5 * band, 320], scale=scale)), whole)
    by_band = blocks_of(stack, [*range(0, 320, band), 320], scale=scale)
    assert_same(merge_blocks(by_band[::-1]), whole)
    assert_same(merge_blocks(pickle.loads(pickle.dumps(by_band))), whole)


def test_a_block_of_a_large_sensor_is_small() -> None:
    samples = normal((40, 32, 9576), 500, 4)
    block = survey_block(samples, 3200, (6388, 9576), saturation_adu=FULL_ADU, scale_to_common=False)
    assert len(pickle.dumps(block)) < 150_000


def test_blocks_that_do_not_belong_together_are_refused() -> None:
    one, other = survey_arguments((3, 40, 50)), survey_arguments((3, 40, 60))
    with pytest.raises(ValueError, match="different series"):
        merge_blocks([one, other])
    with pytest.raises(ValueError, match="at least one"):
        merge_blocks([])
    with pytest.raises(ValueError, match="are not rows of frames"):
        survey_block(np.zeros((3, 4, 5), np.uint16), 0, (40, 50), saturation_adu=None, scale_to_common=False)


def survey_arguments(shape: tuple[int, int, int]) -> BlockSurvey:
    (block,) = blocks_of(normal(shape, 500, 5), [0, shape[1]])
    return block


# ---- cells ----


def test_cells_are_the_levels_of_their_places() -> None:
    step = np.kron(np.arange(64).reshape(8, 8), np.ones((40, 50)))
    stack = np.rint(1000 + 10 * step + np.random.default_rng(2).normal(0, 5, (5, 320, 400))).astype(np.uint16)
    stack[3] += 7
    # bands of 32 rows lie across edges of cells; in frames of 320 rows they lie 8 rows from them at most
    expected = stack.reshape(5, 8, 40, 8, 50).mean(axis=(2, 4))
    found = survey_of(stack).cells_adu
    np.testing.assert_allclose(np.diff(found, axis=2), np.diff(expected, axis=2), atol=1.5)
    np.testing.assert_allclose(found[3] - found[:3].mean(axis=0), 7, atol=0.7)


def test_hot_pixels_and_cosmic_rays_do_not_move_cells() -> None:
    stack = normal((10, 320, 400), 500, 4)
    clean = survey_of(stack)
    rng = np.random.default_rng(5)
    stack.reshape(10, -1)[:, rng.choice(320 * 400, 640, replace=False)] = 20_000  # 0.5 %, hot in all frames
    stack.reshape(10, -1)[4, rng.choice(320 * 400, 128, replace=False)] = 3_000  # 0.1 %, in one
    touched = survey_of(stack)
    # sqrt(2000) pixels, 13 ADU of pattern and noise: 0.3 ADU; a mean would be 97 ADU off
    np.testing.assert_allclose(touched.cells_adu, clean.cells_adu, atol=0.6)
    others = touched.cells_adu[[3, 5]].mean(axis=0)
    np.testing.assert_allclose(touched.cells_adu[4] - others, 0, atol=0.6)


# ---- noise ----


@pytest.mark.parametrize("name", ["demo", "bayer", "quiet"])
def test_pairs_give_the_read_noise_of_a_bias(name: str) -> None:
    sensor = {
        "demo": DEMO,
        "bayer": replace(SENSORS["bayer"], width=640, height=512),
        "quiet": replace(SENSORS["qhy600m"], width=640, height=512, read_noise_e=0.5 * 0.78),
    }[name]
    exposure = Exposure(exposure_time_s=0.0)
    survey = survey_of(exposed(sensor, 8, exposure))
    truth = np.median(sensor.noise_adu(exposure)) ** 2
    assert survey.pair_variance_adu2.shape == (7, GRID, GRID)
    # 7 pairs x 0.33 MP: 0.1 %; the 1/12 of rounding is not quite right at 0.5 ADU
    assert survey.pair_variance_adu2.mean() == pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("bayer", [False, True])
def test_pairs_of_flats_of_different_levels_give_the_mean_of_their_variances(bayer: bool) -> None:
    sensor = replace(SENSORS["bayer"], width=640, height=512) if bayer else DEMO
    rng = np.random.default_rng(7)
    exposures = [Exposure(exposure_time_s=1, illumination_e_per_s=rate) for rate in (7000.0, 10_000.0)]
    stack = np.stack([sensor.expose(exposure, rng) for exposure in exposures])
    truth = np.mean([np.mean(sensor.noise_adu(exposure) ** 2) for exposure in exposures])
    assert survey_of(stack, scale=True).pair_variance_adu2.mean() == pytest.approx(truth, rel=0.005)


def test_cosmic_rays_are_not_in_the_variance() -> None:
    stack = normal((12, 320, 400), 500, 4)
    clean = survey_of(stack).pair_variance_adu2.mean()
    rng = np.random.default_rng(6)
    for frame in stack.reshape(12, -1):
        frame[rng.choice(frame.size, 256, replace=False)] += 2_000  # 0.2 %: a variance of 8000 ADU^2
    assert survey_of(stack).pair_variance_adu2.mean() == pytest.approx(clean, rel=0.002)


def test_pairs_are_spread_over_a_long_series() -> None:
    survey = survey_of(normal((100, 16, 16), 500, 5))
    assert survey.pair_variance_adu2.shape == (MAX_PAIRS, GRID, GRID)
    assert (survey.pair_first[0], survey.pair_first[-1]) == (0, 98)
    assert survey_of(normal((1, 16, 16), 500, 5)).pair_variance_adu2.shape == (0, GRID, GRID)


@pytest.mark.parametrize(("n", "share"), [(3, 0.88), (6, 0.94), (12, 0.97), (40, 0.99)])
def test_residuals_are_the_noise_less_what_a_frame_has_in_the_typical_one(n: int, share: float) -> None:
    survey = survey_of(normal((n, 160, 200), 500, 10))
    np.testing.assert_allclose(survey.residual_std_adu, share * 10, rtol=0.03)
    assert survey.residual_outlying.max() < 3e-4


@pytest.mark.parametrize("scale", [False, True])
def test_levels_of_frames_are_not_in_residuals(scale: bool) -> None:
    sensor = replace(DEMO, bias_level_adu=0.0, bias_pattern=replace(DEMO.bias_pattern, gradient_adu=0.0))
    rng = np.random.default_rng(7)
    rates = [20_000.0, 24_000.0, 30_000.0, 20_000.0, 27_000.0, 24_000.0]
    stack = np.stack([sensor.expose(Exposure(exposure_time_s=1, illumination_e_per_s=rate), rng) for rate in rates])
    residual = survey_of(stack, scale=scale).residual_std_adu
    shot = np.sqrt(np.array(rates) * 0.9) / 1.2
    if scale:
        np.testing.assert_allclose(residual / shot, np.full(6, 0.95), atol=0.04)
    else:
        assert (residual / shot).max() > 1.05, "by difference the response of the pixels stays in them"


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_a_bad_frame_differs_from_the_others_and_not_they_from_it(n: int) -> None:
    stack = normal((n, 160, 200), 500, 5)
    rows, columns = np.indices(stack.shape[1:])
    stack[n // 2][(rows + columns) % 5 == 0] += 300
    survey = survey_of(stack)
    others = np.delete(np.arange(n), n // 2)
    assert survey.residual_outlying[n // 2] == pytest.approx(0.2, abs=0.002)
    assert survey.residual_outlying[others].max() < 0.001
    assert survey.residual_std_adu[others].max() < 1.3 * 5


# ---- what is no number ----


def test_what_is_no_number_is_left_out_and_counted() -> None:
    stack = normal((5, 64, 96), 500, 5).astype(np.float32)
    clean = survey_of(stack)
    stack[:, 10, 20] = np.nan
    stack[2, 30:33, 40] = np.inf
    survey = survey_of(stack)
    np.testing.assert_array_equal(survey.missing, [1, 1, 4, 1, 1])
    np.testing.assert_allclose(survey.mean_adu, clean.mean_adu, atol=0.05)
    np.testing.assert_allclose(survey.std_adu, clean.std_adu, rtol=0.01)
    np.testing.assert_allclose(survey.cells_adu, clean.cells_adu, atol=1.5)


def test_a_frame_of_which_nothing_is_a_number_does_not_spoil_the_others() -> None:
    stack = normal((5, 64, 96), 500, 5).astype(np.float32)
    clean = survey_of(stack)
    stack[1] = np.nan
    survey = survey_of(stack)
    assert np.isnan([survey.mean_adu[1], survey.std_adu[1], survey.minimum_adu[1]]).all()
    assert np.isnan(survey.cells_adu[1]).all()
    np.testing.assert_allclose(np.delete(survey.mean_adu, 1), np.delete(clean.mean_adu, 1), rtol=1e-6)


@pytest.mark.parametrize("value", [0, 510, 20_000, FULL_ADU])
@pytest.mark.parametrize("n_frames", [2, 3, 6])
@pytest.mark.parametrize(
    "stick", [np.s_[:, ::8], np.s_[:, :, 8:28], np.s_[:, 100:110], np.s_[:, 20:90, 10:24]], ids=str
)
def test_stuck_pixels_of_a_dark_are_in_no_variance(stick: Any, n_frames: int, value: int) -> None:
    if n_frames < 6 and value == 510:
        pytest.skip("samples of good pixels are often the same")
    stack = normal((n_frames, 128, 256), 500, 5)
    stack[stick] = value
    survey = survey_of(stack)
    assert float(np.nanmean(survey.pair_variance_adu2)) == pytest.approx(25 + 1 / 12, rel=0.03)
    assert float(np.nanmedian(survey.cells_adu)) == pytest.approx(500, abs=0.2)


@pytest.mark.parametrize("n_frames", [2, 3, 6, 20])
@pytest.mark.parametrize(("level", "noise"), [(500, 0.6), (500, 1.5), (1, 5.0), (500, 5.0)])
def test_pixels_that_agree_by_chance_are_not_stuck(n_frames: int, level: float, noise: float) -> None:
    stack = np.maximum(normal((n_frames, 128, 256), 5000 + level, noise), 5000) - np.uint16(5000)
    assert survey_of(stack).cell_pixels.sum() == 128 * 256


@pytest.mark.parametrize("step", [4, 16])
def test_coarse_steps_are_not_stuck(step: int) -> None:
    stack = normal((12, 128, 256), 8000, 0.4 * step) // step * step
    assert survey_of(stack.astype(np.uint16)).cell_pixels.sum() == 128 * 256
