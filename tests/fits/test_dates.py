"""When an exposure began: time systems, local clocks, zones, and clocks that were never set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from astropy.time import Time
from astropy.utils import iers
from hypothesis import given
from hypothesis import strategies as st

from ostcal.fits.cards import Header, format_card
from ostcal.fits.dates import start_of
from ostcal.fits.headers import metadata_from_header
from ostcal.frames import FrameMetadata
from support.fits_samples import header_of

LOCAL = datetime(2026, 1, 10, 21, 5, 11, 250000, tzinfo=UTC)
"""What a clock shows that is two hours ahead of UTC."""
START = LOCAL - timedelta(hours=2)


def metadata(exposure_s: float = 300.0, **cards: object) -> FrameMetadata:
    header = header_of(IMAGETYP="light", EXPTIME=exposure_s, **cards)
    return metadata_from_header(header, width=6, height=4, path="frame.fits")


def text(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat()


def julian(when: datetime, less: float = 0.0) -> float:
    """Give a Julian date, or a modified one, to 0.1 s."""
    return round(2440587.5 - less + when.timestamp() / 86400, 6)


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE__UTC": text(START)},
        {"DATE__LOC": text(LOCAL), "DATE__UTC": text(START)},
        {"JD": julian(START)},
        {"JD": julian(START + timedelta(seconds=150))},  # of the middle
        {"JD": julian(START + timedelta(seconds=320))},  # when it was downloaded
        {"MJD__OBS": julian(START, 2400000.5)},
    ],
)
def test_a_local_date_is_told_by_what_other_cards_say_in_utc(cards: dict[str, object]) -> None:
    found = metadata(DATE__OBS=text(LOCAL), **cards)
    assert found.date_obs == START
    (remark,) = found.remarks
    assert remark.startswith("DATE-OBS is +2 h from ")
    assert "local clock" in remark


@pytest.mark.parametrize("zone_h", [-12.0, -9.5, -3.5, 0.5, 5.75, 12.0, 14.0])
def test_zones_of_half_and_quarter_hours_are_told(zone_h: float) -> None:
    found = metadata(DATE__OBS=text(START + timedelta(hours=zone_h)), DATE__UTC=text(START))
    assert found.date_obs == START
    assert f"{zone_h:+g} h" in found.remarks[0]


@pytest.mark.parametrize(
    "cards",
    [
        {"DATE__LOC": text(LOCAL)},  # N.I.N.A.
        {"DATE__UTC": text(START)},
        {"JD": julian(START)},
        {"JD": julian(START + timedelta(seconds=1800))},  # the middle of an hour is no zone
        {"JD": julian(START + timedelta(seconds=3600))},
        {"JD": round(julian(LOCAL), 1)},  # too coarse to say anything
        {"JD": julian(START + timedelta(minutes=37))},  # no zone
        {"JD": julian(START + timedelta(days=3))},
        {"MJD__OBS": julian(START + timedelta(seconds=20), 2400000.5)},
    ],
)
def test_a_date_in_utc_stays_what_it_is(cards: dict[str, object]) -> None:
    found = metadata(exposure_s=3600.0, DATE__OBS=text(START), **cards)
    assert (found.date_obs, found.remarks) == (START, ())


@pytest.mark.parametrize("zone", ["+02:00", "+0200", "+02", " +02:00"])
def test_an_explicit_zone_goes_before_all_other_cards(zone: str) -> None:
    found = metadata(DATE__OBS=text(LOCAL) + zone, JD=julian(LOCAL))
    assert (found.date_obs, found.remarks) == (START, ())


def test_a_zone_over_midnight_changes_the_day() -> None:
    assert metadata(DATE__OBS="2026-01-11T01:30:00+05:30").date_obs == datetime(2026, 1, 10, 20, tzinfo=UTC)


def test_older_files_of_nina_have_their_date_in_utc_alone() -> None:
    found = metadata(DATE__LOC=text(LOCAL), DATE__UTC=text(START))
    assert (found.date_obs, found.remarks) == (START, ())


@pytest.mark.parametrize("system", ["TT", "TAI", "TDB", "TT(TAI)", "tdt"])
@pytest.mark.parametrize("year", [2000, 2006, 2010, 2016, 2017, 2026])
def test_time_systems_become_utc_as_astropy_has_it(system: str, year: int) -> None:
    stated = f"{year}-01-01T00:00:35.5" if year != 2000 else "2000-03-01T00:00:35.5"
    scale = {"TT(TAI)": "tt", "tdt": "tt"}.get(system, system.lower())
    with iers.conf.set_temp("auto_download", False):
        expected = Time(stated, scale=scale).utc.to_datetime(timezone=UTC, leap_second_strict="silent")
    found = metadata(DATE__OBS=stated, TIMESYS=system)
    assert found.date_obs is not None
    assert abs((found.date_obs - expected).total_seconds()) < 0.01
    assert found.remarks == ()


def test_gps_time_is_eighteen_seconds_ahead_of_utc() -> None:
    assert metadata(DATE__OBS="2026-01-10T19:05:29", TIMESYS="GPS").date_obs == datetime(
        2026, 1, 10, 19, 5, 11, tzinfo=UTC
    )


def test_a_local_time_system_takes_the_zone_of_the_longitude() -> None:
    found = metadata(DATE__OBS=text(LOCAL), TIMESYS="LOCAL", SITELONG=25.5, SITELAT=35.0)
    assert found.date_obs == START
    assert "UTC+2 h" in found.remarks[0]


def test_a_local_time_system_takes_its_zone_from_a_card_in_utc() -> None:
    found = metadata(DATE__OBS=text(LOCAL), TIMESYS="LOCAL", DATE__UTC=text(START), SITELONG=100.0, SITELAT=35.0)
    assert found.date_obs == START


def test_a_local_time_system_of_an_unknown_zone_is_said() -> None:
    found = metadata(DATE__OBS=text(LOCAL), TIMESYS="LOCAL")
    assert found.date_obs == LOCAL
    assert "nothing says its zone: taken as UTC" in found.remarks[0]


def test_a_local_date_alone_is_local() -> None:
    found = metadata(DATE__LOC=text(LOCAL), SITELONG=-107.0, SITELAT=33.0)
    assert found.date_obs == LOCAL + timedelta(hours=7)
    assert "there is DATE-LOC alone" in found.remarks[0]


def test_a_time_system_that_is_not_known_is_said() -> None:
    found = metadata(DATE__OBS=text(START), TIMESYS="MARS")
    assert found.date_obs == START
    assert "TIMESYS is 'MARS'" in found.remarks[0]


@pytest.mark.parametrize("utc", ["UTC", "UT", "UTC(NTP)", " utc ", ""])
def test_universal_time_is_not_said(utc: str) -> None:
    assert metadata(DATE__OBS=text(START), TIMESYS=utc).remarks == ()


@pytest.mark.parametrize(
    "stated",
    ["1970-01-01T00:00:07", "1980-01-06T00:13:00", "1989-12-31T23:59:59", "2000-01-01T00:00:00", "2000-01-01T07:12:00"],
)
def test_a_clock_that_was_never_set_gives_no_date(stated: str) -> None:
    found = metadata(DATE__OBS=stated)
    assert found.date_obs is None
    (remark,) = found.remarks
    assert f"DATE-OBS is of {stated[:10]}, as of a clock that was never set" in remark


@pytest.mark.parametrize("stated", ["1990-01-01T00:00:00", "1999-12-31T23:00:00", "2000-01-02T00:00:00"])
def test_frames_of_the_years_before_and_after_keep_their_dates(stated: str) -> None:
    assert metadata(DATE__OBS=stated).date_obs is not None


@pytest.mark.parametrize("stated", ["2026-11-31T20:15:00", "2026-13-01", "31.11.2026"])
def test_a_day_that_does_not_exist_is_named(stated: str) -> None:
    found = metadata(DATE__OBS=stated)
    assert found.date_obs is None
    (remark,) = found.remarks
    assert remark == f"DATE-OBS is {stated!r}, which is no date: it counts as without one; write the true one there"


@pytest.mark.parametrize("cards", [{"DATE__OBS": ""}, {"DATE__OBS": "unknown"}, {}])
def test_no_date_at_all_is_no_wrong_date(cards: dict[str, str]) -> None:
    found = metadata(**cards)
    assert (found.date_obs, found.remarks) == (None, ())


def test_a_wrong_day_beside_a_right_one_is_not_asked_for() -> None:
    found = metadata(DATE__OBS="2026-11-31T20:15:00", MJD__OBS=61374.84375)
    assert found.date_obs == datetime(2026, 11, 30, 20, 15, tzinfo=UTC)
    assert found.remarks == ()


@given(
    date=st.one_of(st.text(max_size=30), st.datetimes().map(lambda when: when.isoformat())),
    zone=st.sampled_from(["", "Z", "+14:00", "-99", "+2", " local"]),
    system=st.one_of(st.sampled_from(["UTC", "TT", "GPS", "LOCAL", "TDB"]), st.text(max_size=8)),
    utc=st.one_of(st.none(), st.datetimes().map(lambda when: when.isoformat()), st.text(max_size=20)),
    jd=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
    longitude_deg=st.one_of(st.none(), st.floats(-180, 180)),
    exposure_s=st.one_of(st.just(0.0), st.floats(0, 1e6)),
)
def test_no_header_raises_and_times_are_of_the_years_that_may_be(
    date: str, zone: str, system: str, utc: str | None, jd: object, longitude_deg: float | None, exposure_s: float
) -> None:
    cards = [("DATE-OBS", date + zone), ("TIMESYS", system), ("DATE-UTC", utc), ("JD", jd)]
    header = Header(
        [card for name, value in cards if value is not None for card in format_card(name, _printable(value))]
    )
    start = start_of(header, exposure_s, longitude_deg)
    assert start.utc is None or 1990 <= start.utc.year <= 2201


def _printable(value: object) -> object:
    return "".join(c for c in value if 32 <= ord(c) < 127) if isinstance(value, str) else value
