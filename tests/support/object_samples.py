"""Series for tests of object stores: a night in FITS files, imported, and buckets of their own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.series.record import FrameRecord, describe_pixels
from ostcal.series.series_writer import SeriesWriter, create_series
from support.object_server import make_bucket

SHAPE = (70, 48)
START = datetime(2026, 11, 21, 18, tzinfo=UTC)
SETTINGS = CameraSettings(camera="Synthetic", gain=100, offset=30, binning=(1, 1), readout_mode=None)


def fresh_bucket(endpoint: str, **options: Any) -> str:
    """Make a bucket and reach it; gives ``s3://name``."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    make_bucket(endpoint, name)
    use_options(ObjectOptions(endpoint=endpoint, **{"retries": 3, "timeout_s": 10.0, **options}))
    return f"s3://{name}"


def write_series(
    path: Path, n_frames: int, kind: FrameType = FrameType.DARK, exposure_s: float = 5.0, *, seed: int = 1
) -> None:
    """Write a series of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = SHAPE
    settings = {"exposure_time_s": exposure_s, "camera": "Synthetic", "gain": 100, "offset": 30, "binning": [1, 1]}
    writer = create_series(
        path, n_frames=n_frames, height=height, width=width, dtype="uint16", frame_type=kind, attributes=settings
    )
    add_frames(writer, range(n_frames), kind, exposure_s, seed=seed)


def add_frames(
    writer: SeriesWriter, indices: Sequence[int], kind: FrameType, exposure_s: float, *, seed: int = 1
) -> None:
    for index in indices:
        noise = np.random.default_rng([seed, index]).normal(1000, 12, SHAPE)
        frame = np.rint(noise).astype(np.uint16)
        metadata = FrameMetadata(
            frame_type=kind,
            exposure_time_s=exposure_s,
            width=SHAPE[1],
            height=SHAPE[0],
            settings=SETTINGS,
            set_temperature_c=-10.0,
            ccd_temperature_c=-10.0,
            date_obs=START + timedelta(seconds=60 * seed + index * (exposure_s + 2)),
        )
        record = FrameRecord(index=index, metadata=replace(metadata), pixels=describe_pixels(frame))
        writer.write_frame(index, frame, record)
