"""The sections ``dark_capture`` and ``flat_capture``: how many frames are taken, of which exposures, and when anew."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ostcal.config.sky_section import MountSection, SkySection
from ostcal.config.values import (
    AboveOne,
    Binnings,
    CaptureDirectory,
    Count,
    CountOrZero,
    Exposures,
    Factors,
    FrameCount,
    NotNegative,
    Positive,
    ReadoutModes,
    Section,
    Settings,
    Share,
    Switch,
    Temperatures,
    Texts,
    empty_is_default,
    key,
)
from ostcal.vocabulary import ContinueSeries, DarkStrategy, FlatMode


def _above_min_exposure(value: float, info: ValidationInfo) -> float:
    minimum = info.data.get("min_exposure")
    if minimum is not None and value <= minimum:
        raise PydanticCustomError(
            "order", "it must be above min_exposure, which is {minimum}", {"minimum": minimum, "other": "min_exposure"}
        )
    return value


class NightsSection(Section):
    """Keys of series and their nights."""

    continue_series: ContinueSeries = key(
        "session",
        "With session, an unfinished series is continued only in the night in which it was begun (local noon to"
        " noon), and each night has its own flats; always continues series of any night.",
    )


class MatrixSection(Section):
    """Darks for many settings; with one of these keys, all combinations are taken, with bias frames for each."""

    exposures: Exposures = key((), "Exposure times; none are those of science_exposure_time.", "seconds")
    gains: Settings = key((), "Gains; none is that of the camera section.")
    offsets: Settings = key((), "Offsets; none is that of the camera section.")
    binnings: Binnings = key((), "Binnings; none is that of the camera section.", "pixels")
    readout_modes: ReadoutModes = key((), "Readout modes; none is that of the camera section.")
    temperatures: Temperatures = key((), "Temperatures of the sensor; none leaves it as it is.", "degrees C")

    @property
    def is_asked(self) -> bool:
        """Return whether any key is given."""
        return any(getattr(self, name) for name in type(self).model_fields)


class TargetSection(Section):
    """When frames are enough, with auto as their number."""

    noise_share: Share = key(0.1, "What the master may add to the noise of a light frame.", "share of its noise")
    light_exposure: Positive | None = key(
        None,
        "Exposure time of the light frame; null is that of the darks, and for bias frames and flats"
        " science_exposure_time.",
        "seconds",
    )
    sky: NotNegative = key(
        0.0, "Light of the sky in a pixel of the light frames; 0 is the noise of the camera alone.", "e-/s"
    )
    min_frames: Count = key(5, "Smallest number of frames.", "frames")
    max_frames: Count = key(200, "Largest number of frames.", "frames")

    @field_validator("max_frames")
    @classmethod
    def _not_below_min(cls, value: int, info: ValidationInfo) -> int:
        """Refuse a maximum below the minimum."""
        if value < info.data.get("min_frames", 1):
            raise PydanticCustomError("order", "it must not be below min_frames", {"other": "min_frames"})
        return value


class DarkCaptureSection(NightsSection):
    """How dark and bias frames are taken."""

    num_darks: FrameCount = key(
        40, "Frames taken for each exposure time; auto takes as many as the target needs.", "frames"
    )
    flat_exposure_time: Positive | None = key(
        None,
        "Exposure time of the flats, for darks that match them; null uses that of the flats on disk.",
        "seconds",
    )
    science_exposure_time: Positive = key(5.0, "Exposure time of the science frames.", "seconds")
    min_exposure: NotNegative = key(
        0.001, "Shortest exposure time; frames at or below it count as bias frames.", "seconds"
    )
    max_exposure: Positive = key(60.0, "Longest exposure time; longer ones are not taken.", "seconds")
    exposure_factors: Factors = key(
        (0.5, 1.0, 2.0, 4.0), "Darks are taken at science_exposure_time multiplied by each of these."
    )
    strategy: DarkStrategy = key(
        "missing",
        "Which bias frames and darks are taken: missing, those that are complete in no night; aged, also those whose"
        " newest series is older than max_age_days; all, every one in each night.",
    )
    max_hours: Positive | None = key(
        None, "Longest time for the matrix; series that do not fit are named and left out.", "hours"
    )
    max_age_days: Positive = key(30.0, "Age at which strategy aged takes a series anew.", "days")
    output_dir: CaptureDirectory = key(
        "darks", "Directory of the dark and bias frames: capture writes to it, masters are made from it."
    )
    target: Annotated[TargetSection, BeforeValidator(empty_is_default)] = TargetSection()
    matrix: Annotated[MatrixSection, BeforeValidator(empty_is_default)] = MatrixSection()

    _order = field_validator("max_exposure")(_above_min_exposure)

    @property
    def frames(self) -> int:
        """The number of frames; with auto the largest one."""
        return self.target.max_frames if self.num_darks == "auto" else self.num_darks

    @property
    def least_frames(self) -> int:
        """The number of frames that a finished series has at least."""
        return self.target.min_frames if self.num_darks == "auto" else self.num_darks


class FlatCaptureSection(NightsSection):
    """How flat frames are taken."""

    target_count_rate: Share = key(
        0.5, "Wanted level: the mean of a frame divided by the full scale of the camera.", "share of full scale"
    )
    count_tolerance: Share = key(
        0.1, "How far the level may be from target_count_rate on either side.", "share of full scale"
    )
    num_flats: FrameCount = key(40, "Flats taken with each filter; auto takes as many as the target needs.", "frames")
    min_exposure: NotNegative = key(0.001, "Shortest exposure time allowed.", "seconds")
    max_exposure: Positive = key(10.0, "Longest exposure time allowed.", "seconds")
    exposure_step_factor: AboveOne = key(
        1.5,
        "Factor that changes the exposure time if a test frame is too dark or too saturated to compute it.",
    )
    max_adjustment_attempts: Count = key(10, "Largest number of test exposures to reach the level.", "exposures")
    output_dir: CaptureDirectory = key(
        "flats", "Directory of the flat frames: capture writes to it, masters are made from it."
    )
    filters: Texts = key((), "Filter names as in the filter wheel; a series of flats is taken with each.")
    twilight: Switch = key(False, "Take sky flats: adapt the exposure time to the sky at dusk or dawn, frame by frame.")
    mode: FlatMode = key(
        "exposure",
        "What is sought: the exposure time of each filter, or the brightness of the panel at"
        " dark_capture.flat_exposure_time, so that one set of darks serves all filters.",
    )
    for_lights: CaptureDirectory | None = key(
        None,
        "Directory of science frames; flats are taken with the filters, settings and rotations of those of the newest"
        " night, and darks with the exposures of these flats. null takes the filters of this section.",
    )
    panel_brightness: CountOrZero | None = key(
        None, "Initial brightness of a flat panel, in its own steps; null is half of its maximum."
    )

    sky: Annotated[SkySection, BeforeValidator(empty_is_default)] = SkySection()
    mount: Annotated[MountSection, BeforeValidator(empty_is_default)] = MountSection()
    target: Annotated[TargetSection, BeforeValidator(empty_is_default)] = TargetSection()

    _order = field_validator("max_exposure")(_above_min_exposure)

    @property
    def frames(self) -> int:
        """The number of frames; with auto the largest one."""
        return self.target.max_frames if self.num_flats == "auto" else self.num_flats

    @property
    def least_frames(self) -> int:
        """The number of frames that a finished series has at least."""
        return self.target.min_frames if self.num_flats == "auto" else self.num_flats
