"""The index of a library gives what reading all headers gives, whatever became of the files or of the index."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ostcal.fits.dialects import READING
from ostcal.library.find import LibraryMaster, find_masters
from ostcal.library.index import MASTERS_INDEX, known_masters
from support.fits_samples import frame_values, write_frame
from support.night import Night, whole_night


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostcal.places.file_index.SETTLED_NS", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A library with masters in the store, one of another program, and one that does not say what it is."""
    night = whole_night(tmp_path_factory.mktemp("library"))
    assert not night.run(format="fits").is_error
    write_frame(night.masters / "foreign.fits", frame_values(), IMAGETYP="Master Dark", EXPTIME=30.0, GAIN=100)
    write_frame(night.masters / "other.fits", frame_values(), IMAGETYP="Master Sky", STACKCNT=5)
    return night


@pytest.fixture
def library(made: Night, tmp_path: Path, settled: None) -> Path:
    return Path(shutil.copytree(made.masters, tmp_path / "masters"))


def described(masters: list[LibraryMaster]) -> list[tuple[object, float]]:
    return [(m.record, float(m.plane.read_rows(0, 3).astype(np.float64).sum())) for m in masters]


def stored(library: Path) -> Path:
    """Return the file of the attributes of a master."""
    return sorted((library / "masters.zarr").glob("*dark*/zarr.json"))[0]


def test_an_index_gives_what_reading_gives(library: Path) -> None:
    expected = described(find_masters(str(library)))
    assert len(expected) >= 5
    for _ in range(2):
        assert described(known_masters(library)) == expected
    assert (library / MASTERS_INDEX).is_file()
    (library / MASTERS_INDEX).unlink()
    assert described(known_masters(library)) == expected


def _delete_one(library: Path) -> None:
    shutil.rmtree(stored(library).parent)


def _other_gain(library: Path) -> None:
    attributes = json.loads(stored(library).read_text())
    attributes["attributes"]["gain"] = 200.0
    del attributes["attributes"]["checksum"]
    stored(library).write_text(json.dumps(attributes))


def _damage(library: Path) -> None:
    stored(library).write_bytes(b"{" * 100)


def _new_foreign(library: Path) -> None:
    write_frame(library / "foreign2.fits", frame_values(), IMAGETYP="Master Bias", GAIN=100)


def _exchange_foreign(library: Path) -> None:
    """Replace a master with one of the same size; its time is set back."""
    path = library / "foreign.fits"
    before = path.stat()
    path.unlink()
    write_frame(path, frame_values(), IMAGETYP="Master Dark", EXPTIME=60.0, GAIN=100)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _damage_index(library: Path) -> None:
    path = library / MASTERS_INDEX
    path.write_bytes(path.read_bytes().replace(b'"gain":100', b'"gain":300'))


def _read_in_another_way(library: Path) -> None:
    """Make the index one of an earlier way of reading, in which the gain was another."""
    path = library / MASTERS_INDEX
    head, _, body = path.read_bytes().partition(b"\n")
    values = json.loads(head)
    assert values["rules"].endswith(f" {READING}")
    body = body.replace(b'"gain":100', b'"gain":300')
    values |= {"rules": values["rules"].removesuffix(f" {READING}") + f" {READING - 1}", "crc32": zlib.crc32(body)}
    path.write_bytes(json.dumps(values).encode() + b"\n" + body)


@pytest.mark.parametrize(
    "change", [_delete_one, _other_gain, _damage, _new_foreign, _exchange_foreign, _damage_index, _read_in_another_way]
)
def test_an_index_is_never_trusted_when_it_is_stale(library: Path, change: Callable[[Path], None]) -> None:
    known_masters(library)
    time.sleep(0.02)
    change(library)
    assert described(known_masters(library)) == described(find_masters(str(library)))
    assert described(known_masters(library)) == described(find_masters(str(library)))


def test_what_is_not_used_is_said_each_time(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored(library).write_bytes(b"no JSON")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            known_masters(library)
        assert "other.fits: is a master and does not say of what" in caplog.text
        assert "zarr" in caplog.text
        assert len(caplog.records) == 2
