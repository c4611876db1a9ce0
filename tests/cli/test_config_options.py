"""Commands without a configuration, with several, with one from standard input, and with `--set`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from astropy.io import fits

from ostcal.build.api import MasterFrameCreator
from ostcal.cli import COMMANDS, main
from ostcal.vocabulary import FOUND_FILE
from support import night as n
from support.night import Night

WITHOUT = {"cameras", "simulate", "init", "schema"}
"""Commands that have nothing to configure."""


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.chdir(tmp_path)
    return n.whole_night(tmp_path)


def headers(folder: Path, kind: str) -> list[fits.Header]:
    return [fits.getheader(path) for path in sorted(folder.glob(f"master_{kind}*.fits"))]


def test_every_command_has_the_options_and_needs_none_of_them() -> None:
    context = main.make_context("ostcal", ["--help-nothing"], resilient_parsing=True)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        below = command.commands if isinstance(command, click.Group) else {name: command}
        for one in set(below) - WITHOUT:
            options = {option: parameter for parameter in below[one].params for option in parameter.opts}
            assert not options["--config"].required, one
            assert not options["--set"].required, one


# ---- masters and calibrate without a configuration ----


def test_masters_of_folders_without_a_configuration(night: Night) -> None:
    outcome = n.ostcal("masters", "darks", "flats", "--out", "m")
    assert outcome.exit_code == 0
    assert {path.name.split("_")[1] for path in Path("m").glob("*.fits")} == {"bias", "dark", "flat"}
    assert outcome.stderr.splitlines()[-2:] == ["masters: m", "next: ostcal calibrate LIGHTS --masters m"]
    assert "configuration" not in outcome.stderr
    n.write_frames(night.root / "lights", n.dark_frames(5.0, 2, seed=60), "Light Frame", 5.0)
    assert n.ostcal("calibrate", "lights", "--masters", "m", "--output-dir", "c").exit_code == 0
    assert [fits.getheader(path)["CALSTAT"] for path in Path("c").glob("*.fits")] == ["BDF", "BDF"]


def test_masters_are_written_to_master_frames_by_default(night: Night) -> None:
    outcome = n.ostcal("masters", night.root)
    assert outcome.exit_code == 0
    assert "masters: master_frames" in outcome.stderr.splitlines()
    assert len(list(Path("master_frames").glob("*.fits"))) == 5
    assert n.ostcal("masters", night.root).exit_code == 0  # its own masters are not among the frames
    assert len(list(Path("master_frames").glob("*.fits"))) == 5


def test_without_folders_those_of_the_defaults_are_read(night: Night) -> None:
    assert n.ostcal("masters", "--out", "m").exit_code == 0
    assert len(list(Path("m").glob("*.fits"))) == 5


def test_single_files_are_frames_too(night: Night) -> None:
    files = sorted((night.darks / "bias").iterdir())[:4]
    assert n.ostcal("masters", *files, "--out", "m").exit_code == 0
    assert [header["NCOMBINE"] for header in headers(Path("m"), "bias")] == [4]


def test_folders_are_instead_of_those_of_the_configuration(night: Night) -> None:
    Path("c.yaml").write_text("input: {dirs: [nothere]}\n", encoding="utf-8")
    assert n.ostcal("masters", "darks/bias", "--config", "c.yaml", "--out", "m").exit_code == 0
    assert len(list(Path("m").glob("*.fits"))) == 2  # bias, which is also the dark of its exposure


def test_input_dirs_are_read_instead_of_the_folders_of_capture(night: Night) -> None:
    Path("c.yaml").write_text(
        "input: {dirs: darks/bias}\nmaster_frames: {output_dir: m}\nflat_capture: {output_dir: flats}\n",
        encoding="utf-8",
    )
    assert n.ostcal("masters", "--config", "c.yaml").exit_code == 0
    assert {path.name.split("_")[1] for path in Path("m").glob("*.fits")} == {"bias", "dark"}


def test_input_dirs_of_all_nights(night: Night) -> None:
    for date in ("2026-11-20", "2026-11-21"):
        n.write_frames(night.root / "nights" / date, n.bias_frames(4, seed=int(date[-2:])), "Bias Frame", 0.001)
    assert n.ostcal("masters", "nights/{night}", "--out", "m").exit_code == 0
    assert [header["NCOMBINE"] for header in headers(Path("m"), "bias")] == [8]


def test_a_workflow_makes_masters_of_captured_frames_too(night: Night) -> None:
    """Otherwise the frames that were just taken would be left aside without a word."""
    (night.root / "darks" / "exp_5.000s").rename(night.root / "older")
    config = night.config() | {"input": {"dirs": [str(night.root / "older")]}}
    only_older = MasterFrameCreator(config).create_all_master_frames()
    assert [Path(path).name.split("_")[2] for path in only_older.data["dark"]] == ["5.000s"]
    both = MasterFrameCreator(config).create_all_master_frames(with_captured=True)
    assert len(both.data["dark"]) == 3
    assert len(both.data["flat"]) == 1


@pytest.mark.parametrize("words", [["nothere"], ["darks", "nothere", "neither"]])
def test_a_folder_that_is_not_there_is_an_error(night: Night, words: list[str]) -> None:
    outcome = n.ostcal("masters", *words, "--out", "m")
    missing = ", ".join(word for word in words if word != "darks")
    assert outcome.exit_code == 2
    assert outcome.stderr == f"error: {missing}: there is no such folder or file of frames (input.dirs)\n"
    assert not Path("m").exists()


def test_masters_that_are_not_there_are_an_error_before_work(night: Night) -> None:
    outcome = n.ostcal("calibrate", "darks", "--masters", "nothere")
    assert (outcome.exit_code, Path("nothere").exists()) == (1, False)
    assert (
        "error: nothere: there is no such directory of masters; make them with ostcal masters FOLDER" in outcome.stderr
    )


# ---- which configuration ----


def test_the_configuration_in_the_working_directory_is_found_and_said(night: Night) -> None:
    Path(FOUND_FILE).write_text("master_frames: {output_dir: m, rejection_method: median}\n", encoding="utf-8")
    outcome = n.ostcal("masters", "darks", "--json")
    values = json.loads(outcome.stdout)
    assert outcome.stderr.count(f"configuration: {FOUND_FILE}, found in the working directory\n") == 1
    assert (values["exit_code"], values["config_file"], values["directory"]) == (0, FOUND_FILE, "m")
    assert {header["REJTYPE"] for header in headers(Path("m"), "dark")} == {"median"}
    assert "found in the working directory" in n.ostcal("library").stderr


def test_standard_input(night: Night) -> None:
    done = subprocess.run(
        n.command_line("masters", "darks", "--config", "-", "--no-confirm"),
        input="master_frames:\n  output_dir: m\n  rejection_method: median\n",
        env=n.command_environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {header["REJTYPE"] for header in headers(Path("m"), "dark")} == {"median"}


def test_several_files_the_environment_and_set(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.yaml").write_text(
        "master_frames: {output_dir: m, rejection_method: median, min_frames: 9}\n", encoding="utf-8"
    )
    Path("b.yaml").write_text("master_frames: {rejection_method: minmax, min_frames: 8}\n", encoding="utf-8")
    monkeypatch.setenv("OSTCAL__MASTER_FRAMES__MIN_FRAMES", "7")
    words = ("masters", "darks", "--config", "a.yaml", "--config", "b.yaml")
    outcome = n.ostcal(*words)
    assert outcome.exit_code == 0
    assert {header["REJTYPE"] for header in headers(Path("m"), "dark")} == {"minmax"}
    assert (
        "configuration: a.yaml, then b.yaml, replacing master_frames.rejection_method (b.yaml, line 1)"
        in outcome.stderr
    )
    assert "configuration: the environment sets OSTCAL__MASTER_FRAMES__MIN_FRAMES\n" in outcome.stderr
    assert n.ostcal(*words, "--set", "master_frames.min_frames=9").exit_code == 1


def test_an_option_of_the_command_is_the_strongest(night: Night) -> None:
    words = ("--set", "master_frames.rejection_method=minmax", "--rejection-method", "median", "--out", "m")
    assert n.ostcal("masters", "darks", *words).exit_code == 0
    assert {header["REJTYPE"] for header in headers(Path("m"), "dark")} == {"median"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--set", "master_frames.sigma_treshold=3"], "--set: master_frames.sigma_treshold: unknown key; did you mean"),
        (["--set", "master_frames.sigma_low=x"], "--set: master_frames.sigma_low: x is not allowed; write"),
        (["--set", "nothing"], "--set nothing: write --set section.key=value"),
        (["--config", "-", "--config", "-"], "--config - is given twice; standard input can be read once"),
        (["--config", "missing.yaml"], "missing.yaml: the configuration cannot be read: "),
        (["--config", "darks"], "darks: is a folder, not a configuration; its frames are combined by: ostcal masters"),
        (["--config", "list.yaml"], "list.yaml, line 1: a list at the top level"),
        (["--config", "alike.yaml"], "alike.yaml, line 1: masters: no section has this name; did you mean master_"),
        (["--out", ""], "--out: master_frames.output_dir: '' is not allowed; write a path"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_one_line_and_exit_code_2(night: Night, words: list[str], line: str) -> None:
    Path("list.yaml").write_text("- a\n", encoding="utf-8")
    Path("alike.yaml").write_text("masters: {method: median}\n", encoding="utf-8")
    outcome = n.ostcal("masters", "darks", *words)
    assert outcome.exit_code == 2, outcome.text
    assert outcome.stderr.startswith(f"error: {line}")
    assert outcome.stderr.count("\n") == 1


def test_a_wrong_variable_of_the_environment_is_one_line(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTCAL__MASTER_FRAMES__SIGMA_TRESHOLD", "3")
    outcome = n.ostcal("masters", "darks")
    assert outcome.exit_code == 2
    assert "did you mean OSTCAL__MASTER_FRAMES__SIGMA_THRESHOLD?" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


# ---- commands that messages name ----


@pytest.mark.parametrize(
    ("words", "handed_on"),
    [
        ([], ""),
        (["--out", "a b"], " --set 'master_frames.output_dir=a b'"),
        (["--config", "c.yaml"], " --config c.yaml"),
        (["--config", "c.yaml", "--config", "d.yaml"], " --config c.yaml --config d.yaml"),
        (["--set", "master_frames.output_dir=m"], " --set master_frames.output_dir=m"),
    ],
)
def test_the_command_that_excludes_a_frame_finds_the_same_masters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], handed_on: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stack = n.dark_frames(5.0)
    stack[3] = n.flat_frames(5.0, [20000])[0]  # a flat among darks
    n.write_frames(tmp_path / "darks", stack, "Dark Frame", 5.0)
    Path("c.yaml").write_text("master_frames: {output_dir: of_c}\n", encoding="utf-8")
    Path("d.yaml").write_text("master_frames: {output_dir: of_d}\n", encoding="utf-8")
    said = n.ostcal("masters", "darks", *words).text
    found = re.search(r"(ostcal exclude \S+)(.*?) --why TEXT", said)
    assert found is not None, said
    assert found[2] == handed_on


def test_an_interrupted_capture_names_all_its_options() -> None:
    from ostcal.cli.capture import command_again, workflow_command

    words = ["--config", "a.yaml", "--config", "b.yaml", "--set", "dark_capture.num_darks=3", "--step", "darks"]
    with workflow_command.make_context("ostcal workflow", list(words)) as context:
        assert context.invoke(command_again) == f"ostcal workflow --step darks {' '.join(words[:-2])}"


# ---- help ----


def test_help_names_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    text = n.ostcal("masters", "--help").stdout
    for words in ("--config FILE", "--set SECTION.KEY=VALUE", "--out DIR", "[FOLDER]...", FOUND_FILE):
        assert words in text
    assert "--masters DIR" in n.ostcal("calibrate", "--help").stdout


def test_importing_the_options_loads_nothing_large() -> None:
    code = "import sys, ostcal.cli.config_command, ostcal.cli.preview; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=n.command_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded: Any = set(done.stdout.split())
    assert loaded & {"numpy", "numba", "zarr", "astropy", "dask", "distributed", "pydantic"} == set()
