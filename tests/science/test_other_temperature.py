"""A dark of another temperature is not taken silently: a fit over temperatures goes before it, or its error is said."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from ostcal.frames import FrameType
from ostcal.science.cover import Cover
from ostcal.science.coverage_api import coverage_of
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

SHAPE = (48, 64)
EXPOSURE_S = 20.0
DOUBLING_C = 6.0
SIGNAL_ADU = 1000.0


def current_adu(temperature_c: float, exposure_s: float = EXPOSURE_S) -> NDArray[np.float64]:
    """Return 4 ADU/s at 5 C in most pixels, and 60 in every 40th."""
    rate = np.full(SHAPE, 4.0)
    rate.flat[::40] = 60.0
    return exposure_s * rate * 2 ** ((temperature_c - 5.0) / DOUBLING_C)


def uncooled(root: Path, *temperatures_c: float, bias: bool = True, set_c: float | None = None) -> Night:
    """Give a camera its darks; without a set point, or with one that its sensor is not at."""
    night = Night(root)
    if bias:
        n.write_bias(night, n.samples(12, 1000.0, seed=9, shape=SHAPE), SET_TEMP=set_c, CCD_TEMP=5.0)
    for i, temperature_c in enumerate(temperatures_c):
        stack = n.samples(12, 1000 + current_adu(temperature_c), seed=20 + i, shape=SHAPE)
        cards = {"SET_TEMP": set_c, "CCD_TEMP": temperature_c}
        n.write_frames(night.darks / f"t{i}", stack, "Dark Frame", EXPOSURE_S, stem=f"t{i}", **cards)
    made = night.run_darks()
    assert not made.is_error, made.details
    return night


def light(night: Night, temperature_c: float, name: str, **cards: object) -> Path:
    stack = n.samples(1, 1000 + SIGNAL_ADU + current_adu(temperature_c), seed=50, shape=SHAPE)
    temperatures = {"SET_TEMP": None, "CCD_TEMP": temperature_c, **cards}
    (path,) = n.write_frames(night.root / "lights", stack, "Light Frame", EXPOSURE_S, stem=name, **temperatures)
    return path


def calibrated(night: Night, path: Path, **matching: object) -> tuple[NDArray[np.float32], str]:
    """Return the values of a calibrated light, and the warnings."""
    config = {**night.config(), "matching": matching}
    status = CalibrationApplier(config).calibrate_file(path, flat="none", overwrite=True)
    assert not status.is_error, status.details
    values, _ = read_with_astropy(status.data["calibrated"][0])
    return values, "\n".join(status.details["warnings"])


def medians(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median of the quiet pixels and of the hot ones."""
    hot = np.zeros(SHAPE, bool)
    hot.flat[::40] = True
    return float(np.median(values[~hot])), float(np.median(values[hot]))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return uncooled(tmp_path_factory.mktemp("matrix"), 0.0, 5.0, 10.0, 15.0)


@pytest.mark.parametrize("temperature_c", [3.1, 4.0, 5.2, 6.0, 7.0, 11.5, 15.9])
def test_a_light_near_a_dark_is_calibrated_with_the_fit_over_temperatures(matrix: Night, temperature_c: float) -> None:
    values, said = calibrated(matrix, light(matrix, temperature_c, f"t{temperature_c}"))
    quiet, hot = medians(values)
    assert quiet == pytest.approx(SIGNAL_ADU, abs=3)
    assert hot == pytest.approx(SIGNAL_ADU, abs=0.01 * float(current_adu(temperature_c).max()))
    assert "no dark of its temperature, one is made" in said


def test_lights_of_one_model_are_named_in_one_line(matrix: Night) -> None:
    paths = [light(matrix, temperature_c, f"one{temperature_c}") for temperature_c in (6.0, 7.0, 8.0)]
    status = CalibrationApplier(matrix.config()).calibrate_files(paths, flat="none", overwrite=True)
    (line,) = [line for line in status.details["warnings"] if "no dark of its temperature" in line]
    assert line.startswith(f"{paths[0]} and 2 more: ")


def test_a_dark_of_the_temperature_is_subtracted_as_it_is(matrix: Night) -> None:
    values, said = calibrated(matrix, light(matrix, 5.0, "same"))
    assert said == ""
    assert medians(values)[0] == pytest.approx(SIGNAL_ADU, abs=3)


def test_what_is_left_in_is_said_where_no_fit_reaches(matrix: Night, tmp_path: Path) -> None:
    path = light(matrix, 16.9, "warm")
    values, said = calibrated(matrix, path)
    refuse_wrong_error(said, values)
    assert "1.9 C outside" in said
    config = {**matrix.config(), "dark_capture": {"output_dir": str(tmp_path)}}
    (group,) = coverage_of(config, [path]).groups
    cover = group.covers[FrameType.DARK]
    assert cover.state is Cover.UNSCALED
    assert "take darks of 16.9 C" in cover.reason


def refuse_wrong_error(said: str, values: NDArray[np.float32]) -> None:
    """Check the error that is said against the one that was made: dark current doubles in 6 C, and 6.3 is assumed."""
    found = re.search(r"leaves (\S+) ADU in the median pixel.* and (\S+) ADU in hot pixels", said)
    assert found is not None, said
    for claimed, value in zip(map(float, found.groups()), medians(values), strict=True):
        assert claimed == pytest.approx(value - SIGNAL_ADU, rel=0.15)


@pytest.mark.parametrize("temperature_c", [3.5, 6.5])
def test_one_temperature_alone_says_what_it_leaves_in(tmp_path: Path, temperature_c: float) -> None:
    night = uncooled(tmp_path, 5.0)
    values, said = calibrated(night, light(night, temperature_c, "off"))
    refuse_wrong_error(said, values)
    assert f"master_dark_20.000s is of 5 C, the frame of {temperature_c:g} C" in re.sub(r"_\d{8}_\d{6}", "", said)


def test_without_a_bias_it_is_said_that_the_median_is_not_known(tmp_path: Path) -> None:
    night = uncooled(tmp_path, 5.0, bias=False)
    _, said = calibrated(night, light(night, 6.5, "off"))
    assert "is of 5 C, the frame of 6.5 C" in said
    assert "what is not known in the median pixel" in said


def test_the_fit_can_be_left_out_and_the_error_is_said(matrix: Night) -> None:
    values, said = calibrated(matrix, light(matrix, 6.5, "off"), dark_temperature_model=False)
    refuse_wrong_error(said, values)


def test_a_cooled_camera_is_silent(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    for i, temperature_c in enumerate((-10.0, 0.0, 10.0)):
        stack = n.samples(9, 1000 + 5.0 * np.linspace(0, 0.2, n.SHAPE[1]), seed=i)
        n.write_frames(
            night.darks / f"t{i}", stack, "Dark Frame", 5.0, stem=f"t{i}", SET_TEMP=None, CCD_TEMP=temperature_c
        )
    assert not night.run_darks().is_error
    for off_c in (-0.3, -0.1, 0.1, 0.3):
        cards = {"SET_TEMP": None, "CCD_TEMP": -10.0 + off_c}
        stack = n.samples(1, 2000.0, seed=5)
        (path,) = n.write_frames(tmp_path / "lights", stack, "Light Frame", 5.0, stem=f"off{off_c}", **cards)
        status = CalibrationApplier(night.config()).calibrate_file(path, flat="none", overwrite=True)
        assert status.details["warnings"] == []


# --- a set point says what was wanted, CCD-TEMP what the sensor had ---


@pytest.mark.parametrize("temperature_c", [-0.9, 1.6, 1.9, 2.5, 7.0])
def test_a_driver_that_always_writes_one_set_point_hides_no_temperature(
    written_zero: Night, temperature_c: float
) -> None:
    values, said = calibrated(written_zero, light(written_zero, temperature_c, f"z{temperature_c}", SET_TEMP=0.0))
    assert medians(values)[0] == pytest.approx(SIGNAL_ADU, abs=3)
    assert "no dark of its temperature, one is made" in said


@pytest.fixture(scope="module")
def written_zero(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return uncooled(tmp_path_factory.mktemp("zero"), 0.0, 5.0, 10.0, 15.0, set_c=0.0)


@pytest.mark.parametrize(("dark_c", "light_c"), [(5.0, 6.9), (6.8, 5.0), (5.0, 5.5)])
def test_a_sensor_that_is_not_at_its_set_point_is_said(tmp_path: Path, dark_c: float, light_c: float) -> None:
    night = uncooled(tmp_path, dark_c, set_c=5.0)
    path = light(night, light_c, "off", SET_TEMP=5.0)
    values, said = calibrated(night, path)
    refuse_wrong_error(said, values)
    assert f"is of {dark_c:g} C, the frame of {light_c:g} C" in said
    (group,) = coverage_of({**night.config(), "dark_capture": {"output_dir": str(tmp_path / "no")}}, [path]).groups
    assert group.covers[FrameType.DARK].state is Cover.UNSCALED
    assert group.temperature_c == light_c


def test_a_set_point_counts_where_one_side_has_no_other_temperature(tmp_path: Path) -> None:
    night = uncooled(tmp_path, 5.0, set_c=5.0)
    assert calibrated(night, light(night, 5.0, "set", SET_TEMP=5.0, CCD_TEMP=None))[1] == ""
    assert "the frame of 6.5 C" in calibrated(night, light(night, 5.0, "other", SET_TEMP=6.5, CCD_TEMP=None))[1]


def test_a_regulated_sensor_is_silent(tmp_path: Path) -> None:
    night = uncooled(tmp_path, 5.04, set_c=5.0)
    offs_c = (-0.2, -0.13, -0.05, 0.0, 0.08, 0.17, 0.2)
    paths = [light(night, 5.0 + off_c, f"jitter{off_c}", SET_TEMP=5.0) for off_c in offs_c]
    status = CalibrationApplier(night.config()).calibrate_files(paths, flat="none", overwrite=True)
    assert status.details["warnings"] == []
    (group,) = coverage_of({**night.config(), "dark_capture": {"output_dir": str(tmp_path / "no")}}, paths).groups
    assert group.covers[FrameType.DARK].state is Cover.COVERED
    assert group.temperature_c == 5.0


def test_a_light_without_a_temperature_takes_the_bias_of_its_dark(tmp_path: Path) -> None:
    night = uncooled(tmp_path, 5.0)
    stack = n.samples(12, 1020.0, seed=10, shape=SHAPE)
    cards = {"SET_TEMP": None, "CCD_TEMP": 20.0}
    n.write_frames(night.darks / "warm", stack, "Bias Frame", 0.0, start=n.START + timedelta(days=1), **cards)
    assert not night.run_darks().is_error
    seconds = EXPOSURE_S / 2
    stack = n.samples(1, 1000 + SIGNAL_ADU + current_adu(5.0, seconds), seed=51, shape=SHAPE)
    unknown = {"SET_TEMP": None, "CCD_TEMP": None, "start": n.START + timedelta(days=1, hours=1)}
    (path,) = n.write_frames(tmp_path / "lights", stack, "Light Frame", seconds, stem="open", **unknown)
    values, said = calibrated(night, path)
    assert medians(values)[0] == pytest.approx(SIGNAL_ADU, abs=3)
    assert "is of temperature 5 C, which the frame does not record" in said
