"""The nights on the page of a library: verdicts, and links to the report about the masters of each."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane
from ostcal.report.library_page import NIGHTS_SHOWN, render_library
from ostcal.report.nights import NightRow, link_from, night_rows
from support import night as n
from support.night import Night

EVENING = datetime(2026, 11, 28, 21, tzinfo=UTC)


def master(
    kind: FrameType,
    taken: datetime | None,
    made: datetime,
    verdict: str | None = "pass",
    folder: str = "masters",
    noon_utc_s: float | None = None,
) -> LibraryMaster:
    key = GroupKey(
        frame_type=kind,
        settings=CameraSettings(camera="QHY600M"),
        width=10,
        height=10,
        exposure_time_s=1.0,
        noon_utc_s=noon_utc_s,
    )
    observed = None if taken is None else Observed(first=taken, last=taken, middle=taken)
    name = f"master_{kind}_{made:%Y%m%d_%H%M%S}"
    record = MasterRecord(name=name, key=key, made_at=made, calibration_id="", verdict=verdict, observed=observed)
    return LibraryMaster(record=record, plane=StorePlane(store=f"{folder}/masters.zarr", name=name))


def targets(row: NightRow) -> list[str | None]:
    return [report.target for report in row.reports]


def test_each_night_has_its_masters_the_worst_verdict_and_the_newest_report_of_its_run() -> None:
    first, second = datetime(2026, 11, 29, 7, tzinfo=UTC), datetime(2026, 11, 30, 7, 0, 0, 500, tzinfo=UTC)
    masters = [
        master(FrameType.BIAS, EVENING, first),
        master(FrameType.DARK, EVENING + timedelta(hours=3), first, "warn"),
        master(FrameType.DARK, EVENING + timedelta(days=1), second, "fail"),
        master(FrameType.FLAT, EVENING + timedelta(days=1, hours=9), second),
        master(FrameType.FLAT, EVENING + timedelta(days=1, hours=9), second),
    ]
    names = {
        "masters": [
            "report_20261129_070105.html",
            "report_20261129_070105.json",
            "report_20261129_180000.html",  # the first run again, by ostcal report
            "report_20261130_070000.html",
            "my_report_20261130_070000.html",
        ]
    }
    newest, oldest = night_rows(masters, names, "library.html")
    assert (newest.night, newest.verdict, newest.masters) == ("2026-11-29", "fail", "1 dark, 2 flats")
    assert newest.judged == "1 failed"
    assert targets(newest) == ["masters/report_20261130_070000.html"]
    assert (oldest.night, oldest.verdict, oldest.masters) == ("2026-11-28", "warn", "1 bias, 1 dark")
    assert targets(oldest) == ["masters/report_20261129_180000.html"]
    assert oldest.cameras == "QHY600M"


def test_a_night_is_that_of_the_observatory() -> None:
    made = datetime(2026, 11, 30, 22, tzinfo=UTC)
    sydney = master(FrameType.DARK, datetime(2026, 11, 30, 11, tzinfo=UTC), made, noon_utc_s=2 * 3600.0)
    (row,) = night_rows([sydney], {}, "library.html")
    assert (row.night, row.reports) == ("2026-11-30", ())
    (unknown,) = night_rows([master(FrameType.DARK, None, made, None)], {}, "library.html")
    assert (unknown.night, unknown.verdict, unknown.judged) == ("not recorded", "none", "1 not checked")


def test_a_run_of_one_folder_does_not_end_the_reports_of_another() -> None:
    made = datetime(2026, 11, 29, 7, tzinfo=UTC)
    masters = [
        master(FrameType.DARK, EVENING, made, folder="m/2026-11-28"),
        master(FrameType.DARK, EVENING + timedelta(days=1), made + timedelta(hours=1), folder="m/2026-11-29"),
    ]
    names = {"m/2026-11-28": ["report_20261129_120000.html"], "m/2026-11-29": ["report_20261129_080001.html"]}
    rows = night_rows(masters, names, os.path.join("m", "library.html"))
    assert [targets(row) for row in rows] == [
        ["2026-11-29/report_20261129_080001.html"],
        ["2026-11-28/report_20261129_120000.html"],
    ]


@pytest.mark.parametrize(
    ("page", "place", "link"),
    [
        ("s3://b/masters/library.html", "s3://b/masters/2026-11-28/r 1.html", "2026-11-28/r%201.html"),
        ("s3://b/library.html", "s3://b/x/r.html", "x/r.html"),
        ("s3://b/x/library.html", "s3://b/y/r.html", "../y/r.html"),
        ("library.html", "s3://b/y/r.html", None),
        ("s3://b/library.html", "masters/r.html", None),
        ("s3://a/library.html", "s3://b/r.html", None),
        ("out/library.html", "out/a#b/r.html", "a%23b/r.html"),
        ("library.html", "../other/r.html", "../other/r.html"),
    ],
)
def test_links_lead_from_the_page_to_the_report(page: str, place: str, link: str | None) -> None:
    assert link_from(page, place) == link


def test_no_address_becomes_a_part_of_the_page_and_older_nights_are_folded() -> None:
    row = night_rows([master(FrameType.DARK, EVENING, EVENING, folder='"><script>')], {}, "library.html")[0]
    nasty = replace(row, cameras="<script>", masters='"><b>')
    nights = [replace(nasty, night=str(date(2026, 1, 1) + timedelta(days=i))) for i in range(NIGHTS_SHOWN + 5)]
    limits = dict.fromkeys((FrameType.BIAS, FrameType.DARK, FrameType.FLAT))
    text = render_library("/m", [], [], limits, EVENING, nights)
    assert "<script" not in text
    assert "<b>" not in text
    assert "5 earlier" in text
    assert text.index('id="nights"') < text.index('id="calendar"')


def test_the_page_of_folders_of_nights_leads_to_the_report_of_each(tmp_path: Path) -> None:
    nights = []
    for day in range(2):
        night = Night(tmp_path / f"night{day}")
        night.root.mkdir()
        n.write_frames(night.darks, n.bias_frames(), "Bias Frame", 0.0, start=n.START + timedelta(days=day))
        config = tmp_path / f"night{day}.yaml"
        config.write_text(
            f"input: {{dirs: ['{night.darks}']}}\nmaster_frames: {{output_dir: '{tmp_path}/masters/{{night}}'}}\n"
        )
        assert n.ostcal("masters", "--config", config).exit_code in (0, 1)
        nights.append(config)
    page = tmp_path / "library.html"
    assert n.ostcal("library", "--config", nights[0], "--html", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    for day in ("2026-11-21", "2026-11-22"):
        (report,) = (tmp_path / "masters" / day).glob("report_*.html")
        assert f'href="masters/{day}/{report.name}"' in text
