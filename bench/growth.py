"""Measure how time and memory of one master dark grow with the number of frames and with their size.

Every case is the whole command ``ostcal masters`` on FITS files in the page cache, kernels compiled before; the fastest
of ``--runs`` counts. Time should be linear in pixels and not above frames x log^2(frames), memory flat in both; what
is measured is compared with that, from the smallest case of at least 0.1 GB on: below, the start of Python counts most.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dark_frames import FrameSet, prepare_frames
from machine import machine_facts
from make_tables import growth_table
from process_tree import Usage, run_measured
from programs import BENCH, Job, numba_cache, ostcal_command

FRAME_COUNTS = (3, 10, 40, 100, 400)
OF_SIZE = (3000, 2000)
"""Frames of 6 MP: 400 of them are 4.8 GB, which a page cache holds."""
SIZES = ((1250, 800), (3000, 2000), (6000, 4000), (9576, 6388), (12400, 8064), (14204, 10652))
"""1, 6, 24, 61, 100 and 151 MP."""
N_FRAMES = 10
QUICK_COUNTS = (3, 10, 24)
QUICK_SIZE = (500, 400)
QUICK_SIZES = ((500, 400), (1000, 800))
LIMIT_BYTES = 2**30
MEMORY_SPREAD = 1.6
"""Largest over smallest peak that still counts as flat; the smallest cases have thinner strips."""
TIME_SLACK = 1.3
"""What a time may be above the growth that is allowed: a shared machine differs by so much from run to run."""
LEAST_BYTES = 100_000_000


def main() -> int:
    """Measure all cases, draw them, and say whether they grow as they should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few small cases: whether it works, no figures")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ostcal-bench" / "growth")
    parser.add_argument("--keep", action="store_true", help="keep the frames; the largest case has 4.8 GB of them")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "growth.json")
    parser.add_argument("--picture", type=Path, default=BENCH.parent / "docs" / "images" / "growth.png")
    arguments = parser.parse_args()
    counts, of_size = (QUICK_COUNTS, QUICK_SIZE) if arguments.quick else (FRAME_COUNTS, OF_SIZE)
    sizes = QUICK_SIZES if arguments.quick else SIZES
    result: dict[str, Any] = {
        "benchmark": "growth",
        "machine": machine_facts(),
        "memory_limit_bytes": LIMIT_BYTES,
        "frames": [measure(FrameSet(frames=n, width=of_size[0], height=of_size[1]), arguments) for n in counts],
        "pixels": [measure(FrameSet(frames=N_FRAMES, width=w, height=h), arguments) for w, h in sizes],
    }
    result["verdicts"] = verdicts(result)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    draw(result, arguments.picture)
    print(growth_table(result))
    return 0 if all(verdict["holds"] for verdict in result["verdicts"]) else 1


def measure(frame_set: FrameSet, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one case, the first time to compile kernels and to fill the page cache; give the fastest run after it."""
    name = f"{frame_set.frames}x{frame_set.width}x{frame_set.height}"
    frames = prepare_frames(arguments.work / name, frame_set)
    runs: list[Usage] = []
    for _ in range(1 + arguments.runs):
        directory = arguments.work / "runs" / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        job = Job(frames=frames, directory=directory, settings={"compute": {"memory_limit": LIMIT_BYTES}})
        numba_cache(job).mkdir(exist_ok=True)
        usage = run_measured(ostcal_command(job), timeout_s=1800.0)
        if usage.exit_code != 0:
            sys.exit(f"{name}: ostcal ended with {usage.exit_code}, see {directory}")
        runs.append(usage)
    shutil.rmtree(arguments.work / "runs" / name)
    if not arguments.keep:
        shutil.rmtree(arguments.work / name)
    n_bytes = 2 * frame_set.frames * frame_set.width * frame_set.height
    fastest = min(runs[1:], key=lambda usage: usage.wall_s)
    print(f"{name}: {fastest.wall_s:.2f} s, {fastest.peak_rss_bytes / 2**20:.0f} MiB", file=sys.stderr)
    return {**asdict(frame_set), "bytes": n_bytes, **asdict(fastest)}


def verdicts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare growth with what is allowed; the worst factor of each line of cases."""
    by_frames = [case for case in result["frames"] if case["bytes"] >= LEAST_BYTES] or result["frames"]
    by_pixels = [case for case in result["pixels"] if case["bytes"] >= LEAST_BYTES] or result["pixels"]

    def allowed_frames(case: dict[str, Any]) -> float:
        return float(case["frames"] * math.log(max(case["frames"], 2)) ** 2)

    def allowed_pixels(case: dict[str, Any]) -> float:
        return float(case["width"] * case["height"])

    def worst(cases: list[dict[str, Any]], allowed: Any) -> float:
        first = cases[0]
        return max(case["wall_s"] / first["wall_s"] / (allowed(case) / allowed(first)) for case in cases)

    peaks = [case["peak_rss_bytes"] for case in (*by_frames, *by_pixels)]
    lines = [
        ("time against frames x log^2(frames)", worst(by_frames, allowed_frames), TIME_SLACK),
        ("time against pixels", worst(by_pixels, allowed_pixels), TIME_SLACK),
        ("largest over smallest peak memory", max(peaks) / min(peaks), MEMORY_SPREAD),
        ("largest peak over memory_limit", max(peaks) / LIMIT_BYTES, 1.0),
    ]
    return [{"what": what, "factor": factor, "limit": limit, "holds": factor <= limit} for what, factor, limit in lines]


def draw(result: dict[str, Any], target: Path) -> None:
    """Draw time and memory over frames and over megapixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained", sharex="col")
    small = result["frames"][0]
    columns = (
        (result["frames"], [case["frames"] for case in result["frames"]], "frames"),
        (result["pixels"], [case["width"] * case["height"] / 1e6 for case in result["pixels"]], "megapixels"),
    )
    for column, (cases, x, label) in enumerate(columns):
        for axis, key, scale in ((axes[0, column], "wall_s", 1.0), (axes[1, column], "peak_rss_bytes", 2.0**20)):
            axis.plot(x, [case[key] / scale for case in cases], marker="o", color="#0b5394")
            axis.grid(visible=True, alpha=0.3)
        limit_mib = result["memory_limit_bytes"] / 2**20
        axes[0, column].set_ylim(0, 1.1 * max(case["wall_s"] for case in cases))
        axes[1, column].set_ylim(0, 1.1 * limit_mib)
        axes[1, column].axhline(limit_mib, color="#990000", linestyle="--", linewidth=1)
        axes[1, column].set_xlabel(label)
    megapixels = small["width"] * small["height"] / 1e6
    axes[0, 0].set_title(f"frames of {megapixels:.0f} MP")
    axes[0, 1].set_title(f"{result['pixels'][0]['frames']} frames")
    axes[0, 0].set_ylabel("whole command, s")
    axes[1, 0].set_ylabel("peak memory, MiB")
    axes[1, 0].annotate("memory_limit", (0.02, 0.84), xycoords="axes fraction", color="#990000", fontsize=9)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
