"""One pass over a master: levels, noise, profiles and histogram against plain numpy and the truth of the simulator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.masters.defects import Defect, SampleModel
from ostcal.measure.masters.scan import FINE, scan_master
from ostcal.measure.masters.scan_kernels import CELL
from ostcal.measure.masters.scan_result import Plane
from ostcal.simulator.sensor import SENSORS
from support.amounts import amount
from support.master_samples import QUIET, Master, assert_same_scan, master_of, plane_reader, small

DEMO, BAYER = SENSORS["demo"], SENSORS["bayer"]
SMALL = [small(DEMO, 1), small(BAYER, 1), small(QUIET, 1)]


def synthetic(shape: tuple[int, int], n_frames: int, seed: int = 1) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return a master of noise 4 ADU a sample on a level that slopes."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 30, shape[0])[:, None] + np.linspace(0, 20, shape[1])
    master = (1000 + slope + rng.normal(0, 4 / np.sqrt(n_frames), shape)).astype(np.float32)
    std = (4 * np.sqrt(rng.chisquare(n_frames - 1, shape) / (n_frames - 1))).astype(np.float32)
    return master, std, np.full(shape, n_frames, dtype=np.uint16)


@pytest.mark.parametrize(("step_rows", "threads"), [(1, 1), (17, 2), (64, 3), (1000, 2), (50, 100)])
@pytest.mark.parametrize("sensor", SMALL, ids=lambda sensor: sensor.name)
def test_rows_read_at_once_and_threads_change_nothing(sensor: Any, step_rows: int, threads: int) -> None:
    master = master_of(sensor, FrameType.DARK, 5)
    assert_same_scan(master.scan(), master.scan(step_rows=step_rows, threads=threads))


def test_what_stops_a_thread_reaches_the_caller() -> None:
    read = plane_reader(*synthetic((333, 200), 10))

    def failing(plane: Plane, start: int, stop: int) -> NDArray[Any]:
        if start >= 250:
            raise OSError("the disk is gone")
        return read(plane, start, stop)

    with pytest.raises(OSError, match="the disk is gone"):
        scan_master(failing, (333, 200), FrameType.DARK, SampleModel(n_frames=10), step_rows=50, threads=2)


def test_each_row_of_each_plane_is_read_once_and_in_order() -> None:
    planes = synthetic((333, 200), 10)
    read = plane_reader(*planes)
    asked: dict[str, list[tuple[int, int]]] = {"master": [], "std": [], "n_used": []}

    def counting(plane: Plane, start: int, stop: int) -> NDArray[Any]:
        asked[plane].append((start, stop))
        return read(plane, start, stop)

    scan_master(counting, (333, 200), FrameType.DARK, SampleModel(n_frames=10), step_rows=50)
    for pieces in asked.values():
        assert pieces == [(0, 50), (50, 100), (100, 150), (150, 200), (200, 250), (250, 300), (300, 333)]


@pytest.mark.parametrize("bayer", [False, True])
def test_noise_is_that_of_the_samples(bayer: bool) -> None:
    shape, n_frames = (640, 900), 16
    scan = scan_master(
        plane_reader(*synthetic(shape, n_frames)), shape, FrameType.DARK, SampleModel(n_frames=n_frames), bayer=bayer
    )
    assert scan.sample_noise == pytest.approx(4.0, rel=0.01)
    assert scan.mean_noise == pytest.approx(1.0, rel=0.01)
    # Means of 64 pixels are taken out along rows and columns, 1.6 % of the noise with them; medians cost another one.
    assert scan.pixel_noise == pytest.approx(0.98, abs=0.02)


@pytest.mark.parametrize("sensor", SMALL, ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("n_frames", [3, 5, 20])
def test_noise_of_simulated_masters_is_the_truth(sensor: Any, n_frames: int) -> None:
    scan = master_of(sensor, FrameType.BIAS, n_frames).scan()
    sample = np.sqrt((sensor.read_noise_e / sensor.gain_e_per_adu) ** 2 + sensor.adu_step**2 / 12)
    pixel = np.hypot(sample / np.sqrt(n_frames), sensor.bias_pattern.pixel_sigma_adu)
    # Deviations of three frames in steps of 4 ADU are uneven; so are spreads of quantised means.
    assert scan.sample_noise == pytest.approx(sample, rel=0.05 if n_frames == 3 else 0.03)
    assert scan.pixel_noise == pytest.approx(pixel, rel=0.12)


def test_levels_profiles_and_histogram_are_those_of_numpy() -> None:
    shape = (260, 330)
    master, std, n_used = synthetic(shape, 20)
    scan = scan_master(plane_reader(master, std, n_used), shape, FrameType.DARK, SampleModel(n_frames=20))
    for band, cell in np.ndindex(scan.cells.shape):
        top, bottom, left, right = scan.rectangle(band, cell)
        if right - left == CELL:
            assert scan.cells[band, cell] == pytest.approx(np.median(master[top:bottom, left:right]), abs=0.3)
    np.testing.assert_allclose(scan.row_profile, master.mean(axis=1), atol=0.5)
    np.testing.assert_allclose(scan.column_profile, master.mean(axis=0), atol=0.5)
    whole = master[:64, :320].reshape(4, 16, 20, FINE).mean(axis=(1, 3))
    np.testing.assert_allclose(scan.fine_cells[:4, :20], whole, atol=0.7)
    assert scan.median == pytest.approx(np.median(master), abs=0.1)
    histogram = scan.histogram
    assert histogram.counts.sum() + histogram.below + histogram.above == master.size
    stop = histogram.start + histogram.step * len(histogram.counts)
    expected, _ = np.histogram(master.astype(np.float64), bins=len(histogram.counts), range=(histogram.start, stop))
    assert np.abs(expected - histogram.counts).max() <= 1


def test_cells_of_a_bayer_sensor_average_the_colours() -> None:
    shape = (192, 192)
    master = np.tile(np.array([[0.5, 1.0], [1.0, 0.65]], dtype=np.float32), (96, 96))
    std, n_used = np.full(shape, 0.01, np.float32), np.full(shape, 20, np.uint16)
    model = SampleModel(n_frames=20, adu_per_unit=20_000)
    scan = scan_master(plane_reader(master, std, n_used), shape, FrameType.FLAT, model, bayer=True)
    np.testing.assert_allclose(scan.cells, 0.7875, rtol=1e-6)
    assert not scan.dq.any()


def test_the_noise_of_each_colour_is_its_own() -> None:
    shape, n_frames = (130, 200), 20
    rng = np.random.default_rng(3)
    colour = np.tile(np.array([[1.0, 4.0], [4.0, 2.0]]), (65, 100))
    std = (colour * np.sqrt(rng.chisquare(n_frames - 1, shape) / (n_frames - 1))).astype(np.float32)
    std[64, 60] = 8.0  # a lot for red, not for green
    std[65, 60] = 8.0
    master = (100 * colour).astype(np.float32)
    n_used = np.full(shape, n_frames, np.uint16)
    scan = scan_master(
        plane_reader(master, std, n_used), shape, FrameType.FLAT, SampleModel(n_frames=n_frames), bayer=True
    )
    assert [(int(y), int(x)) for y, x in np.argwhere(scan.dq)] == [(64, 60)]


def test_rejected_samples_are_mapped() -> None:
    shape = (320, 320)
    master, std, n_used = synthetic(shape, 20)
    n_used[64:128, 128:192] -= 5
    scan = scan_master(plane_reader(master, std, n_used), shape, FrameType.DARK, SampleModel(n_frames=20))
    expected = np.zeros((5, 5))
    expected[1, 2] = 0.25
    np.testing.assert_allclose(scan.rejected_cells, expected, atol=1e-6)
    assert scan.counts[Defect.TELEGRAPH] == 0, "a region is no pixel"


def test_the_hottest_pixels_are_listed_first() -> None:
    master, std, n_used = synthetic((200, 300), 20)
    rng = np.random.default_rng(9)
    places = rng.choice(200 * 300, 150, replace=False)
    master.ravel()[places] += np.arange(150, dtype=np.float32) * 10 + 100
    scan = scan_master(plane_reader(master, std, n_used), (200, 300), FrameType.DARK, SampleModel(n_frames=20))
    assert scan.counts[Defect.HOT] == 150
    assert len(scan.strongest) == 100
    assert [(pixel.row * 300 + pixel.column) for pixel in scan.strongest] == places[:49:-1].tolist()
    assert scan.strongest[0].excess == pytest.approx(1590, abs=8)


def test_missing_pixels_do_not_spread() -> None:
    master, std, n_used = synthetic((200, 300), 20)
    master[40:60, 30:50] = np.nan
    std[40:60, 30:50] = np.nan
    n_used[40:60, 30:50] = 0
    scan = scan_master(plane_reader(master, std, n_used), (200, 300), FrameType.DARK, SampleModel(n_frames=20))
    assert scan.n_nan == 400
    assert np.array_equal(scan.dq != 0, np.isnan(master))
    assert np.isfinite(scan.cells).all()
    assert np.isfinite(scan.row_profile).all()
    assert scan.sample_noise == pytest.approx(4.0, rel=0.02)


def test_a_master_of_nothing_is_all_no_data() -> None:
    shape = (70, 80)
    planes = np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
    scan = scan_master(plane_reader(*planes), shape, FrameType.DARK, SampleModel(n_frames=5))
    assert scan.counts[Defect.NO_DATA] == scan.n_nan == 70 * 80
    assert scan.histogram.counts.sum() == 0


@settings(max_examples=amount(60))
@given(
    height=st.integers(1, 140),
    width=st.integers(1, 140),
    bayer=st.booleans(),
    n_frames=st.integers(1, 6),
    kind=st.sampled_from([FrameType.BIAS, FrameType.DARK, FrameType.FLAT]),
    seed=st.integers(0, 1000),
)
def test_any_size_is_scanned(height: int, width: int, bayer: bool, n_frames: int, kind: FrameType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (height, width)
    master = (500 + rng.normal(0, 1, shape)).astype(np.float32)
    std = np.full(shape, 2.0 if n_frames > 1 else 0.0, np.float32)
    n_used = np.full(shape, n_frames, np.uint16)
    scan = scan_master(plane_reader(master, std, n_used), shape, kind, SampleModel(n_frames=n_frames), bayer=bayer)
    assert scan.dq.shape == shape
    assert scan.row_profile.shape == (height,)
    assert scan.column_profile.shape == (width,)
    assert np.isfinite(scan.cells).all()
    if min(shape) >= 8:
        assert scan.median == pytest.approx(500, abs=1)
        assert sum(scan.counts.values()) == 0


def test_saturated_flats_are_counted_pixel_by_pixel() -> None:
    sensor = replace(small(DEMO, 1), gain_e_per_adu=0.5)
    master: Master = master_of(sensor, FrameType.FLAT, 5)
    expected = master.master >= master.model().saturation
    scan = master.scan()
    assert 0 < np.count_nonzero(expected) < expected.size
    np.testing.assert_array_equal(scan.dq & np.uint8(Defect.SATURATED) != 0, expected)
