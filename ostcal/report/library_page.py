"""The page of a library: a calendar of its masters, their ages, and what was measured over the years."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ostcal._version import __version__
from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.inputs.optics import ROTATION_TOLERANCE_DEG, common_optics, optics_clusters, telescope_identity
from ostcal.library.find import LibraryMaster
from ostcal.library.history import HistoryEntry, subject_of
from ostcal.naming import DAY_S
from ostcal.places.durable import os_reason, write_atomically
from ostcal.places.paths import is_taken, path_of, read_start
from ostcal.report import figures, wording
from ostcal.report.document import HistoryPoint, HistorySeries
from ostcal.report.nights import NightRow
from ostcal.report.page import breakable
from ostcal.report.plots import draw
from ostcal.report.views import Figure

MOST_TRENDS = 12
"""Plots of one number; of more subjects those with the most points are shown."""

NIGHTS_SHOWN = 30
"""Nights that are not folded."""

TRENDS: Mapping[str, str] = {
    "read_noise": "Read noise",
    "gain": "Gain",
    "dark_current": "Dark current",
    "hot_pixels": "Hot pixels",
    "vignetting": "Flat shape: light of the darkest corner",
    "uniformity": "Flat shape: difference of opposite sides",
    "median": "Level",
    "noise": "Noise of the master",
}
"""Numbers of the history that the page shows, in this order."""

OF_CAMERA = ("read_noise", "gain", "dark_current")
"""Numbers that a run measures once of each camera and setting."""

_GENERATOR = b'<meta name="generator" content="ostcal '
_KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)
_TITLES = {FrameType.BIAS: "Bias", FrameType.DARK: "Darks", FrameType.FLAT: "Flats"}
_MOST_MONTHS = 12


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A date on the calendar."""

    text: str
    place: float
    """Percent of the width."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A master on the calendar."""

    place: float
    verdict: str
    text: str


@dataclass(frozen=True, kw_only=True)
class SubjectRow:
    """Masters of one kind and setting."""

    subject: str
    marks: tuple[Mark, ...]
    count: int
    newest: str
    """Date of its newest frames, or that it is not recorded."""
    age: str
    is_too_old: bool
    verdict: str
    """Of the newest."""
    name: str
    """Of the newest."""


@dataclass(frozen=True, kw_only=True)
class KindRows:
    """The rows of one kind."""

    title: str
    limit: str
    rows: tuple[SubjectRow, ...]


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The plots of one number."""

    title: str
    figures: tuple[Figure, ...]
    left_out: int


def render_library(
    directory: str,
    masters: Sequence[LibraryMaster],
    history: Sequence[HistoryEntry],
    max_age_days: Mapping[FrameType, float | None],
    now: datetime,
    nights: Sequence[NightRow] = (),
) -> str:
    """Return the page of a library; ages are those of the frames at `now`, limits those of matching."""
    times = {id(master): _taken_at(master) for master in masters}
    known = [when for when in times.values() if when is not None]
    names = labels_of(masters)
    subjects = list(names.values())
    common = common_words(subjects)
    span = _Span(first=min(known, default=now), last=max([*known, now]))
    kinds = [
        KindRows(title=_TITLES[kind], limit=_limit(max_age_days.get(kind)), rows=rows)
        for kind in _KINDS
        if (rows := tuple(_rows(kind, masters, max_age_days.get(kind), span, now, names, common)))
    ]
    too_old = sum(row.is_too_old for kind in kinds for row in kind.rows)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = wording.shown
    environment.filters |= {"breakable": breakable, "when": wording.when}
    room = resources.files("ostcal.report")
    css = "".join(room.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "library.css"))
    template = environment.from_string(room.joinpath("library.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(css),
        software=f"ostcal {__version__}",
        directory=directory,
        now=now,
        headline=_headline(len(masters), too_old),
        state="warn" if too_old else "pass" if masters else "none",
        kinds=kinds,
        common=", ".join(word for word in subjects[0].split(", ")[1:] if word in common) if subjects else "",
        ticks=span.ticks(),
        nights=nights[:NIGHTS_SHOWN],
        older_nights=nights[NIGHTS_SHOWN:],
        trends=_trends(masters, history, names, common),
        timeless=sum(when is None for when in times.values()),
    )


def _headline(count: int, too_old: int) -> str:
    if not count:
        return "There are no masters"
    masters = wording.plural(count, "master")
    return f"{masters}; {wording.plural(too_old, 'setting')} without a young enough one" if too_old else masters


def _limit(days: float | None) -> str:
    return f"limit {days:g} days" if days is not None else "no limit"


def labels_of(masters: Sequence[LibraryMaster]) -> dict[str, str]:
    """Return what each master is followed as, by its name: flats with their light path, as lights are matched."""
    alike: defaultdict[tuple[str, str | None], list[LibraryMaster]] = defaultdict(list)
    labels = {}
    for master in masters:
        labels[master.record.name] = subject_of(master.key)
        if master.key.frame_type is FrameType.FLAT:
            telescope = telescope_identity(master.key.optics.telescope)
            alike[labels[master.record.name], telescope].append(master)
    for (subject, _), same in alike.items():
        for cluster in optics_clusters([master.key.optics for master in same], ROTATION_TOLERANCE_DEG):
            path = common_optics([same[index].key.optics for index in cluster])
            angle_deg = path.rotator_deg if path.rotator_deg is not None else path.sky_angle_deg
            words = [subject]
            words += [path.telescope.replace(",", " ")] if path.telescope else []
            words += [f"{path.focal_length_mm:g} mm"] if path.focal_length_mm is not None else []
            words += [f"{angle_deg:g} deg"] if angle_deg is not None else []
            labels |= {same[index].record.name: ", ".join(words) for index in cluster}
    return labels


def common_words(subjects: Sequence[str]) -> frozenset[str]:
    """Return the words that all subjects have, such as the camera: they are said once."""
    parts = [frozenset(subject.split(", ")[1:]) for subject in subjects]
    return frozenset.intersection(*parts) if len(set(subjects)) > 1 else frozenset()


def without_common(subject: str, common: frozenset[str]) -> str:
    """Return a subject without the words that all have; its first word stays."""
    first, *others = subject.split(", ")
    return ", ".join([first, *(word for word in others if word not in common)])


def write_page(path: str, page: str) -> None:
    """Write a page; one of an earlier run is replaced, any other file is not.

    Raises
    ------
    StorageError
        If the file is another one or cannot be written.
    """
    place = path_of(path)
    try:
        if is_taken(path) and _GENERATOR not in read_start(place, 4096):
            raise StorageError(f"{path}: exists and is no page of this program; choose another name")
        write_atomically(place, page.encode("utf-8", "replace"), durable=True)
    except OSError as error:
        raise StorageError(f"{path}: the page cannot be written: {os_reason(error)}; choose another place") from error


# ---- calendar and ages ----


@dataclass(frozen=True, kw_only=True)
class _Span:
    """The time that the calendar covers."""

    first: datetime
    last: datetime

    def place(self, when: datetime) -> float:
        """Return where a moment is, in percent of the width."""
        whole_s = max((self.last - self.first).total_seconds(), DAY_S)
        return round(1 + 98 * (when - self.first).total_seconds() / whole_s, 2)

    def ticks(self) -> tuple[Tick, ...]:
        """Return the beginnings of months, of quarters or of years."""
        days = (self.last - self.first).days
        if days < 62:
            step = max(1, -(-days // 6))
            moments = [self.first + timedelta(days=step * i) for i in range(days // step + 1)]
            return tuple(Tick(text=f"{m:%d %b}", place=self.place(m)) for m in moments)
        months = days / 30.4
        step = next((step for step in (1, 2, 3, 6, 12, 24, 60) if months / step <= _MOST_MONTHS / 2), 120)
        start, end = (moment.year * 12 + moment.month - 1 for moment in (self.first, self.last))
        numbers = range(start - start % step + step, end + 1, step)
        found = [datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in numbers]
        return tuple(Tick(text=f"{m:%b %Y}" if step < 12 else f"{m:%Y}", place=self.place(m)) for m in found)


def _taken_at(master: LibraryMaster) -> datetime | None:
    return master.record.observed.middle if master.record.observed is not None else None


def _rows(
    kind: FrameType,
    masters: Sequence[LibraryMaster],
    limit_days: float | None,
    span: _Span,
    now: datetime,
    names: Mapping[str, str],
    common: frozenset[str],
) -> Iterator[SubjectRow]:
    subjects: defaultdict[str, list[LibraryMaster]] = defaultdict(list)
    for master in masters:
        if master.key.frame_type is kind:
            subjects[names[master.record.name]].append(master)
    for subject, same in sorted(subjects.items(), key=lambda item: _order(item[1][0])):
        timed = sorted(((when, m) for m in same if (when := _taken_at(m)) is not None), key=lambda pair: pair[0])
        usable = [pair for pair in timed if pair[1].record.verdict != "fail"]
        when, newest = (usable or timed)[-1] if timed else (None, same[0])
        age_days = None if when is None else (now - when).total_seconds() / DAY_S
        yield SubjectRow(
            subject=without_common(subject, common),
            marks=tuple(
                Mark(place=span.place(moment), verdict=m.record.verdict or "none", text=_mark_text(moment.date(), m))
                for moment, m in timed
            ),
            count=len(same),
            newest=f"{when:%Y-%m-%d}" if when is not None else "not recorded",
            age=wording.DASH if age_days is None else f"{age_days:.0f} d",
            is_too_old=limit_days is not None and age_days is not None and age_days > limit_days,
            verdict=newest.record.verdict or "none",
            name=newest.record.name,
        )


def _order(master: LibraryMaster) -> tuple[object, ...]:
    key = master.key
    return (
        key.settings.camera_label or "",
        key.filter_name or "",
        key.exposure_time_s,
        key.settings.gain or 0.0,
        key.temperature_c or 0.0,
    )


def _mark_text(day: date, master: LibraryMaster) -> str:
    return f"{day.isoformat()}: {master.record.name}" + (f" ({master.record.verdict})" if master.record.verdict else "")


# ---- trends ----


def _trends(
    masters: Sequence[LibraryMaster], history: Sequence[HistoryEntry], names: Mapping[str, str], common: frozenset[str]
) -> list[Trend]:
    """Return the plots of what was measured; the time is that of the frames where it is known."""
    taken = {m.record.name: when for m in masters if (when := _taken_at(m)) is not None}
    newest = {entry.name: entry for entry in history}  # a master that was built again counts once
    points: defaultdict[tuple[str, str, str], list[HistoryPoint]] = defaultdict(list)
    of_camera: set[tuple[str, str, datetime, float]] = set()
    for entry in newest.values():
        for name, (value, unit) in entry.metrics.items():
            subject = names.get(entry.name, entry.subject)
            if name in OF_CAMERA:  # the masters of one run have it once, whatever their kind
                subject = _camera_of(entry.subject)
                if value is None or (name, subject, entry.made_at, value) in of_camera:
                    continue
                of_camera.add((name, subject, entry.made_at, value))
            if value is not None:
                when = taken.get(entry.name, entry.made_at)
                point = HistoryPoint(made_at=when, value=value, master=entry.name, outcome=entry.verdict)
                points[name, subject, unit].append(point)
    idents = (f"t{number}" for number in itertools.count(1))
    trends = []
    for name, title in TRENDS.items():
        found = [
            HistorySeries(
                subject=without_common(subject, common),
                key=key,
                label=title.partition(":")[0],
                unit=unit,
                points=tuple(sorted(some, key=lambda point: point.made_at)),
            )
            for (key, subject, unit), some in points.items()
            if key == name and len(some) > 1
        ]
        shown = sorted(found, key=lambda series: (-len(series.points), series.subject))[:MOST_TRENDS]
        if shown:
            drawn = tuple(_figure(series, next(idents)) for series in sorted(shown, key=lambda one: one.subject))
            trends.append(Trend(title=title, figures=drawn, left_out=len(found) - len(shown)))
    return trends


def _camera_of(subject: str) -> str:
    """Return the camera and its settings of a subject: without kind, exposure, filter, and temperature."""
    words = [word for word in subject.split(", ")[1:] if not re.fullmatch(r"-?\d+ C", word)]
    return ", ".join(["camera", *words])


def _figure(series: HistorySeries, ident: str) -> Figure:
    svg = Markup(draw(figures.history_plot(series), ident))
    return Figure(title=series.subject, caption=figures.history_caption(series), svg=svg)
