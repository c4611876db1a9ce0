"""`ostcal simulate` as a process of its own."""

from __future__ import annotations

import ipaddress
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
from click.testing import CliRunner

from ostcal.cli.simulate import simulate
from ostcal.simulator.faults import FAULTS, FaultRule
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.simulator_client import Client

COMMAND = [sys.executable, "-m", "ostcal", "simulate"]


@contextmanager
def process(*arguments: str, discovery: bool = False) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give the process and the address that it says."""
    command = [*COMMAND, "--port", "0", *([] if discovery else ["--no-discovery"]), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.fullmatch(r"simulated observatory at (http://[\d.]+:\d+) \(\w+, \d+ x \d+\)\n", line)
            assert found, line
            yield running, found[1]
        finally:
            running.kill()


def test_it_serves_what_its_options_say() -> None:
    options = ["--sensor", "bayer", "--time-scale", "500", "--image-element", "int32", "--gain-mode", "index"]
    options += ["--no-shutter", "--seed", "3", "--twilight", "--cover", "none", "--interface-version", "3"]
    with process(*options, "--fault", "busy-at-start:once") as (_, url), Client(url).connect() as client:
        assert client.get("sensorname") == "bayer"
        assert client.get("hasshutter") is False
        assert client.get("interfaceversion") == 3
        assert client.get("gains") == ["Low", "Standard", "High"]
        with pytest.raises(Exception, match="busy"):
            client.start(0.01)
        assert client.expose(0.01).shape == (780, 1040)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_asked_to(number: signal.Signals) -> None:
    """Even while it makes a frame of 61 MP, which takes longer."""
    with process("--sensor", "qhy600m") as (running, url), Client(url).connect() as client:
        client.start(0.1)
        running.send_signal(number)
        output, errors = running.communicate(timeout=10)
        assert running.returncode == 0
        assert output == "simulated observatory ended\n"
        assert errors == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without asking them")
def test_a_client_that_leaves_in_the_middle_of_a_request_costs_no_line() -> None:
    head = "PUT /api/v1/camera/0/gain HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"
    with process() as (running, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall(f"{head}Gain=".encode())
        with Client(url).connect() as client:
            assert client.get("interfaceversion") == 4
        running.send_signal(signal.SIGTERM)
        assert running.communicate(timeout=10) == ("simulated observatory ended\n", "")


def bound_addresses(running: subprocess.Popen[str]) -> set[tuple[str, str]]:
    """Return protocol and address of every socket on which a process listens."""
    return {
        ("tcp" if connection.type == socket.SOCK_STREAM else "udp", connection.laddr.ip)
        for connection in psutil.Process(running.pid).net_connections(kind="inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }


def test_it_listens_on_this_machine_only() -> None:
    with process(discovery=True) as (running, url):
        assert url.startswith("http://127.0.0.1:")
        bound = bound_addresses(running)
    assert ("tcp", "127.0.0.1") in bound
    assert all(ipaddress.ip_address(address).is_loopback for _, address in bound), bound


def test_it_listens_elsewhere_where_it_is_told_to() -> None:
    with process("--host", "0.0.0.0") as (running, url):
        assert url.startswith("http://0.0.0.0:")
        assert bound_addresses(running) == {("tcp", "0.0.0.0")}


def test_a_port_that_is_taken_is_one_line_and_exit_code_1() -> None:
    with SimulatedObservatory(SimulatorOptions()) as observatory:
        done = CliRunner().invoke(simulate, ["--port", str(observatory.port), "--no-discovery"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1 port {observatory.options.port or ''}")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--fault", "nonsense"], "unknown fault 'nonsense'"),
        (["--time-scale", "0"], "time scale 0.0"),
        (["--sensor", "none"], "'none'"),
    ],
)
def test_wrong_options_are_exit_code_2(arguments: list[str], word: str) -> None:
    done = CliRunner().invoke(simulate, [*arguments, "--port", "0", "--no-discovery"])
    assert done.exit_code == 2
    assert word in done.stderr


def test_help_names_every_fault() -> None:
    text = CliRunner().invoke(simulate, ["--help"]).stdout
    for name in FAULTS:
        assert re.search(rf"^  +{name} ", text, re.MULTILINE), name


def test_the_examples_of_the_help_can_be_run() -> None:
    text = CliRunner().invoke(simulate, ["--help"]).stdout
    examples = re.findall(r"^  +ostcal simulate (.+)$", text[text.index("Examples:") :], re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        context = simulate.make_context("simulate", shlex.split(example))
        SimulatorOptions(sensor=context.params["sensor"], faults=context.params["faults"])
        for fault in context.params["faults"]:
            FaultRule.parse(fault)
