"""Search for files of frames: which are read, and which are passed over, in a line for each kind."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ostcal.places.latest_folder import is_latest
from ostcal.places.paths import VisitedFolders, is_file, joined, walk
from ostcal.raw.reader import RAW_ENDINGS, can_read_raw

logger = logging.getLogger(__name__)

FITS_ENDINGS = tuple(base + packing for packing in ("", ".fz", ".gz") for base in (".fits", ".fit", ".fts"))
"""Endings of FITS files, in any case."""
FRAME_ENDINGS = (*FITS_ENDINGS, ".xisf")
"""Endings of files of frames that are always read, in any case; with the extra ``raw`` `RAW_ENDINGS` are too."""

_PUT_AWAY_FOLDER = re.compile(r"_?rejected|_?rejects?|_?bad|trash|#recycle|\$recycle\.bin|@eadir", re.IGNORECASE)
"""Folders of frames that somebody rejected or deleted, on network drives and under Windows too."""
_LIST_OF_DEFECTS = re.compile(r"defects_master_.*\.fits")
"""What the report writes about a master (`ostcal.library.master_names`): a table, no frame."""
_PUT_AWAY_FILE = re.compile(r"BAD_")
"""N.I.N.A. and others rename rejected frames."""
_UNREAD_ENDINGS = frozenset((
    ".dcr", ".raw", ".x3f",
    ".avi", ".mkv", ".mov", ".mp4", ".ser",
    ".bmp", ".gif", ".heic", ".j2k", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
    ".asdf", ".exr", ".h5", ".hdf", ".hdf5", ".imh", ".npy", ".npz", ".nrrd", ".psd", ".sbig", ".st4", ".st6", ".st7",
    ".st8", ".xisb", ".xish",
    ".7z", ".rar", ".tar", ".tgz", ".xz", ".z", ".zip", ".zst",
))  # fmt: skip
"""Endings of images, videos and archives of them that are not read."""
_NOT_READ = "files of kinds that are not read; convert frames among them to FITS or XISF"
_NEEDS_EXTRA = "raw files of cameras need an extra: pip install 'ostcal[raw]'"
_BZIP_ENDINGS = (".fits.bz2", ".fit.bz2", ".fts.bz2")


@dataclass(frozen=True, kw_only=True)
class FoundFiles:
    """The files of frames of a search."""

    files: tuple[str, ...]
    """Sorted, each once."""
    passed_over: tuple[str, ...]
    """A line for each folder that holds what somebody put away, and for files of kinds that are passed over."""


def find_fits(directories: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Find files of frames in directories and below them, as `search_fits` does."""
    return list(search_fits(directories).files)


def search_fits(directories: Iterable[str | os.PathLike[str]]) -> FoundFiles:
    """Find files of frames (`FRAME_ENDINGS`) in directories and below them; files may be among the directories.

    Hidden files and directories and zarr stores are passed over, and so are rejected frames, recycle bins, files packed
    with bzip2 and other kinds of images, which are named; a directory that is reached twice counts once. The other
    names of masters in ``latest`` are passed over too, unless that folder is all that is searched.
    """

    def log_unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # the caller judges a folder that does not exist yet
            logger.warning("%s: cannot be searched: %s", error.filename, error.strerror)

    found: list[str] = []
    put_away: list[str] = []
    bzipped: list[str] = []
    unread: dict[str, list[str]] = {}
    raw: dict[str, list[str]] = {}
    visited = VisitedFolders()
    roots = [os.fspath(directory) for directory in directories]
    for root in roots:
        if is_file(root):
            found += [root] if _is_frame_name(os.path.basename(root)) else []
            continue
        for parent, below, names in walk(root, onerror=log_unreadable, followlinks=True):
            if (roots != [parent] and is_latest(parent)) or not visited.is_new(parent):
                below.clear()
                continue
            put_away += [joined(parent, name) for name in below if _PUT_AWAY_FOLDER.fullmatch(name)]
            below[:] = [name for name in below if not _is_passed_over(name)]
            frame_names = [name for name in names if _is_frame_name(name) and not _LIST_OF_DEFECTS.fullmatch(name)]
            put_away += [joined(parent, name) for name in frame_names if _PUT_AWAY_FILE.match(name)]
            found += [joined(parent, name) for name in frame_names if not _PUT_AWAY_FILE.match(name)]
            bzipped += [joined(parent, name) for name in names if name.lower().endswith(_BZIP_ENDINGS)]
            for name in names:
                ending = os.path.splitext(name)[1].lower()
                if name.startswith("."):
                    continue
                if ending in _UNREAD_ENDINGS:
                    unread.setdefault(root, []).append(ending)
                elif ending in RAW_ENDINGS and not can_read_raw():
                    raw.setdefault(root, []).append(ending)
    lines = (
        *_passed_over(put_away, "passed over, the name says that it was rejected or thrown away; rename it to use it"),
        *_passed_over(bzipped, "passed over, files packed with bzip2 cannot be read; unpack them with bunzip2"),
        *(f"{folder}: {_counted(endings)}: {_NOT_READ}" for folder, endings in unread.items()),
        *(f"{folder}: {_counted(endings)}: {_NEEDS_EXTRA}" for folder, endings in raw.items()),
    )
    return FoundFiles(files=tuple(sorted(set(found))), passed_over=lines)


def _counted(endings: Sequence[str]) -> str:
    """Say how many files of each kind there are: ``12 .jpg, 3 .ser``."""
    return ", ".join(f"{count} {ending}" for ending, count in sorted(Counter(endings).items()))


def _is_passed_over(folder: str) -> bool:
    is_hidden = folder.startswith(".") or folder.lower().endswith(".zarr")
    return is_hidden or _PUT_AWAY_FOLDER.fullmatch(folder) is not None


def _passed_over(paths: Sequence[str], why: str) -> list[str]:
    """Return one line about all paths, none where there are none."""
    if not paths:
        return []
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return [f"{min(paths)}{more}: {why}"]


def _is_frame_name(name: str) -> bool:
    endings = (*FRAME_ENDINGS, *RAW_ENDINGS) if can_read_raw() else FRAME_ENDINGS
    return name.lower().endswith(endings) and not name.startswith(".")
