"""The survey of all groups before they are combined: sampled rows of all frames, read once."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ostcal.engine.driver import Failure, run_tasks
from ostcal.engine.execution import Execution
from ostcal.engine.tiling import workers_for
from ostcal.frames import FrameStack, FrameType, SampleEncoding
from ostcal.inputs.grouping import Group, settings_differ
from ostcal.measure.frames.merge_survey import merge_blocks
from ostcal.measure.frames.survey import BlockSurvey, SeriesSurvey, band_rows, sampled_blocks
from ostcal.measure.frames.survey_block import survey_block
from ostcal.measure.live import SATURATED_FROM

logger = logging.getLogger(__name__)

FULL_SCALE_ADU = 65535
"""Of 16-bit samples; what cameras of fewer bits can hold is not in their headers."""

_BYTES_PER_SAMPLE = 12
"""Memory of a block: the samples as they are stored, and pieces of them as floats."""


@dataclass(frozen=True, kw_only=True)
class SurveyRequest:
    """A series to be surveyed."""

    stack: FrameStack
    common_level: bool
    """Whether frames are compared at one level, as flats are."""
    dark: int | None = None
    """Place among the requests of the bias or dark that shows the level of flats without light."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows of one series; small and picklable."""

    series: int
    request: SurveyRequest
    start: int
    stop: int
    pedestal_adu: float


def survey_requests(series: Sequence[tuple[Group, FrameStack]]) -> list[SurveyRequest]:
    """Ask for a survey of groups: of flats with the bias or dark of their camera that is nearest in exposure."""
    keys = [group.key for group, _ in series]
    requests = []
    for key, (_, stack) in zip(keys, series, strict=True):
        is_flat = key.frame_type is FrameType.FLAT
        fitting = [
            (abs(other.exposure_time_s - key.exposure_time_s), index)
            for index, other in enumerate(keys)
            if other.frame_type is not FrameType.FLAT
            and (other.width, other.height) == (key.width, key.height)
            and not settings_differ(other.settings, key.settings)
        ]
        has_dark = is_flat and not (key.dark_subtracted or key.bias_subtracted) and bool(fitting)
        requests.append(SurveyRequest(stack=stack, common_level=is_flat, dark=min(fitting)[1] if has_dark else None))
    return requests


def full_scale_adu(encoding: SampleEncoding) -> float | None:
    """Return the highest value that a sample can hold; ``None`` for floats."""
    return float(encoding.zero_adu + FULL_SCALE_ADU) if encoding.is_integer else None


def survey_all(
    requests: Sequence[SurveyRequest],
    execution: Execution,
    memory_limit_bytes: int,
    known: Mapping[int, SeriesSurvey] | None = None,
) -> list[SeriesSurvey | None]:
    """Survey series, all at once; ``None`` for one that cannot be read, which combining will name.

    Parameters
    ----------
    requests : sequence of SurveyRequest
    execution : Execution
    memory_limit_bytes : int
        For all workers together; of each worker where there is a cluster.
    known : mapping of int to SeriesSurvey, optional
        Surveys of an earlier run, by place among the requests.
    """
    known = known or {}
    if not execution.is_remote:  # a second of numpy is not worth starting processes for
        execution = replace(execution, scheduler="threads")
    least = max((_band_bytes(request.stack) for request in requests), default=0)
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
            most = max(1, budget // _band_bytes(request.stack)) * band_rows(height, width)
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


def _band_bytes(stack: FrameStack) -> int:
    n, height, width = stack.shape
    return n * width * band_rows(height, width) * _BYTES_PER_SAMPLE


def _survey_part(part: _Part) -> BlockSurvey:
    stack = part.request.stack
    n, height, width = stack.shape
    block = np.empty((n, part.stop - part.start, width), stack.encoding.dtype)
    stack.read_rows(part.start, part.stop, block)
    samples, zero_adu = stack.encoding.plain(block, in_place=True)
    if zero_adu:
        samples = samples.astype(np.int32) + np.int32(zero_adu)
    full_scale = full_scale_adu(stack.encoding)
    return survey_block(
        samples,
        part.start,
        (height, width),
        saturation_adu=math.inf if full_scale is None else SATURATED_FROM * full_scale,
        scale_to_common=part.request.common_level,
        pedestal_adu=part.pedestal_adu,
    )
