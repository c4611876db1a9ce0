"""From the masters on disk to the document of a report and its pictures."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ostcal._version import __version__
from ostcal.errors import OstcalError
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.library.history import HistoryEntry, subject_of
from ostcal.library.store import MasterStore
from ostcal.report.camera_section import camera_sections
from ostcal.report.document import Entry, HistoryPoint, HistorySeries, MasterReport, Report
from ostcal.report.master_section import master_report
from ostcal.report.png import MasterPictures, ReportPictures
from ostcal.report.previews import master_pictures

logger = logging.getLogger(__name__)

_THREADS = 2
"""Masters that are read at a time: the pictures of seven of 61 MP take 4 s with one thread."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a report is about."""

    masters: Sequence[LibraryMaster]
    """Those it shows, in their order."""
    library: Sequence[LibraryMaster]
    """All on disk, newest first: the dark current comes from them."""
    history: Sequence[HistoryEntry] = ()
    made_at: datetime
    temperature_tolerance_c: float = 2.0
    config_file: str | None = None
    settings: Mapping[str, Any] | None = None
    left_out: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _ReadMaster:
    """What is stored with a master, as the report shows it."""

    master: LibraryMaster
    camera_properties: Mapping[str, Any] | None
    report: MasterReport
    pictures: MasterPictures


def collect(request: ReportRequest) -> tuple[Report, ReportPictures]:
    """Read what is stored with the masters and make pictures of them; a damaged master is logged and left out."""
    with ThreadPoolExecutor(_THREADS) as pool:
        read = [one for one in pool.map(_read_master, request.masters) if one is not None]
    measured = [(one.master.key, one.camera_properties) for one in read if one.camera_properties is not None]
    cameras = camera_sections(measured, request.library, request.temperature_tolerance_c)
    report = Report(
        made_at=request.made_at,
        software=f"ostcal {__version__}",
        config_file=request.config_file,
        masters=tuple(one.report for one in read),
        camera=cameras[0].report if cameras else None,
        other_cameras=tuple(camera.report for camera in cameras[1:]),
        left_out=tuple(request.left_out),
        history=tuple(_history(request.history, {subject_of(master.key) for master in request.masters})),
        settings=tuple(_entries(request.settings or {})),
    )
    pictures = {one.master.record.name: one.pictures for one in read}
    return report, ReportPictures(masters=pictures, cameras=tuple(camera.pictures for camera in cameras))


def _read_master(master: LibraryMaster) -> _ReadMaster | None:
    """Read a master of the store; one that is damaged is logged and left out."""
    if not isinstance(master.plane, StorePlane):
        return None
    try:
        store = MasterStore(master.plane.store)
        attributes = store.attributes(master.plane.name)
        properties = attributes.get("camera_properties")
        return _ReadMaster(
            master=master,
            camera_properties=properties if isinstance(properties, dict) else None,
            report=master_report(master, attributes),
            pictures=master_pictures(store.open(master.plane.name), master, attributes),
        )
    except (OstcalError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: left out of the report: %s", master.record.name, error)
        return None


def _history(entries: Sequence[HistoryEntry], subjects: set[str]) -> list[HistorySeries]:
    """Return each number over time, for the subjects that the report is about."""
    points: defaultdict[tuple[str, str, str], list[HistoryPoint]] = defaultdict(list)
    for entry in entries:
        if entry.subject not in subjects:
            continue
        for key, (value, unit) in entry.metrics.items():
            points[entry.subject, key, unit].append(
                HistoryPoint(made_at=entry.made_at, value=value, master=entry.name, outcome=entry.verdict)
            )
    return [
        HistorySeries(subject=subject, key=key, label=key.replace("_", " "), unit=unit, points=tuple(found))
        for (subject, key, unit), found in sorted(points.items())
    ]


def _entries(settings: Mapping[str, Any], prefix: str = "") -> Iterator[Entry]:
    """Yield nested settings as dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield Entry(name=f"{prefix}{name}", value="" if value is None else str(value))
