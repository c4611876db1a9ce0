"""What a run adds to the history of masters: those that it made, and those of a run that was killed before it did."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ostcal.build.plan import Unchanged
from ostcal.build.publish import Published
from ostcal.codec import from_values
from ostcal.library.find import StorePlane, store_location
from ostcal.library.history import HistoryEntry, history_of, subject_of
from ostcal.library.store import MasterStore


def entries_of(output_dir: str, made: Iterable[Published], unchanged: Iterable[Unchanged]) -> list[HistoryEntry]:
    """Return the entries of the masters of a run that the history of a directory lacks.

    Raises
    ------
    StorageError
        If the history or a master cannot be read.
    """
    new = [
        HistoryEntry(
            made_at=one.outputs[0].made_at,
            name=one.name,
            subject=subject_of(one.group.key),
            verdict=one.verdict,
            metrics=one.metrics,
        )
        for one in made
        if one.verdict is not None
    ]
    return [*_forgotten(store_location(output_dir), output_dir, unchanged), *new]


def _forgotten(store: str, output_dir: str, unchanged: Iterable[Unchanged]) -> list[HistoryEntry]:
    """Return the entries of masters of earlier runs, from what is stored with them."""
    judged = [one.stored for one in unchanged if one.stored.record.verdict is not None]
    here = [master for master in judged if isinstance(master.plane, StorePlane) and master.plane.store == store]
    known = {entry.name for entry in history_of(output_dir)} if here else set()
    found = []
    for master in here:
        name = master.record.name
        if name in known:
            continue
        attributes = MasterStore(store).attributes(name)
        values = {key: attributes.get(key) for key in ("made_at", "verdict")}
        values |= {"name": name, "subject": subject_of(master.key), "metrics": attributes["quality"].get("metrics")}
        with contextlib.suppress(ValueError):  # made before these numbers were stored
            found.append(from_values(HistoryEntry, values))
    return found
