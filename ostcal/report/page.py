"""The report as one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import itertools
import re
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ostcal.report import wording
from ostcal.report.document import Report
from ostcal.report.png import CameraPictures, MasterPictures, ReportPictures, defect_colour
from ostcal.report.views import MOST_INPUTS_SHOWN, SEVERITY, camera_view, history_views, master_view, notices_of


def render(report: Report, pictures: ReportPictures, *, json_name: str = "") -> str:
    """Return the page of a report; the file `json_name` beside it holds the same numbers, if there is one."""
    idents = (f"p{i}" for i in itertools.count(1))
    masters = [
        master_view(f"m{i}", master, pictures.masters.get(master.name, MasterPictures()), idents)
        for i, master in enumerate(report.masters, 1)
    ]
    cameras = [camera for camera in (report.camera, *report.other_cameras) if camera is not None]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = wording.shown
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
    room = resources.files("ostcal.report")
    environment.globals["style"] = Markup(room.joinpath("report.css").read_text(encoding="utf-8"))
    template = environment.from_string(room.joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        headline=wording.headline(report),
        masters=masters,
        ranked=sorted((view for view in masters if view.notices), key=lambda v: -SEVERITY[v.master.verdict]),
        run_notices=notices_of(report.findings, {}),
        cameras=[
            camera_view(camera, maps or CameraPictures(), idents, is_first=i == 0)
            for i, (camera, maps) in enumerate(itertools.zip_longest(cameras, pictures.cameras[: len(cameras)]))
        ],
        history=history_views(report.history, idents),
        json_name=json_name,
        most_inputs=MOST_INPUTS_SHOWN,
    )


def breakable(name: str) -> Markup:
    """Let a long name break after an underscore, a slash or a number sign."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/#])", name))
