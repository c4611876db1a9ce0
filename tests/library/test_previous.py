"""The master that a new one is compared with was taken before it, whenever either was built."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ostcal.frames import CameraSettings, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.previous import previous_master

NEW_YEAR = datetime(2026, 1, 1, 22, tzinfo=UTC)


def key_of(**keys: Any) -> GroupKey:
    values: dict[str, Any] = {
        "frame_type": FrameType.FLAT, "settings": CameraSettings(), "width": 8, "height": 6, "exposure_time_s": 2.0
    }  # fmt: skip
    return GroupKey(**{**values, **keys})


def observed_on(day: float, hours: float = 0.1) -> Observed:
    first = NEW_YEAR + timedelta(days=day)
    return Observed(first=first, last=first + timedelta(hours=hours), middle=first + timedelta(hours=hours / 2))


def master(name: str, day: float | None, built_on: float, verdict: str = "pass", **keys: Any) -> LibraryMaster:
    record = MasterRecord(
        name=name,
        key=key_of(**keys),
        made_at=NEW_YEAR + timedelta(days=built_on),
        calibration_id=name,
        verdict=verdict,
        observed=None if day is None else observed_on(day),
    )
    return LibraryMaster(record=record, plane=StorePlane(store="", name=name))


def previous_of(day: float | None, library: tuple[LibraryMaster, ...], **keys: Any) -> set[str | None]:
    """Return the names that are found, whatever order the library has."""
    observed = None if day is None else observed_on(day)
    found = {previous_master(key_of(**keys), observed, order) for order in itertools.permutations(library)}
    return {None if one is None else one.record.name for one in found}


DECEMBER, JUNE = master("december", -30, 400), master("june", 150, 151)


def test_what_was_taken_later_is_not_before_it() -> None:
    assert previous_of(5, (JUNE,)) == {None}
    assert previous_of(5, (JUNE, DECEMBER)) == {"december"}
    assert previous_of(200, (JUNE, DECEMBER)) == {"june"}


def test_a_master_that_is_built_again_is_compared_as_it_was_the_first_time() -> None:
    january = master("january", 5, 6)
    assert previous_of(5, (january, JUNE, DECEMBER)) == {"december"}
    assert previous_of(5, (january, master("again", 5, 90), JUNE)) == {"again"}  # there is none before it


def test_of_the_session_before_the_nearest_exposure_counts_and_then_the_one_built_last() -> None:
    session = (
        master("short", 3, 4, exposure_time_s=0.5),
        master("shorter", 3.01, 4, exposure_time_s=0.1),
        master("same", 3.005, 4),
        master("same again", 3.005, 8),
    )
    assert previous_of(5, session) == {"same again"}
    assert previous_of(5, session, exposure_time_s=0.4) == {"short"}
    older = master("as long", -40, -39, exposure_time_s=0.4)
    assert previous_of(5, (*session[:2], older), exposure_time_s=0.4) == {"short"}  # of the last session


@pytest.mark.parametrize("keys", [
    {"filter_name": "R"}, {"optics": Optics(rotator_deg=90.0)}, {"optics": Optics(telescope="other")},
    {"settings": CameraSettings(gain=5.0)}, {"width": 9}, {"verdict": "fail"},
])  # fmt: skip
def test_masters_of_other_light_and_settings_and_failed_ones_are_none(keys: dict[str, Any]) -> None:
    own = {"filter_name": "L", "optics": Optics(rotator_deg=0.0, telescope="one"), "settings": CameraSettings(gain=1.0)}
    other = master("other", 3, 4, **{**own, **keys})
    assert previous_of(5, (other,), **own) == {None}
    assert previous_of(5, (other, master("own", -3, -2, **own)), **own) == {"own"}


def test_a_time_that_is_not_known_is_before_none() -> None:
    timeless = master("timeless", None, 4)
    assert previous_of(5, (timeless,)) == {None}
    assert previous_of(5, (timeless, DECEMBER)) == {"december"}
    assert previous_of(None, (timeless, JUNE)) == {"june"}
    assert previous_of(None, (timeless, master("first", 2, 3))) == {"timeless"}  # the one built last
