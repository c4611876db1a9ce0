"""Darks of temperatures nobody took: against known pixels and the simulator's sensor, and when they are refused."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from ostcal.errors import InputError
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.store import MasterStore
from ostcal.science.bias_alone import bias_alone_warning
from ostcal.science.cover import Cover
from ostcal.science.coverage_api import coverage_of
from ostcal.science.dark_of_temperature import TemperatureDark, TemperatureRules, dark_of_temperature
from ostcal.science.match import MatchRules, choose_science_dark
from ostcal.science.synthetic_dark import NoSyntheticDark
from ostcal.simulator.sensor import SENSORS, CosmicRays, Exposure, SensorModel
from support import night as n
from support.night import Night

SHAPE = (120, 160)
SATURATION_ADU = 65535
GAIN_E_PER_ADU = 2.0
READ_NOISE_ADU = 3.0
RULES = TemperatureRules()
MATCH = MatchRules(temperature_tolerance_c=2.0)
TEMPERATURES_C = (-15.0, -5.0, 5.0, 15.0)
EXPOSURE_S = 60.0


class Camera:
    """Pixels of known dark current: classes that double in 5.5, 6 and 7 degrees, most of them quiet, some hot."""

    def __init__(self, *, law: str = "doubling", seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.law = law
        self.bias_adu = 500 + rng.normal(0, 4, SHAPE)
        self.doubling_c = rng.choice([5.5, 6.0, 6.5, 7.0], SHAPE)
        self.rate_at_0_c = rng.lognormal(math.log(0.02), 0.3, SHAPE)  # ADU/s
        hot = rng.random(SHAPE) < 0.05
        self.rate_at_0_c[hot] += rng.lognormal(math.log(5), 1.0, np.count_nonzero(hot))
        self.rate_at_0_c[7, 9] = 800.0  # saturated from 5 C on
        self.glow_adu_per_s = np.zeros(SHAPE)

    def dark_adu(self, exposure_s: float, temperature_c: float) -> NDArray[np.float64]:
        """The truth, ADU."""
        degrees = temperature_c
        if self.law == "Arrhenius":  # with the same slope at 0 C
            degrees = temperature_c * 273.15 / (temperature_c + 273.15)
        rate = self.rate_at_0_c * 2 ** (degrees / self.doubling_c)
        return self.bias_adu + exposure_s * (rate + self.glow_adu_per_s)

    def frames(self, exposure_s: float, temperature_c: float, n: int, rng: np.random.Generator) -> NDArray[np.uint16]:
        signal_e = (self.dark_adu(exposure_s, temperature_c) - self.bias_adu) * GAIN_E_PER_ADU
        samples = rng.poisson(np.minimum(signal_e, 1e6), (n, *SHAPE)) / GAIN_E_PER_ADU
        samples += self.bias_adu + rng.normal(0, READ_NOISE_ADU, (n, *SHAPE))
        return np.clip(np.rint(samples), 0, SATURATION_ADU).astype(np.uint16)


def key(exposure_s: float, temperature_c: float | None, shape: tuple[int, int] = SHAPE) -> GroupKey:
    return GroupKey(
        frame_type=FrameType.DARK if exposure_s > 0.01 else FrameType.BIAS,
        settings=CameraSettings(camera="Cam", gain=100.0),
        width=shape[1],
        height=shape[0],
        exposure_time_s=exposure_s,
        temperature_c=temperature_c,
    )


def light(temperature_c: float, exposure_s: float = EXPOSURE_S, shape: tuple[int, int] = SHAPE) -> GroupKey:
    return replace(key(exposure_s, temperature_c, shape), frame_type=FrameType.LIGHT)


class Shelf:
    """A store of masters of a camera."""

    def __init__(self, folder: Path, camera: Camera | None = None) -> None:
        self.location = str(folder / "masters.zarr")
        self.camera = camera or Camera()
        self.rng = np.random.default_rng(17)
        self.count = 0

    def put(self, about: GroupKey, frames: NDArray[np.uint16]) -> LibraryMaster:
        """Combine frames (n, height, width) to a mean and store it."""
        self.count += 1
        name = f"master_{self.count:02d}"
        master = frames.mean(axis=0, dtype=np.float64).astype(np.float32)
        std = frames.std(axis=0, ddof=1, dtype=np.float64).astype(np.float32)
        writer = MasterStore(self.location).create(name, master.shape, 64)
        for top in range(0, len(master), 64):
            rows = slice(top, top + 64)
            n_used = np.full(master[rows].shape, len(frames), np.uint16)
            writer.write_rows(top, master=master[rows], n_used=n_used, std=std[rows])
        MasterStore(self.location).commit(name, {})
        made_at = datetime(2026, 1, self.count, tzinfo=UTC)
        record = MasterRecord(name=name, key=about, made_at=made_at, calibration_id="")
        return LibraryMaster(record=record, plane=StorePlane(store=self.location, name=name))

    def dark(self, stated_c: float, *, exposure_s: float = EXPOSURE_S, true_c: float | None = None) -> LibraryMaster:
        true_c = stated_c if true_c is None else true_c
        return self.put(key(exposure_s, stated_c), self.camera.frames(exposure_s, true_c, 12, self.rng))

    def bias(self) -> LibraryMaster:
        return self.put(key(0.0, 0.0), self.camera.frames(0.0, 0.0, 30, self.rng))

    def matrix(self, temperatures_c: Sequence[float] = TEMPERATURES_C, *, bias: bool = True) -> list[LibraryMaster]:
        return [*([self.bias()] if bias else []), *map(self.dark, temperatures_c)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("temperatures"))


@pytest.fixture(scope="module")
def matrix(shelf: Shelf) -> list[LibraryMaster]:
    return shelf.matrix()


def made(found: TemperatureDark | NoSyntheticDark | None) -> TemperatureDark:
    assert isinstance(found, TemperatureDark), found
    return found


def refusal(found: TemperatureDark | NoSyntheticDark | None) -> str:
    assert isinstance(found, NoSyntheticDark), found
    assert "\n" not in found.message
    return found.message


def refuse_not_within_uncertainty(
    dark: TemperatureDark, truth: NDArray[np.floating], among: NDArray[np.bool_] | None = None
) -> None:
    level, uncertainty = dark.read_with_uncertainty(0, truth.shape[0])
    assert level.dtype == uncertainty.dtype == np.float32
    known = np.isfinite(level) & (truth < 0.9 * SATURATION_ADU)
    known = known if among is None else known & among
    pull = ((level - truth) / uncertainty)[known]
    low, middle, high = np.quantile(pull, (0.1587, 0.5, 0.8413))
    assert 0.8 < (high - low) / 2 < 1.1
    assert abs(middle) < 0.2
    assert np.mean(np.abs(pull) > 4) < 0.003


@pytest.mark.parametrize("law", ["doubling", "Arrhenius"])
@pytest.mark.parametrize("left_out", [-5.0, 5.0])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_temperature_left_out_is_the_truth_within_the_uncertainty(
    tmp_path: Path, law: str, left_out: float, with_bias: bool
) -> None:
    shelf = Shelf(tmp_path, Camera(law=law))
    others = [c for c in (-15.0, -5.0, 0.0, 5.0, 15.0) if c != left_out]
    dark = made(dark_of_temperature(light(left_out), shelf.matrix(others, bias=with_bias), RULES))
    truth = shelf.camera.dark_adu(EXPOSURE_S, left_out)
    refuse_not_within_uncertainty(dark, truth)
    rise = shelf.camera.rate_at_0_c > 1
    refuse_not_within_uncertainty(dark, truth, rise)
    assert 5.4 < dark.warming.quiet.doubling_c < 7.3
    assert dark.warming.warm.doubling_c == pytest.approx(6.2, abs=0.35)
    assert dark.quality.hot_misfit < 0.01
    # The master that is nearest would leave more in, even with all its noise away.
    nearest = shelf.camera.dark_adu(EXPOSURE_S, left_out + 5)
    level = dark.read_rows(0, SHAPE[0])
    hot = rise & (truth < 0.9 * SATURATION_ADU)
    assert np.median(np.abs(level - truth)[hot]) < 0.1 * np.median(np.abs(nearest - truth)[hot])


def test_three_temperatures_and_a_bias_are_enough(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    dark = made(dark_of_temperature(light(6.0), shelf.matrix((-10.0, 2.0, 14.0)), RULES))
    refuse_not_within_uncertainty(dark, shelf.camera.dark_adu(EXPOSURE_S, 6.0))
    assert dark.warming.temperatures_c == (-10.0, 2.0, 14.0)


@pytest.mark.parametrize("law", ["doubling", "Arrhenius"])
def test_three_temperatures_alone_do_not_tell_the_law_which_counts_as_uncertainty(tmp_path: Path, law: str) -> None:
    shelf = Shelf(tmp_path, Camera(law=law))
    dark = made(dark_of_temperature(light(25.0), shelf.matrix((10.0, 20.0, 30.0), bias=False), RULES))
    assert not dark.warming.has_zero
    assert dark.other_law is not None
    truth = shelf.camera.dark_adu(EXPOSURE_S, 25.0)
    level, uncertainty = dark.read_with_uncertainty(0, SHAPE[0])
    hot = (shelf.camera.rate_at_0_c > 1) & (truth < 0.8 * SATURATION_ADU)
    for among in (hot, ~hot & np.isfinite(level)):
        pull = ((level - truth) / uncertainty)[among]
        assert abs(np.median(pull)) < 1
        assert np.mean(np.abs(pull) < 1) > 0.6
        assert np.mean(np.abs(pull) > 4) < 0.003


def test_a_bias_level_that_drifts_between_series_refuses_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    matrix = [shelf.bias()]
    for temperature_c, drift_adu in zip(TEMPERATURES_C, (0.6, -0.5, 0.4, -0.6), strict=True):
        shelf.camera.bias_adu += drift_adu
        matrix.append(shelf.dark(temperature_c))
        shelf.camera.bias_adu -= drift_adu
    dark = made(dark_of_temperature(light(0.0), matrix, RULES))
    left = dark.read_rows(0, SHAPE[0]) - shelf.camera.dark_adu(EXPOSURE_S, 0.0)
    assert abs(np.median(left)) < 0.7


@pytest.mark.parametrize("exposure_s", [20.0, 110.0])
def test_another_exposure_is_scaled_with_the_bias(shelf: Shelf, matrix: list[LibraryMaster], exposure_s: float) -> None:
    dark = made(dark_of_temperature(light(0.0, exposure_s), matrix, RULES))
    assert dark.share == pytest.approx(exposure_s / EXPOSURE_S)
    refuse_not_within_uncertainty(dark, shelf.camera.dark_adu(exposure_s, 0.0))
    assert "there is no bias to scale" in refusal(dark_of_temperature(light(0.0, exposure_s), matrix[1:], RULES))
    assert "max_scale_up" in refusal(dark_of_temperature(light(0.0, 130.0), matrix, RULES))


def test_pixels_with_glow_do_not_begin_at_the_bias(tmp_path: Path) -> None:
    camera = Camera()
    camera.glow_adu_per_s[:30, 100:] = 2.0  # 120 ADU at each temperature
    shelf = Shelf(tmp_path, camera)
    matrix = shelf.matrix()
    glows = camera.glow_adu_per_s > 0
    for exposure_s in (EXPOSURE_S, 30.0):
        dark = made(dark_of_temperature(light(0.0, exposure_s), matrix, RULES))
        refuse_not_within_uncertainty(dark, camera.dark_adu(exposure_s, 0.0), glows)
        refuse_not_within_uncertainty(dark, camera.dark_adu(exposure_s, 0.0), ~glows)


def test_a_pixel_that_saturates_has_a_dark_where_it_does_not(shelf: Shelf, matrix: list[LibraryMaster]) -> None:
    truth = [shelf.camera.dark_adu(EXPOSURE_S, c)[7, 9] for c in (-10.0, 10.0)]
    assert truth[0] < 0.9 * SATURATION_ADU < SATURATION_ADU < truth[1]
    cold = made(dark_of_temperature(light(-10.0), matrix, RULES))
    level, uncertainty = (plane[7, 9] for plane in cold.read_with_uncertainty(0, SHAPE[0]))
    assert abs(level - truth[0]) < 4 * uncertainty
    assert uncertainty < 0.1 * truth[0]
    warm = made(dark_of_temperature(light(10.0), matrix, RULES))
    assert warm.read_rows(0, SHAPE[0])[7, 9] == SATURATION_ADU
    hotter = Shelf(Path(shelf.location).parent / "hotter")
    hotter.camera.rate_at_0_c[7, 9] = 80_000.0  # at each temperature
    always = made(dark_of_temperature(light(0.0), hotter.matrix(bias=False), RULES))
    assert np.isnan(always.read_rows(0, SHAPE[0])[7, 9])


def test_rows_are_the_same_however_they_are_read_and_wherever(matrix: list[LibraryMaster]) -> None:
    dark = made(dark_of_temperature(light(0.0), matrix, RULES))
    again = pickle.loads(pickle.dumps(dark))
    parts = [again.read_rows(0, 33), again.read_rows(33, SHAPE[0])]
    np.testing.assert_array_equal(np.concatenate(parts), dark.read_rows(0, SHAPE[0]))


@pytest.mark.parametrize("held_bytes", [1, 60_000, 2**20])
def test_a_dark_is_the_same_within_any_memory(matrix: list[LibraryMaster], held_bytes: int) -> None:
    dark = made(dark_of_temperature(light(2.0), matrix, RULES))
    within = replace(dark, held_bytes=held_bytes).read_with_uncertainty(3, SHAPE[0])
    for plane, whole in zip(within, dark.read_with_uncertainty(3, SHAPE[0]), strict=True):
        np.testing.assert_array_equal(plane, whole)


def test_the_memory_of_a_model_grows_less_than_its_masters(tmp_path: Path) -> None:
    shape, rng = (256, 1024), np.random.default_rng(9)
    shelf = Shelf(tmp_path)
    darks = []
    for temperature_c in range(-24, 24, 2):
        level = 500 + 5 * 2 ** (temperature_c / 6)
        samples = rng.normal(level, 3, (3, 64, shape[1])).astype(np.float32)
        darks.append(shelf.put(key(EXPOSURE_S, temperature_c, shape), np.tile(samples, (1, 4, 1))))
    peaks = []
    for some in (darks[::4], darks):
        tracemalloc.start()
        try:
            dark_of_temperature(light(1.0, shape=shape), some, RULES)
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2.5 * peaks[0], peaks  # four times as many masters


def test_the_model_has_a_name_and_says_what_it_is_of(matrix: list[LibraryMaster]) -> None:
    dark = made(dark_of_temperature(light(0.0), matrix, RULES))
    assert dark.description.startswith(f"dark of 0 C from the fit over temperature, model {dark.model_id}, over ")
    for master in matrix[1:]:
        assert f"{master.record.name} ({master.key.temperature_c:g} C)" in dark.description
    assert f"bias {matrix[0].record.name}" in dark.description
    assert made(dark_of_temperature(light(3.0), matrix, RULES)).model_id == dark.model_id
    assert made(dark_of_temperature(light(3.0), matrix[:-1], RULES)).model_id != dark.model_id


# ---- refusals ----


@pytest.mark.parametrize("wrong_c", [-3.0, 3.0])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("temperatures_c", [(-10.0, 0.0, 10.0), (-15.0, -5.0, 5.0, 15.0)])
def test_a_master_of_a_wrong_temperature_is_found(
    tmp_path: Path, temperatures_c: Sequence[float], place: int, wrong_c: float
) -> None:
    shelf = Shelf(tmp_path)
    matrix = shelf.matrix(temperatures_c)
    stated_c = temperatures_c[place]
    matrix[1 + place] = shelf.dark(stated_c, true_c=stated_c + wrong_c)
    message = refusal(dark_of_temperature(light(4.0), matrix, RULES))
    assert "no dark of 4 C can be made" in message
    assert "do not follow one law over temperature" in message
    right = made(dark_of_temperature(light(4.0), shelf.matrix(temperatures_c), RULES))
    assert right.quality.median_ratio < 1.5


def test_three_masters_without_bias_whose_growth_no_sensor_has_are_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    masters = [shelf.dark(-10.0), shelf.dark(0.0, true_c=3.0), shelf.dark(10.0)]
    assert "would double in" in refusal(dark_of_temperature(light(4.0), masters, RULES))


def test_a_bias_of_another_level_is_left_out_of_four_and_refuses_three(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    darks = shelf.matrix(bias=False)
    other = shelf.put(key(0.0, 0.0), shelf.camera.frames(0.0, 0.0, 30, shelf.rng) + np.uint16(40))
    dark = made(dark_of_temperature(light(0.0), [other, *darks], RULES))
    assert not dark.warming.has_zero
    refuse_not_within_uncertainty(dark, shelf.camera.dark_adu(EXPOSURE_S, 0.0))
    assert "one law" in refusal(dark_of_temperature(light(0.0), [other, *darks[:3]], RULES))
    assert "one law" in refusal(dark_of_temperature(light(0.0, 30.0), [other, *darks], RULES))


def test_two_temperatures_are_too_few(shelf: Shelf, matrix: list[LibraryMaster]) -> None:
    message = refusal(dark_of_temperature(light(0.0), matrix[:3], RULES))
    assert "it needs darks of 3 temperatures, there are those of -15, -5 C (60 s)" in message
    near = shelf.dark(-4.6)  # of the temperature of the second
    assert "3 temperatures" in refusal(dark_of_temperature(light(0.0), [*matrix[:3], near], RULES))
    assert dark_of_temperature(light(0.0), matrix[:2], RULES) is None
    assert dark_of_temperature(replace(light(0.0), temperature_c=None), matrix, RULES) is None


@pytest.mark.parametrize(("inside_c", "outside_c"), [(-16.0, -16.5), (16.0, 16.5)])
def test_more_than_a_degree_outside_is_refused(
    shelf: Shelf, matrix: list[LibraryMaster], inside_c: float, outside_c: float
) -> None:
    dark = made(dark_of_temperature(light(inside_c), matrix, RULES))
    refuse_not_within_uncertainty(dark, shelf.camera.dark_adu(EXPOSURE_S, inside_c))
    message = refusal(dark_of_temperature(light(outside_c), matrix, RULES))
    assert "it is 1.5 C outside those of -15, -5, 5, 15 C (60 s), limit 1 C" in message


def test_masters_of_other_settings_and_exposures_are_not_mixed(shelf: Shelf, matrix: list[LibraryMaster]) -> None:
    other = replace(light(0.0), settings=CameraSettings(camera="Cam", gain=0.0))
    assert dark_of_temperature(other, matrix, RULES) is None
    mixed = [matrix[0], *matrix[1:3], shelf.dark(5.0, exposure_s=30.0)]
    assert "3 temperatures" in refusal(dark_of_temperature(light(0.0), mixed, RULES))


# ---- the choice ----


def test_it_comes_after_darks_of_the_temperature_and_before_those_of_others_and_the_bias(
    shelf: Shelf, matrix: list[LibraryMaster]
) -> None:
    chosen = choose_science_dark(light(1.0), matrix, MATCH)
    assert isinstance(chosen.synthetic, TemperatureDark)
    assert {part.master.record.name for part in chosen.parts} == {master.record.name for master in matrix}
    for near_c in (3.5, 7.0):  # within 2 degrees of 5 C: the dark itself would leave its hot pixels in
        assert isinstance(choose_science_dark(light(near_c), matrix, MATCH).synthetic, TemperatureDark)
    fitting = choose_science_dark(light(5.04), matrix, MATCH)
    assert fitting.synthetic is None
    assert [part.master for part in fitting.parts] == [matrix[3]]
    bias = shelf.put(key(0.0, 5.0), shelf.camera.frames(0.0, 5.0, 30, shelf.rng))
    scaled = choose_science_dark(light(5.0, 40.0), [bias, *matrix], MATCH)
    assert scaled.synthetic is None
    assert scaled.scaled
    off = choose_science_dark(light(1.0), matrix, replace(MATCH, dark_temperature_model=False))
    assert [part.master for part in off.parts] == [matrix[0]]
    assert off.refused == ""


def test_where_it_is_refused_the_line_about_the_bias_alone_says_why(matrix: list[LibraryMaster]) -> None:
    chosen = choose_science_dark(light(17.5), matrix, MATCH)
    assert [part.master for part in chosen.parts] == [matrix[0]]
    assert "2.5 C outside" in bias_alone_warning(light(17.5), chosen, matrix, MATCH)
    with pytest.raises(InputError, match=r"no master dark fits .*it is 2\.5 C outside those of -15, -5, 5, 15 C"):
        choose_science_dark(light(17.5), matrix[1:], MATCH)


# ---- the simulator ----

DEMO = replace(SENSORS["demo"], cosmic_rays=CosmicRays(rate_per_cm2_s=0.0), width=320, height=240)
QHY = replace(DEMO, name="qhy", dark=replace(SENSORS["qhy600m"].dark, hot_fraction=0.002), gain_e_per_adu=0.78)


@pytest.mark.parametrize("sensor", [DEMO, QHY], ids=lambda s: s.name)
def test_the_sensor_of_the_simulator(tmp_path: Path, sensor: SensorModel) -> None:
    shelf, rng, shape = Shelf(tmp_path), np.random.default_rng(3), (240, 320)
    masters = []
    for exposure_s, temperature_c in ((0.0, 0.0), *((120.0, c) for c in (-10.0, 0.0, 10.0, 20.0))):
        exposure = Exposure(exposure_time_s=exposure_s, temperature_c=temperature_c)
        frames = np.stack([sensor.expose(exposure, rng) for _ in range(10)])
        masters.append(shelf.put(key(exposure_s, temperature_c, shape), frames))
    dark = made(dark_of_temperature(light(14.0, 120.0, shape), masters, RULES))
    truth = sensor.expected_adu(Exposure(exposure_time_s=120.0, temperature_c=14.0))
    # Pixels that fill up at 20 C are curved, however uncertain they are stated to be.
    fills = sensor.expected_adu(Exposure(exposure_time_s=120.0, temperature_c=20.0))
    refuse_not_within_uncertainty(dark, truth, fills < 0.9 * fills.max())
    assert dark.warming.law.name == "doubling"
    assert dark.warming.warm.doubling_c == pytest.approx(sensor.dark.doubling_c, rel=0.05)


# ---- calibrated frames ----


@pytest.fixture(scope="module")
def uncooled(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A camera without a cooler: bias, and darks of 10 s at four temperatures."""
    night = Night(tmp_path_factory.mktemp("uncooled"))
    uncooled = {"SET_TEMP": None, "EGAIN": 1.0, "RDNOISE": 6.0}
    n.write_bias(night, n.samples(12, 1000.0, seed=60, shape=GLOWING), CCD_TEMP=5.0, **uncooled)
    for index, temperature_c in enumerate((-10.0, 0.0, 10.0, 20.0)):
        stack = n.samples(12, 1000 + 10 * rate_adu_per_s(temperature_c), seed=61 + index, shape=GLOWING)
        n.write_frames(
            night.darks / f"t{index}", stack, "Dark Frame", 10.0, stem=f"t{index}", CCD_TEMP=temperature_c, **uncooled
        )
    made_of_all = night.run_darks()
    assert not made_of_all.is_error, made_of_all.details
    stack = n.samples(1, 2000 + 10 * rate_adu_per_s(14.5), seed=70, shape=GLOWING)
    n.write_frames(night.root / "lights", stack, "Light Frame", 10.0, CCD_TEMP=14.5, **uncooled)
    stack = n.samples(1, 2000 + 10 * rate_adu_per_s(23.0), seed=71, shape=GLOWING)
    n.write_frames(night.root / "warm", stack, "Light Frame", 10.0, CCD_TEMP=23.0, **uncooled)
    return night


GLOWING = (64, 80)


def rate_adu_per_s(temperature_c: float) -> NDArray[np.float64]:
    """Dark current that grows along a row, 0 to 2 ADU/s at 0 C."""
    return np.broadcast_to(np.linspace(0, 2, GLOWING[1]) * 2 ** (temperature_c / 6), GLOWING)


def test_a_light_between_is_calibrated_and_marked(uncooled: Night) -> None:
    (frame,) = sorted((uncooled.root / "lights").glob("*.fits"))
    status = CalibrationApplier(uncooled.config()).calibrate_file(frame, flat="none", uncertainty=True)
    assert not status.is_error, status.details
    said = status.details["warnings"][-1]
    assert "no dark of its temperature, one is made: fit over temperature" in said
    with fits.open(status.data["calibrated"][0]) as file:
        values, header, uncertainty = file[0].data, file[0].header, file["UNCERT"].data
    assert header["SYNTHDRK"] is True
    assert header["SYNTHID"] in said
    assert header["SYNTHTMP"] == 14.5
    assert header["CALSTAT"] == "BD"
    assert header["BIASNAME"].startswith("master_bias")
    assert all(header[f"{card}NAME"].startswith("master_dark") for card in ("DARK", "DRK2", "DRK3", "DRK4"))
    assert np.mean(values) == pytest.approx(1000, abs=0.7)
    # 107 ADU of dark current from end to end of a row
    assert np.polyfit(np.arange(GLOWING[1]), values.mean(axis=0), 1)[0] == pytest.approx(0, abs=0.03)
    assert 6 < np.median(uncertainty) < 40


def test_a_dark_of_more_than_nine_masters_names_all(tmp_path: Path) -> None:
    night = Night(tmp_path)
    uncooled = {"SET_TEMP": None, "EGAIN": 1.0, "RDNOISE": 5.0}
    degrees = [-15.0 + 3 * index for index in range(11)]
    n.write_bias(night, n.samples(6, 1000.0, seed=60, shape=GLOWING), CCD_TEMP=0.0, **uncooled)
    for index, temperature_c in enumerate(degrees):
        stack = n.samples(6, 1000 + 10 * rate_adu_per_s(temperature_c), seed=61 + index, shape=GLOWING)
        n.write_frames(
            night.darks / f"t{index}", stack, "Dark Frame", 10.0, stem=f"t{index}", CCD_TEMP=temperature_c, **uncooled
        )
    done = night.run_darks()
    assert not done.is_error, done.details
    stack = n.samples(1, 2000 + 10 * rate_adu_per_s(13.5), seed=90, shape=GLOWING)
    (frame,) = n.write_frames(night.root / "lights", stack, "Light Frame", 10.0, CCD_TEMP=13.5, **uncooled)
    status = CalibrationApplier(night.config()).calibrate_file(frame, flat="none")
    assert not status.is_error, status.details
    header = fits.getheader(status.data["calibrated"][0])
    assert header["SYNTHDRK"] is True
    names = [header[f"{prefix}NAME"] for prefix in ("DARK", *(f"DRK{i}" for i in range(2, 10)), "D10", "D11")]
    assert len(set(names)) == len(degrees)
    assert header["D11ID"]
    assert header["D11DIG"]


def test_the_model_is_left_out_where_the_configuration_says_so(uncooled: Night) -> None:
    (frame,) = sorted((uncooled.root / "lights").glob("*.fits"))
    config = {**uncooled.config(), "matching": {"dark_temperature_model": False}}
    status = CalibrationApplier(config).calibrate_file(frame, flat="none", overwrite=True)
    assert "the bias alone is subtracted" in status.details["warnings"][-1]
    assert "SYNTHDRK" not in fits.getheader(status.data["calibrated"][0])


def test_a_light_outside_says_why_the_bias_alone_is_subtracted(uncooled: Night) -> None:
    (frame,) = sorted((uncooled.root / "warm").glob("*.fits"))
    status = CalibrationApplier(uncooled.config()).calibrate_file(frame, flat="none", overwrite=True)
    said = status.details["warnings"][-1]
    assert "the bias alone is subtracted" in said
    assert "it is 3.0 C outside those of -10, 0, 10, 20 C (10 s), limit 1 C" in said


def test_coverage_says_that_the_dark_is_made(uncooled: Night) -> None:
    covered = coverage_of(uncooled.config(), [str(uncooled.root / "lights"), str(uncooled.root / "warm")])
    by_temperature = {group.temperature_c: group.covers[FrameType.DARK] for group in covered.groups}
    assert by_temperature[14.5].state is Cover.SCALED
    assert "from the fit over temperature" in by_temperature[14.5].description
    assert by_temperature[23.0].state is Cover.MISSING
    assert "3.0 C outside" in by_temperature[23.0].reason
