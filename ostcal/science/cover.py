"""How lights are covered by masters: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from html import escape
from typing import Any

from ostcal.displays import rows_table
from ostcal.frames import FrameType
from ostcal.science.match_distance import Distances

KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)


class Cover(StrEnum):
    """How a kind of masters covers lights."""

    COVERED = "covered"
    SCALED = "scaled"
    """By dark current that is scaled from another exposure."""
    UNSCALED = "unscaled"
    """By a dark of another exposure, or temperature, as it is."""
    AGED = "aged"
    """By a master that is older than the configuration allows."""
    MISSING = "missing"
    NOT_NEEDED = "not needed"
    """No bias fits, and the dark needs none."""
    LEFT_OUT = "left out"
    """The configuration leaves this step out."""


LACKING = (Cover.UNSCALED, Cover.AGED, Cover.MISSING)
"""What new frames would mend."""


@dataclass(frozen=True, kw_only=True)
class TakenMaster:
    """A master that would be taken."""

    name: str
    kind: FrameType
    verdict: str | None
    """pass, warn or fail of its quality control; null if there was none."""
    age_days: float | None
    """Days from its frames to the lights; negative if its frames were taken later, null if a time is not known."""
    distances: Distances


@dataclass(frozen=True, kw_only=True)
class KindCover:
    """How lights are covered by masters of one kind."""

    state: Cover
    masters: tuple[TakenMaster, ...] = ()
    description: str = ""
    """What would be done with the masters."""
    reason: str = ""
    """Why it is not covered, as calibrate would say it."""
    warnings: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What is equal where the same masters are taken in the same way."""
        return self.state, tuple(master.name for master in self.masters)

    def older(self, *others: KindCover) -> KindCover:
        """Return the one of several whose masters are farthest away in time."""
        return max((self, *others), key=lambda cover: max((abs(m.age_days or 0.0) for m in cover.masters), default=0.0))

    @property
    def shown(self) -> str:
        """The state in a cell of a table, with the masters, or why there are none."""
        names = ", ".join(master.name for master in self.masters)
        return ": ".join(text for text in (str(self.state), names or self.reason) if text)

    @property
    def is_lacking(self) -> bool:
        """Return whether new frames would mend it."""
        return self.state in LACKING


@dataclass(frozen=True, kw_only=True)
class LightGroup:
    """Lights that are alike and take the same masters."""

    night: date | None
    """Date of the evening, UTC; null if the headers say no time."""
    filter: str | None
    exposure_time_s: float | None
    temperature_c: float | None
    gain: float | None
    offset: float | None
    binning: tuple[int, int]
    readout_mode: str | None
    rotation_deg: float | None
    camera: str | None
    camera_id: str | None
    extension: str | None
    width: int
    height: int
    lights: int
    """How many."""
    first_light: str
    """The file of the first of them."""
    bias: KindCover
    dark: KindCover
    flat: KindCover

    @property
    def covers(self) -> Mapping[FrameType, KindCover]:
        """How each kind of masters covers them."""
        return dict(zip(KINDS, (self.bias, self.dark, self.flat), strict=True))


@dataclass(frozen=True, kw_only=True)
class CoverageRules:
    """What decides what is covered, beside the rules of matching."""

    temperature_tolerance_c: float = 2.0
    with_darks: bool = True
    """Whether lights take darks at all."""
    noon_utc_s: float | None = None
    """Where nights of lights end whose headers do not say the longitude; by default at a time of day without lights."""


@dataclass(frozen=True, kw_only=True)
class FramesToTake:
    """A series of frames that some lights lack."""

    kind: FrameType
    exposure_time_s: float | None
    """Seconds; null is found by trial exposures, as for flats."""
    frames: int
    gain: float | None
    offset: float | None
    binning: tuple[int, int]
    readout_mode: str | None
    filter: str | None
    temperature_c: float | None
    rotation_deg: float | None
    camera: str | None
    camera_id: str | None
    time_s: float
    """Estimate, the readout included."""
    n_bytes: int
    """Upper limit of the disk space."""
    lights: int
    """Lights that need them."""
    why: str
    """Missing, aged or unscaled."""

    def as_plan(self) -> dict[str, Any]:
        """Return the series as an entry of a capture plan; what is not known is left out."""
        known = {
            "gain": self.gain,
            "offset": self.offset,
            "binning": list(self.binning),
            "readout_mode": self.readout_mode,
            "filter": self.filter,
            "temperature": self.temperature_c,
            "rotation": self.rotation_deg,
        }
        needed = {"kind": str(self.kind), "exposure": _whole(self.exposure_time_s), "count": self.frames}
        return needed | {key: _whole(value) for key, value in known.items() if value is not None}


@dataclass(frozen=True, kw_only=True, repr=False)
class Coverage:
    """What lights would be calibrated with, and what they lack."""

    masters_dir: str
    masters: int
    """Masters in the library."""
    lights: int
    """Lights that can be calibrated, if there are masters for them."""
    is_covered: bool
    """Whether each of them has masters that fit and are not too old."""
    groups: tuple[LightGroup, ...]
    frames_to_take: tuple[FramesToTake, ...]
    time_s: float
    """Of all frames to take."""
    n_bytes: int
    """Disk space of all frames to take."""
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    """A line for each file that cannot be used."""
    plan: str | None = None
    """The file into which the frames to take were written."""

    def as_plan(self) -> dict[str, Any]:
        """Return the frames to take as a capture plan."""
        return {"series": [series.as_plan() for series in self.frames_to_take]}

    def __repr__(self) -> str:
        lacking = sum(any(cover.is_lacking for cover in group.covers.values()) for group in self.groups)
        to_take = f"groups that lack masters: {lacking}, series to take: {len(self.frames_to_take)}"
        errors = f"; unusable files: {len(self.errors)}" if self.errors else ""
        counts = f"lights: {self.lights}, groups: {len(self.groups)}"
        result = to_take if lacking else "all covered" if self.is_covered else "nothing to cover"
        return f"<Coverage {counts}; {result}{errors}>"

    def _repr_html_(self) -> str:
        titles = ("night", "filter", "exposure", "gain", "temperature", "lights", *map(str, KINDS))
        rows = [
            [
                group.night,
                group.filter,
                None if group.exposure_time_s is None else f"{group.exposure_time_s:g} s",
                None if group.gain is None else f"{group.gain:g}",
                None if group.temperature_c is None else f"{group.temperature_c:g} C",
                group.lights,
                *(cover.shown for cover in group.covers.values()),
            ]
            for group in self.groups
        ]
        lines = "".join(f"<p>{escape(line)}</p>" for line in (*self.warnings, *self.errors))
        return rows_table(titles, rows) + lines


def _whole(value: Any) -> Any:
    """Return a number without a fraction as a whole one: people read ``gain: 100``."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
