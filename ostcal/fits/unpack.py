"""Compressed files (gzip, tiles, XISF, raw files of cameras) written as plain FITS files, read in place by rows."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.cards import CARD_LENGTH, padded_length
from ostcal.fits.gz import open_gzip
from ostcal.fits.hdus import Unit, read_units, refuse_several
from ostcal.fits.layout import ImageLayout, encode_samples, unsigned_zero
from ostcal.fits.read import FitsFrame, read_exactly, scaled_by_bounds
from ostcal.fits.tiles import TileReader
from ostcal.fits.write import write_pieces, write_stored
from ostcal.places.durable import os_reason
from ostcal.places.paths import absolute, is_file, is_remote, joined, open_binary
from ostcal.raw.reader import raw_reader
from ostcal.xisf.blocks import check_block, unpacked_strips

_STRIP_BYTES = 4 * 2**20
_SPARE_BYTES = 8 * 2**20
"""What stays free of a disk beside what is unpacked there."""


def unpack(frame: FitsFrame, directory: str | os.PathLike[str], tiles: TileReader | None = None) -> FitsFrame:
    """Write the samples of a compressed file into a plain FITS file in a directory; returns that frame.

    A gzip file of several images is unpacked whole, once for all of them.

    Memory is a strip of 4 MiB (and of a tile-compressed image one row of tiles, in a process of its own; of an XISF
    block of LZ4 or Zstandard its packed bytes); no more is unpacked than the header promises. A frame that is not
    packed is compared with its checksum, where that is not done while it is read (XISF). `tiles` saves starting a
    process for each file.

    Raises
    ------
    FrameError
        If the compressed data are damaged or end too early, the file holds several frames, its tiles take more memory
        than `tiles` may, or the samples do not fit on the disk of `directory`.
    StorageError
        If the file cannot be written.
    """
    if frame.is_ready:
        return frame
    if frame.packed == "none" and frame.block is not None:
        check_block(frame.path, frame.block)
        return replace(frame, block=None)
    where = absolute(frame.path)
    stem = os.path.basename(where).split(".", 1)[0]
    # the hash keeps dark_001.fits.gz of two directories apart
    mark = hashlib.blake2b(where.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    is_gunzipped = frame.packed == "gzip" and (frame.extension is not None or frame.plane is not None)
    if frame.packed in ("xisf", "raw"):
        check_room(frame.path, frame.data_length, directory)
    if frame.packed == "xisf":
        return _unpack_xisf(frame, directory, joined(directory, f"{stem}-{mark}-{frame.hdu_index}.fits"))
    if frame.packed == "raw":
        return _unpack_raw(frame, joined(directory, f"{stem}-{mark}.fits"))
    number = f"-{frame.hdu_index}" if frame.extension is not None and not is_gunzipped else ""
    plane = f"-plane{frame.plane}" if frame.plane is not None and not is_gunzipped else ""
    path = joined(directory, f"{stem}-{mark}{number}{plane}.fits")
    if not is_gunzipped:
        check_room(frame.path, frame.data_length, directory)
    if is_gunzipped:
        if not is_file(path):  # for an image of the same file
            with _on_disk(frame) as packed:
                write_pieces(path, _gunzipped(packed, directory))
        return replace(frame, path=path, packed="none")
    with contextlib.ExitStack() as opened:
        packed = opened.enter_context(_on_disk(frame))
        if frame.packed == "gzip":
            strips: Iterator[NDArray[Any]] = _gzip_strips(packed)
        else:
            strips = (tiles or opened.enter_context(TileReader())).strips(packed)
        write_stored(path, frame.cards, strips, frame.data_length, overwrite=True)
    data_offset = padded_length((len(frame.cards) + 1) * CARD_LENGTH)
    return replace(frame, path=path, packed="none", hdu_index=0, data_offset=data_offset)


def _unpack_xisf(frame: FitsFrame, directory: str | os.PathLike[str], path: str) -> FitsFrame:
    """Write the samples of a block of an XISF file as those of a FITS file."""
    if frame.block is None:
        raise ValueError(f"{frame.path}: has no data block")
    check_block(frame.path, frame.block)
    stored = frame.stored_dtype
    as_fits = ImageLayout(width=frame.width, height=frame.height, bitpix=frame.bitpix, bzero=unsigned_zero(stored))
    strips = (
        encode_samples(strip.view(stored).astype(stored.newbyteorder("="), copy=False), as_fits, path)
        for strip in unpacked_strips(frame.path, frame.block, directory)
    )
    write_stored(path, frame.cards, strips, frame.data_length, overwrite=True)
    data_offset = padded_length((len(frame.cards) + 1) * CARD_LENGTH)
    plain = replace(frame, path=path, packed="none", block=None, file_dtype="", hdu_index=0, data_offset=data_offset)
    return scaled_by_bounds(plain)


def _unpack_raw(frame: FitsFrame, path: str) -> FitsFrame:
    """Write the mosaic of a raw file of a camera as the samples of a FITS file."""
    layout = ImageLayout(width=frame.width, height=frame.height, bitpix=16, bzero=32768.0)
    strips = (
        encode_samples(strip, layout, path) for strip in raw_reader().strips(frame.path, frame.width * frame.height)
    )
    write_stored(path, frame.cards, strips, frame.data_length, overwrite=True)
    data_offset = padded_length((len(frame.cards) + 1) * CARD_LENGTH)
    return replace(frame, path=path, packed="none", data_offset=data_offset)


@contextlib.contextmanager
def _on_disk(frame: FitsFrame) -> Iterator[FitsFrame]:
    """Yield a compressed file as one of this computer: it is read from its beginning to its end."""
    if not is_remote(frame.path):
        yield frame
        return
    with tempfile.TemporaryDirectory(prefix="ostcal-") as scratch:
        copy = os.path.join(scratch, os.path.basename(frame.path))
        try:
            with open_binary(frame.path) as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target, _STRIP_BYTES)
            yield replace(frame, path=copy)
        except FrameError as error:
            raise FrameError(str(error).replace(copy, frame.path)) from error


def _gzip_strips(frame: FitsFrame) -> Iterator[NDArray[Any]]:
    """Yield the samples of a gzip file, then read on to its end: other images in it are an error, and so is damage."""
    units: list[Unit] = []
    is_whole = False
    try:
        with open_gzip(frame.path) as stream:
            try:
                for unit in read_units(stream, frame.path):
                    units.append(unit)
                    if unit.index != frame.hdu_index:
                        continue
                    for start in range(0, frame.data_length, _STRIP_BYTES):
                        strip = np.empty(min(_STRIP_BYTES, frame.data_length - start), np.uint8)
                        read_exactly(stream.readinto, strip, frame.path)
                        yield strip
                    is_whole = True
            except FrameError:
                if not is_whole:  # what lies behind the image may be anything, as long as it is whole
                    raise
            stream.finish()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(frame, error) from error
    refuse_several([unit.name for unit in units if unit.is_frame], frame.path)


def _gunzipped(frame: FitsFrame, directory: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield a gzip file unpacked up to the end of its last image, then read on to its end."""
    try:
        with open_gzip(frame.path) as stream:
            end = max(unit.end for unit in read_units(stream, frame.path) if unit.is_frame)
        check_room(frame.path, end, directory)
        with open_gzip(frame.path) as stream:
            for start in range(0, end, _STRIP_BYTES):
                piece = stream.read(min(_STRIP_BYTES, end - start))
                if not piece:
                    return
                yield piece
            stream.finish()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(frame, error) from error


def check_gzip(path: str) -> None:
    """Read a gzip file to its end; FrameError where it is cut or its samples do not fit its checksum."""
    try:
        with open_gzip(path) as stream:
            stream.finish()
    except (OSError, EOFError, zlib.error) as error:
        raise FrameError(f"{path}: cannot be unpacked: {os_reason(error)}; restore it from a copy") from error


def check_room(path: str, n_bytes: int, directory: str | os.PathLike[str]) -> None:
    """Raise FrameError where what a file unpacks to does not fit on the disk of a directory."""
    free = free_bytes(directory)
    if free is not None and n_bytes > free:
        raise FrameError(
            f"{path}: cannot be unpacked: it takes {n_bytes} bytes, {os.fspath(directory)} has {free} free; free space"
            " there, or leave it out"
        )


def room_bytes(frame: FitsFrame) -> int:
    """Return what a frame takes on a disk when it is unpacked, as far as its header tells."""
    return padded_length((len(frame.cards) + 1) * CARD_LENGTH) + padded_length(frame.data_length)


def free_bytes(directory: str | os.PathLike[str]) -> int | None:
    """Return how much may be unpacked into a directory; ``None`` where the system does not say."""
    try:
        return max(0, shutil.disk_usage(directory).free - _SPARE_BYTES)
    except OSError:
        return None


def _damaged(frame: FitsFrame, error: Exception) -> FrameError:
    return FrameError(f"{frame.path}: cannot be unpacked: {os_reason(error)}; copy it again or leave it out")
