"""Flats of the sky with a mount: where it points, what it refuses, and how it is afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_sun
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from ostcal.capture.series_plan import CaptureWatcher, FrameDone
from ostcal.clock import FastClock
from ostcal.fits.cards import Header
from ostcal.horizontal import Horizontal, separation_deg
from ostcal.series.reader import find_series, open_series
from ostcal.series.record import FrameRecord
from ostcal.simulator.options import Light, MountKind, SimulatorOptions
from ostcal.simulator.safety import ShutterStatus
from ostcal.simulator.server import SimulatedObservatory
from ostcal.simulator.telescope import PARK
from ostcal.workflow import CalibrationWorkflow
from ostcal.workflow.schedule import Schedule
from ostcal.workflow.visit import VisitWatchers
from support.fits_samples import read_with_astropy
from support.jumping_clock import JumpingClock
from support.night import Outcome, ostcal, write_night
from support.simulator_client import SMALL, Client

N_FRAMES = 5
NORTH = Horizontal(altitude_deg=40.0, azimuth_deg=0.0)
"""Where the mount stands at first."""


class Site:
    """A simulated observatory, whose mount stands where the configuration says, and the folder of a user."""

    def __init__(self, observatory: SimulatedObservatory, folder: Path) -> None:
        self.observatory = observatory
        self.folder = folder
        self.mount = observatory.telescope

    def write(self, sky: dict[str, Any], mount: dict[str, Any], **sections: dict[str, Any]) -> Path:
        config: dict[str, dict[str, Any]] = {
            "video": {
                "camera_type": "alpaca",
                "alpaca": {"port": self.observatory.port, "filter_wheel_id": 0, "cover_calibrator_id": 0},
            },
            "site": {"latitude": 51.5, "longitude": 0.0},
            "dark_capture": {
                "num_darks": 3, "exposure_factors": [1.0], "science_exposure_time": 1.0,
                "output_dir": str(self.folder / "darks"),
            },
            "flat_capture": {
                "twilight": True, "num_flats": N_FRAMES, "filters": ["L"], "output_dir": str(self.folder / "flats"),
                "sky": sky, "mount": {"port": self.observatory.port, "device_id": 0, **mount},
            },
            "master_frames": {"output_dir": str(self.folder / "masters"), "quality_control": False},
            "compute": {"workers": 1},
        }  # fmt: skip
        return write_night(self.folder, config, sections)

    def flats(self, sky: dict[str, Any], mount: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Outcome:
        """Run ``ostcal flats``."""
        path = self.write(sky, mount or {}, **sections)
        return ostcal("flats", "--config", path, "--no-confirm")

    def records(self) -> list[FrameRecord]:
        found = [open_series(location) for location in find_series([str(self.folder / "flats")])]
        return [record for series in found for record in series.records]

    def pointings(self) -> list[Horizontal]:
        """Return where the records say that the frames were pointed at."""
        headers = [Header(record.header) for record in self.records()]
        return [
            Horizontal(altitude_deg=float(one.number("OBJCTALT") or 0), azimuth_deg=float(one.number("OBJCTAZ") or 0))
            for one in headers
        ]

    @property
    def goals(self) -> list[Horizontal]:
        return [journey.goal for journey in self.mount.journeys]


@pytest.fixture
def site_with(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    running: list[SimulatedObservatory] = []

    def start(
        *faults: str, mount: MountKind = MountKind.ANY, time_scale: float = 500.0, light: Light | None = None
    ) -> Site:
        options = SimulatorOptions(
            sensor=SMALL, time_scale=time_scale, mount=mount, faults=faults, light=light or Light()
        )  # fmt: skip
        running.append(SimulatedObservatory(options))
        running[-1].start()
        return Site(running[-1], tmp_path)

    yield start
    for one in running:
        one.stop()


def null_point_of_astropy(when: datetime) -> Horizontal:
    """Return the direction opposite the sun at 75 degrees, from the sun of astropy over Greenwich."""
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        place = EarthLocation(lat=51.5 * u.deg, lon=0.0 * u.deg)
        moment = Time(when.replace(tzinfo=None), scale="utc")
        sun = get_sun(moment).transform_to(AltAz(obstime=moment, location=place))
    return Horizontal(altitude_deg=75.0, azimuth_deg=(float(sun.az.deg) + 180) % 360)


NULL = {"pointing": "null_point", "tracking": "off"}


# ---- where it points ----


@pytest.mark.parametrize("kind", list(MountKind))
def test_flats_are_taken_at_the_null_point_and_say_so(site_with: Callable[..., Site], kind: MountKind) -> None:
    site = site_with(mount=kind)
    shown = site.flats(NULL, storage={"export_frames": True})
    assert shown.exit_code == 0, shown.text
    assert len(site.pointings()) == N_FRAMES
    for pointing in site.pointings():
        assert separation_deg(pointing, null_point_of_astropy(datetime.now(UTC))) < 0.1
    assert not any(journey.while_exposing for journey in site.mount.journeys)
    (exported, *_) = sorted((site.folder / "flats").glob("*/*.fits"))
    _, header = read_with_astropy(exported)
    assert header["OBJCTALT"] == pytest.approx(75.0, abs=0.05)
    assert "the mount points at the null point, altitude 75.0, azimuth" in shown.text
    assert not site.mount.tracking


def test_nothing_is_moved_unless_it_is_asked_for(site_with: Callable[..., Site]) -> None:
    site = site_with()
    with Client(site.observatory.url, "telescope") as raw:
        shown = site.flats({})
        assert shown.exit_code == 0, shown.text
        assert raw.get("connected") is False
    assert site.mount.journeys == []
    assert len(site.records()) == N_FRAMES
    assert all(Header(record.header).number("OBJCTALT") is None for record in site.records())


def test_dithered_frames_are_at_places_of_their_own_within_the_radius(site_with: Callable[..., Site]) -> None:
    site = site_with()
    shown = site.flats({**NULL, "dither_arcmin": 12})
    assert shown.exit_code == 0, shown.text
    base, places = null_point_of_astropy(datetime.now(UTC)), site.pointings()
    distances = [separation_deg(base, place) for place in places]
    assert max(distances) < 12 / 60 + 0.03
    apart = [separation_deg(a, b) for n, a in enumerate(places) for b in places[:n]]
    assert len(apart) == N_FRAMES * (N_FRAMES - 1) / 2
    assert min(apart) > 1 / 60
    assert not any(journey.while_exposing for journey in site.mount.journeys)


@pytest.mark.parametrize("kind", list(MountKind))
def test_a_mount_that_stays_is_dithered_around_where_it_was(site_with: Callable[..., Site], kind: MountKind) -> None:
    site = site_with(mount=kind)
    shown = site.flats({"tracking": "on", "dither_arcmin": 20}, {"when_done": "return"})
    assert shown.exit_code == 0, shown.text
    places = site.pointings()
    assert all(0.0 < separation_deg(NORTH, place) < 20 / 60 + 0.1 for place in places)
    assert len({(round(place.altitude_deg, 2), round(place.azimuth_deg, 2)) for place in places}) == N_FRAMES
    assert separation_deg(site.mount.direction(), NORTH) < 0.05
    assert not site.mount.tracking  # as before


# ---- what the frames show ----


def skies(site: Site) -> NDArray[np.float64]:
    """Return the light of the sky in each frame, (frames, rows, columns), relative to its mean: without the flat."""
    sensor = site.observatory.sensor()
    (location,) = find_series([str(site.folder / "flats")])
    series = open_series(location)
    frames = np.stack([series.read_frame(record.index).astype(np.float64) for record in series.records])
    light = (frames - sensor.bias_adu()) / sensor.flat_field("L")
    return np.asarray(light / light.mean(axis=(1, 2), keepdims=True))


def slopes(sky: NDArray[np.float64]) -> tuple[float, float]:
    """Return how much brighter the sky gets over the width of the sensor, to the right and down."""
    rows, columns = np.mgrid[: sky.shape[0], : sky.shape[1]]
    planes = np.stack([np.ones(sky.size), columns.ravel() / sky.shape[1], rows.ravel() / sky.shape[1]], axis=1)
    _, right, down = np.linalg.lstsq(planes, sky.ravel(), rcond=None)[0]
    return float(right), float(down)


def test_flats_at_the_null_point_have_the_smaller_gradient(site_with: Callable[..., Site], tmp_path: Path) -> None:
    gradient = 0.0005
    site = site_with(light=Light(sky_gradient_per_deg2=gradient))
    shown = site.flats({"tracking": "off"})
    assert shown.exit_code == 0, shown.text
    right, down = slopes(skies(site).mean(axis=0))
    # Brighter away from the null point, by the distance: the mount stands in the north at 40 degrees.
    null = null_point_of_astropy(datetime.now(UTC))
    north = SkyCoord(0 * u.deg, 40 * u.deg)
    darkest = SkyCoord(null.azimuth_deg * u.deg, null.altitude_deg * u.deg)
    distance_deg, bearing = float(north.separation(darkest).deg), north.position_angle(darkest)
    assert right == pytest.approx(-gradient * distance_deg * float(np.sin(bearing)), abs=0.002)
    assert down == pytest.approx(gradient * distance_deg * float(np.cos(bearing)), abs=0.002)
    (tmp_path / "flats").rename(tmp_path / "elsewhere")
    shown = site.flats(NULL)
    assert shown.exit_code == 0, shown.text
    assert np.hypot(*slopes(skies(site).mean(axis=0))) < 0.1 * np.hypot(right, down)


def test_a_dither_moves_the_stars_out_of_the_master(site_with: Callable[..., Site], tmp_path: Path) -> None:
    site = site_with(light=Light(stars_per_deg2=15.0))
    starred: list[int] = []
    for dither_arcmin in (0, 20):
        sky = {**NULL, "tracking": "on", "dither_arcmin": dither_arcmin}
        shown = site.flats(sky, flat_capture={"sky": sky, "num_flats": 9})
        assert shown.exit_code == 0, shown.text
        light = skies(site)
        assert all(np.count_nonzero(frame / np.median(frame) > 1.05) > 10 for frame in light), "stars in every frame"
        master = np.median(light / np.median(light, axis=(1, 2), keepdims=True), axis=0)
        starred.append(int(np.count_nonzero(master > 1.05)))
        (tmp_path / "flats").rename(tmp_path / f"dithered by {dither_arcmin}")
    still, dithered = starred
    assert still > 10
    assert dithered <= still / 10


# ---- afterwards ----


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("when_done", ["leave", "return", "park"])
def test_afterwards_the_mount_is_as_it_is_to_be(site_with: Callable[..., Site], when_done: str, tracked: bool) -> None:
    site = site_with()
    site.mount.track(tracked)
    shown = site.flats(NULL, {"when_done": when_done})
    assert shown.exit_code == 0, shown.text
    expected = {"leave": null_point_of_astropy(datetime.now(UTC)), "return": NORTH, "park": PARK}[when_done]
    assert separation_deg(site.mount.direction(), expected) < 0.3
    assert site.mount.parked == (when_done == "park")
    assert site.mount.tracking == (tracked and when_done != "park")


def test_a_parked_mount_is_refused_with_one_line(site_with: Callable[..., Site]) -> None:
    site = site_with()
    site.mount.parked = True
    shown = site.flats(NULL)
    assert shown.exit_code == 1
    line = "the mount cannot be used: it is parked; unpark it, or set flat_capture.mount.if_parked: unpark"
    assert shown.text.replace("\n", " ").count("if_parked: unpark") >= 1
    assert line in re.sub(r"\s+", " ", shown.text)
    assert site.records() == []
    assert (site.mount.journeys, site.mount.parked) == ([], True)


@pytest.mark.parametrize(("when_done", "parked"), [("leave", False), ("park", True), ("return", True)])
def test_a_parked_mount_is_unparked_if_that_is_allowed(
    site_with: Callable[..., Site], when_done: str, parked: bool
) -> None:
    site = site_with()
    site.mount.parked = True
    shown = site.flats(NULL, {"if_parked": "unpark", "when_done": when_done})
    assert shown.exit_code == 0, shown.text
    assert len(site.records()) == N_FRAMES
    assert site.mount.parked is parked


class _PressCtrlC:
    """Presses Ctrl-C once, when the first frame is on disk."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, _: FrameDone) -> None:
        if not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("when_done", ["leave", "park"])
def test_after_ctrl_c_tracking_is_as_before(site_with: Callable[..., Site], when_done: str) -> None:
    site = site_with(time_scale=100.0)
    site.mount.track(True)
    press = _PressCtrlC()
    path = site.write(NULL, {"when_done": when_done})
    workflow = CalibrationWorkflow(path, watcher=CaptureWatcher(frame_done=press))
    with pytest.raises(KeyboardInterrupt):
        workflow.run("flats")
    assert press.pressed
    assert 0 < len(site.records()) < N_FRAMES
    assert site.mount.parked == (when_done == "park")
    assert site.mount.tracking == (when_done == "leave")
    assert not any(journey.while_exposing for journey in site.mount.journeys)


def test_after_ctrl_c_during_a_slew_the_mount_stops_and_tracks_again(site_with: Callable[..., Site]) -> None:
    site = site_with("slew-endless", time_scale=20.0)
    site.mount.track(True)
    presses = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    presses.start()
    with pytest.raises(KeyboardInterrupt):
        CalibrationWorkflow(site.write(NULL, {})).run("flats")
    presses.join()
    assert not site.mount.is_slewing()
    assert site.mount.tracking
    assert site.records() == []


def test_a_second_ctrl_c_skips_the_parking(site_with: Callable[..., Site]) -> None:
    site = site_with(time_scale=5.0)
    path = site.write(NULL, {"when_done": "park"})

    def press_twice(_: FrameDone) -> None:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        os.kill(os.getpid(), signal.SIGINT)

    site.mount.stand_at(null_point_of_astropy(datetime.now(UTC)))  # the first slew is short
    with pytest.raises(KeyboardInterrupt):
        CalibrationWorkflow(path, watcher=CaptureWatcher(frame_done=press_twice)).run("flats")
    assert len(site.mount.journeys) == 2  # to the null point and towards the park position, which is not begun twice
    assert not site.mount.at_park()


def test_a_plan_points_the_mount_for_its_flats_and_parks_it_once(site_with: Callable[..., Site]) -> None:
    site = site_with()
    config = site.write(NULL, {"when_done": "park"})
    plan = site.folder / "plan.yaml"
    series = [{"kind": "flat", "count": 3, "filter": name} for name in ("L", "R")]
    plan.write_text(yaml.safe_dump({"series": series}), encoding="utf-8")
    shown = ostcal("capture", "--plan", plan, "--config", config, "--no-confirm")
    assert shown.exit_code == 0, shown.text
    assert len(site.pointings()) == 6
    assert all(separation_deg(place, null_point_of_astropy(datetime.now(UTC))) < 0.1 for place in site.pointings())
    assert site.mount.parked
    assert [separation_deg(goal, PARK) < 1e-6 for goal in site.goals] == [False, True]


# ---- what fails ----


def test_a_mount_that_never_stops_ends_the_flats_with_one_line(site_with: Callable[..., Site]) -> None:
    site = site_with("slew-endless")
    shown = site.flats(NULL, {"slew_timeout": 5})
    assert shown.exit_code == 1
    assert "it still slews after 5 s (flat_capture.mount.slew_timeout)" in re.sub(r"\s+", " ", shown.text)
    assert site.records() == []
    assert not site.mount.is_slewing()


def test_a_mount_that_goes_in_the_middle_ends_the_flats_and_leaves_right_frames(
    site_with: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site, other = site_with(), site_with()  # the mount has a server of its own

    def go(done: FrameDone) -> None:
        if done.present >= 2:
            other.observatory.stop()

    path = site.write(NULL, {"port": other.observatory.port})
    (status,) = CalibrationWorkflow(path, watcher=CaptureWatcher(frame_done=go)).run("flats").values()
    assert status.is_error
    (line,) = status.details["errors"]
    assert "; the mount cannot be used: telescope 0 at 127.0.0.1:" in line
    assert line.endswith("starting again takes the others")
    assert "\n" not in line
    kept = len(site.records())
    assert 2 <= kept < N_FRAMES
    for pointing in site.pointings():
        assert separation_deg(pointing, null_point_of_astropy(datetime.now(UTC))) < 0.1
    restored = [message for message in caplog.messages if message.startswith("the mount is not as it was before")]
    assert len(restored) == 1
    # With a mount again the next run takes the others.
    again = site.flats(NULL)
    assert again.exit_code == 0, again.text
    assert len(site.records()) == N_FRAMES


def test_frames_during_which_another_program_moves_the_mount_are_not_kept(site_with: Callable[..., Site]) -> None:
    site = site_with()
    seen: list[FrameRecord] = []

    def move(done: FrameDone) -> None:
        seen.append(done.record)
        if len(seen) == 2:
            with Client(site.observatory.url, "telescope") as raw:
                raw.put("slewtoaltazasync", Azimuth=200, Altitude=50)

    workflow = CalibrationWorkflow(site.write(NULL, {}), watcher=CaptureWatcher(frame_done=move))
    (status,) = workflow.run("flats").values()
    assert status.is_error
    assert "no other program may move it" in status.message
    for pointing in site.pointings():
        assert separation_deg(pointing, null_point_of_astropy(datetime.now(UTC))) < 0.1
    assert len(site.records()) < N_FRAMES


@pytest.mark.parametrize(
    ("mount", "line"),
    [
        ({"min_altitude_deg": 80}, "which is below 80 degrees (flat_capture.mount.min_altitude_deg)"),
        ({"min_sun_distance_deg": 170}, "at least 170 are allowed (flat_capture.mount.min_sun_distance_deg)"),
    ],
)
def test_limits_are_kept_before_anything_moves(
    site_with: Callable[..., Site], mount: dict[str, Any], line: str
) -> None:
    site = site_with()
    shown = site.flats(NULL, mount)
    assert shown.exit_code == 1
    assert line in re.sub(r"\s+", " ", shown.text)
    assert site.mount.journeys == []
    assert site.records() == []


def test_a_place_near_the_horizon_is_not_returned_to(site_with: Callable[..., Site]) -> None:
    site = site_with()
    shown = site.flats(NULL, {"when_done": "return", "min_altitude_deg": 50})
    assert shown.exit_code == 0, shown.text  # the flats are good
    text = re.sub(r"\s+", " ", shown.text)
    assert (
        "the mount is not as it was before (flat_capture.mount.when_done: return): it is not sent to altitude 40.0"
        in text
    )
    assert len(site.records()) == N_FRAMES


def test_keys_without_a_mount_are_one_line(site_with: Callable[..., Site]) -> None:
    site = site_with()
    shown = site.flats(NULL, {"device_id": None})
    assert shown.exit_code == 2
    assert "flat_capture.sky needs a mount; set flat_capture.mount.device_id" in re.sub(r"\s+", " ", shown.text)


@pytest.mark.parametrize("why", ["monitor", "roof"])
def test_the_mount_does_not_move_while_it_is_not_safe(site_with: Callable[..., Site], why: str) -> None:
    site = site_with()
    site.observatory.safety_monitor.safe = why != "monitor"
    if why == "roof":
        site.observatory.roof.move(ShutterStatus.CLOSED)
    safety = {"port": site.observatory.port, "device_id": 0, "roof_id": 0}
    shown = site.flats(NULL, {"when_done": "park"}, safety=safety, schedule={"max_hours": 1e-4})
    assert shown.exit_code == 1
    line = "the safety monitor says that it is not safe, and" if why == "monitor" else "the roof is closed, and"
    assert line in re.sub(r"\s+", " ", shown.text)
    assert site.mount.journeys == []
    assert site.records() == []


def test_under_a_closed_roof_the_mount_waits_and_the_flats_are_taken_when_it_is_open(
    site_with: Callable[..., Site],
) -> None:
    site = site_with()
    roof = site.observatory.roof
    roof.move(ShutterStatus.CLOSED)
    while roof.status() is not ShutterStatus.CLOSED:
        time.sleep(0.01)
    opens = threading.Timer(1.0, roof.move, (ShutterStatus.OPEN,))
    moved_before: list[int] = []
    watched = threading.Timer(0.9, lambda: moved_before.append(len(site.mount.journeys)))
    path = site.write(NULL, {}, safety={"port": site.observatory.port, "roof_id": 0})
    opens.start()
    watched.start()
    (status,) = CalibrationWorkflow(path, clock=FastClock(500.0)).run("flats").values()
    assert not status.is_error, status.message
    assert moved_before == [0]
    assert len(site.records()) == N_FRAMES


# ---- schedule ----


def test_a_schedule_waits_until_it_is_safe_and_parks_the_mount_when_it_is_done(tmp_path: Path) -> None:
    start = datetime(2026, 11, 1, 12, tzinfo=UTC)
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=5000.0)) as observatory:
        site = Site(observatory, tmp_path)
        safety = {"port": observatory.port, "device_id": 0}
        schedule = {"when": "dusk -1", "cadence_days": {"bias": None, "dark": None, "flat": 1}}
        path = site.write(
            {**NULL, "dither_arcmin": 5}, {"when_done": "park", "if_parked": "unpark"}, safety=safety, schedule=schedule
        )
        clock = JumpingClock(start, start + timedelta(days=2))
        site.mount.utc, site.mount.parked = clock.utc, True
        clouded: list[tuple[datetime, int]] = []

        def become(safe: bool) -> None:
            observatory.safety_monitor.safe = safe
            if safe:  # nothing has moved meanwhile, not even to park
                clouded.append((clock.utc(), len(site.mount.journeys)))

        def frame_done(_: FrameDone) -> None:
            if not clouded:
                clouded.append((clock.utc(), len(site.mount.journeys)))
                become(False)
                clock.alarms.append((clock.utc() + timedelta(minutes=5), lambda: become(True)))

        with pytest.raises(KeyboardInterrupt):
            Schedule(path, clock, VisitWatchers(capture=CaptureWatcher(frame_done=frame_done))).run()
        assert site.mount.parked
    by_night: dict[object, list[FrameRecord]] = {}
    for record in site.records():
        assert record.metadata.date_obs is not None
        by_night.setdefault(record.metadata.date_obs.date(), []).append(record)
        header = Header(record.header)
        place = Horizontal(
            altitude_deg=float(header.number("OBJCTALT") or 0), azimuth_deg=float(header.number("OBJCTAZ") or 0)
        )
        assert separation_deg(place, null_point_of_astropy(record.metadata.date_obs)) < 5 / 60 + 2.0
    assert [len(records) for records in by_night.values()] == [N_FRAMES, N_FRAMES]
    (before, moves_before), (after, moves_after) = clouded
    assert moves_after <= moves_before + 1  # at most the move to the frame that was refused
    assert not [record for record in site.records() if before < (record.metadata.date_obs or before) < after]


def test_the_coming_week_says_where_the_flats_are_taken(site_with: Callable[..., Site]) -> None:
    site = site_with()
    path = site.write(
        {**NULL, "dither_arcmin": 5}, {"when_done": "park"}, schedule={"when": "17:00", "time_zone": "utc"}
    )
    shown = ostcal("schedule", "--config", path, "--dry-run")
    text = re.sub(r"\s+", " ", shown.text)
    said = re.search(r"at the null point, altitude 75\.0, azimuth ([\d.]+) at (\S+ 17:00) UTC; tracking is off; ", text)
    assert said is not None, text
    when = datetime.fromisoformat(said[2]).replace(tzinfo=UTC)
    assert float(said[1]) == pytest.approx(null_point_of_astropy(when).azimuth_deg, abs=0.1)
    assert "it moves within 5 arcminutes between frames; then it is parked" in text
    assert site.mount.journeys == []
    document = json.loads(ostcal("schedule", "--config", path, "--dry-run", "--json").stdout)
    assert len(document["visits"]) == 7
