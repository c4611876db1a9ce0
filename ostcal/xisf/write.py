"""XISF files in one piece, written strip by strip: the blocks first, then the header, which has their checksums."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from ostcal.xisf.header import SAMPLE_TYPES, SIGNATURE, Keyword

BLOCK_ALIGNMENT: Final = 4096
_CHECKSUM = "sha-256"
_STRIP_BYTES = 2 * 2**20
_LONGEST_NUMBER = 9e-300 / 7
"""A number whose text is as long as that of any."""
_FORMATS = {sample_type: name for name, sample_type in SAMPLE_TYPES.items()}
_ROOT = (
    '<xisf version="1.0" xmlns="http://www.pixinsight.com/xisf" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.pixinsight.com/xisf http://pixinsight.com/xisf/xisf-1.0.xsd">'
)


@dataclass(frozen=True, kw_only=True)
class Property:
    """A property of an image or a file."""

    identifier: str
    kind: str
    """``String``, ``Float32``, ``Int32``, ``TimePoint`` and so on."""
    value: str


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image of one channel that is to be written."""

    identifier: str
    image_type: str = ""
    dtype: np.dtype[Any]
    height: int
    width: int
    read_rows: Callable[[int, int], NDArray[Any]]
    """Called once per strip, in order; returns rows of `dtype`."""
    range_top: float
    """The end of the range of floats, unless a value is above it; ranges begin at 0, unless a value is below."""
    bayer_pattern: str = ""
    keywords: Sequence[Keyword] = ()
    properties: Sequence[Property] = ()


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What is known of a block when it is written."""

    position: int
    length: int
    digest: str
    bounds: tuple[float, float]


def write_images(
    file: BinaryIO, images: Sequence[NewImage], metadata: Sequence[Property], *, rows_at_once: int | None = None
) -> None:
    """Write a whole file from its beginning: header, and one block for each image, aligned and with a checksum.

    Memory is a strip of 2 MiB, or `rows_at_once` rows.
    """
    unknown = _Block(position=2**60, length=2**60, digest="0" * 64, bounds=(-_LONGEST_NUMBER, -_LONGEST_NUMBER))
    longest = len(_header(images, [unknown] * len(images), metadata))
    blocks: list[_Block] = []
    end = longest
    for image in images:
        position = -(-end // BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
        file.write(bytes(position - file.tell()))
        blocks.append(_write_block(file, image, position, rows_at_once))
        end = position + blocks[-1].length
    header = _header(images, blocks, metadata)
    file.seek(0)
    file.write(header)
    file.seek(0, 2)


def _write_block(file: BinaryIO, image: NewImage, position: int, rows_at_once: int | None) -> _Block:
    digest = hashlib.new(_CHECKSUM.replace("-", ""), usedforsecurity=False)
    stored = image.dtype.newbyteorder("<")
    step = rows_at_once or max(1, _STRIP_BYTES // (image.width * stored.itemsize))
    low, high = 0.0, image.range_top
    for start in range(0, image.height, step):
        stop = min(start + step, image.height)
        rows = image.read_rows(start, stop)
        if rows.shape != (stop - start, image.width) or rows.dtype != image.dtype:
            raise ValueError(f"rows {start} to {stop} of {image.identifier} are {rows.shape} of {rows.dtype}")
        if stored.kind == "f":
            lowest, highest = _extremes(rows)
            low, high = min(low, lowest), max(high, highest)
        data = np.ascontiguousarray(rows.astype(stored, copy=False)).reshape(-1).view(np.uint8).data
        digest.update(data)
        file.write(data)
    length = image.height * image.width * stored.itemsize
    return _Block(position=position, length=length, digest=digest.hexdigest(), bounds=(low, high))


def _extremes(rows: NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest finite value, 0 where there is none."""
    lowest, highest = float(np.fmin.reduce(rows, axis=None)), float(np.fmax.reduce(rows, axis=None))
    if math.isfinite(lowest) and math.isfinite(highest):
        return lowest, highest
    finite = rows[np.isfinite(rows)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _header(images: Sequence[NewImage], blocks: Sequence[_Block], metadata: Sequence[Property]) -> bytes:
    """Return signature, length, reserved bytes and XML."""
    texts = [_image_text(image, block) for image, block in zip(images, blocks, strict=True)]
    described = "".join(map(_property_text, metadata))
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n{_ROOT}{"".join(texts)}<Metadata>{described}</Metadata></xisf>'
    data = xml.encode("utf-8", "replace")
    return SIGNATURE + len(data).to_bytes(4, "little") + bytes(4) + data


def _image_text(image: NewImage, block: _Block) -> str:
    attributes = {
        "id": image.identifier,
        "geometry": f"{image.width}:{image.height}:1",
        "sampleFormat": _FORMATS[image.dtype.str[1:]],
        "bounds": ":".join(map(_number, block.bounds)) if image.dtype.kind == "f" else "",
        "colorSpace": "Gray",
        "imageType": image.image_type,
        "location": f"attachment:{block.position}:{block.length}",
        "checksum": f"{_CHECKSUM}:{block.digest}",
    }
    parts = [_element("FITSKeyword", {"name": k.name, "value": k.value, "comment": k.comment}) for k in image.keywords]
    parts += [_property_text(one) for one in image.properties]
    if image.bayer_pattern:
        parts.append(_element("ColorFilterArray", {"pattern": image.bayer_pattern, "width": "2", "height": "2"}))
    return f"{_start_tag('Image', {key: value for key, value in attributes.items() if value})}>{''.join(parts)}</Image>"


def _property_text(one: Property) -> str:
    attributes = {"id": one.identifier, "type": one.kind}
    if one.kind == "String":
        return f"{_start_tag('Property', attributes)}>{escape(_valid(one.value))}</Property>"
    return _element("Property", {**attributes, "value": one.value})


def _element(name: str, attributes: Mapping[str, str]) -> str:
    return f"{_start_tag(name, attributes)}/>"


def _start_tag(name: str, attributes: Mapping[str, str]) -> str:
    return f"<{name}" + "".join(f" {key}={quoteattr(_valid(value))}" for key, value in attributes.items())


def _valid(text: str) -> str:
    """Return text without the control characters that XML has not."""
    return "".join(character if character.isprintable() else " " for character in text)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and math.fabs(value) < 2**53 else repr(value)
