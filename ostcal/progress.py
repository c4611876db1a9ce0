"""Progress of long work for users of Python: a bar in notebooks, lines in a terminal on request, else nothing."""

from __future__ import annotations

import sys
import threading
import time
from html import escape
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, Self

from ostcal.compiled import clock

_FIRST_S = 0.5
"""Work that takes less has no bar."""
_EVERY_S = 0.25
_LINE_EVERY_S = 5.0
"""Where a line cannot be drawn over."""

_open_bars: list[ProgressBar] = []


def in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this program."""
    return getattr(_shell(), "kernel", None) is not None


def _shell() -> Any:
    """Return the shell of IPython that runs this program, without importing IPython; ``None`` elsewhere."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


class ProgressBar:
    """Progress of one piece of work.

    Parameters
    ----------
    what : str
        What is being done, such as ``combining``.
    show : bool, optional
        Whether it is shown; by default in notebooks alone.
    """

    def __init__(self, what: str, show: bool | None = None) -> None:
        self._what = what
        self._is_shown = in_notebook() if show is None else show
        self._screen: _Screen | None = None
        self._lock = threading.Lock()
        self._total, self._done, self._text = 1, 0, ""
        self._began = self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        _open_bars.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open_bars.remove(self)
        if self._screen is not None:
            seconds = time.monotonic() - self._began
            self._draw(f"{'done in' if kind is None else 'stopped after'} {seconds:.1f} s")
            self._screen.close()

    def start(self, total: int) -> None:
        """Say how much there is to do, in any unit."""
        self._total = max(1, total)

    def advance(self, amount: int, text: str = "") -> None:
        """Count what was done; threads may call it."""
        with self._lock:
            self._done += amount
            self._text = text
            now = time.monotonic()
            is_due = now - self._began > _FIRST_S and now - self._drawn > _EVERY_S
            if self._is_shown and is_due:
                self._draw(self._text)

    def say(self, text: str) -> None:
        """Show a text beside the bar at once."""
        if self._is_shown:
            self._draw(text)

    @property
    def is_shown(self) -> bool:
        """Whether it is shown when there is something to show."""
        return self._is_shown

    def _draw(self, text: str) -> None:
        self._drawn = time.monotonic()
        if self._screen is None:
            self._screen = _NotebookScreen() if in_notebook() else _LineScreen()
        self._screen.show(_Shown(self._what, min(1.0, self._done / self._total), text))


class _Shown:
    """A bar at one moment."""

    def __init__(self, what: str, share: float, text: str) -> None:
        self._what, self._share, self._text = what, share, text

    def __repr__(self) -> str:
        return f"{self._what}: {100 * self._share:.0f} %{f', {self._text}' if self._text else ''}"

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self._share:.4f}" max="1"></progress>'
        return f"<div>{escape(self._what)} {bar} {100 * self._share:.0f} % {escape(self._text)}</div>"


class _Screen(Protocol):
    """Where a bar is drawn."""

    def show(self, shown: _Shown) -> None:
        """Draw it anew."""

    def close(self) -> None:
        """Leave the last one as it is."""


class _NotebookScreen:
    """An output of a cell, which is replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, shown: _Shown) -> None:
        """Draw it anew."""
        if self._handle is None:
            display = import_module("IPython.display").display  # a kernel runs us, so that it is there
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def close(self) -> None:
        """Leave the last one as it is."""


class _LineScreen:
    """Standard error: one line that is drawn over on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._width = 0
        self._written = 0.0
        self._last = ""

    def show(self, shown: _Shown) -> None:
        """Draw it anew."""
        self._last = repr(shown)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{self._last:<{self._width}}")
            sys.stderr.flush()
            self._width = len(self._last)
        elif time.monotonic() - self._written >= _LINE_EVERY_S:
            self._written = time.monotonic()
            sys.stderr.write(f"{self._last}\n")

    def close(self) -> None:
        """Leave the last one as it is."""
        sys.stderr.write("\n" if sys.stderr.isatty() else f"{self._last}\n")


def _say_compiling(line: str) -> None:
    """Say that kernels are compiled: beside the bar that is shown, else where somebody waits for an answer."""
    shown = [bar for bar in _open_bars if bar.is_shown]
    if shown:
        shown[-1].say(line)
    elif in_notebook():
        _NotebookScreen().show(_Note(line))
    elif hasattr(sys, "ps1") or _shell() is not None:
        sys.stderr.write(f"ostcal: {line}\n")


class _Note(_Shown):
    """A line without a bar."""

    def __init__(self, text: str) -> None:
        super().__init__("ostcal", 0.0, text)

    def __repr__(self) -> str:
        return f"ostcal: {self._text}"

    def _repr_html_(self) -> str:
        return f"<div>{escape(repr(self))}</div>"


clock.listener = _say_compiling
