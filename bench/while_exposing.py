"""Measure what combining series while the camera exposes costs the capture, and how soon the last master is there.

``ostcal simulate`` serves a camera in a process of its own. ``ostcal workflow`` takes the same evening of bias frames,
darks and flats again and again, in turn with and without ``workflow.masters_while_exposing``. Compared are the mean
times from frame to frame (how far evenings of one kind are apart says what a difference is worth), and the time from
the end of the last frame to the last master beside that of one master alone.

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
from capture import frame_steps_s, simulator
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
    darks_s: tuple[float, ...]
    time_scale: float = 1.0
    rounds: int = 2
    """Evenings of each kind: without, with, with, without, and so on, as a machine's speed changes by the hour."""


FULL = Evening(sensor="qhy600m", frames=24, darks_s=(1.0, 2.0))
QUICK = Evening(sensor="demo", frames=5, darks_s=(10.0, 20.0), time_scale=20.0, rounds=1)


def main() -> int:
    """Measure; 0 when the capture was not delayed and the last master was there in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 MP and few frames: whether it works, no figures")
    parser.add_argument("--frames", type=int, help="of each series")
    parser.add_argument("--rounds", type=int, help="evenings of each kind")
    parser.add_argument("--memory-limit-mib", type=int, default=2048)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "while_exposing")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "while_exposing.json")
    arguments = parser.parse_args()
    chosen = QUICK if arguments.quick else FULL
    evening = replace(chosen, frames=arguments.frames or chosen.frames, rounds=arguments.rounds or chosen.rounds)
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
        and result["sum_of_peaks_bytes"] <= result["memory_limit_bytes"]
    )


def measure(work: Path, evening: Evening, memory_limit_mib: int) -> dict[str, Any]:
    """Take evenings of both kinds in turn; after those with masters meanwhile, make one master alone."""
    exposures_s = (BIAS_S, *evening.darks_s)
    folder = work / "evening"
    steps: dict[bool, list[dict[str, list[float]]]] = {False: [], True: []}
    ends: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    served = Simulated(sensor=evening.sensor, rounds=0, frames=evening.frames, stored=0, time_scale=evening.time_scale)
    with simulator(served) as port:
        for is_ahead in ((False, True, True, False) * evening.rounds)[: 2 * evening.rounds]:
            usage = take(folder, evening, port, memory_limit_mib, is_ahead=is_ahead)
            steps[is_ahead].append(steps_s(folder, exposures_s))
            end = {"last_master_s": _last_master(folder) - _last_frame(folder), "workflow": asdict(usage)}
            if is_ahead:
                end["one_master_s"] = one_master(work, evening, memory_limit_mib).wall_s
                masters = len(list((folder / "masters").glob("*.fits")))
                series = len(list(folder.glob("*s/*.zarr"))) - 1
            ends[is_ahead].append(end)
            shutil.rmtree(folder)
    cadences = {
        f"{exposure_s:g}": (mean_step_s(steps[False], exposure_s), mean_step_s(steps[True], exposure_s))
        for exposure_s in exposures_s
    }
    last_master_s = statistics.median(end["last_master_s"] for end in ends[True])
    one_master_s = statistics.median(end["one_master_s"] for end in ends[True])
    return {
        "benchmark": "while_exposing",
        "machine": machine_facts(),
        "evening": asdict(evening),
        "memory_limit_bytes": memory_limit_mib * 2**20,
        "cadence_s": cadences,
        "cadence_ratio": {exposure: both / alone for exposure, (alone, both) in cadences.items()},
        "steps_alone_s": steps[False],
        "steps_while_combining_s": steps[True],
        "masters": masters,
        "series": series,
        "last_master_s": last_master_s,
        "one_master_s": one_master_s,
        "last_master_ratio": last_master_s / one_master_s,
        "last_master_without_s": statistics.median(end["last_master_s"] for end in ends[False]),
        "evenings": ends[True],
        "evenings_without": ends[False],
        "sum_of_peaks_bytes": max(end["workflow"]["sum_of_peaks_bytes"] for end in ends[True]),
    }


def steps_s(folder: Path, exposures_s: tuple[float, ...]) -> dict[str, list[float]]:
    """Give the times from the start of one frame to that of the next, for each exposure time; not the first two."""
    return {
        f"{exposure_s:g}": frame_steps_s(folder / "darks" / f"exp_{exposure_s:.3f}s.zarr") for exposure_s in exposures_s
    }


def mean_step_s(captures: list[dict[str, list[float]]], exposure_s: float) -> float:
    """Give the mean over all frames of all captures: a median would not see what delays less than half of them."""
    return statistics.mean(step_s for capture in captures for step_s in capture[f"{exposure_s:g}"])


def take(folder: Path, evening: Evening, port: int, memory_limit_mib: int, *, is_ahead: bool) -> Usage:
    """Take an evening and make its masters, with or without combining meanwhile."""
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
        "workflow": {"masters_while_exposing": is_ahead},
    }
    return _run("workflow", folder, config)


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


def _last_frame(folder: Path) -> float:
    """Give when the last record was written."""
    return max(path.stat().st_mtime for path in folder.glob("*s/*.zarr/ledger/*.json"))


def _last_master(folder: Path) -> float:
    """Give when the last master was committed: its FITS file is there before."""
    return max(path.stat().st_mtime for path in (folder / "masters" / "masters.zarr").glob("*/zarr.json"))


if __name__ == "__main__":
    sys.exit(main())
