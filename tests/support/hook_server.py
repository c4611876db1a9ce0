"""A web server for hooks: it keeps what it is sent, and answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HookServer:
    """What came, and what is answered."""

    answers: list[int]
    """Status codes in their order; the last is answered for ever."""
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Set it to let waiting answers go."""
    waits: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def hook_server(answers: Sequence[int] = (200,), *, waits: bool = False) -> Iterator[HookServer]:
    """Serve on a free port; with `waits` nothing is answered until `release` is set."""
    state = HookServer(answers=list(answers), waits=waits)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append(json.loads(body))
            state.headers.append(dict(self.headers))
            state.paths.append(self.path)
            code = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            if state.waits:
                state.release.wait(60)
            self.send_response(code)
            if 300 <= code < 400:
                self.send_header("Location", f"{state.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
