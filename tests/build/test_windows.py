"""Masters of several nights: levels that drift over months are never mixed, nights of a week are one master."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.library.find import find_masters
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

JANUARY = datetime(2026, 1, 10, 18, tzinfo=UTC)
LEVEL = {0: 1000, 2: 1000, 5: 1000, 150: 1040}
"""Of the bias by day, in ADU."""


def write_nights(night: Night, *days: int, stem: str = "frame") -> None:
    """Write bias and darks of 5 s; with one stem, files of all nights have names that follow each other."""
    for day in days:
        start = JANUARY + timedelta(days=day)
        level = LEVEL[day]
        bias, dark = n.bias_frames(5, seed=day, level=level), n.dark_frames(5.0, 5, seed=day + 1, level=level)
        for kind, stack, exposure_s in (("Bias Frame", bias, 0.0), ("Dark Frame", dark, 5.0)):
            folder = night.darks / (f"{day}" if stem == "frame" else "all")
            n.write_frames(folder, stack, kind, exposure_s, stem=f"{kind[0]}{stem}{day}", start=start)


def levels(night: Night) -> dict[str, float]:
    """Return the median of each master in the directory, by its name without the time of the run."""
    found = {}
    for path in night.masters.glob("master_*.fits"):
        image, _ = read_with_astropy(path)
        found[path.stem.rsplit("_", 2)[0]] = float(np.median(image))
    return found


def images(night: Night) -> dict[str, NDArray[Any]]:
    return {p.stem.rsplit("_", 2)[0]: read_with_astropy(p)[0] for p in night.masters.glob("master_*.fits")}


def test_bias_and_darks_of_months_apart_are_masters_of_their_own_level(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 0, 150)
    assert not night.run_darks().is_error
    found = levels(night)
    assert found.keys() == {
        f"master_{kind}_night{when}" for kind in ("bias", "dark_5.000s") for when in ("20260110", "20260609")
    }
    assert found["master_bias_night20260110"] == pytest.approx(1000, abs=2)
    assert found["master_bias_night20260609"] == pytest.approx(1040, abs=2)
    assert found["master_dark_5.000s_night20260110"] == pytest.approx(1010, abs=3)
    assert found["master_dark_5.000s_night20260609"] == pytest.approx(1050, abs=3)


def test_three_nights_of_a_week_are_one_master(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 0, 2, 5)
    assert not night.run_darks().is_error
    found = {
        master.record.name.rsplit("_", 2)[0]: master.record.n_frames for master in find_masters(str(night.masters))
    }
    assert found == {"master_bias": 15, "master_dark_5.000s": 15}


@pytest.mark.parametrize("rows", [4, 20])
def test_neither_the_order_of_files_nor_the_height_of_strips_matters(tmp_path: Path, rows: int) -> None:
    made = []
    for stem in ("frame", "z"):
        night = Night(tmp_path / stem)
        write_nights(night, 0, 2, 150, stem=stem)
        config = night.config() | {"storage": {"strip_rows": rows}}
        assert not n.MasterFrameCreator(config).create_master_darks().is_error
        made.append(images(night))
    assert made[0].keys() == made[1].keys()
    assert len(made[0]) == 4
    for name, image in made[0].items():
        np.testing.assert_array_equal(image, made[1][name])


def test_a_limit_takes_the_newest_frames_and_says_so(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 0, 150)
    status = night.run_darks(window_days=None, max_frames=5)
    assert {round(level, -1) for level in levels(night).values()} == {1040, 1050}
    lines = [line for line in status.details["warnings"] if "max_frames" in line]
    assert len(lines) == 2
    assert "5 frames: the newest of 10, the others are not used (master_frames.max_frames)" in lines[0]


def test_too_few_frames_of_another_time_are_left_out_with_the_night(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 0)
    n.write_frames(night.darks / "late", n.bias_frames(2, seed=9, level=1040), "Bias Frame", 0.0)
    status = night.run_darks()
    assert levels(night)["master_bias"] == pytest.approx(1000, abs=2)
    (line,) = [line for line in status.details["warnings"] if "min_frames" in line]
    assert "2 frames (last on 2026-11-21, more than 30 days from the others): fewer than min_frames 3" in line


def test_another_night_leaves_the_master_of_an_older_window(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_nights(night, 0, 150)
    night.run_darks()
    before = {m.record.name for m in find_masters(str(night.masters))}
    start = JANUARY + timedelta(days=151)
    n.write_frames(night.darks / "151", n.bias_frames(5, seed=8, level=1040), "Bias Frame", 0.0, start=start)
    night.run_darks()
    made = [m for m in find_masters(str(night.masters)) if m.record.name not in before]
    assert [(str(m.key.frame_type), m.record.n_frames, str(m.key.night)) for m in made] == [("bias", 10, "2026-06-10")]
