"""A filter wheel on an Alpaca server."""

from __future__ import annotations

from types import TracebackType

from ostcal.clock import Clock, SystemClock
from ostcal.devices.alpaca_link import AlpacaAddress, AlpacaDriver, Timeouts
from ostcal.devices.device_driver import Properties
from ostcal.devices.discovery import require_device
from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.errors import DeviceError

_MOVING = -1
_POLL_S = 0.1


class AlpacaFilterWheel:
    """A filter wheel on an Alpaca server, connected by the constructor; a context manager that disconnects at its end.

    Parameters
    ----------
    host, port
        The server.
    device_id
        Number of the wheel on it.
    timeouts
        Time limits.
    clock
        Used to wait for the wheel; the system clock by default.
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
        address = AlpacaAddress(host=host, port=port, device_type="filterwheel", device_id=device_id)
        require_device(address, timeout_s=self._timeouts.reply_s)
        self._driver = AlpacaDriver(address, self._timeouts, self._clock)
        self._properties = Properties(self._driver)
        self._open = True
        self._driver.connect()
        try:
            self._names = self._properties.texts("Names")
        except DeviceError:
            self.close()
            raise

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
        position = self._position_of(name)
        if self._wait_until_still() == position:
            return
        self._driver.write("Position", position)
        arrived = self._wait_until_still()
        if arrived != position:
            raise ReplyError(
                f"{self._driver.label}: it was told to turn to {name!r} (position {position}) and stopped at {arrived}"
            )

    def current(self) -> str:
        """Return the name of the current filter; wait while the wheel turns."""
        position = self._wait_until_still()
        if not 0 <= position < len(self._names):
            raise ReplyError(f"{self._driver.label}: position {position} is none of its {len(self._names)} filters")
        return self._names[position]

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        if self._open:
            self._open = False
            self._driver.disconnect()

    def __enter__(self) -> AlpacaFilterWheel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _position_of(self, name: str) -> int:
        if name in self._names:
            return self._names.index(name)
        alike = [known.casefold() for known in self._names]
        if name.strip().casefold() not in alike:
            raise RefusedError(f"{self._driver.label}: it has no filter {name!r}; it has {', '.join(self._names)}")
        return alike.index(name.strip().casefold())

    def _wait_until_still(self) -> int:
        deadline_s = self._clock.now_s() + self._timeouts.moving_s
        while (position := self._properties.integer("Position")) == _MOVING:
            if self._clock.now_s() > deadline_s:
                raise DeviceUnreachableError(
                    f"{self._driver.label}: it still turns after {self._timeouts.moving_s:g} s"
                )
            self._clock.sleep(_POLL_S)
        return position
