"""Servers and settings with which `ostcal darks` cannot work: one line, exit code 1, in bounded time, no frame lost.

All commands run at the same time, each as a process of its own: most of what they do is to wait.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostcal.series.reader import open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.workflow import CalibrationWorkflow
from support.odd_servers import Answer, OddDevice, OddServer, Refusal, image_header, odd_camera
from support.simulator_client import SMALL

STORED = 2
"""Frames that an earlier evening left."""
WANTED = 4
EXPOSURE_S = 0.1
SERIES = "exp_0.100s.zarr"

PROCESS_S = 120.0
"""To start Python a dozen times at once on two busy cores."""
RETRIES_S = 30.0
"""Pauses between five tries: 2 + 4 + 8 + 16 s."""
REPLY_S = 10.0

Server = Callable[[ExitStack], int]
"""Starts what listens, for as long as the stack lives; gives its port."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What stands at the other end, how it is asked, and what must be said."""

    server: Server
    says: str
    """A pattern for the error line; PORT stands for the port."""
    most_s: float = 2.0
    """Beside the start of the process; a command that takes longer is ended and fails its test."""
    alpaca: Mapping[str, Any] = field(default_factory=dict)
    command: str = "darks"
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a command."""

    code: int
    output: str
    errors: str
    port: int
    folder: Path


def closed_port(_stack: ExitStack) -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def silent_port(stack: ExitStack) -> int:
    """Accept connections, as the system does for every listener, and say nothing."""
    return int(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])


class WebServer(OddServer):
    """Something that speaks HTTP and shows the same page to whatever it is asked."""

    def reply(self, method: str, path: str, values: Mapping[str, str]) -> Answer:
        return Answer(body=b"<html>Router login</html>", content_type="text/html", status=200)


def web_server(stack: ExitStack) -> int:
    return stack.enter_context(WebServer({})).port


def odd(device: OddDevice | None, name: str = "camera/0") -> Server:
    return lambda stack: stack.enter_context(OddServer({name: device or OddDevice({})})).port


def simulator(*faults: str, **options: Any) -> Server:
    def start(stack: ExitStack) -> int:
        settings = SimulatorOptions(sensor=SMALL, time_scale=50.0, seed=2, faults=faults, **options)
        return stack.enter_context(SimulatedObservatory(settings)).port

    return start


CAMERA = r"camera 0 at 127\.0\.0\.1:PORT"

CASES = {
    "nothing listens": Case(
        server=closed_port, says=r"127\.0\.0\.1:PORT: no Alpaca server answers \(.*\); start it, or"
    ),
    "a port that is silent": Case(
        server=silent_port, says=r"127\.0\.0\.1:PORT: no answer in 10 s; check host, port", most_s=REPLY_S
    ),
    "a web server that is no Alpaca server": Case(
        server=web_server, says=rf"{CAMERA}: .*Router login.*; is this an Alpaca server\?$"
    ),
    "a server without a camera": Case(
        server=odd(None, "focuser/0"), says=rf"{CAMERA}: the server has no such device; it has no camera at all"
    ),
    "another number": Case(
        server=simulator(),
        alpaca={"device_id": 3},
        says=r"camera 3 at 127\.0\.0\.1:PORT: the server has no such device; its camera numbers are 0 \(",
    ),
    "a camera that another program holds": Case(
        server=simulator("connect-refused"),
        says=rf"{CAMERA}: .*in use by another program \(ASCOM error 0x407, not connected\); end the program that",
    ),
    "no filter wheel": Case(
        server=odd(odd_camera()),
        alpaca={"filter_wheel_id": 0},
        says=r"filterwheel 0 at 127\.0\.0\.1:PORT: the server has no such device",
    ),
    "a gain outside the limits": Case(
        server=simulator(), alpaca={"gain": 1000}, says=rf"{CAMERA} .*: gain 1000 is outside 0 to 300"
    ),
    "a gain that is refused": Case(
        server=odd(odd_camera(Gain=lambda asked: 10 if asked.method == "GET" else Refusal(number=0x402, text="USB"))),
        alpaca={"gain": 20},
        says=rf"{CAMERA} \(Odd\): setting Gain to 20: USB \(ASCOM error 0x402, value not set\)",
    ),
    "an exposure outside the limits": Case(
        server=simulator(),
        command="flats",
        sections={"flat_capture": {"min_exposure": 4000.0, "max_exposure": 5000.0}},
        says=r"Simulated camera \(small\): it exposes .* to 3600 s, and 4000 s to 5000 s are wanted",
    ),
    "an exposure that is refused": Case(
        server=odd(odd_camera(HasShutter=True, StartExposure=Refusal(number=0x401, text="too long for me"))),
        says=r"StartExposure\(0\.1, False\): too long for me \(ASCOM error 0x401, invalid value\)",
        most_s=RETRIES_S,
    ),
    "garbage": Case(
        server=odd(
            odd_camera(HasShutter=True, ImageArray=Answer(body=b"\xa5" * 5000, content_type="application/imagebytes"))
        ),
        says=rf"{CAMERA} \(Odd\): downloading the image: .*no image",
        most_s=RETRIES_S,
    ),
    "60000 x 60000": Case(
        server=odd(odd_camera(HasShutter=True, ImageArray=Answer(body=image_header((60000, 60000), 8)))),
        says=rf"{CAMERA} \(Odd\): downloading the image: .*60000 x 60000",
        most_s=RETRIES_S,
    ),
    "a body cut short": Case(
        server=simulator("short"), says=rf"{CAMERA} .*: downloading the image: ", most_s=RETRIES_S
    ),
    "silence at the start of exposures": Case(
        server=simulator("silence@startexposure"),
        says=rf"{CAMERA} .*: StartExposure\(0\.1, False\): no answer in time",
        most_s=RETRIES_S + 5 * REPLY_S,
    ),
    "silence in the middle of every image": Case(
        server=simulator("silence"),
        alpaca={"silence_timeout": 1.0},
        says=rf"{CAMERA} .*: downloading the image: no answer in time",
        most_s=RETRIES_S + 5 * 1.0,
    ),
}

SILENT_ONCE = Case(server=simulator("silence:once"), says="", most_s=60.0)
"""What the longest silence costs that is still waited for; not an error."""


def earlier_evening(folder: Path) -> None:
    """Leave two darks, taken with other noise than those of the test."""
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=50.0, seed=1)) as observatory:
        statuses = CalibrationWorkflow(config(folder, observatory.port, STORED)).run("darks")
    assert not statuses["darks"].is_error, statuses


def config(folder: Path, port: int, n_frames: int) -> dict[str, dict[str, Any]]:
    """Return a configuration with one series of darks."""
    return {
        "dark_capture": {
            "num_darks": n_frames,
            "min_exposure": EXPOSURE_S,
            "flat_exposure_time": EXPOSURE_S,
            "science_exposure_time": EXPOSURE_S,
            "exposure_factors": [1.0],
            "output_dir": str(folder / "darks"),
        },
        "flat_capture": {"output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters")},
        "video": {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": port}},
    }


def run_case(case: Case, port: int, folder: Path) -> Ended:
    values = config(folder, port, WANTED)
    values["video"]["alpaca"].update(case.alpaca)
    for section, keys in case.sections.items():
        values[section].update(keys)
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-m", "ostcal", case.command, "--config", str(path), "--no-confirm"]
    most_s = case.most_s + PROCESS_S
    done = subprocess.run(command, capture_output=True, text=True, timeout=most_s, check=False)
    return Ended(code=done.returncode, output=done.stdout, errors=done.stderr, port=port, folder=folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    before = tmp_path_factory.mktemp("before")
    earlier_evening(before)
    cases = {**CASES, "silence once": SILENT_ONCE}
    with ExitStack() as servers, ThreadPoolExecutor(max_workers=len(cases)) as pool:
        running = {}
        for number, (name, case) in enumerate(cases.items()):
            folder = tmp_path_factory.mktemp(f"case{number}")
            shutil.copytree(before / "darks", folder / "darks")
            running[name] = pool.submit(run_case, case, case.server(servers), folder)
        yield {name: future.result() for name, future in running.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_with_exit_code_1(name: str, ended: dict[str, Ended]) -> None:
    case, end = CASES[name], ended[name]
    assert end.code == 1, end.errors
    errors = [line for line in end.errors.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, end.errors
    assert re.search(case.says.replace("PORT", str(end.port)), errors[0]), errors[0]
    others = [line for line in end.errors.splitlines() if not line.startswith(("error: ", "warning: "))]
    assert "Traceback" not in end.output + end.errors
    assert not any("Error:" in line for line in others), end.errors


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_frames_that_were_stored_stay(name: str, ended: dict[str, Ended]) -> None:
    series = open_series(ended[name].folder / "darks" / SERIES)
    assert series.problems == ()
    assert [record.index for record in series.records] == list(range(STORED))
    for record in series.records:
        series.read_frame(record.index)
    left = sorted(path.name for path in (ended[name].folder / "darks").iterdir())
    assert left == [SERIES]
    assert list((ended[name].folder / "darks").rglob("*.partial")) == []


@pytest.mark.slow
def test_a_silence_in_the_middle_is_waited_out_and_costs_no_frame(ended: dict[str, Ended]) -> None:
    end = ended["silence once"]
    assert end.code == 0, end.errors
    warnings = [line for line in end.errors.splitlines() if line.startswith("warning: an exposure")]
    assert len(warnings) == 1, end.errors
    assert re.search(rf"127\.0\.0\.1:{end.port} .*: downloading the image: no answer in time", warnings[0])
    assert len(open_series(end.folder / "darks" / SERIES).records) == WANTED
