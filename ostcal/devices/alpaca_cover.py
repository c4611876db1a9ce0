"""A cover, a flat panel, or both, on an Alpaca server."""

from __future__ import annotations

import logging
from types import TracebackType

from ostcal.clock import Clock, SystemClock
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.device_driver import Properties
from ostcal.devices.discovery import require_device
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.protocols import CoverState
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

_COVER_STATES = (
    CoverState.NOT_PRESENT,
    CoverState.CLOSED,
    CoverState.MOVING,
    CoverState.OPEN,
    CoverState.UNKNOWN,
    CoverState.ERROR,
)
_LAMP_STATES = ("not present", "off", "not ready", "ready", "unknown", "error")
_LAMP_ABSENT, _LAMP_OFF, _LAMP_CHANGING, _LAMP_READY = 0, 1, 2, 3
_POLL_S = 0.1


class AlpacaCoverCalibrator:
    """A cover, a flat panel, or both, connected by the constructor; a context manager that disconnects at its end.

    Parameters
    ----------
    host, port
        The server.
    device_id
        Number of the cover calibrator on it.
    timeouts
        Time limits.
    clock
        Used to wait for the cover and the lamp; the system clock by default.
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
        self._timeouts = timeouts or Timeouts()
        self._clock = clock or SystemClock()
        address = AlpacaAddress(host=host, port=port, device_type="covercalibrator", device_id=device_id)
        require_device(address, timeout_s=self._timeouts.reply_s)
        self._driver = AlpacaDriver(address, self._timeouts, self._clock)
        self._properties = Properties(self._driver)
        self._open = True
        self._driver.connect()
        try:
            has_panel = self._maybe_integer("CalibratorState") not in (None, _LAMP_ABSENT)
            self._max_brightness = max(self._maybe_integer("MaxBrightness") or 0, 0) if has_panel else 0
        except DeviceError:
            self.close()
            raise

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
            raise RefusedError(f"{self._driver.label}: it has no flat panel")
        if not 0 <= brightness <= self._max_brightness:
            raise RefusedError(f"{self._driver.label}: brightness {brightness} is not 0 to {self._max_brightness}")
        self._driver.call("CalibratorOn", brightness)
        self._wait_for_lamp(_LAMP_READY)
        said = self._maybe_integer("Brightness")
        if said is not None and said != brightness:
            raise ReplyError(f"{self._driver.label}: brightness was set to {brightness} and reads back {said}")

    def light_off(self) -> None:
        """Switch the panel off, if there is one, and wait until it is off."""
        if self._max_brightness:
            self._driver.call("CalibratorOff")
            self._wait_for_lamp(_LAMP_OFF)

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        if self._open:
            self._open = False
            self._driver.disconnect()

    def __enter__(self) -> AlpacaCoverCalibrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _maybe_integer(self, name: str) -> int | None:
        return self._properties.maybe(self._properties.integer, name)

    def _move_cover(self, command: str, wanted: CoverState) -> None:
        state = self._wait_for_cover()
        if state is wanted:
            return
        if state is CoverState.NOT_PRESENT:
            raise RefusedError(f"{self._driver.label}: it has no cover")
        self._driver.call(command)
        state = self._wait_for_cover()
        if state is CoverState.UNKNOWN:
            logger.warning("%s: it does not know where its cover is after %s", self._driver.label, command)
        elif state is not wanted:
            raise ReplyError(f"{self._driver.label}: after {command} its cover is {state}, not {wanted}; look at it")

    def _wait_for_cover(self) -> CoverState:
        # CoverMoving of version 2 adds nothing to the state.
        deadline_s = self._clock.now_s() + self._timeouts.moving_s
        while (state := self.cover_state()) is CoverState.MOVING:
            self._wait_before(deadline_s, "its cover still moves")
        return state

    def _wait_for_lamp(self, wanted: int) -> None:
        deadline_s = self._clock.now_s() + self._timeouts.moving_s
        while (state := self._properties.integer("CalibratorState")) == _LAMP_CHANGING:
            self._wait_before(deadline_s, "its panel is still not ready")
        if state != wanted:
            now = _LAMP_STATES[state] if 0 <= state < len(_LAMP_STATES) else str(state)
            raise ReplyError(f"{self._driver.label}: its panel is {now}, not {_LAMP_STATES[wanted]}; look at it")

    def _wait_before(self, deadline_s: float, trouble: str) -> None:
        if self._clock.now_s() > deadline_s:
            raise DeviceUnreachableError(f"{self._driver.label}: {trouble} after {self._timeouts.moving_s:g} s")
        self._clock.sleep(_POLL_S)
