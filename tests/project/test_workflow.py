"""The whole evening against the simulated camera over a real connection, compared with the sensor's truth."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from ostcal import CalibrationWorkflow, DarkCapture, FlatCapture, load_master_bias, load_master_dark, load_master_flat
from ostcal.capture.budget import StepPlan
from ostcal.capture.series_plan import Equipment
from ostcal.cli import main
from ostcal.errors import DeviceError
from ostcal.series.reader import open_series
from ostcal.simulator.sensor import SENSORS
from ostcal.workflow import open_camera
from ostcal.workflow.temperature import warm_up
from support.direct_camera import DirectCamera, FakeClock, Faults, small_sensor
from support.fits_samples import read_with_astropy

N_FRAMES = 6


@pytest.fixture
def evening(tmp_path: Path) -> dict[str, Any]:
    return {
        "dark_capture": {
            "num_darks": N_FRAMES,
            "science_exposure_time": 20.0,
            "exposure_factors": [1.0],
            "output_dir": str(tmp_path / "darks"),
        },
        "flat_capture": {"num_flats": N_FRAMES, "filters": ["L"], "output_dir": str(tmp_path / "flats")},
        "master_frames": {"output_dir": str(tmp_path / "masters")},
        "video": {
            "camera_type": "simulator",
            "simulator": {"time_scale": 400.0},
            "cooling": {"enable_cooling": True},
        },
    }


def ostcal(config: dict[str, Any], folder: Path, *arguments: str) -> Result:
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return CliRunner().invoke(main, [*arguments, "--config", str(path), "--no-confirm"])


def test_masters_of_an_evening_equal_the_truth_of_the_sensor(evening: dict[str, Any]) -> None:
    statuses = CalibrationWorkflow(evening).run()
    assert [name for name, status in statuses.items() if status.is_error] == []
    assert list(statuses) == ["darks", "flats", "flat darks", "masters"]
    sensor = SENSORS["demo"]
    noise_adu = sensor.read_noise_e / sensor.gain_e_per_adu
    bias = load_master_bias(evening)
    assert np.std(bias - sensor.bias_adu()) == pytest.approx(noise_adu / np.sqrt(N_FRAMES), rel=0.1)
    dark_e = (load_master_dark(20.0, evening) - bias) * sensor.gain_e_per_adu / 20.0
    truth_e = sensor.dark_current_e_per_s(temperature_c=-10.0)
    assert np.median(dark_e - truth_e) == pytest.approx(0.0, abs=0.02)
    hot = truth_e > 20
    assert np.median(dark_e[hot] / truth_e[hot]) == pytest.approx(1.0, abs=0.02)
    flat = load_master_flat("L", evening)
    response = sensor.flat_field("L")
    assert np.std(flat / (response / response.mean()) - 1) < 0.005


def test_started_again_only_what_is_missing_is_taken(evening: dict[str, Any], tmp_path: Path) -> None:
    first = ostcal(evening, tmp_path, "darks")
    assert first.exit_code == 0, first.output
    (series,) = (tmp_path / "darks").glob("exp_20*.zarr")
    before = {record.index: record.pixels.checksum for record in open_series(series).records}
    evening["dark_capture"]["num_darks"] = N_FRAMES + 2
    again = ostcal(evening, tmp_path, "darks")
    assert again.exit_code == 0, again.output
    after = {record.index: record.pixels.checksum for record in open_series(series).records}
    assert len(after) == N_FRAMES + 2
    assert before.items() <= after.items()


def test_a_camera_that_always_fails_ends_with_one_line_and_exit_code_1(evening: dict[str, Any], tmp_path: Path) -> None:
    evening["video"]["simulator"]["faults"] = ["busy-at-start:1.0"]
    evening["video"]["cooling"]["enable_cooling"] = False
    result = ostcal(evening, tmp_path, "darks")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "error:" in result.output


def test_without_a_server_there_is_one_line_and_exit_code_1(evening: dict[str, Any], tmp_path: Path) -> None:
    evening["video"] = {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": 9}}
    result = ostcal(evening, tmp_path, "workflow")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert "127.0.0.1" in result.output


def test_the_public_classes_take_a_camera(evening: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    camera = open_camera(evening)
    darks, flats = DarkCapture(evening), FlatCapture(evening)
    assert darks.capture_darks().is_error  # not initialised
    assert "initialize" in darks.get_status()["message"]
    assert darks.initialize(camera).is_success
    assert flats.initialize(camera).is_success
    assert not darks.capture_darks([1.0]).is_error
    assert darks.get_status()["details"]["exposures"] == [0.001, 1.0, 20.0]
    camera.close()


def test_flats_from_python(evening: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    evening["flat_capture"] |= {"filters": [], "num_flats": 2}
    camera = open_camera(evening)
    flats = FlatCapture(evening, logging.getLogger("mine"))
    assert flats.initialize(camera).is_success
    status = flats.capture_flats()
    assert not status.is_error, status.message
    assert flats.get_status() == status.as_dict()
    assert status.details["taken"] == 2
    assert len(status.data["series"]) == 1
    again = flats.capture_flats()
    assert (again.is_success, again.details["taken"]) == (True, 0)
    assert again.details["exposures"] == status.details["exposures"]
    camera.close()
    assert FlatCapture(evening, logging.getLogger("mine")).capture_flats().is_error
    assert [record.name for record in caplog.records if record.levelno == logging.ERROR] == ["mine"]


def test_masters_from_python_without_a_camera(evening: dict[str, Any]) -> None:
    evening["video"] = {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": 9}}
    statuses = CalibrationWorkflow(evening).run("masters")
    assert list(statuses) == ["masters"]
    assert statuses["masters"].is_error  # there are no frames, and no camera was needed to find out


@pytest.mark.parametrize("gain", [100, 200])
def test_frames_say_the_electrons_per_adu_of_their_gain(evening: dict[str, Any], tmp_path: Path, gain: int) -> None:
    evening["video"]["alpaca"] = {"gain": gain}
    evening["video"]["cooling"]["enable_cooling"] = False
    evening["dark_capture"] |= {"num_darks": 1, "exposure_factors": [0.1], "flat_exposure_time": 2.0}
    evening["storage"] = {"export_frames": True}
    expected = SENSORS["demo"].gain_e_per_adu * 10 ** ((100 - gain) / 200)  # 0.1 dB a step
    camera = open_camera(evening)
    darks = DarkCapture(evening)
    assert camera.info.electrons_per_adu == pytest.approx(SENSORS["demo"].gain_e_per_adu)
    assert darks.initialize(camera).is_success
    assert camera.info.electrons_per_adu == pytest.approx(expected)
    assert not darks.capture_darks().is_error
    camera.close()
    (record,) = open_series(tmp_path / "darks" / "exp_2.000s.zarr").records
    assert record.metadata.egain_e_per_adu == pytest.approx(expected)
    (exported,) = (tmp_path / "darks" / "exp_2.000s").glob("*.fits")
    _, header = read_with_astropy(exported)
    assert (header["EGAIN"], header["GAIN"]) == (pytest.approx(expected), gain)


def test_a_run_that_is_declined_takes_nothing(evening: dict[str, Any], tmp_path: Path) -> None:
    evening["video"]["cooling"]["enable_cooling"] = False
    plans: list[StepPlan] = []

    def no(plan: StepPlan) -> bool:
        plans.append(plan)
        return False

    workflow = CalibrationWorkflow(evening, planned=no)
    statuses = workflow.run("flats") | workflow.run("darks")
    assert [plan.step for plan in plans] == ["flats", "darks"]
    assert [status.message for status in statuses.values()] == [
        "flats were not taken: they were declined", "darks were not taken: they were declined",
    ]  # fmt: skip
    assert plans[0].missing == N_FRAMES
    assert plans[0].costs[0].filter_name == "L"
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_gone_before_the_warm_up_costs_no_frames(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock, faults=Faults().fail("status", 1))
    warm_up(Equipment(camera=camera, clock=clock), logging.getLogger("ostcal"))
    assert "the sensor could not be warmed up: direct: status 1 failed" in caplog.text


def test_ascom_elsewhere_than_on_windows_is_explained(evening: dict[str, Any]) -> None:
    evening["video"] = {"camera_type": "ascom"}
    with pytest.raises(DeviceError, match=r"(?i)alpaca"):
        open_camera(evening)
