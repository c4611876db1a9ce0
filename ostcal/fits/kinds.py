"""What a frame shows: by its header; by names where that says nothing, or only "light" of what names call a flat."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass

from ostcal.fits import dialects
from ostcal.fits.cards import Header
from ostcal.fits.quantities import UNKNOWN_WORDS
from ostcal.frames import FrameType
from ostcal.raw.reader import RAW_ENDINGS

_ENDING = re.compile(
    r"\.(?:fits?|fts|xisf)(?:\.(?:gz|fz))?$|\.(?:" + "|".join(ending[1:] for ending in RAW_ENDINGS) + ")$",
    re.IGNORECASE,
)
_NAMED_FOLDERS, _FOLDERS_ABOVE = 2, 4
_SAYS_NOTHING = re.compile(r"[\W\d_]*(?:rawframes)?[\W\d_]*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_SHORT_WORD = 3
"""Letters of a word in a file name that may be a code (``L2``, ``hg``, ``tel``); longer unknown words name a target."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The kind of a frame, and what contradicts it."""

    frame_type: FrameType | None
    remarks: tuple[str, ...] = ()


def kind_of(header: Header, path: str, exposure_time_s: float | None) -> Kind:
    """Return what a frame shows; where header and names contradict each other, the remarks say what was taken."""
    said, keyword = _kind_in_header(header)
    remarks: tuple[str, ...] = ()
    if said is None:
        said = type_from_names(path)
        remarks = _not_understood(header, said)
    elif said is FrameType.LIGHT and type_from_names(path) is FrameType.FLAT:
        text = header.text(keyword) or ""
        if names_only_flats(path) and not _names_target(header):
            said = FrameType.FLAT
            remarks = (f"{keyword} is {text!r}, but its name says flat: taken as a flat",)
        else:
            remarks = (f"{keyword} is {text!r}, although a name says flat: taken as a light frame",)
    remarks += _contradictions(header, said, keyword)
    if said is FrameType.DARK and exposure_time_s == 0.0:
        said = FrameType.BIAS
    return Kind(frame_type=said, remarks=remarks)


def _kind_in_header(header: Header) -> tuple[FrameType | None, str]:
    """Return the kind in a header and the card that says it; OBJECT where the others say no more than "object"."""
    found: tuple[FrameType, str] | None = None
    for keyword in header.present(dialects.FRAME_TYPE):
        text = header.text(keyword) or ""
        kind = _kind_in_value(keyword, text)
        if kind is None:
            continue
        if kind is not FrameType.LIGHT or not dialects.ANY_OBJECT.search(text):
            return kind, keyword
        found = found or (kind, keyword)
    for keyword in header.present(dialects.OBJECT):
        kind = _kind_in_object(header.text(keyword) or "")
        if kind is not None:
            return kind, keyword
    return found if found is not None else (None, "")


def _not_understood(header: Header, taken: FrameType | None) -> tuple[str, ...]:
    """Return a remark where a card says a kind in a word that is not known, and names decided."""
    for keyword in header.present(dialects.FRAME_TYPE) if taken is not None else ():
        text = header.text(keyword) or ""
        if re.search("[a-z]", text, re.IGNORECASE) and text.lower() not in UNKNOWN_WORDS:
            return (f"{keyword} is {text!r}, which is not understood: taken as {taken}, as its name says",)
    return ()


def _contradictions(header: Header, taken: FrameType | None, by: str) -> tuple[str, ...]:
    """Return a remark where another card says outright that the frame is of another kind."""
    for keyword in header.present(dialects.FRAME_TYPE):
        if keyword == by:
            continue
        text = header.text(keyword) or ""
        kind = _kind_in_value(keyword, text)
        if by and kind not in (None, FrameType.LIGHT, taken):
            return (f"{by} is {header.text(by)!r}, but {keyword} {text!r}: taken as {taken}",)
    return ()


@functools.lru_cache(maxsize=256)
def _kind_in_value(keyword: str, text: str) -> FrameType | None:
    if keyword == "PICTTYPE" and (number := re.fullmatch(r"(\d)(?:\.0*)?", text)):
        return dialects.PICTURE_TYPES.get(int(number[1]))
    return next((kind for words, kind in dialects.VALUE_WORDS if words.search(text)), None)


@functools.lru_cache(maxsize=256)
def _kind_in_object(text: str) -> FrameType | None:
    """Return the kind that OBJECT names, where it names nothing else: ``Dome flat V``, ``dark 300s``, ``Twilight``."""
    name = text.lower()
    if dialects.CATALOGUE_NAME.search(name):
        return None
    kinds = _kinds_in(name)
    words = set(re.findall(r"[a-z]+", name)) - dialects.WORDS_ABOUT_FLATS - dialects.FILTER_NAMES.keys()
    if words - {"bias", "biases", "zero", "zeros", "zeroes", "dark", "darks", "offset", "v", "b", "l", "y"}:
        return None
    if len(kinds) == 1:
        return kinds.pop()
    return FrameType.FLAT if re.search(r"twilight|twiflat", name) and not kinds else None


def _names_target(header: Header) -> bool:
    """Return whether OBJECT names something that is no flat."""
    text = header.text(*dialects.OBJECT)
    return text is not None and _kind_in_object(text) is not FrameType.FLAT and text.lower() not in ("none", "unknown")


# ---- names ----


def type_from_names(path: str) -> FrameType | None:
    """Guess the kind from the file name, else from the nearest, else from the second nearest directory."""
    found = _deciding_name(path)
    return None if found is None else found[1]


def names_only_flats(path: str) -> bool:
    """Return whether the name that says flat names nothing else, neither a target nor a rock of that shape."""
    found = _deciding_name(path)
    if found is None or found[1] is not FrameType.FLAT:
        return False
    depth = found[0]
    names = nearest_names(path)
    if any(dialects.CATALOGUE_NAME.search(name) for name in names[: depth + 1]):
        return False
    words = set(re.findall(r"[a-z]+", names[depth])) - dialects.WORDS_ABOUT_FLATS - dialects.FILTER_NAMES.keys()
    return all(len(word) <= (_SHORT_WORD if depth == 0 else 1) for word in words)


def _deciding_name(path: str) -> tuple[int, FrameType] | None:
    """Return which of `nearest_names` says a kind, and the kind."""
    for depth, name in enumerate(nearest_names(path)):
        kinds = _kinds_in(name)
        is_both = kinds == {FrameType.DARK, FrameType.FLAT}  # a dark of flats; a folder 'darks and flats' says nothing
        if is_both and (depth == 0 or dialects.DARK_FLAT_NAME.search(name)):
            return depth, FrameType.DARK
        if len(kinds) == 1:
            return depth, kinds.pop()
    return None


def _kinds_in(name: str) -> set[FrameType]:
    return set(_kinds_in_words(without_numbers(name)))


@functools.lru_cache(maxsize=256)
def _kinds_in_words(name: str) -> frozenset[FrameType]:
    return frozenset(frame_type for pattern, frame_type in dialects.NAME_WORDS if pattern.search(name))


@functools.lru_cache(maxsize=256)
def is_name_of_master(name: str) -> bool:
    """Return whether a name (`without_numbers`) is one that programs give to combined frames."""
    return dialects.MASTER_NAME.search(name) is not None


def without_numbers(name: str) -> str:
    """Return a name with 0 for each number: what words say is then looked up once for all frames of a series."""
    return _NUMBER.sub("0", name)


@functools.lru_cache(maxsize=16)
def nearest_names(path: str) -> tuple[str, ...]:
    """Return the file name without its ending, and the names of the two nearest directories, in lower case."""
    return tuple(name.lower() for name in nearest_names_as_written(path))


@functools.lru_cache(maxsize=16)
def nearest_names_as_written(path: str) -> tuple[str, ...]:
    """Return the file name without its ending, and the names of the two nearest directories that say something.

    Of the four above it; dates, times and ``rawframes`` say nothing.
    """
    above, file_name = os.path.split(path)
    return (_ENDING.sub("", file_name), *_nearest_folders(above))


@functools.lru_cache(maxsize=256)
def _nearest_folders(above: str) -> tuple[str, ...]:
    names: list[str] = []
    for _ in range(_FOLDERS_ABOVE):
        above, folder = os.path.split(above)
        if folder and not _SAYS_NOTHING.fullmatch(folder):
            names.append(folder)
    return tuple(names[:_NAMED_FOLDERS])
