"""Where nothing fits, the line names the master that lacks least, the nearest in time, and the reason that holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from ostcal.fits.read import FitsPixels
from ostcal.frames import CameraSettings, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import FitsPlane, LibraryMaster
from ostcal.science.match import MatchRules, MaxAges, choose_science_dark, choose_science_flat
from ostcal.science.match_bias import why_no_bias
from support import night as n
from support.night import Night

LIGHT_AT = datetime(2026, 6, 10, 22, tzinfo=UTC)
FRAME = GroupKey(
    frame_type=FrameType.LIGHT,
    settings=CameraSettings(camera="Cam", gain=100.0),
    width=100,
    height=80,
    exposure_time_s=60.0,
    filter_name="R",
    temperature_c=-10.0,
)
PLANE = FitsPlane(fits=FitsPixels(width=100, height=80, bitpix=16, path="nowhere", data_offset=0))
RULES = MatchRules()
STRICT = MatchRules(strict=True, max_ages=MaxAges(bias=60, dark=60))


def master(kind: FrameType, name: str, days: float, **key: Any) -> LibraryMaster:
    at = LIGHT_AT - timedelta(days=days)
    own = {"filter_name": None} if kind is not FrameType.FLAT else {}
    own |= {"exposure_time_s": 0.0} if kind is FrameType.BIAS else {}
    observed = Observed(first=at, last=at, middle=at)
    about = replace(FRAME, **{"frame_type": kind, **own, **key})
    record = MasterRecord(name=name, key=about, made_at=at, calibration_id="", observed=observed)
    return LibraryMaster(record=record, plane=PLANE)


def why_no_dark(library: list[LibraryMaster], key: GroupKey = FRAME, rules: MatchRules = RULES) -> str:
    said = set()
    for order in (library, library[::-1]):
        with pytest.raises(InputError) as error:
            choose_science_dark(key, order, rules, LIGHT_AT)
        said.add(str(error.value))
    (line,) = said
    return line


def test_of_masters_that_lack_the_same_the_nearest_in_time_is_named() -> None:
    gain = replace(FRAME.settings, gain=0.0)
    library = [master(FrameType.DARK, name, days, settings=gain) for name, days in (("a", 150), ("b", 2), ("c", -9))]
    assert "the nearest is b, but gain 0.0 against 100.0" in why_no_dark(library)


def test_the_flat_of_the_nearest_angle_is_named() -> None:
    flats = [
        master(FrameType.FLAT, name, 1, exposure_time_s=1.0, optics=Optics(rotator_deg=angle))
        for name, angle in (("north", 359.0), ("east", 90.0), ("south", 180.2))
    ]
    for angle_deg, name in ((92.0, "east"), (2.0, "north"), (178.0, "south")):
        with pytest.raises(InputError, match=f"the nearest is {name}, but rotator angle"):
            choose_science_flat(replace(FRAME, optics=Optics(rotator_deg=angle_deg)), LIGHT_AT, flats, MatchRules())


def test_with_strict_the_age_is_the_reason_and_no_bias_is_the_nearest() -> None:
    library = [master(FrameType.DARK, "d", 69), master(FrameType.BIAS, "b", 69)]
    said = why_no_dark(library, rules=STRICT)
    assert "the nearest is d, but its frames were taken 69 days before the frame (limit 60)" in said
    said = why_no_dark(library, replace(FRAME, exposure_time_s=40.0), replace(STRICT, max_ages=MaxAges(dark=60)))
    assert "the nearest is d, but its frames were taken 69 days before" in said
    assert "nothing to scale it by" not in said


def test_a_bias_that_is_too_old_to_scale_with_is_named() -> None:
    library = [master(FrameType.DARK, "d", 2), master(FrameType.BIAS, "b", 69)]
    said = why_no_dark(library, replace(FRAME, exposure_time_s=40.0), STRICT)
    assert "exposure 60 s against 40 s, and the bias to scale it by, b, is too old: its frames were taken 69" in said


@pytest.mark.parametrize("has_bias", [True, False])
def test_an_exposure_beyond_the_limit_says_so(*, has_bias: bool) -> None:
    library = [master(FrameType.DARK, "d", 2), *([master(FrameType.BIAS, "b", 2)] if has_bias else [])]
    said = why_no_dark(library, replace(FRAME, exposure_time_s=301.0))
    assert "exposure 60 s against 301 s: dark current is scaled up to 2 times its exposure, matching.max_" in said
    assert "nothing to scale it by" not in said


def test_coverage_names_the_bias_that_is_too_old() -> None:
    said = why_no_bias(FRAME, [master(FrameType.BIAS, "b", 69)], STRICT, LIGHT_AT)
    assert "no master bias fits (100 x 80, gain 100): the nearest is b, but its frames were taken 69 days" in said
    assert "there is none; make one" in why_no_bias(FRAME, [], STRICT, LIGHT_AT)


def test_temperatures_are_written_as_people_do() -> None:
    assert "temperature 0 C against -10 C" in why_no_dark([master(FrameType.DARK, "d", 1, temperature_c=-0.003)])


def test_the_error_of_a_bias_alone_is_of_the_nearest_dark_and_its_own_bias(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for month, bias_adu, rate in ((1, 500, 2.0), (6, 700, 3.0)):
        start = datetime(2026, month, 10, 22, tzinfo=UTC)
        for kind, exposure_s, level in (("Bias", 0.0, bias_adu), ("Dark", 60.0, bias_adu + 60 * rate)):
            stack = n.samples(7, level, seed=int(level))
            n.write_frames(night.darks / f"{kind}{month}", stack, f"{kind} Frame", exposure_s, start=start)
    assert not night.run_darks().is_error
    current_adu = 60 * 3.0 * 2 ** (5 / 6)
    start = datetime(2026, 6, 11, 1, tzinfo=UTC)
    cards = {"SET_TEMP": None, "CCD_TEMP": -5.0}
    stack = n.samples(1, 700 + current_adu + 1000, seed=1)
    (path,) = n.write_frames(tmp_path / "lights", stack, "Light Frame", 60.0, start=start, **cards)
    status = CalibrationApplier(night.config()).calibrate_file(path, flat="none")
    (said,) = [line for line in status.details["warnings"] if "the bias alone is subtracted" in line]
    assert "master_dark_60.000s_night20260610" in said
    amount, times = (float(said.split(text)[1].split()[0]) for text in ("more than ", "about "))
    assert amount * times == pytest.approx(current_adu, rel=0.06)
