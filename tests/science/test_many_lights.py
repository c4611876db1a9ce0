"""Many lights at once are covered by what each of them alone would be calibrated with, whatever the library is like."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ostcal.errors import InputError
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.light_headers import Light, LightImage
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import FitsPlane, LibraryMaster
from ostcal.library.in_time import Merit, Timeline, TimeRules
from ostcal.science.choose_masters import CalibrationOptions, FrameMatcher
from ostcal.science.cover import Cover, CoverageRules
from ostcal.science.coverage import light_coverage
from ostcal.science.match import MatchRules, MaxAges, science_key
from ostcal.science.match_distance import distances_of

NOON_UTC_S = 11.0 * 3600
START = datetime(2026, 3, 1, 20, tzinfo=UTC)
PLANE = FitsPlane(fits=FitsPixels(width=8, height=6, bitpix=16, path="nowhere", data_offset=0))
KIND_RULES: list[dict[str, Any]] = [
    {},
    {"max_ages": MaxAges(bias=5, dark=20, flat=10)},
    {"max_ages": MaxAges(dark=20, flat=10), "strict": True},
    {"prefer": "best"},
    {"max_ages": MaxAges(bias=40, flat=3), "prefer": "best"},
    {"max_ages": MaxAges(bias=2, dark=3, flat=2), "strict": True},
    {"now": START},
    {"now": START + timedelta(days=20), "max_ages": MaxAges(bias=5, dark=20, flat=10)},
]


class Sky:
    """Draws masters and lights: sessions that overlap, ties, clocks that are wrong, settings that are not recorded."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sessions = [self._session() for _ in range(12)]

    def _session(self) -> Observed:
        first = START + timedelta(days=self.rng.randrange(-40, 40), hours=self.rng.randrange(-6, 12))
        span_h = self.rng.choice([0, 1, 1, 8, 200, 24 * 400 if self.rng.random() < 0.1 else 2])
        middle = first + timedelta(hours=span_h * self.rng.choice([0.0, 0.5, 0.5, 1.0]))
        return Observed(first=first, last=first + timedelta(hours=span_h), middle=middle)

    def settings(self) -> CameraSettings:
        pick = self.rng.choice
        return CameraSettings(
            camera=pick(["Cam", "Cam", None]),
            gain=pick([100.0, 100.0, 100.0, 0.0, None]),
            offset=pick([30.0, 30.0, 30.0, None]),
            readout_mode=pick(["Fast", "Slow", None, None]),
        )

    def key(self, kind: FrameType) -> GroupKey:
        pick = self.rng.choice
        exposures = {
            FrameType.BIAS: [0.0, 0.001],
            FrameType.DARK: [30.0, 60.0, 60.04, 65.0, 120.0, 300.0],
            FrameType.FLAT: [2.0],
            FrameType.LIGHT: [30.0, 60.0, 62.0, 65.9, 90.0, 300.0, 900.0],
        }[kind]
        has_path = kind in (FrameType.FLAT, FrameType.LIGHT)
        return GroupKey(
            frame_type=kind,
            settings=self.settings(),
            width=8,
            height=6,
            exposure_time_s=pick(exposures),
            filter_name=pick(["L", "R", "r", "Ha", "H-alpha", None]) if has_path else None,
            optics=Optics(
                telescope=pick(["Esprit 100", "ESPRIT-100", None]),
                rotator_deg=pick([0.2, 359.8, 90.0, 180.0, None, None]),
            )
            if has_path
            else Optics(),
            temperature_c=pick([-10.0, -10.0, -9.7, -11.5, -20.0, 15.0, None]),
            bayer_pattern=pick(["RGGB", None, None, None]),
            bias_subtracted=kind is not FrameType.BIAS and self.rng.random() < 0.08,
        )

    def master(self, number: int) -> LibraryMaster:
        kind = self.rng.choice([FrameType.BIAS, FrameType.DARK, FrameType.DARK, FrameType.FLAT, FrameType.FLAT])
        observed = self.rng.choice([*self.sessions, None])
        shift = timedelta(seconds=self.rng.choice([0, 0, 0, 1, 3600]))
        if observed is not None:
            first, last, middle = observed.first + shift, observed.last + shift, observed.middle + shift
            observed = Observed(first=first, last=last, middle=middle)
        stated: dict[str, Any] = {}
        if observed is not None and self.rng.random() < 0.5:
            stated = {"noon_utc_s": NOON_UTC_S}
            if self.rng.random() < 0.5:
                stated["night"] = (observed.last - timedelta(seconds=NOON_UTC_S)).date()
        elif self.rng.random() < 0.2:
            stated = {"night": date(2026, 3, self.rng.randrange(1, 28)), "noon_utc_s": NOON_UTC_S}
        record = MasterRecord(
            name=f"{kind}_{self.rng.randrange(10**6):06d}_{number}",
            key=replace(self.key(kind), **stated),
            made_at=START + timedelta(days=self.rng.randrange(100)),
            calibration_id="",
            verdict=self.rng.choice([None, "pass", "pass", "warn", "fail"]),
            noise=self.rng.choice([None, 1.0, 1.1, 1.5]),
            has_two_levels=self.rng.random() < 0.05,
            observed=observed,
        )
        return LibraryMaster(record=record, plane=PLANE)

    def light(self) -> FrameMetadata:
        key = self.key(FrameType.LIGHT)
        session = self.rng.choice(self.sessions)
        near = session.middle + timedelta(hours=self.rng.choice([0, 1, 5, 12, 24, -24, 60, -60]))
        between = session.middle + (self.rng.choice(self.sessions).middle - session.middle) / 2
        return FrameMetadata(
            frame_type=FrameType.LIGHT,
            exposure_time_s=self.rng.choice([key.exposure_time_s] * 9 + [None]),
            width=8,
            height=6,
            settings=key.settings,
            filter_name=key.filter_name,
            optics=key.optics,
            set_temperature_c=key.temperature_c,
            date_obs=self.rng.choice([near, near, near, between, between, None]),
            bayer_pattern=key.bayer_pattern,
            bias_subtracted=key.bias_subtracted,
        )


def told(metadata: FrameMetadata, matcher: FrameMatcher) -> tuple[Any, ...]:
    """Return what a light is calibrated with: masters, what is done with them, what is said."""
    try:
        matched = matcher.match_metadata(metadata)
    except InputError as error:
        return "refused", str(error)
    names = tuple(master.record.name for master in matched.used)
    weights = tuple(part.weight for part in matched.dark.parts) if matched.dark is not None else ()
    return names, weights, matched.bias and matched.bias.record.name, matched.warnings, matched.notes


def matcher_without(which: str, library: Sequence[LibraryMaster], rules: MatchRules) -> FrameMatcher:
    return FrameMatcher("nowhere", CalibrationOptions(**{which: "none"}), rules, library)


def coverage_matcher(rules: MatchRules) -> Callable[[FrameType, Sequence[LibraryMaster]], FrameMatcher]:
    return lambda kind, masters: matcher_without("dark" if kind is FrameType.FLAT else "flat", masters, rules)


@pytest.mark.parametrize("seed", range(32))
def test_a_matcher_of_many_lights_chooses_as_one_of_each(seed: int) -> None:
    """Masters, weights, the bias and all that is said; the lights come in any order, and again."""
    sky = Sky(seed)
    library = [sky.master(number) for number in range(70)]
    rules = MatchRules(**KIND_RULES[seed % len(KIND_RULES)])
    lights = [sky.light() for _ in range(60)]
    for which in ("dark", "flat"):
        of_many = matcher_without(which, library, rules)
        for light in [*lights, *lights[:10]]:
            assert told(light, of_many) == told(light, matcher_without(which, library, rules))


@pytest.mark.parametrize("seed", range(18))
def test_masters_that_do_not_fit_decide_nothing(seed: int) -> None:
    """Whatever else is in the library: sessions of other cameras do not say which of two darks is the better one."""
    sky = Sky(500 + seed)
    library = [sky.master(number) for number in range(40)]
    others = [sky.master(100 + number) for number in range(40)]
    of_other_size = [replace(m, record=replace(m.record, key=replace(m.key, width=16, height=12))) for m in others]
    rules = MatchRules(**KIND_RULES[seed % len(KIND_RULES)])
    both = [*library, *of_other_size]
    sky.rng.shuffle(both)
    for which in ("dark", "flat"):
        few, many = matcher_without(which, library, rules), matcher_without(which, both, rules)
        for light in [sky.light() for _ in range(40)]:
            alone, among_others = told(light, few), told(light, many)
            assert alone == among_others or (alone[0], among_others[0]) == ("refused", "refused")


@pytest.mark.parametrize("seed", range(18))
def test_each_light_is_covered_by_what_it_alone_would_take(seed: int) -> None:
    sky = Sky(1000 + seed)
    library = [sky.master(number) for number in range(60)]
    rules = MatchRules(**KIND_RULES[seed % len(KIND_RULES)])
    lights = [Light(path=f"{number:03d}.fits", images=(LightImage(metadata=sky.light()),)) for number in range(80)]
    expected: Counter[tuple[Any, ...]] = Counter()
    for light in lights:
        expected[_taken_alone(light, library, rules)[1:]] += 1
    found: Counter[tuple[Any, ...]] = Counter()
    for group in light_coverage(lights, library, coverage_matcher(rules), CoverageRules()):
        own = [tuple(master.name for master in cover.masters) or "refused" for cover in (group.dark, group.flat)]
        found[tuple(own)] += group.lights
    assert found == expected


def _taken_alone(light: Light, library: Sequence[LibraryMaster], rules: MatchRules) -> tuple[Any, ...]:
    """Return the names of the bias, the darks and the flat of a light, of matchers of its own."""
    metadata = light.images[0].metadata
    dark, flat = (told(metadata, matcher_without(which, library, rules))[0] for which in ("flat", "dark"))
    bias = FrameMatcher("nowhere", CalibrationOptions(), rules, library).match_bias(metadata)
    return bias and bias.record.name, dark, flat


@pytest.mark.parametrize("seed", range(6))
def test_the_age_of_a_group_is_that_of_its_own_farthest_light(seed: int) -> None:
    sky = Sky(2000 + seed)
    library = [sky.master(number) for number in range(40)]
    rules, by_name = MatchRules(), {master.record.name: master for master in library}
    metadata = replace(sky.light(), exposure_time_s=60.0)
    key = science_key(metadata)
    times = [START + timedelta(minutes=7 * number) for number in range(40)]
    lights = [
        Light(path=f"{number:03d}.fits", images=(LightImage(metadata=replace(metadata, date_obs=at)),))
        for number, at in enumerate(times)
    ]
    times_of: defaultdict[tuple[Any, ...], list[datetime]] = defaultdict(list)
    for light, at in zip(lights, times, strict=True):
        times_of[_taken_alone(light, library, rules)].append(at)
    groups = light_coverage(lights, library, coverage_matcher(rules), CoverageRules())
    assert sum(group.lights for group in groups) == len(lights)
    for group in groups:
        bias, dark, flat = (tuple(m.name for m in cover.masters) for cover in group.covers.values())
        same = [
            some
            for (b, d, f), some in times_of.items()
            if (d, f) == (dark or "refused", flat or "refused")
            and (group.bias.state is Cover.NOT_NEEDED or bias == ((b,) if b else ()))
        ]
        own = [at for some in same for at in some]
        assert len(own) == group.lights
        for taken in (master for cover in group.covers.values() for master in cover.masters):
            observed = by_name[taken.name].record.observed
            ages = [round(observed.age_days(at), 3) if observed is not None else None for at in own]
            assert taken.age_days == max(ages, key=lambda age: abs(age or 0.0))
            assert taken.distances == distances_of(key, by_name[taken.name].key)


# --- the order in time ---


def slowly_first(merits: Sequence[Merit], at: datetime | None, rules: TimeRules, among: Sequence[int]) -> set[str]:
    """Return the names of the masters of the session of the nearest, by comparing all."""
    apart = {i: (*merits[i].distance(at, rules), merits[i].name) for i in among}
    nearest = merits[min(among, key=apart.__getitem__)]
    return {merits[i].name for i in among if rules.prefer == "best" or merits[i].is_of_session(nearest)}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("by_night", [False, True])
def test_the_first_in_time_is_of_the_session_of_the_nearest(seed: int, by_night: bool) -> None:
    """A few are looked at by their places in time; comparing all of them finds no other one."""
    sky = Sky(3000 + seed)
    merits = [sky.master(number).record.merit for number in range(60)]
    now = START + timedelta(days=5) if seed % 3 == 2 else None
    rules = TimeRules(prefer="best" if seed % 4 == 3 else "nearest", by_night=by_night, now=now)
    timeline = Timeline(merits, rules)
    everything = list(range(len(merits)))
    for _ in range(60):
        at = sky.light().date_obs
        first = timeline.first(at)
        assert merits[first].name in slowly_first(merits, at, rules, everything)
        order = timeline.order(at)
        assert sorted(order) == everything
        assert order[0] == first
        some = sorted(sky.rng.sample(everything, 12))
        assert merits[timeline.first(at, some)].name in slowly_first(merits, at, rules, some)
        alone_first = Timeline([merits[i] for i in some], rules).first(at)
        assert some[alone_first] == timeline.first(at, some)
