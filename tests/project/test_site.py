"""The site of the documentation is built without a warning and without network, and has a place for everything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

import ostcal
import ostcal.compat.ccdproc
from ostcal.cli import COMMANDS
from support.folders import ROOT

pytest.importorskip("myst_nb", reason="no site: pip install 'ostcal[docs]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
NOT_SHOWN = {"__version__"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """The site as it was built."""

    folder: Path
    printed: str
    exit_code: int

    def page(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


class Resources(HTMLParser):
    """Collects what a browser would load for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        loads = tag in {"script", "img", "iframe"} or (tag == "link" and values.get("rel") == "stylesheet")
        address = values.get("href" if tag == "link" else "src")
        if loads and address:
            self.found.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build it as continuous integration does: any warning is an error, and no proxy leads out."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-n",
            "-q",
            "-d",
            folder / "trees",
            DOCS,
            folder / "html",
        ],
        cwd=ROOT,
        env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return Site(folder=folder / "html", printed=done.stdout + done.stderr, exit_code=done.returncode)


def inventory(site: Site) -> set[str]:
    """Return the names that have a place on the site."""
    packed = (site.folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode("utf-8").splitlines()}


def test_it_is_built_without_a_warning(site: Site) -> None:
    assert site.exit_code == 0, site.printed


def test_every_page_has_one_way_to_it(site: Site) -> None:
    """Sphinx warns of a page that no table of contents has; this counts that none was left out of the build."""
    pages = [path for pattern in ("*.md", "*.ipynb") for path in DOCS.rglob(pattern)]
    assert len(pages) > 40
    built = [(site.folder / path.relative_to(DOCS)).with_suffix(".html") for path in pages]
    assert [path.name for path in built if not path.is_file()] == []


def test_every_public_name_is_in_the_reference(site: Site) -> None:
    """A new name gets its line in docs/reference/api.md or docs/reference/ccdproc.md."""
    wanted = {f"ostcal.{name}" for name in set(ostcal.__all__) - NOT_SHOWN}
    wanted |= {f"ostcal.compat.ccdproc.{name}" for name in ostcal.compat.ccdproc.__all__}
    assert wanted - inventory(site) == set()


def test_every_command_is_in_the_reference_with_its_help_and_examples(site: Site) -> None:
    page = site.page("reference/cli.html")
    options = {name for name in inventory(site) if name.startswith("ostcal-")}
    for command in COMMANDS:
        assert f'id="ostcal-{command}"' in page
        assert any(name.startswith(f"ostcal-{command}") for name in options), command
    assert "ostcal FOLDER" in page
    examples = re.findall(r"<pre>(.*?)</pre>", page, flags=re.DOTALL)
    assert any("ostcal calibrate lights --masters" in re.sub(r"<[^>]+>", "", text) for text in examples)


def test_notebooks_are_executed_and_shown_with_their_results(site: Site) -> None:
    """They check their own results with `assert`, and an error ends the build."""
    for path in NOTEBOOKS:
        page = site.page(f"notebooks/{path.stem}.html")
        assert page.count('class="cell_output docutils container"') > 5, path.name
        assert 'alt="../_images/' in page, path.name  # a plot


def test_notebooks_are_stored_without_results() -> None:
    """`jupyter nbconvert --clear-output --inplace docs/notebooks/*.ipynb` takes them away."""
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert any("assert " in "".join(cell["source"]) for cell in cells)
        assert [cell["source"] for cell in cells if cell["execution_count"] or cell["outputs"]] == []


def test_search_finds_a_word_where_it_is_treated(site: Site) -> None:
    text = site.page("searchindex.js").removeprefix("Search.setIndex(").removesuffix(")")
    index = json.loads(text)
    in_text, in_titles = index["terms"]["overscan"], index["titleterms"]["overscan"]
    assert {"formats", "quality"} <= {index["docnames"][number] for number in in_text}
    assert {"cameras", "methods"} <= {index["docnames"][number] for number in in_titles}


def test_no_page_loads_anything_from_elsewhere(site: Site) -> None:
    loaded = 0
    for path in site.folder.rglob("*.html"):
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        loaded += len(resources.found)
        assert [address for address in resources.found if re.match(r"(\w+:)?//", address)] == [], path.name
    assert loaded > 40


def test_links_out_of_the_folder_lead_to_pages_of_the_site(site: Site) -> None:
    assert 'href="project/vulnerabilities.html"' in site.page("security.html")
    assert re.search(r'href="\.\./guide\.html[#"]', site.page("project/changelog.html"))
