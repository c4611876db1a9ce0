"""Names that stay: ``latest/`` beside the masters, with the newest master of each setting and the newest report.

The index comes first, as one durable file; then links, each replaced at once; then links to what is gone are removed.
So a name means the master before or the one after, whatever kills the process, and the next run mends the rest. What
is written depends on the masters that are there, and on nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ostcal.codec import from_json, to_json, to_values
from ostcal.errors import OstcalError, StorageError
from ostcal.fits.hdus import read_units
from ostcal.frames import FrameType
from ostcal.inputs.group_names import complete_name
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.find import STORE_NAME, FilePlane, LibraryMaster, StorePlane
from ostcal.library.in_time import Merit, TimeRules, nearest_first
from ostcal.library.index import known_masters
from ostcal.library.master_names import DEFECT_FOLDER, name_of_file
from ostcal.places.durable import PARTIAL_ENDING, read_bounded, storage_errors, sweep_partial_files, write_atomically
from ostcal.places.latest_folder import INDEX_FORMAT, LATEST, LATEST_INDEX, is_latest
from ostcal.places.locking import LOCK_FILE, LockRules, locked
from ostcal.places.night_folders import folders_of, root_of
from ostcal.places.paths import (
    AnyPath,
    exists,
    is_dir,
    is_file,
    is_remote,
    joined,
    make_directory,
    names_in,
    normalized,
    open_binary,
    parent_of,
    path_of,
    sync_directory,
)

logger = logging.getLogger(__name__)

VERSION = 1
_MAX_BYTES = 1 << 26
_WAIT_S = 30.0
_REPORT = re.compile(r"report_\d{8}_\d{6}(_\d+)?\.html")
_VERDICTS = (None, "pass", "warn", "fail")


@dataclass(frozen=True, kw_only=True)
class LatestImage:
    """One of the masters in a file of several images."""

    extension: str | None
    master: str
    verdict: str | None
    checksum: str | None


@dataclass(frozen=True, kw_only=True)
class LatestMaster:
    """The newest master of its settings."""

    name: str
    """Of the link, without an ending; it depends on the master alone."""
    kind: FrameType
    exposure_s: float
    filter: str | None
    settings: Mapping[str, Any]
    night: date | None
    observed: Observed | None
    made_at: datetime | None
    path: str
    """Of its file, from the folder of the index; in the store where no file was written."""
    files: tuple[str, ...]
    """All its files, in each format."""
    master: str
    """Its name in the store and in the library."""
    calibration_id: str
    verdict: str | None
    """The worst of its images."""
    checksum: str | None
    """``datasum:`` and the DATASUM of the FITS file; ``None`` where it has none."""
    images: tuple[LatestImage, ...] = ()
    """Of files of several images."""


@dataclass(frozen=True, kw_only=True)
class FailedMaster:
    """A master that would have the name if it had not failed quality control."""

    name: str
    master: str
    path: str


@dataclass(frozen=True, kw_only=True)
class LatestReport:
    """The newest report, from the folder of the index."""

    html: str
    json: str | None


@dataclass(frozen=True, kw_only=True)
class LatestIndex:
    """What ``index.json`` holds."""

    format: str = INDEX_FORMAT
    format_version: int = VERSION
    masters: tuple[LatestMaster, ...] = ()
    failed: tuple[FailedMaster, ...] = ()
    report: LatestReport | None = None


def latest_of(masters_dir: str) -> str:
    """Return the folder for a directory of masters; with words for nights or cameras, in the part before the first."""
    return joined(root_of(masters_dir), LATEST)


def refresh_latest(masters_dir: str, *, is_new: bool = True) -> None:
    """Bring ``latest/`` up to what is in a directory of masters; nothing is written where nothing is new.

    With words for nights or cameras, to what is in all directories that it stands for. Without `is_new` an object
    store is not read; a directory of this computer is looked at all the same, as masters may have been deleted.

    Raises
    ------
    StorageError
        If it cannot be written; masters are no worse without it.
    """
    place = latest_of(masters_dir)
    folder = path_of(place)
    is_ours = is_latest(place)
    if is_ours and not is_new and is_remote(place):
        return
    if not is_ours and (is_file(place) or exists(joined(place, LATEST_INDEX))):
        raise StorageError(f"{place}: is not of this program, so no names that stay are written; rename it")
    with storage_errors(f"{place}: the names of the newest masters cannot be written"):
        wanted = _Wanted.of(masters_dir, folder)
        if not (wanted.index.masters or wanted.index.report or is_ours) or wanted.is_there(folder):
            return
        make_directory(folder)
        with locked(folder / LOCK_FILE, LockRules(wait_s=_WAIT_S), what=place):
            sweep_partial_files(folder)
            _Wanted.of(masters_dir, folder).write(folder)  # another run may have ended meanwhile


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is to be in the folder."""

    index: LatestIndex
    links: Mapping[str, str] = field(default_factory=dict)
    """Targets by name."""

    @classmethod
    def of(cls, masters_dir: str, folder: AnyPath) -> _Wanted:
        before = _read_index(folder)
        newest = _Newest(masters_dir, before)
        index = LatestIndex(masters=newest.masters, failed=newest.failed, report=_newest_report(masters_dir))
        return cls(index=index, links={} if is_remote(folder) else dict(_links(index, folder)))

    @cached_property
    def _data(self) -> bytes:
        return to_json(self.index, indent=1) + b"\n"

    def is_there(self, folder: AnyPath) -> bool:
        """Return whether nothing is to be written."""
        try:
            is_same = read_bounded(folder / LATEST_INDEX, _MAX_BYTES) == self._data
        except (OSError, ValueError):
            return False
        if not is_same or not isinstance(folder, Path):
            return is_same
        return not _stale(folder, self.links) and all(
            _target_of(folder / name) == to for name, to in self.links.items()
        )

    def write(self, folder: AnyPath) -> None:
        """Write the index, then the links, and remove links that mean nothing any more."""
        write_atomically(folder / LATEST_INDEX, self._data, durable=True)
        if not isinstance(folder, Path):
            return
        for name, target in self._links_for(folder).items():
            if not _put_link(folder / name, target):
                logger.debug("%s: no links can be made there; index.json has all names", folder)
                break
        for name in _stale(folder, self.links):
            (folder / name).unlink(missing_ok=True)
        sync_directory(folder)

    def _links_for(self, folder: Path) -> Mapping[str, str]:
        """Return the links that can stand beside each other: filters r and R are one name on Windows and macOS."""
        if not (folder / LATEST_INDEX.upper()).exists():
            return self.links
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.links:
            names[name.casefold()].append(name)
        for same in names.values():
            if len(same) > 1:
                logger.warning(
                    "%s: %s are one name on this disk; take them from index.json", folder, " and ".join(same)
                )
        return {same[0]: self.links[same[0]] for same in names.values() if len(same) == 1}


def _read_index(folder: AnyPath) -> LatestIndex:
    """Return what was written before; nothing where that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return from_json(LatestIndex, read_bounded(folder / LATEST_INDEX, _MAX_BYTES))
    return LatestIndex()


# ---- the newest ----


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Masters that have one file: one, or those of all its images."""

    masters: tuple[LibraryMaster, ...]
    files: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, masters: Sequence[LibraryMaster], files: tuple[str, ...]) -> _Unit:
        key = masters[0].key
        if len(masters) > 1:
            gains = {master.key.settings.gain for master in masters}  # of each amplifier its own
            gain = gains.pop() if len(gains) == 1 else None
            key = replace(key, settings=replace(key.settings, extension=None, gain=gain))
        name = complete_name(key)
        if os.path.basename(files[0]).startswith("Master"):  # as PixInsight's scripts want them
            _, kind, rest = f"{name}_".split("_", 2)
            name = f"Master{kind.capitalize()}_{rest}".rstrip("_")
        return cls(masters=tuple(masters), files=files, name=name)

    @property
    def verdict(self) -> str | None:
        """The worst verdict; that of a mixture of two levels is a failure."""
        worst = max((master.record.verdict for master in self.masters), key=_VERDICTS.index)
        return "fail" if any(master.record.has_two_levels for master in self.masters) else worst

    @property
    def merit(self) -> Merit:
        """What decides between it and others of its name."""
        merit = self.masters[0].record.merit
        return merit if len(self.masters) == 1 else replace(merit, verdict=self.verdict)


class _Newest:
    """The newest masters of a library, by the rules by which a frame without a time finds its masters."""

    def __init__(self, masters_dir: str, before: LatestIndex) -> None:
        self._root = root_of(masters_dir)
        self._checksums = {(one.master, one.made_at): one.checksum for one in before.masters}
        self._checksums |= {(im.master, one.made_at): im.checksum for one in before.masters for im in one.images}
        by_name: defaultdict[str, list[_Unit]] = defaultdict(list)
        for unit in _units(known_masters(masters_dir)):
            by_name[unit.name].append(unit)
        masters, failed = [], []
        for name in sorted(by_name):
            ordered = _in_order(by_name[name])
            good = [unit for unit in ordered if unit.verdict != "fail"]
            masters += [self._entry(good[0])] if good else []
            newest = _in_order(by_name[name], judged=False)[0]
            if newest.verdict == "fail":
                path = _from_index(newest.files[0], self._root)
                failed.append(FailedMaster(name=name, master=newest.masters[0].record.name, path=path))
        self.masters, self.failed = tuple(masters), tuple(failed)

    def _entry(self, unit: _Unit) -> LatestMaster:
        first = unit.masters[0]
        key, record, files = first.key, first.record, tuple(_from_index(file, self._root) for file in unit.files)
        images = tuple(
            LatestImage(
                extension=master.key.settings.extension,
                master=master.record.name,
                verdict=master.record.verdict,
                checksum=self._checksum(master, unit.files[0]),
            )
            for master in unit.masters
        )
        return LatestMaster(
            name=unit.name,
            kind=key.frame_type,
            exposure_s=key.exposure_time_s,
            filter=key.filter_name,
            settings=_settings_of(key, several=len(images) > 1),
            night=record.merit.known_night,
            observed=record.observed,
            made_at=record.made_at,
            path=files[0],
            files=files,
            master=record.name,
            calibration_id=record.calibration_id,
            verdict=unit.verdict,
            checksum=images[0].checksum,
            images=images if len(images) > 1 else (),
        )

    def _checksum(self, master: LibraryMaster, file: str) -> str | None:
        known = (master.record.name, master.record.made_at)
        if known in self._checksums:
            return self._checksums[known]
        if isinstance(master.plane, StorePlane) and file.startswith(master.plane.store):
            return None  # the store has checksums of its own
        with contextlib.suppress(OstcalError, OSError), open_binary(file) as stream:
            for unit in read_units(stream, file, stream.seek(0, os.SEEK_END)):
                is_its = unit.data_length and (unit.header.text("CALID") or "") == master.record.calibration_id
                if is_its and (datasum := unit.header.text("DATASUM")):
                    return f"datasum:{datasum.strip()}"
        return None


def _from_index(file: str, root: str) -> str:
    """Return the path of a file from the folder of the index, with ``/``."""
    if is_remote(file):
        return f"../{normalized(file).removeprefix(normalized(root)).lstrip('/')}"
    return Path("..", os.path.relpath(file, root)).as_posix()


def _units(masters: Sequence[LibraryMaster]) -> Iterator[_Unit]:
    """Yield masters with their files; those of the images of one file together."""
    names: dict[str, frozenset[str]] = {}
    together: defaultdict[tuple[FrameType, tuple[str, ...]], list[LibraryMaster]] = defaultdict(list)
    for master in masters:
        folder = parent_of(master.plane.store if isinstance(master.plane, StorePlane) else _path_of_file(master))
        if folder not in names:
            names[folder] = frozenset(names_in(folder or "."))
        files = _files_of(master, folder, names[folder])
        together[master.key.frame_type, files].append(master)
    for (_, files), same in together.items():
        yield _Unit.of(sorted(same, key=lambda m: m.record.name), files)


def _files_of(master: LibraryMaster, folder: str, there: frozenset[str]) -> tuple[str, ...]:
    """Return the files of a master that are there, else its place in the store."""
    if isinstance(master.plane, StorePlane):
        kind = f"master_{master.key.frame_type}"  # bias frames are a dark of their exposure too, in another file
        own = [file for file in master.record.files if name_of_file(file).startswith(kind) and file in there]
        return tuple(joined(folder, file) for file in own) or (joined(master.plane.store, master.plane.name),)
    path = _path_of_file(master)
    twin = f"{os.path.basename(path).removesuffix('.fits')}.xisf"
    return (path, joined(folder, twin)) if path.endswith(".fits") and twin in there else (path,)


def _path_of_file(master: LibraryMaster) -> str:
    plane = master.plane
    if isinstance(plane, StorePlane):
        return joined(plane.store, plane.name)
    return plane.path if isinstance(plane, FilePlane) else plane.fits.path


def _in_order(units: Sequence[_Unit], *, judged: bool = True) -> list[_Unit]:
    """Return masters of one name, the one first that a frame without a time takes; if not `judged`, good or bad."""

    def merit(unit: _Unit) -> Merit:
        return unit.merit if judged else replace(unit.merit, verdict=None, noise=None)

    if len(units) == 1:
        return list(units)
    by_night = units[0].masters[0].key.frame_type is FrameType.FLAT
    return nearest_first(units, merit, None, TimeRules(by_night=by_night, now=datetime.now(UTC)))


def _settings_of(key: GroupKey, *, several: bool) -> dict[str, Any]:
    settings: dict[str, Any] = to_values(key.settings) | to_values(key.optics)
    if several:
        settings.pop("extension", None)
    of_sensor = {"temperature_c": key.temperature_c, "width": key.width, "height": key.height}
    return settings | of_sensor | {"bayer_pattern": key.bayer_pattern}


def _newest_report(masters_dir: str) -> LatestReport | None:
    """Return the newest report of all directories for which a pattern stands."""
    root = root_of(masters_dir)
    found: list[tuple[str, str, str | None]] = []
    for folder in folders_of(masters_dir):
        with contextlib.suppress(FileNotFoundError):
            names = set(names_in(folder))
            html = max(filter(_REPORT.fullmatch, names), default="")
            numbers = f"{html.removesuffix('.html')}.json"
            found += [(html, folder, numbers if numbers in names else None)] if html else []
    if not found:
        return None
    html, folder, its = max(found, key=lambda one: one[0])
    return LatestReport(
        html=_from_index(joined(folder, html), root),
        json=_from_index(joined(folder, its), root) if its is not None else None,
    )


# ---- links ----


def _links(index: LatestIndex, folder: AnyPath) -> Iterator[tuple[str, str]]:
    """Yield names of links and where they lead."""
    for master in index.masters:
        for path in master.files:
            if STORE_NAME not in path.split("/"):
                yield f"{master.name}{os.path.splitext(path)[1]}", path
    if index.report is not None:
        yield "report.html", index.report.html
        if index.report.json is not None:
            yield "report.json", index.report.json
            yield os.path.basename(index.report.json), index.report.json  # the page refers to it by this name
        lists = f"{parent_of(index.report.html)}/{DEFECT_FOLDER}"
        if is_dir(str(folder / lists)):
            yield DEFECT_FOLDER, lists  # and to files in it


def _put_link(link: Path, target: str) -> bool:
    """Make a link, or lead it elsewhere; false where no links can be made (Windows without the right, some disks)."""
    if _target_of(link) == target:
        return True
    if os.path.lexists(link) and not link.is_symlink():
        logger.warning("%s: is no link and was left as it is; rename it, for the newest master has this name", link)
        return True
    partial = link.with_name(f".{uuid.uuid4().hex}{PARTIAL_ENDING}")
    try:
        partial.symlink_to(target, target_is_directory=os.path.basename(target) == DEFECT_FOLDER)  # Windows asks
    except (OSError, NotImplementedError) as error:
        logger.debug("%s: %s", link, error)
        return False
    try:
        partial.replace(link)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return True


def _target_of(link: Path) -> str | None:
    """Return where a link leads, with ``/``; ``None`` where there is none."""
    try:
        return Path(os.readlink(link)).as_posix()
    except OSError:
        return None


def _stale(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return the links of an earlier time, and those that a killed run was making."""
    with os.scandir(folder) as entries:
        links = [entry.name for entry in entries if entry.is_symlink() and entry.name not in wanted]
    return [
        name
        for name in links
        if name.endswith(PARTIAL_ENDING) or name.lower().startswith(("master", "report", DEFECT_FOLDER))
    ]
