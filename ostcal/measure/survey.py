"""Numbers of every frame of a series, from sampled rows of all its frames read once before they are combined.

A block of rows is worked through in units of one band of rows by one cell across, small enough for the cache. In a unit
every frame is brought to the level of the others and compared with the *typical* sample of each pixel: the median of
the means of three thirds of the series (frames 0, 3, 6...; 1, 4, 7...; 2, 5, 8...). A bad frame is in one third only
and the median leaves it out, so that even among three frames the bad one differs from the others, not they from it.

Everything is kept by band and summed in the order of rows, so that the
result is the same to the last bit however the rows are shared out, as long as blocks begin and end with bands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.survey_kernels import centre_frames, compare_frames, compare_pairs

GRID = 8
"""Cells along each side of a frame."""

SAMPLED_PIXELS = 2_000_000
"""Of a frame: 31,000 in a cell, which gives the variance of a cell within 0.8 % from a single pair of frames."""

MAX_PAIRS = 12
"""Pairs of frames whose differences are measured: 12 x 2 MP give a variance within 0.03 %, far below its 1 %."""

RESIDUAL_SIGMAS = 5.0
"""From here on a sample is outlying: of 2 million normal ones 1 is."""

PAIR_SIGMAS = 6.0
"""Differences beyond it are left out of variances: cosmic rays. Of a normal one it takes less than 1e-7."""

_BLOCK_ROWS = 32
_PROBE = 128
"""Samples of a frame in a unit that give its rough level; the level is known to 0.11 of the noise before clipping."""

_TAIL = 0.02
"""Share of the pixels of a unit at either end that count as much as the last ones before them: ten times the hot ones.
Left out, they would raise the level of a Bayer sensor, whose darkest and brightest colours they are, by 0.2 %."""

_HISTOGRAM_COLUMNS = 256
"""Columns that are counted in the histogram, or a few more: 50,000 samples of a frame, and a tenth of the time."""

_LARGEST_BIN = 2.0**62
"""Damaged floats beyond it have no bin: their differences would not fit 64 bits."""
_HISTOGRAM_BINS = 512

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SeriesSurvey:
    """What the sampled rows of a series say; arrays have a row for each of the n frames, in their order."""

    n_pixels: int
    """Sampled pixels of a frame."""
    mean_adu: NDArray[np.float64]
    std_adu: NDArray[np.float64]
    minimum_adu: NDArray[np.float64]
    maximum_adu: NDArray[np.float64]
    saturated: NDArray[np.int64]
    """Sampled pixels at or above saturation."""
    zeros: NDArray[np.int64]
    """Sampled pixels at or below 0."""
    missing: NDArray[np.int64]
    """Sampled pixels that are not finite numbers; the other fields leave them out."""
    cells_adu: NDArray[np.float64]
    """(n, GRID, GRID): level of each cell; a few hot pixels or cosmic rays do not move it. NaN without pixels."""
    cell_pixels: NDArray[np.int64]
    """(GRID, GRID): sampled pixels of each cell."""
    pair_first: NDArray[np.int64]
    """(n_pairs,): index i of the first frame of each measured pair (i, i + 1); all n - 1 of them up to `MAX_PAIRS`."""
    pair_variance_adu2: NDArray[np.float64]
    """(n_pairs, GRID, GRID): variance of one sample, from the differences of frames i and i + 1 in each cell, levels of
    the cells made equal; samples far from the others (cosmic rays) are left out, too few normal ones to matter.
    Rounding is in it. NaN where a cell has fewer than 2 pixels."""
    residual_std_adu: NDArray[np.float64]
    """(n,): standard deviation of a frame from the typical frame (see the module), both at the same level in each cell,
    clipped at `RESIDUAL_SIGMAS`. The typical frame is made of the frame itself too: of normal noise 3 frames show 0.88,
    6 frames 0.94, 40 frames 0.99 of the noise of a sample."""
    residual_outlying: NDArray[np.float64]
    """(n,): share of its pixels that are further than `RESIDUAL_SIGMAS` noises from the typical frame."""
    varying_bits: int
    """Bits that are not the same in all counted samples, of the samples as whole numbers; 0 for floats."""
    histogram: NDArray[np.int64]
    """Counts in equal bins from `histogram_start_adu` on, of the samples of evenly spaced columns."""
    histogram_start_adu: float
    histogram_step_adu: float
    pedestal_adu: float = 0.0
    """What was taken for no light where frames were brought to one level."""

    @property
    def n_frames(self) -> int:
        """Frames of the series."""
        return len(self.mean_adu)


@dataclass(frozen=True, kw_only=True)
class BlockSurvey:
    """What `survey_block` found in a block of rows, by band (b of them), frame (n), pair (p) and cell across (GRID)."""

    shape: tuple[int, int]
    first_rows: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    pixels: NDArray[np.int64]
    """(b, GRID): in each unit, without those that are missing in most frames."""
    mean_adu: Float
    """(b, n); 0 where there is no pixel."""
    squares_adu2: Float
    """(b, n): summed squares of the differences from that mean."""
    minimum_adu: Float
    maximum_adu: Float
    counts: NDArray[np.int64]
    """(b, n, 3): saturated, at or below 0, missing."""
    levels_adu: Float
    """(b, n, GRID)"""
    residual_squares_adu2: Float
    """(b, n): of the clipped residuals, from their mean in each unit."""
    outlying: NDArray[np.int64]
    """(b, n)"""
    pair_squares_adu2: Float
    """(b, p, GRID): of the differences of pairs, from their mean."""
    pair_freedom: NDArray[np.int64]
    """(b, p, GRID): differences kept, less 1."""
    is_integer: bool
    bins: NDArray[np.int64]
    """Histogram: the occupied bins, in steps of `bin_adu`, and how many samples each holds."""
    bin_counts: NDArray[np.int64]
    bin_adu: float
    pedestal_adu: float = 0.0


def band_rows(height: int, width: int) -> int:
    """Give the rows of a band: even, where there are enough, so that all colours of a Bayer sensor are in each."""
    # 40 frames of a unit are then up to 0.4 million samples, 1.5 MB of float32; fewer would be slowed by calls
    return max(1, min(8 if width > 4096 else 32, height // GRID // 2 * 2))


def sampled_blocks(height: int, width: int, chunk_rows: int) -> list[tuple[int, int]]:
    """Choose the rows of a frame that a survey reads.

    Parameters
    ----------
    height, width : int
        Of a frame, pixels.
    chunk_rows : int
        Rows that are stored, and so read, together; blocks are whole chunks.

    Returns
    -------
    list of (start, stop)
        Blocks of rows in their order, of about `SAMPLED_PIXELS` in all: every row of a small sensor, evenly spread ones
        of a large one, in each of the GRID rows of cells the same number, as far as chunks allow.
    """
    rows = max(1, chunk_rows)
    rows *= max(1, _BLOCK_ROWS // rows)
    blocks = [(start, min(start + rows, height)) for start in range(0, height, rows)]
    per_cell_row = max(1, round(SAMPLED_PIXELS / (GRID * rows * max(1, width))))
    wanted = GRID * per_cell_row
    if 3 * wanted >= 2 * len(blocks):
        return blocks
    return [blocks[(2 * i + 1) * len(blocks) // (2 * wanted)] for i in range(wanted)]


def survey_block(
    samples: NDArray[Any],
    first_row: int,
    shape: tuple[int, int],
    *,
    saturation_adu: float | None,
    scale_to_common: bool,
    pedestal_adu: float = 0.0,
) -> BlockSurvey:
    """Measure a block of rows of all frames of a series.

    Memory: a few MB beside the block. Time, one core: 3.7 ns a sample at 9576 columns (40 frames x 2.45 MP in 0.36 s),
    4.7 ns at 1200 columns, 14 ns for 5 frames of them.

    Parameters
    ----------
    samples : (n, rows, width) uint16, int32, float32 or float64
        ADU.
    first_row : int
        Where the block begins in the frame; a multiple of `band_rows` for results that do not depend on blocks.
    shape : (height, width)
        Of the whole frame.
    saturation_adu : float or None
        Samples at or above it are saturated; ``None`` where that is not known.
    scale_to_common : bool
        Frames are of different levels and are compared at the same level by ratio (flats); else by difference.
    pedestal_adu : float
        Level without light, as a dark has it: the light above it is scaled. Scaled with it, flats whose lamp changes
        keep a part of their structure (see `ostcal.measure.camera.CELL_CONTRAST`).

    Raises
    ------
    ValueError
        If `samples` does not have three axes, no frame, or another width than `shape`.
    """
    if samples.ndim != 3 or 0 in samples.shape or samples.shape[2] != shape[1]:
        raise ValueError(f"samples of shape {samples.shape} are not rows of frames of shape {shape}")
    rows = samples.shape[1]
    step = band_rows(*shape)
    edges = [0, *range(step - first_row % step, rows, step), rows]
    full_adu = math.inf if saturation_adu is None else saturation_adu
    room = np.empty(samples.shape[0] * step * max(np.diff(_edges(shape[1]))), dtype=np.float32)  # for all units
    common = _Common(by_ratio=scale_to_common, pedestal_adu=float(pedestal_adu))
    bands = [
        _survey_band(samples[:, start:stop], room, full_adu, common)
        for start, stop in itertools.pairwise(edges)
        if stop > start
    ]
    spans = np.array([(first_row + start, stop - start) for start, stop in itertools.pairwise(edges)])
    bin_adu = _bin_adu(samples.dtype, full_adu)
    bins, bin_counts = _histogram(samples, bin_adu)
    return BlockSurvey(
        shape=shape,
        first_rows=spans[:, 0].astype(np.int64),
        n_rows=spans[:, 1].astype(np.int64),
        **{name: np.stack([band[name] for band in bands]) for name in bands[0]},
        is_integer=bool(np.issubdtype(samples.dtype, np.integer)),
        bins=bins,
        bin_counts=bin_counts,
        bin_adu=bin_adu,
        pedestal_adu=common.pedestal_adu,
    )


def merge_blocks(blocks: Sequence[BlockSurvey]) -> SeriesSurvey:
    """Put the blocks of a series together, in whatever order they come.

    Raises
    ------
    ValueError
        If there is no block, or they are of frames of different shape.
    """
    ordered = _in_order(blocks)
    band = {name: np.concatenate([getattr(block, name) for block in ordered]) for name in _BAND_FIELDS}
    pixels = band["pixels"]
    band_pixels = pixels.sum(axis=1).astype(np.float64)[:, np.newaxis]
    n_pixels = max(1.0, float(band_pixels.sum()))
    # every sum over bands goes over all of them in their order: blocks do not show
    mean = (band["mean_adu"] * band_pixels).sum(axis=0) / n_pixels
    squares = (band["squares_adu2"] + band_pixels * (band["mean_adu"] - mean) ** 2).sum(axis=0)
    counts = band["counts"].sum(axis=0)
    degrees = max(1.0, n_pixels - np.count_nonzero(pixels))
    gone = counts[:, 2] >= n_pixels  # frames without a single number
    histogram, start, step, bits = _merge_histograms(ordered)
    cells, cell_pixels, variance = _merge_cells(ordered[0].shape, band)
    for values in (mean, squares, cells):
        values[gone] = np.nan
    n_frames = len(mean)
    return SeriesSurvey(
        n_pixels=int((band["n_rows"] * ordered[0].shape[1]).sum()),
        mean_adu=mean,
        std_adu=np.sqrt(squares / n_pixels),
        minimum_adu=np.where(gone, np.nan, band["minimum_adu"].min(axis=0)),
        maximum_adu=np.where(gone, np.nan, band["maximum_adu"].max(axis=0)),
        saturated=counts[:, 0],
        zeros=counts[:, 1],
        missing=counts[:, 2],
        cells_adu=cells,
        cell_pixels=cell_pixels,
        pair_first=pairs_of(n_frames),
        pair_variance_adu2=variance,
        residual_std_adu=np.sqrt(band["residual_squares_adu2"].sum(axis=0) / degrees),
        residual_outlying=band["outlying"].sum(axis=0) / n_pixels,
        varying_bits=bits,
        histogram=histogram,
        histogram_start_adu=start,
        histogram_step_adu=step,
        pedestal_adu=ordered[0].pedestal_adu,
    )


def _in_order(blocks: Sequence[BlockSurvey]) -> list[BlockSurvey]:
    if not blocks:
        raise ValueError("a survey needs at least one block of rows")
    if len({(block.shape, block.mean_adu.shape[1]) for block in blocks}) > 1:
        raise ValueError(f"blocks of different series: shapes {sorted({block.shape for block in blocks})}")
    return sorted(blocks, key=lambda block: int(block.first_rows[0]))


def pairs_of(n_frames: int) -> NDArray[np.int64]:
    """Give the first frames of the pairs of neighbours that are measured: (n_pairs,), evenly spread."""
    n_pairs = min(MAX_PAIRS, n_frames - 1)
    if n_pairs < 1:
        return np.zeros(0, dtype=np.int64)
    return np.linspace(0, n_frames - 2, n_pairs).round().astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class _Common:
    """How frames are brought to one level."""

    by_ratio: bool
    pedestal_adu: float


def _edges(length: int) -> list[int]:
    """Give the GRID + 1 edges of the cells along a side: even, where there are enough pixels, for Bayer sensors."""
    if length < 4 * GRID:
        return [length * i // GRID for i in range(GRID + 1)]
    return [length * i // (2 * GRID) * 2 for i in range(GRID)] + [length]


def _survey_band(
    samples: NDArray[Any], room: NDArray[np.float32], saturation_adu: float, common: _Common
) -> dict[str, NDArray[Any]]:
    n_frames, _, width = samples.shape
    edges = _edges(width)
    units = [
        _survey_unit(samples[:, :, left:right], room, saturation_adu, common)
        for left, right in itertools.pairwise(edges)
        if right > left
    ]
    filled = [i for i in range(GRID) if edges[i + 1] > edges[i]]
    band = _empty_band(n_frames)
    total = 0
    for i, unit in zip(filled, units, strict=True):
        band["pixels"][i] = unit.pixels
        band["counts"] += unit.counts
        if unit.pixels == 0:
            continue
        shift = unit.mean - band["mean_adu"]
        band["squares_adu2"] += unit.squares + shift**2 * (total * unit.pixels / (total + unit.pixels))
        total += unit.pixels
        band["mean_adu"] += shift * (unit.pixels / total)
        np.minimum(band["minimum_adu"], unit.minimum, out=band["minimum_adu"])
        np.maximum(band["maximum_adu"], unit.maximum, out=band["maximum_adu"])
        band["levels_adu"][:, i] = unit.levels
        band["residual_squares_adu2"] += unit.residual_squares
        band["outlying"] += unit.outlying
        band["pair_squares_adu2"][:, i] = unit.pair_squares
        band["pair_freedom"][:, i] = unit.pair_freedom
    return band


def _empty_band(n: int) -> dict[str, NDArray[Any]]:
    pairs = len(pairs_of(n))
    return {
        "pixels": np.zeros(GRID, np.int64),
        "mean_adu": np.zeros(n),
        "squares_adu2": np.zeros(n),
        "minimum_adu": np.full(n, np.inf),
        "maximum_adu": np.full(n, -np.inf),
        "counts": np.zeros((n, 3), np.int64),
        "levels_adu": np.zeros((n, GRID)),
        "residual_squares_adu2": np.zeros(n),
        "outlying": np.zeros(n, np.int64),
        "pair_squares_adu2": np.zeros((pairs, GRID)),
        "pair_freedom": np.zeros((pairs, GRID), np.int64),
    }


_BAND_FIELDS = ("n_rows", "first_rows", *_empty_band(1))


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """What a band says in one cell across; arrays by frame or pair."""

    pixels: int
    counts: NDArray[np.int64]
    mean: Float
    squares: Float
    minimum: NDArray[Any]
    maximum: NDArray[Any]
    levels: Float
    residual_squares: Float
    outlying: NDArray[np.int64]
    pair_squares: Float
    pair_freedom: NDArray[np.int64]


def _survey_unit(samples: NDArray[Any], room: NDArray[np.float32], saturation_adu: float, common: _Common) -> _Unit:
    n_frames, n_rows, n_columns = samples.shape
    values = room[: samples.size].reshape(n_frames, n_rows * n_columns)
    with np.errstate(over="ignore"):  # damaged floats become infinities
        np.copyto(values.reshape(samples.shape), samples, casting="unsafe")
    missing = np.zeros(n_frames, np.int64)
    if not np.issubdtype(samples.dtype, np.integer):
        values, missing = _without_missing(values)
    pixels = values.shape[1]
    if pixels == 0:
        return _empty_unit(n_frames, missing)
    minimum, maximum = values.min(axis=1), values.max(axis=1)
    counts = np.stack(
        [
            np.count_nonzero(values >= saturation_adu, axis=1) if maximum.max() >= saturation_adu else 0 * missing,
            np.count_nonzero(values <= 0, axis=1) if minimum.min() <= 0 else 0 * missing,
            missing,
        ],
        axis=1,
    )
    # a whole number near the level: differences of 16-bit samples from it are exact, and their sums nearly so
    centre = np.rint(values[n_frames // 2, 0])
    first, second = np.empty((2, n_frames))
    centre_frames(values, centre, first, second)
    first /= pixels
    clipped = _residuals(values, float(centre), common)
    return _Unit(
        pixels=pixels,
        counts=counts,
        mean=centre + first,
        squares=np.maximum(second - pixels * first**2, 0.0),
        minimum=minimum,
        maximum=maximum,
        levels=clipped.levels,
        residual_squares=clipped.squares,
        outlying=clipped.outlying,
        pair_squares=clipped.pair_squares,
        pair_freedom=clipped.pair_freedom,
    )


def _empty_unit(n_frames: int, missing: NDArray[np.int64]) -> _Unit:
    none, pairs = np.zeros(n_frames), np.zeros(len(pairs_of(n_frames)))
    return _Unit(
        pixels=0,
        counts=np.stack([0 * missing, 0 * missing, missing], axis=1),
        mean=none,
        squares=none,
        minimum=none,
        maximum=none,
        levels=none,
        residual_squares=none,
        outlying=none.astype(np.int64),
        pair_squares=pairs,
        pair_freedom=pairs.astype(np.int64),
    )


def _without_missing(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Leave out pixels that are no numbers in half of the frames; elsewhere take the mean of the other frames."""
    finite = np.isfinite(values)
    if finite.all():
        return values, np.zeros(len(values), np.int64)
    missing = np.count_nonzero(~finite, axis=1)
    known = np.count_nonzero(finite, axis=0)
    usable = 2 * known > len(values)
    kept = np.where(finite, values, np.float32(0))[:, usable]
    means = kept.sum(axis=0, dtype=np.float64) / known[usable]
    return np.where(finite[:, usable], kept, means.astype(np.float32)), missing


@dataclass(frozen=True, kw_only=True)
class _Residuals:
    levels: Float
    squares: Float
    outlying: NDArray[np.int64]
    pair_squares: Float
    pair_freedom: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """Rough levels and noise of the frames in a unit, from a few of its pixels."""

    scale: NDArray[np.float32]
    """(n, 1): level of a frame over that of the typical frame."""
    offset: NDArray[np.float32]
    """(n, 1): what is then to be added."""
    sigma: NDArray[np.float32]
    """(n, 1): noise of a sample."""


_LIT_NOISES = 10.0
"""Light from here on, in noises of a sample, gives the scale of a frame; fainter light hardly changes by its noise."""


def _probe(values: NDArray[np.float32], zero_adu: float, by_ratio: bool) -> _Probe:
    """Measure frames that are given less a level which is `zero_adu` above no light."""
    # an odd stride meets all colours of a Bayer sensor
    few = values[:, :: max(1, values.shape[1] // _PROBE) | 1].astype(np.float64)
    typical = np.median(few, axis=0)
    least = _smallest_step(few)
    found = _ratios(few + zero_adu, typical + zero_adu, least) if by_ratio else None
    if found is not None:
        scale, rest = found
        offset = np.zeros_like(scale)
    else:
        scale, rest = np.ones((len(few), 1)), few - typical
        offset = np.median(rest, axis=1, keepdims=True)
        rest -= offset
    return _Probe(
        scale=scale.astype(np.float32),
        offset=offset.astype(np.float32),
        sigma=(_noise(rest, scale, least) * np.sqrt(scale)).astype(np.float32),
    )


def _ratios(few: Float, typical: Float, least: float) -> tuple[Float, Float] | None:
    """Give the scale of each frame and what it differs from the scaled typical one; ``None`` without light enough."""
    tenth = typical.size - 1 - typical.size // 10
    bright = float(np.partition(typical, tenth)[tenth])
    if bright <= 0:
        return None
    lit = typical >= bright / 2  # not the gaps of a spectrograph, whose ratios are noise
    scale = np.median(few[:, lit] / typical[lit], axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    rest = few - scale * typical
    return (scale, rest) if bright > _LIT_NOISES * _noise(rest, scale, least) else None


def _smallest_step(few: Float) -> float:
    """Give the least noise that is believed: rounding to steps hides what is below it."""
    steps = np.abs(np.diff(few, axis=0))
    smallest = float(np.min(steps, where=steps > 0, initial=np.inf))
    return min(0.75 * smallest if math.isfinite(smallest) else 0.75, 16.0)


def _noise(rest: Float, scale: Float, least: float) -> float:
    """Give the noise of a sample at the common level, from the changes from frame to frame."""
    if len(rest) < 2:
        return 1.0
    steps = np.abs(np.diff(rest, axis=0)) / np.sqrt(scale[1:] + scale[:-1])
    return max(1.4826 * float(np.median(steps)), least)


def _residuals(values: NDArray[np.float32], centre: float, common: _Common) -> _Residuals:
    """Compare frames, given less `centre`, with the typical frame; `values` are used up."""
    n_frames, pixels = values.shape
    zero_adu = centre - common.pedestal_adu
    probe = _probe(values, zero_adu, common.by_ratio)
    typical = _typical(values, probe, np.float32(zero_adu))
    shift = probe.offset + (probe.scale - 1) * np.float32(zero_adu)
    limit = np.float32(RESIDUAL_SIGMAS) * probe.sigma
    mean, squares = np.empty((2, n_frames))
    outlying = np.empty(n_frames, np.int64)
    compare_frames(values, typical, probe.scale[:, 0], shift[:, 0], limit[:, 0], mean, squares, outlying)
    mean /= pixels
    squares -= pixels * mean**2
    pair_squares, pair_freedom = _pair_squares(values, probe)
    level = _winsorized_mean(typical)
    return _Residuals(
        levels=centre + level * probe.scale[:, 0] + shift[:, 0] + mean,
        squares=np.maximum(squares, 0.0),
        outlying=outlying,
        pair_squares=pair_squares,
        pair_freedom=pair_freedom,
    )


def _typical(values: NDArray[np.float32], probe: _Probe, zero_adu: np.float32) -> NDArray[np.float32]:
    """Give the median of the means of three thirds at the common level, less what the frames are less: (pixels,)."""
    means: list[NDArray[np.float32]] = []
    for third in range(min(3, len(values)) if len(values) != 2 else 1):
        part = slice(third, None, 3 if len(values) != 2 else 1)
        total = np.add.reduce(values[part], axis=0)
        scale, offset = probe.scale[part], probe.offset[part]
        # samples are less the level and the sum is (sum of scales) x common + offsets - count x zero
        total += np.float32(zero_adu * (len(scale) - scale.sum()) - offset.sum())
        total /= scale.sum()
        means.append(total)
    if len(means) < 3:
        return means[0]
    low: NDArray[np.float32] = np.minimum(means[0], means[1])
    high: NDArray[np.float32] = np.maximum(means[0], means[1])
    np.minimum(high, means[2], out=high)
    return np.maximum(low, high, out=low)


def _winsorized_mean(typical: NDArray[np.float32]) -> float:
    cut = math.ceil(_TAIL * typical.size) if typical.size > 2 * GRID else (typical.size - 1) // 2
    ordered = np.partition(typical, (cut, typical.size - 1 - cut))
    low, high = ordered[cut], ordered[typical.size - 1 - cut]
    return float(np.mean(np.clip(typical, low, high), dtype=np.float64))


def _pair_squares(values: NDArray[np.float32], probe: _Probe) -> tuple[Float, NDArray[np.int64]]:
    """Give the squares of the differences of pairs, from their mean, and how many were kept, less 1.

    Frames of levels s and t are weighted by sqrt(t / s) and sqrt(s / t): then the typical frame, which has noise of its
    own, drops out, and shot noise gives the sum of both variances. (30 % apart, a plain difference is 3 % off.)
    """
    first = pairs_of(len(values))
    if not len(first):
        return np.zeros(0), np.zeros(0, np.int64)
    weight = np.sqrt(probe.scale[first] / probe.scale[first + 1])[:, 0]
    limit = np.float32(PAIR_SIGMAS) * np.hypot(probe.sigma[first], probe.sigma[first + 1])[:, 0]
    total, squares = np.empty((2, len(first)))
    count = np.empty(len(first), np.int64)
    compare_pairs(values, first, weight, limit, total, squares, count)
    return np.maximum(squares - total**2 / np.maximum(count, 1), 0.0), np.maximum(count - 1, 0)


def _merge_cells(shape: tuple[int, int], band: dict[str, NDArray[Any]]) -> tuple[Float, NDArray[np.int64], Float]:
    """Give level, pixels and variance of each cell from those of bands, each in the cell that its middle is in."""
    n_frames, n_pairs = band["levels_adu"].shape[1], band["pair_squares_adu2"].shape[1]
    middle = band["first_rows"] + band["n_rows"] // 2
    cell_row = np.searchsorted(_edges(shape[0])[1:], middle, side="right")
    cells, variance = np.full((n_frames, GRID, GRID), np.nan), np.full((n_pairs, GRID, GRID), np.nan)
    cell_pixels = np.zeros((GRID, GRID), np.int64)
    for row in np.unique(cell_row):
        mine = cell_row == row
        pixels = band["pixels"][mine]
        cell_pixels[row] = pixels.sum(axis=0)
        total = (band["levels_adu"][mine] * pixels[:, np.newaxis]).sum(axis=0)
        np.divide(total, cell_pixels[row], out=cells[:, row], where=cell_pixels[row] > 0)
        freedom = band["pair_freedom"][mine].sum(axis=0)
        squares = band["pair_squares_adu2"][mine].sum(axis=0)
        np.divide(squares, 2 * freedom, out=variance[:, row], where=freedom > 0)
    return cells, cell_pixels, variance


def _bin_adu(dtype: np.dtype[Any], saturation_adu: float) -> float:
    """Give 1 ADU, and for floats about 1/65536 of saturation, which floats between 0 and 1 need."""
    if np.issubdtype(dtype, np.integer) or not (0 < saturation_adu < math.inf):
        return 1.0
    return 2.0 ** round(math.log2(saturation_adu / 65536))


def _histogram(samples: NDArray[Any], bin_adu: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # odd, for all colours of a Bayer sensor
    stride = max(1, samples.shape[2] // _HISTOGRAM_COLUMNS) | 1
    few = samples[:, :, ::stride]
    if samples.dtype == np.uint16:
        counts = np.bincount(few.reshape(-1), minlength=1)
        bins = np.flatnonzero(counts)
        return bins.astype(np.int64), counts[bins].astype(np.int64)
    if not np.issubdtype(samples.dtype, np.integer):
        few = np.floor(few[np.isfinite(few)] / bin_adu)
        few = few[np.abs(few) < _LARGEST_BIN]
    bins, counts = np.unique(few.astype(np.int64), return_counts=True)
    return bins, counts.astype(np.int64)


def _merge_histograms(blocks: Sequence[BlockSurvey]) -> tuple[NDArray[np.int64], float, float, int]:
    """Give counts in at most `_HISTOGRAM_BINS` bins, their start and step in ADU, and the bits that vary."""
    bins = np.concatenate([block.bins for block in blocks])
    counts = np.concatenate([block.bin_counts for block in blocks])
    unit = blocks[0].bin_adu
    if not len(bins):
        return np.zeros(1, np.int64), 0.0, unit, 0
    low, high = int(bins.min()), int(bins.max())
    step = 1
    while (high - low) // step >= _HISTOGRAM_BINS:
        step *= 2
    low -= low % step
    merged = np.bincount((bins - low) // step, weights=counts).astype(np.int64)
    is_integer = all(block.is_integer for block in blocks)
    bits = int(np.bitwise_or.reduce(bins) & ~np.bitwise_and.reduce(bins)) if is_integer else 0
    return merged, low * unit, step * unit, bits
