"""How a device fails, so that callers can tell a refusal from silence.

Low-level code raises these with the bare fact; the driver that knows the device (`ostcal.devices.alpaca_link`,
`ostcal.devices.ascom`) puts name, address and what was being done in front, in one place each.
"""

from __future__ import annotations

from types import MappingProxyType

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
    """The device answered, with an error of its own."""

    def __init__(self, message: str, *, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        """ASCOM error number; ``None`` where the server refused with an HTTP status only."""

    @property
    def means_absent(self) -> bool:
        """Whether an optional property that answers so is taken as absent.

        Servers say "I have no such thing" with 0x400, with 0x401, with numbers that the specification does not have,
        and with a bare HTTP 400; only "not connected" is never meant so.
        """
        return self.number != NOT_CONNECTED

    @property
    def is_permanent(self) -> bool:
        """Whether a command that was answered so would be refused again."""
        return self.number in (NOT_IMPLEMENTED, INVALID_VALUE)


class DeviceUnreachableError(DeviceError):
    """Nothing answers, the connection broke, or the answer did not come in time."""


class ReplyError(DeviceError):
    """Something answered, but not as this kind of device does."""


def refusal(number: int, text: str) -> RefusedError:
    """Give the error for an ASCOM error number and the device's own text."""
    meaning = ASCOM_ERRORS.get(number, "error of the driver" if 0x500 <= number <= 0xFFF else "not an ASCOM number")
    said = shortened(text) or "no reason given"
    return RefusedError(f"{said} (ASCOM error 0x{number & 0xFFFFFFFF:X}, {meaning})", number=number)


def shortened(text: str, limit: int = 300) -> str:
    """Give foreign text on one line, cut to `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
