"""What the page shows of masters and cameras: every number in words, every picture as a data URI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ostcal.measure.findings import Finding, Outcome
from ostcal.report import figures, wording
from ostcal.report.document import CameraReport, DefectCount, FrameRow, MasterReport, Measure
from ostcal.report.figures import E_UNIT
from ostcal.report.plots import Plot, draw
from ostcal.report.png import (
    CameraPictures,
    Crop,
    MasterPictures,
    Picture,
    defects_uri,
    grey_uri,
    ramp_uri,
)
from ostcal.report.wording import (
    DASH,
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

MOST_WORST_SHOWN = 8
"""Pixels of the table of a master; the JSON file names more, and the lists all."""

_LISTS = {
    ".csv": "CSV",
    ".lst": "Siril (cosme)",
    ".txt": "PixInsight (CosmeticCorrection)",
    ".fits": "FITS table",
}

COARSE_MAP = 240
"""Columns up to which a map is shown larger than it is."""

SEVERITY = {None: 0, Outcome.PASS: 0, Outcome.WARN: 1, Outcome.FAIL: 2}


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
class FindingGroup:
    """Findings of one check with one outcome: many frames may have the same fault."""

    outcome: Outcome
    check: str
    text: str
    """Of the first."""
    where: str
    """Its frame, and how many more there are."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its title, and what each row says."""

    title: str
    cells: tuple[str, ...]


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
    frame_columns: tuple[Column, ...]
    """Of the table of frames: those of which something is known."""
    outlying: tuple[OutlyingFrame, ...]
    outlying_left: int
    defect_maps: tuple[Figure, ...]
    brightest: tuple[Figure, ...]
    """The hottest pixels, one crop each."""
    worst_pixels: tuple[tuple[str, str, str, str], ...]
    """Row and column, kind, value and difference."""
    lists: tuple[Fact, ...]
    """What each list is for, and its file."""
    marked: tuple[DefectCount, ...]
    """Kinds of defects that the master has."""
    notices: tuple[FindingGroup, ...]
    n_notable: int
    passed: int
    provenance: tuple[Fact, ...]
    inputs_left: int

    @property
    def is_open(self) -> bool:
        """Return whether the master is shown unfolded: it has something to be looked at, or was never checked.

        That it has few frames is said in its line of the verdicts, and there is nothing to look at.
        """
        notable = {finding.check for finding in self.master.findings if finding.outcome is not Outcome.PASS}
        is_few_only = self.master.verdict is Outcome.WARN and notable == {"frames"}
        return not (self.master.verdict is Outcome.PASS or is_few_only)

    @property
    def has_details(self) -> bool:
        """Return whether there are details to unfold."""
        master = self.master
        return any((master.frames, master.findings, self.provenance, master.provenance.inputs, master.provenance.cards))


@dataclass(frozen=True, kw_only=True)
class MasterOutline:
    """What the top of the page says of a master."""

    ident: str
    title: str
    line: str
    master: MasterReport
    """Without what only its section says."""
    notices: tuple[FindingGroup, ...]
    n_notable: int
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """A camera as the page shows it."""

    title: str
    facts: tuple[Fact, ...]
    figures: tuple[Figure, ...]
    notices: tuple[FindingGroup, ...]
    notes: tuple[str, ...]
    is_folded: bool
    """Of the settings after the first, those without findings."""


def master_view(ident: str, master: MasterReport, pictures: MasterPictures, idents: Iterator[str]) -> MasterView:
    """Return a master as the page shows it; `ident` is the id of its section, `idents` gives ids for its plots."""
    outlying = _outlying_frames(master, pictures)
    title = wording.master_title(master)
    plots = drawn_plots(figures.master_plots(master), idents)
    frame_figures = drawn_plots(figures.frame_plots(master), idents)
    rejected = pictures.rejection_map
    if rejected is not None and rejected.pixels.any():
        share = master.statistics.rejected_share if master.statistics else None
        caption = figures.rejection_words(share, rejected.white)
        frame_figures.append(_map(rejected, ramp_uri(rejected.pixels), title="Rejection map", caption=caption))
    marked = tuple(defect for defect in master.defects if defect.pixels)
    picture = None
    if pictures.picture is not None:
        numbers = master.statistics
        median = (
            f" Median {with_unit(numbers.median, numbers.unit, 5)}." if numbers and numbers.median is not None else ""
        )
        caption = _grey_words(pictures.picture)
        alt = f"{title}, the whole frame. {caption}{median}"
        picture = _grey(pictures.picture, "picture", title="The master", caption=caption, alt=alt)
    return MasterView(
        ident=ident,
        title=title,
        line=wording.master_line(master),
        master=master,
        facts=_master_facts(master),
        picture=picture,
        figures=tuple(plots),
        defect_maps=tuple(_defect_figures(pictures, marked)),
        brightest=tuple(map(_brightest, pictures.brightest)),
        worst_pixels=_worst_pixels(master),
        lists=tuple(
            Fact(name=_LISTS[ending], value=name)
            for name in master.defect_lists
            for ending in _LISTS
            if name.endswith(ending)
        ),
        marked=marked,
        frame_figures=tuple(frame_figures),
        frame_columns=_frame_columns(master.frames),
        outlying=tuple(outlying[:MOST_FRAMES_SHOWN]),
        outlying_left=max(0, len(outlying) - MOST_FRAMES_SHOWN),
        notices=notices_of(master.findings, {row.position: row.label for row in master.frames}),
        n_notable=len(_notable(master.findings)),
        passed=sum(finding.outcome is Outcome.PASS for finding in master.findings),
        provenance=_provenance_facts(master),
        inputs_left=max(0, len(master.provenance.inputs) - MOST_INPUTS_SHOWN),
    )


def outline_of(view: MasterView) -> MasterOutline:
    """Return what the top of the page says of a master."""
    return MasterOutline(
        ident=view.ident,
        title=view.title,
        line=view.line,
        master=view.master.outline,
        notices=view.notices,
        n_notable=view.n_notable,
        is_open=view.is_open,
    )


def _notable(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are not a pass, the worst first."""
    found = [finding for finding in findings if finding.outcome is not Outcome.PASS]
    return sorted(found, key=lambda finding: -SEVERITY[finding.outcome])


def notices_of(findings: Iterable[Finding], labels: Mapping[int, str]) -> tuple[FindingGroup, ...]:
    """Return what is not a pass, the worst first; frames with the same fault share a notice.

    `labels` is what the page calls the frames, by their position in the master.
    """
    together: dict[tuple[str, Outcome, bool], list[Finding]] = {}
    for finding in _notable(findings):
        together.setdefault((finding.check, finding.outcome, finding.frame is not None), []).append(finding)
    notices = []
    for (check, outcome, _), (first, *others) in together.items():
        place = "" if first.frame is None else labels.get(first.frame, f"frame {first.frame}")
        more = plural(len(others), "more frame" if place else "more finding") if others else ""
        where = " and ".join(part for part in (place, more) if part)
        notices.append(FindingGroup(outcome=outcome, check=check, text=first.text, where=where))
    return tuple(notices)


def _master_facts(master: MasterReport) -> tuple[Fact, ...]:
    """Return the numbers of a master that are known."""
    settings, numbers = master.settings, master.statistics
    facts = {
        "Frames": count(master.n_frames),
        "Exposure": seconds(settings.exposure_time_s),
        "Filter": settings.filter_name,
        "Temperature": celsius(settings.temperature_c),
    }
    if numbers is not None:
        unit = numbers.unit
        facts |= {
            "Median": with_unit(numbers.median, unit, 6),
            "Mean": with_unit(numbers.mean, unit, 6),
            "Spread of the pixels": with_unit(numbers.std, unit),
            "Lowest, highest": span(numbers.minimum, numbers.maximum, unit),
            "Noise of a pixel": with_unit(numbers.noise, unit, 3),
            "Samples rejected": percent(numbers.rejected_share) if numbers.rejected_share else None,
            "Pixels without a value": count(numbers.empty_pixels) if numbers.empty_pixels else None,
        }
    if master.defects and not any(defect.pixels for defect in master.defects):
        facts["Defects"] = "none"
    return (*_known(facts.items()), *_known(map(_in_words, master.measures)))


def _in_words(measure: Measure) -> tuple[str, str]:
    return measure.label, measured(measure.value, measure.uncertainty, measure.unit)


def _known(facts: Iterable[tuple[str, str | None]]) -> tuple[Fact, ...]:
    """Return those facts, a name and a value each, that have a value."""
    return tuple(Fact(name=name, value=value) for name, value in facts if value and value != DASH)


def _provenance_facts(master: MasterReport) -> tuple[Fact, ...]:
    settings, made = master.settings, master.provenance
    size = None if settings.width is None or settings.height is None else (settings.width, settings.height)
    facts = {
        "Files": ", ".join(master.files),
        "Made": f"{when(master.made_at)} UTC" if master.made_at else None,
        "Software": made.software,
        "Method": made.method,
        "Subtracted": made.dark,
        "Normalisation": made.normalization,
        "CALSTAT": made.calibration_status,
        "Camera": settings.camera,
        "Size": f"{times(size)} pixels" if size else None,
        "Binning": times(settings.binning),
        "Gain setting": number(settings.gain),
        "Offset setting": number(settings.offset),
        "Readout mode": settings.readout_mode,
        "Bayer pattern": settings.bayer_pattern,
        "Identity": made.calibration_id,
        "Digest of the inputs": made.input_digest,
        "Digest of the configuration": made.config_digest,
    }
    return _known(facts.items())


def _frame_columns(rows: Sequence[FrameRow]) -> tuple[Column, ...]:
    """Return the columns of the table of frames that say something: all but those without a value."""
    columns = {
        "Mean": [number(row.level_adu, 6) for row in rows],
        "Spread": [number(row.std_adu) for row in rows],
        "Lowest": [number(row.minimum_adu, 5) for row in rows],
        "Highest": [number(row.maximum_adu, 5) for row in rows],
        "Saturated": [count(row.saturated) for row in rows],
        "Rejected": [percent(row.rejected_share) for row in rows],
        "Sensor": [celsius(row.ccd_temperature_c) for row in rows],
        "Exposure": [seconds(row.exposure_time_s) for row in rows],
        "Start (UTC)": [when(row.date_obs) for row in rows],
    }
    return tuple(
        Column(title=title, cells=tuple(cells))
        for title, cells in columns.items()
        if set(cells) - ({DASH, "0"} if title == "Saturated" else {DASH})
    )


def _outlying_frames(master: MasterReport, pictures: MasterPictures) -> list[OutlyingFrame]:
    """Return the frames that findings name, the worst first."""
    labels = {row.position: row.label for row in master.frames}
    named: dict[int, list[Finding]] = {}
    for finding in _notable(master.findings):
        if finding.frame is not None:
            named.setdefault(finding.frame, []).append(finding)
    found = []
    for position, findings in named.items():
        label = labels.get(position, f"frame {position}")
        picture = pictures.thumbnails.get(position)
        found.append(
            OutlyingFrame(
                label=label,
                outcome=findings[0].outcome,
                texts=tuple(finding.text for finding in findings),
                picture=_grey(picture, "thumb", title=label, caption=_grey_words(picture)) if picture else None,
            )
        )
    return found


def _defect_figures(pictures: MasterPictures, marked: Sequence[DefectCount]) -> Iterator[Figure]:
    """Yield the map of the defects, if there are any, and the worst part of the master."""
    if pictures.defect_map is not None and pictures.defect_map.pixels.any():
        words = ", ".join(f"{count(defect.pixels)} {defect.name}" for defect in marked)
        caption = f"Pixels: {words}." if words else "1 pixel or more is marked."
        yield _map(pictures.defect_map, defects_uri(pictures.defect_map.pixels), title="Defect map", caption=caption)
    if (worst := pictures.worst_part) is not None:
        height, width = worst.picture.pixels.shape
        caption = (
            f"Of all squares of {times((width, height))} pixels that with most marked ones; its first is at row"
            f" {worst.row}, column {worst.column}. {_grey_words(worst.picture)}"
        )
        yield _grey(worst.picture, "crop", title="Worst part, pixel for pixel", caption=caption)


def _brightest(crop: Crop) -> Figure:
    caption = f"Row {crop.row}, column {crop.column}: {with_unit(crop.value, crop.picture.unit, 5)}"
    return _grey(crop.picture, "crop", title="", caption=caption, alt=caption)


def _worst_pixels(master: MasterReport) -> tuple[tuple[str, str, str, str], ...]:
    unit = master.statistics.unit if master.statistics else ""
    return tuple(
        (
            f"{pixel.row}, {pixel.column}",
            ", ".join(pixel.kinds),
            with_unit(pixel.value, unit, 5),
            with_unit(pixel.difference, unit),
        )
        for pixel in master.worst_pixels[:MOST_WORST_SHOWN]
    )


def drawn_plots(plots: Sequence[Plot], idents: Iterator[str]) -> list[Figure]:
    """Draw plots; `idents` gives their ids."""
    return [Figure(title=plot.title, caption=plot.description, svg=Markup(draw(plot, next(idents)))) for plot in plots]


def _image(picture: Picture, uri: str, style: str, *, title: str, caption: str, alt: str = "") -> Figure:
    height, width = picture.pixels.shape
    alt = alt or f"{title}. {caption}"
    return Figure(title=title, caption=caption, uri=uri, alt=alt, width=width, height=height, style=style)


def _grey(picture: Picture, style: str, *, title: str, caption: str, alt: str = "") -> Figure:
    return _image(picture, grey_uri(picture.pixels), style, title=title, caption=caption, alt=alt)


def _map(picture: Picture, uri: str, *, title: str, caption: str) -> Figure:
    """Return a map; cells of a coarse one are shown larger than they are, and stay squares."""
    style = "map" if picture.pixels.shape[1] > COARSE_MAP else "map coarse"
    return _image(picture, uri, style, title=title, caption=caption)


def _grey_words(picture: Picture) -> str:
    if picture.black is None or picture.white is None:
        return "Grey values without a scale."
    return f"Black is {span(picture.black, picture.white, picture.unit, between=', white ')}."


def camera_view(
    camera: CameraReport, maps: CameraPictures, idents: Iterator[str], *, is_first: bool = True
) -> CameraView:
    """Return a camera at one setting as the page shows it; `idents` gives ids for its plots."""
    plots = drawn_plots(figures.camera_plots(camera), idents)
    if (picture := maps.dark_current) is not None:
        caption = f"Fit of the dark masters against exposure. {_grey_words(picture)}"
        plots.append(_grey(picture, "picture", title="Dark current of the pixels", caption=caption))
    if (picture := maps.chi_square) is not None:
        caption = f"Of that fit, per degree of freedom; 1 is noise alone. {_grey_words(picture)}"
        plots.append(_grey(picture, "picture", title="Chi-square of the pixels", caption=caption))
    warmth = f" at {celsius(camera.temperature_c)}" if camera.temperature_c is not None else ""
    rows = [
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
    ]
    return CameraView(
        title=wording.camera_title(camera),
        facts=(
            *(row for row in rows if {row.value, row.other} - {DASH, ""}),
            *_known([("Bits used", count(camera.bits_used)), *map(_in_words, camera.measures)]),
        ),
        figures=tuple(plots),
        notices=(notices := notices_of(camera.findings, {})),
        notes=camera.notes,
        is_folded=not is_first and not notices,
    )


def _property(camera: CameraReport, name: str, key: str, unit: str, adu_key: str = "", adu_unit: str = "") -> Fact:
    """Return a row of the table; if a property was not measured, its value is the reason."""
    value, in_adu = (
        measured(getattr(camera, one), getattr(camera, f"{one}_uncertainty", None), its_unit) if one else DASH
        for one, its_unit in ((key, unit), (adu_key, adu_unit))
    )
    reason = next((entry.value for entry in camera.reasons if entry.name == key), "")
    return Fact(name=name, value=f"not measured: {reason}" if value == DASH and reason else value, other=in_adu)
