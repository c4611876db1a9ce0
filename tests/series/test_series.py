"""Series: every recorded frame reads back bit for bit, whatever killed, filled or damaged what."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.frames import FrameStack, FrameType
from ostcal.series.format import COMPRESSORS, FRAME_DTYPES, chunk_rows
from ostcal.series.reader import find_series, open_series
from ostcal.series.series_writer import create_series, open_series_for_writing
from ostcal.series.shard_reader import shard_layout
from support.folders import TESTS
from support.series_samples import new_series, record_of, samples


def read(stack: FrameStack, start: int = 0, stop: int | None = None) -> NDArray[Any]:
    """Read rows of a stack as ADU."""
    n_frames, height, width = stack.shape
    stop = height if stop is None else stop
    block = np.empty((n_frames, stop - start, width), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    return stack.encoding.decode(block)


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    """Make a series of three frames of 70 x 41, in three chunks of rows."""
    path = tmp_path / "exp_5.000s.zarr"
    new_series(path, samples((3, 70, 41)))
    return path


@pytest.fixture(scope="module")
def one_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a series of one frame that is damaged and repaired again and again."""
    path = tmp_path_factory.mktemp("series") / "a.zarr"
    new_series(path, samples((1, 40, 30)))
    return path


def shard_of(path: Path, index: int) -> Path:
    """Return the file of a frame."""
    return path / "frames" / "c" / str(index) / "0" / "0"


@settings(max_examples=25)
@given(
    n_frames=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.sampled_from([1, 2, 7, 31, 64, 997]),
    dtype=st.sampled_from(FRAME_DTYPES),
    compressor=st.sampled_from(COMPRESSORS),
    frame_type=st.sampled_from([FrameType.BIAS, FrameType.FLAT]),
    data=st.data(),
)
def test_frames_read_back_bit_for_bit(
    n_frames: int, height: int, width: int, dtype: str, compressor: str, frame_type: FrameType, data: st.DataObject
) -> None:
    frames = samples((n_frames, height, width), dtype)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "exp_5.000s.zarr"
        new_series(path, frames, compressor=compressor, frame_type=frame_type)
        series = open_series(path)
        assert series.shape == frames.shape
        assert series.problems == ()
        for index, frame in enumerate(frames):
            assert series.read_frame(index).tobytes() == frame.tobytes()
        assert np.array_equal(zarr.open_array(path / "frames", mode="r")[:], frames)
        start = data.draw(st.integers(0, height - 1), label="start")
        stop = data.draw(st.integers(start, height), label="stop")
        chosen = data.draw(st.lists(st.integers(0, n_frames - 1), min_size=1, max_size=4), label="chosen")
        assert np.array_equal(read(series.stack(chosen), start, stop), frames[chosen, start:stop])
        shutil.rmtree(path)


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("dtype", FRAME_DTYPES)
def test_our_own_layout_is_read_without_zarr_python(tmp_path: Path, dtype: str, compressor: str) -> None:
    new_series(tmp_path / "a.zarr", np.ones((1, 20, 5), dtype), compressor=compressor)
    layout = shard_layout(json.loads((tmp_path / "a.zarr" / "frames" / "zarr.json").read_bytes()))
    assert layout is not None
    assert layout.compressed == (compressor != "none")


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("dtype", FRAME_DTYPES)
def test_shards_are_those_that_zarr_python_writes(tmp_path: Path, dtype: str, compressor: str) -> None:
    frames = samples((1, 70, 41), dtype)  # five chunks of 16 rows, the last one padded
    if compressor == "auto" and frames.itemsize == 2:  # its metadata name the order of bytes: samples that share one
        frames = (frames & 0x7F).astype(dtype)
    new_series(tmp_path / "a.zarr", frames, compressor=compressor)
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr", ignore=shutil.ignore_patterns("c"))
    assert not shard_of(tmp_path / "b.zarr", 0).exists()
    zarr.open_array(tmp_path / "b.zarr" / "frames", mode="r+")[0] = frames[0]
    assert shard_of(tmp_path / "a.zarr", 0).read_bytes() == shard_of(tmp_path / "b.zarr", 0).read_bytes()


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_auto_orders_bytes_or_bits_by_what_is_in_a_chunk(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(700, 6, (64, 2000))  # 512 to 767 share their high byte
    shared.ravel()[rng.choice(shared.size, shared.size // 200, replace=False)] = 3000  # hot pixels
    crossing = rng.normal(768, 6, (64, 2000))
    frames = np.rint(np.concatenate([shared, crossing]))[None].astype(dtype)
    new_series(tmp_path / "a.zarr", frames)
    new_series(tmp_path / "b.zarr", frames, compressor="lz4")
    orders = {name: [header & 0b101 for header in chunk_flags(tmp_path / f"{name}.zarr")] for name in "ab"}
    assert orders == {"a": [0b001] * 2 + [0b100] * 2, "b": [0b100] * 4}
    for name in "ab":
        assert np.array_equal(open_series(tmp_path / f"{name}.zarr").read_frame(0), frames[0])
        assert np.array_equal(zarr.open_array(tmp_path / f"{name}.zarr" / "frames", mode="r")[:], frames)


def chunk_flags(path: Path) -> list[int]:
    """Return the flags in the blosc header of each chunk of frame 0: 1 for byte shuffle, 4 for bitshuffle."""
    shard = shard_of(path, 0).read_bytes()
    layout = shard_layout(json.loads((path / "frames" / "zarr.json").read_bytes()))
    assert layout is not None
    n_chunks = -(-layout.height // layout.chunk_rows)
    index = np.frombuffer(shard[-16 * n_chunks - 4 : -4], "<u8").reshape(-1, 2)
    return [shard[int(offset) + 2] for offset, _ in index]


@pytest.mark.parametrize(
    "changes",
    [{"clevel": 9}, {"shuffle": "noshuffle"}, {"blocksize": 4096}, {"cname": "zstd", "clevel": 3}, {"cname": "zlib"}],
)
def test_a_series_with_other_compression_is_extended_as_it_is(dark: Path, changes: dict[str, Any]) -> None:
    metadata = json.loads((dark / "frames" / "zarr.json").read_bytes())
    metadata["codecs"][0]["configuration"]["codecs"][1]["configuration"].update(changes)
    (dark / "frames" / "zarr.json").write_text(json.dumps(metadata))
    writer = open_series_for_writing(dark)
    writer.extend(4)
    frame = samples((70, 41), seed=4)
    writer.write_frame(3, frame, record_of(3, frame))
    expected = np.concatenate([samples((3, 70, 41)), frame[None]])
    assert np.array_equal(read(open_series(dark).stack()), expected)
    assert np.array_equal(zarr.open_array(dark / "frames", mode="r")[:], expected)


def test_a_series_of_another_layout_is_extended_through_zarr_python(dark: Path) -> None:
    frames = samples((3, 70, 41))
    shutil.rmtree(dark / "frames")
    array = zarr.create_array(
        dark / "frames", shape=frames.shape, dtype="uint16", chunks=(1, 16, 20), shards=(1, 80, 60)
    )
    array[:] = frames
    writer = open_series_for_writing(dark)
    writer.extend(4)
    frame = samples((70, 41), seed=4)
    writer.write_frame(3, frame, record_of(3, frame))
    assert np.array_equal(open_series(dark).read_frame(3), frame)


@pytest.mark.parametrize(
    ("dtype", "delivered"),
    [
        ("uint8", "uint16"),
        ("uint16", "uint16"),
        ("int16", "uint16"),
        ("int32", "float64"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_samples_are_delivered_as_the_engine_sorts_them(tmp_path: Path, dtype: str, delivered: str) -> None:
    frames = samples((2, 40, 11), dtype)
    new_series(tmp_path / "a.zarr", frames)
    stack = open_series(tmp_path / "a.zarr").stack()
    assert stack.encoding.dtype == delivered
    assert np.array_equal(read(stack, 3, 39), frames[:, 3:39])
    apart = np.zeros((2, 36, 22), delivered)[:, :, ::2]  # a block whose rows are not contiguous
    stack.read_rows(3, 39, apart)
    assert np.array_equal(stack.encoding.decode(apart), frames[:, 3:39])


def test_chunks_have_16_to_32_rows_and_about_half_a_megabyte() -> None:
    assert chunk_rows(6388, 9576, 2) == 24
    assert 0.85 < 24 * 9576 * 2 / 2**19 <= 1
    assert chunk_rows(1024, 1024, 2) == 32
    assert chunk_rows(10652, 14204, 8) == 16
    assert chunk_rows(5, 1024, 2) == 5
    # the smallest strip of 400 frames of 61 MP leaves room in 1 GiB for two threads and what they compute
    assert 2 * 400 * chunk_rows(6388, 9576, 2) * 9576 * 2 < 2**29


@pytest.mark.parametrize(("asked", "stored"), [(1, 1), (10, 10), (40, 40), (10**6, 40)])
def test_chunks_have_the_rows_that_are_asked_for(tmp_path: Path, asked: int, stored: int) -> None:
    frames = samples((2, 40, 30))
    writer = create_series(
        tmp_path / "a.zarr",
        n_frames=2,
        height=40,
        width=30,
        dtype="uint16",
        frame_type=FrameType.DARK,
        rows=asked,
    )
    for index, frame in enumerate(frames):
        writer.write_frame(index, frame, record_of(index, frame))
    stack = open_series(tmp_path / "a.zarr").stack()
    assert stack.row_step == stored
    assert np.array_equal(read(stack), frames)


def test_no_chunk_is_larger_than_what_can_be_read_again() -> None:
    assert chunk_rows(10652, 14204, 8, 10**6) * 14204 * 8 <= 2**29


def test_a_frame_of_zeros_is_stored(tmp_path: Path) -> None:
    new_series(tmp_path / "a.zarr", np.zeros((1, 40, 8), np.uint16))
    assert shard_of(tmp_path / "a.zarr", 0).exists()
    assert not read(open_series(tmp_path / "a.zarr").stack()).any()


def test_a_series_says_what_it_holds(dark: Path) -> None:
    series = open_series(dark)
    assert series.frame_type is FrameType.DARK
    assert series.settings == {"gain": 100}
    assert series.software.startswith("ostcal ")
    assert [record.index for record in series.records] == [0, 1, 2]
    assert series.records[1].metadata.exposure_time_s == 5.0


def test_big_endian_and_transposed_frames_are_written_as_they_read(tmp_path: Path) -> None:
    frame = samples((40, 30))
    writer = create_series(
        tmp_path / "a.zarr", n_frames=2, height=40, width=30, dtype="uint16", frame_type=FrameType.DARK
    )
    writer.write_frame(0, frame.astype(">u2"), record_of(0, frame))
    writer.write_frame(1, np.asfortranarray(frame), record_of(1, frame))
    series = open_series(tmp_path / "a.zarr")
    assert np.array_equal(series.read_frame(0), frame)
    assert np.array_equal(series.read_frame(1), frame)


# ---- planned, extended, refused ----


def test_only_committed_frames_are_there(tmp_path: Path) -> None:
    frame = samples((40, 30))
    writer = create_series(
        tmp_path / "a.zarr", n_frames=5, height=40, width=30, dtype="uint16", frame_type=FrameType.DARK
    )
    writer.write_frame(3, frame, record_of(3, frame))
    series = open_series(tmp_path / "a.zarr")
    assert (series.shape, series.n_planned, writer.free_indices()) == ((1, 40, 30), 5, [0, 1, 2, 4])
    assert series.stack().indices == (3,)
    with pytest.raises(FrameError, match="frame 1 is not committed"):
        series.stack([3, 1])
    with pytest.raises(FrameError, match="there is no frame 1; there are 1, from 3 to 3"):
        series.read_frame(1)


def test_a_series_can_be_extended(dark: Path) -> None:
    frame = samples((70, 41), seed=9)
    before = open_series(dark).stack()
    writer = open_series_for_writing(dark)
    with pytest.raises(StorageError, match="does not fit a series of 3 frames; extend it first"):
        writer.write_frame(3, frame, record_of(3, frame))
    writer.extend(5)
    writer.write_frame(4, frame, record_of(4, frame))
    assert open_series(dark).n_planned == 5
    assert np.array_equal(read(open_series(dark).stack([4]))[0], frame)
    assert np.array_equal(read(before), samples((3, 70, 41)))
    with pytest.raises(StorageError, match="cannot shrink"):
        writer.extend(4)


def test_what_does_not_fit_is_refused(dark: Path) -> None:
    writer = open_series_for_writing(dark)
    writer.extend(4)
    frame = samples((70, 41))
    other = samples((70, 41), seed=2)
    for bad, record, message in [
        (frame[:-1], record_of(3, frame[:-1]), "but the series holds uint16"),
        (frame.astype(np.int16), record_of(3, frame), "but the series holds uint16"),
        (frame, record_of(2, frame), "the record of another frame"),
        (frame, record_of(3, other), "the record of another frame"),
        (frame, record_of(3, frame, height=71), "the record of another frame"),
    ]:
        with pytest.raises(StorageError, match=message):
            writer.write_frame(3, bad, record)
    assert open_series(dark).shape[0] == 3
    with pytest.raises(StorageError, match="frame 2 is there already"):
        writer.write_frame(2, frame, record_of(2, frame))


def test_a_discarded_frame_can_be_written_again(dark: Path) -> None:
    writer = open_series_for_writing(dark)
    writer.discard_frame(1)
    assert [record.index for record in open_series(dark).records] == [0, 2]
    frame = samples((70, 41), seed=5)
    writer.write_frame(1, frame, record_of(1, frame))
    assert np.array_equal(open_series(dark).read_frame(1), frame)


def test_nothing_is_overwritten(dark: Path) -> None:
    with pytest.raises(StorageError, match="there is something already"):
        new_series(dark, samples((1, 4, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "complex64"}, "complex64 are not supported"),
        ({"height": 0}, "frames of 4 x 0 pixels"),
        ({"width": 10**7}, "frames of 10000000 x 4 pixels"),
        ({"height": 10**6, "width": 10**6}, "pixels"),
        ({"n_frames": 10**7}, "a series of 10000000 frames"),
        ({"compressor": "gzip"}, "no compressor 'gzip'; there are auto"),
    ],
)
def test_absurd_series_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"n_frames": 1, "height": 4, "width": 4, "dtype": "uint16", "frame_type": FrameType.DARK}
    with pytest.raises(StorageError, match=message):
        create_series(tmp_path / "a.zarr", **values | change)
    assert list(tmp_path.iterdir()) == []


# ---- damage ----


def test_a_missing_shard_is_named_and_never_read_as_zeros(dark: Path) -> None:
    stack = open_series(dark).stack()
    shard_of(dark, 1).unlink()
    with pytest.raises(FrameError, match=r"exp_5\.000s\.zarr: frame 1 cannot be used: its shard is missing.*restore"):
        read(stack)
    series = open_series(dark)
    assert [record.index for record in series.records] == [0, 2]
    assert "frame 1 cannot be used" in series.problems[0]


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.integers(0, 10**6), is_cut=st.booleans())
def test_a_damaged_shard_is_named_or_found_by_its_checksum(
    one_frame: Path, position: int, byte: int, cut: int, *, is_cut: bool
) -> None:
    shard = shard_of(one_frame, 0)
    whole = shard.read_bytes()
    data = bytearray(whole)
    data[position % len(data)] = byte
    shard.write_bytes(data[: cut % len(data)] if is_cut else data)
    try:
        assert np.array_equal(open_series(one_frame).read_frame(0), samples((1, 40, 30))[0])
    except FrameError as error:
        assert "a.zarr: frame 0 cannot be used" in str(error)  # noqa: PT017
    finally:
        shard.write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 100_000, b"\xff" * 100_000])
def test_a_shard_that_is_none_is_named(dark: Path, content: bytes) -> None:
    shard_of(dark, 2).write_bytes(content)
    with pytest.raises(FrameError, match="frame 2 cannot be used: its shard is damaged"):
        read(open_series(dark).stack())
    assert read(open_series(dark).stack([0, 1])).shape == (2, 70, 41)


def test_samples_that_changed_are_found_by_their_checksum(tmp_path: Path) -> None:
    new_series(tmp_path / "a.zarr", samples((1, 40, 30)), compressor="none")
    data = bytearray(shard_of(tmp_path / "a.zarr", 0).read_bytes())
    data[100] ^= 1
    shard_of(tmp_path / "a.zarr", 0).write_bytes(data)
    with pytest.raises(FrameError, match="not those that were written"):
        open_series(tmp_path / "a.zarr").read_frame(0)


def test_a_damaged_record_leaves_out_one_frame_and_is_kept(dark: Path) -> None:
    (dark / "ledger" / "000001.json").write_bytes(b"\0" * 500)
    series = open_series(dark)
    assert [record.index for record in series.records] == [0, 2]
    assert "000001.json" in series.problems[0]
    writer = open_series_for_writing(dark)
    assert writer.free_indices() == []
    assert shard_of(dark, 1).exists()


def test_a_leftover_shard_without_a_record_does_not_exist_and_is_written_over(dark: Path) -> None:
    writer = open_series_for_writing(dark)
    writer.extend(4)
    shard_of(dark, 3).parent.mkdir(parents=True)
    shard_of(dark, 3).write_bytes(shard_of(dark, 0).read_bytes()[:1000])  # zarr itself refuses to write over this
    assert open_series(dark).shape[0] == 3
    frame = samples((70, 41), seed=4)
    writer.write_frame(3, frame, record_of(3, frame))
    assert np.array_equal(open_series(dark).read_frame(3), frame)


def damaged(path: Path, name: str, **changes: object) -> None:
    """Change keys of a zarr.json."""
    file = path / name
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def test_stores_of_other_kinds_are_refused_with_a_word_why(dark: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"this is no zarr store: .*zarr\.json does not exist"):
        open_series(tmp_path / "nothing.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StorageError, match=r"other\.zarr: it is no series of frames of this program"):
        open_series(tmp_path / "other.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(2, 2), dtype="u2")
    with pytest.raises(StorageError, match="it is no series of frames"):
        open_series(tmp_path / "array.zarr")
    zarr.create_group(tmp_path / "masters.zarr", attributes={"format": "ostcal-masters", "format_version": 1})
    with pytest.raises(StorageError, match="its format is 'ostcal-masters'"):
        open_series(tmp_path / "masters.zarr")
    zarr.create_group(tmp_path / "v2.zarr", zarr_format=2)
    with pytest.raises(StorageError, match="this is no zarr store"):
        open_series(tmp_path / "v2.zarr")


def regular(*chunk_shape: int) -> dict[str, Any]:
    """Return the metadata of a grid of equal chunks."""
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("zarr.json", {"zarr_format": 4}, "does not describe zarr version 3"),
        ("zarr.json", {"attributes": {"format": "ostcal-series", "format_version": 9}}, "written by a newer program"),
        ("zarr.json", {"attributes": {"format": "ostcal-series", "format_version": 1}}, "attributes are damaged"),
        ("frames/zarr.json", {"shape": [3, 70]}, "no array of three axes"),
        ("frames/zarr.json", {"shape": [3, 70, "41"]}, "no array of three axes"),
        ("frames/zarr.json", {"shape": [3, 70, 10**9]}, "frames of 1000000000 x 70 pixels"),
        ("frames/zarr.json", {"shape": [3, 70, 43]}, "records and frames are of different series"),
        ("frames/zarr.json", {"shape": [2, 70, 41]}, "records and frames are of different series"),
        ("frames/zarr.json", {"data_type": "complex64"}, "complex64 are not supported"),
        ("frames/zarr.json", {"data_type": {"name": "uint16"}}, "no array of three axes"),
        ("frames/zarr.json", {"node_type": "group"}, "no array of three axes"),
        ("frames/zarr.json", {"codecs": []}, "cannot be opened"),
        ("frames/zarr.json", {"codecs": [{"name": "unheard-of"}]}, "cannot be opened"),
        ("frames/zarr.json", {"chunk_grid": None}, "cannot be opened"),
        ("frames/zarr.json", {"chunk_grid": regular(1, 0, 41)}, "its chunks have 0 bytes|stored chunk shape"),
        ("frames/zarr.json", {"chunk_grid": regular(1, 96 * 10**6, 41)}, "its chunks have 7872000000 bytes"),
    ],
)
def test_damaged_metadata_are_named(dark: Path, name: str, changes: dict[str, Any], message: str) -> None:
    damaged(dark, name, **changes)
    with pytest.raises(StorageError, match=message) as caught:
        open_series(dark)
    assert "exp_5.000s.zarr" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff\xfe", b" " * (1 << 21), b"[1]"])
@pytest.mark.parametrize("name", ["zarr.json", "frames/zarr.json"])
def test_metadata_that_are_no_json_are_named(dark: Path, name: str, content: bytes) -> None:
    (dark / name).write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        open_series(dark)


def test_a_series_without_its_array_is_named(dark: Path) -> None:
    shutil.rmtree(dark / "frames")
    with pytest.raises(StorageError, match="it has no array 'frames'"):
        open_series(dark)


@given(position=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_changed_metadata_are_read_or_refused(one_frame: Path, position: int, byte: int) -> None:
    metadata = one_frame / "frames" / "zarr.json"
    whole = metadata.read_bytes()
    data = bytearray(whole)
    data[position % len(data)] = byte
    metadata.write_bytes(data)
    try:
        open_series(one_frame).read_frame(0)
    except (StorageError, FrameError) as error:
        assert "a.zarr" in str(error)  # noqa: PT017
    finally:
        metadata.write_bytes(whole)


# ---- other layouts ----


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (1, 16, 41)},
        {"chunks": (2, 30, 20)},
        {"chunks": (1, 16, 41), "shards": (1, 80, 41), "compressors": zarr.codecs.ZstdCodec()},
        {"chunks": (1, 10, 41), "shards": (3, 70, 41)},
        {"chunks": (1, 16, 41), "shards": (1, 80, 41), "serializer": zarr.codecs.BytesCodec(endian="big")},
        {"chunks": (1, 70, 41), "chunk_key_encoding": {"name": "v2", "separator": "."}},
    ],
)
def test_arrays_of_other_layouts_are_read_through_zarr_python(dark: Path, layout: dict[str, Any]) -> None:
    frames = samples((3, 70, 41))
    shutil.rmtree(dark / "frames")
    array = zarr.create_array(dark / "frames", shape=frames.shape, dtype="uint16", **layout)
    array[:] = frames
    assert shard_layout(json.loads((dark / "frames" / "zarr.json").read_bytes())) is None
    series = open_series(dark)
    assert np.array_equal(read(series.stack(), 5, 64), frames[:, 5:64])
    assert np.array_equal(series.read_frame(2), frames[2])
    assert series.stack().row_step == layout["chunks"][1]
    for chunk in (dark / "frames").rglob("*"):
        if chunk.is_file() and chunk.name != "zarr.json":
            chunk.unlink()
    assert len(open_series(dark).problems) == 3


# ---- many readers ----


def test_a_stack_is_small_and_picklable(dark: Path) -> None:
    stack = open_series(dark).stack()
    assert len(pickle.dumps(stack)) < 300
    assert np.array_equal(read(pickle.loads(pickle.dumps(stack))), samples((3, 70, 41)))
    assert stack.select([2, 0]).indices == (2, 0)
    assert np.array_equal(read(stack.select([2, 0])), samples((3, 70, 41))[[2, 0]])


def test_threads_read_the_same(dark: Path) -> None:
    stack = open_series(dark).stack()
    frames = samples((3, 70, 41))
    with ThreadPoolExecutor(8) as pool:
        for start, rows in enumerate(pool.map(lambda start: read(stack, start, start + 10), range(60))):
            assert np.array_equal(rows, frames[:, start : start + 10])


def test_another_process_reads_the_same(dark: Path) -> None:
    code = "import sys, pickle, numpy as np; s = pickle.load(sys.stdin.buffer); b = np.empty(s.shape, 'u2');"
    code += "s.read_rows(0, s.shape[1], b); sys.stdout.buffer.write(b.tobytes())"
    stack = pickle.dumps(open_series(dark).stack())
    done = subprocess.run([sys.executable, "-c", code], input=stack, capture_output=True, check=True)
    assert done.stdout == samples((3, 70, 41)).tobytes()


def test_a_frame_written_meanwhile_is_seen(dark: Path) -> None:
    writer = open_series_for_writing(dark)
    stack = open_series(dark).stack()
    read(stack)
    writer.discard_frame(0)
    frame = samples((70, 41), seed=8)
    writer.write_frame(0, frame, record_of(0, frame))
    assert np.array_equal(read(stack)[0], frame)


def test_rows_that_do_not_fit_are_an_error_of_the_caller(dark: Path) -> None:
    stack = open_series(dark).stack()
    for start, stop, block in [
        (0, 10, np.empty((3, 9, 41), np.uint16)),
        (0, 10, np.empty((2, 10, 41), np.uint16)),
        (0, 10, np.empty((3, 10, 41), np.int16)),
        (65, 75, np.empty((3, 10, 41), np.uint16)),
        (-5, 5, np.empty((3, 10, 41), np.uint16)),
    ]:
        with pytest.raises(ValueError, match="rows"):
            stack.read_rows(start, stop, block)


def test_series_are_found_and_other_stores_are_not(dark: Path, tmp_path: Path) -> None:
    (tmp_path / "flats").mkdir()
    new_series(tmp_path / "flats" / "exp_1.000s.zarr", samples((1, 4, 4)))
    zarr.create_group(tmp_path / "masters.zarr", attributes={"format": "ostcal-masters", "format_version": 1})
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(dark, tmp_path / ".hidden" / "copy.zarr")
    names = [str(tmp_path / name) for name in ("broken.zarr", "exp_5.000s.zarr", "flats/exp_1.000s.zarr")]
    assert find_series([tmp_path]) == names
    assert find_series([tmp_path, tmp_path / "flats", dark]) == names
    assert find_series([tmp_path / "absent"]) == []


# ---- killed, full, forbidden ----

KILLED_WRITER = """
    import sys
    from pathlib import Path
    from support.series_samples import record_of, samples
    from ostcal.series.series_writer import open_series_for_writing

    writer = open_series_for_writing(sys.argv[1])
    for index in writer.free_indices():
        frame = samples((600, 500), seed=index)
        print(index, flush=True)
        writer.write_frame(index, frame, record_of(index, frame))
"""


def run_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python script that finds the helpers of the tests."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n" + textwrap.dedent(script)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS.parent)


def test_a_killed_writer_leaves_every_recorded_frame_whole(tmp_path: Path) -> None:
    path = tmp_path / "exp_5.000s.zarr"
    create_series(path, n_frames=2000, height=600, width=500, dtype="uint16", frame_type=FrameType.DARK)
    moments = random.Random(1)
    for _ in range(10):
        with run_script(KILLED_WRITER, str(path)) as process:
            assert process.stdout is not None
            for _ in range(moments.randint(2, 4)):  # the second frame begins, or a later one
                process.stdout.readline()
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
        series = open_series(path)
        assert series.problems == ()
        for record in series.records[-3:]:
            assert np.array_equal(series.read_frame(record.index), samples((600, 500), seed=record.index))
    assert 10 <= len(series.records) < 2000
    for record in series.records:
        series.read_frame(record.index)
    open_series_for_writing(path)
    assert list(path.rglob("*.partial")) == []


FULL_DISK = """
    import resource, signal, sys
    from support.series_samples import record_of, samples
    from ostcal.errors import StorageError
    from ostcal.series.series_writer import open_series_for_writing

    writer = open_series_for_writing(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    frame = samples((600, 500))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        writer.write_frame(0, frame, record_of(0, frame))
    except StorageError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.write_frame(1, frame, record_of(1, frame))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files (POSIX)")
def test_a_frame_for_which_there_is_no_room_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "exp_5.000s.zarr"
    for limit_bytes in (0, 100_000, 500):  # no shard, half a shard, and the second: neither shard nor record
        create_series(path, n_frames=2, height=600, width=500, dtype="uint16", frame_type=FrameType.DARK)
        with run_script(FULL_DISK, str(path), str(limit_bytes)) as process:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert f"{path}: frame 0 cannot be written: the limit of file sizes is reached" in output
        assert [record.index for record in open_series(path).records] == [1]
        assert list(path.rglob("*.partial")) == []
        shutil.rmtree(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the series cannot be made"):
        new_series(tmp_path / "file" / "a.zarr", samples((1, 4, 4)))


def test_a_half_made_series_is_swept_when_the_next_is_made(tmp_path: Path) -> None:
    leftover = tmp_path / "a[1].zarr.0123.partial" / "ledger"
    leftover.mkdir(parents=True)
    new_series(tmp_path / "a[1].zarr", samples((1, 4, 4)))
    assert [path.name for path in tmp_path.iterdir()] == ["a[1].zarr"]


def test_readers_see_only_whole_frames_while_a_writer_works(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    frames = samples((30, 40, 30))
    writer = create_series(path, n_frames=30, height=40, width=30, dtype="uint16", frame_type=FrameType.DARK)
    done = threading.Event()

    def write() -> None:
        for index, frame in enumerate(frames):
            writer.write_frame(index, frame, record_of(index, frame))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        series = open_series(path)
        assert series.problems == ()
        if series.records:
            assert np.array_equal(read(series.stack()), frames[: len(series.records)])
    thread.join()
    assert open_series(path).shape == frames.shape
