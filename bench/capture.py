"""Measure the capture of large frames: download, storing, overlap with the exposure, memory.

1. An image over loopback, from request to row-major array, against the same bytes from a plain socket; and how long a
   control call of one camera takes while another camera downloads.
2. The processor time to commit one frame: statistics, checks, compression, shard, fsync, record.
3. ``ostcal darks`` against ``ostcal simulate`` in a process of its own: time from frame to frame beside a loop that
   exposes and downloads and stores nothing, and the memory of the command.

    python bench/capture.py [--quick] [--out bench/results/capture.json]
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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import download
from machine import machine_facts
from make_tables import capture_table
from ostcal.capture.exposer import Exposer, TakenFrame
from ostcal.capture.place import find_place
from ostcal.capture.recording import RecordedSeries, SeriesRecorder
from ostcal.capture.series_plan import RetryRules, SeriesPlan, SeriesSink
from ostcal.clock import SystemClock
from ostcal.devices.alpaca import AlpacaCamera
from ostcal.devices.protocols import CameraInfo, CameraStatus, ExposureResult
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import gradient_adu
from ostcal.series.reader import open_series
from ostcal.series.record import checksum, frame_statistics
from ostcal.simulator.sensor import SENSORS, Exposure
from process_tree import Command, Usage, run_measured
from programs import BENCH

BIAS_S = 0.001
DARK_S = 2.0
FLAT_E_PER_S = 12_000.0
"""Half of the full scale of the large sensor in two seconds."""
ROOT = BENCH.parent
FOLDERS = ("large", "small", "store_dark", "store_flat")
"""What is made in the folder of the work."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    sensor: str
    rounds: int
    """Downloads of each way, in turns."""
    frames: int
    """Of each series; the first two do not count, as the simulator prepares its noise with them."""
    stored: int
    """Frames committed for the processor time."""
    time_scale: float = 1.0
    """How much faster the camera's time passes."""


FULL = Plan(sensor="qhy600m", rounds=15, frames=12, stored=6)
QUICK = Plan(sensor="demo", rounds=3, frames=4, stored=2, time_scale=20.0)


def main() -> int:
    """Measure, store the result, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 MP and few frames: whether it works, no figures")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "capture")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "capture.json")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    sensor = SENSORS[plan.sensor]
    for name in FOLDERS:
        shutil.rmtree(arguments.work / name, ignore_errors=True)
    # The series come first: the kernel counts the memory of a process from before it became another program too, so
    # that a command started by a large process seems as large.
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    series = measure_series(arguments.work, plan)
    width, height = sensor.width, sensor.height
    result = {
        "benchmark": "capture",
        "machine": machine_facts(),
        "load_before": load_before,
        "sensor": plan.sensor,
        "width": width,
        "height": height,
        "download": {name: download.compare(width, height, name, plan.rounds) for name in download.WIRE_TYPES},
        "control_call": download.control_calls(width, height),
        "store": {kind: store_frames(arguments.work, plan, kind) for kind in ("dark", "flat")},
        "series": series,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(capture_table(result))
    return 0


# ---- storing one frame ----


def store_frames(work: Path, plan: Plan, kind: str) -> dict[str, float]:
    """Commit frames of the simulated sensor as a capture does; give the medians for one frame."""
    recorder, frames = _recorder(work / f"store_{kind}", plan, kind)
    system_s = [os.times().system]
    costs = []
    for pixels in frames:
        costs.append(_cost(partial(recorder.commit, _taken(pixels))))
        system_s.append(os.times().system)
    wall_s, cpu_s = zip(*costs[1:], strict=True)  # the first makes the series and loads what it needs
    parts = {
        "statistics_cpu_s": partial(frame_statistics, frames[0], saturation_adu=65000.0),
        "checksums_cpu_s": lambda: [checksum(frames[0]), checksum(frames[0])],  # made, and checked before writing
        "gradient_cpu_s": partial(gradient_adu, frames[0]),
    }
    return {
        "cpu_s": round(statistics.median(cpu_s), 3),
        "best_cpu_s": round(min(cpu_s), 3),
        "system_cpu_s": round(statistics.median(np.diff(system_s)[1:]), 3),
        "wall_s": round(statistics.median(wall_s), 3),
        **{name: round(statistics.median(_cost(part)[1] for _ in range(3)), 3) for name, part in parts.items()},
        "stored_bytes": _size_of(work / f"store_{kind}") // len(frames),
    }


def _recorder(folder: Path, plan: Plan, kind: str) -> tuple[SeriesRecorder, list[NDArray[np.uint16]]]:
    sensor = SENSORS[plan.sensor]
    lit = FLAT_E_PER_S if kind == "flat" else 0.0
    exposure = Exposure(exposure_time_s=DARK_S, illumination_e_per_s=lit)
    frames = [sensor.expose(exposure, np.random.default_rng(number)) for number in range(1 + plan.stored)]
    series = SeriesPlan(
        name=kind,
        frame_type=FrameType(kind),
        exposure_time_s=DARK_S,
        n_frames=len(frames),
        settings=CameraSettings(camera="bench", gain=100, offset=50, binning=(1, 1)),
        light=kind == "flat",
        bias_level_adu=sensor.bias_level_adu,
    )
    sink = SeriesSink(directory=folder)
    place = find_place(series, sink, frames[0].shape, -10.0)
    info = _camera_info(plan)
    return SeriesRecorder(RecordedSeries(plan=series, sink=sink, place=place, info=info, set_point_c=-10.0)), frames


def _camera_info(plan: Plan) -> CameraInfo:
    """Ask the simulated camera, so that what a camera says has one owner."""
    with simulator(plan) as port, AlpacaCamera("127.0.0.1", port) as camera:
        return camera.info


def _taken(pixels: NDArray[np.uint16]) -> TakenFrame:
    start = datetime.now(UTC) - timedelta(seconds=DARK_S)
    return TakenFrame(
        result=ExposureResult(pixels=pixels, exposure_time_s=DARK_S, start_utc=start.isoformat()),
        requested_s=DARK_S,
        started_s=0.0,
        start_utc=start,
        status=CameraStatus(
            ccd_temperature_c=-10.0, set_temperature_c=-10.0, cooler_on=True, cooler_power_percent=50.0
        ),
    )


def _cost(work: Callable[[], Any]) -> tuple[float, float]:
    """Give (wall, processor) seconds; the processor time is that of all threads."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- whole series ----


def measure_series(work: Path, plan: Plan) -> dict[str, Any]:
    """Run ``ostcal darks``, and the bare loop, against the same simulated camera; and ``ostcal darks`` of 1 MP."""
    exposures_s = {"bias": BIAS_S, "dark": DARK_S}
    with simulator(plan) as port:
        usage = run_darks(work / "large", plan, port)
        small_plan = replace(plan, sensor=QUICK.sensor)
        with simulator(small_plan) as small_port:
            small = run_darks(work / "small", small_plan, small_port)
        bare = {name: bare_cadence_s(port, plan, exposure_s) for name, exposure_s in exposures_s.items()}
    frame_bytes = SENSORS[plan.sensor].width * SENSORS[plan.sensor].height * 2
    above_bytes = usage.peak_rss_bytes - small.peak_rss_bytes
    return {
        "frames": 2 * plan.frames,
        "exposure_s": exposures_s,
        "bare_cadence_s": bare,
        "cadence_s": {
            name: cadence_s(work / "large" / "darks" / f"exp_{exposure_s:.3f}s.zarr")
            for name, exposure_s in exposures_s.items()
        },
        "frame_bytes": frame_bytes,
        "wall_s": round(usage.wall_s, 2),
        "cpu_s": round(usage.cpu_s, 2),
        "cpu_per_frame_s": round((usage.cpu_s - small.cpu_s) / (2 * plan.frames), 3),
        "peak_rss_bytes": usage.peak_rss_bytes,
        "peak_rss_of_1_mp_bytes": small.peak_rss_bytes,
        "frames_in_memory": round(above_bytes / frame_bytes, 2),
    }


def bare_cadence_s(port: int, plan: Plan, exposure_s: float) -> float:
    """Expose and download with the code of a capture and store nothing; median seconds from frame to frame."""
    starts = []
    with AlpacaCamera("127.0.0.1", port) as camera:
        exposer = Exposer(camera, SystemClock(), RetryRules())
        for _ in range(plan.frames):
            starts.append(exposer.take(exposure_s, light=False).started_s)
    return round(statistics.median(_steps(starts)), 3)


def run_darks(folder: Path, plan: Plan, port: int) -> Usage:
    """Run ``ostcal darks`` once: bias frames and darks of two seconds."""
    folder.mkdir(parents=True)
    config = {
        "video": {"camera_type": "alpaca", "alpaca": {"port": port}},
        "dark_capture": {
            "num_darks": plan.frames,
            "min_exposure": BIAS_S,
            "science_exposure_time": DARK_S,
            "exposure_factors": [1.0],
            "flat_exposure_time": DARK_S,
        },
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    argv = (sys.executable, "-m", "ostcal", "darks", "--config", "config.yaml", "--no-confirm")
    usage = run_measured(Command(argv=argv, directory=folder, environment={"PYTHONPATH": str(ROOT)}), timeout_s=600.0)
    if usage.exit_code != 0:
        raise SystemExit(f"ostcal darks ended with {usage.exit_code}, see {folder / 'log.txt'}")
    return usage


def cadence_s(location: Path) -> float:
    """Give the median time from the start of one frame to that of the next, from the records of a series."""
    return round(statistics.median(frame_steps_s(location)), 3)


def frame_steps_s(location: Path) -> list[float]:
    """Give the times from the start of one frame to that of the next, in their order; not the first two."""
    starts = [record.metadata.date_obs for record in open_series(location).records]
    return _steps([start.timestamp() for start in starts if start is not None])


def _steps(starts_s: list[float]) -> list[float]:
    return [round(float(step_s), 4) for step_s in np.diff(sorted(starts_s))[2:]]


@contextmanager
def simulator(plan: Plan) -> Iterator[int]:
    """Run ``ostcal simulate`` in a process of its own; gives its port."""
    argv = [sys.executable, "-m", "ostcal", "simulate", "--sensor", plan.sensor, "--time-scale", str(plan.time_scale)]
    argv += ["--fast", "--port", "0", "--no-discovery"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "http://" not in line:
            sys.exit(f"the simulated observatory did not start: {line!r}")
        yield int(line.split("http://127.0.0.1:")[1].split()[0])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
