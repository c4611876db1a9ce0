"""Protocol of device drivers, with properties and methods by their ASCOM names, and a typed view of the properties.

ASCOM drivers (COM) and Alpaca devices (HTTP) have the same members, so cameras, wheels and covers are written once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from ostcal.devices.failures import RefusedError, ReplyError, shortened

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Driver(Protocol):
    """A device with ASCOM members; every failure is a `DeviceError` that names the device and the action."""

    @property
    def label(self) -> str:
        """Kind, number and address, and the name once connected."""

    @property
    def interface_version(self) -> int:
        """Version of the device's interface; 1 if it reports none."""

    def connect(self) -> None:
        """Connect the device and wait until it is connected."""

    def disconnect(self) -> None:
        """Disconnect the device; failures are logged, not raised."""

    def renew(self) -> None:
        """Drop the connection of this program; the next use makes a new one."""

    def read(self, name: str) -> object:
        """Read a property."""

    def write(self, name: str, value: object) -> None:
        """Set a property."""

    def call(self, name: str, *arguments: object) -> None:
        """Call a method."""

    def image(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Download the image, (height, width) in C order, uint16 or int32."""


class Properties:
    """Properties of a device, checked to have the expected type.

    Parameters
    ----------
    driver
        The device.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def number(self, name: str) -> float:
        """Read a number."""
        value = self.driver.read(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        return float(value)

    def integer(self, name: str) -> int:
        """Read a whole number; ``3.0`` is one."""
        value = self.number(name)
        if not value.is_integer():
            raise self._wrong(name, value, "a whole number")
        return int(value)

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self.driver.read(name)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str) -> str:
        """Read a text."""
        value = self.driver.read(name)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a list of texts."""
        value = self.driver.read(name)
        if not isinstance(value, list | tuple):
            raise self._wrong(name, value, "a list")
        return tuple(str(item).strip() for item in value)

    def maybe(self, read: Callable[[str], T], name: str) -> T | None:
        """Read an optional property; return ``None`` if the device does not have it."""
        try:
            return read(name)
        except RefusedError as error:
            if not error.means_absent:
                raise
            return None

    def set(self, name: str, value: object) -> None:
        """Set a property."""
        logger.debug("%s: %s is set to %s", self.driver.label, name, value)
        self.driver.write(name, value)

    def _wrong(self, name: str, value: object, expected: str) -> ReplyError:
        return ReplyError(f"{self.driver.label}: {name} is {shortened(repr(value), 60)} instead of {expected}")
