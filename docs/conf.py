"""The documentation site: ``python -m sphinx -W --keep-going -n -b html docs build/docs``. It needs no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import pygments.lexers
from sphinx.application import Sphinx

from ostcal import __version__

PAGES_OF_THE_ROOT = {
    "README.md": "/index.md",
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
    "SECURITY.md": "/project/vulnerabilities.md",
}
"""Where links to pages beside this folder lead on the site."""

project = "ostcal"
author = "The ostcal developers"
project_copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "myst_nb",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
smartquotes = False  # -- is an option here

# ---- pages: the same Markdown as on GitHub ----
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# ---- notebooks: stored without outputs, executed in each build in a folder of their own; an error ends the build ----
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True
# What they call is what runs this.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

# ---- API: types stand in the docstrings; names in backticks are links where they are ours ----
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*")]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False

# ---- looks ----
html_theme = "pydata_sphinx_theme"
html_title = f"ostcal {version}"
html_logo = None
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "ostcal"},
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_prompt_text = "$ "


def lead_links_of_a_page(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Point links out of this folder, as ``../SECURITY.md``, to the page of the site."""
    for name, page in PAGES_OF_THE_ROOT.items():
        source[0] = source[0].replace(f"](../{name}", f"]({page}")


def lead_links_of_a_root_page(_app: Sphinx, _path: Path, _parent: str, content: list[str]) -> None:
    """Do the same for a page that is included from beside this folder: ``docs/guide.md`` and ``CHANGELOG.md``."""
    content[0] = content[0].replace("](docs/", "](/")
    for name, page in PAGES_OF_THE_ROOT.items():
        content[0] = content[0].replace(f"]({name}", f"]({page}")


def show_examples_as_code(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Turn what the help of a command sets line by line into text, with its indented lines as a block of code."""
    shown: list[str] = []
    for line in lines:
        text = line.removeprefix("| ")
        if not line.startswith("|   "):
            shown.append(text)
        else:
            if not shown or not shown[-1].startswith("   "):
                shown += ["", ".. code-block:: text", ""]
            shown.append(f"   {text}")
    lines[:] = shown


def setup(app: Sphinx) -> None:
    """Add what Sphinx does not know: links out of this folder, help with examples, a line of cron as plain text."""
    app.connect("source-read", lead_links_of_a_page)
    app.connect("include-read", lead_links_of_a_root_page)
    for part in ("description", "epilog"):
        app.connect(f"sphinx-click-process-{part}", show_examples_as_code)
    app.add_lexer("crontab", pygments.lexers.TextLexer)
