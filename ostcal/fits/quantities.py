"""Numbers in cards as people and programs write them: ``30``, ``'0,5'``, ``'30 s'``, ``500 / [ms]``, ``'ISO800'``.

A value is a number, or unknown (empty, ``N/A``, ``nan``, a number outside the bounds), or it is unreadable: then the
frame cannot be used, and the card and its value are named.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ostcal.fits.cards import CardValue, Header

UNKNOWN_WORDS: Final = frozenset(
    [
        *("nan", "n/a", "na", "n.a.", "n.d.", "none", "null", "nil", "unknown", "undefined", "undef", "indef", "unset"),
        *("not set", "not available", "not applicable", "-", "--", "---", "?", "??", "*"),
    ]
)
"""Texts that say that a value is not known."""

SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunden"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "usecs", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
}
"""Units of time, in seconds."""

KELVIN_AT_ZERO_C: Final = 273.15

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[ed][+-]?\d+)?", re.IGNORECASE)
_FRACTION = re.compile(r"(\d+)\s*/\s*(\d+)\s*s?", re.IGNORECASE)
_ISO = re.compile(r"iso[\s_:-]*(\d+)", re.IGNORECASE)
_UNIT_WORDS = re.compile(r"[\[(]\s*([^\s\])]+)\s*[\])]|\b(?:in|units?:?)\s+([^\s,;.)]+)", re.IGNORECASE)
_LONGEST_TEXT = 64


class _Unknown(Enum):
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the cards of a quantity say."""

    value: float | None = None
    """``None`` where it is not known."""
    problem: str = ""
    """Why it cannot be read although a card says something: the card, its value, and what is missing."""


_NOT_SAID = Reading()


@dataclass(frozen=True, kw_only=True)
class Number:
    """A quantity that is a number, and the keywords that may say it, the most reliable first."""

    keywords: tuple[str, ...]
    low: float = -math.inf
    high: float = math.inf
    name: str = ""
    """What is not known where its cards cannot be read; "" for quantities whose absence harms nothing."""
    units: Mapping[str, float] = field(default_factory=dict)
    """Units that may stand behind the number or in the comment, and what one of them is worth."""
    worth: Mapping[str, float] = field(default_factory=dict)
    """Keywords whose unit is another one."""
    is_temperature: bool = False
    _keywords: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keywords", frozenset(self.keywords))

    def of(self, header: Header) -> float | None:
        """Return the first number within the bounds; ``None`` where no keyword has one."""
        return self.read(header).value

    def read(self, header: Header) -> Reading:
        """Read the first number within the bounds, or say why there is none."""
        problem = ""
        if self._keywords.isdisjoint(header.keywords):
            return _NOT_SAID
        for keyword in self.keywords:
            value = header.value(keyword)
            if value is None:
                continue
            number = self._number(value, header, keyword)
            if isinstance(number, float):
                if self.low <= number <= self.high:
                    return Reading(value=number)
            elif number is None and self.name and not problem:
                problem = f"{keyword} is {value!r}, no number: its {self.name} is not known; repair the header"
        return Reading(problem=problem)

    def _number(self, value: CardValue, header: Header, keyword: str) -> float | _Unknown | None:
        """Return the number of a card in the unit of the quantity; ``None`` where it cannot be read."""
        if isinstance(value, bool):
            return None
        if isinstance(value, str):
            return self._number_in_text(value.strip(), keyword)
        number = float(value) if abs(value) <= 1e300 else math.inf if value > 0 else -math.inf
        if keyword in self.worth:
            return _without_rounding(number * self.worth[keyword])
        if not (self.units or self.is_temperature):
            return number
        comment = header.comment(keyword)
        return self._in_unit(number, _unit_in(comment) if comment else "")

    def _number_in_text(self, text: str, keyword: str) -> float | _Unknown | None:
        if not text or text.lower() in UNKNOWN_WORDS:
            return _Unknown.UNKNOWN
        if len(text) > _LONGEST_TEXT:
            return None
        if self.units is SECONDS and (fraction := _FRACTION.fullmatch(text)) and int(fraction[2]):
            return int(fraction[1]) / int(fraction[2])
        if iso := _ISO.fullmatch(text):
            return float(iso[1])
        match = _NUMBER.match(text)
        if match is None:
            return None
        number = float(match[0].lower().replace(",", ".").replace("d", "e"))
        unit = text[match.end() :].strip().strip("[]()").lower()
        if not math.isfinite(number) or (unit and not self._knows(unit)):
            return None
        return _without_rounding(number * self.worth[keyword]) if keyword in self.worth else self._in_unit(number, unit)

    def _knows(self, unit: str) -> bool:
        return unit in self.units or (self.is_temperature and _temperature_unit(unit) != "")

    def _in_unit(self, number: float, unit: str) -> float:
        if self.is_temperature and _temperature_unit(unit) == "K":
            return round(number - KELVIN_AT_ZERO_C, 9)
        worth = self.units.get(unit, 1.0)
        return number if worth == 1.0 else _without_rounding(number * worth)


def _without_rounding(number: float) -> float:
    """Return 0.00002 for 20 millionths."""
    return float(f"{number:.12g}")


@functools.lru_cache(maxsize=256)
def _temperature_unit(text: str) -> str:
    """Return C or K for the spellings of the two units, "" for other words."""
    word = re.sub(r"[^a-z]", "", text.lower().replace("\u00b0", "").replace("\u00ba", ""))
    if word in ("", "c", "degc", "deg", "degree", "degrees", "degreec", "degreesc", "celsius", "degcelsius"):
        return "C"
    return "K" if word in ("k", "kelvin", "kelvins", "degk") else ""


@functools.lru_cache(maxsize=256)
def _unit_in(comment: str) -> str:
    """Return the unit that a comment names: ``[ms] exposure``, ``Exposure time in us``; "" where it names none."""
    for match in _UNIT_WORDS.finditer(comment):
        word = (match[1] or match[2]).lower()
        if word in SECONDS or _temperature_unit(word) == "K":
            return word
    return ""
