"""Windows paths in double quotes, in which YAML reads a backslash as an escape, are refused with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostcal.config import load_config
from ostcal.errors import ConfigError

ADVICE = "write a Windows path in single quotes"


def error_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "night.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).removeprefix(f"{path}, ")


@pytest.mark.parametrize(
    "written",
    [
        r"C:\astro\new",  # a bell and a new line
        r"C:\temp",  # a tab
        r"D:\Lights",  # a line separator
        r"D:\Pictures\raw",  # a paragraph separator
        r"E:\_old",  # a space that does not break
        r"D:\x41stro",  # YAML reads A
        r"raw\new",
        r"..\Lights",
        r"\\nas\share",
        r"C:\data",  # no escape of YAML
        r"C:\Users\anna",  # a character of eight digits
        r"C:\sky",
        r"darks\sky",
    ],
)
def test_a_path_in_double_quotes_is_refused_with_the_way_to_write_it(tmp_path: Path, written: str) -> None:
    (line,) = error_of(tmp_path, f'master_frames:\n  min_frames: 4\n  output_dir: "{written}"\n').splitlines()
    assert line.startswith("line 3: ")
    assert ADVICE in line
    assert f"'{written}'" in line
    assert written.replace("\\", "/") in line


@pytest.mark.parametrize("written", [r"C:\new\night", r"C:\data"])
def test_in_lists_too(tmp_path: Path, written: str) -> None:
    line = error_of(tmp_path, f'input:\n  dirs:\n    - here\n    - "{written}"\n')
    assert ADVICE in line
    assert f"'{written}'" in line


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"'C:\astro\new'", r"C:\astro\new"),
        (r"C:\astro\new", r"C:\astro\new"),
        (r'"C:\\astro\\new"', r"C:\astro\new"),
        ('"C:/astro/new"', "C:/astro/new"),
        (r'"caf\u00e9"', "café"),
        (r'"a \"b\""', 'a "b"'),
    ],
)
def test_ways_that_are_right(tmp_path: Path, written: str, value: str) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(f"master_frames:\n  output_dir: {written}\n", encoding="utf-8")
    assert load_config(path).master_frames.output_dir == value


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    line = error_of(tmp_path, 'hooks:\n  command: ["C:\\new\\app.exe", "--token=abc"]\n')
    assert ADVICE in line
    assert "app.exe" not in line
    assert "abc" not in line


def test_what_a_driver_gets_may_have_escapes(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text('video:\n  alpaca:\n    greeting: "a\\tb"\n', encoding="utf-8")
    assert load_config(path).video.alpaca.extras == {"greeting": "a\tb"}
