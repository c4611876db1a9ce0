"""Measure a whole night: all masters of several dark exposures and one set of flats, against one master alone.

Series of frames are made in zarr, as a capture leaves them: bias, darks, and flats whose exposure is that of a dark.
Then ``ostcal masters`` makes one dark, all masters with quality control and report, and the one dark again, each with
compiled kernels and from a cold page cache; the night is compared with the mean of the two. The frames are deleted
at the end: 280 of 61 MP take 15 GB.

    python bench/whole_night.py [--quick] [--out bench/results/night.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dark_frames import parse_size
from machine import machine_facts
from make_tables import night_table
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.series.record import FrameRecord, describe_pixels
from ostcal.series.series_writer import create_series
from page_cache import can_be_cold, evict, files_below
from process_tree import Command, Usage, run_measured
from programs import BENCH

LIMIT = 9.0
"""Times of one master that all masters of the night may take."""
EXPOSURES_S = (0.001, 1.0, 2.5, 5.0, 10.0, 20.0)
"""The first are bias frames; the flats have the second."""
SINGLE_S = 5.0
OFFSET_ADU = 500.0
READ_NOISE_ADU = 4.0
DARK_CURRENT_ADU_PER_S = 0.05
GAIN_E_PER_ADU = 0.8
HOT_PIXEL_SHARE = 1e-3
HOT_PIXEL_ADU_PER_S = 40.0
FLAT_ADU = 30000.0
MANIFEST = "night.json"
START = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
STORED_SHARE = 0.75
"""Of the raw bytes, that is what flats take; darks take 0.53."""
MASTER_BYTES_PER_PIXEL = 12
SIZES = {"quick": (1000, 800), "full": (9576, 6388)}


@dataclass(frozen=True, kw_only=True)
class NightSet:
    """What the frames of a night are."""

    frames: int
    """Of each series."""
    width: int
    height: int
    exposures_s: tuple[float, ...] = EXPOSURES_S
    seed: int = 20261121

    @property
    def raw_bytes(self) -> int:
        """Of all frames."""
        return self.frames * self.width * self.height * 2 * (len(self.exposures_s) + 1)


@dataclass(frozen=True, kw_only=True)
class SeriesTask:
    """A series to be made."""

    location: Path
    kind: FrameType
    exposure_s: float
    number: int
    night: NightSet


def main() -> int:
    """Make the frames, measure, delete; 0 when all masters took no longer and no more memory than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40, help="of each series")
    parser.add_argument("--size", type=parse_size, default=SIZES["full"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--quick", action="store_true", help="5 frames of 1000x800: whether it works, no figures")
    parser.add_argument("--memory-limit-mib", type=int, default=2048)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "night")
    parser.add_argument("--keep", action="store_true", help="keep the frames for another run")
    parser.add_argument("--prepare", action="store_true", help="make the frames, and measure nothing")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "night.json")
    arguments = parser.parse_args()
    width, height = SIZES["quick"] if arguments.quick else arguments.size
    night = NightSet(frames=5 if arguments.quick else arguments.frames, width=width, height=height)
    if arguments.prepare:
        make_frames(arguments.work, night)
        return 0
    # In a process of its own: Linux hands this process's peak memory on to the programs measured below.
    size = f"--size={width}x{height}"
    prepare = [sys.executable, __file__, "--prepare", f"--work={arguments.work}", f"--frames={night.frames}", size]
    subprocess.run(prepare, check=True)
    try:
        result = measure(arguments.work, night, arguments.memory_limit_mib, is_quick=arguments.quick)
    finally:
        if not arguments.keep:
            shutil.rmtree(arguments.work)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(night_table(result))
    within = result["ratio"] <= LIMIT and result["night"]["sum_of_peaks_bytes"] <= result["memory_limit_bytes"]
    return 0 if within or arguments.quick else 1


# ---- frames ----


def make_frames(work: Path, night: NightSet) -> None:
    """Make the series of a night, two at a time; equal ones that are there are kept.

    Raises
    ------
    SystemExit
        If the disk has no room for them and for the masters.
    """
    manifest = work / MANIFEST
    if manifest.is_file() and json.loads(manifest.read_text()) == json.loads(json.dumps(asdict(night))):
        return
    for folder in ("darks", "flats", "masters"):
        shutil.rmtree(work / folder, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    masters = (len(night.exposures_s) + 2) * night.width * night.height * MASTER_BYTES_PER_PIXEL
    needed = int(night.raw_bytes * STORED_SHARE) + masters
    free = shutil.disk_usage(work).free
    if free < needed:
        raise SystemExit(f"{work}: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed; see --work")
    darks = [
        SeriesTask(
            location=work / "darks" / f"exp_{exposure_s:.3f}s.zarr",
            kind=FrameType.DARK if number else FrameType.BIAS,
            exposure_s=exposure_s,
            number=number,
            night=night,
        )
        for number, exposure_s in enumerate(night.exposures_s)
    ]
    flat_s = night.exposures_s[1]
    location = work / "flats" / f"L_exp_{flat_s:.3f}s.zarr"
    flats = SeriesTask(location=location, kind=FrameType.FLAT, exposure_s=flat_s, number=len(darks), night=night)
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        list(pool.map(make_series, [flats, *reversed(darks)]))
    manifest.write_text(json.dumps(asdict(night)))


def make_series(task: SeriesTask) -> None:
    """Make one series: every frame with noise of its own."""
    night = task.night
    task.location.parent.mkdir(parents=True, exist_ok=True)
    level, sigma = maps(task)
    writer = create_series(
        task.location,
        n_frames=night.frames,
        height=night.height,
        width=night.width,
        dtype="uint16",
        frame_type=task.kind,
    )
    began = START + timedelta(hours=task.number)
    for index in range(night.frames):
        rng = np.random.Generator(np.random.SFC64([night.seed, task.number, index]))
        noise = rng.standard_normal(level.shape, np.float32)
        noise *= sigma
        noise += level
        frame = np.clip(np.rint(noise, out=noise), 0, 65535, out=noise).astype(np.uint16)
        metadata = FrameMetadata(
            frame_type=task.kind,
            exposure_time_s=task.exposure_s,
            width=night.width,
            height=night.height,
            settings=CameraSettings(camera="simulated sensor", gain=100.0, offset=50.0),
            filter_name="L" if task.kind is FrameType.FLAT else None,
            set_temperature_c=-10.0,
            ccd_temperature_c=-10.0,
            date_obs=began + timedelta(seconds=index * (task.exposure_s + 1.5)),
            egain_e_per_adu=GAIN_E_PER_ADU,
        )
        writer.write_frame(index, frame, FrameRecord(index=index, metadata=metadata, pixels=describe_pixels(frame)))


def maps(task: SeriesTask) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give level and noise of every pixel in ADU: one sensor for all series, with hot pixels and a vignetted lamp."""
    rng = np.random.Generator(np.random.SFC64([task.night.seed]))
    shape = (task.night.height, task.night.width)
    signal = np.full(shape, DARK_CURRENT_ADU_PER_S * task.exposure_s, np.float32)
    hot = rng.integers(0, signal.size, int(HOT_PIXEL_SHARE * signal.size))
    signal.ravel()[hot] += (rng.exponential(HOT_PIXEL_ADU_PER_S, hot.size) * task.exposure_s).astype(np.float32)
    columns = rng.standard_normal(shape[1], np.float32) * np.float32(2)
    if task.kind is FrameType.FLAT:
        y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
        light = FLAT_ADU * (1 - 0.15 * (x**2 + y**2))
        light *= 1 + 0.01 * rng.standard_normal(shape, np.float32)
        signal += light.astype(np.float32)
    sigma = np.sqrt(READ_NOISE_ADU**2 + signal / GAIN_E_PER_ADU).astype(np.float32)
    signal += np.float32(OFFSET_ADU) + columns
    return signal, sigma


# ---- measuring ----


def measure(work: Path, night: NightSet, memory_limit_mib: int, *, is_quick: bool) -> dict[str, Any]:
    """Make one dark, all masters, and the one dark again, each with compiled kernels and from a cold cache."""
    single = work / "darks" / f"exp_{SINGLE_S:.3f}s.zarr"
    nowhere = work / "nowhere"
    limit = f"{memory_limit_mib}MiB"
    # kernels are compiled for darks and flats by a run of a small night; series of 20 frames or fewer have others
    if not is_quick:
        make_frames(work / "small", NightSet(frames=24, width=200, height=100))
        make_masters(work, work / "small" / "darks", work / "small" / "flats", limit)
    singles = [make_masters(work, single, nowhere, limit)]
    usage = make_masters(work, work / "darks", work / "flats", limit)
    singles.append(make_masters(work, single, nowhere, limit))
    single_s = statistics.mean(one.wall_s for one in singles)
    return {
        "benchmark": "night",
        "machine": machine_facts(),
        "frames": asdict(night),
        "raw_bytes": night.raw_bytes,
        "stored_bytes": sum(_size_of(work / name) for name in ("darks", "flats")),
        "memory_limit_bytes": memory_limit_mib * 2**20,
        "limit": LIMIT,
        "from_cold_cache": can_be_cold(),
        "one": [asdict(one) for one in singles],
        "one_s": single_s,
        "night": asdict(usage),
        "ratio": usage.wall_s / single_s,
    }


def make_masters(work: Path, darks: Path, flats: Path, limit: str) -> Usage:
    """Run ``ostcal masters`` once from a cold page cache.

    Raises
    ------
    SystemExit
        If it fails; a master that its quality control does not pass is none of this.
    """
    masters = work / "masters"
    shutil.rmtree(masters, ignore_errors=True)
    config = {
        "dark_capture": {"output_dir": str(darks)},
        "flat_capture": {"output_dir": str(flats)},
        "master_frames": {"output_dir": str(masters)},
        "compute": {"memory_limit": limit},
    }
    path = work / "config.yaml"
    path.write_text(json.dumps(config, indent=2))  # JSON is YAML
    argv = (sys.executable, "-m", "ostcal.cli", "masters", "--config", str(path), "--no-confirm")
    environment = {"PYTHONPATH": str(BENCH.parent)}
    if can_be_cold():
        evict([*files_below(darks), *files_below(flats)])
    usage = run_measured(Command(argv=argv, directory=work / "run", environment=environment), timeout_s=900.0)
    if usage.exit_code not in (0, 3):
        raise SystemExit(f"ostcal masters ended with {usage.exit_code}, see {work / 'run' / 'log.txt'}")
    return usage


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
