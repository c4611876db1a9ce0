"""Read, check and transpose ImageBytes from an Alpaca camera while they arrive.

The wire carries columns: the first index is x, and y runs fastest. A 61 MP frame that is read whole and then turned
takes 0.14 s for the turning alone; turned 64 columns at a time, while they are in cache, it takes 0.02 s and needs no
second 122 MB. The columns pass through a block whose rows are an odd number of cache lines apart. Without it, a height
of 4096 or 8192 maps a whole row of output to one cache set, and transposing takes five times as long (2.0 instead of
0.4 ns a pixel).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.devices.failures import DeviceUnreachableError, ReplyError, refusal

HEADER = struct.Struct("<11i")
"""Version, error, client and server transaction, data start, image and transmission type, rank, three dimensions."""
MAX_PIXELS = 2**29
"""Three times the largest sensor on the market (151 MP); more is garbage, and refused before memory is taken."""
COLUMNS_AT_ONCE = 64
"""At 6388 rows of uint16 0.8 MB, which stay in the second cache; 32 to 256 take up to a fifth longer, most as int32."""

_MAX_DATA_START = 1 << 16
_MAX_ERROR_TEXT = 4096
_CACHE_LINE_SAMPLES = 32  # of uint16; two lines of int32

WIRE_TYPES: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {
        1: np.dtype("<i2"),
        2: np.dtype("<i4"),
        3: np.dtype("<f8"),
        4: np.dtype("<f4"),
        5: np.dtype("<u8"),
        6: np.dtype("u1"),
        7: np.dtype("<i8"),
        8: np.dtype("<u2"),
        9: np.dtype("<u4"),
    }
)
"""Element types of ImageBytes."""


class ByteSource(Protocol):
    """Source of the bytes of an image."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer and return the number of bytes; fewer than its size only at the end."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The 44 bytes in front of an image."""

    version: int
    error_number: int
    data_start: int
    transmission_type: int
    rank: int
    width: int
    height: int

    @classmethod
    def parse(cls, data: bytes) -> ImageHeader:
        """Read the fields without checks."""
        field = HEADER.unpack(data)
        return cls(
            version=field[0],
            error_number=field[1],
            data_start=field[4],
            transmission_type=field[6],
            rank=field[7],
            width=field[8],
            height=field[9],
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element on the wire."""
        return WIRE_TYPES[self.transmission_type]

    def check_start(self) -> None:
        """Raise `ReplyError` if this is no header of ImageBytes."""
        if self.version != 1:
            raise ReplyError(f"the answer is no image: ImageBytes version {self.version} instead of 1")
        if not HEADER.size <= self.data_start <= _MAX_DATA_START:
            raise ReplyError(f"the image header says that data start at byte {self.data_start}, not at 44")

    def check_image(self, shape: tuple[int, int], length: int | None) -> None:
        """Raise `ReplyError` if the image is not the expected one, before memory is allocated.

        The shape is (height, width) that the camera is set to; the length counts header and data together.
        """
        check_rank(self.rank)
        if self.transmission_type not in WIRE_TYPES:
            raise ReplyError(f"the image has elements of unknown type {self.transmission_type}; 1 to 9 are known")
        check_image_shape((self.height, self.width), shape)
        needed = self.data_start + self.width * self.height * self.dtype.itemsize
        if length is not None and length < needed:
            raise ReplyError(f"{self.width} x {self.height} pixels are {needed} bytes, the server sends only {length}")


def check_rank(rank: int) -> None:
    """Raise `ReplyError` if an image is no plain matrix."""
    if rank != 2:
        cure = "set a raw or monochrome readout mode" if rank == 3 else "only plain images can be used"
        raise ReplyError(f"the image has rank {rank} instead of 2 (colour planes): {cure}")


def check_image_shape(sent: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise `ReplyError` if the size of an image, (height, width), is not the expected one."""
    height, width = sent
    if sent != expected:
        turned = " (width and height exchanged)" if sent == expected[::-1] else ""
        raise ReplyError(f"the image is {width} x {height}, expected {expected[1]} x {expected[0]}{turned}")
    if height < 1 or width < 1 or width * height > MAX_PIXELS:
        raise ReplyError(f"the image claims {width} x {height} pixels; 1 to {MAX_PIXELS} are possible")


def column_spacing(height: int) -> int:
    """Return the samples between columns of the block: at least `height`, an odd number of cache lines."""
    return (-(-height // _CACHE_LINE_SAMPLES) | 1) * _CACHE_LINE_SAMPLES


class RowMajorImage:
    """An image of (height, width) in row-major order that is filled by columns."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.pixels: NDArray[Any] = np.empty(shape, np.uint16)
        """(height, width) uint16, or int32 as soon as a value needs it."""
        self._block = self._new_block()

    def put(self, first: int, columns: NDArray[Any]) -> None:
        """Set the columns from `first` on; `columns` has shape (count, height), at most `COLUMNS_AT_ONCE` of them.

        Raise `ReplyError` if a value is a fraction or beyond 32 bits.
        """
        if self.pixels.dtype == np.uint16 and not _fit_words(columns):
            self.pixels = self.pixels.astype(np.int32)
            self._block = self._new_block()
        count, height = columns.shape
        spaced = self._block[:count, :height]
        np.copyto(spaced, columns, casting="unsafe")
        self.pixels[:, first : first + count] = spaced.T

    def _new_block(self) -> NDArray[Any]:
        return np.empty((COLUMNS_AT_ONCE, column_spacing(self.pixels.shape[0])), self.pixels.dtype)


def _fit_words(columns: NDArray[Any]) -> bool:
    """Return whether all values fit into uint16; raise `ReplyError` if they do not even fit into int32."""
    if columns.dtype.kind == "u" and columns.dtype.itemsize <= 2:
        return True
    if columns.dtype.kind == "f" and not np.array_equal(columns, np.rint(columns)):
        raise ReplyError("the image has fractions of ADU; set a readout mode that gives whole numbers")
    low, high = columns.min(), columns.max()
    if low < -(2**31) or high >= 2**31:
        raise ReplyError(f"the image has values from {low} to {high}, beyond 32 bits")
    return bool(low >= 0 and high <= 0xFFFF)


def read_image_bytes(head: bytes, source: ByteSource, shape: tuple[int, int], length: int | None) -> NDArray[Any]:
    """Read an image: (height, width) in C order, uint16, or int32 where a value is negative or above 65535.

    `head` is its first 44 bytes, `source` has the others; `shape` is (height, width) that the camera is set to, and
    `length` the bytes of the whole answer, if the server reports them.

    Raises
    ------
    RefusedError
        If the device sent an error instead.
    ReplyError
        If it is no image, or not the expected one.
    DeviceUnreachableError
        If it ended early.
    """
    if len(head) < HEADER.size:
        raise ReplyError(f"the answer is no image: {len(head)} bytes instead of at least {HEADER.size}")
    header = ImageHeader.parse(head)
    header.check_start()
    if header.error_number != 0:
        text = read_up_to(source, header.data_start - HEADER.size + _MAX_ERROR_TEXT)
        raise refusal(header.error_number, text[header.data_start - HEADER.size :].decode("utf-8", errors="replace"))
    header.check_image(shape, length)
    read_up_to(source, header.data_start - HEADER.size)
    return _read_columns(source, header)


def _read_columns(source: ByteSource, header: ImageHeader) -> NDArray[Any]:
    image = RowMajorImage((header.height, header.width))
    strip = np.empty((min(COLUMNS_AT_ONCE, header.width), header.height), header.dtype)
    view = strip.reshape(-1).view(np.uint8).data
    column_bytes = header.height * header.dtype.itemsize
    for first in range(0, header.width, COLUMNS_AT_ONCE):
        count = min(COLUMNS_AT_ONCE, header.width - first)
        wanted = view[: count * column_bytes]
        got = source.readinto(wanted) or 0
        if got < len(wanted):
            raise DeviceUnreachableError(
                f"the image ended after {first * column_bytes + got} of {header.width * column_bytes} bytes"
            )
        image.put(first, strip[:count])
    return image.pixels


def read_up_to(source: ByteSource, count: int) -> bytes:
    """Return up to `count` bytes, fewer only at the end."""
    buffer = bytearray(count)
    got = source.readinto(buffer) or 0
    return bytes(buffer[:got])
