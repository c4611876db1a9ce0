"""FITS files that a person excludes: recorded beside the masters, reversible, and known where they are moved to."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from ostcal.inputs.excluded_files import FILE_NAME
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night, ostcal, write_config


@pytest.fixture
def night(tmp_path: Path) -> Night:
    night = Night(tmp_path)
    n.write_darks(night, 5.0)
    return night


def frames(night: Night) -> list[Path]:
    return sorted(night.darks.rglob("*.fits"))


def exclude(night: Night, *arguments: str | Path) -> n.Outcome:
    return ostcal("exclude", *arguments, "--config", write_config(night))


def used(night: Night) -> int:
    (path,) = night.run_darks().data["dark"]
    return int(read_with_astropy(path)[1]["NCOMBINE"])


def test_an_excluded_file_is_in_no_master_and_stays_as_it_is(night: Night) -> None:
    before = {path: path.read_bytes() for path in frames(night)}
    outcome = exclude(night, *frames(night)[2:4], "--why", "light  from\nthe door")
    assert outcome.exit_code == 0, outcome.text
    assert "is excluded: light from the door" in outcome.stderr
    assert used(night) == 5
    assert {path: path.read_bytes() for path in frames(night)} == before
    document = json.loads((night.masters / FILE_NAME).read_text())
    assert [Path(file["path"]).name for file in document["files"]] == [path.name for path in frames(night)[2:4]]
    assert "@" in document["files"][0]["decisions"][0]["who"]


def test_it_can_be_included_again_and_both_is_recorded(night: Night) -> None:
    path = frames(night)[2]
    exclude(night, path, "--why", "clouds")
    assert used(night) == 6
    assert exclude(night, path, "--include").exit_code == 0
    assert used(night) == 7
    (file,) = json.loads((night.masters / FILE_NAME).read_text())["files"]
    assert [decision["excluded"] for decision in file["decisions"]] == [True, False]


def test_the_list_names_files_reasons_and_persons(night: Night) -> None:
    assert "no FITS file is excluded" in exclude(night, "--list").stderr
    path = frames(night)[2]
    exclude(night, path, "--why", "clouds")
    text = "".join(exclude(night, "--list").stdout.split())
    assert "clouds" in text
    assert path.name in text


def test_a_file_that_is_moved_or_copied_stays_excluded(night: Night) -> None:
    path = frames(night)[2]
    exclude(night, path, "--why", "clouds")
    shutil.copy(path, path.with_name("copy.fits"))
    path.rename(path.with_name("moved.fits"))
    assert used(night) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.fits"], "--why"),
        (["x.fits", "--frame", "3", "--why", "x"], "--frame N is for one series"),
        ([], "name FITS files"),
        (["--list", "--why", "x"], "--list cannot be combined"),
    ],
)
def test_wrong_usage_is_refused(night: Night, arguments: list[str], message: str) -> None:
    outcome = exclude(night, *arguments)
    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert not (night.masters / FILE_NAME).exists()


def test_what_is_no_frame_is_named_and_none_of_the_others_is_excluded(night: Night) -> None:
    (night.darks / "torn.fits").write_bytes(b"SIMPLE  =")
    for name in ("torn.fits", "absent.fits"):
        outcome = exclude(night, frames(night)[0], night.darks / name, "--why", "x")
        assert outcome.exit_code == 1
        assert name in outcome.stderr
    assert not (night.masters / FILE_NAME).exists()
    assert exclude(night, frames(night)[0], "--include").exit_code == 1


@pytest.mark.parametrize("data", [b"", b"[]", b'{"files": [{"path": "x", "decisions": []}]}', b'{"files": 3}'])
def test_a_damaged_record_stops_the_run_in_one_line(night: Night, data: bytes) -> None:
    night.masters.mkdir()
    (night.masters / FILE_NAME).write_bytes(data)
    status = night.run_darks()
    assert status.is_error
    assert FILE_NAME in status.message
    assert "which frames are excluded" in status.message


def test_a_file_that_was_moved_is_included_again_under_its_new_name(night: Night) -> None:
    path = frames(night)[2]
    exclude(night, path, "--why", "clouds")
    path.rename(path.with_name("renamed.fits"))
    assert used(night) == 6
    assert exclude(night, path.with_name("renamed.fits"), "--undo").exit_code == 0
    assert used(night) == 7


def test_a_packed_file_that_was_moved_is_named(night: Night) -> None:
    path = frames(night)[2]
    packed = path.with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    exclude(night, packed, "--why", "clouds")
    assert used(night) == 6
    packed.rename(path.with_name("moved.fits.gz"))
    status = night.run_darks()
    (line,) = [line for line in status.details["warnings"] if "is excluded, and is not there" in line]
    assert line.startswith(str(packed))
    assert exclude(night, packed, "--undo").exit_code == 0
    assert not any("not there" in line for line in night.run_darks().details["warnings"])


def test_a_master_is_no_frame_to_exclude(night: Night) -> None:
    (master,) = night.run_darks().data["dark"]
    outcome = exclude(night, master, "--why", "old")
    assert outcome.exit_code == 1
    assert "is a master, and masters are not combined" in outcome.stderr
