"""Strips written past the page cache: the same bytes at the same places, wherever the system allows it or not."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.fits.write import ImagePlane, write_fits
from ostcal.places.direct_output import PAGE, AlignedBuffers, DirectOutput
from ostcal.places.durable import write_atomically
from support.amounts import amount

MIB = 2**20


def filled(offset: int, n_bytes: int, seed: int) -> NDArray[np.uint8]:
    """Return bytes in a buffer for an offset."""
    buffer = AlignedBuffers().at(offset, n_bytes)
    buffer[:] = np.random.default_rng(seed).integers(0, 256, n_bytes, dtype=np.uint8)
    return buffer


def can_write_past_the_cache(directory: Path) -> bool:
    """Whether the file system takes a page written past the cache."""
    buffer = AlignedBuffers().at(0, PAGE)
    try:
        descriptor = os.open(directory / "probe", os.O_WRONLY | os.O_CREAT | getattr(os, "O_DIRECT", 1 << 30))
    except OSError:
        return False
    try:
        return os.pwrite(descriptor, buffer.data, 0) == PAGE
    except OSError:
        return False
    finally:
        os.close(descriptor)
        os.remove(directory / "probe")


@given(
    start=st.integers(0, 3 * PAGE),
    lengths=st.lists(st.integers(1, 3 * MIB), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=amount(40), deadline=None)
def test_strips_side_by_side_are_joined_in_any_order(start: int, lengths: list[int], order: object) -> None:
    offsets = [start + sum(lengths[:i]) for i in range(len(lengths))]
    strips = [filled(offset, length, i) for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True))]
    work = list(zip(offsets, strips, strict=True))
    order.shuffle(work)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as directory, open(f"{directory}/a", "w+b") as file:
        file.write(b"\x07" * start)
        file.flush()
        with closing(DirectOutput(file, file.name)) as output:
            for offset, strip in work:
                output.write(offset, strip)
        expected = b"\x07" * start + b"".join(strip.tobytes() for strip in strips)
        assert Path(file.name).read_bytes() == expected


def test_threads_write_at_the_same_time(tmp_path: Path) -> None:
    lengths = [MIB + 1717 * i for i in range(1, 9)]
    offsets = [2880 + sum(lengths[:i]) for i in range(8)]
    strips = [filled(offset, length, i) for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True))]
    with (tmp_path / "a").open("wb") as file, closing(DirectOutput(file, file.name)) as output:
        threads = [threading.Thread(target=output.write, args=job) for job in zip(offsets, strips, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "a").read_bytes() == bytes(2880) + b"".join(strip.tobytes() for strip in strips)


def test_large_strips_leave_nothing_in_the_page_cache(tmp_path: Path) -> None:
    if not can_write_past_the_cache(tmp_path) or not hasattr(os, "preadv"):
        pytest.skip("this file system writes through the page cache only")
    strip = filled(2880, 8 * MIB, 1)
    with (tmp_path / "a").open("wb") as file, closing(DirectOutput(file, file.name)) as output:
        output.write(2880, strip)
    with (tmp_path / "a").open("rb") as file:
        with pytest.raises(BlockingIOError):  # of the middle nothing is cached
            os.preadv(file.fileno(), [bytearray(PAGE)], 4 * MIB, os.RWF_NOWAIT)
        file.seek(2880)
        assert file.read() == strip.tobytes()


def test_a_buffer_is_used_again_and_lies_as_the_file_does() -> None:
    buffers = AlignedBuffers()
    first = buffers.at(5000, 3 * MIB)
    second = buffers.at(2880, 2 * MIB)
    assert np.shares_memory(first, second)
    assert (first.ctypes.data - 5000) % PAGE == 0
    assert (second.ctypes.data - 2880) % PAGE == 0
    larger = buffers.at(0, 4 * MIB)
    assert not np.shares_memory(first, larger)
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(larger, pool.submit(buffers.at, 0, PAGE).result())


def test_a_file_system_without_it_gets_the_same_bytes(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("no file system in memory here")
    values = np.random.default_rng(1).normal(1000, 4, (700, 997)).astype(np.float32)
    plane = ImagePlane(dtype="float32", height=700, width=997, read_rows=lambda start, stop: values[start:stop])
    with tempfile.TemporaryDirectory(dir=memory) as other:
        for directory in (tmp_path, Path(other)):
            write_fits(directory / "a.fits", [plane, plane], rows_per_write=301, threads=2)
        assert (tmp_path / "a.fits").read_bytes() == Path(other, "a.fits").read_bytes()


def test_a_full_disk_is_told_of() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full here")
    strip = filled(0, 2 * MIB, 1)
    with open("/dev/full", "wb", buffering=0) as file, closing(DirectOutput(file, file.name)) as output:  # type: ignore[arg-type]
        with pytest.raises(OSError, match="No space left") as raised:
            output.write(0, strip)
        assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("n_bytes", [0, 1, PAGE, MIB - 1, MIB + 17, 3 * MIB])
def test_a_whole_file_is_written_past_the_cache(tmp_path: Path, n_bytes: int) -> None:
    content = np.random.default_rng(n_bytes).bytes(n_bytes)
    for _ in range(2):  # the second time into the buffer of the first, over its file
        write_atomically(tmp_path / "a", content, durable=False, past_cache=True)
        assert (tmp_path / "a").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_large_file_leaves_the_page_cache_alone(tmp_path: Path) -> None:
    if not can_write_past_the_cache(tmp_path) or not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this file system does not write past the cache")
    write_atomically(tmp_path / "a", bytes(4 * MIB), durable=False, past_cache=True)
    with (tmp_path / "a").open("rb") as file, pytest.raises(BlockingIOError):
        os.preadv(file.fileno(), [bytearray(1)], MIB, os.RWF_NOWAIT)
