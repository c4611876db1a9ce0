"""Masters of real frames, against the literal reference, other people's masters and what is known of the cameras."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

import naive
from ostcal import MasterFrameCreator, Status, load_master_dark, load_master_flat
from support import night as n
from support.fits_samples import read_with_astropy

FLOAT32_STEPS = 4 * np.finfo(np.float32).eps
"""Master dark, difference, quotient and NORMLV are each rounded to float32 once."""


def config_of(frames: Path, masters: Path, **keys: Any) -> dict[str, Any]:
    return {
        "dark_capture": {"output_dir": str(frames)},
        "flat_capture": {"output_dir": str(frames)},
        "master_frames": {"output_dir": str(masters), **keys},
        "compute": {"workers": 2},
    }


def values_of(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd cards of the cameras
        with fits.open(path, memmap=False) as hdus:
            return np.asarray(hdus[0].data)


def stack_of(paths: list[Path]) -> NDArray[Any]:
    return np.stack([values_of(path) for path in sorted(paths)])


def file_named(status: Status, start: str) -> Path:
    (path,) = [Path(p) for kind in status.data.values() for p in kind if Path(p).name.startswith(start)]
    return path


def std_of_samples(path: Path) -> NDArray[Any]:
    """Return the standard deviation of the kept samples of a master with extensions, in the master's unit."""
    with fits.open(path, memmap=False) as hdus:
        return np.asarray(hdus["UNCERT"].data * np.sqrt(hdus["NUSED"].data))


@pytest.fixture(scope="module")
def made(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Status]:
    """Make the masters of every set."""
    statuses = {}
    for name in ("arcsat", "st402/raw", "st402/lab0_3x3_raw", "atik"):
        masters = tmp_path_factory.mktemp(name.replace("/", "_"))
        creator = MasterFrameCreator(config_of(shared_data / name, masters, extensions=True))
        statuses[name] = creator.create_all_master_frames()
    return statuses


@pytest.mark.parametrize(
    ("name", "counts", "n_frames"),
    [
        ("arcsat", {"bias": 1, "dark": 1, "flat": 1}, [5, 5, 5]),
        ("st402/raw", {"bias": 0, "dark": 3, "flat": 2}, [5, 5, 5, 5, 4]),
        ("st402/lab0_3x3_raw", {"bias": 0, "dark": 0, "flat": 1}, [10]),
        ("atik", {"bias": 1, "dark": 4, "flat": 1}, [3, 3, 3, 3, 3, 3]),
    ],
)
def test_every_set_gives_its_masters(
    made: dict[str, Status], name: str, counts: dict[str, int], n_frames: list[int]
) -> None:
    status = made[name]
    assert not status.is_error, status.details["errors"]
    assert {kind: len(files) for kind, files in status.data.items()} == counts
    assert [s["n_frames"] for s in status.details["masters"].values()] == n_frames
    for files in status.data.values():
        for path in files:
            image, header = read_with_astropy(path)  # checksums and the standard verified, remarks are errors
            assert np.isfinite(image).all()
            assert header["REJSHARE"] < 0.04


def test_fitsverify_finds_nothing_in_masters_of_real_frames(made: dict[str, Status]) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian: apt install fitsverify)")
    files = [path for status in made.values() for kind in status.data.values() for path in kind]
    done = subprocess.run([program, "-q", *files], capture_output=True, text=True, check=False)
    assert done.stdout.count("verification OK") == len(files), done.stdout


# --- what is known of the cameras ---


def test_arcsat_has_the_read_noise_of_its_readme(made: dict[str, Status]) -> None:
    path = file_named(made["arcsat"], "master_bias")
    # the README's 11.5 ADU is 1.4826 MAD of differences, which are whole numbers; their standard deviation is 12.1
    assert read_with_astropy(path)[1]["SERNOISE"] == pytest.approx(12.01, abs=0.01)
    assert np.sqrt(np.mean(std_of_samples(path) ** 2)) == pytest.approx(12.1, rel=0.05)


def test_arcsat_has_the_dark_current_of_its_readme(shared_data: Path, tmp_path: Path, made: dict[str, Status]) -> None:
    by_median = MasterFrameCreator(config_of(shared_data / "arcsat", tmp_path, rejection_method="median"))
    for status, median_rate, hot in ((by_median.create_master_darks(), 0.1, 3150), (made["arcsat"], 0.0933, 3110)):
        dark, bias = (read_with_astropy(file_named(status, f"master_{k}"))[0] for k in ("dark_60", "bias"))
        rate = (dark.astype(np.float64) - bias) / 60
        assert np.median(rate) == pytest.approx(median_rate, abs=0.0005)
        assert np.count_nonzero(rate > 1) == pytest.approx(hot, abs=0 if status is not made["arcsat"] else 30)


def test_arcsat_flats_have_the_gain_of_the_readme(made: dict[str, Status]) -> None:
    path = file_named(made["arcsat"], "master_flat")
    image, header = read_with_astropy(path)
    level = header["NORMLV"]
    middle = (slice(256, 768), slice(256, 768))
    signal = float(np.median(image[middle])) * level
    std = np.sqrt(np.mean((std_of_samples(path)[middle] * level) ** 2))
    assert signal / (std**2 - 11.5**2) == pytest.approx(1.35, rel=0.05)


def test_arcsat_twilight_flats_are_one_group_with_scaled_dark_current(made: dict[str, Status]) -> None:
    _, header = read_with_astropy(file_named(made["arcsat"], "master_flat"))
    assert (header["EXPTIME"], header["EXPMIN"], header["EXPMAX"], header["FILTER"]) == (82.36, 76.15, 82.69, "z")
    assert "bias + dark current" in " ".join(map(str, header["HISTORY"]))


def test_a_picture_of_the_sky_among_the_darks_is_named_and_left_out(made: dict[str, Status], shared_data: Path) -> None:
    status = made["atik"]
    (line,) = [line for line in status.details["warnings"] if "JupiterandIo.fit" in line]
    assert "left out" in line
    assert "ostcal exclude" in line
    assert status.details["failed_quality"] == []
    path = file_named(status, "master_dark_10.000s")
    darks = [read_with_astropy(shared_data / "atik" / f"Dark-000{i}_10s.fit")[0].astype(np.float64) for i in (1, 2, 3)]
    assert abs(read_with_astropy(path)[0].mean() - np.mean(darks)) < 0.2


def test_a_bias_of_another_binning_is_not_used_for_flats(made: dict[str, Status]) -> None:
    _, header = read_with_astropy(file_named(made["atik"], "master_flat"))
    assert "master_dark_1.000s" in " ".join(map(str, header["HISTORY"]))


def test_flats_that_the_camera_program_dark_subtracted_are_named(made: dict[str, Status]) -> None:
    for name, mate in (("st402/raw", "L2-flat-red-180.00000000"), ("st402/lab0_3x3_raw", "expo2min30s.00000000")):
        (line,) = [line for line in made[name].details["warnings"] if "taken as dark-subtracted" in line]
        assert mate in line
    header = read_with_astropy(file_named(made["st402/raw"], "master_flat_180"))[1]
    assert header["CALSTAT"] == "BD"
    assert "dark:" not in " ".join(map(str, header["HISTORY"]))


# --- other people's masters ---


def made_with(shared_data: Path, masters: Path, method: str, kind: str, set_name: str = "st402/raw") -> Status:
    """Make darks or flats as others did: one method, no scaling."""
    keys = {"rejection_method": method, "flat_scaling": "none"}
    creator = MasterFrameCreator(config_of(shared_data / set_name, masters, **keys))
    return creator.create_master_darks() if kind == "darks" else creator.create_master_flats()


def in_adu(path: Path) -> NDArray[np.float64]:
    """Undo the normalisation of a flat."""
    image, header = read_with_astropy(path)
    return image.astype(np.float64) * header["NORMLV"]


def test_the_median_of_flats_minus_the_mean_dark_is_the_others_master(shared_data: Path, tmp_path: Path) -> None:
    made_with(shared_data, tmp_path, "none", "darks")
    status = made_with(shared_data, tmp_path, "median", "flats")
    theirs = values_of(shared_data / "st402/others_masters/master_flathg.fits")
    ours = in_adu(file_named(status, "master_flat_360"))
    dark = load_master_dark(360.0, config_of(tmp_path, tmp_path))
    rounding = FLOAT32_STEPS * np.abs(theirs) + dark * np.finfo(np.float32).eps / 2  # of the master dark
    assert np.all(np.abs(ours - theirs) <= rounding)
    theirs = values_of(shared_data / "st402/others_masters/master_flatneon.fits")
    np.testing.assert_allclose(in_adu(file_named(status, "master_flat_180")), theirs, rtol=FLOAT32_STEPS)


def test_the_median_of_ten_flats_is_the_others_master(shared_data: Path, tmp_path: Path) -> None:
    status = made_with(shared_data, tmp_path, "median", "flats", "st402/lab0_3x3_raw")
    theirs = values_of(shared_data / "st402/lab0_3x3_others_master/spec-master-flat.fits")
    np.testing.assert_allclose(in_adu(file_named(status, "master_flat")), theirs, rtol=FLOAT32_STEPS)


@pytest.mark.parametrize(
    ("method", "exposure_s", "science"),
    [("median", 1200.0, "L2-sci-neon-1200.00000000"), ("none", 240.0, "L2-sci-hg-240.00000000")],
)
def test_science_minus_the_loaded_dark_is_what_others_got(
    shared_data: Path, tmp_path: Path, method: str, exposure_s: float, science: str
) -> None:
    made_with(shared_data, tmp_path, method, "darks")
    dark = load_master_dark(exposure_s, config_of(tmp_path, tmp_path))
    raw = values_of(shared_data / f"st402/raw/{science}.FIT").astype(np.float64)
    theirs = values_of(shared_data / f"st402/others_masters/d-{science}.fits")
    np.testing.assert_allclose(raw - dark, theirs, atol=float(dark.max()) * 6e-8)


def test_real_masters_calibrate_a_real_light(shared_data: Path, made: dict[str, Status]) -> None:
    config = config_of(shared_data / "atik", Path(made["atik"].details["output_dir"]))
    light = values_of(shared_data / "atik/Flat-1s_01.fit")
    calibrated = (light - load_master_dark(1.0, config, binning=2)) / load_master_flat(config=config)
    assert np.median(calibrated) == pytest.approx(7340, rel=0.01)
    assert np.std(calibrated) < 0.5 * np.std(light), "the flat takes the vignetting out of a frame of its own"


# --- the literal reference, on cut-outs ---

ROWS, COLUMNS = slice(100, 116), slice(100, 160)
SETS: dict[str, tuple[str, str]] = {
    "arcsat_bias": ("arcsat/bias", "*.fits"),
    "arcsat_dark": ("arcsat/dark_60s", "*.fits"),
    "st402_240": ("st402/raw", "L2-dark-hg-240*"),
    "st402_1200": ("st402/raw", "L2-dark-neon-1200*"),
    "atik_bias": ("atik", "Bias*"),
    "atik_1": ("atik", "Dark*_1s.fit"),
    "atik_300": ("atik/ExtraSpectra", "Dark*_300s.fit"),
}


def cut_out(paths: list[Path], folder: Path) -> NDArray[Any]:
    """Write small pieces of frames with their headers; gives the samples."""
    folder.mkdir(parents=True)
    pieces = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(paths):
            with fits.open(path, memmap=False) as hdus:
                piece = hdus[0].data[ROWS, COLUMNS]
                fits.PrimaryHDU(piece, hdus[0].header).writeto(folder / path.name, output_verify="silentfix")
                pieces.append(np.array(piece))
    return np.stack(pieces)


@pytest.fixture(scope="module")
def pieces(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, NDArray[Any]]]:
    """Return a folder with the cut-outs of every set, and their samples."""
    root = tmp_path_factory.mktemp("pieces")
    stacks = {
        name: cut_out(sorted((shared_data / folder).glob(pattern)), root / name)
        for name, (folder, pattern) in SETS.items()
    }
    assert all(len(stack) in (3, 5) for stack in stacks.values())
    return root, stacks


def clip(center: str, spread: str, iterations: int | None) -> Callable[[naive.Noise], Any]:
    return lambda noise: partial(
        naive.sigma_clip, center=center, spread=spread, iterations=iterations, low=Fraction(3), high=Fraction(3),
        noise=noise,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "method"),
    [
        ({}, clip("median", "mad", 1)),
        ({"clip_center": "mean", "clip_spread": "std", "clip_iterations": None}, clip("mean", "std", None)),
        (
            {"rejection_method": "winsorized_sigma_clip"},
            lambda noise: partial(naive.winsorized_sigma_clip, low=Fraction(3), high=Fraction(3), noise=noise),
        ),
        ({"rejection_method": "minmax"}, lambda noise: naive.minmax),
        ({"rejection_method": "median"}, lambda noise: naive.median),
        ({"rejection_method": "none"}, lambda noise: naive.no_rejection),
    ],
    ids=["sigma_clip", "mean/std", "winsorized", "minmax", "median", "none"],
)
def test_cut_outs_of_every_set_are_what_the_definition_gives(
    pieces: tuple[Path, dict[str, NDArray[Any]]], tmp_path: Path, keys: dict[str, Any], method: Any
) -> None:
    root, stacks = pieces
    status = MasterFrameCreator(config_of(root, tmp_path, extensions=True, **keys)).create_master_darks()
    assert len(status.details["masters"]) == len(SETS)
    for statistics in status.details["masters"].values():
        stack = n.as_adu(stacks[Path(statistics["inputs"][0]).parent.name])
        reference = naive.combine_stack(stack, method(naive.series_noise(stack)))
        for path in statistics["files"]:
            np.testing.assert_array_equal(read_with_astropy(path)[0], reference.mean)
            np.testing.assert_array_equal(read_with_astropy(path, 2)[0], reference.n_used)


def test_cut_outs_of_flats_are_what_the_definition_gives(shared_data: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    dark = n.combined(cut_out(sorted((shared_data / "atik").glob("Dark*_1s.fit")), frames / "darks")).mean
    stack = cut_out(sorted((shared_data / "atik").glob("Flat*")), frames / "flats")
    status = MasterFrameCreator(config_of(frames, tmp_path / "masters")).create_all_master_frames()
    reference = n.combined_flat(stack, [1.0] * len(stack), dark)
    expected = reference.mean / naive.level(reference.mean, "mean")
    np.testing.assert_allclose(n.image_of(status, "flat"), expected, rtol=FLOAT32_STEPS)
