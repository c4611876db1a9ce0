"""A dark or a bias of two levels is never subtracted from flats, not even in the run that makes it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ostcal import Status
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

DARK_ADU = 1000.0
LIGHT_ADU = (20000, 21000, 19500, 22000)


def write_mixture(night: Night, kind: str, exposure_s: float, n_frames: int = 8) -> None:
    """Write frames of which every second one is 400 ADU higher."""
    for number, frame in enumerate(n.samples(n_frames, DARK_ADU, seed=5)):
        high = (frame.astype(np.int64) + 400 * (number % 2)).astype(np.uint16)
        start = n.START + timedelta(minutes=number)
        n.write_frames(night.darks / f"mix_{kind[:4]}", high[None], kind, exposure_s, stem=f"m{number}", start=start)


def write_flats(night: Night) -> None:
    """Write flats whose light falls to a third along a row: a wrong level of the dark changes their shape."""
    light = np.linspace(1.0, 1 / 3, n.SHAPE[1]) * np.ones(n.SHAPE)
    frames = [n.samples(1, DARK_ADU + adu * light, noise=30, seed=adu) for adu in LIGHT_ADU]
    n.write_frames(night.flats, np.concatenate(frames), "Flat Frame", 2.0, start=n.START + timedelta(hours=8))


def falls_to(status: Status) -> float:
    """Return the level of the last columns of the flat against the first: a third where the dark is right."""
    image = n.image_of(status, "flat")
    return float(np.median(image[:, -2:]) / np.median(image[:, :2]))


TRUE = float(np.linspace(1.0, 1 / 3, n.SHAPE[1])[-2:].mean() / np.linspace(1.0, 1 / 3, n.SHAPE[1])[:2].mean())


def line_of(status: Status, kind: str = "warnings") -> str:
    (line,) = (line for line in status.details[kind] if "is a mixture of two levels and is not taken" in line)
    return str(line)


def test_another_dark_of_the_library_is_taken(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_frames(night.darks, n.bias_frames(seed=8), "Dark Frame", 2.0, start=n.START - timedelta(days=2))
    stored = night.run_darks().data["dark"][0]
    for path in night.darks.glob("*.fits"):
        path.unlink()
    write_mixture(night, "Dark Frame", 2.0)
    write_flats(night)
    status = night.run()
    assert falls_to(status) == pytest.approx(TRUE, abs=0.002)
    assert f"instead: {Path(stored).stem} (2 s)" in line_of(status)
    assert "4 frames are at 1000" in line_of(status)
    assert read_with_astropy(n.one_file(status, "flat"))[1]["AGEDARK"] > 2


def test_the_bias_alone_is_taken_where_there_is_no_other_dark(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    write_mixture(night, "Dark Frame", 2.0)
    write_flats(night)
    status = night.run()
    assert falls_to(status) == pytest.approx(TRUE, abs=0.002)
    assert "instead: bias alone, no dark current: master_bias" in line_of(status)
    assert [line for line in status.details["warnings"] if "no dark fits, bias alone" in line]


def test_a_bias_of_two_levels_does_not_scale_a_dark(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_mixture(night, "Bias Frame", 0.001)
    n.write_darks(night, 2.1, n.bias_frames(seed=4))
    write_flats(night)
    status = night.run()
    assert falls_to(status) == pytest.approx(TRUE, abs=0.002)
    assert "instead: master_dark_2.100s (2.1 s)" in line_of(status)


def test_without_anything_else_the_flat_is_not_made_and_the_darks_are(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_mixture(night, "Dark Frame", 2.0)
    write_flats(night)
    status = night.run()
    assert status.data["flat"] == []
    assert len(status.data["dark"]) == 1
    assert "there are no darks and no bias at all" in line_of(status, "errors")


def test_the_next_run_says_it_again_and_takes_a_right_dark_when_there_is_one(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    write_mixture(night, "Dark Frame", 2.0)
    write_flats(night)
    night.run()
    assert line_of(night.run())
    for path in (night.darks / "mix_Dark").glob("*.fits"):
        path.unlink()
    n.write_darks(night, 2.0, n.bias_frames(seed=4))
    status = night.run()
    assert not [line for line in status.details["warnings"] if "mixture" in line]
    assert falls_to(status) == pytest.approx(TRUE, abs=0.002)


def test_one_frame_of_another_level_is_no_mixture(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    stack = n.bias_frames(9, seed=4).astype(np.int64)
    stack[3] += 400
    n.write_darks(night, 2.0, stack.astype(np.uint16))
    write_flats(night)
    status = night.run()
    assert not [line for line in status.details["warnings"] if "is a mixture of two levels" in line]
    assert read_with_astropy(n.one_file(status, "flat"))[1]["CALSTAT"] == "BD"
