"""The vocabulary of frames: what a frame is, how its samples are coded, what makes frames comparable.

Pure values without any input or output; every other room may use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ostcal.codec import between

MAX_SIDE: Final = 1_000_000
"""Longest width or height that a record or a store may claim, in pixels."""
Side = Annotated[int, between(1, MAX_SIDE)]
Binning = Annotated[int, between(1, 1000)]


class FrameType(StrEnum):
    """Kinds of frames."""

    BIAS = "bias"
    DARK = "dark"
    FLAT = "flat"
    LIGHT = "light"


FULL_SCALE_ADU = 65535
"""Of 16-bit samples; what cameras of fewer bits can hold is not in their headers."""


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """Settings of the camera that change the samples of a pixel; ``None`` is "not recorded"."""

    camera: str | None = None
    camera_id: str | None = None
    """Which of several cameras, or which detector of a mosaic; cameras of one model have one name."""
    gain: float | None = None
    offset: float | None = None
    binning: tuple[Binning, Binning] = (1, 1)
    """Horizontal and vertical binning."""
    readout_mode: str | None = None
    extension: str | None = None
    """Which image of a file of several (`ostcal.fits.hdus.image_labels`); ``None`` for files of one."""
    iso: float | None = None
    """ISO speed, where the header has a gain besides it; else it is the gain."""
    coadds: int | None = None
    """Exposures that the camera added up to one frame."""
    subframe_origin: tuple[int, int] | None = None
    """First column and first row that were read out."""
    row_order: str | None = None
    """``TOP-DOWN`` or ``BOTTOM-UP``: frames of different orders show the sensor upside down to each other."""
    flip: str | None = None
    """How a program turned the image over (FLIPSTAT): ``Flip``, ``Mirror``; ``none`` where it says that it did not."""

    @property
    def camera_label(self) -> str | None:
        """Name of the camera, with its identity and its extension where it has one."""
        extension = f"[{self.extension}]" if self.extension is not None else None
        return " ".join(word for word in (self.camera, self.camera_id, extension) if word) or None


@dataclass(frozen=True, kw_only=True)
class Optics:
    """What the light came through, and how the camera was turned to it; ``None`` is "not recorded"."""

    telescope: str | None = None
    focal_length_mm: float | None = None
    rotator_deg: float | None = None
    """Mechanical angle of the rotator, 0 to 360: how the camera is turned to the telescope."""
    sky_angle_deg: float | None = None
    """Position angle on the sky, 0 to 360, turned by half a circle where the mount was west of the pier: a meridian
    flip turns the sky, not the camera."""


FullScaleCard = tuple[str, float]
"""A card that says full scale, and its value in ADU: ``("SATURATE", 4095.0)``."""


@dataclass(frozen=True, kw_only=True)
class FrameMetadata:
    """Description of one frame, wherever it is stored."""

    frame_type: FrameType | None
    exposure_time_s: float | None
    width: Side
    height: Side
    settings: CameraSettings = field(default_factory=CameraSettings)
    states_binning: bool = True
    """Whether the binning of the settings is recorded; 1x1 is assumed where it is not."""
    filter_name: str | None = None
    optics: Optics = field(default_factory=Optics)
    set_temperature_c: float | None = None
    ccd_temperature_c: float | None = None
    date_obs: datetime | None = None
    """Start of the exposure, UTC, timezone-aware."""
    longitude_deg: float | None = None
    """Longitude of the observatory, degrees, positive east: it says when local noon is."""
    bayer_pattern: str | None = None
    """Four letters such as ``RGGB`` for the pixel (0, 0) of the stored array, or ``None`` for a monochrome sensor."""
    row_order: str | None = None
    """``TOP-DOWN`` or ``BOTTOM-UP`` as the header says."""
    pixel_size_um: tuple[float, float] | None = None
    egain_e_per_adu: float | None = None
    full_scale: FullScaleCard | None = None
    """What the header or the driver says; samples may show another level."""
    dark_subtracted: bool = False
    """A dark was already subtracted (CALSTAT, HISTORY)."""
    bias_subtracted: bool = False
    flat_divided: bool = False
    is_master: bool = False
    """The frame is a combined master, not a raw frame."""
    unreadable: tuple[str, ...] = ()
    """Cards that say something that cannot be read, each with its value: the frame cannot be used."""
    remarks: tuple[str, ...] = ()
    """What users should know of how the frame was read: contradictions, and faults that were overlooked."""


@dataclass(frozen=True, kw_only=True)
class SampleEncoding:
    """How the samples that a stack's ``read_rows`` delivers become ADU.

    A 16-bit sample is ``zero_adu + (swap(raw) ^ (0x8000 if sign_flipped else 0))`` taken as unsigned, so that the
    engine sorts unsigned integers whatever the file says, and the conversion costs nothing of its own: it happens
    while a kernel loads its tile. Other samples are native float32 or float64 (32-bit integers are float64, exactly).
    """

    dtype: str
    """``uint16``, ``float32`` or ``float64``: the dtype of the block that ``read_rows`` fills."""
    byte_swapped: bool = False
    sign_flipped: bool = False
    zero_adu: int = 0

    @property
    def is_integer(self) -> bool:
        """Return whether decisions can be made in integers."""
        return self.dtype == "uint16"

    @property
    def full_scale_adu(self) -> float | None:
        """The highest value that a sample can hold; ``None`` for floats."""
        return float(self.zero_adu + FULL_SCALE_ADU) if self.is_integer else None

    def plain(self, block: NDArray[Any], *, in_place: bool = False) -> tuple[NDArray[Any], int]:
        """Return a block of raw samples as native numbers, and what to add to them for ADU; 16 bits stay 16 bits.

        With `in_place` the block itself is changed, where a copy would take time and memory.
        """
        if not self.is_integer:
            return block, 0
        words = block.byteswap(inplace=in_place) if self.byte_swapped else block
        if self.sign_flipped:
            words = np.bitwise_xor(words, np.uint16(0x8000), out=words if in_place or self.byte_swapped else None)
        return words, self.zero_adu

    def decode(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return a block of raw samples as native ADU: int32 for 16-bit samples, else the block itself."""
        words, zero_adu = self.plain(block)
        return words.astype(np.int32) + np.int32(zero_adu) if self.is_integer else words


class RowReader(Protocol):
    """Reader of rows of the frames of a stack."""

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` and the encoding's dtype with raw samples."""


@runtime_checkable
class LevelledReader(RowReader, Protocol):
    """Reader of frames whose rows have an overscan level each, which is faster subtracted while they are combined."""

    @property
    def raw_encoding(self) -> SampleEncoding:
        """How the raw 16-bit samples become ADU before a level is subtracted."""

    @property
    def raw_width(self) -> int:
        """Columns of a raw row."""

    @property
    def kept_columns(self) -> tuple[tuple[int, int], ...]:
        """Of each amplifier, from left to right: the first and the end of the raw columns that are kept."""

    def read_levelled(self, start: int, stop: int, out: NDArray[Any]) -> NDArray[np.int64]:
        """Fill ``out`` of shape ``(n_frames, stop - start, raw_width)`` with raw samples.

        Return the level of each amplifier, frame and row, ``(n_amplifiers, n_frames, stop - start)``, in 1/256 ADU:
        whole numbers of half ADU.
        """


@runtime_checkable
class LevelledStack(Protocol):
    """A stack that `opened` may give a `LevelledReader` for."""

    @property
    def levelled_encoding(self) -> SampleEncoding | None:
        """The raw encoding of that reader; ``None`` where the stack gives none."""


@runtime_checkable
class RecordedStack(Protocol):
    """A stack whose frames have records, which say what their samples should be."""

    def check_mean_adu(self, position: int, mean_adu: float) -> None:
        """Compare the exact mean of a frame's integer samples with its record; FrameError where they differ."""


class FrameStack(Protocol):
    """Frames of one size that can be read strip by strip; small and picklable, it holds locations, not pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""

    @property
    def encoding(self) -> SampleEncoding:
        """How the samples that ``read_rows`` delivers become ADU."""

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one: 1, or the height of the stored chunks."""

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` and the encoding's dtype with raw samples."""

    def opened(self, start: int, stop: int) -> AbstractContextManager[RowReader]:
        """Keep files open while rows from ``start`` to ``stop`` are read block after block.

        The operating system is advised that these rows and those of the next strips will be needed. The reader must
        stay in its thread.
        """

    def select(self, indices: Sequence[int]) -> FrameStack:
        """Return the stack of only the frames at `indices`."""

    def __hash__(self) -> int:
        """Return the same for stacks of the same stored frames."""

    def recorded_mean_adu(self, position: int) -> float | None:
        """Return the exact mean of a frame's samples if it was recorded when they were stored."""


def read_adu(stack: FrameStack, start: int, stop: int) -> NDArray[Any]:
    """Read rows in ADU, ``(n_frames, stop - start, width)``: int32 of 16-bit samples, else the encoding's dtype."""
    n_frames, _, width = stack.shape
    block = np.empty((n_frames, stop - start, width), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    return stack.encoding.decode(block)
