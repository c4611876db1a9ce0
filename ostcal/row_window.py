"""Rows of a plane in pieces of any height, read in the pieces in which they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowWindow:
    """Rows of a plane from the first to the last; each stored piece is read once, and kept while it may be needed.

    A piece that ends inside a stored one would have it decoded twice, or eight times where pieces are thin. The rows
    are kept in one buffer: pieces allocated and freed in turn grew a process by 60 MB for every thread that read a
    master of 61 MP, and clearing those pages took longer than the arithmetic.

    Parameters
    ----------
    read_rows : callable (start, stop) -> (stop - start, width)
    height : int
        Rows of the plane.
    step : int
        Rows read at once.
    """

    def __init__(self, read_rows: Callable[[int, int], NDArray[Any]], height: int, step: int) -> None:
        self._read = read_rows
        self._height = height
        self._step = max(1, step)
        self._buffer: NDArray[Any] | None = None
        self._first = self._next = 0
        """Rows that are in the buffer, from its first row on."""

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of rows, ``(stop - start, width)``; `start` must not be less than in the last call."""
        return self.borrowed(start, stop).copy()

    def borrowed(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows as `rows` does, without a copy: they are valid until the next call only."""
        if self._next <= start:
            self._first = self._next = start // self._step * self._step
        while self._buffer is None or self._next < stop:
            end = min(self._next + self._step, self._height)
            piece = self._read(self._next, end)
            room = self._room_for(piece, start, stop)
            room[:] = piece
            self._next = end
        return self._buffer[start - self._first : stop - self._first]

    def _room_for(self, piece: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
        """Return the rows of the buffer for a piece; where it is full, rows before `start` are dropped."""
        filled = self._next - self._first
        if self._buffer is None:
            self._buffer = np.empty((len(piece) + stop - start, *piece.shape[1:]), piece.dtype)
        if filled + len(piece) > len(self._buffer):
            kept = self._buffer[min(filled, max(0, start - self._first)) : filled]
            if len(kept) + len(piece) > len(self._buffer):
                self._buffer = np.concatenate(
                    [kept, np.empty((len(piece) + stop - start, *kept.shape[1:]), kept.dtype)]
                )
            else:
                self._buffer[: len(kept)] = kept
            self._first, filled = self._next - len(kept), len(kept)
        return self._buffer[filled : filled + len(piece)]
