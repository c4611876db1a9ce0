"""Raw frames in files: inspected, and read strip by strip where they are not compressed.

Only header blocks are read to inspect a FITS file, with our own reader, which takes 0.13 to 0.25 ms per file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.cards import Header, card_keyword, image_cards, structural_cards
from ostcal.fits.frame import FitsFrame as FitsFrame
from ostcal.fits.frame import FitsPixels as FitsPixels
from ostcal.fits.frame import LoneImage
from ostcal.fits.gz import UnpackedGzip
from ostcal.fits.hdus import Unit, image_labels, possible_labels, read_units, refuse_several, unused_name
from ostcal.fits.headers import metadata_from_header
from ostcal.fits.layout import ImageLayout, decode_samples, layout_from_header, plane_count, whole_number
from ostcal.fits.raw_images import inspect_raw, is_raw_name
from ostcal.fits.search import FITS_ENDINGS as FITS_ENDINGS
from ostcal.fits.search import FRAME_ENDINGS as FRAME_ENDINGS
from ostcal.fits.search import FoundFiles as FoundFiles
from ostcal.fits.search import find_fits as find_fits
from ostcal.fits.search import search_fits as search_fits
from ostcal.fits.sharpcap import cards_beside
from ostcal.fits.tiling import tiling_of
from ostcal.fits.xisf_images import inspect_xisf, inspect_xisf_extension
from ostcal.frames import FULL_SCALE_ADU, RowReader, SampleEncoding, read_adu
from ostcal.opening import open_regular
from ostcal.places.durable import os_reason
from ostcal.places.fingerprint import fingerprint_rows, rows_fingerprint
from ostcal.places.open_files import STRIPS_AHEAD, kept_open, read_ahead
from ostcal.places.paths import (
    absolute,
    in_parallel,
    is_remote,
    open_binary,
    read_range,
    retried,
)
from ostcal.xisf.header import SIGNATURE

_MAX_COLUMNS = 999
"""Of a table, by the standard."""
_MAX_PLANES = 100_000
"""Of a stack of frames in one image."""
_GZIP_MAGIC = b"\x1f\x8b"
_TABLE_KEYWORD = re.compile(
    r"TFIELDS|THEAP|FZALGOR|T(?:TYPE|FORM|NULL|SCAL|ZERO|UNIT)\d+"
    r"|Z(?:IMAGE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP"
    r"|SIMPLE|TENSION|EXTEND|BLOCKED|PCOUNT|GCOUNT|HECKSUM|DATASUM)"
)
"""Of the table that holds a tile-compressed image, not of the image."""
_ABOUT_SAMPLES = ("BZERO", "BSCALE", "BLANK", "BUNIT", "DATAMIN", "DATAMAX")
"""Keywords of one image; an extension does not inherit them from the primary header."""


# ---- inspecting ----


def inspect_fits(path: str | os.PathLike[str], *, first_of_several: bool = False) -> FitsFrame:
    """Describe the image of a file of one, as `inspect_images`; `first_of_several` accepts a file of several."""
    images = inspect_images(path)
    if not first_of_several:
        refuse_several([image.extension or "" for image in images], images[0].source)
    return images[0]


def inspect_images(path: str | os.PathLike[str], *, cubes: bool = False) -> tuple[FitsFrame, ...]:
    """Read the headers of a file and describe the images it holds, in their order.

    An image has two axes and is no companion of another one (`ostcal.fits.hdus.COMPANIONS`), in the primary HDU or in
    an extension; axes of one are dropped. With `cubes` each plane of an image of three axes is an image. Of a gzip file
    that ends with its first image, as its last bytes say, no more is unpacked than that header.

    Raises
    ------
    FrameError
        If the file is no FITS file, cannot be read, is cut short, or holds no image of one plane.
    """
    path = os.fspath(path)
    try:
        if not is_remote(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise FrameError(f"{path}: is not a file; leave it out or rename it")
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(len(SIGNATURE))
            if start == SIGNATURE:
                return tuple(map(scaled_by_bounds, inspect_xisf(file, path, size)))
            if path.lower().endswith(".xisf") and not start.startswith(b"SIMPLE"):
                what = "is empty" if not size else "is no XISF file in one piece (it does not begin with XISF0100)"
                raise FrameError(f"{path}: {what}; leave it out or copy it again")
            if is_raw_name(path):
                return (inspect_raw(path),)
            if not start.startswith(_GZIP_MAGIC):
                file.seek(0)
                return _inspect_stream(file, path, size, None, cubes=cubes)
            file.seek(max(0, size - 4))
            length = int.from_bytes(file.read(4), "little")
            file.seek(0)
            return _inspect_stream(UnpackedGzip(file, path, size), path, None, length, cubes=cubes)
    except (OSError, EOFError, zlib.error) as error:
        raise FrameError(f"{path}: cannot be read: {os_reason(error)}; repair it or leave it out") from error


def _inspect_stream(
    stream: BinaryIO | UnpackedGzip, path: str, size: int | None, unpacked_length: int | None, *, cubes: bool
) -> tuple[FitsFrame, ...]:
    """Inspect a file of known size, or the unpacked stream of a gzip file (modulo 4 GiB as long as it says)."""
    primary: Header | None = None
    images: list[tuple[Unit, ImageLayout]] = []
    unused: list[str] = []
    beside: tuple[Unit, ImageLayout] | None = None
    try:
        for unit in read_units(stream, path, size):
            primary = primary or unit.header
            is_frame = unit.is_frame
            unused += filter(None, [unused_name(unit)])
            if is_frame or (beside is None and not images and (unit.is_image or unit.is_compressed_image)):
                layout = _layout_of(unit, path, size, cubes=cubes)
                if isinstance(stream, UnpackedGzip):
                    _check_length(stream, unit)
                if is_frame and layout is not None:
                    images.append((unit, layout))
                elif layout is not None:
                    beside = unit, layout
            if is_frame and unpacked_length is not None and unit.end % 2**32 == unpacked_length:
                break
    except (FrameError, EOFError, OSError, zlib.error) as error:
        # damage behind the only image costs nothing, but of several none may be missing
        if len(images) != 1 or isinstance(error, _ImageError):
            raise
    found = images or ([beside] if beside is not None else [])
    if not found or primary is None:
        raise FrameError(f"{path}: holds no image of two axes; leave it out")
    if len(found) == 1:
        named = tuple(name for name in unused if images or name != found[0][0].name)
        frame = _frame(path, *found[0], primary, is_gzip=size is None, unused=named)
        if images and (labels := possible_labels(found[0][0])):
            lone = LoneImage(labels=labels, primary_cards=primary.cards, own_cards=_own_cards(*found[0]))
            frame = replace(frame, lone=lone)
        return tuple(_planes_of(frame, found[0][0].header)) if cubes else (frame,)
    frames: list[FitsFrame] = []
    for (unit, layout), label in zip(found, image_labels([unit for unit, _ in found]), strict=True):
        frame = _frame(path, unit, layout, primary, is_gzip=size is None, unused=tuple(unused))
        metadata = replace(frame.metadata, settings=replace(frame.metadata.settings, extension=label))
        frame = replace(frame, metadata=metadata, primary_cards=primary.cards, own_cards=_own_cards(unit, layout))
        frames += _planes_of(frame, unit.header) if cubes else [frame]
    return tuple(frames)


def _own_cards(unit: Unit, layout: ImageLayout) -> tuple[str, ...]:
    """Return the header of an extension alone; nothing for the primary image."""
    if not unit.index:
        return ()
    structure = structural_cards(layout.bitpix, layout.height, layout.width, extension=True)
    names = [c for c in unit.header.cards if card_keyword(c) in ("EXTNAME", "EXTVER") and unit.extension_name]
    return (*structure, *names, *_image_header(unit))


def _planes_of(frame: FitsFrame, header: Header) -> list[FitsFrame]:
    """Return a frame for each plane of a stack, or the frame itself."""
    count = plane_count(header, prefix="Z" if frame.packed == "fz" else "")
    if count == 1:
        return [frame]
    if count > _MAX_PLANES:
        raise FrameError(f"{frame.path}: has {count} planes, {_MAX_PLANES} are possible; split it into several files")
    cards = (*structural_cards(frame.bitpix, frame.height, frame.width), *image_cards(frame.cards))
    offsets = range(frame.data_offset, frame.data_offset + count * frame.data_length, frame.data_length)
    return [replace(frame, cards=cards, plane=plane, data_offset=at) for plane, at in enumerate(offsets)]


def _check_length(stream: UnpackedGzip, unit: Unit) -> None:
    try:
        stream.check_length(unit.data_offset + unit.data_length)
    except FrameError as error:
        raise _ImageError(str(error)) from error


class _ImageError(FrameError):
    """An image is damaged."""


def _layout_of(unit: Unit, path: str, size: int | None, *, cubes: bool) -> ImageLayout | None:
    """Return where the samples of an image lie; FrameError where they are not all there."""
    if unit.is_compressed_image and size is None:
        raise _ImageError(f"{path}: is compressed twice (tiles and gzip); unpack it with gunzip first")
    try:
        if unit.is_compressed_image:
            whole_number(unit.header, "TFIELDS", path, low=1, high=_MAX_COLUMNS)
        prefix = "Z" if unit.is_compressed_image else ""
        of_plane = cubes and plane_count(unit.header, prefix=prefix) > 1
        layout = layout_from_header(unit.header, path, prefix=prefix, of_plane=of_plane)
        if unit.is_compressed_image and layout is not None:
            tiling_of(unit.header, path, width=layout.width, height=layout.height)
    except FrameError as error:
        raise _ImageError(str(error)) from error
    end = unit.data_offset + unit.data_length
    if layout is not None and size is not None and end > size:
        raise _ImageError(f"{path}: is cut short: {size} bytes are there of {end}; copy it again or leave it out")
    return layout


def _image_header(unit: Unit) -> list[str]:
    """Return the cards of an extension that are about its image."""
    own = image_cards(unit.header.cards)
    if unit.is_compressed_image:
        own = [card for card in own if not _TABLE_KEYWORD.fullmatch(card_keyword(card))]
    return own


def _frame(
    path: str, unit: Unit, layout: ImageLayout, primary: Header, *, is_gzip: bool, unused: tuple[str, ...]
) -> FitsFrame:
    cards = unit.header.cards
    if unit.index > 0:
        own = _image_header(unit)
        present = {card_keyword(card) for card in own} - {"HISTORY", "COMMENT", ""}
        inherited = image_cards(primary.cards, without=present.union(_ABOUT_SAMPLES))
        cards = (*structural_cards(layout.bitpix, layout.height, layout.width), *inherited, *own)
    header = Header(cards) if unit.index > 0 else unit.header
    beside = [] if is_remote(path) else cards_beside(path, header)
    metadata = metadata_from_header(
        Header([*cards, *beside]) if beside else header,
        width=layout.width,
        height=layout.height,
        path=absolute(path),
        remarks=("its header has NUL bytes where FITS has blanks: read as blanks",) if unit.has_nulls else (),
    )
    return FitsFrame(
        **vars(layout),
        path=path,
        source=path,
        data_offset=unit.data_offset,
        metadata=metadata,
        cards=cards,
        hdu_index=unit.index,
        packed="fz" if unit.is_compressed_image else "gzip" if is_gzip else "none",
        tiling=tiling_of(unit.header, path, width=layout.width, height=layout.height)
        if unit.is_compressed_image
        else None,
        unused=unused,
    )


def inspect_extension(path: str | os.PathLike[str], name: str) -> FitsPixels | None:
    """Find the image extension of a name (EXTNAME) in a plain FITS or XISF file; ``None`` if there is none.

    Raise FrameError where the file cannot be read, or is cut short.
    """
    path = os.fspath(path)
    try:
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return inspect_xisf_extension(file, path, size, name)
            for unit in read_units(file, path, size):
                if not unit.is_image or (unit.header.text("EXTNAME") or "").upper() != name.upper():
                    continue
                layout = layout_from_header(unit.header, path)
                if layout is None:
                    return None
                if unit.data_offset + unit.data_length > size:
                    raise FrameError(
                        f"{path}: is cut short inside its extension {name}; copy it again or make it again"
                    )
                return FitsPixels(path=path, data_offset=unit.data_offset, **vars(layout))
    except OSError as error:
        raise FrameError(f"{path}: cannot be read: {os_reason(error)}; repair it or leave it out") from error
    return None


# ---- reading ----


@dataclass(frozen=True)
class FitsStack:
    """Frames of one size in plain FITS files as one stack; implements ``ostcal.frames.FrameStack``.

    Holds paths and offsets only (110 bytes a frame when pickled). Files are opened for each strip (`opened`), or for
    each block of it where they are too many to be kept open: 1000 frames in several groups would exceed the system's
    limit. Rows are read into the block with ``readinto``, not mapped: mapped pages would count as the process's memory.

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
        object.__setattr__(self, "encoding", _common_encoding(slim))

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)``."""
        return len(self.frames), self.frames[0].height, self.frames[0].width

    @property
    def row_step(self) -> int:
        """Rows that cost one read."""
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
            self.frames[0].path,
            lambda index: _read_rows(self.frames[index], self.encoding, start, out[index]),
            range(n_frames),
        )

    @contextlib.contextmanager
    def opened(self, start: int, stop: int) -> Iterator[RowReader]:
        """Keep the files open while block after block is read, where that is possible and gains anything."""
        if not all(_is_as_stored(frame, self.encoding) for frame in self.frames):
            # all others pass through a buffer, which costs more than opening
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
        """Return the stack of the frames at `indices` only."""
        return FitsStack(tuple(self.frames[index] for index in indices))

    def recorded_mean_adu(self, position: int) -> None:
        """Return nothing: programs store no mean in their files, or not one to rely on."""


@dataclass(frozen=True)
class _OpenFrames:
    """A stack of 16-bit words whose files are open."""

    stack: FitsStack
    descriptors: tuple[int, ...]

    def read_rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read as `FitsStack.read_rows`, which also names what is wrong where reading fails or returns too little."""
        _, height, width = self.stack.shape
        is_whole = 0 <= start < stop <= height and out.shape[1:] == (stop - start, width) and out.flags.c_contiguous
        try:
            for frame, descriptor, rows in zip(self.stack.frames, self.descriptors, out, strict=True):
                offset = frame.data_offset + start * width * 2
                is_whole = is_whole and os.preadv(descriptor, [rows], offset) == rows.nbytes
        except OSError:
            is_whole = False
        if not is_whole:
            self.stack.read_rows(start, stop, out)


def _common_encoding(frames: Sequence[FitsPixels]) -> SampleEncoding:
    """Return the encoding that costs least and loses nothing."""
    first = frames[0]
    if all(frame.word_scale for frame in frames):
        return SampleEncoding(dtype="uint16")
    codings = {(frame.bitpix, frame.bzero, frame.bscale, frame.blank) for frame in frames}
    if len(codings) > 1:
        return SampleEncoding(dtype="float64")
    if first.is_whole and first.bitpix in (8, 16) and abs(first.bzero) < 2**30:
        if first.bitpix == 8:
            return SampleEncoding(dtype="uint16", zero_adu=int(first.bzero))
        if any(frame.is_unsigned_word for frame in frames):
            return SampleEncoding(dtype="uint16", zero_adu=int(first.bzero) - 32768)
        return SampleEncoding(
            dtype="uint16",
            byte_swapped=sys.byteorder == "little",
            sign_flipped=True,
            zero_adu=int(first.bzero) - 32768,  # the flipped sign adds 32768
        )
    is_plain_float = first.bitpix == -32 and first.bscale == 1.0 and first.bzero == 0.0
    return SampleEncoding(dtype="float32" if is_plain_float else "float64")


def _is_as_stored(frame: FitsPixels, encoding: SampleEncoding) -> bool:
    """Return whether the samples of a frame are delivered as they are stored, as words."""
    if not encoding.is_integer or frame.bitpix != 16:
        return False
    return encoding.sign_flipped or (frame.is_unsigned_word and frame.stored_dtype.isnative)


def _read_rows(frame: FitsPixels, encoding: SampleEncoding, start: int, block: NDArray[Any]) -> None:
    """Fill the block of one frame, ``(n_rows, width)``, from row ``start`` on."""
    stored = frame.stored_dtype
    in_place = block.flags.c_contiguous and (
        _is_as_stored(frame, encoding) or (block.dtype == np.float32 and stored.itemsize == 4)
    )
    samples = block if in_place else np.empty(block.shape, stored)
    offset = frame.data_offset + start * frame.width * stored.itemsize

    def read() -> None:
        if is_remote(frame.path):
            data = io.BytesIO(read_range(frame.path, offset, offset + samples.nbytes))
            read_exactly(data.readinto, samples, frame.path)
            return
        with open(frame.path, "rb", buffering=0, opener=open_regular) as file:
            file.seek(offset)
            read_exactly(file.readinto, samples, frame.path)

    try:
        retried(read)
    except OSError as error:
        raise FrameError(f"{frame.path}: cannot be read: {os_reason(error)}; left out", place=frame.path) from error
    if frame.word_scale:
        np.rint(np.multiply(samples.view(stored), frame.word_scale, dtype=np.float64), out=block, casting="unsafe")
    elif block.dtype == np.float64:
        decode_samples(samples, frame, block)
    elif block.dtype == np.float32:
        if in_place and not stored.isnative:
            block.byteswap(inplace=True)
        elif not in_place:
            block[:] = samples
    elif not in_place:
        if _is_as_stored(frame, encoding):
            block[:] = samples.view(np.uint16)
        elif frame.bitpix == 8 or frame.is_unsigned_word:
            block[:] = samples
        else:  # words with a sign, in a stack of words without
            np.bitwise_xor(samples.view(stored.str.replace("i", "u")), np.uint16(0x8000), out=block, casting="unsafe")


def read_exactly(readinto: Callable[[memoryview], int | None], samples: NDArray[Any], path: str) -> None:
    """Fill an array with bytes, as one read may return fewer; FrameError where the file ends too early."""
    view = samples.view(np.uint8).reshape(-1).data
    done = 0
    while done < len(view):
        count = readinto(view[done:])
        if not count:
            raise FrameError(f"{path}: ends {len(view) - done} bytes too early; copy it again", place=path)
        done += count


def fingerprint(frame: FitsFrame) -> str:
    """Return what identifies the pixels of a frame wherever it is stored (see ``rows_fingerprint``)."""
    return rows_fingerprint(_three_rows(frame), height=frame.height)


def _three_rows(frame: FitsFrame) -> NDArray[Any]:
    stack = FitsStack((frame,))
    return np.stack([read_adu(stack, row, row + 1)[0, 0] for row in fingerprint_rows(frame.height)])


def scaled_by_bounds(frame: FitsFrame) -> FitsFrame:
    """Return a frame of floats with the scale of 16 bits, where its file says what black and white are (XISF).

    Programs write floats with bounds from 0 to 1 whatever their values: where samples of three rows are beyond them,
    the values are taken as they stand. A frame that is still packed is returned as it is.
    """
    if frame.bounds is None or frame.packed != "none":
        return frame
    low, high = frame.bounds
    rows = _three_rows(frame)
    is_kept = bool(np.all((rows >= low) & (rows <= high)))
    scale = FULL_SCALE_ADU / (high - low) if is_kept else 1.0
    return replace(frame, bounds=None, bscale=scale, bzero=-low * scale if is_kept else 0.0)
