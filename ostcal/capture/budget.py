"""Estimate the time and disk space of a series, and check that the disk has room for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ostcal.capture.place import SeriesPlace
from ostcal.capture.series_plan import SeriesPlan, SeriesSink
from ostcal.errors import StorageError
from ostcal.frames import FrameType

_DOWNLOAD_BYTES_PER_S = 60e6
"""61 MP of 16 bits in two seconds: between USB 3 and a network."""
_OVERHEAD_S = 0.1
"""For starting an exposure and noticing its end."""
_STORED_SHARE = {FrameType.BIAS: 0.6, FrameType.DARK: 0.6, FrameType.FLAT: 0.9}
"""Conservative compressed size: darks measured 0.37 to 0.53, flats 0.62 to 0.75."""
_RESERVE_BYTES = 64 << 20
"""Kept free for logs and the headers of masters."""


@dataclass(frozen=True, kw_only=True)
class SeriesCost:
    """One series in the table shown before the first frame."""

    location: str
    exposure_time_s: float | None
    filter_name: str | None
    frames: int
    """Planned in total."""
    missing: int
    time_s: float
    n_bytes: int
    """Upper limit for the missing frames, FITS copies included."""
    wait_s: float = 0.0
    """Time for the cooler before the first frame."""
    kind: str = ""
    """Of frames of a plan, with what is set for them."""
    settings: str = ""
    temperature_c: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The series of a step and their cost: the table shown before its first frame."""

    step: str
    """``darks``, ``flats``, ``plan``, or ``flat darks`` for the darks that the flats still need."""
    costs: tuple[SeriesCost, ...]
    """One for each series, in the order of capture."""
    is_estimate: bool = False
    """Whether the exposures are found by trials, as for flats."""

    @property
    def missing(self) -> int:
        """Frames to take."""
        return sum(cost.missing for cost in self.costs)

    @property
    def time_s(self) -> float:
        """Seconds for the missing frames, and for the cooler."""
        return sum(cost.time_s + cost.wait_s for cost in self.costs)

    @property
    def n_bytes(self) -> int:
        """Disk space for the missing frames."""
        return sum(cost.n_bytes for cost in self.costs)


def series_cost(plan: SeriesPlan, sink: SeriesSink, place: SeriesPlace, shape: tuple[int, int]) -> SeriesCost:
    """Estimate the time and disk space of the missing frames of a series."""
    missing = max(0, plan.n_frames - place.present)
    raw_bytes = 2 * shape[0] * shape[1]
    share = 1.0 if sink.compressor == "none" else _STORED_SHARE.get(plan.frame_type, 1.0)
    frame_bytes = raw_bytes * (share + (1.0 if sink.export_frames else 0.0))
    frame_s = (plan.exposure_time_s or 0.0) + raw_bytes / _DOWNLOAD_BYTES_PER_S + _OVERHEAD_S
    return SeriesCost(
        location=place.location,
        exposure_time_s=plan.exposure_time_s,
        filter_name=plan.filter_name,
        frames=plan.n_frames,
        missing=missing,
        time_s=missing * frame_s,
        n_bytes=int(missing * frame_bytes),
    )


def check_room(sink: SeriesSink, costs: Sequence[SeriesCost]) -> None:
    """Check that the disk has room for the missing frames.

    Raises
    ------
    StorageError
        If it has not; the message says what is needed and what is free.
    """
    needed = sum(cost.n_bytes for cost in costs)
    free = free_bytes(sink.directory)
    if needed and needed + _RESERVE_BYTES > free:
        raise StorageError(
            f"{sink.directory}: the frames need about {needed / 1e9:.2f} GB and {_RESERVE_BYTES / 1e9:.2f} GB are kept"
            f" free, but the disk has {free / 1e9:.2f} GB; free space, take fewer frames, or set another output_dir"
        )


def free_bytes(directory: str | os.PathLike[str]) -> int:
    """Return the free bytes on the disk of a directory, which may not exist yet."""
    path = Path(directory).absolute()
    while not path.exists() and path.parent != path:
        path = path.parent
    return shutil.disk_usage(path).free
