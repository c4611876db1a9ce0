"""A real HTTP server with Alpaca devices that behave, until a test tells one of them how not to.

A device is a table of members. A member is a value that can be read and set, a `Refusal`, an `Answer` (the very bytes),
or a function of the request that gives one of those; `DROP` closes the connection without a word.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

DROP = object()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, byte for byte."""

    body: bytes
    status: int = 200
    content_type: str | None = "application/json"
    claimed_length: int | None = None
    """Content-Length where it lies; -1 leaves it out."""
    silent_after: int | None = None
    """Bytes after which nothing more comes."""
    trickle_s: float | None = None
    """Seconds between single bytes."""
    piece_every_s: float | None = None
    """Seconds between sixty-fourths."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An ASCOM error, with HTTP 200 or with another status."""

    number: int = 0x400
    text: str = "not supported"
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Request:
    """What came in."""

    method: str
    member: str
    values: Mapping[str, str]
    """Parameters by lower-case name."""


Member = Any


class Closing(StrEnum):
    """When a server closes the connection, and what it says about it."""

    NEVER = "keeps the connection"
    SAYS_CLOSE = "Connection: close"
    EVERY_THIRD = "Connection: close with every third answer"
    OLD = "HTTP/1.0"
    OLD_WITHOUT_LENGTH = "HTTP/1.0 without a length"
    WITHOUT_A_WORD = "closes without a word"

    def after(self, count: int) -> bool:
        """Return whether the connection ends after the answer of this number on it."""
        return count % 3 == 0 if self is Closing.EVERY_THIRD else self is not Closing.NEVER


def image_header(
    shape: tuple[int, int], wire_type: int, *, error: int = 0, start: int = 44, rank: int = 2, version: int = 1
) -> bytes:
    height, width = shape
    return struct.pack("<11i", version, error, 0, 0, start, 2, wire_type, rank, width, height, 0).ljust(start, b"\0")


def image_bytes(pixels: NDArray[Any], wire_type: int = 8, dtype: str = "<u2") -> Answer:
    """Send a (height, width) image as the wire wants it: column by column."""
    body = image_header(pixels.shape, wire_type) + np.ascontiguousarray(pixels.T).astype(dtype).tobytes()
    return Answer(body=body, content_type="application/imagebytes")


def image_json(pixels: NDArray[Any], **around: object) -> Answer:
    reply = {"Type": 2, "Rank": 2, "ErrorNumber": 0, "ErrorMessage": "", **around, "Value": pixels.T.tolist()}
    return Answer(body=json.dumps(reply).encode())


def pattern(width: int = 40, height: int = 24) -> NDArray[np.uint16]:
    """An image whose every pixel says where it is."""
    return (np.arange(height)[:, None] * 256 + np.arange(width)[None, :]).astype(np.uint16)


class OddDevice:
    """A device whose members are a table, by lower-case name."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        self.members = {name.lower(): value for name, value in members.items()}
        self.requests: list[Request] = []

    def set(self, **members: Member) -> OddDevice:
        self.members.update({name.lower(): value for name, value in members.items()})
        return self

    def without(self, *names: str) -> OddDevice:
        for name in names:
            del self.members[name.lower()]
        return self

    def reply(self, request: Request) -> Member:
        self.requests.append(request)
        if request.member not in self.members:
            return Refusal(status=400, text=f"no member {request.member}")
        value = self.members[request.member]
        if callable(value):
            return value(request)
        if request.method == "PUT" and not isinstance(value, Refusal | Answer) and value is not DROP:
            if request.member in request.values:
                self.members[request.member] = _typed(request.values[request.member], value)
            return None
        return value

    def puts(self, member: str) -> list[Mapping[str, str]]:
        return [each.values for each in self.requests if each.method == "PUT" and each.member == member.lower()]

    def gets(self, member: str) -> int:
        return sum(each.method == "GET" and each.member == member.lower() for each in self.requests)


def odd_camera(pixels: NDArray[Any] | None = None, **members: Member) -> OddDevice:
    """Make a camera that behaves, of interface version 3; an exposure is ready at once."""
    image = pattern() if pixels is None else pixels
    height, width = image.shape
    device = OddDevice(
        {
            "Connected": False,
            "InterfaceVersion": 3,
            "Name": "Odd",
            "CameraXSize": width,
            "CameraYSize": height,
            "StartX": 0,
            "StartY": 0,
            "NumX": width,
            "NumY": height,
            "BinX": 1,
            "BinY": 1,
            "MaxBinX": 2,
            "MaxBinY": 2,
            "CanAsymmetricBin": False,
            "Gain": 10,
            "GainMin": 0,
            "GainMax": 100,
            "Offset": 5,
            "OffsetMin": 0,
            "OffsetMax": 50,
            "ReadoutMode": 0,
            "ReadoutModes": ["Normal", "Fast"],
            "SensorType": 0,
            "MaxADU": 65535,
            "ExposureMin": 0.0,
            "ExposureMax": 100.0,
            "HasShutter": False,
            "CanAbortExposure": True,
            "CanStopExposure": True,
            "CanSetCCDTemperature": True,
            "CanGetCoolerPower": True,
            "CCDTemperature": 15.0,
            "SetCCDTemperature": 15.0,
            "CoolerOn": False,
            "CoolerPower": 0.0,
            "PixelSizeX": 3.76,
            "PixelSizeY": 3.76,
            "CameraState": 0,
            "ImageReady": False,
            "LastExposureDuration": 0.0,
            "LastExposureStartTime": "",
            "ImageArray": image_bytes(image),
        }
    )
    members_now = device.members

    def start(request: Request) -> None:
        members_now.update(imageready=True, lastexposureduration=float(request.values["duration"]))
        members_now["lastexposurestarttime"] = "2026-05-01T20:00:00"

    def abort(_request: Request) -> None:
        members_now.update(camerastate=0, imageready=False)

    return device.set(StartExposure=start, AbortExposure=abort, StopExposure=abort).set(**members)


class QuickClock:
    """A clock whose waits are over at once."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def now_s(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


class OddServer:
    """An Alpaca server on loopback; a context manager.

    Parameters
    ----------
    devices
        Devices by kind and number, such as ``"camera/0"``.
    management
        Members of the management interface by path, beside the list of devices.
    closing
        When it closes the connection after an answer.
    """

    def __init__(
        self,
        devices: Mapping[str, OddDevice],
        management: Mapping[str, Member] | None = None,
        *,
        closing: Closing = Closing.NEVER,
    ) -> None:
        self.devices = dict(devices)
        self.closing = closing
        self.management = {
            "v1/configureddevices": [
                {"DeviceName": f"Odd {path}", "DeviceType": path.split("/")[0], "DeviceNumber": int(path.split("/")[1])}
                for path in devices
            ],
            "v1/description": {"ServerName": "Odd server"},
            **(management or {}),
        }
        self.over = threading.Event()
        owner = self

        class Handler(_Handler):
            server_owner = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> OddServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, method: str, path: str, values: Mapping[str, str]) -> Member:
        parts = path.strip("/").split("/")
        if parts[0] == "management":
            return self.management.get("/".join(parts[1:]), Answer(body=b"no such thing", status=404))
        device = self.devices.get("/".join(parts[2:4]))
        if device is None or len(parts) != 5:
            return Answer(body=b"no such device", status=400)
        return device.reply(Request(method=method, member=parts[4], values=values))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_owner: OddServer
    answered = 0

    def do_GET(self) -> None:
        self._serve("GET", urlsplit(self.path).query)

    def do_PUT(self) -> None:
        self._serve("PUT", self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def _serve(self, method: str, query: str) -> None:
        values = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
        value = self.server_owner.reply(method, urlsplit(self.path).path, values)
        if value is DROP:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        try:
            self._send(_as_answer(value))
        except ConnectionError:
            self.close_connection = True

    def _send(self, answer: Answer) -> None:
        closing = self.server_owner.closing
        self.answered += 1
        ends = closing.after(self.answered)
        length = len(answer.body) if answer.claimed_length is None else answer.claimed_length
        if closing is Closing.OLD_WITHOUT_LENGTH:
            length = -1
        version = "1.0" if closing in (Closing.OLD, Closing.OLD_WITHOUT_LENGTH) else "1.1"
        lines = [
            f"HTTP/{version} {answer.status} Said",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        if answer.content_type:
            lines.append(f"Content-Type: {answer.content_type}")
        if length >= 0:
            lines.append(f"Content-Length: {length}")
        if (length < 0 and version == "1.1") or (ends and closing in (Closing.SAYS_CLOSE, Closing.EVERY_THIRD)):
            lines.append("Connection: close")
        data = "\r\n".join([*lines, "", ""]).encode() + answer.body
        if answer.trickle_s is not None:
            self._send_slowly(data, 1, answer.trickle_s)
        elif answer.piece_every_s is not None:
            self._send_slowly(data, len(data) // 64, answer.piece_every_s)
        elif answer.silent_after is not None:
            self.wfile.write(data[: len(data) - len(answer.body) + answer.silent_after])
            self.server_owner.over.wait()
        else:
            self.wfile.write(data)
        lies = answer.claimed_length is not None or answer.silent_after is not None
        self.close_connection = lies or ends or self.server_owner.over.is_set()

    def _send_slowly(self, data: bytes, step: int, pause_s: float) -> None:
        for start in range(0, len(data), step):
            self.wfile.write(data[start : start + step])
            if self.server_owner.over.wait(pause_s):
                break


def _as_answer(value: Member) -> Answer:
    if isinstance(value, Answer):
        return value
    if isinstance(value, Refusal):
        reply = {"ErrorNumber": value.number, "ErrorMessage": value.text}
        return Answer(body=json.dumps(reply).encode(), status=value.status)
    reply = {"Value": value, "ErrorNumber": 0, "ErrorMessage": "", "ServerTransactionID": 0}
    return Answer(body=json.dumps(reply).encode())


def _typed(text: str, like: object) -> object:
    if isinstance(like, bool):
        return text.lower() == "true"
    if isinstance(like, int):
        return int(text)
    return float(text) if isinstance(like, float) else text
