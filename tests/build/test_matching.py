"""Which dark fits a flat: every step of the order, inclusive tolerances, and a message that says what there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.build.match_darks import DarkCandidate, DarkChoice, FlatDarkRules, NoDark, choose_dark, why_unfit
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import Frame, Group, GroupKey, settings_differ
from ostcal.inputs.observed import Observed
from ostcal.library.ages import MaxAges

SETTINGS = CameraSettings(camera="Demo", gain=100.0, offset=30.0, readout_mode="Normal")
MONDAY = datetime(2026, 11, 16, 20, 0, tzinfo=UTC)


def key(kind: FrameType, exposure_s: float, **others: Any) -> GroupKey:
    values: dict[str, Any] = {"width": 64, "height": 48, "settings": SETTINGS, "temperature_c": -10.0} | others
    return GroupKey(frame_type=kind, exposure_time_s=exposure_s, **values)


def flat(*exposures_s: float, **others: Any) -> Group:
    """Return a group of flats; several exposures are a twilight."""
    made = key(FrameType.FLAT, sorted(exposures_s)[len(exposures_s) // 2], **others)
    return Group(
        key=made,
        frames=tuple(
            Frame(
                label=f"flat_{i}",
                metadata=FrameMetadata(
                    frame_type=FrameType.FLAT, exposure_time_s=t, width=made.width, height=made.height
                ),
            )
            for i, t in enumerate(exposures_s)
        ),
        twilight=len(exposures_s) > 1,
    )


def dark(exposure_s: float, name: str = "", **others: Any) -> DarkCandidate:
    return DarkCandidate(name=name or f"dark_{exposure_s:g}", key=key(FrameType.DARK, exposure_s, **others))


def bias(exposure_s: float = 0.0, name: str = "bias", **others: Any) -> DarkCandidate:
    return DarkCandidate(name=name, key=key(FrameType.BIAS, exposure_s, **others))


def on_disk(candidate: DarkCandidate, days_old: float = 0.0) -> DarkCandidate:
    return replace(candidate, from_this_run=False, made_at=MONDAY - timedelta(days=days_old))


def choose(group: Group, *candidates: DarkCandidate, tolerance: float = 0.1, tolerance_c: float = 2.0) -> Any:
    return choose_dark(
        group, candidates, FlatDarkRules(exposure_tolerance=tolerance, temperature_tolerance_c=tolerance_c)
    )


def names(choice: DarkChoice | NoDark) -> tuple[str, ...]:
    assert isinstance(choice, DarkChoice), choice
    return (choice.kind, choice.first.name, *((choice.second.name,) if choice.second else ()))


# --- a dark of the exposure ---


def test_the_dark_of_the_exposure_is_taken() -> None:
    assert names(choose(flat(1.0), bias(), dark(0.5), dark(1.0), dark(2.0))) == ("matched", "dark_1")


def test_the_nearest_dark_within_the_tolerance_is_taken_not_the_newest() -> None:
    near, far = on_disk(dark(1.02), days_old=9), on_disk(dark(1.05), days_old=0)
    assert names(choose(flat(1.0), far, near)) == ("matched", "dark_1.02")


def test_of_equally_near_darks_the_newest_is_taken() -> None:
    ages = [on_disk(dark(1.0, f"age {days}"), days_old=days) for days in (3, 1, 2)]
    assert names(choose(flat(1.0), *ages)) == ("matched", "age 1")


def test_of_equally_near_darks_that_of_this_run_is_taken() -> None:
    stored = on_disk(dark(1.0, "stored"))
    assert names(choose(flat(1.0), stored, dark(1.0, "made now"))) == ("matched", "made now")
    undated = replace(stored, name="undated", made_at=None)
    assert names(choose(flat(1.0), undated, stored)) == ("matched", "stored")


@pytest.mark.parametrize(
    ("flat_s", "dark_s", "tolerance"),
    [(1.0, 1.1, 0.1), (1.0, 0.9, 0.1), (3.0, 3.3, 0.1), (0.3, 0.33, 0.1), (10.0, 10.5, 0.05), (2.0, 2.0, 0.0)],
)
def test_the_exposure_tolerance_is_inclusive(flat_s: float, dark_s: float, tolerance: float) -> None:
    assert names(choose(flat(flat_s), dark(dark_s, "d"), tolerance=tolerance)) == ("matched", "d")


@pytest.mark.parametrize(("flat_s", "dark_s"), [(1.0, 1.1001), (1.0, 0.8999), (0.001, 0.00111)])
def test_a_dark_beyond_the_tolerance_does_not_match(flat_s: float, dark_s: float) -> None:
    assert isinstance(choose(flat(flat_s), dark(dark_s)), NoDark)


def test_a_dark_must_match_every_exposure_of_a_twilight() -> None:
    dusk = flat(76.15, 79.3, 82.69)
    assert names(choose(dusk, dark(79.3, "d"))) == ("matched", "d")
    wide = flat(60.0, 79.3, 82.69)
    assert names(choose(wide, bias(), dark(79.3, "d"))) == ("line", "bias", "d")


def test_a_bias_matches_flats_of_its_exposure() -> None:
    assert names(choose(flat(0.001), bias(0.001), dark(60.0))) == ("matched", "bias")


# --- the time of the frames, and what is left open ---

EVENING = datetime(2026, 1, 10, 20, tzinfo=UTC)


def taken(candidate: DarkCandidate, days: float, *, now: bool = False, built_days: float = 0.0) -> DarkCandidate:
    """Return a candidate whose frames were taken some days from the flats, built so many days before Monday."""
    middle = EVENING + timedelta(days=days)
    half = timedelta(minutes=10)
    observed = Observed(first=middle - half, last=middle + half, middle=middle)
    return replace(
        candidate,
        observed=observed,
        from_this_run=now,
        made_at=None if now else MONDAY - timedelta(days=built_days),
    )


def flat_of_the_evening(**others: Any) -> Group:
    made = flat(1.0, **others)
    return replace(made, frames=tuple(replace(f, metadata=replace(f.metadata, date_obs=EVENING)) for f in made.frames))


@pytest.mark.parametrize("make", [lambda name: dark(1.0, name), lambda name: bias(name=name)])
@pytest.mark.parametrize("now", [False, True])
def test_the_time_of_the_frames_decides_not_that_of_the_building(make: Any, now: bool) -> None:
    """Flats of January are made again in June, together with darks of June: those of January are taken."""
    january, june = taken(make("january"), 1.0, built_days=9), taken(make("june"), 150.0, now=now)
    for order in ((january, june), (june, january)):
        assert names(choose(flat_of_the_evening(), *order))[1] == "january"


def test_of_one_session_the_darks_of_the_run_go_before_those_on_disk() -> None:
    stored, now = taken(dark(1.0, "stored"), 0.01), taken(dark(1.0, "now"), 0.02, now=True)
    assert names(choose(flat_of_the_evening(), stored, now)) == ("matched", "now")


@pytest.mark.parametrize(("far_noise", "taken_name"), [(1.5, "near"), (1.3, "far")])
def test_noise_is_compared_among_masters_of_one_exposure(far_noise: float, taken_name: str) -> None:
    """A bias of less noise is in the session; 1.6 is not 1.2 times 1.5, but more than 1.2 times 1.3."""
    quiet = replace(taken(bias(), 0.001), noise=1.0)
    near = replace(taken(dark(1.0, "near"), 0.01), noise=1.6)
    far = replace(taken(dark(1.0, "far"), 0.1), noise=far_noise)
    for order in ((quiet, near, far), (far, quiet, near)):
        assert names(choose(flat_of_the_evening(), *order)) == ("matched", taken_name)


def test_a_dark_that_records_the_settings_goes_before_one_that_does_not() -> None:
    exact, unstated = (
        taken(dark(1.0, "exact"), 300.0),
        taken(dark(1.0, "open", settings=CameraSettings()), 0.1, now=True),
    )
    assert names(choose(flat_of_the_evening(), unstated, exact)) == ("matched", "exact")
    line = taken(dark(5.0, "dark"), 300.0), taken(bias(), 300.0)
    assert names(choose(flat_of_the_evening(), unstated, *line)) == ("line", "bias", "dark")
    assert names(choose(flat_of_the_evening(), unstated)) == ("matched", "open")


def test_a_dark_near_the_exposure_is_scaled_where_there_is_a_bias() -> None:
    assert names(choose(flat(1.0), dark(1.08), bias())) == ("line", "bias", "dark_1.08")
    assert names(choose(flat(1.0), dark(1.04), bias())) == ("matched", "dark_1.04")


def test_the_best_may_be_preferred_to_the_nearest() -> None:
    near = replace(taken(dark(1.0, "near"), 0.1), noise=2.0)
    best = replace(taken(dark(1.0, "best"), 90.0), noise=1.0)
    for order in ((near, best), (best, near)):
        assert names(choose(flat_of_the_evening(), *order)) == ("matched", "near")
        assert names(choose_dark(flat_of_the_evening(), order, FlatDarkRules(prefer="best"))) == ("matched", "best")


# --- bias and dark current ---


def test_bias_and_the_nearest_longer_dark_scaled_down_come_next() -> None:
    found = choose(flat(1.0), bias(), dark(0.5), dark(5.0), dark(60.0))
    assert names(found) == ("line", "bias", "dark_5")
    assert found.description == "bias + dark current: bias and dark_5 (0 s, 5 s)"


def test_without_a_longer_dark_the_longest_is_scaled_up() -> None:
    assert names(choose(flat(100.0), bias(), dark(1.0), dark(60.0))) == ("line", "bias", "dark_60")


def test_the_bias_of_this_run_and_then_the_newest_is_taken() -> None:
    old, new = on_disk(bias(name="old"), days_old=2), on_disk(bias(name="new"), days_old=1)
    assert names(choose(flat(1.0), old, new, dark(5.0)))[1] == "new"
    assert names(choose(flat(1.0), old, bias(name="now"), new, dark(5.0)))[1] == "now"


# --- two darks ---


def test_the_line_through_the_two_nearest_darks_comes_next() -> None:
    found = choose(flat(300.0), dark(1200.0), dark(240.0), dark(360.0))
    assert names(found) == ("line", "dark_240", "dark_360")
    assert found.description == "line through two darks: dark_240 and dark_360 (240 s, 360 s)"


def test_the_first_dark_of_a_line_is_the_shorter() -> None:
    assert names(choose(flat(100.0), dark(60.0), dark(5.0))) == ("line", "dark_5", "dark_60")
    assert names(choose(flat(1.0), dark(60.0), dark(5.0))) == ("line", "dark_5", "dark_60")


def test_two_darks_of_nearly_one_exposure_make_no_line() -> None:
    # From 5 and 5.02 s to 100 s their noise would be stretched 6700 times.
    assert isinstance(choose(flat(100.0), dark(5.0), dark(5.02)), NoDark)
    assert names(choose(flat(10.0), dark(5.0), dark(5.02), dark(1.0))) == ("line", "dark_1", "dark_5.02")


def test_of_two_darks_of_one_exposure_the_better_makes_the_line() -> None:
    stored = on_disk(dark(5.0, "stored"))
    assert names(choose(flat(1.0), stored, dark(5.0, "now"), dark(60.0))) == ("line", "now", "dark_60")


def test_of_many_darks_those_make_the_line_whose_noise_is_least() -> None:
    # At 100 s the line through 50 and 60 s has 6.4 times the noise of a dark, that through 1 and 60 s 1.8 times.
    assert names(choose(flat(100.0), dark(50.0), dark(60.0), dark(1.0))) == ("line", "dark_1", "dark_60")


def test_dark_current_is_scaled_up_as_far_as_for_lights() -> None:
    """Twice by default, and as far as the key says; with a bias and without one."""
    assert names(choose(flat(2.0), bias(), dark(1.0))) == ("line", "bias", "dark_1")
    alone = choose(flat(2.0), bias(), dark(0.9))
    assert names(alone) == ("bias", "bias")
    assert alone.refused == (
        "the longest dark has 0.9 s, and dark current is scaled up to 2 times its exposure (matching.max_scale_up)"
    )
    wide = FlatDarkRules(max_scale_up=10.0)
    assert names(choose_dark(flat(2.0), [bias(), dark(0.2)], wide)) == ("line", "bias", "dark_0.2")
    assert names(choose_dark(flat(2.0), [bias(), dark(0.19)], wide)) == ("bias", "bias")
    assert names(choose(flat(2.0), dark(1.0), dark(0.3))) == ("line", "dark_0.3", "dark_1")
    none = choose(flat(2.0), dark(0.9), dark(0.3))
    assert isinstance(none, NoDark)
    assert "matching.max_scale_up" in none.message
    assert names(choose_dark(flat(2.0), [dark(0.9), dark(0.3)], wide)) == ("line", "dark_0.3", "dark_0.9")


def test_a_bias_alone_is_not_blamed_on_the_limit_where_no_dark_fits() -> None:
    assert choose(flat(2.0), bias(), dark(0.9, temperature_c=20.0)).refused == ""
    assert choose(flat(2.0), bias()).refused == ""


# --- ages ---


def test_masters_within_their_age_go_before_older_ones_and_strict_refuses_these() -> None:
    old, new = taken(dark(1.0, "old"), -300.0), taken(dark(5.0, "new"), 10.0)
    biases = taken(bias(), 400.0)
    group = flat_of_the_evening()
    assert names(choose_dark(group, [old, new, biases], FlatDarkRules())) == ("matched", "old")
    limited = FlatDarkRules(max_ages=MaxAges(dark=30.0))
    assert names(choose_dark(group, [old, new, biases], limited)) == ("line", "bias", "new")
    assert names(choose_dark(group, [old], limited)) == ("matched", "old")
    refused = choose_dark(group, [old], replace(limited, strict=True))
    assert isinstance(refused, NoDark)
    assert (
        "dark 1 s (its frames were taken 300 days before the flats (limit 30): matching.max_age_days.dark with "
        "matching.strict)" in refused.message
    )
    both = FlatDarkRules(max_ages=MaxAges(bias=365.0, dark=30.0), strict=True)
    assert isinstance(choose_dark(group, [old, biases], both), NoDark)
    assert names(choose_dark(group, [old, biases], replace(both, max_ages=MaxAges(dark=30.0)))) == ("bias", "bias")


def test_a_dark_without_its_bias_fits_no_flat_that_has_it() -> None:
    plain, subtracted = flat(1.0), flat(1.0, bias_subtracted=True)
    assert names(choose(plain, dark(1.0, "with"), dark(1.0, "without", bias_subtracted=True))) == ("matched", "with")
    assert names(choose(subtracted, dark(1.0, "with"), dark(1.0, "without", bias_subtracted=True))) == (
        "matched",
        "without",
    )
    assert isinstance(choose(subtracted, dark(1.0, "with")), NoDark)


# --- bias alone, and nothing ---


def test_the_bias_alone_comes_last() -> None:
    found = choose(flat(1.0), bias(), dark(5.0, settings=replace(SETTINGS, gain=0.0)))
    assert names(found) == ("bias", "bias")
    assert found.description == "bias alone, no dark current: bias"


@pytest.mark.parametrize("tolerance_c", [0.0, 20.0])
def test_a_bias_of_any_temperature_is_better_than_none(tolerance_c: float) -> None:
    far, near = bias(name="far", temperature_c=25.0), bias(name="near", temperature_c=2.0)
    rules = FlatDarkRules(bias_temperature_tolerance_c=tolerance_c)
    assert names(choose_dark(flat(1.0), [far, near], rules)) == ("bias", "near")
    assert names(choose_dark(flat(1.0), [far], rules)) == ("bias", "far")
    other = bias(name="other", temperature_c=-10.0, settings=replace(SETTINGS, gain=0.0))
    assert names(choose_dark(flat(1.0), [far, other], rules)) == ("bias", "far")


def test_a_bias_of_the_temperature_goes_before_a_newer_one_of_another() -> None:
    old = on_disk(bias(name="old"), days_old=30)
    rules = FlatDarkRules(bias_temperature_tolerance_c=20.0)
    assert names(choose_dark(flat(1.0), [old, bias(name="warm", temperature_c=5.0)], rules)) == ("bias", "old")


@pytest.mark.parametrize("flat_c", [None, -10.0])
def test_the_bias_that_scales_a_dark_is_of_the_dark(flat_c: float | None) -> None:
    """Whatever the flat leaves open: a newer bias of another temperature or gain has another level."""
    rules = FlatDarkRules(bias_temperature_tolerance_c=20.0)
    old, warm = on_disk(bias(name="old"), days_old=30), bias(name="warm", temperature_c=5.0)
    found = choose_dark(flat(1.0, temperature_c=flat_c), [old, warm, dark(5.0)], rules)
    assert names(found) == ("line", "old", "dark_5")
    settings = replace(SETTINGS, gain=None)
    unsaid = bias(name="unsaid", settings=settings)
    found = choose_dark(flat(1.0, temperature_c=flat_c, settings=settings), [old, unsaid, dark(5.0)], rules)
    assert names(found) == ("line", "old", "dark_5")


def test_bias_and_dark_current_may_be_of_temperatures_that_a_bias_does_not_feel() -> None:
    rules = FlatDarkRules(bias_temperature_tolerance_c=20.0)
    found = choose_dark(flat(1.0), [bias(temperature_c=5.0), dark(5.0)], rules)
    assert names(found) == ("line", "bias", "dark_5")


def test_one_dark_of_another_exposure_is_no_dark() -> None:
    found = choose(flat(1.0), dark(5.0))
    assert isinstance(found, NoDark)
    assert found.message == (
        "no dark for the flat of 1 s: there are: dark 5 s (its exposure alone is not enough); "
        "take darks of 1 s or a bias"
    )


def test_the_message_lists_all_exposures_with_their_reasons() -> None:
    found = choose(
        flat(1.0, 2.0, 4.0),
        dark(60.0, settings=replace(SETTINGS, gain=200.0)),
        bias(0.001, settings=replace(SETTINGS, binning=(1, 2))),
        dark(5.0, temperature_c=0.0),
        dark(2.0, width=65),
    )
    assert isinstance(found, NoDark)
    assert found.message == (
        "no dark for the flat of 1 to 4 s: there are: "
        "bias 0.001 s (binning 1x2 against 1x1); dark 2 s (size 65 x 48 against 64 x 48); "
        "dark 5 s (temperature 0 C against -10 C); dark 60 s (gain 200.0 against 100.0); "
        "take darks of 2 s or a bias"
    )


def test_without_any_candidate_the_message_says_so() -> None:
    found = choose(flat(1.0))
    assert isinstance(found, NoDark)
    assert "there are no darks and no bias at all" in found.message


# --- what fits ---

UNFIT: dict[str, dict[str, Any]] = {
    "size": {"width": 65},
    "gain": {"settings": replace(SETTINGS, gain=101.0)},
    "offset": {"settings": replace(SETTINGS, offset=31.0)},
    "binning": {"settings": replace(SETTINGS, binning=(2, 2))},
    "readout mode": {"settings": replace(SETTINGS, readout_mode="High Gain")},
    "camera": {"settings": replace(SETTINGS, camera="Other")},
    "temperature": {"temperature_c": -12.5},
}


@pytest.mark.parametrize("word", UNFIT)
def test_a_dark_of_other_settings_does_not_fit(word: str) -> None:
    other = key(FrameType.DARK, 1.0, **UNFIT[word])
    assert why_unfit(key(FrameType.FLAT, 1.0), other, 2.0).startswith(word)
    assert isinstance(choose(flat(1.0), dark(1.0, **UNFIT[word])), NoDark)


@pytest.mark.parametrize(
    "settings", [CameraSettings(), CameraSettings(gain=100.0), replace(SETTINGS, readout_mode=None, offset=None)]
)
def test_what_is_not_recorded_fits_anything(settings: CameraSettings) -> None:
    assert names(choose(flat(1.0), dark(1.0, settings=settings))) == ("matched", "dark_1")
    assert names(choose(flat(1.0, settings=settings), dark(1.0))) == ("matched", "dark_1")


def test_a_temperature_that_is_not_recorded_fits_any() -> None:
    assert names(choose(flat(1.0), dark(1.0, temperature_c=None))) == ("matched", "dark_1")
    assert names(choose(flat(1.0, temperature_c=None), dark(1.0))) == ("matched", "dark_1")


def test_binning_always_counts() -> None:
    assert settings_differ(CameraSettings(), CameraSettings(binning=(1, 2))) == "binning 1x1 against 1x2"


@pytest.mark.parametrize(("flat_c", "dark_c"), [(-10.0, -12.0), (-10.0, -8.0), (-33.7, -31.7), (20.3, 22.3)])
def test_the_temperature_tolerance_is_inclusive(flat_c: float, dark_c: float) -> None:
    assert names(choose(flat(1.0, temperature_c=flat_c), dark(1.0, temperature_c=dark_c)))[0] == "matched"
    assert isinstance(choose(flat(1.0, temperature_c=flat_c), dark(1.0, temperature_c=dark_c), tolerance_c=1.9), NoDark)


def test_bias_and_dark_of_different_gain_are_no_pair_for_a_flat_that_records_none() -> None:
    unknown = flat(1.0, settings=replace(SETTINGS, gain=None))
    low, high = replace(SETTINGS, gain=0.0), replace(SETTINGS, gain=300.0)
    assert names(choose(unknown, bias(settings=low), dark(5.0, settings=high))) == ("bias", "bias")
    pair = choose(unknown, bias(settings=low), dark(5.0, settings=high), dark(60.0, settings=low))
    assert names(pair) == ("line", "bias", "dark_60")


def test_two_darks_of_different_temperature_are_no_pair_for_a_flat_that_records_none() -> None:
    unknown = flat(1.0, temperature_c=None)
    assert isinstance(choose(unknown, dark(5.0, temperature_c=-20.0), dark(60.0, temperature_c=0.0)), NoDark)


# --- properties ---

candidates = st.lists(
    st.builds(
        DarkCandidate,
        name=st.uuids().map(str),
        key=st.builds(
            key,
            st.sampled_from([FrameType.DARK, FrameType.DARK, FrameType.BIAS]),
            st.sampled_from([0.001, 0.5, 0.95, 1.0, 1.05, 1.2, 5.0, 60.0]),
            temperature_c=st.sampled_from([-10.0, -9.0, None, 5.0]),
        ),
        made_at=st.none() | st.sampled_from([MONDAY, MONDAY - timedelta(days=3)]),
        from_this_run=st.booleans(),
    ),
    max_size=7,
)


@given(candidates, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(found: list[DarkCandidate], random: Random) -> None:
    shuffled = random.sample(found, len(found))
    assert choose(flat(1.0), *shuffled) == choose(flat(1.0), *found)


@given(candidates)
def test_each_kind_of_dark_is_chosen_only_where_no_better_kind_is_there(found: list[DarkCandidate]) -> None:
    choice = choose(flat(1.0), *found)
    for temperatures_c in ((-10.0, -9.0), (-10.0, -9.0, None)):  # what records a temperature goes before what does not
        fitting = [c for c in found if c.key.temperature_c in temperatures_c]
        near = [c for c in fitting if abs(c.key.exposure_time_s - 1.0) <= 0.1]
        if near:
            assert choice.kind == "matched"
            nearest = min(abs(c.key.exposure_time_s - 1.0) for c in near)
            assert abs(choice.first.key.exposure_time_s - 1.0) == nearest
            return
        darks = {c.key.exposure_time_s for c in fitting if c.key.frame_type is FrameType.DARK}
        biases = [c for c in fitting if c.key.frame_type is FrameType.BIAS]
        if any(b.key.exposure_time_s < t for b in biases for t in darks) or len(darks) > 1:
            assert choice.kind == "line"
            assert choice.first.key.exposure_time_s < choice.second.key.exposure_time_s
            return
    has_bias = any(c.key.frame_type is FrameType.BIAS for c in found)
    assert choice.kind == "bias" if has_bias else isinstance(choice, NoDark)
