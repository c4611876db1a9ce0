"""What was read of files, remembered beside them by path, size and times, so that each file is read once.

An index is never needed: it is left out of account and written again where it is missing, damaged, of another version
or of other rules, and a file that changed since is read again. Commands may use one index at once: it is replaced as a
whole, and what the slower of two does not know is read again by the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ostcal.codec import from_json, json_reader, schema_digest, to_json
from ostcal.opening import open_regular
from ostcal.places.durable import write_atomically
from ostcal.places.paths import absolute, is_remote

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 28
"""An index that is larger is written anew: 300,000 headers."""
MAX_ENTRIES = 200_000
"""The files of the last run go before those of earlier ones."""
SETTLED_NS = 2_000_000_000
"""A file that changed within two seconds may change again without another time: some file systems count in seconds."""

_FORMAT = "ostcal-index-2"
_T = TypeVar("_T")
_State = tuple[int, int, int]
"""Size in bytes, and the times of the last change of the contents and of the file, in nanoseconds."""


@dataclass(frozen=True, kw_only=True)
class _Head:
    """The first line of an index."""

    format: str
    rules: str
    crc32: int
    """Of all lines after the first."""


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The second line: the files of the other lines, a value for each."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    changed_ns: tuple[int, ...]
    """Times of the last change of the contents."""
    moved_ns: tuple[int, ...]
    """Times of the last change of the file, its name or its rights."""

    @classmethod
    def of(cls, states: Mapping[str, _State]) -> _Files:
        """Return files and their states."""
        columns = [tuple(state[i] for state in states.values()) for i in range(3)]
        return cls(names=tuple(states), sizes=columns[0], changed_ns=columns[1], moved_ns=columns[2])

    @property
    def states(self) -> dict[str, _State]:
        """The states by name; ValueError where a value is missing."""
        return dict(zip(self.names, zip(self.sizes, self.changed_ns, self.moved_ns, strict=True), strict=True))


class FileIndex(Generic[_T]):
    """What was read of files, by path.

    Parameters
    ----------
    path : str or None
        The file of the index; ``None`` remembers nothing, as does a place in an object store. What was read is
        remembered by this object too, whether it is saved or not.
    kind : type
        The dataclass that is read of a file; an index of an earlier form of it does not count.
    rules : str
        All else that decides what is read; an index of other rules does not count.
    """

    def __init__(self, path: str | None, kind: type[_T], rules: str) -> None:
        self._path = None if path is None or is_remote(path) else Path(path)
        self._value_of = json_reader(kind)
        self._rules = f"{schema_digest(kind)} {rules}"
        self._lines = self._read() if self._path is not None else {}
        self._used: dict[str, tuple[_State, bytes]] = {}
        self._is_changed = False
        self.n_read = 0
        """Files that were read because the index did not know them."""

    def get(self, file: str, read: Callable[[], tuple[_T, bool]]) -> _T:
        """Return what is remembered of a file, else what `read` returns, with whether it may be remembered.

        What `read` raises is passed on and not remembered.
        """
        if self._path is None or is_remote(file):
            self.n_read += 1
            return read()[0]
        name = absolute(file)
        state = _state_of(name)
        known = self._used.get(name) or self._lines.get(name)
        if known is not None and state is not None and known[0] == state:
            try:
                value = self._value_of(known[1])
            except ValueError:
                pass
            else:
                self._used[name] = known
                return value
        self.n_read += 1
        value, may_remember = read()
        if may_remember and state is not None and time.time_ns() - max(state[1:]) > SETTLED_NS:
            with contextlib.suppress(ValueError):  # a number that is not finite has no form in JSON
                self._used[name] = state, to_json(value)
                self._is_changed = True
        return value

    def save(self) -> None:
        """Write the index if there is something new; a place that cannot be written is left without one."""
        if self._path is None or not self._is_changed:
            return
        others = (item for item in self._lines.items() if item[0] not in self._used)
        entries = dict([*self._used.items(), *others][:MAX_ENTRIES])
        files = _Files.of({name: state for name, (state, _) in entries.items()})
        body = b"\n".join([to_json(files), *(line for _, line in entries.values())])
        head = _Head(format=_FORMAT, rules=self._rules, crc32=zlib.crc32(body))
        try:
            write_atomically(self._path, to_json(head) + b"\n" + body, durable=False)
        except OSError as error:
            logger.debug("%s: not written: %s", self._path, error)

    def _read(self) -> dict[str, tuple[_State, bytes]]:
        """Return the lines of the index by path; nothing where it does not count."""
        assert self._path is not None
        try:
            with open(self._path, "rb", opener=open_regular) as file:
                data = file.read(MAX_BYTES + 1)
            first, _, body = data.partition(b"\n")
            head = from_json(_Head, first)
            is_ours = (head.format, head.rules) == (_FORMAT, self._rules)
            if not is_ours or len(data) > MAX_BYTES or zlib.crc32(body) != head.crc32:
                raise ValueError("of another version or damaged")
            lines = body.split(b"\n")
            states = from_json(_Files, lines[0]).states
            return {name: (state, line) for (name, state), line in zip(states.items(), lines[1:], strict=True)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.debug("%s: not used and written again: %s", self._path, error)
            return {}


def _state_of(file: str) -> _State | None:
    """Return size and times of a file; ``None`` where it is not there."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
