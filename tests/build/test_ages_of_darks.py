"""How old the bias and the darks of flats are: a line, the limits of matching, cards in the header of the flat."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import MasterFrameCreator, Status
from ostcal.library.find import find_masters
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

OLD = n.START - timedelta(days=400)
NEW = n.START - timedelta(days=3)


def masters_of(night: Night, **matching: Any) -> Status:
    return MasterFrameCreator(night.config() | {"matching": matching}).create_all_master_frames()


def with_old_library(root: Path) -> Night:
    """Make bias and darks of 2 s of last year, and leave flats of tonight to be made."""
    night = Night(root)
    n.write_frames(night.darks / "bias", n.bias_frames(), "Bias Frame", 0.001, start=OLD)
    n.write_frames(night.darks / "dark", n.dark_frames(2.0), "Dark Frame", 2.0, start=OLD + timedelta(hours=1))
    assert not night.run_darks().is_error
    for path in night.darks.rglob("*.fits"):
        path.unlink()
    n.write_flats(night, 2.0)
    return night


def flat_header(status: Status) -> dict[str, Any]:
    return dict(read_with_astropy(n.one_file(status, "flat"))[1])


def test_an_old_dark_of_the_library_is_said_and_stands_in_the_header(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night = with_old_library(tmp_path)
    with caplog.at_level(logging.INFO):
        status = night.run()
    (line,) = (line for line in caplog.messages if "a month apart" in line)
    assert line.startswith("taken more than a month apart: dark master_dark_2.000s_")
    assert "400 days before master_flat_2.000s" in line
    header = flat_header(status)
    assert header["AGEDARK"] == pytest.approx(400 + 7 / 24, abs=0.05)
    assert "AGEBIAS" not in header


def test_ages_count_to_the_median_of_the_frames_of_both(tmp_path: Path) -> None:
    night = with_old_library(tmp_path)
    header = flat_header(night.run())
    (dark,) = (m for m in find_masters(str(night.masters)) if m.key.exposure_time_s == 2.0 and m.key.filter_name is None
               and m.key.frame_type == "dark")  # fmt: skip
    (flat,) = (m for m in find_masters(str(night.masters)) if m.key.frame_type == "flat")
    assert dark.record.observed is not None
    assert flat.record.observed is not None
    assert header["AGEDARK"] == round(dark.record.observed.age_days(flat.record.observed.middle), 4)


def test_beyond_its_age_a_dark_is_a_warning(tmp_path: Path) -> None:
    night = with_old_library(tmp_path)
    status = masters_of(night, max_age_days={"dark": 180})
    (line,) = (line for line in status.details["warnings"] if "max_age_days" in line)
    assert "its frames were taken 400 days before master_flat_2.000s" in line
    assert "(limit 180, matching.max_age_days.dark); take new ones" in line


def test_strict_refuses_an_old_dark_and_takes_a_new_bias(tmp_path: Path) -> None:
    night = with_old_library(tmp_path)
    refused = masters_of(night, max_age_days={"dark": 180, "bias": 180}, strict=True)
    assert refused.is_error
    assert "matching.max_age_days.dark with matching.strict" in refused.details["errors"][0]
    n.write_frames(night.darks / "bias", n.bias_frames(seed=11), "Bias Frame", 0.001, start=NEW)
    status = masters_of(night, max_age_days={"dark": 180, "bias": 180}, strict=True)
    assert not status.is_error
    header = flat_header(status)
    assert header["CALSTAT"] == "B"
    assert header["AGEBIAS"] == pytest.approx(3.35, abs=0.05)


def test_a_bias_of_the_same_run_that_is_old_is_said_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    night = Night(tmp_path)
    n.write_frames(night.darks / "bias", n.bias_frames(), "Bias Frame", 0.001, start=OLD)
    n.write_flats(night, 2.0)
    with caplog.at_level(logging.INFO):
        night.run()
    assert [line for line in caplog.messages if "bias master_bias 400 days before master_flat_2.000s" in line]


def test_nothing_is_said_of_darks_of_the_night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    night = n.whole_night(tmp_path)
    with caplog.at_level(logging.INFO):
        header = flat_header(night.run())
    assert not [line for line in caplog.messages if "a month apart" in line]
    assert header["AGEDARK"] == pytest.approx(8 / 24, abs=0.01)


def test_flats_beyond_the_scale_of_the_longest_dark_are_made_with_the_bias_and_it_is_said(tmp_path: Path) -> None:
    """4.5 ADU of dark current at the last column are left in, of 20,000; with a wider limit they are subtracted."""
    night = Night(tmp_path)
    n.write_bias(night)
    n.write_darks(night, 2.0)
    n.write_flats(night, 9.0)
    alone = masters_of(night)
    (line,) = (line for line in alone.details["warnings"] if "max_scale_up" in line)
    assert "no dark fits (the longest dark has 2 s, and dark current is scaled up to 2 times its exposure" in line
    assert flat_header(alone)["CALSTAT"] == "B"
    scaled = masters_of(night, max_scale_up=5)
    assert flat_header(scaled)["CALSTAT"] == "BD"
    difference = n.image_of(alone, "flat") - n.image_of(scaled, "flat")
    assert np.median(difference[:, -3:]) > np.median(difference[:, :3])
