"""Several stacks read as one: frames of one group that lie in files and in several series."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameStack, RowReader, SampleEncoding


@dataclass(frozen=True)
class ConcatenatedStack:
    """The frames of `parts`, one after the other; implements `ostcal.frames.FrameStack`.

    Parts of the same encoding are read as they are; 16-bit parts of different byte order become native uint16;
    anything else becomes float64, which holds every sample type exactly.
    """

    parts: tuple[FrameStack, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        _, height, width = self.parts[0].shape
        return sum(part.shape[0] for part in self.parts), height, width

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        encodings = {part.encoding for part in self.parts}
        if len(encodings) == 1:
            return encodings.pop()
        zeros = {encoding.zero_adu for encoding in encodings}
        if all(encoding.is_integer for encoding in encodings) and len(zeros) == 1:
            return SampleEncoding(dtype="uint16", zero_adu=zeros.pop())
        return SampleEncoding(dtype="float64")

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one."""
        return max(part.row_step for part in self.parts)

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` with raw samples."""
        self._read_with(self.parts, start, stop, out)

    def _read_with(self, readers: Sequence[RowReader], start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` from readers of the parts."""
        target = self.encoding
        first = 0
        for part, reader in zip(self.parts, readers, strict=True):
            view = out[first : first + part.shape[0]]
            first += part.shape[0]
            if part.encoding == target:
                reader.read_rows(start, stop, view)
                continue
            block = np.empty(view.shape, part.encoding.dtype)
            reader.read_rows(start, stop, block)
            view[...] = part.encoding.decode(block) - target.zero_adu

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep files open while block after block is read."""
        with contextlib.ExitStack() as files:
            yield _OpenParts(self, tuple(files.enter_context(part.opened(start, stop)) for part in self.parts))

    def select(self, indices: Sequence[int]) -> FrameStack:
        """Return the stack of the frames at `indices` alone."""
        chosen: list[FrameStack] = []
        for index in indices:
            for part in self.parts:
                if index < part.shape[0]:
                    chosen.append(part.select([index]))
                    break
                index -= part.shape[0]
        return chosen[0] if len(chosen) == 1 else ConcatenatedStack(tuple(chosen))

    def recorded_mean_adu(self, position: int) -> float | None:
        """Return the exact mean of a frame's samples, where its series has it."""
        return self.select([position]).recorded_mean_adu(0)


@dataclass(frozen=True)
class _OpenParts:
    """A stack whose parts' files are open."""

    stack: ConcatenatedStack
    readers: tuple[RowReader, ...]

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        self.stack._read_with(self.readers, start, stop, out)
