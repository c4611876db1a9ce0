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
WORSE = 1.4
"""Of masters of several nights a newer one is left out only from this many times the noise on."""
SESSION_S = 12 * 3600.0
"""Times that are nearer are of one session where the noon of the observatory is not known."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 24 * 3600 * 1_000_000
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
    def when_us(self) -> int | None:
        """The same in whole microseconds, which are compared faster than times and as exactly."""
        return None if self.when is None else _microseconds(self.when)

    @cached_property
    def known_night(self) -> date | None:
        """The night of the frames, where it is known when nights begin."""
        if self.night is not None or self.noon_utc_s is None or self.when is None:
            return self.night
        return night_of(self.when, self.noon_utc_s)

    @property
    def off_session(self) -> timedelta:
        """How far the night, or the start of the session, that it states is from its time."""
        stated = [self.session_start] if self.session_start is not None else []
        if self.night is not None:
            stated.append(datetime.combine(self.night, time(), UTC) + timedelta(days=1))
        return max((abs(self.when - one) for one in stated if self.when is not None), default=timedelta())

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
    window_days: float = 0.0
    """Of bias and darks, which change slowly: a master that is clearly worse than another one of so many days is left
    out, whichever is nearer."""
    by_night: bool = False
    """Whether nights count before hours: of flats, for cameras are turned between nights."""
    now: datetime | None = None
    """Frames that were taken later had a clock that was wrong; ``None`` where any time may be true."""


def order_in_time(merits: Sequence[Merit], taken_at: datetime | None, rules: TimeRules) -> list[int]:
    """Return the indices of masters in the order in which they are preferred for a moment, whatever order they have.

    The nearest in time comes first; of masters of its session the better: passed before warned, then with the lower
    noise. With ``prefer: best`` all are one session. Within a window a clearly worse one is not the first.
    """
    return Timeline(merits, rules).order(taken_at)


class Timeline:
    """Masters that fit alike, in time. What does not depend on the moment that is asked for is found once.

    Of thousands of masters those near the moment are looked at, by their exact distances; the rest is further away.
    """

    def __init__(self, merits: Sequence[Merit], rules: TimeRules) -> None:
        self._merits = merits
        self._rules = rules
        known = sorted((m.when_us, index) for index, m in enumerate(merits) if m.when_us is not None)
        self._times_us = [when_us for when_us, _ in known]
        self._indices = [index for _, index in known]
        self._timeless = [index for index, m in enumerate(merits) if m.when_us is None]
        self._sessions: dict[int, list[int]] = {}
        self._sound: dict[int, list[int]] = {}

    def first(self, taken_at: datetime | None, among: Sequence[int] | None = None) -> int:
        """Return the index of the master that is preferred for a moment, of all or of some: `order` begins with it."""
        if len(self._merits) == 1:
            return 0
        near = self._near(taken_at) if among is None else among
        nearest = near[0] if len(near) == 1 else min(near, key=self._apart(taken_at))
        session = self.session(nearest)
        if among is not None:
            session = [index for index in session if index in among]
        best = nearest
        if len(session) > 1:
            best = _better_first(sorted(session, key=self._apart(taken_at)), self._merits)[0]
        return self._unless_worse(best, taken_at, among)

    def _unless_worse(self, best: int, taken_at: datetime | None, among: Sequence[int] | None) -> int:
        """Return a master, or the nearest that is not clearly worse, where that master is, within the window."""
        if not self._rules.window_days or self._rules.prefer == "best":
            return best
        sound = self._sound_beside(best)
        if among is not None:
            window = [index for index in self._window(best) if index in among]
            sound = _not_worse(window, self._merits)
        if best in sound:
            return best
        nearest = min(sound, key=self._apart(taken_at))
        session = [index for index in self.session(nearest) if index in sound]
        return _better_first(sorted(session, key=self._apart(taken_at)), self._merits)[0]

    def _sound_beside(self, index: int) -> list[int]:
        if index not in self._sound:
            self._sound[index] = _not_worse(self._window(index), self._merits)
        return self._sound[index]

    def _window(self, index: int) -> list[int]:
        """Return the indices of the masters within the window of one, itself among them."""
        when_us = self._merits[index].when_us
        if when_us is None:
            return [index]
        reach_us = int(self._rules.window_days * _DAY_US)
        near = self._between(when_us - reach_us, when_us + reach_us)
        return [i for i in near if i == index or not is_ahead(self._merits[i].when, self._rules.now)]

    def session_and_window(self, index: int) -> list[int]:
        """Return the indices of the masters that one is compared with, itself among them."""
        return sorted({*self.session(index), *self._window(index)})

    def order(self, taken_at: datetime | None) -> list[int]:
        """Return the indices of all masters in the order in which they are preferred for a moment."""
        by_distance = sorted(range(len(self._merits)), key=self._apart(taken_at))
        if self._rules.prefer == "best":
            return _better_first(by_distance, self._merits)
        place = {index: place for place, index in enumerate(by_distance)}
        left = set(by_distance)
        ordered: list[int] = []
        for index in by_distance:
            if index in left:
                session = sorted(left.intersection(self.session(index)), key=place.__getitem__)
                ordered += _better_first(session, self._merits)
                left.difference_update(session)
        first = self.first(taken_at) if ordered else 0
        return sorted(ordered, key=lambda index: index != first)

    def within(self, taken_at: datetime, days: float) -> list[int]:
        """Return the indices of all masters that are so near in time, and of some others."""
        at_us, reach_us = _microseconds(taken_at), int(days * _DAY_US) + _DAY_US
        return [*self._timeless, *self._between(at_us - reach_us, at_us + reach_us)]

    def _apart(self, taken_at: datetime | None) -> Callable[[int], tuple[float, float, str]]:
        def apart(index: int) -> tuple[float, float, str]:
            merit = self._merits[index]
            return *merit.distance(taken_at, self._rules), merit.name

        return apart

    def _near(self, taken_at: datetime | None) -> Sequence[int]:
        """Return the indices of masters among which the nearest is."""
        end = len(self._times_us) if is_ahead(taken_at, self._rules.now) else self._n_true
        if taken_at is None or not end:
            return range(len(self._merits))
        at_us, times_us = _microseconds(taken_at), self._times_us
        place = bisect_left(times_us, at_us, 0, end)
        before_us = at_us - times_us[place - 1] if place else None
        apart_us = times_us[place] - at_us if place < end else before_us
        assert apart_us is not None  # it is before the first or not after the last
        apart_us = apart_us if before_us is None else min(apart_us, before_us)
        if self._rules.by_night:  # one of a nearer night may be further away by what nights are from the times
            apart_us += 2 * _DAY_US + (2 * (self._off_us + 2 * _DAY_US) if self._off_us else 0)
        first = bisect_left(times_us, at_us - apart_us, 0, end)
        last = bisect_right(times_us, at_us + apart_us, 0, end)
        return [*self._of_run, *self._indices[first:last]]

    @cached_property
    def _of_run(self) -> list[int]:
        """Masters of this run whose time is not known, or in the future: they go before all others."""
        unknown = [*self._timeless, *self._indices[self._n_true :]]
        return [index for index in unknown if self._merits[index].is_of_run]

    @cached_property
    def _n_true(self) -> int:
        """How many times may be true; those in the future are the last."""
        return sum(not is_ahead(self._merits[index].when, self._rules.now) for index in self._indices)

    def _between(self, first_us: int, last_us: int) -> list[int]:
        return self._indices[bisect_left(self._times_us, first_us) : bisect_right(self._times_us, last_us)]

    def session(self, index: int) -> list[int]:
        """Return the indices of the masters of the session of one, itself among them."""
        if index not in self._sessions:
            merit = self._merits[index]
            if self._rules.prefer == "best":
                session = list(range(len(self._merits)))
            elif merit.when_us is None:
                session = [i for i in self._timeless if self._merits[i].is_of_session(merit)]
            else:
                near = self._between(merit.when_us - self._reach_us, merit.when_us + self._reach_us)
                session = [i for i in near if self._merits[i].is_of_session(merit)]
            self._sessions[index] = session
        return self._sessions[index]

    @cached_property
    def _off_us(self) -> int:
        """How far the nights and starts of sessions are from the times of their masters at most."""
        off = [m.off_session.total_seconds() for m in self._merits if m.when_us is not None]
        return int(max(off, default=0.0) * 1e6)

    @cached_property
    def _reach_us(self) -> int:
        """How far two masters of one session may be apart."""
        observed = [merit.observed for merit in self._merits if merit.observed is not None]
        spans = [max(o.last, o.middle) - min(o.first, o.middle) for o in observed]
        longest_us = int(max((span.total_seconds() for span in spans), default=0.0) * 1e6)
        return 2 * max(longest_us, self._off_us) + 3 * _DAY_US


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


def _not_worse(window: Sequence[int], merits: Sequence[Merit]) -> list[int]:
    """Return those of some masters than which none is clearly better, by verdict or by noise."""
    some = [merits[index] for index in window]
    ranks = [_VERDICTS.get(m.verdict or "", 0) for m in some]
    best = min(ranks)
    least: dict[tuple[str, str], float] = {}
    for m, rank in zip(some, ranks, strict=True):
        if m.noise and rank == best:
            least[m.exposure] = min(m.noise, least.get(m.exposure, math.inf))
    return [
        index
        for index, m, rank in zip(window, some, ranks, strict=True)
        if m.is_of_run or (rank == best and not (m.noise and m.noise > WORSE * least[m.exposure]))
    ]


def better_than_nearest(chosen: Merit, others: Sequence[Merit], taken_at: datetime | None, rules: TimeRules) -> str:
    """Say which master was nearer and why it was not taken; "" where the chosen one is the nearest.

    `others` are of the session of the chosen one, or within the window.
    """
    apart = chosen.distance(taken_at, rules)
    distances = [(other.distance(taken_at, rules), other) for other in others if not other.is_of_run]
    nearer = [(distance, other) for distance, other in distances if distance < apart]
    for _, other in sorted(nearer, key=lambda pair: (pair[0], pair[1].name)):
        if rules.prefer == "best" or other.is_of_session(chosen):
            ours, its = _qualities([chosen, other])
            is_worse, is_ranked = its > ours, its[1] > ours[1]
        else:
            is_worse = 1 not in _not_worse([0, 1], [chosen, other])
            is_ranked = _VERDICTS.get(other.verdict or "", 0) > _VERDICTS.get(chosen.verdict or "", 0)
        if is_worse:
            why = (
                f"its verdict is {other.verdict}"
                if is_ranked or not (other.noise and chosen.noise)
                else f"it has {other.noise / chosen.noise:.2g} times the noise"
            )
            return f"{other.name} was taken nearer in time, and {why}"
    return ""


def nearest_first(
    items: Sequence[_T], merit: Callable[[_T], Merit], taken_at: datetime | None, rules: TimeRules
) -> list[_T]:
    """Return items in the order in which they are preferred for a moment."""
    return [items[i] for i in order_in_time([merit(item) for item in items], taken_at, rules)]


def _microseconds(when: datetime) -> int:
    return (when - _EPOCH) // _MICROSECOND
