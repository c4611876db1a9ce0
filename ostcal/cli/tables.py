"""Tables of at most 80 columns: the same on a terminal and in a pipe, with every path in one piece."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ostcal.printable import printable

WIDTH = 80
"""Columns of a terminal that nobody has widened."""

_INDENT = "    "
_GAPS = (2, 1)
"""Spaces between columns; the smaller one before words are broken."""
_SHORT_WORD = 7
"""Letters up to which a word is broken only where nothing else makes a row fit."""
_LEAST_WIDTH = 3
"""Letters to which a word is broken at the least."""


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    is_number: bool = False
    """Aligned to the right."""
    is_folded: bool = True
    is_path: bool = False


@dataclass(frozen=True, kw_only=True)
class _Row:
    cells: tuple[str, ...]
    below: tuple[str, ...]
    """Paths, each on a line of its own."""


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """A table as it is printed."""

    header: Sequence[str]
    rows: Sequence[str]
    length: int
    """Of the line between both."""


class Table:
    """Rows below a title.

    Words are folded where a row is too wide. Paths are not: they are a column where all of them fit, else each is on a
    line of its own below its row. Columns without any text are left out.

    Parameters
    ----------
    title : str
        The line above the table.
    *columns : str
        Names of the columns. Those that begin with ``>`` are aligned to the right; these and those that begin with
        ``=`` are not folded. One that begins with ``/`` has paths, at most one in each row; others are given with
        the row.
    """

    def __init__(self, title: str, *columns: str) -> None:
        self._title = printable(title)
        self._columns = tuple(
            _Column(
                name=column.lstrip(">=/"),
                is_number=column.startswith(">"),
                is_folded=not column.startswith((">", "=", "/")),
                is_path=column.startswith("/"),
            )
            for column in columns
        )
        self._rows: list[_Row] = []

    @property
    def row_count(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def add_row(self, *cells: str, below: Sequence[str] = ()) -> None:
        """Add a row: a cell for each column, and what stands on lines of its own."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        shown = tuple(
            printable(cell, keep="" if column.is_path else "\n")
            for cell, column in zip(cells, self._columns, strict=True)
        )
        self._rows.append(_Row(cells=shown, below=tuple(map(printable, below))))

    def print_to(self, console: Console) -> None:
        """Print the table and an empty line; a terminal that is narrower breaks the lines itself."""
        table = self._rendered()
        rule = ("-" if console.options.ascii_only else "─") * table.length
        styled = [(self._title, "italic"), *((line, "bold") for line in table.header), (rule, "dim")]
        for line, style in (*styled, *((line, "") for line in (*table.rows, ""))):
            console.print(Text(line, style=style), soft_wrap=True)

    def lines(self) -> list[str]:
        """Return the title, the names of the columns, a line, and the rows."""
        table = self._rendered()
        return [self._title, *table.header, "─" * table.length, *table.rows]

    def _rendered(self) -> _Lines:
        columns, rows = _with_text(self._columns, self._rows)
        if _total(_natural_widths(columns, rows), _GAPS[0]) > WIDTH:
            columns, rows = _paths_below(columns, rows)
        widths, gap = _fitted(columns, rows)
        header = _folded([column.name for column in columns], columns, widths, gap)
        folded = [_folded(row.cells, columns, widths, gap) for row in rows]
        length = max(map(cell_len, (*header, *(line for lines in folded for line in lines))))
        body = [
            line
            for row, lines in zip(rows, folded, strict=True)
            for line in (*lines, *(_INDENT + path for path in row.below))
        ]
        return _Lines(header=header, rows=body, length=length)


def _with_text(columns: Sequence[_Column], rows: Sequence[_Row]) -> tuple[list[_Column], list[_Row]]:
    """Leave out the columns that are empty."""
    shown = [i for i in range(len(columns)) if not rows or any(row.cells[i] for row in rows)]
    kept = [_Row(cells=tuple(row.cells[i] for i in shown), below=row.below) for row in rows]
    return [columns[i] for i in shown], kept


def _paths_below(columns: Sequence[_Column], rows: Sequence[_Row]) -> tuple[list[_Column], list[_Row]]:
    """Put the paths of a row below it."""
    moved = [
        _Row(
            cells=tuple(cell for cell, column in zip(row.cells, columns, strict=True) if not column.is_path),
            below=(*(c for c, column in zip(row.cells, columns, strict=True) if column.is_path and c), *row.below),
        )
        for row in rows
    ]
    return [column for column in columns if not column.is_path], moved


def _natural_widths(columns: Sequence[_Column], rows: Sequence[_Row]) -> list[int]:
    """Return the widths at which nothing is folded."""
    return [
        max(cell_len(text) for text in (column.name, *(line for row in rows for line in row.cells[i].splitlines())))
        for i, column in enumerate(columns)
    ]


def _longest_words(columns: Sequence[_Column], rows: Sequence[_Row]) -> list[int]:
    """Return the widths at which no word is broken."""
    return [
        max(cell_len(word) for text in (column.name, *(row.cells[i] for row in rows)) for word in text.split() or [""])
        for i, column in enumerate(columns)
    ]


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _fitted(columns: Sequence[_Column], rows: Sequence[_Row]) -> tuple[list[int], int]:
    """Return widths that fit, and the space between columns: the widest columns of words are folded first."""
    widths, words = _natural_widths(columns, rows), _longest_words(columns, rows)
    unbroken = [min(width, _SHORT_WORD) for width in words]
    broken = [min(width, _LEAST_WIDTH) for width in words]
    for gap, least in ((_GAPS[0], words), (_GAPS[1], words), (_GAPS[1], unbroken), (_GAPS[1], broken)):
        while _total(widths, gap) > WIDTH:
            foldable = [i for i, column in enumerate(columns) if column.is_folded and widths[i] > least[i]]
            if not foldable:
                break
            widths[max(foldable, key=lambda i: (widths[i] < words[i], widths[i]))] -= 1
        else:
            return widths, gap
    return widths, _GAPS[1]


def _folded(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], gap: int) -> list[str]:
    """Return the lines of a row."""
    parts = [
        [piece for line in cell.splitlines() for piece in _pieces(line, width)]
        for cell, width in zip(cells, widths, strict=True)
    ]
    height = max(1, *map(len, parts))
    return [_line([part[i] if i < len(part) else "" for part in parts], columns, widths, gap) for i in range(height)]


def _pieces(text: str, width: int) -> list[str]:
    """Fold a line between words, and within words that are too long."""
    if cell_len(text) <= width:
        return [text]
    is_wide = cell_len(text) > len(text)  # characters that take two columns
    return textwrap.wrap(text, max(1, width // 2 if is_wide else width), break_on_hyphens=False)


def _line(texts: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], gap: int) -> str:
    padded = []
    for text, column, width in zip(texts, columns, widths, strict=True):
        space = " " * (width - cell_len(text))
        padded.append(space + text if column.is_number else text + space)
    return (" " * gap).join(padded).rstrip()
