"""`ostcal simulate` as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from simulator_client import Client

from ostcal.cli.simulate import simulate
from ostcal.simulator.faults import FAULTS
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory

COMMAND = [sys.executable, "-c", "from ostcal.cli.simulate import simulate; simulate()"]


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give the process and the address that it says."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--no-discovery", *arguments], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.fullmatch(r"simulated observatory at (http://127\.0\.0\.1:\d+) \(\w+, \d+ x \d+\)\n", line)
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
def test_it_ends_within_two_seconds(number: signal.Signals) -> None:
    """Even while it makes a frame of 61 MP, which takes longer."""
    with process("--sensor", "qhy600m") as (running, url), Client(url).connect() as client:
        client.start(0.1)
        began_s = time.monotonic()
        running.send_signal(number)
        output, _ = running.communicate(timeout=10)
        assert time.monotonic() - began_s < 2
        assert running.returncode == 0
        assert output == "simulated observatory ended\n"


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
