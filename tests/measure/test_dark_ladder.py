"""Lines through dark masters: against a literal fit, known truth, and ladders with one wrong master."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import InputError
from ostcal.measure.camera.dark_ladder import (
    BAD_Z,
    BLOCK_PIXELS,
    LadderFit,
    LadderLimits,
    LadderQuality,
    fit_ladder,
    fit_ladder_in_turn,
    ladder_quality,
    median_dark_current,
    why_not_linear,
)
from ostcal.measure.estimators import chi_square_quantile
from support.amounts import amount

EXPOSURES = [0.0, 10.0, 60.0, 300.0]
Planes = NDArray[np.float32]


def ladder(
    rng: np.random.Generator, shape: tuple[int, int], noise_adu: float = 1.0, exposures_s: list[float] = EXPOSURES
) -> tuple[Planes, NDArray[np.float64], NDArray[np.float64]]:
    """Return masters with noise, and the true offset and rate."""
    offset, rate = rng.normal(500, 10, shape), rng.exponential(0.1, shape)
    masters = np.stack([offset + rate * t + noise_adu * rng.standard_normal(shape) for t in exposures_s])
    return masters.astype(np.float32), offset, rate


def literal_fit(
    levels: NDArray[np.float64], exposures_s: list[float], variances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return (offset, rate), their covariance and chi-square per degree of freedom, by the normal equations."""
    design = np.stack([np.ones(len(exposures_s)), np.asarray(exposures_s)], axis=1)
    weight = np.diag(1 / variances)
    covariance = np.linalg.inv(design.T @ weight @ design)
    solution = covariance @ design.T @ weight @ levels
    residual = levels - design @ solution
    return solution, covariance, float(residual @ weight @ residual) / max(1, len(levels) - 2)


@pytest.mark.parametrize(
    "exposures_s", [EXPOSURES, [1.0, 2.0, 4.0], [240.0, 360.0, 1200.0, 1201.0, 3600.0], [0.0, 60.0]]
)
@pytest.mark.parametrize("scalar", [True, False])
def test_every_pixel_is_the_literal_weighted_fit(exposures_s: list[float], scalar: bool) -> None:
    rng = np.random.default_rng(1)
    masters, _, _ = ladder(rng, (3, 4), exposures_s=exposures_s)
    count = len(exposures_s)
    planes = np.broadcast_to(rng.uniform(0.2, 3, (count, 1, 1)), (count, 3, 4)) if scalar else rng.uniform(
        0.2, 3, (count, 3, 4)
    )  # fmt: skip
    variances = [float(p[0, 0]) for p in planes] if scalar else [p.astype(np.float32) for p in planes]
    fit = fit_ladder(masters, exposures_s, variances)
    for pixel in np.ndindex(3, 4):
        levels = masters[(slice(None), *pixel)].astype(np.float64)
        (offset, rate), covariance, chi_square = literal_fit(levels, exposures_s, planes[(slice(None), *pixel)])
        assert fit.offset_adu[pixel] == pytest.approx(offset, abs=2e-3)
        assert fit.rate_adu_per_s[pixel] == pytest.approx(rate, rel=1e-4, abs=1e-5)
        assert fit.uncertainty_at(0.0)[pixel] == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-3)
        assert np.sqrt(fit.rate_variance)[pixel] == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-3)
        if count > 2:
            assert fit.chi_square[pixel] == pytest.approx(chi_square, rel=1e-3, abs=1e-4)
        if count == 2:
            assert np.isnan(fit.chi_square[pixel])
        at = np.array([1.0, 100.0])
        factor = max(1.0, chi_square) if count > 2 and chi_square > fit.bad_chi_square else 1.0
        assert fit.uncertainty_at(100.0)[pixel] == pytest.approx(math.sqrt(factor * at @ covariance @ at), rel=1e-3)
        assert fit.level_at(100.0)[pixel] == pytest.approx(offset + 100 * rate, abs=5e-3)


def test_saturated_and_missing_samples_are_left_out_pixel_by_pixel() -> None:
    masters, _, _ = ladder(np.random.default_rng(2), (2, 3))
    masters[3, 0, 0] = 65535.0  # one saturated: the line of the three others
    masters[0, 0, 1] = np.nan
    masters[2:, 0, 2] = 65535.0  # two are left: no chi-square
    masters[1:, 1, 0] = 65535.0  # one is left: nothing
    masters[:, 1, 1] = np.nan
    fit = fit_ladder(masters, EXPOSURES, [1.0] * 4, saturation_adu=65000.0)
    (offset, rate), covariance, chi_square = literal_fit(
        masters[:3, 0, 0].astype(np.float64), EXPOSURES[:3], np.ones(3)
    )
    assert fit.rate_adu_per_s[0, 0] == pytest.approx(rate, rel=1e-4)
    assert fit.offset_adu[0, 0] == pytest.approx(offset, abs=1e-3)
    assert fit.chi_square[0, 0] == pytest.approx(chi_square, rel=1e-3)
    assert np.sqrt(fit.rate_variance)[0, 0] == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-3)
    (_, rate), _, _ = literal_fit(masters[1:, 0, 1].astype(np.float64), EXPOSURES[1:], np.ones(3))
    assert fit.rate_adu_per_s[0, 1] == pytest.approx(rate, rel=1e-4)
    exact = (float(masters[1, 0, 2]) - float(masters[0, 0, 2])) / 10
    assert fit.rate_adu_per_s[0, 2] == pytest.approx(exact, rel=1e-4)
    assert np.isnan(fit.chi_square[0, 2])
    for pixel in ((1, 0), (1, 1)):
        assert np.isnan(fit.rate_adu_per_s[pixel])
        assert np.isnan(fit.offset_adu[pixel])
        assert np.isnan(fit.uncertainty_at(30.0)[pixel])
    assert np.isfinite(fit.rate_adu_per_s[1, 2])


def test_how_rows_are_shared_out_does_not_matter() -> None:
    width = 700
    rows = 2 * BLOCK_PIXELS // width + 5
    masters, _, _ = ladder(np.random.default_rng(3), (rows, width))
    masters[2, 7, 9] = 65535.0
    whole = fit_ladder(masters, EXPOSURES, [1.0] * 4, saturation_adu=65000.0)
    for stop in (1, 8, rows):
        part = fit_ladder(masters[:, :stop], EXPOSURES, [1.0] * 4, saturation_adu=65000.0)
        for name in ("offset_adu", "rate_adu_per_s", "chi_square", "rate_variance", "pivot_s"):
            np.testing.assert_array_equal(getattr(whole, name)[:stop], getattr(part, name))


def test_pulls_and_chi_square_are_those_of_honest_uncertainties() -> None:
    masters, offset, rate = ladder(np.random.default_rng(4), (400, 500), noise_adu=2.0)
    fit = fit_ladder(masters, EXPOSURES, [4.0] * 4)
    pulls = (
        (fit.rate_adu_per_s - rate) / np.sqrt(fit.rate_variance),
        (fit.offset_adu - offset) / fit.uncertainty_at(0.0),
        (fit.level_at(100.0) - offset - 100 * rate) / fit.uncertainty_at(100.0),
    )
    for pull in pulls:  # 200,000 pixels: known to 0.2 %
        assert np.std(pull) == pytest.approx(1.0, abs=0.01)
        assert np.mean(pull) == pytest.approx(0.0, abs=0.01)
    assert np.mean(fit.chi_square) == pytest.approx(1.0, abs=0.01)


@given(st.floats(-1000, 60000), st.floats(-1, 100), st.lists(st.integers(0, 3600), min_size=3, max_size=6, unique=True))
@settings(max_examples=amount(50))
def test_an_exact_line_is_found(offset: float, rate: float, exposures: list[int]) -> None:
    levels = [np.full((1, 2), offset + rate * t, np.float32) for t in exposures]
    fit = fit_ladder(levels, [float(t) for t in exposures], [1.0] * len(levels))
    scale = max(abs(float(level[0, 0])) for level in levels) + abs(offset)
    lever = max(exposures) - min(exposures)
    assert fit.rate_adu_per_s[0, 0] == pytest.approx(rate, abs=1e-6 * scale / lever * 3 + 1e-6)
    assert fit.level_at(exposures[0])[0, 0] == pytest.approx(float(levels[0][0, 0]), abs=1e-5 * scale + 1e-3)
    assert fit.chi_square[0, 0] <= (1e-6 * scale + 1e-3) ** 2 * 3


@pytest.mark.parametrize("exposures_s", [[], [60.0], [60.0, 60.0], [0.0, 60.0, 60.0]])
def test_fewer_than_two_different_exposures_are_refused(exposures_s: list[float]) -> None:
    masters = np.zeros((len(exposures_s), 2, 2), np.float32)
    with pytest.raises(InputError, match="two different exposures"):
        fit_ladder(masters, exposures_s, [1.0] * len(exposures_s))


@pytest.mark.parametrize("freedom", [1, 2, 3, 8])
def test_quantiles_of_chi_square_are_right(freedom: int) -> None:
    draws = np.random.default_rng(5).chisquare(freedom, 1_000_000) / freedom
    assert chi_square_quantile(0.0, freedom) == pytest.approx(float(np.median(draws)), rel=0.04)
    assert chi_square_quantile(BAD_Z, freedom) == pytest.approx(float(np.quantile(draws, 0.999)), rel=0.04)


# ---- quality ----


def quality_of(masters: Planes, exposures_s: list[float] = EXPOSURES) -> LadderQuality:
    quality = ladder_quality(fit_ladder(masters, exposures_s, [1.0] * len(exposures_s)))
    assert quality is not None
    return quality


def test_a_good_ladder_is_allowed() -> None:
    fit = fit_ladder(ladder(np.random.default_rng(6), (300, 400))[0], EXPOSURES, [1.0] * len(EXPOSURES))
    quality = ladder_quality(fit)
    assert quality is not None
    assert quality.median_ratio == pytest.approx(1.0, abs=0.05)
    assert np.mean(fit.chi_square > fit.bad_chi_square) == pytest.approx(0.001, abs=0.0005)
    assert quality.hot_misfit < 0.01
    assert quality.n_hot >= 20
    assert why_not_linear(quality, LadderLimits()) == ""


@pytest.mark.parametrize(("index", "factor"), [(2, 1.3), (3, 0.6), (1, 3.0)])
def test_a_master_of_a_wrong_exposure_is_told_by_the_hot_pixels(index: int, factor: float) -> None:
    rng = np.random.default_rng(7)
    true = [t * factor if i == index else t for i, t in enumerate(EXPOSURES)]
    offset, rate = np.full((200, 200), 500.0), np.full((200, 200), 1e-4)
    rate.flat[:400] = rng.uniform(3, 20, 400)  # 1 % are hot, the others are cold
    masters = np.stack([offset + rate * t + rng.standard_normal(rate.shape) for t in true]).astype(np.float32)
    quality = quality_of(masters)
    assert quality.median_ratio < 1.2
    assert "hot pixels miss it" in why_not_linear(quality, LadderLimits())


def test_masters_of_which_one_has_another_bias_are_told_by_all_pixels() -> None:
    masters, _, _ = ladder(np.random.default_rng(8), (100, 100))
    masters[1] += 10
    assert "median chi-square" in why_not_linear(quality_of(masters), LadderLimits())


def test_a_drift_that_is_small_in_adu_is_allowed_however_small_the_noise() -> None:
    masters, _, _ = ladder(np.random.default_rng(9), (100, 100), noise_adu=0.05)
    masters[1] += 0.4
    fit = fit_ladder(masters, EXPOSURES, [0.05**2] * 4)
    quality = ladder_quality(fit)
    assert quality is not None
    assert quality.median_ratio > 10
    assert 0.1 < quality.misfit_adu < 0.5
    assert "median" not in why_not_linear(quality, LadderLimits())


def test_two_masters_have_no_quality() -> None:
    masters, _, _ = ladder(np.random.default_rng(10), (10, 10))
    assert ladder_quality(fit_ladder(masters[:2], EXPOSURES[:2], [1.0] * 2)) is None


def test_a_pixel_off_its_line_is_as_uncertain_as_its_masters_disagree() -> None:
    masters, _, _ = ladder(np.random.default_rng(11), (4, 4))
    masters[3, 1, 1] -= 3000  # clipped at full well
    fit = fit_ladder(masters, EXPOSURES, [1.0] * 4)
    assert fit.uncertainty_at(300.0)[1, 1] > 100
    assert np.median(fit.uncertainty_at(300.0)) < 1.1


def test_masters_that_are_read_in_turn_give_the_same_bits() -> None:
    rng = np.random.default_rng(13)
    masters, _, _ = ladder(rng, (40, 50))
    masters[0, 3, :7] = np.nan
    masters[2, 5, 5] = np.nan
    masters[1:, 9, 9] = np.nan  # one master is left: no line
    masters[3, 20:, 20:30] = 65535.0
    variances = rng.uniform(0.5, 3.0, masters.shape).astype(np.float32)
    variances[1, 7, :] = np.inf  # no sample was used
    whole = fit_ladder(masters, EXPOSURES, list(variances), saturation_adu=65000.0)
    reads = [0] * len(masters)

    def read(number: int) -> tuple[Planes, Planes]:
        reads[number] += 1
        return masters[number].copy(), variances[number].copy()

    in_turn = fit_ladder_in_turn(read, EXPOSURES, saturation_adu=65000.0)
    for name in ("offset_adu", "rate_adu_per_s", "chi_square", "rate_variance", "pivot_s", "pivot_variance_adu2"):
        np.testing.assert_array_equal(getattr(in_turn, name).view(np.uint32), getattr(whole, name).view(np.uint32))
    assert np.isnan(whole.rate_adu_per_s[9, 9])
    assert np.isfinite(whole.rate_adu_per_s[3, 3])
    assert reads == [3] * len(masters)


# ---- the median pixel ----


def dark_current(masters: Planes, fit: LadderFit) -> tuple[float, float]:
    measured = median_dark_current(fit, [float(np.median(master)) for master in masters], EXPOSURES)
    return measured.value, measured.uncertainty


def test_the_median_pixel_is_found_under_noise_and_glow() -> None:
    rng = np.random.default_rng(12)
    glow = np.exp(-np.linspace(0, 8, 640))[:, np.newaxis] * np.ones(320)
    rate = 0.02 + 0.5 * glow
    hot = rng.random(rate.shape) < 0.005
    rate = rate + hot * rng.exponential(5.0, rate.shape)
    noise_adu = 6.0
    masters = np.stack([500 + rate * t + noise_adu * rng.standard_normal(rate.shape) for t in EXPOSURES])
    masters = masters.astype(np.float32)
    fit = fit_ladder(masters, EXPOSURES, [noise_adu**2] * 4)
    value, uncertainty = dark_current(masters, fit)
    assert value == pytest.approx(float(np.median(rate)), rel=0.02)
    assert abs(value - np.median(rate)) < 3 * uncertainty
    # the median of the noisy rates would be far above
    assert np.median(fit.rate_adu_per_s) > 1.05 * np.median(rate)


def test_a_drift_of_the_bias_is_in_the_uncertainty() -> None:
    errors, stated = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        masters, _, _ = ladder(rng, (64, 64), noise_adu=0.1)
        masters += rng.normal(0, 3.0, (4, 1, 1)).astype(np.float32)
        value, uncertainty = dark_current(masters, fit_ladder(masters, EXPOSURES, [0.01] * 4))
        errors.append(value - 0.1 * math.log(2))
        stated.append(uncertainty)
    # The truth is the mean of the tiles' middle levels of an exponential: above its median, the same each time.
    assert np.std(errors) == pytest.approx(math.sqrt(np.mean(np.square(stated))), rel=0.4)


def test_a_sensor_that_is_saturated_all_over_is_refused() -> None:
    masters = np.full((4, 8, 8), 65535.0, np.float32)
    fit = fit_ladder(masters, EXPOSURES, [1.0] * 4, saturation_adu=65000.0)
    with pytest.raises(InputError, match="shorter exposures"):
        median_dark_current(fit, [65535.0] * 4, EXPOSURES)
