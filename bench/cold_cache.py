"""Combine a stored series from a cold page cache, beside reading the raw FITS files from a cold cache into nothing.

Compression has to pay for itself where the disk is slow: on one that reads more than 1 GB/s nothing is asked for, and
that is what the result says. Before every run the files are taken out of the page cache, and it is checked that none
of their bytes are left there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dark_frames import add_frame_arguments, chosen_frame_set, default_work, prepare_frames
from engine import engine_s
from machine import available_cores, machine_facts
from make_tables import cold_cache_table
from ostcal.series.stack import ZarrStack
from page_cache import cached_share, can_be_cold, evict, files_below, read_into_nothing
from process_tree import run_measured
from programs import BENCH, Job, imported_series, numba_cache, ostcal_command

FAST_DISK_BYTES_PER_S = 1e9
RAW = "raw FITS files read into nothing"
ENGINE = "zarr series combined, engine alone"
COMMAND = "zarr series combined, whole command with FITS"
STILL_CACHED = 0.02
"""Share of a file that may be back in the cache before it is measured: what others on the machine read."""


def main() -> int:
    """Measure all in turn; 0 when combining the series took less time than reading the raw files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_frame_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "cold_cache.json")
    arguments = parser.parse_args()
    frame_set = chosen_frame_set(arguments)
    result: dict[str, Any] = {
        "benchmark": "cold_cache",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        "rounds": arguments.rounds,
        "fast_disk_bytes_per_s": FAST_DISK_BYTES_PER_S,
    }
    if can_be_cold():
        work = arguments.work or default_work(frame_set)
        frames = prepare_frames(work, frame_set)
        result |= measure(frames, imported_series(frames, work / "series-auto"), work, arguments.rounds)
    else:
        result["not_measured"] = "this system does not let a program empty the page cache."
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(cold_cache_table(result))
    return 0 if arguments.quick or "not_measured" in result else judge(result["runs"])


def measure(frames: Sequence[Path], series: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Time reading and combining from a cold cache, in turn; or say why that is not possible."""
    stored = files_below(series)
    combine(series)  # compiled before
    whole_command(frames, series, work)
    ways: dict[str, tuple[Sequence[Path], Callable[[], Any]]] = {
        RAW: (frames, lambda: read_into_nothing(frames)),
        ENGINE: (stored, lambda: combine(series)),
        COMMAND: (stored, lambda: whole_command(frames, series, work)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (files, way) in ways.items():
            evict(files)
            share = cached_share(files)
            if share > STILL_CACHED:
                return {"not_measured": f"{share:.0%} of the bytes stayed in the page cache."}
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    runs = {
        name: {"wall_s": statistics.median(times[name]), "bytes": sum(path.stat().st_size for path in files)}
        for name, (files, _) in ways.items()
    }
    return {"runs": runs, "disk_bytes_per_s": runs[RAW]["bytes"] / runs[RAW]["wall_s"]}


def combine(series: Path) -> float:
    """Combine the series with the engine alone."""
    n = len(list((series / "frames" / "c").iterdir()))
    return engine_s(lambda: ZarrStack(str(series), tuple(range(n)), True), available_cores())


def whole_command(frames: Sequence[Path], series: Path, work: Path) -> None:
    """Make a master of the series with ``ostcal masters``."""
    directory = work / "cold"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    settings: dict[str, object] = {"dark_capture": {"output_dir": str(series.parent)}}
    job = Job(frames=frames, directory=directory, settings=settings)
    numba_cache(job).mkdir(exist_ok=True)
    usage = run_measured(ostcal_command(job), timeout_s=1800)
    if usage.exit_code != 0:
        sys.exit(f"ostcal masters ended with {usage.exit_code}, see {directory / 'log.txt'}")


def judge(runs: dict[str, dict[str, float]]) -> int:
    """Say whether compression paid for itself, which is asked of slow disks only; give the exit code."""
    is_fast = runs[RAW]["bytes"] / runs[RAW]["wall_s"] > FAST_DISK_BYTES_PER_S
    if is_fast or runs[ENGINE]["wall_s"] < runs[RAW]["wall_s"]:
        return 0
    print(f"combining took {runs[ENGINE]['wall_s']:.1f} s, reading {runs[RAW]['wall_s']:.1f} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
