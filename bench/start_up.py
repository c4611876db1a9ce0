"""Measure the processor time of ``ostcal --help`` and of a small run, above that of ``python -c pass``.

The small run makes one master dark of 10 frames of one megapixel with the defaults (quality control and report), and
once without both; kernels are compiled before.
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

from dark_frames import FrameSet, prepare_frames
from machine import machine_facts
from make_tables import start_up_table
from process_tree import Command, Usage, run_measured
from programs import BENCH, Job, numba_cache, ostcal_command

SMALL = FrameSet(frames=10, width=1200, height=834)
HELP_LIMIT_S = 0.25
SMALL_LIMIT_S = 2.5
HELP, DEFAULTS, BARE = "ostcal --help", "small run", "small run without quality control"
PASS = "python -c pass"


def main() -> int:
    """Measure all commands in turn; 0 when each stayed below its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run, a check and no result")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "start-up")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "start_up.json")
    arguments = parser.parse_args()
    runs = 1 if arguments.quick else arguments.runs
    frames = prepare_frames(arguments.work, SMALL)
    usages: dict[str, list[Usage]] = {}
    for number in range(runs + 1):  # the first one compiles
        for name, command in commands(frames, arguments.work).items():
            usage = run_measured(command, timeout_s=300)
            if usage.exit_code != 0:
                sys.exit(f"{name} ended with {usage.exit_code}, see {command.directory / 'log.txt'}")
            if number:
                usages.setdefault(name, []).append(usage)
    bare = medians(usages.pop(PASS))
    limits = {HELP: HELP_LIMIT_S, DEFAULTS: SMALL_LIMIT_S, BARE: SMALL_LIMIT_S}
    above = {name: {key: value - bare[key] for key, value in medians(each).items()} for name, each in usages.items()}
    result = {
        "benchmark": "start_up",
        "machine": machine_facts(),
        "frames": asdict(SMALL),
        "runs": runs,
        "python": bare,
        "commands": {name: {**each, "limit_s": limits[name]} for name, each in above.items()},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(start_up_table(result))
    slow = [name for name, each in above.items() if each["cpu_s"] > limits[name]]
    for name in slow:
        print(f"{name}: {above[name]['cpu_s']:.2f} s are more than {limits[name]} s", file=sys.stderr)
    return 1 if slow and not arguments.quick else 0


def commands(frames: list[Path], work: Path) -> dict[str, Command]:
    """Give the commands, the masters among them in empty directories."""
    return {
        PASS: Command(argv=(sys.executable, "-c", "pass"), directory=work / "pass", environment={}),
        HELP: Command(
            argv=(sys.executable, "-m", "ostcal.cli", "--help"),
            directory=work / "help",
            environment={"PYTHONPATH": str(BENCH.parent)},
        ),
        DEFAULTS: small_run(frames, work / "defaults", {"quality_control": True}),
        BARE: small_run(frames, work / "bare", {"quality_control": False}),
    }


def small_run(frames: list[Path], directory: Path, settings: dict[str, Any]) -> Command:
    """Give ``ostcal masters`` on a few frames, with the default rejection."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    job = Job(frames=frames, directory=directory, settings={"master_frames": {"clip_iterations": 1, **settings}})
    numba_cache(job).mkdir(exist_ok=True)
    return ostcal_command(job)


def medians(usages: list[Usage]) -> dict[str, float]:
    """Give the medians of processor and wall time."""
    return {
        "cpu_s": statistics.median(usage.cpu_s for usage in usages),
        "wall_s": statistics.median(usage.wall_s for usage in usages),
    }


if __name__ == "__main__":
    sys.exit(main())
