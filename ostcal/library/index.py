"""The index beside a library: what its masters are, without reading 2,000 headers again."""

from __future__ import annotations

import os

from ostcal._version import __version__
from ostcal.fits.dialects import READING
from ostcal.library.find import FileMasters, LibraryMaster, find_masters, newest_first
from ostcal.places.file_index import FileIndex
from ostcal.places.night_folders import folders_of, has_words
from ostcal.places.paths import is_dir, joined

MASTERS_INDEX = ".ostcal_masters.index"
LIGHTS_INDEX = ".ostcal_lights.index"
"""Both in the directory of the masters; either may be deleted at any time."""


def known_masters(output_dir: str | os.PathLike[str]) -> list[LibraryMaster]:
    """Find all masters in a directory, newest first, as `find_masters` does; only what changed is read."""
    directory = os.fspath(output_dir)
    if has_words(directory):
        folders = (folder for folder in folders_of(directory) if is_dir(folder))
        return newest_first(master for folder in folders for master in known_masters(folder))
    index = FileIndex(joined(directory, MASTERS_INDEX), FileMasters, f"{__version__} {READING}")
    found = find_masters(directory, index)
    index.save()
    return found
