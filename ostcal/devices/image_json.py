"""Read images from Alpaca cameras that support JSON only, column by column.

Parsed at once, a 26 MP image becomes a gigabyte of Python integers. Here the text is cut at the brackets and converted
one column at a time, so only the frame, a piece of text and a strip are in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.devices.failures import DeviceUnreachableError, ReplyError, check_reply, parse_reply
from ostcal.devices.image_bytes import (
    COLUMNS_AT_ONCE,
    ByteSource,
    RowMajorImage,
    check_image_shape,
    check_rank,
    read_up_to,
)

_PIECE_BYTES = 1 << 18
_MAX_OUTSIDE_BYTES = 1 << 16
_MAX_VALUE_BYTES = 32
"""Longest text of one pixel: a double and its comma."""
_START = re.compile(rb"\[\s*\[")
_BETWEEN = re.compile(rb"\]\s*,\s*\[")
_END = re.compile(rb"\]\s*\]")


def read_json_image(head: bytes, source: ByteSource, shape: tuple[int, int]) -> NDArray[Any]:
    """Read an image from the JSON of ``imagearray``; result and errors are those of `read_image_bytes`.

    `head` is what was read so far, `source` has the rest; `shape` is (height, width) that the camera is set to.
    """
    text = _Text(head, source)
    before = text.until_image()
    if before is None:
        check_reply(parse_reply(text.rest()))
        raise ReplyError("the answer has no image")
    image = RowMajorImage(shape)
    count = _fill(image, text.columns(shape[0] * _MAX_VALUE_BYTES + _MAX_OUTSIDE_BYTES))
    check_reply(parse_reply(before + b"[]" + text.rest()))
    check_image_shape((shape[0], count), shape)
    return image.pixels


def _fill(image: RowMajorImage, columns: Iterator[bytes]) -> int:
    """Put the columns into the image and return their number."""
    shape = image.pixels.shape[0], image.pixels.shape[1]
    strip: list[NDArray[Any]] = []
    done = 0
    for column in columns:
        if done + len(strip) >= shape[1]:
            raise ReplyError(f"the image has more than the {shape[1]} columns that the camera was set to")
        strip.append(_values(column, shape))
        if len(strip) == COLUMNS_AT_ONCE:
            image.put(done, np.stack(strip))
            done += len(strip)
            strip = []
    if strip:
        image.put(done, np.stack(strip))
    return done + len(strip)


class _Text:
    """Text that arrives in pieces and is consumed from its start."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._text = head
        self._source = source

    def until_image(self) -> bytes | None:
        """Return the text before the matrix; ``None`` if there is no matrix."""
        while (found := _START.search(self._text)) is None:
            if len(self._text) > _MAX_OUTSIDE_BYTES or not self._more():
                return None
        before, self._text = self._text[: found.start()], self._text[found.end() :]
        return before

    def columns(self, limit: int) -> Iterator[bytes]:
        """Yield the text of each column, and stop after the last."""
        while True:
            end = self._text.find(b"]")
            # The text after the bracket is needed to see whether another column follows.
            follows = None if end < 0 else _BETWEEN.match(self._text, end) or _END.match(self._text, end)
            if follows is None:
                if len(self._text) > limit or not self._more():
                    raise DeviceUnreachableError("the image ended in the middle of a column, or is not made of columns")
                continue
            column, self._text = self._text[:end], self._text[follows.end() :]
            yield column
            if follows.re is _END:
                return

    def rest(self) -> bytes:
        """Return the remaining text, up to a limit."""
        return self._text + read_up_to(self._source, _MAX_OUTSIDE_BYTES)

    def _more(self) -> bool:
        piece = read_up_to(self._source, _PIECE_BYTES)
        self._text += piece
        return bool(piece)


def _values(column: bytes, shape: tuple[int, int]) -> NDArray[Any]:
    """Return the values of a column: (height,) int64 or float64."""
    if column.lstrip().startswith(b"["):
        check_rank(3)
    try:
        values = np.array(json.loads(b"[" + column + b"]"))
    except (ValueError, RecursionError) as error:  # thousands of brackets in one column
        raise ReplyError(f"the image is no JSON: {error}") from error
    if values.shape != shape[:1] or values.dtype.kind not in "iuf":
        raise ReplyError(f"a column of the image has {values.size} values, the camera was set to {shape[0]} rows")
    return values
