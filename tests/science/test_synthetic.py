"""Darks of exposures nobody took: against the truth of simulated sensors, and when they are refused."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import MasterFrameCreator
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane, find_masters
from ostcal.library.store import MasterStore
from ostcal.science.calibrate_frame import SyntheticError
from ostcal.science.synthetic_dark import (
    NoSyntheticDark,
    SyntheticDark,
    SyntheticRules,
    ladder_dark_currents,
    synthetic_dark,
)
from ostcal.simulator.sensor import SENSORS, CosmicRays, Exposure, SensorModel
from support.fits_samples import write_stored

SIZE = {"width": 400, "height": 300}
DEMO = replace(SENSORS["demo"], cosmic_rays=CosmicRays(rate_per_cm2_s=0.0), **SIZE)
BAYER = replace(SENSORS["bayer"], cosmic_rays=CosmicRays(rate_per_cm2_s=0.0), **SIZE)
QUIET = replace(DEMO, name="quiet", gain_e_per_adu=1.0, read_noise_e=0.5, full_well_e=60_000.0)
RULES = SyntheticRules()
LADDER = (0.0, 10.0, 30.0, 60.0, 120.0)


def key(sensor: SensorModel, exposure_s: float, temperature_c: float = -10.0) -> GroupKey:
    return GroupKey(
        frame_type=FrameType.DARK if exposure_s else FrameType.BIAS,
        settings=CameraSettings(camera=sensor.name, gain=100.0),
        width=sensor.width,
        height=sensor.height,
        exposure_time_s=exposure_s,
        temperature_c=temperature_c,
    )


class Shelf:
    """A store of masters, filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder / "masters.zarr")
        self.count = 0

    def put(self, about: GroupKey, frames: NDArray[np.floating] | NDArray[np.uint16]) -> LibraryMaster:
        """Combine frames (n, height, width) to a mean and store it."""
        self.count += 1
        name = f"master_{self.count:02d}_{about.exposure_time_s:g}s"
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


def exposed(
    sensor: SensorModel, exposure_s: float, rng: np.random.Generator, n: int = 8, temperature_c: float = -10.0
) -> NDArray[np.uint16]:
    exposure = Exposure(exposure_time_s=exposure_s, temperature_c=temperature_c)
    return np.stack([sensor.expose(exposure, rng) for _ in range(n)])


Fill = Callable[[SensorModel, Sequence[float]], list[LibraryMaster]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Fill:
    """Return the function that makes (once) the masters of a sensor's ladder."""
    made: dict[tuple[str, float], LibraryMaster] = {}
    shelf = Shelf(tmp_path_factory.mktemp("ladders"))

    def fill(sensor: SensorModel, exposures_s: Sequence[float]) -> list[LibraryMaster]:
        for exposure_s in exposures_s:
            if (sensor.name, exposure_s) not in made:
                frames = exposed(sensor, exposure_s, np.random.default_rng([7, round(exposure_s)]))
                made[sensor.name, exposure_s] = shelf.put(key(sensor, exposure_s), frames)
        return [made[sensor.name, exposure_s] for exposure_s in reversed(exposures_s)]

    return fill


def allowed(found: SyntheticDark | NoSyntheticDark) -> SyntheticDark:
    assert isinstance(found, SyntheticDark), found
    return found


def refusal(found: SyntheticDark | NoSyntheticDark) -> str:
    assert isinstance(found, NoSyntheticDark)
    assert "\n" not in found.message
    return found.message


@pytest.mark.parametrize("target_s", [2.0, 45.0, 300.0])
@pytest.mark.parametrize("sensor", [DEMO, BAYER, QUIET], ids=lambda s: s.name)
def test_it_is_the_truth_within_the_stated_uncertainty(filled: Fill, sensor: SensorModel, target_s: float) -> None:
    dark = allowed(synthetic_dark(key(sensor, target_s), filled(sensor, LADDER), RULES))
    level, uncertainty = dark.read_with_uncertainty(0, sensor.height)
    truth = sensor.expected_adu(Exposure(exposure_time_s=target_s))
    assert level.dtype == uncertainty.dtype == np.float32
    # Pixels that fill up on the way (a few hot ones) are curved, however uncertain they are stated to be.
    linear = sensor.expected_adu(Exposure(exposure_time_s=max(300.0, target_s))) < 0.9 * truth.max() + 1e4
    pull = ((level - truth) / uncertainty)[linear]
    low, middle, high = np.quantile(pull, (0.1587, 0.5, 0.8413))
    assert (high - low) / 2 == pytest.approx(1.0, abs=0.08)
    assert abs(middle) < 0.15
    assert np.mean(np.abs(pull) > 4) < 0.002
    assert dark.quality is not None
    assert 0.8 < dark.quality.median_ratio < 1.2
    assert dark.quality.hot_misfit < 0.01


def test_rows_are_the_same_however_they_are_read_and_wherever(filled: Fill) -> None:
    dark = allowed(synthetic_dark(key(DEMO, 45.0), filled(DEMO, LADDER), RULES))
    whole = dark.read_rows(0, 300)
    again = pickle.loads(pickle.dumps(dark))
    np.testing.assert_array_equal(np.concatenate([again.read_rows(0, 77), again.read_rows(77, 300)]), whole)
    np.testing.assert_array_equal(SyntheticError(dark=dark).read_rows(10, 20), dark.read_with_uncertainty(10, 20)[1])


def test_the_description_names_masters_exposures_and_chi_square(filled: Fill) -> None:
    dark = allowed(synthetic_dark(key(DEMO, 45.0), filled(DEMO, LADDER), RULES))
    assert dark.description.startswith("dark of 45 s from the fit over ")
    for master in filled(DEMO, LADDER):
        assert f"{master.record.name} ({master.key.exposure_time_s:g} s)" in dark.description
    assert "chi-square" in dark.description
    assert dark.ladder.exposures_s == LADDER


def test_two_masters_give_a_dark_without_a_chi_square(filled: Fill) -> None:
    dark = allowed(synthetic_dark(key(DEMO, 45.0), filled(DEMO, (0.0, 60.0)), RULES))
    assert dark.quality is None
    assert "no chi-square" in dark.description


@pytest.mark.parametrize("sensor", [DEMO, BAYER, QUIET], ids=lambda s: s.name)
@pytest.mark.parametrize(("true_s", "temperature_c"), [(72.0, -10.0), (48.0, -10.0), (60.0, -7.0)])
def test_a_ladder_with_one_wrong_exposure_or_temperature_is_rejected(
    filled: Fill, tmp_path: Path, sensor: SensorModel, true_s: float, temperature_c: float
) -> None:
    frames = exposed(sensor, true_s, np.random.default_rng(11), temperature_c=temperature_c)
    wrong = Shelf(tmp_path).put(key(sensor, 60.0), frames)  # its header says 60 s and -10 C
    others = filled(sensor, (0.0, 10.0, 30.0, 120.0))
    message = refusal(synthetic_dark(key(sensor, 45.0), [wrong, *others], RULES))
    assert "no dark of 45 s can be made" in message
    assert "not on a line" in message
    (ladder,) = ladder_dark_currents([wrong, *others], RULES)
    assert "not on a line" in ladder.reason


def test_a_bias_that_is_not_the_zero_of_the_darks_is_left_out(filled: Fill, tmp_path: Path) -> None:
    bias = exposed(DEMO, 0.0, np.random.default_rng(12)) + np.uint16(40)
    masters = [Shelf(tmp_path).put(key(DEMO, 0.0), bias), *filled(DEMO, (10.0, 30.0, 60.0, 120.0))]
    dark = allowed(synthetic_dark(key(DEMO, 45.0), masters, RULES))
    assert dark.ladder.exposures_s == (10.0, 30.0, 60.0, 120.0)
    # With two darks left nothing could be checked, and none is made.
    assert "not on a line" in refusal(synthetic_dark(key(DEMO, 45.0), [masters[0], *masters[3:]], RULES))


def test_the_newest_of_two_masters_of_one_exposure_serves(filled: Fill, tmp_path: Path) -> None:
    old = Shelf(tmp_path).put(key(DEMO, 60.0), exposed(DEMO, 90.0, np.random.default_rng(13), n=3))
    masters = [*filled(DEMO, (0.0, 10.0, 60.0, 120.0)), old]  # newest first
    dark = allowed(synthetic_dark(key(DEMO, 45.0), masters, RULES))
    assert old.record.name not in dark.description
    assert len(dark.ladder.masters) == 4


def test_what_does_not_fit_is_not_used(filled: Fill) -> None:
    masters = filled(DEMO, LADDER)
    for other in (
        replace(key(DEMO, 45.0), temperature_c=0.0),
        replace(key(DEMO, 45.0), width=401),
        replace(key(DEMO, 45.0), settings=CameraSettings(camera="demo", gain=0.0)),
    ):
        message = refusal(synthetic_dark(other, masters, RULES))
        assert "needs masters of two exposures" in message
        assert "there are: none" in message
    assert "there are: dark 60 s" in refusal(synthetic_dark(key(DEMO, 45.0), filled(DEMO, (60.0,)), RULES))
    assert "there are: bias 0 s" in refusal(synthetic_dark(key(DEMO, 45.0), filled(DEMO, (0.0,)), RULES))


def test_a_frame_without_settings_does_not_mix_masters_of_different_gain(filled: Fill, tmp_path: Path) -> None:
    other = replace(key(DEMO, 20.0), settings=CameraSettings(camera="demo", gain=0.0))
    stranger = Shelf(tmp_path).put(other, exposed(DEMO, 20.0, np.random.default_rng(14), n=3))
    unknown = replace(key(DEMO, 45.0), settings=CameraSettings())
    dark = allowed(synthetic_dark(unknown, [stranger, *filled(DEMO, LADDER)], RULES))
    assert stranger.record.name not in dark.description


def test_exposures_far_from_all_masters_are_refused(filled: Fill) -> None:
    masters = filled(DEMO, (10.0, 30.0, 60.0))
    allowed(synthetic_dark(key(DEMO, 500.0), masters, RULES))
    message = refusal(synthetic_dark(key(DEMO, 600.0), masters, RULES))
    assert "too far from the masters of 10 to 60 s" in message
    assert "limit 10" in message


def test_masters_whose_noise_is_not_stored_are_left_out(tmp_path: Path) -> None:
    for exposure_s in (10.0, 60.0):
        write_stored(
            tmp_path / f"master_dark_{exposure_s:.3f}s.fits",
            np.full((20, 30), 500.0, ">f4"),
            IMAGETYP="Master Dark",
            EXPTIME=exposure_s,
            NCOMBINE=5,
        )
    masters = find_masters(str(tmp_path))
    target = replace(key(DEMO, 30.0), width=30, height=20, temperature_c=None, settings=CameraSettings())
    assert len(masters) == 2
    assert "there are: none" in refusal(synthetic_dark(target, masters, RULES))
    assert ladder_dark_currents(masters, RULES) == []


def test_pixels_that_saturate_are_no_data_or_saturated(tmp_path: Path) -> None:
    shelf, rng = Shelf(tmp_path), np.random.default_rng(15)
    rate = np.full((64, 64), 0.1)
    rate[3, 4] = 500.0  # 50500 ADU after 100 s, saturated after 200 s
    rate[5, 6] = 30_000.0  # always saturated
    masters = []
    for t in (20.0, 100.0, 200.0):
        samples = np.clip(np.rint(500 + rate * t + rng.normal(0, 3, (6, 64, 64))), 0, 65535).astype(np.uint16)
        about = replace(key(DEMO, t), width=64, height=64)
        masters.append(shelf.put(about, samples))
    dark = allowed(synthetic_dark(replace(key(DEMO, 150.0), width=64, height=64), masters, RULES))
    level, uncertainty = dark.read_with_uncertainty(0, 64)
    assert level[3, 4] == 65535.0
    assert np.isnan(level[5, 6])
    assert np.isnan(uncertainty[5, 6])
    assert np.count_nonzero(np.isnan(level)) == 1
    at_50 = allowed(synthetic_dark(replace(key(DEMO, 50.0), width=64, height=64), masters, RULES))
    assert at_50.read_rows(0, 64)[3, 4] == pytest.approx(25_500, abs=10)


# ---- dark current ----


def test_masters_that_do_not_fit_into_the_memory_together_give_the_same(filled: Fill) -> None:
    masters = filled(BAYER, LADDER)
    (together,) = ladder_dark_currents(masters, RULES)
    (in_turn,) = ladder_dark_currents(masters, RULES, held_bytes=0)
    assert in_turn == together
    pieces = [(start, min(start + 3, BAYER.height)) for start in range(0, BAYER.height, 5)]
    whole = together.ladder.fit(0, BAYER.height)
    for held_bytes in (0, 2**30):
        fits = list(together.ladder.fits_forward(pieces, held_bytes))
        assert len(fits) == len(pieces)
        for (start, stop), fit in zip(pieces, fits, strict=True):
            np.testing.assert_array_equal(fit.rate_adu_per_s, whole.rate_adu_per_s[start:stop])
            np.testing.assert_array_equal(fit.chi_square, whole.chi_square[start:stop])


@pytest.mark.parametrize("held_bytes", [1, 2**20, 2 * 2**20])
def test_a_dark_is_the_same_within_any_memory(filled: Fill, held_bytes: int) -> None:
    dark = allowed(synthetic_dark(key(DEMO, 45.0), filled(DEMO, LADDER), RULES))
    within = replace(dark, held_bytes=held_bytes).read_with_uncertainty(10, DEMO.height)
    for plane, whole in zip(within, dark.read_with_uncertainty(10, DEMO.height), strict=True):
        np.testing.assert_array_equal(plane, whole)


def test_the_memory_of_a_dark_does_not_grow_with_its_masters(tmp_path: Path) -> None:
    shelf, rng = Shelf(tmp_path), np.random.default_rng(3)
    shape = (192, 400)
    masters = []
    for number in range(24):
        about = replace(key(DEMO, 10.0 + 5 * number), width=shape[1], height=shape[0])
        masters.append(shelf.put(about, rng.normal(500 + number, 3, (3, *shape)).astype(np.float32)))
    target = replace(key(DEMO, 62.0), width=shape[1], height=shape[0])
    peaks = []
    for some in (masters[::4], masters):
        dark = replace(allowed(synthetic_dark(target, some, RULES)), held_bytes=4 * 2**20)
        tracemalloc.start()
        try:
            dark.read_with_uncertainty(0, shape[0])
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**20
    assert peaks[1] < 12 * 2**20  # 40 MB in one piece


@pytest.mark.parametrize("exposures_s", [LADDER, (30.0, 60.0, 120.0)])
@pytest.mark.parametrize("sensor", [DEMO, BAYER, QUIET], ids=lambda s: s.name)
def test_dark_current_of_the_median_pixel(filled: Fill, sensor: SensorModel, exposures_s: Sequence[float]) -> None:
    (found,) = ladder_dark_currents(filled(sensor, exposures_s), RULES)
    truth = float(np.median(sensor.dark_current_e_per_s(-10.0))) / sensor.gain_e_per_adu
    assert found.median_adu_per_s.value == pytest.approx(truth, rel=0.02)
    if len(exposures_s) > 3:  # of three masters a single number tells the scatter
        assert abs(found.median_adu_per_s.value - truth) < 4 * found.median_adu_per_s.uncertainty
    assert found.ladder.exposures_s == tuple(exposures_s)
    assert found.reason == ""


def test_each_temperature_and_camera_is_a_ladder_of_its_own(filled: Fill, tmp_path: Path) -> None:
    shelf, rng = Shelf(tmp_path), np.random.default_rng(16)
    warm = [shelf.put(key(DEMO, t, 0.0), exposed(DEMO, t, rng, 4, 0.0)) for t in (10.0, 30.0)]
    alone = shelf.put(key(DEMO, 10.0, 15.0), exposed(DEMO, 10.0, rng, 3, 15.0))
    found = ladder_dark_currents([*filled(DEMO, LADDER), *warm, alone, *filled(BAYER, LADDER)], RULES)
    assert [(one.key.settings.camera, one.key.temperature_c, len(one.ladder.masters)) for one in found] == [
        ("bayer", -10.0, 5),
        ("demo", -10.0, 5),
        ("demo", 0.0, 2),
    ]
    # 10 degrees are 2^(10/6) of the current without the glow
    assert 2.5 < found[2].median_adu_per_s.value / found[1].median_adu_per_s.value < 3.3


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "exposures_s"), [("st402/raw", (240.0, 360.0, 1200.0)), ("arcsat", (0.0, 60.0))])
def test_ladders_of_real_darks_are_lines(
    shared_data: Path, tmp_path: Path, folder: str, exposures_s: tuple[float, ...]
) -> None:
    frames = str(shared_data / folder)
    MasterFrameCreator(
        {
            "dark_capture": {"output_dir": frames},
            "flat_capture": {"output_dir": frames},
            "master_frames": {"output_dir": str(tmp_path)},
            "compute": {"workers": 2},
        }
    ).create_all_master_frames()
    (found,) = ladder_dark_currents(find_masters(str(tmp_path)), RULES)
    assert found.ladder.exposures_s == exposures_s
    assert found.reason == ""
    if folder == "arcsat":
        assert found.median_adu_per_s.value == pytest.approx(0.1, rel=0.1)
    else:
        assert found.quality is not None
        assert found.quality.median_ratio < 2
        assert found.quality.hot_misfit < 0.02
