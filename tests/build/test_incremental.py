"""Incremental builds: a run makes what changed since an earlier one, and leaves the rest as it is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ostcal import Status
from ostcal.cli import main
from ostcal.library.store import MasterStore
from support.fits_samples import read_with_astropy
from support.night import (
    Night,
    bias_frames,
    dark_frames,
    flat_frames,
    ostcal,
    run_command,
    write_bias,
    write_darks,
    write_flats,
    write_frames,
)

LEVELS = (20000, 21000, 19500, 22000, 20500)


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """Return bias, darks of two exposures, and flats whose dark is one of them; all masters are made."""
    night = Night(tmp_path)
    write_bias(night)
    write_darks(night, 2.0)
    write_darks(night, 8.0, dark_frames(8.0, seed=5))
    write_flats(night, 2.0)
    assert not night.run().is_error
    return night


def made(status: Status) -> list[str]:
    """Return the kinds and exposures that a run has made."""
    assert not status.is_error, status.message
    return sorted(name.split("_20")[0] for name in status.details["masters"])


def files(night: Night) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in night.masters.glob("*.fits")}


def pixels(status: Status) -> dict[str, bytes]:
    """Return the samples of all masters that a run says there are, by the kind in their names."""
    paths = [Path(path) for kind in status.data.values() for path in kind]
    return {path.name.split("_20")[0]: read_with_astropy(path)[0].tobytes() for path in paths}


def all_anew(night: Night, **keys: Any) -> dict[str, bytes]:
    """Return the samples of the masters of the same frames, made in another directory."""
    return pixels(night.run(output_dir=str(night.root / f"fresh{len(list(night.root.iterdir()))}"), **keys))


def test_a_second_run_makes_nothing_and_gives_what_there_is(night: Night) -> None:
    before = files(night)
    status = night.run()
    assert made(status) == []
    assert files(night) == before
    assert "0 masters made (none)" in status.message
    assert "5 unchanged" in status.message
    assert sorted(os.path.basename(path) for kind in status.data.values() for path in kind) == sorted(before)
    assert pixels(status) == all_anew(night)


def test_a_frame_more_changes_its_dark_and_the_flat_that_takes_it(night: Night) -> None:
    more = dark_frames(2.0, n=1, seed=77)
    write_frames(night.darks / "exp_2.000s", more, "Dark Frame", 2.0, stem="later")
    status = night.run()
    assert made(status) == ["master_dark_2.000s", "master_flat_2.000s"]
    assert pixels(status) == all_anew(night)
    assert made(night.run()) == []


def test_a_frame_more_of_another_exposure_leaves_the_flat_alone(night: Night) -> None:
    write_frames(night.darks / "exp_8.000s", dark_frames(8.0, n=1, seed=77), "Dark Frame", 8.0, stem="later")
    status = night.run()
    assert made(status) == ["master_dark_8.000s"]
    assert pixels(status) == all_anew(night)


def test_new_flats_take_the_darks_that_there_are(night: Night) -> None:
    for path in night.flats.rglob("*.fits"):
        path.unlink()
    write_flats(night, 2.0, flat_frames(2.0, LEVELS, seed=9))
    status = night.run()
    assert made(status) == ["master_flat_2.000s"]
    assert pixels(status) == all_anew(night)
    name = next(iter(status.details["masters"]))
    history = MasterStore(night.masters / "masters.zarr").attributes(name)["history"]
    assert any("master_dark_2.000s" in line for line in history)


def test_a_frame_that_changed_in_its_file_counts_as_another_one(night: Night) -> None:
    (night.darks / "exp_8.000s" / "dark_000.fits").unlink()
    write_frames(night.darks / "exp_8.000s", dark_frames(8.0, n=1, seed=78), "Dark Frame", 8.0)
    assert made(night.run()) == ["master_dark_8.000s"]


@pytest.mark.parametrize(
    "keys",
    [
        {"rejection_method": "median"},
        {"sigma_threshold": 2.5},
        {"extensions": True},
        {"quality_control": False},
        {"only_changed": False},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_other_settings_make_all_anew(night: Night, keys: dict[str, Any]) -> None:
    assert len(made(night.run(**keys))) == 4


def test_another_normalization_makes_the_flat_anew(night: Night) -> None:
    assert made(night.run(normalization_method="median")) == ["master_flat_2.000s"]


def test_a_file_that_was_deleted_or_replaced_is_made_again(night: Night) -> None:
    dark = next(night.masters.glob("master_dark_8*.fits"))
    bias = next(night.masters.glob("master_bias*.fits"))
    dark.unlink()
    bias.write_bytes(next(night.masters.glob("master_flat*.fits")).read_bytes())
    assert made(night.run()) == ["master_bias", "master_dark_8.000s"]


def test_flats_alone_find_their_dark_unchanged(night: Night) -> None:
    assert made(night.run_flats()) == []


def test_a_frame_that_is_taken_again_makes_the_newest_master_anew(night: Night, tmp_path: Path) -> None:
    kept = night.darks / "exp_8.000s" / "dark_003.fits"
    kept.rename(tmp_path / "away.fits")
    assert made(night.run()) == ["master_dark_8.000s"]
    (tmp_path / "away.fits").rename(kept)
    status = night.run()
    assert made(status) == ["master_dark_8.000s"], "the master with all frames is older than the one without"
    assert pixels(status) == all_anew(night)
    assert made(night.run()) == []


def test_a_master_that_failed_is_told_of_again_and_not_made_again(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, 2.0, np.full((7, 20, 28), 1000, np.uint16))  # no noise at all
    first = night.run()
    assert first.details["failed_quality"] == list(first.details["masters"])
    before = files(night)
    for _ in range(2):
        status = night.run()
        assert status.details["masters"] == {}
        assert status.details["failed_quality"] == first.details["failed_quality"]
        (line,) = (line for line in status.details["warnings"] if "unchanged, failed (" in line)
        assert line.startswith(first.details["failed_quality"][0])
        assert files(night) == before
    assert made(night.run(only_changed=False)) == ["master_dark_2.000s"]
    (night.darks / "exp_2.000s" / "dark_006.fits").unlink()
    assert made(night.run()) == ["master_dark_2.000s"]


def test_the_command_ends_with_the_code_of_a_failure_and_hooks_hear_of_it_once(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_darks(night, 2.0, np.full((7, 20, 28), 1000, np.uint16))
    heard = tmp_path / "heard"
    command = [sys.executable, "-c", f"open({str(heard)!r}, 'a').write('x')"]
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(night.config() | {"hooks": {"on": ["master_failed"], "command": command}}))
    for _ in range(3):
        assert ostcal("masters", "--config", config, "--no-confirm").exit_code == 3
    assert heard.read_text() == "x"


def test_excluding_a_frame_and_taking_it_back_rebuilds_its_master_alone(tmp_path: Path) -> None:
    night = Night(tmp_path)
    write_bias(night, bias_frames())
    write_darks(night, 2.0)
    config = tmp_path / "config.json"
    values = night.config() | {"dark_capture": {"output_dir": str(tmp_path / "series")}}
    config.write_text(json.dumps(values))
    command("import", str(night.darks), "--config", str(config))
    run(config, "master_bias", "master_dark_2.000s")
    series = next(path for path in (tmp_path / "series").rglob("*.zarr") if "2.000" in str(path))
    command("exclude", str(series), "--frame", "3", "--why", "satellite")
    run(config, "master_dark_2.000s")
    command("exclude", str(series), "--frame", "3", "--undo")
    run(config, "master_dark_2.000s")
    run(config)
    run(config, "master_bias", "master_dark_2.000s", options=["--all"])


def command(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def run(config: Path, *expected: str, options: list[str] | None = None) -> None:
    """Run ``ostcal masters`` and compare what it made with what was expected."""
    masters = config.parent / "masters"
    before = set(masters.glob("*.fits"))
    said = command("masters", "--config", str(config), "--no-confirm", *(options or []))
    new = sorted(path.name.split("_20")[0] for path in set(masters.glob("*.fits")) - before)
    assert [name for name in new if name != "master_dark_0.001s"] == list(expected), said
    assert ("unchanged" in said) == (len(expected) < 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def linked_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("master/zarr.json", emptied),
        ("std/zarr.json", zeroed),
        ("n_used/zarr.json", cut),
        ("dq/zarr.json", Path.unlink),
        ("dq/zarr.json", emptied),
        ("master/c.0.0", emptied),
        ("std/c.0.0", flipped),
        ("dq/c.0.0", zeroed),
        ("n_used/c.0.0", Path.unlink),
        ("std/c.1.0", cut),  # neither the first nor the last
        ("master/c.0.0", linked_to_itself),
        ("n_used/zarr.json", linked_to_itself),
        ("dq/c.0.0", piped),
        ("std/zarr.json", piped),
    ],
)
def test_a_damaged_master_is_not_unchanged_and_is_made_again_with_a_line(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    night = Night(tmp_path)
    write_darks(night, 8.0, dark_frames(8.0, n=3))
    before = pixels(night.run_darks())
    (master,) = (night.masters / "masters.zarr").glob("master_dark_8*")
    damage(master / file)
    status = night.run_darks()
    assert made(status) == ["master_dark_8.000s"]
    (line,) = (line for line in status.details["warnings"] if "damaged" in line)
    assert line.startswith(f"{master.name}: damaged (")
    assert str(master / file.split("/")[0]) in line
    assert "\n" not in line
    assert line.endswith("; it is made again")
    assert pixels(status) == before
    assert made(night.run_darks()) == []


@pytest.mark.parametrize("damage", [emptied, cut, Path.unlink])
def test_a_damaged_file_of_a_master_is_made_again_with_a_line_and_a_deleted_one_without(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    night = Night(tmp_path)
    write_darks(night, 8.0, dark_frames(8.0, n=3))
    before = pixels(night.run_darks())
    (file,) = night.masters.glob("master_dark_8*.fits")
    damage(file)
    status = night.run_darks()
    assert made(status) == ["master_dark_8.000s"]
    assert pixels(status) == before
    lines = [line for line in status.details["warnings"] if "made again" in line]
    if damage is Path.unlink:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"{file.stem}: damaged ({file}: ")
    assert made(night.run_darks()) == []


def test_attributes_that_a_power_cut_emptied_are_made_again(night: Night) -> None:
    (master,) = (night.masters / "masters.zarr").glob("master_bias*")
    emptied(master / "zarr.json")
    assert made(night.run()) == ["master_bias"]
    assert made(night.run()) == []


def test_a_run_that_was_killed_before_history_and_report_is_completed_by_the_next(night: Night) -> None:
    history = night.masters / "quality_history.jsonl"
    assert run_command(night, "--all").exit_code == 0
    whole = history.read_bytes().splitlines()
    last = whole[-4:]  # of a bias, two darks and a flat
    reports = sorted(night.masters.glob("report_*"))
    # what a kill leaves between the commit of the last master and the end
    history.write_bytes(b"\n".join(whole[:-4]) + b"\n" + last[1] + b"\n")
    for path in reports:
        path.unlink()
    outcome = run_command(night)
    assert "5 unchanged" in outcome.stderr
    assert sorted(history.read_bytes().splitlines()) == sorted(whole)
    (page,) = night.masters.glob("report_*.html")
    assert all(name in page.read_text("utf-8") for name in ("Bias", "Dark", "Flat"))
    before = history.read_bytes()
    run_command(night)
    assert history.read_bytes() == before
    assert list(night.masters.glob("report_*.html")) == [page]


def test_masters_of_a_killed_run_are_followed_though_the_next_makes_all_again(night: Night) -> None:
    """None of them is unchanged then."""
    history = night.masters / "quality_history.jsonl"

    def names() -> list[str]:
        return [json.loads(line)["name"] for line in history.read_text("utf-8").splitlines()]

    assert run_command(night).exit_code == 0
    before = history.read_bytes()
    assert run_command(night, "--all").exit_code == 0
    whole = names()
    history.write_bytes(before)  # what a kill leaves between the commit of the last master and the end
    assert run_command(night, "--all").exit_code == 0
    assert names()[: len(whole)] == whole
    assert len(names()) == len(set(names())) == len(whole) + len(before.splitlines())
