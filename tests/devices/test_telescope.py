"""A mount over Alpaca: directions are right by astropy, waits end, and what is refused is one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import astropy.units as u
import pytest
from astropy.coordinates import FK5, AltAz, EarthLocation, SkyCoord, get_sun
from astropy.time import Time
from astropy.utils import iers

from ostcal.clock import Clock, FastClock, SystemClock
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.failures import DeviceUnreachableError, NotNowError, RefusedError, ReplyError
from ostcal.devices.telescope import AlpacaTelescope
from ostcal.errors import DeviceError
from ostcal.horizontal import Horizontal, moved, separation_deg, to_equatorial, to_horizontal
from ostcal.simulator.options import MountKind, SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.simulator.telescope import J2000, PARK, SimulatedTelescope
from ostcal.sun import Site, null_point
from support.odd_servers import Answer, OddDevice, OddServer, Request
from support.simulator_client import SMALL, AlpacaError, Client

GREENWICH = Site(latitude_deg=51.5, longitude_deg=0.0)
GOAL = Horizontal(altitude_deg=75.0, azimuth_deg=61.0)


def at(altitude_deg: float, azimuth_deg: float) -> Horizontal:
    return Horizontal(altitude_deg=altitude_deg, azimuth_deg=azimuth_deg)


@pytest.fixture(autouse=True)
def _without_downloads() -> Iterator[None]:
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        yield


class Mount:
    """A simulated mount, the clock that it shares with its client, and the client."""

    def __init__(self, observatory: SimulatedObservatory) -> None:
        self.observatory = observatory
        self.truth: SimulatedTelescope = observatory.telescope
        self.clock: Clock = FastClock(observatory.options.time_scale)

    def connect(self, site: Site | None = GREENWICH, slew_s: float = 300.0) -> AlpacaTelescope:
        timeouts = Timeouts(moving_s=slew_s)
        return AlpacaTelescope("127.0.0.1", self.observatory.port, site=site, timeouts=timeouts, clock=self.clock)


@pytest.fixture
def mount_with() -> Iterator[Callable[..., Mount]]:
    running: list[SimulatedObservatory] = []

    def start(kind: MountKind = MountKind.ANY, *faults: str, time_scale: float = 200.0) -> Mount:
        options = SimulatorOptions(sensor=SMALL, time_scale=time_scale, mount=kind, faults=faults)
        running.append(SimulatedObservatory(options))
        running[-1].start()
        return Mount(running[-1])

    yield start
    for one in running:
        one.stop()


# ---- directions ----


@pytest.mark.parametrize("latitude_deg", [-70.0, -23.4, 0.0, 28.8, 51.5, 89.0])
@pytest.mark.parametrize("when", ["2026-03-20 18:40", "2026-06-21 03:10", "2026-11-01 17:05"])
def test_the_null_point_is_opposite_the_sun_of_astropy_at_75_degrees(latitude_deg: float, when: str) -> None:
    time = Time(when, scale="utc")
    place = EarthLocation(lat=latitude_deg * u.deg, lon=-17.9 * u.deg)
    sun = get_sun(time).transform_to(AltAz(obstime=time, location=place))
    opposite = at(75.0, (float(sun.az.deg) + 180) % 360)
    site = Site(latitude_deg=latitude_deg, longitude_deg=-17.9)
    found = null_point(site, time.to_datetime(timezone=UTC))
    assert found.altitude_deg == 75.0
    # An azimuth near the zenith of the sun is steep: the error of the sun, 0.013 degrees, grows with it.
    assert separation_deg(found, opposite) < 0.03


@pytest.mark.parametrize("azimuth_deg", range(0, 360, 40))
@pytest.mark.parametrize("altitude_deg", [1.0, 40.0, 75.0, 89.9])
@pytest.mark.parametrize("latitude_deg", [-89.0, -30.0, 0.0, 51.5])
def test_hour_angle_and_declination_give_the_direction_back(
    latitude_deg: float, altitude_deg: float, azimuth_deg: float
) -> None:
    direction = at(altitude_deg, azimuth_deg)
    assert separation_deg(to_horizontal(latitude_deg, *to_equatorial(latitude_deg, direction)), direction) < 1e-9


@pytest.mark.parametrize("bearing_deg", range(0, 360, 30))
@pytest.mark.parametrize("altitude_deg", [0.0, 75.0, 89.5, 90.0])
def test_a_moved_direction_is_as_far_as_told_and_where_astropy_has_it(altitude_deg: float, bearing_deg: float) -> None:
    start = at(altitude_deg, 350.0)
    found = moved(start, 1.5, bearing_deg)
    assert separation_deg(found, start) == pytest.approx(1.5)
    truth = SkyCoord(350 * u.deg, altitude_deg * u.deg).directional_offset_by(bearing_deg * u.deg, 1.5 * u.deg)
    if altitude_deg < 90:  # all bearings lead down from the zenith
        assert separation_deg(found, at(float(truth.dec.deg), float(truth.ra.deg))) < 1e-6


# ---- slews ----


def test_a_slew_takes_its_time_and_ends_where_it_was_told(mount_with: Callable[..., Mount]) -> None:
    mount = mount_with()
    with mount.connect() as telescope:
        began_s = mount.clock.now_s()
        telescope.slew_to(GOAL)
        assert mount.clock.now_s() - began_s > 61.0 / 3.0  # 3 degrees per second
        assert separation_deg(telescope.direction(), GOAL) < 1e-6
        assert not telescope.is_tracking()


@pytest.mark.parametrize("is_j2000", [False, True])
@pytest.mark.parametrize("goal", [GOAL, at(30.0, 200.0), at(75.0, 241.0)])
def test_a_mount_without_alt_az_slews_by_coordinates_and_is_right_by_astropy(
    mount_with: Callable[..., Mount], goal: Horizontal, is_j2000: bool
) -> None:
    mount = mount_with(MountKind.EQUATORIAL)
    if is_j2000:
        mount.truth.equatorial_system = J2000
    with mount.connect() as telescope:
        telescope.slew_to(goal)
        with Client(mount.observatory.url, "telescope") as raw:
            hours, declination_deg = raw.get("rightascension"), raw.get("declination")
        now = Time(mount.truth.utc(), scale="utc")
    equinox = Time("J2000") if is_j2000 else now
    place = EarthLocation(lat=GREENWICH.latitude_deg * u.deg, lon=GREENWICH.longitude_deg * u.deg)
    of_date = SkyCoord(15 * hours * u.deg, declination_deg * u.deg, frame=FK5(equinox=equinox)).transform_to(
        FK5(equinox=now)
    )
    hour_angle_deg = float((now.sidereal_time("mean", longitude=place.lon).deg - of_date.ra.deg) % 360)
    zenith = SkyCoord(0 * u.deg, place.lat)
    star = SkyCoord(hour_angle_deg * u.deg, of_date.dec)
    # Hour angles grow to the west, so the azimuth is counted the other way round.
    found = at(90 - float(zenith.separation(star).deg), -float(zenith.position_angle(star).deg) % 360)
    assert separation_deg(found, goal) < 0.05


def test_the_sky_turns_while_an_equatorial_mount_slews_and_it_arrives_all_the_same(
    mount_with: Callable[..., Mount],
) -> None:
    mount = mount_with(MountKind.EQUATORIAL)
    start, began_s = datetime.now(UTC), mount.clock.now_s()

    def utc() -> datetime:
        return start + timedelta(seconds=mount.clock.now_s() - began_s)

    class Sky(FastClock):
        def utc(self) -> datetime:
            return utc()

    sky = Sky(200.0)
    mount.truth.utc, mount.clock = utc, sky
    with mount.connect() as telescope:
        telescope.slew_to(at(75.0, 181.0))  # a minute away: the sky turns by 0.25 degrees meanwhile
        telescope.track(False)
        assert separation_deg(mount.truth.direction(), at(75.0, 181.0)) < 0.05
    assert len(mount.truth.journeys) > 1


def test_a_parked_mount_refuses_until_it_is_unparked(mount_with: Callable[..., Mount]) -> None:
    mount = mount_with()
    with mount.connect() as telescope:
        telescope.park()
        assert telescope.is_parked()
        assert separation_deg(telescope.direction(), PARK) < 1e-6
        with pytest.raises(RefusedError, match="0x408, parked") as refused:
            telescope.slew_to(GOAL)
        assert refused.value.number == 0x408
        assert "\n" not in str(refused.value)
        telescope.unpark()
        telescope.slew_to(GOAL)


def test_the_standard_is_kept(mount_with: Callable[..., Mount]) -> None:
    mount = mount_with()
    with Client(mount.observatory.url, "telescope").connect() as raw:
        with pytest.raises(AlpacaError) as still:
            raw.put("slewtocoordinatesasync", RightAscension=3, Declination=60)
        assert still.value.number == 0x40B  # tracking is off
        raw.put("tracking", Tracking=True)
        with pytest.raises(AlpacaError) as tracks:
            raw.put("slewtoaltazasync", Azimuth=10, Altitude=60)
        assert tracks.value.number == 0x40B
        raw.put("slewtocoordinatesasync", RightAscension=3, Declination=60)
        raw.wait("slewing", False)
        assert raw.get("rightascension") == pytest.approx(3, abs=1e-6)
        assert raw.get("declination") == pytest.approx(60, abs=1e-6)


@pytest.mark.parametrize("kind", list(MountKind))
def test_a_slew_without_end_is_aborted_after_its_time_with_one_line(
    mount_with: Callable[..., Mount], kind: MountKind
) -> None:
    mount = mount_with(kind, "slew-endless")
    with mount.connect(slew_s=60.0) as telescope:
        with pytest.raises(
            DeviceUnreachableError, match=r"it still slews after 60 s \(flat_capture.mount.slew_timeout\)"
        ):
            telescope.slew_to(GOAL)
        assert not telescope.is_slewing()


def test_a_mount_that_stops_elsewhere_is_named_with_both_directions(mount_with: Callable[..., Mount]) -> None:
    with mount_with(MountKind.ANY, "slew-misses").connect() as telescope:
        line = "it was told to slew to altitude 75.0, azimuth 61.0 and stopped at altitude 72.0, azimuth 61.0"
        with pytest.raises(ReplyError, match=line):
            telescope.slew_to(GOAL)


def test_a_slew_is_aborted_when_the_mount_must_not_move_any_more(mount_with: Callable[..., Mount]) -> None:
    mount = mount_with(time_scale=20.0)
    answers = iter([None, None, "the roof is closing"])
    with mount.connect() as telescope:
        with pytest.raises(NotNowError, match="the mount is not moved: the roof is closing"):
            telescope.slew_to(GOAL, lambda: next(answers))
        assert not telescope.is_slewing()
        assert separation_deg(telescope.direction(), GOAL) > 5.0


@pytest.mark.parametrize("movement", ["slew", "park"])
def test_a_mount_that_must_not_move_does_not_begin_to(mount_with: Callable[..., Mount], movement: str) -> None:
    mount = mount_with()
    with mount.connect() as telescope, pytest.raises(NotNowError, match="rain"):
        telescope.slew_to(GOAL, lambda: "rain") if movement == "slew" else telescope.park(lambda: "rain")
    assert mount.truth.journeys == []


@pytest.mark.parametrize("kind", list(MountKind))
def test_another_site_and_another_time_are_refused_before_anything_moves(
    mount_with: Callable[..., Mount], kind: MountKind
) -> None:
    mount = mount_with(kind)
    with pytest.raises(RefusedError, match=r"it says that it is at latitude 51\.50.* site says 28\.76, -17\.88"):
        mount.connect(Site(latitude_deg=28.76, longitude_deg=-17.88))
    mount.truth.utc = lambda: datetime.now(UTC) + timedelta(hours=1)
    with mount.connect() as telescope, pytest.raises(RefusedError, match=r"sidereal time is \+60 minutes from that"):
        telescope.slew_to(GOAL)
    assert mount.truth.journeys == []


def test_the_site_is_that_of_the_mount_where_none_is_given(mount_with: Callable[..., Mount]) -> None:
    with mount_with().connect(site=None) as telescope:
        assert telescope.site == GREENWICH


def test_a_mount_that_is_gone_is_one_line(mount_with: Callable[..., Mount]) -> None:
    mount = mount_with()
    telescope = mount.connect()
    mount.observatory.stop()
    with pytest.raises(DeviceError, match=r"nothing listens there|the connection failed") as gone:
        telescope.slew_to(GOAL)
    assert "\n" not in str(gone.value)
    telescope.drop()


# ---- other mounts ----


def plain_mount(**members: Any) -> OddDevice:
    """Make a mount of interface version 3 that slews by altitude and azimuth, at once."""
    device = OddDevice(
        {
            "Connected": False, "InterfaceVersion": 3, "Name": "Mount", "CanSlewAltAzAsync": True,
            "CanSlewAsync": False,
            "CanSetTracking": True, "CanPark": True, "CanUnpark": True, "EquatorialSystem": 1,
            "SiteLatitude": 51.5, "SiteLongitude": 0.0, "Altitude": 40.0, "Azimuth": 0.0, "AtPark": False,
            "Slewing": False, "Tracking": False, "AbortSlew": None,
        }
    )  # fmt: skip

    def slew(request: Request) -> None:
        device.set(Altitude=float(request.values["altitude"]), Azimuth=float(request.values["azimuth"]))

    device.set(
        SlewToAltAzAsync=slew,
        Park=lambda _request: device.set(AtPark=True) and None,
        Unpark=lambda _request: device.set(AtPark=False) and None,
    )
    return device.set(**members)


def connected(server: OddServer, **timeouts: float) -> AlpacaTelescope:
    return AlpacaTelescope("127.0.0.1", server.port, timeouts=Timeouts(**timeouts), clock=SystemClock())


def test_a_mount_that_does_not_say_altitude_and_azimuth_is_where_its_coordinates_are() -> None:
    mount = plain_mount(SiderealTime=5.0, RightAscension=3.0, Declination=51.5).without("Altitude", "Azimuth")
    with OddServer({"telescope/0": mount}) as server, connected(server) as telescope:
        # 30 degrees west of the meridian, on the declination of the zenith
        zenith = SkyCoord(0 * u.deg, 51.5 * u.deg)
        star = SkyCoord(30 * u.deg, 51.5 * u.deg)
        expected = at(90 - float(zenith.separation(star).deg), -float(zenith.position_angle(star).deg) % 360)
        assert separation_deg(telescope.direction(), expected) < 1e-6


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({"CanSlewAltAzAsync": False}, "it slews neither by altitude and azimuth nor by right ascension"),
        ({"CanSetTracking": False, "Tracking": True}, "its tracking cannot be switched off"),
        ({"Tracking": lambda request: request.method == "GET"}, "tracking was switched off and it is not"),
    ],
)
def test_what_a_mount_cannot_do_is_one_line(members: dict[str, Any], line: str) -> None:
    mount = plain_mount(**members)
    with OddServer({"telescope/0": mount}) as server, connected(server) as telescope:
        with pytest.raises(DeviceError, match=line) as refused:
            telescope.slew_to(GOAL)
        assert "\n" not in str(refused.value)
    assert mount.puts("SlewToAltAzAsync") == []


@pytest.mark.parametrize(
    ("members", "do", "line"),
    [
        ({"CanPark": False}, AlpacaTelescope.park, "it cannot be parked; set flat_capture.mount.when_done: leave"),
        ({"AtPark": True, "CanUnpark": False}, AlpacaTelescope.unpark, "cannot be unparked by a program; unpark it"),
    ],
)
def test_a_mount_that_cannot_park_or_unpark_is_one_line(
    members: dict[str, Any], do: Callable[[AlpacaTelescope], None], line: str
) -> None:
    server = OddServer({"telescope/0": plain_mount(**members)})
    with server, connected(server) as telescope, pytest.raises(RefusedError, match=line):
        do(telescope)


def test_a_mount_that_answers_when_it_is_parked_is_waited_for() -> None:
    """Old drivers park within the call, for longer than an answer may take."""

    def park(_: Request) -> Answer:
        mount.set(AtPark=True)
        return Answer(body=b'{"ErrorNumber": 0}', silent_after=3)

    mount = plain_mount(Park=park)
    with OddServer({"telescope/0": mount}) as server, connected(server, reply_s=0.3) as telescope:
        telescope.park()
        assert telescope.is_parked()


def test_a_mount_that_says_late_that_it_slews_is_waited_for() -> None:
    answers = iter([False, False, True, True, True])

    def slewing(_: Request) -> bool:
        is_slewing = next(answers, None)
        if is_slewing is None:
            mount.set(Altitude=75.0, Azimuth=61.0, Slewing=False)
        return bool(is_slewing)

    mount = plain_mount(SlewToAltAzAsync=None, Slewing=slewing)
    with OddServer({"telescope/0": mount}) as server, connected(server) as telescope:
        telescope.slew_to(GOAL)
        assert separation_deg(telescope.direction(), GOAL) < 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high", None])
def test_a_direction_that_is_no_number_is_no_direction(value: object) -> None:
    with OddServer({"telescope/0": plain_mount(Altitude=value)}) as server, connected(server) as telescope:
        with pytest.raises(ReplyError, match="Altitude is") as wrong:
            telescope.direction()
        assert "\n" not in str(wrong.value)


def test_a_mount_without_a_site_needs_that_of_the_configuration() -> None:
    mount = plain_mount().without("SiteLatitude", "SiteLongitude")
    with OddServer({"telescope/0": mount}) as server:
        with pytest.raises(RefusedError, match="it does not say where it is; set latitude and longitude in site"):
            connected(server)
        with AlpacaTelescope("127.0.0.1", server.port, site=GREENWICH) as telescope:
            assert telescope.site == GREENWICH
