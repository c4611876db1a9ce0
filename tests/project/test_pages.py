"""The code of every page: commands can be given, configurations and plans are read, programs compile.

What a page promises beyond that is tested where its subject is, and the tutorials are done as they stand.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from ostcal.cli import COMMANDS, main
from ostcal.cli.preview import preview_command
from ostcal.config import load_config
from support.folders import ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
SHELLS = {"bash", "sh", "console", "crontab", "ini"}
LANGUAGES = SHELLS | {"yaml", "python", "json", "text", "{toctree}", "{eval-rst}", "{include}"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code."""

    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for path in PAGES:
        for fence in re.finditer(
            r"^```(\S*).*?\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            found.append(Block(page=str(path.relative_to(ROOT)), language=fence[1], text=fence[2]))
    return found


BLOCKS = blocks()


def commands() -> list[tuple[str, list[str]]]:
    """Return the commands of all blocks, up to a comment, a pipe or a redirection."""
    given = []
    for block in BLOCKS:
        if block.language in SHELLS:
            for line in block.text.replace("\\\n", " ").splitlines():
                found = re.search(r"(?:^|[ /])ostcal (?P<words>[^|>&#]+)", line)
                # Words of images, packages and services are none of ours.
                if found and not re.search(r"docker|pip install|systemctl", line):
                    given.append((block.page, shlex.split(found["words"])))
    return given


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command of some words, and its arguments; a folder in its place is previewed."""
    if words[0] not in COMMANDS:
        return preview_command, words
    command = main.get_command(click.Context(main), words[0])
    if isinstance(command, click.Group):
        return command.commands[words[1]], words[2:]
    assert command is not None
    return command, words[1:]


def test_every_block_is_of_a_language_that_is_looked_at() -> None:
    assert len(BLOCKS) > 150
    assert {block.language for block in BLOCKS} - LANGUAGES - {""} == set()


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else None)
def test_every_command_can_be_given(page: str, words: list[str]) -> None:
    if words[0].startswith("-"):
        assert words[0] in {"--help", "--version"}
        return
    command, arguments = command_of(words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h"}
    assert [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in known] == []


def test_every_configuration_and_plan_is_read(tmp_path: Path) -> None:
    read = [block for block in BLOCKS if block.language == "yaml"]
    assert len(read) > 20
    for block in read:
        path = tmp_path / "page.yaml"
        path.write_text(block.text, encoding="utf-8")
        if set(yaml.safe_load(block.text)) != {"series"}:  # a plan, which tests of `capture` read
            assert load_config(path).warnings == (), block.page


def test_commands_are_found_in_the_blocks() -> None:
    assert len(commands()) > 40
    assert {"masters", "calibrate", "workflow", "schedule", "coverage"} <= {words[0] for _, words in commands()}


def test_every_program_compiles() -> None:
    programs = [block for block in BLOCKS if block.language == "python"]
    assert len(programs) > 10
    for block in programs:
        compile(block.text, block.page, "exec")
