"""Series copied to an object store and back: checked, resumed, visible when whole; read there as on a disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ostcal.errors import FrameError, InputError, StorageError, UnreachableError
from ostcal.frames import FrameType
from ostcal.library.copy_stores import CopyReport, copy_store, plan_copies
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import files_below
from ostcal.series.reader import find_series, open_series
from ostcal.series.record import Decision
from ostcal.series.series_writer import decide_frames, open_series_for_writing
from support.object_samples import SHAPE, add_frames, fresh_bucket, write_series
from support.object_server import FaultyProxy, credentials

WHEN = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[str]:
    with credentials():
        yield fresh_bucket(s3_endpoint)
    use_options(ObjectOptions())


@pytest.fixture
def series(tmp_path: Path) -> Path:
    path = tmp_path / "darks" / "exp_5.000s.zarr"
    write_series(path, 5)
    return path


def copied(source: Path | str, target: Path | str) -> CopyReport:
    (plan,) = plan_copies(str(source), str(target))
    return copy_store(plan)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_there_and_back_is_the_same_series_byte_for_byte(bucket: str, series: Path, tmp_path: Path) -> None:
    decide_frames(series, [2], Decision(excluded=True, why="clouds", who="anna@dome", when=WHEN))
    report = copied(series, f"{bucket}/night")
    assert (report.target, report.kept, report.problems) == (f"{bucket}/night/exp_5.000s.zarr", 0, ())
    assert report.copied == len(contents(series))
    copied(report.target, tmp_path / "back")
    assert contents(tmp_path / "back" / series.name) == contents(series)


def test_a_second_copy_sends_nothing(bucket: str, series: Path, tmp_path: Path) -> None:
    first = copied(series, bucket)
    again = copied(series, bucket)
    assert (again.copied, again.kept) == (0, first.copied)
    copied(first.target, tmp_path / "back")
    assert copied(first.target, tmp_path / "back").copied == 0


def test_frames_are_read_as_from_a_disk(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    here, there = open_series(series), open_series(location)
    assert (there.records, there.shape, there.settings) == (here.records, here.shape, here.settings)
    for start, stop in ((0, SHAPE[0]), (3, 5), (15, 33), (69, 70)):
        blocks = [np.empty((5, stop - start, SHAPE[1]), np.uint16) for _ in range(2)]
        for stack, block in zip((here.stack(), there.stack()), blocks, strict=True):
            stack.read_rows(start, stop, block)
        assert np.array_equal(*blocks)
    assert np.array_equal(there.read_frame(3), here.read_frame(3))
    assert find_series([bucket]) == [location]


def test_frames_that_were_added_are_copied_alone(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    writer = open_series_for_writing(series)
    writer.extend(7)
    add_frames(writer, [5, 6], FrameType.DARK, 5.0)
    report = copied(series, bucket)
    assert report.copied == 5  # two shards, two records, the length of the array
    assert len(open_series(location).records) == 7


def test_a_frame_that_was_taken_anew_is_replaced(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    writer = open_series_for_writing(series)
    writer.discard_frame(1)
    add_frames(writer, [1], FrameType.DARK, 5.0, seed=9)
    assert copied(series, bucket).copied == 2
    assert np.array_equal(open_series(location).read_frame(1), open_series(series).read_frame(1))


def test_what_is_wrong_at_the_target_is_sent_again(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    shard = ObjectPath.of(location) / "frames/c/3/0/0"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert copied(series, bucket).copied >= 1
    assert shard.read_bytes() == good
    open_series(location).read_frame(3)


def test_a_copy_that_is_not_whole_is_no_series(bucket: str, series: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop_after_two_frames(name: str, _: int) -> None:
        if name.endswith("c/1/0/0"):
            raise EnoughError

    (plan,) = plan_copies(series, bucket)
    with pytest.raises(EnoughError):
        copy_store(plan, stop_after_two_frames)
    with pytest.raises(StorageError, match="does not exist"):
        open_series(plan.target)
    report = copy_store(plan)
    assert report.kept == 3
    assert len(open_series(plan.target).records) == 5


def test_another_series_of_the_same_name_is_not_replaced(bucket: str, series: Path, tmp_path: Path) -> None:
    location = copied(series, bucket).target
    other = tmp_path / "next night" / series.name
    write_series(other, 5, seed=7)
    for source, target in ((other, bucket), (location, other.parent)):
        before = files_below(str(target)), open_series(location).records
        with pytest.raises(StorageError, match="another series is there"):
            copied(source, target)
        assert before == (files_below(str(target)), open_series(location).records)


def test_a_damaged_frame_is_named_and_left_out_of_the_copy(bucket: str, series: Path) -> None:
    shard = series / "frames" / "c" / "2" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 0xFF
    shard.write_bytes(bytes(data))
    report = copied(series, bucket)
    assert len(report.problems) == 1
    assert "frame 2" in report.problems[0]
    assert [record.index for record in open_series(report.target).records] == [0, 1, 3, 4]


def test_damage_in_the_store_is_found_when_it_is_fetched_and_read(bucket: str, series: Path, tmp_path: Path) -> None:
    location = copied(series, bucket).target
    shard = ObjectPath.of(location) / "frames/c/2/0/0"
    data = bytearray(shard.read_bytes())
    data[10] ^= 0xFF
    shard.write_bytes(bytes(data))
    with pytest.raises(FrameError, match="frame 2"):
        open_series(location).read_frame(2)
    report = copied(location, tmp_path)
    assert "frame 2" in report.problems[0]
    assert [record.index for record in open_series(tmp_path / series.name).records] == [0, 1, 3, 4]


def test_decisions_are_recorded_in_the_store(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    decide_frames(location, [4], Decision(excluded=True, why="trail", who="anna@dome", when=WHEN))
    assert open_series(location).excluded[4].why == "trail"
    decide_frames(location, [4], Decision(excluded=False, why="", who="anna@dome", when=WHEN))
    assert not open_series(location).excluded
    with pytest.raises(FrameError, match="there is no frame 9"):
        decide_frames(location, [9], Decision(excluded=True, why="?", who="anna@dome", when=WHEN))


def test_a_whole_directory_keeps_its_order(bucket: str, series: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "darks" / "night 2" / "exp_1.000s.zarr", 2, exposure_s=1.0)
    for plan in plan_copies(tmp_path / "darks", f"{bucket}/all"):
        copy_store(plan)
    assert find_series([f"{bucket}/all"]) == [
        f"{bucket}/all/exp_5.000s.zarr",
        f"{bucket}/all/night 2/exp_1.000s.zarr",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "cut", "slow", "lost"])
def test_a_failing_network_costs_time_and_no_byte(
    bucket: str, s3_endpoint: str, series: Path, tmp_path: Path, fault: str
) -> None:
    with FaultyProxy(s3_endpoint, lambda method, path, n: fault if n % 3 == 0 else "") as proxy:
        use_options(ObjectOptions(endpoint=proxy.endpoint, retries=4, timeout_s=0.7))
        report = copied(series, bucket)
        copied(report.target, tmp_path / "back")
        assert proxy.counts[fault] >= 5
    assert contents(tmp_path / "back" / series.name) == contents(series)


def test_a_series_is_never_captured_into_a_store(bucket: str, series: Path) -> None:
    location = copied(series, bucket).target
    with pytest.raises(StorageError, match="ostcal upload"):
        open_series_for_writing(location)


def test_wrong_places_are_named(bucket: str, series: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one must be a local path"):
        plan_copies(series, tmp_path / "other")
    with pytest.raises(InputError, match="nothing to copy"):
        plan_copies(tmp_path / "absent", bucket)
    with pytest.raises(UnreachableError, match="there is no bucket absent-bucket"):
        plan_copies("s3://absent-bucket/x", tmp_path)
    with pytest.raises(StorageError, match="no scheme"):
        plan_copies("ftp://me:secret@host/x", tmp_path)


def test_a_name_in_a_store_leads_nowhere_else(bucket: str, series: Path, tmp_path: Path) -> None:
    location = copied(series, bucket).target
    (ObjectPath.of(location) / "ledger" / "000000.json").copy_to(ObjectPath.of(f"{location}/frames/c/0/0/a:b"))
    report = copied(location, tmp_path / "back")
    assert not report.problems
    assert set(files_below(tmp_path / "back" / series.name)) == set(files_below(series))
    shutil.rmtree(tmp_path / "back")
