"""How old masters may be, and what is said of old ones: of each once, however many frames take it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ostcal.frames import FrameType
from ostcal.inputs.observed import Observed

MONTH_DAYS = 30.0
"""Masters that are further from a frame are named on the console, whatever their limit."""


@dataclass(frozen=True, kw_only=True)
class MaxAges:
    """Most days between the frames of a master and those that take it; ``None`` is no limit."""

    bias: float | None = None
    dark: float | None = None
    flat: float | None = None

    def of(self, kind: FrameType) -> float | None:
        """Return the limit of a kind."""
        return {FrameType.BIAS: self.bias, FrameType.DARK: self.dark, FrameType.FLAT: self.flat}.get(kind)

    def exceeded(self, kind: FrameType, observed: Observed | None, taken_at: datetime | None) -> str:
        """Say by how much a master is beyond its age; "" where it is not, or nothing is known of a time."""
        limit = self.of(kind)
        if limit is None or taken_at is None:
            return ""
        if observed is None:
            return "it does not say when its frames were taken (DATE-OBS)"
        age_days = observed.age_days(taken_at)
        if abs(age_days) <= limit:
            return ""
        return f"its frames were taken {abs(age_days):.0f} days {side_of(age_days)} the frame (limit {limit:g})"


@dataclass(frozen=True, kw_only=True)
class DatedMaster:
    """A master, and when its frames were taken."""

    kind: FrameType
    name: str
    observed: Observed | None


@dataclass(frozen=True, kw_only=True)
class AgeLog:
    """Collects how old the masters of frames are, to say it in a line or two and not for each frame."""

    max_ages: MaxAges
    _farthest: dict[str, tuple[float, str, FrameType]] = field(default_factory=dict)
    """By the name of a master: its age in days, the frame, and its kind."""
    _undated: dict[str, FrameType] = field(default_factory=dict)

    def note(self, label: str, taken_at: datetime | None, masters: Iterable[DatedMaster]) -> None:
        """Note the ages of the masters of a frame."""
        for master in masters:
            if master.observed is None:
                self._undated[master.name] = master.kind
            elif taken_at is not None:
                age_days = master.observed.age_days(taken_at)
                known = self._farthest.get(master.name)
                if known is None or abs(age_days) > abs(known[0]):
                    self._farthest[master.name] = age_days, label, master.kind

    @property
    def warnings(self) -> list[str]:
        """A line for each master beyond its age."""
        lines = []
        for name, (age_days, label, kind) in self._farthest.items():
            limit = self.max_ages.of(kind)
            if limit is not None and abs(age_days) > limit:
                lines.append(
                    f"{kind} {name}: its frames were taken {abs(age_days):.0f} days {side_of(age_days)} {label} (limit "
                    f"{limit:g}, matching.max_age_days.{kind}); take new ones"
                )
        lines += [
            f"{kind} {name} does not say when its frames were taken (DATE-OBS): its age is not known "
            f"(limit {limit:g} days, matching.max_age_days.{kind})"
            for name, kind in self._undated.items()
            if (limit := self.max_ages.of(kind)) is not None
        ]
        return lines

    @property
    def old(self) -> list[str]:
        """A line about all masters that are older than a month, or nothing."""
        found = [
            f"{kind} {name} {abs(age_days):.0f} days {side_of(age_days)} {label}"
            for name, (age_days, label, kind) in sorted(self._farthest.items(), key=lambda one: -abs(one[1][0]))
            if abs(age_days) > MONTH_DAYS
        ]
        return [f"taken more than a month apart: {', '.join(found)}"] if found else []

    @property
    def undated(self) -> tuple[str, ...]:
        """Names of the masters that do not say when their frames were taken."""
        return tuple(self._undated)


def side_of(age_days: float) -> str:
    """Return whether a master of this age was taken before or after the frame."""
    return "before" if age_days > 0 else "after"


def farthest_age_days(masters: Iterable[Observed | None], taken_at: datetime | None) -> float | None:
    """Return the age in days of the master that was taken farthest from a moment; ``None`` where none is known."""
    ages = [one.age_days(taken_at) for one in masters if one is not None and taken_at is not None]
    return max(ages, key=abs, default=None)
