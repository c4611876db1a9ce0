"""Checks of frames while they are captured: numbers, limits, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.measure import live
from ostcal.measure.live import LiveLimits

LIMITS = LiveLimits()
FULL = 65535


def noise(shape: tuple[int, int] = (80, 100), level: float = 500.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 5.0, shape).round().astype(np.uint16)


@pytest.mark.parametrize(("saturated", "passed"), [(0, True), (100, True), (101, False), (10_000, False)])
def test_saturation_is_a_share_of_the_pixels(saturated: int, passed: bool) -> None:
    verdict = live.saturation(saturated, 10_000, 0.01)
    assert verdict.passed is passed
    assert (verdict.value, verdict.limit) == (saturated / 10_000, 0.01)


def test_a_verdict_is_a_line_with_number_and_limit() -> None:
    assert live.saturation(500, 10_000, 0.01).text == "5 % of the pixels are saturated (limit 1 %)"
    assert live.temperature(-7.5, -10.0, 1.0).text == "the sensor is at -7.5 C, 2.5 C from -10.0 C (limit 1.0 C)"


@pytest.mark.parametrize(("ccd_c", "passed"), [(-10, True), (-9.0, True), (-11.0, True), (-8.9, False), (-11.1, False)])
def test_the_tolerance_of_the_temperature_is_included(ccd_c: float, passed: bool) -> None:
    assert live.temperature(ccd_c, -10.0, 1.0).passed is passed


@given(st.floats(-60, 30), st.floats(0.1, 5))
def test_a_temperature_at_its_tolerance_passes_whatever_floats_make_of_it(target_c: float, tolerance_c: float) -> None:
    assert live.temperature(target_c + tolerance_c, target_c, tolerance_c).passed


def test_the_first_frame_cannot_jump() -> None:
    assert live.level_jump(500.0, [], LIMITS, 0.0) is None
    assert live.light_since_start(500.0, [], LIMITS, FULL) is None
    assert live.light_above_bias(500.0, None, 5.0, LIMITS, FULL) is None


@pytest.mark.parametrize(
    ("level", "bias", "limit", "passed"),
    [
        (504.0, 500.0, 8.0, True),  # darks: at least two steps of 14 bits
        (509.0, 500.0, 8.0, False),
        (491.0, 500.0, 8.0, False),
        (34_000.0, 500.0, 1625.0, True),  # flats: 5 % above bias
        (35_000.0, 500.0, 1625.0, False),
        (31_000.0, 500.0, 1625.0, False),
    ],
)
def test_a_jump_is_measured_against_the_median_of_the_series(
    level: float, bias: float, limit: float, passed: bool
) -> None:
    typical = 500.0 if level < 1000 else 33_000.0
    verdict = live.level_jump(level, [typical, typical, 0.0, typical, 60_000.0], LIMITS, bias)
    assert verdict is not None
    assert verdict.passed is passed
    assert verdict.limit == limit
    assert verdict.value == level - typical


def test_light_is_called_so_only_beyond_what_dark_current_may_be() -> None:
    def passed(level: float, exposure_s: float) -> bool:
        verdict = live.light_above_bias(level, 500.0, exposure_s, LIMITS, FULL)
        assert verdict is not None
        return verdict.passed

    assert passed(560.0, 0.001)
    assert not passed(570.0, 0.001)
    assert passed(570.0, 60.0)
    assert not passed(1000.0, 60.0)
    assert passed(400.0, 1.0)


def test_light_that_comes_later_is_seen_against_the_first_frames() -> None:
    first = [500.0, 501.0, 500.0]
    later = live.light_since_start(540.0, [*first, 538.0, 539.0, 540.0], LIMITS, FULL)
    assert later is not None
    assert not later.passed
    assert later.value == 40.0
    fine = live.light_since_start(510.0, first, LIMITS, FULL)
    assert fine is not None
    assert fine.passed


def test_a_gradient_is_seen_and_noise_and_hot_pixels_are_not() -> None:
    even = noise()
    even[::9, ::7] = 65535
    assert live.gradient_adu(even) <= 1
    slope = noise() + np.linspace(0, 400, 100).astype(np.uint16)
    assert live.gradient_adu(slope) == pytest.approx(300, abs=15)
    assert not live.light_gradient(live.gradient_adu(slope), 1.0, LIMITS, FULL).passed
    assert live.light_gradient(live.gradient_adu(even), 1.0, LIMITS, FULL).passed


def test_colours_are_no_gradient_even_where_pixels_are_skipped() -> None:
    frame = np.full((2200, 2400), 1000, np.uint16)
    frame[::2, ::2] = 3000
    assert live.gradient_adu(frame) == 0
    assert live.median_adu(frame) == 1000


@pytest.mark.parametrize("shape", [(1, 1), (3, 100), (4, 4), (5, 7)])
def test_frames_of_any_size_have_a_gradient(shape: tuple[int, int]) -> None:
    assert live.gradient_adu(np.full(shape, 7, np.uint16)) == 0


def test_the_brightest_colour_decides() -> None:
    frame = np.full((40, 50), 1000, np.uint16)
    frame[::2, 1::2] = 9000
    assert live.colour_level(frame, is_bayer=True, saturation_adu=65000).mean_adu == 9000
    assert live.colour_level(frame, is_bayer=False, saturation_adu=65000).mean_adu == 3000
    level = live.colour_level(frame, is_bayer=True, saturation_adu=9000)
    assert level.saturated_share == 1.0
    assert live.colour_level(frame, is_bayer=False, saturation_adu=9000).saturated_share == 0.25


def test_a_single_row_has_two_colours() -> None:
    frame = np.array([[1, 5, 1, 5]], np.uint16)
    assert live.colour_level(frame, is_bayer=True, saturation_adu=100).mean_adu == 5
