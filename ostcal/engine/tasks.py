"""What a task of the graph does: read a strip, combine, write, and return a few numbers.

Tasks are idempotent and hold nothing but locations and numbers; the graph (`graph.py`) only says which follows which.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import BlockPlanes, Correction, combine_block, corrected
from ostcal.engine.levels import DarkMeans, DarkModel, FrameLevels, SteppedReader, frame_level
from ostcal.engine.noise import NoiseCells, row_cells
from ostcal.engine.normalization import divide_by_levels, finite_row_sums
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.engine.tiling import Batch, block_rows
from ostcal.frames import FrameStack
from ostcal.vocabulary import FlatScaling, NormalizationMethod


class StripSink(SteppedReader, Protocol):
    """Where the planes of a master go, strip by strip; small and picklable."""

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        """Write the three planes of the rows that begin at ``start``; give a checksum of each."""

    def write_divided(
        self, start: int, combined: Any, *, master: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        """Write the images of the rows that begin at ``start``, and their ``n_used`` as the sink `combined` has it."""

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows of the standard deviation that were written before."""


class StripMemory(Protocol):
    """Keeps what finished strips counted, for a run that goes on after this one was killed; small and picklable."""

    def recall(self, start: int, key: str) -> StripResult | None:
        """Give the result of the strip that begins at ``start``, if it was written and `key` is the same."""

    def remember(self, start: int, key: str, result: StripResult, checksums: Sequence[int]) -> None:
        """Keep the result of a strip that was written, with the checksums of its planes."""


@dataclass(frozen=True, kw_only=True)
class FlatTreatment:
    """What is done to flats beyond combining."""

    exposure_times_s: tuple[float, ...]
    dark: DarkModel | None
    scaling: FlatScaling
    normalization: NormalizationMethod
    bayer_pattern: str | None = None
    dark_jobs: tuple[str, ...] = ()
    """Names of the jobs of the same run that make the dark."""


@dataclass(frozen=True, kw_only=True)
class MasterJob:
    """One master to be made."""

    name: str
    stack: FrameStack
    method: RejectionMethod
    sink: StripSink
    flat: FlatTreatment | None = None
    staging: StripSink | None = None
    """Where flats are combined before they are normalised into `sink`: a cluster runs tasks again when a worker dies,
    and dividing in place would then divide twice."""
    memory: StripMemory | None = None
    """Of the strips that an earlier run has finished; ``None`` where every run begins anew."""

    @property
    def combined(self) -> StripSink:
        """Where strips are combined to."""
        return self.sink if self.staging is None else self.staging

    @property
    def n_frames(self) -> int:
        """Frames that go in."""
        return self.stack.shape[0]

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.stack.shape[1]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of all frames."""
        n_frames, _, width = self.stack.shape
        return n_frames * width * np.dtype(self.stack.encoding.dtype).itemsize

    @property
    def float_path(self) -> bool:
        """Whether samples become floats before rejection."""
        return self.flat is not None or not self.stack.encoding.is_integer


@dataclass(frozen=True, kw_only=True)
class PixelRange:
    """Range and row sums of the finite pixels of a strip."""

    minimum: float
    maximum: float
    row_sums: NDArray[np.float64]
    """(rows,) float64; whole rows, so that their exact sum does not depend on strips."""
    count: int

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> PixelRange:
        """Measure rows of shape (rows, width)."""
        lowest, highest = float(np.min(rows)), float(np.max(rows))  # NaN where there is one
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            finite = np.isfinite(rows)
            lowest = float(np.min(rows, initial=np.inf, where=finite))
            highest = float(np.max(rows, initial=-np.inf, where=finite))
        sums, count = finite_row_sums(rows)
        return cls(minimum=lowest, maximum=highest, row_sums=sums, count=count)

    @classmethod
    def joined(cls, ranges: Sequence[PixelRange]) -> PixelRange:
        """Count neighbouring strips as one; sums of rows are kept, so that their exact sum stays the same."""
        return cls(
            minimum=min(pixels.minimum for pixels in ranges),
            maximum=max(pixels.maximum for pixels in ranges),
            row_sums=np.concatenate([pixels.row_sums for pixels in ranges]),
            count=sum(pixels.count for pixels in ranges),
        )


@dataclass(frozen=True, kw_only=True)
class StripResult:
    """Counts of one strip of a master."""

    rejected_per_frame: NDArray[np.int64]
    n_samples: int
    invalid: int
    empty_pixels: int
    pixels: PixelRange
    read_s: float
    combine_s: float
    write_s: float

    @classmethod
    def joined(cls, strips: Sequence[StripResult]) -> StripResult:
        """Count neighbouring strips as one."""
        return cls(
            rejected_per_frame=np.sum([strip.rejected_per_frame for strip in strips], axis=0),
            n_samples=sum(strip.n_samples for strip in strips),
            invalid=sum(strip.invalid for strip in strips),
            empty_pixels=sum(strip.empty_pixels for strip in strips),
            pixels=PixelRange.joined([strip.pixels for strip in strips]),
            read_s=sum(strip.read_s for strip in strips),
            combine_s=sum(strip.combine_s for strip in strips),
            write_s=sum(strip.write_s for strip in strips),
        )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What must be known of a series before its strips are combined."""

    noise: SeriesNoise
    levels: FrameLevels | None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of one job."""

    name: str
    noise: SeriesNoise
    noise_measured: bool
    levels: FrameLevels | None
    normalization_levels: dict[str, float]
    rejected_per_frame: tuple[int, ...]
    n_samples: int
    invalid: int
    """Samples that were not finite."""
    empty_pixels: int
    minimum: float
    maximum: float
    mean: float
    """Of the master's finite pixels, in its final unit."""
    seconds: dict[str, float]
    """Time summed over tasks: read, combine, write."""

    @property
    def rejected_share(self) -> float:
        """Share of all samples that were not kept."""
        return sum(self.rejected_per_frame) / self.n_samples if self.n_samples else 0.0


@dataclass(kw_only=True)
class _Counts:
    """What is counted while the rows of a strip are combined."""

    rejected_per_frame: NDArray[np.int64]
    invalid: int = 0
    read_s: float = 0.0
    combine_s: float = 0.0


_workspace = threading.local()


def _reused_block(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Give this thread's block, made anew only when it must grow: fresh pages cost 1 s of CPU for 40 x 61 MP."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return _reused_bytes("block", n_bytes).view(dtype).reshape(shape)


def _reused_planes(shape: tuple[int, int]) -> BlockPlanes:
    """Give this thread's planes of a strip; fresh pages for each strip cost 0.3 s of CPU for 61 MP."""
    size = shape[0] * shape[1]
    buffer = _reused_bytes("planes", 10 * size)
    return BlockPlanes(
        master=buffer[: 4 * size].view(np.float32).reshape(shape),
        std=buffer[4 * size : 8 * size].view(np.float32).reshape(shape),
        n_used=buffer[8 * size :].view(np.uint16).reshape(shape),
    )


def _reused_bytes(name: str, n_bytes: int) -> NDArray[np.uint8]:
    buffer: NDArray[np.uint8] | None = getattr(_workspace, name, None)
    if buffer is None or buffer.nbytes < n_bytes:
        buffer = np.empty(n_bytes, np.uint8)
        setattr(_workspace, name, buffer)
    return buffer[:n_bytes]


def warm_up(job: MasterJob) -> None:
    """Compile what a job needs, or load it from numba's cache, on a block of one pixel.

    Before processes start, so that they find the cache filled instead of all compiling the same for 8 s; and before
    threads do: loading takes 0.1 s alone, and three times that beside others that ask for Python's lock at every chunk.
    """
    encoding = job.stack.encoding
    correction = Correction(scale=np.ones(1), exposure_time_s=np.ones(1)) if job.flat is not None else None
    method = job.method.resolved(job.n_frames)  # of one frame, `auto` would be another kernel
    combine_block(np.zeros((1, 1, 1), encoding.dtype), encoding, method, correction=correction)


def noise_of_rows(job: MasterJob, rows: Sequence[int], levels: FrameLevels | None) -> list[NoiseCells]:
    """Measure sampled rows of a series."""
    n, _, width = job.stack.shape
    cells = []
    for row in rows:
        block = np.empty((n, 1, width), job.stack.encoding.dtype)
        job.stack.read_rows(row, row + 1, block)
        samples = block.reshape(n, width)
        if job.flat is None:
            cells.append(row_cells(job.stack.encoding.decode(samples)))
            continue
        correction = _correction(job.flat, row, row + 1, levels)
        lit = np.isfinite(correction.scale)
        cells.append(row_cells(corrected(samples, job.stack.encoding, correction)[lit]))
    return cells


def level_of_frame(job: MasterJob, index: int, means: DarkMeans) -> float:
    """Measure the level of one flat frame after its dark."""
    flat = _flat(job)
    return frame_level(job.stack.select([index]), flat.exposure_times_s[index], flat.dark, means, flat.scaling)


def combine_strip(job: MasterJob, start: int, stop: int, prepared: Prepared) -> StripResult:
    """Read, combine and write one strip; one that an interrupted run has finished is not made again."""
    correction = None if job.flat is None else _correction(job.flat, start, stop, prepared.levels)
    if job.memory is None:
        return _combine_strip(job, start, stop, prepared.noise, correction)[0]
    key = _strip_key(start, stop, prepared.noise, correction)
    kept = job.memory.recall(start, key)
    if kept is not None:
        return kept
    result, checksums = _combine_strip(job, start, stop, prepared.noise, correction)
    job.memory.remember(start, key, result, checksums)
    return result


def _strip_key(start: int, stop: int, noise: SeriesNoise, correction: Correction | None) -> str:
    """Give a digest of all that is known of a strip only when it is combined: noise, scales, and the rows of darks."""
    digest = hashlib.sha256(f"{start}-{stop} {noise.noise_adu.hex()} {noise.step_adu.hex()}".encode("ascii"))
    if correction is not None:
        rows = (correction.scale, correction.exposure_time_s, correction.dark_offset, correction.dark_rate)
        for values in rows:
            digest.update(b"none" if values is None else np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _combine_strip(
    job: MasterJob, start: int, stop: int, noise: SeriesNoise, correction: Correction | None
) -> tuple[StripResult, tuple[int, ...]]:
    n, _, width = job.stack.shape
    planes = _reused_planes((stop - start, width))
    counts = _combine_rows(job, start, stop, noise, correction, planes)
    combined = time.perf_counter()
    checksums = job.combined.write_rows(start, master=planes.master, n_used=planes.n_used, std=planes.std)
    result = StripResult(
        rejected_per_frame=counts.rejected_per_frame,
        n_samples=n * (stop - start) * width,
        invalid=counts.invalid,
        empty_pixels=int(np.count_nonzero(planes.n_used == 0)),
        pixels=PixelRange.of(planes.master),
        read_s=counts.read_s,
        combine_s=counts.combine_s,
        write_s=time.perf_counter() - combined,
    )
    return result, checksums


def normalise_strip(job: MasterJob, start: int, stop: int, levels: dict[str, float]) -> PixelRange:
    """Divide a strip of a combined flat by its level."""
    pattern, source = _flat(job).bayer_pattern, job.combined
    rows = divide_by_levels(source.read_rows(start, stop), start, levels, pattern)
    std = divide_by_levels(source.read_std(start, stop), start, levels, pattern)
    job.sink.write_divided(start, source, master=rows, std=std)
    return PixelRange.of(rows)


def combine_batch(job: MasterJob, batch: Batch, prepared: Prepared) -> StripResult:
    """Read, combine and write the strips of a batch; the result counts them as one strip."""
    return StripResult.joined([combine_strip(job, start, stop, prepared) for start, stop in batch.strips])


def normalise_batch(job: MasterJob, batch: Batch, levels: dict[str, float]) -> PixelRange:
    """Divide the strips of a batch of a combined flat by their level."""
    return PixelRange.joined([normalise_strip(job, start, stop, levels) for start, stop in batch.strips])


def merge_strips(
    job: MasterJob,
    prepared: Prepared,
    strips: Sequence[StripResult],
    normalization_levels: dict[str, float],
    normalised: Sequence[PixelRange],
) -> JobResult:
    """Sum what the strips counted; pixels are counted as they are after normalisation."""
    whole = StripResult.joined(strips)
    pixels = PixelRange.joined(normalised) if normalised else whole.pixels
    return JobResult(
        name=job.name,
        noise=prepared.noise,
        noise_measured=job.method.resolved(job.n_frames).needs_noise,
        levels=prepared.levels,
        normalization_levels=normalization_levels,
        rejected_per_frame=tuple(int(count) for count in whole.rejected_per_frame),
        n_samples=whole.n_samples,
        invalid=whole.invalid,
        empty_pixels=whole.empty_pixels,
        minimum=pixels.minimum,
        maximum=pixels.maximum,
        mean=mean_of([pixels]),
        seconds={"read": whole.read_s, "combine": whole.combine_s, "write": whole.write_s},
    )


def mean_of(ranges: Sequence[PixelRange]) -> float:
    """Average the finite pixels of strips; NaN where there is none."""
    count = sum(pixels.count for pixels in ranges)
    total = math.fsum(value for pixels in ranges for value in pixels.row_sums)
    return total / count if count else math.nan


def _flat(job: MasterJob) -> FlatTreatment:
    if job.flat is None:
        raise TypeError(f"{job.name} is not a flat")
    return job.flat


def _correction(flat: FlatTreatment, start: int, stop: int, levels: FrameLevels | None) -> Correction:
    offset, rate = flat.dark.read(start, stop) if flat.dark is not None else (None, None)
    scales = levels.scales if levels is not None else (1.0,) * len(flat.exposure_times_s)
    return Correction(
        scale=np.array(scales), exposure_time_s=np.array(flat.exposure_times_s), dark_offset=offset, dark_rate=rate
    )


def _combine_rows(
    job: MasterJob, start: int, stop: int, noise: SeriesNoise, correction: Correction | None, planes: BlockPlanes
) -> _Counts:
    """Read and combine rows, block by block, into `planes`."""
    encoding = job.stack.encoding
    counts = _Counts(rejected_per_frame=np.zeros(job.n_frames, np.int64))
    for first, block in _blocks(job, start, stop, counts):
        began = time.perf_counter()
        # Samples that are floats on the disk are corrected as a copy: one row of it, which stays in the cache.
        at_once = block.shape[1] if encoding.is_integer else 1
        for y in range(0, block.shape[1], at_once):
            top = first - start + y
            bottom = min(top + at_once, first - start + block.shape[1])
            part = combine_block(
                block[:, y : y + at_once],
                encoding,
                job.method,
                noise=noise,
                correction=None if correction is None else correction.rows(top, bottom),
                planes=planes.rows(top, bottom),
            )
            counts.rejected_per_frame += part.rejected_per_frame
            counts.invalid += part.invalid
        counts.combine_s += time.perf_counter() - began
    return counts


def _blocks(job: MasterJob, start: int, stop: int, counts: _Counts) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give the first row of each block and its samples, which are good until the next block is asked for."""
    n, _, width = job.stack.shape
    dtype = job.stack.encoding.dtype
    step = block_rows(job.stack.shape, np.dtype(dtype).itemsize, job.stack.row_step)
    began = time.perf_counter()
    with job.stack.opened(start, stop) as reader:
        for first in range(start, stop, step):
            block = _reused_block((n, min(first + step, stop) - first, width), dtype)
            reader.read_rows(first, first + block.shape[1], block)
            counts.read_s += time.perf_counter() - began
            yield first, block
            began = time.perf_counter()
