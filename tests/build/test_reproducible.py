"""Masters depend on the frames alone, not on order, strips, workers or schedulers; and memory keeps its limit."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal import MasterFrameCreator
from ostcal.library.find import store_location
from ostcal.library.store import MasterStore
from support import night as n
from support import quality_nights
from support.amounts import IS_THOROUGH
from support.mosaics import Image, hdu_of, write_mosaic
from support.night import Night
from support.quality_nights import BAYER, DEMO

MAY_DIFFER = {"DATE", "CALID", "CHECKSUM"}
MIB = 2**20


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return n.whole_night(tmp_path)


def planes(status: Any) -> dict[str, list[NDArray[Any]]]:
    """Return all images of all masters by their names without the time."""
    result = {}
    for files in status.data.values():
        for path in files:
            with fits.open(path, memmap=False) as hdus:
                result[re.sub(r"_\d{8}_\d{6}\.fits$", "", Path(path).name)] = [np.array(hdu.data) for hdu in hdus]
    return result


def assert_same_bits(first: Any, second: Any) -> None:
    a, b = planes(first), planes(second)
    assert a.keys() == b.keys()
    assert len(a) == 5
    for name in a:
        for x, y in zip(a[name], b[name], strict=True):
            assert x.tobytes() == y.tobytes(), name


def test_two_equal_runs_write_equal_files(night: Night) -> None:
    first, second = (night.run(extensions=True) for _ in range(2))
    for kind in first.data:
        for a, b in zip(first.data[kind], second.data[kind], strict=True):
            with fits.open(a) as one, fits.open(b) as two:
                for hdu, other in zip(one, two, strict=True):
                    cards, others = list(hdu.header.cards), list(other.header.cards)
                    differing = {c.keyword for c, o in zip(cards, others, strict=True) if str(c) != str(o)}
                    assert differing <= MAY_DIFFER, [c for c in cards if c.keyword in differing]
                    assert hdu.data.tobytes() == other.data.tobytes()


@pytest.mark.parametrize(
    "keys",
    [{}, {"extensions": True}, {"quality_control": False}, {"quality_control": False, "extensions": True}],
    ids=["plain", "extensions", "no quality control", "extensions without it"],
)
@pytest.mark.parametrize("bayer", [False, True])
def test_samples_of_a_file_are_written_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: dict[str, Any], bayer: bool
) -> None:
    night = quality_nights.clean_night(tmp_path, BAYER if bayer else DEMO, count=5)
    caplog.set_level(logging.DEBUG, "ostcal")
    status = MasterFrameCreator(night.config(**keys)).create_all_master_frames()
    assert status.data["flat"]
    assert caplog.text.count("its samples were written with the strips") == 5
    assert "are written again" not in caplog.text  # the header was as long as it was thought to be


@pytest.mark.parametrize(("scheduler", "count"), [("threads", 3), ("processes", 0)])
def test_threads_scan_masters_along_with_their_strips(
    night: Night, caplog: pytest.LogCaptureFixture, scheduler: str, count: int
) -> None:
    caplog.set_level(logging.DEBUG, "ostcal")
    status = MasterFrameCreator(night.config(compute={"scheduler": scheduler})).create_all_master_frames()
    assert status.data["flat"]
    lines = re.findall(r"(\d+) of (\d+) bands were scanned with the strips", caplog.text)
    assert len(lines) == count  # the flat is scanned when its level is known
    assert all(scanned == every for scanned, every in lines)


def test_a_run_does_not_change_the_next(night: Night) -> None:
    """Masters of the first run lie in the directory of the second."""
    assert_same_bits(night.run(), night.run())


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"clip_center": "mean", "clip_spread": "std", "clip_iterations": None},
        {"rejection_method": "winsorized_sigma_clip"},
        {"normalization_method": "median", "flat_scaling": "median"},
    ],
    ids=["default", "mean/std", "winsorized", "medians"],
)
def test_the_order_of_the_frames_changes_no_bit(night: Night, keys: dict[str, Any]) -> None:
    before = night.run(extensions=True, **keys)
    rng = np.random.default_rng(5)
    for folder in [*night.darks.iterdir(), night.flats]:
        paths = sorted(folder.iterdir())
        stamps = [fits.getval(path, "DATE-OBS") for path in paths]
        for index, (path, stamp) in enumerate(zip(paths, rng.permutation(stamps), strict=True)):
            fits.setval(path, "DATE-OBS", value=str(stamp))  # frames are sorted by date, then by name
            path.rename(path.with_name(f"{rng.integers(1 << 40)}_{index}.fits"))
    assert_same_bits(before, night.run(extensions=True, **keys))


@pytest.mark.parametrize("strip_rows", [1, 7, 1000])
def test_strips_and_workers_change_no_bit(night: Night, strip_rows: int) -> None:
    config = night.config(extensions=True, compute={"workers": 1})
    before = MasterFrameCreator(config).create_all_master_frames()
    config = night.config(extensions=True, compute={"workers": 3}) | {"storage": {"strip_rows": strip_rows}}
    assert_same_bits(before, MasterFrameCreator(config).create_all_master_frames())


def test_processes_give_the_same_bits_as_threads(night: Night) -> None:
    assert_same_bits(night.run(extensions=True), night.run(extensions=True, compute={"scheduler": "processes"}))


def cluster_run(night: Night) -> subprocess.CompletedProcess[str]:
    """Run the command with a cluster of this computer, as a user does: in a process of its own."""
    path = n.write_config(night, extensions=True, compute={"scheduler": "distributed"})
    return subprocess.run(
        n.command_line("masters", "--config", path, "--no-confirm"), env=n.command_environment(), capture_output=True,
        text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_a_cluster_gives_the_same_bits_as_threads(night: Night) -> None:
    done = cluster_run(night)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    files = {kind: sorted(map(str, night.masters.glob(f"master_{kind}*.fits"))) for kind in ("bias", "dark", "flat")}
    before = {kind: list(paths) for kind, paths in files.items()}
    status = night.run(extensions=True)

    class ByCluster:
        data = before

    assert_same_bits(ByCluster, status)


@pytest.mark.slow
def test_a_frame_lost_in_a_cluster_fails_its_master_alone(night: Night) -> None:
    (night.darks / "exp_5.000s" / "dark_003.fits").write_bytes(b"nothing")
    done = cluster_run(night)
    assert done.returncode == 0, done.stderr
    assert "dark_003.fits" in done.stderr


@pytest.mark.slow  # the connection is tried for 20 s
def test_a_scheduler_that_does_not_answer_is_named(night: Night) -> None:
    keys = {"scheduler": "distributed", "address": "tcp://127.0.0.1:9"}
    status = night.run(compute=keys)
    assert status.is_error
    assert "tcp://127.0.0.1:9" in status.message
    assert list(night.masters.glob("*.fits")) == []


# --- memory ---


def needed_mib(night: Night, **compute: Any) -> int:
    """Return the limit that a refusal names."""
    outcome = n.run_command(night, compute={"memory_limit": "64MiB", **compute})
    assert outcome.exit_code == 1
    (named,) = re.findall(r"set memory_limit to (\d+) ?MiB", outcome.stderr)
    return int(named)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_plan_that_cannot_fit_is_refused_with_the_number_that_would_do(night: Night, scheduler: str) -> None:
    needed = needed_mib(night, scheduler=scheduler)
    assert list(night.masters.glob("*.fits")) == []
    assert list((night.masters / "masters.zarr").glob("master_*")) == []
    refused = night.run(compute={"memory_limit": f"{needed - 1}MiB", "scheduler": scheduler})
    assert refused.is_error
    assert night.run(compute={"memory_limit": f"{needed}MiB", "scheduler": scheduler}).is_success


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_files_of_several_images_with_overscan_keep_the_memory_limit(tmp_path: Path, scheduler: str) -> None:
    night = Night(tmp_path)
    rng = np.random.default_rng(2)
    noise = rng.normal(1000, 10, (1300, 2500)).astype(np.uint16)
    cards = {"BIASSEC": "[2401:2432,*]", "TRIMSEC": "[1:2400,*]"}
    for index in range(12):
        at = rng.integers(0, 60, (4, 2))
        hdus = [
            hdu_of(Image(f"im{k}", 0, cards=cards), noise[y : y + 1200 - 100 * (k % 2), x : x + 2432])
            for k, (y, x) in enumerate(at)
        ]
        write_mosaic(night.darks / f"d{index:02d}.fits", hdus, IMAGETYP="Dark Frame", EXPTIME=5.0)
    least = needed_mib(night, scheduler=scheduler)
    assert peak_bytes(night, least, scheduler) <= least * MIB
    with fits.open(next(night.masters.glob("*.fits"))) as hdus:
        assert [hdu.data.shape for hdu in hdus[1:]] == [(1200, 2400), (1100, 2400)] * 2


class TreeMemory(threading.Thread):
    """Samples the resident memory of a process and its children: at one moment, and each one's own peak."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.at_once = 0
        self._root = psutil.Process(pid)
        self._command = self._root.cmdline()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            now = 0
            for process in family:
                try:
                    if process != self._root and process.cmdline() == self._command:
                        continue  # between fork and exec a child shows its parent's memory: 115 MiB too much
                    rss = int(process.memory_info().rss)
                except psutil.Error:
                    continue
                now += rss
            self.at_once = max(self.at_once, now)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def peak_bytes(night: Night, limit_mib: int, scheduler: str) -> int:
    """Run the command and give the highest sum of what its processes had at one moment.

    Not the sum of their peaks: the frames are surveyed before the processes that combine them begin, and those that
    unpack end before.
    """
    compute = {"scheduler": scheduler, "memory_limit": f"{limit_mib}MiB", "workers": 2}
    path = n.write_config(night, compute=compute)
    process = subprocess.Popen(
        n.command_line("masters", "--config", path, "--no-confirm"), env=n.command_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    memory = TreeMemory(process.pid)
    memory.start()
    text, _ = process.communicate(timeout=280)
    memory.stop()
    assert process.returncode == 0, text
    return memory.at_once


def write_noise(folder: Path, n_frames: int, shape: tuple[int, int], kind: str, mean: float, noise: float) -> None:
    rng = np.random.default_rng(n_frames)
    for index in range(n_frames):  # one after another: a stack of 400 frames would be large here too
        frame = rng.normal(mean, noise, (1, *shape)).astype(np.uint16)
        n.write_frames(folder, frame, kind, 5.0, stem=f"{kind.split()[0]}{index}", start=n.START)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_frames", "shape", "scheduler"),
    [
        (n_frames, shape, scheduler)
        for n_frames, shape, first in (
            (10, (1000, 2000), "processes"),
            (40, (500, 2000), "threads"),
            (400, (100, 2000), "processes"),
        )
        for scheduler in (("threads", "processes") if IS_THOROUGH else (first,))
    ],
)
def test_all_processes_together_keep_the_memory_limit(
    tmp_path: Path, n_frames: int, shape: tuple[int, int], scheduler: str
) -> None:
    night = Night(tmp_path)
    write_noise(night.darks, n_frames, shape, "Dark Frame", 1000, 10)
    write_noise(night.flats, n_frames, shape, "Flat Frame", 20000, 140)  # light has noise: 1 e-/ADU
    least = needed_mib(night, scheduler=scheduler)
    peak_bytes(night, 4 * least, scheduler)  # compiles what no test has compiled yet, which takes 150 MiB
    for limit_mib in (least, 2 * least):
        peak = peak_bytes(night, limit_mib, scheduler)
        assert peak <= limit_mib * MIB, f"{peak / MIB:.0f} MiB of {limit_mib}"


@pytest.mark.slow
def test_compressed_frames_keep_the_memory_limit(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.darks.mkdir()
    rng = np.random.default_rng(1)
    for index in range(4):
        frame = rng.normal(1000, 10, (4000, 5000)).astype(np.uint16)  # 40 MB
        hdu = fits.CompImageHDU(frame, compression_type="RICE_1")
        hdu.header.update({"IMAGETYP": "Dark Frame", "EXPTIME": 5.0, "DATE-OBS": f"2026-11-21T18:00:0{index}"})
        hdu.writeto(night.darks / f"dark{index}.fits.fz")
    least = needed_mib(night, scheduler="threads", memory_limit="300MiB")  # below 253 MiB each frame is refused
    assert peak_bytes(night, least, "threads") <= least * MIB


def relative_config(folder: Path) -> Path:
    """Write a configuration that is the same in each folder in which a run works."""
    config = {
        "dark_capture": {"output_dir": "darks"},
        "flat_capture": {"output_dir": "flats"},
        "master_frames": {"output_dir": "masters"},
    }
    path = folder / "c.yaml"
    path.write_text(json.dumps(config))
    return path


def histories(folder: Path) -> dict[str, list[str]]:
    """Return HISTORY of all FITS masters by their names without the time."""
    found = {}
    for path in sorted((folder / "masters").glob("*.fits")):
        found[re.sub(r"_\d{8}_\d{6}", "", path.name)] = [str(line) for line in fits.getheader(path)["HISTORY"]]
    return found


def test_history_does_not_say_which_run_made_the_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, darks first, and flats again with a dark that is unchanged: what is used is the same."""
    at_once, in_turn = tmp_path / "at once", tmp_path / "in turn"
    at_once.mkdir()
    n.whole_night(at_once)
    shutil.copytree(at_once, in_turn)

    def run(folder: Path, *kinds: str) -> None:
        monkeypatch.chdir(folder)
        done = n.ostcal("masters", *kinds, "--no-confirm", "--config", relative_config(folder))
        assert done.exit_code == 0, done.text

    run(at_once)
    expected = histories(at_once)
    (flat,) = [name for name in expected if "_flat_" in name]
    (dark,) = [line for line in expected[flat] if line.startswith("dark: ")]
    assert re.fullmatch(r"dark: master_dark_\S+ of \d{4}-\d\d-\d\d \(2 s\)", dark)
    run(in_turn, "--darks-only")
    run(in_turn, "--flats-only")
    assert histories(in_turn) == expected
    for path in (in_turn / "masters").glob("*flat*"):
        path.unlink()  # and made again by a run that finds the dark unchanged
    run(in_turn)
    assert histories(in_turn) == expected
    store = MasterStore(store_location(str(in_turn / "masters")))
    (name,) = [name for name in store.names() if "_flat_" in name][-1:]
    (used,) = store.attributes(name)["darks"]
    assert used in store.names()  # the store has its exact name
