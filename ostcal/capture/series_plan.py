"""Plans, equipment, watchers and outcomes of captured series: values only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Protocol

from ostcal.capture.pointing import SkyMount
from ostcal.clock import Clock
from ostcal.devices.protocols import Camera, CoverCalibrator, ExposureResult, FilterWheel
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import LiveLimits, Verdict
from ostcal.naming import night_of
from ostcal.places.paths import Location
from ostcal.series.reader import Series
from ostcal.series.record import FrameRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RetryRules:
    """Attempts and pauses for failed exposures."""

    attempts: int = 5
    """Attempts for one frame: the pauses between five are 30 s in total, enough for a network to recover."""
    backoff_s: float = 2.0
    """Pause before the second attempt; doubled for each further one."""
    ready_margin_s: float = 60.0
    """Longest time from the end of an exposure to its image: one Alpaca server took 17 s."""


@dataclass(frozen=True, kw_only=True)
class NoiseTarget:
    """When frames are enough: what their master may add to the noise of a light frame."""

    noise_share: float = 0.1
    light_exposure_s: float | None = None
    """``None`` is that of the darks themselves; for bias frames and flats `science_exposure_s`."""
    science_exposure_s: float = 5.0
    sky_e_per_s: float = 0.0
    """Light of the sky in a pixel of the light frames."""
    min_frames: int = 5
    max_frames: int = 200


@dataclass(frozen=True, kw_only=True)
class EnoughRules:
    """The target of one series, with the noise of the light frames."""

    target: NoiseTarget
    light_variance_adu2: float
    frame_variance_adu2: float
    """Variance of a sample of a frame, as expected; it is measured on the frames themselves."""
    sky_adu: float | None = None
    """Level of the sky in a light frame, for flats, whose noise counts by as much; ``None`` for other kinds."""


@dataclass(frozen=True, kw_only=True)
class SeriesPlan:
    """One series of frames with equal settings."""

    name: str
    """Name of the directory without ``.zarr``: ``exp_5.000s``."""
    frame_type: FrameType
    exposure_time_s: float | None
    """``None`` if it changes from frame to frame (twilight)."""
    n_frames: int
    settings: CameraSettings
    """Settings read back from the camera after they were applied."""
    light: bool
    """Whether the shutter opens."""
    filter_name: str | None = None
    rotation_deg: float | None = None
    """Angle of the rotator, if it is known."""
    set_point_tolerance_c: float = 0.2
    """Set points that differ more get separate series; cameras read -10 back as -9.98."""
    limits: LiveLimits = field(default_factory=LiveLimits)
    bias_level_adu: float | None = None
    """Level of bias frames, if known."""
    full_scale_adu: int | None = None
    """Level at which samples end, where it is not what the camera reports."""
    retry: RetryRules = field(default_factory=RetryRules)
    enough: EnoughRules | None = None
    """Ends the series when its frames are enough; `n_frames` is then what is expected."""


@dataclass(frozen=True, kw_only=True)
class CaptureNight:
    """The night in which frames are taken: a series of another night is not continued in it."""

    night: date
    noon_utc_s: float
    """Local noon in seconds after 0:00 UTC, which parts the nights."""
    longitude_deg: float | None = None
    """Longitude of the observatory, degrees, positive east, if it is known."""

    def has(self, series: Series) -> bool:
        """Return whether the newest frame of a series is of this night; true where no frame says when it was taken."""
        taken = [record.metadata.date_obs for record in series.records if record.metadata.date_obs]
        return not taken or night_of(max(taken), self.noon_utc_s) == self.night


@dataclass(frozen=True, kw_only=True)
class SeriesSink:
    """Where and how the frames of a series are stored."""

    directory: Location
    compressor: str = "auto"
    rows: int | None = None
    """Rows per chunk; ``None`` chooses them by the frame size."""
    export_frames: bool = False
    """Whether each frame is also written as FITS, into a directory named after the series."""
    overscan_section: str = ""
    trim_section: str = ""
    """Overscan of the frames and what is to be kept of them, as FITS writes sections; "" is what the driver says."""
    night: CaptureNight | None = None
    """Only series of this night are continued; ``None`` continues those of any night."""


class SeriesEnd(StrEnum):
    """Why a series ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    """The light left the limits of the exposure, as twilight does."""
    NOT_NOW = "not now"
    """No frame may be taken now: it is not safe, or the time is over."""
    CAMERA_FAILED = "camera failed"
    MOUNT_FAILED = "mount failed"
    STORAGE_FAILED = "storage failed"


@dataclass(frozen=True, kw_only=True)
class SeriesOutcome:
    """Result of capturing a series."""

    plan: SeriesPlan
    location: str
    """Location of the series, even if it has no frames."""
    end: SeriesEnd
    message: str
    """One line for the user."""
    present: int
    """Number of frames in the series now."""
    taken: int
    """Number of frames added by this run."""
    refused: int = 0
    """Number of frames not kept because their level was outside the limits (twilight)."""
    warnings: tuple[str, ...] = ()
    """One line for each failed check of a new frame and each other problem."""
    level_adu: float | None = None
    """Median of the frames' levels."""
    reason: str = ""
    """Why it ended before it was complete."""

    @property
    def ends_step(self) -> bool:
        """Return whether the next series would end in the same way at once."""
        return self.end in (SeriesEnd.STORAGE_FAILED, SeriesEnd.NOT_NOW, SeriesEnd.MOUNT_FAILED)

    @property
    def is_complete(self) -> bool:
        """Return whether the series has all planned frames."""
        return self.end is SeriesEnd.COMPLETE


@dataclass(frozen=True, kw_only=True)
class FrameDone:
    """A frame was committed."""

    plan: SeriesPlan
    record: FrameRecord
    verdicts: tuple[Verdict, ...]
    present: int
    """Number of frames in the series now, of ``plan.n_frames``."""


def do_nothing(*_: object) -> None:
    """Ignore all arguments."""


@dataclass(frozen=True, kw_only=True)
class CaptureWatcher:
    """Callbacks for the progress of a capture, all called in the capturing thread."""

    series_started: Callable[[SeriesPlan, str, int], None] = do_nothing
    """Called with the plan, the location, and the number of missing frames."""
    exposing: Callable[[float, float], None] = do_nothing
    """Called several times during an exposure with its length and the elapsed time, in seconds."""
    frame_done: Callable[[FrameDone], None] = do_nothing
    series_ended: Callable[[SeriesOutcome], None] = do_nothing
    notice: Callable[[str], None] = do_nothing
    """Called with one line for the user between series: cooling, trials, waiting for the sky."""

    def notify(self, line: str) -> None:
        """Log a notice and pass it on."""
        logger.info("%s", line)
        self.notice(line)


class ExposureControl(Protocol):
    """Choose the exposure of each frame of a series from the previous frames."""

    def next_exposure_s(self) -> float | None:
        """Return the next exposure, after a wait if that helps; ``None`` ends the series."""

    def judge(self, result: ExposureResult, started_s: float) -> bool:
        """Measure a frame started at `started_s` of the clock; return whether to keep it."""

    @property
    def is_enough(self) -> bool:
        """Return whether the series is complete with the frames so far."""

    @property
    def reason(self) -> str:
        """Reason for the end of the series, in one line."""


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """Camera, clock, watcher and other devices of a capture."""

    camera: Camera
    clock: Clock
    watcher: CaptureWatcher = field(default_factory=CaptureWatcher)
    wheel: FilterWheel | None = None
    cover: CoverCalibrator | None = None
    mount: SkyMount | None = None
    """Pointed for flats of the sky; ``None`` leaves all mounts alone."""
    ask: Callable[[str], bool] | None = None
    """Ask the user to do something by hand; return whether it is done. ``None`` if nobody can be asked."""
