"""`ostcal config`: a start, the values in force with their places, a check, and the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ostcal.cli.document import json_schema
from ostcal.config import SCHEMA_FILE, Config, config_schema, digest, load_config
from ostcal.vocabulary import FOUND_FILE
from support import night as n

VALIDATOR = jsonschema_rs.validator_for(json_schema())


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def document(*arguments: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(n.ostcal("config", *arguments, "--json").stdout)
    VALIDATOR.validate(values)
    return values


# ---- init ----


@pytest.mark.parametrize("purpose", ["frames", "camera", "cluster"])
def test_what_init_writes_passes_the_check_without_a_warning(purpose: str) -> None:
    assert n.ostcal("config", "init", "--for", purpose).exit_code == 0
    outcome = n.ostcal("config", "check")
    assert (outcome.exit_code, "warning" in outcome.text) == (0, False)
    assert f"{FOUND_FILE}: no errors\n" in outcome.stderr
    config = load_config(FOUND_FILE)
    assert config.warnings == ()
    expected = {"frames": ("threads", "alpaca"), "camera": ("threads", "alpaca"), "cluster": ("distributed", "alpaca")}
    assert (config.compute.scheduler, config.video.camera_type) == expected[purpose]


def test_init_writes_the_schema_that_its_first_line_names() -> None:
    values = document("init", "sub.yaml")
    assert (values["command"], values["files"]) == ("config init", ["sub.yaml", SCHEMA_FILE])
    first = Path("sub.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert json.loads(Path(SCHEMA_FILE).read_text(encoding="utf-8")) == config_schema()


def test_init_overwrites_nothing() -> None:
    Path("night.yaml").write_text("mine", encoding="utf-8")
    outcome = n.ostcal("config", "init", "night.yaml")
    assert outcome.exit_code == 2
    assert outcome.stderr == "error: night.yaml: is there already and is not overwritten; name another file\n"
    assert [path.name for path in Path().iterdir()] == ["night.yaml"]
    assert Path("night.yaml").read_text(encoding="utf-8") == "mine"


def test_a_schema_that_is_there_stays() -> None:
    Path(SCHEMA_FILE).write_text("mine", encoding="utf-8")
    assert document("init")["files"] == [FOUND_FILE]
    assert Path(SCHEMA_FILE).read_text(encoding="utf-8") == "mine"


def test_a_place_that_cannot_be_written() -> None:
    outcome = n.ostcal("config", "init", "nowhere/night.yaml")
    assert (outcome.exit_code, outcome.stderr.count("\n")) == (1, 1)
    assert outcome.stderr.startswith("error: nowhere/night.yaml: cannot be written: ")


# ---- show ----


def test_show_has_every_key_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.yaml").write_text("\nmaster_frames:\n  n_low: 2\n  n_high: 2\n", encoding="utf-8")
    Path("b.yaml").write_text("camera: {alpaca: {host: north, usb: 3}}\n", encoding="utf-8")
    monkeypatch.setenv("OSTCAL__MASTER_FRAMES__N_HIGH", "3")
    words = ("--config", "a.yaml", "--config", "b.yaml", "--set", "compute.memory_limit=2GiB")
    values = {entry["key"]: entry for entry in document("show", *words)["values"]}
    assert values["master_frames.n_low"] == {
        "key": "master_frames.n_low", "value": 2, "source": "a.yaml", "line": 3,
    }  # fmt: skip
    assert (values["master_frames.n_high"]["value"], values["master_frames.n_high"]["source"]) == (
        3, "OSTCAL__MASTER_FRAMES__N_HIGH",
    )  # fmt: skip
    assert (values["video.alpaca.host"]["source"], values["video.alpaca.host"]["line"]) == ("b.yaml", 1)
    assert (values["compute.memory_limit"]["value"], values["compute.memory_limit"]["source"]) == ("2GiB", "--set")
    assert (values["video.alpaca.usb"]["value"], values["compute.workers"]["source"]) == ("3", "default")
    lines = n.ostcal("config", "show", *words).stdout.splitlines()
    assert len(lines) > len(values)
    assert any(line.split() == ["n_low:", "2", "#", "a.yaml,", "line", "3"] for line in lines)


def test_what_show_prints_is_a_configuration_of_the_same_values() -> None:
    Path("a.yaml").write_text(
        "master_frames: {overscan: none}\ninput: {kinds: {'a: b': dark}}\nvideo: {alpaca: {gain: '100'}}\n",
        encoding="utf-8",
    )
    printed = n.ostcal("config", "show", "--config", "a.yaml").stdout
    Path("b.yaml").write_text(printed, encoding="utf-8")
    assert digest(load_config("b.yaml")) == digest(load_config("a.yaml"))
    assert digest(load_config("b.yaml")) != digest(Config())


def test_only_what_is_given() -> None:
    outcome = n.ostcal("config", "show", "--changed", "--set", "master_frames.sigma_low=2.7")
    assert [line.split("#")[0].strip() for line in outcome.stdout.splitlines()] == ["master_frames:", "sigma_low: 2.7"]
    assert n.ostcal("config", "show", "--changed").stdout == ""


def test_secrets_are_not_shown() -> None:
    words = ("--set", "hooks.url=https://example.org/token", "--set", "hooks.command=[notify, --key=abc]")
    for text in (n.ostcal("config", "show", *words).text, json.dumps(document("show", *words))):
        assert "token" not in text
        assert "abc" not in text


# ---- check ----


def test_check_lists_all_problems() -> None:
    Path("a.yaml").write_text(
        "master_frames:\n  sigma_low: -1\n  sigma_treshold: 3\nflats: {}\ncompute: {workers: 0}\n", encoding="utf-8"
    )
    outcome = n.ostcal("config", "check", "a.yaml")
    assert outcome.exit_code == 2
    lines = outcome.stderr.removeprefix("error: ").splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"a.yaml, line {number}" for number in (2, 3, 4, 5)]
    values = document("check", "a.yaml")
    assert (values["exit_code"], values["errors"]) == (2, lines)


def test_check_counts_warnings() -> None:
    Path("a.yaml").write_text("computers: {a: 1}\nsigma_low: 3\n", encoding="utf-8")
    outcome = n.ostcal("config", "check", "a.yaml")
    assert outcome.exit_code == 0
    assert outcome.stderr.endswith("a.yaml: no errors, 2 warnings\n")


def test_check_without_a_file_is_that_of_the_defaults() -> None:
    outcome = n.ostcal("config", "check")
    assert (outcome.exit_code, outcome.stderr) == (0, "the defaults: no errors\n")


def test_check_finds_what_a_run_would_refuse() -> None:
    words = ("--set", "compute.scheduler=distributed", "--set", "compute.address=tcp://a:1")
    outcome = n.ostcal("config", "check", *words, "--set", "compute.scheduler_file=f.json")
    assert outcome.exit_code == 2
    assert "compute" in outcome.stderr


def test_check_looks_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTCAL__COMPUTE__WORKERS", "0")
    outcome = n.ostcal("config", "check")
    assert outcome.exit_code == 2
    assert "error: OSTCAL__COMPUTE__WORKERS: compute.workers: 0 is not allowed" in outcome.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "a.yaml, line 1: a list at the top level"),
        ("word\n", "a.yaml, line 1: a single value at the top level"),
        ('master_frames: {output_dir: "C:\\astro\\new"}', "a.yaml, line 1: master_frames.output_dir: "),
        ("master_frames:\n\tn_low: 3\n", "a.yaml, line 2: a tab; YAML wants spaces here"),
    ],
)
def test_files_that_are_no_configuration(text: str, line: str) -> None:
    Path("a.yaml").write_text(text, encoding="utf-8")
    outcome = n.ostcal("config", "check", "a.yaml")
    assert (outcome.exit_code, outcome.stderr.count("\n")) == (2, 1)
    assert outcome.stderr.startswith(f"error: {line}")


# ---- schema ----


def test_the_schema_is_printed_or_written() -> None:
    assert json.loads(n.ostcal("config", "schema").stdout) == config_schema()
    Path("s.json").write_text("old", encoding="utf-8")
    assert n.ostcal("config", "schema", "s.json").exit_code == 0
    assert json.loads(Path("s.json").read_text(encoding="utf-8")) == config_schema()


def test_show_takes_files_as_check_does() -> None:
    Path("a.yaml").write_text("master_frames: {min_frames: 4}\n", encoding="utf-8")
    Path("b.yaml").write_text("master_frames: {min_frames: 5}\n", encoding="utf-8")
    outcome = n.ostcal("config", "show", "a.yaml", "b.yaml", "--changed")
    assert outcome.exit_code == 0
    assert "min_frames: 5" in outcome.stdout
    assert "b.yaml, line 1" in outcome.stdout
