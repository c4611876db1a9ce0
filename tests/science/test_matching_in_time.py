"""Observation time, exactness, age and quality decide between masters that fit; the time of building never does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ostcal.errors import InputError
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import FitsPlane, LibraryMaster
from ostcal.science.choose_masters import CalibrationOptions, FrameMatcher
from ostcal.science.match import (
    MatchRules,
    MaxAges,
    choose_science_bias,
    choose_science_dark,
    choose_science_flat,
    usable_masters,
)

LIGHT_AT = datetime(2026, 6, 10, 22, tzinfo=UTC)
BUILT = datetime(2026, 12, 1, tzinfo=UTC)
SETTINGS = CameraSettings(camera="Cam", gain=100.0, offset=30.0)
FRAME = GroupKey(
    frame_type=FrameType.LIGHT,
    settings=SETTINGS,
    width=100,
    height=80,
    exposure_time_s=300.0,
    filter_name="R",
    temperature_c=-10.0,
)
LIGHT = FrameMetadata(
    frame_type=FrameType.LIGHT,
    exposure_time_s=300.0,
    width=100,
    height=80,
    settings=SETTINGS,
    filter_name="R",
    set_temperature_c=-10.0,
    date_obs=LIGHT_AT,
)
RULES = MatchRules()
NOTHING = CameraSettings()
PLANE = FitsPlane(fits=FitsPixels(width=100, height=80, bitpix=16, path="nowhere", data_offset=0))


def taken(days: float, hours: float = 1.0) -> Observed:
    """Return the time of frames so many days before the light, over some hours."""
    middle = LIGHT_AT - timedelta(days=days)
    half = timedelta(hours=hours) / 2
    return Observed(first=middle - half, last=middle + half, middle=middle)


def master(
    kind: FrameType,
    name: str,
    days: float | None,
    *,
    built_days: float = 0.0,
    verdict: str | None = None,
    noise: float | None = None,
    two_levels: bool = False,
    **key: Any,
) -> LibraryMaster:
    """Return a master that was taken so many days before the light, and built so many before December."""
    own: dict[str, Any] = {
        FrameType.FLAT: {"exposure_time_s": 2.0},
        FrameType.DARK: {"filter_name": None},
        FrameType.BIAS: {"filter_name": None, "exposure_time_s": 0.0},
    }[kind]
    return LibraryMaster(
        record=MasterRecord(
            name=name,
            key=replace(FRAME, **{"frame_type": kind, **own, **key}),
            made_at=BUILT - timedelta(days=built_days),
            calibration_id="",
            verdict=verdict,
            noise=noise,
            has_two_levels=two_levels,
            observed=taken(days) if days is not None else None,
        ),
        plane=PLANE,
    )


def chosen(
    kind: FrameType,
    library: list[LibraryMaster],
    *,
    key: GroupKey = FRAME,
    rules: MatchRules = RULES,
    at: datetime | None = LIGHT_AT,
) -> str:
    """Return the name of the master that is chosen, whatever the order of the library."""
    names = set()
    for order in itertools.permutations(library):
        if kind is FrameType.FLAT:
            names.add(choose_science_flat(key, at, order, rules).record.name)
        elif kind is FrameType.BIAS:
            found = choose_science_bias(key, order, rules, at)
            assert found is not None
            names.add(found.record.name)
        else:
            (part,) = choose_science_dark(key, order, rules, at).parts
            names.add(part.master.record.name)
    (name,) = names
    return name


def matcher(library: list[LibraryMaster], rules: MatchRules = RULES) -> FrameMatcher:
    return FrameMatcher("nowhere", CalibrationOptions(), rules, library)


KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)


# --- time ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("near", "far"), [(3, 5), (-3, 5), (3, -5), (-3, -5), (40, 41), (0.1, 1)])
def test_the_nearest_in_time_is_taken_before_or_after_whenever_it_was_built(
    kind: FrameType, near: float, far: float
) -> None:
    for built in ((0, 9), (9, 0)):
        library = [master(kind, "near", near, built_days=built[0]), master(kind, "far", far, built_days=built[1])]
        assert chosen(kind, library) == "near"


@pytest.mark.parametrize("kind", KINDS)
def test_a_master_without_a_time_comes_last_although_it_was_built_last(kind: FrameType) -> None:
    assert chosen(kind, [master(kind, "unknown", None), master(kind, "old", 900, built_days=300)]) == "old"
    assert chosen(kind, [master(kind, "unknown", None)]) == "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_a_light_without_a_time_takes_what_was_taken_last(kind: FrameType) -> None:
    library = [master(kind, "old", 50), master(kind, "last", -30, built_days=90), master(kind, "unknown", None)]
    assert chosen(kind, library, at=None) == "last"


def test_a_flat_of_the_night_goes_before_one_that_is_nearer_in_hours() -> None:
    """Dawn of the same night is 15 hours after a light of the early evening, dusk of the night before 13 before it."""
    evening = datetime(2026, 6, 10, 15, tzinfo=UTC)
    noon_s = 14 * 3600.0  # local noon at 14:00 UTC
    dawn = replace(taken(0), first=evening, middle=evening + timedelta(hours=15), last=evening + timedelta(hours=16))
    before = replace(taken(0), first=evening, middle=evening - timedelta(hours=13), last=evening)
    library = [
        replace(m, record=replace(m.record, observed=observed, key=replace(m.key, noon_utc_s=noon_s)))
        for m, observed in (
            (master(FrameType.FLAT, "dawn", 0), replace(dawn, first=dawn.middle)),
            (master(FrameType.FLAT, "before", 0), replace(before, first=before.middle, last=before.middle)),
        )
    ]
    assert chosen(FrameType.FLAT, library, at=evening) == "dawn"


def test_the_dark_that_scales_and_its_bias_are_the_nearest_too() -> None:
    library = [
        master(FrameType.DARK, f"dark {days}", days, exposure_time_s=200.0, built_days=days) for days in (9, 2, 30)
    ] + [master(FrameType.BIAS, f"bias {days}", days, built_days=days) for days in (8, 1, 40)]
    for order in (library, library[::-1]):
        mix = choose_science_dark(FRAME, order, RULES, LIGHT_AT)
        assert [part.master.record.name for part in mix.parts] == ["bias 1", "dark 2"]
        assert mix.scaled
        near = replace(FRAME, exposure_time_s=210.0)
        mix = choose_science_dark(near, order, RULES, LIGHT_AT)
        assert [part.master.record.name for part in mix.parts] == ["bias 1", "dark 2"]


# --- exact before unrecorded ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "less",
    [{"settings": NOTHING}, {"settings": replace(SETTINGS, gain=None)}, {"settings": replace(SETTINGS, offset=None)}],
)
def test_a_master_that_records_the_settings_goes_before_a_nearer_one_that_does_not(
    kind: FrameType, less: dict[str, Any]
) -> None:
    library = [master(kind, "exact", 400), master(kind, "open", 1, **less)]
    assert chosen(kind, library) == "exact"
    assert chosen(kind, library[1:]) == "open"


def test_an_unknown_temperature_is_not_zero_degrees_away() -> None:
    for kind in (FrameType.BIAS, FrameType.DARK):
        library = [master(kind, "cold", 400, temperature_c=-11.0), master(kind, "open", 1, temperature_c=None)]
        assert chosen(kind, library) == "cold"
        assert chosen(kind, library[1:]) == "open"


def test_a_light_in_r_takes_the_flat_in_r_and_one_without_a_filter_that_without_one() -> None:
    library = [master(FrameType.FLAT, "R", 400), master(FrameType.FLAT, "no filter", 1, filter_name=None)]
    assert chosen(FrameType.FLAT, library) == "R"
    assert chosen(FrameType.FLAT, library[1:]) == "no filter"
    assert chosen(FrameType.FLAT, library, key=replace(FRAME, filter_name=None)) == "no filter"


def test_exact_masters_that_scale_go_before_a_dark_of_the_exposure_that_names_nothing() -> None:
    library = [
        master(FrameType.DARK, "open", 1, settings=NOTHING, temperature_c=None),
        master(FrameType.DARK, "dark", 300, exposure_time_s=200.0),
        master(FrameType.BIAS, "bias", 300),
    ]
    mix = choose_science_dark(FRAME, library, RULES, LIGHT_AT)
    assert [part.master.record.name for part in mix.parts] == ["bias", "dark"]


def test_what_a_master_leaves_open_is_said_once() -> None:
    library = [
        master(FrameType.DARK, "d", 1, settings=replace(SETTINGS, gain=None), temperature_c=None),
        master(FrameType.FLAT, "f", 1),
    ]
    notes = matcher(library).match_metadata(LIGHT).notes
    assert notes == ("dark d does not record gain and temperature: it is taken because no dark that does fits",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("allow_failed", [False, True])
def test_a_mixture_of_two_levels_is_never_chosen(kind: FrameType, allow_failed: bool) -> None:
    rules = replace(RULES, allow_failed=allow_failed)
    library = [master(kind, "mixture", 0.1, verdict="fail", two_levels=True), master(kind, "far", 300)]
    assert chosen(kind, library, rules=rules) == "far"
    assert usable_masters(library[:1], rules) == []


# --- the better one of a session ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"verdict": "warn", "noise": 1.0}, "its verdict is warn"),
        ({"verdict": "pass", "noise": 1.5}, "it has 1.5 times the noise"),
    ],
)
def test_the_better_one_of_a_session_is_taken_and_said(kind: FrameType, worse: dict[str, Any], why: str) -> None:
    night = {"night": date(2026, 6, 10)}
    better = master(kind, "better", 0.2, verdict="pass", noise=1.0, built_days=9, **night)
    others = [
        master(other, f"{other}", 0.2, exposure_time_s=300.0 if other is FrameType.DARK else 2.0)
        for other in (FrameType.DARK, FrameType.FLAT)
        if other is not kind and kind is not FrameType.BIAS
    ]
    library = [master(kind, "worse", 0.1, **worse, **night), better]
    assert chosen(kind, library) == "better"
    if kind is not FrameType.BIAS:
        notes = matcher(library + others).match_metadata(LIGHT).notes
        assert notes == (f"{kind} better is taken: worse was taken nearer in time, and {why}",)
    far = replace(better, record=replace(better.record, observed=taken(20), key=replace(better.key, night=None)))
    assert chosen(kind, [library[0], far]) == "worse"


def test_noise_that_a_frame_more_explains_is_no_reason() -> None:
    library = [master(FrameType.DARK, "near", 0.1, noise=1.1), master(FrameType.DARK, "quiet", 0.3, noise=1.0)]
    assert chosen(FrameType.DARK, library) == "near"


def test_of_masters_of_the_same_frames_the_one_built_last_is_taken() -> None:
    """A frame was excluded: the times hardly differ, and what was decided last counts."""
    old, new = master(FrameType.DARK, "old", 2.0, built_days=5), master(FrameType.DARK, "new", 2.0)
    less = replace(taken(2.01), last=taken(2.0).last)
    assert chosen(FrameType.DARK, [old, replace(new, record=replace(new.record, observed=less))]) == "new"


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_may_be_preferred_to_the_nearest(kind: FrameType) -> None:
    library = [master(kind, "near", 1, noise=2.0), master(kind, "best", 60, noise=1.0)]
    assert chosen(kind, library) == "near"
    assert chosen(kind, library, rules=replace(RULES, prefer="best")) == "best"
    limited = replace(RULES, prefer="best", max_ages=MaxAges(bias=30, dark=30, flat=30))
    assert chosen(kind, library, rules=limited) == "near"


# --- clocks that were wrong ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_master_of_the_future_counts_as_without_a_time(kind: FrameType) -> None:
    now = LIGHT_AT + timedelta(days=2)
    library = [master(kind, "future", -4), master(kind, "old", 60), master(kind, "older", 90)]
    assert chosen(kind, library) == "future"
    knows = replace(RULES, now=now)
    assert chosen(kind, library, rules=knows) == "old"
    assert chosen(kind, library, rules=knows, at=None) == "old"
    assert chosen(kind, library[:1], rules=knows) == "future"


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_of_the_future_takes_what_was_taken_last_by_its_own_clock_too(kind: FrameType) -> None:
    knows = replace(RULES, now=LIGHT_AT - timedelta(days=30))
    assert chosen(kind, [master(kind, "last", 60), master(kind, "before", 90)], rules=knows) == "last"
    assert chosen(kind, [master(kind, "last", 60), master(kind, "same clock", 1)], rules=knows) == "same clock"


def test_what_a_wrong_clock_does_is_said() -> None:
    library = [master(FrameType.DARK, "d", -400), master(FrameType.FLAT, "f", 1)]
    found = matcher(library, replace(RULES, now=LIGHT_AT + timedelta(days=2)))
    (note,) = found.match_metadata(LIGHT).notes
    assert note.startswith("dark d: its frames were taken in the future (2027-07-15, DATE-OBS)")
    ahead = matcher(library, replace(RULES, now=LIGHT_AT - timedelta(days=2)))
    for name in ("a", "b", "c"):
        ahead.ages.add(name, ahead.match_metadata(LIGHT))
    assert any(line.startswith("a (2026-06-10) and 2 more: taken in the future") for line in ahead.ages.remarks)


# --- ages ---


def test_ages_are_days_from_the_masters_to_the_frame_and_negative_for_later_ones() -> None:
    library = [master(FrameType.DARK, "d", 12.5), master(FrameType.FLAT, "f", -2), master(FrameType.BIAS, "b", 4)]
    found = matcher(library).match_metadata(LIGHT)
    assert [found.age_days(kind) for kind in KINDS] == [4, 12.5, -2]
    undated = matcher(library).match_metadata(replace(LIGHT, date_obs=None))
    assert [undated.age_days(kind) for kind in KINDS] == [None, None, None]


def test_masters_within_their_age_go_before_older_ones_that_are_nearer_in_temperature() -> None:
    library = [master(FrameType.DARK, "old", 100), master(FrameType.DARK, "new", 5, temperature_c=-11.0)]
    assert chosen(FrameType.DARK, library) == "old"
    assert chosen(FrameType.DARK, library, rules=replace(RULES, max_ages=MaxAges(dark=30))) == "new"


@pytest.mark.parametrize("kind", [FrameType.DARK, FrameType.FLAT])
@pytest.mark.parametrize("days", [91, -91, None])
def test_beyond_its_age_a_master_is_taken_with_a_warning_or_refused(kind: FrameType, days: float | None) -> None:
    other = FrameType.FLAT if kind is FrameType.DARK else FrameType.DARK
    library = [master(kind, "m", days), master(other, "other", 1)]
    rules = MatchRules(max_ages=MaxAges(dark=90, flat=90))
    found = matcher(library, rules)
    found.ages.add("light.fits", found.match_metadata(LIGHT))
    (line,) = found.ages.warnings
    side = "before" if days and days > 0 else "after"
    said = f"were taken 91 days {side} light.fits" if days else "does not say when its frames were taken (DATE-OBS)"
    assert said in line
    assert f"matching.max_age_days.{kind}" in line
    with pytest.raises(InputError, match=rf"the nearest is m, but it.*max_age_days.{kind} with matching.strict"):
        matcher(library, replace(rules, strict=True)).match_metadata(LIGHT)
    assert matcher(library).match_metadata(LIGHT)


def test_ages_are_said_in_one_line_for_all_frames() -> None:
    library = [master(FrameType.DARK, "d", 31), master(FrameType.FLAT, "f", 7)]
    found = matcher(library)
    for hours in range(5):
        light = replace(LIGHT, date_obs=LIGHT_AT + timedelta(hours=hours))
        found.ages.add(f"light_{hours}", found.match_metadata(light))
    assert found.ages.remarks == ["taken more than a month apart: dark d 31 days before light_4"]
    assert found.ages.warnings == []


def test_times_that_are_not_known_are_said_in_one_line() -> None:
    found = matcher([master(FrameType.DARK, "d", None), master(FrameType.FLAT, "f", 1)])
    for name in ("a", "b", "c"):
        found.ages.add(name, found.match_metadata(replace(LIGHT, date_obs=None)))
    frames, masters = found.ages.remarks
    assert frames.startswith("a and 2 more: no DATE-OBS says when it was taken")
    assert masters.startswith("no DATE-OBS says when the frames of d were taken")


# --- when the frames of a master were taken ---


def frame(when: datetime | None, time_s: float = 60.0) -> FrameMetadata:
    return FrameMetadata(frame_type=FrameType.DARK, exposure_time_s=time_s, width=9, height=9, date_obs=when)


def test_the_middle_is_the_median_so_that_a_clock_that_jumped_does_not_move_it() -> None:
    frames = [frame(LIGHT_AT + timedelta(minutes=i)) for i in range(5)]
    observed = Observed.of(frames)
    assert observed == Observed(
        first=LIGHT_AT, last=LIGHT_AT + timedelta(minutes=5), middle=LIGHT_AT + timedelta(minutes=2, seconds=30)
    )
    wrong = Observed.of([*frames, frame(datetime(1970, 1, 1, tzinfo=UTC)), frame(None)])
    assert wrong is not None
    assert abs(wrong.middle - observed.middle) < timedelta(minutes=1)
    assert Observed.of([frame(None)]) is None


def test_frames_of_a_master_with_a_wrong_clock_are_named() -> None:
    d = master(FrameType.DARK, "d", 1)
    wrong = replace(taken(1), first=datetime(1970, 1, 1, tzinfo=UTC))
    library = [replace(d, record=replace(d.record, observed=wrong)), master(FrameType.FLAT, "f", 1)]
    (note,) = matcher(library).match_metadata(LIGHT).notes
    assert "dark d: its frames were taken over 20613 days, 1970-01-01 to 2026-06-0" in note
