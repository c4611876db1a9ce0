"""Every command and every Python line of the README is run, and what it says that they print is what they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STAMP = re.compile(r"\d{8}_\d{6}")


def blocks(language: str) -> list[str]:
    return re.findall(rf"<!-- walk -->\n```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "demo"
    script = ROOT / "scripts" / "demo_night.py"
    subprocess.run([sys.executable, str(script), "write", str(folder)], check=True, capture_output=True, cwd=ROOT)
    return folder


def run(arguments: list[str], cwd: Path) -> str:
    if arguments[0] == "ostcal":
        arguments = [sys.executable, "-m", "ostcal", *arguments[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return STAMP.sub("STAMP", done.stdout + done.stderr)


def test_the_walk_prints_what_the_readme_shows(demo: Path) -> None:
    printed = ""
    ran = 0
    for line in "\n".join(blocks("console")).splitlines():
        if line.startswith("$ cd "):
            continue
        if line.startswith("$ "):
            printed = run(shlex.split(line[2:]), demo)
            ran += 1
        else:
            assert STAMP.sub("STAMP", line) in printed
    assert ran == 4


def test_the_python_lines_run(demo: Path) -> None:
    (code,) = blocks("python")
    assert "masters made" in run([sys.executable, "-c", code], demo)


def test_the_two_commands_are_there_and_run_in_this_environment() -> None:
    for name in re.findall(r"^\$ (scripts/\w+)", README, flags=re.MULTILINE):
        assert os.access(ROOT / name, os.X_OK) or sys.platform == "win32"


def test_every_file_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
