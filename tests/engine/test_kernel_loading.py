"""What a process loads before its first strip: the kernel that its masters need, and not what only compiling needs."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core import caching, runtime

import ostcal
from ostcal import compiling
from support.folders import TESTS


def output_of(code: str, *first_on_path: Path) -> str:
    """Run Python code in a process of its own, with the kernels that are compiled already."""
    path = os.pathsep.join([*map(str, first_on_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SUM_OF_ROOTS = """
    import sys
    import numpy as np
    from loaded_kernel import sum_of_roots

    print(sum_of_roots(np.array([1.0, 4.0, 9.0])), *sum_of_roots.stats.cache_hits.values())
"""


@pytest.fixture
def kernel_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a kernel that makes an array, in the disk cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "loaded_kernel.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from ostcal.compiling import door

            @door
            def sum_of_roots(values):
                roots = np.empty(len(values))
                total = 0.0
                for i in range(len(values)):
                    roots[i] = np.sqrt(values[i])
                    total += roots[i]
                return total
            """
        )
    )
    assert output_of(SUM_OF_ROOTS, tmp_path) == "6.0\n"
    return tmp_path


def test_a_kernel_is_loaded_without_what_compiling_needs(kernel_of_a_module: Path) -> None:
    code = SUM_OF_ROOTS + '\n    print("numba.np.npyimpl" in sys.modules, "numba.np.linalg" in sys.modules)'
    assert output_of(code, kernel_of_a_module) == "6.0 1\nFalse False\n"


def test_after_a_kernel_was_loaded_others_can_be_compiled(kernel_of_a_module: Path) -> None:
    more = """
        print(sum_of_roots(np.array([1.0, 4.0], np.float32)), *sum_of_roots.stats.cache_misses.values())
        print(float(sum_of_roots(np.array([1, 4, 16]))))
    """
    code = textwrap.dedent(SUM_OF_ROOTS) + textwrap.dedent(more)
    assert output_of(code, kernel_of_a_module) == "6.0 1\n3.0 1\n7.0\n"


def test_a_cache_without_its_code_is_filled_again(kernel_of_a_module: Path) -> None:
    (compiled,) = (kernel_of_a_module / "cache").rglob("*.nbc")
    compiled.unlink()
    assert output_of(SUM_OF_ROOTS, kernel_of_a_module) == "6.0\n"
    assert output_of(SUM_OF_ROOTS, kernel_of_a_module) == "6.0 1\n"


def test_a_cache_that_names_a_module_which_has_gone_is_filled_again(kernel_of_a_module: Path, tmp_path: Path) -> None:
    """As after an upgrade that moves a module of kernels: what the older version has cached cannot be unpickled."""
    (tmp_path / "gone.py").write_text("class Stamp:\n    pass\n")
    of_older_version = """
        import pickle, sys
        import gone, numba

        sys.stdout.write((pickle.dumps(numba.__version__) + pickle.dumps((gone.Stamp(), {}))).hex())
    """
    (index,) = (tmp_path / "cache").rglob("*.nbi")
    index.write_bytes(bytes.fromhex(output_of(of_older_version, tmp_path)))
    (tmp_path / "gone.py").unlink()
    assert output_of(SUM_OF_ROOTS, kernel_of_a_module) == "6.0\n"


def test_a_change_in_a_file_of_a_callee_compiles_its_callers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    package = tmp_path / "ostcal"
    shutil.copytree(Path(ostcal.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    callee = package / "measure" / "callee_kernels.py"
    head = "from ostcal.compiling import {0}\n\n"
    (package / "measure" / "caller_kernels.py").write_text(
        head.format("door") + "from ostcal.measure.callee_kernels import once\n\n"
        "@door\ndef thrice(value):\n    return 3 * once(value)\n"
    )
    call = """
        from ostcal.measure.caller_kernels import thrice

        print(thrice(2), *thrice.stats.cache_hits.values())
    """
    callee.write_text(head.format("kernel") + "@kernel\ndef once(value):\n    return value\n")
    assert output_of(call, tmp_path) == "6\n"
    assert output_of(call, tmp_path) == "6 1\n"
    callee.write_text(head.format("kernel") + "@kernel\ndef once(value):\n    return value + 100\n")
    assert output_of(call, tmp_path) == "306\n"


def test_numba_has_the_private_parts_that_the_cache_replaces() -> None:
    advice = "adapt ostcal/compiling.py to this version, then raise the upper bound of numba in pyproject.toml"
    assert inspect.isfunction(caching.FunctionCache.load_overload), advice
    assert {"_version", "_source_stamp", "_index_name"} <= set(vars(caching.IndexDataCacheFile("", "", ""))), advice
    replaced = ("_load_index", "_save_index", "_load_data", "_save_data", "_data_path", "_dump", "_open_for_write")
    assert all(inspect.isfunction(getattr(caching.IndexDataCacheFile, name, None)) for name in replaced), advice
    assert callable(runtime.nrt.rtsys.initialize), advice
    made = compiling.door(lambda value: value)
    assert hasattr(made, "_cache"), advice


def test_kernels_do_without_a_place_for_their_cache(kernel_of_a_module: Path) -> None:
    nowhere = "    import numba.core.caching\n\n    numba.core.caching.CacheImpl._locator_classes = []"
    assert output_of(nowhere + SUM_OF_ROOTS, kernel_of_a_module) == "6.0\n"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(("ending", "damaged"), [("nbi", lambda _: b""), ("nbc", lambda _: b""), ("nbc", flipped)])
def test_a_damaged_file_of_the_cache_is_made_again(
    kernel_of_a_module: Path, ending: str, damaged: Callable[[bytes], bytes]
) -> None:
    """As a power cut leaves it, or a disk."""
    (file,) = (kernel_of_a_module / "cache").rglob(f"*.{ending}")
    file.write_bytes(damaged(file.read_bytes()))
    assert output_of(SUM_OF_ROOTS, kernel_of_a_module) == "6.0\n"
    assert output_of(SUM_OF_ROOTS, kernel_of_a_module) == "6.0 1\n"


def test_no_kernel_that_combines_loads_linear_algebra() -> None:
    code = """
        import sys
        import numpy as np
        from ostcal.engine.combine import Correction, combine_block
        from ostcal.engine.rejection import SigmaClip
        from ostcal.frames import SampleEncoding

        for n in (5, 40):
            ones = Correction(scale=np.ones(n), exposure_time_s=np.ones(n))
            words, floats = SampleEncoding(dtype="uint16"), SampleEncoding(dtype="float32")
            for encoding, correction in ((words, None), (words, ones), (floats, None)):
                frames = np.full((n, 1, 8), 7, encoding.dtype)
                combine_block(frames, encoding, SigmaClip().resolved(n), correction=correction)
        print("numba.np.linalg" in sys.modules)
    """
    output_of(code)  # compiles what is not in the cache yet
    assert output_of(code) == "False\n"


@pytest.mark.parametrize(("n_frames", "kernel"), [(5, "combine_words"), (40, "average_words")])
def test_the_kernel_of_the_first_strip_is_loaded_before_it(n_frames: int, kernel: str) -> None:
    code = f"""
        import numpy as np
        from support.memory_stack import MemoryStack
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
    assert output_of(code, TESTS) == f"{kernel}\n"


@pytest.mark.parametrize(("n_frames", "is_flat"), [(5, False), (40, False), (5, True), (40, True)])
def test_the_kernels_of_overscan_are_loaded_before_the_first_strip(n_frames: int, is_flat: bool) -> None:
    code = f"""
        import numpy as np
        from support.memory_stack import MemoryStack
        from ostcal.engine import kernels
        from ostcal.engine.combine import Correction, RowLevels, combine_block
        from ostcal.engine.rejection import SigmaClip
        from ostcal.engine.tasks import FlatTreatment, MasterJob, warm_up
        from ostcal.fits.sections import Amplifier, Readout, Section
        from ostcal.inputs.trimmed import TrimmedStack

        n = {n_frames}
        frames = np.zeros((n, 8, 9), np.uint16)
        frames[0, 1, 1] = 65535
        kept, overscan = Section(left=0, right=6, bottom=0, top=8), Section(left=6, right=9, bottom=0, top=8)
        stack = TrimmedStack(MemoryStack(frames), Readout(amplifiers=(Amplifier(kept=kept, overscan=overscan),)))
        flat = None
        if {is_flat}:
            flat = FlatTreatment(exposure_times_s=(1.0,) * n, dark=None, scaling="mean", normalization="mean")
        warm_up(MasterJob(name="a", stack=stack, method=SigmaClip(), sink=None, flat=flat))
        doors = ("combine_words", "average_words", "combine_corrected", "average_corrected", "combine_floats",
                 "half_adu_words", "average_half_adu")
        loaded = {{name: len(getattr(kernels, name).signatures) for name in doors}}
        ones = Correction(scale=np.ones(n), exposure_time_s=np.ones(n)) if flat else None
        with stack.opened(0, 8) as reader:
            block = np.empty((n, 8, 9), np.uint16)
            levels = [RowLevels(quanta=q, left=0, width=6) for q in reader.read_levelled(0, 8, block)]
            combine_block(block, reader.raw_encoding, SigmaClip().resolved(n), levels=levels, correction=ones)
        assert loaded == {{name: len(getattr(kernels, name).signatures) for name in doors}}, loaded
        print(*(name for name in doors if loaded[name]))
    """
    is_average = n_frames > 20
    of_words = "combine_floats average_half_adu" if is_average else "combine_words combine_floats half_adu_words"
    expected = ("average_corrected" if is_average else "combine_corrected") if is_flat else of_words
    assert output_of(code, TESTS) == f"{expected}\n"
