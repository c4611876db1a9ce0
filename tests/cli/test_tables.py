"""Tables fit 80 columns wherever they are printed, and paths stay whole."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from ostcal.cli.tables import WIDTH, Table

LONG = "/archive/observatory/2026-11-21/master_frames/master_flat_1.700s_SII 3nm_night20260110_20261121_024549.fits"


def masters_table(path: str) -> Table:
    table = Table("Masters", "=kind", ">exposure", "filter", ">frames", "/where")
    table.add_row("bias", "0.001 s", "", "20", path)
    table.add_row("flat", "1.7 s", "SII 3nm", "8", path)
    return table


def test_paths_that_fit_are_a_column() -> None:
    title, header, rule, *rows = masters_table("masters/flat.fits").lines()
    assert title == "Masters"
    assert header.split() == ["kind", "exposure", "filter", "frames", "where"]
    assert set(rule) == {"─"}
    assert [row.split()[-1] for row in rows] == ["masters/flat.fits"] * 2
    assert [row.index("masters/") for row in rows] == [header.index("where")] * 2
    assert [row.index("20" if "bias" in row else " 8") for row in rows] == [header.index("frames") + 4] * 2


def test_paths_that_do_not_fit_are_whole_lines_of_their_own() -> None:
    lines = masters_table(LONG).lines()
    assert [line for line in lines if LONG in line] == [f"    {LONG}"] * 2
    assert all(cell_len(line) <= WIDTH for line in lines if LONG not in line)
    assert "where" not in lines[1]


def test_one_long_path_moves_the_short_ones_too() -> None:
    table = masters_table("flat.fits")
    table.add_row("dark", "60 s", "", "20", LONG)
    assert table.lines().count("    flat.fits") == 2


def test_columns_without_text_are_left_out() -> None:
    table = Table("Frames", "=kind", ">gain", "filter")
    table.add_row("bias", "", "")
    assert table.lines()[1] == "kind"


def test_words_are_folded_and_numbers_are_not() -> None:
    table = Table("Old", "=what", "why", ">bytes")
    table.add_row("master", "of these settings a newer one is there " * 4, "123456789")
    table.add_row("series", "x" * 200, "1")
    lines = table.lines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.count("x") for line in lines) == 200
    assert sum(line.endswith("123456789") for line in lines) == 1
    assert not any("…" in line for line in lines)


def test_characters_of_two_columns_are_counted() -> None:
    table = Table("Frames", "filter", "becomes", ">frames")
    table.add_row("狭帯域" * 12, "too few, 3 needed " * 3, "12")
    assert max(map(cell_len, table.lines())) <= WIDTH


@pytest.mark.parametrize("columns", ["40", "80", "300"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_table_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch, columns: str, is_terminal: bool) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    table = masters_table(LONG)
    table.print_to(Console(file=stream, force_terminal=is_terminal, color_system=None))
    assert stream.getvalue().splitlines() == [*table.lines(), ""]


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="2 cells for 3 columns"):
        Table("Frames", "kind", "filter", "size").add_row("bias", "L")
