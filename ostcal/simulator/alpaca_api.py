"""Alpaca over HTTP: addresses, parameters, transaction numbers, errors, images, and the faults of the transport."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from ostcal._version import __version__
from ostcal.clock import FastClock
from ostcal.extras import needed_for
from ostcal.simulator.alpaca_device import (
    DRIVER_ERROR,
    NOT_CONNECTED,
    AscomError,
    BadRequestError,
    Device,
    Getter,
    Setter,
)
from ostcal.simulator.camera import SimulatedCamera
from ostcal.simulator.faults import FaultPlan
from ostcal.simulator.image_body import IMAGE_BYTES, Transaction, error_bytes, image_header

with needed_for("the simulated observatory", package="starlette", extra="capture"):
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

IMAGE_METHODS = ("imagearray", "imagearrayvariant")
ID_NAMES = ("ClientID", "ClientTransactionID")
HIGHEST_ID = 2**32 - 1
TRICKLE_PIECES = 64
SEND_CHECK_S = 0.2
"""How often a send that a client does not take looks whether the server ends."""

logger = logging.getLogger(__name__)

DESCRIPTION = {
    "ServerName": "ostcal simulated observatory",
    "Manufacturer": "ostcal",
    "ManufacturerVersion": __version__,
    "Location": "this machine",
}

Parameters = Mapping[str, str]
"""Values by name; names have any case in an address, and that of the standard in the form of a PUT."""


class AlpacaApi:
    """The addresses of an Alpaca server over its devices, one of each type.

    `ending` is set when the server ends, for answers that wait.
    """

    def __init__(self, devices: Sequence[Device], clock: FastClock, faults: FaultPlan, ending: asyncio.Event) -> None:
        self._devices = {device.identity.device_type.lower(): device for device in devices}
        self._clock = clock
        self._faults = faults
        self._ending = ending
        self._transactions = itertools.count(1)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        identities = [device.identity for device in self._devices.values()]
        configured = [
            {"DeviceName": one.name, "DeviceType": one.device_type, "DeviceNumber": 0, "UniqueID": one.unique_id}
            for one in identities
        ]
        return Starlette(
            routes=[
                Route("/management/apiversions", self._management(lambda: [1])),
                Route("/management/v1/description", self._management(lambda: DESCRIPTION)),
                Route("/management/v1/configureddevices", self._management(lambda: configured)),
                Route("/setup", _setup_page(DESCRIPTION["ServerName"])),
                *(
                    Route(f"/setup/v1/{device_type}/0/setup", _setup_page(device.identity.name))
                    for device_type, device in self._devices.items()
                ),
                Route("/api/v1/{device_type}/{number}/{method}", self._device_call, methods=["GET", "PUT"]),
            ]
        )

    def _management(self, read: Callable[[], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                transaction = self._transaction(await _parameters(request))
            except BadRequestError as error:
                return _bad_request(error)
            return _json_answer(transaction, value=read())

        return answer

    def _transaction(self, parameters: Parameters) -> Transaction:
        """Read the numbers that a client gives itself and its request; they may be absent, but not nonsense."""
        numbers = []
        for name in ID_NAMES:
            text = parameters.get(name, "0")
            if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= HIGHEST_ID):
                raise BadRequestError(f"{name} {text!r} is not a whole number from 0 to {HIGHEST_ID}")
            numbers.append(int(text))
        return Transaction(client=numbers[1], server=next(self._transactions))

    async def _device_call(self, request: Request) -> Response:
        if request.method == "HEAD":
            return PlainTextResponse(status_code=HTTPStatus.METHOD_NOT_ALLOWED)
        device_type, number = request.path_params["device_type"], request.path_params["number"]
        method = request.path_params["method"]
        device = self._devices.get(device_type)
        if device is None or not (number.isascii() and number.isdecimal()):
            return _not_found(f"there is no device /{device_type}/{number}")
        if number.strip("0"):  # each type has one device
            return PlainTextResponse(f"there is no {device_type} {number}", HTTPStatus.BAD_REQUEST)
        try:
            parameters = await _parameters(request)
            transaction = self._transaction(parameters)
            if self._faults.happens("drop", method):
                return DroppedConnection()
            if self._faults.happens("silence", method):
                return Silence(self._ending)
            if self._faults.happens("http500", method):
                return PlainTextResponse("the simulated server failed", HTTPStatus.INTERNAL_SERVER_ERROR)
            if request.method != "PUT" and isinstance(device, SimulatedCamera) and method in IMAGE_METHODS:
                return self._image(request, device, transaction)
            return _member_answer(request.method, device, method, parameters, transaction)
        except BadRequestError as error:
            return _bad_request(error)

    def _image(self, request: Request, camera: SimulatedCamera, transaction: Transaction) -> Response:
        faults = self._faults
        binary = IMAGE_BYTES in request.headers.get("accept", "") and request.path_params["method"] == "imagearray"
        binary = binary and not faults.happens("json-only")
        try:
            _check(camera, Getter(read=camera.image))
            made = camera.image()
            if faults.happens("ascom-error"):
                raise AscomError(DRIVER_ERROR, "the image was lost on its way from the sensor")
        except AscomError as error:
            if binary:
                body = error_bytes(transaction, error.number, error.message)
                return Response(body, media_type=IMAGE_BYTES)
            return _json_answer(transaction, error=error)
        image = made.image
        if faults.happens("wrong-size"):
            image = image.narrower()
        else:
            camera.remember(made.record)
        if not binary:
            return StreamingResponse(image.json_pieces(transaction), media_type="application/json")
        pixels = image.body()
        header = image.header(transaction)
        if faults.happens("garbage"):
            return Response(b"\xa5\x5a\xc3" * 1000, media_type=IMAGE_BYTES)
        if faults.happens("huge"):
            header = image_header(transaction, image.element, 60_000, 60_000)
            return Response(header + bytes(pixels[:1000]), media_type=IMAGE_BYTES)
        length = len(header) + len(pixels)
        if faults.happens("short"):
            return PiecedBody([header, pixels[: len(pixels) // 2]], length)
        if faults.happens("slow"):
            step = max(1, -(-len(pixels) // TRICKLE_PIECES))
            pieces: list[bytes | memoryview] = [header, *(pixels[n : n + step] for n in range(0, len(pixels), step))]
            return PiecedBody(pieces, length, self._ending, self._clock.real_s(1.0))
        return ImageBody(header, pixels, self._ending)


# Answers that go around uvicorn, by the connection that `server.Protocol` puts into the state of a request.


class ImageBody(Response):
    """An image, written to the socket by a thread, then the end of the connection.

    Through the event loop 122 MB take four times as long as through a plain socket: each piece is copied twice, by one
    thread with the rest of the server. Here the kernel copies from the image, headers and pixels in one message.
    """

    def __init__(self, header: bytes, pixels: memoryview, ending: asyncio.Event) -> None:
        super().__init__()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {IMAGE_BYTES}\r\ncontent-length: {len(header) + len(pixels)}"
        self._begin = f"{head}\r\nconnection: close\r\n\r\n".encode() + header
        self._pixels = pixels
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        transport = scope["state"]["transport"]
        connection = transport.get_extra_info("socket").dup()
        await asyncio.to_thread(self._send_all, connection)
        transport.close()
        await _until_gone(receive)

    def _send_all(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(SEND_CHECK_S)
            waiting = [memoryview(self._begin), self._pixels]
            while waiting and not self._ending.is_set():
                try:
                    # One message for both; Windows has no such call, and sends the first buffer.
                    has_messages = hasattr(connection, "sendmsg")
                    sent = connection.sendmsg(waiting) if has_messages else connection.send(waiting[0])
                except TimeoutError:
                    continue
                except OSError as error:
                    logger.debug("the client went away in the middle of an image: %s", error)
                    return
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting.pop(0))
                if waiting:
                    waiting[0] = waiting[0][sent:]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class DroppedConnection(Response):
    """No answer: the connection ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End it."""
        scope["state"]["transport"].abort()
        await _until_gone(receive)


class Silence(Response):
    """No answer and no end, until the client goes or the server ends."""

    def __init__(self, ending: asyncio.Event) -> None:
        super().__init__()
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait."""
        gone = asyncio.ensure_future(_until_gone(receive))
        ended = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait({gone, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        scope["state"]["transport"].abort()
        await gone


class PiecedBody(Response):
    """A body in pieces, with pauses between them; if it ends before its length, the connection ends with it."""

    def __init__(
        self,
        pieces: Sequence[bytes | memoryview],
        length: int,
        ending: asyncio.Event | None = None,
        pause_s: float = 0.0,
    ) -> None:
        super().__init__(headers={"content-length": str(length)}, media_type=IMAGE_BYTES)
        self._pieces = pieces
        self._missing = length
        self._ending = ending
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces, until the server ends."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for piece in self._pieces:
            self._missing -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": self._missing > 0})
            if self._ending is not None and self._missing:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), self._pause_s)
                    break
        if self._missing:
            # It is not said to be complete: h11 refuses an end before the announced length, and if uvicorn ends in
            # the moment before such a connection is gone, that error ends the thread of the server.
            scope["state"]["transport"].close()
            await _until_gone(receive)


# Members


def _member_answer(
    verb: str, device: Device, method: str, parameters: Parameters, transaction: Transaction
) -> Response:
    """Read or write a member, and say what came of it."""
    member = (device.setters if verb == "PUT" else device.getters).get(method)
    if member is None or member.since > device.identity.interface_version:
        if method in device.getters or method in device.setters or method in IMAGE_METHODS:
            return PlainTextResponse(f"{method} cannot be {verb}", HTTPStatus.METHOD_NOT_ALLOWED)
        return _not_found(f"there is no method {method!r}")
    values = []
    for name, read in member.parameters if isinstance(member, Setter) else ():
        if name not in parameters:
            raise BadRequestError(f"the parameter {name} is missing; its name has this case")
        values.append(read(parameters[name]))
    try:
        _check(device, member)
        value = member.read() if isinstance(member, Getter) else member.write(*values)
    except AscomError as error:
        return _json_answer(transaction, error=error)
    return _json_answer(transaction, value=value)


def _check(device: Device, member: Getter | Setter) -> None:
    if member.needs_connection and not device.connected():
        raise AscomError(NOT_CONNECTED, f"{device.identity.name} is not connected")


# Requests and answers


async def _parameters(request: Request) -> Parameters:
    """Return the parameters of the address, or of the form that a PUT carries.

    No member that is read has parameters of its own, so the names in an address are those of the two numbers.
    """
    if request.method != "PUT":
        known = {name.lower(): name for name in ID_NAMES}
        return {known.get(name.lower(), name): value for name, value in request.query_params.multi_items()}
    try:
        return dict(parse_qsl((await request.body()).decode("ascii"), keep_blank_values=True, errors="strict"))
    except ClientDisconnect as error:
        raise BadRequestError("the client left before the end of its form") from error
    except ValueError as error:
        raise BadRequestError("the body is not a form") from error


def _json_answer(transaction: Transaction, *, value: Any = None, error: AscomError | None = None) -> Response:
    answer: dict[str, Any] = {
        "ClientTransactionID": transaction.client,
        "ServerTransactionID": transaction.server,
        "ErrorNumber": error.number if error else 0,
        "ErrorMessage": error.message if error else "",
    }
    if value is not None:
        answer["Value"] = value
    return Response(json.dumps(answer), media_type="application/json")


def _setup_page(name: str) -> Callable[[Request], Any]:
    page = (
        f"<!DOCTYPE html><html lang='en'><head><title>{escape(name)}</title></head><body><h1>{escape(name)}</h1>"
        "<p>The options of <code>ostcal simulate</code> set it up.</p></body></html>"
    )

    async def answer(_request: Request) -> Response:
        return HTMLResponse(page)

    return answer


def _bad_request(error: BadRequestError) -> Response:
    return PlainTextResponse(str(error), HTTPStatus.BAD_REQUEST)


def _not_found(message: str) -> Response:
    return PlainTextResponse(message, HTTPStatus.NOT_FOUND)
