"""The zarr master store: a master is complete or absent, whoever writes, dies or runs out of room."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from ostcal.errors import StorageError
from ostcal.library.planes import MasterWriter, Plane
from ostcal.library.store import MasterStore
from support.master_samples import drop_checksums

NAME = "master_dark_5.000s_20261121_084200"
ATTRIBUTES = {"frame_type": "dark", "exposure_time_s": 5.0, "inputs": ["a.fits", "b.fits"]}
Planes = dict[Plane, NDArray[np.generic]]


def planes(shape: tuple[int, int], *, seed: int = 1) -> Planes:
    """Return the planes of a master: a mean of frames, NaN where there was nothing to average."""
    rng = np.random.default_rng(seed)
    master = (1000 + rng.normal(0, 3, shape)).astype(np.float32)
    master.flat[0] = np.nan
    return {
        "master": master,
        "n_used": rng.integers(0, 65536, shape, dtype=np.uint16),
        "std": rng.exponential(3, shape).astype(np.float32),
    }


def write_strip(writer: MasterWriter, content: Planes, start: int) -> None:
    """Write the strip of rows that begins at `start`, as a task would."""
    rows = slice(start, start + writer.chunk_rows)
    writer.write_rows(start, master=content["master"][rows], n_used=content["n_used"][rows], std=content["std"][rows])


def complete(store: MasterStore, name: str, content: Planes, *, chunk_rows: int = 16) -> None:
    """Write and commit a master."""
    shape = content["master"].shape
    writer = store.create(name, (shape[0], shape[1]), chunk_rows)
    for start in range(0, shape[0], writer.chunk_rows):
        write_strip(writer, content, start)
    store.commit(name, ATTRIBUTES)


def assert_equal(store: MasterStore, name: str, content: Planes) -> None:
    """Compare all bits of a stored master."""
    for plane, values in content.items():
        assert store.open(name).array(plane).tobytes() == values.tobytes()


@pytest.fixture
def store(tmp_path: Path) -> MasterStore:
    """Return an empty store."""
    return MasterStore(tmp_path / "master_frames" / "masters.zarr")


@settings(max_examples=20)
@given(height=st.integers(1, 60), width=st.sampled_from([1, 3, 31, 257]), chunk_rows=st.integers(1, 70), data=st.data())
def test_planes_come_back_bit_for_bit(height: int, width: int, chunk_rows: int, data: st.DataObject) -> None:
    content = planes((height, width))
    with tempfile.TemporaryDirectory() as directory:
        store = MasterStore(Path(directory) / "masters.zarr")
        complete(store, NAME, content, chunk_rows=chunk_rows)
        assert_equal(store, NAME, content)
        start = data.draw(st.integers(0, height - 1), label="start")
        stop = data.draw(st.integers(start, height), label="stop")
        for plane, values in content.items():
            assert store.open(NAME).read_rows(plane, start, stop).tobytes() == values[start:stop].tobytes()
            with_zarr = zarr.open_group(store.location, mode="r")[f"{NAME}/{plane}"]
            assert with_zarr[:].tobytes() == values.tobytes()


def test_a_master_appears_when_it_is_committed(store: MasterStore) -> None:
    content = planes((50, 30))
    assert store.names() == []
    writer = store.create(NAME, (50, 30), 16)
    for start in range(0, 50, 16):
        write_strip(writer, content, start)
    assert store.names() == []
    assert store.exists(NAME)
    with pytest.raises(StorageError, match=r"there is no master master_dark.*there are: none"):
        store.open(NAME)
    store.commit(NAME, ATTRIBUTES)
    assert store.names() == [NAME]
    stored = store.attributes(NAME)
    assert stored.pop("checksum").startswith("crc32:")
    assert set(stored.pop("chunk_checksums")) == {"master", "n_used", "std"}
    folder = Path(store.location, NAME)
    sizes = {path.name: sum(c.stat().st_size for c in path.glob("c.*")) for path in folder.iterdir() if path.is_dir()}
    assert stored.pop("plane_bytes") == sizes
    assert stored == ATTRIBUTES | {"format": "ostcal-master", "format_version": 2}
    assert sorted(os.listdir(Path(store.location, NAME))) == ["master", "n_used", "std", "zarr.json"]
    assert zarr.open_group(store.location, mode="r")[NAME].attrs["exposure_time_s"] == 5.0


def test_a_plane_of_defects_may_be_added_before_the_commit(store: MasterStore) -> None:
    content = planes((50, 30))
    writer = store.create(NAME, (50, 30), 16)
    for start in range(0, 50, 16):
        write_strip(writer, content, start)
    defects = np.random.default_rng(2).integers(0, 256, (50, 30), dtype=np.uint8)
    assert not writer.has("dq")
    writer.write_defects(lambda start, stop: np.zeros_like(defects[start:stop]))
    writer.write_defects(lambda start, stop: defects[start:stop])  # as a task that runs twice
    store.commit(NAME, ATTRIBUTES)
    opened = store.open(NAME)
    assert opened.has("dq")
    assert opened.array("dq").tobytes() == defects.tobytes()
    assert zarr.open_group(store.location, mode="r")[f"{NAME}/dq"][:].tobytes() == defects.tobytes()
    assert_equal(store, NAME, content)


def test_a_master_with_half_a_plane_of_defects_cannot_be_committed(store: MasterStore) -> None:
    content = planes((50, 30))
    writer = store.create(NAME, (50, 30), 16)
    for start in range(0, 50, 16):
        write_strip(writer, content, start)
    writer.write_defects(lambda start, stop: np.zeros((stop - start, 30), np.uint8))
    Path(writer.location, "dq", "c.1.0").unlink()
    with pytest.raises(StorageError, match=r"not complete, .*dq.c\.1\.0 was not written"):
        store.commit(NAME, ATTRIBUTES)


def test_a_master_without_defects_says_so(store: MasterStore) -> None:
    complete(store, NAME, planes((50, 30)))
    assert not store.open(NAME).has("dq")
    with pytest.raises(StorageError, match="dq"):
        store.open(NAME).array("dq")


def test_a_master_with_a_strip_missing_cannot_be_committed(store: MasterStore) -> None:
    writer = store.create(NAME, (50, 30), 16)
    for start in (0, 16, 48):
        write_strip(writer, planes((50, 30)), start)
    with pytest.raises(StorageError, match=r"not complete, .*master.c\.2\.0 was not written"):
        store.commit(NAME, ATTRIBUTES)
    assert store.names() == []


def test_strips_can_be_read_and_replaced_before_the_commit(store: MasterStore) -> None:
    content = planes((50, 30))
    writer = store.create(NAME, (50, 30), 16)
    for start in range(0, 50, 16):
        write_strip(writer, content, start)
    rows = store.writer(NAME).read_rows("master", 48, 50)
    assert rows.tobytes() == content["master"][48:].tobytes()
    content["master"][16:32] /= 2
    content["std"][16:32] /= 2
    write_strip(store.writer(NAME), content, 16)
    store.commit(NAME, ATTRIBUTES)
    assert_equal(store, NAME, content)


def test_threads_write_different_strips(store: MasterStore) -> None:
    content = planes((320, 100))
    writer = store.create(NAME, (320, 100), 16)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda start: write_strip(writer, content, start), range(0, 320, 16)))
    store.commit(NAME, ATTRIBUTES)
    assert_equal(store, NAME, content)


def test_processes_write_different_strips(store: MasterStore) -> None:
    content = planes((320, 100))
    store.create(NAME, (320, 100), 16)
    writer = store.writer(NAME)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(write_strip, writer, content, start) for start in range(0, 320, 16)]
        for task in tasks:
            task.result()
    store.commit(NAME, ATTRIBUTES)
    assert_equal(store, NAME, content)


def test_masters_are_apart(store: MasterStore) -> None:
    first, second = planes((20, 10), seed=1), planes((30, 12), seed=2)
    complete(store, "b", first)
    complete(store, "a", second)
    assert store.names() == ["a", "b"]
    assert_equal(store, "b", first)
    store.discard("a")
    store.discard("a")
    assert store.names() == ["b"]
    assert_equal(store, "b", first)


def test_a_name_is_used_once(store: MasterStore) -> None:
    store.create("being-written", (20, 10), 16)
    complete(store, NAME, planes((20, 10)))
    for name in (NAME, "being-written"):
        with pytest.raises(StorageError, match=f"{name}: this master is there or being written"):
            store.create(name, (20, 10), 16)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "c:d", "a\nb", "a" * 300])
def test_names_lead_nowhere_else(store: MasterStore, name: str) -> None:
    with pytest.raises(StorageError, match="is no name for a master"):
        store.create(name, (20, 10), 16)


def test_a_strip_that_is_none_is_an_error_of_the_caller(store: MasterStore) -> None:
    writer = store.create(NAME, (50, 30), 16)
    content = planes((50, 30))
    with pytest.raises(ValueError, match="no strip"):
        write_strip(writer, content, 8)
    with pytest.raises(ValueError, match="no strip"):
        write_strip(writer, {**content, "master": content["master"].astype(np.float64)}, 0)
    with pytest.raises(ValueError, match="no rows"):
        writer.read_rows("master", 40, 51)


# ---- left behind ----

ABANDONED = """
    import sys
    from ostcal.library.store import MasterStore

    MasterStore(sys.argv[1]).create(sys.argv[2], (50, 30), 16)
    print("created", flush=True)
    if sys.argv[3] == "wait":
        sys.stdin.read()
"""


def abandoned(store: MasterStore, name: str, mode: str) -> subprocess.Popen[str]:
    """Let another process create a master and never commit it."""
    command = [sys.executable, "-c", textwrap.dedent(ABANDONED), store.location, name, mode]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "created\n"
    return process


def test_what_a_dead_process_left_is_swept_and_what_a_live_one_writes_is_not(store: MasterStore) -> None:
    complete(store, NAME, planes((20, 10)))
    store.create("mine", (20, 10), 16)
    with abandoned(store, "dead", "end") as process:
        process.communicate(timeout=60)
    with abandoned(store, "alive", "wait") as process:
        assert store.sweep() == ["dead"]
        process.kill()
    assert store.sweep() == ["alive"]
    assert sorted(path.name for path in Path(store.location).iterdir()) == [NAME, "mine", "zarr.json"]


def test_the_name_of_a_dead_process_can_be_used_again(store: MasterStore) -> None:
    with abandoned(store, NAME, "end") as process:
        process.communicate(timeout=60)
    complete(store, NAME, planes((20, 10)))
    assert store.names() == [NAME]


@pytest.mark.parametrize(
    ("changes", "is_swept"),
    [
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "time": time.time() - 2 * 86_400}, True),
        ({"time": time.time() - 2 * 86_400}, True),
        ({"process": "an earlier one of the same number"}, True),
        ({"pid": 10**30}, True),
        ({"pid": -1}, False),
        ({"pid": "me"}, False),
    ],
)
def test_marks_decide_what_is_left_behind(store: MasterStore, changes: dict[str, object], *, is_swept: bool) -> None:
    store.create(NAME, (20, 10), 16)
    mark = Path(store.location, NAME, "writing.json")
    mark.write_text(json.dumps(json.loads(mark.read_text()) | changes))
    assert (store.sweep() == [NAME]) == is_swept


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"{}"])
def test_without_a_mark_the_age_decides(store: MasterStore, content: bytes) -> None:
    store.create(NAME, (20, 10), 16)
    directory = Path(store.location, NAME)
    (directory / "writing.json").write_bytes(content)
    assert store.sweep() == []
    os.utime(directory, (time.time() - 3600, time.time() - 3600))
    assert store.sweep() == [NAME]


def test_a_commit_that_was_killed_at_its_end_is_complete(store: MasterStore) -> None:
    content = planes((20, 10))
    store.create(NAME, (20, 10), 16)
    mark = Path(store.location, NAME, "writing.json")
    saved = mark.read_bytes()
    for start in (0, 16):
        write_strip(store.writer(NAME), content, start)
    store.commit(NAME, ATTRIBUTES)
    mark.write_bytes(saved)
    assert store.sweep() == []
    assert not mark.exists()
    assert_equal(store, NAME, content)


def test_a_commit_sweeps_what_killed_tasks_left(store: MasterStore) -> None:
    writer = store.create(NAME, (10, 10), 16)
    stray = Path(store.location, NAME, "master", "c.0.0.0123.partial")
    stray.touch()
    write_strip(writer, planes((10, 10)), 0)
    store.commit(NAME, ATTRIBUTES)
    assert not stray.exists()


def test_a_store_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    store = MasterStore(tmp_path / "nothing.zarr")
    assert store.names() == []
    assert store.sweep() == []
    assert not store.exists(NAME)
    store.discard(NAME)
    assert not Path(store.location).exists()


# ---- damage ----


def test_damaged_rows_are_named(store: MasterStore) -> None:
    complete(store, NAME, planes((50, 30)))
    chunk = Path(store.location, NAME, "master", "c.1.0")
    data = chunk.read_bytes()
    for content in (b"", data[:-1], b"\0" * len(data), b"\xff" * len(data)):
        chunk.write_bytes(content)
        with pytest.raises(StorageError, match=r"c\.1\.0: rows of a master are damaged"):
            store.open(NAME).array()
    chunk.unlink()
    with pytest.raises(StorageError, match=r"c\.1\.0: rows of a master cannot be read"):
        store.open(NAME).array()
    assert store.open(NAME).read_rows("master", 0, 16).shape == (16, 30)


@pytest.mark.parametrize("plane", ["master", "n_used", "std"])
def test_every_bit_of_a_chunk_counts(store: MasterStore, plane: Plane) -> None:
    """Blosc unpacks many damaged chunks without a word: the checksum tells."""
    complete(store, NAME, planes((8, 6)), chunk_rows=4)
    chunk = Path(store.location, NAME, plane, "c.1.0")
    data = chunk.read_bytes()
    for position in range(len(data)):
        chunk.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(StorageError, match=r"c\.1\.0: rows of a master are damaged"):
            store.open(NAME).array(plane)


def test_other_programs_read_masters_and_see_their_damage(store: MasterStore) -> None:
    content = planes((8, 6))
    complete(store, NAME, content, chunk_rows=4)
    array = zarr.open_array(Path(store.location, NAME, "std"), mode="r")
    assert np.array_equal(np.asarray(array[:]), content["std"])
    chunk = Path(store.location, NAME, "std", "c.0.0")
    data = bytearray(chunk.read_bytes())
    data[-9] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        array[:]


def test_masters_of_the_first_version_are_read(store: MasterStore) -> None:
    content = planes((50, 30))
    complete(store, NAME, content)
    drop_checksums(Path(store.location, NAME))
    assert_equal(store, NAME, content)
    assert not store.open(NAME).grid.has_checksums


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [50, 31]}, "is not as this program makes it"),
        ({"shape": [40, 30]}, "its arrays differ in size"),
        ({"data_type": "float64"}, "is not as this program makes it"),
        ({"codecs": [{"name": "bytes"}]}, "is not as this program makes it"),
        ({"chunk_grid": {}}, "is not as this program makes it"),
    ],
)
def test_damaged_arrays_are_named(store: MasterStore, changes: dict[str, object], message: str) -> None:
    complete(store, NAME, planes((50, 30)))
    path = Path(store.location, NAME, "master", "zarr.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(StorageError, match=message):
        store.open(NAME)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b"{}", "this is no master of this program"),
        (b'{"attributes": {"format": "ostcal-master", "format_version": 9}}', "needs a newer ostcal"),
    ],
)
def test_damaged_attributes_are_named(store: MasterStore, content: bytes, message: str) -> None:
    complete(store, NAME, planes((20, 10)))
    Path(store.location, NAME, "zarr.json").write_bytes(content)
    with pytest.raises(StorageError, match=message):
        store.attributes(NAME)


FULL_DISK = """
    import resource, signal, sys
    import numpy as np
    from ostcal.errors import StorageError
    from ostcal.library.store import MasterStore

    store = MasterStore(sys.argv[1])
    writer = store.create("a", (200, 1000), 100)
    noise = np.random.default_rng(1).random((100, 1000), np.float32)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for action in (
        lambda: writer.write_rows(0, master=noise, n_used=np.zeros((100, 1000), np.uint16), std=noise),
        lambda: store.commit("a", {}),
    ):
        try:
            action()
        except StorageError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    try:
        store.create("b", (200, 1000), 100)
    except StorageError as error:
        print(error)
    print(store.names(), store.exists("b"))
"""


def test_deviations_that_nobody_reads_soon_are_the_same_bytes(store: MasterStore, tmp_path: Path) -> None:
    rows = planes((700, 1000))
    checksums = []
    for name, again in (("a", True), ("b", False)):
        writer = store.create(name, (700, 1000), 700)
        checksums.append(writer.write_rows(0, **rows, read_again=("std",) if again else ()))
        store.commit(name, ATTRIBUTES)
    assert checksums[0] == checksums[1]
    chunks = [Path(store.location) / name / "std" / "c.0.0" for name in "ab"]
    assert chunks[0].read_bytes() == chunks[1].read_bytes()
    assert_equal(store, "b", rows)
    assert list(tmp_path.rglob("*.partial")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files (POSIX)")
def test_a_master_for_which_there_is_no_room_is_absent(store: MasterStore) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), store.location], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        f"{store.location}/a/master/c.0.0: rows of a master cannot be written: the limit of file sizes is reached"
        in lines[0]
    )
    assert "the master is not complete" in lines[1]
    assert f"{store.location}/b: the master cannot be created: the limit of file sizes is reached" in lines[2]
    assert lines[3] == "[] False"
    assert list(Path(store.location).rglob("*.partial")) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = MasterStore(tmp_path / "file" / "masters.zarr")
    with pytest.raises(StorageError, match=r"masters\.zarr.*the master cannot be created"):
        store.create(NAME, (20, 10), 16)


KILLED = """
    import sys
    import numpy as np
    from ostcal.library.store import MasterStore

    store = MasterStore(sys.argv[1])
    for number in range(int(sys.argv[2]), 10_000):
        writer = store.create(f"m{number}", (64, 500), 16)
        print(number, flush=True)
        for start in range(0, 64, 16):
            rows = np.full((16, 500), number, np.float32)
            writer.write_rows(start, master=rows, n_used=rows.astype(np.uint16), std=rows)
        store.commit(f"m{number}", {"number": number})
"""


def test_a_killed_build_leaves_only_complete_masters(store: MasterStore) -> None:
    moments = np.random.default_rng(1)
    begin = 0
    for _ in range(5):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), store.location, str(begin)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
            begin = max([begin, *(int(line) for line in process.stdout)]) + 1
        store.sweep(alone=True)
        names = store.names()
        assert sorted(path.name for path in Path(store.location).iterdir() if path.is_dir()) == names
        for name in names:
            number = store.attributes(name)["number"]
            assert all((store.open(name).array(plane) == number).all() for plane in ("master", "n_used", "std"))
    assert list(Path(store.location).rglob("*.partial")) == []
    shutil.rmtree(store.location)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "uint8"])
def test_the_metadata_of_a_plane_are_those_that_zarr_writes(tmp_path: Path, dtype: str) -> None:
    MasterStore(tmp_path / "masters.zarr").create("a", (7, 5), 3).write_defects(
        lambda start, stop: np.zeros((stop - start, 5), np.uint8)
    )
    plane = {"float32": "std", "uint16": "n_used", "uint8": "dq"}[dtype]
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize)
    zarr.create_array(
        tmp_path / "by_zarr",
        shape=(7, 5),
        chunks=(3, 5),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian="little"),
        compressors=[codec, Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("row", "column"),
    )
    by_zarr = json.loads((tmp_path / "by_zarr" / "zarr.json").read_text())
    assert json.loads((tmp_path / "masters.zarr" / "a" / plane / "zarr.json").read_text()) == by_zarr
