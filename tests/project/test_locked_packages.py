"""The locked packages of the checks: each with its hashes, all that the tests ask for, and no address of a registry."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.folders import ROOT

PYTHON = {"python_version": "3.11", "sys_platform": "linux"}
FILES = sorted((ROOT / "scripts").glob("requirements-*.txt"))


def locked(path: Path) -> dict[str, str]:
    """Return the version of each package."""
    entries = re.findall(r"^([^\s#=]+)==(\S+)", path.read_text("utf-8"), re.M)
    return {canonicalize_name(name.partition("[")[0]): version for name, version in entries}


def asked_for(extra: str) -> Iterator[Requirement]:
    """Yield what an extra needs, and what the extras that it names need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    yield from map(Requirement, project["dependencies"])
    for words in project["optional-dependencies"][extra]:
        requirement = Requirement(words)
        if requirement.name == "ostcal":
            for name in requirement.extras:
                yield from asked_for(name)
        elif requirement.marker is None or requirement.marker.evaluate(PYTHON):
            yield requirement


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_package_has_hashes_and_no_address(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M))
    assert len(entries) == len(locked(path)) > 0
    assert all(re.search(r"==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


def test_they_are_all_that_the_tests_ask_for() -> None:
    """After a change of pyproject.toml the file is written again."""
    versions = locked(ROOT / "scripts" / "requirements-test.txt")
    asked = list(asked_for("test"))
    assert len(asked) > 40
    wrong = [
        str(requirement)
        for requirement in asked
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert not wrong
