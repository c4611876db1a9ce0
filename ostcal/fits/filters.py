"""The filter of a frame: from the cards of all wheels, else from names."""

from __future__ import annotations

import re

from ostcal.fits import dialects
from ostcal.fits.cards import Header
from ostcal.fits.kinds import nearest_names_as_written
from ostcal.frames import FrameType


def filter_of(header: Header, path: str, frame_type: FrameType | None) -> str | None:
    """Return the filters in the light path, joined by ``+``; of flats and lights without a card, that of a name."""
    words: list[str] = []
    first = _spelled(header.text(*dialects.FILTER))
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
    return filter_from_names(path) if frame_type in (FrameType.FLAT, FrameType.LIGHT) else None


def filter_from_names(path: str) -> str | None:
    """Return the filter that stands as a word of its own in the file name, else in the nearest folders."""
    for name in nearest_names_as_written(path):
        words = re.findall(r"[^\W_]+(?:-alpha|-beta)?", name)
        found = {dialects.FILTER_NAMES[key] for word in words if (key := _key_of_name(word)) in dialects.FILTER_NAMES}
        if len(found) == 1:
            return found.pop()
    return None


def _spelled(text: str | None) -> str | None:
    """Spell Greek letters, which headers and names of files cannot hold: ``Halpha``."""
    return None if text is None else text.replace("\u03b1", "alpha").replace("\u03b2", "beta")


def _key_of_name(word: str) -> str:
    """Return the word as `FILTER_NAMES` has it: letters as written, names in lower case."""
    return word if len(word) == 1 else word.lower()
