"""Measure what combining series while the camera exposes costs the capture, and how soon the last master is there.

``ostcal simulate`` serves a camera in a process of its own. ``ostcal darks`` takes bias frames and darks alone, before
and after ``ostcal workflow``, which takes the same, and flats, and combines each finished series meanwhile. Compared
are the time from frame to frame with the mean of both captures alone (how far these are apart says what a difference
is worth), and the time from the end of the last frame to the last master beside that of one master alone.

    python bench/while_exposing.py [--quick] [--out bench/results/while_exposing.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from capture import Plan as Simulated
from capture import cadence_s, simulator
from machine import machine_facts
from make_tables import while_exposing_table
from process_tree import Command, Usage, run_measured
from programs import BENCH

CADENCE_LIMIT = 1.02
"""Times of the capture alone, from frame to frame."""
LAST_MASTER_LIMIT = 2.5
"""Times of one master alone, from the end of the last frame to the last master."""
BIAS_S = 0.001


@dataclass(frozen=True, kw_only=True)
class Evening:
    """What is captured."""

    sensor: str
    frames: int
    """Of each series; the first two do not count for the time from frame to frame."""
    frames_alone: int
    """Of each series of the capture alone, which has no masters to make."""
    darks_s: tuple[float, ...]
    time_scale: float = 1.0


FULL = Evening(sensor="qhy600m", frames=24, frames_alone=12, darks_s=(1.0, 2.0))
QUICK = Evening(sensor="demo", frames=5, frames_alone=5, darks_s=(10.0, 20.0), time_scale=20.0)


def main() -> int:
    """Measure; 0 when the capture was not delayed and the last master was there in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 MP and few frames: whether it works, no figures")
    parser.add_argument("--frames", type=int, help="of each series")
    parser.add_argument("--memory-limit-mib", type=int, default=2048)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "while_exposing")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "while_exposing.json")
    arguments = parser.parse_args()
    chosen = QUICK if arguments.quick else FULL
    evening = replace(chosen, frames=arguments.frames or chosen.frames)
    shutil.rmtree(arguments.work, ignore_errors=True)
    try:
        result = measure(arguments.work, evening, arguments.memory_limit_mib)
    finally:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(while_exposing_table(result))
    return 0 if arguments.quick or is_within(result) else 1


def is_within(result: dict[str, Any]) -> bool:
    """Whether all limits were kept."""
    return (
        max(result["cadence_ratio"].values()) <= CADENCE_LIMIT
        and result["last_master_ratio"] <= LAST_MASTER_LIMIT
        and result["workflow"]["sum_of_peaks_bytes"] <= result["memory_limit_bytes"]
    )


def measure(work: Path, evening: Evening, memory_limit_mib: int) -> dict[str, Any]:
    """Take darks alone, then the whole evening; at last one master and all masters of the same frames alone."""
    served = Simulated(sensor=evening.sensor, rounds=0, frames=evening.frames, stored=0, time_scale=evening.time_scale)
    with simulator(served) as port:
        alone = replace(evening, frames=evening.frames_alone)
        run("darks", work / "before", alone, port, memory_limit_mib)
        workflow = run("workflow", work / "evening", evening, port, memory_limit_mib)
        run("darks", work / "after", alone, port, memory_limit_mib)
    last_master_s = _last_master(work / "evening") - _last_frame(work / "evening")
    one = [one_master(work, evening, memory_limit_mib) for _ in range(2)]
    exposures_s = (BIAS_S, *evening.darks_s)
    alone_s = {f"{time_s:g}": [_cadence(work / part, time_s) for part in ("before", "after")] for time_s in exposures_s}
    cadences = {
        f"{time_s:g}": (statistics.mean(alone_s[f"{time_s:g}"]), _cadence(work / "evening", time_s))
        for time_s in exposures_s
    }
    one_s = statistics.mean(usage.wall_s for usage in one)
    return {
        "benchmark": "while_exposing",
        "machine": machine_facts(),
        "evening": asdict(evening),
        "memory_limit_bytes": memory_limit_mib * 2**20,
        "cadence_s": cadences,
        "cadence_alone_s": alone_s,
        "cadence_ratio": {exposure: both / alone for exposure, (alone, both) in cadences.items()},
        "masters": len(list((work / "evening" / "masters").glob("*.fits"))),
        "series": len(list((work / "evening").glob("*s/*.zarr"))) - 1,
        "last_master_s": last_master_s,
        "one_master_s": one_s,
        "last_master_ratio": last_master_s / one_s,
        "workflow": asdict(workflow),
    }


def run(command: str, folder: Path, evening: Evening, port: int, memory_limit_mib: int) -> Usage:
    """Run a capturing command."""
    folder.mkdir(parents=True)
    devices = {"port": port, "filter_wheel_id": 0, "cover_calibrator_id": 0}
    science_s = evening.darks_s[0]
    config = {
        "video": {"camera_type": "alpaca", "alpaca": devices},
        "dark_capture": {
            "num_darks": evening.frames,
            "min_exposure": BIAS_S,
            "science_exposure_time": science_s,
            "exposure_factors": [exposure_s / science_s for exposure_s in evening.darks_s],
            "flat_exposure_time": science_s,
        },
        "flat_capture": {"num_flats": evening.frames},
        "master_frames": {"output_dir": "masters"},
        "compute": {"memory_limit": f"{memory_limit_mib}MiB"},
    }
    return _run(command, folder, config)


def one_master(work: Path, evening: Evening, memory_limit_mib: int) -> Usage:
    """Make one dark of the evening's frames alone, from the page cache as the workflow does."""
    folder = work / "one"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    series = work / "evening" / "darks" / f"exp_{evening.darks_s[-1]:.3f}s.zarr"
    config = {
        "dark_capture": {"output_dir": str(series)},
        "flat_capture": {"output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": "masters"},
        "compute": {"memory_limit": f"{memory_limit_mib}MiB"},
    }
    return _run("masters", folder, config)


def _run(command: str, folder: Path, config: dict[str, Any]) -> Usage:
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    argv = (sys.executable, "-m", "ostcal.cli", command, "--config", "config.yaml", "--no-confirm", "--debug")
    environment = {"PYTHONPATH": str(BENCH.parent)}
    usage = run_measured(Command(argv=argv, directory=folder, environment=environment), timeout_s=1200.0)
    if usage.exit_code not in (0, 3):
        text = (folder / "log.txt").read_text(errors="replace")
        raise SystemExit(f"ostcal {command} ended with {usage.exit_code}:\n{text[-2000:]}")
    return usage


def _cadence(folder: Path, exposure_s: float) -> float:
    return cadence_s(folder / "darks" / f"exp_{exposure_s:.3f}s.zarr")


def _last_frame(folder: Path) -> float:
    """Give when the last record was written."""
    return max(path.stat().st_mtime for path in folder.glob("*s/*.zarr/ledger/*.json"))


def _last_master(folder: Path) -> float:
    """Give when the last master was committed: its FITS file is there before."""
    return max(path.stat().st_mtime for path in (folder / "masters" / "masters.zarr").glob("*/zarr.json"))


if __name__ == "__main__":
    sys.exit(main())
