"""The marked pixels of a DQ plane: found in strips of any height, and compared with those beside them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.measure.masters import marked_pixels
from ostcal.measure.masters.defects import Defect
from ostcal.measure.masters.marked_pixels import (
    ColumnPart,
    Crops,
    MarkedPixels,
    MarkedValues,
    find_marked,
    nonzero_places,
)

SHAPE = (300, 203)


def strips_of(plane: NDArray[Any], step: int) -> Iterator[tuple[int, NDArray[Any]]]:
    for start, stop in pairwise([*range(0, len(plane), step), len(plane)]):
        yield start, plane[start:stop]


def marked_plane(share: float = 0.01, seed: int = 1) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    plane = np.where(rng.random(SHAPE) < share, rng.choice([1, 2, 4, 9, 128], SHAPE), 0).astype(np.uint8)
    plane[40:210, 7] |= int(Defect.BAD_COLUMN)
    plane[:, 100] |= int(Defect.BAD_COLUMN)
    plane[250:, 7] |= int(Defect.BAD_COLUMN)
    return plane


def found_in(plane: NDArray[np.uint8], step: int = 64, block: int = 4) -> MarkedPixels:
    return find_marked(strips_of(plane, step), plane.shape, block)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1, 7, 64, 300])
def test_strips_of_any_height_find_the_same(step: int) -> None:
    plane = marked_plane()
    found = found_in(plane, step)
    rows, columns = np.nonzero(plane & ~np.uint8(Defect.BAD_COLUMN))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.columns, columns)
    np.testing.assert_array_equal(found.bits, plane[rows, columns])
    assert found.n_marked == len(rows)
    assert found.parts == (
        ColumnPart(column=7, start=40, stop=210),
        ColumnPart(column=7, start=250, stop=300),
        ColumnPart(column=100, start=0, stop=300),
    )
    padded = np.pad(plane, ((0, -SHAPE[0] % 4), (0, -SHAPE[1] % 4)))
    blocks = np.bitwise_or.reduce(padded.reshape(len(padded) // 4, 4, -1, 4), axis=(1, 3))
    np.testing.assert_array_equal(found.map, blocks)
    assert found.tiles.sum() == len(rows)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 640])
def test_places_of_bytes_are_those_of_numpy(size: int) -> None:
    flat = (np.random.default_rng(size).random(size) < 0.2).astype(np.uint8)
    np.testing.assert_array_equal(nonzero_places(flat[None]), np.flatnonzero(flat))


def test_nothing_marked_is_nothing() -> None:
    found = found_in(np.zeros(SHAPE, np.uint8))
    assert (found.n_marked, len(found.rows), found.parts) == (0, 0, ())
    assert found.worst_square(192) is None
    assert not found.map.any()


@pytest.mark.parametrize("corner", [(0, 0), (150, 100), (280, 190)])
def test_the_worst_square_holds_the_cluster_and_is_within_the_master(corner: tuple[int, int]) -> None:
    plane = np.zeros(SHAPE, np.uint8)
    plane[10, 10] = 1
    plane[corner[0] : corner[0] + 10, corner[1] : corner[1] + 10] = 1
    side = 128
    square = found_in(plane).worst_square(side)
    assert square is not None
    top, left = square
    assert 0 <= top <= SHAPE[0] - side
    assert 0 <= left <= SHAPE[1] - side
    assert plane[top : top + side, left : left + side].sum() >= 100


def test_values_and_differences_are_those_of_the_master() -> None:
    rng = np.random.default_rng(5)
    slope = np.linspace(0, 4000, SHAPE[1])  # far more along a row than any pixel differs
    master = (500 + slope + rng.normal(0, 1, SHAPE)).astype(np.float32)
    plane = np.zeros(SHAPE, np.uint8)
    truth = {(3, 50): 900.0, (170, 120): -400.0, (299, 30): 50.0, (80, 0): 300.0, (90, 202): 250.0}
    for (row, column), excess in truth.items():
        master[row, column] += excess
        plane[row, column] = Defect.HOT
    master[200, 20] = np.nan
    plane[200, 20] = Defect.NO_DATA
    values = MarkedValues(found_in(plane))
    for start, rows in strips_of(master, 50):
        values.see(start, rows)
    worst = values.worst()
    places = list(zip(worst.rows.tolist(), worst.columns.tolist(), strict=True))
    assert places[0] == (200, 20)
    assert places[1:] == [(3, 50), (170, 120), (90, 202), (80, 0), (299, 30)]
    for place, value, difference in zip(places[1:], worst.values[1:], worst.differences[1:], strict=True):
        assert value == master[place]
        # At an edge the neighbours are on one side: the slope is in the difference.
        assert difference == pytest.approx(truth[place], abs=170 if place[1] in (0, 202) else 6)


def test_a_list_is_bounded_and_so_is_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = marked_plane()
    n = found_in(plane).n_marked
    monkeypatch.setattr(marked_pixels, "MOST_LISTED", 5)
    values = MarkedValues(found_in(plane))
    for start, rows in strips_of(np.zeros(SHAPE, np.float32), 64):
        values.see(start, rows)
    assert len(values.worst().rows) == 5
    monkeypatch.setattr(marked_pixels, "MOST_HELD", 20)
    found = found_in(plane, 50)
    assert (found.n_marked, len(found.rows)) == (n, 0)
    assert found.map.any()


def test_crops_are_cut_pixel_for_pixel() -> None:
    master = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    places = [(0, 0), (100, 57), (236, 139)]
    crops = Crops(places, [(64, 64)] * 3)
    for start, rows in strips_of(master, 45):
        crops.see(start, rows)
    for (top, left), image in zip(places, crops.images, strict=True):
        np.testing.assert_array_equal(image, master[top : top + 64, left : left + 64])
