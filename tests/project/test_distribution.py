"""What is published and where it runs: wheel and sdist, workflows, image, compose file, conda recipe, citation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import ostcal
from ostcal.cli import main
from ostcal.config import load_config
from support.folders import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
CONDA_NAMES = {"astropy": "astropy-base", "dask": "dask-core"}
"""Names of conda-forge without what the project does not need."""


def tool(name: str) -> str:
    """Return a command of this environment, or skip."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install 'ostcal[test]'")
    return found


def run_tool(*words: str | Path, cwd: Path = ROOT) -> None:
    done = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- wheel and sdist ----


@dataclass(frozen=True, kw_only=True)
class Built:
    """What `python -m build` leaves."""

    folder: Path
    wheel: frozenset[str]
    sdist: frozenset[str]
    """Names of the files in them."""
    metadata: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("build", reason="build is not installed: pip install 'ostcal[test]'")
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install 'ostcal[test]'")
    folder = tmp_path_factory.mktemp("dist")
    run_tool(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = frozenset(opened.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = opened.read(metadata).decode()
    with tarfile.open(sdist) as archive:
        held = frozenset(name.partition("/")[2] for name in archive.getnames())
    return Built(folder=folder, wheel=names, sdist=held, metadata=text)


def test_what_is_published_passes_the_check_of_the_registry(built: Built) -> None:
    run_tool(sys.executable, "-m", "twine", "check", "--strict", *built.folder.iterdir())


def test_the_wheel_has_the_package_whole_and_nothing_else(built: Built) -> None:
    package = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "ostcal").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {name for name in built.wheel if ".dist-info/" not in name} == package
    assert {"ostcal/py.typed", "ostcal/report/report.css", "ostcal/report/report.html.j2"} <= built.wheel


def test_the_sdist_has_all_that_the_tests_read(built: Built) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    assert {name for name in listed.splitlines() if (ROOT / name).is_file()} - built.sdist == set()


def test_the_metadata_name_the_extras_and_no_placeholder(built: Built) -> None:
    assert f"\nVersion: {ostcal.__version__}\n" in built.metadata
    assert set(re.findall(r"^Provides-Extra: (\S+)$", built.metadata, re.MULTILINE)) == set(EXTRAS)
    assert "example.com" not in built.metadata
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;]*$", built.metadata, re.MULTILINE)
    assert {"alpyca", "distributed", "starlette", "uvicorn", "ifaddr", "obstore", "rawpy"} & set(required) == set()


# ---- files for services, against their schemas ----


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("vendor.github-workflows", [str(path.relative_to(ROOT)) for path in WORKFLOWS]),
        ("vendor.dependabot", [".github/dependabot.yml"]),
        ("vendor.compose-spec", ["compose.yaml"]),
        ("vendor.citation-file-format", ["CITATION.cff"]),
        ("vendor.readthedocs", [".readthedocs.yaml"]),
    ],
)
def test_files_for_services_fit_their_schemas(schema: str, names: list[str]) -> None:
    run_tool(tool("check-jsonschema"), "--builtin-schema", schema, *names)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_the_least_rights_and_fixed_actions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] in ({"contents": "read"}, {"id-token": "write"}), name
        assert ("environment" in job) == ("id-token" in job["permissions"]), name
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def test_the_tests_run_on_three_systems_with_every_version() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"
    assert [row["python"] for row in matrix["include"]] == matrix["python"][1:-1]


# ---- image ----


def test_the_dockerfile_passes_its_linter() -> None:
    run_tool(tool("hadolint"), "Dockerfile")


def test_the_image_runs_as_nobody_special_and_copies_what_is_there() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert len(set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))) == 1, "kernels belong to one Python"
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)]
    names = {name for words in copied for name in words}
    assert names == {"pyproject.toml", "README.md", "LICENSE", "ostcal", "scripts/compile_kernels.py"}
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kept) == names
    (extras,) = re.findall(r"'\.\[(.+)\]'", DOCKERFILE)
    assert set(extras.split(",")) <= set(EXTRAS)


def test_the_services_listen_for_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_commands_of_the_services_can_be_given(tmp_path: Path) -> None:
    for name in ("simulator", "night"):
        command, *words = COMPOSE["services"][name]["command"]
        found = main.get_command(click.Context(main), command)
        assert found is not None, command
        found.make_context(command, list(words))
    path = tmp_path / "night.yaml"
    path.write_text(COMPOSE["configs"]["night"]["content"], encoding="utf-8")
    config = load_config(path)
    assert config.warnings == ()
    assert config.video.alpaca.host in COMPOSE["services"]
    assert config.master_frames.output_dir == "master_frames"  # what the page serves


@pytest.mark.slow
def test_the_kernels_of_a_first_run_are_compiled_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run_tool(sys.executable, ROOT / "scripts" / "compile_kernels.py")
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert compiled
    run_tool(sys.executable, ROOT / "scripts" / "compile_kernels.py")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled


# ---- conda ----


def test_the_recipe_is_the_base_package_of_this_version() -> None:
    text = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    assert recipe["context"]["version"] == ostcal.__version__
    wanted = {re.split(r"(?=[<>=])", one, maxsplit=1)[0]: one for one in PROJECT["dependencies"]}
    wanted = {CONDA_NAMES.get(name, name): one[len(name) :] for name, one in wanted.items()}
    has = dict(one.split(" ", 1) for one in recipe["requirements"]["run"])
    assert has.pop("python") == PROJECT["requires-python"]
    assert has == wanted
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]


# ---- the page about installing ----


def test_the_page_names_every_extra_with_what_it_brings() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", INSTALL, re.MULTILINE))
    assert set(rows) == set(EXTRAS) - {"test", "bench", "docs"}
    for extra in set(rows) - {"all"}:
        names = {re.split(r"[<>=!~\[; ]", one)[0] for one in EXTRAS[extra]}
        assert set(rows[extra].split(", ")) == names


def test_the_commands_of_the_page_are_there() -> None:
    named = re.findall(
        r"`ostcal (\w+)`|`(\w+)`(?=[,)])", INSTALL.partition("| `cluster`")[0].partition("| `capture`")[2]
    )
    commands = {name for pair in named for name in pair if name}
    assert commands == {"darks", "flats", "workflow", "capture", "schedule", "cameras"}
    shown = re.findall(r"^\$ (\w+)", INSTALL, re.MULTILINE)
    assert set(shown) == {"python", "source", "pip", "ostcal", "docker"}


def test_the_page_shows_the_commands_of_the_files_that_it_names() -> None:
    first = [line.removeprefix("#").strip() for line in DOCKERFILE.splitlines()[1:3]]
    for command in first:
        assert f"$ {command}" in INSTALL
    assert "docker compose up --build" in (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert "rattler-build build --recipe conda/recipe.yaml" in (ROOT / "conda" / "recipe.yaml").read_text("utf-8")
