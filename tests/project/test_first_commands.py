"""The commands of the guide for frames that one has, and of the page of the configuration, run as they are shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ostcal.config import load_config
from support import night as n
from support.folders import ROOT


def commands_of(page: str, heading: str) -> list[list[str]]:
    """Return the commands of the first console block below a heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return [shlex.split(line.removeprefix("$ ostcal ")) for line in found[1].splitlines()]


def test_the_commands_for_frames_that_one_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "2026-11-21"
    n.whole_night(folder)
    n.write_frames(folder / "lights", n.dark_frames(5.0, 2, seed=60), "Light Frame", 5.0)
    commands = commands_of("guide.md", "Frames you have")
    assert [words[0] for words in commands] == ["/data/2026-11-21", "masters", "calibrate"]
    for words in commands:
        outcome = n.ostcal(*(word.replace("/data/", f"{tmp_path}/data/") for word in words))
        assert outcome.exit_code == 0, outcome.text
    assert len(list((tmp_path / "calibrated").glob("*.fits"))) == 2


def test_the_commands_of_the_page_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_of("configuration.md", "Where values come from")
    assert [words[1] for words in commands] == ["init", "show", "check", "schema"]
    for words in commands:
        outcome = n.ostcal(*words)
        assert outcome.exit_code == 0, outcome.text
    assert {path.name for path in tmp_path.iterdir()} == {"night.yaml", "ostcal.schema.json"}
    assert load_config("night.yaml").dark_capture.science_exposure_time == 60


def test_the_settings_of_the_page_of_the_configuration_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    text = page.partition("\n## Where values come from\n")[2].partition("\n## ")[0]
    settings = re.findall(r"`(--set [^`]+)`", text)
    variables = re.findall(r"`(OSTCAL__\w+)(?:=([^`]+))?`", text)
    assert len(settings) >= 2
    for setting in settings:
        assert n.ostcal("config", "check", *shlex.split(setting)).exit_code == 0
    for name, value in variables:
        if name != "OSTCAL__SECTION__KEY":
            monkeypatch.setenv(name, value or "north")
    assert len(variables) >= 2
    assert n.ostcal("config", "check").exit_code == 0
