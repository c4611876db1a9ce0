"""Levels of flats: frames are brought to a common level, and a combined flat is divided by its own.

A level is taken from whole rows only and rows are summed with `math.fsum`, so that it does not depend on strips.
To add a normalization: a branch of `_level_of` and a word in ``vocabulary.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.engine import kernels
from ostcal.engine.combine import Correction, coding_of, corrected
from ostcal.engine.rejection import SeriesNoise
from ostcal.engine.tiling import WHOLE_ROWS
from ostcal.errors import CombineError
from ostcal.frames import FrameStack, RecordedStack
from ostcal.row_window import RowWindow
from ostcal.vocabulary import FlatScaling, NormalizationMethod

DARK_FRAME_SHARE = 0.02
"""A flat below this share of the series' median level shows no light: scaling it up would only add its noise."""

LEAST_LEVEL_IN_NOISE = 3.0
"""Flats whose level is below this many times the noise of a sample show no light: photon noise alone is the square
root of the electrons, so that 3 is a flat of 9 electrons."""

Strips = Callable[[], Iterator[NDArray[np.float32]]]


class PlaneReader(Protocol):
    """A float32 image of a master that is read by rows."""

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``, shape (stop - start, width)."""


class SteppedReader(PlaneReader, Protocol):
    """A plane of which it is known how it is stored."""

    @property
    def row_step(self) -> int:
        """Rows that are stored, and so read, together."""


# ---- sums of rows ----


def finite_row_sums(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """Sum the finite pixels of each row, (rows,), and count those of all; no row's sum depends on other rows."""
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = np.add.reduce(rows, axis=1, dtype=np.float64)
    count = rows.size
    for row in np.flatnonzero(~np.isfinite(sums)):  # none, as a rule: leaving out takes three times as long
        finite = np.isfinite(rows[row])
        sums[row] = np.sum(rows[row], dtype=np.float64, where=finite)
        count += int(np.count_nonzero(finite)) - rows.shape[1]
    return sums, count


class _RowSums:
    """Exact sum over rows of the pixels that are finite."""

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._count = 0

    def add(self, rows: NDArray[np.float32]) -> None:
        sums, count = finite_row_sums(rows)
        self._sums.extend(sums)
        self._count += count

    def mean(self, of_none: float) -> float:
        return math.fsum(self._sums) / self._count if self._count else of_none


# ---- darks of flats ----


@dataclass(frozen=True, kw_only=True)
class DarkModel:
    """The dark of any exposure: a master alone, or the line through two masters of different exposures.

    Bias plus scaled dark current is the line through the bias and a dark.
    """

    first: SteppedReader
    first_exposure_s: float
    second: SteppedReader | None = None
    second_exposure_s: float = 0.0

    def read(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return offset in ADU and rate in ADU/s of rows ``start`` to ``stop``; no rate if there is one master."""
        first = self.first.read_rows(start, stop)
        return self.line_through(first, None if self.second is None else self.second.read_rows(start, stop))

    def line_through(
        self, first: NDArray[np.float32], second: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Do `read` with rows of the masters that were read already."""
        if second is None:
            return first, None
        span_s = self.second_exposure_s - self.first_exposure_s
        rate = ((second.astype(np.float64) - first) / span_s).astype(np.float32)
        offset = (first - rate.astype(np.float64) * self.first_exposure_s).astype(np.float32)
        return offset, rate


@dataclass(frozen=True, kw_only=True)
class DarkMeans:
    """Mean offset (ADU) and mean rate (ADU/s) of a dark model."""

    offset_adu: float = 0.0
    rate_adu_per_s: float = 0.0


def dark_means(dark: DarkModel | None, height: int) -> DarkMeans:
    """Average a dark model over all pixels that have a value, row by row, independent of strips."""
    if dark is None:
        return DarkMeans()
    planes = (dark.first,) if dark.second is None else (dark.first, dark.second)
    windows = [RowWindow(plane.read_rows, height, plane.row_step) for plane in planes]
    offsets, rates = _RowSums(), _RowSums()
    for start in range(0, height, WHOLE_ROWS):
        first, *second = (window.rows(start, min(start + WHOLE_ROWS, height)) for window in windows)
        offset, rate = dark.line_through(first, second[0] if second else None)
        offsets.add(offset)
        if rate is not None:
            rates.add(rate)
    return DarkMeans(offset_adu=offsets.mean(of_none=0.0), rate_adu_per_s=rates.mean(of_none=0.0))


# ---- flat frames ----


@dataclass(frozen=True, kw_only=True)
class FrameLevels:
    """Level of every frame after its dark, in ADU, and the factor each frame is multiplied by (NaN: left out)."""

    levels_adu: tuple[float, ...]
    scales: tuple[float, ...]

    @property
    def left_out(self) -> list[int]:
        """Frames without light."""
        return [i for i, scale in enumerate(self.scales) if math.isnan(scale)]


def frame_level(
    frame: FrameStack, exposure_time_s: float, dark: DarkModel | None, means: DarkMeans, scaling: FlatScaling
) -> float:
    """Measure the level in ADU of one frame (a stack of one) after its dark.

    The mean of integer samples is the exact sum less the dark's mean; anything else is measured on the differences.
    Where the capture noted it, the frame is not read: that would take 1.1 s for 40 flats of 61 MP on two cores.
    """
    _, height, width = frame.shape
    if scaling == "mean" and frame.encoding.is_integer:
        mean_dark = means.offset_adu + means.rate_adu_per_s * exposure_time_s
        recorded = frame.recorded_mean_adu(0)
        if recorded is not None:
            return recorded - mean_dark
        rows = max(1, WHOLE_ROWS // frame.row_step) * frame.row_step
        coding = coding_of(frame.encoding)
        total = 0
        block = np.empty((1, min(rows, height), width), frame.encoding.dtype)
        with frame.opened(0, height) as reader:
            for start in range(0, height, rows):
                stop = min(start + rows, height)
                part = block[:, : stop - start]
                reader.read_rows(start, stop, part)
                total += int(kernels.sum_words(part.reshape(-1), coding))
        mean = total / (height * width) + frame.encoding.zero_adu
        if isinstance(frame, RecordedStack):  # of an older version, whose records have no checksum
            frame.check_mean_adu(0, mean)
        return mean - mean_dark

    def difference(start: int, stop: int) -> NDArray[np.float32]:
        block = np.empty((1, stop - start, width), frame.encoding.dtype)
        frame.read_rows(start, stop, block)
        offset, rate = dark.read(start, stop) if dark is not None else (None, None)
        correction = Correction(
            scale=np.ones(1), exposure_time_s=np.array([exposure_time_s]), dark_offset=offset, dark_rate=rate
        )
        return corrected(block.reshape(1, -1), frame.encoding, correction).reshape(stop - start, width)

    try:
        return measure_levels(difference, height, "median" if scaling == "median" else "mean", None)[""]
    except CombineError:  # not above zero: a frame without light, which `common_scales` leaves out
        return 0.0


def common_scales(levels_adu: Sequence[float], scaling: FlatScaling) -> FrameLevels:
    """Return the factor of each frame to the mean of all levels, NaN for frames without light.

    Raise `CombineError` if no frame holds light.
    """
    levels = tuple(levels_adu)
    if scaling == "none":
        return FrameLevels(levels_adu=levels, scales=(1.0,) * len(levels))
    median = sorted(levels)[len(levels) // 2]
    lit = [level for level in levels if level > 0 and level >= DARK_FRAME_SHARE * median]
    if not lit:
        raise CombineError(
            f"no flat frame holds light: the highest level after the dark is {max(levels):.6g} ADU; "
            "check the frames' kind and that the dark fits them"
        )
    common = math.fsum(lit) / len(lit)
    scales = tuple(common / level if level > 0 and level >= DARK_FRAME_SHARE * median else math.nan for level in levels)
    return FrameLevels(levels_adu=levels, scales=scales)


def refuse_unlit(levels: FrameLevels, noise: SeriesNoise) -> None:
    """Raise `CombineError` for flats whose levels are within their noise, such as bias frames in a folder of flats."""
    lit = sorted(level for level, scale in zip(levels.levels_adu, levels.scales, strict=True) if not math.isnan(scale))
    level = lit[len(lit) // 2]
    if any(lit) and level < LEAST_LEVEL_IN_NOISE * noise.noise_adu:
        raise CombineError(
            f"the flats hold no light: their level after the dark is {level:.3g} ADU with a noise of "
            f"{noise.noise_adu:.3g} ADU; check the frames' kind and that the dark fits them"
        )


# ---- combined flats ----


def colour_planes(bayer_pattern: str | None) -> dict[str, list[tuple[int, int]]]:
    """Return for each colour the (row, column) offsets of its pixels in the 2 x 2 cell; none without a pattern."""
    if bayer_pattern is None:
        return {"": []}
    planes: dict[str, list[tuple[int, int]]] = {}
    for index, colour in enumerate(bayer_pattern):
        planes.setdefault(colour, []).append((index // 2, index % 2))
    return planes


def measure_levels(
    read_rows: Callable[[int, int], NDArray[np.float32]],
    height: int,
    method: NormalizationMethod,
    bayer_pattern: str | None,
    row_step: int = WHOLE_ROWS,
) -> dict[str, float]:
    """Measure the level of each colour, in the unit of an image that is read in pieces of `row_step` rows.

    The colour of a monochrome image is "". Raise `CombineError` if a level is zero, negative or not a number.
    """
    levels = {}
    for colour, offsets in colour_planes(bayer_pattern).items():

        def strips(offsets: list[tuple[int, int]] = offsets) -> Iterator[NDArray[np.float32]]:
            window = RowWindow(read_rows, height, row_step)
            for start in range(0, height, WHOLE_ROWS):
                rows = window.rows(start, min(start + WHOLE_ROWS, height))
                yield from [rows[y::2, x::2] for y, x in offsets] or [rows]

        levels[colour] = lit_level(_level_of(strips, method), method, colour)
    return levels


def lit_level(level: float, method: NormalizationMethod, colour: str = "") -> float:
    """Return a level by which a flat can be divided; raise `CombineError` if it is zero, negative or not a number."""
    if not level > 0 or math.isinf(level):
        raise CombineError(
            f"the combined flat has the {method} level {level:.6g} ADU{f' in {colour}' if colour else ''}: "
            "it must be above zero; check that the flats hold light and that the dark fits them"
        )
    return level


def divide_by_levels(
    rows: NDArray[np.float32], start: int, levels: dict[str, float], bayer_pattern: str | None
) -> NDArray[np.float32]:
    """Divide rows that begin at row `start` by the level of each pixel's colour; float64 quotient, float32 result."""
    divisor: float | NDArray[np.float64]
    if bayer_pattern is None:
        divisor = levels[""]
    else:
        cell = np.array([levels[colour] for colour in bayer_pattern]).reshape(2, 2)
        y = (np.arange(rows.shape[0]) + start) % 2
        x = np.arange(rows.shape[1]) % 2
        divisor = cell[y[:, None], x[None, :]]
    divided = np.empty_like(rows)  # rounded by numpy piece by piece: whole planes of float64 take twice the time
    return np.divide(rows, divisor, out=divided, dtype=np.float64, casting="same_kind")


def _level_of(strips: Strips, method: NormalizationMethod) -> float:
    """Return the mean, the maximum or the exact median of the finite pixels of an image; NaN if there are none."""
    if method == "max":
        return max((float(np.max(s, initial=-np.inf, where=np.isfinite(s))) for s in strips()), default=math.nan)
    if method == "mean":
        sums = _RowSums()
        for strip in strips():
            sums.add(strip)
        return sums.mean(of_none=math.nan)
    count = sum(int(np.count_nonzero(np.isfinite(strip))) for strip in strips())
    if count == 0:
        return math.nan
    a = _value_of_rank(strips, (count - 1) // 2)
    b = a if count % 2 else _value_of_rank(strips, count // 2)
    return (a + b) / 2


def _value_of_rank(strips: Strips, rank: int) -> float:
    """Find a finite value by two passes of 65536-bin histograms over the values' order-preserving 32-bit keys."""
    high_counts = np.zeros(65536, np.int64)
    for strip in strips():
        high_counts += np.bincount(_ordered_keys(strip) >> np.uint32(16), minlength=65536)
    cumulative = np.cumsum(high_counts)
    high = int(np.searchsorted(cumulative, rank, side="right"))
    rank -= int(cumulative[high] - high_counts[high])
    low_counts = np.zeros(65536, np.int64)
    for strip in strips():
        keys = _ordered_keys(strip)
        low_counts += np.bincount(keys[keys >> np.uint32(16) == high] & np.uint32(0xFFFF), minlength=65536)
    low = int(np.searchsorted(np.cumsum(low_counts), rank, side="right"))
    key = np.uint32(high << 16 | low)
    bits = key ^ np.uint32(0x80000000) if key & np.uint32(0x80000000) else ~key
    return float(np.array(bits, np.uint32).view(np.float32))


def _ordered_keys(strip: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the finite values' bits so that they order as the values do."""
    bits = np.ascontiguousarray(strip[np.isfinite(strip)]).view(np.uint32)
    negative = bits >> np.uint32(31) == 1
    return np.where(negative, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)
