"""Measure what quality control adds to the time of building a master; the report is timed apart.

One master dark is made with ``quality_control: false``, with it, and with it and the report, in turn and several times;
medians are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dark_frames import FrameSet, parse_size, prepare_frames
from machine import machine_facts
from make_tables import quality_table
from process_tree import Usage, run_measured
from programs import BENCH, Job, numba_cache, ostcal_command

LIMIT = 0.35
"""Share of the time without it that quality control may add."""

VARIANTS: dict[str, dict[str, Any]] = {
    "without": {"master_frames": {"quality_control": False}},
    "with": {"master_frames": {"quality_control": True}, "quality": {"report": False}},
    "with report": {"master_frames": {"quality_control": True}, "quality": {"report": True}},
}


def main() -> int:
    """Measure all variants; 0 when quality control stayed below its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=parse_size, default=(9576, 6388), metavar="WIDTHxHEIGHT")
    parser.add_argument("--quick", action="store_true", help="24 frames of 1000x800, two runs: whether it works")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "quality.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.frames, arguments.size, arguments.runs = 24, (1000, 800), 2
    width, height = arguments.size
    frame_set = FrameSet(frames=arguments.frames, width=width, height=height)
    frames = prepare_frames(arguments.work / f"{arguments.frames}x{width}x{height}", frame_set)
    usages = measure(frames, arguments.work / "quality", arguments.runs)
    medians = {name: statistics.median(usage.wall_s for usage in runs) for name, runs in usages.items()}
    result = {
        "benchmark": "quality",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        "runs": arguments.runs,
        "limit": LIMIT,
        "median_s": medians,
        "median_cpu_s": {name: statistics.median(u.cpu_s for u in runs) for name, runs in usages.items()},
        "peak_bytes": {name: max(u.sum_of_peaks_bytes for u in runs) for name, runs in usages.items()},
        "added": medians["with"] / medians["without"] - 1,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(quality_table(result))
    return 0 if arguments.quick or result["added"] < LIMIT else 1


def measure(frames: list[Path], work: Path, runs: int) -> dict[str, list[Usage]]:
    """Run all variants in turn, once to compile and warm up and then `runs` times."""
    usages: dict[str, list[Usage]] = {name: [] for name in VARIANTS}
    for number in range(runs + 1):
        for name, settings in VARIANTS.items():
            directory = work / name.replace(" ", "-")
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            job = Job(frames=frames, directory=directory, settings=settings)
            numba_cache(job).mkdir(exist_ok=True)
            usage = run_measured(ostcal_command(job), timeout_s=600)
            if usage.exit_code != 0:
                raise SystemExit(f"{name}: ostcal masters ended with {usage.exit_code}")
            if number:
                usages[name].append(usage)
    return usages


if __name__ == "__main__":
    sys.exit(main())
