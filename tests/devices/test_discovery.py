"""Servers are found by broadcast, in bounded time, with their devices."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ostcal.devices.discovery import AlpacaDevice, discover, list_devices
from ostcal.devices.failures import DeviceUnreachableError, ReplyError
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.odd_servers import Answer, OddDevice, OddServer, odd_camera

WAIT_S = 0.4


@contextmanager
def responder(*answers: bytes) -> Iterator[int]:
    """Answer every question with all of `answers`, from a port of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.05)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    question, asker = listener.recvfrom(100)
                except TimeoutError:
                    continue
                if question == b"alpacadiscovery1":
                    for answer in answers:
                        listener.sendto(answer, asker)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_server_is_found_once_with_its_devices() -> None:
    devices = {"camera/0": odd_camera(), "filterwheel/1": OddDevice({})}
    with OddServer(devices) as server, responder(f'{{"AlpacaPort": {server.port}}}'.encode()) as port:
        (found,) = discover(WAIT_S, port=port)
    assert (found.host, found.port, found.name, found.problem) == ("127.0.0.1", server.port, "Odd server", None)
    assert [(each.device_type, each.device_id, each.name) for each in found.devices] == [
        ("camera", 0, "Odd camera/0"),
        ("filterwheel", 1, "Odd filterwheel/1"),
    ]


def test_two_servers_of_one_machine_are_two() -> None:
    with OddServer({"camera/0": odd_camera()}) as one, OddServer({}) as two:
        answers = (f'{{"alpacaport": "{server.port}"}}'.encode() for server in (one, two))
        with responder(*answers) as port:
            assert {found.port for found in discover(WAIT_S, port=port)} == {one.port, two.port}


def test_nobody_answers() -> None:
    with responder() as port:
        assert discover(WAIT_S, port=port) == []


def test_answers_that_make_no_sense_are_left_out() -> None:
    nonsense = [b"", b"hello", b"[]", b"{}", b'{"AlpacaPort": 0}', b'{"AlpacaPort": "x"}', b"\xff"]
    nonsense.append(b'{"AlpacaPort": 70000}')
    with OddServer({}) as server, responder(*nonsense, f'{{"AlpacaPort": {server.port}}}'.encode()) as port:
        assert [found.port for found in discover(WAIT_S, port=port)] == [server.port]


def test_a_server_that_only_answers_the_broadcast_is_listed_with_its_problem() -> None:
    silent = Answer(body=b"", claimed_length=9, silent_after=0)
    with OddServer({}, {"v1/configureddevices": silent}) as server:
        with responder(f'{{"AlpacaPort": {server.port}}}'.encode()) as port:
            (found,) = discover(WAIT_S, port=port)
        assert found.devices == ()
        assert found.problem is not None
        assert "no answer in 0.4 s" in found.problem


def test_the_simulator_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with SimulatedObservatory(SimulatorOptions(discovery=True, discovery_port=port)) as simulator:
        places = {(found.host, found.port): found for found in discover(1.0, port=port)}
        found = places["127.0.0.1", simulator.port]
    kinds = {"camera", "filterwheel", "covercalibrator", "safetymonitor", "dome", "telescope"}
    assert {each.device_type.lower() for each in found.devices} == kinds


def test_the_devices_of_one_server() -> None:
    listed = [{"DeviceName": "A\n1", "DeviceType": "Camera", "DeviceNumber": 2, "UniqueID": "u"}, "nonsense", {}]
    with OddServer({}, {"v1/configureddevices": listed}) as server:
        devices = list_devices("localhost", server.port)
        assert devices[0] == AlpacaDevice(name="A 1", device_type="Camera", device_id=2, unique_id="u")
        assert len(devices) == 2
    with pytest.raises(DeviceUnreachableError, match="no Alpaca server answers"):
        list_devices("127.0.0.1", server.port, 0.5)
    for nonsense in (7, Answer(body=b"<html>", content_type="text/html")):
        with (
            OddServer({}, {"v1/configureddevices": nonsense}) as server,
            pytest.raises(ReplyError, match="Alpaca server"),
        ):
            list_devices("127.0.0.1", server.port)
