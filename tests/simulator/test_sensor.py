"""The sensor model obeys its physics; every tolerance follows from the noise and the number of samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.errors import ConfigError
from ostcal.simulator.sensor import (
    BLOCK_ROWS,
    SENSORS,
    BayerMatrix,
    BiasPattern,
    CosmicRays,
    DarkCurrent,
    Dust,
    Exposure,
    Filter,
    SensorModel,
)

PLAIN = SensorModel(
    name="plain",
    width=300,
    height=200,
    gain_e_per_adu=1.25,
    read_noise_e=5.0,
    bias_level_adu=400.0,
    full_well_e=60_000.0,
    dark=DarkCurrent(rate_e_per_s=0.0),
    clear=Filter(name="clear", vignetting=0.0),
    cosmic_rays=CosmicRays(rate_per_cm2_s=0.0),
)
"""No flaw at all: tests add the one that they look at."""
BIAS = Exposure(exposure_time_s=0.0)
SIGMAS = 5.0
"""Tolerance in standard deviations of what is measured: one test in two million fails by chance."""


def frames(sensor: SensorModel, exposure: Exposure, count: int, seed: int = 7) -> NDArray[np.float64]:
    """Take frames: (count, height, width) float64."""
    rng = np.random.default_rng(seed)
    return np.stack([sensor.expose(exposure, rng) for _ in range(count)]).astype(np.float64)


def dark(rate_e_per_s: float, **changes: float) -> DarkCurrent:
    return DarkCurrent(rate_e_per_s=rate_e_per_s, **changes)


# Noise


def test_a_bias_frame_has_the_level_and_the_read_noise() -> None:
    frame = frames(PLAIN, BIAS, 1)
    sigma_adu = math.hypot(PLAIN.read_noise_e / PLAIN.gain_e_per_adu, 1 / math.sqrt(12))
    assert frame.mean() == pytest.approx(PLAIN.bias_level_adu, abs=SIGMAS * sigma_adu / math.sqrt(frame.size))
    assert frame.std() == pytest.approx(sigma_adu, rel=SIGMAS / math.sqrt(2 * frame.size))


def test_variance_grows_with_the_signal_by_one_over_the_gain() -> None:
    levels_e = np.array([2_000.0, 10_000.0, 20_000.0, 40_000.0])
    means, variances = [], []
    for level_e in levels_e:
        first, second = frames(PLAIN, Exposure(exposure_time_s=2.0, illumination_e_per_s=level_e / 2), 2)
        means.append((first.mean() + second.mean()) / 2)
        variances.append((first - second).var() / 2)
    # A variance of n differences is known to sqrt(2 / n); the slope is fitted with these weights.
    errors = np.array(variances) * math.sqrt(2 / (PLAIN.width * PLAIN.height))
    (slope, _), covariance = np.polyfit(means, variances, 1, w=1 / errors, cov="unscaled")
    assert slope == pytest.approx(1 / PLAIN.gain_e_per_adu, abs=SIGMAS * math.sqrt(covariance[0, 0]))


def test_the_noise_map_is_the_noise_of_the_frames() -> None:
    sensor = replace(PLAIN, dark=dark(40.0), prnu_sigma=0.02)
    exposure = Exposure(exposure_time_s=5.0, illumination_e_per_s=300.0)
    stack = frames(sensor, exposure, 40)
    deviation = (stack - sensor.expected_adu(exposure)) / sensor.noise_adu(exposure)
    assert deviation.mean() == pytest.approx(0.0, abs=SIGMAS / math.sqrt(stack.size))
    assert deviation.var() == pytest.approx(1.0, rel=SIGMAS * math.sqrt(2 / stack.size))


def test_noise_is_independent_from_frame_to_frame_and_from_pixel_to_pixel() -> None:
    first, second = frames(PLAIN, BIAS, 2) - PLAIN.bias_level_adu
    for one, other in ((first, second), (first[1:], first[:-1]), (first[BLOCK_ROWS:], first[:-BLOCK_ROWS])):
        correlation = (one * other).mean() / first.var()
        assert correlation == pytest.approx(0.0, abs=SIGMAS / math.sqrt(one.size))


# Dark current


@pytest.mark.parametrize("time_s", [1.0, 10.0, 100.0])
def test_dark_current_grows_with_the_exposure(time_s: float) -> None:
    sensor = replace(PLAIN, dark=dark(3.0))
    frame = frames(sensor, Exposure(exposure_time_s=time_s), 1)
    electrons = 3.0 * time_s
    sigma_e = math.sqrt((electrons + PLAIN.read_noise_e**2) / frame.size)
    assert (frame.mean() - PLAIN.bias_level_adu) * PLAIN.gain_e_per_adu == pytest.approx(
        electrons, abs=SIGMAS * sigma_e
    )


def test_dark_current_doubles_with_every_six_degrees() -> None:
    sensor = replace(PLAIN, dark=dark(2.0, reference_temperature_c=-10.0, doubling_c=6.0))
    for temperature_c, rate in ((-16.0, 1.0), (-10.0, 2.0), (2.0, 8.0)):
        assert sensor.dark_current_e_per_s(temperature_c) == pytest.approx(rate, rel=1e-6)
        frame = frames(sensor, Exposure(exposure_time_s=50.0, temperature_c=temperature_c), 1)
        sigma_e = math.sqrt((50 * rate + PLAIN.read_noise_e**2) / frame.size)
        measured = (frame.mean() - PLAIN.bias_level_adu) * PLAIN.gain_e_per_adu
        assert measured == pytest.approx(50 * rate, abs=SIGMAS * sigma_e)


def test_hot_pixels_are_as_many_and_as_hot_as_the_model_says() -> None:
    sensor = replace(PLAIN, dark=dark(0.5, hot_fraction=0.05, hot_median_e_per_s=40.0, hot_log_sigma=0.8))
    hot, current = sensor.hot_pixels(), sensor.dark_current_e_per_s(-10.0)
    count = int(hot.sum())
    assert count == pytest.approx(0.05 * hot.size, abs=SIGMAS * math.sqrt(0.05 * 0.95 * hot.size))
    logarithms = np.log(current[hot] - 0.5)
    assert logarithms.mean() == pytest.approx(math.log(40.0), abs=SIGMAS * 0.8 / math.sqrt(count))
    assert logarithms.std() == pytest.approx(0.8, rel=SIGMAS / math.sqrt(2 * count))
    assert current[~hot] == pytest.approx(0.5)


def test_hot_pixels_are_hot_in_the_frames() -> None:
    sensor = replace(PLAIN, dark=dark(0.5, hot_fraction=0.01, hot_median_e_per_s=100.0, hot_log_sigma=0.3))
    frame = frames(sensor, Exposure(exposure_time_s=10.0), 1)[0]
    threshold = PLAIN.bias_level_adu + 200 / PLAIN.gain_e_per_adu
    assert np.array_equal(frame > threshold, sensor.hot_pixels())


def test_amplifier_glow_is_strongest_in_its_corner_and_keeps_its_strength_when_cooled() -> None:
    sensor = replace(PLAIN, dark=dark(0.0, amp_glow_e_per_s=30.0))
    glow = sensor.dark_current_e_per_s(-40.0)
    assert glow[0, -1] == pytest.approx(30.0)
    assert glow.max() == glow[0, -1]
    assert glow[-1, 0] < 1e-6
    assert np.array_equal(glow, sensor.dark_current_e_per_s(20.0))


# Bias


def test_the_bias_pattern_has_its_columns_rows_pixels_and_slope() -> None:
    pattern = BiasPattern(column_sigma_adu=4.0, row_sigma_adu=2.0, pixel_sigma_adu=1.5, gradient_adu=50.0)
    sensor = replace(PLAIN, bias_pattern=pattern, width=600, height=500)
    level = sensor.bias_adu().astype(np.float64)
    rows, columns = level.mean(axis=1), level.mean(axis=0)
    slope, start = np.polyfit(np.arange(500), rows, 1)
    assert slope * 499 == pytest.approx(50.0, abs=SIGMAS * 2.0 * math.sqrt(12 / 500))
    assert columns.std() == pytest.approx(4.0, rel=SIGMAS / math.sqrt(2 * 600))
    assert (rows - slope * np.arange(500) - start).std() == pytest.approx(2.0, rel=SIGMAS / math.sqrt(2 * 500))
    pixels = level - rows[:, np.newaxis] - columns + level.mean()
    assert pixels.std() == pytest.approx(1.5, rel=0.01)


def test_the_mean_of_many_bias_frames_is_the_bias_map() -> None:
    sensor = replace(PLAIN, bias_pattern=BiasPattern(column_sigma_adu=3.0, row_sigma_adu=2.0, pixel_sigma_adu=1.0))
    stack = frames(sensor, BIAS, 50)
    deviation = (stack.mean(axis=0) - sensor.bias_adu()) / (sensor.noise_adu(BIAS) / math.sqrt(50))
    assert deviation.var() == pytest.approx(1.0, rel=SIGMAS * math.sqrt(2 / deviation.size))


# Light


def test_corners_are_darker_by_the_vignetting() -> None:
    sensor = replace(PLAIN, clear=Filter(name="clear", vignetting=0.3), width=301, height=201)
    response = sensor.response()
    assert response[100, 150] == pytest.approx(1.0)
    for corner in (response[0, 0], response[0, -1], response[-1, 0], response[-1, -1]):
        assert corner == pytest.approx(0.7, abs=1e-5)


def test_vignetting_shows_in_the_frames() -> None:
    sensor = replace(PLAIN, clear=Filter(name="clear", vignetting=0.3))
    exposure = Exposure(exposure_time_s=1.0, illumination_e_per_s=40_000.0)
    frame = frames(sensor, exposure, 1)[0] - PLAIN.bias_level_adu
    corner, centre = frame[:10, :10], frame[95:105, 145:155]
    response = sensor.response()
    expected = float(response[:10, :10].mean() / response[95:105, 145:155].mean())
    error = expected * math.sqrt(2 / (corner.size * 28_000))
    assert corner.mean() / centre.mean() == pytest.approx(expected, abs=SIGMAS * error)


def test_pixel_response_varies_by_its_sigma() -> None:
    response = replace(PLAIN, prnu_sigma=0.02).response()
    assert response.mean() == pytest.approx(1.0, abs=SIGMAS * 0.02 / math.sqrt(response.size))
    assert response.std() == pytest.approx(0.02, rel=SIGMAS / math.sqrt(2 * response.size))


def test_dust_takes_light_and_each_filter_has_its_own() -> None:
    wheel = (Filter(name="L", vignetting=0.0), Filter(name="R", vignetting=0.0, transmission=0.5))
    sensor = replace(PLAIN, dust=Dust(count=4, depth=0.2, radius_px=15.0), filters=wheel)
    light, red = sensor.response("L"), sensor.response("R") * 2
    for response in (light, red):
        assert response.max() == pytest.approx(1.0)
        assert 0.6 < response.min() < 0.95
        assert 0.5 < (response == 1.0).mean() < 1.0
    assert np.any((light < 0.99) & (red < 0.99)), "the dust of the window is in both"
    assert np.any((light < 0.99) & (red == 1.0)), "the dust of a filter is in its own alone"


def test_a_shadow_does_not_end_at_the_edge_of_a_block() -> None:
    response = replace(PLAIN, dust=Dust(count=20, depth=0.2, radius_px=60.0)).response()
    across = np.abs(np.diff(response, axis=1)).max()
    over_edges = np.abs(np.diff(response, axis=0))[BLOCK_ROWS - 1 :: BLOCK_ROWS].max()
    assert 0 < over_edges < 1.2 * across


def test_an_unknown_filter_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"sensor demo has no filter 'Ha'; its filters: L, R, G, B"):
        SENSORS["demo"].response("Ha")


def test_flat_fields_have_a_mean_of_one() -> None:
    for name in ("L", "R"):
        assert SENSORS["demo"].flat_field(name).mean(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_colours_answer_each_in_its_own_way(pattern: str) -> None:
    sensor = replace(PLAIN, bayer=BayerMatrix(pattern=pattern, red=0.5, green=1.0, blue=0.7), prnu_sigma=0.01)
    frame = frames(sensor, Exposure(exposure_time_s=1.0, illumination_e_per_s=20_000.0), 1)[0] - PLAIN.bias_level_adu
    flat = sensor.flat_field()
    for colour, sensitivity in (("R", 0.5), ("G", 1.0), ("B", 0.7)):
        members = sensor.colour_mask(colour)
        error = math.sqrt(1 / 20_000 / sensitivity + 0.01**2) / math.sqrt(members.sum())
        level = frame[members].mean() * PLAIN.gain_e_per_adu / 20_000
        assert level == pytest.approx(sensitivity, rel=SIGMAS * error)
        assert flat[members].mean(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
    masks = [sensor.colour_mask(colour) for colour in "RGB"]
    assert np.array_equal(np.sum(masks, axis=0), np.ones(frame.shape))


def test_a_sensor_without_colours_has_no_pixels_of_a_colour() -> None:
    assert not PLAIN.colour_mask("R").any()


# Limits


def test_the_full_well_and_the_converter_limit_a_frame() -> None:
    bright = Exposure(exposure_time_s=10.0, illumination_e_per_s=1e9)
    well_adu = PLAIN.full_well_e / PLAIN.gain_e_per_adu + PLAIN.bias_level_adu
    sigma_adu = PLAIN.read_noise_e / PLAIN.gain_e_per_adu
    at_the_well = frames(PLAIN, bright, 1)
    assert at_the_well.mean() == pytest.approx(well_adu, abs=SIGMAS * sigma_adu / math.sqrt(at_the_well.size))
    assert at_the_well.std() == pytest.approx(math.hypot(sigma_adu, 12**-0.5), rel=SIGMAS / math.sqrt(2 * 60_000))
    assert np.all(frames(replace(PLAIN, full_well_e=1e6), bright, 1) == 65535)
    assert np.all(frames(replace(PLAIN, max_adu=4095), bright, 1) == 4095)
    assert PLAIN.expected_adu(bright) == pytest.approx(well_adu)


def test_a_bias_below_zero_is_clipped_not_wrapped() -> None:
    assert np.all(frames(replace(PLAIN, bias_level_adu=-500.0), BIAS, 1) == 0)


def test_values_are_multiples_of_the_converters_step() -> None:
    sensor = replace(PLAIN, adu_step=4)
    frame = sensor.expose(BIAS, np.random.default_rng(1))
    assert np.all(frame % 4 == 0)
    assert frame.std() == pytest.approx(math.sqrt(16 + 16 / 12), rel=SIGMAS / math.sqrt(2 * frame.size))
    saturated = sensor.expose(Exposure(exposure_time_s=1.0, illumination_e_per_s=1e9), np.random.default_rng(1))
    assert saturated.max() <= 65532


def test_cosmic_rays_come_at_their_rate_and_only_in_a_few_pixels() -> None:
    sensor = replace(PLAIN, pixel_size_um=50.0, cosmic_rays=CosmicRays(rate_per_cm2_s=2.0, track_px=0.0))
    area_cm2 = 300 * 200 * 0.005**2
    expected = 2.0 * area_cm2 * 20.0
    stack = frames(sensor, Exposure(exposure_time_s=20.0), 10)
    hits = int(np.sum(stack > PLAIN.bias_level_adu + 60))
    # Two in one pixel count once: 60 of 60000 pixels are hit in a frame, so a thousandth is lost.
    assert hits == pytest.approx(10 * expected, abs=SIGMAS * math.sqrt(10 * expected))
    assert np.sum(frames(sensor, BIAS, 1) > PLAIN.bias_level_adu + 60) == 0


def test_tracks_of_cosmic_rays_cross_blocks() -> None:
    sensor = replace(PLAIN, pixel_size_um=50.0, cosmic_rays=CosmicRays(rate_per_cm2_s=20.0, track_px=80.0))
    frame = frames(sensor, Exposure(exposure_time_s=5.0), 1)[0]
    hit = frame > PLAIN.bias_level_adu + 60
    assert np.any(hit[BLOCK_ROWS - 1] & hit[BLOCK_ROWS])


@pytest.mark.parametrize(("time_s", "light"), [(-1.0, 0.0), (1.0, -5.0), (math.nan, 0.0)])
def test_an_impossible_exposure_is_refused(time_s: float, light: float) -> None:
    with pytest.raises(ConfigError, match="must be at least 0"):
        Exposure(exposure_time_s=time_s, illumination_e_per_s=light)


# The same again


@pytest.mark.parametrize("name", ["demo", "bayer"])
def test_a_seed_gives_the_same_sensor_and_the_same_frames(name: str) -> None:
    sensor = SENSORS[name]
    exposure = Exposure(exposure_time_s=1.0, illumination_e_per_s=5_000.0)
    again = replace(sensor)
    assert np.array_equal(sensor.response(), again.response())
    one, other = (model.expose(exposure, np.random.default_rng(5)) for model in (sensor, again))
    assert np.array_equal(one, other)
    rng = np.random.default_rng(5)
    assert np.array_equal(sensor.expose(exposure, rng), one)
    assert not np.array_equal(sensor.expose(exposure, rng), one)


def test_another_seed_is_another_sensor_of_the_same_kind() -> None:
    sensor = SENSORS["demo"]
    other = replace(sensor, seed=2)
    assert not np.array_equal(sensor.bias_adu(0, 10), other.bias_adu(0, 10))
    assert not np.array_equal(sensor.hot_pixels(), other.hot_pixels())


@pytest.mark.parametrize("rows", [(0, 1), (63, 65), (64, 128), (100, 900), (899, 900)])
def test_any_rows_are_those_of_the_whole_map(rows: tuple[int, int]) -> None:
    sensor = SENSORS["demo"]
    start, stop = rows
    assert np.array_equal(sensor.bias_adu(start, stop), sensor.bias_adu()[start:stop])
    assert np.array_equal(sensor.response("R", start, stop), sensor.response("R")[start:stop])
    current = sensor.dark_current_e_per_s(5.0)
    assert np.array_equal(sensor.dark_current_e_per_s(5.0, start, stop), current[start:stop])
    assert np.array_equal(sensor.hot_pixels(start, stop), sensor.hot_pixels()[start:stop])


@pytest.mark.parametrize("rows", [(-1, 5), (5, 5), (0, 901)])
def test_rows_outside_the_sensor_are_an_error(rows: tuple[int, int]) -> None:
    with pytest.raises(IndexError, match="not in a sensor of 900 rows"):
        SENSORS["demo"].bias_adu(*rows)


def test_changing_one_flaw_leaves_the_others_as_they_are() -> None:
    sensor = SENSORS["demo"]
    changed = replace(sensor, prnu_sigma=0.05, dark=replace(sensor.dark, amp_glow_e_per_s=0.0))
    assert np.array_equal(sensor.bias_adu(), changed.bias_adu())
    assert np.array_equal(sensor.hot_pixels(), changed.hot_pixels())


@pytest.mark.parametrize(("name", "size"), [("demo", (1200, 900)), ("bayer", (1040, 780)), ("qhy600m", (9576, 6388))])
def test_named_sensors_have_their_sizes(name: str, size: tuple[int, int]) -> None:
    sensor = SENSORS[name]
    assert (sensor.width, sensor.height) == size
    assert sensor.name == name
    assert sensor.bias_adu(0, 3).shape == (3, sensor.width)


@pytest.mark.parametrize("name", ["demo", "bayer"])
def test_frames_are_unsigned_16_bit_in_rows_and_columns(name: str) -> None:
    sensor = SENSORS[name]
    frame = sensor.expose(BIAS, np.random.default_rng(1))
    assert frame.dtype == np.uint16
    assert frame.shape == (sensor.height, sensor.width)
    assert frame.flags.c_contiguous
