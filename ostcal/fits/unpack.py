"""Compressed FITS files (gzip, tile-compressed images) written as plain ones, whose rows can be read in place."""

from __future__ import annotations

import contextlib
import gzip
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
from ostcal.fits.hdus import Unit, check_one_frame, read_units
from ostcal.fits.read import FitsFrame, read_exactly
from ostcal.fits.tiles import TileReader
from ostcal.fits.write import write_stored
from ostcal.places.durable import os_reason
from ostcal.places.paths import absolute, is_remote, joined, open_binary

_STRIP_BYTES = 4 * 2**20


def unpack(frame: FitsFrame, directory: str | os.PathLike[str], tiles: TileReader | None = None) -> FitsFrame:
    """Write the samples of a compressed file into a plain FITS file in a directory; returns that frame.

    Memory is a strip of 4 MiB (and of a tile-compressed image one row of tiles, in a process of its own); no more is
    unpacked than the header promises. A frame that is not packed is returned as it is. `tiles` saves starting a process
    for each file.

    Raises
    ------
    FrameError
        If the compressed data are damaged or end too early, or the file holds several frames.
    StorageError
        If the file cannot be written.
    """
    if frame.packed == "none":
        return frame
    where = absolute(frame.path)
    stem = os.path.basename(where).split(".", 1)[0]
    # the hash keeps dark_001.fits.gz of two directories apart
    name = f"{stem}-{hashlib.blake2b(where.encode('utf-8', 'surrogateescape'), digest_size=6).hexdigest()}.fits"
    path = joined(directory, name)
    with contextlib.ExitStack() as opened:
        packed = opened.enter_context(_on_disk(frame))
        if frame.packed == "gzip":
            strips: Iterator[NDArray[Any]] = _gzip_strips(packed)
        else:
            strips = (tiles or opened.enter_context(TileReader())).strips(packed)
        write_stored(path, frame.cards, strips, frame.data_length, overwrite=True)
    data_offset = padded_length((len(frame.cards) + 1) * CARD_LENGTH)
    return replace(frame, path=path, packed="none", hdu_index=0, data_offset=data_offset)


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
    """Yield the samples of a gzip file, then read on to its end: other frames in it are an error."""
    units: list[Unit] = []
    is_whole = False
    try:
        with gzip.open(frame.path, "rb") as stream:
            for unit in read_units(stream, frame.path):
                units.append(unit)
                if unit.index != frame.hdu_index:
                    continue
                for start in range(0, frame.data_length, _STRIP_BYTES):
                    strip = np.empty(min(_STRIP_BYTES, frame.data_length - start), np.uint8)
                    read_exactly(stream.readinto, strip, frame.path)
                    yield strip
                stream.read(padded_length(frame.data_length) - frame.data_length)
                stream.peek(1)  # at the end of the file gzip compares its checksum
                is_whole = True
    except (OSError, EOFError, zlib.error, FrameError) as error:
        if not is_whole:
            if isinstance(error, FrameError):
                raise
            what = f"cannot be unpacked: {os_reason(error)}"
            raise FrameError(f"{frame.path}: {what}; copy it again or leave it out") from error
    check_one_frame(units, frame.path)
