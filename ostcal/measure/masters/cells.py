"""Level, spread and noise of the cells of a band of rows, from sampled rows of it.

A band is cut into cells of `CELL` columns; of a Bayer sensor each cell has four colours. Rows are *padded* to whole
cells with the columns before the last one, in reverse order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.estimators import P16, P84, chi_square_bound, chi_square_quantile
from ostcal.measure.masters.defects import SampleModel
from ostcal.measure.masters.scan_kernels import CELL

FloatMap = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CellStatistics:
    """What the cells of a band say: (colour rows, colour columns, n_cells), 1 x 1 colours or 2 x 2."""

    level: FloatMap
    spread: FloatMap
    variance: FloatMap
    """Of a sample."""
    noise: FloatMap
    """Of a pixel of the master."""
    lost: NDArray[np.float64]
    """Samples that a pixel lost on the average: (n_cells,)."""
    kept: NDArray[np.float64]
    """Samples kept of a pixel: (n_cells,)."""


class CellGrid:
    """The cells of a band of `width` columns: how rows are cut into them, and what is measured of each."""

    def __init__(self, width: int, kind: FrameType, model: SampleModel, *, bayer: bool) -> None:
        self.n_cells = -(-width // CELL)
        self.padded = self.n_cells * CELL
        period = max(1, 2 * (width - 1))
        self.mirrored = np.abs((np.arange(self.padded) + width - 1) % period - (width - 1))
        """(padded,): the column that each column of padded rows is a copy of."""
        if width == 1:
            self.mirrored[:] = 0
        self._kind, self._model, self._bayer = kind, model, bayer
        self._least_spread = model.step / np.sqrt(12 * model.n_frames)
        """Of the rounding of samples."""

    def in_cells(self, rows: FloatMap) -> FloatMap:
        """Cut padded rows into cells: (rows, n_cells, CELL)."""
        return rows.reshape(len(rows), self.n_cells, CELL)

    def by_parity(self, values: FloatMap) -> FloatMap:
        """Return the values of the cells for each pixel of an even and of an odd row: (2, padded)."""
        across = np.repeat(values, CELL // values.shape[1], axis=2)
        if len(values) == 1:
            return np.repeat(across[0], 2, axis=0)
        result = np.empty((2, self.padded), np.float32)
        result[:, 0::2], result[:, 1::2] = across[:, 0], across[:, 1]
        return result

    def measure(self, samples: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> CellStatistics:
        """Measure level, spread and noise of each cell.

        The variance of a sample is the mean square of its deviations, the largest of them cut. The median alone would
        do but for quiet sensors: at 0.5 ADU the deviations of five frames take few values.

        Parameters
        ----------
        samples : (rows, padded) float32
            Sampled rows of the master, pairs of an even and an odd one.
        std, n_used : (rows, width) float32, uint16
            The same rows of the other planes.
        """
        degrees = max(1, self._model.n_frames - 1)
        ordered = self._by_cell(std[:, self.mirrored])
        squares = np.square(ordered, out=ordered)
        floor = np.float32(self._model.step**2 / 12)
        typical = np.fmax(_quantiles(squares, (0.5,))[0] / chi_square_quantile(0.0, degrees), floor)
        np.minimum(squares, (typical * chi_square_bound(degrees, 3.3))[..., None].astype(np.float32), out=squares)
        n = np.maximum(np.count_nonzero(squares == squares, axis=3), 1)
        mean = np.nansum(squares, axis=3, dtype=np.float64) / n
        variance = np.asarray(np.maximum(mean, floor), dtype=np.float32)
        used = n_used.astype(np.float64)[:, self.mirrored]
        kept = used.reshape(-1, self.n_cells, CELL).mean(axis=(0, 2))
        noise = np.sqrt(variance / np.maximum(kept, 1)).astype(np.float32)
        level, spread = self._level_and_spread(samples)
        spread = np.fmax(spread, np.maximum(noise, self._least_spread)).astype(np.float32)
        lost = self._model.n_frames - kept
        return CellStatistics(level=level, spread=spread, variance=variance, noise=noise, lost=lost, kept=kept)

    def pixel_spread(self, residuals: FloatMap) -> FloatMap:
        """Return the spread of each cell from sampled rows, (rows, padded), less the patterns of rows and columns."""
        _, spread = self._level_and_spread(residuals)
        return np.asarray(np.fmax(spread, self._least_spread), dtype=np.float32)

    def _by_cell(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Sort sampled rows, pairs of them, into colours and cells: (colours, colours, n_cells, samples)."""
        if not self._bayer:
            whole = samples.reshape(-1, self.n_cells, CELL).transpose(1, 0, 2).reshape(1, 1, self.n_cells, -1)
            return np.sort(whole, axis=3)
        colours = samples.reshape(-1, 2, self.n_cells, CELL // 2, 2).transpose(1, 4, 2, 0, 3)
        return np.sort(colours.reshape(2, 2, self.n_cells, -1), axis=3)

    def _level_and_spread(self, samples: FloatMap) -> tuple[FloatMap, FloatMap]:
        """Return the median of each cell, and half of the distance of its 16 % and 84 % quantiles.

        Where more than 16 % of the pixels of a dark are hot the upper side is theirs: then, twice as wide as the lower
        one, it does not count. The edge of a spectrum in a flat looks alike and is no fault.
        """
        level, low, high = _quantiles(self._by_cell(samples), (0.5, P16, P84))
        lower, upper = level - low, high - level
        hot = (upper > 2 * lower) & (lower > 0) & (self._kind is not FrameType.FLAT)
        return level, np.asarray(np.where(hot, lower, (lower + upper) / 2))


def sampled_row_pairs(n_rows: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the rows of a band that its cells are measured on: pairs of an even and an odd one, spread evenly.

    All of a small sensor; an eighth of 61 MP, which is 512 samples for a cell and 128 for a colour of it.
    """
    pairs = max(1, n_rows // 2)
    wanted = pairs if shape[0] * shape[1] <= 1 << 22 else max(1, min(pairs, 4))
    first = 2 * np.array([(2 * i + 1) * pairs // (2 * wanted) for i in range(wanted)], dtype=np.int64)
    return np.minimum(np.stack([first, first + 1], axis=1).ravel(), n_rows - 1)


def finite_median(values: NDArray[np.floating]) -> float:
    """Return the median of the finite values; 0 without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _quantiles(ordered: NDArray[Any], shares: tuple[float, ...]) -> list[FloatMap]:
    """Return quantiles along the last axis of sorted values, NaN at the end left out; NaN if all are."""
    n = ordered.shape[-1]
    if not np.isnan(ordered[..., -1]).any():
        return [np.array(ordered[..., min(n - 1, int(share * n))]) for share in shares]
    counts = n - np.count_nonzero(np.isnan(ordered), axis=-1)
    found = []
    for share in shares:
        at = np.clip((share * counts).astype(np.int64), 0, n - 1)
        found.append(np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0])
    return found
