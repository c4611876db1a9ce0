"""The last line on the console is the command that comes next, and it can be given as it is."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from support import night as n
from support.night import Night


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.chdir(tmp_path)
    return Night(tmp_path)


def next_of(outcome: n.Outcome) -> str:
    *before, last = outcome.stderr.splitlines()
    assert not any(line.startswith("next: ") for line in before)
    assert last.startswith("next: ")
    return last.removeprefix("next: ")


def test_masters_lead_to_the_lights_beside_their_frames(night: Night) -> None:
    n.whole_night(night.root / "frames")
    n.write_frames(Path("frames", "lights of M 31"), n.dark_frames(5.0, 2), "Light Frame", 5.0)
    outcome = n.ostcal("masters", "frames", "--out", "my masters", "--no-confirm")
    assert "4 groups of frames, 0.0 MB to read" in outcome.stderr
    assert "not used: 2 light frames among the input" in outcome.stderr
    command = next_of(outcome)
    assert command == "ostcal calibrate 'frames/lights of M 31' --masters 'my masters'"
    assert n.ostcal(*shlex.split(command)[1:]).exit_code == 0


def test_lights_that_are_elsewhere_are_a_word(night: Night) -> None:
    n.write_darks(night, 5.0)
    outcome = n.ostcal("masters", "darks", "--no-confirm")
    assert next_of(outcome) == "ostcal calibrate LIGHTS --masters master_frames"
    again = n.ostcal("masters", "darks", "--no-confirm")
    assert "1 unchanged" in again.stderr
    assert next_of(again) == next_of(outcome)
    path = n.write_config(night)
    assert next_of(n.ostcal("masters", "--config", path)) == f"ostcal calibrate LIGHTS --config {path}"


def test_programs_are_told_nothing(night: Night) -> None:
    n.write_darks(night, 5.0)
    outcome = n.ostcal("masters", "darks", "--json")
    assert "next: " not in outcome.text
    assert json.loads(outcome.stdout)["exit_code"] == 0


def test_nothing_comes_after_what_failed(night: Night) -> None:
    n.write_darks(night, 5.0)
    outcome = n.ostcal("masters", "darks", "--no-confirm", "--set", "master_frames.create_master_flats=true")
    assert outcome.exit_code == 1
    assert "next: " not in outcome.stderr


def test_imported_frames_become_masters_and_exported_ones_are_looked_at(night: Night) -> None:
    n.write_frames(Path("old"), n.dark_frames(5.0), "Dark Frame", 5.0)
    assert next_of(n.ostcal("import", "old")) == "ostcal masters"
    exported = n.ostcal("export", "darks/exp_5.000s.zarr", "--to", "flats")
    assert next_of(exported) == "ostcal flats/"
    assert n.ostcal("flats/").exit_code == 0
    assert next_of(n.ostcal("masters")) == "ostcal calibrate LIGHTS --masters master_frames"


def test_darks_that_were_taken_become_masters(night: Night) -> None:
    config = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 400.0}},
        "dark_capture": {"num_darks": 3, "science_exposure_time": 4, "exposure_factors": [1], "flat_exposure_time": 4},
    }
    path = n.write_night(night.root, config, {})
    outcome = n.ostcal("darks", "--config", path, "--no-confirm")
    assert outcome.exit_code == 0, outcome.text
    assert next_of(outcome) == f"ostcal masters --config {path}"
