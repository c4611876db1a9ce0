"""A program that imports everything once and runs each order in a fork of itself, which spares 2 s each time."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.night import command_environment


class ForkServer:
    """Such a program; it takes orders of one line and answers with numbers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, order: str) -> int:
        """Return an order; gives the first number of the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return int(self.line())

    def line(self) -> str:
        """Wait for a line of the answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def forking(
    program: str, *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[ForkServer]:
    """Start a program that says ``ready`` and how many threads it has; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environment) if environment is not None else command_environment(),
        cwd=cwd,
    ) as process:
        server = ForkServer(process)
        try:
            assert server.line() == "ready 1"  # a fork copies one thread only
            yield server
        finally:
            process.kill()
