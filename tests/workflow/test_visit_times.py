"""The sun against astropy, and the times at which a schedule begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, get_sun
from astropy.time import Time
from astropy.utils import iers

from ostcal.config import load_config
from ostcal.errors import ConfigError
from ostcal.sun import Site, local_noon, sun_altitude, sun_night, sun_position
from ostcal.visit_times import Calendar, no_twilight_line, noon_after, read_rule

SITES = [(-24.6, -70.4), (28.8, -17.9), (0.0, 0.0), (69.6, 18.9), (-33.9, 151.2), (89.0, 45.0), (19.8, -155.5)]


@pytest.fixture
def without_downloads() -> Iterator[None]:
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        yield


@pytest.mark.usefixtures("without_downloads")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("latitude", "longitude"), SITES)
def test_the_sun_is_where_astropy_sees_it(latitude: float, longitude: float) -> None:
    moments = [datetime(2024, 1, 3, tzinfo=UTC) + timedelta(hours=n * 61.3) for n in range(300)]
    place = EarthLocation(lat=latitude * u.deg, lon=longitude * u.deg)
    times = Time([moment.replace(tzinfo=None) for moment in moments], scale="utc")
    seen = get_sun(times).transform_to(AltAz(obstime=times, location=place))
    site = Site(latitude_deg=latitude, longitude_deg=longitude)
    ours = np.array([sun_position(site, moment) for moment in moments])
    np.testing.assert_allclose(ours[:, 0], seen.alt.deg, atol=0.02)
    turned = (ours[:, 1] - seen.az.deg + 180) % 360 - 180
    assert np.abs(turned * np.cos(seen.alt.rad)).max() < 0.02


def test_dusk_and_dawn_lie_on_either_side_of_midnight_at_the_altitude_that_was_asked_for() -> None:
    site = Site(latitude_deg=28.8, longitude_deg=-17.9)
    for day, altitude_deg in itertools.product(
        (date(2026, 3, 20), date(2026, 6, 21), date(2026, 12, 21)), (0, -6, -18)
    ):
        night = sun_night(site, day, altitude_deg)
        noon = local_noon(site, day)
        assert night.dusk is not None
        assert night.dawn is not None
        assert noon < night.dusk < noon + timedelta(hours=12) < night.dawn < noon + timedelta(days=1)
        assert sun_altitude(site, night.dusk) == pytest.approx(altitude_deg, abs=0.01)
        assert sun_altitude(site, night.dawn) == pytest.approx(altitude_deg, abs=0.01)
        assert sun_altitude(site, night.dusk + timedelta(minutes=1)) < altitude_deg
        assert sun_altitude(site, night.dawn + timedelta(minutes=1)) > altitude_deg


def test_near_the_pole_there_is_no_twilight_in_summer_and_the_first_evening_comes_in_autumn() -> None:
    site = Site(latitude_deg=78.2, longitude_deg=15.6)  # Longyearbyen
    calendar = Calendar(rules=(read_rule("dusk -6"),), site=site)
    missing = calendar.without_twilight(date(2026, 6, 21))
    line = no_twilight_line(date(2026, 6, 21), missing)
    assert line == "2026-06-21: the sun stays above -6 deg from noon to noon (from 11.6 to 35.2 deg)"
    first = calendar.next_after(datetime(2026, 6, 21, tzinfo=UTC))
    assert first is not None
    assert date(2026, 9, 1) < first.date() < date(2026, 10, 1)
    assert sun_altitude(site, first) == pytest.approx(-6, abs=0.01)
    winter = calendar.without_twilight(date(2026, 12, 21))
    assert "stays below -6 deg" in no_twilight_line(date(2026, 12, 21), winter)
    never = Calendar(rules=(read_rule("dusk 80"),), site=site)
    assert never.next_after(datetime(2026, 6, 21, tzinfo=UTC)) is None


def times(rule: str, zone: str, start: datetime, n: int) -> list[str]:
    calendar = Calendar(rules=(read_rule(rule),), zone=ZoneInfo(zone))
    found: list[str] = []
    while len(found) < n:
        following = calendar.next_after(start)
        assert following is not None
        start = following
        found.append(f"{start:%m-%d %H:%M}")
    return found


def test_times_of_the_day_and_cron_expressions_are_those_of_the_time_zone() -> None:
    start = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday
    assert times("18:30", "Europe/Berlin", start, 2) == ["11-27 17:30", "11-28 17:30"]
    assert times("18:30", "Australia/Sydney", start, 2) == ["11-28 07:30", "11-29 07:30"]
    assert times("0 2 * * 1-5", "America/Los_Angeles", start, 2) == ["11-30 10:00", "12-01 10:00"]
    assert times("*/20 23 1,15 * *", "UTC", start, 4) == ["12-01 23:00", "12-01 23:20", "12-01 23:40", "12-15 23:00"]
    assert times("0 0 13 * 5", "UTC", start, 3) == ["12-04 00:00", "12-11 00:00", "12-13 00:00"]  # either, as in cron
    assert times("0 12 29 2 *", "UTC", start, 1) == ["02-29 12:00"]
    assert times("0 6 * * 7", "UTC", start, 1) == times("0 6 * * 0", "UTC", start, 1) == ["11-29 06:00"]


def test_every_day_has_its_time_once_where_the_clocks_change() -> None:
    spring = times("2:30", "Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC), 3)  # skipped on the 29th
    assert spring == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]
    autumn = times("2:30", "Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC), 3)  # twice on the 25th
    assert autumn == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]


def test_rules_together_come_in_order_and_none_is_lost_or_doubled() -> None:
    for latitude, longitude in SITES[:5]:
        site = Site(latitude_deg=latitude, longitude_deg=longitude)
        calendar = Calendar(
            rules=tuple(map(read_rule, ("dusk 0", "dawn 0", "7:10", "19:50"))), zone=ZoneInfo("UTC"), site=site
        )
        start = datetime(2026, 3, 1, tzinfo=UTC)
        found = list(calendar.between(start, start + timedelta(days=10)))
        assert found == sorted(set(found))
        assert len(found) == 40
        assert calendar.last_before(start + timedelta(days=10), hours=24) == found[-1]
        assert [calendar.next_after(when) for when in found[:-1]] == found[1:]


@pytest.mark.parametrize(
    "text", ["25:00", "18", "dusk", "dusk -91", "* * *", "60 1 * * *", "5-1 * * * *", "*/0 * * * *"]
)
def test_what_is_no_time_is_refused_with_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"schedule\.when"):
        load_config({"schedule": {"when": text}})


def test_the_sun_needs_a_site_and_a_site_needs_both_numbers() -> None:
    assert load_config({"schedule": {"when": "dusk -6"}}).schedule.when == ("dusk -6",)
    with pytest.raises(ConfigError, match=r"site\.latitude and site\.longitude"):
        Calendar(rules=(read_rule("dusk -6"),)).next_after(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigError, match=r"site\.longitude"):
        load_config({"site": {"latitude": 28.8}})
    with pytest.raises(ConfigError, match=r"time_zone"):
        load_config({"schedule": {"time_zone": "Mars/Olympus"}})


def test_a_night_ends_at_noon() -> None:
    evening = datetime(2026, 5, 1, 20, tzinfo=UTC)
    assert noon_after(evening, 43200.0) == datetime(2026, 5, 2, 12, tzinfo=UTC)
    assert noon_after(datetime(2026, 5, 2, 12, tzinfo=UTC), 43200.0) == datetime(2026, 5, 3, 12, tzinfo=UTC)
