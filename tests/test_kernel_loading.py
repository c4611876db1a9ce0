"""What a process loads before its first strip: numba without SciPy, and the kernel that its masters need."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def output_of(code: str, *first_on_path: Path) -> str:
    """Run Python code in a process of its own, with the kernels that are compiled already."""
    path = os.pathsep.join([*map(str, first_on_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def scipy_that_tells(tmp_path: Path) -> Path:
    """Make a package that looks like SciPy to numba, and prints where its linear algebra is loaded."""
    linalg = tmp_path / "scipy" / "linalg"
    linalg.mkdir(parents=True)
    (tmp_path / "scipy" / "__init__.py").write_text('__version__ = "1.16.0"\n')
    (linalg / "__init__.py").write_text("")
    (linalg / "cython_blas.py").write_text('print("loaded")\n')
    return tmp_path


def test_numba_asks_for_scipy_where_nobody_prevents_it(scipy_that_tells: Path) -> None:
    assert output_of("import numba.np.arraymath", scipy_that_tells) == "loaded\n"


def test_kernels_leave_out_scipy_and_others_can_still_have_it(scipy_that_tells: Path) -> None:
    code = """
        from ostcal.compiling import import_without

        import_without("scipy.linalg.cython_blas", "numba.np.arraymath")
        import numba.np.arraymath

        print("kernels are there")
        import scipy.linalg.cython_blas
    """
    assert output_of(code, scipy_that_tells) == "kernels are there\nloaded\n"


@pytest.mark.parametrize(("left_out", "module"), [("cffi", "numba.core.typing.cffi_utils"), ("jinja2", "dask.widgets")])
def test_what_a_run_can_do_without_is_left_out_and_can_still_be_had(left_out: str, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{left_out}.py").write_text("raise SystemExit('loaded')\n")
    code = f"""
        import sys
        from ostcal.compiling import import_without

        import_without("{left_out}", "{module}")
        print("{module}" in sys.modules, "{left_out}" in sys.modules)
        try:
            import {left_out}
        except SystemExit as loaded:
            print(loaded)
    """
    assert output_of(code, tmp_path) == "True False\nloaded\n"


def test_what_is_there_already_stays() -> None:
    code = """
        import sys
        import json.decoder
        from ostcal.compiling import import_without

        import_without("json", "json.encoder")
        print(sys.modules["json"].loads("1"))
    """
    assert output_of(code) == "1\n"


@pytest.mark.parametrize(("n_frames", "kernel"), [(5, "combine_words"), (40, "average_words")])
def test_the_kernel_of_the_first_strip_is_loaded_before_it(n_frames: int, kernel: str) -> None:
    code = f"""
        import numpy as np
        from memory_stack import MemoryStack
        from ostcal.engine import kernels
        from ostcal.engine.combine import combine_block
        from ostcal.engine.rejection import SigmaClip
        from ostcal.engine.tasks import MasterJob, warm_up

        frames = np.zeros(({n_frames}, 8, 9), np.uint16)
        warm_up(MasterJob(name="a", stack=MemoryStack(frames), method=SigmaClip(), sink=None))
        doors = ("combine_words", "average_words", "combine_corrected", "average_corrected")
        loaded = {{name: len(getattr(kernels, name).signatures) for name in doors}}
        combine_block(frames, MemoryStack(frames).encoding, SigmaClip().resolved({n_frames}))
        assert loaded == {{name: len(getattr(kernels, name).signatures) for name in doors}}
        print(*(name for name in doors if loaded[name]))
    """
    assert output_of(code, Path(__file__).parent) == f"{kernel}\n"
