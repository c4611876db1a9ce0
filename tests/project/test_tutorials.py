"""The tutorials are done as they stand: files are saved, commands run, and what a page shows is printed.

A page names a file in the last backticks before its block. The frames of the first tutorial serve the others.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ostcal.config import load_config
from support.folders import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TUTORIALS = ROOT / "docs" / "tutorials"
STAMP = re.compile(r"\d{8}_\d{6}")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
NOT_RUN = ("pip", "dask")
"""Installed already; and started in the background."""


def text_of(page: str) -> str:
    return (TUTORIALS / page).read_text(encoding="utf-8")


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    folder: Path
    port: int = 0
    """Of the scheduler, in place of the one on the page."""
    begun: list[subprocess.Popen[bytes]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def do(self, page: str) -> None:
        """Save the files of a page and run its commands, in their order."""
        text = text_of(page).replace("127.0.0.1:8786", f"127.0.0.1:{self.port}")
        for found in BLOCK.finditer(text):
            language, block = found.groups()
            if language == "console":
                self._run_all(block)
            elif language in {"python", "yaml"}:
                name = re.findall(r"`([^`\n]+)`", text[: found.start()])[-1]
                (self.folder / name).write_text(block, encoding="utf-8")

    def _run_all(self, block: str) -> None:
        for part in block.split("$ ")[1:]:
            command, *shown = part.splitlines()
            self.commands.append(command)
            words = shlex.split(command)
            if words[0] == "dask":
                self._begin(words)
            if words[0] not in NOT_RUN:
                printed = self._run(words)
                missing = [line for line in shown if line and STAMP.sub("STAMP", line) not in printed]
                assert missing == [], f"{command} printed\n{printed}"

    def _run(self, words: list[str]) -> str:
        program = [sys.executable, "-m", "ostcal"] if words[0] == "ostcal" else [sys.executable]
        done = subprocess.run(
            [*program, *words[1:]],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return STAMP.sub("STAMP", done.stdout + done.stderr)

    def _begin(self, words: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__DAEMON": "false"}
        arguments = [sys.executable, "-m", "dask", *words[1:], "--no-dashboard"]
        self.begun.append(subprocess.Popen(arguments, cwd=self.folder, env=environment, stderr=subprocess.DEVNULL))
        if words[1] == "scheduler":
            wait_for(self.port)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Do the first tutorial, whose frames the others use, and end at the close what was begun."""
    reader = Reader(folder=tmp_path_factory.mktemp("tutorials"), port=free_port())
    with ExitStack() as stack:
        reader.do("own_frames.md")
        yield reader
        for begun in reader.begun:
            begun.terminate()
            stack.callback(begun.wait)


def test_own_frames(reader: Reader) -> None:
    names = {re.sub(r"_\d{8}_\d{6}", "", path.name) for path in (reader.folder / "master_frames").glob("*.fits")}
    assert {"master_bias.fits", "master_dark_60.000s.fits", "master_flat_2.000s.fits"} <= names
    assert len(list((reader.folder / "calibrated").glob("light_60s_*_cal.fits"))) == 3
    words = [command.split()[:2] for command in reader.commands if command.startswith("ostcal")]
    assert words == [["ostcal", "2026-11-21"], ["ostcal", "masters"], ["ostcal", "calibrate"]]


def test_cluster(reader: Reader) -> None:
    pytest.importorskip("distributed", reason="no cluster: pip install 'ostcal[cluster]'")
    reader.do("cluster.md")
    assert [begun.poll() for begun in reader.begun] == [None, None]


def test_night(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="no simulated camera: pip install 'ostcal[capture]'")
    reader = Reader(folder=tmp_path)
    reader.do("night.md")
    assert len(list((tmp_path / "fits").glob("*.fits"))) == 20
    own = load_config(tmp_path / "night.yaml")  # at the end of the page: one's own camera
    assert (own.warnings, own.video.camera_type, own.video.alpaca.port) == ((), "alpaca", 11111)


def test_what_the_extras_of_the_tutorials_are_called() -> None:
    pages = sorted(path.name for path in TUTORIALS.glob("*.md") if path.name != "index.md")
    installed = {page: re.findall(r"^\$ pip install '?ostcal(?:\[(\w+)\])?'?$", text_of(page), re.M) for page in pages}
    assert installed == {
        "cluster.md": ["cluster"],
        "night.md": ["capture"],
        "notebook.md": ["notebook"],
        "own_frames.md": [""],
    }
