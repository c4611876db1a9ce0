"""What lights lack: each is covered by what calibrating would take, and the frames to take mend what is missing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.library.index import LIGHTS_INDEX, MASTERS_INDEX
from ostcal.science.cover import Cover, LightGroup
from ostcal.science.coverage_api import Coverage, coverage_of
from support.fits_samples import frame_values, write_frame

VALUES = frame_values((8, 8))
EVENING = datetime(2026, 3, 10, 20, tzinfo=UTC)
SETTINGS = {"INSTRUME": "Synthetic", "GAIN": 100, "OFFSET": 30, "SET_TEMP": -10.0, "CCD_TEMP": -10.0}


class Observatory:
    """A folder of lights and one of masters of another program."""

    def __init__(self, root: Path) -> None:
        self.lights = root / "lights"
        self.masters = root / "masters"
        self.masters.mkdir(parents=True)

    @property
    def config(self) -> dict[str, Any]:
        return {"master_frames": {"output_dir": str(self.masters)}}

    def light(self, name: str = "m31", when: datetime | None = EVENING, **cards: Any) -> Path:
        self.lights.mkdir(exist_ok=True)
        return self._write(self.lights / f"{name}.fits", "Light Frame", when, {"EXPTIME": 60.0, "FILTER": "L"} | cards)

    def master(self, kind: str, name: str, when: datetime | None = EVENING, **cards: Any) -> Path:
        built = {"DATE": "2026-05-01T12:00:00", "STACKCNT": 40}
        return self._write(self.masters / f"{name}.fits", f"Master {kind}", when, built | cards)

    def all_masters(self) -> None:
        self.master("Bias", "bias", EXPTIME=0.001)
        self.master("Dark", "dark60", EXPTIME=60.0)
        self.master("Flat", "flatL", EXPTIME=2.0, FILTER="L")

    def coverage(self, **sections: Any) -> Coverage:
        return coverage_of(self.config | sections, [self.lights])

    def group(self, **sections: Any) -> LightGroup:
        (group,) = self.coverage(**sections).groups
        return group

    @staticmethod
    def _write(path: Path, kind: str, when: datetime | None, cards: dict[str, Any]) -> Path:
        every = {"IMAGETYP": kind, "DATE_OBS": when and when.strftime("%Y-%m-%dT%H:%M:%S"), **SETTINGS, **cards}
        return write_frame(path, VALUES, **{name: value for name, value in every.items() if value is not None})


@pytest.fixture
def place(tmp_path: Path) -> Observatory:
    return Observatory(tmp_path)


def names(group: LightGroup) -> dict[str, tuple[str, ...]]:
    return {str(kind): tuple(master.name for master in cover.masters) for kind, cover in group.covers.items()}


def test_covered_lights_lack_nothing(place: Observatory) -> None:
    place.all_masters()
    for number in range(3):
        place.light(f"m31_{number}", EVENING + timedelta(minutes=number))
    coverage = place.coverage()
    (group,) = coverage.groups
    assert names(group) == {"bias": ("bias",), "dark": ("dark60",), "flat": ("flatL",)}
    assert {cover.state for cover in group.covers.values()} == {Cover.COVERED}
    assert (group.lights, str(group.night), group.filter, group.gain) == (3, "2026-03-10", "L", 100)
    assert coverage.is_covered
    assert coverage.frames_to_take == ()
    assert coverage.errors == ()


def test_without_masters_all_is_missing_and_listed(place: Observatory) -> None:
    place.light("r1", FILTER="R", EXPTIME=300.0)
    place.light("r2", EVENING + timedelta(days=1), FILTER="R", EXPTIME=300.0)
    place.light("l1", FILTER="L", EXPTIME=300.0)
    coverage = place.coverage(dark_capture={"num_darks": 30}, flat_capture={"num_flats": 25})
    assert all(cover.state is Cover.MISSING for group in coverage.groups for cover in group.covers.values())
    assert all("no master dark fits (300 s)" in group.dark.reason for group in coverage.groups)
    listed = [(str(s.kind), s.exposure_time_s, s.filter, s.frames, s.lights) for s in coverage.frames_to_take]
    assert listed == [
        ("bias", 0.001, None, 30, 3),
        ("dark", 300.0, None, 30, 3),
        ("flat", None, "L", 25, 1),
        ("flat", None, "R", 25, 2),
    ]
    dark = coverage.frames_to_take[1]
    assert 30 * 300 < dark.time_s < 30 * 301
    assert dark.n_bytes <= 30 * 2 * 64
    assert coverage.time_s == pytest.approx(sum(series.time_s for series in coverage.frames_to_take))
    plan = coverage.as_plan()["series"]
    settings = {"gain": 100, "offset": 30, "binning": [1, 1], "temperature": -10}
    assert plan[1] == {"kind": "dark", "exposure": 300, "count": 30, **settings}
    assert plan[3] == {"kind": "flat", "exposure": None, "count": 25, "filter": "R", **settings}


def test_distances_and_ages(place: Observatory) -> None:
    place.all_masters()
    place.light("m31", EVENING, CCD_TEMP=-9.0, SET_TEMP=-9.0, READOUTM="Fast")
    group = place.group()
    dark, flat = group.dark.masters[0].distances, group.flat.masters[0].distances
    assert (dark.temperature_c, dark.exposure_time_s, dark.gain, dark.offset) == (-1.0, 0.0, 0.0, 0.0)
    assert dark.unrecorded == ("readout mode",)
    assert (flat.temperature_c, flat.exposure_time_s, flat.gain) == (None, None, 0.0)


def test_rotation_counts_for_flats_alone(place: Observatory) -> None:
    place.all_masters()
    place.master("Flat", "flat_turned", EXPTIME=2.0, FILTER="L", ROTATANG=359.8)
    place.light("a", ROTATANG=0.3)
    place.light("b", ROTATANG=180.3)
    place.light("c", ROTATANG=180.1)
    (place.masters / "flatL.fits").unlink()
    coverage = place.coverage()
    near, turned = sorted(coverage.groups, key=lambda group: group.lights)
    assert names(near)["flat"] == ("flat_turned",)
    assert near.flat.masters[0].distances.rotation_deg == pytest.approx(-0.5)
    assert (turned.lights, turned.flat.state) == (2, Cover.MISSING)
    assert "against 180" in turned.flat.reason
    dark, flats = coverage.frames_to_take
    assert (str(flats.kind), flats.lights) == ("flat", 2)
    assert (str(dark.kind), dark.exposure_time_s) == ("dark", 2.0)  # of these flats
    assert flats.rotation_deg == pytest.approx(180.2, abs=0.11)
    assert flats.as_plan()["rotation"] == flats.rotation_deg


def test_ages_are_of_the_frames_and_limits_are_those_of_matching(place: Observatory) -> None:
    """The masters were all built on 1 May; their frames are 10 days before, 40 days before and 5 days after."""
    place.master("Bias", "bias", EVENING - timedelta(days=10), EXPTIME=0.001)
    place.master("Dark", "dark60", EVENING - timedelta(days=40), EXPTIME=60.0)
    place.master("Flat", "flatL", EVENING + timedelta(days=5), EXPTIME=2.0, FILTER="L")
    place.light()
    group = place.group()
    ages = {str(kind): cover.masters[0].age_days for kind, cover in group.covers.items()}
    assert ages == {"bias": 10.0, "dark": 40.0, "flat": -5.0}
    assert {cover.state for cover in group.covers.values()} == {Cover.COVERED}
    limits = {"bias": 30, "dark": 30, "flat": 4}
    coverage = place.coverage(matching={"max_age_days": limits})
    (group,) = coverage.groups
    assert [str(group.covers[kind].state) for kind in group.covers] == ["covered", "aged", "aged"]
    assert "40 days before the frame (limit 30)" in group.dark.reason
    assert "5 days after the frame (limit 4)" in group.flat.reason
    taken = [(str(s.kind), s.exposure_time_s, s.why) for s in coverage.frames_to_take]
    assert taken == [("dark", 2.0, "missing"), ("dark", 60.0, "aged"), ("flat", None, "aged")]
    strict = place.group(matching={"max_age_days": limits, "strict": True})
    assert (strict.dark.state, strict.flat.state) == (Cover.MISSING, Cover.MISSING)


def listed_darks(coverage: Coverage) -> list[tuple[float | None, float | None, int]]:
    darks = [series for series in coverage.frames_to_take if series.kind is FrameType.DARK]
    return [(dark.exposure_time_s, dark.temperature_c, dark.lights) for dark in darks]


@pytest.mark.parametrize(("cards", "lacks"), [
    ({"EXPTIME": 2.04}, False),
    ({"EXPTIME": 2.06}, True),
    ({"GAIN": 0}, True),
    ({"OFFSET": 31}, True),
    ({"SET_TEMP": 0.0, "CCD_TEMP": 0.0}, True),
    ({"SET_TEMP": -9.5, "CCD_TEMP": -9.5}, False),
    ({"XBINNING": 2, "YBINNING": 2}, True),
    ({"IMAGETYP": "Master Flat", "FILTER": "R"}, True),
])  # fmt: skip
def test_a_dark_of_the_flats_is_listed_where_none_is_there(
    place: Observatory, cards: dict[str, Any], lacks: bool
) -> None:
    place.master("Bias", "bias", EXPTIME=0.001)
    place.master("Dark", "dark60", EXPTIME=60.0)
    place.master("Dark", "dark2", **{"EXPTIME": 2.0} | cards)
    place.light(ROTATANG=90.0)
    place.master("Flat", "flatL", EXPTIME=2.0, FILTER="L", ROTATANG=0.0)  # of another angle: new flats are to be taken
    coverage = place.coverage()
    assert [str(series.kind) for series in coverage.frames_to_take if series.filter == "L"] == ["flat"]
    assert listed_darks(coverage) == ([(2.0, -10.0, 1)] if lacks else [])


def test_darks_of_flats_have_the_exposure_of_the_configuration(place: Observatory) -> None:
    place.master("Bias", "bias", EXPTIME=0.001)
    place.master("Dark", "dark60", EXPTIME=60.0)
    for name in ("L", "R"):
        place.light(name, FILTER=name)
    assert listed_darks(place.coverage()) == []  # nobody knows the exposure of the flats yet
    coverage = place.coverage(dark_capture={"flat_exposure_time": 3.0})
    assert [(str(s.kind), s.filter) for s in coverage.frames_to_take] == [("dark", None), ("flat", "L"), ("flat", "R")]
    assert listed_darks(coverage) == [(3.0, -10.0, 1)]  # one serves both
    assert coverage.as_plan()["series"][0]["exposure"] == 3
    assert listed_darks(place.coverage(dark_capture={"flat_exposure_time": 0.001})) == []  # that is a bias
    none = {"master_frames": {**place.config["master_frames"], "calibration": {"flat": "none"}}}
    assert listed_darks(place.coverage(dark_capture={"flat_exposure_time": 3.0}, **none)) == []


def test_the_dark_of_a_light_serves_flats_of_its_exposure(place: Observatory) -> None:
    place.light()
    coverage = place.coverage(dark_capture={"flat_exposure_time": 60.0})
    assert listed_darks(coverage) == [(60.0, -10.0, 1)]


def test_a_scaled_dark_is_no_missing_one(place: Observatory) -> None:
    place.all_masters()
    place.light(EXPTIME=45.0)
    group = place.group()
    assert group.dark.state is Cover.SCALED
    assert names(group)["dark"] == ("bias", "dark60")
    assert "no dark of 45 s" in group.dark.warnings[0]
    assert place.coverage().frames_to_take == ()


def test_an_unscaled_dark_is_to_be_taken(place: Observatory) -> None:
    place.all_masters()
    (place.masters / "bias.fits").unlink()
    place.light(EXPTIME=63.0)
    coverage = place.coverage()
    (group,) = coverage.groups
    assert group.dark.state is Cover.UNSCALED
    assert "no bias fits to scale it" in group.dark.reason
    assert [(str(s.kind), s.exposure_time_s, s.why) for s in coverage.frames_to_take] == [
        ("bias", 0.001, "missing"),
        ("dark", 63.0, "unscaled"),
    ]


def test_a_bias_alone_is_no_dark(place: Observatory) -> None:
    place.master("Bias", "bias", EXPTIME=0.001)
    place.master("Flat", "flatL", EXPTIME=2.0, FILTER="L")
    place.light()
    coverage = place.coverage()
    (group,) = coverage.groups
    assert group.dark.state is Cover.MISSING
    assert group.dark.reason
    assert [str(series.kind) for series in coverage.frames_to_take] == ["dark"]


def test_a_bias_is_not_needed_beside_a_dark(place: Observatory) -> None:
    place.all_masters()
    (place.masters / "bias.fits").unlink()
    place.light()
    coverage = place.coverage()
    assert coverage.groups[0].bias.state is Cover.NOT_NEEDED
    assert coverage.is_covered


def test_darks_may_be_left_out(place: Observatory) -> None:
    place.all_masters()
    place.light()
    config = {"master_frames": {"output_dir": str(place.masters), "calibration": {"light": "none"}}}
    (group,) = coverage_of(config, [place.lights]).groups
    assert (group.dark.state, group.bias.state) == (Cover.LEFT_OUT, Cover.LEFT_OUT)
    assert group.flat.state is Cover.COVERED


def test_lights_of_one_set_point_are_one_group_and_uncooled_ones_one_a_degree(place: Observatory) -> None:
    place.all_masters()
    for number in range(5):
        place.light(f"c{number}", EVENING + timedelta(minutes=number), CCD_TEMP=-10.0 + 0.1 * number)
        place.light(f"u{number}", EVENING + timedelta(minutes=number), SET_TEMP=None, CCD_TEMP=20.1 + 0.1 * number)
    groups = place.coverage().groups
    assert sorted((round(group.temperature_c or 0), group.lights) for group in groups) == [(-10, 5), (20, 5)]


def _hostile(place: Observatory, seed: int) -> None:
    """Write a library in which settings, dates and temperatures are recorded here and there only."""
    rng = random.Random(seed)

    def cards(**known: Any) -> dict[str, Any]:
        own = {
            "GAIN": rng.choice([100, 100, 100, 0, None]),
            "OFFSET": rng.choice([30, 30, 30, 50, None]),
            "READOUTM": rng.choice(["Fast", "Slow", None]),
            "SET_TEMP": None,
            "CCD_TEMP": rng.choice([-10.0, -10.0, -9.7, -11.5, -20.0, 15.0, None]),
        }
        return own | known

    def when() -> datetime | None:
        return EVENING + timedelta(days=rng.randrange(-60, 60), hours=rng.randrange(12)) if rng.random() < 0.9 else None

    for number in range(50):
        kind = rng.choice(["Bias", "Dark", "Dark", "Flat", "Flat"])
        exposure_s = {"Bias": 0.001, "Dark": rng.choice([30.0, 60.0, 60.04, 66.0, 300.0]), "Flat": 2.0}[kind]
        own = {"FILTER": rng.choice(["L", "R", "r", "Ha", None])} if kind == "Flat" else {}
        place.master(kind, f"master_{number}", when(), **cards(EXPTIME=exposure_s, **own))
    for number in range(60):
        exposure_s = rng.choice([30.0, 60.0, 65.9, 120.0, 300.0, None])
        own = {"EXPTIME": exposure_s, "FILTER": rng.choice(["L", "R", "H-alpha", None])}
        place.light(f"light_{number}", when(), **cards(**own))


@pytest.mark.parametrize("seed", range(4))
def test_each_light_is_covered_by_what_calibrating_would_take(place: Observatory, seed: int) -> None:
    """Lights one by one, with all masters, against groups of lights and parts of the library."""
    _hostile(place, seed)
    matching: dict[str, Any] = [
        {},
        {"max_age_days": {"dark": 20, "flat": 10, "bias": 5}},
        {"max_age_days": {"dark": 20, "flat": 10}, "strict": True},
        {"prefer": "best"},
    ][seed]
    coverage = place.coverage(matching=matching)
    applier = CalibrationApplier(place.config | {"matching": matching})
    assert sum(group.lights for group in coverage.groups) == 60
    expected: dict[tuple[Any, ...], int] = {}
    for path in sorted(place.lights.iterdir()):
        taken: list[Any] = []
        for options in ({"flat": "none"}, {"dark": "none"}):
            try:
                matched = applier.find_masters(path, **options)
            except InputError:
                taken.append("refused")
                continue
            masters = (
                tuple(part.master.record.name for part in matched.dark.parts)
                if matched.dark is not None
                else tuple(filter(None, [matched.flat and matched.flat.record.name]))
            )
            taken.append(masters)
        expected[tuple(taken)] = expected.get(tuple(taken), 0) + 1
    found: dict[tuple[Any, ...], int] = {}
    for group in coverage.groups:
        own = names(group)
        key = (own["dark"] or "refused", own["flat"] or "refused")
        found[key] = found.get(key, 0) + group.lights
    assert found == expected


def test_lights_of_one_night_take_two_flats_where_the_nearest_changes(place: Observatory) -> None:
    """What the first and the last light of a night take decides for those between, unless it differs."""
    place.all_masters()
    place.master("Flat", "flat_before", EVENING - timedelta(days=10), EXPTIME=2.0, FILTER="R")
    place.master("Flat", "flat_after", EVENING + timedelta(days=10), EXPTIME=2.0, FILTER="R")
    for number in range(9):
        place.light(f"r{number}", EVENING + timedelta(hours=number), FILTER="R")
    applier = CalibrationApplier(place.config)
    one_by_one = [applier.find_masters(path, dark="none").flat for path in sorted(place.lights.iterdir())]
    expected = sorted(flat.record.name for flat in one_by_one if flat is not None)
    groups = place.coverage().groups
    assert sorted(name for g in groups for name in names(g)["flat"] * g.lights) == expected


def test_an_index_changes_nothing(place: Observatory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostcal.places.file_index.SETTLED_NS", 0)
    _hostile(place, 9)
    time.sleep(0.01)

    first = place.coverage()
    assert place.coverage() == first
    for index in (LIGHTS_INDEX, MASTERS_INDEX):
        assert (place.masters / index).is_file()
        (place.masters / index).unlink()
    assert place.coverage() == first


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda place: place.light("x", EVENING, EXPTIME=None), "no exposure in the header"),
        (lambda place: place.light("x", EVENING, SET_TEMP=None, CCD_TEMP=None), "no temperature in the header"),
        (lambda place: place.light("x", datetime.now(UTC) + timedelta(days=900)), "taken in the future (DATE-OBS)"),
        (lambda place: place.light("x", None), "no time in the header"),
    ],
)
def test_what_lights_do_not_say_is_one_line(
    place: Observatory, spoil: Callable[[Observatory], Path], said: str
) -> None:
    place.all_masters()
    place.light()
    path = spoil(place)
    coverage = place.coverage()
    (line,) = [line for line in coverage.warnings if said in line]
    assert str(path) in line
    assert sum(group.lights for group in coverage.groups) == 2
    assert not [s for s in coverage.frames_to_take if s.kind is FrameType.DARK]


def test_unreadable_lights_are_named_and_the_rest_goes_on(place: Observatory) -> None:
    place.all_masters()
    place.light()
    (place.lights / "cut.fits").write_bytes((place.lights / "m31.fits").read_bytes()[:1000])
    (place.lights / "empty.fits").write_bytes(b"")
    write_frame(place.lights / "flat.fits", VALUES, IMAGETYP="Flat Frame")
    coverage = place.coverage()
    assert coverage.lights == 1
    assert sorted(Path(line.split(":")[0]).name for line in coverage.errors) == ["cut.fits", "empty.fits"]
    assert any("flat.fits: left out" in line for line in coverage.warnings)


def test_a_library_that_is_not_there_is_said(tmp_path: Path) -> None:
    place = Observatory(tmp_path)
    place.masters.rmdir()
    place.light()
    coverage = place.coverage()
    assert any("no such directory of masters" in line for line in coverage.warnings)
    assert not coverage.is_covered
    assert not place.masters.exists()
