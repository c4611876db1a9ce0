"""Records of frames: complete or absent, checked when they are read, exact in what they say."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.codec import from_json
from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.places.durable import sweep_partials, write_atomically
from ostcal.series.record import (
    MAX_RECORD_BYTES,
    Decision,
    FrameCheck,
    FrameRecord,
    checksum,
    describe_pixels,
    frame_statistics,
    read_exclusions,
    read_ledger,
    write_decision,
    write_record,
)
from support.series_samples import record_of, samples

FULL = FrameRecord(
    index=12,
    metadata=FrameMetadata(
        frame_type=FrameType.FLAT,
        exposure_time_s=1.5,
        width=3,
        height=2,
        settings=CameraSettings(
            camera="Demo µ",
            camera_id="det 3",
            gain=100.0,
            offset=30.0,
            binning=(2, 3),
            readout_mode="fast",
            extension="im2",
            iso=800.0,
            coadds=4,
            subframe_origin=(0, 16),
            row_order="TOP-DOWN",
            flip="Flip",
        ),
        states_binning=False,
        filter_name="L",
        set_temperature_c=-10.0,
        ccd_temperature_c=-9.8,
        date_obs=datetime(2026, 11, 21, 8, 42, 0, 123456, tzinfo=UTC),
        longitude_deg=-17.88,
        bayer_pattern="RGGB",
        row_order="TOP-DOWN",
        pixel_size_um=(3.76, 3.8),
        egain_e_per_adu=0.8,
        dark_subtracted=True,
        bias_subtracted=True,
        flat_divided=True,
        is_master=True,
        unreadable=("GAIN 'high'",),
        remarks=("EXPTIME 1.5 beside EXPOSURE 1.4",),
        full_scale=("SATURATE", 60000.0),
    ),
    pixels=describe_pixels(np.arange(6, dtype=np.uint16).reshape(2, 3)),
    date_end=datetime(2026, 11, 21, 8, 42, 1, tzinfo=UTC),
    requested_exposure_time_s=1.4,
    cooler_power_percent=40.0,
    checks=(FrameCheck(name="saturation", value=0.25, limit=0.001, passed=False),),
    source="flat (1).fits",
    header=("SIMPLE  =                    T".ljust(80), "COMMENT \x00\xe9\t".ljust(80)),
    primary_header=("SIMPLE  =                    T".ljust(80), "NEXTEND =                    4".ljust(80)),
    hdu_index=3,
)

STORED = rb"""{
 "index": 12,
 "metadata": {
  "frame_type": "flat",
  "exposure_time_s": 1.5,
  "width": 3,
  "height": 2,
  "settings": {
   "camera": "Demo \u00b5",
   "camera_id": "det 3",
   "gain": 100.0,
   "offset": 30.0,
   "binning": [
    2,
    3
   ],
   "readout_mode": "fast"
  },
  "filter_name": "L",
  "set_temperature_c": -10.0,
  "ccd_temperature_c": -9.8,
  "date_obs": "2026-11-21T08:42:00.123456Z",
  "bayer_pattern": "RGGB",
  "row_order": "TOP-DOWN",
  "pixel_size_um": [
   3.76,
   3.8
  ],
  "egain_e_per_adu": 0.8,
  "dark_subtracted": true,
  "bias_subtracted": true,
  "flat_divided": true,
  "is_master": true
 },
 "pixels": {
  "checksum": "crc32:a2b3bb90",
  "fingerprint": "2bc0407218453794b6f46738ecebe505b6abfd71",
  "statistics": {
   "mean": 2.5,
   "median": 2.5,
   "std": 1.707825127659933,
   "minimum": 0.0,
   "maximum": 5.0,
   "saturated": 0,
   "not_finite": 0
  }
 },
 "date_end": "2026-11-21T08:42:01Z",
 "requested_exposure_time_s": 1.4,
 "cooler_power_percent": 40.0,
 "checks": [
  {
   "name": "saturation",
   "value": 0.25,
   "limit": 0.001,
   "passed": false
  }
 ],
 "source": "flat (1).fits",
 "header": [
  "SIMPLE  =                    T                                                  ",
  "COMMENT \u0000\u00e9\t                                                                     "
 ]
}
"""
"""The same record as version 0.1.0 stored it before its JSON had a codec of its own."""
STORED_DECISIONS = b"""{
 "index": 3,
 "decisions": [
  {
   "excluded": true,
   "why": "cloud",
   "who": "anna@dome",
   "when": "2026-11-22T09:00:00Z"
  }
 ]
}
"""


def changed(key: str, value: object) -> bytes:
    """Return the JSON of a record with one key changed; dots lead into nested objects."""
    content = json.loads(FULL.to_json())
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(content).encode()


def what_came_later(new: dict[str, Any], old: dict[str, Any]) -> list[Any]:
    """Return the values of keys that are not in the old form; what is in both must be equal."""
    later = []
    for key, value in new.items():
        if key not in old:
            later.append(value)
        elif isinstance(value, dict):
            later += what_came_later(value, old[key])
        else:
            assert value == old[key], key
    assert old.keys() <= new.keys()
    return later


def test_stored_records_and_decisions_are_read_and_written_as_before(tmp_path: Path) -> None:
    stored_settings = ("camera", "camera_id", "gain", "offset", "binning", "readout_mode")
    settings = CameraSettings(**{name: getattr(FULL.metadata.settings, name) for name in stored_settings})
    metadata = dataclasses.replace(
        FULL.metadata,
        settings=settings,
        states_binning=True,
        longitude_deg=None,
        full_scale=None,
        unreadable=(),
        remarks=(),
    )
    record = dataclasses.replace(FULL, metadata=metadata, primary_header=(), hdu_index=None)
    assert from_json(FrameRecord, STORED) == record
    later = what_came_later(json.loads(record.to_json()), json.loads(STORED))
    (optics,) = (value for value in later if isinstance(value, dict))
    assert set(optics.values()) == {None}
    (checksum_,) = (value for value in later if isinstance(value, str))
    assert checksum_.startswith("crc32:")
    others = [value for value in later if value is not optics and value is not checksum_]
    assert others == [None] * 6 + [True] + [None] * 2 + [[]] * 3 + [None]
    (tmp_path / "000003.excluded.json").write_bytes(STORED_DECISIONS)
    decision = Decision(excluded=True, why="cloud", who="anna@dome", when=datetime(2026, 11, 22, 9, tzinfo=UTC))
    assert read_exclusions(tmp_path) == ({3: decision}, {})
    (tmp_path / "000003.excluded.json").unlink()
    write_decision(tmp_path, 3, decision)
    again = json.loads((tmp_path / "000003.excluded.json").read_bytes())
    assert again.pop("checksum").startswith("crc32:")
    assert again == json.loads(STORED_DECISIONS)


def test_a_record_comes_back_as_it_was_written() -> None:
    assert from_json(FrameRecord, FULL.to_json()) == FULL


def test_the_record_of_a_frame_without_a_fingerprint_comes_back() -> None:
    record = record_of(0, np.zeros((4, 4), np.uint16))
    assert record.pixels.fingerprint == ""
    assert from_json(FrameRecord, record.to_json()) == record


def test_every_field_of_the_sample_record_differs_from_its_default() -> None:
    # so that the round trip above proves that no field is forgotten
    for value in (FULL, FULL.metadata, FULL.metadata.settings):
        for field in dataclasses.fields(value):
            assert getattr(value, field.name) != field.default or not field.compare, field.name


@given(
    exposure_time_s=st.none() | st.floats(0, 1e6),
    gain=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    camera=st.none() | st.text(),
    date_obs=st.none() | st.datetimes(timezones=st.just(UTC)),
    source=st.none() | st.text(),
)
def test_any_record_comes_back_as_it_was_written(source: str | None, camera: str | None, **values: Any) -> None:
    settings = CameraSettings(camera=camera, gain=values.pop("gain"))
    metadata = FrameMetadata(frame_type=None, width=3, height=2, settings=settings, **values)
    record = dataclasses.replace(FULL, metadata=metadata, source=source)
    assert from_json(FrameRecord, record.to_json()) == record


def test_dates_are_written_in_utc() -> None:
    summer = datetime(2026, 6, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    record = dataclasses.replace(FULL, date_end=summer)
    assert json.loads(record.to_json())["date_end"] == "2026-05-31T23:30:00Z"
    assert from_json(FrameRecord, record.to_json()).date_end == summer


def test_unknown_keys_are_left_out() -> None:
    assert from_json(FrameRecord, changed("metadata.weather", "clear")) == FULL


def test_a_key_of_a_later_version_may_be_absent() -> None:
    content = json.loads(FULL.to_json())
    del content["metadata"]["is_master"]
    assert from_json(FrameRecord, json.dumps(content).encode()).metadata.is_master is False


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("index", -1, "index: -1 is not a whole number from 0 to 999999"),
        ("index", True, "index: True is not a whole number"),
        ("metadata", [], "metadata: it is not a JSON object"),
        ("metadata.width", 0, "metadata: width: 0 is not"),
        ("metadata.width", 10**9, "metadata: width: 1000000000 is not"),
        ("metadata.height", 3.5, "metadata: height: 3.5 is not"),
        ("metadata.exposure_time_s", "5", "metadata: exposure_time_s: '5' is not a finite number"),
        ("metadata.exposure_time_s", 10**400, "is not a finite number"),
        ("metadata.frame_type", "darkness", "metadata: frame_type: 'darkness' is not a valid FrameType"),
        ("metadata.frame_type", [1], "metadata: frame_type"),
        ("metadata.date_obs", "yesterday", "metadata: date_obs"),
        ("metadata.date_obs", "2026-11-21T08:42:00", "has no time zone"),
        ("metadata.date_obs", "0001-01-01T00:00:00+10:00", "is out of range"),
        ("metadata.settings.binning", [2], "metadata: settings: binning: [2] is not a pair"),
        ("metadata.settings.camera", 5, "metadata: settings: camera: 5 is not a text"),
        ("metadata.dark_subtracted", 1, "neither true nor false"),
        ("pixels.checksum", "md5:1", "pixels: checksum: 'md5:1' is not a checksum"),
        ("pixels.fingerprint", "x" * 100, "pixels: fingerprint"),
        ("pixels.statistics.saturated", -1, "pixels: statistics: saturated"),
        ("header", ["short"], "header: 'short' is not a FITS card of 80 characters"),
        ("header", "long", "header: 'long' is not a list"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        from_json(FrameRecord, changed(key, value))


def test_a_missing_key_is_named() -> None:
    content = json.loads(FULL.to_json())
    del content["pixels"]
    with pytest.raises(ValueError, match="pixels is missing"):
        from_json(FrameRecord, json.dumps(content).encode())


@given(position=st.integers(0, 3000), byte=st.integers(0, 255), cut=st.integers(0, 3000))
def test_a_damaged_record_is_read_or_refused(position: int, byte: int, cut: int) -> None:
    data = bytearray(FULL.to_json())
    data[position % len(data)] = byte
    for damaged in (bytes(data), bytes(data[:cut])):
        try:
            read = from_json(FrameRecord, damaged)
        except ValueError:
            continue
        # What is read is whole: it can be written, and reads as the same again.
        assert from_json(FrameRecord, read.to_json()) == read


def test_a_ledger_gives_its_records_by_index_and_names_the_damaged_ones(tmp_path: Path) -> None:
    for index in (3, 0, 7):
        write_record(tmp_path, dataclasses.replace(FULL, index=index))
    (tmp_path / "000001.json").write_bytes(b"{")
    (tmp_path / "000002.json").write_bytes(b"[" * 100_000)
    (tmp_path / "000004.json").write_bytes(b" " * (MAX_RECORD_BYTES + 1))
    (tmp_path / "000005.json").write_bytes(FULL.to_json())
    (tmp_path / "000006.json").write_bytes(changed("index", 6).replace(b"1.5", b"NaN"))
    (tmp_path / "000008.json").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    records, problems = read_ledger(tmp_path)
    assert [record.index for record in records] == [0, 3, 7]
    for problem, (name, reason) in zip(
        problems,
        [("1", ""), ("2", ""), ("4", "larger than"), ("5", "of frame 12"), ("6", "NaN"), ("8", "directory")],
        strict=True,
    ):
        assert f"00000{name}.json" in problem
        assert reason in problem
        assert "\n" not in problem


def test_an_absent_ledger_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ledger of the series cannot be read"):
        read_ledger(tmp_path / "ledger")


def test_a_record_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="header is too long"):
        dataclasses.replace(FULL, header=("x" * 80,) * 20_000).to_json()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken.json").mkdir()
    (tmp_path / "taken.json" / "file").touch()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken.json", b"{}", durable=True)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_stray_files_and_directories_are_swept(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "0.123.partial").touch()
    (tmp_path / "a" / "unpacked.456.partial").mkdir()
    (tmp_path / "a" / "unpacked.456.partial" / "file.fits").touch()
    (tmp_path / "a" / "b" / "0").touch()
    assert len(sweep_partials(tmp_path)) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "0"]


@given(
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_statistics_are_those_of_numpy(dtype: str, height: int, width: int, seed: int) -> None:
    frame = samples((height, width), dtype, seed=seed)
    statistics = frame_statistics(frame, saturation_adu=100.0)
    values = frame.astype(np.float64)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-9)
    assert statistics.median == pytest.approx(np.median(values), rel=1e-6 if dtype == "float32" else 0, abs=0)
    assert statistics.std == pytest.approx(values.std(), rel=1e-9, abs=1e-9)
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())
    assert statistics.saturated == np.count_nonzero(values >= 100)
    assert statistics.not_finite == 0


def test_statistics_of_16_bits_are_exact() -> None:
    frame = np.full((1000, 1001), 65535, np.uint16)
    frame[0, 0] = 65534
    statistics = frame_statistics(frame, saturation_adu=65535.0)
    assert statistics.mean == 65535 - 1 / 1_001_000
    assert statistics.std == pytest.approx((1_000_999 / 1_001_000**2) ** 0.5, rel=1e-12)


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    frame = np.array([[1.0, np.nan], [np.inf, 3.0]], np.float32)
    statistics = frame_statistics(frame, saturation_adu=None)
    assert (statistics.mean, statistics.minimum, statistics.maximum, statistics.not_finite) == (2.0, 1.0, 3.0, 2)
    empty = frame_statistics(np.full((2, 2), np.nan), saturation_adu=1.0)
    assert (empty.mean, empty.median, empty.saturated, empty.not_finite) == (None, None, 0, 4)


def test_the_checksum_is_of_little_endian_samples_row_by_row() -> None:
    frame = samples((5, 7))
    assert checksum(frame) == checksum(frame.astype(">u2")) == checksum(np.asfortranarray(frame))
    assert checksum(frame) != checksum(np.ascontiguousarray(frame.T).reshape(5, 7))


@pytest.mark.parametrize(("dtype", "saturated"), [("uint16", 1), ("int16", 1), ("float32", 0)])
def test_saturation_is_the_largest_value_of_integers(dtype: str, saturated: int) -> None:
    frame = np.zeros((4, 4), dtype)
    frame[1, 2] = np.iinfo(dtype).max if dtype != "float32" else 65535
    assert describe_pixels(frame).statistics.saturated == saturated


def test_records_of_frames_differ_by_their_pixels() -> None:
    first, second = samples((8, 9), seed=1), samples((8, 9), seed=2)
    assert record_of(0, first).pixels.fingerprint != record_of(0, second).pixels.fingerprint
