"""Strips and memory: every row once, never above the limit, and a refusal names a number that really does."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.engine import tasks
from ostcal.engine.execution import default_workers, usable_cores
from ostcal.engine.levels import DarkMeans, DarkModel, FrameLevels, dark_means, measure_levels
from ostcal.engine.rejection import SeriesNoise, SigmaClip
from ostcal.engine.tasks import FlatTreatment, MasterJob, Prepared
from ostcal.engine.tiling import (
    PROCESS_BYTES,
    WHOLE_ROWS,
    Batch,
    JobSize,
    StripPlan,
    WorkPlan,
    plan_work,
    strip_memory_bytes,
)
from ostcal.errors import PlanError
from ostcal.vocabulary import NormalizationMethod
from support import strategies
from support.memory_stack import MemoryStack, NpySink

MIB = 2**20
FULL_FRAME = JobSize(n_frames=40, height=6388, width=9576, sample_bytes=2, row_step=1, float_path=False)

sizes = st.builds(
    JobSize,
    n_frames=st.integers(1, 1000),
    height=st.integers(1, 12000),
    width=st.integers(1, 15000),
    sample_bytes=st.sampled_from([2, 4, 8]),
    row_step=st.sampled_from([1, 1, 7, 16, 24, 32]),
    float_path=st.booleans(),
)
asked_rows = st.none() | st.integers(1, 300)


def least_rows(size: JobSize, asked: int | None) -> int:
    """Return the first height, counted in steps, that is not below what was asked or that holds the frame."""
    rows = size.row_step
    while asked is not None and rows < asked and rows < size.height:
        rows += size.row_step
    return rows


def bytes_at_least(job_sizes: list[JobSize], workers: int, processes: bool, asked: int | None) -> int:
    """Return what `workers` take with the smallest strips."""
    programs = workers + 1 if processes else 1
    return PROCESS_BYTES * programs + workers * max(strip_memory_bytes(s, least_rows(s, asked)) for s in job_sizes)


@given(st.integers(1, 5000), st.integers(1, 6000))
def test_strips_hold_every_row_once_in_order(height: int, strip_rows: int) -> None:
    strips = StripPlan(height=height, strip_rows=strip_rows).strips
    assert [row for start, stop in strips for row in range(start, stop)] == list(range(height))


@given(sizes, st.data())
def test_more_of_anything_never_takes_less_memory(size: JobSize, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 500))
    more = JobSize(
        n_frames=size.n_frames + data.draw(st.integers(0, 100)),
        height=size.height + data.draw(st.integers(0, 100)),
        width=size.width + data.draw(st.integers(0, 100)),
        sample_bytes=data.draw(st.sampled_from([b for b in (2, 4, 8) if b >= size.sample_bytes])),
        row_step=size.row_step,
        float_path=size.float_path or data.draw(st.booleans()),
    )
    assert strip_memory_bytes(size, rows) <= strip_memory_bytes(more, rows + data.draw(st.integers(0, 100)))


@given(st.lists(sizes, min_size=1, max_size=4), st.integers(0, 8192), st.integers(1, 12), st.booleans(), asked_rows)
def test_a_plan_keeps_every_promise_or_refuses_with_a_number_that_does(
    job_sizes: list[JobSize], limit_mib: int, workers: int, processes: bool, asked: int | None
) -> None:
    limit = limit_mib * MIB

    def plan(limit_bytes: int) -> WorkPlan:
        return plan_work(
            job_sizes, memory_limit_bytes=limit_bytes, workers=workers, processes=processes, strip_rows=asked
        )

    fitting = [count for count in range(1, workers + 1) if bytes_at_least(job_sizes, count, processes, asked) <= limit]
    if not fitting:
        with pytest.raises(PlanError) as refusal:
            plan(limit)
        number = re.search(r"set memory_limit to (\d+) MiB or more", str(refusal.value))
        assert number is not None
        assert int(number[1]) > limit_mib
        assert plan(int(number[1]) * MIB).workers >= 1
        with pytest.raises(PlanError):
            plan((int(number[1]) - 1) * MIB)
        return
    made = plan(limit)
    assert made.workers == max(fitting)
    assert made.peak_memory_bytes <= limit
    for size, strips in zip(job_sizes, made.strips, strict=True):
        assert strips.height == size.height
        assert strips.strip_rows % size.row_step == 0
        assert strips.strip_rows < size.height + size.row_step
        task = strip_memory_bytes(size, strips.strip_rows)
        assert PROCESS_BYTES * (made.workers + 1 if processes else 1) + made.workers * task <= limit
        if asked is not None:
            assert strips.strip_rows == least_rows(size, asked)


@pytest.mark.parametrize(("asked", "row_step", "rows"), [(1, 1, 1), (50, 1, 50), (50, 16, 64), (10**6, 1, 6388)])
def test_the_strip_height_asked_for_is_honoured(asked: int, row_step: int, rows: int) -> None:
    size = JobSize(n_frames=3, height=6388, width=9576, sample_bytes=2, row_step=row_step, float_path=False)
    plan = plan_work([size], memory_limit_bytes=4096 * MIB, workers=1, processes=False, strip_rows=asked)
    assert plan.strips[0].strip_rows == rows


def test_a_strip_height_beyond_the_frame_needs_no_more_memory_than_the_frame() -> None:
    size = JobSize(n_frames=10, height=100, width=1000, sample_bytes=2, row_step=1, float_path=False)
    plan = plan_work([size], memory_limit_bytes=300 * MIB, workers=1, processes=False, strip_rows=10**6)
    assert plan.strips[0].strips == [(0, 100)]


def test_workers_are_given_up_before_the_run_is_refused() -> None:
    task = strip_memory_bytes(FULL_FRAME, 1)
    for count in (4, 3, 2, 1):
        limit = PROCESS_BYTES * (count + 1) + count * task
        assert plan_work([FULL_FRAME], memory_limit_bytes=limit, workers=4, processes=True).workers == count
    with pytest.raises(PlanError, match="40 frames of 9576 x 6388 need at least"):
        plan_work([FULL_FRAME], memory_limit_bytes=limit - 1, workers=4, processes=True)


def test_four_hundred_full_frames_fit_in_one_gibibyte() -> None:
    stored = JobSize(n_frames=400, height=6388, width=9576, sample_bytes=2, row_step=32, float_path=False)
    assert plan_work([stored], memory_limit_bytes=1024 * MIB, workers=2, processes=False).workers == 2


def test_small_frames_are_cut_so_that_all_workers_have_something_to_do() -> None:
    small = JobSize(n_frames=10, height=1024, width=1024, sample_bytes=2, row_step=1, float_path=False)
    plan = plan_work([small], memory_limit_bytes=4096 * MIB, workers=8, processes=False)
    assert len(plan.strips[0].strips) >= 16


def test_a_run_without_jobs_needs_no_strips() -> None:
    plan = plan_work([], memory_limit_bytes=1024 * MIB, workers=2, processes=False)
    assert plan.strips == ()
    assert plan.workers == 2


def test_more_frames_than_integers_allow_are_refused() -> None:
    size = JobSize(n_frames=10_001, height=10, width=10, sample_bytes=2, row_step=1, float_path=False)
    with pytest.raises(PlanError, match="10001 frames"):
        plan_work([size], memory_limit_bytes=4096 * MIB, workers=1, processes=False)


# --- the formula against what tasks really take ---

HEIGHT, WIDTH = 2 * WHOLE_ROWS + 30, 2000


def peak_bytes(task: Callable[..., Any], *arguments: Any) -> int:
    """Return the bytes that a task allocates at its peak, in a thread without arrays of its own; the first compiles."""
    task(*arguments)
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(task, *arguments).result()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def written_sink(folder: Path, level: float) -> NpySink:
    sink = NpySink.create(folder, (HEIGHT, WIDTH))
    plane: NDArray[np.float32] = np.full((HEIGHT, WIDTH), level, np.float32)
    sink.write_rows(0, master=plane, n_used=np.ones((HEIGHT, WIDTH), np.uint16), std=plane)
    return sink


def flat_of(folder: Path, n: int, method: NormalizationMethod) -> FlatTreatment:
    dark = DarkModel(
        first=written_sink(folder / "bias", 100.0),
        first_exposure_s=0.0,
        second=written_sink(folder / "dark", 110.0),
        second_exposure_s=10.0,
    )
    return FlatTreatment(
        exposure_times_s=(1.0,) * n,
        dark=dark,
        scaling="median" if method == "median" else "mean",
        normalization=method,
        bayer_pattern="RGGB" if method == "median" else None,
    )


@pytest.mark.parametrize("normalization", [None, "mean", "median"])
@pytest.mark.parametrize("n", [3, 20])
@pytest.mark.parametrize("encoding_name", ["FITS int16", "float32", "float64"])
def test_no_task_takes_more_than_its_strip_was_planned_with(
    tmp_path: Path, encoding_name: str, n: int, normalization: NormalizationMethod | None
) -> None:
    encoding = strategies.ENCODINGS[encoding_name]
    adu = np.random.default_rng(1).integers(900, 1100, (n, HEIGHT, WIDTH), dtype=np.int32)
    stack = MemoryStack.of_file(tmp_path / "frames.npy", strategies.encode(adu, encoding), encoding)
    flat = flat_of(tmp_path, n, normalization) if normalization is not None else None
    sink = written_sink(tmp_path / "master", 1000.0)
    method = SigmaClip(center="median", spread="mad")
    job = MasterJob(name="job", stack=stack, method=method, sink=sink, flat=flat)
    levels = FrameLevels(levels_adu=(1000.0,) * n, scales=(1.0,) * n) if flat is not None else None
    prepared = Prepared(noise=SeriesNoise(noise_adu=5.0), levels=levels)
    size = JobSize(
        n_frames=n, height=HEIGHT, width=WIDTH, sample_bytes=np.dtype(encoding.dtype).itemsize,
        row_step=1, float_path=flat is not None or not encoding.is_integer,
    )  # fmt: skip
    for rows in (1, 16):
        limit = strip_memory_bytes(size, rows)
        assert peak_bytes(tasks.combine_strip, job, 10, 10 + rows, prepared) <= limit
    limit = strip_memory_bytes(size, 1)
    assert peak_bytes(tasks.noise_of_rows, job, [3, 4, 5], levels) <= limit
    if flat is not None:
        assert peak_bytes(tasks.level_of_frame, job, 0, DarkMeans(offset_adu=100.0)) <= limit
        assert peak_bytes(dark_means, flat.dark, HEIGHT) <= limit
        assert peak_bytes(measure_levels, sink.read_rows, HEIGHT, normalization, flat.bayer_pattern) <= limit
        colours = dict.fromkeys(("", "R", "G", "B"), 1.0)
        strip = Batch(start=10, stop=26, strip_rows=16)
        assert peak_bytes(tasks.normalise_batch, job, strip, colours) <= strip_memory_bytes(size, 16)


def test_one_thread_more_than_cores_waits_for_the_disk() -> None:
    assert default_workers("threads") == usable_cores() + 1
    assert default_workers("processes") == default_workers("distributed") == usable_cores()
