"""Lists of the worst pixels of a master, as files: FITS table, CSV, and what Siril and PixInsight read.

They count differently, and each file says how: FITS and CSV from 1, the others from 0; Siril has row 0 at the top of an
image whose first row in the file is at the bottom, PixInsight the first row in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.errors import StorageError
from ostcal.fits.cards import Card, format_card, padded_length
from ostcal.fits.checksum import OnesSum, header_with_sums
from ostcal.library.master_names import DEFECT_ENDINGS, DEFECT_FOLDER, defect_list_names
from ostcal.measure.masters.defects import Defect
from ostcal.measure.masters.marked_pixels import ColumnPart, WorstPixels
from ostcal.places.durable import os_reason, write_atomically
from ostcal.places.paths import make_directory, path_of

_KIND_WIDTH = 64
_PIXELS_OF_COLUMNS = 50_000
"""Pixels of parts of columns that Siril's list names one by one, at most."""
_DECIMALS, _DECIMALS_OF_RESPONSE = 3, 6
"""Of values in ADU, and of flats, whose level is 1."""
_MOST = 10**15
"""Numbers are cut there, in units of their last decimal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DefectList:
    """What the files of a master list."""

    master: str
    unit: str
    shape: tuple[int, int]
    n_marked: int
    pixels: WorstPixels
    parts: tuple[ColumnPart, ...]


def kind_words(bits: int) -> str:
    """Return what a pixel is: ``hot``, ``cold+noisy``."""
    return "+".join(str(bit.name).lower().replace("_", " ") for bit in Defect if bits & bit)


_KINDS = [kind_words(bits) for bits in range(256)]


def write_lists(directory: str, found: DefectList) -> tuple[str, ...]:
    """Write the files of a master, each complete or absent; return their names from the directory of the masters.

    They are written at the same time: each waits for the disk.

    Raises
    ------
    StorageError
        If one cannot be written.
    """
    contents: Mapping[str, bytes] = {
        ".csv": csv_text(found),
        ".lst": siril_text(found),
        ".txt": pixinsight_text(found),
        ".fits": fits_bytes(found),
    }
    place, names = path_of(directory), defect_list_names(found.master)

    def write(name: str, ending: str) -> None:
        write_atomically(place / name, contents[ending], durable=True)

    try:
        make_directory(place / DEFECT_FOLDER)
        with ThreadPoolExecutor(len(names), thread_name_prefix="ostcal-lists") as pool:
            list(pool.map(write, names, DEFECT_ENDINGS))
    except OSError as error:
        raise StorageError(
            f"{place / DEFECT_FOLDER}: the lists of defects cannot be written: {os_reason(error)}; check the directory,"
            " its space and permissions"
        ) from error
    return names


def csv_text(found: DefectList) -> bytes:
    """Return the list as CSV, x and y from 1 as FITS counts; pixels first, then parts of bad columns."""
    pixels, decimals = found.pixels, _DECIMALS if found.unit else _DECIMALS_OF_RESPONSE
    rows = _whole(pixels.rows + 1)
    kinds = np.array(_KINDS, dtype=f"S{_KIND_WIDTH}")[pixels.bits]
    lines = _lines(
        _whole(pixels.columns + 1), ",", rows, ",", rows, ",",
        _decimal(pixels.values, decimals), ",", _decimal(pixels.differences, decimals), ",",
        kinds.view(np.uint8).reshape(len(kinds), _KIND_WIDTH), "\n",
    )  # fmt: skip
    parts = [f"{part.column + 1},{part.start + 1},{part.stop},,,bad column\n" for part in found.parts]
    return b"x,y,y_last,value,difference,kind\n" + lines + "".join(parts).encode()


def siril_text(found: DefectList) -> bytes:
    """Return the list for Siril's command ``cosme``: ``P x y H``, and ``C x 0 H`` for whole columns."""
    pixels, height = found.pixels, found.shape[0]
    letters = np.where(pixels.differences < 0, ord("C"), ord("H")).astype(np.uint8)[:, None]
    lines = _lines("P ", _whole(pixels.columns), " ", _whole(height - 1 - pixels.rows), " ", letters, "\n")
    parts, left = [], _PIXELS_OF_COLUMNS
    for part in found.parts:
        if part.start == 0 and part.stop == height:
            parts.append(f"C {part.column} 0 H\n")
            continue
        rows = range(part.start, part.stop)[:left]
        left -= len(rows)
        parts += [f"P {part.column} {height - 1 - row} H\n" for row in rows]
    return lines + "".join(parts).encode()


def pixinsight_text(found: DefectList) -> bytes:
    """Return the list for PixInsight's CosmeticCorrection: ``Col x first last``, of a pixel with equal ends."""
    rows = _whole(found.pixels.rows)
    lines = _lines("Col ", _whole(found.pixels.columns), " ", rows, " ", rows, "\n")
    parts = [
        f"Col {part.column}\n"
        if part.start == 0 and part.stop == found.shape[0]
        else f"Col {part.column} {part.start} {part.stop - 1}\n"
        for part in found.parts
    ]
    return lines + "".join(parts).encode()


# ---- text of many numbers: formatting 50,000 lines in Python takes 0.1 s ----

Letters = NDArray[np.uint8]
"""(n, width): what a column of the text holds, 0 where it holds nothing."""


def _lines(*columns: Letters | str) -> bytes:
    """Join columns, and words that all lines have."""
    n = next(len(column) for column in columns if not isinstance(column, str))
    whole = [
        np.broadcast_to(np.frombuffer(column.encode(), np.uint8), (n, len(column)))
        if isinstance(column, str)
        else column
        for column in columns
    ]
    letters = np.hstack(whole)
    text: bytes = letters[letters != 0].tobytes()
    return text


def _whole(numbers: NDArray[Any]) -> Letters:
    """Write whole numbers that are not negative."""
    width = len(str(int(numbers.max(initial=0))))
    powers = 10 ** np.arange(width - 1, -1, -1)
    digits = numbers[:, None] // powers % 10 + ord("0")
    leading = (numbers[:, None] < powers) & (powers > 1)
    return np.asarray(np.where(leading, 0, digits), dtype=np.uint8)


def _decimal(numbers: NDArray[np.float32], decimals: int) -> Letters:
    """Write numbers with decimals; what is not finite is left empty."""
    finite = np.isfinite(numbers)
    scaled = np.rint(np.where(finite, numbers, 0).astype(np.float64) * 10**decimals)
    scaled = np.clip(scaled, -_MOST, _MOST).astype(np.int64)
    size = np.abs(scaled)
    sign = np.where(scaled < 0, ord("-"), 0).astype(np.uint8)[:, None]
    rest = size[:, None] // 10 ** np.arange(decimals - 1, -1, -1) % 10 + ord("0")
    point = np.full((len(numbers), 1), ord("."), np.uint8)
    letters = np.hstack([sign, _whole(size // 10**decimals), point, rest.astype(np.uint8)])
    return np.where(finite[:, None], letters, 0).astype(np.uint8)


# ---- the table ----


def fits_bytes(found: DefectList) -> bytes:
    """Return a FITS file with the tables DEFECTS and, where there are bad columns, COLUMNS."""
    height, width = found.shape
    pixels = found.pixels
    table = np.zeros(
        len(pixels.rows),
        [("x", ">i4"), ("y", ">i4"), ("value", ">f4"), ("diff", ">f4"), ("dq", "u1"), ("kind", f"S{_KIND_WIDTH}")],
    )
    table["x"], table["y"] = pixels.columns + 1, pixels.rows + 1
    table["value"], table["diff"], table["dq"] = pixels.values, pixels.differences, pixels.bits
    table["kind"] = np.array(_KINDS, dtype=f"S{_KIND_WIDTH}")[pixels.bits]
    columns = np.zeros(len(found.parts), [("x", ">i4"), ("y_first", ">i4"), ("y_last", ">i4")])
    for name, values in (
        ("x", [part.column + 1 for part in found.parts]),
        ("y_first", [part.start + 1 for part in found.parts]),
        ("y_last", [part.stop for part in found.parts]),
    ):
        columns[name] = values
    primary: list[Card] = [
        ("SIMPLE", True, "FITS standard"),
        ("BITPIX", 8, "no image"),
        ("NAXIS", 0, "no image"),
        ("EXTEND", True, "tables follow"),
        ("PROGRAM", f"ostcal {__version__}", "program that wrote this file"),
        ("MASTER", found.master, "master whose pixels are listed"),
        ("IMWIDTH", width, "columns of the master"),
        ("IMHEIGHT", height, "rows of the master"),
        ("NMARKED", found.n_marked, "pixels that are marked in its DQ plane"),
        ("NLISTED", len(pixels.rows), "the worst of them, listed here"),
        ("COMMENT", "x and y count from 1: the first pixel of the first row in the file is 1, 1.", ""),
    ]
    units = (None, None, found.unit or None, found.unit or None, None, None)
    about = (
        ("COMMENT", "diff: from the median of eight pixels in its row. dq: bits of the DQ plane; kind: in words.", ""),
    )
    file = header_with_sums([card for one in primary for card in format_card(*one)])
    file += _table("DEFECTS", table, units, about)
    return file + (_table("COLUMNS", columns, (None, None, None), ()) if found.parts else b"")


def _table(name: str, rows: np.ndarray[Any, Any], units: tuple[str | None, ...], about: tuple[Card, ...]) -> bytes:
    """Return a binary table as FITS writes it (standard 4.0, section 7.3)."""
    letters = {"i4": "1J", "f4": "1E", "u1": "1B"}
    cards: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, "bytes"),
        ("NAXIS", 2, "rows of bytes"),
        ("NAXIS1", rows.dtype.itemsize, "bytes of a row"),
        ("NAXIS2", len(rows), "rows"),
        ("PCOUNT", 0, "no heap"),
        ("GCOUNT", 1, "one group"),
        ("TFIELDS", len(units), "columns"),
    ]
    assert rows.dtype.names is not None
    for number, (column, unit) in enumerate(zip(rows.dtype.names, units, strict=True), 1):
        code = rows.dtype[column].str[1:]
        cards += [
            (f"TTYPE{number}", column, ""),
            (f"TFORM{number}", letters.get(code, f"{code[1:]}A"), ""),
            (f"TUNIT{number}", unit, ""),
        ]
    cards += [("EXTNAME", name, "name of this table"), *about]
    data = rows.tobytes()
    data = data.ljust(padded_length(len(data)), b"\0")
    total = OnesSum()
    total.add(np.frombuffer(data, np.uint8))
    return header_with_sums([card for one in cards for card in format_card(*one)], total.value) + data
