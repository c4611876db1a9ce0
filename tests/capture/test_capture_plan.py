"""Capture plans and matrices: their files, the order of their points, what fits a night, and what is taken."""

from __future__ import annotations

import itertools
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from ostcal import load_config
from ostcal.capture.exposer import set_point_of
from ostcal.capture.points import COOLING_S_PER_C, STEADY_S, Point, fitting, ordered, unique, waits_s
from ostcal.capture.run_points import PointsReport, capture_points, plan_points
from ostcal.cli import main
from ostcal.config.capture_plan import load_capture_plan
from ostcal.devices.protocols import CameraRequest
from ostcal.devices.safety import gated
from ostcal.errors import ConfigError
from ostcal.frames import FrameType
from ostcal.series.format import LEDGER
from ostcal.series.reader import Series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.workflow.capture_rules import entry_points, point_rules
from ostcal.workflow.open_devices import open_equipment
from support.folders import ROOT
from support.simulator_client import SMALL

SCALE = 200.0


# ---- the file ----


def write_plan(folder: Path, *series: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"series": list(series)}), encoding="utf-8")
    return path


def test_a_plan_is_read_with_all_its_keys(tmp_path: Path) -> None:
    path = write_plan(
        tmp_path,
        {"kind": "bias", "exposure": None, "count": 40, "binning": [1, 1], "gain": 100},
        {"kind": "flat", "exposure": None, "count": 30, "filter": "Ha", "rotation": -12.5, "readout_mode": "fast"},
        {"kind": "dark", "exposure": 60, "count": 20, "temperature": -10, "offset": 30, "binning": 2},
    )
    bias, flat, dark = load_capture_plan(path)
    assert (bias.kind, bias.exposure, bias.count, bias.gain, bias.binning) == ("bias", None, 40, 100, (1, 1))
    assert (flat.filter, flat.rotation, flat.readout_mode, flat.binning) == ("Ha", -12.5, "fast", None)
    assert (dark.exposure, dark.temperature, dark.offset, dark.binning) == (60.0, -10.0, 30, (2, 2))


@pytest.mark.parametrize(("series", "line"), [
    ({"kind": "drak", "count": 1}, "kind: drak is not allowed; write bias, dark or flat"),
    ({"kind": "dark"}, "count: no value; write a whole number of at least 1"),
    ({"kind": "dark", "count": 0}, "count: 0 is not allowed; write a whole number of at least 1"),
    ({"kind": "dark", "count": 1, "temprature": -10}, "temprature: unknown key; did you mean temperature?"),
    ({"kind": "dark", "count": 1, "temperature": "cold"}, "temperature: cold is not allowed; write a number from"),
    ({"kind": "dark", "count": 1, "exposure": 0}, "exposure: 0 is not allowed for darks"),
    ({"kind": "dark", "count": 1, "filter": "R"}, "filter: R is not allowed for dark frames; leave it out"),
    ("dark", "dark is not allowed; write kind, exposure, count"),
])  # fmt: skip
def test_a_wrong_plan_is_one_line_with_file_series_key_and_value(tmp_path: Path, series: Any, line: str) -> None:
    path = write_plan(tmp_path, {"kind": "bias", "count": 3}, series)
    with pytest.raises(ConfigError) as refused:
        load_capture_plan(path)
    assert str(refused.value).startswith(f"{path}: series 2: {line}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["series: null", "series: 3", "serie: []", "{}", "- kind: dark"])
def test_a_file_without_series_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"plan\.yaml"):
        load_capture_plan(path)


def test_an_empty_plan_takes_nothing_in_one_line_and_asks_no_device(tmp_path: Path) -> None:
    config = tmp_path / "night.yaml"
    masters = {"master_frames": {"output_dir": str(tmp_path / "masters")}}
    config.write_text(yaml.safe_dump(masters | {"video": {"alpaca": {"port": 1}}}), encoding="utf-8")
    plan = write_plan(tmp_path)
    assert load_capture_plan(plan) == ()
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(main, ["capture", "--plan", str(plan), "--config", str(config), *more])
        assert result.exit_code == 0, result.output
        said = " ".join(result.output.split())
        assert said.count("the plan has no series, so nothing is to be taken") == 1
        assert "error" not in said


# ---- order, waits, hours ----


def point(temperature_c: float | None = None, gain: float | None = None, **keys: Any) -> Point:
    return Point(
        **{"kind": FrameType.DARK, "count": 5, "exposure_s": 10.0} | keys,
        request=CameraRequest(gain=gain),
        temperature_c=temperature_c,
    )


def travel_c(temperatures: list[float], start_c: float) -> float:
    return sum(abs(later - earlier) for earlier, later in itertools.pairwise([start_c, *temperatures]))


@given(
    st.lists(st.sampled_from([-20.0, -15.0, -10.0, -5.0, 0.0]), min_size=1, max_size=4),
    st.floats(-30, 20),
)
def test_no_other_order_of_the_temperatures_waits_less(temperatures: list[float], sensor_c: float) -> None:
    points = ordered([point(t, gain) for gain in (0.0, 100.0) for t in temperatures], sensor_c)
    visited = [t for t, _ in itertools.groupby(p.temperature_c for p in points)]
    assert sorted(visited) == sorted(set(temperatures))
    least = min(travel_c(list(order), sensor_c) for order in itertools.permutations(set(temperatures)))
    assert travel_c([t for t in visited if t is not None], sensor_c) == pytest.approx(least)
    reckoned = [STEADY_S * (t != sensor_c) for t in visited]
    assert sum(waits_s(points, sensor_c)) == pytest.approx(COOLING_S_PER_C * least + sum(reckoned), abs=STEADY_S + 3)


def test_at_one_temperature_bias_comes_first_then_darks_then_flats() -> None:
    listed = [
        point(-10.0, 0.0, kind=FrameType.FLAT, exposure_s=None, filter_name="R"),
        point(-10.0, 0.0, exposure_s=60.0),
        point(-10.0, 100.0, exposure_s=1.0),
        point(-10.0, 100.0, kind=FrameType.BIAS, exposure_s=0.001),
        point(-10.0, 0.0, exposure_s=10.0),
        point(None, 0.0, exposure_s=99.0),
    ]
    random.Random(1).shuffle(listed)
    found = [(str(p.kind), p.request.gain, p.exposure_s) for p in ordered(listed, 15.0)]
    assert found[0] == ("dark", 0.0, 99.0)
    assert found[-1] == ("flat", 0.0, None)
    of_gain = {gain: [p for p in found[1:-1] if p[1] == gain] for gain in (0.0, 100.0)}
    assert found[1:-1] in (of_gain[0.0] + of_gain[100.0], of_gain[100.0] + of_gain[0.0])
    assert of_gain[100.0] == [("bias", 100.0, 0.001), ("dark", 100.0, 1.0)]
    assert of_gain[0.0] == [("dark", 0.0, 10.0), ("dark", 0.0, 60.0)]


def test_what_does_not_fit_is_left_out_and_a_shorter_one_fits() -> None:
    points = [point(None, exposure_s=float(seconds)) for seconds in (1, 2, 3, 4)]
    assert fitting(points, [100.0, 500.0, 0.0, 50.0], 200.0, None) == ([0, 2, 3], [1])
    assert fitting(points, [100.0, 500.0, 0.0, 50.0], None, None) == ([0, 1, 2, 3], [])


def test_the_wait_for_the_cooler_counts() -> None:
    points = [point(-10.0), point(-20.0)]
    wait_s = STEADY_S + 10 * COOLING_S_PER_C
    assert fitting(points, [10.0, 10.0], 20.0 + 2 * wait_s, 0.0) == ([0, 1], [])
    assert fitting(points, [10.0, 10.0], 19.0 + 2 * wait_s, 0.0) == ([0], [1])
    assert fitting(points, [10.0, 10.0], 19.0 + 2 * wait_s, 0.0, steady_s=STEADY_S - 0.5) == ([0, 1], [])


def test_equal_points_are_one_with_the_larger_number_of_frames() -> None:
    assert [p.count for p in unique([point(-10.0, count=5), point(-10.0, count=9), point(0.0, count=2)])] == [9, 2]


# ---- with a camera ----


class Night:
    """An observer with a plan and a simulated observatory, which is reached over HTTP."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.config = folder / "night.yaml"
        self.write()
        self._port = port

    def write(self, **dark_capture: Any) -> None:
        values = {
            "dark_capture": {
                "num_darks": 2, "science_exposure_time": 5.0, "exposure_factors": [1.0],
                "output_dir": str(self.folder / "darks"), **dark_capture,
            },
            "flat_capture": {"num_flats": 2, "output_dir": str(self.folder / "flats")},
            "master_frames": {"output_dir": str(self.folder / "masters")},
        }  # fmt: skip
        port = getattr(self, "_port", 0)
        alpaca = {"host": "127.0.0.1", "port": port or 1, "filter_wheel_id": 0, "cover_calibrator_id": 0}
        # The simulated sensor cools 200 times faster than a real one, and the clock of this computer does not.
        values["video"] = {"camera_type": "alpaca", "alpaca": alpaca, "cooling": {"steady_time": 0.15}}
        self.config.write_text(yaml.safe_dump(values), encoding="utf-8")

    def ostcal(self, *words: str, **dark_capture: Any) -> Result:
        self.write(**dark_capture)
        return CliRunner().invoke(main, [*words, "--config", str(self.config), "--no-confirm"])

    def capture(self, plan: Path, *options: str) -> Result:
        return self.ostcal("capture", "--plan", str(plan), *options)

    def series(self) -> dict[str, Series]:
        paths = [*(self.folder / "darks").rglob("*.zarr"), *(self.folder / "flats").rglob("*.zarr")]
        return {path.stem: open_series(path) for path in sorted(paths)}

    def frames(self) -> int:
        """Return how many frames are recorded, without opening series that are being written."""
        return sum(1 for _ in (self.folder / "darks").rglob("*.json") if _.parent.name == LEDGER)

    def checksums(self) -> set[str]:
        return {record.pixels.checksum for series in self.series().values() for record in series.records}


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    options = SimulatorOptions(sensor=SMALL, time_scale=SCALE, seed=5, readout_s=0.1)
    with SimulatedObservatory(options) as observatory:
        yield Night(tmp_path, observatory.port)


PLAN = (
    {"kind": "dark", "exposure": 5, "count": 2, "temperature": -10, "gain": 100},
    {"kind": "dark", "exposure": 5, "count": 2, "temperature": 0, "gain": 100},
    {"kind": "bias", "exposure": None, "count": 3, "temperature": -10, "gain": 100},
    {"kind": "flat", "exposure": None, "count": 2, "filter": "R", "gain": 100, "rotation": 30},
)


def test_every_point_is_a_series_with_its_settings(night: Night) -> None:
    result = night.capture(write_plan(night.folder, *PLAN))
    assert result.exit_code == 0, result.output
    found = night.series()
    darks = {name: series for name, series in found.items() if series.frame_type is not FrameType.FLAT}
    assert sorted((name, len(series.records)) for name, series in darks.items()) == [
        ("exp_0.001s_-10.0C", 3), ("exp_5.000s_-10.0C", 2), ("exp_5.000s_0.0C", 2),
    ]  # fmt: skip
    for name, temperature_c in (("exp_5.000s_-10.0C", -10.0), ("exp_5.000s_0.0C", 0.0)):
        assert found[name].settings["set_temperature_c"] == pytest.approx(temperature_c, abs=0.1)
        measured = [record.metadata.ccd_temperature_c for record in found[name].records]
        assert measured == pytest.approx([temperature_c] * 2, abs=1.0)
    (flat,) = (series for series in found.values() if series.frame_type is FrameType.FLAT)
    assert flat.settings["filter_name"] == "R"
    assert [record.metadata.optics.rotator_deg for record in flat.records] == [30.0, 30.0]
    # from the sensor's 18 C the warmer temperature comes first
    taken = [(found[name].records[0].metadata.date_obs, name) for name in darks]
    assert [name for _, name in sorted(taken)] == ["exp_5.000s_0.0C", "exp_0.001s_-10.0C", "exp_5.000s_-10.0C"]


def test_a_plan_that_was_taken_takes_nothing_again(night: Night) -> None:
    plan = write_plan(night.folder, *PLAN[:3])
    night.capture(plan)
    before = {name: len(series.records) for name, series in night.series().items()}
    again = night.capture(plan)
    assert again.exit_code == 0
    assert "nothing is missing" in again.output
    assert {name: len(series.records) for name, series in night.series().items()} == before
    more = [{**series, "count": 4} for series in PLAN[:3]]
    night.capture(write_plan(night.folder, *more))
    assert {len(series.records) for series in night.series().values()} == {4}


def test_a_dry_run_takes_nothing_and_leaves_the_cooler_off(night: Night) -> None:
    result = night.capture(write_plan(night.folder, *PLAN), "--dry-run")
    assert result.exit_code == 0, result.output
    assert "9 frames would be taken" in result.output
    assert night.series() == {}
    too_long = write_plan(night.folder, {"kind": "dark", "exposure": 600, "count": 200})
    result = night.capture(too_long, "--dry-run")
    assert result.exit_code == 0, result.output
    assert re.search(r"plan: takes about 3\d\.\d hours, and the night ends in", " ".join(result.output.split()))


def test_what_does_not_fit_into_the_hours_is_named(night: Night) -> None:
    plan = write_plan(
        night.folder, {"kind": "dark", "exposure": 5, "count": 2}, {"kind": "dark", "exposure": 60, "count": 90}
    )
    result = night.capture(plan, "--max-hours", "0.5")
    assert result.exit_code == 0, result.output
    assert "dark of 60 s: left out, 90 min do not fit into 0.5 hours" in " ".join(result.output.split())
    assert list(night.series()) == ["exp_5.000s"]


class Weather:
    """A safety monitor that says no after a number of exposures."""

    def __init__(self, exposures: int) -> None:
        self.left = exposures
        self.asked = 0

    def refusal(self) -> str | None:
        self.asked += 1
        self.left -= 1
        return "the safety monitor says that it is not safe" if self.left < 0 else None


def capture_in(weather: Weather, night: Night, plan: Path) -> PointsReport:
    """Take a plan as far as the weather allows."""
    night.write()
    config = load_config(night.config)
    with open_equipment(config) as opened:
        equipment = replace(opened, camera=gated(opened.camera, weather.refusal))
        points = entry_points(config, load_capture_plan(plan), opened.camera.info, str(plan))
        rules = point_rules(config, equipment, opened.camera.apply(CameraRequest(gain=100.0)))
        return capture_points(equipment, plan_points(equipment, points, rules), rules)


WARM_PLAN = (
    {"kind": "bias", "exposure": None, "count": 2, "gain": 100},
    {"kind": "dark", "exposure": 1, "count": 2, "gain": 100},
    {"kind": "dark", "exposure": 2, "count": 2, "gain": 100},
    {"kind": "flat", "exposure": None, "count": 2, "filter": "R", "gain": 100},
)


@pytest.mark.parametrize("exposures", [0, 4, 9])
def test_a_sky_that_becomes_unsafe_ends_a_plan_and_every_point_that_is_left_is_named(
    night: Night, exposures: int
) -> None:
    weather, plan = Weather(exposures), write_plan(night.folder, *WARM_PLAN)
    report = capture_in(weather, night, plan)
    assert weather.asked == exposures + 1  # nothing is tried again
    complete = [outcome for outcome in report.outcomes if outcome.is_complete]
    assert len(complete) < len(WARM_PLAN)
    said = [*report.failures, *(outcome.message for outcome in report.outcomes if not outcome.is_complete)]
    assert len(said) == len(WARM_PLAN) - len(complete)
    assert all("the safety monitor says that it is not safe" in line for line in said)
    again = night.capture(plan)
    assert again.exit_code == 0, again.output
    kinds = Counter(str(series.frame_type) for series in night.series().values() for _ in series.records)
    assert kinds == {"bias": 2, "dark": 4, "flat": 2}


def test_frames_taken_before_a_plan_cooled_are_taken_no_second_time(night: Night) -> None:
    plan = write_plan(night.folder, *WARM_PLAN[1:])
    assert night.capture(plan).exit_code == 0
    with open_equipment(load_config(night.config)) as opened:
        opened.camera.cool(5.0)  # and a run that was killed leaves it so
    again = night.capture(plan)
    assert again.exit_code == 0, again.output
    assert "nothing is missing" in again.output
    assert len(night.series()) == 3


@pytest.mark.slow
def test_a_plan_that_ended_waits_for_no_other_temperature(night: Night) -> None:
    temperatures = [{**WARM_PLAN[0], "temperature": temperature_c} for temperature_c in (15, 5)]
    plan = write_plan(night.folder, *temperatures)
    report = capture_in(Weather(1), night, plan)
    assert [outcome.taken for outcome in report.outcomes] == [1]
    assert report.failures == (
        "bias of 0.001 s, gain 100, 5 C: not taken, the safety monitor says that it is not safe",
    )
    with open_equipment(load_config(night.config)) as opened:
        assert set_point_of(opened.camera.status()) == pytest.approx(15, abs=0.1)


@pytest.mark.parametrize(("series", "line"), [
    ({"kind": "flat", "count": 1, "filter": "OIII"}, "series 1: filter: OIII: the wheel has"),
    ({"kind": "dark", "count": 1, "gain": 1e6}, "series 1: gain 1e+06: "),
    ({"kind": "dark", "count": 1, "exposure": 1e6}, "series 1: exposure: 1e+06: "),
])  # fmt: skip
def test_what_the_devices_do_not_have_is_said_before_the_first_frame(
    night: Night, series: dict[str, Any], line: str
) -> None:
    result = night.capture(write_plan(night.folder, series))
    assert result.exit_code == 1
    assert line in " ".join(result.output.split())
    assert night.series() == {}


def test_a_matrix_takes_all_combinations_with_bias_frames_for_each(night: Night) -> None:
    matrix = {"exposures": [2, 4], "gains": [0, 100], "temperatures": [-5, 0]}
    result = night.ostcal("darks", matrix=matrix)
    assert result.exit_code == 0, result.output
    found = night.series()
    expected = {
        f"exp_{exposure}s_gain{gain}_{temperature}.0C"
        for exposure in ("0.001", "2.000", "4.000")
        for gain in (0, 100)
        for temperature in (-5, 0)
    }
    assert set(found) == expected
    assert all(len(series.records) == 2 for series in found.values())
    assert {series.settings["gain"] for series in found.values()} == {0.0, 100.0}
    assert night.ostcal("darks", matrix=matrix, strategy="missing").exit_code == 0
    assert set(night.series()) == expected


def test_a_matrix_of_the_configuration_is_read_back_as_it_was_written() -> None:
    matrix = load_config(
        {"dark_capture": {"matrix": {"binnings": [1, [2, 1]], "gains": ["High", 5]}}}
    ).dark_capture.matrix
    assert matrix.binnings == ((1, 1), (2, 1))
    assert matrix.gains == ("High", 5)
    assert matrix.is_asked
    assert not load_config().dark_capture.matrix.is_asked


def test_the_plan_and_the_matrix_of_the_page_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 3
    for number, text in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        if text.startswith("series:"):
            assert [entry.kind for entry in load_capture_plan(path)] == ["bias", "dark", "flat"]
        else:
            assert load_config(path).warnings == ()


def test_the_commands_of_the_page_can_be_given() -> None:
    page = (ROOT / "docs" / "capture.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ ostcal (.*)$", page, flags=re.MULTILINE)
    assert len(commands) >= 2
    for name, *words in map(shlex.split, commands):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL (POSIX)")
def test_a_plan_that_is_killed_goes_on_where_it_was(night: Night) -> None:
    plan = write_plan(
        night.folder,
        {"kind": "bias", "count": 9},
        {"kind": "dark", "exposure": 20, "count": 9, "temperature": 5},
        {"kind": "dark", "exposure": 20, "count": 9, "temperature": 0},
    )
    night.write()
    command = [
        sys.executable, "-m", "ostcal", "capture", "--plan", str(plan), "--config", str(night.config), "--no-confirm",
    ]  # fmt: skip
    seen: set[str] = set()
    for wanted in (4, 14):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 120
        while night.frames() < wanted and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        process.kill()
        process.wait()
        there = night.checksums()
        assert seen <= there  # what was committed stays
        seen = there
    assert len(seen) < 27
    assert night.capture(plan).exit_code == 0
    assert {len(series.records) for series in night.series().values()} == {9}
    assert len(night.series()) == 3
    assert seen < night.checksums()
    assert len(night.checksums()) == 27
