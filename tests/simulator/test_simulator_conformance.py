"""What ConformU checks of an Alpaca server, asked of the simulated observatory, and listed in docs/simulator.md.

ConformU itself is a program for .NET; its checks were read in its source and are asked here over HTTP.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from alpaca.camera import Camera
from alpaca.covercalibrator import CoverCalibrator
from alpaca.dome import Dome
from alpaca.filterwheel import FilterWheel
from alpaca.safetymonitor import SafetyMonitor
from alpaca.telescope import Telescope

from ostcal.devices.discovery import discover
from ostcal.simulator.alpaca_device import Device, Setter, read_text
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.folders import ROOT
from support.simulator_client import SMALL, TIMEOUT_S, AlpacaError, Client

BAD_VALUE = "asduio6fg"
GOOD = {"read_bool": "True", "read_int": "0", "read_float": "0.1", "read_text": "x"}


@pytest.fixture(scope="module")
def observatory() -> Iterator[SimulatedObservatory]:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=100)) as running:
        for device in running.devices:
            Client(running.url, kind(device)).connect()
        yield running


def kind(device: Device) -> str:
    return device.identity.device_type.lower()


def base(observatory: SimulatedObservatory, device: Device) -> str:
    return f"{observatory.url}/api/v1/{kind(device)}/0"


def forms(observatory: SimulatedObservatory) -> Iterator[tuple[str, Setter, dict[str, str]]]:
    """Yield address, member and good parameters of everything that is put with parameters."""
    for device in observatory.devices:
        for method, setter in device.setters.items():
            if setter.parameters and setter.since <= device.identity.interface_version:
                form = {name: GOOD.get(read.__name__, "0") for name, read in setter.parameters}
                yield f"{base(observatory, device)}/{method}", setter, form


def refused(number: int, work: Callable[[], object]) -> None:
    with pytest.raises(AlpacaError) as caught:
        work()
    assert caught.value.number == number
    assert str(caught.value)


def any_case_in_addresses(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        for query in ("clientid=1&CLIENTTRANSACTIONID=7", "ClientID=1&ClientTransactionID=7&Extra=1"):
            answer = requests.get(f"{base(observatory, device)}/name?{query}", timeout=TIMEOUT_S)
            assert answer.json()["ClientTransactionID"] == 7


def one_case_in_forms(observatory: SimulatedObservatory) -> None:
    asked = 0
    for url, _, form in forms(observatory):
        for name in form:
            other = {key.swapcase() if key == name else key: value for key, value in form.items()}
            assert requests.put(url, data=other, timeout=TIMEOUT_S).status_code == 400, (url, name)
            asked += 1
    assert asked > 40


def bad_values(observatory: SimulatedObservatory) -> None:
    for url, setter, form in forms(observatory):
        for name, read in setter.parameters:
            if read is not read_text and read.__name__ in GOOD:
                assert requests.put(url, data={**form, name: BAD_VALUE}, timeout=TIMEOUT_S).status_code == 400, url


def missing_parameters(observatory: SimulatedObservatory) -> None:
    for url, _, form in forms(observatory):
        for name in form:
            rest = {key: value for key, value in form.items() if key != name}
            assert requests.put(url, data=rest, timeout=TIMEOUT_S).status_code == 400, (url, name)


def client_numbers(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        url = base(observatory, device)
        for name in ("ClientID", "ClientTransactionID"):
            for value in ("", "%20", "-12345", "text"):
                assert requests.get(f"{url}/name?{name}={value}", timeout=TIMEOUT_S).status_code == 400
        form = {"Connected": "True", "clientid": "1", "clienttransactionid": "7"}
        answer = requests.put(f"{url}/connected", data=form, timeout=TIMEOUT_S)
        assert (answer.status_code, answer.json()["ClientTransactionID"]) == (200, 0)


def transaction_numbers(observatory: SimulatedObservatory) -> None:
    form = {"Connected": "True", "ClientID": "4294967295", "ClientTransactionID": "4294967295"}
    for device in observatory.devices:
        url = base(observatory, device)
        first = requests.put(f"{url}/connected", data=form, timeout=TIMEOUT_S).json()
        second = requests.get(f"{url}/name?ClientTransactionID=3", timeout=TIMEOUT_S).json()
        assert (first["ClientTransactionID"], second["ClientTransactionID"]) == (4294967295, 3)
        assert second["ServerTransactionID"] > first["ServerTransactionID"] >= 1


def addresses(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        known = kind(device)
        for path, status in (
            (f"{known}/99999/name", 400),
            (f"{known}/-1/name", 404),
            (f"{known}/A/name", 404),
            (f"{known.upper()}/0/name", 404),
            (f"bad{known}/0/name", 404),
            (f"{known}/0/badmethod", 404),
            (f"{known}/0/NAME", 404),
        ):
            assert requests.get(f"{observatory.url}/api/v1/{path}", timeout=TIMEOUT_S).status_code == status, path


def verbs(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        for verb in ("POST", "DELETE"):
            assert requests.request(verb, f"{base(observatory, device)}/name", timeout=TIMEOUT_S).status_code == 405


def optional_members(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        for method, getter in device.getters.items():
            if getter.since <= device.identity.interface_version:
                answer = requests.get(f"{base(observatory, device)}/{method}", timeout=TIMEOUT_S)
                reply = answer.json()
                assert answer.status_code == 200
                assert reply["ErrorNumber"] in (0, 0x400, 0x402, 0x40B), method
                assert bool(reply["ErrorMessage"]) is bool(reply["ErrorNumber"])


def actions(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        with Client(observatory.url, kind(device)) as client:
            assert client.get("supportedactions") == []
            refused(0x40C, lambda client=client: client.put("action", Action="none", Parameters=""))
            refused(0x400, lambda client=client: client.put("commandblind", Command="x", Raw="False"))


def connecting(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        with Client(observatory.url, kind(device)) as client:
            client.put("disconnect")
            assert client.get("connected") is False
            refused(0x407, lambda client=client, device=device: client.get(needs_connection(device)))
            client.put("connect")
            client.wait("connecting", False)
            assert client.get("connected") is True
            client.put("connect")
            assert client.get("connecting") is False


def needs_connection(device: Device) -> str:
    return next(name for name, getter in sorted(device.getters.items()) if getter.needs_connection)


def device_state(observatory: SimulatedObservatory) -> None:
    for device in observatory.devices:
        with Client(observatory.url, kind(device)) as client:
            state = {item["Name"]: item["Value"] for item in client.get("devicestate")}
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", state.pop("TimeStamp"))
            assert set(state) == set(device.state())


def camera_states(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url) as camera:
        camera.put("abortexposure")
        refused(0x401, lambda: camera.start(-1.0))
        assert (camera.get("camerastate"), camera.get("imageready")) == (0, False)
        refused(0x40B, lambda: camera.get("imagearray"))
        camera.start(30.0)
        assert (camera.get("camerastate"), camera.get("imageready")) == (2, False)
        refused(0x40B, lambda: camera.start(1.0))
        camera.put("abortexposure")
        assert (camera.get("camerastate"), camera.get("imageready")) == (0, False)
        camera.start(30.0)
        camera.put("stopexposure")
        camera.wait("imageready", True)
        assert camera.get("lastexposureduration") < 30
        camera.start(0.5)
        camera.wait("imageready", True)
        assert camera.get("camerastate") == 0
        assert camera.get("percentcompleted") in (0, 100)


def ranges(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url) as camera, Client(observatory.url, "filterwheel") as wheel:
        for name, value in (("BinX", 0), ("BinY", 99), ("Gain", -1), ("ReadoutMode", 99), ("SetCCDTemperature", -300)):
            refused(0x401, lambda name=name, value=value: camera.put(name.lower(), **{name: value}))
        refused(0x401, lambda: wheel.put("position", Position=99))
        refused(0x401, lambda: wheel.put("position", Position=-1))


def moving_parts(observatory: SimulatedObservatory) -> None:
    with Client(observatory.url, "filterwheel") as wheel, Client(observatory.url, "covercalibrator") as cover:
        wheel.put("position", Position=2)
        assert wheel.get("position") == -1
        wheel.wait("position", 2)
        cover.put("closecover")
        assert cover.get("coverstate") == 2
        cover.wait("coverstate", 1)
        cover.put("calibratoron", Brightness=10)
        assert cover.get("calibratorstate") == 2
        cover.wait("calibratorstate", 3)
        refused(0x401, lambda: cover.put("calibratoron", Brightness=9999))
        cover.put("calibratoroff")
        cover.wait("calibratorstate", 1)


def management(observatory: SimulatedObservatory) -> None:
    def ask(path: str) -> object:
        reply = requests.get(f"{observatory.url}/management/{path}?ClientTransactionID=5", timeout=TIMEOUT_S).json()
        assert reply["ClientTransactionID"] == 5
        assert reply["ServerTransactionID"] >= 1
        return reply["Value"]

    assert ask("apiversions") == [1]
    described = ask("v1/description")
    assert set(described) == {"ServerName", "Manufacturer", "ManufacturerVersion", "Location"}  # type: ignore[call-overload]
    listed = ask("v1/configureddevices")
    assert isinstance(listed, list)
    assert len({one["UniqueID"] for one in listed}) == len(listed) == len(observatory.devices)


def setup_pages(observatory: SimulatedObservatory) -> None:
    for path in ("setup", *(f"setup/v1/{kind(device)}/0/setup" for device in observatory.devices)):
        answer = requests.get(f"{observatory.url}/{path}", timeout=TIMEOUT_S)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")


def free_port(family: socket.AddressFamily, host: str) -> int:
    with socket.socket(family, socket.SOCK_DGRAM) as lent:
        lent.bind((host, 0))
        return int(lent.getsockname()[1])


def found_at(host: str, port: int, *searched: str) -> None:
    options = SimulatorOptions(sensor=SMALL, host=host, discovery=True, discovery_port=port)
    with SimulatedObservatory(options) as running:
        found = [server for server in discover(1.0, port=port) if server.port == running.port]
    assert any(server.host in searched for server in found), found
    assert all(server.problem is None for server in found)
    assert len(found[0].devices) == len(running.devices)


def discovery_ipv4(_observatory: SimulatedObservatory) -> None:
    found_at("127.0.0.1", free_port(socket.AF_INET, "127.0.0.1"), "127.0.0.1")


def discovery_ipv6(_observatory: SimulatedObservatory) -> None:
    try:
        port = free_port(socket.AF_INET6, "::1")
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    found_at("::1", port, "::1")
    found_at("::", port, "::1", "127.0.0.1")


def alpyca(observatory: SimulatedObservatory) -> None:
    for device_class in (Camera, CoverCalibrator, Dome, FilterWheel, SafetyMonitor, Telescope):
        device = device_class(observatory.address, 0)
        device.Connect()
        deadline_s = time.monotonic() + TIMEOUT_S
        while device.Connecting:
            assert time.monotonic() < deadline_s
        assert device.Connected
        assert device.Name.startswith("Simulated")
        assert device.InterfaceVersion >= 2
        assert device.DeviceState
        device.rqs.close()


CHECKS: dict[str, Callable[[SimulatedObservatory], None]] = {
    "parameter names in addresses": any_case_in_addresses,
    "parameter names in forms": one_case_in_forms,
    "bad values": bad_values,
    "missing parameters": missing_parameters,
    "client numbers": client_numbers,
    "transaction numbers": transaction_numbers,
    "addresses": addresses,
    "verbs": verbs,
    "optional members": optional_members,
    "actions and commands": actions,
    "connecting": connecting,
    "DeviceState": device_state,
    "camera states": camera_states,
    "ranges": ranges,
    "moving parts": moving_parts,
    "management": management,
    "setup pages": setup_pages,
    "discovery over IPv4": discovery_ipv4,
    "discovery over IPv6": discovery_ipv6,
    "alpyca": alpyca,
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_simulator_conforms(observatory: SimulatedObservatory, name: str) -> None:
    CHECKS[name](observatory)


def test_the_documentation_lists_what_is_checked() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    section = text.split("## Conformance\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([^|]+?) \| ", section, flags=re.M)[1:] == list(CHECKS)
