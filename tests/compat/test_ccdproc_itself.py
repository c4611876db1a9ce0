"""`ostcal.compat.ccdproc` against ccdproc, where it is installed: signatures, results, and its own tests."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ma

from ostcal.compat.ccdproc import Combiner, combine
from support import night as n
from support.amounts import amount
from support.fits_samples import write_frame
from support.folders import ROOT
from support.strategies import float_stacks, integer_stacks

ccdproc = pytest.importorskip("ccdproc", minversion="2.5")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Input data contains invalid values")


def test_combine_has_the_signature_of_ccdproc() -> None:
    ours, theirs = inspect.signature(combine).parameters, inspect.signature(ccdproc.combine).parameters
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize(
    "name", ["clip_extrema", "minmax_clipping", "sigma_clipping", "average_combine", "median_combine", "sum_combine"]
)
def test_combiner_has_the_signatures_of_ccdproc(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (Combiner, ccdproc.Combiner))
    own_functions = {"uncertainty_func", "sum_func"}  # defaults of bottleneck, where that is installed
    assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]
    assert all(p.default == theirs[p.name].default for p in ours.values() if p.name not in own_functions)


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[CCDData], dict[str, Any]]:
    """Draw images and keywords of `combine`."""
    stack = draw(float_stacks("float64") | float_stacks("float32") | integer_stacks())
    if stack[0].size == 1:  # of a single pixel numpy sums in another order
        stack = np.repeat(stack, 2, axis=2)
    stack = stack.astype(draw(st.sampled_from(["uint16", "int32"]))) if stack.dtype.kind == "i" else stack
    count, rng = len(stack), np.random.default_rng(draw(st.integers(0, 99)))
    masks = rng.random(stack.shape) < 0.2 if draw(st.booleans()) else [None] * count
    keywords: dict[str, Any] = {
        "method": draw(st.sampled_from(["average", "median", "sum"])),
        "dtype": draw(st.sampled_from([None, np.float32, "float64"])),
        "weights": draw(st.sampled_from([None, None, rng.random(count), rng.random(stack.shape)])),
        "scale": draw(st.sampled_from([None, None, list(rng.random(count)), np.arange(1, count + 1)])),
    }
    if draw(st.booleans()):
        functions = [
            (ma.mean, ma.std), ("mean", "std"), ("median", "mad_std"), ("median", "std"), ("mean", "mad_std"),
            (ma.median, mad_std), (np.nanmean, np.nanstd),
        ]  # fmt: skip
        center, spread = draw(st.sampled_from(functions))
        keywords |= {
            "sigma_clip": True,
            "sigma_clip_func": center,
            "sigma_clip_dev_func": spread,
            "sigma_clip_low_thresh": draw(st.sampled_from([3, 2.5, 1.1, None])),
            "sigma_clip_high_thresh": draw(st.sampled_from([3, 2, 0.7, None])),
        }
    if draw(st.booleans()):
        keywords |= {
            "minmax_clip": True,
            "minmax_clip_min": draw(st.sampled_from([None, 497.5])),
            "minmax_clip_max": 999,
        }
    if draw(st.integers(0, 3)) == 0:
        keywords |= {"clip_extrema": True, "nlow": min(count, draw(st.integers(0, 2))), "nhigh": min(count, 1)}
    return [CCDData(f, unit="adu", mask=m) for f, m in zip(stack, masks, strict=True)], keywords


@settings(max_examples=amount(150), deadline=None)
@given(call=calls())
def test_combine_gives_the_bits_of_ccdproc(call: tuple[list[CCDData], dict[str, Any]]) -> None:
    ccds, keywords = call
    theirs = ccdproc.combine([ccd.copy() for ccd in ccds], **keywords)
    ours = combine(ccds, **keywords)
    assert (ours.data.dtype, ours.uncertainty.array.dtype) == (theirs.data.dtype, theirs.uncertainty.array.dtype)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    if "clip_extrema" in keywords:  # of equal samples another one may be left out, so that sums are rounded otherwise
        size = max(float(np.abs(ccd.data[np.isfinite(ccd.data)]).max(initial=0)) for ccd in ccds) * len(ccds)
        tolerance = {"rtol": 1e-12, "atol": size * (1e-12 if ours.data.dtype == np.float64 else 1e-5)}
        np.testing.assert_allclose(ours.data, theirs.data, **tolerance)
        np.testing.assert_allclose(ours.uncertainty.array, theirs.uncertainty.array, **tolerance)
        return
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.uncertainty.array, theirs.uncertainty.array)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_files_give_the_bits_of_ccdproc(dtype: str, tmp_path: Path) -> None:
    stack = n.samples(24, 1000.0, noise=4.0, seed=5, shape=(40, 51)).astype(dtype)
    paths = [str(write_frame(tmp_path / f"{i}.fits", frame)) for i, frame in enumerate(stack)]
    for functions in ({}, {"sigma_clip_func": "mean", "sigma_clip_dev_func": "std"}):
        keywords: dict[str, Any] = {"sigma_clip": True, "unit": "adu", "sigma_clip_low_thresh": 2.5, **functions}
        for kind in (None, "float32"):
            theirs, ours = (call(paths, dtype=kind, **keywords) for call in (ccdproc.combine, combine))
            for name in ("data", "mask"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            np.testing.assert_array_equal(ours.uncertainty.array, theirs.uncertainty.array)
            assert dict(ours.meta) == dict(theirs.meta)


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("clip_extrema"), st.fixed_dictionaries({"nlow": st.integers(0, 1), "nhigh": st.integers(0, 1)})
        ),
        st.tuples(
            st.just("minmax_clipping"),
            st.sampled_from([{"min_clip": 498}, {"max_clip": 1003.5}, {"min_clip": np.float64(1)}]),
        ),
        st.tuples(
            st.just("sigma_clipping"),
            st.sampled_from(
                [
                    {},
                    {"low_thresh": 1.5, "high_thresh": 2},
                    {"func": "median", "dev_func": "mad_std", "high_thresh": 1.2},
                    {"func": ma.median, "dev_func": mad_std},
                    {"func": np.nanmedian, "dev_func": np.nanstd, "low_thresh": 1},
                    {"sigma": 2, "grow": False},
                ]
            ),
        ),
    ),
    max_size=3,
)


@settings(max_examples=amount(100), deadline=None)
@given(
    call=calls(),
    steps=steps,
    combination=st.sampled_from(
        [
            ("average_combine", {}),
            ("median_combine", {}),
            ("sum_combine", {}),
            ("average_combine", {"scale_to": 1.5}),
            ("average_combine", {"scale_func": ma.average}),
            ("median_combine", {"median_func": ma.median}),
            ("sum_combine", {"sum_func": ma.sum, "uncertainty_func": ma.std}),
        ]
    ),
)
def test_combiner_gives_the_bits_of_ccdproc(
    call: tuple[list[CCDData], dict[str, Any]],
    steps: list[tuple[str, dict[str, Any]]],
    combination: tuple[str, dict[str, Any]],
) -> None:
    ccds, keywords = call
    ours, theirs = (cls([ccd.copy() for ccd in ccds], dtype=keywords["dtype"]) for cls in (Combiner, ccdproc.Combiner))
    results = []
    for combiner in (ours, theirs):
        combiner.scaling = keywords["scale"]
        for name, arguments in steps:
            getattr(combiner, name)(**arguments)
        combiner.weights = keywords["weights"]
        name, arguments = combination
        results.append(getattr(combiner, name)(**arguments))
    np.testing.assert_array_equal(ours.data_arr.mask, theirs.data_arr.mask)
    np.testing.assert_array_equal(results[0].data, results[1].data)
    np.testing.assert_array_equal(results[0].mask, results[1].mask)
    np.testing.assert_array_equal(results[0].uncertainty.array, results[1].uncertainty.array)
    assert results[0].meta == results[1].meta


# ---- ccdproc's own tests ----

OF_PRIVATE_PARTS = "test_ystep_calculation"
"""Five tests of a private function of ccdproc, of how it cuts images into pieces."""


def test_the_tests_of_ccdproc_pass_with_ours_in_its_place(tmp_path: Path) -> None:
    """The file is changed in its imports alone: `Combiner`, `combine` and `sigma_func` are ours."""
    spec = importlib.util.find_spec("ccdproc.tests.test_combiner")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    ours = "from ostcal.compat.ccdproc import Combiner, combine, sigma_func"
    imports = f"from ccdproc.combiner import _calculate_step_sizes, _default_std\n{ours}"
    source, n_changed = re.subn(r"from ccdproc\.combiner import \(.*?\)", imports, source, flags=re.DOTALL)
    assert n_changed == 1
    source = source.replace("from ..combiner import Combiner", ours)
    named = r'get_pkg_data_filename\("data/a8280271\.fits"\)'
    source = re.sub(named, 'get_pkg_data_filename("data/a8280271.fits", package="ccdproc.tests")', source)
    file = tmp_path / "test_combiner_of_ccdproc.py"
    file.write_text(source, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        f"not {OF_PRIVATE_PARTS}",
        str(file),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    passed = re.fullmatch(r"(\d+) passed, 5 deselected.*", last)
    assert passed, done.stdout[-3000:]
    assert int(passed[1]) >= 67
