"""Drive an Alpaca device over HTTP: alpyca's classes on our own transport.

alpyca 3.1.3 holds one lock for all devices of the process during every request, has no timeout for images, and raises
exceptions without a common base; its Connect for older interfaces works only once. All of that is in two methods and
the connecting, which are replaced here and in `alpyca_classes` (tests/devices/test_private_parts.py names them); the
properties and methods of the devices are alpyca's.
"""

from __future__ import annotations

import http.client
import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from numpy.typing import NDArray

from ostcal.clock import Clock
from ostcal.devices.connection import HttpConnection, Patience
from ostcal.devices.device_driver import Driver
from ostcal.devices.failures import (
    NOT_CONNECTED,
    DeviceUnreachableError,
    RefusedError,
    ReplyError,
    check_reply,
    device_text,
    parse_reply,
)
from ostcal.devices.image_bytes import HEADER, read_image_bytes, read_up_to
from ostcal.devices.image_json import read_json_image
from ostcal.errors import DeviceError

logger = logging.getLogger(__name__)

CLIENT_ID = random.randint(1, 65535)
"""One client number for the process, as the protocol requires."""

_MAX_REPLY_BYTES = 1 << 20
_CONNECT_POLL_S = 0.1
_HEADERS: Mapping[str, str] = MappingProxyType({"Accept-Encoding": "identity"})
_NEVER_TWICE = frozenset({"action", "startexposure"})
"""Methods that are not repeated when the connection breaks; all others that are used set a state."""
_ASYNC_SINCE = {"camera": 4, "covercalibrator": 2, "dome": 3, "filterwheel": 3, "safetymonitor": 3, "telescope": 4}


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Time limits, in seconds."""

    tcp_s: float = 5.0
    """For the TCP connection to the server."""
    reply_s: float = 10.0
    """For the answer to one control call."""
    connect_s: float = 60.0
    """For the device to connect: some cameras load firmware."""
    silence_s: float = 60.0
    """Wait for the next byte of an image: servers that convert the image send nothing until they are done."""
    download_s: float = 600.0
    """For a whole image: 150 MP over a 20 Mbit/s radio link take 120 s, JSON three times as long."""
    moving_s: float = 120.0
    """For a filter wheel, a cover or a lamp to reach its target."""


@dataclass(frozen=True, kw_only=True)
class AlpacaAddress:
    """Address of a device."""

    host: str
    port: int
    device_type: str
    """In small letters: ``camera``, ``filterwheel``, ``covercalibrator``, ``dome``, and so on."""
    device_id: int

    @property
    def server(self) -> str:
        """``host:port``."""
        return server_name(self.host, self.port)


def server_name(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around IPv6 addresses."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def require_alpyca() -> None:
    """Raise `MissingPackageError` if alpyca is not installed."""
    _alpyca_classes()


def _alpyca_classes() -> Mapping[str, type[Any]]:
    """Return alpyca's classes of devices over our transport, by device type."""
    from ostcal.devices.alpyca_classes import DEVICE_CLASSES  # alpyca is an extra

    return DEVICE_CLASSES


class AlpacaDriver(Driver):
    """One Alpaca device; its control calls are serialised, those of other devices are independent.

    Images have a connection of their own, so that the status can be read during a download.
    """

    def __init__(self, address: AlpacaAddress, timeouts: Timeouts, clock: Clock) -> None:
        self.address = address
        self.timeouts = timeouts
        self._clock = clock
        self._lock = threading.Lock()
        self._transactions = itertools.count(1)
        self._control = self._new_connection()
        self._name = ""
        self._was_connected = False
        self._device = _alpyca_classes()[address.device_type](address.server, address.device_id)
        self._device.exchange_by(self._get, self._put)

    @property
    def label(self) -> str:
        """Kind, number and address, and the name once connected."""
        name = f" ({self._name})" if self._name else ""
        return f"{self.address.device_type} {self.address.device_id} at {self.address.server}{name}"

    def connect(self) -> None:
        """Connect the device, wait until it is connected, and read its name and interface version."""
        self._was_connected = False
        try:
            self.interface_version = self._read_version()
            if self.interface_version < _ASYNC_SINCE[self.address.device_type] or not self._connect_async():
                self.write("Connected", True)
            self._was_connected = True
            if self.read("Connected") is not True:
                raise ReplyError(
                    f"{self.label}: it was told to connect and says that it is not connected; see its server"
                )
            # Some drivers know their version only once they are connected.
            self.interface_version = self._read_version()
            try:
                self._name = device_text(str(self.read("Name")), 60)
            except RefusedError:
                logger.debug("%s does not say its name", self.label)
        except DeviceError:
            self.renew()
            raise

    def renew(self) -> None:
        """Close the connection to the server; the next use opens a new one."""
        with self._lock:
            self._control.close()

    def image(self, shape: tuple[int, int]) -> NDArray[Any]:
        """Download the image, (height, width) in C order, uint16 or int32."""
        patience = Patience(total_s=self.timeouts.download_s, silence_s=self.timeouts.silence_s)
        headers = {**_HEADERS, "Accept": "application/imagebytes"}
        connection = self._new_connection()
        with self._explained("downloading the image"):
            try:
                with connection.get(self._path("imagearray", {}), headers, patience) as response:
                    return _read_image(response, shape)
            finally:
                connection.close()

    def _connect_async(self) -> bool:
        """Connect as in Platform 7; return ``False`` if the device does not support it."""
        try:
            with self._explained("Connect()"):
                self._put("connect")
        except RefusedError as error:
            logger.debug("%s; trying Connected instead", error)
            return False
        deadline_s = self._clock.now_s() + self.timeouts.connect_s
        while self.read("Connecting"):
            if self._clock.now_s() > deadline_s:
                raise DeviceUnreachableError(
                    f"{self.label}: still connecting after {self.timeouts.connect_s:g} s; see its server"
                )
            self._clock.sleep(_CONNECT_POLL_S)
        return True

    def _read_version(self) -> int:
        # alpyca takes any failure, even of the network, for version 1, and keeps it.
        try:
            with self._explained("reading InterfaceVersion"):
                version = self._get("interfaceversion")
        except RefusedError:
            version = 1
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            version = 1
        self._device.driver_interface_version = version
        return version

    # alpyca's transport, replaced

    def _get(self, attribute: str, **data: object) -> Any:
        path = self._path(attribute, data)
        reply = self._exchange(lambda patience: self._control.get(path, _HEADERS, patience), self.timeouts.reply_s)
        if "Value" not in reply:
            raise ReplyError("the answer has no Value; is this an Alpaca server?")
        return reply["Value"]

    def _put(self, attribute: str, **data: object) -> dict[str, Any]:
        body = urlencode({**{name: _as_text(value) for name, value in data.items()}, **self._identity()}).encode()
        headers = {**_HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        path = f"{self._root()}/{attribute}"
        # Old interfaces connect within the call; all other calls are short.
        limit_s = self.timeouts.connect_s if data.get("Connected") is True else self.timeouts.reply_s
        repeatable = attribute.lower() not in _NEVER_TWICE
        return self._exchange(
            lambda patience: self._control.put(path, body, headers, patience, repeatable=repeatable), limit_s
        )

    def _exchange(self, send: Callable[[Patience], http.client.HTTPResponse], total_s: float) -> dict[str, Any]:
        with self._lock:
            try:
                with send(Patience(total_s=total_s, silence_s=total_s)) as response:
                    text = response.read(_MAX_REPLY_BYTES)
                    # Without a length, as in HTTP/1.0, the answer ends with the connection.
                    is_whole = response.isclosed() or (response.length is None and response.read(1) == b"")
            except BaseException:  # Ctrl-C too: the answer that is on its way is not that of the next request
                self._control.close()
                raise
            if not is_whole:
                self._control.close()
                raise DeviceUnreachableError(f"the answer ended after {len(text)} bytes, or has no end")
        return _checked(response.status, text)

    def _root(self) -> str:
        return f"/api/v1/{self.address.device_type}/{self.address.device_id}"

    def _path(self, attribute: str, data: Mapping[str, object]) -> str:
        return f"{self._root()}/{attribute}?{urlencode({**data, **self._identity()})}"

    def _identity(self) -> dict[str, int]:
        return {"ClientID": CLIENT_ID, "ClientTransactionID": next(self._transactions)}

    def _new_connection(self) -> HttpConnection:
        return HttpConnection(self.address.host, self.address.port, connect_timeout_s=self.timeouts.tcp_s)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Convert every failure to one line with device, address, action and advice."""
        where = f"{self.label}: {doing}"
        try:
            yield
        except RefusedError as error:
            cure = ""
            if error.number is not None and not self._was_connected:
                cure = "; end the program that holds it, or see its server"
            elif error.number == NOT_CONNECTED:
                cure = "; connect it again, another program may have disconnected it"
            raise RefusedError(f"{where}: {error}{cure}", number=error.number) from error
        except (ReplyError, DeviceUnreachableError) as error:
            raise type(error)(f"{where}: {error}") from error
        except TimeoutError as error:
            raise DeviceUnreachableError(f"{where}: no answer in time; check that the server still runs") from error
        except ConnectionRefusedError as error:
            raise DeviceUnreachableError(
                f"{where}: nothing listens there; start the Alpaca server or correct host and port "
                "(ostcal cameras lists what answers)"
            ) from error
        except OSError as error:
            text = device_text(str(error)) or type(error).__name__
            raise DeviceUnreachableError(
                f"{where}: the connection failed ({text}); check host, port and network"
            ) from error
        except (http.client.HTTPException, ValueError) as error:
            text = device_text(f"{type(error).__name__}: {error}", 120)
            raise ReplyError(f"{where}: the answer makes no sense ({text}); is this an Alpaca server?") from error


def _as_text(value: object) -> object:
    """Return true and false in small letters: INDI's server takes ``True`` for false, and no known one ``true``."""
    return str(value).lower() if isinstance(value, bool) else value


def _checked(status: int, text: bytes) -> dict[str, Any]:
    """Return the members of a reply; raise for HTTP errors and for errors of the device."""
    if status == 200:
        reply = parse_reply(text)
        check_reply(reply)
        return reply
    # INDI's server sends ASCOM errors with HTTP 400.
    if text.lstrip()[:1] == b"{":
        check_reply(parse_reply(text))
    said = device_text(text.decode("utf-8", errors="replace"), 160)
    if 400 <= status < 500:
        raise RefusedError(f"refused with HTTP {status}: {said}")
    raise ReplyError(f"the server failed with HTTP {status}: {said}")


def _read_image(response: http.client.HTTPResponse, shape: tuple[int, int]) -> NDArray[Any]:
    if response.status != 200:
        _checked(response.status, response.read(_MAX_REPLY_BYTES))
    encoding = response.getheader("Content-Encoding", "identity")
    if encoding.lower() not in ("", "identity"):
        raise ReplyError(f"the image is sent with encoding {encoding}, which was not asked for")
    # The first bytes decide, not the content type, because some servers declare the wrong one.
    length = response.length
    head = read_up_to(response, HEADER.size)
    if head.lstrip()[:1] == b"{":
        return read_json_image(head, response, shape)
    return read_image_bytes(head, response, shape, length)
