"""Open cameras, filter wheels and covers on Alpaca servers."""

from __future__ import annotations

from ostcal.clock import Clock, SystemClock
from ostcal.devices.adapter import AscomInterfaceCamera
from ostcal.devices.alpaca_cover import AlpacaCoverCalibrator
from ostcal.devices.alpaca_filter_wheel import AlpacaFilterWheel
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.discovery import require_device
from ostcal.devices.protocols import Camera, CoverCalibrator, FilterWheel


class AlpacaCamera(AscomInterfaceCamera):
    """A camera on an Alpaca server, connected by the constructor; a context manager that disconnects at its end.

    Parameters
    ----------
    host, port
        The server.
    device_id
        Number of the camera on it.
    timeouts
        Time limits.
    clock
        Used for waits and deadlines; the system clock by default.

    Raises
    ------
    DeviceError
        If there is no such server or camera, or it does not connect.
    """

    def __init__(
        self,
        host: str,
        port: int,
        device_id: int = 0,
        *,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        limits = timeouts or Timeouts()
        clock = clock or SystemClock()
        address = AlpacaAddress(host=host, port=port, device_type="camera", device_id=device_id)
        require_device(address, timeout_s=limits.reply_s)
        super().__init__(AlpacaDriver(address, limits, clock), clock)


def open_alpaca_camera(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> Camera:
    """Connect a camera on an Alpaca server.

    Raises
    ------
    DeviceError
        If there is no such server or camera, or it does not connect.
    """
    return AlpacaCamera(host, port, device_id, timeouts=timeouts, clock=clock)


def open_alpaca_filter_wheel(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> FilterWheel:
    """Connect a filter wheel on an Alpaca server.

    Raises
    ------
    DeviceError
        If there is no such server or wheel, or it does not connect.
    """
    return AlpacaFilterWheel(host, port, device_id, timeouts=timeouts, clock=clock)


def open_alpaca_cover(
    host: str, port: int, device_id: int = 0, *, timeouts: Timeouts | None = None, clock: Clock | None = None
) -> CoverCalibrator:
    """Connect a cover calibrator on an Alpaca server.

    Raises
    ------
    DeviceError
        If there is no such server or device, or it does not connect.
    """
    return AlpacaCoverCalibrator(host, port, device_id, timeouts=timeouts, clock=clock)
