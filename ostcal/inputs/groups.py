"""Frames of the input, what they are grouped by, and the groups that become masters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.optics import ROTATION_TOLERANCE_DEG
from ostcal.inputs.sessions import SESSION_HOURS, WINDOW_DAYS
from ostcal.vocabulary import Session

LevelOf = Callable[["Frame"], float | None]
"""Gives the level of a frame, ADU; ``None`` where it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of the input, wherever it is stored."""

    label: str
    """File, or series and index: what messages name."""
    metadata: FrameMetadata
    file: str = ""
    """Of an image of a file of several: tells it from the images of other files; "" for all other frames."""
    place: int = 0
    """Of an image of a file of several: its place in the file."""
    session_start: datetime | None = None
    """Where sessions are told apart by hours: when its own began; set by `group_frames`."""


@dataclass(frozen=True, kw_only=True)
class LevelBreak:
    """Two nights between which the level of bias or darks changed."""

    settings: CameraSettings
    kind: str
    exposure_time_s: float
    after: date
    """The last night of the level before."""
    before: date
    """The first night of the other level."""
    step_adu: float
    limit_adu: float

    def is_of(self, settings: CameraSettings, exposure_s: float) -> bool:
        """Return whether frames of these settings changed too: an offset is in longer exposures as well."""
        same_camera = replace(self.settings, extension=None) == replace(settings, extension=None)
        return same_camera and exposure_s >= 0.99 * self.exposure_time_s


@dataclass(frozen=True, kw_only=True)
class GroupRules:
    """What decides where one group ends and the next begins."""

    min_frames: int = 3
    min_exposure_s: float = 0.001
    """Darks of this exposure or shorter are bias frames."""
    temperature_tolerance_c: float = 2.0
    bias_temperature_tolerance_c: float = 20.0
    """Of bias frames, whose level hardly depends on the temperature."""
    rotation_tolerance_deg: float = ROTATION_TOLERANCE_DEG
    """Of flats: how far the camera may be turned within a group."""
    per_session: bool = False
    """Whether bias and darks of different sessions are different groups, and flats in any case."""
    session: Session = "night"
    """Which flats are different groups: dust moves and cameras are turned between nights."""
    session_hours: float = SESSION_HOURS
    """Where `session` is hours: a longer time without a frame ends a session."""
    window_days: float | None = WINDOW_DAYS
    """Nights of bias and darks that are one group, and of flats where each has too few; ``None`` is all."""
    max_frames: int | None = None
    """Bias and darks of a group: the newest, at most so many."""
    level_breaks: tuple[LevelBreak, ...] = ()
    """Where bias and darks are not combined although their nights are of one window."""
    noon_utc_s: float | None = None
    """Local noon in seconds after 0:00 UTC, where one night ends and the next begins, for frames whose headers do not
    say the longitude; by default that of the other frames of the run, or a time of day at which none was taken."""


@dataclass(frozen=True, kw_only=True)
class GroupKey:
    """What the frames of a group have in common."""

    frame_type: FrameType
    settings: CameraSettings
    width: int
    height: int
    exposure_time_s: float
    """Median of the group's exposures."""
    states_binning: bool = True
    """Whether all frames record the binning of the settings; 1x1 is assumed where they do not."""
    filter_name: str | None = None
    optics: Optics = field(default_factory=Optics)
    """Of flats: the telescope, and how the camera was turned."""
    temperature_c: float | None = None
    bayer_pattern: str | None = None
    dark_subtracted: bool = False
    bias_subtracted: bool = False
    night: date | None = None
    """Where groups are made for each night; of a window of several nights its last."""
    session_start: datetime | None = None
    """Where sessions are told apart by hours."""
    noon_utc_s: float | None = field(default=None, compare=False)
    """Local noon in seconds after 0:00 UTC that separates the nights; ``None`` for masters of older versions."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Frames that become one master."""

    key: GroupKey
    frames: tuple[Frame, ...]
    twilight: bool = False
    """Flats whose exposures are nearly all different."""
    files: str = ""
    """Of images of files of several: the same for all groups of images of these files, and for no other group."""
    ladder: bool = False
    """Frames of different exposures, ascending, too few of each for a master: they show what the camera is like."""
    n_older: int = 0
    """Frames that would belong to it and are older than its `max_frames`."""


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """All groups, and what was left out with the reason."""

    groups: tuple[Group, ...]
    too_small: tuple[Group, ...]
    unused: tuple[tuple[Frame, str], ...]
