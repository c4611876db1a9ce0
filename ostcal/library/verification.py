"""Everything at rest below some places: found, checked in parallel, FITS masters compared with the store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ostcal.engine.driver import Failure, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.tiling import workers_for
from ostcal.errors import InputError, OstcalError
from ostcal.fits.cards import Header
from ostcal.fits.read import FRAME_ENDINGS, FitsFrame, find_fits, inspect_images
from ostcal.inputs.gather import Source
from ostcal.library.find import STORE_NAME, FitsPlane, store_location
from ostcal.library.integrity import check_fits, check_frame, check_series, check_store, check_stored_master
from ostcal.library.master_header import SCALE_CARD
from ostcal.library.master_names import name_of_file
from ostcal.library.store import MasterStore
from ostcal.places.durable import PARTIAL_ENDING
from ostcal.places.paths import exists, files_below, is_file, joined, names_in, normalized, parent_of, size_of, walk
from ostcal.series.format import STORE_ENDING
from ostcal.series.reader import Series, check_identity, find_series, open_series, read_committed
from ostcal.series.record import FrameRecord

Kind = Literal["series", "masters", "FITS"]
MEMORY_LIMIT_BYTES = 2 * 2**30
_FRAME_BYTES_FACTOR = 2
"""Memory of a frame that is read whole: its samples, and pieces of them while they are counted."""
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Check:
    """One piece of work; small and picklable."""

    kind: Kind
    place: str
    """The series, store or FITS file."""
    n_bytes: int
    memory_bytes: int
    record: FrameRecord | None = None
    """Of the frame, in a series."""
    name: str = ""
    """Of the master, in a store."""

    @property
    def index(self) -> int:
        """Index of the frame; -1 for masters and files."""
        return self.record.index if self.record is not None else -1


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found at one place."""

    kind: Kind
    place: str
    n_items: int
    """Frames of a series, masters of a store, one of a file."""
    n_bytes: int
    findings: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VerifyPlan:
    """What is to be read, and what was found without reading samples."""

    checks: tuple[Check, ...]
    places: tuple[Checked, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes to be read, as they are in memory."""
        return sum(check.n_bytes for check in self.checks)


# ---- planning ----


def plan_verification(locations: Sequence[str]) -> VerifyPlan:
    """Find series, master stores and FITS files at places and below them, and check all that needs no samples.

    Raise InputError for a place that does not exist, or where there is nothing to verify.
    """
    checks: list[Check] = []
    places: list[Checked] = []
    for location in dict.fromkeys(map(normalized, locations)):
        if not exists(location):
            raise InputError(f"{location}: there is no such series, directory or file")
        found: list[tuple[Kind, str]] = [("masters", location)]
        strays: list[str] = []
        if os.path.basename(location) != STORE_NAME:
            parents = _directories(location)
            stores = [joined(parent, STORE_NAME) for parent in parents if STORE_NAME in names_in(parent)]
            found = [("series", place) for place in find_series([location]) if place not in stores]
            found += [("masters", place) for place in stores]
            found += [("FITS", place) for place in find_fits([location])]
            # what killed runs left between series and masters; the checks of these find what is inside of them
            strays = [
                f"{joined(parent, name)}: left half-written by a run that was killed, if none is running now"
                for parent in parents
                for name in sorted(names_in(parent))
                if name.endswith(PARTIAL_ENDING) or name.startswith((".unpacked-", ".ostcal-"))
            ]
        if not found:
            raise InputError(f"{location}: there is nothing to verify: no series, masters or {' '.join(FRAME_ENDINGS)}")
        for kind, place in found:
            work, checked = _planned(kind, place)
            checks += work
            places.append(checked)
        if strays:
            places.append(Checked(kind="FITS", place=location, n_items=0, n_bytes=0, findings=tuple(strays)))
    return VerifyPlan(checks=tuple(checks), places=tuple(places))


def _directories(location: str) -> list[str]:
    """Return a directory and those below it, without stores and hidden ones."""
    found = []
    for parent, below, _ in walk(location):
        if parent.lower().endswith(STORE_ENDING):
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        found.append(parent)
    return found


def _planned(kind: Kind, place: str) -> tuple[list[Check], Checked]:
    """Check what needs no samples at one place; return the checks that do, and what was found."""
    checks: list[Check] = []
    findings: list[str] = []
    note = ""
    if kind == "series":
        series, findings = check_series(place)
        if series is not None:
            checks = _frame_checks(series)
            note = f"{len(series.excluded)} excluded" if series.excluded else ""
    elif kind == "masters":
        names, findings = check_store(place)
        for name in names:
            n_bytes = sum(files_below(joined(place, name)).values())
            checks.append(Check(kind=kind, place=place, n_bytes=n_bytes, memory_bytes=0, name=name))
    else:
        n_bytes = 0
        with contextlib.suppress(OSError):  # the check itself says what is wrong
            n_bytes = size_of(place)
        checks = [Check(kind=kind, place=place, n_bytes=n_bytes, memory_bytes=0)]
    checked = Checked(
        kind=kind,
        place=place,
        n_items=len(checks),
        n_bytes=sum(check.n_bytes for check in checks),
        findings=tuple(findings),
        note=note,
    )
    return checks, checked


def _frame_checks(series: Series) -> list[Check]:
    n_bytes = series.height * series.width * np.dtype(series.dtype).itemsize
    memory = _FRAME_BYTES_FACTOR * n_bytes
    return [
        Check(kind="series", place=series.location, n_bytes=n_bytes, memory_bytes=memory, record=record)
        for record in series.records
    ]


# ---- the work ----


def verify(plan: VerifyPlan, workers: int, on_done: Callable[[Check], None] = lambda check: None) -> list[Checked]:
    """Read everything in `workers` threads; return the places of the plan with all findings.

    `on_done` is called after each piece of work, in any order.
    """
    execution = _threads_for(plan.checks, workers)
    results = run_tasks(run_check, plan.checks, execution, lambda index: on_done(plan.checks[index]))
    findings: dict[tuple[Kind, str], list[str]] = {}
    notes: dict[tuple[Kind, str], str] = {}
    for check, result in zip(plan.checks, results, strict=True):
        lines, note = ([f"{check.place}: {result.message}"], "") if isinstance(result, Failure) else result
        findings.setdefault((check.kind, check.place), []).extend(lines)
        notes[check.kind, check.place] = note
    return [
        replace(
            place,
            findings=(*place.findings, *findings.get((place.kind, place.place), ())),
            note=place.note or notes.get((place.kind, place.place), ""),
        )
        for place in plan.places
    ]


def _threads_for(checks: Sequence[Check], workers: int) -> Execution:
    """Return how checks are run: by fewer threads where frames would take more than `MEMORY_LIMIT_BYTES`."""
    largest = max((check.memory_bytes for check in checks), default=0)
    count, _ = workers_for(largest, MEMORY_LIMIT_BYTES, workers)
    return Execution(scheduler="threads", workers=count)


def run_check(check: Check) -> tuple[list[str], str]:
    """Do one check; return findings, and a note if there was nothing to compare with."""
    if check.record is not None:
        return check_frame(check.place, check.record), ""
    if check.kind == "masters":
        return check_stored_master(check.place, check.name), ""
    result = check_fits(check.place)
    findings = list(result.findings)
    if result.header is not None:
        if not result.has_checksums and (result.header.text("PROGRAM") or "").startswith("ostcal "):
            findings.append(f"{check.place}: it has lost its checksums; restore it from a copy")
        if not findings:
            findings += _against_store(check.place)
    note = "" if result.has_checksums or findings else "no checksums to compare with"
    return findings, note


# ---- FITS masters and the store ----


def check_master(masters_dir: str, name: str, files: Sequence[str]) -> list[str]:
    """Compare a master with its checksums, and its files with theirs and with the master, as `verify` does.

    `files` are the names of its FITS and XISF files; those that are gone are not missed. A master of version 1 of the
    format has no checksums: without a file to compare with, that is a finding.
    """
    location = store_location(masters_dir)
    findings = check_stored_master(location, name)
    is_compared = False
    for file in files:
        path = joined(masters_dir, file)
        if is_file(path):
            lines, note = run_check(Check(kind="FITS", place=path, n_bytes=0, memory_bytes=0))
            findings += lines
            is_compared = is_compared or not (lines or note or _is_scaled(path))
    if findings or is_compared or MasterStore(location).open(name).grid.has_checksums:
        return findings
    return [f"{joined(location, name)}: it has neither checksums nor a file to compare with; make the master again"]


def _is_scaled(path: str) -> bool:
    return any(SCALE_CARD in Header(image.cards) for image in inspect_images(path))


def _against_store(path: str) -> list[str]:
    """Compare the masters in a FITS file with the same masters in the store beside it, if any."""
    try:
        images = inspect_images(path)
    except OstcalError:  # the check of the file names what is damaged there
        return []
    return [line for image in images for line in _image_against_store(path, image)]


def _image_against_store(path: str, fits: FitsFrame) -> list[str]:
    """Compare identity and samples of one master."""
    header = Header(fits.cards)
    calibration_id = header.text("CALID")
    if calibration_id is None:
        return []
    store = MasterStore(store_location(parent_of(path)))
    name = name_of_file(path)
    try:
        names = store.names()
        if name not in names:  # the dark of a bias set is stored once, under the name of the bias
            readable = []
            for other in names:
                with contextlib.suppress(OstcalError):
                    readable.append((other, store.attributes(other).get("calibration_id")))
            name = next((other for other, stored_id in readable if stored_id == calibration_id), "")
        if not name:
            return []
        attributes = store.attributes(name)
        findings = [
            f"{path}: its {card} is {header.text(card)}, that of {name} in {STORE_NAME} {attributes.get(key)};"
            " they are not the same master"
            for card, key in (("CALID", "calibration_id"), ("INPDIGST", "input_digest"))
            if header.text(card) != attributes.get(key)
        ]
        if findings or SCALE_CARD in header:  # scaled masters (PixInsight) hold others by rounding
            return findings
        stored = store.open(name)
        if (fits.height, fits.width) != stored.shape:
            size = f"{stored.shape[1]} x {stored.shape[0]}"
            return [f"{path}: is {fits.width} x {fits.height} pixels, {stored.name} in {STORE_NAME} {size}"]
        for start in range(0, fits.height, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, fits.height)
            ours = stored.read_rows("master", start, stop).view(np.uint32)
            theirs = np.ascontiguousarray(FitsPlane(fits=fits).read_rows(start, stop)).view(np.uint32)
            if not np.array_equal(ours, theirs):
                return [
                    f"{stored.location}: its samples are not those of {path}, first in rows {start} to {stop - 1};"
                    " the checksums of the file are right: make the master again"
                ]
    except OstcalError:  # the check of the store, or of the file, names what is damaged there
        return []
    return []


# ---- frames of series, before they are combined ----


def without_damaged(sources: dict[str, Source], left_out: list[str], workers: int) -> dict[str, Source]:
    """Leave out frames of series whose samples are not those of their records.

    Of each frame the three rows are read by which it is known: samples and records of different frames are told apart
    by them. All others are checked while they are combined. Where strips carry no checksums of their own, in series of
    the first version of the format, frames are read once more as a whole; FITS frames have nothing to be compared with.
    `left_out` gets a line for each frame. A store that does not answer says nothing of its frames: they stay, and the
    master fails if it still does not answer when they are combined.
    """
    of_series = [source for source in sources.values() if source.verify and source.series]
    damaged: set[str] = set()
    identities = [
        (source.series, source.index, source.fingerprint) for source in of_series if source.has_chunk_checksums
    ]
    unchecked = [source for source in of_series if not source.has_chunk_checksums]
    checks: list[Check] = []
    for location in dict.fromkeys(source.series for source in unchecked):
        wanted = {source.index for source in unchecked if source.series == location}
        checks += [check for check in _frame_checks(open_series(location)) if check.index in wanted]
    execution = Execution(scheduler="threads", workers=workers)
    results = [
        *zip(identities, run_tasks(_check_rows, identities, execution), strict=True),
        *zip(
            ((check.place, check.index) for check in checks),
            run_tasks(_read_frame, checks, _threads_for(checks, workers)),
            strict=True,
        ),
    ]
    for (place, index, *_), result in results:
        if isinstance(result, Failure) and result.bad_frame:
            damaged.add(f"{place}#{index}")
            left_out.append(result.message)
    return {label: source for label, source in sources.items() if label not in damaged}


def _check_rows(identity: tuple[str, int, str]) -> None:
    check_identity(*identity)


def _read_frame(check: Check) -> None:
    if check.record is not None:
        read_committed(check.place, check.record)
