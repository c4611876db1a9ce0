"""Shadows of dust in a flat: dips that are narrower than its smooth shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.estimators import P16
from ostcal.measure.masters.lit_area import LitArea, lit_area
from ostcal.measure.masters.scan import FINE
from ostcal.measure.masters.scan_result import MasterScan

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A dip of a flat: the shadow of dust."""

    row: int
    column: int
    """Its deepest place, in pixels."""
    depth: float
    """Share of the light that is missing there, of 16 x 16 pixels."""
    n_cells: int
    """Size in parts of 16 x 16 pixels."""


def dust_shadows(scan: MasterScan, least_depth: float = 0.01, *, area: LitArea | None = None) -> list[Shadow]:
    """Find the shadows of dust, the deepest first.

    The smooth shape is the median of blocks of at least 8 fine cells, interpolated; a shadow is a group of two fine
    cells or more that are below it by `least_depth` and by five spreads.
    """
    area = area or lit_area(scan)
    first_row, first_column = area.first_cell
    whole = area.fine_cells[: scan.shape[0] // FINE - first_row, : scan.shape[1] // FINE - first_column]
    cells = np.nan_to_num(whole.astype(np.float64))
    if min(cells.shape) < 16:
        return []
    smooth = _smooth(cells)
    relative = np.divide(cells, smooth, out=np.ones_like(cells), where=smooth > 0) - 1
    low, middle = np.quantile(relative, (P16, 0.5))
    deep = relative - middle < -max(least_depth, 5 * float(middle - low))
    heights = scan.shape[0] / scan.fine_cells.shape[0]
    found = []
    for group in _groups(deep):
        at = min(group, key=relative.__getitem__)
        row, column = int((first_row + at[0] + 0.5) * heights), int((first_column + at[1] + 0.5) * FINE)
        if len(group) >= 2:
            found.append(Shadow(row=row, column=column, depth=float(-relative[at]), n_cells=len(group)))
    return sorted(found, key=lambda shadow: -shadow.depth)


def _smooth(cells: Float) -> Float:
    """Return the smooth shape of a flat: a square polynomial, and what medians of blocks are above or below it."""
    counts = (max(2, min(12, cells.shape[0] // 8)), max(2, min(12, cells.shape[1] // 8)))
    down, across = (
        np.array([part.mean() for part in np.array_split(np.arange(n), count)])
        for n, count in zip(cells.shape, counts, strict=True)
    )
    row, column = np.meshgrid(down, across, indexing="ij")
    terms = _square_terms(row.ravel(), column.ravel(), cells.shape)
    fit = np.linalg.lstsq(terms, _block_medians(cells, counts).ravel(), rcond=None)[0]
    rows, columns = np.indices(cells.shape)
    square = _square_terms(rows.ravel(), columns.ravel(), cells.shape) @ fit
    smooth = square.reshape(cells.shape)
    rest = _block_medians(cells - smooth, counts)
    rest = _interpolate(rest, down, cells.shape[0], 0)
    return np.asarray(smooth + _interpolate(rest, across, cells.shape[1], 1))


def _block_medians(cells: Float, counts: tuple[int, int]) -> Float:
    return np.array(
        [
            [np.median(part) for part in np.array_split(rows, counts[1], axis=1)]
            for rows in np.array_split(cells, counts[0], axis=0)
        ]
    )


def _square_terms(
    row: NDArray[np.floating | np.integer], column: NDArray[np.floating | np.integer], shape: tuple[int, ...]
) -> Float:
    y, x = row / shape[0] - 0.5, column / shape[1] - 0.5
    return np.stack([np.ones(len(y)), y, x, y * y, x * y, x * x], axis=1)


def _interpolate(values: Float, at: Float, n: int, axis: int) -> Float:
    """Interpolate values at places `at` along an axis to `n` whole places, beyond the ends too."""
    where = np.arange(n)
    left = np.clip(np.searchsorted(at, where, side="right") - 1, 0, len(at) - 2)
    share = (where - at[left]) / (at[left + 1] - at[left])
    share = share[:, None] if axis == 0 else share
    first, second = np.take(values, left, axis=axis), np.take(values, left + 1, axis=axis)
    return np.asarray(first + (second - first) * share)


def _groups(marked: NDArray[np.bool_]) -> Iterator[list[tuple[int, int]]]:
    """Yield the groups of marked cells that touch, corners included."""
    left = {(int(row), int(column)) for row, column in np.argwhere(marked)}
    while left:
        start = left.pop()
        group = [start]
        for row, column in group:
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            group.extend(sorted(around))
        yield group
