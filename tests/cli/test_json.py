"""``--json``: one document on standard output, of every command and however it ends, that keeps to the schema."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
import yaml
from astropy.io import fits

from ostcal.cli import COMMANDS, main
from ostcal.cli.document import json_schema
from ostcal.redaction import without_secrets
from support import night as n
from support import quality_nights as q
from support.folders import ROOT
from support.night import Night, Outcome
from support.object_samples import fresh_bucket, write_series
from support.object_server import SECRET_KEY, credentials

VALIDATOR = jsonschema_rs.validator_for(json_schema())
NOT_FOR_PROGRAMS = {"simulate", "schema"}
"""One serves until it is ended, and makes nothing; the other prints a schema, which is JSON itself."""


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the one document of a command, which keeps to the schema and says how the command ended."""
    values: dict[str, Any] = json.loads(outcome.stdout)
    VALIDATOR.validate(values)
    assert values["exit_code"] == outcome.exit_code
    assert bool(values["errors"]) == (outcome.exit_code not in (0, 3)), values
    said = " ".join(outcome.stderr.split())
    assert [line for line in values["warnings"] if " ".join(line.split()) not in said] == []
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = n.whole_night(tmp_path_factory.mktemp("json"))
    n.write_frames(night.root / "lights", n.dark_frames(5.0, 2, seed=60), "Light Frame", 5.0)
    assert not night.run().is_error
    return night


@pytest.fixture
def night(made: Night, tmp_path: Path) -> Night:
    root = tmp_path / "night"
    shutil.copytree(made.root, root)
    return Night(root)


def test_every_command_that_makes_something_has_the_option() -> None:
    context = main.make_context("ostcal", ["--help-nothing"], resilient_parsing=True)
    for name in set(COMMANDS) - NOT_FOR_PROGRAMS:
        command = main.get_command(context, name)
        assert command is not None
        below = command.commands if isinstance(command, click.Group) else {name: command}
        for one in set(below) - NOT_FOR_PROGRAMS:
            assert "--json" in [option for parameter in below[one].params for option in parameter.opts], one


def test_masters_made_and_unchanged(night: Night) -> None:
    shutil.rmtree(night.masters)
    first = document(n.run_command(night, "--json"))
    assert {master["state"] for master in first["masters"]} == {"made"}
    assert sorted(master["kind"] for master in first["masters"]) == ["bias", "dark", "dark", "flat"]
    for master in first["masters"]:
        assert master["files"]
        assert all(Path(path).is_file() for path in master["files"])
        assert 0 <= master["age_days"] < 0.1
    assert Path(first["report"]["html"]).is_file()
    assert json.loads(Path(first["report"]["json"]).read_text(encoding="utf-8"))["verdict"] == first["verdict"]
    assert Path(first["log_file"]).is_file()
    second = document(n.run_command(night, "--json"))
    assert {master["state"] for master in second["masters"]} == {"unchanged"}
    assert second["report"] is None
    assert sorted(m["calibration_id"] for m in second["masters"]) == sorted(
        m["calibration_id"] for m in first["masters"]
    )
    assert sorted(m["files"] for m in second["masters"]) == sorted(m["files"] for m in first["masters"])


def test_a_master_that_fails_its_checks_ends_with_3_and_says_so(tmp_path: Path) -> None:
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), q.flat(q.DEMO, lamp=[3.0] * 8)], q.DEMO)
    values = document(q.run(night, "--json"))
    assert (values["exit_code"], values["ending"], values["verdict"]) == (3, "failed_quality", "fail")
    assert any("FAILED" in line for master in values["masters"] for line in master["findings"])


@pytest.mark.parametrize("command", ["calibrate", "report", "library", "verify", "import", "export", "exclude"])
def test_what_each_command_made(night: Night, command: str) -> None:
    config = n.write_config(night)
    series = night.darks / "exp_5.000s.zarr"
    if command in ("export", "exclude", "verify"):
        write_series(series, 3)
    arguments: dict[str, list[str | Path]] = {
        "calibrate": [night.root / "lights", "--config", config],
        "report": ["--config", config],
        "library": ["--config", config],
        "verify": [series, night.masters],
        "import": [night.darks, "--config", config],
        "export": [series, "--to", night.root / "exported"],
        "exclude": [series, "--frame", "1", "--why", "clouds"],
    }
    values = document(n.ostcal(command, *arguments[command], "--json"))
    assert (values["exit_code"], values["command"]) == (0, command)
    if command == "calibrate":
        assert all(Path(entry["file"]).is_file() for entry in values["calibrated"])
        assert len(values["calibrated"]) == 2
        for entry in values["calibrated"]:
            header = fits.getheader(entry["file"])
            assert {age["kind"]: age["days"] for age in entry["ages"]} == {
                kind: header[f"AGE{kind.upper()}"] for kind in ("bias", "dark", "flat")
            }
    elif command == "report":
        assert Path(values["report"]["html"]).is_file()
    elif command == "library":
        assert {master["state"] for master in values["masters"]} == {"in_library"}
        assert values["directory"] == str(night.masters)
    elif command == "verify":
        assert {entry["kind"] for entry in values["verified"]} >= {"series", "masters"}
        assert [entry["n_items"] for entry in values["verified"] if entry["kind"] == "series"] == [3]
    elif command == "import":
        assert sorted(entry["added"] for entry in values["series"]) == [7, 7, 7]
    elif command == "export":
        assert [Path(path).is_file() for path in values["files"]] == [True] * 3
    else:
        (entry,) = values["excluded"]
        assert (entry["frame"], entry["why"], entry["excluded"]) == (1, "clouds", True)


def test_excluded_frames_are_listed(night: Night) -> None:
    series = night.darks / "exp_5.000s.zarr"
    write_series(series, 3)
    assert n.ostcal("exclude", series, "--frame", "2", "--why", "door").exit_code == 0
    (entry,) = document(n.ostcal("exclude", series, "--list", "--json"))["excluded"]
    assert (entry["place"], entry["frame"], entry["why"]) == (str(series), 2, "door")


def test_captured_series_are_named_with_their_frames(tmp_path: Path) -> None:
    config = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 400}},
        "dark_capture": {"output_dir": str(tmp_path / "darks"), "num_darks": 3, "exposure_factors": [1.0]},
        "flat_capture": {"output_dir": str(tmp_path / "flats"), "num_flats": 3},
        "master_frames": {"output_dir": str(tmp_path / "masters")},
        "compute": {"workers": 1},
        "workflow": {"masters_while_exposing": False},
    }
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    for command in ("darks", "flats"):
        values = document(n.ostcal(command, "--config", path, "--no-confirm", "--json"))
        assert {entry["end"] for entry in values["series"]} == {"complete"}
        assert {(entry["frames"], entry["added"]) for entry in values["series"]} == {(3, 3)}
    values = document(n.ostcal("workflow", "--config", path, "--no-confirm", "--json"))
    assert {master["state"] for master in values["masters"]} == {"made"}


# ---- failures ----

FAILING: dict[str, list[str]] = {
    "masters": ["--no-confirm"],
    "calibrate": ["{root}/nothing"],
    "report": [],
    "library": [],
    "verify": ["{root}/nothing"],
    "import": ["{root}/nothing"],
    "export": ["{root}/nothing.zarr", "--to", "{root}/exported"],
    "exclude": ["{root}/nothing.zarr", "--frame", "1", "--why", "clouds"],
    "upload": ["{root}/nothing", "s3://bucket/nothing"],
    "download": ["s3://bucket/nothing", "{root}/nothing"],
    "darks": ["--no-confirm"],
    "flats": ["--no-confirm"],
    "workflow": ["--no-confirm"],
    "watch": ["{root}/nothing", "--once"],
    "prune": ["--keep", "1"],
}


def arguments_of(command: str, root: Path) -> list[str]:
    return [word.format(root=root) for word in FAILING[command]]


@pytest.mark.parametrize("command", FAILING)
def test_what_fails_is_a_document_with_the_reason(tmp_path: Path, command: str) -> None:
    night = Night(tmp_path)
    config = night.config()
    config["video"] = {"camera_type": "alpaca", "alpaca": {"port": 9, "reply_timeout": 1}}
    config["storage"] = {"endpoint": "http://127.0.0.1:9", "retries": 0, "timeout": 1}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    with credentials():
        outcome = n.ostcal(command, *arguments_of(command, tmp_path), "--config", path, "--json")
    values = document(outcome)
    assert (values["exit_code"], values["ending"]) == (1, "error")
    assert SECRET_KEY not in outcome.text


@pytest.mark.parametrize("command", FAILING)
def test_a_wrong_configuration_is_a_document_with_the_keys(tmp_path: Path, command: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("master_frames: {min_frames: 0, sigma_threshold: x}\n", encoding="utf-8")
    values = document(n.ostcal(command, *arguments_of(command, tmp_path), "--config", path, "--json"))
    assert (values["exit_code"], values["config_file"]) == (2, str(path))
    assert any("min_frames" in line for line in values["errors"])
    assert any("sigma_threshold" in line for line in values["errors"])


@pytest.mark.parametrize("command", FAILING)
def test_a_wrong_option_is_a_document_too(command: str) -> None:
    values = document(n.ostcal(command, "--json", "--no-such-option"))
    assert values["exit_code"] == 2
    assert "--no-such-option" in values["errors"][0]


def test_options_that_exclude_each_other_are_a_document(tmp_path: Path) -> None:
    outcome = n.run_command(Night(tmp_path), "--darks-only", "--flats-only", "--json")
    values = document(outcome)
    assert (values["exit_code"], "--darks-only" in values["errors"][0]) == (2, True)


def test_an_interrupt_ends_in_a_document(tmp_path: Path) -> None:
    config = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 1}},
        "dark_capture": {"output_dir": str(tmp_path / "darks"), "science_exposure_time": 60.0},
        "master_frames": {"output_dir": str(tmp_path / "masters")},
    }
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    words = n.command_line("darks", "--config", path, "--no-confirm", "--json")
    process = subprocess.Popen(
        words, env=n.command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "darks").glob("*.zarr")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    values = document(Outcome(exit_code=process.returncode, stdout=stdout, stderr=stderr))
    assert (values["exit_code"], values["ending"]) == (130, "interrupted")
    assert "--json" in values["errors"][-1]


# ---- secrets ----


def test_upload_and_download_name_files_and_no_secret(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "darks" / "exp_5.000s.zarr", 3)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"storage": {"endpoint": s3_endpoint}}), encoding="utf-8")
    with credentials():
        bucket = fresh_bucket(s3_endpoint)
        sent = n.ostcal("upload", "darks", f"{bucket}/darks", "--config", path, "--json")
        back = n.ostcal("download", f"{bucket}/darks", "back", "--config", path, "--json")
    for outcome in (sent, back):
        (copy,) = document(outcome)["copies"]
        assert copy["files_copied"] > 3
        assert copy["problems"] == []
        assert SECRET_KEY not in outcome.text
        assert s3_endpoint not in outcome.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@hook.example/x failed", "https://***@hook.example/x failed"),
        ("https://hook.example/x?token=abc&k=1: 500", "https://hook.example/x?*** 500"),
        ("see http://h/a#secret now", "see http://h/a#*** now"),
        ("s3://bucket/darks and me@example.org", "s3://bucket/darks and me@example.org"),
        ("https://a@b:c@host/p", "https://***@host/p"),
    ],
)
def test_addresses_keep_no_secret(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


# ---- the schema ----


def test_the_documentation_shows_this_schema() -> None:
    text = (ROOT / "docs" / "automation.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json schema\n(.*?)```", text, re.DOTALL)
    assert json.loads(shown) == json_schema(), "write the block anew with ostcal.cli.document.schema_text()"


def test_the_commands_of_the_documentation_have_these_options() -> None:
    text = (ROOT / "docs" / "automation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|ini)\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"\bostcal (\w+) ([^>|\n]*)", "\n".join(blocks))
    assert len(lines) >= 3
    context = main.make_context("ostcal", ["masters"], resilient_parsing=True)
    for name, arguments in lines:
        command = main.get_command(context, name)
        assert command is not None, name
        assert command.make_context(name, arguments.split("#")[0].split()).params["config_files"]


def test_the_schema_is_a_schema_and_refuses_what_is_wrong(night: Night) -> None:
    assert jsonschema_rs.meta.is_valid(json_schema())
    values = document(n.ostcal("library", "--config", n.write_config(night), "--json"))
    for wrong in (
        values | {"exit_code": "0"},
        values | {"ending": "good"},
        values | {"unknown": 1},
        {key: value for key, value in values.items() if key != "errors"},
        values | {"masters": [values["masters"][0] | {"name": None}]},
    ):
        assert not VALIDATOR.is_valid(wrong)


WRONG_BEFORE_ANY_COMMAND = [["nights", "--json"], ["--json"], ["--json", "masters"], ["config", "nix", "--json"]]


@pytest.mark.parametrize("arguments", WRONG_BEFORE_ANY_COMMAND)
def test_what_is_no_command_is_a_document_too(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no folder is called so
    outcome = n.ostcal(*arguments)
    assert outcome.exit_code == 2
    assert document(outcome)["errors"][0] in outcome.stderr
