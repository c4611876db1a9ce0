"""FITS into series and back: the same bytes, one frame once, bad frames named."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import FrameError, InputError, NoFramesError, StorageError
from ostcal.fits.read import FitsFrame, FitsStack, find_fits, inspect_fits
from ostcal.frames import FrameType
from ostcal.inputs.copy_frames import export_name, export_series, import_frames
from ostcal.series.reader import open_series
from ostcal.series.series_writer import create_series, open_series_for_writing
from support.fits_samples import gzipped, read_with_astropy, tile_compressed, write_extension, write_frame, write_stored
from support.series_samples import FIRST_EXPOSURE, record_of, samples


def dark(path: Path, values: NDArray[Any], *, second: int = 0, **cards: object) -> FitsFrame:
    """Write a dark as FITS and inspect it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    date_obs = f"2026-11-21T08:42:{second:02d}"
    return inspect_fits(write_frame(path, values, IMAGETYP="Dark Frame", EXPTIME=5.0, DATE_OBS=date_obs, **cards))


def darks(directory: Path, n_frames: int, shape: tuple[int, int] = (40, 30)) -> list[FitsFrame]:
    """Write darks of different samples, one a second."""
    return [
        dark(directory / f"d{number}.fits", samples(shape, seed=number), second=number) for number in range(n_frames)
    ]


def same_files(exported: Sequence[str], originals: Sequence[Path | str]) -> bool:
    """Whether files are byte for byte the same."""
    return [Path(path).read_bytes() for path in exported] == [Path(path).read_bytes() for path in originals]


@settings(max_examples=15)
@given(
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    height=st.integers(1, 50),
    width=st.sampled_from([1, 3, 31, 64]),
    seed=st.integers(0, 100),
)
def test_exported_files_are_the_imported_ones_byte_for_byte(dtype: str, height: int, width: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        values = samples((height, width), dtype, seed=seed)
        frame = dark(Path(directory) / "a.fits", values, HISTORY="made for a test", GAIN=100)
        report = import_frames([frame], Path(directory) / "exp_5.000s.zarr")
        assert (report.imported, report.skipped, report.problems) == (1, 0, ())
        series = open_series(report.location)
        assert (series.dtype, series.frame_type) == (dtype, FrameType.DARK)
        assert np.array_equal(series.read_frame(0), values)
        exported = export_series(report.location, Path(directory) / "out")
        assert exported == [str(Path(directory) / "out" / "dark_20261121_084200_000.fits")]
        assert same_files(exported, [frame.path])
        shutil.rmtree(directory)
        Path(directory).mkdir()


@pytest.mark.parametrize(
    ("stored", "cards"),
    [
        (samples((20, 11), "int16"), {"BZERO": 1000.0, "BSCALE": 1.0}),
        (samples((20, 11), "int16"), {"BZERO": 32768.0, "BSCALE": 2.0}),
        (samples((20, 11), "int16"), {"BZERO": 0.1, "BSCALE": 0.3}),
        (samples((20, 11), "int16"), {"BLANK": -32768}),
        (samples((20, 11), "uint8"), {"BZERO": -128.0}),
        (samples((20, 11), "int32"), {"BZERO": 2147483648.0}),
        (samples((20, 11), "int32").astype("int64"), {}),
        (samples((20, 11), "float32"), {"BSCALE": 2.0}),
    ],
)
def test_odd_codings_come_back_byte_for_byte(tmp_path: Path, stored: NDArray[Any], cards: dict[str, Any]) -> None:
    path = write_stored(tmp_path / "a.fits", stored, IMAGETYP="dark", EXPTIME=1.0, **cards)
    report = import_frames([inspect_fits(path)], tmp_path / "a.zarr")
    assert report.problems == ()
    assert same_files(export_series(tmp_path / "a.zarr", tmp_path / "out"), [path])
    frame = inspect_fits(path)
    block = np.empty((1, 20, 11), FitsStack((frame,)).encoding.dtype)
    FitsStack((frame,)).read_rows(0, 20, block)
    adu = FitsStack((frame,)).encoding.decode(block)[0]
    assert np.array_equal(open_series(tmp_path / "a.zarr").read_frame(0), adu, equal_nan=True)


def test_samples_that_float64_cannot_keep_are_refused(tmp_path: Path) -> None:
    path = write_stored(tmp_path / "a.fits", np.full((4, 4), 2**62 + 1), IMAGETYP="dark", EXPTIME=1.0)
    report = import_frames([inspect_fits(path)], tmp_path / "a.zarr")
    assert report.imported == 0
    assert "cannot be kept exactly" in report.problems[0]


def test_nan_and_negative_zero_come_back(tmp_path: Path) -> None:
    values = samples((9, 7), "float32")
    values[0, :4] = [np.nan, -0.0, np.inf, -np.inf]
    frame = dark(tmp_path / "a.fits", values)
    import_frames([frame], tmp_path / "a.zarr")
    assert same_files(export_series(tmp_path / "a.zarr", tmp_path / "out"), [frame.path])
    assert open_series(tmp_path / "a.zarr").records[0].pixels.statistics.not_finite == 3


def test_compressed_files_come_back_unpacked(tmp_path: Path) -> None:
    values = samples((40, 30))
    plain = dark(tmp_path / "in" / "a.fits", values)
    original = Path(plain.path).read_bytes()
    packed = gzipped(Path(plain.path))
    tiles = tile_compressed(tmp_path / "in" / "b.fits.fz", values, IMAGETYP="Dark Frame", EXPTIME=5.0)
    report = import_frames([inspect_fits(packed), inspect_fits(tiles)], tmp_path / "a.zarr")
    assert (report.imported, report.problems) == (2, ())
    first, second = export_series(tmp_path / "a.zarr", tmp_path / "out")
    assert Path(first).read_bytes() == original
    assert np.array_equal(read_with_astropy(second)[0], values)
    assert list((tmp_path / "a.zarr").glob("unpacked*")) == []
    assert [record.source for record in open_series(tmp_path / "a.zarr").records] == [packed.name, tiles.name]


def test_an_image_extension_comes_back_as_a_primary_image(tmp_path: Path) -> None:
    values = samples((20, 11))
    path = write_extension(
        tmp_path / "a.fits", values, primary={"IMAGETYP": "dark", "EXPTIME": 3.0}, own={"CCD-TEMP": -10.0}
    )
    import_frames([inspect_fits(path)], tmp_path / "a.zarr")
    (exported,) = export_series(tmp_path / "a.zarr", tmp_path / "out")
    data, header = read_with_astropy(exported)
    assert np.array_equal(data, values)
    assert (header["EXPTIME"], header["CCD-TEMP"]) == (3.0, -10.0)


def test_an_import_that_runs_again_adds_only_what_is_missing(tmp_path: Path) -> None:
    frames = darks(tmp_path / "in", 6)
    calls: list[int] = []
    first = import_frames(frames[:4], tmp_path / "a.zarr")
    again = import_frames(frames[:4], tmp_path / "a.zarr", on_frame=lambda: calls.append(1))
    assert (first.imported, again.imported, again.skipped, len(calls)) == (4, 0, 4, 4)
    assert open_series(tmp_path / "a.zarr").n_planned == 4
    more = import_frames([frames[1], frames[5], frames[5], frames[4]], tmp_path / "a.zarr")
    assert (more.imported, more.skipped) == (2, 2)
    series = open_series(tmp_path / "a.zarr")
    assert [record.source for record in series.records] == [f"d{number}.fits" for number in (0, 1, 2, 3, 5, 4)]


def test_frames_of_equal_samples_and_different_dates_are_two(tmp_path: Path) -> None:
    values = np.full((40, 30), 1000, np.uint16)
    frames = [dark(tmp_path / f"{second}.fits", values, second=second) for second in (0, 1)]
    assert import_frames(frames, tmp_path / "a.zarr").imported == 2


def test_a_gap_is_filled_first(tmp_path: Path) -> None:
    frames = darks(tmp_path / "in", 3)
    import_frames(frames, tmp_path / "a.zarr")
    open_series_for_writing(tmp_path / "a.zarr").discard_frame(1)
    assert import_frames(frames, tmp_path / "a.zarr").imported == 1
    assert [record.source for record in open_series(tmp_path / "a.zarr").records] == ["d0.fits", "d1.fits", "d2.fits"]


def test_bad_frames_are_left_out_and_named(tmp_path: Path) -> None:
    good = darks(tmp_path / "in", 3)
    other_size = dark(tmp_path / "small.fits", samples((39, 30)))
    other_type = dark(tmp_path / "float.fits", samples((40, 30), "float32"))
    cut = dark(tmp_path / "cut.fits", samples((40, 30), seed=9))
    Path(cut.path).write_bytes(Path(cut.path).read_bytes()[:4000])
    gone = dark(tmp_path / "gone.fits", samples((40, 30), seed=8))
    Path(gone.path).unlink()
    long = dataclasses.replace(good[2], cards=(*good[2].cards, *["COMMENT".ljust(80)] * 15_000))
    report = import_frames([good[0], other_size, other_type, cut, gone, long, good[1]], tmp_path / "a.zarr")
    assert report.imported == 2
    for problem, (name, reason) in zip(
        report.problems,
        [
            ("small.fits", "is 30 x 39 of uint16, but"),
            ("float.fits", "is 30 x 40 of float32, but"),
            ("cut.fits", "too early"),
            ("gone.fits", "cannot be read"),
            ("d2.fits", "its header is too long"),
        ],
        strict=True,
    ):
        assert name in problem
        assert reason in problem
    assert len(export_series(tmp_path / "a.zarr", tmp_path / "out")) == 2


def test_what_cannot_be_imported_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoFramesError, match="no frames to import"):
        import_frames([], tmp_path / "a.zarr")
    unknown = inspect_fits(write_frame(tmp_path / "x.fits", samples((4, 4))))
    unknown = dataclasses.replace(unknown, metadata=dataclasses.replace(unknown.metadata, frame_type=None))
    with pytest.raises(InputError, match="does not say what it shows"):
        import_frames([unknown], tmp_path / "a.zarr")
    import_frames([unknown], tmp_path / "a.zarr", frame_type=FrameType.FLAT)
    assert open_series(tmp_path / "a.zarr").records[0].metadata.frame_type is FrameType.FLAT
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(StorageError, match="this is no zarr store"):
        import_frames([unknown], tmp_path / "b.zarr")


def test_damaged_frames_are_named_when_the_others_are_exported(tmp_path: Path) -> None:
    import_frames(darks(tmp_path / "in", 3), tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "frames" / "c" / "1" / "0" / "0").write_bytes(b"")
    (tmp_path / "a.zarr" / "ledger" / "000002.json").write_bytes(b"")
    with pytest.raises(FrameError, match=r"1 frames were written to .*, 2 not: .*000002\.json.*; .*frame 1 cannot be"):
        export_series(tmp_path / "a.zarr", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dark_20261121_084200_000.fits"]


def test_an_export_that_was_killed_goes_on(tmp_path: Path) -> None:
    import_frames(darks(tmp_path / "in", 3), tmp_path / "a.zarr")
    files = [Path(file) for file in export_series(tmp_path / "a.zarr", tmp_path / "out")]
    whole = [file.read_bytes() for file in files]
    files[2].unlink()
    files[1].rename(f"{files[1]}.partial")  # as a kill leaves it
    kept = files[0].stat()
    assert export_series(tmp_path / "a.zarr", tmp_path / "out") == list(map(str, files))
    assert [file.read_bytes() for file in files] == whole
    assert sorted((tmp_path / "out").iterdir()) == files
    assert (files[0].stat().st_ino, files[0].stat().st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)


def test_no_exported_file_replaces_another(tmp_path: Path) -> None:
    import_frames(darks(tmp_path / "in", 2), tmp_path / "a.zarr")
    first = Path(export_series(tmp_path / "a.zarr", tmp_path / "out")[0])
    for other in (first.read_bytes()[:-1], first.read_bytes() + b"\0", first.read_bytes()[::-1], b""):
        first.write_bytes(other)
        with pytest.raises(StorageError, match=r"dark_20261121_084200_000\.fits: exists already"):
            export_series(tmp_path / "a.zarr", tmp_path / "out")
        assert first.read_bytes() == other
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="the directory cannot be made"):
        export_series(tmp_path / "a.zarr", tmp_path / "file")


@pytest.mark.parametrize(
    ("frame_type", "index", "name"),
    [
        (FrameType.BIAS, 7, "bias_20261121_084207_007.fits"),
        (FrameType.FLAT, 1234, "flat_20261121_090234_1234.fits"),
        (None, 0, "dark_20261121_084200_000.fits"),
    ],
)
def test_names_hold_kind_start_and_index(frame_type: FrameType | None, index: int, name: str) -> None:
    record = record_of(index, samples((4, 4)), frame_type=frame_type)
    assert export_name(record, FrameType.DARK) == name
    undated = record_of(index, samples((4, 4)), frame_type=FrameType.DARK, date_obs=None)
    assert export_name(undated, FrameType.DARK).startswith("dark_undated_")


def test_frames_of_a_camera_get_a_header_from_their_record(tmp_path: Path) -> None:
    frame = samples((40, 30))
    writer = create_series(
        tmp_path / "a.zarr", n_frames=1, height=40, width=30, dtype="uint16", frame_type=FrameType.DARK
    )
    record = record_of(0, frame, ccd_temperature_c=-9.9, set_temperature_c=-10.0, filter_name="L", bayer_pattern="RGGB")
    date_end = FIRST_EXPOSURE + timedelta(seconds=5, microseconds=250_000)
    writer.write_frame(0, frame, dataclasses.replace(record, date_end=date_end, cooler_power_percent=40.0))
    (exported,) = export_series(tmp_path / "a.zarr", tmp_path / "out")
    data, header = read_with_astropy(exported)
    assert np.array_equal(data, frame)
    with fits.open(exported) as hdus:
        hdus.verify("exception")
    assert header["DATE-END"] == "2026-11-21T08:42:05.25"
    metadata = inspect_fits(exported).metadata
    assert metadata == record.metadata
    assert metadata.date_obs == datetime(2026, 11, 21, 8, 42, tzinfo=UTC)


def test_real_frames_come_back_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    n_exported = 0
    for path in find_fits([shared_data])[::6]:  # all of them take 11 s
        original = Path(path).read_bytes()
        try:
            frame = inspect_fits(path)
        except FrameError:
            continue
        location = tmp_path / f"{n_exported}.zarr"
        report = import_frames([frame], location, frame_type=FrameType.DARK)
        assert report.problems == ()
        (exported,) = export_series(location, tmp_path / f"out{n_exported}")
        if frame.hdu_index == 0 and frame.packed == "none":
            assert original.startswith(Path(exported).read_bytes())
        shutil.rmtree(location)
        n_exported += 1
    assert n_exported > 5
