"""Project a run on a cluster from what was measured on one machine; the table of docs/scaling.md.

Everything but the two assumptions (the camera, the storage's bandwidth) is read from ``bench/results``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graph_cost
from ostcal.engine.graph import NOISE_TASKS
from ostcal.engine.tiling import CLUSTER_TASK_BYTES, JobSize, batches, least_tasks, plan_work

BENCH = Path(__file__).resolve().parent
DOCUMENT = BENCH.parent / "docs" / "scaling.md"
MARKED = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)

DETECTORS = 200
SIDE = 4000
FRAMES = 100
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
STORAGE_BYTES_PER_S = 10e9
"""Assumed of the shared disk."""
FIXED_TASKS = 3
"""Of a detector: its job, what is known before combining, its end."""
SURVEY_TASKS = 16
"""Of a detector: the bands that are surveyed."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is read from the results."""

    bytes_per_core_s: float
    """Frames through the whole command with quality control, by processor time."""
    task_s: float
    """Of a scheduler for a task, 20,000 of them."""
    start_s: float
    inspect_s: float
    """For a file."""
    report_s: float
    """For a master, in the coordinator."""
    judge_s: float
    """For a pixel of a master: what quality control adds to the end of one."""
    machine: str

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Read the figures of the last benchmarks."""
        quality, stages, graph = (_json(folder / f"{name}.json") for name in ("quality", "stages", "graph_cost"))
        frames = quality["frames"]
        pixels = frames["width"] * frames["height"]
        tasks = [c for c in graph["cases"] if c["scheduler"] == "distributed" and c["kind"] == "tasks"]
        times = quality["median_s"]
        machine = quality["machine"]
        return cls(
            bytes_per_core_s=2 * pixels * frames["frames"] / quality["median_cpu_s"]["with"],
            task_s=max(tasks, key=lambda case: int(case["n"]))["cost_s"],
            start_s=sum(stages["stages"][name] for name in ("python itself", "imports", "the rest")),
            inspect_s=stages["stages"]["inspect"] / stages["frames"]["frames"],
            report_s=times["with report"] - times["with"],
            judge_s=(times["with"] - times["without"]) / pixels,
            machine=f"{machine['processor']}, {machine['cores']} cores, {machine['date'][:10]}",
        )


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Seconds of the parts of a run."""

    workers: int
    work_s: float
    scheduler_s: float
    storage_s: float
    coordinator_s: float
    tail_s: float

    @property
    def combine_s(self) -> float:
        """Of the part that runs on the workers: the slowest of the three decides."""
        return max(self.work_s, self.scheduler_s, self.storage_s) + self.tail_s

    @property
    def bound(self) -> str:
        """What decides."""
        parts = {"cores": self.work_s, "scheduler": self.scheduler_s, "storage": self.storage_s}
        return max(parts, key=parts.__getitem__)


def tasks_of(workers: int) -> int:
    """Count the tasks of the run as the program would share them out."""
    size = JobSize(n_frames=FRAMES, height=SIDE, width=SIDE, sample_bytes=2, row_step=1, float_path=False)
    plan = plan_work([size], memory_limit_bytes=4 << 30, workers=1, processes=True).strips[0]
    least = least_tasks(workers, DETECTORS)
    combine = len(batches(plan, 2 * FRAMES * SIDE, least_tasks=least, most_bytes=CLUSTER_TASK_BYTES))
    return DETECTORS * (combine + min(NOISE_TASKS, least) + FIXED_TASKS + SURVEY_TASKS)


def project(measured: Measured, workers: int) -> Projection:
    """Project the run on a number of workers of one core each."""
    pixels = SIDE * SIDE
    n_bytes = 2 * pixels * FRAMES * DETECTORS
    return Projection(
        workers=workers,
        work_s=n_bytes / measured.bytes_per_core_s / workers,
        scheduler_s=tasks_of(workers) * measured.task_s,
        storage_s=n_bytes / STORAGE_BYTES_PER_S,
        coordinator_s=measured.start_s + measured.inspect_s * FRAMES * DETECTORS + measured.report_s * DETECTORS,
        tail_s=CLUSTER_TASK_BYTES / measured.bytes_per_core_s + measured.judge_s * pixels,
    )


def table(measured: Measured) -> str:
    """Give inputs and projection in Markdown."""
    rate, task, report = measured.bytes_per_core_s / 1e9, 1e3 * measured.task_s, measured.report_s
    lines = [
        f"Measured: r = {rate:.2f} GB/s a core, d = {task:.2f} ms a task, start {measured.start_s:.2f} s,"
        f" {1e3 * measured.inspect_s:.2f} ms a file to inspect, {report:.2f} s a master to report,"
        f" {1e9 * measured.judge_s:.0f} ns a pixel to judge.",
        "",
        "| workers W | cores B/(r W) | tasks n | scheduler n d | storage B/S | combined in | decided by | all in all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in (project(measured, workers) for workers in WORKERS):
        lines.append(
            f"| {p.workers} | {p.work_s:.1f} s | {tasks_of(p.workers):,} | {p.scheduler_s:.1f} s |"
            f" {p.storage_s:.0f} s | {p.combine_s:.1f} s | {p.bound} | {p.combine_s + p.coordinator_s:.0f} s |"
        )
    lines += ["", f"Measured on {measured.machine}."]
    return "\n".join(lines) + "\n"


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def main() -> int:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.relative_to(BENCH.parent)}")
    arguments = parser.parse_args()
    results = BENCH / "results"
    cases = _json(results / "graph_cost.json")["cases"]
    texts = {"scaling": table(Measured.read(results)), "graph_cost": f"{graph_cost.table(cases)}\n"}
    print("\n".join(texts.values()))
    if arguments.write:
        document = DOCUMENT.read_text(encoding="utf-8")
        document = MARKED.sub(lambda found: found[1] + texts[found[2]] + found[3], document)
        DOCUMENT.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
