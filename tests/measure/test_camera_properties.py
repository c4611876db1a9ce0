"""Gain, read noise, full well, linearity and bits of simulated cameras of known truth and of real ones."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.measure.camera.measured import CameraProperties, Measured, SurveyedSeries
from ostcal.measure.camera.properties import measure_camera
from ostcal.measure.camera.read_noise import pair_mean
from ostcal.measure.frames.survey import GRID, merge_blocks, sampled_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.simulator.sensor import SENSORS, Exposure, SensorModel

SIZE = {"width": 400, "height": 300}
DEMO = replace(SENSORS["demo"], **SIZE)
BAYER = replace(SENSORS["bayer"], **SIZE)
"""14 bits shifted to 16: steps of 4 ADU."""
QUIET = replace(DEMO, name="quiet", gain_e_per_adu=1.0, read_noise_e=0.5, full_well_e=60_000.0)
"""Read noise of half an ADU."""
SIMULATED = [DEMO, BAYER, QUIET]


def surveyed(frames: NDArray[Any], exposures_s: Sequence[float], **about: Any) -> SurveyedSeries:
    """Survey frames (n, height, width)."""
    is_flat = about.pop("is_flat", False)
    shape = frames.shape[1:]
    blocks = [
        survey_block(frames[:, top:stop], top, shape, saturation_adu=65535.0, scale_to_common=is_flat)
        for top, stop in sampled_blocks(*shape, 32)
    ]
    return SurveyedSeries(survey=merge_blocks(blocks), exposures_s=tuple(exposures_s), **about)


def series(
    sensor: SensorModel, rng: np.random.Generator, exposures_s: Sequence[float], lamp: Sequence[float] = ()
) -> SurveyedSeries:
    """Expose a series; `lamp` is the light of each frame in e-/s."""
    light = lamp or [0.0] * len(exposures_s)
    frames = [
        sensor.expose(Exposure(exposure_time_s=t, illumination_e_per_s=e), rng)
        for t, e in zip(exposures_s, light, strict=True)
    ]
    return surveyed(np.stack(frames), exposures_s, is_flat=bool(lamp))


def brightest_e(sensor: SensorModel) -> float:
    return min(sensor.full_well_e, (65535 - sensor.bias_level_adu) * sensor.gain_e_per_adu)


def flat_series(
    sensor: SensorModel, rng: np.random.Generator, level: float, *, n: int = 4, drift: float = 0.02
) -> SurveyedSeries:
    """Take flats of a share of the full well whose lamp loses `drift` from the first to the last."""
    lamp = [brightest_e(sensor) / 2 * (1 - drift * i / (n - 1)) for i in range(n)]
    return series(sensor, rng, [2 * level] * n, lamp)


def camera(
    sensor: SensorModel, seed: int, levels: Sequence[float] = (0.15, 0.3, 0.6), *, drift: float = 0.02, n: int = 4
) -> CameraProperties:
    rng = np.random.default_rng(seed)
    return measure_camera(
        bias=[series(sensor, rng, [0.0] * 6)],
        darks=[series(sensor, rng, [5.0] * 4)],
        flats=[flat_series(sensor, rng, level, drift=drift, n=n) for level in levels],
    )


def is_about(measured: Measured | None, truth: float, relative: float) -> None:
    assert measured is not None
    assert measured.value == pytest.approx(truth, rel=relative)
    assert abs(measured.value - truth) <= 4 * measured.uncertainty


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sensor", SIMULATED, ids=lambda s: s.name)
def test_gain_within_1_and_read_noise_within_2_percent_of_the_truth(sensor: SensorModel, seed: int) -> None:
    # vignetting, dust, cosmic rays, hot pixels, colours, and a lamp that drifts by 2 %
    found = camera(sensor, seed)
    is_about(found.gain_e_per_adu, sensor.gain_e_per_adu, 0.01)
    is_about(found.read_noise_adu, sensor.read_noise_e / sensor.gain_e_per_adu, 0.02)
    is_about(found.read_noise_e, sensor.read_noise_e, 0.02)
    assert found.read_noise_spread_adu == pytest.approx(sensor.read_noise_e / sensor.gain_e_per_adu, rel=0.05)
    assert found.notes == ()


def test_two_flats_of_one_level_are_enough_for_the_gain() -> None:
    found = camera(DEMO, 3, (0.4,), n=2)
    is_about(found.gain_e_per_adu, 1.2, 0.01)


@pytest.mark.slow
def test_stated_uncertainties_are_those_of_repeated_measurements() -> None:
    small = replace(DEMO, width=160, height=256)
    gain, noise = [], []
    for seed in range(24):
        found = camera(small, 100 + seed, (0.3, 0.6), n=3)
        assert found.gain_e_per_adu is not None
        assert found.read_noise_adu is not None
        gain.append((found.gain_e_per_adu.value - 1.2) / found.gain_e_per_adu.uncertainty)
        noise.append((found.read_noise_adu.value - 4 / 1.2) / found.read_noise_adu.uncertainty)
    # The standard deviation of 24 is known to 15 %, their mean to 0.2.
    for pulls in (gain, noise):
        assert 0.6 < np.std(pulls) < 1.5
        assert abs(np.mean(pulls)) < 0.8


def test_twilight_flats_of_different_exposures_serve_for_the_gain_but_not_for_linearity() -> None:
    rng = np.random.default_rng(5)
    exposures = [1.0, 1.3, 1.7, 2.2, 2.9]
    found = measure_camera(
        bias=[series(DEMO, rng, [0.0] * 5)],
        darks=[series(DEMO, rng, [3.0] * 4)],
        flats=[series(DEMO, rng, exposures, [30_000 / t**1.2 for t in exposures])],
    )
    is_about(found.gain_e_per_adu, 1.2, 0.01)
    assert found.linearity_percent is None
    assert "two frames each" in found.reasons["linearity_percent"]


def test_dark_current_of_long_flats_is_subtracted_with_darks_of_other_exposures() -> None:
    # 200 s x 20 e-/s = 4000 e- of dark current under 8000 e- of light: a third of the gain if it were left in.
    warm = replace(DEMO, dark=replace(DEMO.dark, rate_e_per_s=20.0))
    rng = np.random.default_rng(6)
    found = measure_camera(
        bias=[series(warm, rng, [0.0] * 5)],
        darks=[series(warm, rng, [100.0] * 5), series(warm, rng, [300.0] * 5)],
        flats=[series(warm, rng, [200.0] * 5, [40.0] * 5)],
    )
    is_about(found.gain_e_per_adu, 1.2, 0.02)


@pytest.mark.parametrize("sensor", SIMULATED, ids=lambda s: s.name)
def test_full_well_and_linearity_come_from_a_steady_lamp_and_the_clipped_are_left_out(sensor: SensorModel) -> None:
    found = camera(sensor, 7, (0.2, 0.4, 0.6, 0.8, 0.95, 1.2, 1.5), drift=0.0, n=2)
    is_about(found.gain_e_per_adu, sensor.gain_e_per_adu, 0.01)
    is_about(found.full_well_e, brightest_e(sensor), 0.01)
    assert found.full_well_adu == pytest.approx(brightest_e(sensor) / sensor.gain_e_per_adu, rel=0.01)
    assert found.linearity_percent is not None
    assert found.linearity_percent.value < 0.05
    curve = found.photon_transfer
    assert curve is not None
    assert not np.any(curve.used & (curve.signal_adu > brightest_e(sensor) / sensor.gain_e_per_adu * 0.99))


def test_a_sensor_that_bends_shows_how_far() -> None:
    rng = np.random.default_rng(8)
    flats = []
    for level in (0.1, 0.2, 0.4, 0.6, 0.8):
        exact = np.stack(
            [DEMO.expose(Exposure(exposure_time_s=2 * level, illumination_e_per_s=35_000), rng) for _ in range(3)]
        )
        signal = exact - 500.0
        bent = np.rint(500 + signal * (1 - 0.03 * signal / 50_000)).astype(np.uint16)
        flats.append(surveyed(bent, [2 * level] * 3, is_flat=True))
    found = measure_camera(bias=[series(DEMO, rng, [0.0] * 5)], flats=flats)
    # The line takes up most of a parabola: the exposures 0.2 to 1.6 s leave 0.4 to 0.6 % at the shortest.
    assert found.linearity_percent is not None
    assert 0.2 < found.linearity_percent.value < 1.0
    assert found.linearity_percent.value > 10 * found.linearity_percent.uncertainty


def test_a_drifting_lamp_says_nothing_of_linearity() -> None:
    found = camera(DEMO, 9, (0.2, 0.4, 0.6), drift=0.02)
    assert found.linearity_percent is None
    assert found.reasons["linearity_percent"].startswith("the lamp is not stable")


def test_flats_that_saturate_the_converter_give_its_end_as_full_well() -> None:
    deep = replace(DEMO, full_well_e=200_000.0)
    found = camera(deep, 10, (0.3, 0.6, 1.5))
    is_about(found.gain_e_per_adu, 1.2, 0.01)
    is_about(found.full_well_e, (65535 - 500) * 1.2, 0.01)


# ---- frames of different noise ----


def bias_of_noise(noises_adu: Sequence[float], shape: tuple[int, int] = (1024, 1024), seed: int = 20) -> SurveyedSeries:
    """Make bias frames of these noises: (n, height, width) uint16."""
    rng = np.random.default_rng(seed)
    frames = np.stack([rng.normal(1000.0, noise, shape) for noise in noises_adu]).round().astype(np.uint16)
    return surveyed(frames, [0.0] * len(noises_adu))


def noise_of_pairs(noises_adu: Sequence[float]) -> float:
    """Return the noise that all pairs of neighbours show together."""
    squares = np.square(noises_adu)
    return math.sqrt(float(np.mean((squares[1:] + squares[:-1]) / 2)))


def test_three_bias_frames_of_unlike_noise_have_the_mean_of_both_pairs() -> None:
    noises = (5.0, 5.0, 5.4)
    found = measure_camera(bias=[bias_of_noise(noises, (2048, 2048))])
    is_about(found.read_noise_adu, noise_of_pairs(noises), 0.002)
    assert found.read_noise_adu is not None
    assert found.read_noise_adu.value == pytest.approx(5.10, abs=0.01)


@pytest.mark.parametrize(
    ("noises", "n_counted"),
    [
        ((5.0, 5.0, 5.2), 2),
        ((5.0, 5.0, 6.0), 2),
        ((4.0, 5.0, 6.5), 2),
        ((5.0, 5.0, 5.0, 6.3, 6.3), 3),
        ((5.0, 5.0, 5.0, 5.0, 6.3, 6.3, 6.3), 4),
    ],
    ids=str,
)
def test_pairs_like_the_two_middle_ones_count_where_none_is_like_the_median(
    noises: tuple[float, ...], n_counted: int
) -> None:
    # 2, 4 and 6 pairs: the fainter ones of each are those up to the middle and the first beyond it
    expected = noise_of_pairs(noises[: n_counted + 1])
    is_about(measure_camera(bias=[bias_of_noise(noises)]).read_noise_adu, expected, 0.01)


@pytest.mark.parametrize("n_frames", [3, 5, 7])
@pytest.mark.parametrize("factor", [1.9, 4.0, 30.0])
def test_the_last_frame_of_far_more_noise_is_left_out_of_an_even_number_of_pairs(n_frames: int, factor: float) -> None:
    noises = [5.0] * (n_frames - 1) + [5.0 * factor]
    is_about(measure_camera(bias=[bias_of_noise(noises)]).read_noise_adu, 5.0, 0.01)


@pytest.mark.parametrize("n_pairs", range(1, 13))
def test_some_pairs_count_whatever_their_spread(n_pairs: int) -> None:
    rng = np.random.default_rng(n_pairs)
    survey = bias_of_noise([5.0] * 3, (64, 64)).survey
    for scatter in (0.0, 0.01, 0.1, 1.0, 10.0):
        pairs = 25 * np.exp(rng.normal(0, scatter, (n_pairs, GRID, GRID)))
        pairs[:, 0, :n_pairs] = 0.0
        spread = replace(survey, pair_first=np.arange(n_pairs), pair_variance_adu2=pairs)
        variance, error = pair_mean(spread)
        assert np.all((pairs.min(axis=0) <= variance * (1 + 1e-12)) & (variance <= pairs.max(axis=0) * (1 + 1e-12)))
        assert np.all(error >= 0)
        assert np.all((variance > 0) == (pairs.min(axis=0) > 0))


# ---- bits ----


@pytest.mark.parametrize(("step", "bits"), [(1, 16), (4, 14), (16, 12)])
def test_bits_shifted_up_are_recognised(step: int, bits: int) -> None:
    found = camera(replace(DEMO, adu_step=step, read_noise_e=12.0), 11, (0.3, 0.6))
    assert (found.step_adu, found.bits_used) == (step, bits)
    is_about(found.read_noise_adu, 10.0, 0.02)
    is_about(found.gain_e_per_adu, 1.2, 0.01)


def test_12_bits_that_are_not_shifted_are_recognised_where_a_frame_reaches_their_end() -> None:
    twelve = replace(DEMO, max_adu=4095, gain_e_per_adu=15.0, bias_level_adu=200.0, read_noise_e=20.0)
    rng = np.random.default_rng(12)
    bias = [series(twelve, rng, [0.0] * 4)]
    assert measure_camera(bias=bias).bits_used is None
    assert "end of the range" in measure_camera(bias=bias).reasons["bits_used"]
    flats = [series(twelve, rng, [1.0] * 2, [80_000.0] * 2)]
    assert measure_camera(bias=bias, flats=flats).bits_used == 12


# ---- refusals ----


def refused(found: CameraProperties, text: str) -> None:
    assert found.gain_e_per_adu is None
    assert text in found.reasons["gain_e_per_adu"]
    assert found.read_noise_e is None
    assert "read_noise_e" in found.reasons
    assert found.full_well_e is None


def test_without_what_it_needs_the_gain_is_refused_with_the_reason() -> None:
    rng = np.random.default_rng(13)
    bias = [series(DEMO, rng, [0.0] * 4)]
    flat = flat_series(DEMO, rng, 0.4, n=3)
    refused(measure_camera(bias=bias), "there are no flats")
    refused(measure_camera(flats=[flat]), "bias or dark frames")
    refused(measure_camera(bias=bias, flats=[replace(flat, subtracted=True)]), "dark-subtracted")
    refused(measure_camera(bias=bias, flats=[series(DEMO, rng, [1.0], [20_000.0])]), "two flats")
    refused(measure_camera(bias=bias, flats=[flat_series(DEMO, rng, 2.5, n=2)]), "below saturation")
    white = replace(DEMO, full_well_e=200_000.0)
    refused(measure_camera(bias=bias, flats=[flat_series(white, rng, 1.05, n=2)]), "the flats are saturated")
    refused(measure_camera(bias=bias, flats=[series(DEMO, rng, [1.0] * 4, [5.0] * 4)]), "photon noise is below")


def test_scaled_frames_are_refused() -> None:
    rng = np.random.default_rng(14)
    frames = np.stack([DEMO.expose(Exposure(exposure_time_s=0.0), rng) for _ in range(3)]).astype(np.float32) / 65535
    found = measure_camera(bias=[surveyed(frames, [0.0] * 3)], flats=[surveyed(frames, [1.0] * 3, is_flat=True)])
    refused(found, "scaled")
    assert found.read_noise_adu is None
    assert found.bits_used is None
    assert "floats" in found.reasons["read_noise_adu"]


def test_frames_that_are_tiny_or_full_of_holes_are_refused_and_no_failure() -> None:
    rng = np.random.default_rng(19)
    tiny = rng.normal(500, 5, (4, 3, 5)).round().astype(np.uint16)
    found = measure_camera(bias=[surveyed(tiny, [0.0] * 4)], flats=[surveyed(tiny * 9, [1.0] * 4, is_flat=True)])
    refused(found, "clipped")
    assert "pixels in two frames" in found.reasons["read_noise_adu"]
    holes = rng.normal(500, 5, (4, 64, 64)).astype(np.float32)
    holes[1:3] = np.nan
    refused(measure_camera(bias=[surveyed(holes, [0.0] * 4)], flats=[surveyed(holes, [1.0] * 4)]), "scaled")


def test_nothing_at_all_is_refused_and_not_a_failure() -> None:
    found = measure_camera()
    refused(found, "no flats")
    assert "two bias frames" in found.reasons["read_noise_adu"]


def test_noise_below_the_step_of_the_converter_is_refused() -> None:
    still = replace(DEMO, read_noise_e=0.05)
    found = measure_camera(bias=[series(still, np.random.default_rng(15), [0.0] * 5)])
    assert found.read_noise_adu is None
    assert "step" in found.reasons["read_noise_adu"]


def test_short_darks_serve_for_the_read_noise_and_long_ones_do_not() -> None:
    rng = np.random.default_rng(16)
    short, long = series(DEMO, rng, [1.0] * 5), series(DEMO, rng, [60.0] * 5)
    found = measure_camera(darks=[long, short])
    assert found.read_noise_adu is not None
    assert found.read_noise_adu.value == pytest.approx(4 / 1.2, rel=0.05)
    assert "darks of 1 s" in found.notes[0]
    assert measure_camera(darks=[long]).read_noise_adu is None


def test_a_bias_that_jumps_is_noted() -> None:
    rng = np.random.default_rng(17)
    frames = np.stack([DEMO.expose(Exposure(exposure_time_s=0.0), rng) for _ in range(6)]).astype(np.int32)
    frames[3:, ::2] += 20  # another pattern in the second half: one pair of five sees it
    found = measure_camera(bias=[surveyed(frames.astype(np.uint16), [0.0] * 6)])
    assert found.read_noise_adu is not None
    assert found.read_noise_adu.value == pytest.approx(4 / 1.2, rel=0.02)
    assert any("pixels flicker" in note for note in found.notes)


# ---- values ----


def test_products_carry_their_uncertainties() -> None:
    product = Measured(value=3.0, uncertainty=0.3) * Measured(value=2.0, uncertainty=0.1)
    assert product.value == 6.0
    assert product.uncertainty == pytest.approx(6 * math.hypot(0.1, 0.05))


def test_properties_are_json_with_a_reason_for_each_that_is_missing() -> None:
    for found in (measure_camera(), camera(DEMO, 18, (0.4,))):
        values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
        for name in (
            "gain_e_per_adu",
            "read_noise_adu",
            "read_noise_e",
            "dark_current_adu_per_s",
            "dark_current_e_per_s",
            "full_well_e",
            "linearity_percent",
            "bits_used",
        ):
            assert (values[name] is None) == (name in values["reasons"]), name
    assert values["gain_e_per_adu_uncertainty"] > 0
    assert len(values["photon_transfer"]["signal_adu"]) == len(values["photon_transfer"]["used"]) == 64


# ---- real cameras ----


def real_series(paths: list[Path], **about: Any) -> SurveyedSeries:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd cards of the cameras
        frames = np.stack([fits.getdata(path) for path in sorted(paths)]).astype(np.int32)
        exposures = [float(fits.getheader(path)["EXPTIME"]) for path in sorted(paths)]
    return surveyed(frames, exposures, **about)


def test_a_real_camera_has_the_gain_and_noise_that_are_known_of_it(shared_data: Path) -> None:
    folder = shared_data / "arcsat"
    found = measure_camera(
        bias=[real_series(list((folder / "bias").iterdir()))],
        darks=[real_series(list((folder / "dark_60s").iterdir()))],
        flats=[real_series(list((folder / "flat_z").iterdir()), is_flat=True)],
    )
    # about 1.35 e-/ADU and 11.5 ADU; measured 1.338 and 12.1
    assert found.gain_e_per_adu is not None
    assert found.gain_e_per_adu.value == pytest.approx(1.35, rel=0.03)
    assert found.read_noise_adu is not None
    assert found.read_noise_adu.value == pytest.approx(11.5, rel=0.08)
    assert found.bits_used == 16


def test_a_spectrograph_with_an_unsteady_lamp_has_nearly_the_gain_of_its_header(shared_data: Path) -> None:
    folder = shared_data / "st402" / "raw"
    found = measure_camera(
        darks=[real_series(list(folder.glob("L2-dark-flat-360*")))],
        flats=[real_series(list(folder.glob("L2-flat-hg-360*")), is_flat=True)],
    )
    assert found.gain_e_per_adu is not None
    assert found.gain_e_per_adu.value == pytest.approx(1.49, rel=0.1)  # measured 1.40
    assert found.read_noise_adu is None
