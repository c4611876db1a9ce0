"""Masters in a directory of each night: new ones go where the newest frame belongs, and all of them are the library."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import CalibrationApplier, MasterFrameCreator, load_master_flat
from ostcal.build.newest_frame import folder_of_newest
from ostcal.errors import ConfigError
from ostcal.library.find import find_masters
from ostcal.library.index import known_masters
from ostcal.places.night_folders import has_folder, root_of
from ostcal.science.cover import Cover
from ostcal.science.coverage_api import coverage_of
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night

FIRST, SECOND, THIRD = (datetime(2026, 11, day, 20, tzinfo=UTC) for day in (21, 22, 23))
TILT = {FIRST: 1.0, SECOND: 0.8, THIRD: 0.6}
"""What the left half of the flats of an evening has of the light of the right one."""


def write_flats(night: Night, evening: datetime, **cards: Any) -> None:
    image = np.full(n.SHAPE, 20000.0)
    image[:, : n.SHAPE[1] // 2] *= TILT[evening]
    stack = n.samples(5, image + 1002.0, noise=60.0, seed=evening.day)
    folder = night.flats / f"{evening:%d}"
    n.write_frames(folder, stack, "Flat Frame", 2.0, start=evening, FILTER="L", **cards)


def write_darks(night: Night, evening: datetime, **cards: Any) -> None:
    stack = n.samples(5, 1002.0, seed=100 + evening.day)
    n.write_frames(night.darks / f"{evening:%d}", stack, "Dark Frame", 2.0, start=evening + timedelta(hours=1), **cards)


def write_light(night: Night, evening: datetime) -> Path:
    image = np.full(n.SHAPE, 5000.0)
    image[:, : n.SHAPE[1] // 2] *= TILT[evening]
    stack = n.samples(1, image + 1002.0, noise=1.0, seed=200 + evening.day)
    folder = night.root / "lights" / f"{evening:%d}"
    (path,) = n.write_frames(folder, stack, "Light Frame", 2.0, start=evening + timedelta(hours=2), FILTER="L")
    return path


def config_of(night: Night, pattern: str = "masters/{night}", **sections: Any) -> dict[str, Any]:
    return night.config(output_dir=str(night.root / pattern)) | sections


def build(night: Night, pattern: str = "masters/{night}", **sections: Any) -> MasterFrameCreator:
    creator = MasterFrameCreator(config_of(night, pattern, **sections))
    status = creator.create_all_master_frames()
    assert not status.is_error, status.message
    return creator


def files_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_each_nights_build_has_its_folder_and_leaves_those_of_other_nights_as_they_are(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, FIRST)
    write_flats(night, FIRST)
    first = build(night)
    assert first.directory == str(tmp_path / "masters" / "2026-11-21")
    assert {path.name for path in (tmp_path / "masters").iterdir()} == {"2026-11-21", "latest"}
    before = files_below(tmp_path / "masters" / "2026-11-21")
    assert build(night).report.made == ()  # type: ignore[union-attr]
    assert files_below(tmp_path / "masters" / "2026-11-21").keys() == before.keys()
    for evening in (SECOND, THIRD):
        write_flats(night, evening)
        creator = build(night)
        assert creator.directory == str(tmp_path / "masters" / f"{evening:%Y-%m-%d}")
        assert creator.report is not None
        made = {(str(made.group.key.frame_type), made.group.key.night) for made in creator.report.made}
        # Once there are two nights, flats are named after theirs, as in one directory: the first is made anew.
        assert made == {("flat", one.date()) for one in ((FIRST, SECOND) if evening is SECOND else (THIRD,))}
        old = {Path(path).parent.name for unchanged in creator.report.unchanged for _, path in unchanged.files}
        assert old == ({"2026-11-21"} if evening is SECOND else {"2026-11-21", "2026-11-22"})
        assert all(Path(path).exists() for unchanged in creator.report.unchanged for _, path in unchanged.files)
    after = files_below(tmp_path / "masters" / "2026-11-21")
    masters = {name: when for name, when in before.items() if name.endswith(".fits")}
    assert masters
    assert {name: after[name] for name in masters} == masters  # nothing of the first night was touched
    nights = sorted(path for path in (tmp_path / "masters").iterdir() if path.name != "latest")
    assert [len(list(folder.glob("*.fits"))) for folder in nights] == [2, 2, 1]


def test_lights_take_the_masters_of_all_folders_as_they_would_of_one(tmp_path: Path) -> None:
    night = Night(tmp_path)
    lights = []
    for evening in (FIRST, SECOND, THIRD):
        if evening is FIRST:
            write_darks(night, evening)
        write_flats(night, evening)
        lights.append(write_light(night, evening))
        build(night)
    assert sorted(path.name for path in (tmp_path / "masters").iterdir() if path.is_dir()) == [
        "2026-11-21", "2026-11-22", "2026-11-23", "latest",
    ]  # fmt: skip
    applier = CalibrationApplier(config_of(night))
    assert applier.default_output_dir == str(tmp_path / "masters" / "calibrated")
    status = applier.calibrate_files(lights)
    assert not status.is_error, status.message
    for source in status.details["frames"]:
        image, _ = read_with_astropy(Path(status.details["frames"][source]["file"]))
        half = n.SHAPE[1] // 2
        # The flat of the same evening takes the tilt out; any other leaves 20 % and more.
        assert np.median(image[:, :half]) == pytest.approx(np.median(image[:, half:]), rel=0.01)
    coverage = coverage_of(config_of(night), [str(tmp_path / "lights")])
    assert coverage.masters == len(find_masters(str(tmp_path / "masters" / "{night}"))) == 5
    assert all(group.flat.state is Cover.COVERED and group.dark.state is Cover.COVERED for group in coverage.groups)
    loaded = load_master_flat("L", config_of(night), taken_at=FIRST)
    assert np.median(loaded[:, : n.SHAPE[1] // 2]) == pytest.approx(np.median(loaded[:, n.SHAPE[1] // 2 :]), rel=0.01)


def test_other_folders_are_not_the_library(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, FIRST)
    write_flats(night, FIRST)
    build(night)
    (tmp_path / "masters" / "2026-11-21").rename(tmp_path / "masters" / "old")
    pattern = str(tmp_path / "masters" / "{night}")
    assert find_masters(pattern) == known_masters(pattern) == []
    assert not has_folder(pattern)
    assert root_of(pattern) == str(tmp_path / "masters")
    assert build(night).report.made  # type: ignore[union-attr]
    assert len(find_masters(pattern)) == len(known_masters(pattern)) == 2


def test_words_are_those_of_the_newest_frame(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, FIRST)
    write_darks(night, SECOND + timedelta(hours=5), DATE_OBS="2026-11-23T01:30:00")  # after midnight
    places = [str(night.darks), str(night.flats)]
    pattern = "m/{camera}/{night}_{date}"
    assert folder_of_newest(pattern, places, 0.0) == "m/Synthetic/2026-11-22_2026-11-23"
    assert folder_of_newest("m/plain", places, 0.0) == "m/plain"
    # At 180 degrees east it is noon at 0:00 UTC: 1:30 is the afternoon of the next night.
    assert folder_of_newest("{night}", places, 180.0) == "2026-11-23"


def test_one_camera_word_and_two_cameras_are_refused_in_one_line(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, FIRST)
    write_darks(night, SECOND, INSTRUME="Another")
    with pytest.raises(ConfigError, match=r"\{camera\} is one camera, and the frames are of Another, Synthetic"):
        folder_of_newest("m/{camera}", [str(night.darks)], None)
    status = MasterFrameCreator(config_of(night, "{camera}/masters")).create_all_master_frames()
    assert status.is_error
    assert "\n" not in status.message
    assert not (tmp_path / "Another").exists()


def test_the_commands_work_on_all_folders(tmp_path: Path) -> None:
    night = Night(tmp_path)
    for evening in (FIRST, SECOND):
        write_darks(night, evening)
        write_flats(night, evening)
        write_light(night, evening)
        path = tmp_path / "c.yaml"
        path.write_text(json.dumps(config_of(night)), encoding="utf-8")
        made = n.ostcal("masters", "--config", path, "--no-confirm", "--json")
        assert made.exit_code in (0, 4), made.text
        document = json.loads(made.stdout)
        assert document["directory"] == str(tmp_path / "masters" / f"{evening:%Y-%m-%d}")
        assert Path(document["report"]["html"]).parent == Path(document["directory"])
        assert Path(document["log_file"]).parent == tmp_path / "masters"
    listed = json.loads(n.ostcal("library", "--config", path, "--json").stdout)
    assert len(listed["masters"]) == len(find_masters(str(tmp_path / "masters" / "{night}"))) >= 4
    page = tmp_path / "library.html"
    assert n.ostcal("library", "--config", path, "--html", page).exit_code == 0
    assert page.exists()
    report = n.ostcal("report", "--config", path)
    assert report.exit_code == 0, report.text
    assert "2026-11-22" in report.text
    pruned = json.loads(n.ostcal("prune", "--config", path, "--older", "1", "--json").stdout)
    assert all(one["action"] != "removed" for one in pruned["removals"])
    calibrated = n.ostcal("calibrate", tmp_path / "lights", "--config", path, "--json")
    assert calibrated.exit_code == 0, calibrated.text
    covered = n.ostcal("coverage", tmp_path / "lights", "--config", path)
    assert covered.exit_code == 0, covered.text
