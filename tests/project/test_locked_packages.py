"""The locked packages of the checks: each with its hashes, all that the tests ask for, and no address of a registry."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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


def weakness(name: str, *fixed: str) -> dict[str, object]:
    return {"id": name, "fix_versions": list(fixed), "aliases": [], "description": "x"}


AUDITED = {"name": "clean", "version": "1.0", "vulns": []}
WEAK = {"name": "weak", "version": "2.0", "vulns": [weakness("PYSEC-1", "2.1"), weakness("PYSEC-2")]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (3.0)"}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([AUDITED], 0, ["none of 1 audited packages with a known weakness"]),
        (
            [AUDITED, WEAK],
            1,
            ["weak 2.0: PYSEC-1, mended in 2.1", "PYSEC-2, mended in no version yet", "1 of 2 audited"],
        ),
        ([AUDITED, UNKNOWN], 0, ["1 of 2 packages could not be audited: unknown", "none of 1 audited packages"]),
        ([WEAK, UNKNOWN], 1, ["PYSEC-1", "1 of 2 packages could not be audited: unknown", "1 of 1 audited"]),
        ([UNKNOWN, UNKNOWN], 2, ["2 of 2 packages could not be audited: unknown, unknown", "no verdict"]),
    ],
)
def test_an_audit_names_what_was_not_audited(dependencies: list[object], code: int, said: list[str]) -> None:
    """pip-audit itself ends with "No known vulnerabilities found" where the index knows none of the packages."""
    document = json.dumps({"dependencies": dependencies, "fixes": []})
    command = [sys.executable, str(ROOT / "scripts" / "audited.py")]
    result = subprocess.run(command, input=document, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert [words for words in said if words not in result.stdout] == []
    assert ("no verdict" in result.stdout) == (code == 2)
