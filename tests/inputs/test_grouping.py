"""Which frames become one master: every rule of the input, and the same groups for any order of frames."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import Frame, Group, Grouping, GroupRules, group_frames, ladders
from ostcal.inputs.unusual_groups import several_nights
from ostcal.naming import night_of

EVENING = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
RULES = GroupRules()
SETTINGS = CameraSettings(camera="Demo", gain=100.0, offset=30.0)


def frames(kind: FrameType | None, n: int, exposure_s: float | None = 5.0, **metadata: Any) -> list[Frame]:
    """Return `n` frames a minute apart; labels tell them apart by their metadata."""
    values: dict[str, Any] = {"width": 64, "height": 48, "settings": SETTINGS, "date_obs": EVENING} | metadata
    label = f"{kind}_{exposure_s}_{sorted(metadata.items(), key=str)}"
    start = values.pop("date_obs")
    return [
        Frame(
            label=f"{label}_{i:03d}",
            metadata=FrameMetadata(
                frame_type=kind,
                exposure_time_s=exposure_s,
                date_obs=None if start is None else start + timedelta(minutes=i),
                **values,
            ),
        )
        for i in range(n)
    ]


def darks(n: int, exposure_s: float | None = 5.0, **metadata: Any) -> list[Frame]:
    return frames(FrameType.DARK, n, exposure_s, **metadata)


def flats(n: int, exposure_s: float | None = 1.0, **metadata: Any) -> list[Frame]:
    return frames(FrameType.FLAT, n, exposure_s, **metadata)


def ramp(*exposures_s: float, **metadata: Any) -> list[Frame]:
    """Return one flat of each exposure."""
    return [
        replace(frame, label=f"{i:02d}_{frame.label}")
        for i, t in enumerate(exposures_s)
        for frame in flats(1, t, **metadata)
    ]


def counts(grouping: Grouping) -> list[tuple[FrameType, float, int]]:
    """Return kind, exposure and number of frames of every group, in order."""
    return [(g.key.frame_type, g.key.exposure_time_s, len(g.frames)) for g in grouping.groups]


def only(grouping: Grouping) -> Group:
    assert len(grouping.groups) == 1, counts(grouping)
    assert not grouping.too_small
    return grouping.groups[0]


# --- kinds ---


def test_kinds_in_one_folder_are_told_apart_and_come_bias_first() -> None:
    mixed = flats(4) + darks(3) + frames(FrameType.BIAS, 5, 0.0)
    assert counts(group_frames(mixed, RULES)) == [
        (FrameType.BIAS, 0.0, 5), (FrameType.DARK, 5.0, 3), (FrameType.FLAT, 1.0, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exposure_s", "kind"),
    [
        (0.0, FrameType.BIAS),
        (0.0005, FrameType.BIAS),
        (0.001, FrameType.BIAS),
        (0.0010000000475, FrameType.BIAS),  # 0.001 as float32
        (0.0011, FrameType.DARK),
        (1.0, FrameType.DARK),
    ],
)
def test_darks_of_the_shortest_exposure_are_bias(exposure_s: float, kind: FrameType) -> None:
    assert only(group_frames(darks(3, exposure_s), RULES)).key.frame_type is kind


def test_the_shortest_exposure_is_a_rule() -> None:
    group = only(group_frames(darks(3, 0.02), replace(RULES, min_exposure_s=0.02)))
    assert group.key.frame_type is FrameType.BIAS
    assert {frame.metadata.frame_type for frame in group.frames} == {FrameType.BIAS}


def test_a_bias_without_an_exposure_has_none() -> None:
    assert only(group_frames(frames(FrameType.BIAS, 3, None), RULES)).key.exposure_time_s == 0.0


def test_flats_of_the_shortest_exposure_stay_flats() -> None:
    assert only(group_frames(flats(3, 0.0005), RULES)).key.frame_type is FrameType.FLAT


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (frames(None, 1)[0], "its kind is not known"),
        (frames(FrameType.LIGHT, 1)[0], "it is a light frame"),
        (darks(1, None)[0], "its exposure is not known"),
        (flats(1, None)[0], "its exposure is not known"),
        (darks(1, is_master=True)[0], "it is a master"),
        (flats(1, flat_divided=True)[0], "already divided by a flat"),
        (darks(1, dark_subtracted=True)[0], "a dark was already subtracted"),
    ],
)
def test_frames_that_cannot_be_used_are_named_with_the_reason(frame: Frame, reason: str) -> None:
    grouping = group_frames([*darks(3), frame], RULES)
    assert counts(grouping) == [(FrameType.DARK, 5.0, 3)]
    assert [label.label for label, _ in grouping.unused] == [frame.label]
    assert reason in grouping.unused[0][1]


# --- numbers ---


def test_a_group_of_too_few_frames_is_reported_and_left_out() -> None:
    grouping = group_frames(darks(2, 5.0) + darks(3, 60.0), RULES)
    assert counts(grouping) == [(FrameType.DARK, 60.0, 3)]
    assert [(g.key.exposure_time_s, len(g.frames)) for g in grouping.too_small] == [(5.0, 2)]
    assert not group_frames(darks(2, 5.0), replace(RULES, min_frames=2)).too_small


def test_nothing_gives_nothing() -> None:
    assert group_frames([], RULES) == Grouping(groups=(), too_small=(), unused=())


# --- settings ---

OTHERS: dict[str, dict[str, Any]] = {
    "gain": {"settings": replace(SETTINGS, gain=200.0)},
    "offset": {"settings": replace(SETTINGS, offset=31.0)},
    "binning": {"settings": replace(SETTINGS, binning=(2, 2))},
    "binning of one axis": {"settings": replace(SETTINGS, binning=(1, 2))},
    "readout mode": {"settings": replace(SETTINGS, readout_mode="High Gain")},
    "camera": {"settings": replace(SETTINGS, camera="Other")},
    "ISO": {"settings": replace(SETTINGS, iso=800.0)},
    "coadds": {"settings": replace(SETTINGS, coadds=10)},
    "subframe": {"settings": replace(SETTINGS, subframe_origin=(0, 16))},
    "row order": {"settings": replace(SETTINGS, row_order="TOP-DOWN")},
    "flip": {"settings": replace(SETTINGS, flip="Flip")},
    "width": {"width": 65},
    "height": {"height": 49},
    "transposed": {"width": 48, "height": 64},
    "set temperature": {"set_temperature_c": -10.0},
    "temperature": {"ccd_temperature_c": -10.0},
}


@pytest.mark.parametrize("kind", [FrameType.BIAS, FrameType.DARK, FrameType.FLAT])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_frames_of_other_settings_are_another_group(kind: FrameType, other: dict[str, Any]) -> None:
    exposure_s = 0.0 if kind is FrameType.BIAS else 5.0
    both = frames(kind, 3, exposure_s) + frames(kind, 4, exposure_s, **other)
    assert sorted(len(g.frames) for g in group_frames(both, RULES).groups) == [3, 4]


def test_filters_part_flats_only() -> None:
    red, none = {"filter_name": "R"}, {"filter_name": None}
    parted = group_frames(flats(3, **red) + flats(3, filter_name="L") + flats(3, **none), RULES)
    assert [g.key.filter_name for g in parted.groups] == [None, "L", "R"]
    for kind in (FrameType.DARK, FrameType.BIAS):
        group = only(group_frames(frames(kind, 2, **red) + frames(kind, 2, filter_name="L"), RULES))
        assert group.key.filter_name is None


def test_spellings_of_one_filter_are_one_and_letters_are_two() -> None:
    spelled = [f for name in ("Ha", "HA", "H-alpha", "H\u03b1", "Ha") for f in flats(1, filter_name=name)]
    assert only(group_frames(spelled, RULES)).key.filter_name == "Ha"
    letters = group_frames(flats(3, filter_name="R") + flats(4, filter_name="r"), RULES)
    assert [(g.key.filter_name, len(g.frames)) for g in letters.groups] == [("R", 3), ("r", 4)]
    widths = group_frames(flats(3, filter_name="Ha 3nm") + flats(4, filter_name="Ha 7nm"), RULES)
    assert len(widths.groups) == 2


def test_frames_with_an_unreadable_card_are_left_out_with_the_reason() -> None:
    said = "GAIN is 'many', no number: its gain is not known; repair the header"
    grouping = group_frames([*darks(3), *darks(1, 7.0, unreadable=(said,))], RULES)
    assert counts(grouping) == [(FrameType.DARK, 5.0, 3)]
    assert grouping.unused[0][1] == said


def test_flats_whose_dark_was_subtracted_are_apart() -> None:
    grouping = group_frames(flats(3) + flats(4, dark_subtracted=True), RULES)
    assert {g.key.dark_subtracted: len(g.frames) for g in grouping.groups} == {False: 3, True: 4}


def test_flats_of_another_bayer_pattern_are_apart() -> None:
    grouping = group_frames(flats(3) + flats(4, bayer_pattern="RGGB"), RULES)
    assert {g.key.bayer_pattern: len(g.frames) for g in grouping.groups} == {None: 3, "RGGB": 4}


# --- exposures ---


def test_darks_of_each_exposure_are_a_group_even_one_by_one() -> None:
    grouping = group_frames(darks(3, 5.0) + darks(4, 10.0) + darks(1, 20.0) + darks(1, 30.0) + darks(1, 40.0), RULES)
    assert counts(grouping) == [(FrameType.DARK, 5.0, 3), (FrameType.DARK, 10.0, 4)]
    assert [len(g.frames) for g in grouping.too_small] == [1, 1, 1]


def test_exposures_as_the_shutter_reports_them_are_one() -> None:
    group = only(group_frames(darks(2, 60.0) + darks(1, 60.001) + darks(1, 60.03), RULES))
    assert group.key.exposure_time_s == pytest.approx(60.0005)


@pytest.mark.parametrize("exposure_s", [0.25, 2.0, 300.0])
@pytest.mark.parametrize("kind", [FrameType.DARK, FrameType.FLAT])
def test_exposures_as_a_clock_measured_them_are_one(kind: FrameType, exposure_s: float) -> None:
    shares = [-0.005, 0.0049, 0.001, -0.0021, 0.0033, -0.0012, 0.0007, 0.0042, -0.0038, 0.005]
    measured = [f for i, share in enumerate(shares) for f in frames(kind, 1, exposure_s * (1 + share))]
    group = only(group_frames(measured, RULES))
    assert not group.twilight
    assert group.key.exposure_time_s == pytest.approx(exposure_s, rel=2e-3)


def test_two_lamps_whose_exposures_a_clock_measured_are_two_groups() -> None:
    measured = [t * (1 + 0.001 * i) for t in (0.25, 1.0) for i in range(-4, 5)]
    assert [len(g.frames) for g in group_frames(ramp(*measured), RULES).groups] == [9, 9]


def test_twilight_flats_that_begin_alike_are_one_group() -> None:
    group = only(group_frames(ramp(76.15, 82.22, 82.36, 82.40, 82.69), RULES))
    assert group.twilight
    slow = [80 * 1.003**i for i in range(20)]
    assert only(group_frames(ramp(*slow), RULES)).twilight


def test_microseconds_do_not_part_bias_frames() -> None:
    times = [0.0, 1e-6, 32e-6, 33e-6, 50e-6, 99e-6]
    assert len(only(group_frames([f for t in times for f in darks(1, t)], RULES)).frames) == len(times)


def test_exposures_a_hundredth_apart_are_two() -> None:
    assert len(group_frames(darks(3, 1.0) + darks(3, 1.01), RULES).groups) == 2


def test_short_exposures_are_told_apart() -> None:
    times = [0.002, 0.003, 0.0045]
    grouping = group_frames([f for t in times for f in darks(3, t)], RULES)
    assert [g.key.exposure_time_s for g in grouping.groups] == times


def test_a_slow_drift_does_not_chain_far_exposures_together() -> None:
    drifting = [100.0 + 0.4 * i for i in range(12)]
    grouping = group_frames([f for t in drifting for f in darks(1, t)], RULES)
    assert 2 <= len(grouping.groups) < len(drifting)
    for group in grouping.groups:
        times = [f.metadata.exposure_time_s or 0.0 for f in group.frames]
        assert max(times) - min(times) <= 0.0101 * max(times)


# --- twilight ---


def test_twilight_flats_are_one_group() -> None:
    group = only(group_frames(ramp(76.15, 77.7, 79.3, 81.0, 82.69, filter_name="z"), RULES))
    assert group.twilight
    assert group.key.exposure_time_s == 79.3
    assert group.key.filter_name == "z"


def test_twilight_flats_of_two_filters_are_two_groups() -> None:
    grouping = group_frames(ramp(1, 2, 3, filter_name="R") + ramp(1, 2, 3, filter_name="V"), RULES)
    assert [(g.key.filter_name, g.twilight) for g in grouping.groups] == [("R", True), ("V", True)]


def test_flats_with_several_frames_at_each_of_two_exposures_are_two_groups() -> None:
    grouping = group_frames(flats(5, 180.0) + flats(4, 360.0), RULES)
    assert counts(grouping) == [(FrameType.FLAT, 180.0, 5), (FrameType.FLAT, 360.0, 4)]
    assert not any(g.twilight for g in grouping.groups)


def test_two_frames_at_each_of_two_exposures_are_two_small_groups() -> None:
    grouping = group_frames(flats(2, 1.0) + flats(2, 2.0), RULES)
    assert not grouping.groups
    assert [len(g.frames) for g in grouping.too_small] == [2, 2]


def test_a_twilight_that_begins_at_the_shortest_exposure_is_one_group() -> None:
    # The sky is still too bright for three frames; the other seven differ.
    dusk = flats(3, 0.5) + ramp(0.6, 0.8, 1.1, 1.5, 2.1, 3.0, 4.2)
    group = only(group_frames(dusk, RULES))
    assert group.twilight
    assert len(group.frames) == 10


def test_a_panel_series_with_a_few_test_exposures_keeps_its_group() -> None:
    grouping = group_frames(flats(20, 1.0) + ramp(0.25, 0.5), RULES)
    assert counts(grouping) == [(FrameType.FLAT, 1.0, 20)]
    assert sum(len(g.frames) for g in grouping.too_small) == 2


def test_flats_of_one_exposure_are_no_twilight() -> None:
    assert not only(group_frames(flats(3, 1.0), RULES)).twilight


# --- temperature ---


def test_the_set_temperature_counts_while_the_sensor_is_near_it() -> None:
    near = darks(3, set_temperature_c=-10.0, ccd_temperature_c=-10.4) + darks(
        3, set_temperature_c=-10.0, ccd_temperature_c=-8.5
    )
    assert only(group_frames(near, RULES)).key.temperature_c == -10.0


def test_a_set_temperature_that_is_echoed_inexactly_is_kept() -> None:
    echoed = darks(2, set_temperature_c=-10.0) + darks(1, set_temperature_c=-10.02)
    assert only(group_frames(echoed, RULES)).key.temperature_c == -10.0


def test_sets_of_neighbouring_set_temperatures_are_apart() -> None:
    both = darks(3, set_temperature_c=-10.0, ccd_temperature_c=-10.0) + darks(
        3, set_temperature_c=-11.0, ccd_temperature_c=-11.0
    )
    assert [g.key.temperature_c for g in group_frames(both, RULES).groups] == [-11.0, -10.0]


def test_without_a_set_temperature_the_measured_one_counts_within_the_tolerance() -> None:
    drifting = [f for t in (-10.0, -9.4, -8.9, -8.0) for f in darks(1, ccd_temperature_c=t)]
    group = only(group_frames(drifting, RULES))
    assert group.key.temperature_c == pytest.approx(-9.15)
    assert len(group_frames(drifting, replace(RULES, min_frames=1, temperature_tolerance_c=1.0)).groups) == 2


def test_the_temperature_tolerance_is_inclusive() -> None:
    for low, high in ((-10.0, -8.0), (-33.7, -31.7)):  # the second pair is a little more than 2 apart in floats
        both = darks(2, ccd_temperature_c=low) + darks(2, ccd_temperature_c=high)
        assert len(only(group_frames(both, RULES)).frames) == 4
        set_and_had = darks(3, set_temperature_c=low, ccd_temperature_c=high)
        assert only(group_frames(set_and_had, RULES)).key.temperature_c == low


def test_two_frames_of_another_temperature_among_ten_are_left_out() -> None:
    good = darks(8, set_temperature_c=-20.0, ccd_temperature_c=-20.0)
    warm = darks(2, set_temperature_c=-20.0, ccd_temperature_c=-11.0)
    grouping = group_frames(good + warm, RULES)
    assert [(g.key.temperature_c, len(g.frames)) for g in grouping.groups] == [(-20.0, 8)]
    assert [(g.key.temperature_c, len(g.frames)) for g in grouping.too_small] == [(-11.0, 2)]


@pytest.mark.parametrize("warmer_c", [2.5, 4.0, 4.9, 5.1, 10.0])
def test_frames_far_from_the_set_temperature_have_the_temperature_they_were_taken_at(warmer_c: float) -> None:
    good = darks(3, set_temperature_c=-20.0, ccd_temperature_c=-20.0)
    warm = darks(4, set_temperature_c=-20.0, ccd_temperature_c=-20.0 + warmer_c)
    grouping = group_frames(good + warm, RULES)
    assert {len(g.frames): g.key.temperature_c for g in grouping.groups} == {3: -20.0, 4: -20.0 + warmer_c}


def test_frames_without_any_temperature_are_a_group() -> None:
    assert only(group_frames(darks(3), RULES)).key.temperature_c is None


# --- nights ---


def test_nights_are_cut_where_no_frames_are_wherever_the_observatory_is() -> None:
    # Sydney: 12:00 UTC is ten in the evening, in the middle of both nights.
    first = darks(6, date_obs=datetime(2026, 11, 21, 11, 57, tzinfo=UTC))
    second = darks(6, date_obs=datetime(2026, 11, 22, 11, 57, tzinfo=UTC))
    parted = group_frames(first + second, replace(RULES, per_session=True))
    assert [len(group.frames) for group in parted.groups] == [6, 6]
    assert [group.key.night for group in parted.groups] == [date(2026, 11, 21), date(2026, 11, 22)]


def test_a_night_is_not_cut_at_midnight() -> None:
    through_midnight = darks(6, date_obs=datetime(2026, 11, 21, 23, 57, tzinfo=UTC))
    group = only(group_frames(through_midnight, replace(RULES, per_session=True)))
    assert group.key.night == date(2026, 11, 21)


def test_nights_are_apart_only_where_asked() -> None:
    two = darks(3) + darks(4, date_obs=EVENING + timedelta(days=1))
    assert len(only(group_frames(two, RULES)).frames) == 7
    parted = group_frames(two, replace(RULES, per_session=True))
    assert [(g.key.night, len(g.frames)) for g in parted.groups] == [(date(2026, 11, 21), 3), (date(2026, 11, 22), 4)]
    assert only(group_frames(two, RULES)).key.night is None


def evenings_of_flats(*counts: int) -> list[Frame]:
    """Flats of the filter R on evenings a day apart, so many on each."""
    return [
        replace(frame, label=f"{evening}_{frame.label}")
        for evening, count in enumerate(counts)
        for frame in flats(count, filter_name="R", date_obs=EVENING + timedelta(days=evening))
    ]


def test_flats_of_different_nights_are_different_groups() -> None:
    parted = group_frames(evenings_of_flats(3, 4), RULES)
    assert [(g.key.night, len(g.frames)) for g in parted.groups] == [(date(2026, 11, 21), 3), (date(2026, 11, 22), 4)]
    assert len(only(group_frames(evenings_of_flats(3, 4), replace(RULES, session="none"))).frames) == 7
    assert all(not several_nights(group, RULES) for group in parted.groups)


def test_flats_of_nights_with_too_few_of_them_are_grouped_over_these_nights() -> None:
    parted = group_frames(evenings_of_flats(2, 5, 1), RULES)
    assert sorted(len(group.frames) for group in parted.groups) == [3, 5]
    (over,) = [group for group in parted.groups if len(group.frames) == 3]
    assert over.key.night is None
    assert "of 2 nights, 2026-11-21 to 2026-11-23, each with fewer than min_frames 3" in several_nights(over, RULES)
    alone = group_frames(evenings_of_flats(2, 5), RULES)
    assert [len(group.frames) for group in alone.too_small] == [2]
    each = group_frames(evenings_of_flats(2, 5), replace(RULES, per_session=True))
    assert [len(group.frames) for group in each.groups] == [5]


def test_frames_without_a_date_have_no_night() -> None:
    undated = darks(3, date_obs=None)
    assert only(group_frames(undated, replace(RULES, per_session=True))).key.night is None
    assert night_of(undated[0].metadata.date_obs) is None


# --- properties ---

kinds = st.sampled_from([FrameType.BIAS, FrameType.DARK, FrameType.FLAT, FrameType.LIGHT, None])
any_metadata = st.builds(
    FrameMetadata,
    frame_type=kinds,
    exposure_time_s=st.sampled_from([None, 0.0, 0.001, 1.0, 1.0005, 1.001, 1.002, 2.0, 60.0, 60.03]),
    width=st.sampled_from([64, 65]),
    height=st.just(48),
    settings=st.sampled_from([SETTINGS, replace(SETTINGS, gain=None)]),
    filter_name=st.sampled_from([None, "R"]),
    set_temperature_c=st.sampled_from([None, -10.0, -10.04, 0.0]),
    ccd_temperature_c=st.sampled_from([None, -10.0, -9.0, -8.0, -7.5, -5.0, 0.0]),
    date_obs=st.none() | st.sampled_from([EVENING + timedelta(hours=hours) for hours in (0, 5, 9, 24, 600, 1200)]),
    dark_subtracted=st.booleans(),
)
any_frames = st.lists(any_metadata, max_size=30).map(
    lambda found: [Frame(label=f"frame_{i:03d}", metadata=metadata) for i, metadata in enumerate(found)]
)
any_rules = st.builds(
    GroupRules,
    min_frames=st.integers(1, 4),
    per_session=st.booleans(),
    session=st.sampled_from(["night", "none", "hours"]),
    window_days=st.sampled_from([None, 0.0, 1.0, 30.0]),
)


@given(any_frames, any_rules, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(found: list[Frame], rules: GroupRules, random: Random) -> None:
    shuffled = random.sample(found, len(found))
    assert group_frames(shuffled, rules) == group_frames(found, rules)


@given(any_frames, any_rules)
def test_every_frame_is_in_one_place(found: list[Frame], rules: GroupRules) -> None:
    grouping = group_frames(found, rules)
    placed = [f.label for g in (*grouping.groups, *grouping.too_small) for f in g.frames]
    placed += [f.label for f, _ in grouping.unused]
    assert sorted(placed) == [f.label for f in found]


@given(any_frames, any_rules)
def test_frames_of_a_group_have_in_common_what_the_key_says(found: list[Frame], rules: GroupRules) -> None:
    grouping = group_frames(found, rules)
    for group in (*grouping.groups, *grouping.too_small):
        assert (len(group.frames) >= rules.min_frames) == (group in grouping.groups)
        for frame in group.frames:
            m = frame.metadata
            assert m.frame_type is group.key.frame_type
            assert (m.width, m.height, m.settings) == (group.key.width, group.key.height, group.key.settings)
            near = m.ccd_temperature_c if m.set_temperature_c is None else m.set_temperature_c
            assert (group.key.temperature_c is None) == (near is None)
            if not group.twilight:
                assert m.exposure_time_s == pytest.approx(group.key.exposure_time_s, rel=1.1e-2, abs=1.1e-4)


# ---- ladders of a lamp ----


def levels_of(light: dict[float, float], bias_adu: float = 500.0) -> Any:
    """Give the level of a frame by its exposure; bias frames have their own."""
    return lambda frame: bias_adu + light.get(frame.metadata.exposure_time_s or 0.0, 0.0)


@pytest.mark.parametrize("exposures_s", [(1, 2, 4, 8, 16), (1, 1.3, 1.7, 2.2, 2.9), (0.1, 1, 10, 100, 200)])
@pytest.mark.parametrize("end_adu", [60_000.0, 30_000.0])
def test_flats_whose_level_grows_with_the_exposure_are_no_twilight_flats(
    exposures_s: tuple[float, ...], end_adu: float
) -> None:
    light = {t: min(40_000.0 * t / max(exposures_s), end_adu) for t in exposures_s}
    grouping = group_frames([*ramp(*exposures_s), *frames(FrameType.BIAS, 3, 0.0)], RULES, levels_of(light))
    assert [group.key.frame_type for group in grouping.groups] == [FrameType.BIAS]
    (ladder,) = ladders(grouping.too_small, 2.0)
    assert ladder.ladder
    assert [frame.metadata.exposure_time_s for frame in ladder.frames] == sorted(exposures_s)


@pytest.mark.parametrize("exposures_s", [(1, 2, 4, 8, 16), (1, 1.3, 1.7, 2.2, 2.9)])
def test_flats_of_one_level_are_twilight_flats(exposures_s: tuple[float, ...]) -> None:
    light = {t: 25_000.0 * (1 + 0.1 * (-1) ** i) for i, t in enumerate(exposures_s)}
    assert only(group_frames(ramp(*exposures_s), RULES, levels_of(light))).twilight


def test_exposures_of_a_ladder_with_frames_enough_are_masters() -> None:
    light = {t: 300.0 * t for t in (10, 20, 30, 40, 60, 90)}
    found = group_frames([*flats(4, 30.0), *ramp(10, 20, 40, 60, 90)], RULES, levels_of(light))
    assert [(group.key.exposure_time_s, len(group.frames)) for group in found.groups] == [(30.0, 4)]


def test_frames_of_other_settings_are_other_ladders() -> None:
    two = [*ramp(10, 20, filter_name="R"), *ramp(10, 20, filter_name="V"), *darks(1, 5.0), *darks(1, 50.0)]
    small = group_frames(two, RULES, levels_of({10: 100.0, 20: 200.0})).too_small
    assert sorted(len(ladder.frames) for ladder in ladders(small, 2.0)) == [2, 2, 2]
