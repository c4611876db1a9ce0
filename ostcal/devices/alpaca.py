"""A camera on an Alpaca server."""

from __future__ import annotations

from ostcal.clock import Clock, SystemClock
from ostcal.devices.adapter import AscomInterfaceCamera
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.discovery import require_device


class AlpacaCamera(AscomInterfaceCamera):
    """A camera on an Alpaca server, connected when it is made; a context manager that disconnects at its end.

    Parameters
    ----------
    host, port
        The server.
    device_id
        Number of the camera on it.
    timeouts
        Longest waits.
    clock
        Waits for what has no end of its own; the clock of the machine by default.

    Raises
    ------
    DeviceError
        No server, no such camera, or it does not connect.
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
