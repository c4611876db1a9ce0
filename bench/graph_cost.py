"""Measure what the task graph costs per strip: a mosaic of 100 detectors with strips so thin that they hold no work.

Wall time divided by strips, threads and a cluster of two processes whose scheduler lives in the coordinator; the time
of the same strips in a plain loop is stated beside it and not subtracted. ``tasks`` are calls that do nothing, each a
task of its own, as strips of 16 MiB are. Memory is what the coordinator grows by above the same run of 100 strips.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from machine import machine_facts
from ostcal.engine import tasks
from ostcal.engine.driver import connected, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.graph import run_graph
from ostcal.engine.rejection import Median, SeriesNoise
from ostcal.engine.tasks import JobResult, MasterJob, Prepared
from ostcal.engine.tiling import StripPlan
from ostcal.frames import SampleEncoding

BENCH = Path(__file__).resolve().parent
WIDTH = 8
FRAMES = 100
DETECTORS = 100
STRIPS = (10, 50, 200)
"""Of a detector: 1,000 to 20,000 in all."""
TASKS = (2_000, 20_000)
WORKERS = 2
LIMIT_S = {"threads": 1e-3, "distributed": 3e-3}
MOST_GROWTH = 1.2
"""Of the cost per strip from the shortest to the longest run."""
MOST_MEMORY_BYTES = 32 * 2**20
"""By which the coordinator may grow from the shortest to the longest run: the noise of its allocator."""


@dataclass(frozen=True)
class BlankStack:
    """Frames of zeros that cost nothing to read, with names as long as real ones; a `FrameStack`."""

    files: tuple[str, ...]
    height: int
    row_step: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return len(self.files), self.height, WIDTH

    @property
    def encoding(self) -> SampleEncoding:
        """Plain uint16."""
        return SampleEncoding(dtype="uint16")

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill with zeros."""
        out[...] = 0

    def opened(self, start: int, stop: int) -> AbstractContextManager[BlankStack]:
        """Keep nothing open."""
        return nullcontext(self)

    def select(self, indices: Sequence[int]) -> BlankStack:
        """Give some of the frames."""
        return BlankStack(tuple(self.files[index] for index in indices), self.height)

    def recorded_mean_adu(self, position: int) -> None:
        """Give nothing: levels are read."""


@dataclass(frozen=True)
class NoSink:
    """Where strips vanish; a `StripSink`."""

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> None:
        """Drop them."""

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give zeros."""
        return np.zeros((stop - start, WIDTH), np.float32)

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give zeros."""
        return np.zeros((stop - start, WIDTH), np.float32)

    def read_counts(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Give zeros."""
        return np.zeros((stop - start, WIDTH), np.uint16)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run."""

    scheduler: str
    kind: str
    """``strips`` or ``tasks``."""
    detectors: int
    n: int
    """Strips or tasks in all."""
    wall_s: float
    cost_s: float
    """Wall time per strip or task."""
    loop_s: float
    """Time per strip in a plain loop."""
    grown_bytes: int
    """Growth of the coordinator's resident memory, the scheduler's included where there is one."""


def name_of(job: MasterJob, result: JobResult) -> str:
    """Finish a job."""
    return result.name


def nothing(item: int) -> int:
    """Do nothing."""
    return item


def detector_jobs(detectors: int, strips: int) -> tuple[list[MasterJob], list[StripPlan]]:
    """Give the jobs of a mosaic, a row to a strip."""
    files = tuple(
        f"/data/2026-11-21/mosaic/darks/exposure_300s/{'frame' * 20}_{index:05d}.fits" for index in range(FRAMES)
    )
    stack = BlankStack(files, strips)
    jobs = [MasterJob(name=f"detector_{i:03d}", stack=stack, method=Median(), sink=NoSink()) for i in range(detectors)]
    return jobs, [StripPlan(height=strips, strip_rows=1)] * detectors


def loop_seconds(job: MasterJob) -> float:
    """Give the time of one strip without any graph."""
    prepared = Prepared(noise=SeriesNoise(), levels=None)
    n = 500
    tasks.combine_strip(job, 0, 1, prepared)
    began = time.perf_counter()
    for _ in range(n):
        tasks.combine_strip(job, 0, 1, prepared)
    return (time.perf_counter() - began) / n


@contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """Give what tells by how many bytes this process grew at most since the context began."""
    process = psutil.Process()
    before = process.memory_info().rss
    peak = before
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max(peak, process.memory_info().rss) - before
    finally:
        ended.set()
        watcher.join()


def measure(scheduler: str, kind: str, detectors: int, n: int) -> Measured:
    """Measure one case in this process."""
    jobs, plans = detector_jobs(detectors, max(1, n // detectors))
    execution = Execution(scheduler=scheduler, workers=WORKERS)  # type: ignore[arg-type]
    with connected(execution) as ready:
        run_graph(*detector_jobs(10, 10), name_of, ready)
        with watched_memory() as grown:
            began = time.perf_counter()
            if kind == "strips":
                done: list[Any] = run_graph(jobs, plans, name_of, ready)
                expected: list[Any] = [job.name for job in jobs]
            else:
                done = run_tasks(nothing, range(n), ready)
                expected = list(range(n))
            wall_s = time.perf_counter() - began
            grown_bytes = grown()
    if done != expected:
        sys.exit(f"{scheduler}, {n} {kind}: wrong results")
    return Measured(
        scheduler=scheduler,
        kind=kind,
        detectors=detectors,
        n=n,
        wall_s=wall_s,
        cost_s=wall_s / n,
        loop_s=loop_seconds(jobs[0]) if kind == "strips" else 0.0,
        grown_bytes=grown_bytes,
    )


def measure_and_print(*case: Any) -> None:
    """Measure one case and print it as JSON, for the process that asked."""
    print(json.dumps(asdict(measure(*case))))


def in_own_process(*case: Any) -> dict[str, Any]:
    """Measure a case in a process of its own, in which workers find this file as a module."""
    code = f"import graph_cost; graph_cost.measure_and_print(*{case!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCH), str(BENCH.parent)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{case}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Measure every case; 0 when all stay below the limits and do not grow with the number of strips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 detectors and a tenth of the tasks")
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "graph_cost.json")
    arguments = parser.parse_args()
    share = 10 if arguments.quick else 1
    detectors = DETECTORS // share
    cases = [
        in_own_process(scheduler, kind, detectors, n)
        for scheduler in LIMIT_S
        for kind, numbers in (
            ("strips", [detectors * strips for strips in STRIPS]),
            ("tasks", [n // share for n in TASKS]),
        )
        for n in numbers
    ]
    result = {
        "benchmark": "graph_cost",
        "machine": machine_facts(),
        "frames": FRAMES,
        "workers": WORKERS,
        "limit_s": LIMIT_S,
        "cases": cases,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(table(cases))
    return report_failures(cases)


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Give the cases as a table in Markdown."""
    lines = [
        "| scheduler | | in all | wall | each | plain loop | coordinator grew by |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c['scheduler']} | {c['kind']} | {c['n']:,} | {c['wall_s']:.2f} s | {1e3 * c['cost_s']:.3f} ms |"
        f" {1e3 * c['loop_s']:.3f} ms | {c['grown_bytes'] / 2**20:.0f} MiB |"
        for c in cases
    ]
    return "\n".join(lines)


def report_failures(cases: Sequence[dict[str, Any]]) -> int:
    """Name what costs more than it may, or grows; give the exit code."""
    lines = [
        f"{c['scheduler']}, {c['n']} {c['kind']}: {1e3 * c['cost_s']:.3f} ms each"
        for c in cases
        if c["cost_s"] > LIMIT_S[c["scheduler"]]
    ]
    for scheduler in LIMIT_S:
        strips = [c for c in cases if c["scheduler"] == scheduler and c["kind"] == "strips"]
        if strips[-1]["cost_s"] > MOST_GROWTH * strips[0]["cost_s"]:
            lines.append(f"{scheduler}: the cost per strip grows with the number of strips")
        if strips[-1]["grown_bytes"] > strips[0]["grown_bytes"] + MOST_MEMORY_BYTES:
            lines.append(f"{scheduler}: the coordinator's memory grows with the number of strips")
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
