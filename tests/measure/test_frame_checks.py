"""Checks of frames: every injected fault is named with its frame, clean series of simulated sensors raise no alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.inputs.gather import gather_inputs, stack_of
from ostcal.inputs.grouping import GroupRules, group_frames
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.frames.check_frames import check_frames
from ostcal.measure.frames.survey import SeriesSurvey, merge_blocks, sampled_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.measure.frames.unlike_others import check_rejected
from ostcal.measure.limits import FrameLimits
from ostcal.simulator.sensor import SENSORS, Exposure, SensorModel
from support.amounts import IS_THOROUGH

FULL_ADU = 65535
DEMO = replace(SENSORS["demo"], width=320, height=272)
QUIET = replace(
    SENSORS["qhy600m"],
    width=320,
    height=272,
    read_noise_e=0.5 * 0.78,
    dark=replace(SENSORS["qhy600m"].dark, hot_fraction=0.001),
)
"""Read noise 0.5 ADU."""
BAYER = replace(SENSORS["bayer"], width=320, height=272)
CLEAN_SENSORS = {"demo": DEMO, "bayer": BAYER, "quiet": QUIET, "small": replace(DEMO, width=33, height=50)}

Stack = NDArray[np.uint16]


def survey_of(stack: NDArray[Any], kind: FrameType) -> SeriesSurvey:
    _, height, width = stack.shape
    return merge_blocks(
        [
            survey_block(
                stack[:, start:stop],
                start,
                (height, width),
                saturation_adu=0.999 * FULL_ADU,
                scale_to_common=kind is FrameType.FLAT,
            )
            for start, stop in sampled_blocks(height, width, 16)
        ]
    )


def findings_of(
    kind: FrameType, stack: NDArray[Any], exposures_s: float | Sequence[float], **keys: Any
) -> list[Finding]:
    n = len(stack)
    facts: dict[str, Any] = {"temperatures_c": [-10.0] * n, "set_points_c": [-10.0] * n, "max_adu": FULL_ADU} | keys
    exposures = [exposures_s] * n if isinstance(exposures_s, float) else exposures_s
    return check_frames(kind, survey_of(stack, kind), exposures_s=exposures, **facts)


def alarms(findings: Sequence[Finding]) -> set[tuple[str, int | None]]:
    return {(finding.check, finding.frame) for finding in findings if finding.outcome is not Outcome.PASS}


def darks(sensor: SensorModel, exposure_s: float, n: int, seed: int = 1, light_e_per_s: float = 0.0) -> Stack:
    rng = np.random.default_rng([seed, n])
    exposure = Exposure(exposure_time_s=exposure_s, illumination_e_per_s=light_e_per_s)
    return np.stack([sensor.expose(exposure, rng) for _ in range(n)])


def flats(sensor: SensorModel, levels_adu: Sequence[float], seed: int = 1) -> Stack:
    """Return flats of 1 s whose pixels of response 1 are so far above the bias."""
    rng = np.random.default_rng([seed, len(levels_adu)])
    gain = sensor.gain_e_per_adu
    exposures = [Exposure(exposure_time_s=1, illumination_e_per_s=level * gain) for level in levels_adu]
    return np.stack([sensor.expose(exposure, rng) for exposure in exposures])


def lamp(n: int, seed: int = 1, noise: float = 0.003) -> NDArray[np.float64]:
    """Return the levels of a lamp that scatters by 0.3 %."""
    return 32_000 * (1 + noise * np.random.default_rng([seed, 99]).standard_normal(n))


def twilight(sensor: SensorModel, n: int, seed: int) -> Stack:
    """Return flats of changing level under a sky that has a slope of 2 %, which turns by 3 degrees a frame."""
    rng = np.random.default_rng([seed, 5])
    down, across = np.mgrid[-0.5 : 0.5 : sensor.height * 1j, -0.5 : 0.5 : sensor.width * 1j]
    response, bias, gain = sensor.response(), sensor.bias_adu(), sensor.gain_e_per_adu
    frames = []
    for i in range(n):
        sky = rng.uniform(22_000, 45_000) * (1 + 0.02 * (np.cos(0.05 * i) * down + np.sin(0.05 * i) * across))
        electrons = rng.poisson(sky * response * gain) + rng.normal(0, sensor.read_noise_e, response.shape)
        adu = np.rint((electrons / gain + bias) / sensor.adu_step) * sensor.adu_step
        frames.append(np.clip(adu, 0, FULL_ADU).astype(np.uint16))
    return np.stack(frames)


@cache
def good_darks() -> Stack:
    return darks(DEMO, 20.0, 10)


@cache
def good_flats() -> Stack:
    return flats(DEMO, lamp(12).tolist())


def ramp(stack: Stack) -> NDArray[np.float64]:
    """Return a slope from 0 to 1 across a frame."""
    return np.broadcast_to(np.linspace(0, 1, stack.shape[2]), stack.shape[1:])


def spot(stack: Stack, radius: float = 40.0) -> NDArray[np.float64]:
    """Return a round spot, 1 in its middle."""
    down, across = np.indices(stack.shape[1:])
    return np.exp(-((down - 100) ** 2 + (across - 200) ** 2) / (2 * radius**2))


def with_light(stack: Stack, light_adu: Any) -> Stack:
    return np.clip(stack + np.rint(light_adu), 0, FULL_ADU).astype(np.uint16)


# ---- clean series ----


def clean_series(sensor: SensorModel, seed: int) -> list[tuple[FrameType, Stack, float | list[float]]]:
    n = [5, 7, 12, 20, 3][seed % 5]
    twilight_s = [2.0 * 1.3**i for i in range(n)]
    return [
        (FrameType.BIAS, darks(sensor, 0.001, n, seed), 0.0),
        (FrameType.DARK, darks(sensor, 1.0, n, seed), 1.0),
        (FrameType.DARK, darks(sensor, 20.0, n, seed), 20.0),
        (FrameType.DARK, darks(sensor, 300.0, n, seed), 300.0),
        (FrameType.FLAT, flats(sensor, (1.2 * lamp(n, seed)).tolist(), seed), 1.0),
        (FrameType.FLAT, twilight(sensor, n, seed), twilight_s),
    ]


MORE_SEEDS = (1, 2, 3, 5, 6, 7, 8, 9) if IS_THOROUGH else (1, 2, 3)


@pytest.mark.parametrize("name", list(CLEAN_SENSORS))
@pytest.mark.parametrize("seed", [0, 4, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MORE_SEEDS)])
def test_clean_series_give_no_alarm(name: str, seed: int) -> None:
    sensor = replace(CLEAN_SENSORS[name], seed=seed)
    known = {"read_noise_adu": sensor.read_noise_e / sensor.gain_e_per_adu, "gain_e_per_adu": sensor.gain_e_per_adu}
    for kind, stack, exposures_s in clean_series(sensor, seed):
        findings = findings_of(kind, stack, exposures_s, **known)
        assert not alarms(findings), [finding.text for finding in findings if finding.outcome is not Outcome.PASS]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "bayer"] if IS_THOROUGH else ["bayer"])
def test_clean_series_of_40_frames_of_whole_sensors_give_no_alarm(name: str) -> None:
    sensor = SENSORS[name]
    for kind, stack in (
        (FrameType.BIAS, darks(sensor, 0.001, 40)),
        (FrameType.FLAT, flats(sensor, lamp(40).tolist())),
    ):
        assert not alarms(findings_of(kind, stack, 1.0))


def test_every_check_says_something_about_a_clean_series() -> None:
    words = [finding.check for finding in findings_of(FrameType.DARK, good_darks(), 20.0)]
    assert words == [
        "range", "saturation", "temperature", "set point", "level", "level jump", "drift", "mixture", "light leak",
        "row pattern", "unlike others",
    ]  # fmt: skip
    words = [finding.check for finding in findings_of(FrameType.FLAT, good_flats(), 1.0)]
    assert words == [
        "range", "saturation", "temperature", "set point", "flat level", "linearity", "level jump", "lamp drift",
        "lamp scatter", "flat shape", "row pattern", "unlike others",
    ]  # fmt: skip


# ---- light in darks ----


def test_even_light_in_all_darks_is_seen_by_its_noise() -> None:
    stack = darks(DEMO, 20.0, 10, light_e_per_s=24.0)  # 400 ADU
    found = findings_of(FrameType.DARK, stack, 20.0, read_noise_adu=4.0 / 1.2, gain_e_per_adu=1.2)
    (leak,) = [finding for finding in found if finding.check == "light leak"]
    assert (leak.outcome, leak.frame) == (Outcome.WARN, None)
    assert leak.value == pytest.approx(20 * (24 * 0.87 + 0.3) / 1.2, rel=0.1)


def test_a_slope_of_light_in_all_darks_is_named() -> None:
    stack = with_light(good_darks(), 300 * ramp(good_darks()))
    assert ("light leak", None) in alarms(findings_of(FrameType.DARK, stack, 20.0))


def test_a_slope_of_light_in_one_dark_is_named() -> None:
    stack = good_darks().copy()
    stack[4] = with_light(stack[4:5], 20 * ramp(stack))[0]
    assert ("light leak", 4) in alarms(findings_of(FrameType.DARK, stack, 20.0))


def test_even_light_in_one_dark_is_named() -> None:
    stack = good_darks().copy()
    stack[6] += 50
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("light leak", 6), ("level jump", 6)}


def test_light_that_grows_is_named_with_the_frame_from_which_on_it_counts() -> None:
    stack = good_darks()
    growth = np.maximum(np.arange(len(stack)) - 2, 0)[:, np.newaxis, np.newaxis]
    found = alarms(findings_of(FrameType.DARK, with_light(stack, 4 * growth * ramp(stack)), 20.0))
    assert [frame for check, frame in found if check == "light leak"] in ([3], [4])


def test_even_light_that_grows_is_named() -> None:
    stack = good_darks()
    growth = 12 * np.arange(len(stack))[:, np.newaxis, np.newaxis]
    found = alarms(findings_of(FrameType.DARK, with_light(stack, growth), 20.0))
    assert found == {("light leak", 3), ("drift", 1)}


def test_a_drift_of_the_offset_is_no_light() -> None:
    stack = good_darks()
    drifting = with_light(stack, 0.4 * np.arange(len(stack))[:, np.newaxis, np.newaxis])
    assert alarms(findings_of(FrameType.DARK, drifting, 20.0)) == {("drift", 5)}  # 1.7 ADU, half of the noise


# ---- what the amplifier and the sensor do by themselves ----


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("height_adu", [40, 150, -400])
def test_a_ramp_that_all_bias_frames_have_is_the_amplifiers(height_adu: float, across: bool) -> None:
    stack = darks(DEMO, 0.001, 12).astype(np.int32) + 500
    shape = np.linspace(0, height_adu, stack.shape[2 if across else 1])
    stack += np.rint(shape if across else shape[:, np.newaxis]).astype(np.int32)
    assert not alarms(findings_of(FrameType.BIAS, stack.astype(np.uint16), 0.0))


def test_a_ramp_of_darks_is_no_light_if_the_bias_has_it_too() -> None:
    bias, dark = darks(DEMO, 0.001, 5), good_darks()
    own = 200 * ramp(dark)
    cells = np.median(survey_of(with_light(bias, own), FrameType.BIAS).cells_adu, axis=0)
    assert not alarms(findings_of(FrameType.DARK, with_light(dark, own), 20.0, amplifier_cells_adu=cells))
    lit = findings_of(FrameType.DARK, with_light(dark, own + 100 * ramp(dark)), 20.0, amplifier_cells_adu=cells)
    (leak,) = [finding for finding in lit if finding.outcome is not Outcome.PASS]
    assert (leak.check, leak.frame, leak.value) == ("light leak", None, pytest.approx(100, abs=3))


def test_one_bias_frame_with_a_ramp_of_its_own_is_still_named() -> None:
    stack = darks(DEMO, 0.001, 12).copy()
    stack[4] = with_light(stack[4:5], 40 * ramp(stack))[0]
    assert ("light leak", 4) in alarms(findings_of(FrameType.BIAS, stack, 0.0))


@pytest.mark.parametrize("rising", [True, False])
def test_a_shape_that_changes_while_the_sensor_becomes_warmer_is_no_light(rising: bool) -> None:
    stack = good_darks()
    growth = np.arange(len(stack))[:, np.newaxis, np.newaxis]
    temperatures = np.linspace(2.0, 11.0, len(stack))
    if not rising:
        growth, temperatures = growth[::-1], temperatures[::-1]
    warm = with_light(stack, 4 * growth * ramp(stack))
    known = {"temperatures_c": temperatures.tolist(), "set_points_c": [None] * len(stack)}
    found = {check for check, _ in alarms(findings_of(FrameType.DARK, warm, 20.0, **known))}
    assert "light leak" not in found
    assert "temperature" in found  # what it is, is said
    assert "light leak" in {check for check, _ in alarms(findings_of(FrameType.DARK, warm, 20.0))}


def test_flats_with_the_cooler_off_are_no_alarm() -> None:
    n = len(good_flats())
    known = {"temperatures_c": [24.9] * n, "set_points_c": [0.0] * n}
    assert not alarms(findings_of(FrameType.FLAT, good_flats(), 0.03, **known))
    assert alarms(findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=[24.9] * 10, set_points_c=[0.0] * 10))


# ---- half of the frames are of another level ----


@pytest.mark.parametrize("kind", [FrameType.BIAS, FrameType.DARK])
@pytest.mark.parametrize(
    ("n", "other"),
    [(2, [1]), (4, [0, 3]), (8, [1, 3, 5, 7]), (9, [0, 1, 2, 3]), (20, list(range(10))), (30, [*range(0, 26, 2)])],
)
@pytest.mark.parametrize("apart_adu", [15, 3000])
def test_half_of_the_frames_at_another_level_are_a_failure(
    kind: FrameType, n: int, other: list[int], apart_adu: int
) -> None:
    stack = darks(DEMO, 0.001, n).copy()
    stack[other] += np.uint16(apart_adu)
    found = [finding for finding in findings_of(kind, stack, 0.0) if finding.check == "mixture"]
    assert [(finding.outcome, finding.frame) for finding in found] == [(Outcome.FAIL, None)]
    assert found[0].value == pytest.approx(apart_adu, abs=1)


@pytest.mark.parametrize(("n", "n_other", "apart_adu"), [(8, 2, 3000), (7, 2, 14), (10, 5, 6), (30, 9, 100)])
def test_a_minority_at_another_level_and_small_steps_are_no_mixture(n: int, n_other: int, apart_adu: int) -> None:
    stack = darks(DEMO, 0.001, n).copy()
    stack[:n_other] += np.uint16(apart_adu)
    found = findings_of(FrameType.BIAS, stack, 0.0)
    assert worst(found) is Outcome.WARN
    assert "level jump" in {check for check, _ in alarms(found)}


def test_levels_that_scatter_or_drift_are_no_mixture() -> None:
    stack = darks(DEMO, 0.001, 12)
    for levels in (np.arange(12) * 9, np.random.default_rng(3).integers(0, 40, 12)):
        moved = with_light(stack, levels[:, np.newaxis, np.newaxis])
        assert worst(findings_of(FrameType.BIAS, moved, 0.0)) is not Outcome.FAIL


# ---- rows and columns that change ----


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("every", "share"), [(2, 0.03), (3, 0.03), (12, 0.02), (2, -0.04)])
def test_even_and_odd_lines_of_flats_that_change_are_named(axis: int, first: int, every: int, share: float) -> None:
    stack = good_flats().astype(np.float64)
    lines = np.zeros(stack.shape[1:])
    lines[(slice(first, None, 2), slice(None)) if axis == 0 else (slice(None), slice(first, None, 2))] = share
    stack[every - 1 :: every] *= 1 + lines
    found = findings_of(FrameType.FLAT, np.rint(stack).astype(np.uint16), 1.0)
    (pattern,) = {finding.check: finding for finding in found if finding.check == "row pattern"}.values()
    assert pattern.outcome is Outcome.WARN
    assert "disagree in shape" in pattern.text
    assert pattern.value == pytest.approx(abs(share), rel=0.15)
    assert ("columns" if axis else "rows") in pattern.text


@pytest.mark.parametrize("change_adu", [6, 40])
def test_even_and_odd_rows_of_bias_frames_that_change_are_named(change_adu: int) -> None:
    stack = darks(DEMO, 0.001, 10).copy()
    stack[3, ::2] += np.uint16(change_adu)
    assert ("row pattern", 3) in alarms(findings_of(FrameType.BIAS, stack, 0.0))


def test_even_and_odd_rows_that_differ_alike_in_all_frames_are_no_alarm() -> None:
    stack = good_flats().astype(np.float64)
    stack[:, ::2] *= 1.1
    assert not alarms(findings_of(FrameType.FLAT, np.rint(stack).astype(np.uint16), 1.0))
    bias = darks(DEMO, 0.001, 10).copy()
    bias[:, :, ::2] += 40
    assert not alarms(findings_of(FrameType.BIAS, bias, 0.0))


def test_a_lamp_whose_colour_changes_is_no_row_pattern() -> None:
    stack = flats(BAYER, lamp(12).tolist()).astype(np.float64)
    warmth = np.linspace(0, 0.05, 12)[:, np.newaxis, np.newaxis]
    stack[:, ::2, ::2] *= 1 + warmth
    stack[:, 1::2, 1::2] *= 1 - warmth
    found = {check for check, _ in alarms(findings_of(FrameType.FLAT, np.rint(stack).astype(np.uint16), 1.0))}
    assert "row pattern" not in found


# ---- levels ----


def test_a_level_jump_of_one_frame_is_named() -> None:
    stack = good_darks().copy()
    stack[7] += 6
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("level jump", 7)}


@pytest.mark.parametrize(("at", "named"), [(2, [0, 1]), (4, [4]), (6, [6]), (7, [7, 8, 9]), (8, [8, 9])])
def test_a_step_is_named_with_the_few_frames_beside_it_or_the_first_after_it(at: int, named: list[int]) -> None:
    stack = good_darks().copy()
    stack[at:] += 6
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("level jump", frame) for frame in named}


def test_a_step_half_way_is_no_light_that_grows() -> None:
    stack = darks(BAYER, 20.0, 20)
    stack[11:] += 18  # 2.6 noises; 33 ADU would be light
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("level jump", 11)}


def test_the_bad_one_of_three_is_named() -> None:
    stack = good_darks()[:3].copy()
    stack[1] += 6
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("level jump", 1)}


def test_a_lamp_that_drifts_is_named() -> None:
    n = 12
    levels = lamp(n, noise=0.001) * np.linspace(1, 1.03, n)
    findings = findings_of(FrameType.FLAT, flats(DEMO, levels.tolist()), 1.0)
    (drift,) = [finding for finding in findings if finding.outcome is not Outcome.PASS]
    assert drift.check == "lamp drift"
    assert drift.frame in (7, 8, 9)  # 2 % are reached at 7.3 of 11
    assert drift.value == pytest.approx(0.03, abs=0.004)


def test_a_lamp_that_flickers_is_named() -> None:
    found = alarms(findings_of(FrameType.FLAT, flats(DEMO, lamp(12, noise=0.02).tolist()), 1.0))
    assert ("lamp scatter", None) in found


def test_one_brighter_flat_is_named() -> None:
    levels = lamp(12)
    levels[5] *= 1.06
    assert alarms(findings_of(FrameType.FLAT, flats(DEMO, levels.tolist()), 1.0)) == {("level jump", 5)}


def test_flats_far_from_their_target_are_named() -> None:
    levels = lamp(6)
    levels[2] = 6_000
    found = alarms(findings_of(FrameType.FLAT, flats(DEMO, levels.tolist()), [1.0, 1.0, 0.2, 1.0, 1.0, 1.0]))
    assert found == {("flat level", 2)}


# ---- shapes of flats ----


def test_condensation_that_grows_is_named_with_the_frame_from_which_on_it_counts() -> None:
    stack = good_flats()
    depth = 0.008 * np.maximum(np.arange(len(stack)) - 3, 0)[:, np.newaxis, np.newaxis]
    found = alarms(findings_of(FrameType.FLAT, with_light(stack, -stack * depth * spot(stack)), 1.0))
    assert [frame for check, frame in found if check == "flat shape"] in ([4], [5], [6])


def test_a_cloud_over_a_part_of_one_flat_is_named() -> None:
    stack = good_flats().copy()
    stack[3] = with_light(stack[3:4], -0.04 * stack[3] * spot(stack, 60.0))[0]
    assert ("flat shape", 3) in alarms(findings_of(FrameType.FLAT, stack, 1.0))


# ---- frames that are not what they say ----


def test_a_flat_among_darks_is_a_failure_and_named() -> None:
    stack = good_darks().copy()
    stack[2] = good_flats()[0]
    findings = findings_of(FrameType.DARK, stack, 20.0)
    assert {("level jump", 2), ("light leak", 2), ("unlike others", 2)} <= alarms(findings)
    assert {frame for _, frame in alarms(findings)} == {2}
    assert worst(findings) is Outcome.FAIL


def test_a_dark_among_flats_is_named() -> None:
    stack = good_flats().copy()
    stack[11] = good_darks()[0]
    findings = findings_of(FrameType.FLAT, stack, 1.0)
    assert {("level jump", 11), ("flat level", 11), ("flat shape", 11)} <= alarms(findings)
    assert {frame for _, frame in alarms(findings)} == {11}


def test_a_picture_of_stars_among_darks_is_a_failure_and_named() -> None:
    rng = np.random.default_rng(3)
    stack = good_darks().copy()
    down, across = np.indices(stack.shape[1:])
    sky = np.zeros(stack.shape[1:])
    for row, column in rng.uniform(0, 270, (150, 2)):
        sky += 2000 * np.exp(-((down - row) ** 2 + (across - column) ** 2) / 8)
    stack[0] = with_light(stack[:1], sky)[0]
    findings = findings_of(FrameType.DARK, stack, 20.0)
    assert ("unlike others", 0) in alarms(findings)
    assert {frame for _, frame in alarms(findings)} == {0}
    assert worst(findings) is Outcome.FAIL


def test_a_noisier_frame_is_named() -> None:
    stack = good_darks().copy()
    noise = np.random.default_rng(4).normal(0, 5, stack.shape[1:])
    stack[9] = with_light(stack[9:], noise)[0]
    assert alarms(findings_of(FrameType.DARK, stack, 20.0)) == {("unlike others", 9)}


def test_a_half_read_frame_is_a_failure_and_named() -> None:
    stack = good_darks().copy()
    stack[5, 136:] = 0
    findings = findings_of(FrameType.DARK, stack, 20.0)
    assert {("range", 5), ("unlike others", 5)} <= alarms(findings)
    assert {frame for _, frame in alarms(findings)} == {5}
    assert worst(findings) is Outcome.FAIL


def test_rows_that_are_missing_are_named() -> None:
    stack = good_darks().copy()
    stack[5, 100:104] = 0  # 1.5 %
    found = alarms(findings_of(FrameType.DARK, stack, 20.0))
    assert {("range", 5), ("unlike others", 5)} <= found
    assert {frame for _, frame in found} == {5}


def test_a_saturated_frame_is_a_failure_and_named() -> None:
    stack = good_flats().copy()
    stack[8] = FULL_ADU
    findings = findings_of(FrameType.FLAT, stack, 1.0)
    assert {("saturation", 8), ("range", 8), ("flat level", 8)} <= alarms(findings)
    assert {frame for _, frame in alarms(findings)} == {8}
    assert worst(findings) is Outcome.FAIL


def test_a_frame_without_numbers_is_named_and_spoils_nothing() -> None:
    stack = good_darks().astype(np.float32)
    stack[1] = np.nan
    stack[:, 3, 5] = np.inf
    findings = findings_of(FrameType.DARK, stack, 20.0)
    assert alarms(findings) == {("range", 1)}
    assert worst(findings) is Outcome.WARN  # its samples are in no master


# ---- temperature ----


def test_the_temperature_of_one_frame_is_named() -> None:
    temperatures = [-10.0, -9.8, None, -7.0, *[-10.1] * 6]
    found = alarms(findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=temperatures))
    assert found == {("temperature", 3), ("set point", 3)}


def test_a_sensor_that_never_reached_its_set_point_is_named_once() -> None:
    found = findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=[-4.0] * 10)
    (finding,) = [finding for finding in found if finding.outcome is not Outcome.PASS]
    assert (finding.check, finding.frame, finding.value, finding.limit) == ("set point", None, 6.0, 1.0)
    assert "at -4.0 C in all 10 frames, +6.0 C from its set point, -10.0 C" in finding.text


def test_a_sensor_that_is_on_its_way_to_its_set_point_is_named_by_its_worst_frame() -> None:
    found = findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=[-2.0 - 0.6 * i for i in range(10)])
    (finding,) = [finding for finding in found if finding.check == "set point"]
    assert (finding.frame, finding.value) == (0, 8.0)
    assert finding.text.endswith("it is the worst of 10 of 10 frames")


def test_light_in_many_darks_is_one_finding() -> None:
    stack = with_light(good_darks(), 300 * ramp(good_darks()))
    stack[1::2] = with_light(stack[1::2], 60 * np.ones_like(ramp(stack)))
    found = findings_of(FrameType.DARK, stack, 20.0)
    (leak,) = [finding for finding in found if finding.check == "light leak"]
    assert leak.frame in (1, 3, 5, 7, 9)  # the worst
    assert "it is the worst of 5 of 10 frames" in leak.text
    assert "across the frames" in leak.text


def test_temperatures_that_nobody_recorded_are_no_alarm() -> None:
    nothing = [None] * 10
    assert not alarms(findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=nothing, set_points_c=nothing))


# ---- how findings are counted, and odd series ----


def test_thirty_of_forty_frames_are_one_finding() -> None:
    temperatures = [-10.0] * 10 + [-4.0, -16.0] * 15
    found = findings_of(FrameType.DARK, darks(DEMO, 1.0, 40), 1.0, temperatures_c=temperatures)
    (finding,) = [finding for finding in found if finding.check == "temperature"]
    assert finding.frame == 10
    assert finding.text.endswith("it is the worst of 30 of 40 frames")


@pytest.mark.parametrize("kind", [FrameType.BIAS, FrameType.DARK, FrameType.FLAT])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (3, 8, 300), (4, 300, 8), (5, 1, 1), (7, 3, 5), (300, 16, 16)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_any_size_and_number_of_frames_can_be_judged(kind: FrameType, shape: tuple[int, int, int], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    stack = np.rint(rng.normal(30_000 if kind is FrameType.FLAT else 300, 30, shape)).astype(dtype)
    nothing: list[float | None] = [None] * len(stack)
    found = check_frames(
        kind, survey_of(stack, kind), exposures_s=nothing, temperatures_c=nothing, set_points_c=nothing, max_adu=None
    )
    assert {finding.check for finding in found} >= {"range", "saturation", "temperature", "unlike others"}
    assert len({(finding.check, finding.frame) for finding in found}) == len(found)
    if stack[0].size > 1:
        assert worst(found) is not Outcome.FAIL


@pytest.mark.parametrize("value", [0, 500, FULL_ADU])
@pytest.mark.parametrize("kind", [FrameType.DARK, FrameType.FLAT])
def test_frames_without_any_structure_are_failures(value: int, kind: FrameType) -> None:
    found = findings_of(kind, np.full((5, 40, 40), value, np.uint16), 1.0)
    assert worst(found) is Outcome.FAIL
    assert ("range", 0) in alarms(found)


def test_values_must_be_as_many_as_frames() -> None:
    with pytest.raises(ValueError, match="3 temperatures for a survey of 10 frames"):
        findings_of(FrameType.DARK, good_darks(), 20.0, temperatures_c=[1.0] * 3)


def test_limits_decide() -> None:
    loose = FrameLimits(jump_noises=3.0)
    stack = good_darks().copy()
    stack[7] += 6
    assert not alarms(findings_of(FrameType.DARK, stack, 20.0, limits=loose))


def test_rejected_samples_name_the_frame_that_lost_most() -> None:
    (finding,) = check_rejected([30, 25, 4000, 28, 31], 10_000)
    assert (finding.check, finding.outcome, finding.frame) == ("rejected samples", Outcome.WARN, 2)
    assert (finding.value, finding.limit) == (0.4, 0.05)
    (finding,) = check_rejected([30, 25, 40, 28, 31], 10_000)
    assert (finding.outcome, finding.frame, finding.value) == (Outcome.PASS, None, 0.004)
    assert [finding.outcome for finding in check_rejected([], 0)] == [Outcome.PASS]


# ---- real frames ----


@cache
def real_alarms(folder: Path) -> dict[str, set[tuple[str, str]]]:
    """Return for each group, by its first frame, the checks that are no pass, each with the name of its file."""
    sources = gather_inputs([str(folder)], exclude=str(folder / "none")).sources
    alarms_of = {}
    for group in group_frames([source.frame for source in sources.values()], GroupRules()).groups:
        stack = stack_of([sources[frame.label] for frame in group.frames])
        block = np.empty(stack.shape, stack.encoding.dtype)
        stack.read_rows(0, stack.shape[1], block)
        known = [frame.metadata for frame in group.frames]
        names = [Path(frame.label).name for frame in group.frames]
        assert known[0].frame_type is not None
        findings = findings_of(
            known[0].frame_type,
            stack.encoding.decode(block),
            [m.exposure_time_s or 0.0 for m in known],
            temperatures_c=[m.ccd_temperature_c for m in known],
            set_points_c=[m.set_temperature_c for m in known],
        )
        alarms_of[names[0]] = {(check, "" if frame is None else names[frame]) for check, frame in alarms(findings)}
    return alarms_of


@pytest.mark.filterwarnings("ignore")  # odd cards of the cameras
def test_real_frames_of_a_good_observatory_raise_no_alarm(shared_data: Path) -> None:
    assert list(real_alarms(shared_data / "arcsat").values()) == [set(), set(), set()]


@pytest.mark.filterwarnings("ignore")
def test_the_picture_of_jupiter_that_says_dark_is_named(shared_data: Path) -> None:
    found = real_alarms(shared_data / "atik")
    jupiter = {("light leak", "JupiterandIo.fit"), ("unlike others", "JupiterandIo.fit")}
    assert [group for group in found.values() if group] == [jupiter]


@pytest.mark.filterwarnings("ignore")
def test_a_dark_of_1200_s_of_another_level_is_named(shared_data: Path) -> None:
    found = real_alarms(shared_data / "st402" / "raw")
    darks_found = [group for name, group in found.items() if "dark" in name and group]
    assert darks_found == [{("level jump", "L2-dark-neon-1200.00000003.DARK.FIT")}]
