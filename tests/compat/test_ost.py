"""The names of the OST scripts, and the commands of their guides with what replaces them."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import ostcal
from ostcal.cli import main
from ostcal.compat import ost
from ostcal.compat.ost import ConfigManager, MasterFrameCreator
from ostcal.config import digest, load_config
from ostcal.errors import ConfigError
from support import night as n
from support.folders import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| `python calibration/(\w+\.py) ([^`]*)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
OF_SCRIPTS = {
    "calibration_workflow.py": "workflow",
    "dark_capture_runner.py": "darks",
    "flat_capture_runner.py": "flats",
    "master_frame_runner.py": "masters",
}


def test_the_names_are_those_of_the_package() -> None:
    own = {"ConfigManager"}
    assert {name for name in ost.__all__ if getattr(ost, name) is getattr(ostcal, name, None)} == {*ost.__all__} - own
    assert dir(ost) == ost.__all__ == sorted(ost.__all__)


def test_importing_them_loads_nothing_large() -> None:
    large = {"numpy", "numba", "zarr", "astropy", "dask", "pydantic"}
    code = f"import sys, ostcal.compat.ost; print(*sorted({large} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=n.command_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_old_names_with_another_use_say_what_to_use() -> None:
    with pytest.raises(ImportError, match=r"no VideoCapture; use from ostcal import open_camera \(docs/migration.md\)"):
        importlib.import_module("ostcal.compat.ost").VideoCapture  # noqa: B018 -- looking it up is the import
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ost.nonsense


def test_a_script_of_before_makes_its_masters(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path)
    config = ConfigManager(n.write_config(night))
    config.get_master_config()["rejection_method"] = "minmax"
    assert config.get_dark_config()["output_dir"] == str(night.darks)
    assert config.get_flat_config()["output_dir"] == str(night.flats)
    assert config.get_video_config()["camera_type"] == "alpaca"
    result = MasterFrameCreator(config=config).create_all_master_frames()
    assert result.is_success, result.message
    assert {kind: len(paths) for kind, paths in result.data.items()} == {"bias": 1, "dark": 3, "flat": 1}
    made = next(iter(result.details["masters"].values()))
    assert made["n_frames"] == 7


def test_an_unchanged_configuration_is_the_same() -> None:
    assert digest(load_config(ConfigManager())) == digest(load_config(None))
    assert digest(load_config(ConfigManager(ROOT / "config_calibration_frames.yaml"))) == digest(load_config(None))


def test_wrong_configurations_are_errors_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        ConfigManager(tmp_path / "absent.yaml")
    config = ConfigManager()
    config.get_master_config()["rejection_method"] = "minmx"
    with pytest.raises(ConfigError, match="did you mean minmax"):
        MasterFrameCreator(config=config)


def test_the_example_runs() -> None:
    (test,) = doctest.DocTestFinder(recurse=False).find(ConfigManager, "ConfigManager")
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


# --- the commands ---


@pytest.mark.parametrize(("script", "options", "new"), COMMANDS)
def test_each_new_command_is_one(script: str, options: str, new: str) -> None:
    """Its name and options exist, and values of the configuration that it sets are allowed."""
    commands = [shlex.split(text)[1:] for text in re.findall(r"`(ostcal [^`]+)`", new)]
    assert OF_SCRIPTS[script] in {words[0] for words in commands} or "--bias-only" in options
    for name, *words in commands:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, [str(ROOT / "README.md") if word in ("C", "P") else word for word in words])
        if "--set" in words:
            assert n.ostcal("config", "check", *words).exit_code == 0
    assert (ROOT / "scripts" / script).is_file()


def test_every_option_of_the_old_commands_is_in_the_table() -> None:
    options = {option for _, options, _ in COMMANDS for option in re.findall(r"--[a-z-]+", options)}
    assert options == {
        "--config", "--step", "--no-confirm", "--debug", "--num-darks", "--science-exposure-time", "--bias-only",
        "--science-only", "--num-flats", "--target-count-rate", "--darks-only", "--flats-only", "--rejection-method",
        "--sigma-threshold", "--normalization-method",
    }  # fmt: skip
    assert {script for script, _, _ in COMMANDS} == set(OF_SCRIPTS)
