"""Nights whose level differs by more than the noise of the frames are not combined, although they are near in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ostcal import Status
from ostcal.library.find import find_masters
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

FIRST = datetime(2026, 3, 1, 20, tzinfo=UTC)


def write_level(
    night: Night, day: float, level: float, *, n_frames: int = 5, kinds: Sequence[str] = ("Bias", "Dark")
) -> None:
    """Write bias and darks of 5 s whose dark current is that of all nights; noise of 6 ADU."""
    start = FIRST + timedelta(days=day)
    seed = round(10 * day)
    stacks = {
        "Bias": (n.bias_frames(n_frames, seed=seed, level=level), 0.0),
        "Dark": (n.dark_frames(5.0, n_frames, seed=seed + 1, level=level), 5.0),
    }
    for kind in kinds:
        stack, exposure_s = stacks[kind]
        folder = night.darks / f"{kind}{day:g}"
        n.write_frames(folder, stack, f"{kind} Frame", exposure_s, stem=f"{kind}{day:g}", start=start)


def levels(night: Night) -> dict[str, float]:
    """Return the median of each master by its name without the time of the run."""
    found = {}
    for path in night.masters.glob("master_*.fits"):
        found[path.stem.rsplit("_", 2)[0]] = float(np.median(read_with_astropy(path)[0]))
    return found


def frames_of(night: Night) -> dict[str, int | None]:
    return {m.record.name.rsplit("_", 2)[0]: m.record.n_frames for m in find_masters(str(night.masters))}


def lines_of(status: Status) -> list[str]:
    return [line for line in status.details["warnings"] if "the level of" in line and "not combined over this" in line]


@pytest.mark.parametrize("save_individual_masters", [True, False])
def test_a_level_that_jumps_between_two_nights_makes_two_masters(
    tmp_path: Path, *, save_individual_masters: bool
) -> None:
    night = Night(tmp_path)
    write_level(night, 0, 1000)
    write_level(night, 6, 1030)
    status = night.run_darks(save_individual_masters=save_individual_masters)
    assert not status.is_error
    assert status.details["failed_quality"] == []
    assert frames_of(night) == {
        f"master_{kind}_night{when}": 5 for kind in ("bias", "dark_5.000s") for when in ("20260301", "20260307")
    }
    (line,) = lines_of(status)  # one for bias and darks
    assert "from the night 2026-03-01 to 2026-03-07 (limit 1" in line
    assert float(line.split("the level of bias is ")[1].split(" ADU")[0]) == pytest.approx(30, abs=2)
    if save_individual_masters:
        found = levels(night)
        assert found["master_bias_night20260301"] == pytest.approx(1000, abs=2)
        assert found["master_bias_night20260307"] == pytest.approx(1030, abs=2)
        assert found["master_dark_5.000s_night20260307"] == pytest.approx(1040, abs=3)
    assert night.run_darks(save_individual_masters=save_individual_masters).details["masters"] == {}


def test_each_light_takes_the_level_of_its_night(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_level(night, 0, 1000)
    assert not night.run_darks().is_error
    write_level(night, 6, 1030)  # another driver
    assert not night.run_darks().is_error
    (tmp_path / "lights").mkdir()
    for day, level in ((0.1, 1000), (6.1, 1030)):
        light = n.samples(1, 500 + level + 5.0 * np.linspace(0, 4, n.SHAPE[1]), seed=77)[0]
        date = (FIRST + timedelta(days=day)).isoformat()[:-6]
        write_frame(
            tmp_path / "lights" / f"l{level}.fits", light, IMAGETYP="Light", EXPTIME=5.0, DATE_OBS=date, **n.CAMERA
        )
    command = ("calibrate", tmp_path / "lights", "--config", n.write_config(night), "--flat", "none")
    assert n.ostcal(*command, "--output-dir", tmp_path / "cal").exit_code == 0
    for level in (1000, 1030):
        image, _ = read_with_astropy(tmp_path / "cal" / f"l{level}_cal.fits")
        assert np.median(image) == pytest.approx(500, abs=3)


def test_a_slow_drift_and_what_is_within_the_noise_stay_one_master(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day in range(6):
        write_level(night, day, 1000 + 2 * day)
    status = night.run_darks()
    assert frames_of(night) == {"master_bias": 30, "master_dark_5.000s": 30}
    assert lines_of(status) == []


def test_a_level_that_returns_makes_three_masters_and_a_limit_takes_the_newest_of_each(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day, level in ((0, 1000), (1, 1000), (2, 1100), (3, 1000)):
        write_level(night, day, level, kinds=["Bias"])
    status = night.run_darks(max_frames=4)
    assert len(lines_of(status)) == 2
    found = levels(night)
    assert found == {
        "master_bias_night20260302": pytest.approx(1000, abs=2),
        "master_bias_night20260303": pytest.approx(1100, abs=2),
        "master_bias_night20260304": pytest.approx(1000, abs=2),
    }
    assert set(frames_of(night).values()) == {4}


def test_darks_whose_noise_hides_the_change_follow_the_bias(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day, level in ((0, 1000), (6, 1060)):
        write_level(night, day, level, kinds=["Bias"])
        stack = n.samples(5, level + 400, noise=60, seed=day)
        n.write_frames(night.darks / f"long{day}", stack, "Dark Frame", 300.0, start=FIRST + timedelta(days=day))
    assert len(lines_of(night.run_darks())) == 1
    found = levels(night)
    assert found["master_dark_300.000s_night20260301"] == pytest.approx(1400, abs=12)
    assert found["master_dark_300.000s_night20260307"] == pytest.approx(1460, abs=12)


def test_a_dark_current_that_changes_leaves_the_bias_together(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day, dark_adu in ((0, 100), (6, 400)):
        write_level(night, day, 1000, kinds=["Bias"])
        stack = n.samples(5, 1000 + dark_adu, seed=day)
        n.write_frames(night.darks / f"long{day}", stack, "Dark Frame", 300.0, start=FIRST + timedelta(days=day))
    night.run_darks()
    assert frames_of(night) == {
        "master_bias": 10,
        "master_dark_300.000s_night20260301": 5,
        "master_dark_300.000s_night20260307": 5,
    }


def test_a_mixture_within_a_night_still_fails(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_level(night, 0, 1000, kinds=["Bias"])
    write_level(night, 0.1, 1200, kinds=["Bias"])
    status = night.run_darks()
    assert len(status.details["failed_quality"]) == 1
    assert lines_of(status) == []


def test_too_few_frames_of_another_level_are_left_out_and_said(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_level(night, 0, 1000, kinds=["Bias"])
    write_level(night, 6, 1030, n_frames=2, kinds=["Bias"])
    status = night.run_darks()
    assert frames_of(night) == {"master_bias": 5}
    assert levels(night)["master_bias"] == pytest.approx(1000, abs=2)
    assert [line for line in status.details["warnings"] if "apart from the others in level or time" in line]
    assert len(lines_of(status)) == 1


def test_single_frames_of_many_nights_stay_one_master(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for day, level in enumerate((1000, 1050, 1010, 1040, 1020)):
        write_level(night, day, level, n_frames=1, kinds=["Bias"])
    assert lines_of(night.run_darks()) == []
    assert frames_of(night) == {"master_bias": 5}


def test_who_asks_for_one_master_of_all_nights_gets_it(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_level(night, 0, 1000, kinds=["Bias"])
    write_level(night, 6, 1300, kinds=["Bias"])
    status = night.run_darks(window_days=None)
    assert frames_of(night) == {"master_bias": 10}
    assert len(status.details["failed_quality"]) == 1
