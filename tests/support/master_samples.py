"""Masters of simulated frames, with what is known of them, for the tests of their quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.combine import combine_block
from ostcal.engine.rejection import METHODS, SeriesNoise, SigmaClip
from ostcal.frames import FrameType, SampleEncoding
from ostcal.measure.masters.check_master import MasterFacts
from ostcal.measure.masters.defects import SampleModel
from ostcal.measure.masters.scan import scan_master
from ostcal.measure.masters.scan_result import MasterScan, Plane, PlaneReader
from ostcal.measure.masters.strip_scan import RunningScans, StripScan
from ostcal.simulator.sensor import SENSORS, BiasPattern, DarkCurrent, Exposure, SensorModel

QUIET = replace(
    SENSORS["demo"],
    name="quiet",
    width=640,
    height=512,
    read_noise_e=0.5,
    gain_e_per_adu=1.0,
    bias_pattern=BiasPattern(),
    dark=DarkCurrent(rate_e_per_s=0.01, hot_fraction=0.001, hot_median_e_per_s=5.0),
)


def small(sensor: SensorModel, seed: int) -> SensorModel:
    """Return a cut-out of a sensor: a tenth of its pixels, no multiple of a cell."""
    return replace(sensor, width=410, height=300, seed=seed)


def plane_reader(master: NDArray[np.floating], std: NDArray[np.floating], n_used: NDArray[np.integer]) -> PlaneReader:
    """Return a reader of planes that are in memory, for `scan_master`."""
    planes = {"master": master, "std": std, "n_used": n_used}

    def read_rows(plane: Plane, start: int, stop: int) -> NDArray[Any]:
        return planes[plane][start:stop]

    return read_rows


def exposure_of(kind: FrameType, sensor: SensorModel) -> Exposure:
    light = 0.5 * sensor.full_well_e if kind is FrameType.FLAT else 0.0
    time_s = {FrameType.BIAS: 0.0, FrameType.DARK: 60.0, FrameType.FLAT: 1.0}[kind]
    return Exposure(exposure_time_s=time_s, illumination_e_per_s=light)


def frames_of(sensor: SensorModel, kind: FrameType, n_frames: int, seed: int = 7) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    return np.stack([sensor.expose(exposure_of(kind, sensor), rng) for _ in range(n_frames)])


@dataclass(kw_only=True)
class Master:
    """The planes of a master; tests may change them."""

    kind: FrameType
    sensor: SensorModel
    master: NDArray[np.float32]
    std: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    rejected_per_frame: tuple[int, ...]
    series_noise_adu: float
    adu_per_unit: float

    def model(self, gain_e_per_adu: float | None = None) -> SampleModel:
        return SampleModel(
            n_frames=len(self.rejected_per_frame),
            adu_per_unit=self.adu_per_unit,
            gain_e_per_adu=gain_e_per_adu,
            step_adu=self.sensor.adu_step,
            saturation_adu=self.sensor.max_adu,
            pedestal_adu=self.sensor.bias_level_adu if self.kind is FrameType.FLAT else 0.0,
        )

    def scan(self, gain_e_per_adu: float | None = None, step_rows: int = 128, threads: int = 1) -> MasterScan:
        return scan_master(
            plane_reader(self.master, self.std, self.n_used),
            self.master.shape,
            self.kind,
            self.model(gain_e_per_adu),
            bayer=self.sensor.bayer is not None,
            step_rows=step_rows,
            threads=threads,
        )

    def scan_strips(self, strips: Sequence[tuple[int, int]], bands_at_once: int = 8, threads: int = 1) -> MasterScan:
        """Scan it by strips in this order, and read afterwards what did not come with them."""
        along = StripScan(
            (self.master.shape[0], self.master.shape[1]),
            self.kind,
            self.model(),
            RunningScans(at_once=1),
            bayer=self.sensor.bayer is not None,
            bands_at_once=bands_at_once,
        )

        def add(strip: tuple[int, int]) -> None:
            rows = slice(*strip)
            # copies: what a task combined is gone after it
            along.add_rows(
                strip[0], master=self.master[rows].copy(), std=self.std[rows].copy(), n_used=self.n_used[rows].copy()
            )

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(add, strips))
        return along.result(plane_reader(self.master, self.std, self.n_used), step_rows=50, threads=threads)

    def facts(self, method_name: str = "sigma_clip") -> MasterFacts:
        method = METHODS[method_name]
        return MasterFacts(
            method_name=method_name,
            judges_outliers=method.judges_outliers,
            rejects_by_count=method.rejects_by_count,
            rejected_per_frame=self.rejected_per_frame,
            series_noise_adu=self.series_noise_adu,
            full_scale_adu=self.sensor.max_adu,
        )


def pair_noise(stack: NDArray[np.uint16]) -> float:
    """Return the noise of a sample from differences of frames that follow each other; 1 where there is one frame."""
    if len(stack) < 2:
        return 1.0
    difference = stack[1:].astype(np.float64) - stack[:-1]
    low, high = np.quantile(difference, (0.001, 0.999))
    return float(np.std(difference, where=(difference >= low) & (difference <= high)) / np.sqrt(2))


def combined(sensor: SensorModel, kind: FrameType, stack: NDArray[np.uint16]) -> Master:
    """Combine frames with the engine; flats lose the bias level and are divided by their mean."""
    noise = pair_noise(stack)
    method = SigmaClip().resolved(len(stack))
    block = combine_block(stack, SampleEncoding(dtype="uint16"), method, noise=SeriesNoise(noise_adu=noise))
    master, std, level = block.master, block.std, 1.0
    if kind is FrameType.FLAT:
        level = float(np.mean(master, dtype=np.float64)) - sensor.bias_level_adu
        master = ((master - np.float32(sensor.bias_level_adu)) / np.float32(level)).astype(np.float32)
        std = (std / np.float32(level)).astype(np.float32)
    return Master(
        kind=kind,
        sensor=sensor,
        master=master,
        std=std,
        n_used=block.n_used,
        rejected_per_frame=tuple(int(count) for count in block.rejected_per_frame),
        series_noise_adu=noise,
        adu_per_unit=level,
    )


def master_of(sensor: SensorModel, kind: FrameType, n_frames: int, seed: int = 7) -> Master:
    return combined(sensor, kind, frames_of(sensor, kind, n_frames, seed))


def assert_same_scan(one: MasterScan, other: MasterScan) -> None:
    """Fail where two scans differ in any bit."""
    for name in ("dq", "edges", "cells", "std_cells", "rejected_cells", "fine_cells", "row_profile", "column_profile"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.histogram.counts, other.histogram.counts)
    for name in ("columns", "strongest", "counts", "median", "pixel_noise", "sample_noise", "mean_noise", "n_nan"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.n_not_positive == other.n_not_positive


def drop_checksums(master: Path) -> None:
    """Make a master as it was written before chunks had checksums."""
    for plane in ("master", "n_used", "std", "dq"):
        if not (master / plane).is_dir():
            continue
        metadata = json.loads((master / plane / "zarr.json").read_text())
        assert metadata["codecs"].pop() == {"name": "crc32c"}
        (master / plane / "zarr.json").write_text(json.dumps(metadata))
        for chunk in (master / plane).glob("c.*"):
            chunk.write_bytes(chunk.read_bytes()[:-4])
    metadata = json.loads((master / "zarr.json").read_text())
    metadata["attributes"]["format_version"] = 1
    del metadata["attributes"]["checksum"], metadata["attributes"]["chunk_checksums"]
    (master / "zarr.json").write_text(json.dumps(metadata))
