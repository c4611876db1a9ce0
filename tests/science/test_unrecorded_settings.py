"""A frame that does not record a setting takes no master of which nobody can tell whether it is the right one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameMetadata, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.inputs.optics import common_optics
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import FitsPlane, LibraryMaster
from ostcal.science.choose_masters import CalibrationOptions, FrameMatcher
from ostcal.science.match import MatchRules
from support import night as n
from support.night import Night

LIGHT_AT = datetime(2026, 6, 10, 22, tzinfo=UTC)
SETTINGS = CameraSettings(
    camera="Cam", gain=100.0, offset=30.0, subframe_origin=(0, 0), row_order="TOP-DOWN", flip="none"
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
PLANE = FitsPlane(fits=FitsPixels(width=100, height=80, bitpix=16, path="nowhere", data_offset=0))
NOTHING = CameraSettings()
RULES = MatchRules(dark_temperature_model=False)


def master(kind: FrameType, name: str, days: float = 1.0, *, verdict: str | None = None, **key: Any) -> LibraryMaster:
    """Return a master that records all, so many days before the light."""
    at = LIGHT_AT - timedelta(days=days)
    own: dict[str, Any] = {"exposure_time_s": 300.0, "temperature_c": -10.0, "settings": SETTINGS}
    own |= {"filter_name": "R", "exposure_time_s": 1.0} if kind is FrameType.FLAT else {}
    about = GroupKey(**{"frame_type": kind, "width": 100, "height": 80, **own, **key})
    record = MasterRecord(
        name=name,
        key=about,
        made_at=at,
        calibration_id="",
        verdict=verdict,
        observed=Observed(first=at, last=at + timedelta(hours=1), middle=at),
    )
    return LibraryMaster(record=record, plane=PLANE)


def dark(name: str, days: float = 1.0, **key: Any) -> LibraryMaster:
    return master(FrameType.DARK, name, days, **key)


def flat(name: str, days: float = 1.0, **key: Any) -> LibraryMaster:
    return master(FrameType.FLAT, name, days, **key)


def of(**settings: Any) -> CameraSettings:
    return replace(SETTINGS, **settings)


def chosen(light: FrameMetadata, library: list[LibraryMaster], kind: str = "dark") -> tuple[str, str]:
    """Return the name of the master and the lines about it, whatever the order of the library; all must be one."""
    found = set()
    for order in itertools.permutations(library):
        options = CalibrationOptions(flat="none") if kind == "dark" else CalibrationOptions(dark="none")
        matched = FrameMatcher("nowhere", options, RULES, order).match_metadata(light)
        (used,) = matched.used
        found.add((used.record.name, "\n".join((*matched.warnings, *matched.notes))))
    ((name, said),) = found
    return name, said


def refused(light: FrameMetadata, library: list[LibraryMaster], kind: str = "dark") -> str:
    with pytest.raises(InputError) as error:
        chosen(light, library, kind)
    return str(error.value)


# --- darks ---

WITHOUT = {
    "temperature": replace(LIGHT, set_temperature_c=None),
    "gain": replace(LIGHT, settings=of(gain=None)),
    "camera": replace(LIGHT, settings=of(camera=None)),
    "offset": replace(LIGHT, settings=of(offset=None)),
    "row order": replace(LIGHT, settings=of(row_order=None)),
    "flip": replace(LIGHT, settings=of(flip=None)),
    "subframe origin": replace(LIGHT, settings=of(subframe_origin=None)),
}
OTHER: dict[str, dict[str, Any]] = {
    "temperature": {"temperature_c": 0.0},
    "gain": {"settings": of(gain=0.0)},
    "camera": {"settings": of(camera="Other")},
    "offset": {"settings": of(offset=50.0)},
    "row order": {"settings": of(row_order="BOTTOM-UP")},
    "flip": {"settings": of(flip="Mirror")},
    "subframe origin": {"settings": of(subframe_origin=(100, 100))},
}
UNSTATED: dict[str, dict[str, Any]] = {
    "temperature": {"temperature_c": None},
    "gain": {"settings": of(gain=None)},
    "camera": {"settings": of(camera=None)},
    "offset": {"settings": of(offset=None)},
    "row order": {"settings": of(row_order=None)},
    "flip": {"settings": of(flip=None)},
    "subframe origin": {"settings": of(subframe_origin=None)},
}


@pytest.mark.parametrize("setting", WITHOUT)
def test_darks_that_differ_in_what_a_light_does_not_record_are_refused(setting: str) -> None:
    library = [dark("ours"), dark("other", 0.1, **OTHER[setting])]
    assert chosen(LIGHT, library)[0] == "ours"
    said = refused(WITHOUT[setting], library)
    assert f"the frame names no {setting} (" in said
    assert "--dark" in said
    assert all(text in said for text in {"temperature": ("-10, 0 C",), "gain": ("gain 0, 100",)}.get(setting, ()))


@pytest.mark.parametrize("setting", WITHOUT)
def test_one_that_does_not_record_it_either_goes_before_those_that_differ(setting: str) -> None:
    library = [dark("ours"), dark("other", 0.1, **OTHER[setting]), dark("open", 9, **UNSTATED[setting])]
    assert chosen(WITHOUT[setting], library)[0] == "open"


def test_one_that_records_nothing_at_all_does_not_go_before_them() -> None:
    library = [dark("ours"), dark("other", **OTHER["gain"]), dark("nothing", settings=NOTHING, temperature_c=None)]
    assert "names no gain" in refused(WITHOUT["gain"], library)


@pytest.mark.parametrize(("setting", "text"), [("temperature", "temperature -10 C"), ("gain", "gain 100")])
def test_the_only_one_is_taken_and_it_is_said(setting: str, text: str) -> None:
    name, said = chosen(WITHOUT[setting], [dark("old", 40), dark("new", 2)])
    assert name == "new"
    assert f"dark new is of {text}, which the frame does not record" in said
    assert "is of" not in chosen(LIGHT, [dark("old", 40), dark("new", 2)])[1]


def test_temperatures_within_the_tolerance_are_one() -> None:
    library = [dark("a", 3, temperature_c=-10.0), dark("b", 1, temperature_c=-9.0)]
    assert chosen(WITHOUT["temperature"], library)[0] == "b"


def test_darks_of_other_exposures_are_none_of_the_choice() -> None:
    library = [dark("ours"), dark("short", exposure_time_s=10.0, temperature_c=0.0)]
    assert chosen(WITHOUT["temperature"], library)[0] == "ours"


def test_an_origin_is_assumed_to_be_that_of_the_sensor_alone() -> None:
    light = WITHOUT["subframe origin"]
    assert chosen(light, [dark("new", 1), dark("old", 9)]) == ("new", "")
    other = OTHER["subframe origin"]
    assert chosen(light, [dark("other", 1, **other), dark("open", 9, settings=of(subframe_origin=None))])[0] == "open"
    name, said = chosen(light, [dark("other", 1, **other)])
    assert name == "other"
    assert "of subframe origin (100, 100), which the frame does not record" in said


NO_BINNING = replace(LIGHT, states_binning=False)
BINNED = of(binning=(2, 2))


def test_darks_of_several_binnings_and_one_size_are_refused_for_a_light_without_it() -> None:
    library = [dark("1", 5), dark("2", 1, settings=BINNED)]
    said = refused(NO_BINNING, library)
    assert "names no binning (XBINNING) and there are darks of binning 1x1, 2x2; write XBINNING" in said
    assert chosen(LIGHT, library)[0] == "1"
    assert chosen(replace(NO_BINNING, width=50), [dark("1", 5, width=50), library[1]])[0] == "1"
    assert chosen(NO_BINNING, [*library, dark("open", 9, states_binning=False)])[0] == "open"
    flats = [flat("1", 5), flat("2", 1, settings=BINNED)]
    assert "there are flats of binning 1x1, 2x2" in refused(NO_BINNING, flats, "flat")


def test_a_binning_of_one_is_assumed_where_no_master_differs() -> None:
    assert chosen(NO_BINNING, [dark("new", 1), dark("old", 9)]) == ("new", "")
    assert chosen(NO_BINNING, [dark("open", 1, states_binning=False), dark("old", 9)]) == ("open", "")
    assert chosen(LIGHT, [dark("open", 1, states_binning=False)]) == ("open", "")
    assert "binning 2x2 against 1x1" in refused(NO_BINNING, [dark("2", settings=BINNED)])


def test_a_dark_that_states_its_binning_goes_before_one_that_does_not() -> None:
    assert chosen(LIGHT, [dark("open", 1, states_binning=False), dark("stated", 9)])[0] == "stated"


def test_readout_modes_differ_in_more_than_case_and_blanks() -> None:
    library = [dark("low", 9, settings=of(readout_mode="Low Noise")), dark("high", settings=of(readout_mode="High"))]
    assert chosen(replace(LIGHT, settings=of(readout_mode=" low  noise ")), library) == ("low", "")
    assert "readout mode Low Noise against Ultra" in refused(
        replace(LIGHT, settings=of(readout_mode="Ultra")), [library[0]]
    )
    spelled = [
        dark("low", 9, settings=of(readout_mode="Low Noise")),
        dark("LOW", settings=of(readout_mode="LOW NOISE")),
    ]
    assert chosen(LIGHT, spelled)[0] == "LOW"
    assert "darks of readout mode High, Low Noise;" in refused(LIGHT, library)


def test_a_dark_of_another_egain_is_named_where_nothing_records_the_gain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night = Night(tmp_path)
    n.write_frames(night.darks, n.samples(4, 600, seed=1), "Dark Frame", 60.0, GAIN=None, EGAIN=0.25)
    assert not night.run().is_error
    for egain, is_other in ((0.255, False), (1.0, True)):
        light = n.samples(1, 1500, seed=2)
        (path,) = n.write_frames(
            night.root / f"{egain}", light, "Light Frame", 60.0, stem=f"l{egain}", GAIN=None, EGAIN=egain
        )
        caplog.clear()
        CalibrationApplier(night.config()).calibrate_file(path, tmp_path / "cal", flat="none")
        assert ("is 0.25, of the frame 1, and GAIN is not recorded" in caplog.text) is is_other


# --- flats ---

NO_FILTER = replace(LIGHT, filter_name=None)


def test_a_light_without_a_filter_takes_the_flat_without_one_if_all_else_is_equal() -> None:
    library = [flat("R", 1), flat("open", 30, filter_name=None)]
    assert chosen(NO_FILTER, library, "flat")[0] == "open"
    name, said = chosen(LIGHT, library, "flat")
    assert (name, said) == ("R", "")


def test_the_only_filter_goes_before_a_flat_that_records_nothing() -> None:
    library = [flat("R", 9), flat("nothing", 1, filter_name=None, settings=NOTHING)]
    name, said = chosen(NO_FILTER, library, "flat")
    assert name == "R"
    assert "flat R is of filter R, which the frame does not record" in said


def test_several_filters_are_refused_also_beside_a_flat_that_records_nothing() -> None:
    nothing = flat("nothing", 1, filter_name=None, settings=NOTHING)
    said = refused(NO_FILTER, [flat("R"), flat("V", filter_name="V"), nothing], "flat")
    assert "there are flats of R, V; write FILTER into its header" in said


def test_flats_that_differ_in_gain_are_refused_for_a_light_without_it() -> None:
    library = [flat("a"), flat("b", settings=of(gain=0.0))]
    assert "flats of gain 0, 100" in refused(WITHOUT["gain"], library, "flat")


def focal(length_mm: float | None) -> Optics:
    return Optics(telescope="T", focal_length_mm=length_mm)


def test_flats_of_several_focal_lengths_are_refused_for_a_light_without_one() -> None:
    light = replace(LIGHT, optics=focal(None))
    library = [flat("a", optics=focal(500.0)), flat("b", optics=focal(1000.0))]
    said = refused(light, library, "flat")
    assert "names no focal length (FOCALLEN) and there are flats of focal length 500, 1000 mm; write FOCALLEN" in said
    assert chosen(replace(LIGHT, optics=focal(502.0)), library, "flat")[0] == "a"
    assert chosen(light, [*library, flat("open", 9, optics=focal(None))], "flat")[0] == "open"


def test_focal_lengths_that_were_measured_are_one() -> None:
    library = [flat("a", 1, optics=focal(500.0)), flat("b", 2, optics=focal(504.0))]
    assert chosen(replace(LIGHT, optics=focal(None)), library, "flat")[0] == "a"


def test_the_reason_does_not_deny_a_flat_that_records_other_settings() -> None:
    library = [flat("R", 2, optics=turned(10.0)), flat("open", 1, filter_name=None, optics=turned(100.0))]
    name, said = chosen(NO_FILTER, library, "flat")
    assert name == "open"
    assert (
        said
        == "flat open is of rotator angle 100 deg, which the frame does not record: no flat of another fits as well"
    )


# --- angles ---


def turned(rotator_deg: float | None = None, sky_deg: float | None = None) -> Optics:
    return Optics(rotator_deg=rotator_deg, sky_angle_deg=sky_deg)


def pointing(rotator_deg: float | None = None, sky_deg: float | None = None) -> FrameMetadata:
    return replace(LIGHT, optics=turned(rotator_deg, sky_deg))


def test_a_rotator_angle_says_nothing_of_one_on_the_sky() -> None:
    library = [flat("a", optics=turned(sky_deg=100.0)), flat("b", optics=turned(sky_deg=55.0))]
    said = refused(pointing(rotator_deg=55.0), library, "flat")
    assert "names no angle on the sky (ROTSKYPA) (its 55 deg are another angle) and there are flats of 55, 100" in said
    said = refused(pointing(), library, "flat")
    assert "names no angle on the sky (ROTSKYPA) and there are flats of 55, 100 deg" in said


def test_one_angle_of_the_other_kind_is_taken_and_said() -> None:
    name, said = chosen(pointing(rotator_deg=10.0), [flat("a", optics=turned(sky_deg=100.0))], "flat")
    assert name == "a"
    assert "records its angle on the sky (100 deg), the frame that of its rotator (10 deg)" in said
    name, said = chosen(pointing(), [flat("a", optics=turned(sky_deg=100.0))], "flat")
    assert "flat a is of angle on the sky 100 deg, which the frame does not record" in said


def test_a_flat_whose_angle_can_be_compared_goes_before_one_of_the_other_kind() -> None:
    library = [flat("sky", 0.1, optics=turned(sky_deg=10.0)), flat("rotator", 50, optics=turned(rotator_deg=10.0))]
    assert chosen(pointing(rotator_deg=10.2), library, "flat") == ("rotator", "")
    assert chosen(pointing(sky_deg=10.2), library, "flat") == ("sky", "")


def test_flats_that_record_both_angles_serve_lights_with_either() -> None:
    a, b = common_optics([turned(10.0, 100.0)] * 3), common_optics([turned(130.0, 55.0)] * 3)
    library = [flat("a", 5, optics=a), flat("b", optics=b)]
    assert chosen(pointing(sky_deg=100.4), library, "flat")[0] == "a"
    assert chosen(pointing(rotator_deg=129.8), library, "flat")[0] == "b"
    assert chosen(pointing(10.0, 55.0), library, "flat")[0] == "a"
    assert "position angle" in refused(pointing(sky_deg=10.0), library, "flat")


def test_angles_on_the_sky_that_differ_within_a_group_are_none() -> None:
    assert common_optics([turned(10.0, sky) for sky in (100.0, 280.0, 100.0)]) == turned(10.0)
    assert common_optics([turned(10.0, 100.0), turned(10.0, None)]) == turned(10.0)


def test_the_better_one_of_a_session_is_compared_with_flats_of_its_angle_alone() -> None:
    library = [
        flat("worse", 0.1, verdict="warn", optics=turned(90.0)),
        flat("ours", 0.2, verdict="pass", optics=turned(10.0)),
    ]
    assert chosen(pointing(rotator_deg=10.0), library, "flat") == ("ours", "")
