"""`open_series`: what the Dataset says of the frames, what is read of them, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ostcal
from ostcal.errors import FrameError, InputError, StorageError
from ostcal.frames import CameraSettings
from ostcal.places.objects import ObjectPath
from ostcal.series.format import shard_path
from ostcal.series.record import Decision, record_path, write_decision, write_record
from ostcal.series.series_writer import create_series
from support.absent_packages import environment_without
from support.series_samples import FIRST_EXPOSURE, new_series, record_of, samples

xarray = pytest.importorskip("xarray")
SHAPE = (5, 100, 30)
CHUNK_ROWS = 32
"""Of frames of 100 rows: four stored chunks."""


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, NDArray[Any]]:
    """Return a series whose frame 3 is excluded, and its frames."""
    frames = samples(SHAPE)
    path = tmp_path / "exp_5.000s.zarr"
    new_series(path, frames)
    decision = Decision(excluded=True, why="a door", who="anna@dome", when=datetime(2026, 11, 22, tzinfo=UTC))
    write_decision(path / "ledger", 3, decision)
    return path, frames


def damage_chunks(shard: Path, chunks: range | list[int]) -> None:
    """Change a byte of stored chunks of a frame; the index at the end of the shard says where they lie."""
    data = bytearray(shard.read_bytes())
    n_chunks = -(-SHAPE[1] // CHUNK_ROWS)
    index = np.frombuffer(bytes(data[-4 - 16 * n_chunks : -4]), "<u8").reshape(-1, 2)
    for chunk in chunks:
        data[int(index[chunk, 0] + index[chunk, 1] // 2)] ^= 0xFF
    shard.write_bytes(data)


def copied_to_memory(folder: Path, location: str) -> str:
    """Copy a folder into the object store of this process."""
    for file in folder.rglob("*"):
        if file.is_file():
            ObjectPath.of(f"{location}/{file.relative_to(folder)}").write_bytes(file.read_bytes())
    return location


def test_a_dataset_has_the_frames_and_what_is_recorded_of_them(stored: tuple[Path, NDArray[Any]]) -> None:
    path, frames = stored
    ds = ostcal.open_series(path)
    assert ds.frames.dims == ("time", "y", "x")
    assert ds.frames.dtype == np.uint16
    assert ds.frames.attrs["units"] == "adu"
    np.testing.assert_array_equal(ds.frames.values, frames)
    expected = [np.datetime64((FIRST_EXPOSURE + timedelta(seconds=i)).replace(tzinfo=None)) for i in range(5)]
    np.testing.assert_array_equal(ds.time.values, np.array(expected, "datetime64[ns]"))
    assert ds.excluded.values.tolist() == [False, False, False, True, False]
    assert ds.exclusion_reason.values.tolist() == ["", "", "", "a door", ""]
    assert ds.exposure.values.tolist() == [5.0] * 5
    assert ds.exposure.attrs["units"] == "s"
    assert "temperature" not in ds.coords  # no frame records one
    np.testing.assert_allclose(ds.coords["mean"], frames.mean(axis=(1, 2)))
    given = {name: ds.attrs[name] for name in ("camera", "gain", "offset", "binning", "frame_type", "frames_planned")}
    assert given == {
        "camera": "Demo", "gain": 100.0, "offset": 30.0, "binning": [1, 1], "frame_type": "dark", "frames_planned": 5
    }  # fmt: skip


def test_a_dask_array_has_the_frames_alone(stored: tuple[Path, NDArray[Any]]) -> None:
    path, frames = stored
    lazy = ostcal.open_series(str(path), as_="dask")
    assert (lazy.shape, lazy.dtype, lazy.chunksize) == (SHAPE, np.uint16, (1, 100, 30))
    np.testing.assert_array_equal(lazy.compute(), frames)


@pytest.mark.parametrize("as_", ["xarray", "dask"])
def test_excluded_frames_are_dropped_on_request(stored: tuple[Path, NDArray[Any]], as_: Any) -> None:
    path, frames = stored
    opened = ostcal.open_series(path, as_, drop_excluded=True)
    values = opened.compute() if as_ == "dask" else opened.frames.values
    np.testing.assert_array_equal(values, frames[[0, 1, 2, 4]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize(
    "key",
    [np.s_[1], np.s_[::-2, 5:90:7, 3], np.s_[:, 99], np.s_[2:2], np.s_[[4, 0], 10:40], np.s_[1, [70, 3, 3], ::-1]],
)
def test_any_part_is_that_of_the_array(tmp_path: Path, dtype: str, key: Any) -> None:
    frames = samples(SHAPE, dtype)
    new_series(tmp_path / "a.zarr", frames)
    part = ostcal.open_series(tmp_path / "a.zarr", as_="dask")[key].compute()
    assert part.dtype == frames.dtype
    np.testing.assert_array_equal(part, frames[key])


@pytest.mark.parametrize("in_objects", [False, True])
def test_only_the_stored_chunks_that_were_asked_for_are_read(
    stored: tuple[Path, NDArray[Any]], in_objects: bool
) -> None:
    """All other chunks are damaged, which their checksums show where one is read."""
    path, frames = stored
    for index in (0, 1, 3, 4):
        damage_chunks(Path(shard_path(str(path), index)), range(4))
    damage_chunks(Path(shard_path(str(path), 2)), [0, 2])
    location = copied_to_memory(path, "memory://lazy/darks/exp_5.000s.zarr") if in_objects else str(path)
    ds = ostcal.open_series(location)
    np.testing.assert_array_equal(ds.frames[2, CHUNK_ROWS : 2 * CHUNK_ROWS].values, frames[2, 32:64])
    np.testing.assert_array_equal(ds.frames[2, 40, 5:7].values, frames[2, 40, 5:7])
    np.testing.assert_array_equal(ds.frames[2, 33::64].values, frames[2, 33::64])
    with pytest.raises(FrameError, match=r"exp_5\.000s\.zarr: frame 2 cannot be used: .*rows 0 to 31 .*checksum"):
        ds.frames[2, :1].compute()


def test_settings_that_differ_are_coordinates(tmp_path: Path) -> None:
    frames = samples((3, 20, 30))
    new_series(tmp_path / "a.zarr", frames)
    for index, (gain, word) in enumerate([(100.0, "Ha"), (None, "R"), (200.0, "R")]):
        settings = CameraSettings(camera="Demo", gain=gain)
        record = record_of(index, frames[index], settings=settings, filter_name=word, ccd_temperature_c=-9.5 - index)
        write_record(tmp_path / "a.zarr" / "ledger", replace(record, source=f"light_{index}.fits"))
    ds = ostcal.open_series(tmp_path / "a.zarr")
    np.testing.assert_array_equal(ds.gain.values, [100.0, np.nan, 200.0])
    assert ds.coords["filter"].values.tolist() == ["Ha", "R", "R"]
    assert ds.temperature.values.tolist() == [-9.5, -10.5, -11.5]
    assert ds.source.values.tolist() == ["light_0.fits", "light_1.fits", "light_2.fits"]
    assert "gain" not in ds.attrs
    assert ds.attrs["camera"] == "Demo"


def test_frames_of_a_dataset_are_combined(stored: tuple[Path, NDArray[Any]]) -> None:
    path, frames = stored
    ds = ostcal.open_series(path, drop_excluded=True)
    lazy = ostcal.combine(ds.frames.data, "median")
    np.testing.assert_array_equal(lazy.compute(), ostcal.combine(list(frames[[0, 1, 2, 4]]), "median"))


# ---- what is refused ----


def no_series(folder: Path) -> Path:
    (folder / "a.zarr").mkdir()
    (folder / "a.zarr" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    return folder / "a.zarr"


def a_file(folder: Path) -> Path:
    (folder / "a.fits").write_bytes(b"SIMPLE  =                    T")
    return folder / "a.fits"


def nothing_taken(folder: Path) -> Path:
    create_series(
        folder / "a.zarr", n_frames=3, height=20, width=30, dtype="uint16",
        frame_type=record_of(0, samples((20, 30))).metadata.frame_type, attributes={},
    )  # fmt: skip
    return folder / "a.zarr"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.zarr", r"absent\.zarr: this is no zarr store"),
        (lambda folder: folder, "this is no zarr store"),
        (a_file, r"a\.fits: "),
        (no_series, r"a\.zarr: it is no series of frames of this program"),
        (nothing_taken, r"a\.zarr: no frame of it is complete"),
    ],
)
def test_what_is_no_series_of_frames_is_one_clear_line(
    tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    for as_ in ("xarray", "dask"):
        folder = tmp_path / as_
        folder.mkdir()
        with pytest.raises(StorageError, match=words) as caught:
            ostcal.open_series(make(folder), as_)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_damaged_frames_are_an_error_unless_they_may_be_left_out(stored: tuple[Path, NDArray[Any]]) -> None:
    path, frames = stored
    record_path(path / "ledger", 1).write_text("{}")
    Path(shard_path(str(path), 4)).unlink()
    with pytest.raises(StorageError, match=r"000001\.json: .*\(and 1 more frame\); skip_damaged=True"):
        ostcal.open_series(path)
    ds = ostcal.open_series(path, skip_damaged=True)
    assert ds.index.values.tolist() == [0, 2, 3]
    np.testing.assert_array_equal(ds.frames.values, frames[[0, 2, 3]])


def test_a_series_that_is_being_taken_has_the_frames_there_are(tmp_path: Path) -> None:
    frames = samples((2, 20, 30))
    writer = create_series(
        tmp_path / "a.zarr", n_frames=10, height=20, width=30, dtype="uint16",
        frame_type=record_of(0, frames[0]).metadata.frame_type, attributes={},
    )  # fmt: skip
    for index, frame in enumerate(frames):
        writer.write_frame(index, frame, record_of(index, frame))
    ds = ostcal.open_series(tmp_path / "a.zarr")
    assert (ds.sizes["time"], ds.attrs["frames_planned"]) == (2, 10)


def test_all_frames_excluded_is_said(tmp_path: Path) -> None:
    new_series(tmp_path / "a.zarr", samples((1, 20, 30)))
    decision = Decision(excluded=True, why="light", who="a", when=datetime(2026, 11, 22, tzinfo=UTC))
    write_decision(tmp_path / "a.zarr" / "ledger", 0, decision)
    with pytest.raises(StorageError, match="all of its frames are excluded"):
        ostcal.open_series(tmp_path / "a.zarr", drop_excluded=True)


@pytest.mark.parametrize(("arguments", "words"), [(("a.zarr", "numpy"), "as_='numpy'"), ((5,), "path=5 is no path")])
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ostcal.open_series(*arguments)


def test_without_xarray_the_extra_is_named_and_dask_works(stored: tuple[Path, NDArray[Any]], tmp_path: Path) -> None:
    program = (
        "import sys, ostcal\n"
        "try:\n    ostcal.open_series(sys.argv[1])\n"
        "except ostcal.OstcalError as error:\n    print(type(error).__name__, error)\n"
        "print(ostcal.open_series(sys.argv[1], as_='dask')[0, 0].compute().sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(stored[0])],
        env=environment_without(tmp_path / "absent", ("xarray", "pandas")), capture_output=True, text=True, check=True,
    )  # fmt: skip
    line, total = done.stdout.splitlines()
    assert line == (
        "MissingPackageError open_series as xarray (as_='dask' gives a Dask array) needs xarray: "
        "pip install 'ostcal[notebook]'"
    )
    assert int(total) == int(stored[1][0, 0].sum())
