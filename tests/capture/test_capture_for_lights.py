"""Flats at a fixed exposure with a brightness that is sought, and the flats that lights of a night need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal import FlatCapture
from ostcal.capture.auto_exposure import ExposureRules, Trial, is_accepted
from ostcal.capture.flats import FlatReport, FlatRules, capture_flats
from ostcal.capture.panel_brightness import PanelTrial, next_brightness
from ostcal.capture.series_plan import Equipment, SeriesSink
from ostcal.clock import FastClock
from ostcal.devices.alpaca import AlpacaCamera, AlpacaCoverCalibrator, AlpacaFilterWheel
from ostcal.frames import CameraSettings, FrameType
from ostcal.series.reader import Series, open_series
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.status import Status
from support.direct_camera import DirectCamera, DirectPanel, DirectWheel, FakeClock, Scene, small_sensor
from support.fits_samples import write_frame
from support.simulator_client import SMALL

SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
FULL = 65535
SCALE = 200.0


# ---- the search ----


@given(right=st.floats(8.0, 3000.0), first=st.integers(1, 4095), power=st.floats(0.7, 1.5), bias_adu=st.floats(0, 2000))
def test_the_brightness_is_found_for_panels_in_proportion_or_not(
    right: float, first: int, power: float, bias_adu: float
) -> None:
    rules = ExposureRules(tolerance=0.15)
    trials: list[PanelTrial] = []
    while (brightness := next_brightness(rules, bias_adu, trials, first, 4095)) is not None:
        light = (0.5 * FULL - bias_adu) * (brightness / right) ** power
        level = min(bias_adu + light, float(FULL))
        saturated = 1.0 if level >= FULL else 0.0
        trials.append(
            PanelTrial(brightness=brightness, trial=Trial(exposure_s=1.0, level_adu=level, saturated_share=saturated))
        )
        assert 1 <= brightness <= 4095
        assert len(trials) <= rules.max_attempts + 2
    assert is_accepted(rules, trials[-1].trial)


@pytest.mark.parametrize(("level", "word"), [(0.01, "lengthen"), (1.0, "shorten")])
def test_a_panel_without_such_a_brightness_is_said(level: float, word: str) -> None:
    trials: list[PanelTrial] = []

    def search() -> None:
        while (brightness := next_brightness(ExposureRules(), 0.0, trials, 128, 255)) is not None:
            trials.append(PanelTrial(brightness=brightness, trial=Trial(exposure_s=2.0, level_adu=level * FULL)))

    with pytest.raises(LookupError, match=rf"2 s at brightness \d+ of 255 gives .* {word} dark_capture.flat_exposure"):
        search()


def take(folder: Path, fixed_s: float, *, panel: bool = True) -> tuple[FlatReport, dict[str, Series], list[int]]:
    clock, scene = FakeClock(), Scene()
    camera = DirectCamera(small_sensor(), clock, scene)
    wheel = DirectWheel(scene)
    light = DirectPanel(scene, steps=4095, e_per_s_per_step=20.0)
    equipment = Equipment(camera=camera, clock=clock, wheel=wheel, cover=light if panel else None)
    rules = FlatRules(
        exposure=ExposureRules(), n_frames=3, filters=("L", "R", "r"), fixed_exposure_s=fixed_s, bias_level_adu=500.0
    )
    report = capture_flats(equipment, SETTINGS, rules, SeriesSink(directory=folder))
    return report, {path.stem: open_series(path) for path in sorted(folder.glob("*.zarr"))}, light.brightnesses


def test_all_filters_have_one_exposure_and_the_level(tmp_path: Path) -> None:
    report, found, brightnesses = take(tmp_path, 4.0)
    assert report.failures == ()
    assert sorted(found) == ["L_exp_4.000s", "R_exp_4.000s", "r_exp_4.000s"]
    levels = [record.pixels.statistics.mean or 0.0 for series in found.values() for record in series.records]
    assert [level / FULL for level in levels] == pytest.approx([0.5] * 9, abs=0.1)
    assert len({b for b in brightnesses if b}) >= 3  # the filters let through 1, 0.3 and 0.2 of the light
    assert brightnesses[-1] == 0
    again, _, _ = take(tmp_path, 4.0)
    assert [outcome.taken for outcome in again.outcomes] == [0, 0, 0]


def test_without_a_panel_or_with_too_little_light_each_filter_is_named(tmp_path: Path) -> None:
    report, found, _ = take(tmp_path / "no", 4.0, panel=False)
    assert "brightness needs a panel" in report.failures[0].reason
    report, found, _ = take(tmp_path / "dim", 0.01)
    assert {failure.filter_name for failure in report.failures} == {"L", "R", "r"}
    assert all("lengthen dark_capture.flat_exposure_time" in failure.reason for failure in report.failures)
    assert found == {}


# ---- lights ----


@pytest.fixture
def port() -> Iterator[int]:
    options = SimulatorOptions(sensor=SMALL, time_scale=SCALE, seed=5, readout_s=0.1)
    with SimulatedObservatory(options) as observatory:
        yield observatory.port


def light(folder: Path, number: int, **cards: Any) -> None:
    values = {"IMAGETYP": "Light Frame", "EXPTIME": 120.0, "DATE-OBS": "2026-11-21T22:00:00", "XBINNING": 1,
              "YBINNING": 1, "GAIN": 100, "OFFSET": 30} | cards  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_frame(folder / f"light_{number}.fits", np.full((40, 60), 1000 + number, np.uint16), **values)


def flats_for(folder: Path, port: int, **keys: Any) -> Status:
    config = {
        "dark_capture": {"num_darks": 2, "output_dir": str(folder / "darks"), **keys.pop("dark_capture", {})},
        "flat_capture": {
            "num_flats": 2, "max_exposure": 60.0, "output_dir": str(folder / "flats"),
            "for_lights": str(folder / "lights"), **keys,
        },
    }  # fmt: skip
    with (
        AlpacaCamera("127.0.0.1", port) as camera,
        AlpacaFilterWheel("127.0.0.1", port, 0) as wheel,
        AlpacaCoverCalibrator("127.0.0.1", port, 0) as cover,
    ):
        flats = FlatCapture(config)
        flats.initialize(Equipment(camera=camera, clock=FastClock(SCALE), wheel=wheel, cover=cover))
        return flats.capture_flats()


def facts(series: Series) -> tuple[Any, ...]:
    angle = series.records[0].metadata.optics.rotator_deg
    return series.settings["filter_name"], series.settings["gain"], tuple(series.settings["binning"]), angle


def test_the_flats_of_the_lights_are_taken_with_their_darks(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    lights = tmp_path / "lights"
    light(lights, 1, FILTER="L", ROTATANG=30.2)
    light(lights, 2, FILTER="L", ROTATANG=29.9)
    light(lights, 3, FILTER="R", ROTATANG=30.0, GAIN=120)
    light(lights, 4, FILTER="G", ROTATANG=30.0, **{"DATE-OBS": "2026-11-18T22:00:00"})
    light(lights, 5, FILTER="OIII-3nm-of-another-wheel")
    status = flats_for(tmp_path, port)
    assert not status.is_error, status.message
    assert "no flats for filter OIII-3nm-of-another-wheel" in caplog.text
    flats = [open_series(path) for path in sorted((tmp_path / "flats").glob("*.zarr"))]
    assert sorted(map(facts, flats)) == [("L", 100.0, (1, 1), 30.0), ("R", 120.0, (1, 1), 30.0)]
    darks = [open_series(path) for path in sorted((tmp_path / "darks").glob("*.zarr"))]
    assert {series.frame_type for series in darks} == {FrameType.DARK}
    wanted = {(series.settings["exposure_time_s"], series.settings["gain"]) for series in flats}
    assert {(series.settings["exposure_time_s"], series.settings["gain"]) for series in darks} == wanted
    again = flats_for(tmp_path, port)
    assert again.details["taken"] == 0


def test_without_lights_a_line_says_so(tmp_path: Path, port: int) -> None:
    status = flats_for(tmp_path, port)
    assert status.is_error
    assert "lights: no science frames are there; set flat_capture.for_lights" in status.message


def test_a_fixed_exposure_needs_to_be_given(tmp_path: Path, port: int) -> None:
    light(tmp_path / "lights", 1, FILTER="L")
    status = flats_for(tmp_path, port, mode="brightness")
    assert "flat_capture.mode: brightness needs an exposure; set dark_capture.flat_exposure_time" in status.message


def test_one_set_of_darks_serves_all_filters(tmp_path: Path, port: int) -> None:
    for number, name in enumerate(("L", "R")):
        light(tmp_path / "lights", number, FILTER=name)
    status = flats_for(tmp_path, port, mode="brightness", dark_capture={"flat_exposure_time": 3.0})
    assert not status.is_error, status.message
    assert sorted(path.stem for path in (tmp_path / "flats").glob("*.zarr")) == ["L_exp_3.000s", "R_exp_3.000s"]
    assert [path.stem for path in (tmp_path / "darks").glob("*.zarr")] == ["exp_3.000s"]
