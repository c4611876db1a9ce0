"""An image as Alpaca sends it: ImageBytes with its header, and JSON.

Alpaca's images are ``[x][y]`` with y running fastest, so a frame of (height, width) is transposed on its way.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.simulator.options import ImageElement

HEADER = struct.Struct("<11i")
"""Version, error, client and server transaction, start of data, image type, wire type, rank, three dimensions."""

IMAGE_BYTES = "application/imagebytes"

_INT32 = 2
_WIRE_TYPES = {ImageElement.INT16: 1, ImageElement.INT32: 2, ImageElement.BYTE: 6, ImageElement.UINT16: 8}
_DTYPES = {ImageElement.INT16: "<i2", ImageElement.INT32: "<i4", ImageElement.BYTE: "u1", ImageElement.UINT16: "<u2"}

SHIFTS = {ImageElement.INT16: 1, ImageElement.INT32: 0, ImageElement.BYTE: 8, ImageElement.UINT16: 0}
"""Bits that are dropped so that a converter of 16 bits fits the type."""

_TILE = 256
"""Side of the squares that are transposed: 61 MP take 0.04 s, against 0.15 s in one go."""

_JSON_COLUMNS = 16


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """The numbers that tie an answer to its question."""

    client: int
    server: int


@dataclass(frozen=True, kw_only=True)
class WireImage:
    """Pixels in the order and type in which they are sent."""

    columns: NDArray[Any]
    """(width, height), C order."""
    element: ImageElement

    @classmethod
    def from_frame(cls, frame: NDArray[np.uint16], element: ImageElement) -> WireImage:
        """Transpose a frame of (height, width) uint16, whose values fit the element type."""
        height, width = frame.shape
        columns = np.empty((width, height), dtype=_DTYPES[element])
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                columns[left : left + _TILE, top : top + _TILE] = frame[top : top + _TILE, left : left + _TILE].T
        return cls(columns=columns, element=element)

    def frame(self) -> NDArray[np.uint16]:
        """Return the frame again: (height, width) uint16."""
        return np.ascontiguousarray(self.columns.T, dtype=np.uint16)

    def narrower(self) -> WireImage:
        """Return the image without its last column."""
        return WireImage(columns=self.columns[:-1], element=self.element)

    def header(self, transaction: Transaction) -> bytes:
        """Return the header of its ImageBytes."""
        width, height = self.columns.shape
        return image_header(transaction, self.element, width, height)

    def body(self) -> memoryview:
        """Return the pixels as bytes, not copied."""
        return self.columns.data.cast("B")

    def json_pieces(self, transaction: Transaction) -> Iterator[bytes]:
        """Return the image as JSON, some columns at a time: at once 61 MP would be gigabytes of Python numbers."""
        yield (
            f'{{"Type": {_INT32}, "Rank": 2, "ClientTransactionID": {transaction.client}, '
            f'"ServerTransactionID": {transaction.server}, "ErrorNumber": 0, "ErrorMessage": "", "Value": ['
        ).encode()
        for left in range(0, self.columns.shape[0], _JSON_COLUMNS):
            piece = json.dumps(self.columns[left : left + _JSON_COLUMNS].tolist(), separators=(",", ":"))
            yield (b"," if left else b"") + piece[1:-1].encode()
        yield b"]}"


def image_header(transaction: Transaction, element: ImageElement, width: int, height: int) -> bytes:
    """Return the header of ImageBytes without error for an image of some size."""
    client, server = _signed(transaction.client), _signed(transaction.server)
    return HEADER.pack(1, 0, client, server, HEADER.size, _INT32, _WIRE_TYPES[element], 2, width, height, 0)


def error_bytes(transaction: Transaction, number: int, message: str) -> bytes:
    """Return the ImageBytes that carry an error."""
    client, server = _signed(transaction.client), _signed(transaction.server)
    return HEADER.pack(1, number, client, server, HEADER.size, 0, 0, 0, 0, 0, 0) + message.encode()


def _signed(number: int) -> int:
    """Put an unsigned number of 32 bits into a signed field of as many."""
    return number - 2**32 if number >= 2**31 else number
