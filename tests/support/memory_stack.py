"""Frames in arrays or ``.npy`` files, a frame source that fails, and a master in ``.npy`` files.

Real classes on the engine's protocols, small and picklable: they go to worker processes as the storage's own do.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.errors import FrameError
from ostcal.frames import FrameStack, SampleEncoding

NATIVE = SampleEncoding(dtype="uint16")

_lock = threading.Lock()


def _loaded(path: str | Path, mode: Literal["r", "r+"]) -> NDArray[Any]:
    """Open an array in a file, one thread at a time: CPython 3.11 cannot parse its header in two (gh-106905)."""
    with _lock:
        array: NDArray[Any] = np.load(path, mmap_mode=mode)
    return array


@dataclass(frozen=True, eq=False)
class MemoryStack:
    """Raw samples (n_frames, height, width) in an array, or in the ``.npy`` file of a path."""

    samples: NDArray[Any] | str
    encoding: SampleEncoding = NATIVE
    row_step: int = 1
    indices: tuple[int, ...] | None = None
    """Frames of the samples that belong to the stack; ``None`` is all."""

    @classmethod
    def of_file(cls, path: Path, samples: NDArray[Any], encoding: SampleEncoding = NATIVE) -> MemoryStack:
        """Save samples, so that worker processes get a path instead of pixels."""
        np.save(path, samples)
        return cls(str(path), encoding)

    @property
    def shape(self) -> tuple[int, int, int]:
        n, height, width = self._raw().shape
        return (n if self.indices is None else len(self.indices)), height, width

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        raw = self._raw()
        for row, frame in enumerate(range(raw.shape[0]) if self.indices is None else self.indices):
            out[row] = raw[frame, start:stop]

    def opened(self, start: int, stop: int) -> AbstractContextManager[MemoryStack]:
        return nullcontext(self)

    def select(self, indices: Sequence[int]) -> MemoryStack:
        own = range(self._raw().shape[0]) if self.indices is None else self.indices
        return replace(self, indices=tuple(own[i] for i in indices))

    def recorded_mean_adu(self, position: int) -> None:
        return None

    def _raw(self) -> NDArray[Any]:
        return _loaded(self.samples, "r") if isinstance(self.samples, str) else self.samples


@dataclass(frozen=True, eq=False)
class BrokenStack:
    """A stack of which one frame cannot be read from a row on, as a truncated file."""

    whole: FrameStack
    bad_row: int = 0
    label: str = "dark_0007.fits"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @property
    def encoding(self) -> SampleEncoding:
        return self.whole.encoding

    @property
    def row_step(self) -> int:
        return self.whole.row_step

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if stop > self.bad_row:
            raise FrameError(f"{self.label}: the file ends at row {self.bad_row}")
        self.whole.read_rows(start, stop, out)

    def opened(self, start: int, stop: int) -> AbstractContextManager[BrokenStack]:
        return nullcontext(self)

    def select(self, indices: Sequence[int]) -> BrokenStack:
        return replace(self, whole=self.whole.select(indices))

    def recorded_mean_adu(self, position: int) -> float | None:
        return self.whole.recorded_mean_adu(position)


_PLANES = {"master": np.float32, "n_used": np.uint16, "std": np.float32}


@dataclass(frozen=True)
class NpySink:
    """The planes of a master in memory-mapped ``.npy`` files; implements `ostcal.engine.tasks.StripSink`."""

    folder: str
    shape: tuple[int, int]

    @classmethod
    def create(cls, folder: Path, shape: tuple[int, int]) -> NpySink:
        """Make the files; the floats are NaN and the counts 65535 until they are written."""
        folder.mkdir(parents=True)
        for name, dtype in _PLANES.items():
            np.save(folder / f"{name}.npy", np.full(shape, np.nan if dtype is np.float32 else 65535, dtype))
        return cls(str(folder), shape)

    def plane(self, name: str) -> NDArray[Any]:
        """Return a whole plane."""
        return np.array(_loaded(Path(self.folder, f"{name}.npy"), "r"))

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        self._write(start, master=master, n_used=n_used, std=std)
        return tuple(google_crc32c.value(rows.tobytes()) for rows in (master, n_used, std))

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.array(_loaded(Path(self.folder, "master.npy"), "r")[start:stop])

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.array(_loaded(Path(self.folder, "std.npy"), "r")[start:stop])

    def write_divided(
        self, start: int, combined: NpySink, *, master: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        n_used = np.array(_loaded(Path(combined.folder, "n_used.npy"), "r")[start : start + len(master)])
        self._write(start, master=master, n_used=n_used, std=std)

    @property
    def row_step(self) -> int:
        return 1

    def _write(self, start: int, **planes: NDArray[Any]) -> None:
        for name, rows in planes.items():
            assert rows.dtype == _PLANES[name]
            assert rows.shape[1] == self.shape[1]
            target = _loaded(Path(self.folder, f"{name}.npy"), "r+")
            target[start : start + len(rows)] = rows
            target.flush()


@dataclass(frozen=True, eq=False)
class ArrayPlane:
    """An image in memory that is read by rows; implements `ostcal.engine.levels.PlaneReader`."""

    image: NDArray[np.float32]
    reads: list[tuple[int, int]] = field(default_factory=list)
    row_step: int = 7

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        self.reads.append((start, stop))
        return self.image[start:stop]


def keep_result(job: MasterJob, result: JobResult) -> JobResult:
    """Finish a job by giving its result as it is."""
    return result


@dataclass(frozen=True)
class RefuseToFinish:
    """Finish all jobs but one, whose disk is full."""

    name: str

    def __call__(self, job: MasterJob, result: JobResult) -> JobResult:
        if job.name == self.name:
            raise OSError(28, "No space left on device", f"{job.name}.fits")
        return result
