"""What masters of a science frame must be like, and what was chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import EXPOSURE_TOLERANCE, GroupKey
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.inputs.optics import ROTATION_TOLERANCE_DEG
from ostcal.inputs.sensor_temperature import sensor_temperature_c
from ostcal.library.ages import MaxAges as MaxAges
from ostcal.library.ages import farthest_age_days
from ostcal.library.find import LibraryMaster
from ostcal.library.in_time import TimeRules
from ostcal.science.dark_of_temperature import TemperatureDark
from ostcal.science.synthetic_dark import SyntheticDark
from ostcal.vocabulary import Prefer


@dataclass(frozen=True, kw_only=True)
class MatchRules:
    """How near a master must be."""

    exposure_tolerance: float = 0.1
    """Share of the exposure of the frame: the widest difference that a dark is taken with as it is."""
    temperature_tolerance_c: float = 2.0
    bias_temperature_tolerance_c: float = 20.0
    """Of a bias, whose level hardly depends on the temperature; one within `temperature_tolerance_c` goes before."""
    rotation_tolerance_deg: float = ROTATION_TOLERANCE_DEG
    """How far the camera may be turned between a flat and the frame."""
    allow_failed: bool = False
    """Whether masters that failed their quality control count too."""
    max_ages: MaxAges = field(default_factory=MaxAges)
    prefer: Prefer = "nearest"
    window_days: float = 0.0
    """Bias and darks of so many days are compared: a clearly worse one is left out although it is nearer in time."""
    strict: bool = False
    """Whether masters beyond their age, and a bias alone beside darks that do not fit, are refused."""
    max_scale_up: float = 2.0
    """Times the exposure of a dark that its dark current is scaled up to."""
    dark_temperature_model: bool = True
    """Whether a dark may be made from darks of three temperatures or more where none has that of the frame."""
    now: datetime | None = None
    """Times after it are those of wrong clocks; ``None`` where any time may be true."""

    def in_time(self, kind: FrameType) -> TimeRules:
        """Return how masters of a kind that fit alike are put in order."""
        is_flat = kind is FrameType.FLAT
        window_days = 0.0 if is_flat else self.window_days
        return TimeRules(prefer=self.prefer, by_night=is_flat, window_days=window_days, now=self.now)

    def too_old(self, master: LibraryMaster, taken_at: datetime | None) -> str:
        """Say by how much a master is beyond its age; "" where it is not, or nothing is known of a time."""
        return self.max_ages.exceeded(master.key.frame_type, master.record.observed, taken_at)


@dataclass(frozen=True, kw_only=True)
class DarkPart:
    """A master that a dark consists of, and its weight."""

    master: LibraryMaster
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DarkMix:
    """What is subtracted from a frame: the weighted sum of its parts, or a fit over them."""

    parts: tuple[DarkPart, ...]
    description: str
    """What was done, for the log and the header."""
    scaled: bool = False
    """Whether dark current was scaled to the exposure."""
    unscaled: str = ""
    """Why a dark of another exposure is taken as it is."""
    synthetic: SyntheticDark | TemperatureDark | None = None
    """The fit over exposures or temperatures of the parts, if that is subtracted and not their weighted sum."""
    other_temperature: str = ""
    """What is left in by darks of another temperature than the frame."""
    refused: str = ""
    """Why there is no such fit although no dark has the exposure, or the temperature."""

    @property
    def has_dark_current(self) -> bool:
        """Whether more than a bias is subtracted."""
        return any(part.master.key.frame_type is FrameType.DARK for part in self.parts)


@dataclass(frozen=True, kw_only=True, repr=False)
class MatchedMasters:
    """The masters of one science frame; ``None`` for a step that is left out."""

    dark: DarkMix | None
    flat: LibraryMaster | None
    bias: LibraryMaster | None = None
    """A bias that fits: the level from which photon noise counts."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is said of masters once, not for each frame."""
    taken_at: datetime | None = None
    """When the frame was taken."""

    def __repr__(self) -> str:
        dark = self.dark.description if self.dark is not None else "left out"
        flat = self.flat.record.name if self.flat is not None else "left out"
        warnings = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"<MatchedMasters dark: {dark}; flat: {flat}{warnings}>"

    @property
    def used(self) -> tuple[LibraryMaster, ...]:
        """Those of the arithmetic, the darks first."""
        return masters_of(self.dark, self.flat)

    def age_days(self, kind: FrameType) -> float | None:
        """Return how many days before the frame the masters of a kind were taken: of several the farthest.

        Negative where they were taken later; ``None`` where none is used or a time is not known.
        """
        masters = [master for master in self.used if master.key.frame_type is kind]
        if kind is FrameType.BIAS and not masters and self.bias is not None:
            masters = [self.bias]
        return farthest_age_days((master.record.observed for master in masters), self.taken_at)

    def calibration_status(self, *, bias_subtracted: bool) -> str:
        """Return CALSTAT of the calibrated frame: B bias, D dark, F flat; a dark holds the bias too."""
        has_dark_current = self.dark is not None and self.dark.has_dark_current
        letters = {"B": self.dark is not None or bias_subtracted, "D": has_dark_current, "F": self.flat is not None}
        return "".join(letter for letter, is_done in letters.items() if is_done)


def masters_of(dark: DarkMix | None, flat: LibraryMaster | None) -> tuple[LibraryMaster, ...]:
    """Return the masters that a dark consists of, and the flat."""
    darks = tuple(part.master for part in dark.parts) if dark is not None else ()
    return darks if flat is None else (*darks, flat)


def science_key(metadata: FrameMetadata) -> GroupKey:
    """Return what a science frame is compared by."""
    return GroupKey(
        frame_type=FrameType.LIGHT,
        settings=metadata.settings,
        width=metadata.width,
        height=metadata.height,
        exposure_time_s=metadata.exposure_time_s or 0.0,
        states_binning=metadata.states_binning,
        filter_name=metadata.filter_name,
        optics=metadata.optics,
        temperature_c=sensor_temperature_c(metadata.set_temperature_c, metadata.ccd_temperature_c),
        bayer_pattern=metadata.bayer_pattern,
        bias_subtracted=metadata.bias_subtracted,
    )


def usable_masters(library: Sequence[LibraryMaster], rules: MatchRules) -> list[LibraryMaster]:
    """Return the masters that did not fail their quality control, or all if failed ones are allowed.

    A mixture of two levels is at neither of them: it is never chosen.
    """
    return [
        master
        for master in library
        if (rules.allow_failed or master.record.verdict != "fail") and not master.record.has_two_levels
    ]


def is_near_exposure(key: GroupKey, dark: GroupKey, rules: MatchRules) -> bool:
    """Return whether a dark's exposure is within the relative tolerance of the frame's."""
    limit = max(rules.exposure_tolerance, EXPOSURE_TOLERANCE) + 1e-9
    return abs(dark.exposure_time_s - key.exposure_time_s) <= limit * key.exposure_time_s


def is_same_exposure(key: GroupKey, dark: GroupKey) -> bool:
    """Return whether a dark has the exposure of the frame, as clocks tell it."""
    return is_one_exposure(dark.exposure_time_s, key.exposure_time_s)
