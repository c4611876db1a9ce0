"""Stacks of arrays: numpy and memory-mapped ones, and all that gives rows when it is sliced, such as zarr arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ostcal.errors import FrameError, InputError
from ostcal.frames import FrameStack, SampleEncoding

_EXACT_INTEGERS = 2**53
"""Integers up to here are exact in float64."""
_STEP_BYTES = 64 * 2**20
"""Rows of a stored chunk are read together as long as those of all frames take no more."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane of an array of three axes that is read when it is sliced; of `ArrayStack` all planes at once."""

    array: Any
    index: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.array.shape[1], self.array.shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def chunk_rows(self) -> int:
        """Rows of a stored chunk; 1 where the array is not stored in chunks."""
        return _chunk_rows(self.array)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return rows of the plane."""
        return np.asarray(self.array[self.index, rows])


@dataclass(frozen=True, eq=False)
class ArrayStack:
    """Frames in arrays of two axes as one stack; implements `ostcal.frames.FrameStack`.

    Samples of 16 bits stay what they are, whatever their byte order; 32-bit floats too. All else becomes float64,
    which holds integers up to 2^53.

    Raises
    ------
    InputError
        If an array has no real numbers.
    """

    frames: tuple[Any, ...]
    """Of one shape."""
    labels: tuple[str, ...]
    """What messages call them."""

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        for frame, label in zip(self.frames, self.labels, strict=True):
            check_dtype(frame.dtype, label)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        height, width = self.frames[0].shape
        return len(self.frames), height, width

    @cached_property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        return encoding_of([frame.dtype for frame in self.frames])

    @cached_property
    def row_step(self) -> int:
        """Rows that are read for the price of one, where those of all frames are not too much to hold."""
        n, height, width = self.shape
        rows = max(_chunk_rows(frame) for frame in self.frames)
        per_row = n * width * np.dtype(self.encoding.dtype).itemsize
        return min(rows, height) if rows * per_row <= _STEP_BYTES else 1

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` and the encoding's dtype with raw samples."""
        target = out.view(np.int16) if self.encoding.zero_adu else out
        whole = self._whole_array
        planes = np.asarray(whole[:, start:stop]) if whole is not None else None
        for i, frame in enumerate(self.frames):
            rows = np.asarray(frame[start:stop]) if planes is None else planes[i]
            if rows.dtype.kind in "ui" and rows.dtype.itemsize == 8:
                _check_integers(rows, self.labels[i])
            np.copyto(target[i], rows, casting="unsafe")

    @cached_property
    def _whole_array(self) -> Any:
        """The array whose planes these are, all of them in their order; ``None`` for any other frames."""
        first = self.frames[0]
        if not isinstance(first, Plane) or len(self.frames) != first.array.shape[0]:
            return None
        are_all = all(
            isinstance(frame, Plane) and frame.array is first.array and frame.index == i
            for i, frame in enumerate(self.frames)
        )
        return first.array if are_all else None

    def opened(self, start: int, stop: int) -> AbstractContextManager[ArrayStack]:
        """Return the stack itself: there is nothing to open."""
        return nullcontext(self)

    def select(self, indices: Sequence[int]) -> ArrayStack:
        """Return the stack of the frames at `indices` alone."""
        return ArrayStack(tuple(self.frames[i] for i in indices), tuple(self.labels[i] for i in indices))

    def recorded_mean_adu(self, position: int) -> None:
        """Return nothing: arrays have no record."""


@dataclass(frozen=True, eq=False)
class MaskedStack:
    """The frames of a stack without the samples that masks leave out; implements `ostcal.frames.FrameStack`.

    Masked samples are NaN, so that 16-bit samples become float32.
    """

    stack: FrameStack
    masks: tuple[NDArray[np.bool_] | None, ...]
    """(height, width) of each frame, true where a sample does not count."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return self.stack.shape

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""
        encoding = self.stack.encoding
        return SampleEncoding(dtype="float32") if encoding.is_integer else encoding

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one."""
        return self.stack.row_step

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` with samples."""
        block = np.empty(out.shape, self.stack.encoding.dtype)
        self.stack.read_rows(start, stop, block)
        for samples, mask, rows in zip(block, self.masks, out, strict=True):
            np.copyto(rows, self.stack.encoding.decode(samples), casting="same_kind")
            if mask is not None:
                rows[mask[start:stop]] = np.nan

    def opened(self, start: int, stop: int) -> AbstractContextManager[MaskedStack]:
        """Return the stack itself: masked frames are read block by block."""
        return nullcontext(self)

    def select(self, indices: Sequence[int]) -> MaskedStack:
        """Return the stack of the frames at `indices` alone."""
        return replace(self, stack=self.stack.select(indices), masks=tuple(self.masks[i] for i in indices))

    def recorded_mean_adu(self, position: int) -> None:
        """Return nothing: what was recorded is the mean of all samples."""


def encoding_of(dtypes: Sequence[DTypeLike]) -> SampleEncoding:
    """Return the encoding that costs least and loses nothing: 16-bit words, float32, else float64."""
    kinds = {(np.dtype(dtype).kind, np.dtype(dtype).itemsize) for dtype in dtypes}
    if kinds <= {("u", 1), ("u", 2)}:
        return SampleEncoding(dtype="uint16")
    if kinds <= {("u", 1), ("i", 1), ("i", 2)}:
        return SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32768)
    is_exact = kinds <= {("u", 1), ("u", 2), ("i", 1), ("i", 2), ("f", 2), ("f", 4)}
    return SampleEncoding(dtype="float32" if is_exact else "float64")


def check_dtype(dtype: DTypeLike, label: str) -> None:
    """Raise `InputError` for samples that are no real numbers, or hold more than float64."""
    kind = np.dtype(dtype)
    if kind.kind not in "uif" or kind.itemsize > 8:
        raise InputError(f"{label}: holds {kind}, not integers or floats of up to 64 bits; convert it with astype")


def _check_integers(rows: NDArray[Any], label: str) -> None:
    """Raise `FrameError` for integers that float64 cannot hold exactly."""
    if rows.size and max(-int(rows.min()), int(rows.max())) > _EXACT_INTEGERS:
        raise FrameError(f"{label}: has integers beyond 2^53, which float64 cannot hold; convert it with astype")


def _chunk_rows(array: Any) -> int:
    """Return the rows of a stored chunk of an array of two axes or more; 1 where it is not stored in chunks."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if isinstance(array, Plane):
        return array.chunk_rows
    return int(chunks[-2]) if isinstance(chunks, tuple) and len(chunks) > 1 and isinstance(chunks[-2], int) else 1
