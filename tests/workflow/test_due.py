"""What is due, from what is wanted and what was taken: nights are counted, and only whole series of a night count."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.frames import FrameType
from ostcal.workflow.due import (
    DueSeries,
    TakenSeries,
    WantedSeries,
    due_series,
    failing,
    taken_then,
    too_old,
    wanted_darks,
)

NIGHT = date(2026, 11, 29)
CADENCE = {FrameType.BIAS: 7, FrameType.DARK: 30, FrameType.FLAT: 1}
BIAS = WantedSeries(kind=FrameType.BIAS, n_frames=10)
DARK = WantedSeries(kind=FrameType.DARK, n_frames=10, exposure_time_s=60.0)
FLATS = [WantedSeries(kind=FrameType.FLAT, n_frames=10, filter_name=name) for name in ("L", "R")]


def taken(wanted: WantedSeries, nights_ago: int, n_frames: int = 10, **changed: object) -> TakenSeries:
    night = NIGHT - timedelta(days=nights_ago)
    at = datetime(night.year, night.month, night.day, 19, tzinfo=UTC)
    values = {
        "kind": wanted.kind, "exposure_time_s": wanted.exposure_time_s, "filter_name": wanted.filter_name,
        "n_frames": n_frames, "night": night, "observed_at": at, **changed,
    }  # fmt: skip
    return TakenSeries(**values)  # type: ignore[arg-type]


def reasons(*there: TakenSeries) -> dict[str, str]:
    due = due_series([BIAS, DARK, *FLATS], there, NIGHT, CADENCE)
    return {one.wanted.label: one.reason for one in due}


def test_all_is_due_where_nothing_was_taken_and_nothing_once_it_was() -> None:
    assert set(reasons().values()) == {"never taken"}
    assert reasons(*(taken(one, 0) for one in (BIAS, DARK, *FLATS))) == {}


def test_each_kind_is_due_after_its_own_number_of_nights() -> None:
    there = [taken(BIAS, 6), taken(DARK, 29), taken(FLATS[0], 1), taken(FLATS[1], 0)]
    assert reasons(*there) == {"flats L": "1 night old"}
    there = [taken(BIAS, 7), taken(DARK, 30), taken(FLATS[0], 0), taken(FLATS[1], 0)]
    assert reasons(*there) == {"bias": "7 nights old", "darks of 60 s": "30 nights old"}


def test_flats_of_every_evening_are_due_although_dusk_comes_earlier_each_evening() -> None:
    earlier = taken(FLATS[0], 1, observed_at=datetime(2026, 11, 28, 19, 5, tzinfo=UTC))
    now = datetime(2026, 11, 29, 19, 4, tzinfo=UTC)
    assert now - earlier.observed_at < timedelta(days=1)
    assert due_series([FLATS[0]], [earlier], NIGHT, CADENCE) != ()


def test_a_series_cut_short_is_continued_in_its_night_and_taken_anew_in_the_next() -> None:
    (tonight,) = due_series([BIAS], [taken(BIAS, 0, 4)], NIGHT, CADENCE)
    assert (tonight.present, tonight.reason) == (4, "4 of 10 frames")
    (next_night,) = due_series([BIAS], [taken(BIAS, 1, 4)], NIGHT, CADENCE)
    assert (next_night.present, next_night.reason) == (0, "never taken")


def test_a_series_of_a_night_to_come_does_not_count_because_a_clock_was_wrong() -> None:
    assert reasons(taken(BIAS, -400), taken(BIAS, 8))["bias"] == "8 nights old"


def test_null_takes_none_of_a_kind() -> None:
    assert due_series([BIAS, DARK], [], NIGHT, {**CADENCE, FrameType.DARK: None}) == (
        DueSeries(wanted=BIAS, reason="never taken"),
    )


@pytest.mark.parametrize(("flat_s", "is_new"), [(60.04, False), (60.07, True), (0.6, True), (0.0005, False)])
def test_darks_of_flats_share_a_dark_that_is_near_enough_and_within_the_limits(flat_s: float, is_new: bool) -> None:
    wanted = wanted_darks(10, [60.0], [flat_s], (0.001, 100.0))
    assert len(wanted) == 2 + is_new
    assert {one.exposure_time_s for one in wanted} >= {None, 60.0}


def test_ages_are_said_from_the_limit_on() -> None:
    limits = {FrameType.BIAS: 30.0, FrameType.DARK: 90.0, FrameType.FLAT: 7.0}
    now = datetime(2026, 11, 29, 19, tzinfo=UTC)
    there = [taken(BIAS, 29), taken(DARK, 91), taken(FLATS[0], 200), taken(FLATS[0], 3, n_frames=2)]
    lines = too_old([BIAS, DARK, FLATS[0]], there, now, limits)
    assert lines == (
        "darks of 60 s: the newest are 91 days old (schedule.max_age_days.dark is 90)",
        "flats L: the newest are 200 days old (schedule.max_age_days.flat is 7)",
    )


@given(
    missed=st.sets(st.integers(0, 39)),
    every=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_over_forty_nights_nothing_is_taken_twice_and_nothing_due_is_left_out(
    missed: set[int], every: tuple[int, int, int]
) -> None:
    cadence = dict(zip((FrameType.BIAS, FrameType.DARK, FrameType.FLAT), every, strict=True))
    wanted = [BIAS, DARK, *FLATS]
    there: list[TakenSeries] = []
    newest: dict[WantedSeries, int] = {}
    for number in range(40):
        night = NIGHT + timedelta(days=number)
        if number in missed:
            continue
        due = due_series(wanted, there, night, cadence)
        expected = [one for one in wanted if one not in newest or number - newest[one] >= cadence[one.kind]]
        assert [one.wanted for one in due] == expected
        there += taken_then(due, datetime(2026, 1, 1, tzinfo=UTC), night)
        newest |= {one.wanted: number for one in due}
        assert due_series(wanted, there, night, cadence) == ()


def test_a_set_that_failed_is_due_in_the_next_night_and_only_once_in_a_night() -> None:
    cadence = {FrameType.FLAT: 5}
    due = due_series([FLATS[0]], [taken(FLATS[0], 1, has_failed=True)], NIGHT, cadence)
    assert [one.reason for one in due] == ["the set of 2026-11-28 failed its checks"]
    assert due_series([FLATS[0]], [taken(FLATS[0], 0, has_failed=True)], NIGHT, cadence) == ()
    # a good one of the same nights before stands for none of the sets after it
    there = [taken(FLATS[0], 2), taken(FLATS[0], 1, has_failed=True)]
    assert len(due_series([FLATS[0]], there, NIGHT, cadence)) == 1
    there = [taken(FLATS[0], 2, has_failed=True), taken(FLATS[0], 1)]
    assert due_series([FLATS[0]], there, NIGHT, cadence) == ()


def test_after_three_nights_that_failed_the_cadence_counts_and_a_line_says_so() -> None:
    cadence = {FrameType.DARK: 5}
    there = [taken(DARK, ago, has_failed=True) for ago in (3, 2)]
    assert len(due_series([DARK], there, NIGHT, cadence)) == 1
    assert failing([DARK], there) == ()
    there.append(taken(DARK, 1, has_failed=True))
    assert due_series([DARK], there, NIGHT, cadence) == ()
    assert due_series([DARK], there, NIGHT + timedelta(days=4), cadence) != ()
    (line,) = failing([DARK], there)
    assert line.startswith("darks of 60 s: the sets of the last 3 nights failed their checks")
