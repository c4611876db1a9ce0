"""`ostcal coverage`: exit codes, tables, the plan, the document."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from ostcal.cli.document import json_schema
from ostcal.config.capture_plan import load_capture_plan
from support.fits_samples import frame_values, write_frame
from support.folders import ROOT
from support.night import Outcome, ostcal

VALIDATOR = jsonschema_rs.validator_for(json_schema())
SETTINGS = {"INSTRUME": "Synthetic", "GAIN": 100, "OFFSET": 30, "SET_TEMP": -10.0, "CCD_TEMP": -10.0}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with lights of L and R, a library that has no flat of R, and a configuration."""
    (tmp_path / "lights").mkdir()
    (tmp_path / "masters").mkdir()
    when = {"DATE_OBS": "2026-03-10T20:00:00", **SETTINGS}
    for name, filter_name in (("l1", "L"), ("l2", "L"), ("r1", "R")):
        cards = {"IMAGETYP": "Light Frame", "EXPTIME": 60.0, "FILTER": filter_name, **when}
        write_frame(tmp_path / "lights" / f"{name}.fits", frame_values(), **cards)
    for kind, cards in (
        ("Bias", {"EXPTIME": 0.001}),
        ("Dark", {"EXPTIME": 60.0}),
        ("Flat", {"EXPTIME": 2.0, "FILTER": "L"}),
    ):
        own = {"IMAGETYP": f"Master {kind}", "DATE": "2026-03-09T12:00:00", **when, **cards}
        write_frame(tmp_path / "masters" / f"master_{kind.lower()}.fits", frame_values(), **own)
    config = {"master_frames": {"output_dir": str(tmp_path / "masters")}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    return tmp_path


def coverage(place: Path, *options: str | Path, lights: str = "lights") -> Outcome:
    return ostcal("coverage", place / lights, "--config", place / "c.yaml", *options)


def document(outcome: Outcome) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(outcome.stdout)
    VALIDATOR.validate(values)
    assert values["exit_code"] == outcome.exit_code
    return values


def test_all_covered_ends_with_0(place: Path) -> None:
    (place / "lights" / "r1.fits").unlink()
    outcome = coverage(place)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "all 2 lights are covered" in outcome.stdout
    values = document(coverage(place, "--json"))
    assert values["ending"] == "success"
    assert values["coverage"]["is_covered"]
    assert values["coverage"]["frames_to_take"] == []


def test_what_is_missing_ends_with_3_and_the_reason_of_calibrate(place: Path) -> None:
    outcome = coverage(place)
    assert outcome.exit_code == 3
    refused = ostcal("calibrate", place / "lights" / "r1.fits", "--config", place / "c.yaml")
    (reason,) = re.findall(r"no master flat fits.*", refused.stderr)
    assert reason in outcome.stdout
    assert "MISSING" in outcome.stdout
    values = document(coverage(place, "--json"))
    assert values["ending"] == "lacking"
    (series,) = values["coverage"]["frames_to_take"]
    assert (series["kind"], series["filter"], series["frames"], series["exposure_time_s"]) == ("flat", "R", 40, None)
    (missing,) = [g for g in values["coverage"]["groups"] if g["flat"]["state"] == "missing"]
    assert reason == missing["flat"]["reason"]


def test_a_file_that_cannot_be_used_ends_with_1_and_the_rest_is_shown(place: Path) -> None:
    (place / "lights" / "cut.fits").write_bytes((place / "lights" / "l1.fits").read_bytes()[:500])
    outcome = coverage(place)
    assert outcome.exit_code == 1
    assert "cut.fits" in outcome.stderr
    assert "MISSING" in outcome.stdout
    assert document(coverage(place, "--json"))["coverage"]["lights"] == 3


@pytest.mark.parametrize("lights", ["nothing", "masters"])
def test_no_lights_end_with_1(place: Path, lights: str) -> None:
    outcome = coverage(place, lights=lights)
    assert outcome.exit_code == 1
    assert len(outcome.stderr.splitlines()) <= 2


def test_damaged_masters_are_one_line_each(place: Path) -> None:
    (place / "masters" / "master_flat.fits").write_bytes(b"SIMPLE  = broken")
    outcome = coverage(place)
    assert outcome.exit_code == 3
    assert [line for line in outcome.stderr.splitlines() if "master_flat.fits" in line][1:] == []
    assert "master_flat.fits" in outcome.stderr


def test_tables_fit_80_columns(place: Path) -> None:
    for number in range(4):
        cards = {"IMAGETYP": "Light Frame", "EXPTIME": 1234.5, "FILTER": "SII 3nm", "READOUTM": "HighSpeed"}
        cards |= {**SETTINGS, "GAIN": 1000 + number, "DATE_OBS": "2026-03-11T20:00:00", "ROTATANG": 123.4}
        write_frame(place / "lights" / f"s{number}.fits", frame_values(), **cards)
    lines = coverage(place).stdout.splitlines()
    tables = [line for line in lines if not line.startswith(str(place))]
    assert len(tables) > 20
    assert max(len(line.rstrip()) for line in tables) <= 80
    assert not any("\u2026" in line for line in tables)
    assert sum(line.startswith("2026-03-11") for line in tables) >= 4


def test_ages_and_differences_are_those_of_all_lights(place: Path) -> None:
    for number, (hour, temperature_c) in enumerate(((8, -9.98502), (22, -11.2))):
        cards = {"IMAGETYP": "Light Frame", "EXPTIME": 60.0, "FILTER": "L", **SETTINGS}
        cards |= {"DATE_OBS": f"2026-03-10T{hour:02d}:00:00", "SET_TEMP": temperature_c, "CCD_TEMP": temperature_c}
        write_frame(place / "lights" / f"t{number}.fits", frame_values(), **cards)
    shown = coverage(place).stdout
    assert "9.98502" not in shown
    assert "-0 d" not in shown
    assert "+0 to +1.2 C" in shown


def test_the_plan_is_what_is_to_be_taken_and_replaces_nothing(place: Path) -> None:
    plan = place / "plan.yaml"
    outcome = coverage(place, "--plan", plan)
    assert outcome.exit_code == 3
    settings = {"gain": 100, "offset": 30, "binning": [1, 1], "temperature": -10}
    expected = {"series": [{"kind": "flat", "exposure": None, "count": 40, "filter": "R", **settings}]}
    assert yaml.safe_load(plan.read_text()) == expected
    plan.write_text("mine")
    refused = coverage(place, "--plan", plan)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    assert plan.read_text() == "mine"
    values = document(coverage(place, "--plan", plan, "--overwrite", "--json"))
    assert values["coverage"]["plan"] == str(plan)
    assert yaml.safe_load(plan.read_text()) == expected
    assert sorted(path.name for path in place.iterdir()) == ["c.yaml", "lights", "masters", "plan.yaml"]


def test_a_plan_is_what_capture_reads(place: Path) -> None:
    for number, cards in enumerate(({"READOUTM": "Fast"}, {"ROTATANG": 359.7}, {"SET_TEMP": None, "CCD_TEMP": 18.34})):
        own = {"IMAGETYP": "Light Frame", "EXPTIME": 0.5 + number, "FILTER": "Ha"}
        own |= {**SETTINGS, "GAIN": 7, "XBINNING": 2, "YBINNING": 2, "DATE_OBS": "2026-03-11T20:00:00", **cards}
        known = {name: value for name, value in own.items() if value is not None}
        write_frame(place / "lights" / f"s{number}.fits", frame_values(), **known)
    values = json.loads((place / "c.yaml").read_text())
    values |= {"dark_capture": {"num_darks": "auto"}, "flat_capture": {"num_flats": "auto"}}
    (place / "c.yaml").write_text(json.dumps(values))
    listed = document(coverage(place, "--plan", place / "plan.yaml", "--json"))["coverage"]["frames_to_take"]
    entries = load_capture_plan(place / "plan.yaml")
    assert len(entries) == len(listed) > 6
    for entry, series in zip(entries, listed, strict=True):
        assert (entry.kind, entry.exposure, entry.count) == (
            series["kind"],
            series["exposure_time_s"],
            series["frames"],
        )
        assert (entry.filter, entry.rotation, entry.temperature) == (
            *(series["filter"], series["rotation_deg"], series["temperature_c"]),
        )


def test_a_plan_of_covered_lights_is_empty(place: Path) -> None:
    (place / "lights" / "r1.fits").unlink()
    assert coverage(place, "--plan", place / "plan.yaml").exit_code == 0
    assert yaml.safe_load((place / "plan.yaml").read_text()) == {"series": []}


def test_a_plan_that_cannot_be_written_is_one_line(place: Path) -> None:
    outcome = coverage(place, "--plan", place / "missing" / "plan.yaml")
    assert outcome.exit_code == 1
    assert "the plan cannot be written" in outcome.stderr


def test_wrong_options_end_with_2(place: Path) -> None:
    assert ostcal("coverage", "--config", place / "c.yaml").exit_code == 2
    (place / "c.yaml").write_text("master_frames: {output_dirs: x}")
    assert coverage(place).exit_code == 2


def test_commands_of_the_page_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "c.yaml").rename(place / "night.yaml")
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\$ )?ostcal (coverage .*?)(?: \||$)", text, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert ostcal(*command.split()).exit_code == 3, command


def test_groups_that_differ_in_what_has_no_column_are_told_apart(place: Path) -> None:
    for number, telescope in enumerate(("Esprit 100", "RC 8")):
        same = {"DATE_OBS": "2026-03-10T22:00:00", "TELESCOP": telescope, "FILTER": "V", **SETTINGS}
        light = place / "lights" / f"of_{number}.fits"
        write_frame(light, frame_values(seed=number), IMAGETYP="Light", EXPTIME=60.0, **same)
        flat = place / "masters" / f"master_flat_{number}.fits"
        write_frame(flat, frame_values(seed=number), IMAGETYP="Master Flat", EXPTIME=2.0, **same)
    table = coverage(place).stdout.partition("Masters")[0]
    assert "such as" in table
    assert all(name in table for name in ("of_0", "of_1")), table
    assert all(len(line) <= 80 for line in table.splitlines())
