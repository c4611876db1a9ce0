"""What must be known of frames and cameras before masters are combined: surveys, gain and noise.

A survey is made of sampled rows of all frames, read once; of each camera and setting it gives one set of properties.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.plan import BuildPlan, MasterPlan, needs_camera
from ostcal.build.request import BuildRequest
from ostcal.build.surveys import survey_all, survey_frames, survey_requests
from ostcal.engine.execution import Execution
from ostcal.engine.rejection import NoiseModel, RejectionMethod, SigmaClip
from ostcal.frames import CameraSettings, FrameStack, FrameType
from ostcal.inputs.exclusion_command import exclusion_command
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Group, GroupKey, settings_differ
from ostcal.inputs.overscan_words import words_end_adu
from ostcal.inputs.sensor_temperature import sensor_key
from ostcal.measure.camera.measured import CameraProperties, FullScale, SurveyedSeries
from ostcal.measure.camera.properties import measure_camera
from ostcal.measure.frames.other_kinds import frames_of_other_kinds
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.measure.live import SATURATED_FROM

logger = logging.getLogger(__name__)

LEAST_PIXELS = 64 * 64
"""Of a frame: with fewer a cell has no 64 pixels, and its variance is off by more than 18 %."""


@dataclass(frozen=True, kw_only=True, eq=False)
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
    bias_drift_adu: float | None = None
    """Half of the range of the levels of the bias frames; of the shortest darks where there are none."""
    dark_rate_adu_per_s: float | None = None
    """From the levels of the bias frames and the longest darks; masters give a better one later."""
    dark_rate_temperature_c: float | None = None
    bias_cells_adu: NDArray[np.float64] | None = None
    """Median level of each cell of the bias frames: the slopes that the amplifier has without any light."""

    @property
    def bias_range_adu(self) -> float:
        """The difference of bright and dim parts of the bias; 0 without bias frames."""
        if self.bias_cells_adu is None or not np.isfinite(self.bias_cells_adu).any():
            return 0.0
        return float(np.nanmax(self.bias_cells_adu) - np.nanmin(self.bias_cells_adu))

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

    def as_dict(self) -> dict[str, Any]:
        """Return what is stored with each master, as JSON values."""
        return {
            **self.properties.as_dict(),
            "bias_level_adu": self.bias_level_adu,
            "stated_gain_e_per_adu": self.stated_gain_e_per_adu,
            "bias_drift_adu": self.bias_drift_adu,
        }


@dataclass(frozen=True, kw_only=True)
class PreparedMaster:
    """A master of which all is known but its pixels."""

    plan: MasterPlan
    method: RejectionMethod
    """With the noise of its camera, where the method asks for it."""
    survey: SeriesSurvey | None
    """Of its frames; ``None`` where quality control is off or they cannot be read."""
    camera: CameraRecord | None
    """``None`` where nothing was surveyed."""

    @property
    def full_scale(self) -> FullScale | None:
        """The level at which the converter ends, and what shows it; ``None`` where nothing does, as for floats."""
        word_adu = words_end_adu(self.plan.stack)
        found = self.camera.properties.full_scale if self.camera is not None else None
        if found is not None and not (found.is_whole_word and word_adu is None):
            return found
        return (
            None if word_adu is None else FullScale(adu=word_adu, why="a sample cannot hold more", is_whole_word=True)
        )

    @property
    def full_scale_adu(self) -> float | None:
        """The level at which samples end, without the overscan that was subtracted."""
        overscan_adu = self.survey.overscan_adu if self.survey is not None else 0.0
        return self.full_scale.adu - overscan_adu if self.full_scale is not None else None

    @property
    def unlit_noise_adu(self) -> float | None:
        """The noise of a sample without light: of reading, of rounding, and of the overscan that was subtracted."""
        if self.camera is None or self.camera.read_noise_adu is None:
            return None
        rounding_adu2 = (self.camera.properties.step_adu or 0.0) ** 2 / 12
        added_adu2 = self.survey.overscan_added_adu2 if self.survey is not None else 0.0
        return math.sqrt(self.camera.read_noise_adu**2 + rounding_adu2 + added_adu2)


def prepare_masters(
    request: BuildRequest,
    execution: Execution,
    plan: BuildPlan,
    ladders: Sequence[tuple[Group, FrameStack]] = (),
) -> tuple[list[PreparedMaster], list[str]]:
    """Survey all frames and measure their cameras; return the masters to make, and warnings.

    Frames of masters that are left as they are say something of the camera too, and so do `ladders`: single frames of
    different exposures, of which no master is made.
    """
    every = [*plan.to_make, *(unchanged.plan for unchanged in plan.unchanged)]
    surveys: list[SeriesSurvey | None] = [None] * len(every)
    cameras: list[CameraRecord] = []
    rules = request.publishing.quality
    if rules is not None or needs_camera(request.method):
        surveys = survey_frames(request, execution, every, ladders=ladders)
        if rules is not None and request.publishing.leave_out:
            n_masters = len(every)
            every, of_masters = _without_other_kinds(request, execution, every, surveys[:n_masters])
            surveys = [*of_masters, *surveys[n_masters:]]
        series = [*((master.group, master.stack) for master in every), *ladders]
        word_adu = max((words_end_adu(stack) or 0.0 for _, stack in series), default=0.0) or None
        configured_adu = rules.full_scale_adu if rules is not None else None
        cameras = measure_cameras(_surveyed(series, surveys), word_adu, configured_adu=configured_adu)
        clipped = _below_full_scale(series, surveys, cameras)
        if clipped:
            requests = survey_requests(series, clipped)
            known = {place: survey for place, survey in enumerate(surveys) if survey and place not in clipped}
            surveys = survey_all(requests, execution, request.memory_limit_bytes, known)
            cameras = measure_cameras(_surveyed(series, surveys), word_adu, known=cameras)
        for measured in cameras:
            full = measured.properties.full_scale
            if full is not None and not full.is_whole_word:
                logger.info("%s: %s", measured.settings.camera_label or "camera", full.in_words)
    prepared = []
    warnings = []
    for master, survey in zip(every[: len(plan.to_make)], surveys, strict=False):
        key = master.group.key
        camera = next((camera for camera in cameras if _same_camera(camera, key)), None)
        method = request.method
        if isinstance(method, SigmaClip) and needs_camera(method):
            model = camera.noise_model(key.frame_type) if camera is not None else None
            if model is None:
                reasons = camera.properties.reasons if camera is not None else {}
                words = {"gain_e_per_adu": "gain", "read_noise_adu": "read noise"}
                why = "; ".join(f"{word}: {reasons[reason]}" for reason, word in words.items() if reason in reasons)
                warnings.append(
                    f"{master.name}: clip_spread is noise, but read noise or gain of the camera is not known"
                    f"{f' ({why})' if why else ''}; auto is used instead"
                )
            method = replace(method, model=model)
        prepared.append(PreparedMaster(plan=master, method=method, survey=survey, camera=camera))
    return prepared, warnings


def _without_other_kinds(
    request: BuildRequest,
    execution: Execution,
    masters: Sequence[MasterPlan],
    surveys: Sequence[SeriesSurvey | None],
) -> tuple[list[MasterPlan], list[SeriesSurvey | None]]:
    """Leave frames of another kind out of masters, and survey those without them again."""
    quality = request.publishing.quality
    unlike: dict[str, str] = {}
    for master, survey in zip(masters, surveys, strict=True):
        if survey is None or quality is None:
            continue
        found = frames_of_other_kinds(
            master.group.key.frame_type, survey, quality.frames, min_frames=request.rules.min_frames
        )
        for index, reason in found.items():
            source = master.members[index]
            unlike[file_of(source)] = left_out_line(source, reason, request.publishing.config_options)
    kept = []
    for master in masters:  # of a file of several images all
        labels = {s.frame.label: unlike[file_of(s)] for s in master.members if file_of(s) in unlike}
        kept.append(master.leaving_out(labels) if labels else master)
    known = {
        place: survey for place, survey in enumerate(surveys) if survey is not None and kept[place] is masters[place]
    }
    if len(known) == len(masters):
        return kept, list(surveys)
    requests = survey_requests([(master.group, master.stack) for master in kept])
    return kept, survey_all(requests, execution, request.memory_limit_bytes, known)


def file_of(source: Source) -> str:
    """Return what tells the file of a frame, or a frame of a series, from all others."""
    return source.frame.file or source.frame.label


def left_out_line(source: Source, reason: str, config_options: Sequence[str]) -> str:
    """Say that a frame is left out of its master, why, and how it is excluded for good."""
    command = exclusion_command(source, config_options)
    return f"{source.frame.label}: {reason}; to exclude it in every run: {command}"


def _surveyed(
    series: Sequence[tuple[Group, FrameStack]], surveys: Sequence[SeriesSurvey | None]
) -> list[tuple[Group, SeriesSurvey]]:
    return [(group, survey) for (group, _), survey in zip(series, surveys, strict=True) if survey is not None]


def _below_full_scale(
    series: Sequence[tuple[Group, FrameStack]],
    surveys: Sequence[SeriesSurvey | None],
    cameras: Sequence[CameraRecord],
) -> dict[int, float]:
    """Return from which level on samples are saturated, by place, for series whose survey took a higher level."""
    clipped: dict[int, float] = {}
    for place, ((group, stack), survey) in enumerate(zip(series, surveys, strict=True)):
        camera = next((camera for camera in cameras if _same_camera(camera, group.key)), None)
        full = camera.properties.full_scale if camera is not None else None
        if survey is None or full is None:
            continue
        taken_adu = SATURATED_FROM * (words_end_adu(stack) or math.inf)
        from_adu = full.saturated_from_adu
        if from_adu != taken_adu and survey.highest_word_adu >= min(from_adu, taken_adu):
            clipped[place] = from_adu
    return clipped


def measure_cameras(
    surveyed: Sequence[tuple[Group, SeriesSurvey]],
    word_adu: float | None,
    *,
    configured_adu: float | None = None,
    known: Sequence[CameraRecord] = (),
) -> list[CameraRecord]:
    """Measure every camera and setting among the groups of a run.

    `word_adu` is the largest value that a sample can hold, `configured_adu` the full scale that the user states; that
    of cameras that are `known` is not looked for again.
    """
    clusters: list[list[tuple[Group, SeriesSurvey]]] = []
    for group, survey in surveyed:
        cluster = next((known for known in clusters if _same_camera(known[0][0].key, group.key)), None)
        if cluster is None:
            clusters.append(cluster := [])
        cluster.append((group, survey))
    return [_measured_camera(cluster, word_adu, configured_adu, known) for cluster in clusters]


def _measured_camera(
    cluster: Sequence[tuple[Group, SeriesSurvey]],
    word_adu: float | None,
    configured_adu: float | None,
    known: Sequence[CameraRecord],
) -> CameraRecord:
    """Measure one camera at one setting on its groups."""
    key = cluster[0][0].key
    if key.width * key.height < LEAST_PIXELS:
        small = f"frames of {key.width} x {key.height} pixels are too small"
        reasons = dict.fromkeys(("gain_e_per_adu", "read_noise_adu"), small)
        return CameraRecord(
            settings=key.settings, width=key.width, height=key.height, properties=CameraProperties(reasons=reasons)
        )
    of_kind = _by_kind(cluster)
    bias, darks = of_kind[FrameType.BIAS], of_kind[FrameType.DARK]
    before = next((camera.properties for camera in known if _same_camera(camera, key)), None)
    properties = measure_camera(
        bias=bias,
        darks=darks,
        flats=of_kind[FrameType.FLAT],
        word_adu=word_adu,
        cards=[f.metadata.full_scale for group, _ in cluster for f in group.frames if f.metadata.full_scale],
        configured_adu=configured_adu,
        full_scale=before.full_scale if before is not None else None,
    )
    if before is not None and properties.linear_end_adu is None:  # the flats beyond it are left out now
        properties = replace(properties, linear_end_adu=before.linear_end_adu)
    stated = {frame.metadata.egain_e_per_adu for group, _ in cluster for frame in group.frames} - {None}
    raw = [one for one in bias or darks if not one.subtracted]
    longest = max(raw if bias else [], key=lambda one: one.survey.n_frames, default=None)
    record = CameraRecord(
        settings=key.settings,
        width=key.width,
        height=key.height,
        properties=properties,
        stated_gain_e_per_adu=stated.pop() if len(stated) == 1 else None,
        bias_cells_adu=None if longest is None else np.median(longest.survey.cells_adu, axis=0),
    )
    if not raw:
        return record
    shortest = min(raw, key=lambda one: one.exposure_s)
    levels_adu = [float(np.median(cells[np.isfinite(cells)])) for cells in _with_numbers(shortest.survey)]
    if not levels_adu:
        return record
    level_adu = median(levels_adu)
    rate_adu_per_s, rate_c = _dark_rate(cluster, shortest.exposure_s, level_adu)
    return replace(
        record,
        bias_level_adu=level_adu,
        bias_drift_adu=(max(levels_adu) - min(levels_adu)) / 2,
        dark_rate_adu_per_s=rate_adu_per_s,
        dark_rate_temperature_c=rate_c,
    )


def _by_kind(cluster: Sequence[tuple[Group, SeriesSurvey]]) -> dict[FrameType, list[SurveyedSeries]]:
    of_kind: dict[FrameType, list[SurveyedSeries]] = {kind: [] for kind in FrameType}
    for group, survey in cluster:
        series = SurveyedSeries(
            survey=survey,
            exposures_s=tuple(frame.metadata.exposure_time_s or 0.0 for frame in group.frames),
            is_ladder=group.ladder,
            filter_name=group.key.filter_name,
            subtracted=group.key.dark_subtracted or group.key.bias_subtracted,
        )
        of_kind[group.key.frame_type].append(series)
    return of_kind


def _dark_rate(
    cluster: Sequence[tuple[Group, SeriesSurvey]], shortest_s: float, level_adu: float
) -> tuple[float | None, float | None]:
    """Return the dark current of the longest darks above a level at a shorter exposure, and their temperature."""
    darks = [
        (group.key.exposure_time_s, sensor_key(group).temperature_c, survey)
        for group, survey in cluster
        if group.key.frame_type is FrameType.DARK and not group.key.bias_subtracted
    ]
    longest_s, temperature_c, survey = max(darks, key=lambda dark: dark[0], default=(0.0, None, None))
    levels_adu = [] if survey is None else [float(np.nanmedian(cells)) for cells in _with_numbers(survey)]
    if not levels_adu or longest_s <= shortest_s:
        return None, None
    rate = (median(levels_adu) - level_adu) / (longest_s - shortest_s)
    return (max(rate, 0.0), temperature_c) if math.isfinite(rate) else (None, None)


def _with_numbers(survey: SeriesSurvey) -> list[NDArray[np.float64]]:
    """Return the levels of the cells of each frame that holds any number."""
    return [cells for cells in survey.cells_adu if np.isfinite(cells).any()]


def _same_camera(a: GroupKey | CameraRecord, b: GroupKey) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)
