"""From folders of frames to masters on disk: the whole way, against references computed from the raw frames."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

import naive
from ostcal import MasterFrameCreator, load_config
from ostcal.build.from_config import request_of
from ostcal.inputs.import_fits import import_all, plan_imports
from ostcal.library.find import store_location
from ostcal.library.store import MasterStore
from support import night as n
from support.fits_samples import read_with_astropy, tile_compressed, write_frame
from support.night import Night

FLOAT32_ROUNDING = 2.5e-7
"""Two units in the last place: scales are rounded in another order here than in the program."""


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def histories(path: Path) -> str:
    return " ".join(str(line) for line in read_with_astropy(path)[1]["HISTORY"])


def header_of_master(status: Any, kind: str) -> fits.Header:
    return read_with_astropy(n.one_file(status, kind))[1]


def extension(path: Path, name: str) -> NDArray[Any]:
    with fits.open(path, checksum=True, memmap=False) as hdus:
        return np.asarray(hdus[name].data)


def import_all_fits(night: Night, *folders: Path) -> list[Path]:
    """Copy frames into series as ``ostcal import`` does; gives the series."""
    config = load_config(night.config())
    plans, left_out = plan_imports(
        [str(folder) for folder in folders],
        rules=request_of(config, bias=True, darks=True, flats=True).rules,
        dark_dir=str(night.darks),
        flat_dir=str(night.flats),
        masters_dir=str(night.masters),
    )
    assert left_out == []
    reports = import_all(plans, compressor="auto", on_frame=lambda plan, n_bytes: None)
    return [Path(report.location) for report in reports]


# --- bias and darks ---


def test_a_bias_set_gives_the_master_bias_and_the_dark_of_its_exposure(night: Night) -> None:
    reference = n.combined(n.write_bias(night))
    status = night.run()
    bias, dark = n.one_file(status, "bias"), n.one_file(status, "dark")
    assert re.fullmatch(r"master_bias_\d{8}_\d{6}\.fits", bias.name)
    assert re.fullmatch(r"master_dark_0\.001s_\d{8}_\d{6}\.fits", dark.name)
    for path, kind in ((bias, "Master Bias"), (dark, "Master Dark")):
        image, header = read_with_astropy(path)
        assert image.dtype == ">f4"
        np.testing.assert_array_equal(image, reference.mean)
        assert header["IMAGETYP"] == kind


def test_darks_of_the_shortest_exposure_are_bias_frames(night: Night) -> None:
    n.write_darks(night, 0.001)
    status = night.run()
    assert len(status.data["bias"]) == len(status.data["dark"]) == 1


def test_every_exposure_gives_its_dark(night: Night) -> None:
    stacks = {t: n.write_darks(night, t, n.dark_frames(t, seed=int(10 * t))) for t in (0.5, 2.0, 60.0)}
    status = night.run()
    by_exposure = {}
    for path in status.data["dark"]:
        image, header = read_with_astropy(path)
        by_exposure[header["EXPTIME"]] = image
    assert sorted(by_exposure) == [0.5, 2.0, 60.0]
    for exposure_s, stack in stacks.items():
        np.testing.assert_array_equal(by_exposure[exposure_s], n.combined(stack).mean)


METHODS: list[tuple[str, dict[str, Any], Callable[[naive.Noise], Callable[[list[Any]], naive.PixelResult]]]] = [
    ("default", {}, n.default_clip),
    (
        "mean/std to convergence at 2.7",
        {"clip_center": "mean", "clip_spread": "std", "clip_iterations": None, "sigma_threshold": 2.7},
        lambda noise: partial(
            naive.sigma_clip, center="mean", spread="std", iterations=None, low=Fraction(27, 10),
            high=Fraction(27, 10), noise=noise,
        ),
    ),
    (
        "different thresholds",
        {"sigma_low": 4, "sigma_high": 1.5},
        lambda noise: partial(
            naive.sigma_clip, center="median", spread="mad", iterations=1, low=Fraction(4), high=Fraction(3, 2),
            noise=noise,
        ),
    ),
    (
        "winsorized",
        {"rejection_method": "winsorized_sigma_clip"},
        lambda noise: partial(naive.winsorized_sigma_clip, low=Fraction(3), high=Fraction(3), noise=noise),
    ),
    ("minmax", {"rejection_method": "minmax"}, lambda noise: naive.minmax),
    ("percentile", {"rejection_method": "percentile"}, lambda noise: naive.percentile),
    (
        "minmax of two",
        {"rejection_method": "minmax", "n_low": 0, "n_high": 2},
        lambda noise: partial(naive.minmax, n_low=0, n_high=2),
    ),
    ("median", {"rejection_method": "median"}, lambda noise: naive.median),
    ("none", {"rejection_method": "none"}, lambda noise: naive.no_rejection),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "method"), [m[1:] for m in METHODS], ids=[m[0] for m in METHODS])
def test_every_method_gives_what_its_definition_gives(night: Night, keys: dict[str, Any], method: Any) -> None:
    stack = n.as_adu(n.write_darks(night, 5.0))
    reference = naive.combine_stack(stack, method(naive.series_noise(stack)))
    status = night.run(extensions=True, **keys)
    path = n.one_file(status, "dark")
    np.testing.assert_array_equal(n.image_of(status, "dark"), reference.mean)
    np.testing.assert_array_equal(extension(path, "NUSED"), reference.n_used)
    uncertainty = (reference.std / np.sqrt(np.maximum(reference.n_used, 1))).astype(np.float32)
    np.testing.assert_array_equal(extension(path, "UNCERT"), uncertainty)
    statistics = next(iter(status.details["masters"].values()))
    assert statistics["rejected_per_frame"] == reference.rejected_per_frame.tolist()


# --- flats ---


def test_flats_minus_their_dark_scaled_combined_and_normalised(night: Night) -> None:
    dark = n.combined(n.write_darks(night, 2.0)).mean
    stack = n.write_flats(night, 2.0)
    reference = n.combined_flat(stack, [2.0] * len(stack), dark)
    status = night.run(extensions=True)
    path = n.one_file(status, "flat")
    level = naive.level(reference.mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), reference.mean / level, rtol=FLOAT32_ROUNDING)
    np.testing.assert_array_equal(extension(path, "NUSED"), reference.n_used)
    uncertainty = reference.std / np.sqrt(reference.n_used) / level
    np.testing.assert_allclose(extension(path, "UNCERT"), uncertainty, rtol=1e-5)
    header = header_of_master(status, "flat")
    assert header["NORMLV"] == pytest.approx(level, rel=1e-7)
    assert (header["BUNIT"], header["CALSTAT"]) == ("", "BD")
    assert header["DATAMAX"] == pytest.approx(n.image_of(status, "flat").max())


@pytest.mark.parametrize("method", ["mean", "median", "max"])
def test_a_flat_has_its_chosen_level_at_one(night: Night, method: Any) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)
    status = night.run(normalization_method=method)
    assert naive.level(n.image_of(status, "flat"), method) == pytest.approx(1, abs=1e-7)
    assert header_of_master(status, "flat")["NORMTYPE"] == method


def test_each_colour_of_a_bayer_sensor_is_normalised_on_its_own(night: Night) -> None:
    stack = n.flat_frames(2.0, (20000, 21000, 19500, 22000))
    stack[:, ::2, ::2] //= 2
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, stack, BAYERPAT="RGGB")
    status = night.run()
    image, header = read_with_astropy(n.one_file(status, "flat"))
    assert header["BAYERPAT"] == "RGGB"
    greens = np.concatenate([image[::2, 1::2].ravel(), image[1::2, ::2].ravel()])
    for colour in (image[::2, ::2], greens, image[1::2, 1::2]):
        assert naive.level(colour, "mean") == pytest.approx(1, abs=1e-7)
    assert header["NORMLVR"] < 0.6 * header["NORMLVG"]
    plain = night.run(bayer_normalization=False)
    image, header = read_with_astropy(n.one_file(plain, "flat"))
    assert naive.level(image, "mean") == pytest.approx(1, abs=1e-7)
    assert image[::2, ::2].mean() < 0.6 * image[1::2, 1::2].mean()
    assert "NORMLV" in header


def test_twilight_flats_are_one_group_with_the_dark_of_each_exposure(night: Night) -> None:
    exposures = [1.0, 1.5, 2.2, 3.1, 4.6]
    bias, dark = n.combined(n.write_bias(night)).mean, n.combined(n.write_darks(night, 5.0)).mean
    stack = np.stack([n.flat_frames(t, [20000 + 300 * i], seed=i)[0] for i, t in enumerate(exposures)])
    n.write_frames(night.flats, stack, "Flat Frame", exposures, start=n.START + timedelta(hours=9))
    status = night.run()
    rate = ((dark.astype(np.float64) - bias) / (5.0 - 0.001)).astype(np.float32)
    offset = (bias - rate.astype(np.float64) * 0.001).astype(np.float32)
    reference = n.combined_flat(stack, exposures, offset, rate)
    expected = reference.mean / naive.level(reference.mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), expected, rtol=FLOAT32_ROUNDING)
    header = header_of_master(status, "flat")
    assert (header["EXPTIME"], header["EXPMIN"], header["EXPMAX"]) == (2.2, 1.0, 4.6)
    assert header["LIVETIME"] == pytest.approx(sum(exposures))
    assert "bias + dark current" in histories(n.one_file(status, "flat"))


def test_several_flats_at_each_of_two_exposures_are_two_masters(night: Night) -> None:
    n.write_darks(night, 1.0)
    n.write_darks(night, 2.0)
    n.write_flats(night, 1.0)
    n.write_flats(night, 2.0)
    status = night.run()
    assert len(status.data["flat"]) == 2
    assert {Path(p).name[:18] for p in status.data["flat"]} == {"master_flat_1.000s", "master_flat_2.000s"}


def test_scaling_of_flats_can_be_left_out(night: Night) -> None:
    dark = naive.combine_stack(n.as_adu(n.write_darks(night, 2.0)), naive.median).mean
    stack = n.write_flats(night, 2.0)
    status = night.run(flat_scaling="none", rejection_method="median")
    plain = naive.corrected_stack(
        n.as_adu(stack), scale=[1.0] * len(stack), dark_offset=dark, exposure_time_s=[2.0] * len(stack)
    )
    reference = naive.normalized(naive.combine_stack(plain, naive.median).mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), reference, rtol=FLOAT32_ROUNDING)


def test_flats_are_scaled_by_their_medians_on_request(night: Night) -> None:
    n.write_darks(night, 2.0)
    stack = n.write_flats(night, 2.0)
    stack[0, :3] = 60000  # a bright edge moves the mean, not the median
    for path in night.flats.iterdir():
        path.unlink()
    n.write_flats(night, 2.0, stack)
    status = night.run(flat_scaling="median")
    levels = next(s for s in status.details["masters"].values() if s["is_flat"])["frame_levels_adu"]
    dark = n.combined(n.dark_frames(2.0)).mean
    expected = [np.median((frame - dark.astype(np.float64)).astype(np.float32)) for frame in stack]
    np.testing.assert_allclose(levels, expected, rtol=1e-6)


def test_a_flat_without_light_is_left_out_and_named(night: Night) -> None:
    n.write_darks(night, 2.0)
    stack = n.write_flats(night, 2.0, n.flat_frames(2.0, (20000, 21000, 0, 22000, 20500)))
    status = night.run(extensions=True)
    assert status.is_warning
    assert any("flat_2_002.fits" in line and "left out" in line for line in status.details["warnings"])
    used = extension(n.one_file(status, "flat"), "NUSED")
    assert used.max() == len(stack) - 1


# --- which dark a flat gets ---


def dark_of_flat(status: Any) -> str:
    """Return the line of the header that says what was subtracted."""
    match = re.search(r"dark: (.*?) input ", histories(n.one_file(status, "flat")))
    assert match is not None
    return match[1]


def names_of_darks(night: Night, status: Any) -> list[str]:
    """Return the exact names of what was subtracted; only the store has them."""
    names: list[str] = MasterStore(store_location(str(night.masters))).attributes(n.one_file(status, "flat").stem)[
        "darks"
    ]
    return names


def test_the_nearest_dark_within_the_tolerance_is_taken(night: Night) -> None:
    n.write_bias(night)
    for exposure_s in (1.9, 2.05, 5.0):
        n.write_darks(night, exposure_s)
    n.write_flats(night, 2.0)
    status = night.run()
    assert "master_dark_2.050s" in dark_of_flat(status)
    assert header_of_master(status, "flat")["CALSTAT"] == "BD"


def test_without_a_matching_dark_bias_and_dark_current_are_scaled(night: Night) -> None:
    n.write_bias(night)
    n.write_darks(night, 5.0)
    n.write_flats(night, 2.0)
    status = night.run()
    assert re.search(
        r"bias \+ dark current: master_bias of \S+ and master_dark_5\.000s of \S+ \(", dark_of_flat(status)
    )
    assert header_of_master(status, "flat")["CALSTAT"] == "BD"
    assert status.is_success


def test_without_a_bias_the_line_through_two_darks_is_taken(night: Night) -> None:
    first, second = (n.combined(n.write_darks(night, t)).mean.astype(np.float64) for t in (5.0, 10.0))
    stack = n.write_flats(night, 2.0)
    status = night.run()
    assert "line through two darks" in dark_of_flat(status)
    rate = (second - first) / 5.0
    reference = n.combined_flat(stack, [2.0] * len(stack), (first - rate * 3.0).astype(np.float32))
    expected = reference.mean / naive.level(reference.mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), expected, rtol=1e-6)


def test_a_bias_alone_is_subtracted_with_a_warning(night: Night) -> None:
    n.write_bias(night)
    n.write_flats(night, 2.0)
    status = night.run()
    assert status.is_warning
    assert any("bias alone" in line for line in status.details["warnings"])
    assert header_of_master(status, "flat")["CALSTAT"] == "B"


def test_no_dark_for_a_flat_says_which_exposures_there_are(night: Night) -> None:
    n.write_darks(night, 60.0)
    n.write_flats(night, 2.0)
    status = night.run()
    assert status.is_error
    assert status.data["flat"] == []
    assert len(status.data["dark"]) == 1
    (error,) = status.details["errors"]
    assert "no dark for the flat of 2 s" in error
    assert "60 s" in error


def test_a_dark_of_another_gain_or_temperature_does_not_fit(night: Night) -> None:
    n.write_darks(night, 2.0, GAIN=200)
    n.write_flats(night, 2.0)
    (error,) = night.run().details["errors"]
    assert "gain 200" in error
    shutil.rmtree(night.darks)
    n.write_darks(night, 2.0, SET_TEMP=-20.0, CCD_TEMP=-20.0)
    (error,) = night.run().details["errors"]
    assert "temperature -20 C against -10 C" in error


@pytest.mark.parametrize("kept", ["both", "zarr", "fits"])
def test_flats_only_takes_darks_on_disk(night: Night, kept: str) -> None:
    n.whole_night(night.root)
    expected = n.image_of(night.run(), "flat")
    if kept == "zarr":
        for path in night.masters.glob("*.fits"):
            path.unlink()
    if kept == "fits":
        shutil.rmtree(night.masters / "masters.zarr")
    shutil.rmtree(night.darks)
    status = night.run_flats()
    assert status.is_success, status.message
    assert "master_dark_2.000s" in dark_of_flat(status)
    np.testing.assert_array_equal(n.image_of(status, "flat"), expected)


@pytest.mark.parametrize("kept", ["zarr", "fits"])
def test_of_equal_darks_on_disk_the_newest_is_taken(night: Night, kept: str) -> None:
    n.write_darks(night, 2.0, n.dark_frames(2.0, level=1000))
    old = n.one_file(night.run_darks(), "dark")
    shutil.rmtree(night.darks)
    n.write_darks(night, 2.0, n.dark_frames(2.0, level=1100))
    new = n.one_file(night.run_darks(), "dark")
    assert old.name < new.name
    if kept == "fits":
        shutil.rmtree(night.masters / "masters.zarr")
    n.write_flats(night, 2.0)
    assert names_of_darks(night, night.run_flats()) == [new.stem]


def test_a_dark_of_this_run_goes_before_an_equal_one_on_disk(night: Night) -> None:
    n.write_darks(night, 2.0)
    old = n.one_file(night.run_darks(), "dark")
    n.write_flats(night, 2.0)
    status = night.run(only_changed=False)
    assert names_of_darks(night, status) == [n.one_file(status, "dark").stem] != [old.stem]
    # without the time of the run: two equal runs write equal files
    assert dark_of_flat(status) == "master_dark_2.000s of 2026-11-21 (2 s)"


def test_masters_on_disk_are_not_used_where_the_configuration_says_so(night: Night) -> None:
    n.write_darks(night, 2.0)
    night.run_darks()
    n.write_flats(night, 2.0)
    assert night.run_flats(auto_load_masters=False).is_error


def test_flats_that_say_they_are_dark_subtracted_are_not_subtracted_again(night: Night) -> None:
    n.write_darks(night, 2.0)
    stack = n.flat_frames(0.0, (20000, 21000, 19500, 22000), level=0)
    n.write_flats(night, 2.0, stack, CALSTAT="BD")
    status = night.run()
    reference = n.combined_flat(stack, [2.0] * len(stack), None)
    expected = reference.mean / naive.level(reference.mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), expected, rtol=FLOAT32_ROUNDING)
    assert header_of_master(status, "flat")["CALSTAT"] == "BD"
    assert "dark:" not in histories(n.one_file(status, "flat"))


def test_darks_that_were_dark_subtracted_are_left_out_and_named(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_darks(night, 5.0, CALSTAT="D")
    status = night.run()
    assert len(status.data["dark"]) == 1
    assert any("already subtracted" in line for line in status.details["warnings"])


# --- what is asked for ---


def test_masters_may_stay_in_the_zarr_store(night: Night) -> None:
    n.whole_night(night.root)
    status = night.run(save_individual_masters=False)
    assert list(night.masters.glob("*.fits")) == []
    assert {kind: len(files) for kind, files in status.data.items()} == {"bias": 1, "dark": 3, "flat": 1}
    assert all(Path(path).is_dir() for files in status.data.values() for path in files)
    assert night.run_flats().is_success


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        ("create_master_bias", {"bias": 0, "dark": 3, "flat": 1}),
        ("create_master_darks", {"bias": 1, "dark": 0, "flat": 1}),
        ("create_master_flats", {"bias": 1, "dark": 3, "flat": 0}),
    ],
)
def test_kinds_can_be_switched_off(night: Night, switch: str, expected: dict[str, int]) -> None:
    n.whole_night(night.root)
    status = night.run(**{switch: False})
    assert not status.is_error
    assert {kind: len(files) for kind, files in status.data.items()} == expected


def test_without_new_darks_flats_take_those_on_disk(night: Night) -> None:
    n.whole_night(night.root)
    first = night.run()
    dark = next(path for path in first.data["dark"] if "2.000s" in path)
    status = night.run(create_master_darks=False, only_changed=False)
    assert names_of_darks(night, status) == [Path(dark).stem]


def test_each_night_has_its_own_masters_on_request(night: Night) -> None:
    for day in range(2):
        start = n.START + timedelta(days=day)
        n.write_frames(night.darks / f"night{day}", n.dark_frames(5.0, seed=day), "Dark Frame", 5.0, start=start)
    assert len(night.run().data["dark"]) == 1
    files = night.run(per_session=True).data["dark"]
    assert sorted(Path(path).name[:33] for path in files) == [
        "master_dark_5.000s_night20261121_",
        "master_dark_5.000s_night20261122_",
    ]


# --- input ---


def test_frames_in_files_and_in_series_are_one_group_and_copies_count_once(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    (series,) = import_all_fits(night, night.darks)
    assert series.name == "exp_5.000s.zarr"
    files = sorted((night.darks / "exp_5.000s").iterdir())
    for path in files[:4]:
        path.unlink()  # 3 frames are in both, 4 in the series alone
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
    assert header_of_master(status, "dark")["NCOMBINE"] == len(stack)
    assert any("counts once" in line for line in status.details["warnings"])


def test_new_files_beside_a_series_join_it(night: Night) -> None:
    stack = n.dark_frames(5.0, 9)
    n.write_frames(night.root / "first", stack[:5], "Dark Frame", 5.0)
    import_all_fits(night, night.root / "first")
    n.write_frames(night.darks, stack[5:], "Dark Frame", 5.0, start=n.START + timedelta(hours=1))
    status = night.run()
    assert [line for line in status.details["warnings"] if "no flat" not in line] == []
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)


def test_a_copy_of_a_file_counts_once(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    original = next((night.darks / "exp_5.000s").iterdir())
    shutil.copy(original, original.with_name("dark_000 (1).fits"))
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)


@pytest.mark.parametrize("packing", ["gz", "fz"])
def test_compressed_files_give_the_same_master(night: Night, packing: str) -> None:
    stack = n.write_darks(night, 5.0)
    for path in sorted((night.darks / "exp_5.000s").iterdir()):
        if packing == "gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        else:
            values, header = read_with_astropy(path)
            cards = {k: header[k] for k in ("IMAGETYP", "EXPTIME", "DATE-OBS", "INSTRUME", "GAIN", "SET-TEMP")}
            tile_compressed(path.with_name(path.name + ".fz"), values.astype(np.uint16), **cards)
        path.unlink()
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
    assert [p for p in night.masters.iterdir() if p.name.startswith(".")] == []


def test_signed_and_unsigned_files_of_one_camera_are_combined(night: Night) -> None:
    stack = n.dark_frames(5.0, 6)
    n.write_frames(night.darks, stack[:3], "Dark Frame", 5.0, stem="unsigned")
    later = n.START + timedelta(hours=1)
    n.write_frames(night.darks, stack[3:].astype(np.int16), "Dark Frame", 5.0, stem="signed", start=later)
    np.testing.assert_allclose(n.image_of(night.run(), "dark"), n.combined(stack).mean, rtol=1e-7)


def test_signed_16_bit_frames_are_exact(night: Night) -> None:
    stack = n.dark_frames(5.0).astype(np.int32) - 1010
    n.write_frames(night.darks, stack.astype(np.int16), "Dark Frame", 5.0)
    np.testing.assert_array_equal(n.image_of(night.run(), "dark"), n.combined(stack).mean)


def test_32_bit_integers_beyond_16_bits_are_combined(night: Night) -> None:
    stack = n.dark_frames(5.0).astype(np.int32) + 1_000_000
    n.write_frames(night.darks, stack, "Dark Frame", 5.0)
    status = night.run()
    as_float = stack.astype(np.float64)
    reference = naive.combine_stack(as_float, n.default_clip(naive.series_noise(as_float)))
    np.testing.assert_array_equal(n.image_of(status, "dark"), reference.mean)


def test_nan_samples_are_dropped_and_counted(night: Night) -> None:
    stack = n.dark_frames(5.0).astype(np.float32) + np.float32(0.25)
    stack[0, 3, 4] = np.nan
    stack[:, 7, 8] = np.nan
    stack[1, 9, 9] = np.inf
    n.write_frames(night.darks, stack, "Dark Frame", 5.0)
    status = night.run(extensions=True)
    reference = n.combined(stack)
    image = n.image_of(status, "dark")
    np.testing.assert_array_equal(image, reference.mean)
    assert np.isnan(image[7, 8])
    assert extension(n.one_file(status, "dark"), "NUSED")[7, 8] == 0
    assert any("9 samples are not finite" in line for line in status.details["warnings"])
    assert header_of_master(status, "dark")["NANPIX"] == 1


def test_a_third_axis_of_one_is_dropped(night: Night) -> None:
    stack = n.dark_frames(5.0)
    n.write_frames(night.darks, stack[:, None], "Dark Frame", 5.0)
    image = n.image_of(night.run(), "dark")
    assert image.shape == n.SHAPE
    np.testing.assert_array_equal(image, n.combined(stack).mean)


def test_kinds_in_one_folder_are_told_apart_by_their_headers(night: Night) -> None:
    folder = night.darks
    n.write_frames(folder, n.bias_frames(), "zero", 0.001, stem="a")
    n.write_frames(folder, n.dark_frames(2.0), "DARK", 2.0, stem="b", start=n.START + timedelta(hours=1))
    n.write_frames(folder, n.flat_frames(2.0, (20000,) * 4), "Flat Field", 2.0, stem="c")
    n.write_frames(folder, n.flat_frames(2.0, (20000,) * 2), "Light Frame", 2.0, stem="d")
    status = night.run()
    assert {kind: len(files) for kind, files in status.data.items()} == {"bias": 1, "dark": 2, "flat": 1}


def test_names_stand_in_for_what_headers_do_not_say(night: Night) -> None:
    stack = n.write_darks(night, 5.0, IMAGETYP=None, EXPTIME=None)
    n.write_frames(night.flats, n.flat_frames(5.0, (20000, 20500, 21000)), "Light Frame", 5.0, stem="x")
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
    assert len(status.data["flat"]) == 1


def test_a_master_dark_among_the_darks_is_not_combined(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    folder = night.darks / "exp_5.000s"
    write_frame(folder / "old.fits", stack[0], IMAGETYP="Master Dark", EXPTIME=5.0, DATE_OBS="2026-01-01T00:00:00")
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
    assert any("old.fits" in line and "master" in line for line in status.details["warnings"])


@pytest.mark.parametrize("where", ["above", "same"])
def test_masters_may_be_written_above_or_beside_the_frames(tmp_path: Path, where: str) -> None:
    """An output directory that holds the frames must not hide them; a second run must not take the masters."""
    night = Night(tmp_path)
    stack = n.write_darks(night, 5.0)
    output_dir = tmp_path if where == "above" else night.darks
    for _ in range(2):
        status = night.run(output_dir=str(output_dir))
        np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
        assert [line for line in status.details["warnings"] if "master_dark" in line] == []


# --- names ---


def names(status: Any, kind: str) -> list[str]:
    """Return the names without the time of the run."""
    return sorted(re.sub(r"_\d{8}_\d{6}\.fits$", "", Path(path).name) for path in status.data[kind])


def test_what_differs_between_groups_joins_their_names(night: Night) -> None:
    n.write_darks(night, 2.0)
    assert names(night.run(), "dark") == ["master_dark_2.000s"]
    for index, (cards, expected) in enumerate(
        [
            ({"GAIN": 200}, ["master_dark_2.000s_gain100", "master_dark_2.000s_gain200"]),
            (
                {"SET_TEMP": -20.0, "CCD_TEMP": -20.0},
                ["master_dark_2.000s_-10.0C", "master_dark_2.000s_-20.0C"],
            ),
            ({"XBINNING": 2, "YBINNING": 2}, ["master_dark_2.000s_bin1x1", "master_dark_2.000s_bin2x2"]),
            ({"OFFSET": 50}, ["master_dark_2.000s_offset30", "master_dark_2.000s_offset50"]),
        ]
    ):
        extra = night.darks / "extra"
        n.write_frames(extra, n.dark_frames(2.0, seed=50 + index), "Dark Frame", 2.0, **cards)
        assert names(night.run(), "dark") == expected
        shutil.rmtree(extra)


def test_filters_join_the_names_of_flats(night: Night) -> None:
    n.write_darks(night, 2.0)
    for index, name in enumerate(("R", "Ha 7nm")):
        stack = n.flat_frames(2.0, (20000, 20500, 21000), seed=index)
        n.write_frames(night.flats / name, stack, "Flat Frame", 2.0, FILTER=name)
    status = night.run()
    assert names(status, "flat") == ["master_flat_2.000s_Ha-7nm", "master_flat_2.000s_R"]
    assert {read_with_astropy(path)[1]["FILTER"] for path in status.data["flat"]} == {"R", "Ha 7nm"}


def test_exposures_that_three_decimals_do_not_tell_apart_have_more(night: Night) -> None:
    for index, exposure_s in enumerate((0.0021, 0.0024)):
        n.write_frames(night.darks / str(index), n.dark_frames(0, seed=index), "Dark Frame", exposure_s)
    assert names(night.run(), "dark") == ["master_dark_0.0021s", "master_dark_0.0024s"]


def test_two_runs_within_a_second_do_not_overwrite_each_other(night: Night) -> None:
    n.write_darks(night, 2.0)
    files = {str(n.one_file(night.run(only_changed=False), "dark")) for _ in range(3)}
    assert len(files) == 3


# --- what is in the files ---

COMMON_CARDS = {
    "IMAGETYP", "COMBINED", "NCOMBINE", "STACKCNT", "CALSTAT", "EXPTIME", "EXPOSURE", "LIVETIME", "DATE-OBS",
    "DATE-END", "EXPSTART", "EXPEND", "DATE", "INSTRUME", "CCD-TEMP", "SET-TEMP", "TEMPMIN", "TEMPMAX", "GAIN",
    "OFFSET", "EGAIN", "READOUTM", "XBINNING", "YBINNING", "XPIXSZ", "YPIXSZ", "BAYERPAT", "XBAYROFF", "YBAYROFF",
    "ROWORDER", "BUNIT", "DATAMIN", "DATAMAX", "COMBTYPE", "REJTYPE", "SIGLOW", "SIGHIGH", "PROGRAM", "SWCREATE",
    "CALID", "INPDIGST", "CHECKSUM", "DATASUM", "HISTORY",
}  # fmt: skip


def test_headers_have_the_cards_that_other_programs_read(night: Night) -> None:
    cards = {
        "EGAIN": 1.25, "READOUTM": "Low Noise", "XPIXSZ": 3.76, "YPIXSZ": 3.76, "BAYERPAT": "GRBG",
        "ROWORDER": "TOP-DOWN", "FILTER": "L", "CCD_TEMP": -9.9,
    }  # fmt: skip
    n.write_bias(night, **cards)
    n.write_darks(night, 2.0, **cards)
    n.write_flats(night, 2.0, **cards)
    status = night.run()
    for kind, count in (("bias", "BIAS_CNT"), ("dark", "DARK_CNT"), ("flat", "FLAT_CNT")):
        for path in status.data[kind]:
            image, header = read_with_astropy(path)
            assert COMMON_CARDS | {count} <= set(header), COMMON_CARDS - set(header)
            assert header[count] == header["NCOMBINE"] == header["STACKCNT"] == (5 if kind == "flat" else 7)
            assert header["DATAMIN"] == pytest.approx(float(image.min()))
            assert header["DATAMAX"] == pytest.approx(float(image.max()))
            assert (header["GAIN"], header["OFFSET"], header["EGAIN"]) == (100, 30, 1.25)
            assert isinstance(header["GAIN"], int)
            assert header["BUNIT"] == ("" if kind == "flat" else "adu")
            assert (header["CCD-TEMP"], header["SET-TEMP"]) == (-9.9, -10)
            assert header["PROGRAM"].startswith("ostcal ")
            assert header["INSTRUME"] == "Synthetic"
    dark = next(path for path in status.data["dark"] if "2.000s" in path)
    _, header = read_with_astropy(dark)
    assert (header["IMAGETYP"], header["EXPTIME"], header["LIVETIME"]) == ("Master Dark", 2.0, 14.0)
    assert header["DATE-OBS"] == "2026-11-21T18:02:00.000"
    assert header["DATE-END"] == "2026-11-21T18:02:32.000"  # 6 x (2 + 3) s, and the last exposure
    assert header["EXPSTART"] == pytest.approx(2461366.2513889, abs=1e-6)
    assert (header["COMBTYPE"], header["REJTYPE"], header["SIGLOW"]) == ("mean", "sigma_clip median/mad", 3.0)
    assert "dark_000.fits" in histories(Path(dark))
    assert n.image_of(status, "flat").max() < 10, "a flat with a DATAMAX above 10 would be scaled by Siril"


def test_exposures_and_temperatures_that_vary_are_told(night: Night) -> None:
    stack = n.dark_frames(5.0, 3)
    for index, temperature_c in enumerate((-10.4, -10.0, -9.5)):
        start = n.START + timedelta(minutes=index)
        n.write_frames(
            night.darks, stack[index : index + 1], "Dark Frame", 5.0 + index / 1000, stem=f"d{index}", start=start,
            CCD_TEMP=temperature_c,
        )  # fmt: skip
    header = header_of_master(night.run(), "dark")
    assert (header["TEMPMIN"], header["CCD-TEMP"], header["TEMPMAX"]) == (-10.4, -10.0, -9.5)
    assert (header["EXPMIN"], header["EXPTIME"], header["EXPMAX"]) == (5.0, 5.001, 5.002)


@pytest.mark.parametrize("extensions", [False, True])
def test_fitsverify_finds_nothing(night: Night, extensions: bool) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian: apt install fitsverify)")
    n.whole_night(night.root)
    long_name = night.root / "darks" / ("a folder with a long name, " * 4) / "it's here"
    n.write_frames(long_name, n.dark_frames(9.0), "Dark Frame", 9.0, FILTER="O'III")
    status = night.run(extensions=extensions)
    files = [path for kind in status.data.values() for path in kind]
    assert len(files) == 6
    done = subprocess.run([program, "-e", *files], capture_output=True, text=True, check=False)
    verdicts = re.findall(r"\d+ warnings? and \d+ errors?", done.stdout)
    quiet = subprocess.run([program, "-q", *files], capture_output=True, text=True, check=False)
    assert quiet.stdout.count("verification OK") == len(files), quiet.stdout
    assert all(v.startswith("0 warnings and 0 errors") for v in verdicts)


def test_the_store_holds_what_the_files_hold(night: Night) -> None:
    from ostcal.library.store import MasterStore

    n.whole_night(night.root)
    status = night.run(extensions=True)
    store = MasterStore(night.masters / "masters.zarr")
    assert len(store.names()) == 4
    for kind in status.data.values():
        for path in map(Path, kind):
            name = path.stem.replace("master_dark_0.001s", "master_bias")
            planes = store.open(name)
            np.testing.assert_array_equal(planes.read_rows("master", 0, n.SHAPE[0]), read_with_astropy(path)[0])
            np.testing.assert_array_equal(planes.read_rows("n_used", 0, n.SHAPE[0]), extension(path, "NUSED"))


def test_a_group_that_is_too_small_is_reported_and_left_out(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_darks(night, 5.0, n.dark_frames(5.0, 2))
    status = night.run()
    assert names(status, "dark") == ["master_dark_2.000s"]
    assert any("min_frames 3" in line and "5 s" in line for line in status.details["warnings"])
    assert len(night.run(min_frames=2).data["dark"]) == 2


def test_a_frame_that_lost_many_pixels_is_named(night: Night) -> None:
    stack = n.dark_frames(5.0, 9)
    stack[4, :8] += 300  # a strip of light
    n.write_darks(night, 5.0, stack)
    config = {**night.config(), "quality": {"leave_out": False}}
    warnings = MasterFrameCreator(config).create_all_master_frames().details["warnings"]
    assert any("dark_004.fits" in line and "rejected" in line for line in warnings)
    warnings = night.run().details["warnings"]
    assert any("left out: " in line and "dark_004.fits: " in line for line in warnings)
    assert not any("dark_004.fits" in line for line in night.run(quality_control=False).details["warnings"])
