"""Profile one run of ``ostcal masters`` per stage, from the timing lines of its own log.

With ``--debug`` the log has lines that end with ``timing: STAGE SECONDS s``; lines of one stage are added up. What no
stage claims is ``start, imports and the rest``. Stages that ran at the same time in several threads would make the sum
exceed the whole; the log states wall time, so they do not.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from dark_frames import add_frame_arguments, chosen_frame_set, default_work, prepare_frames
from machine import machine_facts
from make_tables import stages_table
from process_tree import Command, Usage, run_measured
from programs import BENCH, Job, numba_cache, ostcal_command

TIMING_LINE = re.compile(r"timing: (?P<stage>\S.*?) (?P<seconds>\d+(?:\.\d+)?(?:e-?\d+)?) s\s*$")
REST = "start, imports and the rest"


def main() -> int:
    """Run twice, the first time to compile the kernels, and print the stages of the second run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_frame_arguments(parser)
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "stages.json")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS")
    arguments = parser.parse_args()
    frame_set = chosen_frame_set(arguments)
    work = arguments.work or default_work(frame_set)
    frames = prepare_frames(work, frame_set)
    for _ in range(2):
        directory = work / "stages" / "ostcal"
        usage = run_debug(frames, directory, arguments.timeout)
        if usage.exit_code != 0:
            sys.exit(f"ostcal ended with {usage.exit_code}, see {directory / 'log.txt'}")
    logs = sorted((directory / "masters").glob("*.log"))
    stages = sum_stages("\n".join(log.read_text(encoding="utf-8") for log in logs))
    bare = Command(argv=(sys.executable, "-c", "pass"), directory=work / "stages" / "python", environment={})
    stages = {"python itself": run_measured(bare, timeout_s=60.0).wall_s, **stages}
    stages[REST] = usage.wall_s - sum(stages.values())
    result = {
        "benchmark": "stages",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        **asdict(usage),
        "stages": stages,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(stages_table(result))
    return 0


def run_debug(frames: list[Path], directory: Path, timeout_s: float) -> Usage:
    """Run ``ostcal masters --debug`` in an empty directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    job = Job(frames=frames, directory=directory, options=("--debug",))
    numba_cache(job).mkdir(exist_ok=True)
    return run_measured(ostcal_command(job), timeout_s=timeout_s)


def sum_stages(log: str) -> dict[str, float]:
    """Add up the timing lines of a log per stage, in the order in which the stages first occur."""
    stages: dict[str, float] = {}
    for line in log.splitlines():
        match = TIMING_LINE.search(line)
        if match:
            stages[match["stage"]] = stages.get(match["stage"], 0.0) + float(match["seconds"])
    return stages


if __name__ == "__main__":
    sys.exit(main())
