"""The header-data units (HDUs) of a FITS file, one after the other, and which of them are frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from ostcal.errors import FrameError
from ostcal.fits.cards import BLOCK_LENGTH, CARD_LENGTH, Header, header_of, padded_length
from ostcal.fits.gz import UnpackedGzip

COMPANIONS: Final = frozenset([
    "BPM", "MASK", "BADPIX", "DQ", "FLAGS", "QUALITY",
    "ERR", "ERROR", "ERRORS", "UNCERT", "UNCERTAINTY", "VAR", "VARIANCE", "IVAR", "STD", "STDDEV", "SIGMA",
    "RMS", "NOISE", "WEIGHT", "WEIGHTS", "WHT", "NUSED", "COVERAGE", "SAMP", "TIME", "CON", "CTX", "EXPMAP",
    "BKG", "BACKGROUND", "PSF", "PSFIMAGE", "SEG", "SEGMENTATION", "WCSDVARR", "D2IMARR",
    "THUMBNAIL", "THUMB", "PREVIEW", "REJECTION", "SLOPE",
])  # fmt: skip
"""Words in EXTNAME of images that are about a frame and are no frame themselves: masks, uncertainties, previews."""

_MAX_HEADER_LENGTH = 2**20
_MAX_HEADERS_LENGTH = 2**24
"""Of all headers of a file together: those of a mosaic of 200 extensions are 4 MiB."""
_MAX_UNITS = 1000
_MAX_NAMED = 8
_PACKED_NAME = "COMPRESSED_IMAGE"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One header-data unit of a file."""

    index: int
    """From 0, the primary unit."""
    header: Header
    start: int
    """Byte of the first card in the file (in the unpacked stream of a packed one)."""
    data_offset: int
    data_length: int
    """Bytes of its data, without padding."""
    has_nulls: bool = False
    """Whether NUL bytes stand in its header where FITS has blanks."""

    @property
    def end(self) -> int:
        """Byte behind its data and their padding."""
        return self.data_offset + padded_length(self.data_length)

    @property
    def name(self) -> str:
        """EXTNAME, else its place in the file."""
        return self.header.text("EXTNAME") or (f"extension {self.index}" if self.index else "primary image")

    @property
    def extension_name(self) -> str:
        """EXTNAME, "" where there is none; the name that packers give to every image is none."""
        name = self.header.text("EXTNAME") or ""
        return "" if self.is_compressed_image and name.upper() == _PACKED_NAME else name

    @property
    def is_primary(self) -> bool:
        """Whether it is the primary unit, or holds the compressed image of one."""
        return self.index == 0 or (self.is_compressed_image and "ZSIMPLE" in self.header)

    @property
    def is_compressed_image(self) -> bool:
        """Whether it is a table that holds a tile-compressed image."""
        return self.header.value("ZIMAGE") is True and self.header.text("XTENSION") == "BINTABLE"

    @property
    def is_image(self) -> bool:
        """Whether it is an array that is not compressed."""
        is_array = self.index == 0 or self.header.text("XTENSION") in ("IMAGE", "IUEIMAGE")
        return is_array and self.header.value("GROUPS") is not True

    @property
    def is_frame(self) -> bool:
        """Whether it holds an image of two axes or more that is no companion of another one (`COMPANIONS`)."""
        if not (self.is_image or self.is_compressed_image):
            return False
        prefix = "Z" if self.is_compressed_image else ""
        n_axes = int(self.header.number(f"{prefix}NAXIS", low=0, high=999) or 0)
        if n_axes < 2 or any(self.header.value(f"{prefix}NAXIS{axis + 1}") == 0 for axis in range(n_axes)):
            return False
        name = self.header.text("EXTNAME")
        return name is None or not is_companion(name)


def is_companion(name: str) -> bool:
    """Return whether an image of this EXTNAME is about another one (`COMPANIONS`)."""
    words = re.split(r"[\W_]+", name)
    return any(word.upper().rstrip("0123456789") in COMPANIONS for word in words)


def unused_name(unit: Unit) -> str:
    """Return what a unit is called that is not used as a frame; "" where it is used or has nothing to be used."""
    if unit.is_frame:
        return ""
    if unit.data_length:
        return unit.name
    is_empty_image = unit.index > 0 and (unit.is_image or unit.is_compressed_image)
    return f"{unit.name} (no data)" if is_empty_image else ""


def read_units(stream: BinaryIO | UnpackedGzip, path: str, size: int | None = None) -> Iterator[Unit]:
    """Yield the units of a file of `size` bytes; bytes behind the last one that are no extension are ignored.

    The stream may be read between two units, as positions are absolute; a gzip stream only forwards.

    Raises
    ------
    FrameError
        If the file does not begin as a FITS file, or a header is damaged.
    """
    offset, header_bytes = 0, 0
    for index in range(_MAX_UNITS + 1):
        if index and size is not None and offset >= size:
            return
        stream.seek(offset)
        cards = _read_header(stream, path, is_primary=index == 0)
        if cards is None:
            return
        if index == _MAX_UNITS:
            raise FrameError(f"{path}: has more than {_MAX_UNITS} extensions; split it or leave it out")
        header_bytes += len(cards) * CARD_LENGTH
        if header_bytes > _MAX_HEADERS_LENGTH:
            raise FrameError(f"{path}: its headers are longer than {_MAX_HEADERS_LENGTH} bytes; leave it out")
        header = header_of(tuple(cards))
        unit = Unit(
            index=index,
            header=header,
            start=offset,
            data_offset=offset + padded_length((len(cards) + 1) * CARD_LENGTH),
            data_length=_data_length(header, path),
            has_nulls=cards.has_nulls,
        )
        yield unit
        offset = unit.end


def image_labels(units: Sequence[Unit]) -> list[str]:
    """Return what the images of one file are called, no two the same.

    ``im1`` is an EXTNAME, ``SCI,2`` one with its EXTVER where several images share the name (or it could be taken for
    something else; EXTVER is counted from 1 where images share it too), ``3`` the number of an image without a name: 0
    is the primary image, extensions count from 1.
    """
    labels: list[str] = []
    names = Counter(unit.extension_name for unit in units)
    versions = Counter((unit.extension_name, _version(unit)) for unit in units)
    n_primary = sum(unit.is_primary for unit in units)
    repeated = {name for (name, _), count in versions.items() if count > 1}
    seen: Counter[str] = Counter()
    for place, unit in enumerate(units):
        name = unit.extension_name
        seen[name] += 1
        if name and names[name] == 1 and not name.isdecimal() and "," not in name:
            labels.append(name)
        elif name:
            labels.append(f"{name},{seen[name] if name in repeated else _version(unit)}")
        else:
            labels.append(str(0 if unit.is_primary else place + 1 - n_primary))
    return labels


def possible_labels(unit: Unit) -> tuple[str, ...]:
    """Return what `image_labels` may call an image in a file of several; nothing for one without EXTNAME."""
    name = unit.extension_name
    return (name, f"{name},{_version(unit)}") if name else ()


def name_and_version(label: str) -> tuple[str | None, int | None]:
    """Return EXTNAME and EXTVER of a label of `image_labels`."""
    name, _, version = label.rpartition(",")
    if name and version.isdecimal():
        return name, int(version)
    return (None, None) if label.isdecimal() else (label, None)


def companion_name(label: str, what: str) -> str:
    """Return the EXTNAME of what belongs to one image of several: ``im1_UNCERT``."""
    return f"{label.replace(',', '_')}_{what}"


def _version(unit: Unit) -> int:
    return int(unit.header.number("EXTVER", low=0, high=1e9) or 1)


def refuse_several(names: Sequence[str], path: str) -> None:
    """Raise FrameError with the names of the images where a file has more than one."""
    if len(names) > 1:
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        raise FrameError(
            f"{path}: holds {len(names)} images ({', '.join(names[:_MAX_NAMED])}{more}) where one is needed;"
            " split it into files of one image each"
        )


class _Cards(list[str]):
    """Cards of a header, without END."""

    has_nulls = False


def _read_header(stream: BinaryIO | UnpackedGzip, path: str, *, is_primary: bool) -> _Cards | None:
    """Read cards up to END; ``None`` where no further extension follows."""
    start = b"SIMPLE  " if is_primary else b"XTENSION"
    cards = _Cards()
    while len(cards) * CARD_LENGTH < _MAX_HEADER_LENGTH:
        block = stream.read(BLOCK_LENGTH)
        if not cards and not block.startswith(start):
            if not is_primary:
                return None
            what = "is empty" if not block else "is no FITS file (it does not begin with SIMPLE)"
            raise FrameError(f"{path}: {what}; leave it out or copy it again")
        text = block.decode("latin-1")
        end = _position_of_end(text)
        cards += [text[at : at + CARD_LENGTH] for at in range(0, len(text) if end is None else end, CARD_LENGTH)]
        cards.has_nulls = cards.has_nulls or "\0" in text
        if end is not None:
            _check_padding(text[end:], path)
            return cards
        if len(block) < BLOCK_LENGTH:
            raise FrameError(f"{path}: is cut short inside its header; copy it again or leave it out")
    raise FrameError(f"{path}: its header has no END within 1 MiB; the file is damaged, leave it out")


def _position_of_end(text: str) -> int | None:
    """Return where the card END begins in a block of cards."""
    at = text.find("END")
    while at >= 0 and (at % CARD_LENGTH or text[at + 3 : at + 8].strip(" \0")):
        at = text.find("END", at + 1)
    return at if at >= 0 else None


def _check_padding(end: str, path: str) -> None:
    """Refuse a header whose last block is not filled with blanks behind END: where its data begin is not known."""
    if end[3:].strip(" \0"):
        raise FrameError(
            f"{path}: its header is not filled up to 2880 bytes with blanks behind END: where its samples begin is not"
            " known; write it again with a program that pads headers, or leave it out"
        )


def _data_length(header: Header, path: str) -> int:
    """Return the bytes of a data unit: |BITPIX| / 8 * GCOUNT * (PCOUNT + product of the axes)."""
    bitpix, count = (header.number(keyword, low=-64, high=999) or 0 for keyword in ("BITPIX", "NAXIS"))
    if not count:
        return 0
    samples = 1
    for number in range(1, int(count) + 1):
        length = header.number(f"NAXIS{number}", low=0, high=2.0**48)
        if length is None:
            raise FrameError(f"{path}: NAXIS{number} is no length: the file is damaged, leave it out")
        is_groups_mark = number == 1 and length == 0 and header.value("GROUPS") is True
        samples *= 1 if is_groups_mark else int(length)
    parameters = int(header.number("PCOUNT", low=0, high=2.0**48) or 0)
    groups = int(header.number("GCOUNT", low=1, high=2.0**48) or 1)
    length_bytes = abs(int(bitpix)) // 8 * groups * (parameters + samples)
    if length_bytes > 2**60:
        raise FrameError(f"{path}: its header promises {length_bytes} bytes: the file is damaged, leave it out")
    return length_bytes
