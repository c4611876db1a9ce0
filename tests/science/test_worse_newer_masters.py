"""A newer master that is worse does not displace the one before it, and one that was left out is named."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ostcal.config import load_config
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord, record_from_attributes
from ostcal.library.find import FitsPlane, LibraryMaster
from ostcal.science.api import matcher_of
from ostcal.science.choose_masters import CalibrationOptions, FrameMatcher
from ostcal.science.match import MatchRules

LIGHT_AT = datetime(2026, 6, 10, 22, tzinfo=UTC)
SETTINGS = CameraSettings(camera="Cam", gain=100.0)
LIGHT = FrameMetadata(
    frame_type=FrameType.LIGHT,
    exposure_time_s=60.0,
    width=100,
    height=80,
    settings=SETTINGS,
    set_temperature_c=-10.0,
    date_obs=LIGHT_AT,
)
PLANE = FitsPlane(fits=FitsPixels(width=100, height=80, bitpix=16, path="nowhere", data_offset=0))
RULES = MatchRules(window_days=30.0)


def dark(
    name: str, days: float, noise: float | None = 1.0, verdict: str | None = "pass", **about: Any
) -> LibraryMaster:
    """Return a dark that was taken so many days before the light."""
    at = LIGHT_AT - timedelta(days=days)
    key = GroupKey(
        frame_type=FrameType.DARK,
        settings=about.pop("settings", SETTINGS),
        width=100,
        height=80,
        exposure_time_s=about.pop("exposure_time_s", 60.0),
        temperature_c=about.pop("temperature_c", -10.0),
    )
    observed = Observed(first=at, last=at + timedelta(hours=1), middle=at)
    record = MasterRecord(
        name=name, key=key, made_at=at, calibration_id="", verdict=verdict, noise=noise, observed=observed, **about
    )
    return LibraryMaster(record=record, plane=PLANE)


def chosen(library: list[LibraryMaster], rules: MatchRules = RULES) -> tuple[str, tuple[str, ...]]:
    """Return the name of the dark and what is said of it, whatever the order of the library."""
    found = set()
    for order in itertools.permutations(library):
        matched = FrameMatcher("nowhere", CalibrationOptions(flat="none"), rules, order).match_metadata(LIGHT)
        (used,) = matched.used
        found.add((used.record.name, matched.notes))
    (one,) = found
    return one


@pytest.mark.parametrize("days", [2, 13, 29])
@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"verdict": "warn"}, "its verdict is warn"),
        ({"noise": 1.5}, "it has 1.5 times the noise"),
        ({"noise": 8.0, "verdict": "warn"}, "its verdict is warn"),
    ],
)
def test_a_worse_dark_does_not_displace_the_one_before(days: float, worse: dict[str, Any], why: str) -> None:
    library = [dark("before", days + 0.5), dark("new", 0.5, **worse)]
    name, notes = chosen(library)
    assert name == "before"
    assert notes == (f"dark before is taken: new was taken nearer in time, and {why}",)


@pytest.mark.parametrize(
    ("before", "new"),
    [
        ({}, {"noise": 1.3}),
        ({"noise": None}, {"noise": 5.0}),
        ({"verdict": "warn"}, {"verdict": "warn"}),
        ({"verdict": "warn"}, {"noise": 5.0}),
        ({"verdict": None}, {}),
    ],
)
def test_between_equals_the_time_decides(before: dict[str, Any], new: dict[str, Any]) -> None:
    assert chosen([dark("before", 10, **before), dark("new", 1, **new)]) == ("new", ())


def test_beyond_the_window_the_time_decides() -> None:
    assert chosen([dark("before", 40), dark("new", 1, 9.0)]) == ("new", ())
    assert chosen([dark("before", 5), dark("new", 1, 9.0)], replace(RULES, window_days=3.0)) == ("new", ())


def test_a_later_one_of_the_window_counts_as_well() -> None:
    assert chosen([dark("after", -12), dark("new", 1, 9.0)])[0] == "after"


def test_of_several_that_are_no_worse_the_nearest_is_taken() -> None:
    library = [dark("best", 20), dark("fair", 9, 1.2), dark("bad", 4, 2.0), dark("new", 1, verdict="warn")]
    assert chosen(library)[0] == "fair"


def test_darks_of_other_settings_are_not_compared() -> None:
    others = [dark("cold", 3, temperature_c=-20.0), dark("gain", 3, settings=replace(SETTINGS, gain=0.0))]
    assert chosen([*others, dark("new", 1, 9.0, "warn")]) == ("new", ())


def attributes(*findings: tuple[str, str]) -> dict[str, Any]:
    return {
        "frame_type": "dark",
        "width": 100,
        "height": 80,
        "exposure_time_s": 60.0,
        "filter": None,
        "temperature_c": -10.0,
        "bayer_pattern": None,
        "bias_subtracted": False,
        "night": None,
        "made_at": "2026-06-10T00:00:00+00:00",
        "calibration_id": "",
        "camera": "Cam",
        "gain": 100.0,
        "verdict": "warn",
        "quality": {"findings": [{"check": check, "outcome": outcome} for check, outcome in findings]},
    }


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((("level against previous", "warn"), ("read noise", "pass")), "new"),
        ((("new hot pixels", "warn"), ("pixels against previous", "warn")), "new"),
        ((("level against previous", "warn"), ("number of frames", "warn")), "before"),
        ((("number of frames", "warn"),), "before"),
    ],
)
def test_a_camera_that_changed_makes_no_worse_master(findings: tuple[tuple[str, str], ...], expected: str) -> None:
    new = dark("new", 1)
    record = record_from_attributes("new", attributes(*findings))
    new = replace(new, record=replace(record, observed=new.record.observed, noise=1.0))
    assert chosen([dark("before", 8), new])[0] == expected


@pytest.mark.parametrize(
    ("failed", "why"),
    [
        ({"verdict": "fail"}, "it failed its quality control"),
        ({"verdict": "fail", "has_two_levels": True}, "it is a mixture of two levels"),
    ],
)
def test_a_nearer_one_that_failed_is_named(failed: dict[str, Any], why: str) -> None:
    older = dark("older", 3, **failed)
    other = dark("other", 0.2, settings=replace(SETTINGS, gain=0.0), **failed)
    name, notes = chosen([dark("before", 2), dark("failed", 1, **failed), older, other])
    assert name == "before"
    assert notes == (f"dark failed was taken nearer in time and is left out, {why}: before is taken",)
    assert chosen([dark("before", 2), older, other]) == ("before", ())


@pytest.mark.parametrize(("key", "days"), [({}, 30.0), ({"window_days": 7}, 7.0), ({"window_days": None}, 30.0)])
def test_the_window_is_that_of_the_masters(key: dict[str, Any], days: float) -> None:
    config = load_config({"master_frames": {"output_dir": "nowhere", **key}})
    assert matcher_of(config, CalibrationOptions(), []).rules.window_days == days
