"""What every camera must do, whatever drives it.

A test module that has a fixture ``camera`` (a connected camera that is not square, with a cooler, of at most a few
megapixels) runs all of it with ``from camera_contract import *``.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from ostcal.devices.protocols import Camera, CameraRequest, ExposureResult
from ostcal.errors import DeviceError

__all__ = [
    "test_a_binned_frame_is_smaller",
    "test_a_frame_has_the_shape_that_was_said",
    "test_a_readout_mode_that_it_has_not_is_refused",
    "test_an_aborted_exposure_leaves_no_frame_behind",
    "test_applying_nothing_changes_nothing",
    "test_close_can_be_called_twice",
    "test_cooling_has_a_set_point_and_warming_up_switches_it_off",
    "test_exposures_beyond_the_limits_are_refused",
    "test_frames_follow_one_another",
    "test_gain_and_offset_read_back",
    "test_reconnecting_keeps_the_settings",
    "test_the_camera_describes_itself",
    "test_the_status_can_be_read_at_any_time",
]

READY_S = 20.0
"""No camera of a test takes longer for a short exposure."""


def take(camera: Camera, exposure_time_s: float = 0.01, *, light: bool = False) -> ExposureResult:
    """Take a frame, in bounded time."""
    camera.start_exposure(exposure_time_s, light=light)
    deadline_s = time.monotonic() + READY_S
    while not camera.image_ready():
        assert time.monotonic() < deadline_s, "no image"
        time.sleep(0.01)
    return camera.download()


def some_gain(camera: Camera) -> float | str:
    labels = camera.info.gain_labels
    return labels[-1] if labels else 10


def test_the_camera_describes_itself(camera: Camera) -> None:
    info = camera.info
    assert info.name
    assert info.width > 0
    assert info.height > 0
    assert info.width != info.height
    assert 0 < info.max_adu < 2**31
    assert 0 <= info.exposure_min_s < info.exposure_max_s
    assert info.bayer_pattern in (None, "RGGB", "GRBG", "GBRG", "BGGR")
    assert 1 <= info.interface_version <= 4


def test_a_frame_has_the_shape_that_was_said(camera: Camera) -> None:
    camera.apply(CameraRequest())
    result = take(camera)
    assert camera.frame_shape() == (camera.info.height, camera.info.width)
    assert result.pixels.shape == camera.frame_shape()
    assert result.pixels.dtype == np.uint16
    assert result.pixels.flags.c_contiguous
    assert result.pixels.max() <= camera.info.max_adu
    assert math.isfinite(result.exposure_time_s)
    assert result.exposure_time_s >= 0


def test_frames_follow_one_another(camera: Camera) -> None:
    camera.apply(CameraRequest())
    shapes = {take(camera).pixels.shape for _ in range(3)}
    assert shapes == {camera.frame_shape()}


def test_a_binned_frame_is_smaller(camera: Camera) -> None:
    settings = camera.apply(CameraRequest(binning=(2, 2)))
    assert settings.binning == (2, 2)
    assert camera.frame_shape() == (camera.info.height // 2, camera.info.width // 2)
    camera.apply(CameraRequest())
    assert camera.frame_shape() == (camera.info.height, camera.info.width)


def test_gain_and_offset_read_back(camera: Camera) -> None:
    wanted = some_gain(camera)
    settings = camera.apply(CameraRequest(gain=wanted))
    assert settings.gain == (camera.info.gain_labels.index(wanted) if isinstance(wanted, str) else wanted)
    with pytest.raises(DeviceError, match=r"(?i)gain"):
        camera.apply(CameraRequest(gain=10_000_000))


def test_applying_nothing_changes_nothing(camera: Camera) -> None:
    first = camera.apply(CameraRequest(gain=some_gain(camera)))
    assert camera.apply(CameraRequest()) == first


def test_a_readout_mode_that_it_has_not_is_refused(camera: Camera) -> None:
    with pytest.raises(DeviceError, match="readout mode"):
        camera.apply(CameraRequest(readout_mode="no such mode"))
    for index, name in enumerate(camera.info.readout_modes):
        assert camera.apply(CameraRequest(readout_mode=index)).readout_mode == name
        assert camera.apply(CameraRequest(readout_mode=name)).readout_mode == name


def test_an_aborted_exposure_leaves_no_frame_behind(camera: Camera) -> None:
    camera.apply(CameraRequest())
    camera.abort()
    camera.start_exposure(min(30.0, camera.info.exposure_max_s), light=False)
    camera.abort()
    result = take(camera, 0.05)
    assert result.exposure_time_s == pytest.approx(0.05, abs=0.01)


def test_exposures_beyond_the_limits_are_refused(camera: Camera) -> None:
    for exposure_time_s in (-1.0, math.nan, math.inf, camera.info.exposure_max_s * 2 + 1):
        with pytest.raises(DeviceError, match="exposes for"):
            camera.start_exposure(exposure_time_s, light=False)
    take(camera)


def test_the_status_can_be_read_at_any_time(camera: Camera) -> None:
    camera.apply(CameraRequest())
    camera.start_exposure(0.05, light=False)
    status = camera.status()
    assert status.ccd_temperature_c is None or -100 < status.ccd_temperature_c < 60
    assert status.cooler_power_percent is None or 0 <= status.cooler_power_percent <= 100
    camera.abort()


def test_cooling_has_a_set_point_and_warming_up_switches_it_off(camera: Camera) -> None:
    assert camera.info.can_set_temperature
    camera.cool(-5.0)
    status = camera.status()
    assert status.set_temperature_c == pytest.approx(-5.0, abs=0.6)
    assert status.cooler_on is True
    camera.warm_up()
    assert camera.status().cooler_on is False


def test_reconnecting_keeps_the_settings(camera: Camera) -> None:
    request = CameraRequest(gain=some_gain(camera), binning=(2, 2))
    before = camera.apply(request)
    camera.reconnect()
    assert camera.frame_shape() == (camera.info.height // 2, camera.info.width // 2)
    assert camera.apply(replace(request, gain=None)) == before
    assert take(camera).pixels.shape == camera.frame_shape()


def test_close_can_be_called_twice(camera: Camera) -> None:
    camera.close()
    camera.close()
