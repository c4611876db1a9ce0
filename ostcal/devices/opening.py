"""Opening devices by plain values; what reads the configuration stands above this room."""

from __future__ import annotations

from ostcal.clock import Clock
from ostcal.devices.alpaca import AlpacaCamera
from ostcal.devices.alpaca_cover import AlpacaCoverCalibrator
from ostcal.devices.alpaca_filter_wheel import AlpacaFilterWheel
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.protocols import Camera, CoverCalibrator, FilterWheel


def open_alpaca_camera(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> Camera:
    """Connect a camera of an Alpaca server.

    Raises
    ------
    DeviceError
        No server, no such camera, or it does not connect.
    """
    return AlpacaCamera(host, port, device_id, timeouts=timeouts, clock=clock)


def open_alpaca_filter_wheel(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> FilterWheel:
    """Connect a filter wheel of an Alpaca server.

    Raises
    ------
    DeviceError
        No server, no such wheel, or it does not connect.
    """
    return AlpacaFilterWheel(host, port, device_id, timeouts=timeouts, clock=clock)


def open_alpaca_cover(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> CoverCalibrator:
    """Connect a cover calibrator of an Alpaca server.

    Raises
    ------
    DeviceError
        No server, no such device, or it does not connect.
    """
    return AlpacaCoverCalibrator(host, port, device_id, timeouts=timeouts, clock=clock)
