"""The layout of a series in zarr: names, limits, sample types, and the metadata that say which array is one.

``darks/exp_5.000s.zarr`` is a zarr v3 group with the array ``frames`` (n_frames, height, width) and the directory
``ledger``: one shard per frame, full-width chunks inside, one record per committed frame. docs/formats.md has the
details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from ostcal.codec import parse_json, to_values
from ostcal.errors import FrameError, StorageError
from ostcal.frames import MAX_SIDE, CameraSettings, FrameType, SampleEncoding
from ostcal.places.durable import os_reason, read_bounded
from ostcal.places.paths import AnyPath, Location, joined, path_of
from ostcal.series.record import MAX_INDEX, FrameRecord, record_path
from ostcal.vocabulary import Compressor

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

COMPRESSORS: Final = get_args(Compressor)
FRAMES = "frames"
LEDGER = "ledger"
STORE_ENDING = ".zarr"
METADATA_FILE = "zarr.json"
FORMAT = "ostcal-series"
FORMAT_VERSION = 2
"""Version 2: every chunk ends with its CRC-32C. Series of version 1 are read, and extended as they are."""
MAX_PIXELS = 2**31 - 1
"""Largest frame: 46340 x 46340; the exact sums of frame_statistics hold up to there."""
MAX_CHUNK_BYTES = 1 << 29
"""Largest chunk of an array of another program: a whole frame of 150 MP fits. Damaged metadata must not fill memory."""
ZARR_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, OSError)
"""What zarr-python raises for damaged metadata, and for damaged chunks of layouts that only it can read."""

_MAX_METADATA_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 19
_CHUNK_ROWS = (16, 32)
_MAX_QUOTED = 200

ENCODINGS: Mapping[str, SampleEncoding] = {
    "uint8": SampleEncoding(dtype="uint16"),
    "uint16": SampleEncoding(dtype="uint16"),
    # the sign bit flips while a kernel loads its tile, so that it sorts unsigned numbers whatever the file says
    "int16": SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32768),
    "int32": SampleEncoding(dtype="float64"),
    "float32": SampleEncoding(dtype="float32"),
    "float64": SampleEncoding(dtype="float64"),
}
FRAME_DTYPES = tuple(ENCODINGS)


def chunk_rows(height: int, width: int, itemsize: int, asked: int | None = None) -> int:
    """Return the rows of a chunk: 16 to 32, about 0.5 MB where the frame is wide (24 for 9576 columns of uint16).

    `asked` rows are taken instead, as far as they can be read again. 400 frames of 61 MP then need 184 MB for the
    smallest strip that is read without waste. Multiples of eight keep strips on whole Bayer cells.
    """
    least, most = _CHUNK_ROWS
    if asked is not None:
        return min(asked, height, max(1, MAX_CHUNK_BYTES // (width * itemsize)))
    rows = _CHUNK_BYTES // (width * itemsize) // 8 * 8
    return min(max(least, min(rows, most)), height)


def shared_settings(
    settings: CameraSettings, *, exposure_time_s: float | None, filter_name: str | None, set_temperature_c: float | None
) -> dict[str, Any]:
    """Return what all frames of a series share, as JSON values for its attributes.

    The order of rows stands in the records alone: captured frames have one that no setting of a camera gives.
    """
    return {
        "exposure_time_s": exposure_time_s,
        **to_values(replace(settings, row_order=None)),
        "filter_name": filter_name,
        "set_temperature_c": set_temperature_c,
    }


def create_array(path: Path, shape: tuple[int, int, int], dtype: str, rows: int, compressor: str) -> None:
    """Write the metadata of an empty array of frames, with chunks of `rows` rows."""
    import zarr  # 0.1 s, which masters from FITS files can do without
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

    _, height, width = shape
    itemsize = np.dtype(dtype).itemsize
    compressors: list[BloscCodec] = []
    # zarr's own default, zstd without shuffle, takes four times as long to write
    if compressor == "zstd":
        compressors = [BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=itemsize)]
    elif compressor != "none":  # `shard_writer` may choose bits for a chunk where "shuffle" stands here
        shuffle: Literal["shuffle", "bitshuffle"] = (
            "shuffle" if compressor == "auto" and itemsize == 2 else "bitshuffle"
        )
        compressors = [BloscCodec(cname="lz4", clevel=5, shuffle=shuffle, typesize=itemsize)]
    zarr.create_array(
        path,
        shape=shape,
        shards=(1, -(-height // rows) * rows, width),
        chunks=(1, rows, width),
        dtype=dtype,
        fill_value=0,
        serializer=BytesCodec(endian=None if dtype == "uint8" else "little"),
        compressors=[*compressors, Crc32cCodec()],
        dimension_names=("frame", "row", "column"),
    )


def check_shape(path: Location, shape: tuple[int, int, int], dtype: str) -> None:
    """Check ``(n_frames, height, width)`` and the type of samples against the limits; StorageError beyond them."""
    n_frames, height, width = shape
    if dtype not in FRAME_DTYPES:
        raise StorageError(
            f"{path}: frames of type {short(dtype)} are not supported; there are {', '.join(FRAME_DTYPES)}"
        )
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise StorageError(f"{path}: frames of {width} x {height} pixels; 1 to {MAX_PIXELS} pixels are possible")
    if not 0 <= n_frames <= MAX_INDEX + 1:
        raise StorageError(f"{path}: a series of {n_frames} frames; up to {MAX_INDEX + 1} are possible")


def series_header(path: AnyPath) -> dict[str, Any]:
    """Read the attributes of the group; StorageError where it is no series of this package, or a newer one."""
    metadata = read_metadata(path / METADATA_FILE, str(path))
    match metadata:
        case {"node_type": "group", "attributes": {"format": str(name), "format_version": int(number)}}:
            header: dict[str, Any] = metadata["attributes"]
        case _:
            raise StorageError(f"{path}: it is no series of frames of this program (no group with a format)")
    if name != FORMAT:
        raise StorageError(f"{path}: its format is {short(name)!r}, not {FORMAT!r}")
    if number > FORMAT_VERSION:
        raise StorageError(
            f"{path}: version {number} of the format was written by a newer program; this one reads up to"
            f" {FORMAT_VERSION}; install a newer ostcal"
        )
    if header.get("frame_type") not in list(FrameType) or not isinstance(header.get("settings", {}), dict):
        raise StorageError(f"{path}: its attributes are damaged: frame_type is {short(header.get('frame_type'))}")
    return header


def read_metadata(path: AnyPath, location: str) -> dict[str, Any]:
    """Read a ``zarr.json`` of unknown origin; StorageError names the store at `location`."""
    try:
        metadata = parse_json(read_bounded(path, _MAX_METADATA_BYTES))
        if not isinstance(metadata, dict) or metadata.get("zarr_format") != 3:
            raise ValueError("it does not describe zarr version 3")
    except FileNotFoundError as error:
        raise StorageError(f"{location}: this is no zarr store: {path} does not exist") from error
    except OSError as error:
        raise StorageError(f"{location}: {path} cannot be read: {os_reason(error)}") from error
    except ValueError as error:
        raise StorageError(f"{location}: {path} is damaged: {error}; restore it from a copy") from error
    return metadata


def shard_path(location: str, index: int) -> str:
    """Return where the samples of a frame are."""
    return joined(location, FRAMES, "c", str(index), "0", "0")


def unusable(location: str, index: int, reason: str) -> FrameError:
    """Return the error of a frame that cannot be read, with what to do."""
    return FrameError(
        f"{location}: frame {index} cannot be used: {reason}; restore the shard from a copy, or discard the frame"
        f" by deleting {record_path(path_of(location) / LEDGER, index)}",
        place=f"{location}#{index}",
    )


def short(value: object) -> str:
    """Return what another program or a damaged file says in one line that can be read."""
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."


def listed(records: Sequence[FrameRecord]) -> str:
    """Return which frames there are, for an error about one that is not: ``40, from 0 to 39``."""
    return f"{len(records)}, from {records[0].index} to {records[-1].index}" if records else "none"
