"""Directions by altitude and azimuth, and from and to hour angle and declination; all in degrees, without refraction.

Azimuths are counted from north through east. The sidereal time is the mean one: nutation (0.005 degrees) is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_ARCSEC = 3600.0


@dataclass(frozen=True, kw_only=True)
class Horizontal:
    """A direction as it is seen from a place."""

    altitude_deg: float
    azimuth_deg: float
    """0 to 360, from north through east."""


def sidereal_deg(longitude_deg: float, when: datetime) -> float:
    """Return the mean sidereal time of a longitude, positive east."""
    days = (when - _J2000).total_seconds() / 86400
    return (280.46061837 + 360.98564736629 * days + longitude_deg) % 360


def to_horizontal(latitude_deg: float, hour_angle_deg: float, declination_deg: float) -> Horizontal:
    """Return the direction of an hour angle and a declination."""
    latitude, hour_angle, declination = map(math.radians, (latitude_deg, hour_angle_deg, declination_deg))
    up = math.sin(latitude) * math.sin(declination)
    up += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    east = -math.cos(declination) * math.sin(hour_angle)
    north = math.sin(declination) * math.cos(latitude)
    north -= math.cos(declination) * math.cos(hour_angle) * math.sin(latitude)
    return Horizontal(
        altitude_deg=math.degrees(math.atan2(up, math.hypot(east, north))),
        azimuth_deg=math.degrees(math.atan2(east, north)) % 360,
    )


def to_equatorial(latitude_deg: float, direction: Horizontal) -> tuple[float, float]:
    """Return the hour angle, -180 to 180 with west positive, and the declination of a direction."""
    # The zenith is for the pole what the pole is for the zenith: the same formula turns both ways.
    turned = to_horizontal(latitude_deg, direction.azimuth_deg, direction.altitude_deg)
    hour_angle_deg = (turned.azimuth_deg + 180) % 360 - 180
    return hour_angle_deg, turned.altitude_deg


def separation_deg(a: Horizontal, b: Horizontal) -> float:
    """Return the angle between two directions."""
    x, y = _vector(a), _vector(b)
    cross = math.hypot(
        x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]
    )  # fmt: skip
    return math.degrees(math.atan2(cross, sum(p * q for p, q in zip(x, y, strict=True))))


def bearing_deg(start: Horizontal, goal: Horizontal) -> float:
    """Return the way from one direction to another as `moved` has it: 0 is up, 90 to growing azimuths."""
    start_alt, goal_alt = math.radians(start.altitude_deg), math.radians(goal.altitude_deg)
    turn = math.radians(goal.azimuth_deg - start.azimuth_deg)
    side = math.cos(goal_alt) * math.sin(turn)
    up = math.cos(start_alt) * math.sin(goal_alt) - math.sin(start_alt) * math.cos(goal_alt) * math.cos(turn)
    return math.degrees(math.atan2(side, up)) % 360


def moved(direction: Horizontal, distance_deg: float, bearing_deg: float) -> Horizontal:
    """Return the direction at a distance; a bearing of 0 is up, of 90 to growing azimuths."""
    altitude, distance, bearing = map(math.radians, (direction.altitude_deg, distance_deg, bearing_deg))
    up = math.sin(altitude) * math.cos(distance) + math.cos(altitude) * math.sin(distance) * math.cos(bearing)
    side = math.sin(distance) * math.sin(bearing)
    ahead = math.cos(altitude) * math.cos(distance) - math.sin(altitude) * math.sin(distance) * math.cos(bearing)
    return Horizontal(
        altitude_deg=math.degrees(math.atan2(up, math.hypot(side, ahead))),
        azimuth_deg=(direction.azimuth_deg + math.degrees(math.atan2(side, ahead))) % 360,
    )


def precessed(ascension_deg: float, declination_deg: float, from_year: float, to_year: float) -> tuple[float, float]:
    """Return right ascension and declination of another equinox (Meeus, Astronomical Algorithms, chapter 21)."""
    t0, t = (from_year - 2000) / 100, (to_year - from_year) / 100
    linear = 2306.2181 + 1.39656 * t0
    zeta = math.radians((linear * t + 0.30188 * t**2 + 0.017998 * t**3) / _ARCSEC)
    z = math.radians((linear * t + 1.09468 * t**2 + 0.018203 * t**3) / _ARCSEC)
    theta = math.radians(((2004.3109 - 0.85330 * t0) * t - 0.42665 * t**2 - 0.041833 * t**3) / _ARCSEC)
    ascension, declination = math.radians(ascension_deg), math.radians(declination_deg)
    a = math.cos(declination) * math.sin(ascension + zeta)
    b = math.cos(theta) * math.cos(declination) * math.cos(ascension + zeta) - math.sin(theta) * math.sin(declination)
    c = math.sin(theta) * math.cos(declination) * math.cos(ascension + zeta) + math.cos(theta) * math.sin(declination)
    return math.degrees(math.atan2(a, b) + z) % 360, math.degrees(math.atan2(c, math.hypot(a, b)))


def julian_year(when: datetime) -> float:
    """Return a time as a year with a fraction."""
    return 2000 + (when - _J2000).total_seconds() / 86400 / 365.25


def direction_text(direction: Horizontal) -> str:
    """Write a direction for users: ``altitude 75.0, azimuth 61.2``."""
    return f"altitude {direction.altitude_deg:.1f}, azimuth {direction.azimuth_deg % 360:.1f}"


def _vector(direction: Horizontal) -> tuple[float, float, float]:
    altitude, azimuth = math.radians(direction.altitude_deg), math.radians(direction.azimuth_deg)
    level = math.cos(altitude)
    return level * math.sin(azimuth), level * math.cos(azimuth), math.sin(altitude)
