"""Frames and records for tests of the zarr stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.series.record import FrameRecord, describe_pixels
from ostcal.series.series_writer import SeriesWriter, create_series

FIRST_EXPOSURE = datetime(2026, 11, 21, 8, 42, tzinfo=UTC)


def samples(shape: tuple[int, ...], dtype: str = "uint16", *, seed: int = 1) -> NDArray[Any]:
    """Return values over the whole range of an integer dtype, or any values of a floating-point one."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (1000 * rng.standard_normal(shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def record_of(index: int, frame: NDArray[Any], **metadata: Any) -> FrameRecord:
    """Return the record of a dark, one a second."""
    height, width = frame.shape
    values: dict[str, Any] = {
        "frame_type": FrameType.DARK,
        "exposure_time_s": 5.0,
        "width": width,
        "height": height,
        "settings": CameraSettings(camera="Demo", gain=100.0, offset=30.0),
        "date_obs": FIRST_EXPOSURE + timedelta(seconds=index),
    }
    return FrameRecord(index=index, metadata=FrameMetadata(**values | metadata), pixels=describe_pixels(frame))


def new_series(
    path: Path, frames: NDArray[Any], *, compressor: str = "auto", frame_type: FrameType = FrameType.DARK
) -> SeriesWriter:
    """Make a series of all frames of an array (N, H, W)."""
    n_frames, height, width = frames.shape
    writer = create_series(
        path,
        n_frames=n_frames,
        height=height,
        width=width,
        dtype=frames.dtype,
        frame_type=frame_type,
        compressor=compressor,
        attributes={"gain": 100},
    )
    for index, frame in enumerate(frames):
        writer.write_frame(index, frame, record_of(index, frame, frame_type=frame_type))
    return writer


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON object in a file; its checksum stays the one that it had."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_old(path: Path, change: Callable[[dict[str, Any]], object] = lambda value: None) -> None:
    """Change a record or the metadata of a group to what an older version wrote, without a checksum, and more."""

    def without_checksum(value: dict[str, Any]) -> None:
        value.get("attributes", value).pop("checksum", None)
        change(value)

    change_json(path, without_checksum)
