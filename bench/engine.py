"""Time the engine alone, and beside it what it cannot do without: reading, decompressing and sorting the same bytes.

The engine: from opening the stored frames to the array of the master with its counts and deviations, by the graph that
`ostcal masters` runs, with compiled kernels. The parts, each alone, with the same number of threads: a plain ``pread``
of the same bytes, the decompression of the same chunks from memory, and the sorting network over the same blocks.
Siril, where it is installed, combines the same frames in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dark_frames import add_frame_arguments, chosen_frame_set, default_work, prepare_frames
from machine import available_cores, machine_facts
from make_tables import engine_table
from page_cache import files_below, read_into_nothing
from process_tree import run_measured
from programs import BENCH, PROGRAMS, Job, imported_series, siril_command

sys.path.insert(0, str(BENCH.parent))

from ostcal.engine import kernels
from ostcal.engine.execution import Execution
from ostcal.engine.graph import run_graph
from ostcal.engine.kernels.network import sort_columns
from ostcal.engine.kernels.samples import Coding, load_words
from ostcal.engine.rejection import SigmaClip
from ostcal.engine.tasks import JobResult, MasterJob
from ostcal.engine.tiling import JobSize, block_rows, plan_work
from ostcal.fits.read import FitsStack, inspect_fits
from ostcal.frames import FrameStack
from ostcal.series.shard_reader import decode_chunk, shard_layout
from ostcal.series.stack import ZarrStack

LIMIT = 1.6
"""Times the sum of its parts that the engine may take."""
SIRIL_RATIO = 16.0
EFFICIENCY = 0.85
"""Share of its threads' time that the engine may at least use, against one thread."""
METHOD = SigmaClip(iterations=None)
CHUNKS_AT_ONCE = 8
"""Of each frame, read and then decompressed: 60 MB of 40 frames of 61 MP are in memory meanwhile."""


@dataclass(frozen=True)
class ArraySink:
    """Keeps the planes of a master in memory that was touched before; an `ostcal.engine.tasks.StripSink`."""

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]

    @classmethod
    def of(cls, shape: tuple[int, int]) -> ArraySink:
        """Make room for a master."""
        return cls(np.ones(shape, np.float32), np.ones(shape, np.uint16), np.ones(shape, np.float32))

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        """Keep rows."""
        stop = start + len(master)
        self.master[start:stop], self.n_used[start:stop], self.std[start:stop] = master, n_used, std
        return ()


def main() -> int:
    """Time everything in turn; 0 when the engine kept its marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_frame_arguments(parser)
    parser.add_argument("--runs", type=int, default=3, help="rounds; the fastest of each counts")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--out", type=Path, default=BENCH / "results" / "engine.json")
    arguments = parser.parse_args()
    frame_set = chosen_frame_set(arguments)
    work = arguments.work or default_work(frame_set)
    frames = prepare_frames(work, frame_set)
    series = imported_series(frames, work / "series-auto")
    best: dict[str, dict[str, float]] = {}
    siril: list[float] = []
    for number in range(arguments.runs + 1):  # the first round compiles, and fills the page cache
        for name, times in measure(frames, series, arguments.threads).items():
            known = best.get(name)
            best[name] = times if known is None or number == 1 else {key: min(known[key], times[key]) for key in times}
        if number == 1:
            siril += run_siril(frames, work)
    result = {
        "benchmark": "engine",
        "machine": machine_facts(),
        "frames": asdict(frame_set),
        "threads": arguments.threads,
        "runs": arguments.runs,
        "limit": LIMIT,
        "siril_ratio": SIRIL_RATIO,
        "efficiency": EFFICIENCY,
        "siril_s": min(siril, default=None),
        "sources": best,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(engine_table(result))
    return 0 if arguments.quick else report_failures(result)


def measure(frames: Sequence[Path], series: Path, threads: int) -> dict[str, dict[str, float]]:
    """Time the engine and its parts for both kinds of storage; seconds."""
    n = len(frames)
    read_into_nothing([*frames, *files_below(series)])
    return {
        "FITS": {
            "engine": engine_s(lambda: FitsStack(tuple(inspect_fits(path) for path in frames)), threads),
            "one_thread": engine_s(lambda: FitsStack(tuple(inspect_fits(path) for path in frames)), 1),
            **fits_parts_s(FitsStack(tuple(inspect_fits(path) for path in frames)), threads),
        },
        "zarr": {
            "engine": engine_s(lambda: ZarrStack(str(series), tuple(range(n)), True), threads),
            "one_thread": engine_s(lambda: ZarrStack(str(series), tuple(range(n)), True), 1),
            **zarr_parts_s(series, ZarrStack(str(series), tuple(range(n)), True), threads),
        },
    }


def engine_s(open_stack: Callable[[], FrameStack], threads: int) -> float:
    """Time the way from the stored frames to the planes of the master, whose memory is there before."""
    _, height, width = open_stack().shape
    sink = ArraySink.of((height, width))
    began = time.perf_counter()
    stack = open_stack()
    n, height, width = stack.shape
    size = JobSize(n_frames=n, height=height, width=width, sample_bytes=2, row_step=stack.row_step, float_path=False)
    plan = plan_work([size], memory_limit_bytes=2**30, workers=threads, processes=False)
    job = MasterJob(name="master", stack=stack, method=METHOD, sink=sink)
    ended = run_graph([job], plan.strips, _same, Execution(scheduler="threads", workers=plan.workers))
    if not isinstance(ended[0], JobResult):
        sys.exit(f"the engine failed: {ended[0]}")
    return time.perf_counter() - began


def _same(job: MasterJob, result: JobResult) -> JobResult:
    return result


def blocks_of(stack: FrameStack) -> list[tuple[int, int]]:
    """Give the rows that the engine reads at once."""
    _, height, _ = stack.shape
    step = block_rows(stack.shape, 2, stack.row_step)
    return [(start, min(start + step, height)) for start in range(0, height, step)]


def fits_parts_s(stack: FitsStack, threads: int) -> dict[str, float]:
    """Time reading and sorting the samples of FITS files."""
    n, _, width = stack.shape
    buffers = [np.empty((n, block_rows(stack.shape, 2, 1), width), np.uint16) for _ in range(threads)]
    offsets = [frame.data_offset for frame in stack.frames]
    with ExitStack() as opened:
        files = [opened.enter_context(open(frame.path, "rb", buffering=0)) for frame in stack.frames]

        def read(block: tuple[int, int], buffer: NDArray[np.uint16]) -> None:
            start, stop = block
            for file, offset, rows in zip(files, offsets, buffer, strict=True):
                view = rows[: stop - start].reshape(-1).view(np.uint8).data
                if os.preadv(file.fileno(), [view], offset + start * width * 2) != len(view):
                    raise EOFError(file.name)

        read_s = shared_s(read, blocks_of(stack), buffers)
    return {"read": read_s, "decompress": 0.0, "sort": sort_s(stack, buffers)}


def zarr_parts_s(series: Path, stack: ZarrStack, threads: int) -> dict[str, float]:
    """Time reading, decompressing and sorting the samples of a series."""
    layout = shard_layout(json.loads((series / "frames" / "zarr.json").read_text()))
    if layout is None:
        sys.exit(f"{series} is no series as ostcal writes it now; delete it")
    n, height, width = stack.shape
    shards = [series / "frames" / "c" / str(index) / "0" / "0" for index in range(n)]
    indices = [chunk_index(shard, -(-height // layout.chunk_rows)) for shard in shards]
    buffers = [np.empty((n, layout.chunk_rows, width), np.uint16) for _ in range(threads)]
    read_s = decompress_s = 0.0
    with ExitStack() as opened:
        files = [opened.enter_context(shard.open("rb", buffering=0)) for shard in shards]
        stored: dict[tuple[int, int], bytes] = {}

        def read(chunk: tuple[int, int], buffer: NDArray[np.uint16]) -> None:
            frame, number = chunk
            offset, length = (int(value) for value in indices[frame][number])
            stored[chunk] = os.pread(files[frame].fileno(), length, offset)

        def decompress(chunk: tuple[int, int], buffer: NDArray[np.uint16]) -> None:
            data = memoryview(stored[chunk])[: -4 if layout.checksums else None]
            decode_chunk(data, buffer[chunk[0]], compressed=layout.compressed)

        for first in range(0, -(-height // layout.chunk_rows), CHUNKS_AT_ONCE):
            stored.clear()
            last = min(first + CHUNKS_AT_ONCE, -(-height // layout.chunk_rows))
            chunks = [(frame, number) for number in range(first, last) for frame in range(n)]
            read_s += shared_s(read, chunks, buffers)
            decompress_s += shared_s(decompress, chunks, buffers)
    return {"read": read_s, "decompress": decompress_s, "sort": sort_s(stack, buffers)}


def chunk_index(shard: Path, n_chunks: int) -> NDArray[np.uint64]:
    """Read offset and length of every chunk of a shard."""
    length = n_chunks * 16 + 4
    with shard.open("rb") as file:
        file.seek(-length, os.SEEK_END)
        return np.frombuffer(file.read(n_chunks * 16), "<u8").reshape(n_chunks, 2)


def sort_s(stack: FrameStack, buffers: Sequence[NDArray[np.uint16]]) -> float:
    """Time the sorting network over as many blocks as the frames have; it takes as long for any samples."""
    n, height, width = stack.shape
    rows = buffers[0].shape[1]
    for buffer in buffers:
        stack.read_rows(0, rows, buffer)
    network = kernels.sorting_network(n)
    blocks = [(start, min(start + rows, height)) for start in range(0, height, rows)]

    def sort(block: tuple[int, int], buffer: NDArray[np.uint16]) -> None:
        samples = buffer.reshape(n, -1)[:, : (block[1] - block[0]) * width]
        sort_block(samples, network, np.empty((n, kernels.TILE), np.uint16))

    sort(blocks[-1], buffers[0])  # compiled before it is timed
    return shared_s(sort, blocks, buffers)


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[misc]
def sort_block(samples: Any, network: Any, tile: Any) -> None:
    """Sort the samples of all pixels, tile by tile, as the engine does."""
    coding = Coding(True, np.uint16(0x8000), 0)
    for first in range(0, samples.shape[1] - kernels.TILE + 1, kernels.TILE):
        load_words(samples, first, coding, tile)
        sort_columns(tile, network)


def shared_s(
    function: Callable[[tuple[int, int], NDArray[np.uint16]], None],
    items: Sequence[tuple[int, int]],
    buffers: Sequence[NDArray[np.uint16]],
) -> float:
    """Call a function for all items, each thread with a buffer of its own; gives the seconds from first to last."""
    waiting = iter(items)
    lock = threading.Lock()

    def work(buffer: NDArray[np.uint16]) -> None:
        while True:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            function(item, buffer)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(buffers)) as pool:
        list(pool.map(work, buffers))
    return time.perf_counter() - began


def run_siril(frames: Sequence[Path], work: Path) -> list[float]:
    """Run Siril once where it is installed; gives the seconds of the whole command."""
    siril = next(program for program in PROGRAMS if program.name == "siril")
    if siril.version() is None:
        print(f"Siril is not installed and left out: {siril.install}", file=sys.stderr)
        return []
    directory = work / "engine-siril"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    usage = run_measured(siril_command(Job(frames=frames, directory=directory)), timeout_s=1800)
    shutil.rmtree(directory, ignore_errors=True)
    return [usage.wall_s] if usage.exit_code == 0 else []


def report_failures(result: dict[str, Any]) -> int:
    """Say which mark was missed; give the exit code."""
    code = 0
    for name, times in result["sources"].items():
        parts = times["read"] + times["decompress"] + times["sort"]
        if times["engine"] > LIMIT * parts:
            print(f"{name}: {times['engine']:.2f} s are more than {LIMIT} x {parts:.2f} s", file=sys.stderr)
            code = 1
        if result["siril_s"] is not None and result["siril_s"] < SIRIL_RATIO * times["engine"]:
            print(f"{name}: {result['siril_s'] / times['engine']:.1f} x faster than Siril", file=sys.stderr)
            code = 1
        used = times["one_thread"] / times["engine"] / result["threads"]
        if used < EFFICIENCY:
            print(f"{name}: parallel efficiency {used:.2f}, below {EFFICIENCY}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
