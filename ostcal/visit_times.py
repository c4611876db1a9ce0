"""The times at which a schedule begins its work: of the day, cron expressions, or by the altitude of the sun.

``18:30`` is every day; ``30 18 * * 1-5`` are five fields of cron (minute, hour, day of the month, month, day of the
week with 0 and 7 for Sunday); ``dusk -6`` is when the sun sinks to -6 degrees in the evening, ``dawn -12`` when it
rises to -12 in the morning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from ostcal.errors import ConfigError
from ostcal.sun import Site, SunNight, sun_night

LONGEST_SEARCH_DAYS = 366 * 4 + 1
"""How far a time is looked for: 29 February comes every four years, as a rule."""

_SUN = re.compile(r"(dusk|dawn)\s+([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_CRON_PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


@dataclass(frozen=True, kw_only=True)
class SunTime:
    """When the sun passes an altitude."""

    is_evening: bool
    altitude_deg: float


@dataclass(frozen=True, kw_only=True)
class CronTime:
    """Minutes of days, by the calendar."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    is_either_day: bool = False
    """Whether a day counts that fits one of `days` and `weekdays`: so cron does where both are restricted."""

    def fits(self, day: date) -> bool:
        """Return whether a day is one of them."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.is_either_day else by_month and by_week


Rule = SunTime | CronTime


def read_rule(text: str) -> Rule:
    """Read a time.

    Raises
    ------
    ValueError
        With what is wrong, in words.
    """
    text = text.strip()
    if match := _SUN.fullmatch(text):
        altitude_deg = float(match[2])
        if not -90 <= altitude_deg <= 90:
            raise ValueError(f"{text}: an altitude of the sun is from -90 to 90 degrees")
        return SunTime(is_evening=match[1].lower() == "dusk", altitude_deg=altitude_deg)
    if match := _TIME_OF_DAY.fullmatch(text):
        text = f"{int(match[2])} {int(match[1])} * * *"
    fields = text.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError(f'{text}: write a time such as 18:30, "dusk -6", "dawn -12", or five fields as cron has them')
    values = [_cron_field(field, *limits) for field, limits in zip(fields, _CRON_FIELDS, strict=True)]
    return CronTime(
        minutes=values[0],
        hours=values[1],
        days=values[2],
        months=values[3],
        weekdays=frozenset(day % 7 for day in values[4]),
        is_either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )


def _cron_field(text: str, word: str, lowest: int, highest: int) -> frozenset[int]:
    chosen: set[int] = set()
    for part in text.split(","):
        match = _CRON_PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no {word}: write *, a number, a range such as 1-5, or a step such as */15")
        step = int(match[3] or 1)
        first = lowest if match[1] is None else int(match[1])
        last = highest if match[1] is None or (match[2] is None and match[3]) else int(match[2] or first)
        if not lowest <= first <= last <= highest or step < 1:
            raise ValueError(f"{part!r} is no {word}: it is from {lowest} to {highest}")
        chosen |= set(range(first, last + 1, step))
    return frozenset(chosen)


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Rules, and where and in which time zone they hold."""

    rules: tuple[Rule, ...]
    zone: tzinfo | None = None
    """Of `CronTime`; ``None`` is the time zone of this computer."""
    site: Site | None = None

    def of_day(self, day: date) -> tuple[datetime, ...]:
        """Return the times of one day in UTC, in order: of the calendar, and of the night that begins at its noon."""
        found: set[datetime] = set()
        for rule in self.rules:
            if isinstance(rule, SunTime):
                night = sun_night(self._site(), day, rule.altitude_deg)
                when = night.dusk if rule.is_evening else night.dawn
                found |= {when} if when is not None else set()
            elif rule.fits(day):
                times = (datetime(day.year, day.month, day.day, h, m) for h in rule.hours for m in rule.minutes)
                # A time that the clocks skip in spring is that of the hour before; one that comes twice is the first.
                found |= {time.replace(tzinfo=self.zone).astimezone(UTC) for time in times}
        return tuple(sorted(when.replace(microsecond=0) for when in found))

    def between(self, start: datetime, stop: datetime) -> Iterator[datetime]:
        """Yield the times after `start` up to `stop`, in order."""
        day, last = (start - timedelta(days=2)).date(), (stop + timedelta(days=1)).date()
        waiting = set[datetime]()
        while day <= last:
            waiting |= set(self.of_day(day))
            # No later day has a time before this one: time zones are at most 14 hours ahead.
            settled = datetime(day.year, day.month, day.day, 10, tzinfo=UTC) if day < last else stop
            ready = sorted(when for when in waiting if when <= settled)
            waiting -= set(ready)
            yield from (when for when in ready if start < when <= stop)
            day += timedelta(days=1)

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, or ``None`` if there is none within four years."""
        return next(self.between(moment, moment + timedelta(days=LONGEST_SEARCH_DAYS)), None)

    def last_before(self, moment: datetime, hours: float) -> datetime | None:
        """Return the last time within some hours up to a moment."""
        return max(self.between(moment - timedelta(hours=hours), moment), default=None)

    def without_twilight(self, day: date) -> tuple[tuple[SunTime, SunNight], ...]:
        """Return the rules by the sun that do not happen in the night of a day, and how low and high the sun is."""
        found = []
        for rule in self.rules:
            if isinstance(rule, SunTime):
                night = sun_night(self._site(), day, rule.altitude_deg)
                if (night.dusk if rule.is_evening else night.dawn) is None:
                    found.append((rule, night))
        return tuple(found)

    def _site(self) -> Site:
        if self.site is None:
            raise ConfigError(
                "schedule.when goes by the sun, and the site is not known; set site.latitude and site.longitude,"
                " or write times such as 18:30"
            )
        return self.site


def no_twilight_line(day: date, missing: Sequence[tuple[SunTime, SunNight]]) -> str:
    """Say that the sun does not pass an altitude in a night."""
    rule, night = missing[0]
    word = "above" if night.lowest_deg > rule.altitude_deg else "below"
    return (
        f"{day}: the sun stays {word} {rule.altitude_deg:g} deg from noon to noon"
        f" (from {night.lowest_deg:.1f} to {night.highest_deg:.1f} deg)"
    )


def noon_after(moment: datetime, noon_utc_s: float) -> datetime:
    """Return the noon that ends the night of a moment; `noon_utc_s` is local noon, in seconds after 0:00 UTC."""
    noon = datetime(moment.year, moment.month, moment.day, tzinfo=UTC) + timedelta(seconds=noon_utc_s)
    return noon if noon > moment else noon + timedelta(days=1)
