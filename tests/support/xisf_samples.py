"""XISF files written by hand as XISF 1.0 describes them, byte by byte, and nothing of the package in them."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import lz4.block
import numpy as np
import zstandard
from numpy.typing import NDArray

SAMPLE_FORMATS = {"u1": "UInt8", "u2": "UInt16", "u4": "UInt32", "u8": "UInt64", "f4": "Float32", "f8": "Float64"}
CODECS = ("zlib", "lz4", "lz4hc", "zstd")
NAMESPACE = 'xmlns="http://www.pixinsight.com/xisf"'


@dataclass(frozen=True, kw_only=True)
class XisfSample:
    """One image of a file, and how its block is written."""

    values: NDArray[Any]
    codec: str = ""
    shuffled: bool = False
    subblock: int = 0
    """Unpacked bytes of a subblock; 0 for none."""
    checksum: str = ""
    big_endian: bool = False
    place: str = "attachment"
    """``attachment``, ``inline:base64``, ``inline:hex`` or ``embedded:base64``."""
    keywords: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    inside: str = ""
    """More XML inside of the image."""
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    """Attributes that are written instead; ``None`` leaves one out."""


def packed(codec: str, data: bytes) -> bytes:
    match codec:
        case "zlib":
            return zlib.compress(data)
        case "lz4":
            return lz4.block.compress(data, store_size=False)
        case "lz4hc":
            return lz4.block.compress(data, mode="high_compression", store_size=False)
        case "zstd":
            return zstandard.ZstdCompressor().compress(data)
    return data


def shuffled(data: bytes, item: int) -> bytes:
    whole = len(data) // item * item
    return np.frombuffer(data[:whole], np.uint8).reshape(-1, item).T.tobytes() + data[whole:]


def write_xisf(
    path: Path,
    values: NDArray[Any] | Sequence[XisfSample],
    *,
    metadata: Mapping[str, str] | None = None,
    doctype: str = "",
    **how: Any,
) -> Path:
    """Write images of one channel; keywords are those of `XisfSample`."""
    samples = [XisfSample(values=values, **how)] if isinstance(values, np.ndarray) else values
    blocks = [_block(sample) for sample in samples]
    start = 4096 if len(samples) == 1 else 16384
    texts, at, attached = [], start, b""
    for sample, (data, attributes) in zip(samples, blocks, strict=True):
        attached = attached.ljust(at - start, b"\0")
        texts.append(_image(sample, data, attributes, at))
        if sample.place == "attachment":
            attached += data
            at = start + -(-len(attached) // 512) * 512
    meta = "".join(f"<Property id={quoteattr(k)} type='String'>{v}</Property>" for k, v in (metadata or {}).items())
    xml = f'<?xml version="1.0" encoding="UTF-8"?>{doctype}<xisf version="1.0" {NAMESPACE}>{"".join(texts)}'
    header = f"{xml}<Metadata>{meta}</Metadata></xisf>".encode()
    assert 16 + len(header) <= start
    preamble = b"XISF0100" + len(header).to_bytes(4, "little") + bytes(4)
    path.write_bytes((preamble + header).ljust(start, b"\0") + attached)
    return path


def _block(sample: XisfSample) -> tuple[bytes, dict[str, str]]:
    dtype = sample.values.dtype.newbyteorder(">" if sample.big_endian else "<")
    plain = sample.values.astype(dtype).tobytes()
    attributes = {"byteOrder": "big"} if sample.big_endian else {}
    data = plain
    if sample.codec:
        item = sample.values.dtype.itemsize
        ordered = shuffled(plain, item) if sample.shuffled else plain
        size = sample.subblock or len(ordered)
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        pieces = [min(part, packed(sample.codec, part), key=len) for part in parts]
        data = b"".join(pieces)
        attributes["compression"] = f"{sample.codec}{'+sh' if sample.shuffled else ''}:{len(plain)}"
        attributes["compression"] += f":{item}" if sample.shuffled else ""
        if sample.subblock:
            attributes["subblocks"] = ":".join(
                f"{len(piece)},{len(part)}" for piece, part in zip(pieces, parts, strict=True)
            )
    if sample.checksum:
        attributes["checksum"] = (
            f"{sample.checksum}:{hashlib.new(sample.checksum.replace('sha-', 'sha'), data).hexdigest()}"
        )
    return data, attributes


def _image(sample: XisfSample, data: bytes, block: dict[str, str], position: int) -> str:
    height, width = sample.values.shape
    kind, _, encoding = sample.place.partition(":")
    text = base64.b64encode(data).decode() if encoding == "base64" else data.hex()
    inside = sample.inside
    location = f"attachment:{position}:{len(data)}"
    attributes: dict[str, str | None] = {
        "geometry": f"{width}:{height}:1",
        "sampleFormat": SAMPLE_FORMATS[sample.values.dtype.str[1:]],
        "colorSpace": "Gray",
    }
    if sample.values.dtype.kind == "f":
        attributes["bounds"] = "0:65535"
    if kind == "embedded":
        of_data = " ".join(f"{k}={quoteattr(v)}" for k, v in block.items())
        inside += f'<Data encoding="{encoding}" {of_data}>{text}</Data>'
        location = "embedded"
    else:
        attributes.update(block)
    if kind == "inline":
        location, inside = sample.place, text + inside
    attributes["location"] = location
    attributes.update(sample.attributes)
    written = " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items() if value is not None)
    inside += "".join(
        f"<FITSKeyword name={quoteattr(k)} value={quoteattr(v)} comment='said'/>" for k, v in sample.keywords.items()
    )
    inside += "".join(
        f"<Property id={quoteattr(k)} type='String'>{v}</Property>"
        if k.endswith("Name")
        else f"<Property id={quoteattr(k)} type='Float32' value={quoteattr(v)}/>"
        for k, v in sample.properties.items()
    )
    return f"<Image {written}>{inside}</Image>"
