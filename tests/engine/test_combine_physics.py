"""What clipping costs and what it is worth on frames of a quiet sensor, with the real kernels and a fixed generator.

Images have 200 x 200 pixels: a standard deviation measured on one is known to 1 / sqrt(2 * 40000) = 0.35 %, and both
masters are made of the same samples, so that their ratio is known better still.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.engine.combine import BlockResult, combine_block
from ostcal.engine.noise import merge_cells, noise_rows, row_cells
from ostcal.engine.rejection import NoRejection, RejectionMethod, SeriesNoise, SigmaClip, WinsorizedSigmaClip
from ostcal.frames import SampleEncoding

NATIVE = SampleEncoding(dtype="uint16")
SIDE = 200
READ_NOISES_ADU = (0.5, 0.8, 1.2, 3.5)
FRACTIONS_ADU = (0.0, 0.25, 0.5, 0.77)

METHODS: dict[str, RejectionMethod] = {
    "default": SigmaClip(),
    "default to convergence": SigmaClip(iterations=None),
    "median/mad": SigmaClip(center="median", spread="mad"),
    "median/mad to convergence": SigmaClip(center="median", spread="mad", iterations=None),
    "mean/std": SigmaClip(center="mean", spread="std"),
}


def whole_adu(n_frames: int, level_adu: float, read_noise_adu: float, seed: int) -> NDArray[np.uint16]:
    """Return frames of one level and Gaussian read noise, as an analog-digital converter rounds them."""
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((n_frames, SIDE, SIDE), dtype=np.float32)
    return np.rint(samples * np.float32(read_noise_adu) + np.float32(level_adu)).astype(np.uint16)


def noise_of_series(stack: NDArray[np.uint16]) -> SeriesNoise:
    """Measure the noise as the program does."""
    rows = [row_cells(stack[:, y, :].astype(np.int32)) for y in noise_rows(stack.shape[1])]
    return merge_cells(rows)


def combine(stack: NDArray[np.uint16], method: RejectionMethod) -> BlockResult:
    """Combine a stack with its own noise."""
    return combine_block(stack, NATIVE, method, noise=noise_of_series(stack))


def spread_of(image: NDArray[np.float32]) -> float:
    return float(np.std(image, dtype=np.float64))


@pytest.mark.parametrize("n_frames", [5, 14, 20, 100])
@pytest.mark.parametrize("read_noise_adu", READ_NOISES_ADU)
def test_clipping_a_quiet_sensor_costs_no_more_noise_than_promised(n_frames: int, read_noise_adu: float) -> None:
    """At most 1.05 times the noise of the plain mean for 20 and 100 frames, 1.08 for 5 and 14; shift below 0.02 ADU."""
    most = 1.05 if n_frames >= 20 else 1.08
    for index, fraction_adu in enumerate(FRACTIONS_ADU):
        stack = whole_adu(n_frames, 300 + fraction_adu, read_noise_adu, seed=10 * n_frames + index)
        plain = combine(stack, NoRejection()).master
        for name, method in METHODS.items():
            master = combine(stack, method).master
            what = f"{name}, {n_frames} frames, read noise {read_noise_adu}, level 300 + {fraction_adu}"
            assert spread_of(master) <= most * spread_of(plain), what
            assert abs(np.mean(master, dtype=np.float64) - np.mean(plain, dtype=np.float64)) <= 0.02, what


@pytest.mark.parametrize("read_noise_adu", READ_NOISES_ADU)
@pytest.mark.parametrize("n_frames", [2, 5, 40])
def test_noise_of_a_series_is_the_read_noise_and_that_of_rounding(n_frames: int, read_noise_adu: float) -> None:
    """The lower median over cells of few degrees of freedom is a little low: within 5 %."""
    stack = whole_adu(n_frames, 300.3, read_noise_adu, seed=n_frames)
    expected = math.sqrt(read_noise_adu**2 + 1 / 12)
    assert noise_of_series(stack).noise_adu == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("read_noise_adu", READ_NOISES_ADU)
@pytest.mark.parametrize("method", [SigmaClip(), SigmaClip(iterations=None)], ids=["once", "to convergence"])
def test_five_frames_with_cosmic_rays_in_one_come_out_clean(read_noise_adu: float, method: RejectionMethod) -> None:
    """200 hits of 30 ADU and more, up to saturation: their pixels are as good as the mean of the other four frames."""
    n_frames, n_hits, level_adu = 5, 200, 300.4
    stack = whole_adu(n_frames, level_adu, read_noise_adu, seed=42)
    generator = np.random.default_rng(43)
    hit = np.unravel_index(generator.choice(SIDE * SIDE, n_hits, replace=False), (SIDE, SIDE))
    struck = stack[2].astype(np.int64)
    struck[hit] += np.rint(10 ** generator.uniform(1.5, 5.0, n_hits)).astype(np.int64)
    stack[2] = np.minimum(struck, 65535)

    result = combine(stack, method)

    sigma_adu = math.sqrt((read_noise_adu**2 + 1 / 12) / (n_frames - 1))
    residuals = result.master[hit] - level_adu
    assert np.abs(residuals).max() <= 5 * sigma_adu + 0.25
    assert abs(residuals.mean()) <= 4 * sigma_adu / math.sqrt(n_hits) + 0.02
    assert residuals.std() <= sigma_adu * (1 + 4 / math.sqrt(2 * n_hits))
    assert np.all(result.n_used[hit] <= n_frames - 1)
    assert result.rejected_per_frame[2] >= n_hits


@pytest.mark.parametrize("n_frames", [5, 10, 20, 40, 100])
def test_a_hit_of_ten_sigma_is_rejected_by_the_default_for_any_number_of_frames(n_frames: int) -> None:
    """With mean/std alone ten frames or fewer could reject nothing at 3 sigma."""
    read_noise_adu = 3.5
    stack = whole_adu(n_frames, 1000.5, read_noise_adu, seed=n_frames)
    hit = np.arange(0, SIDE, 7)
    stack[1, hit, hit] = 1000 + round(10 * read_noise_adu)
    result = combine(stack, SigmaClip())
    assert np.mean(result.high[hit, hit] < stack[1, hit, hit]) > 0.95


@pytest.mark.parametrize("read_noise_adu", READ_NOISES_ADU)
@pytest.mark.parametrize("n_frames", [5, 20])
def test_winsorized_clipping_keeps_the_level_and_loses_hits(n_frames: int, read_noise_adu: float) -> None:
    stack = whole_adu(n_frames, 300.5, read_noise_adu, seed=n_frames)
    plain = combine(stack, NoRejection()).master
    stack[0, ::40, ::40] = 5000
    result = combine(stack, WinsorizedSigmaClip())
    assert spread_of(result.master) <= 1.08 * spread_of(plain)
    assert abs(np.mean(result.master, dtype=np.float64) - np.mean(plain, dtype=np.float64)) <= 0.02
    assert np.all(result.high[::40, ::40] < 5000)


@pytest.mark.parametrize("n_frames", range(3, 13))
@pytest.mark.parametrize("read_noise_adu", READ_NOISES_ADU)
def test_a_frame_of_another_level_is_rejected_by_the_default_for_any_number_of_frames(
    n_frames: int, read_noise_adu: float
) -> None:
    """The noise in the floor must not contain the frame that is to be rejected."""
    stack = whole_adu(n_frames, 530.2, read_noise_adu, seed=n_frames)
    stack[n_frames // 2] += 3000
    result = combine(stack, SigmaClip())
    assert result.rejected_per_frame[n_frames // 2] == SIDE * SIDE
    assert float(result.master.mean(dtype=np.float64)) == pytest.approx(530.2, abs=0.05)


@pytest.mark.parametrize(("n_frames", "n_other"), [(5, 2), (7, 3), (8, 3), (9, 4), (12, 5)])
def test_fewer_than_half_of_the_frames_of_another_level_are_rejected(n_frames: int, n_other: int) -> None:
    stack = whole_adu(n_frames, 530.2, 3.5, seed=n_frames)
    stack[1 : 2 * n_other : 2] += 3000
    result = combine(stack, SigmaClip())
    assert float(result.master.mean(dtype=np.float64)) == pytest.approx(530.2, abs=0.5)
