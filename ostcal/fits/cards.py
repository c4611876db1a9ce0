"""The 80-character cards of FITS headers: reading what programs write, writing what the standard says.

Reading is done here rather than with astropy because importing ``astropy.io.fits`` takes 0.4 s, a third of what
40 frames of 61 MP need to be combined, and because nothing in a card may raise or warn.
"""

from __future__ import annotations

import functools
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

CARD_LENGTH = 80
BLOCK_LENGTH = 2880
COMMENTARY = frozenset({"HISTORY", "COMMENT", ""})

Card = tuple[str, object, str]
"""Keyword, value and comment. A value of ``None`` or NaN leaves the card out."""
CardValue = str | int | float | bool | None

_STRING_LENGTH = 68
"""Characters of a quoted string that one card can hold."""
_COMMENTARY_LENGTH = 72
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_EXACT_IN_FLOATS = 2**53
_QUOTED = re.compile(r"'((?:[^']|'')*)")
"""A string in which '' stands for one quote; one without its closing quote ends with the card."""
_STRUCTURAL = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|EXTEND|BLOCKED|INHERIT|EXTNAME|EXTVER|EXTLEVEL"
    r"|CHECKSUM|DATASUM|END|CONTINUE"
)
_SPELLED_OUT = str.maketrans(
    {
        "\u00b5": "u",  # micro
        "\u00b0": " deg",
        "\u03b1": "alpha",
        "\u03b2": "beta",
        "\u00b1": "+/-",
        "\u00d7": "x",  # multiplication sign
        "\u03c3": "sigma",
        "\u00df": "ss",
        "\u00f8": "o",
        "\u00d8": "O",
        "\u00e6": "ae",
        "\u00c6": "AE",
        "\u0142": "l",
        "\u0141": "L",
        "\u2013": "-",  # dashes
        "\u2014": "-",
        "\u2018": "'",  # quotation marks
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
    }
)


class Header:
    """The cards of one header, by keyword; a value is parsed when it is asked for, and none can raise.

    Parameters
    ----------
    cards : sequence of str
        Cards of 80 characters without END. The first of several cards of one keyword counts.
    """

    def __init__(self, cards: Sequence[str]) -> None:
        self.cards = tuple(cards)
        self._values: dict[str, CardValue] = {}
        self._positions: dict[str, int] = {}
        for position, card in enumerate(self.cards):
            self._positions.setdefault(card_keyword(card), position)

    @property
    def keywords(self) -> Iterable[str]:
        """All keywords, each once, in capitals."""
        return self._positions.keys()

    def __contains__(self, keyword: str) -> bool:
        """Return whether a card of that keyword is there."""
        return keyword in self._positions

    def has_any(self, keywords: frozenset[str]) -> bool:
        """Return whether a card of one of these keywords is there."""
        return not self._positions.keys().isdisjoint(keywords)

    def present(self, keywords: Sequence[str]) -> list[str]:
        """Return those of the keywords that the header has."""
        return [keyword for keyword in keywords if keyword in self._positions]

    def value(self, keyword: str) -> CardValue:
        """Return the value of a keyword, ``None`` where it is missing or empty."""
        if keyword not in self._positions:
            return None
        if keyword not in self._values:
            self._values[keyword] = self._parsed(self._positions[keyword])
        return self._values[keyword]

    def _parsed(self, position: int) -> CardValue:
        card = self.cards[position]
        if card[8:9] == "=":
            value = _parse_value(card[9:])
        else:  # HIERARCH NAME = value
            value = _parse_value(card.partition("=")[2] if card.startswith("HIERARCH") else "")
        while isinstance(value, str) and value.endswith("&"):  # a long string goes on in CONTINUE cards
            position += 1
            if position == len(self.cards) or card_keyword(self.cards[position]) != "CONTINUE":
                break
            part = _parse_value(self.cards[position][8:])
            value = value[:-1] + (part if isinstance(part, str) else "")
        return value

    def comment(self, keyword: str) -> str:
        """Return the text behind the slash of a keyword's card, "" where there is none."""
        position = self._positions.get(keyword)
        if position is None:
            return ""
        field = self.cards[position].partition("=")[2].strip()
        rest = field[quoted.end() :] if (quoted := _QUOTED.match(field)) else field
        return rest.partition("/")[2].strip()

    def text(self, *keywords: str) -> str | None:
        """Return the first non-empty value of these keywords as text, without blanks at its ends."""
        for keyword in keywords:
            if keyword not in self._positions:
                continue
            value = self.value(keyword)
            if value is not None and (text := decoded(str(value)).strip()):
                return text
        return None

    def number(self, *keywords: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Return the first finite number from `low` to `high` among these keywords; text that is a number counts."""
        for keyword in self.present(keywords):
            number = _as_number(self.value(keyword))
            if number is not None and low <= number <= high:
                return number
        return None

    def commentary(self, keyword: str) -> list[str]:
        """Return the texts of all HISTORY or COMMENT cards."""
        if keyword not in self._positions:
            return []
        return [card[8:].strip() for card in self.cards if card_keyword(card) == keyword]


@functools.lru_cache(maxsize=4)
def header_of(cards: tuple[str, ...]) -> Header:
    """Return the header of a frame, which is asked for its cards by several one after the other."""
    return Header(cards)


def decoded(text: str) -> str:
    """Read text beyond ASCII as UTF-8, which programs write although FITS has ASCII only; else as Latin-1."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def card_keyword(card: str) -> str:
    """Return the keyword of a card in capitals, also of the ESO form ``HIERARCH NAME = value``."""
    keyword = card[:8].rstrip().upper()
    if keyword == "HIERARCH" and "=" in card:
        return card[8:].split("=", 1)[0].strip().upper()
    return keyword


@functools.lru_cache(maxsize=2048)
def _parse_value(field: str) -> CardValue:
    """Read a value with its comment; what is neither string, logical nor number is given as text.

    The frames of a night have most cards in common, so that each is parsed once.
    """
    if "\0" in field:
        field = field.replace("\0", " ")
    field = field.strip()
    if field[:1] == "'" and (quoted := _QUOTED.match(field)):
        return quoted[1].replace("''", "'").rstrip()
    token = field.partition("/")[0].rstrip()
    if token in ("T", "F"):
        return token == "T"
    if not token:
        return None
    if token.isdecimal() or _INTEGER.fullmatch(token):
        return int(token)
    number = _as_number(token)
    return token if number is None else number


def _as_number(value: CardValue) -> float | None:
    """Return a finite number or ``None``; ``1.5D3`` of Fortran programs is a number, a logical is none."""
    if type(value) is int and abs(value) < _EXACT_IN_FLOATS:
        return float(value)
    if value is None or isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None  # Python's float() would take 1_000 for a number
    try:
        number = float(value.upper().replace("D", "E") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_structural(keyword: str) -> bool:
    """Return whether a keyword says how the file is built, not what the frame is; such cards are always rewritten."""
    return _STRUCTURAL.fullmatch(keyword) is not None


def image_cards(cards: Sequence[str], *, without: Iterable[str] = ()) -> list[str]:
    """Return the cards that say what a frame is, without those of the structure and the keywords in `without`."""
    left_out = frozenset(without)
    kept: list[str] = []
    keeping = True
    for card in cards:
        keyword = card_keyword(card)
        if keyword != "CONTINUE":  # a continuation goes with its card
            keeping = not is_structural(keyword) and keyword not in left_out
        if keeping:
            kept.append(card)
    return kept


def structural_cards(bitpix: int, height: int, width: int, *, extension: bool = False) -> list[str]:
    """Make the cards that begin a two-dimensional image: a primary HDU, or an IMAGE extension."""
    first: Card = ("XTENSION", "IMAGE", "Image extension") if extension else ("SIMPLE", True, "FITS standard")
    cards: list[Card] = [
        first,
        ("BITPIX", bitpix, "bits per sample; negative: floating point"),
        ("NAXIS", 2, "number of axes"),
        ("NAXIS1", width, "columns"),
        ("NAXIS2", height, "rows"),
    ]
    if extension:
        cards += [("PCOUNT", 0, "no parameters"), ("GCOUNT", 1, "one group")]
    return [image for card in cards for image in format_card(*card)]


def is_keyword(name: str) -> bool:
    """Return whether a card may have this keyword and a value."""
    return _KEYWORD.fullmatch(name) is not None


def format_card(keyword: str, value: object, comment: str = "") -> list[str]:
    """Write a card, or several where a long string or HISTORY text needs them, or none where there is no value.

    Parameters
    ----------
    keyword : str
        One to eight of the characters A-Z, 0-9, ``-`` and ``_``; HISTORY and COMMENT take text of any length.
    value : str, bool, int, float, datetime, numpy scalar or None
        ``None``, NaN and infinities have no representation in FITS: no card is made. Datetimes are written in UTC.
    comment : str
        Cut where the card is full.

    Raises
    ------
    ValueError
        If the keyword is none, or the value is of another type: both are errors of the calling program.
    """
    if keyword in COMMENTARY:
        lines = textwrap.wrap(ascii_text(str(value)), _COMMENTARY_LENGTH, break_on_hyphens=False) or [""]
        return [f"{keyword:8}{line}".ljust(CARD_LENGTH) for line in lines]
    if not is_keyword(keyword):
        raise ValueError(f"{keyword!r} is no FITS keyword: one to eight of A-Z, 0-9, - and _ are needed")
    if isinstance(value, datetime):
        utc = value.astimezone(UTC).replace(tzinfo=None)
        value = utc.isoformat(timespec="microseconds").rstrip("0").rstrip(".") if utc.microsecond else utc.isoformat()
    if isinstance(value, str):
        return _string_cards(keyword, ascii_text(value), ascii_text(comment))
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return []
    if isinstance(value, (bool, np.bool_)):
        text = "T" if value else "F"
    elif isinstance(value, (int, np.integer)):
        text = str(int(value))
    elif isinstance(value, (float, np.floating)):
        text = str(value).upper()  # of a numpy float32 the seven digits that it has, not the seventeen of its float64
    else:
        raise ValueError(f"{keyword}: a FITS card cannot hold {value!r} of type {type(value).__name__}")
    return [_card(f"{keyword:8}= {text:>20}", ascii_text(comment))]


def _card(text: str, comment: str) -> str:
    if comment and len(text) + 3 < CARD_LENGTH:
        text = f"{text} / {comment}"
    return text[:CARD_LENGTH].ljust(CARD_LENGTH)


def _string_cards(keyword: str, text: str, comment: str) -> list[str]:
    """Write a string, in pieces with CONTINUE where it is longer than one card holds."""
    quoted = text.replace("'", "''")
    if len(quoted) <= _STRING_LENGTH:
        return [_card(f"{keyword:8}= " + f"'{quoted:8}'".ljust(20), comment)]
    pieces: list[str] = []
    while len(quoted) > _STRING_LENGTH:
        end = _STRING_LENGTH - 1
        quotes = len(quoted[:end]) - len(quoted[:end].rstrip("'"))
        end -= quotes % 2  # a doubled quote stays in one piece
        pieces.append(quoted[:end] + "&")
        quoted = quoted[end:]
    pieces.append(quoted)
    starts = [f"{keyword:8}= "] + ["CONTINUE  "] * (len(pieces) - 1)
    cards = [_card(f"{start}'{piece:8}'", "") for start, piece in zip(starts, pieces, strict=True)]
    cards[-1] = _card(cards[-1].rstrip(), comment)
    return cards


def ascii_text(text: str) -> str:
    r"""Write text in the printable ASCII that FITS allows: letters without accents, else ``\uXXXX``; no controls."""
    spelled = unicodedata.normalize("NFKD", text.translate(_SPELLED_OUT))
    plain = "".join(character for character in spelled if not unicodedata.combining(character))
    escaped = plain.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(character if character.isprintable() else " " for character in escaped)


def header_bytes(cards: Iterable[str]) -> bytes:
    """Join cards with END and blanks to whole blocks of 2880 bytes."""
    text = "".join(cards) + "END".ljust(CARD_LENGTH)
    return text.ljust(padded_length(len(text))).encode("latin-1")


def padded_length(length: int) -> int:
    """Return a length in bytes rounded up to whole blocks of 2880 bytes."""
    return -(-length // BLOCK_LENGTH) * BLOCK_LENGTH
