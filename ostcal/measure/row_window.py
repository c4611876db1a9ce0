"""Rows of a plane in whatever pieces they are wanted, read in the pieces in which they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowWindow:
    """Rows that are given in pieces that go forward; each is read once, and kept while it may be wanted.

    A piece that ends within a stored one would have it decoded twice, or eight times where pieces are thin.

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
        self._pieces: list[tuple[int, NDArray[Any]]] = []
        self._next: int | None = None

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Give rows; `start` must not be less than at the last call."""
        if self._next is None:
            self._next = start // self._step * self._step
        while self._next < stop:
            end = min(self._next + self._step, self._height)
            self._pieces.append((self._next, self._read(self._next, end)))
            self._next = end
        self._pieces = [piece for piece in self._pieces if piece[0] + len(piece[1]) > start]
        parts = [rows[max(0, start - top) : stop - top] for top, rows in self._pieces if top < stop]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
