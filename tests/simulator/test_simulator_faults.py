"""Every fault of the simulated observatory can be seen, and happens when it is told to."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import requests

from ostcal.errors import ConfigError
from ostcal.simulator.faults import FAULTS, FaultPlan, FaultRule
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.sensor import Dust
from ostcal.simulator.server import SimulatedObservatory
from support.folders import ROOT
from support.simulator_client import SMALL, AlpacaError, Client, decode

BINARY = {"Accept": "application/imagebytes"}

# When


def test_a_fault_without_a_word_always_happens() -> None:
    plan = FaultPlan([FaultRule.parse("drop")], seed=1)
    assert [plan.happens("drop") for _ in range(3)] == [True, True, True]
    assert not plan.happens("slow")
    assert plan.happened == {"drop": 3}


def test_once_and_after() -> None:
    plan = FaultPlan([FaultRule.parse("drop:once"), FaultRule.parse("slow:after2")], seed=1)
    assert [plan.happens("drop") for _ in range(4)] == [True, False, False, False]
    assert [plan.happens("slow") for _ in range(4)] == [False, False, True, False]


def test_a_probability_decides_the_same_for_the_same_seed() -> None:
    def decisions(seed: int) -> list[bool]:
        plan = FaultPlan([FaultRule.parse("drop:0.3")], seed=seed)
        return [plan.happens("drop") for _ in range(1000)]

    assert decisions(5) == decisions(5)
    assert decisions(5) != decisions(6)
    # Five standard deviations of a binomial count: sqrt(1000 * 0.3 * 0.7) = 14.5.
    assert abs(sum(decisions(5)) - 300) < 73


def test_a_fault_can_be_aimed_at_a_method() -> None:
    plan = FaultPlan([FaultRule.parse("drop@startexposure:once"), FaultRule.parse("silence@any")], seed=1)
    assert not plan.happens("drop", "imagearray")
    assert plan.happens("drop", "startexposure")
    assert plan.happens("silence", "imagearray")


@pytest.mark.parametrize(
    "text", ["unknown", "", "drop:2", "drop:-1", "drop:nan", "drop:often", "drop:after", "slow@imageready", "drop:0,5"]
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"fault") as refused:
        SimulatedObservatory(SimulatorOptions(sensor=SMALL, faults=(text,)))
    assert "\n" not in str(refused.value)


# What


def observatory_with(*faults: str, time_scale: float = 1000.0) -> SimulatedObservatory:
    return SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=time_scale, faults=faults))


def test_every_fault_has_a_test_here() -> None:
    tested = {name.removeprefix("test_fault_").replace("_", "-") for name in globals() if name.startswith("test_fault")}
    assert tested == set(FAULTS)


def test_fault_drop() -> None:
    with observatory_with("drop:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        with pytest.raises(requests.ConnectionError):
            client.download()
        np.testing.assert_array_equal(client.download(), observatory.last_frame())
        assert observatory.faults_happened == {"drop": 1}


def test_a_connection_dropped_at_the_start_begins_no_exposure() -> None:
    with observatory_with("drop@startexposure:once") as observatory, Client(observatory.url).connect() as client:
        with pytest.raises(requests.ConnectionError):
            client.start(0.1)
        assert client.get("camerastate") == 0
        client.expose(0.1)


def test_fault_http500() -> None:
    with observatory_with("http500@imageready:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        with pytest.raises(requests.HTTPError, match="500"):
            client.get("imageready")
        client.wait("imageready", True)


def test_fault_silence() -> None:
    with observatory_with("silence:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        with pytest.raises(requests.ReadTimeout):
            client.session.get(f"{client.base}/imagearray", timeout=0.2)
        client.download()


def running_threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_a_silent_server_still_ends() -> None:
    before = running_threads()
    with observatory_with("silence@name") as observatory, requests.Session() as session:
        with pytest.raises(requests.ReadTimeout):
            session.get(f"{observatory.url}/api/v1/camera/0/name", timeout=0.1)
        observatory.stop()
        assert running_threads() == before


def test_fault_slow() -> None:
    """64 simulated seconds for the body: 0.32 real ones at a time scale of 200."""
    with observatory_with("slow:once", time_scale=200) as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        began_s = time.monotonic()
        trickled = client.download()
        assert time.monotonic() - began_s > 0.3
        np.testing.assert_array_equal(client.download(), trickled)
        assert observatory.faults_happened == {"slow": 1}


def test_a_server_ends_while_a_body_trickles(caplog: pytest.LogCaptureFixture) -> None:
    """The body is cut without an error: an error would end the thread of the server if it came at the same moment."""
    with observatory_with("slow", time_scale=1) as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        with client.session.get(f"{client.base}/imagearray", headers=BINARY, stream=True, timeout=5) as response:
            assert response.headers["content-length"] == str(44 + 2 * 60 * 40)
            observatory.stop()
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="bytes read"):
                _ = response.content
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_a_server_ends_while_a_client_does_not_read() -> None:
    """16 MB are more than the buffers of both sockets hold, so the server is in the middle of sending."""
    sensor = replace(SMALL, width=4000, height=2000, dust=Dust(count=0))
    before = running_threads()
    with (
        SimulatedObservatory(SimulatorOptions(sensor=sensor, time_scale=1000)) as observatory,
        Client(observatory.url).connect() as client,
    ):
        client.start(0.1)
        client.wait("imageready", True)
        with client.session.get(f"{client.base}/imagearray", headers=BINARY, stream=True, timeout=5) as response:
            observatory.stop()
            assert running_threads() == before
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="bytes read"):
                _ = response.content


def test_a_client_that_goes_away_in_the_middle_does_no_harm() -> None:
    sensor = replace(SMALL, width=4000, height=2000, dust=Dust(count=0))
    with (
        SimulatedObservatory(SimulatorOptions(sensor=sensor, time_scale=1000)) as observatory,
        Client(observatory.url).connect() as client,
    ):
        client.start(0.1)
        client.wait("imageready", True)
        with client.session.get(f"{client.base}/imagearray", headers=BINARY, stream=True, timeout=5) as response:
            assert len(response.raw.read(100)) == 100
        np.testing.assert_array_equal(client.download(), observatory.last_frame())


def test_fault_short() -> None:
    whole = 44 + 2 * 60 * 40
    with observatory_with("short:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match=rf"{44 + 60 * 40} bytes read, 2400 more"):
            client.image()
        assert len(client.image().content) == whole


def test_fault_garbage() -> None:
    with observatory_with("garbage:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        response = client.image()
        assert response.headers["content-type"] == "application/imagebytes"
        assert response.content[:4] == b"\xa5\x5a\xc3\xa5"
        client.download()


def test_fault_huge() -> None:
    with observatory_with("huge:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        body = client.image().content
        assert np.frombuffer(body[:44], "<i4")[8:10].tolist() == [60_000, 60_000]
        assert len(body) == 1044
        client.download()


def test_fault_ascom_error() -> None:
    with observatory_with("ascom-error:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        response = client.image()
        assert response.status_code == 200
        with pytest.raises(AlpacaError, match="lost on its way") as failure:
            decode(response.content)
        assert failure.value.number == 0x500
        client.download()


def test_fault_wrong_size() -> None:
    with observatory_with("wrong-size:once") as observatory, Client(observatory.url).connect() as client:
        narrow = client.expose(0.1)
        assert narrow.shape == (40, 59)
        assert not observatory.delivered_frames
        np.testing.assert_array_equal(client.download()[:, :59], narrow)
        assert list(observatory.delivered_frames) == [0]


def test_fault_json_only() -> None:
    with observatory_with("json-only") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("imageready", True)
        response = client.image()
        assert response.headers["content-type"] == "application/json"
        np.testing.assert_array_equal(np.array(response.json()["Value"]).T, observatory.last_frame())


def test_fault_never_ready() -> None:
    with observatory_with("never-ready:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("camerastate", 3)
        time.sleep(0.1)  # a hundred simulated seconds
        assert client.get("imageready") is False
        with pytest.raises(AlpacaError, match="under way"):
            client.start(0.1)
        client.put("abortexposure")
        client.expose(0.1)


def test_fault_late_ready() -> None:
    with observatory_with("late-ready:once", time_scale=30) as observatory, Client(observatory.url).connect() as client:
        began_s = time.monotonic()
        client.expose(0.01)
        assert time.monotonic() - began_s >= 17 / 30
        client.expose(0.01)
        assert observatory.faults_happened == {"late-ready": 1}


def test_fault_exposure_error() -> None:
    with observatory_with("exposure-error:once") as observatory, Client(observatory.url).connect() as client:
        client.start(0.1)
        client.wait("camerastate", 5)
        with pytest.raises(AlpacaError, match="the exposure failed") as failure:
            client.get("imageready")
        assert failure.value.number == 0x500
        client.expose(0.1)
        assert client.get("camerastate") == 0


def test_fault_busy_at_start() -> None:
    with observatory_with("busy-at-start:once") as observatory, Client(observatory.url).connect() as client:
        with pytest.raises(AlpacaError, match="busy") as failure:
            client.start(0.1)
        assert failure.value.number == 0x40B
        client.expose(0.1)


def test_fault_connect_refused() -> None:
    with observatory_with("connect-refused:once") as observatory, Client(observatory.url) as client:
        with pytest.raises(AlpacaError, match="in use by another program"):
            client.connect()
        client.connect()
        client.expose(0.1)


def test_fault_cooler_miss() -> None:
    with observatory_with("cooler-miss") as observatory, Client(observatory.url).connect() as client:
        client.put("setccdtemperature", SetCCDTemperature=-10)
        client.put("cooleron", CoolerOn=True)
        client.wait_for_temperature(-7)
        assert client.get("setccdtemperature") == -10
        assert client.get("coolerpower") == 100


def test_fault_slew_endless() -> None:
    with observatory_with("slew-endless") as observatory, Client(observatory.url, "telescope").connect() as mount:
        mount.put("slewtoaltazasync", Azimuth=10, Altitude=41)
        time.sleep(0.1)  # 100 s, of which the slew takes 5
        assert mount.get("slewing") is True
        mount.put("abortslew")
        assert mount.get("slewing") is False


def test_fault_slew_misses() -> None:
    with observatory_with("slew-misses") as observatory, Client(observatory.url, "telescope").connect() as mount:
        mount.put("slewtoaltazasync", Azimuth=10, Altitude=60)
        mount.wait("slewing", False)
        assert (mount.get("altitude"), mount.get("azimuth")) == (57, 10)


def test_the_documentation_lists_every_fault() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    for name, what in FAULTS.items():
        assert f"| `{name}` | {what} |" in text
