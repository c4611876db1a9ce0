"""Which of several masters that fit alike is taken: nearest in the time its frames were taken, the better of a session.

The time a master was built never decides between frames of different times. It decides between masters of the same
frames: the one that was made last has the frames and the methods that are wanted now.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import TypeVar

from ostcal.inputs.clocks import is_ahead
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.naming import DAY_S, night_of
from ostcal.vocabulary import Prefer

_T = TypeVar("_T")

NOISIER = 1.2
"""A master is worse than another if it has this many times its noise: a frame more or less is no reason."""
SESSION_S = 12 * 3600.0
"""Times that are nearer are of one session where the noon of the observatory is not known."""

_VERDICTS = {"warn": 1, "fail": 2}


@dataclass(frozen=True, kw_only=True)
class Merit:
    """What decides between masters that fit alike."""

    name: str
    observed: Observed | None
    made_at: datetime | None = None
    verdict: str | None = None
    noise: float | None = None
    """Of a pixel of the master, in any unit that is common to masters of its `exposure`."""
    exposure: tuple[str, str] = ("", "")
    """Its kind and exposure: only masters that have these in common are compared by their noise."""
    is_of_run: bool = False
    """Whether it is made now: it is the newest, and its quality is not known yet."""
    night: date | None = None
    noon_utc_s: float | None = None
    session_start: datetime | None = None
    """Where sessions are told apart by hours."""

    @classmethod
    def of_key(
        cls,
        key: GroupKey,
        *,
        name: str,
        observed: Observed | None,
        made_at: datetime | None,
        verdict: str | None,
        noise: float | None,
        is_of_run: bool = False,
    ) -> Merit:
        """Return what decides between a master and others."""
        return cls(
            name=name,
            observed=observed,
            made_at=made_at,
            verdict=verdict,
            noise=noise,
            exposure=(str(key.frame_type), f"{key.exposure_time_s:.3g}"),
            is_of_run=is_of_run,
            night=key.night,
            noon_utc_s=key.noon_utc_s,
            session_start=key.session_start,
        )

    @cached_property
    def when(self) -> datetime | None:
        """The time that is compared: of the frames, else midnight of the night."""
        if self.observed is not None:
            return self.observed.middle
        return datetime.combine(self.night, time(), UTC) + timedelta(days=1) if self.night else None

    @cached_property
    def known_night(self) -> date | None:
        """The night of the frames, where it is known when nights begin."""
        if self.night is not None or self.noon_utc_s is None or self.when is None:
            return self.night
        return night_of(self.when, self.noon_utc_s)

    def distance(self, taken_at: datetime | None, rules: TimeRules) -> tuple[float, float]:
        """Return nights and seconds from a moment, infinite where the time of the frames is not known.

        A frame without a time takes what was taken last. A time in the future is that of a wrong clock: it counts as
        unknown, except for a frame that was itself taken in the future, by the same clock perhaps.
        """
        when = self.when
        if is_ahead(when, rules.now) and not is_ahead(taken_at, rules.now):
            when = None
        if when is None:
            return (-math.inf, -math.inf) if self.is_of_run else (math.inf, math.inf)
        if taken_at is None:
            return (-math.inf, -math.inf) if self.is_of_run else (0.0, -when.timestamp())
        apart_s = abs((taken_at - when).total_seconds())
        if not rules.by_night:
            return 0.0, apart_s
        its = self.known_night
        ours = night_of(taken_at, self.noon_utc_s) if its is not None else None
        nights = abs((ours - its).days) if ours is not None and its is not None else round(apart_s / DAY_S)
        return float(nights), apart_s

    def is_of_session(self, other: Merit) -> bool:
        """Return whether two masters are of one night, or of times that overlap."""
        if self.observed is not None and other.observed is not None and self.observed.overlaps(other.observed):
            return True
        if self.session_start is not None and other.session_start is not None:
            return self.session_start == other.session_start
        nights = self.known_night, other.known_night
        if None not in nights:
            return nights[0] == nights[1]
        if self.when is None or other.when is None:
            return self.when is other.when
        return abs((self.when - other.when).total_seconds()) < SESSION_S

    def has_frames_of(self, other: Merit) -> bool:
        """Return whether two masters are made of the same series, some frames of which may be left out."""
        a, b = self.observed, other.observed
        if a is None or b is None:
            return a is b
        return a.overlaps(b) and (a.first == b.first or a.last == b.last)


@dataclass(frozen=True, kw_only=True)
class TimeRules:
    """How masters that fit alike are put in order."""

    prefer: Prefer = "nearest"
    by_night: bool = False
    """Whether nights count before hours: of flats, for cameras are turned between nights."""
    now: datetime | None = None
    """Frames that were taken later had a clock that was wrong; ``None`` where any time may be true."""


def order_in_time(merits: Sequence[Merit], taken_at: datetime | None, rules: TimeRules) -> list[int]:
    """Return the indices of masters in the order in which they are preferred for a moment, whatever order they have.

    The nearest in time comes first; of masters of its session the better: passed before warned, then with the lower
    noise. With ``prefer: best`` all are one session.
    """

    def apart(index: int) -> tuple[float, float, str]:
        return *merits[index].distance(taken_at, rules), merits[index].name

    by_distance = sorted(range(len(merits)), key=apart)
    if rules.prefer == "best":
        return _better_first(by_distance, merits)
    place = {index: place for place, index in enumerate(by_distance)}
    neighbours = _Neighbours(merits)
    left = set(by_distance)
    ordered: list[int] = []
    for index in by_distance:
        if index in left:
            near = sorted(left.intersection(neighbours.of(index)), key=place.__getitem__)
            session = [i for i in near if merits[i].is_of_session(merits[index])]
            ordered += _better_first(session, merits)
            left.difference_update(session)
    return ordered


class _Neighbours:
    """Masters near enough in time to be of one session: of a year of them only a few have to be compared."""

    def __init__(self, merits: Sequence[Merit]) -> None:
        self._when_s = [merit.when.timestamp() if merit.when is not None else None for merit in merits]
        known = sorted((when_s, index) for index, when_s in enumerate(self._when_s) if when_s is not None)
        self._times_s = [when_s for when_s, _ in known]
        self._indices = [index for _, index in known]
        self._timeless = [index for index, when_s in enumerate(self._when_s) if when_s is None]
        observed = [merit.observed for merit in merits if merit.observed is not None]
        longest_s = max(((one.last - one.first).total_seconds() for one in observed), default=0.0)
        self._reach_s = 2 * longest_s + 3 * DAY_S

    def of(self, index: int) -> list[int]:
        """Return the indices of all masters that may be of the session of one."""
        when_s = self._when_s[index]
        if when_s is None:
            return self._timeless
        first = bisect_left(self._times_s, when_s - self._reach_s)
        return self._indices[first : bisect_right(self._times_s, when_s + self._reach_s)]


def _better_first(session: Sequence[int], merits: Sequence[Merit]) -> list[int]:
    """Put the masters of a session, which are in order of time, in order of quality; equal ones stay as they are.

    Of masters of the same frames, the one made last comes first.
    """

    def made(index: int) -> tuple[bool, float]:
        made_at = merits[index].made_at
        return not merits[index].is_of_run, -made_at.timestamp() if made_at else math.inf

    by_time: list[int] = []
    left = list(session)
    while left:
        same = [i for i in left if merits[i].has_frames_of(merits[left[0]])]
        by_time += sorted(same, key=made)
        left = [i for i in left if i not in same]
    quality = _qualities([merits[i] for i in by_time])
    return [by_time[place] for place in sorted(range(len(by_time)), key=lambda place: quality[place])]


def _qualities(session: Sequence[Merit]) -> list[tuple[bool, int, float]]:
    """Return what puts masters in order of quality; noise counts where it is worse than that of the best."""
    ranks = [_VERDICTS.get(merit.verdict or "", 0) for merit in session]
    least: dict[tuple[int, tuple[str, str]], float] = {}
    for m, rank in zip(session, ranks, strict=True):
        if m.noise:
            least[rank, m.exposure] = min(m.noise, least.get((rank, m.exposure), math.inf))
    return [
        (not m.is_of_run, rank, m.noise if m.noise and m.noise > NOISIER * least[rank, m.exposure] else 0.0)
        for m, rank in zip(session, ranks, strict=True)
    ]


def better_than_nearest(chosen: Merit, others: Sequence[Merit], taken_at: datetime | None, rules: TimeRules) -> str:
    """Say which master of the session was nearer and why it was not taken; "" where the chosen one is the nearest."""
    apart = chosen.distance(taken_at, rules)
    distances = [(other.distance(taken_at, rules), other) for other in others if not other.is_of_run]
    nearer = [(distance, other) for distance, other in distances if distance < apart]
    for _, other in sorted(nearer, key=lambda pair: (pair[0], pair[1].name)):
        if not (rules.prefer == "best" or other.is_of_session(chosen)):
            continue
        ours, its = _qualities([chosen, other])
        if its > ours:
            why = (
                f"its verdict is {other.verdict}"
                if its[1] > ours[1] or not (other.noise and chosen.noise)
                else f"it has {other.noise / chosen.noise:.2g} times the noise"
            )
            return f"{other.name} was taken nearer in time, and {why}"
    return ""


def first_in_time(items: Sequence[_T], merit: Callable[[_T], Merit], taken_at: datetime | None, rules: TimeRules) -> _T:
    """Return the item that is preferred for a moment: the first of those that `order_in_time` puts in order."""
    merits = [merit(item) for item in items]
    apart = [(*one.distance(taken_at, rules), one.name) for one in merits]
    nearest = merits[min(range(len(items)), key=apart.__getitem__)]
    session = [i for i, one in enumerate(merits) if rules.prefer == "best" or one.is_of_session(nearest)]
    return items[_better_first(sorted(session, key=apart.__getitem__), merits)[0]]


def nearest_first(
    items: Sequence[_T], merit: Callable[[_T], Merit], taken_at: datetime | None, rules: TimeRules
) -> list[_T]:
    """Return items in the order in which they are preferred for a moment."""
    return [items[i] for i in order_in_time([merit(item) for item in items], taken_at, rules)]
