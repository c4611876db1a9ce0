"""Strips that share a task of the graph, so that thin ones cost no more than thick ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ostcal.engine import tasks
from ostcal.engine.tasks import MasterJob, PixelRange, Prepared, StripResult
from ostcal.engine.tiling import StripPlan

TASKS_PER_WORKER = 4
"""Tasks for each worker at least, so that the last ones end at about the same time."""

LOCAL_BATCH_BYTES = 16 * 2**20
"""Frames that a task on this computer reads at most, if it is more than one strip."""

CLUSTER_BATCH_BYTES = 128 * 2**20
"""Frames that a task on a cluster reads at most, strip by strip: 0.2 s of one core at 0.63 GB/s, for which a scheduler
needs 2.6 ms. With 16 MiB a scheduler could keep no more than ten cores at work."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How strips are shared out."""

    least_tasks: int
    """Tasks of a job at least, if it has as many strips."""
    most_bytes: int
    """Of frames that a task reads, if it is more than one strip."""

    @classmethod
    def among(cls, parallel: int, n_jobs: int, *, on_cluster: bool) -> Sharing:
        """Share the strips of `n_jobs` jobs out to `parallel` workers, so that all have work until the end."""
        return cls(
            least_tasks=max(1, -(-TASKS_PER_WORKER * parallel // max(1, n_jobs))),
            most_bytes=CLUSTER_BATCH_BYTES if on_cluster else LOCAL_BATCH_BYTES,
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Neighbouring strips that one task works on, one after the other."""

    start: int
    stop: int
    strip_rows: int

    @property
    def strips(self) -> list[tuple[int, int]]:
        """``(start, stop)`` of each."""
        return [(at, min(at + self.strip_rows, self.stop)) for at in range(self.start, self.stop, self.strip_rows)]


def batches(job: MasterJob, plan: StripPlan, sharing: Sharing) -> list[Batch]:
    """Give the strips of a job by tasks.

    Strips share a task until it has `Sharing.most_bytes` to read, for a task costs some milliseconds on a cluster
    however little it does.
    """
    n_strips = -(-plan.height // plan.strip_rows)
    strip_bytes = max(1, row_bytes(job) * plan.strip_rows)
    together = max(1, min(sharing.most_bytes // strip_bytes, n_strips // sharing.least_tasks))
    step = together * plan.strip_rows
    return [
        Batch(start=start, stop=min(start + step, plan.height), strip_rows=plan.strip_rows)
        for start in range(0, plan.height, step)
    ]


def row_bytes(job: MasterJob) -> int:
    """Give the bytes of one row of all frames of a job."""
    n, _, width = job.stack.shape
    return n * width * {"uint16": 2, "float32": 4}.get(job.stack.encoding.dtype, 8)


def combine_batch(job: MasterJob, batch: Batch, prepared: Prepared) -> StripResult:
    """Read, combine and write the strips of a batch; the results count as one strip."""
    return _joined([tasks.combine_strip(job, start, stop, prepared) for start, stop in batch.strips])


def normalise_batch(job: MasterJob, batch: Batch, levels: dict[str, float]) -> PixelRange:
    """Divide the strips of a batch of a combined flat by their level."""
    return _joined_ranges([tasks.normalise_strip(job, start, stop, levels) for start, stop in batch.strips])


def _joined(strips: Sequence[StripResult]) -> StripResult:
    """Count neighbouring strips as one; merging gives the same numbers, as sums of rows are kept and added exactly."""
    if len(strips) == 1:
        return strips[0]
    return StripResult(
        rejected_per_frame=np.sum([strip.rejected_per_frame for strip in strips], axis=0),
        n_samples=sum(strip.n_samples for strip in strips),
        invalid=sum(strip.invalid for strip in strips),
        empty_pixels=sum(strip.empty_pixels for strip in strips),
        pixels=_joined_ranges([strip.pixels for strip in strips]),
        read_s=sum(strip.read_s for strip in strips),
        combine_s=sum(strip.combine_s for strip in strips),
        write_s=sum(strip.write_s for strip in strips),
    )


def _joined_ranges(ranges: Sequence[PixelRange]) -> PixelRange:
    if len(ranges) == 1:
        return ranges[0]
    return PixelRange(
        minimum=min(pixels.minimum for pixels in ranges),
        maximum=max(pixels.maximum for pixels in ranges),
        row_sums=np.concatenate([pixels.row_sums for pixels in ranges]),
        count=sum(pixels.count for pixels in ranges),
    )
