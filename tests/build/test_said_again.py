"""What masters were warned of: said with what to do when they are made, and again where they are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night, Outcome

SHAPE = (128, 128)


def frames(levels: list[float] | NDArray[Any], noise: float = 8.0, seed: int = 1) -> NDArray[np.uint16]:
    """Give a frame of each level."""
    rng = np.random.default_rng(seed)
    stack = np.asarray(levels, dtype=float)[:, np.newaxis, np.newaxis] + rng.normal(0, noise, (len(levels), *SHAPE))
    return np.clip(np.rint(stack), 0, 65535).astype(np.uint16)


def masters(night: Night, *options: str, **keys: Any) -> Outcome:
    return n.ostcal("masters", "--config", n.write_config(night, **keys), "--no-confirm", *options)


def calibrate(night: Night, **keys: Any) -> Outcome:
    return n.ostcal(
        "calibrate", night.root / "lights", "--config", n.write_config(night, **keys), "--flat", "none", "--overwrite"
    )


def lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


@pytest.fixture
def two_levels(tmp_path: Path) -> Night:
    """A night with two of seven bias frames 14 ADU high, darks of 300 s, and a light of 600 s."""
    night = Night(tmp_path)
    n.write_bias(night, frames([1354] * 2 + [1340] * 5))
    n.write_darks(night, 300.0, frames([1370] * 5, seed=2))
    n.write_frames(night.root / "lights", frames([1900], seed=3), "Light Frame", 600.0)
    return night


def test_a_bias_of_two_levels_is_named_when_made_and_when_used(two_levels: Night) -> None:
    made = masters(two_levels)
    assert made.exit_code == 0
    said = lines_with(made.text, "master_bias", "level jump")
    assert [name for name in ("bias_000", "bias_001", "bias_002") if any(name in line for line in said)] == [
        "bias_000",
        "bias_001",
    ]
    used = calibrate(two_levels)
    assert used.exit_code == 0
    assert lines_with(used.text, "master_", "made with a warning", "level jump")


def test_a_flat_of_a_later_run_repeats_what_its_dark_was_warned_of(two_levels: Night) -> None:
    masters(two_levels)
    n.write_flats(two_levels, 300.0, frames([20000, 20100, 20050], noise=100.0, seed=5), FILTER="L")
    n.write_flats(two_levels, 20.0, frames([20000, 20100, 20050], noise=100.0, seed=6), FILTER="R")
    later = masters(two_levels)
    assert later.exit_code == 0
    assert lines_with(later.text, "master_flat", "its dark", "level jump")


def test_a_clean_dark_is_not_spoken_of_again(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 300.0, frames([1370] * 5, seed=2))
    n.write_frames(night.root / "lights", frames([1900], seed=3), "Light Frame", 300.0)
    made = masters(night)
    assert made.exit_code == 0
    # that they are few is no warning, but it is why the table says warn
    (few,) = lines_with(made.text, "5 frames", "are advised")
    assert "take more frames" in few
    assert "warning" not in few.lower()
    assert "made with a warning" not in calibrate(night).text


@pytest.mark.parametrize(("n_frames", "other"), [(8, [1, 3, 5, 7]), (10, [5, 6, 7, 8, 9])])
def test_half_of_the_frames_at_another_level_fail_and_are_never_chosen(
    tmp_path: Path, n_frames: int, other: list[int]
) -> None:
    night = Night(tmp_path)
    levels = np.full(n_frames, 530.0)
    levels[other] += 3000
    n.write_darks(night, 300.0, frames(levels))
    n.write_frames(night.root / "lights", frames([1900], seed=3), "Light Frame", 300.0)
    made = masters(night)
    assert made.exit_code == 3
    (line,) = lines_with(made.text, "FAILED: mixture")
    assert "530" in line
    assert "3530" in line
    assert "exclude one of the groups" in line
    refused = calibrate(night)
    assert refused.exit_code == 1
    assert "failed" in refused.text


@pytest.mark.parametrize("n_frames", [3, 5, 8, 9])
def test_one_frame_of_another_level_among_few_is_rejected_and_named(tmp_path: Path, n_frames: int) -> None:
    night = Night(tmp_path)
    levels = np.full(n_frames, 530.0)
    levels[1] += 3000
    n.write_darks(night, 300.0, frames(levels))
    made = masters(night)
    assert "dark_001.fits" in made.text
    (path,) = night.masters.glob("master_dark*.fits")
    image, _ = read_with_astropy(path)
    assert float(np.mean(image, dtype=np.float64)) == pytest.approx(530, abs=0.5)


# ---- the level of science frames ----


@pytest.mark.parametrize(
    ("level", "is_named"), [(1360.0, True), (1340.0, True), (1370.0, False), (1369.0, False), (1500.0, False)]
)
def test_a_light_whose_bias_level_is_below_that_of_its_dark_is_named(
    tmp_path: Path, level: float, is_named: bool
) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 300.0, frames([1370] * 6, seed=2))
    n.write_frames(night.root / "lights", frames([level], seed=3), "Light Frame", 300.0)
    masters(night)
    used = calibrate(night)
    assert used.exit_code == 0
    found = lines_with(used.text, "light_000.fits", "its bias level is lower than that of master_dark")
    assert bool(found) is is_named
    assert len(found) == is_named


def test_findings_are_read_back_from_masters_of_other_versions(two_levels: Night) -> None:
    masters(two_levels)
    for path in two_levels.masters.glob("masters.zarr/*/zarr.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        quality = document["attributes"].get("quality")
        if quality:
            quality["findings"] = [{"check": "level jump"}, "odd", *quality["findings"]]
            path.write_text(json.dumps(document), encoding="utf-8")
    used = calibrate(two_levels)
    assert used.exit_code == 0


@pytest.mark.parametrize("exposure_s", [600.0, 600.3])
def test_twice_the_exposure_of_a_dark_is_within_the_limit_as_clocks_tell_it(
    two_levels: Night, exposure_s: float
) -> None:
    """The bias has 1 ms, and a clock adds 0.3 s: the dark current is scaled up 2.001 times, the limit is 2."""
    (two_levels.root / "lights" / "light_000.fits").unlink()
    n.write_frames(two_levels.root / "lights", frames([1900], seed=3), "Light Frame", exposure_s)
    masters(two_levels)
    assert calibrate(two_levels).exit_code == 0
    n.write_frames(two_levels.root / "lights" / "longer", frames([1900], seed=3), "Light Frame", 610.0)
    assert "max_scale_up" in calibrate(two_levels).text
