"""What the tasks of a graph do: read a strip, combine, write, and return a few numbers.

Tasks may run twice and hold nothing but locations and numbers; `graph.py` only says which follows which.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import Correction
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
from ostcal.engine.noise import NoiseCells
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.engine.stack_rows import combine_rows, row_noise, series_noise, workspace
from ostcal.engine.stack_rows import warm_up as warm_up_stack
from ostcal.engine.tiling import Batch
from ostcal.frames import FrameStack
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


def warm_up(job: MasterJob) -> None:
    """Compile what a job needs, or load it from numba's cache: see `ostcal.engine.stack_rows.warm_up`."""
    warm_up_stack(job.stack, job.method, is_corrected=job.flat is not None)


def noise_of_rows(job: MasterJob, rows: Sequence[int], levels: FrameLevels | None) -> list[NoiseCells]:
    """Measure the noise of sampled rows of a series, for each row."""
    flat = job.flat
    return [
        row_noise(job.stack, row, None if flat is None else _correction(flat, row, row + 1, levels)) for row in rows
    ]


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
    cells = [cells for part in parts for cells in part]
    noise = SeriesNoise()
    if parts:
        is_spread = job.method.resolved(job.n_frames).needs_noise
        noise = series_noise(cells, job.stack, is_corrected=job.flat is not None, is_spread=is_spread)
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
    n, _, width = job.stack.shape
    planes = workspace.planes((stop - start, width))
    counts = combine_rows(job.stack, job.method, start, noise=noise, correction=correction, planes=planes)
    combined = time.perf_counter()
    checksums = job.combined.write_rows(start, master=planes.master, n_used=planes.n_used, std=planes.std)
    result = StripResult(
        rejected_per_frame=counts.rejected_per_frame,
        n_samples=n * planes.master.size,
        invalid=counts.invalid,
        empty_pixels=int(np.count_nonzero(planes.n_used == 0)),
        pixels=PixelRange.of(planes.master),
        read_s=counts.read_s,
        combine_s=counts.combine_s,
        write_s=time.perf_counter() - combined,
    )
    return result, checksums


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
