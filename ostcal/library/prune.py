"""What of a library may be removed: old generations of masters, and raw series that are in verified masters.

A master may go if a newer one of the same settings and of the same time is there, verified, with no worse verdict, and
if no master that stays names it. It is then matched by nothing: wherever it fits, the newer one fits as well. A series
may go if all of its frames are in verified masters, and all other frames of these masters go too: what is left of a
group would otherwise become another, smaller master. Files that are not of this program are never removed.

Order of removal, so that a kill leaves nothing half: the entry in the history; of a master its files, then its place
in the store (its attributes first); of a series its FITS copies, then the series, under a hidden name first.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ostcal.errors import InputError, OstcalError, StorageError
from ostcal.fits.cards import Header
from ostcal.fits.read import fingerprint, inspect_fits, inspect_images
from ostcal.inputs.copy_frames import export_name
from ostcal.library.find import LibraryMaster, StorePlane, find_masters, store_location
from ostcal.library.history import HistoryEntry, add_to_history
from ostcal.library.in_time import SESSION_S
from ostcal.library.master_names import defect_list_names, run_time_of, untimed
from ostcal.library.store import MasterStore
from ostcal.library.verification import check_master
from ostcal.measure.findings import Outcome
from ostcal.places.durable import storage_errors
from ostcal.places.locking import LOCK_FILE, LockRules, locked, series_locked
from ostcal.places.paths import (
    absolute,
    directories_in,
    files_below,
    is_dir,
    is_file,
    is_remote,
    joined,
    move_tree,
    parent_of,
    path_of,
    remove_tree,
    size_of,
    sync_directory,
)
from ostcal.series.reader import Series, find_series, open_series

HIDDEN_PREFIX = ".pruned-"
_VERDICTS = {"pass": 0, None: 1, "warn": 1, "fail": 2}

Kind = Literal["master", "series"]


@dataclass(frozen=True, kw_only=True)
class PruneRules:
    """What is old."""

    keep: int | None = None
    """Newest generations of a master, and newest series of the same settings, that stay; ``None`` says nothing."""
    older_days: float | None = None
    """Age from which on something may go; ``None`` says nothing."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Something that is old by the rules."""

    kind: Kind
    place: str
    name: str
    files: tuple[str, ...]
    """Its other copies: FITS and XISF files of a master with the lists of its defects, FITS copies of a series."""
    n_bytes: int
    """Of all copies."""
    frames: tuple[str, ...] = ()
    """Of a series: what tells its frames from others; it is removed only with these."""
    kept_because: str = ""
    """Why it stays; "" if it may go."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """What is old, in the order of removal, and what an earlier run did not finish."""

    masters_dir: str
    items: tuple[Removal, ...]
    leftovers: tuple[str, ...]
    """Hidden directories of series that a killed run had begun to remove."""

    @property
    def to_remove(self) -> tuple[Removal, ...]:
        """What may go."""
        return tuple(item for item in self.items if not item.kept_because)


def plan_prune(masters_dir: str, series_dirs: Sequence[str], rules: PruneRules, now: datetime) -> PrunePlan:
    """Find what is old, and say of each what removes it or why it stays. Masters on which a removal relies are read.

    Raises
    ------
    InputError
        If a place is in an object store, or there is no directory of masters.
    """
    _check_places(masters_dir, series_dirs)
    library = [master for master in find_masters(masters_dir) if isinstance(master.plane, StorePlane)]
    store = MasterStore(store_location(masters_dir))
    documents = {master.record.name: store.attributes(master.record.name) for master in library}
    verified = _Verified(masters_dir, library)
    masters = _old_masters(masters_dir, library, documents, verified, rules, now)
    going = {item.name for item in masters if not item.kept_because}
    staying = {name: document for name, document in documents.items() if name not in going}
    found = [location for location in find_series(series_dirs) if is_dir(location)]
    series = _old_series(found, staying, verified, rules, now)
    leftovers = [
        str(path)
        for parent in dict.fromkeys(parent_of(location) for location in (*found, *(f"{d}/x" for d in series_dirs)))
        if is_dir(parent)
        for path in directories_in(parent)
        if path.name.startswith(HIDDEN_PREFIX)
    ]
    return PrunePlan(masters_dir=masters_dir, items=(*series, *masters), leftovers=tuple(leftovers))


def _check_places(masters_dir: str, series_dirs: Sequence[str]) -> None:
    for place in (masters_dir, *series_dirs):
        if is_remote(place):
            raise InputError(f"{place}: ostcal prune removes nothing from an object store; use its own tools")
    if not is_dir(masters_dir):
        raise InputError(f"{masters_dir}: there is no such directory of masters; set master_frames.output_dir")


class _Verified:
    """Which masters are whole: the store and their files, compared with checksums; each is read once."""

    def __init__(self, masters_dir: str, library: Sequence[LibraryMaster]) -> None:
        self._masters_dir = masters_dir
        self._files = {master.record.name: master.record.files for master in library}
        self._findings: dict[str, str] = {}

    def problem(self, name: str) -> str:
        """Return what is wrong with a master; "" if it is whole."""
        if name not in self._findings:
            found = check_master(self._masters_dir, name, self._files[name])
            self._findings[name] = found[0] if found else ""
        return self._findings[name]


# ---- masters ----


def _old_masters(
    masters_dir: str,
    library: Sequence[LibraryMaster],
    documents: dict[str, dict[str, Any]],
    verified: _Verified,
    rules: PruneRules,
    now: datetime,
) -> list[Removal]:
    """Return old masters, and why each of them stays."""
    generations: defaultdict[Any, list[LibraryMaster]] = defaultdict(list)
    for master in library:  # newest first, so that what an older one relies on is decided before
        generations[_settings_of(master)].append(master)
    old: dict[str, tuple[LibraryMaster, str]] = {}
    files: dict[str, list[str]] = {}
    for same in generations.values():
        for place, master in enumerate(same):
            newer = [other for other in same[:place] if _stands_for(other, master)]
            if not place or not _is_old(len(newer), _age_days(master.record.made_at, now), rules):
                continue
            staying = [other for other in newer if old.get(other.record.name, (other, "stays"))[1]]
            name = master.record.name
            files[name], foreign = _own_files(masters_dir, master)
            old[name] = master, _why_kept(master, staying, verified) or foreign
    mentions = {name: _Mentions.of(name, document) for name, document in documents.items()}
    while named := _named_by_others(old, mentions):
        for name, user in named.items():
            old[name] = old[name][0], f"{user} names it"
    return [_removal_of(masters_dir, master, files[name], kept, now) for name, (master, kept) in old.items()]


def _named_by_others(old: dict[str, tuple[LibraryMaster, str]], mentions: dict[str, _Mentions]) -> dict[str, str]:
    """Return the masters that are to go and that one names which stays, with that one."""
    going = {name: master for name, (master, kept) in old.items() if not kept}
    named = {}
    for name, master in going.items():
        user = next((other for other, its in mentions.items() if other not in going and its.name(master)), None)
        if user is not None:
            named[name] = user
    return named


def _settings_of(master: LibraryMaster) -> Any:
    """Return what the generations of a master have in common; temperatures to the nearest degree."""
    key = master.key
    temperature_c = None if key.temperature_c is None else float(round(key.temperature_c))
    return replace(key, temperature_c=temperature_c, exposure_time_s=float(f"{key.exposure_time_s:.4g}"))


def _stands_for(newer: LibraryMaster, master: LibraryMaster) -> bool:
    """Return whether a master is of the same session and of all of its time: lights take it where they took the other.

    Where the time is not recorded, no other stands for a master.
    """
    mine, other = master.record.observed, newer.record.observed
    if mine is None or other is None:
        return False
    covers = other.first <= mine.first and mine.last <= other.last
    return covers and abs((other.middle - mine.middle).total_seconds()) <= SESSION_S


def _is_old(n_newer: int, age_days: float | None, rules: PruneRules) -> bool:
    if rules.keep is not None and n_newer < rules.keep:
        return False
    return rules.older_days is None or (age_days is not None and age_days > rules.older_days)


def _age_days(time: datetime | None, now: datetime) -> float | None:
    return None if time is None else (now - time).total_seconds() / 86400


def _why_kept(master: LibraryMaster, newer: Sequence[LibraryMaster], verified: _Verified) -> str:
    """Return why a master is still matched; "" if a newer one stands for it."""
    if not newer:
        return "it is the only master of its settings at its time"
    own = _VERDICTS[master.record.verdict]
    better = [other for other in newer if _VERDICTS[other.record.verdict] <= own]
    if not better:
        return "the newer ones have a worse verdict"
    problems = [verified.problem(other.record.name) for other in better]
    return "" if "" in problems else f"the newer one is damaged: {problems[0]}"


@dataclass(frozen=True, kw_only=True)
class _Mentions:
    """What the attributes of a master say of other masters."""

    text: str
    run_time: str
    """Of the run that made it."""
    darks: frozenset[str]
    """Names in its HISTORY of subtracted darks, without the time; masters of older versions list no others."""

    @classmethod
    def of(cls, name: str, document: dict[str, Any]) -> _Mentions:
        history = document.get("history")
        lines = [line for line in history or () if isinstance(line, str) and line.startswith("dark: ")]
        return cls(
            text=json.dumps([document.get(key) for key in ("cards", "history", "inputs", "darks")], default=str),
            run_time=run_time_of(name),
            darks=frozenset(word for line in lines for word in line.split()),
        )

    def name(self, master: LibraryMaster) -> bool:
        """Return whether a master is named: by its name, by its identity, or as a dark of the same run."""
        record = master.record
        if record.name in self.text or (record.calibration_id and record.calibration_id in self.text):
            return True
        return untimed(record.name) in self.darks and run_time_of(record.name) == self.run_time


def _own_files(masters_dir: str, master: LibraryMaster) -> tuple[list[str], str]:
    """Return the files of a master; the second is why it stays if one of them is not what was written."""
    files: list[str] = []
    for name in master.record.files:
        path = joined(masters_dir, name)
        if not is_file(path):
            continue
        try:
            ids = {Header(image.cards).text("CALID") for image in inspect_images(path)}
        except OstcalError as error:
            return files, f"its file cannot be read: {error}"
        if master.record.calibration_id not in ids:
            return files, f"{name} is another master now"
        if len(ids) > 1:
            return files, f"{name} holds the masters of several images"
        files.append(path)
    return files, ""


def _removal_of(masters_dir: str, master: LibraryMaster, files: Sequence[str], kept: str, now: datetime) -> Removal:
    place = joined(store_location(masters_dir), master.record.name)
    age = _age_days(master.record.made_at, now)
    lists = [joined(masters_dir, name) for name in defect_list_names(master.record.name)]
    files = (*files, *(path for path in lists if is_file(path)))
    return Removal(
        kind="master",
        place=place,
        name=master.record.name,
        files=files,
        n_bytes=sum(files_below(place).values()) + sum(map(size_of, files)),
        kept_because=kept,
        why=f"made {age:.0f} days ago, and again since" if age is not None else "made again since",
    )


# ---- series ----


def _old_series(
    locations: Sequence[str],
    documents: dict[str, dict[str, Any]],
    verified: _Verified,
    rules: PruneRules,
    now: datetime,
) -> list[Removal]:
    """Return old series, and why each may go or stays."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = {}
    for name, document in documents.items():
        labels = document.get("inputs")
        inputs[name] = {_absolute_label(label) for label in labels or () if isinstance(label, str)}
        for label in inputs[name]:
            users[label].add(name)
    opened = []
    for location in locations:
        with contextlib.suppress(OstcalError):  # it is damaged: verify names it, and nothing of it is removed
            opened.append(open_series(location))
    old = [(series, *_why_series(series, users, documents, verified)) for series in _old_of(opened, rules, now)]
    going = {absolute(series.location): series for series, kept, _ in old if not kept}
    while partial := [place for place, series in going.items() if _is_part(series, users, inputs, going)]:
        for place in partial:
            del going[place]
    items = []
    for series, kept, why in old:
        if not kept and absolute(series.location) not in going:
            kept = "its masters have frames of other places too, which stay"
        files = _copies_of(series)
        n_bytes = sum(files_below(series.location).values()) + sum(map(size_of, files))
        items.append(
            Removal(
                kind="series",
                place=series.location,
                name=series.location,
                files=tuple(files),
                n_bytes=n_bytes,
                frames=_frames_of(series),
                kept_because=kept,
                why=why,
            )
        )
    return items


def _old_of(opened: Sequence[Series], rules: PruneRules, now: datetime) -> Iterator[Series]:
    """Yield series that are old by the rules; without a time they are old by none."""
    kinds: defaultdict[str, list[tuple[datetime, Series]]] = defaultdict(list)
    for series in opened:
        times = [record.metadata.date_obs for record in series.records if record.metadata.date_obs is not None]
        if times:
            first = series.records[0].metadata
            settings = json.dumps([str(series.frame_type), first.exposure_time_s, dict(series.settings)], default=str)
            kinds[settings].append((max(times), series))
    for same in kinds.values():
        same.sort(key=lambda pair: pair[0], reverse=True)
        for n_newer, (time, series) in enumerate(same):
            if _is_old(n_newer, _age_days(time, now), rules):
                yield series


def _why_series(
    series: Series, users: dict[str, set[str]], documents: dict[str, dict[str, Any]], verified: _Verified
) -> tuple[str, str]:
    """Return why a series stays, and which masters stand for it."""
    if series.problems:
        return f"it is damaged: {series.problems[0]}", ""
    names: dict[str, None] = {}
    for label in _labels_of(series):
        good = [
            name
            for name in sorted(users.get(label, ()), reverse=True)
            if documents[name].get("verdict") != "fail" and not verified.problem(name)
        ]
        if not good:
            return f"frame {label.rpartition('#')[2]} is in no verified master that passed", ""
        names[good[0]] = None
    return "", f"its frames are in {', '.join(names)}"


def _labels_of(series: Series) -> list[str]:
    """Return the frames that must be in masters: all but those that the observer excluded."""
    place = absolute(series.location)
    return [f"{place}#{record.index}" for record in series.records if record.index not in series.excluded]


def _frames_of(series: Series) -> tuple[str, ...]:
    """Return what tells the frames of a series from others, with those that the observer excluded."""
    frames = [f"{record.index} {record.pixels.fingerprint}" for record in series.records]
    return (*frames, *(f"{index} excluded" for index in sorted(series.excluded)))


def _is_part(series: Series, users: dict[str, set[str]], inputs: dict[str, set[str]], going: Iterable[str]) -> bool:
    """Return whether a master of a series has frames that stay."""
    names = {name for label in _labels_of(series) for name in users.get(label, ())}
    return any(label.rpartition("#")[0] not in going for name in names for label in inputs[name])


def _absolute_label(label: str) -> str:
    place, mark, index = label.rpartition("#")
    return f"{absolute(place)}#{index}" if mark and index.isdecimal() else absolute(label)


def _copies_of(series: Series) -> list[str]:
    """Return the FITS copies of a series that capture wrote beside it: of their name, with the same samples."""
    directory = series.location.removesuffix(".zarr")
    copies = []
    for record in series.records:
        path = joined(directory, export_name(record, series.frame_type))
        if not is_file(path):
            continue
        with contextlib.suppress(OstcalError):
            if record.pixels.fingerprint and fingerprint(inspect_fits(path)) == record.pixels.fingerprint:
                copies.append(path)
    return copies


# ---- removing ----


def prune(
    masters_dir: str,
    series_dirs: Sequence[str],
    rules: PruneRules,
    now: datetime,
    on_planned: Callable[[PrunePlan], None],
    on_done: Callable[[Removal, str], None],
    lock_rules: LockRules | None = None,
) -> None:
    """Remove what may go, while no other run writes masters: what may go is decided under the same lock.

    `on_planned` is called before anything is removed; `on_done` for each item with why it stays, "" if it went.

    Raises
    ------
    InputError
        As `plan_prune`.
    StorageError
        If another run is writing masters.
    """
    _check_places(masters_dir, series_dirs)
    with locked(path_of(masters_dir) / LOCK_FILE, lock_rules, what=masters_dir):
        plan = plan_prune(masters_dir, series_dirs, rules, now)
        on_planned(plan)
        for left in plan.leftovers:
            with contextlib.suppress(OSError):
                remove_tree(path_of(left))
        for item in plan.to_remove:
            try:
                _remove(masters_dir, item, now)
            except OstcalError as error:
                on_done(item, str(error))
            else:
                on_done(item, "")


def _remove(masters_dir: str, item: Removal, now: datetime) -> None:
    if item.kind == "master":
        add_to_history(masters_dir, [_entry(item, now)])
        _remove_files(item)
        MasterStore(store_location(masters_dir)).discard(item.name)
        return
    with series_locked(path_of(item.place)):
        if _frames_of(open_series(item.place)) != item.frames:
            raise StorageError(f"{item.place}: its frames changed while it was looked at; nothing of it is removed")
        add_to_history(masters_dir, [_entry(item, now)])
        _remove_series(item)


def _entry(item: Removal, now: datetime) -> HistoryEntry:
    return HistoryEntry(
        made_at=now,
        name=item.name,
        subject=f"removed {item.kind}",
        verdict=Outcome.PASS,
        metrics={"removed_bytes": (float(item.n_bytes), "bytes")},
    )


def _remove_files(item: Removal) -> None:
    for file in item.files:
        with storage_errors(f"{file}: cannot be removed"):
            path_of(file).unlink(missing_ok=True)


def _remove_series(item: Removal) -> None:
    series = path_of(item.place)
    _remove_files(item)
    hidden = series.with_name(f"{HIDDEN_PREFIX}{uuid.uuid4().hex}")
    with storage_errors(f"{item.place}: cannot be removed"):
        move_tree(series, hidden)
        sync_directory(series.parent)
        remove_tree(hidden)
