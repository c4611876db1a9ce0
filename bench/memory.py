"""Measure the memory of ``ostcal masters`` against the memory limit it was given.

For each number of frames and each scheduler: the peak resident memory of every process of the run, summed, which may
not exceed ``memory_limit``. Pages that processes share count once for each, so the sum is an upper bound. Cases that
end in ``:zarr`` are stored series; 400 frames of 61 MP take 18 GB, and some minutes to make.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from dark_frames import FrameSet, parse_size, prepare_frames
from machine import machine_facts
from make_tables import memory_table
from ostcal.frames import FrameType
from process_tree import Usage, run_measured
from programs import BENCH, Job, numba_cache, ostcal_command
from whole_night import NightSet, SeriesTask, make_series

CASES = ("10:9576x6388", "40:9576x6388", "400:3000x2000", "400:9576x6388:zarr")
QUICK_CASES = ("10:1000x800", "40:1000x800", "12:1000x800:zarr")
SCHEDULERS = ("threads", "processes")
DARKS_STORED_SHARE = 0.6
"""Of the raw bytes; darks take 0.53."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Frames, as FITS files or as a series."""

    frames: FrameSet
    is_stored: bool


def parse_case(text: str) -> Case:
    """Read ``FRAMES:WIDTHxHEIGHT``, with ``:zarr`` behind it for a stored series."""
    frames, _, rest = text.partition(":")
    size, _, kind = rest.partition(":")
    if not frames.isdecimal() or kind not in ("", "zarr"):
        raise argparse.ArgumentTypeError(f"{text!r} is not FRAMES:WIDTHxHEIGHT[:zarr], for example {CASES[0]}")
    width, height = parse_size(size)
    return Case(frames=FrameSet(frames=int(frames), width=width, height=height), is_stored=kind == "zarr")


def main() -> int:
    """Measure every case; 0 when all ran and stayed below the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=parse_case, action="append", help=f"repeatable; default: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help=f"the cases {', '.join(QUICK_CASES)}")
    parser.add_argument("--memory-limit-mib", type=int, default=1024)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "memory.json")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS")
    arguments = parser.parse_args()
    chosen = [parse_case(text) for text in (QUICK_CASES if arguments.quick else CASES)]
    cases = []
    for case in arguments.case or chosen:
        frame_set = case.frames
        name = f"{frame_set.frames}x{frame_set.width}x{frame_set.height}{'-zarr' if case.is_stored else ''}"
        frames = prepare_series(arguments.work / name, frame_set) if case.is_stored else None
        frames = frames or prepare_frames(arguments.work / name, frame_set)
        for scheduler in SCHEDULERS:
            usage = measure(frames, arguments.work / "memory" / f"{name}-{scheduler}", scheduler, arguments)
            cases.append(
                {
                    **asdict(frame_set),
                    "stored": "zarr" if case.is_stored else "FITS",
                    "scheduler": scheduler,
                    "memory_limit_bytes": arguments.memory_limit_mib * 2**20,
                    **asdict(usage),
                }
            )
    result = {"benchmark": "memory", "machine": machine_facts(), "cases": cases}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(memory_table(result))
    return report_failures(cases)


def prepare_series(work: Path, frame_set: FrameSet) -> list[Path]:
    """Make a series of darks in a process of its own, whose peak memory Linux would hand on; give a file in it."""
    night = NightSet(frames=frame_set.frames, width=frame_set.width, height=frame_set.height, exposures_s=(5.0,))
    location = work / "darks" / "exp_5.000s.zarr"
    if not (work / "READY").exists():
        shutil.rmtree(work, ignore_errors=True)
        needed = int(night.raw_bytes / 2 * DARKS_STORED_SHARE)
        work.mkdir(parents=True)
        if shutil.disk_usage(work).free < needed:
            sys.exit(f"{work}: {needed / 1e9:.0f} GB are needed; see --work, or choose cases with --case")
        task = SeriesTask(location=location, kind=FrameType.DARK, exposure_s=5.0, number=0, night=night)
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_series, task).result()
        (work / "READY").touch()
    return [location / "zarr.json"]


def measure(frames: list[Path], directory: Path, scheduler: str, arguments: argparse.Namespace) -> Usage:
    """Run ``ostcal masters`` once with a scheduler and a memory limit."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    compute = {"scheduler": scheduler, "memory_limit": f"{arguments.memory_limit_mib}MiB"}
    job = Job(frames=frames, directory=directory, settings={"compute": compute})
    numba_cache(job).mkdir(exist_ok=True)
    return run_measured(ostcal_command(job), timeout_s=arguments.timeout)


def report_failures(cases: list[dict[str, object]]) -> int:
    """Name the cases that failed or took more memory than allowed; give the exit code."""
    code = 0
    for case in cases:
        name = f"{case['frames']} frames of {case['width']}x{case['height']}, {case['scheduler']}"
        if case["exit_code"] != 0:
            print(f"{name}: ended with {case['exit_code']}", file=sys.stderr)
            code = 1
        elif int(str(case["sum_of_peaks_bytes"])) > int(str(case["memory_limit_bytes"])):
            print(f"{name}: {case['sum_of_peaks_bytes']} bytes are more than the limit", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
