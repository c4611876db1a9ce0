"""Verdicts on masters: clean ones pass, and each fault that is put in is named with its number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome, worst
from ostcal.measure.limits import MasterLimits
from ostcal.measure.masters.against_previous import ComparedMaster, compare_masters
from ostcal.measure.masters.check_master import MasterFacts, check_master
from ostcal.measure.masters.dust import dust_shadows
from ostcal.simulator.sensor import SENSORS, Dust, Filter, SensorModel
from support.amounts import IS_THOROUGH
from support.master_samples import QUIET, Master, combined, frames_of, master_of, plane_reader, small

DEMO, BAYER = SENSORS["demo"], SENSORS["bayer"]
KINDS = [FrameType.BIAS, FrameType.DARK, FrameType.FLAT]


def findings_of(master: Master, method_name: str = "sigma_clip") -> dict[str, Finding]:
    """Return the findings by their word; of several the worst."""
    found: dict[str, Finding] = {}
    for finding in check_master(master.scan(), master.facts(method_name)):
        before = found.get(finding.check)
        if before is None or worst([before, finding]) is not before.outcome:
            found[finding.check] = finding
    return found


def alarms(found: dict[str, Finding]) -> dict[str, Outcome]:
    few = {check for check in found if check == "frames"}
    return {c: f.outcome for c, f in found.items() if f.outcome is not Outcome.PASS and c not in few}


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 11 if IS_THOROUGH else 5))]
)
@pytest.mark.parametrize("sensor", [DEMO, BAYER, QUIET], ids=lambda sensor: sensor.name)
def test_clean_masters_give_no_alarm(sensor: SensorModel, seed: int) -> None:
    n_frames = (5, 9, 20, 40)[seed % 4]
    for kind in KINDS:
        found = findings_of(master_of(small(sensor, seed), kind, n_frames, seed))
        assert alarms(found) == {}
        assert found["frames"].outcome is (Outcome.PASS if n_frames >= 20 else Outcome.WARN)


@pytest.mark.slow
@pytest.mark.parametrize("sensor", [DEMO, BAYER] if IS_THOROUGH else [BAYER], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("exposure_time_s", [5.0, 300.0])
def test_clean_darks_of_whole_sensors_give_no_alarm(sensor: SensorModel, exposure_time_s: float) -> None:
    faster = replace(sensor.dark, rate_e_per_s=sensor.dark.rate_e_per_s * exposure_time_s / 60)
    faster = replace(faster, amp_glow_e_per_s=sensor.dark.amp_glow_e_per_s * exposure_time_s / 60)
    found = findings_of(master_of(replace(sensor, dark=faster), FrameType.DARK, 10))
    assert alarms(found) == {}


def test_findings_hold_their_numbers_for_reports() -> None:
    for kind in KINDS:
        for finding in check_master(*scan_and_facts(master_of(small(DEMO, 1), kind, 5))):
            assert finding.value is not None
            assert np.isfinite(finding.value)
            assert finding.check in Finding.from_dict(finding.as_dict()).check
            assert "\n" not in finding.text


def scan_and_facts(master: Master) -> tuple:  # type: ignore[type-arg]
    return master.scan(), master.facts()


# --- frames and rejection ---


def test_few_frames_are_a_warning_and_two_cannot_be_clipped() -> None:
    found = findings_of(master_of(small(DEMO, 1), FrameType.BIAS, 2))
    assert found["frames"].outcome is Outcome.WARN
    assert (found["frames"].value, found["frames"].limit) == (2, 20)
    assert "cannot tell an outlier" in found["frames"].text


def test_rejected_samples_are_judged_but_not_of_minmax() -> None:
    master = master_of(small(DEMO, 1), FrameType.BIAS, 20)
    for share, outcome in ((0.1, Outcome.WARN), (0.4, Outcome.FAIL)):
        master.rejected_per_frame = (int(share * 300 * 410),) * 20
        assert findings_of(master)["rejected samples"].outcome is outcome
        assert "rejected samples" not in findings_of(master, "minmax")


def test_a_region_that_lost_far_more_is_named() -> None:
    sensor = small(DEMO, 1)
    stack = frames_of(sensor, FrameType.DARK, 5)
    stack[3, 100:200, 100:250] += 500
    found = findings_of(combined(sensor, FrameType.DARK, stack))
    region = found["rejected region"]
    assert region.outcome is Outcome.WARN
    assert region.value == pytest.approx(0.2, abs=0.02)


# --- noise ---


def test_frames_that_are_copies_are_named() -> None:
    sensor = small(DEMO, 1)
    stack = np.repeat(frames_of(sensor, FrameType.BIAS, 1), 5, axis=0)
    assert findings_of(combined(sensor, FrameType.BIAS, stack))["copies"].outcome is Outcome.WARN


def test_a_drift_is_more_noise_over_the_series_than_from_frame_to_frame() -> None:
    sensor = small(DEMO, 1)
    stack = frames_of(sensor, FrameType.DARK, 20) + np.arange(20, dtype=np.uint16)[:, None, None]
    finding = findings_of(combined(sensor, FrameType.DARK, stack))["sample noise"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(np.hypot(5, np.std(np.arange(20), ddof=1)) / 5, rel=0.1)


def test_noise_that_whole_rows_share_is_named() -> None:
    sensor = small(QUIET, 1)
    stack = frames_of(sensor, FrameType.BIAS, 20)
    stack += np.random.default_rng(1).integers(0, 12, (20, 300, 1)).astype(np.uint16)
    finding = findings_of(combined(sensor, FrameType.BIAS, stack))["pixel noise"]
    assert finding.outcome is Outcome.WARN
    assert finding.value is not None
    assert finding.value < 0.4


# --- bias and dark ---


def test_a_master_with_too_many_hot_pixels_fails() -> None:
    sensor = small(DEMO, 1)
    for share, outcome in ((0.06, Outcome.WARN), (0.3, Outcome.FAIL)):
        hot = replace(sensor, dark=replace(sensor.dark, hot_fraction=share, hot_log_sigma=0.5))
        finding = findings_of(master_of(hot, FrameType.DARK, 5))["hot pixels"]
        assert finding.outcome is outcome
        assert finding.value == pytest.approx(share, rel=0.15)


def test_strong_amplifier_glow_is_named_with_its_corner() -> None:
    sensor = small(DEMO, 1)
    glowing = replace(sensor, dark=replace(sensor.dark, amp_glow_e_per_s=200.0))
    finding = findings_of(master_of(glowing, FrameType.DARK, 5))["glow"]
    assert finding.outcome is Outcome.WARN
    assert "corner of the first rows and last columns" in finding.text


def test_light_inside_of_a_dark_is_named() -> None:
    sensor = small(DEMO, 1)
    stack = frames_of(sensor, FrameType.DARK, 5)
    rows, columns = np.mgrid[0:300, 0:410]
    stack += np.rint(80 * np.exp(-((rows - 150) ** 2 + (columns - 180) ** 2) / 2 / 60**2)).astype(np.uint16)
    found = findings_of(combined(sensor, FrameType.DARK, stack))
    assert found["light inside"].outcome is Outcome.WARN
    assert found["glow"].outcome is Outcome.PASS


def test_a_gradient_of_a_dark_is_named() -> None:
    sensor = small(DEMO, 1)
    slope = np.linspace(0, 300, 410).astype(np.uint16)
    finding = findings_of(combined(sensor, FrameType.DARK, frames_of(sensor, FrameType.DARK, 5) + slope))["uniformity"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(270, rel=0.1)


@pytest.mark.parametrize("height_adu", [90, 400, -400])
def test_the_shape_of_a_bias_is_no_light(height_adu: float) -> None:
    master = master_of(small(DEMO, 1), FrameType.BIAS, 20)
    height, width = master.master.shape
    dome = np.sin(np.linspace(0, np.pi, height))[:, np.newaxis] * np.sin(np.linspace(0, np.pi, width))
    master.master += np.float32(height_adu) * dome.astype(np.float32)
    assert alarms(findings_of(master)) == {}


def test_a_dark_may_have_the_shape_of_its_bias() -> None:
    master = master_of(small(DEMO, 1), FrameType.DARK, 20)
    master.master += np.linspace(0, 150, master.master.shape[1], dtype=np.float32)
    scan, facts = master.scan(), master.facts()
    for amplifier_adu, outcome in ((0.0, Outcome.WARN), (150.0, Outcome.PASS)):
        found = check_master(scan, replace(facts, amplifier_adu=amplifier_adu))
        assert {finding.outcome for finding in found if finding.check == "uniformity"} == {outcome}


@pytest.mark.parametrize("side", ["first columns", "last columns", "first rows", "last rows"])
@pytest.mark.parametrize("n", [3, 16, 33])
def test_an_overscan_that_is_left_in_a_flat_is_named_and_is_no_dust(side: str, n: int) -> None:
    master = master_of(replace(small(DEMO, 1), dust=Dust()), FrameType.FLAT, 20)
    rng = np.random.default_rng(1)
    where = {
        "first columns": np.s_[:, :n],
        "last columns": np.s_[:, -n:],
        "first rows": np.s_[:n],
        "last rows": np.s_[-n:],
    }[side]
    master.master[where] = rng.normal(0, 1e-4, master.master[where].shape)
    found = findings_of(master)
    assert found["unlit border"].outcome is Outcome.WARN
    assert f"the {side.split()[0]} {n} {side.split()[1]}" in found["unlit border"].text
    for check in ("dust", "vignetting", "uniformity", "pixels at zero"):
        assert found[check].outcome is Outcome.PASS, found[check].text


def test_the_dark_ends_of_a_spectrum_are_no_overscan() -> None:
    master = master_of(replace(small(DEMO, 1), dust=Dust()), FrameType.FLAT, 20)
    height = master.master.shape[0]
    slit = 0.06 + 0.94 / (1 + np.exp(-(np.arange(height) - 30) / 0.8))
    master.master *= slit.astype(np.float32)[:, np.newaxis]
    assert findings_of(master)["unlit border"].outcome is Outcome.PASS


def _round_field(shape: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    y, x = np.indices(shape)
    return np.hypot(y - shape[0] / 2, x - shape[1] / 2) < 0.45 * min(shape)


def _slit(shape: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    return np.broadcast_to(np.abs(np.arange(shape[0]) - shape[0] / 2)[:, np.newaxis] < 0.15 * shape[0], shape)


def _orders(shape: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    y, x = np.indices(shape)
    return (y + 4 * (x / shape[1]) ** 2) % 20 < 9


@pytest.mark.parametrize("lit", [_round_field, _slit, _orders])
@pytest.mark.parametrize("dim", [0.0, 0.01])
def test_a_flat_that_light_reaches_in_part_is_judged_by_its_bright_parts(lit, dim: float) -> None:  # type: ignore[no-untyped-def]
    master = master_of(replace(small(DEMO, 1), dust=Dust()), FrameType.FLAT, 20)
    where = ~lit(master.master.shape)
    rng = np.random.default_rng(1)
    master.master[where] = dim * master.master[where] + rng.normal(0, 1e-3, int(where.sum()))
    found = findings_of(master)
    finding = found["unlit area"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(where.mean(), abs=0.03)
    for check in ("pixels at zero", "signal to noise", "flat too dim"):
        assert check not in found or found[check].outcome is Outcome.PASS, found[check].text
    assert "vignetting" not in found


def test_corners_that_a_wrong_dark_took_fail() -> None:
    """A fifth of the pixels is at or below zero, and the light falls off to it smoothly."""
    master = master_of(replace(small(DEMO, 1), dust=Dust()), FrameType.FLAT, 20)
    y, x = np.indices(master.master.shape)
    away = np.hypot(y / master.master.shape[0] - 0.5, x / master.master.shape[1] - 0.5)
    master.master *= (1.2 - 2.4 * away).astype(np.float32)
    found = findings_of(master)
    assert "unlit area" not in found
    assert found["pixels at zero"].outcome is Outcome.FAIL


def test_a_bias_of_less_noise_than_a_step_holds_no_copies() -> None:
    sensor = small(DEMO, 1)
    rng = np.random.default_rng(3)
    shape = frames_of(sensor, FrameType.BIAS, 1).shape[1:]
    stack = np.rint(rng.normal(8.05, 0.15, (20, *shape))).astype(np.uint16)
    found = findings_of(combined(sensor, FrameType.BIAS, stack))
    assert "copies" not in found
    assert found["sample noise"].outcome is Outcome.PASS


def test_missing_data_warn_and_fail() -> None:
    master = master_of(small(DEMO, 1), FrameType.DARK, 5)
    master.master[10, 10] = np.nan
    assert findings_of(master)["no data"].outcome is Outcome.WARN
    master.master[10:30] = np.nan
    assert findings_of(master)["no data"].outcome is Outcome.FAIL


@pytest.mark.parametrize("where", [np.s_[:], np.s_[:150], np.s_[:, :200], np.s_[64:128, 64:128]])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_parts_without_data_are_not_judged(kind: FrameType, where: Any) -> None:
    master = master_of(small(DEMO, 1), kind, 5)
    master.master[where], master.std[where], master.n_used[where] = np.nan, np.nan, 0
    found = findings_of(master)
    assert found["no data"].outcome is Outcome.FAIL
    assert found["no data"].text.count("failed above") == 1
    assert all(np.isfinite(finding.value) for finding in found.values() if finding.value is not None)


@pytest.mark.parametrize("shape", [(1, 400), (300, 1), (2, 400)])
def test_neighbours_are_not_compared_where_there_are_none(shape: tuple[int, int]) -> None:
    """One row, as spectrographs bin it: the mean of each column is the row itself."""
    rows, columns = shape
    sensor = small(QUIET, 1)
    stack = np.ascontiguousarray(frames_of(sensor, FrameType.BIAS, 20)[:, :rows, :columns])
    found = findings_of(combined(sensor, FrameType.BIAS, stack))
    assert alarms(found) == {}
    assert "pixel noise" not in found


def test_many_bad_columns_are_named() -> None:
    master = master_of(small(DEMO, 1), FrameType.DARK, 20)
    master.master[:, 20:400:60] += 100
    finding = findings_of(master)["bad columns"]
    assert finding.outcome is Outcome.WARN
    assert finding.text.startswith("7 bad columns: 20, 80, 140,")


# --- flats ---


def test_a_pixel_at_zero_of_a_flat_is_a_warning_and_many_fail() -> None:
    master = master_of(small(BAYER, 1), FrameType.FLAT, 20)
    master.master[77, 99] = 0.0
    finding = findings_of(master)["pixels at zero"]
    assert (finding.outcome, finding.text.split()[0]) == (Outcome.WARN, "1")
    master.master[:10] = 0.0
    assert findings_of(master)["pixels at zero"].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("gain", "check", "outcome"),
    [
        (0.62, "flat too bright", Outcome.WARN),
        (0.5, "flat too bright", Outcome.FAIL),
        (20.0, "flat too dim", Outcome.WARN),
    ],
)
def test_flats_outside_of_their_range_are_named(gain: float, check: str, outcome: Outcome) -> None:
    sensor = replace(small(DEMO, 1), gain_e_per_adu=gain)
    assert findings_of(master_of(sensor, FrameType.FLAT, 5))[check].outcome is outcome


def test_signal_to_noise_of_a_flat_is_that_of_its_electrons() -> None:
    for sensor in (small(DEMO, 1), replace(small(DEMO, 1), full_well_e=1000.0)):
        finding = findings_of(master_of(sensor, FrameType.FLAT, 9))["signal to noise"]
        electrons = 0.5 * sensor.full_well_e * float(np.median(sensor.response()))
        expected = 3 * electrons / np.sqrt(electrons + sensor.read_noise_e**2)
        assert finding.value == pytest.approx(expected, rel=0.06)
        assert finding.outcome is (Outcome.PASS if expected > 100 else Outcome.WARN)


def test_vignetting_and_tilt_are_measured() -> None:
    bare = replace(small(DEMO, 1), dust=Dust())
    for loss, outcome in ((0.2, Outcome.PASS), (0.9, Outcome.WARN)):
        sensor = replace(bare, clear=Filter(name="clear", vignetting=loss))
        found = findings_of(master_of(sensor, FrameType.FLAT, 5))
        response = sensor.response()
        corner = np.median(response[:31, :48]) / np.median(response[112:188, 154:256])
        assert found["vignetting"].value == pytest.approx(corner, abs=0.05)
        assert found["vignetting"].outcome is outcome
        assert found["uniformity"].outcome is Outcome.PASS
    master = master_of(bare, FrameType.FLAT, 5)
    master.master *= np.linspace(0.7, 1.3, 410, dtype=np.float32)
    finding = findings_of(master)["uniformity"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(0.45, abs=0.03)


def test_dust_is_found_where_it_is() -> None:
    bare = replace(DEMO, dust=Dust(), width=820, height=600)
    master = master_of(bare, FrameType.FLAT, 5)
    places = [(100, 120), (300, 500), (500, 700), (450, 200)]
    rows, columns = np.mgrid[0:600, 0:820]
    for depth, (row, column) in zip((0.03, 0.05, 0.08, 0.4), places, strict=True):
        distance = np.hypot(rows - row, columns - column)
        master.master[distance < 24] *= np.float32(1 - depth)
    shadows = dust_shadows(master.scan())
    assert len(shadows) == 4
    for shadow, depth, (row, column) in zip(shadows, (0.4, 0.08, 0.05, 0.03), reversed(places[:4]), strict=False):
        assert shadow.depth == pytest.approx(depth, rel=0.25)
        assert any(np.hypot(shadow.row - y, shadow.column - x) < 32 for y, x in places), (row, column)
    assert findings_of(master)["dust"].outcome is Outcome.WARN


def test_limits_decide() -> None:
    master = master_of(small(DEMO, 1), FrameType.DARK, 5)
    strict = MasterLimits(frames=3, hot_share=0.001)
    found = {f.check: f for f in check_master(master.scan(), master.facts(), strict)}
    assert found["frames"].outcome is Outcome.PASS
    assert (found["hot pixels"].outcome, found["hot pixels"].limit) == (Outcome.WARN, 0.001)


def test_what_is_not_known_is_not_judged() -> None:
    master = master_of(small(DEMO, 1), FrameType.FLAT, 1)
    facts = MasterFacts(method_name="none", judges_outliers=False, rejects_by_count=False, rejected_per_frame=(0,))
    checks = {finding.check for finding in check_master(master.scan(), facts)}
    assert not checks & {"flat too bright", "flat too dim", "signal to noise", "sample noise", "pixel noise", "copies"}


# --- against the previous master ---


def compared(master: Master) -> ComparedMaster:
    return ComparedMaster(
        read_rows=plane_reader(master.master, master.std, master.n_used),
        n_frames=len(master.rejected_per_frame),
        name="master_before",
        adu_per_unit=master.adu_per_unit,
    )


def comparison(new: Master, old: Master) -> dict[str, Finding]:
    found = compare_masters(compared(new), compared(old), new.master.shape, new.kind)  # type: ignore[arg-type]
    return {finding.check: finding for finding in found}


@pytest.mark.parametrize("sensor", [small(DEMO, 1), small(BAYER, 1), small(QUIET, 1)], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("kind", KINDS)
def test_two_masters_of_one_camera_agree(sensor: SensorModel, kind: FrameType) -> None:
    for n_frames in (5, 20):
        found = comparison(master_of(sensor, kind, n_frames, seed=1), master_of(sensor, kind, n_frames, seed=2))
        assert alarms(found) == {}
        assert found["pixels against previous"].value == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_every_finding_names_the_master_it_was_compared_with(kind: FrameType) -> None:
    found = comparison(master_of(small(DEMO, 1), kind, 5, seed=1), master_of(small(DEMO, 1), kind, 5, seed=2))
    assert len(found) >= 2
    assert all("master_before" in finding.text for finding in found.values())


def test_a_level_that_moved_is_named() -> None:
    old = master_of(small(DEMO, 1), FrameType.BIAS, 20)
    new = master_of(replace(small(DEMO, 1), bias_level_adu=515.0), FrameType.BIAS, 20)
    finding = comparison(new, old)["level against previous"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(15, abs=0.5)


def test_new_hot_pixels_are_counted() -> None:
    old = master_of(small(DEMO, 1), FrameType.DARK, 20, seed=1)
    new = master_of(small(DEMO, 1), FrameType.DARK, 20, seed=2)
    new.master.ravel()[np.random.default_rng(1).choice(300 * 410, 1230, replace=False)] += 60
    finding = comparison(new, old)["new hot pixels"]
    assert finding.outcome is Outcome.WARN
    assert finding.value == pytest.approx(0.01, rel=0.1)


def test_dust_that_moved_and_another_sensor_are_named() -> None:
    sensor = replace(small(DEMO, 1), dust=Dust(count=6, depth=0.1, radius_px=30))
    old = master_of(replace(sensor, dust=Dust()), FrameType.FLAT, 20, seed=1)
    found = comparison(master_of(sensor, FrameType.FLAT, 20, seed=2), old)
    assert found["shape against previous"].outcome is Outcome.WARN
    found = comparison(master_of(small(DEMO, 2), FrameType.FLAT, 20), old)
    assert found["pixels against previous"].outcome is Outcome.WARN
