"""Surveys of the sampled rows of series of frames: which are asked for, made in parallel, and kept for a later run."""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.plan import MasterPlan
from ostcal.build.request import BuildRequest
from ostcal.engine.driver import Failure, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.tiling import workers_for
from ostcal.errors import FrameError
from ostcal.frames import FrameStack, FrameType
from ostcal.inputs.grouping import Group, GroupKey, settings_differ
from ostcal.inputs.overscan_words import overscan_facts, samples_and_words, words_end_adu
from ostcal.measure.frames.survey import BlockSurvey, SeriesSurvey, band_rows, merge_blocks, sampled_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.measure.live import SATURATED_FROM

logger = logging.getLogger(__name__)

_BYTES_PER_SAMPLE = 12
"""Memory of a block: the samples as they are stored, and pieces of them as floats."""


def _same_camera(a: GroupKey, b: GroupKey) -> bool:
    return (a.width, a.height) == (b.width, b.height) and not settings_differ(a.settings, b.settings)


@dataclass(frozen=True, kw_only=True)
class SurveyRequest:
    """A series to be surveyed."""

    stack: FrameStack
    common_level: bool
    """Whether frames are compared at one level, as flats are."""
    dark: int | None = None
    """Place among the requests of the bias or dark that shows the level of flats without light."""
    saturated_from_adu: float | None = None
    """``None`` is the end of the range that a sample can hold."""

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
    without_columns: NDArray[np.bool_] | None
    """Stuck and hot columns of the dark."""


def survey_frames(
    request: BuildRequest,
    execution: Execution,
    masters: Sequence[MasterPlan],
    *,
    ladders: Sequence[tuple[Group, FrameStack]] = (),
    saturated_from_adu: Mapping[int, float] | None = None,
    keep: bool = False,
) -> list[SeriesSurvey | None]:
    """Survey the frames of masters and of ladders, except those that were surveyed while the camera exposed.

    With `keep` the surveys are stored with the strips of the masters, for the next run.
    """
    series = [*((master.group, master.stack) for master in masters), *ladders]
    requests = survey_requests(series, saturated_from_adu or {})
    documents = request.store.kept_surveys() if not saturated_from_adu else []
    keys = [""] * len(masters)  # empty where a frame of the survey or of its dark is no longer there
    if documents or keep:
        for index in sorted(range(len(masters)), key=lambda index: requests[index].dark is not None):  # darks first
            one = requests[index]
            dark_key = "none" if one.dark is None else keys[one.dark] if one.dark < len(keys) else ""
            keys[index] = (
                masters[index].key.survey(one.stack, dark_key, common_level=one.common_level) if dark_key else ""
            )
    kept = {index: _kept_survey(documents, key) for index, key in enumerate(keys)}
    known = {index: survey for index, survey in kept.items() if survey is not None}
    if documents or keep:
        logger.debug("%d of %d surveys were made ahead", len(known), len(keys))
    surveys = survey_all(requests, execution, request.memory_limit_bytes, known)
    for master, key, survey in zip(masters, keys, surveys, strict=False):
        if not keep or not key or survey is None:
            continue
        document: dict[str, Any] = {"key": key}
        for field in fields(survey):  # to the last bit: arrays are stored as bytes in base 64
            array = np.asarray(getattr(survey, field.name))
            data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
            document[field.name] = {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}
        request.store.writer(master.combined_name).keep_survey(document)
    return surveys


def survey_requests(
    series: Sequence[tuple[Group, FrameStack]], saturated_from_adu: Mapping[int, float] = MappingProxyType({})
) -> list[SurveyRequest]:
    """Ask for a survey of groups: of flats with the bias or dark of their camera that is nearest in exposure.

    `saturated_from_adu` is the level from which on samples are saturated, by place; by default the end of the range.
    """
    requests = []
    for place, (group, stack) in enumerate(series):
        key = group.key
        is_flat = key.frame_type is FrameType.FLAT
        fitting = [
            (other.ladder, abs(other.key.exposure_time_s - key.exposure_time_s), index)
            for index, (other, _) in enumerate(series)
            if other.key.frame_type is not FrameType.FLAT and _same_camera(other.key, key)
        ]
        has_dark = is_flat and not (key.dark_subtracted or key.bias_subtracted) and bool(fitting)
        requests.append(
            SurveyRequest(
                stack=stack,
                common_level=is_flat,
                dark=min(fitting)[-1] if has_dark else None,
                saturated_from_adu=saturated_from_adu.get(place),
            )
        )
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
                _Part(
                    series=place,
                    request=request,
                    start=at,
                    stop=min(at + most, stop),
                    pedestal_adu=pedestal_adu,
                    without_columns=dark.bad_columns if dark is not None else None,
                )
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
            surveys[place] = _joined(of_series, requests[place].stack) if place not in unread else None
    return surveys


def _joined(blocks: Sequence[BlockSurvey], stack: FrameStack) -> SeriesSurvey | None:
    """Merge the blocks of a series, and add what its overscan says; ``None`` where that cannot be read."""
    try:
        overscan = overscan_facts(stack)
    except FrameError as error:
        logger.debug("no survey: %s", error)
        return None
    survey = merge_blocks(blocks)
    return replace(
        survey,
        histogram_start_adu=survey.histogram_start_adu - overscan.level_adu,
        overscan_adu=overscan.level_adu,
        overscan_variance_adu2=overscan.variance_adu2,
        overscan_added_adu2=overscan.added_variance_adu2,
    )


def _survey_part(part: _Part) -> BlockSurvey:
    stack = part.request.stack
    _, height, width = stack.shape
    samples, words = samples_and_words(stack, part.start, part.stop)
    full_scale_adu = words_end_adu(stack)
    end_adu = math.inf if full_scale_adu is None else SATURATED_FROM * full_scale_adu
    from_adu = part.request.saturated_from_adu
    return survey_block(
        samples,
        part.start,
        (height, width),
        saturation_adu=end_adu if from_adu is None else from_adu,
        scale_to_common=part.request.common_level,
        pedestal_adu=part.pedestal_adu,
        without_columns=part.without_columns,
        words=None if words is samples else words,
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
