"""The header of an XISF file in one piece (``.xisf``), as XISF 1.0 defines it: which images the file holds, and where.

Whatever the header says is checked against the file before anything is read or any memory is taken. The XML has no
document type: entities of its own cannot be declared, so none can expand.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from ostcal.decoding import most_unpacked_bytes
from ostcal.errors import FrameError
from ostcal.xisf.blocks import RATIOS, DataBlock

SIGNATURE: Final = b"XISF0100"
SAMPLE_TYPES: Final = {"UInt8": "u1", "UInt16": "u2", "UInt32": "u4", "Float32": "f4", "Float64": "f8"}
"""Sample formats that are read, and what numpy calls them."""

_PREAMBLE_LENGTH = 16
"""Signature, length of the header, four reserved bytes."""
_MAX_HEADER_LENGTH = 2**24
_MAX_ELEMENTS = 200_000
_MAX_DEPTH = 64
_MAX_PIXELS = 2**31
_MAX_IMAGES = 1000
_MAX_SUBBLOCKS = 100_000
_MAX_ITEM_BYTES = 16
_CHECKSUMS = {
    "sha-1": "sha1", "sha1": "sha1", "sha-256": "sha256", "sha256": "sha256", "sha-512": "sha512", "sha512": "sha512",
    "sha3-256": "sha3_256", "sha3-512": "sha3_512",
}  # fmt: skip
_KEPT_ELEMENTS = frozenset(("Image", "FITSKeyword", "Property", "ColorFilterArray", "Data", "Metadata"))
_READ_AT_ONCE = 2**16


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """A FITS keyword; text values may stand in quotes."""

    name: str
    value: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class XisfImage:
    """An image of one channel in an XISF file."""

    identifier: str
    """``id`` of the image, "" without."""
    image_type: str
    """``Bias``, ``Dark``, ``MasterFlat`` and so on, "" where it does not say."""
    width: int
    height: int
    sample_type: str
    """``u1``, ``u2``, ``u4``, ``f4`` or ``f8``."""
    block: DataBlock
    bayer_pattern: str
    """Four letters, or ""."""
    bounds: tuple[float, float] | None
    """Of floats: the values that stand for black and white; ``None`` where it does not say."""
    offset: str
    """Pedestal that was added to all pixels, "" where it does not say."""
    keywords: tuple[Keyword, ...]
    properties: dict[str, str]
    remarks: tuple[str, ...]
    """What users should know of how it was read."""


@dataclass(frozen=True, kw_only=True)
class XisfFile:
    """The images of a file, and what is said of all of them."""

    images: tuple[XisfImage, ...]
    properties: dict[str, str]


def read_header(file: BinaryIO, path: str, size: int) -> XisfFile:
    """Read the header of a file of `size` bytes that begins with `SIGNATURE`.

    Raises
    ------
    FrameError
        If the header is cut short, damaged or too large, an image is no image of one channel, or its data block cannot
        be what the header says.
    """
    file.seek(0)
    preamble = file.read(_PREAMBLE_LENGTH)
    length = int.from_bytes(preamble[8:12], "little")
    if len(preamble) < _PREAMBLE_LENGTH or _PREAMBLE_LENGTH + length > size:
        raise FrameError(f"{path}: is cut short inside its XISF header; copy it again or leave it out")
    if length > _MAX_HEADER_LENGTH:
        raise FrameError(f"{path}: its XISF header has {length} bytes, {_MAX_HEADER_LENGTH} are possible; leave it out")
    root = _parsed(file, path, length)
    images = [child for child in root.children if child.name == "Image"]
    if len(images) > _MAX_IMAGES:
        raise FrameError(f"{path}: has more than {_MAX_IMAGES} images; split it or leave it out")
    if not images:
        raise FrameError(f"{path}: holds no image; leave it out")
    data_start = _PREAMBLE_LENGTH + length
    return XisfFile(
        images=tuple(_image(element, path, data_start, size) for element in images),
        properties=_properties([child for child in root.children if child.name == "Metadata"]),
    )


# ---- XML ----


@dataclass
class _Element:
    """An element of the header; of those that are not read only the name is kept."""

    name: str
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)
    text: str = ""

    def first(self, name: str) -> _Element | None:
        """Return the first child of a name."""
        return next((child for child in self.children if child.name == name), None)


class _Target:
    """What the XML parser hands its elements to: keeps those that are read, within bounds."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root: _Element | None = None
        self._open: list[_Element | None] = []
        self._texts: list[list[str]] = []
        self._n_elements = 0

    def doctype(self, name: str, public_id: str | None, system_id: str | None) -> None:
        """Refuse a document type, which could declare entities."""
        raise FrameError(f"{self.path}: its XISF header declares a document type, which XISF has not; leave it out")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element; those that are not read, and all inside of them, are passed over."""
        self._n_elements += 1
        if self._n_elements > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            what = f"more than {_MAX_ELEMENTS} elements, or {_MAX_DEPTH} inside of each other"
            raise FrameError(f"{self.path}: its XISF header has {what}; leave it out")
        name = tag.rpartition("}")[2]
        element = None
        if not self._open:
            element = self.root = _Element(name, dict(attributes))
        elif (parent := self._open[-1]) is not None and name in _KEPT_ELEMENTS:
            element = _Element(name, dict(attributes))
            parent.children.append(element)
        self._open.append(element)
        self._texts.append([])

    def data(self, text: str) -> None:
        """Keep the text of an element."""
        if self._open and self._open[-1] is not None:
            self._texts[-1].append(text)

    def end(self, tag: str) -> None:
        """Close an element."""
        element, texts = self._open.pop(), self._texts.pop()
        if element is not None:
            element.text = "".join(texts).strip()

    def close(self) -> None:
        """Do nothing: `root` is the result."""


def _parsed(file: BinaryIO, path: str, length: int) -> _Element:
    """Parse the XML of `length` bytes, behind which some programs have NUL bytes."""
    from xml.etree import ElementTree

    target = _Target(path)
    parser = ElementTree.XMLParser(target=target)
    text = file.read(length).rstrip(b"\0")
    try:
        for start in range(0, len(text), _READ_AT_ONCE):
            parser.feed(text[start : start + _READ_AT_ONCE])
        parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FrameError(f"{path}: its XISF header is damaged: {error}; copy it again or leave it out") from error
    if target.root is None or target.root.name != "xisf":
        raise FrameError(f"{path}: its XISF header has no xisf element: the file is damaged, leave it out")
    return target.root


# ---- images ----


def _image(element: _Element, path: str, data_start: int, size: int) -> XisfImage:
    attributes = element.attributes
    identifier = attributes.get("id", "")
    where = f"{path}[{identifier}]" if identifier else path
    width, height = _size(attributes.get("geometry", ""), where)
    sample_format = attributes.get("sampleFormat", "")
    if sample_format not in SAMPLE_TYPES:
        known = ", ".join(SAMPLE_TYPES)
        raise FrameError(f"{where}: sampleFormat is {sample_format!r}, none of {known}; convert it or leave it out")
    sample_type = SAMPLE_TYPES[sample_format]
    remarks: list[str] = []
    block = _block(element, where, width * height * int(sample_type[1]), data_start, size, remarks)
    return XisfImage(
        identifier=identifier,
        image_type=attributes.get("imageType", ""),
        width=width,
        height=height,
        sample_type=sample_type,
        block=block,
        bayer_pattern=_bayer_pattern(element.first("ColorFilterArray")),
        bounds=_bounds(attributes.get("bounds", "")) if sample_type[0] == "f" else None,
        offset=attributes.get("offset", ""),
        keywords=tuple(_keyword(child) for child in element.children if child.name == "FITSKeyword"),
        properties=_properties([element]),
        remarks=tuple(remarks),
    )


def _size(geometry: str, where: str) -> tuple[int, int]:
    """Return width and height of an image of one channel."""
    axes = [_whole(axis, f"geometry {geometry!r}", where) for axis in geometry.split(":")]
    if len(axes) == 2:
        axes.append(1)
    size = " x ".join(map(str, axes))
    if len(axes) != 3 or 0 in axes:
        raise FrameError(f"{where}: geometry {geometry!r} is that of no image of two axes; leave it out")
    if axes[2] != 1:
        raise FrameError(
            f"{where}: the image has {axes[2]} channels ({size}): a colour picture is no raw frame; "
            "convert it to frames of one channel or leave it out"
        )
    if axes[0] * axes[1] > _MAX_PIXELS:
        raise FrameError(f"{where}: {size} pixels are more than 2^31: the header is damaged, leave it out")
    return axes[0], axes[1]


def _bounds(text: str) -> tuple[float, float] | None:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _keyword(element: _Element) -> Keyword:
    attributes = element.attributes
    return Keyword(
        name=attributes.get("name", "").strip(),
        value=attributes.get("value", "").strip(),
        comment=attributes.get("comment", "").strip(),
    )


def _properties(elements: Sequence[_Element]) -> dict[str, str]:
    """Return properties that are a number, a time or a short text; the first of a name counts."""
    found: dict[str, str] = {}
    for child in (child for element in elements for child in element.children):
        if child.name == "Property" and "location" not in child.attributes:
            found.setdefault(child.attributes.get("id", ""), child.attributes.get("value", child.text))
    return found


def _bayer_pattern(element: _Element | None) -> str:
    """Return the pattern of a colour filter array of 2 x 2 pixels; those of other sizes are no Bayer pattern."""
    if element is None or (element.attributes.get("width"), element.attributes.get("height")) != ("2", "2"):
        return ""
    return element.attributes.get("pattern", "").strip().upper()


# ---- data blocks ----


def _block(element: _Element, where: str, needed: int, data_start: int, size: int, remarks: list[str]) -> DataBlock:
    """Return where the samples of an image are; `needed` bytes of them must be there."""
    kind, _, place = element.attributes.get("location", "").partition(":")
    attributes, embedded, position = element.attributes, None, 0
    if kind == "attachment":
        numbers = [_whole(number, f"location {kind}:{place}", where) for number in place.split(":")]
        if len(numbers) != 2 or numbers[0] < data_start:
            raise FrameError(f"{where}: location {kind}:{place} lies inside of the header: damaged, leave it out")
        position, length = numbers
        if position + length > size:
            raise FrameError(
                f"{where}: is cut short: {size} bytes are there of {position + length}; copy it again or leave it out"
            )
    elif kind in ("inline", "embedded"):
        data = element.first("Data") if kind == "embedded" else element
        if data is None:
            raise FrameError(f"{where}: its embedded data are not there: the file is damaged, leave it out")
        # compression, checksum and byte order stand with the data
        attributes = {**element.attributes, **data.attributes}
        embedded = _decoded(data.text, place if kind == "inline" else attributes.get("encoding", ""), where)
        length = len(embedded)
    else:
        raise FrameError(
            f"{where}: its data lie elsewhere (location {kind or 'missing'}): only files in one piece are read; "
            "save it as .xisf"
        )
    codec, item_bytes, pieces = _compression(attributes, where, length, needed)
    return DataBlock(
        position=position,
        length=length,
        embedded=embedded,
        codec=codec,
        item_bytes=item_bytes,
        pieces=pieces,
        checksum=_checksum(attributes.get("checksum", ""), remarks),
        is_big_endian=attributes.get("byteOrder", "little") == "big",
    )


def _decoded(text: str, encoding: str, where: str) -> bytes:
    """Return data that stand in the header as text."""
    packed = "".join(text.split())
    try:
        if encoding == "base64":
            return base64.b64decode(packed, validate=True)
        if encoding in ("hex", "base16"):
            return bytes.fromhex(packed)
    except (ValueError, binascii.Error) as error:
        raise FrameError(f"{where}: its data in the header are damaged: {error}; leave it out") from error
    raise FrameError(f"{where}: its data have the encoding {encoding!r}, none of base64, hex; leave it out")


def _compression(
    attributes: dict[str, str], where: str, length: int, needed: int
) -> tuple[str, int, tuple[tuple[int, int], ...]]:
    """Return codec, bytes of a shuffled item (1: not shuffled), and the packed and unpacked length of each piece."""
    text = attributes.get("compression", "")
    if not text:
        if length != needed:
            raise FrameError(f"{where}: has {length} bytes of samples, its size needs {needed}: damaged, leave it out")
        return "", 1, ((length, length),)
    name, *numbers = text.split(":")
    codec, _, shuffling = name.partition("+")
    if codec not in RATIOS or shuffling not in ("", "sh"):
        known = ", ".join(RATIOS)
        raise FrameError(f"{where}: compression {name!r} is not known ({known}, with or without +sh); save it again")
    sizes = [_whole(number, f"compression {text!r}", where) for number in numbers]
    if not sizes or (shuffling and (len(sizes) < 2 or not 1 <= sizes[1] <= _MAX_ITEM_BYTES)):
        raise FrameError(f"{where}: compression {text!r} is incomplete: the file is damaged, leave it out")
    pieces = _subblocks(attributes.get("subblocks", ""), where) or ((length, sizes[0]),)
    unpacked = sum(piece[1] for piece in pieces)
    if sizes[0] != needed or unpacked != needed or sum(piece[0] for piece in pieces) != length:
        raise FrameError(
            f"{where}: its {length} packed bytes are to become {unpacked} ({text}), its size needs {needed}: "
            "damaged, leave it out"
        )
    if any(unpacked > RATIOS[codec] * (packed + 64) for packed, unpacked in pieces):
        raise FrameError(f"{where}: {length} bytes of {codec} cannot become {needed}: damaged, leave it out")
    if needed > most_unpacked_bytes(length):
        raise FrameError(
            f"{where}: {length} bytes of {codec} are to become {needed}, more than frames do "
            f"({most_unpacked_bytes(length)}); leave it out, or save it without compression"
        )
    return codec, sizes[1] if shuffling else 1, pieces


def _subblocks(text: str, where: str) -> tuple[tuple[int, int], ...]:
    """Read packed and unpacked lengths: ``1000,4096:980,4096``."""
    parts = text.split(":") if text else []
    if len(parts) > _MAX_SUBBLOCKS:
        raise FrameError(f"{where}: has more than {_MAX_SUBBLOCKS} subblocks: damaged, leave it out")
    pieces = []
    for part in parts:
        lengths = [_whole(number, f"subblocks {part!r}", where) for number in part.split(",")]
        if len(lengths) != 2:
            raise FrameError(f"{where}: subblocks {part!r} is no pair of lengths: damaged, leave it out")
        pieces.append((lengths[0], lengths[1]))
    return tuple(pieces)


def _checksum(text: str, remarks: list[str]) -> tuple[str, str] | None:
    name, _, digest = text.partition(":")
    if not text:
        return None
    if name.lower() not in _CHECKSUMS:
        remarks.append(f"its checksum {name!r} is of a kind that is not known: not compared")
        return None
    return _CHECKSUMS[name.lower()], digest.strip().lower()


def _whole(text: str, what: str, where: str) -> int:
    """Return a number of a header; FrameError where it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise FrameError(f"{where}: {what} is no valid number: the file is damaged, leave it out")
    return int(text)
