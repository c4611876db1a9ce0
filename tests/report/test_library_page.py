"""The page of a library: every master on the calendar, ages of frames, trends, and no name can do anything."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameType, Optics
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane, find_masters
from ostcal.library.history import HistoryEntry, subject_of
from ostcal.measure.findings import Outcome
from ostcal.report.library_page import TRENDS, render_library, write_page
from support.folders import ROOT
from support.night import Night, ostcal, whole_night, write_config

NOW = datetime(2026, 11, 29, 21, tzinfo=UTC)


def master(
    kind: FrameType, days_ago: float | None, name: str, filter_name: str | None = None, verdict: str | None = "pass"
) -> LibraryMaster:
    when = None if days_ago is None else NOW - timedelta(days=days_ago)
    key = GroupKey(
        frame_type=kind,
        settings=CameraSettings(camera="Cam", gain=100.0),
        width=100,
        height=80,
        exposure_time_s=60.0 if kind is FrameType.DARK else 1.0,
        filter_name=filter_name,
        temperature_c=-10.0,
    )
    record = MasterRecord(
        name=name,
        key=key,
        made_at=NOW,
        calibration_id="",
        verdict=verdict,
        observed=None if when is None else Observed(first=when, last=when, middle=when),
    )
    return LibraryMaster(record=record, plane=StorePlane(store="nowhere", name=name))


def entry(of: LibraryMaster, **metrics: float) -> HistoryEntry:
    values = {name: (value, "e-") for name, value in metrics.items()}
    return HistoryEntry(
        made_at=NOW, name=of.record.name, subject=subject_of(of.key), verdict=Outcome.PASS, metrics=values
    )


def page(masters: list[LibraryMaster], history: list[HistoryEntry] | None = None, **limits: float) -> str:
    known = {FrameType(kind): limits.get(kind) for kind in ("bias", "dark", "flat")}
    return render_library("/masters", masters, history or [], known, NOW)


def marks(text: str) -> list[tuple[str, float, str]]:
    """Return class, place and title of every mark on the calendar."""
    found = re.findall(r'<i class="at ([a-z]+)" style="left:([\d.]+)%" title="([^"]*)">', text)
    return [(verdict, float(place), title) for verdict, place, title in found]


def test_every_master_is_on_the_calendar_at_the_time_of_its_frames() -> None:
    masters = [
        master(FrameType.FLAT, 300, "first", "L"),
        master(FrameType.FLAT, 150, "middle", "L", "warn"),
        master(FrameType.FLAT, 0, "last", "L", "fail"),
        master(FrameType.DARK, 75, "dark", verdict=None),
        master(FrameType.DARK, None, "timeless"),
    ]
    text = page(masters)
    by_name = {title.split(": ")[1].split(" ")[0]: (verdict, place) for verdict, place, title in marks(text)}
    assert by_name == {
        "first": ("pass", 1.0),
        "middle": ("warn", 50.0),
        "last": ("fail", 99.0),
        "dark": ("none", 74.5),
    }
    assert "1 without a time (DATE-OBS) is not shown here" in text


def test_ages_are_those_of_frames_that_can_be_used() -> None:
    masters = [
        master(FrameType.FLAT, 40, "good", "L"),
        master(FrameType.FLAT, 3, "failed", "L", "fail"),
        master(FrameType.FLAT, 20, "red", "R"),
    ]
    text = page(masters, flat=30.0)
    ages = dict(re.findall(r'<th scope="row" class="text">(flat \w+)</th>.*?<td class="num[^"]*">(\d+ d)', text))
    assert ages == {"flat L": "40 d", "flat R": "20 d"}
    assert text.count("too old</small>") == 1
    assert "3 masters; 1 setting without a young enough one" in text
    assert "too old</small>" not in page(masters)


def test_what_all_have_is_said_once() -> None:
    text = page([master(FrameType.FLAT, 1, "a", "L"), master(FrameType.DARK, 1, "b")])
    assert "All: Cam, gain 100, -10 C, 100 x 80" in text
    assert '<div class="label">flat L</div>' in text
    alone = page([master(FrameType.FLAT, 1, "a", "L")])
    assert '<div class="label">flat L, Cam, gain 100, -10 C, 100 x 80</div>' in alone


def flat_of(days_ago: float, name: str, **optics: Any) -> LibraryMaster:
    one = master(FrameType.FLAT, days_ago, name, "R")
    key = replace(one.key, optics=Optics(**optics))
    return replace(one, record=replace(one.record, key=key))


def test_flats_of_each_light_path_are_a_row_with_their_own_age() -> None:
    esprit = {"telescope": "Esprit 100", "focal_length_mm": 550.0}
    masters = [
        flat_of(1, "a", rotator_deg=10.0, **esprit),
        flat_of(300, "b", rotator_deg=10.6, **esprit),  # the same angle, as matching tells it
        flat_of(200, "c", rotator_deg=190.0, **esprit),
        flat_of(100, "d", telescope="RC 8", focal_length_mm=1600.0),
        flat_of(50, "e", telescope="RC 8", focal_length_mm=1000.0),
    ]
    text = page(masters, flat=30.0)
    labels = re.findall(r'<div class="label">(flat R[^<]*)</div>', text)
    assert sorted(labels) == [
        "flat R, Esprit 100, 550 mm, 10.3 deg", "flat R, Esprit 100, 550 mm, 190 deg",
        "flat R, RC 8, 1000 mm", "flat R, RC 8, 1600 mm",
    ]  # fmt: skip
    assert "3 settings without a young enough one" in text


def test_what_a_run_measures_of_a_camera_is_shown_once() -> None:
    masters = [
        master(kind, days, f"{kind}{days}") for days in (60, 30) for kind in FrameType if kind is not FrameType.LIGHT
    ]
    history = [
        replace(entry(one, dark_current=days / 1000, read_noise=days / 20), made_at=NOW - timedelta(days=days))
        for one in masters
        for days in (60 if one.record.name.endswith("60") else 30,)
    ]
    text = page(masters, history)
    assert text.count("Last 0.03") == 1
    assert text.count("2 runs") == 2  # of read noise and of dark current
    assert "<figcaption>bias" not in text


def test_trends_go_by_the_time_of_the_frames_and_count_a_master_once() -> None:
    masters = [master(FrameType.BIAS, days, f"bias{days}") for days in (90, 60, 30)]
    built_again = replace(entry(masters[0], read_noise=1.5), made_at=NOW + timedelta(days=1))
    history = [entry(one, read_noise=1.0 + i / 10) for i, one in enumerate(masters)]
    text = page(masters, [*history, built_again])
    assert "Read noise" in text
    assert "3 runs" in text
    assert re.search(r"Last 1\.2\W+e-, before 1\.1\W+e-", text)
    assert "Gain</h3>" not in text


def test_every_number_of_a_trend_is_one_that_is_stored(tmp_path: Path) -> None:
    """The names are those that making masters stores."""
    stored = (ROOT / "ostcal" / "build" / "judge.py").read_text(encoding="utf-8")
    assert [name for name in TRENDS if f'"{name}"' not in stored] == []


def test_no_name_can_do_anything() -> None:
    evil = '<script>alert("1")</script>'
    masters = [master(FrameType.FLAT, days, f"{evil}{days}", evil) for days in (2, 1)]
    text = page(masters, [entry(one, gain=1.0) for one in masters])
    found: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

    Tags().feed(text)
    assert "script" not in found
    assert "svg" in found
    assert "Content-Security-Policy" in text


def test_an_empty_library_is_a_page() -> None:
    assert "There are no masters" in page([])


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "library.html"
    write_page(str(path), page([]))
    write_page(str(path), page([master(FrameType.DARK, 1, "dark")]))
    assert "1 master" in path.read_text(encoding="utf-8")
    path.write_text("my own page")
    with pytest.raises(StorageError, match="is no page of this program"):
        write_page(str(path), page([]))
    assert path.read_text() == "my own page"
    with pytest.raises(StorageError, match="cannot be written"):
        write_page(str(tmp_path / "missing" / "library.html"), page([]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = whole_night(tmp_path_factory.mktemp("page"))
    assert ostcal("masters", "--config", write_config(night)).exit_code in (0, 1)
    return night


def test_the_command_writes_the_page_of_real_masters(made: Night, tmp_path: Path) -> None:
    path = tmp_path / "library.html"
    outcome = ostcal("library", "--config", write_config(made), "--html", path)
    assert outcome.exit_code == 0
    assert f"page: {path}" in outcome.stderr
    text = path.read_text(encoding="utf-8")
    names = sorted(one.record.name for one in find_masters(str(made.masters)))
    assert sorted(title.split(": ")[1].split(" ")[0] for _, _, title in marks(text)) == names
    assert f"{len(names)} masters" in text
    (link,) = re.findall(r'<a href="([^"]*report_[^"]*)">', text)
    assert (path.parent / link).resolve() == next(made.masters.glob("report_*.html")).resolve()
    assert '<th scope="row" class="day">2026-11-21</th>' in text
