"""All masters of a run in one graph: the same bits wherever and however it runs, and one failure stops no other."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import naive
from ostcal.engine import tasks
from ostcal.engine.driver import Failure, connected, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.graph import Progress, run_graph
from ostcal.engine.levels import DarkModel
from ostcal.engine.rejection import RejectionMethod, SeriesNoise, SigmaClip, WinsorizedSigmaClip
from ostcal.engine.tasks import FlatTreatment, JobResult, MasterJob, Prepared
from ostcal.engine.tiling import Batch, StripPlan
from ostcal.errors import OstcalError
from support import strategies
from support.memory_stack import BrokenStack, MemoryStack, NpySink, RefuseToFinish, keep_result

HEIGHT, WIDTH = 37, 53
WHOLE = HEIGHT
BIG_ENDIAN = strategies.INTEGER_ENCODINGS["FITS uint16"]
FLOAT = strategies.FLOAT_ENCODINGS["float32"]
FLAT_TIMES_S = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
MEDIAN_MAD = SigmaClip(center="median", spread="mad", iterations=None)
THREADS = Execution(scheduler="threads", workers=2)
NAMES = ("bias", "dark", "flat", "float")
COUNTS = {"bias": 5, "dark": 9, "flat": len(FLAT_TIMES_S), "float": 7}


def adu_of_run() -> dict[str, NDArray[Any]]:
    """Return the ADU of all series of a run: a pattern, hot pixels, cosmic rays, vignetting, one flat without light."""
    generator = np.random.default_rng(21)
    pattern = generator.normal(500.0, 3.0, (HEIGHT, WIDTH))
    rate = generator.exponential(0.3, (HEIGHT, WIDTH))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    light = 9000.0 * (1 - 0.3 * np.hypot(y / HEIGHT - 0.5, x / WIDTH - 0.5)) * generator.normal(1, 0.01, y.shape)

    def exposed(exposure_s: float, lit: float) -> NDArray[Any]:
        frame = pattern + rate * exposure_s + light * exposure_s * lit + generator.normal(0, 3.0, y.shape)
        frame[generator.random(y.shape) < 0.01] += 700.0
        return np.clip(np.rint(frame), 0, 65535).astype(np.int32)

    flats = [exposed(t, 0.0 if t == 2.5 else 1.0) for t in FLAT_TIMES_S]
    floats = np.stack([exposed(60.0, 0.0) for _ in range(COUNTS["float"])]) / np.float32(3.0)
    floats[2, 5, 6] = np.nan
    floats[:, 8, 9] = np.nan
    return {
        "bias": np.stack([exposed(0.0, 0.0) for _ in range(COUNTS["bias"])]),
        "dark": np.stack([exposed(10.0, 0.0) for _ in range(COUNTS["dark"])]),
        "flat": np.stack(flats),
        "float": floats.astype(np.float32),
    }


ADU = adu_of_run()
IN_ORDER = {name: tuple(range(count)) for name, count in COUNTS.items()}
Order = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Run:
    """What a run gave: results by job, and the planes of its masters."""

    results: dict[str, Any]
    planes: dict[tuple[str, str], NDArray[Any]]
    progress: list[Progress]
    total: int


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A folder with the frames of a run in files."""

    folder: Path
    counter: Any

    def jobs(self, order: Order = IN_ORDER, method: RejectionMethod = MEDIAN_MAD, **flat: Any) -> list[MasterJob]:
        """Return the jobs of all series, flats with the line through bias and dark of the same run."""
        folder = self.folder / f"run{next(self.counter)}"
        sinks = {name: NpySink.create(folder / name, (HEIGHT, WIDTH)) for name in NAMES}
        dark = DarkModel(first=sinks["bias"], first_exposure_s=0.0, second=sinks["dark"], second_exposure_s=10.0)
        treatment: dict[str, Any] = {
            "exposure_times_s": tuple(FLAT_TIMES_S[i] for i in order["flat"]),
            "dark": dark,
            "scaling": "mean",
            "normalization": "mean",
            "dark_jobs": ("bias", "dark"),
        }
        return [
            MasterJob(
                name=name,
                stack=self.stack(name).select(order[name]),
                method=method,
                sink=sinks[name],
                flat=FlatTreatment(**treatment | flat) if name == "flat" else None,
                staging=NpySink.create(folder / "combined", (HEIGHT, WIDTH)) if name == "flat" else None,
            )
            for name in NAMES
        ]

    def stack(self, name: str) -> MemoryStack:
        encoding = FLOAT if name == "float" else BIG_ENDIAN
        path = self.folder / f"{name}.npy"
        if path.exists():
            return MemoryStack(str(path), encoding)
        return MemoryStack.of_file(path, strategies.encode(ADU[name], encoding), encoding)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(folder=tmp_path_factory.mktemp("graph"), counter=itertools.count())


def run(
    jobs: Sequence[MasterJob], strip_rows: int = 16, execution: Execution = THREADS, finish: Any = keep_result
) -> Run:
    plans = [StripPlan(height=HEIGHT, strip_rows=strip_rows) for _ in jobs]
    progress: list[Progress] = []
    results = run_graph(jobs, plans, finish, execution, progress.append)
    planes = {(job.name, plane): job.sink.plane(plane) for job in jobs for plane in ("master", "n_used", "std")}
    return Run(
        results=dict(zip((job.name for job in jobs), results, strict=True)),
        planes=planes,
        progress=progress,
        total=sum(
            job.row_bytes * HEIGHT * (1 if job.flat is None or job.flat.scaling == "none" else 2) for job in jobs
        ),
    )


def assert_same(actual: Run, expected: Run, order: Order = IN_ORDER) -> None:
    """Compare all bits of two runs; what is told of each frame follows the order of frames."""
    for key, plane in expected.planes.items():
        assert plane.dtype == actual.planes[key].dtype
        assert plane.tobytes() == actual.planes[key].tobytes(), key
    for name, result in expected.results.items():
        other = actual.results[name]
        assert isinstance(other, JobResult), other
        assert other.rejected_per_frame == tuple(result.rejected_per_frame[i] for i in order[name])
        if result.levels is not None:
            assert other.levels.levels_adu == tuple(result.levels.levels_adu[i] for i in order[name])
            np.testing.assert_array_equal(other.levels.scales, [result.levels.scales[i] for i in order[name]])
        plain = {"rejected_per_frame": (), "levels": None, "seconds": {}}
        assert replace(other, **plain) == replace(result, **plain)


@pytest.fixture(scope="module")
def reference(bench: Bench) -> Run:
    """Return the run on one thread with strips of the whole frame."""
    return run(bench.jobs(), WHOLE, Execution(scheduler="threads", workers=1))


# --- the numbers themselves ---


def test_darks_equal_the_literal_reference(reference: Run) -> None:
    for name in ("bias", "dark", "float"):
        noise = naive.series_noise(ADU[name])
        assert reference.results[name].noise == SeriesNoise(noise_adu=noise.noise_adu, step_adu=noise.step_adu)
        pixel = strategies.reference_of(MEDIAN_MAD, COUNTS[name], reference.results[name].noise)
        expected = naive.combine_stack(ADU[name], pixel)
        np.testing.assert_array_equal(reference.planes[name, "master"], expected.mean)
        np.testing.assert_array_equal(reference.planes[name, "n_used"], expected.n_used)
        np.testing.assert_array_equal(reference.planes[name, "std"], expected.std)
        result = reference.results[name]
        assert result.rejected_per_frame == tuple(expected.rejected_per_frame)
        assert result.invalid == expected.invalid
        assert result.n_samples == ADU[name].size


def test_flats_equal_the_literal_reference(reference: Run) -> None:
    result = reference.results["flat"]
    assert result.levels.left_out == [3]
    bias, dark = reference.planes["bias", "master"], reference.planes["dark", "master"]
    rate = ((dark.astype(np.float64) - bias) / 10.0).astype(np.float32)
    corrected = naive.corrected_stack(
        ADU["flat"], scale=result.levels.scales, dark_offset=bias, dark_rate=rate, exposure_time_s=FLAT_TIMES_S
    )
    lit = [0, 1, 2, 4, 5]
    noise = naive.series_noise(corrected[lit])
    assert result.noise == SeriesNoise(noise_adu=noise.noise_adu, step_adu=1.0)
    expected = naive.combine_stack(corrected, strategies.reference_of(MEDIAN_MAD, COUNTS["flat"], result.noise))
    levels = result.normalization_levels
    assert levels[""] == pytest.approx(naive.level(expected.mean, "mean"), rel=1e-14)
    np.testing.assert_array_equal(reference.planes["flat", "n_used"], expected.n_used)
    for plane, values in (("master", expected.mean), ("std", expected.std)):
        normalised = (values.astype(np.float64) / levels[""]).astype(np.float32)
        np.testing.assert_array_equal(reference.planes["flat", plane], normalised)
    assert result.mean == pytest.approx(1.0, rel=1e-7)


def test_results_describe_the_planes(reference: Run) -> None:
    for name in NAMES:
        master, result = reference.planes[name, "master"], reference.results[name]
        finite = master[np.isfinite(master)].astype(np.float64)
        assert (result.minimum, result.maximum) == (finite.min(), finite.max())
        assert result.mean == pytest.approx(finite.mean(), rel=1e-13)
        assert result.empty_pixels == np.count_nonzero(np.isnan(master))
        assert result.empty_pixels == np.count_nonzero(reference.planes[name, "n_used"] == 0)
        kept = int(reference.planes[name, "n_used"].sum(dtype=np.int64))
        assert sum(result.rejected_per_frame) == result.n_samples - kept
        assert set(result.seconds) == {"read", "combine", "write"}
    assert reference.results["float"].empty_pixels == 1


# --- the same bits ---


@pytest.mark.parametrize("strip_rows", [1, 3, 16, WHOLE])
@pytest.mark.parametrize("workers", [1, 4])
def test_threads_and_strips_do_not_change_a_bit(bench: Bench, reference: Run, strip_rows: int, workers: int) -> None:
    assert_same(run(bench.jobs(), strip_rows, Execution(scheduler="threads", workers=workers)), reference)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), strip_rows=st.sampled_from([2, 5, 16, 30]))
def test_the_order_of_frames_does_not_change_a_bit(
    bench: Bench, reference: Run, data: st.DataObject, strip_rows: int
) -> None:
    order = {name: tuple(data.draw(st.permutations(range(count)))) for name, count in COUNTS.items()}
    assert_same(run(bench.jobs(order), strip_rows), reference, order)


@pytest.mark.parametrize(
    ("scaling", "normalization", "method"),
    [
        ("median", "median", SigmaClip(center="mean", spread="std")),
        ("none", "max", WinsorizedSigmaClip()),
        ("median", "mean", WinsorizedSigmaClip()),
    ],
)
def test_other_treatments_of_flats_are_the_same_for_any_order_and_strips(
    bench: Bench, scaling: str, normalization: str, method: RejectionMethod
) -> None:
    treatment = {"scaling": scaling, "normalization": normalization, "bayer_pattern": "RGGB"}
    backwards = {name: tuple(reversed(frames)) for name, frames in IN_ORDER.items()}
    whole = run(bench.jobs(method=method, **treatment), WHOLE)
    assert set(whole.results["flat"].normalization_levels) == {"R", "G", "B"}
    assert_same(run(bench.jobs(backwards, method, **treatment), 3), whole, backwards)


@pytest.mark.slow
@pytest.mark.parametrize("strip_rows", [3, WHOLE])
def test_processes_give_the_same_bits(bench: Bench, reference: Run, strip_rows: int) -> None:
    done = run(bench.jobs(), strip_rows, Execution(scheduler="processes", workers=2))
    assert_same(done, reference)
    assert sum(p.n_bytes for p in done.progress) == done.total


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "strip_rows"), [(1, WHOLE), (2, 3)])
def test_a_cluster_gives_the_same_bits(bench: Bench, reference: Run, workers: int, strip_rows: int) -> None:
    done = run(bench.jobs(), strip_rows, Execution(scheduler="distributed", workers=workers))
    assert_same(done, reference)
    assert sum(p.n_bytes for p in done.progress) == done.total


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["processes", "distributed"])
def test_failures_come_back_from_other_processes(bench: Bench, scheduler: Any) -> None:
    jobs = with_broken(bench.jobs(), "dark", 20)
    done = run(jobs, 16, Execution(scheduler=scheduler, workers=1))
    assert failed(done)["dark"] == ("dark", "dark_0007.fits: the file ends at row 20")
    assert set(failed(done)) == {"dark", "flat"}


# --- what fails ---


def failed(done: Run) -> dict[str, tuple[str, str]]:
    """Return for every job that failed the job it failed for and the message."""
    return {name: (r.job, r.message) for name, r in done.results.items() if isinstance(r, Failure)}


def with_broken(jobs: list[MasterJob], name: str, bad_row: int = 0) -> list[MasterJob]:
    """Return the jobs with one whose frames end too early."""
    return [replace(job, stack=BrokenStack(job.stack, bad_row)) if job.name == name else job for job in jobs]


@pytest.mark.parametrize("bad_row", [0, 20, HEIGHT - 1])
def test_a_bad_dark_fails_with_what_depends_on_it_and_nothing_else(bench: Bench, reference: Run, bad_row: int) -> None:
    done = run(with_broken(bench.jobs(), "dark", bad_row))
    assert failed(done) == dict.fromkeys(("dark", "flat"), ("dark", f"dark_0007.fits: the file ends at row {bad_row}"))
    for name in ("bias", "float"):
        assert done.planes[name, "master"].tobytes() == reference.planes[name, "master"].tobytes()


@pytest.mark.parametrize("scaling", ["mean", "median", "none"])
def test_a_bad_flat_fails_alone(bench: Bench, scaling: str) -> None:
    done = run(with_broken(bench.jobs(scaling=scaling), "flat"))
    assert failed(done) == {"flat": ("flat", "dark_0007.fits: the file ends at row 0")}


def test_a_flat_without_light_fails_with_its_level(bench: Bench) -> None:
    black = MemoryStack(np.zeros((COUNTS["flat"], HEIGHT, WIDTH), np.uint16))
    jobs = [replace(job, stack=black) if job.name == "flat" else job for job in bench.jobs()]
    job, message = failed(run(jobs))["flat"]
    assert job == "flat"
    assert "no flat frame holds light" in message


def test_a_master_that_cannot_be_finished_fails_with_what_depends_on_it(bench: Bench) -> None:
    done = run(bench.jobs(), finish=RefuseToFinish("bias"))
    assert set(failed(done)) == {"bias", "flat"}
    assert failed(done)["flat"] == failed(done)["bias"]
    job, message = failed(done)["bias"]
    assert job == "bias"
    assert "No space left on device" in message


def test_an_error_in_the_program_is_no_failure_of_a_frame(bench: Bench) -> None:
    jobs = bench.jobs()
    wrong = replace(jobs[0], stack=replace(jobs[0].stack, samples=np.zeros((2, 2), np.uint16)))
    with pytest.raises(ValueError, match="unpack"):
        run([wrong])


def test_a_failure_is_counted_as_done(bench: Bench) -> None:
    done = run(with_broken(bench.jobs(), "dark"))
    assert sum(p.n_bytes for p in done.progress) == done.total


# --- progress and order ---


def test_progress_adds_up_to_all_bytes(reference: Run) -> None:
    assert sum(p.n_bytes for p in reference.progress) == reference.total
    frame = HEIGHT * WIDTH
    expected = 2 * frame * (COUNTS["bias"] + COUNTS["dark"] + 2 * COUNTS["flat"]) + 4 * frame * COUNTS["float"]
    assert reference.total == expected


def test_progress_names_every_task_that_touches_pixels(bench: Bench) -> None:
    stages = Counter((p.job, p.stage) for p in run(bench.jobs(), 16).progress)
    strips = math.ceil(HEIGHT / 16)
    for name in NAMES:
        assert stages[name, "combine"] == strips
        assert stages[name, "finish"] == 1
    assert stages["flat", "level"] == COUNTS["flat"]
    assert stages["flat", "normalise"] == strips


def test_float64_frames_count_eight_bytes_a_sample(bench: Bench) -> None:
    encoding = strategies.FLOAT_ENCODINGS["float64"]
    job = bench.jobs()[0]
    job = replace(job, stack=MemoryStack(np.ones((3, HEIGHT, WIDTH)), encoding))
    assert job.row_bytes == 3 * WIDTH * 8


@pytest.mark.parametrize("scaling", ["mean", "median", "none"])
def test_flats_wait_for_the_darks_they_name(bench: Bench, scaling: str) -> None:
    done = run(bench.jobs(scaling=scaling), 1, Execution(scheduler="threads", workers=4))
    order = [(p.job, p.stage) for p in done.progress]
    first_of_flat = min(i for i, (job, _) in enumerate(order) if job == "flat")
    assert {("bias", "finish"), ("dark", "finish")} <= set(order[:first_of_flat])


def test_a_flat_is_normalised_only_when_all_its_strips_are_there(bench: Bench) -> None:
    done = run(bench.jobs(), 1, Execution(scheduler="threads", workers=4))
    stages = [p.stage for p in done.progress if p.job == "flat"]
    assert stages == sorted(stages, key=["level", "combine", "normalise", "finish"].index)


def test_results_come_in_the_order_of_the_jobs(bench: Bench) -> None:
    jobs = list(reversed(bench.jobs()))
    plans = [StripPlan(height=HEIGHT, strip_rows=16) for _ in jobs]
    assert [result.name for result in run_graph(jobs, plans, keep_result, THREADS)] == list(reversed(NAMES))


def test_no_jobs_give_no_results() -> None:
    assert run_graph([], [], keep_result, THREADS) == []


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_one_clear_line() -> None:
    with (
        pytest.raises(OstcalError, match=r"compute\.address tcp://127\.0\.0\.1:9: no Dask scheduler answered"),
        connected(Execution(scheduler="distributed", address="tcp://127.0.0.1:9")),
    ):
        pass


def test_tasks_of_a_flat_may_run_again_when_it_is_done(bench: Bench) -> None:
    """As on a cluster when a worker dies: combining and normalising a strip twice changes nothing."""
    jobs = bench.jobs()
    done = run(jobs)
    flat = next(job for job in jobs if job.name == "flat")
    levels = done.results["flat"].normalization_levels
    before = flat.sink.read_rows(0, HEIGHT)
    prepared = Prepared(noise=done.results["flat"].noise, levels=done.results["flat"].levels)
    first = Batch(start=0, stop=16, strip_rows=16)
    tasks.normalise_batch(flat, first, levels)
    tasks.combine_batch(flat, first, prepared)
    tasks.normalise_batch(flat, first, levels)
    assert flat.sink.read_rows(0, HEIGHT).tobytes() == before.tobytes()


def test_flats_without_light_are_refused(bench: Bench) -> None:
    jobs = bench.jobs()
    flat = next(job for job in jobs if job.name == "flat")
    bias = next(job for job in jobs if job.name == "bias")
    treatment = replace(flat.flat, exposure_times_s=(0.0,) * bias.n_frames)
    dark_flats = [replace(job, stack=bias.stack, flat=treatment) if job.name == "flat" else job for job in jobs]
    failure = run(dark_flats).results["flat"]
    assert isinstance(failure, Failure)
    assert "light" in failure.message


def reciprocal_of(item: tuple[str, float]) -> float:
    """Fail on purpose where the item is zero."""
    name, value = item
    if value == 0:
        raise OstcalError(f"{name} is zero")
    return 1 / value


@pytest.mark.parametrize(
    "scheduler",
    ["threads", pytest.param("processes", marks=pytest.mark.slow), pytest.param("distributed", marks=pytest.mark.slow)],
)
def test_independent_tasks_come_back_in_order_and_fail_alone(scheduler: Any) -> None:
    done: list[int] = []
    items = [("a", 2.0), ("b", 0.0), ("c", 4.0)]  # names that could be keys of the graph
    results = run_tasks(reciprocal_of, items, Execution(scheduler=scheduler, workers=2), done.append)
    assert [results[0], results[2]] == [0.5, 0.25]
    assert isinstance(results[1], Failure)
    assert results[1].message == "b is zero"
    assert sorted(done) == [0, 1, 2]
