"""One pass over a master: its defects, levels, noise, profiles and histogram, in bounded memory.

A master is gone through in bands of about 64 rows, whatever rows are read at once, so that no result depends on them.
A band is cut into cells of 64 columns. From sampled rows, sorted, each cell gets a level and a spread; means of the
pieces of rows and columns in the cell, clipped at five spreads (flats: half of the level), take out what rows, columns,
gradients, glow and vignetting do. What is left is compared with two limits for each cell, and only pixels beyond them
are compared with their neighbours. Bayer sensors have four levels in a cell, and neighbours of the same colour.

61 MP with the planes in memory: 6 ns a pixel (0.35 s) of one core, a third of it in the two loops over every pixel that
are compiled (`ostcal.measure.scan_kernels`). Bands do not need each other, so that threads can share a master.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.defects import (
    DEFAULT_LIMITS,
    BadColumn,
    Candidates,
    ColumnBands,
    Defect,
    DefectLimits,
    DefectMap,
    FlaggedPixels,
    NoiseModel,
    bad_columns,
    chi_square_bound,
    chi_square_median,
    classify,
    distance_needed,
    mean_over_bands,
    stuck_is_certain,
    telegraph_bound,
)
from ostcal.measure.scan_kernels import CELL, clipped_sums, excess_of, find_unusual
from ostcal.row_window import RowWindow

Plane = Literal["master", "std", "n_used"]
PlaneReader = Callable[[Plane, int, int], NDArray[Any]]
"""``(plane, start, stop) -> (stop - start, width)``: float32 for master and std, uint16 for n_used."""

FloatMap = NDArray[np.float32]

_Places = tuple[NDArray[np.int64], NDArray[np.int64]]

FINE = 16
"""Pixels along the side of a fine cell: the shadow of a speck of dust covers a few."""
HISTOGRAM_BINS = 256
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
_P16, _P84 = 0.1587, 0.8413


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of sampled pixels in equal bins."""

    counts: NDArray[np.int64]
    start: float
    step: float
    below: int
    above: int
    """Sampled pixels outside of the bins."""


@dataclass(frozen=True, kw_only=True)
class HotPixel:
    """A pixel far above its neighbours."""

    row: int
    column: int
    value: float
    excess: float
    """Above the median of its neighbours."""

    def as_dict(self) -> Mapping[str, float]:
        """Give it as JSON values."""
        return {"row": self.row, "column": self.column, "value": self.value, "excess": self.excess}


@dataclass(frozen=True, kw_only=True, eq=False)
class MasterScan:
    """What one pass over a master says; values are in its unit, ADU or, for a flat, its level."""

    kind: FrameType
    shape: tuple[int, int]
    model: NoiseModel
    bayer: bool
    defects: DefectMap
    counts: Mapping[Defect, int]
    """Pixels with each bit."""
    columns: tuple[BadColumn, ...]
    strongest: tuple[HotPixel, ...]
    """The hot pixels furthest above their neighbours, the hottest first."""
    edges: NDArray[np.int64]
    """(n_bands + 1,): first row of each row of cells, and the height."""
    cells: FloatMap
    """(n_bands, n_cells): level, the median of sampled pixels; of a Bayer sensor the mean of its four colours."""
    std_cells: FloatMap
    """(n_bands, n_cells): standard deviation of a sample."""
    rejected_cells: FloatMap
    """(n_bands, n_cells): share of the samples that was rejected, from sampled rows."""
    fine_cells: FloatMap
    """(4 n_bands, about width / 16): clipped means of 16 x 16 pixels."""
    row_profile: FloatMap
    """(height,): clipped means of the rows."""
    column_profile: FloatMap
    """(width,): clipped means of the columns."""
    histogram: Histogram
    median: float
    pixel_noise: float
    """Spread from pixel to pixel, rows, columns and everything larger taken out: noise and fixed pattern of pixels."""
    sample_noise: float
    """Standard deviation of a sample, root of the mean square over the cells; 0 where the master has one frame."""
    mean_noise: float
    """Of a pixel of the master as its samples have it: `sample_noise` over the root of the samples kept."""
    n_nan: int
    n_not_positive: int
    """Pixels at or below zero."""

    @property
    def dq(self) -> NDArray[np.uint8]:
        """The whole plane of defects, (height, width): a byte for each pixel."""
        return self.defects.rows(0, self.shape[0])

    @property
    def n_pixels(self) -> int:
        """Pixels of the master."""
        return self.shape[0] * self.shape[1]

    def share(self, defect: Defect) -> float:
        """Give the share of the pixels that have a defect."""
        return self.counts[defect] / self.n_pixels


def scan_master(
    read_rows: PlaneReader,
    shape: tuple[int, int],
    kind: FrameType,
    model: NoiseModel,
    *,
    bayer: bool = False,
    limits: DefectLimits = DEFAULT_LIMITS,
    step_rows: int = STEP_ROWS,
    threads: int = 1,
) -> MasterScan:
    """Go over a master once.

    Parameters
    ----------
    read_rows : callable (plane, start, stop) -> (stop - start, width)
        Planes ``master`` and ``std`` (of the kept samples), float32, and ``n_used``, uint16. Each thread reads the rows
        of its part of the master once, in their order.
    shape : (height, width)
    kind : FrameType
        `BIAS`, `DARK` or `FLAT`.
    model : NoiseModel
        Number of frames, and what else is known.
    bayer : bool
        Whether colours alternate, so that a pixel's neighbours are two pixels away.
    limits : DefectLimits
    step_rows : int
        Rows read at once; best a multiple of those stored together. No result depends on it.
    threads : int
        Parts of the master that are gone through at the same time. No result depends on it.
    """
    scan = MasterPass(shape=shape, kind=kind, model=model, bayer=bayer, limits=limits)
    scan.go_through(read_rows, range(scan.n_bands), step_rows, threads)
    return scan.result()


@dataclass(frozen=True, kw_only=True)
class Band:
    """The planes of a band of rows; the master has up to two rows more on each side."""

    index: int
    start: int
    stop: int
    first: int
    """Row of the first row of `master`."""
    master: FloatMap
    std: FloatMap
    n_used: NDArray[np.uint16]

    @property
    def inner(self) -> slice:
        """The band itself in `master`."""
        return slice(self.start - self.first, self.stop - self.first)


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """What a band's cells say: arrays (colour rows, colour columns, n_cells), 1 x 1 colours or 2 x 2."""

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


@dataclass(frozen=True, kw_only=True)
class _Even:
    """What is taken from the pixels of a band before they are compared with each other, and what they are then."""

    segments: FloatMap
    """(rows, n_cells): what pieces of rows are above their cell, with those of the halo."""
    columns: FloatMap
    """(padded,): what pieces of columns are above their cell."""
    level: FloatMap
    """(2, padded): levels of the cells, of even and of odd rows."""
    cells: _Cells
    spread: FloatMap
    """(colour rows, colour columns, n_cells): of the pixels."""


@dataclass(kw_only=True)
class _Left:
    """What a band leaves beside its rows of the maps."""

    samples: FloatMap = field(default_factory=lambda: np.empty(0, np.float32))
    """For the histogram."""
    flagged: FlaggedPixels | None = None
    hot: list[HotPixel] = field(default_factory=list)
    n_nan: int = 0
    n_not_positive: int = 0


@dataclass(kw_only=True)
class MasterPass:
    """The state of a pass: what the bands left. Bands may come in any order, each once."""

    shape: tuple[int, int]
    kind: FrameType
    model: NoiseModel
    bayer: bool
    limits: DefectLimits
    left: dict[int, _Left] = field(default_factory=dict)

    def __post_init__(self) -> None:
        height, width = self.shape
        n_bands = max(1, round(height / CELL))
        self.edges = np.array([2 * (i * height // (2 * n_bands)) for i in range(n_bands)] + [height], dtype=np.int64)
        self.n_cells = -(-width // CELL)
        self.padded = self.n_cells * CELL
        period = max(1, 2 * (width - 1))
        self.mirrored = np.abs((np.arange(self.padded) + width - 1) % period - (width - 1))
        if width == 1:
            self.mirrored[:] = 0
        cells = (n_bands, self.n_cells)
        self.cells, self.std_cells = np.zeros(cells, np.float32), np.zeros(cells, np.float32)
        self.rejected_cells, self.spread_cells = np.zeros(cells, np.float32), np.zeros(cells, np.float32)
        self.kept_cells = np.zeros(cells, np.float64)
        self.fine = np.zeros((4 * n_bands, self.padded // FINE), np.float32)
        self.offsets = np.zeros((n_bands, width), np.float32)
        self.levels = np.zeros((n_bands, width), np.float32)
        self.flagged = np.zeros((n_bands, width), np.uint16)
        self.row_profile = np.zeros(height, np.float32)

    @property
    def n_bands(self) -> int:
        """Bands of rows."""
        return len(self.edges) - 1

    @property
    def most_rows(self) -> int:
        """Rows of the highest band, without those beside it."""
        return int(np.diff(self.edges).max())

    def rows_of(self, index: int) -> tuple[int, int]:
        """Give the rows of the master that a band needs, ``(first, last)``: its own and two on each side."""
        return max(0, int(self.edges[index]) - HALO), min(self.shape[0], int(self.edges[index + 1]) + HALO)

    def band(self, index: int, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> Band:
        """Give a band of planes of which the master has the rows of `rows_of`, the others those of the band alone."""
        start, stop = int(self.edges[index]), int(self.edges[index + 1])
        first, _ = self.rows_of(index)
        return Band(index=index, start=start, stop=stop, first=first, master=master, std=std, n_used=n_used)

    def places(self) -> NDArray[np.int64]:
        """Give room for the places of all pixels of a band, for `add`."""
        return np.empty(self.most_rows * self.shape[1], np.int64)

    def go_through(self, read_rows: PlaneReader, bands: Sequence[int], step_rows: int, threads: int) -> None:
        """Read bands, in ascending order, and add them; threads share them."""
        cuts = [part * len(bands) // threads for part in range(threads + 1)]

        def part_of(part: int) -> None:
            places = self.places()
            for band in self._read_bands(read_rows, bands[cuts[part] : cuts[part + 1]], step_rows):
                self.add(band, places)

        if threads == 1:
            part_of(0)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="ostcal-scan") as pool:
            list(pool.map(part_of, range(threads)))

    def _read_bands(self, read_rows: PlaneReader, wanted: Iterable[int], step_rows: int) -> Iterator[Band]:
        master, std, n_used = (RowWindow(partial(read_rows, plane), self.shape[0], step_rows) for plane in _PLANES)
        for index in wanted:
            own = int(self.edges[index]), int(self.edges[index + 1])
            yield self.band(index, master.borrowed(*self.rows_of(index)), std.borrowed(*own), n_used.borrowed(*own))

    # ---- a band ----

    def add(self, band: Band, places: NDArray[np.int64]) -> None:
        """Go through a band; threads may do so with different bands at the same time, each with its own places."""
        self.left[band.index] = _Left()
        sampled = _sampled_rows(band.stop - band.start, self.shape)
        samples = band.master[band.inner][sampled][:, self.mirrored]
        cells = self._measure(band, samples, sampled)
        level = self._by_parity(cells.level)
        segments, columns = self._patterns(band, level, self._by_parity(cells.spread))
        residuals = self._residuals(samples, level[sampled % 2], segments[band.inner][sampled]) - columns
        spread = self._pixel_spread(residuals, cells)
        self._keep(band, cells, spread)
        spread = self._surely(spread, cells)
        even = _Even(segments=segments, columns=columns, level=level, cells=cells, spread=spread)
        where = places[: self._find_unusual(band, even, places)]
        bits = np.zeros(len(where), np.uint8)
        for first in range(0, len(where), _CANDIDATES_AT_ONCE):
            some = slice(first, first + _CANDIDATES_AT_ONCE)
            row, column = np.divmod(where[some], self.shape[1])
            bits[some] = self._judge(band, (row, column), self._candidates(band, (row, column), even))
        self.left[band.index].flagged = FlaggedPixels.of(where, bits, band.std.shape)

    def _in_cells(self, rows: FloatMap) -> FloatMap:
        return rows.reshape(len(rows), self.n_cells, CELL)

    def _residuals(self, samples: FloatMap, level: FloatMap, segments: FloatMap) -> FloatMap:
        """Give what sampled rows are above the level of their cells and what pieces of them have in common."""
        numbers = np.where(np.isfinite(samples), samples, level)
        return (self._in_cells(numbers) - segments[:, :, None]).reshape(samples.shape) - level

    def _by_cell(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Sort sampled rows, pairs of them, into colours and cells: (colours, colours, n_cells, samples)."""
        if not self.bayer:
            whole = samples.reshape(-1, self.n_cells, CELL).transpose(1, 0, 2).reshape(1, 1, self.n_cells, -1)
            return np.sort(whole, axis=3)
        colours = samples.reshape(-1, 2, self.n_cells, CELL // 2, 2).transpose(1, 4, 2, 0, 3)
        return np.sort(colours.reshape(2, 2, self.n_cells, -1), axis=3)

    def _by_parity(self, values: FloatMap) -> FloatMap:
        """Give a cell's values for each pixel of an even and of an odd row: (2, padded)."""
        colours = values.shape[0]
        across = np.repeat(values, CELL // values.shape[1], axis=2)
        if colours == 1:
            return np.repeat(across[0], 2, axis=0)
        result = np.empty((2, self.padded), np.float32)
        result[:, 0::2], result[:, 1::2] = across[:, 0], across[:, 1]
        return result

    def _measure(self, band: Band, samples: FloatMap, sampled: NDArray[np.int64]) -> _Cells:
        """Measure level, spread and noise of each cell on sampled rows."""
        variance = self._sample_variance(band.std[sampled])
        used = band.n_used[sampled].astype(np.float64)[:, self.mirrored]
        kept = used.reshape(-1, self.n_cells, CELL).mean(axis=(0, 2))
        noise = np.sqrt(variance / np.maximum(kept, 1)).astype(np.float32)
        quantiles = _quantiles(self._by_cell(samples), (0.5, _P16, _P84))
        least = np.maximum(noise, self.model.step / np.sqrt(12 * self.model.n_frames))
        spread = np.fmax(self._spread(quantiles), least).astype(np.float32)
        lost = self.model.n_frames - kept
        return _Cells(level=quantiles[0], spread=spread, variance=variance, noise=noise, lost=lost, kept=kept)

    def _sample_variance(self, std: FloatMap) -> FloatMap:
        """Give the variance of a sample in each cell: the mean square of its deviations, the largest of them cut.

        The median alone would do but for quiet sensors: at 0.5 ADU the deviations of five frames take few values.
        """
        degrees = max(1, self.model.n_frames - 1)
        ordered = self._by_cell(std[:, self.mirrored])
        squares = np.square(ordered, out=ordered)
        floor = np.float32(self.model.step**2 / 12)
        typical = np.fmax(_quantiles(squares, (0.5,))[0] / chi_square_median(degrees), floor)
        np.minimum(squares, (typical * chi_square_bound(degrees, 3.3))[..., None].astype(np.float32), out=squares)
        n = np.maximum(np.count_nonzero(squares == squares, axis=3), 1)
        mean = np.nansum(squares, axis=3, dtype=np.float64) / n
        return np.asarray(np.maximum(mean, floor), dtype=np.float32)

    def _patterns(self, band: Band, level: FloatMap, spread: FloatMap) -> tuple[FloatMap, FloatMap]:
        """Measure what pieces of rows and of columns are above the level of their cell.

        Returns
        -------
        ndarray, (rows, n_cells) float32
        ndarray, (padded,) float32
        """
        reach = _CLIP_SPREADS * spread
        if self.kind is FrameType.FLAT:
            np.fmax(reach, _FLAT_CLIP * np.abs(level), out=reach)
        n_rows = band.stop - band.start
        cuts = np.array([i * n_rows // 4 for i in range(5)])
        means = np.empty((len(band.master), self.n_cells), np.float32)
        sums = np.empty((4, self.padded), np.float32)
        low, high = level - reach, level + reach
        clipped_sums(band.master, self.mirrored, low, high, level, cuts + band.inner.start, means, sums)
        segments = means - self._in_cells(level).mean(axis=2)[np.arange(len(means)) % 2]
        heights = np.maximum(np.diff(cuts), 1)[:, None]
        self.fine[4 * band.index : 4 * band.index + 4] = (sums / heights).reshape(4, -1, FINE).mean(axis=2)
        odd = n_rows // 2
        usual = ((n_rows - odd) * level[0] + odd * level[1]) / n_rows
        across = np.repeat(segments[band.inner].mean(axis=0), CELL)
        columns = (sums.sum(axis=0, dtype=np.float64) / n_rows - usual - across).astype(np.float32)
        self.row_profile[band.start : band.stop] = self._row_means(means[band.inner])
        self.offsets[band.index] = (columns + across)[: self.shape[1]] - across[: self.shape[1]]
        self.levels[band.index] = (usual + across + columns)[: self.shape[1]]
        return segments, columns

    def _row_means(self, means: FloatMap) -> FloatMap:
        """Average pieces of rows; the last piece counts as far as it is on the sensor."""
        weights = np.full(self.n_cells, CELL, dtype=np.float64)
        weights[-1] = self.shape[1] - (self.n_cells - 1) * CELL
        return np.average(means, axis=1, weights=weights).astype(np.float32)

    def _pixel_spread(self, residuals: FloatMap, cells: _Cells) -> FloatMap:
        """Give the spread of each cell without its patterns."""
        spread = self._spread(_quantiles(self._by_cell(residuals), (0.5, _P16, _P84)))
        return np.asarray(np.fmax(spread, self.model.step / np.sqrt(12 * self.model.n_frames)), dtype=np.float32)

    def _spread(self, quantiles: list[FloatMap]) -> FloatMap:
        """Give a spread from median, 16 % and 84 %.

        Where more than 16 % of the pixels of a dark are hot the upper side is theirs: then, twice as wide as the lower
        one, it does not count. The edge of a spectrum in a flat looks alike and is no fault.
        """
        lower, upper = quantiles[0] - quantiles[1], quantiles[2] - quantiles[0]
        hot = (upper > 2 * lower) & (lower > 0) & (self.kind is not FrameType.FLAT)
        return np.asarray(np.where(hot, lower, (lower + upper) / 2))

    def _surely(self, spread: FloatMap, cells: _Cells) -> FloatMap:
        """Give spreads to measure defects in: a cell that seems quiet by chance takes that of its band."""
        return np.asarray(np.fmax(np.fmax(spread, 0.8 * _finite_median(spread)), cells.noise * 0.5), dtype=np.float32)

    def _keep(self, band: Band, cells: _Cells, spread: FloatMap) -> None:
        """Keep what the cells of the band say, and samples for the histogram."""
        at = band.index
        self.cells[at] = cells.level.mean(axis=(0, 1))
        self.std_cells[at] = np.sqrt(cells.variance.mean(axis=(0, 1)))
        self.spread_cells[at] = spread.mean(axis=(0, 1))
        self.rejected_cells[at] = cells.lost / self.model.n_frames
        self.kept_cells[at] = cells.kept
        every = max(1, self.shape[0] * self.shape[1] // (_KEPT_SAMPLES * 2))
        rows = band.master[band.inner][:: max(1, min(every, band.stop - band.start))]
        left = self.left[at]
        left.samples = rows[:, :: max(1, every // CELL)].flatten()
        if self.kind is FrameType.FLAT:
            left.n_not_positive = int(np.count_nonzero(band.master[band.inner] <= 0))

    def _find_unusual(self, band: Band, even: _Even, places: NDArray[np.int64]) -> int:
        """List the pixels of the band that a rule might concern; gives how many they are."""
        n, cells = self.model.n_frames, even.cells
        far = _CANDIDATE_SHARE * distance_needed(cells.noise, even.spread, n, self.limits)
        middle = even.level + even.columns
        reach = self._by_parity(far.astype(np.float32))
        loudest, quietest = self._std_limits(cells)
        fewest = n - telegraph_bound(cells.lost, n, self.limits)
        fewest = np.repeat(np.maximum(fewest, 0) + 1, CELL).astype(np.uint16)
        saturates = cells.level.max() + 3 * cells.spread.max() >= self.model.saturation
        ceiling = np.float32(self.model.saturation if saturates else np.inf)
        return find_unusual(  # type: ignore[no-any-return]
            band.master[band.inner], band.std, band.n_used, even.segments[band.inner],
            middle - reach, middle + reach, quietest, loudest, fewest, ceiling, places,
        )  # fmt: skip

    def _std_limits(self, cells: _Cells) -> tuple[FloatMap, FloatMap]:
        """Give between which deviations a pixel is ordinary; infinite where that cannot be said."""
        n = self.model.n_frames
        loudest, quietest = np.full((2, 2, self.padded), [[[np.inf]], [[-np.inf]]], dtype=np.float32)
        if n < 3:
            return loudest, quietest
        factor = max(self.limits.noisy_factor**2, float(chi_square_bound(n - 1, self.limits.noisy_sigma)))
        loudest = self._by_parity(np.sqrt(cells.variance * np.float32(factor)))
        if self.kind is FrameType.FLAT:
            return loudest, quietest
        certain = stuck_is_certain(cells.variance, n, self.model.step)
        if certain.any():
            smallest = np.where(certain, 1e-6 * np.sqrt(cells.variance), -1)
            quietest = self._by_parity(smallest.astype(np.float32))
        return loudest, quietest

    # ---- candidates ----

    def _candidates(self, band: Band, where: _Places, even: _Even) -> Candidates:
        """Gather what is known of some pixels; `where` is their rows in the band and their columns."""
        row, column = where
        cells, cell = even.cells, column // CELL
        value = band.master[band.inner][row, column]
        excess = np.empty(len(row), np.float32)
        distance = 2 if self.bayer else 1
        in_rows = row + band.inner.start
        excess_of(band.master, even.segments, even.columns, even.level, distance, in_rows, column, excess)
        colour = (row % cells.level.shape[0], column % cells.level.shape[1], cell)
        return Candidates(
            value=value,
            excess=excess,
            std=band.std[row, column],
            n_used=band.n_used[row, column].astype(np.int64),
            above=value - cells.level[colour],
            noise=cells.noise[colour],
            spread=even.spread[colour],
            sample_variance=cells.variance[colour],
            lost=cells.lost[cell],
        )

    def _judge(self, band: Band, where: _Places, pixels: Candidates) -> NDArray[np.uint8]:
        """Give the bits of candidates, and keep what else they tell."""
        row, column = where
        bits = classify(self.kind, pixels, self.model, self.limits)
        left = self.left[band.index]
        left.n_nan += int(np.count_nonzero(~np.isfinite(pixels.value)))
        flagged = bits & np.uint8(Defect.HOT | Defect.COLD | Defect.DEAD) != 0
        np.add.at(self.flagged[band.index], column[flagged], 1)
        hot = np.flatnonzero(bits & np.uint8(Defect.HOT))
        for at in hot[np.argsort(-pixels.excess[hot], kind="stable")[:STRONGEST]]:
            place = int(row[at]) + band.start, int(column[at])
            excess, value = float(pixels.excess[at]), float(pixels.value[at])
            left.hot.append(HotPixel(row=place[0], column=place[1], value=value, excess=excess))
        return bits

    # ---- the end ----

    def result(self) -> MasterScan:
        """Give the scan, when all bands were added."""
        width = self.shape[1]
        least = np.repeat(self.limits.column_noise * self.spread_cells, CELL, axis=1)[:, :width]
        if self.kind is FrameType.FLAT:
            np.fmax(least, self.limits.column_response * np.abs(self.levels), out=least)
        bands = ColumnBands(edges=self.edges, offsets=self.offsets, flagged=self.flagged, least=least)
        columns = bad_columns(bands, 2 if self.bayer else 1, self.limits)
        variance = np.square(self.std_cells.astype(np.float64))
        left = [self.left[index] for index in range(len(self.edges) - 1)]
        flagged = [band.flagged for band in left if band.flagged is not None]
        defects = DefectMap(shape=self.shape, edges=self.edges, bands=flagged, columns=columns)
        ordered = np.concatenate([band.samples for band in left])
        ordered.sort()
        ordered = ordered[: np.searchsorted(ordered, np.float32(np.inf))]  # a float64 would make a copy
        known = self.model.n_frames > 1
        hot = [pixel for band in left for pixel in band.hot]
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
            cells=self.cells,
            std_cells=self.std_cells,
            rejected_cells=self.rejected_cells,
            fine_cells=self.fine[:, : -(-width // FINE)],
            row_profile=self.row_profile,
            column_profile=mean_over_bands(self.levels, np.diff(self.edges)).astype(np.float32),
            histogram=_histogram(ordered),
            median=_middle(ordered),
            pixel_noise=_finite_median(self.spread_cells),
            sample_noise=float(np.sqrt(np.mean(variance))) if known else 0.0,
            mean_noise=float(np.sqrt(np.mean(variance / np.maximum(self.kept_cells, 1)))) if known else 0.0,
            n_nan=sum(band.n_nan for band in left),
            n_not_positive=sum(band.n_not_positive for band in left),
        )


def _sampled_rows(n_rows: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Give the rows of a band that its cells are measured on: pairs of an even and an odd one, spread evenly.

    All of a small sensor; an eighth of 61 MP, which is 512 samples for a cell and 128 for a colour of it.
    """
    pairs = max(1, n_rows // 2)
    wanted = pairs if shape[0] * shape[1] <= 1 << 22 else max(1, min(pairs, 4))
    first = 2 * np.array([(2 * i + 1) * pairs // (2 * wanted) for i in range(wanted)], dtype=np.int64)
    return np.minimum(np.stack([first, first + 1], axis=1).ravel(), n_rows - 1)


def _quantiles(ordered: NDArray[Any], shares: tuple[float, ...]) -> list[FloatMap]:
    """Give quantiles along the last axis of sorted values, NaN at the end left out; NaN where there are only those."""
    n = ordered.shape[-1]
    if not np.isnan(ordered[..., -1]).any():
        return [np.array(ordered[..., min(n - 1, int(share * n))]) for share in shares]
    counts = n - np.count_nonzero(np.isnan(ordered), axis=-1)
    found = []
    for share in shares:
        at = np.clip((share * counts).astype(np.int64), 0, n - 1)
        found.append(np.take_along_axis(ordered, at[..., None], axis=-1)[..., 0])
    return found


def _finite_median(values: NDArray[np.floating]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _middle(ordered: FloatMap) -> float:
    n = len(ordered)
    return float(ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2) if n else float("nan")


def _histogram(ordered: FloatMap) -> Histogram:
    """Count sorted values between robust limits: the middle 99.8 % and a tenth more on each side."""
    if len(ordered) == 0:
        return Histogram(counts=np.zeros(HISTOGRAM_BINS, np.int64), start=0.0, step=1.0, below=0, above=0)
    low, high = float(ordered[int(0.001 * len(ordered))]), float(ordered[int(0.999 * (len(ordered) - 1))])
    margin = 0.1 * (high - low) or max(1e-6 * abs(high), 1e-6)
    edges = np.linspace(low - margin, high + margin, HISTOGRAM_BINS + 1)
    at = np.searchsorted(ordered, _floats_from(edges))
    step = float(edges[1] - edges[0])
    return Histogram(
        counts=np.diff(at), start=float(edges[0]), step=step, below=int(at[0]), above=len(ordered) - int(at[-1])
    )


def _floats_from(edges: NDArray[np.float64]) -> FloatMap:
    """Give the lowest float32 that is not below each edge: what is below one is below the other.

    Searched for as float64 they would have a million samples copied, 0.07 s.
    """
    floats = edges.astype(np.float32)
    return np.where(floats < edges, np.nextafter(floats, np.float32(np.inf)), floats)


def plane_reader(master: NDArray[np.floating], std: NDArray[np.floating], n_used: NDArray[np.integer]) -> PlaneReader:
    """Give a reader of planes that are in memory, for `scan_master`."""
    planes = {"master": master, "std": std, "n_used": n_used}

    def read_rows(plane: Plane, start: int, stop: int) -> NDArray[Any]:
        return planes[plane][start:stop]

    return read_rows


def cell_rectangles(scan: MasterScan) -> Iterator[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """Give each cell's index and its rows and columns: ``(band, cell), (top, bottom, left, right)``."""
    for band in range(len(scan.edges) - 1):
        for cell in range(scan.cells.shape[1]):
            left, right = cell * CELL, min((cell + 1) * CELL, scan.shape[1])
            yield (band, cell), (int(scan.edges[band]), int(scan.edges[band + 1]), left, right)
