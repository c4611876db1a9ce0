"""The nights of a library: which masters each has, how they were judged, and the reports about them."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote

from ostcal.frames import FrameType
from ostcal.library.find import FilePlane, LibraryMaster, StorePlane
from ostcal.naming import night_of
from ostcal.places.paths import is_remote, joined, names_in, normalized, parent_of
from ostcal.report.wording import plural

_REPORT = re.compile(r"report_(\d{8}_\d{6})(?:_\d+)?\.html")
_KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)
_WORST_FIRST = ("fail", "warn", None, "pass")


@dataclass(frozen=True, kw_only=True)
class ReportLink:
    """A report about masters of a night."""

    text: str
    """When it was made, UTC."""
    target: str | None
    """Its address from the page; ``None`` where there is none, as from this computer into a bucket."""
    place: str


@dataclass(frozen=True, kw_only=True)
class NightRow:
    """A night in which frames of masters were taken."""

    night: str
    """The date of the evening; ``not recorded`` for frames without a time."""
    cameras: str
    masters: str
    verdict: str
    """The worst of its masters."""
    judged: str
    """How many of them failed, or have warnings."""
    reports: tuple[ReportLink, ...]


def night_rows(masters: Sequence[LibraryMaster], names: Mapping[str, Sequence[str]], page: str) -> list[NightRow]:
    """Return the nights of masters, newest first.

    Parameters
    ----------
    masters : sequence of LibraryMaster
    names : mapping
        Names of the files in each directory of masters, among them reports.
    page : str
        Where the page will be, as links start from there.
    """
    reports = {normalized(folder): _reports_in(found) for folder, found in names.items()}
    runs: defaultdict[str, set[datetime]] = defaultdict(set)
    nights: defaultdict[date | None, list[LibraryMaster]] = defaultdict(list)
    for master in masters:
        nights[_night_of(master)].append(master)
        if master.record.made_at is not None:
            runs[_folder_of(master)].add(master.record.made_at)
    rows = []
    for night in sorted(nights, key=lambda one: one or date.min, reverse=True):
        same = nights[night]
        about = {
            (stamp, joined(folder, name))
            for master in same
            for folder in [_folder_of(master)]
            for stamp, name in _report_of(master, reports.get(folder, ()), sorted(runs[folder]))
        }
        verdicts = Counter(master.record.verdict for master in same)
        kinds = Counter(master.key.frame_type for master in same)
        rows.append(
            NightRow(
                night=f"{night}" if night is not None else "not recorded",
                cameras=", ".join(sorted({m.key.settings.camera_label or "" for m in same} - {""})),
                masters=", ".join(_counted(kinds[kind], kind) for kind in _KINDS if kinds[kind]),
                verdict=next(word for word in _WORST_FIRST if verdicts[word]) or "none",
                judged=", ".join(
                    words
                    for words in (
                        f"{verdicts['fail']} failed" if verdicts["fail"] else "",
                        f"{verdicts['warn']} with warnings" if verdicts["warn"] else "",
                        f"{verdicts[None]} not checked" if verdicts[None] else "",
                    )
                    if words
                ),
                reports=tuple(
                    ReportLink(text=f"{stamp:%Y-%m-%d %H:%M}", target=link_from(page, place), place=place)
                    for stamp, place in sorted(about)
                ),
            )
        )
    return rows


def _counted(count: int, kind: FrameType) -> str:
    return f"{count} bias" if kind is FrameType.BIAS else plural(count, str(kind))


def _night_of(master: LibraryMaster) -> date | None:
    observed = master.record.observed
    return master.key.night or night_of(observed.middle if observed is not None else None, master.key.noon_utc_s)


def _folder_of(master: LibraryMaster) -> str:
    plane = master.plane
    if isinstance(plane, StorePlane):
        return normalized(parent_of(plane.store))
    return normalized(parent_of(plane.path if isinstance(plane, FilePlane) else plane.fits.path))


def newest_report_at(directory: str) -> datetime | None:
    """Return when the newest report in a directory of masters was made; ``None`` where there is none."""
    reports = _reports_in(names_in(directory))
    return reports[-1][0] if reports else None


def _reports_in(names: Sequence[str]) -> tuple[tuple[datetime, str], ...]:
    """Return the reports among some files with when they were made, oldest first."""
    found = [(match[1], name) for name in names if (match := _REPORT.fullmatch(name))]
    return tuple((datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=UTC), name) for stamp, name in sorted(found))


def _report_of(
    master: LibraryMaster, reports: Sequence[tuple[datetime, str]], runs: Sequence[datetime]
) -> tuple[tuple[datetime, str], ...]:
    """Return the report about a master: the last one before the next run in its directory, and after its own."""
    made_at = master.record.made_at
    if made_at is None:
        return ()
    own = made_at.replace(microsecond=0)  # names of reports have whole seconds
    following = next((run.replace(microsecond=0) for run in runs if run > made_at), None)
    about = [one for one in reports if one[0] >= own and (following is None or one[0] < following)]
    return tuple(about[-1:])


def link_from(page: str, place: str) -> str | None:
    """Return the address of a file as a link on a page; ``None`` where a page there cannot lead to it."""
    if is_remote(page) or is_remote(place):
        root = page.partition("://")[2].partition("/")[0]
        if not (is_remote(page) and is_remote(place)) or root != place.partition("://")[2].partition("/")[0]:
            return None
        return quote(posixpath.relpath(place, posixpath.dirname(page)))
    try:
        return quote(Path(os.path.relpath(place, os.path.dirname(os.path.abspath(page)))).as_posix())
    except ValueError:  # on another drive of Windows
        return Path(place).absolute().as_uri()
