"""FITS files written strip by strip: masters from cards and rows, raw frames bit for bit.

A file appears under its name only when it is complete: it is written to ``NAME.partial`` beside it, synced and renamed.
For an object store it is written to a temporary file, as checksums are filled in afterwards, and sent when it is whole.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

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
from ostcal.fits.layout import ImageLayout, encode_samples, layout_from_header
from ostcal.places.direct_output import DirectOutput, buffer_for
from ostcal.places.durable import full_disk_advice, is_disk_full
from ostcal.places.paths import is_remote, is_taken, local_copy_for

logger = logging.getLogger(__name__)

PARTIAL_ENDING = ".partial"
RowReader = Callable[[int, int], NDArray[Any]]
"""Gives the rows from start to stop as an array ``(stop - start, width)``."""

_NOTE = struct.Struct("<II")
"""Of a strip that was written early: its rows, and what their samples sum to."""
_of_thread = threading.local()

_ROWS_PER_WRITE = 256
_STRIP_BYTES = 2 * 2**20
"""A strip that stays in the cache while it is turned and summed: 0.03 s for 245 MB, 0.24 s in strips of 10 MB."""
_ABOUT_SAMPLES = ("BZERO", "BSCALE", "BLANK", "DATAMIN", "DATAMAX")
"""True of the raw samples only."""
_LAYOUTS = {
    "uint8": (8, 0.0), "int16": (16, 0.0), "uint16": (16, 32768.0), "int32": (32, 0.0),
    "float32": (-32, 0.0), "float64": (-64, 0.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImagePlane:
    """One image of a file that is made from cards and rows.

    Attributes
    ----------
    name : str or None
        EXTNAME.
    dtype : str
        Of the array that ``read_rows`` gives.
    height, width : int
        Pixels.
    cards : sequence of (keyword, value, comment)
        Cards without those that describe the file's structure; values of ``None`` and NaN make no card.
    read_rows : callable
        ``read_rows(start, stop)`` gives ``(stop - start, width)`` of ``dtype``; called once per strip, in order where
        one thread writes.
    """

    name: str | None = None
    dtype: Literal["float32", "int32", "int16", "uint16", "uint8"]
    height: int
    width: int
    cards: Sequence[Card] = ()
    read_rows: RowReader


@dataclass(frozen=True, kw_only=True)
class RawFrame:
    """A raw frame on its way back into a FITS file.

    Attributes
    ----------
    cards : sequence of str
        The original header, cards of 80 characters without END; empty, or without SIMPLE, for a frame that never was
        a FITS file.
    dtype : str
        Of the values, for frames whose cards do not say how samples are stored.
    height, width : int
        Pixels.
    read_rows : callable
        ``read_rows(start, stop)`` gives the values in ADU, ``(stop - start, width)``, NaN for blank samples.
    """

    cards: Sequence[str] = ()
    dtype: str
    height: int
    width: int
    read_rows: RowReader


@dataclass(frozen=True, kw_only=True)
class EarlyImage:
    """The float32 samples of a file's first image, written as strips are made and before its header is known.

    Reading a master of 61 MP once more to write its file takes 0.25 to 0.4 s at the end of a run; in between, disk and
    cores have the time. Strips may be written from any thread or process, in any order and twice. What they sum to is
    noted behind the samples until the file is finished.

    Attributes
    ----------
    path : str
        Of the file; samples go to ``path.partial``.
    header_length : int
        Bytes before the samples, as `header_length` gives them.
    height, width : int
        Pixels.
    """

    path: str
    header_length: int
    height: int
    width: int

    @property
    def _samples_end(self) -> int:
        return self.header_length + padded_length(4 * self.height * self.width)

    def begin(self) -> None:
        """Make the file, empty as yet.

        Raises
        ------
        StorageError
            If it cannot be made.
        """
        try:
            with self._opened("wb") as file:
                file.truncate(self._samples_end + _NOTE.size * self.height)
        except StorageError:
            self.discard()
            raise

    def write_rows(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write rows that begin at `start`.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        step = max(1, _STRIP_BYTES // (4 * self.width))
        total = OnesSum()
        with self._opened("r+b") as file, contextlib.closing(DirectOutput(file, file.name)) as output:
            for first in range(0, len(rows), step):
                part = rows[first : first + step]
                offset = 4 * (start + first) * self.width
                room: mmap.mmap | None = getattr(_of_thread, "room", None)
                buffer, _of_thread.room = buffer_for(self.header_length + offset, part.nbytes, room)
                np.copyto(buffer.view(">f4").reshape(part.shape), part)
                total.add(buffer)
                output.write(self.header_length + offset, buffer)
            file.seek(self._samples_end + _NOTE.size * start)
            file.write(_NOTE.pack(len(rows), total.value))

    def data_sum(self) -> int | None:
        """Give the sum of all samples for DATASUM; ``None`` where rows have not been written."""
        total, start = OnesSum(), 0
        try:
            with open(self.path + PARTIAL_ENDING, "rb") as file:
                file.seek(self._samples_end)
                notes = file.read()
        except OSError:
            return None
        while start < self.height and len(notes) == _NOTE.size * self.height:
            n_rows, value = _NOTE.unpack_from(notes, _NOTE.size * start)
            if n_rows == 0:
                return None
            total.add_number(value)
            start += n_rows
        return total.value if start == self.height else None

    def discard(self) -> None:
        """Remove what was written, if it did not become a file."""
        with contextlib.suppress(OSError):
            os.remove(self.path + PARTIAL_ENDING)

    @contextlib.contextmanager
    def _opened(self, mode: Literal["wb", "r+b"]) -> Iterator[BinaryIO]:
        try:
            with open(self.path + PARTIAL_ENDING, mode) as file:
                yield file
        except OSError as error:
            raise StorageError(_write_failure(self.path, error)) from error


def header_length(planes: Sequence[ImagePlane], history: Sequence[str] = ()) -> int:
    """Give the bytes of the primary header that `write_fits` would write."""
    return len(header_bytes(_primary_cards(planes, (), history) + _checksum_cards("0" * 16, 0)))


def write_fits(
    path: str | os.PathLike[str],
    planes: Sequence[ImagePlane],
    *,
    kept_cards: Sequence[str] = (),
    history: Sequence[str] = (),
    rows_per_write: int | None = None,
    threads: int = 1,
    overwrite: bool = False,
    early: EarlyImage | None = None,
) -> None:
    """Write images to one file, the first as its primary HDU, the others as IMAGE extensions, with checksums.

    Memory is one strip and its big-endian copy for each thread. 9576 x 6388 float32 (245 MB) take 0.26 to 0.38 s of
    one thread on a warm disk, checksums and sync included.

    Parameters
    ----------
    path : path
        Of the new file; its directory must exist.
    planes : sequence of ImagePlane
        At least one.
    kept_cards : sequence of str
        Cards of 80 characters of the raw frame that the first image was made of: WCS, HISTORY and all that nobody here
        knows stay as they stand, where the image has no card of its own.
    history : sequence of str
        Texts for HISTORY cards of the primary header, of any length.
    rows_per_write : int, optional
        Height of a strip; ``None`` is 2 MiB.
    threads : int
        How many strips are read and turned at a time.
    overwrite : bool
        Whether an existing file of that name may be replaced.
    early : EarlyImage, optional
        Samples of the first image that were written before; where some are missing, or the header is longer than was
        thought, all are written now. The file is the same.

    Raises
    ------
    StorageError
        If the file exists already or cannot be written; nothing is left behind then.
    """
    path = os.fspath(path)
    if not planes or (rows_per_write is not None and rows_per_write < 1) or threads < 1:
        raise ValueError(f"{path}: {len(planes)} planes in strips of {rows_per_write} rows: at least one is needed")
    first_cards = _primary_cards(planes, kept_cards, history)
    written = _written_early(early, first_cards) if early is not None else None
    with _new_file(path, overwrite=overwrite, begun=written is not None) as file:
        for index, plane in enumerate(planes):
            cards = _plane_cards(plane, extension=True) if index else first_cards
            if index == 0 and written is not None:
                _finish_early(file, cards, plane_length(plane), written)
                continue
            rows = rows_per_write or max(1, _STRIP_BYTES * plane.height // max(1, plane_length(plane)))
            _write_hdu(file, cards, _StripMaker(plane, path), _strip_bounds(plane.height, rows), threads)


def write_raw_frame(
    path: str | os.PathLike[str], frame: RawFrame, *, rows_per_write: int = _ROWS_PER_WRITE, overwrite: bool = False
) -> None:
    """Write a raw frame with its original header: where that came from a plain FITS file, the same bytes come back.

    Cards are kept in order and unread. Only where they do not describe an image of this size as a primary HDU are
    those of the structure made anew (and CHECKSUM left out, because it would not fit).

    Raises
    ------
    StorageError
        If the file exists already, cannot be written, or a value does not fit the samples the header describes.
    """
    path = os.fspath(path)
    cards, layout = _raw_cards(frame, path)
    strips = (
        encode_samples(_rows(frame, start, stop, path), layout, path)
        for start, stop in _strip_bounds(frame.height, rows_per_write)
    )
    write_stored(path, cards, strips, layout.data_length, overwrite=overwrite)


def write_stored(
    path: str, cards: Sequence[str], strips: Iterable[NDArray[Any]], data_length: int, *, overwrite: bool = False
) -> None:
    """Write one HDU from finished cards (without END) and arrays of samples exactly as they are to be stored.

    Raises
    ------
    StorageError
        If the file exists already or cannot be written, or the strips are not ``data_length`` bytes together.
    """
    with _new_file(path, overwrite=overwrite) as file:
        file.write(header_bytes(cards))
        written = sum(_write_all(file, strip) for strip in strips)
        if written != data_length:
            raise StorageError(f"{path}: {written} bytes of samples were given for an image of {data_length}")
        file.write(bytes(padded_length(written) - written))


def remove_partial_files(directory: str | os.PathLike[str]) -> list[str]:
    """Remove what interrupted writers left in a directory (not below it); give the paths of what was removed.

    Only for directories that no other process is writing to.
    """
    removed: list[str] = []
    if is_remote(directory):  # nothing is ever half-written there
        return removed
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.lower().endswith((f".fits{PARTIAL_ENDING}", f".fit{PARTIAL_ENDING}")) and entry.is_file():
                with contextlib.suppress(FileNotFoundError):
                    os.remove(entry.path)
                    removed.append(entry.path)
    return sorted(removed)


# ---------------------------------------------------------------------------------------------------------------------
# Cards and strips


def _primary_cards(planes: Sequence[ImagePlane], kept_cards: Sequence[str], history: Sequence[str]) -> list[str]:
    cards = _plane_cards(planes[0], extension=False, extend=len(planes) > 1)
    made = {card_keyword(card) for card in cards}
    cards += image_cards(kept_cards, without=made.union(_ABOUT_SAMPLES))
    return cards + [image for text in history for image in format_card("HISTORY", text)]


def plane_length(plane: ImagePlane) -> int:
    """Give the bytes of a plane's samples, without padding."""
    return plane.height * plane.width * np.dtype(plane.dtype).itemsize


def _plane_cards(plane: ImagePlane, *, extension: bool, extend: bool = False) -> list[str]:
    bitpix, bzero = _LAYOUTS[plane.dtype]
    cards = structural_cards(bitpix, plane.height, plane.width, extension=extension)
    made: list[Card] = [("EXTEND", True, "extensions follow")] if extend else []
    made.append(("EXTNAME", plane.name, "what this image is"))
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


class _StripMaker:
    """Gives strips of a plane in big-endian order; one buffer of each thread serves them all.

    A fresh buffer for each strip costs 4 times the swap itself.
    """

    def __init__(self, plane: ImagePlane, path: str) -> None:
        bitpix, self._bzero = _LAYOUTS[plane.dtype]
        self._plane, self._path = plane, path
        self._layout = ImageLayout(width=plane.width, height=plane.height, bitpix=bitpix, bzero=self._bzero)
        self._of_thread = threading.local()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is stored."""
        return self._plane.width * self._layout.stored_dtype.itemsize

    def strip(self, start: int, stop: int, offset: int) -> NDArray[np.uint8]:
        """Give the bytes of rows that are to be written at an offset; good until this thread asks for the next ones."""
        plane = self._plane
        rows = _rows(plane, start, stop, self._path)
        if rows.dtype != np.dtype(plane.dtype):
            raise ValueError(f"{self._path}: rows {start} to {stop} are {rows.dtype}, not {plane.dtype}")
        room: mmap.mmap | None = getattr(self._of_thread, "room", None)
        buffer, self._of_thread.room = buffer_for(offset, rows.size * self._layout.stored_dtype.itemsize, room)
        strip = buffer.view(self._layout.stored_dtype).reshape(rows.shape)
        np.copyto(strip, encode_samples(rows, self._layout, self._path) if self._bzero else rows)
        return buffer


def _rows(image: ImagePlane | RawFrame, start: int, stop: int, path: str) -> NDArray[Any]:
    rows = image.read_rows(start, stop)
    if rows.shape != (stop - start, image.width):
        raise ValueError(f"{path}: rows {start} to {stop} are {rows.shape}, not {(stop - start, image.width)}")
    return rows


def _strip_bounds(height: int, rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]


def _raw_cards(frame: RawFrame, path: str) -> tuple[list[str], ImageLayout]:
    """Give the cards of a raw frame and the layout they describe: the original ones where they fit."""
    header = Header(frame.cards)
    if frame.cards and card_keyword(frame.cards[0]) == "SIMPLE":
        layout = layout_from_header(header, path)
        if layout is not None and (layout.width, layout.height) == (frame.width, frame.height):
            return list(frame.cards), layout
    bitpix, bzero = _LAYOUTS[frame.dtype]
    cards = structural_cards(bitpix, frame.height, frame.width)
    if bzero:
        cards += format_card("BZERO", int(bzero), "value = BZERO + stored sample") + format_card("BSCALE", 1)
    cards += image_cards(frame.cards, without=("BZERO", "BSCALE", "BLANK"))
    return cards, ImageLayout(width=frame.width, height=frame.height, bitpix=bitpix, bzero=bzero)


# ---------------------------------------------------------------------------------------------------------------------
# The file


@contextlib.contextmanager
def _new_file(path: str, *, overwrite: bool, begun: bool = False) -> Iterator[BinaryIO]:
    """Open ``path.partial`` for a new file; on success it is synced and gets its name, else it is removed.

    With `begun` it is there already.
    """
    _refuse_existing(path, overwrite)
    if is_remote(path):
        try:
            with local_copy_for(path) as local, local.open("wb") as file:
                yield file
                file.flush()
        except OSError as error:
            raise StorageError(_write_failure(path, error)) from error
        return
    partial = path + PARTIAL_ENDING
    try:
        try:
            with open(partial, "r+b" if begun else "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _refuse_existing(path, overwrite)
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(_write_failure(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(partial)
    _sync_directory(os.path.dirname(path) or ".")


def _refuse_existing(path: str, overwrite: bool) -> None:
    if not overwrite and is_taken(path):
        raise StorageError(f"{path}: exists already and is not overwritten; move it away or choose another name")


def _write_failure(path: str, error: OSError) -> str:
    if is_disk_full(error):
        return f"{path}: {full_disk_advice(error)}"
    return f"{path}: cannot be written: {error.strerror or error}; check the directory and its permissions"


def _sync_directory(directory: str) -> None:
    """Make the new name itself durable, where the system can do that (Windows cannot open directories)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(file: BinaryIO, strip: NDArray[Any]) -> int:
    strip = np.ascontiguousarray(strip)
    file.write(strip.reshape(-1).view(np.uint8).data)
    return strip.nbytes


def _write_hdu(
    file: BinaryIO, cards: list[str], maker: _StripMaker, bounds: Sequence[tuple[int, int]], threads: int
) -> None:
    """Write one HDU and, when its samples are known, go back and fill in DATASUM and CHECKSUM."""
    start = file.tell()
    file.write(header_bytes(cards + _checksum_cards("0" * 16, 0)))
    data_start = file.tell()
    file.flush()
    data_sum = OnesSum()
    with contextlib.closing(DirectOutput(file, file.name)) as output:

        def write(rows: tuple[int, int]) -> int:
            offset = rows[0] * maker.row_bytes
            strip = maker.strip(*rows, data_start + offset)
            part = OnesSum(offset)
            part.add(strip)
            output.write(data_start + offset, strip)
            return part.value

        for value in _mapped(write, bounds, threads):
            data_sum.add_number(value)
    length = bounds[-1][1] * maker.row_bytes
    file.seek(data_start + length)
    file.write(bytes(padded_length(length) - length))
    end = file.tell()
    file.seek(start)
    file.write(_summed_header(cards, data_sum.value))
    file.seek(end)


def _written_early(early: EarlyImage, cards: list[str]) -> int | None:
    """Give the sum of samples that were written early; ``None`` where they are of no use."""
    length = len(header_bytes(cards + _checksum_cards("0" * 16, 0)))
    written = early.data_sum() if length == early.header_length else None
    how = "are written again" if written is None else "were written with the strips"
    logger.debug("%s: its samples %s, its header has %d bytes", early.path, how, length)
    return written


def _finish_early(file: BinaryIO, cards: list[str], length: int, data_sum: int) -> None:
    """Write the header before samples that are there, and take away what was noted behind them."""
    header = _summed_header(cards, data_sum)
    file.write(header)
    file.truncate(len(header) + padded_length(length))
    file.seek(0, os.SEEK_END)


def _summed_header(cards: list[str], data_sum: int) -> bytes:
    whole = OnesSum()
    whole.add(np.frombuffer(header_bytes(cards + _checksum_cards("0" * 16, data_sum)), np.uint8))
    whole.add_number(data_sum)
    return header_bytes(cards + _checksum_cards(_checksum_text(whole.value), data_sum))


def _mapped(
    function: Callable[[tuple[int, int]], int], bounds: Sequence[tuple[int, int]], threads: int
) -> Iterator[int]:
    """Call a function for all strips; one that fails ends the others."""
    if threads == 1:
        yield from map(function, bounds)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="fits") as pool:
        try:
            yield from pool.map(function, bounds)
        finally:
            pool.shutdown(cancel_futures=True)


def _checksum_cards(checksum: str, data_sum: int) -> list[str]:
    # comments without the usual date: two equal runs write equal files
    return format_card("CHECKSUM", checksum, "HDU checksum") + format_card(
        "DATASUM", f"{data_sum:<10}", "data unit checksum"
    )


class OnesSum:
    """The running sum of FITS checksums: big-endian 32-bit words in ones' complement.

    Sums of parts may be added up, as carries go round: a part that begins at byte `offset` counts zeros before it.
    """

    def __init__(self, offset: int = 0) -> None:
        self._sum = 0
        self._rest = bytes(offset % 4)  # the start of an unfinished word: a strip of 16-bit samples may end inside one

    def add(self, samples: NDArray[np.uint8]) -> None:
        """Add bytes."""
        if self._rest:
            head = samples[: 4 - len(self._rest)]
            samples = samples[len(head) :]
            self._rest += head.tobytes()
            if len(self._rest) < 4:
                return
            self.add_number(int.from_bytes(self._rest, "big"))
        whole = len(samples) // 4 * 4
        self.add_number(int(np.add.reduce(samples[:whole].view(">u4"), dtype=np.uint64)))
        self._rest = samples[whole:].tobytes()

    def add_number(self, number: int) -> None:
        """Add a number with end-around carry."""
        total = self._sum + number
        while total >> 32:
            total = (total & 0xFFFFFFFF) + (total >> 32)
        self._sum = total

    @property
    def value(self) -> int:
        """The sum so far; an unfinished word counts as if zeros followed, as they do in the file."""
        total = self._sum + int.from_bytes(self._rest.ljust(4, b"\0"), "big")
        return (total & 0xFFFFFFFF) + (total >> 32)


def _checksum_text(ones_sum: int) -> str:
    """Encode the complement of a sum as 16 letters and digits that make the whole sum zero (FITS standard, J.2)."""
    complement = 0xFFFFFFFF - ones_sum
    letters = [[0] * 4 for _ in range(4)]
    for position in range(4):
        byte = complement >> (24 - 8 * position) & 0xFF
        parts = [byte // 4 + byte % 4 + 0x30, byte // 4 + 0x30, byte // 4 + 0x30, byte // 4 + 0x30]
        while any(0x3A <= part <= 0x40 or 0x5B <= part <= 0x60 for part in parts):
            for pair in (0, 2):
                if any(0x3A <= part <= 0x40 or 0x5B <= part <= 0x60 for part in parts[pair : pair + 2]):
                    parts[pair] += 1
                    parts[pair + 1] -= 1
        for row, part in enumerate(parts):
            letters[row][position] = part
    text = "".join(chr(code) for row in letters for code in row)
    return text[-1] + text[:-1]  # the string begins at column 12 of a card: one byte off the words
