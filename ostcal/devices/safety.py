"""Safety monitors and roofs, and a camera that starts no exposure while one of them says no."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any, cast

from ostcal.clock import Clock, SystemClock
from ostcal.devices.alpaca import find_driver
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.device_driver import ConnectedDevice
from ostcal.devices.failures import NotNowError
from ostcal.devices.protocols import Camera
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)


class RoofState(StrEnum):
    """State of a roof or a dome's shutter, in the order of ASCOM's numbers."""

    OPEN = "open"
    CLOSED = "closed"
    OPENING = "opening"
    CLOSING = "closing"
    ERROR = "in an error"


class _Watched(ConnectedDevice):
    """A device that is asked before each frame; the parameters are those of `AlpacaCamera`."""

    _device_type = ""

    def __init__(
        self,
        host: str,
        port: int,
        device_id: int = 0,
        *,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        super().__init__(find_driver(self._device_type, host, port, device_id, timeouts or Timeouts(), clock), clock)

    def _read_facts(self) -> None:
        """Read nothing: there is nothing that stays."""


class AlpacaSafetyMonitor(_Watched):
    """A safety monitor on an Alpaca server."""

    _device_type = "safetymonitor"

    def is_safe(self) -> bool:
        """Return whether it is safe; a monitor that is not connected itself says that it is not."""
        return self._properties.flag("IsSafe")


class AlpacaRoof(_Watched):
    """A roof or the shutter of a dome on an Alpaca server."""

    _device_type = "dome"

    def state(self) -> RoofState:
        """Return the state of the roof."""
        number = self._properties.integer("ShutterStatus")
        states = tuple(RoofState)
        return states[number] if 0 <= number < len(states) else RoofState.ERROR


class SafetyCheck:
    """Ask a safety monitor and a roof whether a frame may be taken; a context manager that disconnects both.

    A device that does not answer is connected anew at the next question, so that a server that was started again is
    found.

    Parameters
    ----------
    monitor, roof
        Connect the device, or ``None`` where there is none.
    lost_is_unsafe
        Whether a device that does not answer says no; else it is a warning.
    """

    def __init__(
        self,
        monitor: Callable[[], AlpacaSafetyMonitor] | None,
        roof: Callable[[], AlpacaRoof] | None,
        *,
        lost_is_unsafe: bool = True,
    ) -> None:
        self._connect: dict[str, Callable[[], Any]] = {}
        if monitor is not None:
            self._connect["monitor"] = monitor
        if roof is not None:
            self._connect["roof"] = roof
        self._lost_is_unsafe = lost_is_unsafe
        self._connected: dict[str, Any] = {}

    def __enter__(self) -> SafetyCheck:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._connected):
            self._connected.pop(name).close()

    def refusal(self, *, must_be_open: bool = False) -> str | None:
        """Return why no frame may be taken now, or ``None``; `must_be_open` is whether the roof must be open."""
        reasons = [self._answer("monitor", _monitor_refusal)]
        reasons.append(self._answer("roof", lambda roof: _roof_refusal(roof, must_be_open=must_be_open)))
        return next((reason for reason in reasons if reason is not None), None)

    def _answer(self, name: str, ask: Callable[[Any], str | None]) -> str | None:
        if name not in self._connect:
            return None
        try:
            if name not in self._connected:
                self._connected[name] = self._connect[name]()
            return ask(self._connected[name])
        except DeviceError as error:
            lost = self._connected.pop(name, None)
            if lost is not None:
                lost.drop()
            line = f"the {'safety monitor' if name == 'monitor' else 'roof'} does not answer: {error}"
            if self._lost_is_unsafe:
                return line
            logger.warning("%s; going on (safety.on_lost is ignore)", line)
            return None


def _monitor_refusal(monitor: AlpacaSafetyMonitor) -> str | None:
    return None if monitor.is_safe() else "the safety monitor says that it is not safe"


def _roof_refusal(roof: AlpacaRoof, *, must_be_open: bool) -> str | None:
    state = roof.state()
    if state in (RoofState.OPENING, RoofState.CLOSING, RoofState.ERROR):
        return f"the roof is {state}"
    return "the roof is closed" if must_be_open and state is not RoofState.OPEN else None


class _GatedCamera:
    """A camera that asks before each exposure whether it may be made; all else it passes on."""

    def __init__(self, camera: Camera, refusal: Callable[[], str | None], for_light: Callable[[], str | None]) -> None:
        self._camera = camera
        self._refusals = {False: refusal, True: for_light}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        """Begin an exposure; raise `NotNowError` with the reason if it may not be made now."""
        reason = self._refusals[light]()
        if reason is not None:
            raise NotNowError(reason)
        self._camera.start_exposure(exposure_time_s, light=light)


def gated(
    camera: Camera, refusal: Callable[[], str | None], for_light: Callable[[], str | None] | None = None
) -> Camera:
    """Return a camera that raises `NotNowError` for an exposure if `refusal` returns why it may not begin now.

    `for_light` is asked in its place where the shutter opens.
    """
    return cast(Camera, _GatedCamera(camera, refusal, for_light or refusal))
