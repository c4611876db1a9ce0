"""Names of masters and series: what the exposure is, what differs, never two the same, and safe on any disk."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ostcal.capture.darks import DarkRules, capture_darks, plan_darks
from ostcal.capture.series_plan import Equipment, SeriesSink
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.copy_frames import export_series
from ostcal.inputs.group_names import master_names, series_names
from ostcal.inputs.grouping import Frame, Group, GroupKey, GroupRules
from ostcal.inputs.import_fits import plan_imports
from ostcal.naming import exposure_text, night_of, safe_word, series_name, twilight_name
from support.direct_camera import DirectCamera, FakeClock, small_sensor

MADE_AT = datetime(2026, 11, 21, 20, 45, 0, tzinfo=UTC)
STAMP = "20261121_204500"
HOSTILE = [
    "../../x",
    "H/alpha",
    "Ha 7nm",
    "H\u03b1",
    "Красный",
    "..",
    ".",
    "C:\\x",
    "a\nb",
    "con",
    "x" * 300,
    " ",
    "-",
    "\0",
]


def key(kind: FrameType = FrameType.DARK, exposure_s: float = 5.0, **others: Any) -> GroupKey:
    values: dict[str, Any] = {"width": 64, "height": 48, "settings": CameraSettings(gain=100.0)} | others
    return GroupKey(frame_type=kind, exposure_time_s=exposure_s, **values)


def group(made: GroupKey, *, twilight: bool = False, date_obs: datetime | None = MADE_AT) -> Group:
    metadata = FrameMetadata(
        frame_type=made.frame_type,
        exposure_time_s=made.exposure_time_s,
        width=made.width,
        height=made.height,
        date_obs=date_obs,
    )
    return Group(key=made, frames=(Frame(label="one", metadata=metadata),), twilight=twilight)


def words(*keys: GroupKey) -> list[str]:
    """Return the names without the time of the run."""
    names = master_names(keys, MADE_AT)
    assert all(STAMP in name for name in names)
    return [name.replace(f"_{STAMP}", "") for name in names]


# --- exposures ---


@pytest.mark.parametrize(
    ("exposure_s", "text"),
    [(0.0, "0.000s"), (0.001, "0.001s"), (0.5, "0.500s"), (5.0, "5.000s"), (1200.0, "1200.000s"), (76.15, "76.150s"),
     (0.0005, "0.0005s"), (5e-5, "0.00005s"), (3.2e-5, "0.000032s"), (1.2345, "1.2345s"), (0.0123, "0.0123s"),
     (1234.5, "1234.500s"), (2 / 3, "0.666667s"), (12.345678, "12.34568s"), (1e6, "1000000.000s")],
)  # fmt: skip
def test_an_exposure_has_three_decimals_and_those_that_it_has(exposure_s: float, text: str) -> None:
    assert exposure_text(exposure_s) == text
    assert exposure_text(exposure_s, [exposure_s, 3.0]) == text


@given(st.integers(1, 10**6), st.integers(0, 6))
@example(1, 3)  # 0.0010000000475
@example(601, 1)  # 60.0999985
def test_an_exposure_kept_as_a_32_bit_float_is_the_one_that_was_asked_for(digits: int, decimals: int) -> None:
    asked_s = min(digits / 10**decimals, 9999.0)
    kept_s = float(np.float32(asked_s))
    assert exposure_text(kept_s) == exposure_text(asked_s)
    assert exposure_text(float(f"{kept_s:.9g}")) == exposure_text(asked_s)


def test_an_exposure_has_more_decimals_where_they_are_needed() -> None:
    times = [0.00032, 0.00033, 0.001, 5.0]
    assert [exposure_text(t, times) for t in times] == ["0.00032s", "0.00033s", "0.001s", "5.000s"]
    assert exposure_text(0.0001, [0.0001, 0.0002]) == "0.0001s"


@given(st.lists(st.floats(0.0, 3600.0).map(lambda t: round(t, 7)), min_size=1, max_size=10, unique=True))
def test_different_exposures_have_different_texts_that_say_them(times: list[float]) -> None:
    texts = [exposure_text(t, times) for t in times]
    assert len(set(texts)) == len(times)
    for text, t in zip(texts, times, strict=True):
        assert re.fullmatch(r"\d+\.\d{3,9}s", text)
        assert float(text[:-1]) == pytest.approx(t, rel=5.001e-7, abs=5.001e-7)


@pytest.mark.parametrize(
    ("exposure_s", "name"),
    [(5e-5, "exp_0.00005s"), (0.001, "exp_0.001s"), (1.2345, "exp_1.2345s"), (5.0, "exp_5.000s")],
)
def test_a_series_has_one_name_from_the_camera_and_from_its_files(tmp_path: Path, exposure_s: float, name: str) -> None:
    clock = FakeClock()
    equipment = Equipment(camera=DirectCamera(small_sensor(), clock), clock=clock)
    sink = SeriesSink(directory=tmp_path / "darks")
    rules = DarkRules(n_frames=3, factors=(), flat_exposures_s=(exposure_s,), min_exposure_s=min(exposure_s, 0.5))
    outcomes = capture_darks(equipment, plan_darks(equipment, CameraSettings(), rules, sink), sink)
    taken = next(o.location for o in outcomes if o.plan.exposure_time_s == exposure_s)
    assert Path(taken).name == f"{name}.zarr"
    export_series(taken, tmp_path / "fits")
    plans, _ = plan_imports(
        [str(tmp_path / "fits")], rules=GroupRules(), dark_dir="darks", flat_dir="flats", masters_dir="masters"
    )
    assert [Path(plan.location).name for plan in plans] == [f"{name}.zarr"]


def test_a_name_begins_with_its_filter() -> None:
    assert series_name(5.0) == "exp_5.000s"
    assert series_name(1.0, "L") == "L_exp_1.000s"
    assert series_name(1.0, "../H alpha") == "H-alpha_exp_1.000s"
    assert series_name(1.0, "??") == "exp_1.000s"
    evening, morning = datetime(2026, 11, 21, 18, 0, tzinfo=UTC), datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
    assert twilight_name(night_of(evening), "L") == twilight_name(night_of(morning), "L") == "L_twilight_20261121"


# --- masters ---


def test_names_are_those_that_were_promised() -> None:
    assert master_names([key(FrameType.BIAS, 0.0)], MADE_AT) == [f"master_bias_{STAMP}"]
    assert master_names([key()], MADE_AT) == [f"master_dark_5.000s_{STAMP}"]
    assert master_names([key(FrameType.FLAT, 1.0, filter_name="R")], MADE_AT) == [f"master_flat_1.000s_{STAMP}"]
    assert master_names([], MADE_AT) == []


def test_what_all_groups_share_is_not_named() -> None:
    both = [key(FrameType.FLAT, t, filter_name="R", temperature_c=-10.0) for t in (1.0, 2.0)]
    assert words(*both) == ["master_flat_1.000s", "master_flat_2.000s"]


DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "filter": ({"filter_name": "R"}, {"filter_name": "Ha 7nm"}, ["R", "Ha-7nm"]),
    "a filter and none": ({"filter_name": "R"}, {"filter_name": None}, ["R", ""]),
    "gain": (
        {"settings": CameraSettings(gain=0.0)},
        {"settings": CameraSettings(gain=0.5)},
        ["gain0", "gain0.5"],
    ),
    "binning": ({}, {"settings": CameraSettings(gain=100.0, binning=(2, 3))}, ["bin1x1", "bin2x3"]),
    "temperature": ({"temperature_c": -10.0}, {"temperature_c": 5.25}, ["-10.0C", "5.2C"]),
    "night": ({"night": date(2026, 11, 20)}, {"night": date(2026, 11, 21)}, ["night20261120", "night20261121"]),
    "offset": (
        {"settings": CameraSettings(offset=10.0)},
        {"settings": CameraSettings(offset=20.0)},
        ["offset10", "offset20"],
    ),
    "readout mode": (
        {"settings": CameraSettings(readout_mode="High Gain")},
        {"settings": CameraSettings(readout_mode="Low")},
        ["High-Gain", "Low"],
    ),
    "size": ({}, {"width": 32}, ["64x48", "32x48"]),
    "camera": (
        {"settings": CameraSettings(camera="ZWO ASI6200")},
        {"settings": CameraSettings(camera="Atik")},
        ["ZWO-ASI6200", "Atik"],
    ),
    "colours": ({}, {"bayer_pattern": "RGGB"}, ["mono", "RGGB"]),
    "subtracted": ({}, {"dark_subtracted": True}, ["", "darksub"]),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_differs_between_groups_joins_their_names(difference: str) -> None:
    one, other, expected = DIFFERENCES[difference]
    made = words(key(FrameType.FLAT, 1.0, **one), key(FrameType.FLAT, 1.0, **other))
    assert made == [f"master_flat_1.000s_{word}".rstrip("_") for word in expected]


def test_a_filter_that_differs_joins_all_names_even_where_the_exposures_tell_them_apart() -> None:
    keys = [key(FrameType.FLAT, 1.0, filter_name="R"), key(FrameType.FLAT, 2.0, filter_name="V")]
    assert words(*keys) == ["master_flat_1.000s_R", "master_flat_2.000s_V"]


def test_two_bias_groups_of_different_exposures_are_told_apart() -> None:
    assert words(key(FrameType.BIAS, 0.0), key(FrameType.BIAS, 0.001)) == ["master_bias_0.000s", "master_bias_0.001s"]


def test_filters_that_differ_only_in_case_are_two_files_on_every_disk() -> None:
    names = words(key(FrameType.FLAT, filter_name="r"), key(FrameType.FLAT, filter_name="R"))
    assert len({name.casefold() for name in names}) == 2


# --- series ---


def test_series_are_named_as_promised() -> None:
    groups = [
        group(key()),
        group(key(FrameType.FLAT, 1.0, filter_name="L")),
        group(key(FrameType.FLAT, 80.0, filter_name="L"), twilight=True),
        group(key(FrameType.FLAT, 80.0), twilight=True, date_obs=None),
    ]
    assert series_names(groups) == ["exp_5.000s", "L_exp_1.000s", "L_twilight_20261121", "twilight"]


def test_what_differs_between_series_of_one_name_joins_it() -> None:
    cold, warm = group(key(temperature_c=-10.0)), group(key(temperature_c=0.0))
    assert series_names([cold, warm, group(key(exposure_s=60.0))]) == [
        "exp_5.000s_-10.0C", "exp_5.000s_0.0C", "exp_60.000s",
    ]  # fmt: skip


# --- safety ---


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_a_word_of_a_header_is_safe_in_a_file_name(text: str) -> None:
    word = safe_word(text)
    assert re.fullmatch(r"[A-Za-z0-9+.-]{0,40}", word)
    assert not word.startswith((".", "-"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Ha 7nm", "Ha-7nm"),
        ("H/alpha", "H-alpha"),
        ("../../x", "x"),
        ("..", ""),
        ("U+R", "U+R"),
        ("g'", "g"),
        ("0.5nm", "0.5nm"),
    ],
)
def test_words_stay_readable(text: str, word: str) -> None:
    assert safe_word(text) == word


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_filter_stays_one_part_of_a_path(name: str) -> None:
    keys = [key(FrameType.FLAT, 1.0, filter_name=name), key(FrameType.FLAT, 1.0, filter_name="R")]
    for made in (*master_names(keys, MADE_AT), *series_names([group(k) for k in keys])):
        assert re.fullmatch(r"[A-Za-z0-9+._-]{1,120}", made)
        assert made not in (".", "..")


@pytest.mark.parametrize(("one", "other"), [("H\u03b1", "H\u03b2"), ("Красный", "Синий"), ("H/a", "H:a")])
def test_filters_that_no_file_name_can_tell_apart_are_numbered(one: str, other: str) -> None:
    keys = [key(FrameType.FLAT, 1.0, filter_name=name) for name in (one, other)]
    first, second = words(*keys)
    assert second == f"{first}_2"
    assert len(set(series_names([group(k) for k in keys]))) == 2


def test_a_number_does_not_hit_a_name_that_is_there() -> None:
    keys = [key(temperature_c=t) for t in (-10.01, -10.02, -10.03)]
    assert len(set(words(*keys))) == 3


# --- properties ---

texts = st.none() | st.sampled_from(["R", "r", "Ha", "H/a", "H-a", "R_2", *HOSTILE]) | st.text(max_size=5)
numbers = st.none() | st.sampled_from([0.0, 100.0, 100.0000001, 0.5])
settings_of_cameras = st.builds(
    CameraSettings,
    camera=texts,
    gain=numbers,
    offset=numbers,
    binning=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    readout_mode=texts,
)
exposures = st.sampled_from([0.0, 0.0001, 0.001, 1.0, 1.0004, 1.00000000001, 60.0])


def keys_of(kind: FrameType) -> st.SearchStrategy[list[GroupKey]]:
    return st.lists(
        st.builds(
            key,
            st.just(kind),
            exposures,
            settings=settings_of_cameras,
            filter_name=texts,
            temperature_c=st.none() | st.sampled_from([-10.0, -10.04, 0.0, -0.0]),
            bayer_pattern=st.sampled_from([None, "RGGB"]),
            dark_subtracted=st.booleans(),
            night=st.none() | st.just(date(2026, 11, 21)),
        ),
        max_size=8,
    )


all_keys = st.sampled_from([FrameType.BIAS, FrameType.DARK, FrameType.FLAT]).flatmap(keys_of)


@given(all_keys)
def test_no_two_masters_have_one_name(keys: list[GroupKey]) -> None:
    names = master_names(keys, MADE_AT)
    assert len({name.casefold() for name in names}) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9+._-]+", name) for name in names)


@given(all_keys, st.booleans())
def test_no_two_series_have_one_name(keys: list[GroupKey], twilight: bool) -> None:
    names = series_names([group(k, twilight=twilight) for k in keys])
    assert len({name.casefold() for name in names}) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9+._-]+", name) for name in names)


@given(st.permutations([0.0, 0.0001, 0.001, 1.0, 1.0004, 60.0]))
def test_the_order_of_groups_does_not_change_the_name_of_one(times: list[float]) -> None:
    names = dict(zip(times, words(*(key(exposure_s=t) for t in times)), strict=True))
    assert {t: name.removeprefix("master_dark_") for t, name in names.items()} == {
        0.0: "0.0000s", 0.0001: "0.0001s", 0.001: "0.001s", 1.0: "1.0000s", 1.0004: "1.0004s", 60.0: "60.000s",
    }  # fmt: skip


def test_names_hold_for_every_kind() -> None:
    for kind in (FrameType.BIAS, FrameType.DARK, FrameType.FLAT):
        made = replace(key(), frame_type=kind)
        assert words(made)[0].startswith(f"master_{kind}")
