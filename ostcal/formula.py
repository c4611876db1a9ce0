"""Formulas of header cards, such as ``10 * OFFSET``: parsed and computed here, never evaluated as code.

Numbers, names of cards, the four operations, signs and parentheses. As Siril writes them, a formula may begin with
``=`` and a card with ``$``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_CHARACTERS = 200
_NAME_CHARACTERS = 8
"""Of the name of a card, by the standard."""
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|\$?(?P<card>[A-Za-z][A-Za-z0-9_]*(?:-[A-Za-z][A-Za-z0-9_]*)?)"
    r"|(?P<sign>[-+*/()]))",
    re.ASCII,
)
"""One token. A hyphen between letters belongs to the name of the card, as in ``CCD-TEMP``, where it is not too long."""
_ALLOWED = "write numbers, names of cards, + - * / and parentheses, such as 10 * OFFSET"

Cards = Mapping[str, float]


class FormulaError(ValueError):
    """A formula that cannot be read, or that has no value; the message says where and what to write."""


@dataclass(frozen=True)
class Formula:
    """A formula that was read; picklable."""

    text: str
    cards: tuple[str, ...]
    """Names of the cards in it, in upper case, each once."""

    def value(self, cards: Cards) -> float:
        """Return its value; `cards` has the numbers of its cards.

        Raises
        ------
        FormulaError
            If a card is missing, it divides by zero, or the value is not finite.
        """
        missing = [name for name in self.cards if name not in cards]
        if missing:
            raise FormulaError(
                f"{self.text}: there is no number in card {missing[0]}; name a card that the frames have"
            )
        value = _Parser(self.text).parsed(cards.__getitem__)
        if not math.isfinite(value):
            raise FormulaError(f"{self.text}: its value is not finite; write another formula")
        return value


def read_formula(text: str) -> Formula:
    """Read a formula; raise `FormulaError` where it is none."""
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"a formula of {len(text)} characters; at most {MAX_CHARACTERS} are possible")
    cards: dict[str, None] = {}

    def noted(name: str) -> float:
        cards[name] = None
        return math.nan  # divides and is divided without an error

    _Parser(text).parsed(noted)
    return Formula(text=text.strip(), cards=tuple(cards))


class _Parser:
    """Reads a formula from left to right: sums of products of signed values."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0

    def parsed(self, card: Callable[[str], float]) -> float:
        """Return the value, with that of each card as `card` gives it."""
        self._place = 0
        try:
            value = self._sum(card)
        except ZeroDivisionError as error:
            raise FormulaError(f"{self._text.strip()}: divides by zero; write another formula") from error
        if self._place < len(self._tokens):
            raise self._unexpected()
        return value

    def _sum(self, card: Callable[[str], float]) -> float:
        value = self._product(card)
        while self._is_next("+", "-"):
            sign = self._take()
            other = self._product(card)
            value = value + other if sign == "+" else value - other
        return value

    def _product(self, card: Callable[[str], float]) -> float:
        value = self._signed(card)
        while self._is_next("*", "/"):
            sign = self._take()
            other = self._signed(card)
            value = value * other if sign == "*" else value / other
        return value

    def _signed(self, card: Callable[[str], float]) -> float:
        sign = 1.0
        while self._is_next("+", "-"):
            sign = -sign if self._take() == "-" else sign
        return sign * self._single(card)

    def _single(self, card: Callable[[str], float]) -> float:
        if self._place == len(self._tokens):
            raise self._unexpected()
        kind, text = self._tokens[self._place]
        if kind == "number":
            self._place += 1
            return float(text)
        if kind == "card":
            self._place += 1
            return card(text.upper())
        if text != "(":
            raise self._unexpected()
        self._place += 1
        value = self._sum(card)
        if not self._is_next(")"):
            raise self._unexpected()
        self._place += 1
        return value

    def _is_next(self, *signs: str) -> bool:
        return self._place < len(self._tokens) and self._tokens[self._place] in [("sign", sign) for sign in signs]

    def _take(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1][1]

    def _unexpected(self) -> FormulaError:
        what = repr(self._tokens[self._place][1]) if self._place < len(self._tokens) else "its end"
        return FormulaError(f"{self._text.strip()}: {what} is not expected there; {_ALLOWED}")


def _tokens(text: str) -> list[tuple[str, str]]:
    """Split a formula into numbers, cards and signs."""
    rest = text.strip().removeprefix("=").rstrip()
    tokens: list[tuple[str, str]] = []
    while rest:
        match = _TOKEN.match(rest)
        if match is None or match.lastgroup is None:
            raise FormulaError(f"{text.strip()!r}: {rest.lstrip()[:1]!r} is not possible in a formula; {_ALLOWED}")
        token, end = match[match.lastgroup], match.end()
        if match.lastgroup == "card" and len(token) > _NAME_CHARACTERS:
            short, hyphen, _ = token.partition("-")
            if not hyphen or len(short) > _NAME_CHARACTERS:
                raise FormulaError(
                    f"{text.strip()}: {token} is no card: a name has {_NAME_CHARACTERS} characters at most"
                )
            token, end = short, end - len(token) + len(short)
        tokens.append((match.lastgroup, token))
        rest = rest[end:]
    if not tokens:
        raise FormulaError(f"an empty formula; {_ALLOWED}")
    return tokens
