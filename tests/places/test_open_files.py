"""Files that stay open from block to block: the same bytes, the same errors, and never too many of them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.read import FitsStack, inspect_fits
from ostcal.frames import FrameStack, RowReader
from ostcal.places import open_files
from ostcal.places.open_files import kept_open
from ostcal.series.concatenated import ConcatenatedStack
from ostcal.series.reader import open_series
from ostcal.series.stack import ZarrStack
from support.amounts import amount
from support.fits_samples import frame_values, write_frame
from support.series_samples import new_series


def rows_of(reader: RowReader, stack: FrameStack, start: int, stop: int) -> NDArray[np.generic]:
    """Read raw samples."""
    n_frames, _, width = stack.shape
    out = np.zeros((n_frames, stop - start, width), stack.encoding.dtype)
    reader.read_rows(start, stop, out)
    return out


def fits_stack(directory: Path, n: int = 4, dtype: str = "uint16") -> FitsStack:
    paths = [write_frame(directory / f"{dtype}{i}.fits", frame_values(seed=i).astype(dtype)) for i in range(n)]
    return FitsStack(tuple(inspect_fits(path) for path in paths))


def series_stack(path: Path, frames: NDArray[np.uint16], compressor: str = "auto") -> ZarrStack:
    new_series(path, frames, compressor=compressor)
    return open_series(path).stack()


def frames_of(n: int) -> NDArray[np.uint16]:
    return np.array([frame_values(seed=10 + i) for i in range(n)]).astype(np.uint16)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the stacks' files."""
    return tmp_path_factory.mktemp("stacks").resolve()


@pytest.fixture(scope="module")
def stacks(directory: Path) -> dict[str, FrameStack]:
    """Return stacks of every kind, all of one size."""
    words = fits_stack(directory)
    series = {name: series_stack(directory / f"{name}.zarr", frames_of(3), name) for name in ("lz4", "none")}
    return {
        "FITS words": words,
        "FITS floats": fits_stack(directory, dtype="float32"),
        "FITS bytes": fits_stack(directory, dtype="uint8"),
        "zarr": series["lz4"],
        "zarr, plain": series["none"],
        "both": ConcatenatedStack((words, series["lz4"])),
    }


KINDS = ["FITS words", "FITS floats", "FITS bytes", "zarr", "zarr, plain", "both"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=amount(40), deadline=None)
def test_open_files_give_the_same_samples(stacks: dict[str, FrameStack], kind: str, data: st.DataObject) -> None:
    stack = stacks[kind]
    start = data.draw(st.integers(0, stack.shape[1] - 1))
    stop = data.draw(st.integers(start + 1, stack.shape[1]))
    with stack.opened(start, stop) as reader:
        assert np.array_equal(rows_of(reader, stack, start, stop), rows_of(stack, stack, start, stop))


@pytest.mark.parametrize("kind", ["FITS words", "zarr"])
def test_files_are_opened_once_for_all_blocks(stacks: dict[str, FrameStack], directory: Path, kind: str) -> None:
    stack = stacks[kind]
    assert open_below(directory) == []
    with stack.opened(0, stack.shape[1]) as reader:
        opened = open_below(directory)
        assert len(opened) == stack.shape[0]
        rows_of(reader, stack, 0, 8)
        assert open_below(directory) == opened
    assert open_below(directory) == []


def open_below(directory: Path) -> list[tuple[str, str]]:
    """Return descriptor and file of all that this process holds open below a directory."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here")
    opened = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            opened.append((descriptor, os.readlink(f"/proc/self/fd/{descriptor}")))
    return sorted(each for each in opened if each[1].startswith(f"{directory}/"))


def test_a_file_that_is_cut_while_it_is_open_is_named(tmp_path: Path) -> None:
    stack = fits_stack(tmp_path)
    with stack.opened(0, stack.shape[1]) as reader:
        rows_of(reader, stack, 0, 4)
        os.truncate(stack.frames[2].path, stack.frames[2].data_offset + 53 * 2 * 6)
        rows_of(reader, stack, 0, 6)
        with pytest.raises(FrameError, match=r"uint162\.fits: ends 106 bytes too early"):
            rows_of(reader, stack, 0, 7)


def test_a_missing_file_is_named_by_who_reads_it(tmp_path: Path) -> None:
    stack = fits_stack(tmp_path)
    os.remove(stack.frames[1].path)
    with stack.opened(0, stack.shape[1]) as reader, pytest.raises(FrameError, match=r"uint161\.fits: cannot be read"):
        rows_of(reader, stack, 0, 4)


def test_a_damaged_chunk_is_named_by_who_reads_it(tmp_path: Path) -> None:
    stack = series_stack(tmp_path / "a.zarr", frames_of(3))
    shard = tmp_path / "a.zarr" / "frames" / "c" / "1" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[20] ^= 1
    with stack.opened(0, stack.shape[1]) as reader:
        rows_of(reader, stack, 0, 4)
        shard.write_bytes(content)
        with pytest.raises(FrameError, match=r"frame 1.*checksum"):
            rows_of(reader, stack, 0, 4)


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    stack = fits_stack(tmp_path)
    n_frames, height, width = stack.shape
    with stack.opened(0, stack.shape[1]) as reader:
        for start, stop, rows in ((0, 4, 5), (height - 1, height + 1, 2), (-1, 3, 4)):
            with pytest.raises(ValueError, match="do not fit"):
                reader.read_rows(start, stop, np.zeros((n_frames, rows, width), np.uint16))


def test_no_more_files_stay_open_than_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")

    def opened(count: int) -> Sequence[int] | None:
        with kept_open([str(path)] * count) as descriptors:
            return descriptors

    half = open_files.MOST_OPEN_FILES
    assert open_below(tmp_path) == []
    assert opened(half + 1) is None
    with kept_open([str(path)] * (half - 2)) as descriptors:
        assert descriptors is not None
        assert opened(3) is None
        assert opened(2) is not None
    assert opened(half) is not None
    assert open_below(tmp_path) == []


def test_no_limit_of_open_files_is_no_reason_to_keep_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for limit, most in ((resource.RLIM_INFINITY, 65_536), (1_048_576, 65_536), (256, 128)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, limit=limit: (limit, limit))
        assert open_files.half_of_limit() == most


def test_files_that_cannot_be_opened_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    assert open_below(tmp_path) == []
    for _ in range(open_files.MOST_OPEN_FILES):
        with kept_open([str(path), str(tmp_path / "none")]) as descriptors:
            assert descriptors is None
    with kept_open([str(path)]) as descriptors:
        assert descriptors is not None
    assert open_below(tmp_path) == []


def test_threads_share_what_may_be_open(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    count = open_files.MOST_OPEN_FILES // 3
    most = [0]
    lock = threading.Lock()
    n_open = [0]

    def work() -> None:
        for _ in range(20):
            with kept_open([str(path)] * count) as descriptors:
                if descriptors is None:
                    continue
                with lock:
                    n_open[0] += 1
                    most[0] = max(most[0], n_open[0])
                with lock:
                    n_open[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 3
    with kept_open([str(path)] * (3 * count)) as descriptors:
        assert descriptors is not None


def test_what_is_read_ahead_is_there_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(4 * 2**20))
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system does not tell what is in the page cache")
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_cached(file.fileno(), 2**20):
            pytest.skip("this file system keeps what was written")
        open_files.read_ahead(file.fileno(), 0, 2 * 2**20)
        ended = time.monotonic() + 10
        while not is_cached(file.fileno(), 2**20) and time.monotonic() < ended:
            time.sleep(0.01)
        assert is_cached(file.fileno(), 2**20)


def test_what_is_there_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system does not tell what is in the page cache")
    path = tmp_path / "a"
    path.write_bytes(bytes(2**20))
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, offset, n_bytes, advice: asked.append(offset))
    with path.open("rb") as file:
        assert is_cached(file.fileno(), 2**20 - 1)
        open_files.read_ahead(file.fileno(), 0, 2**20)
        assert asked == []
        open_files.read_ahead(file.fileno(), 2**19, 2**20)  # beyond its end there is nothing to tell
        assert asked == [2**19]


def is_cached(descriptor: int, offset: int) -> bool:
    """Whether a byte is in the page cache."""
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
