"""What a device must be able to do, whatever drives it. Times are in seconds, temperatures in degrees Celsius."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from ostcal.frames import CameraSettings


@dataclass(frozen=True, kw_only=True)
class CameraInfo:
    """What a camera says of itself; ``None`` is "it does not say"."""

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
    """Names of the gains in index mode; empty in value mode and where the gain cannot be set."""
    offset_labels: tuple[str, ...]
    interface_version: int


@dataclass(frozen=True, kw_only=True)
class CameraRequest:
    """What is set on a camera before a series; ``None`` leaves it as it is."""

    gain: float | str | None = None
    """A number in value mode; a label, or the index of one, in index mode."""
    offset: float | str | None = None
    binning: tuple[int, int] = (1, 1)
    readout_mode: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class CameraStatus:
    """What a camera reports now."""

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
    """What the camera says it made, or what was asked where it says nothing sensible."""
    start_utc: str | None
    """Start as the camera says, ISO 8601, or ``None``."""


class Camera(Protocol):
    """A connected camera; a context manager that disconnects at its end."""

    @property
    def info(self) -> CameraInfo:
        """What it says of itself, read once when it was connected."""

    def apply(self, request: CameraRequest) -> CameraSettings:
        """Set gain, offset, binning and mode, full frame; give what the camera then reads back.

        Raises `DeviceError` with the camera's own word and what it would take.
        """

    def frame_shape(self) -> tuple[int, int]:
        """Give ``(height, width)`` of the next frame."""

    def start_exposure(self, exposure_time_s: float, *, light: bool) -> None:
        """Begin an exposure."""

    def image_ready(self) -> bool:
        """Whether the frame can be downloaded; raises `DeviceError` where the exposure failed."""

    def download(self) -> ExposureResult:
        """Download the finished frame."""

    def abort(self) -> None:
        """End a running exposure without a frame; nothing happens where none runs or it cannot."""

    def status(self) -> CameraStatus:
        """Read temperature and cooler."""

    def cool(self, target_c: float) -> None:
        """Switch the cooler on, with a set point."""

    def warm_up(self) -> None:
        """Switch the cooler off."""

    def reconnect(self) -> None:
        """Connect anew after an error, with the settings applied before."""

    def close(self) -> None:
        """Disconnect."""


class FilterWheel(Protocol):
    """A connected filter wheel."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the filters by position."""

    def select(self, name: str) -> None:
        """Turn to a filter and wait until it is there."""

    def current(self) -> str:
        """Give the name of the filter in the light."""

    def close(self) -> None:
        """Disconnect."""


class CoverState(StrEnum):
    """Where a cover is."""

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
        """Highest brightness of the panel; 0 where there is none."""

    def cover_state(self) -> CoverState:
        """Say where the cover is."""

    def open_cover(self) -> None:
        """Open and wait."""

    def close_cover(self) -> None:
        """Close and wait."""

    def light_on(self, brightness: int) -> None:
        """Switch the panel on and wait until it is steady."""

    def light_off(self) -> None:
        """Switch the panel off."""

    def close(self) -> None:
        """Disconnect."""
