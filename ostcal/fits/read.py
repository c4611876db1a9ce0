"""Raw frames in FITS files: found, inspected, read strip by strip, and unpacked where they are compressed.

Only header blocks are read to inspect a file, with our own reader, which takes 0.13 to 0.25 ms per file;
tile-compressed files alone need ``astropy.io.fits``, in a process of its own (`tile_reader`).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.cards import (
    CARD_LENGTH,
    Header,
    card_keyword,
    padded_length,
    structural_cards,
)
from ostcal.fits.headers import metadata_from_header
from ostcal.fits.layout import ImageLayout, decode_samples, layout_from_header
from ostcal.fits.tiles import TiledImage, TileReader
from ostcal.fits.units import Unit, check_one_frame, read_units
from ostcal.fits.write import image_cards, write_stored
from ostcal.frames import FrameMetadata, RowReader, SampleEncoding
from ostcal.places.fingerprint import fingerprint_rows, rows_fingerprint
from ostcal.places.open_files import STRIPS_AHEAD, kept_open, read_ahead
from ostcal.places.paths import (
    absolute,
    in_parallel,
    is_file,
    is_remote,
    joined,
    open_binary,
    read_range,
    real,
    retried,
    walk,
)

logger = logging.getLogger(__name__)

FITS_ENDINGS = tuple(base + packing for packing in ("", ".fz", ".gz") for base in (".fits", ".fit", ".fts"))
"""Endings of files that are looked at, in any case."""

_MAX_COLUMNS = 999
"""Of a table, by the standard."""
_GZIP_MAGIC = b"\x1f\x8b"
_UNPACKED_STRIP_BYTES = 4 * 2**20
_TABLE_KEYWORD = re.compile(
    r"TFIELDS|THEAP|FZALGOR|T(?:TYPE|FORM|NULL|SCAL|ZERO|UNIT)\d+"
    r"|Z(?:IMAGE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP"
    r"|SIMPLE|TENSION|EXTEND|BLOCKED|PCOUNT|GCOUNT|HECKSUM|DATASUM)"
)
"""Of the table that holds a tile-compressed image, not of the image."""


@dataclass(frozen=True, kw_only=True)
class FitsPixels(ImageLayout):
    """Where the samples of a frame lie: all that is needed to read them."""

    path: str
    data_offset: int
    """Byte of the first sample in the file (in the unpacked stream of a packed one)."""


@dataclass(frozen=True, kw_only=True)
class FitsFrame(FitsPixels):
    """A frame in a FITS file, inspected but not read."""

    source: str
    """The file that the user has: ``path`` itself, or the packed file that ``path`` was unpacked from."""
    metadata: FrameMetadata
    cards: tuple[str, ...]
    """The header as that of a primary HDU, without END; for plain primary HDUs exactly as it stands in the file."""
    hdu_index: int
    packed: Literal["none", "gzip", "fz"]
    """Whether samples can be read in place (``none``), or ``unpack`` comes first."""


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def find_fits(directories: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Find FITS files in directories and below them, sorted; single files may be among the directories.

    Hidden files and directories and zarr stores are passed over; a directory that is reached twice counts once.
    """
    found: list[str] = []
    visited: set[str] = set()
    for directory in directories:
        root = os.fspath(directory)
        if is_file(root):
            found += [root] if _is_fits_name(os.path.basename(root)) else []
            continue
        for parent, below, names in walk(root, onerror=_log_unreadable, followlinks=True):
            if real(parent) in visited:
                below.clear()
                continue
            visited.add(real(parent))
            below[:] = [name for name in below if not name.startswith(".") and not name.lower().endswith(".zarr")]
            found += [joined(parent, name) for name in names if _is_fits_name(name)]
    return sorted(set(found))


def _is_fits_name(name: str) -> bool:
    return name.lower().endswith(FITS_ENDINGS) and not name.startswith(".")


def _log_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that is not there yet is for the caller to judge
        logger.warning("%s: cannot be searched: %s", error.filename, error.strerror)


# ---------------------------------------------------------------------------------------------------------------------
# Inspecting


def inspect_fits(path: str | os.PathLike[str], *, first_of_several: bool = False) -> FitsFrame:
    """Read the headers of a file and describe the frame it holds.

    The frame is the image of two axes that is no companion of another one (`ostcal.fits.units.COMPANIONS`), in the
    primary HDU or in an extension; axes of one are dropped. Of a gzip file only the first is looked for: `unpack`,
    which reads it to its end, sees whether there are others.

    Parameters
    ----------
    path : path
        Of the file.
    first_of_several : bool
        Accept a file of several frames, and describe the first.

    Raises
    ------
    FrameError
        If the file is no FITS file, cannot be read, is cut short, holds no image of one plane, or several frames.
    """
    path = os.fspath(path)
    try:
        if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise FrameError(f"{path}: is not a file; leave it out or rename it")
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return _inspect_stream(file, path, size, first_of_several=first_of_several)
            with gzip.GzipFile(fileobj=file) as stream:
                return _inspect_stream(stream, path, None, first_of_several=first_of_several)
    except (OSError, EOFError, zlib.error) as error:
        raise FrameError(f"{path}: cannot be read: {_reason(error)}; repair it or leave it out") from error


def _reason(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _inspect_stream(
    stream: BinaryIO | gzip.GzipFile, path: str, size: int | None, *, first_of_several: bool
) -> FitsFrame:
    """Inspect a file of known size, or (``None``) the unpacked stream of a gzip file up to its first frame."""
    units: list[Unit] = []
    found: tuple[Unit, ImageLayout] | None = None
    try:
        for unit in read_units(stream, path, size):
            units.append(unit)
            is_better = found is None or (unit.is_frame and not found[0].is_frame)
            if is_better and (unit.is_image or unit.is_compressed_image):
                if unit.is_compressed_image and size is None:
                    raise FrameError(f"{path}: is compressed twice (tiles and gzip); unpack it with gunzip first")
                layout = _layout_of(unit, path, size)
                found = (unit, layout) if layout is not None else found
            if size is None and unit.is_frame:
                break
    except FrameError:
        if found is None or not found[0].is_frame:  # damage behind the frame costs nothing
            raise
    if found is None:
        raise FrameError(f"{path}: holds no image of two axes; leave it out")
    if not first_of_several:
        check_one_frame(units, path)
    return _frame(path, found[1], found[0], units[0].header, is_gzip=size is None)


def _layout_of(unit: Unit, path: str, size: int | None) -> ImageLayout | None:
    """Return the layout of an image that is whole; ``None`` where it has no two axes."""
    if unit.is_compressed_image:
        columns = unit.header.value("TFIELDS")
        if isinstance(columns, bool) or not isinstance(columns, int) or not 1 <= columns <= _MAX_COLUMNS:
            raise FrameError(f"{path}: TFIELDS is {columns!r}: the file is damaged, leave it out")
    layout = layout_from_header(unit.header, path, prefix="Z" if unit.is_compressed_image else "")
    end = unit.data_offset + unit.data_length
    if layout is not None and size is not None and end > size:
        raise FrameError(f"{path}: is cut short: {size} bytes are there of {end}; copy it again or leave it out")
    return layout


def _frame(path: str, layout: ImageLayout, hdu: Unit, primary: Header, *, is_gzip: bool) -> FitsFrame:
    is_plain_primary = hdu.index == 0 and not hdu.is_compressed_image
    cards = hdu.header.cards if is_plain_primary else _as_primary_cards(layout, hdu, primary)
    metadata = metadata_from_header(
        hdu.header if is_plain_primary else Header(cards),
        width=layout.width,
        height=layout.height,
        path=absolute(path),
    )
    return FitsFrame(
        **{f.name: getattr(layout, f.name) for f in fields(layout)},
        path=path,
        source=path,
        data_offset=hdu.data_offset,
        metadata=metadata,
        cards=cards,
        hdu_index=hdu.index,
        packed="fz" if hdu.is_compressed_image else "gzip" if is_gzip else "none",
    )


def _as_primary_cards(layout: ImageLayout, hdu: Unit, primary: Header) -> tuple[str, ...]:
    """Give an extension's header as that of a primary HDU, with the cards of the primary header that it lacks."""
    own = image_cards(hdu.header.cards)
    if hdu.is_compressed_image:
        own = [card for card in own if not _TABLE_KEYWORD.fullmatch(card_keyword(card))]
    about_samples = ("BZERO", "BSCALE", "BLANK", "BUNIT", "DATAMIN", "DATAMAX")
    present = {card_keyword(card) for card in own} - {"HISTORY", "COMMENT", ""}
    inherited = image_cards(primary.cards, without=present.union(about_samples))
    return (*structural_cards(layout.bitpix, layout.height, layout.width), *inherited, *own)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def inspect_extension(path: str | os.PathLike[str], name: str) -> FitsPixels | None:
    """Find the image extension of a name (EXTNAME) in a plain FITS file; ``None`` where there is none.

    Raises
    ------
    FrameError
        If the file cannot be read, or is cut short.
    """
    path = os.fspath(path)
    try:
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            for hdu in read_units(file, path, size):
                if not hdu.is_image or (hdu.header.text("EXTNAME") or "").upper() != name.upper():
                    continue
                layout = layout_from_header(hdu.header, path)
                if layout is None:
                    return None
                if hdu.data_offset + hdu.data_length > size:
                    raise FrameError(f"{path}: is cut short inside its extension {name}; copy it again or make it anew")
                values = {field.name: getattr(layout, field.name) for field in fields(ImageLayout)}
                return FitsPixels(path=path, data_offset=hdu.data_offset, **values)
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {error.strerror or error}; repair it or leave it out") from error
    return None


@dataclass(frozen=True)
class FitsStack:
    """Frames of one size in plain FITS files as one stack; implements ``ostcal.frames.FrameStack``.

    Holds paths and offsets only (110 bytes a frame when pickled). Every strip opens its files anew (`opened`), and
    every block of it where they are too many to be kept open: 1000 frames in several groups would pass the system's
    limit. Rows are read straight into the block with
    ``readinto``, not mapped: mapped pages would count as the process's memory.

    20 frames of 3000 x 4000 on one thread, warm, in GB of file per second: uint16 6.5 in strips of 16 rows (the cost
    of opening shows) and 12 of 64 rows; float32 3.5; 32-bit integers to float64 4 to 4.7.

    Raises
    ------
    FrameError
        If a frame is packed, or of another size than the first.
    """

    frames: tuple[FitsPixels, ...]
    encoding: SampleEncoding = field(init=False)
    """How samples become ADU: 16-bit words untouched and floats where all frames agree, else float64."""

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("a stack needs at least one frame")
        first = self.frames[0]
        for frame in self.frames:
            if isinstance(frame, FitsFrame) and frame.packed != "none":
                raise FrameError(f"{frame.path}: is compressed and must be unpacked before it is read")
            if (frame.width, frame.height) != (first.width, first.height):
                raise FrameError(
                    f"{frame.path}: is {frame.width} x {frame.height}, the others are {first.width} x {first.height}; "
                    "leave it out"
                )
        names = [f.name for f in fields(FitsPixels)]
        slim = tuple(FitsPixels(**{name: getattr(frame, name) for name in names}) for frame in self.frames)
        object.__setattr__(self, "frames", slim)
        object.__setattr__(self, "encoding", _encoding(slim))

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return len(self.frames), self.frames[0].height, self.frames[0].width

    @property
    def row_step(self) -> int:
        """Rows that are read for the price of one."""
        return 1

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill ``out`` of shape ``(n_frames, stop - start, width)`` and the encoding's dtype with raw samples.

        Samples that are not stored as they are delivered pass through a buffer of one frame's rows.

        Raises
        ------
        FrameError
            If a file has gone, or has become shorter than it was when it was inspected.
        """
        n_frames, height, width = self.shape
        if not 0 <= start <= stop <= height or out.shape != (n_frames, stop - start, width):
            raise ValueError(f"rows {start} to {stop} of {self.shape} do not fit a block of {out.shape}")
        if out.dtype != np.dtype(self.encoding.dtype):
            raise ValueError(f"a block of {self.encoding.dtype} is needed, not {out.dtype}")
        if start == stop:
            return
        in_parallel(
            self.frames[0].path, lambda index: _read_rows(self.frames[index], start, out[index]), range(n_frames)
        )

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep the files open while block after block is read, where that is possible and gains anything."""
        if not self.encoding.sign_flipped:  # all others pass through a buffer, which costs more than opening
            yield self
            return
        with kept_open([frame.path for frame in self.frames]) as descriptors:
            if descriptors is None:
                yield self
                return
            row_bytes = 2 * self.shape[2]
            last = min(stop + STRIPS_AHEAD * (stop - start), self.shape[1])
            for frame, descriptor in zip(self.frames, descriptors, strict=True):
                read_ahead(descriptor, frame.data_offset + start * row_bytes, (last - start) * row_bytes)
            yield _OpenFrames(self, descriptors)

    def select(self, indices: Sequence[int]) -> FitsStack:
        """Give the stack of the frames at `indices` alone."""
        return FitsStack(tuple(self.frames[index] for index in indices))

    def recorded_mean_adu(self, position: int) -> None:
        """Give nothing: whoever wrote the files noted no mean, or not one to rely on."""


@dataclass(frozen=True)
class _OpenFrames:
    """A stack of 16-bit words whose files are open."""

    stack: FitsStack
    descriptors: tuple[int, ...]

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Do `FitsStack.read_rows`, which also tells what is wrong where reading fails or gives too little."""
        if not self._read(start, stop, out):
            self.stack.read_rows(start, stop, out)

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> bool:
        _, height, width = self.stack.shape
        if not 0 <= start < stop <= height or out.shape[1:] != (stop - start, width) or not out.flags.c_contiguous:
            return False
        try:
            for frame, descriptor, rows in zip(self.stack.frames, self.descriptors, out, strict=True):
                if os.preadv(descriptor, [rows], frame.data_offset + start * width * 2) != rows.nbytes:
                    return False
        except OSError:
            return False
        return True


def _encoding(frames: Sequence[FitsPixels]) -> SampleEncoding:
    """Choose the encoding that costs least and loses nothing."""
    first = frames[0]
    codings = {(frame.bitpix, frame.bzero, frame.bscale, frame.blank) for frame in frames}
    if len(codings) > 1:
        return SampleEncoding(dtype="float64")
    if first.is_whole and first.bitpix in (8, 16) and abs(first.bzero) < 2**30:
        if first.bitpix == 8:
            return SampleEncoding(dtype="uint16", zero_adu=int(first.bzero))
        return SampleEncoding(
            dtype="uint16",
            byte_swapped=sys.byteorder == "little",
            sign_flipped=True,
            zero_adu=int(first.bzero) - 32768,  # the flipped sign adds 32768
        )
    is_plain_float = first.bitpix == -32 and first.bscale == 1.0 and first.bzero == 0.0
    return SampleEncoding(dtype="float32" if is_plain_float else "float64")


def _read_rows(frame: FitsPixels, start: int, block: NDArray[Any]) -> None:
    """Fill the block of one frame, ``(n_rows, width)``, from row ``start`` on."""
    stored = frame.stored_dtype
    in_place = block.dtype.itemsize == stored.itemsize and block.dtype != np.float64 and block.flags.c_contiguous
    samples = block if in_place else np.empty(block.shape, stored)
    try:
        offset = frame.data_offset + start * frame.width * stored.itemsize
        retried(lambda: _read_stored(frame.path, offset, samples))
    except OSError as error:
        raise FrameError(f"{frame.path}: cannot be read: {_reason(error)}; left out", place=frame.path) from error
    if block.dtype == np.float64:
        decode_samples(samples, frame, block)
    elif block.dtype == np.float32:
        if in_place and sys.byteorder == "little":
            block.byteswap(inplace=True)
        elif not in_place:
            block[:] = samples
    elif not in_place:
        block[:] = samples if frame.bitpix == 8 else samples.view(np.uint16)


def _read_stored(path: str, offset: int, samples: NDArray[Any]) -> None:
    if is_remote(path):
        _fill(io.BytesIO(read_range(path, offset, offset + samples.nbytes)).readinto, samples, path)
        return
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        _fill(file.readinto, samples, path)


def _fill(readinto: Callable[[memoryview], int | None], samples: NDArray[Any], path: str) -> None:
    """Fill an array with bytes; one read may give less than was asked for."""
    view = samples.view(np.uint8).reshape(-1).data
    done = 0
    while done < len(view):
        count = readinto(view[done:])
        if not count:
            raise FrameError(f"{path}: ends {len(view) - done} bytes too early; copy it again", place=path)
        done += count


def fingerprint(frame: FitsFrame) -> str:
    """Give what identifies the pixels of a frame wherever it is stored (see ``rows_fingerprint``)."""
    stack = FitsStack((frame,))
    block = np.empty((1, 1, frame.width), stack.encoding.dtype)
    rows = np.empty((3, frame.width))
    for row, target in zip(fingerprint_rows(frame.height), rows, strict=True):
        stack.read_rows(row, row + 1, block)
        target[:] = stack.encoding.decode(block)[0, 0]
    return rows_fingerprint(rows, height=frame.height)


# ---------------------------------------------------------------------------------------------------------------------
# Unpacking


def unpack(frame: FitsFrame, directory: str | os.PathLike[str], tiles: TileReader | None = None) -> FitsFrame:
    """Write the samples of a compressed file into a plain FITS file in a directory; give that frame.

    Memory is a strip of 4 MiB (and of a tile-compressed image one row of tiles, in a process of its own); no more is
    unpacked than the header promises. A frame that is not packed is given back as it is. `tiles` saves starting that
    process for each file.

    Raises
    ------
    FrameError
        If the compressed data are damaged or end too early.
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
            strips = (tiles or opened.enter_context(TileReader())).strips(_tiled_image(packed))
        write_stored(path, frame.cards, strips, frame.data_length, overwrite=True)
    data_offset = padded_length((len(frame.cards) + 1) * CARD_LENGTH)
    return replace(frame, path=path, packed="none", hdu_index=0, data_offset=data_offset)


@contextlib.contextmanager
def _on_disk(frame: FitsFrame) -> Iterator[FitsFrame]:
    """Give a compressed file as one of this computer, which reads it from its beginning to its end."""
    if not is_remote(frame.path):
        yield frame
        return
    with tempfile.TemporaryDirectory(prefix="ostcal-") as scratch:
        copy = os.path.join(scratch, os.path.basename(frame.path))
        try:
            with open_binary(frame.path) as source, open(copy, "wb") as target:
                shutil.copyfileobj(source, target, _UNPACKED_STRIP_BYTES)
            yield replace(frame, path=copy)
        except FrameError as error:
            raise FrameError(str(error).replace(copy, frame.path)) from error


def _tiled_image(frame: FitsFrame) -> TiledImage:
    return TiledImage(
        path=frame.path,
        hdu_index=frame.hdu_index,
        height=frame.height,
        width=frame.width,
        dtype=frame.stored_dtype.str.replace("|", ">"),
    )


def _damaged(frame: FitsFrame, error: BaseException) -> FrameError:
    return FrameError(f"{frame.path}: cannot be unpacked: {_reason(error)}; copy it again or leave it out")


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
                for start in range(0, frame.data_length, _UNPACKED_STRIP_BYTES):
                    strip = np.empty(min(_UNPACKED_STRIP_BYTES, frame.data_length - start), np.uint8)
                    _fill(stream.readinto, strip, frame.path)
                    yield strip
                stream.read(padded_length(frame.data_length) - frame.data_length)
                stream.peek(1)  # at the end of the file gzip compares its checksum
                is_whole = True
    except (OSError, EOFError, zlib.error, FrameError) as error:
        if not is_whole:
            raise error if isinstance(error, FrameError) else _damaged(frame, error) from error
    check_one_frame(units, frame.path)
