"""The report as one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.report import figures, wording
from ostcal.report.document import CameraReport, HistorySeries, MasterReport, Measure, Report
from ostcal.report.figures import E_UNIT
from ostcal.report.pictures import (
    DEFECT_COLOURS,
    CameraPictures,
    MasterPictures,
    Picture,
    ReportPictures,
    defects_uri,
    grey_uri,
    ramp_uri,
)
from ostcal.report.plots import Plot, draw
from ostcal.report.wording import (
    DASH,
    SPACE,
    celsius,
    count,
    number,
    percent,
    plural,
    seconds,
    span,
    times,
    when,
    with_unit,
)
from ostcal.report.wording import with_uncertainty as measured

MOST_FRAMES_SHOWN = 12
"""Outlying frames shown for one master, worst first; the table of frames names them all."""

MOST_INPUTS_SHOWN = 1000
"""Inputs named for one master; the JSON file names them all."""

COARSE_MAP = 240
"""Columns up to which a map is shown larger than it is."""

_HEADLINES_OF_ONE = {
    None: "The master was not checked",
    Outcome.PASS: "The master passed",
    Outcome.WARN: "The master has warnings",
    Outcome.FAIL: "The master failed",
}

_SEVERITY = {None: 0, Outcome.PASS: 0, Outcome.WARN: 1, Outcome.FAIL: 2}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot or a picture with its words."""

    title: str
    caption: str
    svg: Markup | None = None
    uri: str = ""
    alt: str = ""
    width: int = 0
    height: int = 0
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A name and its value in words."""

    name: str
    value: str
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class OutlyingFrame:
    """A frame that checks named."""

    label: str
    outcome: Outcome
    texts: tuple[str, ...]
    picture: Figure | None


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Findings of one check with one outcome, told as one: many frames may have the same fault."""

    outcome: Outcome
    check: str
    text: str
    """Of the first."""
    where: str
    """Its frame, and how many more there are."""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A row of the table of defects."""

    name: str
    colour: str
    pixels: str
    share: str


@dataclass(frozen=True, kw_only=True)
class MasterView:
    """A master as the page shows it."""

    ident: str
    title: str
    line: str
    master: MasterReport
    facts: tuple[Fact, ...]
    picture: Figure | None
    figures: tuple[Figure, ...]
    frame_figures: tuple[Figure, ...]
    outlying: tuple[OutlyingFrame, ...]
    outlying_left: int
    defect_maps: tuple[Figure, ...]
    defects: tuple[Defect, ...]
    notices: tuple[Notice, ...]
    n_notable: int
    passed: int
    provenance: tuple[Fact, ...]
    inputs_left: int

    @property
    def is_folded(self) -> bool:
        """Whether there is something to unfold."""
        master = self.master
        return any((master.frames, master.findings, self.provenance, master.provenance.inputs, master.provenance.cards))


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """A camera as the page shows it."""

    title: str
    facts: tuple[Fact, ...]
    figures: tuple[Figure, ...]
    notices: tuple[Notice, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HistoryView:
    """What is known of one subject over the runs."""

    subject: str
    figures: tuple[Figure, ...]
    single: tuple[Fact, ...]
    """Numbers that there is only one value of so far."""


def render(report: Report, pictures: ReportPictures, *, json_name: str = "") -> str:
    """Give the page of a report.

    Parameters
    ----------
    json_name : str
        File beside the page that holds the same numbers; empty: none.
    """
    idents = (f"p{i}" for i in itertools.count(1))
    masters = [
        _master_view(f"m{i}", master, pictures.masters.get(master.name, MasterPictures()), idents)
        for i, master in enumerate(report.masters, 1)
    ]
    cameras = [camera for camera in (report.camera, *report.other_cameras) if camera is not None]
    return _template().render(
        report=report,
        headline=_headline(report),
        masters=masters,
        ranked=sorted((view for view in masters if view.notices), key=lambda v: -_SEVERITY[v.master.verdict]),
        run_notices=_notices(report.findings, {}),
        cameras=[
            _camera_view(camera, maps or CameraPictures(), idents)
            for camera, maps in itertools.zip_longest(cameras, pictures.cameras[: len(cameras)])
        ],
        history=_history_views(report.history, idents),
        json_name=json_name,
        most_inputs=MOST_INPUTS_SHOWN,
    )


def _template() -> Template:
    room = resources.files("ostcal.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "when": when,
        "count": count,
        "percent": percent,
        "celsius": celsius,
        "seconds": seconds,
        "number": number,
        "breakable": breakable,
        "title_of_kind": wording.KIND_WORDS.__getitem__,
    }
    environment.globals |= {"with_unit": with_unit, "plural": plural, "DASH": DASH}
    environment.globals["style"] = Markup(room.joinpath("report.css").read_text(encoding="utf-8"))
    return environment.from_string(room.joinpath("report.html.j2").read_text(encoding="utf-8"))


def breakable(name: str) -> Markup:
    """Let a long name break after an underscore, a slash or a number sign."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/#])", name))


def _headline(report: Report) -> str:
    """Say in a sentence how the masters are."""
    verdicts = [master.verdict for master in report.masters]
    total = len(verdicts)
    if total < 2:
        return _HEADLINES_OF_ONE[verdicts[0]] if verdicts else "No masters"
    failed, warned, unchecked = (verdicts.count(word) for word in (Outcome.FAIL, Outcome.WARN, None))
    of_all = f"of {plural(total, 'master')}"
    parts = [f"{failed} {of_all} failed"] if failed else []
    if warned:
        parts.append(f"{warned} with warnings" if failed else f"{warned} {of_all} with warnings")
    if not parts:
        passed = total - unchecked
        parts.append(f"{passed} {of_all} passed" if unchecked else f"All {total} masters passed")
    return ", ".join([*parts, f"{unchecked} not checked"] if unchecked else parts)


# ---------------------------------------------------------------------------------------------------------------------
# A master


def _master_view(ident: str, master: MasterReport, pictures: MasterPictures, idents: Iterator[str]) -> MasterView:
    outlying = _outlying(master, pictures)
    title = wording.master_title(master)
    return MasterView(
        ident=ident,
        title=title,
        line=_settings_line(master),
        master=master,
        facts=tuple(_facts(master)),
        picture=_master_picture(pictures.picture, master, title),
        figures=tuple(_plots(figures.master_plots(master), idents)),
        defect_maps=tuple(_defect_figure(pictures.defect_map, master)),
        frame_figures=(
            *_plots(figures.frame_plots(master), idents),
            *_rejection_figure(pictures.rejection_map, master),
        ),
        outlying=tuple(outlying[:MOST_FRAMES_SHOWN]),
        outlying_left=max(0, len(outlying) - MOST_FRAMES_SHOWN),
        defects=_defects(master),
        notices=_notices(master.findings, {row.position: row.label for row in master.frames}),
        n_notable=len(_notable(master.findings)),
        passed=sum(finding.outcome is Outcome.PASS for finding in master.findings),
        provenance=tuple(_provenance(master)),
        inputs_left=max(0, len(master.provenance.inputs) - MOST_INPUTS_SHOWN),
    )


def _notable(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    found = [finding for finding in findings if finding.outcome is not Outcome.PASS]
    return tuple(sorted(found, key=lambda finding: -_SEVERITY[finding.outcome]))


def _notices(findings: Iterable[Finding], labels: Mapping[int, str]) -> tuple[Notice, ...]:
    """Give what is not a pass, the worst first; frames with the same fault are told together."""
    together: dict[tuple[str, Outcome, bool], list[Finding]] = {}
    for finding in _notable(findings):
        together.setdefault((finding.check, finding.outcome, finding.frame is not None), []).append(finding)
    return tuple(
        Notice(outcome=outcome, check=check, text=some[0].text, where=_where(some[0], len(some) - 1, labels))
        for (check, outcome, _), some in together.items()
    )


def _where(first: Finding, others: int, labels: Mapping[int, str]) -> str:
    place = "" if first.frame is None else labels.get(first.frame, f"frame {first.frame}")
    more = plural(others, "more frame" if place else "more finding")
    return " and ".join(part for part in (place, more if others else "") if part)


def _settings_line(master: MasterReport) -> str:
    settings = master.settings
    words = [
        settings.filter_name or "",
        seconds(settings.exposure_time_s) if master.kind is not FrameType.BIAS else "",
        celsius(settings.temperature_c),
        plural(master.n_frames, "frame").replace(" ", SPACE) if master.n_frames is not None else "",
    ]
    return " · ".join(word for word in words if word and word != DASH)


def _facts(master: MasterReport) -> Iterator[Fact]:
    """Give the numbers of a master that are known."""
    settings, numbers = master.settings, master.statistics
    found = [
        Fact(name="Frames", value=count(master.n_frames)),
        Fact(name="Exposure", value=seconds(settings.exposure_time_s)),
        Fact(name="Filter", value=settings.filter_name or DASH),
        Fact(name="Temperature", value=celsius(settings.temperature_c)),
    ]
    if numbers is not None:
        unit = numbers.unit
        found += [
            Fact(name="Median", value=with_unit(numbers.median, unit, 6)),
            Fact(name="Mean", value=with_unit(numbers.mean, unit, 6)),
            Fact(name="Spread of the pixels", value=with_unit(numbers.std, unit)),
            Fact(name="Lowest, highest", value=span(numbers.minimum, numbers.maximum, unit)),
            Fact(name="Noise of a pixel", value=with_unit(numbers.noise, unit, 3)),
            Fact(name="Samples rejected", value=percent(numbers.rejected_share)),
            Fact(name="Pixels without a value", value=count(numbers.empty_pixels)),
        ]
    found += [_measure(measure) for measure in master.measures]
    return (fact for fact in found if fact.value != DASH)


def _measure(measure: Measure) -> Fact:
    return Fact(name=measure.label, value=measured(measure.value, measure.uncertainty, measure.unit))


def _provenance(master: MasterReport) -> Iterator[Fact]:
    settings, made = master.settings, master.provenance
    found = [
        Fact(name="Files", value=", ".join(master.files) or DASH),
        Fact(name="Made", value=f"{when(master.made_at)} UTC" if master.made_at else DASH),
        Fact(name="Software", value=made.software or DASH),
        Fact(name="Method", value=made.method or DASH),
        Fact(name="Subtracted", value=made.dark or DASH),
        Fact(name="Normalisation", value=made.normalization or DASH),
        Fact(name="CALSTAT", value=made.calibration_status or DASH),
        Fact(name="Camera", value=settings.camera or DASH),
        Fact(name="Size", value=_size(settings.width, settings.height)),
        Fact(name="Binning", value=times(settings.binning)),
        Fact(name="Gain setting", value=number(settings.gain)),
        Fact(name="Offset setting", value=number(settings.offset)),
        Fact(name="Readout mode", value=settings.readout_mode or DASH),
        Fact(name="Bayer pattern", value=settings.bayer_pattern or DASH),
        Fact(name="Identity", value=made.calibration_id or DASH),
        Fact(name="Digest of the inputs", value=made.input_digest or DASH),
        Fact(name="Digest of the configuration", value=made.config_digest or DASH),
    ]
    return (fact for fact in found if fact.value != DASH)


def _size(width: int | None, height: int | None) -> str:
    return DASH if width is None or height is None else times((width, height)) + " pixels"


def _outlying(master: MasterReport, pictures: MasterPictures) -> list[OutlyingFrame]:
    """Give the frames that findings name, the worst first."""
    rows = {row.position: row for row in master.frames}
    named: dict[int, list[Finding]] = {}
    for finding in _notable(master.findings):
        if finding.frame is not None:
            named.setdefault(finding.frame, []).append(finding)
    found = []
    for position, findings in named.items():
        label = rows[position].label if position in rows else f"frame {position}"
        found.append(
            OutlyingFrame(
                label=label,
                outcome=findings[0].outcome,
                texts=tuple(finding.text for finding in findings),
                picture=_thumbnail(pictures.thumbnails.get(position), label),
            )
        )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Pictures and plots


def _plots(plots: Sequence[Plot], idents: Iterator[str]) -> list[Figure]:
    return [
        Figure(title=plot.title, caption=plot.description, svg=Markup(draw(plot, ident)))
        for plot, ident in zip(plots, idents, strict=False)
    ]


def _grey_words(picture: Picture) -> str:
    if picture.black is None or picture.white is None:
        return "Grey values without a scale."
    return f"Black is {span(picture.black, picture.white, picture.unit, between=', white ')}."


def _image(picture: Picture, uri: str, style: str, *, title: str, caption: str, alt: str = "") -> Figure:
    height, width = picture.pixels.shape
    alt = alt or f"{title}. {caption}"
    return Figure(title=title, caption=caption, uri=uri, alt=alt, width=width, height=height, style=style)


def _master_picture(picture: Picture | None, master: MasterReport, title: str) -> Figure | None:
    if picture is None:
        return None
    numbers = master.statistics
    median = f" Median {with_unit(numbers.median, numbers.unit, 5)}." if numbers and numbers.median is not None else ""
    caption = _grey_words(picture)
    alt = f"{title}, the whole frame. {caption}{median}"
    return _image(picture, grey_uri(picture.pixels), "picture", title="The master", caption=caption, alt=alt)


def _rejection_figure(picture: Picture | None, master: MasterReport) -> list[Figure]:
    if picture is None:
        return []
    share = master.statistics.rejected_share if master.statistics else None
    caption = figures.rejection_words(share, picture.white)
    return [_image(picture, ramp_uri(picture.pixels), _map_style(picture), title="Rejection map", caption=caption)]


def _defect_figure(picture: Picture | None, master: MasterReport) -> list[Figure]:
    if picture is None:
        return []
    words = ", ".join(f"{count(defect.pixels)} {defect.name}" for defect in master.defects if defect.pixels)
    caption = f"Pixels: {words}." if words else "0 pixels are marked."
    return [_image(picture, defects_uri(picture.pixels), _map_style(picture), title="Defect map", caption=caption)]


def _map_style(picture: Picture) -> str:
    """Give the class of a map: cells that are shown larger than they are stay squares."""
    return "map" if picture.pixels.shape[1] > COARSE_MAP else "map coarse"


def _thumbnail(picture: Picture | None, label: str) -> Figure | None:
    if picture is None:
        return None
    return _image(picture, grey_uri(picture.pixels), "thumb", title=label, caption=_grey_words(picture))


def _defects(master: MasterReport) -> tuple[Defect, ...]:
    return tuple(
        Defect(
            name=defect.name,
            colour=DEFECT_COLOURS[(max(defect.bit, 1).bit_length() - 1) % len(DEFECT_COLOURS)],
            pixels=count(defect.pixels),
            share=percent(defect.share),
        )
        for defect in master.defects
    )


# ---------------------------------------------------------------------------------------------------------------------
# The camera and the history


def _camera_view(camera: CameraReport, maps: CameraPictures, idents: Iterator[str]) -> CameraView:
    return CameraView(
        title=wording.camera_title(camera),
        facts=tuple(_camera_facts(camera)),
        figures=(*_plots(figures.camera_plots(camera), idents), *_camera_maps(maps)),
        notices=_notices(camera.findings, {}),
        notes=camera.notes,
    )


def _camera_maps(maps: CameraPictures) -> Iterator[Figure]:
    if maps.dark_current is not None:
        picture = maps.dark_current
        caption = f"Fit of the dark masters against exposure. {_grey_words(picture)}"
        yield _image(picture, grey_uri(picture.pixels), "picture", title="Dark current of the pixels", caption=caption)
    if maps.chi_square is not None:
        picture = maps.chi_square
        caption = f"Of that fit, per degree of freedom; 1 is noise alone. {_grey_words(picture)}"
        yield _image(picture, grey_uri(picture.pixels), "picture", title="Chi-square of the pixels", caption=caption)


def _camera_facts(camera: CameraReport) -> Iterator[Fact]:
    """Give the table of properties: name, value, and the same in ADU."""
    warmth = f" at {celsius(camera.temperature_c)}" if camera.temperature_c is not None else ""
    found = [
        _property(camera, "Gain", "gain_e_per_adu", f"{E_UNIT}/ADU"),
        _property(camera, "Read noise", "read_noise_e", E_UNIT, "read_noise_adu", "ADU"),
        _property(camera, "Read noise, from the spread of pixels", "", "", "read_noise_spread_adu", "ADU"),
        _property(
            camera, f"Dark current{warmth}", "dark_current_e_per_s", f"{E_UNIT}/s", "dark_current_adu_per_s", "ADU/s"
        ),
        _property(camera, "Full well", "full_well_e", E_UNIT, "full_well_adu", "ADU"),
        _property(camera, "Linear within", "linearity_percent", "%"),
        _property(camera, "Bias level", "", "", "bias_level_adu", "ADU"),
        _property(camera, "Saturation", "", "", "saturation_adu", "ADU"),
        _property(camera, "Step of the converter", "", "", "step_adu", "ADU"),
        Fact(name="Bits used", value=count(camera.bits_used)),
        *(_measure(measure) for measure in camera.measures),
    ]
    return (fact for fact in found if {fact.value, fact.other} - {DASH, ""})


def _property(camera: CameraReport, name: str, key: str, unit: str, adu_key: str = "", adu_unit: str = "") -> Fact:
    """Give a row of the table; where a property was not measured, the reason stands for its value."""
    reason = next((entry.value for entry in camera.reasons if entry.name == key), "")
    value = _of_camera(camera, key, unit)
    return Fact(
        name=name,
        value=f"not measured: {reason}" if value == DASH and reason else value,
        other=_of_camera(camera, adu_key, adu_unit),
    )


def _of_camera(camera: CameraReport, key: str, unit: str) -> str:
    if not key:
        return DASH
    return measured(getattr(camera, key), getattr(camera, f"{key}_uncertainty", None), unit)


def _history_views(history: Sequence[HistorySeries], idents: Iterator[str]) -> list[HistoryView]:
    subjects = dict.fromkeys(series.subject for series in history)
    return [_history_view(subject, [s for s in history if s.subject == subject], idents) for subject in subjects]


def _history_view(subject: str, history: Sequence[HistorySeries], idents: Iterator[str]) -> HistoryView:
    drawn = [s for s in history if sum(point.value is not None for point in s.points) > 1]
    plots = _plots([figures.history_plot(series) for series in drawn], idents)
    return HistoryView(
        subject=subject,
        figures=tuple(
            Figure(title=series.label, caption=figures.history_caption(series), svg=plot.svg)
            for series, plot in zip(drawn, plots, strict=True)
        ),
        single=tuple(
            Fact(name=series.label, value=with_unit(point.value, series.unit), other=when(point.made_at))
            for series in history
            if series not in drawn
            for point in series.points[-1:]
        ),
    )
