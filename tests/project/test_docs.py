"""The page on quality names every check that can be made, every key of a limit and every bit, and no others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ostcal.config import load_config, resolved_values
from ostcal.frames import FrameType
from ostcal.library.master_header import defect_cards
from ostcal.measure.findings import Finding
from ostcal.measure.frames.check_frames import check_frames
from ostcal.measure.frames.survey import RESIDUAL_SIGMAS, merge_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.measure.frames.trend import TREND_FRAMES
from ostcal.measure.frames.unlike_others import OUTLYING_FACTOR, OUTLYING_SHARE, check_rejected
from ostcal.measure.limits import DefectLimits, MasterLimits
from ostcal.measure.live import LiveCheck
from ostcal.measure.masters.against_previous import ComparedMaster, compare_masters
from ostcal.measure.masters.check_master import check_master
from ostcal.measure.masters.defects import Defect
from ostcal.simulator.sensor import SENSORS
from support.folders import ROOT
from support.master_samples import exposure_of, frames_of, master_of, plane_reader, small

PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
KINDS = (FrameType.BIAS, FrameType.DARK, FrameType.FLAT)
N_FRAMES = 6


def chapter(title: str) -> str:
    found = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


def table(title: str) -> list[list[str]]:
    """Return the cells of the rows of the table in a chapter, without its head."""
    lines = [line for line in chapter(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(*texts: str) -> set[str]:
    """Return what stands in backticks."""
    return {word for text in texts for word in re.findall(r"`([^`]+)`", text)}


def keys_of(section: str) -> set[str]:
    return set(resolved_values(load_config(None))["quality"][section])


def words(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings}


def written_in(*patterns: str) -> set[str]:
    """Return the words of checks that make findings of their own, some of them only now and then."""
    paths = [path for pattern in patterns for path in (ROOT / "ostcal").glob(pattern)]
    assert len(paths) >= len(patterns)
    sources = [path.read_text(encoding="utf-8") for path in paths]
    return {word for source in sources for word in re.findall(r'check="([a-z ]+)"', source)}


def found_in_frames(kind: FrameType) -> set[str]:
    """Return the checks of a clean series: each says at least that it passes."""
    sensor = small(SENSORS["demo"], 3)
    stack = frames_of(sensor, kind, N_FRAMES)
    block = survey_block(
        stack, 0, stack.shape[1:], saturation_adu=sensor.max_adu, scale_to_common=kind is FrameType.FLAT
    )
    exposures = [exposure_of(kind, sensor).exposure_time_s] * N_FRAMES
    facts: dict[str, Any] = {"temperatures_c": [-10.0] * N_FRAMES, "set_points_c": [-10.0] * N_FRAMES}
    return words(check_frames(kind, merge_blocks([block]), exposures_s=exposures, max_adu=sensor.max_adu, **facts))


def found_in_masters(kind: FrameType) -> set[str]:
    made = master_of(small(SENSORS["demo"], 3), kind, N_FRAMES)
    reader = plane_reader(made.master, made.std, made.n_used)
    compared = ComparedMaster(read_rows=reader, n_frames=N_FRAMES, name="before", adu_per_unit=made.adu_per_unit)
    return words(check_master(made.scan(), made.facts())) | words(
        compare_masters(compared, compared, (made.master.shape[0], made.master.shape[1]), kind)
    )


def test_the_page_names_every_check_of_frames() -> None:
    found = set().union(*map(found_in_frames, KINDS)) | words(check_rejected([0] * N_FRAMES, 64))
    assert len(found) >= 14
    assert named(*(row[0] for row in table("Checks of frames"))) == found
    assert written_in("measure/frames/*.py") <= found


def test_the_page_names_every_check_while_capturing() -> None:
    (sentence,) = re.findall(r"While frames are captured .*?;", chapter("Checks of frames"), flags=re.DOTALL)
    assert named(sentence) == {str(check) for check in LiveCheck}


def test_the_page_names_every_check_of_masters() -> None:
    found = set().union(*map(found_in_masters, KINDS))
    assert len(found) >= 25
    assert named(*(row[0] for row in table("Checks of masters"))) == found | written_in(
        "measure/masters/*.py", "build/judge.py"
    )


@pytest.mark.parametrize(("title", "section"), [("Checks of frames", "frames"), ("Checks of masters", "masters")])
def test_the_page_names_every_key_of_a_limit(title: str, section: str) -> None:
    assert named(*(row[2] for row in table(title))) == keys_of(section)


def test_the_page_names_every_bit_with_its_keys() -> None:
    rows = table("Bad pixels")
    assert [(int(row[0]), int(row[1]), row[2]) for row in rows] == [
        (index, int(defect), str(defect.name)) for index, defect in enumerate(Defect)
    ]
    assert named(*(cell for row in rows for cell in row)) == keys_of("pixels")
    keywords = [keyword for keyword, _, _ in defect_cards()]
    bits = [keyword for keyword in keywords if keyword.startswith("DQBIT")]
    assert f"`{bits[0]}` to `{bits[-1]}`" in FORMATS
    assert [keyword for keyword in keywords if keyword not in bits and f"`{keyword}`" not in FORMATS] == []


def test_the_other_keys_that_the_page_names_exist() -> None:
    values = resolved_values(load_config(None))
    for key, section in {
        "quality_control": "master_frames",
        "extensions": "master_frames",
        "clip_spread": "master_frames",
        "use_failed": "quality",
    }.items():
        assert key in PAGE
        assert key in values[section]


def test_every_page_that_the_pages_link_is_there() -> None:
    links = [
        (page, target)
        for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 60
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_numbers_that_the_page_gives_are_those_of_the_checks() -> None:
    masters, pixels = MasterLimits(), DefectLimits()
    assert f"fewer than {masters.frames} frames" in chapter("Verdicts").replace("\n", " ")
    assert f"below {masters.frames} a master adds more than 2.5 %" in chapter("Checks of masters")
    frames = chapter("Checks of frames")
    assert f"pixels further than {RESIDUAL_SIGMAS:g} noises away" in frames
    assert f"more than {100 * OUTLYING_SHARE:g} % of its pixels, and four times what the others" in frames
    assert OUTLYING_FACTOR == 4
    rows = {row[2]: row for row in table("Bad pixels")}
    assert f"{pixels.hot_sigma:g} sigma of the master's own noise" in rows["HOT"][3]
    assert f"more than {pixels.high_response:g} times" in rows["HOT"][4]
    assert f"less than {pixels.low_response:g} " in rows["COLD"][4]
    assert f"less than {pixels.dead_response:g} " in rows["DEAD"][4]
    assert f"A **trend** needs {TREND_FRAMES} frames" in chapter("What it cannot see")


def test_limits_that_the_page_gives_in_adu_are_those_of_the_checks() -> None:
    limits = resolved_values(load_config(None))["quality"]["frames"]
    text = chapter("What it cannot see")
    assert f"below {np.round(limits['leak_share'] * 65535):.0f} ADU" in text
    assert f"plus {limits['leak_share_per_s'] * 65535:.1f} ADU for each second" in text


def test_the_page_of_the_architecture_names_every_room_and_module_once() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = page.partition("\n## Rooms\n```\n")[2].partition("\n```\n")[0]
    listed = re.findall(r"^([a-z_]+(?:\.py|/)) ", rooms, flags=re.MULTILINE)
    package = ROOT / "ostcal"
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("_")}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(listed) == sorted(modules | folders)
