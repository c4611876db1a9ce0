"""XISF files against files written by hand by the specification, and against those of another program's writer."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xisf import XISF

from ostcal.errors import FrameError
from ostcal.fits.read import FitsFrame, FitsStack, fingerprint, inspect_fits, inspect_images, search_fits
from ostcal.fits.unpack import unpack
from ostcal.frames import FrameType, read_adu
from support.fits_samples import frame_values, write_frame
from support.xisf_samples import CODECS, XisfSample, write_xisf

SHAPE = (37, 53)
DTYPES = ("u1", "u2", "u4", "f4", "f8")
DARK = {"IMAGETYP": "'Dark Frame'", "EXPTIME": "30."}


def values_of(dtype: str, shape: tuple[int, int] = SHAPE) -> NDArray[Any]:
    """Return values over the whole range of a type, with both ends among them; neighbours alike, so that they pack."""
    rng = np.random.default_rng(3)
    if dtype[0] == "f":
        return (rng.normal(1000, 5, shape) / 7).astype(dtype)
    top = np.iinfo(dtype).max
    values = (top // 2 + rng.integers(0, 40, shape)).astype(dtype)
    values.flat[0], values.flat[-1] = 0, top
    return values


def read(frame: FitsFrame, folder: Path) -> NDArray[Any]:
    """Read a frame, unpacked where it has to be."""
    plain = unpack(frame, folder)
    assert plain.is_ready
    return read_adu(FitsStack((plain,)), 0, frame.height)[0]


@pytest.mark.parametrize("place", ["attachment", "inline:base64", "inline:hex", "embedded:base64"])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_samples_of_every_type_and_place(tmp_path: Path, dtype: str, big_endian: bool, place: str) -> None:
    values = values_of(dtype, (7, 9))
    path = write_xisf(tmp_path / "a.xisf", values, keywords=DARK, big_endian=big_endian, place=place)
    frame = inspect_fits(path)
    assert frame.packed == ("none" if place == "attachment" else "xisf")
    assert np.array_equal(read(frame, tmp_path), values)


@pytest.mark.parametrize("subblock", [0, 600, 601])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_codec_shuffled_or_not_in_subblocks_or_not(
    tmp_path: Path, dtype: str, codec: str, shuffled: bool, subblock: int
) -> None:
    values = values_of(dtype)
    path = write_xisf(
        tmp_path / "a.xisf", values, codec=codec, shuffled=shuffled, subblock=subblock, checksum="sha-1", keywords=DARK
    )
    frame = inspect_fits(path)
    assert frame.packed == "xisf"
    assert np.array_equal(read(frame, tmp_path), values)


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_another_writer(tmp_path: Path, dtype: str, codec: str | None, shuffle: bool) -> None:
    path, values = tmp_path / "a.xisf", values_of(dtype)
    said = {"IMAGETYP": [{"value": "Dark Frame", "comment": "kind"}], "EXPTIME": [{"value": "30.0", "comment": "s"}]}
    XISF.write(str(path), values[..., None], codec=codec, shuffle=shuffle, image_metadata={"FITSKeywords": said})
    frame = inspect_fits(path)
    assert (frame.metadata.frame_type, frame.metadata.exposure_time_s) == (FrameType.DARK, 30.0)
    assert np.array_equal(read(frame, tmp_path), values)


def test_rows_of_plain_words_are_read_in_place_alone_and_beside_fits(tmp_path: Path) -> None:
    one, two = frame_values(SHAPE, seed=1), frame_values(SHAPE, seed=2)
    xisf = inspect_fits(write_xisf(tmp_path / "a.xisf", one, keywords=DARK))
    fits = inspect_fits(write_frame(tmp_path / "b.fits", two, IMAGETYP="Dark Frame"))
    alone, mixed = FitsStack((xisf,)), FitsStack((xisf, fits))
    assert alone.encoding.dtype == mixed.encoding.dtype == "uint16"
    for stack in (alone, mixed, mixed.select([1, 0])):
        block = np.empty((stack.shape[0], 9, SHAPE[1]), np.uint16)
        with stack.opened(4, 13) as reader:
            reader.read_rows(4, 13, block)
        assert np.array_equal(stack.encoding.decode(block), read_adu(stack, 4, 13))
    assert np.array_equal(read_adu(mixed, 4, 13), np.stack([one, two])[:, 4:13])
    same = inspect_fits(write_frame(tmp_path / "c.fits", one, IMAGETYP="Dark Frame"))
    assert fingerprint(xisf) == fingerprint(same)


def test_keywords_properties_and_attributes_say_what_the_frame_is(tmp_path: Path) -> None:
    path = write_xisf(
        tmp_path / "a.xisf",
        values_of("u2"),
        keywords={
            "GAIN": "100", "OBJECT": "'M 31''s core'", "BZERO": "32768", "NAXIS1": "9", "CCD-TEMP": "-9.9",
        },
        properties={
            "Instrument:ExposureTime": "120", "Instrument:Camera:Name": "ZWO ASI2600", "Instrument:Filter:Name": "Ha",
            "Instrument:Camera:Gain": "0.246", "Instrument:Sensor:Temperature": "-5", "Instrument:Camera:XBinning": "2",
            "Instrument:Camera:YBinning": "2", "Observation:Time:Start": "2026-11-21T20:00:01.5Z",
            "Instrument:Sensor:XPixelSize": "3.76", "Observation:Location:Longitude": "-17.88",
            "Observation:Location:Latitude": "28.76",
        },
        attributes={"imageType": "Flat", "id": "flat_1"},
        inside='<ColorFilterArray pattern="GRBG" width="2" height="2" name="x"/><Thumbnail geometry="9:9:3"/>',
    )  # fmt: skip
    metadata = inspect_fits(path).metadata
    settings = metadata.settings
    assert (metadata.frame_type, metadata.exposure_time_s, metadata.filter_name) == (FrameType.FLAT, 120.0, "Ha")
    assert (settings.camera, settings.gain, settings.binning, settings.extension) == (
        "ZWO ASI2600",
        100.0,
        (2, 2),
        None,
    )
    assert (metadata.bayer_pattern, metadata.ccd_temperature_c) == ("GRBG", -9.9)  # keywords before properties
    assert metadata.date_obs is not None
    assert metadata.date_obs.isoformat() == "2026-11-21T20:00:01.500000+00:00"
    assert metadata.pixel_size_um == (3.76, 3.76)
    assert metadata.longitude_deg == pytest.approx(-17.88)
    assert not metadata.unreadable


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Bias", FrameType.BIAS), ("Dark", FrameType.DARK), ("Flat", FrameType.FLAT), ("Light", FrameType.LIGHT)],
)
def test_image_types(tmp_path: Path, name: str, kind: FrameType) -> None:
    frame = inspect_fits(write_xisf(tmp_path / "a.xisf", values_of("u2"), attributes={"imageType": name}))
    assert (frame.metadata.frame_type, frame.metadata.is_master) == (kind, False)
    master = write_xisf(tmp_path / "b.xisf", values_of("f4"), attributes={"imageType": f"Master{name}"})
    assert inspect_fits(master).metadata.is_master


def test_several_images_are_extensions_and_those_about_others_are_named(tmp_path: Path) -> None:
    samples = [
        XisfSample(values=values_of("u2"), keywords=DARK, attributes={"id": "amp1"}),
        XisfSample(values=values_of("f4"), attributes={"id": "rejection_low"}),
        XisfSample(
            values=values_of("u2", (5, 8)), keywords=DARK, attributes={"id": "amp2"}, codec="zlib", shuffled=True
        ),
    ]
    images = inspect_images(write_xisf(tmp_path / "a.xisf", samples))
    assert [image.extension for image in images] == ["amp1", "amp2"]
    assert {image.unused for image in images} == {("rejection_low",)}
    for image, sample in zip(images, (samples[0], samples[2]), strict=True):
        assert np.array_equal(read(image, tmp_path), sample.values)


@pytest.mark.parametrize("algorithm", ["sha-1", "sha-256", "sha-512"])
@pytest.mark.parametrize("codec", ["", "lz4"])
def test_damaged_samples_do_not_fit_their_checksum(tmp_path: Path, codec: str, algorithm: str) -> None:
    path = write_xisf(tmp_path / "a.xisf", values_of("u2"), codec=codec, checksum=algorithm, keywords=DARK)
    frame = inspect_fits(path)
    assert not frame.is_ready
    assert np.array_equal(read(frame, tmp_path), values_of("u2"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 4
    path.write_bytes(data)
    with pytest.raises(FrameError, match=r"a\.xisf: its samples do not fit their checksum"):
        unpack(inspect_fits(path), tmp_path)


def test_a_checksum_of_an_unknown_kind_is_said(tmp_path: Path) -> None:
    path = write_xisf(tmp_path / "a.xisf", values_of("u2"), attributes={"checksum": "md5:00"}, keywords=DARK)
    assert inspect_fits(path).metadata.remarks == ("its checksum 'md5' is of a kind that is not known: not compared",)


PLAIN = 37 * 53 * 2


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"geometry": "53:37:3"}, "3 channels"),
        ({"geometry": "53:37"}, ""),
        ({"geometry": "53"}, "no image of two axes"),
        ({"geometry": "0:37:1"}, "no image of two axes"),
        ({"geometry": "53:-37:1"}, "no valid number"),
        ({"geometry": "53000:3700000:1"}, "more than 2.31"),
        ({"geometry": "530:370:1"}, "its size needs 392200"),
        ({"geometry": None}, "no valid number"),
        ({"sampleFormat": "UInt64"}, "sampleFormat is 'UInt64'"),
        ({"sampleFormat": "Complex32"}, "sampleFormat is 'Complex32'"),
        ({"sampleFormat": "UInt32"}, "its size needs"),
        ({"location": "attachment:16:3922"}, "inside of the header"),
        ({"location": "attachment:4096:99999999999"}, "is cut short"),
        ({"location": "attachment:4096:392"}, "has 392 bytes of samples"),
        ({"location": "attachment:4096"}, "inside of the header"),
        ({"location": "url(http://x/y)"}, "lie elsewhere"),
        ({"location": "path(/etc/passwd)"}, "lie elsewhere"),
        ({"location": None}, "lie elsewhere"),
        ({"location": "inline:base85"}, "none of base64"),
        ({"location": "inline:base64"}, "has 0 bytes"),
        ({"location": "embedded"}, "not there"),
        ({"compression": f"brotli:{PLAIN}"}, "compression 'brotli' is not known"),
        ({"compression": f"zlib+xx:{PLAIN}"}, "is not known"),
        ({"compression": "zlib"}, "incomplete"),
        ({"compression": f"zlib+sh:{PLAIN}"}, "incomplete"),
        ({"compression": f"zlib+sh:{PLAIN}:0"}, "incomplete"),
        ({"compression": f"zlib+sh:{PLAIN}:99"}, "incomplete"),
        ({"compression": "zlib:99999999999"}, "its size needs 3922"),
        ({"compression": "zlib:x"}, "no valid number"),
        ({"compression": f"zlib:{PLAIN}", "subblocks": "9,9:9"}, "no pair"),
        ({"compression": f"zlib:{PLAIN}", "subblocks": "9,3922"}, "packed bytes"),
    ],
)
def test_a_header_that_lies_is_refused_in_one_line(
    tmp_path: Path, attributes: dict[str, str | None], message: str
) -> None:
    path = write_xisf(tmp_path / "a.xisf", values_of("u2"), attributes=attributes)
    if not message:
        assert inspect_fits(path).width == 53
        return
    with pytest.raises(FrameError, match=message) as raised:
        inspect_fits(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    small = np.zeros((10, 10), np.uint16)
    huge = {"geometry": "40000:50000:1", "compression": "{}:4000000000"}
    for codec in CODECS:
        said = {key: text.format(codec) for key, text in huge.items()}
        path = write_xisf(tmp_path / f"{codec}.xisf", small, codec=codec, attributes=said)
        tracemalloc.start()
        with pytest.raises(FrameError, match="cannot become 4000000000"):
            inspect_fits(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


def test_a_block_of_zeros_is_no_frame_though_its_length_is_right(tmp_path: Path) -> None:
    n_pixels = 300 * 2**20
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(2 * n_pixels // 2**20)) + packer.flush()
    values = np.frombuffer(packed, np.uint8)[None]
    said = {
        "geometry": f"{2**20}:300:1", "sampleFormat": "UInt16", "compression": f"zlib:{2 * n_pixels}",
    }  # fmt: skip
    path = write_xisf(tmp_path / "zeros.xisf", values, attributes=said)
    with pytest.raises(
        FrameError, match=rf"zeros.*{len(packed)} bytes of zlib are to become {2 * n_pixels}, more than"
    ):
        inspect_fits(path)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rows", [36, 38])
def test_a_block_of_another_length_than_it_says_is_refused(tmp_path: Path, codec: str, rows: int) -> None:
    values = values_of("u2", (rows, 53))
    said = {"geometry": "53:37:1", "compression": f"{codec}:{PLAIN}"}
    frame = inspect_fits(write_xisf(tmp_path / "a.xisf", values, codec=codec, attributes=said))
    with pytest.raises(FrameError, match=r"a\.xisf: cannot be unpacked: "):
        unpack(frame, tmp_path)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def test_entities_do_not_expand(tmp_path: Path) -> None:
    path = write_xisf(tmp_path / "a.xisf", values_of("u2"), doctype=ENTITIES, keywords={"OBJECT": "x"})
    with pytest.raises(FrameError, match="declares a document type"):
        inspect_fits(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "damaged"),
        (b"<xisf><Image", "damaged"),
        (b"<other/>", "no xisf element"),
        (b"<xisf/>", "holds no image"),
        (b"<xisf>" + b"<a>" * 100 + b"</a>" * 100 + b"</xisf>", "inside of each other"),
        (b"<xisf>" + b"<a/>" * 200_001 + b"</xisf>", "more than 200000 elements"),
        (b"<xisf>\xff</xisf>", "damaged"),
        (b'<?xml version="1.0" encoding="klingon"?><xisf/>', "damaged"),
    ],
)
def test_damaged_headers(tmp_path: Path, header: bytes, message: str) -> None:
    path = tmp_path / "a.xisf"
    path.write_bytes(b"XISF0100" + len(header).to_bytes(4, "little") + bytes(4) + header)
    with pytest.raises(FrameError, match=message):
        inspect_fits(path)


def test_a_header_longer_than_its_file_or_than_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xisf"
    path.write_bytes(b"XISF0100" + b"\xff\xff\xff\x7f" + bytes(4))
    with pytest.raises(FrameError, match="cut short inside its XISF header"):
        inspect_fits(path)
    with path.open("r+b") as file:
        file.truncate(2**31 + 100)
    with pytest.raises(FrameError, match="XISF header has 2147483647 bytes"):
        inspect_fits(path)
    for length in range(8, 16):
        path.write_bytes((b"XISF0100" + bytes(8))[:length])
        with pytest.raises(FrameError):
            inspect_fits(path)


def test_any_change_of_a_byte_is_read_or_refused(tmp_path: Path) -> None:
    """Frames stay within their promised size, and messages within a line, whatever byte of a header is changed."""
    path = write_xisf(tmp_path / "a.xisf", values_of("u2"), codec="zlib", shuffled=True, subblock=999, keywords=DARK)
    good, rng, refusals = path.read_bytes(), np.random.default_rng(5), list[str]()
    end = 16 + int.from_bytes(good[8:12], "little")
    for _ in range(400):
        data = bytearray(good)
        for position in rng.integers(0, end, rng.integers(1, 4)):
            data[position] = rng.choice(np.frombuffer(b"0159:,;<>&'\"x\0\xff -", np.uint8))
        path.write_bytes(data)
        try:
            read(inspect_fits(path), tmp_path)
        except FrameError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert all(re.fullmatch(r"[^\n]{10,400}", line) for line in refusals)


@pytest.mark.parametrize("codec", CODECS)
def test_any_change_of_a_packed_byte_is_read_or_refused(tmp_path: Path, codec: str) -> None:
    values = values_of("u2")
    path = write_xisf(tmp_path / "a.xisf", values, codec=codec, shuffled=True, subblock=1500, keywords=DARK)
    good, rng, n_refused = path.read_bytes(), np.random.default_rng(6), 0
    for _ in range(150):
        data = bytearray(good)
        for position in rng.integers(4096, len(good), rng.integers(1, 6)):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read(inspect_fits(path), tmp_path).shape == values.shape
        except FrameError:
            n_refused += 1
    assert n_refused > 0


@pytest.mark.parametrize(
    ("start", "why"), [(b"", "is empty"), (b"XISF0200" + bytes(90), "in one piece"), (b"x", "in one piece")]
)
def test_files_that_are_no_xisf(tmp_path: Path, start: bytes, why: str) -> None:
    path = tmp_path / "a.xisf"
    path.write_bytes(start)
    with pytest.raises(FrameError, match=why):
        inspect_fits(path)


def test_folders_are_searched_for_xisf_and_name_what_is_not_read(tmp_path: Path) -> None:
    kept = write_xisf(tmp_path / "a.XISF", values_of("u2"))
    (tmp_path / "below").mkdir()
    for name in ("a.jpg", "b.JPG", "below/c.ser", "below/d.tif", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"x")
    found = search_fits([tmp_path])
    assert found.files == (str(kept),)
    assert found.passed_over == (
        f"{tmp_path}: 2 .jpg, 1 .ser, 1 .tif: files of kinds that are not read; "
        "convert frames among them to FITS or XISF",
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("codec", ["", "lz4"])
@pytest.mark.parametrize(
    ("bounds", "low", "factor"),
    [("0:1", 0.0, 1 / 65535), ("0:65535", 0.0, 1.0), ("-1:1", -1.0, 2 / 65535), ("0:0.5", 0.0, 0.5 / 65535)],
)
def test_floats_within_their_bounds_come_to_the_scale_of_16_bits(
    tmp_path: Path, dtype: str, codec: str, bounds: str, low: float, factor: float
) -> None:
    adu = values_of("u2")
    values = (adu * factor + low).astype(dtype)
    path = write_xisf(tmp_path / "a.xisf", values, codec=codec, keywords=DARK, attributes={"bounds": bounds})
    assert read(inspect_fits(path), tmp_path) == pytest.approx(adu, abs=0.01)


@pytest.mark.parametrize("codec", ["", "lz4"])
@pytest.mark.parametrize("bounds", ["0:1", "1:0", "x", "nan:1", None])
def test_floats_beyond_their_bounds_and_masters_are_taken_as_they_stand(
    tmp_path: Path, codec: str, bounds: str | None
) -> None:
    values = values_of("f4")
    path = write_xisf(tmp_path / "a.xisf", values, codec=codec, keywords=DARK, attributes={"bounds": bounds})
    assert np.array_equal(read(inspect_fits(path), tmp_path), values)
    small, said = values / np.float32(1e4), {"bounds": "0:1", "imageType": "MasterDark"}
    master = write_xisf(tmp_path / "b.xisf", small, codec=codec, attributes=said)
    assert np.array_equal(read(inspect_fits(master), tmp_path), small)
