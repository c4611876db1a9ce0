"""Errors of devices, which distinguish a refusal from silence, and the errors in the JSON replies of Alpaca.

Low-level code raises these with the bare fact; the driver of the device (`ostcal.devices.alpaca_link`,
`ostcal.devices.ascom`) adds name, address and action.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

from ostcal.errors import DeviceError

NOT_IMPLEMENTED = 0x400
INVALID_VALUE = 0x401
NOT_CONNECTED = 0x407

ASCOM_ERRORS = MappingProxyType(
    {
        NOT_IMPLEMENTED: "not implemented",
        INVALID_VALUE: "invalid value",
        0x402: "value not set",
        NOT_CONNECTED: "not connected",
        0x408: "parked",
        0x409: "slaved",
        0x40B: "invalid operation",
        0x40C: "action not implemented",
        0x40E: "operation cancelled",
    }
)
"""The reserved error numbers of ASCOM; 0x500 to 0xFFF belong to the drivers."""


class RefusedError(DeviceError):
    """The device answered with an error of its own."""

    def __init__(self, message: str, *, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        """ASCOM error number; ``None`` if the server refused with an HTTP status only."""

    @property
    def means_absent(self) -> bool:
        """Return whether this error of an optional property means that the device does not have it.

        Servers report a missing property with 0x400, with 0x401, with numbers outside the specification, and with a
        bare HTTP 400; only "not connected" never means that.
        """
        return self.number != NOT_CONNECTED

    @property
    def is_permanent(self) -> bool:
        """Return whether the same command would be refused again."""
        return self.number in (NOT_IMPLEMENTED, INVALID_VALUE)


class DeviceUnreachableError(DeviceError):
    """Nothing answers, the connection broke, or the answer is late."""


class ReplyError(DeviceError):
    """The answer is not that of such a device."""


class NotNowError(DeviceError):
    """No frame may be taken now: it is not safe, or the time for it is over. The camera is well."""


class MountError(DeviceError):
    """The mount does not do what flats of the sky need; the camera is well."""


def refusal(number: int, text: str) -> RefusedError:
    """Return the error for an ASCOM error number and the device's own text."""
    meaning = ASCOM_ERRORS.get(number, "error of the driver" if 0x500 <= number <= 0xFFF else "not an ASCOM number")
    said = device_text(text) or "no reason given"
    return RefusedError(f"{said} (ASCOM error 0x{number & 0xFFFFFFFF:X}, {meaning})", number=number)


def device_text(text: str, limit: int = 300) -> str:
    """Return text of a device on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def parse_reply(text: bytes) -> dict[str, Any]:
    """Return the members of a JSON reply; raise `ReplyError` if it is no JSON object."""
    try:
        reply = json.loads(text.decode("utf-8-sig", errors="replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise ReplyError(
            f"the answer is no JSON but {device_text(repr(text[:60]))}; is this an Alpaca server?"
        ) from error
    if not isinstance(reply, dict):
        raise ReplyError("the answer is no JSON object; is this an Alpaca server?")
    return reply


def check_reply(reply: dict[str, Any]) -> None:
    """Raise `RefusedError` if the reply has an error of the device."""
    number = reply.get("ErrorNumber") or 0
    if isinstance(number, bool) or not isinstance(number, int):
        raise ReplyError(f"the answer has ErrorNumber {device_text(repr(number))}, which is no number")
    if number != 0:
        raise refusal(number, str(reply.get("ErrorMessage") or ""))
