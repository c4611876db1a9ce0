"""The memory of a report does not grow with the number of its masters, and what does not fit is refused before."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ostcal.engine.tiling import PROCESS_BYTES, report_bytes
from ostcal.errors import PlanError, StorageError
from ostcal.measure.findings import Outcome
from ostcal.report.document import MasterReport, Report
from ostcal.report.making import in_order, make_report
from ostcal.report.page import MastersOfPage, render
from ostcal.report.png import ReportPictures
from ostcal.report.set_aside import TextsAside
from support import night as n
from support.report_samples import finding, frame_row, full_master, full_pictures, full_report

MIB = 2**20


def made(report: Report, pictures: ReportPictures, aside: TextsAside) -> MastersOfPage:
    masters = MastersOfPage(aside)
    for master in report.masters:
        masters.add(master, pictures.masters[master.name])
    return masters


def outlined(report: Report, masters: MastersOfPage) -> Report:
    return replace(report, masters=tuple(one.master for one in masters.outlines))


@pytest.mark.parametrize("held_bytes", [1, 2**30], ids=["in a file", "in memory"])
@pytest.mark.parametrize("which", ["full", "empty", "flagged"])
def test_both_files_are_the_same_as_when_all_is_in_memory(tmp_path: Path, which: str, held_bytes: int) -> None:
    report = full_report()
    if which == "empty":
        report = Report(made_at=report.made_at, software="ostcal")
    if which == "flagged":
        flagged = tuple(finding("warn", f"line\n\0 \ud800 {i}", frame=i) for i in range(3))
        one = replace(full_master(), findings=flagged, verdict=Outcome.WARN, frames=tuple(map(frame_row, range(3))))
        report = replace(report, masters=(one, *report.masters))
    pictures = full_pictures(report)
    with TextsAside(tmp_path, held_bytes) as aside:
        masters = made(report, pictures, aside)
        outline = outlined(report, masters)
        assert "".join(masters.json_parts(outline)) == report.json_text()
        assert "".join(masters.page_parts(outline, json_name="a.json")) == render(report, pictures, json_name="a.json")
    assert not list(tmp_path.iterdir())


def test_the_memory_does_not_grow_with_the_masters(tmp_path: Path) -> None:
    peaks, sizes = [], []
    for count in (3, 9):
        reports = (replace(full_master(), name=f"master_{i}") for i in range(count))
        tracemalloc.start()
        try:
            peaks_and_size = written(reports, tmp_path)
        finally:
            tracemalloc.stop()
        peaks.append(peaks_and_size[0])
        sizes.append(peaks_and_size[1])
    assert sizes[1] - sizes[0] > 2.5 * MIB  # of page and numbers
    assert peaks[1] - peaks[0] < MIB / 2


def written(masters: Iterable[MasterReport], folder: Path) -> tuple[int, int]:
    """Make both files of masters, one at a time; return the peak of the memory and the size of the files."""
    with TextsAside(folder, MIB // 8) as aside:
        taken = MastersOfPage(aside)
        for master in masters:
            one = replace(full_report(), masters=(master,))
            taken.add(master, full_pictures(one, width=640, height=427).masters[master.name])
        report = outlined(full_report(), taken)
        size = sum(len(part) for part in taken.json_parts(report)) + sum(len(part) for part in taken.page_parts(report))
        return tracemalloc.get_traced_memory()[1], size


def test_what_is_read_ahead_waits_to_be_taken() -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def read(number: int) -> int:
        with lock:
            begun.append(number)
        return number

    results = in_order(read, range(50), 2)
    assert next(results) == 0
    time.sleep(0.05)  # whatever was submitted has begun
    assert len(begun) <= 3
    assert list(results) == list(range(1, 50))


def test_texts_that_cannot_be_put_aside_are_one_line(tmp_path: Path) -> None:
    with (
        TextsAside(tmp_path / "absent", 10) as aside,
        pytest.raises(StorageError, match="cannot be put aside: No such"),
    ):
        aside.put("a text of more than ten letters")


def test_too_little_memory_is_refused_before_the_report(tmp_path: Path) -> None:
    night = n.Night(tmp_path)
    n.write_darks(night, 5.0)
    done = n.run_command(night, "--darks-only", quality_control=False, create_master_bias=False)
    assert done.exit_code == 0, done.text
    (folder,) = {path.parent for path in tmp_path.rglob("masters.zarr")}
    with pytest.raises(
        PlanError, match=r"memory_limit 128 MiB is too small: the report of masters of .* takes \d+ MiB"
    ):
        make_report(str(folder), memory_limit_bytes=128 * MIB)
    assert not list(folder.glob("report_*"))
    html_path, _ = make_report(str(folder), memory_limit_bytes=report_bytes((4000, 6000)))
    assert html_path.exists()


def test_a_report_of_any_size_is_planned_with_a_bounded_memory() -> None:
    assert PROCESS_BYTES < report_bytes((10, 10)) < report_bytes((4000, 6000)) < report_bytes((11648, 8742)) < 400 * MIB
