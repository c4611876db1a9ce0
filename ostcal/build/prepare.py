"""What must be known of frames and cameras before masters are combined: surveys, gain and noise.

A survey is made of sampled rows of all frames, read once; of each camera and setting it gives one set of properties.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.plan import BuildPlan, MasterPlan, needs_camera
from ostcal.build.request import BuildRequest
from ostcal.engine.driver import Failure, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.rejection import NoiseModel, RejectionMethod, SigmaClip
from ostcal.engine.tiling import workers_for
from ostcal.frames import CameraSettings, FrameStack, FrameType
from ostcal.inputs.exclusion_command import exclusion_command
from ostcal.inputs.gather import Source
from ostcal.inputs.grouping import Group, GroupKey, settings_differ
from ostcal.measure.camera.measured import CameraProperties, SurveyedSeries
from ostcal.measure.camera.properties import measure_camera
from ostcal.measure.frames.other_kinds import frames_of_other_kinds
from ostcal.measure.frames.survey import BlockSurvey, SeriesSurvey, band_rows, merge_blocks, sampled_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.measure.live import SATURATED_FROM

logger = logging.getLogger(__name__)

LEAST_PIXELS = 64 * 64
"""Of a frame: with fewer a cell has no 64 pixels, and its variance is off by more than 18 %."""
_BYTES_PER_SAMPLE = 12
"""Memory of a block: the samples as they are stored, and pieces of them as floats."""


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


def prepare_masters(
    request: BuildRequest, execution: Execution, plan: BuildPlan
) -> tuple[list[PreparedMaster], list[str]]:
    """Survey all frames and measure their cameras; return the masters to make, and warnings.

    Frames of masters that are left as they are say something of the camera too.
    """
    every = [*plan.to_make, *(unchanged.plan for unchanged in plan.unchanged)]
    surveys: list[SeriesSurvey | None] = [None] * len(every)
    if request.publishing.quality is not None or needs_camera(request.method):
        surveys = survey_frames(request, execution, every)
    if request.publishing.quality is not None and request.publishing.leave_out:
        every, surveys = _without_other_kinds(request, execution, every, surveys)
    cameras = measure_cameras(
        [(master.group, survey) for master, survey in zip(every, surveys, strict=True) if survey is not None],
        max((m.stack.encoding.full_scale_adu or 0.0 for m in every), default=0.0) or None,
    )
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
            unlike[file_of(source)] = left_out_line(source, reason, request.publishing.config_path)
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


def left_out_line(source: Source, reason: str, config_path: str) -> str:
    """Say that a frame is left out of its master, why, and how it is excluded for good."""
    command = exclusion_command(source, config_path)
    return f"{source.frame.label}: {reason}; to exclude it in every run: {command}"


def measure_cameras(surveyed: Sequence[tuple[Group, SeriesSurvey]], full_scale_adu: float | None) -> list[CameraRecord]:
    """Measure every camera and setting among the groups of a run."""
    clusters: list[list[tuple[Group, SeriesSurvey]]] = []
    for group, survey in surveyed:
        cluster = next((known for known in clusters if _same_camera(known[0][0].key, group.key)), None)
        if cluster is None:
            clusters.append(cluster := [])
        cluster.append((group, survey))
    cameras = []
    for cluster in clusters:
        of_kind: dict[FrameType, list[SurveyedSeries]] = {kind: [] for kind in FrameType}
        for group, survey in cluster:
            series = SurveyedSeries(
                survey=survey,
                exposures_s=tuple(frame.metadata.exposure_time_s or 0.0 for frame in group.frames),
                filter_name=group.key.filter_name,
                subtracted=group.key.dark_subtracted or group.key.bias_subtracted,
            )
            of_kind[group.key.frame_type].append(series)
        key, bias, darks = cluster[0][0].key, of_kind[FrameType.BIAS], of_kind[FrameType.DARK]
        level_adu = gain_e_per_adu = bias_cells_adu = drift_adu = rate_adu_per_s = rate_c = None
        if key.width * key.height < LEAST_PIXELS:
            small = f"frames of {key.width} x {key.height} pixels are too small"
            properties = CameraProperties(reasons=dict.fromkeys(("gain_e_per_adu", "read_noise_adu"), small))
        else:
            flats = of_kind[FrameType.FLAT]
            properties = measure_camera(bias=bias, darks=darks, flats=flats, saturation_adu=full_scale_adu)
            raw = [one for one in bias or darks if not one.subtracted]
            shortest = min(raw, key=lambda one: one.exposure_s, default=None)
            longest = max(raw if bias else [], key=lambda one: one.survey.n_frames, default=None)
            bias_cells_adu = None if longest is None else np.median(longest.survey.cells_adu, axis=0)
            if shortest is not None:
                levels_adu = [float(np.nanmedian(cells)) for cells in shortest.survey.cells_adu]
                level_adu = median(levels_adu)
                drift_adu = (max(levels_adu) - min(levels_adu)) / 2
                rate_adu_per_s, rate_c = _dark_rate(cluster, shortest.exposure_s, level_adu)
            stated = {frame.metadata.egain_e_per_adu for group, _ in cluster for frame in group.frames} - {None}
            gain_e_per_adu = stated.pop() if len(stated) == 1 else None
        cameras.append(
            CameraRecord(
                settings=key.settings,
                width=key.width,
                height=key.height,
                properties=properties,
                bias_level_adu=level_adu,
                stated_gain_e_per_adu=gain_e_per_adu,
                bias_cells_adu=bias_cells_adu,
                bias_drift_adu=drift_adu,
                dark_rate_adu_per_s=rate_adu_per_s,
                dark_rate_temperature_c=rate_c,
            )
        )
    return cameras


def _dark_rate(
    cluster: Sequence[tuple[Group, SeriesSurvey]], shortest_s: float, level_adu: float
) -> tuple[float | None, float | None]:
    """Return the dark current of the longest darks above a level at a shorter exposure, and their temperature."""
    darks = [
        (group.key.exposure_time_s, group.key.temperature_c, survey)
        for group, survey in cluster
        if group.key.frame_type is FrameType.DARK and not group.key.bias_subtracted
    ]
    longest_s, temperature_c, survey = max(darks, key=lambda dark: dark[0], default=(0.0, None, None))
    if survey is None or longest_s <= shortest_s:
        return None, None
    rate = (float(median(map(np.nanmedian, survey.cells_adu))) - level_adu) / (longest_s - shortest_s)
    return (max(rate, 0.0), temperature_c) if math.isfinite(rate) else (None, None)


def _same_camera(a: GroupKey | CameraRecord, b: GroupKey) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)


# ---- surveys ----


@dataclass(frozen=True, kw_only=True)
class SurveyRequest:
    """A series to be surveyed."""

    stack: FrameStack
    common_level: bool
    """Whether frames are compared at one level, as flats are."""
    dark: int | None = None
    """Place among the requests of the bias or dark that shows the level of flats without light."""

    @property
    def band_bytes(self) -> int:
        """Memory for one band of rows of all frames."""
        n, height, width = self.stack.shape
        return n * width * band_rows(height, width) * _BYTES_PER_SAMPLE


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows of one series; small and picklable."""

    series: int
    request: SurveyRequest
    start: int
    stop: int
    pedestal_adu: float


def survey_frames(
    request: BuildRequest, execution: Execution, masters: Sequence[MasterPlan], *, keep: bool = False
) -> list[SeriesSurvey | None]:
    """Survey the frames of masters, except those that were surveyed while the camera exposed.

    With `keep` the surveys are stored with the strips of the masters, for the next run.
    """
    requests = survey_requests([(master.group, master.stack) for master in masters])
    documents = request.store.kept_surveys()
    keys = [""] * len(masters)  # empty where a frame of the survey or of its dark is no longer there
    if documents or keep:
        for index in sorted(range(len(masters)), key=lambda index: requests[index].dark is not None):  # darks first
            one = requests[index]
            dark_key = "none" if one.dark is None else keys[one.dark]
            keys[index] = (
                masters[index].key.survey(one.stack, dark_key, common_level=one.common_level) if dark_key else ""
            )
    kept = {index: _kept_survey(documents, key) for index, key in enumerate(keys)}
    known = {index: survey for index, survey in kept.items() if survey is not None}
    if documents or keep:
        logger.debug("%d of %d surveys were made ahead", len(known), len(keys))
    surveys = survey_all(requests, execution, request.memory_limit_bytes, known)
    for master, key, survey in zip(masters, keys, surveys, strict=True):
        if not keep or not key or survey is None:
            continue
        document: dict[str, Any] = {"key": key}
        for field in fields(survey):  # to the last bit: arrays are stored as bytes in base 64
            array = np.asarray(getattr(survey, field.name))
            data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
            document[field.name] = {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}
        request.store.writer(master.combined_name).keep_survey(document)
    return surveys


def survey_requests(series: Sequence[tuple[Group, FrameStack]]) -> list[SurveyRequest]:
    """Ask for a survey of groups: of flats with the bias or dark of their camera that is nearest in exposure."""
    requests = []
    for group, stack in series:
        key = group.key
        is_flat = key.frame_type is FrameType.FLAT
        fitting = [
            (abs(other.key.exposure_time_s - key.exposure_time_s), index)
            for index, (other, _) in enumerate(series)
            if other.key.frame_type is not FrameType.FLAT and _same_camera(other.key, key)
        ]
        has_dark = is_flat and not (key.dark_subtracted or key.bias_subtracted) and bool(fitting)
        requests.append(SurveyRequest(stack=stack, common_level=is_flat, dark=min(fitting)[1] if has_dark else None))
    return requests


def survey_all(
    requests: Sequence[SurveyRequest],
    execution: Execution,
    memory_limit_bytes: int,
    known: Mapping[int, SeriesSurvey],
) -> list[SeriesSurvey | None]:
    """Survey series, all at once, except those `known` by their place among the requests.

    ``None`` for a series that cannot be read, which combining will name. The memory is that of all workers together,
    of each worker where there is a cluster.
    """
    if not execution.is_remote:  # a second of numpy is not worth starting processes for
        execution = replace(execution, scheduler="threads")
    least = max((request.band_bytes for request in requests), default=0)
    at_a_time = execution.threads_per_worker if execution.is_remote else execution.workers
    workers, budget = workers_for(least, memory_limit_bytes, at_a_time)
    if not execution.is_remote:
        execution = replace(execution, workers=workers)
    surveys: list[SeriesSurvey | None] = [known.get(place) for place in range(len(requests))]
    for after_dark in (False, True):
        parts = []
        for place, request in enumerate(requests):
            if (request.dark is not None) != after_dark or place in known:
                continue
            dark = surveys[request.dark] if request.dark is not None else None
            has_level = dark is not None and bool(np.isfinite(dark.cells_adu).any())
            pedestal_adu = float(np.nanmedian(dark.cells_adu)) if dark is not None and has_level else 0.0
            _, height, width = request.stack.shape
            # whole bands, so that pieces that the memory allows do not show
            most = max(1, budget // request.band_bytes) * band_rows(height, width)
            parts += [
                _Part(series=place, request=request, start=at, stop=min(at + most, stop), pedestal_adu=pedestal_adu)
                for start, stop in sampled_blocks(height, width, request.stack.row_step)
                for at in range(start, stop, most)
            ]
        blocks: defaultdict[int, list[BlockSurvey]] = defaultdict(list)
        unread: set[int] = set()
        for part, result in zip(parts, run_tasks(_survey_part, parts, execution), strict=True):
            if isinstance(result, Failure):
                unread.add(part.series)
                logger.debug("no survey: %s", result.message)
            else:
                blocks[part.series].append(result)
        for place, of_series in blocks.items():
            surveys[place] = merge_blocks(of_series) if place not in unread else None
    return surveys


def _survey_part(part: _Part) -> BlockSurvey:
    stack = part.request.stack
    n, height, width = stack.shape
    block = np.empty((n, part.stop - part.start, width), stack.encoding.dtype)
    stack.read_rows(part.start, part.stop, block)
    samples, zero_adu = stack.encoding.plain(block, in_place=True)
    if zero_adu:
        samples = samples.astype(np.int32) + np.int32(zero_adu)
    full_scale_adu = stack.encoding.full_scale_adu
    return survey_block(
        samples,
        part.start,
        (height, width),
        saturation_adu=math.inf if full_scale_adu is None else SATURATED_FROM * full_scale_adu,
        scale_to_common=part.request.common_level,
        pedestal_adu=part.pedestal_adu,
    )


def _kept_survey(documents: Sequence[dict[str, Any]], key: str) -> SeriesSurvey | None:
    """Return the survey of this key; ``None`` if there is none, or it is damaged."""
    for document in documents:
        if not key or document.get("key") != key:
            continue
        values: dict[str, Any] = {}
        try:
            for field in fields(SeriesSurvey):
                stored = document[field.name]
                array = np.frombuffer(base64.b64decode(stored["data"]), stored["dtype"]).reshape(stored["shape"])
                values[field.name] = array.copy() if array.shape else array.item()
            return SeriesSurvey(**values)
        except (KeyError, TypeError, ValueError, binascii.Error):
            continue
    return None
