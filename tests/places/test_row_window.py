"""Rows of a plane read in the pieces in which they are stored."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.row_window import RowWindow


@given(
    height=st.integers(1, 60),
    step=st.integers(1, 70),
    wanted=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 25))),
)
def test_pieces_that_go_forward_are_the_rows_and_each_stored_one_is_read_once(
    height: int, step: int, wanted: list[tuple[int, int]]
) -> None:
    plane = np.arange(3 * height).reshape(height, 3)
    asked: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> NDArray[np.int64]:
        asked.append((start, stop))
        return plane[start:stop]

    window = RowWindow(read, height, step)
    start = 0
    given = []
    for forward, rows in wanted:
        start = min(start + forward, height - 1)
        stop = min(start + rows, height)
        given.append((window.rows(start, stop), plane[start:stop]))
    for rows, expected in given:  # at the end: nothing that was given may have changed since
        assert np.array_equal(rows, expected)
    assert len(set(asked)) == len(asked)
    assert all(first % step == 0 and last == min(first + step, height) for first, last in asked)
