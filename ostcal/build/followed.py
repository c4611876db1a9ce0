"""What a run adds to the history of masters: those that it made, and those of a run that was killed before it did."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ostcal.build.plan import Unchanged
from ostcal.build.publish import Published
from ostcal.codec import from_values
from ostcal.errors import StorageError
from ostcal.library.attributes import record_from_attributes
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
    names = {entry.name for entry in new}
    return [*_forgotten(store_location(output_dir), output_dir, names, unchanged), *new]


def _forgotten(store: str, output_dir: str, made: set[str], unchanged: Iterable[Unchanged]) -> list[HistoryEntry]:
    """Return the entries of masters of earlier runs, from what is stored with them.

    Those that this run replaces are not unchanged; what is newer than the newest entry is of a run that was killed.
    """
    planes = [one.stored.plane for one in unchanged]
    kept = {plane.name for plane in planes if isinstance(plane, StorePlane) and plane.store == store}
    entries = history_of(output_dir)
    known = {entry.name for entry in entries} | made
    newest = max((entry.made_at for entry in entries), default=None)
    found = []
    for name in MasterStore(store).names():
        if name in known:
            continue
        with contextlib.suppress(ValueError, StorageError):  # damaged, or made before these numbers were stored
            entry = _entry_of(store, name)
            if name in kept or newest is None or entry.made_at > newest:
                found.append(entry)
    return found


def _entry_of(store: str, name: str) -> HistoryEntry:
    """Return the entry of a stored master; ValueError where it was not judged."""
    attributes = MasterStore(store).attributes(name)
    key = record_from_attributes(name, attributes).key
    values = {word: attributes.get(word) for word in ("made_at", "verdict")}
    metrics = (attributes.get("quality") or {}).get("metrics")
    return from_values(HistoryEntry, values | {"name": name, "subject": subject_of(key), "metrics": metrics})
