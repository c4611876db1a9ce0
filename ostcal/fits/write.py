"""FITS files written strip by strip: masters from cards and rows, raw frames bit for bit.

A file appears under its name only when it is complete (`ostcal.places.durable`). For an object store it is written to a
temporary file, as checksums are filled in afterwards, and sent when it is whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import StorageError
from ostcal.fits.cards import (
    Card,
    Header,
    card_keyword,
    format_card,
    header_bytes,
    image_cards,
    is_structural,
    padded_length,
    structural_cards,
)
from ostcal.fits.checksum import OnesSum, header_with_sums
from ostcal.fits.layout import ImageLayout, encode_samples, layout_from_header
from ostcal.fits.unfinished import STRIP_BYTES, UnfinishedImage, write_failure
from ostcal.places.direct_output import AlignedBuffers, DirectOutput
from ostcal.places.durable import PARTIAL_ENDING, os_reason, replaced_file
from ostcal.places.paths import is_remote, is_taken, local_copy_for, open_binary

logger = logging.getLogger(__name__)

PlaneRows = Callable[[int, int], NDArray[Any]]
"""Returns the rows from start to stop as an array ``(stop - start, width)``."""

PARTIAL_FITS = (f".fits{PARTIAL_ENDING}", f".fit{PARTIAL_ENDING}")
"""Endings of files that are being written."""

_ROWS_PER_WRITE = 256
ABOUT_SAMPLES = ("BZERO", "BSCALE", "BLANK", "DATAMIN", "DATAMAX")
"""True of the raw samples only."""
_LAYOUTS = {
    "uint8": (8, 0.0), "int16": (16, 0.0), "uint16": (16, 32768.0), "int32": (32, 0.0),
    "float32": (-32, 0.0), "float64": (-64, 0.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImagePlane:
    """One image of a file that is made from cards and rows."""

    name: str | None = None
    """EXTNAME."""
    version: int | None = None
    """EXTVER."""
    kept_cards: Sequence[str] = ()
    """Cards of 80 characters that an extension keeps as they are, where it has none of its own."""
    history: Sequence[str] = ()
    """Texts for HISTORY cards of an extension."""
    rows_per_write: int | None = None
    """Height of its strips; ``None`` is that of the file."""
    dtype: Literal["float32", "int32", "int16", "uint16", "uint8"]
    height: int
    width: int
    cards: Sequence[Card] = ()
    """Cards without those that describe the file's structure; values of ``None`` and NaN make no card."""
    read_rows: PlaneRows
    """Called once per strip, in order where one thread writes; its rows are of `dtype`."""


@dataclass(frozen=True, kw_only=True)
class RawFrame:
    """A raw frame on its way back into a FITS file."""

    cards: Sequence[str] = ()
    """The original header without END; empty, or without SIMPLE, for a frame that never was a FITS file."""
    dtype: str
    """Of the values, for frames whose cards do not say how samples are stored."""
    height: int
    width: int
    read_rows: PlaneRows
    """Its rows are in ADU, NaN for blank samples."""


def header_length(planes: Sequence[ImagePlane], history: Sequence[str] = ()) -> int:
    """Return the bytes of the primary header that `write_fits` would write."""
    return len(header_with_sums(_primary_cards(planes, (), history)))


def write_fits(
    path: str | os.PathLike[str],
    planes: Sequence[ImagePlane],
    *,
    kept_cards: Sequence[str] = (),
    history: Sequence[str] = (),
    rows_per_write: int | None = None,
    threads: int = 1,
    overwrite: bool = False,
    begun: UnfinishedImage | None = None,
    primary: Sequence[Card] | None = None,
) -> None:
    """Write images to one file, the first as its primary HDU, the others as IMAGE extensions, with checksums.

    Memory is one strip and its big-endian copy for each thread. 9576 x 6388 float32 (245 MB) take 0.26 to 0.38 s of
    one thread on a warm disk, checksums and sync included.

    Parameters
    ----------
    path : path
        Of the new file; its directory must exist.
    planes : sequence of ImagePlane
    kept_cards : sequence of str
        Cards of 80 characters of the raw frame that the first image was made of: WCS, HISTORY and unknown cards stay as
        they are, where the image has no card of its own.
    history : sequence of str
        Texts for HISTORY cards of the primary header, of any length.
    rows_per_write : int, optional
        Height of a strip; ``None`` is 2 MiB.
    threads : int
        How many strips are read and turned at a time.
    overwrite : bool
        Whether an existing file of that name may be replaced.
    begun : UnfinishedImage, optional
        Samples of the first image that were written before. All are written now where some are missing, or the header
        has another length. The file is the same.
    primary : sequence of Card, optional
        Cards of a primary HDU without an image; all images are extensions then, and `kept_cards` and `history` are of
        the primary header.

    Raises
    ------
    StorageError
        If the file exists already or cannot be written; nothing is left behind then.
    """
    path = os.fspath(path)
    if not planes or (rows_per_write is not None and rows_per_write < 1) or threads < 1:
        raise ValueError(f"{path}: {len(planes)} planes in strips of {rows_per_write} rows: at least one is needed")
    if primary is None:
        first_cards = _primary_cards(planes, kept_cards, history)
    else:
        first_cards = _empty_cards(primary, kept_cards, history)
    data_sum = None
    if begun is not None:
        length = len(header_with_sums(first_cards))
        data_sum = begun.data_sum() if length == begun.header_length else None
        how = "are written again" if data_sum is None else "were written with the strips"
        logger.debug("%s: its samples %s, its header has %d bytes", path, how, length)
    with new_file(path, overwrite=overwrite, begun=data_sum is not None) as file:
        if primary is not None:
            file.write(header_with_sums(first_cards))
        for index, plane in enumerate(planes):
            cards = _extension_cards(plane) if index or primary is not None else first_cards
            if index == 0 and begun is not None and data_sum is not None:
                begun.finish(file, header_with_sums(cards, data_sum))
            else:
                _write_hdu(file, cards, plane, path, rows_per_write, threads)


def write_raw_frame(
    path: str | os.PathLike[str], frame: RawFrame, *, rows_per_write: int = _ROWS_PER_WRITE, overwrite: bool = False
) -> None:
    """Write a raw frame with its original header: where that came from a plain FITS file, the same bytes come back.

    Cards are kept in order and not parsed. Only where they do not describe an image of this size as a primary HDU,
    those of the structure are written again, and CHECKSUM is left out, because it would not fit. A file of the same
    bytes stays as it is. Raise StorageError where another one has the name, it cannot be written, or a value does not
    fit the samples the header describes.
    """
    path = os.fspath(path)
    cards, layout = list(frame.cards), None
    if cards and card_keyword(cards[0]) == "SIMPLE":
        layout = layout_from_header(Header(cards), path)
    if layout is None or (layout.width, layout.height) != (frame.width, frame.height):
        bitpix, bzero = _LAYOUTS[frame.dtype]
        layout = ImageLayout(width=frame.width, height=frame.height, bitpix=bitpix, bzero=bzero)
        cards = structural_cards(bitpix, frame.height, frame.width)
        if bzero:
            cards += format_card("BZERO", int(bzero), "value = BZERO + stored sample") + format_card("BSCALE", 1)
        cards += image_cards(frame.cards, without=("BZERO", "BSCALE", "BLANK"))
    strips = (
        encode_samples(_rows(frame, start, start + rows_per_write, path), layout, path)
        for start in range(0, frame.height, rows_per_write)
    )
    write_stored(path, cards, strips, layout.data_length, overwrite=overwrite)


def write_raw_images(
    path: str, primary: Sequence[str], images: Sequence[RawFrame], *, has_primary: bool, rows: int = _ROWS_PER_WRITE
) -> None:
    """Write raw images into one file, with its primary header and their own; samples are bit for bit what they were.

    With `has_primary` the first of the images is in the primary HDU, else that has none. A file of the same bytes stays
    as it is.

    Raises
    ------
    StorageError
        If another file has the name, it cannot be written, or a value does not fit the samples that a header describes.
    """
    with new_or_same_file(path) as file:
        if not has_primary:
            is_empty = Header(primary).value("NAXIS") == 0
            file.write(header_bytes(primary if is_empty else _empty_cards((), primary, ())))
        for place, image in enumerate(images):
            layout = layout_from_header(Header(image.cards), path)
            if layout is None or (layout.width, layout.height) != (image.width, image.height):
                raise StorageError(f"{path}: the header of its image {place} is not that of its samples")
            file.write(header_bytes(image.cards))
            for start in range(0, image.height, rows):
                strip = encode_samples(_rows(image, start, start + rows, path), layout, path)
                file.write(np.ascontiguousarray(strip).reshape(-1).view(np.uint8).data)
            file.write(bytes(padded_length(layout.data_length) - layout.data_length))


def write_stored(
    path: str, cards: Sequence[str], strips: Iterable[NDArray[Any]], data_length: int, *, overwrite: bool = False
) -> None:
    """Write one HDU from finished cards (without END) and arrays of samples exactly as they are to be stored.

    Raise StorageError where another file has the name or it cannot be written, or the strips are not ``data_length``
    bytes.
    """
    with new_file(path, overwrite=True) if overwrite else new_or_same_file(path) as file:
        file.write(header_bytes(cards))
        written = 0
        for strip in strips:
            file.write(np.ascontiguousarray(strip).reshape(-1).view(np.uint8).data)
            written += strip.nbytes
        if written != data_length:
            raise StorageError(f"{path}: {written} bytes of samples were given for an image of {data_length}")
        file.write(bytes(padded_length(written) - written))


def write_pieces(path: str, pieces: Iterable[bytes]) -> None:
    """Write a file from its bytes; StorageError where it exists already or cannot be written."""
    with new_file(path, overwrite=False) as file:
        for piece in pieces:
            file.write(piece)


# ---- cards and strips ----


def _primary_cards(planes: Sequence[ImagePlane], kept_cards: Sequence[str], history: Sequence[str]) -> list[str]:
    cards = _plane_cards(planes[0], extension=False, extend=len(planes) > 1)
    made = {card_keyword(card) for card in cards}
    cards += image_cards(kept_cards, without=made.union(ABOUT_SAMPLES))
    return cards + [image for text in history for image in format_card("HISTORY", text)]


def _empty_cards(primary: Sequence[Card], kept_cards: Sequence[str], history: Sequence[str]) -> list[str]:
    """Return the cards of a primary HDU without an image."""
    structure: list[Card] = [
        ("SIMPLE", True, "FITS standard"),
        ("BITPIX", 8, "no image"),
        ("NAXIS", 0, "no image"),
        ("EXTEND", True, "extensions follow"),
    ]
    cards = [image for card in (*structure, *primary) for image in format_card(*card)]
    made = {card_keyword(card) for card in cards}
    cards += image_cards(kept_cards, without=made.union(ABOUT_SAMPLES))
    return cards + [image for text in history for image in format_card("HISTORY", text)]


def _extension_cards(plane: ImagePlane) -> list[str]:
    cards = _plane_cards(plane, extension=True)
    made = {card_keyword(card) for card in cards}
    cards += image_cards(plane.kept_cards, without=made.union(ABOUT_SAMPLES))
    return cards + [image for text in plane.history for image in format_card("HISTORY", text)]


def _plane_cards(plane: ImagePlane, *, extension: bool, extend: bool = False) -> list[str]:
    bitpix, bzero = _LAYOUTS[plane.dtype]
    cards = structural_cards(bitpix, plane.height, plane.width, extension=extension)
    made: list[Card] = [("EXTEND", True, "extensions follow")] if extend else []
    made += [("EXTNAME", plane.name, "what this image is"), ("EXTVER", plane.version, "which of this name")]
    if bzero:
        made += [("BZERO", int(bzero), "value = BZERO + stored sample"), ("BSCALE", 1, "")]
    for keyword, _, _ in plane.cards:
        if is_structural(keyword) or keyword in ("BZERO", "BSCALE"):
            raise ValueError(f"{keyword} is made by the writer and cannot be among the cards of a plane")
    made += plane.cards
    cards += [image for card in made for image in format_card(*card)]
    if any(card_keyword(card) == "CONTINUE" for card in cards):  # fitsverify warns where this card is missing
        cards += format_card("LONGSTRN", "OGIP 1.0", "long strings go on in CONTINUE cards")
    return cards


def _write_hdu(
    file: BinaryIO, cards: list[str], plane: ImagePlane, path: str, rows_per_write: int | None, threads: int
) -> None:
    """Write one HDU; when the sum of its samples is known, write its header again with DATASUM and CHECKSUM."""
    bitpix, bzero = _LAYOUTS[plane.dtype]
    layout = ImageLayout(width=plane.width, height=plane.height, bitpix=bitpix, bzero=bzero)
    row_bytes = plane.width * layout.stored_dtype.itemsize
    step = plane.rows_per_write or rows_per_write or max(1, STRIP_BYTES // max(1, row_bytes))
    start = file.tell()
    file.write(header_with_sums(cards))
    data_start = file.tell()
    file.flush()
    buffers, data_sum = AlignedBuffers(), OnesSum()
    with (
        contextlib.closing(DirectOutput(file, file.name)) as output,
        ThreadPoolExecutor(threads, thread_name_prefix="fits") as pool,
    ):

        def write(first: int) -> int:
            rows = _rows(plane, first, first + step, path)
            if rows.dtype != np.dtype(plane.dtype):
                raise ValueError(f"{path}: rows {first} to {first + len(rows)} are {rows.dtype}, not {plane.dtype}")
            offset = first * row_bytes
            strip = buffers.at(data_start + offset, len(rows) * row_bytes)
            stored = strip.view(layout.stored_dtype).reshape(rows.shape)
            np.copyto(stored, encode_samples(rows, layout, path) if bzero else rows)
            part = OnesSum(offset)
            part.add(strip)
            output.write(data_start + offset, strip)
            return part.value

        starts = range(0, plane.height, step)
        for value in map(write, starts) if threads == 1 else pool.map(write, starts):
            data_sum.add_number(value)
    end = data_start + padded_length(layout.data_length)
    file.seek(data_start + layout.data_length)
    file.write(bytes(end - file.tell()))
    file.seek(start)
    file.write(header_with_sums(cards, data_sum.value))
    file.seek(end)


def _rows(image: ImagePlane | RawFrame, start: int, stop: int, path: str) -> NDArray[Any]:
    """Read rows, as far as there are any, and check their shape."""
    stop = min(stop, image.height)
    rows = image.read_rows(start, stop)
    if rows.shape != (stop - start, image.width):
        raise ValueError(f"{path}: rows {start} to {stop} are {rows.shape}, not {(stop - start, image.width)}")
    return rows


# ---- the file ----


class ByteSink(Protocol):
    """Takes the bytes of a file, one piece after the other."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take the next bytes."""


class _Comparison:
    """Compares what would be written with the bytes of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_same = True

    def write(self, data: bytes | memoryview, /) -> int:
        self._is_same = self._is_same and self._file.read(len(data)) == data
        return len(data)

    @property
    def is_same(self) -> bool:
        """Whether the file holds what was written, and no more."""
        return self._is_same and not self._file.read(1)


@contextlib.contextmanager
def new_or_same_file(path: str) -> Iterator[ByteSink]:
    """Open a new file as `new_file` does; one that is there is left alone and compared with what is written.

    So a command that was killed goes on when it is run again. StorageError where the file is another one.
    """
    if not is_taken(path):
        with new_file(path, overwrite=False) as file:
            yield file
        return
    try:
        with open_binary(path) as there:
            comparison = _Comparison(there)
            yield comparison
            is_same = comparison.is_same
    except OSError as error:
        raise StorageError(f"{path}: exists already and cannot be read: {os_reason(error)}; move it away") from error
    if not is_same:
        raise StorageError(_taken(path))


def _taken(path: str) -> str:
    return f"{path}: exists already and is not overwritten; move it away or choose another name"


@contextlib.contextmanager
def new_file(path: str, *, overwrite: bool, begun: bool = False) -> Iterator[BinaryIO]:
    """Open ``path.partial`` for a new file (which exists already with `begun`); it gets its name when it is whole."""
    if not overwrite and is_taken(path):
        raise StorageError(_taken(path))
    try:
        if is_remote(path):
            with local_copy_for(path) as local, local.open("wb") as file:
                yield file
                file.flush()
            return
        partial = Path(path + PARTIAL_ENDING)
        with replaced_file(Path(path), partial, durable=True, begun=begun, overwrite=overwrite) as file:
            yield file
    except FileExistsError as error:
        raise StorageError(_taken(path)) from error
    except OSError as error:
        raise StorageError(write_failure(path, error)) from error
