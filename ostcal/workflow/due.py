"""What is due: pure functions of what is wanted, what was taken, and how many nights may lie between.

Nights are counted, not hours: dusk comes a minute earlier each evening in autumn, and flats of every evening are due
every evening.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ostcal.frames import FrameType
from ostcal.naming import same_filter

SAME_DARK_S, SAME_DARK_SHARE = 0.05, 1e-3
"""A dark of a flat within either difference of its exposure counts as one of the same exposure."""
_CAPTURE_SHARE = 1e-3
"""Exposures that capture takes as equal."""


@dataclass(frozen=True, kw_only=True)
class WantedSeries:
    """A series of which a new one is wanted every so many nights."""

    kind: FrameType
    n_frames: int
    exposure_time_s: float | None = None
    """Of darks."""
    filter_name: str | None = None
    """Of flats; ``None`` is any."""
    is_of_flats: bool = False
    """Whether it is a dark of flats, whose exposures differ a little from night to night."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Of the matrix: what frames must share, by its name in series; else they are those of the configuration."""
    settings_text: str = ""

    @property
    def label(self) -> str:
        """Name in lines for the user: ``darks of 5 s``, ``darks of 5 s (gain 100, -10 C)``."""
        settings = f" ({self.settings_text})" if self.settings_text else ""
        if self.kind is FrameType.BIAS:
            return f"bias{settings}"
        if self.kind is FrameType.DARK:
            return f"darks of {self.exposure_time_s:g} s{settings}"
        return f"flats {self.filter_name}" if self.filter_name else "flats"

    def as_taken(self, when: datetime, night: date) -> TakenSeries:
        """Return it as it is on disk once it is taken."""
        return TakenSeries(
            kind=self.kind,
            n_frames=self.n_frames,
            observed_at=when,
            night=night,
            exposure_time_s=self.exposure_time_s,
            filter_name=self.filter_name,
        )


@dataclass(frozen=True, kw_only=True)
class TakenSeries:
    """A series on disk."""

    kind: FrameType
    n_frames: int
    observed_at: datetime
    """Start of its newest frame."""
    night: date
    """Of that frame."""
    exposure_time_s: float | None = None
    filter_name: str | None = None

    def as_wanted(self) -> WantedSeries:
        """Return it as what is wanted again."""
        return WantedSeries(
            kind=self.kind,
            n_frames=self.n_frames,
            exposure_time_s=self.exposure_time_s,
            filter_name=self.filter_name,
        )

    def answers(self, wanted: WantedSeries) -> bool:
        """Return whether it is what is wanted, however many frames it has."""
        if self.kind is not wanted.kind:
            return False
        if self.kind is FrameType.FLAT:
            return wanted.filter_name is None or same_filter(self.filter_name or "", wanted.filter_name)
        if self.kind is FrameType.BIAS or wanted.exposure_time_s is None:
            return True
        if self.exposure_time_s is None:
            return False
        share = _CAPTURE_SHARE * wanted.exposure_time_s
        allowed_s = max(SAME_DARK_S, share) if wanted.is_of_flats else share
        return abs(self.exposure_time_s - wanted.exposure_time_s) <= allowed_s * (1 + 1e-9)


@dataclass(frozen=True, kw_only=True)
class DueSeries:
    """A series that is due, and why."""

    wanted: WantedSeries
    reason: str
    """``never taken``, ``7 nights old``, ``3 of 10 frames``."""
    present: int = 0
    """Frames that this night has already."""


Cadence = Mapping[FrameType, int | None]
"""Nights from one series of a kind to the next; ``None`` takes none."""


def due_series(
    wanted: Iterable[WantedSeries], taken: Sequence[TakenSeries], night: date, cadence: Cadence
) -> tuple[DueSeries, ...]:
    """Return what is due in a night.

    Only a complete series of an earlier night counts: one that was cut short is taken anew, as its night has ended.
    One of this night is continued. Series of nights to come are those of a clock that was wrong, and do not count.
    """
    found = []
    for one in wanted:
        every = cadence.get(one.kind)
        if every is None:
            continue
        alike = [series for series in taken if series.night <= night and series.answers(one)]
        complete = [series.night for series in alike if series.n_frames >= one.n_frames]
        tonight = max((series.n_frames for series in alike if series.night == night), default=0)
        age = (night - max(complete)).days if complete else None
        if age is not None and age < every:
            continue
        reason = "never taken" if age is None else f"{age} night{'' if age == 1 else 's'} old"
        if tonight:
            reason = f"{tonight} of {one.n_frames} frames"
        found.append(DueSeries(wanted=one, reason=reason, present=tonight))
    return tuple(found)


def taken_then(due: Iterable[DueSeries], when: datetime, night: date) -> list[TakenSeries]:
    """Return what is on disk after all that is due was taken."""
    return [one.wanted.as_taken(when, night) for one in due]


def wanted_darks(
    n_frames: int, exposures_s: Iterable[float], flat_exposures_s: Iterable[float], limits_s: tuple[float, float]
) -> list[WantedSeries]:
    """Return the bias frames and the darks that are wanted: of each exposure within the limits once."""
    wanted = [WantedSeries(kind=FrameType.BIAS, n_frames=n_frames)]
    shortest_s, longest_s = limits_s
    for exposure_s, is_of_flats in [(e, False) for e in exposures_s] + [(e, True) for e in flat_exposures_s]:
        dark = WantedSeries(kind=FrameType.DARK, n_frames=n_frames, exposure_time_s=exposure_s, is_of_flats=is_of_flats)
        known = any(other.as_taken(datetime.min, date.min).answers(dark) for other in wanted[1:])
        if shortest_s * (1 + _CAPTURE_SHARE) < exposure_s <= longest_s * (1 + _CAPTURE_SHARE) and not known:
            wanted.append(dark)
    return wanted


def too_old(
    wanted: Iterable[WantedSeries], taken: Sequence[TakenSeries], now: datetime, max_age_days: Mapping[FrameType, float]
) -> tuple[str, ...]:
    """Return a line for each wanted series of which the newest complete one is too old."""
    lines = []
    for one in wanted:
        moments = [series.observed_at for series in taken if series.answers(one) and series.n_frames >= one.n_frames]
        limit_days = max_age_days[one.kind]
        age_days = min((abs((now - moment).total_seconds()) / 86400 for moment in moments), default=0.0)
        if age_days > limit_days:
            key = f"schedule.max_age_days.{one.kind}"
            lines.append(f"{one.label}: the newest are {age_days:.0f} days old ({key} is {limit_days:g})")
    return tuple(lines)
