"""Every fault of the simulated observatory during a capture: how it ends, what is said, which frames are kept."""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ostcal.capture.exposer import Exposer
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import CaptureWatcher, RetryRules, SeriesEnd, SeriesOutcome, SeriesPlan, SeriesSink
from ostcal.clock import SystemClock
from ostcal.devices.alpaca import AlpacaCamera
from ostcal.devices.alpaca_link import Timeouts
from ostcal.devices.protocols import CameraRequest
from ostcal.errors import DeviceError
from ostcal.frames import FrameType
from ostcal.measure.live import LiveCheck, LiveLimits
from ostcal.series.reader import open_series
from ostcal.series.record import FrameRecord
from ostcal.simulator.faults import FAULTS
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.odd_servers import OddServer, QuickClock, Refusal, Request, odd_camera
from support.simulator_client import SMALL

N_FRAMES = 5
GOOD = 2
"""Frames before the fault."""

HASTY = Timeouts(tcp_s=2.0, reply_s=0.5, connect_s=2.0, silence_s=0.5, download_s=0.8)
RETRY = RetryRules(attempts=3, backoff_s=0.02, ready_margin_s=0.6)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault as it is told to the simulator, and what is said of it."""

    fault: str
    says: str
    time_scale: float = 200.0
    interface_version: int = 4
    times: int = 1
    """How often in a row it must happen to cost a try: a dropped answer is asked for once more, for example."""
    passed: int = GOOD
    """Opportunities that it lets pass."""
    others: tuple[str, ...] = ()
    """Faults without which this one does not show."""

    @property
    def name(self) -> str:
        return self.fault.partition("@")[0]

    def rules(self, times: int) -> tuple[str, ...]:
        """Tell the simulator: so often in a row, one rule for each, as a rule with `after` happens once."""
        return tuple(f"{self.fault}:after{number}" for number in range(self.passed, self.passed + times))


FAILING = {
    "drop": Case(fault="drop", says="downloading the image: the connection failed", times=2),
    "drop at the start": Case(fault="drop@startexposure", says="StartExposure(0.2, False): the connection failed"),
    "http500": Case(fault="http500", says="downloading the image: the server failed with HTTP 500"),
    "http500 while waiting": Case(
        fault="http500@imageready", says="reading ImageReady: the server failed with HTTP 500", interface_version=3
    ),
    "silence": Case(fault="silence", says="downloading the image: no answer in time"),
    "silence at the start": Case(fault="silence@startexposure", says="StartExposure(0.2, False): no answer in time"),
    "silence while waiting": Case(
        fault="silence@imageready", says="reading ImageReady: no answer in time", interface_version=3
    ),
    "slow": Case(fault="slow", says="downloading the image: no answer in time", time_scale=20.0),
    "short": Case(fault="short", says="downloading the image: "),
    "garbage": Case(fault="garbage", says="downloading the image: "),
    "huge": Case(fault="huge", says="60000 x 60000"),
    "ascom-error": Case(fault="ascom-error", says="lost on its way from the sensor (ASCOM error 0x500"),
    "wrong-size": Case(fault="wrong-size", says="59 x 40"),
    "never-ready": Case(fault="never-ready", says="the image of 0.2 s was not ready after 1 s"),
    "late-ready": Case(fault="late-ready", says="the image of 0.2 s was not ready after 1 s", time_scale=10.0),
    "exposure-error": Case(fault="exposure-error", says="the exposure ", time_scale=5.0),
    "busy-at-start": Case(fault="busy-at-start", says="busy"),
    "connect-refused": Case(
        fault="connect-refused",
        says="in use by another program",
        time_scale=5.0,
        others=(f"exposure-error:after{GOOD}",),
        passed=1,  # the first connection
        times=2,  # Connect(), and Connected after it
    ),
}
"""Faults that cost a try each."""

HARMLESS = {
    "json-only": Case(fault="json-only", says=""),
    "slow": Case(fault="slow", says="", time_scale=400.0),
    "late-ready": Case(fault="late-ready", says="", time_scale=200.0),
}
"""Faults that cost time only."""


@contextmanager
def night(case: Case, *faults: str) -> Iterator[tuple[SimulatedObservatory, AlpacaCamera]]:
    """Return an observatory with faults and its camera, connected and set."""
    options = SimulatorOptions(
        sensor=SMALL,
        time_scale=case.time_scale,
        interface_version=case.interface_version,
        faults=(*case.others, *faults),
    )
    with (
        SimulatedObservatory(options) as observatory,
        AlpacaCamera("127.0.0.1", observatory.port, timeouts=HASTY) as camera,
    ):
        yield observatory, camera


def dark_plan(camera: AlpacaCamera) -> SeriesPlan:
    return SeriesPlan(
        name="exp_0.200s",
        frame_type=FrameType.DARK,
        exposure_time_s=0.2,
        n_frames=N_FRAMES,
        settings=camera.apply(CameraRequest()),
        light=False,
        retry=RETRY,
    )


def take(camera: AlpacaCamera, folder: Path, limits: LiveLimits | None = None) -> SeriesOutcome:
    """Capture a series of darks."""
    plan = replace(dark_plan(camera), limits=limits or LiveLimits())
    outcome = capture_series(camera, plan, SeriesSink(directory=folder), SystemClock(), CaptureWatcher())
    assert "\n" not in outcome.message
    return outcome


def check_frames(folder: Path, observatory: SimulatedObservatory) -> list[FrameRecord]:
    """See that every recorded frame is one that the camera gave, each another one."""
    series = open_series(folder / "exp_0.200s.zarr")
    assert series.problems == ()
    served = {frame.crc32 for frame in observatory.delivered_frames.values()}
    stored = [
        zlib.crc32(np.ascontiguousarray(series.read_frame(record.index), dtype="<u2").data) for record in series.records
    ]
    assert len(set(stored)) == len(stored)
    assert set(stored) <= served
    return list(series.records)


def names(cases: Iterable[Case]) -> set[str]:
    return {case.name for case in cases}


def test_every_fault_has_a_row_or_a_test_here() -> None:
    of_mounts = {"slew-endless", "slew-misses"}  # tests/devices/test_telescope.py
    assert names(FAILING.values()) | names(HARMLESS.values()) | {"cooler-miss"} | of_mounts == set(FAULTS)


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_fault_that_goes_away_costs_one_try_and_no_frame(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with night(case, *case.rules(case.times)) as (observatory, camera):
        outcome = take(camera, tmp_path)
        assert (outcome.end, outcome.present) == (SeriesEnd.COMPLETE, N_FRAMES), outcome.message
        assert observatory.faults_happened[case.name] == case.times
        assert len(check_frames(tmp_path, observatory)) == N_FRAMES
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    told = [line for line in lines if case.says in line]
    assert len(told) == 1, lines
    assert "Simulated camera (small)" in told[0]
    assert "\n" not in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_fault_that_stays_ends_the_series_with_what_it_has(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with night(case, *case.rules(60)) as (observatory, camera):
        outcome = take(camera, tmp_path)
        assert outcome.end is SeriesEnd.CAMERA_FAILED
        # ImageReady is asked for once or twice a frame
        assert outcome.present == GOOD or ("@imageready" in case.fault and outcome.present < GOOD)
        failed = f"{outcome.present} of {N_FRAMES} frames; an exposure of 0.2 s failed 3 times, the last time: "
        assert failed in outcome.message
        assert outcome.message.endswith("; starting again takes the others")
        assert case.says in (caplog.text if case.name == "connect-refused" else outcome.message)
        if outcome.present:
            assert len(check_frames(tmp_path, observatory)) == outcome.present


@pytest.mark.parametrize("case", HARMLESS.values(), ids=HARMLESS)
def test_a_fault_that_costs_time_only(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with night(case, case.fault) as (observatory, camera):
        outcome = take(camera, tmp_path)
        assert (outcome.end, outcome.present, outcome.warnings) == (SeriesEnd.COMPLETE, N_FRAMES, ())
        assert observatory.faults_happened == {case.name: N_FRAMES}
        check_frames(tmp_path, observatory)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_image_that_is_17_s_late_is_waited_for(tmp_path: Path) -> None:
    """As long as one server was seen to take; with the patience that captures have by default."""
    clock = WaitingClock()
    device = odd_camera()
    ready_from_s = math.inf

    def start(_request: Request) -> None:
        nonlocal ready_from_s
        ready_from_s = clock.now_s() + 17.01

    device.set(StartExposure=start, ImageReady=lambda _request: clock.now_s() >= ready_from_s)
    with OddServer({"camera/0": device}) as server, AlpacaCamera("127.0.0.1", server.port, clock=clock) as camera:
        plan = replace(dark_plan(camera), exposure_time_s=0.01, n_frames=2, retry=RetryRules())
        outcome = capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher())
        assert (outcome.end, outcome.present) == (SeriesEnd.COMPLETE, 2)
        assert len(device.puts("StartExposure")) == 2
        assert 34 <= clock.now_s() <= 40


class WaitingClock(QuickClock):
    """A clock whose waits are over at once, for captures."""

    def utc(self) -> datetime:
        return datetime(2026, 11, 21, 18, 0, tzinfo=UTC) + timedelta(seconds=self.now_s())


def test_a_camera_that_refuses_to_connect_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"camera 0 at 127\.0\.0\.1:\d+.*in use by another program") as refused:  # noqa: SIM117
        with night(FAILING["drop"], "connect-refused"):
            pass
    assert "\n" not in str(refused.value)


def test_a_cooler_that_misses_its_target_is_seen_in_every_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(fault="cooler-miss", says="", time_scale=2000.0)
    with night(case, case.fault) as (observatory, camera):
        camera.cool(-10.0)
        deadline_s = time.monotonic() + 30
        while abs((camera.status().ccd_temperature_c or 0.0) + 7.0) > 0.2:
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        outcome = take(camera, tmp_path, LiveLimits(temperature_c=2.0))
        assert (outcome.end, outcome.present) == (SeriesEnd.COMPLETE, N_FRAMES)
        records = check_frames(tmp_path, observatory)
    assert [record.metadata.ccd_temperature_c for record in records] == pytest.approx([-7.0] * N_FRAMES, abs=0.2)
    for record in records:
        (verdict,) = [check for check in record.checks if check.name == LiveCheck.TEMPERATURE]
        assert not verdict.passed
    assert sum("from -10.0 C (limit 2.0 C)" in warning for warning in outcome.warnings) == N_FRAMES
    assert "from -10.0 C (limit 2.0 C)" in caplog.text


def test_faults_of_all_kinds_by_chance_lose_no_frame(tmp_path: Path) -> None:
    faults = ("drop@any:0.03", "http500@startexposure:0.1", "short:0.15", "garbage:0.1", "exposure-error:0.1")
    with night(Case(fault="drop", says=""), *faults) as (observatory, camera):
        outcome = take(camera, tmp_path)
        for _ in range(5):  # a series may end early; starting again goes on
            outcome = outcome if outcome.is_complete else take(camera, tmp_path)
        assert outcome.is_complete
        assert sum(observatory.faults_happened.values()) > 2
        assert len(check_frames(tmp_path, observatory)) == N_FRAMES


@pytest.mark.parametrize("number", [0x400, 0x401])
def test_what_a_camera_refuses_for_good_is_asked_once(number: int) -> None:
    device = odd_camera(StartExposure=Refusal(number=number, text="not with me"))
    with OddServer({"camera/0": device}) as server, AlpacaCamera("127.0.0.1", server.port) as camera:
        camera.apply(CameraRequest())
        exposer = Exposer(camera, SystemClock(), RETRY)
        with pytest.raises(DeviceError, match=r"not with me .*; the camera makes no exposure of 5 s with these"):
            exposer.take(5.0, light=False)
    assert len(device.puts("startexposure")) == 1


def test_other_refusals_are_tried_again() -> None:
    device = odd_camera(StartExposure=Refusal(number=0x40B, text="busy"))
    with OddServer({"camera/0": device}) as server, AlpacaCamera("127.0.0.1", server.port) as camera:
        camera.apply(CameraRequest())
        with pytest.raises(DeviceError, match="failed 3 times"):
            Exposer(camera, SystemClock(), RETRY).take(5.0, light=False)
    assert len(device.puts("startexposure")) == RETRY.attempts
