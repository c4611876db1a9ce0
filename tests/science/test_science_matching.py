"""Which masters fit a science frame, and what is said when none does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import FitsPlane, LibraryMaster, StorePlane
from ostcal.science.match import (
    MatchRules,
    choose_science_bias,
    choose_science_dark,
    choose_science_flat,
    scale_named_dark,
    science_key,
)
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

PLANE = FitsPlane(fits=FitsPixels(width=100, height=80, bitpix=16, path="nowhere", data_offset=0))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SETTINGS = CameraSettings(camera="Cam", gain=100.0, offset=30.0)
RULES = MatchRules(exposure_tolerance=0.1, temperature_tolerance_c=2.0)
FRAME = GroupKey(
    frame_type=FrameType.LIGHT,
    settings=SETTINGS,
    width=100,
    height=80,
    exposure_time_s=300.0,
    filter_name="Ha",
    temperature_c=-10.0,
)


def master(
    kind: FrameType, exposure_s: float, name: str = "", *, age_days: float = 1.0, verdict: str | None = None, **key: Any
) -> LibraryMaster:
    """A master like FRAME in all that is not named."""
    own = replace(FRAME, frame_type=kind, exposure_time_s=exposure_s, filter_name=None)
    return LibraryMaster(
        record=MasterRecord(
            name=name or f"master_{kind}_{exposure_s:g}s",
            key=replace(own, **key),
            made_at=NOON - timedelta(days=age_days),
            calibration_id="",
            verdict=verdict,
        ),
        plane=StorePlane(store="nowhere", name=name),
    )


def dark(exposure_s: float, name: str = "", **keys: Any) -> LibraryMaster:
    return master(FrameType.DARK, exposure_s, name, **keys)


def flat(filter_name: str | None, name: str = "", **keys: Any) -> LibraryMaster:
    return master(FrameType.FLAT, 2.0, name or f"flat_{filter_name}", **{"filter_name": filter_name, **keys})


def bias(name: str = "", **keys: Any) -> LibraryMaster:
    return master(FrameType.BIAS, 0.0, name, **keys)


def chosen(library: list[LibraryMaster], key: GroupKey = FRAME, rules: MatchRules = RULES) -> list[str]:
    return [part.master.record.name for part in choose_science_dark(key, library, rules).parts]


# --- darks ---


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (dark(301, "a"), dark(310, "b")),
        (dark(310, "a", age_days=9), dark(320, "b")),
        (dark(300, "a", temperature_c=-10.0, age_days=9), dark(300, "b", temperature_c=-11.5)),
        (dark(300, "a", temperature_c=-10.2), dark(300, "b", temperature_c=-10.0, age_days=9)),
        (dark(300, "a"), dark(300, "b", age_days=2)),
        (dark(300.02, "a"), dark(300, "b", age_days=2)),
    ],
    ids=["exposure", "exposure before age", "temperature before age", "0.2 C is nothing", "newest", "20 ms is nothing"],
)
def test_nearest_exposure_then_temperature_then_newest(better: LibraryMaster, worse: LibraryMaster) -> None:
    for library in ([better, worse], [worse, better]):
        assert chosen(library) == ["a"]


@pytest.mark.parametrize(("exposure_s", "fits"), [(270, True), (330, True), (269.9, False), (330.1, False)])
def test_the_exposure_tolerance_is_a_share_of_the_frames_exposure(exposure_s: float, fits: bool) -> None:
    library = [dark(exposure_s, "only")]
    if fits:
        assert chosen(library) == ["only"]
    else:
        with pytest.raises(InputError, match=f"exposure {exposure_s:g} s against 300 s"):
            chosen(library)


@pytest.mark.parametrize(
    ("exposure_s", "same"),
    [(300.0, True), (300.3, True), (299.7, True), (300.4, False), (299.5, False), (275.0, False), (328.0, False)],
)
def test_a_dark_near_the_exposure_is_scaled_with_the_bias(exposure_s: float, same: bool) -> None:
    mix = choose_science_dark(FRAME, [dark(exposure_s, "dark"), bias("bias"), dark(1000, "long")], RULES)
    if same:
        assert [(part.master.record.name, part.weight) for part in mix.parts] == [("dark", 1.0)]
        assert not mix.scaled
    else:
        weights = {part.master.record.name: part.weight for part in mix.parts}
        assert weights == {"bias": pytest.approx(1 - 300 / exposure_s), "dark": pytest.approx(300 / exposure_s)}
        assert mix.scaled


@pytest.mark.parametrize("exposure_s", [1.04, 0.96])
def test_clocks_of_short_exposures_may_differ_by_50_ms(exposure_s: float) -> None:
    mix = choose_science_dark(replace(FRAME, exposure_time_s=1.0), [dark(exposure_s, "dark"), bias("bias")], RULES)
    assert not mix.scaled


@pytest.mark.parametrize("other", [bias("b", settings=replace(SETTINGS, gain=0.0)), bias("b", temperature_c=30.0)])
def test_a_dark_near_the_exposure_is_taken_as_it_is_where_no_bias_fits(other: LibraryMaster) -> None:
    for library in ([dark(330, "dark")], [dark(330, "dark"), other]):
        mix = choose_science_dark(FRAME, library, RULES)
        assert [(part.master.record.name, part.weight) for part in mix.parts] == [("dark", 1.0)]
        assert mix.unscaled == "no bias fits to scale it, it has 1.1 times the dark current"


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"width": 101}, "size 101 x 80 against 100 x 80"),
        ({"settings": replace(SETTINGS, camera="Other")}, "camera Other against Cam"),
        ({"settings": replace(SETTINGS, binning=(2, 2))}, "binning 2x2 against 1x1"),
        ({"settings": replace(SETTINGS, gain=0.0)}, "gain 0.0 against 100.0"),
        ({"settings": replace(SETTINGS, offset=10.0)}, "offset 10.0 against 30.0"),
        ({"temperature_c": -12.5}, "temperature -12.5 C against -10 C"),
    ],
)
def test_what_does_not_fit_is_named_with_the_nearest_master(difference: dict[str, Any], reason: str) -> None:
    far = dark(60, "far", **{"width": 7, **difference})
    with pytest.raises(InputError, match=f"no master dark fits .300 s.: the nearest is near, but {reason};") as error:
        chosen([far, dark(300, "near", **difference)])
    assert "\n" not in str(error.value)


def test_all_conditions_that_failed_are_named() -> None:
    with pytest.raises(InputError, match=r"gain 0\.0 against 100\.0 and temperature 0 C .* and exposure 60 s against"):
        chosen([dark(60, "x", settings=replace(SETTINGS, gain=0.0), temperature_c=0.0)])


def test_what_one_side_does_not_record_fits_anything() -> None:
    unknown = replace(FRAME, settings=CameraSettings(), temperature_c=None)
    assert chosen([dark(300, "x")], unknown) == ["x"]
    assert chosen([dark(300, "x", settings=CameraSettings(), temperature_c=None)]) == ["x"]


def test_masters_that_failed_are_left_out_unless_asked() -> None:
    library = [dark(300, "failed", verdict="fail"), dark(310, "warned", verdict="warn")]
    assert chosen(library) == ["warned"]
    assert chosen(library, rules=replace(RULES, allow_failed=True)) == ["failed"]
    with pytest.raises(InputError, match=r"there is none that passed quality control, 1 failed .*--allow-failed"):
        chosen(library[:1])


def test_without_a_dark_of_the_exposure_bias_and_dark_current_are_scaled() -> None:
    """The fit over exposures needs masters in the store with their scatter; two of them are a line anyhow."""
    library = [replace(m, plane=PLANE) for m in (bias("b"), dark(600, "d"))]
    mix = choose_science_dark(FRAME, library, RULES)
    assert [(part.master.record.name, part.weight) for part in mix.parts] == [("b", 0.5), ("d", 0.5)]
    assert mix.scaled
    assert mix.has_dark_current


@pytest.mark.parametrize(("bias_c", "fits"), [(-10.0, True), (-4.0, True), (9.9, True), (10.5, False)])
def test_a_bias_scales_a_dark_of_any_temperature_that_a_bias_does_not_feel(bias_c: float, fits: bool) -> None:
    library = [replace(m, plane=PLANE) for m in (bias("b", temperature_c=bias_c), dark(600, "d"))]
    if fits:
        mix = choose_science_dark(FRAME, library, RULES)
        assert [(part.master.record.name, part.weight) for part in mix.parts] == [("b", 0.5), ("d", 0.5)]
    else:
        with pytest.raises(InputError, match="exposure 600 s against 300 s"):
            choose_science_dark(FRAME, library, RULES)


@pytest.mark.parametrize("bias_c", [-10.0, 5.0, 25.0, None])
def test_a_bias_alone_is_chosen_where_there_is_no_dark_of_the_camera(bias_c: float | None) -> None:
    other = dark(300, "other", settings=replace(SETTINGS, camera="Other"))
    assert chosen([bias("b", temperature_c=bias_c), other]) == ["b"]
    mix = choose_science_dark(FRAME, [bias("b", temperature_c=bias_c)], RULES)
    assert not mix.has_dark_current
    with pytest.raises(InputError, match="gain"):
        chosen([bias(settings=replace(SETTINGS, gain=0.0))])


def test_a_bias_alone_is_chosen_where_all_darks_are_of_another_temperature() -> None:
    """The warning says what is left in; it is the library without these darks that calibrated, and with them not."""
    warm = dark(300, "warm", temperature_c=5.0)
    assert chosen([bias("b"), warm]) == ["b"]
    with pytest.raises(InputError, match="temperature 5 C against -10 C"):
        chosen([bias("b"), warm], rules=replace(RULES, strict=True))


def test_a_bias_alone_is_not_chosen_beside_a_dark_whose_exposure_is_too_far() -> None:
    library = [replace(m, plane=PLANE) for m in (bias("b"), dark(100, "short"))]
    with pytest.raises(InputError, match=r"exposure 100 s against 300 s.* up to 2 times its exposure, matching.max_sc"):
        chosen(library)
    mix = choose_science_dark(FRAME, library, replace(RULES, max_scale_up=3.0))
    assert [(part.master.record.name, part.weight) for part in mix.parts] == [("b", -2.0), ("short", 3.0)]


# --- darks that the user names ---


def test_a_named_dark_of_the_exposure_is_subtracted_as_it_is() -> None:
    mix = scale_named_dark(FRAME, dark(290, "d"), None, RULES)
    assert [(part.master.record.name, part.weight) for part in mix.parts] == [("d", 1.0)]


def test_a_named_dark_of_another_exposure_needs_a_bias() -> None:
    with pytest.raises(InputError, match=r"dark d .60 s. cannot be used: the frame has 300 s; name a --bias"):
        scale_named_dark(FRAME, dark(60, "d"), None, RULES)
    mix = scale_named_dark(FRAME, dark(60, "d"), bias("b"), RULES)
    assert [(part.master.record.name, part.weight) for part in mix.parts] == [("b", -4.0), ("d", 5.0)]


def test_a_named_dark_without_its_bias_is_added_to_the_bias() -> None:
    subtracted = dark(600, "d", bias_subtracted=True)
    mix = scale_named_dark(FRAME, subtracted, bias("b"), RULES)
    assert [(part.master.record.name, part.weight) for part in mix.parts] == [("b", 1.0), ("d", 0.5)]
    with pytest.raises(InputError, match="its bias is subtracted; name a --bias"):
        scale_named_dark(FRAME, subtracted, None, RULES)


# --- flats and bias ---


def test_the_filter_of_a_flat_decides_in_any_case() -> None:
    library = [flat("OIII"), flat("ha", age_days=30)]
    assert choose_science_flat(FRAME, None, library, RULES).record.name == "flat_ha"
    with pytest.raises(InputError, match="the nearest is flat_L, but filter L against Ha"):
        choose_science_flat(FRAME, None, [flat("L")], RULES)
    with pytest.raises(InputError, match=r"no master flat fits .filter Ha.: there is none; make one"):
        choose_science_flat(FRAME, None, [], RULES)


def test_lower_and_upper_case_letters_are_two_filters_where_both_are_there() -> None:
    both = [flat("r"), flat("R", age_days=0.1)]
    for name in ("r", "R"):
        assert choose_science_flat(replace(FRAME, filter_name=name), None, both, RULES).key.filter_name == name
    assert choose_science_flat(replace(FRAME, filter_name="r"), None, [flat("R")], RULES).key.filter_name == "R"
    assert choose_science_flat(replace(FRAME, filter_name="H-alpha"), None, [flat("HA")], RULES)


@pytest.mark.parametrize(
    ("setting", "ours", "theirs"),
    [
        ("row_order", "TOP-DOWN", "BOTTOM-UP"),
        ("flip", "none", "Flip/Mirror"),
        ("coadds", 10, 1),
        ("iso", 800.0, 100.0),
        ("subframe_origin", (0, 0), (8, 0)),
    ],
)
def test_settings_that_change_pixels_must_be_equal_or_unknown(setting: str, ours: object, theirs: object) -> None:
    key = replace(FRAME, settings=replace(SETTINGS, **{setting: ours}))
    other = replace(SETTINGS, **{setting: theirs})
    with pytest.raises(InputError, match=f"{setting.replace('_', ' ')} "):
        choose_science_dark(key, [dark(300.0, settings=other)], RULES)
    with pytest.raises(InputError, match=f"{setting.replace('_', ' ')} "):
        choose_science_flat(key, None, [flat("Ha", settings=other)], RULES)
    if setting != "coadds":  # frames without COADDS are of one exposure
        assert choose_science_dark(key, [dark(300.0)], RULES)


def test_frames_without_coadds_are_of_one_exposure() -> None:
    one = replace(SETTINGS, coadds=1)
    assert choose_science_dark(FRAME, [dark(300.0, settings=one)], RULES)
    with pytest.raises(InputError, match="coadds 10 against 1"):
        choose_science_dark(FRAME, [dark(300.0, settings=replace(SETTINGS, coadds=10))], RULES)


def test_a_frame_without_filter_takes_a_flat_only_where_there_is_no_choice() -> None:
    unknown = replace(FRAME, filter_name=None)
    assert (
        choose_science_flat(unknown, None, [flat("L"), flat("l", "older", age_days=3)], RULES).record.name == "flat_L"
    )
    with pytest.raises(InputError, match=r"names no filter \(FILTER\) and there are flats of Ha, L"):
        choose_science_flat(unknown, None, [flat("L"), flat("Ha")], RULES)


def test_a_flat_of_the_night_goes_before_a_newer_one() -> None:
    tonight = datetime(2026, 11, 20, 20, tzinfo=UTC)
    library = [flat("Ha", "new", night=date(2026, 11, 21)), flat("Ha", "same", night=date(2026, 11, 20), age_days=5)]
    assert choose_science_flat(FRAME, tonight, library, RULES).record.name == "same"
    assert choose_science_flat(FRAME, None, library, RULES).record.name == "new"


def test_flats_of_another_temperature_fit_but_not_of_another_bayer_pattern() -> None:
    assert choose_science_flat(FRAME, None, [flat("Ha", temperature_c=15.0)], RULES)
    colour = replace(FRAME, bayer_pattern="RGGB")
    with pytest.raises(InputError, match="Bayer pattern GBRG against RGGB"):
        choose_science_flat(colour, None, [flat("Ha", bayer_pattern="GBRG")], RULES)


def test_the_newest_fitting_bias_is_the_zero_of_photon_noise() -> None:
    library = [bias("cold", temperature_c=-20.0), bias("old", age_days=5), bias("new")]
    found = choose_science_bias(FRAME, library, RULES)
    assert found is not None
    assert found.record.name == "new"
    assert choose_science_bias(FRAME, library[:1], RULES) == library[0]
    assert choose_science_bias(FRAME, library[:1], replace(RULES, bias_temperature_tolerance_c=5.0)) is None


def test_a_frame_counts_with_the_temperature_that_its_sensor_had() -> None:
    metadata = FrameMetadata(
        frame_type=FrameType.LIGHT, exposure_time_s=1.0, width=9, height=9, set_temperature_c=-10, ccd_temperature_c=-4
    )
    for measured_c, temperature_c in ((-4.0, -4.0), (-8.12, -8.1), (-9.96, -10.0), (None, -10.0)):
        assert science_key(replace(metadata, ccd_temperature_c=measured_c)).temperature_c == temperature_c
    assert science_key(replace(metadata, set_temperature_c=None)).temperature_c == -4


# --- a dark from a fit over exposures ---


def test_an_exposure_nobody_took_comes_from_a_fit_over_the_others(tmp_path: Path) -> None:
    night = Night(tmp_path)
    shape = (64, 80)
    glow = np.linspace(0, 4, shape[1])
    n.write_bias(night, n.samples(10, np.full(shape, 1000.0), seed=31, shape=shape))
    for index, exposure_s in enumerate((2.0, 8.0, 20.0)):
        stack = n.samples(10, np.broadcast_to(1000 + exposure_s * glow, shape), seed=32 + index, shape=shape)
        n.write_darks(night, exposure_s, stack)
    made = night.run_darks()
    assert not made.is_error, made.details
    (frame,) = n.write_frames(
        night.root / "lights",
        n.samples(1, np.broadcast_to(1500 + 14 * glow, shape), seed=40, shape=shape),
        "Light Frame",
        14.0,
    )
    status = CalibrationApplier(night.config()).calibrate_file(frame, flat="none")
    assert "no dark of its exposure, one is made: dark of 14 s from the fit over" in status.details["warnings"][-1]
    values, header = read_with_astropy(status.data["calibrated"][0])
    assert header["SYNTHDRK"] is True
    assert header["CALSTAT"] == "BD"
    assert {header["BIASNAME"][:11], header["DARKNAME"][:11], header["DRK3NAME"][:11]} == {"master_bias", "master_dark"}
    assert np.mean(values) == pytest.approx(500, abs=1)
    assert np.polyfit(np.arange(shape[1]), values.mean(axis=0), 1)[0] == pytest.approx(0, abs=0.05)


def test_a_line_of_short_darks_is_not_stretched_to_a_long_exposure() -> None:
    """From 2 s and 5 s to 300 s the difference, and its noise, would be taken 99 times; the limit is 10."""
    library = [replace(m, plane=PLANE) for m in (dark(2, "short"), dark(5, "longer"))]
    with pytest.raises(InputError, match=r"is longer, but exposure 5 s against 300 s: dark current is scaled up to 2 "):
        choose_science_dark(FRAME, library, RULES)
    near = [replace(m, plane=PLANE) for m in (dark(20, "short"), dark(150, "longer"))]
    assert choose_science_dark(FRAME, near, RULES).scaled
    far = [replace(m, plane=PLANE) for m in (dark(20, "short"), dark(149, "longer"))]
    with pytest.raises(InputError, match=r"exposure 149 s against 300 s"):
        choose_science_dark(FRAME, far, RULES)
