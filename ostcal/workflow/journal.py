"""The journal of a schedule: which visits have ended, so that none is made twice after a restart.

What was taken is read from the frames themselves; without its journal a schedule takes nothing twice either.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, datetime

from ostcal.codec import from_json, to_json
from ostcal.errors import StorageError
from ostcal.places.durable import read_bounded, storage_errors, write_atomically
from ostcal.places.paths import exists, path_of

logger = logging.getLogger(__name__)

_MAX_BYTES = 4 << 20
_MOST_VISITS = 2000


@dataclass(frozen=True, kw_only=True)
class VisitRecord:
    """A visit that has ended."""

    began_at: datetime
    """The time of the schedule, not that of the clock when the work began."""
    night: date
    ended_at: datetime
    taken: int
    """Frames taken."""
    made: int
    """Masters made."""
    is_complete: bool
    """Whether all that was due was taken, and the masters made."""
    lines: tuple[str, ...] = ()
    """What went wrong or was left out."""


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The visits that have ended, the oldest first."""

    visits: tuple[VisitRecord, ...] = ()


def read_journal(location: str) -> Journal:
    """Read a journal; one that is missing is empty, and one that is damaged too, with a warning."""
    if not exists(location):
        return Journal()
    try:
        with storage_errors(f"{location}: the journal of the schedule cannot be read"):
            return from_json(Journal, read_bounded(path_of(location), _MAX_BYTES))
    except (ValueError, StorageError) as error:
        logger.warning("%s: the journal of the schedule is damaged and begins anew: %s", location, error)
        return Journal()


def add_visit(location: str, journal: Journal, visit: VisitRecord) -> Journal:
    """Add a visit to a journal, durably.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    longer = Journal(visits=(*journal.visits, visit)[-_MOST_VISITS:])
    with storage_errors(f"{location}: the journal of the schedule cannot be written"):
        write_atomically(path_of(location), to_json(longer, indent=1), durable=True)
    return longer
