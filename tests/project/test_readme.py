"""Every command and Python line of the README is run and prints what it says; what the guide names exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
from astropy.io import fits

from ostcal.cli import main
from ostcal.cli.preview import preview_command
from ostcal.config import load_config
from ostcal.simulator.sensor import SENSORS
from support.folders import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
CAPTURE = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SKY_E = 40.0 * 20.0
"""Of the lights of the demo: electrons in a second in a pixel of response 1, and seconds."""
STAMP = re.compile(r"\d{8}_\d{6}")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"<!-- walk -->\n```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[tuple[str, tuple[str, ...]]]:
    """Return the commands of the walk with the lines that the README shows below each."""
    parts = [part.splitlines() for part in "".join(blocks("console")).split("$ ")[1:]]
    return [(command, tuple(shown)) for command, *shown in parts]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the walk."""

    command: str
    shown: tuple[str, ...]
    """The lines that the README shows below it."""
    printed: str


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The walk of the README, done in a folder of its own."""

    folder: Path
    steps: tuple[Step, ...]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Take the night, leave the frames that the demo leaves, and run the other commands in their order."""
    folder = tmp_path_factory.mktemp("readme")
    (text,) = blocks("yaml")
    (folder / "night.yaml").write_text(text, encoding="utf-8")
    steps = []
    for command, shown in sorted(commands(), key=lambda one: not one[0].startswith("ostcal workflow")):
        steps.append(Step(command=command, shown=shown, printed=run(shlex.split(command), folder)))
        if command.startswith("ostcal workflow"):
            run([sys.executable, str(ROOT / "scripts" / "demo_frames.py"), str(folder)], folder)
    return Walk(folder=folder, steps=tuple(steps))


def run(arguments: list[str], cwd: Path) -> str:
    if arguments[0] == "ostcal":
        arguments = [sys.executable, "-m", "ostcal", *arguments[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return STAMP.sub("STAMP", done.stdout + done.stderr)


def test_the_walk_prints_what_the_readme_shows(walk: Walk) -> None:
    words = [step.command.split()[1] for step in walk.steps]
    assert words == ["workflow", "masters", "calibrate", "export", "masters"]
    for step in walk.steps:
        for line in step.shown:
            assert STAMP.sub("STAMP", line) in step.printed, step.command


def test_the_masters_of_the_walk_are_as_near_to_the_truth_as_the_demo_asks(walk: Walk) -> None:
    printed = run([sys.executable, str(ROOT / "scripts" / "demo_night.py"), str(walk.folder)], walk.folder)
    assert printed.count("  as expected") == 10  # bias, six darks, two flats, dark current
    assert "beyond the noise 0 missed, 0 invented" in printed


@pytest.mark.parametrize(
    ("name", "change"),
    [("master_flat_*_L_*.fits", 1.001), ("master_dark_5.000s_*.fits", 1.0002), ("master_bias_*.fits", 1.0002)],
)
def test_the_demo_refuses_a_master_that_is_a_little_off(walk: Walk, tmp_path: Path, name: str, change: float) -> None:
    shutil.copy(walk.folder / "night.yaml", tmp_path)
    shutil.copytree(walk.folder / "master_frames", tmp_path / "master_frames", ignore=shutil.ignore_patterns("*.zarr"))
    (path,) = (tmp_path / "master_frames").glob(name)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data *= change
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo_night.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "NOT AS EXPECTED" in done.stdout
    assert "further from the truth than its noise allows" in done.stderr


def test_the_python_lines_run(walk: Walk) -> None:
    (code,) = blocks("python")
    assert run([sys.executable, "-c", code], walk.folder).split() == ["(900,", "1200)", "512.71", "20"]


def test_the_lines_of_the_page_about_capture_run(tmp_path: Path) -> None:
    (code,) = blocks("python", CAPTURE)
    assert "5 masters made" in run([sys.executable, "-c", code], tmp_path)


def test_the_demo_leaves_frames_and_lights_and_says_what_to_do_with_them(walk: Walk) -> None:
    script = (ROOT / "scripts" / "demo").read_text(encoding="utf-8")
    assert '"$PYTHON" scripts/demo_frames.py "$demo"' in script
    assert f'say "  {commands()[0][0]}"' in script
    lights = sorted((walk.folder / "lights").iterdir())
    assert {fits.getheader(path)["FILTER"] for path in lights} == {"L", "R"}
    sensor = SENSORS["demo"]
    for name in ("L", "R"):
        calibrated = fits.getdata(walk.folder / "calibrated" / f"M31_{name}_001_cal.fits")
        sky_adu = SKY_E * float(np.mean(sensor.response(name), dtype=np.float64)) / sensor.gain_e_per_adu
        assert np.median(calibrated) == pytest.approx(sky_adu, rel=0.002)


def test_the_demo_installs_what_the_commands_of_the_walk_need() -> None:
    (extras,) = re.findall(r"^prepare_environment '\[(.+)\]'$", (ROOT / "scripts" / "demo").read_text("utf-8"), re.M)
    needed = {"workflow": "capture", "compute.scheduler=distributed": "cluster", "s3://": "s3"}
    walked = " ".join(command for command, _ in commands())
    assert {extra for word, extra in needed.items() if word in walked} == set(extras.split(","))


def test_the_report_of_the_walk_says_what_the_readme_says_of_the_camera(walk: Walk) -> None:
    path = walk.folder / "masters" / "latest" / "report.json"
    camera = json.loads(path.read_text(encoding="utf-8"))["camera"]
    sensor = SENSORS["demo"]
    assert camera["gain_e_per_adu"] == pytest.approx(sensor.gain_e_per_adu, rel=0.002)
    assert camera["read_noise_e"] == pytest.approx(sensor.read_noise_e, rel=0.002)
    assert camera["dark_current_e_per_s"] == pytest.approx(0.300, abs=0.006)


def test_the_demo_is_the_night_of_the_readme() -> None:
    assert blocks("yaml")[0] == (ROOT / "scripts" / "demo_night.yaml").read_text(encoding="utf-8")


def test_the_two_commands_are_there_and_run_in_this_environment() -> None:
    named = sorted(set(re.findall(r"`(scripts/\w+)`", README)))
    assert named == ["scripts/demo", "scripts/test"]
    assert sys.platform == "win32" or all(os.access(ROOT / name, os.X_OK) for name in named)


def test_every_file_the_readme_names_is_there() -> None:
    targets = {target for target in re.findall(r"\]\(([^)#]+)\)", README) if not target.startswith("http")}
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []


def named_in(text: str) -> list[str]:
    """Return what stands in backticks, and the lines of console blocks without their prompt."""
    commands = re.findall(r"^\$ (.*)$", text, flags=re.MULTILINE)
    return commands + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def options_of(name: str, *words: str) -> dict[str, click.Parameter]:
    """Return the options of a command; a folder stands for the preview of it, and a group for the command below it."""
    is_folder = name == "FOLDER" or name.startswith("/")
    command = preview_command if is_folder else main.get_command(click.Context(main), name)
    command = command.commands[words[0]] if isinstance(command, click.Group) else command
    assert command is not None, f"there is no command {name}"
    return {option: parameter for parameter in command.params for option in parameter.opts}


def test_the_commands_of_the_guide_can_be_given() -> None:
    """Each with its options; a bare option stands for one of `ostcal workflow`."""
    given = [shlex.split(words) for words in named_in(GUIDE) if words.startswith(("ostcal ", "--"))]
    given = [words[1:] if words[0] == "ostcal" else ["workflow", *words] for words in given]
    assert {words[0] for words in given} >= {"workflow", "cameras", "simulate", "masters", "export", "config", "FOLDER"}
    for name, *words in given:
        options = options_of(name, *words)
        for option, value in pairwise([*words, ""]):
            if option.startswith("--"):
                assert option in options, f"ostcal {name} has no option {option}"
                if isinstance(choice := options[option].type, click.Choice):
                    assert value in choice.choices


def test_the_configuration_of_the_guide_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    path = tmp_path / "night.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.warnings == ()
    assert config.flat_capture.filters == ("L", "R", "G", "B")


def test_the_keys_that_the_guide_names_exist() -> None:
    named = [word for word in named_in(GUIDE) if re.fullmatch(r"[a-z_]+: \w+|[a-z]+_[a-z_]+", word)]
    keys = {word.partition(":")[0] for word in named} - {"master_frames"}  # the folder
    assert keys >= {"twilight", "export_frames", "target_count_rate"}
    for key in keys:
        assert f"`{key}`" in REFERENCE, key


def test_every_page_the_guide_links_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", GUIDE)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
