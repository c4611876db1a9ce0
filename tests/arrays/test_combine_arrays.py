"""`ostcal.combine`: one answer for all kinds of frames, that of the literal reference and of `ostcal masters`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, NDData, StdDevUncertainty
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import naive
from ostcal import OstcalError, combine
from ostcal.engine.rejection import LARGEST_NOISE_ADU
from ostcal.errors import FrameError, InputError, NoFramesError, PlanError
from support import night as n
from support.amounts import amount
from support.fits_samples import gzipped, read_with_astropy, tile_compressed, write_frame, write_images
from support.night import Night
from support.series_samples import new_series
from support.strategies import float_stacks, integer_stacks

Frames = NDArray[Any]


def frames_of(n_frames: int = 8, shape: tuple[int, int] = (21, 34), dtype: str = "uint16", seed: int = 1) -> Frames:
    """Return noise about a level with cosmic rays."""
    stack = n.samples(n_frames, 1000.0, noise=5.0, seed=seed, shape=shape).astype(np.float64)
    if np.dtype(dtype).kind == "f":
        stack += np.random.default_rng(seed).random(stack.shape)
    return np.clip(stack, *limits(dtype)).astype(dtype)


def limits(dtype: str) -> tuple[float, float]:
    kind = np.dtype(dtype)
    return (0, np.iinfo(kind).max) if kind.kind in "iu" else (-np.inf, np.inf)


def planes_of(result: Any) -> list[NDArray[Any]]:
    return [np.asarray(plane) for plane in result]


def assert_same(result: Any, expected: Any) -> None:
    """Compare the planes of two results bit by bit."""
    for name, one, other in zip(("master", "std", "n_used"), planes_of(result), planes_of(expected), strict=True):
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one.view(f"u{one.itemsize}"), other.view(f"u{other.itemsize}"), err_msg=name)


full = partial(combine, full_output=True)


# --- the literal reference ---


def reference(stack: Frames, method: str, keys: dict[str, Any]) -> Callable[[list[naive.Sample]], naive.PixelResult]:
    """Return the literal function of a pixel."""
    if method == "minmax":
        return partial(naive.minmax, **keys)
    if method == "percentile":
        low, high = (Fraction(repr(keys[name])) for name in ("percentile_low", "percentile_high"))
        return partial(naive.percentile, n_low=low, n_high=high)
    if method in ("median", "none"):
        return naive.median if method == "median" else naive.no_rejection
    threshold = Fraction(repr(keys["sigma_threshold"]))
    clip = {"low": threshold, "high": threshold, "min_keep": keys["min_keep"], "noise": naive.series_noise(stack)}
    if method == "winsorized_sigma_clip":
        return partial(naive.winsorized_sigma_clip, **clip)
    center, spread = keys["clip_center"], keys["clip_spread"]
    return partial(naive.sigma_clip, center=center, spread=spread, iterations=keys["clip_iterations"], **clip)


thresholds = st.fixed_dictionaries(
    {"sigma_threshold": st.sampled_from([3.0, 2.7, 1.5, 0.25]), "min_keep": st.sampled_from([1, 2, 5])}
)
clips = st.fixed_dictionaries(
    {
        "clip_center": st.sampled_from(["mean", "median"]),
        "clip_spread": st.sampled_from(["std", "mad"]),
        "clip_iterations": st.sampled_from([1, 2, None]),
    }
)
methods = st.one_of(
    st.tuples(st.just("sigma_clip"), st.builds(lambda a, b: a | b, thresholds, clips)),
    st.tuples(st.just("winsorized_sigma_clip"), thresholds),
    st.tuples(st.just("minmax"), st.fixed_dictionaries({"n_low": st.integers(0, 3), "n_high": st.integers(0, 3)})),
    st.tuples(
        st.just("percentile"),
        st.fixed_dictionaries({f"percentile_{side}": st.sampled_from([0.0, 0.1, 0.4999]) for side in ("low", "high")}),
    ),
    st.tuples(st.sampled_from(["median", "none"]), st.just({})),
)


@settings(max_examples=amount(60), deadline=None)
@given(stack=integer_stacks(), chosen=methods, dtype=st.sampled_from(["uint16", ">u2"]))
def test_integers_are_combined_as_the_reference_says(
    stack: Frames, chosen: tuple[str, dict[str, Any]], dtype: str
) -> None:
    method, keys = chosen
    result = full(stack.astype(dtype), method, **keys)
    expected = naive.combine_stack(stack.astype(np.int64), reference(stack.astype(np.int64), method, keys))
    assert_same(result, (expected.mean, expected.std, expected.n_used))


@settings(max_examples=amount(60), deadline=None)
@given(stack=float_stacks("float64"), chosen=methods)
def test_floats_are_combined_as_the_reference_says(stack: Frames, chosen: tuple[str, dict[str, Any]]) -> None:
    method, keys = chosen
    is_spread = method == "winsorized_sigma_clip" or keys.get("clip_spread") == "mad"
    if is_spread and naive.series_noise(stack).noise_adu >= LARGEST_NOISE_ADU:
        with pytest.raises(InputError, match=r"the frames scatter by .*, this method knows spreads below 9e\+12"):
            full(list(stack), method, **keys)
        return
    result = full(list(stack), method, **keys)
    expected = naive.combine_stack(stack, reference(stack, method, keys))
    np.testing.assert_array_equal(result.master, expected.mean)
    np.testing.assert_array_equal(result.std, expected.std)
    np.testing.assert_array_equal(result.n_used, expected.n_used)


@settings(max_examples=amount(25), deadline=None)
@given(
    order=st.permutations(range(7)),
    rows=st.integers(1, 21),
    columns=st.integers(1, 34),
    method=st.sampled_from(["sigma_clip", "winsorized_sigma_clip", "median", "none"]),
    scale=st.sampled_from([None, "mean", "median"]),
)
def test_the_bits_do_not_depend_on_the_order_or_the_chunks(
    order: list[int], rows: int, columns: int, method: str, scale: Any
) -> None:
    stack = frames_of(7)
    expected = full(stack, method, scale=scale)
    assert_same(full(stack[order], method, scale=scale, workers=1, mem_limit=2.5e6), expected)
    chunked = da.from_array(stack[order], chunks=(2, rows, columns))
    assert_same(dask.compute(*full(chunked, method, scale=scale), scheduler="sync"), expected)


# --- kinds of frames ---


def files(stack: Frames, folder: Path, **cards: object) -> list[Path]:
    return [write_frame(folder / f"f_{i:02d}.fits", frame, **cards) for i, frame in enumerate(stack)]


def read_only_map(stack: Frames, folder: Path) -> Frames:
    np.save(folder / "stack.npy", stack)
    mapped: Frames = np.load(folder / "stack.npy", mmap_mode="r")
    return mapped


def series(stack: Frames, folder: Path) -> str:
    new_series(folder / "dark_5s.zarr", stack)
    return str(folder / "dark_5s.zarr")


KINDS: dict[str, Callable[[Frames, Path], Any]] = {
    "list": lambda stack, _: list(stack),
    "generator": lambda stack, _: (frame for frame in stack),
    "big-endian": lambda stack, _: stack.astype(stack.dtype.newbyteorder(">")),
    "columns first": lambda stack, _: np.asfortranarray(stack),
    "every other pixel": lambda stack, _: np.repeat(np.repeat(stack, 2, axis=1), 2, axis=2)[:, ::2, ::2],
    "read-only map": read_only_map,
    "nested lists of objects": lambda stack, _: tuple(np.asarray(frame) for frame in stack),
    "zarr": lambda stack, folder: zarr.create_array(folder / "a.zarr", data=stack, chunks=(1, 5, 34)),
    "zarr of all frames": lambda stack, folder: zarr.create_array(folder / "a.zarr", data=stack, chunks=(8, 4, 9)),
    "zarr of each": lambda stack, folder: [
        zarr.create_array(folder / f"{i}.zarr", data=frame, chunks=(6, 34)) for i, frame in enumerate(stack)
    ],
    "Dask": lambda stack, _: da.from_array(stack, chunks=(1, 8, 10)),
    "Dask of each": lambda stack, _: [da.from_array(frame, chunks=(21, 7)) for frame in stack],
    "paths": files,
    "array of paths": lambda stack, folder: np.array([str(path) for path in files(stack, folder)]),
    "gzip files": lambda stack, folder: [gzipped(path) for path in files(stack, folder)],
    "tile-compressed files": lambda stack, folder: [
        tile_compressed(folder / f"{i}.fits.fz", frame) for i, frame in enumerate(stack)
    ],
    "a file of planes": lambda stack, folder: write_frame(folder / "cube.fits", stack),
    "series": series,
    "list of series": lambda stack, folder: [series(stack, folder)],
    "HDUs": lambda stack, _: [fits.PrimaryHDU(frame) for frame in stack],
    "open files": lambda stack, _: [
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frame), fits.ImageHDU(frame, name="MASK")]) for frame in stack
    ],
    "an open file of images": lambda stack, _: fits.HDUList(
        [fits.PrimaryHDU(), *(fits.ImageHDU(frame) for frame in stack)]
    ),
    "arrays and paths": lambda stack, folder: [*stack[:3], *files(stack[3:6], folder), *stack[6:]],
    "masks that mask nothing": lambda stack, _: np.ma.MaskedArray(stack, np.zeros(stack.shape, bool)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_every_kind_of_frames_gives_the_same_bits(kind: str, dtype: str, tmp_path: Path) -> None:
    if (kind, dtype) == ("tile-compressed files", "float32"):
        pytest.skip("tiles of floats are quantized")
    stack = frames_of(dtype=dtype)
    for scale in (None, "mean", (1, 2, 1.5, 1, 1, 1, 0.5, 1)):
        expected = full(stack, scale=scale)
        folder = tmp_path / str(scale)
        folder.mkdir()
        assert_same(full(KINDS[kind](stack, folder), scale=scale), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", ">i2", "int32", "uint32", "int64", "uint64", "float16"])
def test_every_dtype_is_combined_exactly(dtype: str, tmp_path: Path) -> None:
    stack = np.random.default_rng(3).integers(0, 100, (9, 7, 5)).astype(dtype)
    expected = naive.combine_stack(stack.astype(np.int64), naive.no_rejection)
    for kind in ("list", "zarr", "Dask"):
        given = KINDS[kind](stack, tmp_path) if kind != "zarr" or np.dtype(dtype).isnative else stack
        assert_same(full(given, "none"), (expected.mean, expected.std, expected.n_used))


def test_words_with_and_without_a_sign_mix() -> None:
    stack = frames_of(6)
    mixed = [*stack[:2], *stack[2:4].astype(np.int16), stack[4].astype(np.float64), stack[5].astype(">f4")]
    np.testing.assert_array_equal(combine(mixed, "none"), combine(stack, "none"))


def test_the_result_is_float32_in_memory_of_its_own() -> None:
    result = combine(frames_of(dtype="float64"))
    assert (result.dtype, result.flags.writeable, result.base is None) == (np.float32, True, True)


# --- the same as masters ---


@pytest.mark.parametrize("count", [7, 23])
@pytest.mark.parametrize(
    ("method", "keys"),
    [
        ("sigma_clip", {}),
        ("sigma_clip", {"sigma_threshold": 2.5, "clip_iterations": None}),
        ("winsorized_sigma_clip", {"sigma_low": 2.0}),
        ("minmax", {"n_low": 1, "n_high": 2}),
        ("median", {}),
    ],
)
def test_files_give_the_bits_of_the_master(tmp_path: Path, method: str, keys: dict[str, Any], count: int) -> None:
    night = Night(tmp_path)
    n.write_bias(night, n.bias_frames(count))
    status = night.run_darks(rejection_method=method, extensions=True, **keys)
    path = n.one_file(status, "bias")
    result = full(sorted((night.darks / "bias").iterdir()), method, **keys)
    np.testing.assert_array_equal(result.master, read_with_astropy(path)[0])
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(result.n_used, hdus["NUSED"].data)
        error = (result.std / np.sqrt(np.maximum(result.n_used, 1))).astype(np.float32)
        np.testing.assert_array_equal(error, hdus["UNCERT"].data)


def test_files_whose_overscan_is_subtracted_give_the_bits_of_the_master(tmp_path: Path) -> None:
    night = Night(tmp_path)
    sections = {"BIASSEC": "[25:28,1:20]", "TRIMSEC": "[1:24,1:20]"}
    n.write_bias(night, **sections)
    master = n.image_of(night.run_darks(), "bias")
    paths = sorted((night.darks / "bias").iterdir())
    assert master.shape == (20, 24)
    np.testing.assert_array_equal(combine(paths), master)
    assert combine(paths, overscan="none").shape == (20, 28)


def test_scaled_files_give_the_bits_of_the_flat_before_it_is_divided(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_flats(night, 2.0)
    flat = n.image_of(night.run_flats(calibration={"flat": "none"}), "flat")
    scaled = combine(sorted(night.flats.iterdir()), scale="mean")
    np.testing.assert_array_equal((scaled / np.float64(scaled.mean(dtype=np.float64))).astype(np.float32), flat)


def test_files_of_whole_floats_are_read_as_the_integers_that_they_are(tmp_path: Path) -> None:
    stack = frames_of()
    as_floats = files(stack.astype(np.float32), tmp_path)
    assert_same(full(as_floats), full(stack))


# --- samples that do not count ---


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("how", ["masked array", "masked Dask array", "CCDData", "NaN"])
def test_masked_samples_and_nan_do_not_count(dtype: str, how: str) -> None:
    stack = frames_of(9, (4, 6), dtype)
    mask = np.random.default_rng(2).random(stack.shape) < 0.3
    mask[:, 1, 2] = True
    floats = np.where(mask, np.nan, stack).astype(np.float32)
    spoiled = np.where(mask, 60000, stack).astype(dtype)
    given: Any = floats
    if how == "masked array":
        given = np.ma.MaskedArray(spoiled, mask)
    elif how == "masked Dask array":
        given = da.from_array(np.ma.MaskedArray(spoiled, mask), chunks=(2, 3, 5))
    elif how == "CCDData":
        given = [CCDData(frame, unit="adu", mask=bad) for frame, bad in zip(spoiled, mask, strict=True)]
    result = combine(given, "minmax", full_output=True)
    expected = naive.combine_stack(floats, naive.minmax)
    if how == "CCDData":
        np.testing.assert_array_equal(result.mask, expected.n_used == 0)
        result = (result.data, None, result.n_used)
    (master, n_used) = dask.compute(result[0], result[2], scheduler="sync")
    np.testing.assert_array_equal(master, expected.mean)
    np.testing.assert_array_equal(n_used, expected.n_used)
    assert np.isnan(master[1, 2])


def test_one_masked_frame_among_others() -> None:
    stack = frames_of(5, (3, 4))
    masked = np.ma.MaskedArray(stack[2], np.ones((3, 4), bool))
    result = full([*stack[:2], masked, *stack[3:]], "none")
    assert (result.n_used == 4).all()
    np.testing.assert_array_equal(result.master, combine(stack[[0, 1, 3, 4]], "none"))


# --- CCDData ---


def test_ccddata_come_back_with_uncertainty_mask_meta_and_counts() -> None:
    stack = frames_of(6)
    meta = {"FILTER": "R", "GAIN": 1.5, "COMMENT": "x"}
    ccds = [
        CCDData(frame, unit=u.electron, meta={**meta, "NUMBER": i}, uncertainty=StdDevUncertainty(np.ones_like(frame)))
        for i, frame in enumerate(stack)
    ]
    result = combine(ccds, "minmax")
    planes = full(stack, "minmax")
    assert isinstance(result, CCDData)
    assert result.unit == u.electron
    np.testing.assert_array_equal(result.data, planes.master)
    np.testing.assert_array_equal(result.n_used, planes.n_used)
    np.testing.assert_allclose(result.uncertainty.array, planes.std / np.sqrt(planes.n_used), rtol=1e-6)
    assert not result.mask.any()
    assert {key: result.meta[key] for key in ("FILTER", "GAIN", "NCOMBINE", "REJTYPE", "NREJLO")} == {
        "FILTER": "R", "GAIN": 1.5, "NCOMBINE": 6, "REJTYPE": "minmax", "NREJLO": 1,
    }  # fmt: skip
    assert not {"NUMBER", "COMMENT"} & set(result.meta)


def test_the_error_of_a_median_is_larger_and_that_of_one_sample_unknown() -> None:
    stack = frames_of(101, (3, 4))
    median = combine(stack, "median", unit="adu")
    mean = combine(stack, "none", unit="adu")
    np.testing.assert_allclose(median.uncertainty.array / mean.uncertainty.array, np.sqrt(np.pi / 2), rtol=0.01)
    assert np.isnan(combine(stack[:1], unit="adu").uncertainty.array).all()


def test_a_unit_makes_files_ccddata_with_the_cards_that_they_share(tmp_path: Path) -> None:
    stack = frames_of(4)
    paths = [
        write_frame(tmp_path / f"{i}.fits", frame, FILTER="Ha", EXPTIME=60.0, FOCUS=i) for i, frame in enumerate(stack)
    ]
    result = combine(paths, unit="adu")
    assert (result.unit, result.meta["FILTER"], result.meta["EXPTIME"]) == (u.adu, "Ha", 60.0)
    assert not {"FOCUS", "BITPIX", "BZERO", "NAXIS1"} & set(result.meta)
    result.write(tmp_path / "master.fits")
    np.testing.assert_array_equal(CCDData.read(tmp_path / "master.fits").data, combine(stack))


def test_headers_keep_their_comments() -> None:
    header = fits.Header([("FILTER", "R", "the filter"), ("BIASLVL", 5)])
    ccds = [CCDData(frame, unit="adu", meta=header.copy()) for frame in frames_of(3)]
    ccds[1].meta["BIASLVL"] = 6
    meta = combine(ccds).meta
    assert (meta.comments["FILTER"], meta.comments["NCOMBINE"]) == ("the filter", "frames combined")
    assert "BIASLVL" not in meta


def test_quantities_become_ccddata() -> None:
    stack = frames_of(4)
    for frames in (stack * u.adu, [frame * u.adu for frame in stack], CCDData(stack, unit="adu")):
        result = combine(frames)
        assert result.unit == u.adu
        np.testing.assert_array_equal(result.data, combine(stack))


# --- scales ---


def test_scales_are_factors_before_rejection() -> None:
    stack = frames_of(8, dtype="float64")
    factors = np.linspace(0.5, 2, 8)
    scaled = naive.corrected_stack(stack, scale=list(factors), exposure_time_s=[0.0] * 8)
    for numbers in (factors, list(factors), tuple(factors)):
        np.testing.assert_array_equal(combine(stack / 1, "minmax", scale=numbers), combine(scaled, "minmax"))
    inverse = [1 / np.median(frame) for frame in stack]
    np.testing.assert_array_equal(
        combine(stack, scale=lambda frame: 1 / np.median(frame)), combine(stack, scale=inverse)
    )


@pytest.mark.parametrize("level", ["mean", "median"])
def test_levels_bring_frames_to_their_mean(level: str) -> None:
    stack = frames_of(6, dtype="float32") * np.linspace(1, 3, 6, dtype=np.float32)[:, None, None]
    scales = naive.flat_scales(stack, level)  # type: ignore[arg-type]
    np.testing.assert_allclose(combine(stack, scale=level), combine(stack, scale=scales), rtol=1e-6)


# --- Dask and memory ---


def test_a_dask_array_is_computed_only_when_it_is_asked_for(tmp_path: Path) -> None:
    loads: list[int] = []

    def load(block: Frames, block_info: Any = None) -> Frames:
        loads.append(1)
        return block

    stack = frames_of()
    lazy = da.from_array(stack, chunks=(1, 7, 34)).map_blocks(load, dtype=stack.dtype, meta=np.empty((0, 0, 0), "u2"))
    results = full(lazy, scale="mean")
    assert loads == []
    assert all(isinstance(result, da.Array) for result in results)
    assert_same(dask.compute(*results, scheduler="sync"), full(stack, scale="mean"))
    assert len(loads) <= 3 * lazy.npartitions


@pytest.mark.parametrize("how", ["one array", "a list"])
def test_a_dask_array_of_xarray_stays_lazy(how: str) -> None:
    """Read by rows, each of its chunks would be computed once for every block of rows."""
    xarray = pytest.importorskip("xarray")
    stack = frames_of(9)
    loaded = []

    def load(block: Frames) -> Frames:
        loaded.append(block.shape)
        return block

    frames = xarray.DataArray(da.from_array(stack, chunks=(1, 7, 34)).map_blocks(load, meta=stack[:0]))
    loaded.clear()
    result = combine(frames if how == "one array" else list(frames), "none", full_output=True)
    assert all(isinstance(plane, da.Array) for plane in result)
    assert loaded == []
    assert_same(dask.compute(*result), combine(stack, "none", full_output=True))
    assert len(loaded) == 9 * 3
    assert_same(combine(xarray.DataArray(stack), full_output=True), combine(stack, full_output=True))


def of_dask(stack: Frames, method: str) -> Any:
    return combine(da.from_array(stack), method).compute()


@pytest.mark.parametrize("call", [combine, of_dask])
@pytest.mark.parametrize("method", ["sigma_clip", "winsorized_sigma_clip"])
def test_samples_of_other_units_are_said_where_spreads_are_too_small_or_large(
    call: Callable[[Frames, str], Any], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Spreads are whole numbers of 1e-6 ADU of 64 bits."""
    stack = np.random.default_rng(1).normal(1000.0, 5.0, (6, 20, 30))
    call(stack, method)
    call(stack * 1e-5, method)
    assert not caplog.records
    call(stack * 1e-9, method)
    (record,) = caplog.records
    assert record.getMessage().startswith("the frames scatter by 4.91e-09, spreads are whole numbers of 1e-6")
    with pytest.raises(InputError, match=r"the frames scatter by [45]\.\d*e\+13, this method"):
        call(stack * 1e13, method)
    np.testing.assert_allclose(call(stack * 1e13, "none"), (stack * 1e13).mean(axis=0), rtol=1e-6)


def test_large_chunks_of_dask_are_cut_across_the_image() -> None:
    lazy = da.zeros((40, 6000, 6000), chunks=(1, 6000, 6000), dtype=np.uint16)
    result = combine(lazy)
    assert result.shape == (6000, 6000)
    rows, columns = (max(chunks) for chunks in result.chunks)
    assert 40 * rows * columns * 2 <= 256 * 2**20


class Counted:
    """An array of rows that notes how many are read at a time."""

    def __init__(self, samples: Frames) -> None:
        self._samples = samples
        self.shape, self.dtype = samples.shape, samples.dtype
        self.most = 0

    def __getitem__(self, rows: slice) -> Frames:
        read = self._samples[rows]
        self.most = max(self.most, len(read))
        return read


def test_the_memory_limit_decides_how_many_rows_are_read_at_a_time() -> None:
    stack = frames_of(20, (400, 100), "float32")
    counted = [Counted(frame) for frame in stack]
    small = combine(counted, mem_limit=2.5e6, workers=1)
    rows = max(frame.most for frame in counted)
    assert rows * 20 * 100 * 4 <= 2.5e6
    np.testing.assert_array_equal(small, combine(stack))
    with pytest.raises(PlanError, match=r"mem_limit of 1000 bytes is too small: 20 frames of 100 x 400 need at least"):
        combine(counted, mem_limit=1000)


def test_arrays_are_combined_without_astropy_and_dask() -> None:
    code = (
        "import sys, numpy as np, ostcal; ostcal.combine(np.ones((3, 4, 5), np.uint16));"
        "print([name for name in ('astropy', 'dask', 'distributed', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=n.command_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- what is refused ---


def one_of_many_images(folder: Path) -> list[Path]:
    stack = frames_of(2)
    return [write_images(folder / "mosaic.fits", ("im1", stack[0]), ("im2", stack[1]))]


def truncated(folder: Path) -> list[Path]:
    paths = files(frames_of(3), folder)
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    return paths


def text_file(folder: Path) -> list[Path]:
    (folder / "notes.fits").write_text("no frame")
    return [folder / "notes.fits"]


def endless() -> Iterator[Frames]:
    yield from frames_of(2)
    raise ValueError("the generator fails")


STACK = frames_of(4)
REFUSED: dict[str, tuple[Callable[[Path], Any], type[OstcalError], str]] = {
    "nothing": (lambda _: combine([]), NoFramesError, "no frames to combine"),
    "an empty array": (lambda _: combine(np.ones((0, 3, 3))), NoFramesError, "no frames to combine"),
    "an empty generator": (lambda _: combine(x for x in ()), NoFramesError, "no frames to combine"),
    "a number": (lambda _: combine(5), InputError, "frames: an object of type int holds no frames"),
    "None": (lambda _: combine(None), InputError, "frames: None holds no frames"),
    "a dict": (lambda _: combine({"a": STACK}), InputError, "type dict holds no frames"),
    "one image": (lambda _: combine(STACK[0]), InputError, r"one array of 21 x 34; give \(n_frames, height, width\)"),
    "a hypercube": (lambda _: combine(STACK[None]), InputError, "one array of 1 x 4 x 21 x 34"),
    "a zarr group": (
        lambda folder: combine(zarr.create_group(folder / "g", attributes={})),
        InputError,
        "type Group holds no frames; give a list of arrays",
    ),
    "frames by name": (
        lambda _: combine({"night": STACK, "flat": STACK}),
        InputError,
        r"give what it has by name \('night', 'flat'\), a list of arrays",
    ),
    "None among them": (lambda _: combine([*STACK, None]), InputError, r"frames\[4\]: None is no frame"),
    "a number among them": (lambda _: combine([*STACK, 3.0]), InputError, r"frames\[4\]: an object of type float"),
    "another shape": (
        lambda _: combine([*STACK, STACK[0].T]),
        InputError,
        r"frames\[4\]: is 21 x 34, frames\[0\] is 34 x 21",
    ),
    "a row": (lambda _: combine([*STACK, STACK[0, 0]]), InputError, r"frames\[4\]: is an array of 34"),
    "no pixels": (lambda _: combine(np.ones((3, 0, 4))), InputError, "is an array of 0 x 4"),
    "bool": (lambda _: combine(STACK > 0), InputError, r"frames\[0\]: holds bool"),
    "complex": (lambda _: combine(STACK * 1j), InputError, r"frames\[0\]: holds complex128"),
    "long double": (lambda _: combine(STACK.astype(np.longdouble)), InputError, r"frames\[0\]: holds"),
    "text": (lambda _: combine([np.full((3, 3), "a")]), InputError, r"frames\[0\]: holds <U1"),
    "integers beyond float64": (
        lambda _: combine([np.full((2, 2), 2**53 + 2)] * 3),
        FrameError,
        r"frames\[0\]: has integers beyond 2\^53",
    ),
    "negative ones": (lambda _: combine([np.full((2, 2), -(2**60))]), FrameError, r"frames\[0\]: has integers"),
    "a mask of another shape": (
        lambda _: combine([NDData(STACK[0], unit="adu", mask=np.ones(3, bool))]),
        InputError,
        r"its mask is \(3,\)",
    ),
    "other units": (
        lambda _: combine([CCDData(STACK[0], unit="adu"), CCDData(STACK[1], unit="electron")]),
        InputError,
        r"frames\[1\]: its unit is electron, that of frames\[0\] is adu",
    ),
    "some without unit": (
        lambda _: combine([CCDData(STACK[0], unit="adu"), STACK[1]]),
        InputError,
        r"frames\[1\]: has no unit",
    ),
    "another unit than stated": (
        lambda _: combine([CCDData(STACK[0], unit="adu")], unit="electron"),
        InputError,
        "its unit is adu, unit= is",
    ),
    "no unit": (lambda _: combine(STACK, unit="spoons"), InputError, "unit='spoons' is no unit"),
    "files of other units": (
        lambda folder: combine(
            [
                write_frame(folder / "a.fits", STACK[0], BUNIT="ADU"),
                write_frame(folder / "b.fits", STACK[1], BUNIT="electron"),
            ]
        ),
        InputError,
        r"b\.fits: its unit is electron",
    ),
    "no file": (lambda folder: combine([folder / "none.fits"]), FrameError, r"none\.fits: there is no such file"),
    "a pattern": (lambda folder: combine([folder / "*.fits"]), FrameError, "patterns are for glob.glob"),
    "a folder": (lambda folder: combine([folder]), InputError, "is a folder; give its files"),
    "text in a file": (lambda folder: combine(text_file(folder)), FrameError, r"notes\.fits"),
    "a file cut short": (lambda folder: combine(truncated(folder)), FrameError, r"f_01\.fits: is cut short"),
    "a mosaic": (
        lambda folder: combine(one_of_many_images(folder)),
        FrameError,
        r"mosaic\.fits: holds 2 images \(IM1, IM2",
    ),
    "an open mosaic": (
        lambda _: combine([fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(STACK[0]), fits.ImageHDU(STACK[1])])]),
        FrameError,
        r"frames\[0\]: holds 2 images",
    ),
    "an HDU without samples": (lambda _: combine([fits.PrimaryHDU()]), InputError, "is an HDU without samples"),
    "an open file without images": (
        lambda _: combine([fits.HDUList([fits.PrimaryHDU()])]),
        InputError,
        "has no image of two axes",
    ),
    "no series": (lambda folder: combine([folder / "x.zarr"]), OstcalError, r"x\.zarr"),
    "an unknown method": (
        lambda _: combine(STACK, "sigma_clp"),
        InputError,
        r"'sigma_clp' is not known; did you mean sigma_clip\?",
    ),
    "the mean": (lambda _: combine(STACK, "average"), InputError, r"did you mean none\?"),
    "a method that is no text": (lambda _: combine(STACK, 3), InputError, "method=3 is not known"),
    "an unknown keyword": (lambda _: combine(STACK, sigma=3), InputError, "sigma is no keyword of combine"),
    "a keyword of another method": (
        lambda _: combine(STACK, "median", n_low=1),
        InputError,
        "n_low is a keyword of method minmax, not of median",
    ),
    "a negative threshold": (
        lambda _: combine(STACK, sigma_threshold=-3),
        InputError,
        "sigma_threshold=-3 is not allowed",
    ),
    "a threshold that is none": (lambda _: combine(STACK, sigma_low="3"), InputError, "sigma_low='3' is not allowed"),
    "a bool": (lambda _: combine(STACK, min_keep=True), InputError, "min_keep=True is not allowed"),
    "an unknown word": (lambda _: combine(STACK, clip_center="mode"), InputError, "write one of auto, mean, median"),
    "a spread that is not measured": (
        lambda _: combine(STACK, clip_spread="noise"),
        InputError,
        "clip_spread='noise' needs read noise and gain",
    ),
    "scales of too few": (lambda _: combine(STACK, scale=[1, 2]), InputError, "scale has the shape"),
    "a scale of 0": (lambda _: combine(STACK, scale=[1, 2, 0, 1]), InputError, r"scale\[2\] is 0\.0"),
    "a scale that is NaN": (lambda _: combine(STACK, scale=lambda _: np.nan), InputError, r"scale\[0\] is nan"),
    "an unknown scale": (lambda _: combine(STACK, scale="max"), InputError, "scale='max' is not known"),
    "a frame without light": (
        lambda _: combine([*STACK, STACK[0] * 0], scale="mean"),
        InputError,
        r"frames\[4\]: its level of 0",
    ),
    "no memory": (lambda _: combine(STACK, mem_limit=0), InputError, "mem_limit=0 is not allowed"),
    "memory in words": (lambda _: combine(STACK, mem_limit="4GB"), InputError, "mem_limit='4GB' is not allowed"),
    "no threads": (lambda _: combine(STACK, workers=0), InputError, "workers=0 is not allowed"),
    "unknown overscan": (lambda _: combine(STACK, overscan="yes"), InputError, "overscan='yes' is not allowed"),
    "Dask and arrays": (
        lambda _: combine([da.zeros((3, 3)), np.zeros((3, 3))]),
        InputError,
        r"frames\[1\]: is no Dask array",
    ),
    "Dask of another shape": (
        lambda _: combine([da.zeros((3, 3)), da.zeros((3, 4))]),
        InputError,
        r"frames\[1\]: is 3 x 4",
    ),
    "Dask of one image": (lambda _: combine(da.zeros((3, 3))), InputError, "Dask array of 2 axes"),
    "Dask of unknown size": (
        lambda _: combine(da.zeros((3, 3, 3))[da.from_array(np.ones(3)) > 0]),
        InputError,
        "unknown sizes",
    ),
    "Dask of nothing": (lambda _: combine(da.zeros((0, 3, 3))), NoFramesError, "no frames"),
    "Dask of bool": (lambda _: combine(da.zeros((3, 3, 3), dtype=bool)), InputError, "holds bool"),
    "a unit for Dask": (lambda _: combine(da.zeros((3, 3, 3)), unit="adu"), InputError, "compute the result"),
    "a function for Dask": (lambda _: combine(da.zeros((3, 3, 3)), scale=np.mean), InputError, "would load"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line(case: str, tmp_path: Path) -> None:
    call, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_error_of_a_generator_is_its_own() -> None:
    with pytest.raises(ValueError, match="the generator fails"):
        combine(endless())


def test_a_frame_of_dask_without_light_is_an_error_when_it_is_computed() -> None:
    lazy = combine(da.from_array(np.concatenate([STACK, STACK[:1] * 0]), chunks=2), scale="mean")
    with pytest.raises(InputError, match=r"frames\[4\]: its level of 0"):
        lazy.compute(scheduler="sync")
