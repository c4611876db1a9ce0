"""What is to be captured, with what, and what became of it: values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ostcal.clock import Clock
from ostcal.devices.protocols import Camera, CoverCalibrator, ExposureResult, FilterWheel
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import LiveLimits, Verdict
from ostcal.places.paths import Location
from ostcal.series.record import FrameRecord


@dataclass(frozen=True, kw_only=True)
class RetryRules:
    """How a failed exposure is tried again."""

    attempts: int = 5
    """Exposures tried for one frame: the pauses between five are half a minute, in which a network comes back."""
    backoff_s: float = 2.0
    """Pause before the second try; doubled for each further one."""
    ready_margin_s: float = 60.0
    """How long after its exposure a frame may take to be ready: one Alpaca server was seen to take 17 s."""


@dataclass(frozen=True, kw_only=True)
class SeriesPlan:
    """One series of frames of equal settings."""

    name: str
    """Of the directory, without ``.zarr``: ``exp_5.000s``."""
    frame_type: FrameType
    exposure_time_s: float | None
    """``None`` where it changes from frame to frame (twilight)."""
    n_frames: int
    settings: CameraSettings
    """What the camera read back when its settings were applied."""
    light: bool
    """Whether the shutter opens."""
    filter_name: str | None = None
    set_point_tolerance_c: float = 0.2
    """Set points further apart do not share a series; cameras read -10 back as -9.98."""
    limits: LiveLimits = field(default_factory=LiveLimits)
    bias_level_adu: float | None = None
    """Level of bias frames, where it is known."""
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, kw_only=True)
class SeriesSink:
    """Where the frames of a series go."""

    directory: Location
    compressor: str = "auto"
    rows: int | None = None
    """Rows of a chunk; ``None`` chooses them by the size of the frame."""
    export_frames: bool = False
    """Whether each frame is written as FITS too, into a directory of the series' name."""


class SeriesEnd(StrEnum):
    """Why a series ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    """The light went beyond the limits, as twilight does."""
    CAMERA_FAILED = "camera failed"
    STORAGE_FAILED = "storage failed"


@dataclass(frozen=True, kw_only=True)
class SeriesOutcome:
    """What became of a series."""

    plan: SeriesPlan
    location: str
    """Of the series, whether or not there is a frame in it."""
    end: SeriesEnd
    message: str
    """One line for a person."""
    present: int
    """Frames that the series holds now."""
    taken: int
    """Frames that this run added."""
    refused: int = 0
    """Frames that were exposed but not kept, because their level was out of bounds (twilight)."""
    warnings: tuple[str, ...] = ()
    """One line for each check that a new frame failed, and for each problem on the way."""
    level_adu: float | None = None
    """Median of the levels of the frames that the series holds."""

    @property
    def is_complete(self) -> bool:
        """Whether it holds all frames that were planned."""
        return self.end is SeriesEnd.COMPLETE


@dataclass(frozen=True, kw_only=True)
class FrameDone:
    """A frame was committed."""

    plan: SeriesPlan
    record: FrameRecord
    verdicts: tuple[Verdict, ...]
    present: int
    """Frames that the series holds now, of ``plan.n_frames``."""


def _tell_nobody(*_: object) -> None:
    """Stand in for somebody who wants to be told."""


@dataclass(frozen=True, kw_only=True)
class CaptureWatcher:
    """Who is told how a capture goes on; all are called in the thread that captures."""

    series_started: Callable[[SeriesPlan, str, int], None] = _tell_nobody
    """With the plan, the location, and the number of frames that are missing."""
    exposing: Callable[[float, float], None] = _tell_nobody
    """Several times during an exposure: with its length and how much of it is over, in seconds."""
    frame_done: Callable[[FrameDone], None] = _tell_nobody
    series_ended: Callable[[SeriesOutcome], None] = _tell_nobody
    notice: Callable[[str], None] = _tell_nobody
    """What happens between series, for a person: cooling, trial exposures, waiting for the sky. It is logged too."""


class ExposureControl(Protocol):
    """Chooses the exposure of each frame of a series from the frames before it."""

    def next_exposure_s(self) -> float | None:
        """Give the next exposure, waiting where that helps; ``None`` ends the series."""

    def judge(self, result: ExposureResult, started_s: float) -> bool:
        """Look at a frame that was started at a time of the clock; whether it is kept."""

    @property
    def reason(self) -> str:
        """Why the series was ended, in one line."""


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What a capture works with."""

    camera: Camera
    clock: Clock
    watcher: CaptureWatcher = field(default_factory=CaptureWatcher)
    wheel: FilterWheel | None = None
    cover: CoverCalibrator | None = None
    ask: Callable[[str], bool] | None = None
    """Asks a person to do something by hand; whether it is done. ``None`` where nobody is there."""
