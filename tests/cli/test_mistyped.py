"""What people type in place of a command or an option is answered with the one that is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import night as n

COMMANDS = {
    "mastres": "masters", "master": "masters", "maters": "masters", "combine": "masters", "calibate": "calibrate",
    "calibrat": "calibrate", "reduce": "calibrate", "librery": "library", "ls": "library", "dakrs": "darks",
    "dark": "darks", "bias": "darks", "flatts": "flats", "workfow": "workflow", "schedul": "schedule",
    "reprot": "report", "exlude": "exclude", "verfy": "verify", "camera": "cameras", "imprt": "import",
    "exprot": "export", "uplod": "upload", "downlaod": "download", "wacth": "watch", "coverge": "coverage",
    "confg": "config", "init": "config", "MASTERS": "masters", "simulator": "simulate", "help": "--help",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error_of(*arguments: str) -> str:
    outcome = n.ostcal(*arguments)
    assert outcome.exit_code == 2
    assert list(Path().iterdir()) == []
    return outcome.stderr.rpartition("Error: ")[2].strip()


@pytest.mark.parametrize("word", COMMANDS)
def test_a_mistyped_command_is_answered_with_the_nearest(word: str) -> None:
    assert error_of(word) == (
        f"No such command {word!r}, and no file or folder is called so. Did you mean {COMMANDS[word]}?"
    )


@pytest.mark.parametrize("word", ["xyzzy", "é", "-" + "x" * 3, "w" * 5000, ""])
def test_a_word_that_is_near_nothing(word: str) -> None:
    assert "Did you mean" not in error_of(word)


@pytest.mark.parametrize("word", ["./frames", "nights/2026", "~/frames", "dark_001.fits", "C:\\frames"])
def test_a_path_that_is_not_there_is_no_command(word: str) -> None:
    assert error_of(word) == f"{word!r}: there is no such file or folder."


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["masters", "--darks-onl"], "Did you mean --darks-only?"),
        (["masters", "--rejection_method=median"], "Did you mean --rejection-method?"),
        (["masters", "--sigma-treshold", "3"], "Did you mean --sigma-threshold?"),
        (["masters", "-config", "x.yaml"], "Did you mean --config?"),
        (["masters", "--output", "x"], "Did you mean --out?"),
        (["masters", "--min-frames", "5"], "It is a key of the configuration: --set master_frames.min_frames=VALUE"),
        (["masters", "--memory-limit=2GB"], "It is a key of the configuration: --set compute.memory_limit=VALUE"),
        (["masters", "--min_keep=2"], "It is a key of the configuration: --set master_frames.min_keep=VALUE"),
        (["calibrate", "x", "--outputdir", "y"], "Did you mean --output-dir?"),
        (["calibrate", "x", "--master", "y"], "Did you mean --masters?"),
        (["workflow", "--noconfirm"], "Did you mean --no-confirm?"),
        (["library", "--jsn"], "Did you mean --json?"),
        (["config", "show", "--change"], "Did you mean --changed?"),
        (["--config", "x.yaml", "masters"], "Options follow the command: ostcal masters --config ..."),
        (["--json", "library"], "Options follow the command: ostcal library --json ..."),
        (["--verbose"], "Options follow the command: ostcal COMMAND --verbose ..."),
    ],
)  # fmt: skip
def test_a_mistyped_option_is_answered_with_the_one_that_is_meant(arguments: list[str], hint: str) -> None:
    line = error_of(*arguments)
    assert line.startswith("No such option")
    assert line.endswith(hint)


def test_the_document_has_the_hint_too() -> None:
    outcome = n.ostcal("masters", "--json", "--min-frames", "5")
    values = json.loads(outcome.stdout)
    assert values["exit_code"] == 2
    assert "--set master_frames.min_frames=VALUE" in values["errors"][0]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("shwo", "Did you mean show?"),
        ("validate", "Did you mean check?"),
        ("new", "Did you mean init?"),
        ("CHECK", "Did you mean check?"),
        ("set", "Every command takes --set SECTION.KEY=VALUE; lasting values are written into the file."),
        ("xyzzy", "There are check, init, schema, show."),
    ],
)
def test_a_command_of_config_is_answered_too(word: str, hint: str) -> None:
    assert error_of("config", word) == f"No such command {word!r}. {hint}"
