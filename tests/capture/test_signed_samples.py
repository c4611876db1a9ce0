"""Drivers that give 16 bits with a sign, and drivers that report a wrong end of the range."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.capture.auto_exposure import Accept, ExposureRules
from ostcal.capture.exposer import Exposer
from ostcal.capture.flats import FlatRules, capture_flats, find_exposure
from ostcal.capture.series_plan import CaptureWatcher, Equipment, RetryRules, SeriesSink
from ostcal.devices.protocols import ExposureResult
from ostcal.errors import DeviceError, FrameError
from ostcal.frames import CameraSettings
from ostcal.measure.signed_words import without_sign
from ostcal.series.reader import open_series
from support.direct_camera import DirectCamera, FakeClock, Scene, small_sensor

SHAPE = (200, 300)
RULES = FlatRules(exposure=ExposureRules(), n_frames=3)
SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")


class SignedCamera(DirectCamera):
    """A camera whose driver gives its 16 bits with a sign."""

    wide = False

    def download(self) -> ExposureResult:
        result = super().download()
        pixels = result.pixels.view(np.int16)
        return replace(result, pixels=pixels.astype(np.int32) if self.wide else pixels)


def frame(level: float, noise: float, hot: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(4)
    words = np.clip(np.rint(rng.normal(level, noise, SHAPE)), 0, 65535).astype(np.uint16)
    if hot:
        words.flat[:: words.size // hot] = rng.integers(33000, 65536, words.flat[:: words.size // hot].shape)
    return words


# ---- the sign ----


@pytest.mark.parametrize("dtype", ["int16", "int32"])
@pytest.mark.parametrize("hot", [0, 40])
@pytest.mark.parametrize("level", [300, 5000, 32768, 45000, 65000])
def test_samples_with_a_sign_are_what_the_camera_meant(level: float, hot: int, dtype: str) -> None:
    words = frame(level, 5 if level < 2000 else 150, hot)
    mended = without_sign(words.view(np.int16).astype(dtype))
    assert np.array_equal(mended, words)
    if words.max() > 32767:
        assert mended.dtype == np.uint16


def test_colours_on_both_sides_of_the_sign() -> None:
    rng = np.random.default_rng(4)
    words = np.empty(SHAPE, np.uint16)
    for (row, column), level in zip(((0, 0), (0, 1), (1, 0), (1, 1)), (20000, 50000, 50000, 40000), strict=True):
        words[row::2, column::2] = rng.normal(level, 150, words[row::2, column::2].shape)
    assert np.array_equal(without_sign(words.view(np.int16)), words)


@pytest.mark.parametrize("level", [0, 6])
def test_noise_about_a_level_near_zero_is_left(level: float) -> None:
    noise = np.rint(np.random.default_rng(4).normal(level, 5, SHAPE)).astype(np.int32)
    assert without_sign(noise) is noise


def test_32_bits_with_a_sign_are_left() -> None:
    pixels = np.array([[70000, -5], [3, 4]], np.int32)
    assert without_sign(pixels) is pixels


def test_what_may_be_either_is_refused_in_one_line() -> None:
    pixels = frame(6, 5).view(np.int16).copy()
    pixels[10, 10] = -32433
    with pytest.raises(FrameError, match=r"samples run from -32433 to .* switch off what it subtracts"):
        without_sign(pixels)


@pytest.mark.parametrize("wide", [False, True])
def test_a_series_of_such_a_camera_has_what_the_camera_meant(
    tmp_path: Path, wide: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    camera = SignedCamera(small_sensor(), clock, Scene(light=lambda now_s: 30_000.0))
    camera.wide = wide
    with caplog.at_level(logging.WARNING):
        rules = replace(RULES, exposure=ExposureRules(target_rate=0.6))
        capture_flats(Equipment(camera=camera, clock=clock), SETTINGS, rules, SeriesSink(directory=tmp_path))
    (path,) = tmp_path.glob("*.zarr")
    series = open_series(path)
    assert series.dtype == "uint16"
    levels = [record.pixels.statistics.median or 0.0 for record in series.records]
    assert levels == pytest.approx([0.6 * 65535] * 3, rel=0.2)
    said = sum("gives 16 bits with a sign" in message for message in caplog.messages)
    assert said == 2, "once for the trials, once for the series"


def test_a_frame_that_may_be_either_ends_the_exposure_without_another_try() -> None:
    clock = FakeClock()

    class Doubtful(DirectCamera):
        def download(self) -> ExposureResult:
            pixels = np.zeros_like(super().download().pixels, dtype=np.int16)
            pixels[::2] = 3
            pixels[0, 0] = -30000
            return ExposureResult(pixels=pixels, exposure_time_s=1.0, start_utc=None)

    camera = Doubtful(small_sensor(), clock, Scene(light=lambda now_s: 0.0))
    with pytest.raises(DeviceError, match="direct: samples run from -30000 to 3 ADU"):
        Exposer(camera, clock, RetryRules()).take(1.0, light=False)
    assert camera.calls["download"] == 1


# ---- the end of the range ----


def flats_of(max_adu: int, *, end: int, shift: int, light: float) -> tuple[Accept, list[str]]:
    """Search the exposure with a camera that ends at `end` in steps of ``1 << shift`` and reports `max_adu`."""
    clock = FakeClock()

    class Shifted(DirectCamera):
        def download(self) -> ExposureResult:
            result = super().download()
            return replace(result, pixels=(result.pixels >> shift) << shift)

    sensor = small_sensor(max_adu=end, gain_e_per_adu=1.0, full_well_e=1e6)
    camera = Shifted(sensor, clock, Scene(light=lambda now_s: light), max_adu=max_adu)
    notices: list[str] = []
    equipment = Equipment(camera=camera, clock=clock, watcher=CaptureWatcher(notice=notices.append))
    rules = replace(RULES, exposure=ExposureRules(max_adu=max_adu))
    choice = find_exposure(Exposer(camera, clock, RetryRules()), rules, equipment, 1.0)
    assert isinstance(choice, Accept), choice
    return choice, notices


@pytest.mark.parametrize(("max_adu", "shift"), [(4095, 4), (16383, 2), (4095, 0)])
def test_a_camera_that_reports_too_small_an_end_has_flats_at_half_of_the_true_one(max_adu: int, shift: int) -> None:
    choice, notices = flats_of(max_adu, end=65535, shift=shift, light=25_000.0)
    assert choice.full_scale_adu == 65536 - (1 << shift)
    assert 0.35 * 65535 <= 25_000 * choice.exposure_s <= 0.7 * 65535
    assert any(f"the camera reports MaxADU {max_adu}, but samples" in notice for notice in notices)


def test_a_true_end_is_left() -> None:
    choice, notices = flats_of(65535, end=65535, shift=0, light=25_000.0)
    assert choice.full_scale_adu is None
    assert not any("MaxADU" in notice for notice in notices)


def test_what_trials_show_counts_for_the_checks_of_the_series(tmp_path: Path) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock, Scene(light=lambda now_s: 30_000.0), max_adu=4095)
    report = capture_flats(Equipment(camera=camera, clock=clock), SETTINGS, RULES, SeriesSink(directory=tmp_path))
    (outcome,) = report.outcomes
    assert not [line for line in outcome.warnings if "saturated" in line]
    (path,) = tmp_path.glob("*.zarr")
    assert open_series(path).records[0].metadata.full_scale == ("MaxADU", 65535.0)
