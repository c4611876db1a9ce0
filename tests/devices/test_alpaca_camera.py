"""The Alpaca camera: what any camera must do, every oddity that servers were seen to have, and all that goes wrong."""

from __future__ import annotations

import contextlib
import math
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pytest

from ostcal.clock import Clock, SystemClock
from ostcal.codec import to_json
from ostcal.devices.alpaca import AlpacaCamera
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.protocols import CameraRequest
from ostcal.errors import DeviceError
from ostcal.measure.signed_words import without_sign
from ostcal.simulator.options import GainMode, ImageElement, SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.camera_contract import *  # noqa: F403 -- the contract itself
from support.camera_contract import take
from support.folders import TESTS
from support.odd_servers import (
    DROP,
    Answer,
    Closing,
    OddDevice,
    OddServer,
    QuickClock,
    Refusal,
    Request,
    image_bytes,
    image_header,
    image_json,
    odd_camera,
    pattern,
)

HASTY = Timeouts(tcp_s=2.0, reply_s=0.4, connect_s=0.6, silence_s=0.4, download_s=0.8, moving_s=0.5)
"""Short enough to wait for, long enough for loopback."""


SIMULATORS = {
    "version 4": SimulatorOptions(time_scale=50.0, fast=True),
    "version 3, labels, 32 bits": SimulatorOptions(
        time_scale=50.0, fast=True, interface_version=3, gain_mode=GainMode.INDEX, image_element=ImageElement.INT32
    ),
    "version 2": SimulatorOptions(time_scale=50.0, fast=True, interface_version=2),
}


@pytest.fixture(scope="module")
def simulators() -> Iterator[Mapping[str, SimulatedObservatory]]:
    with ExitStack() as running:
        yield {name: running.enter_context(SimulatedObservatory(options)) for name, options in SIMULATORS.items()}


@pytest.fixture(params=["well-behaved server", *SIMULATORS])
def camera(request: pytest.FixtureRequest, simulators: Mapping[str, SimulatedObservatory]) -> Iterator[AlpacaCamera]:
    with ExitStack() as running:
        known = simulators.get(request.param)
        port = running.enter_context(OddServer({"camera/0": imaging_camera()})).port if known is None else known.port
        yield running.enter_context(AlpacaCamera("127.0.0.1", port))


def imaging_camera() -> OddDevice:
    """Make a camera whose image has the size that is set, and that exposes long exposures."""
    device = odd_camera()
    start = device.members["startexposure"]

    def image(_request: Request) -> Answer:
        return image_bytes(pattern(device.members["numx"], device.members["numy"]))

    def begin(request: Request) -> None:
        start(request)
        if float(request.values["duration"]) > 10:
            device.set(CameraState=2, ImageReady=False)

    return device.set(ImageArray=image, StartExposure=begin)


def opened(device: OddDevice, timeouts: Timeouts = HASTY, clock: Clock | None = None) -> _Opened:
    return _Opened(device, timeouts, clock or QuickClock())


class _Opened:
    """A server and a camera connected to it."""

    def __init__(self, device: OddDevice, timeouts: Timeouts, clock: Clock) -> None:
        self.server = OddServer({"camera/0": device})
        self.timeouts, self.clock = timeouts, clock

    def __enter__(self) -> AlpacaCamera:
        self.server.__enter__()
        try:
            self.camera = AlpacaCamera("localhost", self.server.port, timeouts=self.timeouts, clock=self.clock)
        except DeviceError:
            self.server.__exit__(None, None, None)
            raise
        return self.camera

    def __exit__(self, *error: object) -> None:
        self.server.over.set()
        self.camera.close()
        self.server.__exit__(None, None, None)


# What servers were seen to do


def test_json_only() -> None:
    with opened(odd_camera(ImageArray=image_json(pattern()))) as camera:
        np.testing.assert_array_equal(take(camera).pixels, pattern())


def test_image_bytes_with_the_content_type_of_json() -> None:
    answer = Answer(body=image_bytes(pattern()).body, content_type="application/json; charset=utf-8")
    with opened(odd_camera(ImageArray=answer)) as camera:
        np.testing.assert_array_equal(take(camera).pixels, pattern())


def test_an_image_in_chunks_without_a_length() -> None:
    body = image_bytes(pattern()).body
    for claimed in (-1, len(body) + 1000):
        answer = Answer(body=body, claimed_length=claimed, content_type=None)
        with opened(odd_camera(ImageArray=answer)) as camera:
            np.testing.assert_array_equal(take(camera).pixels, pattern())


def test_a_content_length_that_is_too_small_is_an_error() -> None:
    answer = Answer(body=image_bytes(pattern()).body, claimed_length=1000)
    with opened(odd_camera(ImageArray=answer)) as camera, pytest.raises(ReplyError, match="sends only 1000"):
        take(camera)


def test_images_are_asked_for_as_bytes_and_uncompressed() -> None:
    answer = Answer(body=b"", headers={"Content-Encoding": "gzip"})
    with opened(odd_camera(ImageArray=answer)) as camera, pytest.raises(ReplyError, match="gzip"):
        take(camera)


@pytest.mark.parametrize("number", [0x40B, 0x500, 0x4FF, 7, -1, 0x7FFFFFFF])
def test_any_error_number_is_shown(number: int) -> None:
    body = image_header((0, 0), 0, error=number) + b"shutter stuck"
    expected = f"camera 0 at localhost:.* .Odd.: .*shutter stuck .*0x{number & 0xFFFFFFFF:X}"
    with opened(odd_camera(ImageArray=Answer(body=body))) as camera, pytest.raises(RefusedError, match=expected):
        take(camera)


@pytest.mark.parametrize(
    "refusal", [Refusal(), Refusal(number=0x401, status=400), Refusal(number=0x40C), Refusal(number=3)]
)
def test_optional_members_may_be_refused_in_any_way(refusal: Refusal) -> None:
    optional = (
        *("Gain", "GainMin", "GainMax", "Offset", "OffsetMin", "OffsetMax", "ReadoutMode", "ReadoutModes", "MaxBinX"),
        *("SensorType", "MaxADU", "PixelSizeX", "HasShutter", "ExposureMin", "ExposureMax", "Name", "InterfaceVersion"),
        *("CanAbortExposure", "CanStopExposure", "CanSetCCDTemperature", "CanGetCoolerPower", "CameraState"),
        *("CCDTemperature", "CoolerOn", "LastExposureDuration", "LastExposureStartTime"),
    )
    device = odd_camera(**dict.fromkeys(optional, refusal))
    with opened(device.set(StartExposure=lambda _request: device.set(ImageReady=True) and None)) as camera:
        assert camera.info.exposure_min_s == 0
        assert camera.info.exposure_max_s == math.inf
        assert camera.info.max_adu == 65535
        assert camera.info.interface_version == 1
        settings = camera.apply(CameraRequest())
        assert (settings.gain, settings.offset, settings.readout_mode) == (None, None, None)
        result = take(camera, 2.0)
        assert (result.exposure_time_s, result.start_utc) == (2.0, None)
        camera.abort()
        assert camera.status().ccd_temperature_c is None
        camera.warm_up()
        with pytest.raises(DeviceError, match="temperature cannot be set"):
            camera.cool(-10)
        with pytest.raises(DeviceError, match="gain cannot be set"):
            camera.apply(CameraRequest(gain=1))


def test_optional_members_may_be_missing_altogether() -> None:
    device = odd_camera().without("Gains") if "gains" in odd_camera().members else odd_camera()
    with opened(device.without("GainMin", "GainMax", "ExposureMin", "MaxADU", "SensorType", "PixelSizeX")) as camera:
        assert camera.info.pixel_size_um is None
        assert camera.apply(CameraRequest(gain=33)).gain == 33


def test_last_exposure_that_says_nothing_is_replaced_by_what_was_asked() -> None:
    for duration, start in ((0.0, ""), (-1.0, "yesterday"), (1e6, "0000-00-00T00:00:00"), (float("nan"), " ")):
        device = odd_camera(StartExposure=None)
        device.set(
            StartExposure=lambda _request, device=device: device.set(ImageReady=True) and None,
            LastExposureDuration=duration,
            LastExposureStartTime=start,
        )
        with opened(device) as camera:
            result = take(camera, 3.0)
            assert (result.exposure_time_s, result.start_utc) == (3.0, None)


def test_what_the_camera_made_is_told_where_it_makes_sense() -> None:
    device = odd_camera()
    device.set(
        StartExposure=lambda _request: (
            device.set(ImageReady=True, LastExposureDuration=3.002, LastExposureStartTime="2026-05-01T20:00:00.123")
            and None
        )
    )
    with opened(device) as camera:
        result = take(camera, 3.0)
        assert (result.exposure_time_s, result.start_utc) == (3.002, "2026-05-01T20:00:00.123")


def test_a_state_that_stays_at_download_hinders_nothing() -> None:
    with opened(odd_camera(CameraState=4), clock=SystemClock()) as camera:
        for _ in range(2):
            np.testing.assert_array_equal(take(camera).pixels, pattern())
        camera.abort()
        np.testing.assert_array_equal(take(camera).pixels, pattern())


def test_a_state_that_is_no_state_hinders_nothing() -> None:
    for state in (99, "busy", None, 1.5):
        device = odd_camera(CameraState=state)
        with opened(device) as camera:
            np.testing.assert_array_equal(take(camera).pixels, pattern())
            camera.abort()
            assert len(device.puts("AbortExposure")) == 1, "whether it is exposing is unknown"


def test_empty_lists_mean_that_there_is_nothing_to_choose() -> None:
    with opened(odd_camera(Gains=[], Offsets=[], ReadoutModes=[])) as camera:
        assert camera.info.gain_labels == camera.info.readout_modes == ()
        assert camera.apply(CameraRequest(gain=20)).gain == 20
        with pytest.raises(DeviceError, match="no readout modes"):
            camera.apply(CameraRequest(readout_mode=0))


def test_an_error_left_by_a_refused_exposure_does_not_fail_the_next() -> None:
    device = odd_camera(StartExposure=Refusal(number=0x401, text="too long"))
    with opened(device) as camera:
        with pytest.raises(RefusedError, match=r"StartExposure\(5.0, False\): too long"):
            camera.start_exposure(5.0, light=False)
        device.set(CameraState=5, StartExposure=lambda _request: None)
        camera.start_exposure(1.0, light=False)
        assert not camera.image_ready()
        device.set(ImageReady=True)
        assert camera.image_ready()
        camera.download()


def test_an_exposure_that_fails_says_so() -> None:
    device = odd_camera(StartExposure=lambda _request: None)
    with opened(device) as camera:
        camera.start_exposure(1.0, light=False)
        assert not camera.image_ready()
        device.set(CameraState=5)
        with pytest.raises(RefusedError, match="1 s failed"):
            camera.image_ready()
        device.set(ImageReady=Refusal(number=0x500, text="USB lost"))
        with pytest.raises(RefusedError, match="USB lost"):
            camera.image_ready()


def test_a_refused_bias_is_exposed_for_the_shortest_time() -> None:
    device = odd_camera(ExposureMin=3.2e-5)
    good = device.members["startexposure"]

    def start(request: Request) -> object:
        if float(request.values["duration"]) < 3.2e-5:
            device.set(CameraState=5)
            return Refusal(number=0x401, text="too short")
        return good(request)

    with opened(device.set(StartExposure=start)) as camera:
        assert take(camera, 0.0).exposure_time_s == 3.2e-5
        with pytest.raises(DeviceError, match=r"exposes for 3\.2e-05 to 100 s"):
            camera.start_exposure(0.0, light=True)


def test_a_camera_without_shutter_abort_and_set_point() -> None:
    device = odd_camera(HasShutter=False, CanAbortExposure=False, CanStopExposure=False, CanSetCCDTemperature=False)
    clock = QuickClock()

    def state(_request: Request) -> int:
        return 2 if 0 < clock.slept_s < 8 or device.members.get("started") else 0

    with opened(device.set(StartExposure=lambda _request: device.set(started=True) and None), clock=clock) as camera:
        assert not camera.info.can_abort
        device.set(CameraState=state)
        camera.start_exposure(8.0, light=False)
        camera.abort()
        assert device.puts("AbortExposure") == []
        device.set(StartExposure=odd_camera().members["startexposure"])
        clock.sleep(0.1)
        device.members.pop("started")
        camera.start_exposure(1.0, light=False)
        assert clock.slept_s >= 8


def test_stop_does_where_abort_is_missing() -> None:
    device = imaging_camera().set(CanAbortExposure=False)
    with opened(device) as camera:
        assert camera.info.can_abort
        camera.start_exposure(60.0, light=False)
        camera.abort()
        assert len(device.puts("StopExposure")) == 1
        take(camera)


@pytest.mark.parametrize("exposure_s", [8.0, 60.0])
def test_an_aborted_exposure_that_runs_on_is_waited_for(exposure_s: float) -> None:
    clock = QuickClock()
    device = odd_camera(AbortExposure=lambda _request: None)
    ends_s = 0.0

    def start(request: Request) -> Refusal | None:
        nonlocal ends_s
        if clock.slept_s < ends_s:
            return Refusal(number=0x40B, text="exposing")
        ends_s = clock.slept_s + float(request.values["duration"])
        return None

    device.set(StartExposure=start, CameraState=lambda _request: 2 if clock.slept_s < ends_s else 0)
    with opened(device, clock=clock) as camera:
        camera.start_exposure(exposure_s, light=False)
        camera.abort()
        camera.abort()
        camera.start_exposure(0.5, light=False)
        assert exposure_s <= clock.slept_s <= exposure_s + 31


def test_a_state_that_stays_at_exposing_after_an_abort_is_believed_for_a_while_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = QuickClock()
    device = imaging_camera().set(AbortExposure=lambda _request: None, ExposureMax=3600.0)
    with opened(device, clock=clock) as camera:
        camera.start_exposure(600.0, light=False)
        camera.abort()
        camera.reconnect()
        camera.abort()
        camera.start_exposure(1.0, light=False)
        assert clock.slept_s < 40
        assert "it still says that it is exposing" in caplog.text
        assert len(device.puts("StartExposure")) == 2


def test_an_aborted_exposure_that_never_ends_is_given_up() -> None:
    device = imaging_camera().set(AbortExposure=lambda _request: None)
    with opened(device) as camera:
        camera.start_exposure(60.0, light=False)
        device.set(StartExposure=Refusal(number=0x40B, text="exposing"))
        camera.abort()
        with pytest.raises(RefusedError, match=r"StartExposure.*exposing"):
            camera.start_exposure(1.0, light=False)
        assert len(device.puts("StartExposure")) == 3


def test_a_second_exposure_is_never_asked_for_while_one_runs() -> None:
    device = imaging_camera()
    with opened(device) as camera:
        camera.start_exposure(60.0, light=False)
        with pytest.raises(RefusedError, match="exposing already"):
            camera.start_exposure(1.0, light=False)
        assert len(device.puts("StartExposure")) == 1


def test_a_connection_dropped_at_the_start_of_an_exposure_that_runs() -> None:
    device = imaging_camera()

    def start(_request: Request) -> object:
        device.set(CameraState=2, ImageReady=False)
        return DROP

    with opened(device.set(StartExposure=start)) as camera:
        camera.start_exposure(1.0, light=False)
        assert not camera.image_ready()
        assert len(device.puts("StartExposure")) == 1


def test_a_connection_dropped_at_the_start_of_an_exposure_that_does_not_run() -> None:
    dropping = odd_camera(StartExposure=lambda _request: DROP)
    with opened(dropping) as camera, pytest.raises(DeviceUnreachableError, match=r"StartExposure.*connection failed"):
        camera.start_exposure(1.0, light=False)


def test_full_scale_of_eight_bits_says_16_and_travels_as_bytes() -> None:
    pixels = (pattern() % 256).astype(np.uint16)
    with opened(odd_camera(MaxADU=65535, ImageArray=image_bytes(pixels, 6, "u1"))) as camera:
        result = take(camera)
        assert result.pixels.dtype == np.uint16
        np.testing.assert_array_equal(result.pixels, pixels)


def test_colour_images_are_refused_with_a_cure() -> None:
    body = image_header((24, 40), 8, rank=3)
    with opened(odd_camera(ImageArray=Answer(body=body))) as camera, pytest.raises(ReplyError, match="readout mode"):
        take(camera)


def test_a_gain_set_by_index_may_read_back_as_the_label() -> None:
    device = odd_camera(Gains=["Low", "High"], GainMin=Refusal(), GainMax=Refusal(), Gain=0)

    def gain(request: Request) -> object:
        if request.method == "PUT":
            device.set(chosen=int(request.values["gain"]))
            return None
        return ["Low", "High"][device.members.get("chosen", 0)]

    with opened(device.set(Gain=gain)) as camera:
        assert camera.info.gain_labels == ("Low", "High")
        for wanted in (1, "High", "high"):
            assert camera.apply(CameraRequest(gain=wanted)).gain == 1
        with pytest.raises(DeviceError, match=r"'ISO' is none of 0: 'Low', 1: 'High'"):
            camera.apply(CameraRequest(gain="ISO"))
        with pytest.raises(DeviceError, match="gain 2 is none of"):
            camera.apply(CameraRequest(gain=2))


ODD_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1" + "0" * 400,
    "-1",
    "9223372036854775808",
    "null",
    '"7"',
    "true",
    "[]",
    "{}",
)


@pytest.mark.parametrize("odd", ODD_JSON, ids=lambda odd: odd[:10])
def test_a_value_that_cannot_be_is_an_error_of_the_device_or_no_record(odd: str) -> None:
    body = f'{{"Value": {odd}, "ErrorNumber": 0, "ErrorMessage": ""}}'.encode()
    names = [name for name, value in odd_camera().members.items() if not callable(value) and name != "connected"]
    for name in names:
        answer = {name: lambda request, body=body: None if request.method == "PUT" else Answer(body=body)}
        with contextlib.suppress(DeviceError), opened(odd_camera(**answer)) as camera:
            settings = camera.apply(CameraRequest())
            camera.start_exposure(1.0, light=True)
            result = camera.download()
            camera.status()
            to_json([settings, result.exposure_time_s])  # which refuses numbers that are not finite


def test_a_temperature_on_its_way_is_only_reported() -> None:
    device = odd_camera()
    with opened(device) as camera:
        camera.cool(-10.0)
        assert camera.status().ccd_temperature_c == 15.0
        assert camera.status().set_temperature_c == -10.0


def test_a_temperature_of_zero_is_a_temperature() -> None:
    state = [{"Name": "CCDTemperature", "Value": 0.0}, {"Name": "CoolerPower", "Value": 0.0}]
    device = odd_camera(InterfaceVersion=4, Connecting=False, DeviceState=state, Connect=None)
    device.set(Connect=lambda _request: device.set(Connected=True) and None)
    with opened(device) as camera:
        assert camera.status().ccd_temperature_c == 0.0
        assert camera.status().cooler_power_percent == 0.0
        assert device.gets("CCDTemperature") == device.gets("CoolerPower") == 0


# Interface versions


def test_one_call_for_the_state_from_version_4_on() -> None:
    state = [{"Name": "ImageReady", "Value": False}, {"Name": "CameraState", "Value": 2}]
    device = odd_camera(InterfaceVersion=4, Connecting=False, DeviceState=state, StartExposure=lambda _request: None)
    device.set(Connect=lambda _request: device.set(Connected=True) and None)
    with opened(device) as camera:
        camera.start_exposure(1.0, light=False)
        asked = device.gets("CameraState")
        assert not camera.image_ready()
        assert device.gets("ImageReady") == 0
        assert device.gets("CameraState") == asked
        assert device.puts("Connected") == []


def test_a_version_4_without_what_version_4_has() -> None:
    with opened(odd_camera(InterfaceVersion=4)) as camera:
        np.testing.assert_array_equal(take(camera).pixels, pattern())
        assert camera.status().ccd_temperature_c == 15.0


def test_before_version_4_connecting_is_a_property_and_state_is_not_asked() -> None:
    device = odd_camera(InterfaceVersion=2)
    with opened(device) as camera:
        take(camera)
        assert [each["connected"] for each in device.puts("Connected")] == ["true"]
        assert device.gets("DeviceState") == 0


def test_a_camera_of_version_1_is_driven_with_what_version_1_has() -> None:
    options = SimulatorOptions(time_scale=50.0, fast=True, interface_version=1)
    with SimulatedObservatory(options) as simulator, AlpacaCamera("127.0.0.1", simulator.port) as camera:
        assert camera.info.interface_version == 1
        settings = camera.apply(CameraRequest(binning=(2, 2)))
        assert (settings.gain, settings.offset, settings.readout_mode) == (None, None, None)
        assert take(camera).pixels.shape == (450, 600)
        camera.cool(-5.0)
        assert camera.status().cooler_on is True
        with pytest.raises(DeviceError, match="gain cannot be set"):
            camera.apply(CameraRequest(gain=1))


def test_connecting_takes_its_time_and_is_bounded() -> None:
    countdown = [True, True, False]
    device = odd_camera(InterfaceVersion=4, Connect=None)
    device.set(
        Connect=lambda _request: device.set(Connected=True) and None, Connecting=lambda _request: countdown.pop(0)
    )
    with opened(device):
        assert countdown == []
    with pytest.raises(DeviceUnreachableError, match=r"still connecting after 0\.6 s"):
        opened(device.set(Connecting=lambda _request: True)).__enter__()


# Settings


@pytest.mark.parametrize(("x", "y", "expected"), [(0, 0, "RGGB"), (1, 0, "GRBG"), (0, 1, "GBRG"), (1, 1, "BGGR")])
def test_the_bayer_pattern_follows_its_offset(x: int, y: int, expected: str) -> None:
    with opened(odd_camera(SensorType=2, BayerOffsetX=x, BayerOffsetY=y)) as camera:
        assert camera.info.bayer_pattern == expected


def test_other_colour_sensors_are_said_to_be_treated_as_monochrome(caplog: pytest.LogCaptureFixture) -> None:
    with opened(odd_camera(SensorType=3)) as camera:
        assert camera.info.bayer_pattern is None
    assert "CMYG" in caplog.text


def test_a_subframe_that_was_left_is_reset() -> None:
    device = odd_camera(StartX=10, StartY=5, NumX=7, NumY=3, BinX=2, BinY=2)
    with opened(device) as camera:
        camera.apply(CameraRequest())
        assert [device.members[name] for name in ("startx", "starty", "numx", "numy")] == [0, 0, 40, 24]
        assert camera.frame_shape() == (24, 40)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (CameraRequest(gain=101), "gain 101 is outside 0 to 100"),
        (CameraRequest(gain=10.5), "whole number"),
        (CameraRequest(gain="High"), "whole number"),
        (CameraRequest(offset=-1), "offset -1 is outside 0 to 50"),
        (CameraRequest(binning=(3, 3)), "binning 3 is not 1 to 2"),
        (CameraRequest(binning=(1, 2)), "cannot bin 1 x 2"),
        (CameraRequest(readout_mode=2), "readout mode 2; it has 0: 'Normal', 1: 'Fast'"),
    ],
)
def test_settings_that_it_cannot_take_are_refused_with_what_it_takes(asked: CameraRequest, message: str) -> None:
    with opened(odd_camera()) as camera, pytest.raises(RefusedError, match=message):
        camera.apply(asked)


@pytest.mark.parametrize(
    ("member", "asked", "message"),
    [
        ("Gain", CameraRequest(gain=20), "Gain was set to 20 and reads back 19"),
        ("BinX", CameraRequest(binning=(2, 2)), "BinX was set to 2 and reads back 19"),
        ("NumX", CameraRequest(), "NumX was set to 40 and reads back 19"),
        ("ReadoutMode", CameraRequest(readout_mode="Fast"), "readout mode was set to 'Fast' and reads back 19"),
    ],
)
def test_settings_that_read_back_otherwise_are_an_error(member: str, asked: CameraRequest, message: str) -> None:
    device = odd_camera()
    with opened(device, Timeouts()) as camera:
        device.set(**{member: lambda request: 19 if request.method == "GET" else None})
        with pytest.raises(ReplyError, match=message):
            camera.apply(asked)


def test_a_refused_setting_is_shown_with_number_and_text() -> None:
    device = odd_camera()
    with opened(device) as camera:
        device.set(Offset=lambda request: Refusal(number=0x401, text="below 7") if request.method == "PUT" else 5)
        with pytest.raises(RefusedError, match=r"setting Offset to 6: below 7 \(ASCOM error 0x401, invalid value\)"):
            camera.apply(CameraRequest(offset=6))


def test_a_set_point_that_is_not_taken_is_an_error() -> None:
    device = odd_camera(SetCCDTemperature=lambda request: 0.0 if request.method == "GET" else None)
    with opened(device) as camera, pytest.raises(ReplyError, match="cool to -20 C and reads back 0 C"):
        camera.cool(-20.0)


class Tardy:
    """A member that shows a value that was set only at the third reading, as INDI's server does."""

    def __init__(self, value: object) -> None:
        self.shown, self.later, self.readings = value, value, 0

    def __call__(self, request: Request) -> object:
        if request.method == "PUT":
            self.later, self.readings = type(self.shown)(float(request.values[request.member])), 0
            return None
        self.readings += 1
        if self.readings > 2:
            self.shown = self.later
        return self.shown


def test_values_that_are_taken_after_the_answer_are_waited_for() -> None:
    members = {"Gain": 10, "Offset": 5, "BinX": 1, "BinY": 1, "NumX": 40, "NumY": 24, "ReadoutMode": 0}
    device = odd_camera(SetCCDTemperature=Tardy(15.0), **{name: Tardy(value) for name, value in members.items()})
    with opened(device) as camera:
        settings = camera.apply(CameraRequest(gain=20, offset=7, binning=(2, 2), readout_mode="Fast"))
        assert (settings.gain, settings.offset, settings.readout_mode) == (20, 7, "Fast")
        camera.cool(-20.0)
        assert camera.status().set_temperature_c == -20.0


@pytest.mark.parametrize("spelling", ["true", "True"])
def test_the_cooler_is_switched_on_at_a_server_that_knows_one_spelling_of_true(spelling: str) -> None:
    device = odd_camera()

    def cooler(request: Request) -> object:
        if request.method == "PUT":
            device.set(Cooling=request.values["cooleron"] == spelling)
        return device.members["cooling"]

    with opened(device.set(Cooling=False, CoolerOn=cooler)) as camera:
        camera.cool(-5.0)
        assert camera.status().cooler_on is True
        camera.warm_up()
        assert camera.status().cooler_on is False


def test_a_cooler_that_stays_off_is_said_to_be_off(caplog: pytest.LogCaptureFixture) -> None:
    device = odd_camera(CoolerOn=lambda request: False if request.method == "GET" else None)
    with opened(device) as camera:
        camera.cool(-5.0)
    assert "told to switch its cooler on and says that it is off" in caplog.text


@dataclass
class IndiExposures:
    """The exposures of a camera as INDI's Alpaca server shows them.

    ImageReady stays true from the last image until the driver has begun, 40 ms after StartExposure.
    """

    clock: QuickClock
    begun_s: float = -1000.0
    taken: int = 1
    asked_s: float = 0.0

    @property
    def is_ready(self) -> bool:
        since_s = self.clock.slept_s - self.begun_s
        return since_s < 0.04 or since_s > 0.04 + self.asked_s

    def start(self, request: Request) -> None:
        self.begun_s, self.asked_s = self.clock.slept_s, float(request.values["duration"])
        self.taken += 1

    def image(self, _request: Request) -> object:
        if not self.is_ready:
            return Refusal(number=1, text="No image available")
        old = self.clock.slept_s - self.begun_s < 0.04
        return image_json(np.full((24, 40), self.taken - old, np.uint16))

    def camera(self) -> OddDevice:
        return odd_camera(
            StartExposure=self.start, ImageArray=self.image, ImageReady=lambda _request: self.is_ready, CameraState=0
        )


@pytest.mark.parametrize("exposure_s", [0.001, 0.03, 0.5, 20.0])
def test_the_last_image_is_not_taken_for_the_next(exposure_s: float) -> None:
    clock = QuickClock()
    exposures = IndiExposures(clock)
    with opened(exposures.camera(), clock=clock) as camera:
        for expected in (2, 3, 4):
            camera.start_exposure(exposure_s, light=False)
            while not camera.image_ready():
                clock.sleep(max(0.01, exposure_s / 20))
            assert camera.download().pixels[0, 0] == expected
        assert clock.slept_s < 3 * 1.1 * exposure_s + 1


@pytest.mark.parametrize("had_image", [False, True])
def test_a_simulated_camera_whose_time_passes_faster_is_not_waited_for(had_image: bool) -> None:
    """ImageReady is true at each look, as in no exposure that takes its time."""
    clock = QuickClock()
    device = odd_camera(ImageReady=had_image, CameraState=0)
    device.set(StartExposure=lambda _request: device.set(ImageReady=True) and None)
    waited_s = []
    with opened(device, clock=clock) as camera:
        for exposure_s in (20.0, 20.0, 0.001):
            before_s = clock.slept_s
            camera.start_exposure(exposure_s, light=False)
            while not camera.image_ready():
                clock.sleep(0.05)
            waited_s.append(clock.slept_s - before_s)
            camera.download()
    assert waited_s == pytest.approx([2.0 if had_image else 0.0, 0.0, 0.0], abs=0.06)


@pytest.mark.parametrize("looks", ["late", "often"])
def test_a_camera_that_takes_its_time_is_never_taken_for_a_faster_one(looks: str) -> None:
    clock = QuickClock()
    exposures = IndiExposures(clock)
    with opened(exposures.camera(), clock=clock) as camera:
        for expected, exposure_s in enumerate((20.0, 0.6, 20.0, 0.001), 2):
            camera.start_exposure(exposure_s, light=False)
            clock.sleep(1.1 * exposure_s + 0.3 if looks == "late" else 0.0)
            while not camera.image_ready():
                clock.sleep(0.01)
            assert camera.download().pixels[0, 0] == expected


def test_a_download_that_is_refused_because_nothing_is_ready_is_asked_for_again() -> None:
    clock = QuickClock()
    exposures = IndiExposures(clock)
    with opened(exposures.camera(), clock=clock) as camera:
        camera.start_exposure(5.0, light=False)
        clock.sleep(1.0)
        assert camera.download().pixels[0, 0] == 2
        assert clock.slept_s == pytest.approx(5.1, abs=0.2)


TEMPLATE_PIXELS = ((2040 + pattern() % 16) << 4).astype(np.uint16)
"""12 bits shifted to 16, about the level from which a sign makes samples negative."""


def template_camera() -> OddDevice:
    """Make a camera as devices made with a template answer: little is true but the pixels, which have a sign."""
    device = odd_camera(
        ImageArray=image_json(TEMPLATE_PIXELS.view(np.int16)),
        MaxADU=4095,
        PixelSizeX=math.nan,
        PixelSizeY=0,
        ExposureMin=-1.0,
        CCDTemperature=math.nan,
        LastExposureStartTime=Refusal(),
    ).without("LastExposureDuration")
    return device.set(StartExposure=lambda _request: device.set(ImageReady=True, CameraState=2) and None)


def test_a_camera_made_from_a_template_gives_its_frames(caplog: pytest.LogCaptureFixture) -> None:
    device = template_camera()
    clock = QuickClock()
    with OddServer({"camera/0": device}, closing=Closing.OLD) as server:
        camera = AlpacaCamera("127.0.0.1", server.port, clock=clock)
        with camera:
            assert (camera.info.pixel_size_um, camera.info.exposure_min_s) == (None, 0.0)
            for number in range(3):
                camera.start_exposure(0.5, light=False)
                device.set(ImageReady=True)
                while not camera.image_ready():
                    clock.sleep(0.1)
                result = camera.download()
                device.set(ImageReady=False)
                assert result.exposure_time_s == 0.5
                np.testing.assert_array_equal(without_sign(result.pixels), TEMPLATE_PIXELS)
                assert len(device.puts("StartExposure")) == number + 1
            assert device.puts("AbortExposure") == []
            assert camera.status().ccd_temperature_c is None
    for odd in ("PixelSizeX nan", "PixelSizeY 0", "exposures from -1 to 100 s"):
        assert caplog.text.count(f"it reports {odd}, which cannot be") == 1


@pytest.mark.parametrize(
    ("shortest_s", "longest_s", "used_s"),
    [(-1.0, 60.0, 0.0), (math.nan, 60.0, 0.0), (90.0, 60.0, 0.0), (2.0, 0.0, 2.0)],
)
def test_a_shortest_exposure_that_cannot_be_is_not_used(shortest_s: float, longest_s: float, used_s: float) -> None:
    with opened(odd_camera(ExposureMin=shortest_s, ExposureMax=longest_s)) as camera:
        assert camera.info.exposure_min_s == used_s
        camera.apply(CameraRequest())
        assert camera.info.exposure_min_s == used_s
        camera.start_exposure(used_s, light=True)


def test_a_camera_in_state_error_is_aborted_before_the_next_try() -> None:
    device = odd_camera()
    device.set(
        StartExposure=lambda _request: (
            Refusal(number=0x40B, text="not idle")
            if device.members["camerastate"]
            else device.set(CameraState=5) and None
        ),
        ImageReady=False,
    )
    with opened(device) as camera:
        camera.start_exposure(1.0, light=False)
        with pytest.raises(RefusedError, match="CameraState is Error"):
            camera.image_ready()
        camera.reconnect()
        camera.abort()
        camera.start_exposure(1.0, light=False)
        assert len(device.puts("AbortExposure")) == 1


# Connecting anew


def test_reconnecting_leaves_a_healthy_device_connected_and_its_cooler_on() -> None:
    device = imaging_camera()
    with opened(device) as camera:
        camera.apply(CameraRequest(gain=42))
        camera.cool(-10.0)
        device.set(Gain=10, CoolerOn=False)
        camera.reconnect()
        assert [each["connected"] for each in device.puts("Connected")] == ["true"]
        assert device.members["gain"] == 42
        assert device.members["cooleron"] is True


def test_reconnecting_connects_a_device_that_another_program_disconnected() -> None:
    device = imaging_camera()
    with opened(device) as camera:
        device.set(Connected=False, ImageReady=Refusal(number=0x407, text="not connected"))
        with pytest.raises(RefusedError, match="connect it again"):
            camera.image_ready()
        device.set(ImageReady=False)
        camera.reconnect()
        assert device.members["connected"] is True


def test_reconnecting_aborts_what_still_runs() -> None:
    device = imaging_camera()
    with opened(device) as camera:
        camera.start_exposure(60.0, light=False)
        camera.reconnect()
        assert len(device.puts("AbortExposure")) == 1
        take(camera)


# What goes wrong


def test_no_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DeviceUnreachableError, match=f"127.0.0.1:{port}: no Alpaca server answers"):
        AlpacaCamera("127.0.0.1", port)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems answer for a listener whose queue is full")
def test_a_server_that_does_not_even_take_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as queue:
        for _ in range(3):  # so many wait for a listener that never looks; the next gets no answer at all
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(DeviceUnreachableError, match=r"127\.0\.0\.1:\d+: no answer in 0\.4 s"):
            AlpacaCamera("127.0.0.1", listener.getsockname()[1], timeouts=HASTY)


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(DeviceUnreachableError, match=r"no-such-host\.invalid:11111"):
        AlpacaCamera("no-such-host.invalid", 11111)


def test_a_server_without_a_camera() -> None:
    with OddServer({"focuser/0": OddDevice({})}) as server, pytest.raises(RefusedError, match="has no camera at all"):
        AlpacaCamera("127.0.0.1", server.port)


def test_a_server_with_other_cameras() -> None:
    devices = {"camera/0": odd_camera(), "camera/1": odd_camera()}
    with OddServer(devices) as server:
        with pytest.raises(RefusedError, match=r"camera numbers are 0 \(Odd camera/0\), 1 \(Odd camera/1\)"):
            AlpacaCamera("127.0.0.1", server.port, 3)
        AlpacaCamera("127.0.0.1", server.port, 1).close()


def test_a_server_that_lists_no_devices_is_asked_for_the_camera() -> None:
    management = {"v1/configureddevices": Answer(body=b"?", status=404)}
    with OddServer({"camera/0": odd_camera()}, management) as server:
        AlpacaCamera("127.0.0.1", server.port).close()
        with pytest.raises(DeviceError, match="no such device"):
            AlpacaCamera("127.0.0.1", server.port, 1)


def test_a_camera_that_another_program_holds() -> None:
    held = Refusal(number=0x500, text="camera is in use by another program")
    said = r"setting Connected to True: camera is in use .*0x500, error of the driver\); end the program that holds it"
    with pytest.raises(RefusedError, match=said):
        opened(odd_camera(Connected=held)).__enter__()


def test_a_camera_that_only_says_that_it_connects() -> None:
    with pytest.raises(ReplyError, match="says that it is not connected"):
        opened(odd_camera(Connected=lambda request: False if request.method == "GET" else None)).__enter__()


def test_a_web_server_that_is_no_alpaca_server() -> None:
    page = Answer(body=b"<html>Router login</html>", content_type="text/html")
    device = odd_camera(InterfaceVersion=page)
    with pytest.raises(ReplyError, match=r"is this an Alpaca server\?"):
        opened(device).__enter__()


def test_something_that_does_not_speak_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(4):
                client, _address = listener.accept()
                client.sendall(b"220 mail.example.org ESMTP\r\n")
                client.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(DeviceError, match=r"is this an Alpaca server|connection failed"):
            AlpacaCamera("127.0.0.1", listener.getsockname()[1], timeouts=HASTY)


def test_http_500_is_shown_and_no_optional_member() -> None:
    device = odd_camera()
    with opened(device) as camera:
        device.set(CCDTemperature=Answer(body=b"Internal\nerror", status=500, content_type="text/plain"))
        with pytest.raises(ReplyError, match="reading CCDTemperature: the server failed with HTTP 500: Internal error"):
            camera.status()


@pytest.mark.parametrize(
    "value", [Answer(body=b"{}"), Answer(body=b"[]"), Answer(body=b'{"ErrorNumber": "x"}'), Answer(body=b"")]
)
def test_answers_that_make_no_sense(value: Answer) -> None:
    device = odd_camera()
    with opened(device) as camera:
        device.set(ImageReady=value)
        with pytest.raises(ReplyError, match="reading ImageReady"):
            camera.image_ready()


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_values_of_another_kind(value: object) -> None:
    device = odd_camera()
    with opened(device) as camera:
        device.set(ImageReady=value)
        with pytest.raises(ReplyError, match=r"ImageReady is .* instead of true or false"):
            camera.image_ready()


def test_a_camera_that_claims_a_sensor_that_cannot_be() -> None:
    with pytest.raises(ReplyError, match="claims 60000 x 60000 pixels"):
        opened(odd_camera(CameraXSize=60000, CameraYSize=60000)).__enter__()


def test_a_dropped_answer_is_asked_for_once_more() -> None:
    device = odd_camera()
    with opened(device) as camera:
        answers = [DROP, True]
        device.set(ImageReady=lambda _request: answers.pop(0))
        assert camera.image_ready()
        device.set(ImageReady=DROP)
        with pytest.raises(DeviceUnreachableError, match="connection failed"):
            camera.image_ready()


@pytest.mark.parametrize("closing", list(Closing), ids=str)
def test_a_server_that_closes_the_connection_after_an_answer_is_used_like_any_other(closing: Closing) -> None:
    device = odd_camera(ImageArray=image_json(pattern()))
    with OddServer({"camera/0": device}, closing=closing) as server:
        with AlpacaCamera("localhost", server.port, timeouts=HASTY) as camera:
            camera.apply(CameraRequest(gain=20, binning=(1, 1)))
            assert np.array_equal(take(camera, 0.01).pixels, pattern())
            camera.cool(-5.0)
            camera.reconnect()
            device.set(ImageArray=image_bytes(pattern() + 1))
            assert np.array_equal(take(camera, 0.02).pixels, pattern() + 1)
        assert [put["duration"] for put in device.puts("StartExposure")] == ["0.01", "0.02"]
        assert device.members["connected"] is False


@pytest.mark.parametrize("closing", list(Closing), ids=str)
def test_an_answer_that_ends_early_is_an_error_however_the_connection_ends(closing: Closing) -> None:
    device = odd_camera()
    with OddServer({"camera/0": device}, closing=closing) as server, AlpacaCamera("localhost", server.port) as camera:
        device.set(ImageReady=Answer(body=b'{"Value": tr', claimed_length=90))
        with pytest.raises((DeviceUnreachableError, ReplyError), match=r"the answer (ended after 12 bytes|is no JSON)"):
            camera.image_ready()


BODY = image_bytes(pattern()).body
SLOW = {
    "never answers": Answer(body=b"", claimed_length=9, silent_after=0),
    "falls silent in the image": Answer(body=BODY, silent_after=500),
    "falls silent in the header": Answer(body=BODY, silent_after=20),
    "sends a byte now and then": Answer(body=BODY, trickle_s=0.02),
    "falls silent in JSON": Answer(body=image_json(pattern()).body, silent_after=300),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_an_image_that_does_not_come_is_given_up_in_time(answer: Answer) -> None:
    with opened(odd_camera(ImageArray=answer)) as camera:
        camera.start_exposure(1.0, light=False)
        with pytest.raises(DeviceUnreachableError, match="downloading the image: no answer in time"):
            camera.download()


@pytest.mark.parametrize("answer", [Answer(body=b"{}", silent_after=1), Answer(body=b"{}", trickle_s=0.02)])
def test_a_control_call_that_is_not_answered_is_given_up_in_time(answer: Answer) -> None:
    device = odd_camera()
    with opened(device) as camera:
        device.set(ImageReady=answer)
        with pytest.raises(DeviceUnreachableError, match="no answer in time"):
            camera.image_ready()
        device.set(ImageReady=True)
        assert camera.image_ready()


@pytest.mark.parametrize("kept", [0, 10, 44, 500])
def test_an_image_that_is_cut_short(kept: int) -> None:
    answer = Answer(body=BODY[:kept], claimed_length=len(BODY))
    with opened(odd_camera(ImageArray=answer)) as camera, pytest.raises(DeviceError, match="downloading the image"):
        take(camera)


def test_garbage_instead_of_an_image() -> None:
    answer = Answer(body=b"\xff" * 5000, content_type="application/imagebytes")
    with opened(odd_camera(ImageArray=answer)) as camera, pytest.raises(ReplyError, match="no image"):
        take(camera)


def test_an_image_of_60000_by_60000() -> None:
    answer = Answer(body=image_header((60000, 60000), 8))
    with (
        opened(odd_camera(ImageArray=answer)) as camera,
        pytest.raises(ReplyError, match="60000 x 60000, expected 40 x 24"),
    ):
        take(camera)


# The faults of the simulator


@pytest.mark.parametrize(
    "fault",
    ["drop", "http500", "silence", "slow", "short", "garbage", "huge", "ascom-error", "wrong-size"],
)
def test_a_simulated_fault_of_the_download_is_an_error_in_bounded_time(fault: str) -> None:
    options = SimulatorOptions(time_scale=100.0, fast=True, faults=(fault,))
    limits = Timeouts(silence_s=0.3, download_s=0.4)
    with (
        SimulatedObservatory(options) as simulator,
        AlpacaCamera("127.0.0.1", simulator.port, timeouts=limits) as camera,
    ):
        with pytest.raises(DeviceError, match="downloading the image: "):
            take(camera)
        assert camera.status().ccd_temperature_c is not None


def test_a_simulated_camera_that_only_sends_json() -> None:
    options = SimulatorOptions(time_scale=100.0, fast=True, faults=("json-only",))
    with SimulatedObservatory(options) as simulator, AlpacaCamera("127.0.0.1", simulator.port) as camera:
        assert take(camera).pixels.shape == camera.frame_shape()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("connect-refused", "connect"),
        ("busy-at-start", "StartExposure"),
        ("exposure-error", "failed"),
        ("drop@startexposure", "StartExposure.*connection failed"),
        ("http500@imageready", "HTTP 500"),
    ],
)
def test_simulated_faults_before_the_download(fault: str, message: str) -> None:
    options = SimulatorOptions(time_scale=100.0, fast=True, interface_version=3, faults=(fault,))
    with SimulatedObservatory(options) as simulator, pytest.raises(DeviceError, match=f"(?i){message}"):  # noqa: SIM117
        with AlpacaCamera("127.0.0.1", simulator.port) as camera:
            take(camera)


# Nothing shared


def test_a_camera_that_hangs_does_not_hold_up_another() -> None:
    asked = threading.Event()

    def hang(_request: Request) -> Answer:
        asked.set()
        return Answer(body=b"", claimed_length=9, silent_after=0)

    patient = Timeouts(reply_s=20.0, silence_s=20.0, download_s=20.0)
    for member in ("ImageArray", "CCDTemperature"):
        asked.clear()
        stuck = odd_camera()
        with OddServer({"camera/0": stuck, "camera/1": odd_camera()}) as server:
            first = AlpacaCamera("127.0.0.1", server.port, 0, timeouts=patient)
            second = AlpacaCamera("127.0.0.1", server.port, 1, timeouts=patient)
            stuck.set(**{member: hang})
            waiting = threading.Thread(
                target=_ignoring, args=(first.download if member == "ImageArray" else first.status,)
            )
            waiting.start()
            assert asked.wait(5)
            take(second)
            assert waiting.is_alive()
            server.over.set()
            waiting.join(10)
            first.close()
            second.close()


SERVER = """
    import sys, time
    from support.odd_servers import Answer, OddServer, image_bytes, odd_camera, pattern

    big = pattern(4000, 3000)
    slow = Answer(body=image_bytes(big).body, piece_every_s=0.02)
    with OddServer({"camera/0": odd_camera(big, ImageArray=slow), "camera/1": odd_camera()}) as server:
        print(server.port, flush=True)
        sys.stdin.read()
"""


def test_two_cameras_do_not_slow_each_other_s_control_calls() -> None:
    """One downloads 24 MB for more than a second while the other is polled; the server has a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n" + textwrap.dedent(SERVER)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with AlpacaCamera("127.0.0.1", port, 0) as slow, AlpacaCamera("127.0.0.1", port, 1) as quick:
            download = DownloadTime(slow)
            download.start()
            n_polls = 0
            while download.is_alive():
                assert not quick.image_ready()
                n_polls += 1
            download.join()
    assert download.took_s > 1.0
    assert n_polls > 100  # one that waited for the download would be the only one


class DownloadTime(threading.Thread):
    """Downloads an image, and says how long it took."""

    def __init__(self, camera: AlpacaCamera) -> None:
        super().__init__()
        self.camera = camera
        self.took_s = 0.0

    def run(self) -> None:
        began_s = time.monotonic()
        np.testing.assert_array_equal(self.camera.download().pixels, pattern(4000, 3000))
        self.took_s = time.monotonic() - began_s


def test_the_status_can_be_read_during_a_download() -> None:
    asked = threading.Event()

    def hang(_request: Request) -> Answer:
        asked.set()
        return Answer(body=BODY, silent_after=100)

    with opened(odd_camera(ImageArray=hang), Timeouts()) as camera:
        waiting = threading.Thread(target=_ignoring, args=(camera.download,), daemon=True)
        waiting.start()
        assert asked.wait(5)
        assert camera.status().ccd_temperature_c == 15.0
        assert waiting.is_alive()
    waiting.join(10)


def _ignoring(work: object) -> None:
    assert callable(work)
    with pytest.raises(DeviceError):
        work()


def test_the_image_of_an_aborted_exposure_is_not_taken_for_that_of_the_next() -> None:
    clock = QuickClock()
    ends_s: list[float] = []
    device = odd_camera(CameraState=lambda _request: 2 if len(ends_s) == 1 and not device.puts("AbortExposure") else 0)
    device.set(
        StartExposure=lambda request: ends_s.append(clock.slept_s + float(request.values["duration"])),
        AbortExposure=lambda _request: None,
        ImageReady=lambda _request: any(clock.slept_s >= end_s for end_s in ends_s),
    )
    with opened(device, clock=clock) as camera:
        camera.start_exposure(8.0, light=False)
        clock.sleep(1.0)
        camera.abort()
        camera.start_exposure(20.0, light=False)
        while not camera.image_ready():
            clock.sleep(0.5)
        assert clock.slept_s >= 21.0


def test_a_failed_exposure_of_version_4_says_why() -> None:
    state = [{"Name": "ImageReady", "Value": False}, {"Name": "CameraState", "Value": 5}]
    device = odd_camera(InterfaceVersion=4, DeviceState=state, StartExposure=lambda _request: None)
    device.set(Connecting=False, Connect=lambda _request: device.set(Connected=True) and None)
    with opened(device) as camera:
        camera.start_exposure(1.0, light=False)
        device.set(ImageReady=Refusal(number=0x500, text="USB lost"))
        with pytest.raises(RefusedError, match=r"USB lost \(ASCOM error 0x500"):
            camera.image_ready()
