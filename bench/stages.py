"""Profile one run of ``ostcal masters`` per stage, from the timing lines of its own log.

With ``--debug`` the log has lines that end with ``timing: STAGE SECONDS s``; lines of one stage are added up. What no
stage claims is ``the rest``. The log states wall time of what comes one after the other, so that the sum is the whole;
what combining consists of is stated beside it, summed over the threads that did it at the same time. The engine's parts
(reading, decompressing, sorting, each alone) are in the table of ``engine.py``.
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
DETAIL_LINE = re.compile(r"timing: [^:\s]+: (?P<parts>.*), (?:summed over the workers|published)\s*$")
DETAIL = re.compile(r"(?P<stage>\S+) (?P<seconds>\d+(?:\.\d+)?) s")
REST = "the rest"
IMPORTS = "import ostcal.cli.masters, ostcal.build.api, dask.multiprocessing, dask.threaded"


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
    text = "\n".join(log.read_text(encoding="utf-8") for log in logs)
    stages = sum_stages(text)
    python_s = time_of("pass", work)
    stages = {"python itself": python_s, "imports": time_of(IMPORTS, work) - python_s, **stages}
    stages[REST] = usage.wall_s - sum(stages.values())
    result = {
        "benchmark": "stages",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        **asdict(usage),
        "stages": stages,
        "of_combining": sum_details(text),
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


def time_of(code: str, work: Path) -> float:
    """Give the seconds that Python takes for some code, the faster of three times."""
    command = Command(
        argv=(sys.executable, "-c", code),
        directory=work / "stages" / "python",
        environment={"PYTHONPATH": str(BENCH.parent), "NUMBA_CACHE_DIR": str(work / "stages" / "numba_cache")},
    )
    return min(run_measured(command, timeout_s=60.0).wall_s for _ in range(3))


def sum_details(log: str) -> dict[str, float]:
    """Add up what the lines of single masters say of their parts."""
    details: dict[str, float] = {}
    for line in log.splitlines():
        match = DETAIL_LINE.search(line)
        for part in DETAIL.finditer(match["parts"]) if match else ():
            details[part["stage"]] = details.get(part["stage"], 0.0) + float(part["seconds"])
    return details


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
