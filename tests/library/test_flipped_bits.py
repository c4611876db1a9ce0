"""One flipped bit in anything at rest: the same masters as before, or a line about it, never other pixels in silence.

By hand, ten of each file: ``OSTCAL_FUZZ_MUTATIONS=10 pytest --timeout 0 tests/library/test_flipped_bits.py``.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.errors import OstcalError
from ostcal.frames import FrameType
from ostcal.library.find import find_masters
from ostcal.library.verification import plan_verification, verify
from ostcal.series.reader import open_series
from ostcal.series.series_writer import create_series
from support.fuzzing import mutations
from support.night import Night, dark_frames, flat_frames
from support.series_samples import change_json, change_old, record_of

N_FRAMES = 5
FLIPS = mutations(1)
"""Of each file, for the suite of a second or two."""
SETTINGS = {"camera": "Demo", "gain": 100.0, "offset": 30.0, "binning": [1, 1], "exposure_time_s": 2.0}
Bits = dict[str, tuple[Any, bytes]]


# ---- series ----


def write_series(location: Path, frames: NDArray[np.uint16], kind: FrameType) -> None:
    n_frames, height, width = frames.shape
    location.parent.mkdir(parents=True, exist_ok=True)
    filter_name = "L" if kind is FrameType.FLAT else None
    writer = create_series(
        location,
        n_frames=n_frames,
        height=height,
        width=width,
        dtype="uint16",
        frame_type=kind,
        attributes={**SETTINGS, "filter_name": filter_name},
    )
    for index, frame in enumerate(frames):
        record = record_of(index, frame, frame_type=kind, exposure_time_s=2.0, filter_name=filter_name)
        writer.write_frame(index, frame, record)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night of darks and flats in series."""
    night = Night(tmp_path_factory.mktemp("taken"))
    write_series(night.darks / "exp_2.000s.zarr", dark_frames(2.0, N_FRAMES), FrameType.DARK)
    flats = flat_frames(2.0, (20000, 21000, 19500, 22000, 20500))
    write_series(night.flats / "L.zarr", flats, FrameType.FLAT)
    return night


def masters_of(night: Night) -> Bits:
    """Make the masters of a night; return what each is and holds."""
    shutil.rmtree(night.masters, ignore_errors=True)
    night.run(quality_control=False, save_individual_masters=False)
    return bits_of(night.masters)


def bits_of(masters: Path) -> Bits:
    found = {}
    for master in find_masters(str(masters)):
        key = master.record.key
        found[f"{key.frame_type} {key.exposure_time_s}"] = (key, master.plane.read_rows(0, key.height).tobytes())
    return found


class Told(logging.Handler):
    """Keeps the lines that users are shown."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Told:
        logging.getLogger("ostcal").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("ostcal").removeHandler(self)


def flipped(root: Path, files: Sequence[Path], seed: str) -> Iterator[tuple[Path, int]]:
    """Flip a bit of each file in turn, `FLIPS` times; the file is whole again after each."""
    rng = random.Random(seed)
    for path in files:
        whole = path.read_bytes()
        for _ in range(FLIPS):
            place = rng.randrange(8 * len(whole))
            data = bytearray(whole)
            data[place // 8] ^= 1 << place % 8
            path.write_bytes(data)
            yield path.relative_to(root), place
        path.write_bytes(whole)


def outcome_of(night: Night, before: Bits) -> tuple[str, list[str]]:
    """Make masters again; say whether they are the same, or what was said."""
    with Told() as told:
        try:
            after = masters_of(night)
        except OstcalError as error:
            return "named", [str(error)]
    named = [line for line in told.lines if str(night.root) in line]
    return ("named" if named else "same" if after == before else "silent"), told.lines


@pytest.mark.parametrize("age", ["new", "old"])
def test_a_flipped_bit_in_a_series_never_changes_masters_in_silence(taken: Night, tmp_path: Path, age: str) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    if age == "old":
        for path in [*night.root.rglob("ledger/*.json"), *night.root.glob("*/*.zarr/zarr.json")]:
            change_old(path)
    before = masters_of(night)
    assert len(before) == 2
    names = ("zarr.json", "frames/zarr.json", "ledger/000001.json", "frames/c/1/0/0")  # frames are alike
    series = [night.darks / "exp_2.000s.zarr", night.flats / "L.zarr"]
    files = [location / name for location in series for name in names]
    counts: Counter[str] = Counter()
    silent = []
    for path, place in flipped(night.root, files, f"series {age}"):
        outcome, lines = outcome_of(night, before)
        counts[outcome] += 1
        if outcome == "silent":
            silent.append((path, place, lines))
    assert silent == []
    assert counts["named"] > counts["same"], counts


@pytest.mark.parametrize("age", ["new", "old"])
def test_a_changed_mean_of_a_flat_leaves_that_flat_out(taken: Night, tmp_path: Path, age: str) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    record = night.flats / "L.zarr" / "ledger" / "000003.json"
    if age == "old":
        change_old(record)

    def change(values: dict[str, Any]) -> None:
        values["pixels"]["statistics"]["mean"] -= 1000

    change_json(record, change)
    with Told() as told:
        after = masters_of(night)
    (line,) = [line for line in told.lines if "000003.json" in line]
    assert "a mean of" in line or "it is not what was written" in line
    (night.flats / "L.zarr" / "ledger" / "000003.json").unlink()
    assert masters_of(night) == after


def test_samples_that_were_exchanged_are_named(taken: Night, tmp_path: Path) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    ours, theirs = (folder / "frames" / "c" for folder in (night.darks / "exp_2.000s.zarr", night.flats / "L.zarr"))
    shutil.copy(theirs / "1" / "0" / "0", ours / "1" / "0" / "0")  # of another series
    shutil.copy(theirs / "2" / "0" / "0", theirs / "0" / "0" / "0")  # of another frame
    with Told() as told:
        masters_of(night)
    found = [line.partition(": its samples are not those of its record")[0] for line in told.lines]
    assert f"{night.darks / 'exp_2.000s.zarr'}: frame 1 cannot be used" in found
    assert f"{night.flats / 'L.zarr'}: frame 0 cannot be used" in found


def test_frames_that_the_type_of_their_array_cannot_hold_are_named(taken: Night, tmp_path: Path) -> None:
    """Types that differ in the sign alone have the same bytes and checksums."""
    night = Night(tmp_path)
    frames = dark_frames(2.0, N_FRAMES)
    frames[:4, 1, 2] = 60000  # a hot pixel in no row by which frames are known
    write_series(night.darks / "exp_2.000s.zarr", frames, FrameType.DARK)
    metadata = night.darks / "exp_2.000s.zarr" / "frames" / "zarr.json"
    change_json(metadata, lambda values: values.update(data_type="int16"))
    series = open_series(night.darks / "exp_2.000s.zarr")
    assert [record.index for record in series.records] == [4]
    assert [line.split(": ")[1] for line in series.problems] == [f"frame {i} cannot be used" for i in range(4)]
    assert all("samples of 60000, which the type int16" in line and str(metadata) in line for line in series.problems)


def test_a_record_that_another_program_writes_again_is_the_same(taken: Night, tmp_path: Path) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    for path in night.root.rglob("ledger/*.json"):
        values = json.loads(path.read_text())
        values["metadata"]["exposure_time_s"] = 2  # 2.0 as some write it
        path.write_text(json.dumps(dict(reversed(values.items())), indent=7, ensure_ascii=False))
    with Told() as told:
        masters_of(night)
    assert told.lines == []


# ---- masters ----


@pytest.fixture(scope="module")
def made(taken: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return the night with its masters, in the store alone."""
    night = Night(Path(shutil.copytree(taken.root, tmp_path_factory.mktemp("made") / "night")))
    assert night.run(**MASTERS).is_success
    return night


MASTERS: dict[str, Any] = {"quality_control": False, "save_individual_masters": False}


def store_of(night: Night) -> tuple[Path, Path]:
    """Return where the dark and the flat are."""
    store = night.masters / "masters.zarr"
    (dark,), (flat,) = store.glob("master_dark*"), store.glob("master_flat*")
    return dark, flat


def used(night: Night) -> tuple[str, Bits]:
    """Read the masters as calibrating does; return what was said, and what they are."""
    with Told() as told:
        try:
            bits = bits_of(night.masters)
        except OstcalError as error:
            return " ".join([*told.lines, str(error)]), {}
        return " ".join(told.lines), bits


def verified(night: Night) -> list[str]:
    plan = plan_verification([str(night.masters / "masters.zarr")])
    return [line for place in verify(plan, 1) for line in place.findings]


def test_a_flipped_bit_in_a_store_of_masters_is_found_by_all_that_read_it(made: Night, tmp_path: Path) -> None:
    night = Night(Path(shutil.copytree(made.root, tmp_path / "night")))
    dark, flat = store_of(night)
    before = bits_of(night.masters)
    names = ("zarr.json", "master/zarr.json", "master/c.0.0", "n_used/zarr.json", "n_used/c.0.0", "std/c.0.0")
    files = [night.masters / "masters.zarr" / "zarr.json", *(place / name for place in (dark, flat) for name in names)]
    silent = []
    harmless = 0
    for path, place in flipped(night.root, files, "masters"):
        lines, after = used(night)
        found = verified(night)
        if after != before and str(night.masters) not in lines and "master" not in lines:
            silent.append((path, place, lines))
        if not found:
            harmless += 1
            assert after == before
            assert path.name == "zarr.json"
    assert silent == []
    assert harmless <= len(files) * FLIPS / 2  # names of axes, spaces and the like


@pytest.mark.parametrize("what", ["plane", "strip", "attributes", "bit"])
def test_masters_that_were_exchanged_or_changed_are_found_and_made_again(
    taken: Night, tmp_path: Path, what: str
) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    assert night.run(**MASTERS).is_success
    dark, flat = store_of(night)
    before = bits_of(night.masters)
    if what == "plane":
        shutil.rmtree(dark / "std")
        shutil.copytree(flat / "std", dark / "std")
    elif what == "strip":
        shutil.copy(flat / "master" / "c.0.0", dark / "master" / "c.0.0")
    elif what == "attributes":
        change_json(dark / "zarr.json", lambda m: m["attributes"].update(gain=140.0))
    else:
        text = (dark / "zarr.json").read_text()
        (dark / "zarr.json").write_text(text.replace("2026", "2027", 1))
    found = verified(night)
    assert [line for line in found if str(dark) in line] == found != []
    with Told() as told:
        status = night.run(only_changed=True, **MASTERS)
    assert [line for line in told.lines if dark.name in line], (status, told.lines)
    shutil.rmtree(dark)  # it stays beside the new one
    assert [bits for _, bits in bits_of(night.masters).values()] == [bits for _, bits in before.values()]


def test_a_plane_that_was_deleted_is_named_by_all_that_read_the_master(taken: Night, tmp_path: Path) -> None:
    night = Night(Path(shutil.copytree(taken.root, tmp_path / "night")))
    night.run(save_individual_masters=False)
    dark, _ = store_of(night)
    shutil.rmtree(dark / "dq")
    said = f"{dark / 'dq' / 'zarr.json'}: is missing"
    assert [line[: len(said)] for line in verified(night)] == [said]
    assert said in used(night)[0]


def test_masters_of_older_versions_are_read_as_before(made: Night, tmp_path: Path) -> None:
    night = Night(Path(shutil.copytree(made.root, tmp_path / "night")))
    before = bits_of(night.masters)
    for place in store_of(night):
        change_old(place / "zarr.json", lambda metadata: metadata["attributes"].pop("chunk_checksums"))
    assert (*used(night), verified(night)) == ("", before, [])
