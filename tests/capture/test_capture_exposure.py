"""The exposure of flats: found for many lights, sensors and starts, refused where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ostcal.capture.auto_exposure import (
    Accept,
    ExposureRules,
    GiveUp,
    LightProblem,
    Trial,
    Try,
    decide,
    is_accepted,
    rounded,
)
from support.amounts import amount

RULES = ExposureRules()
FULL = RULES.max_adu


def linear(rate: float, bias: float, full_well: float = 1.0) -> Callable[[float], Trial]:
    """Return a sensor that collects `rate` ADU in a second and ends at a share of full scale."""

    def expose(exposure_s: float) -> Trial:
        level = bias + rate * exposure_s
        clipped = min(level, full_well * FULL)
        return Trial(exposure_s=exposure_s, level_adu=clipped, saturated_share=1.0 if clipped >= 0.999 * FULL else 0.0)

    return expose


def search(
    rules: ExposureRules, expose: Callable[[float], Trial], start_s: float, bias: Trial | None = None
) -> tuple[Accept | GiveUp, list[Trial]]:
    """Take trials until there is a decision."""
    bias = bias or expose(rules.min_exposure_s)
    trials: list[Trial] = []
    while True:
        choice = decide(rules, bias, trials, start_s)
        if not isinstance(choice, Try):
            return choice, trials
        assert rules.min_exposure_s <= choice.exposure_s <= rules.max_exposure_s
        trials.append(expose(choice.exposure_s))
        assert len(trials) <= rules.max_attempts


@settings(max_examples=amount(300))
@given(
    exponent=st.floats(3.4, 7.6),
    bias=st.floats(0, 6000),
    start_exponent=st.floats(-3, 1),
    full_well=st.sampled_from([1.0, 0.9, 0.8]),
)
def test_every_light_that_has_an_exposure_gets_it(
    exponent: float, bias: float, start_exponent: float, full_well: float
) -> None:
    right_s = (RULES.target_adu - bias) / 10**exponent
    assume(RULES.min_exposure_s * 1.02 < right_s < RULES.max_exposure_s * 0.98)
    choice, trials = search(RULES, linear(10**exponent, bias, full_well), 10**start_exponent)
    assert isinstance(choice, Accept), (choice, trials)
    level = bias + 10**exponent * choice.exposure_s
    assert RULES.lowest_adu <= level <= RULES.highest_adu


@given(rate=st.floats(3300, 3.0e5), bias=st.floats(0, 6000))
def test_one_frame_with_signal_is_enough_for_the_prediction(rate: float, bias: float) -> None:
    expose = linear(rate, bias)
    start_s = 0.1 * (RULES.target_adu - bias) / rate
    assume(start_s > 2 * RULES.min_exposure_s)
    choice, trials = search(RULES, expose, start_s)
    assert isinstance(choice, Accept)
    assert len(trials) == 2
    assert trials[-1].level_adu == pytest.approx(RULES.target_adu, rel=0.01)


def test_the_bias_level_is_subtracted() -> None:
    # with a bias of 6000 ADU the plain ratio of levels would give 2.4 s and 0.41 of full scale in the second trial
    _, trials = search(RULES, linear(8800.0, 6000.0), 1.0)
    assert trials[-1].level_adu == pytest.approx(RULES.target_adu, rel=0.005)


def test_a_known_bias_level_serves_as_well_as_a_frame() -> None:
    choice, trials = search(RULES, linear(9000.0, 500.0), 1.0, bias=Trial(exposure_s=0.0, level_adu=500.0))
    assert isinstance(choice, Accept)
    assert len(trials) == 2


def test_an_exposure_that_is_right_already_is_kept() -> None:
    choice, trials = search(RULES, linear(30_000.0, 500.0), 1.0)
    assert choice == Accept(exposure_s=1.0)
    assert len(trials) == 1


@pytest.mark.parametrize(("level", "accepted"), [(0.4, True), (0.6, True), (0.399, False), (0.601, False)])
def test_the_window_is_the_target_with_its_tolerance(level: float, accepted: bool) -> None:
    assert is_accepted(RULES, Trial(exposure_s=1.0, level_adu=level * FULL)) is accepted


def test_saturated_pixels_are_not_accepted_at_the_right_level() -> None:
    assert not is_accepted(RULES, Trial(exposure_s=1.0, level_adu=0.5 * FULL, saturated_share=0.002))


def test_dark_frames_are_stepped_from_by_the_factor_and_then_faster() -> None:
    black = Trial(exposure_s=RULES.min_exposure_s, level_adu=500.0)
    trials = [Trial(exposure_s=0.01, level_adu=500.0)]
    assert decide(RULES, black, trials, 0.01) == Try(exposure_s=0.015)
    trials.append(Trial(exposure_s=0.015, level_adu=500.0))
    assert decide(RULES, black, trials, 0.01) == Try(exposure_s=rounded(RULES, 0.015 * 1.5**2))


def test_saturated_frames_are_stepped_from_by_at_least_the_factor() -> None:
    black = Trial(exposure_s=RULES.min_exposure_s, level_adu=500.0)
    trials = [Trial(exposure_s=6.0, level_adu=FULL, saturated_share=1.0)]
    choice = decide(RULES, black, trials, 6.0)
    assert isinstance(choice, Try)
    assert choice.exposure_s <= 4.0
    steep = replace(RULES, step_factor=4.0)
    assert decide(steep, black, trials, 6.0) == Try(exposure_s=1.5)


def test_a_light_that_is_too_bright_is_said_after_the_shortest_exposure() -> None:
    choice, trials = search(RULES, linear(5e7, 500.0), 1.0)
    assert isinstance(choice, GiveUp)
    assert choice.light is LightProblem.TOO_BRIGHT
    assert trials == []
    assert "the light is too bright: the shortest exposure, 0.001 s, gives" in choice.reason
    assert "dim the light" in choice.reason


def test_a_light_that_is_too_bright_is_said_with_a_known_bias_too() -> None:
    choice, _ = search(RULES, linear(5e7, 500.0), 1.0, bias=Trial(exposure_s=0.0, level_adu=500.0))
    assert isinstance(choice, GiveUp)
    assert choice.light is LightProblem.TOO_BRIGHT


def test_a_light_that_is_too_faint_is_said_with_the_exposure_that_would_do() -> None:
    choice, trials = search(RULES, linear(1000.0, 500.0), 1.0)
    assert isinstance(choice, GiveUp)
    assert choice.light is LightProblem.TOO_FAINT
    assert trials[-1].exposure_s == 10.0
    assert "the light is too faint: the longest exposure, 10 s, gives 16.0 % of full scale" in choice.reason
    assert "raise flat_capture.max_exposure to about 32.3 s" in choice.reason


def test_no_light_at_all_is_too_faint() -> None:
    choice, _ = search(RULES, linear(0.0, 500.0), 1.0)
    assert isinstance(choice, GiveUp)
    assert choice.light is LightProblem.TOO_FAINT
    assert choice.reason.endswith("or raise flat_capture.max_exposure"), "no exposure would do"


@given(exponent=st.floats(-2, 9), bias=st.floats(0, 6000), start_exponent=st.floats(-3, 1), attempts=st.integers(1, 10))
def test_the_search_always_ends_and_says_why(
    exponent: float, bias: float, start_exponent: float, attempts: int
) -> None:
    rules = replace(RULES, max_attempts=attempts)
    choice, trials = search(rules, linear(10**exponent, bias), 10**start_exponent)
    assert len(trials) <= attempts
    if isinstance(choice, GiveUp):
        assert choice.reason.startswith(f"the light is {choice.light}")
        assert "%" in choice.reason


def test_an_unsteady_light_ends_after_the_attempts() -> None:
    rates = iter([3e3, 3e5] * 20)
    choice, trials = search(RULES, lambda exposure_s: linear(next(rates), 500.0)(exposure_s), 0.5)
    assert isinstance(choice, (Accept, GiveUp))
    if isinstance(choice, GiveUp):
        assert "max_adjustment_attempts" in choice.reason
        assert len(trials) == RULES.max_attempts


def test_exposures_have_three_digits_within_the_limits() -> None:
    assert rounded(RULES, 0.98273) == 0.983
    assert rounded(RULES, 0.0123456) == 0.0123
    assert rounded(RULES, 1e-9) == RULES.min_exposure_s
    assert rounded(RULES, 1e9) == RULES.max_exposure_s
