"""`ostcal prune`: what is removed is stood for by verified masters; everything else stays, to the byte."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numcodecs import blosc

from ostcal.library.find import find_masters
from ostcal.library.history import history_of
from ostcal.library.index import MASTERS_INDEX
from ostcal.library.prune import PrunePlan, PruneRules, Removal, plan_prune
from ostcal.library.prune import prune as prune_library
from ostcal.places.locking import LOCK_FILE, LockRules, locked, series_locked
from ostcal.series.reader import open_series
from support import night as n
from support.master_samples import drop_checksums
from support.night import Night


def snapshot(root: Path) -> dict[str, int]:
    """Return all files but the log and the report, with their sizes."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix not in (".log", ".index", ".yaml")]
    return {str(path.relative_to(root)): path.stat().st_size for path in files if not path.name.startswith("report_")}


def prune(night: Night, *options: str) -> dict[str, Any]:
    outcome = n.ostcal("prune", "--config", n.write_config(night), *options, "--json")
    document: dict[str, Any] = json.loads(outcome.stdout)
    assert document["exit_code"] == outcome.exit_code == 0, outcome.text
    return document


def by_action(document: dict[str, Any], action: str, what: str = "") -> list[str]:
    return sorted(
        Path(one["place"]).name for one in document["removals"] if one["action"] == action and what in ("", one["what"])
    )


def masters_of(night: Night) -> list[str]:
    return sorted(master.record.name for master in find_masters(str(night.masters)))


def settings_and_nights(night: Night) -> set[tuple[str, float | None, float, Any]]:
    return {
        (
            str(m.key.frame_type),
            m.key.settings.gain,
            m.key.exposure_time_s,
            m.record.observed and m.record.observed.first,
        )
        for m in find_masters(str(night.masters))
    }


def import_series(night: Night, source: Path) -> None:
    assert n.ostcal("import", source, "--config", n.write_config(night)).exit_code == 0


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A night of bias, darks and flats as series, and their masters."""
    night, raw = Night(tmp_path / "night"), Night(tmp_path / "raw")
    night.root.mkdir()
    n.write_bias(raw)
    n.write_darks(raw, 2.0)
    n.write_flats(raw, 2.0)
    import_series(night, raw.darks)
    import_series(night, raw.flats)
    assert not night.run().is_error
    return night


# ---- masters ----


@pytest.fixture
def generations(tmp_path: Path) -> tuple[Night, list[str]]:
    """A dark made three times of the same night, and one of another night; newest last."""
    night = Night(tmp_path / "night")
    n.write_darks(night, 5.0)
    names: list[str] = []
    for _ in range(3):
        assert not night.run_darks(only_changed=False).is_error
        names += [name for name in masters_of(night) if name not in names]
    return night, names


def test_old_generations_go_with_both_copies_and_a_line_in_the_history(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    before = snapshot(night.root)
    planned = prune(night, "--keep", "1")
    assert snapshot(night.root) == before  # a dry run
    assert by_action(planned, "remove") == names[:2]
    done = prune(night, "--keep", "1", "--apply")
    assert by_action(done, "removed") == names[:2]
    gone = {path: size for path, size in before.items() if path not in snapshot(night.root)}
    assert sum(gone.values()) == sum(one["n_bytes"] for one in done["removals"])
    assert all(any(name in path for name in names[:2]) for path in gone)
    assert masters_of(night) == names[2:]
    assert [e.name for e in history_of(str(night.masters)) if e.subject == "removed master"] == names[:2][::-1]
    assert n.ostcal("verify", night.masters).exit_code == 0
    assert night.run_darks().details["unchanged"] == names[2:]


def test_lists_of_defects_go_with_their_master(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    folder = night.masters / "defects"
    folder.mkdir(exist_ok=True)
    for name in names:
        for ending in (".csv", ".lst", ".txt", ".fits"):
            (folder / f"defects_{name}{ending}").write_bytes(b"x")
    (folder / "defects_of_mine.csv").write_bytes(b"x")
    prune(night, "--keep", "1", "--apply")
    left = {path.name for path in folder.iterdir()}
    for name in names:
        assert (f"defects_{name}.fits" in left) == (f"defects_{name}.csv" in left) == (name in masters_of(night))
    assert "defects_of_mine.csv" in left
    assert {name for name in names if name not in masters_of(night)}


@pytest.mark.parametrize(("options", "stay"), [(("--keep", "2"), 2), (("--keep", "9"), 3), (("--older", "5"), 3)])
def test_what_is_not_old_by_the_rules_stays(
    generations: tuple[Night, list[str]], options: tuple[str, ...], stay: int
) -> None:
    night, names = generations
    prune(night, *options, "--apply")
    assert masters_of(night) == names[-stay:]


def test_age_alone_is_enough_and_the_newest_stays(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    now = datetime.now(UTC) + timedelta(days=10)
    for older_days, going in ((11.0, set()), (9.0, set(names[:2]))):
        plan = plan_prune(str(night.masters), [str(night.darks)], PruneRules(older_days=older_days), now)
        assert {item.name for item in plan.to_remove} == going


def test_masters_of_other_times_and_settings_stay_whatever_their_age(night: Night) -> None:
    n.write_darks(night, 2.0, n.dark_frames(2.0, seed=9), GAIN=0)
    stack, start = n.dark_frames(2.0, seed=11), n.START + timedelta(days=90)
    n.write_frames(night.darks / "winter", stack, "Dark Frame", 2.0, start=start)
    night.run(per_session=True)
    before = settings_and_nights(night)
    assert len({(kind, gain) for kind, gain, _, _ in before}) == 4
    assert len({first for kind, _, exposure_s, first in before if (kind, exposure_s) == ("dark", 2.0)}) == 2
    plans: list[PrunePlan] = []
    now = datetime.now(UTC) + timedelta(days=10)
    prune_library(str(night.masters), [], PruneRules(older_days=9), now, plans.append, lambda item, problem: None)
    assert settings_and_nights(night) == before
    assert {item.kept_because for item in plans[0].items if item.kept_because} <= {
        "it is the only master of its settings at its time"
    }


def test_a_dark_that_a_flat_names_stays(night: Night) -> None:
    before = masters_of(night)
    (flat,), (dark,) = ([name for name in before if word in name] for word in ("flat", "dark_2.000s"))
    named = [line for line in attributes_of(night, flat)["attributes"]["history"] if line.startswith("dark: ")]
    assert named == ["dark: master_dark_2.000s of 2026-11-21 (2 s)"]  # the same whichever run made it
    assert not night.run_darks(only_changed=False).is_error
    document = prune(night, "--keep", "1", "--apply")
    reasons = {Path(one["place"]).name: one["why"] for one in document["removals"] if one["action"] == "kept"}
    assert reasons[dark] == f"{flat} names it"
    assert dark in masters_of(night)


def test_a_dark_goes_with_the_last_flat_that_names_it(night: Night) -> None:
    before = masters_of(night)
    assert not night.run(only_changed=False).is_error  # a flat with a dark of its own
    document = prune(night, "--keep", "1", "--apply")
    assert by_action(document, "removed", "master") == [name for name in before if "0.001s" not in name]  # a bias


def attributes_of(night: Night, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((night.masters / "masters.zarr" / name / "zarr.json").read_text())
    return values


def fail(night: Night, name: str) -> None:
    place = night.masters / "masters.zarr" / name / "zarr.json"
    document = json.loads(place.read_text(encoding="utf-8"))
    document["attributes"]["verdict"] = "fail"
    del document["attributes"]["checksum"]
    place.write_text(json.dumps(document), encoding="utf-8")


def test_nothing_goes_for_a_newer_master_that_is_worse(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    fail(night, names[2])
    document = prune(night, "--keep", "1", "--apply")
    assert by_action(document, "removed") == names[:1]  # the second stands for the first
    reasons = {Path(one["place"]).name: one["why"] for one in document["removals"] if one["action"] == "kept"}
    assert reasons == {names[1]: "the newer ones have a worse verdict"}
    assert masters_of(night) == names[1:]


def test_nothing_goes_for_a_newer_master_that_is_damaged(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    shutil.rmtree(night.masters / "masters.zarr" / names[2] / "std")
    document = prune(night, "--keep", "1", "--apply")
    assert by_action(document, "removed") == names[:1]
    reasons = {Path(one["place"]).name: one["why"] for one in document["removals"] if one["action"] == "kept"}
    assert list(reasons) == names[1:2]
    assert reasons[names[1]].startswith("the newer one is damaged: ")
    assert masters_of(night) == names[1:]


def replace_one_sample(chunk: Path) -> None:
    """Change one sample of a stored chunk, so that it still unpacks: a disk that returns other bits."""
    data = chunk.read_bytes()
    rows = np.frombuffer(blosc.decompress(data[:-4]), np.float32).copy()
    rows[5] += 300
    chunk.write_bytes(blosc.compress(rows, b"lz4", 5, blosc.BITSHUFFLE) + data[-4:])


def flip_last_sample(path: Path) -> None:
    with fits.open(path) as hdus:
        at = hdus[0].fileinfo()["datLoc"] + 7
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("copy", ["store", "store alone", "file"])
def test_nothing_goes_for_a_newer_master_whose_samples_changed(generations: tuple[Night, list[str]], copy: str) -> None:
    night, names = generations
    file = night.masters / f"{names[2]}.fits"
    if copy == "file":
        flip_last_sample(file)
    else:
        replace_one_sample(night.masters / "masters.zarr" / names[2] / "master" / "c.0.0")
    if copy == "store alone":
        file.unlink()
    document = prune(night, "--keep", "1", "--apply")
    assert by_action(document, "removed") == names[:1]
    (kept,) = (one for one in document["removals"] if one["action"] == "kept")
    assert Path(kept["place"]).name == names[1]
    assert kept["why"].startswith("the newer one is damaged: ")
    assert masters_of(night) == names[1:]


@pytest.mark.parametrize("copy", ["store", "file"])
def test_a_series_whose_master_has_other_samples_stays(night: Night, copy: str) -> None:
    (name,) = [name for name in masters_of(night) if "flat" in name]
    if copy == "store":
        replace_one_sample(night.masters / "masters.zarr" / name / "master" / "c.0.0")
    else:
        flip_last_sample(night.masters / f"{name}.fits")
    document = prune(night, "--keep", "0", "--apply")
    kept = [one["place"] for one in document["removals"] if one["action"] == "kept" and one["what"] == "series"]
    assert kept == [str(night.flats / "exp_2.000s.zarr")]
    assert len(open_series(night.flats / "exp_2.000s.zarr").records) == 5


@pytest.mark.parametrize("has_file", [True, False])
def test_masters_without_checksums_need_their_file(generations: tuple[Night, list[str]], *, has_file: bool) -> None:
    night, names = generations
    for name in names:
        drop_checksums(night.masters / "masters.zarr" / name)
        if not has_file:
            (night.masters / f"{name}.fits").unlink()
    document = prune(night, "--keep", "1")
    assert by_action(document, "remove") == (names[:2] if has_file else [])
    if not has_file:
        assert all("neither checksums nor a file to compare with" in one["why"] for one in document["removals"])


# ---- other runs ----


def test_what_another_run_changes_while_prune_waits_for_it_is_seen(
    generations: tuple[Night, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    night, names = generations
    plans: list[PrunePlan] = []
    rules, now = PruneRules(keep=1), datetime.now(UTC)
    waiting = LockRules(wait_s=60, poll_s=0.05)

    def run() -> None:
        prune_library(str(night.masters), [], rules, now, plans.append, lambda item, problem: None, waiting)

    with ThreadPoolExecutor(1) as threads:
        with locked(night.masters / LOCK_FILE, what="masters"):
            ended = threads.submit(run)
            while "waiting up to" not in caplog.text and not ended.done():
                time.sleep(0.01)
            for name in names[1:]:
                fail(night, name)
        ended.result()
    assert masters_of(night) == names[:1] + names[2:]  # of the two that failed one stands for the other


def test_a_series_that_grows_while_it_is_looked_at_stays(night: Night, tmp_path: Path) -> None:
    n.write_frames(tmp_path / "more", n.dark_frames(2.0, 1, seed=77), "Dark Frame", 2.0, start=n.START, stem="late")
    problems: dict[str, str] = {}

    def planned(plan: PrunePlan) -> None:
        import_series(night, tmp_path / "more")

    def done(item: Removal, problem: str) -> None:
        problems[item.name] = problem

    series = str(night.darks / "exp_2.000s.zarr")
    prune_library(str(night.masters), [str(night.darks)], PruneRules(keep=0), datetime.now(UTC), planned, done)
    assert problems[series] == f"{series}: its frames changed while it was looked at; nothing of it is removed"
    assert len(open_series(series).records) == 8
    assert series not in [e.name for e in history_of(str(night.masters)) if e.subject == "removed series"]


def test_files_that_are_not_ours_stay(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    (night.masters / "notes.txt").write_text("mine", encoding="utf-8")
    other = night.masters / "master_dark_5s_of_another_program.fits"
    shutil.copy(next(night.masters.glob(f"{names[0]}.fits")), other)
    fits.setval(night.masters / f"{names[1]}.fits", "CALID", value="something else")
    document = prune(night, "--keep", "1", "--apply")
    assert by_action(document, "removed") == names[:1]
    (why,) = [one["why"] for one in document["removals"] if one["action"] == "kept"]
    assert why == f"{names[1]}.fits is another master now"
    assert other.exists()
    assert (night.masters / "notes.txt").exists()


# ---- series ----


def test_series_of_verified_masters_go_and_the_masters_stay_as_they_are(night: Night) -> None:
    before, masters = snapshot(night.root), snapshot(night.masters)
    assert by_action(prune(night, "--older", "100000"), "remove", "series") == []
    document = prune(night, "--keep", "0", "--apply")
    assert by_action(document, "removed", "series") == ["exp_0.001s.zarr", "exp_2.000s.zarr", "exp_2.000s.zarr"]
    gone = {path: size for path, size in before.items() if path not in snapshot(night.root)}
    assert {Path(path).parts[0] for path in gone} == {"darks", "flats"}
    assert sum(gone.values()) == sum(one["n_bytes"] for one in document["removals"])
    assert {p: s for p, s in snapshot(night.masters).items() if "history" not in p} == {
        p: s for p, s in masters.items() if "history" not in p
    }
    # A library that took long to read, as on a busy machine, leaves an index of its masters.
    assert [path for path in night.root.glob("*/.*") if path.name != MASTERS_INDEX] == []


def test_a_series_with_a_frame_that_is_in_no_master_stays(night: Night, tmp_path: Path) -> None:
    n.write_frames(tmp_path / "more", n.dark_frames(2.0, 1, seed=77), "Dark Frame", 2.0, start=n.START, stem="late")
    import_series(night, tmp_path / "more")
    document = prune(night, "--keep", "0", "--apply")
    (kept,) = [one for one in document["removals"] if one["action"] == "kept" and one["what"] == "series"]
    assert kept["why"] == "frame 7 is in no verified master that passed"
    assert len(open_series(night.darks / "exp_2.000s.zarr").records) == 8


@pytest.mark.parametrize("damage", ["failed", "cut"])
def test_a_series_whose_master_failed_or_is_damaged_stays(night: Night, damage: str) -> None:
    (name,) = [name for name in masters_of(night) if "flat" in name]
    place = night.masters / "masters.zarr" / name
    if damage == "failed":
        fail(night, name)
    else:
        shutil.rmtree(place / "std")
    document = prune(night, "--keep", "0", "--apply")
    kept = [one["place"] for one in document["removals"] if one["action"] == "kept" and one["what"] == "series"]
    assert kept == [str(night.flats / "exp_2.000s.zarr")]
    assert len(open_series(night.flats / "exp_2.000s.zarr").records) == 5


def test_a_part_of_a_master_stays_with_the_rest(night: Night, tmp_path: Path) -> None:
    n.write_frames(night.darks / "more", n.dark_frames(2.0, seed=5), "Dark Frame", 2.0, start=n.START)
    assert not night.run().is_error  # one master of the series and of files of a camera program
    document = prune(night, "--keep", "0")
    reasons = {Path(one["place"]).parts[-2]: one["why"] for one in document["removals"] if one["what"] == "series"
               and one["action"] == "kept" and "2.000" in one["place"]}  # fmt: skip
    assert reasons["darks"] == "its masters have frames of other places too, which stay"


def test_copies_beside_a_series_go_with_it_and_other_files_stay(night: Night) -> None:
    series, beside = night.darks / "exp_2.000s.zarr", night.darks / "exp_2.000s"
    assert n.ostcal("export", series, "--to", beside).exit_code == 0
    copies = sorted(beside.iterdir())
    assert len(copies) == 7
    changed = copies[0]
    with fits.open(changed, mode="update") as hdus:
        hdus[0].data = np.asarray(hdus[0].data) + 1
    (beside / "mine.fits").write_bytes(copies[1].read_bytes())
    document = prune(night, "--keep", "0", "--apply")
    (entry,) = [one for one in document["removals"] if one["place"] == str(series)]
    assert entry["action"] == "removed"
    assert sorted(entry["files"]) == [str(path) for path in copies[1:]]
    assert sorted(beside.iterdir()) == sorted([changed, beside / "mine.fits"])


def test_a_series_that_is_being_written_stays(night: Night) -> None:
    series = night.darks / "exp_2.000s.zarr"
    with series_locked(series):
        outcome = n.ostcal("prune", "--config", n.write_config(night), "--keep", "0", "--apply", "--json")
    document = json.loads(outcome.stdout)
    assert outcome.exit_code == 1
    assert by_action(document, "failed") == ["exp_2.000s.zarr"]
    assert len(open_series(series).records) == 7


# ---- kills, places, options ----


def test_a_kill_leaves_nothing_half_and_the_next_run_finishes(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    path = n.write_config(night)
    kill_at_removal = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom ostcal.places import paths\n"
        "import ostcal.library.prune as prune, ostcal.library.store as store\n"
        "real, left = os.unlink, [int(sys.argv.pop(1))]\n"
        "def unlink(*a, **k):\n    left[0] -= 1\n    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*a, **k)\n"
        "os.unlink = os.remove = unlink\nPath.unlink = lambda self, missing_ok=False: unlink(self)\n"
        "from ostcal.cli import main\nmain(sys.argv[1:])\n"
    )
    words = ["prune", "--config", str(path), "--keep", "1", "--apply"]
    for moment in range(4):
        process = subprocess.run(
            [sys.executable, "-c", kill_at_removal, str(moment), *words],
            env=n.command_environment(), capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert process.returncode in (-signal.SIGKILL, 0)
        for master in find_masters(str(night.masters)):  # each that is there is whole
            plane = master.plane
            assert plane.read_rows(0, 1).shape == (1, n.SHAPE[1])
    prune(night, "--keep", "1", "--apply")
    assert masters_of(night) == names[2:]
    assert not list(night.masters.glob(f"{names[0]}*"))


def test_something_must_be_said(night: Night) -> None:
    outcome = n.ostcal("prune", "--config", n.write_config(night))
    assert outcome.exit_code == 2
    assert "--keep N, --older D" in outcome.stderr


def test_an_object_store_and_a_place_that_is_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for place, word in ((str(tmp_path / "nothing"), "no such directory"), ("s3://b/masters", "object store")):
        path.write_text(json.dumps({"master_frames": {"output_dir": place}}), encoding="utf-8")
        outcome = n.ostcal("prune", "--config", path, "--keep", "1")
        assert outcome.exit_code == 1
        assert word in outcome.stderr


def test_the_table_has_sizes_and_reasons(generations: tuple[Night, list[str]]) -> None:
    night, names = generations
    outcome = n.ostcal("prune", "--config", n.write_config(night), "--keep", "1")
    assert outcome.exit_code == 0
    assert names[0] in "".join(outcome.stdout.split())
    assert max(map(len, outcome.stdout.splitlines())) <= 80
    assert "may be removed; --apply removes them" in outcome.stderr


def test_keep_0_says_what_it_keeps(generations: tuple[Night, list[str]]) -> None:
    night, _ = generations
    outcome = n.ostcal("prune", "--config", n.write_config(night), "--keep", "0")
    assert "the newest verified master of each setting and time stays" in outcome.stderr
    assert "--keep 0 keeps" not in n.ostcal("prune", "--config", n.write_config(night), "--keep", "1").stderr
