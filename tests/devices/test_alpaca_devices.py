"""Filter wheels and cover calibrators over Alpaca, ASCOM drivers by COM, and what drives them all."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ostcal.clock import SystemClock
from ostcal.devices.adapter import AscomInterfaceCamera
from ostcal.devices.alpaca import AlpacaCamera, AlpacaCoverCalibrator, AlpacaFilterWheel
from ostcal.devices.ascom import ComDriver, open_ascom_camera
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.protocols import CameraRequest, CoverState
from ostcal.errors import DeviceError
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.odd_servers import OddDevice, OddServer, QuickClock, Refusal, Request, pattern


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(time_scale=100.0, fast=True)) as running:
        yield running


def wheel_device(**members: Any) -> OddDevice:
    return OddDevice(
        {
            "Connected": False,
            "InterfaceVersion": 2,
            "Name": "Wheel",
            "Names": ["L", "R", " Ha "],
            "Position": 0,
            **members,
        }
    )


def cover_device(**members: Any) -> OddDevice:
    """Make a closed flip-flat of interface version 1."""
    device = OddDevice(
        {
            "Connected": False,
            "InterfaceVersion": 1,
            "Name": "Cover",
            "CoverState": 1,
            "CalibratorState": 1,
            "MaxBrightness": 255,
            "Brightness": 0,
        }
    )

    def lamp(request: Request) -> None:
        device.set(CalibratorState=3, Brightness=int(request.values["brightness"]))

    device.set(
        OpenCover=lambda _request: device.set(CoverState=3) and None,
        CloseCover=lambda _request: device.set(CoverState=1) and None,
        CalibratorOn=lamp,
        CalibratorOff=lambda _request: device.set(CalibratorState=1, Brightness=0) and None,
    )
    return device.set(**members)


# Filter wheels


def test_a_simulated_wheel_turns_to_every_filter(simulator: SimulatedObservatory) -> None:
    with AlpacaFilterWheel("127.0.0.1", simulator.port) as wheel:
        assert len(wheel.names) > 1
        for name in reversed(wheel.names):
            wheel.select(name)
            assert wheel.current() == name


def test_a_wheel_is_waited_for_while_it_turns() -> None:
    positions = [0, -1, -1, 2]
    device = wheel_device()
    device.set(Position=lambda request: None if request.method == "PUT" else positions.pop(0))
    clock = QuickClock()
    with (
        OddServer({"filterwheel/0": device}) as server,
        AlpacaFilterWheel("127.0.0.1", server.port, clock=clock) as wheel,
    ):
        wheel.select("ha")
        assert positions == []
        assert clock.slept_s > 0
        assert device.puts("Position")[0]["position"] == "2"


def test_a_wheel_that_is_there_is_not_turned() -> None:
    device = wheel_device(Position=1)
    with OddServer({"filterwheel/0": device}) as server, AlpacaFilterWheel("127.0.0.1", server.port) as wheel:
        wheel.select("R")
        assert device.puts("Position") == []


def test_wheels_that_do_not_arrive() -> None:
    device = wheel_device()
    with (
        OddServer({"filterwheel/0": device}) as server,
        AlpacaFilterWheel("127.0.0.1", server.port, clock=QuickClock()) as wheel,
    ):
        with pytest.raises(RefusedError, match="no filter 'OIII'; it has L, R, Ha"):
            wheel.select("OIII")
        device.set(Position=lambda request: None if request.method == "PUT" else 1)
        with pytest.raises(ReplyError, match="stopped at 1"):
            wheel.select("L")
        device.set(Position=-1)
        with pytest.raises(DeviceUnreachableError, match="still turns after 120 s"):
            wheel.current()
        device.set(Position=7)
        with pytest.raises(ReplyError, match="position 7"):
            wheel.current()


# Covers and panels


def test_a_simulated_cover_opens_and_its_panel_lights(simulator: SimulatedObservatory) -> None:
    with AlpacaCoverCalibrator("127.0.0.1", simulator.port) as cover:
        cover.open_cover()
        assert cover.cover_state() is CoverState.OPEN
        cover.close_cover()
        assert cover.cover_state() is CoverState.CLOSED
        assert cover.max_brightness > 0
        cover.light_on(cover.max_brightness)
        cover.light_off()


def test_a_cover_is_waited_for_while_it_moves() -> None:
    states = [1, 2, 2, 3]
    device = cover_device(CoverState=lambda _request: states.pop(0))
    device.set(OpenCover=lambda _request: None)
    clock = QuickClock()
    with (
        OddServer({"covercalibrator/0": device}) as server,
        AlpacaCoverCalibrator("127.0.0.1", server.port, clock=clock) as cover,
    ):
        cover.open_cover()
        assert states == []
        assert clock.slept_s > 0


def test_a_panel_is_waited_for_until_it_is_steady() -> None:
    states = [1, 2, 2, 3]
    device = cover_device(CalibratorState=lambda _request: states.pop(0))
    device.set(CalibratorOn=lambda _request: device.set(Brightness=100) and None)
    with (
        OddServer({"covercalibrator/0": device}) as server,
        AlpacaCoverCalibrator("127.0.0.1", server.port, clock=QuickClock()) as cover,
    ):
        cover.light_on(100)
        assert states == []
        states.append(1)


def test_covers_and_panels_that_fail() -> None:
    device = cover_device()
    with (
        OddServer({"covercalibrator/0": device}) as server,
        AlpacaCoverCalibrator("127.0.0.1", server.port, clock=QuickClock()) as cover,
    ):
        with pytest.raises(RefusedError, match="brightness 256 is not 0 to 255"):
            cover.light_on(256)
        device.set(CalibratorOn=lambda _request: device.set(CalibratorState=5) and None)
        with pytest.raises(ReplyError, match="panel is error, not ready"):
            cover.light_on(10)
        device.set(CalibratorOn=lambda _request: device.set(CalibratorState=3, Brightness=9) and None)
        with pytest.raises(ReplyError, match="set to 10 and reads back 9"):
            cover.light_on(10)
        device.set(OpenCover=lambda _request: device.set(CoverState=5) and None)
        with pytest.raises(ReplyError, match="after OpenCover its cover is error"):
            cover.open_cover()
        device.set(CoverState=2)
        with pytest.raises(DeviceUnreachableError, match="still moves after 120 s"):
            cover.close_cover()


def test_a_panel_without_a_cover_and_a_cover_without_a_panel() -> None:
    device = cover_device(CoverState=0)
    with OddServer({"covercalibrator/0": device}) as server:
        with AlpacaCoverCalibrator("127.0.0.1", server.port) as cover:
            assert cover.cover_state() is CoverState.NOT_PRESENT
            with pytest.raises(RefusedError, match="no cover"):
                cover.close_cover()
        device.set(CoverState=1, CalibratorState=0, MaxBrightness=Refusal())
        with AlpacaCoverCalibrator("127.0.0.1", server.port) as cover:
            assert cover.max_brightness == 0
            cover.light_off()
            with pytest.raises(RefusedError, match="no flat panel"):
                cover.light_on(1)


def test_a_cover_that_does_not_know_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with (
        OddServer({"covercalibrator/0": cover_device(CoverState=4, CloseCover=lambda _request: None)}) as server,
        AlpacaCoverCalibrator("127.0.0.1", server.port) as cover,
    ):
        cover.close_cover()
        assert "does not know where its cover is" in caplog.text


def test_devices_that_are_not_there() -> None:
    with OddServer({"camera/0": OddDevice({})}) as server:
        with pytest.raises(RefusedError, match="no filterwheel at all"):
            AlpacaFilterWheel("127.0.0.1", server.port)
        with pytest.raises(RefusedError, match="no covercalibrator at all"):
            AlpacaCoverCalibrator("127.0.0.1", server.port)


def test_a_second_close_does_nothing(simulator: SimulatedObservatory, caplog: pytest.LogCaptureFixture) -> None:
    for opened in (AlpacaCamera, AlpacaFilterWheel, AlpacaCoverCalibrator):
        device = opened("127.0.0.1", simulator.port)
        device.close()
        assert not any(one.connected() for one in simulator.devices)
        device.close()
    assert caplog.text == ""


# ASCOM by COM


class DriverError(Exception):
    """What a COM call raises: a code, a text, and the details of the exception of the driver."""


class ComCamera:
    """An object with the members of an old ASCOM camera, as COM shows it."""

    def __init__(self) -> None:
        image = pattern()
        self.Connected = False
        self.Name = "Com"
        self.CameraXSize, self.CameraYSize = image.shape[::-1]
        self.StartX = self.StartY = 0
        self.NumX, self.NumY = image.shape[::-1]
        self.BinX = self.BinY = 1
        self.CameraState = 0
        self.ImageReady = False
        self.ImageArray = tuple(map(tuple, image.T.tolist()))

    @property
    def MaxADU(self) -> int:  # noqa: N802 -- ASCOM's name
        raise DriverError(
            -2147352567, "Exception occurred.", (0, "Driver", "not implemented", None, 0, -2147220480), None
        )

    def StartExposure(self, duration: float, light: bool) -> None:  # noqa: N802 -- ASCOM's name
        if duration > 100:
            raise DriverError(-2147220479, "too long", None, None)
        self.ImageReady = True


def com_camera(device: ComCamera) -> AscomInterfaceCamera:
    return AscomInterfaceCamera(ComDriver("ASCOM.Com.Camera", device, DriverError), SystemClock())


def test_a_com_camera_goes_through_the_same_adapter() -> None:
    with com_camera(ComCamera()) as camera:
        assert camera.info.max_adu == 65535
        assert camera.info.interface_version == 1
        assert camera.apply(CameraRequest()).gain is None
        camera.start_exposure(1.0, light=False)
        assert camera.image_ready()
        result = camera.download()
        np.testing.assert_array_equal(result.pixels, pattern())
        assert result.pixels.dtype == np.uint16


def test_com_errors_carry_the_ascom_number() -> None:
    expected = r"ASCOM.Com.Camera: StartExposure\(200.0, True\): .*too long.*0x401"
    with com_camera(ComCamera()) as camera, pytest.raises(RefusedError, match=expected):
        camera.start_exposure(200.0, light=True)


@pytest.mark.parametrize(
    "image", [None, (), ((1, 2), (3, 4)), (((1,), (2,)),) * 40, (("a",) * 24,) * 40, ((1,) * 24,) * 39 + ((1,),)]
)
def test_com_images_that_are_none(image: object) -> None:
    device = ComCamera()
    with com_camera(device) as camera:
        device.ImageArray = image  # type: ignore[assignment]
        with pytest.raises(ReplyError, match="reading the image"):
            camera.download()


@pytest.mark.skipif(platform.system() == "Windows", reason="Windows has COM")
def test_ascom_elsewhere_explains_what_to_do() -> None:
    with pytest.raises(
        DeviceError, match=r"Windows only, .*ASCOM Remote.*camera_type: alpaca .*host, port .*device_id"
    ):
        open_ascom_camera("ASCOM.Simulator.Camera")
