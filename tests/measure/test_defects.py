"""Defective pixels and columns of masters, against a truth that the simulator knows or a test put there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.estimators import chi_square_bound
from ostcal.measure.masters.defect_map import BadColumn, DefectMap, FlaggedPixels
from ostcal.measure.masters.defects import Defect, poisson_bound
from ostcal.measure.masters.scan_result import MasterScan
from ostcal.simulator.sensor import SENSORS, SensorModel
from support.master_samples import QUIET, Master, combined, exposure_of, frames_of, master_of, small

DEMO, BAYER = SENSORS["demo"], SENSORS["bayer"]


def marked(scan: MasterScan, bit: Defect) -> NDArray[np.bool_]:
    return scan.dq & np.uint8(bit) != 0


def hot_excess_adu(sensor: SensorModel) -> NDArray[np.float32]:
    """Return by how much hot pixels of a dark are above what they would be."""
    exposure = exposure_of(FrameType.DARK, sensor)
    cold = replace(sensor, dark=replace(sensor.dark, hot_fraction=0.0))
    return sensor.expected_adu(exposure) - cold.expected_adu(exposure)


def half(sensor: SensorModel) -> SensorModel:
    return replace(sensor, width=822, height=598)


@pytest.mark.parametrize("sensor", [half(DEMO), half(BAYER), half(QUIET)], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("n_frames", [5, 20])
def test_of_pixels_hotter_than_ten_sigma_99_percent_are_found(sensor: SensorModel, n_frames: int) -> None:
    scan = master_of(sensor, FrameType.DARK, n_frames).scan()
    found, excess = marked(scan, Defect.HOT), hot_excess_adu(sensor)
    for sigma in (scan.mean_noise, scan.pixel_noise):
        hotter = excess > 10 * sigma
        assert np.count_nonzero(hotter) > 300
        assert np.count_nonzero(found & hotter) >= 0.99 * np.count_nonzero(hotter)
        assert np.count_nonzero(found & (excess <= 10 * sigma)) <= 0.01 * np.count_nonzero(found)
    assert not np.any(found & ~sensor.hot_pixels())


def test_a_cosmic_ray_that_was_kept_is_no_hot_pixel() -> None:
    stack = frames_of(small(DEMO, 1), FrameType.BIAS, 5)
    stack[2, 100, 200] = 5000
    master = combined(small(DEMO, 1), FrameType.BIAS, stack)
    # What a plain mean would have kept.
    master.master[100, 200] = stack[:, 100, 200].mean()
    master.std[100, 200] = stack[:, 100, 200].std(ddof=1)
    master.n_used[100, 200] = 5
    scan = master.scan()
    assert scan.dq[100, 200] == Defect.NOISY


def flat_with_faults(sensor: SensorModel) -> Master:
    master = master_of(sensor, FrameType.FLAT, 20)
    master.master[50, 60] = 0.0
    master.master[51, 160] *= 0.4
    master.master[52, 260] *= 0.7
    master.master[53, 360] *= 1.3
    master.master[299, 409] = np.nan
    master.n_used[299, 409] = 0
    return master


@pytest.mark.parametrize("sensor", [small(DEMO, 1), small(BAYER, 1)], ids=lambda sensor: sensor.name)
def test_dead_weak_bright_and_missing_pixels_of_a_flat_are_found(sensor: SensorModel) -> None:
    scan = flat_with_faults(sensor).scan()
    expected = {
        (50, 60): Defect.COLD | Defect.DEAD,
        (51, 160): Defect.COLD | Defect.DEAD,
        (52, 260): Defect.COLD,
        (53, 360): Defect.HOT,
        (299, 409): Defect.NO_DATA,
    }
    assert {(int(y), int(x)): int(scan.dq[y, x]) for y, x in np.argwhere(scan.dq)} == expected
    assert (scan.n_nan, scan.n_not_positive) == (1, 1)


@pytest.mark.parametrize("kind", [FrameType.BIAS, FrameType.DARK])
def test_cold_and_stuck_pixels_of_a_dark_are_found(kind: FrameType) -> None:
    sensor = small(DEMO, 2)
    stack = frames_of(sensor, kind, 20)
    stack[:, 100, 101] -= 60
    stack[:, 200, 201] = round(float(np.median(stack)))
    stack[:, 150, 5] = 0
    scan = combined(sensor, kind, stack).scan()
    assert scan.dq[100, 101] == Defect.COLD
    assert scan.dq[200, 201] == Defect.DEAD
    assert scan.dq[150, 5] == Defect.COLD | Defect.DEAD
    assert scan.counts[Defect.COLD] == 2
    assert scan.counts[Defect.DEAD] == 2


def test_equal_samples_of_a_quiet_sensor_are_chance() -> None:
    scan = master_of(small(QUIET, 3), FrameType.BIAS, 5).scan()
    assert scan.counts[Defect.DEAD] == 0


def test_a_pixel_at_the_end_of_the_scale_is_saturated() -> None:
    stack = frames_of(small(DEMO, 1), FrameType.DARK, 10)
    stack[:, 30, 40] = 65535
    scan = combined(small(DEMO, 1), FrameType.DARK, stack).scan()
    assert scan.dq[30, 40] == Defect.HOT | Defect.SATURATED


def test_rejections_that_come_in_lumps_on_a_quiet_sensor_are_no_telegraph_noise() -> None:
    # All samples of one value are rejected together: four of 40 in 127 of these pixels, where chance gives none.
    sensor = replace(QUIET, seed=3)
    scan = combined(sensor, FrameType.BIAS, frames_of(sensor, FrameType.BIAS, 40, 103)).scan()
    assert scan.counts[Defect.TELEGRAPH] == 0


@pytest.mark.parametrize("n_frames", [5, 20, 40])
def test_noisy_pixels_are_found_and_no_others(n_frames: int) -> None:
    sensor = small(DEMO, 4)
    stack = frames_of(sensor, FrameType.BIAS, n_frames)
    rng = np.random.default_rng(5)
    rows, columns = np.divmod(rng.choice(300 * 410, 100, replace=False), 410)
    noise = 10 * sensor.read_noise_e / sensor.gain_e_per_adu
    stack[:, rows, columns] = np.rint(stack[:, rows, columns] + rng.normal(0, noise, (n_frames, 100)))
    scan = combined(sensor, FrameType.BIAS, stack).scan()
    injected = np.zeros(scan.shape, dtype=bool)
    injected[rows, columns] = True
    noisy = marked(scan, Defect.NOISY)
    # Of five samples the clipping takes the outer ones of a quarter of these pixels, and with them their noise.
    assert np.count_nonzero(noisy & injected) >= (70 if n_frames == 5 else 99)
    assert not np.any(noisy & ~injected)


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("n_frames", [20, 40])
def test_pixels_with_two_levels_are_telegraph_or_noisy_pixels(n_frames: int, share: float) -> None:
    sensor = small(DEMO, 6)
    stack = frames_of(sensor, FrameType.BIAS, n_frames)
    rng = np.random.default_rng(8)
    rows, columns = np.divmod(rng.choice(300 * 410, 100, replace=False), 410)
    upper = np.stack([rng.permutation(n_frames) < share * n_frames for _ in range(100)], axis=1)
    jump = 12 * sensor.read_noise_e / sensor.gain_e_per_adu
    stack[:, rows, columns] += np.where(upper, np.uint16(jump), np.uint16(0))
    scan = combined(sensor, FrameType.BIAS, stack).scan()
    injected = np.zeros(scan.shape, dtype=bool)
    injected[rows, columns] = True
    found = marked(scan, Defect.TELEGRAPH | Defect.NOISY)
    assert np.count_nonzero(found & injected) >= 98
    assert not np.any(found & ~injected)
    if share == 0.2 and n_frames == 20:  # from 21 frames on the spread is that of both levels
        assert np.count_nonzero(marked(scan, Defect.TELEGRAPH) & injected) >= 95


def test_the_shot_noise_of_hot_pixels_is_not_called_noise() -> None:
    for gain in (DEMO.gain_e_per_adu, None):
        scan = master_of(small(DEMO, 9), FrameType.DARK, 40).scan(gain)
        assert scan.counts[Defect.HOT] > 150
        assert scan.counts[Defect.NOISY] == 0


@pytest.mark.parametrize("sensor", [small(DEMO, 1), small(BAYER, 1), small(QUIET, 1)], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("kind", [FrameType.DARK, FrameType.FLAT])
def test_bad_columns_and_parts_of_them_are_found(sensor: SensorModel, kind: FrameType) -> None:
    master = master_of(sensor, kind, 20)
    size = 0.1 if kind is FrameType.FLAT else 40.0
    master.master[:, 100] += size
    master.master[120:, 300] -= size
    scan = master.scan()
    assert {bad.column for bad in scan.columns} == {100, 300}
    whole, part = sorted(scan.columns, key=lambda bad: bad.column)
    assert (whole.start, whole.stop) == (0, 300)
    assert 60 <= part.start <= 120
    assert part.stop == 300
    assert marked(scan, Defect.BAD_COLUMN)[:, 100].all()
    assert marked(scan, Defect.BAD_COLUMN).sum() == 300 + 300 - part.start


def test_a_weak_bad_column_is_found_where_the_others_are_alike() -> None:
    master = master_of(small(QUIET, 2), FrameType.BIAS, 20)
    master.master[:, 222] += 0.2  # 1.6 times the noise of a pixel of the master
    (bad,) = master.scan().columns
    assert (bad.column, bad.start, bad.stop) == (222, 0, 300)
    assert bad.offset == pytest.approx(0.2, abs=0.05)


def test_the_bound_of_chi_square_is_that_of_its_tail() -> None:
    rng = np.random.default_rng(1)
    for degrees in (2, 4, 19):
        ratio = rng.chisquare(degrees, 1_000_000) / degrees
        beyond = np.mean(ratio > chi_square_bound(degrees, 3.0))
        assert 0.5 * 0.00135 < beyond < 1.3 * 0.00135


def test_the_bound_of_poisson_is_rarely_reached() -> None:
    rng = np.random.default_rng(2)
    means = np.array([0.05, 0.3, 2.0])
    bounds = poisson_bound(means)
    assert np.all(np.diff(bounds) > 0)
    for mean, bound in zip(means, bounds, strict=True):
        assert not np.any(rng.poisson(mean, 1_000_000) >= bound)
        assert bound < mean + 6 * np.sqrt(mean) + 8


@st.composite
def bands_of_defects(draw: st.DrawFn) -> tuple[NDArray[np.uint8], list[int], list[BadColumn]]:
    width, heights = draw(st.integers(1, 9)), draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    seed, share = draw(st.integers(0, 2**32)), draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    rng = np.random.default_rng(seed)
    edges = [0, *np.cumsum(heights)]
    plane = rng.integers(0, 256, (edges[-1], width)).astype(np.uint8) & ~np.uint8(Defect.BAD_COLUMN)
    plane[rng.random(plane.shape) >= share] = 0
    columns = [
        BadColumn(column=int(column), start=edges[i], stop=edges[i + 1], offset=9.0)
        for i in range(len(heights))
        for column in np.flatnonzero(rng.random(width) < 0.2)
    ]
    return plane, edges, columns


@given(bands_of_defects(), st.data())
def test_pieces_of_the_map_of_defects_are_those_of_a_plane(
    made: tuple[NDArray[np.uint8], list[int], list[BadColumn]], data: st.DataObject
) -> None:
    plane, edges, columns = made
    bands = []
    for first, last in pairwise(edges):
        rows = plane[first:last]
        candidates = np.flatnonzero((rows != 0) | (np.arange(rows.size).reshape(rows.shape) % 3 == 0))
        bands.append(FlaggedPixels.of(candidates, rows.ravel()[candidates], rows.shape))
    mapped = DefectMap(shape=plane.shape, edges=np.array(edges), bands=bands, columns=columns)
    for bad in columns:
        plane[bad.start : bad.stop, bad.column] |= np.uint8(Defect.BAD_COLUMN)
    start = data.draw(st.integers(0, len(plane)))
    stop = data.draw(st.integers(start, len(plane)))
    assert mapped.rows(start, stop).tobytes() == plane[start:stop].tobytes()
    assert mapped.counts() == {bit: int(np.count_nonzero(plane & np.uint8(bit))) for bit in Defect}
