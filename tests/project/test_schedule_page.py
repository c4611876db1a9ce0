"""The page of the schedule: its configuration loads, its commands run, and its service and cron line are valid."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from ostcal.cli.schedule import schedule_command
from ostcal.config import load_config
from ostcal.sun import Site
from ostcal.visit_times import Calendar, no_twilight_line, read_rule
from ostcal.workflow.schedule import Schedule
from support.folders import ROOT
from support.night import ostcal

PAGE = (ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(found) == 1, language
    return str(found[0])


def test_the_configuration_of_the_page_plans_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("night.yaml").write_text(block("yaml"), encoding="utf-8")
    assert load_config("night.yaml").schedule.when == ("dusk -6",)
    commands = [line.split("#")[0].split()[1:] for line in block("bash").splitlines()]
    known = {option for parameter in schedule_command.params for option in parameter.opts}
    assert all(word in known for words in commands for word in words if word.startswith("--"))
    assert ostcal(*commands[0]).exit_code == 0
    exec(compile(block("python").partition("\nSchedule(")[0], "page", "exec"), {})  # noqa: S102
    visits, lines = Schedule("night.yaml").coming()
    assert (len(visits), lines) == (7, [])


def test_the_service_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "ostcal-schedule.service"
    # The user of the page is not one of this computer.
    unit.write_text(block("ini").replace("User=observatory\n", ""), encoding="utf-8")
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "ostcal-schedule" in line]
    assert said == []
    unit.write_text(block("ini").replace("Restart=always", "Restart=sometimes"), encoding="utf-8")
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert "ostcal-schedule.service" in done.stderr


def test_the_cron_line_is_once_a_day_and_its_command_exists() -> None:
    fields = block("crontab").split()
    calendar = Calendar(rules=(read_rule(" ".join(fields[:5])),), zone=UTC)
    assert calendar.of_day(date(2026, 11, 29)) == (datetime(2026, 11, 29, 18, 30, tzinfo=UTC),)
    known = {option for parameter in schedule_command.params for option in parameter.opts}
    assert {word for word in fields if word.startswith("--")} <= known


def test_the_line_of_a_polar_summer_is_that_of_the_page() -> None:
    calendar = Calendar(rules=(read_rule("dusk -6"),), site=Site(latitude_deg=78.2, longitude_deg=15.6))
    day = date(2026, 6, 21)
    following = calendar.next_after(datetime(2026, 6, 21, tzinfo=UTC))
    line = f"{no_twilight_line(day, calendar.without_twilight(day))}; the next time is {following:%Y-%m-%d %H:%M} UTC"
    assert line in PAGE


def test_keys_and_rules_that_the_page_names_exist() -> None:
    keys = load_config(None)
    for section, key in re.findall(r"`(schedule|safety|flat_capture|dark_capture)\.([a-z_]+)`", PAGE):
        assert hasattr(getattr(keys, section), key), key
    table = re.findall(r"^\| `(.+?)` \|", PAGE.partition("## Times")[2].partition("## What")[0], flags=re.MULTILINE)
    rules = [yaml.safe_load(text) for text in table if "schedule" not in text]
    assert len(rules) == 4
    for rule in rules:
        read_rule(rule)
