"""Texts that are made long before they are written, with bounded memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ostcal.places.durable import storage_errors

HELD_BYTES = 16 * 2**20
"""Of all texts together, in memory: the sections of two dozen masters. More go to a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a text is."""

    start: int
    n_bytes: int


class TextsAside:
    """Takes texts, and gives them back one by one.

    Together they may be larger than the memory: then they are in a file without a name, which ends with the process.

    Parameters
    ----------
    directory : Path or None
        Where that file is; ``None`` is the system's directory for temporary files.
    held_bytes : int
        Up to which they stay in memory.
    """

    def __init__(self, directory: Path | None, held_bytes: int = HELD_BYTES) -> None:
        folder = None if directory is None else str(directory)
        self._file = tempfile.SpooledTemporaryFile(held_bytes, dir=folder)  # noqa: SIM115 - closed by __exit__
        self._failure = f"{folder or tempfile.gettempdir()}: parts of the report cannot be put aside"
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, text: str) -> Place:
        """Take a text; StorageError where there is no room for it."""
        data = text.encode("utf-8", errors="surrogatepass")
        with storage_errors(self._failure):
            self._file.seek(self._end)
            self._file.write(data)
        place = Place(start=self._end, n_bytes=len(data))
        self._end += len(data)
        return place

    def text(self, place: Place) -> str:
        """Return a text."""
        self._file.seek(place.start)
        return self._file.read(place.n_bytes).decode("utf-8", errors="surrogatepass")
