"""The report: what its two files hold, that they agree with the schema, and that no name can do anything."""

from __future__ import annotations

import base64
import dataclasses
import html
import itertools
import json
import math
import re
import struct
import zlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.measure.findings import Outcome
from ostcal.report.document import CameraReport, FrameRow, HistogramData, MasterReport, Report, Statistics
from ostcal.report.json_lines import json_text
from ostcal.report.making import write_report
from ostcal.report.page import render
from ostcal.report.plots import Axis, Bars, Line, Plot, Points, draw, has_data, thinned, ticks
from ostcal.report.png import ReportPictures, defects_uri, grey_uri, ramp_uri
from ostcal.report.schema import json_schema
from ostcal.report.views import MOST_FRAMES_SHOWN
from ostcal.report.wording import fixed, number, span, with_uncertainty
from support.folders import ROOT
from support.report_samples import (
    WHEN,
    finding,
    frame_row,
    full_camera,
    full_master,
    full_pictures,
    full_report,
    noise_picture,
)

DOCS = ROOT / "docs"
NASTY = (
    "\"'><script>document.title='owned'</script><img src=http://x.example/ onerror=alert(1)>{{7*7}}</title></svg>&lt;"
)


# ---------------------------------------------------------------------------------------------------------------------
# JSON


def test_a_report_comes_back_from_its_file_as_it_was() -> None:
    report = full_report()
    assert Report.from_json(json.loads(report.json_text())) == report


@given(camera=st.from_type(CameraReport))
def test_any_numbers_give_strict_json_that_reads_back_to_the_same(camera: CameraReport) -> None:
    text = Report(made_at=WHEN, software="ostcal", camera=camera).json_text()
    assert Report.from_json(json.loads(text, parse_constant=pytest.fail)).json_text() == text


def test_numbers_that_are_not_finite_are_null() -> None:
    camera = replace(full_camera(), gain_e_per_adu=math.nan, full_well_e=math.inf)
    values = json.loads(replace(full_report(), camera=camera).json_text(), parse_constant=pytest.fail)
    assert values["camera"]["gain_e_per_adu"] is None
    assert values["camera"]["full_well_e"] is None


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_text_of_json_values_reads_back_to_them(value: Any) -> None:
    assert json.loads(json_text(value)) == value


def test_numpy_numbers_are_written_as_numbers() -> None:
    row = replace(frame_row(0), level_adu=np.float32(0.5), saturated=np.int64(7))
    master = replace(full_master(), frames=(row,))
    written = full_report((master,)).as_json()["masters"][0]["frames"][0]
    assert (written["level_adu"], written["saturated"]) == (0.5, 7)


def test_what_the_issue_promises_is_where_it_promises_it() -> None:
    values = full_report().as_json()
    assert values["verdict"] == "fail"
    assert values["camera"]["gain_e_per_adu"] == 1.1988
    assert values["camera"]["read_noise_e"] == 4.002
    assert values["camera"]["read_noise_adu"] == 3.338
    assert values["camera"]["dark_current_e_per_s"] == 0.0301
    (flagged,) = values["flagged_frames"]
    assert flagged["frame"] == "darks/exp_120.000s.zarr#9"
    assert (flagged["series"], flagged["index"], flagged["position"]) == ("darks/exp_120.000s.zarr", 9, 6)
    assert (flagged["check"], flagged["outcome"], flagged["value"]) == ("light leak", "fail", 68.0)
    assert [master["verdict"] for master in values["masters"]] == ["pass", "fail", "warn"]
    assert values["made_at"] == "2026-11-21T19:02:15.000Z"


def test_a_flagged_frame_without_a_row_is_named_by_its_number() -> None:
    master = replace(full_master(), frames=())
    (flagged,) = full_report((master,)).flagged_frames
    assert (flagged.frame, flagged.series, flagged.index, flagged.position) == ("frame 6", None, None, 6)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda v: v.pop("format"), "not a report"),
        (lambda v: v.update(schema_version=99), "99"),
        (lambda v: v.pop("made_at"), "report: made_at is missing"),
        (lambda v: v["masters"][1].update(kind="darkk"), "report: masters: kind: 'darkk' is not a valid FrameType"),
        (lambda v: v["masters"][0].update(n_frames="many"), "masters: n_frames: 'many' is not a whole number"),
        (lambda v: v["masters"][0].update(n_frames=True), "masters: n_frames: True is not a whole number"),
        (lambda v: v.update(left_out="x"), "report: left_out: 'x' is not a list"),
        (lambda v: v.update(camera=[]), "report: camera: it is not a JSON object"),
        (lambda v: v.update(made_at="yesterday"), "report: made_at: 'yesterday' is not a time"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(change: Any, names: str) -> None:
    values = full_report().as_json()
    change(values)
    with pytest.raises(StorageError, match=names):
        Report.from_json(values)


def test_keys_of_later_versions_are_passed_over() -> None:
    values = full_report().as_json() | {"later": 1}
    values["masters"][0]["later"] = {}
    assert Report.from_json(values) == full_report()


def missing_everything() -> list[Report]:
    bare = MasterReport(name="master_bias_20250101_000000", kind=FrameType.BIAS)
    return [
        Report(made_at=WHEN, software="ostcal"),
        Report(made_at=WHEN, software="ostcal", masters=(bare,)),
        Report(made_at=WHEN, software="ostcal", masters=(bare, full_master()), camera=CameraReport()),
        Report(made_at=WHEN, software="ostcal", masters=(replace(bare, statistics=Statistics(median=math.nan)),)),
        Report(
            made_at=WHEN,
            software="ostcal",
            masters=(replace(bare, histogram=HistogramData(start=0, step=1, counts=())),),
        ),
        Report(made_at=WHEN, software="ostcal", masters=(replace(bare, frames=(FrameRow(position=0, label="a"),)),)),
    ]


@pytest.mark.parametrize("report", [full_report(), *missing_everything()])
def test_real_output_keeps_to_the_schema(report: Report) -> None:
    jsonschema_rs.validator_for(json_schema()).validate(json.loads(report.json_text()))


def test_the_schema_is_a_schema_and_refuses_what_is_wrong() -> None:
    schema = json_schema()
    assert jsonschema_rs.meta.is_valid(schema)
    validator = jsonschema_rs.validator_for(schema)
    values = full_report().as_json()
    for wrong in (
        values | {"unknown": 1},
        values | {"verdict": "good"},
        {key: value for key, value in values.items() if key != "flagged_frames"},
        values | {"camera": values["camera"] | {"gain_e_per_adu": "1.2"}},
    ):
        assert not validator.is_valid(wrong)


def test_the_documentation_shows_this_schema_and_every_key() -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json schema\n(.*?)```", text, re.DOTALL)
    assert json.loads(shown) == json_schema(), "write the block anew with ostcal.report.schema.schema_text()"


# ---------------------------------------------------------------------------------------------------------------------
# The page


class Page(HTMLParser):
    """Tags with their attributes, and the text of some."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def page_of(report: Report, pictures: ReportPictures | None = None) -> str:
    return render(report, pictures or full_pictures(report), json_name="report_20261121_190215.json")


@pytest.fixture(scope="module")
def page_text() -> str:
    return page_of(full_report())


@pytest.fixture(scope="module")
def page(page_text: str) -> Page:
    return Page(page_text)


def test_the_page_refers_to_nothing_outside_itself(page: Page, page_text: str) -> None:
    references = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert references
    for reference in references:
        assert reference is not None
        assert reference.startswith(("#", "data:image/png;base64,")) or reference == "report_20261121_190215.json"
    assert not page.all("script", "link", "iframe", "object", "base")
    assert not re.search(r"https?://|@import|url\(", page_text)
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_verdicts_come_first_then_what_was_found(page: Page) -> None:
    text = " ".join(" ".join(page.words).split())
    places = [
        text.index(words)
        for words in (
            "1 of 3 masters failed, 1 with warnings",
            "What was found",
            "a gradient of 68 ADU",
            "The master Black",
        )
    ]
    assert places == sorted(places)
    assert text.index("a gradient of 68 ADU") < text.index("2.4 % of the samples rejected")


def test_the_page_says_the_numbers_of_the_json_file(page: Page) -> None:
    text = " ".join(" ".join(page.words).replace("\xa0", " ").split())
    for words in ("1.1988 ± 0.0031 e⁻/ADU", "4.002 ± 0.018 e⁻", "3.338 ± 0.012 ADU", "0.03010 ± 0.00050 e⁻/s"):
        assert words in text
    assert "not measured: no flats reach saturation" in text
    assert "Dark current at −10.0 °C" in text  # noqa: RUF001
    assert "3.20 ± 0.40 ADU" in text
    assert "hot 12 034 0.02 %" in text
    assert "2.4 % of the samples were not kept; 31 % in the fullest cell" in text
    assert "Pixels: 12 034 hot, 6388 bad column." in text


def test_the_page_can_be_read_without_eyes_or_mouse(page: Page, page_text: str) -> None:
    (document,) = page.all("html")
    assert document["lang"] == "en"
    links = page.all("a")
    assert links[0]["href"] == "#main"
    for image in page.all("img"):
        assert re.search(r"\d", image["alt"] or ""), "an image without a number in its words"
    idents = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert [ident for ident, n in Counter(idents).items() if n > 1] == []
    inner = {
        (attributes["href"] or "")[1:] for attributes in page.all("a", "use") if (attributes["href"] or "")[0] == "#"
    }
    assert {"main", "summary", "i-fail"} <= inner <= set(idents)
    for svg in page.all("svg"):
        if svg.get("role") == "img":
            assert set((svg["aria-labelledby"] or "").split()) <= set(idents)
        else:
            assert svg["aria-hidden"] == "true"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert all(re.search(r"\d", words) for words in re.findall(r"<desc[^>]*>(.*?)</desc>", page_text))


def test_no_verdict_is_told_by_colour_alone(page_text: str) -> None:
    chips = re.findall(r'class="chip (\w+)">(.*?)</span></span>', page_text, re.DOTALL)
    words = {"pass": "Pass", "warn": "Warning", "fail": "Fail"}
    assert {outcome for outcome, _ in chips} == set(words)
    for outcome, content in chips:
        assert f"#i-{outcome}" in content
        assert words[outcome] in content


def hostile(value: Any) -> Any:
    """Put the nasty text in the place of every text of a document."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: hostile(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, tuple):
        return tuple(hostile(item) for item in value)
    return NASTY if isinstance(value, str) and not isinstance(value, StrEnum) else value


def test_no_text_becomes_a_part_of_the_page() -> None:
    # One master, as all would have the same name; no reasons, as the page looks for their keys.
    good_report = replace(full_report((full_master(),)), camera=replace(full_camera(), reasons=()))
    bad_report = hostile(good_report)
    pages = {}
    for name, report in {"bad": bad_report, "good": good_report}.items():
        text = render(report, full_pictures(report), json_name=NASTY if name == "bad" else "a")
        pages[name] = Page(text)
        assert "<script" not in text
        assert "49</title>" not in text
    tags = {
        name: [(tag, sorted(attributes)) for tag, attributes in found.tags if tag not in ("wbr",)]
        for name, found in pages.items()
    }
    assert tags["bad"] == tags["good"]
    assert NASTY in "".join(pages["bad"].words)
    assert html.unescape(NASTY) not in "".join(pages["bad"].words)


def test_names_are_shown_as_they_are() -> None:
    master = replace(full_master(), name='it\'s "master"_<1>/#&amp;')
    words = Page(page_of(full_report((master,)))).words
    assert "".join(words).count(master.name) == 2


def test_names_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    master = replace(full_master(), files=("master_\udcff.fits",))
    html_path, json_path = write_report(full_report((master,)), ReportPictures(), tmp_path, "20261121_190215")
    html_path.read_text(encoding="utf-8")
    assert json.loads(json_path.read_text(encoding="utf-8"))["masters"][0]["files"] == ["master_?.fits"]


@pytest.mark.parametrize("report", missing_everything())
def test_what_is_missing_is_left_out_and_the_rest_is_shown(report: Report) -> None:
    text = page_of(report, ReportPictures())
    assert "None" not in text
    assert not re.search(r"\bnan\b", text)
    for master in report.masters:
        assert master.name in text.replace("<wbr>", "")


@pytest.mark.parametrize(
    ("verdicts", "headline"),
    [
        ([], "No masters"),
        (["pass"], "The master passed"),
        (["pass", "pass"], "All 2 masters passed"),
        (["pass", None], "1 of 2 masters passed, 1 not checked"),
        ([None, None], "0 of 2 masters passed, 2 not checked"),
        (["pass", "warn"], "1 of 2 masters with warnings"),
        (["fail", "warn", "pass"], "1 of 3 masters failed, 1 with warnings"),
        (["fail"], "The master failed"),
        ([None], "The master was not checked"),
    ],
)
def test_the_headline_counts(verdicts: list[str | None], headline: str) -> None:
    masters = tuple(
        MasterReport(name=f"m{i}", kind=FrameType.DARK, verdict=None if word is None else Outcome(word))
        for i, word in enumerate(verdicts)
    )
    text = page_of(full_report(masters), ReportPictures())
    assert re.search(r'id="summary-h".*?<span>(.*?)</span></h2>', text, re.DOTALL).group(1) == headline  # type: ignore[union-attr]


def test_many_frames_with_the_same_fault_are_told_once() -> None:
    findings = tuple(finding("warn", f"level {i} ADU off", frame=i, check="level") for i in range(40))
    master = replace(full_master(), findings=findings, verdict=Outcome.WARN, frames=tuple(map(frame_row, range(40))))
    text = page_of(full_report((master,)))
    assert text.replace("<wbr>", "").count("darks/exp_120.000s.zarr#3 and 39 more frames") == 2
    assert f"{40 - MOST_FRAMES_SHOWN} more frames with findings" in text


def test_a_night_of_twenty_masters_of_a_large_sensor_stays_small(tmp_path: Path) -> None:
    masters = tuple(replace(full_master(), name=f"master_{i}") for i in range(20))
    report = full_report(masters)
    pictures = full_pictures(report, width=640, height=427)  # noise: nothing of it can be compressed
    html_path, _ = write_report(report, pictures, tmp_path, "20261121_190215")
    assert html_path.stat().st_size < 15e6


def test_a_thousand_frames_and_long_profiles_stay_small() -> None:
    master = replace(
        full_master(),
        frames=tuple(map(frame_row, range(1000))),
        row_profile=replace(full_master().row_profile, values=tuple(float(i % 97) for i in range(10000))),  # type: ignore[type-var]
    )
    assert len(page_of(full_report((master,)))) < 2e6


# ---------------------------------------------------------------------------------------------------------------------
# The files


def test_both_files_are_written_beside_the_masters(tmp_path: Path) -> None:
    report = full_report()
    html_path, json_path = write_report(report, full_pictures(report), tmp_path, "20261121_190215")
    assert html_path == tmp_path / "report_20261121_190215.html"
    assert json_path == tmp_path / "report_20261121_190215.json"
    assert Report.from_json(json.loads(json_path.read_text(encoding="utf-8"))) == report
    assert html_path.read_text(encoding="utf-8").endswith("</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == [html_path.name, json_path.name]
    write_report(replace(report, title="Again"), ReportPictures(), tmp_path, "20261121_190215")
    assert "<h1>Again</h1>" in html_path.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"report_20261121_190215\.json: cannot be written.*check the directory"):
        write_report(full_report(), ReportPictures(), tmp_path / "absent", "20261121_190215")
    in_the_way = tmp_path / "report_20261121_190215.html"
    in_the_way.mkdir()
    with pytest.raises(StorageError, match=r"report_20261121_190215\.html: cannot be written"):
        write_report(full_report(), ReportPictures(), tmp_path, "20261121_190215")
    assert not list(tmp_path.glob("*.partial"))


# ---------------------------------------------------------------------------------------------------------------------
# Colours and pictures


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_letters_stand_out_in_light_and_dark() -> None:
    style = (DOCS.parent / "ostcal" / "report" / "report.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(schemes) == 3
    for colours in schemes[:2]:
        for letters in ("ink", "soft", "accent", "pass", "warn", "fail"):
            for paper in ("card", "paper"):
                assert contrast(colours[letters], colours[paper]) >= 4.5, (letters, paper)
        for outcome in ("pass", "warn", "fail", "none"):
            assert contrast(colours[outcome], colours[f"{outcome}-tint"]) >= 4.5, outcome


def decoded(uri: str) -> tuple[np.ndarray[Any, Any], int, bytes, bytes]:
    """Read a PNG data URI: pixels, colour type, palette, opacity."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length]) == (zlib.crc32(body),)
        chunks[body[:4]] = body[4:]
        place += 12 + length
    width, height, depth, colour_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:], colour_type, chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"")


def test_pictures_hold_their_pixels() -> None:
    pixels = noise_picture(31, 17).pixels
    grey, kind, _, _ = decoded(grey_uri(pixels))
    assert kind == 0
    np.testing.assert_array_equal(grey, pixels)
    ramp, kind, palette, opacity = decoded(ramp_uri(pixels))
    assert (kind, len(palette), len(opacity)) == (3, 768, 256)
    np.testing.assert_array_equal(ramp, pixels)
    assert opacity[0] == 0
    assert opacity[255] == 255
    assert list(opacity) == sorted(opacity)


def test_the_lowest_bit_of_a_defect_decides_its_colour() -> None:
    _, _, palette, opacity = decoded(defects_uri(noise_picture(5, 5).pixels))
    colours = [palette[3 * i : 3 * i + 3] for i in range(256)]
    assert opacity == b"\0" + b"\xff" * 255
    assert len({colours[1 << bit] for bit in range(8)}) == 8
    assert colours[0b1100] == colours[0b100]


@pytest.mark.parametrize("pixels", [np.zeros((3, 3)), np.zeros((3, 3, 3), np.uint8), np.zeros((0, 3), np.uint8)])
def test_what_is_no_picture_is_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match="uint8"):
        grey_uri(pixels)


# ---------------------------------------------------------------------------------------------------------------------
# Plots


@given(low=st.floats(-1e6, 1e6), extent=st.floats(1e-6, 1e6))
def test_ticks_are_round_even_and_within(low: float, extent: float) -> None:
    high = low + extent
    found = ticks(Axis(label=""), low, high)
    if extent < 1e-9 * abs(low):
        return
    assert 2 <= len(found) <= 6
    assert len({tick.text for tick in found}) == len(found)
    slack = 1e-6 * extent + 1e-9 * abs(low)
    assert all(low - slack <= tick.value <= high + slack for tick in found)
    steps = np.diff([tick.value for tick in found])
    assert np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9 * abs(low))


@given(low=st.floats(1e-9, 1e6), factor=st.floats(1.5, 1e12))
def test_ticks_of_a_logarithmic_axis_rise_and_differ(low: float, factor: float) -> None:
    found = ticks(Axis(label="", log=True), low, low * factor)
    assert 1 <= len(found) <= 7
    assert len({tick.text for tick in found}) == len(found)
    assert [tick.value for tick in found] == sorted(tick.value for tick in found)
    assert all(low * 0.999 <= tick.value <= low * factor * 1.001 for tick in found)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (0.2, ["21 Nov 00:00", "21 Nov 02:00", "21 Nov 04:00"]),
        (3, ["21 Nov", "22 Nov", "23 Nov"]),
        (25, ["27 Nov", "04 Dec", "11 Dec"]),
        (120, ["Dec 2026", "Jan 2027", "Feb 2027", "Mar 2027"]),
        (900, ["Jan 2027", "Jan 2028", "Jan 2029"]),
    ],
)
def test_ticks_of_time_are_round_dates(days: float, words: list[str]) -> None:
    start = datetime(2026, 11, 21, 0, 30, tzinfo=UTC).timestamp() - 3600
    found = ticks(Axis(label="", is_time=True), start, start + days * 86400)
    assert [tick.text for tick in found][: len(words)] == words
    assert len(found) <= 5


def one_plot(*marks: Any, **axes: Axis) -> Plot:
    return Plot(
        title="T", description="D 1", x=axes.get("x", Axis(label="x")), y=axes.get("y", Axis(label="y")), marks=marks
    )


def test_a_missing_value_breaks_the_line() -> None:
    svg = draw(one_plot(Line(x=(0, 1, 2, 3, 4), y=(1, 2, None, math.nan, 3))), "p")
    (path,) = re.findall(r'<path class="line" d="(.*?)"', svg)
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_points_are_where_their_values_are() -> None:
    svg = draw(one_plot(Points(x=(0, 5, 10), y=(0, 50, 100))), "p")
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert places[1][0] == pytest.approx((places[0][0] + places[2][0]) / 2, abs=0.11)
    assert places[1][1] == pytest.approx((places[0][1] + places[2][1]) / 2, abs=0.11)
    assert places[0][0] < places[2][0]
    assert places[0][1] > places[2][1]  # up is more


def test_a_logarithmic_axis_is_logarithmic_and_leaves_out_what_is_not_above_zero() -> None:
    log = Axis(label="", log=True)
    svg = draw(one_plot(Points(x=(1, 10, 100, 0, -5), y=(1, 10, 100, 1, 1)), x=log, y=log), "p")
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', svg)]
    assert len(places) == 3
    assert places[1] == pytest.approx((places[0] + places[2]) / 2, abs=0.11)


@given(
    values=st.lists(st.none() | st.floats(width=32), min_size=1, max_size=30),
    log=st.booleans(),
    from_zero=st.booleans(),
)
def test_any_values_give_a_drawing_with_finite_coordinates(
    values: list[float | None], log: bool, from_zero: bool
) -> None:
    y = Axis(label="y", log=log, from_zero=from_zero)
    plot = one_plot(Line(x=range(len(values)), y=values), Points(x=range(len(values)), y=values, error=values), y=y)
    if has_data(plot):
        assert not re.search(r"\b(nan|inf)\b", draw(plot, "p"))
    else:
        with pytest.raises(ValueError, match="no point"):
            draw(plot, "p")


@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=3000))
def test_histograms_of_any_length_are_drawn_within_their_frame(counts: list[int]) -> None:
    plot = one_plot(Bars(start=-5.0, step=0.5, counts=counts), y=Axis(label="n", log=True))
    if not has_data(plot):
        assert not any(counts)
        return
    (path,) = re.findall(r'<path class="bars" d="(.*?)z"', draw(plot, "p"))
    assert len(path) < 20000
    assert all(0 <= float(down) <= 210 for down in re.findall(r"V([\d.-]+)", path))


def test_thinning_keeps_every_spike() -> None:
    places: list[tuple[float, float] | None] = [(float(i), 0.0) for i in range(10000)]
    places[5003] = (5003.0, 99.0)
    places[7] = (7.0, -99.0)
    kept = thinned(places)
    assert len(kept) <= 720
    assert places[5003] in kept
    assert places[7] in kept


def test_flagged_points_have_a_shape_and_a_name_of_their_own() -> None:
    outcomes = (Outcome.PASS, Outcome.WARN, Outcome.FAIL)
    svg = draw(one_plot(Points(x=(0, 1, 2), y=(0, 1, 2), outcomes=outcomes, names=("a", "b<", "c"))), "p")
    assert svg.count("<circle") == 1
    assert '<path class="warn"' in svg
    assert '<path class="fail"' in svg
    assert "<title>b&lt;</title>" in svg
    assert "<title>a</title>" not in svg


# ---------------------------------------------------------------------------------------------------------------------
# Words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),  # noqa: RUF001
        (math.nan, "–"),  # noqa: RUF001
        (0.0, "0"),
        (1234.5678, "1235"),
        (58333.0, "58\u202f333"),
        (123456.0, "123\u202f456"),
        (-0.00123456, "−0.001235"),  # noqa: RUF001
        (-1e-12, "−1\xa0×\xa010⁻¹²"),  # noqa: RUF001
        (9.9999, "10"),
    ],
)
def test_numbers_in_words(value: float | None, words: str) -> None:
    assert number(value) == words


def test_a_value_has_the_decimals_of_its_uncertainty() -> None:
    assert with_uncertainty(1.19876, 0.0031, "e") == "1.1988 ± 0.0031\xa0e"
    assert with_uncertainty(51234.0, 320.0, "e") == "51\u202f234 ± 320\xa0e"
    assert with_uncertainty(1.19876, None, "e") == "1.199\xa0e"
    assert with_uncertainty(1.19876, math.nan, "e") == "1.199\xa0e"
    assert fixed(-0.0001, 2) == "0.00"
    assert span(506.0407, 506.0545, "ADU") == "506.041 to 506.055\xa0ADU"
    assert span(5.0, 5.0, "s") == "5\xa0s"
