"""Protocols of cameras, filter wheels, covers and mounts. Times are in seconds, temperatures in degrees Celsius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from ostcal.frames import CameraSettings
from ostcal.horizontal import Horizontal
from ostcal.sun import Site


@dataclass(frozen=True, kw_only=True)
class CameraInfo:
    """Properties of a camera; ``None`` if it does not report one."""

    name: str
    width: int
    """Pixels of the whole sensor, unbinned."""
    height: int
    max_adu: int
    exposure_min_s: float
    exposure_max_s: float
    bayer_pattern: str | None
    """Colours at the first pixel of a full frame read without binning; ``None`` for monochrome."""
    has_shutter: bool
    can_abort: bool
    can_set_temperature: bool
    can_get_cooler_power: bool
    pixel_size_um: tuple[float, float] | None
    electrons_per_adu: float | None
    full_well_e: float | None
    readout_modes: tuple[str, ...]
    gain_labels: tuple[str, ...]
    """Names of the gains in index mode; empty in value mode and if the gain cannot be set."""
    offset_labels: tuple[str, ...]
    interface_version: int
    overscan_section: str | None = None
    """Where the overscan of the next frame is, as FITS writes sections; ``None`` where the driver does not say."""
    trim_section: str | None = None
    """What is to be kept of the next frame."""


@dataclass(frozen=True, kw_only=True)
class CameraRequest:
    """Settings for a camera before a series; ``None`` keeps the current value."""

    gain: float | str | None = None
    """A number in value mode; a label, or the index of one, in index mode."""
    offset: float | str | None = None
    binning: tuple[int, int] = (1, 1)
    readout_mode: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class CameraStatus:
    """Temperature and cooler of a camera, now."""

    ccd_temperature_c: float | None
    set_temperature_c: float | None
    cooler_on: bool | None
    cooler_power_percent: float | None


@dataclass(frozen=True, kw_only=True)
class ExposureResult:
    """A downloaded frame."""

    pixels: NDArray[Any]
    """(height, width), C order, row 0 at the top as the camera delivers it; uint16, or int32 where values need it."""
    exposure_time_s: float
    """The exposure reported by the camera, or the requested one if the report is implausible."""
    start_utc: str | None
    """Start reported by the camera, ISO 8601, or ``None``."""


class Camera(Protocol):
    """A connected camera; a context manager that disconnects at its end."""

    @property
    def info(self) -> CameraInfo:
        """Properties of the camera, read at connection."""

    def apply(self, request: CameraRequest) -> CameraSettings:
        """Set gain, offset, binning and readout mode with a full frame; return what reads back.

        Raise `DeviceError`, with the accepted values, if the camera refuses one.
        """

    def frame_shape(self) -> tuple[int, int]:
        """Return ``(height, width)`` of the next frame."""

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        """Begin an exposure."""

    def image_ready(self) -> bool:
        """Return whether the frame can be downloaded; raise `DeviceError` if the exposure failed."""

    def download(self) -> ExposureResult:
        """Download the finished frame."""

    def abort(self) -> None:
        """Abort a running exposure; do nothing if none runs or the camera cannot abort."""

    def status(self) -> CameraStatus:
        """Read temperature and cooler."""

    def cool(self, target_c: float) -> None:
        """Set the target temperature and switch the cooler on."""

    def warm_up(self) -> None:
        """Switch the cooler off."""

    def reconnect(self) -> None:
        """Reconnect after an error and apply the same settings again."""

    def close(self) -> None:
        """Disconnect."""


class FilterWheel(Protocol):
    """A connected filter wheel."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the filters by position."""

    def select(self, name: str) -> None:
        """Select a filter and wait until it is in place."""

    def current(self) -> str:
        """Return the name of the current filter."""

    def close(self) -> None:
        """Disconnect."""


class CoverState(StrEnum):
    """Position of a cover, in the order of ASCOM's numbers."""

    NOT_PRESENT = "not present"
    CLOSED = "closed"
    MOVING = "moving"
    OPEN = "open"
    UNKNOWN = "unknown"
    ERROR = "error"


class CoverCalibrator(Protocol):
    """A connected cover, flat panel, or both."""

    @property
    def max_brightness(self) -> int:
        """Highest brightness of the panel; 0 without a panel."""

    def cover_state(self) -> CoverState:
        """Return the position of the cover."""

    def open_cover(self) -> None:
        """Open the cover and wait until it is open."""

    def close_cover(self) -> None:
        """Close the cover and wait until it is closed."""

    def light_on(self, brightness: int) -> None:
        """Switch the panel on and wait until it is stable."""

    def light_off(self) -> None:
        """Switch the panel off."""

    def close(self) -> None:
        """Disconnect."""


class Telescope(Protocol):
    """A connected mount."""

    @property
    def site(self) -> Site:
        """Where it stands."""

    def direction(self) -> Horizontal:
        """Return where it points."""

    def is_slewing(self) -> bool:
        """Return whether it moves to a goal."""

    def is_parked(self) -> bool:
        """Return whether it is parked."""

    def is_tracking(self) -> bool:
        """Return whether it follows the stars."""

    def track(self, wanted: bool) -> None:
        """Switch tracking."""

    def slew_to(self, goal: Horizontal, may_move: Callable[[], str | None]) -> None:
        """Slew to a direction and wait until it is reached; `may_move` returns why it must stop, or ``None``."""

    def park(self, may_move: Callable[[], str | None]) -> None:
        """Park and wait until it is parked."""

    def unpark(self) -> None:
        """Unpark."""

    def drop(self) -> None:
        """Forget a mount that does not answer, without a word to it."""

    def close(self) -> None:
        """Disconnect."""
