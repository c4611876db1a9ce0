"""A series while it is captured: only what is missing, complete or absent, whatever fails on the way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import (
    CaptureWatcher,
    FrameDone,
    RetryRules,
    SeriesEnd,
    SeriesOutcome,
    SeriesPlan,
    SeriesSink,
)
from ostcal.clock import SystemClock
from ostcal.fits.read import find_fits, inspect_fits
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.copy_frames import import_frames
from ostcal.measure.live import LiveCheck, LiveLimits
from ostcal.series.reader import open_series
from ostcal.series.record import record_path
from support.direct_camera import START, DirectCamera, FakeClock, Faults, Scene, small_sensor
from support.fits_samples import read_with_astropy
from support.folders import TESTS

SETTINGS = CameraSettings(camera="direct", gain=100.0, offset=30.0, readout_mode="fast")
DARK = SeriesPlan(
    name="exp_5.000s",
    frame_type=FrameType.DARK,
    exposure_time_s=5.0,
    n_frames=6,
    settings=SETTINGS,
    light=False,
)


class Room:
    """A camera, a clock, and a folder for series."""

    def __init__(
        self, folder: Path, *, faults: Faults | None = None, scene: Scene | None = None, **sensor: Any
    ) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.camera = DirectCamera(small_sensor(**sensor), self.clock, scene, faults=faults)
        self.done: list[FrameDone] = []
        self.waits: list[tuple[float, float]] = []

    def take(
        self, plan: SeriesPlan = DARK, *, exposing: Callable[[float, float], None] | None = None, **sink: Any
    ) -> SeriesOutcome:
        watcher = CaptureWatcher(
            frame_done=self.done.append, exposing=exposing or (lambda *wait: self.waits.append(wait))
        )
        place = SeriesSink(directory=self.folder, **sink)
        return capture_series(self.camera, plan, place, self.clock, watcher)

    def checksums(self, name: str = "exp_5.000s") -> list[str]:
        """Return the checksums of a series, each verified against its samples."""
        series = open_series(self.folder / f"{name}.zarr")
        assert series.problems == ()
        for record in series.records:
            series.read_frame(record.index)
        return [record.pixels.checksum for record in series.records]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


# ---- what is taken, and what is recorded ----


def test_a_series_holds_what_the_camera_gave(room: Room) -> None:
    outcome = room.take()
    assert outcome.end is SeriesEnd.COMPLETE
    assert (outcome.present, outcome.taken, outcome.warnings) == (6, 6, ())
    assert room.checksums() == room.camera.given
    assert [done.present for done in room.done] == [1, 2, 3, 4, 5, 6]
    assert room.camera.exposures_s == [5.0] * 6
    assert room.camera.lights == [False] * 6


def test_a_record_says_all_that_is_known_of_its_frame(room: Room) -> None:
    room.camera.cool(-10.0)
    room.clock.sleep(100)
    room.take()
    record = open_series(room.folder / "exp_5.000s.zarr").records[1]
    metadata, pixels = record.metadata, record.pixels
    began = metadata.date_obs
    assert began is not None
    assert record.date_end == began + timedelta(seconds=5)
    assert START + timedelta(seconds=105) <= began <= START + timedelta(seconds=106)
    assert (record.requested_exposure_time_s, metadata.exposure_time_s) == (5.0, 5.0)
    assert metadata.set_temperature_c == -10.0
    assert metadata.ccd_temperature_c == pytest.approx(-10.0)
    assert record.cooler_power_percent == pytest.approx(100 * 25 / 35)
    assert metadata.settings == SETTINGS
    assert (metadata.frame_type, metadata.filter_name, metadata.row_order) == (FrameType.DARK, None, "TOP-DOWN")
    assert metadata.pixel_size_um == (4.0, 4.0)
    frame = open_series(room.folder / "exp_5.000s.zarr").read_frame(1)
    assert pixels.statistics.mean == pytest.approx(frame.mean())
    assert pixels.statistics.saturated == 0
    assert {check.name for check in record.checks} == {
        LiveCheck.SATURATION, LiveCheck.TEMPERATURE, LiveCheck.LEVEL, LiveCheck.SINCE_START, LiveCheck.GRADIENT,
    }  # fmt: skip
    assert all(check.passed for check in record.checks)


def test_the_same_frames_captured_and_imported_have_the_same_settings(room: Room) -> None:
    room.camera.cool(-10.0)
    room.clock.sleep(100)
    settings = replace(SETTINGS, camera_id="det 3", binning=(2, 2))
    room.take(replace(DARK, settings=settings, filter_name="L"), export_frames=True)
    imported = room.folder / "imported.zarr"
    import_frames([inspect_fits(path) for path in find_fits([str(room.folder)])], imported)
    captured = json.loads((room.folder / "exp_5.000s.zarr" / "zarr.json").read_bytes())["attributes"]
    assert json.loads((imported / "zarr.json").read_bytes())["attributes"] == captured
    assert captured["settings"]["camera_id"] == "det 3"


def test_an_uncooled_camera_has_no_set_point(room: Room) -> None:
    room.camera.cool(-10.0)
    room.camera.warm_up()  # the set point stays behind
    room.take()
    assert open_series(room.folder / "exp_5.000s.zarr").records[0].metadata.set_temperature_c is None


def test_the_colours_are_recorded_unless_pixels_are_binned(tmp_path: Path) -> None:
    room = Room(tmp_path, bayer=True)
    room.take(replace(DARK, n_frames=1))
    assert open_series(tmp_path / "exp_5.000s.zarr").records[0].metadata.bayer_pattern == "RGGB"
    room.camera.settings = replace(SETTINGS, binning=(2, 2))
    room.take(replace(DARK, n_frames=1, name="binned", settings=room.camera.settings))
    binned = open_series(tmp_path / "binned.zarr").records[0].metadata
    assert (binned.bayer_pattern, binned.pixel_size_um, binned.width) == (None, (8.0, 8.0), 24)


def test_a_converter_of_more_than_16_bits_gets_a_series_of_32(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.camera = DirectCamera(small_sensor(), room.clock, max_adu=1 << 20)
    room.take(replace(DARK, n_frames=1))
    series = open_series(tmp_path / "exp_5.000s.zarr")
    assert series.dtype == "int32"
    assert series.read_frame(0).astype(np.uint16).tobytes() != b""


def test_an_image_is_downloaded_before_the_next_exposure(room: Room) -> None:
    room.take()
    assert room.camera.events == [f"{word} {number}" for number in range(1, 7) for word in ("start", "download")]


def test_a_frame_is_written_while_the_next_is_exposed(tmp_path: Path) -> None:
    downloads: list[float] = []
    clock = SystemClock()
    camera = DirectCamera(small_sensor(), clock)
    camera.on_download = lambda digest: downloads.append(time.time())
    plan = replace(DARK, n_frames=4, exposure_time_s=0.25)
    assert capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher()).is_complete
    ledger = tmp_path / "exp_5.000s.zarr" / "ledger"
    commits = [record_path(ledger, index).stat().st_mtime for index in range(4)]
    assert all(commit < later for commit, later in zip(commits, downloads[1:], strict=False))


def test_at_most_three_frames_are_in_memory(tmp_path: Path) -> None:
    # large frames and exposures of no time: the writer is the slowest
    room = Room(tmp_path, width=700, height=600)
    room.take(replace(DARK, n_frames=15, exposure_time_s=0.0), compressor="zstd")
    assert len(room.checksums()) == 15
    assert 2 <= room.camera.most_alive <= 3


def test_chunks_have_the_rows_that_the_sink_asks_for(room: Room) -> None:
    room.take(replace(DARK, n_frames=2), rows=8)
    (series,) = room.folder.glob("*.zarr")
    assert open_series(series).stack().row_step == 8


# ---- continuing ----


def test_starting_again_takes_only_what_is_missing(room: Room) -> None:
    room.take(replace(DARK, n_frames=2))
    outcome = room.take(replace(DARK, n_frames=5))
    assert (outcome.present, outcome.taken) == (5, 3)
    assert room.checksums() == room.camera.given
    again = room.take(replace(DARK, n_frames=5))
    assert (again.end, again.taken, len(room.camera.given)) == (SeriesEnd.COMPLETE, 0, 5)
    assert again.level_adu == pytest.approx(500 + 5 * 0.1 * 2 ** (25 / 6), abs=1.5)  # the sensor is at 15 C


def test_a_frame_with_a_damaged_record_is_replaced_and_not_touched(room: Room) -> None:
    room.take(replace(DARK, n_frames=3))
    damaged = record_path(room.folder / "exp_5.000s.zarr" / "ledger", 1)
    damaged.write_text("{")
    outcome = room.take(replace(DARK, n_frames=3))
    assert (outcome.present, outcome.taken) == (3, 1)
    assert damaged.read_text() == "{"
    assert [record.index for record in open_series(room.folder / "exp_5.000s.zarr").records] == [0, 2, 3]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"settings": replace(SETTINGS, gain=200.0)}, "gain 100, now 200"),
        ({"settings": replace(SETTINGS, offset=None)}, "offset 30, now not set"),
        ({"settings": replace(SETTINGS, readout_mode="slow")}, "readout mode fast, now slow"),
        ({"settings": replace(SETTINGS, camera="other")}, "camera direct, now other"),
        ({"settings": replace(SETTINGS, binning=(2, 1))}, "binning 1x1, now 2x1"),
        ({"filter_name": "R"}, "filter not set, now R"),
        ({"exposure_time_s": 5.0001}, "exposure 5 s, now 5.0001 s"),
        ({"frame_type": FrameType.FLAT}, "dark frames, now flat"),
    ],
)
def test_other_settings_begin_a_new_series(
    room: Room, changes: dict[str, Any], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    room.take(replace(DARK, n_frames=2))
    changed = room.take(replace(DARK, n_frames=2, **changes))
    assert changed.location.endswith("exp_5.000s_2.zarr")
    assert word in caplog.text
    assert any(word in line for line in changed.warnings)
    third = room.take(replace(DARK, n_frames=1, settings=replace(SETTINGS, gain=300.0)))
    assert third.location.endswith("exp_5.000s_3.zarr")
    assert room.take(replace(DARK, n_frames=2, **changes)).taken == 0
    assert len(open_series(room.folder / "exp_5.000s.zarr").records) == 2


def test_another_set_point_begins_a_new_series_and_a_rounded_one_does_not(room: Room) -> None:
    room.camera.cool(-10.0)
    room.take(replace(DARK, n_frames=1))
    room.camera.cool(-9.98)
    assert room.take(replace(DARK, n_frames=2)).present == 2
    room.camera.cool(-15.0)
    outcome = room.take(replace(DARK, n_frames=1))
    assert outcome.location.endswith("_2.zarr")
    assert "set point -10 C, now -15 C" in outcome.warnings[0]


def test_another_size_begins_a_new_series(room: Room) -> None:
    room.take(replace(DARK, n_frames=1))
    room.camera = DirectCamera(small_sensor(width=20), room.clock)
    assert "48 x 40 pixels, now 20 x 40" in room.take(replace(DARK, n_frames=1)).warnings[0]


def test_what_is_no_series_is_left_alone(room: Room) -> None:
    (room.folder / "exp_5.000s.zarr").mkdir()
    outcome = room.take(replace(DARK, n_frames=1))
    assert outcome.location.endswith("_2.zarr")
    assert "is left as it is" in outcome.warnings[0]


# ---- failures of the camera ----


@pytest.mark.parametrize("operation", ["start_exposure", "image_ready", "download", "frame_shape", "status"])
def test_a_failed_call_is_tried_again(tmp_path: Path, operation: str) -> None:
    room = Room(tmp_path, faults=Faults().fail(operation, 2))
    outcome = room.take()
    assert outcome.end is SeriesEnd.COMPLETE
    assert set(room.checksums()) <= set(room.camera.given)
    assert len(room.checksums()) == 6


@pytest.mark.parametrize("operation", ["frame_shape", "status"])
def test_a_camera_that_fails_at_once_is_tried_again(tmp_path: Path, operation: str) -> None:
    room = Room(tmp_path, faults=Faults().fail(operation, 1))
    assert room.take().end is SeriesEnd.COMPLETE


@pytest.mark.parametrize("operation", ["start_exposure", "image_ready", "download"])
def test_a_dropped_connection_is_made_anew(tmp_path: Path, operation: str) -> None:
    room = Room(tmp_path, faults=Faults().drop(operation, 3).fail("reconnect", 1))
    assert room.take().end is SeriesEnd.COMPLETE
    assert len(room.checksums()) == 6
    assert room.camera.calls["reconnect"] >= 1


def test_an_image_that_never_comes_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults(never_ready={2}))
    assert room.take().end is SeriesEnd.COMPLETE
    assert "abort 2" in room.camera.events
    assert 90 <= room.clock.now_s() <= 6 * 6 + 5 + 60 + 10


def test_a_frame_of_another_size_is_taken_again(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults(wrong_size={2}))
    assert room.take().end is SeriesEnd.COMPLETE
    assert room.camera.given[1] not in room.checksums()


def test_a_series_that_cannot_be_finished_keeps_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    room = Room(tmp_path, faults=Faults().fail("download", *range(4, 100)))
    outcome = room.take(replace(DARK, retry=RetryRules(attempts=3, backoff_s=1.0)))
    assert (outcome.end, outcome.present, outcome.taken) == (SeriesEnd.CAMERA_FAILED, 3, 3)
    assert "3 of 6 frames; an exposure of 5 s failed 3 times" in outcome.message
    assert "download 6 failed; starting again takes the others" in outcome.message
    assert room.checksums() == room.camera.given
    assert outcome.message in caplog.text
    room.camera.faults = Faults()
    assert room.take().taken == 3


def test_a_camera_that_gives_nothing_leaves_nothing(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults().fail("start_exposure", *range(1, 100)))
    assert room.take().end is SeriesEnd.CAMERA_FAILED
    assert list(tmp_path.iterdir()) == []
    room = Room(tmp_path, faults=Faults().fail("frame_shape", *range(1, 100)))
    outcome = room.take()
    assert (outcome.end, outcome.present) == (SeriesEnd.CAMERA_FAILED, 0)


def test_the_pauses_between_tries_grow(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults().fail("start_exposure", *range(1, 100)))
    room.take(replace(DARK, retry=RetryRules(attempts=4, backoff_s=2.0)))
    assert room.clock.now_s() == 2 + 4 + 8
    assert room.camera.calls["start_exposure"] == 4


def test_a_cooler_that_went_off_with_the_connection_is_switched_on_again(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults().drop("download", 3))
    room.camera.cool(-10.0)
    room.clock.sleep(100)
    room.camera.loses_power_at_reconnect = True
    room.take()
    assert room.camera.calls["cool"] == 2


def test_a_temperature_that_cannot_be_read_costs_no_frame(tmp_path: Path) -> None:
    room = Room(tmp_path, faults=Faults().fail("status", 3))
    outcome = room.take()
    assert outcome.end is SeriesEnd.COMPLETE
    assert len(room.camera.given) == 6
    temperatures = [r.metadata.ccd_temperature_c for r in open_series(tmp_path / "exp_5.000s.zarr").records]
    assert temperatures.count(None) == 1


# ---- live checks ----


def test_light_that_comes_in_the_middle_of_darks_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(light=lambda now_s: 40.0 if now_s > 16 else 0.0)
    room = Room(tmp_path, scene=scene)
    outcome = room.take(replace(DARK, light=True, bias_level_adu=500.0))
    assert outcome.end is SeriesEnd.COMPLETE
    assert any("light may reach the sensor" in warning for warning in outcome.warnings)
    assert "light may reach the sensor" in caplog.text
    records = open_series(tmp_path / "exp_5.000s.zarr").records
    assert all(check.passed for check in records[0].checks)
    failed = {check.name for check in records[5].checks if not check.passed}
    assert failed >= {LiveCheck.SINCE_START, LiveCheck.ABOVE_BIAS}


def test_a_temperature_that_drifts_is_warned_of(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.camera.cool(-10.0)
    room.clock.sleep(100)
    room.camera.reaches_c = -5.0
    outcome = room.take(replace(DARK, n_frames=4, limits=LiveLimits(temperature_c=1.0)))
    assert any("from -10.0 C (limit 1.0 C)" in warning for warning in outcome.warnings)


def test_saturated_flats_are_warned_of(tmp_path: Path) -> None:
    room = Room(tmp_path, scene=Scene(light=lambda now_s: 1e6))
    plan = replace(DARK, frame_type=FrameType.FLAT, light=True, n_frames=1, name="exp_5.000s")
    outcome = room.take(plan)
    assert "100 % of the pixels are saturated" in outcome.warnings[0]
    record = open_series(tmp_path / "exp_5.000s.zarr").records[0]
    assert record.pixels.statistics.saturated == 48 * 40


# ---- FITS beside the series ----


def test_frames_are_exported_as_they_are_committed(room: Room) -> None:
    room.take(replace(DARK, n_frames=2), export_frames=True)
    files = sorted((room.folder / "exp_5.000s").iterdir())
    assert [file.name for file in files] == ["dark_20261121_180000_000.fits", "dark_20261121_180005_001.fits"]
    series = open_series(room.folder / "exp_5.000s.zarr")
    for index, file in enumerate(files):
        pixels, header = read_with_astropy(file)
        assert np.array_equal(pixels, series.read_frame(index))
        assert header["EXPTIME"] == 5.0


def test_a_file_that_a_killed_run_did_not_write_is_written_by_the_next(room: Room) -> None:
    room.take(replace(DARK, n_frames=2), export_frames=True)
    folder = room.folder / "exp_5.000s"
    lost = sorted(folder.iterdir())[1]
    content = lost.read_bytes()
    lost.unlink()
    (folder / f"{lost.name}.partial").write_bytes(content[:100])
    room.take(replace(DARK, n_frames=2), export_frames=True)
    assert lost.read_bytes() == content
    assert len(list(folder.iterdir())) == 2


# ---- interrupted, killed, full ----


def test_an_interrupt_ends_the_exposure_and_keeps_every_downloaded_frame(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    def press(exposure_s: float, elapsed_s: float) -> None:
        if len(room.camera.given) == 3 and elapsed_s > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room.take(exposing=press)
    assert room.camera.events[-1] == "abort 4"
    assert room.checksums() == room.camera.given
    assert "interrupted; 3 of 6 frames are kept" in caplog.text
    assert room.take().taken == 3


CAPTURE = """
    import sys
    from pathlib import Path
    from support.direct_camera import DirectCamera, small_sensor
    from ostcal.clock import SystemClock
    from ostcal.capture.series_plan import CaptureWatcher, SeriesPlan, SeriesSink
    from ostcal.capture.series import capture_series
    from ostcal.frames import CameraSettings, FrameType

    folder, n_frames, export, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "export", int(sys.argv[4])
    clock = SystemClock()
    camera = DirectCamera(small_sensor(width=400, height=300), clock, seed=seed)
    log = open(folder / "given.txt", "a")

    def given(digest):
        log.write(digest + "\\n")
        log.flush()
        if sys.argv[3] == "full" and len(camera.given) == 3:  # the fourth: from now on files must be small
            import resource, signal, time
            ledger, end_s = folder / "darks" / "exp_0.010s.zarr" / "ledger", time.monotonic() + 30
            while len(list(ledger.glob("*.json"))) < 3 and time.monotonic() < end_s:
                time.sleep(0.01)  # the writer may be behind the camera
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    camera.on_download = given
    plan = SeriesPlan(
        name="exp_0.010s", frame_type=FrameType.DARK, exposure_time_s=0.01, n_frames=n_frames,
        settings=CameraSettings(camera="direct", gain=100.0), light=False,
    )
    print("begins", flush=True)
    outcome = capture_series(
        camera, plan, SeriesSink(directory=folder / "darks", export_frames=export), clock, CaptureWatcher()
    )
    print(outcome.end, outcome.present, outcome.message, flush=True)
"""


def run_script(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a Python script that finds the helpers of the tests."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n" + textwrap.dedent(script)
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS.parent)


def check_series(folder: Path, given: set[str]) -> list[str]:
    """See that every recorded frame is one that the camera gave; give their checksums."""
    series = open_series(folder / "darks" / "exp_0.010s.zarr")
    assert series.problems == ()
    for record in series.records:
        assert record.pixels.checksum in given
        series.read_frame(record.index)  # verifies the samples against the checksum
    return [record.pixels.checksum for record in series.records]


def test_the_data_of_a_frame_are_on_the_disk_before_its_record(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    before = (strace, "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o", str(trace))
    with run_script(CAPTURE, str(tmp_path), "3", "plain", "1", before=before) as process:
        output, errors = process.communicate(timeout=120)
    assert "complete 3" in output, errors
    calls = trace.read_text().splitlines()
    for index in range(3):
        shard = first(calls, rf"sync\(\d+<.*/frames/c/{index}/0/0>")
        record = first(calls, rf"sync\(\d+<.*/ledger/{index:06d}\.json\.\w+\.partial>")
        commit = first(calls, rf"rename.*/ledger/{index:06d}\.json\"")
        ledger = first(calls[commit:], r"sync\(\d+<.*/ledger>") + commit
        named = first(calls[:commit], rf"sync\(\d+<.*/frames/c/{index}/0>")
        assert shard < record < commit < ledger
        assert named < commit


def first(calls: list[str], pattern: str) -> int:
    """Return the position of the first call that matches."""
    return next(position for position, call in enumerate(calls) if re.search(pattern, call))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files (POSIX)")
def test_a_full_disk_ends_the_series_with_one_line(tmp_path: Path) -> None:
    with run_script(CAPTURE, str(tmp_path), "40", "full", "1") as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    line = output.splitlines()[-1]
    assert re.match(
        r"storage failed 3 .*exp_0\.010s\.zarr: 3 of 40 frames; .*: frame 3 cannot be written: the limit of file", line
    )
    assert "Traceback" not in errors
    given = (tmp_path / "given.txt").read_text().split()
    assert check_series(tmp_path, set(given)) == given[:3]
    assert len(given) <= 6
    assert list(tmp_path.rglob("*.partial")) == []
    with run_script(CAPTURE, str(tmp_path), "5", "plain", "2") as process:
        assert "complete 5" in process.communicate(timeout=60)[0]


def test_a_folder_that_cannot_be_made_ends_the_series(tmp_path: Path) -> None:
    (tmp_path / "darks").touch()
    room = Room(tmp_path / "darks" / "night")
    outcome = room.take()
    assert outcome.end is SeriesEnd.STORAGE_FAILED
    assert "the directory cannot be made" in outcome.message


@pytest.mark.parametrize(("error_s", "believed"), [(1.5, True), (-4.0, True), (7200.0, False), (None, False)])
def test_the_camera_s_own_start_is_believed_only_near_ours(room: Room, error_s: float | None, believed: bool) -> None:
    room.camera.clock_error_s = error_s
    room.take(replace(DARK, n_frames=1))
    began = open_series(room.folder / "exp_5.000s.zarr").records[0].metadata.date_obs
    assert began == START + timedelta(seconds=(error_s or 0.0) if believed else 0.0)


def test_settings_of_a_series_are_json(room: Room) -> None:
    room.take(replace(DARK, n_frames=1))
    attributes = json.loads((room.folder / "exp_5.000s.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["settings"]["exposure_time_s"] == 5.0
    assert attributes["settings"]["binning"] == [1, 1]
