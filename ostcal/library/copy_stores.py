"""Series and master stores copied to an object store and back: checked, resumable, visible when they are whole.

Files go one by one in the order in which their writers make them visible: samples, then records, then the metadata of
the group. What is at the target already and has the same contents is kept, so that a killed copy continues where
it was. Samples are compared with the checksums of their records before they are sent and after they were fetched.
"""

from __future__ import annotations

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ostcal.errors import FrameError, InputError, StorageError
from ostcal.library.planes import DTYPES
from ostcal.library.store import MasterStore
from ostcal.places.durable import PARTIAL_ENDING, storage_errors, sweep_partials
from ostcal.places.objects import PART_BYTES, ObjectPath, ObjectState
from ostcal.places.paths import (
    Location,
    files_below,
    in_parallel,
    is_dir,
    is_remote,
    joined,
    make_directory,
    normalized,
    path_of,
    same_contents,
    sync_directory,
    walk,
)
from ostcal.series.format import FRAMES, LEDGER, METADATA_FILE, STORE_ENDING
from ostcal.series.reader import find_series, open_series, read_committed
from ostcal.series.record import EXCLUSION_NAME, RECORD_NAME, FrameRecord, read_ledger

DOWNLOADING: Final = f".download{PARTIAL_ENDING}"
"""Ending of a directory that is being fetched; it gets its name when all is there."""
_SMALL_BYTES = 1 << 20
"""Files up to here are sent several at a time; larger ones go in parts, several of these at a time."""
_ATTEMPTS = 2
"""Times that a file is sent or fetched whose contents were others on arrival."""


@dataclass(frozen=True, kw_only=True)
class CopyPlan:
    """A series or master store that is to be copied; one side is local, the other an object store."""

    kind: Literal["series", "masters"]
    source: str
    target: str
    steps: tuple[tuple[str, ...], ...]
    """Names of files, in the order in which they may become visible."""
    sizes: Mapping[str, int]
    """Bytes of each file."""
    records: Mapping[str, FrameRecord] = field(default_factory=dict)
    """By the name of the shard."""
    problems: tuple[str, ...] = ()
    """Frames that are damaged at the source."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes[name] for step in self.steps for name in step)


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """What became of one copy."""

    source: str
    target: str
    copied: int
    """Files."""
    kept: int
    """Files that were there already with the same contents."""
    n_bytes: int
    """Of the files that were copied."""
    problems: tuple[str, ...]
    """One line for each frame that is damaged at the source and was left out."""


def plan_copies(source: Location, target: Location) -> list[CopyPlan]:
    """Find the series and master stores at or below a place, and say where each goes.

    Of source and target one is local, the other in an object store. A store itself goes to `target` where that ends
    with ``.zarr``, else below it under its own name; what lies below a directory keeps its place in it.

    Raises
    ------
    InputError
        If both are of one kind, or there is nothing to copy.
    StorageError
        If something cannot be read.
    """
    if is_remote(source) == is_remote(target):
        raise InputError(f"{source} and {target}: one must be a local path, the other s3://bucket/prefix or its like")
    start, end = normalized(source), normalized(target)
    candidates = [start] if start.endswith(STORE_ENDING) else []
    if not candidates:
        for parent, below, _ in walk(start):
            candidates += [joined(parent, name) for name in below if name.endswith(STORE_ENDING)]
            below[:] = [name for name in below if not name.startswith(".") and not name.endswith(STORE_ENDING)]
    stores = [location for location in candidates if MasterStore(location).is_store()]
    series = [location for location in find_series([start]) if location not in stores]
    if not is_dir(start) or not (series or stores):
        raise InputError(f"{start}: there is nothing to copy: no series and no master store (*{STORE_ENDING})")
    plans = [_series_plan(location, _target_of(location, start, end)) for location in series]
    return plans + [_masters_plan(location, _target_of(location, start, end)) for location in stores]


def copy_store(plan: CopyPlan, on_file: Callable[[str, int], None] = lambda name, n_bytes: None) -> CopyReport:
    """Copy one series or master store; a second run continues an interrupted one.

    ``on_file(name, n_bytes)`` is called for each file that is at the target.

    Raises
    ------
    StorageError
        If a file cannot be read or written, or arrives with other contents. What is complete stays, and the target
        is not visible where it was not before. Also if another series of that name is there.
    """
    if plan.kind == "series":
        ledger = path_of(plan.target) / LEDGER
        there = {record.index: record for record in (read_ledger(ledger)[0] if ledger.is_dir() else ())}
        ours = {record.index: record for record in plan.records.values()}
        # of the same series at least one frame is the same
        if there and ours and not any(there.get(index) == record for index, record in ours.items()):
            first = next(iter(there.values()))
            raise StorageError(
                f"{plan.target}: another series is there (its frame {first.index} began {first.metadata.date_obs});"
                " nothing was copied, choose another place"
            )
    return (_Upload if is_remote(plan.target) else _Download)(plan, on_file).run()


# ---- planning ----


def _target_of(location: str, start: str, end: str) -> str:
    if location == start:
        return end if end.endswith(STORE_ENDING) else joined(end, os.path.basename(location))
    return joined(end, *location[len(start) :].replace(os.sep, "/").strip("/").split("/"))


def _series_plan(location: str, target: str) -> CopyPlan:
    series = open_series(location)
    sizes = files_below(location)
    records = {f"{FRAMES}/c/{record.index}/0/0": record for record in series.records}
    if any(name not in sizes for name in records):
        raise StorageError(
            f"{location}: its chunks are not laid out as this program does it; such series stay on disks"
        )
    committed = {f"{record.index:06d}" for record in series.records}
    ledger = [name for name in sizes if name.startswith(f"{LEDGER}/") and name[len(LEDGER) + 1 :][:6] in committed]
    exclusions = [name for name in ledger if EXCLUSION_NAME.fullmatch(name[len(LEDGER) + 1 :])]
    written = [name for name in ledger if RECORD_NAME.fullmatch(name[len(LEDGER) + 1 :])]
    steps = ((f"{FRAMES}/{METADATA_FILE}",), tuple(records), tuple(exclusions), tuple(written), (METADATA_FILE,))
    return CopyPlan(
        kind="series",
        source=location,
        target=target,
        steps=steps,
        sizes=sizes,
        records=records,
        problems=series.problems,
    )


def _masters_plan(location: str, target: str) -> CopyPlan:
    sizes = files_below(location)
    complete = set(MasterStore(location).names())
    ends, planes = [], []
    for name in sizes:
        match name.split("/"):
            case [master, file] if master in complete and file == METADATA_FILE:
                ends.append(name)
            case [master, plane, file] if master in complete and plane in DTYPES and not file.endswith(PARTIAL_ENDING):
                planes.append(name)
    steps = ((METADATA_FILE,), tuple(planes), tuple(ends))
    return CopyPlan(kind="masters", source=location, target=target, steps=steps, sizes=sizes)


# ---- copying ----


class _Copy(ABC):
    """A copy that is being made, file by file."""

    def __init__(self, plan: CopyPlan, on_file: Callable[[str, int], None]) -> None:
        self.plan = plan
        self.problems = list(plan.problems)
        self._on_file = on_file
        self._copied: list[str] = []
        self._kept: list[str] = []
        self._left_out: set[str] = set()
        """Names of files of frames that are damaged at the source."""

    def run(self) -> CopyReport:
        """Copy all steps, one after the other."""
        for step in self.plan.steps:
            names = [name for name in step if name not in self._left_out]
            small = {name for name in names if self.plan.sizes[name] <= _SMALL_BYTES and name not in self.plan.records}
            remote = self.plan.target if is_remote(self.plan.target) else self.plan.source
            in_parallel(remote, self._take, sorted(small))
            for name in names:
                if name not in small:
                    self._take(name)
        return CopyReport(
            source=self.plan.source,
            target=self.plan.target,
            copied=len(self._copied),
            kept=len(self._kept),
            n_bytes=sum(self.plan.sizes[name] for name in self._copied),
            problems=tuple(self.problems),
        )

    def leave_out(self, name: str, problem: str) -> None:
        """Leave out a frame whose samples are damaged at the source."""
        index = self.plan.records[name].index
        self._left_out |= {name, f"{LEDGER}/{index:06d}.json", f"{LEDGER}/{index:06d}.excluded.json"}
        self.problems.append(problem)

    def _take(self, name: str) -> None:
        if self.is_there(name):
            self._kept.append(name)
        elif self.copy(name):
            self._copied.append(name)
        else:
            return
        self._on_file(joined(self.plan.target, name), self.plan.sizes[name])

    @abstractmethod
    def is_there(self, name: str) -> bool:
        """Return whether the target has the file with the same contents."""

    @abstractmethod
    def copy(self, name: str) -> bool:
        """Copy a file; false where it is left out."""


class _Upload(_Copy):
    """To an object store."""

    def __init__(self, plan: CopyPlan, on_file: Callable[[str, int], None]) -> None:
        super().__init__(plan, on_file)
        self._root = ObjectPath.of(plan.target)
        start = len(self._root.key) + 1
        self._there = {state.key[start:]: state for state in self._root.objects_below()}

    def is_there(self, name: str) -> bool:
        state = self._there.get(name)
        return state is not None and same_contents(self._local(name), self._root / name, state)

    def copy(self, name: str) -> bool:
        record = self.plan.records.get(name)
        if record is not None:
            try:
                read_committed(self.plan.source, record)
            except FrameError as error:
                self.leave_out(name, str(error))
                return False
            # the frame that was there is no longer that of its record
            (self._root / LEDGER / f"{record.index:06d}.json").unlink()
            self._there.pop(f"{LEDGER}/{record.index:06d}.json", None)
        target = self._root / name
        for _ in range(_ATTEMPTS):
            with storage_errors(f"{self._local(name)}: cannot be read"):
                target.write_file(self._local(name))
            if same_contents(self._local(name), target, target.state()):
                return True
        raise StorageError(f"{target}: it arrived with other bytes than were sent; run the same command again")

    def _local(self, name: str) -> Path:
        return Path(self.plan.source, *name.split("/"))


class _Download(_Copy):
    """To a local directory."""

    def __init__(self, plan: CopyPlan, on_file: Callable[[str, int], None]) -> None:
        super().__init__(plan, on_file)
        self._source = ObjectPath.of(plan.source)
        self._target = Path(plan.target)
        self._is_new = not self._target.exists()
        self._root = self._target.with_name(f"{self._target.name}{DOWNLOADING}") if self._is_new else self._target
        start = len(self._source.key) + 1
        self._states: dict[str, ObjectState] = {state.key[start:]: state for state in self._source.objects_below()}

    def run(self) -> CopyReport:
        with storage_errors(f"{self._target}: it cannot be written"):
            make_directory(self._root)
            sweep_partials(self._root)
            report = super().run()
            if self.plan.kind == "series":
                make_directory(self._root / LEDGER)
            if self._is_new:
                self._root.rename(self._target)
                sync_directory(self._target.parent)
        return report

    def is_there(self, name: str) -> bool:
        path, state = self._local(name), self._states.get(name)
        return state is not None and path.is_file() and same_contents(path, self._source / name, state)

    def copy(self, name: str) -> bool:
        record = self.plan.records.get(name)
        if record is not None:  # the frame that was there is no longer that of its record
            (self._root / LEDGER / f"{record.index:06d}.json").unlink(missing_ok=True)
        for _ in range(_ATTEMPTS):
            self._fetch(name)
            if record is None:
                if self.is_there(name):
                    return True
                problem = (
                    f"{self._source / name}: it arrived with other bytes than were sent; run the same command again"
                )
                continue
            try:
                read_committed(str(self._root), record)
                return True
            except FrameError as error:
                problem = str(error).replace(str(self._root), self.plan.source)
        self._local(name).unlink(missing_ok=True)
        if record is None:
            raise StorageError(problem)
        self.leave_out(name, problem)
        return False

    def _fetch(self, name: str) -> None:
        path, source = self._local(name), self._source / name
        size = source.state().size
        make_directory(path.parent)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL_ENDING}")
        with partial.open("wb") as file:
            for start in range(0, size, PART_BYTES):
                file.write(source.read_range(start, min(start + PART_BYTES, size)))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_directory(path.parent)  # before a file of the next step makes this one visible

    def _local(self, name: str) -> Path:
        parts = name.split("/")  # a server said it; none of them may lead out of the directory
        if any(part in ("", ".", "..") or os.sep in part or "\\" in part or ":" in part for part in parts):
            raise StorageError(f"{self.plan.source}: it holds {name!r}, which is no name of a file here")
        return self._root.joinpath(*parts)
