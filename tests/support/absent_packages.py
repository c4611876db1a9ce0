"""Processes in which packages are not installed, whatever this environment has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support import night as n
from support.night import Outcome

EXTRAS = {
    "capture": ("alpaca", "ifaddr", "starlette", "uvicorn"),
    "cluster": ("distributed",),
    "notebook": ("xarray",),
    "raw": ("exifread", "rawpy"),
    "s3": ("obstore",),
}
"""Modules that an extra installs."""
ALL_EXTRAS = tuple(module for modules in EXTRAS.values() for module in modules)
BROUGHT_ALONG = (
    "anyio",
    "bokeh",
    "h11",
    "matplotlib",
    "msgpack",
    "pandas",
    "psutil",
    "requests",
    "tblib",
    "tornado",
    "urllib3",
    "zict",
)
"""Modules that come with the extras alone."""

_FINDER = '''
import sys


class WithoutAbsent:
    """A finder of this environment that does not find the absent names."""

    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return None
        return self._finder.find_spec(name, path, target)


sys.meta_path[:] = map(WithoutAbsent, sys.meta_path)
'''


def environment_without(folder: Path, modules: tuple[str, ...]) -> dict[str, str]:
    """Return an environment in which no process, nor those it starts, can import these modules."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"ABSENT = {modules!r}\n{_FINDER}", encoding="utf-8")
    environment = n.command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    return environment


def run_without(folder: Path, modules: tuple[str, ...], *words: str | Path) -> Outcome:
    """Run a command in a process without these modules, in the folder."""
    done = subprocess.run(
        n.command_line(*words),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment_without(folder / "absent", modules),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    return Outcome(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)
