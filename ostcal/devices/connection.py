"""One HTTP connection with a deadline for each whole request.

`requests` limits the wait for each packet, not the whole request: a server that sends a byte now and then, in headers
or body, blocks the caller for ever. It also has no `readinto` without a copy. So this is `http.client` over a socket
that checks the deadline before every read.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Time limits of a request."""

    total_s: float
    """From the request to the last byte of the answer."""
    silence_s: float
    """Longest wait for the next byte."""


class _TimedReader(io.RawIOBase):
    """Reader of a socket with a deadline."""

    def __init__(self, owner: _TimedSocket) -> None:
        self._owner = owner
        self._raw = owner.socket.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.arm()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """The socket methods that `http.client` needs, with a deadline."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._silence_s = 0.0
        self._deadline_s = 0.0

    def allow(self, patience: Patience) -> None:
        """Start the time limits of a request."""
        self._silence_s = patience.silence_s
        self._deadline_s = time.monotonic() + patience.total_s

    def arm(self) -> None:
        """Set the timeout of the next operation."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time for the whole request is over")
        self.socket.settimeout(min(left_s, self._silence_s))

    def is_stale(self) -> bool:
        """Return whether the server closed the connection, or sent extra bytes, since the last answer."""
        try:
            self.socket.settimeout(0)
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def sendall(self, data: bytes) -> None:
        self.arm()
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()


class _TimedConnection(http.client.HTTPConnection):
    """`http.client`'s connection over a `_TimedSocket`; it ignores proxies of the environment."""

    def __init__(self, host: str, port: int, connect_timeout_s: float) -> None:
        super().__init__(host, port)
        self._connect_timeout_s = connect_timeout_s
        self.timed: _TimedSocket | None = None

    def connect(self) -> None:
        connected = socket.create_connection((self.host, self.port), self._connect_timeout_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timed = _TimedSocket(connected)
        self.sock = self.timed

    def close(self) -> None:
        """Forget the socket; `http.client` calls this too, after an answer that ends the connection."""
        self.timed = None
        super().close()


class HttpConnection:
    """A connection kept between requests; for one thread at a time.

    Parameters
    ----------
    host, port
        The server; ``localhost`` means 127.0.0.1, because Windows first waits 2 s on ``::1``.
    connect_timeout_s
        Longest wait for the TCP connection.
    """

    def __init__(self, host: str, port: int, *, connect_timeout_s: float) -> None:
        address = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
        self._connection = _TimedConnection(address, port, connect_timeout_s)

    def get(self, path: str, headers: Mapping[str, str], patience: Patience) -> http.client.HTTPResponse:
        """Send a GET; if the connection broke, repeat it once on a new one, as a GET changes nothing."""
        return self._send_twice("GET", path, None, headers, patience)

    def put(
        self, path: str, body: bytes, headers: Mapping[str, str], patience: Patience, *, repeatable: bool
    ) -> http.client.HTTPResponse:
        """Send a PUT; one that must not come twice goes over a new connection, which no server is about to close."""
        if repeatable:
            return self._send_twice("PUT", path, body, headers, patience)
        self.close()
        return self._send("PUT", path, body, headers, patience)

    def close(self) -> None:
        """Close; the next request opens a new connection."""
        self._connection.close()

    def _send_twice(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], patience: Patience
    ) -> http.client.HTTPResponse:
        try:
            return self._send(method, path, body, headers, patience)
        except ConnectionRefusedError:
            raise
        except (ConnectionError, http.client.BadStatusLine):
            return self._send(method, path, body, headers, patience)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], patience: Patience
    ) -> http.client.HTTPResponse:
        if self._connection.timed is not None and self._connection.timed.is_stale():
            self.close()
        try:
            if self._connection.timed is None:
                self._connection.connect()
            if self._connection.timed is not None:
                self._connection.timed.allow(patience)
            self._connection.request(method, path, body, dict(headers))
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
