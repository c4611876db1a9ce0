"""A stack whose overscan is subtracted and trimmed while it is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine import kernels
from ostcal.engine.combine import coding_of
from ostcal.engine.overscan import OverscanMethod, fitted_levels, levels_in_adu, line_levels
from ostcal.fits.cards import header_of
from ostcal.fits.read import FitsFrame, FitsStack
from ostcal.fits.sections import Amplifier, OverscanRule, Readout
from ostcal.frames import FrameMetadata, FrameStack, RowReader, SampleEncoding, read_adu

_ROWS_AT_ONCE = 256
_ROWS_FOR_LEVEL = 64
_FRAMES_KEPT = 1024
"""Frames of which the levels of all lines are kept in a process: 77 KB each at 9,600 lines."""


@dataclass(frozen=True)
class TrimmedStack:
    """The frames of another stack without their overscan; implements `ostcal.frames.FrameStack`.

    Samples are float32 in steps of 1/256 ADU, exactly, where the raw ones have 16 bits, else float64.
    """

    stack: FrameStack
    """Of the frames as the camera has read them out."""
    readout: Readout

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)`` of what is kept."""
        return self.stack.shape[0], self.readout.height, self.readout.width

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        return SampleEncoding(dtype="float32" if self.stack.encoding.is_integer else "float64")

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one."""
        return self.stack.row_step

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` with samples."""
        self._read_with(self.stack, start, stop, out)

    def _read_with(self, reader: RowReader, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` from a reader of the untrimmed frames."""
        done = 0
        for first, last in _raw_rows(self.readout.rows, start, stop):
            block = np.empty((self.stack.shape[0], last - first, self.stack.shape[2]), self.stack.encoding.dtype)
            reader.read_rows(first, last, block)
            self._correct(block, first, out[:, done : done + last - first])
            done += last - first

    def read_words(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the kept samples as the camera gave them, of 16 bits: (n_frames, stop - start, width) int32, ADU."""
        words = np.empty((self.shape[0], stop - start, self.shape[2]), np.int32)
        done = 0
        for first, last in _raw_rows(self.readout.rows, start, stop):
            block = read_adu(self.stack, first, last)
            column = 0
            for left, right in self.readout.columns:
                words[:, done : done + last - first, column : column + right - left] = block[:, :, left:right]
                column += right - left
            done += last - first
        return words

    def _correct(self, block: NDArray[Any], first: int, out: NDArray[Any]) -> None:
        """Subtract and trim whole raw rows from row `first` on."""
        encoding = self.stack.encoding
        for amplifier in self.readout.amplifiers:
            bottom, top = max(amplifier.kept.bottom, first), min(amplifier.kept.top, first + block.shape[1])
            if bottom >= top:
                continue
            left = _kept_before(self.readout.columns, amplifier.kept.left)
            rows = slice(bottom - first, top - first)
            source = block[:, rows, amplifier.kept.left : amplifier.kept.right]
            target = out[:, rows, left : left + amplifier.kept.width]
            levels = self._levels(block[:, rows], amplifier, bottom, top)
            if not encoding.is_integer:
                levels_adu = levels_in_adu(levels)
                lines = levels_adu[:, :, None] if amplifier.axis == "rows" else levels_adu[:, None, :]
                np.subtract(source, lines, out=target)
                continue
            subtract = kernels.subtract_row_levels if amplifier.axis == "rows" else kernels.subtract_column_levels
            for samples, frame_levels, corrected in zip(source, levels, target, strict=True):
                subtract(samples, coding_of(encoding), frame_levels, corrected)

    def _levels(self, rows: NDArray[Any], amplifier: Amplifier, bottom: int, top: int) -> NDArray[Any]:
        """Return levels in 1/256 ADU: (n_frames, n_rows) of raw rows `bottom` to `top`, or (n_frames, n_columns)."""
        overscan, n = amplifier.overscan, self.stack.shape[0]
        if overscan is None:
            return np.zeros((n, top - bottom), np.int64)
        if amplifier.axis == "rows" and self.readout.method.fit == "none":
            samples = self.stack.encoding.decode(rows[:, :, overscan.left : overscan.right])
            return line_levels(samples, self.readout.method)
        whole = np.stack([_levels_of_frame(self.stack.select([i]), amplifier, self.readout.method) for i in range(n)])
        start = amplifier.kept.bottom
        return whole[:, bottom - start : top - start] if amplifier.axis == "rows" else whole

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep files open while block after block is read."""
        runs = list(_raw_rows(self.readout.rows, start, stop))
        with self.stack.opened(runs[0][0], runs[-1][1]) as reader:
            is_levelled = self.levelled_encoding is not None
            yield _OpenLevelled(self, reader) if is_levelled else _OpenTrimmed(self, reader)

    @property
    def levelled_encoding(self) -> SampleEncoding | None:
        """The encoding of raw words that, with a level of half ADU for each row of an amplifier, say it all.

        So it is with medians and no fit, and amplifiers beside or above each other as on a grid.
        """
        method, amplifiers = self.readout.method, self.readout.amplifiers
        by_halves = method.level == "median" and method.fit == "none" and self.stack.encoding.is_integer
        of_rows = all(amplifier.axis == "rows" for amplifier in amplifiers) and any(a.overscan for a in amplifiers)
        n_cells = len(_spans(amplifiers)) * len({(a.kept.bottom, a.kept.top) for a in amplifiers})
        return self.stack.encoding if by_halves and of_rows and n_cells == len(amplifiers) else None

    def select(self, indices: Sequence[int]) -> TrimmedStack:
        """Return the stack of the frames at `indices` alone."""
        return TrimmedStack(self.stack.select(indices), self.readout)

    def recorded_mean_adu(self, position: int) -> None:
        """Return nothing: what was recorded is the mean of the untrimmed frame."""


@dataclass(frozen=True)
class _OpenTrimmed:
    """A stack whose files are open."""

    stack: TrimmedStack
    reader: RowReader

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read as `TrimmedStack.read_rows` does."""
        self.stack._read_with(self.reader, start, stop, out)


@dataclass(frozen=True)
class _OpenLevelled(_OpenTrimmed):
    """A stack whose files are open and whose levels are subtracted by the engine; an `ostcal.frames.LevelledReader`."""

    @property
    def raw_encoding(self) -> SampleEncoding:
        """How the raw samples become ADU before a level is subtracted."""
        return self.stack.stack.encoding

    @property
    def raw_width(self) -> int:
        """Columns of a raw row."""
        return self.stack.stack.shape[2]

    @property
    def kept_columns(self) -> tuple[tuple[int, int], ...]:
        """Of each amplifier, from left to right: the first and the end of the raw columns that are kept."""
        return _spans(self.stack.readout.amplifiers)

    def read_levelled(self, start: int, stop: int, out: NDArray[Any]) -> NDArray[np.int64]:
        """Fill ``out`` with raw rows, (n_frames, stop - start, raw width); return the levels in 1/256 ADU."""
        readout, done = self.stack.readout, 0
        columns = self.kept_columns
        levels = np.zeros((len(columns), out.shape[0], stop - start), np.int64)
        for first, last in _raw_rows(readout.rows, start, stop):
            block = out[:, done : done + last - first]
            if last - first == stop - start:
                self.reader.read_rows(first, last, block)
            else:  # rows of amplifiers above each other, with others between them
                rows = np.empty(block.shape, block.dtype)
                self.reader.read_rows(first, last, rows)
                block[:] = rows
            for amplifier in readout.amplifiers:
                bottom, top = max(amplifier.kept.bottom, first), min(amplifier.kept.top, last)
                if bottom < top and amplifier.overscan is not None:
                    place = columns.index((amplifier.kept.left, amplifier.kept.right))
                    of_amplifier = self.stack._levels(block[:, bottom - first : top - first], amplifier, bottom, top)
                    levels[place, :, done + bottom - first : done + top - first] = of_amplifier
            done += last - first
        return levels


def trimmed_metadata(metadata: FrameMetadata, readout: Readout) -> FrameMetadata:
    """Return what a frame is when it is trimmed: its size, and its Bayer pattern at the first pixel that is kept."""
    pattern = metadata.bayer_pattern
    if pattern is not None and readout.columns[0][0] % 2:
        pattern = pattern[1] + pattern[0] + pattern[3] + pattern[2]
    if pattern is not None and readout.rows[0][0] % 2:
        pattern = pattern[2:] + pattern[:2]
    return replace(metadata, width=readout.width, height=readout.height, bayer_pattern=pattern)


def trimmed_frame(frame: FitsFrame, rule: OverscanRule) -> FitsFrame:
    """Return a science frame with its readout, and metadata of what is kept; masters stay as they are.

    Raises
    ------
    FrameError
        If a section does not fit the frame.
    """
    if frame.metadata.is_master:
        return frame
    readout = rule.readout_of(header_of(frame.cards), width=frame.width, height=frame.height, path=frame.source)
    if readout is None:
        return frame
    return replace(frame, metadata=trimmed_metadata(frame.metadata, readout), readout=readout)


@dataclass(frozen=True, kw_only=True)
class TrimmedPlane:
    """The kept part of a science frame without its overscan; implements `ostcal.engine.levels.PlaneReader`."""

    frame: FitsFrame
    readout: Readout

    @property
    def stack(self) -> TrimmedStack:
        """The frame as a stack of one."""
        return TrimmedStack(FitsStack((self.frame,)), self.readout)

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop`` in ADU, (stop - start, width) float32."""
        rows: NDArray[np.float32] = read_adu(self.stack, start, stop)[0].astype(np.float32, copy=False)
        return rows


def overscan_level_adu(stack: FrameStack, readout: Readout) -> float:
    """Return the highest overscan level of the first frame, of some of its lines: what saturation falls by, in ADU.

    Samples that are not finite do not count.
    """
    levels = [0.0]
    for amplifier in readout.amplifiers:
        if amplifier.overscan is not None:
            overscan = amplifier.overscan
            step = max(1, overscan.height // _ROWS_FOR_LEVEL)
            rows = [read_adu(stack.select([0]), y, y + 1)[0] for y in range(overscan.bottom, overscan.top, step)]
            samples = np.concatenate(rows)[:, overscan.left : overscan.right]
            finite = samples[np.isfinite(samples)]
            levels += [float(np.median(finite))] if finite.size else []
    return max(levels)


def _raw_rows(runs: Sequence[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the raw rows of kept rows `start` to `stop`, run by run."""
    before = 0
    for first, last in runs:
        low, high = max(start - before, 0) + first, min(stop - before + first, last)
        if low < high:
            yield low, high
        before += last - first


def _spans(amplifiers: Sequence[Amplifier]) -> tuple[tuple[int, int], ...]:
    """Return the columns of amplifiers, of those above each other once, from left to right."""
    return tuple(sorted({(amplifier.kept.left, amplifier.kept.right) for amplifier in amplifiers}))


def _kept_before(runs: Sequence[tuple[int, int]], column: int) -> int:
    """Return how many columns before `column` are kept."""
    return sum(min(stop, column) - start for start, stop in runs if start < column)


@lru_cache(maxsize=_FRAMES_KEPT)
def _levels_of_frame(frame: Any, amplifier: Amplifier, method: OverscanMethod) -> NDArray[np.int64]:
    """Measure and fit the levels of all lines of one frame beside the kept part of an amplifier, in 1/256 ADU.

    Stacks of stored frames are values, which the cache compares.
    """
    overscan, kept = amplifier.overscan, amplifier.kept
    if overscan is None:
        raise TypeError("an amplifier without overscan has no levels")
    width, encoding = frame.shape[2], frame.encoding
    beside = amplifier.axis == "rows"
    first, last = (kept.bottom, kept.top) if beside else (overscan.bottom, overscan.top)
    parts = []
    with frame.opened(first, last) as reader:
        for start in range(first, last, _ROWS_AT_ONCE):
            block = np.empty((1, min(start + _ROWS_AT_ONCE, last) - start, width), encoding.dtype)
            reader.read_rows(start, start + block.shape[1], block)
            columns = slice(overscan.left, overscan.right) if beside else slice(kept.left, kept.right)
            parts.append(encoding.decode(block[0, :, columns]))
    samples = np.concatenate(parts)
    return fitted_levels(line_levels(samples if beside else samples.T, method), method)
