"""Quality from raw frames to the report: what was injected into simulated nights is found, and nothing else is."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

import naive
from ostcal import MasterFrameCreator
from ostcal.build.prepare import measure_cameras
from ostcal.build.surveys import survey_all, survey_requests
from ostcal.engine.execution import Execution
from ostcal.frames import FrameType
from ostcal.inputs.gather import gather_inputs, stack_of
from ostcal.inputs.grouping import GroupRules, group_frames
from ostcal.library.store import MasterStore
from ostcal.measure.masters.defects import Defect
from ostcal.simulator.sensor import Exposure, SensorModel
from support import night as n
from support import quality_nights as q
from support.amounts import IS_THOROUGH
from support.night import Night

DQ_HOT = int(Defect.HOT)


def masters_in(night: Night) -> MasterStore:
    return MasterStore(night.masters / "masters.zarr")


def stored(night: Night, start: str) -> tuple[str, dict[str, Any]]:
    """Return name and attributes of the newest master whose name begins so."""
    (*_, newest) = sorted(night.masters.glob(f"masters.zarr/{start}*"))
    return newest.name, dict(masters_in(night).attributes(newest.name))


def opened(night: Night, start: str) -> fits.HDUList:
    """Open the newest master whose name begins so."""
    (*_, newest) = sorted(night.masters.glob(f"{start}*.fits"))
    return fits.open(newest, memmap=False)


def replace_frames(night: Night, series: list[q.Simulated], sensor: SensorModel) -> None:
    """Put other frames in the place of those of a night."""
    for folder in (night.darks, night.flats):
        shutil.rmtree(folder, ignore_errors=True)
    q.write(night, series, sensor, day=1)


# ---- the camera against the truth ----


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(q.SENSORS_TESTED))
def test_gain_read_noise_and_dark_current_are_the_truth(tmp_path: Path, name: str, seed: int) -> None:
    sensor = q.SENSORS_TESTED[name]
    night = q.clean_night(tmp_path, sensor, seed)
    assert q.run(night).exit_code == 0
    camera = q.newest_report(night)["camera"]
    assert camera["camera"] == sensor.name
    assert camera["gain_e_per_adu"] == pytest.approx(sensor.gain_e_per_adu, rel=0.01)
    assert camera["read_noise_e"] == pytest.approx(sensor.read_noise_e, rel=0.02)
    assert camera["read_noise_adu"] == pytest.approx(sensor.read_noise_e / sensor.gain_e_per_adu, rel=0.02)
    rate = float(np.median(sensor.dark_current_e_per_s(-10.0)))
    assert camera["dark_current_e_per_s"] == pytest.approx(rate, rel=0.02)
    assert camera["dark_current_adu_per_s"] == pytest.approx(rate / sensor.gain_e_per_adu, rel=0.02)
    assert camera["bits_used"] == (14 if sensor.adu_step == 4 else 16)
    assert camera["step_adu"] == sensor.adu_step
    for key in ("gain_e_per_adu", "read_noise_e"):
        assert 0 < camera[f"{key}_uncertainty"] < 0.1 * camera[key]
    # a bias level that moves by 1 ADU from one of three series to the next, 20 s apart, looks like dark current
    drift_e_per_s = sensor.gain_e_per_adu * np.sqrt(2) / 20
    assert 0 < camera["dark_current_e_per_s_uncertainty"] < 1.5 * drift_e_per_s
    with opened(night, "master_flat") as hdus:
        assert hdus[0].header["EGAIN"] == pytest.approx(camera["gain_e_per_adu"], rel=1e-5)
        assert hdus[0].header["GAINMEAS"] == pytest.approx(camera["gain_e_per_adu"], rel=1e-5)
        assert hdus[0].header["RDNOISE"] == pytest.approx(camera["read_noise_e"], rel=1e-5)


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    night = q.write(Night(tmp_path), [q.dark(q.DEMO, 20.0)], q.DEMO)
    assert q.run(night).exit_code == 0
    camera = q.newest_report(night)["camera"]
    assert camera["gain_e_per_adu"] is None
    reasons = {entry["name"]: entry["value"] for entry in camera["reasons"]}
    assert reasons["gain_e_per_adu"] == "there are no flats"
    assert "two bias frames" in reasons["read_noise_adu"]
    assert {"dark_current_adu_per_s", "full_well_e", "linearity_percent", "bits_used"} <= reasons.keys()


# ---- hot pixels against the truth ----


@dataclass(frozen=True, kw_only=True)
class HotTruth:
    """Which pixels of a master dark are hot: above 10 sigma of the master and 6 spreads of the pixels around."""

    excess_adu: NDArray[np.floating]
    sigma_adu: NDArray[np.floating]
    """Of the master, of a pixel that is not hot."""
    own_adu: NDArray[np.floating]
    """Of the master, of the pixel itself."""
    spread_adu: NDArray[np.floating]


def hot_truth(sensor: SensorModel, exposure_s: float, count: int) -> HotTruth:
    exposure = Exposure(exposure_time_s=exposure_s)
    cool = replace(sensor, dark=replace(sensor.dark, hot_fraction=0.0))
    pattern = sensor.bias_pattern
    fixed = math.hypot(pattern.pixel_sigma_adu, pattern.column_sigma_adu, pattern.row_sigma_adu)
    sigma = cool.noise_adu(exposure) / math.sqrt(count)
    return HotTruth(
        excess_adu=sensor.expected_adu(exposure) - cool.expected_adu(exposure),
        sigma_adu=sigma,
        own_adu=sensor.noise_adu(exposure) / math.sqrt(count),
        spread_adu=np.hypot(sigma, fixed),
    )


def hot_pixels_found(root: Path, sensor: SensorModel, exposure_s: float, count: int) -> NDArray[np.bool_]:
    night = q.write(Night(root), [q.bias(sensor, count), q.dark(sensor, exposure_s, count)], sensor)
    assert q.run(night, extensions=True).exit_code == 0
    with opened(night, "master_dark_60") as hdus:
        return np.asarray(hdus["DQ"].data & DQ_HOT) > 0


@pytest.mark.parametrize("count", [5, pytest.param(12, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(q.SENSORS_TESTED))
def test_99_percent_of_hot_pixels_are_found_and_hardly_others(tmp_path: Path, name: str, count: int) -> None:
    sensor = q.SENSORS_TESTED[name]
    sensor = replace(sensor, dark=replace(sensor.dark, hot_fraction=0.01))
    truth, found = hot_truth(sensor, 60.0, count), hot_pixels_found(tmp_path, sensor, 60.0, count)
    hot = truth.excess_adu > 10 * truth.sigma_adu
    assert np.count_nonzero(hot) > 400
    assert np.count_nonzero(hot & found) >= 0.99 * np.count_nonzero(hot)
    assert np.count_nonzero(found & ~hot) < 0.01 * np.count_nonzero(found)


@pytest.mark.parametrize("name", list(q.SENSORS_TESTED))
def test_hot_pixels_near_the_limit_are_judged_as_well_as_noise_allows(tmp_path: Path, name: str) -> None:
    # half of them between 3 and 30 sigma; what is within 3 sigma of a limit may fall on either side
    sensor = q.SENSORS_TESTED[name]
    median = 0.3 if sensor.bayer is not None else 0.8
    sensor = replace(sensor, dark=replace(sensor.dark, hot_fraction=0.02, hot_median_e_per_s=median))
    truth, found = hot_truth(sensor, 60.0, 10), hot_pixels_found(tmp_path, sensor, 60.0, 10)
    limit = np.maximum(10 * truth.sigma_adu, 6 * truth.spread_adu)
    hot = truth.excess_adu > limit + 3 * truth.own_adu
    false = found & (truth.excess_adu < 10 * truth.sigma_adu - 3 * truth.own_adu)
    assert np.count_nonzero(hot) > 400
    assert np.count_nonzero(hot & found) >= 0.99 * np.count_nonzero(hot)
    assert np.count_nonzero(false) < 0.01 * np.count_nonzero(found)


# ---- clean nights ----


@pytest.mark.parametrize("seed", range(10, 20))
def test_ten_clean_nights_give_no_alarm(tmp_path: Path, seed: int) -> None:
    sensor = list(q.SENSORS_TESTED.values())[seed % 3]
    count = (5, 8, 12, 20)[seed % 4]
    night = q.clean_night(tmp_path, sensor, seed, count)
    outcome = q.run(night)
    assert outcome.exit_code == 0
    report = q.newest_report(night)
    assert (q.alarms(report), report["flagged_frames"], report["left_out"]) == (set(), [], [])
    assert {master["verdict"] for master in report["masters"]} == {"warn" if count < 20 else "pass"}
    assert "warning" not in outcome.text.lower()


# ---- injected faults ----


def spot(sensor: SensorModel, radius: float = 30.0) -> NDArray[np.float64]:
    """Return a round spot, 1 in its middle."""
    down, across = np.indices((sensor.height, sensor.width))
    return np.exp(-((down - 60) ** 2 + (across - 150) ** 2) / (2 * radius**2))


def light_in_one_dark(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.dark(sensor, 20.0)
    return series.with_frame(3, series.frames[3] + 60 * np.linspace(0, 1, sensor.width)), 3


def even_light_in_one_dark(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series, lit = q.dark(sensor, 20.0), q.dark(sensor, 20.0, seed=5, light_e_per_s=100.0 * sensor.gain_e_per_adu / 20)
    return series.with_frame(6, lit.frames[6]), 6


def light_that_grows(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.dark(sensor, 60.0, 10)
    # 12 ADU more in each frame; 33 ADU or half of the noise decide, which is the third or fourth frame
    lit = series.frames + 12 * np.arange(10)[:, np.newaxis, np.newaxis] * np.linspace(0.5, 1.5, sensor.width)
    return replace(series, frames=np.rint(lit).astype(np.uint16)), -1


def lamp_that_drifts(sensor: SensorModel) -> tuple[q.Simulated, int]:
    return q.flat(sensor, 10, lamp=np.linspace(1, 1.045, 10).tolist()), -1


def condensation(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.flat(sensor, 10)
    depth = 0.01 * np.maximum(np.arange(10) - 3, 0)[:, np.newaxis, np.newaxis]
    return replace(series, frames=np.rint(series.frames * (1 - depth * spot(sensor))).astype(np.uint16)), -1


def cloud_over_one_flat(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.flat(sensor)
    return series.with_frame(2, series.frames[2] * (1 - 0.05 * spot(sensor, 50.0))), 2


def stars_in_one_dark(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series, rng = q.dark(sensor, 20.0), np.random.default_rng(3)
    sky = np.full((sensor.height, sensor.width), 40.0)
    down, across = np.indices(sky.shape)
    for y, x, peak in zip(rng.uniform(0, 192, 60), rng.uniform(0, 256, 60), rng.lognormal(7, 1, 60), strict=True):
        sky += peak * np.exp(-((down - y) ** 2 + (across - x) ** 2) / 8)
    return series.with_frame(1, series.frames[1] + sky), 1


def half_a_shutter(sensor: SensorModel) -> tuple[q.Simulated, int]:
    """Return flats in one of which the shutter opened late for half of the sensor."""
    series = q.flat(sensor)
    values = series.frames[5].astype(float)
    values[sensor.height // 2 :] *= 0.9
    return series.with_frame(5, values), 5


def warm_dark(sensor: SensorModel) -> tuple[q.Simulated, int]:
    return replace(q.dark(sensor, 20.0), temperatures_c=(-10.0, -10.1, -9.9, -10.0, -8.4, -10.0, -10.0, -10.0)), 4


def jump_of_one_bias(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.bias(sensor)
    noise_adu = sensor.read_noise_e / sensor.gain_e_per_adu
    return series.with_frame(2, series.frames[2].astype(float) + math.ceil(2 * noise_adu)), 2


def step_of_the_bias(sensor: SensorModel) -> tuple[q.Simulated, int]:
    series = q.bias(sensor)
    frames = series.frames.copy()
    frames[4:] += np.uint16(math.ceil(2 * sensor.read_noise_e / sensor.gain_e_per_adu))
    return replace(series, frames=frames), 4


def flat_too_bright(sensor: SensorModel) -> tuple[q.Simulated, int]:
    return q.flat(sensor, lamp=[1, 1, 1, 1, 1, 1, 1.8, 1]), 6


Fault = Callable[[SensorModel], tuple[q.Simulated, int]]
FAULTS: dict[Fault, str] = {
    light_in_one_dark: "light leak",
    even_light_in_one_dark: "light leak",
    light_that_grows: "light leak",
    lamp_that_drifts: "lamp drift",
    condensation: "flat shape",
    cloud_over_one_flat: "flat shape",
    stars_in_one_dark: "unlike others",
    half_a_shutter: "flat shape",
    warm_dark: "temperature",
    jump_of_one_bias: "level jump",
    step_of_the_bias: "level jump",
    flat_too_bright: "level jump",
}


OTHERS = ("bayer", "quiet") if IS_THOROUGH else ("bayer",)


@pytest.mark.parametrize("name", ["demo", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
@pytest.mark.parametrize("fault", list(FAULTS), ids=lambda fault: fault.__name__)
def test_each_fault_is_named_with_its_frame(tmp_path: Path, fault: Fault, name: str) -> None:
    sensor = q.SENSORS_TESTED[name]
    bad, index = fault(sensor)
    usual = [q.bias(sensor), q.dark(sensor, 3.0), q.dark(sensor, 20.0), q.dark(sensor, 60.0), q.flat(sensor)]
    series = [bad if (one.kind, one.exposure_s) == (bad.kind, bad.exposure_s) else one for one in usual]
    night = q.write(Night(tmp_path), series, sensor)
    outcome = q.run(night)
    report = q.newest_report(night)
    named = {file for check, file in q.flagged(report) if check == FAULTS[fault]}
    assert named <= {bad.file(i) for i in range(len(bad.frames))}
    if index >= 0:
        assert named == {bad.file(index)}
    else:  # what grows is named with the first frame that it spoils
        assert named & {bad.file(i) for i in range(2, 8)}
    (line,) = {line for line in _lines(outcome.text) for file in named if file in line and FAULTS[fault] in line}
    assert "warning" in line.lower()
    # frames of the other series are named by nobody, but for flats whose dark is bad
    others = {file for _, file in q.flagged(report)} - {bad.file(i) for i in range(len(bad.frames))}
    assert others == set()


def test_light_in_all_darks_is_a_finding_about_their_master(tmp_path: Path) -> None:
    lit = q.dark(q.DEMO, 20.0, light_e_per_s=20.0)  # 333 ADU, 86 allowed
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), q.dark(q.DEMO, 3.0), lit, q.flat(q.DEMO)], q.DEMO)
    assert q.run(night).exit_code == 0
    report = q.newest_report(night)
    assert ("dark", "light leak") in q.alarms(report)
    (finding,) = [f for f in q.master_of(report, "dark", 20.0)["findings"] if f["check"] == "light leak"]
    assert finding["value"] == pytest.approx(333, rel=0.2)


def test_the_status_names_master_and_frame(tmp_path: Path) -> None:
    bad, index = stars_in_one_dark(q.DEMO)
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), bad], q.DEMO)
    creator = MasterFrameCreator({**night.config(), "quality": {"leave_out": False}})
    status = creator.create_all_master_frames()
    assert status.is_warning
    (name,) = status.details["failed_quality"]
    assert name.startswith("master_dark_20.000s")
    (line,) = [line for line in status.details["warnings"] if "unlike others" in line]
    assert bad.file(index) in line
    assert name in line
    assert {Path(path).exists() for path in status.data["dark"]} == {True}


def _lines(text: str) -> list[str]:
    """Return what the log says, a wrapped line as one."""
    return [" ".join(part.split()) for part in text.replace("\n  ", " ").splitlines()]


def test_a_dark_of_quite_another_temperature_is_left_out_and_named(tmp_path: Path) -> None:
    warm = replace(q.dark(q.DEMO, 20.0), temperatures_c=(-10.0,) * 5 + (-3.0,) + (-10.0,) * 2)
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), warm], q.DEMO)
    outcome = q.run(night)
    report = q.newest_report(night)
    assert q.master_of(report, "dark", 20.0)["n_frames"] == 7
    assert any(warm.file(5) in line for line in report["left_out"])
    assert warm.file(5) in outcome.text.replace("\n", "")


def test_a_fault_of_a_series_in_a_zarr_store_is_named_with_series_and_index(tmp_path: Path) -> None:
    bad, index = jump_of_one_bias(q.DEMO)
    night = q.write(Night(tmp_path), [bad, q.dark(q.DEMO, 20.0), q.flat(q.DEMO)], q.DEMO)
    from_files = q.run(night)
    expected = q.newest_report(night)
    for folder in ("darks", "flats", "masters"):
        (tmp_path / folder).rename(tmp_path / f"moved_{folder}")
    for folder in ("moved_darks", "moved_flats"):
        assert n.ostcal("import", tmp_path / folder, "--config", q.config(night)).exit_code == 0
    assert q.run(night).exit_code == from_files.exit_code == 0
    report = q.newest_report(night)
    flagged = report["flagged_frames"]
    # without its level in the noise, rejection takes many of its samples out too
    assert {(Path(named["series"]).suffix, named["index"]) for named in flagged} == {(".zarr", index)}
    assert {named["check"] for named in flagged} == {"level jump", "rejected samples"}
    keys = ("gain_e_per_adu", "read_noise_e", "bias_level_adu", "full_well_e")
    assert [report["camera"][key] for key in keys] == [expected["camera"][key] for key in keys]


# ---- a master that fails ----


@pytest.fixture
def failed(tmp_path: Path) -> tuple[Night, n.Outcome, q.Simulated]:
    """Make the masters of a night whose darks for the flats hold a flat."""
    dark, flat = q.dark(q.DEMO, q.FLAT_EXPOSURE_S), q.flat(q.DEMO)
    bad = dark.with_frame(4, flat.frames[0])
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), bad, q.dark(q.DEMO, 20.0), flat], q.DEMO)
    return night, q.run(night, extensions=True), bad


def test_a_failed_master_is_written_and_marked_and_the_command_exits_3(
    failed: tuple[Night, n.Outcome, q.Simulated],
) -> None:
    night, outcome, bad = failed
    assert outcome.exit_code == 3
    with opened(night, "master_dark_3") as hdus:
        assert hdus[0].header["QCVERD"] == "FAIL"
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "NUSED", "DQ"]
    with opened(night, "master_bias") as hdus:
        assert hdus[0].header["QCVERD"] == "WARN"
    assert stored(night, "master_dark_3")[1]["verdict"] == "fail"
    report = q.newest_report(night)
    assert report["verdict"] == "fail"
    assert q.master_of(report, "dark", 3.0)["verdict"] == "fail"
    (frame,) = {file for check, file in q.flagged(report) if check == "unlike others"}
    assert frame == bad.file(4)


def test_a_flat_says_that_its_dark_failed(failed: tuple[Night, n.Outcome, q.Simulated]) -> None:
    night, _, _ = failed
    findings = q.master_of(q.newest_report(night), "flat")["findings"]
    (dark,) = [finding for finding in findings if finding["check"] == "dark"]
    assert dark["outcome"] == "warn"
    assert "master_dark_3" in dark["text"]


def test_a_flat_says_that_its_dark_failed_also_where_a_frame_is_left_out(
    failed: tuple[Night, n.Outcome, q.Simulated],
) -> None:
    """The dark is made before the flat is combined once more without the frame."""
    night, _, _ = failed
    night.flats.rename(night.root / "moved_flats")
    assert n.ostcal("import", night.root / "moved_flats", "--config", q.config(night)).exit_code == 0
    (shard,) = night.flats.glob("*.zarr/frames/c/3/0/0")
    data = shard.read_bytes()
    shard.write_bytes(bytes(len(data) // 2) + data[len(data) // 2 :])
    assert q.run(night, "--all").exit_code == 3
    flat = q.master_of(q.newest_report(night), "flat")
    assert flat["n_frames"] == 7
    assert [finding["outcome"] for finding in flat["findings"] if finding["check"] == "dark"] == ["warn"]


@pytest.mark.parametrize("use_failed", [False, True])
def test_a_failed_dark_is_left_out_of_a_later_run_unless_asked_for(
    failed: tuple[Night, n.Outcome, q.Simulated], use_failed: bool
) -> None:
    night, _, _ = failed
    outcome = q.run(night, "--flats-only", quality={"use_failed": use_failed})
    assert outcome.exit_code == 0, outcome.text
    used = q.master_of(q.newest_report(night), "flat")["provenance"]["dark"]
    assert ("master_dark_3" in used) == use_failed


def test_a_failed_dark_says_nothing_of_the_dark_current(failed: tuple[Night, n.Outcome, q.Simulated]) -> None:
    night, _, _ = failed
    ladder = q.newest_report(night)["camera"]["dark_ladder"]
    assert ladder["exposure_time_s"] == [0.0, 20.0]


# ---- from run to run ----


def test_the_second_run_of_the_same_camera_changes_nothing(tmp_path: Path) -> None:
    night = q.clean_night(tmp_path, seed=1)
    q.run(night)
    replace_frames(night, q.clean(q.DEMO, seed=2), q.DEMO)
    outcome = q.run(night)
    report = q.newest_report(night)
    assert q.alarms(report) == set()
    assert "warning" not in outcome.text.lower()
    checks = {finding["check"] for master in report["masters"] for finding in master["findings"]}
    assert checks >= COMPARED


COMPARED = {"level against previous", "pixels against previous", "new hot pixels", "shape against previous"}


def test_a_changed_camera_is_noticed_against_the_masters_before(tmp_path: Path) -> None:
    night = q.clean_night(tmp_path)
    q.run(night)
    changed = replace(q.DEMO, bias_level_adu=540.0, seed=2, dark=replace(q.DEMO.dark, hot_fraction=0.02))
    replace_frames(night, q.clean(changed, seed=2), changed)
    assert q.run(night).exit_code == 0
    found = q.alarms(q.newest_report(night))
    assert {("bias", "level against previous"), ("bias", "pixels against previous")} <= found
    assert {("dark", "level against previous"), ("dark", "new hot pixels"), ("flat", "shape against previous")} <= found


def test_a_month_that_is_built_after_a_later_one_is_not_compared_with_it(tmp_path: Path) -> None:
    warm = replace(q.DEMO, bias_level_adu=540.0)
    winter, summer = Night(tmp_path / "winter"), Night(tmp_path / "summer")
    masters = str(tmp_path / "masters")
    q.write(winter, [q.bias(q.DEMO, seed=1)], q.DEMO)
    q.write(summer, [q.bias(warm, seed=2)], warm, day=150)

    def changed(night: Night) -> bool:
        outcome = q.run(night, "--darks-only", "--all", output_dir=masters)
        assert outcome.exit_code == 0, outcome.text
        path = max(Path(masters).glob("report_*.json"), key=lambda one: one.stat().st_mtime_ns)
        return ("bias", "level against previous") in q.alarms(json.loads(path.read_text(encoding="utf-8")))

    assert [changed(night) for night in (summer, winter, summer, winter)] == [False, False, True, False]


def test_flats_of_two_exposures_are_each_compared_with_their_own(tmp_path: Path) -> None:
    shaded = q.flat(q.DEMO, seed=2)
    shaded = replace(
        shaded, exposure_s=5.0, frames=np.rint(shaded.frames * (1 - 0.2 * spot(q.DEMO, 60.0))).astype(np.uint16)
    )
    night = q.write(Night(tmp_path), [*q.clean(q.DEMO), shaded], q.DEMO)
    q.run(night)
    q.run(night)
    assert q.alarms(q.newest_report(night)) == set()


def test_the_history_grows_by_a_line_for_each_master(tmp_path: Path) -> None:
    night = q.clean_night(tmp_path)
    path = night.masters / "quality_history.jsonl"
    for runs in (1, 2, 3):
        q.run(night, "--all")
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 5 * runs
    (series,) = [
        one
        for one in q.newest_report(night)["history"]
        if one["key"] == "median" and one["subject"].startswith("dark 20 s")
    ]
    assert len(series["points"]) == 3
    assert len({point["value"] for point in series["points"]}) == 1


def test_a_report_made_again_has_the_same_numbers(tmp_path: Path) -> None:
    bad, _ = jump_of_one_bias(q.DEMO)
    night = q.write(Night(tmp_path), [bad, *q.clean(q.DEMO)[1:]], q.DEMO)
    q.run(night)
    first = q.newest_report(night)
    outcome = n.ostcal("report", "--config", tmp_path / "c.yaml")
    assert outcome.exit_code == 0, outcome.text
    again = q.newest_report(night)
    assert len(list(night.masters.glob("report_*.html"))) == len(list(night.masters.glob("report_*.json"))) == 2
    differing = {key for key in first if first[key] != again[key]}
    assert differing <= {"made_at"}


def test_a_report_made_again_shows_all_flats_of_a_run(tmp_path: Path) -> None:
    """Flats of two exposures are two masters of a run, though one of them would do for the other."""
    long = replace(q.flat(q.DEMO, seed=2), exposure_s=5.0)
    night = q.write(Night(tmp_path), [*q.clean(q.DEMO), long], q.DEMO)
    q.run(night)
    first = q.newest_report(night)
    n.ostcal("report", "--config", tmp_path / "c.yaml")
    names = [[master["name"] for master in report["masters"]] for report in (first, q.newest_report(night))]
    assert len(names[0]) == 6
    assert names[0] == names[1]


# ---- clip_spread: noise ----


SMALL = replace(q.DEMO, width=80, height=64)


def test_clipping_by_the_noise_of_the_camera_is_that_of_the_reference_to_the_bit(tmp_path: Path) -> None:
    series = [q.bias(SMALL, 6), q.dark(SMALL, 20.0, 5), q.flat(SMALL, 6)]
    night = q.write(Night(tmp_path), series, SMALL)
    assert q.run(night, clip_spread="noise", extensions=True).exit_code == 0
    camera = q.newest_report(night)["camera"]
    model = naive.Model(
        read_noise_adu=camera["read_noise_adu"],
        gain_e_per_adu=camera["gain_e_per_adu"],
        bias_level_adu=camera["bias_level_adu"],
    )
    assert model.gain_e_per_adu == pytest.approx(SMALL.gain_e_per_adu, rel=0.05)
    for one in series[:2]:
        frames = one.frames.astype(np.int64)
        clip = partial(
            naive.sigma_clip,
            center="median",
            spread="noise",
            iterations=1,
            low=Fraction(3),
            high=Fraction(3),
            noise=naive.series_noise(frames),
            model=model,
        )
        expected = naive.combine_stack(frames, clip)
        with opened(night, f"master_{one.kind}{'_20' if one.kind == 'dark' else ''}") as hdus:
            assert hdus[0].header["REJTYPE"] == "sigma_clip median/noise"
            np.testing.assert_array_equal(hdus[0].data, expected.mean)
            np.testing.assert_array_equal(hdus["NUSED"].data, expected.n_used)


def test_without_a_gain_clipping_by_noise_falls_back_and_says_so(tmp_path: Path) -> None:
    night = q.write(Night(tmp_path), [q.bias(SMALL, 6), q.dark(SMALL, 20.0, 5)], SMALL)
    outcome = q.run(night, clip_spread="noise")
    assert outcome.exit_code == 0
    said = " ".join(outcome.text.split())
    assert "clip_spread is noise, but read noise or gain of the camera is not known (gain: there are" in said
    with opened(night, "master_bias") as hdus:
        assert hdus[0].header["REJTYPE"] == "sigma_clip median/mad"


def test_clipping_by_noise_rejects_an_outlier_of_10_sigma_among_5_frames(tmp_path: Path) -> None:
    bias, noise_adu = q.bias(q.DEMO, 5), q.DEMO.read_noise_e / q.DEMO.gain_e_per_adu
    rng = np.random.default_rng(4)
    where = rng.random(bias.frames.shape[1:]) < 0.01
    frames, which = bias.frames.astype(np.float64), rng.integers(0, 5, where.shape)
    frames[which, *np.indices(where.shape)] += where * 10 * noise_adu
    night = q.write(Night(tmp_path), [replace(bias, frames=np.rint(frames).astype(np.uint16)), q.flat(q.DEMO)], q.DEMO)
    q.run(night, clip_spread="noise", extensions=True)
    with opened(night, "master_bias") as hdus:
        used = np.asarray(hdus["NUSED"].data)
    assert np.count_nonzero(where) > 300
    assert (used[where] <= 4).all()
    assert np.mean(used[~where] < 5) < 0.02


# ---- the configuration decides ----


def test_limits_of_the_configuration_take_effect(tmp_path: Path) -> None:
    warm, _ = warm_dark(q.DEMO)
    night = q.write(Night(tmp_path), [q.bias(q.DEMO), warm], q.DEMO)
    q.run(night)
    assert q.alarms(q.newest_report(night)) == {("dark", "temperature"), ("dark", "set point")}
    found_usually = stored(night, "master_dark_20")[1]["quality"]["master"]["defects"]["hot"]
    quality = {
        "frames": {"temperature_c": 2.0, "set_point_c": 2.0},
        "masters": {"frames": 8, "hot_share_fail": 1e-5},
        "pixels": {"hot_sigma": 30.0, "neighbour_spreads": 18.0},
    }
    outcome = q.run(night, quality=quality, output_dir=str(tmp_path / "others"))
    assert outcome.exit_code == 3
    others = replace_output(night, "others")
    report = q.newest_report(others)
    assert q.alarms(report) == {("dark", "hot pixels")}
    assert q.master_of(report, "bias")["verdict"] == "pass"
    assert 0 < stored(others, "master_dark_20")[1]["quality"]["master"]["defects"]["hot"] < found_usually


@dataclass(frozen=True)
class OtherOutput(Night):
    """A night whose masters are elsewhere."""

    output: str = ""

    @property
    def masters(self) -> Path:
        return self.root / self.output


def replace_output(night: Night, name: str) -> OtherOutput:
    return OtherOutput(night.root, name)


def test_without_quality_control_there_is_nothing_of_it(tmp_path: Path) -> None:
    bad, _ = jump_of_one_bias(q.DEMO)
    night = q.write(Night(tmp_path), [bad, q.dark(q.DEMO, 20.0), q.flat(q.DEMO)], q.DEMO)
    outcome = q.run(night, quality_control=False, extensions=True)
    assert outcome.exit_code == 0
    assert "level jump" not in outcome.text
    for start in ("master_bias", "master_dark_20", "master_flat"):
        with opened(night, start) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "NUSED"]
            assert not {"QCVERD", "EGAIN", "GAINMEAS", "RDNOISE"} & set(hdus[0].header)
        name, attributes = stored(night, start)
        assert attributes["quality"] is None
        assert attributes["verdict"] is None
        assert not masters_in(night).open(name).has("dq")
    assert list(night.masters.glob("report_*")) == []
    history = night.masters / "quality_history.jsonl"
    assert not history.exists()


def test_no_report_where_none_is_wanted(tmp_path: Path) -> None:
    night = q.write(Night(tmp_path), [q.bias(q.DEMO)], q.DEMO)
    q.run(night, quality={"report": False})
    assert list(night.masters.glob("report_*")) == []
    assert stored(night, "master_bias")[1]["quality"]["verdict"] == "warn"


@pytest.fixture(scope="module")
def odd_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Write a night with a few faults, so that its quality has something to say."""
    bad, _ = jump_of_one_bias(q.BAYER)
    shade, _ = cloud_over_one_flat(q.BAYER)
    return q.write(
        Night(tmp_path_factory.mktemp("odd")), [bad, q.dark(q.BAYER, 3.0), q.dark(q.BAYER, 60.0), shade], q.BAYER
    )


def documents(night: Night, output: str) -> dict[str, Any]:
    """Return what is stored of the quality of each master of a run."""
    found = {}
    place = replace_output(night, output)
    for start in ("master_bias", "master_dark_3", "master_dark_60", "master_flat"):
        name, attributes = stored(place, start)
        planes = masters_in(place).open(name)
        found[start] = (
            json.dumps(attributes["quality"], sort_keys=True),
            json.dumps(attributes["camera_properties"], sort_keys=True),
            planes.read_rows("dq", 0, q.BAYER.height).tobytes(),
        )
    return found


@pytest.fixture(scope="module")
def usual_documents(odd_night: Night) -> dict[str, Any]:
    assert q.run(odd_night, output_dir=str(odd_night.root / "usual"), compute={"workers": 1}).exit_code == 0
    return documents(odd_night, "usual")


@pytest.mark.parametrize(
    ("compute", "strip_rows"),
    [
        ({"workers": 2}, "auto"),
        ({"workers": 2}, 7),
        ({"workers": 1}, 32),
        pytest.param({"workers": 2, "scheduler": "processes"}, 64, marks=pytest.mark.slow),
    ],
)
def test_quality_does_not_depend_on_how_the_work_was_shared(
    odd_night: Night, usual_documents: dict[str, Any], compute: dict[str, Any], strip_rows: int | str
) -> None:
    name = f"shared_{strip_rows}_{len(compute)}"
    keys = {"output_dir": str(odd_night.root / name), "compute": compute}
    assert q.run(odd_night, storage={"strip_rows": strip_rows}, **keys).exit_code == 0
    assert documents(odd_night, name) == usual_documents


# ---- a lamp that changes between the flats ----


@pytest.mark.parametrize("name", ["demo", "bayer"])
def test_flats_are_compared_at_the_level_of_their_light_alone(tmp_path: Path, name: str) -> None:
    """Scaled with the offset, colours of a Bayer sensor under a lamp that changes by 30 % make a gain 3 % off."""
    sensor = q.SENSORS_TESTED[name]
    flat = q.flat(sensor, 8, lamp=[0.2, 0.14] * 4)
    q.write(Night(tmp_path), [q.bias(sensor), q.dark(sensor, 20.0), flat], sensor)
    inputs = gather_inputs([str(tmp_path / "darks"), str(tmp_path / "flats")], exclude=str(tmp_path / "masters"))
    groups = group_frames((source.frame for source in inputs.sources.values()), GroupRules()).groups
    stacks = [stack_of([inputs.sources[frame.label] for frame in group.frames]) for group in groups]
    requests = survey_requests(list(zip(groups, stacks, strict=True)))
    surveys = survey_all(requests, Execution(workers=2), 2**30, {})
    (bias, *_) = [group for group in groups if group.key.frame_type is FrameType.BIAS]
    (lit,) = [survey for request, survey in zip(requests, surveys, strict=True) if request.common_level]
    assert lit is not None
    assert [request.dark for request in requests if request.dark is not None] == [groups.index(bias)]
    assert lit.pedestal_adu == pytest.approx(sensor.bias_level_adu, abs=10)
    surveyed = [(group, survey) for group, survey in zip(groups, surveys, strict=True) if survey is not None]
    (camera,) = measure_cameras(surveyed, 65535.0)
    assert camera.gain_e_per_adu == pytest.approx(sensor.gain_e_per_adu, rel=0.01)
