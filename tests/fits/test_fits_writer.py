"""Masters and raw frames written to FITS: valid, complete, or not there at all."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.fits.cards import Card
from ostcal.fits.read import FitsFrame, FitsStack, find_fits, inspect_fits
from ostcal.fits.unfinished import UnfinishedImage
from ostcal.fits.write import PARTIAL_FITS, ImagePlane, RawFrame, header_length, write_fits, write_raw_frame
from ostcal.places.durable import sweep_partial_files
from support.fits_samples import frame_values, read_with_astropy, row_reader, write_frame, write_stored

DTYPES = ("float32", "int32", "int16", "uint16")
CARDS = [
    ("IMAGETYP", "Master Dark", "kind of image"),
    ("EXPTIME", 5.0, "[s] exposure of each frame"),
    ("TINY", 1.5e-07, "with an exponent"),
    ("NCOMBINE", np.int64(40), "frames combined"),
    ("COMBINED", True, "a combination of frames"),
    ("CCD-TEMP", np.float32(-10.1), "[C]"),
    ("DATE-OBS", datetime(2025, 6, 2, 3, 21, 41, 40000, tzinfo=UTC), "first frame"),
    ("FILTER", None, "absent"),
    ("EGAIN", float("nan"), "absent"),
    ("OBSERVER", "Renée Müller, 5 µm ± 1", "accents"),
    ("LONGTEXT", "it's a long text, " * 12, "more than one card holds"),
    ("CALSTAT", "", "empty"),
]
HISTORY = ["frames of /data/Gegenüber/日本/" + "x" * 90, "short", "words " * 30]


def plane(values: NDArray[np.generic], *, name: str | None = None, cards: Sequence[Card] = ()) -> ImagePlane:
    return ImagePlane(
        name=name,
        dtype=str(values.dtype),
        height=values.shape[0],
        width=values.shape[1],
        cards=cards,
        read_rows=row_reader(values),
    )


def values_of(dtype: str, shape: tuple[int, int] = (37, 53)) -> NDArray[np.generic]:
    generator = np.random.default_rng(3)
    if dtype == "float32":
        return generator.normal(1000, 300, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def assert_fitsverify_is_content(path: Path) -> None:
    """Ask Debian's fitsverify, where it is installed."""
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian package fitsverify)")
    result = subprocess.run([program, "-q", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.startswith("verification OK"), result.stdout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows_per_write", [1, 5, 37, 256])
def test_values_come_back_whatever_the_strips(tmp_path: Path, dtype: str, rows_per_write: int) -> None:
    values = values_of(dtype)
    write_fits(tmp_path / "a.fits", [plane(values)], rows_per_write=rows_per_write)
    read, header = read_with_astropy(tmp_path / "a.fits")
    assert np.array_equal(read, values)
    assert {"CHECKSUM", "DATASUM"} <= set(header)
    assert sorted(os.listdir(tmp_path)) == ["a.fits"]


def test_strips_make_no_difference_to_the_file(tmp_path: Path) -> None:
    values = values_of("int16", (9, 7))
    for rows in (1, 2, 9):
        write_fits(tmp_path / f"{rows}.fits", [plane(values, cards=CARDS)], history=HISTORY, rows_per_write=rows)
    assert len({(tmp_path / f"{rows}.fits").read_bytes() for rows in (1, 2, 9)}) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_make_no_difference_to_the_file(tmp_path: Path, dtype: str, threads: int) -> None:
    planes = [plane(values_of(dtype, (41, 7)), cards=CARDS), plane(values_of(dtype, (13, 9)), name="MORE")]
    write_fits(tmp_path / "one.fits", planes, history=HISTORY)
    for rows in (1, 3, 40):
        path = tmp_path / f"{rows}.fits"
        write_fits(path, planes, history=HISTORY, rows_per_write=rows, threads=threads)
        assert path.read_bytes() == (tmp_path / "one.fits").read_bytes()


def test_a_strip_that_fails_in_a_thread_ends_the_others(tmp_path: Path) -> None:
    values = values_of("float32", (400, 10))
    read: list[int] = []

    def read_rows(start: int, stop: int) -> NDArray[np.generic]:
        read.append(start)
        if start == 7:
            raise FrameError("x.fits: ends 5 bytes too early")
        time.sleep(0.001)
        return values[start:stop]

    broken = ImagePlane(dtype="float32", height=400, width=10, read_rows=read_rows)
    with pytest.raises(FrameError, match="ends 5 bytes too early"):
        write_fits(tmp_path / "a.fits", [broken], rows_per_write=1, threads=2)
    assert len(read) < 400
    assert os.listdir(tmp_path) == []


def read_by_nobody(start: int, stop: int) -> NDArray[np.generic]:
    raise AssertionError(f"rows {start} to {stop} were written before")


def early_image(path: Path, values: NDArray[np.float32], length: int) -> UnfinishedImage:
    height, width = values.shape
    early = UnfinishedImage(path=str(path), header_length=length, height=height, width=width)
    early.begin()
    return early


@given(
    height=st.integers(1, 40),
    width=st.sampled_from([1, 53, 700_000]),
    cuts=st.sets(st.integers(1, 39)),
    seed=st.integers(0, 2**32),
)
def test_samples_written_before_their_header_make_the_same_file(
    height: int, width: int, cuts: set[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    height = min(height, 5) if width > 1000 else height
    values = rng.normal(1000, 300, (height, width)).astype(np.float32)
    extension = plane(values_of("int16"), name="NUSED")
    with tempfile.TemporaryDirectory() as folder:
        path, reference = Path(folder, "early.fits"), Path(folder, "late.fits")
        write_fits(reference, [plane(values, cards=CARDS), extension], history=HISTORY)
        first = ImagePlane(dtype="float32", height=height, width=width, cards=CARDS, read_rows=read_by_nobody)
        early = early_image(path, values, header_length([first, extension], HISTORY))
        edges = sorted({0, height, *(cut for cut in cuts if cut < height)})
        strips = list(itertools.pairwise(edges))
        rng.shuffle(strips)
        for start, stop in [*strips, strips[0]]:  # one of them twice, as in a cluster
            early.write_rows(int(start), values[start:stop])
        write_fits(path, [first, extension], history=HISTORY, begun=early)
        assert path.read_bytes() == reference.read_bytes()
        assert sorted(os.listdir(folder)) == ["early.fits", "late.fits"]


@pytest.mark.parametrize("spoiled", ["a strip", "the header", "the file"])
def test_samples_that_were_not_all_written_early_are_written_at_the_end(tmp_path: Path, spoiled: str) -> None:
    values = values_of("float32", (30, 20))
    image = plane(values, cards=CARDS)
    write_fits(tmp_path / "late.fits", [image])
    path = tmp_path / "early.fits"
    length = header_length([image]) + (2880 if spoiled == "the header" else 0)
    early = early_image(path, values, length)
    early.write_rows(0, values[:10])
    early.write_rows(20, values[20:])
    if spoiled != "a strip":
        early.write_rows(10, values[10:20])
    if spoiled == "the file":
        Path(f"{path}.partial").unlink()
    write_fits(path, [image], begun=early)
    assert path.read_bytes() == (tmp_path / "late.fits").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["early.fits", "late.fits"]


def test_an_early_image_that_cannot_be_written_is_named_and_discarded(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"missing.a\.fits: cannot be written: No such file"):
        early_image(tmp_path / "missing" / "a.fits", values_of("float32"), 2880)
    early = early_image(tmp_path / "a.fits", values_of("float32"), 2880)
    early.discard()
    early.discard()
    assert os.listdir(tmp_path) == []


def test_a_master_with_extensions_passes_astropy_and_fitsverify(tmp_path: Path) -> None:
    path = tmp_path / "master.fits"
    master, used = values_of("float32"), values_of("uint16")
    planes = [
        plane(master, cards=CARDS),
        plane(master / 10, name="UNCERT", cards=[("BUNIT", "adu", "")]),
        plane(used, name="NUSED"),
        plane(values_of("int32"), name="MORE"),
        plane(values_of("int16")),
    ]
    write_fits(path, planes, history=HISTORY)
    for index, (written, name) in enumerate([(master, None), (master / 10, "UNCERT"), (used, "NUSED")]):
        read, header = read_with_astropy(path, index)
        assert np.array_equal(read, written)
        assert header.get("EXTNAME") == name
    assert_fitsverify_is_content(path)


def test_cards_say_what_was_given(tmp_path: Path) -> None:
    write_fits(tmp_path / "a.fits", [plane(values_of("float32"), cards=CARDS)], history=HISTORY)
    header = read_with_astropy(tmp_path / "a.fits")[1]
    assert (header["EXPTIME"], header["NCOMBINE"], header["COMBINED"], header["CCD-TEMP"]) == (5.0, 40, True, -10.1)
    assert header["TINY"] == 1.5e-07
    assert header["DATE-OBS"] == "2025-06-02T03:21:41.04"
    assert header["LONGTEXT"] == ("it's a long text, " * 12).rstrip()
    assert header["OBSERVER"] == "Renee Muller, 5 um +/- 1"
    assert header["CALSTAT"] == ""
    assert not {"FILTER", "EGAIN"} & set(header)
    assert "Gegenuber" in "".join(header["HISTORY"])
    assert "\\u65e5" in "".join(header["HISTORY"])


@given(text=st.text(min_size=60, max_size=400), comment=st.text(max_size=90))
def test_any_long_text_makes_a_valid_header(text: str, comment: str) -> None:
    cards = [("LONGTEXT", text, comment), ("AFTER", 1, "")]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.fits")
        write_fits(path, [plane(values_of("int16", (2, 3)), cards=cards)], history=[text])
        header = read_with_astropy(path)[1]
    assert header["AFTER"] == 1
    if text.isascii() and text.isprintable():
        assert header["LONGTEXT"] == text.rstrip()


@given(st.sampled_from(DTYPES), st.integers(1, 12), st.integers(1, 12), st.integers(1, 13), st.integers(0, 2**32 - 1))
def test_checksums_are_right_for_every_size(dtype: str, height: int, width: int, rows: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(height * width * np.dtype(dtype).itemsize)
    values = np.frombuffer(data, dtype).reshape(height, width)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.fits")
        write_fits(path, [plane(values)], rows_per_write=rows)
        read, _ = read_with_astropy(path)
    assert read.astype(dtype).tobytes() == values.tobytes() or np.isnan(read).any()


@pytest.mark.parametrize("keyword", ["BITPIX", "NAXIS1", "END", "CHECKSUM", "BZERO", "lower", "TOOLONGKEY", "A B"])
def test_keywords_that_are_not_the_callers_are_refused(tmp_path: Path, keyword: str) -> None:
    with pytest.raises(ValueError, match=keyword):
        write_fits(tmp_path / "a.fits", [plane(values_of("int16"), cards=[(keyword, 1, "")])])
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"precious")
    with pytest.raises(StorageError, match=r"a\.fits: exists already"):
        write_fits(path, [plane(values_of("int16"))])
    assert path.read_bytes() == b"precious"
    write_fits(path, [plane(values_of("int16"))], overwrite=True)
    assert np.array_equal(read_with_astropy(path)[0], values_of("int16"))


@pytest.mark.parametrize(
    ("failure", "expected", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError, "disk is full"),
        (OSError(errno.EIO, "Input/output error"), StorageError, "cannot be written: Input/output error"),
        (FrameError("x.fits: ends 5 bytes too early"), FrameError, "ends 5 bytes too early"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_a_failure_half_way_leaves_nothing_and_what_was_there(
    tmp_path: Path, failure: BaseException, expected: type[BaseException], text: str
) -> None:
    values = values_of("float32", (20, 10))

    def read_rows(start: int, stop: int) -> NDArray[np.generic]:
        if start >= 10:
            raise failure
        return values[start:stop]

    path = tmp_path / "a.fits"
    path.write_bytes(b"precious")
    broken = ImagePlane(dtype="float32", height=20, width=10, read_rows=read_rows)
    with pytest.raises(expected, match=text or None):
        write_fits(path, [broken], rows_per_write=5, overwrite=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.fits", b"precious")]


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent.a\.fits: cannot be written: No such file"):
        write_fits(tmp_path / "absent" / "a.fits", [plane(values_of("int16"))])


def test_a_really_full_disk_is_called_so() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.fits")
        os.symlink("/dev/full", f"{path}.partial")
        with pytest.raises(StorageError, match=r"a\.fits: the disk is full"):
            write_fits(path, [plane(values_of("int16"))])
        assert os.listdir(directory) == []


def test_rows_of_another_shape_or_dtype_are_an_error(tmp_path: Path) -> None:
    for wrong in (np.zeros((4, 5), np.float64), np.zeros((4, 6), np.float32)):
        bad = ImagePlane(dtype="float32", height=4, width=5, read_rows=row_reader(wrong))
        with pytest.raises(ValueError, match="rows 0 to 4 are"):
            write_fits(tmp_path / "a.fits", [bad])
    assert os.listdir(tmp_path) == []


def test_partial_files_are_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.fits.partial", "b.FIT.partial", "c.fits", "d.partial", "e.fits.partial.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert find_fits([tmp_path]) == [str(tmp_path / "c.fits")]
    sweep_partial_files(tmp_path, PARTIAL_FITS)
    assert sorted(os.listdir(tmp_path)) == ["c.fits", "d.partial", "e.fits.partial.txt"]
    sweep_partial_files(tmp_path / "absent", PARTIAL_FITS)
    assert not (tmp_path / "absent").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Raw frames


def adu_of(frame: FitsFrame) -> NDArray[np.generic]:
    stack = FitsStack((frame,))
    block = np.empty(stack.shape, stack.encoding.dtype)
    stack.read_rows(0, frame.height, block)
    return stack.encoding.decode(block)[0]


def export(frame: FitsFrame, path: Path, *, dtype: str = "uint16") -> None:
    values = adu_of(frame)
    raw = RawFrame(cards=frame.cards, dtype=dtype, height=frame.height, width=frame.width, read_rows=row_reader(values))
    write_raw_frame(path, raw, rows_per_write=7)


@pytest.mark.parametrize(
    ("stored", "cards"),
    [
        (np.arange(-32768, 32767, 331, np.int16).reshape(-1, 1), {"BZERO": 32768, "BSCALE": 1}),
        (np.arange(-32768, 32767, 331, np.int16).reshape(1, -1), {}),
        (np.arange(-300, 300, dtype=np.int16).reshape(20, 30), {"BZERO": 100.0, "BLANK": -300}),
        (np.arange(-300, 300, dtype=np.int16).reshape(20, 30), {"BZERO": 0.1, "BSCALE": 0.3}),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), {"CHECKSUM": "kept as it is"}),
        (np.arange(-2000, 2000, 10, np.int32).reshape(20, 20) * 10**6, {}),
        (np.linspace(-1, 1, 99, dtype=np.float32).reshape(9, 11), {"OBJECT": "M 31"}),
        (np.linspace(-1, 1, 99).reshape(9, 11), {}),
        (np.arange(60, dtype=np.int16).reshape(5, 12, 1), {"BZERO": 32768.0}),
    ],
)
def test_a_raw_frame_comes_back_bit_for_bit(
    tmp_path: Path, stored: NDArray[np.generic], cards: dict[str, object]
) -> None:
    original = write_stored(tmp_path / "a.fits", stored, **cards)
    export(inspect_fits(original), tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == original.read_bytes()


def test_odd_cards_of_a_raw_frame_are_kept(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values(), OBJECT="x")
    data = path.read_bytes().replace(b"OBJECT  = 'x       '", b"OBJECT =\xff 'x  ' ,,  ", 1)
    path.write_bytes(data)
    export(inspect_fits(path), tmp_path / "b.fits")
    assert (tmp_path / "b.fits").read_bytes() == data


def test_real_frames_come_back_bit_for_bit(tmp_path: Path, shared_data: Path) -> None:
    for number, original in enumerate(find_fits([shared_data])):
        export(inspect_fits(original), tmp_path / f"{number}.fits")
        assert (tmp_path / f"{number}.fits").read_bytes() == Path(original).read_bytes(), original


def test_a_frame_that_never_was_fits_gets_a_valid_file(tmp_path: Path) -> None:
    values = frame_values()
    cards = ["IMAGETYP= 'DARK    '".ljust(80), "BZERO   = 5".ljust(80), "NAXIS   = 7".ljust(80)]
    raw = RawFrame(cards=cards, dtype="uint16", height=37, width=53, read_rows=row_reader(values))
    write_raw_frame(tmp_path / "a.fits", raw)
    read, header = read_with_astropy(tmp_path / "a.fits")
    assert np.array_equal(read, values)
    assert (header["IMAGETYP"], header["BZERO"]) == ("DARK", 32768)
    assert_fitsverify_is_content(tmp_path / "a.fits")


def test_values_that_do_not_fit_the_header_are_refused(tmp_path: Path) -> None:
    frame = inspect_fits(write_stored(tmp_path / "a.fits", np.zeros((3, 4), np.int16)))
    raw = RawFrame(
        cards=frame.cards, dtype="int32", height=3, width=4, read_rows=row_reader(np.full((3, 4), 40000, np.int32))
    )
    with pytest.raises(StorageError, match=r"b\.fits: values from 40000 to 40000 do not fit"):
        write_raw_frame(tmp_path / "b.fits", raw)
    assert os.listdir(tmp_path) == ["a.fits"]
