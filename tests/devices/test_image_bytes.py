"""Images arrive with rows, whatever the elements and the size; what is no image is refused at once."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from ostcal.devices.failures import DeviceUnreachableError, RefusedError, ReplyError
from ostcal.devices.image_bytes import COLUMNS_AT_ONCE, HEADER, WIRE_TYPES, column_spacing, read_image_bytes
from ostcal.devices.image_json import read_json_image
from ostcal.errors import DeviceError
from support.odd_servers import image_bytes, image_header, image_json, pattern


def read(body: bytes, shape: tuple[int, int], *, length: int | None = None) -> NDArray[Any]:
    return read_image_bytes(body[: HEADER.size], io.BytesIO(body[HEADER.size :]), shape, length)


def read_json(body: bytes, shape: tuple[int, int], *, first: int = 44) -> NDArray[Any]:
    return read_json_image(body[:first], io.BytesIO(body[first:]), shape)


@pytest.mark.parametrize("wire_type", WIRE_TYPES)
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (1, 7), (7, 1), (5, 2 * COLUMNS_AT_ONCE + 1)])
def test_every_element_type_gives_the_same_rows(wire_type: int, shape: tuple[int, int]) -> None:
    dtype = WIRE_TYPES[wire_type]
    pixels = (np.arange(shape[0] * shape[1]).reshape(shape) % 251).astype(np.uint16)
    got = read(image_bytes(pixels, wire_type, dtype.str).body, shape)
    assert got.dtype == np.uint16
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, pixels)


@given(
    pixels=npst.arrays(
        st.sampled_from([np.int16, np.int32, np.uint16, np.uint32]),
        npst.array_shapes(min_dims=2, max_dims=2, max_side=2 * COLUMNS_AT_ONCE + 3),
        elements={"min_value": 0, "max_value": 32767},
        fill=st.integers(0, 32767),
    )
)
def test_any_image_survives_both_ways_of_sending_it(pixels: NDArray[Any]) -> None:
    wire_type = next(number for number, dtype in WIRE_TYPES.items() if dtype == pixels.dtype)
    np.testing.assert_array_equal(read(image_bytes(pixels, wire_type, pixels.dtype.str).body, pixels.shape), pixels)
    np.testing.assert_array_equal(read_json(image_json(pixels).body, pixels.shape), pixels)


@pytest.mark.parametrize(
    ("wire_type", "dtype", "odd", "expected"),
    [
        (1, "<i2", -1, np.int32),
        (2, "<i4", -1, np.int32),
        (2, "<i4", 65535, np.uint16),
        (2, "<i4", 65536, np.int32),
        (2, "<i4", -(2**31), np.int32),
        (3, "<f8", 70000.0, np.int32),
        (7, "<i8", 65535, np.uint16),
        (9, "<u4", 65536, np.int32),
    ],
)
@pytest.mark.parametrize("column", [0, COLUMNS_AT_ONCE + 5])
def test_values_that_need_it_make_the_image_32_bits_wide(
    wire_type: int, dtype: str, odd: float, expected: type, column: int
) -> None:
    pixels = (np.arange(3)[:, None] * 1000 + np.arange(2 * COLUMNS_AT_ONCE)[None, :]).astype(np.float64)
    pixels[1, column] = odd
    got = read(image_bytes(pixels, wire_type, dtype).body, pixels.shape)
    assert got.dtype == expected
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize(
    ("wire_type", "dtype", "value", "message"),
    [
        (3, "<f8", 0.5, "fractions"),
        (4, "<f4", float("nan"), "fractions"),
        (3, "<f8", float("inf"), "32 bits"),
        (9, "<u4", 2**31, "32 bits"),
        (7, "<i8", -(2**31) - 1, "32 bits"),
        (5, "<u8", 2**64 - 1, "32 bits"),
    ],
)
def test_values_that_are_no_adu_are_refused(wire_type: int, dtype: str, value: float, message: str) -> None:
    pixels = np.full((2, 3), value, np.dtype(dtype))
    with pytest.raises(ReplyError, match=message):
        read(image_bytes(pixels, wire_type, dtype).body, (2, 3))


def test_data_may_start_later_than_the_header_ends() -> None:
    pixels = pattern(8, 4)
    body = image_header((4, 8), 8, start=60) + np.ascontiguousarray(pixels.T).tobytes()
    np.testing.assert_array_equal(read(body, (4, 8)), pixels)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (image_header((60000, 60000), 8), "60000 x 60000, expected 8 x 4"),
        (image_header((8, 4), 8), "exchanged"),
        (image_header((4, 8), 8, rank=3), "readout mode"),
        (image_header((4, 8), 8, rank=1), "rank 1"),
        (image_header((4, 8), 0), "unknown type 0"),
        (image_header((4, 8), 10), "unknown type 10"),
        (image_header((4, 8), 8, version=2), "version 2"),
        (image_header((4, 8), 8)[:16] + (7).to_bytes(4, "little") + image_header((4, 8), 8)[20:], "byte 7"),
        (b"<html><body>Not found, but with status 200 </body></html>", "version"),
        (b"", "0 bytes"),
        (b"\x01\x00\x00\x00", "4 bytes"),
    ],
)
def test_what_is_not_the_image_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        read(body, (4, 8))


def test_a_header_with_a_huge_size_takes_no_memory() -> None:
    body = image_header((60000, 60000), 8)
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for shape in ((4, 8), (60000, 60000)):
            with pytest.raises(ReplyError, match="60000 x 60000"):
                read(body, shape)
        assert tracemalloc.get_traced_memory()[1] - before_bytes < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_content_length_that_is_too_short_is_refused_before_reading() -> None:
    body = image_bytes(pattern(8, 4)).body
    with pytest.raises(ReplyError, match="sends only 100"):
        read(body, (4, 8), length=100)


@pytest.mark.parametrize("kept", [44, 45, 60])
def test_a_body_that_ends_early_says_where(kept: int) -> None:
    with pytest.raises(DeviceUnreachableError, match=f"ended after {kept - 44} of 64 bytes"):
        read(image_bytes(pattern(8, 4)).body[:kept], (4, 8))


@pytest.mark.parametrize("start", [44, 50])
def test_an_error_in_place_of_the_image_is_shown_with_number_and_text(start: int) -> None:
    body = image_header((0, 0), 0, error=0x40B, start=start) + "no image, température".encode()
    with pytest.raises(RefusedError, match=r"no image, température \(ASCOM error 0x40B, invalid operation\)") as caught:
        read(body, (4, 8))
    assert caught.value.number == 0x40B


@given(body=st.binary(max_size=200))
def test_no_bytes_whatever_break_the_reader(body: bytes) -> None:
    for way in (read, read_json):
        with pytest.raises(DeviceError):
            way(body, (40, 50))


@given(pixels=st.sampled_from([pattern(8, 4)]), at=st.integers(0, 107), value=st.integers(0, 255))
def test_a_changed_byte_gives_an_image_or_an_error(pixels: NDArray[np.uint16], at: int, value: int) -> None:
    body = bytearray(image_bytes(pixels).body)
    body[at] = value
    try:
        got = read(bytes(body), (4, 8))
    except DeviceError:
        return
    assert got.shape == (4, 8)


def test_heights_that_share_cache_sets_are_spaced_apart() -> None:
    for height in (4096, 6388, 8192):
        assert column_spacing(height) >= height
        assert column_spacing(height) % 64 == 32


# JSON


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("first", [0, 1, 44, 5000])
def test_json_is_read_however_it_is_written_and_cut(indent: int | None, first: int) -> None:
    pixels = pattern(2 * COLUMNS_AT_ONCE + 1, 9)
    body = json.dumps(json.loads(image_json(pixels).body), indent=indent).encode()
    got = read_json(body, pixels.shape, first=first)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, pixels)


def test_json_of_more_than_a_piece_is_read() -> None:
    pixels = np.random.default_rng(5).integers(0, 65536, (300, 700), dtype=np.uint16)
    np.testing.assert_array_equal(read_json(image_json(pixels).body, pixels.shape), pixels)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (b'{"Value": null, "ErrorNumber": 1035, "ErrorMessage": "no image"}', RefusedError, "no image .*0x40B"),
        (b'{"Value": [], "ErrorNumber": 0}', ReplyError, "has no image"),
        (b'{"Value": [[1, 2], [3, 4]], "ErrorNumber": 1035, "ErrorMessage": "late"}', RefusedError, "late"),
        (b'{"Value": [[1, 2], [3, 4], [5, 6]]}', ReplyError, "more than the 2 columns"),
        (b'{"Value": [[1, 2]]}', ReplyError, "1 x 2, expected 2 x 2"),
        (b'{"Value": [[1, 2], [3]]}', ReplyError, "1 values"),
        (b'{"Value": [[1, 2], [3, "x"]]}', ReplyError, "values"),
        (b'{"Value": [[1, 2], [3, 4.5]]}', ReplyError, "fractions"),
        (b'{"Value": [[1, 2], [3, 1e99]]}', ReplyError, "32 bits"),
        (b'{"Value": [[[1, 2], [3, 4]]]}', ReplyError, "rank 3"),
        (b'{"Value": [[1, 2], [3,', DeviceUnreachableError, "ended"),
        (b'{"Value": [[1, 2], [3, 4]', DeviceUnreachableError, "ended"),
        (b'{"Value": [[1, 2], [3, oops]]}', ReplyError, "no JSON"),
        (b'{"Value": [[1, 2], [3, 4]] nonsense', ReplyError, "no JSON"),
        (b"[[1, 2], [3, 4]]", ReplyError, "no JSON object"),
    ],
)
def test_json_that_is_not_the_image_is_refused(body: bytes, error: type[DeviceError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_json(body, (2, 2))


def test_endless_json_is_given_up() -> None:
    class Endless:
        def readinto(self, buffer: bytearray) -> int:
            buffer[:] = b"1" * len(buffer)
            return len(buffer)

    for head in (b'{"Value": [[', b'{"Value": '):
        with pytest.raises((DeviceUnreachableError, ReplyError)):
            read_json_image(head, Endless(), (40, 50))
