"""When an exposure began, in UTC: dates and times of day, time systems, clocks of other zones, clocks never set.

A date without a zone is UTC, as the FITS standard has it, unless another card of the header shows that it is local.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ostcal.fits import dialects
from ostcal.fits.cards import Header

_ISO_DATE = re.compile(r"(\d{4})[-/.]?(\d{1,2})[-/.]?(\d{1,2})(?:[T _]+(\S.*))?")
_OLD_DATE = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{2}|\d{4})(?:[T _]+(\S.*))?")
_TIME = re.compile(
    r"(\d{1,2})[:h ]\s*(\d{1,2})(?:[:m ]\s*(\d{1,2}(?:[.,]\d*)?)s?)?\s*(AM|PM)?\s*"
    r"(?P<zone>Z|UTC?|GMT|(?P<sign>[+-])(?P<hours>\d{2})(?::?(?P<minutes>\d{2}))?)?",
    re.IGNORECASE,
)
_COMPACT_TIME = re.compile(r"(\d{2})(\d{2})(\d{2}(?:\.\d*)?)")
_DATE_BEFORE_TIME = re.compile(r".*T(?=\d)")
_CENTURY_PIVOT = 70
"""Years 70 to 99 of the old dd/mm/yy are of the twentieth century; programs went on writing it after 1999."""
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_JD_OF_MJD_EPOCH = 2400000.5
_LEAST_DECIMALS = 4
"""Of a Julian date that is compared with a time of day: 9 s."""

_SAME_CLOCK_S = 60.0
"""Cards of one clock may differ by this: programs write one of them when the frame is downloaded."""
_ZONE_STEP_S = 900.0
"""Zones differ from UTC by quarter hours."""
_LEAST_ZONE_S = 1800.0
_FARTHEST_ZONE_S = 14 * 3600.0

FIRST_DIGITAL = datetime(1990, 1, 1, tzinfo=UTC)
"""Earlier dates are those at which clocks start that were never set: 1970 of Unix, 1980 of GPS and of memory cards."""
RESET_DAYS = frozenset([date(2000, 1, 1)])
"""At which cameras and mounts begin whose battery is empty."""

_TAI_LESS_UTC = (
    (datetime(1999, 1, 1, tzinfo=UTC), 32),
    (datetime(2006, 1, 1, tzinfo=UTC), 33),
    (datetime(2009, 1, 1, tzinfo=UTC), 34),
    (datetime(2012, 7, 1, tzinfo=UTC), 35),
    (datetime(2015, 7, 1, tzinfo=UTC), 36),
    (datetime(2017, 1, 1, tzinfo=UTC), 37),
)
"""Seconds from a date on (IERS Bulletin C). astropy has them too, but its import takes half a second, and it looks for
newer tables in the network; until 1998 the first one is up to 22 s wrong."""
_SYSTEM_LESS_TAI_S = {
    **dict.fromkeys(("TAI", "IAT"), 0.0),
    "GPS": -19.0,
    **dict.fromkeys(("TT", "TDT", "ET", "TDB"), 32.184),
}
_UTC_SYSTEMS = frozenset(["", "UTC", "UT", "UT1", "GMT", "Z", "ZULU"])
_LOCAL_SYSTEMS = frozenset(["LOCAL", "LT", "LOCALTIME"])


@dataclass(frozen=True, kw_only=True)
class Start:
    """When an exposure began."""

    utc: datetime | None
    remark: str = ""
    """What users should know of how it was read; the same for all frames of a clock."""


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """A date and a time of day as a card has them."""

    keyword: str
    when: datetime
    has_zone: bool = False


def start_of(header: Header, exposure_s: float = 0.0, longitude_deg: float | None = None) -> Start:
    """Return the start of the exposure in UTC; a date without any time is the last resort."""
    start = _stated_start(header, exposure_s, longitude_deg)
    if start.utc is None:
        return Start(utc=None, remark=_why_no_date(header))
    reason = why_never_set(start.utc)
    return Start(utc=None, remark=reason) if reason else start


def _why_no_date(header: Header) -> str:
    """Say which card should hold the date and does not; "" where there is none, or it is empty."""
    for keyword in header.present(dialects.DATE):
        text = (header.text(keyword) or "").strip()
        if any(map(str.isdigit, text)):
            return f"{keyword} is {text!r}, which is no date: it counts as without one; write the true one there"
    return ""


def why_never_set(when: datetime | None) -> str:
    """Say that a time is that of a clock that was not set; "" where it may be true."""
    if when is None or (when >= FIRST_DIGITAL and when.date() not in RESET_DAYS):
        return ""
    return (
        f"DATE-OBS is of {when:%Y-%m-%d}, as of a clock that was never set: it counts as without a date; "
        "write the true one into the header, and set the clock"
    )


def _stated_start(header: Header, exposure_s: float, longitude_deg: float | None) -> Start:
    andor = [dialects.ANDOR_DATE] if dialects.ANDOR in header else []
    clock, day = _clock_of(header, (*dialects.DATE, *andor))
    system = _time_system(header)
    if clock is None and (local := _clock_of(header, dialects.LOCAL_DATE)[0]) is not None:
        utc = next(_universal(header, exposure_s), None)
        return Start(utc=utc.when) if utc is not None else _local(local, header, exposure_s, longitude_deg)
    if clock is None:
        mjd = _mjd(header)
        return Start(utc=day if mjd is None else _MJD_EPOCH + timedelta(days=mjd))
    if clock.has_zone or clock.keyword in dialects.UTC_DATE:
        return Start(utc=clock.when)
    if system in _SYSTEM_LESS_TAI_S:
        return Start(utc=_to_utc(clock.when, _SYSTEM_LESS_TAI_S[system]))
    if system in _LOCAL_SYSTEMS:
        return _local(clock, header, exposure_s, longitude_deg)
    if (found := _zone_of(clock, list(_universal(header, exposure_s)))) is not None:
        zone_s, keyword = found
        remark = f"{clock.keyword} is {_hours(zone_s)} from {keyword}, which is UTC: taken as the time of a local clock"
        return Start(utc=clock.when - timedelta(seconds=zone_s), remark=remark)
    remark = (
        "" if system in _UTC_SYSTEMS else f"TIMESYS is {header.text('TIMESYS')!r}, which is not known: taken as UTC"
    )
    return Start(utc=clock.when, remark=remark)


def _time_system(header: Header) -> str:
    """Return the word of TIMESYS without what stands in brackets: ``TT(TAI)`` is TT."""
    return (header.text("TIMESYS") or "").split("(")[0].replace(" ", "").upper()


def _clock_of(header: Header, dates: Sequence[str]) -> tuple[_Clock | None, datetime | None]:
    """Return the first date with a time of day, and the first day."""
    day: datetime | None = None
    for keyword in header.present(dates):
        at_midnight, time_text = _split_date(header.text(keyword) or "")
        if at_midnight is None:
            continue
        others = [] if time_text else header.present(dialects.TIME_OF_DAY)
        times = [(keyword, time_text)] if time_text else [(other, header.text(other) or "") for other in others]
        for source, text in times:
            if (found := _since_midnight(text)) is not None:
                since, has_zone = found
                is_universal = has_zone or source.startswith("UT")
                return _Clock(keyword=keyword, when=at_midnight + since, has_zone=is_universal), day
        day = day or at_midnight
    return None, day


# ---- clocks of other zones ----


def _local(clock: _Clock, header: Header, exposure_s: float, longitude_deg: float | None) -> Start:
    """Return the start by a clock that is known to be local."""
    system = f"TIMESYS is {header.text('TIMESYS')}" if _time_system(header) else f"there is {clock.keyword} alone"
    if clock.has_zone:
        return Start(utc=clock.when)
    for utc in _universal(header, exposure_s):
        apart_s = (clock.when - utc.when).total_seconds()
        if abs(apart_s) <= _SAME_CLOCK_S or _whole_zone_s(apart_s) is not None:
            return Start(utc=clock.when - timedelta(seconds=_whole_zone_s(apart_s) or 0.0))
    if longitude_deg is not None:
        zone_h = round(longitude_deg / 15)
        remark = f"{system}: taken as the time of the zone of its longitude, UTC{zone_h:+d} h"
        return Start(utc=clock.when - timedelta(hours=zone_h), remark=remark)
    return Start(utc=clock.when, remark=f"{system}, and nothing says its zone: taken as UTC; write DATE-OBS in UTC")


def _zone_of(clock: _Clock, universal: Sequence[_Clock]) -> tuple[float, str] | None:
    """Return how far a clock is from UTC in seconds, and by which card; ``None`` where it is UTC or nothing says so."""
    aparts_s = [((clock.when - utc.when).total_seconds(), utc.keyword) for utc in universal]
    if any(abs(apart_s) <= _SAME_CLOCK_S for apart_s, _ in aparts_s):
        return None
    zones = ((_whole_zone_s(apart_s), keyword) for apart_s, keyword in aparts_s)
    return next(((zone_s, keyword) for zone_s, keyword in zones if zone_s is not None), None)


def _whole_zone_s(apart_s: float) -> float | None:
    """Return the zone that a difference is, to the quarter hour; ``None`` where it is none."""
    zone_s = round(apart_s / _ZONE_STEP_S) * _ZONE_STEP_S
    is_zone = _LEAST_ZONE_S <= abs(zone_s) <= _FARTHEST_ZONE_S and abs(apart_s - zone_s) <= _SAME_CLOCK_S
    return zone_s if is_zone else None


def _universal(header: Header, exposure_s: float) -> Iterator[_Clock]:
    """Yield what other cards say in UTC: a date, and Julian dates, which may be of the middle or the end."""
    clock, _ = _clock_of(header, dialects.UTC_DATE)
    if clock is not None:
        yield clock
        return
    for number, epoch in ((dialects.JD, _JD_OF_MJD_EPOCH), (dialects.MJD, 0.0)):
        for keyword in header.present(number.keywords):
            days = number.of(header)
            if days is not None and len((header.text(keyword) or "").rpartition(".")[2]) >= _LEAST_DECIMALS:
                start = _MJD_EPOCH + timedelta(days=days - epoch)
                for share in (0.0, 0.5, 1.0):
                    yield _Clock(keyword=keyword, when=start - timedelta(seconds=share * exposure_s))
                break


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:+g} h"


# ---- time systems ----


def _to_utc(when: datetime, less_tai_s: float) -> datetime:
    """Return a time of a system that is `less_tai_s` ahead of TAI in UTC."""
    tai = when - timedelta(seconds=less_tai_s)
    starts = [start + timedelta(seconds=leap_s) for start, leap_s in _TAI_LESS_UTC]
    return tai - timedelta(seconds=_TAI_LESS_UTC[max(0, bisect_right(starts, tai) - 1)][1])


def _mjd(header: Header) -> float | None:
    mjd = dialects.MJD.of(header)
    if mjd is None and (jd := dialects.JD.of(header)) is not None:
        mjd = jd - _JD_OF_MJD_EPOCH
    return mjd


# ---- texts ----


def _split_date(text: str) -> tuple[datetime | None, str | None]:
    """Read the day at the start of a text; returns the day at midnight and the rest."""
    if match := _ISO_DATE.fullmatch(text):
        year, month, day = int(match[1]), int(match[2]), int(match[3])
    elif match := _OLD_DATE.fullmatch(text):
        day, month, year = int(match[1]), int(match[2]), int(match[3])
        if (match[4] or "").upper().endswith(("AM", "PM")):  # of the United States, the month first
            day, month = month, day
        if year < 100:
            year += 1900 if year >= _CENTURY_PIVOT else 2000
    else:
        return None, None
    try:
        at_midnight = datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None, None
    return (at_midnight, match[4]) if 1800 <= year <= 2200 else (None, None)


def _since_midnight(text: str) -> tuple[timedelta, bool] | None:
    """Read ``hh:mm:ss.sss`` in UTC, with a date before it or not (a leap second is 60 s); and whether it has a zone."""
    time = _DATE_BEFORE_TIME.sub("", text).strip() if "T" in text else text.strip()
    if compact := _COMPACT_TIME.fullmatch(time):
        time = ":".join(compact.groups())
    match = _TIME.fullmatch(time)
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), float((match[3] or "0").replace(",", "."))
    if match[4]:
        hours = hours % 12 + (12 if match[4].upper() == "PM" else 0)
    if hours > 24 or minutes > 59 or seconds >= 61:
        return None
    time_of_day = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if match["sign"]:
        zone = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"] or 0))
        time_of_day += -zone if match["sign"] == "+" else zone
    return time_of_day, match["zone"] is not None
