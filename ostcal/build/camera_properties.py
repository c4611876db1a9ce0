"""The properties of the cameras of a run, measured on its frames: one set for each camera and setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ostcal.engine.rejection import NoiseModel
from ostcal.frames import CameraSettings, FrameType
from ostcal.inputs.grouping import Group, GroupKey, settings_differ
from ostcal.measure.camera.measured import CameraProperties, SurveyedSeries
from ostcal.measure.camera.properties import measure_camera
from ostcal.measure.frames.survey import SeriesSurvey

LEAST_PIXELS = 64 * 64
"""Of a frame: with fewer a cell has no 64 pixels, and its variance is off by more than 18 %."""


@dataclass(frozen=True, kw_only=True)
class SurveyedGroup:
    """A group and its survey."""

    group: Group
    survey: SeriesSurvey


@dataclass(frozen=True, kw_only=True)
class CameraRecord:
    """A camera at one setting, and what was measured of it."""

    settings: CameraSettings
    width: int
    height: int
    properties: CameraProperties
    bias_level_adu: float | None = None
    """Median of the bias frames' levels; of the shortest darks where there are no bias frames."""
    stated_gain_e_per_adu: float | None = None
    """What the headers of the frames say, where they agree."""

    @property
    def gain_e_per_adu(self) -> float | None:
        """The gain as measured, else as stated."""
        measured = self.properties.gain_e_per_adu
        return measured.value if measured is not None else self.stated_gain_e_per_adu

    @property
    def read_noise_adu(self) -> float | None:
        """The read noise as measured."""
        measured = self.properties.read_noise_adu
        return measured.value if measured is not None else None

    def noise_model(self, kind: FrameType) -> NoiseModel | None:
        """Return what rejection needs to know a sample's noise; ``None`` where read noise or gain is not known."""
        if self.read_noise_adu is None or not self.gain_e_per_adu:
            return None
        # flats are dark-subtracted before rejection
        level = 0.0 if kind is FrameType.FLAT else self.bias_level_adu or 0.0
        return NoiseModel(read_noise_adu=self.read_noise_adu, gain_e_per_adu=self.gain_e_per_adu, bias_level_adu=level)


def camera_document(camera: CameraRecord) -> dict[str, Any]:
    """Return what is stored of a camera with each of its masters, as JSON values."""
    return {
        **camera.properties.as_dict(),
        "bias_level_adu": camera.bias_level_adu,
        "stated_gain_e_per_adu": camera.stated_gain_e_per_adu,
    }


def measure_cameras(surveyed: Sequence[SurveyedGroup], full_scale_adu: float | None) -> list[CameraRecord]:
    """Measure every camera and setting among the groups of a run."""
    clusters: list[list[SurveyedGroup]] = []
    for one in surveyed:
        cluster = next((known for known in clusters if _same_camera(known[0].group.key, one.group.key)), None)
        if cluster is None:
            clusters.append([one])
        else:
            cluster.append(one)
    return [_measured(cluster, full_scale_adu) for cluster in clusters]


def camera_for(cameras: Sequence[CameraRecord], key: GroupKey) -> CameraRecord | None:
    """Return the camera that frames of a key were taken with."""
    return next((camera for camera in cameras if _same_camera(camera, key)), None)


def _same_camera(a: GroupKey | CameraRecord, b: GroupKey) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)


def _measured(cluster: Sequence[SurveyedGroup], full_scale_adu: float | None) -> CameraRecord:
    key = cluster[0].group.key
    if key.width * key.height < LEAST_PIXELS:
        small = f"frames of {key.width} x {key.height} pixels are too small"
        properties = CameraProperties(reasons=dict.fromkeys(("gain_e_per_adu", "read_noise_adu"), small))
        return CameraRecord(settings=key.settings, width=key.width, height=key.height, properties=properties)
    of_kind: dict[FrameType, list[SurveyedSeries]] = {kind: [] for kind in FrameType}
    for one in cluster:
        series = SurveyedSeries(
            survey=one.survey,
            exposures_s=tuple(frame.metadata.exposure_time_s or 0.0 for frame in one.group.frames),
            filter_name=one.group.key.filter_name,
            subtracted=one.group.key.dark_subtracted or one.group.key.bias_subtracted,
        )
        of_kind[one.group.key.frame_type].append(series)
    properties = measure_camera(
        bias=of_kind[FrameType.BIAS],
        darks=of_kind[FrameType.DARK],
        flats=of_kind[FrameType.FLAT],
        saturation_adu=full_scale_adu,
    )
    raw = [one for one in of_kind[FrameType.BIAS] or of_kind[FrameType.DARK] if not one.subtracted]
    shortest = min(raw, key=lambda one: one.exposure_s, default=None)
    stated = {frame.metadata.egain_e_per_adu for one in cluster for frame in one.group.frames} - {None}
    return CameraRecord(
        settings=key.settings,
        width=key.width,
        height=key.height,
        properties=properties,
        bias_level_adu=None if shortest is None else float(median(map(np.nanmedian, shortest.survey.cells_adu))),
        stated_gain_e_per_adu=stated.pop() if len(stated) == 1 else None,
    )
