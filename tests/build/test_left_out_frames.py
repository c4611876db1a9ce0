"""Frames that are unlike the others are left out of their master, named, and the master is judged without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night, ostcal, run_command, write_config, write_frames

SHAPE = (96, 128)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    night = Night(tmp_path)
    write_frames(night.darks / "bias", biases(20), "Bias Frame", 0.001)
    return night


def biases(count: int, seed: int = 1) -> Any:
    return np.rint(np.random.default_rng(seed).normal(770, 7, (count, *SHAPE))).astype(np.uint16)


def flats(count: int, seed: int = 2) -> Any:
    rng = np.random.default_rng(seed)
    return rng.poisson(20000, (count, *SHAPE)) * 2.0 + 770


def write_flats(night: Night, frames: Any) -> list[Path]:
    return write_frames(night.flats, np.clip(np.rint(frames), 0, 65535).astype(np.uint16), "Flat Frame", 0.03)


def rows(frame: Any) -> None:
    frame[::2] *= 1.11


def half(frame: Any) -> None:
    frame[:, : SHAPE[1] // 2] *= 0.8


def stripes(frame: Any) -> None:
    frame += 3000 * np.sin(np.arange(SHAPE[1]) / 3)


@pytest.mark.parametrize("spoil", [rows, half, stripes])
@pytest.mark.parametrize(("count", "bad"), [(30, 16), (10, 0), (5, 4)])
def test_a_bad_flat_is_left_out_and_the_master_is_good(night: Night, spoil: Any, count: int, bad: int) -> None:
    frames = flats(count)
    spoil(frames[bad])
    paths = write_flats(night, frames)
    outcome = run_command(night)
    assert outcome.exit_code == 0, outcome.text
    said = " ".join(outcome.stderr.split())
    assert f"left out: {paths[bad]}" in said or str(paths[bad].name) in said
    assert "ostcal exclude" in said
    (master,) = night.masters.glob("master_flat*.fits")
    image, header = read_with_astropy(master)
    assert header["NCOMBINE"] == count - 1
    assert header["QCVERD"] != "FAIL"
    assert paths[bad].name not in str(header["HISTORY"])
    good = np.delete(np.rint(frames), bad, axis=0).mean(axis=0) - 770
    np.testing.assert_allclose(image, good / good.mean(), rtol=0.02)


@pytest.mark.parametrize("count", [6, 10, 15])
def test_flats_whose_shape_drifts_are_all_used(night: Night, count: int) -> None:
    frames = flats(count)
    y, x = np.indices(SHAPE)
    ring = np.cos((x / SHAPE[1] - 0.5) * 6) * np.cos((y / SHAPE[0] - 0.5) * 6)
    frames *= 1 + 0.15 * ring * np.linspace(-1, 1, count)[:, np.newaxis, np.newaxis]
    write_flats(night, frames)
    outcome = run_command(night)
    assert outcome.exit_code in (0, 3), outcome.text
    (master,) = night.masters.glob("master_flat*.fits")
    assert read_with_astropy(master)[1]["NCOMBINE"] == count, outcome.text
    assert "flat shape" in outcome.stderr


def test_a_dark_of_another_level_is_left_out(night: Night) -> None:
    darks = biases(12, seed=3)
    darks[5] += 100
    (bad,) = write_frames(night.darks / "d", darks, "Dark Frame", 10.0)[5:6]
    status = night.run_darks()
    assert not status.is_error, status.message
    dark = next(path for path in status.data["dark"] if "10.000s" in path)
    assert read_with_astropy(dark)[1]["NCOMBINE"] == 11
    assert any(f"{bad}: its level is +99.9 ADU" in line for line in status.details["warnings"])


def test_half_of_the_frames_are_a_mixture_and_stay(night: Night) -> None:
    darks = biases(12, seed=3)
    darks[::2] += 200
    write_frames(night.darks / "d", darks, "Dark Frame", 10.0)
    status = night.run_darks()
    assert not any("exclude it in every run" in line for line in status.details["warnings"])


def test_leave_out_false_keeps_every_frame(night: Night) -> None:
    frames = flats(12)
    rows(frames[3])
    write_flats(night, frames)
    config = {**night.config(), "quality": {"leave_out": False}}
    (night.root / "c.yaml").write_text(str(config).replace("'", '"').replace("False", "false"), encoding="utf-8")
    ostcal("masters", "--config", night.root / "c.yaml", "--no-confirm")
    (master,) = night.masters.glob("master_flat*.fits")
    assert read_with_astropy(master)[1]["NCOMBINE"] == 12


def test_the_smallest_group_keeps_its_frames(night: Night) -> None:
    frames = flats(3)
    rows(frames[1])
    write_flats(night, frames)
    run_command(night)
    (master,) = night.masters.glob("master_flat*.fits")
    assert read_with_astropy(master)[1]["NCOMBINE"] == 3


def test_an_unchanged_night_is_not_made_again(night: Night) -> None:
    frames = flats(12)
    rows(frames[3])
    write_flats(night, frames)
    first = night.run()
    assert night.run().data["flat"] == first.data["flat"]
    assert len(list(night.masters.glob("master_flat*.fits"))) == 1


@pytest.mark.parametrize("count", [12])
def test_the_command_that_is_named_leaves_the_frame_out(night: Night, count: int) -> None:
    frames = flats(count)
    frames[4] *= 1 + 0.02 * np.linspace(-1, 1, SHAPE[1])  # a warning, no frame of another kind
    frames[4, 10:30, 10:30] *= 0.96
    paths = write_flats(night, frames)
    outcome = run_command(night)
    line = next(line for line in " ".join(outcome.stderr.split()).split("WARNING") if paths[4].name in line)
    assert f"to leave it out: ostcal exclude {paths[4]} --config {night.root / 'c.yaml'} --why TEXT" in line
    assert ostcal("exclude", paths[4], "--config", write_config(night), "--why", "clouds").exit_code == 0
    status = night.run()
    assert read_with_astropy(n.one_file(status, "flat"))[1]["NCOMBINE"] == count - 1
