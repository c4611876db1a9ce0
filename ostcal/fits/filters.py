"""The filter of a frame: from the cards of all wheels, else from names."""

from __future__ import annotations

import re

from ostcal.fits import dialects
from ostcal.fits.cards import Header
from ostcal.fits.kinds import nearest_names_as_written
from ostcal.fits.quantities import UNKNOWN_WORDS
from ostcal.frames import FrameType

_WORD = re.compile(r"(?:(?<![^\W_])[OSN]-II+|(?<![^\W_])[HL]-[a-z]+|[^\W_]+)(?![^\W_])", re.IGNORECASE)
_BEHIND_FLAT = re.compile(r"(?:sky|dome|twi|auto|[dst])?flats?([a-z]+)\d*", re.IGNORECASE)


def filter_of(header: Header, path: str, frame_type: FrameType | None) -> str | None:
    """Return the filters in the light path, joined by ``+``; of flats and lights without a card, that of a name."""
    if not header.has_any(dialects.FILTER_KEYWORDS):
        return _of_names(path, frame_type)
    words: list[str] = []
    first = _first_filter(header)
    wheels = [_spelled(header.text(keyword)) for keyword in header.present(dialects.OTHER_WHEELS)]
    for text in (first, *wheels):
        if text is None or dialects.NO_FILTER.fullmatch(text):
            continue
        if words and text.isdecimal():  # the place in the wheel of the filter that is named
            continue
        if text.casefold() not in (word.casefold() for word in words):
            words.append(text)
    if words:
        return "+".join(words)
    named = [text for text in (first, *wheels) if text is not None]
    if named:
        return named[0]
    return _of_names(path, frame_type)


def _of_names(path: str, frame_type: FrameType | None) -> str | None:
    return filter_from_names(path) if frame_type in (FrameType.FLAT, FrameType.LIGHT) else None


def filter_from_names(path: str) -> str | None:
    """Return the filter that stands as a word of its own in the file name, else in the nearest folders."""
    for name in nearest_names_as_written(path):
        found = list(dict.fromkeys(filter(None, map(_filter_in_word, _WORD.findall(name)))))
        if found:
            return "+".join(found)
    return None


def _filter_in_word(word: str) -> str | None:
    """Return the filter that a word names, also behind "flat": ``flatV001``, ``skyflat_R``."""
    key = _key_of_name(word)
    if key not in dialects.FILTER_NAMES and (behind := _BEHIND_FLAT.fullmatch(word)):
        key = _key_of_name(behind[1])
    return dialects.FILTER_NAMES.get(key)


def _first_filter(header: Header) -> str | None:
    """Return the first name among the cards of the first wheel; a place in the wheel where none has a name."""
    texts = [text for keyword in header.present(dialects.FILTER) if (text := _spelled(header.text(keyword)))]
    return next((text for text in texts if not text.isdecimal()), texts[0] if texts else None)


def _spelled(text: str | None) -> str | None:
    """Spell Greek letters, which headers and names of files cannot hold: ``Halpha``; ``None`` for "unknown"."""
    if text is None or (text.lower() in UNKNOWN_WORDS and text.lower() != "none"):
        return None
    return text.replace("\u03b1", "alpha").replace("\u03b2", "beta")


def _key_of_name(word: str) -> str:
    """Return the word as `FILTER_NAMES` has it: letters as written, names in lower case."""
    return word if len(word) == 1 else word.lower()
