"""Attributes of stored masters: those of every version are read, damaged ones are named in one line."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest

from ostcal.errors import StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.attributes import MasterRecord, record_from_attributes

STORED: dict[str, Any] = json.loads("""{
  "frame_type": "flat", "width": 64, "height": 48, "exposure_time_s": 2, "camera": "Demo \\u00b5", "camera_id": "det 3",
  "gain": 100.0, "offset": null, "binning": [2, 2], "readout_mode": "fast", "filter": "L", "temperature_c": -10.0,
  "bayer_pattern": null, "bias_subtracted": false, "night": "2026-11-21",
  "made_at": "2026-11-21T08:42:00.250000+00:00", "calibration_id": "ab12", "input_digest": "cd34", "recipe": "ef56",
  "files": ["master_flat_L.fits"], "inputs": ["a.fits", "b.fits"], "rejected_per_frame": [1, 2], "n_samples": 6144,
  "noise_adu": 3.3, "cards": [["IMAGETYP", "Master Flat", "type of image"]], "history": [], "verdict": "pass",
  "quality": {"verdict": "pass"}, "camera_properties": null, "format": "ostcal-master", "format_version": 1
}""")
"""As version 0.1.0 stored them; nothing said when noon is."""
RECORD = MasterRecord(
    name="m",
    key=GroupKey(
        frame_type=FrameType.FLAT,
        settings=CameraSettings(camera="Demo µ", camera_id="det 3", gain=100.0, binning=(2, 2), readout_mode="fast"),
        width=64,
        height=48,
        exposure_time_s=2.0,
        filter_name="L",
        temperature_c=-10.0,
        bayer_pattern=None,
        bias_subtracted=False,
        night=date(2026, 11, 21),
    ),
    made_at=datetime(2026, 11, 21, 8, 42, 0, 250_000, tzinfo=UTC),
    calibration_id="ab12",
    verdict="pass",
    n_frames=2,
    recipe="ef56",
    files=("master_flat_L.fits",),
)


def test_stored_attributes_are_read() -> None:
    assert record_from_attributes("m", STORED) == RECORD


def test_attributes_of_before_they_had_all_keys_are_read() -> None:
    absent = ("camera_id", "inputs", "recipe", "files", "verdict")
    record = record_from_attributes("m", {key: value for key, value in STORED.items() if key not in absent})
    assert (record.n_frames, record.recipe, record.files, record.verdict) == (None, "", (), None)
    assert record.key.settings.camera_id is None


def test_a_master_of_frames_that_do_not_state_their_binning_says_so() -> None:
    assert not record_from_attributes("m", {**STORED, "states_binning": False}).key.states_binning


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frame_type", "darkness", "frame_type: 'darkness' is not a valid FrameType"),
        ("width", "64", "width: '64' is not a whole number"),
        ("binning", [2], "binning: [2] is not a pair"),
        ("made_at", "yesterday", "made_at: 'yesterday' is not a time"),
        ("night", "2026-13-01", "night: '2026-13-01' is not a date"),
        ("noon_utc_s", -1, "noon_utc_s: -1 is not a number from 0 to 86400.0"),
        ("files", ["../other.fits"], "files: '../other.fits' is not a name of a file"),
        ("files", [".."], "files: '..' is not a name of a file"),
        ("inputs", 5, "inputs: 5 is not a list"),
    ],
)
def test_damaged_attributes_are_named_in_one_line(key: str, value: object, message: str) -> None:
    with pytest.raises(StorageError, match="master m: its attributes are damaged: " + re.escape(message)) as raised:
        record_from_attributes("m", {**STORED, key: value})
    assert "\\n" not in str(raised.value)


def test_a_missing_attribute_is_named() -> None:
    with pytest.raises(StorageError, match="calibration_id is missing"):
        record_from_attributes("m", {key: value for key, value in STORED.items() if key != "calibration_id"})
