"""FITS files as users have them: found, inspected, read by rows, unpacked; bad ones named and refused."""

from __future__ import annotations

import gzip
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.cards import Header
from ostcal.fits.headers import metadata_from_header
from ostcal.fits.read import FitsFrame, FitsStack, find_fits, fingerprint, inspect_fits, inspect_images
from ostcal.fits.tiles import TileReader
from ostcal.fits.unpack import unpack
from ostcal.frames import FrameStack, FrameType, SampleEncoding
from support.amounts import amount
from support.fits_samples import (
    data_block,
    frame_values,
    gzipped,
    header_block,
    read_with_astropy,
    tile_compressed,
    write_extension,
    write_frame,
    write_images,
    write_stored,
)


@pytest.fixture(scope="module")
def tiles() -> Iterator[TileReader]:
    """Yield what unpacks tiles, whose process starts once (0.5 s)."""
    with TileReader() as reader:
        yield reader


def adu(stack: FrameStack, start: int = 0, stop: int | None = None) -> NDArray[np.generic]:
    """Read rows of a stack as ADU."""
    n_frames, height, width = stack.shape
    stop = height if stop is None else stop
    block = np.empty((n_frames, stop - start, width), stack.encoding.dtype)
    stack.read_rows(start, stop, block)
    return stack.encoding.decode(block)


def truth(path: Path | str, index: int = 0) -> NDArray[np.generic]:
    return read_with_astropy(path, index)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def test_files_are_found_by_their_endings_in_any_case_sorted_and_once(tmp_path: Path) -> None:
    wanted = ["a.fits", "B.FIT", "c.fts", "d.fits.gz", "e.FIT.FZ", "sub dir/deep/f.fits"]
    others = ["g.txt", "h.fits.partial", ".hidden.fits", "._b.fits", ".git/i.fits", "s.zarr/j.fits", "k.gz", "fits"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = sorted(str(tmp_path / name) for name in wanted)
    assert find_fits([tmp_path]) == expected
    assert find_fits([tmp_path / "sub dir", tmp_path, str(tmp_path)]) == expected
    assert find_fits([tmp_path / "a.fits", tmp_path / "g.txt"]) == [str(tmp_path / "a.fits")]
    assert find_fits([tmp_path / "absent"]) == []


def test_a_link_to_a_directory_above_is_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "darks").mkdir()
    (tmp_path / "darks" / "a.fits").write_bytes(b"")
    try:
        (tmp_path / "darks" / "again").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system allows no symbolic links")
    assert find_fits([tmp_path]) == [str(tmp_path / "darks" / "a.fits")]


# ---------------------------------------------------------------------------------------------------------------------
# Inspecting


def test_a_plain_frame_is_described(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values(), IMAGETYP="Dark Frame", EXPTIME=5.0, HISTORY="hello")
    frame = inspect_fits(path)
    assert (frame.path, frame.source, frame.packed, frame.hdu_index) == (str(path), str(path), "none", 0)
    assert (frame.height, frame.width, frame.bitpix, frame.bzero, frame.bscale) == (37, 53, 16, 32768.0, 1.0)
    assert frame.data_offset == 2880
    assert frame.metadata.frame_type is FrameType.DARK
    assert (frame.metadata.exposure_time_s, frame.metadata.width, frame.metadata.height) == (5.0, 53, 37)
    assert "".join(frame.cards).encode() == path.read_bytes()[: 80 * len(frame.cards)]
    assert not any(card.startswith("END") for card in frame.cards)


def test_a_long_header_is_read_to_its_end(tmp_path: Path) -> None:
    cards = {f"KEY{number}": number for number in range(200)}
    frame = inspect_fits(write_frame(tmp_path / "a.fits", frame_values(), **cards, EXPTIME=2.0))
    assert frame.data_offset > 5 * 2880
    assert frame.metadata.exposure_time_s == 2.0
    assert np.array_equal(adu(FitsStack((frame,)))[0], frame_values())


def test_directory_names_count_for_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "darks").mkdir()
    write_frame(tmp_path / "darks" / "img_3s.fits", frame_values())
    monkeypatch.chdir(tmp_path / "darks")
    assert inspect_fits("img_3s.fits").metadata.frame_type is FrameType.DARK


def test_an_image_extension_takes_the_cards_of_the_primary_header_that_it_lacks(tmp_path: Path) -> None:
    primary = {"IMAGETYP": "DARK", "EXPTIME": 5.0, "INSTRUME": "cam"}
    path = write_extension(tmp_path / "a.fits", frame_values(), primary=primary, own={"EXPTIME": 6.0, "GAIN": 3})
    frame = inspect_fits(path)
    assert (frame.hdu_index, frame.metadata.frame_type) == (1, FrameType.DARK)
    assert (frame.metadata.exposure_time_s, frame.metadata.settings.gain) == (6.0, 3.0)
    assert frame.cards[0].startswith("SIMPLE  =")
    assert not any(card.startswith(("XTENSION", "EXTNAME", "PCOUNT")) for card in frame.cards)
    assert np.array_equal(adu(FitsStack((frame,)))[0], frame_values())


def read_anyhow(path: Path, directory: Path) -> NDArray[np.generic]:
    """Inspect a file, unpack it where it is packed, and read it."""
    return adu(FitsStack((unpack(inspect_fits(path), directory),)))[0]


AMPLIFIERS = [(f"im{number}", frame_values() + np.uint16(number)) for number in range(1, 5)]


@pytest.mark.parametrize("packing", ["none", "gzip", "fz"])
def test_a_file_of_several_frames_gives_each_by_its_name(tmp_path: Path, packing: str) -> None:
    path = write_images(tmp_path / "a.fits", *AMPLIFIERS, IMAGETYP="DARK", EXPTIME=3.0)
    if packing == "gzip":
        path = gzipped(path)
    elif packing == "fz":
        path = path.with_name("a.fits.fz")
        images = [fits.CompImageHDU(values, name=name) for name, values in AMPLIFIERS]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    (tmp_path / "plain").mkdir()
    found = inspect_images(path)
    assert [image.label for image in found] == [f"{path}[IM{number}]" for number in range(1, 5)]
    for image, (_, values) in zip(found, AMPLIFIERS, strict=True):
        assert np.array_equal(adu(FitsStack((unpack(image, tmp_path / "plain"),)))[0], values)


@pytest.mark.parametrize("packing", ["none", "gzip", "fz"])
def test_a_file_of_several_frames_is_refused_where_one_is_needed(tmp_path: Path, packing: str) -> None:
    path = write_images(tmp_path / "a.fits", *AMPLIFIERS, IMAGETYP="DARK")
    if packing == "gzip":
        path = gzipped(path)
    elif packing == "fz":
        path = path.with_name("a.fits.fz")
        images = [fits.CompImageHDU(values, name=name) for name, values in AMPLIFIERS]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    with pytest.raises(
        FrameError, match=r"holds 4 images \(IM1, IM2, IM3, IM4\).*split it into files of one image each"
    ):
        read_anyhow(path, tmp_path)
    assert str(inspect_fits(path, first_of_several=True).source) == str(path)


@pytest.mark.parametrize("is_gzip", [False, True])
def test_frames_without_a_name_count_too(tmp_path: Path, is_gzip: bool) -> None:
    path = write_images(tmp_path / "a.fits", ("", frame_values()), primary=frame_values())
    path = gzipped(path) if is_gzip else path
    with pytest.raises(FrameError, match=r"a\.fits.*holds 2 images \(0, 1\)"):
        read_anyhow(path, tmp_path)
    many = write_images(tmp_path / "b.fits", *[("SCI", frame_values())] * 12)
    with pytest.raises(FrameError, match=r"holds 12 images .*SCI,1, SCI,2, SCI,3.* and 4 more"):
        inspect_fits(many)


@pytest.mark.parametrize("is_gzip", [False, True])
@pytest.mark.parametrize(
    "names",
    [["BPM"], ["MASK", "UNCERT"], ["ERR", "DQ"], ["UNCERT", "NUSED", "DQ"], ["mask_1", "Preview"], ["im1_var2"]],
)
@pytest.mark.parametrize("in_primary", [True, False])
def test_images_about_a_frame_are_no_frames(tmp_path: Path, names: list[str], is_gzip: bool, in_primary: bool) -> None:
    about = [(name, np.zeros_like(frame_values(), np.uint8)) for name in names]
    science = [] if in_primary else [("SCI", frame_values())]
    primary = frame_values() if in_primary else None
    for order, images in enumerate([[*science, *about], [*about, *science]]):
        path = write_images(tmp_path / f"{order}.fits", *images, primary=primary, IMAGETYP="DARK")
        path = gzipped(path) if is_gzip else path
        assert np.array_equal(read_anyhow(path, tmp_path), frame_values())


@pytest.mark.parametrize("is_gzip", [False, True])
def test_tables_and_empty_images_beside_a_frame_are_passed_over(tmp_path: Path, is_gzip: bool) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(5))], name="CAT")
    others = [table, fits.ImageHDU(name="NOTHING"), fits.ImageHDU(np.zeros(40), name="SPECTRUM")]
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(frame_values()), *others]).writeto(path)
    assert np.array_equal(read_anyhow(gzipped(path) if is_gzip else path, tmp_path), frame_values())


def test_one_image_is_the_frame_whatever_it_is_called(tmp_path: Path) -> None:
    path = write_images(tmp_path / "a.fits", ("MASK", frame_values()))
    assert np.array_equal(read_anyhow(path, tmp_path), frame_values())


@pytest.mark.parametrize("is_gzip", [False, True])
def test_damage_behind_the_frame_costs_nothing(tmp_path: Path, is_gzip: bool) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values())
    path.write_bytes(path.read_bytes() + b"XTENSION= 'IMAGE   '".ljust(1000))
    assert np.array_equal(read_anyhow(gzipped(path) if is_gzip else path, tmp_path), frame_values())


@pytest.mark.parametrize("shape", [(1, 5, 7), (5, 7, 1), (1, 1, 5, 7), (5, 1, 7), (1, 5, 1, 7, 1)])
def test_axes_of_one_are_dropped_wherever_they_stand(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(35, dtype=np.int16).reshape(shape)
    frame = inspect_fits(write_stored(tmp_path / "a.fits", values))
    assert (frame.height, frame.width) == (5, 7)
    assert np.array_equal(adu(FitsStack((frame,)))[0], values.reshape(5, 7))


def test_a_row_and_a_column_are_images_too(tmp_path: Path) -> None:
    for name, shape in (("a", (1, 9)), ("b", (9, 1)), ("c", (1, 1)), ("d", (1, 1, 9))):
        frame = inspect_fits(write_stored(tmp_path / f"{name}.fits", np.ones(shape, np.int16)))
        assert (frame.height, frame.width) == shape[-2:]


def broken_files(directory: Path) -> dict[str, tuple[Path, str]]:
    """Make one file of each kind of damage, with what must be said of it."""
    good = write_frame(directory / "good.fits", frame_values(), EXPTIME=1.0).read_bytes()
    made: dict[str, tuple[Path, str]] = {}

    def add(name: str, data: bytes, text: str, ending: str = ".fits") -> None:
        path = directory / f"{name}{ending}"
        path.write_bytes(data)
        made[name] = (path, text)

    def header(**cards: object) -> bytes:
        return header_block(16, (37, 53), **cards)

    add("empty", b"", "is empty")
    add("text", b"this is not a FITS file" * 500, "no FITS file")
    add("short_text", b"hello", "no FITS file")
    add("cut_in_header", good[:200], "cut short inside its header")
    add("cut_in_data", good[: 2880 + 3000], "is cut short: 5880 bytes are there of 6802")
    add("one_byte_missing", good[: 2880 + 37 * 53 * 2 - 1], "is cut short")
    add("no_end", good[:80] + b" " * 3_000_000, "no END")
    add("colour", header_block(16, (3, 37, 53)) + bytes(40 * 2880), "3 axes (53 x 37 x 3)")
    add("no_axes", header_block(16, ()), "no image of two axes")
    add("one_axis", header_block(16, (37,)) + bytes(2880), "no image of two axes")
    add("zero_axis", header_block(16, (0, 37)), "no image of two axes")
    add("huge", header_block(16, (2**20, 2**20)) + bytes(2880), "more than 2^31")
    add("absurd", header_block(16, (2**62, 2**62, 2**62)) + bytes(2880), "NAXIS1 is no length")
    add("large", header_block(16, (2**15, 2**15)) + bytes(2880), "is cut short")
    add("bitpix", header_block(17, (37, 53)) + bytes(2880 * 2), "BITPIX is 17")
    add("bzero", header(BZERO="many") + bytes(2880 * 2), "BZERO is 'many', not a number")
    add("bscale", header(BSCALE=0.0) + bytes(2880 * 2), "BSCALE 0")
    add("naxis", good.replace(b"NAXIS   =                    2", b"NAXIS   =                    x", 1), "NAXIS is 'x'")
    add("bad_gzip", b"\x1f\x8b" + b"nonsense" * 100, "cannot be read", ".fits.gz")
    add("cut_gzip", gzip.compress(good)[:60], "cannot be read", ".fits.gz")
    add("gzip_of_text", gzip.compress(b"hello" * 1000), "no FITS file", ".fits.gz")
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2])])
    table.writeto(directory / "table.fits")
    made["table"] = (directory / "table.fits", "no image of two axes")
    (directory / "directory.fits").mkdir()
    made["directory"] = (directory / "directory.fits", "is not a file")
    made["absent"] = (directory / "absent.fits", "cannot be read: No such file")
    return made


def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path: Path) -> None:
    for name, (path, text) in broken_files(tmp_path).items():
        with pytest.raises(FrameError) as caught:
            pytest.fail(f"{name} was taken: {inspect_fits(path)}")
        message = str(caught.value)
        assert message.startswith(f"{path}: "), name
        assert text in message, name
        assert "\n" not in message, name


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values())
    path.chmod(0)
    with pytest.raises(FrameError, match="cannot be read: Permission denied"):
        inspect_fits(path)


def test_missing_padding_is_no_damage(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values())
    path.write_bytes(path.read_bytes()[: 2880 + 37 * 53 * 2])
    assert np.array_equal(adu(FitsStack((inspect_fits(path),)))[0], frame_values())


def test_rubbish_behind_the_image_is_no_damage(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values())
    path.write_bytes(path.read_bytes() + b"rubbish" * 100)
    assert np.array_equal(adu(FitsStack((inspect_fits(path),)))[0], frame_values())


@given(data=st.data())
def test_mutated_files_are_read_or_refused_with_a_frame_error(data: st.DataObject) -> None:
    good = header_block(16, (5, 7), BZERO=32768, EXPTIME=1.0, **{"DATE-OBS": "2025-06-02T03:21:41"})
    mutated = bytearray(good + data_block(np.zeros((5, 7), np.int16)))
    for _ in range(data.draw(st.integers(1, 8))):
        card = data.draw(st.integers(0, 9)) * 80
        position = card + data.draw(st.integers(0, 40))
        mutated[position] = data.draw(st.one_of(st.sampled_from(b"0123456789-. 'EDTF=/&"), st.integers(0, 255)))
    length = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.fits")
        content = bytes(mutated[:length])
        path.write_bytes(gzip.compress(content) if data.draw(st.booleans()) else content)
        try:
            frame = unpack(inspect_fits(path), directory)
            fingerprint(frame)
        except FrameError as error:
            assert str(path) in str(error)  # noqa: PT017


@given(noise=st.binary(max_size=6000), is_fits=st.booleans())
def test_noise_is_refused(noise: bytes, is_fits: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.fits")
        path.write_bytes((b"SIMPLE  =                    T".ljust(80) if is_fits else b"") + noise)
        with pytest.raises(FrameError):
            inspect_fits(path)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


CODINGS = [
    ("uint16", np.int16, {"BZERO": 32768, "BSCALE": 1}, SampleEncoding(dtype="uint16", sign_flipped=True)),
    ("int16", np.int16, {}, SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32768)),
    ("shifted", np.int16, {"BZERO": 100.0}, SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32668)),
    ("uint8", np.uint8, {}, SampleEncoding(dtype="uint16")),
    ("int8", np.uint8, {"BZERO": -128}, SampleEncoding(dtype="uint16", zero_adu=-128)),
    ("fraction", np.int16, {"BZERO": 0.5}, SampleEncoding(dtype="float64")),
    ("scaled", np.int16, {"BSCALE": 0.25, "BZERO": 10.0}, SampleEncoding(dtype="float64")),
    ("blank", np.int16, {"BLANK": 7}, SampleEncoding(dtype="float64")),
    ("impossible blank", np.uint8, {"BLANK": 999}, SampleEncoding(dtype="uint16")),
    ("int32", np.int32, {}, SampleEncoding(dtype="float64")),
    ("uint32", np.int32, {"BZERO": 2147483648}, SampleEncoding(dtype="float64")),
    ("int64", np.int64, {}, SampleEncoding(dtype="float64")),
    ("float32", np.float32, {}, SampleEncoding(dtype="float32")),
    ("scaled float32", np.float32, {"BSCALE": 2.0}, SampleEncoding(dtype="float64")),
    ("float64", np.float64, {}, SampleEncoding(dtype="float64")),
]


def stored_values(dtype: type[np.generic], *, seed: int = 0, shape: tuple[int, int] = (11, 13)) -> NDArray[np.generic]:
    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        values = generator.normal(1000, 10, shape).astype(dtype)
        values.flat[3] = np.nan
        return values
    limits = np.iinfo(dtype)
    bound = min(int(limits.max), 2**40)
    values = generator.integers(max(int(limits.min), -bound), bound, shape).astype(dtype)
    values.flat[:3] = [limits.min, limits.max, 7] if dtype is not np.int64 else [0, 1, 7]
    return values


@pytest.mark.parametrize(
    ("cards", "dtype", "expected"), [(c, d, e) for _, d, c, e in CODINGS], ids=[c[0] for c in CODINGS]
)
def test_samples_of_every_coding_become_the_right_adu(
    tmp_path: Path, cards: dict[str, object], dtype: type[np.generic], expected: SampleEncoding
) -> None:
    stored = [stored_values(dtype, seed=seed) for seed in range(3)]
    frames = [inspect_fits(write_stored(tmp_path / f"{n}.fits", values, **cards)) for n, values in enumerate(stored)]
    stack = FitsStack(tuple(frames))
    swapped = sys.byteorder == "little" and expected.sign_flipped
    assert (stack.encoding, stack.encoding.byte_swapped) == (
        SampleEncoding(**{**vars(expected), "byte_swapped": swapped}),
        swapped,
    )
    values = np.array(stored, np.float64) * float(cards.get("BSCALE", 1)) + float(cards.get("BZERO", 0))
    if cards.get("BLANK") == 7:
        values[np.array(stored) == 7] = np.nan
        assert np.isnan(values).any()
    assert np.array_equal(adu(stack), values, equal_nan=True)
    assert np.array_equal(adu(stack, 4, 9), values[:, 4:9], equal_nan=True)


def test_frames_of_different_codings_are_read_as_float64(tmp_path: Path) -> None:
    a = write_stored(tmp_path / "a.fits", np.array([[1, 2], [3, -4]], np.int16))
    b = write_stored(tmp_path / "b.fits", np.array([[1, 2], [3, -4]], np.int16), BZERO=32768)
    c = write_stored(tmp_path / "c.fits", np.array([[0.5, 2], [3, np.nan]], np.float32))
    stack = FitsStack(tuple(inspect_fits(path) for path in (a, b, c)))
    assert stack.encoding == SampleEncoding(dtype="float64")
    expected = [[[1, 2], [3, -4]], [[32769, 32770], [32771, 32764]], [[0.5, 2], [3, np.nan]]]
    assert np.array_equal(adu(stack), expected, equal_nan=True)


@given(
    values=st.sampled_from([np.uint16, np.int16, np.uint8, np.int32, np.float32, np.float64]),
    height=st.integers(1, 9), width=st.integers(1, 9), start=st.integers(0, 8), rows=st.integers(0, 9),
)  # fmt: skip
def test_every_strip_is_what_astropy_reads(
    values: type[np.generic], height: int, width: int, start: int, rows: int
) -> None:
    start = min(start, height)
    stop = min(start + rows, height)
    data = np.random.default_rng(height * 100 + width).integers(0, 200, (height, width)).astype(values)
    with tempfile.TemporaryDirectory() as directory:
        path = write_frame(Path(directory, "a.fits"), data)
        read = adu(FitsStack((inspect_fits(path),)), start, stop)
    assert np.array_equal(read[0], data[start:stop])


def test_a_block_that_is_a_slice_of_another_is_filled_in_place(tmp_path: Path) -> None:
    for dtype in (np.uint16, np.float32, np.int32, np.uint8):
        values = frame_values().astype(dtype)
        frame = inspect_fits(write_frame(tmp_path / f"{np.dtype(dtype)}.fits", values))
        stack = FitsStack((frame, frame))
        large = np.zeros((2, 20, 53 * 2), stack.encoding.dtype)
        stack.read_rows(30, 37, large[:, 3:10, ::2])
        assert np.array_equal(stack.encoding.decode(large[:, 3:10, ::2].copy())[1], values[30:37])
        assert not large[:, 3:10, 1::2].any()
        assert not large[:, 10:].any()


def test_a_stack_is_small_picklable_and_selects(tmp_path: Path) -> None:
    paths = [write_frame(tmp_path / f"{n}.fits", frame_values(seed=n), HISTORY="x" * 5000) for n in range(4)]
    stack = FitsStack(tuple(inspect_fits(path) for path in paths))
    data = pickle.dumps(stack)
    assert len(data) < 4 * (150 + len(str(tmp_path))) + 600
    again = pickle.loads(data)
    assert again == stack
    assert (again.shape, again.row_step, again.encoding) == ((4, 37, 53), 1, stack.encoding)
    assert np.array_equal(adu(again.select([3, 1])), np.array([frame_values(seed=3), frame_values(seed=1)]))
    frame = inspect_fits(paths[0])
    assert pickle.loads(pickle.dumps(frame)) == frame


def test_frames_of_another_size_or_packed_make_no_stack(tmp_path: Path) -> None:
    a = inspect_fits(write_frame(tmp_path / "a.fits", frame_values()))
    b = inspect_fits(write_frame(tmp_path / "b.fits", frame_values((37, 52))))
    with pytest.raises(FrameError, match=r"b\.fits: is 52 x 37, the others are 53 x 37"):
        FitsStack((a, b))
    with pytest.raises(FrameError, match="must be unpacked"):
        FitsStack((inspect_fits(gzipped(tmp_path / "a.fits")),))
    with pytest.raises(ValueError, match="at least one frame"):
        FitsStack(())


def test_a_file_that_was_cut_or_removed_meanwhile_is_named(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values())
    stack = FitsStack((inspect_fits(path),))
    path.write_bytes(path.read_bytes()[:4000])
    assert adu(stack, 0, 5).shape == (1, 5, 53)
    with pytest.raises(FrameError, match=r"a\.fits: ends \d+ bytes too early"):
        adu(stack)
    path.unlink()
    with pytest.raises(FrameError, match=r"a\.fits: cannot be read: No such file"):
        adu(stack)


def test_blocks_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    stack = FitsStack((inspect_fits(write_frame(tmp_path / "a.fits", frame_values())),))
    for start, stop, block in [
        (0, 38, np.empty((1, 38, 53), np.uint16)),
        (-1, 3, np.empty((1, 4, 53), np.uint16)),
        (0, 4, np.empty((1, 3, 53), np.uint16)),
        (0, 4, np.empty((1, 4, 53), np.float32)),
    ]:
        with pytest.raises(ValueError, match="block"):
            stack.read_rows(start, stop, block)


def test_copies_have_one_fingerprint_and_other_frames_others(tmp_path: Path) -> None:
    values = frame_values()
    one = inspect_fits(write_frame(tmp_path / "a.fits", values, EXPTIME=1.0))
    same = [
        inspect_fits(write_frame(tmp_path / "b.fits", values, EXPTIME=2.0)),
        inspect_fits(write_frame(tmp_path / "c.fits", values.astype(np.float64))),
        inspect_fits(write_frame(tmp_path / "d.fits", values.astype(np.int32))),
    ]
    assert {fingerprint(frame) for frame in same} == {fingerprint(one)}
    other = values.copy()
    other[37 // 2, 10] += 1
    assert fingerprint(inspect_fits(write_frame(tmp_path / "e.fits", other))) != fingerprint(one)


# ---------------------------------------------------------------------------------------------------------------------
# Packed files


def assert_same_but_for_the_file(unpacked: FitsFrame, packed: FitsFrame) -> None:
    assert (unpacked.packed, unpacked.source, unpacked.metadata) == ("none", packed.source, packed.metadata)
    assert unpacked.cards == packed.cards
    assert inspect_fits(unpacked.path).cards == packed.cards


def test_a_gzip_file_unpacks_to_the_same_bytes(tmp_path: Path) -> None:
    plain = write_frame(tmp_path / "dark_1.fits", frame_values((900, 1300)), IMAGETYP="DARK", EXPTIME=3.0)
    packed = inspect_fits(gzipped(plain))
    assert (packed.packed, packed.metadata) == ("gzip", inspect_fits(plain).metadata)
    unpacked = unpack(packed, tmp_path)
    assert Path(unpacked.path).read_bytes() == plain.read_bytes()
    assert_same_but_for_the_file(unpacked, packed)
    assert unpack(unpacked, tmp_path) is unpacked


def test_files_of_one_name_in_two_directories_unpack_side_by_side(tmp_path: Path) -> None:
    frames = []
    for number in (1, 2):
        directory = tmp_path / str(number)
        directory.mkdir()
        frames.append(inspect_fits(gzipped(write_frame(directory / "a.fits", frame_values(seed=number)))))
    unpacked = [unpack(frame, tmp_path) for frame in frames]
    assert np.array_equal(adu(FitsStack(tuple(unpacked))), np.array([frame_values(seed=1), frame_values(seed=2)]))


def test_a_gzipped_extension_unpacks_to_a_primary_image(tmp_path: Path) -> None:
    path = write_extension(tmp_path / "a.fits", frame_values(), primary={"IMAGETYP": "FLAT"}, own={"EXPTIME": 1.5})
    packed = inspect_fits(gzipped(path))
    unpacked = unpack(packed, tmp_path)
    assert np.array_equal(truth(unpacked.path), frame_values())
    assert_same_but_for_the_file(unpacked, packed)


TILE_KINDS = [
    (kind, dtype)
    for kind in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")
    for dtype in (np.uint16, np.int16, np.int32, np.uint8)
    if (kind, dtype) != ("PLIO_1", np.uint16)  # PLIO stores no negative samples, which BZERO makes of these
]


@pytest.mark.parametrize(("kind", "dtype"), TILE_KINDS)
def test_tile_compressed_integers_unpack_exactly(
    tmp_path: Path, tiles: TileReader, kind: str, dtype: type[np.generic]
) -> None:
    values = (frame_values((40, 60)) >> 4).astype(np.uint8 if dtype is np.uint8 else dtype)
    path = tile_compressed(tmp_path / "a.fits.fz", values, kind, IMAGETYP="DARK", EXPTIME=7.5, DATE_OBS="2025-06-02")
    packed = inspect_fits(path)
    assert (packed.packed, packed.height, packed.width) == ("fz", 40, 60)
    assert (packed.metadata.frame_type, packed.metadata.exposure_time_s) == (FrameType.DARK, 7.5)
    assert not any(card.startswith(("Z", "TFORM", "TTYPE", "XTENSION")) for card in packed.cards)
    unpacked = unpack(packed, tmp_path, tiles)
    assert np.array_equal(truth(unpacked.path), values)
    assert np.array_equal(adu(FitsStack((unpacked,)))[0], values)
    assert_same_but_for_the_file(unpacked, packed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tile_compressed_floats_unpack_to_what_astropy_reads(tmp_path: Path, dtype: type[np.generic]) -> None:
    values = np.random.default_rng(0).normal(100, 5, (40, 60)).astype(dtype)
    values[3, 4] = np.nan
    path = tile_compressed(tmp_path / "a.fits.fz", values, "RICE_1")
    unpacked = unpack(inspect_fits(path), tmp_path)
    assert np.array_equal(adu(FitsStack((unpacked,)))[0], truth(path, 1), equal_nan=True)


def test_an_image_of_many_strips_unpacks(tmp_path: Path) -> None:
    values = (np.arange(2100 * 1100, dtype=np.int64) % 60000).astype(np.uint16).reshape(2100, 1100)
    unpacked = unpack(inspect_fits(tile_compressed(tmp_path / "a.fits.fz", values)), tmp_path)
    assert np.array_equal(adu(FitsStack((unpacked,)))[0], values)


def test_a_compressed_image_with_an_axis_of_one_unpacks(tmp_path: Path) -> None:
    values = frame_values().astype(np.int32)[np.newaxis]
    unpacked = unpack(inspect_fits(tile_compressed(tmp_path / "a.fits.fz", values)), tmp_path)
    assert np.array_equal(adu(FitsStack((unpacked,)))[0], values[0])


def test_a_file_compressed_twice_is_refused(tmp_path: Path) -> None:
    path = gzipped(tile_compressed(tmp_path / "a.fits.fz", frame_values()))
    with pytest.raises(FrameError, match="compressed twice"):
        inspect_fits(path)


@pytest.mark.parametrize("damage", ["cut", "cut at the end", "flipped", "data end too early"])
def test_a_damaged_gzip_file_leaves_nothing_behind(tmp_path: Path, damage: str) -> None:
    plain = write_frame(tmp_path / "a.fits", frame_values((300, 400)))
    data = bytearray(gzip.compress(plain.read_bytes()))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "cut at the end":
        del data[-9:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 0x40
    else:
        data = bytearray(gzip.compress(plain.read_bytes()[:50000]))
    path = tmp_path / "b.fits.gz"
    path.write_bytes(data)
    frame = inspect_fits(path)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(FrameError, match=r"b\.fits\.gz: "):
        unpack(frame, tmp_path / "scratch")
    assert os.listdir(tmp_path / "scratch") == []


def test_a_gzip_file_that_never_ends_is_unpacked_only_as_far_as_its_header_says(tmp_path: Path) -> None:
    plain = write_frame(tmp_path / "a.fits", frame_values())
    path = tmp_path / "bomb.fits.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(plain.read_bytes())
        for _ in range(64):
            packed.write(bytes(2**20))
    unpacked = unpack(inspect_fits(path), tmp_path)
    assert Path(unpacked.path).read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
@pytest.mark.parametrize("is_table", [True, False], ids=["row pointers", "tiles"])
def test_damaged_tiles_are_refused_or_unpacked_but_never_break_the_run(
    tmp_path: Path, tiles: TileReader, kind: str, is_table: bool
) -> None:
    path = tile_compressed(tmp_path / "a.fits.fz", frame_values((32, 30)), kind)
    good = path.read_bytes()
    with fits.open(path, disable_image_compression=True) as hdus:
        start = hdus[1]._data_offset
        end = start + hdus[1].header["NAXIS1"] * hdus[1].header["NAXIS2"]
        start, end = (start, end) if is_table else (end, end + hdus[1].header["PCOUNT"])
    generator = np.random.default_rng(0)
    n_refused = 0
    for _ in range(amount(20)):
        damaged = np.frombuffer(good, np.uint8).copy()
        damaged[generator.integers(start, end, 3)] = generator.integers(0, 128, 3)
        path.write_bytes(damaged.tobytes())
        try:
            unpack(inspect_fits(path), tmp_path, tiles)
        except FrameError as error:
            n_refused += 1
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
    assert n_refused > 0 or not is_table


# ---------------------------------------------------------------------------------------------------------------------
# Real frames


def test_real_frames_read_as_astropy_reads_them(shared_data: Path) -> None:
    paths = find_fits([shared_data])
    assert len(paths) > 90
    for path in paths:
        with fits.open(path) as hdus:
            expected = hdus[0].data
        assert np.array_equal(adu(FitsStack((inspect_fits(path),)))[0], expected), path


def test_real_frames_say_what_their_readme_says(shared_data: Path) -> None:
    found = {str(Path(p).relative_to(shared_data)): inspect_fits(p).metadata for p in find_fits([shared_data])}

    def of(folder: str, kind: FrameType, exposure_time_s: float | None = None) -> int:
        of_kind = [m for name, m in found.items() if Path(name).is_relative_to(folder) and m.frame_type is kind]
        return sum(exposure_time_s in (None, m.exposure_time_s) for m in of_kind)

    assert of("arcsat", FrameType.BIAS) == of("arcsat", FrameType.DARK, 60.0) == of("arcsat", FrameType.FLAT) == 5
    assert [of("st402/raw", FrameType.DARK, s) for s in (240.0, 360.0, 1200.0)] == [5, 5, 5]
    assert [of("st402/raw", FrameType.FLAT, s) for s in (360.0, 180.0)] == [4, 5]
    assert of("st402/lab0_3x3_raw", FrameType.FLAT, 150.0) == 10
    assert [of("atik", FrameType.DARK, s) for s in (1.0, 8.0, 300.0)] == [3, 3, 3]
    assert of("atik", FrameType.DARK, 10.0) == 4  # one of them is a picture of the sky that says 'Dark Frame'
    assert (of("atik", FrameType.BIAS), of("atik", FrameType.FLAT, 1.0)) == (3, 3)
    subtracted = [m.exposure_time_s for m in found.values() if m.dark_subtracted and m.frame_type is FrameType.FLAT]
    # only the first of each series: CCDSoft marks the frame for which it took the dark, and not those after it
    assert sorted(subtracted) == [150.0, 180.0]


def test_the_header_of_a_frame_is_enough_for_its_metadata(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "x.fits", frame_values(), IMAGETYP="FLAT", EXPTIME=1.0, FILTER="B")
    frame = inspect_fits(path)
    again = metadata_from_header(Header(frame.cards), width=frame.width, height=frame.height, path=str(path))
    assert again == frame.metadata
