"""What becomes visible is on the disk before: a power cut loses a frame or a master as a whole, or nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import night as n
from support.disk_calls import Call, Disk, replayed

MASTERS = """
    import sys
    from pathlib import Path
    import numpy as np
    from ostcal.library.store import MasterStore

    def strips(writer):
        for start in range(0, 64, 16):
            writer.write_rows(
                start, master=np.ones((16, 700), np.float32), n_used=np.ones((16, 700), np.uint16),
                std=np.ones((16, 700), np.float32), read_again=(),
            )

    store = MasterStore(Path(sys.argv[1], "nights", "master_frames", "masters.zarr"))
    strips(store.create("plain", (64, 700), 16))
    store.commit("plain", {})
    writer = store.create("with_defects", (64, 700), 16)
    strips(writer)
    writer.write_defects(lambda start, stop: np.ones((stop - start, 700), np.uint8))
    store.commit("with_defects", {})
    store.create("left", (64, 700), 16, work="the same")
    store.abandon("left")
    strips(store.create("adopted", (64, 700), 16, work="the same"))
    store.commit("adopted", {})
    store.discard("plain")
"""
SERIES = """
    import sys
    from datetime import UTC, datetime
    from pathlib import Path
    import numpy as np
    from ostcal.frames import FrameMetadata, FrameType
    from ostcal.series.series_writer import create_series, decide_frames, open_series_for_writing
    from ostcal.series.record import Decision, FrameRecord, describe_pixels

    def write(writer, index):
        frame = np.full((50, 60), index, writer.dtype)
        metadata = FrameMetadata(frame_type=FrameType.DARK, exposure_time_s=1.0, width=60, height=50)
        writer.write_frame(index, frame, FrameRecord(index=index, metadata=metadata, pixels=describe_pixels(frame)))

    location = Path(sys.argv[1], "night", "darks", "exp_1.000s.zarr")
    writer = create_series(
        location, n_frames=2, height=50, width=60, dtype="uint16", frame_type=FrameType.DARK, compressor=sys.argv[2]
    )
    write(writer, 0)
    writer = open_series_for_writing(location)
    write(writer, 1)
    writer.extend(3)
    write(writer, 2)
    decide_frames(location, [0], Decision(excluded=True, why="cloud", who="anna", when=datetime.now(UTC)))
    (location / "ledger" / "000000.json").rename(location / "moved.json")
    (location / "moved.json").unlink()
    write(open_series_for_writing(location), 0)
"""


COMMANDS = """
    import sys
    from ostcal.cli import main

    root = sys.argv[1]
    for words in (
        ["masters", "--no-confirm"],
        ["calibrate", f"{root}/lights"],
        ["exclude", f"{root}/flats/flat_2_000.fits", "--why", "cloud"],
        ["coverage", f"{root}/lights", "--plan", f"{root}/plan.csv"],
        ["library", "--html", f"{root}/library.html"],
        ["import", f"{root}/raw"],
        ["export", f"{root}/darks/exp_3.000s.zarr", "--to", f"{root}/exported"],
    ):
        try:
            main([*words, "--config", f"{root}/c.yaml"])
        except SystemExit as ended:
            assert ended.code == 0, words
"""
NOT_WAITED_FOR = re.compile(r"\.(index|log|combined)$|/writing\.json$")
"""What is made again where it is damaged, and the removal of what nobody looks at any more."""
SYNCED_LATER = re.compile(r"/(c\.\d+\.\d+|strips/\d+\.json|\w+/zarr\.json|survey\.json|frames/c/\d+/0/0)$|\.partial/")
"""Parts of masters, frames and series, which the commit of the whole syncs; other tests see to that."""
LOCK = """
    import sys
    from pathlib import Path
    from ostcal.places.locking import locked

    with locked(Path(sys.argv[1], ".ostcal.lock"), what="here"):
        Path(sys.argv[1], "held").mkdir()
"""


def published(calls: list[Call], path: Path) -> list[Disk]:
    """Return the disk as it was each time before a path got its name."""
    return [call.before for call in calls if call.path == path and call.name == "rename"]


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call], Disk]:
    """Return a store into which masters were written, and what happened on the disk."""
    folder = tmp_path_factory.mktemp("masters") / "disk"
    folder.mkdir()
    calls, disk = replayed(MASTERS, folder)
    return folder / "nights" / "master_frames" / "masters.zarr", calls, disk


@pytest.mark.parametrize("name", ["plain", "with_defects", "adopted"])
def test_all_of_a_master_is_on_the_disk_before_it_is_visible(masters: tuple[Path, list[Call], Disk], name: str) -> None:
    store, calls, _ = masters
    written = {call.path for call in calls if call.path.is_relative_to(store / name)}
    assert {store / name / plane / file for plane in ("master", "std") for file in ("zarr.json", "c.3.0")} <= written
    (before,) = published(calls, store / name / "zarr.json")
    assert [path for path in before.at_risk(store / name) if path != "writing.json" and ".partial" not in path] == []


def test_a_master_that_is_deleted_does_not_come_back_without_its_planes(masters: tuple[Path, list[Call], Disk]) -> None:
    store, calls, _ = masters
    removed = [call for call in calls if call.name == "remove" and call.path.is_relative_to(store / "plain")]
    first = next(i for i, call in enumerate(removed) if call.path == store / "plain" / "zarr.json")
    planes = [call for call in removed[first + 1 :] if call.path.parent.name in ("master", "n_used", "std")]
    assert planes
    assert all(store / "plain" / "zarr.json" not in call.before.unnamed for call in planes)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Call], Disk]:
    """Return what happened on the disk while commands wrote all that they write."""
    folder = tmp_path_factory.mktemp("night") / "disk"
    night = n.Night(folder)
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)
    n.write_darks(n.Night(folder / "raw"), 3.0)
    n.write_frames(folder / "lights", n.flat_frames(2.0, (3000,), seed=9), "Light Frame", 2.0)
    n.write_config(night)
    return replayed(COMMANDS, folder)


def test_the_contents_of_a_file_are_on_the_disk_before_it_gets_its_name(night: tuple[list[Call], Disk]) -> None:
    calls, _ = night
    renames = [call for call in calls if call.name == "rename"]
    written = {call.path.suffix for call in renames}
    assert {".fits", ".html", ".json", ".csv", ".index", ".zarr"} <= written
    for call in renames:
        if not NOT_WAITED_FOR.search(str(call.path)) and not SYNCED_LATER.search(str(call.path)):
            assert [path for path in call.before.at_risk(call.source) if path != "."] == [], call.path
            assert call.source not in call.before.unsynced, call.path


def test_what_commands_said_they_made_is_on_the_disk(night: tuple[list[Call], Disk]) -> None:
    _, disk = night
    assert [path for path in disk.unsynced | disk.unnamed if not NOT_WAITED_FOR.search(str(path))] == []


def test_a_store_of_masters_and_its_attributes_are_on_the_disk_when_commit_returns(
    masters: tuple[Path, list[Call], Disk],
) -> None:
    store, _, disk = masters
    left = [path for path in disk.at_risk(store) if not path.endswith("writing.json")]
    assert left == ["plain"]  # deleted: should its directory come back, it is no master, and is swept


@pytest.mark.parametrize("compressor", ["auto", "none"])
def test_all_of_a_frame_is_on_the_disk_before_it_is_committed(tmp_path: Path, compressor: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    calls, disk = replayed(SERIES.replace("sys.argv[2]", repr(compressor)), folder)
    series = folder / "night" / "darks" / "exp_1.000s.zarr"
    skeleton = next(call for call in calls if call.path == series)
    partial = next(path for path in skeleton.before.unnamed if path.name.startswith(f"{series.name}."))
    assert skeleton.before.at_risk(partial) == ["."]
    for index in range(3):
        times = published(calls, series / "ledger" / f"{index:06d}.json")
        assert len(times) == (2 if index == 0 else 1)
        for before in times:
            assert [path for path in before.at_risk(series) if "ledger/" not in path or ".excluded" in path] == []
    assert disk.at_risk(series) == []


def test_a_lock_is_on_the_disk_while_it_is_held_and_does_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    calls, disk = replayed(LOCK, folder)
    held = next(call.before for call in calls if call.path == folder / "held")
    assert folder / ".ostcal.lock" not in held.unsynced  # an empty one would say nothing about its owner
    assert folder / ".ostcal.lock" not in disk.unnamed
