"""Files that another program writes into a folder: which of them are complete."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ostcal.clock import Clock
from ostcal.errors import FrameError
from ostcal.fits.read import FitsFrame, search_fits
from ostcal.places.paths import is_below

logger = logging.getLogger(__name__)

Identity = tuple[int, int, int]
"""Number, size and time of change of a file, which stay when it is renamed."""

MAX_INSPECTED = 500
"""Files whose headers are read in one look; the others are read in the next."""


@dataclass(frozen=True, kw_only=True)
class IncomingFile:
    """A file as it was at the last look."""

    path: str
    identity: Identity
    """What tells it from other files, and from itself before it changed."""
    since_s: float
    """Time of the clock since which it has not changed."""
    frame: FitsFrame | None = None
    """Its first image, once it is complete."""
    problem: str = ""
    """Why it is not complete, although it has not changed."""
    was_named: bool = False
    """Whether its problem was said."""


class IncomingFiles:
    """The files of frames below a folder, looked at again and again.

    A file is complete when it has not changed from one look to the next, its header is complete, and its data are as
    long as the header says. One that changes, grows slowly or vanishes is looked at again. Names that are no names of
    frames, as programs use them while they write, are passed over.
    """

    def __init__(
        self,
        directory: str,
        excluded: Collection[str],
        inspect: Callable[[str], FitsFrame],
        clock: Clock,
        give_up_s: float,
    ) -> None:
        self._directory = directory
        self._excluded = tuple(excluded)
        self._inspect = inspect
        self._clock = clock
        self._give_up_s = give_up_s
        self._files: dict[str, IncomingFile] = {}
        self._is_missing = False

    @property
    def complete(self) -> list[IncomingFile]:
        """The files that are complete, in the order of their names."""
        return [self._files[path] for path in sorted(self._files) if self._files[path].frame is not None]

    @property
    def waiting(self) -> int:
        """Number of files that change, or whose header has not been read yet."""
        return sum(file.frame is None and not file.problem for file in self._files.values())

    def look(self) -> None:
        """Look at the folder once: list it, and read the headers of files that have not changed since the last look."""
        if not self._is_there():
            return
        before, now, budget = self._files, self._clock.now_s(), MAX_INSPECTED
        self._files = {}
        is_excluded: dict[str, bool] = {}
        for path in search_fits([self._directory]).files:
            folder = os.path.dirname(path)
            if folder not in is_excluded:
                is_excluded[folder] = any(is_below(folder, excluded) for excluded in self._excluded)
            if is_excluded[folder]:
                continue
            found = _state_of(path, now)
            if found is None:  # it vanished while we looked
                continue
            known = before.get(path)
            if known is not None and known.identity == found.identity:
                found = known
                if found.frame is None and not found.problem and budget:
                    budget -= 1
                    found = self._inspected(found)
            self._files[path] = self._named(found, now)

    def name_incomplete(self) -> None:
        """Name every file that is left out now, if nobody will look again."""
        for file in self._files.values():
            if file.problem and not file.was_named:
                logger.warning("%s; it is left out", file.problem)

    def _is_there(self) -> bool:
        """Return whether the folder can be listed; say once when it cannot, and when it can again."""
        is_there = os.path.isdir(self._directory)
        if is_there and self._is_missing:
            logger.info("%s: is there again", self._directory)
        elif not is_there and not self._is_missing:
            logger.warning("%s: the folder is not there; waiting for it", self._directory)
        self._is_missing = not is_there
        return is_there

    def _inspected(self, file: IncomingFile) -> IncomingFile:
        try:
            return replace(file, frame=self._inspect(file.path), problem="")
        except FrameError as error:
            return replace(file, problem=str(error))

    def _named(self, file: IncomingFile, now: float) -> IncomingFile:
        """Name a file that is not complete and has not changed for long, once."""
        if not file.problem or file.was_named or now - file.since_s < self._give_up_s:
            return file
        again = self._inspected(file)
        if again.frame is not None:  # it could not be read for a moment
            return again
        logger.warning(
            "%s; it has not changed for %.0f s and is left out until it does", file.problem, now - file.since_s
        )
        return replace(file, was_named=True)


def _state_of(path: str, now: float) -> IncomingFile | None:
    """Return a file as it is now; ``None`` if it is none any more."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    return IncomingFile(path=path, identity=(state.st_ino, state.st_size, state.st_mtime_ns), since_s=now)
