"""A real server that speaks S3, as a process on loopback, and a proxy before it that fails on purpose."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

ACCESS_KEY = "AKIATESTACCESS"
SECRET_KEY = "tests3cr3tK3YofTheserver"
ENVIRONMENT: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
}
_START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("moto's server did not start") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def make_bucket(endpoint: str, name: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=30).close()


def put_object(endpoint: str, place: str) -> None:
    """Write an object whose key stays as it is, which most clients do not allow; `place` is bucket and quoted key."""
    request = urllib.request.Request(f"{endpoint}/{place}", data=b"x", method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def credentials(values: Mapping[str, str] = ENVIRONMENT, without: Iterable[str] = ()) -> Iterator[None]:
    """Put credentials into the environment, as a user does, and take others out."""
    before = {name: os.environ.get(name) for name in (*values, *without)}
    os.environ.update(values)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


Fault = Callable[[str, str, int], str]
"""Of method, path and number of the request: ``""``, ``503``, ``cut``, ``slow`` or ``refuse``."""


class FaultyProxy:
    """Hands requests on to a server, and spoils some of the answers.

    ``503`` and ``403`` answer without asking the server, ``cut`` closes in the middle of a body, ``slow`` stalls there
    for `stall_s`, ``lost`` closes after the server has done what was asked, without an answer.
    """

    def __init__(self, target: str, fault: Fault, stall_s: float = 3.0) -> None:
        self.target = target.removeprefix("http://")
        self.fault = fault
        self.stall_s = stall_s
        self.counts: dict[str, int] = {}
        self.n_requests = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def answer(self) -> None:
                proxy.answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 -- names of http.server

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients go away: that is what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.n_requests += 1
            fault = self.fault(handler.command, handler.path, self.n_requests)
            self.counts[fault] = self.counts.get(fault, 0) + 1
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if fault in ("503", "403"):
            handler.send_response(int(fault), {"503": "Slow Down", "403": "Forbidden"}[fault])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        status, headers, data = self._forward(handler, body)
        if fault == "lost":
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "date", "server", "content-length"):
                handler.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(data)))
        handler.send_header("Content-Length", length)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if fault in ("cut", "slow"):
            handler.wfile.write(data[: len(data) // 2])
            handler.wfile.flush()
            if fault == "cut":
                handler.close_connection = True
                return
            time.sleep(self.stall_s)
            data = data[len(data) // 2 :]
        handler.wfile.write(data)

    def _forward(
        self, handler: http.server.BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
            connection.request(handler.command, handler.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()
