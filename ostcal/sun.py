"""Where the sun is at a place, when it passes an altitude, and where the twilight sky is most even.

The formula is that of low accuracy in Meeus, Astronomical Algorithms (1998), chapter 25. From 2024 to 2026 it is within
0.013 degrees of astropy, 3 s of time at the equator. astropy is not used: its import takes 0.7 s, which a schedule
that wakes once a night would pay each time, and its tables of the rotation of the Earth (IERS) are downloaded or grow
old; without them it refuses or warns. Altitudes are geometric: without refraction, and of the centre of the sun.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from ostcal.horizontal import Horizontal, sidereal_deg, to_horizontal

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_TT_LESS_UTC_S = 69.2
"""Of the years around 2025; a minute more or less moves the sun by 0.0007 degrees."""
_SAMPLE_S = 600.0
"""Interval at which crossings are looked for before they are refined."""
_ENOUGH_S = 0.5
NULL_POINT_ALTITUDE_DEG = 75.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place on the Earth."""

    latitude_deg: float
    """Positive north."""
    longitude_deg: float
    """Positive east."""


@dataclass(frozen=True, kw_only=True)
class SunNight:
    """The sun from one local noon to the next."""

    dusk: datetime | None
    """When it sinks below the altitude; ``None`` where it does not."""
    dawn: datetime | None
    """When it rises above it again."""
    lowest_deg: float
    highest_deg: float


def sun_position(site: Site, when: datetime) -> tuple[float, float]:
    """Return altitude and azimuth of the sun in degrees; the azimuth is counted from north through east."""
    utc_days = (when - _J2000).total_seconds() / 86400
    t = (utc_days + _TT_LESS_UTC_S / 86400) / 36525
    anomaly = math.radians(357.52911 + 35999.05029 * t - 0.0001537 * t * t)
    centre = (1.914602 - 0.004817 * t) * math.sin(anomaly) + (0.019993 - 0.000101 * t) * math.sin(2 * anomaly)
    centre += 0.000289 * math.sin(3 * anomaly)
    node = math.radians(125.04 - 1934.136 * t)
    longitude = math.radians(280.46646 + 36000.76983 * t + centre - 0.00569 - 0.00478 * math.sin(node))
    obliquity = math.radians(23.439291 - 0.0130042 * t + 0.00256 * math.cos(node))
    ascension = math.atan2(math.cos(obliquity) * math.sin(longitude), math.cos(longitude))
    declination = math.asin(math.sin(obliquity) * math.sin(longitude))
    hour_angle_deg = sidereal_deg(site.longitude_deg, when) - math.degrees(ascension)
    sun = to_horizontal(site.latitude_deg, hour_angle_deg, math.degrees(declination))
    return sun.altitude_deg, sun.azimuth_deg


def null_point(site: Site, when: datetime) -> Horizontal:
    """Return where the gradient of the twilight sky is least: opposite the sun, 15 degrees from the zenith.

    Chromey and Hasselbacher (1996, PASP 108, 944) found gradients of up to several percent per degree, except near a
    null point close to the zenith.
    """
    return Horizontal(altitude_deg=NULL_POINT_ALTITUDE_DEG, azimuth_deg=(sun_position(site, when)[1] + 180) % 360)


def sun_altitude(site: Site, when: datetime) -> float:
    """Return the altitude of the sun in degrees."""
    return sun_position(site, when)[0]


def local_noon(site: Site, day: date) -> datetime:
    """Return the mean local noon of a day at the place."""
    noon = datetime.combine(day, time(12), UTC)
    east_deg = (site.longitude_deg + 180) % 360 - 180
    return noon - timedelta(days=east_deg / 360)


@functools.lru_cache(maxsize=256)
def sun_night(site: Site, night: date, altitude_deg: float) -> SunNight:
    """Return when the sun passes an altitude between the local noon of a day and the next."""
    noon = local_noon(site, night)
    times = [noon + timedelta(seconds=_SAMPLE_S * n) for n in range(int(86400 / _SAMPLE_S) + 1)]
    heights = [sun_altitude(site, when) for when in times]
    dusk = dawn = None
    for number in range(1, len(times)):
        was_above, is_above = (heights[n] > altitude_deg for n in (number - 1, number))
        if was_above and not is_above and dusk is None:
            dusk = _crossing(site, times[number - 1], times[number], altitude_deg)
        elif is_above and not was_above:
            dawn = _crossing(site, times[number - 1], times[number], altitude_deg)
    return SunNight(dusk=dusk, dawn=dawn, lowest_deg=min(heights), highest_deg=max(heights))


def _crossing(site: Site, start: datetime, stop: datetime, altitude_deg: float) -> datetime:
    starts_above = sun_altitude(site, start) > altitude_deg
    while (stop - start).total_seconds() > _ENOUGH_S:
        middle = start + (stop - start) / 2
        if (sun_altitude(site, middle) > altitude_deg) == starts_above:
            start = middle
        else:
            stop = middle
    return stop
