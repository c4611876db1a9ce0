"""What is due: pure functions of what is wanted, what was taken, and how many nights may lie between.

Nights are counted, not hours: dusk comes a minute earlier each evening in autumn, and flats of every evening are due
every evening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from ostcal.frames import FrameType
from ostcal.naming import same_filter

SAME_DARK_S, SAME_DARK_SHARE = 0.05, 1e-3
"""A dark of a flat within either difference of its exposure counts as one of the same exposure."""
MOST_FAILED = 3
"""Nights in a row after which a set that fails its checks is not taken anew in the next."""
SAME_ANGLE_DEG = 1.0
"""Flats whose rotators differ by no more stand for one another."""
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
    rotation_deg: float | None = None
    """Of flats: the angle of the rotator."""
    is_for_lights: bool = False
    """Whether it is of the flats, or of their darks, that science frames need."""
    expected: int | None = field(default=None, compare=False)
    """Frames that a series of an automatic number is expected to take; `n_frames` are then the fewest."""

    @property
    def is_of_matrix(self) -> bool:
        """Whether it is of the matrix of darks."""
        return bool(self.settings) and not self.is_for_lights

    @property
    def label(self) -> str:
        """Name in lines for the user: ``darks of 5 s``, ``darks of 5 s (gain 100, -10 C)``."""
        settings = f" ({self.settings_text})" if self.settings_text else ""
        if self.kind is FrameType.BIAS:
            return f"bias{settings}"
        if self.kind is FrameType.DARK:
            if self.exposure_time_s is None:
                return f"darks of the flats{f' {self.filter_name}' if self.filter_name else ''}{settings}"
            return f"darks of {self.exposure_time_s:g} s{settings}"
        return f"flats {self.filter_name}{settings}" if self.filter_name else f"flats{settings}"

    def as_taken(self, when: datetime, night: date) -> TakenSeries:
        """Return it as it is on disk once it is taken."""
        return TakenSeries(
            kind=self.kind,
            n_frames=self.n_frames,
            observed_at=when,
            night=night,
            exposure_time_s=self.exposure_time_s,
            filter_name=self.filter_name,
            rotation_deg=self.rotation_deg,
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
    rotation_deg: float | None = None
    has_failed: bool = False
    """Whether its master failed its checks."""
    needed: Callable[[], int | None] | None = field(default=None, compare=False)
    """Gives the frames of a complete series where their number is automatic, else ``None``."""

    def is_complete_for(self, wanted: WantedSeries) -> bool:
        """Return whether it has all frames of what is wanted."""
        if self.n_frames < wanted.n_frames or self.needed is None:
            return self.n_frames >= wanted.n_frames
        return self.n_frames >= (self.needed() or wanted.n_frames)

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
            if not _is_turned_like(self.rotation_deg, wanted.rotation_deg):
                return False
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

    @property
    def frames(self) -> int:
        """Frames to take."""
        return max(1, (self.wanted.expected or self.wanted.n_frames) - self.present)


def _is_turned_like(one: float | None, other: float | None) -> bool:
    return one is None or other is None or abs((one - other + 180) % 360 - 180) <= SAME_ANGLE_DEG


Cadence = Mapping[FrameType, int | None]
"""Nights from one series of a kind to the next; ``None`` takes none."""


def due_series(
    wanted: Iterable[WantedSeries],
    taken: Sequence[TakenSeries],
    night: date,
    cadence: Cadence,
    *,
    serves: date | None = None,
) -> tuple[DueSeries, ...]:
    """Return what is due in a night; `serves` is the night that it is for, by default the same.

    Only a complete series of an earlier night counts: one that was cut short is taken anew, as its night has ended.
    One of this night is continued. Series of nights to come are those of a clock that was wrong, and do not count.
    """
    found = []
    for one in wanted:
        every = cadence.get(one.kind)
        if every is None:
            continue
        alike = [series for series in taken if series.night <= night and series.answers(one)]
        complete, has_failed = _newest_that_counts(one, alike, night)
        tonight = max((series.n_frames for series in alike if series.night == night), default=0)
        age = ((serves or night) - complete).days if complete is not None and not has_failed else None
        if age is not None and age < every:
            continue
        reason = "never taken" if age is None else f"{age} night{'' if age == 1 else 's'} old"
        if has_failed:
            reason = f"the set of {complete} failed its checks"
        if tonight:
            reason = f"{tonight} of {one.expected or max(tonight, one.n_frames)} frames"
        found.append(DueSeries(wanted=one, reason=reason, present=tonight))
    return tuple(found)


def _newest_that_counts(one: WantedSeries, alike: Iterable[TakenSeries], night: date) -> tuple[date | None, bool]:
    """Return the night of the newest complete series, and whether it failed its checks and is to be taken anew.

    A set that failed is due again in the next night. After `MOST_FAILED` nights it is left to its cadence: another set
    would fail too.
    """
    failed: list[date] = []
    for series in sorted(alike, key=lambda series: (series.night, series.observed_at), reverse=True):
        if not series.is_complete_for(one):
            continue
        if not series.has_failed or series.night == night:
            return (failed[0], True) if failed else (series.night, False)
        failed += [series.night] if series.night not in failed else []
        if len(failed) == MOST_FAILED:
            return failed[0], False
    return (failed[0], True) if failed else (None, False)


def failing(wanted: Iterable[WantedSeries], taken: Sequence[TakenSeries]) -> tuple[str, ...]:
    """Return a line for each wanted series of which the sets of the last nights all failed their checks."""
    lines = []
    for one in wanted:
        nights: dict[date, bool] = {}
        for series in taken:
            if series.answers(one) and series.is_complete_for(one):
                nights[series.night] = nights.get(series.night, True) and series.has_failed
        newest = [nights[night] for night in sorted(nights, reverse=True)[:MOST_FAILED]]
        if len(newest) == MOST_FAILED and all(newest):
            lines.append(
                f"{one.label}: the sets of the last {MOST_FAILED} nights failed their checks: a person must look at"
                f" the report; the next are taken after schedule.cadence_days.{one.kind}"
            )
    return tuple(lines)


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
        moments = [series.observed_at for series in taken if series.answers(one) and series.is_complete_for(one)]
        limit_days = max_age_days[one.kind]
        age_days = min((abs((now - moment).total_seconds()) / 86400 for moment in moments), default=0.0)
        if age_days > limit_days:
            key = f"schedule.max_age_days.{one.kind}"
            lines.append(f"{one.label}: the newest are {age_days:.0f} days old ({key} is {limit_days:g})")
    return tuple(lines)
