"""What drives a device: properties and methods by their ASCOM names, and a typed view of them.

ASCOM drivers (COM) and Alpaca devices (HTTP) have the same members, so cameras, wheels and covers are written once,
against this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from ostcal.devices.failures import RefusedError, ReplyError, shortened

T = TypeVar("T")


class Driver(Protocol):
    """A device by its ASCOM members; every failure is a `DeviceError` that names the device and what was done."""

    @property
    def label(self) -> str:
        """Kind, number, address and, once connected, name."""

    @property
    def interface_version(self) -> int:
        """Version of the device's interface, 1 where it does not say."""

    def connect(self) -> None:
        """Connect the device and wait until it is."""

    def disconnect(self) -> None:
        """Disconnect the device; failures are logged, not raised."""

    def renew(self) -> None:
        """Drop what connects this program with the device; the next use makes it anew."""

    def read(self, name: str) -> object:
        """Read a property."""

    def write(self, name: str, value: object) -> None:
        """Set a property."""

    def call(self, name: str, *arguments: object) -> None:
        """Call a method."""

    def image(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Download the image, (height, width) in C order, uint16 or int32."""


class Properties:
    """Properties of a device as values of the type that they should have.

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
        """Read an optional property; ``None`` where the device says that it has none."""
        try:
            return read(name)
        except RefusedError as error:
            if not error.means_absent:
                raise
            return None

    def _wrong(self, name: str, value: object, expected: str) -> ReplyError:
        return ReplyError(f"{self.driver.label}: {name} is {shortened(repr(value), 60)} instead of {expected}")
