"""One pass over a master: its defects, levels, noise, profiles and histogram, in bounded memory.

A master is scanned in bands of about 64 rows; no result depends on the rows that are read at once.
A band is cut into cells of 64 columns. From sampled rows, sorted, each cell gets a level and a spread; means of the
pieces of rows and columns in the cell, clipped at five spreads (flats: half of the level), take out what rows, columns,
gradients, glow and vignetting do. What is left is compared with two limits for each cell, and only pixels beyond them
are compared with their neighbours. Bayer sensors have four levels in a cell, and neighbours of the same colour.

61 MP with the planes in memory: 6 ns a pixel (0.35 s) of one core, a third of it in the two loops over every pixel that
are compiled (`ostcal.measure.masters.scan_kernels`). Bands do not need each other, so that threads can share a master.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.estimators import chi_square_bound
from ostcal.measure.limits import DefectLimits
from ostcal.measure.masters.cells import CellGrid, CellStatistics, finite_median, sampled_row_pairs
from ostcal.measure.masters.defect_map import ColumnBands, DefectMap, FlaggedPixels, bad_columns, mean_over_bands
from ostcal.measure.masters.defects import (
    Candidates,
    Defect,
    SampleModel,
    classify,
    distance_needed,
    stuck_is_certain,
    telegraph_bound,
)
from ostcal.measure.masters.histogram import Histogram
from ostcal.measure.masters.scan_kernels import CELL, clipped_sums, excess_of, find_unusual
from ostcal.measure.masters.scan_result import HotPixel, MasterScan, Plane, PlaneReader
from ostcal.row_window import RowWindow

FloatMap = NDArray[np.float32]

FINE = 16
"""Pixels along the side of a fine cell: the shadow of a speck of dust covers a few."""
STRONGEST = 100
HALO = 2
"""Rows beside a band that its pixels are compared with."""
STEP_ROWS = 128
"""Rows read at once: 4.9 MB at 9576 columns."""

_PLANES: tuple[Plane, ...] = ("master", "std", "n_used")
_CLIP_SPREADS = 5.0
_FLAT_CLIP = 0.5
"""Shadows of dust are deeper than five spreads of the response; a dead pixel then moves the mean of 64 by 0.8 %."""
_CANDIDATE_SHARE = 0.75
"""Of the distance from the neighbours that a defect needs: their median and the cell's model are off by a spread."""
_CANDIDATES_AT_ONCE = 1 << 17
_KEPT_SAMPLES = 1 << 20


def scan_master(
    read_rows: PlaneReader,
    shape: tuple[int, int],
    kind: FrameType,
    model: SampleModel,
    *,
    bayer: bool = False,
    limits: DefectLimits | None = None,
    step_rows: int = STEP_ROWS,
    threads: int = 1,
) -> MasterScan:
    """Scan a master once.

    Parameters
    ----------
    read_rows : PlaneReader
        Each thread reads the rows of its part of the master once, in their order.
    shape : (height, width)
    bayer : bool
        Whether colours alternate, so that a pixel's neighbours are two pixels away.
    step_rows, threads : int
        Rows read at once, best a multiple of those stored together, and parts of the master that are scanned at the
        same time. No result depends on them.
    """
    scan = MasterPass(shape, kind, model, bayer=bayer, limits=limits or DefectLimits())
    scan.add_all(read_rows, range(scan.n_bands), step_rows, threads)
    return scan.result()


@dataclass(frozen=True, kw_only=True)
class Band:
    """The planes of a band of rows."""

    index: int
    start: int
    stop: int
    first: int
    """Row of the first row of `with_halo`."""
    with_halo: FloatMap
    """The band in the master, with up to two rows more on each side."""
    std: FloatMap
    n_used: NDArray[np.uint16]

    @property
    def inner(self) -> slice:
        """The band itself in `with_halo`."""
        return slice(self.start - self.first, self.stop - self.first)

    @property
    def master(self) -> FloatMap:
        """The band itself: (stop - start, width)."""
        return self.with_halo[self.inner]


@dataclass(frozen=True, kw_only=True)
class _Background:
    """What is taken from the pixels of a band before they are compared with each other, and their spread then."""

    segments: FloatMap
    """(rows, n_cells): what pieces of rows are above their cell, with those of the halo."""
    columns: FloatMap
    """(padded,): what pieces of columns are above their cell."""
    level: FloatMap
    """(2, padded): levels of the cells, of even and of odd rows."""
    cells: CellStatistics
    spread: FloatMap
    """(colour rows, colour columns, n_cells): of the pixels."""


@dataclass(kw_only=True)
class _BandResult:
    """What a band says beside its rows of the maps."""

    samples: FloatMap
    """For the histogram."""
    n_not_positive: int
    flagged: FlaggedPixels | None = None
    hot: list[HotPixel] = field(default_factory=list)
    n_nan: int = 0


class MasterPass:
    """The state of a scan: the maps and results of its bands, which may come in any order, each once."""

    def __init__(
        self, shape: tuple[int, int], kind: FrameType, model: SampleModel, *, bayer: bool, limits: DefectLimits
    ) -> None:
        self.shape, self.kind, self.model, self.bayer, self.limits = shape, kind, model, bayer, limits
        height, width = shape
        n_bands = max(1, round(height / CELL))
        self.edges = np.array([2 * (i * height // (2 * n_bands)) for i in range(n_bands)] + [height], dtype=np.int64)
        self._grid = CellGrid(width, kind, model, bayer=bayer)
        cells = (n_bands, self._grid.n_cells)
        self._cells, self._std_cells = np.zeros(cells, np.float32), np.zeros(cells, np.float32)
        self._rejected_cells, self._spread_cells = np.zeros(cells, np.float32), np.zeros(cells, np.float32)
        self._kept_cells = np.zeros(cells, np.float64)
        self._fine_cells = np.zeros((4 * n_bands, self._grid.padded // FINE), np.float32)
        self._offsets = np.zeros((n_bands, width), np.float32)
        self._levels = np.zeros((n_bands, width), np.float32)
        self._flagged = np.zeros((n_bands, width), np.uint16)
        self._row_profile = np.zeros(height, np.float32)
        self._results: dict[int, _BandResult] = {}

    @property
    def n_bands(self) -> int:
        """Bands of rows."""
        return len(self.edges) - 1

    @property
    def most_rows(self) -> int:
        """Rows of the highest band, without those beside it."""
        return int(np.diff(self.edges).max())

    def rows_of(self, index: int) -> tuple[int, int]:
        """Return the rows of the master that a band needs, ``(first, last)``: its own and two on each side."""
        return max(0, int(self.edges[index]) - HALO), min(self.shape[0], int(self.edges[index + 1]) + HALO)

    def band(self, index: int, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> Band:
        """Return a band of planes of which the master has the rows of `rows_of`, the others those of the band alone."""
        start, stop = int(self.edges[index]), int(self.edges[index + 1])
        first, _ = self.rows_of(index)
        return Band(index=index, start=start, stop=stop, first=first, with_halo=master, std=std, n_used=n_used)

    def place_buffer(self) -> NDArray[np.int64]:
        """Return room for the places of all pixels of a band, for `add`."""
        return np.empty(self.most_rows * self.shape[1], np.int64)

    def add_all(self, read_rows: PlaneReader, bands: Sequence[int], step_rows: int, threads: int) -> None:
        """Read bands, in ascending order, and add them; threads share them."""
        cuts = [part * len(bands) // threads for part in range(threads + 1)]

        def add_part(part: int) -> None:
            places = self.place_buffer()
            master, std, n_used = (RowWindow(partial(read_rows, name), self.shape[0], step_rows) for name in _PLANES)
            for index in bands[cuts[part] : cuts[part + 1]]:
                own = int(self.edges[index]), int(self.edges[index + 1])
                rows = master.borrowed(*self.rows_of(index))
                self.add(self.band(index, rows, std.borrowed(*own), n_used.borrowed(*own)), places)

        if threads == 1:
            add_part(0)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="ostcal-scan") as pool:
            list(pool.map(add_part, range(threads)))

    def add(self, band: Band, places: NDArray[np.int64]) -> None:
        """Scan a band; threads may do so with different bands at the same time, each with its own places."""
        grid, at = self._grid, band.index
        rows = sampled_row_pairs(band.stop - band.start, self.shape)
        samples = band.master[rows][:, grid.mirrored]
        cells = grid.measure(samples, band.std[rows], band.n_used[rows])
        level = grid.by_parity(cells.level)
        segments, columns = self._patterns(band, level, grid.by_parity(cells.spread))
        row_level = level[rows % 2]
        numbers = grid.in_cells(np.where(np.isfinite(samples), samples, row_level))
        residuals = (numbers - segments[band.inner][rows][:, :, None]).reshape(samples.shape) - row_level - columns
        spread = grid.pixel_spread(residuals)
        self._cells[at] = cells.level.mean(axis=(0, 1))
        self._std_cells[at] = np.sqrt(cells.variance.mean(axis=(0, 1)))
        self._spread_cells[at] = spread.mean(axis=(0, 1))
        self._rejected_cells[at] = cells.lost / self.model.n_frames
        self._kept_cells[at] = cells.kept
        every = max(1, self.shape[0] * self.shape[1] // (_KEPT_SAMPLES * 2))
        kept_rows = band.master[:: max(1, min(every, band.stop - band.start))]
        self._results[at] = _BandResult(
            samples=kept_rows[:, :: max(1, every // CELL)].flatten(),
            n_not_positive=int(np.count_nonzero(band.master <= 0)) if self.kind is FrameType.FLAT else 0,
        )
        # A cell that seems quiet by chance takes the spread of its band.
        spread = np.fmax(np.fmax(spread, 0.8 * finite_median(spread)), cells.noise * 0.5).astype(np.float32)
        background = _Background(segments=segments, columns=columns, level=level, cells=cells, spread=spread)
        where = places[: self._find_unusual(band, background, places)]
        bits = np.zeros(len(where), np.uint8)
        for first in range(0, len(where), _CANDIDATES_AT_ONCE):
            some = slice(first, first + _CANDIDATES_AT_ONCE)
            bits[some] = self._classify(band, background, *np.divmod(where[some], self.shape[1]))
        self._results[at].flagged = FlaggedPixels.of(where, bits, band.std.shape)

    def _patterns(self, band: Band, level: FloatMap, spread: FloatMap) -> tuple[FloatMap, FloatMap]:
        """Return what pieces of rows and of columns are above the level of their cell: ``(segments, columns)``.

        Segments are (rows, n_cells) float32, with those of the halo, columns (padded,) float32.
        """
        reach = _CLIP_SPREADS * spread
        if self.kind is FrameType.FLAT:
            np.fmax(reach, _FLAT_CLIP * np.abs(level), out=reach)
        grid, width = self._grid, self.shape[1]
        n_rows = band.stop - band.start
        cuts = np.array([i * n_rows // 4 for i in range(5)])
        means = np.empty((len(band.with_halo), grid.n_cells), np.float32)
        sums = np.empty((4, grid.padded), np.float32)
        low, high = level - reach, level + reach
        clipped_sums(band.with_halo, grid.mirrored, low, high, level, cuts + band.inner.start, means, sums)
        segments = means - grid.in_cells(level).mean(axis=2)[np.arange(len(means)) % 2]
        heights = np.maximum(np.diff(cuts), 1)[:, None]
        self._fine_cells[4 * band.index : 4 * band.index + 4] = (sums / heights).reshape(4, -1, FINE).mean(axis=2)
        odd = n_rows // 2
        usual = ((n_rows - odd) * level[0] + odd * level[1]) / n_rows
        across = np.repeat(segments[band.inner].mean(axis=0), CELL)
        columns = (sums.sum(axis=0, dtype=np.float64) / n_rows - usual - across).astype(np.float32)
        weights = np.full(grid.n_cells, CELL, dtype=np.float64)
        weights[-1] = width - (grid.n_cells - 1) * CELL  # the last piece counts as far as it is on the sensor
        row_means = np.average(means[band.inner], axis=1, weights=weights)
        self._row_profile[band.start : band.stop] = row_means.astype(np.float32)
        self._offsets[band.index] = (columns + across)[:width] - across[:width]
        self._levels[band.index] = (usual + across + columns)[:width]
        return segments, columns

    def _find_unusual(self, band: Band, background: _Background, places: NDArray[np.int64]) -> int:
        """List the pixels of the band that a rule might concern; return how many they are."""
        n, cells, by_parity = self.model.n_frames, background.cells, self._grid.by_parity
        far = _CANDIDATE_SHARE * distance_needed(cells.noise, background.spread, n, self.limits)
        middle = background.level + background.columns
        reach = by_parity(far.astype(np.float32))
        loudest, quietest = np.full((2, *middle.shape), [[[np.inf]], [[-np.inf]]], dtype=np.float32)
        if n >= 3:
            factor = max(self.limits.noisy_factor**2, float(chi_square_bound(n - 1, self.limits.noisy_sigma)))
            loudest = by_parity(np.sqrt(cells.variance * np.float32(factor)))
            certain = stuck_is_certain(cells.variance, n, self.model.step)
            if self.kind is not FrameType.FLAT and certain.any():
                quietest = by_parity(np.where(certain, 1e-6 * np.sqrt(cells.variance), -1).astype(np.float32))
        fewest = n - telegraph_bound(cells.lost, n, self.limits)
        fewest = np.repeat(np.maximum(fewest, 0) + 1, CELL).astype(np.uint16)
        saturates = cells.level.max() + 3 * cells.spread.max() >= self.model.saturation
        ceiling = np.float32(self.model.saturation if saturates else np.inf)
        return find_unusual(
            band.master, band.std, band.n_used, background.segments[band.inner],
            middle - reach, middle + reach, quietest, loudest, fewest, ceiling, places,
        )  # fmt: skip

    def _classify(
        self, band: Band, background: _Background, row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return the bits of candidates, at (n,) rows of the band and columns, and keep what else they tell."""
        cells, cell = background.cells, column // CELL
        value = band.master[row, column]
        excess = np.empty(len(row), np.float32)
        excess_of(
            band.with_halo, background.segments, background.columns, background.level,
            2 if self.bayer else 1, row + band.inner.start, column, excess,
        )  # fmt: skip
        colour = (row % cells.level.shape[0], column % cells.level.shape[1], cell)
        pixels = Candidates(
            value=value,
            excess=excess,
            std=band.std[row, column],
            n_used=band.n_used[row, column].astype(np.int64),
            above=value - cells.level[colour],
            noise=cells.noise[colour],
            spread=background.spread[colour],
            sample_variance=cells.variance[colour],
            lost=cells.lost[cell],
        )
        bits = classify(self.kind, pixels, self.model, self.limits)
        result = self._results[band.index]
        result.n_nan += int(np.count_nonzero(~np.isfinite(value)))
        flagged = bits & np.uint8(Defect.HOT | Defect.COLD | Defect.DEAD) != 0
        np.add.at(self._flagged[band.index], column[flagged], 1)
        hot = np.flatnonzero(bits & np.uint8(Defect.HOT))
        result.hot += [
            HotPixel(
                row=int(row[at]) + band.start, column=int(column[at]), value=float(value[at]), excess=float(excess[at])
            )
            for at in hot[np.argsort(-excess[hot], kind="stable")[:STRONGEST]]
        ]
        return bits

    def result(self) -> MasterScan:
        """Return the scan, when all bands were added."""
        width = self.shape[1]
        least = np.repeat(self.limits.column_noise * self._spread_cells, CELL, axis=1)[:, :width]
        if self.kind is FrameType.FLAT:
            np.fmax(least, self.limits.column_response * np.abs(self._levels), out=least)
        bands = ColumnBands(edges=self.edges, offsets=self._offsets, flagged=self._flagged, least=least)
        columns = bad_columns(bands, 2 if self.bayer else 1, self.limits)
        variance = np.square(self._std_cells.astype(np.float64))
        results = [self._results[index] for index in range(self.n_bands)]
        flagged = [band.flagged for band in results if band.flagged is not None]
        defects = DefectMap(shape=self.shape, edges=self.edges, bands=flagged, columns=columns)
        ordered = np.concatenate([band.samples for band in results])
        ordered.sort()
        ordered = ordered[: np.searchsorted(ordered, np.float32(np.inf))]  # a float64 would make a copy
        n = len(ordered)
        known = self.model.n_frames > 1
        hot = [pixel for band in results for pixel in band.hot]
        hot.sort(key=lambda pixel: (-pixel.excess, pixel.row, pixel.column))
        return MasterScan(
            kind=self.kind,
            shape=self.shape,
            model=self.model,
            bayer=self.bayer,
            defects=defects,
            counts=defects.counts(),
            columns=tuple(columns),
            strongest=tuple(hot[:STRONGEST]),
            edges=self.edges,
            cells=self._cells,
            std_cells=self._std_cells,
            rejected_cells=self._rejected_cells,
            fine_cells=self._fine_cells[:, : -(-width // FINE)],
            row_profile=self._row_profile,
            column_profile=mean_over_bands(self._levels, np.diff(self.edges)).astype(np.float32),
            histogram=Histogram.of(ordered, sample_step=self.model.step, n_frames=self.model.n_frames),
            median=float(ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2) if n else float("nan"),
            pixel_noise=finite_median(self._spread_cells),
            sample_noise=float(np.sqrt(np.mean(variance))) if known else 0.0,
            mean_noise=float(np.sqrt(np.mean(variance / np.maximum(self._kept_cells, 1)))) if known else 0.0,
            n_nan=sum(band.n_nan for band in results),
            n_not_positive=sum(band.n_not_positive for band in results),
        )
