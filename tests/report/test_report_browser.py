"""The report in a real browser: it fits a phone, follows light and dark, and nothing in it complains."""

from __future__ import annotations

import functools
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostcal.frames import FrameType
from ostcal.measure.findings import Outcome
from ostcal.report.document import Entry, Report
from ostcal.report.making import write_report
from ostcal.report.page import render
from ostcal.report.png import MasterPictures, ReportPictures
from support.report_samples import finding, full_master, full_pictures, full_report, noise_picture

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

PHONE, DESKTOP = 360, 1280
LIGHT, DARK = 1, 0

# A headless window is 500 wide at least, so that a phone is a frame of its width; the page in it tells what it is like.
FRAME = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><title>nothing</title><body style="margin:0">
<script>addEventListener("message", event => {{ document.title = event.data }})</script>
<iframe src="probed.html" style="border:0;width:{width}px;height:2000px"></iframe>"""

PROBE = """<script>
const box = element => element.getBoundingClientRect();
const meet = (a, b) => a.left < b.right - .5 && b.left < a.right - .5 && a.top < b.bottom - .5 && b.top < a.bottom - .5;
const root = document.documentElement;
const folded_height = root.scrollHeight;
location.hash = "#m3";
const unfolded_by_link = [...document.querySelectorAll(".master > details:not([open])")].length
  < document.querySelectorAll(".master").length && document.querySelector("#m3")?.closest("details").open ? "m3" : "";
for (const folded of document.querySelectorAll("details")) folded.open = true;
const outside = [...document.querySelectorAll("main *, header *, footer *, nav *")]
  .filter(e => !e.closest(".scroll, .symbols") && box(e).width)
  .filter(e => box(e).right > innerWidth + .5 || box(e).left < -.5);
const meeting = [], escaping = [];
for (const plot of document.querySelectorAll("svg.plot")) {
  const texts = [...plot.querySelectorAll("text")];
  for (const one of texts) {
    if (box(one).left < box(plot).left - 1 || box(one).right > box(plot).right + 2) escaping.push(one.textContent);
    for (const other of texts)
      if (one !== other && meet(box(one), box(other))) meeting.push(one.textContent + " / " + other.textContent);
  }
}
const letters = document.querySelector(".plot text");
const style = element => getComputedStyle(element);
parent.postMessage(JSON.stringify({
  width: innerWidth, scroll_width: root.scrollWidth,
  outside: outside.map(e => e.outerHTML.slice(0, 120)), meeting, escaping,
  letters_px: box(letters).height,
  background: style(document.body).backgroundColor, ink: style(document.body).color,
  targets: [...document.querySelectorAll("summary, nav a")].filter(e => box(e).height).map(e => box(e).height),
  focusable: [...document.querySelectorAll("a[href], summary, [tabindex='0']")].every(e => e.tabIndex === 0),
  scrolling: [...document.querySelectorAll("main *")].filter(e => e.scrollWidth > e.clientWidth + 1 &&
    style(e).overflowX === "auto" && e.tabIndex !== 0).length,
  tallest: Math.max(...[...document.images].map(image => box(image).height)),
  images: [...document.images].map(image => image.naturalWidth),
  title: document.title, folded_height, height: root.scrollHeight, unfolded_by_link,
}), "*");
</script>"""


def chromium(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=3000",
        *options,
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def probe(folder: Path, page: str, width: int, scheme: int) -> dict[str, Any]:
    """Return what a page tells of itself in a window of a width."""
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(page)
    (folder / "probed.html").write_text(policy.sub("", page).replace("</body>", PROBE + "</body>"), encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    options = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1400,2100", "--dump-dom")
    done = chromium(folder, frame.as_uri(), *options)
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title != "nothing", done.stderr[-2000:]
    told: dict[str, Any] = json.loads(html.unescape(title))
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@functools.cache
def long_words() -> str:
    """Return a page whose names are as long and as hard to break as names get."""
    word = "master_dark_" + "0123456789" * 12
    master = full_master()
    frames = tuple(replace(row, label=f"darks/{word}.zarr#{row.position}") for row in master.frames)
    findings = (*master.findings, finding("warn", f"{word * 2} is not what it was", frame=3))
    camera = replace(master.settings, camera="Camera" * 20, filter_name="F" * 70)
    settings = (Entry(name="darks." + "key" * 40, value="value" * 60),)
    report = full_report((replace(master, name=word, frames=frames, findings=findings, settings=camera),))
    report = replace(report, title="Title" * 30, left_out=(word * 3,), settings=settings, config_file="/" + "d" * 300)
    return written(report)


@functools.cache
def usual() -> str:
    return written(full_report())


def written(report: Report) -> str:
    return render(report, full_pictures(report, 320, 213), json_name="report_20261121_190215.json")


@pytest.mark.parametrize(("width", "scheme"), [(320, DARK), (PHONE, LIGHT), (768, LIGHT), (DESKTOP, DARK)])
def test_the_page_fits_its_window_and_no_letters_meet(folder: Path, width: int, scheme: int) -> None:
    told = probe(folder, usual(), width, scheme)
    assert told["width"] == width
    assert told["scroll_width"] <= width
    assert told["outside"] == []
    assert told["meeting"] == []
    assert told["escaping"] == []
    assert told["letters_px"] >= 9
    assert min(told["targets"]) >= 24  # WCAG 2.2, 2.5.8
    assert told["focusable"]
    assert told["scrolling"] == 0
    assert told["images"]
    assert all(told["images"])
    paper, ink = (sum(map(int, re.findall(r"\d+", told[of])[:3])) / 3 for of in ("background", "ink"))
    assert (paper > 230 and ink < 60) if scheme == LIGHT else (paper < 30 and ink > 200)


def test_pictures_of_a_narrow_sensor_fit_a_screen(folder: Path) -> None:
    report = full_report()
    narrow = MasterPictures(picture=noise_picture(1, 500), rejection_map=noise_picture(1, 8))
    pictures = ReportPictures(masters={master.name: narrow for master in report.masters})
    told = probe(folder, render(report, pictures, json_name="report_20261121_190215.json"), DESKTOP, LIGHT)
    assert told["tallest"] <= 520


def test_long_names_do_not_widen_the_page(folder: Path) -> None:
    for width in (PHONE, DESKTOP):
        told = probe(folder, long_words(), width, LIGHT)
        assert (told["scroll_width"], told["outside"]) == (width, [])


def eight_good_masters() -> str:
    good = [full_master(FrameType.DARK, Outcome.PASS, number) for number in range(8)]
    return written(replace(full_report(tuple(good)), other_cameras=()))


def test_eight_good_masters_take_a_third_of_a_phone_and_a_link_unfolds_one(folder: Path) -> None:
    told = probe(folder, eight_good_masters(), PHONE, LIGHT)
    assert told["folded_height"] < told["height"] / 3
    assert told["folded_height"] < 6000
    assert told["unfolded_by_link"] == "m3"


def test_masters_that_are_folded_are_not_printed(folder: Path) -> None:
    (folder / "printed.html").write_text(eight_good_masters(), encoding="utf-8")
    chromium(folder, (folder / "printed.html").as_uri(), f"--print-to-pdf={folder / 'printed.pdf'}")
    pages = re.findall(rb"/Type\s*/Page\b", (folder / "printed.pdf").read_bytes())
    assert 1 <= len(pages) <= 3  # a master begins a page


def test_the_file_opens_without_a_word_of_complaint(folder: Path) -> None:
    report = full_report()
    html_path, _ = write_report(report, full_pictures(report), folder, "20261121_190215")
    shot = folder / "shot.png"
    done = chromium(folder, html_path.as_uri(), f"--screenshot={shot}", "--window-size=1280,900")
    assert "CONSOLE" not in done.stderr
    assert shot.stat().st_size > 20_000


def test_nothing_in_a_name_is_run(folder: Path) -> None:
    nasty = "\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    master = replace(full_master(), name=nasty, files=(nasty,), findings=(finding("fail", nasty, 6, nasty),))
    told = probe(folder, written(replace(full_report((master,)), title=nasty)), DESKTOP, LIGHT)
    assert told["title"].startswith("\"'><script>")


def test_the_browser_would_complain_of_a_script_in_the_page(folder: Path) -> None:
    """The policy of the page is in force: what got into it by mistake would not run."""
    page = folder / "with_script.html"
    page.write_text(usual().replace("</body>", "<script>document.title='owned'</script></body>"), encoding="utf-8")
    done = chromium(folder, page.as_uri(), "--dump-dom")
    assert "Content Security Policy" in done.stderr
    assert "<title>owned" not in done.stdout
