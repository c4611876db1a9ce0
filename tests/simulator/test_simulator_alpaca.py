"""The simulated observatory answers as a conforming Alpaca server does."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import requests
from alpaca import discovery, management
from alpaca.camera import Camera, CameraStates, SensorType
from alpaca.covercalibrator import CalibratorStatus, CoverCalibrator, CoverStatus
from alpaca.exceptions import (
    ActionNotImplementedException,
    InvalidOperationException,
    InvalidValueException,
    NotConnectedException,
    NotImplementedException,
)
from alpaca.filterwheel import FilterWheel

from ostcal.simulator.exposing import frame_generator
from ostcal.simulator.options import CoverKind, GainMode, ImageElement, SimulatorOptions
from ostcal.simulator.sensor import SENSORS, BayerMatrix
from ostcal.simulator.server import SimulatedObservatory
from support.folders import ROOT
from support.simulator_client import SMALL, TIMEOUT_S, AlpacaError, Client, decode

QUICK = SimulatorOptions(sensor=SMALL, time_scale=500)


@pytest.fixture(scope="module")
def shared() -> Iterator[SimulatedObservatory]:
    """Return a server for questions that change nothing that another test reads."""
    with SimulatedObservatory(QUICK) as observatory:
        yield observatory


@pytest.fixture
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(QUICK) as observatory:
        yield observatory


@pytest.fixture
def camera(observatory: SimulatedObservatory) -> Iterator[Camera]:
    """Return alpyca's camera, connected."""
    camera = Camera(observatory.address, 0)
    camera.Connected = True
    yield camera
    camera.rqs.close()


def wait_for(camera: Camera) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not camera.ImageReady:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


# alpyca, as it comes


def test_alpyca_takes_a_frame_that_is_not_square(observatory: SimulatedObservatory, camera: Camera) -> None:
    camera.StartExposure(0.7, True)
    wait_for(camera)
    frame = np.array(camera.ImageArray, dtype=np.uint16).T
    assert frame.shape == (SMALL.height, SMALL.width) == (40, 60)
    np.testing.assert_array_equal(frame, observatory.last_frame())
    record = observatory.delivered_frames[0]
    assert record.crc32 == zlib.crc32(np.ascontiguousarray(frame).data)
    np.testing.assert_array_equal(frame, SMALL.expose(record.exposure, frame_generator(1, 0)))
    assert camera.ImageArrayInfo.Dimension1 == 60


def test_alpyca_reads_what_the_camera_is(camera: Camera) -> None:
    assert (camera.CameraXSize, camera.CameraYSize) == (60, 40)
    assert camera.InterfaceVersion == 4
    assert camera.SensorType is SensorType.Monochrome
    assert camera.MaxADU == 65535
    assert camera.ElectronsPerADU == pytest.approx(SMALL.gain_e_per_adu)
    assert camera.FullWellCapacity == SMALL.full_well_e
    assert (camera.PixelSizeX, camera.PixelSizeY) == (9.0, 9.0)
    assert camera.SensorName == "small"
    assert camera.ReadoutModes == ["Standard", "Low noise"]
    assert camera.HasShutter is camera.CanAbortExposure is camera.CanStopExposure is camera.CanAsymmetricBin is True
    assert camera.CanPulseGuide is camera.CanFastReadout is False
    assert (camera.ExposureMin, camera.ExposureMax, camera.ExposureResolution) == (0.0001, 3600, 0.0001)
    assert camera.SupportedActions == []
    assert camera.CameraState is CameraStates.cameraIdle
    assert {item["Name"] for item in camera.DeviceState} == {
        "CameraState",
        "CCDTemperature",
        "CoolerPower",
        "HeatSinkTemperature",
        "ImageReady",
        "PercentCompleted",
        "TimeStamp",
    }


def test_alpyca_connects_by_connect_and_disconnects(observatory: SimulatedObservatory) -> None:
    camera = Camera(observatory.address, 0)
    with pytest.raises(NotConnectedException):
        _ = camera.CCDTemperature
    camera.Connect()
    while camera.Connecting:
        time.sleep(0.001)
    assert camera.Connected
    assert camera.CCDTemperature == pytest.approx(18, abs=0.1)
    camera.Disconnect()
    assert not camera.Connected
    camera.rqs.close()


def test_alpyca_turns_the_filter_wheel(observatory: SimulatedObservatory) -> None:
    wheel = FilterWheel(observatory.address, 0)
    wheel.Connected = True
    assert wheel.Names == ["L", "R", "G", "B"]
    assert wheel.FocusOffsets == [0, 0, 0, 0]
    wheel.Position = 2
    while wheel.Position == -1:
        time.sleep(0.001)
    assert wheel.Position == 2
    with pytest.raises(InvalidValueException):
        wheel.Position = 4
    wheel.rqs.close()


def test_alpyca_moves_the_cover_and_lights_the_panel(observatory: SimulatedObservatory) -> None:
    cover = CoverCalibrator(observatory.address, 0)
    cover.Connected = True
    assert cover.CoverState is CoverStatus.Open
    assert cover.CalibratorState is CalibratorStatus.Off
    cover.CloseCover()
    cover.CalibratorOn(cover.MaxBrightness)
    while cover.CoverMoving or cover.CalibratorChanging:
        time.sleep(0.001)
    assert (cover.CoverState, cover.CalibratorState) == (CoverStatus.Closed, CalibratorStatus.Ready)
    assert cover.Brightness == 255
    cover.CalibratorOff()
    assert (cover.CalibratorState, cover.Brightness) == (CalibratorStatus.Off, 0)
    with pytest.raises(InvalidValueException):
        cover.CalibratorOn(256)
    cover.rqs.close()


def test_alpyca_lists_the_devices(shared: SimulatedObservatory) -> None:
    assert management.apiversions(shared.address) == [1]
    assert management.description(shared.address)["ServerName"] == "ostcal simulated observatory"
    devices = management.configureddevices(shared.address)
    assert [device["DeviceType"] for device in devices] == [
        "Camera",
        "FilterWheel",
        "CoverCalibrator",
        "SafetyMonitor",
        "Dome",
        "Telescope",
    ]
    assert len({device["UniqueID"] for device in devices}) == 6


def test_what_the_camera_cannot_do_it_says(camera: Camera) -> None:
    for member in ("BayerOffsetX", "Gains", "Offsets", "FastReadout", "IsPulseGuiding", "SubExposureDuration"):
        with pytest.raises(NotImplementedException):
            getattr(camera, member)
    with pytest.raises(NotImplementedException):
        camera.PulseGuide(0, 100)
    with pytest.raises(ActionNotImplementedException):
        camera.Action("dance", "")
    with pytest.raises(NotImplementedException):
        camera.CommandBlind("x", False)


def test_before_the_first_exposure_there_is_nothing_to_read(camera: Camera) -> None:
    assert not camera.ImageReady
    assert camera.PercentCompleted == 0
    for member in ("LastExposureDuration", "LastExposureStartTime"):
        with pytest.raises(InvalidOperationException):
            getattr(camera, member)


# Settings


def test_gain_and_offset_in_value_mode(camera: Camera, observatory: SimulatedObservatory) -> None:
    assert (camera.GainMin, camera.GainMax, camera.Gain) == (0, 300, 100)
    camera.Gain = 200
    assert camera.ElectronsPerADU == pytest.approx(SMALL.gain_e_per_adu / 10**0.5)
    camera.Offset = camera.OffsetMin
    assert camera.Offset == 0
    assert observatory.sensor().bias_level_adu == SMALL.bias_level_adu - 100
    with pytest.raises(InvalidValueException):
        camera.Gain = 301


def test_gain_and_offset_in_index_mode() -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, gain_mode=GainMode.INDEX)) as observatory:
        camera = Camera(observatory.address, 0)
        camera.Connected = True
        assert camera.Gains == camera.Offsets == ["Low", "Standard", "High"]
        assert (camera.Gain, camera.Offset) == (1, 1)
        assert observatory.sensor() == SMALL
        camera.Gain = 2
        assert camera.Gain == 2
        assert camera.ElectronsPerADU == pytest.approx(SMALL.gain_e_per_adu / 10**0.5)
        with pytest.raises(NotImplementedException):
            _ = camera.GainMin
        with pytest.raises(InvalidValueException):
            camera.Gain = 3
        camera.rqs.close()


def test_readout_mode_changes_the_noise(camera: Camera, observatory: SimulatedObservatory) -> None:
    camera.ReadoutMode = 1
    assert camera.ReadoutMode == 1
    assert observatory.sensor().read_noise_e == pytest.approx(0.6 * SMALL.read_noise_e)


def test_a_subframe_is_cut_out_of_the_frame(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        for method, name, value in (("startx", "StartX", 5), ("starty", "StartY", 7), ("numx", "NumX", 20)):
            client.put(method, **{name: value})
        client.put("numy", NumY=11)
        frame = client.expose(0.5)
        whole = SMALL.expose(observatory.delivered_frames[0].exposure, frame_generator(1, 0))
        np.testing.assert_array_equal(frame, whole[7:18, 5:25])


def test_binning_may_differ_along_the_axes(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        client.put("binx", BinX=3)
        client.put("biny", BinY=2)
        with pytest.raises(AlpacaError, match="is not on the sensor, which has 20 x 20 pixels") as failure:
            client.start(0.5)
        assert failure.value.number == 0x401
        client.put("numx", NumX=20)
        client.put("numy", NumY=20)
        frame = client.expose(0.5)
        whole = SMALL.expose(observatory.delivered_frames[0].exposure, frame_generator(1, 0))
        expected = whole.reshape(20, 2, 20, 3).mean(axis=(1, 3))
        assert np.abs(frame - expected).max() <= 0.5001


@pytest.mark.parametrize(("pattern", "x", "y"), [("RGGB", 0, 0), ("GRBG", 1, 0), ("GBRG", 0, 1), ("BGGR", 1, 1)])
def test_the_bayer_offset_says_where_red_is(pattern: str, x: int, y: int) -> None:
    sensor = replace(SENSORS["bayer"], width=60, height=40, bayer=BayerMatrix(pattern=pattern))
    with (
        SimulatedObservatory(SimulatorOptions(sensor=sensor, time_scale=1000)) as observatory,
        Client(observatory.url).connect() as client,
    ):
        assert (client.get("sensortype"), client.get("bayeroffsetx"), client.get("bayeroffsety")) == (2, x, y)
        assert [device["DeviceType"] for device in management.configureddevices(observatory.address)] == [
            "Camera",
            "CoverCalibrator",
            "SafetyMonitor",
            "Dome",
            "Telescope",
        ]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_older_interfaces_lack_what_came_later(version: int) -> None:
    with (
        SimulatedObservatory(SimulatorOptions(sensor=SMALL, interface_version=version)) as observatory,
        Client(observatory.url).connect() as client,
    ):
        assert client.get("interfaceversion") == version
        for method, since in (("gain", 2), ("percentcompleted", 2), ("offset", 3), ("devicestate", 4)):
            status = client.session.get(f"{client.base}/{method}", timeout=TIMEOUT_S).status_code
            assert (status == 200) is (since <= version), method


# Exposing


def test_what_was_made_is_told(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        before = datetime.now(UTC) - timedelta(seconds=0.001)
        client.expose(0.12345)
        assert client.get("lastexposureduration") == 0.1234
        started = datetime.fromisoformat(client.get("lastexposurestarttime")).replace(tzinfo=UTC)
        assert before <= started <= datetime.now(UTC)
        assert client.get("percentcompleted") == 100


def test_durations_outside_the_limits_are_refused(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        for duration, light in ((0.00001, True), (0.0, True), (3601.0, True), (-1.0, False)):
            with pytest.raises(AlpacaError, match="Duration") as failure:
                client.start(duration, light=light)
            assert failure.value.number == 0x401
        assert client.expose(0.0, light=False).mean() == pytest.approx(SMALL.bias_level_adu, rel=0.05)


def test_a_bias_below_the_minimum_can_be_refused() -> None:
    options = SimulatorOptions(sensor=SMALL, exposure_min_s=3.2e-5, bias_below_minimum=False)
    with SimulatedObservatory(options) as observatory, Client(observatory.url).connect() as client:
        with pytest.raises(AlpacaError, match="Duration"):
            client.start(0.0, light=False)
        client.start(3.2e-5, light=False)


def test_a_second_exposure_while_one_runs_is_refused(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        client.start(3000)
        assert client.get("camerastate") == 2
        assert 0 <= client.get("percentcompleted") < 100
        with pytest.raises(AlpacaError, match="under way") as failure:
            client.start(1)
        assert failure.value.number == 0x40B


def test_an_aborted_exposure_gives_no_image(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        client.expose(0.1)
        client.start(3000)
        client.put("abortexposure")
        assert client.get("camerastate") == 0
        assert client.get("imageready") is False
        with pytest.raises(AlpacaError) as failure:
            client.download()
        assert failure.value.number == 0x40B
        client.put("abortexposure")
        client.expose(0.1)


def test_a_stopped_exposure_is_read_out_with_its_shorter_time(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        client.start(3000, light=False)
        client.put("stopexposure")
        client.wait("imageready", True)
        made_s = client.get("lastexposureduration")
        assert 0 < made_s < 3000
        client.download()
        assert observatory.delivered_frames[0].exposure.exposure_time_s == made_s


def test_an_image_stays_until_the_next_exposure(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        np.testing.assert_array_equal(client.expose(0.1), client.download())
        client.start(3000)
        assert client.get("imageready") is False


def test_disconnecting_ends_the_exposure(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        client.start(3000)
        client.put("disconnect")
        client.connect()
        assert client.get("camerastate") == 0


# Images


@pytest.mark.parametrize(
    ("element", "wire_type", "shift", "max_adu"),
    [
        (ImageElement.UINT16, 8, 0, 65535),
        (ImageElement.INT32, 2, 0, 65535),
        (ImageElement.INT16, 1, 1, 32767),
        (ImageElement.BYTE, 6, 8, 255),
    ],
)
def test_image_bytes_of_each_type(element: ImageElement, wire_type: int, shift: int, max_adu: int) -> None:
    options = SimulatorOptions(sensor=SMALL, time_scale=1000, image_element=element)
    with SimulatedObservatory(options) as observatory, Client(observatory.url).connect() as client:
        frame = client.expose(2.0)
        response = client.session.get(
            f"{client.base}/imagearray?CLIENTTRANSACTIONID=4294967295",
            headers={"Accept": "application/imagebytes"},
            timeout=TIMEOUT_S,
        )
        assert response.headers["content-type"] == "application/imagebytes"
        header = struct.unpack_from("<iiIIiiiiiii", response.content)
        assert header[:3] == (1, 0, 4294967295)
        assert header[3] >= 1
        assert header[4:] == (44, 2, wire_type, 2, 60, 40, 0)
        record = observatory.delivered_frames[0]
        np.testing.assert_array_equal(frame, SMALL.expose(record.exposure, frame_generator(1, 0)) >> shift)
        np.testing.assert_array_equal(frame, observatory.last_frame())
        assert zlib.crc32(np.ascontiguousarray(frame).data) == record.crc32
        assert client.get("maxadu") == max_adu
        assert client.get("electronsperadu") == pytest.approx(SMALL.gain_e_per_adu * 2**shift)


def test_json_images_where_image_bytes_are_not_asked_for(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        frame = client.expose(0.3)
        for method in ("imagearray", "imagearrayvariant"):
            answer = client.session.get(f"{client.base}/{method}?ClientTransactionID=7", timeout=TIMEOUT_S).json()
            assert (answer["Type"], answer["Rank"], answer["ErrorNumber"], answer["ErrorMessage"]) == (2, 2, 0, "")
            assert answer["ClientTransactionID"] == 7
            assert answer["ServerTransactionID"] >= 1
            np.testing.assert_array_equal(np.array(answer["Value"]).T, frame)


def test_an_error_comes_in_the_form_that_was_asked_for(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url).connect() as client:
        response = client.image()
        assert response.headers["content-type"] == "application/imagebytes"
        with pytest.raises(AlpacaError, match="there is no image") as failure:
            decode(response.content)
        assert failure.value.number == 0x40B
        with pytest.raises(AlpacaError, match="there is no image"):
            client.get("imagearray")


# The protocol, as ConformU asks


@pytest.mark.parametrize("query", ["ClientID=1&ClientTransactionID=5", "clientid=1&clienttransactionid=5", ""])
def test_parameter_names_have_any_case_in_addresses_and_one_in_forms(shared: SimulatedObservatory, query: str) -> None:
    answer = requests.get(f"{shared.url}/api/v1/camera/0/name?{query}", timeout=TIMEOUT_S).json()
    assert answer["ClientTransactionID"] == (5 if query else 0)
    answer = requests.put(
        f"{shared.url}/api/v1/camera/0/connected", data=f"{query}&Connected=tRuE", timeout=TIMEOUT_S
    ).json()
    assert answer["ClientTransactionID"] == (5 if query.startswith("Client") else 0)
    assert answer["ErrorNumber"] == 0


def test_answers_have_the_members_of_the_standard(shared: SimulatedObservatory) -> None:
    base = f"{shared.url}/api/v1/camera/0"
    first = requests.get(f"{base}/name", timeout=TIMEOUT_S)
    assert first.headers["content-type"] == "application/json"
    assert set(first.json()) == {
        "Value",
        "ErrorNumber",
        "ErrorMessage",
        "ClientTransactionID",
        "ServerTransactionID",
    }
    second = requests.get(f"{base}/name", timeout=TIMEOUT_S).json()
    assert second["ServerTransactionID"] > first.json()["ServerTransactionID"] >= 1


@pytest.mark.parametrize("name", ["ClientID", "ClientTransactionID"])
@pytest.mark.parametrize("value", ["", "%20", "-1", "abc", "4294967296", "1.5", "%D9%A3", "1" * 5000])
def test_a_client_number_that_is_none_is_a_bad_request(shared: SimulatedObservatory, name: str, value: str) -> None:
    for path in ("api/v1/camera/0/name", "management/apiversions", "management/v1/configureddevices"):
        assert requests.get(f"{shared.url}/{path}?{name}={value}", timeout=TIMEOUT_S).status_code == 400
    url = f"{shared.url}/api/v1/camera/0/connected"
    assert requests.put(url, data=f"Connected=True&{name}={value}", timeout=TIMEOUT_S).status_code == 400


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("connected", ""),
        ("connected", "Connected="),
        ("connected", "Connected=maybe"),
        ("connected", "Connecte=True"),
        ("connected", b"\xff\xfe"),
        ("connected", "Connected=%FF"),
        ("binx", "BinX=two"),
        ("binx", "BinX=1.0"),
        ("binx", "BinX=" + "9" * 5000),
        ("setccdtemperature", "SetCCDTemperature=nan"),
        ("setccdtemperature", "SetCCDTemperature=1_0"),
        ("startexposure", "Duration=1"),
        ("startexposure", "Duration=1,5&Light=True"),
        ("startexposure", "Duration=1&Light=2"),
    ],
)
def test_a_bad_value_in_a_put_is_a_bad_request(shared: SimulatedObservatory, method: str, body: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{shared.url}/api/v1/camera/0/{method}"
    assert requests.put(url, data=body, headers=headers, timeout=TIMEOUT_S).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("camera/99999/name", 400),
        ("camera/1/name", 400),
        ("camera/4294967296/name", 400),
        ("camera/-1/name", 404),
        ("camera/A/name", 404),
        ("camera/%D9%A3/name", 404),
        ("Camera/0/name", 404),
        ("CAMERA/0/name", 404),
        ("rotator/0/name", 404),
        ("baddevice/0/name", 404),
        ("camera/0/badmethod", 404),
        ("camera/0/Name", 404),
        ("camera/0", 404),
        ("camera/0/name/more", 404),
        ("filterwheel/0/name", 200),
        ("covercalibrator/0/name", 200),
    ],
)
def test_addresses(shared: SimulatedObservatory, path: str, status: int) -> None:
    assert requests.get(f"{shared.url}/api/v1/{path}", timeout=TIMEOUT_S).status_code == status


@pytest.mark.parametrize("verb", ["POST", "DELETE", "PATCH", "HEAD"])
def test_other_verbs_are_not_allowed(shared: SimulatedObservatory, verb: str) -> None:
    url = f"{shared.url}/api/v1/camera/0/name"
    assert requests.request(verb, url, timeout=TIMEOUT_S).status_code == 405


def test_a_member_that_cannot_be_put_is_not_allowed(shared: SimulatedObservatory) -> None:
    for method in ("camerastate", "imagearray"):
        url = f"{shared.url}/api/v1/camera/0/{method}"
        assert requests.put(url, data={"A": "1"}, timeout=TIMEOUT_S).status_code == 405
    url = f"{shared.url}/api/v1/camera/0/startexposure"
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 405


def test_every_member_answers(observatory: SimulatedObservatory) -> None:
    """Every getter of every device gives a value or an ASCOM error, in any order."""
    known = MappingProxyType(
        {"camera": 40, "filterwheel": 12, "covercalibrator": 15, "safetymonitor": 10, "dome": 24, "telescope": 50}
    )
    for device in observatory.devices:
        kind = device.identity.device_type.lower()
        with Client(observatory.url, kind).connect() as client:
            assert len(device.getters) >= known[kind]
            for method in sorted(device.getters):
                answer = client.session.get(f"{client.base}/{method}", timeout=TIMEOUT_S).json()
                assert answer["ErrorNumber"] in (0, 0x400, 0x40B), method
                assert ("Value" in answer) is (answer["ErrorNumber"] == 0), method


def test_schemathesis_finds_nothing(observatory: SimulatedObservatory, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    beside_the_checkout = ROOT.parent / "shared" / "alpaca"
    schema = Path(os.environ.get("OSTCAL_SHARED_ALPACA") or beside_the_checkout) / "camera_openapi.json"
    if not schema.is_file():
        pytest.skip(f"no OpenAPI file of Alpaca: {schema} is absent; set OSTCAL_SHARED_ALPACA to its folder")
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("the schemathesis command is not beside this Python")
    config = tmp_path / "schemathesis.toml"
    # The description allows any device number, and the standard wants 400 where there is no such device.
    config.write_text('[parameters]\n"path.DeviceNumber" = 0\n')
    options = ["--include-method", "GET", "--exclude-path-regex", "imagearray"]
    options += ["--max-examples", "5", "--phases", "examples,fuzzing"]
    with Client(observatory.url).connect():
        done = subprocess.run(
            [program, "--config-file", str(config), "run", str(schema), "--url", observatory.url, *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


# Discovery


def test_a_search_finds_the_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lent:
        lent.bind(("127.0.0.1", 0))
        free_port = lent.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(TIMEOUT_S)
        options = SimulatorOptions(sensor=SMALL, discovery=True, discovery_port=free_port)
        with SimulatedObservatory(options) as observatory:
            asking.sendto(b"something else", ("127.0.0.1", free_port))
            asking.sendto(b"alpacadiscovery1", ("127.0.0.1", free_port))
            answer, sender = asking.recvfrom(1024)
            assert json.loads(answer) == {"AlpacaPort": observatory.port}
            assert sender[0] == "127.0.0.1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the broadcast address of loopback be listened on")
def test_alpyca_discovers_the_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.255.255.255", discovery.port))
        except OSError:
            pytest.skip(f"UDP port {discovery.port} is taken by another Alpaca server")
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, discovery=True)) as observatory:
        assert observatory.address in discovery.search_ipv4(numquery=1, timeout=0.2)


def test_a_discovery_port_that_is_taken_is_tolerated(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        options = SimulatorOptions(sensor=SMALL, discovery=True, discovery_port=taken.getsockname()[1])
        with SimulatedObservatory(options) as observatory:
            assert management.apiversions(observatory.address) == [1]
    assert re.search(r"UDP port \d+ is taken", caplog.text)


# Covers without a panel, panels without a cover


def test_a_panel_without_a_cover_and_a_cover_without_a_panel() -> None:
    for kind, present, absent in (
        (CoverKind.PANEL, "calibratoroff", "opencover"),
        (CoverKind.COVER, "opencover", "calibratoroff"),
    ):
        with (
            SimulatedObservatory(SimulatorOptions(sensor=SMALL, cover=kind)) as observatory,
            Client(observatory.url, "covercalibrator").connect() as client,
        ):
            client.put(present)
            with pytest.raises(AlpacaError) as failure:
                client.put(absent)
            assert failure.value.number == 0x400
            assert (client.get("coverstate") == 0) is (kind is CoverKind.PANEL)
            assert (client.get("calibratorstate") == 0) is (kind is CoverKind.COVER)


def test_a_halted_cover_is_somewhere() -> None:
    with (
        SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as observatory,
        Client(observatory.url, "covercalibrator").connect() as client,
    ):
        client.put("closecover")
        assert client.get("covermoving") is True
        client.put("haltcover")
        assert client.get("coverstate") == 4


def test_an_observatory_without_a_cover_has_no_such_device() -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, cover=CoverKind.NONE)) as observatory:
        url = f"{observatory.url}/api/v1/covercalibrator/0/name"
        assert requests.get(url, timeout=TIMEOUT_S).status_code == 404
