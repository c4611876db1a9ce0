"""Masters from an object store into an object store: bit for bit what comes out on a disk, and what comes after."""

from __future__ import annotations

import gzip
import json
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.engine.cluster.worker_checks import report_of_worker
from ostcal.fits.read import FitsStack, inspect_fits
from ostcal.library.copy_stores import copy_store, plan_copies
from ostcal.library.planes import DTYPES, PLANES, Plane
from ostcal.library.store import MasterStore
from ostcal.measure.masters.marked_pixels import MarkedValues, find_marked
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.objects import ObjectAccess, ObjectPath
from ostcal.places.paths import files_below, open_binary
from ostcal.report.defect_lists import DefectList, write_lists
from support import night as n
from support.night import Night
from support.object_samples import fresh_bucket
from support.object_server import ACCESS_KEY, SECRET_KEY, FaultyProxy, credentials


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night of FITS files, imported into series, with masters on the disk."""
    root = tmp_path_factory.mktemp("local")
    raw = n.whole_night(root / "raw")
    night = Night(root / "night")
    night.root.mkdir()
    assert n.ostcal("import", raw.darks, raw.flats, "--config", n.write_config(night)).exit_code == 0
    outcome = n.run_command(night)
    assert outcome.exit_code == 0, outcome.text
    return night


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)  # the log file
    with credentials():
        yield fresh_bucket(s3_endpoint)
    use_options(ObjectOptions())


class RemoteNight:
    """A night in a bucket."""

    def __init__(self, bucket: str, endpoint: str, root: Path) -> None:
        self.darks, self.flats, self.masters = (f"{bucket}/{name}" for name in ("darks", "flats", "masters"))
        self.endpoint = endpoint
        self.root = root

    def config(self, storage: dict[str, Any] | None = None, *, judged: bool = True, **compute: Any) -> Path:
        values = Night(self.root).config(compute=compute, quality_control=judged)
        for section, place in (("dark_capture", self.darks), ("flat_capture", self.flats)):
            values[section]["output_dir"] = place
        values["master_frames"]["output_dir"] = self.masters
        values["storage"] = {"endpoint": self.endpoint, "retries": 3, "timeout": 10, **(storage or {})}
        path = self.root / "remote.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    def run(self, *, judged: bool = True, **compute: Any) -> n.Outcome:
        return n.ostcal("masters", "--config", self.config(judged=judged, **compute), "--no-confirm")


@pytest.fixture
def remote(local: Night, bucket: str, s3_endpoint: str, tmp_path: Path) -> RemoteNight:
    night = RemoteNight(bucket, s3_endpoint, tmp_path)
    for source, target in ((local.darks, night.darks), (local.flats, night.flats)):
        for plan in plan_copies(source, target):
            copy_store(plan)
    return night


def without_time(name: str) -> str:
    return re.sub(r"_\d{8}_\d{6}", "", name)


def planes_of(masters: str | Path, planes: Sequence[Plane] = tuple(PLANES)) -> dict[str, np.ndarray[Any, Any]]:
    store = MasterStore(f"{masters}/masters.zarr")
    opened = {without_time(name): store.open(name) for name in store.names()}
    return {f"{name} {plane}": master.array(plane) for name, master in opened.items() for plane in planes}


def fits_of(masters: str | Path) -> dict[str, np.ndarray[Any, Any]]:
    images = {}
    for name in files_below(str(masters)):
        if name.endswith(".fits") and "/" not in name:
            frame = inspect_fits(f"{masters}/{name}")
            rows = np.empty((1, frame.height, frame.width), np.float32)
            FitsStack((frame,)).read_rows(0, frame.height, rows)
            images[without_time(name)] = rows
    return images


def same(ours: dict[str, np.ndarray[Any, Any]], theirs: dict[str, np.ndarray[Any, Any]]) -> bool:
    assert set(ours) == set(theirs)
    return all(np.array_equal(ours[name].view(np.uint8), theirs[name].view(np.uint8)) for name in ours)


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text


@pytest.mark.parametrize(
    "compute",
    [{"scheduler": "threads"}, {"scheduler": "processes"}, {"scheduler": "distributed"}],
    ids=lambda compute: compute["scheduler"],
)
@pytest.mark.slow
def test_masters_are_the_same_bit_for_bit(local: Night, remote: RemoteNight, compute: dict[str, Any]) -> None:
    judged = compute["scheduler"] == "threads"
    outcome = remote.run(judged=judged, **compute)
    assert outcome.exit_code == 0, outcome.text
    planes: tuple[Plane, ...] = tuple(DTYPES) if judged else tuple(PLANES)
    assert same(planes_of(local.masters, planes), planes_of(remote.masters, planes))
    assert same(fits_of(local.masters), fits_of(remote.masters))
    strays = [name for name in files_below(remote.masters) if name.startswith(".")]
    assert not strays


@pytest.mark.slow
def test_all_commands_work_there_and_no_secret_is_anywhere(local: Night, remote: RemoteNight, tmp_path: Path) -> None:
    config = remote.config()
    outcomes = [
        n.ostcal("masters", "--config", config, "--no-confirm", "--debug"),
        n.ostcal("report", "--config", config, "--debug"),
        n.ostcal("library", "--config", config, "--json"),
        n.ostcal("library", "--config", config, "--html", f"{remote.masters}/library.html"),
        n.ostcal("verify", remote.darks, remote.flats, remote.masters, "--config", config, "--debug"),
    ]
    lights = tmp_path / "lights"
    n.write_frames(lights, n.flat_frames(2.0, (9000, 9500)), "Light Frame", 2.0)
    for path in lights.iterdir():
        (ObjectPath.of(remote.darks).parent / "lights" / path.name).write_bytes(path.read_bytes())
    science = remote.darks.replace("/darks", "/lights")
    outcomes.append(n.ostcal("calibrate", science, "--config", config, "--debug"))
    (name,) = {name.partition("/")[0] for name in files_below(remote.darks) if name.startswith("exp_5")}
    outcomes.append(
        n.ostcal("exclude", f"{remote.darks}/{name}", "--frame", "1", "--why", "clouds", "--config", config)
    )
    outcomes.append(n.ostcal("masters", "--config", config, "--no-confirm"))
    for outcome in outcomes:
        assert outcome.exit_code == 0, outcome.text
    assert "no problems found" in outcomes[4].text
    assert "excluded" in outcomes[-1].text
    assert len(files_below(remote.darks.replace("/darks", "/calibrated"))) == 2
    assert_no_secret(*(outcome.text for outcome in outcomes))
    assert not any(remote.endpoint in outcome.text for outcome in outcomes)
    for log in tmp_path.glob("*.log"):
        assert_no_secret(log.read_text())
    for place in (remote.masters, remote.darks, remote.darks.replace("/darks", "/calibrated")):
        for below in files_below(place):
            with open_binary(f"{place}/{below}") as file:
                text = file.read().decode("latin-1")
            assert_no_secret(text)
            assert remote.endpoint.removeprefix("http://") not in text
    below = files_below(remote.masters)
    assert len([path for path in below if path.startswith("report_")]) >= 4
    with open_binary(f"{remote.masters}/library.html") as file:
        assert 'href="report_' in file.read().decode()


def test_lists_of_defects_are_written_there(remote: RemoteNight) -> None:
    plane = np.zeros((8, 9), np.uint8)
    plane[3, 4] = 1
    marked = find_marked([(0, plane)], (8, 9), 1)
    values = MarkedValues(marked)
    values.see(0, plane.astype(np.float32) * 70)
    found = DefectList(master="master_dark", unit="ADU", shape=(8, 9), n_marked=1, pixels=values.worst(), parts=())
    names = write_lists(remote.masters, found)
    assert set(names) <= set(files_below(remote.masters))
    with open_binary(f"{remote.masters}/{names[0]}") as file:
        assert file.read().endswith(b"5,4,4,70.000,70.000,hot\n")


@pytest.mark.slow
def test_calibrated_frames_are_the_same_as_on_a_disk(local: Night, remote: RemoteNight, tmp_path: Path) -> None:
    assert remote.run(judged=False).exit_code == 0
    lights = tmp_path / "lights"
    n.write_frames(lights, n.flat_frames(2.0, (9000, 9500)), "Light Frame", 2.0)
    here = n.ostcal("calibrate", lights, "--config", n.write_config(local), "--output-dir", tmp_path / "done")
    there = n.ostcal("calibrate", lights, "--config", remote.config(), "--output-dir", f"{remote.masters}/done")
    assert (here.exit_code, there.exit_code) == (0, 0), here.text + there.text
    assert same(fits_of(tmp_path / "done"), fits_of(f"{remote.masters}/done"))


@pytest.mark.slow
def test_fits_files_and_packed_ones_are_read_from_a_store(bucket: str, s3_endpoint: str, tmp_path: Path) -> None:
    raw = n.whole_night(tmp_path / "raw")
    night = RemoteNight(bucket, s3_endpoint, tmp_path)
    for folder, target in ((raw.darks, night.darks), (raw.flats, night.flats)):
        for path in folder.rglob("*.fits"):
            inside = path.relative_to(folder).as_posix()
            packed = inside.endswith("001.fits")
            data = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
            ObjectPath.of(f"{target}/{inside}{'.gz' if packed else ''}").write_bytes(data)
    assert n.run_command(raw, quality_control=False).exit_code == 0
    outcome = night.run(judged=False)
    assert outcome.exit_code == 0, outcome.text
    assert same(planes_of(raw.masters), planes_of(night.masters))


def test_nothing_is_made_anew_where_nothing_changed(remote: RemoteNight) -> None:
    assert remote.run(judged=False).exit_code == 0
    before = files_below(remote.masters)
    outcome = remote.run(judged=False)
    assert outcome.exit_code == 0
    masters = [name for name in files_below(remote.masters) if "master_" in name]
    assert masters == [name for name in before if "master_" in name]


def fault_of(method: str, path: str, number: int) -> str:
    """Spoil one request in eight; stalls cost a second each, so they are rare."""
    if number % 61 == 0:
        return "slow"
    return {3: "503", 11: "cut", 19: "lost"}.get(number % 24, "")


def test_masters_are_copied_there_and_back(local: Night, remote: RemoteNight, tmp_path: Path) -> None:
    (plan,) = plan_copies(local.masters / "masters.zarr", remote.masters)
    copy_store(plan)
    config = remote.config()
    listed = n.ostcal("library", "--config", config, "--json")
    assert len(json.loads(listed.stdout)["masters"]) == len(MasterStore(local.masters / "masters.zarr").names())
    assert n.ostcal("verify", remote.masters, "--config", config).exit_code == 0
    (back,) = plan_copies(remote.masters, tmp_path / "back")
    copy_store(back)
    assert copy_store(plan).copied == 0
    here, there = local.masters / "masters.zarr", tmp_path / "back" / "masters.zarr"
    assert files_below(there) == files_below(here)
    assert all((there / name).read_bytes() == (here / name).read_bytes() for name in files_below(here))


def test_a_worker_says_that_it_cannot_reach_the_store(remote: RemoteNight) -> None:
    options = ObjectOptions(endpoint=remote.endpoint, retries=1, timeout_s=2)
    here = ObjectAccess(options=options, read=(remote.darks,), written=(remote.masters,))
    assert report_of_worker(None, "token", (), pickle.loads(pickle.dumps(here))).unseen == ""
    away = ObjectAccess(options=options, read=("s3://absent/darks",))
    assert "there is no bucket absent" in report_of_worker(None, "token", (), away).unseen


@pytest.mark.slow
def test_a_faulty_network_changes_no_bit(local: Night, remote: RemoteNight) -> None:
    server = remote.endpoint
    with FaultyProxy(server, fault_of, stall_s=4.0) as proxy:
        remote.endpoint = proxy.endpoint
        config = remote.config({"retries": 6, "timeout": 3}, judged=False)
        outcome = n.ostcal("masters", "--config", config, "--no-confirm")
        assert outcome.exit_code == 0, outcome.text
        assert all(proxy.counts[fault] >= 3 for fault in ("503", "cut", "slow", "lost"))
    use_options(ObjectOptions(endpoint=server))
    assert same(planes_of(local.masters), planes_of(remote.masters))
    assert same(fits_of(local.masters), fits_of(remote.masters))
