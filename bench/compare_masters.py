"""Compare ostcal with other programs: one master dark from the same FITS frames, whole commands, in one run.

Generates the frames once, runs every program that is installed, checks that their masters agree with the known sensor
and with each other, prints a table with the ratios to ostcal, and writes everything to a JSON file.
Timings of one program differ by up to two from hour to hour on a shared machine: only ratios within a run count.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from agreement import Master, check_size, compare
from dark_frames import FrameSet, add_frame_arguments, chosen_frame_set, default_work, make_sensor, prepare_frames
from machine import machine_facts
from make_tables import masters_table
from page_cache import read_into_nothing
from process_tree import Usage, run_measured
from programs import BENCH, PROGRAMS, Job, Program, numba_cache, select_programs

ALL_PEERS = ",".join(program.name for program in PROGRAMS if not program.is_own)


SHORT_S = 60.0
"""Programs that take less run `TURNS` times in a round, in turn: a minute averages over what neighbours of a machine
do, three seconds do not."""
TURNS = 3
EARLIER = "earlier"
"""Where the files of earlier runs wait for the end of all: a file system that has just deleted many files takes longer
to make new ones (ext4 leaves their inodes alone for a minute), 0.05 s of a run with 200 files."""


class BenchmarkError(Exception):
    """A program failed, or made no master."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_frame_arguments(parser)
    parser.add_argument("--peers", help=f"comma-separated, default: those installed of {ALL_PEERS}")
    parser.add_argument("--peers-only", action="store_true", help="leave ostcal out")
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        help="rounds: all programs in turn, those of less than a minute three times; the fastest of each counts",
    )
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "masters.json")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="limit for each command")
    return parser.parse_args()


def main() -> int:
    """Run the comparison; 0 when every program ran and agreed."""
    arguments = parse_arguments()
    frame_set = chosen_frame_set(arguments)
    try:
        programs = select_programs(ALL_PEERS if arguments.peers is None else arguments.peers)
    except ValueError as error:
        sys.exit(f"--peers: {error}")
    programs = tuple(program for program in programs if not (program.is_own and arguments.peers_only))
    versions = {program.name: program.version() for program in programs}
    missing = [program for program in programs if versions[program.name] is None]
    for program in missing:
        print(f"{program.title} is not installed and left out: {program.install}", file=sys.stderr)
    present = [program for program in programs if versions[program.name] is not None]
    work = arguments.work or default_work(frame_set)
    frames = prepare_frames(work, frame_set)
    runs = run_all(present, frames, work / "programs", arguments.repeat, arguments.timeout)
    agreements = check_all(present, work / "programs", frame_set)
    result = {
        "benchmark": "masters",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        "missing": {program.name: program.install for program in missing},
        "programs": [
            {**describe(program, versions), **runs[program.name], **agreements[program.name]} for program in present
        ],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(masters_table(result))
    return report_disagreements(agreements)


def describe(program: Program, versions: dict[str, str | None]) -> dict[str, object]:
    """State which program, in which version, doing what."""
    return {
        "name": program.name,
        "title": program.title,
        "version": versions[program.name],
        "method": program.method,
    }


def run_all(
    programs: Sequence[Program], frames: list[Path], scratch: Path, repeat: int, timeout_s: float
) -> dict[str, dict[str, object]]:
    """Run the programs in turn, ``repeat`` rounds; ostcal once more before, with nothing compiled."""
    shutil.rmtree(scratch, ignore_errors=True)
    cold: dict[str, Usage] = {}
    warm: dict[str, list[Usage]] = {program.name: [] for program in programs}
    for program in programs:
        if program.name == "ostcal":
            cold[program.name] = run_one(program, frames, scratch, timeout_s)
    for turn in range(repeat * TURNS):
        for program in programs:
            runs = warm[program.name]
            if turn % TURNS == 0 or runs[-1].wall_s < SHORT_S:
                runs.append(run_one(program, frames, scratch, timeout_s))
    shutil.rmtree(scratch / EARLIER, ignore_errors=True)
    return {
        name: {
            "wall_s": min(usage.wall_s for usage in usages),  # other work on the machine only ever adds
            "cpu_s": min(usage.cpu_s for usage in usages),
            "peak_rss_bytes": max(usage.peak_rss_bytes for usage in usages),
            "runs": [asdict(usage) for usage in usages],
            "cold": asdict(cold[name]) if name in cold else None,
        }
        for name, usages in warm.items()
    }


def run_one(program: Program, frames: list[Path], scratch: Path, timeout_s: float) -> Usage:
    """Measure one whole command of a program in an empty directory."""
    directory = scratch / program.name
    earlier = scratch / EARLIER
    earlier.mkdir(parents=True, exist_ok=True)
    if directory.exists():
        directory.rename(earlier / f"{program.name}-{len(list(earlier.iterdir()))}")
    directory.mkdir()
    job = Job(frames=frames, directory=directory)
    numba_cache(job).mkdir(exist_ok=True)
    read_into_nothing(frames)  # what nobody touched for minutes, a virtual machine's host may have taken back
    usage = run_measured(program.command(job), timeout_s=timeout_s)
    print(
        f"{program.name}: {usage.wall_s:.2f} s, {usage.cpu_s:.2f} s CPU, {usage.peak_rss_bytes / 1e9:.2f} GB"
        f" (load before: {usage.load_before})",
        file=sys.stderr,
        flush=True,
    )
    if usage.exit_code != 0 or not list(directory.glob(program.master)):
        log = directory / "log.txt"
        tail = log.read_text(errors="replace")[-2000:]
        raise BenchmarkError(f"{program.title} ended with {usage.exit_code} and made no master; {log} ends:\n{tail}")
    return usage


def check_all(programs: Sequence[Program], scratch: Path, frame_set: FrameSet) -> dict[str, dict[str, object]]:
    """Compare the last master of every program with the truth and with the first program's."""
    sensor = make_sensor(frame_set)
    masters = {
        program.name: Master(
            path=next((scratch / program.name).glob(program.master)), adu_per_unit=program.adu_per_unit
        )
        for program in programs
    }
    checked: dict[str, dict[str, object]] = {}
    for name, master in masters.items():
        check_size(master, frame_set)
        agreement = compare(master, masters[programs[0].name], sensor, frame_set)
        checked[name] = {"agreement": asdict(agreement), "agrees": agreement.holds}
    return checked


def report_disagreements(agreements: dict[str, dict[str, object]]) -> int:
    """Name the programs whose masters are not what they should be; give the exit code."""
    wrong = {name: checked["agreement"] for name, checked in agreements.items() if not checked["agrees"]}
    for name, agreement in wrong.items():
        print(f"{name}: its master is no clipped mean of these frames: {agreement}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(str(error))
