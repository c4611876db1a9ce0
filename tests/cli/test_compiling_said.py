"""Compiling is said before it happens, and is no time of reading; `--version` says where compiled kernels are."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from ostcal.cli.console import RunProgress
from ostcal.compiled import CompileClock, KernelCache, kernel_cache
from support import night as n

KERNEL = """
from ostcal.compiling import door

@door
def total(values):
    sum = 0.0
    for value in values:
        sum += value
    return sum
"""
"""As the kernels are made, and compiled in a second."""

SHOWN = """
import logging, sys
import numpy as np
from ostcal.cli.console import open_console, start_logging

start_logging(open_console(stderr=True), "info", debug=False)
from one_kernel import total
from ostcal.compiled import clock

for dtype in sys.argv[1:]:
    print(total(np.ones(3, dtype)), file=sys.stderr)
print(clock.seconds() > 0, clock.is_running)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one_kernel.py").write_text(KERNEL)
    return tmp_path


def run(folder: Path, code: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(folder), *sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder / "cache"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_it_is_said_before_it_happens_and_only_then(folder: Path) -> None:
    first = run(folder, SHOWN, "uint16", "uint16")
    assert re.fullmatch(r"compiling the kernels, once [^\n]*\n3.0\n3.0\n", first.stderr)
    assert first.stdout == "True False\n"
    again = run(folder, SHOWN, "uint16", "uint16")
    assert (again.stderr, again.stdout) == ("3.0\n3.0\n", "False False\n")


def test_it_is_said_for_other_samples_too(folder: Path) -> None:
    run(folder, SHOWN, "uint16")
    other = run(folder, SHOWN, "uint16", "float32")
    assert re.fullmatch(r"3.0\ncompiling the kernels, once [^\n]*\n3.0\n", other.stderr)


def test_programs_are_told_through_the_log(folder: Path) -> None:
    code = "import logging, numpy, one_kernel\nlogging.basicConfig(level='INFO')\none_kernel.total(numpy.ones(3))"
    assert run(folder, code).stderr.startswith("INFO:ostcal:compiling the kernels, once")


def test_what_cannot_be_kept_is_said_with_what_to_do(folder: Path) -> None:
    code = SHOWN.replace("from one_kernel import total", KERNEL)  # of no file
    said = run(folder, code, "uint16").stderr
    assert "in every run" in said
    assert "NUMBA_CACHE_DIR" in said


def test_a_full_disk_costs_the_compiled_code_and_a_line(folder: Path) -> None:
    pytest.importorskip("resource")
    code = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n{SHOWN}"
    for _ in range(2):
        said = run(folder, code, "uint16", "float32", PYTHONDONTWRITEBYTECODE="1").stderr
        assert said.count("3.0\n") == 2
        assert len(re.findall("warning: .*compiled kernels cannot be written there .*NUMBA_CACHE_DIR", said)) == 1
    assert not list((folder / "cache").rglob("*.tmp*"))


def test_a_kernel_that_cannot_be_compiled_stops_the_clock(folder: Path) -> None:
    code = SHOWN + textwrap.dedent("""
        import numba
        try:
            total("text", 1, 2)
        except TypeError:
            pass
        try:
            total(np.array([b"a"]))
        except numba.TypingError:
            print("refused", clock.is_running)
    """)
    assert run(folder, code, "uint16").stdout.endswith("refused False\n")


def test_progress_says_it_and_does_not_count_it() -> None:
    now = 0.0
    compiling = CompileClock(now=lambda: now)
    progress = RunProgress(Console(file=io.StringIO(), width=200), "masters", compiling, now=lambda: now)
    progress.start(10_000_000)
    progress.advance(1_000_000, "dark")
    compiling.begin(is_kept=True)
    now = 30.0
    assert progress._line("dark") == "dark: 0 %, compiling"
    compiling.end()
    now = 32.0
    progress.advance(6_000_000, "dark")
    assert progress._line("dark") == "dark: 67 %, 3 MB/s, 1 s left"


def test_the_version_says_where_compiled_kernels_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    version, place = n.ostcal("--version").stdout.splitlines()
    assert re.search(r"\d+\.\d+", version)
    assert place == f"compiled kernels: {tmp_path / 'kernels'}"


def test_the_version_says_that_they_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = KernelCache.among([tmp_path / "file" / "kernels", tmp_path / "file" / "user"])
    assert str(cache).startswith(f"{tmp_path / 'file' / 'kernels'} (not writable")


def test_a_given_place_that_cannot_be_written_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    assert str(tmp_path) not in kernel_cache().directory


@pytest.mark.parametrize("given", ["", "kernels"])
def test_the_place_is_that_of_numba(folder: Path, given: str) -> None:
    """Numba puts the files of a module into a folder of its own below NUMBA_CACHE_DIR, else beside it."""
    code = """
from ostcal.compiled import kernel_cache
from ostcal.engine.kernels.words import combine_words
print(combine_words._cache.cache_path.startswith(kernel_cache().directory))
"""
    assert run(folder, code, NUMBA_CACHE_DIR=given and str(folder / given)).stdout == "True\n"


def test_without_a_place_beside_the_program_it_is_that_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    beside, of_user = tmp_path / "file" / "__pycache__", tmp_path / "home" / ".cache" / "numba"
    assert KernelCache.among([beside, of_user]) == KernelCache(directory=str(of_user), is_writable=True)
