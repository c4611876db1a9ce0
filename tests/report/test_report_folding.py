"""What of a report is folded, in which order its parts stand, and what is left out because there is nothing of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.report.document import (
    DefectCount,
    FrameRow,
    HistogramData,
    MasterReport,
    MasterSettings,
    Profile,
    Report,
)
from ostcal.report.master_section import without_gaps
from ostcal.report.page import render
from ostcal.report.png import ReportPictures
from ostcal.report.wording import title_of
from support.report_samples import WHEN, full_camera, full_master, full_pictures, full_report


def page_of(report: Report, pictures: ReportPictures | None = None) -> str:
    return render(report, pictures or full_pictures(report), json_name="report_20261121_190215.json")


def masters_of(text: str) -> list[str]:
    return re.findall(r'<section class="master".*?</section>', text, re.DOTALL)


def few_frames() -> Finding:
    text = "6 frames (at least 20 are advised)"
    return Finding(check="frames", outcome=Outcome.WARN, value=6.0, limit=20.0, unit="frames", text=text)


@pytest.mark.parametrize("verdict", [Outcome.WARN, Outcome.FAIL])
def test_few_frames_alone_unfold_no_master(verdict: Outcome) -> None:
    few = replace(full_master(FrameType.DARK, verdict, 1), findings=(few_frames(),))
    noisy = replace(few, findings=(few_frames(), replace(few_frames(), check="noise")))
    shown = masters_of(page_of(full_report((few, noisy))))
    assert ["<details open>" in one for one in shown] == [verdict is Outcome.FAIL, True]


def test_masters_of_few_frames_are_told_of_together() -> None:
    few = [replace(full_master(FrameType.DARK, Outcome.WARN, n), findings=(few_frames(),)) for n in range(1, 7)]
    text = page_of(full_report((*few, full_master(FrameType.FLAT, Outcome.WARN, 7))))
    summary = text[: text.index('<section class="master"')]
    assert summary.count("6 frames (at least 20 are advised)") == 1
    (also,) = re.findall(r"Few frames also:(.*?)</p>", summary, re.DOTALL)
    assert re.findall(r'href="#(m\d)"', also) == ["m2", "m3", "m4", "m5", "m6"]
    assert '<h4><a href="#m7">' in summary


def test_masters_that_passed_are_folded_and_all_others_are_open() -> None:
    masters = (
        full_master(FrameType.BIAS, Outcome.PASS, 1),
        full_master(FrameType.DARK, Outcome.WARN, 2),
        full_master(FrameType.DARK, Outcome.FAIL, 3),
        replace(full_master(FrameType.FLAT, Outcome.PASS, 4), verdict=None),
    )
    shown = masters_of(page_of(full_report(masters)))
    assert ["<details open>" in one for one in shown] == [False, True, True, True]
    for at, one in enumerate(shown, 1):
        # The target of links is within what is folded, so that a browser unfolds it; the heading is outside.
        summary, body = re.search(r"<summary>(.*?)</summary>(.*)", one, re.DOTALL).groups()  # type: ignore[union-attr]
        assert f'id="m{at}"' in body
        assert "<h2" in summary
        assert f"#i-{masters[at - 1].verdict or 'none'}" in summary


def test_verdicts_come_first_then_the_camera_then_the_masters() -> None:
    text = page_of(full_report())
    places = [text.index(mark) for mark in ('id="summary"', 'id="camera"', 'id="m1"', 'id="m3"', 'id="history"')]
    assert places == sorted(places)


def test_further_settings_of_the_camera_are_folded_unless_something_was_found() -> None:
    quiet = replace(full_camera(), gain_setting=200.0, findings=())
    report = replace(full_report(), camera=quiet, other_cameras=(replace(quiet, gain_setting=300.0), full_camera()))
    camera = page_of(report).split('id="camera-h"')[1].split("</section>")[0]
    folded = re.findall(r"<details.*?</details>", camera, re.DOTALL)
    assert len(folded) == 1
    assert "gain 300" in folded[0]


def test_a_master_without_defects_has_neither_a_map_nor_a_table_of_them() -> None:
    clean = tuple(DefectCount(name=name, bit=bit, pixels=0, share=0.0) for name, bit in (("hot", 1), ("cold", 2)))
    report = full_report((replace(full_master(), defects=clean),))
    pictures = full_pictures(report)
    only = pictures.masters[report.masters[0].name]
    assert only.defect_map is not None
    only.defect_map.pixels[:] = 0
    text = page_of(report, pictures)
    assert "<h3>Defects</h3>" not in text
    assert "Defect map" not in text
    assert "<dt>Defects</dt><dd>none</dd>" in text
    mixed = replace(full_master(), defects=(clean[0], DefectCount(name="dead", bit=4, pixels=7, share=1e-6)))
    (table,) = re.findall(r"<caption>Pixels marked.*?</table>", page_of(full_report((mixed,))), re.DOTALL)
    assert re.findall(r"</svg>(\w+)</th>", table) == ["dead"]


def test_columns_and_plots_without_a_value_are_left_out() -> None:
    row = FrameRow(position=0, label="dark_0.fits", level_adu=500.0, saturated=0, rejected_share=0.0)
    bare = MasterReport(name="a", kind=FrameType.DARK, verdict=Outcome.PASS, frames=(row, replace(row, position=1)))
    text = page_of(Report(made_at=WHEN, software="ostcal", masters=(bare,)), ReportPictures())
    (frames,) = re.findall(r"<caption>Frames, levels.*?</thead>", text, re.DOTALL)
    assert re.findall(r">([\w ().]+)</th>", frames) == ["No.", "Frame", "Verdict", "Mean", "Rejected"]
    (summary,) = re.findall(r'<table class="summary">.*?</thead>', text, re.DOTALL)
    assert re.findall(r">(\w+)</th>", summary) == ["Verdict", "Master", "Exposure", "Frames"]
    assert "Samples rejected by frame" not in text


def test_the_profile_of_a_single_row_is_left_out() -> None:
    profile = Profile(start=0, step=1, values=(500.0, 501.0), unit="ADU")
    line = MasterReport(
        name="a",
        kind=FrameType.BIAS,
        verdict=Outcome.PASS,
        row_profile=replace(profile, values=(500.5,)),
        column_profile=profile,
    )
    text = page_of(Report(made_at=WHEN, software="ostcal", masters=(line,)), ReportPictures())
    assert "Column profile" in text
    assert "Row profile" not in text


def test_after_one_run_nothing_is_shown_over_time() -> None:
    series = replace(full_report().history[0], points=full_report().history[0].points[-1:])
    assert 'id="history"' not in page_of(replace(full_report(), history=(series,)))
    folded = page_of(full_report()).split('id="history"')[1]
    assert folded.index("<details>") < folded.index("<svg")


def test_bins_of_frames_are_as_wide_as_the_steps_of_the_converter() -> None:
    samples = HistogramData(start=400.0, step=1.0, counts=(0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3))
    joined = without_gaps(samples)
    assert joined == HistogramData(start=400.0, step=4.0, counts=(5, 9, 0, 3))
    assert joined.start + joined.step / 2 == 402.0  # the lowest sample
    for whole in (
        HistogramData(start=0.0, step=1.0, counts=(3, 4, 0, 1)),
        HistogramData(start=0.0, step=1.0, counts=()),
    ):
        assert without_gaps(whole) == whole


def of_night(camera: str | None, night: date | None) -> MasterReport:
    return MasterReport(name="a", kind=FrameType.DARK, settings=MasterSettings(camera=camera), night=night)


@pytest.mark.parametrize(
    ("masters", "title"),
    [
        ([("QHY600M", date(2026, 11, 30))] * 2, "QHY600M, night of 2026-11-30"),
        (
            [("QHY600M", date(2026, 11, 30)), ("QHY600M", date(2026, 11, 21)), ("QHY600M", None)],
            "QHY600M, nights of 2026-11-21 to 2026-11-30",
        ),
        ([("A", date(2026, 11, 30)), ("B", date(2026, 11, 30))], "A and B, night of 2026-11-30"),
        ([(name, None) for name in "ABC"], "3 cameras"),
        ([(None, date(2026, 11, 30))], "night of 2026-11-30"),
        ([(None, None)], "Calibration masters"),
    ],
)
def test_the_title_names_cameras_and_nights(masters: list[tuple[str | None, date | None]], title: str) -> None:
    assert title_of([of_night(*one) for one in masters]) == title


def test_the_title_of_the_page_is_that_of_the_report_and_its_verdict() -> None:
    text = page_of(replace(full_report(), title="QHY600M, night of 2026-11-30"))
    assert "<title>QHY600M, night of 2026-11-30: 1 of 3 masters failed, 1 with warnings</title>" in text
    assert "<h1>QHY600M, night of 2026-11-30</h1>" in text
