"""What is installed is what the project says: version, dependencies, commands."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ostcal
from ostcal._version import __version__
from support.folders import ROOT

PACKAGE = ROOT / "ostcal"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
IMPORTED_EXTRAS = ("capture", "cluster", "raw", "s3")
"""Extras of packages that ostcal imports itself."""
DISTRIBUTIONS = {"alpaca": "alpyca", "pydantic_core": "pydantic", "yaml": "pyyaml"}
"""What to install for a module of another name; pydantic pins the core that it brings."""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the distributions that the package depends on, always or for an extra that it imports."""
    requirements = [*PROJECT["dependencies"]]
    for extra in IMPORTED_EXTRAS:
        requirements += EXTRAS[extra]
    requirements += [one for one in EXTRAS["notebook"] if one.startswith("xarray")]  # a kernel is not imported
    return {normalised(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def imported() -> set[str]:
    """Return the distributions whose modules the package imports, wherever in a module that stands."""
    modules: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.partition(".")[0])
    third_party = modules - set(sys.stdlib_module_names) - {"ostcal"}
    return {normalised(DISTRIBUTIONS.get(module, module)) for module in third_party}


@pytest.fixture
def installed() -> importlib.metadata.Distribution:
    """Return the metadata of the installed package, which a bare source tree does not have."""
    try:
        return importlib.metadata.distribution("ostcal")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ostcal is not installed in this environment: pip install --editable .")


def test_the_version_is_written_once(installed: importlib.metadata.Distribution) -> None:
    assert ostcal.__version__ == __version__
    assert installed.version == __version__


def test_the_changelog_has_the_version() -> None:
    assert f"## {ostcal.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_dependencies_are_what_the_package_imports() -> None:
    assert imported() == declared()


@pytest.mark.parametrize("extra", ["all", "test", "bench"])
def test_these_extras_have_all_that_is_imported(extra: str) -> None:
    own = [one for one in EXTRAS[extra] if one.startswith("ostcal[")]
    named = {name.strip() for one in own for name in one.partition("[")[2].rstrip("]").split(",")}
    assert named >= set(IMPORTED_EXTRAS)
    assert named <= set(EXTRAS)


def test_all_is_every_extra_for_users() -> None:
    assert EXTRAS["all"] == ["ostcal[capture,cluster,notebook,raw,s3]"]


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *(r for e in IMPORTED_EXTRAS for r in EXTRAS[e])])
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    assert ">=" in requirement


def test_the_command_is_the_click_group(installed: importlib.metadata.Distribution) -> None:
    (entry,) = installed.entry_points.select(group="console_scripts", name="ostcal")
    assert entry.value == "ostcal.cli:main"
    assert callable(entry.load())


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120, env=environment
    )


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("master_frame_runner", "masters"),
        ("calibration_workflow", "workflow"),
        ("dark_capture_runner", "darks"),
        ("flat_capture_runner", "flats"),
    ],
)
def test_the_runners_take_the_options_of_their_commands(script: str, name: str) -> None:
    runner = run_python(str(ROOT / "scripts" / f"{script}.py"), "--help")
    command = run_python("-c", f"from ostcal.cli import main; main(['{name}', '--help'], prog_name='ostcal')")
    assert runner.returncode == 0, runner.stderr
    assert runner.stdout == command.stdout
    assert "--config" in runner.stdout


def test_the_runner_gives_the_exit_code_of_the_command() -> None:
    assert run_python(str(ROOT / "scripts" / "master_frame_runner.py"), "--no-such-option").returncode == 2


@pytest.mark.parametrize("script", ["scripts/test", "scripts/demo", "scripts/environment.sh", ".ci/run"])
def test_shell_scripts_are_whole(script: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    checked = subprocess.run([bash, "-n", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no execute permission")
@pytest.mark.parametrize("script", ["scripts/test", "scripts/demo", ".ci/run"])
def test_commands_are_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_the_demo_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    frame = tmp_path / "darks" / "mine.fits"
    frame.parent.mkdir()
    frame.write_bytes(b"somebody's night")
    environment = {**os.environ, "OSTCAL_DEMO": str(tmp_path)}
    done = subprocess.run([bash, "scripts/demo"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "not made by scripts/demo" in done.stderr
    assert frame.read_bytes() == b"somebody's night"


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {ostcal.__version__}\n" in citation
