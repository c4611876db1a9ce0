"""A camera is found by its name, on a server with several devices and among the drivers of ASCOM."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostcal import DarkCapture, load_config, open_camera
from ostcal.devices.ascom import open_ascom_camera
from ostcal.devices.discovery import find_camera
from ostcal.devices.failures import DeviceUnreachableError, RefusedError
from ostcal.errors import DeviceError
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support import night as n
from support.odd_servers import Answer, OddDevice, OddServer, odd_camera
from support.simulator_client import SMALL

NAMES = {0: "ZWO ASI120 guider", 2: "QHY600M-5e2f", 3: "QHY268M-77a0", 5: "QHY268M"}


@contextmanager
def server_of(names: dict[int, str]) -> Iterator[OddServer]:
    """Serve cameras of these names, and a wheel that is called as one of them."""
    devices = {f"camera/{number}": odd_camera() for number in names} | {"filterwheel/1": OddDevice({})}
    for number, name in names.items():
        devices[f"camera/{number}"].members["name"] = name
    listed = [
        {"DeviceName": name, "DeviceType": "Camera", "DeviceNumber": number, "UniqueID": f"u{number}"}
        for number, name in names.items()
    ]
    wheel = {"DeviceName": "QHY600M-5e2f", "DeviceType": "FilterWheel", "DeviceNumber": 1, "UniqueID": "w"}
    with OddServer(devices, {"v1/configureddevices": [wheel, *listed]}) as server:
        yield server


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ("QHY600M-5e2f", 2),
        ("qhy600m", 2),
        ("  zwo   asi120 ", 0),
        ("QHY268M", 5),  # this very name goes before names that contain it
        ("77A0", 3),
    ],
)
def test_a_name_or_a_part_that_no_other_has_is_found(wanted: str, number: int) -> None:
    with server_of(NAMES) as server:
        assert find_camera("127.0.0.1", server.port, wanted) == number


@pytest.mark.parametrize(
    ("wanted", "names", "says"),
    [
        ("QHY60OM", NAMES, r"no camera has this name; the server has 0 \(ZWO ASI120 guider\), 2 \(QHY600M-5e2f\)"),
        ("QHY", NAMES, r"3 cameras fit this name; the server has .*5 \(QHY268M\); write more of the name"),
        ("QHY600M", {1: "QHY600M", 4: "QHY600M"}, r"2 cameras fit .*1 \(QHY600M\), 4 \(QHY600M\).*alpaca.device_id"),
        ("QHY600M", {}, r"the server has no camera; ostcal cameras lists what other servers have"),
    ],
)
def test_names_of_none_and_of_several_list_what_is_there(wanted: str, names: dict[int, str], says: str) -> None:
    with server_of(names) as server:
        with pytest.raises(RefusedError, match=says) as caught:
            find_camera("127.0.0.1", server.port, wanted)
        assert f"camera {wanted!r} at 127.0.0.1:{server.port}: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_servers_that_give_no_names() -> None:
    refusing = Answer(body=b"not here", status=404)
    advice = r"HTTP 404; without a list of devices set video\.alpaca\.device_id"
    with (
        OddServer({"camera/0": odd_camera()}, {"v1/configureddevices": refusing}) as server,
        pytest.raises(RefusedError, match=advice),
    ):
        find_camera("127.0.0.1", server.port, "QHY600M")
    with pytest.raises(DeviceUnreachableError, match="no Alpaca server answers"):
        find_camera("127.0.0.1", server.port, "QHY600M", 0.5)


@pytest.mark.parametrize(
    "keys",
    [
        lambda port: {"camera_name": "qhy600m", "alpaca": {"port": port}},
        lambda port: {"alpaca": {"port": port, "camera_name": "QHY600M-5e2f", "device_id": 0}},
        # the name beside the address goes before the one of all drivers
        lambda port: {"camera_name": "guider", "alpaca": {"port": port, "camera_name": "QHY600M-5e2f"}},
    ],
)
def test_the_configuration_names_the_camera(keys: Any) -> None:
    with server_of(NAMES) as server, open_camera({"video": keys(server.port)}) as camera:
        assert camera.info.name == "QHY600M-5e2f"


def test_darks_are_taken_with_the_camera_of_a_name(tmp_path: Path) -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=1000.0)) as simulator:
        config = {
            "video": {"camera_name": "Simulated Camera", "alpaca": {"port": simulator.port}},
            "dark_capture": {"num_darks": 3, "exposure_factors": [1], "output_dir": str(tmp_path / "darks")},
        }
        with open_camera(config) as camera:
            darks = DarkCapture(config)
            darks.initialize(camera)
            status = darks.capture_darks((1.0,))
    assert not status.is_error, status.message
    assert len(status.data["series"]) >= 2


def test_the_command_names_the_camera_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    with server_of(NAMES) as server:
        path.write_text(f"video: {{camera_name: QHY60OM, alpaca: {{port: {server.port}}}}}\n", encoding="utf-8")
        outcome = n.ostcal("darks", "--config", path, "--no-confirm")
    assert outcome.exit_code == 1
    assert "camera 'QHY60OM' at 127.0.0.1" in outcome.stderr
    assert "QHY600M-5e2f" in outcome.stderr


def test_the_list_of_cameras_shows_what_to_write() -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, discovery=True)) as simulator:
        outcome = n.ostcal("cameras", "--timeout", "0.6")
        assert str(simulator.port) in outcome.stdout
    assert outcome.exit_code == 0
    said = re.search(r"in the configuration: (video: .*)", " ".join(outcome.stderr.split()))
    assert said is not None, outcome.text
    video = load_config(yaml.safe_load("{" + said[1] + "}")).video
    assert (video.camera_name or "").startswith("Simulated camera")
    assert video.alpaca.port > 0


# --- ASCOM's own names, on any system: Windows and COM are stand-ins ---

DRIVERS = {
    "ASCOM.QHYCCD.Camera": "QHY600M",
    "ASCOM.ASICamera2.Camera": "ASI Camera (1)",
    "ASCOM.Simulator.Camera": "Sim",
}


class ComError(Exception):
    """Stands in for pywintypes.com_error."""


@dataclass
class Registered:
    """A driver as ASCOM's profile lists it."""

    Key: str
    Value: str


class Profile:
    """ASCOM's list of drivers."""

    def RegisteredDevices(self, kind: str) -> list[Registered]:  # noqa: N802 -- ASCOM's name
        assert kind == "Camera"
        return [Registered(*driver) for driver in DRIVERS.items()]


@pytest.fixture
def com(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module see Windows with COM, where no driver starts: the error names the one that was tried."""

    def dispatch(name: str) -> object:
        if name == "ASCOM.Utilities.Profile":
            return Profile()
        raise ComError(f"<{name}>")

    client = types.SimpleNamespace(Dispatch=dispatch)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setitem(sys.modules, "win32com", types.SimpleNamespace(client=client))
    monkeypatch.setitem(sys.modules, "win32com.client", client)
    monkeypatch.setitem(sys.modules, "pywintypes", types.SimpleNamespace(com_error=ComError))


@pytest.mark.usefixtures("com")
@pytest.mark.parametrize(
    ("written", "started"),
    [
        ("QHY600M", "ASCOM.QHYCCD.Camera"),
        ("asi camera", "ASCOM.ASICamera2.Camera"),
        ("ascom.simulator.camera", "ASCOM.Simulator.Camera"),
        ("Of.Com.Alone", "Of.Com.Alone"),
    ],
)
def test_ascom_starts_the_driver_of_a_name(written: str, started: str) -> None:
    with pytest.raises(DeviceError, match=f"<{started}>"):
        open_ascom_camera(written)


@pytest.mark.usefixtures("com")
@pytest.mark.parametrize(("written", "fits"), [("QHY60OM", "no driver has this name"), ("i", "2 drivers fit")])
def test_ascom_lists_its_drivers_where_a_name_is_not_one(written: str, fits: str) -> None:
    with pytest.raises(DeviceError, match=rf"{fits}.*ASCOM\.QHYCCD\.Camera \(QHY600M\)"):
        open_ascom_camera(written)
