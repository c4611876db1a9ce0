"""The benchmarks: that their frames are honest, their measuring counts everything, and their check finds a cheat."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from astropy.io import fits

from support.folders import ROOT

BENCH = ROOT / "bench"
SEVENTY_MIB = 70 * 2**20
HOLD_MEMORY = f"import time; held = b'x' * {SEVENTY_MIB}; time.sleep(1.0)"
HOLD_MEMORY_WITH_CHILD = (
    f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {HOLD_MEMORY!r}]);"
    f"held = b'x' * {SEVENTY_MIB}; child.wait()"
)


WAIT_WITH_CHILD = (
    "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(os.getpid(), child.pid, flush=True); child.wait()"
)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait up to 20 s."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def bench_module(name: str) -> Any:
    """Import a script of bench/, which is no package."""
    if str(BENCH) not in sys.path:
        sys.path.insert(0, str(BENCH))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def quick_result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the comparison on 24 small frames against numpy, and against Siril where it is installed."""
    directory = tmp_path_factory.mktemp("bench")
    peers = "numpy,siril" if shutil.which("siril-cli") else "numpy"
    out = directory / "masters.json"
    script = str(BENCH / "compare_masters.py")
    command = [sys.executable, script, "--quick", f"--peers={peers}", f"--work={directory / 'work'}", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "| plain numpy" in done.stdout
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.mark.slow
def test_every_program_of_a_quick_run_is_measured_and_its_master_agrees(quick_result: dict[str, Any]) -> None:
    programs = {program["name"]: program for program in quick_result["programs"]}
    assert "numpy" in programs
    assert ("siril" in programs) == bool(shutil.which("siril-cli"))
    for program in programs.values():
        assert program["agrees"], program
        assert program["version"]
        assert program["wall_s"] > 0
        assert program["cpu_s"] > 0
        assert program["peak_rss_bytes"] > 10e6


@pytest.mark.slow
def test_a_result_says_on_what_it_was_measured(quick_result: dict[str, Any]) -> None:
    assert quick_result["frames"]["frames"] == 24
    assert quick_result["machine"].keys() >= {"processor", "cores", "memory_bytes", "system", "python", "date"}


@pytest.mark.slow
def test_ostcal_is_measured_cold_and_warm(quick_result: dict[str, Any]) -> None:
    assert "ostcal" not in quick_result["missing"]
    own = next(program for program in quick_result["programs"] if program["name"] == "ostcal")
    assert own["cold"]["exit_code"] == 0
    assert own["runs"][0]["exit_code"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_benchmark_that_is_ended_ends_what_it_measures(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path; from process_tree import Command, run_measured;"
        f"argv = (sys.executable, '-c', {WAIT_WITH_CHILD!r});"
        f"run_measured(Command(argv=argv, directory=Path({str(tmp_path)!r}), environment={{}}), timeout_s=60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=BENCH, stderr=subprocess.DEVNULL) as benchmark:
        log = tmp_path / "log.txt"
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        measured = [psutil.Process(int(pid)) for pid in log.read_text().split()]
        benchmark.send_signal(number)
        assert benchmark.wait(timeout=20) != 0
    gone, alive = psutil.wait_procs(measured, timeout=20)
    assert len(gone) == 2
    assert not alive


def test_generated_frames_are_reproducible_and_differ_everywhere(tmp_path: Path) -> None:
    dark_frames = bench_module("dark_frames")
    frame_set = dark_frames.FrameSet(frames=3, width=211, height=307)
    first = [fits.getdata(path) for path in dark_frames.write_frames(tmp_path / "a", frame_set)]
    again = [fits.getdata(path) for path in dark_frames.write_frames(tmp_path / "b", frame_set)]
    np.testing.assert_array_equal(first, again)
    assert np.mean(first[0] == first[1]) < 0.15  # chance of equal rounded samples at a noise of 4 ADU: 7 %
    assert np.std(first[0].astype(float) - first[1]) > 4.0


def test_frames_of_others_are_never_replaced(tmp_path: Path) -> None:
    dark_frames = bench_module("dark_frames")
    own_frame = tmp_path / dark_frames.FRAMES_FOLDER / "dark_000.fits"
    own_frame.parent.mkdir(parents=True)
    own_frame.write_bytes(b"somebody's night")
    with pytest.raises(FileExistsError, match="choose an empty --work directory"):
        dark_frames.write_frames(tmp_path, dark_frames.FrameSet(frames=1, width=10, height=10))
    assert own_frame.read_bytes() == b"somebody's night"


def test_another_set_replaces_the_frames_of_an_earlier_one(tmp_path: Path) -> None:
    dark_frames = bench_module("dark_frames")
    dark_frames.write_frames(tmp_path, dark_frames.FrameSet(frames=3, width=20, height=10))
    paths = dark_frames.write_frames(tmp_path, dark_frames.FrameSet(frames=2, width=10, height=20))
    assert sorted((tmp_path / dark_frames.FRAMES_FOLDER).iterdir()) == paths
    assert fits.getdata(paths[0]).shape == (20, 10)


def test_a_generated_frame_has_the_level_and_noise_of_the_sensor(tmp_path: Path) -> None:
    dark_frames = bench_module("dark_frames")
    frame_set = dark_frames.FrameSet(frames=1, width=400, height=300)
    sensor = dark_frames.make_sensor(frame_set)
    (path,) = dark_frames.write_frames(tmp_path, frame_set)
    deviation = (fits.getdata(path) - sensor.level) / sensor.sigma
    good = np.abs(deviation) < 6
    assert np.mean(~good) < 1e-3  # cosmic rays
    assert abs(deviation[good].mean()) < 5 / np.sqrt(deviation.size)
    assert deviation[good].std() == pytest.approx(1.0, abs=0.015)


@pytest.mark.parametrize(
    ("cheat", "agrees"), [("clipped mean", True), ("plain mean", False), ("first frame", False), ("zeros", False)]
)
def test_only_a_clipped_mean_agrees(tmp_path: Path, cheat: str, agrees: bool) -> None:
    dark_frames, agreement = bench_module("dark_frames"), bench_module("agreement")
    frame_set = dark_frames.FrameSet(frames=24, width=300, height=400)
    sensor = dark_frames.make_sensor(frame_set)
    stack = np.stack([fits.getdata(path) for path in dark_frames.write_frames(tmp_path, frame_set)]).astype(np.float32)
    clipped = bench_module("peer_numpy").clipped_mean(stack)
    pixels = {"clipped mean": clipped, "plain mean": stack.mean(axis=0), "first frame": stack[0], "zeros": 0 * clipped}
    fits.writeto(tmp_path / "reference.fits", clipped)
    fits.writeto(tmp_path / "master.fits", pixels[cheat])
    reference = agreement.Master(path=tmp_path / "reference.fits", adu_per_unit=1.0)
    master = agreement.Master(path=tmp_path / "master.fits", adu_per_unit=1.0)
    assert agreement.compare(master, reference, sensor, frame_set).holds == agrees


def test_memory_is_summed_over_a_process_and_its_child(tmp_path: Path) -> None:
    process_tree = bench_module("process_tree")
    command = process_tree.Command(
        argv=(sys.executable, "-c", HOLD_MEMORY_WITH_CHILD), directory=tmp_path, environment={}
    )
    usage = process_tree.run_measured(command, timeout_s=60.0)
    assert usage.exit_code == 0
    assert usage.processes == 2
    assert usage.peak_rss_bytes > 2 * SEVENTY_MIB
    assert usage.sum_of_peaks_bytes >= usage.peak_rss_bytes
    assert usage.wall_s > 1.0


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    process_tree = bench_module("process_tree")
    command = process_tree.Command(
        argv=(sys.executable, "-c", "import time; time.sleep(600)"), directory=tmp_path, environment={}
    )  # longer than a test may take
    usage = process_tree.run_measured(command, timeout_s=0.5)
    assert usage.exit_code != 0


def test_tables_replace_only_what_stands_between_their_markers(tmp_path: Path) -> None:
    shutil.copy(BENCH / "results" / "masters.json", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:masters -->\nold\n<!-- /bench -->\nafter\n")
    script = str(BENCH / "make_tables.py")
    subprocess.run([sys.executable, script, f"--results={tmp_path}", f"--root={tmp_path}"], check=True, timeout=60)
    text = readme.read_text()
    assert text.startswith("before\n<!-- bench:masters -->\n| program |")
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert "plain numpy" in text
    assert "old" not in text


@pytest.fixture(scope="module")
def quick_capture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the benchmark of capture with 1 MP and few frames."""
    directory = tmp_path_factory.mktemp("capture")
    out = directory / "capture.json"
    command = [sys.executable, str(BENCH / "capture.py"), "--quick", f"--work={directory / 'work'}", f"--out={out}"]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    assert bench_module("make_tables").capture_table(result) in done.stdout
    return result


@pytest.mark.slow
def test_the_capture_benchmark_measures_download_storing_and_cadence(quick_capture: dict[str, Any]) -> None:
    assert all(each["ratio_of_medians"] > 0 for each in quick_capture["download"].values())
    frame_bytes = quick_capture["series"]["frame_bytes"]
    for store in quick_capture["store"].values():
        assert 0 < store["statistics_cpu_s"] < store["cpu_s"]
        assert 0.1 * frame_bytes < store["stored_bytes"] < frame_bytes
    readout_s = 0.5 / bench_module("capture").QUICK.time_scale
    for cadence_s in (
        *quick_capture["series"]["cadence_s"].values(),
        *quick_capture["series"]["bare_cadence_s"].values(),
    ):
        assert readout_s < cadence_s
    assert 30e6 < quick_capture["series"]["peak_rss_of_1_mp_bytes"] < 500e6


def quick_run(folder: Path, script: str, table: str) -> dict[str, Any]:
    """Run a benchmark with small frames; gives its result, whose table it printed."""
    out = folder / "result.json"
    command = [sys.executable, str(BENCH / script), "--quick", f"--work={folder / 'work'}", f"--out={out}"]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(out.read_text())
    assert bench_module("make_tables").TABLES[table](result) in done.stdout
    assert not (folder / "work").exists()
    return result


@pytest.mark.slow
def test_the_benchmark_of_a_night_makes_all_masters_and_deletes_the_frames(tmp_path: Path) -> None:
    result = quick_run(tmp_path, "whole_night.py", "night")
    assert 0.2 * result["raw_bytes"] < result["stored_bytes"] < result["raw_bytes"]
    assert len(result["one"]) == 2
    assert result["ratio"] * result["one_s"] == pytest.approx(result["night"]["wall_s"])
    assert 100e6 < result["night"]["sum_of_peaks_bytes"] < result["memory_limit_bytes"]


@pytest.mark.slow
def test_the_benchmark_of_combining_while_exposing_takes_an_evening(tmp_path: Path) -> None:
    result = quick_run(tmp_path, "while_exposing.py", "while_exposing")
    assert set(result["cadence_s"]) == {"0.001", "10", "20"}
    for exposure, step_s in result["cadence_s"].items():
        assert min(step_s) > float(exposure) / result["evening"]["time_scale"]
    assert result["masters"] >= result["series"]
    assert result["last_master_s"] > 0


def test_timing_lines_of_a_log_are_added_up_per_stage() -> None:
    stages = bench_module("stages")
    log = "12:00:00 DEBUG ostcal: timing: read and combine 1.25 s\nother\ntiming: FITS 0.5 s\ntiming: FITS 0.25 s\n"
    assert stages.sum_stages(log) == {"read and combine": 1.25, "FITS": 0.75}


def test_what_combining_consists_of_is_added_up_over_masters() -> None:
    stages = bench_module("stages")
    log = (
        "timing: combine 3.0 s\n"
        "timing: master_dark: read 1.5 s, combine 2.0 s, write 0.5 s, summed over the workers\n"
        "timing: master_bias: read 0.5 s, combine 1.0 s, write 0.25 s, summed over the workers\n"
        "timing: master_dark: statistics 0.000 s, FITS 0.25 s, commit 0.125 s, published\n"
    )
    assert stages.sum_stages(log) == {"combine": 3.0}
    assert stages.sum_details(log) == {
        "read": 2.0, "combine": 3.0, "write": 0.75, "statistics": 0.0, "FITS": 0.25, "commit": 0.125,
    }  # fmt: skip


def test_the_cache_of_a_file_is_emptied_and_seen_to_be(tmp_path: Path) -> None:
    page_cache = bench_module("page_cache")
    if not page_cache.can_be_cold():
        pytest.skip("this system does not let a program empty the page cache")
    path = tmp_path / "frame"
    path.write_bytes(bytes(5_000_000))
    assert page_cache.read_into_nothing([path]) == 5_000_000
    assert page_cache.cached_share([path]) == 1.0
    page_cache.evict([path])
    share = page_cache.cached_share([path])  # once: asking may begin to read ahead
    if share == 1.0:
        pytest.skip("this file system keeps its files in memory")
    assert share == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("script", ["engine", "cold_cache"])
def test_the_benchmarks_of_the_engine_run_on_small_frames(tmp_path: Path, script: str) -> None:
    out = tmp_path / f"{script}.json"
    command = [sys.executable, str(BENCH / f"{script}.py"), "--quick", f"--work={tmp_path / 'work'}", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["frames"]["frames"] == 24
    if script == "engine":
        assert set(result["sources"]) == {"FITS", "zarr"}
        assert all(
            times["engine"] > 0 and times["read"] > 0 and times["sort"] > 0 for times in result["sources"].values()
        )
        assert result["sources"]["zarr"]["decompress"] > 0


def test_an_unknown_peer_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown peer pixinsight; known are ccdproc, .*siril"):
        bench_module("programs").select_programs("pixinsight")
