"""Bins of a master's histogram are whole steps of its values: means of whole numbers show no comb."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.measure.masters.histogram import HISTOGRAM_BINS, Histogram

N_PIXELS = 400_000


def frames(
    n_frames: int, noise_adu: float = 6.0, step: int = 1, level: float = 500.3, seed: int = 3
) -> NDArray[np.float64]:
    """Return samples of equal pixels, whole numbers of steps: (n_frames, N_PIXELS)."""
    samples = np.random.default_rng(seed).normal(level, noise_adu, (n_frames, N_PIXELS))
    return np.asarray(step * np.rint(samples / step))


def histogram_of(values: NDArray[np.floating], n_frames: int, step: float = 1.0) -> Histogram:
    histogram = Histogram.of(np.sort(values.astype(np.float32)), sample_step=step, n_frames=n_frames)
    assert histogram.counts.sum() + histogram.below + histogram.above == len(values)
    assert histogram.below + histogram.above <= 0.002 * len(values)
    return histogram


def comb(histogram: Histogram) -> float:
    """Return by how much bins differ from the mean of their neighbours, in units of what chance makes of it."""
    counts = histogram.counts.astype(np.float64)
    middle, sides = counts[1:-1], (counts[:-2] + counts[2:]) / 2
    # Of the middle of the distribution: there a smooth curve is nearly straight from bin to bin.
    where = np.flatnonzero(middle >= 0.3 * counts.max())
    middle, sides = middle[where], sides[where]
    return float(np.sqrt(np.mean((middle - sides) ** 2 / (middle + sides / 2))))


@pytest.mark.parametrize(
    ("n_frames", "step"),
    [(10, 1), (20, 1), (20, 4), (40, 1), (40, 16), (7, 1), (64, 1)],
)
def test_means_of_whole_numbers_have_no_comb(n_frames: int, step: int) -> None:
    means = frames(n_frames, noise_adu=6.0 * step, step=step).mean(axis=0)
    histogram = histogram_of(means, n_frames, step)
    whole = histogram.step * n_frames / step
    assert whole == pytest.approx(round(whole), abs=1e-6)
    assert comb(histogram) < 1.5
    # The same values in bins of any width, as numpy makes them, alternate.
    width = 1.37 * histogram.step
    bins = np.histogram(means, bins=np.arange(means.min(), means.max(), width))[0]
    assert comb(Histogram(counts=bins, start=float(means.min()), step=width, below=0, above=0)) > 5


@pytest.mark.parametrize(("n_frames", "step"), [(9, 1.0), (10, 0.5)])
def test_medians_have_steps_of_one_or_a_half(n_frames: int, step: float) -> None:
    histogram = histogram_of(np.median(frames(n_frames, noise_adu=40.0), axis=0), n_frames)
    assert histogram.step == step
    assert (histogram.start / step) % 1 == pytest.approx(0.5)


def test_pixels_with_fewer_samples_do_not_hide_the_steps() -> None:
    samples = frames(20)
    means = samples.mean(axis=0)
    means[::20] = samples[:-1, ::20].mean(axis=0)  # a sample rejected in some pixels
    histogram = histogram_of(means, 20)
    assert round(histogram.step * 20, 6) % 1 == 0
    assert comb(histogram) < 3


def test_values_off_whole_numbers_have_steps_too() -> None:
    means = frames(20).mean(axis=0) - 37.123  # less an overscan
    histogram = histogram_of(means, 20)
    assert (histogram.step * 20) % 1 == pytest.approx(0, abs=1e-6)
    assert comb(histogram) < 1.5


def test_values_without_steps_have_bins_of_any_width() -> None:
    values = np.random.default_rng(4).normal(1.0, 0.01, N_PIXELS)
    histogram = histogram_of(values, 20, step=1 / 22_000)
    assert len(histogram.counts) == HISTOGRAM_BINS


def test_a_single_frame_has_a_bin_for_each_value() -> None:
    frame = frames(1)[0]
    histogram = histogram_of(frame, 1)
    values, counts = np.unique(frame, return_counts=True)
    at = np.rint((values - histogram.start - histogram.step / 2) / histogram.step).astype(int)
    inside = (at >= 0) & (at < len(histogram.counts))
    assert histogram.step == 1.0
    np.testing.assert_array_equal(histogram.counts[at[inside]], counts[inside])


@pytest.mark.parametrize("value", [0.0, 500.0, -3.25, 1e30])
def test_equal_values_are_in_one_bin(value: float) -> None:
    histogram = Histogram.of(np.full(1000, value, np.float32), sample_step=1.0, n_frames=10)
    assert histogram.counts.max() == 1000
