"""Damaged ledgers, metadata, shards and master stores: errors raised on purpose only, no hang, no memory without end.

Seeds are fixed; `fuzzing` says how to run more by hand.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.codec import from_json
from ostcal.errors import OstcalError
from ostcal.frames import FrameType
from ostcal.inputs.gather import gather_inputs, input_digest
from ostcal.inputs.grouping import GroupRules, group_frames
from ostcal.library.find import find_masters
from ostcal.library.verification import plan_verification, verify
from ostcal.series.reader import find_series, open_series
from ostcal.series.record import Decision, FrameRecord
from ostcal.series.series_writer import create_series, decide_frames, open_series_for_writing
from support.fuzzing import change_bytes, in_time, little_memory, mutations
from support.night import Night, write_bias
from support.series_samples import record_of, samples

MUTATIONS = mutations(2000)
"""Of ledger records, and of zarr metadata."""
SHAPE = (40, 12)
N_FRAMES = 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc (Linux)"),
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),  # of codecs that damage makes of ours
]

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 65536, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-320, 1e18,
    "", "x", "0", "\u0000", "\ud800", "../../etc", "/", "x" * 5000, "9999-12-31T23:59:59+14:00",
    "0001-01-01T00:00:00-14:00", "2026-11-21T08:42:00", "int16", "uint8", "float64", "complex128", "big", "none",
    [], [[]], [0], [0, 0], [1, 2, 3], [1, 10**9, 10**9], {}, {"name": "x"}, {"name": "gzip", "configuration": {}},
)  # fmt: skip
TOKENS = (b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"null", b"{", b"}", b"[" * 3000, b'"', b"\\", b"\xff\xfe",
          b"\x00", b",", b"\\ud800", b"true", b"0" * 20)  # fmt: skip


# ---- mutations ----


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage bytes: as text where they are JSON, by values as often."""
    if data[:1] == b"{" and rng.random() < 0.6:
        value = json.loads(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            change_value(value, rng)
        return json.dumps(value).encode("ascii")
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        change_bytes(damaged, rng, TOKENS)
    return bytes(damaged)


def change_value(root: Any, rng: random.Random) -> None:
    """Replace, remove, add or move one value somewhere inside a JSON object."""
    places = [
        (holder, key)
        for holder in holders(root)
        for key in (holder if isinstance(holder, dict) else range(len(holder)))
    ]
    if not places:
        return
    holder, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.6:
        holder[key] = copy.deepcopy(rng.choice(NASTY))
    elif kind < 0.75:
        del holder[key]
    elif kind < 0.85 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * rng.choice((-1, 2, 10, 1000, 0.5))
    else:
        other, other_key = rng.choice(places)
        with contextlib.suppress(LookupError):
            holder[key] = copy.deepcopy(other[other_key])


def holders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from holders(item)


# ---- limits ----


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    with little_memory():
        yield


def run_mutations(target: Path, seed: str, number: int, use: Callable[[], object]) -> tuple[int, int]:
    """Damage a file over and over and use what it belongs to; gives how often that was refused, and how often not."""
    whole, rng = target.read_bytes(), random.Random(seed)
    refused = accepted = 0
    messages: list[str] = []
    for case in range(number):
        data = mutated(whole, rng)
        # a new time of change, as another program leaves it: metadata are kept by it
        target.write_bytes(data)
        os.utime(target, ns=(time.time_ns(), time.time_ns() + case))
        try:
            with in_time():
                use()
            accepted += 1
        except OstcalError as error:
            refused += 1
            messages.append(str(error))
        except Exception as error:
            raise AssertionError(f"{target.name}, mutation {case} of seed {seed!r}: {data[:2000]!r}") from error
    target.write_bytes(whole)
    use()
    assert [text for text in messages if "\n" in text or len(text) > 5000] == []
    return refused, accepted


# ---- series ----


@pytest.fixture
def series(tmp_path: Path) -> Path:
    location = tmp_path / "darks" / "exp_5.000s.zarr"
    location.parent.mkdir()
    writer = create_series(
        location,
        n_frames=N_FRAMES + 1,
        height=SHAPE[0],
        width=SHAPE[1],
        dtype="uint16",
        frame_type=FrameType.DARK,
        attributes={"camera": "Demo", "gain": 100.0, "binning": [1, 1]},
    )
    for index in range(N_FRAMES):
        frame = samples(SHAPE, seed=index)
        writer.write_frame(index, frame, record_of(index, frame))
    decide_frames(location, [1], Decision(excluded=True, why="clouds", who="a", when=datetime(2026, 1, 1, tzinfo=UTC)))
    return location


def use_series(location: Path) -> None:
    """Do with a series what masters, capture and `ostcal verify` do with it; what is read must be what was written."""
    assert find_series([location.parent]) in ([str(location)], [])
    inputs = gather_inputs([str(location.parent)], exclude=str(location.parent / "masters"))
    group_frames((source.frame for source in inputs.sources.values()), GroupRules())
    input_digest(list(inputs.sources.values()))
    series = open_series(location)
    for record in series.records:
        with contextlib.suppress(OstcalError):
            frame = series.read_frame(record.index)
            assert frame.tobytes() == samples(SHAPE, seed=record.index).tobytes()
    for source in inputs.sources.values():
        with contextlib.suppress(OstcalError):
            stack = source.stack()
            block = np.empty((1, min(16, stack.shape[1]), stack.shape[2]), stack.encoding.dtype)
            stack.read_rows(0, block.shape[1], block)
    for place in verify(plan_verification([str(location)]), 1):
        assert all("\n" not in line for line in place.findings)


@pytest.mark.parametrize("index", [0, 1])
def test_damaged_records(series: Path, index: int) -> None:
    target = series / "ledger" / f"{index:06d}.json"
    refused, accepted = run_mutations(target, f"record {index}", MUTATIONS // 2, lambda: use_series(series))
    assert refused + accepted == MUTATIONS // 2
    assert accepted > refused  # a damaged record costs its own frame, no more


def test_a_record_that_is_read_can_be_written_and_read_again(series: Path) -> None:
    whole, rng = (series / "ledger" / "000000.json").read_bytes(), random.Random("again")
    for _ in range(MUTATIONS):
        try:
            record = from_json(FrameRecord, mutated(whole, rng))
        except ValueError:
            continue
        assert from_json(FrameRecord, record.to_json()) == record


def test_damaged_decisions(series: Path) -> None:
    name = "ledger/000001.excluded.json"
    _, accepted = run_mutations(series / name, name, MUTATIONS // 4, lambda: use_series(series))
    assert accepted == MUTATIONS // 4  # every one costs its own frame, no more


@pytest.mark.parametrize("name", ["zarr.json", "frames/zarr.json"])
def test_damaged_metadata_of_a_series(series: Path, name: str) -> None:
    refused, accepted = run_mutations(series / name, name, MUTATIONS // 2, lambda: use_series(series))
    assert refused + accepted == MUTATIONS // 2
    assert accepted


def test_damaged_shards(series: Path) -> None:
    target = series / "frames" / "c" / "0" / "0" / "0"
    _, accepted = run_mutations(target, "shard", MUTATIONS // 4, lambda: use_series(series))
    assert accepted == MUTATIONS // 4  # every one costs its own frame, no more


def test_writing_into_series_with_damaged_metadata(series: Path, tmp_path: Path) -> None:
    frame = samples(SHAPE, seed=9)
    kept = tmp_path / "kept"
    shutil.copytree(series, kept)

    def write() -> None:
        writer = open_series_for_writing(series)
        (free, *_) = writer.free_indices() or [writer.n_planned]
        if free < 10_000:
            writer.write_frame(free, frame, record_of(free, frame))
            writer.discard_frame(free)

    for name in ("zarr.json", "frames/zarr.json"):
        run_mutations(series / name, f"writing {name}", MUTATIONS // 10, write)
    for name in ("ledger/000000.json", "frames/c/0/0/0", "ledger/000001.json", "frames/c/1/0/0"):
        assert (series / name).read_bytes() == (kept / name).read_bytes()


# ---- masters ----


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    night = Night(tmp_path_factory.mktemp("night"))
    write_bias(night)
    assert not night.run_darks(save_individual_masters=True).is_error
    return night.masters


@pytest.mark.parametrize(
    "name", ["zarr.json", "M/zarr.json", "M/master/zarr.json", "M/n_used/zarr.json", "M/std/c.0.0"]
)
def test_damaged_master_stores(made: Path, tmp_path: Path, name: str) -> None:
    masters = Path(shutil.copytree(made, tmp_path / "masters"))
    store = masters / "masters.zarr"
    (bias,) = (path for path in store.iterdir() if path.name.startswith("master_bias"))
    found = 0

    def use() -> None:
        nonlocal found
        for master in find_masters(str(masters)):
            with contextlib.suppress(OstcalError):
                master.plane.read_rows(0, 4)
        for place in verify(plan_verification([str(masters)]), 1):
            found += bool(place.findings)
            assert all("\n" not in line for line in place.findings)

    run_mutations(store / name.replace("M", bias.name), f"masters {name}", MUTATIONS // 5, use)
    assert found  # most bytes of a count of samples say nothing that can be checked


def test_damaged_fits_masters(made: Path, tmp_path: Path) -> None:
    masters = Path(shutil.copytree(made, tmp_path / "masters"))
    target = next(masters.glob("master_bias*.fits"))
    found = 0

    def use() -> None:
        nonlocal found
        (place,) = verify(plan_verification([str(target)]), 1)
        found += bool(place.findings)
        assert all("\n" not in line for line in place.findings)

    run_mutations(target, "FITS", MUTATIONS // 5, use)
    assert found >= 0.99 * (MUTATIONS // 5)  # a byte may be replaced by itself
