"""A stack of floats or 32-bit integers that are whole numbers of 16 bits, read as these."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameStack, RowReader, SampleEncoding


@dataclass(frozen=True)
class WordsStack:
    """The frames of another stack as native 16-bit integers; implements `ostcal.frames.FrameStack`."""

    stack: FrameStack
    scale: float = 1.0
    """What samples are multiplied by to be whole numbers: 65535 where a program has divided them by it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return self.stack.shape

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        return SampleEncoding(dtype="uint16")

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one."""
        return self.stack.row_step

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` with 16-bit samples."""
        self._read_with(self.stack, start, stop, out)

    def _read_with(self, reader: RowReader, start: int, stop: int, out: NDArray[Any]) -> None:
        block = np.empty(out.shape, self.stack.encoding.dtype)
        reader.read_rows(start, stop, block)
        for samples, words in zip(block, out, strict=True):  # frame by frame: the float64 are those of one
            np.rint(np.multiply(samples, self.scale, dtype=np.float64), out=words, casting="unsafe")

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep files open while block after block is read."""
        with self.stack.opened(start, stop) as reader:
            yield _OpenWords(self, reader)

    def select(self, indices: Sequence[int]) -> WordsStack:
        """Return the stack of the frames at `indices` alone."""
        return WordsStack(self.stack.select(indices), self.scale)

    def recorded_mean_adu(self, position: int) -> float | None:
        """Return the exact mean of a frame's samples if it was recorded when they were stored."""
        return self.stack.recorded_mean_adu(position) if self.scale == 1.0 else None


@dataclass(frozen=True)
class _OpenWords:
    """A stack whose files are open."""

    stack: WordsStack
    reader: RowReader

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        self.stack._read_with(self.reader, start, stop, out)
