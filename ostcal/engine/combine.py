"""Combine one block of samples in memory: the engine's only door to the kernels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine import kernels
from ostcal.engine.kernels import QUANTA_PER_ADU
from ostcal.engine.rejection import RejectionMethod, Rule, SeriesNoise
from ostcal.frames import SampleEncoding

_ALL = slice(None)
_NO_NOISE = SeriesNoise()
_QUANTA_PER_HALF_ADU = QUANTA_PER_ADU // 2
_PIECE_BYTES = 2**21
"""Words of half ADU that are made at once: they are still in the cache when they are combined."""
_ZERO_HALF_ADU = -2 * 8192
"""Half ADU of the word 0: words of half ADU hold samples from -8192 to 24575.5 ADU above their overscan."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What is done to the samples of flats before rejection: ``(x - offset - rate * exposure_i) * scale_i``."""

    scale: NDArray[np.float64]
    """(n_frames,): factor that brings each frame to the common level."""
    exposure_time_s: NDArray[np.float64]
    """(n_frames,)."""
    dark_offset: NDArray[np.float32] | None = None
    """(rows, width): bias or dark in ADU; none is zero."""
    dark_rate: NDArray[np.float32] | None = None
    """(rows, width): dark current in ADU/s; none is zero."""

    def rows(self, start: int, stop: int, columns: slice = _ALL) -> Correction:
        """Return the correction of some rows, or of some columns of them."""
        offset = None if self.dark_offset is None else self.dark_offset[start:stop, columns]
        rate = None if self.dark_rate is None else self.dark_rate[start:stop, columns]
        return replace(self, dark_offset=offset, dark_rate=rate)


@dataclass(frozen=True, kw_only=True)
class RowLevels:
    """The overscan of one amplifier for the rows of a block of untrimmed rows, and which of its columns are kept.

    Attributes
    ----------
    quanta : (n_frames, rows) int64
        In 1/256 ADU; for samples without a correction whole numbers of half ADU.
    left, width : int
        First column that is kept, and how many.
    """

    quanta: NDArray[np.int64]
    left: int
    width: int

    def rows(self, rows: slice) -> RowLevels:
        """Return the levels of some rows."""
        return replace(self, quanta=self.quanta[:, rows])


@dataclass(frozen=True, kw_only=True)
class BlockPlanes:
    """The planes of a master: `master` and `std` float32, `n_used` uint16, (rows, width) in C order."""

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> BlockPlanes:
        """Make room for rows of a master."""
        return cls(
            master=np.empty(shape, np.float32), n_used=np.empty(shape, np.uint16), std=np.empty(shape, np.float32)
        )

    def rows(self, start: int, stop: int) -> BlockPlanes:
        """Return some rows, as views."""
        return BlockPlanes(master=self.master[start:stop], n_used=self.n_used[start:stop], std=self.std[start:stop])


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """Planes of a combined block, each of shape (rows, width), and counts.

    `master`, `std` (sample standard deviation of the kept), `low` and `high` (the kept range; empty where it was not
    asked for) are float32, `n_used` is uint16, `rejected_per_frame` is int64 of shape (n_frames,): samples outside
    the kept range or not finite.
    """

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rejected_per_frame: NDArray[np.int64]
    invalid: int
    """Samples that were not finite."""


def combine_block(
    block: NDArray[Any],
    encoding: SampleEncoding,
    method: RejectionMethod,
    *,
    noise: SeriesNoise = _NO_NOISE,
    correction: Correction | None = None,
    levels: Sequence[RowLevels] | None = None,
    planes: BlockPlanes | None = None,
) -> BlockResult:
    """Combine a block of samples pixel by pixel.

    `block` has raw samples as `FrameStack.read_rows` delivers them, (n_frames, rows, width) uint16, float32 or float64.
    `noise` is that of the series, for methods whose spread has a floor. A `correction` is applied to every frame before
    rejection (flats). With `levels`, one of each amplifier from left to right, 16-bit samples are those of untrimmed
    rows; their overscan is subtracted before all else. With `planes`, the result lies there; `low` and `high` are then
    empty.
    """
    n, rows, width = block.shape
    if levels is not None:
        width = sum(part.width for part in levels)
    rule = method.resolved(n).rule(noise)
    low, high = (np.empty((rows, width) if planes is None else (0, width), np.float32) for _ in range(2))
    planes = planes or BlockPlanes.empty((rows, width))
    rejected = np.zeros(n, np.int64)
    out = kernels.Planes(
        master=planes.master.reshape(-1),
        n_used=planes.n_used.reshape(-1),
        std=planes.std.reshape(-1),
        low=low.reshape(-1),
        high=high.reshape(-1),
        rejected=rejected,
    )
    network = kernels.sorting_network(n)
    invalid = 0
    if encoding.is_integer and correction is not None:
        combine_corrected = kernels.average_corrected if rule.is_average else kernels.combine_corrected
        for how, samples, pixels in _corrected_parts(block, encoding, correction, levels):
            invalid += int(combine_corrected(samples, how, network, rule, _part(out, pixels)))
    elif levels is not None:
        raw = np.ascontiguousarray(block)
        at_once = rows if rule.is_average else max(1, _PIECE_BYTES // (2 * n * width))
        words = np.empty((n, 0 if rule.is_average else min(at_once, rows), width), np.uint16)
        for y in range(0, rows, at_once):
            part = _part(out, slice(y * width, min(y + at_once, rows) * width))
            of_piece = [amplifier.rows(slice(y, y + at_once)) for amplifier in levels]
            _combine_in_half_adu(raw, y, encoding, of_piece, rule, words, part)
    else:
        samples = np.ascontiguousarray(block).reshape(n, rows * width)
        if encoding.is_integer:
            combine_words = kernels.average_words if rule.is_average else kernels.combine_words
            combine_words(samples, coding_of(encoding), network, rule, out)
        else:
            samples = samples if correction is None else corrected(samples, encoding, correction)
            invalid = int(kernels.combine_floats(samples, network, rule, out))
    return BlockResult(
        master=planes.master,
        n_used=planes.n_used,
        std=planes.std,
        low=low,
        high=high,
        rejected_per_frame=rejected,
        invalid=invalid,
    )


def _corrected_parts(
    block: NDArray[Any], encoding: SampleEncoding, correction: Correction, levels: Sequence[RowLevels] | None
) -> Iterator[tuple[kernels.Corrected, NDArray[Any], slice]]:
    """Yield what one call of a kernel corrects, the samples (n_frames, n_pixels), and the pixels that they are of.

    In one call a frame has one level: with `levels` it is a row of one amplifier.
    """
    n, rows, width = block.shape
    if levels is None:
        samples = np.ascontiguousarray(block).reshape(n, rows * width)
        yield _corrected(encoding, correction, rows * width), samples, slice(0, rows * width)
        return
    start = 0
    for y in range(rows):
        column = 0
        for part in levels:
            columns = slice(column, column + part.width)
            how = _corrected(encoding, correction.rows(y, y + 1, columns), part.width)
            samples = np.ascontiguousarray(block[:, y, part.left : part.left + part.width])
            yield how._replace(level=part.quanta[:, y] / QUANTA_PER_ADU), samples, slice(start, start + part.width)
            column += part.width
            start += part.width


def _part(planes: kernels.Planes, pixels: slice) -> kernels.Planes:
    """Return views of some pixels; planes that are not asked for stay empty."""
    return planes._replace(
        master=planes.master[pixels],
        n_used=planes.n_used[pixels],
        std=planes.std[pixels],
        low=planes.low[pixels],
        high=planes.high[pixels],
    )


def _combine_in_half_adu(
    block: NDArray[np.uint16],
    bottom: int,
    encoding: SampleEncoding,
    levels: Sequence[RowLevels],
    rule: Rule,
    room: NDArray[np.uint16],
    out: kernels.Planes,
) -> None:
    """Combine raw words, from row `bottom` on, less the level of their row and amplifier, whole numbers of half ADU.

    `room` is that for the words.

    Words of half ADU go through the kernels for words, 2.9 times as fast as floats. The few pixels with a sample beyond
    them (saturated hot pixels) are combined as floats, each alone: nothing depends on which block a pixel is in.
    """
    n, rows = levels[0].quanta.shape
    width = sum(part.width for part in levels)
    network = kernels.sorting_network(n)
    doubled = rule._replace(
        floor_micro_adu=2 * rule.floor_micro_adu,
        step_micro_adu=2 * rule.step_micro_adu,
        variance_adu2=4 * rule.variance_adu2,
        signal_zero_adu=2 * rule.signal_zero_adu,
        variance_per_adu=2 * rule.variance_per_adu,
    )
    coding, n_beyond = coding_of(encoding), 0
    halves = np.stack([part.quanta for part in levels]) // _QUANTA_PER_HALF_ADU
    widths = [part.width for part in levels]
    starts = [0, *itertools.accumulate(widths[:-1])]
    words = room.reshape(-1)[: 0 if doubled.is_average else n * rows * width].reshape(n, -1, width)
    beyond = np.empty((rows, width), np.uint16)
    if doubled.is_average:
        columns = np.array([[part.left, at, part.width] for part, at in zip(levels, starts, strict=True)])
        n_beyond = kernels.average_half_adu(
            block, columns, coding, halves, _ZERO_HALF_ADU, network, doubled, out, beyond
        )
    else:
        for part, of_part, at in zip(levels, halves, starts, strict=True):
            n_beyond += kernels.half_adu_words(
                block, bottom, part.left, coding, of_part, _ZERO_HALF_ADU, words, beyond, at, part.width
            )
    y, x = np.nonzero(beyond) if n_beyond else (np.empty(0, np.intp), np.empty(0, np.intp))
    if not doubled.is_average:
        plain = kernels.Coding(swapped=False, flip=np.uint16(0), zero=_ZERO_HALF_ADU)
        if y.size:  # what is put in their place is combined and counted like one pixel of zeros
            words[:, y, x] = -_ZERO_HALF_ADU
            of_zeros = _planes(n, 1)
            zeros = np.full((n, 1), -_ZERO_HALF_ADU, np.uint16)
            kernels.combine_words(zeros, plain, network, doubled, of_zeros)
            out.rejected[:] -= y.size * of_zeros.rejected
        kernels.combine_words(words.reshape(n, rows * width), plain, network, doubled, out)
    in_adu = (out.master, out.std, out.low, out.high)
    for plane in in_adu:
        np.multiply(plane, np.float32(0.5), out=plane)
    if y.size:
        raw_columns = np.concatenate([np.arange(part.left, part.left + part.width) for part in levels])[x]
        amplifier = np.repeat(np.arange(len(levels)), widths)[x]
        values = np.empty((n, y.size), np.float32)
        for i in range(n):
            values[i] = encoding.decode(block[i, bottom + y, raw_columns]) - halves[amplifier, i, y] / 2
        alone = _planes(n, y.size)
        kernels.combine_floats(values, network, rule, alone)
        out.rejected[:] += alone.rejected
        out.n_used.reshape(rows, width)[y, x] = alone.n_used
        for plane, values_alone in zip(in_adu, (alone.master, alone.std, alone.low, alone.high), strict=True):
            if plane.size:
                plane.reshape(rows, width)[y, x] = values_alone


def _planes(n_frames: int, size: int) -> kernels.Planes:
    """Make room for pixels that are combined apart from their block."""
    master, std, low, high = (np.empty(size, np.float32) for _ in range(4))
    return kernels.Planes(
        master=master,
        n_used=np.empty(size, np.uint16),
        std=std,
        low=low,
        high=high,
        rejected=np.zeros(n_frames, np.int64),
    )


def corrected(samples: NDArray[Any], encoding: SampleEncoding, correction: Correction) -> NDArray[np.float32]:
    """Apply a correction to samples (n_frames, n_pixels) uint16 or float; return float32 of the same shape."""
    n, size = samples.shape
    how = _corrected(encoding, correction, size)
    out = np.empty((n, size), np.float32)
    if encoding.is_integer:
        kernels.correct_words(samples, how, out)
        return out
    for i in range(n):
        dark = how.offset.astype(np.float64) + how.rate.astype(np.float64) * how.exposure[i]
        out[i] = (samples[i] - dark) * how.scale[i]
    return out


def coding_of(encoding: SampleEncoding) -> kernels.Coding:
    """Return how the kernels decode raw 16-bit samples."""
    flip = np.uint16(0x8000 if encoding.sign_flipped else 0)
    return kernels.Coding(swapped=encoding.byte_swapped, flip=flip, zero=encoding.zero_adu)


def _corrected(encoding: SampleEncoding, correction: Correction, size: int) -> kernels.Corrected:
    """Return how the kernels correct `size` pixels; a dark that is missing is zero."""
    offset, rate = correction.dark_offset, correction.dark_rate
    zeros = np.zeros(size if offset is None or rate is None else 0, np.float32)
    return kernels.Corrected(
        coding=coding_of(encoding),
        offset=zeros if offset is None else offset.reshape(-1),
        rate=zeros if rate is None else rate.reshape(-1),
        exposure=correction.exposure_time_s,
        scale=correction.scale,
        level=np.zeros(correction.scale.size),
    )
