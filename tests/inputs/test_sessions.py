"""Which nights become one master: windows of bias and darks, sessions of flats, and frames without dates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.group_names import master_names
from ostcal.inputs.grouping import Frame, Group, GroupRules, group_frames
from ostcal.inputs.sessions import windows
from ostcal.inputs.unusual_groups import beyond_max_frames, several_nights, undated

RULES = GroupRules()
JANUARY = datetime(2026, 1, 10, 18, tzinfo=UTC)
MADE_AT = datetime(2026, 11, 21, 20, 45, tzinfo=UTC)


def frames(kind: FrameType, start: datetime | None, n: int = 3, stem: str = "", **metadata: Any) -> list[Frame]:
    """Give n frames a minute apart."""
    exposure_s = metadata.pop("exposure_s", 0.0 if kind is FrameType.BIAS else 5.0)
    one = FrameMetadata(
        frame_type=kind, exposure_time_s=exposure_s, width=8, height=6, settings=CameraSettings(camera="C"), **metadata
    )
    dates = [None if start is None else start + timedelta(minutes=i) for i in range(n)]
    return [
        Frame(label=f"{stem}{kind}_{exposure_s:g}_{start}_{i}", metadata=replace(one, date_obs=when))
        for i, when in enumerate(dates)
    ]


def bias(day: float, n: int = 3, **metadata: Any) -> list[Frame]:
    return frames(FrameType.BIAS, JANUARY + timedelta(days=day), n, **metadata)


def flats(day: float, n: int = 3, **metadata: Any) -> list[Frame]:
    return frames(FrameType.FLAT, JANUARY + timedelta(days=day), n, filter_name="R", **metadata)


def nights(groups: tuple[Group, ...]) -> list[tuple[date | None, int]]:
    return [(group.key.night, len(group.frames)) for group in groups]


def day(number: int) -> date:
    return (JANUARY + timedelta(days=number)).date()


def names(groups: tuple[Group, ...]) -> list[str]:
    return [name.removesuffix("_20261121_204500") for name in master_names([group.key for group in groups], MADE_AT)]


# --- windows of bias and darks ---


def test_bias_of_january_and_of_june_are_two_masters_whose_names_say_which() -> None:
    groups = group_frames([*bias(0, 4), *bias(150, 5)], RULES).groups
    assert nights(groups) == [(day(0), 4), (day(150), 5)]
    assert names(groups) == ["master_bias_night20260110", "master_bias_night20260609"]


def test_nights_of_a_week_are_one_master_with_the_name_of_one_night() -> None:
    groups = group_frames([*bias(0), *bias(2), *bias(6)], RULES).groups
    assert nights(groups) == [(None, 9)]
    assert names(groups) == names(group_frames(bias(0), RULES).groups) == ["master_bias"]


@pytest.mark.parametrize(("apart", "n_masters"), [(30, 1), (31, 2)])
@pytest.mark.parametrize("exposure_s", [5.0, 600.0])
def test_the_window_is_counted_in_nights(apart: int, n_masters: int, exposure_s: float) -> None:
    both = [
        frame
        for number in (0, apart)
        for frame in frames(FrameType.DARK, JANUARY + timedelta(days=number), exposure_s=exposure_s)
    ]
    assert len(group_frames(both, RULES).groups) == n_masters


def test_darks_of_each_exposure_have_their_own_windows() -> None:
    """300 s of days 0 and 28 are one, although 60 s were taken on day 35."""
    found = [(300.0, 0), (300.0, 28), (60.0, 35)]
    darks = [f for t, number in found for f in frames(FrameType.DARK, JANUARY + timedelta(days=number), exposure_s=t)]
    groups = group_frames(darks, RULES).groups
    assert [(g.key.exposure_time_s, len(g.frames)) for g in groups] == [(60.0, 3), (300.0, 6)]
    assert names(groups) == ["master_dark_60.000s", "master_dark_300.000s"]


def test_without_a_window_all_nights_are_one() -> None:
    assert nights(group_frames([*bias(0), *bias(150)], replace(RULES, window_days=None)).groups) == [(None, 6)]


def test_flats_have_no_window_where_sessions_are_not_told_apart() -> None:
    groups = group_frames([*flats(0), *flats(150)], replace(RULES, session="none")).groups
    assert nights(groups) == [(None, 6)]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(0, 60), st.randoms(use_true_random=False))
def test_windows_are_short_and_end_with_the_newest_night(numbers: list[int], longest: int, random: Random) -> None:
    found = [[numbers[place] for place in window] for window in windows([day(n) for n in numbers], longest)]
    assert sorted(n for window in found for n in window) == sorted(numbers)
    assert all(max(window) - min(window) <= longest for window in found)
    assert found[-1] == sorted(n for n in numbers if n >= max(numbers) - longest)
    assert all(max(a) < min(b) for a, b in pairwise(found))
    shuffled = random.sample(numbers, len(numbers))
    assert [[shuffled[p] for p in window] for window in windows([day(n) for n in shuffled], longest)] == found


def test_another_night_leaves_the_older_windows_of_a_year_as_they_are() -> None:
    year = [windows([day(n) for n in range(length)], 30) for length in (300, 301)]
    assert year[0][:-2] == year[1][:-2] == [list(range(31 * i, 31 * i + 31)) for i in range(8)]


# --- max_frames ---


def test_the_newest_frames_are_taken_whatever_their_order() -> None:
    rules = replace(RULES, max_frames=7)
    found = [*bias(6, 5), *bias(0, 5), *bias(150, 4)]
    groups = group_frames(found, rules).groups
    assert nights(groups) == [(day(6), 7), (day(150), 4)]
    taken = {f.metadata.date_obs for f in groups[0].frames}
    assert taken == set(sorted(f.metadata.date_obs for f in found[:10] if f.metadata.date_obs)[-7:])
    assert "the newest of 10, the others are not used (master_frames.max_frames)" in beyond_max_frames(groups[0])
    assert beyond_max_frames(groups[1]) == ""
    assert group_frames(Random(1).sample(found, len(found)), rules).groups == groups


def test_flats_of_a_session_are_all_taken() -> None:
    assert nights(group_frames(flats(0, 9), replace(RULES, max_frames=4)).groups) == [(day(0), 9)]


# --- flats ---


def test_flats_of_small_nights_are_combined_within_the_window_alone() -> None:
    found = [*flats(0, 2), *flats(3, 2), *flats(150, 2), *flats(153, 2)]
    groups = group_frames(found, RULES).groups
    assert nights(groups) == [(day(3), 4), (day(153), 4)]
    assert "of 2 nights, 2026-01-10 to 2026-01-13, each with fewer than min_frames 3" in several_nights(
        groups[0], RULES
    )
    grouping = group_frames([*flats(0, 2), *flats(150, 2)], RULES)
    assert (nights(grouping.groups), nights(grouping.too_small)) == ([], [(day(0), 2), (day(150), 2)])


def test_flats_of_dusk_and_dawn_are_two_sessions_where_hours_part_them() -> None:
    found = [*flats(0), *flats(10 / 24, 4)]  # 18:00 and 4:00
    assert nights(group_frames(found, RULES).groups) == [(day(0), 7)]
    groups = group_frames(found, replace(RULES, session="hours")).groups
    assert nights(groups) == [(day(0), 3), (day(0), 4)]
    assert [group.key.session_start for group in groups] == [JANUARY, JANUARY + timedelta(hours=10)]
    assert [name.split("_")[-1] for name in names(groups)] == ["from1800", "from0400"]
    assert nights(group_frames(found, replace(RULES, session="hours", session_hours=11.0)).groups) == [(day(0), 7)]


def test_a_session_goes_on_over_noon_while_frames_are_taken() -> None:
    found = [frame for hour in range(0, 30, 3) for frame in flats(hour / 24, 1, longitude_deg=0.0)]
    rules = replace(RULES, session="hours")
    (group,) = group_frames(found, rules).groups
    assert (group.key.night, len(group.frames)) == (day(0), 10)
    assert several_nights(group, rules) == ""
    assert nights(group_frames(found, RULES).groups) == [(day(0), 6), (day(1), 4)]


def test_a_long_exposure_is_no_gap() -> None:
    hours = 3600.0
    found = frames(FrameType.DARK, JANUARY, 1, exposure_s=7 * hours)
    found += frames(FrameType.DARK, JANUARY + timedelta(hours=8), 1, exposure_s=7 * hours)
    found += frames(FrameType.DARK, JANUARY + timedelta(hours=16), 1, exposure_s=7 * hours)
    groups = group_frames(found, replace(RULES, session="hours", per_session=True)).groups
    assert [len(group.frames) for group in groups] == [3]


def test_nights_are_told_apart_by_hours_too() -> None:
    rules = replace(RULES, session="hours")
    assert nights(group_frames([*flats(0), *flats(1, 4)], rules).groups) == [(day(0), 3), (day(1), 4)]


# --- dates that are missing or wrong ---


def test_undated_frames_are_apart_from_those_of_several_windows_and_it_is_said() -> None:
    unknown = frames(FrameType.BIAS, None, 4)
    groups = group_frames([*bias(0), *bias(150), *unknown], RULES).groups
    assert nights(groups) == [(day(0), 3), (day(150), 3), (None, 4)]
    (line,) = undated(groups)
    assert "without a date (DATE-OBS), apart from those that have one" in line
    assert unknown[0].label in line


def test_undated_frames_go_with_those_of_one_time_and_it_is_said() -> None:
    groups = group_frames([*bias(0, 5), *bias(3), *frames(FrameType.BIAS, None, 2)], RULES).groups
    assert nights(groups) == [(None, 10)]
    (line,) = undated(groups)
    assert "2 of them without a date (DATE-OBS), combined with those of 2 nights" in line


def test_undated_frames_that_go_with_those_of_one_night_are_said_with_their_number() -> None:
    groups = group_frames([*bias(0, 5), *frames(FrameType.BIAS, None, 2)], RULES).groups
    assert nights(groups) == [(None, 7)]
    (line,) = undated(groups)
    assert line.startswith(
        "bias 8 x 6, 7 frames: 2 of them without a date (DATE-OBS), combined with the 5 that have one"
    )


def test_nothing_is_said_where_no_frame_has_a_date() -> None:
    groups = group_frames([*frames(FrameType.BIAS, None), *frames(FrameType.FLAT, None)], RULES).groups
    assert len(groups) == 2
    assert undated(groups) == []


def test_nothing_is_said_of_undated_darks_beside_darks_of_another_exposure() -> None:
    found = [*frames(FrameType.DARK, JANUARY, exposure_s=60.0), *frames(FrameType.DARK, None, exposure_s=5.0)]
    assert undated(group_frames(found, RULES).groups) == []


def test_undated_flats_are_apart_from_those_of_a_night_and_it_is_said() -> None:
    groups = group_frames([*flats(0, 5), *frames(FrameType.FLAT, None, 4, filter_name="R")], RULES).groups
    assert nights(groups) == [(day(0), 5), (None, 4)]
    assert len(undated(groups)) == 1


def test_frames_of_a_clock_that_was_reset_are_not_in_the_master_of_the_others() -> None:
    reset = frames(FrameType.BIAS, datetime(2000, 1, 1, tzinfo=UTC), 2)
    grouping = group_frames([*bias(0, 6), *reset], RULES)
    assert (nights(grouping.groups), nights(grouping.too_small)) == ([(day(0), 6)], [(date(1999, 12, 31), 2)])
