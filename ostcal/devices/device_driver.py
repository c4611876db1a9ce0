"""Base of device drivers, with properties and methods by their ASCOM names, and a typed view of the properties.

ASCOM drivers (COM) and Alpaca devices (HTTP) have the same members, so cameras, wheels and covers are written once.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from ostcal.clock import Clock
from ostcal.devices.failures import RefusedError, ReplyError, device_text
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REACTION_S = 1.0
"""A device shows within this time that it has taken a value."""
_READ_BACK_S = 0.05


class Driver(ABC):
    """A device with ASCOM members; every failure is a `DeviceError` that names the device and the action."""

    interface_version = 1
    """Version of the device's interface; 1 if it reports none."""
    _device: Any
    """The object that has the members."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Kind, number and address, and the name once connected."""

    @abstractmethod
    def connect(self) -> None:
        """Connect the device and wait until it is connected."""

    @abstractmethod
    def renew(self) -> None:
        """Drop the connection of this program; the next use makes a new one."""

    @abstractmethod
    def image(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Download the image, (height, width) in C order, uint16 or int32."""

    @abstractmethod
    def _explained(self, doing: str) -> AbstractContextManager[None, bool | None]:
        """Convert every failure to one line with device and action."""

    def disconnect(self) -> None:
        """Disconnect the device; failures are logged, not raised."""
        try:
            self.write("Connected", False)
        except DeviceError as error:
            logger.warning("Could not disconnect: %s", error)
        self.renew()

    def read(self, name: str) -> object:
        """Read a property."""
        with self._explained(f"reading {name}"):
            return getattr(self._device, name)

    def write(self, name: str, value: object) -> None:
        """Set a property."""
        with self._explained(f"setting {name} to {value}"):
            setattr(self._device, name, value)

    def call(self, name: str, *arguments: object) -> object:
        """Call a method, and return its answer."""
        with self._explained(f"{name}({', '.join(map(str, arguments))})"):
            return getattr(self._device, name)(*arguments)


def as_float(value: float) -> float:
    """Return a number as a float; an integer beyond all floats is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


class Properties:
    """Properties of a device, checked to have the expected type."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def number(self, name: str) -> float:
        """Read a number."""
        value = self.driver.read(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        return as_float(value)

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

    def read_back(self, read: Callable[[str], T], name: str, is_wanted: Callable[[T], bool], clock: Clock) -> T:
        """Read a property that was just set until it is as wanted, for a second at most; return the last reading.

        INDI's server answers before the driver of the device has taken the value.
        """
        deadline_s = clock.now_s() + _REACTION_S
        while not is_wanted(value := read(name)) and clock.now_s() < deadline_s:
            clock.sleep(_READ_BACK_S)
        return value

    def _wrong(self, name: str, value: object, expected: str) -> ReplyError:
        return ReplyError(f"{self.driver.label}: {name} is {device_text(repr(value), 60)} instead of {expected}")


class ConnectedDevice(ABC):
    """A device, connected by the constructor; a context manager that disconnects at its end."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver = driver
        self._properties = Properties(driver)
        self._clock = clock
        self._open = True
        logger.debug("%s: connecting", driver.label)
        driver.connect()
        try:
            self._read_facts()
        except DeviceError:
            driver.disconnect()
            raise

    @abstractmethod
    def _read_facts(self) -> None:
        """Read the properties that are read once for each connection."""

    @property
    def _label(self) -> str:
        return self._driver.label

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        if self._open:
            self._open = False
            self._driver.disconnect()

    def drop(self) -> None:
        """Forget a device that does not answer, without a word to it; `close` does nothing then."""
        self._open = False
        self._driver.renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def index_of(wanted: object, labels: Sequence[str]) -> int | None:
    """Return the index of a label, or a valid index itself; a label wins over an index with the same digits."""
    if isinstance(wanted, str):
        word = wanted.strip()
        alike = [label.casefold() for label in labels]
        if word in labels:
            return labels.index(word)
        return alike.index(word.casefold()) if word.casefold() in alike else None
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        return None
    return int(wanted) if as_float(wanted).is_integer() and 0 <= wanted < len(labels) else None
