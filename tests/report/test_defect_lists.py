"""Lists of the worst pixels of a master: each program finds the pixel that is meant."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ostcal.measure.masters.defects import Defect
from ostcal.measure.masters.marked_pixels import ColumnPart, MarkedValues, WorstPixels, find_marked
from ostcal.report.defect_lists import (
    DefectList,
    csv_text,
    fits_bytes,
    kind_words,
    pixinsight_text,
    siril_text,
    write_lists,
)
from support import night as n
from support.night import Night

SIRIL = shutil.which("siril-cli")
SHAPE = (40, 60)


def master_and_list(unit: str = "ADU") -> tuple[np.ndarray, DefectList]:  # type: ignore[type-arg]
    """Return a master with known defects, and what is found of them."""
    master = np.random.default_rng(2).normal(500, 1, SHAPE).astype(np.float32)
    plane = np.zeros(SHAPE, np.uint8)
    for (row, column), value, bits in (
        ((3, 5), 6000.0, Defect.HOT),
        ((39, 0), 3000.5, Defect.HOT | Defect.NOISY),
        ((20, 59), -80.25, Defect.COLD),
    ):
        master[row, column], plane[row, column] = value, bits
    master[:, 31] += 900
    plane[:, 31] = Defect.BAD_COLUMN
    master[10:25, 44] += 700
    plane[10:25, 44] = Defect.BAD_COLUMN
    marked = find_marked([(0, plane)], SHAPE, 4)
    values = MarkedValues(marked)
    values.see(0, master)
    found = DefectList(
        master="master_dark_60.000s_20261130_024337",
        unit=unit,
        shape=SHAPE,
        n_marked=marked.n_marked,
        pixels=values.worst(),
        parts=marked.parts,
    )
    return master, found


def test_the_csv_counts_from_one_and_holds_the_values() -> None:
    master, found = master_and_list()
    rows = list(csv.DictReader(io.StringIO(csv_text(found).decode())))
    assert [(row["x"], row["y"], row["y_last"], row["kind"]) for row in rows] == [
        ("6", "4", "4", "hot"),
        ("1", "40", "40", "hot+noisy"),
        ("60", "21", "21", "cold"),
        ("32", "1", "40", "bad column"),
        ("45", "11", "25", "bad column"),
    ]
    for row in rows[:3]:
        assert float(row["value"]) == pytest.approx(master[int(row["y"]) - 1, int(row["x"]) - 1], abs=0.0006)
    assert float(rows[0]["difference"]) == pytest.approx(5500, abs=3)
    assert float(rows[2]["difference"]) == pytest.approx(-580, abs=3)
    assert rows[3]["value"] == ""


@pytest.mark.parametrize("values", [[0.0, -0.25, np.nan, 1e30, -np.inf], [7.0], []])
def test_any_values_give_lines_that_read_back(values: list[float]) -> None:
    size = len(values)
    pixels = WorstPixels(
        rows=np.arange(size, dtype=np.int32),
        columns=np.arange(size, dtype=np.int32) * 1000,
        bits=np.full(size, 255, np.uint8),
        values=np.array(values, np.float32),
        differences=np.array(values, np.float32),
    )
    found = DefectList(master="m", unit="", shape=(10, 9000), n_marked=size, pixels=pixels, parts=())
    rows = list(csv.DictReader(io.StringIO(csv_text(found).decode())))
    assert [row["x"] for row in rows] == [str(1000 * i + 1) for i in range(size)]
    for row, value in zip(rows, values, strict=True):
        if np.isfinite(value):
            assert float(row["value"]) == pytest.approx(max(min(value, 1e9), -1e9), abs=1e-6)
        else:
            assert row["value"] == ""
    assert siril_text(found).count(b"\n") == pixinsight_text(found).count(b"\n") == size


def test_the_fits_table_is_one_for_astropy() -> None:
    master, found = master_and_list()
    with fits.open(
        io.BytesIO(fits_bytes(found)), checksum=True
    ) as file:  # a wrong checksum is a warning: an error here
        file.verify("exception")
        assert [hdu.name for hdu in file] == ["PRIMARY", "DEFECTS", "COLUMNS"]
        assert (file[0].header["NMARKED"], file[0].header["NLISTED"], file[0].header["IMWIDTH"]) == (3, 3, 60)
        assert "count from 1" in " ".join(file[0].header["COMMENT"])
        table = file["DEFECTS"].data
        assert list(table["kind"]) == ["hot", "hot+noisy", "cold"]
        assert list(table["dq"]) == [1, 9, 2]
        np.testing.assert_array_equal(table["value"], master[table["y"] - 1, table["x"] - 1])
        assert file["DEFECTS"].columns["value"].unit == "ADU"
        assert [tuple(row) for row in file["COLUMNS"].data] == [(32, 1, 40), (45, 11, 25)]


def test_pixinsight_reads_columns_and_ranges_of_them_from_zero() -> None:
    _, found = master_and_list()
    assert pixinsight_text(found).decode().splitlines() == [
        "Col 5 3 3",
        "Col 0 39 39",
        "Col 59 20 20",
        "Col 31",
        "Col 44 10 24",
    ]


def test_siril_counts_rows_from_the_last_in_the_file() -> None:
    _, found = master_and_list()
    lines = siril_text(found).decode().splitlines()
    assert lines[:4] == ["P 5 36 H", "P 0 0 H", "P 59 19 C", "C 31 0 H"]
    assert lines[4:] == [f"P 44 {39 - row} H" for row in range(10, 25)]


@pytest.mark.skipif(SIRIL is None, reason="no siril: apt-get install siril")
def test_siril_mends_the_pixels_of_the_list(tmp_path: Path) -> None:
    master, found = master_and_list()
    fits.writeto(tmp_path / "dark.fits", master)
    (tmp_path / "list.lst").write_bytes(siril_text(found))
    (tmp_path / "script.ssf").write_text("requires 1.0.0\nset32bits\nload dark\ncosme list.lst\nsave mended\n")
    assert SIRIL is not None
    command = [SIRIL, "-d", str(tmp_path), "-s", str(tmp_path / "script.ssf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (mended,) = tmp_path.glob("mended.fit*")
    pixels = fits.getdata(mended).astype(np.float64)
    scale = np.median(master) / np.median(pixels)  # Siril may write values from 0 to 1
    assert np.abs(pixels * scale - 500).max() < 300, done.stdout[-2000:]  # the least defect is 580


def test_kinds_are_words() -> None:
    assert kind_words(int(Defect.HOT | Defect.BAD_COLUMN)) == "hot+bad column"
    assert max(len(kind_words(bits)) for bits in range(256)) <= 64


def test_all_lists_are_written_with_the_name_of_the_master(tmp_path: Path) -> None:
    _, found = master_and_list()
    names = write_lists(str(tmp_path), found)
    assert names == tuple(f"defects/defects_{found.master}{ending}" for ending in (".csv", ".lst", ".txt", ".fits"))
    assert sorted(path.name for path in (tmp_path / "defects").iterdir()) == sorted(name[8:] for name in names)
    assert write_lists(str(tmp_path), found) == names  # again, with the same content


def test_masters_of_a_run_have_lists_that_are_no_frames_and_go_with_them(tmp_path: Path) -> None:
    """From frames to the page: the hot pixel that was put into the darks is the worst of the list."""
    night = Night(tmp_path / "night")
    night.root.mkdir()
    n.write_bias(night)
    n.write_darks(night, 2.0)
    for path in night.darks.rglob("*.fits"):
        with fits.open(path, mode="update") as file:
            if file[0].header["EXPTIME"] == 2.0:
                file[0].data[11, 23] = 20_000
    config = n.write_config(night)
    assert n.ostcal("masters", "--config", config).exit_code in (0, 1)
    (report,) = night.masters.glob("report_*.json")
    (dark,) = (one for one in json.loads(report.read_text())["masters"] if one["kind"] == "dark")
    assert (dark["worst_pixels"][0]["row"], dark["worst_pixels"][0]["column"]) == (11, 23)
    assert "hot" in dark["worst_pixels"][0]["kinds"]
    assert len(dark["defect_lists"]) == 4
    page = report.with_suffix(".html").read_text()
    for name in dark["defect_lists"]:
        assert (night.masters / name).is_file()
        assert (night.masters / "latest" / name).is_file()  # the page may be opened as latest/report.html
        assert f'href="{name}" download' in page
    table = next(night.masters / name for name in dark["defect_lists"] if name.endswith(".fits"))
    first = fits.getdata(table, "DEFECTS")[0]
    assert (first["x"], first["y"]) == (24, 12)
    listed = n.ostcal("library", "--config", config)
    assert "defects_" not in listed.text
    again = n.ostcal("masters", night.masters, night.darks, "--out", tmp_path / "again")
    assert "defects_" not in again.text


def test_parts_of_columns_are_listed_within_bounds() -> None:
    empty = np.empty(0, np.int32)
    pixels = WorstPixels(
        rows=empty,
        columns=empty,
        bits=empty.astype(np.uint8),
        values=empty.astype(np.float32),
        differences=empty.astype(np.float32),
    )
    parts = tuple(ColumnPart(column=i, start=1, stop=9000) for i in range(10))
    found = DefectList(master="m", unit="ADU", shape=(9001, 100), n_marked=0, pixels=pixels, parts=parts)
    assert siril_text(found).count(b"\n") == 50_000
    assert pixinsight_text(found).decode().splitlines()[0] == "Col 0 1 8999"
