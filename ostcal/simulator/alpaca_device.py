"""What every Alpaca device has: members that can be read or put, a connection, errors with ASCOM's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from ostcal._version import __version__
from ostcal.clock import FastClock

NOT_IMPLEMENTED = 0x400
INVALID_VALUE = 0x401
NOT_CONNECTED = 0x407
INVALID_OPERATION = 0x40B
ACTION_NOT_IMPLEMENTED = 0x40C
DRIVER_ERROR = 0x500

CONNECTING_S = 0.5
"""How long Connect() takes."""


class AscomError(Exception):
    """An answer with an ASCOM error number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.message = message


class BadRequestError(Exception):
    """An answer HTTP 400."""


# Reading of parameters. What cannot be read is HTTP 400; what can be read and is out of range is an ASCOM error.


def read_int(text: str) -> int:
    """Read a whole number of 32 bits."""
    digits = text.strip().removeprefix("-").removeprefix("+")
    # Eleven characters hold every number of 32 bits; longer ones are refused unread.
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 12) or not -(2**31) <= int(text) < 2**31:
        raise BadRequestError(f"{text!r} is not a whole number of 32 bits")
    return int(text)


def read_float(text: str) -> float:
    """Read a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise BadRequestError(f"{text!r} is not a number")
    return number


def read_bool(text: str) -> bool:
    """Read ``true`` or ``false``, in any case."""
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise BadRequestError(f"{text!r} is neither true nor false")
    return word == "true"


def read_text(text: str) -> str:
    """Take a text as it is."""
    return text


@dataclass(frozen=True, kw_only=True)
class Getter:
    """A member that GET reads."""

    read: Callable[[], Any]
    needs_connection: bool = True
    since: int = 1
    """Interface version that brought it."""


@dataclass(frozen=True, kw_only=True)
class Setter:
    """A member that PUT writes or calls."""

    write: Callable[..., Any]
    parameters: tuple[tuple[str, Callable[[str], Any]], ...] = ()
    needs_connection: bool = True
    since: int = 1


def refuse(what: str) -> Callable[..., Any]:
    """Return a member that is not implemented."""

    def member(*_: Any) -> NoReturn:
        raise AscomError(NOT_IMPLEMENTED, f"{what} is not implemented by this simulated device")

    return member


def _refuse_action(name: str, _: str) -> NoReturn:
    raise AscomError(ACTION_NOT_IMPLEMENTED, f"there is no action {name!r}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a device is."""

    device_type: str
    """As in ``configureddevices``: ``Camera``; its address has it in lower case."""
    name: str
    description: str
    unique_id: str
    interface_version: int
    connect_since: int
    """The interface version that brought Connect, Disconnect, Connecting and DeviceState."""


class Device:
    """The members that all devices share; subclasses add theirs to `getters` and `setters`."""

    def __init__(self, identity: Identity, clock: FastClock) -> None:
        self.identity = identity
        self.clock = clock
        self._connected = False
        self._connects_at_s: float | None = None
        since = identity.connect_since
        self.getters: dict[str, Getter] = {
            "connected": Getter(read=self.connected, needs_connection=False),
            "connecting": Getter(read=self.connecting, needs_connection=False, since=since),
            "devicestate": Getter(read=self._device_state, since=since),
            "description": Getter(read=lambda: identity.description, needs_connection=False),
            "driverinfo": Getter(read=lambda: "ostcal simulated observatory", needs_connection=False),
            "driverversion": Getter(read=lambda: __version__, needs_connection=False),
            "interfaceversion": Getter(read=lambda: identity.interface_version, needs_connection=False),
            "name": Getter(read=lambda: identity.name, needs_connection=False),
            "supportedactions": Getter(read=list, needs_connection=False),
        }
        command = (("Command", read_text), ("Raw", read_bool))
        self.setters: dict[str, Setter] = {
            "connected": Setter(
                write=lambda wanted: self._connect(0.0) if wanted else self._disconnect(),
                parameters=(("Connected", read_bool),),
                needs_connection=False,
            ),
            "connect": Setter(write=lambda: self._connect(CONNECTING_S), needs_connection=False, since=since),
            "disconnect": Setter(write=self._disconnect, needs_connection=False, since=since),
            "action": Setter(
                write=_refuse_action,
                parameters=(("Action", read_text), ("Parameters", read_text)),
                needs_connection=False,
            ),
            "commandblind": Setter(write=refuse("CommandBlind"), parameters=command, needs_connection=False),
            "commandbool": Setter(write=refuse("CommandBool"), parameters=command, needs_connection=False),
            "commandstring": Setter(write=refuse("CommandString"), parameters=command, needs_connection=False),
        }

    def connected(self) -> bool:
        """Return whether a client has connected the device; all clients share one connection."""
        if self._connects_at_s is not None and self.clock.now_s() >= self._connects_at_s:
            self._connected, self._connects_at_s = True, None
        return self._connected

    def connecting(self) -> bool:
        """Return whether Connect() is under way."""
        return not self.connected() and self._connects_at_s is not None

    def _connect(self, after_s: float) -> None:
        self.check_connection()
        if not self.connected():
            self._connects_at_s = self.clock.now_s() + after_s

    def _disconnect(self) -> None:
        self._connected, self._connects_at_s = False, None
        self.disconnected()

    def check_connection(self) -> None:
        """Raise `AscomError` if connecting is refused; nothing refuses by itself."""

    def disconnected(self) -> None:
        """End what runs, after a client has disconnected."""

    def state(self) -> Mapping[str, Any]:
        """Return the members that ``DeviceState`` gathers."""
        return {}

    def _device_state(self) -> list[dict[str, Any]]:
        gathered = {**self.state(), "TimeStamp": utc_text(datetime.now(UTC)) + "Z"}
        return [{"Name": name, "Value": value} for name, value in gathered.items()]


def utc_text(moment: datetime) -> str:
    """Write a time as FITS and Alpaca do: ISO 8601 to the millisecond."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
