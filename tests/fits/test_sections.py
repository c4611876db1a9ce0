"""Sections of images in headers, in the spellings of observatories, and what makes no sense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import FrameError
from ostcal.fits.cards import Header, format_card
from ostcal.fits.sections import (
    Amplifier,
    Readout,
    Section,
    parse_section,
    readout_cards,
    readout_from_header,
    without_sections,
)


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
        "'[1025:1056,1:1024]'",
        '"[1025:1056, *]"',
        "\t[1025:1056,1:1024]\t",
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
        ("[1056:1025,1:1024]", "runs backwards in the image of 1056 x 1024"),
        ("[1025:1056,1024:1]", "runs backwards"),
        ("[1025:1057,1:1024]", r"outside the image of 1056 x 1024"),
        ("[0:10,1:1024]", "outside the image"),
        ("[-3:10,1:1024]", "outside the image"),
        ("[1:10]", "is no section such as"),
        ("[1:10,1:10,1:10]", "is no section such as"),
        ("[a:b,1:10]", "is no section such as"),
        ("[1:10:2,1:10]", "is no section such as"),
        ("[1025:1056]", "is no section such as .* of the image of 1056 x 1024"),
        ("[1025:1056,1:1024] [1:3,1:1024]", "is no section such as"),
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
        {"SUBOVER": 1},
        {"TRIM": "T"},
        {"TRIM": "yes"},
        {"OVERSCAN": "Overscan [257:288,1:256], median of each row, fit none"},
        {"OVERSCAN": 1040.5},
        {"OVERSCAN": 1040.0},
    ],
)
def test_what_was_done_is_not_done_again(cards: dict[str, Any]) -> None:
    assert readout(256, 256, BIASSEC="[257:288,1:256]", **cards) is None


@pytest.mark.parametrize("card", ["TRIM", "TRIMIM", "SUBOVER", "OVERSCAN"])
@pytest.mark.parametrize(
    "no",
    ["False", "F", "f", "no", "NO", "not done", "none", "0", "omit", "skipped", "never", "Trim: not done", "done=F"],
)
def test_a_card_that_says_no_is_no_mark_of_work_done(card: str, no: str) -> None:
    found = readout(288, 256, **{"BIASSEC": "[257:288,1:256]", "TRIMSEC": "[1:256,1:256]", card: no})
    assert found == readout(288, 256, BIASSEC="[257:288,1:256]", TRIMSEC="[1:256,1:256]")
    assert found is not None
    assert found.amplifiers[0].overscan is not None


@pytest.mark.parametrize("count", [32, 32.0, "32"])
def test_a_count_of_columns_may_be_written_as_a_float(count: Any) -> None:
    found = readout(288, 256, OVERSCAN=count)
    assert found is not None
    assert found.amplifiers[0].overscan == section(256, 288, 0, 256)


TWO = {"TRIMSEC1": "[1:128,1:64]", "TRIMSEC2": "[129:256,1:64]"}
MIDDLE = {"TRIMSEC1": "[1:64,1:64]", "TRIMSEC2": "[105:168,1:64]"}
ABOVE = {"TRIMSEC1": "[1:64,1:64]", "TRIMSEC2": "[1:64,105:168]"}


@pytest.mark.parametrize(
    ("size", "cards", "first", "second"),
    [
        ((288, 64), TWO, "[257:272,1:64]", "[273:288,1:64]"),
        ((168, 64), MIDDLE, "[65:84,1:64]", "[85:104,1:64]"),
        ((168, 64), MIDDLE, "[68:101,1:64]", "[68:101,1:64]"),
        ((168, 64), MIDDLE, "[65:104,1:64]", "[65:104,1:64]"),
        ((64, 168), ABOVE, "[1:64,65:84]", "[1:64,85:104]"),
    ],
)
def test_an_overscan_of_each_amplifier_in_the_order_of_the_images(
    size: tuple[int, int], cards: dict[str, str], first: str, second: str
) -> None:
    found = readout(*size, **cards, BIASSEC1=first, BIASSEC2=second)
    assert found is not None
    assert [a.overscan.text() for a in found.amplifiers if a.overscan is not None] == [first, second]


@pytest.mark.parametrize(
    ("size", "cards", "first", "second"),
    [
        ((288, 64), TWO, "[273:288,1:64]", "[257:272,1:64]"),
        ((288, 64), TWO, "[257:272,1:64]", "[257:272,1:64]"),
        ((288, 64), TWO, "[273:288,1:64]", "[273:288,1:64]"),
        ((168, 64), MIDDLE, "[85:104,1:64]", "[85:104,1:64]"),
        ((168, 64), MIDDLE, "[65:84,1:64]", "[65:84,1:64]"),
        ((168, 64), MIDDLE, "[85:104,1:64]", "[65:84,1:64]"),
        ((64, 168), ABOVE, "[1:64,85:104]", "[1:64,65:84]"),
        ((64, 168), ABOVE, "[1:64,85:104]", "[1:64,85:104]"),
    ],
)
def test_the_overscan_of_another_amplifier_is_refused(
    size: tuple[int, int], cards: dict[str, str], first: str, second: str
) -> None:
    with pytest.raises(FrameError, match=r"x\.fits: BIASSEC1 .* of TRIMSEC1 .* and BIASSEC2 .* of TRIMSEC2 .* own"):
        readout(*size, **cards, BIASSEC1=first, BIASSEC2=second)


@pytest.mark.parametrize("nothing", [{}, {"BIASSEC2": "none"}, {"BIASSEC2": ""}])
def test_an_amplifier_without_overscan_beside_one_with_it_is_refused(nothing: dict[str, str]) -> None:
    with pytest.raises(FrameError, match=r"x\.fits: TRIMSEC2 is .* has no BIASSEC2 beside it"):
        readout(288, 64, **TWO, BIASSEC1="[257:272,1:64]", **nothing)


@pytest.mark.parametrize("card", ["BIASSEC", "TRIMSEC"])
@pytest.mark.parametrize("number", [5, 5.5, True])
def test_a_number_is_no_section(card: str, number: Any) -> None:
    with pytest.raises(FrameError, match=rf"x\.fits: {card} is {number}, which is no section such as"):
        readout(288, 64, **{"BIASSEC": "[257:288,1:64]", "TRIMSEC": "[1:256,1:64]", card: number})


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


# ---- cameras ----

Amplifiers = list[tuple[str, str | None]]
"""Kept and overscan of each, as FITS writes sections."""

CAMERAS: dict[str, tuple[tuple[int, int], dict[str, Any], Amplifiers]] = {
    "NOIRLab, lower-case range": (
        (2136, 2048),
        {"BIASSEC": "[2051:2136,*]", "TRIMSEC": "[1:2046,*]", "CCDSEC": "[1:2046,1:2048]", "DETSEC": "[1:2046,1:2048]"},
        [("[1:2046,1:2048]", "[2051:2136,1:2048]")],
    ),
    "TRIMSEC is the whole image, DATASEC is not": (
        (120, 100),
        {"BIASSEC": "[101:120,1:100]", "TRIMSEC": "[1:120,1:100]", "DATASEC": "[3:98,1:100]"},
        [("[3:98,1:100]", "[101:120,1:100]")],
    ),
    "LCO without an overscan": (
        (100, 90),
        {"BIASSEC": "UNKNOWN", "TRIMSEC": "[1:96,1:90]", "DATASEC": "[1:96,1:90]"},
        [("[1:96,1:90]", None)],
    ),
    "two digits": (
        (220, 50),
        {
            "BIASSEC01": "[101:110,1:50]",
            "TRIMSEC01": "[1:100,1:50]",
            "BIASSEC02": "[111:120,1:50]",
            "DATASEC02": "[121:220,1:50]",
            "AMPSEC01": "[1:100,1:50]",
            "AMPSEC02": "[100:1,1:50]",
        },
        [("[1:100,1:50]", "[101:110,1:50]"), ("[121:220,1:50]", "[111:120,1:50]")],
    ),
    "DECam": (
        (2160, 4146),
        {
            "DATASEC": "[57:2104,51:4146]",
            "TRIMSEC": "[57:2104,51:4146]",
            "TRIMSECA": "[57:1080,51:4146]",
            "TRIMSECB": "[1081:2104,51:4146]",
            "BIASSECA": "[7:56,51:4146]",
            "BIASSECB": "[2105:2154,51:4146]",
            "PRESECA": "[1:6,51:4146]",
            "AMPSECA": "[1:1024,1:4096]",
            "CCDSECB": "[1025:2048,1:4096]",
        },
        [("[57:1080,51:4146]", "[7:56,51:4146]"), ("[1081:2104,51:4146]", "[2105:2154,51:4146]")],
    ),
    "Gemini, one amplifier of an extension": (
        (544, 2112),
        {
            "BIASSEC": "[1:32,1:2112]",
            "DATASEC": "[33:544,1:2112]",
            "CCDSEC": "[1:1024,1:4224]",
            "DETSEC": "[1:1024,1:4224]",
        },
        [("[33:544,1:2112]", "[1:32,1:2112]")],
    ),
    "one numbered overscan for the whole image": (
        (120, 100),
        {"BIASSEC1": "[101:120,1:100]", "DATASEC": "[1:100,1:100]"},
        [("[1:100,1:100]", "[101:120,1:100]")],
    ),
    "numbered parts of the image, one overscan": (
        (120, 100),
        {
            "BIASSEC": "[101:120,1:100]",
            "DATASEC": "[1:100,1:100]",
            "DATASEC1": "[1:50,1:100]",
            "DATASEC2": "[51:100,1:100]",
        },
        [("[1:100,1:100]", "[101:120,1:100]")],
    ),
    "ING: the strip leaves out the first rows": (
        (2154, 4200),
        {"BIASSEC": "[10:45,10:4190]", "TRIMSEC": "[54:2101,1:4096]"},
        [("[54:2101,1:4096]", "[10:45,1:4190]")],
    ),
    "Lick, two amplifiers": (
        (1088, 300),
        {"COVER": 32, "ROVER": 0, "AMPSCOL": 2},
        [("[1:512,1:300]", "[1025:1056,1:300]"), ("[513:1024,1:300]", "[1057:1088,1:300]")],
    ),
    "Keck, two amplifiers": (
        (2 * 20 + 2048 + 2 * 80, 300),
        {"PREPIX": 20, "POSTPIX": 80, "NUMAMPS": 2, "BINNING": "1, 1"},
        [("[41:1064,1:300]", "[2089:2168,1:300]"), ("[1065:2088,1:300]", "[2169:2248,1:300]")],
    ),
    "Keck, one amplifier, binned": (
        (10 + 1024 + 40, 300),
        {"PREPIX": 20, "POSTPIX": 80, "NUMAMPS": 1, "BINNING": "2,1"},
        [("[11:1034,1:300]", "[1035:1074,1:300]")],
    ),
    "Keck, an amplifier of an extension": (
        (51 + 1024 + 80, 300),
        {"PRECOL": 51, "POSTPIX": 80, "NUMAMPS": 4, "DATASEC": "[52:1075,1:300]", "DETSEC": "[1024:1,1:300]"},
        [("[52:1075,1:300]", "[1076:1155,1:300]")],
    ),
    "ESO, rows at both ends": (
        (2048, 1034),
        {
            "ESO DET OUT1 NX": 2048,
            "ESO DET OUT1 NY": 1034,
            "ESO DET OUT1 PRSCX": 0,
            "ESO DET OUT1 PRSCY": 5,
            "ESO DET OUT1 OVSCX": 0,
            "ESO DET OUT1 OVSCY": 5,
            "ESO DET OUT1 X": 1,
            "ESO DET OUT1 Y": 1,
        },
        [("[1:2048,6:1029]", "[1:2048,1030:1034]")],
    ),
    "ESO, columns, only a prescan": (
        (1040, 1000),
        {"ESO DET OUT1 PRSCX": 16, "ESO DET OUT1 NX": 1024, "ESO DET OUT1 NY": 1000},
        [("[17:1040,1:1000]", "[1:16,1:1000]")],
    ),
    "ESO, two outputs read towards each other (HARPS)": (
        (4296, 400),
        {
            f"ESO DET OUT{n} {what}": value
            for n, x in ((1, 1), (2, 4096))
            for what, value in (("X", x), ("Y", 1), ("NX", 2048), ("NY", 400), ("PRSCX", 50), ("OVSCX", 50))
        },
        [("[51:2098,1:400]", "[2099:2148,1:400]"), ("[2199:4246,1:400]", "[2149:2198,1:400]")],
    ),
    "ESO, four outputs with prescans at the sides (FORS1)": (
        (2080, 2048),
        {
            f"ESO DET OUT{n} {what}": value
            for n, x, y in ((1, 1, 1), (2, 2048, 1), (3, 2048, 2048), (4, 1, 2048))
            for what, value in (("X", x), ("Y", y), ("NX", 1024), ("NY", 1024), ("PRSCX", 16), ("OVSCX", 0))
        },
        [
            ("[17:1040,1:1024]", "[1:16,1:1024]"),
            ("[1041:2064,1:1024]", "[2065:2080,1:1024]"),
            ("[1041:2064,1025:2048]", "[2065:2080,1025:2048]"),
            ("[17:1040,1025:2048]", "[1:16,1025:2048]"),
        ],
    ),
    "numbers of columns": ((340, 200), {"PRESCAN": 8, "OVERSCAN": 32}, [("[9:308,1:200]", "[309:340,1:200]")]),
    "only a prescan": ((308, 200), {"PRESCAN": "8"}, [("[9:308,1:200]", "[1:8,1:200]")]),
    "numbers of rows": ((300, 212), {"OVERSCNY": 12, "OVERSCNX": 0}, [("[1:300,1:200]", "[1:300,201:212]")]),
}


@pytest.mark.parametrize("camera", sorted(CAMERAS))
def test_cards_of_cameras(camera: str) -> None:
    (width, height), cards, expected = CAMERAS[camera]
    found = readout_from_header(written_by_astropy(cards), width=width, height=height, path="x.fits")
    assert found is not None
    assert [(a.kept.text(), a.overscan.text() if a.overscan else None) for a in found.amplifiers] == expected
    assert not [card for card in without_sections(written_by_astropy(cards).cards) if "SEC" in card and "BIAS" in card]


def written_by_astropy(cards: dict[str, Any]) -> Header:
    """Make a header, with HIERARCH where a keyword is long."""
    return Header(
        [str(fits.Card(f"HIERARCH {name}" if len(name) > 8 else name, value)) for name, value in cards.items()]
    )


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"COVER": 400}, "COVER is 400, which is no number of its columns or rows"),
        ({"OVERSCAN": -3}, "OVERSCAN is -3, which is no number"),
        ({"PREPIX": 60, "POSTPIX": 50, "NUMAMPS": 2}, "POSTPIX is 50, which leaves no columns"),
        ({"POSTPIX": 25, "NUMAMPS": 3}, "POSTPIX is 25, which leaves no columns or rows for 3 amplifiers"),
        ({"ESO DET OUT1 NX": 300, "ESO DET OUT1 PRSCX": 10}, "ESO DET OUT1 NX is 300, which"),
        ({"ESO DET OUT1 NX": 100, "ESO DET OUT1 OVSCX": 10}, "ESO DET OUT1 NX is 100, which does not fit with PRSCX"),
        ({"BIASSECA": "[1:4,*]", "BIASSECB": "[217:220,*]"}, "BIASSECA is '\\[1:4,\\*\\]', which has no TRIMSECA"),
        ({"BIASSEC": "[200:230,1:50]"}, "BIASSEC is '\\[200:230,1:50\\]', which is outside"),
        (
            {"BIASSEC": "[90:110,1:50]", "DATASEC": "[1:100,1:50]"},
            r"DATASEC \[1:100,1:50\] and BIASSEC \[90:110,1:50\]",
        ),
    ],
)
def test_what_the_image_contradicts_is_named_with_card_value_and_size(cards: dict[str, Any], why: str) -> None:
    with pytest.raises(FrameError, match=rf"x\.fits: {why}.*image of 220 x 50.*master_frames\.overscan"):
        readout_from_header(written_by_astropy(cards), width=220, height=50, path="x.fits")


@pytest.mark.parametrize(
    "cards",
    [
        {"OVERSCAN": 765.25, "OVERRMS": 3.1, "BIASSEC": "[257:288,1:256]"},
        {"CALSTAT": "O", "BIASSEC": "[257:288,1:256]"},
        {"TRIMIM": "trim_image", "DATASEC": "[1:200,1:200]"},
        {"CALSTAT": "NOT CALIBRATED"},
        {"OVERSCAN": False, "PRESCAN": 0, "COVER": 0},
        {"PREPIX": 0, "POSTPIX": 0},
        {"ESO DET OUT1 PRSCX": 0, "ESO DET OUT1 NX": 512},
    ],
)
def test_headers_that_leave_the_image_whole(cards: dict[str, Any]) -> None:
    assert readout_from_header(written_by_astropy(cards), width=256, height=256, path="x.fits") is None


def test_an_overscan_that_was_subtracted_and_not_trimmed_is_only_trimmed() -> None:
    cards = {"BIASSEC": "[257:288,1:256]", "TRIMSEC": "[1:256,1:256]", "SUBOVER": True}
    assert readout(288, 256, **cards) == Readout(amplifiers=(Amplifier(kept=section(0, 256, 0, 256)),))


@pytest.mark.parametrize(
    ("ccdsec", "expected"),
    [("[1:100,1:50]", "[3:98,11:40]"), ("[200:1,1:100]", "[196:5,21:80]"), ("[1001:1100,51:100]", "[1003:1098,61:90]")],
)
def test_sections_of_the_chip_move_with_what_is_kept(ccdsec: str, expected: str) -> None:
    header = header_of(DATASEC="[11:110,1:50]", TRIMSEC="[13:108,11:40]", BIASSEC="[1:10,1:50]", CCDSEC=ccdsec)
    found = readout_from_header(header, width=110, height=50, path="x.fits")
    assert found is not None
    assert ("CCDSEC", expected, "of what is kept") in readout_cards(found, header)
