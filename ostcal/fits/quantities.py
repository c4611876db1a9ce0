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

from ostcal.fits.cards import Header, decoded

UNKNOWN_WORDS: Final = frozenset(
    [
        *("nan", "n/a", "na", "n.a.", "n.d.", "none", "null", "nil", "unknown", "undefined", "undef", "indef", "unset"),
        *("not set", "not available", "not applicable", "-", "--", "---", "?", "??", "*"),
    ]
)
"""Texts that say that a value is not known."""
COOLER_OFF_WORDS: Final = frozenset(["off", "uncooled", "not cooled", "disabled", "no cooler", "ambient"])
"""Texts that stand for a set point where there is none."""

SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunden"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "usecs", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
}
"""Units of time, in seconds."""

KELVIN_AT_ZERO_C: Final = 273.15
_WARMEST_SENSOR_C, _WARMEST_SENSOR_K = 100.0, 330.0
"""A temperature of a sensor that lies between is in kelvins, although its card does not say so."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[ed][+-]?\d+)?", re.IGNORECASE)
_FRACTION = re.compile(r"(\d+)\s*/\s*(\d+(?:[.,]\d+)?)\s*(?:s|sec|secs)?", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")
"""``00:05:00``."""
_ISO = re.compile(r"iso[\s_:-]*(\d+)", re.IGNORECASE)
_UNIT_WORDS = re.compile(
    r"[\[(]\s*([^\])]{1,20}?)\s*[\])]|\b(?:in|units?:?)\s+([^\s,;.)]+)|(?:^|[,;])\s*((?:deg\w*\s+)?[^\s,;()\[\]]+)\s*\.?$",
    re.IGNORECASE,
)
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
    remark: str = ""
    """What contradicts the value, and that it counts nevertheless."""


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
        if not header.has_any(self._keywords):
            return _NOT_SAID
        for keyword in self.keywords:
            value = header.value(keyword)
            if value is None:
                continue
            number = self._number(value, header, keyword)
            if isinstance(number, float):
                if self.is_temperature and _WARMEST_SENSOR_C < number <= _WARMEST_SENSOR_K:
                    number = round(number - KELVIN_AT_ZERO_C, 9)
                if self.low <= number <= self.high:
                    remark = f"{problem.split(',')[0]}: {keyword} counts" if problem else ""
                    return Reading(value=number, remark=remark)
            elif number is None and self.name and not problem:
                problem = f"{keyword} is {value!r}, no number: its {self.name} is not known; repair the header"
        return Reading(problem=problem)

    def _number(self, value: str | int | float, header: Header, keyword: str) -> float | _Unknown | None:
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
        unit = _unit_in(comment) if comment else ""
        return None if self.is_temperature and unit == "F" else self._in_unit(number, unit)

    def _number_in_text(self, text: str, keyword: str) -> float | _Unknown | None:
        text = decoded(text).replace("\u2212", "-")
        if not text or text.lower() in UNKNOWN_WORDS:
            return _Unknown.UNKNOWN
        if self.is_temperature and text.lower() in COOLER_OFF_WORDS:
            return _Unknown.UNKNOWN
        if len(text) > _LONGEST_TEXT:
            return None
        if self.units is SECONDS and (seconds := _seconds_in_parts(text)) is not None:
            return seconds
        if iso := _ISO.fullmatch(text):
            return float(iso[1])
        match = _NUMBER.match(text)
        if match is None:
            return None
        number = float(match[0].lower().replace(",", ".").replace("d", "e"))
        unit = text[match.end() :].strip().strip("[]()").rstrip(".").lower()
        if not math.isfinite(number) or (unit and not self._knows(unit)):
            return None
        return _without_rounding(number * self.worth[keyword]) if keyword in self.worth else self._in_unit(number, unit)

    def _knows(self, unit: str) -> bool:
        return unit in self.units or (self.is_temperature and _temperature_unit(unit) in ("C", "K"))

    def _in_unit(self, number: float, unit: str) -> float:
        if self.is_temperature and _temperature_unit(unit) == "K":
            return round(number - KELVIN_AT_ZERO_C, 9)
        worth = self.units.get(unit, 1.0)
        return number if worth == 1.0 else _without_rounding(number * worth)


def _seconds_in_parts(text: str) -> float | None:
    """Return the seconds of ``1/250 s`` and ``00:05:00``; ``None`` for other texts."""
    if fraction := _FRACTION.fullmatch(text):
        parts = float(fraction[2].replace(",", "."))
        return int(fraction[1]) / parts if parts else None
    if clock := _CLOCK.fullmatch(text):
        return 3600.0 * int(clock[1]) + 60.0 * int(clock[2]) + float(clock[3].replace(",", "."))
    return None


def _without_rounding(number: float) -> float:
    """Return 0.00002 for 20 millionths."""
    return float(f"{number:.12g}")


@functools.lru_cache(maxsize=256)
def _temperature_unit(text: str) -> str:
    """Return C, K or F for the spellings of the units, "" for other words."""
    word = re.sub(r"[^a-z]", "", text.lower().replace("\u00b0", "").replace("\u00ba", ""))
    if word in ("", "c", "degc", "deg", "degree", "degrees", "degreec", "degreesc", "celsius", "degcelsius"):
        return "C"
    if word in ("f", "degf", "degreesf", "fahrenheit", "degfahrenheit", "degreesfahrenheit"):
        return "F"
    return "K" if word in ("k", "kelvin", "kelvins", "degk") else ""


@functools.lru_cache(maxsize=256)
def _unit_in(comment: str) -> str:
    """Return the unit that a comment names first, "" where it names none.

    ``[ms] exposure``, ``Exposure time in us``, ``Exposure, ms``, ``milliseconds``.
    """
    for match in _UNIT_WORDS.finditer(decoded(comment)):
        word = (match[1] or match[2] or match[3]).lower()
        temperature = _temperature_unit(word)
        if word in SECONDS or temperature == "C":
            return word
        if temperature:
            return temperature
    return ""
