"""Make a report: read the masters on disk and their history, write the page and the numbers."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ostcal._version import __version__
from ostcal.engine.tiling import PROCESS_BYTES, check_report_fits, report_bytes, workers_for
from ostcal.errors import NoFramesError, OstcalError, StorageError
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster, StorePlane, find_masters
from ostcal.library.history import history_of, subject_of
from ostcal.library.master_names import DEFECT_FOLDER
from ostcal.library.store import MasterStore
from ostcal.places.durable import PARTIAL_ENDING, os_reason, sweep_partial_files, write_parts_atomically
from ostcal.places.locking import LOCK_FILE, locked
from ostcal.places.paths import AnyPath, is_dir, joined, names_in, path_of
from ostcal.report.camera_section import camera_sections
from ostcal.report.defect_lists import DefectList, write_lists
from ostcal.report.document import Entry, HistoryPoint, HistorySeries, MasterReport, Report
from ostcal.report.master_section import master_report, with_defects
from ostcal.report.noise_fall import noise_fall, target_share
from ostcal.report.page import MastersOfPage
from ostcal.report.png import CameraPictures, MasterPictures, ReportPictures
from ostcal.report.previews import master_pictures
from ostcal.report.set_aside import TextsAside
from ostcal.report.wording import title_of

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_R = TypeVar("_R")

MIN_HELD_BYTES = 64 * 2**20
"""Strips of dark masters that are held at a time where the memory limit leaves no more: five of 6 MP or more."""
_THREADS = 2
"""Masters that are read at a time: the pictures of seven of 61 MP take 4 s with one thread."""


def make_report(
    output_dir: str,
    *,
    only: Collection[str] | None = None,
    temperature_tolerance_c: float = 2.0,
    config_file: str | None = None,
    settings: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
    memory_limit_bytes: int = 4 * 2**30,
) -> tuple[AnyPath, AnyPath]:
    """Write a report of the masters of a directory; a damaged master is logged and left out.

    Parameters
    ----------
    output_dir : str
        Where the masters are.
    only : collection of str, optional
        Names of the masters to show; without it those of the newest run of each kind, setting and filter.
    temperature_tolerance_c : float
        How far the temperatures of darks may differ that give the dark current together.
    config_file, settings, left_out : optional
        The configuration, and what was left out of the masters, one line each, as the page shows them.
    memory_limit_bytes : int
        Of this process; the report does not take more, however many masters there are.

    Returns
    -------
    html_path, json_path : Path or ObjectPath
        The page and the numbers.

    Raises
    ------
    NoFramesError, PlanError, StorageError
        If there is no master in the store; if the memory limit is too small; if the report cannot be written.
    """
    library = find_masters(output_dir)  # newest first
    if only is None:
        # Of each subject all masters of its newest run: one run may have made flats of several exposures.
        newest: dict[str, datetime | None] = {}
        for master in library:
            newest.setdefault(subject_of(master.key), master.record.made_at)
        shown = [master for master in library if newest[subject_of(master.key)] == master.record.made_at]
    else:
        shown = [master for master in library if master.record.name in only]
    if not shown:
        raise NoFramesError(f"{output_dir}: there are no masters to report on; make some with ostcal masters")
    sizes = [(master.key.height, master.key.width) for master in shown]
    check_report_fits(sizes, memory_limit_bytes)
    task_bytes = max(map(report_bytes, sizes)) - PROCESS_BYTES
    threads, _ = workers_for(task_bytes, memory_limit_bytes, _THREADS)
    held_bytes = max(MIN_HELD_BYTES, (memory_limit_bytes - PROCESS_BYTES) // 2)
    shown.sort(key=lambda m: (str(m.key.frame_type), m.key.filter_name or "", m.key.exposure_time_s, m.record.name))
    made_at = datetime.now(UTC).replace(microsecond=0)
    _sweep(output_dir)
    names = names_in(output_dir)
    endings = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))  # of reports of one second
    stamps = (f"{made_at:%Y%m%d_%H%M%S}{ending}" for ending in endings)
    stamp = next(stamp for stamp in stamps if f"report_{stamp}.html" not in names)
    with _aside(output_dir) as masters:
        measured: list[tuple[GroupKey, Mapping[str, Any]]] = []
        of_master = partial(_read_master, output_dir=output_dir, settings=settings or {})
        for one in in_order(of_master, shown, threads):
            if one is None:
                continue
            masters.add(one.report, one.pictures)
            if one.camera_properties is not None:
                known = (properties for _, properties in measured if properties == one.camera_properties)
                measured.append((one.master.key, next(known, one.camera_properties)))
        cameras = camera_sections(measured, library, temperature_tolerance_c, held_bytes)
        outlines = tuple(one.master for one in masters.outlines)
        report = Report(
            made_at=made_at,
            software=f"ostcal {__version__}",
            title=title_of(outlines),
            config_file=config_file,
            masters=outlines,
            camera=cameras[0].report if cameras else None,
            other_cameras=tuple(camera.report for camera in cameras[1:]),
            left_out=tuple(left_out),
            history=_over_time(output_dir, {subject_of(master.key) for master in shown}),
            settings=tuple(_entries(settings or {})),
        )
        return _write(report, masters, [camera.pictures for camera in cameras], output_dir, stamp)


def _over_time(output_dir: str, subjects: Collection[str]) -> tuple[HistorySeries, ...]:
    """Return what the history of a directory says about some subjects."""
    points: defaultdict[tuple[str, str, str], list[HistoryPoint]] = defaultdict(list)
    for entry in history_of(output_dir):
        if entry.subject in subjects:
            for name, (value, unit) in entry.metrics.items():
                point = HistoryPoint(made_at=entry.made_at, value=value, master=entry.name, outcome=entry.verdict)
                points[entry.subject, name, unit].append(point)
    return tuple(
        HistorySeries(subject=subject, key=name, label=name.replace("_", " "), unit=unit, points=tuple(found))
        for (subject, name, unit), found in sorted(points.items())
    )


def _sweep(output_dir: str) -> None:
    """Delete reports and lists that a killed run left half-written, unless another run is writing here."""
    places = [place for place in (output_dir, joined(output_dir, DEFECT_FOLDER)) if is_dir(place)]
    if any(name.endswith(PARTIAL_ENDING) for place in places for name in names_in(place)):
        with contextlib.suppress(StorageError), locked(path_of(output_dir) / LOCK_FILE, what=output_dir):
            for place in places:
                sweep_partial_files(path_of(place))


def write_report(
    report: Report, pictures: ReportPictures, directory: str | os.PathLike[str], stamp: str
) -> tuple[AnyPath, AnyPath]:
    """Write ``report_STAMP.html`` and ``report_STAMP.json`` and return their paths; files of these names are replaced.

    Raises
    ------
    StorageError
        If a file cannot be written; what was there before stays.
    """
    with _aside(directory) as masters:
        for master in report.masters:
            masters.add(master, pictures.masters.get(master.name, MasterPictures()))
        return _write(report, masters, pictures.cameras, directory, stamp)


@contextlib.contextmanager
def _aside(directory: str | os.PathLike[str]) -> Iterator[MastersOfPage]:
    """Take masters for a report; what does not fit in the memory is beside it meanwhile."""
    path = path_of(directory)
    with TextsAside(path if isinstance(path, Path) else None) as aside:
        yield MastersOfPage(aside)


def _write(
    report: Report,
    masters: MastersOfPage,
    cameras: Sequence[CameraPictures],
    directory: str | os.PathLike[str],
    stamp: str,
) -> tuple[AnyPath, AnyPath]:
    html_path = path_of(directory) / f"report_{stamp}.html"
    json_path = html_path.with_name(f"report_{stamp}.json")
    numbers, page = masters.json_parts(report), masters.page_parts(report, cameras, json_name=json_path.name)
    for path, parts in ((json_path, numbers), (html_path, page)):  # in this order: the page links to the numbers
        try:
            write_parts_atomically(path, (part.encode("utf-8", errors="replace") for part in parts), durable=True)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written: {os_reason(error)}; check the directory, its space and permissions"
            ) from error
    return html_path, json_path


def in_order(function: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Iterator[_R]:
    """Yield what a function returns of items, in their order; no more than `threads` results wait to be taken."""
    ahead: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@dataclass(frozen=True, kw_only=True)
class _ReadMaster:
    """What is stored with a master, as the report shows it."""

    master: LibraryMaster
    camera_properties: Mapping[str, Any] | None
    report: MasterReport
    pictures: MasterPictures


def _read_master(master: LibraryMaster, output_dir: str, settings: Mapping[str, Any]) -> _ReadMaster | None:
    """Read what is stored with a master, and write the lists of its defects; ``None`` where it is damaged."""
    if not isinstance(master.plane, StorePlane):
        return None
    try:
        store = MasterStore(master.plane.store)
        attributes = store.attributes(master.plane.name)
        properties = attributes.get("camera_properties")
        report = master_report(master, attributes)
        share = target_share(settings, report.kind)
        if share is not None:
            report = replace(report, noise_fall=noise_fall(attributes["inputs"], report.kind, share))
        planes = master_pictures(store.open(master.plane.name), master, attributes)
        if planes.defects is not None:
            report = with_defects(report, planes.defects, _written_lists(output_dir, planes.defects))
        return _ReadMaster(
            master=master,
            camera_properties=properties if isinstance(properties, dict) else None,
            report=report,
            pictures=planes.pictures,
        )
    except (OstcalError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: left out of the report: %s", master.record.name, error)
        return None


def _written_lists(output_dir: str, defects: DefectList) -> tuple[str, ...]:
    """Write the lists of the defects of a master; without them, its report is as good."""
    try:
        return write_lists(output_dir, defects)
    except StorageError as error:
        logger.warning("%s", error)
        return ()


def _entries(settings: Mapping[str, Any], prefix: str = "") -> Iterator[Entry]:
    """Yield nested settings as dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield Entry(name=f"{prefix}{name}", value="" if value is None else str(value))
