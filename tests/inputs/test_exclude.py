"""Frames that a person excludes: masters without them, nothing lost, everything recorded and reversible."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from ostcal.capture.darks import find_bias_level
from ostcal.capture.recording import series_lock
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import CaptureWatcher, SeriesPlan, SeriesSink
from ostcal.errors import FrameError, StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.copy_frames import export_series
from ostcal.inputs.gather import Inputs, gather_inputs, input_digest, without_copies
from ostcal.inputs.groups import GroupRules
from ostcal.inputs.unpack_needed import groups_of_packed, unpack_groups
from ostcal.series.reader import open_series
from ostcal.series.record import MAX_EXCLUSION_BYTES, Decision, describe_pixels, exclusion_path, record_path
from ostcal.series.series_writer import create_series, decide_frames, open_series_for_writing
from support.direct_camera import DirectCamera, FakeClock, small_sensor
from support.fits_samples import read_with_astropy
from support.night import Night, ostcal, write_config, write_darks
from support.series_samples import record_of, samples

SHAPE = (20, 28)
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CLOUDS = Decision(excluded=True, why="clouds", who="anna@dome", when=NOON)
AGAIN = Decision(excluded=False, why="", who="ben@dome", when=NOON + timedelta(hours=1))


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """Return a night with one series of seven darks."""
    night = Night(tmp_path)
    make_series(night.darks / "exp_5.000s.zarr", range(7))
    return night


def make_series(location: Path, seeds: Sequence[int]) -> None:
    location.parent.mkdir(parents=True, exist_ok=True)
    writer = create_series(
        location,
        n_frames=len(seeds),
        height=SHAPE[0],
        width=SHAPE[1],
        dtype="uint16",
        frame_type=FrameType.DARK,
    )
    for index, seed in enumerate(seeds):
        frame = samples(SHAPE, seed=seed)
        writer.write_frame(index, frame, record_of(index, frame))


def series_of(night: Night) -> Path:
    return night.darks / "exp_5.000s.zarr"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def gathered(night: Night) -> Inputs:
    return gather_inputs([str(night.darks)], exclude=str(night.masters))


def indices(inputs: Inputs) -> list[int]:
    return sorted(source.index for source in inputs.sources.values())


# ---- the command ----


def test_excluding_touches_neither_frames_nor_records(night: Night) -> None:
    before = files_of(series_of(night))
    result = ostcal("exclude", series_of(night), "--frame", "3", "--frame", "5", "--why", "light  from\nthe door")
    assert result.exit_code == 0
    assert "frame 3 is excluded: light from the door" in result.stderr
    after = files_of(series_of(night))
    new = {"ledger/000003.excluded.json", "ledger/000005.excluded.json"}
    assert set(after) - set(before) == new
    assert {name: after[name] for name in before} == before
    kept = json.loads(after["ledger/000003.excluded.json"])
    assert kept["index"] == 3
    (decision,) = kept["decisions"]
    assert (decision["excluded"], decision["why"]) == (True, "light from the door")
    assert "@" in decision["who"]
    assert abs(datetime.fromisoformat(decision["when"]) - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("word", ["--undo", "--include"])
def test_an_excluded_frame_can_be_taken_in_again_and_both_is_recorded(night: Night, word: str) -> None:
    assert ostcal("exclude", series_of(night), "--frame", "3", "--why", "clouds").exit_code == 0
    assert ostcal("exclude", series_of(night), "--frame", "3", word, "--why", "a mistake").exit_code == 0
    assert indices(gathered(night)) == [0, 1, 2, 3, 4, 5, 6]
    kept = json.loads(exclusion_path(series_of(night) / "ledger", 3).read_text())
    assert [(d["excluded"], d["why"]) for d in kept["decisions"]] == [(True, "clouds"), (False, "a mistake")]
    assert "no frame is excluded" in ostcal("exclude", series_of(night), "--list").stderr


def test_the_list_says_frame_reason_person_and_time(night: Night) -> None:
    decide_frames(series_of(night), [1, 4], CLOUDS)
    decide_frames(series_of(night), [4], AGAIN)
    result = ostcal("exclude", series_of(night), "--list")
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if "clouds" in line]
    assert re.split(r"  +", row.strip()) == ["1", "clouds", "anna@dome", "2026-11-22 12:00:00Z"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frame", "3"], "--why"),
        (["--frame", "3", "--why", "  "], "--why"),
        (["--why", "clouds"], "--frame"),
        (["--list", "--frame", "3"], "--list cannot be combined"),
        (["--frame", "-1", "--why", "x"], "--frame"),
    ],
)
def test_wrong_usage_is_refused(night: Night, options: list[str], message: str) -> None:
    before = files_of(series_of(night))
    result = ostcal("exclude", series_of(night), *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert files_of(series_of(night)) == before


def test_a_frame_that_is_not_there_is_named_and_none_of_the_others_is_excluded(night: Night) -> None:
    before = files_of(series_of(night))
    result = ostcal("exclude", series_of(night), "--frame", "2", "--frame", "7", "--why", "clouds")
    assert result.exit_code == 1
    assert "there is no frame 7; there are 7, from 0 to 6" in result.stderr
    assert files_of(series_of(night)) == before
    with pytest.raises(StorageError, match="1001 characters; 1000 are possible"):
        decide_frames(series_of(night), [2], Decision(excluded=True, why="x" * 1001, who="a", when=NOON))
    assert ostcal("exclude", night.darks, "--list").exit_code == 1


# ---- masters ----


def test_masters_leave_excluded_frames_out_and_say_so(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    decide_frames(series_of(night), [2], CLOUDS)
    decide_frames(series_of(night), [6], Decision(excluded=True, why="a plane", who="a", when=NOON))
    with caplog.at_level(logging.INFO, "ostcal"):
        status = night.run_darks(rejection_method="none")
    (path,) = status.data["dark"]
    image, header = read_with_astropy(path)
    kept = np.stack([samples(SHAPE, seed=seed) for seed in (0, 1, 3, 4, 5)]).astype(np.float64)
    np.testing.assert_allclose(image, kept.mean(axis=0), rtol=1e-6)
    assert header["NCOMBINE"] == 5
    (line,) = [message for message in caplog.messages if " are excluded" in message]
    assert line == f"{series_of(night)}: 2 of 7 frames are excluded: 2 (clouds), 6 (a plane)"


def test_the_digest_of_a_master_tells_which_frames_were_excluded(night: Night) -> None:
    def digest() -> str:
        return input_digest(list(gathered(night).sources.values()))

    of_all = digest()
    decide_frames(series_of(night), [2], CLOUDS)
    without = digest()
    decide_frames(series_of(night), [2], AGAIN)
    assert without != of_all == digest()


@pytest.mark.parametrize("packed", [False, True])
def test_a_fits_copy_of_an_excluded_frame_is_left_out_too(night: Night, packed: bool) -> None:
    files = export_series(series_of(night), night.darks / "exp_5.000s")
    if packed:
        for name in files:
            Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
            Path(name).unlink()
    decide_frames(series_of(night), [2], CLOUDS)
    inputs = gathered(night)
    left_out = list(inputs.left_out)
    groups = groups_of_packed(inputs.sources.values(), GroupRules(), flats=True)
    scratch = str(night.root / "scratch")
    unpacked, no_room = unpack_groups(inputs.sources, groups, scratch, 2**30, left_out)
    assert no_room == []
    sources = without_copies(unpacked, left_out, inputs.excluded)
    assert len(sources) == 6
    assert not any("_002.fits" in label for label in sources)
    (line,) = [line for line in left_out if "excluded" in line]
    assert line.endswith(f"the same frame as {series_of(night)}#2: which is excluded")


def test_a_series_of_which_all_frames_are_excluded_makes_no_master(night: Night) -> None:
    decide_frames(series_of(night), range(7), CLOUDS)
    assert indices(gathered(night)) == []
    status = night.run_darks()
    assert status.is_error
    assert "No master can be made" in status.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"index": 2, "decisions": []}',
        b'{"index": 3, "decisions": [{"excluded": true, "why": "x", "who": "a", "when": "2026-11-22T12:00:00Z"}]}',
        b'{"index": 2, "decisions": [{"excluded": 1, "why": "x", "who": "a", "when": "2026-11-22T12:00:00Z"}]}',
        b" " * (MAX_EXCLUSION_BYTES + 1),
    ],
)
def test_a_frame_whose_decision_cannot_be_read_is_left_out_and_named(night: Night, data: bytes) -> None:
    exclusion_path(series_of(night) / "ledger", 2).write_bytes(data)
    inputs = gathered(night)
    assert indices(inputs) == [0, 1, 3, 4, 5, 6]
    (line,) = inputs.left_out
    assert "000002.excluded.json: this frame is left out" in line
    assert "ostcal exclude --frame 2" in line
    assert ostcal("exclude", series_of(night), "--frame", "2", "--include").exit_code == 0
    assert indices(gathered(night)) == [0, 1, 2, 3, 4, 5, 6]


# ---- capture, export, discarding ----


def test_capture_does_not_take_an_excluded_frame_again_unless_one_more_is_asked(tmp_path: Path) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock)

    def take(n_frames: int) -> tuple[int, int]:
        plan = SeriesPlan(
            name="exp_5.000s",
            frame_type=FrameType.DARK,
            exposure_time_s=5.0,
            n_frames=n_frames,
            settings=CameraSettings(camera="direct", gain=100.0),
            light=False,
        )
        outcome = capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher())
        return outcome.present, outcome.taken

    assert take(4) == (4, 4)
    decide_frames(tmp_path / "exp_5.000s.zarr", [1], CLOUDS)
    assert take(4) == (4, 0)
    assert take(5) == (5, 1)
    series = open_series(tmp_path / "exp_5.000s.zarr")
    assert [record.pixels.checksum for record in series.records] == camera.given
    assert list(series.excluded) == [1]


def test_excluded_frames_are_exported_like_the_others(night: Night) -> None:
    decide_frames(series_of(night), [2], CLOUDS)
    assert len(export_series(series_of(night), night.root / "exported")) == 7


def test_the_export_says_which_frames_are_excluded(night: Night, tmp_path: Path) -> None:
    assert ostcal("exclude", series_of(night), "--frame", "3", "--why", "clouds").exit_code == 0
    result = ostcal("export", series_of(night), "--to", tmp_path / "fits")
    assert result.exit_code == 0
    assert "frame 3 was exported, although it is excluded from masters: clouds" in result.stderr
    assert len(list((tmp_path / "fits").glob("*.fits"))) == 7


def test_a_frame_that_is_written_anew_is_not_excluded(night: Night) -> None:
    location = series_of(night)
    decide_frames(location, [2, 4], CLOUDS)
    writer = open_series_for_writing(location)
    writer.discard_frame(2)
    record_path(location / "ledger", 4).unlink()  # as the messages advise for a damaged frame
    assert open_series(location).problems == ()
    for index in (2, 4):
        frame = samples(SHAPE, seed=50 + index)
        open_series_for_writing(location).write_frame(index, frame, record_of(index, frame))
    assert open_series(location).excluded == {}
    assert indices(gathered(night)) == [0, 1, 2, 3, 4, 5, 6]


def test_the_newest_hundred_decisions_are_kept(night: Night) -> None:
    for number in range(120):
        why = f"{number:04d}" + "\u2603" * 996
        decide_frames(series_of(night), [2], Decision(excluded=True, why=why, who="anna@dome", when=NOON))
    path = exclusion_path(series_of(night) / "ledger", 2)
    assert path.stat().st_size < MAX_EXCLUSION_BYTES
    kept = json.loads(path.read_text())["decisions"]
    assert [decision["why"][:4] for decision in kept] == [f"{number:04d}" for number in range(20, 120)]


def test_the_frame_to_exclude_must_be_committed(night: Night) -> None:
    record_path(series_of(night) / "ledger", 3).unlink()
    with pytest.raises(FrameError, match="there is no frame 3"):
        decide_frames(series_of(night), [3], CLOUDS)


# ---- beside other runs ----


@pytest.mark.parametrize("name", ["exp_5.000s", "exp_5.000s_2", "L_twilight_20261121"])
def test_excluding_and_importing_wait_for_who_writes_into_the_series(tmp_path: Path, name: str) -> None:
    make_series(tmp_path / "darks" / f"{name}.zarr", range(3))
    before = files_of(tmp_path)
    with series_lock(SeriesSink(directory=tmp_path / "darks"), name.removesuffix("_2")):
        result = ostcal("exclude", tmp_path / "darks" / f"{name}.zarr", "--frame", "1", "--why", "clouds")
    assert result.exit_code == 1
    assert f"{name}.zarr: another run is writing there: " in result.stderr
    assert files_of(tmp_path) == before
    assert ostcal("exclude", tmp_path / "darks" / f"{name}.zarr", "--frame", "1", "--why", "clouds").exit_code == 0
    assert list((tmp_path / "darks").glob(".*")) == []


def test_importing_waits_for_who_writes_into_the_series(tmp_path: Path) -> None:
    night = Night(tmp_path)
    stack = write_darks(Night(tmp_path / "raw"), 5.0)
    arguments = ("import", tmp_path / "raw" / "darks", "--config", write_config(night))
    with series_lock(SeriesSink(directory=night.darks), "exp_5.000s"):
        result = ostcal(*arguments)
        assert result.exit_code == 1
        assert "exp_5.000s.zarr: another run is writing there: " in result.stderr
        assert not series_of(night).exists()
    assert ostcal(*arguments).exit_code == 0
    assert len(open_series(series_of(night)).records) == len(stack)
    assert list(night.darks.glob(".*")) == []


# ---- while capturing ----


def test_excluded_frames_say_nothing_about_the_level_of_a_series(tmp_path: Path) -> None:
    clock = FakeClock()
    camera = DirectCamera(small_sensor(), clock)
    plan = SeriesPlan(
        name="exp_0.001s", frame_type=FrameType.BIAS, exposure_time_s=0.001, n_frames=1, light=False,
        settings=CameraSettings(camera="direct", gain=100.0),
    )  # fmt: skip
    capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher())
    location = tmp_path / "exp_0.001s.zarr"
    writer = open_series_for_writing(location)
    writer.extend(2)
    lit = np.full((writer.frame_shape), 40_000, np.uint16)
    record = replace(open_series(location).records[0], index=1, pixels=describe_pixels(lit))
    writer.write_frame(1, lit, record)
    plan = replace(plan, n_frames=3)
    shape = writer.frame_shape
    levels = [record.pixels.statistics.median for record in open_series(location).records[:1]]
    assert find_bias_level([tmp_path], plan.settings, shape) != median(levels)
    decide_frames(location, [1], CLOUDS)
    assert find_bias_level([tmp_path], plan.settings, shape) == median(levels)
    outcome = capture_series(camera, plan, SeriesSink(directory=tmp_path), clock, CaptureWatcher())
    assert outcome.present == 3
    assert outcome.level_adu == pytest.approx(median(levels), abs=3)
    assert outcome.warnings == ()
