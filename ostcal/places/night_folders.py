"""Directories whose names hold the night, the date or the camera of the frames in them: ``darks/{night}``."""

from __future__ import annotations

import re

from ostcal.naming import FOLDER_WORD, FOLDER_WORDS
from ostcal.places.latest_folder import is_latest
from ostcal.places.paths import directories_in, is_dir, joined, normalized, parent_of


def folders_of(pattern: str) -> list[str]:
    """Return the directories that a pattern stands for, of all nights and cameras, sorted.

    Without words, or where none is there yet, the pattern itself.
    """
    if not FOLDER_WORD.search(pattern):
        return [pattern]
    first, *below = _steps(pattern)
    found = [first]
    for name in below:
        found = [place for parent in found for place in _matching(parent, name)]
    return found or [pattern]


def has_words(pattern: str) -> bool:
    """Return whether a directory is one of each night, date or camera."""
    return any(f"{{{word}}}" in pattern for word in FOLDER_WORDS)


def root_of(pattern: str) -> str:
    """Return the directory that all those for which a pattern stands are in; without words the pattern itself."""
    return _steps(pattern)[0] if has_words(pattern) else pattern


def has_folder(pattern: str) -> bool:
    """Return whether a directory for which a pattern stands is there."""
    return any(is_dir(folder) for folder in folders_of(pattern))


def _steps(pattern: str) -> list[str]:
    """Return the part before the first name with a word, then each name below it."""
    names = [pattern]
    while FOLDER_WORD.search(names[0]):
        parent = parent_of(names[0])
        names[:1] = [parent or ".", names[0].removeprefix(parent).lstrip("/\\")]
    return names


def _matching(parent: str, name: str) -> list[str]:
    """Return the directories below another one for which a name stands."""
    if not is_dir(parent):
        return []
    shapes = [
        FOLDER_WORDS.get(part, re.escape(part)) if at % 2 else re.escape(part)
        for at, part in enumerate(FOLDER_WORD.split(name))
    ]
    shape = re.compile("".join(shapes))
    found = sorted(path.name for path in directories_in(parent) if shape.fullmatch(path.name) and not is_latest(path))
    return [normalized(joined(parent, one)) for one in found]
