"""`ostcal.compat.ccdproc` without ccdproc: its definitions by hand; the compiled loops against numpy and astropy."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.compat.ccdproc import Combiner, combine, sigma_func
from ostcal.compat.ccdproc.fast_recipes import fast_clip
from ostcal.compat.ccdproc.numpy_definitions import clip_mask, combined, extremes_mask
from ostcal.engine.in_order import Clip, clip_in_order
from support import night as n
from support.amounts import amount
from support.fits_samples import gzipped, write_frame, write_stored
from support.strategies import float_stacks

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Input data contains invalid values")

Frames = NDArray[Any]


def ccds_of(stack: Frames, masks: Any = None, unit: str = "adu") -> list[CCDData]:
    return [CCDData(frame, unit=unit, mask=None if masks is None else masks[i]) for i, frame in enumerate(stack)]


def frames_of(count: int = 9, shape: tuple[int, int] = (12, 15), dtype: str = "float64", seed: int = 1) -> Frames:
    stack = n.samples(count, 1000.0, noise=5.0, seed=seed, shape=shape)
    return stack.astype(dtype) + (np.dtype(dtype).type(0.25) if np.dtype(dtype).kind == "f" else 0)


# --- by hand ---


def test_an_average_its_uncertainty_and_its_mask_by_hand() -> None:
    stack = np.array([[[1.0, 5.0]], [[2.0, 5.0]], [[6.0, 5.0]]])
    masks = np.array([[[False, True]], [[False, True]], [[True, True]]])
    result = combine(ccds_of(stack, masks))
    assert result.data[0, 0] == 1.5
    assert result.uncertainty.array[0, 0] == 0.5 / np.sqrt(2)  # population standard deviation over root of two
    assert result.mask.tolist() == [[False, True]]
    assert np.isnan(result.data[0, 1])


def test_a_sum_and_a_median_by_hand() -> None:
    stack = np.array([[[1.0, 9.0]], [[2.0, 9.0]], [[6.0, 9.0]], [[7.0, 9.0]]])
    total, middle = combine(ccds_of(stack), method="sum"), combine(ccds_of(stack), method="median")
    assert total.data.tolist() == [[16.0, 36.0]]
    np.testing.assert_allclose(total.uncertainty.array[0], [np.std([1, 2, 6, 7]) * 2, 0.0])
    assert middle.data.tolist() == [[4.0, 9.0]]
    np.testing.assert_allclose(middle.uncertainty.array[0], [1.482602218505602 * 2.5 / 2, 0.0])


def test_weights_count_all_images_whatever_is_masked() -> None:
    """As in ccdproc: a masked sample takes its weight along into the sum that it is divided by."""
    stack = np.array([[[2.0, 2.0]], [[4.0, 4.0]]])
    masks = np.array([[[False, True]], [[False, False]]])
    result = combine(ccds_of(stack, masks), weights=np.array([1.0, 3.0]))
    assert result.data.tolist() == [[3.5, 3.0]]


def test_samples_are_clipped_before_they_are_scaled() -> None:
    """As in ccdproc: 100 is an outlier of the samples, not of what they are scaled to."""
    stack = np.array([10.0, 10.5, 9.5, 10.0, 100.0])[:, None, None] * np.ones((5, 1, 2))
    clip = {"sigma_clip": True, "sigma_clip_low_thresh": 1.5, "sigma_clip_high_thresh": 1.5, "sigma_clip_func": "mean"}
    result = combine(ccds_of(stack), scale=[1, 1, 1, 1, 0.1], sigma_clip_dev_func="std", **clip)
    assert result.data.tolist() == [[10.0, 10.0]]


def test_masked_samples_count_where_limits_are_found() -> None:
    stack = np.array([1.0, 2.0, 3.0, 50.0])[:, None, None] * np.ones((4, 1, 2))
    masks = np.zeros(stack.shape, bool)
    masks[3] = True
    combiner = Combiner(ccds_of(stack, masks))
    combiner.sigma_clipping(low_thresh=0.55, high_thresh=3)
    assert combiner.data_arr.mask[:, 0, 0].tolist() == [True, True, False, True]  # below 14 - 0.55 * 20.8


def test_a_threshold_of_none_is_three_as_in_astropy() -> None:
    stack = np.r_[np.zeros(15), 100.0][:, None, None] * np.ones((16, 1, 2))
    combiner = Combiner(ccds_of(stack))
    combiner.sigma_clipping(low_thresh=None, high_thresh=None)
    assert combiner.data_arr.mask[-1].all()


@pytest.mark.parametrize("centre", ["callable", "name"])
def test_one_nan_takes_its_pixel_along_with_the_default_functions_only(centre: str) -> None:
    """As in ccdproc, whose default functions np.ma.mean and np.ma.std give NaN, which masks all."""
    stack = frames_of(4, (1, 3))
    stack[1, 0, 2] = np.nan
    functions: dict[str, Any] = {"sigma_clip_func": "mean", "sigma_clip_dev_func": "std"} if centre == "name" else {}
    result = combine(ccds_of(stack), sigma_clip=True, **functions)
    assert result.mask.tolist() == [[False, False, centre == "callable"]]


def test_extremes_are_counted_with_what_is_masked() -> None:
    stack = np.array([1.0, 2.0, 3.0, 4.0])[:, None, None] * np.ones((4, 1, 2))
    masks = np.zeros(stack.shape, bool)
    masks[0] = True
    result = combine(ccds_of(stack, masks), clip_extrema=True, nlow=1, nhigh=1)
    assert result.data.tolist() == [[2.5, 2.5]]


# --- the compiled loops against numpy and astropy ---


@st.composite
def images(draw: st.DrawFn) -> tuple[Frames, NDArray[np.bool_] | None]:
    """Draw samples of at least two pixels, and a mask."""
    stack = draw(float_stacks("float64"))
    if stack[0].size == 1:
        stack = np.repeat(stack, 2, axis=2)
    seed = draw(st.integers(0, 1000))
    mask = np.random.default_rng(seed).random(stack.shape) < 0.3 if draw(st.booleans()) else None
    return stack, mask


def of_numpy(combiner: Combiner, statistic: Any) -> tuple[Any, Any, Any]:
    """Combine as `Combiner` does without the compiled loops."""
    return combined(
        combiner.data_arr,
        factor=combiner.scaling,
        weights=combiner.weights,
        statistic=statistic,
        function=None,
        sum_function=np.nansum,
        error_function=sigma_func if statistic == "median" else np.nanstd,
    )


@settings(max_examples=amount(150), deadline=None)
@given(
    drawn=images(),
    statistic=st.sampled_from(["average", "median", "sum"]),
    dtype=st.sampled_from([np.float64, np.float32]),
    factors=st.sampled_from(["none", "scale", "weights", "both"]),
)
def test_the_loops_give_the_bits_of_numpy(drawn: Any, statistic: str, dtype: Any, factors: str) -> None:
    stack, mask = drawn
    combiner = Combiner(ccds_of(stack, mask), dtype=dtype)
    rng = np.random.default_rng(len(stack))
    if factors in ("scale", "both"):
        combiner.scaling = rng.random(len(stack)) + 0.5
    if factors in ("weights", "both"):
        combiner.weights = rng.random(len(stack))
    result = getattr(combiner, f"{statistic}_combine")()
    data, masked, error = of_numpy(combiner, statistic)
    np.testing.assert_array_equal(result.data, np.asarray(data, dtype))
    np.testing.assert_array_equal(result.mask, masked)
    np.testing.assert_array_equal(result.uncertainty.array, error)
    assert result.uncertainty.array.dtype == error.dtype


FUNCTIONS: list[tuple[Any, Any]] = [
    ("mean", "std"), ("median", "mad_std"), (np.ma.mean, np.ma.std), (np.mean, np.std), (np.ma.median, mad_std),
    (np.median, mad_std),
]  # fmt: skip


@settings(max_examples=amount(150), deadline=None)
@given(
    drawn=images(),
    functions=st.sampled_from(FUNCTIONS),
    low=st.sampled_from([3, 2.0, 1.1, None, 0]),
    high=st.sampled_from([3, 1.7, 0.3, None]),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_the_loops_clip_the_samples_that_astropy_clips(
    drawn: Any, functions: tuple[Any, Any], low: Any, high: Any, dtype: Any
) -> None:
    stack, _ = drawn
    samples = stack.astype(dtype)
    clip = fast_clip(low, high, *functions, samples.dtype)
    assert isinstance(clip, Clip)
    mask = np.zeros((len(stack), stack[0].size), bool)
    clip_in_order(samples.reshape(mask.shape), clip, mask, (0, mask.shape[1]))
    expected = np.zeros(stack.shape, bool) | clip_mask(samples, low, high, *functions, {})
    np.testing.assert_array_equal(mask.reshape(stack.shape), expected)


@settings(max_examples=amount(60), deadline=None)
@given(drawn=images(), n_low=st.integers(0, 3), n_high=st.integers(0, 3), method=st.sampled_from(["average", "median"]))
def test_extremes_of_the_loops_leave_the_samples_that_numpy_leaves(
    drawn: Any, n_low: int, n_high: int, method: str
) -> None:
    stack, _ = drawn
    n_low, n_high = min(n_low, len(stack)), min(n_high, len(stack))
    result = combine(ccds_of(stack), method=method, clip_extrema=True, nlow=n_low, nhigh=n_high)
    combiner = Combiner(ccds_of(stack))
    combiner.clip_extrema(n_low, n_high)
    np.testing.assert_array_equal(combiner.data_arr.mask, extremes_mask(stack, n_low, n_high))
    data, masked, error = of_numpy(combiner, method)
    np.testing.assert_array_equal(result.mask, masked)
    finite = np.isfinite(np.where(combiner.data_arr.mask, 0, stack)).all(axis=0)
    scale = np.abs(stack[:, finite]).max(initial=0)
    np.testing.assert_allclose(result.data[finite], data[finite], rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(result.uncertainty.array[finite], error[finite], rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int16", "float32", ">f4", "float64", "int32", "int64", "bool"])
@pytest.mark.parametrize("where", ["memory", "files", "both"])
def test_combine_gives_what_combiner_gives(dtype: str, where: str, tmp_path: Path) -> None:
    stack = frames_of(25, dtype=dtype if dtype != "bool" else "uint16") if dtype != "bool" else frames_of(25) > 1000
    images: list[Any] = ccds_of(stack)
    if where != "memory":
        if dtype == "bool":
            pytest.skip("FITS has no bool")
        images = [write_frame(tmp_path / f"{i}.fits", frame) for i, frame in enumerate(stack)]
    if where == "both":
        images[3:7] = ccds_of(stack)[3:7]
    combiner = Combiner(ccds_of(stack))
    combiner.sigma_clipping(2.0, 2.5)
    for method in ("average", "median", "sum"):
        expected = getattr(combiner, f"{method}_combine")()
        clip = {"sigma_clip_low_thresh": 2.0, "sigma_clip_high_thresh": 2.5}
        result = combine(
            images,
            method=method,
            sigma_clip=True,
            sigma_clip_func="mean",
            sigma_clip_dev_func="std",
            unit="adu",
            **clip,
        )
        np.testing.assert_array_equal(result.data, expected.data)
        np.testing.assert_array_equal(result.mask, expected.mask)
        np.testing.assert_array_equal(result.uncertainty.array, expected.uncertainty.array)


# --- images ---


def test_the_first_image_lends_its_header_and_unit(tmp_path: Path) -> None:
    stack = frames_of(3, dtype="uint16")
    paths = [
        write_frame(tmp_path / f"{i}.fits", frame, BUNIT="adu", FILTER="R", NUMBER=i) for i, frame in enumerate(stack)
    ]
    output = tmp_path / "out.fits"
    result = combine(",".join(map(str, paths)), output_file=output)
    assert (result.unit, result.meta["FILTER"], result.meta["NUMBER"]) == (u.adu, "R", 0)
    np.testing.assert_array_equal(CCDData.read(output).data, stack.mean(axis=0))
    with pytest.raises(OSError, match="already exists"):
        combine(paths, output_file=output)
    combine(paths, output_file=output, overwrite_output=True)


def scaled(path: Path, frame: Frames) -> Path:
    return write_stored(path, frame.astype(">i2"), BSCALE=0.5, BZERO=10.0)


def blank(path: Path, frame: Frames) -> Path:
    return write_stored(path, frame.astype(">i2"), BLANK=1000)


def masked(path: Path, frame: Frames) -> Path:
    CCDData(frame, unit="adu", mask=frame > 1002).write(path)
    return path


def behind_an_empty_one(path: Path, frame: Frames) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frame)]).writeto(path)
    return path


@pytest.mark.parametrize("write", [scaled, blank, masked, behind_an_empty_one, lambda p, f: gzipped(write_frame(p, f))])
def test_files_are_read_as_astropy_reads_them(write: Callable[[Path, Frames], Path], tmp_path: Path) -> None:
    stack = frames_of(4, dtype="uint16")
    paths = [write(tmp_path / f"{i}.fits", frame) for i, frame in enumerate(stack)]
    expected = combine([CCDData.read(path, unit="adu") for path in paths])
    result = combine(paths, unit="adu")
    np.testing.assert_array_equal(result.data, expected.data)
    np.testing.assert_array_equal(result.mask, expected.mask)
    if write is masked:
        assert (combine(paths, unit="adu", hdu_mask=None).data >= result.data).all()


def test_another_hdu_and_a_function_that_scales(tmp_path: Path) -> None:
    stack = frames_of(3, dtype="float32")
    paths = []
    for i, frame in enumerate(stack):
        paths.append(tmp_path / f"{i}.fits")
        fits.HDUList([fits.PrimaryHDU(frame * 0), fits.ImageHDU(frame)]).writeto(paths[-1])
    levels = [1 / np.mean(frame) for frame in stack]
    result = combine(paths, unit="adu", hdu=1, scale=lambda image: 1 / np.mean(image))
    np.testing.assert_array_equal(result.data, combine(ccds_of(stack), scale=levels).data)


def test_the_memory_limit_changes_nothing(tmp_path: Path) -> None:
    stack = frames_of(7)
    paths = [write_frame(tmp_path / f"{i}.fits", frame) for i, frame in enumerate(stack)]
    for keywords in ({}, {"combine_uncertainty_function": np.ma.std}, {"dtype": np.int32}):
        whole = combine(paths, unit="adu", **keywords)
        small = combine(paths, unit="adu", mem_limit=2000, **keywords)
        np.testing.assert_array_equal(small.data, whole.data)
        np.testing.assert_array_equal(small.uncertainty.array, whole.uncertainty.array)


def test_images_that_are_given_stay_as_they_are() -> None:
    ccds = ccds_of(frames_of(3), np.zeros((3, 12, 15), bool))
    ccds[0].uncertainty = StdDevUncertainty(np.ones((12, 15)))
    before = [ccd.copy() for ccd in ccds]
    combine(ccds, sigma_clip=True)
    for ccd, copy in zip(ccds, before, strict=True):
        np.testing.assert_array_equal(ccd.data, copy.data)
        np.testing.assert_array_equal(ccd.mask, copy.mask)
    np.testing.assert_array_equal(ccds[0].uncertainty.array, 1)


def test_ccdproc_is_not_imported_and_the_warnings_are_few() -> None:
    code = (
        "import sys, ostcal; import ostcal.compat.ccdproc as compat;"
        "assert compat.combine and 'ccdproc' not in sys.modules and 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env=n.command_environment(), check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        combine(ccds_of(frames_of(25)), sigma_clip=True)


# --- what is refused ---

STACK = frames_of(3)
CCDS = ccds_of(STACK)
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a number": (lambda: combine(1), ValueError, "unrecognised input for list of images"),
    "one image": (lambda: combine(CCDS[0]), ValueError, "unrecognised input for list of images"),
    "one path": (lambda: combine("bias.fits"), ValueError, "'bias.fits' is one path; give a list"),
    "no images": (lambda: combine([]), ValueError, "unrecognised input for list of images: it is empty"),
    "a method": (lambda: combine(CCDS, method="mean"), ValueError, "unrecognised combine method 'mean'"),
    "no file": (lambda: combine(["none.fits", "nil.fits"]), FileNotFoundError, "none.fits"),
    "another shape": (
        lambda: combine([*CCDS, *ccds_of(STACK[:1, :5])]), TypeError, r"not the same size: \(5, 15\) and \(12, 15\)",
    ),
    "another unit": (lambda: combine([*CCDS, *ccds_of(STACK, unit="s")]), TypeError, "the same unit: s and adu"),
    "three axes": (lambda: combine([CCDData(STACK, unit="adu")] * 2), ValueError, "images have 3 axes"),
    "weights in a list": (lambda: combine(CCDS, weights=[1, 2, 3]), TypeError, "weights are of type list"),
    "weights of too many": (lambda: combine(CCDS, weights=np.ones(4)), ValueError, "4 weights for 3 images"),
    "weights of a plane": (lambda: combine(CCDS, weights=np.ones((12, 15))), ValueError, "weights have the shape"),
    "a scale": (lambda: combine(CCDS, scale=2.0), TypeError, "scale must be a function, or one number for each"),
    "scales of too few": (lambda: combine(CCDS, scale=[1.0]), ValueError, "1 numbers for 3 images"),
    "Combiner of nothing": (lambda: Combiner([]), TypeError, "ccd_iter is empty"),
    "Combiner of None": (lambda: Combiner(None), TypeError, "ccd_iter is None"),
    "Combiner of arrays": (lambda: Combiner(list(STACK)), TypeError, r"ccd_iter\[0\]: is of type ndarray"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line(case: str) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
