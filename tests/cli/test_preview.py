"""`ostcal FOLDER` says what would be made of the frames there, what is missing and which command does it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ostcal.cli.document import json_schema
from support import night as n
from support.fits_samples import tile_compressed
from support.night import Night

VALIDATOR = jsonschema_rs.validator_for(json_schema())


def files_below(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.chdir(tmp_path)
    return Night(tmp_path)


def write_lights(night: Night, exposure_s: float, count: int = 2, folder: str = "lights", **cards: Any) -> None:
    n.write_frames(night.root / folder, n.dark_frames(exposure_s, count, seed=60), "Light Frame", exposure_s, **cards)


def preview(*arguments: str | Path) -> dict[str, Any]:
    outcome = n.ostcal(*arguments, "--json")
    values: dict[str, Any] = json.loads(outcome.stdout)
    VALIDATOR.validate(values)
    assert values["command"] == "preview"
    return values


def test_groups_and_commands_are_shown_and_nothing_is_written(night: Night) -> None:
    n.whole_night(night.root)
    write_lights(night, 5.0)
    before = files_below(night.root)
    outcome = n.ostcal(night.root)
    assert outcome.exit_code == 0
    assert files_below(night.root) == before
    for words in (("bias", "7", "0.001 s", "100", "-10 C", "28 x 20", "master"), ("dark", "7", "2 s"),
                  ("flat", "5", "2 s"), ("light", "2", "5 s")):  # fmt: skip
        assert any(all(word in line for word in words) for line in outcome.stdout.splitlines()), words
    assert "missing" not in outcome.stderr
    assert f"next: ostcal masters {night.root}\n" in outcome.stderr
    assert f"next: ostcal calibrate {night.root / 'lights'} --masters master_frames\n" in outcome.stderr


def test_its_commands_do_it_without_a_configuration(night: Night) -> None:
    n.whole_night(night.root / "a b")
    write_lights(night, 5.0, folder="a b/lights")
    commands = preview("a b")["commands"]
    assert commands == ["ostcal masters 'a b'", "ostcal calibrate 'a b/lights' --masters master_frames"]
    for command in commands:
        assert n.ostcal(*shlex.split(command)[1:]).exit_code == 0
    assert len(list((night.root / "master_frames").glob("*.fits"))) == 5
    assert len(list((night.root / "calibrated").glob("*_cal.fits"))) == 2


def test_the_document_has_the_groups(night: Night) -> None:
    n.write_bias(night)
    write_lights(night, 5.0, FILTER="L")
    values = preview(night.root)
    bias, light = values["groups"]
    assert (bias["kind"], bias["frames"], bias["gain"], bias["temperature_c"]) == ("bias", 7, 100, -10)
    assert (bias["width"], bias["height"], bias["becomes"]) == (28, 20, "master")
    assert (light["kind"], light["frames"], light["filter"], light["exposure_time_s"]) == ("light", 2, "L", 5)
    assert Path(light["first_frame"]).is_file()
    assert values["lacking"] == [
        "no darks of 5 s (gain 100, -10 C) for 2 lights; the bias alone would be subtracted",
        "no flats of filter L for 2 lights",
    ]


def test_flats_without_darks_and_bias(night: Night) -> None:
    n.write_flats(night, 2.0, FILTER="L")
    (line,) = preview(night.root)["lacking"]
    assert line.startswith("flat 2 s L 28 x 20 -10 C, 5 frames: no dark for the flat")


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"GAIN": 200}, "gain 100.0 against 200.0"),
        ({"SET_TEMP": -20.0, "CCD_TEMP": -20.0}, "temperature -10 C against -20 C"),
    ],
)
def test_darks_of_other_settings_are_named(night: Night, cards: dict[str, Any], reason: str) -> None:
    n.write_darks(night, 5.0)
    write_lights(night, 5.0, **cards)
    line = preview(night.root)["lacking"][0]
    assert line.startswith("no darks of 5 s (")
    assert reason in line


def test_darks_of_another_exposure(night: Night) -> None:
    n.whole_night(night.root)
    write_lights(night, 60.0)
    assert preview(night.root)["lacking"] == [
        "no darks of 60 s (gain 100, -10 C) for 2 lights; dark current would be scaled from 2 s, 5 s, which is less"
        " exact"
    ]


def test_flats_of_another_filter_are_none(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, FILTER="R")
    write_lights(night, 2.0, FILTER="L")
    assert preview(night.root)["lacking"] == [
        "no flats of filter L for 2 lights; those there differ: filter R against L"
    ]


def test_masters_on_disk_count(night: Night) -> None:
    n.whole_night(night.root)
    assert n.ostcal("masters", night.root, "--no-confirm").exit_code == 0
    write_lights(night, 5.0)
    values = preview("lights")
    assert values["lacking"] == []
    assert values["commands"] == ["ostcal calibrate lights --masters master_frames"]


def test_lights_alone(night: Night) -> None:
    write_lights(night, 5.0)
    outcome = n.ostcal("lights")
    assert outcome.exit_code == 0
    assert "next:" not in outcome.stderr
    assert "name their folders too" in outcome.stderr


def test_too_few_frames_and_files_of_no_kind(night: Night) -> None:
    n.write_darks(night, 5.0, n.dark_frames(5.0, 2))
    n.write_frames(night.root / "odd", n.dark_frames(1.0, 2), "Whatever", 1.0, stem="x")
    values = preview(night.root)
    assert [group["becomes"] for group in values["groups"]] == ["too few, 3 needed"]
    assert any("and 1 more: not used, its kind is not known" in line for line in values["warnings"])
    assert values["commands"] == []


def test_the_options_of_the_configuration_are_handed_on(night: Night) -> None:
    n.write_bias(night)
    Path("c.yaml").write_text("master_frames: {min_frames: 9}\n", encoding="utf-8")
    assert preview("./darks", "--config", "c.yaml")["groups"][0]["becomes"] == "too few, 9 needed"
    settings = ["--set", "master_frames.min_frames=2", "--set", "master_frames.output_dir=m"]
    assert preview("./darks", "--config", "c.yaml", *settings)["commands"] == [
        "ostcal masters ./darks --config c.yaml --out m"
    ]


def test_several_folders_and_files(night: Night) -> None:
    n.whole_night(night.root)
    (flat, *_) = sorted((night.root / "flats").iterdir())
    values = preview("./darks", flat)
    assert [(group["kind"], group["frames"]) for group in values["groups"]] == [
        ("bias", 7), ("dark", 7), ("dark", 7), ("flat", 1),
    ]  # fmt: skip


def test_compressed_files_are_not_unpacked(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    for path, frame in zip(sorted((night.darks / "exp_5.000s").iterdir()), stack, strict=True):
        tile_compressed(path.with_suffix(".fits.fz"), frame, IMAGETYP="Dark Frame", EXPTIME=5.0)
        path.unlink()
    before = files_below(night.root)
    assert [group["frames"] for group in preview("./darks")["groups"]] == [7]
    assert files_below(night.root) == before


def test_folders_without_frames_are_errors(night: Night) -> None:
    Path("empty").mkdir()
    outcome = n.ostcal("empty")
    assert outcome.exit_code == 1
    assert "No input files found in empty;" in outcome.stderr
    missing = n.ostcal("empty", "nothere")
    assert missing.exit_code == 2
    assert "nothere: there is no such folder" in missing.stderr
    assert files_below(night.root) == set()


def test_a_configuration_in_place_of_a_folder(night: Night) -> None:
    Path("night.yaml").write_text("", encoding="utf-8")
    outcome = n.ostcal("night.yaml")
    assert outcome.exit_code == 2
    assert "ostcal masters --config night.yaml" in outcome.stderr


def test_a_folder_with_the_name_of_a_command_is_given_with_its_place(night: Night) -> None:
    n.write_frames(night.root / "masters", n.bias_frames(), "Bias Frame", 0.001)
    assert preview("./masters")["groups"][0]["kind"] == "bias"
