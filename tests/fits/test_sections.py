"""Sections of images in headers, in the spellings of observatories, and what makes no sense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import FrameError
from ostcal.fits.cards import Header, format_card
from ostcal.fits.sections import Amplifier, Readout, Section, parse_section, readout_from_header


def header_of(**cards: Any) -> Header:
    return Header([card for name, value in cards.items() for card in format_card(name, value)])


def parsed(text: str, width: int = 1056, height: int = 1024) -> Section | None:
    return parse_section(text, width=width, height=height, name="BIASSEC", path="x.fits")


def readout(width: int, height: int, **cards: Any) -> Readout | None:
    return readout_from_header(header_of(**cards), width=width, height=height, path="x.fits")


def section(left: int, right: int, bottom: int, top: int) -> Section:
    return Section(left=left, right=right, bottom=bottom, top=top)


@pytest.mark.parametrize(
    "text",
    [
        "[1025:1056,1:1024]",
        "[1025:1056, 1:1024]",
        " [ 1025 : 1056 , 1 : 1024 ] ",
        "1025:1056,1:1024",
        "(1025:1056,1:1024)",
        "[1025:1056,:]",
        "[1025:1056,*]",
        "[1025.0:1056.0,1.:1024.]",
        "[1025 1056 1 1024]",
        "[1025,1056,1,1024]",
    ],
)
def test_spellings_of_one_section(text: str) -> None:
    assert parsed(text) == section(1024, 1056, 0, 1024)


@pytest.mark.parametrize("text", ["", "  ", "[]", "NONE", "n/a", "UNKNOWN", "[0:0,0:0]", "[0 0 0 0]"])
def test_texts_that_say_there_is_none(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1056:1025,1:1024]", "runs backwards"),
        ("[1025:1056,1024:1]", "runs backwards"),
        ("[1025:1057,1:1024]", r"outside the image of 1056 x 1024"),
        ("[0:10,1:1024]", "outside the image"),
        ("[-3:10,1:1024]", "outside the image"),
        ("[1:10]", "is no section such as"),
        ("[1:10,1:10,1:10]", "is no section such as"),
        ("[a:b,1:10]", "is no section such as"),
        ("[1:10:2,1:10]", "is no section such as"),
    ],
)
def test_what_is_no_section_is_refused_with_file_card_and_value(text: str, why: str) -> None:
    with pytest.raises(FrameError, match=rf"x\.fits: BIASSEC is .*{why}") as refused:
        parsed(text)
    assert repr(text) in str(refused.value)


@given(x=st.integers(1, 500), y=st.integers(1, 500), width=st.integers(1, 50), height=st.integers(1, 50))
def test_a_section_written_is_the_section_read(x: int, y: int, width: int, height: int) -> None:
    made = section(x - 1, x - 1 + width, y - 1, y - 1 + height)
    assert parsed(made.text()) == made


def test_columns_at_the_end_are_subtracted_row_by_row() -> None:
    found = readout(288, 256, BIASSEC="[257:288,1:256]", DATASEC="[1:256,1:256]", TRIMSEC="[1:256,1:256]")
    expected = Amplifier(kept=section(0, 256, 0, 256), overscan=section(256, 288, 0, 256))
    assert found == Readout(amplifiers=(expected,))
    assert expected.axis == "rows"


def test_a_prescan_at_the_start_and_rows_at_the_top() -> None:
    found = readout(120, 100, BIASSEC="[1:20,1:100]")
    assert found is not None
    assert found.amplifiers[0].kept == section(20, 120, 0, 100)
    above = readout(120, 100, BIASSEC="[1:120,91:100]")
    assert above is not None
    assert above.amplifiers[0].kept == section(0, 120, 0, 90)
    assert above.amplifiers[0].axis == "columns"


def test_trimsec_wins_over_datasec_and_without_overscan_it_only_trims() -> None:
    found = readout(120, 100, TRIMSEC="[11:110,1:100]", DATASEC="[1:120,1:100]")
    assert found == Readout(amplifiers=(Amplifier(kept=section(10, 110, 0, 100)),))


def test_a_section_of_the_whole_image_changes_nothing() -> None:
    assert readout(120, 100, DATASEC="[1:120,1:100]", TRIMSEC="[1:120,1:100]", BIASSEC="") is None
    assert readout(120, 100) is None
    assert readout(120, 100, CCDSEC="[1:120,1:100]") is None


def test_lick_counts_columns_and_rows_at_the_end() -> None:
    found = readout(1056, 1024, COVER=32, ROVER=0)
    assert found == Readout(
        amplifiers=(Amplifier(kept=section(0, 1024, 0, 1024), overscan=section(1024, 1056, 0, 1024)),)
    )
    rows = readout(1056, 1030, COVER=32, ROVER=6)
    assert rows is not None
    assert rows.amplifiers[0].kept == section(0, 1024, 0, 1024)


def test_four_numbers_of_the_qhy600() -> None:
    found = readout(6422, 9600, OVERSCAN="[6389 6422 1 9600]")
    assert found is not None
    assert found.amplifiers == (Amplifier(kept=section(0, 6388, 0, 9600), overscan=section(6388, 6422, 0, 9600)),)


@pytest.mark.parametrize(
    "cards",
    [
        {"OVERSCAN": "Nov 15 2:58 Overscan section is [257:288,1:256] with mean=1040.5"},
        {"TRIM": "Nov 15 2:58 Trim data section is [1:256,1:256]"},
        {"CALSTAT": "OTZ"},
        {"SUBOVER": True},
    ],
)
def test_what_was_done_is_not_done_again(cards: dict[str, Any]) -> None:
    assert readout(256, 256, BIASSEC="[257:288,1:256]", **cards) is None


@pytest.mark.parametrize("naming", [("BIASSEC{}", "TRIMSEC{}", "AB"), ("BSEC{}", "TSEC{}", ("11", "21"))])
def test_two_amplifiers_with_an_overscan_each_in_the_middle(naming: tuple[str, str, Any]) -> None:
    bias, trim, names = naming
    cards = {
        bias.format(names[0]): "[101:110,1:50]",
        trim.format(names[0]): "[1:100,1:50]",
        bias.format(names[1]): "[111:120,1:50]",
        trim.format(names[1]): "[121:220,1:50]",
    }
    found = readout(220, 50, **cards)
    assert found is not None
    assert found.columns == ((0, 100), (120, 220))
    assert found.rows == ((0, 50),)
    assert [a.overscan for a in found.amplifiers] == [section(100, 110, 0, 50), section(110, 120, 0, 50)]


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"BIASSEC": "[90:110,1:50]", "TRIMSEC": "[1:100,1:50]"}, "overlap"),
        ({"BIASSEC": "[101:110,1:20]", "TRIMSEC": "[1:100,1:50]"}, "covers not all rows"),
        ({"BIASSEC": "[1:220,1:50]"}, "is the whole image"),
        (
            {
                "BIASSECA": "[101:110,1:50]",
                "TRIMSECA": "[1:100,1:50]",
                "BIASSECB": "[111:120,1:50]",
                "TRIMSECB": "[90:99,1:50]",
            },
            "two amplifiers overlap",
        ),
        (
            {
                "BIASSECA": "[101:110,1:50]",
                "TRIMSECA": "[1:100,1:50]",
                "BIASSECB": "[111:120,1:25]",
                "TRIMSECB": "[121:220,1:25]",
            },
            "make no rectangle",
        ),
    ],
)
def test_sections_that_contradict_each_other_are_refused(cards: dict[str, str], why: str) -> None:
    with pytest.raises(FrameError, match=rf"x\.fits: .*{why}.*master_frames\.overscan"):
        readout(220, 50, **cards)
