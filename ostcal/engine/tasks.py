"""What the tasks of a graph do: read a strip, combine, write, and return a few numbers.

Tasks may run twice and hold nothing but locations and numbers; `graph.py` only says which follows which.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import BlockPlanes, Correction, RowLevels, combine_block, corrected
from ostcal.engine.levels import (
    DarkMeans,
    DarkModel,
    FrameLevels,
    SteppedReader,
    common_scales,
    dark_means,
    divide_by_levels,
    finite_row_sums,
    frame_level,
    lit_level,
    measure_levels,
    refuse_unlit,
)
from ostcal.engine.noise import NoiseCells, merge_cells, row_cells
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.engine.tiling import Batch, block_rows
from ostcal.frames import FrameStack, LevelledReader, LevelledStack, RowReader
from ostcal.vocabulary import FlatScaling, NormalizationMethod


class StripSink(SteppedReader, Protocol):
    """Where the planes of a master go, strip by strip; small and picklable."""

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        """Write the three planes of the rows that begin at ``start``; return a checksum of each."""

    def write_divided(
        self, start: int, combined: Any, *, master: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        """Write the images of the rows that begin at ``start``, and their ``n_used`` as the sink `combined` has it."""

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows of the standard deviation that were written before: (stop - start, width)."""


class StripMemory(Protocol):
    """Keeps what finished strips counted, for a run that resumes after this one was killed; small and picklable."""

    def recall(self, start: int, key: str) -> StripResult | None:
        """Return the result of the strip that begins at ``start``, if it was written and `key` is the same."""

    def remember(self, start: int, key: str, result: StripResult, checksums: Sequence[int]) -> None:
        """Keep the result of a strip that was written, with the checksums of its planes."""


@dataclass(frozen=True, kw_only=True)
class FlatTreatment:
    """How flats are treated beyond combining."""

    exposure_times_s: tuple[float, ...]
    dark: DarkModel | None
    scaling: FlatScaling
    normalization: NormalizationMethod
    bayer_pattern: str | None = None
    dark_jobs: tuple[str, ...] = ()
    """Names of the jobs of the same run that make the dark."""


@dataclass(frozen=True, kw_only=True)
class MasterJob:
    """One master to make."""

    name: str
    stack: FrameStack
    method: RejectionMethod
    sink: StripSink
    flat: FlatTreatment | None = None
    staging: StripSink | None = None
    """Where flats are combined before they are normalised into `sink`: a cluster runs tasks again when a worker dies,
    and dividing in place would then divide twice."""
    memory: StripMemory | None = None
    """Of the strips that an earlier run has finished; ``None`` keeps nothing."""

    @property
    def combined(self) -> StripSink:
        """Where strips are combined to."""
        return self.sink if self.staging is None else self.staging

    @property
    def n_frames(self) -> int:
        """Frames that are combined."""
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
        """Measure rows: (rows, width) float32."""
        lowest, highest = float(np.min(rows)), float(np.max(rows))  # NaN where there is one
        if not (np.isfinite(lowest) and np.isfinite(highest)):
            finite = np.isfinite(rows)
            lowest = float(np.min(rows, initial=np.inf, where=finite))
            highest = float(np.max(rows, initial=-np.inf, where=finite))
        sums, count = finite_row_sums(rows)
        return cls(minimum=lowest, maximum=highest, row_sums=sums, count=count)

    @property
    def mean(self) -> float:
        """Average of the finite pixels; NaN if there are none."""
        return math.fsum(self.row_sums) / self.count if self.count else math.nan

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
    """What must be known about a series before its strips are combined."""

    noise: SeriesNoise
    levels: FrameLevels | None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Counts and levels of a master whose strips are all written."""

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


class Workspace(threading.local):
    """Arrays of a thread, reused from strip to strip: fresh pages cost 1 s of CPU for 40 frames of 61 MP."""

    def __init__(self) -> None:
        self._block = self._planes = np.empty(0, np.uint8)

    def block(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an array for samples."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self._block.nbytes < n_bytes:
            self._block = np.empty(n_bytes, np.uint8)
        return self._block[:n_bytes].view(dtype).reshape(shape)

    def planes(self, shape: tuple[int, int]) -> BlockPlanes:
        """Return the planes of a strip: (rows, width); fresh ones for each strip cost 0.3 s of CPU for 61 MP."""
        size = math.prod(shape)
        if self._planes.nbytes < 10 * size:
            self._planes = np.empty(10 * size, np.uint8)
        buffer = self._planes[: 10 * size]
        return BlockPlanes(
            master=buffer[: 4 * size].view(np.float32).reshape(shape),
            std=buffer[4 * size : 8 * size].view(np.float32).reshape(shape),
            n_used=buffer[8 * size :].view(np.uint16).reshape(shape),
        )


workspace = Workspace()
"""Of each thread of the process: tasks of all graphs that it runs share it."""


def warm_up(job: MasterJob) -> None:
    """Compile what a job needs, or load it from numba's cache, on a block of one pixel.

    Before processes start, so that they find the cache filled instead of all compiling for 8 s; and before threads do:
    loading takes 0.1 s alone, and three times that beside threads that ask for Python's lock at every chunk.
    """
    encoding = job.stack.encoding
    correction = Correction(scale=np.ones(1), exposure_time_s=np.ones(1)) if job.flat is not None else None
    method = job.method.resolved(job.n_frames)  # of one frame, `auto` would be another kernel
    levelled = job.stack.levelled_encoding if isinstance(job.stack, LevelledStack) else None
    if levelled is None:
        combine_block(np.zeros((1, 1, 1), encoding.dtype), encoding, method, correction=correction)
        return
    levels = [RowLevels(quanta=np.zeros((1, 1), np.int64), left=0, width=3)]
    highest = np.array([[[0xFFFF, 0x7FFF, 0xFF7F]]], np.uint16)  # one of them is, so that it is combined as a float
    combine_block(highest, levelled, method, correction=correction, levels=levels)


def noise_of_rows(job: MasterJob, rows: Sequence[int], levels: FrameLevels | None) -> list[NoiseCells]:
    """Measure the noise of sampled rows of a series, for each row."""
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
    """Measure the level of one flat frame, its dark subtracted, in ADU."""
    flat = _flat(job)
    return frame_level(job.stack.select([index]), flat.exposure_times_s[index], flat.dark, means, flat.scaling)


def frame_levels(job: MasterJob, levels_adu: list[float]) -> FrameLevels:
    """Return the scales that bring flats to a common level."""
    return common_scales(levels_adu, _flat(job).scaling)


def levels_without_scaling(job: MasterJob, darks: list[Any]) -> FrameLevels:
    """Return levels that scale nothing, when the masters that the dark is made of are there."""
    return common_scales([0.0] * job.n_frames, "none")


def means_of_dark(job: MasterJob, darks: list[Any]) -> DarkMeans:
    """Measure the dark of flats, when the masters that it is made of are there."""
    return dark_means(_flat(job).dark, job.height)


def prepare_strips(job: MasterJob, parts: list[list[NoiseCells]], levels: FrameLevels | None) -> Prepared:
    """Put together what is known about a series before its strips are combined."""
    noise = SeriesNoise() if not parts else merge_cells([cells for part in parts for cells in part])
    if job.flat is not None and job.stack.encoding.is_integer:
        noise = SeriesNoise(noise_adu=noise.noise_adu, step_adu=1.0)
    if levels is not None:
        refuse_unlit(levels, noise)
    return Prepared(noise=noise, levels=levels)


def combine_batch(job: MasterJob, batch: Batch, prepared: Prepared) -> StripResult:
    """Read, combine and write the strips of a batch; the result counts them as one strip."""
    return StripResult.joined([combine_strip(job, start, stop, prepared) for start, stop in batch.strips])


def combine_strip(job: MasterJob, start: int, stop: int, prepared: Prepared) -> StripResult:
    """Read, combine and write one strip; one that an interrupted run has finished is not made again."""
    correction = None if job.flat is None else _correction(job.flat, start, stop, prepared.levels)
    if job.memory is None:
        return _combine_strip(job, start, stop, prepared.noise, correction)[0]
    # The key digests what is known only when a strip is combined: noise, scales, and the rows of darks.
    noise = prepared.noise
    digest = hashlib.sha256(f"{start}-{stop} {noise.noise_adu.hex()} {noise.step_adu.hex()}".encode("ascii"))
    if correction is not None:
        for values in (correction.scale, correction.exposure_time_s, correction.dark_offset, correction.dark_rate):
            digest.update(b"none" if values is None else np.ascontiguousarray(values).data)
    key = digest.hexdigest()
    kept = job.memory.recall(start, key)
    if kept is not None:
        return kept
    result, checksums = _combine_strip(job, start, stop, noise, correction)
    job.memory.remember(start, key, result, checksums)
    return result


def _combine_strip(
    job: MasterJob, start: int, stop: int, noise: SeriesNoise, correction: Correction | None
) -> tuple[StripResult, tuple[int, ...]]:
    """Read and combine a strip block by block, and write it; return its counts and the checksums of its planes."""
    encoding, (n, _, width) = job.stack.encoding, job.stack.shape
    planes = workspace.planes((stop - start, width))
    rejected_per_frame, invalid = np.zeros(n, np.int64), 0
    read_s = combine_s = 0.0
    last = time.perf_counter()
    with job.stack.opened(start, stop) as reader:
        if isinstance(reader, LevelledReader):
            encoding, width = reader.raw_encoding, reader.raw_width
        step = block_rows((n, job.height, width), np.dtype(encoding.dtype).itemsize, job.stack.row_step)
        for first in range(start, stop, step):
            block, levels = _read_block(reader, first, min(first + step, stop), job.stack)
            read = time.perf_counter()
            read_s += read - last
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
                    levels=None if levels is None else [part.rows(slice(y, y + at_once)) for part in levels],
                    planes=planes.rows(top, bottom),
                )
                rejected_per_frame += part.rejected_per_frame
                invalid += part.invalid
            last = time.perf_counter()
            combine_s += last - read
    combined = time.perf_counter()
    checksums = job.combined.write_rows(start, master=planes.master, n_used=planes.n_used, std=planes.std)
    result = StripResult(
        rejected_per_frame=rejected_per_frame,
        n_samples=n * planes.master.size,
        invalid=invalid,
        empty_pixels=int(np.count_nonzero(planes.n_used == 0)),
        pixels=PixelRange.of(planes.master),
        read_s=read_s,
        combine_s=combine_s,
        write_s=time.perf_counter() - combined,
    )
    return result, checksums


def _read_block(
    reader: RowReader, start: int, stop: int, stack: FrameStack
) -> tuple[NDArray[Any], list[RowLevels] | None]:
    """Read rows of all frames into the workspace of this thread, with their overscan levels if those are to be used."""
    n, _, width = stack.shape
    if not isinstance(reader, LevelledReader):
        block = workspace.block((n, stop - start, width), stack.encoding.dtype)
        reader.read_rows(start, stop, block)
        return block, None
    block = workspace.block((n, stop - start, reader.raw_width), reader.raw_encoding.dtype)
    levels = reader.read_levelled(start, stop, block)
    return block, [
        RowLevels(quanta=quanta, left=left, width=right - left)
        for quanta, (left, right) in zip(levels, reader.kept_columns, strict=True)
    ]


def normalization_levels(job: MasterJob, strips: list[StripResult]) -> dict[str, float]:
    """Measure the level of a combined flat, or of each colour of it."""
    flat, combined = _flat(job), job.combined
    if flat.bayer_pattern is None and flat.normalization == "mean":  # the strips have summed their pixels already
        return {"": lit_level(PixelRange.joined([strip.pixels for strip in strips]).mean, "mean")}
    return measure_levels(combined.read_rows, job.height, flat.normalization, flat.bayer_pattern, combined.row_step)


def normalise_batch(job: MasterJob, batch: Batch, levels: dict[str, float]) -> PixelRange:
    """Divide the strips of a batch of a combined flat by their level."""
    pattern, source = _flat(job).bayer_pattern, job.combined
    ranges = []
    for start, stop in batch.strips:
        rows = divide_by_levels(source.read_rows(start, stop), start, levels, pattern)
        std = divide_by_levels(source.read_std(start, stop), start, levels, pattern)
        job.sink.write_divided(start, source, master=rows, std=std)
        ranges.append(PixelRange.of(rows))
    return PixelRange.joined(ranges)


def merge_and_finish(
    finish: Callable[[MasterJob, JobResult], Any],
    job: MasterJob,
    prepared: Prepared,
    strips: list[StripResult],
    levels: dict[str, float] | None,
    ranges: list[PixelRange],
) -> Any:
    """Sum what the strips counted and call `finish` with it; pixels are measured after normalisation."""
    whole = StripResult.joined(strips)
    pixels = PixelRange.joined(ranges) if ranges else whole.pixels
    result = JobResult(
        name=job.name,
        noise=prepared.noise,
        noise_measured=job.method.resolved(job.n_frames).needs_noise,
        levels=prepared.levels,
        normalization_levels=levels or {},
        rejected_per_frame=tuple(int(count) for count in whole.rejected_per_frame),
        n_samples=whole.n_samples,
        invalid=whole.invalid,
        empty_pixels=whole.empty_pixels,
        minimum=pixels.minimum,
        maximum=pixels.maximum,
        mean=pixels.mean,
        seconds={"read": whole.read_s, "combine": whole.combine_s, "write": whole.write_s},
    )
    return finish(job, result)


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
