"""Cameras, filter wheels and covers on Alpaca servers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar, TypeVar

from ostcal.clock import Clock, SystemClock
from ostcal.devices.adapter import AscomInterfaceCamera
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.device_driver import ConnectedDevice, index_of
from ostcal.devices.discovery import require_device
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.protocols import CoverState

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_WHEEL_TURNS = -1
_COVER_STATES = tuple(CoverState)
_LAMP_STATES = ("not present", "off", "not ready", "ready", "unknown", "error")
_LAMP_ABSENT, _LAMP_OFF, _LAMP_CHANGING, _LAMP_READY = 0, 1, 2, 3
_POLL_S = 0.1
_REACTION_S = 1.0
"""A device shows within this time that it begins to move."""


def find_driver(
    device_type: str, host: str, port: int, device_id: int, timeouts: Timeouts, clock: Clock
) -> AlpacaDriver:
    """Return the driver of a device; raise `DeviceError` if the server answers that it has no such device."""
    address = AlpacaAddress(host=host, port=port, device_type=device_type, device_id=device_id)
    require_device(address, timeout_s=timeouts.reply_s)
    return AlpacaDriver(address, timeouts, clock)


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
        clock = clock or SystemClock()
        super().__init__(find_driver("camera", host, port, device_id, timeouts or Timeouts(), clock), clock)


class MovingDevice(ConnectedDevice):
    """A device with parts that take time to move; the parameters are those of `AlpacaCamera`."""

    _device_type: ClassVar[str]

    def __init__(
        self,
        host: str,
        port: int,
        device_id: int = 0,
        *,
        timeouts: Timeouts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._moving_s = (timeouts or Timeouts()).moving_s
        clock = clock or SystemClock()
        super().__init__(find_driver(self._device_type, host, port, device_id, timeouts or Timeouts(), clock), clock)

    def _wait_while(self, moving: _T, read: Callable[[], _T], trouble: str, wanted: _T | None = None) -> _T:
        """Read a state until it is another than `moving`, and return it.

        Some servers answer before the device moves: a state other than `wanted` is read again for a second.
        """
        began_s = self._clock.now_s()
        while (state := read()) == moving or (
            wanted is not None and state != wanted and self._clock.now_s() - began_s < _REACTION_S
        ):
            if self._clock.now_s() - began_s > self._moving_s:
                raise DeviceUnreachableError(f"{self._label}: {trouble} after {self._moving_s:g} s")
            self._clock.sleep(_POLL_S)
        return state


class AlpacaFilterWheel(MovingDevice):
    """A filter wheel on an Alpaca server."""

    _device_type = "filterwheel"

    def _read_facts(self) -> None:
        self._names = self._properties.texts("Names")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the filters by position."""
        return self._names

    def select(self, name: str) -> None:
        """Select a filter and wait until it is in place.

        Raises
        ------
        DeviceError
            If there is no such filter, or the wheel does not reach it.
        """
        position = index_of(name, self._names)
        if position is None:
            raise RefusedError(f"{self._label}: it has no filter {name!r}; it has {', '.join(self._names)}")
        if self._wait_until_still() == position:
            return
        self._driver.write("Position", position)
        arrived = self._wait_until_still(position)
        if arrived != position:
            raise ReplyError(
                f"{self._label}: it was told to turn to {name!r} (position {position}) and stopped at {arrived}"
            )

    def current(self) -> str:
        """Return the name of the current filter; wait while the wheel turns."""
        position = self._wait_until_still()
        if not 0 <= position < len(self._names):
            raise ReplyError(f"{self._label}: position {position} is none of its {len(self._names)} filters")
        return self._names[position]

    def _wait_until_still(self, wanted: int | None = None) -> int:
        return self._wait_while(_WHEEL_TURNS, lambda: self._properties.integer("Position"), "it still turns", wanted)


class AlpacaCoverCalibrator(MovingDevice):
    """A cover, a flat panel, or both, on an Alpaca server."""

    _device_type = "covercalibrator"

    def _read_facts(self) -> None:
        has_panel = self._maybe_integer("CalibratorState") not in (None, _LAMP_ABSENT)
        self._max_brightness = max(self._maybe_integer("MaxBrightness") or 0, 0) if has_panel else 0

    @property
    def max_brightness(self) -> int:
        """Highest brightness of the panel; 0 without a panel."""
        return self._max_brightness

    def cover_state(self) -> CoverState:
        """Return the position of the cover."""
        state = self._maybe_integer("CoverState")
        if state is None:
            return CoverState.NOT_PRESENT
        return _COVER_STATES[state] if 0 <= state < len(_COVER_STATES) else CoverState.UNKNOWN

    def open_cover(self) -> None:
        """Open the cover and wait until it is open."""
        self._move_cover("OpenCover", CoverState.OPEN)

    def close_cover(self) -> None:
        """Close the cover and wait until it is closed."""
        self._move_cover("CloseCover", CoverState.CLOSED)

    def light_on(self, brightness: int) -> None:
        """Switch the panel on and wait until it is stable.

        Raises
        ------
        DeviceError
            If there is no panel, the brightness is outside 0 to `max_brightness`, or the panel does not get ready.
        """
        if self._max_brightness == 0:
            raise RefusedError(f"{self._label}: it has no flat panel")
        if not 0 <= brightness <= self._max_brightness:
            raise RefusedError(f"{self._label}: brightness {brightness} is not 0 to {self._max_brightness}")
        self._driver.call("CalibratorOn", brightness)
        self._wait_for_lamp(_LAMP_READY)
        said = self._maybe_integer("Brightness")
        if said is not None and said != brightness:
            raise ReplyError(f"{self._label}: brightness was set to {brightness} and reads back {said}")

    def light_off(self) -> None:
        """Switch the panel off, if there is one, and wait until it is off."""
        if self._max_brightness:
            self._driver.call("CalibratorOff")
            self._wait_for_lamp(_LAMP_OFF)

    def _maybe_integer(self, name: str) -> int | None:
        return self._properties.maybe(self._properties.integer, name)

    def _move_cover(self, command: str, wanted: CoverState) -> None:
        state = self._wait_for_cover()
        if state is wanted:
            return
        if state is CoverState.NOT_PRESENT:
            raise RefusedError(f"{self._label}: it has no cover")
        self._driver.call(command)
        state = self._wait_for_cover(wanted)
        if state is CoverState.UNKNOWN:
            logger.warning("%s: it does not know where its cover is after %s", self._label, command)
        elif state is not wanted:
            raise ReplyError(f"{self._label}: after {command} its cover is {state}, not {wanted}; look at it")

    def _wait_for_cover(self, wanted: CoverState | None = None) -> CoverState:
        # CoverMoving of version 2 adds nothing to the state.
        return self._wait_while(CoverState.MOVING, self.cover_state, "its cover still moves", wanted)

    def _wait_for_lamp(self, wanted: int) -> None:
        state = self._wait_while(
            _LAMP_CHANGING, lambda: self._properties.integer("CalibratorState"), "its panel is still not ready", wanted
        )
        if state != wanted:
            now = _LAMP_STATES[state] if 0 <= state < len(_LAMP_STATES) else str(state)
            raise ReplyError(f"{self._label}: its panel is {now}, not {_LAMP_STATES[wanted]}; look at it")
