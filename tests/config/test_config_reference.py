"""The commented YAML file and the reference page say what the models say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ostcal.config import KeyReference, SectionReference, describe_sections, digest, load_config
from support.folders import ROOT

YAML_FILE = ROOT / "config_calibration_frames.yaml"

ALL_KEYS = [(section, key) for section in describe_sections() for key in section.keys]
KEY_IDS = [".".join((*section.path, key.name)) for section, key in ALL_KEYS]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_config_reference", ROOT / "scripts" / "make_config_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["config_calibration_frames.yaml", "docs/configuration.md"])
def test_a_written_file_is_up_to_date(script: ModuleType, name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == script.files()[ROOT / name], (
        "run python scripts/make_config_reference.py"
    )


def test_the_commented_file_holds_the_defaults_without_a_warning() -> None:
    config = load_config(YAML_FILE)
    assert digest(config) == digest(load_config())
    assert config.warnings == ()


@pytest.mark.parametrize(("section", "key"), ALL_KEYS, ids=KEY_IDS)
def test_every_key_stands_in_the_commented_file_below_its_comment(section: SectionReference, key: KeyReference) -> None:
    rows = YAML_FILE.read_text(encoding="utf-8").splitlines()
    indent = "  " * len(section.path)
    start = rows.index(f"{indent[2:]}{section.path[-1]}:")
    place = rows.index(f"{indent}{key.name}: {key.default}", start)
    assert rows[place - 1].startswith(f"{indent}# ")


@pytest.mark.parametrize(("section", "key"), ALL_KEYS, ids=KEY_IDS)
def test_every_key_has_a_meaning_of_one_sentence(section: SectionReference, key: KeyReference) -> None:
    assert re.fullmatch(r"[A-Z].*\.", key.meaning)
    assert key.allowed != "keys below it"


def test_the_example_of_the_reference_page_loads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    path = tmp_path / "config.yaml"
    path.write_text(example[1], encoding="utf-8")
    masters = load_config(path).master_frames
    assert (masters.rejection_method, masters.sigma_low, masters.sigma_high) == ("winsorized_sigma_clip", 4.0, 2.7)
