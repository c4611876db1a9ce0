"""The report as one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ostcal.report import wording
from ostcal.report.document import MasterReport, Report, flagged_frames_of
from ostcal.report.history_views import history_views, is_drawn
from ostcal.report.json_lines import json_of_item
from ostcal.report.png import CameraPictures, MasterPictures, ReportPictures, defect_colour
from ostcal.report.set_aside import Place, TextsAside
from ostcal.report.views import (
    MOST_INPUTS_SHOWN,
    SEVERITY,
    MasterOutline,
    camera_view,
    master_view,
    notices_of,
    outline_of,
)

_BETWEEN = "\0"
"""Between texts of JSON that are set aside together; it is in none of them."""


class MastersOfPage:
    """Takes the masters of a report one after the other.

    What the top of the page and the document say of each is kept; its section of the page, and what is said of it in
    the JSON file, are set aside as text.

    Parameters
    ----------
    aside : TextsAside
    """

    def __init__(self, aside: TextsAside) -> None:
        self.outlines: list[MasterOutline] = []
        self._aside = aside
        self._environment = _environment()
        self._section = self._environment.get_template("master.html.j2")
        self._idents = (f"p{i}" for i in itertools.count(1))
        self._sections: list[Place] = []
        self._values: list[Place] = []
        self._flagged: list[Place] = []

    def add(self, master: MasterReport, pictures: MasterPictures) -> None:
        """Take a master with its pictures."""
        view = master_view(f"m{len(self.outlines) + 1}", master, pictures, self._idents)
        section = self._section.render(view=view, most_inputs=MOST_INPUTS_SHOWN)
        self._sections.append(self._aside.put(section))
        self._values.append(self._aside.put(json_of_item(master)))
        flagged = map(json_of_item, flagged_frames_of(master))
        self._flagged.append(self._aside.put(_BETWEEN.join(flagged)))
        self.outlines.append(outline_of(view))

    def page_parts(
        self, report: Report, cameras: Sequence[CameraPictures] = (), *, json_name: str = ""
    ) -> Iterator[str]:
        """Yield the page of a report in parts; its masters are those that were taken.

        The file `json_name` beside it holds the same numbers, if there is one.
        """
        outlines, idents = self.outlines, self._idents
        shown = [camera for camera in (report.camera, *report.other_cameras) if camera is not None]
        views = [
            camera_view(camera, maps or CameraPictures(), idents, is_first=i == 0)
            for i, (camera, maps) in enumerate(itertools.zip_longest(shown, cameras[: len(shown)]))
        ]
        yield from self._environment.get_template("report.html.j2").generate(
            report=report,
            headline=wording.headline(report),
            masters=outlines,
            sections=(Markup(self._aside.text(place)) for place in self._sections),
            ranked=sorted((one for one in outlines if one.notices), key=lambda one: -SEVERITY[one.master.verdict]),
            run_notices=notices_of(report.findings, {}),
            cameras=views,
            has_history=any(map(is_drawn, report.history)),
            history=history_views(report.history, idents),
            json_name=json_name,
        )

    def json_parts(self, report: Report) -> Iterator[str]:
        """Yield the text of the JSON file of a report in parts."""
        flagged = (self._aside.text(place) for place in self._flagged)
        yield from report.json_parts(
            masters=map(self._aside.text, self._values),
            flagged_frames=(item for text in flagged if text for item in text.split(_BETWEEN)),
        )


def render(report: Report, pictures: ReportPictures, *, json_name: str = "") -> str:
    """Return the page of a report; the file `json_name` beside it holds the same numbers, if there is one."""
    with TextsAside(None) as aside:
        masters = MastersOfPage(aside)
        for master in report.masters:
            masters.add(master, pictures.masters.get(master.name, MasterPictures()))
        return "".join(masters.page_parts(report, pictures.cameras, json_name=json_name))


def _environment() -> Environment:
    room = resources.files("ostcal.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: room.joinpath(name).read_text(encoding="utf-8")),
        finalize=wording.shown,
    )
    environment.filters |= {
        "when": wording.when,
        "count": wording.count,
        "percent": wording.percent,
        "celsius": wording.celsius,
        "seconds": wording.seconds,
        "number": wording.number,
        "breakable": breakable,
        "defect_colour": defect_colour,
        "title_of_kind": wording.KIND_WORDS.__getitem__,
    }
    environment.globals |= {"with_unit": wording.with_unit, "plural": wording.plural, "DASH": wording.DASH}
    environment.globals["style"] = Markup(room.joinpath("report.css").read_text(encoding="utf-8"))
    return environment


def breakable(name: str) -> Markup:
    """Let a long name break after an underscore, a slash or a number sign."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/#])", name))
